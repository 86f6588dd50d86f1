"""Changed texts: what is changed and what is not, whatever the texts; and the rules, on texts written for them."""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.embedders.text import spoken_form
from seamlessalign.errors import ConfigError
from seamlessalign.languages import get_language
from seamlessalign.training.evaluation.encoders import perturbations
from seamlessalign.training.evaluation.encoders.perturbations import KINDS, Perturbation, find_names, languages, perturb

NAMES = ["Konrad", "Delfador", "Li'sar", "New York", "Wesnoth"]


def _words(lang: str) -> list[str]:
    """Words that rules know, and others."""
    table = perturbations._table()[lang]
    known = [word for kind, group in table for word in group if kind in KINDS]
    return [*known[::7], "abc", "l'xyz", "7", "1,250", "10:30", "3rd", "?", *NAMES, "not", "ONE"]


@st.composite
def _pools(draw: st.DrawFn) -> tuple[str, list[str]]:
    lang = draw(st.sampled_from(languages()))
    sentence = st.lists(st.sampled_from(_words(lang)), min_size=1, max_size=7).map(" ".join)
    return lang, draw(st.lists(sentence | st.text(max_size=12), min_size=1, max_size=6))


@settings(deadline=None, max_examples=80)
@given(_pools(), st.integers(1, 5), st.integers(0, 3))
def test_one_thing_is_changed_and_no_true_sentence_comes_of_it(
    pool: tuple[str, list[str]], limit: int, seed: int
) -> None:
    lang, texts = pool
    said = {spoken_form(text) for text in texts}
    found = perturb(texts, lang, limit=limit, seed=seed)
    assert len(found) == len(texts)
    for text, some in zip(texts, found, strict=True):
        spoken = [spoken_form(one.text) for one in some]
        assert not said & set(spoken) and len(set(spoken)) == len(spoken)
        for one in some:
            assert one.undone() == text and text.startswith(one.old, one.start)
            assert one.text == text[: one.start] + one.new + text[one.start + len(one.old) :]
            assert one.old.casefold() != one.new.casefold()
        for kind in KINDS:
            assert sum(one.kind == kind for one in some) <= limit
    # neither the order of texts nor how often one is there counts
    turned = perturb([*texts[::-1], texts[0]], lang, limit=limit, seed=seed)
    assert turned == [*found[::-1], found[0]]


def _changed(text: str, lang: str, kind: str, others: tuple[str, ...] = ()) -> set[tuple[str, str]]:
    found = perturb([text, *others], lang, kinds=[kind], limit=500)[0]  # type: ignore[list-item]
    return {(one.old, one.new) for one in found}


@pytest.mark.parametrize(
    ("lang", "text", "kind", "some"),
    [
        ("eng", "Press one.", "number", {("one", "two"), ("one", "nineteen")}),
        ("eng", "THREE more on Monday", "number", {("THREE", "TEN"), ("Monday", "Friday")}),
        ("eng", "Call 555-1904 now", "number", {("555", "455"), ("1904", "1905")}),
        ("eng", "It’s not here, it isn't.", "causality", {("It’s not", "It's"), ("isn't", "is")}),
        ("eng", "He is not old", "causality", {("is not", "is"), ("old", "new"), ("old", "young")}),
        ("fra", "Elle n'est pas là, c’est bon", "causality", {("n'est pas", "est"), ("bon", "mauvais")}),
        ("fra", "Deux bonnes idées", "number", {("Deux", "Trois")}),
        ("deu", "Das ist keine gute Million", "causality", {("keine", "eine"), ("gute", "schlechte")}),
        ("deu", "Das ist eine Million", "number", {("Million", "Milliarde")}),
        ("spa", "No es fácil sin ellos", "causality", {("No es", "Es"), ("fácil", "difícil"), ("sin", "con")}),
        ("ita", "Non c'è nessuno", "causality", {("Non c'è", "C'è"), ("nessuno", "tutti")}),
        ("por", "Ninguém está lá", "causality", {("está", "não está"), ("Ninguém", "Alguém")}),
        ("rus", "Это невозможно, потому что три", "causality", {("невозможно", "возможно"), ("потому что", "хотя")}),
        ("rus", "Нажмите три", "number", {("три", "два"), ("три", "две")}),
    ],
)
def test_words_are_replaced_as_they_are_written(lang: str, text: str, kind: str, some: set[tuple[str, str]]) -> None:
    assert some <= _changed(text, lang, kind)


@pytest.mark.parametrize(
    ("lang", "text", "kind"),
    [
        ("eng", "The 3rd time, in B2B, someone honest", "number"),  # parts of longer words
        ("eng", "You may go on a march, my monday", "number"),  # no months and days
        ("eng", "overly-good badness", "causality"),
        ("fra", "Un ami d'autrefois", "number"),  # an article
        ("fra", "qu'est-ce", "causality"),
        ("rus", "столица", "number"),
        ("eng", "", "number"),
    ],
)
def test_what_is_no_word_of_a_rule_stays(lang: str, text: str, kind: str) -> None:
    assert _changed(text, lang, kind) == set()


def test_numbers_keep_their_form() -> None:
    changed = _changed("Room 1,250.50 at 10:05", "eng", "number")
    assert len(changed) == (8 + 5 * 9) + (8 + 3 * 9)  # each digit by each other one; no new zero at the front
    assert all(re.fullmatch(r"[1-9],\d{3}\.\d\d|[1-9]\d:\d\d", new) for _, new in changed)
    assert len(_changed("Press 0", "eng", "number")) == 9


def test_names_are_what_is_written_with_a_capital_inside_sentences() -> None:
    texts = [
        "Yesterday Konrad saw Delfador, and the king of Wesnoth.",
        "However, I think that May and the bill of Bill are in New York.",
        "Konrad's sword. Then bill me.",
        "Save All Files To The Folder",
        "The USB drive, on Monday",
    ]
    names = find_names(texts, "eng")
    assert names == {"Konrad", "Delfador", "Wesnoth", "New", "York"} - {"New"}  # `new` is a word of a rule
    replaced = _changed(texts[2], "eng", "name", tuple(texts))
    assert replaced == {("Konrad", other) for other in ("Delfador", "Wesnoth", "York")}
    assert _changed("I saw Konrad alone", "eng", "name") == set()  # there is no other name


def test_names_that_follow_each_other_are_one() -> None:
    texts = ["We saw how Anna Berg and her friend Carl Dahm.", "So Anna said", "with Bert Dahm and him"]
    assert _changed(texts[0], "eng", "name", tuple(texts[1:])) == {
        (old, new)
        for old in ("Anna Berg", "Carl Dahm")
        for new in ("Anna Berg", "Carl Dahm", "Bert Dahm")
        if old != new
    }
    assert ("Anna", "Bert Dahm") in _changed(texts[1], "eng", "name", (texts[0], texts[2]))  # none of one word


def test_german_nouns_are_no_names() -> None:
    texts = [
        "Heute sah Konrad die Stadt, und Delfador sah große Häuser.",
        "Dann ging Konrad mit Delfador in die Stadt, denn Häuser sind dort.",
        "Er sah Achtung und Freiheit, aber auch Freiheit und Achtung.",
    ]
    assert find_names(texts, "deu") == {"Konrad", "Delfador"}


def test_the_table_is_in_order() -> None:
    assert {"eng", "fra", "deu", "spa", "ita", "por", "rus"} == set(languages())
    kinds = {*KINDS, "not_name", "article"} - {"name"}
    for lang, lines in perturbations._table().items():
        assert get_language(lang).iso639_3 == lang
        for kind, group in lines:
            assert kind in kinds, (lang, group)
            assert all(word and word == word.strip() and "{" not in word for word in group), (lang, group)
            if kind in KINDS:
                assert len({word.casefold() for word in group}) == len(group) > 1, (lang, group)


def test_every_language_changes_numbers_and_sense() -> None:
    draw = random.Random(0)
    for lang in languages():
        words = [word for kind, group in perturbations._table()[lang] if kind in KINDS for word in group]
        texts = [f"{word} {draw.random()}" for word in words]
        for kind in ("number", "causality"):
            found = perturb(texts, lang, kinds=[kind])  # type: ignore[list-item]
            assert sum(map(bool, found)) > 50, (lang, kind)


def test_the_seed_and_the_settings_are_in_the_signature() -> None:
    texts = [f"I have {n} old dogs, more or less" for n in range(20)]
    one, other = perturb(texts, "eng", seed=0), perturb(texts, "eng", seed=1)
    assert one == perturb(texts, "eng", seed=0) != other
    told = perturbations.signature(["number", "name"], 4, 7)
    assert re.fullmatch(r"perturbed:number\+name\|most:4\|table:[0-9a-f]{8}\|rules:1\|seed:7", told)
    with pytest.raises(ConfigError, match="'jpn' has no rules for xsim"):
        perturb(["はい"], "jpn")
    assert Perturbation("a two", "number", 2, "one", "two").undone() == "a one"
