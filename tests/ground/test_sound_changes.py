"""What is done to speech, against scipy and by its energy."""

from typing import get_args

import numpy as np
import pytest

from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.sound_changes import Codec, coded, coloured, convolved, room_response

signal = pytest.importorskip("scipy.signal", reason="needs scipy of the extra 'dev'")


def test_a_room_falls_by_sixty_decibels_in_its_time() -> None:
    for seconds in (0.2, 0.6):
        response = room_response(seconds, 3.0, np.random.default_rng(0))
        assert len(response) == int(seconds * SAMPLE_RATE) and response[0] == 1
        tail = response[1:].astype(np.float64)
        assert 10 * np.log10(1 / np.sum(tail**2)) == pytest.approx(3.0, abs=0.01)
        blocks = [float(np.mean(part**2)) for part in np.array_split(tail[int(0.01 * SAMPLE_RATE) :], 8)]
        falls = np.polyfit(np.arange(8), 10 * np.log10(blocks), 1)[0]
        assert falls == pytest.approx(-60 / 8, rel=0.15)


def test_a_convolution_is_scipys_at_the_level_there_was() -> None:
    rng = np.random.default_rng(1)
    sound, response = rng.standard_normal(5000).astype(np.float32), room_response(0.1, 0.0, rng)
    made = convolved(sound, response)
    wanted = signal.convolve(sound.astype(np.float64), response.astype(np.float64))[:5000]
    wanted *= np.sqrt(np.mean(sound.astype(np.float64) ** 2) / np.mean(wanted**2))
    assert made.dtype == np.float32 and float(np.abs(made - wanted).max()) < 1e-4
    np.testing.assert_array_equal(convolved(np.zeros(10, np.float32), response), np.zeros(10, np.float32))


def test_gains_are_those_of_their_octaves() -> None:
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    gains = np.array([0.0, -3, 6, -12, 3, -6, 0, -9])  # at 62.5 Hz, 125 Hz, … 8 kHz
    for octave, gain in enumerate(gains[:-1]):
        tone = np.sin(2 * np.pi * 62.5 * 2**octave * time).astype(np.float32)
        made = coloured(tone, gains)
        assert len(made) == len(tone)
        assert 10 * np.log10(np.mean(made**2) / np.mean(tone**2)) == pytest.approx(gain, abs=0.05)


@pytest.mark.parametrize("codec", get_args(Codec))
def test_a_codec_leaves_speech_where_it_was(codec: Codec) -> None:
    """As long, at the same place, alike below 4 kHz; of telephones nothing is left above."""
    rng = np.random.default_rng(0)
    length = 15_987
    time = np.arange(length) / SAMPLE_RATE
    low = 0.2 * np.sin(2 * np.pi * (300 * time + 400 * time**2))
    sent = np.asarray(low + 0.05 * rng.standard_normal(length), np.float32)
    heard = coded(sent, codec)
    assert len(heard) == length and heard.dtype == np.float32 and not np.array_equal(heard, sent)
    np.testing.assert_array_equal(heard, coded(sent, codec))
    spectra = [np.fft.rfft(one) for one in (sent, heard)]
    hertz = np.fft.rfftfreq(length, 1 / SAMPLE_RATE)
    below, above = hertz < 3400, hertz > 4200
    ours, theirs = (spectrum[below] for spectrum in spectra)
    assert np.vdot(ours, theirs).real > 0.9 * np.linalg.norm(ours) * np.linalg.norm(theirs)
    left = float((np.abs(spectra[1][above]) ** 2).sum() / (np.abs(spectra[0][above]) ** 2).sum())
    assert left < 0.01 if codec in ("phone", "gsm") else left < 2
