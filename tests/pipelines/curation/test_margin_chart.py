"""The bars of the page's histogram, counted by hand."""

import pyarrow as pa

from seamlessalign.pipelines.curation.margin_chart import margin_bars

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
