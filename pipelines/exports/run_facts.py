"""What a dataset card says of the run that the pairs come from: its name, digest, models, and who told languages."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from seamlessalign import storage
from seamlessalign.errors import StorageError
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.typed_config import parse_written_yaml


@dataclass(frozen=True)
class RunFacts:
    """Facts of a run's configuration and ledger; None for what they do not say."""

    name: str | None
    digest: str | None  # of the configuration
    models: dict[str, str]  # name → SHA-256
    speech_lid: str | None  # the model that told the language of recordings of which nobody had stated it
    strategy: str | None
    margin: str | None
    k: int | None


def read_facts(root: str) -> RunFacts:
    """Read them. Raises StorageError for a damaged configuration or ledger."""
    folder = RunFolder(root)
    config = _config(folder.config)
    speech, mining = (_section(config, name) for name in ("speech", "mining"))
    lid = None if speech.get("lang") else _section(speech, "lid").get("model")
    k = mining.get("k")
    return RunFacts(
        _text(config.get("name")), _text(config.get("digest")), _models(folder), _text(lid),
        _text(mining.get("strategy")), _text(mining.get("margin")), k if isinstance(k, int) else None,
    )  # fmt: skip


def _models(folder: RunFolder) -> dict[str, str]:
    """SHA-256 by name of every model that the ledger names; else of those that the tables' schemas do."""
    found: dict[str, str] = {}
    if storage.exists(folder.ledger):
        for line in storage.read_table(folder.ledger, ["models"]).column("models").to_pylist():
            found |= dict(line)
    return dict(sorted(found.items()))


def _config(uri: str) -> Mapping[str, Any]:
    if not storage.exists(uri):
        return {}
    try:
        raw = parse_written_yaml(storage.read_bytes(uri))
    except (yaml.YAMLError, ValueError) as error:
        raise StorageError(f"{uri}: is not YAML: {' '.join(str(error).split())}") from error
    return raw if isinstance(raw, Mapping) else {}


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    return found if isinstance(found, Mapping) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def models_json(facts: RunFacts) -> str:
    """The models for a schema's metadata."""
    return json.dumps(facts.models, sort_keys=True)
