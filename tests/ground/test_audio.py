"""Audio: every format against whole-file libraries, every way to be unreadable, and bounded memory."""

import io
import mmap
import os
import pickle
import random
import struct
import subprocess
import sys
import tempfile
import time
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
from seamlessalign.errors import InputError, StorageError, UnreadableError

RATE = 16_000


def _noise(num_samples: int, channels: int = 1, seed: int = 0) -> NDArray[np.float32]:
    """Coloured noise with a tone, different on every channel: (num_samples, channels)."""
    rng = np.random.default_rng(seed)
    tone = 0.3 * np.sin(np.arange(num_samples)[:, None] * (0.05 + 0.01 * np.arange(channels)))
    return (tone + 0.05 * rng.standard_normal((num_samples, channels))).astype(np.float32)


def _write(path: Path, samples: NDArray[Any], rate: int, kind: str) -> Path:
    container, _, subtype = kind.partition("/")
    with soundfile.SoundFile(path, "w", rate, samples.shape[1], format=container, subtype=subtype or None) as file:
        for start in range(0, len(samples), 10_000):  # libvorbis overflows the stack on one long write
            file.write(samples[start : start + 10_000])
    return path


def _reason(path: Path) -> str:
    with pytest.raises(UnreadableError) as caught:
        audio.decode(path)
    assert "\n" not in str(caught.value)
    assert repr(str(path)) in str(caught.value)
    return caught.value.reason


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
    path = _write(tmp_path / "recording.bin", _noise(rate * 5 + 77, channels), rate, kind)
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
    pcm = (_noise(RATE * 3)[:, 0] * 20_000).astype(np.int16)
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
    path = _write(tmp_path / "a.wav", _noise(100), RATE, "WAV")
    for block_seconds in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError):
            next(audio.stream(path, block_seconds))


@pytest.mark.parametrize(
    "name", ["with space.wav", 'it\'s "quoted".wav', "two\nlines.wav", "ünïcödé.wav", "nosuffix", "x.raw"]
)
def test_awkward_file_names(tmp_path: Path, name: str) -> None:
    path = _write(tmp_path / name, _noise(1000), RATE, "WAV/FLOAT")
    np.testing.assert_array_equal(audio.decode(path).samples, _noise(1000)[:, 0])
    path.write_bytes(b"")
    assert _reason(path) == "empty"


def test_file_name_that_is_not_unicode(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    path.write_bytes(_write(tmp_path / "a.wav", _noise(1000), RATE, "WAV").read_bytes())
    assert len(audio.decode(path).samples) == 1000


@pytest.mark.parametrize("kind", ["WAV/PCM_16", "FLAC/PCM_16"])
def test_one_channel_of_many(tmp_path: Path, kind: str) -> None:
    path = _write(tmp_path / "a", _noise(8000 * 3, 3), 8000, kind)
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


# --- limits


def test_a_small_file_of_many_hours_is_told_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.flac"
    with soundfile.SoundFile(path, "w", 16_000, 1, format="FLAC", subtype="PCM_16") as file:
        for _ in range(40):
            file.write(np.zeros(RATE * 360, np.int16))
    assert path.stat().st_size < 1 << 20
    begun = time.monotonic()
    with pytest.raises(UnreadableError, match=r"has 4\.00 h or more, and 3 h are allowed") as caught:
        audio.decode(path, Decoding(max_seconds=3 * 3600))
    assert caught.value.reason == "too_long"
    assert time.monotonic() - begun < 0.5


def test_a_recording_that_does_not_say_how_long_it_is_is_told_on_the_way(tmp_path: Path) -> None:
    path = tmp_path / "a.g722"
    path.write_bytes(bytes(8000 * 200))
    assert len(audio.decode(path, Decoding(max_seconds=200)).samples) == RATE * 200
    with pytest.raises(UnreadableError, match="too_long"):
        audio.decode(path, Decoding(max_seconds=199))


def test_a_decoder_that_takes_too_long_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "a.wav", _noise(RATE * 3), RATE, "WAV")
    whole = soundfile.SoundFile.read

    def slow(*arguments: Any, **named: Any) -> Any:
        time.sleep(0.3)
        return whole(*arguments, **named)

    monkeypatch.setattr(soundfile.SoundFile, "read", slow)
    with pytest.raises(UnreadableError, match=r"was not decoded within 0\.2 s") as caught:
        audio.decode(path, Decoding(timeout_seconds=0.2))
    assert caught.value.reason == "timeout"


def test_a_header_that_claims_many_channels_takes_no_memory_for_them(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.wav", _noise(RATE * 16, 1), RATE, "WAV")
    data = bytearray(path.read_bytes())
    struct.pack_into("<HI", data, 22, 1024, 768_000)
    struct.pack_into("<H", data, 32, 2048)
    path.write_bytes(data)
    program = (
        "import resource, sys, pathlib; from seamlessalign import audio;"
        "resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30));"
        "print(len(audio.decode(pathlib.Path(sys.argv[1])).samples))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 250 * RATE // 768_000


# --- cut


@pytest.fixture(scope="module", params=[("WAV/PCM_16", 8_000), ("FLAC/PCM_16", 16_000), ("OGG/VORBIS", 22_050)])
def three_blocks(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, NDArray[np.float32]]:
    """A recording that streams in three blocks, and its samples."""
    kind, rate = request.param
    path = _write(tmp_path_factory.mktemp("cut") / "recording", _noise(rate * 125), rate, kind)
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


def test_cut_takes_an_array_and_gives_pieces_of_their_own(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.wav", _noise(RATE), RATE, "WAV/FLOAT")
    pieces = audio.cut(path, np.array([[10, 20], [15, 30]]))
    pieces[0][:] = 0
    np.testing.assert_array_equal(pieces[1], _noise(RATE)[15:30, 0])


@pytest.mark.parametrize("span", [(-1, 5), (7, 5), (0, RATE + 1), (RATE + 1, RATE + 2), (RATE * 1000, 10**15)])
def test_cut_outside_is_an_error(tmp_path: Path, span: tuple[int, int]) -> None:
    path = _write(tmp_path / "a.wav", _noise(RATE), RATE, "WAV")
    with pytest.raises(InputError, match=r"a\.wav"):
        audio.cut(path, [(0, 5), span])


def test_cut_stops_after_the_last_span(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "a.wav", _noise(RATE), RATE, "WAV")

    def blocks(_: Path, decoding: Decoding) -> Any:
        yield np.zeros(100, np.float32)
        raise AssertionError("read on after the last span")

    monkeypatch.setattr(audio, "stream", blocks)
    assert [len(piece) for piece in audio.cut(path, [(90, 100), (5, 20)])] == [10, 15]


# --- what cannot be read


def test_missing_and_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _reason(tmp_path / "nothing.wav") == "missing"
    path = _write(tmp_path / "file.wav", _noise(100), RATE, "WAV")
    assert _reason(path / "below.wav") == "missing"
    (tmp_path / "folder.wav").mkdir()
    assert _reason(tmp_path / "folder.wav") == "unreadable"
    os.mkfifo(tmp_path / "pipe.wav")
    assert _reason(tmp_path / "pipe.wav") == "unreadable"

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert _reason(path) == "unreadable"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permission_denied(tmp_path: Path) -> None:
    path = _write(tmp_path / "secret.wav", _noise(100), RATE, "WAV")
    path.chmod(0)
    assert _reason(path) == "unreadable"


@pytest.mark.parametrize("name", ["empty.wav", "empty.flac", "empty.ogg", "empty.mp3", "empty.g722"])
def test_empty(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    assert _reason(tmp_path / name) == "empty"


@pytest.mark.parametrize("name", ["page.wav", "page.mp3", "page.flac", "page.ogg"])
@pytest.mark.parametrize(
    "data",
    [b"<html><body>404 Not Found</body></html>\n" * 50, random.Random(1).randbytes(5000), bytes(5000), b"x"],
    ids=["text", "random", "zeros", "one byte"],
)
def test_not_audio(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert _reason(tmp_path / name) == "not_audio"


def test_absurd_sample_rate_is_not_audio(tmp_path: Path) -> None:
    path = _write(tmp_path / "one-hertz.wav", _noise(100), 1, "WAV")
    assert _reason(path) == "not_audio"


@pytest.mark.parametrize("kind", ["WAV/PCM_16", "RF64/PCM_16", "FLAC/PCM_16", "OGG/VORBIS", "OGG/OPUS"])
@pytest.mark.parametrize("share", [0.999, 0.6, 0.02])
def test_truncated(tmp_path: Path, kind: str, share: float) -> None:
    rate = 48_000
    path = _write(tmp_path / "cut.off", _noise(rate * 4, 2), rate, kind)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert _reason(path) == "truncated"


@pytest.mark.parametrize("length", [13, 30, 43])
def test_wav_header_that_breaks_off(tmp_path: Path, length: int) -> None:
    path = _write(tmp_path / "header.wav", _noise(100), RATE, "WAV")
    path.write_bytes(path.read_bytes()[:length])
    assert _reason(path) == "truncated"


def test_truncated_mp3_with_a_frame_count(tmp_path: Path) -> None:
    path = _write(tmp_path / "cut.mp3", _noise(44_100 * 5), 44_100, "MP3")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert _reason(path) == "truncated"


@pytest.mark.parametrize("kind", ["FLAC/PCM_16", "OGG/VORBIS", "OGG/OPUS"])
def test_damaged_in_the_middle(tmp_path: Path, kind: str) -> None:
    path = _write(tmp_path / "damaged", _noise(48_000 * 6, 2), 48_000, kind)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 10] = random.Random(0).randbytes(len(data) // 10)
    path.write_bytes(data)
    assert _reason(path) == "truncated"


@pytest.mark.parametrize("kind", ["WAV", "FLAC/PCM_16", "OGG/VORBIS", "OGG/OPUS", "MP3"])
def test_trailing_bytes_do_no_harm(tmp_path: Path, kind: str) -> None:
    path = _write(tmp_path / "tagged", _noise(RATE * 2), RATE, kind)
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
    path = _write(tmp_path / "streamed.wav", _noise(rate * 2, 2), rate, "WAV")
    expected = audio.decode(path).samples
    _with_data_size(path, size)
    np.testing.assert_array_equal(audio.decode(path).samples, expected)
    np.testing.assert_array_equal(audio.cut(path, [(100, 2000)])[0], expected[100:2000])


def test_wav_that_promises_one_frame_too_many(tmp_path: Path) -> None:
    path = _write(tmp_path / "greedy.wav", _noise(1000), RATE, "WAV")
    _with_data_size(path, 2002)
    assert _reason(path) == "truncated"
    _with_data_size(path, 1998)
    assert len(audio.decode(path).samples) == 999


def test_flac_of_unknown_length(tmp_path: Path) -> None:
    path = _write(tmp_path / "piped.flac", _noise(RATE * 2), RATE, "FLAC")
    expected = audio.decode(path).samples
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # the 36 bits of the sample count
    data[22:26] = bytes(4)
    path.write_bytes(data)
    np.testing.assert_array_equal(audio.decode(path).samples, expected)


def test_flac_with_fewer_samples_than_it_says(tmp_path: Path) -> None:
    path = _write(tmp_path / "short.flac", _noise(RATE), RATE, "FLAC")
    data = bytearray(path.read_bytes())
    struct.pack_into(">I", data, 22, RATE + 1)
    path.write_bytes(data)
    assert _reason(path) == "truncated"


def test_no_samples(tmp_path: Path) -> None:
    path = _write(tmp_path / "silent.wav", np.zeros((0, 1), np.float32), RATE, "WAV")
    assert _reason(path) == "no_samples"
    path.write_bytes(path.read_bytes() + b"LIST" + struct.pack("<I", 4) + b"INFO")
    assert _reason(path) == "no_samples"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [16_000, 8_000])
def test_bad_samples(tmp_path: Path, value: float, rate: int) -> None:
    samples = _noise(rate, 2)
    samples[rate // 2, 1] = value
    path = _write(tmp_path / "holes.wav", samples, rate, "WAV/FLOAT")
    assert _reason(path) == "bad_samples"


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
    samples = _noise(RATE * 3)[:, 0]
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
    samples = _noise(num_samples)[:, 0]
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


# --- long recordings


def test_spooled_equals_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "long.flac", _noise(8_000 * 150, 2), 8_000, "FLAC")
    held = audio.decode(path).samples
    assert not isinstance(held, np.memmap)
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spool))
    spooled = audio.decode(path, spool_seconds=100).samples
    assert isinstance(spooled, np.memmap)
    assert not spooled.flags.writeable
    assert not list(spool.iterdir())
    np.testing.assert_array_equal(spooled, held)
    for view in (spooled, spooled[5:], np.asarray(spooled)[::2]):
        audio.release(view)
        np.testing.assert_array_equal(spooled, held)


def test_release_leaves_other_arrays_alone() -> None:
    ordinary = np.ones(100_000, np.float32)
    audio.release(ordinary)
    assert ordinary.sum() == 100_000
    with mmap.mmap(-1, 1 << 20) as private:
        mapped = np.frombuffer(private, np.uint8)
        mapped[:] = 7
        audio.release(mapped)
        assert (mapped == 7).all()
        del mapped


def test_release_keeps_what_was_written_to_a_private_map(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(1 << 16))
    mapped = np.memmap(tmp_path / "file", np.uint8, mode="c")
    mapped[:] = 7
    audio.release(mapped)
    assert (mapped == 7).all()


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "long.wav", _noise(RATE * 3), RATE, "WAV")
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: io.FileIO("/dev/full", "r+"))
    with pytest.raises(StorageError, match=r"No space left.*TMPDIR"):
        audio.decode(path, spool_seconds=1)
    assert len(audio.decode(path).samples) == RATE * 3


_MEASURE = """
import sys
from pathlib import Path
import numpy as np
from seamlessalign import audio

def peak():  # VmHWM: ru_maxrss would begin at what the process that started this one holds
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024

audio.decode(Path(sys.argv[2]))
before = peak()
samples = audio.decode(Path(sys.argv[1]), spool_seconds=float(sys.argv[3])).samples
energy = 0.0
for start in range(0, len(samples), 960_000):
    energy += float(np.square(samples[start : start + 960_000]).sum())
    audio.release(samples)
print(len(samples), energy > 0, before, peak())
"""


def _measured(long: Path, short: Path, spool_seconds: float) -> tuple[int, int, int]:
    """Samples, resident bytes before and at the peak of decoding and walking over a recording."""
    command = [sys.executable, "-c", _MEASURE, str(long), str(short), str(spool_seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    num_samples, heard, before, peak = done.stdout.split()
    assert heard == "True"
    return int(num_samples), int(before), int(peak)


def _tone(path: Path, minutes: int, rate: int, kind: str) -> None:
    container, _, subtype = kind.partition("/")
    block = (8000 * np.sin(np.arange(rate * 60) * 0.05)).astype(np.int16)
    with soundfile.SoundFile(path, "w", rate, 1, format=container, subtype=subtype) as file:
        for _ in range(minutes):
            file.write(block)


def test_memory_is_bounded(tmp_path: Path) -> None:
    _tone(tmp_path / "short.wav", 3, RATE, "WAV/PCM_16")
    _tone(tmp_path / "long.wav", 60, RATE, "WAV/PCM_16")  # 230 MB as float32
    num_samples, before, peak = _measured(tmp_path / "long.wav", tmp_path / "short.wav", 60)
    assert num_samples == 3600 * RATE
    assert peak - before < 40 << 20


@pytest.mark.slow
def test_ten_hours_stay_under_a_gibibyte(tmp_path: Path) -> None:
    _tone(tmp_path / "short.wav", 1, RATE, "WAV/PCM_16")
    _tone(tmp_path / "long.flac", 600, 8_000, "FLAC/PCM_16")
    num_samples, _, peak = _measured(tmp_path / "long.flac", tmp_path / "short.wav", audio.SPOOL_SECONDS)
    assert num_samples == 36_000 * RATE
    assert peak < 1 << 30
    print(f"peak {peak / 2**20:.0f} MiB")
