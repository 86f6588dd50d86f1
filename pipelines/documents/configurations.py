"""The page of all configurations: every key with its type, bounds, default and meaning, read from the models."""

import importlib
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import AfterValidator
from pydantic.fields import FieldInfo

from seamlessalign.errors import ConfigError
from seamlessalign.pipelines.documents.meanings import meaning, refusals
from seamlessalign.typed_config import Section

WRITTEN_BY = "<!-- written from the source: python -m seamlessalign.pipelines.documents -->"
_SIGNS = {Ge: ("≥", "ge"), Gt: (">", "gt"), Le: ("≤", "le"), Lt: ("<", "lt")}
ESCAPED = "\\|"  # within a table
_PLAIN = {int: "whole number", float: "number", str: "text", bool: "true, false", Path: "path", Any: "anything"}
# functions that check a text, and what such a text is
_CHECKED = {"_check_language": "language", "_check_direction": "direction", "_check_sbatch_option": "option of sbatch"}
_PATTERN = "pattern of directions"


@dataclass(frozen=True)
class Configuration:
    """A kind of configuration file."""

    command: str  # that reads it; of one that the program writes too, the place where it is
    model: str  # module:class
    what: str  # one sentence of what it is for

    @property
    def is_file_of_a_run(self) -> bool:
        """Whether it lies in a run's folder, rather than being named on the command line."""
        return self.command.startswith("DIR/")

    @property
    def read_by(self) -> str:
        """The command that reads it, or where it lies."""
        return f"`{self.command}`" if self.is_file_of_a_run else f"`seamlessalign {self.command}`"

    def load(self) -> type[Section]:
        """The class of the whole file."""
        module, _, name = self.model.partition(":")
        found = getattr(importlib.import_module(f"seamlessalign.{module}"), name)
        assert isinstance(found, type) and issubclass(found, Section), self.model
        return found


CONFIGURATIONS = {
    "run": Configuration("run CONFIG.yaml", "config:RunConfig", "What is mined, how, and where the work is done."),
    "rebuilding": Configuration(
        "import-metadata TSV key=value --to DIR",
        "pipelines.published.rebuild_config:RebuildConfig",
        "[A corpus rebuilt](rebuilding.md) from published metadata. There is no file: keys are given as words.",
    ),
    "lid": Configuration(
        "train lid CONFIG.yaml", "lid.training_config:LidTrainingConfig", "[A language identifier](lid.md) of speech."
    ),
    "speech-encoder": Configuration(
        "train speech-encoder CONFIG.yaml",
        "embedders.student.training_config:TrainingConfig",
        "[A speech encoder](speech_encoders.md) into the space of a text encoder.",
    ),
    "w2v-bert": Configuration(
        "train w2v-bert CONFIG.yaml",
        "training.w2v_bert.config:W2vBertConfig",
        "[A pre-training](w2v_bert.md) on speech alone.",
    ),
    "units": Configuration(
        "train units CONFIG.yaml", "training.units.config:UnitsTrainingConfig", "[Units of speech](units.md)."
    ),
    "vocabulary": Configuration(
        "train vocabulary CONFIG.yaml",
        "training.vocabulary_config:VocabularyConfig",
        "[Pieces of text](unity_model.md#vocabularies) of a translation model.",
    ),
    "unity-start": Configuration(
        "train unity-start CONFIG.yaml",
        "training.unity.start_settings:StartConfig",
        "[A translation model](unity_model.md) put together from parts of others.",
    ),
    "languages": Configuration(
        "train languages CONFIG.yaml",
        "training.unity.growth_config:GrowthConfig",
        "[Languages](unity_model.md#further-languages) that a translation model learns of.",
    ),
    "unity": Configuration(
        "train unity CONFIG.yaml",
        "training.unity.config:UnityTrainingConfig",
        "[A translation model](unity_training.md) and [what it learns from](training_data.md).",
    ),
    "vocoder": Configuration(
        "train vocoder CONFIG.yaml", "training.vocoder.config:VocoderTrainingConfig", "[A unit vocoder](vocoder.md)."
    ),
    "evaluate": Configuration(
        "evaluate CONFIG.yaml", "training.evaluation.config:EvaluationConfig", "[An evaluation](evaluation.md)."
    ),
    "selection": Configuration(
        "DIR/selections/NAME.yaml",
        "pipelines.selection:Selection",
        "What a curator chose of a run; the page to choose by writes it too.",
    ),
}


def configuration_page() -> str:
    """docs/configuration.md."""
    pieces = [WRITTEN_BY, "# Every key of every configuration", _INTRODUCTION]
    pieces.append("\n".join(_listed(name, one) for name, one in CONFIGURATIONS.items()))
    documented: dict[type[Section], str] = {}
    for name, one in CONFIGURATIONS.items():
        pieces += [f"## {name}", f"{one.read_by}. {one.what}"]
        pieces += _sections_of(name, one.load(), documented)
    return "\n\n".join(pieces) + "\n"


_INTRODUCTION = """\
Configurations are YAML files. An unknown key is an error that names the nearest known one; a value out of its bounds is
one that names file, key and value. Behind the file's name, `key.sub=value` sets any key. A key that is **needed** has
no default. `[]` behind a section's name: each of a list is one such; `.*`: each value of names that you choose. What a
section refuses as a whole stands below its keys."""


def _listed(name: str, one: Configuration) -> str:
    return f"- [{name}](#{name}): {one.read_by}"


def _sections_of(name: str, root: type[Section], documented: dict[type[Section], str]) -> Iterator[str]:
    """The sections of one configuration, from the whole file down; what stands under another is pointed at there."""
    waiting: list[tuple[str, type[Section]]] = [("", root)]
    places: dict[type[Section], list[str]] = {root: [""]}
    while waiting:
        place, kind = waiting.pop(0)
        inner = [(joined(place, key), found) for key, found in inner_sections(kind)]
        for path, found in inner:
            if found not in places:
                places[found] = []
                waiting.append((path, found))
            places[found].append(path)
    new = {kind: paths for kind, paths in places.items() if kind not in documented}
    documented.update({kind: _title(name, paths) for kind, paths in new.items()})  # all, before links are made to them
    for kind, paths in new.items():
        yield _section_text(paths, kind, documented)


def _title(name: str, paths: list[str]) -> str:
    return f"{name}: {paths[0]}" if paths[0] else f"{name}: the whole file"


def anchor(title: str) -> str:
    """Of a heading, as code hosts make it."""
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in "_- ")
    return kept.replace(" ", "-")


def _section_text(paths: list[str], kind: type[Section], titles: Mapping[type[Section], str]) -> str:
    lines = [f"### {titles[kind]}", "", _flat(kind.__doc__ or "")]
    if len(paths) > 1:
        lines += ["", f"Also: {', '.join(f'`{path}`' for path in paths[1:])}."]
    lines += ["", "| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in kind.model_fields.items():
        cells = (f"`{name}`", _linked(field, titles), default_text(field), meaning_text(kind, name) or "")
        lines.append(f"| {' | '.join(cell.replace('|', ESCAPED) for cell in cells)} |")
    refused = refusals(kind)
    if refused:
        lines += ["", "Refused: " + "; ".join(refused) + "."]
    return "\n".join(lines)


def _linked(field: FieldInfo, titles: Mapping[type[Section], str]) -> str:
    """The type of a key; where it is a section, or one of several kinds of them, with links to their keys."""
    kinds = list(dict.fromkeys(_sections_in(field.annotation)))
    text = type_text(field)
    if len(kinds) == 1:
        return text.replace("section", f"[section](#{anchor(titles[kinds[0]])})", 1)
    links = [f"[{_told_apart(kind).strip(' ()')}](#{anchor(titles[kind])})" for kind in kinds]
    return text.replace(_or(["section"] * len(kinds)), f"section: {_or(links)}") if kinds else text


def _or(kinds: list[str]) -> str:
    return ", or ".join(kinds)


def _flat(text: str) -> str:
    return " ".join(text.split())


def meaning_text(kind: type[Section], name: str) -> str | None:
    """What a key means: the comment beside it, else what the section or the only value that it may have is."""
    if found := meaning(kind, name):
        return found
    annotation = kind.model_fields[name].annotation
    sections = list(dict.fromkeys(_sections_in(annotation)))
    if sections:
        return _first_sentence(sections[0].__doc__) if len(sections) == 1 else "each of one of these kinds"
    if get_origin(annotation) is Literal and len(get_args(annotation)) == 1:
        return _first_sentence(kind.__doc__)
    return None


def _first_sentence(text: str | None) -> str | None:
    if not text:
        return None
    flat = _flat(text)
    return flat.partition(". ")[0].rstrip(".")


# Types


def type_text(field: FieldInfo) -> str:
    """The type of a key, for people, with its bounds."""
    return _type(field.annotation, field.metadata)


def _type(annotation: Any, metadata: Any = ()) -> str:
    """A type with what bounds it; metadata: what stands beside it in `Annotated`, or was given to its `Field`."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(inner[0], [*_unpacked(inner[1:]), *metadata])
    bounds = _bounds(metadata)
    if origin in (Union, types.UnionType):
        kinds = [_type(part, metadata if _takes_bounds(part) else ()) for part in inner if part is not type(None)]
        return _or([*kinds, *(["null"] if type(None) in inner else [])])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if annotation in (int, float):
        return f"{_PLAIN[annotation]}{bounds}"
    if annotation is str:
        return _text(metadata)
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return "section"
    if origin in (list, set) or getattr(origin, "__name__", "") == "Sequence":
        once = ", each once" if any(_named(part) == "_each_once" for part in metadata) else ""
        return f"list{bounds} of: {_type(inner[0])}{once}"
    if origin is tuple:
        return f"[{', '.join(_type(part) for part in inner)}]"
    if origin is dict:
        return f"map{bounds} of: {_type(inner[0])} → {_type(inner[1])}"
    raise ConfigError(f"the page of configurations has no words for the type {annotation!r}")


def _takes_bounds(annotation: Any) -> bool:
    return annotation in (int, float, str) or get_origin(annotation) is list


def _unpacked(metadata: Any) -> Iterator[Any]:
    """What stands beside a type; of a `Field` what that was given."""
    for part in metadata:
        if isinstance(part, FieldInfo):
            yield from part.metadata
        else:
            yield part


def _named(part: Any) -> str:
    return getattr(part.func, "__name__", "") if isinstance(part, AfterValidator) else ""


def _text(metadata: Any) -> str:
    for part in metadata:
        if _named(part) in _CHECKED:
            return _CHECKED[_named(part)]
        if getattr(part, "pattern", None):
            return _PATTERN
    return "text"


def _bounds(metadata: Any) -> str:
    told = []
    for part in metadata:
        for kind, (sign, name) in _SIGNS.items():
            if isinstance(part, kind):
                told.append(f"{sign} {getattr(part, name):g}")
        if isinstance(part, MinLen):
            told.append(f"{part.min_length} or more")
        if isinstance(part, MaxLen):
            told.append(f"{part.max_length} at most")
    return f" {', '.join(told)}" if told else ""


# Defaults


def default_text(field: FieldInfo) -> str:
    """The default of a key as one writes it in YAML; **needed** where there is none."""
    if field.is_required():
        return "**needed**"
    value = field.get_default(call_default_factory=True)
    return "its own" if isinstance(value, Section) else f"`{_yaml(value)}`"


def _yaml(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_yaml(one) for one in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_yaml(one)}' for key, one in value.items())}}}"
    return str(value)


# Sections in sections


def joined(place: str, key: str) -> str:
    """The place of a key within a section's."""
    return f"{place}.{key}" if place else key


def inner_sections(kind: type[Section]) -> Iterator[tuple[str, type[Section]]]:
    """Each section that the keys of one may hold, with its place: `speech`, `train[]`, `systems.*`."""
    for name, field in kind.model_fields.items():
        found = list(dict.fromkeys(_sections_in(field.annotation)))
        for one in found:
            told = _told_apart(one) if len(found) > 1 else ""
            yield f"{name}{_mark(field.annotation)}{told}", one


def _told_apart(kind: type[Section]) -> str:
    """What tells a section from others that could stand in its place: the values of its key `kind`."""
    field = kind.model_fields.get("kind")
    values = get_args(field.annotation) if field is not None else ()
    return f" (kind: {', '.join(map(str, values))})" if values else f" ({kind.__name__})"


def _mark(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin in (list, set) or getattr(origin, "__name__", "") == "Sequence":
        return "[]"
    if origin is dict:
        return ".*"
    inner = [_mark(part) for part in get_args(annotation) if get_origin(part) is not None]
    return next((mark for mark in inner if mark), "") if origin in (Union, types.UnionType, Annotated) else ""


def _sections_in(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in get_args(annotation):
        yield from _sections_in(part)


def all_keys() -> Iterator[str]:
    """Every key of every configuration by its place, such as `mining.filters.max_hours`."""
    for one in CONFIGURATIONS.values():
        yield from _keys_below(one.load(), "")


def _keys_below(kind: type[Section], place: str) -> Iterator[str]:
    for name, field in kind.model_fields.items():
        yield joined(place, name)
        for found in dict.fromkeys(_sections_in(field.annotation)):
            yield from _keys_below(found, joined(place, name))


def all_sections() -> Iterator[type[Section]]:
    """Every section that any configuration has, each once."""
    seen: dict[type[Section], None] = {}
    waiting = [one.load() for one in CONFIGURATIONS.values()]
    while waiting:
        kind = waiting.pop(0)
        if kind not in seen:
            seen[kind] = None
            waiting += [found for _, found in inner_sections(kind)]
    yield from seen
