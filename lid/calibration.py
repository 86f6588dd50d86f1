"""When to believe a language identifier: thresholds of each language, fitted on clips whose language is known.

The scores of the clips that were taken for a language are modelled by two Gaussians of their log-odds, one where that
was right and one where it was wrong (SeamlessM4T, Seamless Communication 2023, section on language identification,
models the scores of its ECAPA-TDNN so, language by language). From the two models follow the threshold above which an
answer is likelier right than wrong, the one with the best F1, or the lowest one that reaches a wished precision. A
language with few wrong answers borrows from the wrong answers of all.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import Field

from seamlessalign import storage
from seamlessalign.config import Lang
from seamlessalign.errors import ConfigError, InputError
from seamlessalign.label_measures import UNKNOWN
from seamlessalign.typed_config import Section, checked, read_yaml

Float64 = npt.NDArray[np.float64]
Rule = Literal["f1", "right", "precision"]

CALIBRATION_FILE = "calibration.yaml"
_LIMIT = 1e-6  # scores nearer to 0 or 1 have the log-odds of this one
_BORROWED = 4.0  # answers that the pooled model counts for in a language's own
_LEAST_SD = 0.3  # of log-odds: a few equal scores are no certainty
_GRID = 400


class ScoreModel(Section):
    """Log-odds of the scores of some answers: a Gaussian, and how many there were."""

    mean: float
    sd: float = Field(gt=0)
    count: int = Field(ge=0)

    def above(self, score: float) -> float:
        """Share of such answers whose score is `score` or more."""
        return 0.5 * math.erfc((log_odds(score) - self.mean) / (self.sd * math.sqrt(2)))

    def density(self, score: float) -> float:
        """Density of the log-odds at a score."""
        z = (log_odds(score) - self.mean) / self.sd
        return math.exp(-0.5 * z * z) / (self.sd * math.sqrt(2 * math.pi))


class LanguageCalibration(Section):
    """One language: below `threshold` it is not believed; the models that say so."""

    threshold: float = Field(ge=0, le=1)
    right: ScoreModel
    wrong: ScoreModel


class Calibration(Section):
    """Thresholds of an identifier."""

    model: str
    sha256: str  # of the weights whose scores were modelled
    rule: Rule
    precision: float | None = Field(None, gt=0, le=1)  # the wished one, where the rule is `precision`
    window_seconds: float = Field(gt=0)  # length of the clips, or of the windows of longer ones
    clips: int
    default: LanguageCalibration  # of languages that had no clips taken for them
    languages: dict[Lang, LanguageCalibration]

    def threshold(self, lang: str) -> float:
        """The score from which `lang` is believed."""
        return self.languages.get(lang, self.default).threshold

    def answer(self, lang: str, score: float) -> str:
        """`lang`, or `unknown` where its score is below its threshold."""
        return lang if score >= self.threshold(lang) else UNKNOWN

    def sureness(self, lang: str, score: float) -> float:
        """Estimated probability that an answer is right, from 0 to 1."""
        return _posterior(self.languages.get(lang, self.default), score)


def log_odds(score: float) -> float:
    """log(p / (1 − p)) of a score that is kept away from 0 and 1."""
    score = min(max(float(score), _LIMIT), 1 - _LIMIT)
    return math.log(score / (1 - score))


def fit_calibration(
    truth: Sequence[str],
    scores: Sequence[Mapping[str, float]],
    *,
    model: str,
    sha256: str,
    window_seconds: float,
    rule: Rule = "f1",
    precision: float | None = None,
) -> Calibration:
    """Fit the models of each language, and its threshold by a rule.

    Args:
        truth: ISO 639-3 of each clip.
        scores: of each clip, language → probability.
        model: name of the identifier; sha256: of its weights.
        window_seconds: length of the clips or of the windows that they are judged by.
        rule: `f1`: the best F1 of each language, where a rejected clip is a miss; `right`: an answer is likelier right
            than wrong (the paper's); `precision`: the lowest threshold at which `precision` is expected.

    Raises:
        InputError: fewer than ten clips, or a precision that is missing or not wanted.
    """
    if len(truth) < 10:
        raise InputError(f"{len(truth)} clips are too few to fit thresholds: give 10 or more, of every language")
    if (precision is None) == (rule == "precision"):
        raise InputError("a precision goes with the rule 'precision', and only with it")
    answers = [best(of) for of in scores]
    right = np.array([lang == true for (lang, _), true in zip(answers, truth, strict=True)])
    odds = np.array([log_odds(score) for _, score in answers])
    pooled = {True: _gaussian(odds[right], None), False: _gaussian(odds[~right], None)}
    languages = {}
    for lang in sorted({lang for lang, _ in answers}):
        own = np.array([other == lang for other, _ in answers])
        models = LanguageCalibration(
            threshold=0.0,
            right=_gaussian(odds[own & right], pooled[True]),
            wrong=_gaussian(odds[own & ~right], pooled[False]),
        )
        languages[lang] = _with_threshold(models, sum(true == lang for true in truth), rule, precision)
    both = LanguageCalibration(threshold=0.0, right=pooled[True], wrong=pooled[False])
    return Calibration(
        model=model,
        sha256=sha256,
        rule=rule,
        precision=precision,
        window_seconds=window_seconds,
        clips=len(truth),
        default=_with_threshold(both, len(truth), rule, precision),
        languages=languages,
    )


def best(scores: Mapping[str, float]) -> tuple[str, float]:
    """The likeliest language and its score; the first in the alphabet of equal ones."""
    return min(scores.items(), key=lambda item: (-item[1], item[0]))


def _gaussian(odds: Float64, pooled: ScoreModel | None) -> ScoreModel:
    """Mean and deviation, with `_BORROWED` answers' worth of the pooled model mixed in."""
    count = len(odds)
    if pooled is None:
        if not count:
            return ScoreModel(mean=0.0, sd=2.0, count=0)
        return ScoreModel(mean=float(odds.mean()), sd=max(float(odds.std()), _LEAST_SD), count=count)
    weight = count + _BORROWED
    mean = (float(odds.sum()) + _BORROWED * pooled.mean) / weight
    spread = float(((odds - mean) ** 2).sum()) + _BORROWED * (pooled.sd**2 + (pooled.mean - mean) ** 2)
    return ScoreModel(mean=mean, sd=max(math.sqrt(spread / weight), _LEAST_SD), count=count)


def _posterior(models: LanguageCalibration, score: float) -> float:
    """Probability that an answer is right, given its score; half an answer of each kind is added to their counts."""
    right = (models.right.count + 0.5) * models.right.density(score)
    wrong = (models.wrong.count + 0.5) * models.wrong.density(score)
    return right / (right + wrong) if right + wrong else float(log_odds(score) > models.wrong.mean)


def _with_threshold(
    models: LanguageCalibration, there: int, rule: Rule, precision: float | None
) -> LanguageCalibration:
    grid = 1 / (1 + np.exp(-np.linspace(log_odds(0), log_odds(1), _GRID)))
    if not models.wrong.count:
        threshold = 0.0  # nothing to reject was seen
    elif rule == "right":
        threshold = _likelier_right(models, grid)
    elif rule == "f1":
        expected = [_f1(models, there, float(score)) for score in (0.0, *grid)]
        threshold = float((0.0, *grid)[int(np.argmax(expected))])
    else:
        reached = [float(score) for score in (0.0, *grid) if _precision(models, float(score)) >= float(precision or 0)]
        threshold = reached[0] if reached else 1.0
    return models.model_copy(update={"threshold": threshold})


def _likelier_right(models: LanguageCalibration, grid: Float64) -> float:
    """The lowest score from which on, up to the mean of right answers, right is likelier than wrong.

    Gaussians of two widths cross twice; what lies above the mean of right answers is believed.
    """
    found = 0.0
    for score in grid:
        if log_odds(score) > models.right.mean:
            break
        if _posterior(models, float(score)) <= 0.5:
            found = float(score)
    return found


def _f1(models: LanguageCalibration, there: int, score: float) -> float:
    hits = models.right.count * models.right.above(score)
    false = models.wrong.count * models.wrong.above(score)
    return 2 * hits / (hits + false + there) if hits else 0.0


def _precision(models: LanguageCalibration, score: float) -> float:
    hits = models.right.count * models.right.above(score)
    false = models.wrong.count * models.wrong.above(score)
    return hits / (hits + false) if hits else 0.0


def save_calibration(calibration: Calibration, file: Path) -> None:
    """Write a calibration as YAML, whole or not at all."""
    plain = _rounded(calibration.model_dump(mode="json"))
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    storage.write_bytes_atomic(str(file), text.encode())


def load_calibration(file: Path, sha256: str | None = None) -> Calibration:
    """Read a calibration. Raises ConfigError where it is damaged, or is of other weights than those with `sha256`."""
    found = checked(Calibration, read_yaml(str(file), "'model', 'default' and 'languages'"), str(file))
    if sha256 is not None and found.sha256 != sha256:
        raise ConfigError(
            f"{file}: is of {found.model} with weights {found.sha256[:12]}…, not of those in use, {sha256[:12]}…; "
            "fit it again with python -m seamlessalign.lid.calibrate"
        )
    return found


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return round(value, 6) if isinstance(value, float) else value


@dataclass(frozen=True)
class Window:
    """What one window of speech is taken for."""

    lang: str  # the likeliest
    score: float
    answer: str  # the same, or `unknown`


@dataclass(frozen=True)
class Decision:
    """The language of a recording."""

    lang: str  # the likeliest, ISO 639-3
    score: float  # its probability, the mean over windows
    answer: str  # the same, or `unknown` where the score is below the threshold
    mixed: bool  # windows that are sure of themselves are in different languages
    windows: tuple[Window, ...]


def decide(
    mean: Mapping[str, float],
    heard: Sequence[Mapping[str, float]],
    calibration: Calibration | None,
    min_prob: float = 0.0,
) -> Decision:
    """Decide on a recording from the mean of its windows' probabilities and from each window.

    An answer is believed where its score reaches the calibrated threshold of its language, or `min_prob` where there
    is no calibration.
    """

    def window(scores: Mapping[str, float]) -> Window:
        lang, score = best(scores)
        if calibration is not None:
            return Window(lang, score, calibration.answer(lang, score))
        return Window(lang, score, lang if score >= min_prob else UNKNOWN)

    whole, windows = window(mean), tuple(window(scores) for scores in heard)
    sure = {found.answer for found in windows} - {UNKNOWN}
    return Decision(whole.lang, whole.score, whole.answer, len(sure) > 1, windows)
