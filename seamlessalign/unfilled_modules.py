"""Modules of torch that are built to be filled with stored weights: none are drawn for them first."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_DRAWING = {"normal_", "uniform_", "kaiming_uniform_"}  # by name: transformers puts its own in the place of torch's


@contextmanager
def unfilled() -> Iterator[None]:
    """Modules made in this block, by this thread, have weights that nobody set where they would be drawn at random.

    Whoever fills them checks that none is left: drawing those of a small Whisper or E5 takes longer than reading them.
    """
    from torch.overrides import TorchFunctionMode

    class Undrawn(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
            named = kwargs or {}
            if getattr(func, "__name__", "") in _DRAWING:
                return args[0] if args else named["tensor"]
            return func(*args, **named)

    with Undrawn():
        yield
