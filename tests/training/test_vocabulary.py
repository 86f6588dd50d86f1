"""Tokens of text and units: transformers' numbers, round trips, files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.errors import InputError, ModelError
from seamlessalign.training.vocabulary import (
    TextVocabulary,
    UnitVocabulary,
    load_text_vocabulary,
    load_unit_vocabulary,
)
from tests.training.tiny_unity import SENTENCES, pieces, tiny_text, tiny_units


def _peer(text: TextVocabulary) -> Any:
    """transformers' tokenizer of the same pieces, numbered by its own rule."""
    from sentencepiece import SentencePieceProcessor
    from transformers import SeamlessM4TTokenizer
    from transformers.convert_slow_tokenizer import generate_merges

    model = SentencePieceProcessor(model_proto=text.model)
    order = {model.IdToPiece(i): i for i in range(model.GetPieceSize())}
    scores = {model.IdToPiece(i): model.GetScore(i) for i in range(model.GetPieceSize())}
    vocab = SeamlessM4TTokenizer.convert_from_spm_model(order)["vocab"]
    merges = generate_merges(order, scores, skip_tokens={"<unk>", "<s>", "</s>"})
    tags = [f"__{lang}__" for lang in text.languages]
    peer = SeamlessM4TTokenizer(vocab=vocab, merges=merges)
    peer.add_special_tokens({"extra_special_tokens": tags})
    return peer


class TestText:
    def test_numbers_are_those_of_transformers(self) -> None:
        text = tiny_text()
        peer = _peer(text)
        for sentence in SENTENCES:
            assert text.source(sentence, "fra") == peer(sentence, src_lang="fra")["input_ids"]
            assert text.target(sentence, "eng") == peer(text_target=sentence, tgt_lang="eng")["input_ids"]
        assert len(peer) == text.size
        special = [text.pad, text.unk, text.bos, text.eos]
        assert special == peer.convert_tokens_to_ids(["<pad>", "<unk>", "<s>", "</s>"])

    @pytest.mark.parametrize("sentence", SENTENCES)
    def test_a_text_comes_back(self, sentence: str) -> None:
        text = tiny_text()
        tokens = [text.pad, *text.target(sentence, "fra"), text.pad]
        assert text.decode(np.array(tokens)) == sentence

    def test_a_letter_that_was_never_seen_is_unknown_and_left_out(self) -> None:
        text = tiny_text()
        assert text.unk in text.pieces("cat Ω")
        assert text.decode(text.pieces("cat Ω")).strip() == "cat"

    def test_tags_follow_the_pieces(self) -> None:
        text = tiny_text("rus", "eng")
        assert (text.tag("rus"), text.tag("eng"), text.size) == (61, 62, 63)
        assert text.piece(62) == "__eng__"
        assert [text.piece(token) for token in (0, 1, 2, 3)] == ["<pad>", "<unk>", "<s>", "</s>"]

    def test_a_token_that_means_nothing_is_never_written(self) -> None:
        assert tiny_text().unwritten("eng") == set()
        assert TextVocabulary(pieces(), {"eng": 62}, size=65).unwritten("eng") == {61, 63, 64}

    def test_what_cannot_be_is_told(self) -> None:
        text = tiny_text()
        with pytest.raises(InputError, match="'deu' has no tag in the text vocabulary: eng fra"):
            text.source("x", "deu")
        with pytest.raises(InputError, match="not Unicode"):
            text.pieces("\ud800")
        with pytest.raises(ModelError, match="no SentencePiece model"):
            TextVocabulary(b"no", ["eng"])
        with pytest.raises(ModelError, match="twice"):
            TextVocabulary(pieces(), ["eng", "eng"])
        with pytest.raises(ModelError, match="tokens of their own from 61 to 61"):
            TextVocabulary(pieces(), {"eng": 60}, size=62)

    def test_it_is_saved_and_loaded(self, tmp_path: Path) -> None:
        text = tiny_text()
        text.save(tmp_path)
        again = load_text_vocabulary(tmp_path)
        assert vars(again) | {"_cutters": 0, "_tokens": 0} == vars(text) | {"_cutters": 0, "_tokens": 0}
        assert again.digest == text.digest != tiny_text("fra", "eng").digest
        (tmp_path / "text_vocabulary.json").write_text("{}")
        with pytest.raises(ModelError, match="not a vocabulary of ours"):
            load_text_vocabulary(tmp_path)

    def test_a_folder_of_transformers_says_which_token_is_which_language(self, tmp_path: Path) -> None:
        (tmp_path / "sentencepiece.bpe.model").write_bytes(pieces())
        (tmp_path / "config.json").write_text(
            json.dumps({"vocab_size": 66, "t2u_vocab_size": 40, "unit_hifi_gan_vocab_size": 12})
        )
        (tmp_path / "generation_config.json").write_text(
            json.dumps(
                {
                    "text_decoder_lang_to_code_id": {"eng": 63, "cmn_Hant": 61},
                    "t2u_lang_code_to_id": {"eng": 37},
                    "vocoder_lang_code_to_id": {"eng": 0},
                }
            )
        )
        text, units = load_text_vocabulary(tmp_path), load_unit_vocabulary(tmp_path)
        assert (text.size, text.tag("eng"), text.tag("cmn_Hant")) == (66, 63, 61)
        assert units is not None
        assert (units.num_units, units.size, units.tag("eng")) == (12, 40, 37)
        assert units.target([11], "eng") == [2, 37, 15, 2]


class TestUnits:
    @given(st.lists(st.integers(0, 11)))
    @settings(max_examples=50, deadline=None)
    def test_units_come_back(self, units: list[int]) -> None:
        vocabulary = tiny_units()
        tokens = vocabulary.target(np.array(units, dtype=np.int32), "fra")
        assert tokens == vocabulary.target(units, "fra") == [2, 12 + 4 + 1, *(unit + 4 for unit in units), 2]
        assert vocabulary.units([*tokens, vocabulary.pad]) == units

    def test_a_unit_that_there_is_not_is_told(self) -> None:
        for wrong in (12, -1):
            with pytest.raises(InputError, match=rf"unit {wrong} is none of the model's, which are 0 to 11"):
                tiny_units().target([3, wrong], "eng")
        with pytest.raises(InputError, match="unit vocabulary"):
            tiny_units().target([3], "deu")

    def test_it_is_saved_and_loaded(self, tmp_path: Path) -> None:
        tiny_units().save(tmp_path)
        again = load_unit_vocabulary(tmp_path)
        assert again is not None
        assert vars(again) == vars(tiny_units())

    def test_a_published_table_keeps_its_layout(self) -> None:
        """10000 units, two blocks of tags, of which the second counts (SeamlessM4T)."""
        languages = {f"l{i:02d}": 10000 + 39 + 4 + i for i in range(38)}
        units = UnitVocabulary(10000, languages, size=10082)
        assert units.idle == {10004 + i for i in range(39)} | {10081}
        assert units.units([3, 4, 10003, 10004, 10043, 10081]) == [0, 9999]
