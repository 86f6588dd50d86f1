"""Measures of text: BLEU, chrF and error rates, with the settings that the SeamlessM4T paper has for each language.

BLEU and chrF are sacrebleu's own: it counts n-grams and computes the score of sums. Error rates are edits over words,
or over characters where a language is written without spaces, of texts that went through Whisper's normalisers.
"""

import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

import numpy as np

from seamlessalign.errors import InputError, MissingPackageError
from seamlessalign.languages import get_language
from seamlessalign.training.evaluation.measures import (
    Float64,
    Measure,
    Measured,
    check_rows,
    percentage,
    references_told,
)
from seamlessalign.training.evaluation.subjects import Subject, Tools

# Written without spaces between words: BLEU of characters, and an error rate of characters
UNSPACED = ("cmn", "jpn", "lao", "mya", "tha")

TEXT_MEASURES = ("bleu", "spbleu", "chrf", "chrf++", "error_rate", "wer", "cer")

Normaliser = Callable[[str], str]


def measured(subject: Subject, tools: Tools) -> Iterator[Measured]:
    """`measures.text` of what a system wrote."""
    if subject.wrote:
        named = set[str]()
        for name in tools.config.measures.text:
            measure = text_measure(name, subject.tgt_lang, sentencepiece=tools.config.measures.sentencepiece)
            if measure.name not in named:  # error_rate is WER or CER, which may be asked for too
                yield subject.measured(name, measure, subject.texts())
            named.add(measure.name)


def text_measure(name: str, lang: str, *, sentencepiece: str | None = None) -> Measure:
    """A measure by its name, as the paper has it for a language.

    name: `bleu`, `spbleu` (with the file `sentencepiece`), `chrf`, `chrf++`, `error_rate`, which is WER or CER, and
    `wer`, `cer`, which are what they say. lang: ISO 639-3. Raises InputError for another name, MissingPackageError.
    """
    unspaced = get_language(lang).iso639_3 in UNSPACED
    match name:
        case "bleu":
            return Bleu("char" if unspaced else "13a")
        case "spbleu":
            if sentencepiece is None:
                raise InputError("spbleu needs the SentencePiece file of FLORES-200: give sentencepiece")
            return Bleu("none", sentencepiece=sentencepiece)
        case "chrf" | "chrf++":
            return Chrf(word_order=2 if name == "chrf++" else 0)
        case "error_rate":
            return ErrorRate("cer" if unspaced else "wer", lang)
        case "wer":
            return ErrorRate("wer", lang)
        case "cer":
            return ErrorRate("cer", lang)
    raise InputError(f"there is no measure of text {name!r}; there are {', '.join(TEXT_MEASURES)}")


# BLEU and chrF


class _Sacrebleu:
    """A measure that sacrebleu counts and scores."""

    higher_is_better = True

    def __init__(self, metric: Any) -> None:
        self._metric = metric

    def _prepared(self, text: str) -> str:
        return text

    def signature(self, num_references: int = 1) -> str:
        """sacrebleu's own; -1 for rows with different numbers of references."""
        return _signature_of(self._metric, num_references)

    def row_signature(self, num_references: int = 1) -> str:
        return self.signature(num_references)

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Float64:
        check_rows(hypotheses, references)
        # sacrebleu leaves out what is None: rows may have different numbers of references
        streams = [
            [None if text is None else self._prepared(text) for text in stream] for stream in zip_longest(*references)
        ]
        made = [self._prepared(text) for text in hypotheses]
        return np.array(self._metric._extract_corpus_statistics(made, streams), np.float64)

    def score(self, sums: Float64) -> float:
        return _score_of(self._metric, sums)

    def row_score(self, numbers: Float64) -> float:
        return self.score(numbers)


def _score_of(metric: Any, sums: Float64) -> float:
    # whole numbers, on which BLEU's smoothing works
    return float(metric._compute_score_from_stats([int(value) for value in sums]).score)


def _signature_of(metric: Any, num_references: int) -> str:
    metric.num_refs = num_references
    return str(metric.get_signature())


class Bleu(_Sacrebleu):
    """BLEU of a corpus, mixed case, exponential smoothing. Of pieces of `sentencepiece` it is spBLEU.

    A row by itself has as many orders of n-grams as it is long (`eff:yes`), as sacrebleu's BLEU of sentences.
    """

    def __init__(self, tokenizer: str, *, sentencepiece: str | None = None) -> None:
        """Raises InputError for a file that is no model of SentencePiece."""
        bleu = _package("sacrebleu.metrics.bleu").BLEU
        # force: texts that end in " ." are as somebody wrote them
        super().__init__(bleu(tokenize=tokenizer, force=True))
        self._of_a_row = bleu(tokenize=tokenizer, force=True, effective_order=True)
        self.name = "BLEU" if sentencepiece is None else "spBLEU"
        self._pieces = None if sentencepiece is None else sentencepiece_model(sentencepiece)

    def _prepared(self, text: str) -> str:
        return text if self._pieces is None else " ".join(self._pieces[0].encode(text.rstrip(), out_type=str))

    def row_score(self, numbers: Float64) -> float:
        return _score_of(self._of_a_row, numbers)

    def signature(self, num_references: int = 1) -> str:
        return self._told(self._metric, num_references)

    def row_signature(self, num_references: int = 1) -> str:
        return self._told(self._of_a_row, num_references)

    def _told(self, metric: Any, num_references: int) -> str:
        told = _signature_of(metric, num_references)
        return told if self._pieces is None else told.replace("tok:none", f"tok:spm-{self._pieces[1]}")


class Chrf(_Sacrebleu):
    """chrF of up to 6 characters, with `word_order: 2` chrF++."""

    def __init__(self, word_order: int = 2) -> None:
        super().__init__(_package("sacrebleu.metrics.chrf").CHRF(word_order=word_order))
        self.name = f"chrF{self._metric.beta}" + "+" * word_order


@cache
def sentencepiece_model(path: str) -> tuple[Any, str]:
    """The model of a file, and what names it: the first digits of the file's SHA-256."""
    pieces = _package("sentencepiece").SentencePieceProcessor()
    try:
        content = Path(path).read_bytes()
        pieces.LoadFromSerializedProto(content)
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path}: is no SentencePiece model that can be read: {error}") from error
    return pieces, hashlib.sha256(content).hexdigest()[:8]


def _package(name: str) -> Any:
    import importlib

    try:
        found = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingPackageError(name.split(".")[0], "evaluate", "measures of text") from error
    logging.getLogger("sacrebleu").setLevel(logging.ERROR)  # what it would say of languages is settled here
    return found


# Error rates


class ErrorRate:
    """Edits over words or characters of the reference, in per cent, after Whisper's normaliser.

    English has its own, which writes numbers and spellings in one way; others have the one that takes away case,
    punctuation and marks. Of several references the one with the fewest edits counts, of these the longest. Characters
    are counted without the spaces between words.
    """

    higher_is_better = False

    def __init__(self, unit: Literal["wer", "cer"], lang: str, *, normalised: bool = True) -> None:
        """normalised: False compares texts as they are."""
        self.unit, self.name = unit, unit.upper()
        self._kind = normaliser_name(lang) if normalised else None
        self._normalise = normaliser(lang) if normalised else str

    def signature(self, num_references: int = 1) -> str:
        unit = "char|spaces:no" if self.unit == "cer" else "word"
        told = f"{references_told(num_references)}|unit:{unit}"
        if self._kind is None:
            return told
        return f"{told}|norm:{self._kind}|version:whisper_normalizer-{version('whisper_normalizer')}"

    def row_signature(self, num_references: int = 1) -> str:
        return self.signature(num_references)

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Float64:
        """Edits, and words or characters of the reference: `(num_rows, 2)`."""
        check_rows(hypotheses, references)
        distance = _package("rapidfuzz.distance.Levenshtein").distance
        found = np.empty((len(hypotheses), 2))
        for row, (made, wanted) in enumerate(zip(hypotheses, references, strict=True)):
            ours = self._units(made)
            theirs = [self._units(text) for text in wanted]
            edits, minus = min((distance(ours, units), -len(units)) for units in theirs)
            found[row] = edits, -minus
        return found

    def score(self, sums: Float64) -> float:
        return percentage(sums)

    def row_score(self, numbers: Float64) -> float:
        return percentage(numbers)

    def _units(self, text: str) -> list[str]:
        words = self._normalise(text).split()
        return list("".join(words)) if self.unit == "cer" else words


def normaliser_name(lang: str) -> str:
    return "whisper-english" if get_language(lang).iso639_3 == "eng" else "whisper-basic"


@cache
def normaliser(lang: str) -> Normaliser:
    """Whisper's, for English or for any other language (ISO 639-3), which no text stops."""
    if get_language(lang).iso639_3 == "eng":
        whispers: Normaliser = _package("whisper_normalizer.english").EnglishTextNormalizer()
    else:
        whispers = _package("whisper_normalizer.basic").BasicTextNormalizer()

    def normalised(text: str) -> str:
        text = _without_circles(text)
        try:
            return whispers(text)
        except (AssertionError, ValueError):  # Python makes no numbers of so many digits
            return whispers(_LONG_NUMBER.sub(r"\g<0> ", text))

    return normalised


_LONG_NUMBER = re.compile(r"\d{4000}")
_LONG_SPACE = re.compile(r"\s{1000,}")
_MANY = (
    10_000_000  # steps of Whisper's expressions, which go to the end of a text from each bracket that nothing closes
)


def _without_circles(text: str) -> str:
    """A text of which a model wrote the same brackets or spaces over and over, which Whisper's normaliser makes one
    space of, in a time that grows with the square of their number."""
    for opening, closing in (("<[", ">]"), ("(", ")")):
        end = max(text.rfind(bracket) for bracket in closing) + 1
        opened = sum(text.count(bracket, end) for bracket in opening)
        if opened * (len(text) - end) > _MANY:
            text = text[:end] + text[end:].translate(str.maketrans(opening, " " * len(opening)))
    return _LONG_SPACE.sub(" ", text)
