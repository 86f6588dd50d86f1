"""A run opened for a notebook: tables in every form, pairs heard, pictures, and one clear line for what is wrong."""

import base64
import math
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

import seamlessalign
from seamlessalign import storage
from seamlessalign.errors import ConfigError, InputError, MissingPackageError, StorageError
from seamlessalign.pipelines.curation.labels import Drawn, Label, Labels
from seamlessalign.pipelines.opened_pairs import OpenedPair
from seamlessalign.pipelines.opened_run import Run
from seamlessalign.pipelines.report import build_report
from seamlessalign.pipelines.report_parts import hours
from seamlessalign.pipelines.selection import Cut
from seamlessalign.rows import SAMPLE_RATE
from tests.ground.browser import CHROMIUM, browser
from tests.ground.page import Page
from tests.pipelines.fake_run import HOSTILE_TEXT
from tests.pipelines.heard_run import HeardRun


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> HeardRun:
    return HeardRun(tmp_path_factory.mktemp("heard"))


@pytest.fixture(scope="module")
def run(heard: HeardRun) -> Run:
    return seamlessalign.open_run(heard.root)


def test_the_door_is_light() -> None:
    script = (
        "import sys, seamlessalign; assert callable(seamlessalign.open_run); "
        "print(*[name for name in ('numpy', 'pyarrow', 'duckdb', 'pydantic') if name in sys.modules])"
    )
    house = Path(seamlessalign.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", script], cwd=house, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# Tables


def test_tables_come_in_every_form(heard: HeardRun, run: Run) -> None:
    assert run.directions == ["eng-deA", "eng-frA"]
    assert list(run.tables) == ["recordings", "segments", "sentences", "pairs", "corpus"]
    pairs = run.table("pairs")
    paths = [path for name in ("eng-deA", "eng-frA") for path in heard.parts(f"pairs/direction={name}")]
    expected = pa.concat_tables(pq.read_table(path).replace_schema_metadata(None) for path in paths)
    assert len(pairs) == len(expected)
    assert pairs.columns == expected.column_names
    assert pairs.arrow().sort_by("pair_id").to_pylist() == expected.sort_by("pair_id").to_pylist()
    frame = pairs.pandas()
    assert list(frame.columns) == pairs.columns and len(frame) == len(expected)
    batches = list(pairs.batches(50))
    assert sum(batch.num_rows for batch in batches) == len(expected) and len(batches) > 1
    assert sorted(row["pair_id"] for row in pairs) == sorted(expected["pair_id"].to_pylist())
    counted = pairs.relation().filter("kept").aggregate("direction, count(*) as n", "direction").fetchall()
    assert dict(counted) == {name: sum(row["kept"] for row in rows) for name, rows in heard.fake.pairs.items()}


def test_embeddings_are_rows_of_their_own(heard: HeardRun, run: Run) -> None:
    """DuckDB cannot read them, so that no view has them."""
    assert "embedding" not in run.table("segments").columns and run.table("segments").head(3).num_rows == 3
    ids, rows = run.embeddings("segments", "fra")
    parts = [pq.read_table(path) for path in heard.parts("segments/lang=fra")]
    assert ids == [name for part in parts for name in part["segment_id"].to_pylist()]
    assert rows.shape == (len(ids), 4) and rows.dtype == np.float16
    for table, lang, told in (("pairs", "fra", "has no embeddings"), ("segments", "fr", "is 'fra' meant")):
        with pytest.raises(InputError, match=told):
            run.embeddings(table, lang)


def test_pairs_are_those_of_a_plain_choice(heard: HeardRun, run: Run) -> None:
    rows = heard.rows("pairs/direction=eng-frA")

    def ids(wanted: Any) -> set[str]:
        return {row["pair_id"] for row in rows if wanted(row)}

    def found(**given: Any) -> set[str]:
        return set(run.pairs("eng-frA", ["pair_id"], **given).arrow()["pair_id"].to_pylist())

    assert found(kept=True) == ids(lambda row: row["kept"])
    assert found(kept=False, where="drop_reason = ?", parameters=["overlap"]) == ids(
        lambda row: row["drop_reason"] == "overlap"
    )
    bound = sorted(row["precision_estimate"] for row in rows)[len(rows) // 2]
    assert found(min_precision=bound) == ids(
        lambda row: row["precision_estimate"] >= bound and row["drop_reason"] != "overlap"
    )
    assert found(min_margin=1.2) == ids(lambda row: row["margin"] >= 1.2 and row["drop_reason"] != "overlap")
    assert found(where="seconds > 5") == ids(lambda row: row["tgt_end"] - row["tgt_start"] > 5 * SAMPLE_RATE)
    best = run.pairs("eng-frA", ["margin", "src_chars"], order="margin desc", limit=4).arrow().to_pylist()
    assert best == [
        {"margin": row["margin"], "src_chars": len(row["src_text"])}
        for row in sorted(rows, key=lambda row: -row["margin"])[:4]
    ]
    assert len(run.pairs(kept=True)) == sum(row["kept"] for some in heard.fake.pairs.values() for row in some)
    assert "disagreement" in run.pair_columns("eng-frA")


def test_what_precision_would_keep_is_what_the_report_says(heard: HeardRun, run: Run) -> None:
    page = Page(Path(build_report(heard.root)).read_text("utf-8"))
    for row in run.at_precision(0.5, 0.9).to_pylist():
        if row["direction"] == "eng-frA":
            length = hours(round(row["hours"] * 3600 * SAMPLE_RATE))
            cells = page.row(f"{row['min_precision']:g}", f"{row['pairs']:,}", length)
            assert int(cells[3]) == round(row["pairs"] - row["expected_right"])
        else:
            assert row["pairs"] == 0  # nothing was estimated
    for row in run.summary():
        assert page.numbers[f"kept {row['direction']}"] == f"{row['kept']:,}"


def test_queries_see_the_run_and_nothing_else(run: Run, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("a\n1\n")
    assert run.sql("select count(*) as n from recordings;").arrow()["n"].to_pylist() == [60]
    assert run.sql("select ? + 1 as n", [41]).arrow()["n"].to_pylist() == [42]
    for query in (
        f"select * from read_csv('{tmp_path}/secret.csv')",
        f"select * from '{tmp_path}/secret.csv'",
        f"copy (select 1) to '{tmp_path}/out.csv'",
        "drop view pairs",
        "select 1; drop view pairs",
        "select nothing from pairs",
        "selekt 1",
        "",
    ):
        with pytest.raises(InputError) as told:
            run.sql(query)
        assert "\n" not in str(told.value)
        assert ("one select at a time" in str(told.value)) == query.startswith(
            ("copy", "drop", "select 1;")
        ) or not query
    assert not (tmp_path / "out.csv").exists()


# Pairs


def test_kept_and_rejected_pairs_are_heard_as_they_are_in_the_recording(heard: HeardRun, run: Run) -> None:
    some = heard.pairs[:3] + [row for row in heard.pairs if not row["kept"]][:3]
    assert {row["kept"] for row in some} == {True, False}
    for row in some:
        pair = run.pair(row["pair_id"])
        sound = pair.tgt.audio
        assert sound is not None and sound.sample_rate == SAMPLE_RATE
        np.testing.assert_array_equal(sound.samples, heard.samples[row["tgt_start"] : row["tgt_end"]])
        wide = pair.tgt.in_context(1.5)
        first = max(row["tgt_start"] - 24_000, 0)
        last = min(row["tgt_end"] + 24_000, len(heard.samples))
        np.testing.assert_array_equal(wide.samples, heard.samples[first:last])
        assert wide.span == (row["tgt_start"] - first, row["tgt_end"] - first)
        assert pair.src.text == row["src_text"] and pair.src.audio is None
        assert (pair.kept, pair.drop_reason, pair.margin) == (row["kept"], row["drop_reason"], row["margin"])


def test_sound_is_saved_and_played(heard: HeardRun, run: Run, tmp_path: Path) -> None:
    row = heard.pairs[0]
    sound = run.pair(row["pair_id"], "eng-frA").tgt.audio
    assert sound is not None
    for name, near in (("a.flac", 0.0), ("a.wav", 2 / 32768), ("a.ogg", 1.0)):
        sound.save(tmp_path / name)
        samples, rate = soundfile.read(tmp_path / name, dtype="float32")
        assert rate == SAMPLE_RATE and len(samples) == len(sound.samples)
        assert np.abs(samples - sound.samples).max() <= near
    with pytest.raises(InputError, match=r"a\.mp3: sound is written as \.flac"):
        sound.save(tmp_path / "a.mp3")
    encoded = re.search(r'src="data:audio/flac;base64,([^"]+)"', sound._repr_html_())
    assert encoded is not None and base64.b64decode(encoded[1]) == (tmp_path / "a.flac").read_bytes()


def test_what_cannot_be_heard_is_told(heard: HeardRun, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(heard.root, root)
    moved = Path(heard.recording).rename(tmp_path / "elsewhere.flac")
    try:
        run = seamlessalign.open_run(str(root))
        rejected = next(row for row in heard.pairs if not row["kept"])
        with pytest.raises(InputError, match=r"speech cannot be heard: .*cannot be read: .*the corpus does not have"):
            _ = run.pair(rejected["pair_id"]).tgt.audio
        kept = next(row for row in heard.pairs if row["kept"])
        stored = next(row for row in heard.rows("corpus/direction=eng-frA") if row["pair_id"] == kept["pair_id"])
        sound = run.pair(kept["pair_id"]).tgt.in_context(2.0)  # what was cut, without anything around it
        (tmp_path / "stored.flac").write_bytes(stored["tgt_audio"]["bytes"])
        np.testing.assert_array_equal(sound.samples, soundfile.read(tmp_path / "stored.flac", dtype="float32")[0])
        assert "cannot be read" in sound.note
        with pytest.raises(InputError, match="src side is text"):
            run.pair(kept["pair_id"]).src.in_context()
    finally:
        moved.rename(heard.recording)


# Pictures


def test_pictures_have_every_row(heard: HeardRun, run: Run) -> None:
    pairs = heard.rows("pairs/direction=eng-frA")
    for picture in (run.plot_margins("eng-frA"), run.plot_margins("eng-frA", 1.2), run.plot_cosines("eng-frA")):
        bars = re.findall(r"<title>\S+ to \S+: ([\d,]+) kept, ([\d,]+) rejected</title>", picture.svg)
        kept, rejected = (sum(int(bar[place].replace(",", "")) for bar in bars) for place in (0, 1))
        assert (kept, kept + rejected) == (sum(row["kept"] for row in pairs), len(pairs))
    assert "threshold 1.2<" in run.plot_margins("eng-frA", 1.2).svg
    assert "threshold 1.12<" in run.plot_margins("eng-frA").svg
    svg = run.plot_durations().svg
    for name, number in (("Recordings", 60), ("Candidate spans", 1440)):
        chart = svg[svg.index(f">{name}<") :]
        chart = chart[: chart.index("</svg>")]
        bars = re.findall(r": ([\d,]+) kept, ([\d,]+) rejected</title>", chart)
        assert sum(int(number.replace(",", "")) for bar in bars for number in bar) == number
    lowest = min(row["precision_estimate"] for row in pairs if row["kept"])
    assert f"lowest kept {lowest:.2f}" in run.plot_precision("eng-frA").svg
    with pytest.raises(InputError, match="no precision of eng-deA was estimated"):
        run.plot_precision("eng-deA")


def test_the_funnel_is_the_reports(heard: HeardRun, run: Run) -> None:
    source = Path(build_report(heard.root)).read_text("utf-8")
    (chart,) = re.findall(r'<svg [^>]*aria-label="Hours of audio that remain after each step".*?</svg>', source)
    written = re.findall(r'text-anchor="start">([^<]+)</text>', chart)
    assert len(written) == 4
    assert re.findall(r'text-anchor="start">([^<]+)</text>', run.plot_funnel().svg) == written


def test_pictures_are_saved(run: Run, tmp_path: Path) -> None:
    picture = run.plot_directions()
    picture.save(tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text("utf-8") == picture.svg
    with pytest.raises(InputError, match=r"a\.png: pictures are written as \.svg"):
        picture.save(str(tmp_path / "a.png"))


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.skipif(sys.platform != "linux", reason="the browser is started as on Linux")
def test_what_notebooks_show_is_seen_and_heard_in_a_browser(heard: HeardRun, run: Run, tmp_path: Path) -> None:
    pytest.importorskip("websocket", reason="websocket-client is not installed")
    hostile = next(row for row in heard.pairs if row["src_text"] == HOSTILE_TEXT or row["kept"])
    pair = run.pair(hostile["pair_id"])
    texts = run.pairs("eng-frA", ["src_text", "margin"], where="contains(src_text, 'onerror')")
    pictures = [pair.plot(), run.plot_margins("eng-frA"), run.plot_funnel()]
    shown = [run, run.table("pairs"), texts, pair, pair.tgt.audio, *pictures]
    body = "".join(f"<div>{one._repr_html_()}</div>" for one in shown)  # type: ignore[union-attr]
    (tmp_path / "notebook.html").write_text(f"<!DOCTYPE html><meta charset=utf-8><body>{body}</body>", "utf-8")
    (tmp_path / "profile").mkdir()
    with browser(tmp_path / "profile") as page:
        page.open(tmp_path / "notebook.html")
        audio = page.evaluate(
            """Promise.all([...document.querySelectorAll('audio')].map(async a => {
                 await a.play(); a.pause(); return [a.duration, a.error && a.error.message];
               }))"""
        )
        images = page.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth > 300])")
        assert page.evaluate("[typeof window.stolen, document.querySelectorAll('script').length]") == ["undefined", 0]
        assert page.complaints() == [] and page.asked_of_others() == []
    seconds = (hostile["tgt_end"] - hostile["tgt_start"]) / SAMPLE_RATE
    assert audio == [[pytest.approx(seconds, abs=0.01), None]] * 2
    assert images == [[True, True]] * 3


# Choosing


def test_a_selection_is_kept_and_read_again(heard: HeardRun, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(heard.root, root)
    run = seamlessalign.open_run(str(root))
    chosen = run.save_selection("sure", {"eng-frA": {"min_precision": 0.9}, "eng-deA": None}, note="mine")
    assert run.selections == ["sure"]
    assert run.selection("sure") == chosen
    assert chosen.directions == {"eng-frA": Cut(min_precision=0.9), "eng-deA": Cut()}
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"eng-fra": None}, InputError, "is 'eng-frA' meant"),
        ({"eng-frA": {"min_precison": 0.9}}, ConfigError, "min_precison"),
        ({"eng-frA": {"filters": [{"column": "nothing", "op": "is_null"}]}}, InputError, "no column 'nothing'"),
    ]
    for cuts, kind, told in wrong:
        with pytest.raises(kind, match=told):
            run.save_selection("other", cuts)
    assert run.selections == ["sure"]


def test_labels_are_told_with_the_pairs(heard: HeardRun, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(heard.root, root)
    kept = [row for row in heard.rows("pairs/direction=eng-frA") if row["kept"]]
    drawn = Drawn("random above the threshold", 1.12, None)
    Labels(str(root)).append([Label(row["pair_id"], "eng-frA", "right", row["margin"], drawn) for row in kept[:20]])
    run = seamlessalign.open_run(str(root))
    assert len(run.labels) == 20
    labelled = run.pairs("eng-frA", ["pair_id", "label"], where="label is not null")
    assert {row["pair_id"] for row in labelled} == {row["pair_id"] for row in kept[:20]}
    assert len(labelled.relation().filter("label = 'right'").fetchall()) == 20
    precision = run.labelled_precision("eng-frA")
    assert precision.estimate == 1.0 and 0.7 < precision.low < 1.0


# What is wrong


def test_errors_are_one_clear_line(heard: HeardRun, run: Run, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    told: list[tuple[Any, str]] = [
        (lambda: seamlessalign.open_run(str(tmp_path / "none")), "none: there is no run here"),
        (lambda: seamlessalign.open_run(str(tmp_path)), "has none of the tables of a run"),
        (lambda: run.pairs("eng-fra"), "has no direction 'eng-fra'; is 'eng-frA' meant"),
        (lambda: run.plot_margins("frA"), "has no direction 'frA'"),
        (lambda: run.table("pair"), "has no table 'pair'; is 'pairs' meant"),
        (lambda: run.pairs("eng-frA", ["margn"]), "no column 'margn'; is 'margin' meant"),
        (lambda: run.pairs(columns=["seconds"]), "further ones are of one direction"),
        (lambda: run.pair("x"), "has no pair 'x'"),
        (lambda: run.pairs("eng-frA", kept=True, min_margin=1.0), "another cut"),
        (lambda: run.at_precision(90), "between 0 and 1"),
        (lambda: run.table("pairs").batches(0), "give 1 or more"),
        (lambda: seamlessalign.open_run(""), "'': there is no run here"),
        (lambda: run.pairs("eng-frA", columns="margin"), "given as a list"),
        (lambda: run.pairs("eng-frA", min_precision=2), "min_precision: .*less than or equal to 1"),
        (lambda: run.pairs("eng-frA", min_margin=1e300), "min_margin"),
        (lambda: run.pairs("eng-frA", where="margin > ?"), "cannot be asked this: .*not provided"),
        (lambda: run.sql("select ?", [1, 2]), "cannot be asked this: .*excess"),
        (lambda: run.pair(3), "cannot be asked this"),  # type: ignore[arg-type]
        (lambda: run.threshold(None), "has no direction None"),  # type: ignore[arg-type]
        (lambda: run.plot_margins("eng-frA", math.nan), "nan is no margin"),
        (lambda: run.plot_margins("eng-frA", 1e300), "is no margin"),
        (lambda: run.labelled_precision("eng-frA", 1e300), "is no margin"),
        (lambda: first_of(run).tgt.in_context(math.nan), "nan seconds around a span"),
        (lambda: first_of(run).tgt.in_context(-1.0), "-1.0 seconds around a span"),
        (lambda: run.save_selection("a", ["eng-frA"]), "given by direction"),  # type: ignore[arg-type]
        (lambda: run.save_selection("a", {"eng-frA": 3}), "directions.eng-frA"),  # type: ignore[dict-item]
        (lambda: run.selection(None), "None cannot name a selection"),  # type: ignore[arg-type]
    ]
    for ask, expected in told:
        with pytest.raises((InputError, ConfigError), match=expected) as error:
            ask()
        assert "\n" not in str(error.value)


def first_of(run: Run) -> OpenedPair:
    return run.pair(run.pairs("eng-frA", ["pair_id"], limit=1).arrow()["pair_id"][0].as_py())


def test_a_closed_run_says_so(heard: HeardRun) -> None:
    with seamlessalign.open_run(Path(heard.root)) as run:
        rows = run.pairs("eng-frA")
    for ask in (
        run.summary,
        rows.arrow,
        run.plot_funnel,
        lambda: run.pair("x"),
        lambda: run.labelled_precision("eng-frA"),
    ):
        with pytest.raises(InputError, match="was closed; open it again"):
            ask()
    run.close()


def test_rows_are_read_by_threads_and_twice_at_a_time(run: Run) -> None:
    rows = run.pairs("eng-frA", ["pair_id"], order="margin desc, pair_id")
    names = rows.arrow()["pair_id"].to_pylist()
    both = zip(rows.batches(7), rows.batches(7), strict=True)
    read: list[list[str]] = [[], []]
    for batches in both:
        assert len(rows) == len(names)
        for place, batch in enumerate(batches):
            read[place] += batch["pair_id"].to_pylist()
    assert read == [names, names]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: rows.relation().aggregate("count(*)").fetchall(), range(12)))
    assert found == [[(len(names),)]] * 12


def test_a_query_may_end_with_a_comment(run: Run) -> None:
    asked = run.sql("select 1 as one -- all of it")
    assert (asked.columns, len(asked), asked.head(1).to_pylist()) == (["one"], 1, [{"one": 1}])


def test_a_run_that_is_not_finished_says_where_it_stands(heard: HeardRun, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(heard.root, root)
    (root / "ledger.parquet").unlink()
    with pytest.raises(InputError, match=r"this run is not finished: it is stopped between stages; go on with `seam"):
        seamlessalign.open_run(str(root))
    assert seamlessalign.open_run(str(root), unfinished=True).directions == ["eng-deA", "eng-frA"]
    shutil.rmtree(root / "pairs")
    shutil.rmtree(root / "corpus")
    begun = seamlessalign.open_run(str(root), unfinished=True)
    assert begun.directions == [] and "recordings" in repr(begun)


def test_damage_names_the_run(heard: HeardRun, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(heard.root, root)
    path = root / "pairs/direction=eng-frA/part-00001.parquet"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(StorageError, match="a table of the run cannot be read"):
        seamlessalign.open_run(str(root)).pairs().arrow()


def test_without_the_extra_it_is_named(heard: HeardRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = seamlessalign.open_run(heard.root)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingPackageError, match=r"pandas: pip install 'seamlessalign\[curate\]'"):
        run.table("pairs").pandas()
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(MissingPackageError, match=r"duckdb: pip install 'seamlessalign\[curate\]'"):
        seamlessalign.open_run(heard.root)
    assert Path(build_report(heard.root)).exists()  # the report needs none of it


def test_a_run_in_a_store_and_a_corpus_without_configuration(heard: HeardRun, tmp_path: Path) -> None:
    store = "memory://opened-run/run"
    try:
        for path in Path(heard.root).rglob("*.parquet"):
            storage.write_bytes_atomic(f"{store}/{path.relative_to(heard.root)}", path.read_bytes())
        run = seamlessalign.open_run(store + "/")
        assert run.config is None and run.name == "run"
        local = seamlessalign.open_run(heard.root)
        for given in ({"kept": True}, {"min_precision": 0.5}):
            columns = ["pair_id", "seconds"]
            here, there = (one.pairs("eng-frA", columns, order="pair_id", **given).arrow() for one in (local, run))
            assert here == there and len(here)
        assert run.table("pairs").columns == local.table("pairs").columns
        assert run.plot_funnel().svg == local.plot_funnel().svg
        assert len(list(run.table("recordings"))) == 60
    finally:
        storage.remove("memory://opened-run")


def test_a_corpus_that_was_rebuilt_opens_too(heard: HeardRun, tmp_path: Path) -> None:
    root = tmp_path / "rebuilt"
    for table in ("recordings", "pairs", "corpus"):
        shutil.copytree(f"{heard.root}/{table}", root / table)
    shutil.copy(f"{heard.root}/ledger.parquet", root)
    (root / "run.yaml").write_text("metadata: [a.tsv]\noutput: x\naudio: {}\n")
    run = seamlessalign.open_run(str(root))
    assert run.config is None and run.directions == ["eng-deA", "eng-frA"]
    kept = next(row for row in heard.pairs if row["kept"])
    sound = run.pair(kept["pair_id"]).tgt.audio
    assert sound is not None and len(sound.samples) == kept["tgt_end"] - kept["tgt_start"]
    text = Page(Path(build_report(str(root))).read_text("utf-8")).text
    assert "seamlessalign export" in text and "seamlessalign filter" not in text and "not complete" not in text
    (root / "run.yaml").write_text("directions: [eng-frA]\nspeech: {inputz: [x]}\n")
    with pytest.raises(ConfigError, match="inputz"):
        seamlessalign.open_run(str(root))


def test_reprs_say_what_there_is(heard: HeardRun, run: Run) -> None:
    kept = [row for row in heard.fake.pairs["eng-frA"] if row["kept"]]
    assert f"eng-frA: {len(kept)} of {len(heard.fake.pairs['eng-frA'])} pairs kept" in repr(run)
    number = sum(map(len, heard.fake.pairs.values()))
    assert repr(run.table("pairs")).startswith(f"<{number} rows of pair_id, direction")
    pair = run.pair(heard.pairs[0]["pair_id"])
    assert repr(pair).startswith(f"<pair {pair.pair_id} of eng-frA, margin {pair.margin:.3f}")
    assert "12 bytes" not in repr(run.table("corpus")) and "bytes" in repr(run.table("corpus"))
    assert repr(run.plot_funnel()) == "<picture: hours of audio that remain after each step>"
