"""What is worth choosing by: F1 of remedies for near-duplicates, of strategies and of overlap objectives.

    python -m benchmarks.objectives --demo runs/demo [--other FOLDER]

Each folder holds `data` with the truth and `run` with the segments and sentences of a finished demo, or is the work
folder of `fit_cards --speech whisper-e5`; pairs are chosen anew here, without decoys. Three F1 are printed for each
way, as the mean over all directions and for each direction: at the card's default threshold, at the threshold that is
best for this way on the other folder (over all its directions of the kind; how a default would be fitted), and at the
best threshold of each direction. Texts that sound the same count as the same when a pair is judged: case and
punctuation are taken out before embedding, so which of two such texts is taken is luck. Every folder is a table of its
own.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import yaml

from seamlessalign import storage
from seamlessalign.config import FiltersConfig
from seamlessalign.embedders import speech_card
from seamlessalign.embedders.card import fit_mean, unit_rows
from seamlessalign.languages import Direction, Side
from seamlessalign.mining import neighbours, resolve_overlaps, resolve_overlaps_two_sides
from seamlessalign.mining.choose import DEPTH, choose
from seamlessalign.mining.groups import NEAR, SHARED, Alike, Near, alike_spans, alike_texts
from seamlessalign.mining.knn import Neighbours
from seamlessalign.mining.margin import WIDER, margins, nearest
from seamlessalign.mining.truth import Scores, score_pairs, sweep_thresholds
from seamlessalign.pipelines.demo_data import DemoTruth, judge, load_truth, num_truth
from seamlessalign.pipelines.pair_filters import before_overlaps
from seamlessalign.rows import SAMPLE_RATE

Floats = npt.NDArray[np.float64]
Objective = Callable[[Floats, float, Floats], Floats]

K = 16
WIDEST = 4
GRID = np.arange(0.9, 3.0, 0.02)
LEAST = 1e-6  # weights must be above 0
PLANTED = 600  # pairs of made vectors
PLANTED_NEAR = 0.5  # cosine from which made vectors of one side are alike

OBJECTIVES: dict[str, Objective] = {
    "margin": lambda margin, threshold, seconds: margin,
    "margin × s": lambda margin, threshold, seconds: margin * seconds,
    "margin² × s": lambda margin, threshold, seconds: margin**2 * seconds,
    "excess": lambda margin, threshold, seconds: margin - threshold,
    "excess × √s": lambda margin, threshold, seconds: (margin - threshold) * np.sqrt(seconds),
    "excess × s": lambda margin, threshold, seconds: (margin - threshold) * seconds,
    "(margin − 1) × s": lambda margin, threshold, seconds: (margin - 1) * seconds,
    "s": lambda margin, threshold, seconds: seconds,
}


@dataclass(frozen=True)
class Way:
    """One way to get from neighbours to pairs."""

    texts: bool = False  # texts that say the same count once among neighbours
    spans: float = 0.0  # spans that share so much of the shorter one count once; 0: each counts
    near: float = 0.0  # rows of a side with a cosine of so much or more count once; 0: each counts
    wider: int = WIDER  # times as many neighbours are found as are averaged, where some count once
    strategy: str = "max"
    depth: int = 1
    similar: bool = False  # rows fall back on what is alike their best only
    objective: str = "excess × s"
    k: tuple[int, int] = (K, K)  # neighbours of speech (or sources), neighbours of text (or targets)


@dataclass(frozen=True)
class Mined:
    """The sides of one direction, their neighbours in lists that are wide enough for every way, and the truth."""

    direction: Direction
    src: pa.Table
    tgt: pa.Table
    src_rows: npt.NDArray[np.float16]
    tgt_rows: npt.NDArray[np.float16]
    forward: Neighbours
    backward: Neighbours
    truth: DemoTruth
    num_truth: int
    threshold: float  # the card's default

    @property
    def kind(self) -> str:
        """Which threshold is meant for it."""
        return "speech-speech" if self.direction.src.is_audio and self.direction.tgt.is_audio else "speech-text"


@dataclass(frozen=True)
class Candidates:
    """Pairs that passed the filters; arrays (num_pairs,), spans of each audio side (recording, start, end)."""

    margin: npt.NDArray[np.float32]
    correct: npt.NDArray[np.bool_]
    truth_id: npt.NDArray[np.str_]
    seconds: Floats
    spans: list[tuple[npt.NDArray[Any], npt.NDArray[np.int64], npt.NDArray[np.int64]]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--demo", type=Path, required=True, help="folder of a finished demo")
    parser.add_argument("--other", type=Path, help="folder of other data of the same kind, to fit thresholds on")
    options = parser.parse_args(arguments)
    folders = {path.name: load(path) for path in (options.demo, options.other) if path is not None}
    print_planted()
    for title, ways in tables().items():
        curves = {name: {label: measure(sides, way) for label, way in ways.items()} for name, sides in folders.items()}
        for name, sides in folders.items():
            other = next((curves[one] for one in folders if one != name), None)
            others = next((folders[one] for one in folders if one != name), [])
            print(f"\n## {title}: {name}\n")
            names = [str(mined.direction) for mined in sides]
            print("| | default | fitted | best | " + " | ".join(names) + " |")
            print("|---|" + "---|" * (3 + len(names)))
            for label, found in curves[name].items():
                fitted = fit(others, other[label]) if other else {}
                print_line(label, sides, found, fitted)


def tables() -> dict[str, dict[str, Way]]:
    """Ways by table."""
    once = Way(near=NEAR)
    chosen = replace(once, depth=DEPTH, similar=True)
    return {
        "Near-duplicates count once among neighbours": {
            "each counts": Way(),
            "equal texts": Way(texts=True),
            "spans that share half": Way(spans=SHARED),
            "equal texts, spans that share half": Way(texts=True, spans=SHARED),
            "equal texts, spans that share ¾": Way(texts=True, spans=0.75),
            **{f"cosine of {near} or more": Way(near=near) for near in (0.9, 0.8, 0.7, 0.6)},
            **{f"cosine of 0.7, lists {wider} × as wide": replace(once, wider=wider) for wider in (1, 3, 4)},
        },
        "What a row falls back on in `max`": {
            "nothing": Way(),
            "its next candidate": Way(depth=2),
            "its next three": Way(depth=4),
            "all its candidates": Way(depth=K),
            "once, nothing": once,
            "once, its next": replace(once, depth=2),
            "once, its next three": replace(once, depth=4),
            "once, all its candidates": replace(once, depth=K),
            "once, its next if alike": replace(once, depth=2, similar=True),
            "once, those of its next three that are alike": chosen,
        },
        "Strategy": {
            **{name: Way(strategy=name) for name in ("forward", "backward", "union", "intersect", "max")},
            **{f"once, {name}": replace(once, strategy=name) for name in ("union", "intersect", "max")},
        },
        "Objective of overlap resolution": {name: Way(objective=name) for name in OBJECTIVES},
        "Objective, once and falling back": {name: replace(chosen, objective=name) for name in OBJECTIVES},
        "k": {
            **{f"k {k}": Way(k=(k, k)) for k in (8, 16, 24, 32)},
            **{f"k {k}, once": replace(once, k=(k, k)) for k in (8, 12, 16, 24)},
            "once, k 8 of speech, 16 of text": replace(once, k=(8, 16)),
            "once, k 16 of speech, 8 of text": replace(once, k=(16, 8)),
        },
    }


def load(folder: Path) -> list[Mined]:
    """Every direction of a demo. Rows are centred as a run does."""
    truth = load_truth(folder / "data")
    run = folder / "run" if (folder / "run").is_dir() else folder / "run-whisper-e5"  # the latter is fit_cards' name
    config = yaml.safe_load((run / "run.yaml").read_text(encoding="utf-8"))
    card, mined = speech_card(config["speech"]["embedder"]), []
    for direction in map(Direction.parse, config["directions"]):
        (src, src_rows), (tgt, tgt_rows) = (load_side(run, side) for side in (direction.src, direction.tgt))
        forward, backward = neighbours(src_rows, tgt_rows, K * WIDEST, "exact")
        one = Mined(
            direction, src, tgt, src_rows, tgt_rows, forward, backward, truth, num_truth(truth, str(direction)), 0.0
        )
        mined.append(replace(one, threshold=card.thresholds[one.kind].value))
    return mined


def load_side(run: Path, side: Side) -> tuple[pa.Table, npt.NDArray[np.float16]]:
    """A side's table without embeddings, by id, texts as they are heard; and its rows, centred, of unit length."""
    table, key = ("segments", "segment_id") if side.is_audio else ("sentences", "sentence_id")
    files = storage.list_files(str(run / table / f"lang={side.lang}"), ".parquet")
    whole = pa.concat_tables([storage.read_table(uri).replace_schema_metadata(None) for uri in files])
    ids = whole.column(key).to_numpy(zero_copy_only=False).astype(str)
    whole = whole.take(pa.array(np.unique(ids, return_index=True)[1])).combine_chunks()
    rows = storage.embeddings_of(whole).astype(np.float32)
    norms = np.linalg.norm(rows, axis=1)
    good = np.isfinite(norms) & (norms > 0)
    rows, whole = unit_rows(rows[good]), whole.filter(pa.array(good)).drop_columns(["embedding"])
    return whole, unit_rows(rows - fit_mean(rows)).astype(np.float16)


def candidates(mined: Mined, way: Way) -> Candidates:
    """What a way puts forward, judged."""
    direction = mined.direction
    src_alike, tgt_alike = (
        alike(mined.src, mined.src_rows, direction.src, way),
        alike(mined.tgt, mined.tgt_rows, direction.tgt, way),
    )
    ks = way.k if direction.src.is_audio else way.k[::-1]
    width = way.wider if src_alike or tgt_alike else 1
    forward, backward = nearest(mined.forward, ks[0] * width), nearest(mined.backward, ks[1] * width)
    scores = margins(forward, backward, k=ks, src_alike=src_alike, tgt_alike=tgt_alike)
    ahead, back = scores[0][:, : ks[0]], scores[1][:, : ks[1]]
    same = {"src_alike": src_alike, "tgt_alike": tgt_alike} if way.similar else {}
    pairs = choose(nearest(forward, ks[0]), nearest(backward, ks[1]), ahead, back, way.strategy, way.depth, **same)
    columns = {**side_columns(mined.src, direction.src, "src", pairs.src)}
    columns |= side_columns(mined.tgt, direction.tgt, "tgt", pairs.tgt)
    nothing = pa.nulls(len(pairs.src), pa.string())
    passed = before_overlaps(direction.src, direction.tgt, columns, FiltersConfig(), nothing).is_null()
    table = pa.table(columns).append_column("margin", pa.array(pairs.margin)).filter(passed)
    judged = judge(mined.truth, table, str(direction))
    spans = [
        (table[f"{side}_recording"].to_numpy(), table[f"{side}_start"].to_numpy(), table[f"{side}_end"].to_numpy())
        for side, audio in (("src", direction.src.is_audio), ("tgt", direction.tgt.is_audio))
        if audio
    ]
    return Candidates(
        judged["margin"].to_numpy(),
        judged["correct"].to_numpy().astype(bool),
        judged["truth_id"].to_numpy().astype(str),
        np.min([end - start for _, start, end in spans], axis=0) / SAMPLE_RATE,
        [(recording.astype(str), start, end) for recording, start, end in spans],
    )


def alike(table: pa.Table, rows: npt.NDArray[np.float16], side: Side, way: Way) -> Alike | None:
    """Which rows of a side count once, if any."""
    if way.near:
        return Near(rows, way.near)
    if not side.is_audio:
        return alike_texts(table["text"]) if way.texts else None
    if not way.spans:
        return None
    return alike_spans(
        table["recording_id"].to_numpy().astype(str), table["start"].to_numpy(), table["end"].to_numpy(), way.spans
    )


def side_columns(table: pa.Table, side: Side, prefix: str, rows: npt.NDArray[np.int64]) -> dict[str, Any]:
    """The columns of pairs that filters, overlaps and the judge look at."""
    names = {"uri": "uri", "start": "start", "end": "end", "recording_id": "recording"} if side.is_audio else {}
    names = names or {"text": "text"}
    picked = table.take(pa.array(rows))
    return {f"{prefix}_{name}": picked[column] for column, name in names.items()}


def scores_at(found: Candidates, threshold: float, objective: Objective, num_true: int) -> Scores:
    """Scores of the pairs from a threshold on, without overlaps."""
    rows = np.flatnonzero(found.margin >= np.float32(threshold))
    weight = objective(found.margin[rows].astype(np.float64), threshold, found.seconds[rows])
    weight = np.maximum(weight, 0) + LEAST
    spans = [(recording[rows], start[rows], end[rows]) for recording, start, end in found.spans]
    if len(spans) == 1:
        keep = resolve_overlaps(*spans[0], weight)
    else:
        keep = resolve_overlaps_two_sides(*spans[0], *spans[1], weight)
    kept = rows[keep]
    return score_pairs(found.correct[kept], found.truth_id[kept], num_true)


Curve = list[Scores]  # at the card's threshold, then at each of the grid


def measure(sides: list[Mined], way: Way) -> list[Curve]:
    """Scores of a way over all thresholds, for each direction."""
    curves = []
    for mined in sides:
        found, objective = candidates(mined, way), OBJECTIVES[way.objective]
        thresholds = [mined.threshold, *GRID.tolist()]
        curves.append([scores_at(found, threshold, objective, mined.num_truth) for threshold in thresholds])
    return curves


def fit(sides: list[Mined], curves: list[Curve]) -> dict[str, int]:
    """Kind of pair → place in the grid of the threshold with the best F1 over all directions of the kind."""
    fitted = {}
    for kind in {mined.kind for mined in sides}:
        mine = [curve[1:] for mined, curve in zip(sides, curves, strict=True) if mined.kind == kind]
        fitted[kind] = int(np.argmax([pooled([curve[at] for curve in mine]) for at in range(len(GRID))]))
    return fitted


def pooled(scores: Sequence[Scores]) -> float:
    """F1 of several directions together."""
    right, pairs = sum(one.correct for one in scores), sum(one.pairs for one in scores)
    precision = right / max(pairs, 1)
    recall = sum(one.recall * one.truth for one in scores) / sum(one.truth for one in scores)
    return 2 * precision * recall / max(precision + recall, LEAST)


def print_planted() -> None:
    """Print the best F1 of `max` on made vectors: groups of near-duplicates, each with a counterpart of its own."""
    print("\n## Made vectors: 600 pairs in groups of near-duplicates, 1,000 more rows on each side\n")
    print("| rows in a group | noise | each counts | and its next three | once | and alike of its next three |")
    print("|---|---|---|---|---|---|")
    for size in (1, 5, 20):
        for noise in (0.6, 0.9):
            src, tgt = planted(size, noise, np.random.default_rng(0))
            alike = Near(src, PLANTED_NEAR), Near(tgt, PLANTED_NEAR)
            wide = neighbours(src, tgt, K * WIDEST, "exact")
            lists = nearest(wide[0], K), nearest(wide[1], K)
            cells = []
            for once, depth in ((False, 1), (False, DEPTH), (True, 1), (True, DEPTH)):
                one, two = alike if once else (None, None)
                ahead, back = (scores[:, :K] for scores in margins(*wide, k=K, src_alike=one, tgt_alike=two))
                pairs = choose(*lists, ahead, back, "max", depth, src_alike=one, tgt_alike=two)
                right = (pairs.src == pairs.tgt) & (pairs.src < PLANTED)
                cells.append(sweep_thresholds(pairs.margin, right, pairs.src, PLANTED).best.f1)
            print(f"| {size} | {noise} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |")


def planted(size: int, noise: float, rng: np.random.Generator) -> tuple[Any, Any]:
    """Both sides, (1600, 128) float32 of unit length; the first 600 rows of one are counterparts of those of the other.

    The meanings of a group's rows have a cosine of 0.8, and each side adds noise of its own.
    """
    dim, alone = 128, 1000
    meaning = np.repeat(rng.standard_normal((PLANTED // size, dim)), size, 0)
    meaning = unit_rows((meaning + 0.5 * rng.standard_normal(meaning.shape)).astype(np.float32)) * np.sqrt(dim)
    sides = []
    for _ in range(2):
        rows = meaning + noise * rng.standard_normal(meaning.shape)
        other = rng.standard_normal((alone, dim)) * np.sqrt(1 + noise**2)
        sides.append(unit_rows(np.concatenate([rows, other]).astype(np.float32)))
    return sides[0], sides[1]


def print_line(label: str, sides: list[Mined], curves: list[Curve], fitted: dict[str, int]) -> None:
    """One way: means, then the three F1 of each direction."""
    cells = []
    for mined, curve in zip(sides, curves, strict=True):
        other = curve[1 + fitted[mined.kind]].f1 if mined.kind in fitted else float("nan")
        cells.append((curve[0].f1, other, max(one.f1 for one in curve)))
    means = " | ".join(f"{mean:.3f}" for mean in np.mean(cells, axis=0))
    each = " | ".join(" ".join(f"{value:.3f}"[1:] for value in cell) for cell in cells)
    print(f"| {label} | {means} | {each} |", flush=True)


if __name__ == "__main__":
    main()
