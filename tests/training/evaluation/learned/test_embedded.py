"""Texts and sounds as rows: those of the embedders themselves, each made once, and why some have none."""

import hashlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from seamlessalign.embedders import Card, load_speech_embedder, load_text_embedder, text
from seamlessalign.embedders.sonar import speech as sonar_speech
from seamlessalign.embedders.sonar import text as sonar_text
from seamlessalign.embedders.text import TextEmbedder
from seamlessalign.errors import ConfigError, InputError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.speech_sources import Sound
from seamlessalign.training.evaluation.learned import embedded
from seamlessalign.training.evaluation.learned.embedded import Embedders, Float32
from tests.embedders import sonar_models
from tests.training.evaluation.learned.tiny_blaser import make_student


def _noise(seconds: float, seed: int) -> Float32:
    made = np.random.default_rng(seed).uniform(-0.3, 0.3, int(SAMPLE_RATE * seconds))
    return np.asarray(made, np.float32)


def _written(folder: Path, sounds: Sequence[Float32]) -> list[Sound]:
    files = []
    for number, samples in enumerate(sounds):
        files.append(folder / f"{number}.wav")
        soundfile.write(files[-1], samples, SAMPLE_RATE, subtype="FLOAT")
    return [Sound(str(file)) for file in files]


@pytest.mark.embedded
def test_texts_are_embedded_once_and_what_cannot_be_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[list[str], str]] = []
    embed = TextEmbedder.embed

    def noting(self: TextEmbedder, texts: Sequence[str], lang: str) -> Float32:
        asked.append((list(texts), lang))
        return embed(self, texts, lang)

    monkeypatch.setattr(TextEmbedder, "embed", noting)
    embedders = Embedders("e5-small", None)
    texts = ["null", None, "a cat", " \n", "null", "half \ud800", "?!"]
    found = embedders.texts(texts, "eng")
    assert found.failed == {1: "no_output", 3: "blank", 5: "not_unicode"}
    assert asked == [(["null", "a cat", "?!"], "eng")]
    wanted = embed(load_text_embedder("e5-small"), ["null", "a cat", "?!"], "eng")
    np.testing.assert_array_equal(found.rows[[0, 2, 6]], wanted)
    assert not found.rows[[1, 3, 5]].any()
    np.testing.assert_array_equal(found.rows[4], found.rows[0])
    again = embedders.texts(["a dog", *texts[::-1]], "eng")
    assert asked[1:] == [(["a dog"], "eng")]
    np.testing.assert_array_equal(again.rows[:0:-1], found.rows)
    embedders.texts(["a cat"], "fra")  # another mean is subtracted
    told: list[str] = []
    monkeypatch.setattr(text, "_MAX_CHARACTERS", 20)
    Embedders("e5-small", None, say=told.append).texts(["a b " * 20, "a"], "eng")
    assert told == ["2 of 2 texts embedded", "1 texts are longer than e5-small takes: without their ends"]
    assert asked[2:3] == [(["a cat"], "fra")]
    with pytest.raises(InputError, match="xxx"):
        embedders.texts(["a cat"], "xxx")


@pytest.mark.embedded
def test_sounds_are_heard_each_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sounds = [_noise(seconds, seed) for seed, seconds in enumerate([0.6, 1.1, 0.4, 0.0005])]
    make_student(tmp_path / "student", sounds[:3])
    places = {"student": str(tmp_path / "student")}
    student = load_speech_embedder("student", places)
    wanted = np.concatenate([student.embed(one, np.array([[0, len(one)]]), "fra") for one in sounds[:3]])
    assert np.abs(wanted @ wanted.T - np.eye(3)).max() < 0.99  # they differ
    files = [*_written(tmp_path, [*sounds, np.zeros(9000, np.float32)]), None, Sound(str(tmp_path / "nowhere.wav"))]
    for together in (embedded._SAMPLES, 1):
        monkeypatch.setattr(embedded, "_SAMPLES", together)
        told: list[str] = []
        embedders = Embedders("e5-small", "student", places, say=told.append)
        found = embedders.sounds([*files, files[0]], "fra")
        reasons = {3: "nothing_heard", 4: "silent", 5: "no_output", 6: "missing"}
        assert found.failed == reasons
        np.testing.assert_allclose(found.rows[[0, 1, 2, 7]], wanted[[0, 1, 2, 0]], atol=1e-5)
        assert told[-1] == "4 of 6 sounds embedded"
        assert embedders.sounds(files[::-1], "fra").failed == {6 - place: why for place, why in reasons.items()}
        assert told[-1] == "4 of 6 sounds embedded"  # nothing is heard again


@pytest.mark.slow
@pytest.mark.embedded
def test_the_signature_has_models_and_means() -> None:
    """Transcripts are embedded as texts are, less the same means."""
    means = resources.files("seamlessalign.embedders").joinpath("cards/e5-small.safetensors").read_bytes()
    e5 = f"e5-small-1571fc98+means-{hashlib.sha256(means).hexdigest()[:8]}"
    embedders = Embedders("e5-small", "transcribe-e5")
    assert embedders.signature("text", "eng") == f"text:{e5}"
    assert embedders.signature("speech", "fra") == f"speech:whisper-base-d01c3014+{e5}"


def test_spaces_that_differ(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sonar embeds into the space of sonar, not of e5-small: give text: sonar"):
        Embedders("e5-small", "sonar")


@pytest.mark.slow
def test_sonar_from_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text and speech of a small SONAR with random weights, in the files that it comes in."""
    small = Card("sonar", sonar_models.DIM)
    monkeypatch.setattr(sonar_text, "load_card", lambda name: small)
    monkeypatch.setattr(sonar_speech, "load_card", lambda name: small)
    pieces: Any = sonar_models.train_tokenizer(tmp_path / "sentencepiece.source.256000.model")
    weights = sonar_models.random_text(pieces.GetPieceSize() + 1 + 202 + 3, decoder=False)
    torch.save(sonar_models.fairseq1_text(weights, decoder=False), tmp_path / "sonar_text_encoder.pt")
    torch.save(sonar_models.fairseq1_speech(sonar_models.random_speech()), tmp_path / "spenc.v5ap.fra.7.pt")
    places = {"sonar": str(tmp_path), "sonar-speech-fra": str(tmp_path / "spenc.v5ap.fra.7.pt")}
    embedders = Embedders("sonar", "sonar", places)
    assert embedders.dim == sonar_models.DIM
    texts = embedders.texts(["the cat", "The cat!", "", "the cat"], "eng")
    wanted = load_text_embedder("sonar", str(tmp_path), dtype="float32").embed(["the cat", "The cat!"], "eng")
    np.testing.assert_allclose(texts.rows[[0, 1, 3]], wanted[[0, 1, 0]], atol=1e-6)
    assert np.abs(texts.rows[0] - texts.rows[1]).max() > 0.01  # case and punctuation are read
    sounds = [_noise(0.8, 1), _noise(61, 2), _noise(0.5, 3)]
    heard = embedders.sounds(_written(tmp_path, sounds), "fra")
    speech = load_speech_embedder("sonar", places)
    rows = [speech.embed(one, np.array([[0, len(one)]]), "fra") for one in (sounds[0], sounds[2])]
    np.testing.assert_allclose(heard.rows[[0, 2]], np.concatenate(rows), atol=1e-5)
    assert heard.failed == {1: "not_embedded"}  # a minute is the most that SONAR is given
    assert embedders.signature("speech", "fra").startswith("speech:sonar-speech-fra-")
    assert "means" not in embedders.signature("text", "eng")
    with pytest.raises(InputError, match="is none of those that SONAR reads"):
        embedders.texts(["x"], "bre")
    with pytest.raises(InputError, match="SONAR has no speech encoder for it"):
        embedders.sounds([None], "ace")
