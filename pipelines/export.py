"""Handing a corpus on: Parquet shards that `datasets.load_dataset("parquet", …)` opens with decoded audio."""

from seamlessalign import storage
from seamlessalign.errors import InputError
from seamlessalign.pipelines.folder import RunFolder


def export_parquet(root: str, target: str, directions: list[str] | None = None) -> dict[str, int]:
    """Copy the corpus shards of a run into `<target>/<direction>/part-*.parquet`; returns rows by direction.

    Raises InputError where the run has no corpus, or none of a wanted direction, or the target is not empty.
    """
    folder = RunFolder(root)
    shards: dict[str, list[str]] = {}
    for uri in storage.list_files(folder.table("corpus"), ".parquet"):
        direction = uri.rsplit("/", 2)[-2].removeprefix("direction=")
        shards.setdefault(direction, []).append(uri)
    if not shards:
        raise InputError(f"{root}: has no corpus to export; is it a finished run?")
    missing = sorted(set(directions or []) - set(shards))
    if missing:
        raise InputError(f"{root}: has no direction {missing[0]!r}; there are {', '.join(sorted(shards))}")
    if storage.list_files(target):
        raise InputError(f"{target}: is not empty; choose another folder")
    exported = {}
    for direction in directions or sorted(shards):
        for uri in shards[direction]:
            name = uri.rsplit("/", 1)[-1]
            storage.write_bytes_atomic(storage.join(target, direction, name), storage.read_bytes(uri))
        exported[direction] = sum(storage.num_rows(uri) for uri in shards[direction])
    return exported
