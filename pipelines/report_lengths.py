"""The section of a report on lengths: of recordings, of spans, and of both sides of the pairs that are kept."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from seamlessalign.charts import histogram
from seamlessalign.html_page import Row, row_of, table_of
from seamlessalign.markup import Markup, tag
from seamlessalign.pipelines.report_counts import FineCounts
from seamlessalign.pipelines.report_parts import hours
from seamlessalign.rows import SAMPLE_RATE

if TYPE_CHECKING:
    from seamlessalign.pipelines.report_numbers import DirectionNumbers

_FINE_SECONDS = 0.01
_SHARES = (0.05, 0.5, 0.95)


def fine_lengths() -> FineCounts:
    """Counts of lengths in seconds, to a hundredth; of recordings in minutes."""
    return FineCounts(fine=_FINE_SECONDS)


@dataclass
class SideLengths:
    """One side of the pairs of a direction: kept and rejected, by seconds of speech or characters of text."""

    is_audio: bool
    counts: FineCounts = field(default_factory=fine_lengths)
    kept_samples: int = 0  # at 16 kHz, summed over kept pairs
    rejected_samples: int = 0

    def add(self, batch: pa.RecordBatch, side: str, kept: npt.NDArray[np.bool_]) -> None:
        """Count one side (`src` or `tgt`) of some rows of `pairs`."""
        if not self.is_audio:
            self.counts.add(pc.fill_null(pc.utf8_length(batch[f"{side}_text"]), 0).to_numpy(zero_copy_only=False), kept)
            return
        lengths = pc.fill_null(pc.subtract(batch[f"{side}_end"], batch[f"{side}_start"]), 0)
        samples: npt.NDArray[np.int64] = lengths.to_numpy(zero_copy_only=False).astype(np.int64)
        self.counts.add(samples / SAMPLE_RATE, kept)
        self.kept_samples += int(samples[kept].sum())
        self.rejected_samples += int(samples[~kept].sum())


def side_lengths(direction: str) -> dict[str, SideLengths]:
    """Empty counts of both sides of a direction, such as `eng-frA`."""
    src, _, tgt = direction.partition("-")
    sides = {"src": SideLengths(src.endswith("A")), "tgt": SideLengths(tgt.endswith("A"))}
    for side in sides.values():
        side.counts.fine = _FINE_SECONDS if side.is_audio else 1.0
    return sides


def lengths_section(
    recordings: FineCounts | None, spans: FineCounts | None, directions: Sequence["DirectionNumbers"]
) -> list[Markup]:
    """Histograms of lengths, and a table of the middle and the ends of each; nothing where there are no rows."""
    spoken = [side for item in directions for side in item.sides.values() if side.is_audio]
    pairs = fine_lengths()
    for side in spoken:
        pairs.kept.update(side.counts.kept)
        pairs.rejected.update(side.counts.rejected)
    charts = [
        _chart("Recordings", recordings, "minutes of a recording", "recordings", ("segmented", "dropped")),
        _chart("Candidate spans", spans, "seconds of a span", "spans", None),
        _chart("Speech of pairs", pairs, "seconds of a side", "sides", ("of kept pairs", "of rejected pairs")),
    ]
    shown = [chart for chart in charts if chart is not None]
    if not shown:
        return []
    rows = [*_row("recordings that were segmented", recordings, "min"), *_row("candidate spans", spans, "s")]
    for item in directions:
        for name, side in item.sides.items():
            lang = item.direction.split("-")[name == "tgt"]
            unit, told = ("s", hours(side.kept_samples)) if side.is_audio else ("characters", "")
            rows += _row(f"{item.direction}, {'source' if name == 'src' else 'target'} {lang}", side.counts, unit, told)
    about = (
        "Half of the rows are shorter than the median and half longer; a twentieth lie beyond each of the other two. "
        "Of pairs, those that are kept; a side that is text has characters."
    )
    head = ("", "rows", "5 %", "median", "95 %", "hours")
    pictures = tag("div", *shown, class_="figures")
    if not rows:  # nothing has been segmented yet
        return [pictures]
    return [tag("p", about, class_="about"), pictures, table_of(head, rows, numeric=range(1, 6))]


def _chart(
    heading: str, counts: FineCounts | None, x_label: str, y_label: str, parts: tuple[str, str] | None
) -> Markup | None:
    bins = counts.bins() if counts is not None else []
    if not bins:
        return None
    pieces = [histogram(bins, threshold=None, title=f"{heading} by length", x_label=x_label, y_label=y_label)]
    if parts is not None:
        pieces.append(tag("p", tag("span", parts[0]), tag("span", parts[1], class_="rest"), class_="legend"))
    return tag("figure", tag("h3", heading), *pieces)


def _row(name: str, counts: FineCounts | None, unit: str, told: str = "") -> list[Row]:
    found = counts.quantiles(_SHARES) if counts is not None else []
    if counts is None or not found:
        return []
    form = "{:,.0f}" if unit == "characters" else "{:,.1f}"
    middle = [f"{form.format(value if unit != 'characters' else value - 0.5)} {unit}" for value in found]
    return [row_of(name, f"{counts.kept.total():,}", *middle, told)]
