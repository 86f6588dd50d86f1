"""The page of an evaluation in a real browser: sorting, filtering, copying, and nothing that it complains of."""

import sys
from pathlib import Path

import pytest

from seamlessalign.training.evaluation.details import Curve, details
from seamlessalign.training.evaluation.pages.page import build_page
from tests.ground.browser import CHROMIUM, browser
from tests.training.evaluation.pages.made_evaluation import against, large, score, write, write_rows

COLUMN = (
    "[...document.querySelectorAll('table.by-direction tbody tr:not([hidden])')].map(row => row.cells[{}].textContent)"
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.skipif(sys.platform != "linux", reason="the browser is started as on Linux"),
]


def _evaluation(folder: Path) -> str:
    scores = []
    for direction, value, other in (("fra-eng", 9.5, 1.0), ("deu-eng", 100.0, None), ("eng-cmn", -3.0, 20.0)):
        told = details(curves=[Curve("", "SNR", "BLEU", [-5.0, 0.0, 10.0], [1.0, 2.0, 4.0])])
        scores.append(score("first", direction, "BLEU", value, details=told))
        scores.append(score("<b>second", direction, "BLEU", other, against_baseline=against(other, 0.01)))
    write_rows(folder, [("first", "BLEU", "r1", 1.0, "reference by"), ("<b>second", "BLEU", "r1", 2.0, "x " * 600)])
    return write(folder, scores)


def test_tables_sort_and_filter(tmp_path: Path) -> None:
    pytest.importorskip("websocket", reason="websocket-client is not installed")
    uri = build_page(_evaluation(tmp_path / "evaluation"))
    profile = tmp_path / "profile"
    profile.mkdir()
    with browser(profile) as page:
        page.open(Path(uri), width=400)
        wide = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        outside = page.outside_of_charts()

        def click(column: int) -> list[str]:
            button = f"document.querySelectorAll('table.by-direction thead th')[{column}].querySelector('button')"
            page.evaluate(f"{button}.click()")
            return [text[:7] for text in page.evaluate(COLUMN.format(0))]

        orders = [click(column) for column in (2, 2, 3, 0, 0)]
        sorted_by = page.evaluate("document.querySelector('[aria-sort]').getAttribute('aria-sort')")

        def find(words: str) -> list[str]:
            page.evaluate(
                f"""new Promise(done => {{ const field = document.getElementById('find'); field.value = '{words}';
                    field.dispatchEvent(new Event('input')); setTimeout(done, 200); }})"""
            )
            return [text[:7] for text in page.evaluate(COLUMN.format(0))]

        found = [find(words) for words in ("english", "Mándarin", "eng deu", "nowhere", "")]
        told = page.evaluate("document.getElementById('found').textContent")
        page.evaluate("document.querySelector('[data-shows=interval]').click()")
        shown = page.evaluate(
            "['interval', 'difference'].map(name => getComputedStyle(document.querySelector('td .' + name)).display)"
        )
        page.evaluate("document.querySelector('.copy').click()")
        copied = page.evaluate("getSelection().toString()")
    assert wide == [400, 400]
    assert outside == []
    assert orders == [
        ["deu-eng", "fra-eng", "eng-cmn"],  # 100, 9.5, -3
        ["eng-cmn", "fra-eng", "deu-eng"],
        ["eng-cmn", "fra-eng", "deu-eng"],  # 20, 1, none
        ["deu-eng", "eng-cmn", "fra-eng"],
        ["fra-eng", "eng-cmn", "deu-eng"],
    ]
    assert sorted_by == "descending"
    assert [sorted(some) for some in found] == [
        ["deu-eng", "eng-cmn", "fra-eng"],
        ["eng-cmn"],
        ["deu-eng"],
        [],
        ["deu-eng", "eng-cmn", "fra-eng"],
    ]
    assert told == "" and shown == ["none", "block"]
    assert "BLEU: a:1|b:2" in copied
    assert page.complaints() == []
    assert page.asked_of_others() == []


def test_many_directions_systems_and_measures(tmp_path: Path) -> None:
    pytest.importorskip("websocket", reason="websocket-client is not installed")
    uri = build_page(large(tmp_path / "large"))
    profile = tmp_path / "profile"
    profile.mkdir()
    with browser(profile) as page:
        page.open(Path(uri))
        counts = page.evaluate(
            "['table.by-direction td data', 'svg.chart'].map(s => document.querySelectorAll(s).length)"
        )
        page.evaluate(
            """new Promise(done => { const field = document.getElementById('find'); field.value = 'Abkház';
               field.dispatchEvent(new Event('input')); setTimeout(done, 1000); })"""
        )
        left = page.evaluate("document.querySelectorAll('table.by-direction tbody tr:not([hidden])').length")
        told = page.evaluate("document.getElementById('found').textContent")
    assert counts == [200 * 20 * 10, 20]
    assert (left, told) == (2 * 20, "2 of 200")
    assert page.complaints() == []
