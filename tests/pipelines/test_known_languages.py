"""Recordings of stated language that are heard all the same: what was told is kept, and what was stated holds."""

import json
from pathlib import Path

import pytest

from seamlessalign import storage
from seamlessalign.pipelines.known_languages import TOLD, TOLD_TABLE, read_confusion
from seamlessalign.rows import RECORDINGS
from tests.ground.page import Page
from tests.pipelines.small_corpus import mine, need_models, program, write_corpus

pytestmark = [pytest.mark.slow, pytest.mark.thorough]


def test_what_is_stated_holds_and_what_is_told_is_kept(tmp_path: Path) -> None:
    need_models()
    config = write_corpus(tmp_path / "in", {"fra-0": ("fra", (0, 1)), "spa-1": ("spa", (2,))})
    manifest = tmp_path / "in" / "recordings.jsonl"
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    lines[1]["lang"] = "fra"  # who wrote the list was wrong
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = mine(config, tmp_path / "run", "speech.lid.check_stated=true", "speech.lid.min_prob=0")
    assert run.status == 0, run.err
    told = storage.read_tables(f"{run.folder}/{TOLD_TABLE}", TOLD).to_pylist()
    names = {Path(row["uri"]).stem: (row["stated"], row["told"]) for row in told}
    assert names == {"fra-0": ("fra", "fra"), "spa-1": ("fra", "spa")}
    recordings = storage.read_tables(f"{run.folder}/recordings", RECORDINGS).to_pylist()
    assert {Path(row["uri"]).stem: row["lang"] for row in recordings} == {"fra-0": "fra", "spa-1": "fra"}
    confusion = read_confusion(str(run.folder))
    assert confusion is not None
    assert confusion.recordings == {("fra", "fra"): 1, ("fra", "spa"): 1}
    assert Page((run.folder / "report.html").read_text("utf-8")).numbers["languages right"] == "1"
    verified = program("status", run.folder, "--verify")
    assert verified.returncode == 0, verified.stdout
