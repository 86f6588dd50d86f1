"""Spans of speech, of music and of noise, for the model that tells these apart: from recordings of people, and made.

Recordings come from Debian packages, fetched at run time: voices of Tux Paint's stamps, of the Asterisk prompts and of
the game fillets-ng, music and sounds of several games. No speaker, no recording and no way of making sounds is on both
sides of the split into what is learnt from and what is held out. Recordings are disturbed as others are, by rooms,
telephones, noise behind speech, and levels. Speech is cut as a run cuts it, other sounds at random into pieces of such
lengths: what a detector takes for speech in them would be too little to learn from.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import soxr

from seamlessalign.audio import decode
from seamlessalign.errors import InputError
from seamlessalign.espeak import Espeak, find_espeak
from seamlessalign.pipelines import made_sounds
from seamlessalign.pipelines.demo_sources import LANGUAGES, fetch_package, fetch_prompts
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.segmentation.spans import Spans, over_segment
from seamlessalign.segmentation.vad import Engine, detect_speech
from seamlessalign.sound_changes import add_noise, change_gain, convolved, room_response

Kind = Literal["speech", "music", "noise"]
Float32 = npt.NDArray[np.float32]
Recordings = Callable[[Path, np.random.Generator], Iterator[Float32]]  # cache, generator → waveforms

SECONDS = 60  # of a recording
SPANS = 20  # taken from one
_STAMPS = ("be", "bg", "ca", "da", "el", "es", "fr", "ro", "ru")
_VOICES = ("bg+m1", "ca+f1", "el+m3", "es+f2", "fr+m2", "ro+f3", "ru+m4")  # of espeak-ng, for their stamps' texts
_OTHER_VOICES = ("de+f1", "hu+m1", "it+m5", "nl+f4", "pl+m7", "pt+f2", "sv+m6")


@dataclass(frozen=True)
class Source:
    """Where recordings of one kind come from."""

    name: str
    kind: Kind
    held_out: bool
    recordings: Recordings
    human: bool = False  # people's voices


@dataclass(frozen=True, eq=False)
class Example:
    """A recording `(num_samples,)` with its spans."""

    samples: Float32
    fragments: npt.NDArray[np.int64]  # (num_fragments, 2)
    spans: Spans


def examples(source: Source, cache: Path, seed: int = 0) -> Iterator[Example]:
    """Recordings of a source, each with at most 20 of its spans, the same every time. Raises InputError."""
    rng = np.random.default_rng([seed, *source.name.encode()])
    for waveform in source.recordings(cache, rng):
        samples = disturbed(waveform, source.kind, rng)
        fragments = detect_speech(samples, engine="cascade") if source.kind == "speech" else _pieces(len(samples), rng)
        spans = over_segment(fragments)
        chosen = np.sort(rng.permutation(len(spans))[:SPANS])
        yield Example(samples, fragments, Spans(spans.spans[chosen], spans.fragments[chosen]))


def taken_for_speech(source: Source, cache: Path, seed: int = 0, engine: Engine = "silero") -> Iterator[Example]:
    """The same recordings, with all spans of what a detector takes for speech in them."""
    for example in examples(source, cache, seed):
        fragments = detect_speech(example.samples, engine=engine)
        yield Example(example.samples, fragments, over_segment(fragments))


def disturbed(waveform: Float32, kind: Kind, rng: np.random.Generator) -> Float32:
    """A recording in a room, by telephone, with noise of 8 to 35 dB below, each now and then, at any level."""
    if rng.random() < 0.3:
        waveform = convolved(waveform, room_response(rng.uniform(0.1, 0.6), rng.uniform(0, 10), rng))
    if kind != "noise" and rng.random() < 0.5:  # with noise as loud as speech, babble is no longer told from speech
        waveform = add_noise(waveform, rng.uniform(8, 35), rng.uniform(0, 2), rng)
    if rng.random() < 0.3:
        narrow = soxr.resample(soxr.resample(waveform, SAMPLE_RATE, 8000), 8000, SAMPLE_RATE)
        waveform = np.asarray(narrow, np.float32)
    peak = float(np.abs(waveform).max(initial=1e-6))
    waveform = change_gain(waveform, rng.uniform(-30, 0) - 20 * np.log10(peak))
    return np.asarray(np.rint(waveform * 32767) / 32768, np.float32)  # as a file of 16 bits


def _pieces(num_samples: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Fragments at random, as long and as far apart as those of speech."""
    found, at = [], 0
    while at < num_samples:
        end = min(num_samples, at + int(SAMPLE_RATE * np.clip(rng.lognormal(0.3, 0.8), 0.3, 12)))
        if end - at > SAMPLE_RATE // 4:
            found.append((at, end))
        at = end + int(SAMPLE_RATE * rng.uniform(0.1, 1.2))
    return np.array(found, np.int64).reshape(-1, 2)


def _clips(files: Sequence[Path], rng: np.random.Generator, recordings: int, pauses: bool = True) -> Iterator[Float32]:
    """Recordings of clips in any order, with pauses between or not; fewer where there are not enough clips."""
    if not files:
        raise InputError("there are no recordings in the packages; remove the cache folder to fetch them again")
    order = iter(rng.permutation(len(files)).tolist())
    for _ in range(recordings):
        parts: list[Float32] = []
        for number in order:
            parts.append(decode(files[number]).samples)
            if pauses:
                parts.append(np.zeros(int(rng.uniform(0.1, 1.5) * SAMPLE_RATE), np.float32))
            if sum(map(len, parts)) > SECONDS * SAMPLE_RATE:
                break
        if sum(map(len, parts)) < 10 * SAMPLE_RATE:
            return
        yield np.concatenate(parts)


def _package(name: str, pattern: str, recordings: int, pauses: bool = True) -> Recordings:
    """Clips of a Debian package that match a pattern below /usr/share."""

    def load(cache: Path, rng: np.random.Generator) -> Iterator[Float32]:
        files = sorted((fetch_package(name, cache) / "usr/share").glob(pattern))
        yield from _clips(files, rng, recordings, pauses)

    return load


def _tracks(name: str, pattern: str) -> Recordings:
    """A minute out of the middle of each piece of music in a Debian package."""

    def load(cache: Path, rng: np.random.Generator) -> Iterator[Float32]:
        for file in sorted((fetch_package(name, cache) / "usr/share").glob(pattern)):
            samples = decode(file).samples
            first = max(0, (len(samples) - SECONDS * SAMPLE_RATE) // 2)
            if len(samples) > 10 * SAMPLE_RATE:
                yield np.array(samples[first : first + SECONDS * SAMPLE_RATE])

    return load


def _prompts(lang: str, recordings: int = 4) -> Recordings:
    def load(cache: Path, rng: np.random.Generator) -> Iterator[Float32]:
        prompts = fetch_prompts(cache).prompts[lang]
        yield from _clips([prompts[key].audio for key in sorted(prompts)], rng, recordings)

    return load


def _made(sound: made_sounds.Sound, recordings: int = 4) -> Recordings:
    def load(cache: Path, rng: np.random.Generator) -> Iterator[Float32]:
        for _ in range(recordings):
            yield sound(SECONDS * SAMPLE_RATE, rng)

    return load


def _babble(lang_of: Mapping[str, int], recordings: int = 4) -> Recordings:
    """Voices of the Asterisk prompts together, so many of each language."""

    def load(cache: Path, rng: np.random.Generator) -> Iterator[Float32]:
        voices = [next(_prompts(lang, 1)(cache, rng)) for lang, count in lang_of.items() for _ in range(count)]
        for _ in range(recordings):
            yield made_sounds.babble(voices, SECONDS * SAMPLE_RATE, rng)

    return load


def _spoken(voice: str) -> Recordings:
    """Names of Tux Paint's stamps, by a voice of espeak-ng in its language."""

    def load(cache: Path, rng: np.random.Generator) -> Iterator[Float32]:
        code = voice.partition("+")[0]
        folder = fetch_package("tuxpaint-stamps-default", cache) / "usr/share/tuxpaint/stamps"
        texts = [line.split("=", 1)[1] for file in sorted(folder.rglob("*.txt")) for line in _lines(file, code)]
        espeak = Espeak(*find_espeak())
        parts: list[Float32] = []
        try:
            for number in rng.permutation(len(texts)).tolist():
                said = espeak.speak(texts[number], voice, int(rng.uniform(120, 200)), int(rng.uniform(30, 70)))
                parts.append(np.asarray(soxr.resample(said, espeak.sample_rate, SAMPLE_RATE), np.float32))
                parts.append(np.zeros(int(rng.uniform(0.1, 1.5) * SAMPLE_RATE), np.float32))
                if sum(map(len, parts)) > SECONDS * SAMPLE_RATE:
                    break
        finally:
            espeak.close()
        yield np.concatenate(parts)

    return load


def _lines(file: Path, code: str) -> list[str]:
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line for line in lines if line.startswith(f"{code}.utf8=") and len(line) > len(code) + 9]


def _stamps(code: str) -> Source:
    load = _package("tuxpaint-stamps-default", f"tuxpaint/stamps/**/*_desc_{code}.ogg", 4)
    return Source(f"Tux Paint stamps, {code}", "speech", False, load, human=True)


SOURCES = (
    *(_stamps(code) for code in _STAMPS),
    Source(
        "asterisk-prompt-it-menardi-wav",
        "speech",
        False,
        _package("asterisk-prompt-it-menardi-wav", "asterisk/sounds/it_IT_f_Menardi/*.wav", 6),
        human=True,
    ),
    Source(
        "fillets-ng-data-nl",
        "speech",
        False,
        _package("fillets-ng-data-nl", "games/fillets-ng/sound/*/nl/*.ogg", 15),
        human=True,
    ),
    *(Source(f"espeak-ng {voice}", "speech", False, _spoken(voice)) for voice in _VOICES),
    Source("hyperrogue-music", "music", False, _tracks("hyperrogue-music", "hyperrogue/music/*.ogg")),
    Source("pushover-data", "music", False, _tracks("pushover-data", "pushover/themes/*.ogg")),
    Source("frozen-bubble-data", "music", False, _tracks("frozen-bubble-data", "games/frozen-bubble/snd/*zik*.ogg")),
    Source("tones", "music", False, _made(made_sounds.tones)),
    Source("chords", "music", False, _made(made_sounds.chords)),
    Source("lincity-ng-data", "noise", False, _package("lincity-ng-data", "games/lincity-ng/sounds/*.wav", 8, False)),
    Source("white noise", "noise", False, _made(made_sounds.white)),
    Source("brown noise", "noise", False, _made(made_sounds.brown)),
    Source("mains hum", "noise", False, _made(made_sounds.hum)),
    Source("clicks", "noise", False, _made(made_sounds.clicks)),
    *(Source(f"Asterisk prompts, {lang}", "speech", True, _prompts(lang), human=True) for lang in LANGUAGES),
    Source(
        "fillets-ng-data-cs",
        "speech",
        True,
        _package("fillets-ng-data-cs", "games/fillets-ng/sound/*/cs/*.ogg", 15),
        human=True,
    ),
    *(Source(f"espeak-ng {voice}", "speech", True, _spoken(voice)) for voice in _OTHER_VOICES),
    Source("singularity-music", "music", True, _tracks("singularity-music", "games/singularity/music/*.ogg")),
    Source("fillets-ng-data", "music", True, _tracks("fillets-ng-data", "games/fillets-ng/music/*.ogg")),
    Source("drum loops", "music", True, _package("sonic-pi-samples", "sonic-pi/samples/loop_*.flac", 3, False)),
    Source("melodies with drums", "music", True, _made(made_sounds.melody)),
    Source("ambient sounds", "noise", True, _package("sonic-pi-samples", "sonic-pi/samples/ambi_*.flac", 2, False)),
    Source("hyperrogue sounds", "noise", True, _package("hyperrogue-music", "hyperrogue/sounds/*.ogg", 3, False)),
    Source("wind and machines", "noise", True, _made(made_sounds.gusts)),
    Source("rain", "noise", True, _made(made_sounds.rain)),
    Source("babble of 10 voices", "noise", True, _babble(dict.fromkeys(LANGUAGES, 2))),
)
