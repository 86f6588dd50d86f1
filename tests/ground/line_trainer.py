"""The smallest trainer that there can be: a line through points, with dropout, in milliseconds.

python -m tests.ground.line_trainer SETTINGS.json
"""

import json
import math
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import nn

from seamlessalign.errors import SeamlessAlignError
from seamlessalign.training_folder import TrainingFolder
from seamlessalign.training_loop import BatchLoss, Counts, Trained, Trainer
from seamlessalign.training_settings import TrainingSettings


class LineSettings(TrainingSettings):
    points: PositiveInt = 48
    batch: PositiveInt = 8  # over all processes
    dropout: float = 0.0
    empty: tuple[NonNegativeInt, ...] = ()  # places of batches in the epoch that hold nothing
    unused: bool = False  # whether a part of the model takes no part in every other batch
    uneven: bool = False  # whether a part of the model is for some points only, which a process may have none of
    far: float = 0.0  # weight of a second loss, of the points that are far from the middle, which a batch may lack
    seconds: float = 0.0  # that a batch takes at the least
    bad_point: NonNegativeInt | None = None  # where the line should be NaN
    bad_gradient_from: NonNegativeInt | None = None  # step from which on gradients are NaN, though losses are not


@dataclass(frozen=True)
class Points:
    """Points `(num, 5)`, the last column what the line should be at them, and which they are."""

    values: Any
    numbers: list[int]

    def __len__(self) -> int:
        return len(self.numbers)


class PointBatches:
    """This process's share of the points of each batch."""

    def __init__(self, settings: LineSettings, rank: int, world: int) -> None:
        self.settings, self.share = settings, (rank, world)
        generator = torch.Generator().manual_seed(5)
        points = torch.randn(settings.points, 4, generator=generator)
        weights = torch.tensor([[1.0, -2.0, 0.5, 3.0]]).T
        noise = 0.1 * torch.randn(settings.points, 1, generator=generator)
        self.points = torch.cat([points, points @ weights + 1 + noise], 1)
        if settings.bad_point is not None:
            self.points[settings.bad_point, 4] = math.nan

    def num_batches(self, epoch: int) -> int:
        return -(-self.settings.points // self.settings.batch)

    def __getitem__(self, where: tuple[int, int]) -> Points:
        epoch, position = where
        if position in self.settings.empty:
            return Points(self.points[:0], [])
        order = torch.randperm(len(self.points), generator=torch.Generator().manual_seed(epoch))
        rank, world = self.share
        mine = order[position * self.settings.batch : (position + 1) * self.settings.batch][rank::world]
        return Points(self.points[mine], mine.tolist())


def far(values: Any) -> Any:
    """Which of points `(num, 5)` are far from the middle."""
    return values[:, 1].abs() > 1.2


class LineModel(nn.Module):  # type: ignore[misc]
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.line, self.more, self.dropout = nn.Linear(4, 1), nn.Linear(4, 1), nn.Dropout(dropout)

    def forward(self, points: Any, *, more: bool, uneven: bool = False) -> Any:
        found = self.line(self.dropout(points))
        if not uneven:
            return found + self.more(points) if more else found
        some = points[:, 0] > 0.8
        return found.masked_scatter(some[:, None], found[some] + self.more(points[some])) if some.any() else found


class LineTrainer(Trainer):
    """The mean squared error over the points of all processes."""

    measure = "error"
    label = "error"
    lower_is_better = True
    counted = ("points", "far")
    batches: PointBatches

    def __init__(self, settings: LineSettings) -> None:
        all_used = not settings.unused and not settings.uneven
        super().__init__(settings, TrainingFolder(settings.output), all_used=all_used)
        self.settings, self.set_aside = settings, {"broken": 2}
        self.batches = PointBatches(settings, self.accelerator.process_index, self.accelerator.num_processes)
        torch.manual_seed(settings.seed)
        self.model = LineModel(settings.dropout)
        if self.accelerator.process_index:  # what a process draws must come back to that process
            torch.manual_seed(settings.seed + 1)
        self.saved = 0
        self.prepare(self.model, torch.optim.AdamW(self.model.parameters(), lr=settings.optimiser.lr))

    def count(self, batch: Points) -> list[int]:
        return [len(batch), int(far(batch.values).sum())]

    def batch_loss(self, batch: Points, epoch: int, position: int, counts: Counts) -> BatchLoss:
        time.sleep(self.settings.seconds)
        more = not self.settings.unused or position % 2 == 0
        found = self.learner(batch.values[:, :4], more=more, uneven=self.settings.uneven)
        apart = found - batch.values[:, 4:]
        whole = {name: max(1, count) for name, count in counts.step.items()}
        loss = apart.square().sum() / whole["points"]
        loss = loss + self.settings.far * apart[far(batch.values)].abs().sum() / whole["far"]
        bad_from = self.settings.bad_gradient_from
        if bad_from is not None and self.at.step + 1 >= bad_from:
            loss = loss + (0 * self.model.line.weight).sqrt().sum()
        rejects = {f"batch {epoch}.{position}": "empty"} if not len(batch) else {}
        names = lambda: [f"point {number}" for number in batch.numbers]  # noqa: E731
        measures = {"loss": self.accelerator.reduce(loss.detach(), "sum")}
        return BatchLoss(loss, counts.batch["points"], measures, rejects, names, frames=3 * len(batch))

    def validate(self) -> dict[str, Any]:
        self.model.eval()
        with torch.no_grad():
            points = PointBatches(self.settings.model_copy(update={"bad_point": None}), 0, 1).points
            found = self.model(points[:, :4], more=True, uneven=self.settings.uneven)
            return {"error": float((found - points[:, 4:]).square().mean()), "deep": {"a": {"b": 1}}}

    def save_best(self) -> None:
        self.saved += 1
        torch.save(self.model.state_dict(), self.folder.root / "best.pt")

    def own_state(self) -> dict[str, Any]:
        return dict(self.model.state_dict())

    def fill(self, state: dict[str, Any], origin: str) -> None:
        self.model.load_state_dict(state)

    def finish(self) -> None:
        self.fill(torch.load(self.folder.root / "best.pt", weights_only=True), "best.pt")

    def content(self) -> dict[str, str]:
        return {"digest of points": str(self.settings.points)}

    def summary(self) -> str:
        return f"{self.settings.points} points"


def train_line(**keys: Any) -> Trained:
    return LineTrainer(LineSettings.model_validate(keys)).run()


if __name__ == "__main__":
    try:
        trained = train_line(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    except SeamlessAlignError as error:
        print(f"seamlessalign: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    sys.exit(0 if trained.finished else 128 + signal.SIGTERM)
