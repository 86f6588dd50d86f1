"""The demo's recordings: prompts trimmed, laid one after the other with silences and noise, written in many formats."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from seamlessalign.audio import Samples, encode
from seamlessalign.rows import SAMPLE_RATE


@dataclass(frozen=True)
class AudioFormat:
    """How a recording is written, by libsndfile's names."""

    suffix: str
    container: str
    subtype: str
    sample_rate: int  # Hz
    channels: int


# In the order spa, fra, ita, rus, eng, no speech. Opus is the slowest to write, so the shortest speech has it.
FORMATS = (
    AudioFormat("flac", "FLAC", "PCM_16", 16_000, 1),
    AudioFormat("mp3", "MP3", "MPEG_LAYER_III", 24_000, 1),
    AudioFormat("wav", "WAV", "PCM_16", 44_100, 2),
    AudioFormat("flac", "FLAC", "PCM_24", 22_050, 1),
    AudioFormat("opus", "OGG", "OPUS", 16_000, 1),
    AudioFormat("wav", "WAV", "PCM_16", 8_000, 1),
)

_FRAME = SAMPLE_RATE // 100  # 10 ms
_SILENCE_DB = 40.0  # a frame so far below the prompt's loudest is silence
_FADE = SAMPLE_RATE // 200  # 5 ms
_SPEECH_RMS = 10 ** (-23 / 20)  # of a prompt before its random gain, full scale = 1
_GAIN_DB = 6.0
_NOISE_DB = (-40.0, -30.0)  # noise against _SPEECH_RMS
_PEAK = 0.95


def trim(samples: Samples) -> tuple[int, int]:
    """Where speech starts and ends, in samples: the span from the first to the last 10 ms frame that is not silence.

    A frame is silence when its RMS is 40 dB or more below that of the loudest frame. (0, 0) for digital silence.
    """
    num_frames = len(samples) // _FRAME
    frames = samples[: num_frames * _FRAME].reshape(num_frames, _FRAME).astype(np.float64)
    power = (frames**2).mean(axis=1)
    loud = np.flatnonzero(power > power.max(initial=0.0) * 10 ** (-_SILENCE_DB / 10))
    if not len(loud):
        return 0, 0
    return int(loud[0]) * _FRAME, (int(loud[-1]) + 1) * _FRAME


def mix(
    prompts: Sequence[Samples], gap_seconds: tuple[float, float], rng: np.random.Generator
) -> tuple[Samples, list[tuple[int, int]]]:
    """Lay trimmed prompts one after the other; returns the recording at 16 kHz and each prompt's `[start, end)`.

    Before, between and behind them lie random silences. Every prompt is brought to one level and then changed by up to
    6 dB; white or pink noise 30 to 40 dB below that level lies over all.
    """
    gaps = np.round(rng.uniform(*gap_seconds, size=len(prompts) + 1) * SAMPLE_RATE).astype(np.int64)
    gains = 10 ** (rng.uniform(-_GAIN_DB, _GAIN_DB, size=len(prompts)) / 20)
    recording = np.zeros(int(gaps.sum()) + sum(len(prompt) for prompt in prompts), dtype=np.float32)
    ramp = np.arange(1, _FADE + 1, dtype=np.float32) / _FADE
    spans = []
    position = 0
    for prompt, gap, gain in zip(prompts, gaps, gains, strict=False):  # the last gap closes the recording
        start = position + int(gap)
        position = start + len(prompt)
        rms = float(np.sqrt((prompt.astype(np.float64) ** 2).mean()))
        gain = min(gain * _SPEECH_RMS / rms, _PEAK / float(np.abs(prompt).max()))
        piece = prompt * np.float32(gain)
        piece[:_FADE] *= ramp
        piece[-_FADE:] *= ramp[::-1]
        recording[start:position] = piece
        spans.append((start, position))
    level = _SPEECH_RMS * 10 ** (rng.uniform(*_NOISE_DB) / 20)
    recording += noise(len(recording), level, pink=bool(rng.integers(2)), rng=rng)
    return np.clip(recording, -1, 1), spans


def noise(num_samples: int, rms: float, *, pink: bool, rng: np.random.Generator) -> Samples:
    """White or pink (power ∝ 1/f) noise, shape (num_samples,), of a root mean square."""
    size = -(-max(num_samples, 1) // 2**16) * 2**16  # a length that the FFT likes
    samples = rng.standard_normal(size, dtype=np.float32)
    if pink:
        spectrum = np.fft.rfft(samples)
        spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), size * 20 / SAMPLE_RATE)).astype(np.float32)
        samples = np.fft.irfft(spectrum, size).astype(np.float32)
    samples = samples[:num_samples]
    return samples * np.float32(rms / np.sqrt((samples.astype(np.float64) ** 2).mean()))


def noise_and_silence(minutes: float, rng: np.random.Generator) -> Samples:
    """A recording without speech: stretches of pink noise, each at its own level, and of digital silence."""
    length = max(1, int(minutes * 60 * SAMPLE_RATE))
    recording = noise(length, 1.0, pink=True, rng=rng)
    step = 5 * SAMPLE_RATE
    for number, start in enumerate(range(0, length, step)):
        level = 0.0 if number % 3 == 2 else 10 ** (rng.uniform(-50, -35) / 20)
        recording[start : start + step] *= np.float32(level)
    return recording


def write_recording(path: Path, samples: Samples, audio_format: AudioFormat) -> None:
    """Write samples at 16 kHz in a format. The same samples give the same bytes."""
    if audio_format.container == "OGG":
        path.write_bytes(encode(samples, "opus"))
        return
    if audio_format.sample_rate != SAMPLE_RATE:
        samples = np.clip(soxr.resample(samples, SAMPLE_RATE, audio_format.sample_rate), -1, 1)
    if audio_format.channels == 2:
        samples = np.stack([samples, samples * np.float32(0.8)], axis=1)
    soundfile.write(path, samples, audio_format.sample_rate, audio_format.subtype, format=audio_format.container)
