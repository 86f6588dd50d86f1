"""The pages that are written from the source are as the source is, and leave nothing out."""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seamlessalign.cli import command_parser
from seamlessalign.pipelines.documents.commands import commands_of
from seamlessalign.pipelines.documents.configurations import (
    CONFIGURATIONS,
    all_sections,
    anchor,
    default_text,
    meaning_text,
    type_text,
)
from seamlessalign.pipelines.documents.meanings import read_class
from seamlessalign.pipelines.documents.pages import PAGES
from seamlessalign.training_cli import TRAININGS
from seamlessalign.typed_config import Section

HOUSE = Path(__file__).parents[3]
ROOMS = ("seamlessalign", "segmentation", "lid", "embedders", "mining", "training", "pipelines")
# sections of files that the program writes and nobody configures
OF_FILES = {"ScoreModel", "LanguageCalibration", "Calibration", "UnitsCard", "StudentConfig"}
# what others extend, and nothing holds itself
BASES = {
    "SpeechSource", "SpeechData", "SoundChangeSettings", "OptimiserSettings", "TrainingSettings", "SlurmAsks",
    "SourceSection", "ColumnSource", "LinesSource", "DataSet", "PairTable", "StudentChoice",
}  # fmt: skip


def _classes_of_sections() -> set[str]:
    """Names of all classes of the source that extend Section, through others too."""
    bases: dict[str, set[str]] = {}
    for room in ROOMS:
        for path in (HOUSE / room).rglob("*.py"):
            for name, told in re.findall(r"^class (\w+)\(([^)]*)\)", path.read_text(encoding="utf-8"), re.MULTILINE):
                bases.setdefault(name, set()).update(re.findall(r"\w+", told))
    found: set[str] = set()
    more = {"Section"}
    while more:
        more = {name for name, above in bases.items() if above & more and name not in found}
        found |= more
    return found


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_what_the_source_says(name: str) -> None:
    written = (HOUSE / "docs" / name).read_text(encoding="utf-8")
    assert written == PAGES[name](), "run: python -m seamlessalign.pipelines.documents"


class TestConfigurations:
    def test_every_key_has_a_meaning(self) -> None:
        sections = list(all_sections())
        assert len(sections) > 100
        silent = [f"{kind.__module__}.{kind.__name__}.{key}" for kind in sections for key in kind.model_fields
                  if not meaning_text(kind, key)]  # fmt: skip
        assert silent == [], "write a comment beside the field"

    def test_a_key_without_a_comment_is_seen(self) -> None:
        class Silent(Section):
            told: int = 0  # what it is
            silent: int = 0

        assert meaning_text(Silent, "told") == "what it is"
        assert meaning_text(Silent, "silent") is None

    def test_no_configuration_is_left_out(self) -> None:
        held = {kind.__name__ for kind in all_sections()}
        left_out = _classes_of_sections() - held - OF_FILES - BASES
        assert left_out == set(), "name it in CONFIGURATIONS, or here among those of files"
        assert set(TRAININGS) <= set(CONFIGURATIONS)

    def test_a_configuration_names_a_command_that_there_is(self) -> None:
        parser = command_parser()
        for one in CONFIGURATIONS.values():
            if not one.is_file_of_a_run:
                parser.parse_args(one.command.split())

    def test_bounds_and_choices_are_those_that_pydantic_checks(self) -> None:
        """Its JSON schema is made another way."""
        signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
        checked = 0
        for kind in all_sections():
            schema = kind.model_json_schema()
            for key, told in schema["properties"].items():
                text = type_text(kind.model_fields[key])
                for name, value in _constraints(told):
                    wanted = f"{signs[name]} {value:g}" if name in signs else f"`{value}`"
                    assert wanted in text, (kind.__name__, key, wanted, text)
                    checked += 1
                assert text.endswith(", or null") == ("'null'" in str(told)), (kind.__name__, key, text)
                assert (default_text(kind.model_fields[key]) == "**needed**") == (key in schema.get("required", []))
        assert checked > 500

    def test_headings_are_linked_as_code_hosts_do(self) -> None:
        assert anchor("unity: data.train[] (kind: corpus)") == "unity-datatrain-kind-corpus"


def _constraints(schema: Any) -> Iterator[tuple[str, Any]]:
    """Bounds and choices anywhere in the schema of one key."""
    if isinstance(schema, dict):
        for name, value in schema.items():
            if name in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum") or name == "const":
                yield name, value
            elif name == "enum":
                yield from ((name, one) for one in value)
            elif name not in ("default", "propertyNames"):
                yield from _constraints(value)
    elif isinstance(schema, list):
        for one in schema:
            yield from _constraints(one)


class TestReading:
    def test_comments_and_refusals(self) -> None:
        read = read_class(
            "class A(Section):\n"
            '    """About."""\n'
            "    # not of a field\n"
            "\n"
            "    a: int = 0  # behind # twice\n"
            "    # Above, on\n"
            "    # two lines\n"
            "    b: int = 0\n"
            "    # Above\n"
            "    c: int = Field(\n"
            "        0, gt=0\n"
            "    )  # and behind\n"
            "    d: str = '# of a text'\n"
            "    e: int\n"
            "    def f(self):\n"
            "        g: int = 0  # of no key\n"
            "        raise ValueError(f'{self.a} is not {self.b}')\n"
            "        _check_order('a', self.a, 'b', self.b)\n"
            "        raise ValueError(str(error))\n"
        )
        assert read.fields == {"a": "behind # twice", "b": "Above, on two lines.", "c": "Above. and behind"}
        assert read.refused == ["… is not …", "a … is above b …"]


class TestCommands:
    def test_every_argument_says_what_it_is(self) -> None:
        silent = [
            f"{name} {action.dest}"
            for name, (_, parser) in commands_of(command_parser()).items()
            for action in parser._actions
            if not action.help
        ]
        assert silent == [], "give it help="

    def test_every_option_of_every_command_is_there(self) -> None:
        """Against the help that argparse prints."""
        page = PAGES["commands.md"]()
        for name, (_, parser) in commands_of(command_parser()).items():
            part = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
            for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", parser.format_help())) - {"--help"}:
                assert f"`{option}" in part or option not in _options(parser), (name, option)


def _options(parser: argparse.ArgumentParser) -> set[str]:
    return {option for action in parser._actions for option in action.option_strings}
