"""One step of learning: recordings → rows of their spans → the loss of the whole batch, over all processes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from seamlessalign.embedders.student.backbones import SpeechBackbone
from seamlessalign.embedders.student.frames import Float32, Frames, Int64, frame_ranges
from seamlessalign.embedders.student.hearing import hear
from seamlessalign.embedders.student.losses import Term, total_loss
from seamlessalign.embedders.student.model import Student
from seamlessalign.embedders.student.recordings import Plan, Recording
from seamlessalign.embedders.student.targets import same_meaning
from seamlessalign.embedders.student.training_config import LossesConfig
from seamlessalign.rows import SAMPLE_RATE


@dataclass(frozen=True)
class Taught:
    """What is taught of one recording in one step."""

    recording: Recording
    frames: Frames | None  # of a frozen backbone; None where it is trained and hears the recording now
    spans: Int64  # (num_spans, 2), samples
    seen: Callable[[int], Float32 | None]  # number of frames → 1 for those that are seen, 0 for hidden ones


class Learner(nn.Module):  # type: ignore[misc]
    """A student as one module from recordings to rows, so that several processes can share its gradients."""

    def __init__(self, student: Student, backbone: SpeechBackbone) -> None:
        super().__init__()
        self.student = student
        self._backbone = [backbone]  # not registered a second time

    def forward(self, taught: Sequence[Taught]) -> tuple[Any, list[bool]]:
        """Rows `(num_rows, dim)` of the spans that have frames, and for each span whether it has.

        Where none has, there is one row of zeros, so that every parameter has a gradient in every process.
        """
        (backbone,) = self._backbone
        trained = self.student.config.train_backbone
        heard = hear(backbone, [item.recording for item in taught]) if trained else [item.frames for item in taught]
        frames = [found if found is not None else backbone.nothing() for found in heard]
        ranges, offset = [np.zeros((0, 2), np.int64)], 0
        for item, found in zip(taught, frames, strict=True):
            ranges.append(frame_ranges(found.time, item.spans) + offset)
            offset += len(found)
        every = np.concatenate(ranges)
        filled = every[:, 1] > every[:, 0]
        if not filled.any():
            one = hear(backbone, [_faint_noise()])[0] if trained else _one_frame(backbone)
            return self.student.pool_raw(one, np.array([[0, len(one)]], np.int64)) * 0, filled.tolist()
        values = []
        for item, found in zip(taught, frames, strict=True):
            seen = item.seen(len(found))
            mask = 1.0 if seen is None else torch.from_numpy(seen)[:, None].to(found.values)
            values.append(found.values * mask)
        tokens = [found.token for found in frames if found.token is not None]
        token = np.concatenate(tokens) if len(tokens) == len(frames) else None
        together = Frames(torch.cat(values), np.zeros(offset, np.int64), token)
        return self.student.pool_raw(together, every[filled]), filled.tolist()


def batch_loss(
    accelerator: Any,
    losses: LossesConfig,
    rows: Any,
    wrong: Any,
    terms: Sequence[Term],
    numbers: Int64,
    bank: Any = None,
) -> tuple[Any, dict[str, Any]]:
    """The loss of the whole batch, and its parts, from what every process has of it.

    Args:
        accelerator: of the package accelerate.
        losses: which losses.
        rows: `(num_items, dim)`, this process's.
        wrong: `(num_wrong, dim)`, of spans that no text is of.
        terms: the targets of the rows.
        numbers: `targets.labels` of the items.
        bank: unit rows of the teacher, the same in every process.

    Returns:
        The loss, and no parts where no process has any item. A process's gradient is that of its own rows: summed over
        processes, it is that of the loss.
    """
    device = rows.device
    gathered = [
        Term(
            gather(accelerator, term.targets.to(device)),
            gather(accelerator, term.there.to(device, torch.int64)).bool(),
            term.weight,
        )
        for term in terms
    ]
    same = same_meaning(gather(accelerator, torch.from_numpy(numbers).to(device)))
    rows, wrong = gather(accelerator, rows), gather(accelerator, wrong)
    if not len(rows):
        return rows.sum(), {}
    return total_loss(losses, rows.float(), gathered, same, wrong.float(), bank)


def gather(accelerator: Any, local: Any) -> Any:
    """The rows of all processes, in the order of these. Gradients flow into this process's own."""
    if accelerator.num_processes == 1:
        return local
    counts = accelerator.gather(torch.tensor([len(local)], device=local.device)).tolist()
    padded = local.new_zeros((max(counts), *local.shape[1:]))
    padded[: len(local)] = local.detach()
    parts = [rows[:count] for rows, count in zip(accelerator.gather(padded[None]), counts, strict=True)]
    parts[accelerator.process_index] = local
    return torch.cat(parts)


def _one_frame(backbone: SpeechBackbone) -> Frames:
    token = None if backbone.nothing().token is None else np.zeros(1, np.int64)
    return Frames(torch.zeros((1, backbone.dim), device=backbone.device), np.zeros(1, np.int64), token)


def _faint_noise() -> Recording:
    """A second in which every backbone hears something."""
    bounds = np.array([[0, SAMPLE_RATE]], np.int64)
    noise = np.random.default_rng(0).standard_normal(SAMPLE_RATE) * 1e-3
    return Recording(Plan(0, (0,), (), False, 1.0), "eng", [0], bounds, bounds, [], np.asarray(noise, np.float32))
