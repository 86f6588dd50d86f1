"""How well two sides of a shared space find each other: precision at one and xsim, with plain cosines and margins.

Row i of one side means the same as row i of the other. A row is found when the best row of the other side is its
counterpart, or says the same as it (`labels`). xsim is the share that is not found by the ratio margin over k = 4
neighbours, as LASER and SONAR report it (Duquenne et al. 2023, section 4.1).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import InputError

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

_SCORES = 1 << 24  # cosines held at once: 64 MiB


@dataclass(frozen=True)
class Retrieval:
    """Shares of rows whose best row of the other side is right."""

    num_rows: int
    forward: float  # by cosine, sources finding targets
    backward: float  # by cosine, targets finding sources
    forward_margin: float  # by ratio margin
    backward_margin: float

    @property
    def xsim(self) -> float:
        """Error rate of sources by margin."""
        return 1 - self.forward_margin


def retrieval(src: Float32, tgt: Float32, k: int = 4, labels: npt.ArrayLike | None = None) -> Retrieval:
    """Measure two sides (num_rows, dim) of any norm, row by row counterparts.

    k: neighbours whose mean cosine a margin is relative to. labels (num_rows,): rows with the same label mean the same,
    such as a text that occurs twice. Raises InputError for sides of different shape, without rows, or with rows that
    are zero or not finite.
    """
    if src.shape != tgt.shape or src.ndim != 2 or not len(src):
        raise InputError(
            f"sides have shapes {src.shape} and {tgt.shape}: row i of one is the counterpart of the other's"
        )
    x, y = _unit(src, "source"), _unit(tgt, "target")
    same = np.arange(len(x)) if labels is None else np.unique(np.asarray(labels), return_inverse=True)[1]
    k = min(k, len(x))
    around_x, around_y = _mean_of_nearest(x, y, k), _mean_of_nearest(y, x, k)
    shares = []
    for ours, theirs, mine, other in ((x, y, around_x, around_y), (y, x, around_y, around_x)):
        plain, margin = _best(ours, theirs, mine, other)
        shares.append((float(np.mean(same[plain] == same)), float(np.mean(same[margin] == same))))
    return Retrieval(len(x), shares[0][0], shares[1][0], shares[0][1], shares[1][1])


def _unit(rows: Float32, side: str) -> Float32:
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    bad = np.flatnonzero(~np.isfinite(norms) | (norms == 0))
    if len(bad):
        raise InputError(f"{side} row {bad[0]} is zero or not finite: leave it out on both sides")
    return np.asarray(rows / norms[:, None], np.float32)


def _blocks(num_rows: int, others: int) -> list[slice]:
    step = max(1, _SCORES // max(1, others))
    return [slice(start, start + step) for start in range(0, num_rows, step)]


def _mean_of_nearest(rows: Float32, others: Float32, k: int) -> Float32:
    """The mean cosine of each row with its k nearest of the other side, (num_rows,)."""
    means = [np.sort(rows[part] @ others.T, axis=1)[:, -k:].mean(1) for part in _blocks(len(rows), len(others))]
    return np.concatenate(means)


def _best(rows: Float32, others: Float32, around: Float32, around_others: Float32) -> tuple[Int64, Int64]:
    """Each row's best of the other side, by cosine and by cos / ((mean around it + mean around the other) / 2)."""
    plain, margin = [], []
    for part in _blocks(len(rows), len(others)):
        cosine = rows[part] @ others.T
        plain.append(cosine.argmax(1))
        margin.append((cosine / ((around[part, None] + around_others[None]) / 2)).argmax(1))
    return np.concatenate(plain), np.concatenate(margin)
