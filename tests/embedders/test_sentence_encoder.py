"""Directories of sentence-transformers against that package, on small random models; odd directories and texts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seamlessalign.embedders.batches import batches
from seamlessalign.embedders.sentence_encoder import SentenceEncoder
from seamlessalign.embedders.text import load_text_embedder
from seamlessalign.errors import ModelError
from seamlessalign.model_files import find_model

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(60))]
MODES = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken", ("cls", "mean")]


def _texts(count: int = 30) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(f"w{i}" for i in rng.integers(0, 60, rng.integers(1, 25))) for _ in range(count)]


def _transformer(folder: Path, family: str = "bert") -> Path:
    """A random transformer of two layers with a tokenizer of whole words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

    torch.manual_seed(1)
    sizes: dict[str, Any] = {
        "vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": 24, "pad_token_id": 0,
    }  # fmt: skip
    model = BertModel(BertConfig(**sizes)) if family == "bert" else XLMRobertaModel(XLMRobertaConfig(**sizes))
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair=None, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
    ).save_pretrained(folder)  # fmt: skip
    return folder


def _saved(folder: Path, mode: Any = "mean", family: str = "bert", dense: int = 0, unit: bool = True) -> Any:
    """The package's own model, saved as it saves it."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

    body = Transformer(str(_transformer(folder / "body", family)), max_seq_length=20)
    width = 16 * (len(mode) if isinstance(mode, tuple) else 1)
    parts: list[Any] = [body, Pooling(16, mode)]
    if dense:
        torch.manual_seed(2)
        parts.append(Dense(width, dense, activation_function=torch.nn.Tanh()))
    if unit:
        parts.append(Normalize())
    model = SentenceTransformer(modules=parts, device="cpu")
    model.save(str(folder / "saved"))
    return model


@pytest.mark.parametrize("mode", MODES)
def test_every_pooling_gives_the_packages_rows(tmp_path: Path, mode: Any) -> None:
    model = _saved(tmp_path, mode)
    encoder = SentenceEncoder(tmp_path / "saved")
    rows, wanted = encoder.encode(_texts()), model.encode(_texts())
    assert encoder.dim == wanted.shape[1] == rows.shape[1] and rows.dtype == np.float32
    assert np.abs(rows - wanted).max() < 1e-5


@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
@pytest.mark.parametrize("unit", [False, True])
def test_dense_layers_and_families(tmp_path: Path, family: str, unit: bool) -> None:
    model = _saved(tmp_path, "cls", family, dense=10, unit=unit)
    encoder = SentenceEncoder(tmp_path / "saved")
    assert encoder.dim == 10
    assert np.abs(encoder.encode(_texts()) - model.encode(_texts())).max() < 1e-5


def test_switches_of_older_files_are_the_same_as_names(tmp_path: Path) -> None:
    model = _saved(tmp_path, ("cls", "max", "mean"))
    config = {f"pooling_mode_{name}": True for name in ("mean_tokens", "max_tokens", "cls_token")}
    place = tmp_path / "saved" / "1_Pooling" / "config.json"
    place.write_text(json.dumps({"word_embedding_dimension": 16, **config, "pooling_mode_lasttoken": False}))
    assert np.abs(SentenceEncoder(tmp_path / "saved").encode(_texts()) - model.encode(_texts())).max() < 1e-5


def test_a_prefix_is_the_packages_prompt(tmp_path: Path) -> None:
    model = _saved(tmp_path)
    rows = SentenceEncoder(tmp_path / "saved", prefix="w1 w2 ").encode(_texts())
    assert np.abs(rows - model.encode(_texts(), prompt="w1 w2 ")).max() < 1e-5


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_near(tmp_path: Path, dtype: str) -> None:
    _saved(tmp_path)
    whole, half = (SentenceEncoder(tmp_path / "saved", dtype=kind).encode(_texts()) for kind in ("float32", dtype))
    assert 0 < np.abs(whole - half).max() < (3e-2 if dtype == "bfloat16" else 4e-3)
    assert (np.sum(whole * half, 1) > 0.999).all()


@pytest.mark.parametrize(("name", "dense"), [("labse", 768), ("sentence-transformers", 10)])
def test_a_directory_by_its_name(tmp_path: Path, name: str, dense: int) -> None:
    model = _saved(tmp_path, "cls", dense=dense)
    embedder = load_text_embedder(name, str(tmp_path / "saved"))
    wanted = model.encode(["w1 w2", "w3"])
    assert np.abs(embedder.embed(["W1, w2!", "w3"], "fra") - wanted).max() < 1e-5  # as it sounds; no mean was fitted
    before = embedder.models[name]
    place = tmp_path / "saved" / "2_Dense" / "model.safetensors"
    place.write_bytes(place.read_bytes() + b" ")
    assert find_model(name, str(tmp_path / "saved")).sha256 != before  # the parts' weights count too


def test_a_transformers_directory_is_pooled_by_the_mean(tmp_path: Path) -> None:
    model = _saved(tmp_path, "mean", unit=False)
    encoder = SentenceEncoder(_transformer(tmp_path / "plain"), max_tokens=20)
    assert np.abs(encoder.encode(_texts()) - model.encode(_texts())).max() < 1e-5


@pytest.mark.parametrize(("family", "most"), [("bert", 24), ("xlm-roberta", 23)])
def test_texts_that_are_cut_are_counted(tmp_path: Path, family: str, most: int) -> None:
    """RoBERTa's family has no position for the padding token, nor any before it."""
    encoder = SentenceEncoder(_transformer(tmp_path / "plain", family))
    long = [" ".join(["w1"] * count) for count in (most - 2, most - 1, 100_000)]
    rows = encoder.encode(long)
    assert encoder.truncated == 2
    assert np.abs(rows - rows[0]).max() < 1e-6  # what is left of each is the same


def test_batches_waste_little_and_forget_nothing() -> None:
    lengths = np.random.default_rng(3).integers(1, 512, 3000).tolist()
    made = batches(lengths, 8192)
    assert sorted(i for batch in made for i in batch) == list(range(3000))
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in made)
    assert padded < 1.05 * sum(lengths)
    assert all(len(batch) * max(lengths[i] for i in batch) <= 8192 for batch in made)


def _without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _one_tensor_less(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.bias"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def _unknown_part(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules[2]["type"] = "elsewhere.RunMe"
    (folder / "modules.json").write_text(json.dumps(modules))


def _damaged_json(folder: Path) -> None:
    (folder / "1_Pooling" / "config.json").write_text("{")


def _dense_of_another_size(folder: Path) -> None:
    place = folder / "2_Dense" / "config.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {"out_features": 11}))


def _pickled_dense(folder: Path) -> None:
    import torch

    (folder / "2_Dense" / "model.safetensors").unlink()
    torch.save({"linear.weight": _Runs()}, folder / "2_Dense" / "pytorch_model.bin")


class _Runs:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("ran"),))


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (_without_tokenizer, "has no tokenizer.json"),
        (_without_weights, "cannot be loaded"),
        (_one_tensor_less, r"lack encoder\.layer\.1\.output\.dense\.bias$"),
        (_unknown_part, "RunMe is not known"),
        (_damaged_json, "config.json: cannot be read as JSON"),
        (_dense_of_another_size, "2_Dense: its tensors do not fit its config"),
        (_pickled_dense, "2_Dense: its weights cannot be read"),
    ],
)
def test_what_is_wrong_with_a_directory_is_told(
    tmp_path: Path, harm: Callable[[Path], None], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _saved(tmp_path, dense=10)
    harm(tmp_path / "saved")
    with pytest.raises(ModelError, match=told) as caught:
        SentenceEncoder(tmp_path / "saved")
    assert "\n" not in str(caught.value) or "tensors do not fit" in told
    assert not Path("ran").exists()
    shutil.rmtree(tmp_path / "saved")
