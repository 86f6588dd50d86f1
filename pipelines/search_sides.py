"""Both sides of a direction as they are searched: their rows, mapped into memory, without their tables."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seamlessalign.languages import Direction
from seamlessalign.pipelines import decoys_stage, gather_stage
from seamlessalign.pipelines.context import Context
from seamlessalign.pipelines.gather_stage import Gathered, Half


@dataclass(frozen=True)
class Sides:
    """Both sides of a direction as they are searched: decoys stand behind the rows of one side at most."""

    src: Gathered
    tgt: Gathered
    src_rows: Half
    tgt_rows: Half
    decoys: str  # src, tgt or none
    decoys_kind: str  # sides, texts, made, lent or none
    made_from: npt.NDArray[np.int64] | None  # rows that made decoys are made from

    @property
    def sizes(self) -> tuple[int, int]:
        """Rows of both sides, those of the decoys that compete counted in; none where one side has nothing to pair."""
        return (len(self.src_rows), len(self.tgt_rows)) if self.src.num_rows and self.tgt.num_rows else (0, 0)


def load_sides(name: str, context: Context) -> Sides:
    """Both sides of a direction, mapped into memory where they are local. Raises StorageError naming a damaged file."""
    direction = Direction.parse(name)
    src, tgt = gather_stage.load(direction.src, context), gather_stage.load(direction.tgt, context)
    kinds = {
        side: decoys_stage.kind_of(parsed, context) if gathered.num_decoys else "none"
        for side, parsed, gathered in (("src", direction.src, src), ("tgt", direction.tgt, tgt))
    }
    decoys = side_of_decoys(kinds)
    kind = kinds.get(decoys, "none")
    return Sides(
        src, tgt, src.rows if decoys == "src" else src.rows[: src.num_rows],
        tgt.rows if decoys == "tgt" else tgt.rows[: tgt.num_rows], decoys, kind,
        {"src": src.made_from, "tgt": tgt.made_from}.get(decoys),
    )  # fmt: skip


def side_of_decoys(kinds: dict[str, str]) -> str:
    """Which side's decoys compete, `src`, `tgt` or `none`, by where each side's come from.

    Real sentences tell more than made ones; of two alike the target's are taken.
    """
    order = ("sides", "texts", "made", "lent", "none")
    side = min(("tgt", "src"), key=lambda one: order.index(kinds[one]))
    return "none" if kinds[side] == "none" else side
