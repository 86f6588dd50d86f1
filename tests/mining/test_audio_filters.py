"""Identical audio: copies are found whatever they went through, other words and other voices are not."""

import io
import itertools
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import soxr
from G722 import G722
from numpy.typing import NDArray
from scipy.signal import lfilter

from seamlessalign.audio import decode, encode
from seamlessalign.errors import SeamlessAlignError
from seamlessalign.mining.audio_filters import MAX_DISTANCE_DB, distance_db, filterbanks, identical_audio

RATE = 16_000
Samples = NDArray[np.float32]


def voice(words: list[int], tract: float = 1.0) -> Samples:
    """A word for each number, 0.3 s each, pauses after every third; `tract` scales the formants, as a throat does."""
    parts = []
    for number, word in enumerate(words):
        for vowel in np.random.default_rng(word).uniform((250, 900, 2200), (800, 2100, 3200), (3, 3)):  # formants, Hz
            sound = np.diff(np.floor(np.arange(RATE // 10) * 120 / RATE), prepend=0.0)
            for formant in vowel * tract:
                radius = np.exp(-np.pi * 80 / RATE)
                sound = lfilter([1], [1, -2 * radius * np.cos(2 * np.pi * formant / RATE), radius**2], sound)
            parts.append(sound / np.abs(sound).max() * np.hanning(len(sound)) ** 0.5)
        if number % 3 == 2:
            parts.append(np.zeros(RATE // 5))
    sound = 0.3 * np.concatenate(parts)
    return np.asarray(sound + 1e-4 * np.random.default_rng(0).standard_normal(len(sound)), np.float32)


def through(samples: Samples, format: str, subtype: str, rate: int = RATE) -> Samples:
    """Written to a file of another format and rate, and read back."""
    file = io.BytesIO()
    soundfile.write(file, soxr.resample(samples, RATE, rate), rate, format=format, subtype=subtype)
    file.seek(0)
    read, _ = soundfile.read(file, dtype="float32")
    return np.asarray(soxr.resample(read, rate, RATE), np.float32)


def through_g722(samples: Samples) -> Samples:
    coded = G722(RATE, 64_000).encode(np.asarray(np.clip(samples, -1, 1) * 32_767, np.int16))
    return np.asarray(G722(RATE, 64_000).decode(coded), np.float32) / np.float32(32_768)


def with_noise(samples: Samples) -> Samples:
    noise = np.random.default_rng(1).standard_normal(len(samples)) * np.sqrt(np.mean(samples**2)) / 10  # 20 dB
    return np.asarray(samples + noise, np.float32)


COPIES: dict[str, Callable[[Samples], Samples]] = {
    "the same": lambda samples: samples.copy(),
    "quieter": lambda samples: samples * np.float32(0.03),
    "Vorbis": lambda samples: through(samples, "OGG", "VORBIS"),
    "MP3 at 22 kHz": lambda samples: through(samples, "MP3", "MPEG_LAYER_III", 22_050),
    "Opus": lambda samples: through(samples, "OGG", "OPUS"),
    "G.722": through_g722,
    "telephone": lambda samples: through(samples, "WAV", "ULAW", 8_000),
    "GSM": lambda samples: through(samples, "WAV", "GSM610", 8_000),
    "noise": with_noise,
    "begins later": lambda samples: samples[1_233:],
    "ends earlier": lambda samples: samples[:-1_500],
    "begins later, quieter, telephone": lambda samples: through(samples[777:] * np.float32(0.2), "WAV", "ULAW", 8_000),
}
WORDS = [3, 1, 4, 1, 5, 9, 2, 6]


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_close(copy: str) -> None:
    sound = voice(WORDS)
    one, two = filterbanks(sound), filterbanks(COPIES[copy](sound))
    assert distance_db(one, two) < MAX_DISTANCE_DB - 1
    assert distance_db(two, one) == pytest.approx(distance_db(one, two), abs=1e-4)


@pytest.mark.parametrize(
    "other",
    [
        voice([2, 7, 1, 8, 2, 8, 1, 8]),
        voice([*WORDS[:4], 7, *WORDS[5:]]),  # one other word
        voice(WORDS[::-1]),
        voice(WORDS, tract=1.17),  # a shorter throat says the same words at the same time
        voice(WORDS, tract=0.85),
        voice([7] * 8),
    ],
    ids=["other words", "one other word", "other order", "shorter throat", "longer throat", "one word again"],
)
def test_other_audio_is_far(other: Samples) -> None:
    assert distance_db(filterbanks(voice(WORDS)), filterbanks(other)) > MAX_DISTANCE_DB


def test_silence_and_scraps_resemble_nothing() -> None:
    silence = filterbanks(np.zeros(RATE, np.float32))
    assert silence.shape == (98, 32) and not silence.any()
    assert distance_db(silence, silence) == np.inf
    scrap = filterbanks(voice(WORDS)[: RATE // 4])
    assert distance_db(scrap, scrap) == np.inf
    assert filterbanks(np.zeros(399, np.float32)).shape == (0, 32)


def test_filterbanks_against_sums() -> None:
    """Every cell by the definition of the Fourier sum and of a triangle in mel, in plain loops."""
    sound = voice([5])[:800]
    mel = [2595 * np.log10(1 + hertz / 700) for hertz in (100, 3600)]
    edges = [700 * (10 ** ((mel[0] + (mel[1] - mel[0]) * i / 33) / 2595) - 1) for i in range(34)]
    cells = np.zeros((3, 32))
    for frame in range(3):
        window = [0.5 - 0.5 * np.cos(2 * np.pi * n / 399) for n in range(400)]
        framed = np.array([sound[160 * frame + n] * window[n] for n in range(400)], np.float64)
        for bin in range(257):
            energy = abs(np.sum(framed * np.exp(-2j * np.pi * bin * np.arange(400) / 512))) ** 2
            hertz = bin * 31.25
            for band in range(32):
                low, middle, high = edges[band : band + 3]
                if low < hertz < high:
                    share = (hertz - low) / (middle - low) if hertz <= middle else (high - hertz) / (high - middle)
                    cells[frame, band] += share * energy
    decibels = 10 * np.log10(cells)
    wanted = np.maximum(decibels - np.percentile(decibels, 95), -35)
    np.testing.assert_allclose(filterbanks(sound), wanted, atol=2e-3)


def test_distance_against_loops() -> None:
    one, two = filterbanks(voice([1, 2, 3])), filterbanks(voice([1, 2, 4])[500:])
    best = (np.inf, np.inf)
    for shift in range(-12, 13):
        squares = [float(np.mean((one[i + shift] - two[i]) ** 2)) for i in range(len(two)) if 0 <= i + shift < len(one)]
        worst = max(sum(squares[i : i + 30]) / 30 for i in range(len(squares) - 29))
        best = min(best, (sum(squares) / len(squares), worst))
    assert distance_db(one, two) == pytest.approx(np.sqrt(best[1]), rel=1e-4)


class _Store:
    """Samples of both sides by row, as a run would read them; remembers what it was asked for."""

    def __init__(self, src: list[Samples | None], tgt: list[Samples | None]) -> None:
        self.sides: dict[str, list[Samples | None]] = {"src": src, "tgt": tgt}
        self.asked: list[tuple[str, list[int]]] = []

    def __call__(self, side: str, rows: NDArray[np.int64]) -> Iterator[tuple[int, Samples]]:
        self.asked.append((side, rows.tolist()))
        for row in reversed(rows.tolist()):
            samples = self.sides[side][row]
            if samples is not None:
                yield row, samples


def _spans(samples: list[Samples | None], missing: int) -> tuple[Any, Any]:
    lengths = [missing if one is None else len(one) for one in samples]
    return pa.array([100] * len(lengths)), pa.array([100 + length for length in lengths])


@pytest.mark.parametrize("batch", [1, 2, 1024])
def test_identical_audio(batch: int) -> None:
    sound, other = voice(WORDS), voice([2, 7, 1, 8, 2, 8, 1, 8])
    longer = np.concatenate([sound, np.zeros(1_600, np.float32)])
    src: list[Samples | None] = [sound, sound, sound, None, sound, sound, other, sound]
    tgt: list[Samples | None] = [with_noise(sound), other, longer, sound, None, sound, other, longer[:-1]]
    store = _Store(src, tgt)
    spans = (*_spans(src, len(sound)), *_spans(tgt, len(sound)))
    rows = np.array([0, 1, 2, 3, 4, 6, 7])
    found = identical_audio(*spans, rows, store, batch=batch)
    same = "identical_audio"
    assert found.to_pylist() == [same, None, None, None, None, None, same, same] and found.type == pa.string()
    asked = {side: [row for name, some in store.asked if name == side for row in some] for side in ("src", "tgt")}
    assert asked["src"] == [0, 1, 3, 4, 6, 7]  # row 2 differs by 0.1 s, and 5 was not to be looked at
    assert asked["tgt"] == [0, 1, 4, 6, 7]  # row 3 has no source
    assert max(len(some) for _, some in store.asked) <= batch


def test_rows_without_times_pass() -> None:
    start, end = pa.chunked_array([[0], [None]], pa.int64()), pa.chunked_array([[RATE], [None]], pa.int64())
    store = _Store([voice(WORDS)[:RATE], None], [voice(WORDS)[:RATE], None])
    found = identical_audio(start, end, start, end, np.array([0, 1]), store)
    assert found.to_pylist() == ["identical_audio", None] and store.asked == [("src", [0]), ("tgt", [0])]
    none = pa.array([], pa.int64())
    assert len(identical_audio(none, none, none, none, np.zeros(0, np.int64), store)) == 0


@pytest.mark.slow
@pytest.mark.speech
def test_the_threshold_on_human_speech(tmp_path: Path) -> None:
    """The measurement that the threshold was chosen by, on fewer clips."""
    from seamlessalign.pipelines.demo_data import fetch_prompts
    from seamlessalign.pipelines.demo_sources import open_cache

    try:
        prompts = fetch_prompts(open_cache(Path(os.environ.get("SEAMLESSALIGN_DEMO_CACHE", tmp_path)))).prompts
    except SeamlessAlignError as error:
        pytest.skip(f"the prompts cannot be fetched: {error}")
    clips = []
    for lang in sorted(prompts):
        some = [decode(prompts[lang][key].audio).samples for key in sorted(prompts[lang])[:100:2]]
        clips += [(lang, samples) for samples in some if RATE <= len(samples) <= 6 * RATE]
    assert len(clips) > 100
    chosen = random.Random(0).sample(clips, 10)
    far = [
        (name, lang)
        for lang, samples in chosen
        for name, copy in COPIES.items()
        if distance_db(filterbanks(samples), filterbanks(copy(samples))) > MAX_DISTANCE_DB
    ]
    assert not far
    opus = tmp_path / "clip.opus"
    opus.write_bytes(encode(chosen[0][1], "opus"))
    assert distance_db(filterbanks(chosen[0][1]), filterbanks(decode(opus).samples)) <= MAX_DISTANCE_DB
    banks = [(lang, filterbanks(samples)) for lang, samples in clips]
    pairs = [(a, b) for a, b in itertools.combinations(banks, 2) if abs(len(a[1]) - len(b[1])) < 10]
    assert len(pairs) > 100 and sum(a[0] == b[0] for a, b in pairs) > 20
    assert min(distance_db(a[1], b[1]) for a, b in pairs) > MAX_DISTANCE_DB
