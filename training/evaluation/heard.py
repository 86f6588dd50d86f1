"""Measures of speech by what a recogniser hears in it: ASR-BLEU, ASR-chrF++ and error rates."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version

from seamlessalign.errors import InputError
from seamlessalign.languages import to_model_code
from seamlessalign.training.evaluation.config import EvaluationConfig
from seamlessalign.training.evaluation.measures import Float64, Measure, Measured
from seamlessalign.training.evaluation.rows import TestRow
from seamlessalign.training.evaluation.subjects import Subject, Tools
from seamlessalign.training.evaluation.text import ErrorRate, normaliser, normaliser_name, text_measure


def measured(subject: Subject, tools: Tools) -> Iterator[Measured]:
    """`measures.speech` of what a system said."""
    if subject.spoke and tools.config.measures.speech:
        heard, ids = subject.heard(), subject.ids()
        # where there is no sound because the system failed, that is the reason
        failed = {
            place: (subject.outputs[place].reason or reason) if reason == "no_sound" else reason
            for place, reason in heard.failed.items()
        }
        behind = [{"id": ids[place], "what": reason} for place, reason in sorted(failed.items())]
        for number, name in enumerate(tools.config.measures.speech):
            measure = heard_measure(name, subject.tgt_lang, tools.recogniser.signature)
            one = subject.measured(name, measure, heard.texts, dict(Counter(failed.values())))
            told = {"trouble": heard.trouble} if heard.trouble else {}
            yield replace(one, details=one.details | told, behind=[] if number else behind)


def check_languages(config: EvaluationConfig, rows: Sequence[TestRow]) -> None:
    """Raise InputError where Whisper is to hear a language that no Whisper knows, before anything is heard."""
    if config.measures.speech and config.measures.asr.function is None:
        unknown = sorted({row.tgt_lang for row in rows if to_model_code(row.tgt_lang, "whisper") is None})
        if unknown:
            raise InputError(
                f"Whisper does not know {', '.join(unknown)}: evaluate these rows apart with measures.speech=[], or "
                "give measures.asr.function"
            )


class Heard:
    """A measure of text, of what was heard: both sides go through Whisper's normaliser first."""

    def __init__(self, measure: Measure, lang: str, recogniser: str) -> None:
        """recogniser: its signature."""
        self._measure, self._normalise, self._recogniser = measure, normaliser(lang), recogniser
        self._kind = normaliser_name(lang)
        self.name = f"ASR-{measure.name}"
        self.higher_is_better = measure.higher_is_better

    def signature(self, num_references: int = 1) -> str:
        return self._told(self._measure.signature(num_references))

    def row_signature(self, num_references: int = 1) -> str:
        return self._told(self._measure.row_signature(num_references))

    def _told(self, signature: str) -> str:
        return f"{signature}|norm:{self._kind}-{version('whisper_normalizer')}|{self._recogniser}"

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Float64:
        made = [self._normalise(text) for text in hypotheses]
        return self._measure.statistics(made, [[self._normalise(text) for text in some] for some in references])

    def score(self, sums: Float64) -> float:
        return self._measure.score(sums)

    def row_score(self, numbers: Float64) -> float:
        return self._measure.row_score(numbers)


def heard_measure(name: str, lang: str, recogniser: str) -> Measure:
    """`asr_bleu`, `asr_chrf++` or `asr_error_rate` of a language (ISO 639-3), with what a recogniser heard.

    Error rates are normalised once, as they are of text. Raises InputError for another name.
    """
    measure = text_measure(name.removeprefix("asr_"), lang)
    if isinstance(measure, ErrorRate):
        measure = ErrorRate(measure.unit, lang, normalised=False)
    return Heard(measure, lang, recogniser)
