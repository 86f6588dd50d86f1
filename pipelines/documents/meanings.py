"""What the source says of a configuration's keys: the comments beside fields, and what validators refuse."""

import ast
import inspect
import io
import textwrap
import tokenize
from dataclasses import dataclass
from functools import cache

from pydantic import BaseModel

_ORDERS = {"_check_order"}  # functions that refuse two keys in the wrong order: low name, value, high name, value


@dataclass(frozen=True)
class ClassText:
    """What the source of one class says of it."""

    fields: dict[str, str]  # meaning of each field that has a comment, in the order of the source
    refused: list[str]  # what validators raise, with … for what depends on values


@cache
def class_text(kind: type[BaseModel]) -> ClassText:
    """Read the source of a class, without those it inherits from."""
    return read_class(textwrap.dedent(inspect.getsource(kind)))


def read_class(source: str) -> ClassText:
    """Comments of fields and refusals of a class whose source is given.

    The comment of a field stands behind it on its last line, or above it on lines of its own; where both are there, the
    one above comes first.
    """
    (node,) = [part for part in ast.parse(source).body if isinstance(part, ast.ClassDef)]
    comments, alone = _comments(source)
    fields = {}
    for part in node.body:
        if not isinstance(part, ast.AnnAssign) or not isinstance(part.target, ast.Name):
            continue
        above = list[str]()
        line = part.lineno - 1
        while line in alone:
            above.insert(0, comments[line])
            line -= 1
        behind = [comments[line] for line in range(part.lineno, (part.end_lineno or 0) + 1) if line in comments]
        if above or behind:
            fields[part.target.id] = " ".join([*_sentence(above), *behind])
    return ClassText(fields, [text for part in ast.walk(node) for text in _refusal(part)])


def meaning(kind: type[BaseModel], field: str) -> str | None:
    """The comment of a field, in the class or else in the first that it inherits it from; None where there is none."""
    for one in kind.__mro__:
        if one is BaseModel or not issubclass(one, BaseModel):
            break
        if found := class_text(one).fields.get(field):
            return found
    return None


def refusals(kind: type[BaseModel]) -> list[str]:
    """What validators of a class and of those it inherits from refuse, each once."""
    found: list[str] = []
    for one in reversed(kind.__mro__):
        if issubclass(one, BaseModel) and one is not BaseModel:
            found += class_text(one).refused
    return list(dict.fromkeys(found))


def _sentence(above: list[str]) -> list[str]:
    """Lines above a field as one text that something may follow."""
    text = " ".join(above)
    if not text:
        return []
    return [text] if text[-1] in ".:;?!…" else [f"{text}."]


def _comments(source: str) -> tuple[dict[int, str], set[int]]:
    """Comments by line, and which lines have nothing else."""
    comments, alone = {}, set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            line = token.start[0]
            comments[line] = token.string.lstrip("#").strip()
            if not token.line[: token.start[1]].strip():
                alone.add(line)
    return comments, alone


def _refusal(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and _called(node.exc) == "ValueError":
        text = _said(node.exc.args[0])
        return [text] if text else []
    if isinstance(node, ast.Call) and _called(node) in _ORDERS:
        low, _, high, _ = node.args
        return [f"{_said(low)} … is above {_said(high)} …"]
    return []


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _said(node: ast.expr) -> str | None:
    """A text of the source with … in place of values; None where it is no text, or a value alone."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = [str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values]
        return "".join(parts) if any(isinstance(part, ast.Constant) for part in node.values) else None
    return None
