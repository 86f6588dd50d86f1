"""What the pages of evaluations write in one way: directions, numbers, differences, and systems with their marks."""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

from seamlessalign.errors import ConfigError
from seamlessalign.languages import Side, get_language
from seamlessalign.markup import Markup, escape, tag
from seamlessalign.training.evaluation.resampling import Comparison
from seamlessalign.training.evaluation.written import Aim, WrittenScore

SIGNIFICANT = 0.05  # a p below it may be called a difference
_ENGLISH = "eng"


def html_lang(code: str) -> str | None:
    """What HTML calls a language, for fonts and for those who hear a page."""
    try:
        language = get_language(code)
    except ConfigError:
        return None
    return language.iso639_1 or language.iso639_3


def names_of(direction: str) -> str:
    """A direction in words, `French → English`, `French speech → English`; nothing where it is none of languages."""
    names = [_side_name(side) for side in direction.split("-")]
    return " → ".join(name for name in names if name) if all(names) else ""


def group_of(direction: str) -> str:
    """The group in which papers average a direction: into English, out of English, or others."""
    langs = [lang_of(side) for side in direction.split("-")]
    if len(langs) != 2 or None in langs:
        return "others"
    if langs.count(_ENGLISH) != 1:
        return "others"
    return "X → eng" if langs[1] == _ENGLISH else "eng → X"


@lru_cache(maxsize=10_000)
def lang_of(side: str) -> str | None:
    """The language of a side, `fra` or `frA`, in ISO 639-3; None for what is no side."""
    try:
        return Side.parse(side).lang
    except ConfigError:
        return None


def _side_name(side: str) -> str | None:
    lang = lang_of(side)
    if lang is None:
        return None
    return f"{get_language(lang).name} speech" if Side.parse(side).is_audio else get_language(lang).name


def label_of(direction: str, condition: str) -> str:
    return " · ".join(part for part in (direction, condition) if part) or "all"


def written(value: float | None, places: int, *, sign: bool = False) -> str:
    """A number with so many decimals; a dash where there is none; with a real minus."""
    if value is None or not math.isfinite(value):
        return "–"
    shown = f"{value:{'+' if sign else ''},.{places}f}"
    if not any(digit in shown for digit in "123456789"):
        shown = shown.lstrip("+-")  # what is rounded to nothing has no sign
    return shown.replace("-", "−")


def exact(value: float | None, places: int) -> Markup:
    """A number as it is read, with more digits of it for programs."""
    return tag("data", written(value, places), value="" if value is None else f"{value:.8g}")


def interval(low: float | None, high: float | None, places: int) -> str:
    return f"{written(low, places)} to {written(high, places)}"


def significant(found: Comparison) -> bool:
    """Whether chance does not explain a difference: by its p, and by its interval, which must leave out nothing.

    By both, since p of the paired bootstrap, which is sacrebleu's, is half of what a test of both sides would say.
    """
    return found.p_value < SIGNIFICANT and not found.low <= 0 <= found.high


def verdict(found: Comparison, aim: Aim) -> str:
    """`better` or `worse`; `differs` where neither side is; nothing where chance explains the difference."""
    if not significant(found) or not found.difference:
        return ""
    if aim == "zero":
        return "differs"
    return "better" if (found.difference > 0) == (aim == "high") else "worse"


def verdicts_of(aim: Aim) -> tuple[str, ...]:
    """All that `verdict` may say."""
    return ("differs",) if aim == "zero" else ("better", "worse")


def best_value(values: Iterable[float], aim: Aim) -> float:
    return max(values) if aim == "high" else min(values, key=abs) if aim == "zero" else min(values)


def difference_cell(found: Comparison, aim: Aim, places: int) -> list[Markup]:
    """How a system differs, in words and numbers: the pieces of a cell."""
    told = verdict(found, aim)
    difference = written(found.difference, places, sign=True)
    low, high = written(found.low, places, sign=True), written(found.high, places, sign=True)
    probable = (
        "p –" if math.isnan(found.p_value) else "p < 0.001" if found.p_value < 0.0005 else f"p {found.p_value:.3f}"
    )
    first = tag("b", f"{difference} {told}", class_=told) if told else escape(difference)
    return [tag("small", first, f" ({low} to {high}), {probable}", class_="difference")]


def best_of(scores: Sequence[WrittenScore]) -> set[str]:
    """Systems that have the best score of a row; none where all have the same."""
    there = [(one.score, one.system) for one in scores if one.score is not None]
    if len({value for value, _ in there}) < 2:
        return set()
    best = best_value((value for value, _ in there), scores[0].aim)
    return {system for value, system in there if value == best}


def plain_list(names: Sequence[str], most: int = 5) -> str:
    """Some names, and that there are more."""
    return ", ".join(short(name) for name in names[:most]) + (" …" if len(names) > most else "")


def short(name: str, most: int = 80) -> str:
    """A name of which not more than so many letters are shown."""
    return name if len(name) <= most else f"{name[:most]}…"
