"""The report on spans: counts against plain sums, and a picture with what lies in it."""

import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from seamlessalign.pipelines.report import build_report
from seamlessalign.pipelines.report_parts import hours
from seamlessalign.rows import SAMPLE_RATE
from tests.ground.page import Page
from tests.pipelines.fake_run import FRAGMENTS, HOSTILE_URI, FakeRun, span_samples

NOTE = "With speech.vad.keep_probabilities: true"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FakeRun:
    return FakeRun(str(tmp_path_factory.mktemp("spans") / "run"), rejected=20, frames=True)


def _page(root: str | Path) -> tuple[str, Page]:
    source = Path(build_report(str(root))).read_text("utf-8")
    return source, Page(source)


def _expected(run: FakeRun, *langs: str) -> list[str]:
    """The cells of a row, from the rows of the run."""
    recordings = [row for row in run.recordings if row["lang"] in langs and row["drop_reason"] is None]
    speech = sum(row["speech_samples"] for row in recordings)
    spans = [span_samples(number) for lang in langs for number in range(run.spans[lang])]
    numbers = [hours(speech), f"{FRAGMENTS * len(recordings):,}", f"{len(spans):,}", hours(sum(spans))]
    return [*numbers, f"{len(spans) / (speech / SAMPLE_RATE / 3600):,.0f}", f"{sum(spans) / speech:.1f}"]


def test_counts_are_those_of_the_tables(run: FakeRun) -> None:
    _, page = _page(run.root)
    assert page.row("all")[1:] == _expected(run, "fra", "deu")
    for lang in ("fra", "deu"):
        assert _expected(run, lang) in [cells[1:] for cells in page.cells if cells[0] == lang]
    assert NOTE not in page.text


@pytest.mark.parametrize("what", ["frames", "run.yaml", "recordings"])
def test_without_a_table_the_rest_is_counted(run: FakeRun, tmp_path: Path, what: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run.root, folder)
    gone = folder / what
    if gone.is_dir():
        shutil.rmtree(gone)
    else:
        gone.unlink()
    source, page = _page(folder)
    expected = _expected(run, "fra", "deu")
    expected[1] = "–"
    if what == "recordings":
        expected = ["–", "–", *expected[2:4], "–", "–"]
    assert page.row("all")[1:] == expected
    assert NOTE in page.text and 'class="span"' not in source


def test_a_configuration_of_another_version_costs_the_counts_that_need_it(run: FakeRun, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run.root, folder)
    (folder / "run.yaml").write_text("name: old\nspeech: {vad: {engine: energy}}\n")
    assert _page(folder)[1].row("all")[2] == "–"


def test_languages_have_no_rates_where_spans_have_their_own(run: FakeRun, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run.root, folder)
    config: dict[str, Any] = yaml.safe_load((folder / "run.yaml").read_text())
    config["speech"]["lid"] = {"per_segment": True}
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    _, page = _page(folder)
    assert page.row("all")[1:] == _expected(run, "fra", "deu")
    assert ["–", "–", *_expected(run, "fra")[2:4], "–", "–"] in [cells[1:] for cells in page.cells if cells[0] == "fra"]
    assert "of which the speech is not known" in page.text


def test_a_run_that_has_no_spans_yet_says_nothing_of_them(run: FakeRun, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run.root, folder)
    shutil.rmtree(folder / "segments")
    assert 'id="spans"' not in _page(folder)[0]


def test_the_picture_has_the_first_minute_with_spans(run: FakeRun) -> None:
    """Fragments last 1.66 s with their margins and begin every 2.24 s from 0.994 s on, in pauses below a second."""
    source, page = _page(run.root)
    found: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
            if name == "rect":
                found.append(dict(attributes)["class"] or "")

    Reader().feed(source)
    starts = [1.024 - 0.03 + 2.24 * number for number in range(FRAGMENTS)]
    inside = [start for start in starts if start + 1.66 <= 60]
    spans = sum(1.0 <= inside[j] + 1.66 - inside[i] <= 20.0 for i in range(len(inside)) for j in range(i, len(inside)))
    assert (found.count("fragment"), found.count("span")) == (len(inside), spans)
    assert f"{spans} spans; below, thick, the {len(inside)} fragments" in page.text
    shown = HOSTILE_URI.replace("\n", "␊")
    assert f"{shown}, 0 to 60 s" in page.text
    assert page.elements["style"] == 1  # a style sheet inside a picture would hold for the whole page
