"""The pictures of docs/concepts.md: what is drawn is what was computed, at its place."""

import os
import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.charts import Bar, horizontal_bars
from seamlessalign.pipelines.documents.concept_charts import (
    Candidate,
    Point,
    competing_spans,
    points_of_margin,
    standing_alone,
)
from seamlessalign.pipelines.documents.pictures import PICTURES, best_cut, groups_of, write_pictures
from seamlessalign.rows import SAMPLE_RATE

HOUSE = Path(__file__).parents[3]
SVG = "{http://www.w3.org/2000/svg}"


def _elements(picture: str, name: str, kind: str | None = None) -> list[ET.Element]:
    found = ET.fromstring(picture).iter(f"{SVG}{name}")
    return [one for one in found if kind is None or one.get("class") == kind]


class TestCharts:
    def test_a_picture_stands_alone(self) -> None:
        chart = standing_alone(horizontal_bars([Bar("a", 1, 0, "1", "a: 1")], title="A <title>", x_label="x"))
        root = ET.fromstring(chart)
        assert root.tag == f"{SVG}svg" and root.findtext(f"{SVG}title") == "A <title>"
        assert [child.tag.removeprefix(SVG) for child in root][:3] == ["title", "style", "rect"]
        assert ".kept{fill:#0072b2}" in str(root.findtext(f"{SVG}style"))

    def test_points_are_at_their_cosine_and_neighbourhood(self) -> None:
        points = [Point(0.8, 0.4, True), Point(0.4, 0.2, True), Point(0.3, 0.6, False)]
        picture = standing_alone(points_of_margin(points, margin=1.5, cosine=0.5, title="t"))
        right, wrong = _elements(picture, "circle", "right"), _elements(picture, "circle", "wrong")
        assert len(right) == 2 and len(wrong) == 1
        (line,) = _elements(picture, "line", "margin")
        x0, y0, x1, y1 = (float(str(line.get(name))) for name in ("x1", "y1", "x2", "y2"))
        # on the line, cosine over neighbourhood is the margin: scales are read off the two right points
        (ax, ay), (bx, by) = ((float(str(one.get("cx"))), float(str(one.get("cy")))) for one in right)
        per_x, per_y = (bx - ax) / (0.2 - 0.4), (by - ay) / (0.4 - 0.8)
        assert (y1 - y0) / per_y / ((x1 - x0) / per_x) == pytest.approx(1.5, rel=1e-3)
        assert x0 == pytest.approx(ax - 0.4 * per_x, abs=0.02) and y0 == pytest.approx(ay - 0.8 * per_y, abs=0.02)
        (level,) = _elements(picture, "line", "cosine")
        assert float(str(level.get("y1"))) == pytest.approx(y0 + 0.5 * per_y, abs=0.02)

    def test_spans_that_compete_have_lanes(self) -> None:
        second = SAMPLE_RATE
        candidates = [
            Candidate(0, 4 * second, 2.0, True, "a"),
            Candidate(2 * second, 6 * second, 1.0, False, "b & c"),
            Candidate(6 * second, 8 * second, 0.5, True, "d"),
        ]
        picture = standing_alone(competing_spans(candidates, title="t"))
        kept, dropped = _elements(picture, "rect", "kept"), _elements(picture, "rect", "rejected")
        assert len(kept) == 2 and len(dropped) == 1
        widths = [float(str(one.get("width"))) for one in (*kept, *dropped)]
        assert widths[0] == pytest.approx(2 * widths[1], abs=0.02) and widths[2] == pytest.approx(widths[0], abs=0.02)
        lanes = sorted(float(str(one.get("y"))) for one in (*kept, *dropped))
        assert all(high - low > float(str(kept[0].get("height"))) for low, high in pairwise(lanes))
        assert "1.00  b & c" in {one.text for one in _elements(picture, "text")}


class TestComputing:
    @settings(max_examples=50)
    @given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), min_size=1, max_size=12))
    def test_the_best_cut(self, points: list[tuple[float, bool]]) -> None:
        score, right = np.array([one[0] for one in points]), np.array([one[1] for one in points])
        if not right.any():
            return
        best = 0.0
        for at in range(1, len(points) + 1):  # the highest so many, in the order of equal ones
            taken = np.argsort(-score, kind="stable")[:at]
            found = int(right[taken].sum())
            precision, recall = found / at, found / int(right.sum())
            best = max(best, 2 * precision * recall / (precision + recall) if found else 0.0)
        assert best_cut(score, right).f1 == pytest.approx(best)

    @settings(max_examples=50)
    @given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 6), st.sampled_from("ab")), max_size=8))
    def test_groups_hang_together_by_audio(self, spans: list[tuple[int, int, str]]) -> None:
        rows: list[dict[str, Any]] = [
            {"pair_id": str(i), "tgt_uri": uri, "tgt_start": start, "tgt_end": start + length, "drop_reason": None}
            for i, (start, length, uri) in enumerate(spans)
        ]
        schema = pa.schema(
            [("pair_id", pa.string()), ("tgt_uri", pa.string()), ("tgt_start", pa.int64()), ("tgt_end", pa.int64()),
             ("drop_reason", pa.string())]
        )  # fmt: skip
        other = {"pair_id": "x", "tgt_uri": "a", "tgt_start": 0, "tgt_end": 99, "drop_reason": "below_threshold"}
        found = groups_of(pa.Table.from_pylist([*rows, other], schema=schema))
        parent = list(range(len(rows)))  # every pair is compared with every other
        for i, a in enumerate(rows):
            for j, b in enumerate(rows):
                touching = a["tgt_start"] < b["tgt_end"] and b["tgt_start"] < a["tgt_end"]
                if a["tgt_uri"] == b["tgt_uri"] and touching:
                    parent = [parent[i] if one == parent[j] else one for one in parent]
        expected = {frozenset(str(k) for k, one in enumerate(parent) if one == root) for root in set(parent)}
        assert {frozenset(row["pair_id"] for row in group) for group in found} == expected


def test_the_page_shows_all_pictures_and_no_others() -> None:
    text = (HOUSE / "docs" / "concepts.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\(concepts_(\w+)\.svg\)", text)) == set(PICTURES)
    for name in PICTURES:
        picture = (HOUSE / "docs" / f"concepts_{name}.svg").read_text(encoding="utf-8")
        assert ET.fromstring(picture).tag == f"{SVG}svg" and "<script" not in picture and "href" not in picture


@pytest.mark.slow
@pytest.mark.thorough
def test_all_are_drawn_from_a_demo(tmp_path: Path) -> None:
    from seamlessalign.cli import main

    cache = os.environ.get("SEAMLESSALIGN_DEMO_CACHE", str(tmp_path / "cache"))
    options = ("--minutes", "2", "--distractors", "300", "--cache", cache, "--source", "asterisk")
    assert main(["demo", "--output", str(tmp_path / "demo"), *options]) in (0, 3)
    told = write_pictures(str(tmp_path / "demo"), tmp_path / "to")
    assert len(told) == len(PICTURES)
    for name in PICTURES:
        ET.parse(tmp_path / "to" / f"concepts_{name}.svg")
