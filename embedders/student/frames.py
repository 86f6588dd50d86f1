"""What a backbone makes of speech: frames, each with the sample of the recording that it is of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
Progress = Callable[[float], None]


@dataclass(frozen=True)
class Frames:
    """What a backbone makes of one stretch of speech, or of all stretches of a recording."""

    values: Any  # torch float32 (num_frames, dim), on the backbone's device
    time: Int64  # (num_frames,) sample of the recording at each frame's middle, never falling
    token: Int64 | None = None  # (num_frames,) of decoder states: the token that a state wrote

    def __len__(self) -> int:
        return len(self.time)


class Backbone(Protocol):
    """Speech → frames. `models` are the names and SHA-256 of what touches them."""

    name: str
    dim: int
    models: Mapping[str, str]

    def frames(self, waveform: Float32, fragments: Int64, lang: str, progress: Progress | None = None) -> Frames:
        """All frames of all fragments, in order.

        Args:
            waveform: float32 `(num_samples,)` at 16 kHz, a whole recording.
            fragments: int64 `(num_fragments, 2)`, samples `[start, end)`, sorted and disjoint: its stretches of speech.
            lang: ISO 639-3 of what is spoken.
            progress: called with the seconds of speech done since the last call.

        Raises:
            InputError: samples that are not finite, a fragment that is empty or outside the recording, or a language
                that the backbone cannot hear.
        """
        ...


def frame_ranges(time: Int64, spans: Int64) -> Int64:
    """The frames `[first, last)` of each span, `(num_spans, 2)`: those with `start <= time < end`."""
    return np.asarray(np.searchsorted(time, spans.reshape(-1, 2)), np.int64)


def joined(parts: list[Frames], starts: list[int]) -> Frames:
    """Frames of several stretches as those of one recording in which stretch i begins at sample `starts[i]`."""
    import torch

    tokens = [part.token for part in parts if part.token is not None]
    return Frames(
        torch.cat([part.values for part in parts]),
        np.concatenate([part.time + start for part, start in zip(parts, starts, strict=True)]),
        np.concatenate(tokens) if len(tokens) == len(parts) else None,
    )
