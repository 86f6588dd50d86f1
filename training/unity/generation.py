"""Translating with a UnitY model: a first pass writes text, a second makes units of its hidden states, and these sound.

The second pass hears of a text what it was taught on: the text decoder's hidden states of `</s> [tag] pieces`, without
the one of the last `</s>`.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from seamlessalign.device_memory import do_batches
from seamlessalign.embedders.sonar.features import MIN_SAMPLES, features
from seamlessalign.errors import ConfigError, InputError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.training.unity.model import UnitY, load_unity
from seamlessalign.training.unity.search import CachedSteps, Hypothesis, SearchOptions, search
from seamlessalign.training.vocabulary import TextVocabulary, UnitVocabulary
from seamlessalign.training.vocoder.generator import durations_of, log_durations, speech_of_rows
from seamlessalign.training.vocoder.model import attach_vocoder

Float32 = npt.NDArray[np.float32]

TEXT_SEARCH = SearchOptions()
UNIT_SEARCH = SearchOptions(per_source=25.0, constant=50, most=2500)  # nobody learns from more than 50 s
# However long its text: speech takes about as long as what it is a translation of, and what takes more than twice as
# long is a model's running on. Of a source's states, and on top of `constant`:
_UNITS_PER_STATE = 16  # of speech, eight frames of 20 ms; two units a frame
_UNITS_PER_TOKEN = 50  # of text; twice `per_source`
FEATURES_PER_SECOND = 50

Precision = Literal["no", "fp16", "bf16"]  # no: float32
_DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, eq=False)
class Source:
    """What is to be translated: a text in a language, or speech."""

    tgt_lang: str  # one of the model's languages
    text: str | None = None
    src_lang: str | None = None  # of the text; speech needs none
    waveform: Float32 | None = None  # (num_samples,) at 16 kHz, at least `MIN_SAMPLES`


@dataclass(frozen=True, eq=False)
class Translation:
    """What a model makes of a source."""

    text: str
    score: float  # of the text: log-probability over tokens to the power of the length penalty
    tokens: tuple[int, ...]  # of the text, without prefix and `</s>`
    at_limit: bool  # whether the text ended because it had become as long as it may be
    units: tuple[int, ...] | None = None  # without adjacent repeats, as the model learnt them; None: text only
    unit_score: float | None = None
    units_at_limit: bool = False
    waveform: Float32 | None = None  # (num_samples,) at 16 kHz; None where no sound was asked for


@dataclass(frozen=True)
class BatchLimits:
    """How much is translated at a time. Nothing here changes what comes out, but for rounding."""

    rows: int = 32
    frames: int = 16_000  # of speech with padding, 50 a second
    tokens: int = 8_000  # of text with padding


class Translator:
    """A model that translates. It is left as it is: in training mode it is put into evaluation mode for the while."""

    def __init__(
        self,
        unity: UnitY,
        text: TextVocabulary,
        units: UnitVocabulary | None = None,
        *,
        text_search: SearchOptions = TEXT_SEARCH,
        unit_search: SearchOptions = UNIT_SEARCH,
        batches: BatchLimits | None = None,
    ) -> None:
        """Around a model on whatever device it is.

        Args:
            unity: the model.
            text: its vocabulary of text.
            units: its vocabulary of units; without it there is text only.
            text_search: how text is searched.
            unit_search: how units are searched.
            batches: how much at a time.
        """
        self.unity, self.text, self.units = unity, text, units
        self.text_search, self.unit_search = text_search, unit_search
        self.batches = batches or BatchLimits()
        self._text_banned = {text.pad, text.unk, text.bos, *text.languages.values()}
        self._unit_banned = (
            {units.pad, units.unk, units.bos, *units.languages.values(), *units.idle} if units else set()
        )
        self._unwritten = functools.cache(text.unwritten)  # of a large vocabulary it takes a moment

    @property
    def spoken_languages(self) -> list[str]:
        """Languages that it makes speech in: those that units have tags for, and the vocoder a number."""
        if self.units is None or self.unity.t2u is None:
            return []
        return [lang for lang in self.units.languages if lang in self.unity.vocoder_languages]

    def translate_speech(
        self, waveforms: Sequence[Float32], tgt_lang: str, *, speak: bool = False, speaker: int = 0
    ) -> list[Translation]:
        """Speech, each float32 `(num_samples,)` at 16 kHz, into a language. Errors as `translate_rows`."""
        sources = [Source(tgt_lang, waveform=waveform) for waveform in waveforms]
        return self.translate_rows(sources, speak=speak, speaker=speaker)

    def translate_text(
        self, texts: Sequence[str], src_lang: str, tgt_lang: str, *, speak: bool = False, speaker: int = 0
    ) -> list[Translation]:
        """Texts of a language into another. Errors as `translate_rows`."""
        sources = [Source(tgt_lang, text, src_lang) for text in texts]
        return self.translate_rows(sources, speak=speak, speaker=speaker)

    def translate_rows(
        self,
        sources: Sequence[Source],
        *,
        units: bool = False,
        speak: bool = False,
        speaker: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> list[Translation]:
        """Translations of sources of any kinds and languages, in their order.

        Args:
            sources: what to translate; rows of like length are done together.
            units: whether units are made too.
            speak: whether units are made, and their sound.
            speaker: number of the vocoder's speaker.
            progress: called with the number of rows done since the last call.

        Raises:
            InputError: a source with neither or both of text and speech, text without its language, speech that is too
                short, or a language without a tag.
            ConfigError: units or speech of a model that has none, of a language that it does not speak, or of a speaker
                that there is not.
            ModelError: logits that are not numbers.
        """
        self._check(sources, units or speak, speak, speaker)
        made: list[Any] = [None] * len(sources)

        def translate(batch: list[int]) -> None:
            done = self._translate([sources[i] for i in batch], with_units=units or speak)
            if speak:
                said = [(one.units or (), sources[i].tgt_lang) for i, one in zip(batch, done, strict=True)]
                sounds = self.speak_rows(said, speaker)
                done = [replace(one, waveform=sound) for one, sound in zip(done, sounds, strict=True)]
            for i, translation in zip(batch, done, strict=True):
                made[i] = translation
            if progress is not None:
                progress(len(batch))

        with torch.no_grad(), _evaluating(self.unity):
            do_batches(self._batches(sources), translate)
        return made

    def speak(self, units: Sequence[int], lang: str, speaker: int = 0) -> Float32:
        """The sound of units, float32 `(num_samples,)` at 16 kHz; of none, no samples."""
        return self.speak_rows([(units, lang)], speaker)[0]

    def speak_rows(self, rows: Sequence[tuple[Sequence[int], str]], speaker: int = 0) -> list[Float32]:
        """The sound of rows of units, each in a language, as `speak`. The vocoder says how long each unit lasts."""
        spoken = [i for i, (units, _) in enumerate(rows) if units]
        sounds = [np.zeros(0, np.float32) for _ in rows]
        vocoder, device = self.unity.vocoder, self.unity.device
        with torch.no_grad(), _evaluating(self.unity):
            frames = {i: self._lasting(rows[i][0]) for i in spoken}

            def sound(batch: list[int]) -> None:
                langs = [[self.unity.vocoder_languages[rows[i][1]]] for i in batch]
                tables = [torch.tensor(numbers, device=device) for numbers in (langs, [[speaker]] * len(batch))]
                made = speech_of_rows(vocoder, [frames[i] for i in batch], *tables)
                for i, samples in zip(batch, made, strict=True):
                    sounds[i] = np.asarray(samples.float().cpu().numpy(), np.float32)

            do_batches(
                _batched({i: len(row) for i, row in frames.items()}, self.batches.rows, self.batches.frames), sound
            )
        return sounds

    def _lasting(self, units: Sequence[int]) -> Any:
        """Units, each as often as it lasts frames of 20 ms, int64 `(num_frames,)`."""
        row = torch.tensor(units, device=self.unity.device)
        logarithms = log_durations(self.unity.vocoder, row[None], torch.ones_like(row[None], dtype=torch.bool))
        return row.repeat_interleave(durations_of(logarithms)[0])

    def check_spoken(self, langs: Iterable[str], speaker: int) -> None:
        """Raise ConfigError where the model makes no speech, or none of a language or speaker."""
        spoken = self.spoken_languages
        if not spoken:
            raise ConfigError("the model makes no speech; ask for text only (--text-only)")
        for lang in langs:
            if lang not in spoken:
                raise ConfigError(f"the model speaks {' '.join(spoken)}, not {lang}; ask for text only (--text-only)")
        speakers = int(self.unity.config.vocoder_num_spkrs)
        if not 0 <= speaker < speakers:
            raise ConfigError(f"speaker {speaker}: the vocoder has speakers 0 to {speakers - 1}")

    # Passes

    def find_text(self, states: Any, mask: Any, langs: Sequence[str]) -> list[Hypothesis]:
        """First pass: the best text for encoder states `(rows, length, dim)` with their mask, in these languages."""
        prefixes = torch.tensor([[self.text.eos, self.text.tag(lang)] for lang in langs], device=states.device)
        limits = [self.text_search.limit(length) for length in mask.sum(1).tolist()]
        groups: dict[frozenset[int], list[int]] = {}  # rows by what their languages never have
        for row, lang in enumerate(langs):
            groups.setdefault(self._unwritten(lang), []).append(row)
        found: dict[int, Hypothesis] = {}
        for unwritten, rows in groups.items():
            logits = self._logits_but(unwritten)
            steps = CachedSteps(self.unity.text_decoder, logits, states[rows], mask[rows])
            limited = [limits[row] for row in rows]
            hypotheses = search(
                steps, prefixes[rows], limited, self.text_search, end=self.text.eos, banned=self._text_banned
            )
            found |= dict(zip(rows, hypotheses, strict=True))
        return [found[row] for row in range(len(langs))]

    def _logits_but(self, unwritten: frozenset[int]) -> Any:
        """Logits in which some tokens have no share: probabilities are those of a model without them."""
        if not unwritten:
            return self.unity.logits
        never = torch.tensor(sorted(unwritten), device=self.unity.device)
        return lambda hidden: self.unity.logits(hidden).index_fill(-1, never, -torch.inf)

    def find_units(
        self, hidden: Any, mask: Any, langs: Sequence[str], most: Sequence[int] | None = None
    ) -> list[Hypothesis]:
        """Second pass: the best units for the text decoder's states `(rows, length, dim)`; their tokens, not units.

        `most` of each row are allowed, fewer where the options say so.
        """
        if self.units is None:
            raise ConfigError("the model has no units: it ends with text")
        t2u = self.unity.model.t2u_model
        states = t2u.model.encoder(inputs_embeds=hidden, attention_mask=mask).last_hidden_state
        steps = CachedSteps(t2u.model.decoder, t2u.lm_head, states, mask)
        prefixes = torch.tensor([[self.units.eos, self.units.tag(lang)] for lang in langs], device=states.device)
        limits = [self.unit_search.limit(length) for length in mask.sum(1).tolist()]
        if most is not None:
            limits = list(map(min, limits, most))
        return search(steps, prefixes, limits, self.unit_search, end=self.units.eos, banned=self._unit_banned)

    def _translate(self, sources: Sequence[Source], *, with_units: bool) -> list[Translation]:
        """Translate a batch of texts, or of speech."""
        langs = [source.tgt_lang for source in sources]
        states, mask = self._encode(sources)
        found = self.find_text(states, mask, langs)
        made = [Translation(self.text.decode(one.tokens), one.score, one.tokens, one.at_limit) for one in found]
        if not with_units or self.units is None:
            return made
        written = [[self.text.eos, self.text.tag(lang), *one.tokens] for lang, one in zip(langs, found, strict=True)]
        tokens, written_mask = _padded(written, self.text.pad, states.device)
        hidden = self.unity.decode_text(tokens, states, mask)
        each = _UNITS_PER_TOKEN if sources[0].waveform is None else _UNITS_PER_STATE
        most = [each * length + self.unit_search.constant for length in mask.sum(1).tolist()]
        return [
            replace(
                translation,
                units=tuple(self.units.units(one.tokens)),
                unit_score=one.score,
                units_at_limit=one.at_limit,
            )
            for translation, one in zip(made, self.find_units(hidden, written_mask, langs, most), strict=True)
        ]

    def _encode(self, sources: Sequence[Source]) -> tuple[Any, Any]:
        device = self.unity.device
        if sources[0].waveform is None:
            rows = [self.text.source(source.text or "", source.src_lang or "") for source in sources]
            return tuple(self.unity.encode_text(*_padded(rows, self.text.pad, device)))
        made = [features(torch.as_tensor(source.waveform, device=device)) for source in sources]
        padded = torch.nn.utils.rnn.pad_sequence(made, batch_first=True)
        lengths = torch.tensor([len(one) for one in made], device=device)
        mask = (torch.arange(padded.shape[1], device=device) < lengths[:, None]).long()
        dtype = self.unity.model.shared.weight.dtype
        return tuple(self.unity.encode_speech(padded.to(dtype), mask))

    def _batches(self, sources: Sequence[Source]) -> Iterator[list[int]]:
        """Indices of sources of one kind and like length, the longest first."""
        for kind, most in (("speech", self.batches.frames), ("text", self.batches.tokens)):
            sizes = {
                i: _size(source) for i, source in enumerate(sources) if (source.waveform is None) == (kind == "text")
            }
            yield from _batched(sizes, self.batches.rows, most)

    def _check(self, sources: Sequence[Source], units: bool, speak: bool, speaker: int) -> None:
        for source in sources:
            if (source.text is None) == (source.waveform is None):
                raise InputError("a source to translate must have either text or speech")
            if source.text is not None:
                if source.src_lang is None:
                    raise InputError(f"text {source.text[:20]!r}: its language must be given")
                self.text.tag(source.src_lang)
            elif source.waveform is not None and len(source.waveform) < MIN_SAMPLES:
                raise InputError(f"speech of {len(source.waveform)} samples is too short: {MIN_SAMPLES} are needed")
            self.text.tag(source.tgt_lang)
        langs = dict.fromkeys(source.tgt_lang for source in sources)
        if speak:
            self.check_spoken(langs, speaker)
        elif units:
            if self.units is None or self.unity.t2u is None:
                raise ConfigError("the model has no units: it ends with text")
            for lang in langs:
                self.units.tag(lang)


def translate_rows(translator: Translator, sources: Sequence[Source], *, speak: bool = False) -> list[Translation]:
    """Translations of sources in their order, as `Translator.translate_rows`."""
    return translator.translate_rows(sources, speak=speak)


def load_translator(
    directory: str | Path,
    *,
    device: str = "auto",
    precision: Precision = "no",
    vocoder: str | Path | None = None,
    text_search: SearchOptions = TEXT_SEARCH,
    unit_search: SearchOptions = UNIT_SEARCH,
    batches: BatchLimits | None = None,
) -> Translator:
    """A translator of the model in a folder.

    Args:
        directory: the model's.
        device: `auto` is a GPU where there is one.
        precision: of the weights and what is computed; the vocoder is always in float32.
        vocoder: folder of one that speaks in place of the model's own.
        text_search: how text is searched.
        unit_search: how units are searched.
        batches: how much at a time.

    Raises:
        ModelError: a folder that holds no such model, or a vocoder of other units.
        ConfigError: a GPU that there is not, or a vocoder for a model without units.
    """
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise ConfigError("device is cuda, but torch sees no GPU")
    if device == "auto":
        device = "cuda" if has_gpu else "cpu"
    unity, text, units = load_unity(directory)
    if vocoder is not None and units is None:
        raise ConfigError(f"{directory}: ends with text, so that {vocoder} has nothing to say")
    if vocoder is not None:
        attach_vocoder(unity, vocoder, units)
    unity.to(device).eval()
    for part in unity.model.children():
        if part is not unity.vocoder:
            part.to(_DTYPES[precision])
    return Translator(unity, text, units, text_search=text_search, unit_search=unit_search, batches=batches)


def _batched(sizes: Mapping[int, int], rows: int, most: int) -> Iterator[list[int]]:
    """Keys of like size, the largest first: at most so many to a batch, and so much of size with padding."""
    batch: list[int] = []
    for i in sorted(sizes, key=lambda i: (-sizes[i], i)):
        if batch and (len(batch) == rows or sizes[batch[0]] * (len(batch) + 1) > most):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _size(source: Source) -> int:
    """Frames of speech, or about the tokens of a text: no more than its bytes, mostly a quarter as many."""
    if source.waveform is not None:
        return len(source.waveform) * FEATURES_PER_SECOND // SAMPLE_RATE
    return len((source.text or "").encode(errors="replace")) // 3 + 2


def _padded(rows: Sequence[Sequence[int]], pad: int, device: Any) -> tuple[Any, Any]:
    """Rows of tokens `(rows, longest)`, padded on the right, and their mask."""
    tensors = [torch.tensor(row, dtype=torch.long, device=device) for row in rows]
    ones = [torch.ones_like(row) for row in tensors]
    pad_sequence = torch.nn.utils.rnn.pad_sequence
    return pad_sequence(tensors, batch_first=True, padding_value=pad), pad_sequence(ones, batch_first=True)


@contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    """Evaluation mode; each part goes back to the mode it was in."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
