"""Choosing again: another rule changes pairs and corpus only, and says what is wrong."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from seamlessalign import cli
from seamlessalign.errors import InputError
from seamlessalign.mining.precision import keep_fdr
from seamlessalign.pipelines.folder import STAGES
from seamlessalign.pipelines.refilter import read_config, refilter
from tests.pipelines.small_corpus import SmallRun, finished_run, hashes, marks, mine

pytestmark = pytest.mark.embedded


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    made = finished_run(tmp_path_factory.getbasetemp())
    assert made.status == 0, made.err
    return made


@pytest.fixture
def folder(first: SmallRun, tmp_path: Path) -> Path:
    return first.copy(tmp_path / "run")


def _pairs(folder: Path, direction: str = "eng-frA") -> list[dict[str, object]]:
    return list(pq.read_table(folder / f"pairs/direction={direction}/part-00000.parquet").to_pylist())


def test_a_threshold_and_back_again(first: SmallRun, folder: Path) -> None:
    before = {stage: marks(folder, stage) for stage in STAGES}
    old = _pairs(folder)
    margins = sorted(row["margin"] for row in old if row["kept"])  # type: ignore[type-var]
    done = refilter(str(folder), threshold=float(margins[1]))  # type: ignore[arg-type]
    assert done.exit_status == 0
    new = _pairs(folder)
    assert [row["pair_id"] for row in new] == [row["pair_id"] for row in old]
    assert all(row["margin"] >= margins[1] for row in new if row["kept"])  # type: ignore[operator]
    assert sum(bool(row["kept"]) for row in new) < sum(bool(row["kept"]) for row in old)
    corpus = pq.read_table(folder / "corpus/direction=eng-frA/part-00000.parquet")
    assert {row["pair_id"] for row in new if row["kept"]} == set(corpus["pair_id"].to_pylist())
    after = {stage: marks(folder, stage) for stage in STAGES}
    assert {stage for stage in STAGES if before[stage] != after[stage]} == {"mine", "corpus"}
    assert read_config(str(folder)).mining.threshold == pytest.approx(margins[1])
    again = mine(first.config, folder)  # the configuration as it was: pairs and corpus as they were
    assert again.status == 0 and hashes(folder) == hashes(first.folder)


def test_precision_in_place_of_a_threshold(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["filter", str(folder), "--min-precision", "0.2"]) == 0
    assert "report:" in capsys.readouterr().out
    for direction in ("eng-frA", "frA-esA"):
        for row in _pairs(folder, direction):
            assert (row["precision_estimate"] < 0.2) == (row["drop_reason"] == "below_precision")  # type: ignore[operator]
    refilter(str(folder), fdr=0.5)
    config = read_config(str(folder)).mining
    assert (config.min_precision, config.fdr, config.threshold) == (None, 0.5, "auto")
    rows = _pairs(folder)
    table = pq.read_table(folder / "pairs/direction=eng-frA/part-00000.parquet")
    wanted = keep_fdr(table["precision_estimate"].to_numpy(), 0.5).tolist()
    assert [row["drop_reason"] != "below_precision" for row in rows] == wanted


def test_hours(folder: Path) -> None:
    refilter(str(folder), max_hours=2.0 / 3600)
    kept = [row for row in _pairs(folder) if row["kept"]]
    assert sum(row["tgt_end"] - row["tgt_start"] for row in kept) <= 2 * 16_000  # type: ignore[operator, misc]
    assert any(row["drop_reason"] == "beyond_max_hours" for row in _pairs(folder))


def test_what_cannot_be_chosen_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    before = hashes(folder)
    (tmp_path / "rebuilt").mkdir()
    (tmp_path / "rebuilt" / "run.yaml").write_text("metadata: [lines.tsv.gz]\ndigest: abc\n")
    for arguments, told in (
        ([str(folder)], "nothing to choose by"),
        ([str(tmp_path / "rebuilt"), "--threshold", "1.2"], "rebuilt: was rebuilt from metadata"),
        ([str(folder), "--min-precision", "2"], "mining.min_precision: input should be less than 1, not 2"),
        ([str(folder), "--threshold", "nan"], "mining.threshold"),
        ([str(tmp_path / "none"), "--fdr", "0.1"], "is not the folder of a run"),
    ):
        assert cli.main(["filter", *arguments]) == 2
        err = capsys.readouterr().err
        assert told in err and err.count("\n") == 1
    for mark in (folder / "state/done/search").iterdir():
        mark.unlink()
    with pytest.raises(InputError, match="the neighbours of eng-frA are not all found yet: finish the run first"):
        refilter(str(folder), threshold=1.0)
    assert hashes(folder) == before
