"""From the report to a corpus at a chosen precision, by what the report says and nothing else."""

import re
import shlex
from html import unescape
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from seamlessalign.cli import main
from seamlessalign.pipelines.report import build_report
from tests.ground.page import Page
from tests.pipelines.heard_run import HeardRun

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("chosen", [None, "0.5"], ids=["as it stands", "another precision of the table"])
def test_the_reports_command_exports_what_its_table_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str | None
) -> None:
    heard = HeardRun(tmp_path)
    source = Path(build_report(heard.root)).read_text("utf-8")
    commands = [unescape(command) for command in re.findall(r"<code>(seamlessalign export [^<]+)</code>", source)]
    (words,) = [shlex.split(command) for command in commands]
    if chosen is not None:
        words[-1] = chosen
    page = Page(source)
    (at,) = [place for place, cells in enumerate(page.cells) if cells[:2] == ["direction", "kept now"]]
    head = page.cells[at]
    row = next(cells for cells in page.cells[at:] if cells[0] == "eng-frA")
    told = row[head.index(f"at least {words[-1]}")]
    monkeypatch.chdir(tmp_path)
    assert main(words[1:]) == 0
    exported = pq.read_table(next((tmp_path / words[words.index("--to") + 1] / "eng-frA").glob("*.parquet")))
    # the cell has the pairs and below them their length, such as 1234.5 min
    assert re.fullmatch(rf"{len(exported)}[\d.]+ (?:s|min|h)", told)
    bound = float(words[-1])
    sure = [row for row in heard.pairs if row["precision_estimate"] >= bound and row["drop_reason"] != "overlap"]
    assert sorted(exported["pair_id"].to_pylist()) == sorted(row["pair_id"] for row in sure)
    assert all(audio["bytes"][:4] == b"fLaC" for audio in exported["tgt_audio"].to_pylist())
