"""Batches that are halved where a GPU is out of memory. There is none here: what raises its error is a fake."""

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seamlessalign.device_memory import do_batches
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.whisper import Whisper
from tests.ground.tiny_whisper import save_directory, tiny_model


class FakeGpu:
    """Has room for so many at a time; a batch that does not fit fails after the first of it was stored."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.stored: dict[int, int] = {}
        self.done: list[list[int]] = []

    def work(self, batch: list[int]) -> None:
        for place, i in enumerate(batch):
            if place == self.room:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
            self.stored[i] = i * i
        self.done.append(batch)


@pytest.mark.parametrize("room", [1, 2, 3, 7, 100])
def test_all_is_done_once_and_in_order(room: int) -> None:
    rng = random.Random(room)
    batches, first = [], 0
    for size in [rng.randrange(1, 17) for _ in range(20)]:
        batches.append(list(range(first, first + size)))
        first += size
    gpu = FakeGpu(room)
    do_batches(batches, gpu.work)
    assert gpu.stored == {i: i * i for i in range(first)}
    assert [i for batch in gpu.done for i in batch] == list(range(first))
    assert max(map(len, gpu.done)) <= room


def test_one_that_does_not_fit_alone_is_an_error_and_others_are_not_caught() -> None:
    with pytest.raises(torch.cuda.OutOfMemoryError):
        do_batches([[0, 1, 2, 3]], FakeGpu(0).work)

    def broken(batch: list[int]) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        do_batches([[0, 1]], broken)


def test_whisper_hears_the_same_in_smaller_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whisper = Whisper(save_directory(tmp_path, tiny_model()))
    rng = np.random.default_rng(1)
    waveforms = [(0.1 * rng.standard_normal(SAMPLE_RATE * 2)).astype(np.float32) for _ in range(7)]
    told: list[float] = []

    def all_three() -> tuple[Any, Any, Any]:
        told.clear()
        heard = whisper.hear(waveforms, "fra", ["transcribe", "translate"], told.append)
        return whisper.identify(waveforms), heard, [frames.detach().numpy() for frames in whisper.encode(waveforms)]

    languages, heard, frames = all_three()
    assert sum(told) == pytest.approx(14.0)
    encode, sizes = whisper._encode, list[int]()

    def small(part: Sequence[Any], layer: int | None = None) -> Any:
        sizes.append(len(part))
        if len(part) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return encode(part, layer)

    patched: Callable[..., Any] = small
    monkeypatch.setattr(whisper, "_encode", patched)
    again, heard_again, frames_again = all_three()
    assert max(sizes) == 7 and sizes.count(2) >= 3
    assert sum(told) == pytest.approx(14.0)
    for once, twice in zip(itertools.chain(*heard), itertools.chain(*heard_again), strict=True):
        assert replace(once, logprob=0.0) == replace(twice, logprob=0.0)
        assert once.logprob == pytest.approx(twice.logprob, rel=1e-5)
    for one, other in zip(languages, again, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    for values, same in zip(frames, frames_again, strict=True):
        np.testing.assert_allclose(values, same, atol=1e-5)
