"""Every block of the documents is what it says: commands parse, configurations load, Python compiles and is found.

`test_documents_run.py` runs them. The network is not asked: links out of the project only have to be well formed.
"""

import ast
import configparser
import importlib
import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from seamlessalign.cli import parsed_arguments
from seamlessalign.pipelines.documents.configurations import CONFIGURATIONS, all_keys
from seamlessalign.typed_config import Section
from tests.pipelines.documents.blocks import (
    HOUSE,
    LANGUAGES,
    PAGES,
    Block,
    arguments_of,
    blocks_in,
    blocks_of,
    inline_commands,
    modules_of,
)

# sections whose names, with something behind a dot, stand for nothing else
_SECTIONS = "speech|mining|resources|fetch|optimiser|validation|measures|augment|losses|kmeans|features|resampling"

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
COMMANDS = [block for block in BLOCKS if block.language == "sh"]
CONFIGURED = [block for block in BLOCKS if block.language == "yaml"]
PYTHON = [block for block in BLOCKS if block.language == "python"]


def _names(block: Block) -> str:
    return str(block)


def test_there_are_blocks_of_every_kind() -> None:
    """What follows is as good as this reading of pages."""
    assert len(COMMANDS) > 30 and len(CONFIGURED) > 25 and len(PYTHON) > 8


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_say_what_they_are(page: Path) -> None:
    for block in blocks_of(page):
        assert block.language in LANGUAGES, f"{block}: {block.language or 'no language'}: write one of {LANGUAGES}"
        known = block.not_run or block.part_of or block.run_with or not block.note
        assert known, f"{block}: {block.note!r} is none of `not run: …`, `part of: …`, `run with: …`"
        if block.not_run is not None:
            assert len(block.not_run.split()) > 1, f"{block}: say why"


@pytest.mark.parametrize("block", COMMANDS, ids=_names)
def test_commands_parse(block: Block) -> None:
    for command in block.commands:
        for arguments in arguments_of(command):
            _parse(arguments, f"{block}: {command}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_extras_that_are_installed_are_there(page: Path) -> None:
    setup = configparser.ConfigParser()
    setup.read(HOUSE / "setup.cfg")
    for extras in re.findall(
        r"pip\s+install [^\n]*?(?:seamlessalign|\.|/src)\[([\w,-]+)\]", page.read_text(encoding="utf-8")
    ):
        missing = [one for one in extras.split(",") if not setup.has_option("options.extras_require", one)]
        assert missing == [], f"{page.name}: there are no extras {missing}"


@pytest.mark.parametrize("block", COMMANDS, ids=_names)
def test_modules_that_are_run_take_their_options(block: Block) -> None:
    for command in block.commands:
        for module, options in modules_of(command):
            path = HOUSE / f"{module.replace('.', '/')}.py"
            path = path if path.exists() else HOUSE / module.replace(".", "/") / "__main__.py"
            assert path.exists(), f"{block}: there is no module {module}"
            known = "".join(one.read_text(encoding="utf-8") for one in {path, *_imported(path)})
            missing = [option for option in options if f'"{option}"' not in known]
            assert missing == [], f"{block}: {module} does not take {missing}"


def _imported(path: Path) -> set[Path]:
    """Our modules that a module imports at once."""
    names = re.findall(r"^from ((?:seamlessalign|benchmarks)[\w.]+) import", path.read_text(encoding="utf-8"), re.M)
    return {file for name in names if (file := HOUSE / f"{name.replace('.', '/')}.py").exists()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_text_parse(page: Path) -> None:
    for command in inline_commands(page):
        for arguments in arguments_of(command):
            if arguments[1:] and not (arguments[0] == "train" and not arguments[2:]):  # else only a command's name
                _parse(arguments, f"{page.name}: {command}")


def _parse(arguments: list[str], place: str) -> None:
    try:
        parsed_arguments(arguments)
    except SystemExit as stop:
        if stop.code == 0:  # --help
            return
        raise AssertionError(f"{place}: the command line does not take it") from stop


@pytest.mark.parametrize("block", CONFIGURED, ids=_names)
def test_configurations_load(block: Block) -> None:
    raw = yaml.safe_load(block.text)
    if block.not_run is not None:  # of another program
        return
    if block.part_of is not None:
        _check_part(raw, block.part_of, str(block))
        return
    assert isinstance(raw, dict), f"{block}: no keys; say `part of: …`"
    kinds = {name: one.load() for name, one in CONFIGURATIONS.items()}
    fitting = {name: kind for name, kind in kinds.items() if raw.keys() <= kind.model_fields.keys()}
    assert fitting, f"{block}: no configuration has the keys {', '.join(raw)}"
    errors = [error for kind in fitting.values() if (error := _refusal(TypeAdapter(kind), raw)) is not None]
    assert len(errors) < len(fitting), f"{block}: {errors}"


def _check_part(raw: Any, place: str, block: str) -> None:
    """A part of a configuration: a value at a place of it, or some of the keys there."""
    name, _, path = place.partition(": ")
    annotation: Any = CONFIGURATIONS[name].load()
    for key in path.split(".") if path else []:
        annotation = annotation.model_fields[key.removesuffix("[]")].annotation
    if not (isinstance(annotation, type) and issubclass(annotation, Section)):
        error = _refusal(TypeAdapter(annotation), raw)
        assert error is None, f"{block}: {error}"
        return
    assert isinstance(raw, dict), block
    for key, value in raw.items():
        assert key in annotation.model_fields, f"{block}: {place} has no key {key}"
        field = annotation.model_fields[key]
        bounded: Any = Annotated[field.annotation, field]
        error = _refusal(TypeAdapter(bounded), value)
        assert error is None, f"{block}: {key}: {error}"


def _refusal(kind: TypeAdapter[Any], raw: Any) -> str | None:
    try:
        kind.validate_python(raw)
    except ValidationError as error:
        return str(error)
    return None


@pytest.fixture(scope="module")
def keys() -> set[str]:
    """Every key, by its place and by each end of it."""
    places = [place.split(".") for place in all_keys()]
    return {".".join(parts[begin:]) for parts in places for begin in range(len(parts))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_keys_in_the_text_are_there(page: Path, keys: set[str]) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(rf"(?<!`)`((?:{_SECTIONS})(?:\.[a-z_0-9]+)+)(?=[:= `])", text):
        assert code in keys or code.endswith((".py", ".jsonl")), f"{page.name}: there is no key {code}"


@pytest.mark.parametrize("block", PYTHON, ids=_names)
def test_python_compiles_and_its_imports_are_there(block: Block) -> None:
    tree = ast.parse(block.text)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "seamlessalign":
            module = importlib.import_module(str(node.module))
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert missing == [], f"{block}: {node.module} has no {missing}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                assert importlib.util.find_spec(alias.name) is not None, f"{block}: {alias.name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_out_are_well_formed(page: Path) -> None:
    """Whether they lead somewhere cannot be asked here."""
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"https?://[^\s)>\]]+", text)
    for link in links:
        parts = urlsplit(link)
        assert parts.scheme == "https", f"{page.name}: {link}"
        assert re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", parts.netloc), f"{page.name}: {link}"
        assert not re.search(r"[.,;:]$", link), f"{page.name}: {link} ends in punctuation"


def test_every_page_can_be_found_from_the_readme() -> None:
    linked = set(re.findall(r"\]\(docs/([\w/.-]+\.md)", (HOUSE / "README.md").read_text(encoding="utf-8")))
    assert {str(page.relative_to(HOUSE / "docs")) for page in PAGES[1:]} - linked == set()


class TestReading:
    def test_blocks(self) -> None:
        text = (
            "a\n\n<!-- not run: it takes an hour -->\n```sh\na b \\\n  c  # why\n\nd\n```\n"
            "\n```yaml\n# f.yaml\nx: 1\n```\n"
        )
        first, second = blocks_in(text, HOUSE / "docs" / "x.md")
        assert (first.language, first.line, first.not_run) == ("sh", 5, "it takes an hour")
        assert first.commands == ["a b c", "d"] and first.file is None
        assert (second.language, second.note, second.file) == ("yaml", "", "f.yaml")

    @pytest.mark.parametrize(
        ("line", "wanted"),
        [
            (
                "seamlessalign run c.yaml mining.k=3 -- --runner=…",
                [["run", "c.yaml", "mining.k=3", "--", "--runner=…"]],
            ),
            ("seamlessalign train KIND C.yaml [key=value …]", [["train", "unity", "C.yaml"]]),
            ("seamlessalign run C.yaml [--output DIR]", [["run", "C.yaml", "--output", "DIR"]]),
            (
                "torchrun --n 8 -m seamlessalign train unity c && seamlessalign models",
                [["train", "unity", "c"], ["models"]],
            ),
            ("pip install 'seamlessalign[train]'", []),
        ],
    )
    def test_calls_of_the_program(self, line: str, wanted: list[list[str]]) -> None:
        assert list(arguments_of(line)) == wanted

    def test_modules(self) -> None:
        line = "python -m benchmarks.knn --rows 5 && python -m seamlessalign.lid.evaluate --out measured/ | tail -n 3"
        assert list(modules_of(line)) == [("benchmarks.knn", ["--rows"]), ("seamlessalign.lid.evaluate", ["--out"])]

    @pytest.mark.parametrize("wrong", [["run"], ["export", "d", "--too", "x"], ["train", "unitty", "c"]])
    def test_a_wrong_command_is_seen(self, wrong: list[str]) -> None:
        with pytest.raises(AssertionError):
            _parse(wrong, "here")

    @pytest.mark.parametrize(
        ("part", "raw"),
        [
            ("run", {"minning": {}}),
            ("run: mining", {"k": 0}),
            ("unity: data.train[]", [{"kind": "corpuss"}]),
        ],
    )
    def test_a_wrong_part_is_seen(self, part: str, raw: Any) -> None:
        with pytest.raises(AssertionError):
            _check_part(raw, part, "here")
