"""Training of units: the sample, going on after a stop, what is written, and what is told of mistakes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import yaml
from safetensors.numpy import load_file

from seamlessalign import cli
from seamlessalign.errors import ConfigError, InputError, ModelError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.training.units import train as train_module
from seamlessalign.training.units.config import UnitsTrainingConfig, load_units_config
from seamlessalign.training.units.extractor import UnitExtractor
from seamlessalign.training.units.files import load_units, read_card
from seamlessalign.training.units.train import train_units
from seamlessalign.typed_config import checked
from tests.ground.trainings import metrics_of
from tests.training.units.models import sound

HOUSE = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of recordings in two languages, of which one has much more, one file that is none, and a copy."""
    folder = tmp_path_factory.mktemp("speech")
    lines = ["path\tlang"]
    for number in range(14):
        lang = "fra" if number < 3 else "eng"
        soundfile.write(folder / f"{number}.wav", sound(1.0, number), SAMPLE_RATE)
        lines.append(f"{number}.wav\t{lang}")
    (folder / "broken.wav").write_bytes(b"RIFF")
    (folder / "copy.wav").write_bytes((folder / "0.wav").read_bytes())
    soundfile.write(folder / "silent.wav", np.zeros(SAMPLE_RATE), SAMPLE_RATE)
    lines += ["broken.wav\teng", "copy.wav\tfra", "silent.wav\teng"]
    (folder / "speech.tsv").write_text("\n".join(lines) + "\n")
    return folder


def _keys(output: Path, speech: Path, **kmeans: Any) -> dict[str, Any]:
    return {
        "output": str(output),
        "features": {"kind": "fbank"},
        "kmeans": {"units": 6, "frames": 300, "iterations": 4} | kmeans,
        "data": {"sources": [{"kind": "folder", "path": str(speech)}]},
        "resources": {"device": "cpu", "threads": 1},
    }


def _config(output: Path, speech: Path, **kmeans: Any) -> UnitsTrainingConfig:
    return checked(UnitsTrainingConfig, _keys(output, speech, **kmeans), "test")


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("metrics.jsonl", "curve.svg")
    }


def test_what_is_learnt(speech: Path, tmp_path: Path) -> None:
    result = train_units(_config(tmp_path / "out", speech))
    assert result.finished == "iterations" and result.steps == 4
    lines = metrics_of(tmp_path / "out")
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4, 4]
    curve = [line["objective"] for line in lines[:-1]]
    assert curve == sorted(curve, reverse=True)
    assert lines[-1]["set_aside"] == {"duplicate": 1, "not_audio": 1, "silent": 1}
    card = read_card(str(tmp_path / "out" / "model"))
    # as even as can be: 3 recordings of 49 frames are all there is of French
    assert card.frames == {"eng": 153, "fra": 147} and card.units == 6 and card.dim == 160 and not card.unused
    assert card.objective == curve[-1] == result.best
    extractor = UnitExtractor.load(str(tmp_path / "out" / "model"))
    units = extractor.extract(sound(1.0, 0))
    assert units.dtype == np.int32 and len(units) == 49 and len(set(units.tolist())) > 1
    frames = extractor.features.frames([sound(1.0, 0)])[0]
    centroids = load_units(str(tmp_path / "out" / "model"))[0].centroids
    slow = np.square(frames[:, None].astype(np.float64) - centroids.astype(np.float64)).sum(2).argmin(1)
    assert units.tolist() == slow.tolist()
    assert [len(some) for some in extractor.extract_batch([sound(0.5), sound(0.01), sound(1.0)])] == [24, 0, 49]
    before = _files(tmp_path / "out")
    assert train_units(_config(tmp_path / "out", speech)).best == result.best  # nothing is done again
    assert _files(tmp_path / "out") == before


def test_the_sample_does_not_depend_on_the_order_of_files(speech: Path, tmp_path: Path) -> None:
    """Nor on where they lie: as rows of a Parquet file, backwards."""
    manifest = (speech / "speech.tsv").read_text().splitlines()[1:]
    rows = [line.split("\t") for line in reversed(manifest)]
    table = {"audio": [(speech / name).read_bytes() for name, _ in rows], "lang": [lang for _, lang in rows]}
    pq.write_table(pa.table(table), tmp_path / "speech.parquet")
    keys = _keys(tmp_path / "b", speech) | {
        "data": {"sources": [{"kind": "parquet", "path": str(tmp_path / "speech.parquet")}]}
    }
    train_units(_config(tmp_path / "a", speech))
    train_units(checked(UnitsTrainingConfig, keys, "test"))
    assert _files(tmp_path / "a" / "model") == _files(tmp_path / "b" / "model")
    train_units(checked(UnitsTrainingConfig, keys | {"seed": 1, "output": str(tmp_path / "c")}, "test"))
    assert _files(tmp_path / "a" / "model") != _files(tmp_path / "c" / "model")


def test_few_frames_of_each_utterance(speech: Path, tmp_path: Path) -> None:
    train_units(_config(tmp_path / "out", speech, per_utterance=20))
    assert read_card(str(tmp_path / "out" / "model")).frames == {"eng": 220, "fra": 60}


@pytest.mark.parametrize("stage", ["a part of the sample", "an iteration"])
def test_one_that_was_stopped_goes_on(
    speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    train_units(_config(tmp_path / "whole", speech))
    with monkeypatch.context() as patched:
        name = "draw_sample" if stage == "a part of the sample" else "moved"
        real, calls = getattr(train_module, name), list[int]()

        def stopping(*given: Any, **named: Any) -> Any:
            if name == "draw_sample":
                asked = iter((False, True))  # after the first part
                return real(*given, **named | {"told_to_stop": lambda: next(asked)})
            calls.append(1)
            if len(calls) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return real(*given, **named)

        patched.setattr(train_module, name, stopping)
        result = train_units(_config(tmp_path / "out", speech))
        assert result.finished == "" and not (tmp_path / "out" / "model").exists()
    left = list((tmp_path / "out" / "sample").iterdir())
    assert len(left) == (1 if stage == "a part of the sample" else 2)
    assert train_units(_config(tmp_path / "out", speech)).finished == "iterations"
    assert _files(tmp_path / "out") == _files(tmp_path / "whole")
    assert metrics_of(tmp_path / "out") == metrics_of(tmp_path / "whole")


def test_scaled_dimensions_count_alike(speech: Path, tmp_path: Path) -> None:
    """Centroids are those of frames that were divided beforehand, and an extractor divides too."""
    train_units(_config(tmp_path / "out", speech, scale=True))
    codebook, card = load_units(str(tmp_path / "out" / "model"))
    parts = [load_file(path)["frames"] for path in sorted((tmp_path / "out" / "sample").glob("*"))]
    frames = np.concatenate(parts)
    assert codebook.deviations is not None and card.objective is not None
    np.testing.assert_allclose(codebook.deviations, frames.std(0, dtype=np.float64), rtol=1e-5)
    whole = frames / codebook.deviations
    distances = np.square(whole[:, None].astype(np.float64) - codebook.centroids).sum(2)
    assert card.objective == pytest.approx(distances.min(1).mean(), rel=1e-4)
    nearest = distances.argmin(1)  # after so many iterations centroids are near the middles of their frames
    first = np.stack([whole[nearest == unit].mean(0) for unit in range(6)])
    assert np.square(first - codebook.centroids).sum(1).max() < card.objective / 4
    extractor = UnitExtractor.load(str(tmp_path / "out" / "model"))
    found = extractor.features.frames([sound(1.0, 0)])[0] / codebook.deviations
    slow = np.square(found[:, None].astype(np.float64) - codebook.centroids).sum(2).argmin(1)
    assert extractor.extract(sound(1.0, 0)).tolist() == slow.tolist()
    train_units(_config(tmp_path / "plain", speech))
    assert extractor.card.fingerprint != read_card(str(tmp_path / "plain" / "model")).fingerprint
    with pytest.raises(ModelError, match="scaled frames"):
        train_units(_config(tmp_path / "on", speech, start=str(tmp_path / "out" / "model")))


def test_more_iterations_are_added_to_a_finished_training(speech: Path, tmp_path: Path) -> None:
    train_units(_config(tmp_path / "whole", speech))
    train_units(_config(tmp_path / "out", speech, iterations=2))
    assert train_units(_config(tmp_path / "out", speech)).steps == 4
    assert _files(tmp_path / "out") == _files(tmp_path / "whole")
    assert metrics_of(tmp_path / "out") == metrics_of(tmp_path / "whole")


def test_it_ends_when_nothing_is_gained(speech: Path, tmp_path: Path) -> None:
    result = train_units(_config(tmp_path / "out", speech, iterations=50, tolerance=0.01))
    assert result.finished == "tolerance" and result.steps < 20
    curve = [line["objective"] for line in metrics_of(tmp_path / "out")[:-1]]
    assert curve[-2] - curve[-1] <= 0.01 * curve[-2] and curve[-3] - curve[-2] > 0.01 * curve[-3]
    assert train_units(_config(tmp_path / "out", speech, iterations=50, tolerance=0.01)).best == result.best


def test_published_centroids_are_taken_as_they_are(tmp_path: Path) -> None:
    """Meta's are one .npy."""
    centroids = np.random.default_rng(0).normal(size=(20, 160)).astype(np.float32)
    np.save(tmp_path / "kmeans.npy", centroids)
    keys = {
        "output": str(tmp_path / "out"),
        "features": {"kind": "fbank"},
        "kmeans": {"units": 20, "start": str(tmp_path / "kmeans.npy"), "iterations": 0},
    }
    config = checked(UnitsTrainingConfig, keys, "test")
    assert train_units(config).finished == "start"
    found, card = load_units(str(tmp_path / "out" / "model"))
    assert (found.centroids == centroids).all() and found.deviations is None and card.objective is None
    direct = UnitExtractor.of_centroids(str(tmp_path / "kmeans.npy"), config.features)
    loaded = UnitExtractor.load(str(tmp_path / "out" / "model"))
    assert direct.num_units == 20 and direct.card.fingerprint == loaded.card.fingerprint
    assert direct.extract(sound(1.0)).tolist() == loaded.extract(sound(1.0)).tolist()
    with pytest.raises(ModelError, match=r"holds 20 centroids, kmeans\.units is 10"):
        train_units(checked(UnitsTrainingConfig, keys | {"kmeans": {**keys["kmeans"], "units": 10}}, "test"))  # type: ignore[dict-item]


class TestWhatCannotBe:
    def test_another_plan_in_the_folder(self, speech: Path, tmp_path: Path) -> None:
        train_units(_config(tmp_path / "out", speech, iterations=1))
        with pytest.raises(ConfigError, match=r"kmeans\.units = 6, not 7"):
            train_units(_config(tmp_path / "out", speech, units=7))

    def test_more_units_than_frames(self, speech: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="different values"):
            train_units(_config(tmp_path / "out", speech, units=500))

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"kmeans": {"iterations": 0}}, "give the centroids themselves with start"),
            ({"data": None}, "data is missing"),
            ({"kmeans": {"iterations": 0, "start": "x.npy"}}, "with kmeans.iterations 0 none is read"),
            ({"kmeans": {"unit": 3}}, "did you mean 'units'"),
        ],
    )
    def test_a_configuration(self, speech: Path, tmp_path: Path, change: dict[str, Any], told: str) -> None:
        path = tmp_path / "c.yaml"
        path.write_text(yaml.safe_dump(_keys(tmp_path / "out", speech) | change))
        with pytest.raises(ConfigError, match=told):
            load_units_config(str(path))

    def test_centroids_that_are_none(self, tmp_path: Path) -> None:
        np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
        np.save(tmp_path / "row.npy", np.zeros(3, np.float32))
        (tmp_path / "text.safetensors").write_text("no")
        for name in ("objects.npy", "row.npy", "text.safetensors", "absent.npy"):
            keys = _keys(tmp_path / "out", tmp_path, start=str(tmp_path / name), iterations=0) | {"data": None}
            with pytest.raises(ModelError, match=name):
                train_units(checked(UnitsTrainingConfig, keys, "test"))

    def test_a_directory_that_is_damaged(self, speech: Path, tmp_path: Path) -> None:
        train_units(_config(tmp_path / "out", speech, iterations=1))
        model = tmp_path / "out" / "model"
        with pytest.raises(ModelError, match=r"has no units\.json"):
            UnitExtractor.load(str(tmp_path))
        card = json.loads((model / "units.json").read_text())
        (model / "units.json").write_text(json.dumps(card | {"models": {"whisper-base": "0" * 64}}))
        with pytest.raises(ModelError, match="whisper-base"):
            UnitExtractor.load(str(model))
        (model / "units.json").write_text(json.dumps(card | {"sha256": "0"}))
        with pytest.raises(ModelError, match=r"is not what units\.json is about"):
            UnitExtractor.load(str(model))
        (model / "units.json").write_text("{")
        with pytest.raises(ModelError, match=r"units\.json: cannot be read"):
            UnitExtractor.load(str(model))


def test_the_command(speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.yaml"
    keys = _keys(tmp_path / "out", speech)
    path.write_text(
        yaml.safe_dump(keys | {"data": {"sources": [{"kind": "folder", "path": os.path.relpath(speech, tmp_path)}]}})
    )
    assert cli.main(["train", "units", str(path), "kmeans.iterations=2"]) == 0
    assert f"units: {tmp_path / 'out'}/model, mean squared distance" in capsys.readouterr().out
    assert cli.main(["train", "units", str(path), "kmeans.units=3"]) == 2
    assert "kmeans.units = 6, not 3" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_at_any_moment(speech: Path, tmp_path: Path) -> None:
    """A real process, a real SIGKILL, the same bytes in the end."""
    keys = _keys(tmp_path / "whole", speech, iterations=200, units=40)
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(keys))
    train_units(load_units_config(str(path)))
    command = [sys.executable, "-m", "seamlessalign", "train", "units", str(path), f"output={tmp_path / 'out'}"]
    killed = 0
    out = tmp_path / "out"
    moments: list[Callable[[], bool]] = [
        lambda: any((out / "sample").glob("eng-*")),
        lambda: _step(out) >= 2,
    ]
    for moment in moments:
        program = subprocess.Popen(command, cwd=HOUSE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while program.poll() is None and not moment():
            time.sleep(0.0005)
        killed += program.poll() is None
        program.kill()
        program.wait()
    assert killed  # an iteration takes a few milliseconds: not every one need be met
    subprocess.run(command, cwd=HOUSE, check=True, capture_output=True)
    assert _files(tmp_path / "out") == _files(tmp_path / "whole")
    assert metrics_of(tmp_path / "out") == metrics_of(tmp_path / "whole")


def _step(folder: Path) -> int:
    return max((line["step"] for line in metrics_of(folder)), default=0) if (folder / "metrics.jsonl").is_file() else 0
