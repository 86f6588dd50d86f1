"""Measures against scikit-like counting by hand, and curves against rejecting one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamlessalign.lid.measures import UNKNOWN, confusion, measure, rejection_curve
from seamlessalign.lid.pictures import confusion_svg, rejection_svg

LANGS = ["eng", "fra", "rus"]


def test_a_case_counted_by_hand() -> None:
    truth = ["eng", "eng", "eng", "fra", "fra", "rus"]
    answers = ["eng", "eng", "fra", "fra", UNKNOWN, "ita"]
    found = measure(truth, answers)
    assert (found.clips, found.answered) == (6, 5) and found.accuracy == pytest.approx(3 / 5)
    assert found.f1 == pytest.approx({"eng": 4 / 5, "fra": 2 / 4, "rus": 0.0})
    assert found.recall == pytest.approx({"eng": 2 / 3, "fra": 1 / 2, "rus": 0.0})
    assert found.macro_f1 == pytest.approx((0.8 + 0.5 + 0) / 3)
    left_out = measure(truth, answers, rejected="left out")
    assert left_out.f1 == pytest.approx({"eng": 4 / 5, "fra": 2 / 3, "rus": 0.0}) and left_out.clips == 6


def test_a_language_that_is_all_rejected_is_no_part_of_the_mean() -> None:
    truth, answers = ["eng", "eng", "fra"], ["eng", "eng", UNKNOWN]
    assert measure(truth, answers).macro_f1 == pytest.approx(0.5)
    assert measure(truth, answers, rejected="left out").f1 == {"eng": 1.0}


@given(st.lists(st.tuples(st.sampled_from(LANGS), st.sampled_from([*LANGS, "ita", UNKNOWN])), min_size=1, max_size=40))
def test_f1_is_that_of_precision_and_recall(pairs: list[tuple[str, str]]) -> None:
    truth, answers = [a for a, _ in pairs], [b for _, b in pairs]
    found = measure(truth, answers)
    for lang in set(truth):
        said, there = answers.count(lang), truth.count(lang)
        hits = sum(a == b == lang for a, b in pairs)
        precision, recall = hits / said if said else 0.0, hits / there
        wanted = 2 * precision * recall / (precision + recall) if hits else 0.0
        assert found.f1[lang] == pytest.approx(wanted)
    rows, columns, counts = confusion(truth, answers)
    assert counts.sum() == len(pairs)
    for a, b in pairs:
        assert counts[rows.index(a), columns.index(b)] >= 1
    assert [int(n) for n in counts.sum(1)] == [truth.count(lang) for lang in rows]


def test_the_curve_is_what_rejecting_one_by_one_gives() -> None:
    rng = np.random.default_rng(0)
    truth = [LANGS[i] for i in rng.integers(0, 3, 40)]
    answers = [true if rng.random() < 0.7 else LANGS[int(rng.integers(3))] for true in truth]
    sure = rng.random(40).tolist()
    points = rejection_curve(truth, answers, sure, points=5, most=0.4)
    assert [point.rejected for point in points] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    for point in points:
        gone = sorted(range(40), key=lambda i: sure[i])[: round(point.rejected * 40)]
        cut = [UNKNOWN if i in gone else answer for i, answer in enumerate(answers)]
        assert point.missed_f1 == measure(truth, cut).macro_f1
        kept = [i for i in range(40) if i not in gone]
        rest = measure([truth[i] for i in kept], [answers[i] for i in kept])
        assert point.macro_f1 == pytest.approx(rest.macro_f1)


def test_pictures_hold_every_count_and_line() -> None:
    import xml.etree.ElementTree as ET

    truth, answers = ["eng", "eng", "fra", "rus"], ["eng", "fra", UNKNOWN, "ita"]
    picture = confusion_svg(truth, answers, "a <title>")
    root = ET.fromstring(picture)
    titles = [found.text for found in root.iter("{http://www.w3.org/2000/svg}title")]
    assert "eng taken for fra: 1 of 2" in titles and "rus taken for ita: 1 of 1" in titles and titles[0] == "a <title>"
    curve = rejection_curve(truth, answers, [0.1, 0.2, 0.3, 0.4])
    picture = rejection_svg([("one", curve), ("two", curve)], [(0.25, 0.5, "f1")], "curve")
    assert picture.count("<polyline") == 2 and picture.count("<circle") == 2 and ET.fromstring(picture) is not None
