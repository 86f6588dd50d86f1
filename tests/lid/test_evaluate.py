"""The two commands: an identifier is measured and calibrated on labelled speech, from a manifest to the files."""

import csv
import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from seamlessalign.errors import ConfigError, InputError
from seamlessalign.lid import load_speech_lid
from seamlessalign.lid.calibrate import main as calibrate
from seamlessalign.lid.calibration import load_calibration
from seamlessalign.lid.ecapa import EcapaNetwork, EcapaSizes, save_ecapa
from seamlessalign.lid.evaluate import main as evaluate
from seamlessalign.lid.evaluate import told
from tests.lid.spoken_world import LANGUAGES, make_languages

pytestmark = pytest.mark.skipif(importlib.util.find_spec("speechbrain") is None, reason="needs speechbrain")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled speech, and an identifier with random weights."""
    import torch

    root = tmp_path_factory.mktemp("world")
    make_languages(root / "speech", clips=5)
    sizes = EcapaSizes(
        channels=[16, 16, 16, 16, 48], attention_channels=8, res2net_scale=4, se_channels=8, embedding=16, classifier=16
    )
    torch.manual_seed(0)
    network = EcapaNetwork(sizes, len(LANGUAGES))
    save_ecapa(network, sizes, sorted(LANGUAGES), root / "model", half=False)
    return root


def _arguments(world: Path, *more: str) -> list[str]:
    model = ["--model", "ecapa", "--directory", str(world / "model"), "--data", str(world / "speech")]
    return [*model, *more]


def test_it_is_measured_calibrated_and_measured_again(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lengths = ["--seconds", "1", "2", "--crops", "6"]
    evaluate(_arguments(world, *lengths, "--out", str(tmp_path / "before")))
    before = json.loads((tmp_path / "before" / "evaluation.json").read_text())
    assert [line["seconds"] for line in before["lengths"]] == [1, 2] and before["rule"] is None
    assert all(line["all"]["clips"] == 18 and "calibrated" not in line for line in before["lengths"])
    assert not (tmp_path / "before" / "rejection.svg").exists()
    out = tmp_path / "c.yaml"
    calibrate(_arguments(world, *lengths, "--rule", "right", "--out", str(out), "--pictures", str(tmp_path / "fit")))
    lid = load_speech_lid("ecapa", str(world / "model"), "cpu", str(out))
    assert lid.calibration == load_calibration(out, lid.sha256)
    assert lid.calibration is not None and lid.calibration.rule == "right" and lid.calibration.window_seconds == 1.0
    capsys.readouterr()
    evaluate(_arguments(world, *lengths, "--calibration", str(out), "--out", str(tmp_path / "after")))
    table = capsys.readouterr().out
    after = json.loads((tmp_path / "after" / "evaluation.json").read_text())
    for ours, theirs in zip(after["lengths"], before["lengths"], strict=True):
        assert ours["all"] == theirs["all"] and ours["calibrated"]["answered"] <= 18
        assert f"{ours['calibrated']['macro_f1']:.3f}" in table
    for name in ("1s", "2s"):
        rows = pq.read_table(tmp_path / "after" / f"predictions-{name}.parquet").to_pylist()
        assert len({row["id"] for row in rows}) == 18
    pictures = {file.name for file in (tmp_path / "after").glob("*.svg")}
    assert pictures == {"confusion-1s.svg", "confusion-2s.svg", "rejection.svg"} and (tmp_path / "fit").is_dir()


def test_clips_may_stay_as_they_are(world: Path, tmp_path: Path) -> None:
    evaluate(_arguments(world, "--out", str(tmp_path)))
    (line,) = json.loads((tmp_path / "evaluation.json").read_text())["lengths"]
    assert line["seconds"] == 0 and line["all"]["clips"] == 15 and line["cost"] > 0
    assert (tmp_path / "confusion.svg").is_file()
    rows = pq.read_table(tmp_path / "predictions.parquet").to_pylist()
    assert {row["id"] for row in rows} == {f"clips.tsv row {i}" for i in range(15)}
    assert {row["lang"] for row in rows} == set(LANGUAGES)
    for row in rows:
        scores = dict(row["scores"])
        assert scores.keys() == set(LANGUAGES) and sum(scores.values()) == pytest.approx(1, abs=1e-4)
        assert row["probability"] == max(scores.values()) == scores[row["answer"]]
    right = sum(row["answer"] == row["lang"] for row in rows)
    assert line["all"]["accuracy"] == pytest.approx(right / 15)


def test_clips_that_cannot_be_heard_have_no_answer(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "speech"
    shutil.copytree(world / "speech", folder)
    (manifest,) = folder.glob("*.tsv")
    clips = list(csv.DictReader(manifest.open(), delimiter="\t"))
    for clip, seconds in ((clips[0], 0.3), (clips[1], 2.0)):
        soundfile.write(folder / clip["path"], np.zeros(int(16000 * seconds)), 16000)
    (folder / clips[2]["path"]).write_bytes(b"no sound")
    evaluate([*_arguments(world, "--out", str(tmp_path / "out"))[:-3], str(folder), "--out", str(tmp_path / "out")])
    rows = pq.read_table(tmp_path / "out/predictions.parquet").to_pylist()
    (line,) = json.loads((tmp_path / "out/evaluation.json").read_text())["lengths"]
    empty = [row for row in rows if row["answer"] is None]
    told = capsys.readouterr().out
    left_out = sum(int(count) for count in re.findall(r"^(\d+) clips are left out", told, re.MULTILINE))
    assert line["unheard"] == len(empty) > 0 and len(rows) + left_out == len(clips) == 15 and left_out > 0
    assert line["all"]["clips"] == len(rows) - len(empty)


def test_thresholds_beside_a_model_are_found_and_can_be_switched_off(world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in (world / "model").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    assert load_speech_lid("ecapa", str(folder), "cpu", "none").calibration is None
    place = ["--model", "ecapa", "--directory", str(folder), "--data", str(world / "speech")]
    calibrate([*place, "--seconds", "1", "--crops", "5", "--out", str(folder / "calibration.yaml")])
    assert load_speech_lid("ecapa", str(folder)).calibration is not None
    assert load_speech_lid("ecapa", str(folder), "cpu", "none").calibration is None
    with pytest.raises(ConfigError, match="cannot be read"):
        load_speech_lid("ecapa", str(folder), "cpu", str(tmp_path / "gone.yaml"))


def test_an_error_is_one_line_and_its_status(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = _arguments(world, "--seconds", "1", "--crops", "1", "--out", str(tmp_path / "c.yaml"))
    with pytest.raises(InputError, match="too few"):
        calibrate(arguments)
    with pytest.raises(SystemExit) as ended:
        told(lambda: calibrate(arguments))
    assert ended.value.code == 2 and capsys.readouterr().err.count("\n") == 1
