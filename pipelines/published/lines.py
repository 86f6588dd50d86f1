"""Files of published metadata, read line by line, however large they are."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice

from seamlessalign import storage
from seamlessalign.errors import InputError, UnreadableError
from seamlessalign.pipelines.published.line_forms import Form, MetadataLine, form_of, parse_line
from seamlessalign.pipelines.published.packed import DAMAGE, unpacked

__all__ = ["HARMLESS", "BadLine", "Form", "MetadataLine", "PublishedPair", "raw_lines", "read_line", "read_lines"]

HARMLESS = frozenset({"blank_line", "header"})  # reasons of lines from which nothing could be made
_LONGEST = 1 << 20  # bytes of a line
_LOOKED_AT = 100  # lines, to know the form
_SHOWN = 200  # characters of a line that cannot be read


@dataclass(frozen=True)
class PublishedPair:
    """Both sides of a published pair, in the order of its direction."""

    direction: str
    line_no: int
    src: MetadataLine
    tgt: MetadataLine


@dataclass(frozen=True)
class BadLine:
    """A line that says nothing, and why: `blank_line`, `header`, `invalid_utf8`, `too_long`, and those of `parse_line`.

    The reasons `truncated` and `damaged` are the file's: its compressed bytes cannot be read beyond this line.
    """

    reason: str
    detail: str


def read_lines(uri: str, form: Form | None = None) -> Iterator[tuple[int, MetadataLine | BadLine]]:
    """Each line of a file with its number, from 1: what it says, or why it says nothing.

    The file is plain, gzip or xz, whatever its name, and anywhere that `storage` reads. Its form is told by its first
    lines where it is not given. Raises InputError where there is no such file, or where none of these lines has any
    of the forms; StorageError where it cannot be fetched.
    """
    form, numbered = raw_lines(uri, form)
    for number, raw in numbered:
        yield number, raw if isinstance(raw, BadLine) else read_line(raw, form)


def raw_lines(uri: str, form: Form | None = None) -> tuple[Form, Iterator[tuple[int, bytes | BadLine]]]:
    """The form of a file, and its lines as they are, numbered from 1. Raises as `read_lines`."""
    numbered = _numbered(uri)
    if form is not None:
        return form, numbered
    ahead = list(islice(numbered, _LOOKED_AT))
    texts = [text for _, raw in ahead if isinstance(raw, bytes) and (text := _decoded(raw)).strip()]
    if not ahead:
        raise InputError(f"{uri}: is empty: fetch it anew")
    form = form_of(texts)
    if form is None and texts:
        raise InputError(
            f"{uri}: the first line is in none of the forms seamlessalign, expressive and nllb: {texts[0][:80]!r}"
        )
    return form or "seamlessalign", chain(ahead, numbered)


def read_line(raw: bytes, form: Form) -> MetadataLine | BadLine:
    """What the bytes of a line say."""
    text = raw.rstrip(b"\r\n")
    try:
        decoded = text.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        return BadLine("invalid_utf8", f"{error.reason} at byte {error.start}: {_shown(text)}")
    if not decoded.strip():
        return BadLine("blank_line", "")
    try:
        return parse_line(decoded, form)
    except UnreadableError as error:
        return BadLine(error.reason, f"{error.detail}: {_shown(text)}")


def _decoded(raw: bytes) -> str:
    return raw.rstrip(b"\r\n").decode("utf-8", "replace").removeprefix("\ufeff")


def _shown(raw: bytes) -> str:
    return _decoded(raw)[:_SHOWN]


def _numbered(uri: str) -> Iterator[tuple[int, bytes | BadLine]]:
    """The lines of a file; one that is too long, or the place where the file breaks off, as what is wrong."""
    number = 0
    try:
        with storage.open_read(uri) as file, unpacked(file) as stream:
            while raw := stream.readline(_LONGEST):
                number += 1
                if len(raw) == _LONGEST and not raw.endswith(b"\n"):
                    beginning = _shown(raw)
                    while raw and not raw.endswith(b"\n"):
                        raw = stream.readline(_LONGEST)
                    yield number, BadLine("too_long", f"more than {_LONGEST} bytes: {beginning}")
                else:
                    yield number, raw
    except EOFError as error:
        yield number + 1, BadLine("truncated", f"{uri} breaks off behind line {number}: {error}")
    except DAMAGE as error:
        yield number + 1, BadLine("damaged", f"{uri} cannot be unpacked behind line {number}: {error}")
    except OSError as error:  # behind the others: gzip's damage is one too
        told = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        raise InputError(f"{uri}: cannot be read: {told}") from error
