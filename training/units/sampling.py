"""The sample of frames that centroids are fitted to: as many of each language, drawn by a seed, in parts on disk.

Utterances of a language come in an order that follows from the seed and their sound, so that the sample does not
depend on how files are cut or sorted. A part is a fixed number of utterances, and whole or not there; a sampling that
was killed goes on behind the parts that are. Parts are read a few rows at a time, so the sample may be larger than
memory.
"""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign import storage
from seamlessalign.errors import InputError, StorageError, UnreadableError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.speech_sources import load_sound
from seamlessalign.training.units.features import FrameFeatures
from seamlessalign.training.units.utterances import Utterance

Float32 = npt.NDArray[np.float32]

_PER_PART = 64  # utterances
_AT_ONCE = 16  # of them that are decoded and heard together
_BLOCK = 1 << 14  # frames that are in memory at a time


@dataclass(frozen=True)
class Part:
    """Frames of some utterances of a language, on disk."""

    path: Path
    lang: str
    count: int  # frames
    utterances: int  # of the language, that have been taken by the end of this part
    rejects: Mapping[str, int]  # reason → utterances of this part that could not be used


class FrameSample:
    """All frames of some parts, as rows `(num_frames, dim)` in their order."""

    def __init__(self, parts: Sequence[Part], dim: int, deviations: Float32 | None = None) -> None:
        """deviations: what each dimension is divided by, `(dim,)`."""
        self.parts, self.dim, self.deviations = list(parts), dim, deviations
        self._starts = np.cumsum([0, *(part.count for part in parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def languages(self) -> dict[str, int]:
        """Frames by language."""
        counts = Counter[str]()
        for part in self.parts:
            counts[part.lang] += part.count
        return dict(sorted(counts.items()))

    @property
    def rejects(self) -> Counter[str]:
        """Utterances that could not be used when they were wanted, by reason."""
        total = Counter[str]()
        for part in self.parts:
            total.update(part.rejects)
        return total

    def scaled(self) -> "FrameSample":
        """The same frames, each dimension divided by its standard deviation over them; by 1 where it never changes."""
        total, squares = np.zeros(self.dim), np.zeros(self.dim)
        for _, rows in self.blocks(_BLOCK):
            total += rows.sum(0, dtype=np.float64)
        mean = total / len(self)
        for _, rows in self.blocks(_BLOCK):
            squares += np.square(rows - mean).sum(0)
        deviations = np.sqrt(squares / len(self)).astype(np.float32)
        return FrameSample(self.parts, self.dim, np.where(deviations > 0, deviations, np.float32(1)))

    def blocks(self, rows: int) -> Iterator[tuple[int, Float32]]:
        """The frames, some at a time, each with the number of its first."""
        for part, start in zip(self.parts, self._starts.tolist(), strict=False):
            for first in range(0, part.count, rows):
                yield start + first, self._read(part, first, min(first + rows, part.count))

    def take(self, numbers: npt.ArrayLike) -> Float32:
        """Frames by their numbers, in the order of these, `(len(numbers), dim)`."""
        wanted = np.asarray(numbers, np.int64)
        rows = np.empty((len(wanted), self.dim), np.float32)
        owner = np.searchsorted(self._starts, wanted, side="right") - 1
        for i in np.unique(owner).tolist():
            places = np.flatnonzero(owner == i)
            rows[places] = self._read(self.parts[i], 0, self.parts[i].count)[wanted[places] - self._starts[i]]
        return rows

    def _read(self, part: Part, first: int, last: int) -> Float32:
        with _opened(part.path) as file:
            rows = np.asarray(file.get_slice("frames")[first:last], np.float32)
        return rows if self.deviations is None else rows / self.deviations


def shares(available: Mapping[str, int], total: int) -> dict[str, int]:
    """Frames to draw of each language, `total` together where there are as many: as even as can be.

    A language that has fewer than its share gives all it has, and the others more.
    """
    given, left, asked = dict.fromkeys(available, 0), dict(available), total
    while left:
        even, more = divmod(asked, len(left))
        short = {lang: count for lang, count in left.items() if count <= even}
        if not short:
            for place, lang in enumerate(sorted(left)):
                given[lang] = even + (place < more)
            break
        given.update(short)
        asked -= sum(short.values())
        left = {lang: count for lang, count in left.items() if lang not in short}
    return given


def draw_sample(
    utterances: Sequence[Utterance],
    features: FrameFeatures,
    folder: Path,
    *,
    frames: int,
    per_utterance: int | None,
    seed: int,
    told_to_stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda _: None,
) -> FrameSample | None:
    """Draw a sample into a folder, or what is left to be drawn of it; None where it was told to stop before the end.

    frames: of all languages together; per_utterance: of one utterance, at most.

    Raises InputError where no utterance has a frame, StorageError where a part is damaged.
    """
    languages: dict[str, list[Utterance]] = {}
    for utterance in sorted(utterances, key=lambda one: _order(seed, one.key)):
        languages.setdefault(utterance.lang, []).append(utterance)
    available = {
        lang: sum(_expected(one, features, per_utterance) for one in some) for lang, some in sorted(languages.items())
    }
    parts: list[Part] = []
    for lang, wanted in shares(available, frames).items():
        drawn = list(_parts_of(folder, lang))
        while sum(part.count for part in drawn) < wanted:
            taken = drawn[-1].utterances if drawn else 0
            some = languages[lang][taken : taken + _PER_PART]
            if not some:
                break
            if told_to_stop():
                return None
            left = wanted - sum(part.count for part in drawn)
            drawn.append(_draw(some, features, _name(folder, lang, len(drawn)), lang, taken, left, per_utterance, seed))
            say(f"{lang}: {sum(part.count for part in drawn)} of {wanted} frames are drawn")
        parts += drawn
    sample = FrameSample(parts, features.dim)
    if not len(sample):
        raise InputError(f"data: no utterance has a frame: {dict(sample.rejects) or 'all are too short'}")
    return sample


def _draw(
    some: Sequence[Utterance],
    features: FrameFeatures,
    path: Path,
    lang: str,
    taken: int,
    wanted: int,
    per_utterance: int | None,
    seed: int,
) -> Part:
    from safetensors.numpy import save

    rows: list[Float32] = [np.zeros((0, features.dim), np.float32)]
    rejects = Counter[str]()
    used = count = 0
    while used < len(some) and count < wanted:
        group = some[used : used + _AT_ONCE]
        waveforms: list[Float32] = []
        heard: list[Utterance] = []
        for utterance in group:
            try:
                waveforms.append(load_sound(utterance.sound, utterance.text, utterance.place))
                heard.append(utterance)
            except UnreadableError as error:
                rejects[error.reason] += 1
        for utterance, found in zip(heard, features.frames(waveforms), strict=True):
            if not len(found):
                rejects["too_short"] += 1
            most = min(len(found), wanted - count, per_utterance or len(found))
            if most < len(found):
                rng = np.random.default_rng([seed, int(utterance.key[:16], 16)])
                found = found[np.sort(rng.choice(len(found), most, replace=False))]
            rows.append(found)
            count += len(found)
        used += len(group)
    part = Part(path, lang, count, taken + used, dict(sorted(rejects.items())))
    about = json.dumps({"utterances": part.utterances, "rejects": part.rejects})
    storage.write_bytes_atomic(str(path), save({"frames": np.concatenate(rows)}, {"about": about}))
    return part


def _parts_of(folder: Path, lang: str) -> Iterator[Part]:
    """Parts of a language that are there, from the first on."""
    for number in itertools.count():
        path = _name(folder, lang, number)
        if not path.is_file():
            return
        with _opened(path) as file:
            about = json.loads(file.metadata()["about"])
            yield Part(path, lang, file.get_slice("frames").get_shape()[0], about["utterances"], about["rejects"])


def _name(folder: Path, lang: str, number: int) -> Path:
    return folder / f"{lang}-{number:05d}.safetensors"


def _opened(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise StorageError(f"{path}: is damaged: {error}; remove it to draw it again") from error


def _order(seed: int, key: str) -> str:
    return hashlib.sha256(f"{seed} {key}".encode()).hexdigest()


def _expected(utterance: Utterance, features: FrameFeatures, per_utterance: int | None) -> int:
    """Frames that an utterance gives, by its header."""
    there = features.num_frames(int(utterance.seconds * SAMPLE_RATE))
    return there if per_utterance is None else min(there, per_utterance)
