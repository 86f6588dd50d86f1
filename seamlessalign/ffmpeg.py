"""Recordings that only ffmpeg reads (m4a, mp4, mkv, webm, wma, amr, …), where it is installed: never a part of this
process, with limits of time, memory and what it may open or write, and killed with all its children when it is over,
on Linux also when this process is killed meanwhile.
"""

import contextlib
import fcntl
import os
import re
import resource
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from seamlessalign.containers import named
from seamlessalign.errors import UnreadableError
from seamlessalign.processor_time import charge_child

PROGRAM = "ffmpeg"
MEMORY_BYTES = 2 << 30  # of address space
_WRITTEN_BYTES = 1 << 20  # of messages; nothing else is written to files
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "LANG", "LC_ALL")  # no secrets for who decodes what others made
_AU_FLOAT = 6  # encoding of 32 bit IEEE floats in an AU header
_MOST_CHANNELS = 64
_READ_BYTES = 1 << 16


class FfmpegReader:
    """The first audio stream of a file, decoded by a running ffmpeg."""

    def __init__(self, process: "subprocess.Popen[bytes]", messages: IO[bytes], path: Path, timeout: float) -> None:
        """Read the header that ffmpeg writes. Raises UnreadableError."""
        assert process.stdout is not None
        self._process, self._messages, self._path = process, messages, path
        self._output = process.stdout.fileno()
        self._patience = timeout  # seconds that are left to wait
        self._timeout = timeout
        self._rest = b""
        self._frames = 0
        header = self._read(24)
        if len(header) < 24:
            raise self._failure("not_audio")
        magic, offset, _, encoding, self.sample_rate, self.channels = struct.unpack(">4s5I", header)
        if magic != b".snd" or encoding != _AU_FLOAT or not 0 < self.channels <= _MOST_CHANNELS:
            raise UnreadableError("not_audio", f"{named(path)}: ffmpeg makes no samples of it")
        self._read(offset - 24)

    def read(self, frames: int) -> NDArray[np.float32]:
        """Up to `frames` samples of all channels: (num_samples, channels); none at the end. Raises UnreadableError."""
        width = 4 * self.channels
        data = self._rest + self._read(frames * width - len(self._rest))
        whole = len(data) // width * width
        self._rest = data[whole:]
        if not whole:
            if _ended(self._process) != 0 or self._rest:
                raise self._failure("truncated")
            said = self._said()
            if re.search(r"prematurely|partial file|truncat|end of file", said):  # which it takes for success
                raise UnreadableError("truncated", f"{named(self._path)} stops after {self._frames} samples: {said}")
        samples = np.frombuffer(data[:whole], ">f4").astype(np.float32).reshape(-1, self.channels)
        self._frames += len(samples)
        return samples

    def _read(self, size: int) -> bytes:
        """So many bytes, or fewer at the end."""
        parts, missing = [], size
        while missing > 0:
            begun = time.monotonic()
            ready = select.select([self._output], [], [], max(self._patience, 0))[0]
            self._patience -= time.monotonic() - begun
            if not ready:
                raise UnreadableError(
                    "timeout", f"{named(self._path)}: ffmpeg was not done with it within {self._timeout:g} s"
                )
            part = os.read(self._output, min(missing, _READ_BYTES))
            if not part:
                break
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _failure(self, reason: str) -> UnreadableError:
        status = _ended(self._process)
        if status == -signal.SIGXCPU:
            detail = f"ffmpeg was not done with it within {self._timeout:g} s"
            return UnreadableError("timeout", f"{named(self._path)}: {detail}")
        said = self._said() or (f"signal {-status}" if status < 0 else f"exit status {status}")
        after = f" after {self._frames} samples" if self._frames else ""
        return UnreadableError(reason, f"{named(self._path)}: ffmpeg stops{after}: {said}")

    def _said(self) -> str:
        """The last line that ffmpeg wrote, without the address of who says it."""
        self._messages.seek(0)
        lines = self._messages.read(_WRITTEN_BYTES).decode("utf-8", "replace").split("\n")
        told = [" ".join(line.split()) for line in lines if line.strip()]
        return told[-1].rpartition("] ")[2][:200] if told else ""


def _ended(process: "subprocess.Popen[bytes]") -> int:
    """Wait for a process; returns its exit status. Its processor time counts as this thread's."""
    if process.returncode is None:
        charge_child(process.pid)
    return process.wait()


@contextmanager
def ffmpeg_reader(descriptor: int, demuxer: str, path: Path, timeout: float) -> Iterator[FfmpegReader]:
    """ffmpeg at work on an open file, which it may wait or compute for so many seconds.

    Raises UnreadableError: `needs_ffmpeg` where it is not installed, `timeout`, `truncated` or `not_audio`.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        detail = f"{named(path)} is {demuxer}, which only ffmpeg decodes: install it (apt install ffmpeg)"
        raise UnreadableError("needs_ffmpeg", detail)
    command = [program, "-nostdin", "-v", "error", "-xerror", "-threads", "1", "-protocol_whitelist", "file"]
    if demuxer == "mov":  # the one of these that could name other files to be read; both are ffmpeg's defaults today
        command += ["-enable_drefs", "0", "-use_absolute_path", "0"]
    command += ["-f", demuxer, "-i", f"file:/dev/fd/{descriptor}", "-map", "0:a:0", "-vn", "-sn", "-dn"]
    command += ["-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
    with tempfile.TemporaryFile() as messages, _lifeline() as lifeline:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=messages,
                pass_fds=[descriptor, lifeline],
                start_new_session=True,
                cwd="/",
                env={name: value for name, value in os.environ.items() if name in _ENVIRONMENT},
            )
        except OSError as error:
            detail = f"{named(path)}: {program} cannot be started: {error.strerror or error}"
            raise UnreadableError("needs_ffmpeg", detail) from error
        try:
            _tie(process.pid, lifeline)
            _limit(process.pid, timeout)
            yield FfmpegReader(process, messages, path, timeout)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            assert process.stdout is not None
            process.stdout.close()
            _ended(process)


@contextmanager
def _lifeline() -> Iterator[int]:
    """The end of a pipe that a child holds; nobody but this process has the other end, and nothing is ever written."""
    end, other = os.pipe()
    try:
        yield end
    finally:
        os.close(end)
        os.close(other)


def _tie(group: int, lifeline: int) -> None:
    """Let the kernel kill a process group as soon as this process is gone, in whatever way; on Linux only.

    The end of a process closes its end of the pipe, and that is an event which the kernel tells the owner of the other
    end by a signal: here by SIGKILL. Unlike PR_SET_PDEATHSIG this does not depend on the thread that started the
    child, reaches the child's children, and nothing has to run between fork and exec. What stays open is a process
    that is killed within the millisecond in which its child is starting.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # it has ended already
            fcntl.fcntl(lifeline, fcntl.F_SETOWN, -group)
            fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
            fcntl.fcntl(lifeline, fcntl.F_SETFL, os.O_ASYNC)


def _limit(pid: int, timeout: float) -> None:
    """Limits of a process that has just begun and of all that it starts."""
    seconds = max(1, int(timeout) + 1)
    limits = (
        (resource.RLIMIT_CPU, seconds, seconds + 5),
        (resource.RLIMIT_AS, MEMORY_BYTES, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, _WRITTEN_BYTES, _WRITTEN_BYTES),
        (resource.RLIMIT_CORE, 0, 0),
    )
    for kind, soft, hard in limits:
        with contextlib.suppress(OSError, ValueError):  # it has ended already, or its limit is lower
            resource.prlimit(pid, kind, (soft, hard))
