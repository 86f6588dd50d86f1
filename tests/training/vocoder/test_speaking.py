"""`seamlessalign speak`: tables of units as sound files that say what the vocoder says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch

from seamlessalign import cli
from seamlessalign.training.vocoder.generator import make_generator
from seamlessalign.training.vocoder.model import load_vocoder, save_vocoder
from tests.training.vocoder.tone_world import UNITS, parsed, vocoder_config

ROWS: list[dict[str, Any]] = [
    {"key": "a", "units": [1, 4, 0], "durations": [3, 1, 2], "lang": "fra", "speaker": "Jürgen"},
    {"key": "b", "units": [1, UNITS], "durations": [1, 1], "lang": "eng", "speaker": None},
    {"key": "c", "units": [5, 5, 2], "durations": [1, 2, 1], "lang": "eng", "speaker": None},  # not reduced
    {"key": "d", "units": [1], "durations": [1], "lang": "deu", "speaker": None},
    {"key": "e", "units": [1], "durations": [1], "lang": "eng", "speaker": "Eve"},
    {"key": "f", "units": [], "durations": [], "lang": "eng", "speaker": None},
    {"key": "g", "units": [2, 3], "durations": [1], "lang": "eng", "speaker": None},
]


@pytest.fixture(scope="module")
def vocoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(4)
    folder = tmp_path_factory.mktemp("vocoder")
    made = make_generator(parsed(vocoder_config(folder)).model, 2, 2).eval()
    with torch.no_grad():  # so that durations are not all 1, and not those of the table
        made.dur_predictor.proj.bias += 2.0
    save_vocoder(made, ["eng", "fra"], ["Anna", "Jürgen"], folder, centroids="f1")
    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("table") / "units.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), file, row_group_size=3)
    return file


@pytest.mark.parametrize("timed", [False, True])
def test_every_row_is_said_or_counted(
    vocoder: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], timed: bool
) -> None:
    command = ["speak", str(table), "--vocoder", str(vocoder), "--to", str(tmp_path / "out"), *["--timed"] * timed]
    assert cli.main(command) == 3
    told = capsys.readouterr()
    assert f"speech: {tmp_path / 'out'}, 2 rows" in told.out
    reasons = ["no_units", "unknown_language", "unknown_speaker", "unknown_unit", "wrong_units"]
    assert told.err.splitlines() == [f"seamlessalign: 1 set aside: {reason}" for reason in reasons]
    lines = [json.loads(line) for line in (tmp_path / "out" / "speech.jsonl").read_text().splitlines()]
    assert [(line["key"], line["lang"], line.get("speaker")) for line in lines] == [
        ("a", "fra", "Jürgen"), ("c", "eng", None)
    ]  # fmt: skip
    model = load_vocoder(vocoder)
    given = [([1, 4, 0], "fra", "Jürgen", [3, 1, 2]), ([5, 2], "eng", "Anna", [3, 1])]
    for line, (units, lang, speaker, durations) in zip(lines, given, strict=True):
        found, rate = soundfile.read(tmp_path / "out" / line["path"], dtype="float32")
        said = model.speak(units, lang, speaker, durations if timed else None)
        assert rate == 16000 and line["seconds"] == len(said) / 16000
        np.testing.assert_allclose(found, said, atol=2**-15)
        assert (len(found) == 320 * sum(durations)) == timed
    assert len(list((tmp_path / "out").iterdir())) == 3
    assert cli.main(command) == 2 and "holds speech already" in capsys.readouterr().err


def test_units_of_other_centroids_are_not_said(
    vocoder: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for fingerprint, status in (("f1", 3), ("f2", 2)):
        about = {"seamlessalign.units": fingerprint, "seamlessalign.num_units": str(UNITS)}
        pq.write_table(pq.read_table(table).replace_schema_metadata(about), tmp_path / "units.parquet")
        command = ["speak", str(tmp_path / "units.parquet"), "--vocoder", str(vocoder)]
        assert cli.main([*command, "--to", str(tmp_path / fingerprint)]) == status
    assert "holds units of other centroids than this vocoder was taught with" in capsys.readouterr().err


def test_language_and_speaker_of_all_rows(
    vocoder: Path,
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("seamlessalign.training.vocoder.speaking._TELL_EVERY", 2)
    command = ["speak", str(table), "--vocoder", str(vocoder), "--to", str(tmp_path), "--lang", "eng"]
    assert cli.main([*command, "--speaker", "Anna"]) == 3
    told = [line for line in capsys.readouterr().err.splitlines() if "so far" in line]
    assert told == ["seamlessalign: 2 rows, 0.00 h so far", "seamlessalign: 4 rows, 0.00 h so far"]
    lines = [json.loads(line) for line in (tmp_path / "speech.jsonl").read_text().splitlines()]
    assert [(line["key"], line["lang"], line["speaker"]) for line in lines] == [
        (key, "eng", "Anna") for key in "acde"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "more", "told"),
    [
        ({"units": [[1]]}, [], "lacks the column lang; say by --lang"),
        ({"lang": ["eng"]}, [], "lacks the column units; there are lang"),
        ({"units": [[9]], "lang": ["eng"]}, [], "nothing to learn from: 1 unknown_unit"),
        ({"units": [[1]]}, ["--lang", "deu"], "this vocoder speaks eng, fra, not deu"),
        ({"units": [[1]]}, ["--lang", "engl"], "engl"),
        ({"units": [[1]]}, ["--lang", "eng", "--speaker", "Eve"], "has the speakers Anna, Jürgen, not Eve"),
        ({"units": [[1]]}, ["--vocoder", "nowhere"], "this is no vocoder's folder"),
    ],
)
def test_what_cannot_be_said_is_told(
    vocoder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    columns: dict[str, Any],
    more: list[str],
    told: str,
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "units.parquet")
    command = ["speak", str(tmp_path / "units.parquet"), "--vocoder", str(vocoder), "--to", str(tmp_path / "out")]
    assert cli.main([*command, *more]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line and not (tmp_path / "out").exists()
