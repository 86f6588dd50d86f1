"""The report in a real browser: its audio plays, nothing hostile runs, nothing is asked of the network."""

import sys
from base64 import b64decode
from pathlib import Path

import pytest

from seamlessalign.pipelines.report import build_report
from tests.ground.browser import CHROMIUM, browser
from tests.pipelines.fake_run import FakeRun


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.skipif(sys.platform != "linux", reason="the browser is started as on Linux")
@pytest.mark.parametrize("kind", ["opus", "flac"])
def test_browser_plays_every_sample(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("websocket", reason="websocket-client is not installed")
    run = FakeRun(str(tmp_path / "run"), rejected=60, kind=kind, frames=True)
    uri = build_report(run.root)
    profile = tmp_path / "profile"
    profile.mkdir()
    with browser(profile) as page:
        page.open(Path(uri), width=400)
        audio = page.evaluate(
            """Promise.all([...document.querySelectorAll('audio')].map(async a => {
                 await a.play(); a.pause();
                 return {ready: a.readyState, seconds: a.duration, error: a.error && a.error.message};
               }))"""
        )
        outside = page.outside_of_charts()
        sizes = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth, typeof window.stolen]")
        foreign = page.evaluate("document.querySelectorAll('script, iframe, object, img').length")
        page.call("Emulation.setDeviceMetricsOverride", width=688, height=971, deviceScaleFactor=1, mobile=False)
        dark = [{"name": "prefers-color-scheme", "value": "dark"}]  # which paper is not
        page.call("Emulation.setEmulatedMedia", media="print", features=dark)  # A4 within its margins, at 96 dpi
        on_paper = page.evaluate(
            """({wide: document.documentElement.scrollWidth,
                 cut: [...document.querySelectorAll('.scroll, pre')].map(
                   box => [box.scrollWidth, box.clientWidth, box.textContent.slice(0, 80)]
                 ).filter(([needs, has]) => needs > has + 1),
                 players: [...document.querySelectorAll('audio')].filter(a => a.offsetHeight > 0).length,
                 told: [...document.querySelectorAll('.on-paper')].filter(p => p.offsetHeight > 0).length,
                 ink: getComputedStyle(document.body).color})"""
        )
        document = b64decode(page.call("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert len(audio) == 8
    assert on_paper.pop("wide") <= 688
    assert on_paper == {"cut": [], "players": 0, "told": 8, "ink": "rgb(30, 35, 40)"}
    assert document.startswith(b"%PDF")
    for item in audio:
        assert item["error"] is None
        assert item["ready"] >= 2
        assert 0.9 < item["seconds"] < 3.2
    assert sizes == [400, 400, "undefined"]  # nothing sticks out on a narrow screen, nothing hostile ran
    assert foreign == 0
    assert outside == []  # every part of a chart is inside it
    assert page.complaints() == []
    assert page.asked_of_others() == []
