"""What a student is taught: the teacher's rows, of one text or of several views, computed once and kept."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from seamlessalign.embedders.card import Card, unit_rows
from seamlessalign.embedders.student.targets import Meaning, Teacher
from seamlessalign.embedders.student.training_config import TargetsConfig
from seamlessalign.embedders.text import TextEmbedder
from seamlessalign.model_files import ModelFiles
from tests.embedders.fakes import DIM, RecordingEncoder

Float32 = NDArray[np.float32]


def _embedder() -> tuple[TextEmbedder, RecordingEncoder]:
    encoder = RecordingEncoder()
    rng = np.random.default_rng(0)
    means = {lang: (0.1 * rng.standard_normal(DIM)).astype(np.float32) for lang in ("eng", "fra")}
    files = ModelFiles("e5-small", "directory", "nowhere", (), Path(), "2" * 64)
    return TextEmbedder("e5-small", files, encoder, Card("e5-small", DIM, means)), encoder


def _targets(terms: Sequence[Any]) -> list[Float32]:
    return [term.targets.numpy() for term in terms]


MEANINGS = [Meaning("fra", "un deux", {"eng": "one two"}), Meaning("fra", "trois", {}), Meaning("eng", "four", {})]


@pytest.mark.parametrize("centre", [True, False])
def test_the_transcription_alone(centre: bool) -> None:
    embedder, _ = _embedder()
    (term,) = Teacher(embedder, TargetsConfig(centre=centre)).terms(MEANINGS, [])
    wanted = [
        (embedder.embed if centre else embedder.encode_uncentred)([meaning.text], meaning.lang)[0]
        for meaning in MEANINGS
    ]
    assert np.allclose(term.targets.numpy(), unit_rows(np.stack(wanted)), atol=1e-6)
    assert term.weight == 1 and bool(term.there.all())


def test_translations_as_terms_are_where_there_are_some() -> None:
    embedder, _ = _embedder()
    terms = Teacher(embedder, TargetsConfig(translations="terms", weight=0.5)).terms(MEANINGS, ["eng"])
    assert [term.weight for term in terms] == [1, 0.5] and terms[1].there.tolist() == [True, False, False]
    assert np.allclose(terms[1].targets.numpy()[0], embedder.embed(["one two"], "eng")[0], atol=1e-6)


def test_translations_in_the_mean() -> None:
    embedder, _ = _embedder()
    (term,) = Teacher(embedder, TargetsConfig(translations="mean", weight=0.5)).terms(MEANINGS, ["eng"])
    own = [embedder.embed([meaning.text], meaning.lang)[0] for meaning in MEANINGS]
    both = own[0] + 0.5 * embedder.embed(["one two"], "eng")[0]
    assert np.allclose(term.targets.numpy(), unit_rows(np.stack([both, own[1], own[2]])), atol=1e-6)


def test_no_meanings_have_no_rows() -> None:
    embedder, _ = _embedder()
    for kind in ("none", "mean", "terms"):
        config = TargetsConfig.model_validate({"translations": kind})
        terms = Teacher(embedder, config).terms([], [] if kind == "none" else ["eng"])
        assert all(term.targets.shape == (0, DIM) for term in terms)


class TestKept:
    def test_a_text_is_embedded_once(self, tmp_path: Path) -> None:
        embedder, encoder = _embedder()
        teacher = Teacher(embedder, TargetsConfig(), tmp_path)
        first = teacher.rows(["a", "b", "a"], "eng")
        assert np.array_equal(first, teacher.rows(["a", "b", "a"], "eng")) and len(encoder.asked) == 1
        teacher.rows(["a"], "fra")  # another language has another mean
        again, other = _embedder()
        assert np.array_equal(Teacher(again, TargetsConfig(), tmp_path).rows(["b", "a"], "eng"), first[[1, 0]])
        assert other.asked == []

    def test_other_targets_are_other_rows(self, tmp_path: Path) -> None:
        embedder, _ = _embedder()
        first = Teacher(embedder, TargetsConfig(), tmp_path).rows(["a"], "eng")
        second = Teacher(embedder, TargetsConfig(centre=False), tmp_path).rows(["a"], "eng")
        assert not np.allclose(first, second)

    def test_a_damaged_file_is_made_again(self, tmp_path: Path) -> None:
        embedder, _ = _embedder()
        first = Teacher(embedder, TargetsConfig(), tmp_path).rows(["a", "b"], "eng")
        (file,) = tmp_path.rglob("*.safetensors")
        file.write_bytes(file.read_bytes()[:-9])
        again, encoder = _embedder()
        assert np.array_equal(Teacher(again, TargetsConfig(), tmp_path).rows(["a", "b"], "eng"), first)
        assert encoder.asked == [["a", "b"]] and len(list(tmp_path.rglob("*.safetensors"))) == 1
