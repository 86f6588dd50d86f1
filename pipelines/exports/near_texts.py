"""Texts that are the same as one of a known set, or nearly: by the character n-grams that they share.

Two texts are near where at least `MIN_SHARED` of the distinct 4-grams of the one that has fewer are in the other too:
the containment of Broder 1997, "On the resemblance and containment of documents", taken from whichever side is the
smaller, so that a sentence is found with a word changed and inside a longer line alike. In a sentence of ten words of
English one other word leaves about 0.85, two leave about 0.7. Texts of fewer than `MIN_GRAMS` distinct n-grams, which
20 characters have where none repeats, are the same or not: of so few, or of "ha ha ha …" however long, too much is
shared by chance. A character of Chinese, Japanese or Korean says about as much as two letters: there they are
`MIN_DENSE_GRAMS`, of 10 characters.

Nothing is sampled: what is found is what comparing all with all would find. Only those are compared that share
`_AT_LEAST` n-grams in the rarest part of one of them, which is made so long that what it need not share fits into the
rest (prefix filtering: Chaudhuri, Ganti and Kaushik 2006; Bayardo, Ma and Srikant 2007).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

MIN_SHARED = 0.75
MIN_GRAMS = 17
MIN_DENSE_GRAMS = 7  # of a text at least half of whose characters are of `_DENSE`
_GRAM = 4
# Han, kana and Hangul: first and last code point of each range
_DENSE = ((0x3040, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xAC00, 0xD7AF), (0x20000, 0x3FFFF))
_AT_LEAST = 8  # shared n-grams in the part that is looked up: more rule out more, and make that part longer
_TOGETHER = 1 << 22  # entries of lists that are in memory together

Indices = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Found:
    """What some texts are nearest to."""

    known: Indices  # (num_texts,): number of the known text, -1 for none
    share: npt.NDArray[np.float64]  # (num_texts,): of n-grams; 1 where the texts are equal
    is_same: npt.NDArray[np.bool_]  # (num_texts,): whether they are equal


class KnownTexts:
    """An index over texts. These, and those that are looked for, are folded: what does not change words is gone."""

    def __init__(self, texts: Sequence[str]) -> None:
        hashes = _hashes(texts)
        self._order = np.argsort(hashes, kind="stable")
        self._ordered = hashes[self._order]
        self._sizes, text, grams = _grams(texts)
        self._vocabulary, gram, self._frequency = np.unique(grams, return_inverse=True, return_counts=True)
        gram = gram.reshape(-1)
        rare = self._rarest(text, gram, self._sizes)
        self._having = _Lists(gram, text, len(self._vocabulary))  # by n-gram: texts
        self._having_rare = _Lists(gram[rare], text[rare], len(self._vocabulary))  # those in whose rarest part it is
        self._contents = _Lists(text, gram, len(texts))  # by text: n-grams

    def search(self, texts: Sequence[str]) -> Found:
        """The nearest known text of each text; of equally near ones the first."""
        found = Found(np.full(len(texts), -1, np.int64), np.zeros(len(texts)), np.zeros(len(texts), bool))
        if len(self._vocabulary):
            self._find_near(texts, found)
        if len(self._ordered):
            hashes = _hashes(texts)
            place = np.minimum(np.searchsorted(self._ordered, hashes), len(self._ordered) - 1)
            same = self._ordered[place] == hashes
            found.known[same], found.share[same], found.is_same[same] = self._order[place[same]], 1.0, True
        return found

    def _find_near(self, texts: Sequence[str], found: Found) -> None:
        sizes, text, grams = _grams(texts)
        place = np.minimum(np.searchsorted(self._vocabulary, grams), len(self._vocabulary) - 1)
        there = self._vocabulary[place] == grams
        text, gram = text[there], place[there]
        rare = self._rarest(text, gram, sizes)
        keys = np.union1d(
            self._sharing(text, gram, self._having_rare, _least(self._sizes), of_known=True),
            self._sharing(text[rare], gram[rare], self._having, _least(sizes), of_known=False),
        )
        contents = text * len(self._vocabulary) + gram  # ascending
        for begin in range(0, len(keys), _TOGETHER >> 8):
            one, other = np.divmod(keys[begin : begin + (_TOGETHER >> 8)], len(self._sizes))
            pair, theirs = self._contents.expand(other, np.arange(len(one)))
            wanted = one[pair] * len(self._vocabulary) + theirs
            at = np.minimum(np.searchsorted(contents, wanted), len(contents) - 1)
            shared = np.bincount(pair[contents[at] == wanted], minlength=len(one))
            smaller = np.minimum(sizes[one], self._sizes[other])
            good = shared >= _needed(smaller)
            self._note(one[good], other[good], shared[good] / smaller[good], found)

    @staticmethod
    def _note(one: Indices, other: Indices, share: npt.NDArray[np.float64], found: Found) -> None:
        order = np.lexsort([other, -share, one])
        best = order[np.flatnonzero(np.diff(one[order], prepend=-1))]
        better = share[best] > found.share[one[best]]  # earlier ones have lower numbers and stay where it is equal
        best = best[better]
        found.known[one[best]], found.share[one[best]] = other[best], share[best]

    def _rarest(self, text: Indices, gram: Indices, sizes: Indices) -> Indices:
        """Places of the n-grams in the rarest part of each text; what is not in the vocabulary counts as the rarest.

        text, gram: (num_places,), ordered by text; sizes: (num_texts,).
        """
        inside = np.bincount(text, minlength=len(sizes))
        length = inside - _needed(sizes) + _least(sizes)
        order = np.lexsort([gram, self._frequency[gram], text])
        rank = np.arange(len(text)) - (np.cumsum(inside) - inside)[text]
        found: Indices = np.sort(order[rank < length[text]])
        return found

    def _sharing(self, text: Indices, gram: Indices, lists: "_Lists", least: Indices, *, of_known: bool) -> Indices:
        """Pairs of a text and a known text, as one number each, that share so many of some n-grams; ascending."""
        found = [np.zeros(0, np.int64)]
        for places in _in_ranges(text, lists.sizes[gram]):
            one, other = lists.expand(gram[places], text[places])
            keys, times = np.unique(one * len(self._sizes) + other, return_counts=True)
            a, b = np.divmod(keys, len(self._sizes))
            found.append(keys[times >= least[b if of_known else a]])
        return np.concatenate(found)


class _Lists:
    """Lists of numbers, one for each of the keys 0 … num_keys - 1."""

    def __init__(self, keys: Indices, values: Indices, num_keys: int) -> None:
        order = np.argsort(keys, kind="stable")
        self._values = values[order]
        self.sizes = np.bincount(keys, minlength=num_keys)
        self._begins = np.cumsum(self.sizes) - self.sizes

    def expand(self, keys: Indices, beside: Indices) -> tuple[Indices, Indices]:
        """The lists of some keys one behind the other, and beside each value what stands beside its key."""
        sizes = self.sizes[keys]
        ends = np.cumsum(sizes)
        places = np.arange(int(sizes.sum())) + np.repeat(self._begins[keys] - (ends - sizes), sizes)
        return np.repeat(beside, sizes), self._values[places]


def _needed(sizes: Indices) -> Indices:
    """How many n-grams must be shared by texts of which the smaller has so many: rounded up; 1 for none at all."""
    return np.asarray(np.maximum(np.ceil(sizes * MIN_SHARED), 1), np.int64)


def _least(sizes: Indices) -> Indices:
    return np.minimum(_AT_LEAST, _needed(sizes))


def _in_ranges(text: Indices, sizes: Indices) -> Iterator[slice]:
    """Places in ranges with whole texts, each with about `_TOGETHER` entries of lists."""
    ends = np.flatnonzero(np.diff(text, append=-1)) + 1  # places behind the last one of each text
    total = np.cumsum(sizes)[ends - 1] if len(ends) else ends
    begin, done = 0, 0
    while begin < len(text):
        last = min(int(np.searchsorted(total, done + _TOGETHER)), len(ends) - 1)
        yield slice(begin, int(ends[last]))
        begin, done = int(ends[last]), int(total[last])


def _hashes(texts: Sequence[str]) -> Numbers:
    return np.fromiter((xxh3_64_intdigest(text.encode()) for text in texts), np.uint64, len(texts))


def _grams(texts: Sequence[str]) -> tuple[Indices, Indices, Numbers]:
    """Of each text the number of distinct n-grams; and of each of these the text and the n-gram, ordered by both.

    A text that has too few has none. An n-gram is the lower 16 bits of its four code points, those beyond mixed in.
    """
    fewest = MIN_DENSE_GRAMS + _GRAM - 1
    lengths = np.array([len(text) if len(text) >= fewest else 0 for text in texts], np.int64)
    whole = "".join(text for text, length in zip(texts, lengths.tolist(), strict=True) if length)
    codes = np.frombuffer(whole.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    if not len(codes):
        return np.zeros(len(texts), np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint64)
    text = np.repeat(np.arange(len(texts)), lengths)
    dense = np.bincount(text[_is_dense(codes)], minlength=len(texts))
    least = np.where(2 * dense >= lengths, MIN_DENSE_GRAMS, MIN_GRAMS)
    codes = (codes ^ (codes >> np.uint64(16)) * np.uint64(0x9E3B)) & np.uint64(0xFFFF)
    grams = np.zeros(len(codes) - _GRAM + 1, np.uint64)
    for offset in range(_GRAM):
        grams |= codes[offset : len(grams) + offset] << np.uint64(16 * offset)
    inside = text[: len(grams)] == text[_GRAM - 1 :]
    text, grams = text[: len(grams)][inside], grams[inside]
    order = np.lexsort([grams, text])
    text, grams = text[order], grams[order]
    first = np.append(True, (text[1:] != text[:-1]) | (grams[1:] != grams[:-1]))
    text, grams = text[first], grams[first]
    enough = np.bincount(text, minlength=len(texts)) >= least
    text, grams = text[enough[text]], grams[enough[text]]
    return np.bincount(text, minlength=len(texts)), text, grams


def _is_dense(codes: Numbers) -> npt.NDArray[np.bool_]:
    found = np.zeros(len(codes), bool)
    for first, last in _DENSE:
        found |= (codes >= first) & (codes <= last)
    return found
