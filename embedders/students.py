"""Students, speech encoders that a text embedder taught, as a run needs to know them before any is loaded.

A student is a directory: `config.json` and `model.safetensors`, and mostly a card of its own, `card.yaml` and
`card.safetensors`. `whisper-e5` is the one that comes with the project.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seamlessalign.embedders.card import Card, card_beside, card_digest, has_card, load_card, means_digest
from seamlessalign.errors import ModelError
from seamlessalign.model_files import KNOWN_MODELS, find_model

STUDENTS = ("whisper-e5", "student")

_ROWS_DEPEND_ON = ("config.json", "card.safetensors")


def student_models(name: str, models: Mapping[str, str]) -> tuple[list[str], bool]:
    """Names of the models that a student loads, its own the last, and whether it must know what language it hears.

    Raises ModelError where the student cannot be found or read.
    """
    folder = _folder(name, models)
    described = _described(folder)
    needed = [model for model in described["models"] if model in KNOWN_MODELS]
    return [*needed, name], described["student"]["backbone"]["kind"] == "whisper-decoder"


def student_teacher(name: str, models: Mapping[str, str]) -> str:
    """The text embedder that taught a student. Raises ModelError where the student cannot be found or read."""
    return str(_described(_folder(name, models))["student"].get("teacher", "e5-small"))


def student_card(name: str, models: Mapping[str, str]) -> Card:
    """The card in a student's directory, or else the project's own of this name, or else one without means.

    Raises ModelError where the student cannot be found or its card does not fit it.
    """
    folder = _folder(name, models)
    dim = int(_described(folder)["student"]["dim"])
    card = card_beside(folder, name) or (load_card(name) if has_card(name) else Card(name, dim))
    wrong = [lang for lang, mean in card.means.items() if mean.shape != (dim,)]
    if card.dim != dim or wrong:
        raise ModelError(f"student {folder}: its rows have {dim} dimensions, its card {card.dim}")
    return card


def student_digest(name: str, models: Mapping[str, str]) -> str:
    """First 16 hex digits of a SHA-256: of what a student's rows depend on beside weights, and of thresholds."""
    card = card_digest(name) if has_card(name) else ""
    return _digest_of(_folder(name, models), (*_ROWS_DEPEND_ON, "card.yaml"), card)


def student_rows_digest(name: str, models: Mapping[str, str]) -> str:
    """As `student_digest`, without thresholds."""
    means = means_digest(name) if has_card(name) else ""
    return _digest_of(_folder(name, models), _ROWS_DEPEND_ON, means)


def _digest_of(folder: Path, files: Sequence[str], more: str) -> str:
    parts = hashlib.sha256()
    for file in files:
        data = (folder / file).read_bytes() if (folder / file).is_file() else b""
        parts.update(len(data).to_bytes(8, "little") + data)
    parts.update(more.encode())
    return parts.hexdigest()[:16]


def _folder(name: str, models: Mapping[str, str]) -> Path:
    return find_model(name, models.get(name)).directory


def _described(folder: Path) -> dict[str, Any]:
    """What `config.json` says. Raises ModelError where it is not that of a student."""
    try:
        described: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        dict(described["models"]), str(described["student"]["backbone"]["kind"]), int(described["student"]["dim"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / 'config.json'}: cannot be read as that of a student: {error!r}") from error
    return described
