"""Voice activity detection: a recording to its fragments of speech.

Two steps: an engine scores frames of fixed length (`silero`, a neural network that gives probabilities; `webrtc`,
Gaussian mixtures that give yes or no), then `fragments_of` turns scores into fragments in the same way for both.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from seamlessalign.audio import release
from seamlessalign.errors import InputError, ModelError
from seamlessalign.rows import SAMPLE_RATE

Engine = Literal["silero", "webrtc"]

_SILERO_FRAME = 512  # samples: 32 ms
_SILERO_CONTEXT = 64  # samples of the frame before that the network also sees
_SILERO_FRAMES_PER_CALL = 512  # 16.4 s: more gains nothing and costs memory
_WEBRTC_FRAME = 480  # samples: 30 ms
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
    min_silence_ms: int = 100,
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
    if waveform.ndim != 1 or waveform.dtype != np.float32:
        raise InputError(f"the waveform is {waveform.dtype} {waveform.shape}: float32 (num_samples,) is needed")
    if engine == "silero":
        scores = silero_scores(waveform, num_threads=num_threads)
    elif engine == "webrtc":
        scores = webrtc_scores(waveform, aggressiveness=aggressiveness)
    else:
        raise InputError(f"there is no voice activity engine {engine!r}: use 'silero' or 'webrtc'")
    return fragments_of(
        scores,
        threshold=threshold,
        min_speech_ms=min_speech_ms,
        min_silence_ms=min_silence_ms,
        speech_pad_ms=speech_pad_ms,
        max_fragment_seconds=max_fragment_seconds,
    )


def silero_scores(waveform: NDArray[np.float32], *, num_threads: int = 1) -> FrameScores:
    """Probability of speech for every 32 ms, by the sequence model of silero-vad 6 (several × 100 real time)."""
    if num_threads < 1:
        raise InputError(f"num_threads is {num_threads}: at least 1 is needed")
    session = _silero_session(num_threads)
    hidden = np.zeros((1, 1, 128), dtype=np.float32)
    cell = np.zeros((1, 1, 128), dtype=np.float32)
    context = np.zeros(_SILERO_CONTEXT, dtype=np.float32)

    def score(frames: NDArray[np.float32]) -> NDArray[np.float32]:
        nonlocal hidden, cell, context
        probabilities = []
        for first in range(0, len(frames), _SILERO_FRAMES_PER_CALL):
            part = frames[first : first + _SILERO_FRAMES_PER_CALL]
            block = np.empty((len(part), _SILERO_CONTEXT + _SILERO_FRAME), dtype=np.float32)
            block[0, :_SILERO_CONTEXT] = context
            block[1:, :_SILERO_CONTEXT] = part[:-1, -_SILERO_CONTEXT:]
            block[:, _SILERO_CONTEXT:] = part
            context = part[-1, -_SILERO_CONTEXT:].copy()
            values, hidden, cell = session.run(["speech_probs", "hn", "cn"], {"input": block, "h": hidden, "c": cell})
            probabilities.append(np.asarray(values, dtype=np.float32).reshape(-1))
        return np.concatenate(probabilities)

    return _scored(waveform, _SILERO_FRAME, score)


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
    min_silence_ms: int = 100,
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
        return "silero-vad", hashlib.sha256(_silero_path().read_bytes()).hexdigest()
    if engine == "webrtc":
        for package in ("webrtcvad-wheels", "webrtcvad"):
            try:
                version = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                continue
            return "webrtcvad", hashlib.sha256(f"{package} {version}".encode()).hexdigest()
        raise ModelError("the voice activity engine webrtc is not installed: pip install webrtcvad-wheels")
    raise InputError(f"there is no voice activity engine {engine!r}: use 'silero' or 'webrtc'")


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


_sessions: dict[tuple[int, int], Any] = {}  # (process, threads) → session; a forked child must not share its threads
_sessions_lock = threading.Lock()


def _silero_session(num_threads: int) -> Any:
    key = (os.getpid(), num_threads)
    with _sessions_lock:
        if key not in _sessions:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = num_threads
            options.inter_op_num_threads = 1
            _sessions[key] = onnxruntime.InferenceSession(
                str(_silero_path()), sess_options=options, providers=["CPUExecutionProvider"]
            )
        return _sessions[key]


def _silero_path() -> Path:
    """The sequence model in the package silero-vad, which is not imported: that would load torch."""
    package = importlib.util.find_spec("silero_vad")
    if package is None or not package.submodule_search_locations:
        raise ModelError("the voice activity engine silero is not installed: pip install 'silero-vad>=6.2'")
    path = Path(package.submodule_search_locations[0]) / "data" / "silero_vad_16k_sequence.onnx"
    if not path.is_file():
        raise ModelError(f"{path} is not there, so silero-vad is too old: pip install 'silero-vad>=6.2'")
    return path
