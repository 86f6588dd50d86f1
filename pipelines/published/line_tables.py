"""Lines of published metadata as tables, many at a time.

Lines that are plain in every column, as nearly all are, are taken apart by Arrow's regular expressions, column by
column. Each of the others goes through `lines.read_line`, which says what it means or what is wrong with it; whatever
the first way takes, the second would have read the same.
"""

from collections.abc import Iterator
from dataclasses import fields
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seamlessalign.errors import UnreadableError
from seamlessalign.pipelines.published.line_forms import MAX_FRAME, Form, MetadataLine, side_of, sides_of
from seamlessalign.pipelines.published.lines import BadLine, raw_lines, read_line

_AT_ONCE = 1 << 16  # lines
_TYPES = {
    "start_frame": pa.int64(), "end_frame": pa.int64(), "cc_lineno": pa.int64(), "line_no": pa.int64(),
    "paragraph_digest": pa.uint64(), "sentence_digest": pa.uint64(), "duration": pa.float64(),
    "text_lid_score": pa.float64(), "laser_score": pa.float64(),
}  # fmt: skip
LINES = pa.schema(
    [
        pa.field("row", pa.int64()),  # of the line in its file, from 1
        pa.field("is_src", pa.bool_()),  # whether its side is the first of its direction
        *(pa.field(field.name, _TYPES.get(field.name, pa.string())) for field in fields(MetadataLine)),
    ]
)
_INTEGER, _DIGEST, _NUMBER = r"\d{0,15}", r"\d{0,20}", r"(?:\d{1,15}(?:\.\d{1,20})?)?"
_LARGEST = pa.scalar(str((1 << 64) - 1))
_BOM = "\ufeff"


def line_tables(uri: str, form: Form | None = None) -> Iterator[tuple[pa.Table, list[tuple[int, BadLine]]]]:
    """The lines of a file, some at a time: those that say something, in no order, and those that say nothing.

    Raises as `lines.read_lines`.
    """
    form, numbered = raw_lines(uri, form)
    while some := list(islice(numbered, _AT_ONCE)):
        bad = [(row, raw) for row, raw in some if isinstance(raw, BadLine)]
        rows = np.array([row for row, raw in some if isinstance(raw, bytes)], np.int64)
        raws = [raw.rstrip(b"\r\n") for _, raw in some if isinstance(raw, bytes)]
        tables, left = _plain(raws, rows, form)
        read: list[dict[str, Any]] = []
        for at in left:
            row, line = int(rows[at]), read_line(raws[at], form)
            if isinstance(line, BadLine):
                bad.append((row, line))
            else:
                read.append({"row": row, "is_src": line.side == sides_of(line.direction)[0], **vars(line)})
        yield pa.concat_tables([*tables, pa.Table.from_pylist(read, LINES)]), sorted(bad, key=lambda one: one[0])


def _plain(raws: list[bytes], rows: Any, form: Form) -> tuple[list[pa.Table], Any]:
    """Tables of the lines that are plain, and the places of the others."""
    left = np.ones(len(raws), bool)
    if form == "expressive":
        return [], np.flatnonzero(left)
    try:
        texts = pa.array(raws, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:  # one of them is not UTF-8
        return [], np.flatnonzero(left)
    tables = []
    for pattern, speech in _patterns(form):
        found = pc.extract_regex(texts, pattern)
        places = np.flatnonzero(np.asarray(found.is_valid()) & ~np.asarray(pc.starts_with(texts, _BOM)) & left)
        matched = found.take(pa.array(places))
        columns = dict(zip((field.name for field in matched.type), matched.flatten(), strict=True))
        good = _checked(columns, speech)
        places = places[good]
        left[places] = False
        columns = {name: column.filter(pa.array(good)) for name, column in columns.items()}
        tables.append(_table(columns, rows[places], speech))
    return tables, np.flatnonzero(left)


def _patterns(form: Form) -> Iterator[tuple[str, bool]]:
    """What plain lines of a form look like, and whether they are of speech."""
    by = "\t" if form == "seamlessalign" else " "
    any_ = f"[^{by}]*"
    begin = rf"^(?P<cc_warc>{any_}){by}(?P<cc_sha>{any_}){by}"
    end = (
        rf"(?P<text_lid_score>{_NUMBER}){by}(?P<laser_score>{_NUMBER}){by}(?P<direction>{any_}){by}(?P<side>{any_}){by}"
    )
    end += r"(?P<line_no>\d{1,15})$"
    digests = rf"(?P<paragraph_digest>{_DIGEST}){by}(?P<sentence_digest>{_DIGEST})"
    yield rf"{begin}(?P<url>{any_}){by}(?P<cc_lineno>{_INTEGER}){by}{digests}{by}{end}", False
    if form == "seamlessalign":
        place = r"(?P<url>[^\t]*[^\t ]) (?P<start_frame>\d{1,16}) (?P<end_frame>\d{1,16})"
        yield rf"{begin}{place}\t(?P<cc_lineno>{_INTEGER})\t(?P<duration>{_NUMBER})\t[^\t]*\t{end}", True


def _checked(columns: dict[str, pa.Array], speech: bool) -> Any:
    """Which lines mean what their columns look like, (num_lines,)."""
    good = _sides_are(columns, speech) & np.asarray(pc.equal(pc.utf8_trim_whitespace(columns["url"]), columns["url"]))
    if speech:
        start, end = (columns[name].cast(pa.int64()).to_numpy() for name in ("start_frame", "end_frame"))
        return good & (start < end) & (end < MAX_FRAME)
    for name in ("paragraph_digest", "sentence_digest"):
        shorter = pc.less(pc.binary_length(columns[name]), 20)
        good &= np.asarray(pc.or_(shorter, pc.less_equal(columns[name], _LARGEST)))
    return good


def _sides_are(columns: dict[str, pa.Array], speech: bool) -> Any:
    """Which lines have a side of their direction, of this kind, (num_lines,)."""
    return _of_each(columns, lambda direction, side: side in sides_of(direction) and side_of(side).is_audio == speech)


def _of_each(columns: dict[str, pa.Array], judge: Any) -> Any:
    """What is true of the direction and side of each line; few of either differ."""
    codes = [column.dictionary_encode() for column in (columns["direction"], columns["side"])]
    names = [code.dictionary.to_pylist() for code in codes]
    numbers = codes[0].indices.to_numpy().astype(np.int64) * len(names[1]) + codes[1].indices.to_numpy()
    kinds, which = np.unique(numbers, return_inverse=True)

    def judged(kind: int) -> bool:
        try:
            return bool(judge(names[0][kind // len(names[1])], names[1][kind % len(names[1])]))
        except UnreadableError:
            return False

    return np.array([judged(kind) for kind in kinds.tolist()], bool)[which]


def _table(columns: dict[str, pa.Array], rows: Any, speech: bool) -> pa.Table:
    nothing = pa.nulls(len(rows))
    is_src = _of_each(columns, lambda direction, side: side == sides_of(direction)[0])
    made: dict[str, Any] = {"row": pa.array(rows), "is_src": pa.array(is_src)}
    for field in LINES:
        column = columns.get(field.name, nothing)
        if field.name in made:
            continue
        if field.name in _TYPES and field.name in columns:
            column = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column).cast(field.type)
        made[field.name] = column.cast(field.type)
    if speech:
        known = pc.greater(made["duration"], 0.0)
        made["duration"] = pc.if_else(known, made["duration"], pa.scalar(None, pa.float64()))
    return pa.table(made, schema=LINES)
