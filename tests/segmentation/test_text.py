"""Text: cleaning that can be repeated, reasons, and sentences by hand and by property."""

import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from seamlessalign.errors import UnreadableError
from seamlessalign.segmentation.text import clean_sentence, drop_reason, split_sentences


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        (b"plain", "plain"),
        ("  a \t b\r\n", "a b"),
        (b"\xef\xbb\xbffirst line\n", "first line"),
        ("a\ufeffb", "ab"),
        ("cafe\u0301", "caf\u00e9"),
        ("e\ufeff\u0301", "\u00e9"),
        ("a\x01\x1f\x7f\x85b", "a b"),
        ("a\u00a0\u2003\u3000\u2028b", "a b"),
        ("می\u200cخواهم", "می\u200cخواهم"),  # the joiner is part of the spelling
        (b"\n", ""),
        ("\ufeff", ""),
        (b"", ""),
    ],
)
def test_clean(raw: bytes | str, cleaned: str) -> None:
    assert clean_sentence(raw) == cleaned


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"caf\xe9", "invalid_utf8"),
        (b"\xc3", "invalid_utf8"),
        (b"\xed\xa0\x80", "invalid_utf8"),
        ("\ud800", "invalid_utf8"),
        (b"a\0b", "nul"),
        ("a\0", "nul"),
        ("text".encode("utf-16-le"), "nul"),
    ],
)
def test_clean_refuses(raw: bytes | str, reason: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        clean_sentence(raw)
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)


_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(_text)
@example("e\ufeff\u0301")
@example("\u0301\x01\u0301")
def test_clean_properties(text: str) -> None:
    cleaned = clean_sentence(text)
    assert clean_sentence(cleaned) == cleaned
    assert clean_sentence(text.encode()) == cleaned
    assert unicodedata.is_normalized("NFC", cleaned)
    assert cleaned == cleaned.strip()
    assert "  " not in cleaned
    assert not any(unicodedata.category(char) == "Cc" or (char.isspace() and char != " ") for char in cleaned)
    solid = "".join(char for char in text if char.isprintable() and not char.isspace())
    if solid == text:  # nothing to clean but the normal form
        assert cleaned == unicodedata.normalize("NFC", text)


def test_drop_reason() -> None:
    assert drop_reason("Hello.") is None
    assert drop_reason("你好") is None
    assert drop_reason("") == "empty_line"
    assert drop_reason("a" * 1000) is None
    assert drop_reason("a" * 1001) == "too_long"
    assert drop_reason("abc", max_chars=2) == "too_long"
    assert drop_reason("abc", min_chars=3) is None
    assert drop_reason("abc", min_chars=4) == "too_short"
    assert drop_reason("12:30 - 14,00 €!") == "no_letters"
    assert drop_reason("🙂 ١٢٣") == "no_letters"


# A bar marks where sentences end.
SENTENCES = [
    ("eng", "He went home.| She stayed!| Why?| Nobody knows…| The end"),
    ("eng", "Dr. Smith met Mrs. Jones in St. Paul, i.e. at home.| They talked."),
    ("eng", "J. R. R. Tolkien wrote it.| George W. Bush read it."),
    ("eng", "It costs 3.14 dollars.| Version 2.0.1 is out.| See example.com for more."),
    ("eng", "In 1999.| Then came 2000."),
    ("eng", "1. First item.| 2. Second item."),
    ("eng", "“Stop!” he said.| No.| Yes."),
    ("eng", "See No. 5 and Nos. 6 to 8.| No."),
    ("eng", 'He said: "Stop!"| Then he left.| (Really.)| Yes.'),
    ("eng", "Wait... what?| Wait...| What?!| Oh!!!"),
    ("eng", "First paragraph\n\n|Second one\n  \n|third"),
    ("eng", "One sentence on\ntwo lines.| Another."),
    ("eng", "Apples, pears etc.| They fell."),
    ("spa", "¿Qué tal?| ¡Muy bien!| El Sr. López y la Sra. Díaz.| Adiós."),
    ("spa", "Ud. sabe.| Véase pág. 3 del vol. II.| Fin."),
    ("fra", "Il a dit : « Bonjour ! »| Puis M. Dupont est parti.| C'est tout…| Voilà."),
    ("fra", "Mme. Curie et Mgr. Dupont, cf. Paris.| Fin."),
    ("fra", "L'art. 5 du code.| C'est de l'art.| Fin."),
    ("ita", "Il dott. Rossi e la sig.ra Bianchi.| Che ore sono?| Le tre."),
    ("rus", "— Да! — сказал он.| Он живёт на ул. Ленина, т.е. там.| А. С. Пушкин.| Конец"),
    ("deu", "Am 3. Oktober 1990.| Das ist z.B. Kohl, bzw. Dr. Kohl.| Ende."),
    ("por", "O Sr. Silva e a Dra. Costa.| Tudo bem?| Sim."),
    ("cmn", "你好。|我很好！|真的吗？|“是的。”|他说。"),
    ("jpn", "「はい。」|行きます。|終わり"),
    ("arb", "كيف حالك؟| أنا بخير.| شكرا"),
    ("hin", "नमस्ते।| आप कैसे हैं?| ठीक।"),
    ("urd", "یہ ہے۔| وہ نہیں۔"),
    ("hye", "Բարև։| Ինչպես ես։"),
]


@pytest.mark.parametrize(("lang", "marked"), SENTENCES)
def test_sentences_by_hand(lang: str, marked: str) -> None:
    expected = [sentence.strip() for sentence in marked.split("|")]
    assert split_sentences(marked.replace("|", ""), lang) == expected


def test_two_letter_codes_are_the_same_languages() -> None:
    pairs = [("de", "deu"), ("en", "eng"), ("es", "spa"), ("fr", "fra"), ("it", "ita"), ("pt", "por"), ("ru", "rus")]
    for two, three in pairs:
        for _, marked in SENTENCES:
            document = marked.replace("|", "")
            assert split_sentences(document, two) == split_sentences(document, three)


def test_abbreviations_belong_to_their_language() -> None:
    assert len(split_sentences("Den Bus nahm Dr. Kohl.", "deu")) == 1
    assert len(split_sentences("Visi zina ka dipl. Kohl.", "lav")) == 2


_marks = [*".!?…。！？؟।\"'”»«()—-,;\n\t \u00a0", "  ", "\n\n"]
_pieces = st.lists(
    st.one_of(
        st.sampled_from(_marks),
        st.sampled_from(["Dr", "e.g", "A", "z.B", "3", "14", "Word", "word", "你好", "Да", "M", "etc", "नमस्ते"]),
        st.text(max_size=4),
    ),
    max_size=60,
).map("".join)


@given(_pieces, st.sampled_from(["eng", "deu", "fra", "cmn", "xxx", ""]))
def test_nothing_is_lost(document: str, lang: str) -> None:
    sentences = split_sentences(document, lang)
    assert "".join("".join(sentences).split()) == "".join(document.split())
    assert all(sentence and sentence == sentence.strip() for sentence in sentences)


@pytest.mark.parametrize("unit", [". ", ".", "a. ", "Dr. ", "A.", '."', "” ", "\n \n", "1. ", "x" * 50, "! » "])
def test_long_documents_take_time_in_proportion(unit: str) -> None:
    document = unit * (400_000 // len(unit))
    started = time.process_time()
    split_sentences(document, "eng")
    assert time.process_time() - started < 5  # quadratic time would be minutes
