"""How long a curator waits: what the curation page asks of many pairs, against pandas on the same table.

    python -m benchmarks.curation --to FOLDER [--pairs 10000000] [--threads 2]

A run is made in the folder where there is none. Each side works in a process of its own and asks the same questions:
opening a direction and its first view, moving the threshold, each kind of filter (counts at the threshold, histogram
and a page of rows), each order of rows, random samples, and labels with ten thousand there already. Each is asked once,
as it is on the page, where nothing is known of it yet. pandas has read the columns that it needs once, with Arrow's
types, and answers from memory; it neither keeps labels nor has intervals. Printed are seconds by the clock and of the
processor, pandas' seconds, how many times as long these are, and the highest resident memory of each side.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.many_pairs import THRESHOLD, make_run
from seamlessalign.pipelines.curation.direction_view import DirectionView
from seamlessalign.pipelines.curation.labelled_precision import precision_above, precision_curve, random_labels
from seamlessalign.pipelines.curation.labels import Label, Labels, Said, fold
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.run_tables import RunTables
from seamlessalign.pipelines.selection import Cut, Filter

_LABELS = 10_000
_PAGE = 25
_CUT = Cut(min_margin=THRESHOLD)
_OTHER = 1.21

FILTERS = {
    "filter: cosine": Filter(column="cosine", op="at_least", value=0.55),
    "filter: seconds": Filter(column="tgt_seconds", op="at_least", value=3),
    "filter: reason": Filter(column="drop_reason", op="is_null"),
    "filter: source of the recording": Filter(column="tgt_source", op="one_of", value=["radio"]),
    "filter: text": Filter(column="src_text", op="contains", value="Kato"),
    "filter: code points": Filter(column="src_chars", op="at_least", value=40),
    "filter: disagreement": Filter(column="disagreement", op="at_most", value=0.2),
}
ORDERS = ("margin", "cosine", "disagreement", "tgt_seconds", "src_chars", "tgt_uri")


class Watch:
    """Seconds by the clock and of the processor, by what was done."""

    def __init__(self) -> None:
        self.seconds: dict[str, tuple[float, float]] = {}

    def time(self, name: str, act: Callable[[], Any]) -> Any:
        """Do something and remember how long it took."""
        begun, used = time.perf_counter(), _processor()
        found = act()
        self.seconds[name] = time.perf_counter() - begun, _processor() - used
        return found


def _processor() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


# Ours


def ours(root: str, direction: str, threads: int) -> dict[str, Any]:
    """What the page asks."""
    watch = Watch()

    def open_() -> DirectionView:
        view = DirectionView(RunTables(root, threads), direction)
        assert view.own_threshold == THRESHOLD
        _look(view, _CUT)
        return view

    view = watch.time("open, and the first view", open_)
    watch.time("move the threshold: counts", lambda: view.curve().at(_OTHER))
    watch.time("move it off the grid: counts", lambda: view.curve().at(1.23456))
    watch.time("move the threshold: rows", lambda: view.rows(Cut(min_margin=_OTHER), limit=_PAGE))
    watch.time("rows not chosen", lambda: view.rows(_CUT, "not chosen", limit=_PAGE))
    watch.time("page 200", lambda: view.rows(_CUT, limit=_PAGE, offset=200 * _PAGE))
    for name, one in FILTERS.items():
        watch.time(name, partial(_look, view, Cut(min_margin=THRESHOLD, filters=[one])))
    for column in ORDERS:
        watch.time(f"order: {column}", partial(view.rows, _CUT, "all", column, limit=_PAGE))
    watch.time("range of a column: code points", lambda: view.range("src_chars"))
    watch.time("histogram: seconds", lambda: view.histogram("tgt_seconds"))
    watch.time("random at the threshold", lambda: view.draw(_CUT, "random at the threshold", 1, _PAGE))
    watch.time("random above the threshold", lambda: view.draw(_CUT, "random above the threshold", 1, _PAGE))
    watch.time("random of all", lambda: view.draw(_CUT, "random", 1, _PAGE))
    labels = _with_labels(view)
    watch.time(f"labels: read {_LABELS}, and precision", lambda: _precision(view, labels))
    row = view.rows(_CUT, limit=1, offset=7).to_pylist()[0]
    drawn = next(iter(labels.labelled().values())).draws[0]
    line = Label(row["pair_id"], direction, "right", row["margin"], drawn, "me", THRESHOLD)
    watch.time("labels: add one", lambda: labels.append([line]))
    watch.time("labels: precision behind it", lambda: _precision(view, labels))
    said = Filter(column="label", op="is_not_null")
    watch.time("labels: rows with one", lambda: _look(view, Cut(min_margin=THRESHOLD, filters=[said])))
    return {"seconds": watch.seconds, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def _look(view: DirectionView, cut: Cut) -> None:
    curve = view.curve(cut.filters)
    view.at(cut)
    curve.histogram()
    curve.curve()
    view.rows(cut, limit=_PAGE)


def _with_labels(view: DirectionView) -> Labels:
    labels = Labels(view.tables.root)
    if len(labels.read()) < _LABELS:
        rows, drawn = view.draw(_CUT, "random above the threshold", 0, _LABELS)
        rng = np.random.default_rng(0)
        said: tuple[Said, ...] = ("right", "wrong", "unsure")
        labels.append(
            [
                Label(
                    row["pair_id"],
                    row["direction"],
                    said[int(rng.choice(3, p=(0.8, 0.15, 0.05)))],
                    row["margin"],
                    drawn,
                )
                for row in rows.select(["pair_id", "direction", "margin"]).to_pylist()
            ]
        )
    return labels


def _precision(view: DirectionView, labels: Labels) -> None:
    labelled = fold(labels.read(), view.direction)
    view.show_labels(labelled)
    found = random_labels(view, labelled)
    precision_above(found, view.curve(), THRESHOLD)
    precision_curve(found, view.curve())


# pandas


def peer(root: str, direction: str) -> dict[str, Any]:
    """The same of a table in memory."""
    import pandas as pd  # type: ignore[import-untyped]

    watch = Watch()
    columns = ["pair_id", "src_text", "tgt_uri", "tgt_start", "tgt_end", "margin", "cosine", "precision_estimate"]
    columns += ["kept", "drop_reason"]
    folder = RunFolder(root).table("pairs", f"direction={direction}")

    def look(some: Any) -> None:
        eligible = some[some["kept"] | (some["drop_reason"] == "below_threshold")]
        chosen = eligible[eligible["margin"] >= np.float32(THRESHOLD)]
        (chosen["tgt_end"] - chosen["tgt_start"]).sum()
        chosen["precision_estimate"].mean()
        outcome = some["drop_reason"].fillna("kept")
        pd.cut(some["margin"].to_numpy(), 80).value_counts()
        outcome.value_counts()
        chosen.nlargest(_PAGE, "margin")

    def open_() -> Any:
        table = pd.read_parquet(folder, columns=columns, dtype_backend="pyarrow")
        look(table)
        return table

    table = watch.time("open, and the first view", open_)
    recordings = pd.read_parquet(RunFolder(root).table("recordings"), dtype_backend="pyarrow")
    seconds = (table["tgt_end"] - table["tgt_start"]) / 16_000

    def above(threshold: float) -> Any:
        eligible = table["kept"] | (table["drop_reason"] == "below_threshold")
        return table[eligible & (table["margin"] >= np.float32(threshold))]

    def counts(threshold: float) -> None:
        chosen = above(threshold)
        (chosen["tgt_end"] - chosen["tgt_start"]).sum()
        chosen["precision_estimate"].mean()

    def disagreement() -> Any:
        return (table["margin"].rank(pct=True) - table["cosine"].rank(pct=True)).abs()

    def masked(mask: Callable[[], Any]) -> None:
        look(table[mask()])

    def ordered(key: Callable[[], Any]) -> Any:
        return table.loc[key().nlargest(_PAGE).index]

    watch.time("move the threshold: counts", lambda: counts(_OTHER))
    watch.time("move it off the grid: counts", lambda: counts(1.23456))
    watch.time("move the threshold: rows", lambda: above(_OTHER).nlargest(_PAGE, "margin"))
    watch.time("rows not chosen", lambda: table.drop(above(THRESHOLD).index).nlargest(_PAGE, "margin"))
    watch.time("page 200", lambda: above(THRESHOLD).nlargest(201 * _PAGE, "margin").tail(_PAGE))
    masks: dict[str, Callable[[], Any]] = {
        "filter: cosine": lambda: table["cosine"] >= 0.55,
        "filter: seconds": lambda: seconds >= 3,
        "filter: reason": lambda: table["drop_reason"].isna(),
        "filter: source of the recording": lambda: table["tgt_uri"].isin(
            recordings[recordings["source"] == "radio"]["uri"]
        ),
        "filter: text": lambda: table["src_text"].str.lower().str.contains("kato", regex=False),
        "filter: code points": lambda: table["src_text"].str.len() >= 40,
        "filter: disagreement": lambda: disagreement() <= 0.2,
    }
    for name, mask in masks.items():
        watch.time(name, partial(masked, mask))
    keys: dict[str, Callable[[], Any]] = {
        "margin": lambda: table["margin"],
        "cosine": lambda: table["cosine"],
        "disagreement": disagreement,
        "tgt_seconds": lambda: (table["tgt_end"] - table["tgt_start"]) / 16_000,
        "src_chars": lambda: table["src_text"].str.len(),
    }
    for name, key in keys.items():
        watch.time(f"order: {name}", partial(ordered, key))
    watch.time("order: tgt_uri", lambda: table.sort_values("tgt_uri", ascending=False).head(_PAGE))
    watch.time("range of a column: code points", lambda: table["src_text"].str.len().agg(["min", "max"]))
    watch.time("histogram: seconds", lambda: pd.cut(seconds.to_numpy(), 60).value_counts())
    around = (table["margin"] >= 1.149) & (table["margin"] < 1.151)
    watch.time("random at the threshold", lambda: table[around].sample(_PAGE, random_state=1))
    watch.time("random above the threshold", lambda: above(THRESHOLD).sample(_PAGE, random_state=1))
    watch.time("random of all", lambda: table.sample(_PAGE, random_state=1))
    return {"seconds": watch.seconds, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--to", type=Path, required=True, help="folder of the run that is made")
    parser.add_argument("--pairs", type=int, default=10_000_000)
    parser.add_argument("--directions", type=int, default=1, help="that share them (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", choices=["ours", "pandas"], help="only this one, as JSON")
    options = parser.parse_args(arguments)
    if not (options.to / "run.yaml").exists():
        make_run(str(options.to), options.pairs, options.directions)
    direction = sorted(path.name for path in (options.to / "pairs").iterdir())[0].partition("=")[2]
    if options.side:
        root = str(options.to)
        print(json.dumps(ours(root, direction, options.threads) if options.side == "ours" else peer(root, direction)))
        return
    told = [_apart(options, side) for side in ("ours", "pandas")]
    print(f"{options.threads} threads, load {os.getloadavg()[0]:.1f}")
    print(f"{'':34}{'seconds':>9}{'of processor':>14}{'pandas':>9}{'times':>7}")
    for name, (clock, processor) in told[0]["seconds"].items():
        there = told[1]["seconds"].get(name)
        beside = f"{there[0]:9.2f}{there[0] / max(clock, 1e-6):7.1f}" if there else f"{'-':>9}{'-':>7}"
        print(f"{name:34}{clock:9.3f}{processor:14.3f}{beside}")
    peaks = [one["peak"] / 2**20 for one in told]
    print(f"{'highest resident memory, MiB':34}{peaks[0]:9.0f}{'':14}{peaks[1]:9.0f}{peaks[1] / peaks[0]:7.1f}")


def _apart(options: argparse.Namespace, side: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.curation", "--to", str(options.to), "--side", side]
    done = subprocess.run([*command, "--threads", str(options.threads)], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
