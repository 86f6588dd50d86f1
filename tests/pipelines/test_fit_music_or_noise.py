"""The fit against a general minimiser, its figures against slow counts, and the examples that it learns from."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from numpy.typing import NDArray
from scipy.optimize import minimize

from seamlessalign.errors import InputError
from seamlessalign.pipelines import made_sounds, sound_examples
from seamlessalign.pipelines.fit_music_or_noise import (
    Measured,
    area_under_roc,
    figures,
    fit,
    measure,
    model_file,
)
from seamlessalign.pipelines.sound_examples import SOURCES, Kind, Source, disturbed, examples
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.segmentation.music_or_noise import FEATURES, LogisticModel, model_text
from tests.segmentation.voice import voice

Float32 = NDArray[np.float32]


def _voices(cache: Path, rng: np.random.Generator) -> Iterator[Float32]:
    yield voice(20.0, pitch=110.0)
    yield voice(20.0, pitch=190.0)


def _white(cache: Path, rng: np.random.Generator) -> Iterator[Float32]:
    yield made_sounds.white(20 * SAMPLE_RATE, rng)


def _source(name: str, kind: Kind, held_out: bool = False) -> Source:
    return Source(name, kind, held_out, _voices if kind == "speech" else _white, human=kind == "speech")


def _made(name: str, kind: Kind, middle: float, number: int, held_out: bool = False) -> Measured:
    rng = np.random.default_rng(number)
    features = rng.normal(middle, 1.0, (number, len(FEATURES)))
    return Measured(_source(name, kind, held_out), features, rng.uniform(1, 20, number))


LEARNT = [_made("a", "speech", -0.1, 300), _made("b", "music", 0.1, 100), _made("c", "noise", 0.2, 40)]


def test_the_fit_is_the_least_penalised_loss() -> None:
    model = fit(LEARNT)
    weights = np.concatenate([np.full(300, 1 / 3 / 300), np.full(100, 1 / 4 / 100), np.full(40, 1 / 4 / 40)])
    weights /= weights.sum()
    rows = model.standard(np.concatenate([one.features for one in LEARNT]))
    np.testing.assert_allclose(weights @ rows, 0, atol=1e-9)
    np.testing.assert_allclose(weights @ rows**2, 1, atol=1e-9)
    sign = np.where(np.arange(440) < 300, -1.0, 1.0)

    def loss(solution: NDArray[np.float64]) -> float:
        said = solution[0] + rows @ solution[1:]
        return float(weights @ np.logaddexp(0, -sign * said) + 0.5e-4 * np.sum(solution[1:] ** 2))

    options = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 5000}
    best = minimize(loss, np.zeros(rows.shape[1] + 1), method="L-BFGS-B", options=options)
    found = np.append(model.bias, model.weights)
    assert loss(found) <= best.fun + 1e-9
    np.testing.assert_allclose(found, best.x, atol=0.02)


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(0)
    positive, negative = (rng.integers(low, 10, 30).astype(np.float32) for low in (3, 0))
    pairs = [1.0 if p > n else 0.5 if p == n else 0.0 for p in positive for n in negative]
    assert area_under_roc(positive, negative) == pytest.approx(np.mean(pairs))


def test_figures_are_of_what_is_held_out() -> None:
    """One feature tells all: learnt sources are wrong on purpose, and the last lines must not show it."""
    model = LogisticModel(np.zeros(len(FEATURES)), np.ones(len(FEATURES)), np.eye(len(FEATURES))[0], 0.0)
    wrong = _made("learnt", "music", -9.0, 50)
    held = [_made("speech", "speech", -9.0, 50, True), _made("music", "music", 9.0, 30, True)]
    lines = figures(model, [wrong, *held])
    assert "learnt (learnt)" in lines[1] and "0.0%" in lines[1]
    assert "100.0%" in lines[3] and "1.000" in lines[3]
    (line,) = [line for line in lines if line.startswith("music and noise")]
    assert line.split()[-2:] == ["1.000", "100.0%"]
    assert next(line for line in lines if line.startswith("noise ")).endswith("none")


def test_a_written_model_is_read_as_it_was() -> None:
    model = fit(LEARNT)
    content = yaml.safe_load(model_file(model, LEARNT))
    assert content["fitted_on"] == ["a", "b", "c"] and tuple(content["features"]) == FEATURES
    np.testing.assert_allclose([row[2] for row in content["features"].values()], model.weights, rtol=1e-5)
    assert content["bias"] == pytest.approx(model.bias, abs=1e-6)


def test_the_shipped_model_was_fitted_on_no_source_that_is_held_out() -> None:
    learnt = set(yaml.safe_load(model_text())["fitted_on"])
    assert learnt == {source.name for source in SOURCES if not source.held_out}
    assert {source.kind for source in SOURCES if source.held_out} == {"speech", "music", "noise"}


def test_voices_are_told_from_noise_from_one_end_to_the_other(tmp_path: Path) -> None:
    sources = [_source("voices", "speech"), _source("white", "noise"), _source("more white", "noise", True)]
    measured = [measure(source, tmp_path) for source in sources]
    assert all(len(one.seconds) == len(one.features) > 3 for one in measured)
    model = fit(measured)
    assert (model.probability(measured[0].features) < 0.5).mean() > 0.9
    assert (model.probability(measured[2].features) > 0.5).mean() > 0.9


def test_examples_are_the_same_every_time_and_no_more_than_said(tmp_path: Path) -> None:
    first, again = (list(examples(_source("white", "noise"), tmp_path, seed)) for seed in (1, 1))
    np.testing.assert_array_equal(first[0].samples, again[0].samples)
    np.testing.assert_array_equal(first[0].spans.spans, again[0].spans.spans)
    (other,) = examples(_source("white", "noise"), tmp_path, 2)
    assert len(other.spans) <= sound_examples.SPANS and not np.array_equal(other.samples, first[0].samples)
    gaps = first[0].fragments[1:, 0] - first[0].fragments[:-1, 1]
    assert (gaps > 0).all() and (first[0].fragments[:, 1] <= len(first[0].samples)).all()


def _named(name: str) -> Source:
    return next(source for source in SOURCES if source.name == name)


def test_recordings_are_found_in_packages(tmp_path: Path) -> None:
    """The middle minute of a piece of music, clips with pauses, and a line that says what to do where there is none."""
    music = tmp_path / "debian/singularity-music/usr/share/games/singularity/music"
    voices = tmp_path / "debian/fillets-ng-data-cs/usr/share/games/fillets-ng/sound/cave/cs"
    for folder in (music, voices):
        folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="no recordings"):
        next(_named("fillets-ng-data-cs").recordings(tmp_path, rng))
    level = np.repeat([0.0, 0.1, 0.0], [5 * SAMPLE_RATE, 60 * SAMPLE_RATE, 5 * SAMPLE_RATE])
    soundfile.write(music / "a.ogg", level * made_sounds.white(len(level), rng), SAMPLE_RATE)
    for number in range(8):
        soundfile.write(voices / f"{number}.ogg", 0.1 * made_sounds.white(2 * SAMPLE_RATE, rng), SAMPLE_RATE)
    (minute,) = _named("singularity-music").recordings(tmp_path, rng)
    assert len(minute) == 60 * SAMPLE_RATE
    assert min(np.abs(minute[:800]).max(), np.abs(minute[-800:]).max()) > 0.01
    (joined,) = _named("fillets-ng-data-cs").recordings(tmp_path, rng)
    assert 8 * 2.1 <= len(joined) / SAMPLE_RATE <= 8 * 3.5
    assert 0.05 < np.mean(joined == 0) < 0.45


def test_what_is_disturbed_is_as_a_file_would_have_it() -> None:
    rng = np.random.default_rng(0)
    sound = voice(2.0)
    levels = []
    for _ in range(20):
        changed = disturbed(sound, "speech", rng)
        assert len(changed) == len(sound) and np.abs(changed).max() <= 1
        np.testing.assert_array_equal(changed * 32768, np.rint(changed * 32768))
        levels.append(20 * np.log10(np.abs(changed).max()))
    assert -31 < min(levels) < -20 and -10 < max(levels) <= 0


@pytest.mark.parametrize("name", ["tones", "chords", "melody", "white", "brown", "gusts", "hum", "clicks", "rain"])
def test_made_sounds_have_their_length_and_are_the_same_every_time(name: str) -> None:
    sound = getattr(made_sounds, name)
    made, again = (sound(3 * SAMPLE_RATE + 5, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(made, again)
    assert made.shape == (3 * SAMPLE_RATE + 5,) and made.dtype == np.float32
    assert 0.99 < np.abs(made).max() <= 1.0 and np.sqrt(np.mean(made**2)) > 0.01


def test_babble_has_all_voices() -> None:
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    voices = [np.sin(2 * np.pi * hertz * time).astype(np.float32) * gain for hertz, gain in ((300, 1.0), (700, 0.01))]
    spectrum = np.abs(np.fft.rfft(made_sounds.babble(voices, 2 * SAMPLE_RATE, np.random.default_rng(0))))
    assert spectrum[600] == pytest.approx(spectrum[1400], rel=0.05) and spectrum[600] > 100 * np.median(spectrum)
