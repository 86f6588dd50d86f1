"""Containers: files that are none, that break off, or that do not say how long they are."""

import random
import struct
from pathlib import Path

import numpy as np
import pytest

from seamlessalign import audio
from tests.ground.sounds import noise, reason_of, write_sound

RATE = 16_000


@pytest.mark.parametrize("name", ["page.wav", "page.mp3", "page.flac", "page.ogg"])
@pytest.mark.parametrize(
    "data",
    [b"<html><body>404 Not Found</body></html>\n" * 50, random.Random(1).randbytes(5000), bytes(5000), b"x"],
    ids=["text", "random", "zeros", "one byte"],
)
def test_not_audio(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert reason_of(tmp_path / name) == "not_audio"


def test_absurd_sample_rate_is_not_audio(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "one-hertz.wav", noise(100), 1, "WAV")
    assert reason_of(path) == "not_audio"


@pytest.mark.parametrize("kind", ["WAV/PCM_16", "RF64/PCM_16", "FLAC/PCM_16", "OGG/VORBIS", "OGG/OPUS"])
@pytest.mark.parametrize("share", [0.999, 0.6, 0.02])
def test_truncated(tmp_path: Path, kind: str, share: float) -> None:
    rate = 48_000
    path = write_sound(tmp_path / "cut.off", noise(rate * 4, 2), rate, kind)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert reason_of(path) == "truncated"


@pytest.mark.parametrize("length", [13, 30, 43])
def test_wav_header_that_breaks_off(tmp_path: Path, length: int) -> None:
    path = write_sound(tmp_path / "header.wav", noise(100), RATE, "WAV")
    path.write_bytes(path.read_bytes()[:length])
    assert reason_of(path) == "truncated"


def test_truncated_mp3_with_a_frame_count(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "cut.mp3", noise(44_100 * 5), 44_100, "MP3")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert reason_of(path) == "truncated"


@pytest.mark.parametrize("kind", ["FLAC/PCM_16", "OGG/VORBIS", "OGG/OPUS"])
def test_damaged_in_the_middle(tmp_path: Path, kind: str) -> None:
    path = write_sound(tmp_path / "damaged", noise(48_000 * 6, 2), 48_000, kind)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 10] = random.Random(0).randbytes(len(data) // 10)
    path.write_bytes(data)
    assert reason_of(path) == "truncated"


@pytest.mark.parametrize("kind", ["WAV", "FLAC/PCM_16", "OGG/VORBIS", "OGG/OPUS", "MP3"])
def test_trailing_bytes_do_no_harm(tmp_path: Path, kind: str) -> None:
    path = write_sound(tmp_path / "tagged", noise(RATE * 2), RATE, kind)
    expected = audio.decode(path).samples
    path.write_bytes(path.read_bytes() + b"TAG" + bytes(125))
    np.testing.assert_array_equal(audio.decode(path).samples, expected)


def _with_data_size(path: Path, size: int) -> None:
    data = bytearray(path.read_bytes())
    at = data.index(b"data")
    struct.pack_into("<I", data, at + 4, size)
    path.write_bytes(data)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_streamed_wav_is_whole(tmp_path: Path, size: int, rate: int) -> None:
    path = write_sound(tmp_path / "streamed.wav", noise(rate * 2, 2), rate, "WAV")
    expected = audio.decode(path).samples
    _with_data_size(path, size)
    np.testing.assert_array_equal(audio.decode(path).samples, expected)
    np.testing.assert_array_equal(audio.cut(path, [(100, 2000)])[0], expected[100:2000])


def test_wav_that_promises_one_frame_too_many(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "greedy.wav", noise(1000), RATE, "WAV")
    _with_data_size(path, 2002)
    assert reason_of(path) == "truncated"
    _with_data_size(path, 1998)
    assert len(audio.decode(path).samples) == 999


def test_flac_of_unknown_length(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "piped.flac", noise(RATE * 2), RATE, "FLAC")
    expected = audio.decode(path).samples
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # the 36 bits of the sample count
    data[22:26] = bytes(4)
    path.write_bytes(data)
    np.testing.assert_array_equal(audio.decode(path).samples, expected)


def test_flac_with_fewer_samples_than_it_says(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "short.flac", noise(RATE), RATE, "FLAC")
    data = bytearray(path.read_bytes())
    struct.pack_into(">I", data, 22, RATE + 1)
    path.write_bytes(data)
    assert reason_of(path) == "truncated"
