"""The sides of published pairs, joined: the corpus, every pair with what became of it, and what was lost."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from seamlessalign import storage
from seamlessalign.errors import SeamlessAlignError
from seamlessalign.languages import Side
from seamlessalign.pipelines.context import Stopwatch, advance
from seamlessalign.pipelines.corpus_stage import FEATURES, SUFFIX
from seamlessalign.pipelines.ledger import Mark, Tally
from seamlessalign.pipelines.published.hosts import host_of
from seamlessalign.pipelines.published.places import RowsOfHome
from seamlessalign.pipelines.published.rebuild_tasks import (
    CLIPS,
    DIGEST,
    LOST,
    LOST_SCHEMA,
    SIDES,
    TEXTS,
    RebuildContext,
    RebuildTask,
)
from seamlessalign.pipelines.published.share_stage import lines_of, sides_of_direction
from seamlessalign.rows import CORPUS, PAIRS, pair_id, segment_id, sentence_id
from seamlessalign.secrets import redact_uri

STAGE = "assemble"
_OF_OTHER_PLANS = ("url", "start", "end", "cc_warc", "key")
_AT_ONCE = 500  # pairs with their audio in memory
_ROW_GROUP = 100  # audio is big: a reader takes this many rows at a time

Found = dict[tuple[int, int], dict[str, Any]]  # (row, side) → what there is of it


def process(task: RebuildTask, digest: str, context: RebuildContext) -> Mark:
    """Do one part of the corpus, write its tables, and return its completion mark. Rows are pairs."""
    watch, tally = Stopwatch(), Tally()
    lines, sides = lines_of(task, context), sides_of_direction(task.source)
    pairs: list[dict[str, Any]] = []
    lost: list[dict[str, Any]] = []
    partition = f"direction={task.source}"
    corpus_uri = context.part("corpus", task.number, partition)

    def rows() -> Iterator[pa.Table]:
        for corpus, chunk in _chunks(task, context, lines, sides, lost):
            for pair in chunk:
                samples = _samples(pair)
                if pair["kept"]:
                    tally.keep(samples=samples)
                else:
                    tally.drop(pair["drop_reason"], samples=samples, quarantined=True)
            pairs.extend(chunk)
            yield pa.Table.from_pylist(corpus, schema=CORPUS)
            advance(STAGE, len(chunk))

    with watch.step("assemble"):
        metadata = {DIGEST: digest}
        features = {**metadata, "huggingface": FEATURES}
        written = storage.write_tables(corpus_uri, rows(), CORPUS, features, _ROW_GROUP)
        outputs = [context.folder.relative(corpus_uri)]
        for table, found, schema in (("pairs", pairs, PAIRS), (LOST, lost, LOST_SCHEMA)):
            uri = context.part(table, task.number, partition)
            written += storage.write_table(uri, pa.Table.from_pylist(found, schema=schema), metadata=metadata)
            outputs.append(context.folder.relative(uri))
    kept = Tally()
    kept.keep(tally.rows_kept, tally.samples_kept)
    ledger = [
        tally.line("pairs", task.name, digest=digest, seconds=watch.seconds),
        kept.line("corpus", task.name, digest=digest, bytes_written=written),
    ]
    return Mark(STAGE, task.name, digest, outputs, ledger)


def _chunks(
    task: RebuildTask, context: RebuildContext, lines: pa.Table, sides: tuple[Side, Side], lost: list[dict[str, Any]]
) -> Iterator[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """Rows of the corpus and of pairs, some at a time; what was lost is appended."""
    tables = [
        RowsOfHome(storage.list_files(context.folder.table(table), ".parquet"), task.number, _OF_OTHER_PLANS)
        for table, is_audio in ((CLIPS, True), (TEXTS, False))
        if any(side.is_audio == is_audio for side in sides)
    ]
    for first in range(0, len(lines), _AT_ONCE):
        some = lines.slice(first, _AT_ONCE).to_pylist()
        found = _found(tables, first, first + len(some))
        corpus, pairs = [], []
        for row, line in enumerate(some, first):
            made = []
            for number, (side, which) in enumerate(zip(sides, SIDES, strict=True)):
                what = found.get((row, number))
                if what is None:
                    raise SeamlessAlignError(
                        f"{task.source} line {line['line_no']}: nothing is known of its {which}: run again to go on"
                    )
                made.append(_side(which, side, line, what, task.source))
                if what["problem"] is not None:
                    lost.append(_lost(which, line, what, task.source))
            pair = _pair(task.source, line, sides, made)
            pairs.append(pair)
            if pair["kept"]:
                corpus.append(_row(pair, made, context.config.corpus.audio_format))
        yield corpus, pairs


def _found(tables: list[RowsOfHome], first: int, last: int) -> Found:
    found: Found = {}
    for table in tables:
        rows = table.read(first, last)
        for row in rows.to_pylist() if rows is not None else ():
            found[row["row"], row["side"]] = row
    return found


def _side(which: str, side: Side, line: dict[str, Any], what: dict[str, Any], direction: str) -> dict[str, Any]:
    """One side of a pair: the columns that `pairs` has for it, its audio, and its problem if it has one."""
    uri = _shown(line[f"{which}_url"], what)
    start, end = line[f"{which}_start"], line[f"{which}_end"]
    if what["problem"] is not None:
        identity = f"none:{direction}:{line['line_no']}:{which}"
    elif side.is_audio:
        identity = segment_id(what["recording_id"], start, end)
    else:
        identity = sentence_id(what["text"], side.lang)
    return {
        "id": identity,
        "lang": side.lang,
        "uri": uri if side.is_audio else None,
        "start": start if side.is_audio else None,
        "end": end if side.is_audio else None,
        "text": None if side.is_audio else what["text"],
        "source": host_of(uri).partition("://")[2] if uri else line[f"{which}_cc_warc"],
        "audio": what.get("audio"),
        "problem": what["problem"],
    }


def _pair(direction: str, line: dict[str, Any], sides: tuple[Side, Side], made: list[dict[str, Any]]) -> dict[str, Any]:
    problem = next((side["problem"] for side in made if side["problem"] is not None), None)
    columns = {
        f"{which}_{name}": side[name]
        for which, side in zip(SIDES, made, strict=True)
        for name in ("id", "lang", "uri", "start", "end", "text")
    }
    return {
        "pair_id": pair_id(columns["src_id"], columns["tgt_id"]),
        "direction": direction,
        **columns,
        "margin": line["score"] if line["score"] is not None else float("nan"),
        "cosine": float("nan"),  # is not published
        "forward_rank": -1,
        "backward_rank": -1,
        "precision_estimate": None,
        "kept": problem is None,
        "drop_reason": problem,
    }


def _row(pair: dict[str, Any], made: list[dict[str, Any]], format: str) -> dict[str, Any]:
    row = {name: pair.get(name) for name in CORPUS.names}
    for which, side in zip(SIDES, made, strict=True):
        row[f"{which}_source"] = side["source"]
        if side["audio"] is not None:
            name = f"{side['id'].replace(':', '_')}.{SUFFIX[format]}"
            row[f"{which}_audio"] = {"bytes": side["audio"], "path": name}
    return row


def _lost(which: str, line: dict[str, Any], what: dict[str, Any], direction: str) -> dict[str, Any]:
    return {
        "direction": direction,
        "line_no": line["line_no"],
        "side": which,
        "reason": what["problem"],
        "detail": what["detail"],
        "url": _shown(line[f"{which}_url"], what),
        **{name: line[f"{which}_{name}"] for name in ("start", "end", "cc_warc")},
    }


def _shown(url: str, what: dict[str, Any]) -> str | None:
    """An address as it is told; one with a secret in it was not asked."""
    return (redact_uri(url) if what["problem"] == "secret_in_address" else url) or None


def _samples(pair: dict[str, Any]) -> int:
    """Samples of the first audio side."""
    which = next((which for which in SIDES if pair[f"{which}_uri"] is not None), None)
    return 0 if which is None else int(pair[f"{which}_end"] - pair[f"{which}_start"])
