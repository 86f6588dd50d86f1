"""Markdown of a dataset card, in which nothing that comes from data is markup."""

import re
from collections.abc import Sequence

Rows = Sequence[Sequence[str]]  # of a table, cell by cell


def table(head: Sequence[str], rows: Rows) -> str:
    """A table of cells that are Markdown; empty where there are no rows."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) if rows else ""


def plain(text: str) -> str:
    """Text in which nothing is markup."""
    return re.sub(r"([\\`*_{}\[\]<>#|!~&])", r"\\\1", _one_line(text))


def code(text: str) -> str:
    """Text that comes from data, as such: nothing in it is markup."""
    return f"`{_one_line(text).replace('`', chr(39)).replace('|', '¦')}`"


def _one_line(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in " ".join(text.split())) or " "
