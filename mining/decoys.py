"""Decoys: target sentences known to have no counterpart, chosen from real texts or made from the targets themselves.

Real sentences of the same kind are best. Where there are none, `make_decoys` puts the first half of one sentence before
the second half of another. Such a text attracts less than a real sentence does; how much less is measured while mining
(`attraction.py`), for which it has to be known what every decoy was made from.
"""

import random
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import InputError

_UNSPACED = ("\u0e00-\u0eff", "\u0f00-\u0fff", "\u1000-\u109f", "\u1780-\u17ff", "\u2e80-\u9fff", "\uf900-\ufaff")
_WITHOUT_SPACES = re.compile(f"[{''.join(_UNSPACED)}]")  # Thai, Lao, Tibetan, Burmese, Khmer, Chinese, Japanese


@dataclass(frozen=True)
class MadeDecoys:
    """Texts put together from pieces of others."""

    texts: list[str]
    made_from: npt.NDArray[np.int64]  # (num_decoys, 2): rows of the texts that gave the head and the tail


def choose_decoys(texts: Sequence[str], count: int, seed: int, avoid: Iterable[str] = ()) -> npt.NDArray[np.int64]:
    """Rows, ascending, of `count` random texts, all different and none in `avoid`; fewer where there are fewer.

    Give the targets as `avoid`: a decoy that is one of them may have a counterpart. Texts are the same when their
    letters and digits are, whatever their case. Raises InputError when none is left.
    """
    _check(count)
    known = {_content(text) for text in avoid} | {""}
    rows: list[int] = []
    for row in _shuffled(len(texts), seed):
        if len(rows) == count:
            break
        content = _content(texts[row])
        if content not in known:
            known.add(content)
            rows.append(row)
    if not rows:
        raise InputError(f"none of {len(texts)} texts can be a decoy: all are among the targets, or have no letters")
    return np.array(sorted(rows), np.int64)


def join_halves(texts: Sequence[str], count: int, seed: int) -> list[str]:
    """The texts of `make_decoys`."""
    return make_decoys(texts, count, seed).texts


def make_decoys(texts: Sequence[str], count: int, seed: int) -> MadeDecoys:
    """Make `count` decoys, each the first half of one of `texts` and the second half of another.

    Halves are counted in words, in characters where a script has no spaces. Every text gives one head and one tail
    before any gives another. No decoy equals another or one of `texts`, letters and digits compared. The same texts and
    seed give the same decoys, and more of them begin with the fewer. Raises InputError where so many cannot be made.
    """
    _check(count)
    known = {_content(text) for text in texts} | {""}
    order = _shuffled(len(texts), seed)
    pieces = [_pieces(text) for text in texts]
    made: list[str] = []
    origins: list[tuple[int, int]] = []
    for shift in range(1, len(texts)):
        for place, head in enumerate(order):
            if len(made) == count:
                return MadeDecoys(made, np.array(origins, np.int64))
            tail = order[(place + shift) % len(order)]
            text = _joined(pieces[head], pieces[tail])
            content = _content(text)
            if content not in known:
                known.add(content)
                made.append(text)
                origins.append((head, tail))
    if len(made) < count:
        raise InputError(f"{len(texts)} texts make {len(made)} decoys, not {count}: give more texts or ask for fewer")
    return MadeDecoys(made, np.array(origins, np.int64))


@dataclass(frozen=True)
class _Pieces:
    parts: list[str]
    between: str


def _pieces(text: str) -> _Pieces:
    words = text.split()
    if len(_WITHOUT_SPACES.findall(text)) * 2 < sum(map(len, words)):
        return _Pieces(words, " ")
    parts: list[str] = []
    for character in " ".join(words):
        if parts and unicodedata.category(character)[0] == "M":  # a mark belongs to the letter before it
            parts[-1] += character
        else:
            parts.append(character)
    return _Pieces(parts, "")


def _joined(head: _Pieces, tail: _Pieces) -> str:
    first = head.parts[: max(1, round(len(head.parts) / 2))]
    last = tail.parts[len(tail.parts) // 2 :]
    return (head.between.join(first) + head.between + tail.between.join(last)).strip()


def _content(text: str) -> str:
    """Letters, marks and digits of a text, in one case."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in folded if unicodedata.category(c)[0] in "LMN")


def _shuffled(count: int, seed: int) -> list[int]:
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return order


def _check(count: int) -> None:
    if count < 1:
        raise InputError(f"count is {count}: ask for at least one decoy")
