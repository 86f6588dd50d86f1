"""The section of a report on what listeners said of pairs: how many are right, with an interval."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from seamlessalign import storage
from seamlessalign.errors import MissingPackageError
from seamlessalign.html_page import Row, row_of, table_of
from seamlessalign.markup import Markup, tag
from seamlessalign.pipelines.curation.direction_view import DirectionView
from seamlessalign.pipelines.curation.labelled_precision import (
    Precision,
    lowest_threshold,
    precision_above,
    precision_curve,
    random_labels,
)
from seamlessalign.pipelines.curation.labels import Labels, fold
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.run_tables import RunTables

_WANTED = 0.9  # of the precision that a threshold is told for


@dataclass(frozen=True)
class LabelledDirection:
    """What labels say of a direction."""

    direction: str
    labels: Counter[str]  # right, wrong, unsure: what counts of each pair
    precision: Precision | None  # of what the run kept; None where that cannot be asked
    estimated: float | None  # mean estimated precision of the same pairs
    threshold: float | None  # lowest margin from which at least `_WANTED` are right, by the lower bound


def read_labels(run_dir: str) -> list[LabelledDirection]:
    """Labels by direction; empty where nobody said anything. Raises StorageError where they are damaged."""
    if not storage.exists(RunFolder(run_dir).labels):
        return []
    labelled = fold(Labels(run_dir).read())
    counts: dict[str, Counter[str]] = {}
    for pair in labelled.values():
        if pair.label is not None:
            counts.setdefault(pair.direction, Counter())[pair.label] += 1
    try:
        tables = RunTables(run_dir)
    except MissingPackageError:
        return [LabelledDirection(name, said, None, None, None) for name, said in sorted(counts.items())]
    found = []
    with tables:
        for direction, said in sorted(counts.items()):
            if direction not in tables.parts.get("pairs", {}):  # of a direction that the run had before
                found.append(LabelledDirection(direction, said, None, None, None))
                continue
            view = DirectionView(tables, direction)
            curve, drawn = view.curve(), random_labels(view, labelled)
            low = view.own_threshold
            precision = precision_above(drawn, curve, low if low is not None else float("inf"))
            threshold = lowest_threshold(precision_curve(drawn, curve), _WANTED)
            estimated = curve.at(low).precision if low is not None else None
            found.append(LabelledDirection(direction, said, precision, estimated, threshold))
    return found


def labels_section(directions: Sequence[LabelledDirection]) -> list[Markup]:
    """A row for each direction; nothing where there are no labels."""
    if not directions:
        return []
    rows: list[Row] = []
    for item in directions:
        precision, drawn = item.precision, 0
        shown, bounds = "–", "–"
        if precision is not None:
            drawn = precision.right + precision.wrong
            if precision.estimate is not None:
                shown, bounds = f"{precision.estimate:.3f}", f"{precision.low:.3f}–{precision.high:.3f}"
        rows.append(
            row_of(
                tag("bdi", item.direction),
                *(f"{item.labels[name]:,}" for name in ("right", "wrong", "unsure")),
                f"{drawn:,}" if precision is not None else "–",
                tag("span", shown, data_number=f"labelled {item.direction}"),
                bounds,
                "–" if item.estimated is None else f"{item.estimated:.3f}",
                "–" if item.threshold is None else f"{item.threshold:.4g}",
            )
        )
    head = (
        "direction", "right", "wrong", "unsure", "drawn above the cut", "precision", "95 %", "estimated",
        f"margin for {_WANTED:g}",
    )  # fmt: skip
    about = (
        "What listeners said last of each pair. The precision is that of all pairs above the run's cut, and comes only "
        "from pairs that were drawn at random there; bounds allow for what nobody has heard. Beside it is what was "
        f"estimated without listening, and the lowest margin from which at least {_WANTED:g} of the pairs are right, "
        "by the lower bound."
    )
    pieces = [tag("p", about, class_="about"), table_of(head, rows, numeric=range(1, len(head)))]
    if any(item.precision is None for item in directions):
        told = "Where nothing is drawn, the run has no such direction any more, or DuckDB is not installed."
        pieces.append(tag("p", told, class_="note"))
    return pieces
