"""Whether recordings, segments and sentences are what came of the inputs, by id and by samples, shard by shard.

Of a shard its recordings and three numbers for each span are in memory; of the sides that are mined, 8 bytes for each
row, and twice that of one side while it is sorted.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from seamlessalign import storage
from seamlessalign.errors import StorageError
from seamlessalign.languages import Side
from seamlessalign.pipelines.inputs import InputFile
from seamlessalign.pipelines.ledger import Mark
from seamlessalign.pipelines.row_ids import (
    Numbers,
    numbers_of_hex,
    numbers_of_spans,
    repeated,
    segment_ids,
    sentence_numbers,
    sorted_together,
)
from seamlessalign.pipelines.shard_task import read_input_tasks
from seamlessalign.pipelines.verify_files import Check, Marked, line_of, quarantined_by_reason
from seamlessalign.rows import RECORDINGS, SAMPLE_RATE, recording_id
from seamlessalign.typed_config import parse_written_yaml

_CHANNEL = re.compile(r"(.+)#channel=([0-9]{1,4})", re.DOTALL)
_MOST_NAMED = 5  # ids that are named of those in one file with the same fault
_RECORDING = ["recording_id", "uri", "sha256", "num_samples", "channels", "drop_reason"]
_SEGMENT = ["segment_id", "recording_id", "uri", "start", "end", "lang"]

Inputs = dict[str, tuple[InputFile, ...]]  # by shard


@dataclass
class SideRows:
    """All rows of one side of a direction: their numbers, and the samples of those that are speech."""

    side: Side
    parts: list[Numbers] = field(default_factory=list)
    rows: int = 0
    samples: int = 0
    _ordered: Numbers | None = None

    @property
    def ordered(self) -> Numbers:
        """The rows' numbers (num_rows,), sorted, each as often as it is there."""
        if self._ordered is None:
            self._ordered = sorted_together(self.parts)
        return self._ordered

    def add(self, numbers: Numbers, samples: int = 0) -> None:
        """Take in some rows."""
        self.parts.append(numbers)
        self.rows += len(numbers)
        self.samples += samples


Sides = dict[tuple[bool, str], SideRows]  # by whether they are speech, and language


@dataclass(frozen=True)
class KeptRecordings:
    """The recordings of a shard that were segmented."""

    uris: pa.Array
    ids: pa.Array
    num_samples: npt.NDArray[np.int64]


def inputs_of(marked: Marked, stage: str) -> Inputs | None:
    """Which inputs each shard has; None where the run was made before that was written down."""
    if not storage.exists(marked.folder.input_tasks(stage)):
        return None
    tasks = read_input_tasks(marked.folder, stage)
    return {task.name: tuple(getattr(task.shard, "files", ())) for task in tasks}


def check_recordings(check: Check, marked: Marked, kept: dict[str, KeptRecordings]) -> None:
    """Every input is one recording, or one for each channel, or a line of the quarantine.

    `kept` takes, by shard, what `check_segments` must know of its recordings.
    """
    inputs, config = inputs_of(marked, "speech"), parse_written_yaml(storage.read_bytes(marked.folder.config))
    each = config.get("speech", {}).get("decode", {}).get("channels") == "each"
    rows = given = samples = quarantined = 0
    names: list[Numbers] = []
    for mark in marked.shards("speech"):
        where = f"speech {mark.shard}"
        table = _read_recordings(marked, mark, check)
        if table is None:
            continue
        reasons, aside = quarantined_by_reason(mark, marked, Check(""))
        _check_recording_line(check, where, mark, table, reasons)
        _check_recording_ids(check, where, table)
        if inputs is not None:
            files = inputs.get(mark.shard, ())
            given += len(files)
            _check_inputs(check, where, [_shown(file.uri) for file in files], table, aside, each=each)
        whole = table.filter(pc.is_null(table.column("drop_reason")))
        kept[mark.shard] = KeptRecordings(
            whole.column("uri").combine_chunks(),
            whole.column("recording_id").combine_chunks(),
            whole.column("num_samples").to_numpy(),
        )
        zeros = pa.array(np.zeros(len(table), np.int64))
        names.append(numbers_of_spans(table.column("uri").combine_chunks(), zeros, zeros))
        rows, quarantined = rows + len(table), quarantined + len(aside)
        samples += pc.sum(table.column("num_samples")).as_py() or 0
    ordered = sorted_together(names)
    if len(repeated(ordered)):
        check.tell("recordings", f"{len(repeated(ordered))} uris are there in more than one row")
    come = "inputs are not listed in the folder" if inputs is None else f"{given} inputs"
    check.summary = f"{come}: {rows} recordings, {quarantined} set aside; {hours(samples)} h"


def check_segments(check: Check, marked: Marked, kept: dict[str, KeptRecordings], sides: Sides) -> None:
    """Every segment is a span of a recording of its shard that was kept, once. Rows are added to `sides`."""
    rows = samples = 0
    for mark in marked.shards("speech"):
        recordings, line = kept.get(mark.shard), line_of(mark, "segments")
        if recordings is None or line is None:
            continue
        where, spans = f"speech {mark.shard}", list[npt.NDArray[np.int64]]()
        counted = heard = 0
        for name in marked.files(mark, "segments"):
            for batch in batches_of(marked, mark, name, _SEGMENT, check):
                spans.append(_check_segment_batch(check, f"{where}: {name}", batch, recordings, _partition(name)))
                starts, ends = (np.asarray(batch.column(edge).to_numpy(), np.int64) for edge in ("start", "end"))
                length = int((ends - starts).sum())
                counted, heard = counted + len(batch), heard + length
                side = sides.get((True, _partition(name)))
                if side is not None:
                    columns = (batch.column(edge) for edge in ("recording_id", "start", "end"))
                    side.add(numbers_of_spans(*columns), length)
        check.compare(where, "segments", counted, line.rows_kept)
        check.compare(where, "samples of segments", heard, line.samples_kept)
        twice = _repeated_rows(np.concatenate([np.zeros((0, 3), np.int64), *spans]))
        for number, start, end in twice[:_MOST_NAMED].tolist():
            uri = recordings.uris[number].as_py() if number >= 0 else "unknown"
            check.tell(where, f"the span {start}-{end} of {uri} is there more than once")
        rows, samples = rows + counted, samples + heard
    check.summary = f"{rows} ids, {hours(samples)} h of spans, which overlap"


def check_sentences(check: Check, marked: Marked, sides: Sides) -> None:
    """Every sentence has the id of its text, once in its shard, and comes from a file of it."""
    rows, inputs = 0, inputs_of(marked, "text")
    for mark in marked.shards("text"):
        where, numbers, counted = f"text {mark.shard}", list[Numbers](), 0
        files = None if inputs is None else inputs.get(mark.shard, ())
        for name in marked.files(mark, "sentences"):
            for batch in batches_of(
                marked, mark, name, ["sentence_id", "text", "lang", "document_id", "position"], check
            ):
                place = f"{where}: {name}"
                ids, good = numbers_of_hex(batch.column("sentence_id"))
                right = good & (ids == sentence_numbers(batch.column("text"), batch.column("lang")))
                tell_ids(check, place, batch.column("sentence_id"), ~right, "is not the id of its text")
                langs = pc.equal(batch.column("lang"), _partition(name)).to_numpy(zero_copy_only=False)
                tell_ids(check, place, batch.column("sentence_id"), ~langs, "is of another language")
                if files is not None:
                    inside = _inside(batch, files)
                    tell_ids(check, place, batch.column("sentence_id"), ~inside, "comes from no line of its shard")
                numbers.append(ids)
                counted += len(batch)
                side = sides.get((False, _partition(name)))
                if side is not None:
                    side.add(ids)
        line = line_of(mark, "sentences")
        check.compare(where, "sentences", counted, line.rows_kept if line else 0)
        for number in repeated(sorted_together(numbers))[:_MOST_NAMED].tolist():
            check.tell(where, f"sentence {number:016x} is there more than once")
        rows += counted
    check.summary = f"{rows} ids, each that of its text"


def _check_recording_line(check: Check, where: str, mark: Mark, table: pa.Table, aside: Counter[str]) -> None:
    """Rows and samples by reason are those of the ledger."""
    line = line_of(mark, "recordings")
    if line is None:
        check.tell(where, "its mark has no ledger line of recordings")
        return
    rows, samples = Counter[str | None](aside), Counter[str | None]()
    # not by Arrow: to start its threads for the few rows of a shard takes longer than all else
    for reason, length in zip(
        *(table.column(name).to_pylist() for name in ("drop_reason", "num_samples")), strict=True
    ):
        rows[reason] += 1
        samples[reason] += length
    check.compare(where, "recordings kept", rows.pop(None, 0), line.rows_kept)
    check.compare(where, "samples kept", samples.pop(None, 0), line.samples_kept)
    for reason in sorted({*line.dropped, *line.samples_dropped, *map(str, rows)}):
        check.compare(where, f"recordings dropped as {reason}", rows[reason], line.dropped.get(reason, 0))
        check.compare(where, f"samples dropped as {reason}", samples[reason], line.samples_dropped.get(reason, 0))


def _check_recording_ids(check: Check, where: str, table: pa.Table) -> None:
    for row in table.select(["recording_id", "uri", "sha256"]).to_pylist():
        identity, sha256 = row["recording_id"], row["sha256"]
        channel = _CHANNEL.fullmatch(row["uri"])
        if identity != recording_id(sha256) and (channel is None or identity != recording_id(sha256, int(channel[2]))):
            check.tell(where, f"recording {identity} of {row['uri']} is not the id of its SHA-256")


def _check_inputs(
    check: Check, where: str, inputs: list[str], table: pa.Table, aside: list[str], *, each: bool
) -> None:
    """Every input has its rows or its line, and no row or line is of another input.

    each: every channel of an input is a recording.
    """
    known, found = set(inputs), dict[str, list[int | None]]()
    channels: dict[str, int] = {}
    uris = [(uri, True) for uri in table.column("uri").to_pylist()] + [(uri, False) for uri in aside]
    for number, (uri, is_row) in enumerate(uris):
        name, channel = uri, None
        if name not in known and (parts := _CHANNEL.fullmatch(uri)) is not None:
            name, channel = parts[1], int(parts[2])
        if name not in known:
            check.tell(where, f"{uri} is a {'recording' if is_row else 'line in quarantine'} of no input of the shard")
            continue
        found.setdefault(name, []).append(channel)
        if is_row and channel is not None:
            channels[name] = table.column("channels")[number].as_py()
    for uri in inputs:
        entries = found.get(uri, [])
        if not entries:
            check.tell(where, f"input {uri} is neither a recording nor a line in quarantine")
        elif len(entries) != len(set(entries)):
            check.tell(where, f"input {uri} is there more than once")
        elif each and None not in entries and set(entries) != set(range(channels.get(uri, len(entries)))):
            found_ones = sorted(channel for channel in entries if channel is not None)
            check.tell(where, f"of input {uri} there are channels {found_ones} of {channels.get(uri)}")


def _shown(uri: str) -> str:
    """A uri as the quarantine has it: what is no text is escaped."""
    return uri.encode("utf-8", "backslashreplace").decode()


def _check_segment_batch(
    check: Check, where: str, batch: pa.RecordBatch, recordings: KeptRecordings, lang: str
) -> npt.NDArray[np.int64]:
    """The spans of a batch as (number of its recording, start, end), (num_rows, 3)."""
    ids = batch.column("segment_id")
    number = pc.fill_null(pc.index_in(batch.column("uri"), value_set=recordings.uris), -1)
    places = np.asarray(number.to_numpy(), np.int64)
    known = places >= 0
    tell_ids(check, where, ids, ~known, "is of no recording of the shard that was kept")
    starts, ends = (np.asarray(batch.column(edge).to_numpy(), np.int64) for edge in ("start", "end"))
    if len(recordings.uris):
        owner = recordings.ids.take(pa.array(np.maximum(places, 0)))
        same = pc.equal(owner, batch.column("recording_id")).to_numpy(zero_copy_only=False)
        tell_ids(check, where, ids, known & ~same, "has a recording_id that its uri has not")
        outside = (starts < 0) | (ends <= starts) | (ends > recordings.num_samples[np.maximum(places, 0)])
        tell_ids(check, where, ids, known & outside, "is not inside its recording")
    made = segment_ids(*(batch.column(name) for name in ("recording_id", "start", "end")))
    tell_ids(check, where, ids, ~pc.equal(ids, made).to_numpy(zero_copy_only=False), "is not recording_id:start-end")
    other = pc.not_equal(batch.column("lang"), lang).to_numpy(zero_copy_only=False)
    tell_ids(check, where, ids, other, "is of another language")
    return np.stack([places, starts, ends], 1)


def _inside(batch: pa.RecordBatch, files: tuple[InputFile, ...]) -> npt.NDArray[np.bool_]:
    """Which sentences come from lines of these parts of files."""
    positions = np.asarray(batch.column("position").to_numpy(), np.int64)
    inside = np.zeros(len(batch), bool)
    for file in files:
        last = np.inf if file.num_lines is None else file.first_line + file.num_lines
        here = pc.equal(batch.column("document_id"), file.uri).to_numpy(zero_copy_only=False)
        inside |= here & (positions >= file.first_line) & (positions < last)
    return inside


def _repeated_rows(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Rows (num_rows, 3) that are there more than once, each as often as it is too many."""
    ordered = rows[np.lexsort(rows.T[::-1])]
    twice: npt.NDArray[np.int64] = ordered[1:][(ordered[1:] == ordered[:-1]).all(1)]
    return twice


def tell_ids(check: Check, where: str, ids: pa.Array, wrong: npt.NDArray[np.bool_], what: str) -> None:
    """Add a difference for each of the first ids that are wrong, and one for how many there are besides."""
    if not wrong.any():
        return
    named = ids.filter(pa.array(wrong)).to_pylist()
    for identity in named[:_MOST_NAMED]:
        check.tell(where, f"{identity} {what}")
    if len(named) > _MOST_NAMED:
        check.tell(where, f"{len(named) - _MOST_NAMED} more: {what}")


def _partition(name: str) -> str:
    """`fra` of segments/lang=fra/part-00000.parquet."""
    return name.split("/")[-2].partition("=")[2]


def _read_recordings(marked: Marked, mark: Mark, check: Check) -> pa.Table | None:
    """The recordings of a shard; None where they cannot be read, which is told."""
    names, schema = marked.files(mark, "recordings"), pa.schema([RECORDINGS.field(name) for name in _RECORDING])
    if not names:
        return None  # told with the files
    try:
        batches = list(storage.read_batches(marked.uri(names[0]), _RECORDING))
    except (StorageError, OSError) as error:
        check.tell(f"{mark.stage} {mark.shard}", str(error))
        return None
    return pa.Table.from_batches(batches) if batches else schema.empty_table()


def batches_of(marked: Marked, mark: Mark, name: str, columns: list[str], check: Check) -> Iterator[pa.RecordBatch]:
    """Columns of a file, some rows at a time; that it cannot be read is told."""
    try:
        for batch in storage.read_batches(marked.uri(name), columns):
            absent = set(columns).difference(batch.schema.names)
            if absent:
                check.tell(f"{mark.stage} {mark.shard}", f"{name} has no column {min(absent)}")
                return
            yield batch
    except (StorageError, OSError) as error:
        check.tell(f"{mark.stage} {mark.shard}", str(error))


def hours(samples: int) -> str:
    return f"{samples / SAMPLE_RATE / 3600:.3f}"
