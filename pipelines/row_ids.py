"""Ids of rows as numbers of 8 bytes, so that those of 100 million rows can be compared in 800 MB.

Sentences and pairs have such numbers as their names. A segment's is a hash of its recording, start and end. Two ids of
100 million have the same number with a chance of 1 in 4,000.
"""

import unicodedata
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from xxhash import xxh3_64_intdigest

Numbers = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]
_DIGITS = np.full(256, 255, np.uint8)
_DIGITS[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)
_PLACES = np.uint64(16) ** np.arange(15, -1, -1, dtype=np.uint64)
_SEED = np.uint64(0x9E3779B97F4A7C15)


def numbers_of_hex(ids: pa.Array) -> tuple[Numbers, Bools]:
    """Numbers of ids of 16 hex digits, and which ids are such, both (num_rows,); what is not has the number 0."""
    good = np.asarray(pc.fill_null(pc.equal(pc.binary_length(ids), 16), False).to_numpy(zero_copy_only=False))
    numbers = np.zeros(len(ids), np.uint64)
    whole = ids.filter(pa.array(good)).cast(pa.large_binary())
    if len(whole):
        offsets = np.frombuffer(whole.buffers()[1], np.int64)[whole.offset : whole.offset + len(whole) + 1]
        letters = np.frombuffer(whole.buffers()[2], np.uint8)[offsets[0] : offsets[-1]].reshape(-1, 16)
        digits = _DIGITS[letters]
        numbers[good] = (np.minimum(digits, 15).astype(np.uint64) * _PLACES).sum(1)
        good[good] = (digits < 16).all(1)
    numbers[~good] = 0
    return numbers, good


def numbers_of_spans(recordings: pa.Array, starts: pa.Array, ends: pa.Array) -> Numbers:
    """Numbers of segments from their recordings' ids, starts and ends, (num_rows,)."""
    words = recordings.dictionary_encode()
    of_word = np.array([xxh3_64_intdigest(str(word).encode()) for word in words.dictionary.to_pylist()], np.uint64)
    numbers = of_word[words.indices.to_numpy()] if len(words) else np.zeros(0, np.uint64)
    for edges in (starts, ends):
        numbers = mixed(numbers * _SEED + np.asarray(edges.to_numpy(), np.int64).view(np.uint64))
    return numbers


def spans_of_ids(ids: pa.Array) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Recordings' ids, starts and ends out of segments' ids; null where an id is none."""
    parts = pc.extract_regex(ids, r"^(?P<recording>.*):(?P<start>[0-9]{1,18})-(?P<end>[0-9]{1,18})$")
    recordings, starts, ends = (pc.struct_field(parts, name) for name in ("recording", "start", "end"))
    return recordings, starts.cast(pa.int64()), ends.cast(pa.int64())


def segment_ids(recordings: pa.Array, starts: pa.Array, ends: pa.Array) -> pa.Array:
    """The ids that segments with these recordings, starts and ends must have."""
    edges = pc.binary_join_element_wise(starts.cast(pa.string()), ends.cast(pa.string()), "-")
    return pc.binary_join_element_wise(recordings.cast(pa.string()), edges, ":")


def sentence_numbers(texts: pa.Array, langs: pa.Array) -> Numbers:
    """The numbers that sentences with these texts and languages must have."""
    normal = [unicodedata.normalize("NFC", text) for text in texts.to_pylist()]
    return _hashed(pc.binary_join_element_wise(pa.array(normal, pa.string()), langs.cast(pa.string()), "\n"))


def pair_numbers(src_ids: pa.Array, tgt_ids: pa.Array) -> Numbers:
    """The numbers that pairs of these rows must have."""
    return _hashed(pc.binary_join_element_wise(src_ids.cast(pa.string()), tgt_ids.cast(pa.string()), "\n"))


def are_in(numbers: Numbers, ordered: Numbers) -> Bools:
    """Which numbers are among others that are sorted, (num_rows,)."""
    if not len(ordered):
        return np.zeros(len(numbers), bool)
    places = np.minimum(np.searchsorted(ordered, numbers), len(ordered) - 1)
    return np.asarray(ordered[places] == numbers)


def num_distinct(ordered: Numbers) -> int:
    """How many different numbers there are among some that are sorted."""
    return int((ordered[1:] != ordered[:-1]).sum()) + 1 if len(ordered) else 0


def repeated(ordered: Numbers) -> Numbers:
    """The numbers that are there more than once among some that are sorted."""
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])


def sorted_together(parts: list[Numbers]) -> Numbers:
    """Numbers of all parts, sorted, in twice their memory; the list is emptied."""
    whole = np.concatenate([np.zeros(0, np.uint64), *parts])
    parts.clear()
    whole.sort()
    return whole


def _hashed(texts: pa.Array) -> Numbers:
    digest: Callable[[bytes], int] = xxh3_64_intdigest
    return np.fromiter(map(digest, texts.cast(pa.binary()).to_pylist()), np.uint64, len(texts))


def mixed(numbers: Numbers) -> Numbers:
    """Numbers whose every bit depends on every bit before: the end of SplitMix64."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
