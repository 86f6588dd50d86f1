"""Sizes: as many parameters as were published, and transformers' own default."""

from typing import Any

import pytest
import torch
from transformers import SeamlessM4TConfig, SeamlessM4TModel

from seamlessalign.training.unity.sizes import unity_config
from seamlessalign.training.vocabulary import TextVocabulary, UnitVocabulary
from tests.training.tiny_unity import pieces, tiny_text, tiny_units

PUBLISHED_UNITS = UnitVocabulary(10000, {f"l{i}": 10043 + i for i in range(38)}, size=10082)


def _published(size: str, num_tokens: int) -> Any:
    text = TextVocabulary(pieces(), ["eng"], size=num_tokens)
    return unity_config(size, text, PUBLISHED_UNITS, vocoder_num_langs=36)


def _count(*modules: Any) -> int:
    return sum({id(value): value.numel() for module in modules for value in module.parameters()}.values())


def _millions(config: Any) -> dict[str, int]:
    """Parameters of each part, in millions, rounded. With speech counts its table of positions."""
    with torch.device("meta"):
        model = SeamlessM4TModel(config)
    positions = model.speech_encoder.encoder.embed_positions.pe
    assert positions.shape == (1, 8191, 1024)
    counts = {
        "speech": _count(model.speech_encoder) + positions.numel(),
        "text": _count(model.text_encoder, model.text_decoder, model.lm_head),
        "t2u": _count(model.t2u_model),
        "vocoder": _count(model.vocoder),
    }
    return {part: round(count / 1e6) for part, count in counts.items()}


def test_large_is_as_published() -> None:
    """669 M and 1370 M (1370.5), 287 M; the vocoder is of 42 M in transformers' default."""
    assert _millions(_published("large", 256102)) == {"speech": 669, "text": 1371, "t2u": 287, "vocoder": 42}


def test_medium_is_as_published() -> None:
    assert _millions(_published("medium", 256206)) == {"speech": 366, "text": 615, "t2u": 195, "vocoder": 42}


def test_large_is_the_default_of_transformers() -> None:
    assert _published("large", 256102).to_dict() == SeamlessM4TConfig().to_dict()


@pytest.mark.parametrize(("size", "least", "most"), [("tiny", 2, 10), ("small", 100, 200)])
def test_small_ones_are_small(size: str, least: float, most: float) -> None:
    text = TextVocabulary(pieces(), ["eng"], size=8000)
    with torch.device("meta"):
        model = SeamlessM4TModel(unity_config(size, text, UnitVocabulary(1000, ["eng"])))
    assert least <= _count(model) / 1e6 <= most


def test_without_units_there_are_no_layers_for_them() -> None:
    with torch.device("meta"):
        with_units = SeamlessM4TModel(unity_config("tiny", tiny_text(), tiny_units()))
        without = SeamlessM4TModel(unity_config("tiny", tiny_text(), None))
    assert _count(without.t2u_model) < 2000 < _count(with_units.t2u_model)
    assert _count(without.text_decoder) == _count(with_units.text_decoder)
