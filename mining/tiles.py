"""One pass over tiles of the similarity matrix with torch, for devices: rows and columns from the same products.

Products are in half precision, whose error is bounded. Each row keeps more candidates than wanted; they are scored
again in float32 on the device, and a row whose last good candidate is not clearly above what the first look may have
missed is searched once more in float32. What is still not certain `certify.py` computes in full. Several devices share
the rows and their columns are merged.
"""

import logging
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from seamlessalign.errors import InputError
from seamlessalign.mining.exact import Found
from seamlessalign.mining.flat import search_error
from seamlessalign.mining.vectors import Indices, Vectors

log = logging.getLogger(__name__)

PRECISIONS = {"float16": (2.0**-11, 2.0**-25), "bfloat16": (2.0**-8, 0.0), "float32": (0.0, 0.0)}
_GROUP = 16  # scores whose maximum stands for them in the first look
_SPARE = 4  # float32 scores beyond those wanted, so that most rows can be certified
_TILE = {"cuda": 16_384, "cpu": 2048}
_GATHERED = 1 << 26  # elements of candidates' rows that are scored again at a time
_RESIDENT_SHARE = 0.35  # of a device's free memory that one side may take


def one_pass(
    src: Vectors,
    tgt: Vectors,
    src_k: int,
    tgt_k: int,
    *,
    device: str,
    src_rows: Indices | None = None,
    tgt_rows: Indices | None = None,
    tile: int | None = None,
    precision: str | None = None,
) -> tuple[Found, Found]:
    """Candidates of both sides: src_k targets or a few more for each source, tgt_k sources for each target.

    device: one that torch knows, or several with commas between them. precision: float16 by default on CUDA, float32
    on the processor, or bfloat16. Rows, widths and results as in `exact.one_pass`. Memory on a device: one tile of
    scores, the lists, and the sides where they fit; else their rows come over in tiles.
    """
    devices = [_checked(name) for name in device.split(",")]
    kind = devices[0].type
    precision = precision or ("float16" if kind == "cuda" else "float32")
    tile = tile or _TILE.get(kind, 2048)
    src_rows = np.arange(len(src)) if src_rows is None else src_rows
    tgt_rows = np.arange(len(tgt)) if tgt_rows is None else tgt_rows
    kept = _Widths(min(2 * src_k + 16, len(tgt_rows)), min(2 * tgt_k + 16, len(src_rows)))
    wanted = _Widths(min(src_k + _SPARE, len(tgt_rows)), min(tgt_k + _SPARE, len(src_rows)))
    with _full_precision(), ThreadPoolExecutor(len(devices)) as pool:
        sides = [(_Side(src, src_rows, one, precision), _Side(tgt, tgt_rows, one, precision)) for one in devices]
        tops = list(range(0, len(src_rows), tile))
        share = -(-len(tops) // len(devices))
        parts = list(
            pool.map(
                lambda number: _sweep(*sides[number], tops[number * share : (number + 1) * share], tile, kept),
                range(len(devices)),
            )
        )
        forward = _Lists(*(_joined([part[0] for part in parts], devices[0])))
        backward = _merged([part[1] for part in parts if part[1] is not None], kept.backward, devices[0])
        ours, theirs = sides[0]
        return (
            _settled(ours, theirs, forward, wanted.forward, min(src_k, len(tgt_rows)), tile),
            _settled(theirs, ours, backward, wanted.backward, min(tgt_k, len(src_rows)), tile),
        )


def low_error(dim: int, precision: str) -> float:
    """How far a score of the first look can be from the cosine of unit rows of so many dimensions.

    Both rows' entries are rounded (and lose what is below the smallest number), sums are float32, for which tensor
    cores get four times the bound of any order, and the score is rounded once.
    """
    if precision == "float32":
        return search_error(dim)
    unit, smallest = PRECISIONS[precision]
    return 3 * unit + unit**2 + 2.1 * math.sqrt(dim) * smallest + 4 * search_error(dim)


@dataclass(frozen=True)
class _Widths:
    forward: int
    backward: int


@dataclass(frozen=True)
class _Lists:
    """Best candidates per row on one device, best first: value float32 and index int64, both (rows, width)."""

    value: Any
    index: Any


class _Side:
    """One side's rows on a device where they fit, else on the host."""

    def __init__(self, side: Vectors, rows: Indices, device: Any, precision: str) -> None:
        import torch

        self.side, self.rows, self.device, self.precision = side, rows, device, precision
        self.low = getattr(torch, precision)
        self.resident: Any = None
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if len(rows) * side.dim * side.rows.dtype.itemsize <= free * _RESIDENT_SHARE:
                self.resident = torch.from_numpy(np.ascontiguousarray(side.rows[rows])).to(device)
                self.scale = torch.from_numpy(side.scale[rows]).to(device)

    def __len__(self) -> int:
        return len(self.rows)

    def unit(self, start: int, stop: int) -> Any:
        """Unit rows start … stop on the device, (stop - start, dim) float32."""
        import torch

        if self.resident is not None:
            return (self.resident[start:stop].double() * self.scale[start:stop, None]).float()
        return torch.from_numpy(self.side.unit_of(self.rows[start:stop])).to(self.device)

    def unit_of(self, places: Any) -> Any:
        """Unit rows at some places on the device, (len(places), dim) float32."""
        import torch

        if self.resident is not None:
            return (self.resident[places].double() * self.scale[places, None]).float()
        return torch.from_numpy(self.side.unit_of(self.rows[places.cpu().numpy()])).to(self.device)


def _checked(name: str) -> Any:
    import torch

    try:
        device = torch.device(name.strip())
    except RuntimeError as error:
        raise InputError(f"device {name!r} is not one that torch knows: use cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {name!r}: torch finds no CUDA device here: leave device out to use the processor")
    return device


def _sweep(ours: _Side, theirs: _Side, tops: list[int], tile: int, kept: _Widths) -> tuple[list[_Lists], _Lists | None]:
    """The first look: each product once. Lists of rows by tile, and of all columns."""
    import torch

    if not tops:
        return [], None
    forward: list[_Lists] = []
    lefts = range(0, len(theirs), tile)
    backward: list[_Lists | None] = [None] * len(lefts)
    with torch.inference_mode():
        for top in tops:
            rows_unit = ours.unit(top, min(top + tile, len(ours))).to(ours.low)
            rows: _Lists | None = None
            for number, left in enumerate(lefts):
                columns_unit = theirs.unit(left, min(left + tile, len(theirs))).to(ours.low)
                scores = rows_unit @ columns_unit.T
                rows = _merge(rows, _best(scores, kept.forward, left), kept.forward)
                backward[number] = _merge(backward[number], _best_of_columns(scores, kept.backward, top), kept.backward)
            if rows is not None:
                forward.append(rows)
        columns = [part for part in backward if part is not None]
        width = min(part.value.shape[1] for part in columns)
        return forward, _Lists(
            torch.cat([part.value[:, :width] for part in columns]),
            torch.cat([part.index[:, :width] for part in columns]),
        )


def _joined(parts: list[list[_Lists]], device: Any) -> tuple[Any, Any]:
    import torch

    lists = [one for part in parts for one in part]
    return torch.cat([one.value.to(device) for one in lists]), torch.cat([one.index.to(device) for one in lists])


def _merged(parts: list[_Lists], width: int, device: Any) -> _Lists:
    merged: _Lists | None = None
    for part in parts:
        merged = _merge(merged, _Lists(part.value.to(device), part.index.to(device)), width)
    assert merged is not None  # the first device always has a tile
    return merged


def _settled(query: _Side, other: _Side, lists: _Lists, width: int, k: int, tile: int) -> Found:
    """Candidates scored again in float32, and rows that are not clear searched again."""
    import torch

    with torch.inference_mode():
        error = low_error(query.side.dim, query.precision)
        everything = lists.index.shape[1] == len(other)
        beyond = lists.value[:, -1].double() + error
        if everything:
            beyond = torch.full_like(beyond, -math.inf)
        value, index, cut = _scored_again(query, other, torch.arange(len(query), device=query.device), lists, width)
        reach = torch.maximum(beyond, cut)
        unclear = torch.nonzero(value[:, k - 1].double() - search_error(query.side.dim) <= beyond).flatten()
        if len(unclear) and query.precision != "float32":
            log.info("%s: %d of %d rows are searched again in float32", query.side.side, len(unclear), len(query))
            for start in range(0, len(unclear), tile):
                rows = unclear[start : start + tile]
                value[rows], index[rows], reach[rows] = _in_float32(query, other, rows, width, tile)
        return Found(
            value.float().cpu().numpy(), index.cpu().numpy(), reach.cpu().numpy() if width < len(other) else
            np.full(len(query), -np.inf),
        )  # fmt: skip


def _scored_again(query: _Side, other: _Side, rows: Any, lists: _Lists, width: int) -> tuple[Any, Any, Any]:
    """The best `width` of each row's candidates in float32, and how high one that is cut off may be."""
    import torch

    kept = lists.index.shape[1]
    value = torch.empty((len(rows), width), device=query.device)
    index = torch.empty((len(rows), width), dtype=torch.int64, device=query.device)
    cut = torch.full((len(rows),), -math.inf, dtype=torch.float64, device=query.device)
    step = max(1, _GATHERED // (kept * query.side.dim))
    for start in range(0, len(rows), step):
        some = slice(start, start + step)
        places = lists.index[rows[some]]
        theirs = other.unit_of(places.flatten()).view(*places.shape, -1)
        scores = torch.einsum("nkd,nd->nk", theirs, query.unit_of(rows[some]))
        best, order = torch.sort(scores, dim=1, descending=True)
        value[some], index[some] = best[:, :width], places.gather(1, order[:, :width])
        if kept > width:
            cut[some] = best[:, width].double() + search_error(query.side.dim)
    return value, index, cut


def _in_float32(query: _Side, other: _Side, rows: Any, width: int, tile: int) -> tuple[Any, Any, Any]:
    unit = query.unit_of(rows)
    best: _Lists | None = None
    for left in range(0, len(other), tile):
        scores = unit @ other.unit(left, min(left + tile, len(other))).T
        best = _merge(best, _best(scores, width, left), width)
    assert best is not None
    return best.value, best.index, best.value[:, -1].double() + search_error(query.side.dim)


def _best(scores: Any, width: int, offset: int) -> _Lists:
    """Best `width` of each row of a tile: (rows, width) scores and column numbers plus offset, best first.

    A row's best elements lie in the groups with the best maxima, so only those groups are sorted. Groups are strided
    (columns g, g + n, g + 2n …): their maxima are then whole-vector operations.
    """
    import torch

    columns = scores.shape[1]
    groups = columns // _GROUP
    if groups <= 2 * width:
        value, place = torch.topk(scores, min(width, columns), dim=1)
        return _Lists(value.float(), place + offset)
    whole = groups * _GROUP
    maxima = scores[:, :whole].unflatten(1, (_GROUP, groups)).amax(1)
    chosen = torch.topk(maxima, width, dim=1, sorted=False).indices
    return _sort_groups(scores, chosen, groups, whole, width, offset)


def _best_of_columns(scores: Any, width: int, offset: int) -> _Lists:
    """The same for the columns of a tile, without transposing it: (columns, width)."""
    import torch

    rows = scores.shape[0]
    groups = rows // _GROUP
    if groups <= 2 * width:
        return _best(scores.T.contiguous(), width, offset)
    whole = groups * _GROUP
    maxima = scores[:whole].unflatten(0, (_GROUP, groups)).amax(0).T.contiguous()
    chosen = torch.topk(maxima, width, dim=1, sorted=False).indices
    return _sort_groups(scores.T, chosen, groups, whole, width, offset)


def _sort_groups(scores: Any, chosen: Any, groups: int, whole: int, width: int, offset: int) -> _Lists:
    """Best `width` of each row among its chosen groups and the columns from `whole` on that belong to no group."""
    import torch

    steps = torch.arange(_GROUP, device=scores.device) * groups
    place = (chosen[:, :, None] + steps).flatten(1)
    rest = torch.arange(whole, scores.shape[1], device=scores.device).expand(len(place), -1)
    place = torch.cat([place, rest], 1)
    value, order = torch.topk(scores.gather(1, place), width, dim=1)
    return _Lists(value.float(), place.gather(1, order) + offset)


def _merge(kept: _Lists | None, new: _Lists, width: int) -> _Lists:
    """The best `width` of two lists per row, best first."""
    import torch

    if kept is None:
        return new
    value, index = torch.cat([kept.value, new.value], 1), torch.cat([kept.index, new.index], 1)
    value, order = torch.topk(value, min(width, value.shape[1]), dim=1)
    return _Lists(value, index.gather(1, order))


@contextmanager
def _full_precision() -> Iterator[None]:
    """Sums in float32 throughout: the bounds that certify a row hold for neither TF32 nor sums in half precision."""
    import torch

    matmul = torch.backends.cuda.matmul
    before = (
        torch.get_float32_matmul_precision(),
        matmul.allow_fp16_reduced_precision_reduction,
        matmul.allow_bf16_reduced_precision_reduction,
    )
    torch.set_float32_matmul_precision("highest")
    matmul.allow_fp16_reduced_precision_reduction = matmul.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        matmul.allow_fp16_reduced_precision_reduction, matmul.allow_bf16_reduced_precision_reduction = before[1:]
