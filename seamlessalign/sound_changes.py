"""What may be done to speech: another speed, gain, noise. All randomness comes from the generator given."""

import numpy as np
import numpy.typing as npt

from seamlessalign.rows import SAMPLE_RATE

Float32 = npt.NDArray[np.float32]


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
    noise = np.fft.irfft(spectrum, len(waveform))
    level = np.sqrt(np.mean(np.square(waveform, dtype=np.float64)) / 10 ** (snr_db / 10))
    power = np.sqrt(np.mean(np.square(noise)))
    return np.asarray(waveform + noise * (level / max(float(power), 1e-12)), np.float32)


def change_gain(waveform: Float32, gain_db: float) -> Float32:
    """Speech that many decibels louder."""
    return np.asarray(waveform * 10 ** (gain_db / 20), np.float32)
