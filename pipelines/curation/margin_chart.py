"""The page's pictures of a direction's margins: how many pairs there are, what a cut keeps, and what it is worth."""

import math
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from seamlessalign.pipelines.curation.margin_curve import KEPT, MarginCurve
from seamlessalign.pipelines.report_counts import ONLY_THE_CUT

if TYPE_CHECKING:
    import altair as alt

# Okabe and Ito's colours; the kinds differ in lightness too, and the legend has their order
CHOSEN, BELOW, OTHER, CUT = "#0072b2", "#56b4e9", "#b8b8b8", "#d55e00"
KINDS = ("chosen", "below the cut", "rejected otherwise")
CLICKED = "clicked"  # the name of the selection that a click on a bar makes
_HEIGHT = 230
_BARS = 80
_TAIL = 0.0005  # of the pairs, how many may be beyond the end of the picture


def margin_bars(histogram: pa.Table, threshold: float | None) -> list[dict[str, Any]]:
    """The bars of a histogram (`low`, `high`, `outcome`, `pairs`) by what a cut does with them, stacked from below.

    threshold: a margin; None: the run's own cut. A bar that the threshold divides counts where its middle is.
    """
    found: dict[tuple[float, float], list[int]] = {}
    for row in histogram.to_pylist():
        counts = found.setdefault((row["low"], row["high"]), [0, 0, 0])
        kept, eligible = row["outcome"] == KEPT, row["outcome"] == KEPT or row["outcome"] in ONLY_THE_CUT
        above = kept if threshold is None else (row["low"] + row["high"]) / 2 >= threshold
        counts[0 if eligible and above else 1 if eligible else 2] += row["pairs"]
    bars = []
    for (low, high), counts in sorted(found.items()):
        bottom = 0
        for kind, pairs in zip(KINDS, counts, strict=True):
            if pairs:
                bars.append(
                    {"low": low, "high": high, "kind": kind, "from": bottom, "to": bottom + pairs, "pairs": pairs}
                )
            bottom += pairs
    return bars


def shown_range(curve: MarginCurve) -> tuple[float, float]:
    """The margins that are worth showing: all but the few highest, since a ratio can be anything."""
    thresholds = curve.grid.thresholds
    few = max(3, round(_TAIL * curve.at(thresholds[0]).pairs))
    low, high = 0, len(thresholds) - 1
    while low < high:  # the first edge above which there are few
        middle = (low + high) // 2
        if curve.at(thresholds[middle]).pairs <= few:
            high = middle
        else:
            low = middle + 1
    top = min(low + 1, len(thresholds) - 1)
    return (thresholds[0], thresholds[top]) if top else (thresholds[0], thresholds[-1])


def margin_chart(
    curve: MarginCurve, threshold: float | None, shown_cut: float | None, low: float, high: float
) -> "alt.LayerChart":
    """Bars of margins in [low, high] with the cut as a line. A click on a bar selects it (`CLICKED`).

    shown_cut: where the line is; of the run's own cut its threshold, None where that is not known.
    """
    import altair as alt

    whole = curve.grid.thresholds[-1] - curve.grid.thresholds[0]
    histogram = curve.histogram(min(2000, math.ceil(_BARS * whole / max(high - low, 1e-9))))
    bars = [bar for bar in margin_bars(histogram, threshold) if bar["low"] < high]
    domain = [min([low, *(bar["low"] for bar in bars)]), max([high, *(bar["high"] for bar in bars)])]
    x = alt.X("low:Q", title="margin", scale=alt.Scale(domain=domain, zero=False, nice=False))
    clicked = alt.selection_point(name=CLICKED, fields=["low"], on="click", nearest=False, toggle=False)
    picture = (
        alt.Chart(alt.InlineData(bars))
        .mark_bar(binSpacing=0.5, cursor="pointer")
        .encode(
            x=x,
            x2="high:Q",
            y=alt.Y("from:Q", title="pairs", axis=alt.Axis(format="~s", tickCount=4)),
            y2="to:Q",
            color=alt.Color(
                "kind:N",
                scale=alt.Scale(domain=list(KINDS), range=[CHOSEN, BELOW, OTHER]),
                legend=alt.Legend(title=None, orient="top", labelLimit=260),
            ),
            tooltip=[
                alt.Tooltip("low:Q", title="margin from", format=".4~g"),
                alt.Tooltip("high:Q", title="to", format=".4~g"),
                alt.Tooltip("kind:N", title="these are"),
                alt.Tooltip("pairs:Q", title="pairs", format=","),
            ],
        )
        .add_params(clicked)
    )
    layers = [picture]
    if shown_cut is not None:
        line = alt.Chart(alt.InlineData([{"at": shown_cut}])).mark_rule(color=CUT, strokeWidth=2.5, strokeDash=[6, 3])
        layers.append(line.encode(x="at:Q"))
    return _layered(layers)


def trade_chart(curve: pa.Table, now: dict[str, float | None], speech: bool) -> "alt.LayerChart":
    """What a cut is worth: mean estimated precision over what it keeps, in hours (or pairs), and where we are.

    curve: `threshold`, `pairs`, `src_hours`, `tgt_hours`, `precision`. now: `hours`, `pairs` and `precision`.
    """
    import altair as alt

    amount = "hours" if speech else "pairs"
    rows = [
        {**row, "hours": row["src_hours"] + row["tgt_hours"]}
        for row in curve.to_pylist()
        if row["precision"] is not None and row["pairs"]
    ]
    style = "~s" if max((row[amount] for row in rows), default=0) >= 1000 else "~g"
    x = alt.X(f"{amount}:Q", title=f"{amount} kept", axis=alt.Axis(format=style, tickCount=5))
    y = alt.Y(
        "precision:Q",
        title="estimated precision",
        scale=alt.Scale(zero=False, nice=True),
        axis=alt.Axis(format=".0%", tickCount=5),
    )
    line = (
        alt.Chart(alt.InlineData(rows))
        .mark_line(color=CHOSEN, point=alt.OverlayMarkDef(size=36, opacity=0.01, color=CHOSEN))
        .encode(
            x=x,
            y=y,
            order="threshold:Q",
            tooltip=[
                alt.Tooltip("threshold:Q", title="margin from", format=".4~g"),
                alt.Tooltip("pairs:Q", title="pairs", format=","),
                alt.Tooltip("hours:Q", title="hours", format=",.2~f"),
                alt.Tooltip("precision:Q", title="estimated precision", format=".1%"),
            ],
        )
    )
    layers = [line]
    if now.get("precision") is not None and now.get("pairs"):
        here = alt.Chart(alt.InlineData([now])).mark_point(color=CUT, size=120, filled=True, opacity=1)
        layers.append(here.encode(x=f"{amount}:Q", y="precision:Q"))
    return _layered(layers)


def _layered(layers: list[Any]) -> "alt.LayerChart":
    import altair as alt

    picture: alt.LayerChart = alt.layer(*layers).properties(height=_HEIGHT).configure_view(strokeWidth=0)
    return picture
