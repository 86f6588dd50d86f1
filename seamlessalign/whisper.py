"""Whisper, for every room that needs it: encode once, then identify the language, transcribe and translate.

Weights come from a transformers directory, the hub, or the CTranslate2 file of a package. Whisper was trained on
30-second windows; here a window ends two seconds after its speech, which costs a sixth of full padding and loses
little. Windows have whole seconds and only equal ones share a batch, so what is heard in one never depends on
its neighbours. Decoding is greedy, and stops as soon as the words go round in a circle.
"""

import inspect
import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from seamlessalign.device_memory import do_batches
from seamlessalign.errors import InputError, ModelError
from seamlessalign.languages import from_model_code, to_model_code
from seamlessalign.model_files import ModelFiles, find_model, read_weights
from seamlessalign.rows import SAMPLE_RATE

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
        if files.origin == "package":
            self.model = _from_ctranslate2(files)
        else:
            self.model = _from_directory(files)
        self.model = self.model.to(self.device, self.dtype).eval()
        try:
            self.tokenizer = Tokenizer.from_file(str(files.directory / "tokenizer.json"))
        except Exception as error:  # of no class of its own
            raise ModelError(f"{files.directory}/tokenizer.json: cannot be read: {_first_line(error)}") from error
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
            chosen = scores.argmax(-1)
            stay = []
            for place, (row, token) in enumerate(zip(rows, chosen.tolist(), strict=True)):
                if token == end:
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
                Transcript(self.tokenizer.decode(words).strip(), loop),
                np.asarray(words, np.int64),
                torch.stack(kept_states[: len(words)]).float() if kept_states and words else nothing,
            )
            for words, loop, kept_states in zip(tokens, looped, states, strict=True)
        ]

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


def _from_directory(files: ModelFiles) -> Any:
    """The model of a transformers directory. Raises ModelError where it is damaged or lacks a tensor."""
    import torch
    from transformers import WhisperForConditionalGeneration

    try:
        model, loaded = WhisperForConditionalGeneration.from_pretrained(
            str(files.directory), use_safetensors=True, local_files_only=True, dtype=torch.float32,
            output_loading_info=True,
        )  # fmt: skip
    except Exception as error:
        raise ModelError(f"{files.directory}: cannot be loaded: {_first_line(error)}") from error
    lacking = sorted(loaded["missing_keys"])  # which transformers would make up at random
    if lacking:
        more = f" and {len(lacking) - 3} more" if lacking[3:] else ""
        raise ModelError(f"{files.directory}: its weights lack {', '.join(lacking[:3])}{more}")
    return model


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _from_ctranslate2(files: ModelFiles) -> Any:
    """Whisper of transformers with the weights of a CTranslate2 file.

    The file: version u32, name of the specification (u16 length, bytes with a final NUL), revision u32, number of
    variables u32; then for each its name (as before), rank u8, dimensions u32 each, type u8, bytes u32, data.
    Query, key and value are fused in `self_attention/linear_0`, key and value in `attention/linear_1`.
    """
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    variables = _ctranslate2_variables(read_weights(files), files.name)
    try:
        vocabulary, dim = variables["decoder/embeddings/weight"].shape
        layers = {
            part: len({name.split("/")[1] for name in variables if name.startswith(f"{part}/layer_")} - {"layer_norm"})
            for part in ("encoder", "decoder")
        }
        config = WhisperConfig(
            vocab_size=vocabulary,
            num_mel_bins=variables["encoder/conv1/weight"].shape[1],
            d_model=dim,
            encoder_layers=layers["encoder"],
            decoder_layers=layers["decoder"],
            encoder_attention_heads=dim // 64,
            decoder_attention_heads=dim // 64,
            encoder_ffn_dim=variables["encoder/layer_0/ffn/linear_0/weight"].shape[0],
            decoder_ffn_dim=variables["decoder/layer_0/ffn/linear_0/weight"].shape[0],
            max_source_positions=variables["encoder/position_encodings/encodings"].shape[0],
            max_target_positions=variables["decoder/position_encodings/encodings"].shape[0],
            pad_token_id=None,  # by default one of Whisper's own vocabulary, which this file need not have
        )
        state = _transformers_names(variables, dim)
    except (KeyError, ValueError) as error:
        raise ModelError(
            f"model {files.name!r} in {files.place}: not a Whisper, or one of another kind: {error}"
        ) from error
    model = WhisperForConditionalGeneration(config)
    try:
        wrong = model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, strict=False)
    except RuntimeError as error:  # shapes
        raise ModelError(f"model {files.name!r} in {files.place}: {' '.join(str(error).split())[:300]}") from error
    missing = [name for name in wrong.missing_keys if name != "proj_out.weight"]
    if missing or wrong.unexpected_keys:
        raise ModelError(
            f"model {files.name!r} in {files.place}: lacks {missing}, has {wrong.unexpected_keys} too much"
        )
    model.tie_weights()
    try:
        own = json.loads((files.directory / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"model {files.name!r} in {files.place}: its config.json cannot be read: {error}") from error
    model.generation_config.suppress_tokens = own.get("suppress_ids", [])
    model.generation_config.begin_suppress_tokens = own.get("suppress_ids_begin", [])
    return model


def _ctranslate2_variables(data: bytes, name: str) -> dict[str, Float32]:
    types = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
    position = 0

    def take(layout: str) -> int:
        nonlocal position
        (value,) = struct.unpack_from(f"<{layout}", data, position)
        position += struct.calcsize(layout)
        return int(value)

    def take_bytes(count: int) -> bytes:
        nonlocal position
        position += count
        return data[position - count : position]

    def take_name() -> str:
        return take_bytes(take("H")).rstrip(b"\0").decode()

    try:
        take("I")
        specification = take_name()
        if specification != "WhisperSpec":
            raise ModelError(f"model {name!r}: its CTranslate2 file holds a {specification!r}, not a WhisperSpec")
        take("I")
        variables = {}
        for _ in range(take("I")):
            variable = take_name()
            shape = [take("I") for _ in range(take("B"))]
            dtype = types[take("B")]
            value = np.frombuffer(take_bytes(take("I")), dtype).reshape(shape)
            variables[variable] = value.astype(np.float32)
        return variables
    except (struct.error, KeyError, ValueError, UnicodeDecodeError) as error:
        raise ModelError(f"model {name!r}: its CTranslate2 file is damaged near byte {position}") from error


_PARTS = {
    "self_attention/layer_norm": "self_attn_layer_norm",
    "self_attention/linear_1": "self_attn.out_proj",
    "attention/layer_norm": "encoder_attn_layer_norm",
    "attention/linear_0": "encoder_attn.q_proj",
    "attention/linear_2": "encoder_attn.out_proj",
    "ffn/layer_norm": "final_layer_norm",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}
_FUSED = {
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
}
_TOP = {
    "layer_norm": "layer_norm",
    "conv1": "conv1",
    "conv2": "conv2",
    "position_encodings": "embed_positions",
    "embeddings": "embed_tokens",
}
_LEAVES = {"gamma": "weight", "beta": "bias", "encodings": "weight", "weight": "weight", "bias": "bias"}


def _transformers_names(variables: dict[str, Float32], dim: int) -> dict[str, Float32]:
    state: dict[str, Float32] = {}
    for variable, value in variables.items():
        if value.ndim == 0 or variable.startswith(("decoder/projection/", "config/")):
            continue  # settings, and the projection, which is tied to the embeddings
        part, *path, leaf = variable.split("/")
        if leaf not in _LEAVES:
            continue
        if path[0].startswith("layer_") and path[0] != "layer_norm":
            prefix, inner = f"model.{part}.layers.{path[0][6:]}.", "/".join(path[1:])
            if inner in _FUSED:
                for place, target in enumerate(_FUSED[inner]):
                    piece = value[place * dim : (place + 1) * dim]
                    if not (leaf == "bias" and target.endswith("k_proj")):  # Whisper's keys have none: zeros here
                        state[f"{prefix}{target}.{_LEAVES[leaf]}"] = np.ascontiguousarray(piece)
                continue
            name = prefix + _PARTS[inner]
        else:
            name = f"model.{part}.{_TOP[path[0]]}"
        state[f"{name}.{_LEAVES[leaf]}"] = value
    return state
