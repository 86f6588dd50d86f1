"""Pairs that evaluation sets would be spoilt by: those that say what is in one, or are cut from a sound of one.

Texts, and transcripts of speech where the run has them, match where they are the same but for case, punctuation and
spaces, or nearly the same (`near_texts`). Sounds match where a recording is the same file, byte by byte, or lasts as
long as a sound of the set and is the same but for its encoding, level and begin (`mining.audio_filters`). A sound that
is only a part of a recording is not found.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seamlessalign import storage
from seamlessalign.audio import decode
from seamlessalign.errors import InputError, UnreadableError
from seamlessalign.mining.audio_filters import (
    MAX_DIFFERENCE_SECONDS,
    MAX_DISTANCE_DB,
    distance_db,
    filterbanks,
)
from seamlessalign.mining.text_filters import fold
from seamlessalign.pipelines.exports.evaluation_sets import EvaluationSets
from seamlessalign.pipelines.exports.near_texts import KnownTexts
from seamlessalign.pipelines.recordings import open_recording
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.secrets import redact_uri

SAME_TEXT, NEAR_TEXT, SAME_FILE, SAME_SOUND = "same_text", "near_text", "same_file", "same_sound"
_APART = round(MAX_DIFFERENCE_SECONDS * SAMPLE_RATE)  # samples, by which lengths differ of what is not compared
_HELD = 1000  # sounds of a set whose filterbanks are in memory: 12.8 kB for each second of each


@dataclass(frozen=True)
class Leak:
    """What of an evaluation set one side of a pair has."""

    reason: str
    share: float | None  # of n-grams that near texts share; decibels between the same sounds
    place: str  # where it stands in the evaluation set
    known: str  # the text there


@dataclass(frozen=True)
class Recording:
    """What tells a recording of the corpus."""

    uri: str
    sha256: str
    num_samples: int


class TextLeaks:
    """The texts of evaluation sets, to be searched."""

    def __init__(self, sets: EvaluationSets) -> None:
        self._folded = list(sets.texts)
        self._sets = sets
        self._known = KnownTexts(self._folded)

    def find(self, texts: pa.Array) -> list[tuple[int, Leak]]:
        """Of texts, the numbers of those that leak, with what they match best."""
        words = texts.dictionary_encode()
        folded = fold(words.dictionary).to_pylist()
        found = self._known.search(folded)
        leaks: list[Leak | None] = [None] * (len(folded) + 1)
        for number in np.flatnonzero(found.known >= 0).tolist():
            place, known = self._sets.texts[self._folded[found.known[number]]]
            is_same = bool(found.is_same[number])
            share = None if is_same else float(found.share[number])
            leaks[number] = Leak(SAME_TEXT if is_same else NEAR_TEXT, share, place, known)
        of_row = words.indices.fill_null(len(folded)).to_numpy()
        has = np.array([leak is not None for leak in leaks])
        return [(row, leak) for row in np.flatnonzero(has[of_row]).tolist() if (leak := leaks[of_row[row]])]


def sound_leaks(sets: EvaluationSets, recordings: Iterable[Recording]) -> dict[str, Leak]:
    """Of recordings, by uri, those that are a sound of an evaluation set.

    Raises InputError for a sound of a set that is not there. One that cannot be decoded is compared by its bytes.
    """
    by_sha, lengths = _index(sets)
    order = np.argsort(lengths.samples, kind="stable")
    ordered = lengths.samples[order]
    leaks: dict[str, Leak] = {}
    as_long: list[tuple[Recording, list[str]]] = []
    for recording in recordings:
        if recording.sha256 in by_sha:
            leaks[recording.uri] = Leak(SAME_FILE, None, redact_uri(by_sha[recording.sha256]), "")
            continue
        first = int(np.searchsorted(ordered, recording.num_samples - _APART, side="right"))
        last = int(np.searchsorted(ordered, recording.num_samples + _APART, side="left"))
        if first < last:
            as_long.append((recording, [lengths.uris[number] for number in np.sort(order[first:last]).tolist()]))
    held = lru_cache(_HELD)(_filterbanks)  # in order of length, those that are near the next are near each other too
    for recording, near in sorted(as_long, key=lambda item: item[0].num_samples):
        if leak := _nearest(recording, near, held):
            leaks[recording.uri] = leak
    return leaks


@dataclass(frozen=True)
class _Lengths:
    uris: list[str]
    samples: npt.NDArray[np.int64]


def _index(sets: EvaluationSets) -> tuple[Mapping[str, str], _Lengths]:
    by_sha: dict[str, str] = {}
    uris, samples, there = list[str](), list[int](), list[str]()
    for uri in sets.sounds:
        try:
            with open_recording(uri) as (path, decoding):
                by_sha.setdefault(storage.sha256_of(path), uri)
                there.append(uri)
                try:
                    samples.append(len(decode(path, decoding).samples))
                    uris.append(uri)
                except UnreadableError:
                    sets.undecoded.append(uri)
        except (OSError, UnreadableError) as error:
            if isinstance(error, UnreadableError) and error.reason == "empty":
                continue  # a row of a table may have no audio, as where that side of a pair is text
            raise InputError(f"--not-in: {redact_uri(uri)}: cannot be read: {error}") from error
    sets.sounds = there
    return by_sha, _Lengths(uris, np.array(samples, np.int64))


def _nearest(recording: Recording, uris: list[str], of_set: Callable[[str], npt.NDArray[np.float32]]) -> Leak | None:
    """The sound of a set that a recording is; None where it is none, or cannot be had any more."""
    try:
        ours = _filterbanks(recording.uri)
    except (OSError, UnreadableError):
        return None  # whoever cuts it, if anybody does, will tell
    best: Leak | None = None
    for uri in uris:
        distance = distance_db(ours, of_set(uri))
        if distance <= MAX_DISTANCE_DB and (best is None or distance < (best.share or 0.0)):
            best = Leak(SAME_SOUND, distance, redact_uri(uri), "")
    return best


def _filterbanks(uri: str) -> npt.NDArray[np.float32]:
    with open_recording(uri) as (path, decoding):
        return filterbanks(decode(path, decoding).samples)
