"""Thresholds against searching them in drawn scores, and files of thresholds."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.errors import ConfigError, InputError
from seamlessalign.label_measures import UNKNOWN, measure
from seamlessalign.lid.calibration import (
    Calibration,
    ScoreModel,
    best,
    decide,
    fit_calibration,
    load_calibration,
    log_odds,
    save_calibration,
)

Scores = list[dict[str, float]]


def _drawn(count: int, seed: int, wrong_share: float = 0.2) -> tuple[list[str], Scores]:
    """Clips of three languages: log-odds are normal, around 3 where the answer is right and around 0 where not."""
    rng = np.random.default_rng(seed)
    langs = ["eng", "fra", "rus"]
    truth, scores = [], []
    for _ in range(count):
        true = langs[int(rng.integers(3))]
        wrong = rng.random() < wrong_share
        said = true if not wrong else langs[(langs.index(true) + 1) % 3]
        odds = rng.normal(0.8, 0.5) if wrong else rng.normal(3, 1)
        score = max(1 / (1 + math.exp(-odds)), 0.4)
        truth.append(true)
        scores.append({lang: score if lang == said else (1 - score) / 2 for lang in langs})
    return truth, scores


def _fit(truth: list[str], scores: Scores, **how: object) -> Calibration:
    return fit_calibration(truth, scores, model="m", sha256="0" * 64, window_seconds=10.0, **how)  # type: ignore[arg-type]


def _answers(calibration: Calibration, scores: Scores) -> list[str]:
    return [calibration.answer(*best(of)) for of in scores]


def test_the_wished_precision_is_reached_on_clips_that_were_not_fitted() -> None:
    truth, scores = _drawn(4000, 0)
    fresh, heard = _drawn(4000, 1)
    before = measure(fresh, [best(of)[0] for of in heard]).accuracy
    for wished in (0.9, 0.95, 0.98):
        found = _fit(truth, scores, rule="precision", precision=wished)
        after = measure(fresh, _answers(found, heard))
        assert before < wished - 0.05 and after.accuracy == pytest.approx(wished, abs=0.02)
        assert after.answered < len(fresh)


def test_no_other_threshold_has_a_much_better_f1() -> None:
    """Against every threshold of one language, tried on the clips themselves."""
    truth, scores = _drawn(1500, 2, wrong_share=0.4)
    found = _fit(truth, scores)
    for lang in ("eng", "fra", "rus"):
        here = measure(truth, _answers(found, scores)).f1[lang]
        tried = []
        for threshold in np.linspace(0, 1, 41):
            answers = [said if score >= threshold else UNKNOWN for said, score in map(best, scores)]
            tried.append(measure(truth, answers).f1[lang])
        assert found.threshold(lang) > 0 and here > max(tried) - 0.015 > tried[0]


def test_right_is_likelier_than_wrong_above_the_threshold() -> None:
    truth, scores = _drawn(4000, 3)
    found = _fit(truth, scores, rule="right")
    near = [
        best(of)[0] == true
        for true, of in zip(truth, scores, strict=True)
        if abs(log_odds(best(of)[1]) - log_odds(found.threshold(best(of)[0]))) < 0.25
    ]
    assert len(near) > 50 and float(np.mean(near)) == pytest.approx(0.5, abs=0.12)
    sure = [found.sureness(*best(of)) for of in scores]
    right = np.array([best(of)[0] == true for true, of in zip(truth, scores, strict=True)])
    order = np.argsort(sure)
    for part in np.array_split(order, 8):  # the estimate is what share is right
        assert float(np.mean(np.array(sure)[part])) == pytest.approx(float(right[part].mean()), abs=0.08)


def test_rejecting_a_few_raises_the_f1_of_the_others() -> None:
    truth, scores = _drawn(3000, 4)
    found = _fit(truth, scores, rule="right")
    plain = measure(truth, [best(of)[0] for of in scores])
    cut = measure(truth, _answers(found, scores), rejected="left out")
    assert 0.05 < 1 - cut.answered / cut.clips < 0.25 and cut.macro_f1 > plain.macro_f1 + 0.03


def test_where_nothing_was_wrong_nothing_is_rejected() -> None:
    truth, scores = _drawn(200, 5, wrong_share=0.0)
    hows: list[dict[str, object]] = [{}, {"rule": "right"}, {"rule": "precision", "precision": 0.99}]
    for how in hows:
        found = fit_calibration(truth, scores, model="m", sha256="0" * 64, window_seconds=10.0, **how)  # type: ignore[arg-type]
        assert found.default.threshold == 0 and _answers(found, scores) == truth


def test_a_language_that_was_never_said_has_the_threshold_of_all() -> None:
    found = _fit(*_drawn(500, 6), rule="right")
    assert "ita" not in found.languages and found.threshold("ita") == found.default.threshold > 0


@pytest.mark.parametrize(
    ("count", "how", "said"),
    [
        (5, {}, "5 clips are too few"),
        (50, {"rule": "precision"}, "a precision goes with"),
        (50, {"precision": 0.9}, "a precision goes with"),
    ],
)
def test_what_cannot_be_fitted_is_said(count: int, how: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        truth, scores = _drawn(count, 0)
        fit_calibration(truth, scores, model="m", sha256="0" * 64, window_seconds=10.0, **how)  # type: ignore[arg-type]


@given(st.lists(st.floats(0, 1), min_size=10, max_size=40), st.lists(st.booleans(), min_size=40, max_size=40))
@settings(max_examples=30, deadline=None)
def test_any_scores_give_thresholds(values: list[float], right: list[bool]) -> None:
    truth = ["eng" if hit else "fra" for hit, _ in zip(right, values, strict=False)]
    scores = [{"eng": value, "fra": -1.0} for value in values]
    for how in ({}, {"rule": "right"}, {"rule": "precision", "precision": 0.8}):
        found = _fit(truth, scores, **how)
        assert 0 <= found.threshold("eng") <= 1
        assert all(0 <= found.sureness("eng", value) <= 1 for value in values)


def test_models_are_those_of_the_scores() -> None:
    rng = np.random.default_rng(0)
    odds = rng.normal(1.5, 0.7, 2000)
    model = ScoreModel(mean=float(odds.mean()), sd=float(odds.std()), count=len(odds))
    for score in (0.5, 0.7, 0.9, 0.97):
        assert model.above(score) == pytest.approx(float(np.mean(odds >= log_odds(score))), abs=0.03)


def test_a_file_keeps_everything(tmp_path: Path) -> None:
    found = _fit(*_drawn(500, 7), rule="precision", precision=0.95)
    save_calibration(found, tmp_path / "c.yaml")
    again = load_calibration(tmp_path / "c.yaml", "0" * 64)
    assert again.rule == "precision" and again.precision == 0.95 and again.clips == 500
    assert {lang: of.threshold for lang, of in again.languages.items()} == pytest.approx(
        {lang: of.threshold for lang, of in found.languages.items()}, abs=1e-6
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("threshold: ", "threshold: 1"), "threshold"),
        (("rule: f1", "rule: f2"), "rule"),
        (("rule: f1", "rule: f1\nruel: f1"), "unknown key 'ruel'; did you mean 'rule'"),
        (("  rus:", "  xxx:"), "xxx"),
        (("sha256: '0", "sha256: '1"), "is of m with weights 1000"),
    ],
)
def test_a_file_that_cannot_be_is_named(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    file = tmp_path / "c.yaml"
    save_calibration(_fit(*_drawn(100, 8)), file)
    text = file.read_text()
    assert change[0] in text
    file.write_text(text.replace(*change))
    with pytest.raises(ConfigError, match=said) as caught:
        load_calibration(file, "0" * 64)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)
    file.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_calibration(file)


class TestDecisions:
    def _calibration(self) -> Calibration:
        found = _fit(*_drawn(500, 9), rule="right")
        fixed = {lang: of.model_copy(update={"threshold": 0.6}) for lang, of in found.languages.items()}
        return found.model_copy(update={"languages": fixed})

    def test_below_its_threshold_a_language_is_unknown(self) -> None:
        low = {"eng": 0.55, "fra": 0.45}
        assert decide(low, [low], self._calibration()).answer == UNKNOWN
        assert decide(low, [low], None, 0.5).answer == "eng" and decide(low, [low], None, 0.56).answer == UNKNOWN
        decision = decide(low, [low], self._calibration())
        assert decision.lang == "eng" and decision.score == 0.55 and decision.windows[0].answer == UNKNOWN

    def test_windows_that_are_sure_and_disagree_make_it_mixed(self) -> None:
        english, french, unsure = {"eng": 0.9, "fra": 0.1}, {"eng": 0.2, "fra": 0.8}, {"eng": 0.45, "fra": 0.55}
        mean = {"eng": 0.5, "fra": 0.5}
        assert decide(mean, [english, french], self._calibration()).mixed
        assert not decide(mean, [english, unsure], self._calibration()).mixed
        assert not decide(mean, [english, english], self._calibration()).mixed
        assert decide(mean, [english, unsure], None).mixed  # with no bound, every window is sure
