"""What is done to speech and features: by the generator alone, within the limits, and only what was asked for."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.errors import InputError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.training.data.augmentation import Noises, changed, masked, slowest_speed
from seamlessalign.training.data.settings import AugmentSettings
from tests.ground.sounds import noise

SPEECH = noise(8000)[:, 0]


class TestSound:
    def test_nothing_is_done_unless_it_is_asked_for(self) -> None:
        np.testing.assert_array_equal(changed(SPEECH, AugmentSettings(), np.random.default_rng(0)), SPEECH)

    @pytest.mark.parametrize("name", ["speed", "noise", "gain_db", "reverb", "codec"])
    def test_each_change_by_itself(self, name: str) -> None:
        value: Any = {"speed": 0.2, "gain_db": 6}.get(name, 1.0)
        augment = AugmentSettings(**{name: value})
        first, again, other = (changed(SPEECH, augment, np.random.default_rng(seed)) for seed in (3, 3, 2))
        np.testing.assert_array_equal(first, again)
        assert len(first) != len(other) or np.abs(first - other).max() > 1e-3
        assert (len(first) != len(SPEECH)) == (name == "speed")

    def test_noise_may_be_recordings(self, tmp_path: Path) -> None:
        """A tone, at other rates, is all that is added, as strong as it is asked for, all along."""
        for rate in (8000, 16000, 44100):
            tone = np.sin(2 * np.pi * 440 * np.arange(rate // 5) / rate).astype(np.float32)
            (tmp_path / str(rate)).mkdir()
            soundfile.write(tmp_path / str(rate) / "tone.wav", np.stack([tone, tone], axis=1), rate)
        augment = AugmentSettings(noise=1, min_snr_db=6, max_snr_db=6, noises=str(tmp_path))
        noises = Noises(str(tmp_path))
        heard = set()
        for seed in range(8):
            first, again = (changed(SPEECH, augment, np.random.default_rng(seed), noises) for _ in range(2))
            np.testing.assert_array_equal(first, again)
            added = (first - SPEECH).astype(np.float64)
            assert 10 * np.log10(np.mean(SPEECH.astype(np.float64) ** 2) / np.mean(added**2)) == pytest.approx(
                6, abs=0.01
            )
            power = np.abs(np.fft.rfft(added)) ** 2
            hertz = np.arange(len(power)) * SAMPLE_RATE / len(added)
            assert power[np.abs(hertz - 440) < 40].sum() > 0.9 * power.sum()
            heard.add(added.tobytes())
        assert len(heard) == 8  # other places of other recordings
        assert pickle.loads(pickle.dumps(noises)).digest == noises.digest  # noqa: S301

    def test_a_folder_without_noise_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"augment\.noises: .* holds no sound files"):
            Noises(str(tmp_path))
        (tmp_path / "a.wav").write_bytes(b"no sound")
        with pytest.raises(InputError, match=r"a\.wav cannot be read"):
            Noises(str(tmp_path))

    @given(st.floats(0, 0.49))
    def test_no_speed_is_below_the_slowest(self, most: float) -> None:
        augment = AugmentSettings(speed=most)
        slowest = slowest_speed(augment)
        for speed in np.linspace(1 - most, 1 + most, 50):
            assert round(speed * 100) / 100 >= slowest > 0.5


class TestMasks:
    @settings(deadline=None)
    @given(
        st.integers(1, 120),
        st.integers(0, 3),
        st.integers(1, 80),
        st.integers(0, 3),
        st.integers(1, 50),
        st.floats(0.01, 1),
        st.integers(0, 99),
    )
    def test_bins_and_frames_are_hidden_in_stretches(
        self, count: int, bands: int, width: int, stretches: int, frames: int, share: float, seed: int
    ) -> None:
        augment = AugmentSettings(
            frequency_masks=bands, frequency_width=width, time_masks=stretches, time_width=frames, time_share=share
        )
        whole = np.full((count, 160), 7, np.float32)
        hidden = masked(whole, augment, np.random.default_rng(seed)) == 0
        assert (whole == 7).all()  # what was given is left alone
        view = hidden.reshape(2 * count, 80)  # frames of 10 ms
        rows = view.all(axis=1)
        columns = view[~rows].all(axis=0) if not rows.all() else np.zeros(80, bool)
        np.testing.assert_array_equal(view, rows[:, None] | columns[None])  # nothing but whole rows and columns
        assert columns.sum() <= bands * width and _runs(columns) <= bands
        assert rows.sum() <= stretches * min(frames, int(share * 2 * count)) and _runs(rows) <= stretches

    def test_all_widths_come_alike(self) -> None:
        augment = AugmentSettings(frequency_masks=1, frequency_width=4)
        whole, rng = np.ones((2, 160), np.float32), np.random.default_rng(0)
        widths = [int((masked(whole, augment, rng)[0, :80] == 0).sum()) for _ in range(2000)]
        assert np.abs(np.bincount(widths, minlength=5) / 2000 - 0.2).max() < 0.04


def _runs(flags: Any) -> int:
    return int((np.diff(flags.astype(int), prepend=0) == 1).sum())
