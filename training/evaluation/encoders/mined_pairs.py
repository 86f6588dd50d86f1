"""Tables of pairs, those that there are to find and those that were found, and what is right of the latter at any
threshold.

What there is to find are items. Mostly an item is a pair of ids, and a pair that was found is right when it is one.
Where pairs were judged, as those of speech are, whose spans no gold names, each says whether it is right and which item
it is; several may be the same.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import InputError
from seamlessalign.speech_sources import text_lines
from seamlessalign.training.evaluation.encoders.mining_config import Gold, PairColumns, PairTable
from seamlessalign.training.evaluation.rows import id_of, table_lines
from seamlessalign.typed_config import digest

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

_SCORE_COLUMNS = ("margin", "score")
_TEXT_COLUMNS = ("src_text", "tgt_text")  # of pairs, where they are there: wrong pairs are shown with them


@dataclass(frozen=True)
class Items:
    """What there is to find in one direction."""

    units: dict[str, str]  # item → what is drawn when scores are resampled: its source sentence, or it itself
    judged: bool  # whether pairs say themselves what they find
    seconds: dict[str, float] | None = None  # of speech, by item
    nameless: int = 0  # further items of which no more is known
    doubled: int = 0  # lines of items that were there already


@dataclass(frozen=True)
class Pairs:
    """What a system found in one direction: distinct pairs, the best score first, as it is in the table for equals."""

    names: list[tuple[str, str]]  # source and target
    items: list[str | None]  # that a pair finds; None where it is wrong
    scores: Float64 | None  # float64; None where the table has none
    odd: Mapping[str, int] = field(default_factory=dict)  # counts of what is out of the ordinary
    texts: Mapping[tuple[str, str], tuple[Any, Any]] = field(default_factory=dict)  # of pairs, for people
    seconds: Mapping[tuple[str, str], float] = field(default_factory=dict)  # of pairs, where the table says
    single: bool = True  # whether scores are float32, as which thresholds are compared with them

    def unit(self, place: int, gold: Items) -> str:
        """What the pair at a place belongs to when scores are resampled."""
        item = self.items[place]
        return gold.units[item] if item is not None else f"src:{self.names[place][0]}"

    def above(self, threshold: float | None) -> npt.NDArray[np.bool_]:
        """Which pairs have a threshold's score or more; all, where there is no threshold."""
        if threshold is None or self.scores is None:
            return np.ones(len(self.items), bool)
        return np.asarray(self.scores >= (float(np.float32(threshold)) if self.single else threshold))


@dataclass(frozen=True)
class Sweep:
    """Counts at every threshold, of which the pairs with this score or more are taken; thresholds descend."""

    thresholds: Float64
    right: Int64  # pairs
    predicted: Int64  # pairs
    found: Int64  # items
    precision: Float64 = field(repr=False)
    recall: Float64 = field(repr=False)
    f1: Float64 = field(repr=False)

    @property
    def best(self) -> int:
        """Where F1 is best, the highest of several thresholds."""
        return int(np.argmax(np.round(self.f1, 12)))


def sweep(pairs: Pairs, gold: Items) -> Sweep:
    """Counts at all thresholds among the scores of pairs, of which there is one at least."""
    assert pairs.scores is not None
    right = np.array([item is not None for item in pairs.items])
    seen: set[str] = set()
    first = np.array([item is not None and item not in seen and not seen.add(item) for item in pairs.items])  # type: ignore[func-returns-value]
    last = np.flatnonzero(np.append(pairs.scores[1:] != pairs.scores[:-1], True))  # of equal scores
    hits, found, predicted = np.cumsum(right)[last], np.cumsum(first)[last], last + 1
    total = len(gold.units) + gold.nameless
    precision, recall = hits / predicted, found / total
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros(len(last)), where=both > 0)
    return Sweep(pairs.scores[last], hits, predicted, found, precision, recall, f1)


def scored_pairs(
    names: Sequence[tuple[str, str]],
    items: Sequence[str | None],
    scores: Float64,
    odd: Mapping[str, int],
    texts: Mapping[tuple[str, str], tuple[Any, Any]] | None = None,
    seconds: Mapping[tuple[str, str], float] | None = None,
) -> Pairs:
    """Pairs with scores `(num_pairs,)`, in any order."""
    order = np.argsort(-scores, kind="stable")
    sorted_scores = scores[order]
    with np.errstate(over="ignore"):
        single = bool(np.all(sorted_scores.astype(np.float32) == sorted_scores))
    places = order.tolist()
    return Pairs(
        [names[i] for i in places], [items[i] for i in places], sorted_scores, odd, texts or {}, seconds or {}, single
    )


# Reading


def read_gold(section: Gold, direction: str) -> dict[str, Items]:
    """Direction → what there is to find. direction: of a table that does not say.

    Raises InputError for a table without the columns, or with seconds in some rows alone.
    """
    if section.path is None:
        counts = section.count if isinstance(section.count, dict) else {direction: section.count or 0}
        return {name: Items({}, judged=True, nameless=number) for name, number in counts.items()}
    columns, found = section.columns, dict[str, Items]()
    for number, (where, values) in enumerate(lines_of(section.path, section.fields, columns)):
        judged = columns.src not in values or columns.tgt not in values
        if judged and columns.truth not in values:
            raise InputError(
                f"{where}: has neither {columns.src} and {columns.tgt} nor {columns.truth}, but {', '.join(values)}"
            )
        if judged:
            item = id_of(values, columns.truth, number, where)
            unit = f"item:{item}"
        else:
            src, tgt = (id_of(values, column, number, where) for column in (columns.src, columns.tgt))
            item, unit = f"{src}\t{tgt}", f"src:{src}"
        name = _direction(values, columns, direction)
        there = found.setdefault(name, Items({}, judged, {} if columns.seconds in values else None))
        if there.judged != judged or (there.seconds is None) != (columns.seconds not in values):
            raise InputError(f"{where}: has other columns than lines before it")
        if item in there.units:
            found[name] = _with_one_more(there)
            continue
        there.units[item] = unit
        if there.seconds is not None:
            there.seconds[item] = _number(values[columns.seconds], f"{where}: {columns.seconds}")
    if not found:
        raise InputError(f"{section.path}: has no rows: there is nothing to find")
    return found


def read_pairs(name: str, section: PairTable, gold: Mapping[str, Items], direction: str) -> dict[str, Pairs]:
    """Direction → what a system found; of directions that gold has not, too. direction: of a table that does not say.

    Raises InputError for columns that are missing, scores that are not numbers, and where gold has none of its
    directions.
    """
    columns, read = section.columns, dict[str, _Reading]()
    for number, (where, values) in enumerate(lines_of(section.path, section.fields, columns)):
        there = _direction(values, columns, direction)
        reading = read.setdefault(there, _Reading())
        if columns.kept is not None and not _yes(values, columns.kept, where):
            reading.not_kept += 1
            continue
        pair, score, item = _line(values, columns, gold.get(there), number, where)
        reading.take(pair, score, item, where)
        if columns.seconds in values:
            reading.seconds[pair] = _number(values[columns.seconds], f"{where}: {columns.seconds}")
        if item is None and values.keys() & set(_TEXT_COLUMNS):
            reading.texts[pair] = values.get(_TEXT_COLUMNS[0]), values.get(_TEXT_COLUMNS[1])
    if read and not read.keys() & gold.keys():
        raise InputError(
            f"{section.path}: {name} has pairs of {', '.join(sorted(read))}, gold of {', '.join(sorted(gold))}: give "
            "both a column of directions, or neither"
        )
    return {there: reading.pairs(section.path) for there, reading in read.items()}


def check_found(pairs: Pairs, gold: Items, what: str) -> None:
    """Raise InputError where judged pairs find what gold has not. what: for people."""
    found = {item for item in pairs.items if item is not None}
    if gold.nameless and len(found) > gold.nameless:
        raise InputError(f"{what}: {len(found)} different things are found, but gold.count is {gold.nameless}")
    other = sorted(found - gold.units.keys())
    if other and not gold.nameless:
        raise InputError(f"{what}: {other[0]} is found, which gold has not")


def named(gold: Items, pairs: Sequence[Pairs]) -> Items:
    """Items of which only the number was known, named after what systems found of them; the others by numbers."""
    if not gold.nameless:
        return gold
    found = sorted({item for some in pairs for item in some.items if item is not None})
    units = {item: f"item:{item}" for item in found}
    # where systems find different things, together they may find more than there are; then some were found twice
    units |= {f"\t{number}": f"item:not found {number}" for number in range(gold.nameless - len(found))}
    return Items(units, judged=True)


def gold_digest(gold: Mapping[str, Items]) -> str:
    """First 8 hex digits that name what there is to find, in any order."""
    told = [(name, sorted(one.units), one.nameless, sorted((one.seconds or {}).items())) for name, one in gold.items()]
    return digest(sorted(told))[:8]


# Lines


def lines_of(
    place: str, fields: Sequence[str], columns: PairColumns | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Lines of a table: where they are for people, and their values.

    fields: names of columns, of tab-separated values that have no line of them, whatever the file is called. columns:
    those that Parquet files are read for, by default all.
    """
    if not fields:
        used = None if columns is None else {*columns.model_dump().values(), *_SCORE_COLUMNS, *_TEXT_COLUMNS}
        yield from ((where, values) for where, values, _ in table_lines(place, used))
        return
    for number, line in enumerate(text_lines(place)):
        told = line.removesuffix("\r").split("\t")
        if len(told) != len(fields):
            raise InputError(f"{place} line {number + 1}: has {len(told)} columns, not {', '.join(fields)}")
        yield f"{place} line {number + 1}", dict(zip(fields, told, strict=True))


@dataclass
class _Reading:
    """The pairs of one direction, as they are read."""

    best: dict[tuple[str, str], tuple[float | None, str | None]] = field(default_factory=dict)  # pair → score, item
    doubled: int = 0  # lines of pairs that were there already: the best score counts
    not_kept: int = 0  # lines that say that they were not taken
    texts: dict[tuple[str, str], tuple[Any, Any]] = field(default_factory=dict)
    seconds: dict[tuple[str, str], float] = field(default_factory=dict)

    def take(self, pair: tuple[str, str], score: float | None, item: str | None, where: str) -> None:
        there = self.best.get(pair)
        self.doubled += there is not None
        if there is not None and there[1] != item:
            raise InputError(f"{where}: {pair[0]} and {pair[1]} were judged otherwise in a line before it")
        if there is None or (score is not None and there[0] is not None and score > there[0]):
            self.best[pair] = score, item

    def pairs(self, place: str) -> Pairs:
        names, scores = list(self.best), [score for score, _ in self.best.values()]
        items = [item for _, item in self.best.values()]
        odd = {"doubled pairs": self.doubled, "pairs not kept": self.not_kept}
        known = [score for score in scores if score is not None]
        if self.seconds and len(self.seconds) < len(names):
            raise InputError(f"{place}: {len(names) - len(self.seconds)} pairs have no seconds, and others have some")
        if names and not known:
            return Pairs(names, items, None, odd, self.texts, self.seconds)
        if len(known) < len(names):
            raise InputError(f"{place}: {len(names) - len(known)} pairs have no score, and others have one")
        return scored_pairs(names, items, np.array(known, np.float64), odd, self.texts, self.seconds)


def _line(
    values: Mapping[str, Any], columns: PairColumns, gold: Items | None, number: int, where: str
) -> tuple[tuple[str, str], float | None, str | None]:
    """A pair, its score, and what it finds."""
    for column in (columns.src, columns.tgt):
        if column not in values:
            raise InputError(f"{where}: has no column {column}, but {', '.join(values)}")
    src, tgt = (id_of(values, column, number, where) for column in (columns.src, columns.tgt))
    score = _score(values, columns, where)
    if gold is None or not gold.judged:
        item = f"{src}\t{tgt}"
        return (src, tgt), score, item if gold is not None and item in gold.units else None
    if columns.correct not in values:
        raise InputError(f"{where}: has no column {columns.correct}, which tells the pairs that are right from others")
    right = _yes(values, columns.correct, where)
    return (src, tgt), score, id_of(values, columns.truth, number, where) if right else None


def _score(values: Mapping[str, Any], columns: PairColumns, where: str) -> float | None:
    if columns.score is not None:
        if columns.score not in values:
            raise InputError(f"{where}: has no column {columns.score}, but {', '.join(values)}")
        return _number(values[columns.score], f"{where}: {columns.score}")
    for column in _SCORE_COLUMNS:
        if column in values:
            return _number(values[column], f"{where}: {column}")
    return None


def _number(value: Any, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{where} is {value!r}: it must be a number")
    return number


def _yes(values: Mapping[str, Any], column: str, where: str) -> bool:
    value = values.get(column)
    told = (
        value
        if isinstance(value, bool)
        else {"true": True, "1": True, "false": False, "0": False}.get(str(value).lower())
    )
    if told is None:
        raise InputError(f"{where}: {column} is {value!r}: it must be true or false")
    return told


def _direction(values: Mapping[str, Any], columns: PairColumns, given: str) -> str:
    return str(values[columns.direction]) if values.get(columns.direction) is not None else given


def _with_one_more(there: Items) -> Items:
    return Items(there.units, there.judged, there.seconds, there.nameless, there.doubled + 1)
