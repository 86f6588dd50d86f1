"""What the page offers to be heard, and that nothing else can be asked for."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import soundfile

from seamlessalign.pipelines.curation.clip_routes import ClipBook
from seamlessalign.pipelines.curation.listening import Heard, NotHeard
from seamlessalign.rows import SAMPLE_RATE

Samples = np.ndarray[Any, np.dtype[np.float32]]


def tone(seconds: float) -> Samples:
    return (np.sin(np.arange(int(seconds * SAMPLE_RATE)) / 5) / 2).astype(np.float32)


@pytest.fixture
def asked() -> list[Any]:
    return []


@pytest.fixture
def book(asked: list[Any]) -> ClipBook:
    def hear(clip: Any) -> Heard | NotHeard:
        asked.append(clip)
        if clip == "broken":
            return NotHeard("https://user:secret@example.org/a.mp3 ends early")
        return Heard(tone(1.5), SAMPLE_RATE // 2, SAMPLE_RATE, "corpus", "was cut")

    return ClipBook(hear)


@pytest.fixture
def client(book: ClipBook) -> Iterator[Any]:
    starlette = pytest.importorskip("starlette.applications")
    testclient = pytest.importorskip("starlette.testclient")
    with testclient.TestClient(starlette.Starlette(routes=book.routes())) as client:
        yield client


def test_a_clip_comes_back_as_it_looks_and_as_it_sounds(book: ClipBook, client: Any, asked: list[Any]) -> None:
    address = book.offer(("a.flac", 3))
    assert book.offer(("a.flac", 3)) == address != book.offer(("a.flac", 4))
    drawn = client.get(f"{address}/waveform").json()
    assert (drawn["start"], drawn["end"], drawn["seconds"]) == (0.5, 1.0, 1.5)
    assert len(drawn["peaks"]) == 240 and drawn["note"] == "was cut"
    assert max(high for _, high in drawn["peaks"]) == 1.0 and min(low for low, _ in drawn["peaks"]) < -0.99
    answer = client.get(f"{address}/audio")
    assert answer.headers["content-type"] == "audio/flac"
    samples, rate = soundfile.read(io.BytesIO(answer.content), dtype="float32")
    assert rate == SAMPLE_RATE and np.abs(samples - tone(1.5)).max() < 1e-4
    assert asked == [("a.flac", 3)] * 2


@pytest.mark.parametrize("name", ["a.flac", "..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd", "x", "a.flac%00", "*"])
def test_what_was_not_offered_cannot_be_asked_for(client: Any, book: ClipBook, asked: list[Any], name: str) -> None:
    book.offer("a.flac")
    for form in ("audio", "waveform", "", "../audio"):
        assert client.get(f"/clip/{name}/{form}").status_code == 404
    assert asked == []


def test_what_cannot_be_read_is_told_without_secrets(client: Any, book: ClipBook) -> None:
    answer = client.get(f"{book.offer('broken')}/waveform")
    assert answer.status_code == 502
    assert "ends early" in answer.text and "secret" not in answer.text


def test_only_the_last_clips_are_remembered(book: ClipBook, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seamlessalign.pipelines.curation.clip_routes._OFFERED", 2)
    first, second = book.offer(1), book.offer(2)
    book.offer(1)
    book.offer(3)
    assert client.get(f"{first}/waveform").status_code == 200
    assert client.get(f"{second}/waveform").status_code == 404
    assert book.offer(2) != second
