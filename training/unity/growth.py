"""Further languages for a model that there is. What it has is as it was: no token moves, no weight changes.

New rows of tables come behind the old ones. Tags begin as those of a like language, or as the mean of all tags; a new
piece begins as the mean of the pieces that it was cut into before. Languages that the model had are cut into the same
pieces as before, since new pieces are for new languages only.
"""

import copy
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from seamlessalign.errors import ConfigError, InputError
from seamlessalign.training.unity.growth_config import GrowthConfig
from seamlessalign.training.unity.model import UnitY, load_unity, make_unity, save_unity
from seamlessalign.training.vocabulary import AddedPieces, TextVocabulary, UnitVocabulary
from seamlessalign.training.vocabulary_config import VocabularyConfig
from seamlessalign.training.vocabulary_training import draw_texts, fit_pieces, read_texts

_TEXT_TABLES = {
    f"{name}.weight" for name in ("shared", "lm_head", "text_encoder.embed_tokens", "text_decoder.embed_tokens")
}
_UNIT_TABLES = {"t2u_model.lm_head.weight", "t2u_model.model.decoder.embed_tokens.weight"}
_VOCODER_TABLE = "vocoder.language_embedding.weight"


def add_languages(config: GrowthConfig) -> str:
    """Grow a model as a configuration says and write its folder; tells what came of it.

    Raises:
        ModelError: a folder that is no UnitY.
        ConfigError: languages that it has already, or has not where they are to be like.
        InputError: texts that cannot be learnt from.
    """
    unity, text, units = load_unity(config.model)
    pieces = learn_pieces(text, config) if config.pieces is not None else None
    before = text.size
    grown = grow_unity(unity, text, units, config.languages, spoken=config.spoken, like=config.like, pieces=pieces)
    save_unity(config.output, *grown)
    unity, text, units = grown
    told = f"model: {config.output}, {text.size} tokens of text"
    if units is not None:
        told += f", {units.size} of units"
    if pieces is not None:
        told += f"; {text.size - before - len(config.languages)} new pieces"
    return told


def grow_unity(
    unity: UnitY,
    text: TextVocabulary,
    units: UnitVocabulary | None,
    languages: Sequence[str],
    *,
    spoken: Sequence[str] = (),
    like: Mapping[str, str] | None = None,
    pieces: bytes | None = None,
) -> tuple[UnitY, TextVocabulary, UnitVocabulary | None]:
    """A model with tags for further languages; the one that is given stays as it is.

    Args:
        unity: the model, with its vocabularies.
        text: its vocabulary of text.
        units: that of units.
        languages: new ones of text.
        spoken: new ones of units and of the vocoder.
        like: new language → one that the model has, from whose rows the new rows begin.
        pieces: what cuts texts of the new languages, as `learn_pieces` makes it; by default what cuts all others.

    Raises:
        ConfigError: a language that is there already, or one that is to be like one that is not; or units to be
            spoken by a model that ends with text.
    """
    like = like or {}
    if spoken and units is None:
        raise ConfigError(f"spoken: {', '.join(spoken)}: this model ends with text and has no units")
    grown_text = grow_text(text, languages, pieces)
    grown_units = grow_units(units, spoken) if units is not None else None
    voices = [lang for lang in spoken if lang not in unity.vocoder_languages]
    voice_rows = unity.config.vocoder_num_langs
    config = copy.deepcopy(unity.config)
    config.vocab_size = grown_text.size
    if grown_units is not None:
        config.t2u_vocab_size, config.vocoder_num_langs = grown_units.size, voice_rows + len(voices)
    model = make_unity(config, grown_text, grown_units)
    old, new = unity.model.state_dict(), model.model.state_dict()
    table = old["shared.weight"]
    rows = {
        **_tag_rows(table, text.languages, grown_text.languages, languages, like),
        **_piece_rows(table, text, grown_text),
    }
    with torch.no_grad():
        for name, value in new.items():
            (value[: len(old[name])] if value.dim() else value).copy_(old[name])
        _put(new, _TEXT_TABLES, rows)
        if units is not None and grown_units is not None:
            table = old["t2u_model.lm_head.weight"]
            _put(new, _UNIT_TABLES, _tag_rows(table, units.languages, grown_units.languages, spoken, like))
            model.vocoder_languages = unity.vocoder_languages | {lang: voice_rows + i for i, lang in enumerate(voices)}
            voiced = _tag_rows(old[_VOCODER_TABLE], unity.vocoder_languages, model.vocoder_languages, voices, like)
            _put(new, {_VOCODER_TABLE}, voiced)
    model.model.generation_config.vocoder_lang_code_to_id = dict(model.vocoder_languages)
    model.train(unity.training)
    return model, grown_text, grown_units


def grow_text(text: TextVocabulary, languages: Sequence[str], pieces: bytes | None = None) -> TextVocabulary:
    """A vocabulary with further tags, behind everything, and behind them what pieces are new. Raises ConfigError."""
    _check_new(languages, text.languages, "text")
    if not languages:
        return text
    tags = {lang: text.size + i for i, lang in enumerate(languages)}
    size = text.size + len(languages)
    model = pieces if pieces is not None else text.added[-1].model if text.added else text.model
    new = len(_scores(model)) - len(text.piece_tokens())
    added = AddedPieces(model, tuple(languages), tuple(range(size, size + new)))
    return TextVocabulary(text.model, text.languages | tags, size=size + new, added=[*text.added, added])


def grow_units(units: UnitVocabulary, languages: Sequence[str]) -> UnitVocabulary:
    """A vocabulary with further tags, behind everything. Raises ConfigError."""
    _check_new(languages, units.languages, "units")
    tags = {lang: units.size + i for i, lang in enumerate(languages)}
    return UnitVocabulary(units.num_units, units.languages | tags, size=units.size + len(languages))


def learn_pieces(text: TextVocabulary, config: GrowthConfig) -> bytes:
    """A SentencePiece model of the vocabulary's pieces, and behind them those of new languages' texts that it lacks.

    They are learnt by SentencePiece as a vocabulary of their own, and put behind the old ones: in a model of joins
    (bpe) as later joins, in one of likeliest cuts (unigram) with their own likelihoods.

    Raises InputError where the texts are of other languages, too few, or bring nothing new.
    """
    aside = Counter[str]()
    texts = read_texts(config.data, config.max_bytes, aside)
    if not texts or set(texts) - set(config.languages):
        raise InputError(f"data: has texts in {', '.join(texts) or 'no language'}; they must be in `languages`")
    model = text.added[-1].model if text.added else text.model
    old, joined = _scores(model), text.joins
    learning = VocabularyConfig(
        output=config.output,
        data=config.data,
        size=int(config.pieces or 1),
        model="bpe" if joined else "unigram",
        character_coverage=config.character_coverage,
        max_bytes=config.max_bytes,
        seed=config.seed,
    )
    drawn = draw_texts(texts, learning)
    learnt = _scores(fit_pieces([one for lang in sorted(drawn) for one in drawn[lang]], learning, "pieces"))[3:]
    known, least = {piece for piece, _ in old}, min(score for _, score in old)
    new = [(piece, score) for piece, score in learnt if piece not in known]
    if not new:
        raise InputError("data: its texts bring no piece that the vocabulary has not; leave out pieces and data")
    if joined:
        new = [(piece, least - 1 - i) for i, (piece, _) in enumerate(new)]
    return model + b"".join(_encoded(piece, score) for piece, score in new)


def _scores(model: bytes) -> list[tuple[str, float]]:
    """Pieces of a SentencePiece model with their scores, in their order."""
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor(model_proto=model)
    return [(processor.IdToPiece(i), processor.GetScore(i)) for i in range(processor.GetPieceSize())]


def _encoded(piece: str, score: float) -> bytes:
    """A piece as one more of a serialised SentencePiece model, whose lists go on where bytes are put behind it.

    In protobuf's encoding: field 1 of the model is a list of messages of a text (1) and a float (2).
    """
    written = piece.encode()
    message = b"\x0a" + _varint(len(written)) + written + b"\x15" + struct.pack("<f", score)
    return b"\x0a" + _varint(len(message)) + message


def _varint(value: int) -> bytes:
    done = bytearray()
    while value > 127:
        done.append(value & 127 | 128)
        value >>= 7
    return bytes([*done, value])


def _check_new(languages: Sequence[str], there: Mapping[str, int], what: str) -> None:
    again = [lang for lang in languages if lang in there]
    if again:
        raise ConfigError(f"{', '.join(again)}: the vocabulary of {what} has this language already")


def _tag_rows(
    table: Any, there: Mapping[str, int], grown: Mapping[str, int], languages: Sequence[str], like: Mapping[str, str]
) -> dict[int, Any]:
    """Row → what it begins as."""
    rows = {}
    for lang in languages:
        if lang in like and like[lang] not in there:
            raise ConfigError(f"like: {lang} is to be like {like[lang]}, which the model has not: {' '.join(there)}")
        if lang in like:
            rows[grown[lang]] = table[there[like[lang]]]
        elif there:
            rows[grown[lang]] = table[list(there.values())].mean(0)
    return rows


def _piece_rows(table: Any, text: TextVocabulary, grown: TextVocabulary) -> dict[int, Any]:
    """Of each new piece the mean of the rows that it was cut into before."""
    if grown is text:
        return {}
    lang = text.added[-1].languages[0] if text.added else None
    rows = {}
    for token in grown.added[-1].tokens:
        written = grown.piece(token).replace("▁", " ")
        old = [piece for piece in text.pieces(written, lang) if piece != text.unk]
        if old:
            rows[token] = table[old].mean(0)
    return rows


def _put(state: Mapping[str, Any], tables: set[str], rows: Mapping[int, Any]) -> None:
    for name in tables & set(state):
        for row, value in rows.items():
            state[name][row] = value
