"""The folder of a student's training: what every training keeps, the best student, and the teacher's rows."""

from pathlib import Path

from seamlessalign.training_folder import TrainingFolder


class StudentFolder(TrainingFolder):
    """The files of a student's training, and their names."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.student = self.root / "student"

    def rows(self, cache: str | None, rank: int, world: int) -> Path:
        """Where one process keeps the teacher's rows: beside the frames, where these are kept."""
        return (Path(cache) if cache else self.root) / (f"rows-{rank}-of-{world}" if world > 1 else "rows")
