"""Made rows of every task, batches of them, and the smallest model that learns them."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from seamlessalign.training.data.examples import Example, Item, Task, UnityBatch, collate
from seamlessalign.training.unity.model import UnitY
from tests.training.tiny_unity import SENTENCES, tiny_text, tiny_units, tiny_unity


def made_unity(seed: int = 0, **changes: Any) -> UnitY:
    """With units, and without dropout."""
    still = dict.fromkeys(("dropout", "attention_dropout", "adaptor_dropout", "speech_encoder_dropout"), 0.0)
    return tiny_unity(tiny_text(), tiny_units(), seed, **(still | changes))


def item(task: Task, number: int, *, source_text: bool = True) -> Item:
    """A row of made speech, a sentence and units, all of which follow from its number."""
    rng = np.random.default_rng(number)
    spoken = task in ("asr", "s2tt", "s2st")
    lang: Literal["eng", "fra"] = "fra" if task != "asr" else "eng"
    source = " ".join(SENTENCES[3 + number % 3].split()[: 2 + number % 4])
    target = " ".join(SENTENCES[number % 3].split()[: 2 + number % 5])
    if task == "asr":
        source = target
    example = Example(
        key=f"{number:08x}",
        place=f"made row {number}",
        src_lang=lang,
        tgt_lang="eng",
        src_text=source if source_text or not spoken else None,
        tgt_text=target,
        src_sound=None,
        src_seconds=0.0,
        tgt_sound=None,
        tgt_units=rng.integers(0, tiny_units().num_units, 3 + number % 7).astype(np.int32),
        margin=None,
        human=True,
        source=0,
    )
    frames = rng.normal(size=(12 + 5 * (number % 6), 160)).astype(np.float32)
    return Item(example, task, frames if spoken else None)


def batch_of(items: Sequence[Item]) -> UnityBatch:
    return collate(items, tiny_text(), tiny_units())
