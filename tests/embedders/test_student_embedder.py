"""A student as a speech embedder: spans share frames of fragments that were heard once; where students are found."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from seamlessalign.embedders import (
    Card,
    load_speech_embedder,
    speech_card,
    speech_digest,
    speech_models,
    speech_rows_digest,
)
from seamlessalign.embedders.card import fit_mean, save_card
from seamlessalign.embedders.student import BackboneConfig, Frames, PoolerConfig, Student, StudentConfig, build_pooler
from seamlessalign.embedders.student import embedder as student_embedder
from seamlessalign.embedders.student.backbones import build_backbone
from seamlessalign.embedders.student.embedder import StudentEmbedder, load_student
from seamlessalign.errors import InputError, ModelError
from seamlessalign.model_files import find_model
from seamlessalign.segmentation import over_segment
from tests.embedders.test_sonar_shared import made_recording

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
DIM = 12


def _student(seed: int = 0) -> Student:
    torch.manual_seed(seed)
    config = StudentConfig(
        backbone=BackboneConfig(kind="scratch", width=16, layers=1, heads=2, ffn=32),
        train_backbone=True,
        pooler=PoolerConfig(width=16, layers=1, heads=2, ffn=32),
        dim=DIM,
    )
    student: Student = Student(config, build_backbone(config.backbone)).eval()
    return student


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("student")
    _student().save(folder)
    return folder


@pytest.fixture
def embedder(folder: Path) -> StudentEmbedder:
    embedder = load_speech_embedder("student", {"student": str(folder)})
    assert isinstance(embedder, StudentEmbedder)
    return embedder


class TestEmbed:
    waveform, fragments = made_recording(60)
    spans = over_segment(fragments).spans

    def test_rows_are_those_of_each_spans_own_frames(self, embedder: StudentEmbedder) -> None:
        rows = embedder.embed(self.waveform, self.spans, "fra", self.fragments)
        assert rows.dtype == np.float32 and rows.shape == (len(self.spans), DIM)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        student = embedder.student
        for i in range(0, len(rows), 7):
            start, end = self.spans[i]
            own = self.fragments[(self.fragments[:, 0] >= start) & (self.fragments[:, 1] <= end)]
            frames = student.backbone.frames(self.waveform, own, "fra")  # as heard by themselves
            np.testing.assert_allclose(rows[i], student.pool(frames, self.spans[i : i + 1])[0].detach(), atol=1e-5)

    def test_each_fragment_is_heard_once(self, embedder: StudentEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
        heard = _noting(embedder, monkeypatch)
        embedder.embed(self.waveform, self.spans[10:60], "fra", self.fragments)
        reach = (self.fragments[:, 0] >= self.spans[10:60, 0].min()) & (
            self.fragments[:, 1] <= self.spans[10:60, 1].max()
        )
        np.testing.assert_array_equal(np.concatenate(heard), self.fragments[reach])

    @pytest.mark.parametrize("seconds", [0.1, 9.0])
    def test_rows_do_not_depend_on_what_is_heard_together(
        self, seconds: float, embedder: StudentEmbedder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        order = np.random.default_rng(0).permutation(len(self.spans))
        rows = embedder.embed(self.waveform, self.spans, "fra", self.fragments)
        monkeypatch.setattr(student_embedder, "_AT_ONCE", int(seconds * 16_000))
        heard = _noting(embedder, monkeypatch)
        again = embedder.embed(self.waveform, self.spans[order], "fra", self.fragments)
        assert len(heard) > 3
        np.testing.assert_allclose(again, rows[order], atol=1e-5)

    @pytest.mark.parametrize("seconds", [0.1, 20.0, 240.0])
    def test_without_fragments_each_span_is_heard_by_itself(
        self, seconds: float, embedder: StudentEmbedder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(student_embedder, "_AT_ONCE", int(seconds * 16_000))
        spans = self.spans[[5, 0, 5, 30]]
        rows = embedder.embed(self.waveform, spans, "fra")
        np.testing.assert_array_equal(rows[0], rows[2])
        for row, span in zip(rows, spans, strict=True):
            frames = embedder.student.backbone.frames(self.waveform, span[None], "fra")
            np.testing.assert_allclose(row, embedder.student.pool(frames, span[None])[0].detach(), atol=1e-5)

    def test_tokens_of_frames_are_kept_together(
        self, embedder: StudentEmbedder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A backbone whose frames have tokens; rows tell which were pooled."""
        pooled: dict[tuple[int, int], list[int]] = {}

        def frames(waveform: Float32, fragments: Int64, lang: str, progress: Any = None) -> Frames:
            time = (fragments.sum(1) // 2).astype(np.int64)
            return Frames(torch.zeros(len(time), 16), time, time // 10)

        def pool(frames: Frames, spans: Int64) -> Any:
            for start, end in spans.tolist():
                assert frames.token is not None and len(frames.token) == len(frames)
                pooled[start, end] = frames.token[(start <= frames.time) & (frames.time < end)].tolist()
            return torch.ones(len(spans), DIM)

        monkeypatch.setattr(student_embedder, "_AT_ONCE", 50_000)
        monkeypatch.setattr(embedder.student.backbone, "frames", frames)
        monkeypatch.setattr(embedder.student, "pool", pool)
        embedder.embed(self.waveform, self.spans, "fra", self.fragments)
        middles = (self.fragments.sum(1) // 2).tolist()
        assert pooled == {(s, e): [m // 10 for m in middles if s <= m < e] for s, e in self.spans.tolist()}

    def test_silence_and_crumbs_are_no_rows(self, embedder: StudentEmbedder) -> None:
        waveform = np.concatenate([self.waveform[:60_000], np.zeros(20_000, np.float32)])
        fragments = np.array([[0, 50_000], [50_000, 50_100], [62_000, 78_000]])
        rows = embedder.embed(waveform, fragments, "fra", fragments)
        assert np.isfinite(rows[0]).all() and np.isnan(rows[1:]).all()
        assert np.isnan(embedder.embed(waveform, fragments[1:], "fra")).all()
        assert np.isnan(embedder.embed(waveform, fragments, "fra", np.zeros((0, 2), np.int64))).all()  # nothing heard

    def test_no_spans(self, embedder: StudentEmbedder) -> None:
        assert embedder.embed(self.waveform, np.zeros((0, 2), np.int64), "fra", self.fragments).shape == (0, DIM)

    @pytest.mark.parametrize("fragments", [None, fragments])
    def test_samples_that_are_no_numbers_are_refused(self, fragments: Int64 | None, embedder: StudentEmbedder) -> None:
        waveform = self.waveform.copy()
        waveform[self.fragments[2, 0] + 5] = np.nan
        with pytest.raises(InputError, match="not all finite"):
            embedder.embed(waveform, self.spans, "fra", fragments)

    @pytest.mark.parametrize(("start", "end"), [(5, 5), (-1, 5), (0, 10**9)])
    def test_a_span_that_is_not_there_is_refused(self, start: int, end: int, embedder: StudentEmbedder) -> None:
        with pytest.raises(InputError, match="is empty or outside"):
            embedder.embed(self.waveform, np.array([[start, end]]), "fra", self.fragments)

    def test_progress_is_told_in_seconds_heard(self, embedder: StudentEmbedder) -> None:
        told: list[float] = []
        embedder.embed(self.waveform, self.spans, "fra", self.fragments, told.append)
        assert sum(told) == pytest.approx((self.fragments[:, 1] - self.fragments[:, 0]).sum() / 16_000)

    def test_rows_are_centred_by_the_card_beside_it(self, folder: Path, tmp_path: Path) -> None:
        plain = load_speech_embedder("student", {"student": str(folder)})
        rows = plain.embed(self.waveform, self.spans, "fra", self.fragments)
        _student().save(tmp_path)
        card = Card("card", DIM, {"fra": 0.5 * fit_mean(rows)})  # all of it would leave little but rounding
        save_card(card, tmp_path, {})
        centred = load_speech_embedder("student", {"student": str(tmp_path)})
        np.testing.assert_allclose(
            centred.embed(self.waveform, self.spans, "fra", self.fragments), card.centre(rows, "fra"), atol=1e-5
        )


@pytest.mark.parametrize("queries", [1, 2])
def test_ranges_of_frames_in_common_are_pooled_as_each_by_itself(queries: int) -> None:
    torch.manual_seed(0)
    pooler = build_pooler(PoolerConfig(width=16, layers=2, heads=2, ffn=32, queries=queries), 10, DIM).eval()
    values, rng = torch.randn(200, 10), np.random.default_rng(0)
    first = rng.integers(0, 190, 50)
    ranges = np.stack([first, np.minimum(first + rng.integers(1, 90, 50), 200)], 1)
    with torch.no_grad():
        rows = pooler.pool_ranges(values, ranges)
        assert rows is not None
        for row, (start, end) in zip(rows, ranges.tolist(), strict=True):
            alone = pooler(values[None, start:end], torch.ones(1, end - start, dtype=torch.bool))
            torch.testing.assert_close(row, alone[0], atol=1e-5, rtol=0)


def _noting(embedder: StudentEmbedder, monkeypatch: pytest.MonkeyPatch) -> list[Int64]:
    heard: list[Int64] = []
    plain = embedder.student.backbone.frames

    def frames(waveform: Float32, fragments: Int64, lang: str, progress: Any = None) -> Frames:
        heard.append(fragments)
        return plain(waveform, fragments, lang, progress)

    monkeypatch.setattr(embedder.student.backbone, "frames", frames)
    return heard


class TestFinding:
    def test_a_student_is_known_by_its_weights(self, folder: Path, embedder: StudentEmbedder) -> None:
        assert dict(embedder.models) == {"student": find_model("student", str(folder)).sha256}
        assert speech_models("student", ["fra"], {"student": str(folder)}) == ["student"]

    def test_models_of_the_backbone_are_named_and_languages_checked_where_it_writes_words(self, tmp_path: Path) -> None:
        described = {
            "models": {"whisper-base": "0" * 64, "e5-small": "1" * 64, "w2v-bert": "2" * 64},
            "student": {"dim": 3, "backbone": {"kind": "whisper-decoder"}},
        }
        (tmp_path / "config.json").write_text(json.dumps(described))
        (tmp_path / "model.safetensors").write_bytes(b"")
        places = {"whisper-e5": str(tmp_path)}
        assert speech_models("whisper-e5", ["fra"], places) == ["whisper-base", "e5-small", "whisper-e5"]
        with pytest.raises(InputError, match="language 'ace': whisper-e5 cannot hear it"):
            speech_models("whisper-e5", ["ace"], places)
        described["student"] = {"dim": 3, "backbone": {"kind": "whisper"}}
        (tmp_path / "config.json").write_text(json.dumps(described))
        assert speech_models("whisper-e5", ["ace"], places) == ["whisper-base", "e5-small", "whisper-e5"]

    def test_the_digest_covers_what_rows_depend_on(self, tmp_path: Path) -> None:
        _student().save(tmp_path)
        places, digests = {"student": str(tmp_path)}, set()
        digests.add(speech_digest("student", places))
        for change in ("mean", "config"):
            if change == "mean":
                save_card(Card("card", DIM, {"fra": np.ones(DIM, np.float32)}), tmp_path, {})
            else:
                (tmp_path / "config.json").write_text((tmp_path / "config.json").read_text() + " ")
            digests.add(speech_digest("student", places))
        assert len(digests) == 3
        before = speech_digest("student", places), speech_rows_digest("student", places)
        described = (tmp_path / "card.yaml").read_text()
        (tmp_path / "card.yaml").write_text(described + "# another threshold\n")
        assert speech_digest("student", places) != before[0]
        assert speech_rows_digest("student", places) == before[1]

    def test_a_card_of_other_dimensions_is_refused(self, tmp_path: Path) -> None:
        _student().save(tmp_path)
        save_card(Card("card", DIM + 1), tmp_path, {})
        with pytest.raises(ModelError, match=f"its rows have {DIM} dimensions, its card {DIM + 1}"):
            speech_card("student", {"student": str(tmp_path)})

    @pytest.mark.parametrize("text", ["{", "{}", "[]", '{"models": {}, "student": {"dim": 3}}'])
    def test_a_config_of_something_else_is_refused(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(text)
        (tmp_path / "model.safetensors").write_bytes(b"")
        with pytest.raises(ModelError, match="cannot be read as that of a student"):
            speech_models("student", ["fra"], {"student": str(tmp_path)})

    def test_a_card_that_is_damaged_is_refused(self, tmp_path: Path) -> None:
        _student().save(tmp_path)
        (tmp_path / "card.yaml").write_text("dim: [")
        with pytest.raises(ModelError, match=r"card\.yaml: cannot be read as a card"):
            speech_card("student", {"student": str(tmp_path)})

    def test_a_directory_without_weights_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"lacks model\.safetensors, config\.json"):
            load_student("student", {"student": str(tmp_path)})

    def test_a_student_must_be_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SEAMLESSALIGN_MODELS", raising=False)
        with pytest.raises(ModelError, match=r"'student' was not found: put it into a directory .* models\.student"):
            load_speech_embedder("student")

    @pytest.mark.parametrize("frames", [None, "shared"])
    def test_spans_share_frames_unless_each_is_to_be_heard_by_itself(self, frames: Any, folder: Path) -> None:
        waveform, fragments = TestEmbed.waveform, TestEmbed.fragments
        spans = TestEmbed.spans[10:30]
        places = {"student": str(folder)}
        plain = load_speech_embedder("student", places, frames=frames)
        alone = load_speech_embedder("student", places, frames="each")
        told: list[float] = []
        rows = alone.embed(waveform, spans, "fra", fragments, told.append)
        np.testing.assert_array_equal(rows, plain.embed(waveform, spans, "fra"))
        assert np.abs(rows - plain.embed(waveform, spans, "fra", fragments)).max() > 1e-3
        inside = (fragments[:, 0] >= spans[:, 0].min()) & (fragments[:, 1] <= spans[:, 1].max())
        assert sum(told) == pytest.approx((fragments[inside, 1] - fragments[inside, 0]).sum() / 16_000)
        assert (alone.name, alone.dim, alone.card, alone.models) == (plain.name, plain.dim, plain.card, plain.models)
        with pytest.raises(InputError, match="is empty or outside"):
            alone.embed(waveform, np.array([[5, 5]]), "fra", fragments)
