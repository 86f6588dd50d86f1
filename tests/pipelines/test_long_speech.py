"""Recordings of any length: where they are cut, what is said when, and what is written."""

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.audio import decode
from seamlessalign.errors import InputError, SeamlessAlignError
from seamlessalign.espeak import speak_afresh
from seamlessalign.pipelines.long_speech import (
    Recorded,
    cues_of,
    join_fragments,
    stretches_of,
    translate_recording,
)
from seamlessalign.training.unity.generation import Translation, load_translator
from seamlessalign.training.unity.model import save_unity
from seamlessalign.training.unity.search import SearchOptions
from seamlessalign.training.unity.translate import TranslationJob
from tests.training.tiny_unity import SENTENCES, tiny_text, tiny_units, tiny_unity

SHORT = SearchOptions(1, per_source=0, constant=12)  # a model of random weights writes on and on


def _slow(fragments: list[tuple[int, int]], longest: int, max_pause: int) -> list[tuple[int, int]]:
    """As long as there is a pause that may go, the shortest goes."""
    left = list(fragments)
    while True:
        pauses = [(b[0] - a[1], i) for i, (a, b) in enumerate(itertools.pairwise(left))]
        may = [(p, i) for p, i in pauses if p <= max_pause and left[i + 1][1] - left[i][0] <= longest]
        if not may:
            return left
        _, i = min(may)
        left[i : i + 2] = [(left[i][0], left[i + 1][1])]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), max_size=12), st.integers(9, 40), st.integers(0, 8))
@settings(max_examples=60, deadline=None)
def test_the_shortest_pauses_go_first(steps: list[tuple[int, int]], longest: int, max_pause: int) -> None:
    edges = np.cumsum([value for step in steps for value in step]).reshape(-1, 2)
    found = join_fragments(edges.astype(np.int64), longest, max_pause)
    assert found.tolist() == [list(one) for one in _slow([tuple(one) for one in edges.tolist()], longest, max_pause)]


@given(st.text("ab é-", max_size=400), st.integers(0, 10**9), st.integers(1, 10**6))
@settings(max_examples=60, deadline=None)
def test_cues_have_every_letter_in_its_stretch(text: str, start: int, length: int) -> None:
    cues = list(cues_of(start, start + length, text))
    assert "".join("".join(lines.split()) for _, _, lines in cues) == "".join(text.split())
    times = [at for begin, stop, _ in cues for at in (begin, stop)]
    assert times == sorted(times)
    assert not cues or (times[0], times[-1]) == (start, start + length)
    for _, _, lines in cues:
        assert len(lines.split("\n")) <= 2 and all(len(line) <= 42 for line in lines.split("\n"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("long")
    text, units = tiny_text(), tiny_units()
    save_unity(made / "model", tiny_unity(text, units, seed=2), text, units)
    parts = [np.zeros(24_000, np.float32)]
    for sentence in SENTENCES[:3]:
        samples, rate = speak_afresh(sentence, "en")
        parts += [samples, np.zeros(rate, np.float32)]
    sound = np.concatenate(parts)
    soundfile.write(made / "talk.flac", np.stack([sound, sound], 1), rate)
    return made


def _job(folder: Path, **more: Any) -> TranslationJob:
    keys: dict[str, Any] = {"text_search": SHORT, "unit_search": SHORT, "max_seconds": 5.0, "speak": True}
    return TranslationJob(str(folder / "model"), "fra", **(keys | more))


def _translate(job: TranslationJob, sound: Path, **more: Any) -> tuple[Recorded, list[str], list[str]]:
    said: list[str] = []
    told: list[str] = []
    return translate_recording(job, str(sound), say=said.append, progress=told.append, **more), said, told


def _expected(folder: Path, sound: Path, seconds: float) -> tuple[np.ndarray[Any, Any], list[Translation]]:
    samples = decode(sound).samples
    stretches = stretches_of(samples, seconds)
    translator = load_translator(folder / "model", text_search=SHORT, unit_search=SHORT)
    waveforms = [np.array(samples[start:end]) for start, end in stretches.tolist()]
    return stretches, translator.translate_speech(waveforms, "fra", speak=True)


def _stamp(samples: int, point: str) -> str:
    seconds = samples / 16_000
    return f"00:00:{int(seconds):02}{point}{int(seconds * 1000) % 1000:03}"


def test_a_long_recording_is_cut_and_said_in_time(folder: Path, tmp_path: Path) -> None:
    talk = folder / "talk.flac"
    files = {"output": str(tmp_path / "new" / "said.wav"), "subtitles": str(tmp_path / "said.srt")}
    done, said, told = _translate(_job(folder), talk, stretch_seconds=3.0, **files)
    stretches, expected = _expected(folder, talk, 3.0)
    assert done == Recorded(len(stretches), {}) and len(stretches) >= 3
    assert (np.diff(stretches, axis=1) <= 3 * 16_000).all()
    assert stretches[0, 0] > 16_000  # silence at the beginning is no speech
    assert said == [one.text for one in expected]
    assert "stretches" in told[0] and "times real time" in told[1]
    samples, rate = soundfile.read(files["output"], dtype="float32")
    assert rate == 16_000
    at = 0
    for (start, _), one in zip(stretches.tolist(), expected, strict=True):
        assert one.waveform is not None
        begin = max(start, at)
        assert not samples[at:begin].any()
        np.testing.assert_allclose(samples[begin : begin + len(one.waveform)], one.waveform, atol=2**-15)
        at = begin + len(one.waveform)
    assert len(samples) == at
    blocks = Path(files["subtitles"]).read_text(encoding="utf-8").strip().split("\n\n")
    shown = [block.split("\n", 2) for block in blocks]
    assert [block[0] for block in shown] == [str(i + 1) for i in range(len(shown))]
    whole = [
        cue for (start, end), text in zip(stretches.tolist(), said, strict=True) for cue in cues_of(start, end, text)
    ]
    assert [block[1:] for block in shown] == [
        [f"{_stamp(begin, ',')} --> {_stamp(stop, ',')}", lines] for begin, stop, lines in whole
    ]


def test_what_is_said_moves_on_where_it_takes_longer(folder: Path, tmp_path: Path) -> None:
    """In one file so many units that no stretch is over when the next one begins."""
    options = SearchOptions(1, 1.0, 0, 200)
    _translate(
        _job(folder, unit_search=options), folder / "talk.flac", stretch_seconds=3.0, output=str(tmp_path / "a.wav")
    )
    translator = load_translator(folder / "model", text_search=SHORT, unit_search=options)
    stretches, _ = _expected(folder, folder / "talk.flac", 3.0)
    samples = decode(folder / "talk.flac").samples
    waveforms = [np.array(samples[start:end]) for start, end in stretches.tolist()]
    made = translator.translate_speech(waveforms, "fra", speak=True)
    lengths = [len(one.waveform) for one in made if one.waveform is not None]
    assert all(length > end - start for length, (start, end) in zip(lengths, stretches.tolist(), strict=True))
    assert soundfile.info(tmp_path / "a.wav").frames == stretches[0, 0] + sum(lengths)


def test_a_short_one_is_cut_for_subtitles_only(folder: Path, tmp_path: Path) -> None:
    job = _job(folder, max_seconds=50.0, speak=False)
    done, said, told = _translate(job, folder / "talk.flac")
    assert (done.stretches, len(said), told) == (1, 1, [])
    _, said, _ = _translate(job, folder / "talk.flac", stretch_seconds=3.0, subtitles=str(tmp_path / "a.vtt"))
    written = (tmp_path / "a.vtt").read_text()
    assert len(said) >= 3 and written.startswith("WEBVTT\n\n1\n00:00:0") and "," not in written.split("\n")[3]


def test_nothing_is_written_where_there_is_no_speech(folder: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "hum.wav", 0.01 * np.sin(np.arange(6 * 16_000) / 20), 16_000)
    with pytest.raises(InputError, match="no speech is found in it"):
        _translate(_job(folder), tmp_path / "hum.wav", subtitles=str(tmp_path / "a.srt"))
    assert [path.name for path in tmp_path.iterdir()] == ["hum.wav"]


def test_no_file_is_left_where_the_model_says_nothing(folder: Path, tmp_path: Path) -> None:
    nothing = SearchOptions(1, per_source=0, constant=1)  # `</s>` at once
    files = {"output": str(tmp_path / "said.wav"), "subtitles": str(tmp_path / "said.srt")}
    with pytest.raises(InputError, match="the model makes no speech of its text"):
        _translate(_job(folder, unit_search=nothing), folder / "talk.flac", **files)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.speech
def test_peoples_speech_is_cut_at_pauses(folder: Path, tmp_path: Path) -> None:
    """Prompts that were read out one by one, joined with pauses: no cut is within a prompt that is short enough."""
    from seamlessalign.pipelines.demo_sources import fetch_prompts

    try:
        prompts = fetch_prompts(Path(os.environ.get("SEAMLESSALIGN_DEMO_CACHE", tmp_path))).prompts
    except SeamlessAlignError as error:
        pytest.skip(f"the prompts cannot be fetched: {error}")
    spoken = [decode(prompts["fra"][key].audio).samples for key in sorted(prompts["fra"])[:40]]
    spoken = [one for one in spoken if 16_000 < len(one) < 8 * 16_000]
    pause, parts, bounds, at = np.zeros(20_000, np.float32), [], [], 0
    for one in spoken:
        parts += [one, pause]
        bounds.append((at, at + len(one)))
        at += len(one) + len(pause)
    soundfile.write(tmp_path / "talk.flac", np.concatenate(parts), 16_000)
    stretches = stretches_of(decode(tmp_path / "talk.flac").samples, 20.0)
    assert (stretches[:, 1] - stretches[:, 0] <= 20 * 16_000).all() and len(stretches) < len(spoken)
    cuts = (stretches[1:, 0] + stretches[:-1, 1]) // 2
    assert not [cut for cut in cuts.tolist() if any(start + 4_000 < cut < end - 4_000 for start, end in bounds)]
    covered = sum(max(0, min(end, e) - max(start, s)) for start, end in bounds for s, e in stretches.tolist())
    assert covered > 0.8 * sum(end - start for start, end in bounds)
    done, said, _ = _translate(
        _job(folder, max_seconds=20.0), tmp_path / "talk.flac", output=str(tmp_path / "said.wav")
    )
    assert done.stretches == len(said) == len(stretches)
