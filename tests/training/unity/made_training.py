"""A training of the smallest UnitY on made rows, in this process or as a program of several.

python -m tests.training.unity.made_training SETTINGS.json FOLDER-OF-GRADIENTS
"""

import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from seamlessalign.training.data.examples import Task, UnityBatch
from seamlessalign.training.unity.config import UnityTrainingConfig
from seamlessalign.training.unity.model import save_unity
from seamlessalign.training.unity.train import UnityTraining
from seamlessalign.training.unity.validation import HeldOut
from tests.training.tiny_unity import tiny_text, tiny_units
from tests.training.unity.made_rows import batch_of, item, made_unity

# of each batch: task, and numbers of its rows; the last but one has a row for one process only
BATCHES: Sequence[tuple[Task, Sequence[int]]] = (
    ("s2st", (0, 1, 2, 3, 4)),
    ("t2tt", (5, 6, 7)),
    ("asr", (8,)),
    ("s2tt", (9, 10, 11)),
)


class MadeBatches:
    """Rows of batches, every other one of which is this process's."""

    def __init__(self, rank: int, world: int, batches: Sequence[tuple[Task, Sequence[int]]] = BATCHES) -> None:
        self.share, self.batches = (rank, world), batches

    def num_batches(self, epoch: int) -> int:
        return len(self.batches)

    def __getitem__(self, where: tuple[int, int]) -> UnityBatch | None:
        task, numbers = self.batches[where[1]]
        rank, world = self.share
        mine = [item(task, number + 100 * where[0]) for number in numbers][rank::world]
        return batch_of(mine) if mine else None


class MadeTraining(UnityTraining):
    """Learns made rows, and is measured on some of them."""

    def _read_data(self) -> None:
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        self.batches = MadeBatches(rank, world)
        self.set_aside = {"too_long": 3}
        self.held_out = HeldOut(
            MadeBatches(rank, world, BATCHES[:3]), self.config.loss, self.text, self.config.validation.translate
        )
        self.rows, self.told = "made", "made rows"


def start_of(folder: Path, **changes: Any) -> str:
    """A folder with the smallest model, to start from."""
    save_unity(folder, made_unity(**changes), tiny_text(), tiny_units())
    return str(folder)


def settings(output: Path, start: str, **more: Any) -> dict[str, Any]:
    """The keys of a training from a folder."""
    data = {
        "train": [{"kind": "text", "path": "unused.jsonl", "pairs": [["fra", "eng"]]}],
        "tasks": more.pop("tasks", ["s2st", "t2tt", "asr", "s2tt"]),
    }
    return {
        "output": str(output),
        "start": start,
        "data": data,
        "optimiser": {"steps": 6, "lr": 0.01, "warmup": 2} | more.pop("optimiser", {}),
        "validation": {"every": 3} | more.pop("validation", {}),
        "log_every": 1,
        "checkpoint_every": 2,
        "tensorboard": False,
        "resources": {"device": "cpu"},
    } | more


@contextmanager
def saved_gradients(trainer: UnityTraining, folder: Path) -> Iterator[None]:
    """The gradients of each step are written, as they are before the optimiser takes them."""
    folder.mkdir(parents=True, exist_ok=True)

    def save(*_: Any) -> None:
        named = trainer.unity.model.named_parameters()
        gradients = {name: p.grad.clone() for name, p in named if p.requires_grad}
        torch.save(gradients, folder / f"{trainer.at.step}.pt")

    hook = register_optimizer_step_pre_hook(save if trainer.accelerator.is_main_process else lambda *_: None)
    try:
        yield
    finally:
        hook.remove()


def gradients_of(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.glob("*.pt"), key=lambda file: int(file.stem))
    return [torch.load(file, weights_only=True) for file in files]


if __name__ == "__main__":
    keys = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    training = MadeTraining(UnityTrainingConfig.model_validate(keys))
    with saved_gradients(training, Path(sys.argv[2])):
        sys.exit(0 if training.run().finished else 128 + signal.SIGTERM)
