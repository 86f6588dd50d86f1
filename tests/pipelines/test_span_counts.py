"""Counting spans again from kept probabilities: as a run counted them, and as runs with other settings would."""

import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign import cli, storage
from seamlessalign.config import SpansConfig, VadConfig
from seamlessalign.pipelines.report import build_report
from seamlessalign.pipelines.report_parts import hours
from seamlessalign.pipelines.span_counts import SpanCounts, count_spans, spans_of
from seamlessalign.pipelines.span_picture import span_picture
from seamlessalign.rows import RECORDINGS, SAMPLE_RATE
from tests.ground.page import Page
from tests.pipelines.small_corpus import SmallRun, mine, need_models, write_corpus

KEPT = ("speech.vad.keep_probabilities=true", "speech.spans.max_gap_seconds=2")  # more than pauses between sentences


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A run that keeps its probabilities, and one recording of another language."""
    need_models()
    root = tmp_path_factory.mktemp("kept")
    config = write_corpus(root, {"fra": ("fra", (0, 1, 2)), "ita": ("ita", (0, 1))})
    return mine(config, root / "run", "directions=[eng-frA]", *KEPT)


def _counts(run: SmallRun) -> tuple[int, int, int]:
    """Spans, their samples, and samples of speech in the tables of a run."""
    files = storage.list_files(str(run.folder / "segments"), ".parquet")
    rows = [row for uri in files for row in storage.read_table(uri, ["start", "end"]).to_pylist()]
    recordings = storage.read_tables(str(run.folder / "recordings"), RECORDINGS).to_pylist()
    speech = sum(row["speech_samples"] for row in recordings if row["drop_reason"] is None)
    return len(rows), sum(row["end"] - row["start"] for row in rows), speech


@pytest.mark.slow
@pytest.mark.embedded
class TestRun:
    def test_it_counts_what_the_run_made(self, kept: SmallRun) -> None:
        assert kept.status == 0, kept.err
        (count,) = count_spans(str(kept.folder), [(VadConfig(), SpansConfig(max_gap_seconds=2))])
        assert (count.spans, count.span_samples, count.speech) == _counts(kept)
        assert count.recordings == 1  # the other was dropped
        assert sum(count.by_fragments.values()) == count.spans > 3

    def test_it_counts_what_another_run_would_make(self, kept: SmallRun, tmp_path: Path) -> None:
        """Without reading audio, which is gone."""
        other = ["speech.vad.threshold=0.75", "speech.spans.max_seconds=4", "speech.spans.max_gap_seconds=2"]
        again = mine(kept.config, tmp_path / "run", "directions=[eng-frA]", *other)
        spans = SpansConfig(max_seconds=4, max_gap_seconds=2)
        (count,) = count_spans(str(kept.folder), [(VadConfig(threshold=0.75), spans)])
        assert (count.spans, count.span_samples, count.speech) == _counts(again)

    def test_the_report_counts_the_same(self, kept: SmallRun) -> None:
        page = Page(Path(build_report(str(kept.folder))).read_text("utf-8"))
        (count,) = count_spans(str(kept.folder), [(VadConfig(), SpansConfig(max_gap_seconds=2))])
        for name in ("all", "fra"):
            told = [number.replace(",", "") for number in page.row(name, hours(count.speech))[2:]]
            rates = [f"{count.per_hour:.0f}", f"{count.multiple:.1f}"]
            assert told == [f"{count.fragments}", f"{count.spans}", hours(count.span_samples), *rates]
        assert page.elements["rect"] >= count.spans + count.fragments

    def test_the_command(self, kept: SmallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        picture = tmp_path / "spans.svg"
        arguments = ["spans", str(kept.folder), "speech.spans.max_seconds=15", "--picture", str(picture)]
        assert cli.main(arguments) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("1 recordings, 0.00 h")
        (line,) = [line for line in lines if line.endswith("as configured")]
        assert line.split()[:3] == ["1", "15", "2"]
        rows = [line.split() for line in lines if re.match(r" +1 +[0-9]", line)]
        assert len(rows) == len({tuple(row[:3]) for row in rows}) == 13
        (count,) = count_spans(str(kept.folder), [(VadConfig(), SpansConfig(max_seconds=15, max_gap_seconds=2))])
        assert int(line.split()[3]) == count.spans and float(line.split()[5]) == round(count.multiple, 1)
        tree = ElementTree.parse(picture)
        kinds = [rect.get("class") for rect in tree.iter("{http://www.w3.org/2000/svg}rect")]
        assert (kinds.count("span"), kinds.count("fragment")) == (count.spans, count.fragments)

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["mining.k=3"], "only thresholds of speech.vad"),
            (["speech.vad.engine=webrtc"], "only thresholds of speech.vad"),
            (["speech.vad.treshold=0.4"], "did you mean 'threshold'"),
            (["--picture", "x.svg", "--recording", "none"], "no recording of the uri or id 'none'"),
            (["--picture", "x.svg", "--start", "5000"], "no recording with spans there"),
            (["--picture", "x.svg", "--seconds", "0"], "and last"),
        ],
    )
    def test_what_cannot_be_is_told(
        self, kept: SmallRun, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main(["spans", str(kept.folder), *arguments]) == 2
        err = capsys.readouterr().err
        assert told in err and len(err.splitlines()) == 1

    def test_a_run_that_did_not_keep_them(
        self, kept: SmallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "run.yaml").write_bytes((kept.folder / "run.yaml").read_bytes())
        assert cli.main(["spans", str(tmp_path)]) == 2
        assert "speech.vad.keep_probabilities=true" in capsys.readouterr().err
        (tmp_path / "run.yaml").write_text("metadata: [lines.tsv.gz]\n")
        assert cli.main(["spans", str(tmp_path)]) == 2
        assert "was rebuilt from metadata" in capsys.readouterr().err
        assert cli.main(["spans", str(tmp_path / "none")]) == 2
        assert "is not the folder of a run" in capsys.readouterr().err


_fragments = st.lists(st.tuples(st.integers(1, 30_000), st.integers(1, 60_000)), max_size=20).map(
    lambda steps: np.cumsum([part for gap, length in steps for part in (gap, length)], dtype=np.int64).reshape(-1, 2)
)


@given(_fragments)
@settings(max_examples=60, deadline=None)
def test_counts_are_sums_over_spans(fragments: np.ndarray) -> None:  # type: ignore[type-arg]
    spans = spans_of(fragments, SpansConfig(min_seconds=0.5, max_seconds=9))
    count = SpanCounts()
    for _ in range(2):
        count.add(1_000_000, fragments, spans)
    speech = sum(end - start for start, end in fragments.tolist())
    assert count.speech == 2 * speech and count.samples == 2_000_000
    assert count.spans == 2 * len(spans.spans)
    assert count.multiple * max(speech, 1) == pytest.approx(sum(end - start for start, end in spans.spans.tolist()))
    assert count.per_hour * speech == pytest.approx(len(spans) * 3600 * SAMPLE_RATE)


@given(_fragments, st.floats(0, 20), st.floats(0.1, 30))
@settings(max_examples=60, deadline=None)
def test_a_picture_has_what_lies_inside_and_no_two_in_one_place(
    fragments: np.ndarray,  # type: ignore[type-arg]
    first: float,
    seconds: float,
) -> None:
    spans = spans_of(fragments, SpansConfig(min_seconds=0.5, max_seconds=9)).spans
    low, high = round(first * SAMPLE_RATE), round((first + seconds) * SAMPLE_RATE)
    inside = [span for span in spans.tolist() if span[0] >= low and span[1] <= high]
    tree = ElementTree.fromstring(span_picture(fragments, spans, first, first + seconds))
    rects = list(tree.iter("{http://www.w3.org/2000/svg}rect"))
    drawn = [rect for rect in rects if rect.get("class") == "span"]
    text = next(tree.iter("{http://www.w3.org/2000/svg}text")).text or ""
    left_out = int(found[1]) if (found := re.search(r"and (\d+) more", text)) else 0
    assert len(drawn) + left_out == len(inside)
    places = sorted((float(r.get("y", 0)), float(r.get("x", 0)), float(r.get("width", 0))) for r in drawn)
    for (y, x, width), (other, right, _) in pairwise(places):
        assert y != other or x + width <= right + 0.51  # tenths of a unit, and bars are half a unit wide at least
