"""How far a run is: a line in the terminal, and a file for `status`."""

import sys
import time
from typing import TextIO

from seamlessalign import storage
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.heartbeat import heartbeat_of
from seamlessalign.secrets import redact

_WIDTH = 24
_TERMINAL_SECONDS = 0.2
_LOG_SECONDS = 15.0  # between lines where nobody watches
_TELLING_SHARE, _TELLING_SECONDS = 0.05, 5.0  # done, or gone by, before the first of it tells of the rest
_FILE_SECONDS = (2.0, 10.0)  # between two files in a local folder, and in a remote one
_UNITS = {
    "speech": "h of audio",
    "text": "sentences",
    "decoys": "sentences",
    "reduce": "maps",
    "gather": "sides",
    "index": "indexes",
    "search": "pairs of rows",
    "mine": "directions",
    "corpus": "pairs",
    "units": "pairs",
    "transcripts": "pairs",
    "lines": "files of metadata",
    "share": "tables",
    "audio": "spans",
    "texts": "sentences",
    "assemble": "pairs",
    "export": "pairs",
}


class Progress:
    """The progress of one stage: speech in seconds of audio, the rest in rows; or, `in_shards`, in shards."""

    def __init__(
        self, folder: RunFolder, stage: str, total: float, out: TextIO = sys.stderr, *, in_shards: bool = False
    ) -> None:
        self.stage = stage
        self._in_hours = stage == "speech" and not in_shards
        self._unit = "shards" if in_shards else _UNITS[stage]
        self.total = total
        self.done = 0.0
        self._heart = heartbeat_of(folder)
        self._out = out
        self._begun = time.monotonic()
        self._shown = 0.0
        self._filed = 0.0
        self._between = _FILE_SECONDS[0 if storage.is_local(folder.root) else 1]
        self._is_terminal = out.isatty()
        self._file("running")

    def advance(self, amount: float) -> None:
        """Count more as done and show it, not too often."""
        self.done += amount
        now = time.monotonic()
        if now - self._shown >= (_TERMINAL_SECONDS if self._is_terminal else _LOG_SECONDS):
            self._shown = now
            self._show()
        if now - self._filed >= self._between:
            self._filed = now
            self._file("running")

    def finish(self) -> None:
        """Show the end of the stage."""
        if self.done:
            self._show()
        if self._is_terminal:
            self._out.write("\n")
        self._file("done")

    def fail(self, error: str) -> None:
        """Note why the stage stopped."""
        if self._is_terminal:
            self._out.write("\n")
        self._file("failed", redact(error))

    def stop(self) -> None:
        """Note that the stage was interrupted and can go on."""
        if self._is_terminal:
            self._out.write("\n")
        self._file("stopped")

    def line(self) -> str:
        """The stage, a bar, how much is done, how fast, and when it will be finished."""
        elapsed = max(time.monotonic() - self._begun, 1e-6)
        rate = self.done / elapsed
        share = min(self.done / self.total, 1.0) if self.total else 0.0
        scale = 3600.0 if self._in_hours else 1.0
        form = ".2f" if self._in_hours else ".0f"
        amount = f"{self.done / scale:{form}}" + (f"/{self.total / scale:{form}}" if self.total else "")
        speed = f"{rate / 3600:.4f} h/s ({rate:.1f} × real time)" if self._in_hours else f"{rate:.1f}/s"
        bar = f"[{'█' * round(share * _WIDTH):░<{_WIDTH}}] {share:4.0%}  " if self.total else ""
        can_tell = share >= _TELLING_SHARE or elapsed >= _TELLING_SECONDS
        eta = f"  {clock((self.total - self.done) / rate)} left" if self.total > self.done and rate and can_tell else ""
        return f"{self.stage:<7} {bar}{amount} {self._unit}  {speed}{eta}"

    def _show(self) -> None:
        self._out.write(f"\r\x1b[K{self.line()}" if self._is_terminal else f"{self.line()}\n")
        self._out.flush()

    def _file(self, state: str, error: str | None = None) -> None:
        elapsed = max(time.monotonic() - self._begun, 1e-6)
        self._heart.say(
            stage=self.stage, state=state, done=self.done, total=self.total, per_second=self.done / elapsed, error=error
        )


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
