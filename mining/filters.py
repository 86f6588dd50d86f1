"""Reasons to drop a mined pair, one small function each.

Every function takes columns and returns a string column with the reason where a row is to be dropped and null where it
is not. A row that lacks what a filter looks at, such as the times of a text side, passes it.
"""

from functools import reduce
from typing import Any

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


def duration(start: Any, end: Any, *, min_seconds: float, max_seconds: float) -> Any:
    """`too_short` or `too_long` for spans (samples at 16 kHz) outside [min_seconds, max_seconds]."""
    _check_range("seconds", min_seconds, max_seconds)
    seconds = _seconds(start, end)
    return _reason((TOO_SHORT, pc.less(seconds, min_seconds)), (TOO_LONG, pc.greater(seconds, max_seconds)))


def duration_ratio(src_start: Any, src_end: Any, tgt_start: Any, tgt_end: Any, *, max_ratio: float) -> Any:
    """`duration_ratio` where one of two spans (samples) is more than max_ratio times as long as the other."""
    if not max_ratio >= 1:
        raise InputError(f"max_ratio is {max_ratio}: the longer span over the shorter one is never below 1")
    one, two = _seconds(src_start, src_end), _seconds(tgt_start, tgt_end)
    longer = pc.max_element_wise(one, two, skip_nulls=False)
    shorter = pc.min_element_wise(one, two, skip_nulls=False)
    return _reason((DURATION_RATIO, pc.greater(longer, pc.multiply(shorter, max_ratio))))


def chars_per_second(text: Any, start: Any, end: Any, *, min_rate: float, max_rate: float) -> Any:
    """`too_slow` or `too_fast` where the text has fewer or more characters (code points) per second of the span."""
    _check_range("rate", min_rate, max_rate)
    chars = pc.cast(pc.utf8_length(text), pa.float64())
    seconds = _seconds(start, end)
    return _reason(
        (TOO_SLOW, pc.less(chars, pc.multiply(seconds, min_rate))),
        (TOO_FAST, pc.greater(chars, pc.multiply(seconds, max_rate))),
    )


def language(lang: Any, expected: str) -> Any:
    """`wrong_language` where a row's language (ISO 639-3) is not the one of its side of the direction."""
    return _reason((WRONG_LANGUAGE, pc.not_equal(lang, expected)))


def first_reason(*reasons: Any) -> Any:
    """The first reason of each row over several filters, in the order given; null where all passed."""
    if not reasons:
        raise InputError("no filters were given: name at least one")
    return reduce(pc.coalesce, reasons)


def _seconds(start: Any, end: Any) -> Any:
    return pc.divide(pc.cast(pc.subtract(end, start), pa.float64()), float(SAMPLE_RATE))


def _reason(*rules: tuple[str, Any]) -> Any:
    """The name of the first rule that is true for a row."""
    nothing = pa.scalar(None, pa.string())
    return first_reason(*(pc.if_else(pc.fill_null(dropped, False), name, nothing) for name, dropped in rules))


def _check_range(what: str, low: float, high: float) -> None:
    if not 0 <= low <= high:
        raise InputError(f"min_{what} is {low} and max_{what} {high}: give 0 <= min <= max")
