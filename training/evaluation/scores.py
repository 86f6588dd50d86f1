"""How a score follows from the sums of rows' numbers, by the kind of its measure: kept numbers give it again."""

from collections.abc import Callable

from seamlessalign.errors import InputError
from seamlessalign.training.evaluation.front_end import boundaries
from seamlessalign.training.evaluation.front_end.calibration_error import calibration_error
from seamlessalign.training.evaluation.front_end.lid_task import macro_f1_of
from seamlessalign.training.evaluation.measures import ScoreOf, f1_percentage, percentage, ratio
from seamlessalign.training.evaluation.responsible.gender import delta
from seamlessalign.training.evaluation.text import Bleu, Chrf

# kind → what gives the function; what is heard has the kind of what is written, with asr_ before it
SCORES: dict[str, Callable[[], ScoreOf]] = {
    "bleu": lambda: Bleu("none").score,
    "spbleu": lambda: Bleu("none").score,  # pieces are counted already
    "chrf": lambda: Chrf(word_order=0).score,
    "chrf++": lambda: Chrf(word_order=2).score,
    "error_rate": lambda: percentage,
    "wer": lambda: percentage,
    "cer": lambda: percentage,
    "toxicity": lambda: percentage,
    "gender": lambda: delta(Chrf(word_order=0).score),
    "gender_masculine": lambda: Chrf(word_order=0).score,
    "gender_feminine": lambda: Chrf(word_order=0).score,
    "boundary_f1": lambda: boundaries.f1,
    "boundary_precision": lambda: boundaries.precision,
    "boundary_recall": lambda: boundaries.recall,
    "boundary_r_value": lambda: boundaries.r_value,
    "boundary_span_recall": lambda: boundaries.recall,
    "boundary_speech_f1": lambda: boundaries.f1,
    "lid_accuracy": lambda: percentage,
    "lid_macro_f1": lambda: macro_f1_of,
    "lid_calibration_error": lambda: calibration_error,
    "lid_adaptive_calibration_error": lambda: calibration_error,
    "chrf_ms": lambda: ratio,
    "coefvar_ms": lambda: percentage,
    **{f"blaser_{form}": lambda: ratio for form in ("ref", "qe", "unsupervised", "unsupervised_qe")},
    "comet": lambda: ratio,
}
SCORES |= {kind: lambda: percentage for kind in ("xsim", "xsim++", "hours_recovered")}
SCORES |= {f"p_at_1{back}{how}": lambda: percentage for back in ("", "_back") for how in ("", "_margin")}
SCORES |= {
    "mining_f1": lambda: f1_percentage,
    "mining_precision": lambda: percentage,
    "mining_recall": lambda: percentage,
}
# of these, rows are what was found, too: one that another evaluation lacks is one of which it found nothing
ABSENT_IS_NOTHING = ("mining_f1", "mining_precision", "mining_recall", "hours_recovered")


def score_of(kind: str) -> ScoreOf:
    """The score of sums `(num_statistics,)` of a measure's rows. Raises InputError for a kind that is not known."""
    try:
        return SCORES[kind.removeprefix("asr_")]()
    except KeyError:
        raise InputError(f"there is no measure {kind!r}; there are {', '.join(SCORES)}") from None
