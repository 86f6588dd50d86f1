"""The sizes of UnitY: two small ones of ours, and the two that were published (SeamlessM4T, arXiv 2308.11596)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

from seamlessalign.errors import ConfigError

if TYPE_CHECKING:
    from seamlessalign.training.vocabulary import TextVocabulary, UnitVocabulary

Size = Literal["tiny", "small", "medium", "large"]
SpeechKind = Literal["conformer", "conformer-shaw"]  # of SeamlessM4T's first version; of w2v-BERT 2.0 (`shaw.py`)
SHAW = "relative_key"  # transformers' name of Shaw's relative positions
# keys of the configuration that the second kind has on top: how far to the left and right distances are told apart
SHAW_KEYS = {"left_max_position_embeddings": 64, "right_max_position_embeddings": 8}


def _stacks(
    dim: int, heads: int, *, speech: tuple[int, int], text: tuple[int, int], t2u: tuple[int, int]
) -> dict[str, Any]:
    """Of each stack its layers, as many in a decoder as in its encoder, and the width of their feed-forward parts."""
    sizes: dict[str, Any] = {
        "hidden_size": dim,
        "speech_encoder_layers": speech[0],
        "speech_encoder_intermediate_size": speech[1],
        "speech_encoder_attention_heads": heads,
    }
    for stack, (layers, ffn_dim) in (
        ("encoder", text),
        ("decoder", text),
        ("t2u_encoder", t2u),
        ("t2u_decoder", t2u),
    ):
        sizes |= {f"{stack}_layers": layers, f"{stack}_ffn_dim": ffn_dim, f"{stack}_attention_heads": heads}
    return sizes


# The vocoder of a small model is small too: it has to be there for transformers to load the folder, and is replaced by
# one that was trained (`attach_vocoder`).
_SMALL_VOCODER = {
    "unit_embed_dim": 64,
    "lang_embed_dim": 16,
    "spkr_embed_dim": 16,
    "upsample_initial_channel": 64,
    "vocoder_num_spkrs": 1,
}
TEXT_ONLY: Mapping[str, int] = _SMALL_VOCODER | {"t2u_encoder_layers": 0, "t2u_decoder_layers": 0}
_SIZES: Mapping[str, dict[str, Any]] = {
    "tiny": _stacks(128, 4, speech=(4, 512), text=(2, 512), t2u=(2, 512)) | _SMALL_VOCODER,
    "small": _stacks(512, 8, speech=(12, 2048), text=(6, 2048), t2u=(4, 2048)) | _SMALL_VOCODER,
    "medium": _stacks(1024, 16, speech=(12, 4096), text=(12, 4096), t2u=(4, 8192)),
    "large": _stacks(1024, 16, speech=(24, 4096), text=(24, 8192), t2u=(6, 8192)),
}


def unity_config(
    size: str,
    text: "TextVocabulary",
    units: "UnitVocabulary | None",
    speech: SpeechKind = "conformer",
    **changes: Any,
) -> Any:
    """transformers' `SeamlessM4TConfig` of a size, for vocabularies.

    Args:
        size: a name of `Size`.
        text: its size is that of the tables of text.
        units: without them the model ends with text: its stacks from text to units have no layers.
        speech: the structure of the speech encoder.
        changes: of keys of the configuration, such as `dropout`.

    Raises:
        ConfigError: a size or key that there is not, or values that no model has.
    """
    from transformers import SeamlessM4TConfig

    if size not in _SIZES:
        raise ConfigError(f"size {size!r} is none of {', '.join(get_args(Size))}")
    keys = _SIZES[size] | {"vocab_size": text.size} | unit_keys(units)
    if units is None:
        keys |= TEXT_ONLY
    if speech == "conformer-shaw":
        keys |= {"speech_encoder_kind": speech, **SHAW_KEYS}
    known = SeamlessM4TConfig()
    unknown = [key for key in changes if key not in keys and not hasattr(known, key)]
    if unknown:
        raise ConfigError(f"{unknown[0]!r} is no key of a SeamlessM4T model")
    return SeamlessM4TConfig(**(keys | changes))


def speech_kind(config: Any) -> str:
    """Which structure the speech encoder of a configuration has."""
    return str(getattr(config, "speech_encoder_kind", "conformer"))


def unit_keys(units: "UnitVocabulary | None") -> dict[str, int]:
    """What a configuration says of units; where there are none, the least that a table can have."""
    num_units, num_tokens = (units.num_units, units.size) if units else (1, 5)
    languages = len(units.languages) if units else 0
    return {
        "t2u_vocab_size": num_tokens,
        "unit_hifi_gan_vocab_size": num_units,
        "vocoder_num_langs": max(languages, 1),
    }
