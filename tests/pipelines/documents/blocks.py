"""Blocks of the documents: what README.md and docs/*.md show as commands, configurations and Python."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HOUSE = Path(__file__).parents[3]
PAGES = [HOUSE / "README.md", *sorted((HOUSE / "docs").rglob("*.md"))]
LANGUAGES = ("sh", "yaml", "python", "text", "dockerfile", "json", "sql")

# a block, with the comment on the line above it, if there is one
_BLOCK = re.compile(r"(?:^<!-- *(?P<note>[^\n]*?) *-->\n)?^```(?P<language>[^\n]*)\n(?P<text>.*?)^```", re.M | re.S)
_INLINE = re.compile(r"(?<!`)`(seamlessalign [^`]+)`(?!`)")
# what stands for something in commands → something that can stand there
_STANDS_FOR = {"KIND": "unity", "NAME": "parquet", "PORT": "9100", "H": "100", "M": "10", "N": "3"}


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: Path
    line: int  # of its first line within the page
    language: str
    text: str
    note: str  # of the comment above it

    def __str__(self) -> str:
        return f"{self.page.relative_to(HOUSE)}:{self.line}"

    def _after(self, word: str) -> str | None:
        before, found, told = self.note.partition(f"{word}: ")
        return told.strip() if found and not before else None

    @property
    def not_run(self) -> str | None:
        """Why it cannot be run here."""
        return self._after("not run")

    @property
    def part_of(self) -> str | None:
        """Of which configuration, and where in it, a piece of YAML is a part: `run`, `unity: data.train[]`."""
        return self._after("part of")

    @property
    def run_with(self) -> list[str]:
        """What is put behind commands that take keys of a configuration, to make them small."""
        return shlex.split(self._after("run with") or "")

    @property
    def file(self) -> str | None:
        """The name of the file that it shows: its first line is a comment with nothing else."""
        found = re.match(r"# ([\w./-]+\.(?:yaml|py))\n", self.text)
        return found[1] if found else None

    @property
    def commands(self) -> list[str]:
        """Its commands, each on one line, without comments."""
        return list(_commands(self.text))


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    return blocks_in(page.read_text(encoding="utf-8"), page)


def blocks_in(text: str, page: Path) -> list[Block]:
    """Those of the text of a page."""
    found = []
    for match in _BLOCK.finditer(text):
        line = text[: match.start("text")].count("\n") + 1
        found.append(Block(page, line, match["language"].strip(), match["text"], match["note"] or ""))
    return found


def inline_commands(page: Path) -> Iterator[str]:
    """Commands in the text of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for found in _INLINE.findall(text):
        yield found.replace("\\|", "|")


def _commands(text: str) -> Iterator[str]:
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        told = " ".join(re.sub(r"(^|\s)#.*", "", line).split())
        if told:
            yield told


def arguments_of(command: str) -> Iterator[list[str]]:
    """The arguments of each call of the program in a line of shell; what stands for something has it in its place."""
    for part in re.split(r"&&|\|\||[|;]\s", command):
        words = shlex.split(part)
        starts = [
            number + 1 for number, word in enumerate(words) if word in ("seamlessalign", ".venv/bin/seamlessalign")
        ]
        if starts:
            yield [_STANDS_FOR.get(word, word) for word in _plain(words[starts[0] :])]


def modules_of(command: str) -> Iterator[tuple[str, list[str]]]:
    """Our modules that a line of shell runs with `python -m`, each with the options that it is given."""
    for module, rest in re.findall(r"python3? -m ((?:seamlessalign|benchmarks)\.[\w.]+)([^|;&)]*)", command):
        yield module, re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest)


def _plain(words: list[str]) -> Iterator[str]:
    """Without what says that more may follow, and brackets around what may be left out."""
    for word in words:
        bare = word.strip("[]")
        if bare and not re.fullmatch(r"…|\.\.\.|key=value", bare):
            yield bare if word[0] == "[" or word[-1] == "]" else word
