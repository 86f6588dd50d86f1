"""Units with and without their repeats: 50 a second as they are heard, or runs of equal ones as one with a duration.

SeamlessM4T's text-to-unit model learns reduced units (arXiv 2308.11596, 4.3); its vocoder is given them too and makes
up how long each lasts. Which of the two a table holds is always said: one that is reduced has `durations`.
"""

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import InputError

Int32 = npt.NDArray[np.int32]


def reduce_units(units: npt.ArrayLike) -> tuple[Int32, Int32]:
    """Units `(num_frames,)` → each run of equal ones once `(num_runs,)`, and how many frames it lasts `(num_runs,)`."""
    frames = _row(units, "units")
    first = np.flatnonzero(np.r_[True, frames[1:] != frames[:-1]]) if len(frames) else np.zeros(0, np.int64)
    return frames[first], np.diff(np.r_[first, len(frames)]).astype(np.int32)


def expand_units(reduced: npt.ArrayLike, durations: npt.ArrayLike) -> Int32:
    """Units `(num_runs,)`, each as many times as its duration `(num_runs,)` says: what `reduce_units` was given.

    Raises InputError where there are not as many durations as units, or one is below 1.
    """
    runs, lengths = _row(reduced, "units"), _row(durations, "durations")
    if len(runs) != len(lengths):
        raise InputError(f"{len(runs)} units have {len(lengths)} durations: each needs one")
    if len(lengths) and lengths.min() < 1:
        raise InputError(f"unit {int(lengths.argmin())} has a duration of {int(lengths.min())} frames: at least 1")
    return np.repeat(runs, lengths)


def _row(values: npt.ArrayLike, what: str) -> Int32:
    row = np.asarray(values)
    if row.ndim != 1 or (len(row) and not np.issubdtype(row.dtype, np.integer)):
        raise InputError(f"{what} are one row of whole numbers, not an array of {row.dtype} of shape {row.shape}")
    return np.asarray(row, np.int32)
