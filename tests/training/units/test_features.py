"""Frames of every kind against the models as transformers runs them, in batches, in windows and one by one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seamlessalign.embedders.sonar.features import features as filter_banks
from seamlessalign.errors import ConfigError, InputError, ModelError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.training.units.config import FeatureChoice
from seamlessalign.training.units.features import FrameFeatures, open_features
from seamlessalign.typed_config import checked
from tests.embedders import sonar_models
from tests.ground.tiny_whisper import save_directory, tiny_model
from tests.training.units.models import LAYERS, Float32, save_w2v_bert, save_wave_model, sound

_KINDS = ["fbank", "whisper", "wav2vec2", "wav2vec2 in groups", "hubert", "w2v-bert", "sonar", "student"]
_LENGTHS = (3.0, 0.7, 2.0, 2.0, 0.03, 0.0, 4.13)  # seconds


class World:
    """Every model once, and the frames that are opened of it."""

    def __init__(self, root: Path) -> None:
        self.models: dict[str, Any] = {
            "wav2vec2": save_wave_model(root / "wav2vec2"),
            "wav2vec2 in groups": save_wave_model(root / "grouped", grouped=True, stable=False),
            "hubert": save_wave_model(root / "hubert", "hubert"),
            "w2v-bert": save_w2v_bert(root / "w2v-bert"),
            "whisper": tiny_model(),
        }
        save_directory(root / "whisper", self.models["whisper"])
        self._sonar = root / "spenc.eng.pt"
        torch.save(sonar_models.fairseq2_speech(sonar_models.random_speech()), self._sonar)
        self._student(root / "student")
        self._root = root

    def _student(self, folder: Path) -> None:
        from seamlessalign.embedders.student import BackboneConfig, PoolerConfig, Student, StudentConfig
        from seamlessalign.embedders.student.backbones import build_backbone

        torch.manual_seed(0)
        backbone = BackboneConfig(kind="scratch", width=16, layers=1, heads=2, ffn=32)
        config = StudentConfig(backbone=backbone, train_backbone=True, pooler=PoolerConfig(kind="mean"), dim=16)
        self.models["student"] = Student(config, build_backbone(backbone)).eval()
        self.models["student"].save(folder)

    def open(self, kind: str, **more: Any) -> FrameFeatures:
        folder = "grouped" if "groups" in kind else kind
        names = {"wav2vec2": "xls-r-1b", "hubert": "hubert", "w2v-bert": "w2v-bert-2.0", "whisper": "whisper-base"}
        names |= {"sonar": "sonar-speech-eng", "student": "student"}
        real = kind.partition(" ")[0]
        place = self._sonar if kind == "sonar" else self._root / folder
        return open_features(FeatureChoice(kind=real, **more), {names.get(real, ""): str(place)})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("models"))


def _close(ours: Float32, theirs: Any, atol: float = 2e-5) -> None:
    theirs = np.asarray(theirs.detach().numpy() if isinstance(theirs, torch.Tensor) else theirs)
    assert ours.shape == theirs.shape and ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, atol=atol, rtol=1e-4)


@pytest.mark.parametrize("kind", _KINDS)
def test_a_batch_is_one_by_one(world: World, kind: str) -> None:
    opened = world.open(kind)
    waveforms = [sound(seconds, i) for i, seconds in enumerate(_LENGTHS)]
    together = opened.frames(waveforms)
    for waveform, found in zip(waveforms, together, strict=True):
        _close(found, opened.frames([waveform])[0])
        assert len(found) == opened.num_frames(len(waveform))
    assert [len(found) for found in together][-3:-1] == [opened.num_frames(480), 0]
    assert together[0].shape[1] == opened.dim and len(together[0]) in (149, 150)
    assert not np.allclose(together[2][:90], together[3][:90])


@pytest.mark.parametrize("layer", [0, 1, 2, LAYERS, None])
@pytest.mark.parametrize("kind", ["wav2vec2", "wav2vec2 in groups", "hubert"])
def test_layers_are_hidden_states_of_waves(world: World, kind: str, layer: int | None) -> None:
    waveform = sound(1.5)
    tensor = torch.from_numpy(waveform)[None]
    if "groups" not in kind:  # of a model with layer normalisation the waveform is normalised
        tensor = (tensor - tensor.mean()) / (tensor.var(unbiased=False) + 1e-5).sqrt()
    with torch.no_grad():
        theirs = world.models[kind](tensor, output_hidden_states=True)
    wanted = theirs.last_hidden_state if layer is None else theirs.hidden_states[layer]
    _close(world.open(kind, layer=layer).frames([waveform])[0], wanted[0])


def test_the_layer_of_the_paper_is_counted_from_one(world: World) -> None:
    """Layer 2 is what the module with the index 1 makes: the paper's 35 is index 34."""
    kept = []
    model = world.models["wav2vec2"]
    handle = model.encoder.layers[1].register_forward_hook(lambda _, __, output: kept.append(output))
    waveform = sound(1.0)
    tensor = torch.nn.functional.layer_norm(torch.from_numpy(waveform), (len(waveform),))
    with torch.no_grad():
        model(tensor[None])
    handle.remove()
    _close(world.open("wav2vec2", layer=2).frames([waveform])[0], kept[0][0])


@pytest.mark.parametrize("layer", [0, 1, LAYERS, None])
def test_layers_are_hidden_states_of_w2v_bert(world: World, layer: int | None) -> None:
    waveform = sound(1.5)
    with torch.no_grad():
        theirs = world.models["w2v-bert"](filter_banks(torch.from_numpy(waveform))[None], output_hidden_states=True)
    wanted = theirs.last_hidden_state if layer is None else theirs.hidden_states[layer]
    _close(world.open("w2v-bert", layer=layer).frames([waveform])[0], wanted[0])


@pytest.mark.parametrize("layer", [0, 1, 2, None])
def test_layers_are_hidden_states_of_whisper(world: World, layer: int | None) -> None:
    """The encoder of transformers insists on 30 s: 28 of sound and the tail fill them."""
    from transformers import WhisperFeatureExtractor

    waveform = sound(28.0)
    mel = WhisperFeatureExtractor()(waveform, sampling_rate=SAMPLE_RATE, return_tensors="pt")["input_features"]
    with torch.no_grad():
        theirs = world.models["whisper"].model.encoder(mel, output_hidden_states=True)
    wanted = theirs.hidden_states[-1 if layer is None else layer]
    _close(world.open("whisper", layer=layer).frames([waveform])[0], wanted[0, : 28 * 50], atol=5e-4)


@pytest.mark.parametrize("layer", [0, 1, 2, None])
def test_layers_of_sonar_are_those_of_its_conformer(world: World, layer: int | None) -> None:
    from seamlessalign.embedders.sonar.speech import SonarSpeechEncoder

    encoder = SonarSpeechEncoder(world._sonar, dtype="float32")
    inputs = filter_banks(torch.from_numpy(sound(1.5)))[None]
    kept = []
    hook = None
    if layer is not None:
        module = encoder.model.encoder.layers[max(layer - 1, 0)]
        hook = module.register_forward_hook(
            lambda _, given, output: kept.append(
                given[0] if layer == 0 else output[0] if isinstance(output, tuple) else output
            )
        )
    with torch.no_grad():
        output = encoder.model.outputs(inputs, torch.ones(inputs.shape[:2], dtype=torch.bool))
    if hook is not None:
        hook.remove()
        output = kept[0]
    _close(world.open("sonar", layer=layer).frames([sound(1.5)])[0], output[0])


def test_a_student_is_its_backbone(world: World) -> None:
    waveform = sound(2.0)
    with torch.no_grad():
        (theirs,) = world.models["student"].backbone.hear([waveform], "eng")
    _close(world.open("student").frames([waveform])[0], theirs.values)


def test_filter_banks_are_the_same_however_long(world: World) -> None:
    waveform = sound(70.0)
    _close(world.open("fbank").frames([waveform])[0], filter_banks(torch.from_numpy(waveform)), atol=0)


@pytest.mark.parametrize(
    "kind", ["whisper", "wav2vec2", "wav2vec2 in groups", "hubert", "w2v-bert", "sonar", "student"]
)
def test_long_speech_is_heard_in_windows(world: World, kind: str) -> None:
    """As many frames as in one piece, each from a window that has context on both sides; alike at the first end."""
    waveform = sound(13.37)
    whole = world.open(kind).frames([waveform])[0]
    opened = world.open(kind, window_seconds=6, context_seconds=1)
    windows = opened._windows(len(waveform))
    assert len(windows) > 2 and (windows[:, 0] % 320 == 0).all() and windows[-1, 1] == len(waveform)
    assert ((windows[:-1, 1] - windows[1:, 0]) >= SAMPLE_RATE).all()  # they overlap by both contexts, or what is left
    found = opened.frames([waveform])[0]
    assert found.shape == whole.shape
    _close(found, opened.frames([sound(1.0), waveform, sound(8.0)])[1])
    # every frame is one of a window, heard by itself, at least a part of a second from its cuts
    prepared = opened._prepare(waveform)
    heard = [opened._hear([opened._piece(prepared, start, end)])[0].detach().numpy() for start, end in windows.tolist()]
    for number, frame in enumerate(found[::7]):
        time = number * 7 * 320 + opened.offset
        near = [
            (start, values[(time - opened.offset - start) // 320])
            for (start, end), values in zip(windows.tolist(), heard, strict=True)
            if (start == 0 or time - start >= SAMPLE_RATE // 2)
            and (end == len(waveform) or end - time >= SAMPLE_RATE // 2)
        ]
        assert any(np.allclose(frame, values, atol=2e-5, rtol=1e-4) for _, values in near), time / SAMPLE_RATE


def test_a_waveform_is_normalised_as_its_model_was_taught(tmp_path: Path) -> None:
    save_wave_model(tmp_path)
    waveform = sound(1.0)

    def frames() -> list[Float32]:
        return open_features(FeatureChoice(kind="wav2vec2"), {"xls-r-1b": str(tmp_path)}).frames(
            [waveform, waveform * 0.5]
        )

    loud, quiet = frames()
    np.testing.assert_allclose(loud, quiet, atol=0.02)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    loud, quiet = frames()
    assert np.abs(loud - quiet).max() > 0.02
    (tmp_path / "preprocessor_config.json").write_text("[")
    with pytest.raises(ModelError, match="preprocessor_config"):
        frames()


class TestWhatCannotBe:
    def test_samples(self, world: World) -> None:
        for waveform in (np.full(4000, np.nan, np.float32), np.zeros((2, 4000), np.float32)):
            with pytest.raises(InputError):
                world.open("fbank").frames([waveform])

    @pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "w2v-bert", "sonar", "whisper"])
    def test_a_layer(self, world: World, kind: str) -> None:
        with pytest.raises(ConfigError, match=r"features\.layer 9: model .* has \d layers"):
            world.open(kind, layer=9)

    @pytest.mark.parametrize(
        ("keys", "told"),
        [
            ({"kind": "fbank", "layer": 1}, "has only one"),
            ({"kind": "student", "layer": 1}, "has only one"),
            ({"kind": "fbank", "model": "x"}, "no model"),
            ({"kind": "whisper", "window_seconds": 30}, "28 s at a time"),
            ({"kind": "hubert", "window_seconds": 5, "context_seconds": 2}, "more than half"),
            ({"kind": "hubbert"}, "hubert"),
        ],
    )
    def test_a_choice(self, keys: dict[str, Any], told: str) -> None:
        with pytest.raises(ConfigError, match=told):
            checked(FeatureChoice, keys, "test")

    def test_a_model_that_is_not_there_or_another(self, world: World, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"models\.hubert"):
            open_features(FeatureChoice(kind="hubert"), {})
        with pytest.raises(ModelError, match="lacks"):
            open_features(FeatureChoice(kind="hubert"), {"hubert": str(tmp_path)})
        (tmp_path / "config.json").write_text("{}")
        (tmp_path / "model.safetensors").write_bytes(b"no tensors")
        with pytest.raises(ModelError, match="cannot be loaded"):
            open_features(FeatureChoice(kind="hubert"), {"hubert": str(tmp_path)})

    def test_weights_that_are_missing(self, tmp_path: Path) -> None:
        from safetensors.torch import load_file, save_file

        save_wave_model(tmp_path)
        tensors = load_file(tmp_path / "model.safetensors")
        del tensors["encoder.layers.1.final_layer_norm.weight"]
        save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
        with pytest.raises(ModelError, match=r"lack encoder\.layers\.1\.final_layer_norm\.weight"):
            open_features(FeatureChoice(kind="wav2vec2"), {"xls-r-1b": str(tmp_path)})
