"""The report in a real browser: its audio plays, nothing hostile runs, nothing is asked of the network."""

import sys
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
    assert len(audio) == 8
    for item in audio:
        assert item["error"] is None
        assert item["ready"] >= 2
        assert 0.9 < item["seconds"] < 3.2
    assert sizes == [400, 400, "undefined"]  # nothing sticks out on a narrow screen, nothing hostile ran
    assert foreign == 0
    assert outside == []  # every part of a chart is inside it
    assert page.complaints() == []
    assert page.asked_of_others() == []
