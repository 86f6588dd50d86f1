"""Filters on texts: characters as readers see them, copies, and words of a lexicon, against plain definitions."""

import unicodedata
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seamlessalign.errors import InputError
from seamlessalign.mining import text_filters
from seamlessalign.mining.text_filters import Lexicon, count_characters, count_hits, fold, identical_text, text_shares

EMOJI = [
    "😀",
    "👍🏽",  # with a skin tone
    "✌🏽",  # a sign that is shown as text without its skin tone
    "❤️",  # shown as text without what asks for an emoji
    "☎️",
    "👩‍⚕️",  # joined
    "👩‍⚕",  # joined, without the last request
    "👨‍👩‍👧‍👦",
    "❤️‍🔥",
    "🏳️‍🌈",
    "👩🏿‍🤝‍👩🏻",
    "🇫🇷",  # two letters
    "🏴󠁧󠁢󠁥󠁮󠁧󠁿",  # a flag with tags
    "1️⃣",  # keycaps
    "#️⃣",
]
PUNCTUATION = [".", "#", "*", "$", "+", "~", "…", "。", "«", "©", "™", "❤", "☎", "☎︎", "⚡︎", "€", "‼"]
SPACES = [" ", "\t", "\n", "\v", "\u00a0", "\u3000", "\u2009", "\x85"]
LETTERS = ["a", "É", "e\u0301", "ǖ", "中", "ا", "हि", "న", "7", "٣", "ℹ", "a\u00ad", "ㅎ"]
KINDS = {"emoji": EMOJI, "punctuation": PUNCTUATION, "spaces": SPACES, "letters": LETTERS}


def counted(text: str) -> dict[str, int]:
    counts = count_characters(pa.array([text]))
    return {name: getattr(counts, name)[0].as_py() for name in ("all", "emoji", "punctuation", "spaces")}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_character(kind: str) -> None:
    for piece in KINDS[kind]:
        wanted = {"all": 1} | {name: int(name == kind) for name in ("emoji", "punctuation", "spaces")}
        assert counted(piece) == wanted, ascii(piece)


pieces = st.lists(st.sampled_from([(kind, piece) for kind, row in KINDS.items() for piece in row]), max_size=12)


@settings(max_examples=60)
@given(pieces)
@example([("emoji", "🇫🇷"), ("emoji", "🇫🇷"), ("letters", "a")])
@example([("letters", "7"), ("emoji", "👍🏽"), ("emoji", "👍🏽")])
def test_a_text_has_the_characters_it_is_made_of(made: list[tuple[str, str]]) -> None:
    wanted = {"all": len(made)} | {
        name: sum(kind == name for kind, _ in made) for name in ("emoji", "punctuation", "spaces")
    }
    assert counted("".join(piece for _, piece in made)) == wanted


def test_emoji_are_those_of_unicode() -> None:
    regex = pytest.importorskip("regex", reason="needs the package regex, which transformers brings")

    def members(pattern: str) -> list[str]:
        return list(regex.findall(pattern, "".join(map(chr, [*range(0x80, 0xD800), *range(0xE000, 0x110000)]))))

    alone = [c for c in members(r"\p{Emoji_Presentation}") if not "\U0001f1e6" <= c <= "\U0001f1ff"]
    asked = [f"{c}\ufe0f" for c in members(r"\p{Emoji}")]
    toned = [f"{c}\U0001f3fd" for c in members(r"\p{Emoji_Modifier_Base}")]
    assert len(alone) > 1100 and len(toned) > 100
    for texts in (alone, asked, toned):
        counts = count_characters(pa.array(texts))
        wrong = [
            t
            for t, n, e in zip(texts, counts.all.to_pylist(), counts.emoji.to_pylist(), strict=True)
            if n != e or e != 1
        ]
        assert not wrong
    others = members(r"\p{L}|\p{N}|\p{P}|\p{Sm}|\p{Sc}|\p{Sk}")
    others = [c for c in others if not regex.match(r"\p{Emoji_Presentation}|\p{Emoji_Modifier}", c)]
    assert sum(count_characters(pa.array(["".join(others)])).emoji.to_pylist()) == 0


@settings(max_examples=40)
@given(st.text(max_size=20))
def test_any_text_can_be_counted(text: str) -> None:
    counts = counted(text)
    assert counts["emoji"] + counts["punctuation"] + counts["spaces"] <= counts["all"] <= len(text)


@settings(max_examples=40)
@given(st.text(st.characters(categories=["L", "N", "P"], max_codepoint=0x24F), max_size=20))
def test_composed_or_not_is_the_same(text: str) -> None:
    assert counted(unicodedata.normalize("NFD", text)) == counted(unicodedata.normalize("NFC", text))


def test_shares() -> None:
    text = pa.chunked_array(
        [["abcd😀", "abc😀", "ab..", "a...", "a  b", "a   b", ""], [None, "👍🏽👍🏽👍🏽👍🏽ok, really fine!!"]]
    )
    found = text_shares(text, max_emoji=0.2, max_punctuation=0.5, max_spaces=0.5)
    emoji, punctuation, space = "emoji_share", "punctuation_share", "space_share"
    assert found.to_pylist() == [None, emoji, None, punctuation, None, space, None, None, None]
    everything = text_shares(text, max_emoji=1, max_punctuation=1, max_spaces=1)
    assert everything.to_pylist() == [None] * 9 and everything.type == pa.string()
    with pytest.raises(InputError, match=r"max_spaces is 1\.5"):
        text_shares(text, max_emoji=0.2, max_punctuation=0.5, max_spaces=1.5)


def folded(text: str) -> str:
    return str(fold(pa.array([text]))[0].as_py())


@given(st.lists(st.text(st.characters(max_codepoint=127), max_size=20)))
def test_texts_of_ascii_are_folded_as_others_are(texts: list[str]) -> None:
    """Beside each with a letter of another script, which keeps it from what is done for ASCII alone."""
    beside = fold(pa.array([f"{text} я" for text in texts], pa.string())).to_pylist()
    for text, found, other in zip(texts, fold(pa.array(texts, pa.string())).to_pylist(), beside, strict=True):
        words = other.removesuffix("я").rstrip(" ")
        assert found == (words or text)


def test_fold() -> None:
    assert folded("  Straße, “ＡＢＣ” — don’t!") == "strasse abc don t"
    assert folded("co\u00adop ΣΑΣ") == folded("COOP σας")
    assert folded("می\u200cخواهم") == "میخواهم"
    assert folded("हिन्दी।") == "हिन्दी"  # marks belong to their word
    assert folded("e\u0301t\u00e9") == "été"
    assert folded("1\ufe0f\u20e3 ❤\ufe0f") == "1"
    assert folded("?!") == "?!" and folded("") == ""
    assert fold(pa.chunked_array([["A", None], ["a."]])).to_pylist() == ["a", None, "a"]
    assert fold(pa.array([], pa.string())).to_pylist() == []


@settings(max_examples=60)
@given(st.text(max_size=15))
def test_folding_twice_changes_nothing(text: str) -> None:
    assert folded(folded(text)) == folded(text)


def test_identical_text() -> None:
    src = pa.array(["New York!", "Hello", "?!", "…", None, "Paris"])
    tgt = pa.array(["new york", "Bonjour", "?!", "!", "x", None])
    same = "identical_text"
    assert identical_text(src, tgt).to_pylist() == [same, None, same, None, None, None]


def test_hits_are_whole_words() -> None:
    lexicon = Lexicon.of(["ass", "Bad Word", "crème", "дура", "गधा", "d'oh"])
    hits = {
        "An ASS, an ass.": 2,
        "assess the class": 0,
        "ass1 1ass": 0,
        "a bad-word": 1,
        "bad  word bad word": 2,
        "bad, bad word": 1,
        "bad words": 0,
        "CRE\u0300ME!": 1,
        "Дура? дурацкий": 1,
        "गधा गधाः": 1,  # the second has one more mark
        "D’oh": 1,
        "": 0,
        "?!": 0,
    }
    assert count_hits(pa.array(list(hits)), lexicon).to_pylist() == list(hits.values())


def test_hits_without_spaces() -> None:
    lexicon = Lexicon.of(["傻瓜", "瓜", "バカ", "ไอ้บ้า", "fool"])
    text = pa.array(["你是傻瓜。傻瓜！", "ﾊﾞｶ野郎", "แกไอ้บ้ามาก", "foolish", None, "fool 瓜"])
    assert count_hits(text, lexicon).to_pylist() == [4, 1, 1, 0, None, 2]


terms = st.lists(
    st.sampled_from(["a", "b", "a b", "ab", "b a b", "É", "中", "中a", "中中", "ß"]), min_size=1, max_size=4
)
texts = st.lists(st.sampled_from(["a", "b", "ab", " ", "-", "! ", "é", "E\u0301", "中", "SS", "3"]), max_size=12)


@given(terms, texts)
def test_hits_against_a_regular_expression(words: list[str], made: list[str]) -> None:
    """Every occurrence of every term, with letters, marks and digits on neither side unless it is Chinese."""
    regex = pytest.importorskip("regex", reason="needs the package regex, which transformers brings")
    text = unicodedata.normalize("NFC", "".join(made)).casefold()
    wanted = 0
    for word in {unicodedata.normalize("NFC", word).casefold() for word in words}:
        pattern = r"[^\p{L}\p{M}\p{N}]+".join(map(regex.escape, word.split(" ")))
        if "中" not in word:
            pattern = rf"(?<![\p{{L}}\p{{M}}\p{{N}}]){pattern}(?![\p{{L}}\p{{M}}\p{{N}}])"
        wanted += len(regex.findall(pattern, text, overlapped=True))
    assert count_hits(pa.array(["".join(made)]), Lexicon.of(words)).to_pylist() == [wanted]


def test_toxicity_imbalance() -> None:
    src = pa.array(["you fool", "you fool, fool", "hello", "you fool", None, "hello"])
    tgt = pa.array(["bonjour", "pauvre idiot", "salut", None, "idiot", "un idiot"])
    found = text_filters.toxicity_imbalance(src, tgt, Lexicon.of(["fool"]), Lexicon.of(["idiot"]))
    told = "toxicity_imbalance"
    assert found.to_pylist() == [told, None, None, None, None, told]


@pytest.mark.parametrize("term", ["", "  ", "!?", "❤️"])
def test_a_term_needs_a_letter(term: Any) -> None:
    with pytest.raises(InputError, match="no letter or digit"):
        Lexicon.of(["good", term])
