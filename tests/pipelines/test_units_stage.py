"""Units of pairs: made by every executor, gone on with, verified; and no trace of them where none are wanted."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from seamlessalign import storage
from seamlessalign.config import load_config
from seamlessalign.errors import ConfigError, ModelError
from seamlessalign.pipelines import units_stage
from seamlessalign.pipelines.driver import JobResult
from seamlessalign.pipelines.folder import SIDE_STAGES, STAGES, RunFolder, stages_of
from seamlessalign.pipelines.ledger import read_marks, write_ledger
from seamlessalign.pipelines.plan import Asked, dry_run, dry_run_text, plan_json
from seamlessalign.pipelines.refilter import refilter
from seamlessalign.pipelines.report import build_report
from seamlessalign.pipelines.run import run
from seamlessalign.pipelines.status import read_status
from seamlessalign.pipelines.status_screen import status_text
from seamlessalign.pipelines.summary import summary_text
from seamlessalign.pipelines.task_log import read_log
from seamlessalign.pipelines.verify import verify_run
from seamlessalign.rows import UNITS
from seamlessalign.speech_sources import Sound, load_sound
from seamlessalign.training.units.config import FeatureChoice
from seamlessalign.training.units.extractor import UnitExtractor, card_of
from seamlessalign.training.units.features import open_features
from seamlessalign.training.units.files import Codebook, save_units
from seamlessalign.training.units.repeats import expand_units, reduce_units
from tests.faults.tiny_run import write_tiny_corpus
from tests.pipelines.real_slurm import slurm
from tests.pipelines.small_corpus import command, environment, hashes, program, spoken

_TABLES = ("recordings", "segments", "sentences", "pairs", "corpus", "quarantine", "units")


class Tiny:
    """The tiny run with a directory of units, and runs of it in this process."""

    def __init__(self, root: Path) -> None:
        self.config = write_tiny_corpus(root / "corpus")
        self.units = root / "units"
        write_units(self.units)
        self.wanted = [f"units.model={self.units}"]

    def run(self, folder: Path, *overrides: str, executor: str = "beam") -> JobResult:
        """On Beam's in-memory runner, in this process; `local` starts a worker that loads everything anew."""
        return run(load_config(str(self.config), list(overrides), str(folder)), executor)


def write_units(folder: Path, seed: int = 0) -> None:
    """Twenty centroids of filter banks: frames of speech, at random."""
    choice = FeatureChoice(kind="fbank")
    features = open_features(choice)
    (frames,) = features.frames([spoken("ita", (0, 1, 2))])
    codebook = Codebook(np.random.default_rng(seed).permutation(frames)[:20])
    save_units(folder, codebook, card_of(choice, features, codebook))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def whole(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with units."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert tiny.run(folder, *tiny.wanted).exit_status == 3  # one recording is set aside
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def _rows(folder: Path, table: str) -> list[dict[str, Any]]:
    return [
        row for file in sorted((folder / table).rglob("*.parquet")) for row in pq.ParquetFile(file).read().to_pylist()
    ]


def _wrong(folder: Path) -> list[str]:
    return [sentence for check in verify_run(str(folder)) for sentence in check.wrong]


def test_every_audio_side_of_the_corpus_has_the_units_of_its_sound(tiny: Tiny, whole: Path) -> None:
    extractor = UnitExtractor.load(str(tiny.units))
    corpus, units = _rows(whole, "corpus"), _rows(whole, "units")
    assert [(row["pair_id"], row["side"], row["lang"]) for row in units] == [
        (row["pair_id"], "tgt", row["tgt_lang"]) for row in corpus
    ]
    (file,) = (whole / "corpus").rglob("*.parquet")
    for number, row in enumerate(units):
        waveform = load_sound(Sound(str(file), number, "tgt_audio"), "", "")
        slow = extractor.extract(waveform)
        assert expand_units(row["units"], row["durations"]).tolist() == slow.tolist()
        assert row["units"] == reduce_units(slow)[0].tolist() and len(set(slow.tolist())) > 3
    (file,) = (whole / "units").rglob("*.parquet")
    assert file.relative_to(whole).as_posix() == "units/direction=eng-frA/part-00000.parquet"
    schema = pq.read_schema(file)
    assert schema.remove_metadata() == UNITS
    assert schema.metadata[b"seamlessalign.units"].decode() == extractor.card.fingerprint


def test_they_are_counted_verified_and_told(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checks = {check.name: check for check in verify_run(str(whole))}
    assert not any(check.wrong for check in checks.values())
    assert list(checks)[-2:] == ["units", "data"]
    corpus = _rows(whole, "corpus")
    assert checks["units"].summary.startswith(f"{len(corpus)} sides of the corpus as units, 0.00")
    status = read_status(str(whole))
    assert status["state"] == "done" and status["not_planned"] == []
    units = status["stages"]["units"]
    assert (units["shards"], units["done"], units["rows_in"]) == (1, 1, len(corpus)) and units["hours_in"] > 0
    assert "units " in status_text(status)
    ledger = pq.read_table(whole / "ledger.parquet").to_pylist()
    (line,) = [row for row in ledger if row["stage"] == "units"]
    samples = sum(row["tgt_end"] - row["tgt_start"] for row in corpus)
    assert line["rows_kept"] == len(corpus) and line["samples_kept"] == samples
    assert dict(line["models"]).keys() == {"units"} and dict(line["seconds"]).keys() == {
        "load models",
        "decode",
        "extract",
    }
    assert "sides as units" in Path(build_report(str(whole))).read_text()
    assert stages_of(RunFolder(str(whole))) == (*STAGES, "units")


def test_a_run_without_units_has_no_trace_of_them(tiny: Tiny, whole: Path, tmp_path: Path) -> None:
    """Everything else has the same bytes, and the digests are those that they were before there were units."""
    plain = tmp_path / "plain"
    result = tiny.run(plain)
    assert hashes(plain) == {name: value for name, value in hashes(whole).items() if not name.startswith("units/")}
    assert not [path for path in plain.rglob("*") if "units" in path.name]
    config, other = (yaml.safe_load((one / "run.yaml").read_text()) for one in (plain, whole))
    assert "units" not in config and "units" not in config["resources"]["slurm"]["stages"] and "units" in other
    for stage in STAGES:
        ours, theirs = (read_marks(RunFolder(str(one)), stage) for one in (plain, whole))
        assert {name: mark.digest for name, mark in ours.items()} == {
            name: mark.digest for name, mark in theirs.items()
        }
    assert set(read_status(str(plain))["stages"]) == set(STAGES)
    assert (
        "units" not in summary_text(result).replace(str(plain), "")
        and [check.name for check in verify_run(str(plain))][-1] == "data"
    )


def test_digests_are_those_of_the_version_before(tiny: Tiny, tmp_path: Path) -> None:
    """Of a configuration that says nothing of units and transcripts, as when there were no such sections."""
    from seamlessalign.config import RunConfig, dump_config
    from seamlessalign.typed_config import digest

    config = load_config(str(tiny.config))
    whole = config.model_dump(mode="json")
    for section in SIDE_STAGES:
        assert whole.pop(section) is None and whole["resources"]["slurm"]["stages"].pop(section) is not None
    assert dump_config(config) == whole and list(dump_config(config)) == list(whole)
    assert digest(dump_config(config)) == digest(whole)
    assert isinstance(config, RunConfig)


@pytest.mark.slow
def test_units_are_added_to_a_finished_run_and_taken_away_again(tiny: Tiny, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = tiny.run(folder).shards_done
    before = hashes(folder, _TABLES)
    added = tiny.run(folder, *tiny.wanted)
    assert (added.shards_done, added.shards_kept) == (1, done) and hashes(folder, _TABLES) == hashes(whole, _TABLES)
    assert _wrong(folder) == []
    again = tiny.run(folder, *tiny.wanted)
    assert again.shards_done == 0
    taken = tiny.run(folder)
    assert taken.shards_done == 0 and hashes(folder, _TABLES) == before and _wrong(folder) == []
    assert not [path for path in folder.rglob("*") if "units" in path.name]


@pytest.mark.slow
def test_other_centroids_make_units_again_and_nothing_else(tiny: Tiny, folder: Path, tmp_path: Path) -> None:
    write_units(tmp_path / "others", seed=1)
    done = tiny.run(folder, f"units.model={tmp_path / 'others'}")
    assert done.shards_done == 1
    assert _rows(folder, "units") != [] and _wrong(folder) == []
    assert tiny.run(folder, *tiny.wanted, "units.sides=[src]").shards_done == 1
    assert _rows(folder, "units") == [] and _wrong(folder) == []  # the source is text


@pytest.mark.slow
def test_choosing_again_makes_units_of_what_is_kept_then(tiny: Tiny, folder: Path) -> None:
    margins = sorted(row["margin"] for row in _rows(folder, "pairs"))
    refilter(str(folder), threshold=margins[len(margins) // 2])
    kept = [row["pair_id"] for row in _rows(folder, "corpus")]
    assert 0 < len(kept) < len(margins) and [row["pair_id"] for row in _rows(folder, "units")] == kept
    assert _wrong(folder) == []


@pytest.mark.slow
def test_a_local_run_that_is_killed_has_the_same_bytes_as_one_on_beam(tiny: Tiny, whole: Path, tmp_path: Path) -> None:
    """SIGKILL to all its processes when the stage begins, and when its table is there and its mark is not."""
    folder = tmp_path / "run"
    marks = folder / "state" / "done" / "units"
    moments: list[Callable[[], bool]] = [
        (folder / "state" / "plan" / "units.json").exists,
        lambda: any((folder / "logs" / "units").rglob("*.jsonl")),
    ]
    for moment in moments:
        started = subprocess.Popen(
            command("run", tiny.config, "--output", folder, *tiny.wanted), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env=environment(), start_new_session=True,
        )  # fmt: skip
        until = time.monotonic() + 300
        while not moment():
            assert started.poll() is None and time.monotonic() < until
            time.sleep(0.001)
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()
        assert not list(marks.glob("*.json")) and not (folder / "ledger.parquet").exists()
    done = program("run", tiny.config, "--output", folder, *tiny.wanted)
    assert done.returncode == 3, done.stderr
    assert hashes(folder, _TABLES) == hashes(whole, _TABLES) and _wrong(folder) == []
    assert read_status(str(folder))["state"] == "done" and "units" in done.stdout


@pytest.mark.slow
def test_slurm_makes_the_same_bytes(
    tiny: Tiny, whole: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a task of a job array, behind a corpus that is there."""
    pytest.importorskip("submitit", reason="needs the extra 'slurm'")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    shutil.rmtree(folder / "units")
    asks = ["resources.slurm.cpus=1", "resources.slurm.memory_gb=3", "resources.slurm.stages.units.minutes=10"]
    (tmp_path / "daemons").mkdir()
    with slurm(tmp_path / "daemons"):
        done = tiny.run(folder, *tiny.wanted, *asks, executor="slurm")
    assert done.shards_done == 1 and hashes(folder, _TABLES) == hashes(whole, _TABLES)
    (mark,) = read_marks(RunFolder(str(folder)), "units").values()
    assert [event for event in read_log(RunFolder(str(folder)), "units", mark.shard) if event.get("job")]
    assert _wrong(folder) == []


def test_what_is_too_short_is_counted(tiny: Tiny, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by features that need more than a pair has."""

    class Deaf:
        card = UnitExtractor.load(str(tiny.units)).card

        @staticmethod
        def extract_batch(waveforms: list[Any]) -> list[Any]:
            return [np.zeros(0, np.int32) for _ in waveforms]

    monkeypatch.setattr(units_stage, "_load", lambda *_: Deaf())
    context = _context(tiny, folder)
    (task,) = _tasks(tiny, folder)
    mark = units_stage.process(task.shard, task.digest, context)
    (line,) = mark.lines
    assert (
        line.rows_kept == 0
        and line.dropped == {"too_short": line.rows_in}
        and line.samples_in == sum(line.samples_dropped.values())
    )


def _context(tiny: Tiny, folder: Path) -> Any:
    from seamlessalign.pipelines.context import Context

    return Context(load_config(str(tiny.config), tiny.wanted, str(folder)), str(folder), "cpu", 1)


def _tasks(tiny: Tiny, folder: Path) -> Any:
    from seamlessalign.pipelines.shard_task import read_input_tasks
    from seamlessalign.pipelines.stage_plans import StagePlanner

    digests = [
        [task.digest for task in read_input_tasks(RunFolder(str(folder)), stage)] for stage in ("speech", "text")
    ]
    return StagePlanner(_context(tiny, folder), (digests[0], digests[1]), 1).plan("units").tasks


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: rows[1:], "rows in units, the ledger says"),
        (lambda rows: [*rows, rows[0]], "is there more than once"),
        (lambda rows: [rows[0] | {"pair_id": "0123456789abcdef"}, *rows[1:]], "is no audio of its shard"),
        (lambda rows: [rows[0] | {"side": "src"}, *rows[1:]], "is no audio of its shard"),
        (lambda rows: [rows[0] | {"units": [20, *rows[0]["units"][1:]]}, *rows[1:]], "are no reduced units below 20"),
        (
            lambda rows: [rows[0] | {"units": [rows[0]["units"][1], *rows[0]["units"][1:]]}, *rows[1:]],
            "no reduced units",
        ),
        (lambda rows: [rows[0] | {"durations": rows[0]["durations"][1:]}, *rows[1:]], "are no reduced units"),
        (
            lambda rows: [rows[0] | {"durations": [rows[0]["durations"][0] + 3, *rows[0]["durations"][1:]]}, *rows[1:]],
            "its units last",
        ),
    ],
)
def test_verify_finds_what_was_changed(folder: Path, change: Callable[[list[Any]], list[Any]], told: str) -> None:
    (file,) = (folder / "units").rglob("*.parquet")
    table = pq.ParquetFile(file).read()
    rows = pa.Table.from_pylist(change(table.to_pylist()), schema=UNITS).replace_schema_metadata(table.schema.metadata)
    storage.write_table(str(file), rows)
    assert any(told in sentence for sentence in _wrong(folder)), _wrong(folder)


def test_verify_finds_a_shard_that_is_not_done(folder: Path) -> None:
    (mark,) = (folder / "state" / "done" / "units").iterdir()
    mark.unlink()
    write_ledger(RunFolder(str(folder)), stages_of(RunFolder(str(folder))))
    assert any("not done" in sentence and "units" in sentence for sentence in _wrong(folder))


def test_verify_finds_counts_that_are_others(folder: Path) -> None:
    (file,) = (folder / "state" / "done" / "units").iterdir()
    mark = json.loads(file.read_text())
    mark["lines"][0]["samples_in"] += 1
    mark["lines"][0]["samples_kept"] += 1
    file.write_text(json.dumps(mark))
    write_ledger(RunFolder(str(folder)), stages_of(RunFolder(str(folder))))
    assert any("samples come in" in sentence for sentence in _wrong(folder))


def test_a_plan_has_the_stage(tiny: Tiny, whole: Path) -> None:
    config = load_config(str(tiny.config), tiny.wanted)
    asked = Asked(hours=10, sentences=1000, rates_from=str(whole))
    plan = dry_run(config, asked)
    assert plan.plan is not None
    (units,) = [stage for stage in plan.plan.stages if stage.stage == "units"]
    line = next(row for row in pq.read_table(whole / "ledger.parquet").to_pylist() if row["stage"] == "units")
    sides = plan.plan.pairs["eng-frA"] or 0
    work = sum(value for step, value in line["seconds"] if step != "load models")
    assert units.core_hours == pytest.approx(sides * work / line["rows_in"] / 3600)
    assert units.written == pytest.approx(sides * line["bytes_written"] / line["rows_in"])
    assert "units " in dry_run_text(plan) and "units" in json.dumps(plan_json(plan))
    slurm = dry_run(config, Asked(hours=10, sentences=1000, rates_from=str(whole), executor="slurm"))
    assert "units" in slurm.workers
    without = dry_run(load_config(str(tiny.config)), asked)
    assert without.plan is not None and [stage.stage for stage in without.plan.stages] == list(STAGES)


class TestWhatCannotBe:
    def test_a_directory_without_units(self, tiny: Tiny, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"has no units\.json: name a directory that"):
            tiny.run(tmp_path / "run", f"units.model={tmp_path}")
        assert not (tmp_path / "run").exists()

    def test_a_model_of_frames_that_is_another(self, tiny: Tiny, tmp_path: Path) -> None:
        write_units(tmp_path / "units")
        card = json.loads((tmp_path / "units" / "units.json").read_text())
        (tmp_path / "units" / "units.json").write_text(json.dumps(card | {"models": {"student": "0" * 64}}))
        with pytest.raises(ModelError, match=r"frames of 'student' with SHA-256 0000.*models\.student"):
            tiny.run(tmp_path / "run", f"units.model={tmp_path / 'units'}")

    @pytest.mark.parametrize(
        ("override", "told"),
        [
            ("units.sides=[]", "units.sides"),
            ("units.sides=[left]", "units.sides"),
            ("units.layer=3", "unknown key 'units.layer'"),
        ],
    )
    def test_a_configuration(self, tiny: Tiny, override: str, told: str) -> None:
        with pytest.raises(ConfigError, match=told):
            load_config(str(tiny.config), [*tiny.wanted, override])

    def test_paths_are_those_of_the_file(self, tiny: Tiny, tmp_path: Path) -> None:
        raw = yaml.safe_load(tiny.config.read_text()) | {"units": {"model": "mine"}}
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(raw))
        config = load_config(str(tmp_path / "c.yaml"))
        assert config.units is not None and config.units.model == str(tmp_path / "mine")
