"""Measures of text against sacrebleu, jiwer and numbers computed by hand."""

import hashlib
from pathlib import Path

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
from seamlessalign.training.evaluation.resampling import bootstrap
from seamlessalign.training.evaluation.text import ErrorRate, normaliser, text_measure

MADE = ["The cat sat on the mat .", "", "NA", "null hypothesis tests", "a big dog barked at 3 cats"]
WANTED = ["The cat sat on a mat.", "Nothing at all.", "NA", "Null hypotheses", "A big dog barked at three cats."]


def _corpus(name: str, lang: str, made: list[str], *references: list[str]) -> float:
    measure = text_measure(name, lang)
    return measure.score(measure.statistics(made, list(zip(*references, strict=True))).sum(0))


_SAID = ["the", "a", "cat", "dog", "sat", "ran", ",", ".", "3", "three", "é", "你好", "ไทย", "NA", "null"]
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


def test_an_unknown_measure_names_those_there_are() -> None:
    with pytest.raises(InputError, match="there are bleu, spbleu, chrf"):
        text_measure("blue", "eng")
