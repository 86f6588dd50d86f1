"""Backbones on small random networks: their frames, the times of these, and what they refuse."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from seamlessalign.embedders.sonar.features import features
from seamlessalign.embedders.sonar.speech import SonarSpeechEncoder
from seamlessalign.embedders.student import BackboneConfig, Student, StudentConfig
from seamlessalign.embedders.student.backbones import (
    SpeechBackbone,
    W2vBertBackbone,
    WhisperDecoderBackbone,
    WhisperEncoderBackbone,
    build_backbone,
)
from seamlessalign.errors import ConfigError, InputError, ModelError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.whisper import MAX_SPEECH_SECONDS, Whisper
from tests.embedders import sonar_models
from tests.ground.tiny_whisper import save_directory, tiny_model

Float32 = NDArray[np.float32]
KINDS = ["whisper", "whisper-decoder", "w2v-bert", "sonar", "scratch"]


def _sound(seconds: float = 6.0, seed: int = 0) -> Float32:
    return np.asarray(0.1 * np.random.default_rng(seed).standard_normal(int(seconds * SAMPLE_RATE)), np.float32)


@pytest.fixture(scope="module")
def w2v_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import Wav2Vec2BertConfig, Wav2Vec2BertModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("w2v-bert")
    config = Wav2Vec2BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, conv_depthwise_kernel_size=7
    )
    Wav2Vec2BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def whisper_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_directory(tmp_path_factory.mktemp("whisper"), tiny_model()).directory


@pytest.fixture(scope="module")
def sonar_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("sonar") / "spenc.eng.pt"
    torch.save(sonar_models.fairseq2_speech(sonar_models.random_speech()), file)
    return file


@pytest.fixture(scope="module")
def every(w2v_bert: Path, whisper_directory: Path, sonar_file: Path) -> dict[str, SpeechBackbone]:
    torch.manual_seed(0)
    places = {"whisper-base": str(whisper_directory), "sonar-speech-eng": str(sonar_file)}
    configs = {
        kind: BackboneConfig(kind=kind, directory=str(w2v_bert) if kind == "w2v-bert" else None) for kind in KINDS
    }
    return {kind: build_backbone(config, models=places).eval() for kind, config in configs.items()}


class TestEvery:
    fragments = np.array([[100, 20_000], [21_000, 40_321], [60_000, 96_000]])

    @pytest.mark.parametrize("kind", KINDS)
    def test_frames_lie_in_their_fragments(self, every: dict[str, SpeechBackbone], kind: str) -> None:
        backbone = every[kind]
        frames = backbone.frames(_sound(), self.fragments, "fra")
        assert frames.values.shape == (len(frames.time), backbone.dim) and frames.values.dtype == torch.float32
        assert not frames.values.requires_grad and bool(torch.isfinite(frames.values).all())
        assert (np.diff(frames.time) >= 0).all() and frames.time.dtype == np.int64
        counts = [((frames.time >= start) & (frames.time < end)).sum() for start, end in self.fragments]
        assert sum(counts) == len(frames) and all(counts)
        assert (frames.token is not None) == (kind == "whisper-decoder")
        assert backbone.name == kind

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_fragment_is_heard_as_if_it_were_alone(self, every: dict[str, SpeechBackbone], kind: str) -> None:
        together = every[kind].frames(_sound(), self.fragments, "fra")
        parts = [every[kind].frames(_sound(), fragment[None], "fra") for fragment in self.fragments]
        assert np.array_equal(np.concatenate([part.time for part in parts]), together.time)
        assert torch.allclose(torch.cat([part.values for part in parts]), together.values, atol=2e-5)

    @pytest.mark.parametrize("kind", KINDS)
    def test_no_fragments_and_ones_too_short_have_no_frames(self, every: dict[str, SpeechBackbone], kind: str) -> None:
        nothing = every[kind].frames(_sound(), np.zeros((0, 2), np.int64), "fra")
        assert len(nothing) == 0 and nothing.values.shape == (0, every[kind].dim)
        if kind != "whisper-decoder":
            assert len(every[kind].frames(_sound(), np.array([[500, 620]]), "fra")) == 0

    @pytest.mark.parametrize("kind", ["whisper", "w2v-bert", "sonar", "scratch"])
    def test_long_fragments_are_cut_into_pieces(
        self, every: dict[str, SpeechBackbone], kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert every[kind].most_seconds >= MAX_SPEECH_SECONDS
        monkeypatch.setattr(every[kind], "most_seconds", 2.0)
        frames = every[kind].frames(_sound(5.5), np.array([[8000, 88_000]]), "fra")  # pieces of 5/3 s
        assert abs(len(frames) - 250) <= 6
        assert np.diff(frames.time).min() > 0 and np.diff(frames.time).max() <= 960
        pieces = [[8000, 34_667], [34_667, 61_334], [61_334, 88_000]]
        parts = every[kind].frames(_sound(5.5), np.array(pieces), "fra")
        assert np.array_equal(parts.time, frames.time) and torch.allclose(parts.values, frames.values, atol=2e-5)

    @pytest.mark.parametrize("fragment", [[-1, 500], [10, 10], [500, 10], [0, 10**6]])
    def test_a_fragment_that_is_none_is_refused(self, every: dict[str, SpeechBackbone], fragment: list[int]) -> None:
        with pytest.raises(InputError, match="is empty, overlaps the one before, or is outside"):
            every["scratch"].frames(_sound(1), np.array([fragment]), "fra")

    def test_fragments_that_overlap_are_refused(self, every: dict[str, SpeechBackbone]) -> None:
        with pytest.raises(InputError, match="overlaps the one before"):
            every["scratch"].frames(_sound(1), np.array([[0, 9000], [8000, 12_000]]), "fra")

    def test_samples_that_are_no_numbers_are_refused(self, every: dict[str, SpeechBackbone]) -> None:
        waveform = _sound(1)
        waveform[700] = np.nan
        every["scratch"].frames(waveform, np.array([[1000, 9000]]), "fra")  # elsewhere they do not matter
        with pytest.raises(InputError, match="samples 0-9000 are not all finite"):
            every["scratch"].frames(waveform, np.array([[0, 9000]]), "fra")

    def test_progress_is_the_seconds_of_speech(self, every: dict[str, SpeechBackbone]) -> None:
        told: list[float] = []
        every["scratch"].frames(_sound(), self.fragments, "fra", told.append)
        assert sum(told) == pytest.approx((self.fragments[:, 1] - self.fragments[:, 0]).sum() / SAMPLE_RATE)


class TestWhisper:
    def test_frames_are_the_encoders_without_the_silence(self, every: dict[str, SpeechBackbone]) -> None:
        backbone = every["whisper"]
        assert isinstance(backbone, WhisperEncoderBackbone)
        frames = backbone.frames(_sound(), np.array([[1000, 33_000]]), "fra")
        with torch.inference_mode():
            whole = backbone._whisper._encode([_sound()[1000:33_000]])[0]
        assert len(frames) == 100 and len(whole) == 200
        assert torch.equal(frames.values, whole[:100])
        assert frames.time.tolist() == [1000 + 320 * i + 160 for i in range(100)]

    def test_the_decoders_states_wrote_its_tokens(self, every: dict[str, SpeechBackbone]) -> None:
        """Each state, through the projection, chooses the token that it is said to have written."""
        backbone = every["whisper-decoder"]
        assert isinstance(backbone, WhisperDecoderBackbone)
        whisper: Whisper = backbone._whisper
        fragments = np.array([[0, 16_000], [20_000, 84_000]])
        frames = backbone.frames(_sound(), fragments, "fra")
        assert frames.token is not None
        with torch.no_grad():
            scores = whisper.model.proj_out(frames.values)
        scores[:, whisper._suppressed[0]] = -torch.inf
        begins = [0, int((frames.time < 20_000).sum())]
        for place in begins:
            scores[place, whisper._suppressed[1]] = -torch.inf
        assert scores.argmax(1).tolist() == frames.token.tolist()
        heard = whisper.hear([_sound()[start:end] for start, end in fragments], "fra", ["transcribe"])
        tokens = np.split(frames.token, begins[1:])
        assert [whisper.tokenizer.decode(part.tolist()).strip() for part in tokens] == [item[0].text for item in heard]

    def test_tokens_are_spread_evenly(self, every: dict[str, SpeechBackbone]) -> None:
        frames = every["whisper-decoder"].frames(_sound(), np.array([[1000, 65_000]]), "fra")
        count = len(frames)
        assert count > 1 and frames.time.tolist() == [1000 + (2 * i + 1) * 64_000 // (2 * count) for i in range(count)]

    def test_translating_is_another_task(self, whisper_directory: Path, every: dict[str, SpeechBackbone]) -> None:
        config = BackboneConfig(kind="whisper-decoder", task="translate")
        other = build_backbone(config, models={"whisper-base": str(whisper_directory)})
        fragments = np.array([[0, 32_000]])
        mine, theirs = (b.frames(_sound(), fragments, "fra") for b in (other, every["whisper-decoder"]))
        assert mine.token is not None and theirs.token is not None
        assert not np.array_equal(mine.token, theirs.token) or not torch.equal(mine.values, theirs.values)

    def test_a_language_that_whisper_does_not_know(self, every: dict[str, SpeechBackbone]) -> None:
        with pytest.raises(InputError, match="'abk' is not one that Whisper knows"):
            every["whisper-decoder"].frames(_sound(), np.array([[0, 32_000]]), "abk")


class TestTrained:
    @pytest.mark.parametrize("kind", ["whisper", "w2v-bert", "sonar", "scratch"])
    def test_every_parameter_has_a_gradient(
        self, kind: str, w2v_bert: Path, whisper_directory: Path, every: dict[str, SpeechBackbone]
    ) -> None:
        """One that has none would stop several processes, which wait for it."""
        choice = BackboneConfig(kind=kind, directory=str(w2v_bert) if kind == "w2v-bert" else None)
        if kind == "sonar":
            backbone = every[kind]
        else:
            backbone = build_backbone(choice, models={"whisper-base": str(whisper_directory)}, trained=True)
        student = Student(StudentConfig(backbone=choice, train_backbone=True, dim=8), backbone).train()
        (frames,) = backbone.hear([_sound(1)], "fra")
        student.pool(frames, np.array([[0, 16_000]])).sum().backward()
        lacking = [name for name, p in student.named_parameters() if p.requires_grad and p.grad is None]
        assert lacking == []
        assert sum(p.requires_grad for p in backbone.parameters()) > 5
        if kind != "scratch":
            assert not any(part.training for part in backbone.modules())

    def test_a_frozen_one_has_none(self, every: dict[str, SpeechBackbone]) -> None:
        student = Student(StudentConfig(backbone=BackboneConfig(kind="whisper"), dim=8), every["whisper"])
        assert not any(p.requires_grad for p in every["whisper"].parameters())
        assert all(not name.startswith("backbone.") for name in student.own_state())


class TestRefused:
    def test_a_directory_without_a_model(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="cannot be loaded"):
            W2vBertBackbone(str(tmp_path), "cpu")

    def test_a_model_with_an_adapter(self, tmp_path: Path) -> None:
        from transformers import Wav2Vec2BertConfig, Wav2Vec2BertModel

        sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = Wav2Vec2BertConfig(**sizes, intermediate_size=16, add_adapter=True, output_hidden_size=16)
        Wav2Vec2BertModel(config).save_pretrained(tmp_path)
        with pytest.raises(ModelError, match="has an adapter"):
            W2vBertBackbone(str(tmp_path), "cpu")

    def test_a_tensor_that_is_missing(self, w2v_bert: Path, tmp_path: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(w2v_bert / "model.safetensors")
        tensors.pop("encoder.layers.1.ffn1.output_dense.weight")
        save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
        (tmp_path / "config.json").write_bytes((w2v_bert / "config.json").read_bytes())
        with pytest.raises(ModelError, match=r"lack encoder\.layers\.1\.ffn1\.output_dense\.weight"):
            W2vBertBackbone(str(tmp_path), "cpu")

    @pytest.mark.parametrize(
        ("wrong", "why"),
        [
            ({"kind": "w2v-bert"}, "directory is missing"),
            ({"kind": "whisper", "layers": 3}, "does not read layers"),
            ({"kind": "scratch", "width": 30, "heads": 4}, "no multiple of heads"),
            ({"kind": "hubert"}, "input should be"),
        ],
    )
    def test_a_wrong_configuration(self, wrong: dict[str, Any], why: str) -> None:
        from seamlessalign.typed_config import checked

        with pytest.raises(ConfigError, match=why):
            checked(BackboneConfig, wrong, "test")


def test_sonars_frames_pooled_are_its_rows(sonar_file: Path, every: dict[str, SpeechBackbone]) -> None:
    """Against the network said again in plain torch."""
    frames = every["sonar"].frames(_sound(1), np.array([[0, 16_000]]), "eng")
    pooler = SonarSpeechEncoder(sonar_file, dtype="float32").model.pooler
    with torch.no_grad():
        row = pooler(frames.values[None], torch.ones((1, len(frames)), dtype=torch.bool))[0]
        wanted = sonar_models.speech_row(sonar_models.random_speech(), features(torch.from_numpy(_sound(1))))
    assert torch.allclose(row.double(), wanted.double(), atol=1e-5)
