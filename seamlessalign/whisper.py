"""Whisper, for every room that needs it: encode once, then identify the language, transcribe and translate.

Weights come from a transformers directory, the hub, or the CTranslate2 file of a package. Whisper was trained on
30-second windows; here a window ends two seconds after its speech, which costs a sixth of full padding and loses
little. Windows have whole seconds and only equal ones share a batch, so what is heard in one never depends on
its neighbours. Decoding is greedy, and stops as soon as the words go round in a circle.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from seamlessalign.device_memory import do_batches
from seamlessalign.errors import InputError, ModelError
from seamlessalign.languages import from_model_code, to_model_code
from seamlessalign.model_files import ModelFiles, find_model
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.whisper_files import first_line, load_model

MAX_SPEECH_SECONDS = 28.0  # the 30 s that Whisper hears, less the silence added behind
TAIL_SECONDS = 2.0  # silence behind the speech; without it decoding loops
SAMPLES_PER_FRAME = 320  # of the encoder's output: 50 frames a second
MEL_FRAMES = 3000  # of a full window, the most there can be
TOKENS_PER_SECOND = 10.0  # more than any language's fast speech
_BATCH = 16  # windows encoded and decoded together

Task = Literal["transcribe", "translate"]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Transcript:
    """What was heard in one window."""

    text: str
    looped: bool  # repetition was cut off
    finished: bool = True  # the model ended it; else it looped, or was longer than such speech can be
    logprob: float = 0.0  # sum of the log-probabilities (natural) of all tokens that were written, and of their end
    num_tokens: int = 0  # how many these are

    @property
    def avg_logprob(self) -> float:
        """Mean log-probability of a token: Whisper's own measure of how sure it was; 0 where nothing was written."""
        return self.logprob / self.num_tokens if self.num_tokens else 0.0


@dataclass(frozen=True)
class Heard:
    """What the decoder wrote, and its last layer's states as it did so."""

    transcript: Transcript
    tokens: npt.NDArray[np.int64]  # (num_tokens,), those of a loop's further copies left out
    states: Any  # torch float32 (num_tokens, dim), each the one that its token was chosen from


class Whisper:
    """A loaded Whisper. `device` is a torch device name; half precision is used on CUDA."""

    def __init__(self, files: ModelFiles, device: str = "cpu") -> None:
        import torch
        from tokenizers import Tokenizer
        from transformers import WhisperFeatureExtractor

        self.files = files
        self.device = torch.device(device)
        self.dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        self.model = load_model(files).to(self.device, self.dtype).eval()
        try:
            self.tokenizer = Tokenizer.from_file(str(files.directory / "tokenizer.json"))
        except Exception as error:  # of no class of its own
            raise ModelError(f"{files.directory}/tokenizer.json: cannot be read: {first_line(error)}") from error
        self.features = WhisperFeatureExtractor(feature_size=self.model.config.num_mel_bins)

    def identify(self, waveforms: Sequence[Float32]) -> list[dict[str, float]]:
        """Probabilities of the languages (ISO 639-3) of each waveform (float32, 16 kHz, at most 28 s)."""
        import torch

        results: list[dict[str, float]] = [{} for _ in waveforms]
        tokens, languages = self._language_tokens

        def identify(batch: list[int]) -> None:
            with torch.inference_mode():
                frames = self._encode([waveforms[i] for i in batch])
                prompt = torch.full((len(batch), 1), self._token("<|startoftranscript|>"), device=self.device)
                hidden = self.model.model.decoder(input_ids=prompt, encoder_hidden_states=frames).last_hidden_state
                scores = self.model.proj_out(hidden[:, -1])[:, tokens].float().softmax(-1).cpu().numpy()
            for i, row in zip(batch, scores, strict=True):
                results[i] = {lang: float(p) for lang, p in zip(languages, row, strict=True)}

        do_batches(_equal_windows(waveforms), identify)
        return results

    def hear(
        self,
        waveforms: Sequence[Float32],
        lang: str,
        tasks: Sequence[Task],
        progress: Callable[[float], None] | None = None,
    ) -> list[tuple[Transcript, ...]]:
        """What is said in each waveform (float32, 16 kHz, at most 28 s), once for each task.

        Args:
            waveforms: speech in the language `lang`.
            lang: ISO 639-3.
            tasks: `transcribe` writes the words, `translate` says them in English.
            progress: called with the seconds of speech heard since the last call.

        Returns:
            For each waveform a tuple with one transcript for each task.

        Raises:
            InputError: a language that Whisper does not know, or a waveform that is too long.
        """
        heard = self._hear(waveforms, lang, tasks, progress, keep_states=False)
        return [tuple(item.transcript for item in items) for items in heard]

    def hear_states(self, waveforms: Sequence[Float32], lang: str, task: Task) -> list[Heard]:
        """As `hear` for one task, with the tokens written and the decoder's states that they were chosen from."""
        heard = self._hear(waveforms, lang, [task], None, keep_states=True)
        # copies, because what was made in inference mode cannot be learnt from
        return [replace(item, states=item.states.clone()) for (item,) in heard]

    def encode(self, waveforms: Sequence[Float32], layer: int | None = None) -> list[Any]:
        """The encoder's frames of each waveform (float32, 16 kHz, at most 28 s), 50 a second, in float32.

        Frames `(num_frames, dim)` whose middle is behind the speech are left out. Gradients flow unless they are
        switched off. layer: those of `hidden_states[layer]` of transformers; 0 is what the first layer is given.
        """
        results: list[Any] = [None for _ in waveforms]

        def encode(batch: list[int]) -> None:
            frames = self._encode([waveforms[i] for i in batch], layer)
            for i, row in zip(batch, frames, strict=True):
                results[i] = row[: (len(waveforms[i]) + SAMPLES_PER_FRAME // 2 - 1) // SAMPLES_PER_FRAME].float()

        do_batches(_equal_windows(waveforms), encode)
        return results

    def _hear(
        self,
        waveforms: Sequence[Float32],
        lang: str,
        tasks: Sequence[Task],
        progress: Callable[[float], None] | None,
        *,
        keep_states: bool,
    ) -> list[tuple[Heard, ...]]:
        import torch

        code = to_model_code(lang, "whisper")
        if code is None:
            raise InputError(f"language {lang!r} is not one that Whisper knows")
        begin = [self._token("<|startoftranscript|>"), self._token(f"<|{code}|>")]
        endings = [[self._token(f"<|{task}|>"), self._token("<|notimestamps|>")] for task in tasks]
        results: list[tuple[Heard, ...]] = [() for _ in waveforms]

        def hear(batch: list[int]) -> None:
            with torch.inference_mode():
                frames = self._encode([waveforms[i] for i in batch])
                limits = [_most_tokens(len(waveforms[i])) for i in batch]
                heard = self._decode(frames, begin, endings, limits, keep_states=keep_states)
            for place, i in enumerate(batch):
                results[i] = tuple(heard[place :: len(batch)])
            if progress is not None:
                progress(sum(len(waveforms[i]) for i in batch) / SAMPLE_RATE)

        do_batches(_equal_windows(waveforms), hear)
        return results

    def _encode(self, waveforms: Sequence[Float32], depth: int | None = None) -> Any:
        """Encoder output `(num_waveforms, num_frames, dim)` for waveforms of one window length, or that of a layer."""
        import torch

        length = window_samples(len(waveforms[0]))
        padded = np.zeros((len(waveforms), length), np.float32)
        for row, waveform in zip(padded, waveforms, strict=True):
            row[: len(waveform)] = waveform
        mel = self.features(
            list(padded), sampling_rate=SAMPLE_RATE, padding=False, truncation=False, return_tensors="np"
        )
        x = torch.from_numpy(np.asarray(mel["input_features"], np.float32)).to(self.device, self.dtype)
        # transformers' own forward insists on 30 s; this is the same computation for any length.
        encoder = self.model.model.encoder
        x = torch.nn.functional.gelu(encoder.conv1(x))
        x = torch.nn.functional.gelu(encoder.conv2(x)).transpose(1, 2)
        x = x + encoder.embed_positions.weight[: x.shape[1]]
        for layer in encoder.layers[:depth]:
            x = layer(x, None)
            x = x[0] if isinstance(x, tuple) else x
        return encoder.layer_norm(x) if depth in (None, len(encoder.layers)) else x

    def _decode(
        self, frames: Any, begin: list[int], endings: list[list[int]], limits: list[int], *, keep_states: bool
    ) -> list[Heard]:
        """Greedy decoding of windows `(num_windows, num_frames, dim)`, once for each ending of the prompt.

        A row that has ended, or turns in a circle, leaves the batch. Returns all windows of the first ending, then
        of the next.
        """
        import torch
        from transformers.cache_utils import DynamicCache, EncoderDecoderCache

        end = self._token("<|endoftext|>")
        always, first = self._suppressed
        limits = limits * len(endings)
        tokens: list[list[int]] = [[] for _ in limits]
        looped = [False for _ in limits]
        states: list[list[Any]] = [[] for _ in limits]
        finished, logprob, written = [False for _ in limits], [0.0 for _ in limits], [0 for _ in limits]
        decoder = self.model.model.decoder
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        # the name changed in transformers 5.24
        named = "cache" if "cache" in inspect.signature(decoder.forward).parameters else "past_key_values"
        cached = {named: cache, "use_cache": True}
        # what the endings have in common, the keys and values of the frames above all, is computed once
        start = torch.tensor([begin] * len(frames), device=self.device)
        decoder(input_ids=start, encoder_hidden_states=frames, **cached)
        everyone = torch.arange(len(frames), device=self.device).repeat(len(endings))
        cache.batch_select_indices(everyone)
        frames = frames[everyone]
        step = torch.tensor(endings, device=self.device).repeat_interleave(len(limits) // len(endings), 0)
        rows = list(range(len(limits)))  # which transcript each row of the batch is
        while rows:
            output = decoder(input_ids=step, encoder_hidden_states=frames, **cached)
            state = output.last_hidden_state[:, -1]
            scores = self.model.proj_out(state)
            scores.index_fill_(1, always if tokens[rows[0]] else first, -torch.inf)
            best, chosen = scores.float().max(-1)
            sure = (best - scores.float().logsumexp(-1)).tolist()
            stay = []
            for place, (row, token) in enumerate(zip(rows, chosen.tolist(), strict=True)):
                logprob[row] += sure[place]
                written[row] += 1
                if token == end:
                    finished[row] = True
                    continue
                tokens[row].append(token)
                if keep_states:
                    states[row].append(state[place])
                kept = without_loop(tokens[row])
                if kept is not None:
                    tokens[row], looped[row] = kept, True
                elif len(tokens[row]) < limits[row]:
                    stay.append(place)
            step = chosen[:, None]
            if len(stay) < len(rows):
                rows = [rows[place] for place in stay]
                index = torch.tensor(stay, device=self.device, dtype=torch.long)
                step, frames = step[index], frames[index]
                cache.batch_select_indices(index)
        nothing = torch.zeros((0, self.model.config.d_model), device=self.device)
        return [
            Heard(
                Transcript(
                    self.tokenizer.decode(words).strip(), looped[row], finished[row], logprob[row], written[row]
                ),
                np.asarray(words, np.int64),
                torch.stack(states[row][: len(words)]).float() if states[row] and words else nothing,
            )
            for row, words in enumerate(tokens)
        ]

    @property
    def languages(self) -> frozenset[str]:
        """Those that it was taught (ISO 639-3)."""
        return frozenset(self._language_tokens[1])

    def _token(self, name: str) -> int:
        token = self.tokenizer.token_to_id(name)
        if token is None:
            raise ModelError(
                f"model {self.files.name!r}: its tokenizer has no {name}; it is not a multilingual Whisper"
            )
        return int(token)

    @cached_property
    def _language_tokens(self) -> tuple[list[int], list[str]]:
        vocabulary: dict[str, int] = self.tokenizer.get_vocab(with_added_tokens=True)
        found = [
            (token, lang)
            for name, token in sorted(vocabulary.items(), key=lambda item: item[1])
            if name.startswith("<|") and name.endswith("|>") and (lang := from_model_code(name[2:-2], "whisper"))
        ]
        return [token for token, _ in found], [lang for _, lang in found]

    @cached_property
    def _suppressed(self) -> tuple[Any, Any]:
        """Tokens never written (non-speech marks and control tokens), and the same with those that cannot be first."""
        import torch

        end = self._token("<|endoftext|>")
        generation = getattr(self.model, "generation_config", None)
        always = set(getattr(generation, "suppress_tokens", None) or [])
        always |= set(range(end + 1, self.model.config.vocab_size))
        first = always | set(getattr(generation, "begin_suppress_tokens", None) or [])
        return tuple(torch.tensor(sorted(t for t in s if t >= 0), device=self.device) for s in (always, first))


@cache
def load_whisper(name: str = "whisper-base", directory: str | None = None, device: str = "cpu") -> Whisper:
    """Load a Whisper by its short name; a process keeps one of each."""
    return Whisper(find_model(name, directory), device)


def window_samples(num_samples: int) -> int:
    """Samples of the window for that many samples of speech: whole seconds, the silence behind included."""
    if num_samples > MAX_SPEECH_SECONDS * SAMPLE_RATE:
        raise InputError(f"{num_samples / SAMPLE_RATE:.1f} s of speech at once; Whisper takes {MAX_SPEECH_SECONDS:g} s")
    return -(-(num_samples + int(TAIL_SECONDS * SAMPLE_RATE)) // SAMPLE_RATE) * SAMPLE_RATE


def without_loop(tokens: list[int]) -> list[int] | None:
    """The tokens with one copy of what they end in several times over; None where they do not.

    One token counts as a loop from its sixth copy on, a phrase of up to 24 tokens from its third.
    """
    for period in range(1, min(24, len(tokens) // 3) + 1):
        copies = 6 if period == 1 else 3
        if len(tokens) < copies * period:
            continue
        tail = tokens[-period:]
        if all(tokens[-(n + 1) * period : -n * period] == tail for n in range(1, copies)):
            return tokens[: len(tokens) - (copies - 1) * period]
    return None


def _most_tokens(num_samples: int) -> int:
    return min(10 + int(TOKENS_PER_SECOND * num_samples / SAMPLE_RATE), 220)


def _equal_windows(waveforms: Sequence[Float32]) -> list[list[int]]:
    """Indices of waveforms, in batches whose windows are equally long, longest first."""
    by_length: dict[int, list[int]] = {}
    for i, waveform in enumerate(waveforms):
        by_length.setdefault(window_samples(len(waveform)), []).append(i)
    return [
        members[start : start + _BATCH]
        for _, members in sorted(by_length.items(), reverse=True)
        for start in range(0, len(members), _BATCH)
    ]
