"""Rows to read on the page of an evaluation: translations on which systems differ or fail, and rows behind counts."""

import difflib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from seamlessalign import storage
from seamlessalign.errors import InputError
from seamlessalign.html_page import row_of, table_of
from seamlessalign.markup import Markup, join, tag
from seamlessalign.training.evaluation.files import STATISTICS, TRANSLATIONS
from seamlessalign.training.evaluation.measures import decimals
from seamlessalign.training.evaluation.pages.page_parts import html_lang, names_of, short, written
from seamlessalign.training.evaluation.text import UNSPACED
from seamlessalign.training.evaluation.written import WrittenScore, read_columns

# which measure says how good a row is, the first that is there: chrF says most of one sentence
_KINDS = (
    "chrf++", "chrf", "bleu", "spbleu", "error_rate", "wer", "cer",
    "asr_chrf++", "asr_bleu", "asr_error_rate",
)  # fmt: skip
_MOST_EXAMPLES = 240
_MOST_EACH = 5  # of a direction, where systems differ and where they fail
_MOST_LETTERS = 700
_MOST_BEHIND = 10  # of a measure, system and direction
_MOST_BEHIND_ALL = 100  # of a measure and system


@dataclass(frozen=True)
class Example:
    """A row of the test set as systems translated it."""

    id: str
    why: str
    direction: str
    measure: str
    src_text: str | None
    references: Sequence[str]
    texts: Mapping[str, str | None]  # by system; what was heard, where nothing was written
    scores: Mapping[str, float | None]
    places: int = 2  # decimals of scores


@dataclass(frozen=True)
class _Rows:
    """Scores of rows of one direction: id → system → score."""

    measure: str
    higher_is_better: bool
    scores: dict[str, dict[str, float | None]]


def choose_examples(scores: Sequence[WrittenScore], sources: Mapping[str, Mapping[str, str]]) -> list[Example]:
    """Rows of each direction on which systems differ most, and those that come out worst.

    scores: which measures there are. sources: folder of an evaluation → its systems → what they are called. Raises
    StorageError, InputError for files that are damaged.
    """
    directions: dict[str, _Rows] = {}
    for direction, (_, measure, higher_is_better) in sorted(_telling_measures(scores).items()):
        directions[direction] = _Rows(measure, higher_is_better, {})
    if not directions:
        return []
    for folder, systems in sources.items():
        _add_scores(directions, folder, systems)
    each = max(1, min(_MOST_EACH, _MOST_EXAMPLES // (2 * len(directions))))
    chosen = [(direction, key, why) for direction, rows in directions.items() for key, why in _chosen(rows, each)]
    places = {
        name: decimals(score for some in rows.scores.values() for score in some.values())
        for name, rows in directions.items()
    }
    texts: dict[str, dict[str, dict[str, Any]]] = {}  # id → system → row
    for folder, systems in sources.items():
        _add_texts(texts, folder, systems, {key for _, key, _ in chosen})
    examples = []
    for direction, key, why in chosen:
        some = texts.get(key)
        if some is None:
            raise InputError(
                f"translations.parquet of {', '.join(sources)} has no row {key}, of which there are scores"
            )
        first = next(iter(some.values()))
        shown = {name: row["heard"] if row["text"] is None else row["text"] for name, row in some.items()}
        rows = directions[direction]
        about = (key, why, direction, rows.measure, first["src_text"], first["references"])
        examples.append(Example(*about, shown, rows.scores[key], places[direction]))
    return examples


def _telling_measures(scores: Sequence[WrittenScore]) -> dict[str, tuple[int, str, bool]]:
    """Of each direction of translations the measure that says most of a row."""
    best: dict[str, tuple[int, str, bool]] = {}
    for one in scores:
        if one.task == "translation" and not one.condition and one.kind in _KINDS:
            found = _KINDS.index(one.kind), one.measure, one.higher_is_better
            best[one.direction] = min(best.get(one.direction, found), found)
    return best


def _add_scores(directions: Mapping[str, _Rows], folder: str, systems: Mapping[str, str]) -> None:
    file = storage.join(folder, "statistics.parquet")
    table = read_columns(file, STATISTICS, ["task", "system", "direction", "condition", "measure", "id", "score"])
    names = sorted({rows.measure for rows in directions.values()})
    wanted = pc.and_(pc.equal(table["task"], "translation"), pc.equal(table["condition"], ""))
    table = table.filter(pc.and_(wanted, pc.is_in(table["measure"], value_set=pa.array(names, pa.string()))))
    columns = (table[name].to_pylist() for name in ("direction", "measure", "system", "id", "score"))
    for direction, measure, system, key, score in zip(*columns, strict=True):
        rows = directions.get(direction)
        if rows is not None and rows.measure == measure and system in systems:
            rows.scores.setdefault(key, {})[systems[system]] = score


def _add_texts(
    texts: dict[str, dict[str, dict[str, Any]]], folder: str, systems: Mapping[str, str], ids: set[str]
) -> None:
    table = read_columns(storage.join(folder, "translations.parquet"), TRANSLATIONS, TRANSLATIONS.names)
    table = table.filter(pc.is_in(table["id"], value_set=pa.array(sorted(ids), pa.string())))
    for row in table.to_pylist():
        if row["system"] in systems:
            texts.setdefault(row["id"], {})[systems[row["system"]]] = row


def _chosen(rows: _Rows, each: int) -> list[tuple[str, str]]:
    """Ids and why: those on which systems differ most, then those that are worst on average."""
    there = {
        key: [score for score in some.values() if score is not None]
        for key, some in rows.scores.items()
        if any(score is not None for score in some.values())
    }
    apart = sorted(there, key=lambda key: (min(there[key]) - max(there[key]), key))
    found = [(key, "systems differ most") for key in apart[:each] if max(there[key]) > min(there[key])]
    taken = {key for key, _ in found}
    sign = 1 if rows.higher_is_better else -1
    worst = sorted(there, key=lambda key: (sign * sum(there[key]) / len(there[key]), key))
    return found + [(key, "worst on average") for key in worst if key not in taken][:each]


# The page


def examples_section(examples: Sequence[Example]) -> list[Markup]:
    """Examples by direction, each system's words that the reference lacks underlined."""
    if not examples:
        return []
    by_direction: dict[str, list[Example]] = {}
    for one in examples:
        by_direction.setdefault(one.direction, []).append(one)
    about = (
        "Of each direction the rows on which systems differ most, and those that are worst on average, by the score of "
        "the row. Words that no reference has are underlined."
    )
    pieces = [tag("p", about, class_="about")]
    for direction, some in by_direction.items():
        names = names_of(direction)
        heading = tag("summary", tag("bdi", direction), f" {names}" if names else "", f" ({len(some)})")
        opened = {"open": ""} if len(by_direction) == 1 else {}
        pieces.append(tag("details", heading, *(_example(one) for one in some), class_="by-direction", **opened))
    return pieces


def _example(one: Example) -> Markup:
    src, _, tgt = one.direction.partition("-")
    rows = []
    if one.src_text is not None:
        rows.append(_line("source", "", tag("bdi", _cut(one.src_text), lang=html_lang(src))))
    for text in one.references:
        rows.append(_line("reference", "", tag("bdi", _cut(text), lang=html_lang(tgt))))
    for name, made in one.texts.items():
        shown = tag("i", "no output") if made is None else _marked(made, one.references, tgt)
        rows.append(_line(name, written(one.scores.get(name), one.places) if name in one.scores else "", shown))
    head = [
        tag("th", "", scope="col"),
        tag("th", one.measure, scope="col", class_="number"),
        tag("th", "", scope="col"),
    ]
    caption = tag("caption", tag("code", tag("bdi", short(one.id))), f" {one.why}")
    table = tag("table", caption, tag("thead", tag("tr", *head)), tag("tbody", *rows))
    return tag("div", table, class_="scroll example", tabindex=0)


def _line(label: str, score: str, text: Markup) -> Markup:
    heading = tag("th", tag("bdi", label), scope="row")
    return tag("tr", heading, tag("td", score, class_="number"), tag("td", text, class_="long"))


def _marked(text: str, references: Sequence[str], lang: str) -> Markup:
    """A text with what the nearest reference lacks underlined: words, or letters where there are no spaces."""
    text = _cut(text)
    if not text:
        return tag("i", "empty")
    separator = "" if lang in UNSPACED else " "
    words = list(text) if not separator else text.split(" ")
    matchers = []
    for reference in references:
        other = _cut(reference)
        matchers.append(difflib.SequenceMatcher(None, list(other) if not separator else other.split(" "), words, False))
    nearest = max(matchers, key=lambda one: one.ratio())
    pieces: list[str] = []
    for what, _, _, start, end in nearest.get_opcodes():
        if start < end:
            some = separator.join(words[start:end])
            pieces += [some if what == "equal" else tag("ins", some), separator]
    return tag("bdi", *pieces[:-1], lang=html_lang(lang))


def _cut(text: str) -> str:
    if len(text) <= _MOST_LETTERS:
        return text
    return f"{text[:_MOST_LETTERS]}… ({len(text):,} characters)"


def behind_section(folder: str) -> list[Markup]:
    """Rows behind counts, by measure. Raises InputError for a damaged file."""
    file = storage.join(folder, "behind.jsonl")
    if not storage.exists(file):
        return []
    groups: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = {}
    try:
        for line in storage.read_bytes(file).decode("utf-8").split("\n"):
            if line:
                row = json.loads(line)
                place = groups.setdefault((str(row.pop("task")), str(row.pop("measure"))), {})
                place.setdefault(str(row.pop("system")), []).append(row)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{file}: is not what `seamlessalign evaluate` writes: {error!r}") from error
    return [_behind(measure, systems) for (_, measure), systems in groups.items()]


def _behind(measure: str, systems: Mapping[str, Sequence[dict[str, Any]]]) -> Markup:
    pieces: list[Markup] = []
    for system, rows in systems.items():
        some = _of_each_direction(rows)
        shown = [
            row_of(
                _place(row),
                tag("code", tag("bdi", short(str(row.get("id", ""))))),
                str(row.get("what", "")),
                join(*(_told(key, value) for key, value in row.items() if key not in _HEAD)),
            )
            for row in some
        ]
        pieces.append(tag("h3", tag("bdi", system), f": {len(rows):,} rows"))
        pieces.append(table_of(("direction", "row", "what", ""), shown, long=(3,)))
        if len(rows) > len(some):
            note = f"{len(some)} of {len(rows):,} are shown, the first of each direction; behind.jsonl has all."
            pieces.append(tag("p", note, class_="note"))
    total = sum(len(rows) for rows in systems.values())
    return tag("details", tag("summary", f"{measure} ({total:,})"), *pieces)


def _of_each_direction(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    taken: Counter[str] = Counter()
    found = []
    for row in rows:
        taken[_place(row)] += 1
        if taken[_place(row)] <= _MOST_BEHIND:
            found.append(row)
    return found[:_MOST_BEHIND_ALL]


def _place(row: Mapping[str, Any]) -> str:
    return " · ".join(str(part) for part in (row.get("direction"), row.get("condition")) if part)


_HEAD = ("direction", "condition", "id", "what")


def _told(key: str, value: Any) -> Markup:
    if isinstance(value, list):
        value = ", ".join(str(one) for one in value)
    text = "–" if value is None else f"{value:.4g}" if isinstance(value, float) else _cut(str(value))
    return tag("div", tag("small", f"{key.replace('_', ' ')}: "), tag("bdi", text))
