"""The sections of a report on how a run was made: its configuration, and the models that touched its rows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from seamlessalign.config import RunConfig, dump_config, parse_config
from seamlessalign.errors import ConfigError
from seamlessalign.html_page import row_of, table_of
from seamlessalign.markup import Markup, join, tag
from seamlessalign.pipelines.report_numbers import is_rebuilt
from seamlessalign.rows import LedgerLine
from seamlessalign.secrets import redact
from seamlessalign.typed_config import Section, checked

_LONGEST = 300  # characters of a value in the table; the whole file has all of it


def config_section(config: Mapping[str, Any] | None) -> list[Markup]:
    """What differs from the defaults, and folded, the whole configuration as it was resolved."""
    if not config:
        return []
    pieces: list[Markup] = []
    changed = _changed(config)
    if changed is None:
        told = "These are not the keys of a run of this version: which are not at their defaults is unknown."
        pieces.append(tag("p", told, class_="note"))
    else:
        rows = [row_of(tag("code", tag("bdi", key)), tag("code", tag("bdi", value))) for key, value in changed]
        pieces += [
            tag(
                "p",
                "The keys that are not at their defaults. The same configuration gives the same rows.",
                class_="about",
            ),
            table_of(("key", "value"), rows, long=(1,)),
        ]
    text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=100)
    written = join(*(piece for line in redact(text).splitlines() for piece in (line, Markup("\n"))))
    summary = tag("summary", "All of it, as run.yaml has it")
    return [*pieces, tag("details", summary, tag("pre", tag("code", written), tabindex=0))]


def models_section(ledger: Sequence[LedgerLine]) -> list[Markup]:
    """The models that touched the rows, with what tells that they are the same."""
    used: dict[tuple[str, str], set[str]] = {}
    for line in ledger:
        for name, fingerprint in line.models.items():
            used.setdefault((name, fingerprint), set()).add(line.stage)
    if not used:
        return []
    rows = [
        row_of(name, ", ".join(sorted(stages)), tag("code", fingerprint))
        for (name, fingerprint), stages in sorted(used.items())
    ]
    return [table_of(("model", "used in", "SHA-256"), rows, long=(2,))]


def _changed(config: Mapping[str, Any]) -> list[tuple[str, str]] | None:
    """Keys and values that are not as by default; None where the configuration is not one of this version."""
    raw = {key: value for key, value in config.items() if key != "digest"}
    plain: Section = RunConfig.model_construct(directions=[])
    try:
        if is_rebuilt(config):
            from seamlessalign.pipelines.published.rebuild_config import RebuildConfig

            whole = checked(RebuildConfig, raw, "run.yaml").model_dump(mode="json")
            plain = RebuildConfig.model_construct(metadata=[], output="")
        else:
            whole = dump_config(parse_config(raw, "run.yaml"))
    except ConfigError:
        return None
    defaults = dict(_flat(plain.model_dump(mode="json")))
    nothing = object()
    return [(key, redact(_short(value))) for key, value in _flat(whole) if defaults.get(key, nothing) != value]


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Keys with dots and their values; a section that is empty is a value."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
