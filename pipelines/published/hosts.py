"""How often and by how many at a time a host is asked, by all processes of a rebuilding together.

What they have in common is files in one folder, locked while they are looked at (flock, which the kernel lets go of
when a process is killed): for each host one that holds the time of the next turn, and one for each connection. On the
disk that the tasks of a job array share this holds between machines too, if that disk knows locks (NFS, Lustre with
`flock`, GPFS); by the clocks of the machines, which should agree. With the folder in an object store each machine keeps
the limits for itself.
"""

import logging
import os
import random
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import xxhash

from seamlessalign import local_files, storage
from seamlessalign.errors import StorageError
from seamlessalign.web_access import PORTS

log = logging.getLogger(__name__)

_TURN = struct.Struct("<dd")  # the time of the next turn; that before which nobody may ask
_LOOK_SECONDS = (0.02, 0.2)  # between looks for a free connection
_LONGEST_TURN = 60.0  # seconds between two turns at most: a server's wish for more is not heeded


def host_of(url: str) -> str:
    """Scheme, host and port of an address, as one name."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    return f"{scheme}://{(parts.hostname or '').lower()}:{parts.port or PORTS.get(scheme, 0)}"


def shared_folder(root: str) -> Path:
    """The folder that processes of a rebuilding share, where its locks hold; else one of this machine alone."""
    if storage.is_local(root):
        folder = storage.local_path(root).absolute() / "state" / "hosts"
        if _knows_locks(folder):
            return folder
        log.warning("%s: its disk knows no locks: each machine keeps the limits of hosts for itself", root)
    folder = Path(tempfile.gettempdir()) / f"seamlessalign-hosts-{os.getuid()}-{file_name_of(root)}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


class Hosts:
    """The limits of all hosts."""

    def __init__(
        self, folder: Path, requests_per_second: float, connections: int, longest_hold: float = 86_400.0
    ) -> None:
        """`requests_per_second` and `connections` at a time: of one host.

        `longest_hold`: seconds for which it may ask to be left alone. What is further away than that, and turns further
        than all who are connected could take, come of a clock that was wrong, and nobody waits for them.
        """
        self._folder = folder
        self._interval = 1.0 / requests_per_second
        self._connections = connections
        self._longest = connections * max(self._interval, _LONGEST_TURN), longest_hold
        self._intervals: dict[str, float] = {}  # of hosts that asked for longer ones
        folder.mkdir(parents=True, exist_ok=True)

    def slow_down(self, host: str, interval: float) -> None:
        """Let so many seconds be between two requests to a host, if that is more than the limit says."""
        self._intervals[host] = max(self._interval, min(interval, _LONGEST_TURN))

    @contextmanager
    def connection(self, host: str) -> Iterator[None]:
        """Be one of those who are connected to a host, when there is room."""
        name = file_name_of(host)
        with ExitStack() as stack:
            while not any(self._takes(stack, f"{name}.{number}") for number in range(self._connections)):
                time.sleep(random.uniform(*_LOOK_SECONDS))
            yield

    def _takes(self, stack: ExitStack, place: str) -> bool:
        """Whether a place was free, which is held from now on."""
        try:
            stack.enter_context(local_files.locked(self._folder / place, waits=False))
        except BlockingIOError:
            return False
        return True

    def wait_turn(self, host: str) -> None:
        """Wait until a host may be asked once more."""
        interval = self._intervals.get(host, self._interval)
        while True:
            with self._turn(host) as (turn, held, put):
                now = time.time()
                mine = max(now, turn, held)
                put(mine + interval, held)
            time.sleep(max(0.0, mine - now))
            with self._turn(host) as (_, held, _):
                if held <= time.time():
                    return

    def hold_off(self, host: str, seconds: float) -> None:
        """Let nobody ask a host for so many seconds."""
        with self._turn(host) as (turn, held, put):
            put(turn, max(held, time.time() + seconds))

    @contextmanager
    def _turn(self, host: str) -> Iterator[tuple[float, float, "_Put"]]:
        with local_files.locked(self._folder / f"{file_name_of(host)}.turn") as file:
            data = os.pread(file, _TURN.size, 0)
            turn, held = _TURN.unpack(data) if len(data) == _TURN.size else (0.0, 0.0)
            last_turn, last_held = (time.time() + longest for longest in self._longest)
            yield (turn if turn <= last_turn else 0.0), (held if held <= last_held else 0.0), _Put(file)


class _Put:
    """Writes the times of an open file."""

    def __init__(self, file: int) -> None:
        self._file = file

    def __call__(self, turn: float, held: float) -> None:
        os.pwrite(self._file, _TURN.pack(turn, held), 0)


def _knows_locks(folder: Path) -> bool:
    try:
        with local_files.locked(folder / "lock"):
            pass
    except (OSError, StorageError):
        return False
    return True


def file_name_of(host: str) -> str:
    """A name for files about a host."""
    return xxhash.xxh3_64_hexdigest(host.encode("utf-8", "surrogatepass"))
