"""Adapters: they learn and nothing else does, merged is unmerged, and peft reads their files."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from seamlessalign.errors import ConfigError, ModelError
from seamlessalign.training.unity.lora import Adapters, layers_named, load_adapters
from seamlessalign.training.unity.lora_settings import LoraSettings
from seamlessalign.training.unity.model import UnitY, save_unity
from tests.training.tiny_unity import SENTENCES, padded, speech, tiny_text, tiny_units, tiny_unity

TEXT, UNITS = tiny_text(), tiny_units()
SETTINGS = LoraSettings(rank=4, alpha=8)


def _logits(unity: UnitY) -> tuple[Any, Any]:
    """Of text from speech, and of units from it."""
    targets, mask = padded([TEXT.target(SENTENCES[i], "fra")[:-1] for i in (3, 4)])
    units, _ = padded([UNITS.target(range(i, 9), "fra")[:-1] for i in (0, 2)], UNITS.pad)
    hidden = unity.decode_text(targets, *unity.encode_speech(*speech((45, 28))))
    return unity.logits(hidden), unity.decode_units(hidden, mask, units)


def _taught(unity: UnitY) -> Adapters:
    adapters = Adapters(unity, SETTINGS)
    optimiser = torch.optim.AdamW([value for value in unity.parameters() if value.requires_grad], lr=0.05)
    for _ in range(3):
        text, units = _logits(unity)
        (text.square().mean() + units.square().mean()).backward()
        optimiser.step()
        optimiser.zero_grad()
    return adapters


def test_only_adapters_learn() -> None:
    unity = tiny_unity(TEXT, UNITS)
    before = {name: value.clone() for name, value in unity.state_dict().items()}
    with torch.no_grad():
        plain = _logits(unity)[0]
    adapters = Adapters(unity, SETTINGS)
    learning = {name for name, value in unity.model.named_parameters() if value.requires_grad}
    assert learning == set(adapters.parameters())
    with torch.no_grad():
        assert torch.equal(_logits(unity)[0], plain)  # they begin by adding nothing
    adapters = _taught(tiny_unity(TEXT, UNITS))
    after = adapters.unity.state_dict()
    for name, value in before.items():
        now = after.get(name)
        if now is None:
            head, _, last = name.rpartition(".")
            now = after[f"{head}.base_layer.{last}"]
        assert torch.equal(now, value), name
    with torch.no_grad():
        assert float((_logits(adapters.unity)[0] - plain).abs().max()) > 1e-2


def test_merged_is_unmerged() -> None:
    adapters = _taught(tiny_unity(TEXT, UNITS))
    names = set(tiny_unity(TEXT, UNITS).state_dict())
    with torch.no_grad():
        unmerged = _logits(adapters.unity)
        merged = adapters.merge()
        for left, right in zip(unmerged, _logits(merged), strict=True):
            assert float((left - right).abs().max()) <= 1e-6 * float(left.abs().max())
    assert set(merged.state_dict()) == names
    assert all(value.requires_grad for value in merged.parameters())


def test_files_are_small_and_read_by_us_and_by_peft(tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import SeamlessM4TModel

    save_unity(tmp_path / "model", tiny_unity(TEXT, UNITS), TEXT, UNITS)
    adapters = _taught(tiny_unity(TEXT, UNITS))
    adapters.save(tmp_path / "adapters")
    size = (tmp_path / "adapters" / "adapter_model.safetensors").stat().st_size
    assert size < (tmp_path / "model" / "model.safetensors").stat().st_size / 4
    assert json.loads((tmp_path / "adapters" / "adapter_config.json").read_text())["peft_type"] == "LORA"
    again = tiny_unity(TEXT, UNITS)
    load_adapters(again, tmp_path / "adapters")
    peer = PeftModel.from_pretrained(SeamlessM4TModel.from_pretrained(tmp_path / "model"), tmp_path / "adapters").eval()
    targets, _ = padded([TEXT.target(SENTENCES[i], "fra")[:-1] for i in (3, 4)])
    features, mask = speech((45, 28))
    with torch.no_grad():
        assert torch.equal(_logits(again)[0], _logits(adapters.unity)[0])
        theirs = peer(input_features=features, attention_mask=mask, decoder_input_ids=targets).logits
        assert float((theirs - _logits(adapters.unity)[0]).abs().max()) <= 1e-5


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    unity = tiny_unity(TEXT, UNITS)
    with pytest.raises(ConfigError, match=r"'\*\.q_prj' is no linear layer; near are .*q_proj"):
        layers_named(unity, ["*.q_prj"])
    with pytest.raises(ModelError, match=r"adapter_config\.json: cannot be read"):
        load_adapters(unity, tmp_path)
    Adapters(tiny_unity(TEXT, UNITS), SETTINGS).save(tmp_path)
    with pytest.raises(ModelError, match="those of a model of other sizes"):
        load_adapters(tiny_unity(TEXT, UNITS, hidden_size=32), tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelError, match="holds no adapters"):
        load_adapters(unity, tmp_path)


def test_patterns_choose_parts() -> None:
    unity = tiny_unity(TEXT, UNITS)
    assert layers_named(unity, ["text_decoder.*.cross_attention.v_proj", "text_decoder.layers.0.*.v_proj"]) == [
        "text_decoder.layers.0.cross_attention.v_proj",
        "text_decoder.layers.0.self_attn.v_proj",
    ]
