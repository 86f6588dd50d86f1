"""The sounds that the page has offered to its browser, and the two addresses of each: how it looks and how it sounds.

A browser asks for a clip by a number that the page drew at random, so that nothing in an address is ever taken for a
file's name: what the page did not show cannot be asked for. Sound is decoded when it is asked for, in a thread, so that
no page waits for it.
"""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

import numpy as np

from seamlessalign.pipelines.curation.listening import Heard, NotHeard
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.secrets import redact

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

PREFIX = "/clip"
_OFFERED = 20_000  # clips that are remembered, the last ones offered
_PEAKS = 240  # bars of a waveform


class ClipBook:
    """What may be asked for. `hear`: from what a clip is known by to what is heard."""

    def __init__(self, hear: Callable[[Any], Heard | NotHeard | None]) -> None:
        self._hear = hear
        self._lock = threading.Lock()
        self._names: dict[Hashable, str] = {}
        self._clips: OrderedDict[str, Hashable] = OrderedDict()

    def offer(self, clip: Hashable) -> str:
        """The address at which a clip may be asked for from now on; the same one for the same clip."""
        with self._lock:
            name = self._names.setdefault(clip, secrets.token_urlsafe(12))
            self._clips[name] = clip
            self._clips.move_to_end(name)
            if len(self._clips) > _OFFERED:
                _, oldest = self._clips.popitem(last=False)
                del self._names[oldest]
        return f"{PREFIX}/{name}"

    def heard(self, name: str) -> Heard | NotHeard | None:
        """What is heard of a clip; None where no such clip was offered."""
        with self._lock:
            clip = self._clips.get(name)
        return None if clip is None else self._hear(clip)

    def routes(self) -> "list[Route]":
        """The addresses for Starlette."""
        from starlette.routing import Route

        return [
            Route(f"{PREFIX}/{{name}}/waveform", self._answering(_waveform), methods=["GET"]),
            Route(f"{PREFIX}/{{name}}/audio", self._answering(_audio), methods=["GET"]),
        ]

    def _answering(self, form: "Callable[[Heard], Response]") -> "Callable[[Request], Response]":
        from starlette.responses import PlainTextResponse

        def answer(request: "Request") -> "Response":  # not async: Starlette runs it in a thread
            heard = self.heard(request.path_params["name"])
            if heard is None:
                return PlainTextResponse("this page is too old: load it again", 404)
            if isinstance(heard, NotHeard):
                return PlainTextResponse(redact(heard.reason), 502)
            answered = form(heard)
            answered.headers["cache-control"] = "private, max-age=600"
            return answered

        return answer


def _waveform(heard: Heard) -> "Response":
    from starlette.responses import JSONResponse

    drawn = heard.peaks(min(_PEAKS, max(len(heard.samples), 1)))
    loudest = max(float(np.abs(drawn).max()), 1e-3)  # what is all but silent stays low
    return JSONResponse(
        {
            "start": heard.first / SAMPLE_RATE,
            "end": heard.last / SAMPLE_RATE,
            "seconds": len(heard.samples) / SAMPLE_RATE,
            "note": redact(heard.note),
            "peaks": [[round(float(low) / loudest, 4), round(float(high) / loudest, 4)] for low, high in drawn],
        }
    )


def _audio(heard: Heard) -> "Response":
    from starlette.responses import Response

    return Response(heard.flac(with_context=True), media_type="audio/flac")
