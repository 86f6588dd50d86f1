"""Measures of text against sacrebleu, jiwer and numbers computed by hand."""

import hashlib
import unicodedata
from itertools import zip_longest
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
import sacrebleu
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from seamlessalign.errors import InputError
from seamlessalign.training.evaluation.measures import num_references
from seamlessalign.training.evaluation.resampling import bootstrap
from seamlessalign.training.evaluation.text import ErrorRate, normaliser, text_measure

MADE = ["The cat sat on the mat .", "", "NA", "null hypothesis tests", "a big dog barked at 3 cats"]
WANTED = ["The cat sat on a mat.", "Nothing at all.", "NA", "Null hypotheses", "A big dog barked at three cats."]


def _corpus(name: str, lang: str, made: list[str], *references: list[str]) -> float:
    measure = text_measure(name, lang)
    return measure.score(measure.statistics(made, list(zip(*references, strict=True))).sum(0))


WORDS = st.lists(
    st.sampled_from(["the", "a", "cat", "dog", "sat", "ran", ",", ".", "3", "three", "é", "你好", "ไทย", "NA", "null"]),
    max_size=9,
).map(" ".join)
ROWS = st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=6)


class TestSacrebleu:
    @given(ROWS, st.sampled_from(["eng", "cmn", "deu", "tha"]))
    @settings(max_examples=60, deadline=None)
    def test_bleu(self, rows: list[tuple[str, str, str]], lang: str) -> None:
        made, *references = (list(some) for some in zip(*rows, strict=True))
        tokenize = "char" if lang in ("cmn", "tha") else "13a"
        theirs = sacrebleu.corpus_bleu(made, references, tokenize=tokenize, force=True).score
        assert _corpus("bleu", lang, made, *references) == theirs

    @given(ROWS)
    @settings(max_examples=60, deadline=None)
    def test_chrf(self, rows: list[tuple[str, str, str]]) -> None:
        made, *references = (list(some) for some in zip(*rows, strict=True))
        assert (
            _corpus("chrf++", "eng", made, *references) == sacrebleu.corpus_chrf(made, references, word_order=2).score
        )
        assert _corpus("chrf", "eng", made, *references) == sacrebleu.corpus_chrf(made, references).score

    @given(st.lists(st.lists(WORDS, min_size=1, max_size=3), min_size=1, max_size=5), st.data())
    @settings(max_examples=40, deadline=None)
    def test_rows_with_different_numbers_of_references(self, wanted: list[list[str]], data: st.DataObject) -> None:
        made = [data.draw(WORDS) for _ in wanted]
        streams: Any = [list(stream) for stream in zip_longest(*wanted)]  # None where a row has no more
        for name, theirs in (("bleu", BLEU(force=True)), ("chrf++", CHRF(word_order=2))):
            measure = text_measure(name, "eng")
            found = measure.score(measure.statistics(made, wanted).sum(0))
            if len(streams) > 1:
                assert found == theirs.corpus_score(made, streams).score
                assert measure.signature(num_references(wanted)) == str(theirs.get_signature())

    @given(ROWS, st.sampled_from(["eng", "cmn"]))
    @settings(max_examples=40, deadline=None)
    def test_rows_by_themselves(self, rows: list[tuple[str, str, str]], lang: str) -> None:
        tokenize = "char" if lang == "cmn" else "13a"
        for name, theirs in (
            ("bleu", BLEU(tokenize=tokenize, effective_order=True, force=True)),
            ("chrf", CHRF()),
            ("chrf++", CHRF(word_order=2)),
        ):
            measure = text_measure(name, lang)
            numbers = measure.statistics([row[0] for row in rows], [row[1:] for row in rows])
            for row, some in zip(rows, numbers, strict=True):
                assert measure.row_score(some) == theirs.sentence_score(row[0], row[1:]).score
            assert measure.row_signature(2) == str(theirs.get_signature())

    def test_signatures_are_theirs(self) -> None:
        for name, theirs in (("bleu", BLEU()), ("chrf++", CHRF(word_order=2))):
            theirs.corpus_score(MADE, [WANTED, WANTED])
            assert text_measure(name, "eng").signature(2) == str(theirs.get_signature())
        assert "tok:char" in text_measure("bleu", "mya").signature()

    def test_draws_are_theirs(self) -> None:
        theirs = BLEU(force=True)
        found = theirs.corpus_score(MADE, [WANTED], n_bootstrap=200)
        ours = text_measure("bleu", "eng")
        scores = bootstrap(ours.statistics(MADE, [[text] for text in WANTED]), ours.score, samples=200)
        ordered = np.sort(scores)
        assert scores.mean() == pytest.approx(found._mean, rel=1e-6)  # they sum in float32
        assert (ordered[-6] - ordered[5]) / 2 == pytest.approx(found._ci, rel=1e-6)

    def test_pieces_of_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "texts.txt").write_text("\n".join([*MADE, *WANTED] * 20))
        sentencepiece.SentencePieceTrainer.train(
            input=str(tmp_path / "texts.txt"), model_prefix=str(tmp_path / "spm"), vocab_size=40, minloglevel=2
        )
        pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spm.model"))
        cut = [[" ".join(pieces.encode(text, out_type=str)) for text in texts] for texts in (MADE, WANTED)]
        measure = text_measure("spbleu", "eng", sentencepiece=str(tmp_path / "spm.model"))
        found = measure.score(measure.statistics(MADE, [[text] for text in WANTED]).sum(0))
        assert found == sacrebleu.corpus_bleu(cut[0], [cut[1]], tokenize="none", force=True).score
        sha256 = hashlib.sha256((tmp_path / "spm.model").read_bytes()).hexdigest()
        assert f"|tok:spm-{sha256[:8]}|" in measure.signature()

    def test_a_file_that_holds_no_pieces(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="give sentencepiece"):
            text_measure("spbleu", "eng")
        (tmp_path / "spm.model").write_text("no model")
        with pytest.raises(InputError, match="is no SentencePiece model"):
            text_measure("spbleu", "eng", sentencepiece=str(tmp_path / "spm.model"))


class TestErrorRates:
    @given(ROWS)
    @settings(max_examples=60, deadline=None)
    def test_as_they_are(self, rows: list[tuple[str, str, str]]) -> None:
        rows = [row for row in rows if row[1]]
        if not rows:
            return
        made, wanted, _ = (list(some) for some in zip(*rows, strict=True))
        raw = ErrorRate("wer", "eng", normalised=False)
        ours = raw.score(raw.statistics(made, [[text] for text in wanted]).sum(0))
        assert ours == pytest.approx(100 * jiwer.wer(wanted, made), abs=1e-9)

    @given(ROWS, st.sampled_from(["eng", "fra", "cmn", "jpn", "tha", "lao", "mya"]))
    @settings(max_examples=60, deadline=None)
    def test_of_rows_and_of_all_as_jiwer_has_them(self, rows: list[tuple[str, str, str]], lang: str) -> None:
        plain = normaliser(lang)
        for unit in ("wer", "cer"):
            spaced = {"wer": " ", "cer": ""}[unit]
            texts = [[spaced.join(plain(text).split()) for text in row[:2]] for row in rows]
            kept = [row for row, text in zip(rows, texts, strict=True) if text[1]]  # jiwer refuses empty references
            texts = [text for text in texts if text[1]]
            if not kept:
                continue
            measure = text_measure(unit, lang)
            numbers = measure.statistics([row[0] for row in kept], [[row[1]] for row in kept])
            theirs = {"wer": jiwer.wer, "cer": jiwer.cer}[unit]
            assert measure.score(numbers.sum(0)) == pytest.approx(
                100 * theirs([t[1] for t in texts], [t[0] for t in texts])
            )
            for some, (made, wanted) in zip(numbers, texts, strict=True):
                assert measure.row_score(some) == pytest.approx(100 * theirs(wanted, made))

    def test_rows_whose_reference_says_nothing(self) -> None:
        measure = ErrorRate("wer", "eng")
        numbers = measure.statistics(["a cat", ""], [["(laughs)"], ["!!!"]])
        assert numbers.tolist() == [[2, 0], [0, 0]]
        assert np.isnan(measure.row_score(numbers[0])) and np.isnan(measure.score(numbers.sum(0)))

    def test_normalised_by_hand(self) -> None:
        # "the cat sat on the mat" of "the cat sat on a mat": 1 of 6; all 3 deleted; 0 of 1; 1 of 2 and 1 more; 0 of 7
        found = ErrorRate("wer", "eng").statistics(MADE, [[text] for text in WANTED])
        assert found.tolist() == [[1, 6], [3, 3], [0, 1], [2, 2], [0, 7]]

    def test_unspaced_languages_have_characters_and_say_so(self) -> None:
        measure = text_measure("error_rate", "cmn")
        assert (measure.name, text_measure("error_rate", "fra").name) == ("CER", "WER")
        assert measure.statistics(["你 好吗"], [["你好，妈"]]).tolist() == [[1, 3]]
        assert "unit:char" in measure.signature()

    def test_the_nearest_of_several_references(self) -> None:
        measure = ErrorRate("wer", "eng")
        assert measure.statistics(["a b"], [["a c d", "a b c", "x"]]).tolist() == [[1, 3]]

    def test_whisper_normalisers_are_those_of_transformers(self) -> None:
        import json
        from importlib import resources

        from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

        spellings = json.loads((resources.files("whisper_normalizer") / "normalizers/english.json").read_text())
        theirs = EnglishTextNormalizer(spellings)
        texts = [
            *MADE,
            *WANTED,
            "I've got $20 and won't colour twenty-one (laughs) mm-hmm",
            "Mr. O'Neil's 2nd 1,000,000",
        ]
        assert [normaliser("eng")(text) for text in texts] == [theirs(text) for text in texts]
        basic = ["Çà et là… l'été!", "Straße [Lärm] und ÄÖÜ", "नमस्ते दुनिया"]
        assert [normaliser("fra")(text) for text in basic] == [BasicTextNormalizer()(text) for text in basic]


class TestTextsAsTheyAre:
    def test_other_unicode_forms_are_other_texts_until_they_are_normalised(self) -> None:
        composed = "été déjà"
        apart = unicodedata.normalize("NFD", composed)
        assert _corpus("chrf", "fra", [apart], [composed]) == sacrebleu.corpus_chrf([apart], [[composed]]).score < 100
        assert _corpus("bleu", "fra", [apart], [composed]) == sacrebleu.corpus_bleu([apart], [[composed]]).score < 1
        assert _corpus("wer", "fra", [apart], [composed]) == 0

    @pytest.mark.parametrize("name", ["bleu", "chrf", "chrf++", "wer", "cer"])
    def test_nothing_and_white_space(self, name: str) -> None:
        best = 0.0 if name in ("wer", "cer") else 100.0
        for made in ("", " ", "\n\t", "\u3000"):
            assert _corpus(name, "eng", [made], ["a cat sat here"]) == 100 - best
        for text in ("NA there is none", "null nan None NaN", "N/A n/a -- #N/A !"):
            assert _corpus(name, "eng", [text], [text]) == pytest.approx(best)

    def test_texts_of_100_000_characters(self) -> None:
        random = np.random.default_rng(0)
        words = ["alpha", "beta", "gamma", "12", "it's"]
        text = " ".join(random.choice(words, 20_000))
        assert len(text) > 80_000
        for name in ("bleu", "chrf", "wer"):
            assert _corpus(name, "eng", [text], [text]) == pytest.approx(0 if name == "wer" else 100)
        assert _corpus("wer", "eng", ["x " * 50_000], ["a b"]) == 100 * 50_000 / 2
        han = "".join(chr(0x4E00 + number) for number in random.integers(0, 3000, 30_000))
        assert _corpus("cer", "cmn", [han[1:]], [han]) == pytest.approx(100 / len(normaliser("cmn")(han)))

    @pytest.mark.parametrize("lang", ["eng", "fra"])
    def test_no_text_stops_whispers_normaliser(self, lang: str) -> None:
        plain = normaliser(lang)
        assert plain("7" * 9_001).replace(" ", "") == "7" * 9_001  # more digits than Python makes a number of
        for bracket in ("<", "[", "(", " ", "( ", "\n"):
            assert plain(f"a (noise) <b> c {bracket * 100_000} d") == "a c d"  # Whisper's would take minutes

    @given(st.text(alphabet="<[(a])> 1.$", max_size=40))
    def test_brackets_are_whispers_where_there_are_few(self, text: str) -> None:
        from whisper_normalizer.basic import BasicTextNormalizer

        assert normaliser("fra")(text) == BasicTextNormalizer()(text)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("seamlessalign.training.evaluation.text._MANY", 0)
            assert normaliser("fra")(text) == BasicTextNormalizer()(text)


def test_an_unknown_measure_names_those_there_are() -> None:
    with pytest.raises(InputError, match="there are bleu, spbleu, chrf"):
        text_measure("blue", "eng")
