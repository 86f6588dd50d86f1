"""The pictures of docs/concepts.md, computed from a finished demo whose truth is known."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from seamlessalign import storage
from seamlessalign.charts import Bar, Bin, Reliability, histogram, horizontal_bars, reliability_diagram
from seamlessalign.config import RunConfig, load_config
from seamlessalign.errors import InputError
from seamlessalign.languages import Direction
from seamlessalign.markup import Markup
from seamlessalign.mining import mine_candidates, neighbours
from seamlessalign.mining.margin import neighbourhood
from seamlessalign.mining.overlap import resolve_overlaps
from seamlessalign.mining.truth import reliability
from seamlessalign.pipelines import gather_stage
from seamlessalign.pipelines.context import Context
from seamlessalign.pipelines.demo_data import DemoTruth, judge, load_truth
from seamlessalign.pipelines.documents.concept_charts import (
    Candidate,
    Point,
    competing_spans,
    points_of_margin,
    standing_alone,
)
from seamlessalign.pipelines.span_picture import span_picture
from seamlessalign.rows import SAMPLE_RATE

_K = 16
_BINS = 40
_DRAWN_SECONDS = 30
_HIGHEST = 3.0  # margins above are counted there
_MOST_DRAWN, _MOST_LETTERS = 12, 60


@dataclass(frozen=True)
class Demo:
    """A finished demo: what was mined, and what is true."""

    root: Path
    config: RunConfig
    truth: DemoTruth

    @property
    def run(self) -> str:
        """The folder of its run."""
        return str(self.root / "run")

    @property
    def context(self) -> Context:
        """As its stages have it."""
        return Context(self.config, self.run, "cpu", 1)

    def of_text(self) -> list[str]:
        """Its directions from text to speech."""
        return [name for name in self.config.directions if not Direction.parse(name).src.is_audio]

    def pairs(self, direction: str) -> pa.Table:
        """Its pairs of a direction, judged."""
        files = storage.list_files(storage.join(self.run, "pairs", f"direction={direction}"), ".parquet")
        whole = pa.concat_tables([storage.read_table(file).replace_schema_metadata(None) for file in files])
        return judge(self.truth, whole, direction)


def open_demo(root: str) -> Demo:
    """The demo in a folder. Raises InputError where there is none that is finished."""
    folder = Path(root)
    if not (folder / "run" / "evaluation.json").exists():
        raise InputError(f"{root}: holds no finished demo: run `seamlessalign demo --output {root}`")
    return Demo(folder, load_config(str(folder / "run" / "run.yaml")), load_truth(folder / "data"))


def write_pictures(root: str, to: Path) -> list[str]:
    """Draw all pictures from the demo in a folder; returns what each shows in numbers, for the text around them."""
    demo = open_demo(root)
    told = []
    for name, draw in PICTURES.items():
        chart, text = draw(demo)
        storage.write_bytes_atomic(str(to / f"concepts_{name}.svg"), standing_alone(chart).encode())
        told.append(f"concepts_{name}.svg: {text}")
    return told


# What the margin is for


def _margin(demo: Demo) -> tuple[Markup, str]:
    """Every span of every direction into text, with its nearest sentence."""
    points, margins = [], []
    for name in demo.of_text():
        direction = Direction.parse(name)
        spans, sentences = (gather_stage.load(side, demo.context) for side in (direction.tgt, direction.src))
        ours, theirs = spans.rows[: spans.num_rows], sentences.rows[: sentences.num_rows]
        forward, backward = neighbours(ours, theirs, _K)
        both = (neighbourhood(forward) + neighbourhood(backward)[forward.index[:, 0]]) / 2
        pairs = _pairs_of_rows(demo, direction, np.arange(len(ours)), forward.index[:, 0])
        right = judge(demo.truth, pairs, name)["correct"].to_numpy()
        points += [
            Point(*values) for values in zip(forward.cosine[:, 0].tolist(), both.tolist(), right.tolist(), strict=True)
        ]
        margins += (forward.cosine[:, 0] / np.maximum(both, 1e-6)).tolist()
    cosines, right = np.array([one.cosine for one in points]), np.array([one.right for one in points])
    by_margin, by_cosine = best_cut(np.array(margins), right), best_cut(cosines, right)
    chart = points_of_margin(
        points, margin=round(by_margin.at, 2), cosine=by_cosine.at, title="Cosine, neighbourhood and margin"
    )
    told = (
        f"{len(points)} spans, {int(right.sum())} next to their own sentence; best F1 by margin {by_margin.f1:.3f} "
        f"(from {by_margin.at:.2f}), by cosine {by_cosine.f1:.3f} (from {by_cosine.at:.2f})"
    )
    return chart, told


@dataclass(frozen=True)
class _Cut:
    at: float
    f1: float


def best_cut(score: npt.NDArray[Any], right: npt.NDArray[np.bool_]) -> _Cut:
    """The score from which on F1 of what is right is best, among these points."""
    order = np.argsort(-score, kind="stable")
    taken, found = np.arange(1, len(score) + 1), np.cumsum(right[order])
    f1 = 2 * found / (taken + right.sum())
    best = int(np.argmax(f1))
    return _Cut(float(score[order][best]), float(f1[best]))


def _pairs_of_rows(demo: Demo, direction: Direction, spans: npt.NDArray[Any], sentences: npt.NDArray[Any]) -> pa.Table:
    """Pairs of rows of two gathered sides, text as source, with the columns that are judged."""
    speech = gather_stage.load_table(direction.tgt, demo.context)
    text = gather_stage.load_table(direction.src, demo.context)
    columns = {f"tgt_{name}": speech.take(spans)[name] for name in ("uri", "start", "end")}
    return pa.table({**columns, "src_text": text.take(sentences)["text"]})


# What is cut out of a recording


def _over_segmentation(demo: Demo) -> tuple[Markup, str]:
    """Half a minute of a real recording: its fragments, and every span that is a candidate; the busiest half minute."""
    from seamlessalign.audio import decode
    from seamlessalign.segmentation import detect_speech, over_segment

    uri, begin = _busiest(demo)
    fragments = detect_speech(decode(demo.root / "data" / uri).samples)
    spans = over_segment(fragments).spans
    end = begin + _DRAWN_SECONDS
    chart = span_picture(fragments, spans, float(begin), float(end), "Fragments of speech and the spans made of them")
    low, high = begin * SAMPLE_RATE, end * SAMPLE_RATE
    within = [int(((rows[:, 0] >= low) & (rows[:, 1] <= high)).sum()) for rows in (fragments, spans)]
    return chart, f"{uri} from {begin} s: {within[0]} fragments, {within[1]} spans in {_DRAWN_SECONDS} s"


def _busiest(demo: Demo) -> tuple[str, int]:
    """The recording and the second from which the run found most spans within what is drawn."""
    files = storage.list_files(storage.join(demo.run, "segments"), ".parquet")
    rows = pa.concat_tables([storage.read_table(file, ["uri", "start", "end"]) for file in files]).to_pylist()
    counted: Counter[tuple[str, int]] = Counter()
    for row in rows:
        first = -(-row["end"] // SAMPLE_RATE) - _DRAWN_SECONDS
        for begin in range(max(first, 0), row["start"] // SAMPLE_RATE + 1):
            counted[row["uri"], begin] += 1
    uri, begin = min(counted, key=lambda place: (-counted[place], place))
    known = {Path(one).name: one for one in demo.truth.placed["uri"].unique().to_pylist()}
    return known[Path(uri).name], begin


# How decoys tell what is wrong


def _decoys(demo: Demo) -> tuple[Markup, str]:
    """Margins of what spans are paired with when decoys are sentences like all others, and nobody knows which."""
    margins, is_decoy = [], []
    for name in demo.of_text():
        direction = Direction.parse(name)
        spans, sentences = (gather_stage.load(side, demo.context) for side in (direction.tgt, direction.src))
        pairs = mine_candidates(spans.rows[: spans.num_rows], sentences.rows, k=_K)
        margins += pairs["margin"].to_pylist()
        is_decoy += pc.greater_equal(pairs["tgt"], sentences.num_rows).to_pylist()
    score, decoy = np.clip(np.array(margins), 0.0, _HIGHEST), np.array(is_decoy)
    edges = np.linspace(min(1.0, float(score.min())), _HIGHEST, _BINS + 1)
    sentence_counts, decoy_counts = (np.histogram(score[which], edges)[0] for which in (~decoy, decoy))
    bins = [
        Bin(*values)
        for values in zip(
            edges[:-1].tolist(), edges[1:].tolist(), sentence_counts.tolist(), decoy_counts.tolist(), strict=True
        )
    ]
    chart = histogram(
        bins,
        threshold=None,
        title="Margins of pairs with sentences and with decoys",
        x_label="margin",
        y_label="spans paired with a sentence (blue), with a decoy (on top, orange)",
    )
    told = f"{int((~decoy).sum())} spans with a sentence, {int(decoy.sum())} with a decoy"
    return chart, told


def _precision(demo: Demo) -> tuple[Markup, str]:
    """What was estimated of the run's candidates, and the share of them that is right."""
    judged = pa.concat_tables([demo.pairs(name) for name in demo.of_text()])
    estimate = judged["precision_estimate"].to_numpy().astype(np.float64)
    found = reliability(estimate, judged["correct"].to_numpy()).to_pylist()
    points = [
        Reliability(
            low=one["low"],
            high=one["high"],
            pairs=one["pairs"],
            estimate=one["mean_estimate"],
            right=one["precision"],
            right_low=one["precision_low"],
            right_high=one["precision_high"],
        )
        for one in found
        if one["pairs"]
    ]
    chart = reliability_diagram(
        points,
        title="Estimated precision and the share that is right",
        x_label="estimated precision",
        y_label="share that is right, with its 95 % interval",
    )
    share = float(np.mean(judged["correct"].to_numpy()))
    return chart, f"{len(judged)} candidates, {share:.3f} of them right, {estimate.mean():.3f} estimated"


# Who gets the audio


def _overlaps(demo: Demo) -> tuple[Markup, str]:
    """The largest group of candidates of one recording that hang together by the audio they share."""
    groups = [group for name in demo.of_text() for group in groups_of(demo.pairs(name))]
    largest = max(groups, key=lambda rows: (len(rows) <= _MOST_DRAWN, len(rows)))
    threshold = _threshold(demo)
    weight = np.array(
        [(row["margin"] - threshold) * (row["tgt_end"] - row["tgt_start"]) / SAMPLE_RATE for row in largest]
    )
    start, end = (np.array([row[f"tgt_{name}"] for row in largest]) for name in ("start", "end"))
    keep = resolve_overlaps(np.zeros(len(largest), np.int64), start, end, weight)
    candidates = [
        Candidate(row["tgt_start"], row["tgt_end"], float(value), bool(kept), _short(row["src_text"]))
        for row, value, kept in zip(largest, weight, keep, strict=True)
    ]
    chart = competing_spans(candidates, title="Candidates that share audio, and those that are kept")
    return chart, f"{len(candidates)} candidates, {int(keep.sum())} kept, threshold {threshold:g}"


def groups_of(pairs: pa.Table) -> list[list[dict[str, Any]]]:
    """Candidates above the threshold that overlap one another, directly or through others."""
    reasons = pa.array([None, "overlap"], pa.string())
    rows = pairs.filter(pc.is_in(pairs["drop_reason"], reasons)).sort_by(
        [("tgt_uri", "ascending"), ("tgt_start", "ascending"), ("tgt_end", "ascending")]
    )
    groups: list[list[dict[str, Any]]] = []
    last: tuple[str, int] = ("", 0)
    for row in rows.to_pylist():
        if row["tgt_uri"] == last[0] and row["tgt_start"] < last[1]:
            groups[-1].append(row)
            last = last[0], max(last[1], row["tgt_end"])
        else:
            groups.append([row])
            last = row["tgt_uri"], row["tgt_end"]
    return groups


def _threshold(demo: Demo) -> float:
    """Of speech against text, as the embedder brings it."""
    evaluation = json.loads((demo.root / "run" / "evaluation.json").read_text(encoding="utf-8"))
    return float(next(one["threshold"] for one in evaluation["directions"] if one["direction"] in demo.of_text()))


def _short(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS].rstrip()}…"


# Where everything went


def _accounting(demo: Demo) -> tuple[Markup, str]:
    """The spans of one direction: no pair, each reason, kept."""
    name = demo.of_text()[0]
    pairs = demo.pairs(name)
    spans = gather_stage.load(Direction.parse(name).tgt, demo.context).num_rows
    counts = {row["drop_reason"] or "kept": row["count"] for row in _counted(pairs)}
    shares = {"spans with speech": spans, "chosen for no sentence": spans - len(pairs), **counts}
    order = sorted(shares, key=lambda reason: (reason == "kept", -shares[reason]))
    bars = [
        Bar(
            label=reason.replace("_", " "),
            value=shares[reason] if reason in ("kept", "spans with speech") else 0,
            rest=0 if reason in ("kept", "spans with speech") else shares[reason],
            text=f"{shares[reason]:,}",
            title=f"{reason}: {shares[reason]:,}",
        )
        for reason in order
    ]
    chart = horizontal_bars(bars, title=f"What became of the spans of {name}", x_label="spans", label_width=130.0)
    told = ", ".join(f"{reason} {shares[reason]}" for reason in order)
    return chart, told


def _counted(pairs: pa.Table) -> list[dict[str, Any]]:
    counted = pairs.group_by("drop_reason").aggregate([("pair_id", "count")])
    return [{"drop_reason": row["drop_reason"], "count": row["pair_id_count"]} for row in counted.to_pylist()]


PICTURES: Mapping[str, Callable[[Demo], tuple[Markup, str]]] = {
    "margin": _margin,
    "over_segmentation": _over_segmentation,
    "decoys": _decoys,
    "precision": _precision,
    "overlaps": _overlaps,
    "accounting": _accounting,
}
