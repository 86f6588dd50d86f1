"""`seamlessalign units`: tables of units of speech that no run has."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from seamlessalign import cli
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.training.units.config import FeatureChoice
from seamlessalign.training.units.extractor import UnitExtractor, card_of
from seamlessalign.training.units.features import open_features
from seamlessalign.training.units.files import Codebook, save_units
from seamlessalign.training.units.repeats import expand_units
from tests.training.units.models import sound

_SECONDS = (1.0, 0.4, 2.0, 0.01)


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("units")
    choice = FeatureChoice(kind="fbank")
    features = open_features(choice)
    codebook = Codebook(features.frames([sound(2.0, 7)])[0][:20].copy())
    save_units(folder, codebook, card_of(choice, features, codebook))
    return folder


def _wav(seconds: float, seed: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, sound(seconds, seed), SAMPLE_RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sounds, the last too short for a unit, one that is none, and one in no language."""
    folder = tmp_path_factory.mktemp("table")
    sounds = [{"bytes": _wav(seconds, i), "path": f"{i}.wav"} for i, seconds in enumerate(_SECONDS)]
    sounds += [{"bytes": b"RIFF", "path": "x.wav"}, sounds[0]]
    rows = {"audio": sounds, "lang": ["fra", "fra", "eng", "eng", "eng", "??"], "speaker": list(range(6))}
    pq.write_table(pa.table(rows), folder / "speech.parquet", row_group_size=2)
    return folder / "speech.parquet"


def test_every_row_has_its_units_and_the_rest_is_counted(
    units: Path,
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("seamlessalign.training.units.tables._TELL_EVERY", 2)
    target, extractor = tmp_path / "units.parquet", UnitExtractor.load(str(units))
    command = ["units", str(table), "--model", str(units), "--to", str(target), "--keep", "speaker", "--keep", "audio"]
    assert cli.main(command) == 3
    told = capsys.readouterr()
    assert f"units: {target}, 3 rows, 0.001 h" in told.out
    assert "seamlessalign: 3 rows, 0.00 h so far" in told.err.splitlines()
    said = [line for line in told.err.splitlines() if "set aside" in line]
    assert said == [f"seamlessalign: 1 set aside: {why}" for why in ("not_audio", "too_short", "unknown_language")]
    made = pq.read_table(target)
    given = pq.read_table(table)
    assert made.schema.names == ["key", "lang", "units", "durations", "speaker", "audio"]
    assert (
        made.schema.field("speaker").type == pa.int64()
        and made.schema.field("audio").type == given.schema.field("audio").type
    )
    assert made.schema.metadata[b"seamlessalign.units"].decode() == extractor.card.fingerprint
    rows = made.to_pylist()
    assert [(row["lang"], row["speaker"]) for row in rows] == [("fra", 0), ("fra", 1), ("eng", 2)]
    for i, row in enumerate(rows):
        assert row["audio"]["bytes"] == given["audio"][i].as_py()["bytes"]
        whole = expand_units(row["units"], row["durations"])
        assert whole.tolist() == extractor.extract(sound(_SECONDS[i], i)).tolist() and len(set(whole.tolist())) > 2
    assert len({row["key"] for row in rows}) == 3


def test_a_folder_with_a_manifest(units: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "a.wav", sound(1.0), SAMPLE_RATE)
    (tmp_path / "in" / "speech.tsv").write_text("path\tspeaker\na.wav\tAnn\n")
    target = tmp_path / "units.parquet"
    command = ["units", str(tmp_path / "in"), "--model", str(units), "--to", str(target), "--keep", "speaker"]
    assert cli.main([*command, "--lang", "eng"]) == 0
    (row,) = pq.read_table(target).to_pylist()
    assert (row["lang"], row["speaker"], sum(row["durations"])) == ("eng", "Ann", 49)
    assert cli.main(command) == 2 and "lang" in capsys.readouterr().err


def test_of_a_manifest_the_sound_itself_can_be_kept(units: Path, tmp_path: Path) -> None:
    """So that a vocoder can be taught by the table alone; and what JSON has besides texts."""
    lines: list[dict[str, Any]] = [
        {"path": "é.flac", "speaker": 3},
        {"path": "sub/b.wav", "speaker": ["a", "ü"]},
        {"path": "c.wav"},
    ]
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for i, line in enumerate(lines):
        soundfile.write(tmp_path / "in" / str(line["path"]), sound(1.0, i), SAMPLE_RATE)
    (tmp_path / "in" / "speech.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    target = tmp_path / "units.parquet"
    command = ["units", str(tmp_path / "in"), "--model", str(units), "--to", str(target), "--lang", "eng"]
    assert cli.main([*command, "--keep", "audio", "--keep", "speaker"]) == 0
    rows = pq.read_table(target).to_pylist()
    assert [row["speaker"] for row in rows] == ["3", '["a", "ü"]', None]
    assert [row["audio"]["path"] for row in rows] == ["é.flac", "b.wav", "c.wav"]
    for line, row in zip(lines, rows, strict=True):
        assert row["audio"]["bytes"] == (tmp_path / "in" / str(line["path"])).read_bytes()
    again = ["units", str(target), "--model", str(units), "--to", str(tmp_path / "again.parquet")]
    assert cli.main(again) == 0
    assert pq.read_table(tmp_path / "again.parquet").to_pylist() == [
        {name: row[name] for name in ("key", "lang", "units", "durations")} for row in rows
    ]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--keep", "units"], "--keep units: the table has a column of this name"),
        (["--keep", "pitch"], "lacks the column pitch"),
        (["--models", "whisper-base"], "write NAME=DIR"),
        (["--threads", "0"], "--threads is 0"),
        (["--audio-column", "sound"], "lacks the columns sound"),
    ],
)
def test_what_cannot_be(
    units: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], told: str
) -> None:
    target = tmp_path / "units.parquet"
    assert cli.main(["units", str(table), "--model", str(units), "--to", str(target), *more]) == 2
    assert told in capsys.readouterr().err and not target.exists() and not list(tmp_path.iterdir())


def test_nothing_that_can_be_read(units: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(pa.table({"audio": [b"no"], "lang": ["eng"]}), tmp_path / "in.parquet")
    command = ["units", str(tmp_path / "in.parquet"), "--model", str(units), "--to", str(tmp_path / "units.parquet")]
    assert cli.main(command) == 2
    assert "nothing to learn from: 1 not_audio" in capsys.readouterr().err
    assert cli.main(["units", "absent.parquet", *command[2:]]) == 2
    assert cli.main(["units", "absent.parquet", "--model", str(tmp_path), *command[4:]]) == 2
    assert "train units" in capsys.readouterr().err


def test_slurm_is_not_for_what_one_process_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "units", str(tmp_path / "c.yaml"), "--executor", "slurm"]) == 2
    assert "give it to sbatch" in capsys.readouterr().err


def test_silence_is_set_aside(units: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sounds = [_wav(1.0, 0)]
    file = io.BytesIO()
    soundfile.write(file, np.zeros(SAMPLE_RATE), SAMPLE_RATE, format="WAV")
    pq.write_table(pa.table({"audio": [*sounds, file.getvalue()], "lang": ["eng", "eng"]}), tmp_path / "in.parquet")
    command = ["units", str(tmp_path / "in.parquet"), "--model", str(units), "--to", str(tmp_path / "units.parquet")]
    assert cli.main(command) == 3
    assert "1 set aside: silent" in capsys.readouterr().err
