"""Audio: every format against whole-file libraries, cutting, encoding, and files that cannot be opened."""

import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any, Literal

import G722
import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from seamlessalign import audio
from seamlessalign.audio import Decoding
from seamlessalign.errors import InputError, UnreadableError
from tests.ground.sounds import noise, reason_of, write_sound

RATE = 16_000

KINDS = [
    ("WAV/PCM_16", 16_000, 1),
    ("WAV/PCM_16", 8_000, 2),
    ("WAV/PCM_24", 44_100, 2),
    ("WAV/FLOAT", 22_050, 1),
    ("WAV/ULAW", 8_000, 1),
    ("RF64/PCM_16", 16_000, 2),
    ("FLAC/PCM_16", 44_100, 2),
    ("FLAC/PCM_24", 48_000, 6),
    ("OGG/VORBIS", 44_100, 2),
    ("OGG/OPUS", 48_000, 2),
    ("OGG/OPUS", 16_000, 1),
    ("MP3/MPEG_LAYER_III", 44_100, 2),
    ("MP3/MPEG_LAYER_III", 16_000, 1),
]


@pytest.mark.parametrize(("kind", "rate", "channels"), KINDS)
def test_decode_equals_whole_file_libraries(tmp_path: Path, kind: str, rate: int, channels: int) -> None:
    path = write_sound(tmp_path / "recording.bin", noise(rate * 5 + 77, channels), rate, kind)
    whole = soundfile.read(path, dtype="float32", always_2d=True)[0].mean(axis=1)
    expected = soxr.resample(whole, rate, RATE, quality="HQ") if rate != RATE else whole
    decoded = audio.decode(path)
    assert (decoded.original_sample_rate, decoded.channels) == (rate, channels)
    assert decoded.samples.dtype == np.float32
    # libmpg123 rounds differently after the seek that soundfile adds.
    np.testing.assert_allclose(decoded.samples, expected, rtol=0, atol=1e-6 if kind.startswith("MP3") else 0)
    for block_seconds in (0.013, 0.5, 100.0):
        np.testing.assert_array_equal(np.concatenate(list(audio.stream(path, block_seconds))), decoded.samples)


@pytest.mark.parametrize("suffix", [".g722", ".G722"])
def test_g722_equals_the_codec_at_once(tmp_path: Path, suffix: str) -> None:
    pcm = (noise(RATE * 3)[:, 0] * 20_000).astype(np.int16)
    data = G722.G722(RATE, 64_000).encode(pcm)
    path = tmp_path / f"prompt{suffix}"
    path.write_bytes(data)
    expected = np.asarray(G722.G722(RATE, 64_000).decode(data), np.int16).astype(np.float32) / 32768
    decoded = audio.decode(path)
    assert (decoded.original_sample_rate, decoded.channels) == (RATE, 1)
    np.testing.assert_array_equal(decoded.samples, expected)
    np.testing.assert_array_equal(np.concatenate(list(audio.stream(path, 0.0301))), expected)
    correlation = np.corrcoef(expected[22:], pcm[: len(expected) - 22])[0, 1]  # the codec delays by 22 samples
    assert correlation > 0.99


def test_stream_wants_a_positive_block(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", noise(100), RATE, "WAV")
    for block_seconds in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError):
            next(audio.stream(path, block_seconds))


@pytest.mark.parametrize(
    "name", ["with space.wav", 'it\'s "quoted".wav', "two\nlines.wav", "ünïcödé.wav", "nosuffix", "x.raw"]
)
def test_awkward_file_names(tmp_path: Path, name: str) -> None:
    path = write_sound(tmp_path / name, noise(1000), RATE, "WAV/FLOAT")
    np.testing.assert_array_equal(audio.decode(path).samples, noise(1000)[:, 0])
    path.write_bytes(b"")
    assert reason_of(path) == "empty"


def test_file_name_that_is_not_unicode(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    path.write_bytes(write_sound(tmp_path / "a.wav", noise(1000), RATE, "WAV").read_bytes())
    assert len(audio.decode(path).samples) == 1000


@pytest.mark.parametrize("kind", ["WAV/PCM_16", "FLAC/PCM_16"])
def test_one_channel_of_many(tmp_path: Path, kind: str) -> None:
    path = write_sound(tmp_path / "a", noise(8000 * 3, 3), 8000, kind)
    whole = soundfile.read(path, dtype="float32")[0]
    assert audio.num_channels(path) == 3
    for channel in range(3):
        expected = soxr.resample(whole[:, channel], 8000, RATE, quality="HQ")
        decoded = audio.decode(path, Decoding(channel=channel))
        assert decoded.channels == 3
        np.testing.assert_array_equal(decoded.samples, expected)
        (piece,) = audio.cut(path, [(100, 20_000)], Decoding(channel=channel))
        np.testing.assert_array_equal(piece, expected[100:20_000])
    with pytest.raises(UnreadableError, match="has 3 channels and no channel 3") as caught:
        audio.decode(path, Decoding(channel=3))
    assert caught.value.reason == "no_channel"


# --- cut


@pytest.fixture(scope="module", params=[("WAV/PCM_16", 8_000), ("FLAC/PCM_16", 16_000), ("OGG/VORBIS", 22_050)])
def three_blocks(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, NDArray[np.float32]]:
    """A recording that streams in three blocks, and its samples."""
    kind, rate = request.param
    path = write_sound(tmp_path_factory.mktemp("cut") / "recording", noise(rate * 125), rate, kind)
    return path, audio.decode(path).samples


@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_cut_equals_slicing(three_blocks: tuple[Path, NDArray[np.float32]], data: st.DataObject) -> None:
    path, samples = three_blocks
    point = st.one_of(st.integers(0, len(samples)), st.sampled_from([60 * RATE, 120 * RATE, len(samples)]))
    spans = [tuple(sorted(span)) for span in data.draw(st.lists(st.tuples(point, point), max_size=6))]
    pieces = audio.cut(path, [(span[0], span[1]) for span in spans])
    assert len(pieces) == len(spans)
    for piece, (start, end) in zip(pieces, spans, strict=True):
        assert piece.dtype == np.float32
        np.testing.assert_array_equal(piece, samples[start:end])


@given(data=st.data())
@settings(max_examples=6, deadline=None)
def test_so_do_spans_of_a_whole_recording(three_blocks: tuple[Path, NDArray[np.float32]], data: st.DataObject) -> None:
    """Each is handed out once, but for those that end behind the recording."""
    path, samples = three_blocks
    point = st.one_of(st.integers(0, len(samples) + 100), st.sampled_from([60 * RATE, 120 * RATE, len(samples)]))
    spans = [tuple(sorted(span)) for span in data.draw(st.lists(st.tuples(point, point), max_size=6))]
    taken: list[tuple[int, NDArray[np.float32]]] = []
    told = audio.cut_whole(path, [(span[0], span[1]) for span in spans], lambda *one: taken.append(one))
    assert told.num_samples == len(samples)
    inside = [number for number, (_, end) in enumerate(spans) if end <= len(samples)]
    assert sorted(number for number, _ in taken) == inside
    for number, piece in taken:
        np.testing.assert_array_equal(piece, samples[spans[number][0] : spans[number][1]])


def test_cut_takes_an_array_and_gives_pieces_of_their_own(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", noise(RATE), RATE, "WAV/FLOAT")
    pieces = audio.cut(path, np.array([[10, 20], [15, 30]]))
    pieces[0][:] = 0
    np.testing.assert_array_equal(pieces[1], noise(RATE)[15:30, 0])


@pytest.mark.parametrize("span", [(-1, 5), (7, 5), (0, RATE + 1), (RATE + 1, RATE + 2), (RATE * 1000, 10**15)])
def test_cut_outside_is_an_error(tmp_path: Path, span: tuple[int, int]) -> None:
    path = write_sound(tmp_path / "a.wav", noise(RATE), RATE, "WAV")
    with pytest.raises(InputError, match=r"a\.wav"):
        audio.cut(path, [(0, 5), span])


def test_cut_stops_after_the_last_span(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_sound(tmp_path / "a.wav", noise(RATE), RATE, "WAV")

    def blocks(*_: Any) -> Any:
        yield np.zeros(100, np.float32)
        raise AssertionError("read on after the last span")

    monkeypatch.setattr(audio, "_blocks", blocks)
    assert [len(piece) for piece in audio.cut(path, [(90, 100), (5, 20)])] == [10, 15]
    with pytest.raises(AssertionError, match="read on"):
        audio.cut_whole(path, [(90, 100)], lambda *_: None)


# --- what cannot be opened, or holds nothing


def test_missing_and_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reason_of(tmp_path / "nothing.wav") == "missing"
    path = write_sound(tmp_path / "file.wav", noise(100), RATE, "WAV")
    assert reason_of(path / "below.wav") == "missing"
    (tmp_path / "folder.wav").mkdir()
    assert reason_of(tmp_path / "folder.wav") == "unreadable"
    os.mkfifo(tmp_path / "pipe.wav")
    assert reason_of(tmp_path / "pipe.wav") == "unreadable"

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert reason_of(path) == "unreadable"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permission_denied(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "secret.wav", noise(100), RATE, "WAV")
    path.chmod(0)
    assert reason_of(path) == "unreadable"


@pytest.mark.parametrize("name", ["empty.wav", "empty.flac", "empty.ogg", "empty.mp3", "empty.g722"])
def test_empty(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    assert reason_of(tmp_path / name) == "empty"


def test_no_samples(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "silent.wav", np.zeros((0, 1), np.float32), RATE, "WAV")
    assert reason_of(path) == "no_samples"
    path.write_bytes(path.read_bytes() + b"LIST" + struct.pack("<I", 4) + b"INFO")
    assert reason_of(path) == "no_samples"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [16_000, 8_000])
def test_bad_samples(tmp_path: Path, value: float, rate: int) -> None:
    samples = noise(rate, 2)
    samples[rate // 2, 1] = value
    path = write_sound(tmp_path / "holes.wav", samples, rate, "WAV/FLOAT")
    assert reason_of(path) == "bad_samples"


def test_error_survives_a_process_boundary(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError) as caught:
        audio.decode(tmp_path / "nothing.wav")
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  our own bytes
    assert (copy.reason, str(copy)) == ("missing", str(caught.value))


# --- encode


def test_flac_round_trip_is_exact_for_16_bits() -> None:
    pcm = np.concatenate([np.random.default_rng(0).integers(-32768, 32768, 5000), [-32768, 32767, 0]])
    samples = (pcm / 32768).astype(np.float32)
    decoded, rate = soundfile.read(io.BytesIO(audio.encode(samples, "flac")), dtype="float32")
    assert rate == RATE
    np.testing.assert_array_equal(decoded, samples)


def test_flac_clips_instead_of_wrapping() -> None:
    samples = np.array([1.0, 1.5, 100.0, -1.0, -1.5, -100.0, 0.25], np.float32)
    decoded, _ = soundfile.read(io.BytesIO(audio.encode(samples, "flac")), dtype="int16")
    np.testing.assert_array_equal(decoded, [32767, 32767, 32767, -32768, -32768, -32768, 8192])


def test_opus_round_trip(tmp_path: Path) -> None:
    samples = noise(RATE * 3)[:, 0]
    path = tmp_path / "clip.opus"
    path.write_bytes(audio.encode(samples, "opus"))
    decoded = audio.decode(path)
    assert decoded.original_sample_rate == RATE
    assert len(decoded.samples) == len(samples)
    assert np.corrcoef(decoded.samples, samples)[0, 1] > 0.95
    assert path.stat().st_size < len(samples) * 2 / 3


@pytest.mark.parametrize("form", ["flac", "opus"])
@pytest.mark.parametrize("num_samples", [1, 319, RATE * 5])
def test_encoding_twice_gives_equal_bytes(form: Literal["flac", "opus"], num_samples: int) -> None:
    samples = noise(num_samples)[:, 0]
    encoded = audio.encode(samples, form)
    assert encoded == audio.encode(samples.astype(np.float64), form)
    assert len(soundfile.read(io.BytesIO(encoded))[0]) == num_samples


def test_encode_refuses() -> None:
    good = np.zeros(10, np.float32)
    for bad in (good[:0], good.reshape(2, 5), good.astype(np.int16), np.array([0.0, np.nan]), np.array([np.inf])):
        for form in ("flac", "opus"):
            with pytest.raises(InputError):
                audio.encode(bad, form)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="mp3"):
        audio.encode(good, "mp3")  # type: ignore[arg-type]
