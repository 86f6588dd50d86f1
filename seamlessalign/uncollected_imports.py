"""Heavy libraries are loaded without looking for garbage meanwhile, of which there is none."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Hold the collector of this process back in this block.

    What libraries set up when they are imported stays, yet each further million of objects is searched with all that
    came before: a quarter of the time that torch, transformers and Beam take to load.
    """
    if not gc.isenabled():  # by whoever holds it back already, and lets it go on
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
