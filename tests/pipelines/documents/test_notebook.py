"""The page that opens a run in a notebook: its blocks run one after the other, and what stands behind them is shown."""

import re
import shutil
from pathlib import Path

import pytest

from seamlessalign.errors import InputError
from tests.pipelines.documents.notebook_page import DOCS, PAGE, PICTURES, RUN, run_page
from tests.pipelines.heard_run import HeardRun

HOUSE = DOCS.parent
_CELLS = re.compile(r"^```python\n.*?^```\n(.*?)(?=^```python|^#|\Z)", re.M | re.S)


def _kinds(text: str) -> list[list[str]]:
    """What stands behind each block: text, a picture, both or nothing."""
    behind = [rest.partition("<!-- shown -->")[2] for rest in _CELLS.findall(text)]
    return [re.findall(r"^(```text|!\[)", rest, re.M) for rest in behind]


def test_every_block_runs_and_shows_what_the_page_has_of_its_kind(tmp_path: Path) -> None:
    """On a small run with other numbers, in which only sounds and pairs are like the demo's."""
    heard = HeardRun(tmp_path)
    folder = tmp_path / "folder"
    shutil.copytree(heard.root, folder / RUN)
    written = PAGE.read_text("utf-8")
    found, pictures = run_page(written, folder)
    assert _kinds(found) == _kinds(written)
    assert _without_shown(found) == _without_shown(written)
    assert set(pictures) == {path.name for path in (DOCS / PICTURES).iterdir()}
    assert all(svg.startswith("<svg ") for svg in pictures.values())
    assert (folder / "lowest.flac").exists() and (folder / "margins.svg").exists()
    assert (folder / RUN / "selections" / "sure.yaml").exists()
    assert run_page(found, folder)[0] == found  # once more is the same


def test_the_page_has_every_picture_and_no_other() -> None:
    named = re.findall(rf"!\[[^\]]*\]\({PICTURES}/([^)]+)\)", PAGE.read_text("utf-8"))
    assert sorted(named) == sorted(path.name for path in (DOCS / PICTURES).iterdir())


@pytest.mark.slow
@pytest.mark.skipif(not (HOUSE / RUN / "evaluation.json").exists(), reason="needs a demo: make demo")
def test_the_page_shows_the_demo(tmp_path: Path) -> None:
    """Where the demo has been run, its numbers are those of the page; scores may differ in a last digit."""
    shutil.copytree(HOUSE / RUN, tmp_path / RUN)
    found, _ = run_page(PAGE.read_text("utf-8"), tmp_path)
    written = PAGE.read_text("utf-8")
    assert _kinds(found) == _kinds(written)
    for line in ("<run 'demo' in", "eng-frA: ", "<pair "):
        there, here = ([one for one in text.splitlines() if line in one] for text in (found, written))
        assert there == here


def test_a_block_that_fails_names_its_line(tmp_path: Path) -> None:
    text = "# A\n\n```python\nx = 1\n```\n\n```python\nprint(x)\nx / 0\n```\n"
    with pytest.raises(InputError, match=r"docs/notebook\.md, line 8: ZeroDivisionError"):
        run_page(text, tmp_path)


def test_what_blocks_show_stands_behind_them(tmp_path: Path) -> None:
    text = (
        "```python\nx = 2\n```\n\ntold\n\n```python\nprint('a')\nx * 21\n```\n"
        "\n<!-- shown -->\n\n```text\n{}\n```\nend\n"
    )
    found, pictures = run_page(text.format("old"), tmp_path)
    assert found == text.format("a\n42")
    assert pictures == {}


def _without_shown(text: str) -> str:
    return re.sub(r"\n<!-- shown -->\n(?:\n```text\n.*?^```\n)?(?:\n!\[[^\n]*\n)?", "", text, flags=re.M | re.S)
