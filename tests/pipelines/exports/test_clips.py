"""What headers of clips say, beside what decoding them gives; and clips in another format."""

import io

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.audio import encode
from seamlessalign.errors import StorageError
from seamlessalign.pipelines.exports.clips import Clip, clip_of, clips_of, converted, with_clips
from tests.pipelines.exports.export_rows import pairs_of, samples_of, sound

FORMATS = ("flac", "opus")


@pytest.mark.parametrize("format", FORMATS)
@given(length=st.integers(1, 3000))
@settings(max_examples=15, deadline=None)
def test_the_header_says_how_many_samples_there_are(format: str, length: int) -> None:
    data = encode(np.linspace(-0.5, 0.5, length, dtype=np.float32), format)  # type: ignore[arg-type]
    clip = clip_of(data)
    samples, _ = soundfile.read(io.BytesIO(data))
    assert (clip.format, clip.num_samples, clip.data) == (format, len(samples), data) and len(samples) == length


def test_what_marks_a_page_of_ogg_may_be_within_one() -> None:
    data = bytearray(encode(np.linspace(-0.5, 0.5, 3000, dtype=np.float32), "opus"))
    data[-40:-36] = b"OggS"
    assert clip_of(bytes(data)).num_samples == 3000
    with pytest.raises(ValueError, match="breaks off in the Ogg page at byte"):
        clip_of(bytes(data[:-1]))


def test_flac_becomes_opus_of_the_same_length_and_back() -> None:
    flac = clip_of(encode(sound(3), "flac"))
    opus = converted(flac, "opus")
    assert opus.data == encode(sound(3), "opus") and (opus.format, opus.num_samples) == ("opus", flac.num_samples)
    back = converted(opus, "flac")
    decoded, _ = soundfile.read(io.BytesIO(opus.data), dtype="float32")
    heard, _ = soundfile.read(io.BytesIO(back.data), dtype="float32")
    np.testing.assert_allclose(heard, decoded.clip(-1, 1), atol=1 / 65536)
    assert back.num_samples == len(heard) == flac.num_samples


@pytest.mark.parametrize("format", FORMATS)
def test_a_clip_that_has_the_format_is_passed_on(format: str) -> None:
    clip = clip_of(encode(sound(1), format))  # type: ignore[arg-type]
    assert converted(clip, format) is clip  # type: ignore[arg-type]


def _written(rate: int, channels: int, format: str, subtype: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros((400, channels)), rate, format=format, subtype=subtype)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is neither FLAC nor Opus"),
        (b"fLaC", "is neither FLAC nor Opus"),
        (_written(16_000, 1, "WAV", "PCM_16"), "is neither FLAC nor Opus"),
        (_written(16_000, 1, "OGG", "VORBIS"), "is neither FLAC nor Opus"),
        (_written(16_000, 2, "FLAC", "PCM_16"), "has 400 samples in 2 channels at 16000 Hz"),
        (_written(8_000, 1, "FLAC", "PCM_16"), "has 400 samples in 1 channels at 8000 Hz"),
        (_written(48_000, 1, "OGG", "OPUS"), "in 1 channels at 48000 Hz"),
    ],
)
def test_others_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        clip_of(data)


def test_what_cannot_be_decoded_is_told() -> None:
    data = encode(sound(2), "flac")
    with pytest.raises(ValueError, match="cannot be decoded"):
        converted(Clip(data[:30] + b"x" * 400, "flac", 3014), "opus")
    with pytest.raises(ValueError, match="has 3014 samples and a header that promises 3000"):
        converted(Clip(data, "flac", 3000), "opus")


def test_clips_of_rows_and_rows_with_other_clips() -> None:
    pairs = pairs_of("eng-frA", 6)
    assert clips_of(pairs, "src", None) == [None] * 6
    clips = clips_of(pairs.slice(2, 3), "tgt", "opus")
    others = with_clips(pairs.slice(2, 3), "tgt", clips)
    assert others.schema == pairs.schema and others.column("src_audio").null_count == 3
    for row, before in zip(others.to_pylist(), pairs.slice(2, 3).to_pylist(), strict=True):
        assert row["tgt_audio"]["path"] == before["tgt_audio"]["path"].replace(".flac", ".ogg")
        assert len(samples_of(row, "tgt")) == len(samples_of(before, "tgt"))
        assert {**row, "tgt_audio": None} == {**before, "tgt_audio": None}


def test_a_row_without_bytes_is_refused() -> None:
    pairs = pairs_of("eng-frA", 2)
    with pytest.raises(StorageError, match="its tgt_audio is neither FLAC nor Opus; make the corpus again"):
        clips_of(with_clips(pairs, "tgt", [Clip(b"", "flac", 1)] * 2), "tgt", None)
