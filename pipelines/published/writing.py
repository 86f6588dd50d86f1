"""Pairs of a run written as SeamlessAlign published its own: two lines for each, by which others can fetch them.

Of a recording a line has the address and the frames, of a sentence its digest. So what others can rebuild is what lies
where they can fetch it; the rest is written too, as this program's own addresses of it, and counted.
"""

import gzip
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pyarrow as pa

from seamlessalign import storage
from seamlessalign.errors import InputError
from seamlessalign.languages import Direction
from seamlessalign.pipelines.published.line_forms import MetadataLine, published_code, tsv_line
from seamlessalign.pipelines.published.record_text import digest
from seamlessalign.pipelines.run_tables import RunTables
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.secrets import secret_in
from seamlessalign.sources import is_http, place_of

FORMAT = "seamlessalign-tsv"
SIDES = ("src", "tgt")
_ROWS = 10_000
_OF_A_SIDE = ("id", "uri", "start", "end", "text")

Choose = Callable[[str], pa.Array]  # direction → the pair_id of each pair that is wanted


@dataclass
class WrittenMetadata:
    """What was written of one direction. `chosen = pairs + Σ refused`."""

    direction: str  # as it is written
    uri: str
    chosen: int = 0
    pairs: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # reason → pairs that a line cannot hold
    own_addresses: int = 0  # pairs with speech at an address that means something to this program, or here, alone
    texts_without_source: int = 0  # sides that are text, of which only the digest is written
    unknown_durations: int = 0  # sides that are speech of a recording that the run's table does not have


def file_name(direction: str) -> str:
    """The name that a published file of a direction has."""
    return f"seamless.dataset.metadata.public.{direction}.tsv.gz"


def written_direction(direction: str) -> str:
    """The direction of a run as it is written into metadata."""
    parsed = Direction.parse(direction)
    return f"{published_code(parsed.src)}-{published_code(parsed.tgt)}"


def write_metadata(
    tables: RunTables, to: str, directions: Sequence[str], choose: Choose | None = None
) -> list[WrittenMetadata]:
    """Write a file for each direction into a folder; of which pairs, `choose` says, or the run itself: those kept.

    Pairs are numbered from the best down. Equal runs give equal bytes. Raises InputError for a direction that the run
    does not have, or where the folder holds something else; StorageError for what cannot be read or written.
    """
    for direction in directions:
        tables.check_direction(direction)
    uris = {one: storage.join(to, file_name(written_direction(one))) for one in directions or tables.directions}
    others = sorted(set(storage.list_files(to)) - set(uris.values()))
    if others:
        raise InputError(f"{to}: holds {others[0].rsplit('/', 1)[-1]}, which is none of these files: choose another")
    return [_write(tables, direction, uri, choose) for direction, uri in uris.items()]


def _write(tables: RunTables, direction: str, uri: str, choose: Choose | None) -> WrittenMetadata:
    done = WrittenMetadata(written_direction(direction), uri)
    with storage.local_target(uri) as path, _packed(path) as file:
        for batch in _rows(tables, direction, None if choose is None else choose(direction)):
            for row in batch.to_pylist():
                _write_pair(row, direction, file, done)
    return done


@contextmanager
def _packed(path: Path) -> Iterator[IO[bytes]]:
    """A gzip file without the time and the name that gzip would give it, so that equal lines give equal bytes."""
    with path.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as file:
        yield cast(IO[bytes], file)


def _rows(tables: RunTables, direction: str, chosen: pa.Array | None) -> Iterator[pa.RecordBatch]:
    """The chosen pairs with what is known of both sides, the best first."""
    columns = ", ".join(f"pairs.{side}_{name}" for side in SIDES for name in _OF_A_SIDE)
    known = "select recording_id, max(num_samples) as num_samples from recordings group by recording_id"
    if "recordings" not in tables.names:
        known = "select '' as recording_id, 0 as num_samples where false"
    said = "select sentence_id, max(lang_prob) as lang_prob from sentences group by sentence_id"
    if "sentences" not in tables.names:
        said = "select '' as sentence_id, 0.0 as lang_prob where false"
    joins = " ".join(
        f"left join recordings_known {side}_r on {side}_r.recording_id = split_part(pairs.{side}_id, ':', 1) "
        f"left join sentences_said {side}_s on {side}_s.sentence_id = pairs.{side}_id"
        for side in SIDES
    )
    among = "kept" if chosen is None else "pair_id in (select pair_id from chosen)"
    query = f"""
        with recordings_known as ({known}), sentences_said as ({said})
        select pairs.pair_id, margin, {columns},
            src_r.num_samples as src_num_samples, tgt_r.num_samples as tgt_num_samples,
            src_s.lang_prob as src_lang_prob, tgt_s.lang_prob as tgt_lang_prob
        from pairs {joins}
        where direction = ? and {among}
        order by margin desc, pairs.pair_id"""
    with tables.cursor() as cursor:
        if chosen is not None:
            cursor.register("chosen", pa.table({"pair_id": chosen}))
        yield from cursor.sql(query, params=[direction]).to_arrow_reader(_ROWS)


def _write_pair(row: dict[str, Any], direction: str, file: IO[bytes], done: WrittenMetadata) -> None:
    done.chosen += 1
    reason = next((why for side in SIDES if (why := _refusal(row[f"{side}_uri"]))), None)
    if reason is not None:
        done.refused[reason] += 1
        return
    parsed = Direction.parse(direction)
    own = False
    for side, said in zip(SIDES, (parsed.src, parsed.tgt), strict=True):
        line = _line(row, side, done, published_code(said))
        file.write(tsv_line(line).encode())
        if line.is_audio:
            own = own or not _is_anybodys(line.url)
            done.unknown_durations += line.duration is None
        else:
            done.texts_without_source += 1
    done.own_addresses += own
    done.pairs += 1


def _line(row: dict[str, Any], side: str, done: WrittenMetadata, code: str) -> MetadataLine:
    uri, text, samples = row[f"{side}_uri"], row[f"{side}_text"], row[f"{side}_num_samples"]
    speech = uri is not None
    return MetadataLine(
        cc_warc="",
        cc_sha="",
        url=_absolute(uri) if speech else "",
        start_frame=row[f"{side}_start"],
        end_frame=row[f"{side}_end"],
        cc_lineno=None,
        paragraph_digest=None,
        duration=samples / SAMPLE_RATE if speech and samples else None,
        sentence_digest=None if speech else digest(text),
        text_lid_score=0.0 if speech else _shortest(row[f"{side}_lang_prob"]),
        laser_score=_shortest(row["margin"]),
        direction=done.direction,
        side=code,
        line_no=done.pairs,
    )


def _shortest(value: float | None) -> float | None:
    """A float32 as the shortest decimal number that gives it, as published scores are."""
    return None if value is None else float(str(np.float32(value)))


def _refusal(uri: str | None) -> str | None:
    """Why an address cannot be in a line."""
    if uri is None:
        return None
    if any(sign in uri for sign in "\t\n\r"):
        return "line_end_in_address"
    return "secret_in_address" if secret_in(uri) is not None else None


def _absolute(uri: str) -> str:
    """An address that means the same from wherever it is read."""
    file = place_of(uri).file
    if not storage.is_local(file) or Path(storage.local_path(file)).is_absolute():
        return uri
    return f"{storage.local_path(file).absolute()}{uri.removeprefix(file)}"


def _is_anybodys(uri: str) -> bool:
    """Whether an address means a whole file on the web, to everybody."""
    place = place_of(uri)
    return is_http(uri) and place.member is None and place.channel is None


def told(written: Sequence[WrittenMetadata]) -> list[str]:
    """What was written, for people."""
    lines = []
    for done in written:
        lines.append(f"{done.direction}: {done.pairs} pairs, {2 * done.pairs} lines")
        lines += [f"  not written: {count} ({reason})" for reason, count in sorted(done.refused.items())]
        if done.own_addresses:
            lines.append(
                f"  {done.own_addresses} pairs have speech at addresses of this machine or inside of other files: "
                "only `seamlessalign import-metadata` where these are can fetch it"
            )
        if done.texts_without_source:
            lines.append(
                f"  {done.texts_without_source} texts are of no WET file: their cc_* are empty, and sentence_digest "
                "is all that tells them"
            )
        if done.unknown_durations:
            lines.append(f"  {done.unknown_durations} recordings have no known duration")
    return lines
