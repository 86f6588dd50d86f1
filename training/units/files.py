"""The directory that units are made with: `centroids.safetensors`, and `units.json`, which says of what.

Published centroids come as one `.npy`; `read_codebook` takes that too.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import PositiveInt

from seamlessalign import storage
from seamlessalign.errors import ConfigError, ModelError
from seamlessalign.training.units.config import FeatureChoice
from seamlessalign.typed_config import Section, checked, digest

Float32 = npt.NDArray[np.float32]

CARD_FILE = "units.json"
FINGERPRINT, NUM_UNITS = "seamlessalign.units", "seamlessalign.num_units"  # in the schema's metadata of tables of units
CENTROIDS_FILE = "centroids.safetensors"
_TENSOR, _DEVIATIONS = "centroids", "deviations"


class UnitsCard(Section):
    """What `units.json` says of the centroids beside it."""

    features: FeatureChoice  # what frames are
    models: dict[str, str]  # SHA-256 by name of what makes them
    units: PositiveInt
    dim: PositiveInt  # of a frame
    sha256: str  # of the codebook
    objective: float | None = None  # mean squared distance of the sampled frames; null where centroids were taken
    frames: dict[str, int] = {}  # sampled, by language
    unused: int | None = None  # units that no sampled frame has

    @property
    def fingerprint(self) -> str:
        """16 hex digits that are the same for whatever gives the same units."""
        return digest("units", self.features, sorted(self.models.items()), self.sha256)


@dataclass(frozen=True, eq=False)
class Codebook:
    """Centroids `(num_units, dim)`, and what each dimension of a frame is divided by, `(dim,)`; None: by nothing."""

    centroids: Float32
    deviations: Float32 | None = None

    @property
    def sha256(self) -> str:
        """Of all its numbers as little-endian float32, row by row."""
        parts = [self.centroids] if self.deviations is None else [self.centroids, self.deviations]
        return hashlib.sha256(b"".join(np.ascontiguousarray(part, "<f4").tobytes() for part in parts)).hexdigest()


def save_units(directory: Path, codebook: Codebook, card: UnitsCard) -> None:
    """Write both files, each whole or not at all; the card is the last."""
    from safetensors.numpy import save

    tensors = {_TENSOR: np.ascontiguousarray(codebook.centroids)}
    if codebook.deviations is not None:
        tensors[_DEVIATIONS] = codebook.deviations
    storage.write_bytes_atomic(str(directory / CENTROIDS_FILE), save(tensors))
    text = json.dumps(card.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
    storage.write_bytes_atomic(str(directory / CARD_FILE), text.encode())


def read_card(directory: str) -> UnitsCard:
    """What a directory's units are. Raises ModelError where it is none, or is damaged."""
    path = Path(directory) / CARD_FILE
    if not path.is_file():
        raise ModelError(f"{directory}: has no {CARD_FILE}: name a directory that `seamlessalign train units` wrote")
    try:
        return checked(UnitsCard, dict(json.loads(path.read_text(encoding="utf-8"))), str(path))
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error
    except ConfigError as error:
        raise ModelError(str(error)) from error


def load_units(directory: str) -> tuple[Codebook, UnitsCard]:
    """Centroids and their card. Raises ModelError where they do not belong together."""
    card = read_card(directory)
    codebook = read_codebook(directory)
    if codebook.centroids.shape != (card.units, card.dim) or codebook.sha256 != card.sha256:
        raise ModelError(f"{directory}: {CENTROIDS_FILE} is not what {CARD_FILE} is about; copy both anew")
    return codebook, card


def read_codebook(place: str) -> Codebook:
    """Centroids of a `.npy`, a `.safetensors`, or a directory that a training wrote.

    Raises ModelError naming the file where it holds something else.
    """
    path = Path(place) / CENTROIDS_FILE if Path(place).is_dir() else Path(place)
    try:
        tensors = {_TENSOR: np.load(path, allow_pickle=False)} if path.suffix == ".npy" else _tensors(path)
        values = np.asarray(tensors[_TENSOR])
    except Exception as error:  # whatever a reader says of a damaged file
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{path}: has no centroids that can be read: {line}") from error
    if values.ndim != 2 or not values.size or values.dtype.kind != "f" or not np.isfinite(values).all():
        raise ModelError(f"{path}: holds {values.dtype} of shape {values.shape}, not centroids (num_units, dim)")
    deviations = tensors.get(_DEVIATIONS)
    if deviations is not None and (deviations.shape != values.shape[1:] or not (deviations > 0).all()):
        raise ModelError(f"{path}: its deviations do not belong to its centroids")
    return Codebook(np.ascontiguousarray(values, np.float32), deviations)


def check_models(card: UnitsCard, found: Mapping[str, str], origin: str) -> None:
    """Raise ModelError unless frames are made by the very models that the centroids were found with."""
    for name, sha256 in sorted(card.models.items()):
        if found.get(name) != sha256:
            there = f"{found[name][:12]}…" if name in found else "no such model"
            raise ModelError(
                f"{origin}: its centroids are of frames of {name!r} with SHA-256 {sha256[:12]}…, here is {there}; "
                f"name the right one under models.{name}"
            )


def _tensors(path: Path) -> Mapping[str, Any]:
    from safetensors.numpy import load_file

    return load_file(path)
