"""A plain folder: clips as files, one table of text for each split, and what `datasets` takes for an `audiofolder`."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from seamlessalign import storage
from seamlessalign.pipelines.exports.clip_files import ClipFiles
from seamlessalign.pipelines.exports.clips import SIDES
from seamlessalign.pipelines.exports.shards import ExportRow, Format, Shard, Target, Written, by_split, join_pieces
from seamlessalign.rows import CORPUS

_WITHOUT_SPLITS = "corpus.tsv"
_BESIDE = {
    "transcripts": [("transcript", pa.string())],
    "units": [("units", pa.list_(pa.int32())), ("unit_durations", pa.list_(pa.int32()))],
}


class FolderWriter(ClipFiles):
    """Beside clips `metadata.parquet`, and a piece of the split's table."""

    def __init__(self, target: Target, shard: Shard, beside: Mapping[str, pa.Table]) -> None:
        super().__init__(target, shard, beside)
        plain = [field for field in CORPUS if not field.name.endswith("_audio")]
        more = [
            pa.field(f"{side}_{name}", kind)
            for table in sorted(beside)
            for side in SIDES
            for name, kind in _BESIDE[table]
        ]
        names = [pa.field(f"{side}_file_name", pa.string()) for side in SIDES]
        self._schema = pa.schema([*names, *plain, *more])
        self._told: list[dict[str, Any]] = []

    def _describe(self, row: ExportRow, names: dict[str, str]) -> None:
        files = {f"{side}_file_name": name for side, name in names.items()}
        self._told.append({**files, **row.values, **row.beside})

    def _finish_folder(self, folder: str) -> None:
        # not in pieces of the split's table: whoever opens some folders as an audiofolder has what belongs to them
        name = "metadata.parquet"
        storage.write_table(storage.join(folder, name), pa.Table.from_pylist(self._told, schema=self._schema))
        self._files[f"{self.folder}/{name}"] = self._pairs

    def _finish(self) -> None:
        super()._finish()
        if self._told:
            text = _table(self._schema.names, self._told, self.folder)
            storage.write_bytes_atomic(self._uri(self.shard.piece(".tsv"), self._pairs), text.encode())


def _table(columns: list[str], rows: Sequence[dict[str, Any]], folder: str) -> str:
    """The header and a line for each row, quoted where that is needed."""
    values = ([_text(name, row.get(name), folder) for name in columns] for row in rows)
    return "".join(map(tsv_line, (columns, *values)))


def tsv_line(values: Sequence[str]) -> str:
    """A line of a table that is separated by tabs, with its end, quoted where that is needed."""
    out = io.StringIO()
    # a return inside a value is quoted only where lines may end in one
    csv.writer(out, delimiter="\t", lineterminator="\r\n").writerow(values)
    return f"{out.getvalue()[:-2]}\n"


def _text(name: str, value: Any, folder: str) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{folder}/{value}" if name.endswith("_file_name") else str(value)


class FolderFormat(Format):
    """See there."""

    name = "folder"
    writer = FolderWriter

    def files(self, place: str) -> tuple[str, str] | None:
        """See there."""
        return "audiofolder", f"{place}/part-*/*"

    def finish(self, target: Target, written: Sequence[Written]) -> list[str]:
        """Write the table of every split, whose names of files are below the export's folder."""
        return [
            join_pieces(target, _WITHOUT_SPLITS if split is None else f"{split}.tsv", pieces, header=True)
            for split, pieces in by_split(written, ".tsv").items()
        ]
