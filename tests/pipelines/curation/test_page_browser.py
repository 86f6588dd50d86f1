"""The curation page in a real browser: what is heard, marked and chosen there, and what hostile texts do: nothing."""

import json
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from seamlessalign.pipelines.curation.labels import Labels
from seamlessalign.pipelines.selection import read_selection
from tests.ground.browser import CHROMIUM, Browser, browser
from tests.pipelines.curation.curating import CARD, METRICS, PAIR, curating, press_and_go, wait_for_card
from tests.pipelines.fake_run import HOSTILE_TEXT, FakeRun
from tests.pipelines.small_corpus import finished_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.skipif(sys.platform != "linux", reason="the browser is started as on Linux"),
]
for _package in ("websocket", "streamlit", "altair", "duckdb"):
    pytest.importorskip(_package, reason="needs the extra 'curate' and websocket-client")

AUDIO = "document.querySelector('audio')"


def lines(root: Path | str) -> list[tuple[str, str]]:
    """The labels on disk: pair and label."""
    table = Labels(str(root)).read()
    return list(zip(table["pair_id"].to_pylist(), table["label"].to_pylist(), strict=True))


def slide(page: Browser, key: str) -> None:
    """Press a key while the slider has the focus."""
    page.evaluate("document.querySelector('[data-testid=stSlider] input').focus()")
    page.press(key)


def test_a_curator_hears_marks_cuts_and_saves(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = finished_run(tmp_path_factory.getbasetemp()).copy(tmp_path / "run")
    with curating(root) as address, browser(tmp_path / "profile") as page:
        page.open(address)
        first = wait_for_card(page)
        # it is heard: the span within what lies around it
        page.wait_for("!!document.querySelector('.waveform .span')")
        page.press("p")
        heard = page.wait_for(f"!{AUDIO}.paused && {AUDIO}.readyState > 1 && [{AUDIO}.currentTime, {AUDIO}.duration]")
        later = page.wait_for(f"{AUDIO}.currentTime > {heard[0]} + 0.2 && {AUDIO}.currentTime")
        assert heard[0] < later < heard[1]
        page.press("p")
        page.wait_for(f"{AUDIO}.paused")
        # it is marked by keys, and taken back
        second = press_and_go(page, "y")
        third = press_and_go(page, "u")
        assert lines(root) == [(first, "right"), (second, "unsure")]
        assert press_and_go(page, "z") == second
        assert lines(root)[-1] == (second, "undo")
        # the threshold moves, and what is chosen with it
        before = page.evaluate(METRICS)
        slide(page, "End")
        page.wait_for(f"{METRICS}[0] !== {before[0]!r}")
        page.wait_for("location.search.includes('cut.')")
        assert press_and_go(page, "j") == third  # though the slider has the focus
        now = page.evaluate(METRICS)
        assert int(now[0].replace(",", "")) < int(before[0].replace(",", ""))
        # all of it is there again
        asked = page.evaluate("location.href")
        page.open(asked)
        page.wait_for(f"{METRICS}.length === 4 && {METRICS}[0] === {now[0]!r}")
        assert "key=" not in asked
        page.wait_for(f"{PAIR} === {third!r}")
        time.sleep(0.5)  # a mark that comes sooner is none
        page.press("n")
        deadline = time.monotonic() + 20
        while len(lines(root)) < 4 and time.monotonic() < deadline:
            time.sleep(0.1)
        page.click_button("Run's own cut")
        page.wait_for(f"{METRICS}[0] === {before[0]!r}")
        page.click_button("List")
        page.wait_for("document.querySelectorAll('.card .label').length === 2")
        assert lines(root)[3:] == [(third, "wrong")]
        # it is saved
        slide(page, "End")
        page.wait_for(f"{METRICS}[0] === {now[0]!r}")
        page.click_button("Save and export")
        page.click("document.querySelector('[aria-label=Name]')")
        page.type("first-choice")
        page.press("Enter")
        page.click_button("Save\n")
        page.wait_for_text("seamlessalign export")
        # it is exported, and others can read it
        page.click_button("Export here")
        page.wait_for_text("Exported to", 120)
        assert page.complaints() == []
        assert page.asked_of_others(address.split("/?")[0]) == []
    kept = read_selection(str(root), "first-choice")
    assert (kept.directions["eng-esA"].min_margin or 0) > 1.0 and kept.directions["eng-frA"].is_own
    datasets = pytest.importorskip("datasets", reason="needs the extra 'export'")
    exported = ds.dataset(root / "exports" / "first-choice-parquet", format="parquet", exclude_invalid_files=True)
    pairs = exported.to_table(columns=["pair_id", "direction"])
    chosen = Counter(pairs["direction"].to_pylist())
    assert chosen["eng-esA"] == int(now[0]) - 1 and chosen["eng-frA"] > 0  # without the wrong one
    assert third not in pairs["pair_id"].to_pylist() and {first, second} <= set(pairs["pair_id"].to_pylist())
    files = str(root / "exports" / "first-choice-parquet" / "*" / "*.parquet")
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))["train"]
    assert sorted(loaded["pair_id"]) == sorted(pairs["pair_id"].to_pylist())


def test_texts_of_the_data_are_only_texts(tmp_path: Path) -> None:
    hostile = [
        HOSTILE_TEXT, "<script>window.stolen=1</script>", "[x](javascript:window.stolen=1)", "$$\\frac{a}{b}$$ :home:",
        "<svg onload=window.stolen=1><style>body{display:none}</style>", "**b** `code` ![i](https://evil.example/i.png)",
    ]  # fmt: skip
    FakeRun(str(tmp_path / "run"), rejected=20, frames=True, texts=hostile)
    with curating(tmp_path / "run") as address, browser(tmp_path / "profile") as page:
        page.open(address + "&look=list&scope=all")
        page.wait_for("document.querySelectorAll('.card').length === 10")
        shown = page.evaluate("[...document.querySelectorAll('.words')].map(w => w.textContent)")
        assert len(shown) == 10 and all(text.startswith(tuple(hostile)) for text in shown)
        page.click_button("Table")
        page.wait_for("!!document.querySelector('[data-testid=stDataFrame]')")
        page.wait_for(f"!!{CARD}")
        page.click_button("Mark")
        wait_for_card(page)
        page.click("[...document.querySelectorAll('summary')].at(-1)")
        found = page.evaluate(
            """[typeof window.stolen, document.querySelectorAll('.katex, .card a, .card img, .card script').length,
                [...document.querySelectorAll('a')].filter(a => a.href.startsWith('javascript')).length,
                document.querySelectorAll('[onerror], [onload]').length]"""
        )
        assert found == ["undefined", 0, 0, 0]
        assert page.asked_of_others(address.split("/?")[0]) == []


@pytest.mark.thorough
def test_two_pages_mark_at_the_same_time(tmp_path: Path) -> None:
    run = FakeRun(str(tmp_path / "run"), rejected=20, frames=True)
    with (
        curating(tmp_path / "run") as address,
        browser(tmp_path / "one") as one,
        browser(tmp_path / "two") as two,
    ):
        for page in (one, two):
            page.open(address)
            wait_for_card(page)
        pairs = []
        for _ in range(3):
            for page in (one, two):
                pairs.append(page.evaluate(PAIR))
                press_and_go(page, "y")
    assert [pair for pair, _ in lines(run.root)] == pairs
    assert len(set(pairs)) >= 3


def test_nothing_beyond_the_page_can_be_asked_for(tmp_path: Path) -> None:
    run = FakeRun(str(tmp_path / "run"), rejected=20, frames=True)
    Path(run.root, "secret.txt").write_text("the secret")
    with curating(run.root, "--read-only") as address:
        base, _, key = address.partition("/?key=")

        def ask(path: str, **headers: str) -> tuple[int, bytes]:
            request = urllib.request.Request(
                base + path, headers={"Cookie": f"seamlessalign-{base[17:]}={key}"} | headers
            )
            try:
                with urllib.request.urlopen(request, timeout=20) as answer:
                    return answer.status, answer.read()
            except urllib.error.HTTPError as error:
                return error.code, error.read()

        front = ask("/")
        assert front[0] == 200 and b"streamlit" in front[1].lower()
        for path in (
            "/media/../../../../etc/passwd", "/media/%2e%2e/%2e%2e/etc/passwd", "/static/../../../../etc/passwd",
            "/app/static/../run.yaml", f"/media/{run.root}/secret.txt", "/clip/%2fetc%2fpasswd/audio",
            "/clip/../run.yaml",
            f"/{run.root}/secret.txt", "//etc/passwd", "/component/../../etc/passwd", "/_stcore/upload_file/x/y",
            "/labels.parquet", "/run.yaml", "/secret.txt",
        ):  # fmt: skip
            status, body = ask(path)
            assert b"root:" not in body and b"the secret" not in body, path
            assert status >= 400 or body == front[1], (path, status)  # the front page stands for every unknown page
        assert ask("/", Host="evil.example")[0] == 421
        assert ask("/", Cookie="")[0] == 403
        assert ask("/_stcore/health", Host="evil.example")[0] == 421


@pytest.mark.thorough
def test_a_key_that_is_held_or_pressed_too_soon_marks_one_pair(tmp_path: Path) -> None:
    run = FakeRun(str(tmp_path / "run"), rejected=20, frames=True)
    with curating(run.root) as address, browser(tmp_path / "profile") as page:
        page.open(address)
        first = wait_for_card(page)
        time.sleep(0.5)
        for repeat in range(20):
            about = {"key": "y", "code": "KeyY", "windowsVirtualKeyCode": 89, "text": "y"}
            page.call("Input.dispatchKeyEvent", type="keyDown", autoRepeat=repeat > 0, **about)
            time.sleep(0.03)
        page.call("Input.dispatchKeyEvent", type="keyUp", key="y", code="KeyY", windowsVirtualKeyCode=89)
        second = page.wait_for(f"{PAIR} && {PAIR} !== {first!r} && {PAIR}")
        time.sleep(0.5)
        for _ in range(3):
            page.press("n")
        page.wait_for(f"{PAIR} && {PAIR} !== {second!r}")
        time.sleep(1)
    assert lines(run.root) == [(first, "right"), (second, "wrong")]


@pytest.mark.thorough
def test_read_only_keeps_nothing(tmp_path: Path) -> None:
    run = FakeRun(str(tmp_path / "run"), rejected=20, frames=True)
    there = sorted(str(path) for path in Path(run.root).rglob("*"))
    with curating(run.root, "--read-only") as address, browser(tmp_path / "profile") as page:
        page.open(address)
        pair = wait_for_card(page)
        page.wait_for_text("Read only")
        page.press("y")
        time.sleep(0.5)
        assert page.evaluate(PAIR) == pair
    assert sorted(str(path) for path in Path(run.root).rglob("*")) == there


@pytest.mark.thorough
def test_an_address_that_does_not_fit_is_shown_as_far_as_it_does(tmp_path: Path) -> None:
    run = FakeRun(str(tmp_path / "run"), rejected=20, frames=True)
    cut = json.dumps({"min_margin": 1.2})
    with curating(run.root) as address, browser(tmp_path / "profile") as page:
        page.open(f"{address}&direction=eng-frA&order=<script>&at=../../etc&cut.eng-frA={cut}&cut.xx-yyA={cut}")
        wait_for_card(page)
        page.wait_for_text("was left out: order, at, cut.xx-yyA")
        wanted = sum(
            row["margin"] >= 1.2 and row["drop_reason"] in (None, "below_threshold") for row in run.pairs["eng-frA"]
        )
        page.wait_for(f"{METRICS}[0] === '{wanted}'")


@pytest.mark.thorough
def test_the_chosen_rows_are_downloaded(tmp_path: Path) -> None:
    run = FakeRun(str(tmp_path / "run"), rejected=20, frames=True)
    with curating(run.root) as address, browser(tmp_path / "profile") as page:
        page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
        page.open(f"{address}&direction=eng-frA&look=keep")
        page.click_button("Parquet")
        file = tmp_path / "eng-frA.parquet"
        deadline = time.monotonic() + 20
        while not file.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
    table = pq.read_table(file)
    wanted = {row["pair_id"] for row in run.pairs["eng-frA"] if row["kept"]}
    assert set(table["pair_id"].to_pylist()) == wanted and len(table) == len(wanted)


@pytest.mark.thorough
def test_back_and_forward_show_again_what_was_shown(tmp_path: Path) -> None:
    run = FakeRun(str(tmp_path / "run"), rejected=20, frames=True)
    with curating(run.root) as address, browser(tmp_path / "profile") as page:
        page.open(address)
        wait_for_card(page)
        page.wait_for("!!document.querySelector('[data-testid=stSlider] input')")
        own, entries = page.evaluate(METRICS), page.evaluate("history.length")
        slide(page, "End")
        page.wait_for(f"{METRICS}[0] !== {own[0]!r} && location.search.includes('cut.')")
        page.click_button("List")
        page.wait_for("document.querySelectorAll('.card').length > 1 && location.search.includes('look=list')")
        page.evaluate("history.back()")
        page.wait_for("document.querySelectorAll('.card').length === 1 && !location.search.includes('look')")
        page.evaluate("history.back()")
        page.wait_for(f"{METRICS}[0] === {own[0]!r} && !location.search.includes('cut.')")
        page.wait_for("document.querySelector('[aria-label=exactly]').value === '1.1500'")
        page.evaluate("history.forward()")
        page.wait_for(f"{METRICS}[0] !== {own[0]!r} && location.search.includes('cut.')")
        page.click_button("Run's own cut")
        page.wait_for(f"{METRICS}[0] === {own[0]!r}")
        for _ in range(3):
            press_and_go(page, "j")
        page.wait_for("location.search.includes('at=3')")
        assert page.evaluate("history.length") == entries + 2  # forward was given up for the own cut
