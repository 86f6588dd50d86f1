"""Which models a run looks for before it begins: those that its embedders load, and no others."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from seamlessalign.config import RunConfig
from seamlessalign.embedders import speech_digest
from seamlessalign.errors import ConfigError, ModelError
from seamlessalign.model_files import KNOWN_MODELS
from seamlessalign.pipelines import run, stage_plans
from seamlessalign.pipelines.check_models import check_models


def _config(speech: str, text: str, directions: list[str], models: dict[str, str]) -> RunConfig:
    values: dict[str, Any] = {
        "directions": directions,
        "models": models,
        "speech": {"inputs": ["*.wav"], "lang": "fra", "embedder": speech},
        "text": {"inputs": ["*.txt"], "lang": "eng", "embedder": text},
    }
    return RunConfig.model_validate(values)


def _shelf(folder: Path) -> Path:
    for name in ("sonar_text_encoder.pt", "sentencepiece.source.256000.model", "spenc.v3ap.fra.pt"):
        (folder / name).write_bytes(name.encode())
    return folder


def test_sonar_needs_its_own_models_and_notices_when_they_change(tmp_path: Path) -> None:
    config = _config("sonar", "sonar", ["eng-frA"], {"sonar": str(_shelf(tmp_path))})
    check_models(config)
    before = run._model_digests(config)
    assert {name for name in before if not name.startswith("fasttext")} == {"sonar", "sonar-speech-fra"}
    (tmp_path / "spenc.v3ap.fra.pt").write_bytes(b"other weights")
    after = run._model_digests(config)
    assert [name for name in before if before[name] != after[name]] == ["sonar-speech-fra"]


def test_an_encoder_that_is_missing_is_named(tmp_path: Path) -> None:
    (_shelf(tmp_path) / "spenc.v3ap.fra.pt").unlink()
    with pytest.raises(ModelError, match=r"sonar-speech-fra.* was not found"):
        run._model_digests(_config("sonar", "sonar", ["eng-frA"], {"sonar": str(tmp_path)}))


@pytest.mark.parametrize(
    ("embedder", "told"), [("transcribe-e5", "Whisper does not know it"), ("sonar", "no speech encoder")]
)
def test_a_language_that_cannot_be_heard_is_told_at_once(embedder: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        check_models(_config(embedder, "e5-small", ["eng-aceA"], {}))


@pytest.mark.parametrize(
    ("embedder", "text", "other"), [("sonar", "sonar", "shared"), ("whisper-e5", "e5-small", "each")]
)
def test_how_spans_are_heard_is_part_of_what_segments_depend_on(embedder: str, text: str, other: str) -> None:
    digests = {}
    for frames in (None, "each", "shared"):
        config = _config(embedder, text, ["eng-frA"], {})
        config = config.model_copy(update={"speech": config.speech.model_copy(update={"frames": frames})})
        check_models(config)
        digests[frames] = stage_plans._speech_digest(config, {})
    assert [frames for frames, found in digests.items() if found != digests[None]] == [other]


def test_a_student_needs_the_model_of_its_backbone_and_its_card_counts(tmp_path: Path) -> None:
    described = {"models": {"whisper-base": "0"}, "student": {"dim": 3, "backbone": {"kind": "whisper"}}}
    (tmp_path / "config.json").write_text(json.dumps(described))
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / "whisper").mkdir(exist_ok=True)
        (tmp_path / "whisper" / name).write_bytes(b"")
    places = {"student": str(tmp_path), "whisper-base": str(tmp_path / "whisper")}
    config = _config("student", "sonar", ["frA-enA"], places)
    check_models(config)
    assert {"student", "whisper-base"} <= run._model_digests(config).keys()
    before = stage_plans._speech_digest(config, {}), speech_digest("student", places)
    (tmp_path / "card.yaml").write_text("dim: 3\n")  # may have other thresholds, on which no rows depend
    after = stage_plans._speech_digest(config, {}), speech_digest("student", places)
    assert after[0] == before[0] and after[1] != before[1]
    (tmp_path / "card.safetensors").write_bytes(save({"mean.fra": np.ones(3, np.float32)}))
    assert stage_plans._speech_digest(config, {}) != after[0] and speech_digest("student", places) != after[1]


def test_a_student_that_is_nowhere_says_where_to_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEAMLESSALIGN_MODELS", raising=False)
    without = replace(KNOWN_MODELS["whisper-e5"], bundled="embedders/weights/nothing")
    monkeypatch.setitem(KNOWN_MODELS, "whisper-e5", without)
    with pytest.raises(ModelError, match=r"'whisper-e5' was not found: put it into a directory .* models\.whisper-e5"):
        check_models(_config("whisper-e5", "e5-small", ["eng-frA"], {}))


def test_two_embedders_of_different_spaces_are_told_before_any_work() -> None:
    check_models(_config("whisper-e5", "labse", ["frA-enA"], {}))  # no text is mined against
    with pytest.raises(ConfigError, match=r"whisper-e5 makes rows in the space of e5-small, but .* is labse"):
        check_models(_config("whisper-e5", "labse", ["frA-enA", "eng-frA"], {}))


def test_an_embedder_that_does_not_exist_is_told_at_once() -> None:
    with pytest.raises(ModelError, match="'whisper' is not known; there are transcribe-e5"):
        check_models(_config("whisper", "e5-small", ["eng-frA"], {}))
