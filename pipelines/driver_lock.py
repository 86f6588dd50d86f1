"""One driver at a time in a run's folder.

In a local folder the kernel sees to it: a lock on a file goes with the process however it ends. In a store the driver
writes a lease and renews it; another driver is let in once it has watched the lease for two minutes and nothing renewed
it, by its own clock, so that clocks need not agree. It need not wait for a process of its own machine that is gone.
Whoever was stopped for so long that another took over ends with an error as soon as it looks at its lease again.
"""

import contextlib
import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from seamlessalign import local_files, remote_files, storage
from seamlessalign.errors import SeamlessAlignError, StorageError
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.retries import BRIEF, patience

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clockwork:
    """How often a lease is renewed, how long one watches another's, and how often one looks, all in seconds."""

    renew: float = 20.0
    watch: float = 120.0
    look: float = 2.0


CLOCKWORK = Clockwork()


@dataclass(frozen=True)
class Lease:
    """Who is at work in a folder: `machine` and `begun` tell one process from all others that ever were."""

    id: str
    host: str
    process: int
    since: str  # UTC
    machine: str
    begun: str
    renewals: int = 0

    @property
    def is_here(self) -> bool:
        """Whether its process is, or was, on this machine."""
        return self.machine == _machine() != ""

    @property
    def is_gone(self) -> bool:
        """Whether its process was on this machine and has ended."""
        if not self.is_here:
            return False
        begun = _begun(self.process)
        return not _is_there(self.process) if begun is None else begun != self.begun

    @property
    def is_at_work(self) -> bool:
        """Whether its process is on this machine and has not ended; this one does not count: it may have let go."""
        return self.is_here and not self.is_gone and self.process != os.getpid()

    def __str__(self) -> str:
        return f"on {self.host}, process {self.process}, since {self.since}"

    @property
    def data(self) -> bytes:
        """As it is stored."""
        return json.dumps(asdict(self)).encode()


def new_lease() -> Lease:
    """A lease for this process."""
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    process = os.getpid()
    return Lease(uuid4().hex, socket.gethostname(), process, since, _machine(), _begun(process) or "")


def read_lease(data: bytes) -> Lease | None:
    """The lease that was stored; None where it is none."""
    try:
        return Lease(**json.loads(data))
    except (ValueError, TypeError):
        return None


@contextlib.contextmanager
def only_driver(folder: RunFolder, clockwork: Clockwork = CLOCKWORK) -> Iterator[None]:
    """Hold a run's folder.

    Raises SeamlessAlignError, saying who is at work, where somebody else holds it, and when this driver finds that
    another has taken over.
    """
    with _file_lock(folder) if storage.is_local(folder.root) else _lease(folder, clockwork):
        yield


def is_driven(folder: RunFolder, process: int) -> bool:
    """Whether a driver, which said that it is this process, is at work in a folder.

    Of one on another machine a lease is all that is known, until another driver has watched it.
    """
    if storage.is_local(folder.root):
        return Path(f"/proc/{process}").exists()
    there = remote_files.read_tagged(folder.lease)
    lease = read_lease(there[0]) if there else None
    return there is not None and not (lease is not None and lease.is_gone)


@contextlib.contextmanager
def _file_lock(folder: RunFolder) -> Iterator[None]:
    path = storage.local_path(folder.lock)
    with contextlib.ExitStack() as stack:
        try:
            handle = stack.enter_context(local_files.locked(path, waits=False))
        except BlockingIOError:
            raise _refused(folder, read_lease(path.read_bytes())) from None
        with contextlib.suppress(OSError):  # it is held without a name too
            os.ftruncate(handle, 0)
            os.pwrite(handle, new_lease().data, 0)
        yield


@contextlib.contextmanager
def _lease(folder: RunFolder, clockwork: Clockwork) -> Iterator[None]:
    mine = new_lease()
    _take(folder, mine, clockwork)
    holder = _Holder(folder, mine, clockwork, _interrupter())
    try:
        try:
            yield
        finally:
            holder.release()
    except BaseException as error:
        if holder.lost is not None:  # whatever else went wrong, most likely for that
            raise holder.lost from error
        raise
    if holder.lost is not None:
        raise holder.lost


def _take(folder: RunFolder, mine: Lease, clockwork: Clockwork) -> None:
    """Write a lease into the folder when nobody else holds it."""
    uri = folder.lease
    seen: bytes | None = None
    since = 0.0
    while True:
        there = remote_files.read_tagged(uri)
        if there is None:
            if remote_files.write_if(uri, mine.data, None):
                return
            time.sleep(min(clockwork.look, 0.2))
            continue  # somebody was quicker
        data, tag = there
        holder, now = read_lease(data), time.monotonic()
        if seen is None:
            seen, since = data, now
            if holder is None or not holder.is_here:
                whom = f" ({holder})" if holder else ""
                told = f"{folder.root}: a run seems to be at work in this folder{whom}"
                log.warning("%s; watching for up to %.0f s whether it lives", told, clockwork.watch)
        if data != seen or (holder is not None and holder.is_at_work):
            raise _refused(folder, holder)
        if (holder is not None and holder.is_gone) or now - since >= clockwork.watch:
            if remote_files.write_if(uri, mine.data, tag):
                return
            continue
        time.sleep(min(clockwork.look, clockwork.watch))


class _Holder:
    """Renews a lease in a thread; where it is somebody else's, says so in `lost` and interrupts the driver."""

    def __init__(self, folder: RunFolder, lease: Lease, clockwork: Clockwork, interrupt: Callable[[], None]) -> None:
        self.lost: SeamlessAlignError | None = None
        self._folder, self._lease, self._clockwork = folder, lease, clockwork
        self._interrupt = interrupt
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Stop renewing, and let go of what is still ours."""
        self._over.set()
        self._thread.join()
        if self.lost is None:
            # a lease that cannot be removed now costs the next driver a wait
            with contextlib.suppress(SeamlessAlignError, OSError), patience(BRIEF):
                there = remote_files.read_tagged(self._folder.lease)
                if there is not None and self._is_mine(there[0]):
                    storage.remove(self._folder.lease)

    def _keep(self) -> None:
        while not self._over.wait(self._clockwork.renew):
            if self.lost is None:
                try:
                    with patience(BRIEF):
                        self._renew()
                except (StorageError, OSError):
                    continue  # no answer; the tasks will tell, and the lease is looked at again soon
            if self.lost is not None:
                self._interrupt()  # again, if it was not heard

    def _renew(self) -> None:
        there = remote_files.read_tagged(self._folder.lease)
        if there is not None and self._is_mine(there[0]):
            renewed = replace(self._lease, renewals=self._lease.renewals + 1)
            if remote_files.write_if(self._folder.lease, renewed.data, there[1]):
                self._lease = renewed
                return
            there = remote_files.read_tagged(self._folder.lease)
        other = read_lease(there[0]) if there else None
        if other is not None and other.id == self._lease.id:
            return  # it was renewed, though the answer was lost
        whom = f"a run {other}" if other else "somebody"
        self.lost = SeamlessAlignError(
            f"{self._folder.root}: {whom} has taken this folder over, since this one seemed to be dead; it stops here"
        )

    def _is_mine(self, data: bytes) -> bool:
        lease = read_lease(data)
        return lease is not None and lease.id == self._lease.id


def _refused(folder: RunFolder, holder: Lease | None) -> SeamlessAlignError:
    whom = f" ({holder})" if holder else ""
    return SeamlessAlignError(f"{folder.root}: another run is at work in this folder{whom}; wait for it")


def _interrupter() -> Callable[[], None]:
    """What raises KeyboardInterrupt in the present thread when another calls it."""
    thread = threading.get_ident()
    is_main = threading.current_thread() is threading.main_thread()

    def interrupt() -> None:
        if is_main and callable(signal.getsignal(signal.SIGINT)):
            signal.pthread_kill(thread, signal.SIGINT)  # which wakes it too
        else:
            import ctypes

            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt))

    return interrupt


def _machine() -> str:
    """What tells this machine, since it was started, and this space of process numbers from all others."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        return ""


def _begun(process: int) -> str | None:
    """When a process of this machine was started, in ticks; None for one that is not to be seen."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    state, *rest = stat.rpartition(")")[2].split()
    return "dead" if state in "ZX" else rest[18]


def _is_there(process: int) -> bool:
    """Whether there is such a process, of whomever."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
