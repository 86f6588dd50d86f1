"""What can be known to be wrong about a run's models before anything is read."""

import difflib

from seamlessalign.config import RunConfig
from seamlessalign.embedders import speech_models, speech_space
from seamlessalign.errors import ConfigError, InputError
from seamlessalign.languages import Direction, to_model_code
from seamlessalign.model_files import KNOWN_MODELS, find_model, place_of
from seamlessalign.training.units.files import check_models as check_units_models
from seamlessalign.training.units.files import read_card


def check_models(config: RunConfig) -> None:
    """Raise ConfigError for a model, a language or a pair of embedders that cannot be, ModelError for one not found."""
    for name in config.models:
        if name not in KNOWN_MODELS:
            near = difflib.get_close_matches(name, KNOWN_MODELS, n=1, cutoff=0.0)[0]
            raise ConfigError(f"models: there is no model {name!r}; did you mean {near!r}?")
    try:
        speech_models(config.speech.embedder, config.speech_languages(), config.models)
    except InputError as error:
        raise ConfigError(str(error)) from error
    _check_units(config)
    _check_transcripts(config)
    speech, text = config.speech.embedder, config.text.embedder
    sides = {name: Direction.parse(name) for name in config.directions}
    mixed = [name for name, both in sides.items() if not (both.src.is_audio and both.tgt.is_audio)]
    space = speech_space(speech, config.models)
    if mixed and text not in (space, "sentence-transformers"):  # of a directory nobody knows whose space it has
        raise ConfigError(
            f"{mixed[0]}: speech.embedder {speech} makes rows in the space of {space}, but text.embedder is {text}: "
            "choose two that belong together"
        )


def _check_units(config: RunConfig) -> None:
    """Raise ModelError unless units can be made, with what their centroids were found with."""
    if config.units is None:
        return
    card = read_card(config.units.model)
    names = [name for name in card.models if name in KNOWN_MODELS]  # others are parts of these
    found = {name: find_model(name, place_of(name, config.models)).sha256 for name in names}
    check_units_models(card, {**card.models, **found}, config.units.model)


def _check_transcripts(config: RunConfig) -> None:
    """Raise ConfigError where no side has a language that Whisper knows, ModelError where there is no Whisper."""
    if config.transcripts is None:
        return
    model = config.transcripts.model
    directions = [Direction.parse(name) for name in config.directions]
    wanted = [getattr(one, side) for one in directions for side in config.transcripts.sides]
    langs = sorted({side.lang for side in wanted if side.is_audio})
    if not any(to_model_code(lang, "whisper") for lang in langs):
        told = f"Whisper knows none of {', '.join(langs)}" if langs else "none of its sides is audio"
        raise ConfigError(f"transcripts: {told}; leave the section out")
    find_model(model, place_of(model, config.models))
