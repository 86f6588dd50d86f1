"""A run that is started again: it does what is not done, and no more, and the bytes are those of one run."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from seamlessalign import storage
from seamlessalign.config import load_config
from seamlessalign.errors import ConfigError, ModelError, SeamlessAlignError
from seamlessalign.pipelines.context import Context
from seamlessalign.pipelines.driver import JobResult
from seamlessalign.pipelines.folder import STAGES
from seamlessalign.pipelines.local import LocalExecutor
from seamlessalign.pipelines.run import run
from seamlessalign.pipelines.shard_task import ShardTask, do_shard
from seamlessalign.pipelines.status import read_status
from tests.pipelines.small_corpus import SmallRun, complaint, finished_run, hashes, marks, mine

pytestmark = pytest.mark.embedded

SHARDS = {"speech": 5, "text": 2, "decoys": 1, "reduce": 0, "gather": 3, "index": 0, "search": 3, "mine": 3}
SHARDS["corpus"] = 3


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    made = finished_run(tmp_path_factory.getbasetemp())
    assert made.status == 0, made.err
    return made


@pytest.fixture
def folder(first: SmallRun, tmp_path: Path) -> Path:
    return first.copy(tmp_path / "run")


def _run(first: SmallRun, folder: Path, *overrides: str) -> JobResult:
    return run(load_config(str(first.config), list(overrides), str(folder)))


def _all_marks(folder: Path) -> dict[str, dict[str, int]]:
    return {stage: marks(folder, stage) for stage in STAGES}


def test_a_run_can_be_gone_on_with_from_its_own_folder_alone(
    first: SmallRun, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = load_config(str(first.folder / "run.yaml"))
    assert config.output == str(first.folder)
    done = run(load_config(str(folder / "run.yaml"), output=str(folder)))
    assert (done.shards_done, done.shards_kept) == (0, 20)


def test_a_finished_run_does_nothing(first: SmallRun, folder: Path) -> None:
    assert {stage: len(done) for stage, done in _all_marks(folder).items()} == SHARDS
    before = hashes(folder), _all_marks(folder), (folder / "ledger.parquet").read_bytes()
    again = mine(first.config, folder)
    assert again.status == 0 and again.err == ""
    assert "20 shards had been done before, 0 were done now" in again.out
    assert (hashes(folder), _all_marks(folder), (folder / "ledger.parquet").read_bytes()) == before
    assert hashes(folder) == hashes(first.folder)


def test_other_resources_do_nothing_again(first: SmallRun, folder: Path) -> None:
    before = _all_marks(folder)
    done = _run(first, folder, "resources.workers=2", "resources.threads=2", "resources.shards_per_group=3")
    assert (done.shards_done, done.shards_kept) == (0, 20)
    assert _all_marks(folder) == before and hashes(folder) == hashes(first.folder)


def test_another_threshold_mines_again_and_embeds_nothing(first: SmallRun, folder: Path) -> None:
    before = _all_marks(folder)
    done = _run(first, folder, "mining.threshold=1.01")
    after = _all_marks(folder)
    assert (done.shards_done, done.shards_kept) == (6, 14)
    assert {stage for stage in STAGES if before[stage] != after[stage]} == {"mine", "corpus"}
    assert hashes(folder, ["recordings", "segments", "sentences"]) == hashes(
        first.folder, ["recordings", "segments", "sentences"]
    )
    for file in (folder / "pairs").rglob("*.parquet"):
        pairs, old = pq.ParquetFile(file).read(), pq.ParquetFile(first.folder / file.relative_to(folder)).read()
        assert pairs.select(["pair_id", "margin"]) == old.select(["pair_id", "margin"])
        assert all(row["kept"] <= (row["margin"] >= 1.01) for row in pairs.to_pylist())
        assert pq.read_schema(file).metadata[b"seamlessalign.threshold"] == b"1.01"


def test_reduced_rows_are_gathered_anew_and_nothing_is_embedded_again(first: SmallRun, folder: Path) -> None:
    before = _all_marks(folder)
    done = _run(first, folder, "mining.reduce.dim=16", "mining.threshold=1.0")
    after = _all_marks(folder)
    assert (done.shards_done, done.shards_kept) == (13, 8)
    assert {stage for stage in STAGES if before[stage] == after[stage]} == {"speech", "text", "decoys", "index"}
    reduced = hashes(folder)
    again = _run(first, folder, "mining.reduce.dim=16", "mining.threshold=1.0")
    assert (again.shards_done, again.shards_kept) == (0, 21) and hashes(folder) == reduced
    (folder / "state/mining/reduction/all-sides.safetensors").unlink()
    mended = _run(first, folder, "mining.reduce.dim=16", "mining.threshold=1.0")
    assert (mended.shards_done, mended.shards_kept) == (1, 20) and hashes(folder) == reduced
    _run(first, folder)
    assert not list((folder / "state/mining/reduction").rglob("*.*")) and hashes(folder) == hashes(first.folder)


def test_what_is_gone_or_does_not_belong_is_mended(first: SmallRun, folder: Path) -> None:
    """As if processes had been killed between writing and marking, files had been lost, and inputs been replaced."""
    shutil.copy(folder / "segments/lang=fra/part-00000.parquet", folder / "segments/lang=fra/part-00099.parquet")
    (folder / "segments/lang=deu").mkdir()
    shutil.copy(folder / "segments/lang=fra/part-00000.parquet", folder / "segments/lang=deu/part-00000.parquet")
    (folder / "corpus/direction=eng-frA/.writing-part-00000.parquet.1.2").write_bytes(b"half")
    (folder / "quarantine").mkdir()
    (folder / "quarantine/speech-part-00000.jsonl").write_text("{}\n")
    mark = (folder / "state/done/speech/part-00000.json").read_text()
    (folder / "state/done/speech/part-00099.json").write_text(mark.replace("part-00000", "part-00099"))
    (folder / "sentences/lang=eng/part-00001.parquet").unlink()
    before = _all_marks(folder)
    done = _run(first, folder)
    assert (done.shards_done, done.shards_kept) == (1, 19)  # the same sentences again: what came of them stays
    changed = {
        (stage, shard)
        for stage, shards in _all_marks(folder).items()
        for shard in shards | before[stage]
        if shards.get(shard) != before[stage].get(shard)
    }
    assert changed == {("text", "part-00001"), ("speech", "part-00099")}
    assert hashes(folder) == hashes(first.folder)
    assert not list(folder.rglob(".writing-*"))


def test_a_table_of_pairs_that_is_gone_is_made_again(first: SmallRun, folder: Path) -> None:
    (folder / "pairs/direction=eng-frA/part-00000.parquet").unlink()
    done = _run(first, folder)
    assert (done.shards_done, done.shards_kept) == (1, 19)
    assert hashes(folder) == hashes(first.folder)


@pytest.mark.slow
def test_a_changed_input_is_read_again(
    first: SmallRun, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the time of a copy that was touched: other tests read the file itself meanwhile."""
    text, copy = first.config.parent / "texts" / "a.txt", tmp_path / "a.txt"
    shutil.copy2(text, copy)
    was = copy.stat()
    versions = storage.list_versions(str(text.parent))
    assert storage.versions([str(copy)]) == {str(copy): versions[str(text)]}
    os.utime(copy, ns=(was.st_atime_ns, was.st_mtime_ns + 5_000_000_000))
    touched = {**versions, str(text): storage.versions([str(copy)])[str(copy)]}
    monkeypatch.setattr(storage, "list_versions", {str(text.parent): touched}.__getitem__)
    before = _all_marks(folder)
    done = _run(first, folder)
    after = _all_marks(folder)
    assert (done.shards_done, done.shards_kept) == (14, 6)  # speech against speech too: the text lends it decoys
    assert after["speech"] == before["speech"]
    assert after["text"]["part-00000"] != before["text"]["part-00000"]
    assert after["text"]["part-00001"] == before["text"]["part-00001"]


def test_what_another_configuration_left_half_done_is_not_taken_for_ones_own(
    first: SmallRun, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between writing pairs of another threshold and marking them, then started as it was before."""

    def execute(
        self: LocalExecutor,
        stage: str,
        tasks: list[ShardTask],
        context: Context,
        progress: Callable[..., Any],
    ) -> None:
        for task in tasks:
            do_shard(task, context)
        raise SeamlessAlignError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(LocalExecutor, "execute", execute)
        with pytest.raises(SeamlessAlignError, match="killed"):
            _run(first, folder, "mining.threshold=1.02")
    assert hashes(folder, ["pairs"]) != hashes(first.folder, ["pairs"])
    status = read_status(str(folder))
    assert (status["state"], status["now"]["error"]) == ("failed", "killed")
    done = _run(first, folder)
    assert (done.shards_done, done.shards_kept) == (3, 17)
    assert hashes(folder) == hashes(first.folder)
    assert read_status(str(folder))["state"] == "done"


def test_a_second_driver_is_refused(first: SmallRun, folder: Path) -> None:
    before = hashes(folder), _all_marks(folder)
    with (folder / "state" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = mine(first.config, folder, "mining.threshold=2")
    assert (second.status, second.out) == (1, "")
    assert second.err == f"seamlessalign: {folder}: another run is at work in this folder; wait for it\n"
    assert complaint(second.err) and (hashes(folder), _all_marks(folder)) == before


def test_a_shard_that_cannot_be_written_is_one_line(first: SmallRun, folder: Path) -> None:
    """The error comes from inside a worker and through Beam, which has much to say about it."""
    pairs = folder / "pairs" / "direction=eng-frA" / "part-00000.parquet"
    pairs.unlink()
    pairs.mkdir()
    failed = mine(first.config, folder)
    assert failed.status == 2 and failed.out == ""
    assert complaint(failed.err).startswith(f"seamlessalign: {pairs}: cannot be written: ")
    assert len(failed.err.splitlines()) == 1, failed.err
    assert read_status(str(folder))["state"] == "failed"


@pytest.mark.parametrize(
    ("overrides", "error", "told"),
    [
        (["mining.threshold=auto", "mining.margin=distance"], ModelError, "threshold: auto is known for margin ratio"),
        (["resources.device=cuda"], ConfigError, "sees no GPU"),
    ],
)
def test_what_cannot_work_is_told_before_any_work(
    first: SmallRun, folder: Path, overrides: list[str], error: type[Exception], told: str
) -> None:
    torch = pytest.importorskip("torch")
    if "cuda" in overrides[0] and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    before = _all_marks(folder)
    with pytest.raises(error, match=told):
        _run(first, folder, "speech.vad.threshold=0.4", *overrides)
    assert _all_marks(folder) == before and hashes(folder) == hashes(first.folder)
