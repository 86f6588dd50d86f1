"""The picture of a training: what is read off its axes is what its lines of metrics say."""

import math
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from seamlessalign.training_curve import curve

_SVG = "{http://www.w3.org/2000/svg}"
_LOSS, _FOUND, _STEP = "#4269d0", "#c2560c", "#555"


def _lines(losses: list[float], found: list[float]) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = [{"step": 20 * (i + 1), "loss": loss} for i, loss in enumerate(losses)]
    return [*told, *({"step": 100 * i, "bleu": value} for i, value in enumerate(found)), {"step": 1, "finished": "x"}]


def _read(ticks: list[tuple[float, float]], at: float, logarithmic: bool) -> float:
    """The value at a place of an axis, of which (place, value) of two ticks or more are known."""
    (p1, v1), (p2, v2) = ticks[0], ticks[-1]
    if logarithmic:
        return float(v1 * (v2 / v1) ** ((at - p1) / (p2 - p1)))
    return v1 + (v2 - v1) * (at - p1) / (p2 - p1)


@pytest.mark.parametrize(
    ("losses", "found", "logarithmic"),
    [
        ([2.5, 1.9, 1.75, 1.7, 1.82], [0.0, 12.0, 31.25], False),
        ([900.0, 55.0, 4.0, 0.5], [0.91, 0.92, 0.915], True),
        ([7e5, 4e5, 9e4], [6.2498, 6.2491, 6.2493], True),
        ([0.0, 3.0, 0.2], [-1.0, 2.0], False),
    ],
)
def test_it_can_be_read_back(losses: list[float], found: list[float], logarithmic: bool) -> None:
    root = ElementTree.fromstring(curve(_lines(losses, found), "a <title>", "bleu", "BLEU"))
    texts = list(root.iter(f"{_SVG}text"))
    numbers = [one for one in texts if re.fullmatch(r"[-+.\de]+", one.text or "")]
    across = [(float(one.attrib["x"]), float(one.text or "")) for one in numbers if one.attrib["fill"] == _STEP]
    for colour, values, steps in (
        (_LOSS, losses, [20 * (i + 1) for i in range(len(losses))]),
        (_FOUND, found, [100 * i for i in range(len(found))]),
    ):
        up = [(float(one.attrib["y"]) - 4, float(one.text or "")) for one in numbers if one.attrib["fill"] == colour]
        assert 2 <= len(up) <= 8 and len({value for _, value in up}) == len(up)
        (line,) = (one for one in root.iter(f"{_SVG}polyline") if one.attrib["stroke"] == colour)
        points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
        assert len(points) == len(values)
        for (x, y), step, value in zip(points, steps, values, strict=True):
            assert _read(across, x, False) == pytest.approx(step, abs=0.005 * max(steps))
            on_log = logarithmic and colour == _LOSS
            near = 0.02 * (abs(math.log(max(values) / min(values))) * value if on_log else max(values) - min(values))
            assert _read(up, y, on_log) == pytest.approx(value, abs=near)
    told = " ".join(one.text or "" for one in texts)
    best = max(found)
    assert f"BLEU (right), best {best:.3f} at step {100 * found.index(best)}" in told and "a <title>" in told
    assert ("loss (left, logarithmic)" in told) is logarithmic


def test_the_best_may_be_the_lowest() -> None:
    picture = curve(_lines([], [3.0, 2.0, 2.5]), "t", "bleu", "NLL", lower_is_better=True)
    assert "best 2.000 at step 100" in picture and "loss" not in picture


@pytest.mark.parametrize("lines", [[], [{"step": 0, "bleu": 0.0}], _lines([1.5], [])])
def test_little_to_draw(lines: list[dict[str, Any]]) -> None:
    picture = curve(lines, "t", "bleu", "BLEU")
    ElementTree.fromstring(picture)
    assert "nan" not in picture and "inf" not in picture


def test_a_long_training_is_a_line_without_dots() -> None:
    picture = curve(_lines([1.0 + i % 3 for i in range(5000)], []), "t", "bleu", "BLEU")
    assert picture.count("<circle") == 0 and len(picture) < 100_000
