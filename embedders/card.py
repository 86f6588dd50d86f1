"""An embedder's card: each language's mean, which is subtracted from its rows, and default margin thresholds.

A space of a pretrained encoder has an offset for each language that brings unrelated sentences of one language
together; subtracting each language's mean is worth several points of F1 in mining. The card holds means fitted on a
sample, and the thresholds that were fitted in the space so centred: a raw number carries over to no other space.

On disk a card is `cards/<name>.yaml`, and beside it `cards/<name>.safetensors` with one tensor `mean.<lang>` for each
language, where the embedder has means of its own.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import ModelError
from seamlessalign.storage import atomic_local, write_bytes_atomic

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Threshold:
    """A default margin threshold and what it was fitted for."""

    value: float
    precision: float  # of the pairs above it, on the data it was fitted on; NaN where that is not known
    fitted_on: str
    fitted_for: str = ""  # such as `best F1` or `precision 0.8`; empty where that is not known


@dataclass(frozen=True)
class Card:
    """Means by language (ISO 639-3) and thresholds by kind of pair (`text-text`, `speech-text`, `speech-speech`)."""

    name: str
    dim: int
    means: Mapping[str, Float32] = field(default_factory=dict)
    thresholds: Mapping[str, Threshold] = field(default_factory=dict)

    def mean(self, lang: str) -> Float32:
        """The mean of a language, shape `(dim,)`; of all languages together where this one was not fitted."""
        if lang in self.means:
            return self.means[lang]
        if self.means:
            return np.asarray(np.stack(list(self.means.values())).mean(axis=0, dtype=np.float64), np.float32)
        return np.zeros(self.dim, np.float32)

    def centre(self, rows: Float32, lang: str) -> Float32:
        """Unit rows `(num_rows, dim)` of one language, less its mean, and of unit length again.

        A row that points nowhere, because it or what is left of it is zero, becomes NaN: it is near to nothing.
        """
        unit = unit_rows(rows)
        centred = unit - self.mean(lang)
        centred[~unit.any(axis=1) | ~centred.any(axis=1)] = np.nan
        return unit_rows(centred)


def unit_rows(rows: Float32) -> Float32:
    """Rows divided by their L2 norm."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, np.finfo(np.float32).tiny), np.float32)


def fit_mean(rows: Float32) -> Float32:
    """The mean of a sample's unit rows, shape `(dim,)`."""
    return np.asarray(unit_rows(rows).mean(axis=0, dtype=np.float64), np.float32)


def load_card(name: str) -> Card:
    """Read the card of an embedder from those that the package carries."""
    return _read_card(name, *_card_files(name))


def card_beside(folder: Path, name: str) -> Card | None:
    """The card that a model's own directory holds as `card.yaml` and `card.safetensors`; None where there is none.

    Raises ModelError where it cannot be read.
    """
    described, weights = folder / "card.yaml", folder / "card.safetensors"
    if not described.is_file():
        return None
    try:
        return _read_card(name, described.read_bytes(), weights.read_bytes() if weights.is_file() else b"")
    except Exception as error:
        raise ModelError(f"{described}: cannot be read as a card: {' '.join(str(error).split())}") from error


def _read_card(name: str, described: bytes, weights: bytes) -> Card:
    import yaml
    from safetensors.numpy import load

    description: dict[str, Any] = yaml.safe_load(described)
    tensors = load(weights) if weights else {}
    return Card(
        name,
        int(description["dim"]),
        {key.removeprefix("mean."): value for key, value in sorted(tensors.items())},
        {
            kind: Threshold(**{"precision": math.nan, **values})
            for kind, values in description.get("thresholds", {}).items()
        },
    )


def has_card(name: str) -> bool:
    """Whether the package carries a card of this name."""
    return resources.files("seamlessalign.embedders").joinpath("cards", f"{name}.yaml").is_file()


def card_digest(name: str) -> str:
    """First 16 hex digits of the SHA-256 of a card, on whose means rows depend, and choices on its thresholds too."""
    return hashlib.sha256(b"".join(_card_files(name))).hexdigest()[:16]


def means_digest(name: str) -> str:
    """As `card_digest`, of the means alone: other thresholds make no other rows. Without a card there are no means."""
    return hashlib.sha256(_card_files(name)[1] if has_card(name) else b"").hexdigest()[:16]


def save_card(card: Card, folder: Path, recipe: Mapping[str, Any], stem: str | None = None) -> None:
    """Write a card's two files; `recipe` says how it was made and is kept in the YAML.

    Files are named as the card is, or by `stem`: beside a model's weights, by `card`.
    """
    import yaml
    from safetensors.numpy import save_file

    description = {
        "name": card.name,
        "dim": card.dim,
        "thresholds": {
            kind: {
                "value": round(t.value, 4),
                "precision": round(t.precision, 4),
                **({"fitted_for": t.fitted_for} if t.fitted_for else {}),
                "fitted_on": t.fitted_on,
            }
            for kind, t in card.thresholds.items()
        },
        "recipe": dict(recipe),
    }
    stem = stem or card.name
    folder.mkdir(parents=True, exist_ok=True)
    if card.means:
        tensors = {f"mean.{lang}": mean for lang, mean in sorted(card.means.items())}
        with atomic_local(str(folder / f"{stem}.safetensors")) as temporary:
            save_file(tensors, temporary)
    written = yaml.safe_dump(description, sort_keys=False, allow_unicode=True)
    write_bytes_atomic(str(folder / f"{stem}.yaml"), written.encode())


def _card_files(name: str) -> tuple[bytes, bytes]:
    place = resources.files("seamlessalign.embedders").joinpath("cards")
    means = place.joinpath(f"{name}.safetensors")
    try:
        return place.joinpath(f"{name}.yaml").read_bytes(), means.read_bytes() if means.is_file() else b""
    except OSError as error:
        known = sorted(file.name.removesuffix(".yaml") for file in place.iterdir() if file.name.endswith(".yaml"))
        raise ModelError(f"embedder {name!r} has no card; there are {', '.join(known)}") from error
