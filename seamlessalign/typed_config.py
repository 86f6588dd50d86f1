"""Configurations as typed sections: read from YAML, overridden by `key.sub=value`, checked strictly, digested.

An unknown key is an error that names the nearest valid one.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from seamlessalign.errors import ConfigError
from seamlessalign.secrets import WHERE_TO_PUT_IT, redact_uri, secret_in

Kind = TypeVar("Kind", bound=BaseModel)
Thing = TypeVar("Thing")


def _each_once(values: list[Thing]) -> list[Thing]:
    twice = next((value for number, value in enumerate(values) if value in values[:number]), None)
    if twice is not None:
        raise ValueError(f"{twice} is there twice")
    return values


Once = Annotated[list[Thing], AfterValidator(_each_once)]  # a list in which nothing is there twice


class Section(BaseModel):
    """A part of a configuration: no unknown keys, no NaN, never changed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def checked(kind: type[Kind], raw: dict[str, Any], origin: str) -> Kind:
    """A nested dictionary as a configuration of some kind; `origin` names it in errors. Raises ConfigError."""
    for place, value in _texts(raw):  # first, so that no other error tells it
        secret = secret_in(value)
        if secret is not None:
            raise ConfigError(f"{origin}: {place}: {redact_uri(value)!r} carries {secret}: {WHERE_TO_PUT_IT}")
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{origin}: {_explain(error, kind)}") from None


def read_yaml(path: str, keys: str) -> dict[str, Any]:
    """A YAML file that holds a dictionary; `keys` says in errors what these are. Raises ConfigError."""
    try:
        raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date that there is not
        raise ConfigError(f"{path}: is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must hold keys such as {keys}, not {type(raw).__name__}")
    return raw


def parse_written_yaml(text: str | bytes) -> Any:
    """What a YAML file says that this program wrote, read by libyaml where PyYAML has it: many times as fast.

    Raises yaml.YAMLError.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def digest(*parts: Any) -> str:
    """First 16 hex digits of the SHA-256 of values that can be written as JSON."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=_plain)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]  # texts may have half a character


def beside(config_file: Path, uri: str) -> str:
    """A path that a configuration names, relative to the folder of its file."""
    if "://" in uri or Path(uri).is_absolute():
        return uri
    return str(config_file.absolute().parent / uri)


def apply_override(raw: dict[str, Any], override: str) -> None:
    """Set one key of a nested dictionary by `key.sub=value`. Raises ConfigError."""
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {override!r}: write key=value, such as mining.k=32")
    try:
        parsed = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"override {override!r}: the value is not YAML") from error
    *parents, last = key.split(".")
    node = raw
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"override {override!r}: {parent} is a value and has no keys")
        node = child
    node[last] = parsed


def _texts(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every text in nested values, with its place."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict | list | tuple):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(inner, f"{place}.{key}" if place else str(key))


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"cannot digest {type(value).__name__}")


def _explain(error: ValidationError, kind: type[BaseModel]) -> str:
    problems = error.errors()
    first = problems[0]
    places = [_place(_walked(kind, problem["loc"])[0]) for problem in problems]
    place = places[0]
    if first["type"] == "extra_forbidden":
        valid = _valid_keys(_walked(kind, first["loc"][:-1])[1])
        near = difflib.get_close_matches(str(first["loc"][-1]), valid, n=1, cutoff=0.0)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"unknown key {place!r}{hint}"
    key = str(first.get("ctx", {}).get("discriminator", "")).strip("'")  # that tells kinds apart
    if first["type"] == "union_tag_not_found":
        return f"{place}: needs the key {key}"
    if first["type"] == "union_tag_invalid":
        told = first["ctx"]
        return f"{place}.{key}: should be {told['expected_tags']}, not {told['tag']!r}"
    # one for each kind that is allowed
    same = [problem for problem, there in zip(problems, places, strict=True) if there == place]
    messages = [problem["msg"].removeprefix("Value error, ") for problem in same]
    message = ", or ".join(f"{text[0].lower()}{text[1:]}" for text in messages)
    more = f" ({len(problems) - len(same)} more)" if len(problems) > len(same) else ""
    if not place:
        return f"{message}{more}"
    given = first.get("input")
    tells = first["type"] != "value_error" and isinstance(given, str | int | float | bool)  # our own name the value
    return f"{place}: {message}{f', not {given!r}' if tells else ''}{more}"


def _place(location: Sequence[int | str]) -> str:
    """A place with dots; pydantic's names of the kinds that a value may be of are left out."""
    return ".".join(
        str(part)
        for part in location
        if not re.fullmatch(r"literal\[.*\]|int|float|constrained-int|\[key\]", str(part))
    )


def _valid_keys(models: list[type[BaseModel]]) -> list[str]:
    return list(dict.fromkeys(name for model in models for name in model.model_fields))


def _walked(kind: type[BaseModel], location: tuple[int | str, ...]) -> tuple[list[int | str], list[type[BaseModel]]]:
    """A location without pydantic's tags of kinds that were told apart by a key, and the sections that it leads to."""
    models, kept = [kind], list[int | str]()
    for part in location:
        tagged = [model for model in models if len(models) > 1 and part in _tags(model)]
        if tagged:
            models = tagged
            continue
        kept.append(part)
        fields = [model.model_fields[part] for model in models if isinstance(part, str) and part in model.model_fields]
        if fields:  # else the part is a number or a key, of what holds sections of these kinds
            models = [found for field in fields for found in _sections(field.annotation)]
    return kept, models


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """All sections that an annotation names, such as that of a list of several kinds of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in get_args(annotation) for found in _sections(inner)]


def _tags(model: type[BaseModel]) -> set[Any]:
    return {
        value
        for field in model.model_fields.values()
        if get_origin(field.annotation) is Literal
        for value in get_args(field.annotation)
    }
