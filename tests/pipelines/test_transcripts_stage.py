"""Transcripts of pairs: what Whisper hears in each audio side, judged, counted and verified; and exported."""

import json
import shutil
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from seamlessalign import cli, storage
from seamlessalign.config import load_config
from seamlessalign.errors import ConfigError, InputError, ModelError
from seamlessalign.pipelines import transcripts_stage
from seamlessalign.pipelines.exports.export import Order, export_corpus
from seamlessalign.pipelines.folder import STAGES, RunFolder, stages_of
from seamlessalign.pipelines.plan import Asked, dry_run
from seamlessalign.pipelines.report import build_report
from seamlessalign.pipelines.side_tables import AudioSide
from seamlessalign.pipelines.status import read_status
from seamlessalign.pipelines.verify import verify_run
from seamlessalign.rows import TRANSCRIPTS
from seamlessalign.speech_sources import Sound, load_sound
from seamlessalign.whisper import Transcript, Whisper, load_whisper
from tests.ground.tiny_whisper import END, save_directory, tiny_model
from tests.pipelines.small_corpus import hashes
from tests.pipelines.test_units_stage import Tiny

_TABLES = ("recordings", "segments", "sentences", "pairs", "corpus", "quarantine", "units", "transcripts")


def write_whisper(folder: Path) -> Path:
    """A tiny Whisper of random weights that ends about half of what it hears."""
    model = tiny_model()
    with torch.no_grad():
        model.model.decoder.embed_tokens.weight[END] *= 2
    save_directory(folder, model)
    return folder


class Heard(Tiny):
    """The tiny run with a directory of units and a Whisper."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.whisper = write_whisper(root / "whisper")
        self.asked = ["transcripts.model=whisper", f"models.whisper={self.whisper}"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Heard:
    return Heard(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def whole(tiny: Heard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with units and transcripts."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert tiny.run(folder, *tiny.wanted, *tiny.asked).exit_status == 3  # one recording is set aside
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


def _line(folder: Path) -> dict[str, Any]:
    ledger = pq.read_table(folder / "ledger.parquet").to_pylist()
    (line,) = [row for row in ledger if row["stage"] == "transcripts"]
    return dict(line)


def test_every_audio_side_of_the_corpus_has_the_words_of_its_sound(tiny: Heard, whole: Path) -> None:
    """As each is heard by itself; or a reason is counted."""
    whisper = load_whisper("whisper", str(tiny.whisper))
    (file,) = (whole / "corpus").rglob("*.parquet")
    wanted, dropped = [], Counter[str]()
    for number, row in enumerate(_rows(whole, "corpus")):
        waveform = load_sound(Sound(str(file), number, "tgt_audio"), "", "")
        ((heard,),) = whisper.hear([waveform], row["tgt_lang"], ["transcribe"])
        data = heard.text.encode()
        if heard.looped or len(data) > 2.4 * len(zlib.compress(data)):
            dropped["loop"] += 1
        elif not heard.finished:
            dropped["unfinished"] += 1
        else:
            wanted.append((row["pair_id"], "tgt", "fra", heard.text, pytest.approx(heard.avg_logprob, abs=0.002)))
    found = _rows(whole, "transcripts")
    assert [tuple(row.values()) for row in found] == wanted and wanted
    line = _line(whole)
    assert dict(line["dropped"]) == dropped and dropped
    assert line["rows_in"] == len(wanted) + dropped.total() and line["rows_kept"] == len(wanted)
    (file,) = (whole / "transcripts").rglob("*.parquet")
    assert file.relative_to(whole).as_posix() == "transcripts/direction=eng-frA/part-00000.parquet"
    schema = pq.read_schema(file)
    assert schema.remove_metadata() == TRANSCRIPTS
    told = f"whisper {whisper.files.sha256}"
    assert schema.metadata[b"seamlessalign.transcripts"].decode() == told
    assert dict(line["models"]) == {"whisper": whisper.files.sha256}


def test_they_are_verified_and_told(whole: Path) -> None:
    checks = {check.name: check for check in verify_run(str(whole))}
    assert not any(check.wrong for check in checks.values())
    assert list(checks)[-3:] == ["units", "transcripts", "data"]
    assert checks["transcripts"].summary.startswith(f"{_line(whole)['rows_kept']} sides of the corpus as text, 0.00")
    assert read_status(str(whole))["stages"]["transcripts"]["done"] == 1
    assert "sides as text" in Path(build_report(str(whole))).read_text()
    assert stages_of(RunFolder(str(whole))) == (*STAGES, "units", "transcripts")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: rows[1:], "rows in transcripts, the ledger says"),
        (lambda rows: [*rows, rows[0]], "is there more than once"),
        (lambda rows: [rows[0] | {"side": "src"}, *rows[1:]], "is no audio of its shard"),
        (lambda rows: [rows[0] | {"text": " …"}, *rows[1:]], "has no words"),
        (lambda rows: [rows[0] | {"avg_logprob": 0.5}, *rows[1:]], "0.5 is the logarithm of no probability"),
        (lambda rows: [rows[0] | {"avg_logprob": float("nan")}, *rows[1:]], "of no probability"),
    ],
)
def test_verify_finds_what_was_changed(folder: Path, change: Callable[[list[Any]], list[Any]], told: str) -> None:
    (file,) = (folder / "transcripts").rglob("*.parquet")
    table = pq.ParquetFile(file).read()
    rows = pa.Table.from_pylist(change(table.to_pylist()), schema=TRANSCRIPTS)
    storage.write_table(str(file), rows.replace_schema_metadata(table.schema.metadata))
    assert any(told in sentence for sentence in _wrong(folder)), _wrong(folder)


@pytest.mark.parametrize(
    ("heard", "made"),
    [
        (Transcript(" le  chat\n", False, True, -1.5, 4), {"text": "le chat", "avg_logprob": -0.375}),
        (Transcript(" … ", False, True, -1.0, 2), "no_words"),
        (Transcript("le chat", True, False, -1.0, 9), "loop"),
        (Transcript("le chat et le chien " * 12, False, True, -1.0, 9), "loop"),
        (Transcript("le chat", False, False, -1.0, 9), "unfinished"),
    ],
)
def test_what_is_heard_is_judged(heard: Transcript, made: Any) -> None:
    maker = transcripts_stage._Transcripts(TRANSCRIPTS, {}, whisper=None, max_compression_ratio=2.4)
    assert maker._judged(heard) == made


def test_a_language_that_it_was_not_taught_is_counted(tiny: Heard) -> None:
    whisper = Whisper(load_whisper("whisper", str(tiny.whisper)).files)
    maker = transcripts_stage._Transcripts(TRANSCRIPTS, {}, whisper=whisper, max_compression_ratio=2.4)
    sides = [AudioSide(lang, load_sound(Sound("", 0, "", "fr", 155), "le chat", "")) for lang in ("deu", "zul", "fra")]
    made = maker.make(sides)
    assert made[:2] == ["unknown_language"] * 2 and made[2] != "unknown_language"


def test_a_plan_has_the_stage(tiny: Heard, whole: Path) -> None:
    config = load_config(str(tiny.config), tiny.asked)
    plan = dry_run(config, Asked(hours=10, sentences=1000, rates_from=str(whole))).plan
    assert plan is not None
    assert [stage.stage for stage in plan.stages] == [*STAGES, "transcripts"]
    line, sides = _line(whole), plan.pairs["eng-frA"] or 0
    work = sum(value for step, value in line["seconds"] if step != "load models")
    assert plan.stages[-1].core_hours == pytest.approx(sides * work / line["rows_in"] / 3600)


@pytest.mark.slow
def test_they_are_added_to_a_finished_run_and_taken_away_again(tiny: Heard, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = tiny.run(folder, *tiny.wanted).shards_done
    before = hashes(folder, _TABLES)
    added = tiny.run(folder, *tiny.wanted, *tiny.asked)
    assert (added.shards_done, added.shards_kept) == (1, done) and hashes(folder, _TABLES) == hashes(whole, _TABLES)
    assert tiny.run(folder, *tiny.wanted, *tiny.asked).shards_done == 0
    other = tiny.run(folder, *tiny.wanted, *tiny.asked, "transcripts.max_compression_ratio=1.1")
    assert other.shards_done == 1 and _wrong(folder) == []
    assert tiny.run(folder, *tiny.wanted).shards_done == 0
    assert hashes(folder, _TABLES) == before and _wrong(folder) == []
    assert not [path for path in folder.rglob("*") if "transcripts" in path.name]
    assert "transcripts" not in yaml.safe_load((folder / "run.yaml").read_text())


class TestWhatCannotBe:
    @pytest.mark.parametrize(
        ("override", "told"),
        [
            ("transcripts.sides=[]", "transcripts.sides"),
            ("transcripts.model=whisper-huge", "transcripts.model"),
            ("transcripts.beam=5", "unknown key 'transcripts.beam'"),
        ],
    )
    def test_a_configuration(self, tiny: Heard, override: str, told: str) -> None:
        with pytest.raises(ConfigError, match=told):
            load_config(str(tiny.config), [*tiny.asked, override])

    def test_no_side_that_can_be_heard(self, tiny: Heard, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="none of its sides is audio; leave the section out"):
            tiny.run(tmp_path / "run", *tiny.asked, "transcripts.sides=[src]")
        assert not (tmp_path / "run").exists()

    def test_a_whisper_that_is_not_there(self, tiny: Heard, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="whisper"):
            tiny.run(tmp_path / "run", "transcripts.model=whisper", f"models.whisper={tmp_path}")
        assert not (tmp_path / "run").exists()


class TestExport:
    def test_what_is_beside_the_corpus_goes_with_it(
        self, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main(["export", str(whole), "--to", str(tmp_path / "out"), "--workers", "1"]) == 0
        written = {
            file.relative_to(tmp_path / "out").as_posix(): pq.ParquetFile(file).read().to_pylist()
            for file in (tmp_path / "out").rglob("*.parquet")
        }
        places = {"corpus": "eng-frA", "units": "units/eng-frA", "transcripts": "transcripts/eng-frA"}
        assert written == {
            f"{place}/part-00000.parquet": _rows(whole, f"{table}/direction=eng-frA") for table, place in places.items()
        }
        told = capsys.readouterr().out.splitlines()
        assert told[0].startswith(f"eng-frA: {len(_rows(whole, 'corpus'))} pairs, ")
        assert told[-2:] == ["with them: transcripts, units", f"exported: {tmp_path / 'out'}"]

    def test_a_table_that_lacks_a_shard_is_refused(self, folder: Path, tmp_path: Path) -> None:
        (file,) = (folder / "units").rglob("*.parquet")
        file.unlink()
        with pytest.raises(InputError, match=r"units of eng-frA are not all made: finish the run first"):
            export_corpus(Order(str(folder), str(tmp_path / "out")))
        assert not (tmp_path / "out").exists()


def test_marks_name_the_table(whole: Path) -> None:
    (mark,) = (whole / "state" / "done" / "transcripts").iterdir()
    assert json.loads(mark.read_text())["outputs"] == ["transcripts/direction=eng-frA/part-00000.parquet"]
