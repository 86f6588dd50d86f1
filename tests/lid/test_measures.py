"""Curves of rejection against rejecting one by one, and pictures of what is measured."""

import numpy as np
import pytest

from seamlessalign.label_measures import UNKNOWN, measure
from seamlessalign.lid.measures import rejection_curve
from seamlessalign.lid.pictures import confusion_svg, rejection_svg

LANGS = ["eng", "fra", "rus"]


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
