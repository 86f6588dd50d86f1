"""What a run found of a demo, judged and measured: as `judge` says and as the room `mining` counts."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seamlessalign import storage
from seamlessalign.cli import main
from seamlessalign.errors import InputError
from seamlessalign.mining.truth import score_pairs
from seamlessalign.pipelines.demo_data import judge, num_truth, placed_truth
from seamlessalign.pipelines.judged_pairs import write_judged
from tests.pipelines.test_demo_data import _pairs, _truth


def _run(folder: Path) -> dict[str, pa.Table]:
    """The truth of a demo and the pairs of a run, which are given back by direction."""
    (folder / "data").mkdir()
    truth = _truth()
    pq.write_table(truth.placed, folder / "data/truth.parquet")
    pq.write_table(truth.texts, folder / "data/truth_texts.parquet")
    found = {
        "eng-esA": _pairs(
            "eng-esA",
            [
                ("Hello to you", ("r/a.wav", 1000, 2000)),
                ("Good bye now", ("r/a.wav", 1000, 2000)),
                ("Thank you all", ("r/b.wav", 1000, 1950)),
            ],
        ),
        "esA-frA": _pairs("esA-frA", [(("r/a.wav", 1000, 2000), ("c.wav", 500, 1500))]),
    }
    for direction, table in found.items():
        names = [f"{direction}{i}" for i in range(len(table))]
        for column in ("src_id", "tgt_id"):
            table = table.set_column(table.schema.get_field_index(column), table.field(column), [names])
        found[direction] = table
        storage.write_table(str(folder / f"run/pairs/direction={direction}/part-00000.parquet"), table)
    return found


def test_what_is_measured_is_what_the_room_mining_counts(tmp_path: Path) -> None:
    found = _run(tmp_path)
    write_judged(tmp_path / "data", str(tmp_path / "run"), tmp_path / "judged")
    (tmp_path / "evaluation.yaml").write_text(
        "mining:\n  gold: {path: judged/truth.parquet}\n"
        "  systems: {run: {path: judged/pairs.parquet, threshold: 1.0, columns: {kept: kept}}}\n"
        f"output: {tmp_path / 'out'}\n"
    )
    assert main(["evaluate", str(tmp_path / "evaluation.yaml")]) == 0
    scores = {
        (line["direction"], line["measure"]): line["score"]
        for line in json.loads((tmp_path / "out/evaluation.json").read_text())["scores"]
    }
    for direction, pairs in found.items():
        judged = judge(_truth(), pairs, direction)
        correct, names = judged["correct"].to_numpy(), judged["truth_id"].to_numpy(zero_copy_only=False)
        wanted = score_pairs(correct, names, num_truth(_truth(), direction))
        assert scores[direction, "F1"] == pytest.approx(100 * wanted.f1)
        assert scores[direction, "precision"] == pytest.approx(100 * wanted.precision)
        assert scores[direction, "recall"] == pytest.approx(100 * wanted.recall)
    # of Spanish, 1000 + 1000 samples of 1000 + 100 + 1000 + 1000
    assert scores["eng-esA", "hours recovered"] == pytest.approx(100 * 2000 / 3100)


def test_every_prompt_that_can_be_found_has_its_seconds() -> None:
    for direction in ("eng-esA", "esA-frA", "enA-esA", "eng-itA"):
        found = placed_truth(_truth(), direction)
        assert len(found) == num_truth(_truth(), direction)
    assert placed_truth(_truth(), "enA-esA") == {"p1": 200 / 16000}


def test_a_run_without_pairs_is_told(tmp_path: Path) -> None:
    _run(tmp_path)
    with pytest.raises(InputError, match="holds no pairs: give the folder of a finished run"):
        write_judged(tmp_path / "data", str(tmp_path / "other"), tmp_path / "judged")
    with pytest.raises(InputError, match="no readable truth of a demo"):
        write_judged(tmp_path, str(tmp_path / "run"), tmp_path / "judged")
