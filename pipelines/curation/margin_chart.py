"""The page's pictures of a direction's margins: how many pairs there are, what a cut keeps, and what it is worth."""

import copy
import math
from functools import cache
from typing import Any

import pyarrow as pa

from seamlessalign.pipelines.curation.margin_curve import KEPT, MarginCurve
from seamlessalign.pipelines.report_counts import ONLY_THE_CUT

Spec = dict[str, Any]  # of Vega-Lite

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
    """The margins that are worth showing: all but the few highest, since a ratio can be anything.

    At the upper end there is still something to be chosen.
    """
    thresholds = curve.grid.thresholds
    pairs = curve.at(thresholds[0]).pairs
    few = max(3, round(_TAIL * pairs)) if pairs > 3 else 0
    low, high = 0, len(thresholds) - 1
    while low < high:  # the first edge above which there are few
        middle = (low + high) // 2
        if curve.at(thresholds[middle]).pairs <= few:
            high = middle
        else:
            low = middle + 1
    top = min(low + 1, len(thresholds) - 1) if few else max(low - 1, 1)
    return thresholds[0], thresholds[top if pairs else -1]


def margin_chart(curve: MarginCurve, threshold: float | None, shown_cut: float | None, low: float, high: float) -> Spec:
    """Bars of margins in [low, high] with the cut as a line, in Vega-Lite. A click on a bar selects it (`CLICKED`).

    shown_cut: where the line is, unless it is beyond the picture; of the run's own cut its threshold, None where that
    is not known.
    """
    whole = curve.grid.thresholds[-1] - curve.grid.thresholds[0]
    histogram = curve.histogram(min(2000, math.ceil(_BARS * whole / max(high - low, 1e-9))))
    bars = [bar for bar in margin_bars(histogram, threshold) if bar["low"] <= high]
    domain = [min([low, *(bar["low"] for bar in bars)]), max([high, *(bar["high"] for bar in bars)])]
    line = [{"at": shown_cut}] if shown_cut is not None and domain[0] <= shown_cut <= domain[1] else []
    spec = _filled(_margin_picture(), {"bars": bars, "cut": line})
    spec["layer"][0]["encoding"]["x"]["scale"]["domain"] = domain
    return spec


def trade_chart(curve: pa.Table, now: dict[str, float | None], speech: bool) -> Spec | None:
    """What a cut is worth: mean estimated precision over what it keeps, in hours (or pairs), and where we are.

    None where no pair has an estimate.

    curve: `threshold`, `pairs`, `src_hours`, `tgt_hours`, `precision`. now: `hours`, `pairs` and `precision`.
    """
    amount = "hours" if speech else "pairs"
    rows = [
        {**row, "hours": row["src_hours"] + row["tgt_hours"]}
        for row in curve.to_pylist()
        if row["precision"] is not None and row["pairs"]
    ]
    if not rows:
        return None
    here = now.get("precision") is not None and now.get("pairs")
    spec = _filled(_trade_picture(amount), {"curve": rows, "now": [now] if here else []})
    style = "~s" if max((row[amount] for row in rows), default=0) >= 1000 else "~g"
    spec["layer"][0]["encoding"]["x"]["axis"]["format"] = style
    shares = [row["precision"] for row in rows]
    wide = max(shares) - min(shares)
    # as many digits as tell its ticks apart
    spec["layer"][0]["encoding"]["y"]["axis"]["format"] = ".0%" if wide > 0.05 else ".1%" if wide > 0.005 else ".2%"
    return spec


def prepare_pictures() -> None:
    """Make what pictures are without their data, so that no page waits for it."""
    _margin_picture()
    for amount in ("hours", "pairs"):
        _trade_picture(amount)


# They are made once: Altair checks whatever it is given, which takes a quarter of a second.


@cache
def _margin_picture() -> Spec:
    import altair as alt

    clicked = alt.selection_point(name=CLICKED, fields=["low"], on="click", nearest=False, toggle=False)
    bars = (
        alt.Chart(alt.NamedData("bars"))
        .mark_bar(binSpacing=0.5, cursor="pointer")
        .encode(
            x=alt.X("low:Q", title="margin", scale=alt.Scale(domain=[0, 1], zero=False, nice=False)),
            x2="high:Q",
            y=alt.Y("from:Q", title="pairs", axis=alt.Axis(format="~s", tickCount=4)),
            y2="to:Q",
            color=alt.Color(
                "kind:N",
                scale=alt.Scale(domain=list(KINDS), range=[CHOSEN, BELOW, OTHER]),
                legend=alt.Legend(title=None, orient="top", labelLimit=260, labelFontSize=12, columnPadding=6),
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
    line = alt.Chart(alt.NamedData("cut")).mark_rule(color=CUT, strokeWidth=2.5, strokeDash=[6, 3])
    return _layered(bars, line.encode(x="at:Q"))


@cache
def _trade_picture(amount: str) -> Spec:
    import altair as alt

    line = (
        alt.Chart(alt.NamedData("curve"))
        .mark_line(color=CHOSEN, point=alt.OverlayMarkDef(size=36, opacity=0.01, color=CHOSEN))
        .encode(
            x=alt.X(f"{amount}:Q", title=f"{amount} kept", axis=alt.Axis(format="~g", tickCount=5)),
            y=alt.Y(
                "precision:Q",
                title="estimated precision",
                scale=alt.Scale(zero=False, nice=True),
                axis=alt.Axis(format=".0%", tickCount=5),
            ),
            order="threshold:Q",
            tooltip=[
                alt.Tooltip("threshold:Q", title="margin from", format=".4~g"),
                alt.Tooltip("pairs:Q", title="pairs", format=","),
                alt.Tooltip("hours:Q", title="hours", format=",.2~f"),
                alt.Tooltip("precision:Q", title="estimated precision", format=".1%"),
            ],
        )
    )
    here = alt.Chart(alt.NamedData("now")).mark_point(color=CUT, size=120, filled=True, opacity=1)
    return _layered(line, here.encode(x=f"{amount}:Q", y="precision:Q"))


def _layered(*layers: Any) -> Spec:
    import altair as alt

    picture = alt.layer(*layers).properties(height=_HEIGHT).configure_view(strokeWidth=0)
    spec: Spec = picture.to_dict()
    return spec


def _filled(picture: Spec, data: dict[str, list[dict[str, Any]]]) -> Spec:
    """A copy of a picture in which named data are rows."""
    spec = copy.deepcopy(picture)
    for layer in spec["layer"]:
        layer["data"] = {"values": data[layer["data"]["name"]]}
    return spec
