"""Serves the curation page of a run on 127.0.0.1 until Ctrl-C or SIGTERM."""

import contextlib
import errno
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from seamlessalign.errors import ConfigError, MissingPackageError
from seamlessalign.pipelines.curation.page_guard import KEY_NAME, PageGuard

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from seamlessalign.pipelines.curation.served import Served

ADDRESS = "127.0.0.1"
_SCRIPT = Path(__file__).parent / "script" / "curate_page.py"
_OPTIONS = {
    "global.developmentMode": False,
    "browser.gatherUsageStats": False,  # asks nothing of other hosts
    "browser.serverAddress": ADDRESS,
    "server.address": ADDRESS,
    "server.headless": True,
    "server.enableCORS": True,  # which is: refuse other origins
    "server.enableXsrfProtection": True,
    "server.xsrfCookieSameSite": "strict",
    "server.allowedHosts": ["127.0.0.1", "localhost", "::1"],
    "server.corsAllowedOrigins": [],
    "server.enableStaticServing": False,
    "server.enableAgentApi": False,
    "server.fileWatcherType": "none",
    "server.runOnSave": False,
    "server.maxUploadSize": 1,
    "server.disconnectedSessionTTL": 60,
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "type",
    "client.showErrorLinks": False,
    "client.showSidebarNavigation": False,
    "runner.magicEnabled": False,
    "logger.level": "error",
    "theme.light.primaryColor": "#0072b2",  # of Okabe and Ito's colours, which everybody can tell apart
    "theme.dark.primaryColor": "#1a7fc0",
}


def serve(
    root: str,
    *,
    port: int = 8501,
    read_only: bool = False,
    open_browser: bool = True,
    say: Callable[[str], None] = print,
) -> int:
    """Serve the page of the run in folder `root` until the process is told to stop; returns 0.

    port: 0 takes a free one. Raises ConfigError where the port cannot be had, InputError where the folder is not a run
    or has no pairs, MissingPackageError without the extra `curate`.
    """
    _need_packages()
    import uvicorn

    from seamlessalign.pipelines.curation.preparing import Preparing
    from seamlessalign.pipelines.curation.served import Served, set_served

    served = Served(root, read_only=read_only)
    with contextlib.closing(served), _listen(port) as listening, contextlib.closing(Preparing(served)):
        port = listening.getsockname()[1]
        set_served(served)
        _load()
        key = secrets.token_urlsafe(16)
        guard = _application(served, key, port)
        address = f"http://{ADDRESS}:{port}/?{KEY_NAME}="

        def told() -> None:
            say(f"{root}{' (read only)' if read_only else ''}: {address}{key}")
            if open_browser and _has_screen():  # in a thread: some return when they end
                asked = address + guard.key_for_once()
                threading.Thread(target=webbrowser.open, args=(asked,), daemon=True).start()

        server = uvicorn.Server(
            uvicorn.Config(
                _once_started(guard, told),
                log_level="error",
                access_log=False,
                timeout_graceful_shutdown=1,
                ws_max_size=2**24,
            )
        )
        # the server ends at either signal, gives back the handler that was there, and raises the signal again
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listening])
        served.interrupt()
    return 0


def _has_screen() -> bool:
    """Whether a browser has where to show a page: one in the terminal would only be in the way."""
    return sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))


def _application(served: "Served", key: str, port: int) -> PageGuard:
    from streamlit import config
    from streamlit.starlette import App

    config.get_config_options(force_reparse=True, options_from_flags=_OPTIONS | {"server.port": port})
    logging.getLogger("streamlit").setLevel(logging.ERROR)
    return PageGuard(App(_SCRIPT, routes=served.clips.routes()), key, port)


def _once_started(app: "ASGIApp", told: Callable[[], None]) -> "ASGIApp":
    """An application that tells when it has started: who opens its page before would wait for that."""

    async def application(scope: "Scope", receive: "Receive", send: "Send") -> None:
        async def sending(message: "Message") -> None:
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                told()

        await app(scope, receive, sending if scope["type"] == "lifespan" else send)

    return application


def _load() -> None:
    """Load what every page needs, so that the first page need not wait."""
    import importlib
    import inspect

    from seamlessalign.pipelines.curation.margin_chart import prepare_pictures

    importlib.import_module("seamlessalign.pipelines.curation.page")
    prepare_pictures()
    inspect.stack()  # Streamlit looks at it for its first element, and what that reads is remembered


def _need_packages() -> None:
    from importlib.util import find_spec

    for package in ("streamlit", "duckdb", "altair", "pandas", "uvicorn"):
        if find_spec(package) is None:
            raise MissingPackageError(package, "curate", "the curation page")


def _listen(port: int) -> socket.socket:
    try:
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((ADDRESS, port))
        listening.listen(128)
    except OverflowError:
        raise ConfigError(f"--port {port}: a port is a number from 0 to 65535") from None
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"port {port} of {ADDRESS} is taken: give another with --port, or 0 for any") from None
        raise ConfigError(f"port {port} of {ADDRESS} cannot be had: {error.strerror}") from None
    return listening
