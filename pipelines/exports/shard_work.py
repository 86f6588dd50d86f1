"""One shard of an export: its rows with their audio, out of the corpus or cut anew, to the writer of a format."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seamlessalign import storage
from seamlessalign.audio import encode
from seamlessalign.config import RunConfig
from seamlessalign.errors import StorageError
from seamlessalign.pipelines.corpus_stage import ROW_GROUP, audio_name, cut_all
from seamlessalign.pipelines.exports.export_folder import ExportFolder
from seamlessalign.pipelines.exports.formats import FORMATS
from seamlessalign.pipelines.exports.plan import PlannedShard
from seamlessalign.pipelines.exports.shards import Shard, Target, Written
from seamlessalign.pipelines.folder import TRANSCRIPTS_STAGE, UNITS_STAGE, RunFolder
from seamlessalign.rows import CORPUS, TRANSCRIPTS, UNITS

_SIDES = ("src", "tgt")
_SCHEMAS = {UNITS_STAGE: UNITS, TRANSCRIPTS_STAGE: TRANSCRIPTS}
_CUT_TOGETHER = 10 * ROW_GROUP  # rows at least whose audio is in memory together, encoded; those of a recording more


@dataclass(frozen=True)
class Work:
    """What is the same for all shards of an export; small enough to be sent to a worker."""

    run: str
    target: Target
    format: str
    digest: str
    corpus: dict[str, list[str]]  # by direction: uris of the parts
    config: RunConfig | None  # of the run; None where nothing is to be cut
    metadata: dict[str, str]  # of the schema of what is written
    beside: tuple[str, ...] = ()  # tables that the run has beside its corpus


@dataclass(frozen=True)
class Done:
    """What became of a shard: its completion mark."""

    digest: str
    written: Written
    left_out: list[tuple[str, str, str]]  # pair_id, reason, uri of what could not be cut
    uncut: int  # of these, pairs whose audio could not be had

    def to_json(self) -> bytes:
        """As it is written."""
        return json.dumps(asdict(self), ensure_ascii=False).encode()

    @staticmethod
    def of_json(data: bytes) -> "Done":
        """As it was written."""
        raw = json.loads(data)
        written = {**raw["written"], "shard": Shard(**raw["written"]["shard"])}
        return Done(raw["digest"], Written(**written), [tuple(item) for item in raw["left_out"]], raw["uncut"])


def do_shard(planned: PlannedShard, work: Work) -> Done:
    """Write one shard, and then its mark. Raises StorageError where the corpus is not as it was planned."""
    folder = ExportFolder(work.target.root)
    rows = storage.read_rows(folder.planned(planned.shard.place, planned.file), planned.first, planned.last)
    left_out: list[tuple[str, str, str]] = []
    metadata = {key.encode(): value.encode() for key, value in _metadata(rows, planned.shard, work).items()}
    with FORMATS[work.format].writer(work.target, planned.shard, _beside(rows, planned.shard, work)) as writer:
        for table in _tables(rows, planned.shard, work, left_out):
            writer.add(table.replace_schema_metadata(metadata))
    uncut = len(left_out)
    left_out += [(name, reason, "") for name, reason in writer.refused_pairs]
    mark = Done(work.digest, writer.written, left_out, uncut).to_json()
    storage.write_bytes_atomic(folder.shard_mark(planned.shard.place, planned.shard.name), mark)
    return Done.of_json(mark)  # as who goes on reads it


def _metadata(rows: pa.Table, shard: Shard, work: Work) -> dict[str, str]:
    """Of the schema: that of the part of the corpus which the rows are, all of it, so that the file is the same."""
    parts = rows.column("part").unique().to_pylist()
    if len(parts) == 1 and parts[0] is not None:
        number, metadata = storage.footer(work.corpus[shard.direction][parts[0]])
        if rows.column("row").to_pylist() == list(range(number)):
            return metadata
    return work.metadata


def read_done(planned: PlannedShard, work: Work, folder: ExportFolder) -> Done | None:
    """What became of a shard that is done; None where it is not."""
    uri = folder.shard_mark(planned.shard.place, planned.shard.name)
    if not storage.exists(uri):
        return None
    done = Done.of_json(storage.read_bytes(uri))
    return done if done.digest == work.digest else None


def _tables(rows: pa.Table, shard: Shard, work: Work, left_out: list[tuple[str, str, str]]) -> Iterator[pa.Table]:
    """Rows of `corpus` in order, at most a row group at a time; those that cannot be cut are noted."""
    begin = 0
    parts = rows.column("part").to_pylist()
    while begin < len(rows):
        end = begin
        while end < len(rows) and parts[end] == parts[begin]:
            end += 1
        some = rows.slice(begin, end - begin)
        if parts[begin] is None:
            yield from _cut(some, work, left_out)
        else:
            yield from _copied(some, work.corpus[shard.direction][parts[begin]])
        begin = end


def _copied(rows: pa.Table, uri: str) -> Iterator[pa.Table]:
    """Rows whose audio is in one part of the corpus, in the order in which they lie there."""
    wanted = rows.column("row").to_pylist()
    try:
        with storage.open_read(uri) as file, pq.ParquetFile(file, page_checksum_verification=True) as opened:
            first, begin = 0, 0
            for group in range(opened.num_row_groups):
                last = first + opened.metadata.row_group(group).num_rows
                end = begin
                while end < len(wanted) and wanted[end] < last:
                    end += 1
                if end > begin:
                    read = opened.read_row_group(group, columns=["pair_id", "src_audio", "tgt_audio"])
                    audio = read.take(pa.array([row - first for row in wanted[begin:end]]))
                    yield from _joined(rows.slice(begin, end - begin), audio, uri)
                first, begin = last, end
    except (pa.ArrowException, OSError) as error:
        raise StorageError(f"{uri}: is not a readable Parquet file: {str(error).splitlines()[0]}") from error
    if begin < len(rows):
        raise StorageError(f"{uri}: has fewer rows than when the export was planned; remove the export and begin anew")


def _joined(rows: pa.Table, audio: pa.Table, uri: str) -> Iterator[pa.Table]:
    if audio.column("pair_id").to_pylist() != rows.column("pair_id").to_pylist():
        raise StorageError(f"{uri}: is not as it was when the export was planned; remove the export and begin anew")
    columns = {name: (audio if name.endswith("_audio") else rows).column(name) for name in CORPUS.names}
    table = pa.table(columns).cast(CORPUS)
    for begin in range(0, len(table), ROW_GROUP):
        yield table.slice(begin, ROW_GROUP)


def _cut(rows: pa.Table, work: Work, left_out: list[tuple[str, str, str]]) -> Iterator[pa.Table]:
    """Rows whose audio is cut from their recordings, each of which is opened once where one side is speech."""
    if work.config is None:
        raise StorageError(f"{work.run}: the plan of the export has pairs to cut, and the run no configuration")
    format = work.target.audio or work.config.corpus.audio_format
    for pairs in _by_recording(rows.to_pylist()):
        sha = {pair[f"{side}_uri"]: {"sha256": pair[f"{side}_sha256"]} for pair in pairs for side in _SIDES}
        audio, problems = cut_all(pairs, sha, work.config, partial(encode, format=format))
        made = []
        for pair in pairs:
            uris = {side: pair[f"{side}_uri"] for side in _SIDES if pair[f"{side}_uri"] is not None}
            problem = next(((problems[uri], uri) for uri in uris.values() if uri in problems), None)
            if problem is not None:
                left_out.append((pair["pair_id"], *problem))
                continue
            row = {name: pair.get(name) for name in CORPUS.names}
            for side, uri in uris.items():
                content = audio[uri, pair[f"{side}_start"], pair[f"{side}_end"]]
                row[f"{side}_audio"] = {"bytes": content, "path": audio_name(pair[f"{side}_id"], format)}
            made.append(row)
        for begin in range(0, len(made), ROW_GROUP):
            yield pa.Table.from_pylist(made[begin : begin + ROW_GROUP], CORPUS)


def _by_recording(pairs: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Pairs in parts that end where the recording of the first audio side does."""
    begin = 0
    for end in range(1, len(pairs) + 1):
        if end == len(pairs) or (end - begin >= _CUT_TOGETHER and _recording(pairs[end]) != _recording(pairs[end - 1])):
            yield pairs[begin:end]
            begin = end


def _recording(pair: dict[str, Any]) -> str:
    return str(pair["src_uri"] if pair["src_uri"] is not None else pair["tgt_uri"])


def _beside(rows: pa.Table, shard: Shard, work: Work) -> dict[str, pa.Table]:
    """What the run has beside the corpus of the rows' pairs, by name."""
    names = rows.column("pair_id").combine_chunks()
    uris = [work.corpus[shard.direction][part] for part in rows.column("part").drop_null().unique().to_pylist()]
    found = {}
    for stage in work.beside:
        table = RunFolder(work.run).table(stage, f"direction={shard.direction}")
        parts = [storage.join(table, uri.rsplit("/", 1)[-1]) for uri in uris]
        tables = [_SCHEMAS[stage].empty_table(), *(storage.read_table(part) for part in parts)]
        whole = pa.concat_tables([one.replace_schema_metadata(tables[-1].schema.metadata) for one in tables])
        found[stage] = whole.filter(pc.is_in(whole.column("pair_id"), names))
    return found
