"""What is done to speech that is learnt, and to its features. All randomness comes from the generator given."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from seamlessalign import sound_changes
from seamlessalign.embedders.sonar.features import NUM_BINS
from seamlessalign.errors import InputError, UnreadableError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.training.data.settings import AugmentSettings
from seamlessalign.typed_config import digest

Float32 = npt.NDArray[np.float32]

_SOUNDS = (".flac", ".mp3", ".ogg", ".opus", ".wav")


def slowest_speed(settings: AugmentSettings) -> float:
    """The least speed at which speech is heard, in the hundredths that `change_speed` goes by."""
    return round((1 - settings.speed) * 100) / 100


class Noises:
    """Recordings of noise, of which stretches are read as they are wanted."""

    def __init__(self, folder: str, key: str = "augment.noises", unreadable: dict[str, str] | None = None) -> None:
        """Look at all sound files in a folder.

        key: of the configuration that names it. unreadable: gets what is wrong with files that cannot be read, and
        these are left out; where it is None, one raises InputError. So does a folder without any that can.
        """
        self._unreadable = unreadable
        files = [file for file in sorted(Path(folder).rglob("*")) if file.suffix.lower() in _SOUNDS]
        if not files:
            raise InputError(f"{key}: {folder} holds no sound files ({', '.join(_SOUNDS)})")
        self._files: list[tuple[Path, int, int]] = []  # each with its frames and rate
        for file in files:
            try:
                about = soundfile.info(file)
                wrong = "" if about.frames > 0 else "is empty; remove it"
            except (soundfile.LibsndfileError, OSError) as error:
                wrong = f"cannot be read: {error}"
            if not wrong:
                self._files.append((file, about.frames, about.samplerate))
            elif unreadable is None:
                raise InputError(f"{key}: {file} {wrong}")
            else:
                unreadable[str(file)] = wrong
        if not self._files:
            raise InputError(f"{key}: of {len(files)} sound files in {folder} none can be read")

    @property
    def digest(self) -> str:
        """Changes with the names, lengths and rates of the files."""
        return digest([[file.name, frames, rate] for file, frames, rate in self._files])

    def stretch(self, length: int, which: float, where: float) -> Float32:
        """`(length,)` samples of one recording, round and round where it is shorter.

        which, where: of all recordings and of the places to begin at, from 0 to 1.

        Raises UnreadableError where the file cannot be read any more.
        """
        file, frames, rate = self._files[int(which * len(self._files))]
        wanted = -(-length * rate // SAMPLE_RATE) + 1
        try:
            with soundfile.SoundFile(file) as opened:
                opened.seek(int(where * max(1, frames - wanted)))
                found = opened.read(wanted, dtype="float32", always_2d=True).mean(axis=1)
        except (soundfile.LibsndfileError, OSError) as error:
            if self._unreadable is not None:
                self._unreadable[str(file)] = f"cannot be read: {error}"
            raise UnreadableError("noise_unreadable", f"{file}: {error}") from error
        if frames <= wanted:
            found = np.roll(found, -int(where * len(found)))
        if rate != SAMPLE_RATE:
            found = soxr.resample(found, rate, SAMPLE_RATE)
        return np.resize(np.asarray(found, np.float32), length)


def changed(
    waveform: Float32, settings: AugmentSettings, rng: np.random.Generator, noises: Noises | None = None
) -> Float32:
    """A waveform with its changes: speed, a room, noise, gain, a codec. Noise is made where there are no `noises`.

    All choices are drawn, whether they are used or not, so that one share does not move the others.
    """
    speed = float(1 + rng.uniform(-settings.speed, settings.speed))
    reverb, noise = rng.random(2)
    seconds = float(rng.uniform(0.1, max(0.1, settings.max_reverb_seconds)))
    direct = float(rng.uniform(0, 12))
    snr = float(rng.uniform(settings.min_snr_db, settings.max_snr_db))
    tilt, gain = float(rng.uniform(0, 2)), float(rng.uniform(-settings.gain_db, settings.gain_db))
    which, where, codec, kind = rng.random(4)
    samples = sound_changes.change_speed(waveform, speed)
    if reverb < settings.reverb:
        samples = sound_changes.convolved(samples, sound_changes.room_response(seconds, direct, rng))
    if noise < settings.noise:
        if noises is not None:
            samples = sound_changes.mixed(samples, noises.stretch(len(samples), which, where), snr)
        else:
            samples = sound_changes.add_noise(samples, snr, tilt, rng)
    if gain:
        samples = sound_changes.change_gain(samples, gain)
    if codec < settings.codec:
        samples = sound_changes.coded(samples, settings.codecs[int(kind * len(settings.codecs))])
    return samples


def masked(features: Float32, settings: AugmentSettings, rng: np.random.Generator) -> Float32:
    """Features `(num_frames, 160)`, two frames of 80 bins each, with stretches of bins and of frames at 0, their mean.

    SpecAugment (Park et al. 2019, arXiv 1904.08779, section 2): a mask of frequencies is f bins wide, f uniform over
    [0, F], from a bin that is uniform over [0, 80 - f); one of time t frames, t uniform over [0, T] and at most a share
    p of all frames. Time is not warped.
    """
    frames = features.reshape(-1, NUM_BINS).copy()
    for _ in range(settings.frequency_masks):
        width = int(rng.integers(0, min(settings.frequency_width, NUM_BINS - 1) + 1))
        start = int(rng.integers(0, NUM_BINS - width))
        frames[:, start : start + width] = 0
    for _ in range(settings.time_masks):
        width = int(rng.integers(0, min(settings.time_width, int(settings.time_share * len(frames))) + 1))
        start = int(rng.integers(0, len(frames) - width + 1))
        frames[start : start + width] = 0
    return frames.reshape(features.shape)
