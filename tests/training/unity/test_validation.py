"""What validation measures translations by: the texts as the data has them."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from seamlessalign.training.data.examples import UnityBatch
from seamlessalign.training.unity.config import UnityLosses
from seamlessalign.training.unity.learner import UnityLearner
from seamlessalign.training.unity.validation import HeldOut
from tests.training.tiny_unity import SENTENCES, tiny_text
from tests.training.unity.made_rows import batch_of, item, made_unity

pytest.importorskip("accelerate", reason="needs accelerate of the extra 'train'")


class _Batches:
    def __init__(self, batches: Sequence[UnityBatch]) -> None:
        self._batches = batches

    def num_batches(self, epoch: int) -> int:
        return len(self._batches)

    def __getitem__(self, where: tuple[int, int]) -> UnityBatch:
        return self._batches[where[1]]


def _held_out(text: str, kept: int = 2) -> tuple[HeldOut, str]:
    """Two rows of each direction whose target is this text; and how the vocabulary writes it."""
    items = [item("asr", i) for i in range(3)]
    batches = [batch_of([replace(one, example=replace(one.example, tgt_text=text)) for one in items])]
    vocabulary = tiny_text()
    written = vocabulary.decode(vocabulary.target(text, "eng"))
    return HeldOut(_Batches(batches), UnityLosses(), vocabulary, kept), written


def test_references_are_not_what_the_vocabulary_makes_of_them() -> None:
    from accelerate import Accelerator

    raw = "  ½ — 龍 " + SENTENCES[0]
    held_out, written = _held_out(raw)
    assert written != raw and "龍" not in written
    learner = UnityLearner(made_unity(), UnityLosses()).eval()
    line = held_out.measure(learner, Accelerator(cpu=True))
    assert line["directions"]["asr eng-eng"]["translated"] == 2
    said = held_out._said(learner, Accelerator(cpu=True), held_out._chosen or set())
    assert [reference for _, _, reference in said] == [raw, raw]


def test_scores_are_of_the_raw_texts() -> None:
    """One that is written as the vocabulary does is not the whole text, so not perfect."""
    raw = "龍 龍 " + SENTENCES[0]
    held_out, written = _held_out(raw)
    way = ("asr", "eng", "eng")
    assert held_out._scores([(way, raw, raw)], {"asr eng-eng": {}})["bleu"] == pytest.approx(100)
    assert held_out._scores([(way, written, raw)], {"asr eng-eng": {}})["chrf"] < 99
