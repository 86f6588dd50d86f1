"""Translating a recording of any length: cut at its pauses, a group of stretches at a time, with subtitles and sound.

What is held in memory does not grow with the recording: `audio.decode` has a long one in a temporary file (64 kB a
second), and text, subtitles and sound are written as they come.
"""

import contextlib
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from seamlessalign import storage
from seamlessalign.audio import decode, release
from seamlessalign.embedders.sonar.features import MIN_SAMPLES
from seamlessalign.errors import ConfigError, InputError, UnreadableError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.segmentation import detect_speech
from seamlessalign.training.unity.generation import Source, Translation, Translator
from seamlessalign.training.unity.translate import TranslationJob, load_job
from seamlessalign.training.unity.translation_folder import pcm_of

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

STRETCH_SECONDS = 20.0  # the longest stretch of a recording that is cut
SUBTITLES = (".srt", ".vtt")
_MAX_PAUSE = 2.0  # seconds; no stretch goes on over a longer one
_PAD_MS = 100  # of sound that is heard on both sides of a stretch
_GROUP = 32  # stretches that are translated, and written, at a time
_LINE, _LINES = 42, 2  # characters of a line of subtitles, and lines that are shown at once


@dataclass(frozen=True)
class Recorded:
    """What became of a recording."""

    stretches: int
    set_aside: dict[str, int]  # reason → stretches


def translate_recording(
    job: TranslationJob,
    recording: str,
    *,
    output: str | None = None,
    subtitles: str | None = None,
    stretch_seconds: float = STRETCH_SECONDS,
    say: Callable[[str], None],
    progress: Callable[[str], None],
) -> Recorded:
    """Translate a sound file. One longer than `job.max_seconds`, or that gets subtitles, is cut at its pauses.

    Args:
        job: how; its `tgt_lang` must be there.
        recording: the file.
        output: WAV file for what is said; each stretch begins when its original does, or when the one before has ended.
        subtitles: file for the text with the times of the original, `.srt` or `.vtt`.
        stretch_seconds: the longest stretch of one that is cut.
        say: called with the text of each stretch, in order.
        progress: called with lines for people, where the recording is cut.

    Raises:
        InputError: what cannot be translated, in one line.
        ConfigError: options, a language or a speaker that there is not.
        ModelError: the model cannot be loaded.
        StorageError: a file cannot be written; the others are whole or not there.
    """
    check_files(output, subtitles)
    longest = min(stretch_seconds, job.max_seconds)
    if not longest >= 1:
        raise ConfigError(f"stretches of {longest:g} s are too short to be translated: 1 s or more is needed")
    if job.tgt_lang is None:
        raise ConfigError("give --to: the language of the text")
    if not Path(recording).is_file():
        raise InputError(f"{recording}: there is no such file; with --text, what is given is the text itself")
    try:
        samples = decode(Path(recording)).samples
    except UnreadableError as error:
        raise InputError(str(error)) from error
    if len(samples) < MIN_SAMPLES:
        raise InputError(f"too_short: {recording}: is {len(samples) / SAMPLE_RATE:.3f} s")
    cut = len(samples) > job.max_seconds * SAMPLE_RATE or subtitles is not None
    translator, lang = load_job(job)  # before the detector: what is wrong with the model is told first
    stretches = np.array([[0, len(samples)]], np.int64)
    if cut:
        stretches = stretches_of(samples, longest)
        spoken = int((stretches[:, 1] - stretches[:, 0]).sum())
        progress(f"{_clock(len(samples))} in {len(stretches):,} stretches, {_clock(spoken)} of speech")
    if not len(stretches) or np.ptp(samples[stretches[0, 0] : stretches[0, 1]]) == 0:
        raise InputError(f"{recording}: no speech is found in it")
    aside: Counter[str] = Counter()
    with contextlib.ExitStack() as files:
        written = None if subtitles is None else _Subtitles(files, subtitles)
        sound = None if output is None else _Sound(files, output)
        began, at_limit = time.monotonic(), 0
        for first in range(0, len(stretches), _GROUP):
            group = stretches[first : first + _GROUP]
            for (start, end), one in zip(
                group.tolist(), _translated(translator, samples, group, lang, job), strict=True
            ):
                say(one.text)
                at_limit += one.at_limit or one.units_at_limit
                if written is not None:
                    written.add(start, end, one.text)
                if sound is not None and one.waveform is not None:
                    if not len(one.waveform):
                        aside["no_units"] += 1
                    sound.add(start, one.waveform)
            release(samples)
            if cut:
                rate = int(group[-1, 1]) / SAMPLE_RATE / max(time.monotonic() - began, 1e-9)
                progress(f"{_clock(int(group[-1, 1]))} of {_clock(len(samples))}, {rate:.1f} times real time")
        if sound is not None and not sound.samples:
            raise InputError(f"{output}: is not written: the model makes no speech of its text")
    if cut and at_limit:
        progress(f"{at_limit:,} of {len(stretches):,} stretches ended because they had become as long as they may be")
    return Recorded(len(stretches), dict(aside))


def check_files(output: str | None, subtitles: str | None) -> None:
    """Raise ConfigError for names that say another kind of file than what is written."""
    if output is not None and not output.endswith(".wav"):
        raise ConfigError(f"--output {output}: speech is written as WAV; name a .wav file")
    if subtitles is not None and not subtitles.endswith(SUBTITLES):
        raise ConfigError(f"--subtitles {subtitles}: name a file in {' or '.join(SUBTITLES)}")


def stretches_of(samples: Float32, longest_seconds: float) -> Int64:
    """Where a recording is cut to be translated: int64 `(num_stretches, 2)`, `[start, end)`, sorted and disjoint.

    Of what is between two stretches nothing is speech. Fragments of speech are joined over the shortest pauses first,
    while what comes of it is not longer than `longest_seconds`: so the cuts are at the longest pauses, as far as they
    can be. Speech without a pause for so long is cut where it is least like speech.
    """
    fragments = detect_speech(samples, engine="cascade", speech_pad_ms=_PAD_MS, max_fragment_seconds=longest_seconds)
    return join_fragments(fragments, round(longest_seconds * SAMPLE_RATE), round(_MAX_PAUSE * SAMPLE_RATE))


def join_fragments(fragments: Int64, longest: int, max_pause: int) -> Int64:
    """Fragments `(num_fragments, 2)`, sorted and disjoint, joined over the shortest pauses first; all in samples.

    Each pause is looked at once: what would be too long then is too long ever after.
    """
    first = list(range(len(fragments)))  # of the stretch that a fragment ends, the fragment that begins it
    last = list(range(len(fragments)))  # of the stretch that a fragment begins, the one that ends it
    joined = np.zeros(max(len(fragments) - 1, 0), np.bool_)
    pauses = fragments[1:, 0] - fragments[:-1, 1]
    for i in np.argsort(pauses, kind="stable").tolist():
        begin, end = first[i], last[i + 1]
        if pauses[i] <= max_pause and fragments[end, 1] - fragments[begin, 0] <= longest:
            joined[i] = True
            last[begin], first[end] = end, begin
    starts = np.flatnonzero(np.concatenate([[True], ~joined])[: len(fragments)])
    ends = np.append(starts[1:], len(fragments)) - 1 if len(starts) else starts
    return np.stack([fragments[starts, 0], fragments[ends, 1]], axis=1)


def cues_of(start: int, end: int, text: str) -> Iterator[tuple[int, int, str]]:
    """A stretch `[start, end)` as what is shown at once: (start, end, lines).

    Each has at most two lines of 42 characters. When within a stretch a word is said is not known: time is given out by
    numbers of characters.
    """
    lines = textwrap.wrap(text, _LINE)
    shown = ["\n".join(lines[i : i + _LINES]) for i in range(0, len(lines), _LINES)]
    bounds = np.cumsum([0, *map(len, shown)])
    for i, part in enumerate(shown):
        begin, stop = (start + (end - start) * int(bounds[at]) // int(bounds[-1]) for at in (i, i + 1))
        yield begin, stop, part


def _translated(
    translator: Translator, samples: Float32, group: Int64, lang: str, job: TranslationJob
) -> Sequence[Translation]:
    sources = [Source(lang, waveform=np.array(samples[start:end])) for start, end in group.tolist()]
    return translator.translate_rows(sources, speak=job.speak, speaker=job.speaker)


class _Subtitles:
    """A file of subtitles, there once all files are closed without an error."""

    def __init__(self, files: contextlib.ExitStack, path: str) -> None:
        place = files.enter_context(storage.atomic_local(path))
        self._file: IO[str] = files.enter_context(place.open("w", encoding="utf-8"))
        self._web, self._count = path.endswith(".vtt"), 0
        self._file.write("WEBVTT\n\n" if self._web else "")

    def add(self, start: int, end: int, text: str) -> None:
        for begin, stop, lines in cues_of(start, end, text):
            self._count += 1
            times = " --> ".join(_timestamp(at, "." if self._web else ",") for at in (begin, stop))
            shown = lines.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") if self._web else lines
            self._file.write(f"{self._count}\n{times}\n{shown}\n\n")


class _Sound:
    """A WAV file of 16 bits at 16 kHz, there once all files are closed without an error."""

    def __init__(self, files: contextlib.ExitStack, path: str) -> None:
        import soundfile

        place = files.enter_context(storage.atomic_local(path))
        self._file: Any = files.enter_context(
            soundfile.SoundFile(place, "w", SAMPLE_RATE, 1, subtype="PCM_16", format="WAV")
        )
        self.samples = 0

    def add(self, start: int, waveform: Float32) -> None:
        """Speech that begins at a sample, or as soon as what was there before has ended."""
        if not len(waveform):
            return
        while self.samples < start:
            silence = min(start - self.samples, 60 * SAMPLE_RATE)
            self._file.write(np.zeros(silence, np.int16))
            self.samples += silence
        self._file.write(pcm_of(waveform))
        self.samples += len(waveform)


def _timestamp(samples: int, point: str) -> str:
    """Of subtitles: `01:02:03,456`."""
    seconds, milliseconds = divmod(samples * 1000 // SAMPLE_RATE, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{milliseconds:03}"


def _clock(samples: int) -> str:
    seconds = samples // SAMPLE_RATE
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
