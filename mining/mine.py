"""Mining as a whole: neighbours both ways, margins, a choice of pairs, and what each pair is worth."""

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from seamlessalign.errors import InputError
from seamlessalign.mining.choose import ONCE_PER_TARGET, check_strategy, choose
from seamlessalign.mining.knn import check_k, neighbours
from seamlessalign.mining.margin import check_margin, margins
from seamlessalign.mining.precision import estimate_precision
from seamlessalign.mining.vectors import Vectors

log = logging.getLogger(__name__)

_MAX_K = 2**15  # ranks are int16


def mine_pairs(
    src: npt.NDArray[Any],
    tgt: npt.NDArray[Any],
    k: int = 16,
    margin: str = "ratio",
    strategy: str = "max",
    threshold: float | None = 1.15,
    backend: str = "auto",
    decoys: npt.NDArray[Any] | None = None,
    device: str | None = None,
) -> pa.Table:
    """Pairs of rows that probably mean the same: those of `mine_candidates` with a margin of `threshold` or more.

    A threshold belongs to an embedding space: 1.15 is SONAR's. None keeps every pair that the strategy chose.
    """
    if threshold is not None and not np.isfinite(threshold):
        raise InputError(f"threshold is {threshold}: give a number, or None to keep every pair")
    pairs = mine_candidates(
        src, tgt, k=k, margin=margin, strategy=strategy, backend=backend, decoys=decoys, device=device
    )
    if threshold is None:
        return pairs
    # Compared as float32, so that a threshold read from the column margin keeps the pair it was read from.
    return pairs.filter(pc.greater_equal(pairs["margin"], pa.scalar(np.float32(threshold), pa.float32())))


def mine_candidates(
    src: npt.NDArray[Any],
    tgt: npt.NDArray[Any],
    *,
    k: int = 16,
    margin: str = "ratio",
    strategy: str = "max",
    backend: str = "auto",
    decoys: npt.NDArray[Any] | None = None,
    device: str | None = None,
) -> pa.Table:
    """Every pair that the strategy chooses, whatever its margin.

    src (N, D), tgt (M, D) and decoys (Z, D): float16 or float32 rows of any norm. Columns: src and tgt int64 (row
    numbers), margin and cosine float32, forward_rank int16 (0-based place of tgt among src's k neighbours, -1 when not
    among them) and backward_rank int16. Sorted by margin descending, then src, then tgt.

    Decoys are target rows known to have no counterpart, best of the same kind as the targets. They compete with the
    targets in neighbourhoods, ranks and choice, are never returned, and give the column precision_estimate float32:
    the probability that this one pair is right (see `precision.py`). Raises InputError as `neighbours` does, and for a
    margin or strategy that does not exist.
    """
    check_margin(margin)
    check_strategy(strategy)
    if max(check_k(k)) > _MAX_K:
        raise InputError(f"k is {k}: at most {_MAX_K} neighbours have a rank")
    forward, backward = neighbours(src, _with_decoys(tgt, decoys), k, backend, device)
    pairs = choose(forward, backward, *margins(forward, backward, margin), strategy)
    columns: dict[str, npt.NDArray[Any]] = {
        "src": pairs.src,
        "tgt": pairs.tgt,
        "margin": pairs.margin,
        "cosine": pairs.cosine,
        "forward_rank": pairs.forward_rank,
        "backward_rank": pairs.backward_rank,
    }
    if decoys is not None:
        is_decoy = pairs.tgt >= len(tgt)
        columns["precision_estimate"] = estimate_precision(
            pairs.margin, is_decoy, len(tgt), len(decoys), strategy in ONCE_PER_TARGET
        )
        columns = {name: column[~is_decoy] for name, column in columns.items()}
        log.info("%d pairs, and %d hits on %d decoys", len(columns["src"]), int(is_decoy.sum()), len(decoys))
    return pa.table({name: pa.array(column) for name, column in columns.items()})


def _with_decoys(tgt: npt.NDArray[Any], decoys: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
    """Targets with the decoys below them; each is checked by itself so that an error names the right rows."""
    if decoys is None:
        return tgt
    target, extra = Vectors(tgt, "tgt"), Vectors(decoys, "decoys")
    if target.dim != extra.dim:
        raise InputError(f"tgt has {target.dim} dimensions and decoys {extra.dim}: embed both with the same model")
    return np.concatenate([tgt, decoys])
