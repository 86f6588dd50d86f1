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
from seamlessalign.pipelines.curation.labelled_precision import random_labels
from seamlessalign.pipelines.curation.labels import Labelled, Labels
from seamlessalign.pipelines.curation.listening import Heard, Listening, NotHeard, Side
from seamlessalign.pipelines.run_tables import RunTables
from seamlessalign.pipelines.selection import Cut

T = TypeVar("T")
_RECENT = 300
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
        self.name = self.root.rstrip("/").rsplit("/", 1)[-1]
        self.listening = Listening(self.tables)
        self.labels = Labels(self.root)
        self.clips = ClipBook(self._hear)
        self.exports = ExportJobs(self.root)
        self._lock = threading.Lock()
        self._views: dict[str, DirectionView] = {}
        self._recent: OrderedDict[Hashable, Any] = OrderedDict()
        self._found: dict[Hashable, Any] = {}
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
        with self._lock:
            if key in self._found:
                return cast(T, self._found[key])
        found = find()
        with self._lock:
            self._found[key] = found
        return found

    def recently(self, key: Hashable, find: Callable[[], T]) -> T:
        """The same, of what is looked at now; what was not for long is forgotten."""
        with self._lock:
            if key in self._recent:
                self._recent.move_to_end(key)
                return cast(T, self._recent[key])
        found = find()
        with self._lock:
            self._recent[key] = found
            while len(self._recent) > _RECENT:
                self._recent.popitem(last=False)
        return found

    def warm(self) -> None:
        """Count what the first page shows. What is wrong is told there."""
        with contextlib.suppress(SeamlessAlignError):
            view = self.view(self.directions[0])
            random_labels(view, self.labelled())
            view.rows(Cut(), limit=1)

    def close(self) -> None:
        """End what runs and let go of the files."""
        self.exports.stop()
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
