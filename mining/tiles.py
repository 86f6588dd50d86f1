"""One pass over tiles of the similarity matrix that serves both directions: rows and columns from the same products."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from seamlessalign.errors import InputError
from seamlessalign.mining.certify import Found
from seamlessalign.mining.vectors import Vectors

_GROUP = 16  # scores whose maximum stands for them in the first look


def one_pass(
    src: Vectors, tgt: Vectors, src_width: int, tgt_width: int, device: str, tile: int = 4096
) -> tuple[Found, Found]:
    """Candidates of both sides in float32: src_width targets for each source, tgt_width sources for each target.

    Memory on the device is about tile × tile × 4 bytes and the lists of the targets; every product is computed once.
    """
    import torch

    _check_device(device)
    forward: list[tuple[Any, Any]] = []
    backward: list[tuple[Any, Any] | None] = [None] * len(range(0, len(tgt), tile))
    with torch.inference_mode(), _full_float32():
        memory = torch.empty(min(tile, len(src)) * min(tile, len(tgt)), device=device)  # one tile, used again and again
        for top in range(0, len(src), tile):
            ours = torch.from_numpy(src.unit(top, min(top + tile, len(src)))).to(device)
            rows: tuple[Any, Any] | None = None
            for number, left in enumerate(range(0, len(tgt), tile)):
                theirs = torch.from_numpy(tgt.unit(left, min(left + tile, len(tgt)))).to(device)
                scores = memory[: len(ours) * len(theirs)].view(len(ours), len(theirs))
                torch.mm(ours, theirs.T, out=scores)
                rows = _merge(rows, _best(scores, src_width, left), src_width)
                backward[number] = _merge(backward[number], _best_of_columns(scores, tgt_width, top), tgt_width)
            if rows is not None:
                forward.append(rows)
        return _found(forward), _found([columns for columns in backward if columns is not None])


def _check_device(device: str) -> None:
    import torch

    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise InputError(f"device {device!r} is not one that torch knows: use cpu, cuda or cuda:N") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {device!r}: torch finds no CUDA device here: leave device out to use the processor")


def _best(scores: Any, width: int, offset: int) -> tuple[Any, Any]:
    """Best `width` of each row of a tile: (rows, width) scores and column numbers plus offset, best first.

    A row's best elements lie in the groups with the best maxima, so only those groups are sorted. Groups are strided
    (columns g, g + n, g + 2n …): their maxima are then whole-vector operations.
    """
    import torch

    columns = scores.shape[1]
    groups = columns // _GROUP
    if groups <= 2 * width:
        value, place = torch.topk(scores, min(width, columns), dim=1)
        return value, place + offset
    whole = groups * _GROUP
    maxima = scores[:, :whole].unflatten(1, (_GROUP, groups)).amax(1)
    chosen = torch.topk(maxima, width, dim=1, sorted=False).indices
    return _sort_groups(scores, chosen, groups, whole, width, offset)


def _best_of_columns(scores: Any, width: int, offset: int) -> tuple[Any, Any]:
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


def _sort_groups(scores: Any, chosen: Any, groups: int, whole: int, width: int, offset: int) -> tuple[Any, Any]:
    """Best `width` of each row among its chosen groups and the columns from `whole` on that belong to no group."""
    import torch

    steps = torch.arange(_GROUP, device=scores.device) * groups
    place = (chosen[:, :, None] + steps).flatten(1)
    rest = torch.arange(whole, scores.shape[1], device=scores.device).expand(len(place), -1)
    place = torch.cat([place, rest], 1)
    value, order = torch.topk(scores.gather(1, place), width, dim=1)
    return value, place.gather(1, order) + offset


def _merge(kept: tuple[Any, Any] | None, new: tuple[Any, Any], width: int) -> tuple[Any, Any]:
    """The best `width` of two lists per row, best first."""
    import torch

    if kept is None:
        return new
    value, index = torch.cat([kept[0], new[0]], 1), torch.cat([kept[1], new[1]], 1)
    value, order = torch.topk(value, min(width, value.shape[1]), dim=1)
    return value, index.gather(1, order)


def _found(parts: list[tuple[Any, Any]]) -> Found:
    return Found(
        np.concatenate([value.cpu().numpy() for value, _ in parts]),
        np.concatenate([index.cpu().numpy() for _, index in parts]),
    )


@contextmanager
def _full_float32() -> Iterator[None]:
    """Products in float32 throughout: the error bound that certifies a row does not hold for TF32 or bfloat16."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
