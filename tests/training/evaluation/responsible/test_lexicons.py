"""Lexicons: where phrases are, by hand, against a slow search and against ETOX's rule; and files that are wrong."""

import re
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.errors import InputError
from seamlessalign.training.evaluation.responsible.lexicons import Lexicon, is_spaced, load_lexicon, split_words

WORDS = st.lists(st.sampled_from(["a", "b", "ab", "c"]), min_size=1, max_size=8)


def _lexicon(folder: Path, lines: str, lang: str = "eng", sentencepiece: str | None = None) -> Lexicon:
    (folder / f"{lang}.txt").write_text(lines, encoding="utf-8")
    found = load_lexicon(str(folder), lang, sentencepiece)
    assert found is not None
    return found


class TestFound:
    @pytest.mark.parametrize(
        ("text", "wanted"),
        [
            ("What the HELL?", ["hell"]),
            ("hello shell, he'll", []),  # whole words
            ("hell-hole: hell's", ["hell", "hell"]),
            ("Ｈｅｌｌ", ["hell"]),  # compatibility forms
            ("son, of a bitch!", ["son of a bitch"]),
            ("son of a bitch, a bitch", ["son of a bitch", "bitch"]),  # the longest, and what overlaps is counted once
            ("b\u00aditch he\u200bll", ["bitch", "hell"]),  # what nobody sees parts no words
            ("du Arschloch, ARSCHLÖCHER", ["Arschlöcher"]),
            ("a a$$, sh!t (a$$) class a$$et glassa$$", ["a$$", "sh!t", "a$$"]),
            ("🖕🖕 you", ["🖕", "🖕"]),
            ("NA null", []),
            ("", []),
        ],
    )
    def test_by_hand(self, tmp_path: Path, text: str, wanted: list[str]) -> None:
        lexicon = _lexicon(tmp_path, "hell\nSon of a bitch\nbitch\nArschlöcher\na$$\nsh!t\n🖕\n")
        assert [phrase.lower() for phrase in lexicon.found(text)] == [phrase.lower() for phrase in wanted]

    def test_letters_of_scripts_without_spaces(self, tmp_path: Path) -> None:
        lexicon = _lexicon(tmp_path, "傻瓜\n大傻瓜\nsb\n", "cmn")
        assert lexicon.found("你是大傻瓜，傻 瓜 SB！sbs") == ["大傻瓜", "傻瓜", "sb"]
        assert lexicon.signature.endswith("/characters")
        thai = _lexicon(tmp_path, "ควย\n", "tha")
        assert thai.found("ไอ้ควย") == ["ควย"] and thai.found("ควย์") == []  # marks are of their letters

    def test_words_with_marks_stay_whole(self, tmp_path: Path) -> None:
        lexicon = _lexicon(tmp_path, "हिन्द\n", "hin")
        assert lexicon.found("हिन्दी") == [] and lexicon.found("यह हिन्द।") == ["हिन्द"]

    @given(WORDS, st.lists(WORDS, min_size=1, max_size=6))
    @settings(max_examples=150, deadline=None)
    def test_the_longest_from_left_to_right(
        self, tmp_path_factory: pytest.TempPathFactory, text: list[str], phrases: list[list[str]]
    ) -> None:
        lexicon = _lexicon(tmp_path_factory.mktemp("lexicon"), "\n".join(map(" ".join, phrases)))
        wanted, rest = list[str](), text
        while rest:
            longest = max((len(phrase) for phrase in phrases if rest[: len(phrase)] == phrase), default=0)
            if longest:
                wanted.append(" ".join(rest[:longest]))
            rest = rest[max(longest, 1) :]
        assert lexicon.found(" ".join(text)) == wanted

    @given(
        st.text("abc AB.,-'", max_size=30),
        st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=4, unique=True),
    )
    @settings(max_examples=150, deadline=None)
    def test_a_text_is_toxic_where_etox_says_so(
        self, tmp_path_factory: pytest.TempPathFactory, text: str, phrases: list[str]
    ) -> None:
        """ETOX looks for ` phrase ` in the text with spaces for all that is no letter."""
        lexicon = _lexicon(tmp_path_factory.mktemp("lexicon"), "\n".join(phrases))
        spaced = f" {re.sub(r'[^a-z]', ' ', text.lower())} "
        assert set(lexicon.found(text)) == {phrase for phrase in phrases if f" {phrase} " in spaced}

    def test_pieces_of_a_file(self, tmp_path: Path) -> None:
        texts = ["你是傻瓜吗", "傻瓜", "大傻瓜来了", "我们是朋友", "来吧朋友", "吗"] * 30
        (tmp_path / "texts").write_text("\n".join(texts), encoding="utf-8")
        sentencepiece.SentencePieceTrainer.train(
            input=str(tmp_path / "texts"), model_prefix=str(tmp_path / "spm"), vocab_size=19, minloglevel=2
        )
        pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spm.model"))
        assert "傻瓜" in [piece.lstrip("▁") for piece in pieces.encode("你是傻瓜吗", out_type=str)]
        lexicon = _lexicon(tmp_path, "傻瓜\n瓜\n", "cmn", str(tmp_path / "spm.model"))
        # within a sentence too, where no space begins it; and no part of a piece
        assert lexicon.found("你是傻瓜吗") == ["傻瓜"] and lexicon.found("傻瓜！") == ["傻瓜"]
        assert re.search(r"cmn\.txt-[0-9a-f]{8}/spm-[0-9a-f]{8}$", lexicon.signature)
        # languages with spaces have words whatever file there is
        assert _lexicon(tmp_path, "hell\n", "eng", str(tmp_path / "spm.model")).signature.endswith("/words")
        with pytest.raises(InputError, match="is no SentencePiece model"):
            _lexicon(tmp_path, "傻瓜\n", "cmn", str(tmp_path / "texts"))


def test_words() -> None:
    assert split_words("C'est un Straße-Kind, ﬁne 3.5 你sb好") == [
        *("c", "est", "un", "strasse", "kind", "fine", "3", "5", "你", "sb", "好")
    ]
    assert [is_spaced(lang) for lang in ("eng", "hin", "kor", "cmn", "yue", "jpn", "tha", "khm")] == [True] * 3 + [
        False
    ] * 5


class TestFiles:
    def test_lines_are_counted(self, tmp_path: Path) -> None:
        lines = "\ufeff# a comment\r\nHell\r\n\r\nhell!\r\n...\r\n a$$ \r\nA$$\r\nson  of a gun"
        lexicon = _lexicon(tmp_path, lines)
        assert lexicon.counts == {"phrases": 3, "duplicates": 2, "comments": 1, "without_letters": 1}
        assert lexicon.found("Hell, a$$, son of a gun ...") == ["a$$", "Hell", "son  of a gun"]

    @pytest.mark.parametrize(
        ("lang", "name"),
        [
            *(("eng", name) for name in ("eng_Latn_twl.txt", "eng_Latn.txt", "eng_twl.txt", "eng.txt", "en.txt")),
            ("cmn", "zho_Hans_twl.txt"),
            ("arb", "arb_Arab_twl.txt"),
            ("srp", "srp_Latn.txt"),
        ],
    )
    def test_names(self, tmp_path: Path, lang: str, name: str) -> None:
        (tmp_path / name).write_text("word")
        lexicon = load_lexicon(str(tmp_path), lang)
        assert lexicon is not None and Path(lexicon.file).name == name
        assert load_lexicon(str(tmp_path), "fra") is None

    def test_the_first_of_several(self, tmp_path: Path) -> None:
        for name in ("eng_twl.txt", "eng.txt", "eng_Cyrl.txt"):
            (tmp_path / name).write_text(name)
        lexicon = load_lexicon(str(tmp_path), "eng")
        assert lexicon is not None and lexicon.file.endswith("eng_twl.txt")
        for name in ("uzn_Arab.txt", "uzn_Mong_twl.txt"):
            (tmp_path / name).write_text(name)
        with pytest.raises(InputError, match=r"several lexicons of uzn: uzn_Arab.txt, uzn_Mong_twl.txt"):
            load_lexicon(str(tmp_path), "uzn")

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            ("hell\n".encode("utf-16"), "is UTF-16 or no text"),
            ("hell\n".encode("utf-16-le"), "is UTF-16 or no text"),
            (bytes(range(256)), "is UTF-16 or no text"),
            ("bon\nmerde à toi\n".encode("latin-1"), r"line 2: is not UTF-8"),
            (b"", "holds no phrase"),
            (b"# nothing\n\n...\n", "holds no phrase"),
        ],
    )
    def test_wrong_ones(self, tmp_path: Path, content: bytes, told: str) -> None:
        (tmp_path / "eng.txt").write_bytes(content)
        with pytest.raises(InputError, match=told):
            load_lexicon(str(tmp_path), "eng")
        with pytest.raises(InputError, match="is no folder with lexicons"):
            load_lexicon(str(tmp_path / "eng.txt"), "eng")
