"""The encoded audio of one side of a pair: what its header says, and the same in another format.

Whatever is not asked for in another format is never decoded: how long it is stands in its header, which is compared
with what the row says.
"""

import io
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import soundfile

from seamlessalign.audio import encode
from seamlessalign.errors import StorageError
from seamlessalign.ogg import last_granule
from seamlessalign.rows import SAMPLE_RATE

AudioFormat = Literal["flac", "opus"]
SUFFIX: dict[AudioFormat, str] = {"flac": "flac", "opus": "ogg"}
SIDES = ("src", "tgt")
_OPUS_RATE = 48_000  # of which granule positions and pre-skip are, whatever the rate of the input (RFC 7845, section 4)


@dataclass(frozen=True)
class Clip:
    """Encoded mono audio at 16 kHz."""

    data: bytes
    format: AudioFormat
    num_samples: int

    @property
    def suffix(self) -> str:
        """What the name of a file of it ends in, without the dot."""
        return SUFFIX[self.format]


def clip_of(data: bytes) -> Clip:
    """The clip that some bytes are, from its header. Raises ValueError saying what is wrong with them."""
    if data[:4] == b"fLaC" and len(data) >= 26:
        # the block STREAMINFO: 20 bits of rate, 3 of channels - 1, 5 of bits - 1, 36 of samples (RFC 9639, section 8.2)
        told = int.from_bytes(data[18:26], "big")
        rate, channels, num_samples = told >> 44, (told >> 41 & 7) + 1, told & (1 << 36) - 1
        clip = Clip(data, "flac", num_samples)
    elif data[:4] == b"OggS" and data[28:36] == b"OpusHead":
        skipped, end = int.from_bytes(data[38:40], "little"), last_granule(data)
        rate, channels = int.from_bytes(data[40:44], "little"), data[37]
        clip = Clip(data, "opus", (end - skipped) * SAMPLE_RATE // _OPUS_RATE)
    else:
        raise ValueError("is neither FLAC nor Opus")
    if (rate, channels) != (SAMPLE_RATE, 1) or clip.num_samples <= 0:
        raise ValueError(f"has {clip.num_samples} samples in {channels} channels at {rate} Hz, not one at 16 kHz")
    return clip


def converted(clip: Clip, format: AudioFormat) -> Clip:
    """The same audio in a format, the clip itself where it has that one. Raises ValueError where it cannot be decoded.

    FLAC is 16 bit: from Opus, whose samples are floats, it is as near as that is.
    """
    if clip.format == format:
        return clip
    try:
        samples, _ = soundfile.read(io.BytesIO(clip.data), dtype="float32")
    except soundfile.LibsndfileError as error:
        raise ValueError(f"cannot be decoded: {error.error_string}") from error
    if len(samples) != clip.num_samples:
        raise ValueError(f"has {len(samples)} samples and a header that promises {clip.num_samples}")
    return Clip(encode(np.asarray(samples, np.float32), format), format, len(samples))


def clips_of(pairs: pa.Table, side: str, format: AudioFormat | None) -> list[Clip | None]:
    """The audio of one side of rows of `corpus`, None where it is text; in another format where one is asked for.

    Raises StorageError naming the pair whose audio is not what the row says.
    """
    audio = pairs.column(f"{side}_audio").combine_chunks()
    contents = audio.field("bytes") if isinstance(audio, pa.StructArray) else audio.chunk(0).field("bytes")
    starts, ends = (pairs.column(f"{side}_{end}").to_pylist() for end in ("start", "end"))
    wanted = [_length(start, end) for start, end in zip(starts, ends, strict=True)]
    clips: list[Clip | None] = []
    for number, (there, length) in enumerate(zip(audio.is_valid().to_pylist(), wanted, strict=True)):
        if not there:
            clips.append(None)
            continue
        try:
            clip = clip_of(contents[number].as_py() or b"")
            if length is not None and clip.num_samples != length:
                raise ValueError(f"has {clip.num_samples} samples, and its times say {length}")
            clips.append(clip if format is None else converted(clip, format))
        except ValueError as error:
            name = pairs.column("pair_id")[number].as_py()
            raise StorageError(f"pair {name}: its {side}_audio {error}; make the corpus again") from error
    return clips


def with_clips(pairs: pa.Table, side: str, clips: list[Clip | None]) -> pa.Table:
    """Rows of `corpus` with other audio of one side, named as before but for the suffix."""
    name = f"{side}_audio"
    values: list[dict[str, Any] | None] = []
    for path, clip in zip(pairs.column(name).combine_chunks().field("path").to_pylist(), clips, strict=True):
        if clip is None:
            values.append(None)
        else:
            stem = path.rpartition(".")[0] if path else side
            values.append({"bytes": clip.data, "path": f"{stem}.{clip.suffix}"})
    field = pairs.schema.field(name)
    return pairs.set_column(pairs.schema.get_field_index(name), field, pa.array(values, field.type))


def _length(start: int | None, end: int | None) -> int | None:
    return None if start is None or end is None else end - start
