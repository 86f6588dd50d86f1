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
        for domain in ("Log", "Runtime", "Network", "Page"):
            page.call(f"{domain}.enable")
        page.call("Emulation.setDeviceMetricsOverride", width=400, height=800, deviceScaleFactor=1, mobile=True)
        page.call("Page.navigate", url=Path(uri).as_uri())
        wait = (
            "new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', () => done()))"
        )
        page.evaluate(wait)
        audio = page.evaluate(
            """Promise.all([...document.querySelectorAll('audio')].map(async a => {
                 await a.play(); a.pause();
                 return {ready: a.readyState, seconds: a.duration, error: a.error && a.error.message};
               }))"""
        )
        outside = page.evaluate(
            """[...document.querySelectorAll('svg')].flatMap(svg => {
                 const box = svg.viewBox.baseVal;
                 return [...svg.querySelectorAll('text, circle, polygon, line')].filter(part => {
                   const b = part.getBBox();
                   return b.x < -1 || b.y < -1 || b.x + b.width > box.width + 1 || b.y + b.height > box.height + 1;
                 }).map(part => part.outerHTML);
               })"""
        )
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
    complaints = [
        event
        for event in page.events
        if event["method"] == "Runtime.exceptionThrown"
        or (event["method"] == "Runtime.consoleAPICalled" and event["params"]["type"] in ("error", "warning"))
        or (event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] in ("error", "warning"))
    ]
    assert complaints == []
    asked = [
        event["params"]["request"]["url"] for event in page.events if event["method"] == "Network.requestWillBeSent"
    ]
    assert [url[:5] for url in asked if not url.startswith(("file:", "data:"))] == []
