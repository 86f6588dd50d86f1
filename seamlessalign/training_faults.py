"""Where a loss or a gradient is not finite: which batch it was, of which process, told to people and in a file."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seamlessalign import storage
from seamlessalign.errors import NotFiniteError

_SHOWN = 3  # names in the message; all are in the file


@dataclass(frozen=True)
class Taken:
    """A batch whose gradients are in the step that is being taken."""

    epoch: int
    position: int
    loss: Any  # scalar tensor, of this process's part
    names: Sequence[str] | Callable[[], Sequence[str]]


def not_finite(
    accelerator: Any, file: Path, step: int, what: str, value: float, taken: Sequence[Taken]
) -> NotFiniteError:
    """The error to be raised in all processes, all of which call this; the main one writes the file first.

    Args:
        file: which has the batches, as JSON.
        step: that was not made.
        what: `loss` or `gradient`, which is `value`.
        taken: this process's batches of the step. Of a loss those are told that made it so, in whichever process.
    """
    mine = [
        {
            "process": accelerator.process_index,
            "epoch": batch.epoch,
            "position": batch.position,
            "loss": str(float(batch.loss)),
            "items": list(batch.names() if callable(batch.names) else batch.names),
        }
        for batch in taken
    ]
    if accelerator.num_processes > 1:
        from accelerate.utils import gather_object

        mine = gather_object(mine)
    bad = [batch for batch in mine if batch["loss"] in ("nan", "inf", "-inf")]
    batches = bad if bad and what == "loss" else mine
    text = f"step {step}: the {what} is {value}; lower optimiser.lr"
    names = [name for batch in batches for name in batch["items"]]
    if names:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        text += f", or leave out what is at fault of {', '.join(names[:_SHOWN])}{more} ({file})"
    if accelerator.is_main_process:
        report = {"step": step, "what": what, "value": str(value), "batches": batches}
        storage.write_bytes_atomic(str(file), (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())
    accelerator.wait_for_everyone()
    return NotFiniteError(text)
