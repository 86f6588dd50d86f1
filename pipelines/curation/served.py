"""The run that this process serves: opened once, for all its pages."""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar, cast

from seamlessalign import storage
from seamlessalign.errors import ConfigError, InputError, SeamlessAlignError
from seamlessalign.pipelines.curation.clip_routes import ClipBook
from seamlessalign.pipelines.curation.direction_view import DirectionView
from seamlessalign.pipelines.curation.export_jobs import ExportJobs
from seamlessalign.pipelines.curation.labels import Labelled, Labels
from seamlessalign.pipelines.curation.listening import Heard, Listening, NotHeard, Side
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.run_tables import RunTables
from seamlessalign.pipelines.status import unfinished

T = TypeVar("T")
_RECENT = 300
_END_SECONDS = 3.0  # that questions to the tables have to end in
_SPAN = ("uri", "start", "end")


class Served:
    """A run's tables, labels, sounds and exports. Safe to be shared by threads.

    Raises InputError where the folder is not a run or has no pairs, StorageError where a table is damaged.
    """

    def __init__(self, root: str, *, read_only: bool = False) -> None:
        self.root = str(storage.local_path(root).absolute()) if storage.is_local(root) else root
        self.read_only = read_only
        self.tables = RunTables(self.root)
        if not self.tables.parts.get("pairs"):
            raise InputError(f"{root}: has no pairs to look at; is the run finished?")
        self.unfinished = ""  # the state of a run that is not done
        with contextlib.suppress(SeamlessAlignError):  # nothing that can be looked at is refused for that
            self.unfinished = unfinished(RunFolder(self.root))
        self.name = self.root.rstrip("/").rsplit("/", 1)[-1]
        self.listening = Listening(self.tables)
        self.labels = Labels(self.root)
        self.clips = ClipBook(self._hear)
        self.exports = ExportJobs(self.root)
        self._lock = threading.Lock()
        self._views: dict[str, DirectionView] = {}
        self._recent: OrderedDict[Hashable, Any] = OrderedDict()
        self._found: OrderedDict[Hashable, Any] = OrderedDict()
        self._finding: dict[Hashable, threading.Lock] = {}
        self._labelled: tuple[Any, dict[str, Labelled]] = (None, {})

    @property
    def directions(self) -> list[str]:
        """Those that have pairs, sorted."""
        return sorted(self.tables.parts["pairs"])

    def view(self, direction: str) -> DirectionView:
        """The pairs of a direction, with what is said of them by now."""
        with self._lock:
            if direction not in self._views:
                self._views[direction] = DirectionView(self.tables, direction)
            view = self._views[direction]
        view.show_labels(self.labelled())
        return view

    def labelled(self) -> dict[str, Labelled]:
        """What was said of each pair, by `DIRECTION pair_id`; read again when the file has changed."""
        version = self._version()
        with self._lock:
            if version is None or self._labelled[0] != version:
                self._labelled = version, self.labels.labelled()
            return self._labelled[1]

    def clip(self, pair: Mapping[str, Any], side: Side) -> str:
        """The address at which a side of speech of a pair can be heard from now on."""
        told = tuple((name, pair[name]) for name in ("direction", "pair_id", *(f"{side}_{one}" for one in _SPAN)))
        return self.clips.offer((side, told))

    def _hear(self, clip: tuple[Side, tuple[tuple[str, Any], ...]]) -> Heard | NotHeard | None:
        side, told = clip
        return self.listening.heard(dict(told), side)

    def remembered(self, key: Hashable, find: Callable[[], T]) -> T:
        """What was found for a key, once: of tables that do not change while they are served."""
        return self._once(self._found, key, find, None)

    def recently(self, key: Hashable, find: Callable[[], T]) -> T:
        """The same, of what is looked at now; what was not for long is forgotten."""
        return self._once(self._recent, key, find, _RECENT)

    def _once(self, found: OrderedDict[Hashable, Any], key: Hashable, find: Callable[[], T], most: int | None) -> T:
        with self._lock:
            finding = self._finding.setdefault(key, threading.Lock())
        with finding:  # pages that want the same wait for one of them
            with self._lock:
                if key in found:
                    found.move_to_end(key)
                    return cast(T, found[key])
            answer = find()
            with self._lock:
                found[key] = answer
                self._finding.pop(key, None)
                while most is not None and len(found) > most:
                    found.popitem(last=False)
        return answer

    def interrupt(self) -> None:
        """End what pages ask of the tables, and let them ask no more."""
        self.tables.interrupt(_END_SECONDS)

    def close(self) -> None:
        """End what runs and let go of the files; where a page still asks for something, they go with the process."""
        import duckdb

        self.interrupt()
        self.exports.stop()
        with contextlib.suppress(duckdb.Error):
            self.tables.close()

    def _version(self) -> Any:
        if not storage.is_local(self.labels.uri):
            return None
        try:
            stat = storage.local_path(self.labels.uri).stat()
        except FileNotFoundError:
            return "none"
        return stat.st_mtime_ns, stat.st_size, stat.st_ino


_served: list[Served] = []


def set_served(served: Served) -> None:
    """Let all pages of this process show this run."""
    _served[:] = [served]


def get_served() -> Served:
    """The run to show: no address and no parameter names one. Raises ConfigError where none was set."""
    if not _served:
        raise ConfigError("no run is served: start the page with seamlessalign curate DIR")
    return _served[0]
