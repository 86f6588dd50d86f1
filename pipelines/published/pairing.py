"""Lines of published metadata joined into pairs, wherever in their file the two lines of a pair are.

The lines go through files that DuckDB joins within a bound of memory, so that it does not matter how many there are.
What makes no pair is kept too, with its place and the reason: `lines = 2 · pairs + Σ set_aside`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seamlessalign import storage
from seamlessalign.errors import InputError, MissingPackageError, StorageError
from seamlessalign.pipelines.published.line_forms import Form, MetadataLine
from seamlessalign.pipelines.published.line_tables import LINES, line_tables
from seamlessalign.pipelines.published.lines import PublishedPair

_OF_A_SIDE = [name for name in LINES.names if name not in ("row", "is_src", "direction", "line_no")]
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
            connection = duckdb.connect(":memory:", config={"memory_limit": f"{memory_gb}GB"})
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
        pq.ParquetWriter(folder / "lines.parquet", LINES.insert(0, pa.field("file", pa.int32()))) as good,
        pq.ParquetWriter(folder / "bad.parquet", SET_ASIDE) as bad,
    ):
        for number, uri in enumerate(uris):
            for lines, wrong in line_tables(uri, form):
                count += len(lines) + len(wrong)
                good.write_table(lines.add_column(0, "file", pa.array(np.full(len(lines), number, np.int32))))
                rows = [{"file": uri, "row": row, "reason": one.reason, "detail": one.detail} for row, one in wrong]
                if rows:
                    bad.write_table(pa.Table.from_pylist(rows, SET_ASIDE))
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
            {side.format("src")}, {side.format("tgt")}, hash({", ".join(_SAME)}) as content
        from lines src join lines tgt using (file, direction, line_no)
        where src.is_src and not tgt.is_src and src.copy = 1 and tgt.copy = 1"""
    )
    place = "file, least(src_row, tgt_row)"
    connection.execute(
        f"""create table doubled as
        with suspects as (
            select * from joined where content in (select content from joined group by content having count(*) > 1)
        ), numbered as (
            select *, row_number() over (partition by {", ".join(_SAME)} order by {place}) as again from suspects
        )
        select file, src_row, tgt_row from numbered where again > 1"""
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
        from doubled join files using (file)
        union all
        select * from read_parquet({_quoted(folder / "bad.parquet")})"""
    )
    kept = f"""select * exclude (content, file, src_row, tgt_row)
        from joined anti join doubled using (file, src_row) order by {place}"""
    aside = 'select * from aside order by file, "row", reason'
    for query, target in ((kept, pairs), (aside, set_aside)):
        with storage.local_target(target) as path:
            connection.execute(
                f"copy ({query}) to {_quoted(path)} (format parquet, compression zstd, row_group_size 65536)"
            )
    reasons = dict(connection.sql("select reason, count(*) from aside group by reason order by reason").fetchall())
    ((joined, doubled),) = connection.sql(
        "select (select count(*) from joined), (select count(*) from doubled)"
    ).fetchall()
    return Paired(count, joined - doubled, reasons)


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _remove(folder: Path) -> None:
    for file in sorted(folder.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    folder.rmdir()
