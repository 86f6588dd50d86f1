"""Sound in files, as tests of decoding need it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from seamlessalign import audio
from seamlessalign.errors import UnreadableError


def noise(num_samples: int, channels: int = 1, seed: int = 0) -> NDArray[np.float32]:
    """Coloured noise with a tone, different on every channel: (num_samples, channels)."""
    rng = np.random.default_rng(seed)
    tone = 0.3 * np.sin(np.arange(num_samples)[:, None] * (0.05 + 0.01 * np.arange(channels)))
    return (tone + 0.05 * rng.standard_normal((num_samples, channels))).astype(np.float32)


def write_sound(path: Path, samples: NDArray[Any], rate: int, kind: str) -> Path:
    """Write (num_samples, channels) as a container and codec of soundfile, such as WAV/PCM_16."""
    container, _, subtype = kind.partition("/")
    with soundfile.SoundFile(path, "w", rate, samples.shape[1], format=container, subtype=subtype or None) as file:
        for start in range(0, len(samples), 10_000):  # libvorbis overflows the stack on one long write
            file.write(samples[start : start + 10_000])
    return path


def reason_of(path: Path) -> str:
    """Why a recording cannot be decoded; the message is one line that names it."""
    with pytest.raises(UnreadableError) as caught:
        audio.decode(path)
    assert "\n" not in str(caught.value)
    assert repr(str(path)) in str(caught.value)
    return caught.value.reason
