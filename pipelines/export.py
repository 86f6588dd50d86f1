"""Handing a corpus on: Parquet shards that `datasets.load_dataset("parquet", …)` opens with decoded audio."""

from collections.abc import Sequence
from dataclasses import dataclass

from seamlessalign import storage
from seamlessalign.errors import InputError
from seamlessalign.pipelines.folder import SIDE_STAGES, RunFolder, stages_of


@dataclass(frozen=True)
class Exported:
    """What was copied."""

    rows: dict[str, int]  # by direction
    beside: tuple[str, ...]  # tables that the run has beside its corpus


def export_parquet(root: str, target: str, directions: Sequence[str] = ()) -> Exported:
    """Copy the corpus of a run into `<target>/<direction>/part-*.parquet`, of some directions or of all.

    Its units and transcripts, where it has them, go into `<target>/units/<direction>/part-*.parquet` and so on: a
    training takes the folder as it takes the run's.

    Raises InputError where the run has no corpus, or none of a wanted direction, or not yet all of what is beside it;
    or the target is not empty.
    """
    folder = RunFolder(root)
    shards = _shards(folder, "corpus")
    if not shards:
        raise InputError(f"{root}: has no corpus to export; is it a finished run?")
    missing = sorted(set(directions) - set(shards))
    if missing:
        raise InputError(f"{root}: has no direction {missing[0]!r}; there are {', '.join(sorted(shards))}")
    wanted = list(directions) or sorted(shards)
    copied = {storage.join(target, one, name): uri for one in wanted for name, uri in shards[one].items()}
    beside = tuple(stage for stage in stages_of(folder) if stage in SIDE_STAGES)
    for table in beside:
        made = _shards(folder, table)
        for one in wanted:
            if made.get(one, {}).keys() != shards[one].keys():
                raise InputError(f"{root}: the {table} of {one} are not all made: finish the run first")
            copied |= {storage.join(target, table, one, name): uri for name, uri in made[one].items()}
    if storage.list_files(target):
        raise InputError(f"{target}: is not empty; choose another folder")
    for place, uri in copied.items():
        storage.write_bytes_atomic(place, storage.read_bytes(uri))
    return Exported({one: sum(map(storage.num_rows, shards[one].values())) for one in wanted}, beside)


def _shards(folder: RunFolder, table: str) -> dict[str, dict[str, str]]:
    """Uris of a table's parts by direction and name."""
    shards: dict[str, dict[str, str]] = {}
    for uri in storage.list_files(folder.table(table), ".parquet"):
        direction, name = uri.rsplit("/", 2)[-2:]
        shards.setdefault(direction.removeprefix("direction="), {})[name] = uri
    return shards
