"""Which models a run looks for before it begins: those that its embedders load, and no others."""

from pathlib import Path
from typing import Any

import pytest

from seamlessalign.config import RunConfig
from seamlessalign.errors import ConfigError, ModelError
from seamlessalign.pipelines import run


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
    run._check_models(config)
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
        run._check_models(_config(embedder, "e5-small", ["eng-aceA"], {}))


def test_an_embedder_that_does_not_exist_is_told_at_once() -> None:
    with pytest.raises(ModelError, match="'whisper' is not known; there are transcribe-e5"):
        run._check_models(_config("whisper", "e5-small", ["eng-frA"], {}))
