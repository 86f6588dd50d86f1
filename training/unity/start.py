"""A UnitY that starts from models that there are: parts of several folders put together, tables by what rows mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from seamlessalign.embedders.sonar.tags import TAGS
from seamlessalign.errors import ConfigError, ModelError
from seamlessalign.languages import from_model_code
from seamlessalign.training.unity.model import UnitY, make_unity, save_unity
from seamlessalign.training.unity.sizes import TEXT_ONLY, unit_keys, unity_config
from seamlessalign.training.unity.start_settings import StartConfig, UnityStart
from seamlessalign.training.unity.start_sources import PARTS, Source, read_source
from seamlessalign.training.vocabulary import (
    PIECES_FILE,
    TextVocabulary,
    UnitVocabulary,
    load_text_vocabulary,
    load_unit_vocabulary,
    read_json,
)

_TEXT_TABLE = "shared.weight"
_TEXT_TABLES = (_TEXT_TABLE, "text_decoder.embed_tokens.weight", "text_encoder.embed_tokens.weight", "lm_head.weight")
_UNIT_TABLE = "t2u_model.model.decoder.embed_tokens.weight"
_UNIT_TABLES = (_UNIT_TABLE, "t2u_model.lm_head.weight")
# what w2v-BERT does not have: it is new
_BEHIND_SPEECH = ("encoder.layer_norm.", "intermediate_ffn.", "adapter.", "inner_layer_norm.")
_NLLB_SPECIAL = (1, 3, 0, 2)  # its rows of <pad> <unk> <s> </s>
_MOST_NAMED = 3


@dataclass(frozen=True)
class Started:
    """A model, and what was taken from where, in lines for people."""

    unity: UnitY
    text: TextVocabulary
    units: UnitVocabulary | None
    told: tuple[str, ...]


def make_start(config: StartConfig) -> str:
    """Put a model together as a configuration says, and write its folder; tells what is from where.

    Raises ModelError, ConfigError, StorageError.
    """
    text = load_text_vocabulary(config.vocabulary) if config.vocabulary else None
    torch.manual_seed(config.seed)
    if config.start is None:
        units = _new_units(config, text)
        if text is None or config.size is None:
            raise ConfigError("a model that starts from nothing needs size and vocabulary")
        started = Started(make_unity(config.size, text, units, speech=config.speech), text, units, ("all of it: new",))
    else:
        units = _new_units(config, text or _text_in(config.start)) if config.num_units else None
        started = start_unity(config.start, size=config.size, text=text, units=units)
    save_unity(config.output, started.unity, started.text, started.units)
    count = sum(value.numel() for value in started.unity.parameters())
    return "\n".join([f"model: {config.output}, {count:,} parameters", *(f"  {line}" for line in started.told)])


def start_unity(
    start: UnityStart,
    *,
    size: str | None = None,
    text: TextVocabulary | None = None,
    units: UnitVocabulary | None = None,
    **changes: Any,
) -> Started:
    """Put a model together. Parts that come from nowhere are new, with random weights by torch's seed.

    Args:
        start: the folders.
        size: of what is new; it may be left out where `start.unity` has all parts that are wanted.
        text: the vocabulary; by default that of the part that reads text. Tokens that both have keep their rows.
        units: the vocabulary; by default that of the part that writes units, or none where there is no such part.
        changes: of keys of the configuration that have no weights, such as `dropout`.

    Raises:
        ModelError: a folder that does not hold what is wanted, or parts that do not fit each other.
        ConfigError: no size where something is new, or a key that there is not.
    """
    sources = _chosen(start)
    text_from, units_from = sources.get("text_decoder"), sources.get("t2u")
    their_text = _text_of(text_from) if text_from else None
    their_units = load_unit_vocabulary(units_from.folder) if units_from else None
    text, units = text or their_text, units or their_units
    if text is None:
        raise ConfigError("start: names no folder with text; give a vocabulary")
    if units_from and units and their_units and units.num_units != their_units.num_units:
        raise ModelError(
            f"{units_from.folder}: writes {their_units.num_units} units, but {units.num_units} are wanted; both must "
            "come from the same centroids"
        )
    if units is None or (not start.vocoder and _num_units(sources.get("vocoder")) != units.num_units):
        sources.pop("vocoder", None)  # not asked for, and of other units
    unity = make_unity(_config(start, sources, size, text, units, changes), text, units)
    told = [_fill(unity.model, part, source) for part, source in sources.items() if part != "t2u" or units]
    if text_from and their_text:
        rows = _rows(_tokens_of(their_text), _tokens_of(text), text.size if text is their_text else 0)
        _fill_table(unity.model.shared.weight, _table(text_from, _TEXT_TABLES, "text"), rows)
        told.append(f"tokens of text: {len(rows)} of {text.size} from {text_from.folder}")
    if units_from and their_units and units:
        rows = _rows(_unit_tokens(their_units), _unit_tokens(units), units.size if units is their_units else 0)
        table = unity.model.t2u_model.model.decoder.embed_tokens.weight
        _fill_table(table, _table(units_from, _UNIT_TABLES, "units"), rows)
        told.append(f"tokens of units: {len(rows)} of {units.size} from {units_from.folder}")
    told += _attach_vocoder(unity, start, sources.get("vocoder"), units)
    new = [part for part in _wanted(units) if part not in sources and not (part == "vocoder" and start.vocoder)]
    return Started(unity, text, units, (*told, *(f"{_said(part)}: new" for part in new)))


def _new_units(config: StartConfig, text: TextVocabulary | None) -> UnitVocabulary | None:
    if config.num_units is None:
        return None
    return UnitVocabulary(config.num_units, config.spoken or list(text.languages if text else ()))


def _text_in(start: UnityStart) -> TextVocabulary | None:
    source = _chosen(start).get("text_decoder")
    return _text_of(source) if source else None


def load_nllb_vocabulary(folder: Path, size: int) -> TextVocabulary:
    """NLLB's vocabulary in our order: its special tokens come in another one, pieces and tags at the same places.

    A language in several scripts has the tag of the script that our table of languages says, under its ISO 639-3 code;
    the others go by NLLB's own codes, such as `ace_Arab`.

    Raises ModelError.
    """
    try:
        model = (folder / PIECES_FILE).read_bytes()
    except OSError as error:
        raise ModelError(f"{folder / PIECES_FILE}: cannot be read: {error.strerror}") from error
    first = TextVocabulary(model, {}).size
    tags = {from_model_code(code, "sonar") or code: first + i for i, code in enumerate(TAGS)}
    if size < first + len(TAGS):
        raise ModelError(f"{folder}: embeds {size} tokens, fewer than NLLB's pieces and {len(TAGS)} tags")
    return TextVocabulary(model, tags, size=size)


# Sources


def _chosen(start: UnityStart) -> dict[str, Source]:
    """Of each part the folder that it is taken from."""
    chosen: dict[str, Source] = {}
    if start.unity:
        source = read_source(Path(start.unity))
        if not source.kind.startswith("seamless_m4t"):
            raise ModelError(f"{start.unity}: is a model of type {source.kind!r}, no UnitY")
        chosen |= {part: source for part in PARTS if source.has(part) and part in source.keys}
    named = {"speech_encoder": start.speech_encoder, "text_encoder": start.text, "text_decoder": start.text}
    for part, folder in (named | {"t2u": start.t2u}).items():
        if folder:
            source = next((one for one in chosen.values() if one.folder == Path(folder)), None) or read_source(
                Path(folder)
            )
            if not source.has(part) or part not in source.keys:
                raise ModelError(f"{folder}: has no {_said(part)} that fits UnitY")
            chosen[part] = source
    if start.vocoder:
        chosen.pop("vocoder", None)
        if not (Path(start.vocoder) / "vocoder.json").is_file():  # of a whole model, not of a vocoder by itself
            chosen["vocoder"] = source = read_source(Path(start.vocoder))
            if not source.has("vocoder") or "vocoder" not in source.keys:
                raise ModelError(f"{start.vocoder}: has no vocoder that fits UnitY")
    return chosen


# What they become


def _config(
    start: UnityStart,
    sources: Mapping[str, Source],
    size: str | None,
    text: TextVocabulary,
    units: UnitVocabulary | None,
    changes: Mapping[str, Any],
) -> Any:
    """Sizes of parts as their folders have them, of new ones as `size` has them, or else as `start.unity` has."""
    from transformers import SeamlessM4TConfig

    keys = {part: source.keys[part] for part, source in sources.items()}
    config = unity_config(size or "tiny", text, units)
    if start.unity and size is None:
        whole = next((one for one in sources.values() if one.folder == Path(start.unity)), None)
        whole = whole or read_source(Path(start.unity))
        keys = dict(whole.keys) | keys
        if whole.kind == "seamless_m4t":  # with its dropout and the like
            own = {"vocab_size": text.size, "architectures": None, "dtype": None, "_name_or_path": ""}
            config = SeamlessM4TConfig(**(whole.config.to_dict() | own))
            for key, value in (TEXT_ONLY if units is None else {}).items():
                setattr(config, key, value)
    dims: dict[int, Path | str] = {}
    for part in _wanted(units):
        if part not in keys and part != "vocoder" and size is None:
            raise ConfigError(f"start: no folder has a {_said(part)}; give the size of a new one")
        for key, value in keys.get(part, {}).items():
            setattr(config, key, value)
        if part in sources and "hidden_size" in keys[part]:
            dims[keys[part]["hidden_size"]] = sources[part].folder
    if len(dims) > 1:
        said = ", ".join(f"{folder} has {dim} dimensions" for dim, folder in dims.items())
        raise ModelError(f"start: parts of one model have as many dimensions, but {said}")
    for key, value in unit_keys(units).items():
        if key != "vocoder_num_langs" or "vocoder" not in sources:
            setattr(config, key, value)
    for key, value in changes.items():
        if not hasattr(config, key):
            raise ConfigError(f"{key!r} is no key of a SeamlessM4T model")
        setattr(config, key, value)
    return config


def _wanted(units: UnitVocabulary | None) -> list[str]:
    return [part for part in PARTS if units is not None or part not in ("t2u", "vocoder")]


def _said(part: str) -> str:
    return part.replace("_", " ")


def _num_units(source: Source | None) -> int:
    return int(source.config.unit_hifi_gan_vocab_size) if source else 0


def _fill(model: Any, part: str, source: Source) -> str:
    """Put a part's tensors into a model, but for tables; tells which ones. Raises ModelError."""
    state, missing, new = model.state_dict(), [], set()
    tables = {*_TEXT_TABLES, *_UNIT_TABLES}
    with torch.no_grad():
        for name, ours in state.items():
            if not name.startswith(PARTS[part]) or name in tables:
                continue
            theirs = source.tensors.get(name)
            if theirs is not None and theirs.shape == ours.shape:
                ours.copy_(theirs)
            elif source.kind == "wav2vec2-bert" and name.startswith(tuple(f"{part}.{one}" for one in _BEHIND_SPEECH)):
                new.add(name.split(".")[1] if "layer_norm" not in name else name.removesuffix(".weight"))
            elif not name.endswith("num_batches_tracked"):
                missing.append(name if theirs is None else f"{name} {tuple(theirs.shape)}, not {tuple(ours.shape)}")
    if missing:
        named = ", ".join(missing[:_MOST_NAMED])
        raise ModelError(
            f"{source.folder}: {len(missing)} tensors of the {_said(part)} are missing or do not fit: {named}"
        )
    behind = "; the length adaptor and what is before it are new" if new else ""
    return f"{_said(part)}: {source.folder}{behind}"


def _text_of(source: Source) -> TextVocabulary:
    if source.kind == "m2m_100":
        return load_nllb_vocabulary(source.folder, source.config.vocab_size)
    return load_text_vocabulary(source.folder)


def _table(source: Source, names: tuple[str, ...], what: str) -> Any:
    """An embedding table in our order of special tokens."""
    found = next((source.tensors[name] for name in names if name in source.tensors), None)
    if found is None:
        raise ModelError(f"{source.folder}: has no table of {what}")
    return torch.cat([found[list(_NLLB_SPECIAL)], found[4:]]) if source.kind == "m2m_100" else found


def _tokens_of(text: TextVocabulary) -> dict[str, int]:
    """What tokens mean → tokens; those that mean nothing are left out."""
    found = {"<pad>": text.pad} | {text.piece(token): token for token in text.piece_tokens()}
    return found | {f"__{lang}__": token for lang, token in text.languages.items()}


def _unit_tokens(units: UnitVocabulary) -> dict[str, int]:
    found = {str(token): token for token in range(units.num_units + units.offset)}
    return found | {f"__{lang}__": token for lang, token in units.languages.items()}


def _rows(theirs: Mapping[str, int], ours: Mapping[str, int], all_of: int) -> list[tuple[int, int]]:
    """Which row of theirs becomes which of ours: those that mean the same, or all of a table that is kept as it is."""
    return [(row, row) for row in range(all_of)] or [
        (theirs[what], token) for what, token in ours.items() if what in theirs
    ]


def _fill_table(ours: Any, theirs: Any, rows: list[tuple[int, int]]) -> None:
    if theirs.shape[1] != ours.shape[1]:
        raise ModelError(f"a table of {theirs.shape[1]} dimensions does not fit a model of {ours.shape[1]}")
    src, tgt = torch.tensor(rows, dtype=torch.long).T
    with torch.no_grad():
        ours[tgt] = theirs[src].to(ours.dtype)


def _attach_vocoder(unity: UnitY, start: UnityStart, source: Source | None, units: UnitVocabulary | None) -> list[str]:
    """A vocoder by itself; or, of one that came with a model, the languages that it speaks."""
    if units is None:
        return []
    if source is not None:
        if _num_units(source) != units.num_units:
            raise ModelError(
                f"{source.folder}: is a vocoder of {_num_units(source)} units, but the model writes {units.num_units}; "
                "both must come from the same centroids"
            )
        languages = read_json(source.folder / "generation_config.json").get("vocoder_lang_code_to_id", {})
        unity.vocoder_languages = {str(lang): int(i) for lang, i in languages.items()}
        unity.model.generation_config.vocoder_lang_code_to_id = dict(unity.vocoder_languages)
        return []
    if start.vocoder:
        from seamlessalign.training.vocoder.model import attach_vocoder

        attach_vocoder(unity, start.vocoder, units)
        return [f"vocoder: {start.vocoder}"]
    return []
