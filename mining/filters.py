"""Reasons to drop a mined pair, one small function each: times, languages, and how many pairs are wanted.

Every function takes columns and returns a string column with the reason where a row is to be dropped and null where it
is not. A row that lacks what a filter looks at, such as the times of a text side, passes it. What texts say and what
recordings sound like is looked at in `text_filters` and `audio_filters`, in the same way.
"""

from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from seamlessalign.errors import InputError
from seamlessalign.rows import SAMPLE_RATE

TOO_SHORT = "too_short"
TOO_LONG = "too_long"
DURATION_RATIO = "duration_ratio"
TOO_FAST = "too_fast"
TOO_SLOW = "too_slow"
WRONG_LANGUAGE = "wrong_language"
UNCERTAIN_TEXT_LANGUAGE = "uncertain_text_language"
UNCERTAIN_SPEECH_LANGUAGE = "uncertain_speech_language"
REPEATED_TEXT = "repeated_text"
BEYOND_MAX_HOURS = "beyond_max_hours"

Bools = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.floating[Any]]


def duration(start: Any, end: Any, *, min_seconds: float, max_seconds: float) -> Any:
    """`too_short` or `too_long` for spans (samples at 16 kHz) outside [min_seconds, max_seconds]."""
    _check_range("seconds", min_seconds, max_seconds)
    seconds = _seconds(start, end)
    return reason_of((TOO_SHORT, pc.less(seconds, min_seconds)), (TOO_LONG, pc.greater(seconds, max_seconds)))


def duration_ratio(src_start: Any, src_end: Any, tgt_start: Any, tgt_end: Any, *, max_ratio: float) -> Any:
    """`duration_ratio` where one of two spans (samples) is more than max_ratio times as long as the other."""
    if not max_ratio >= 1:
        raise InputError(f"max_ratio is {max_ratio}: the longer span over the shorter one is never below 1")
    one, two = _seconds(src_start, src_end), _seconds(tgt_start, tgt_end)
    longer = pc.max_element_wise(one, two, skip_nulls=False)
    shorter = pc.min_element_wise(one, two, skip_nulls=False)
    return reason_of((DURATION_RATIO, pc.greater(longer, pc.multiply(shorter, max_ratio))))


def chars_per_second(text: Any, start: Any, end: Any, *, min_rate: float, max_rate: float) -> Any:
    """`too_slow` or `too_fast` where the text has fewer or more characters (code points) per second of the span."""
    _check_range("rate", min_rate, max_rate)
    chars = pc.cast(pc.utf8_length(text), pa.float64())
    seconds = _seconds(start, end)
    return reason_of(
        (TOO_SLOW, pc.less(chars, pc.multiply(seconds, min_rate))),
        (TOO_FAST, pc.greater(chars, pc.multiply(seconds, max_rate))),
    )


def language(lang: Any, expected: str) -> Any:
    """`wrong_language` where a row's language (ISO 639-3) is not the one of its side of the direction."""
    return reason_of((WRONG_LANGUAGE, pc.not_equal(lang, expected)))


def text_language_probability(lang_prob: Any, *, min_prob: float) -> Any:
    """`uncertain_text_language` where the identifier gave the sentence's language less than min_prob."""
    return _probability(lang_prob, min_prob, UNCERTAIN_TEXT_LANGUAGE)


def speech_language_probability(lang_prob: Any, *, min_prob: float) -> Any:
    """`uncertain_speech_language` where the identifier gave the recording's language less than min_prob."""
    return _probability(lang_prob, min_prob, UNCERTAIN_SPEECH_LANGUAGE)


def repeated_text(text: Any, scores: Scores, left: Bools, *, max_pairs: int) -> Any:
    """`repeated_text` for the pairs of a text behind its best `max_pairs` by score; equal scores in the order of rows.

    text: what counts as one text (see `text_filters.fold`); scores, left: `(num_pairs,)`. Only rows that are `left`,
    not dropped for another reason, are counted and can be dropped.
    """
    if max_pairs < 1:
        raise InputError(f"max_pairs is {max_pairs}: at least 1 pair of a text has to stay")
    codes = pc.index_in(text, value_set=pc.drop_null(pc.unique(text))).to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(np.asarray(left, bool) & ~np.isnan(codes.astype(np.float64)))
    rows = rows[np.lexsort((rows, -np.asarray(scores, np.float64)[rows], codes[rows]))]
    places = np.arange(len(rows))
    begins = np.diff(codes[rows], prepend=-1) != 0
    rank = places - np.maximum.accumulate(np.where(begins, places, 0)) if len(rows) else places
    dropped = np.zeros(len(codes), bool)
    dropped[rows[rank >= max_pairs]] = True
    return reason_of((REPEATED_TEXT, pa.array(dropped)))


def top_hours(start: Any, end: Any, scores: Scores, left: Bools, *, max_hours: float) -> Any:
    """`beyond_max_hours` for what is behind the best pairs by score that together last at most `max_hours`.

    start, end: spans in samples; scores, left: `(num_pairs,)`. Only rows that are `left` are counted and can be
    dropped. The first pair that would go beyond ends the selection, so that no pair is taken before one with a higher
    score; equal scores in the order of rows.
    """
    if not max_hours > 0:
        raise InputError(f"max_hours is {max_hours}: it must be positive")
    samples = pc.fill_null(pc.subtract(end, start), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    rows = np.flatnonzero(np.asarray(left, bool))
    rows = rows[np.lexsort((rows, -np.asarray(scores, np.float64)[rows]))]
    dropped = np.zeros(len(samples), bool)
    dropped[rows[np.cumsum(samples[rows]) > max_hours * 3600 * SAMPLE_RATE]] = True
    return reason_of((BEYOND_MAX_HOURS, pa.array(dropped)))


def first_reason(*reasons: Any) -> Any:
    """The first reason of each row over several filters, in the order given; null where all passed."""
    if not reasons:
        raise InputError("no filters were given: name at least one")
    return reduce(pc.coalesce, reasons)


def reason_of(*rules: tuple[str, Any]) -> Any:
    """The name of the first rule that is true for a row; null where none is, or where it is not known."""
    nothing = pa.scalar(None, pa.string())
    return first_reason(*(pc.if_else(pc.fill_null(dropped, False), name, nothing) for name, dropped in rules))


def _seconds(start: Any, end: Any) -> Any:
    return pc.divide(pc.cast(pc.subtract(end, start), pa.float64()), float(SAMPLE_RATE))


def _probability(lang_prob: Any, min_prob: float, reason: str) -> Any:
    if not 0 <= min_prob <= 1:
        raise InputError(f"min_prob is {min_prob}: a probability is between 0 and 1")
    # in float64, the stored 0.9 would be below a wanted 0.9
    return reason_of((reason, pc.less(lang_prob, pa.scalar(min_prob, lang_prob.type))))


def _check_range(what: str, low: float, high: float) -> None:
    if not 0 <= low <= high:
        raise InputError(f"min_{what} is {low} and max_{what} {high}: give 0 <= min <= max")
