"""Exports that were started from the page: `seamlessalign export` as processes of their own, and what they say.

An export goes on where its page is closed, and ends with the server. It writes below the run's folder, in
`exports/NAME-FORMAT`, so that no page can name a folder to be written to.
"""

import shlex
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from seamlessalign import storage
from seamlessalign.errors import InputError
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.secrets import redact

_LINES = 200  # that are remembered of what an export says
_END_SECONDS = 10.0  # that it has to end by itself


class ExportJob:
    """A child process that exports. Its output is read as it comes."""

    def __init__(self, arguments: Sequence[str], target: str) -> None:
        self.target = target
        self.lines: deque[str] = deque(maxlen=_LINES)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "seamlessalign", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C at the terminal is for the server, which ends its exports itself
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs, or while what it said is not all read."""
        return None if self._reader.is_alive() else self._process.wait()

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._reader.join(_END_SECONDS)

    def _read(self) -> None:
        stream = self._process.stdout
        if stream is not None:
            with stream:
                for line in stream:
                    for part in line.rstrip("\n").split("\r")[-1:]:  # of a line that was written over, its last state
                        self.lines.append(redact(part))
        self._process.wait()


class ExportJobs:
    """The exports of a server: one at a time."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._last: ExportJob | None = None

    @property
    def last(self) -> ExportJob | None:
        """The export that runs or was the last to."""
        return self._last

    def start(self, selection: str, format_name: str) -> ExportJob:
        """Export a kept selection. Raises InputError while another runs, or where no process can be started."""
        with self._lock:
            if self._last is not None and self._last.status is None:
                raise InputError("an export is running: wait until it ends, or stop it")
            target = self.free_target(selection, format_name)
            try:
                self._last = ExportJob(export_arguments(self._root, selection, format_name, target), target)
            except OSError as error:
                raise InputError(f"the export cannot be started: {error.strerror or error}") from error
            return self._last

    def stop(self) -> None:
        """End what runs."""
        if self._last is not None:
            with suppress(ProcessLookupError):
                self._last.stop()

    def free_target(self, selection: str, format_name: str) -> str:
        """Where the page would export a selection to: a folder of its name, with a number where that is taken."""
        first = storage.join(RunFolder(self._root).exports, f"{selection}-{format_name}")
        names = (first if number == 1 else f"{first}-{number}" for number in range(1, 1000))
        for target in names:
            if not storage.list_files(target):
                return target
        raise InputError(f"{first}: has a thousand neighbours; remove some")


def export_arguments(root: str, selection: str, format_name: str, target: str) -> list[str]:
    """The command that exports a selection, without the program's name."""
    return ["export", root, "--selection", selection, "--format", format_name, "--to", target]


def export_command(root: str, selection: str, format_name: str, target: str) -> str:
    """The command as it is typed at a shell."""
    return shlex.join(["seamlessalign", *export_arguments(root, selection, format_name, target)])
