"""Sample pairs for a report: some spread over the scores of what was kept, some that were nearly kept."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seamlessalign.errors import StorageError
from seamlessalign.pipelines.report_numbers import batches_of, lowest_kept_margin, open_parquet, parts_of, rule_of

AUDIO_BYTES = 1_500_000  # of all samples together; in base64 that is 2 MB of the page
_NEAR_MISSES = 64  # rejected pairs looked at, of which those are shown that repeat no side of another


@dataclass(frozen=True)
class Side:
    """One side of a pair, as the page shows it."""

    lang: str
    text: str | None
    uri: str | None
    start: int | None  # samples at 16 kHz
    end: int | None
    audio: bytes | None
    audio_left_out: bool  # there is audio, but it would make the page too heavy


@dataclass(frozen=True)
class Sample:
    """One pair to look at."""

    direction: str
    kept: bool
    drop_reason: str | None
    margin: float
    cosine: float | None  # None where the pairs table lacks this pair
    precision: float | None
    src: Side
    tgt: Side


@dataclass(frozen=True)
class _Place:
    uri: str
    row: int
    kept: bool
    in_corpus: bool  # else in `pairs`, which have no audio


def choose_samples(run_dir: str, samples_per_direction: int) -> dict[str, list[Sample]]:
    """Sample pairs of every direction: two thirds kept, from the lowest margin to the highest, then near misses.

    Kept pairs come from the corpus with their audio, or from the pairs where the corpus is not written. The audio of
    all samples together is at most `AUDIO_BYTES`; it is given out in turns, so that every direction gets some.
    """
    pairs, corpus = parts_of(run_dir, "pairs"), parts_of(run_dir, "corpus")
    places: dict[str, list[_Place]] = {}
    for direction in sorted(pairs.keys() | corpus.keys()):
        missed = _near_misses(pairs.get(direction, []), samples_per_direction // 3)
        wanted = samples_per_direction - len(missed)
        written = direction in corpus
        places[direction] = _spread(corpus[direction] if written else pairs[direction], wanted, written) + missed
    audio = _load_audio(places)
    return {
        direction: _read_samples(direction, chosen, audio, pairs.get(direction, []))
        for direction, chosen in places.items()
        if chosen
    }


def _spread(uris: list[str], number: int, in_corpus: bool) -> list[_Place]:
    """Rows at evenly spaced ranks of the margin, highest first."""
    margins, files, rows = [], [], []
    for index, uri in enumerate(uris):
        offset = 0
        for batch in batches_of(uri, ["margin"] if in_corpus else ["margin", "kept"]):
            wanted = np.ones(batch.num_rows, dtype=bool) if in_corpus else batch["kept"].to_numpy(zero_copy_only=False)
            margins.append(batch["margin"].to_numpy()[wanted])
            files.append(np.full(int(wanted.sum()), index))
            rows.append(np.flatnonzero(wanted) + offset)
            offset += batch.num_rows
    total = sum(len(found) for found in rows)
    if not total or number < 1:
        return []
    file, row = np.concatenate(files), np.concatenate(rows)
    order = np.argsort(-np.concatenate(margins), kind="stable")
    ranks = np.unique(np.linspace(0, total - 1, min(number, total)).round().astype(int))
    return [_Place(uris[file[order[rank]]], int(row[order[rank]]), True, in_corpus) for rank in ranks]


def _near_misses(uris: list[str], number: int) -> list[_Place]:
    """Rejected pairs with the highest margins below the threshold (where there are none, nearest to it above).

    Where precision decides, the lowest kept margin stands for the threshold: the estimate falls with the margin.
    """
    if not uris or number < 1:
        return []
    threshold = rule_of(uris).threshold
    if threshold is None:
        threshold = lowest_kept_margin(uris)
    if threshold is None:  # nothing was kept
        threshold = 1e9
    best: list[tuple[bool, float, str, int, str, str]] = []
    for uri in uris:
        offset = 0
        for batch in batches_of(uri, ["margin", "kept", "src_id", "tgt_id"]):
            margin = batch["margin"].to_numpy().astype(np.float64)
            rejected = ~batch["kept"].to_numpy(zero_copy_only=False) & np.isfinite(margin)
            rows = np.flatnonzero(rejected)
            order = np.lexsort((np.abs(margin[rows] - threshold), margin[rows] >= threshold))[:_NEAR_MISSES]
            for row in rows[order].tolist():
                distance = abs(float(margin[row]) - threshold)
                ids = batch["src_id"][row].as_py(), batch["tgt_id"][row].as_py()
                best.append((bool(margin[row] >= threshold), distance, uri, row + offset, *ids))
            offset += batch.num_rows
            best = sorted(best)[:_NEAR_MISSES]
    chosen: list[_Place] = []
    seen: set[str] = set()
    for *_, uri, row, src_id, tgt_id in best:
        if not seen & {src_id, tgt_id} and len(chosen) < number:
            seen |= {src_id, tgt_id}
            chosen.append(_Place(uri, row, False, False))
    return chosen


def _load_audio(places: dict[str, list[_Place]]) -> dict[tuple[_Place, str], bytes | None]:
    """Audio bytes by place and side; None for what is beyond the budget."""
    audio: dict[tuple[_Place, str], bytes | None] = {}
    left = AUDIO_BYTES
    for turn in range(max((len(chosen) for chosen in places.values()), default=0)):
        for place in (chosen[turn] for chosen in places.values() if turn < len(chosen)):
            if not place.in_corpus:
                continue
            row = _read_row(place, ["src_audio", "tgt_audio"])
            for side in ("src", "tgt"):
                data = (row[f"{side}_audio"] or {}).get("bytes")
                if data is not None:
                    fits = len(data) <= left
                    audio[place, side] = data if fits else None
                    left -= len(data) if fits else 0
    return audio


def _read_samples(
    direction: str, places: list[_Place], audio: dict[tuple[_Place, str], bytes | None], pairs: list[str]
) -> list[Sample]:
    rows = [(place, _read_row(place, None)) for place in places]
    scores = _scores(pairs, [row["pair_id"] for _, row in rows])
    samples = []
    for place, row in rows:
        sides = [
            Side(
                lang=row[f"{side}_lang"],
                text=row[f"{side}_text"],
                uri=row[f"{side}_uri"],
                start=row[f"{side}_start"],
                end=row[f"{side}_end"],
                audio=audio.get((place, side)),
                audio_left_out=(place, side) in audio and audio[place, side] is None,
            )
            for side in ("src", "tgt")
        ]
        cosine, precision = scores.get(row["pair_id"], (None, None))
        reason = row.get("drop_reason")
        samples.append(Sample(direction, place.kept, reason, row["margin"], cosine, precision, sides[0], sides[1]))
    return samples


def _scores(pairs: list[str], pair_ids: list[str]) -> dict[str, tuple[float | None, float | None]]:
    """Cosine and precision estimate of some pairs, by id."""
    wanted = pa.array(pair_ids, pa.string())
    found = {}
    for uri in pairs:
        for batch in batches_of(uri, ["pair_id", "cosine", "precision_estimate"]):
            for row in batch.filter(pc.is_in(batch["pair_id"], wanted)).to_pylist():
                cosine = row["cosine"]  # not a number where none was published
                found[row["pair_id"]] = (cosine if cosine == cosine else None, row["precision_estimate"])
    return found


def _read_row(place: _Place, columns: list[str] | None) -> dict[str, Any]:
    """One row of a Parquet file, from its row group; without `columns`, all that hold no audio."""
    with open_parquet(place.uri, columns or []) as file:
        if columns is None:
            columns = [name for name in file.schema_arrow.names if not name.endswith("_audio")]
        first = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if place.row < first + rows:
                table = file.read_row_group(group, columns=columns)
                return dict(table.slice(place.row - first, 1).to_pylist()[0])
            first += rows
    raise StorageError(f"{place.uri}: has no row {place.row} any more; it was changed meanwhile, make the report again")
