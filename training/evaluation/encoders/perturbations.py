"""Texts changed in one place, so that they no longer say the same: the hard negatives of xsim++.

As in Chen et al. 2023 ("xsim++: an improved proxy to bitext mining performance for low-resource languages", section 3)
a number, a name, or a word on which the sense hangs (an antonym, a negation, what connects clauses) is replaced by
another. Words are those of `perturbations.tsv`. Names are what a language's own texts write with a capital inside
sentences and hardly ever without; they are replaced by other names of the same texts. No model is asked, and what
becomes of a text depends on it, on the texts that it is among, and on the seed, not on their order.
"""

import hashlib
import itertools
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal, get_args

from seamlessalign.embedders.text import spoken_form
from seamlessalign.errors import ConfigError

Kind = Literal["number", "name", "causality"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_VERSION = 1  # of what is done beside the table
_BEFORE, _BEHIND = r"(?<![\w'’-])", r"(?![\w'’-])"  # nothing of a longer word
_DIGITS = re.compile(r"(?<![\w.,])[0-9]+(?:[.,:][0-9]+)*(?!\w)")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_INSIDE = re.compile(r"\w,? ?$|\w['’]$")  # what stands before a word that does not begin a sentence
_ADJECTIVE = re.compile(r"^[^\W\d_A-ZÄÖÜ]{2,}e[nrsm]?$")  # declined, or a verb: what may stand before either
_SUFFIXES = re.compile(r"(?:ung|heit|keit|schaft|tion|tät|nis|chen|ling|ismus)(?:en|e|s)?$")  # of common nouns
_SHARE_WITHOUT = 0.1  # of a name's occurrences with a capital: so many may be without


@dataclass(frozen=True)
class Perturbation:
    """A text that was changed in one place."""

    text: str
    kind: Kind
    start: int  # of what was replaced, in characters
    old: str
    new: str

    def undone(self) -> str:
        """The text as it was."""
        return self.text[: self.start] + self.old + self.text[self.start + len(self.new) :]


def perturb(
    texts: Sequence[str], lang: str, *, kinds: Sequence[Kind] = KINDS, limit: int = 4, seed: int = 0
) -> list[list[Perturbation]]:
    """The perturbations of each text of a language (ISO 639-3).

    limit: of each kind of a text at most. None has the words of its own text or of another of the texts, case and
    punctuation aside, nor of another perturbation of its text. Raises ConfigError for a language without rules.
    """
    rules = _rules(lang)
    names = find_names(texts, lang) if "name" in kinds else frozenset()
    by_length: dict[int, list[str]] = {}
    for name in sorted(_phrases(texts, names)):
        by_length.setdefault(name.count(" "), []).append(name)
    said = {spoken_form(text) for text in texts}
    done: dict[str, list[Perturbation]] = {}
    for text in texts:
        if text not in done:
            taken, found = set(said), list[Perturbation]()
            for kind in kinds:
                drawn = _random(seed, lang, kind, text)
                places = _places(text, kind, rules, names, by_length)
                found += _some(text, kind, places, limit, drawn, taken)
            done[text] = found
    return [done[text] for text in texts]


def languages() -> list[str]:
    """Languages (ISO 639-3) that have rules."""
    return sorted(_table())


def signature(kinds: Sequence[Kind], limit: int, seed: int) -> str:
    """What perturbations depend on beside the texts, `key:value` between bars."""
    table = hashlib.sha256(_read_table().encode()).hexdigest()[:8]
    return f"perturbed:{'+'.join(kinds)}|most:{limit}|table:{table}|rules:{_VERSION}|seed:{seed}"


def find_names(texts: Iterable[str], lang: str) -> frozenset[str]:
    """Words that are names, by how texts of one language (ISO 639-3) write them.

    A name is written with a capital inside a sentence, and in at most a tenth as many places without. Texts most of
    whose words have capitals tell nothing. Where common nouns have capitals too, a name is there twice or more, comes
    after an article or what may be an adjective in a quarter of these places at most, and does not end as nouns do that
    are made of other words. Some common nouns pass all the same.
    """
    rules = _rules(lang)
    with_capital: Counter[str] = Counter()
    without: Counter[str] = Counter()
    common_there: Counter[str] = Counter()
    for text in texts:
        words = list(_WORD.finditer(text))
        if 2 * sum(word[0][0].isupper() for word in words) > len(words):
            continue
        before = ""
        for word in words:
            if not word[0][0].isupper():
                without[word[0]] += 1
            elif _is_title(word[0]) and _INSIDE.search(text[: word.start()]):
                with_capital[word[0]] += 1
                common_there[word[0]] += before in rules.articles or bool(_ADJECTIVE.search(before))
            before = word[0]
    least = 2 if rules.articles else 1
    return frozenset(
        word
        for word, count in with_capital.items()
        if count >= least
        and without[word.lower()] <= _SHARE_WITHOUT * count
        and not (rules.articles and 4 * common_there[word] > count)
        and word.lower() not in rules.known
        and not (rules.articles and _SUFFIXES.search(word))
    )


# Rules


@dataclass(frozen=True)
class _Rules:
    """What of the table is of one language."""

    words: Mapping[Kind, Mapping[str, Sequence[str]]]  # word as `_key` has it → those that may stand for it
    patterns: Mapping[Kind, re.Pattern[str]]
    known: frozenset[str]  # lower case: what is in the table, and so no name
    articles: frozenset[str]


@cache
def _rules(lang: str) -> _Rules:
    if lang not in _table():
        raise ConfigError(f"language {lang!r} has no rules for xsim++; there are {', '.join(languages())}")
    words: dict[Kind, dict[str, list[str]]] = {kind: {} for kind in KINDS}
    known, articles = set[str](), set[str]()
    for kind, group in _table()[lang]:
        known.update(word.lower() for word in group)
        if kind == "article":
            articles.update(group)
        for word in group if kind in KINDS else ():
            others = words[kind].setdefault(_key(word), [])  # type: ignore[index]
            others += [other for other in group if _key(other) != _key(word) and other not in others]
    patterns = {kind: _pattern(found) for kind, found in words.items()}
    return _Rules(words, patterns, frozenset(known), frozenset(articles | {_title(word) for word in articles}))


@cache
def _table() -> dict[str, list[tuple[str, list[str]]]]:
    """Language → kinds and words that may stand for each other."""
    table: dict[str, list[tuple[str, list[str]]]] = {}
    for line in _read_table().splitlines():
        if not line.startswith("#"):
            lang, kind, *words = line.split("\t")
            table.setdefault(lang, []).extend((kind, list(group)) for group in _expanded(words))
    return table


@cache
def _read_table() -> str:
    place = resources.files("seamlessalign.training.evaluation.encoders").joinpath("perturbations.tsv")
    return place.read_text(encoding="utf-8")


def _expanded(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """`a{b,c}` beside `d{e,f}` is `ab` beside `de`, and `ac` beside `df`; a word without braces goes with all."""
    forms = []
    for word in words:
        parts = [part.split(",") for part in re.split(r"[{}]", word)]  # every other one was in braces
        forms.append(["".join(form) for form in itertools.product(*parts)])
    most = max(map(len, forms))
    yield from zip(*(form * most if len(form) == 1 else form for form in forms), strict=True)


def _pattern(words: Iterable[str]) -> re.Pattern[str]:
    """Any of some words, the longest first; those that are written with a capital only so, others in any case."""
    longest = sorted(words, key=lambda word: (-len(word), word))
    parts = [re.escape(word).replace("'", "['’]") for word in longest]
    either = [part if word[0].isupper() else f"(?i:{part})" for word, part in zip(longest, parts, strict=True)]
    return re.compile(f"{_BEFORE}(?:{'|'.join(either)}){_BEHIND}" if either else r"(?!)")


def _key(word: str) -> str:
    """A word as it is looked up: lower case, unless it is always written with a capital."""
    plain = word.replace("’", "'")
    return plain if word[:1].isupper() else plain.lower()


# Places


Place = tuple[int, str, list[str]]  # where, what is there, and what may stand for it


def _places(
    text: str, kind: Kind, rules: _Rules, names: frozenset[str], by_length: Mapping[int, Sequence[str]]
) -> Iterator[Place]:
    if kind == "name":
        for start, name in _names_in(text, names):
            alike = [other for other in by_length[name.count(" ")] if other != name]
            yield start, name, alike or [other for others in by_length.values() for other in others if other != name]
        return
    for match in rules.patterns[kind].finditer(text):
        words = rules.words[kind]
        key = match[0].replace("’", "'")
        others = words.get(key) or words[key.lower()]
        yield match.start(), match[0], [_as_written(other, match[0]) for other in others]
    if kind == "number":
        for match in _DIGITS.finditer(text):
            yield match.start(), match[0], list(_other_numbers(match[0]))


def _some(
    text: str, kind: Kind, places: Iterable[Place], limit: int, drawn: random.Random, taken: set[str]
) -> list[Perturbation]:
    """Up to `limit`, from all places in turn; those whose words are taken already do not count."""
    waiting = []
    for start, old, others in places:
        drawn.shuffle(others)
        waiting.append((start, old, iter(others)))
    drawn.shuffle(waiting)
    found: list[Perturbation] = []
    while waiting and len(found) < limit:
        start, old, others_left = waiting.pop(0)
        for new in others_left:
            changed = text[:start] + new + text[start + len(old) :]
            spoken = spoken_form(changed)
            if spoken not in taken:
                taken.add(spoken)
                found.append(Perturbation(changed, kind, start, old, new))
                waiting.append((start, old, others_left))
                break
    return found


def _other_numbers(number: str) -> Iterator[str]:
    """Numbers that differ in one digit, as long as this one and not beginning with another zero."""
    for place, digit in enumerate(number):
        first = place == 0 and len(number) > 1
        for other in "0123456789" if digit.isdigit() else "":
            if other != digit and not (first and other == "0"):
                yield number[:place] + other + number[place + 1 :]


def _names_in(text: str, names: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Names with their places; several that follow each other are one."""
    begun, end = -1, -1
    for word in _WORD.finditer(text):
        if word[0] not in names:
            continue
        if begun >= 0 and text[end : word.start()] == " ":
            end = word.end()
            continue
        if begun >= 0:
            yield begun, text[begun:end]
        begun, end = word.span()
    if begun >= 0:
        yield begun, text[begun:end]


def _phrases(texts: Iterable[str], names: frozenset[str]) -> set[str]:
    return {name for text in texts for _, name in _names_in(text, names)}


def _as_written(word: str, old: str) -> str:
    """A word with the capitals that the one it stands for has."""
    letters = [c for c in old if c.isalpha()]
    if len(letters) > 1 and all(c.isupper() for c in letters):
        return word.upper()
    return _title(word) if letters[0].isupper() else word


def _title(word: str) -> str:
    return word[:1].upper() + word[1:]


def _is_title(word: str) -> bool:
    return len(word) > 1 and word[0].isupper() and any(c.islower() for c in word[1:])


def _random(*parts: object) -> random.Random:
    told = "|".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return random.Random(int.from_bytes(hashlib.sha256(told).digest()[:8], "big"))
