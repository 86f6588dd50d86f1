"""SONAR's spans from outputs in common: the same rows as by the slow way, whatever is read and pooled together."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from seamlessalign.embedders import Card, load_speech_embedder
from seamlessalign.embedders.sonar import SonarSpeechEmbedder, SonarSpeechEncoder, pooler, shared
from seamlessalign.embedders.sonar import speech as sonar_speech
from seamlessalign.embedders.sonar.pooler import AttentionPooler
from seamlessalign.errors import InputError, ModelError
from seamlessalign.segmentation import over_segment
from tests.embedders import sonar_models
from tests.embedders.sonar_models import DIM

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


def made_recording(seconds: float) -> tuple[Float32, Int64]:
    """Bursts of noise that changes, and where they are."""
    rng = np.random.default_rng(0)
    waveform = 0.001 * rng.standard_normal(int(seconds * 16_000)).astype(np.float32)
    fragments, now = [], 8000
    while now < len(waveform) - 80_000:
        end = now + int(rng.integers(6000, 40_000))
        tone = np.sin(np.arange(end - now) * rng.uniform(0.02, 0.4)) * rng.uniform(0.02, 0.2)
        waveform[now:end] += np.asarray(tone * np.abs(np.sin(np.arange(end - now) / 2000)), np.float32)
        fragments.append((now, end))
        now = end + int(rng.integers(800, 20_000))
    return waveform, np.array(fragments, np.int64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sonar")
    torch.save(sonar_models.fairseq2_speech(sonar_models.random_speech()), folder / "spenc.v3ap.fra.pt")
    return folder


@pytest.fixture(scope="module")
def encoder(folder: Path) -> SonarSpeechEncoder:
    return SonarSpeechEncoder(folder / "spenc.v3ap.fra.pt")


def _embedder(folder: Path, frames: Any) -> SonarSpeechEmbedder:
    embedder = load_speech_embedder("sonar", {"sonar": str(folder)}, frames=frames)
    assert isinstance(embedder, SonarSpeechEmbedder)
    return embedder


def _unit(rows: Float32) -> Float32:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


@pytest.fixture(autouse=True)
def _small_card(monkeypatch: pytest.MonkeyPatch) -> None:
    sonar_speech._load_encoder.cache_clear()
    monkeypatch.setattr(sonar_speech, "load_card", lambda name: Card(name, DIM))


class TestPooler:
    @pytest.mark.parametrize("queries", [1, 3])
    @pytest.mark.parametrize("block", [1, 5, 64])
    def test_spans_in_common_are_as_spans_alone(
        self, queries: int, block: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pooler, "_BLOCK_SPANS", block)
        monkeypatch.setattr(pooler, "_BLOCK_SCORES", 300)
        torch.manual_seed(0)
        attention = AttentionPooler(16, 2, 4, 32, num_queries=queries)
        outputs = torch.randn(90, 16)
        rng = np.random.default_rng(0)
        first = rng.integers(0, 85, 40)
        ranges = np.stack([first, np.minimum(first + rng.integers(1, 40, 40), 90)], 1)
        ranges[7] = ranges[3]
        with torch.no_grad():
            rows = attention.pool_spans(outputs, ranges)
            for row, (start, end) in zip(rows, ranges.tolist(), strict=True):
                alone = attention(outputs[None, start:end], torch.ones(1, end - start, dtype=torch.bool))
                torch.testing.assert_close(row, alone[0], atol=1e-5, rtol=0)

    def test_it_can_be_trained(self) -> None:
        attention = AttentionPooler(8, 2, 2, 16)
        attention.pool_spans(torch.randn(9, 8), np.array([[0, 5], [3, 9]])).sum().backward()
        assert all(value.grad is not None for value in attention.parameters())


@dataclass(frozen=True)
class Embedded:
    """What became of the whole recording, embedded once."""

    rows: Float32
    read: list[int]  # samples of each waveform that went through the encoder
    told: list[float]  # seconds of progress


class TestShared:
    waveform, fragments = made_recording(60)
    spans = over_segment(fragments, max_seconds=12).spans

    @pytest.fixture(scope="class")
    def whole(self, folder: Path) -> Embedded:
        read: list[int] = []
        told: list[float] = []
        plain = SonarSpeechEncoder._padded

        def noting(self: SonarSpeechEncoder, waveforms: Any, batch: list[int]) -> Any:
            read.extend(len(waveforms[i]) for i in batch)
            return plain(self, waveforms, batch)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(SonarSpeechEncoder, "_padded", noting)
            patched.setattr(sonar_speech, "load_card", lambda name: Card(name, DIM))
            rows = _embedder(folder, "shared").embed(self.waveform, self.spans, "fra", self.fragments, told.append)
        return Embedded(rows, read, told)

    def test_what_fits_one_window_is_as_by_itself(self, folder: Path) -> None:
        waveform, span = self.waveform[:200_000], np.array([[0, 200_000]])
        np.testing.assert_allclose(
            _embedder(folder, "shared").embed(waveform, span, "fra"),
            _embedder(folder, "each").embed(waveform, span, "fra"),
            atol=1e-5,
        )

    def test_rows_are_those_of_outputs_with_their_middle_in_the_span(
        self, folder: Path, encoder: SonarSpeechEncoder
    ) -> None:
        waveform = self.waveform[: 20 * 16_000]
        spans = np.array([[0, 3 * 16_000], [10_000, 100_000], [5, 20 * 16_000], [290_000, 310_003]])
        rows = _embedder(folder, "shared").embed(waveform, spans, "fra")
        outputs = encoder.outputs([waveform])[0]
        middle = np.arange(len(outputs)) * 320 + 280
        for row, (start, end) in zip(rows, spans, strict=True):
            own = outputs[torch.as_tensor((start <= middle) & (middle < end))]
            with torch.no_grad():
                alone = encoder.model.pooler(own[None], torch.ones(1, len(own), dtype=torch.bool)).numpy()
            np.testing.assert_allclose(row, _unit(alone)[0], atol=1e-5)

    @pytest.mark.parametrize("group", [1, 2])
    def test_rows_do_not_depend_on_what_is_read_together(
        self, group: int, folder: Path, whole: Embedded, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        order = np.random.default_rng(0).permutation(len(self.spans))
        assert len(whole.rows) > 30 and np.isfinite(whole.rows).all()
        monkeypatch.setattr(shared, "_GROUP", group)
        again = _embedder(folder, "shared").embed(self.waveform, self.spans[order], "fra", self.fragments)
        np.testing.assert_allclose(again, whole.rows[order], atol=1e-5)

    def test_speech_is_read_once(self, whole: Embedded) -> None:
        assert 0 < sum(whole.read) < 1.5 * len(self.waveform)
        assert (self.spans[:, 1] - self.spans[:, 0]).sum() > 4 * len(self.waveform)

    def test_few_outputs_are_held(self, encoder: SonarSpeechEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shared, "_GROUP", 1)
        held: list[int] = []
        plain = SonarSpeechEncoder.pool_spans

        def noting(self: SonarSpeechEncoder, outputs: Any, ranges: Int64) -> Float32:
            held.append(len(outputs))
            return plain(self, outputs, ranges)

        monkeypatch.setattr(SonarSpeechEncoder, "pool_spans", noting)
        shared.encode_shared(encoder, self.waveform, self.spans, self.fragments)
        assert len(held) >= 3 and max(held) <= 50 * (24 + 12)  # a window, and the longest span that waited for it

    @pytest.mark.parametrize("frames", ["each", "shared"])
    def test_silence_and_crumbs_are_no_rows(self, frames: str, folder: Path) -> None:
        waveform = np.concatenate([self.waveform[:80_000], np.zeros(32_000, np.float32)])
        spans = np.array([[8000, 80_000], [84_000, 100_000], [9000, 9400]])
        rows = _embedder(folder, frames).embed(waveform, spans, "fra")
        assert np.isfinite(rows[0]).all() and np.isnan(rows[1:]).all()
        assert np.isnan(_embedder(folder, frames).embed(waveform, spans[1:], "fra")).all()

    def test_samples_that_are_no_numbers_are_refused_in_a_span_only(self, folder: Path) -> None:
        embedder, waveform = _embedder(folder, "shared"), self.waveform[:200_000].copy()
        waveform[100_000] = np.nan
        with pytest.raises(InputError, match="samples 90000-110000 are not all finite"):
            embedder.embed(waveform, np.array([[0, 50_000], [90_000, 110_000]]), "fra")
        assert np.isfinite(embedder.embed(waveform, np.array([[0, 50_000], [101_000, 150_000]]), "fra")).all()

    @pytest.mark.parametrize(("start", "end"), [(5, 5), (-1, 5), (0, 10**9)])
    def test_a_span_that_is_not_there_is_refused(self, start: int, end: int, folder: Path) -> None:
        with pytest.raises(InputError, match="is empty or outside"):
            _embedder(folder, "shared").embed(self.waveform, np.array([[start, end]]), "fra")

    def test_progress_adds_up_to_the_speech(self, whole: Embedded) -> None:
        inside = self.fragments[(self.fragments[:, 1] - self.fragments[:, 0]) < 12 * 16_000]
        assert sum(whole.told) == pytest.approx((inside[:, 1] - inside[:, 0]).sum() / 16_000)

    def test_half_precision_stays_near(self, folder: Path, encoder: SonarSpeechEncoder) -> None:
        half = SonarSpeechEncoder(folder / "spenc.v3ap.fra.pt", dtype="bfloat16")
        waveform = self.waveform[: 20 * 16_000]
        spans = self.spans[self.spans[:, 1] <= len(waveform)]
        rows, wanted = (_unit(shared.encode_shared(e, waveform, spans)) for e in (half, encoder))
        assert len(rows) > 10
        assert 0 < np.abs(rows - wanted).max() < 2e-2


def test_each_is_the_default_and_another_word_is_refused(folder: Path) -> None:
    assert _embedder(folder, None).frames == "each"
    with pytest.raises(ModelError, match="'both': choose one of each, shared"):
        _embedder(folder, "both")
