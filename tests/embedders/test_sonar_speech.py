"""SONAR's speech encoders against a restatement in plain torch; poolers; spans of recordings, odd ones among them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from seamlessalign.embedders import Card, load_card, load_speech_embedder
from seamlessalign.embedders.sonar import SonarSpeechEmbedder, SonarSpeechEncoder
from seamlessalign.embedders.sonar import speech as sonar_speech
from seamlessalign.embedders.sonar.features import MIN_SAMPLES, features
from seamlessalign.embedders.sonar.pooler import AttentionPooler, max_pool, mean_pool
from seamlessalign.errors import InputError, ModelError
from tests.embedders import sonar_models
from tests.embedders.sonar_models import DIM

Float32 = NDArray[np.float32]
FRENCH = "spenc.v3ap.fra.pt"
HALF = {"float16": 2e-3, "bfloat16": 1.2e-2}  # largest difference of unit rows


def _noise(num_samples: int, seed: int) -> Float32:
    noise = np.random.default_rng(seed).standard_normal(num_samples)
    return np.asarray(0.1 * noise * np.abs(np.sin(np.arange(num_samples) / 3000 + seed)), np.float32)


WAVEFORMS = [_noise(count, i) for i, count in enumerate([16_000, 9001, 24_000, MIN_SAMPLES, 721, 30_000])]


@pytest.fixture(scope="module")
def weights() -> dict[str, Any]:
    return sonar_models.random_speech()


@pytest.fixture(scope="module")
def wanted(weights: dict[str, Any]) -> Float32:
    rows = [sonar_models.speech_row(weights, features(torch.from_numpy(waveform))) for waveform in WAVEFORMS]
    return np.asarray(torch.stack(rows).float().numpy())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, weights: dict[str, Any]) -> Path:
    folder = tmp_path_factory.mktemp("sonar")
    torch.save(sonar_models.fairseq1_speech(weights), folder / FRENCH)
    return folder


def _unit(rows: Float32) -> Float32:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


class TestEncoder:
    @pytest.mark.parametrize("style", ["fairseq 1", "fairseq 2"])
    def test_every_style_gives_the_rows_of_the_restatement(
        self, style: str, tmp_path: Path, weights: dict[str, Any], wanted: Float32
    ) -> None:
        write = sonar_models.fairseq1_speech if style == "fairseq 1" else sonar_models.fairseq2_speech
        torch.save(write(weights), tmp_path / "w.pt")
        encoder = SonarSpeechEncoder(tmp_path / "w.pt")
        rows = encoder.encode(WAVEFORMS)  # one batch, with padding
        assert rows.dtype == np.float32 and np.abs(rows - wanted).max() < 1e-5
        encoder.save(tmp_path / "kept.safetensors")  # in transformers' names
        np.testing.assert_array_equal(SonarSpeechEncoder(tmp_path / "kept.safetensors").encode(WAVEFORMS), rows)

    @pytest.mark.parametrize("pooler_layers", [3, 6])
    def test_english_has_a_shallower_pooler_than_others(self, pooler_layers: int, tmp_path: Path) -> None:
        weights = sonar_models.random_speech(layers=1, pooler_layers=pooler_layers, seed=1)
        torch.save(sonar_models.fairseq2_speech(weights), tmp_path / "w.pt")
        rows = SonarSpeechEncoder(tmp_path / "w.pt").encode(WAVEFORMS[:2])
        for row, waveform in zip(rows, WAVEFORMS, strict=False):
            row_wanted = sonar_models.speech_row(weights, features(torch.from_numpy(waveform)))
            assert np.abs(row - row_wanted.numpy()).max() < 1e-5

    @pytest.mark.parametrize("dtype", HALF)
    def test_half_precision_stays_within_its_bound(self, dtype: str, folder: Path, wanted: Float32) -> None:
        rows = SonarSpeechEncoder(folder / FRENCH, dtype=dtype).encode(WAVEFORMS)
        assert 0 < np.abs(_unit(rows) - _unit(wanted)).max() < HALF[dtype]

    def test_batches_keep_the_order(self, folder: Path, wanted: Float32, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sonar_speech, "_BATCH_INPUTS", 100)
        told: list[float] = []
        rows = SonarSpeechEncoder(folder / FRENCH).encode(WAVEFORMS, told.append)
        assert np.abs(rows - wanted).max() < 1e-5
        assert len(told) > 2 and sum(told) == pytest.approx(sum(map(len, WAVEFORMS)) / 16_000)

    def test_an_unknown_precision_is_refused(self, folder: Path) -> None:
        with pytest.raises(ModelError, match="dtype is 'int8': choose one of auto, float32, float16, bfloat16"):
            SonarSpeechEncoder(folder / FRENCH, dtype="int8")


class TestPoolers:
    hidden = torch.tensor([[[7.0, 2.0], [3.0, 4.0], [90.0, 90.0]], [[-1.0, -2.0], [-5.0, 6.0], [-3.0, -4.0]]])
    mask = torch.tensor([[True, True, False], [True, True, True]])

    def test_mean_and_max_leave_padding_out(self) -> None:
        assert mean_pool(self.hidden, self.mask).tolist() == [[5, 3], [-3, 0]]
        assert max_pool(self.hidden, self.mask).tolist() == [[7, 4], [-1, 6]]

    def test_attention_leaves_padding_out(self) -> None:
        torch.manual_seed(0)
        pooler = AttentionPooler(8, 2, 2, 16, num_queries=3)
        hidden = torch.randn(2, 5, 8)
        mask = torch.arange(5) < torch.tensor([[3], [5]])
        rows = pooler(hidden, mask)
        assert rows.shape == (2, 8)
        torch.testing.assert_close(rows[:1], pooler(hidden[:1, :3], mask[:1, :3]))
        torch.testing.assert_close(rows[:1], pooler(hidden[:1], mask[:1]))
        rows.sum().backward()
        assert all(value.grad is not None for value in pooler.parameters())  # it can be trained


class TestEmbedder:
    @pytest.fixture(autouse=True)
    def _small_card(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sonar_speech._load_encoder.cache_clear()
        monkeypatch.setattr(sonar_speech, "load_card", lambda name: Card(name, DIM))

    @pytest.fixture
    def embedder(self, folder: Path) -> SonarSpeechEmbedder:
        embedder = load_speech_embedder("sonar", {"sonar-speech-fra": str(folder)})
        assert isinstance(embedder, SonarSpeechEmbedder) and embedder.dim == DIM
        return embedder

    waveform = np.concatenate(WAVEFORMS)
    edges = np.cumsum([0, *map(len, WAVEFORMS)])
    spans = np.stack([edges[:-1], edges[1:]], 1)

    def test_spans_become_unit_rows_in_their_order(self, embedder: SonarSpeechEmbedder, wanted: Float32) -> None:
        order = [2, 0, 5, 1, 0, 4, 3]
        rows = embedder.embed(self.waveform, self.spans[order], "fra")
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows, _unit(wanted)[order], atol=1e-5)
        assert list(embedder.models) == ["sonar-speech-fra"] and len(embedder.models["sonar-speech-fra"]) == 64

    def test_a_span_is_embedded_whatever_is_beside_it(self, embedder: SonarSpeechEmbedder) -> None:
        spans = np.array([[0, 20_000], [5000, 30_000], [100, 1000]])
        together = embedder.embed(self.waveform, spans, "fra")
        for row, span in zip(together, spans, strict=True):
            np.testing.assert_allclose(embedder.embed(self.waveform, span[None], "fra")[0], row, atol=1e-5)

    def test_no_spans(self, embedder: SonarSpeechEmbedder) -> None:
        assert embedder.embed(self.waveform, np.zeros((0, 2), np.int64), "fra").shape == (0, DIM)

    def test_silence_is_no_row_and_harms_no_other(self, embedder: SonarSpeechEmbedder, wanted: Float32) -> None:
        waveform = np.concatenate([WAVEFORMS[0], np.zeros(8000, np.float32), np.full(8000, 0.5, np.float32)])
        spans = np.array([[16_000, 24_000], [0, 16_000], [24_000, 32_000], [0, MIN_SAMPLES - 1]])
        rows = embedder.embed(waveform, spans, "fra")
        assert np.isnan(rows[[0, 2, 3]]).all()
        np.testing.assert_allclose(rows[1], _unit(wanted)[0], atol=1e-5)
        assert np.isnan(embedder.embed(waveform, spans[:1], "fra")).all()

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_samples_that_are_no_numbers_are_refused(self, embedder: SonarSpeechEmbedder, value: float) -> None:
        waveform = self.waveform.copy()
        waveform[300] = value
        with pytest.raises(InputError, match="samples 0-16000 are not all finite"):
            embedder.embed(waveform, self.spans, "fra")
        assert np.isfinite(embedder.embed(waveform, self.spans[1:2], "fra")).all()  # where it does not matter

    @pytest.mark.parametrize(("start", "end"), [(5, 5), (-1, 5), (0, 10**9)])
    def test_a_span_that_is_not_there_is_refused(self, embedder: SonarSpeechEmbedder, start: int, end: int) -> None:
        with pytest.raises(InputError, match="is empty or outside"):
            embedder.embed(self.waveform, np.array([[start, end]]), "fra")

    def test_a_span_of_minutes_is_refused(self, embedder: SonarSpeechEmbedder) -> None:
        waveform = np.tile(self.waveform, 13)
        with pytest.raises(InputError, match=r"longer than the 60 s that SONAR is given; lower speech\.spans"):
            embedder.embed(waveform, np.array([[0, len(waveform)]]), "fra")

    @pytest.mark.parametrize(("lang", "what"), [("bre", "no speech encoder for it; there are arb, "), ("xxx", "arb")])
    def test_a_language_without_encoder_is_refused(self, embedder: SonarSpeechEmbedder, lang: str, what: str) -> None:
        with pytest.raises(InputError, match=f"language '{lang}': .*{what}"):
            embedder.embed(self.waveform, self.spans, lang)

    def test_an_encoder_that_is_missing_says_where_to_get_it(
        self, embedder: SonarSpeechEmbedder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("SEAMLESSALIGN_MODELS", raising=False)
        with pytest.raises(ModelError, match=r"put https://dl\.fbaipublicfiles\.com/SONAR/spenc\.v5ap\.rus\.pt into"):
            embedder.embed(self.waveform, self.spans, "rus")

    def test_an_encoder_may_lie_beside_the_text_encoder(self, folder: Path, wanted: Float32) -> None:
        embedder = load_speech_embedder("sonar", {"sonar": str(folder)})
        np.testing.assert_allclose(embedder.embed(self.waveform, self.spans, "fra"), _unit(wanted), atol=1e-5)

    def test_few_encoders_stay_in_memory(
        self, folder: Path, weights: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        languages = ["fra", "deu", "ita", "fra"]
        for lang in languages[1:3]:
            torch.save(sonar_models.fairseq2_speech(weights), folder / f"spenc.v3ap.{lang}.pt")
        loaded: list[str] = []

        class Noting(SonarSpeechEncoder):
            def __init__(self, weights: Path, **options: Any) -> None:
                loaded.append(weights.name)
                super().__init__(weights, **options)

        monkeypatch.setattr(sonar_speech, "SonarSpeechEncoder", Noting)
        embedder = load_speech_embedder("sonar", {"sonar": str(folder)})
        for lang in [*languages, "fra", "ita"]:
            embedder.embed(self.waveform, self.spans[:1], lang)
        assert loaded == [FRENCH, "spenc.v3ap.deu.pt", "spenc.v3ap.ita.pt", FRENCH]
        assert sorted(embedder.models) == ["sonar-speech-deu", "sonar-speech-fra", "sonar-speech-ita"]
        assert not load_speech_embedder("sonar", {"sonar": str(folder)}).models  # another has not used any

    def test_progress_is_told_in_seconds_of_fragments(self, embedder: SonarSpeechEmbedder) -> None:
        fragments = np.array([[0, 8000], [9000, 16_000], [17_000, 24_000], [60_000, 76_000]])
        spans = np.array([[0, 16_000], [0, 24_000], [9000, 24_000], [17_000, 24_000]])
        told: list[float] = []
        embedder.embed(self.waveform, spans, "fra", fragments, told.append)
        assert sum(told) == pytest.approx(22_000 / 16_000)
        told.clear()
        embedder.embed(self.waveform, np.array([[30_000, 40_000], [0, 9000], [8000, 16_000]]), "fra", None, told.append)
        assert sum(told) == pytest.approx(26_000 / 16_000)
        told.clear()
        embedder.embed(np.zeros(16_000, np.float32), np.array([[0, 16_000]]), "fra", None, told.append)
        assert sum(told) == pytest.approx(1.0)


def test_an_encoder_of_another_size_is_refused(folder: Path) -> None:
    embedder = load_speech_embedder("sonar", {"sonar": str(folder)})
    assert embedder.card == load_card("sonar")
    with pytest.raises(ModelError, match="it has 64 dimensions, SONAR's card 1024"):
        embedder.embed(WAVEFORMS[0], np.array([[0, 16_000]]), "fra")
