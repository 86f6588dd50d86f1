"""Blocks of the documents that can be run here do what they should."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.documents import world
from tests.pipelines.documents.blocks import HOUSE, PAGES, Block, blocks_of
from tests.pipelines.small_corpus import need_models

# the first make what others read
FIRST = ("README.md", "tutorial.md")
# pages that a test of their own runs
ELSEWHERE = {"notebook.md": "documents/test_notebook.py", "exports.md": "exports/test_formats.py"}
ORDER = sorted(
    (page for page in PAGES if page.name not in ELSEWHERE),
    key=lambda page: (FIRST.index(page.name) if page.name in FIRST else len(FIRST), page.name),
)
RUN = [block for page in ORDER for block in blocks_of(page)
       if block.language in ("sh", "python") and block.not_run is None]  # fmt: skip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of every block, by its place."""
    need_models()
    root = tmp_path_factory.mktemp("documents")
    world.make_inputs(root)
    told = root / "results.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.pipelines.documents.run_blocks", str(root), str(told), *map(str, ORDER)],
        cwd=HOUSE, env=world.environment(), capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(told.read_text())
    return found


def test_what_is_run_elsewhere_has_a_test() -> None:
    for page, test in ELSEWHERE.items():
        assert Path(page).stem in (HOUSE / "tests" / "pipelines" / test).read_text(encoding="utf-8")


def test_nothing_else_is_run(results: dict[str, Any]) -> None:
    assert set(results) == set(map(str, RUN))


@pytest.mark.parametrize("block", RUN, ids=str)
def test_it_runs(block: Block, results: dict[str, Any]) -> None:
    assert results[str(block)]["failed"] is None, f"{results[str(block)]['said']}{results[str(block)]['failed']}"
