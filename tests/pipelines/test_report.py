"""The report of a run folder: its numbers against plain sums, hostile strings, missing tables."""

import re
import shutil
from base64 import b64decode
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seamlessalign import storage
from seamlessalign.errors import InputError, StorageError
from seamlessalign.pipelines import report_samples
from seamlessalign.pipelines.driver import JobResult
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.ledger import Mark, write_mark
from seamlessalign.pipelines.report import build_report
from seamlessalign.pipelines.report_parts import hours
from seamlessalign.pipelines.summary import summary_text
from seamlessalign.rows import LedgerLine
from tests.ground.page import Page
from tests.pipelines.fake_run import FakeRun

HOUR = 16_000 * 3600


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[FakeRun, str, Page]:
    run = FakeRun(str(tmp_path_factory.mktemp("report") / "run"))
    uri = build_report(run.root)
    source = Path(uri).read_text("utf-8")
    return run, source, Page(source)


def in_hours(samples: int) -> float:
    return samples / HOUR


def shown_hours(text: str) -> float:
    number, unit = text.replace(",", "").split()
    return float(number) / {"h": 1, "min": 60, "s": 3600}[unit]


def test_headline_numbers_are_the_sums_of_the_tables(finished: tuple[FakeRun, str, Page]) -> None:
    run, _, page = finished
    kept = [row for pairs in run.pairs.values() for row in pairs if row["kept"]]
    expected = {
        "hours_in": in_hours(sum(row["num_samples"] for row in run.recordings)),
        "hours_speech": in_hours(sum(row["speech_samples"] for row in run.recordings)),
        "hours_kept": in_hours(sum(row["tgt_end"] - row["tgt_start"] for row in kept)),
    }
    for name, value in expected.items():
        assert shown_hours(page.numbers[name]) == pytest.approx(value, abs=0.0051), name
    assert page.numbers["spans"] == "1,440"
    assert page.numbers["sentences"] == "1,200"
    assert page.numbers["pairs_kept"] == str(len(kept))
    assert page.numbers["quarantined"] == "3"
    for direction, pairs in run.pairs.items():
        mine = [row for row in pairs if row["kept"]]
        assert page.numbers[f"kept {direction}"] == str(len(mine))
        whole = in_hours(sum(row["tgt_end"] - row["tgt_start"] for row in mine))
        assert shown_hours(page.numbers[f"hours {direction}"]) == pytest.approx(whole, abs=0.00084)  # 0.05 min
    assert "not complete" not in page.text
    assert "the ledger counts" not in page.text


def test_drops_balance_and_name_each_reason(finished: tuple[FakeRun, str, Page]) -> None:
    run, _, page = finished
    assert page.checks == dict.fromkeys(("recordings", "segments", "sentences", "pairs", "corpus"), "✓")
    reasons = Counter(row["drop_reason"] for pairs in run.pairs.values() for row in pairs if not row["kept"])
    for reason, number in reasons.items():
        samples = sum(
            row["tgt_end"] - row["tgt_start"]
            for pairs in run.pairs.values()
            for row in pairs
            if row["drop_reason"] == reason
        )
        cells = page.row(reason.replace("_", " "), f"−{number:,}")
        assert shown_hours(cells[4].removeprefix("−")) == pytest.approx(in_hours(samples), abs=0.0051)  # to 0.01 h


def test_speed_is_audio_over_core_time(finished: tuple[FakeRun, str, Page]) -> None:
    run, _, page = finished
    whole = sum(row["num_samples"] for row in run.recordings)
    for step, spent in (("decode", 62.0), ("vad", 125.0), ("lid", 80.5), ("embed", 420.25)):
        cells = page.row("speech", step)
        assert float(cells[4].replace(",", "")) == pytest.approx(whole / 16_000 / spent, abs=0.51)
    cells = page.row("speech", "2")
    assert float(cells[5].replace(",", "")) == pytest.approx(whole / 16_000 / 687.75, abs=0.51)
    assert cells[9] == "1.2 GB"  # peak memory of two shards: the larger, not the sum


def test_hours_by_language(finished: tuple[FakeRun, str, Page]) -> None:
    run, _, page = finished
    for lang in ("fra", "deu", "ita"):
        rows = [row for row in run.recordings if row["lang"] == lang]
        cells = page.row(lang, str(len(rows)))
        assert shown_hours(cells[2]) == pytest.approx(in_hours(sum(row["speech_samples"] for row in rows)), abs=0.0051)
    assert page.row("eng")[1:] == ["0", "–", "–", "1,200"]
    assert page.row("unknown")[1] == "1"


def test_models_evaluation_and_date_are_shown(finished: tuple[FakeRun, str, Page]) -> None:
    _, _, page = finished
    assert page.row("whisper-base") == ["whisper-base", "recordings, segments", "cd" * 32]
    assert page.row("eng-frA", "8.25 h")[4:] == [
        "0.912", "0.961", "0.842", "0.898 (0.871–0.921)", "1.12", "0.904 at 1.105", "read <speech>",
    ]  # fmt: skip
    assert "read from these sentences" in page.text
    assert "UTC · configuration 0123456789abcdef" in page.text


def test_reliability_is_drawn_where_precision_was_estimated(finished: tuple[FakeRun, str, Page]) -> None:
    _, source, page = finished
    assert "Compared over <all> candidates." in page.text
    assert source.count('aria-label="Reliability of the estimated precision of ') == 1  # none of eng-deA
    assert page.elements["circle"] == 3  # an empty bin is not drawn
    assert "50 pairs estimated at 0.5 to 0.75, 0.610 on average: 0.580 right (0.442 to 0.706)" in page.text
    mean, right = (400 * 0.031 + 50 * 0.61 + 100 * 0.94) / 550, (400 * 0.0425 + 50 * 0.58 + 100 * 0.97) / 550
    assert f"550 candidates · estimated to be right {mean:.2f} · right {right:.2f}" in page.text
    assert page.row("0.5", "135", "0.912") == ["0.5", "135", "0.912", "0.961 (0.91–0.98)", "0.842", "0.898"]
    assert page.row("0.9", "0", "–") == ["0.9", "0", "–", "–", "0.000", "0.000"]
    assert [cells for cells in page.cells if cells[:3] == ["0.95", "0", "–"]] == []  # nothing below what keeps nothing


def test_estimated_precision_says_what_another_cut_would_leave(finished: tuple[FakeRun, str, Page]) -> None:
    run, source, page = finished
    pairs = run.pairs["eng-frA"]
    kept = [row for row in pairs if row["kept"]]
    assert float(page.numbers["expected eng-frA"]) == pytest.approx(mean_estimate(kept), abs=0.0051)
    wrong = sum(1 - row["precision_estimate"] for row in kept)
    assert f"About {wrong:,.0f} of the kept pairs are expected to be wrong." in page.text
    assert "The estimate comes from decoys (700 on the side eng: <i>given</i>)." in page.text
    for cut in (0.5, 0.8, 0.9, 0.95):
        left = [row for row in pairs if row["precision_estimate"] >= cut and row["drop_reason"] != "overlap"]
        samples = sum(row["tgt_end"] - row["tgt_start"] for row in left)
        cells = page.row(f"{cut:g}", f"{len(left):,}", hours(samples))
        assert int(cells[3]) == pytest.approx(sum(1 - row["precision_estimate"] for row in left), abs=0.51)
    assert source.count("with at least so much estimated precision") == 2  # title and label of one chart
    lowest = min(row["precision_estimate"] for row in kept)
    assert f"lowest kept {lowest:.2f}" in page.text
    assert page.text.count("No precision is estimated: there were no decoys.") == 1
    assert "expected eng-deA" not in page.numbers


def mean_estimate(rows: list[dict[str, Any]]) -> float:
    return float(sum(row["precision_estimate"] for row in rows) / len(rows))


def test_summary_says_how_many_pairs_are_expected_to_be_wrong(finished: tuple[FakeRun, str, Page]) -> None:
    run, _, _ = finished
    lines = summary_text(JobResult(RunFolder(run.root), run.ledger, 0, 0)).split("\n")
    kept = [row for row in run.pairs["eng-frA"] if row["kept"]]
    wrong = len(kept) * (1 - mean_estimate(kept))
    told = [line.split(maxsplit=4) for line in lines if line.startswith("eng-")]
    assert told == [["eng-frA", f"{len(kept)}", f"{mean_estimate(kept):.2f}", f"{wrong:.0f}", told[0][4]]]
    assert told[0][4] == "700 on the side eng: <i>given</i>"  # of eng-deA, without decoys, nothing is said


def test_where_precision_decides_there_is_no_threshold(tmp_path: Path) -> None:
    run = FakeRun(str(tmp_path / "run"), rejected=2000, by_precision=True)
    page = Page(Path(build_report(run.root)).read_text("utf-8"))
    shown = re.sub(r"\s+", " ", page.text)
    assert "estimated precision of each pair at least 0.5" in shown
    assert "cut at 0.50" in shown
    assert not re.search(r"-inf|−inf|\bnan\b", shown)
    assert "threshold 1.15" in shown and "threshold 1.12" not in shown  # the other direction has one
    assert "from the lowest kept up" in shown  # bars of what was kept, since the rest is so much more
    near = sorted(row["margin"] for row in run.pairs["eng-frA"] if row["drop_reason"] == "below_precision")[-1]
    assert f"margin {near:.4f}" in shown


def test_damaged_metadata_names_the_file(tmp_path: Path) -> None:
    run = FakeRun(str(tmp_path), rejected=20)
    path = tmp_path / "pairs/direction=eng-frA/part-00000.parquet"
    for key, value, told in (("mining", "[1]", "mining is damaged"), ("threshold", "x", "threshold is not a number")):
        metadata = {"seamlessalign.threshold": "1.1", f"seamlessalign.{key}": value}
        run.write("pairs/direction=eng-frA/part-00000.parquet", pq.read_table(path).replace_schema_metadata(metadata))
        with pytest.raises(StorageError, match=rf"part-00000\.parquet: .*{told}"):
            build_report(run.root)


def test_hostile_strings_stay_text(finished: tuple[FakeRun, str, Page]) -> None:
    _, source, page = finished
    assert page.elements["script"] == 0
    assert page.elements["img"] == 0
    assert page.elements["em"] == page.elements["i"] == 0
    assert not {name for name in page.attributes if name.startswith("on")}
    assert "talks & <em>speeches</em>" in page.text
    assert 's3://bucket/<script>window.stolen=1</script>/it\'s "here"␊and there.mp3' in page.text
    assert "</blockquote><img src=x onerror=\"window.stolen=1\"> & 'so on'" in page.text
    assert "\x00" not in source
    assert "$style" in page.text  # a text is no template


def test_page_asks_for_nothing_outside_itself(finished: tuple[FakeRun, str, Page]) -> None:
    run, source, page = finished
    assert "default-src 'none'" in source
    assert all(src.startswith("data:audio/ogg;base64,T2dn") for src in page.audio)
    assert page.elements["link"] == 1  # the empty icon, so that a server is not asked for one
    assert len(source) < 3_000_000
    stored = {row["tgt_audio"]["bytes"] for rows in run.corpus.values() for row in rows}
    assert {b64decode(src.partition(",")[2]) for src in page.audio} <= stored


def test_samples_spread_over_the_scores(finished: tuple[FakeRun, str, Page]) -> None:
    run, _, page = finished
    assert page.cards == (["sample"] * 4 + ["sample not-kept"] * 2) * 2
    assert len(page.audio) == 8
    for direction in ("eng-deA", "eng-frA"):
        kept = sorted(row["margin"] for row in run.corpus[direction])
        below = max(row["margin"] for row in run.pairs[direction] if row["drop_reason"] == "below_threshold")
        for margin in (kept[0], kept[-1], below):
            assert f"margin {margin:.4f}" in page.text
        lowest = next(row for row in run.pairs[direction] if row["margin"] == kept[0])
        assert f"cosine {lowest['cosine']:.4f}" in page.text


def test_audio_is_given_out_in_turns_up_to_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = FakeRun(str(tmp_path), rejected=10, kind="flac")

    def sizes_of() -> dict[str, list[int]]:
        samples = report_samples.choose_samples(run.root, 9)
        return {name: [len(item.tgt.audio or b"") for item in chosen] for name, chosen in samples.items()}

    budget = sum(map(sum, sizes_of().values())) // 2
    monkeypatch.setattr(report_samples, "AUDIO_BYTES", budget)
    sizes = sizes_of()
    assert all(found[0] > 0 for found in sizes.values())  # the best pair of every direction has its audio
    assert budget // 2 < sum(map(sum, sizes.values())) <= budget
    samples = report_samples.choose_samples(run.root, 9)
    left_out = [item for chosen in samples.values() for item in chosen if item.tgt.audio_left_out]
    assert left_out
    page = Page(Path(build_report(run.root)).read_text("utf-8"))
    assert page.text.count("left out to keep this page small") > 0
    assert all(src.startswith("data:audio/flac;base64,ZkxhQ") for src in page.audio)


@pytest.mark.parametrize(
    "missing", ["run.yaml", "ledger.parquet", "recordings", "segments", "sentences", "pairs", "corpus"]
)
def test_report_of_a_run_that_lacks_a_table(finished: tuple[FakeRun, str, Page], tmp_path: Path, missing: str) -> None:
    run, _, whole = finished
    folder = tmp_path / "run"
    shutil.copytree(run.root, folder)
    gone = folder / missing
    if gone.is_dir():
        shutil.rmtree(gone)
    else:
        gone.unlink()
    page = Page(Path(build_report(str(folder))).read_text("utf-8"))
    assert f"Missing: {missing}." in page.text
    # Where the ledger knows the number it stands in for the table.
    for name in ("hours_in", "spans", "sentences", "pairs_kept", "hours_kept"):
        assert page.numbers[name] == whole.numbers[name]
    assert (page.numbers["hours_speech"] == "–") == (missing == "recordings")
    if missing == "corpus":
        assert page.audio == []
        assert page.cards.count("sample") == 8
    if missing == "pairs":
        assert len(page.audio) == 12


def test_run_that_has_only_begun(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("name: begun\ndigest: abc\n")
    page = Page(Path(build_report(str(tmp_path))).read_text("utf-8"))
    assert set(page.numbers.values()) == {"–"}
    assert "Missing: ledger.parquet, recordings, segments, sentences, pairs, corpus." in page.text


def test_a_run_at_work_has_the_shards_that_are_done(finished: tuple[FakeRun, str, Page], tmp_path: Path) -> None:
    run, _, whole = finished
    shutil.copytree(run.root, tmp_path / "run")
    (tmp_path / "run/ledger.parquet").unlink()
    folder = RunFolder(str(tmp_path / "run"))
    lines = [line for line in run.ledger if line.stage == "pairs"]
    for line in lines:
        write_mark(folder, Mark("mine", line.shard, line.digest, [], [line]))
    page = Page(Path(build_report(folder.root)).read_text("utf-8"))
    assert "Missing: ledger.parquet." in page.text and f"seamlessalign status {folder.root}" in page.text
    assert page.checks == {"pairs": whole.checks["pairs"]}
    entered, kept = (sum(getattr(line, name) for line in lines) for name in ("rows_in", "rows_kept"))
    assert ["candidate pairs", f"{entered:,}", f"{kept:,}"] in [row[:3] for row in page.cells]


def test_a_run_that_kept_nothing_is_complete(finished: tuple[FakeRun, str, Page], tmp_path: Path) -> None:
    run, _, whole = finished
    assert "Measured before pairs were chosen again" not in whole.text
    shutil.copytree(run.root, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/corpus")
    for part in (tmp_path / "run/pairs").rglob("*.parquet"):
        table = pq.read_table(part, partitioning=None)
        column = table.schema.get_field_index("kept")
        none = pa.array([False] * table.num_rows)
        pq.write_table(table.set_column(column, table.schema.field("kept"), none), part)
    page = Page(Path(build_report(str(tmp_path / "run"))).read_text("utf-8"))
    assert page.numbers["pairs_kept"] == "0" and "not complete" not in page.text
    assert "Measured before pairs were chosen again" in page.text  # evaluation.json is of what was kept before


def test_lost_rows_are_seen(tmp_path: Path) -> None:
    run = FakeRun(str(tmp_path), rejected=20)
    first = run.ledger[0]
    lost = LedgerLine(**{**asdict(first), "dropped": {**first.dropped, "no_speech": 5}})
    run.write_ledger([lost, *run.ledger[1:]])
    for part in (0, 1):
        (tmp_path / f"segments/lang=deu/part-0000{part}.parquet").unlink()
    (tmp_path / "segments/lang=fra/.writing-part-00001.parquet").write_bytes(b"cut of")
    page = Page(Path(build_report(run.root)).read_text("utf-8"))
    assert page.checks["recordings"] == "✗"
    assert page.checks["pairs"] == "✓"
    assert "do not add up in 1 shard(s): part-00000" in page.text
    assert "The table segments has 800 kept rows, the ledger counts 1,440" in page.text


def test_report_on_another_file_system_and_twice_the_same(tmp_path: Path) -> None:
    run = FakeRun("memory://report-test/run", rejected=20)
    try:
        first = build_report(run.root + "/")
        assert first == "memory://report-test/run/report.html"
        data = storage.read_bytes(first)
        build_report(run.root)
        assert storage.read_bytes(first) == data
        assert Page(data.decode()).numbers["spans"] == "1,440"
    finally:
        storage.remove("memory://report-test")


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run here"):
        build_report(str(tmp_path / "nowhere"))
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match=r"holds none of run\.yaml"):
        build_report(str(tmp_path))
    with pytest.raises(InputError, match="samples_per_direction"):
        build_report(str(tmp_path), samples_per_direction=-1)
    damaged = tmp_path / "recordings" / "part-00000.parquet"
    damaged.parent.mkdir()
    damaged.write_bytes(b"PAR1 not really")
    with pytest.raises(StorageError, match=r"recordings/part-00000\.parquet: is not a readable Parquet file"):
        build_report(str(tmp_path))
    pq.write_table(pa.table({"lang": ["fra"]}), damaged)
    with pytest.raises(StorageError, match=r"part-00000\.parquet: has no column num_samples"):
        build_report(str(tmp_path))
    damaged.unlink()
    (tmp_path / "evaluation.json").write_text("[]")
    (tmp_path / "run.yaml").write_text("name: x")
    with pytest.raises(StorageError, match=r"evaluation\.json: has no list of directions"):
        build_report(str(tmp_path))
