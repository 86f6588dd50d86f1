"""SONAR's text encoder and decoder against a restatement in plain torch, in every style of file; texts that are odd."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from seamlessalign.embedders import Card, load_card, load_text_embedder
from seamlessalign.embedders.sonar import SonarTextDecoder, SonarTextEncoder, load_decoder
from seamlessalign.embedders.sonar import text as sonar_text
from seamlessalign.embedders.sonar.tags import TAGS
from seamlessalign.errors import InputError, ModelError
from seamlessalign.languages import all_languages
from tests.embedders import sonar_models
from tests.embedders.sonar_models import DIM, TO_HF_ORDER

Float32 = NDArray[np.float32]
TOKENIZER = "sentencepiece.source.256000.model"
ENCODER, DECODER = "sonar_text_encoder.pt", "sonar_text_decoder.pt"
TEXTS = ["the cat", "a dog ran to the sea, one two three four five!", "x", "the mat " * 20, "Żółw sat", "one"]
STYLES = ["fairseq 1", "fairseq 2", "transformers", "transformers, whole model"]
HALF = {"float16": 1e-3, "bfloat16": 6e-3}  # largest difference of unit rows


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Any:
    processor = sonar_models.train_tokenizer(tmp_path_factory.mktemp("tokenizer") / TOKENIZER)
    assert processor.PieceToId("<unk>") == 0 and processor.PieceToId("</s>") == 2
    return processor


def _vocab(pieces: Any) -> int:
    return int(pieces.GetPieceSize()) + 1 + 202 + 3


def _tokens(pieces: Any, text: str, tag: str = "eng_Latn") -> list[int]:
    """In fairseq 2's order, by transformers' own list of languages."""
    from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES

    language = pieces.GetPieceSize() + 1 + FAIRSEQ_LANGUAGE_CODES.index(tag)
    return [language, *(piece + 1 for piece in pieces.Encode(text)), 3]


def _write(folder: Path, pieces: Any, weights: dict[str, Any], style: str, *, decoder: bool) -> Path:
    """A directory in a style; returns the file of weights."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / (DECODER if decoder else ENCODER)
    (folder / TOKENIZER).write_bytes(pieces.serialized_model_proto())
    if style == "fairseq 1":
        torch.save(sonar_models.fairseq1_text(weights, decoder=decoder), file)
    elif style == "fairseq 2":
        torch.save(sonar_models.fairseq2_text(weights, decoder=decoder), file)
    else:
        (folder / TOKENIZER).rename(folder / "sentencepiece.bpe.model")
        _port(weights, whole=style != "transformers", decoder=decoder).save_pretrained(folder)
        file = folder / "model.safetensors"
    return file


def _port(weights: dict[str, Any], *, whole: bool, decoder: bool) -> Any:
    """As people port SONAR to transformers: the encoder alone, or both halves in a model for translation."""
    from transformers import M2M100Config, M2M100ForConditionalGeneration
    from transformers.models.m2m_100.modeling_m2m_100 import M2M100Encoder

    config = M2M100Config(
        vocab_size=len(weights["table"]),
        d_model=DIM,
        encoder_layers=2,
        decoder_layers=2,
        encoder_ffn_dim=sonar_models.FFN,
        decoder_ffn_dim=sonar_models.FFN,
        encoder_attention_heads=16,
        decoder_attention_heads=16,
    )
    model = M2M100ForConditionalGeneration(config) if whole or decoder else M2M100Encoder(config)
    half = model if not (whole or decoder) else model.model.decoder if decoder else model.model.encoder
    state = {**sonar_models.fairseq1_text(weights, decoder=True)["state_dict"]}
    for key in ("version", "embed_positions._float_tensor", "output_projection.weight"):
        state.pop(key)
    half.load_state_dict(state)
    return model


@pytest.fixture(scope="module")
def encoder_weights(pieces: Any) -> dict[str, Any]:
    return sonar_models.random_text(_vocab(pieces), decoder=False)


@pytest.fixture(scope="module")
def wanted(pieces: Any, encoder_weights: dict[str, Any]) -> Float32:
    rows = [sonar_models.text_row(encoder_weights, _tokens(pieces, text)) for text in TEXTS]
    return np.asarray(torch.stack(rows).float().numpy())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, pieces: Any, encoder_weights: dict[str, Any]) -> Path:
    """A directory as it is downloaded."""
    folder = tmp_path_factory.mktemp("sonar")
    _write(folder, pieces, encoder_weights, "fairseq 1", decoder=False)
    return folder


@pytest.fixture(scope="module")
def encoder(folder: Path) -> SonarTextEncoder:
    return SonarTextEncoder(folder / ENCODER)


def _unit(rows: Float32) -> Float32:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


class TestEncoder:
    @pytest.mark.parametrize("style", STYLES)
    def test_every_style_gives_the_rows_of_the_restatement(
        self, style: str, tmp_path: Path, pieces: Any, encoder_weights: dict[str, Any], wanted: Float32
    ) -> None:
        encoder = SonarTextEncoder(_write(tmp_path, pieces, encoder_weights, style, decoder=False))
        rows = encoder.encode(TEXTS, "eng")  # one batch, with padding
        assert rows.dtype == np.float32 and np.abs(rows - wanted).max() < 1e-5
        encoder.save(tmp_path / "kept.safetensors")
        np.testing.assert_array_equal(SonarTextEncoder(tmp_path / "kept.safetensors").encode(TEXTS, "eng"), rows)

    @pytest.mark.parametrize("dtype", HALF)
    def test_half_precision_stays_within_its_bound(self, dtype: str, folder: Path, wanted: Float32) -> None:
        rows = SonarTextEncoder(folder / ENCODER, dtype=dtype).encode(TEXTS, "eng")
        assert 0 < np.abs(_unit(rows) - _unit(wanted)).max() < HALF[dtype]

    def test_numbers_that_grow_out_of_half_precision_are_told(self, tmp_path: Path, pieces: Any) -> None:
        weights = sonar_models.random_text(_vocab(pieces), decoder=False, layers=1)
        weights["norm.weight"] *= 1e6
        file = _write(tmp_path, pieces, weights, "fairseq 2", decoder=False)
        assert np.isfinite(SonarTextEncoder(file).encode(["the cat"], "eng")).all()
        with pytest.raises(ModelError, match="not finite in float16; load it in float32"):
            SonarTextEncoder(file, dtype="float16").encode(["the cat"], "eng")

    def test_batches_keep_the_order(
        self, encoder: SonarTextEncoder, wanted: Float32, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sonar_text, "_BATCH_TOKENS", 40)
        assert np.abs(encoder.encode(TEXTS, "eng") - wanted).max() < 1e-5

    def test_the_language_is_part_of_the_text(
        self, encoder: SonarTextEncoder, pieces: Any, encoder_weights: dict[str, Any]
    ) -> None:
        rows = encoder.encode(["le chat"], "cmn")
        wanted = sonar_models.text_row(encoder_weights, _tokens(pieces, "le chat", "zho_Hans"))
        assert np.abs(rows[0] - wanted.numpy()).max() < 1e-5
        assert np.abs(rows - encoder.encode(["le chat"], "fra")).max() > 1e-3

    def test_what_is_too_long_is_cut_and_counted(
        self, folder: Path, pieces: Any, encoder_weights: dict[str, Any]
    ) -> None:
        encoder = SonarTextEncoder(folder / ENCODER)
        text = "one two three " * 400
        row = encoder.encode(["the cat", text], "eng")[1]
        assert encoder.truncated == 1
        assert np.abs(row - sonar_models.text_row(encoder_weights, _tokens(pieces, text)[:512]).numpy()).max() < 1e-5

    @pytest.mark.parametrize(
        "text",
        ["x" * 100_000, "the cat " * 12_500, "cat\0mat", "\U0001f600", "\ufeffcat", "漢字"],
        ids=["100 kB word", "100 kB of words", "NUL inside", "emoji", "mark", "unknown script"],
    )
    def test_odd_texts_have_a_row_of_their_own(self, encoder: SonarTextEncoder, wanted: Float32, text: str) -> None:
        rows = encoder.encode([TEXTS[0], text, TEXTS[2]], "eng")
        assert np.isfinite(rows).all() and np.abs(rows[[0, 2]] - wanted[[0, 2]]).max() < 1e-5

    @pytest.mark.parametrize("text", ["", " ", "\u200b", "\n", "half a character: \ud800"])
    def test_a_text_of_nothing_is_refused(self, encoder: SonarTextEncoder, text: str) -> None:
        with pytest.raises(InputError, match="sentence 1 "):
            encoder.encode(["the cat", text], "eng")

    @pytest.mark.parametrize(
        ("lang", "what"), [("bre", "none of the 202"), ("xxx", "not in the table"), ("en", "'eng'"), (None, "told")]
    )
    def test_a_language_that_is_not_known_is_refused(
        self, encoder: SonarTextEncoder, lang: str | None, what: str
    ) -> None:
        with pytest.raises(InputError, match=what):
            encoder.encode(["the cat"], lang)


class TestTokenizer:
    def test_tags_are_those_of_transformers_in_their_order(self) -> None:
        from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES

        assert list(TAGS) == list(FAIRSEQ_LANGUAGE_CODES) and len(set(TAGS)) == 202

    def test_every_tag_is_in_the_table_but_for_second_scripts(self) -> None:
        known = {language.sonar for language in all_languages() if language.sonar}
        other_scripts = {"ace_Arab", "bjn_Arab", "kas_Deva", "knc_Arab", "taq_Tfng", "zho_Hant"}
        assert known == set(TAGS) - other_scripts

    def test_a_directory_without_one_is_refused(self, tmp_path: Path, folder: Path) -> None:
        (tmp_path / ENCODER).write_bytes((folder / ENCODER).read_bytes())
        with pytest.raises(ModelError, match=rf"has no tokenizer; put {TOKENIZER} or sentencepiece\.bpe\.model there"):
            SonarTextEncoder(tmp_path / ENCODER)
        with pytest.raises(ModelError, match=f"lacks {TOKENIZER} or"):
            load_text_embedder("sonar", str(tmp_path))

    @pytest.mark.parametrize("content", [b"", b"no model", b"\xff" * 100])
    def test_a_damaged_one_is_refused(self, tmp_path: Path, folder: Path, content: bytes) -> None:
        (tmp_path / ENCODER).write_bytes((folder / ENCODER).read_bytes())
        (tmp_path / TOKENIZER).write_bytes(content)
        with pytest.raises(ModelError, match=f"{TOKENIZER}: is no sentencepiece model"):
            SonarTextEncoder(tmp_path / ENCODER)

    @pytest.mark.parametrize("rows", [-4, 5])
    def test_one_of_another_model_is_refused(self, tmp_path: Path, pieces: Any, rows: int) -> None:
        weights = sonar_models.random_text(_vocab(pieces) + rows, decoder=False, layers=1)
        file = _write(tmp_path, pieces, weights, "fairseq 2", decoder=False)
        with pytest.raises(ModelError, match="do not belong together"):
            SonarTextEncoder(file)


class TestEmbedder:
    @pytest.fixture(autouse=True)
    def _small_card(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sonar_text, "load_card", lambda name: Card(name, DIM))

    def test_it_is_loaded_by_name(self, folder: Path, wanted: Float32) -> None:
        embedder = load_text_embedder("sonar", str(folder))
        rows = embedder.embed([TEXTS[1], TEXTS[0], TEXTS[1]], "eng")
        np.testing.assert_allclose(rows, _unit(wanted)[[1, 0, 1]], atol=1e-5)
        assert len(embedder.models["sonar"]) == 64 and embedder.truncated == 0
        assert embedder.embed([], "eng").shape == (0, DIM)

    def test_it_may_be_named_as_a_file(self, folder: Path, wanted: Float32, tmp_path: Path) -> None:
        (tmp_path / "mine.pt").write_bytes((folder / ENCODER).read_bytes())
        with pytest.raises(ModelError, match="has no tokenizer"):
            load_text_embedder("sonar", str(tmp_path / "mine.pt"))
        (tmp_path / TOKENIZER).write_bytes((folder / TOKENIZER).read_bytes())
        rows = load_text_embedder("sonar", str(tmp_path / "mine.pt")).embed(TEXTS, "eng")
        np.testing.assert_allclose(rows, _unit(wanted), atol=1e-5)

    def test_case_and_punctuation_are_read(self, folder: Path) -> None:
        embedder = load_text_embedder("sonar", str(folder))
        one, other = embedder.embed(["the cat sat", "The cat, sat!"], "eng")
        assert np.abs(one - other).max() > 1e-3

    def test_a_blank_sentence_is_refused(self, folder: Path) -> None:
        with pytest.raises(InputError, match="sentence 1 is blank"):
            load_text_embedder("sonar", str(folder)).embed(["cat", " "], "eng")


def test_a_model_of_another_size_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="64 dimensions, its card 1024"):
        load_text_embedder("sonar", str(folder), "cpu", None, "float32")


def test_the_card_brings_the_papers_threshold_and_no_means() -> None:
    card = load_card("sonar")
    assert card.dim == 1024 and not card.means
    assert set(card.thresholds) == {"text-text", "speech-text", "speech-speech"}
    for threshold in card.thresholds.values():
        assert threshold.value == 1.15 and np.isnan(threshold.precision) and "SeamlessM4T" in threshold.fitted_on


class TestDecoder:
    @pytest.fixture(scope="class")
    def weights(self, pieces: Any) -> dict[str, Any]:
        weights = sonar_models.random_text(_vocab(pieces), decoder=True, seed=3)
        weights["table"][pieces.GetPieceSize() + 1 :] *= 0.1  # so that it writes pieces and not tags
        return weights

    @pytest.fixture(scope="class")
    def decoder(self, tmp_path_factory: pytest.TempPathFactory, pieces: Any, weights: dict[str, Any]) -> Any:
        folder = tmp_path_factory.mktemp("decoder")
        return SonarTextDecoder(_write(folder, pieces, weights, "fairseq 2", decoder=True))

    @pytest.mark.parametrize("style", [style for style in STYLES if style != "transformers"])
    def test_every_style_gives_the_logits_of_the_restatement(
        self, style: str, tmp_path: Path, pieces: Any, weights: dict[str, Any], wanted: Float32
    ) -> None:
        from transformers.modeling_outputs import BaseModelOutput

        decoder = SonarTextDecoder(_write(tmp_path, pieces, weights, style, decoder=True))
        for text, row in zip(TEXTS, torch.from_numpy(wanted), strict=True):
            tokens = [3, *_tokens(pieces, text)[:-1]]
            logits = sonar_models.decoder_logits(weights, row, tokens)
            logits[:, :4] = logits[:, TO_HF_ORDER]
            with torch.inference_mode():
                found = decoder.model(
                    encoder_outputs=BaseModelOutput(last_hidden_state=row[None, None]),
                    decoder_input_ids=torch.tensor([[2, *(3 if token == 1 else token for token in tokens[1:])]]),
                ).logits[0]
            assert (found - logits).abs().max() < 1e-5
        decoder.save(tmp_path / "kept.safetensors")
        again = SonarTextDecoder(tmp_path / "kept.safetensors")
        assert again.decode(wanted, "eng", max_tokens=8) == decoder.decode(wanted, "eng", max_tokens=8)

    def test_what_it_writes_is_at_least_as_likely_as_the_greedy_choice(
        self, decoder: SonarTextDecoder, pieces: Any, weights: dict[str, Any], wanted: Float32
    ) -> None:
        tag = _tokens(pieces, "", "fra_Latn")[0]
        assert decoder.tokenizer.tag("fra") == tag
        found = [list(row) for row in decoder._tokens(wanted, tag, 10)]
        for row, written in zip(wanted, found, strict=True):
            assert written[:2] == [2, tag]
            text = written[2 : written.index(2, 2) + 1] if 2 in written[2:] else [t for t in written[2:] if t != 1]
            assert self._score(weights, row, tag, text) >= self._score(weights, row, tag, None) - 1e-6

    @staticmethod
    def _score(weights: dict[str, Any], row: Float32, tag: int, written: list[int] | None) -> float:
        """Mean log-probability of tokens behind the tag (transformers' order), or of those chosen greedily."""
        order = [*TO_HF_ORDER, *range(4, len(weights["table"]))]
        tokens, total, count = [3, tag], 0.0, 0
        while count < (10 if written is None else len(written)):
            scores = sonar_models.decoder_logits(weights, torch.from_numpy(row), tokens)[-1].log_softmax(-1)[order]
            scores[1] = -np.inf if written is None else scores[1]
            chosen = int(scores.argmax()) if written is None else written[count]
            total, count = total + float(scores[chosen]), count + 1
            tokens.append(order[chosen])
            if chosen == 2:
                break
        return total / count

    def test_texts_are_of_pieces_and_in_the_order_of_rows(self, decoder: SonarTextDecoder, wanted: Float32) -> None:
        together = decoder.decode(wanted, "fra", max_tokens=12)
        assert together == [decoder.decode(row[None], "fra", max_tokens=12)[0] for row in wanted]
        assert any(together) and len(set(together)) > 1
        assert decoder.decode(np.zeros((0, DIM), np.float32), "fra") == []

    def test_tokens_become_the_text_they_were_made_of(self, decoder: SonarTextDecoder) -> None:
        (tokens,) = decoder.tokenizer.encode(["the cat sat on the mat"], "eng")
        assert decoder.tokenizer.decode(tokens) == "the cat sat on the mat"

    def test_bad_rows_are_refused(self, decoder: SonarTextDecoder, wanted: Float32) -> None:
        with pytest.raises(InputError, match=r"rows are 2×3, the decoder reads n×64"):
            decoder.decode(np.zeros((2, 3), np.float32), "fra")
        with pytest.raises(InputError, match="row 1 is not finite"):
            decoder.decode(np.stack([wanted[0], wanted[1] * np.nan]), "fra")
        with pytest.raises(InputError, match="none of the 202"):
            decoder.decode(wanted, "bre")

    def test_it_is_loaded_by_name(self, tmp_path: Path, pieces: Any, weights: dict[str, Any]) -> None:
        _write(tmp_path, pieces, weights, "fairseq 1", decoder=True)
        assert load_decoder("sonar-decoder", str(tmp_path)).dim == DIM
        with pytest.raises(ModelError, match=r"lacks finetuned_decoder\.safetensors or finetuned_decoder\.pt"):
            load_decoder("sonar-decoder-finetuned", str(tmp_path))
