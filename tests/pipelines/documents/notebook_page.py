"""The page of docs/ that opens a run in a notebook: its blocks of Python are run, and what they show stands behind.

    python -m tests.pipelines.documents.notebook_page --run runs/demo/run

The blocks are run one after the other, as the cells of a notebook are, in a folder that has a copy of the run where the
page says that it is. Behind each that ends in an expression, or prints, stands what it shows: text, or a picture.
"""

import argparse
import ast
import contextlib
import io
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seamlessalign.errors import InputError
from seamlessalign.pictures import Picture

DOCS = Path(__file__).parents[3] / "docs"
PAGE = DOCS / "notebook.md"
PICTURES = "notebook"  # folder beside the page
RUN = "runs/demo/run"  # where the page says that the run is

_SHOWN = "<!-- shown -->"
_BEHIND = rf"\n{_SHOWN}\n(?:\n```text\n.*?^```\n)?(?:\n!\[[^\n]*\n)?"
_CELL = re.compile(rf"(?P<cell>^```python\n(?P<code>.*?)^```\n)(?:{_BEHIND})?", re.M | re.S)


@dataclass(frozen=True)
class Shown:
    """What a block shows: text, and a picture with the name of its file."""

    text: str = ""
    picture: Picture | None = None
    file: str = ""

    def markdown(self) -> str:
        """The same as the page has it; nothing where nothing is shown."""
        shown = [f"```text\n{self.text}\n```\n"] if self.text else []
        shown += [f"![{self.picture.name}]({PICTURES}/{self.file})\n"] if self.picture is not None else []
        return "".join(f"\n{one}" for one in [f"{_SHOWN}\n", *shown]) if shown else ""


def run_page(text: str, folder: Path) -> tuple[str, dict[str, str]]:
    """The page with what its blocks show when they are run in a folder; and the pictures, as SVG by name of file.

    Raises InputError naming the line of a block that fails.
    """
    scope: dict[str, Any] = {"__name__": "notebook"}
    pictures: dict[str, str] = {}
    pieces, reached = [], 0
    with _in_folder(folder):
        for match in _CELL.finditer(text):
            line = text[: match.start("code")].count("\n") + 1
            shown = _run_cell(match["code"], scope, line, len(pictures) + 1)
            if shown.picture is not None:
                pictures[shown.file] = shown.picture.svg
            pieces += [text[reached : match.start()], match["cell"], shown.markdown()]
            reached = match.end()
    return "".join([*pieces, text[reached:]]), pictures


def write_page(run: Path) -> None:
    """Write the page and its pictures anew from a run, which stays as it is."""
    with tempfile.TemporaryDirectory(prefix="seamlessalign-") as name:
        shutil.copytree(run, Path(name) / RUN)
        text, pictures = run_page(PAGE.read_text("utf-8"), Path(name))
    PAGE.write_text(text, "utf-8")
    folder = DOCS / PICTURES
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for file, svg in pictures.items():
        (folder / file).write_text(f"{svg}\n", "utf-8")


def _run_cell(code: str, scope: dict[str, Any], line: int, number: int) -> Shown:
    """Run a block; its last statement, where it is an expression, is shown."""
    tree = ast.parse(code)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    value: Any = None
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(tree, f"notebook.md:{line}", "exec"), scope)
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), f"notebook.md:{line}", "eval"), scope)
    except Exception as error:
        raise InputError(f"docs/notebook.md, line {line}: {error.__class__.__name__}: {error}") from error
    picture = value if isinstance(value, Picture) else None
    told = [printed.getvalue().rstrip("\n")] if printed.getvalue() else []
    told += [_written(value)] if value is not None and picture is None else []
    text = "\n".join(line.rstrip() for line in "\n".join(told).splitlines())
    return Shown(text, picture, f"{number:02}.svg" if picture is not None else "")


def _written(value: Any) -> str:
    """A value as a notebook shows it, but for its colours."""
    if hasattr(value, "to_string"):  # a DataFrame
        return str(value.to_string(float_format=lambda number: f"{number:.4g}", max_colwidth=48))
    return repr(value)


@contextlib.contextmanager
def _in_folder(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page."""
    parser = argparse.ArgumentParser("python -m tests.pipelines.documents.notebook_page", description=__doc__)
    parser.add_argument("--run", type=Path, default=Path(RUN), help="a run of the demo (default: %(default)s)")
    write_page(parser.parse_args(arguments).run)
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
