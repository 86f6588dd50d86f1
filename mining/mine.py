"""Mining as a whole: neighbours both ways, margins, a choice of pairs, and what each pair is worth."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from seamlessalign.errors import InputError
from seamlessalign.mining.attraction import CAUTION, Wrong, weight_of_made, wrong_neighbours
from seamlessalign.mining.choose import (
    DEPTH,
    ONCE_PER_TARGET,
    Offers,
    check_strategy,
    choose_among,
    put_forward,
)
from seamlessalign.mining.groups import Alike, Near, like_first
from seamlessalign.mining.knn import Neighbours, check_k, neighbours
from seamlessalign.mining.lists import InMemory, Lists
from seamlessalign.mining.margin import WIDER, check_margin, nearest, neighbourhoods, scored_margin, warn_of_low
from seamlessalign.mining.precision import estimate_precision
from seamlessalign.mining.vectors import Floats, Indices, Vectors

log = logging.getLogger(__name__)

_MAX_K = 2**15  # ranks are int16
_DECIMALS = 4  # of an estimate: what is beyond depends on the processor's way to add
_LOOKED_AT = 4  # candidates of a row, the best by margin, that tell how made decoys attract: see attraction.py
_TURNED = {"forward": "backward", "backward": "forward"}  # strategies seen from the other side


@dataclass(frozen=True)
class Repeats:
    """Which rows of either side say the same, and how many neighbours that do not (of sources, of targets) count."""

    src: Alike
    tgt: Alike
    k: int | tuple[int, int]


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
    made_from: npt.NDArray[Any] | None = None,
    near_duplicates: float | None = None,
) -> pa.Table:
    """Pairs of rows that probably mean the same: those of `mine_candidates` with a margin of `threshold` or more.

    A threshold belongs to an embedding space: 1.15 is SONAR's. None keeps every pair that the strategy chose.
    """
    if threshold is not None and not np.isfinite(threshold):
        raise InputError(f"threshold is {threshold}: give a number, or None to keep every pair")
    pairs = mine_candidates(
        src,
        tgt,
        k=k,
        margin=margin,
        strategy=strategy,
        backend=backend,
        decoys=decoys,
        device=device,
        made_from=made_from,
        near_duplicates=near_duplicates,
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
    made_from: npt.NDArray[Any] | None = None,
    near_duplicates: float | None = None,
) -> pa.Table:
    """Every pair that the strategy chooses, whatever its margin.

    src (N, D), tgt (M, D) and decoys (Z, D): float16 or float32 rows of any norm. Columns: src and tgt int64 (row
    numbers), margin and cosine float32, forward_rank int16 (0-based place of tgt among src's k neighbours, -1 when not
    among them) and backward_rank int16. Sorted by margin descending, then src, then tgt.

    Decoys are target rows known to have no counterpart, best of the same kind as the targets. They compete with the
    targets in neighbourhoods, ranks and choice, are never returned, and give the column precision_estimate float32:
    the probability that this one pair is right (see `precision.py`). Where the decoys are self-made, made_from (Z, p)
    names the targets that each was made from, -1 for none: how much less they attract than real sentences is measured,
    and the estimate errs on the low side (see `attraction.py`). The same serves real decoys of another kind.

    near_duplicates: rows of one side with this cosine or more say the same: among anybody's neighbours they count once,
    for which `WIDER` times as many are found, and in `max` a row whose best is taken falls back on what says the same
    (see `groups.py`). Raises InputError as `neighbours` does, for a made_from that does not fit, and for a margin,
    strategy or cosine that cannot be.
    """
    check_margin(margin)
    check_strategy(strategy)
    if near_duplicates is not None and not 0 < near_duplicates <= 1:
        raise InputError(f"near_duplicates is {near_duplicates}: give a cosine above 0 and at most 1, or None")
    if max(check_k(k)) > _MAX_K:
        raise InputError(f"k is {k}: at most {_MAX_K} neighbours have a rank")
    if made_from is not None and (decoys is None or len(made_from) != len(decoys)):
        there = 0 if decoys is None else len(decoys)
        raise InputError(f"made_from has {len(made_from)} rows and decoys {there}: give one row per decoy")
    targets, widths, repeats = _with_decoys(tgt, decoys), check_k(k), None
    if near_duplicates is not None:
        same = [Near(rows, near_duplicates) for rows in (src, targets)]
        repeats = Repeats(same[0], same[1], k)
        widths = WIDER * widths[0], WIDER * widths[1]
    forward, backward = neighbours(src, targets, widths, backend, device)
    return pairs_of(
        forward, backward, margin=margin, strategy=strategy, num_src=len(src), num_tgt=len(tgt), made_from=made_from,
        repeats=repeats,
    )  # fmt: skip


def pairs_of(
    forward: Neighbours | Lists,
    backward: Neighbours | Lists,
    *,
    margin: str,
    strategy: str,
    num_src: int,
    num_tgt: int,
    made_from: npt.NDArray[Any] | None = None,
    repeats: Repeats | None = None,
) -> pa.Table:
    """`mine_candidates` from neighbours that are found, `WIDER` times as many as wanted where there are repeats.

    Rows from num_src on of the sources, or from num_tgt on of the targets, are decoys; those of one side at most. Lists
    are looked at a range of rows at a time, three times: for the means of neighbourhoods, for what each row puts
    forward, and for the ranks of what is chosen. So what is kept beside one range is a few numbers a row.
    """
    ours = InMemory(forward) if isinstance(forward, Neighbours) else forward
    theirs = InMemory(backward) if isinstance(backward, Neighbours) else backward
    if len(ours) > num_src:  # decoys among the sources: the same seen from the other side
        turned = _TURNED.get(strategy, strategy)
        pairs = pairs_of(
            theirs, ours, margin=margin, strategy=turned, num_src=num_tgt, num_tgt=num_src, made_from=made_from,
            repeats=None if repeats is None else Repeats(repeats.tgt, repeats.src, check_k(repeats.k)[::-1]),
        )  # fmt: skip
        names = {"src": "tgt", "tgt": "src", "forward_rank": "backward_rank", "backward_rank": "forward_rank"}
        pairs = pairs.rename_columns([names.get(name, name) for name in pairs.column_names])
        order = np.lexsort((pairs["tgt"].to_numpy(), pairs["src"].to_numpy(), -pairs["margin"].to_numpy()))
        return pairs.take(pa.array(order)).select([*empty_pairs().column_names, "precision_estimate"])
    k = (ours.width, theirs.width) if repeats is None else check_k(repeats.k)
    src_alike, tgt_alike = (None, None) if repeats is None else (repeats.src, repeats.tgt)
    means = (
        neighbourhoods(ours, len(theirs), k[0], tgt_alike),
        neighbourhoods(theirs, len(ours), k[1], src_alike),
    )
    depth = DEPTH if strategy == "max" and repeats is not None else 1
    num_decoys = len(theirs) - num_tgt
    wrong: list[Wrong] = []

    def look(part: Neighbours, score: Floats) -> None:
        if num_decoys and made_from is not None:
            wrong.append(wrong_neighbours(*_best_few(part, score, tgt_alike), num_tgt, made_from))

    pairs = choose_among(
        _offers(ours, *means, margin, k[0], depth, tgt_alike, look),
        _offers(theirs, *means[::-1], margin, k[1], depth, src_alike),
        ours, theirs, strategy, k,
    )  # fmt: skip
    del means
    columns: dict[str, npt.NDArray[Any]] = {
        "src": pairs.src,
        "tgt": pairs.tgt,
        "margin": pairs.margin,
        "cosine": pairs.cosine,
        "forward_rank": pairs.forward_rank,
        "backward_rank": pairs.backward_rank,
    }
    if num_decoys:
        is_decoy = pairs.tgt >= num_tgt
        weight: npt.NDArray[Any] | float = 1.0
        if made_from is not None:
            weight = weight_of_made(pairs.margin, Wrong.of(wrong), num_tgt, made_from)
        once, caution = strategy in ONCE_PER_TARGET, 0.0 if made_from is None else CAUTION
        estimate = estimate_precision(pairs.margin, is_decoy, num_tgt, num_decoys, once, weight, caution)
        columns["precision_estimate"] = estimate.round(_DECIMALS)
        columns = {name: column[~is_decoy] for name, column in columns.items()}
        log.info("%d pairs, and %d hits on %d decoys", len(columns["src"]), int(is_decoy.sum()), num_decoys)
    return pa.table({name: pa.array(column) for name, column in columns.items()})


def _offers(
    lists: Lists,
    own: npt.NDArray[np.float64],
    others: npt.NDArray[np.float64],
    kind: str,
    k: int,
    depth: int,
    alike: Alike | None,
    look: Callable[[Neighbours, Floats], None] | None = None,
) -> Offers:
    """What the rows of a side put forward of their first k neighbours.

    own, others: mean cosines of either side's neighbourhoods. look: gets the neighbours of each range, with margins.
    """
    offers, low = [], 0
    for begin, part in lists.ranges():
        part, end = nearest(part, k), begin + len(part.index)
        score, meaningless = scored_margin(part.cosine, own[begin:end, None], others[part.index], kind)
        low += meaningless
        offers.append(put_forward(begin, part, score, depth, alike).small(max(len(own), len(others))))
        if look is not None:
            look(part, score)
    warn_of_low(low)
    return Offers.of(offers)


def _best_few(part: Neighbours, score: Floats, alike: Alike | None) -> tuple[Neighbours, Floats]:
    """Each row's best by margin, and their margins: -inf for what says the same as the first."""
    best = np.argsort(-score, axis=1, kind="stable")[:, : 2 * _LOOKED_AT]
    if alike is not None:
        same = like_first(_at(part.index, best), alike)
        same[:, 0] = False
        best = _at(best, np.argsort(same, axis=1, kind="stable"))
        count = (~same).sum(1)
    best = best[:, :_LOOKED_AT]
    margin = _at(score, best)
    if alike is not None:
        margin[np.arange(best.shape[1]) >= count[:, None]] = -np.inf
    return Neighbours(_at(part.cosine, best), _at(part.index, best)), margin


def _at(column: npt.NDArray[Any], best: Indices) -> npt.NDArray[Any]:
    return np.take_along_axis(column, best, 1)


def empty_pairs() -> pa.Table:
    """What `mine_candidates` gives for sides between which there is nothing."""
    kinds = {"src": "i8", "tgt": "i8", "margin": "f4", "cosine": "f4", "forward_rank": "i2", "backward_rank": "i2"}
    return pa.table({name: pa.array(np.empty(0, kind)) for name, kind in kinds.items()})


def _with_decoys(tgt: npt.NDArray[Any], decoys: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
    """Targets with the decoys below them; each is checked by itself so that an error names the right rows."""
    if decoys is None:
        return tgt
    target, extra = Vectors(tgt, "tgt"), Vectors(decoys, "decoys")
    if target.dim != extra.dim:
        raise InputError(f"tgt has {target.dim} dimensions and decoys {extra.dim}: embed both with the same model")
    return np.concatenate([tgt, decoys])
