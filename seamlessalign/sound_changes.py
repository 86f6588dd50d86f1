"""What may be done to speech: another speed, gain, noise. All randomness comes from the generator given."""

import io
from typing import Literal

import numpy as np
import numpy.typing as npt

from seamlessalign.rows import SAMPLE_RATE

Float32 = npt.NDArray[np.float32]
Codec = Literal["phone", "gsm", "mp3", "vorbis", "opus"]

# rate, and the format and coding of soundfile's; phone: G.711, μ-law
_CODECS: dict[Codec, tuple[int, str, str | None]] = {
    "phone": (8000, "WAV", "ULAW"),
    "gsm": (8000, "WAV", "GSM610"),
    "mp3": (SAMPLE_RATE, "MP3", None),
    "vorbis": (SAMPLE_RATE, "OGG", "VORBIS"),
    "opus": (SAMPLE_RATE, "OGG", "OPUS"),
}


def change_speed(waveform: Float32, speed: float) -> Float32:
    """Speech played `speed` times as fast, in steps of a hundredth, with the pitch that this gives it."""
    import soxr

    hundredths = round(speed * 100)
    if hundredths == 100:
        return waveform
    return np.asarray(soxr.resample(waveform, SAMPLE_RATE * hundredths, SAMPLE_RATE * 100), np.float32)


def add_noise(waveform: Float32, snr_db: float, colour: float, rng: np.random.Generator) -> Float32:
    """Speech with noise whose power is `snr_db` below that of the whole waveform.

    The noise's power falls with the frequency to the exponent `colour`: 0 is white, 1 pink, 2 brown.
    """
    spectrum = np.fft.rfft(rng.standard_normal(len(waveform)))
    spectrum /= np.maximum(np.arange(len(spectrum)), 1) ** (colour / 2)
    return mixed(waveform, np.fft.irfft(spectrum, len(waveform)), snr_db)


def mixed(waveform: Float32, noise: npt.NDArray[np.floating], snr_db: float) -> Float32:
    """Speech with a noise as long as it, at a power that is `snr_db` below that of the whole waveform."""
    level = np.sqrt(np.mean(np.square(waveform, dtype=np.float64)) / 10 ** (snr_db / 10))
    power = np.sqrt(np.mean(np.square(noise, dtype=np.float64)))
    return np.asarray(waveform + noise * (level / max(float(power), 1e-12)), np.float32)


def change_gain(waveform: Float32, gain_db: float) -> Float32:
    """Speech that many decibels louder."""
    return np.asarray(waveform * 10 ** (gain_db / 20), np.float32)


def room_response(seconds: float, direct_db: float, rng: np.random.Generator) -> Float32:
    """A made room's impulse response: the direct sound, then noise that falls by 60 dB in `seconds`.

    direct_db: how much stronger the direct sound is than all that follows.
    """
    length = max(2, int(seconds * SAMPLE_RATE))
    time = np.arange(length) / SAMPLE_RATE
    tail = rng.standard_normal(length) * 10 ** (-3 * time / seconds)
    tail[: int(0.002 * SAMPLE_RATE)] = 0  # nothing comes back sooner from any wall
    power = float(np.sum(tail**2))
    tail *= np.sqrt(10 ** (-direct_db / 10) / max(power, 1e-12))
    tail[0] = 1.0
    return np.asarray(tail, np.float32)


def convolved(waveform: Float32, response: Float32) -> Float32:
    """A waveform heard through a response, as long as before, and as loud."""
    length = len(waveform) + len(response) - 1
    size = 1 << (length - 1).bit_length()
    made = np.fft.irfft(np.fft.rfft(waveform, size) * np.fft.rfft(response, size), size)[: len(waveform)]
    before = np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))
    after = np.sqrt(np.mean(np.square(made)))
    return np.asarray(made * (before / max(float(after), 1e-12)), np.float32)


def coded(waveform: Float32, codec: Codec) -> Float32:
    """A waveform as it is heard behind a codec, as long as before; those of telephones leave what is below 4 kHz."""
    import soundfile
    import soxr

    rate, form, subtype = _CODECS[codec]
    file = io.BytesIO()
    sent = waveform if rate == SAMPLE_RATE else soxr.resample(waveform, SAMPLE_RATE, rate)
    soundfile.write(file, np.clip(sent, -1, 1), rate, format=form, subtype=subtype)
    file.seek(0)
    heard, rate_heard = soundfile.read(file, dtype="float32")
    if rate_heard != SAMPLE_RATE:
        heard = soxr.resample(heard, rate_heard, SAMPLE_RATE)
    return np.asarray(np.pad(heard, (0, max(0, len(waveform) - len(heard))))[: len(waveform)], np.float32)


def coloured(waveform: Float32, gains_db: npt.NDArray[np.float64]) -> Float32:
    """A waveform through a filter without delay, whose gains are given at equal steps of an octave from 62.5 Hz up."""
    spectrum = np.fft.rfft(waveform)
    hertz = np.arange(len(spectrum)) * (SAMPLE_RATE / 2 / max(1, len(spectrum) - 1))
    octave = np.log2(np.maximum(hertz, 62.5) / 62.5) / 7 * (len(gains_db) - 1)  # 8 kHz is seven octaves up
    gain = 10 ** (np.interp(octave, np.arange(len(gains_db)), gains_db) / 20)
    return np.asarray(np.fft.irfft(spectrum * gain, len(waveform)), np.float32)
