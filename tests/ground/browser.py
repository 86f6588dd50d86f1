"""A headless Chromium for tests of pages, spoken to over its DevTools protocol."""

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """A headless Chromium spoken to over its DevTools protocol."""

    def __init__(self, address: str) -> None:
        import websocket

        with urllib.request.urlopen(f"{address}/json/list", timeout=20) as answer:
            target = next(item for item in json.load(answer) if item["type"] == "page")
        self.socket = websocket.create_connection(
            target["webSocketDebuggerUrl"], timeout=30, suppress_origin=True, http_no_proxy=["127.0.0.1"]
        )
        self.number = 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == self.number:
                assert "error" not in message, message
                return dict(message["result"])
            self.events.append(message)

    def evaluate(self, expression: str) -> Any:
        result = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def open(self, file: Path, width: int | None = None) -> None:
        """Go to a page, wait until all of it is there, and be told what it complains of and asks for meanwhile.

        width: of a telephone's screen, in pixels.
        """
        for domain in ("Log", "Runtime", "Network", "Page"):
            self.call(f"{domain}.enable")
        if width is not None:
            self.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=True)
        self.call("Page.navigate", url=file.as_uri())
        self.evaluate(
            "new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', () => done()))"
        )

    def outside_of_charts(self) -> list[str]:
        """Parts of pictures that are not inside them, as HTML."""
        found: list[str] = self.evaluate(
            """[...document.querySelectorAll('svg')].flatMap(svg => {
                 const box = svg.viewBox.baseVal;
                 return [...svg.querySelectorAll('text, circle, polygon, path, line')].filter(part => {
                   const b = part.getBBox();
                   return b.x < -1 || b.y < -1 || b.x + b.width > box.width + 1 || b.y + b.height > box.height + 1;
                 }).map(part => part.outerHTML);
               })"""
        )
        return found

    def complaints(self) -> list[dict[str, Any]]:
        """Errors and warnings of the page so far."""
        return [
            event
            for event in self.events
            if event["method"] == "Runtime.exceptionThrown"
            or (event["method"] == "Runtime.consoleAPICalled" and event["params"]["type"] in ("error", "warning"))
            or (event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] in ("error", "warning"))
        ]

    def asked_of_others(self) -> list[str]:
        """Addresses beyond this machine's files that the page asked for."""
        asked = [one["params"]["request"]["url"] for one in self.events if one["method"] == "Network.requestWillBeSent"]
        return [url[:80] for url in asked if not url.startswith(("file:", "data:"))]


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio",
        "--disable-dev-shm-usage", "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank",
    ]  # fmt: skip
    with (profile.parent / "chromium.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            marker = profile / "DevToolsActivePort"
            deadline = time.monotonic() + 40
            while not (marker.exists() and marker.read_text().count("\n")):
                assert process.poll() is None, (profile.parent / "chromium.log").read_text()
                assert time.monotonic() < deadline, "chromium did not open its DevTools port"
                time.sleep(0.05)
            yield Browser(f"http://127.0.0.1:{marker.read_text().splitlines()[0]}")
        finally:
            process.terminate()
            process.wait(timeout=20)
