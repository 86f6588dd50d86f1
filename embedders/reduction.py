"""Fewer dimensions for rows of any embedder, and whitening: one linear map for all languages, fitted on a sample.

The map is that of principal components: rows, centred and of unit length, are turned to the directions in which they
vary most, and the others are left out. Whitening divides each direction by a power of its standard deviation, so that
the few in which everything varies count less (Mu and Viswanath 2018; Su et al. 2021, "Whitening sentence
representations", section 3, is power 1). Rows of different sides can only be compared under the same map.

All sums here are of whole numbers below 2**53 in float64, so that they are exact: rows come out the same to the last
bit however they are cut into files and by however many threads. On disk a reduction is `<name>.safetensors` with one
tensor, and beside it `<name>.yaml`, which says what it was fitted on.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign import storage
from seamlessalign.embedders.card import unit_rows
from seamlessalign.errors import InputError, ModelError

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

_MATRIX_UNIT = 2.0**24  # numbers of a matrix are whole numbers of its inverse, at most one: float32 has them all
_ROW_UNIT = 2.0**28  # by which a row is rounded for its products with a matrix
_FIT_UNIT = 2.0**20  # by which a row is rounded for its products with itself
_BLOCK = 4096  # rows at a time: their products with themselves are below 2**53
_LEAST = 1e-4  # of the mean variance: a direction with less is whitened as if it had so much


@dataclass(frozen=True)
class Reduction:
    """A linear map of rows, and how much of the sample's variance it keeps."""

    matrix: Float32  # (dim before, dim after); no column is longer than 1, and so no row of unit length becomes longer
    explained: float  # share of the variance in the directions that are kept
    whiten: float  # power of the standard deviation that each direction is divided by
    recipe: Mapping[str, Any] = field(default_factory=dict)  # what it was fitted on, for people

    @property
    def dims(self) -> tuple[int, int]:
        """Dimensions before and after."""
        return int(self.matrix.shape[0]), int(self.matrix.shape[1])

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of the map: equal ones give equal rows."""
        return hashlib.sha256(repr(self.dims).encode() + self.matrix.astype("<f4").tobytes()).hexdigest()[:16]

    def apply(self, rows: Float32) -> Float32:
        """Rows of `(num_rows, dim before)`, centred, of any norm → unit rows `(num_rows, dim after)`.

        A row of which nothing is left becomes NaN, as one that is not finite does. Raises InputError for other
        dimensions.
        """
        before, after = self.dims
        if rows.ndim != 2 or rows.shape[1] != before:
            raise InputError(f"rows have {rows.shape[-1]} dimensions, the reduction is of {before}")
        out = np.empty((len(rows), after), np.float32)
        whole = self.matrix.astype(np.float64) * _MATRIX_UNIT
        for start in range(0, len(rows), _BLOCK):
            mapped = np.rint(unit_rows(rows[start : start + _BLOCK]).astype(np.float64) * _ROW_UNIT) @ whole
            lengths = np.sqrt((mapped * mapped).sum(axis=1, keepdims=True))
            lengths[lengths == 0] = np.nan
            out[start : start + _BLOCK] = mapped / lengths
        return out


def fit_reduction(
    samples: Iterable[Float32], dim: int, whiten: float = 0.0, recipe: Mapping[str, Any] | None = None
) -> Reduction:
    """Fit a reduction on rows of several languages together.

    Args:
        samples: rows `(num_rows, dim before)` of any norm, each language's less its own mean: an offset between
            languages would be the direction that varies most. All rows count the same.
        dim: dimensions to keep, as many as there are for whitening alone.
        whiten: power of the standard deviation that directions are divided by, 0 (none) to 1 (all vary alike).
        recipe: what the samples are, kept with the reduction.

    Raises:
        InputError: fewer rows or dimensions than `dim`, rows that are zero or not finite, or a power that cannot be.
    """
    if not 0 <= whiten <= 1:
        raise InputError(f"whiten is {whiten:g}: give a power from 0 to 1")
    covariance, count = _covariance(samples)
    if dim < 1 or dim > len(covariance) or dim > count:
        raise InputError(f"{dim} dimensions cannot be fitted on {count} rows of {len(covariance)}")
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])]
    vectors = vectors * np.where(largest < 0, -1.0, 1.0)  # of the two signs that are as good, always the same
    scale = np.maximum(values, _LEAST * values.mean()) ** (-whiten / 2)
    kept = vectors[:, :dim] * (scale[:dim] / scale[:dim].max())
    matrix = (np.trunc(kept * _MATRIX_UNIT) / _MATRIX_UNIT).astype(np.float32)
    explained = float(values[:dim].sum() / values.sum())
    return Reduction(matrix, explained, whiten, {**(recipe or {}), "rows": count})


def _covariance(samples: Iterable[Float32]) -> tuple[Float64, int]:
    """Mean product of unit rows with themselves `(dim, dim)`, about 0, and the number of rows."""
    total, count = np.zeros((0, 0), np.int64), 0
    for sample in samples:
        if not len(sample):
            continue
        norms = np.linalg.norm(sample.astype(np.float64), axis=1)
        if not (np.isfinite(norms) & (norms > 0)).all():
            raise InputError("a row of the sample is zero or not finite: leave it out")
        if len(total) and sample.shape[1] != len(total):
            raise InputError(f"samples have {len(total)} and {sample.shape[1]} dimensions: all must have the same")
        total = total if len(total) else np.zeros((sample.shape[1], sample.shape[1]), np.int64)
        for start in range(0, len(sample), _BLOCK):
            whole = np.rint(unit_rows(sample[start : start + _BLOCK]).astype(np.float64) * _FIT_UNIT)
            total += np.rint(whole.T @ whole).astype(np.int64)
        count += len(sample)
    return np.asarray(total / _FIT_UNIT**2 / max(count, 1), np.float64), count


def save_reduction(reduction: Reduction, folder: str, name: str) -> list[str]:
    """Write a reduction's two files below a folder, any that storage writes, and return their uris."""
    import yaml
    from safetensors.numpy import save

    described = {
        "name": name,
        "dims": list(reduction.dims),
        "whiten": reduction.whiten,
        "explained": round(reduction.explained, 6),
        "digest": reduction.digest,
        "recipe": dict(reduction.recipe),
    }
    uris = [storage.join(folder, f"{name}.{kind}") for kind in ("safetensors", "yaml")]
    storage.write_bytes_atomic(uris[0], save({"matrix": reduction.matrix}))
    storage.write_bytes_atomic(uris[1], yaml.safe_dump(described, sort_keys=False, allow_unicode=True).encode())
    return uris


def load_reduction(uri: str) -> Reduction:
    """Read a reduction from its `.safetensors`, or from its `.yaml`; the other must lie beside it.

    Raises ModelError, naming the file, where one is missing or damaged, or where they do not belong together.
    """
    import yaml
    from safetensors import SafetensorError
    from safetensors.numpy import load

    stem = uri.removesuffix(".safetensors").removesuffix(".yaml")
    try:
        described = yaml.safe_load(storage.read_bytes(f"{stem}.yaml"))
        matrix = load(storage.read_bytes(f"{stem}.safetensors"))["matrix"]
        explained, whiten = float(described["explained"]), float(described["whiten"])
        told, recipe = str(described["digest"]), dict(described["recipe"])
    except (OSError, yaml.YAMLError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{stem}: is no reduction that can be read: {' '.join(str(error).split())}") from error
    if matrix.ndim != 2 or matrix.dtype != np.float32 or not _is_exact(matrix):
        raise ModelError(f"{stem}.safetensors: its matrix is not one of a reduction; fit it again")
    reduction = Reduction(matrix, explained, whiten, recipe)
    if reduction.digest != told:
        raise ModelError(f"{stem}: its two files do not belong together: digests {told} and {reduction.digest}")
    return reduction


def _is_exact(matrix: Float32) -> bool:
    """Whether products with a matrix are exact: whole numbers of its unit, in columns no longer than 1."""
    whole = matrix.astype(np.float64) * _MATRIX_UNIT
    with np.errstate(invalid="ignore", over="ignore"):
        return bool((whole == np.rint(whole)).all() and (np.linalg.norm(whole, axis=0) <= _MATRIX_UNIT).all())
