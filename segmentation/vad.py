"""Voice activity detection: a recording to its fragments of speech.

Two steps: an engine scores frames of fixed length, then `fragments_of` turns scores into fragments, for all engines in
the same way.

- `silero`, a neural network that gives probabilities: the package's own network, bit for bit;
- `cascade`, the same network in a faster form, and only where speech is possible: levels tell where it is not;
- `webrtc`, Gaussian mixtures that give yes or no.
"""

import hashlib
import importlib.metadata
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from seamlessalign.audio import release
from seamlessalign.errors import InputError, ModelError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.segmentation import silero
from seamlessalign.segmentation.silero import SileroState, with_context

Engine = Literal["silero", "cascade", "webrtc"]

_WEBRTC_FRAME = 480  # samples: 30 ms
_GATE_BLOCK = 16  # frames: 0.5 s, over which the floor is a mean
_GATE_AROUND = 15  # blocks to either side that a floor is looked for in
_GATE_LOUD = 3  # frames of a block that must stand out
_GATE_SILENCE = -90.0  # dB of full scale
_GATE_RISE = 3.0  # dB above the floor
_GATE_CONTRAST = 12.0  # dB between floor and loudest
_GATE_AHEAD, _GATE_BEHIND = 94, 31  # frames before (3 s) and after (1 s) possible speech that are heard as well
_WALK_SAMPLES = 60 * SAMPLE_RATE  # of a long recording, between two releases of its memory


@dataclass(frozen=True, eq=False)
class FrameScores:
    """What an engine says of a recording, one value per frame; the last frame may reach past the end."""

    probabilities: NDArray[np.float32]  # (num_frames,), of speech
    levels: NDArray[np.float32]  # (num_frames,), mean square of the samples
    frame_samples: int
    num_samples: int  # of the recording


def detect_speech(
    waveform: NDArray[np.float32],
    *,
    engine: Engine = "silero",
    threshold: float = 0.5,
    min_speech_ms: int = 250,
    min_silence_ms: int = 200,
    speech_pad_ms: int = 30,
    max_fragment_seconds: float = 20.0,
    aggressiveness: int = 2,
    num_threads: int = 1,
) -> NDArray[np.int64]:
    """Fragments of speech of a recording: int64 (num_fragments, 2), `[start, end)` in samples, sorted and disjoint.

    `waveform` is float32 (num_samples,) at 16 kHz. `aggressiveness` (0 to 3, how much webrtc rejects) and `num_threads`
    (of silero) concern one engine each; the rest is explained at `fragments_of`. Safe to call from several threads.
    Raises InputError for a waveform or setting that cannot be used, ModelError when the engine is not installed.
    """
    scores = speech_scores(waveform, engine=engine, aggressiveness=aggressiveness, num_threads=num_threads)
    return fragments_of(
        scores,
        threshold=threshold,
        min_speech_ms=min_speech_ms,
        min_silence_ms=min_silence_ms,
        speech_pad_ms=speech_pad_ms,
        max_fragment_seconds=max_fragment_seconds,
    )


def detect_speech_in(
    waveforms: Sequence[NDArray[np.float32]], *, num_threads: int = 1, **settings: Any
) -> list[NDArray[np.int64]]:
    """`detect_speech` of several recordings, `num_threads` of them side by side, each on one core.

    `settings` are those of `detect_speech` and hold for all. Recordings are worth more threads than the frames of one:
    the network runs outside Python's lock, and goes through a recording in order.
    """
    if num_threads < 1:
        raise InputError(f"num_threads is {num_threads}: at least 1 is needed")
    with ThreadPoolExecutor(num_threads) as pool:
        return list(pool.map(lambda waveform: detect_speech(waveform, **settings), waveforms))


def speech_scores(
    waveform: NDArray[np.float32], *, engine: Engine = "silero", aggressiveness: int = 2, num_threads: int = 1
) -> FrameScores:
    """What an engine says of every frame; fragments for any thresholds are made from it by `fragments_of`.

    `waveform`, settings and errors as of `detect_speech`.
    """
    if waveform.ndim != 1 or waveform.dtype != np.float32:
        raise InputError(f"the waveform is {waveform.dtype} {waveform.shape}: float32 (num_samples,) is needed")
    if engine == "silero":
        return silero_scores(waveform, num_threads=num_threads)
    if engine == "cascade":
        return cascade_scores(waveform, num_threads=num_threads)
    if engine == "webrtc":
        return webrtc_scores(waveform, aggressiveness=aggressiveness)
    raise InputError(_no_engine(engine))


def silero_scores(waveform: NDArray[np.float32], *, num_threads: int = 1) -> FrameScores:
    """Probability of speech for every 32 ms, by the sequence model of silero-vad 6 (several × 100 real time)."""
    if num_threads < 1:
        raise InputError(f"num_threads is {num_threads}: at least 1 is needed")
    state = SileroState(num_threads)
    before = np.zeros(silero.CONTEXT, dtype=np.float32)

    def score(frames: NDArray[np.float32]) -> NDArray[np.float32]:
        nonlocal before
        block = with_context(frames, before)
        before = frames[-1, -silero.CONTEXT :].copy()
        return state.score(block)

    return _scored(waveform, silero.FRAME, score)


def cascade_scores(waveform: NDArray[np.float32], *, num_threads: int = 1) -> FrameScores:
    """As `silero_scores`, but frames where no speech is possible have probability 0 and are not looked at.

    See `possible_speech`. Where frames are left out the network goes on with what it remembers, and hears the three
    seconds before speech is possible again; so what it says of the rest is nearly what it says when it hears all.
    """
    if num_threads < 1:
        raise InputError(f"num_threads is {num_threads}: at least 1 is needed")
    levels = _levels(waveform, silero.FRAME)
    possible = possible_speech(levels)
    state = SileroState(num_threads, products=True)
    before = np.zeros(silero.CONTEXT, dtype=np.float32)
    probabilities: list[NDArray[np.float32]] = []
    first = 0
    for frames in _walk(waveform, silero.FRAME):
        chosen = possible[first : first + len(frames)]
        said = np.zeros(len(frames), dtype=np.float32)
        if chosen.any():
            block = with_context(frames, before)
            said[chosen] = state.score(block if chosen.all() else block[chosen])
        before = frames[-1, -silero.CONTEXT :].copy()
        first += len(frames)
        probabilities.append(said)
        release(waveform)
    whole = np.concatenate([np.zeros(0, np.float32), *probabilities])
    return FrameScores(whole, levels, silero.FRAME, len(waveform))


def possible_speech(levels: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where 32 ms frames of these mean squares `(num_frames,)` may be speech: (num_frames,).

    A frame cannot be when it, every frame of the 3 s that follow and of the second before is digital silence (below
    -90 dB of full scale), or lies within 3 dB of the floor of the 15 s around it while something there stands out from
    that floor by 12 dB.
    The floor is the least level of half a second. Noise that nothing stands out from is not ruled out: levels cannot
    tell it from speech in as much noise.
    """
    if not len(levels):
        return np.zeros(0, dtype=np.bool_)
    decibels = 10 * np.log10(levels + np.float32(1e-12))
    blocks = -(-len(levels) // _GATE_BLOCK)
    padded = np.pad(levels, (0, blocks * _GATE_BLOCK - len(levels)), mode="edge").reshape(blocks, _GATE_BLOCK)
    means = 10 * np.log10(padded.mean(axis=1) + np.float32(1e-12))
    peaks = 10 * np.log10(np.sort(padded, axis=1)[:, -_GATE_LOUD] + np.float32(1e-12))  # one click is not speech
    floor = _around(means, np.inf).min(axis=1)
    contrast = _around(peaks, -np.inf).max(axis=1) - floor
    floor, contrast = (np.repeat(each, _GATE_BLOCK)[: len(levels)] for each in (floor, contrast))
    loud = (decibels > _GATE_SILENCE) & ((decibels > floor + _GATE_RISE) | (contrast < _GATE_CONTRAST))
    counts = np.concatenate(([0], np.cumsum(loud)))
    index = np.arange(len(levels))
    reached = counts[np.minimum(index + _GATE_AHEAD + 1, len(levels))]
    return np.asarray(reached > counts[np.maximum(index - _GATE_BEHIND, 0)])


def webrtc_scores(waveform: NDArray[np.float32], *, aggressiveness: int = 2) -> FrameScores:
    """1 or 0 for every 30 ms, by WebRTC's detector. It takes steady noise for speech: silero is the better judge."""
    if aggressiveness not in (0, 1, 2, 3):
        raise InputError(f"aggressiveness is {aggressiveness}: 0, 1, 2 or 3 is needed")
    try:
        import webrtcvad
    except ImportError as error:
        raise ModelError("the voice activity engine webrtc is not installed: pip install webrtcvad-wheels") from error
    detector = webrtcvad.Vad(aggressiveness)

    def score(frames: NDArray[np.float32]) -> NDArray[np.float32]:
        pcm = np.clip(frames * 32768.0, -32768, 32767).astype(np.int16)
        return np.array([detector.is_speech(frame.tobytes(), SAMPLE_RATE) for frame in pcm], dtype=np.float32)

    return _scored(waveform, _WEBRTC_FRAME, score)


def fragments_of(
    scores: FrameScores,
    *,
    threshold: float = 0.5,
    min_speech_ms: int = 250,
    min_silence_ms: int = 200,
    speech_pad_ms: int = 30,
    max_fragment_seconds: float = 20.0,
) -> NDArray[np.int64]:
    """Fragments from frame scores: int64 (num_fragments, 2), `[start, end)` in samples.

    Speech begins at a frame of at least `threshold` and ends at the first frame below `threshold - 0.15` from which
    such frames reach `min_silence_ms` further before speech begins again; it is kept when longer than `min_speech_ms`,
    and widened by `speech_pad_ms` on both sides, or to the middle of a shorter gap. This much equals
    `get_speech_timestamps` of silero-vad. A fragment longer than `max_fragment_seconds` is then cut, each time in the
    second half of what is allowed, at the least probable frame and the quietest of those.
    Raises InputError for settings that cannot be met.
    """
    frame = scores.frame_samples
    min_speech, min_silence, pad = (_samples(ms) for ms in (min_speech_ms, min_silence_ms, speech_pad_ms))
    longest = round(max_fragment_seconds * SAMPLE_RATE) if max_fragment_seconds < np.inf else np.iinfo(np.int64).max
    if not 0 < threshold < 1:
        raise InputError(f"the threshold of speech is {threshold}: it lies between 0 and 1")
    if min(min_speech, min_silence, pad) < 0:
        raise InputError(f"durations must not be negative: {min_speech_ms}, {min_silence_ms}, {speech_pad_ms} ms")
    if np.isnan(max_fragment_seconds) or longest < 2 * (min_speech + 2 * frame):
        raise InputError(f"max_fragment_seconds is {max_fragment_seconds}: too short for speech of {min_speech_ms} ms")

    starts, ends = _runs(scores.probabilities, threshold, -(-min_silence // frame))
    starts, ends = starts * frame, np.minimum(ends * frame, scores.num_samples)
    kept = ends - starts > min_speech
    starts, ends = starts[kept], ends[kept]
    gaps = starts[1:] - ends[:-1]
    widened = np.where(gaps < 2 * pad, gaps // 2, pad)
    starts[1:] -= widened
    ends[:-1] += widened
    starts[:1] = np.maximum(starts[:1] - pad, 0)
    ends[-1:] = np.minimum(ends[-1:] + pad, scores.num_samples)

    fragments: list[tuple[int, int]] = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        while end - start > longest:
            middle = _cut(scores, start + longest // 2, min(start + longest, end - max(min_speech, 1)))
            fragments.append((start, middle))
            start = middle
        fragments.append((start, end))
    return np.array(fragments, dtype=np.int64).reshape(-1, 2)


@lru_cache
def vad_fingerprint(engine: Engine) -> tuple[str, str]:
    """Name and SHA-256 of what decides: the network's file, or name and version of the package for webrtc."""
    if engine == "silero":
        return "silero-vad", silero.silero_sha256()
    if engine == "cascade":
        rule = [_GATE_BLOCK, _GATE_AROUND, _GATE_LOUD, _GATE_SILENCE, _GATE_RISE, _GATE_CONTRAST]
        rule += [_GATE_AHEAD, _GATE_BEHIND]
        return "silero-vad-cascade", hashlib.sha256(f"{silero.silero_sha256()} {rule}".encode()).hexdigest()
    if engine == "webrtc":
        for package in ("webrtcvad-wheels", "webrtcvad"):
            try:
                version = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                continue
            return "webrtcvad", hashlib.sha256(f"{package} {version}".encode()).hexdigest()
        raise ModelError("the voice activity engine webrtc is not installed: pip install webrtcvad-wheels")
    raise InputError(_no_engine(engine))


def _no_engine(engine: str) -> str:
    names = ", ".join(repr(name) for name in get_args(Engine))
    return f"there is no voice activity engine {engine!r}: use one of {names}"


def _samples(milliseconds: int) -> int:
    return int(milliseconds * SAMPLE_RATE / 1000)


def _scored(
    waveform: NDArray[np.float32], frame_samples: int, score: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> FrameScores:
    """Walk over a recording in whole frames, the last one filled with zeros, and give its memory back on the way."""
    probabilities: list[NDArray[np.float32]] = []
    levels: list[NDArray[np.float32]] = []
    for frames in _walk(waveform, frame_samples):
        probabilities.append(score(frames))
        levels.append(np.einsum("fs,fs->f", frames, frames) / np.float32(frame_samples))
        release(waveform)
    if not probabilities:
        nothing = np.zeros(0, dtype=np.float32)
        return FrameScores(nothing, nothing, frame_samples, 0)
    return FrameScores(np.concatenate(probabilities), np.concatenate(levels), frame_samples, len(waveform))


def _levels(waveform: NDArray[np.float32], frame_samples: int) -> NDArray[np.float32]:
    """Mean square of every frame."""

    def nothing(frames: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.zeros(len(frames), np.float32)

    return _scored(waveform, frame_samples, nothing).levels


def _around(values: NDArray[np.float32], beyond: float) -> NDArray[np.float32]:
    """For each value those within `_GATE_AROUND` of it, `beyond` where there are none: (num_values, 2 × that + 1)."""
    padded = np.pad(values, _GATE_AROUND, constant_values=beyond)
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * _GATE_AROUND + 1)


def _walk(waveform: NDArray[np.float32], frame_samples: int) -> Iterator[NDArray[np.float32]]:
    """Frames (num_frames, frame_samples) of a minute at a time."""
    step = _WALK_SAMPLES // frame_samples * frame_samples
    for first in range(0, len(waveform), step):
        samples = waveform[first : first + step]
        num_frames = -(-len(samples) // frame_samples)
        frames = np.zeros((num_frames, frame_samples), dtype=np.float32)
        frames.reshape(-1)[: len(samples)] = samples
        yield frames


def _runs(
    probabilities: NDArray[np.float32], threshold: float, silent_frames: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First frame and one past the last of each run of speech.

    A run ends where its silence begins, and a silence counts when some frame below the lower threshold comes
    `silent_frames` or more after its first one. The last run lasts to the end when no such silence follows it.
    """
    lower = min(threshold, max(threshold - 0.15, 0.01))
    speech = probabilities >= threshold
    silence = probabilities < lower
    # Frames between the thresholds say nothing: each takes over the state of the last frame that did.
    index = np.arange(len(probabilities))
    last_said = np.maximum.accumulate(np.where(speech | silence, index, -1)) if len(index) else index
    active = (last_said >= 0) & speech[np.maximum(last_said, 0)]
    edges = np.flatnonzero(np.diff(active.astype(np.int8), prepend=0, append=0))
    starts, ends = edges[0::2].astype(np.int64), edges[1::2].astype(np.int64)
    if not len(starts):
        return starts, ends
    # The last frame below the lower threshold before the next run, or before the end of the recording.
    last_silent = np.maximum.accumulate(np.where(silence, index, -1))[np.append(starts[1:], len(index)) - 1]
    closed = last_silent - ends >= silent_frames
    if not closed[-1]:
        ends[-1] = len(index)
        closed[-1] = True
    return starts[np.append(True, closed[:-1])], ends[closed]


def _cut(scores: FrameScores, first: int, last: int) -> int:
    """The sample in [first, last] in the middle of the least probable frame, the quietest and then latest of equals."""
    frame = scores.frame_samples
    low = -(-(first - frame // 2) // frame)
    high = (last - frame // 2) // frame + 1
    probabilities, levels = scores.probabilities[low:high], scores.levels[low:high]
    least = np.flatnonzero(probabilities == probabilities.min())
    quietest = least[levels[least] == levels[least].min()][-1]
    return int(low + quietest) * frame + frame // 2
