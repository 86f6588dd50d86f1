"""Batches that a GPU has not enough memory for: halved, until they fit."""

import logging
from collections.abc import Callable, Iterable

log = logging.getLogger(__name__)


def do_batches(batches: Iterable[list[int]], work: Callable[[list[int]], None]) -> None:
    """Do work for every batch of indices; where that runs out of a GPU's memory, for its halves.

    What `work` had stored by then is stored again. Raises torch.cuda.OutOfMemoryError where one index is too many.
    """
    for batch in batches:
        left = [batch]
        while left:
            part = left.pop()
            if not _fits(part, work):
                middle = len(part) // 2
                left += [part[middle:], part[:middle]]


def _fits(batch: list[int], work: Callable[[list[int]], None]) -> bool:
    import torch

    try:
        work(batch)
        return True
    except torch.cuda.OutOfMemoryError:
        if len(batch) == 1:
            raise
    torch.cuda.empty_cache()  # behind the handler, which holds what the work had made
    log.warning("the GPU has too little memory for %d windows at a time: they are halved", len(batch))
    return False
