"""ECAPA against SpeechBrain's own interface on one checkpoint, and checkpoints that must not be loaded."""

import importlib.util
import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from seamlessalign.errors import InputError, ModelError
from seamlessalign.languages import from_model_code
from seamlessalign.lid import load_speech_lid
from seamlessalign.lid.ecapa import Ecapa, _load_checkpoint
from seamlessalign.model_files import find_model
from tests.lid.voxlingua import LABELS, save_checkpoint

pytestmark = pytest.mark.skipif(importlib.util.find_spec("speechbrain") is None, reason="needs speechbrain")

NAME = "ecapa-voxlingua107"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("ecapa"))


@pytest.fixture(scope="module")
def ecapa(checkpoint: Path) -> Ecapa:
    return Ecapa(find_model(NAME, str(checkpoint)))


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    """A folder of links to the checkpoint, each to be unlinked before something else takes its name."""
    for file in checkpoint.iterdir():
        (tmp_path / file.name).symlink_to(file)
    return tmp_path


def _sound(seconds: float, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * 16_000)) / 16_000
    tone = np.sin(2 * np.pi * (200 + 400 * rng.random()) * time * (1 + 0.1 * np.sin(9 * time)))
    return np.asarray(0.1 * tone + 0.02 * rng.standard_normal(len(time)), np.float32)


def test_probabilities_are_those_of_speechbrain(ecapa: Ecapa, checkpoint: Path, tmp_path: Path) -> None:
    import torch
    from speechbrain.inference.classifiers import EncoderClassifier

    theirs = EncoderClassifier.from_hparams(source=str(checkpoint), savedir=str(tmp_path / "save"))
    assert theirs is not None
    sounds = [_sound(seconds, seed) for seed, seconds in enumerate((0.5, 2.0, 3.3))]
    for sound, ours in zip(sounds, ecapa.identify(sounds), strict=True):
        log_probabilities, _, _, label = theirs.classify_batch(torch.from_numpy(sound)[None])
        wanted = log_probabilities.squeeze().exp().numpy()
        codes = [theirs.hparams.label_encoder.ind2lab[i].partition(":")[0] for i in range(107)]
        for code, probability in zip(codes, wanted, strict=True):
            lang = from_model_code(code, "voxlingua")
            assert lang is not None and abs(ours[lang] - probability) < 1e-5
        assert max(ours, key=lambda lang: ours[lang]) == from_model_code(label[0].partition(":")[0], "voxlingua")
        assert abs(sum(ours.values()) - 1) < 1e-5
        assert float(np.ptp(wanted)) > 1e-4  # a model that hears nothing would pass


def test_a_recording_is_identified_by_name_and_directory(ecapa: Ecapa, checkpoint: Path) -> None:
    lid = load_speech_lid(NAME, str(checkpoint))
    assert lid.name == NAME and len(lid.sha256) == 64
    sound = _sound(2.0, 1)
    found = lid.identify(sound)
    assert len(found) == len(LABELS.split()) and [p for _, p in found] == sorted((p for _, p in found), reverse=True)
    assert dict(found) == pytest.approx(ecapa.identify([sound])[0], abs=1e-6)
    with pytest.raises(InputError, match="too little speech"):
        lid.identify(sound[:100])


def test_pickle_works_in_a_process_that_has_loaded_it(ecapa: Ecapa) -> None:
    """What has no module of its own is looked for in every module there is."""

    def orphan() -> None: ...

    orphan.__module__ = None  # type: ignore[assignment]
    assert pickle.whichmodule(orphan, "orphan") == "__main__"  # type: ignore[attr-defined]


class _Malicious:
    """Would create a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("file", ["embedding_model.ckpt", "classifier.ckpt"])
@pytest.mark.parametrize("archive", [True, False], ids=["zip", "legacy"])
def test_a_checkpoint_that_runs_code_is_refused_and_does_not_run_it(
    copy: Path, tmp_path: Path, file: str, archive: bool
) -> None:
    import torch

    trap = tmp_path / "created by the checkpoint"
    (copy / file).unlink()
    torch.save({"w": _Malicious(trap)}, copy / file, _use_new_zipfile_serialization=archive)
    with pytest.raises(ModelError, match="not a plain checkpoint") as caught:
        load_speech_lid(NAME, str(copy))
    assert str(copy / file) in str(caught.value) and "\n" not in str(caught.value)
    assert not trap.exists()


def test_yaml_beside_a_checkpoint_is_not_run(copy: Path, tmp_path: Path) -> None:
    trap = tmp_path / "created by the yaml"
    (copy / "hyperparams.yaml").unlink()
    (copy / "hyperparams.yaml").write_text(f"x: !apply:os.mkdir [{trap}]\n")
    load_speech_lid(NAME, str(copy))
    assert not trap.exists()


def _garbage() -> list[tuple[str, bytes]]:
    import torch

    whole = io.BytesIO()
    torch.save({"w": torch.zeros(100)}, whole)
    return [
        ("empty", b""),
        ("text", b"not a checkpoint"),
        ("cut", whole.getvalue()[:-100]),
        ("zeros", bytes(1000)),
        ("html", b"<!DOCTYPE html><html>rate limited</html>"),
        ("lfs pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
        ("noise", np.random.default_rng(0).bytes(4096)),
        ("pickle of nothing", b"\x80\x04."),
        ("zip", b"PK\x03\x04" + bytes(200)),
    ]


@pytest.mark.parametrize(("kind", "data"), _garbage(), ids=[kind for kind, _ in _garbage()])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path, kind: str, data: bytes) -> None:
    import torch

    (tmp_path / "classifier.ckpt").write_bytes(data)
    with pytest.raises(ModelError, match=r"classifier\.ckpt") as caught:
        _load_checkpoint(torch.nn.Linear(2, 2), tmp_path / "classifier.ckpt", NAME)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", ["missing", "surplus", "shape", "list"])
def test_tensors_that_do_not_fit_are_named(copy: Path, change: str) -> None:
    import torch

    state = torch.load(copy / "embedding_model.ckpt", weights_only=True)
    name = next(key for key in state if key.endswith("weight"))
    if change == "missing":
        del state[name]
    elif change == "surplus":
        state["more.weight"] = torch.zeros(1)
        name = "more.weight"
    elif change == "shape":
        state[name] = state[name][:1]
    else:
        state = list(state.values())
        name = "embedding_model.ckpt"
    (copy / "embedding_model.ckpt").unlink()
    torch.save(state, copy / "embedding_model.ckpt")
    with pytest.raises(ModelError) as caught:
        load_speech_lid(NAME, str(copy))
    assert name in str(caught.value) and "embedding_model.ckpt" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "nothing\n", "'en: English' => 1\n'fr: French' => 2\n", "'en: English' => 0\n'fr: French' => 2\n"]
)
def test_labels_that_cannot_be_read_are_named(copy: Path, text: str) -> None:
    (copy / "label_encoder.txt").unlink()
    (copy / "label_encoder.txt").write_text(text)
    with pytest.raises(ModelError, match=r"label_encoder\.txt"):
        load_speech_lid(NAME, str(copy))


def test_another_number_of_labels_is_refused(copy: Path) -> None:
    (copy / "label_encoder.txt").unlink()
    (copy / "label_encoder.txt").write_text("'en: English' => 0\n'fr: French' => 1\n")
    with pytest.raises(ModelError, match=r"classifier\.ckpt"):
        load_speech_lid(NAME, str(copy))


@pytest.mark.parametrize("file", ["embedding_model.ckpt", "classifier.ckpt", "label_encoder.txt"])
def test_a_missing_file_is_named(copy: Path, file: str) -> None:
    (copy / file).unlink()
    with pytest.raises(ModelError, match=file):
        load_speech_lid(NAME, str(copy))
