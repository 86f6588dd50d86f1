"""Retrieval on held-out utterances: does their speech find its text, and its translation, among all of them?"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from seamlessalign.embedders.measures import Retrieval, retrieval
from seamlessalign.embedders.student.frames import Float32, Int64
from seamlessalign.embedders.student.targets import Teacher, label
from seamlessalign.errors import InputError
from seamlessalign.languages import Side


class Said(Protocol):
    """What is said in one language, and its translations: an utterance, or a text."""

    @property
    def lang(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def translations(self) -> tuple[tuple[str, str], ...]: ...


Kind = TypeVar("Kind", bound=Said)


@dataclass(frozen=True)
class Validation:
    """Measures of each side, such as `frA-eng`: French speech and English text."""

    sides: dict[str, Retrieval]
    num_left_out: int  # utterances without frames

    @property
    def p_at_1(self) -> float:
        """The mean over sides of precision at one, both ways, by plain cosine."""
        return float(np.mean([(side.forward + side.backward) / 2 for side in self.sides.values()]))

    def line(self) -> dict[str, Any]:
        """As a line of the metrics has it."""
        sides = {
            name: {"p_at_1": round(side.forward, 4), "back": round(side.backward, 4), "xsim": round(side.xsim, 4)}
            for name, side in self.sides.items()
        }
        return {"p_at_1": self.p_at_1, "sides": sides, "left_out": self.num_left_out}


def hold_out(utterances: Sequence[Kind], share: float) -> tuple[list[Kind], list[Kind]]:
    """Utterances to learn from, and those held out: about `share` of the texts, with all their utterances.

    Utterances that have a text or a translation in common are on one side. Raises InputError where that leaves fewer
    than two texts on a side.
    """
    parent: dict[int, int] = {}

    def root(number: int) -> int:
        while parent.setdefault(number, number) != number:
            parent[number] = number = parent[parent[number]]
        return number

    first: list[int] = []
    for utterance in utterances:
        said = [label(text) for text in (utterance.text, *(text for _, text in utterance.translations))]
        for number in said:
            ours, theirs = sorted((root(said[0]), root(number)))
            parent[theirs] = ours
        first.append(said[0])
    sides: tuple[list[Kind], list[Kind]] = ([], [])
    for utterance, number in zip(utterances, first, strict=True):
        drawn = hashlib.sha256(str(root(number)).encode()).digest()[:8]
        sides[int.from_bytes(drawn, "big") < share * 2**64].append(utterance)
    for side in sides:
        if len({utterance.text for utterance in side}) < 2:
            raise InputError(
                f"{len(utterances)} utterances are too few to hold out a share of {share:g}; name data.validation, or "
                "raise data.validation_share"
            )
    return sides


def first_of_each_language(utterances: Sequence[Said], most: int) -> list[int]:
    """Numbers of at most so many utterances of each language, spread evenly over them."""
    chosen: list[int] = []
    for lang in sorted({utterance.lang for utterance in utterances}):
        numbers = [i for i, utterance in enumerate(utterances) if utterance.lang == lang]
        count = min(most, len(numbers))
        chosen += [numbers[i * len(numbers) // count] for i in range(count)]
    return sorted(chosen)


def measure(utterances: Sequence[Said], rows: Float32, teacher: Teacher, *, spoken: bool = True) -> Validation:
    """Measure unit rows `(num_utterances, dim)`; those that are NaN are left out. Raises InputError if all are.

    spoken: the rows are of speech, which must find its own text too; else of texts, which must find their translations.
    """
    there = [bool(np.isfinite(row).all()) for row in rows]
    sides: dict[str, Retrieval] = {}
    for lang in sorted({utterance.lang for utterance in utterances}):
        views: dict[str, Callable[[Said], str | None]] = {lang: lambda utterance: utterance.text} if spoken else {}
        others = {other for u in utterances if u.lang == lang for other, _ in u.translations}
        views |= {other: lambda u, other=other: dict(u.translations).get(other) for other in sorted(others)}  # type: ignore[misc]
        for other, said in views.items():
            pairs = [(i, said(u)) for i, u in enumerate(utterances) if u.lang == lang and there[i]]
            usable = [(i, text) for i, text in pairs if text is not None]
            if len(usable) > 1:
                texts = [text for _, text in usable]
                numbers: Int64 = np.array([label(text) for text in texts], np.int64)
                found = retrieval(rows[[i for i, _ in usable]], teacher.rows(texts, other), labels=numbers)
                sides[f"{Side(lang, spoken)}-{other}"] = found
    if not sides:
        raise InputError("validation: no language has two utterances in which anything is heard")
    return Validation(sides, there.count(False))
