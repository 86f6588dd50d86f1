"""Opening recordings as a run's configuration has it, for whoever decodes or cuts them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seamlessalign.audio import Decoding, num_channels
from seamlessalign.config import DecodeConfig
from seamlessalign.errors import UnreadableError
from seamlessalign.roots import outside
from seamlessalign.sources import place_of, recording_file, with_channel


@contextmanager
def open_recording(
    uri: str, config: DecodeConfig | None = None, root: str | None = None
) -> Iterator[tuple[Path, Decoding]]:
    """A recording's bytes as a local file, and how they are decoded; errors as of `recording_file`.

    Which channel is taken is for the uri to say. Without a configuration, a recording may be as long as it is. With a
    root, one that does not lie below it, or no longer does, is `outside_root`.
    """
    place = place_of(uri)
    channel = place.channel
    if root is not None and outside(place.file, root):
        raise UnreadableError("outside_root", f"{place.file!r} does not lie below the root {root!r}")
    if config is None:
        with recording_file(uri) as path:
            yield path, Decoding(channel)
        return
    with recording_file(uri, config.timeout_seconds) as path:
        yield path, Decoding(channel, config.max_recording_hours * 3600, config.timeout_seconds, config.ffmpeg)


def channels_of(uri: str, path: Path, decoding: Decoding, config: DecodeConfig) -> list[tuple[str, int | None]]:
    """The recordings that a file is, each with its uri and channel; None: the mean of all. Errors as of `decode`.

    Where the configuration takes channels apart, the uri of each tells which it is.
    """
    if decoding.channel is not None or config.channels == "mix":
        return [(uri, decoding.channel)]
    if isinstance(config.channels, int):
        return [(with_channel(uri, config.channels), config.channels)]
    number = num_channels(path, decoding)
    return [(with_channel(uri, channel), channel) for channel in range(number)] if number > 1 else [(uri, None)]
