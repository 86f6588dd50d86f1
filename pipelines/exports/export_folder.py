"""The folder of an export: the one place that knows its file names. What is below `state` goes once it is finished."""

import re
from dataclasses import dataclass

from seamlessalign import storage
from seamlessalign.errors import InputError
from seamlessalign.pipelines.folder import RunFolder

_BEGUN = re.compile(r"state/(lock|lock\.json|progress\.json|plan/.*)")  # what there is before the plan is kept


@dataclass(frozen=True)
class ExportFolder(RunFolder):
    """Names inside an export's folder. Lock, lease and heartbeat lie where a run's do."""

    @property
    def state(self) -> str:
        """Folder of what is needed to go on."""
        return storage.join(self.root, "state")

    @property
    def export_plan(self) -> str:
        """The shards, what is counted before they are written, and the digest of what was asked for."""
        return storage.join(self.root, "state", "plan.json")

    def planned(self, place: str, file: int = 0) -> str:
        """Pairs of a direction and split in the order in which they are written, a row group for each shard."""
        return storage.join(self.root, "state", "plan", f"{place.replace('/', '.')}.{file:05}.parquet")

    @property
    def planned_leaks(self) -> str:
        """The list of pairs that leak, until the export is finished."""
        return storage.join(self.root, "state", "plan", "leaks.tsv")

    def shard_mark(self, place: str, name: str) -> str:
        """The completion mark of a shard."""
        return storage.join(self.root, "state", "done", place, f"{name}.json")

    @property
    def done(self) -> str:
        """Folder of the completion marks."""
        return storage.join(self.root, "state", "done")

    @property
    def record(self) -> str:
        """What was handed on and left out, in numbers; its presence says that the export is finished."""
        return storage.join(self.root, "export.json")

    @property
    def card(self) -> str:
        """The dataset card."""
        return storage.join(self.root, "README.md")

    @property
    def leaks(self) -> str:
        """Pairs left out since an evaluation set has them."""
        return storage.join(self.root, "leaks.tsv")

    @property
    def left_out(self) -> str:
        """Pairs that could not be written, and why."""
        return storage.join(self.root, "left_out.tsv")

    def refuse_others(self) -> None:
        """Raise InputError where there is something that no export has written."""
        if storage.exists(self.record) or storage.exists(self.export_plan):
            return  # before all files are listed, of which clips may be millions
        names = {self.relative(uri) for uri in storage.list_files(self.root)}
        if not all(_BEGUN.fullmatch(name) for name in names):
            raise InputError(f"{self.root}: is not empty and holds no export; choose another folder")


def refuse_within_run(run: str, to: str) -> None:
    """Raise InputError for a target among the tables of the run: only its `exports` has room for others' files."""
    root, target = _absolute(run), _absolute(to)
    if f"{target}/".startswith(f"{root}/") and not target.startswith(f"{root}/exports/"):
        raise InputError(f"{to}: is within the run's folder; export to another, or below {RunFolder(run).exports}")


def _absolute(uri: str) -> str:
    return str(storage.local_path(uri).resolve()) if storage.is_local(uri) else uri.rstrip("/")
