"""Lines of published metadata joined into pairs, wherever in their file the two lines of a pair are.

The lines go through files that DuckDB joins within a bound of memory, so that it does not matter how many there are.
What makes no pair is kept too, with its place and the reason: `lines = 2 · pairs + Σ set_aside`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seamlessalign import storage
from seamlessalign.errors import InputError, MissingPackageError, StorageError
from seamlessalign.pipelines.published.line_forms import Form, MetadataLine, sides_of
from seamlessalign.pipelines.published.lines import BadLine, PublishedPair, read_lines

_ROWS = 1 << 16  # of a table in memory
_TYPES = {
    "start_frame": pa.int64(), "end_frame": pa.int64(), "cc_lineno": pa.int64(), "line_no": pa.int64(),
    "paragraph_digest": pa.uint64(), "sentence_digest": pa.uint64(), "duration": pa.float64(),
    "text_lid_score": pa.float64(), "laser_score": pa.float64(),
}  # fmt: skip
_COLUMNS = [field.name for field in fields(MetadataLine)]
_OF_A_SIDE = [name for name in _COLUMNS if name not in ("direction", "line_no")]
_TABLE = pa.schema(
    [
        pa.field("file", pa.int32()),
        pa.field("row", pa.int64()),
        pa.field("is_src", pa.bool_()),
        *(pa.field(name, _TYPES.get(name, pa.string())) for name in _COLUMNS),
    ]
)
SET_ASIDE = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),  # of the line, from 1
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)
# one that says the same of the same span or text as an earlier one does, whatever its number
_SAME = [
    f"{side}_{name}" for side in ("src", "tgt") for name in _OF_A_SIDE if "score" not in name and name != "duration"
]


@dataclass(frozen=True)
class Paired:
    """What became of the lines of some files. `lines = 2 · pairs + Σ set_aside`."""

    lines: int
    pairs: int
    set_aside: dict[str, int]  # reason → lines


def pair_up(
    uris: Sequence[str], pairs: str, set_aside: str, form: Form | None = None, memory_gb: float = 1.0
) -> Paired:
    """Join the lines of files into pairs, those of each file by themselves.

    `pairs` and `set_aside` are where two Parquet files go: the pairs in the order of the files and their lines
    (`read_pairs` reads them), and the lines that made none. To the reasons of `read_lines` come `doubled_line` (of
    several lines for one side of a pair the first counts), `no_partner` and `doubled_pair` (both sides are those of an
    earlier pair). Raises InputError as `read_lines` does, MissingPackageError without duckdb.
    """
    try:
        import duckdb
    except ImportError as error:
        raise MissingPackageError("duckdb", "import", "joining the lines of metadata") from error
    with storage.scratch(pairs) as folder, storage.writing(pairs):
        folder.mkdir()
        try:
            count = _write_lines(uris, form, folder)
            connection = duckdb.connect(str(folder / "join.duckdb"), config={"memory_limit": f"{memory_gb}GB"})
            try:
                connection.execute("set preserve_insertion_order = false")
                connection.execute(f"set temp_directory = {_quoted(folder / 'spilled')}")
                return _join(connection, list(uris), folder, pairs, set_aside, count)
            except duckdb.Error as error:
                said = " ".join(str(error).splitlines()[0].split())
                raise StorageError(f"{pairs}: lines cannot be joined: {said}") from error
            finally:
                connection.close()
        finally:
            _remove(folder)


def read_pairs(uri: str) -> Iterator[PublishedPair]:
    """The pairs that `pair_up` wrote, in their order."""
    for batch in storage.read_batches(uri):
        for row in batch.to_pylist():
            common = {"direction": row["direction"], "line_no": row["line_no"]}
            src, tgt = (
                MetadataLine(**common, **{name: row[f"{side}_{name}"] for name in _OF_A_SIDE})
                for side in ("src", "tgt")
            )
            yield PublishedPair(row["direction"], row["line_no"], src, tgt)


def _write_lines(uris: Sequence[str], form: Form | None, folder: Path) -> int:
    """Lines and bad lines as Parquet; returns how many lines the files have."""
    count = 0
    if len(set(uris)) < len(uris):
        raise InputError(f"{next(uri for uri in uris if list(uris).count(uri) > 1)}: is named twice")
    with (
        pq.ParquetWriter(folder / "lines.parquet", _TABLE) as good,
        pq.ParquetWriter(folder / "bad.parquet", SET_ASIDE) as bad,
    ):
        read: list[dict[str, Any]] = []
        wrong: list[dict[str, Any]] = []
        for number, uri in enumerate(uris):
            for row, line in read_lines(uri, form):
                count += 1
                if isinstance(line, BadLine):
                    wrong.append({"file": uri, "row": row, "reason": line.reason, "detail": line.detail})
                else:
                    is_src = line.side == sides_of(line.direction)[0]
                    read.append({"file": number, "row": row, "is_src": is_src, **vars(line)})
                if len(read) >= _ROWS:
                    good.write_table(pa.Table.from_pylist(read, _TABLE))
                    read.clear()
                if len(wrong) >= _ROWS:
                    bad.write_table(pa.Table.from_pylist(wrong, SET_ASIDE))
                    wrong.clear()
        good.write_table(pa.Table.from_pylist(read, _TABLE))
        bad.write_table(pa.Table.from_pylist(wrong, SET_ASIDE))
    return count


def _join(connection: Any, uris: list[str], folder: Path, pairs: str, set_aside: str, count: int) -> Paired:
    connection.execute("create table files (file integer, uri varchar)")
    connection.executemany("insert into files values (?, ?)", [[number, uri] for number, uri in enumerate(uris)])
    side = ", ".join(f"{{0}}.{name} as {{0}}_{name}" for name in _OF_A_SIDE)
    connection.execute(
        f"""create table lines as
        select *, row_number() over (partition by file, direction, line_no, is_src order by "row") as copy
        from read_parquet({_quoted(folder / "lines.parquet")})"""
    )
    connection.execute(
        f"""create table joined as
        select src.file, src."row" as src_row, tgt."row" as tgt_row, src.direction, src.line_no,
            {side.format("src")}, {side.format("tgt")}
        from lines src join lines tgt using (file, direction, line_no)
        where src.is_src and not tgt.is_src and src.copy = 1 and tgt.copy = 1"""
    )
    place = "file, least(src_row, tgt_row)"
    connection.execute(
        f"""create table pairs as
        select *, row_number() over (partition by {", ".join(_SAME)} order by {place}) as again from joined"""
    )
    connection.execute(
        f"""create table aside as
        select uri as file, "row", 'doubled_line' as reason,
            'another line of ' || direction || ' ' || line_no || ' is for ' || side as detail
        from lines join files using (file) where copy > 1
        union all
        select uri, lines."row", 'no_partner',
            'no line of ' || lines.direction || ' ' || line_no || ' is for its other side'
        from lines join files using (file)
        where copy = 1 and not exists (
            select * from joined where joined.file = lines.file
                and joined.direction = lines.direction and joined.line_no = lines.line_no)
        union all
        select uri, unnest([src_row, tgt_row]), 'doubled_pair', 'an earlier pair has both sides'
        from pairs join files using (file) where again > 1
        union all
        select * from read_parquet({_quoted(folder / "bad.parquet")})"""
    )
    order = {"pairs": f"where again = 1 order by {place}", "aside": 'order by file, "row", reason'}
    for name, target in (("pairs", pairs), ("aside", set_aside)):
        left_out = "exclude (again, file, src_row, tgt_row)" if name == "pairs" else ""
        with storage.local_target(target) as path:
            connection.execute(
                f"copy (select * {left_out} from {name} {order[name]}) to {_quoted(path)} "
                "(format parquet, compression zstd, row_group_size 65536)"
            )
    reasons = dict(connection.sql("select reason, count(*) from aside group by reason order by reason").fetchall())
    ((kept,),) = connection.sql("select count(*) from pairs where again = 1").fetchall()
    return Paired(count, kept, reasons)


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _remove(folder: Path) -> None:
    for file in sorted(folder.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    folder.rmdir()
