"""Files that are not what they should be, and SONAR's names."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from seamlessalign.embedders.sonar import SonarSpeechEncoder, SonarTextDecoder, SonarTextEncoder
from seamlessalign.embedders.sonar.checkpoints import read_tensors
from seamlessalign.errors import ModelError
from seamlessalign.languages import all_languages
from seamlessalign.model_files import KNOWN_MODELS, describe_models, find_model
from tests.embedders import sonar_models
from tests.embedders.sonar_models import DIM

TOKENIZER = "sentencepiece.source.256000.model"
PARTS: dict[str, Callable[..., Any]] = {
    "text encoder": SonarTextEncoder,
    "text decoder": SonarTextDecoder,
    "speech encoder": SonarSpeechEncoder,
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, int]:
    """A tokenizer, and how many rows its model's table has."""
    file = tmp_path_factory.mktemp("tokenizer") / TOKENIZER
    pieces = sonar_models.train_tokenizer(file)
    return file.read_bytes(), pieces.GetPieceSize() + 1 + 202 + 3


@pytest.fixture
def folder(tmp_path: Path, tokenizer: tuple[bytes, int]) -> Path:
    (tmp_path / TOKENIZER).write_bytes(tokenizer[0])
    return tmp_path


def _held(part: str, style: str, vocab: int) -> dict[str, Any]:
    """What a whole file of a part holds."""
    if part == "speech encoder":
        write = sonar_models.fairseq1_speech if style == "fairseq 1" else sonar_models.fairseq2_speech
        return write(sonar_models.random_speech())
    decoder = part == "text decoder"
    write_text = sonar_models.fairseq1_text if style == "fairseq 1" else sonar_models.fairseq2_text
    return write_text(sonar_models.random_text(vocab, decoder=decoder), decoder=decoder)


def _state(held: dict[str, Any]) -> dict[str, Any]:
    state: dict[str, Any] = held.get("model") or held["state_dict"]
    return state


STYLES = [(part, style) for part in PARTS for style in ("fairseq 1", "fairseq 2")]


@pytest.mark.parametrize(("part", "style"), STYLES)
def test_a_tensor_that_is_missing_is_named(part: str, style: str, folder: Path, tokenizer: tuple[bytes, int]) -> None:
    held = _held(part, style, tokenizer[1])
    idle = r"version|_float_tensor|num_batches|mask_emb|pos_conv|output_projection|final_proj"
    names = [name for name in _state(held) if not re.search(idle, name)]
    for name in names[:: max(1, len(names) // 12)]:
        taken = _state(held).pop(name)
        torch.save(held, folder / "w.pt")
        with pytest.raises(ModelError, match=rf"w\.pt: is no whole SONAR {part}.* lacks 1 tensor.*{re.escape(name)}"):
            PARTS[part](folder / "w.pt")
        _state(held)[name] = taken
    torch.save(held, folder / "w.pt")
    assert PARTS[part](folder / "w.pt").dim == DIM


def test_an_encoder_without_its_table_is_refused(folder: Path, tokenizer: tuple[bytes, int]) -> None:
    held = _held("text encoder", "fairseq 1", tokenizer[1])
    del held["embed_tokens"]
    torch.save(held, folder / "w.pt")
    with pytest.raises(ModelError, match=r"lacks 1 tensor at least: embed_tokens\.weight"):
        SonarTextEncoder(folder / "w.pt")


def test_all_faults_are_told_in_one_line(folder: Path, tokenizer: tuple[bytes, int]) -> None:
    held = _held("text decoder", "fairseq 2", tokenizer[1])
    state = _state(held)
    for name in [name for name in state if ".layers.1.self_attn." in name]:
        del state[name]
    state["decoder.layers.0.ffn.inner_proj.bias"] = torch.zeros(3)
    state["decoder.layers.0.ffn.output_proj.bias"] = torch.full((DIM,), torch.nan)
    state["something.else"] = torch.zeros(1)
    state["final_proj.weight"] = state["decoder_frontend.embed.weight"] + 1
    torch.save(held, folder / "w.pt")
    with pytest.raises(ModelError) as caught:
        SonarTextDecoder(folder / "w.pt")
    message = str(caught.value)
    assert "\n" not in message
    assert "lacks 8 tensors: decoder.layers.1.self_attn.k_proj.bias, " in message and ", …; " in message
    assert "decoder.layers.0.ffn.inner_proj.bias is 3 where 96 is due" in message
    assert "not finite in 1 tensor: decoder.layers.0.ffn.output_proj.bias" in message
    assert "1 tensor: something.else that a text decoder has not" in message
    assert "its final_proj.weight is not its embedding table" in message


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(("other", "style"), STYLES)
def test_a_file_of_another_part_is_refused(
    part: str, other: str, style: str, folder: Path, tokenizer: tuple[bytes, int]
) -> None:
    if part == other:
        return
    torch.save(_held(other, style, tokenizer[1]), folder / "w.pt")
    with pytest.raises(ModelError, match=rf"w\.pt: is no (whole )?SONAR {part}"):
        PARTS[part](folder / "w.pt")


def test_a_layer_with_a_monstrous_number_does_not_make_as_many(folder: Path, tokenizer: tuple[bytes, int]) -> None:
    held = _held("text encoder", "fairseq 2", tokenizer[1])
    _state(held)["encoder.layers.70000000.ffn_layer_norm.weight"] = torch.zeros(DIM)
    torch.save(held, folder / "w.pt")
    with pytest.raises(ModelError, match=r"lacks 16 tensors: .*1 tensor: encoder\.layers\.70000000\.\S+ that a text"):
        SonarTextEncoder(folder / "w.pt")


@pytest.mark.parametrize(
    ("part", "name", "tensor", "told"),
    [
        ("text encoder", "encoder_frontend.embed.weight", torch.zeros(3), "embed.weight is 3$"),
        ("text encoder", "encoder_frontend.embed.weight", torch.zeros(2, DIM), "embeds 2 tokens"),
        ("text encoder", "encoder_frontend.embed.weight", torch.zeros(238, 60), "16 heads cannot share 60"),
        ("text encoder", "encoder.layers.0.ffn.inner_proj.weight", torch.tensor(1.0), "is a number$"),
        (
            "text encoder",
            "layer_norm.weight",
            torch.ones(DIM, dtype=torch.int8),
            "whole numbers in 1 tensor",
        ),
        ("text encoder", "layer_norm.weight", torch.ones(DIM).to_sparse(), "sparse or quantized"),
        ("speech encoder", "encoder_frontend.model_dim_proj.weight", torch.zeros(DIM, 80), "takes 80 features"),
        ("speech encoder", "encoder.layers.0.self_attn.sdpa.u_bias", torch.zeros(3, 5), "3 heads of 5"),
        ("speech encoder", "encoder.layers.0.conv.depthwise_conv.weight", torch.zeros(DIM, 1, 30), "convolution of 30"),
        ("speech encoder", "encoder_pooler.decoder_frontend.embed.weight", torch.zeros(2, DIM), "embed.weight is 2×64"),
    ],
)
def test_odd_tensors_are_told(
    part: str, name: str, tensor: Any, told: str, folder: Path, tokenizer: tuple[bytes, int]
) -> None:
    held = _held(part, "fairseq 2", tokenizer[1])
    assert name in _state(held)
    _state(held)[name] = tensor
    torch.save(held, folder / "w.pt")
    with pytest.raises(ModelError, match=told):
        PARTS[part](folder / "w.pt")


@pytest.mark.parametrize(
    ("config", "told"), [('{"encoder_attention_heads": 0}', "0 heads cannot share"), ("[]", "JSON"), ("{", "JSON")]
)
def test_a_config_that_is_wrong_is_told(config: str, told: str, folder: Path, tokenizer: tuple[bytes, int]) -> None:
    torch.save(_held("text encoder", "fairseq 2", tokenizer[1]), folder / "w.pt")
    (folder / "config.json").write_text(config)
    with pytest.raises(ModelError, match=told):
        SonarTextEncoder(folder / "w.pt")


class _Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch '{self.marker}'",)


@pytest.mark.parametrize("part", PARTS)
def test_a_malicious_file_does_not_run(part: str, folder: Path, tokenizer: tuple[bytes, int]) -> None:
    held = {**_held(part, "fairseq 2", tokenizer[1]), "extra": _Malicious(folder / "ran")}
    torch.save(held, folder / "w.pt")
    with pytest.raises(
        ModelError, match=r"w\.pt: holds objects that are no tensors \(\w+\.system\) and could run code"
    ):
        PARTS[part](folder / "w.pt")
    torch.load(folder / "w.pt", weights_only=False)
    assert (folder / "ran").exists()  # so it would have run


def test_nothing_of_the_classes_let_through_runs(folder: Path) -> None:
    """A module or arguments in a file are shells: their own code is not called, and what is inside them neither."""
    module = torch.nn.Embedding(2, 3)
    module.trap = _Malicious(folder / "ran")
    torch.save({"state_dict": {"a": torch.zeros(1)}, "embed_tokens": module}, folder / "w.pt")
    with pytest.raises(ModelError, match=r"\(\w+\.system\)"):
        read_tensors(folder / "w.pt")
    torch.save({"state_dict": {"a": torch.zeros(1)}, "embed_tokens": torch.nn.Linear(2, 2)}, folder / "w.pt")
    with pytest.raises(ModelError, match=r"\(torch\.nn\.modules\.linear\.Linear\)"):
        read_tensors(folder / "w.pt")
    assert not (folder / "ran").exists()


def _damaged(folder: Path) -> dict[str, bytes]:
    torch.save({"model": {"a": torch.arange(1000)}}, folder / "whole")
    whole = (folder / "whole").read_bytes()
    return {"empty": b"", "text": b"<html>404</html>", "half": whole[: len(whole) // 2], "zip": b"PK\x03\x04" * 10}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("what", ["empty", "text", "half", "zip"])
def test_a_damaged_file_is_refused(what: str, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"w{suffix}"
    file.write_bytes(_damaged(tmp_path)[what])
    with pytest.raises(ModelError, match=r"w\.\w+: cannot be read: .*get it again") as caught:
        read_tensors(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("held", [{}, [1, 2], {"model": {}}, {"model": {"a": 1}}, torch.zeros(3)], ids=str)
def test_a_file_without_tensors_is_refused(held: Any, tmp_path: Path) -> None:
    torch.save(held, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="holds no tensors"):
        read_tensors(tmp_path / "w.pt")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.pt: cannot be read"):
        read_tensors(tmp_path / "gone.pt")


def test_files_of_older_torch_are_read(folder: Path, tokenizer: tuple[bytes, int]) -> None:
    held = _held("speech encoder", "fairseq 1", tokenizer[1])
    torch.save(held, folder / "w.pt", _use_new_zipfile_serialization=False)
    assert SonarSpeechEncoder(folder / "w.pt").dim == DIM


class TestNames:
    def test_every_published_model_is_known(self) -> None:
        models = {name: model for name, model in KNOWN_MODELS.items() if name.startswith("sonar")}
        spoken = {model.lang for model in models.values()} - {""}
        assert len(spoken) == 58 and len(models) == 58 + 3
        assert spoken <= {language.iso639_3 for language in all_languages() if language.sonar}
        for name, model in models.items():
            assert re.fullmatch(r"https://dl\.fbaipublicfiles\.com/SONAR/[\w.]+\.pt", model.url or "")
            assert str(model.url).rpartition("/")[2] in model.weights
            if model.lang:
                assert name == f"sonar-speech-{model.lang}" and f".{model.lang}." in str(model.url)

    def test_they_may_lie_together(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        shelf = tmp_path / "sonar"
        shelf.mkdir()
        for file in ("sonar_text_encoder.pt", TOKENIZER, "spenc.v3ap.fra.pt", "spenc.eng.safetensors"):
            (shelf / file).write_bytes(file.encode())
        monkeypatch.setenv("SEAMLESSALIGN_MODELS", str(tmp_path))
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert [path.name for path in find_model("sonar-speech-fra").weights] == ["spenc.v3ap.fra.pt"]
        assert [path.name for path in find_model("sonar-speech-eng").weights] == ["spenc.eng.safetensors"]
        assert [path.name for path in find_model("sonar").weights] == ["sonar_text_encoder.pt"]
        with pytest.raises(ModelError, match=r"'sonar-speech-deu' was not found: put https://\S+/spenc\.v3ap\.deu\.pt"):
            find_model("sonar-speech-deu")
        own = tmp_path / "sonar-speech-fra"
        own.mkdir()
        with pytest.raises(ModelError, match=r"lacks spenc\.fra|lacks spenc\.v3ap\.fra"):
            find_model("sonar-speech-fra")  # its own folder counts first
        described = describe_models()
        assert f"    eng: {shelf}" in described

    def test_the_list_for_people_is_short(self) -> None:
        described = describe_models()
        assert described.count("sonar-speech-LANG") == 1 and len(described.splitlines()) < 70
        assert "SONAR speech encoder: LANG" in described and "    not here: arb asm " in described
