"""Texts found again by their digests: a published one, and every form that a line or a sentence may have had."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamlessalign.errors import UnreadableError
from seamlessalign.pipelines.published.line_forms import MetadataLine
from seamlessalign.pipelines.published.record_text import RecordText, digest
from tests.pipelines.published import made_metadata


def _line(lineno: int | None, paragraph: int | None, sentence: int | None, side: str = "eng") -> MetadataLine:
    return MetadataLine(
        "crawl-data/x.wet.gz", "sha1:X", "http://a/", None, None, lineno, paragraph, None, sentence, 1.0, 1.2,
        f"{side}-zhA", side, 1,
    )  # fmt: skip


def _reason(record: str, line: MetadataLine) -> str:
    with pytest.raises(UnreadableError) as error:
        RecordText(record).sentence(line)
    return error.value.reason


class TestDigests:
    def test_of_a_published_line(self) -> None:
        """Numbers that stand in the published metadata of eng-zhA, and the text that they are of."""
        record = "Postcards from the Middle Kingdom: Beorn is not a xiao xiongmao, either…\nMore of it.\n"
        line = _line(0, 10105196188100455272, 10825353432255915926)
        assert (
            RecordText(record).sentence(line)
            == "Postcards from the Middle Kingdom: Beorn is not a xiao xiongmao, either..."
        )

    @given(st.text(st.characters(exclude_categories=["Cs"])))
    def test_are_those_of_the_library(self, text: str) -> None:
        assert digest(text) == made_metadata.digest(text)


class TestLines:
    @pytest.mark.parametrize(
        ("record", "number", "published"),
        [
            ("a one\n\n  \nb two \n\tc three", 2, "c three"),  # blank lines do not count
            ("a one\r\nb two\r\nc three", 1, "b two"),
            ("a one\rb two\nc three", 1, "b two"),
            ("a one\rb two\nc three", 1, "c three"),  # as those who cut at \n alone count
            ("a | b\tc\nx", 0, "a _ b c"),
            ("\u3000a wide one\u3000\nx", 0, "a wide one"),
            ("\u3000a wide one\u3000\nx", 0, "\u3000a wide one\u3000"),
            ("a one\u2028b two\nc three", 1, "b two"),
        ],
    )
    def test_are_counted_as_they_were(self, record: str, number: int, published: str) -> None:
        line = _line(number, digest(published), digest(published))
        assert RecordText(record).sentence(line) == published

    def test_another_number_is_no_obstacle(self) -> None:
        record = "\n".join(f"Line {number}." for number in range(50))
        for number in (None, 3, 700):
            assert RecordText(record).sentence(_line(number, digest("Line 41."), digest("Line 41."))) == "Line 41."

    def test_without_a_digest_the_number_must_do(self) -> None:
        record = "One.\nTwo.\nTwo too."
        assert RecordText(record).sentence(_line(1, None, digest("Two."))) == "Two."
        assert _reason(record, _line(0, None, digest("Two."))) == "text_not_found"
        assert _reason(record, _line(7, None, digest("Two."))) == "paragraph_changed"

    def test_one_that_is_no_longer_there(self) -> None:
        assert _reason("One.\nTwo.", _line(0, digest("One!"), digest("One!"))) == "paragraph_changed"


class TestSentences:
    @pytest.mark.parametrize(
        ("paragraph", "sentence"),
        [
            ("One is here. Two is there! Is three?", "Two is there!"),
            ("One is here. Two is there! Is three?", "Two is there! Is three?"),
            ("He came at 5 p.m. and left. So it was.", "He came at 5 p.m. and left."),
            ("第一句。第二句！第三句？", "第二句！"),
            ("पहला वाक्य। दूसरा वाक्य।", "दूसरा वाक्य।"),
            ("አንድ ነው። ሁለት ነው።", "ሁለት ነው።"),
            ("Said: “Go…” He went.", "Said: “Go...”"),  # NFKC
            ("Zero\u200bwidth is a space. So.", "Zero width is a space."),
            ("𝓕𝔯𝔞𝔫𝔠𝔢𝔰𝔠𝔞 came. So.", "Francesca came."),
            ("Sun ☀ and rain. So.", "Sun  and rain."),
            ("One. Two.", " Two."),
            ("One. Two.", "Two. "),
            ("One. Two.", "  One."),
        ],
    )
    def test_as_they_may_have_been_cut_and_cleaned(self, paragraph: str, sentence: str) -> None:
        found = RecordText(f"x\n{paragraph}\n").sentence(_line(1, digest(paragraph), digest(sentence)))
        assert found == sentence

    def test_many_of_one_line(self) -> None:
        sentences = [f"This is sentence {number}." for number in range(60)]
        record = RecordText(" ".join(sentences))
        paragraph = digest(" ".join(sentences))
        for sentence in reversed(sentences):
            assert record.sentence(_line(0, paragraph, digest(sentence))) == sentence

    def test_one_that_nothing_gives(self) -> None:
        paragraph = "One. Two."
        assert _reason(paragraph, _line(0, digest(paragraph), digest("One, two."))) == "text_not_found"
        assert _reason(paragraph, _line(0, digest(paragraph), None)) == "text_not_found"

    def test_a_line_without_end_is_not_searched_for_ever(self) -> None:
        paragraph = "Word. " * 20_000
        assert _reason(paragraph, _line(0, digest(paragraph.strip()), 1)) == "text_not_found"

    def test_as_moses_cut_and_cleaned_them(self) -> None:
        """With the very packages that the published pipeline used."""
        sacremoses, splitter = pytest.importorskip("sacremoses"), pytest.importorskip("sentence_splitter")
        normalize = sacremoses.MosesPunctNormalizer(lang="en").normalize
        paragraph = "Mr. Smith said: „No way”, and left. He paid 5 000 € ( too much ) . “So it goes”, they’d say..."
        for sentence in splitter.SentenceSplitter(language="en").split(paragraph):
            line = _line(0, digest(paragraph), digest(normalize(sentence)))
            assert RecordText(paragraph).sentence(line) == normalize(sentence)
