"""The bars of the page's histogram, counted by hand."""

import pyarrow as pa
import pytest

from seamlessalign.pipelines.curation.margin_chart import margin_bars, margin_chart, shown_range, trade_chart
from seamlessalign.pipelines.curation.margin_curve import Grid, Kept, MarginCurve

pytest.importorskip("altair", reason="needs the extra 'curate'")

SUMMED = tuple(Kept.__dataclass_fields__)

HISTOGRAM = pa.table(
    {
        "low": [1.0, 1.0, 1.25, 1.25, 1.25],
        "high": [1.25, 1.25, 1.5, 1.5, 1.5],
        "outcome": ["below_threshold", "overlap", "kept", "below_precision", "too_fast"],
        "pairs": [7, 2, 11, 3, 5],
    }
)


def bar(low: float, kind: str, bottom: int, top: int) -> dict[str, object]:
    return {"low": low, "high": low + 0.25, "kind": kind, "from": bottom, "to": top, "pairs": top - bottom}


def test_the_runs_own_cut() -> None:
    assert margin_bars(HISTOGRAM, None) == [
        bar(1.0, "below the cut", 0, 7),
        bar(1.0, "rejected otherwise", 7, 9),
        bar(1.25, "chosen", 0, 11),
        bar(1.25, "below the cut", 11, 14),
        bar(1.25, "rejected otherwise", 14, 19),
    ]


def test_a_lower_cut_takes_what_only_the_cut_rejected() -> None:
    assert margin_bars(HISTOGRAM, 1.1) == [
        bar(1.0, "chosen", 0, 7),
        bar(1.0, "rejected otherwise", 7, 9),
        bar(1.25, "chosen", 0, 14),
        bar(1.25, "rejected otherwise", 14, 19),
    ]


def test_a_cut_above_all_takes_nothing() -> None:
    assert {one["kind"] for one in margin_bars(HISTOGRAM, 2.0)} == {"below the cut", "rejected otherwise"}


def test_the_line_of_a_cut_is_drawn_where_it_is_in_the_picture() -> None:
    groups = pa.table({"bin": [1, 3], "outcome": ["kept", "kept"], **{name: [1, 1] for name in SUMMED}})
    curve = MarginCurve(Grid(10, 6, 10.0), groups, lambda low, high: Kept())
    for cut, lines in ((1.2, [1.2]), (99.0, []), (-5.0, []), (1e30, []), (None, [])):
        drawn = margin_chart(curve, cut, cut, 1.0, 1.6)
        assert [one["at"] for one in drawn["layer"][1]["data"]["values"]] == lines


@pytest.mark.parametrize(
    ("counts", "last"),
    [([1], 0), ([0, 1], 0), ([5, 5, 1], 2), ([40, 19, 1, 1], 2), ([800, 0, 0, 2, 0, 1, 1], 4), ([0, 0, 9000, 4, 1], 3)],
)
def test_the_few_highest_are_beyond_the_picture_unless_there_are_few(counts: list[int], last: int) -> None:
    there = [place for place, count in enumerate(counts) if count]
    sums = {name: [0] * len(there) for name in SUMMED} | {"pairs": [counts[place] for place in there]}
    groups = pa.table({"bin": there, "outcome": ["kept"] * len(there), **sums})
    curve = MarginCurve(Grid(10, len(counts) + 3, 10.0), groups, lambda low, high: Kept())
    low, high = shown_range(curve)
    assert (low, high) == pytest.approx((1.0, 1.0 + (last + 1) / 10))
    drawn = margin_chart(curve, None, None, low, high)["layer"][0]["data"]["values"]
    assert sum(bar["pairs"] for bar in drawn) >= sum(counts) - 3


def test_of_no_pair_that_could_be_chosen_all_is_in_the_picture() -> None:
    groups = pa.table({"bin": [2], "outcome": ["overlap"], **{name: [1] for name in SUMMED}})
    curve = MarginCurve(Grid(10, 6, 10.0), groups, lambda low, high: Kept())
    assert shown_range(curve) == (1.0, 1.6)


@pytest.mark.parametrize(("least", "digits"), [(0.9, ".0%"), (0.98, ".1%"), (0.998, ".2%")])
def test_ticks_of_precision_are_told_apart(least: float, digits: str) -> None:
    shown = trade_chart(worth([least, None, 1.0]), {}, True)
    assert shown is not None and shown["layer"][0]["encoding"]["y"]["axis"]["format"] == digits
    assert [row["precision"] for row in shown["layer"][0]["data"]["values"]] == [least, 1.0]


def test_without_estimates_there_is_no_picture_of_them() -> None:
    assert trade_chart(worth([None, None]), {"hours": 1.0, "pairs": 2, "precision": None}, True) is None


def worth(precisions: list[float | None]) -> pa.Table:
    """A curve with these precisions."""
    hours = [1.0] * len(precisions)
    columns = {"threshold": [*range(len(precisions))], "pairs": [3] * len(precisions), "src_hours": hours}
    return pa.table(columns | {"tgt_hours": hours, "precision": pa.array(precisions, pa.float64())})
