"""What a model learns from: an example, the tasks that it serves, and a padded batch of several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from seamlessalign.speech_sources import Sound

if TYPE_CHECKING:
    import torch

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]

# asr: speech → its own text; s2tt, t2tt: speech, text → text; s2st, t2st: speech, text → text and units
Task = Literal["asr", "s2tt", "t2tt", "s2st", "t2st"]

TEXT_PAD = 0
UNIT_PAD = 1


@dataclass(frozen=True, eq=False)
class Example:
    """A row of a source, as one task takes it: `src` is what goes in.

    Of `asr` both texts are the transcription. `t2st` with the same text twice is what a T2U is pre-trained on.
    """

    key: str  # hex digits that change with the content
    place: str  # file and row, for people
    src_lang: str  # ISO 639-3
    tgt_lang: str
    src_text: str | None
    tgt_text: str | None
    src_sound: Sound | None
    src_seconds: float  # as listed; 0 where there is no sound
    tgt_sound: Sound | None
    tgt_units: Int32 | None  # (num_units,), without adjacent repeats
    margin: float | None  # of mined pairs
    human: bool  # people made or checked the pair
    source: int  # number of its source
    machine_texts: tuple[bool, bool] = (False, False)  # whether a machine wrote the source's text, the target's


@dataclass(frozen=True, eq=False)
class Item:
    """An example in one of its tasks, with its speech as features."""

    example: Example
    task: Task
    features: Float32 | None = None  # (num_frames, 160); None where the task starts from text


class TextTokens(Protocol):
    """What a batch needs of a text vocabulary."""

    def source(self, text: str, lang: str) -> list[int]:
        """`[tag] pieces </s>`."""

    def target(self, text: str, lang: str) -> list[int]:
        """`</s> [tag] pieces </s>`."""


class UnitTokens(Protocol):
    """What a batch needs of a unit vocabulary."""

    def target(self, units: Sequence[int], lang: str) -> list[int]:
        """`</s> [tag] units </s>`."""


@dataclass
class UnityBatch:
    """Rows of a batch as tensors, padded on the right. A part is there for all rows, or None."""

    tgt_tokens: "torch.Tensor"  # (rows, tgt_len) int64: `</s> [tag] pieces </s>`, pad 0
    features: "torch.Tensor | None"  # (rows, frames, 160) float32, 50 frames a second
    feature_mask: "torch.Tensor | None"  # (rows, frames) int64: 1 is real
    src_tokens: "torch.Tensor | None"  # (rows, src_len) int64: `[tag] pieces </s>`, pad 0
    src_mask: "torch.Tensor | None"  # (rows, src_len) int64: 1 is real
    unit_tokens: "torch.Tensor | None"  # (rows, unit_len) int64: `</s> [tag] units </s>`, pad 1
    tasks: list[Task]
    keys: list[str]
    places: list[str]  # file and row of each, for people
    src_langs: list[str]  # ISO 639-3
    tgt_langs: list[str]
    tgt_texts: list[str]  # as the source has them: what a vocabulary cannot write is there too
    rejects: dict[str, str] = field(default_factory=dict)  # place of a row that could not be used → reason

    def __len__(self) -> int:
        """How many rows there are; none where all were rejected."""
        return len(self.tasks)

    def to(self, device: Any) -> "UnityBatch":
        """The batch with its tensors on a device."""
        moved = {name: value.to(device) for name in _TENSORS if (value := getattr(self, name)) is not None}
        return replace(self, **moved)


_TENSORS = ("tgt_tokens", "features", "feature_mask", "src_tokens", "src_mask", "unit_tokens")


def collate(
    items: Sequence[Item],
    text: TextTokens,
    units: UnitTokens | None = None,
    rejects: Mapping[str, str] | None = None,
) -> UnityBatch:
    """Items as one padded batch. Of each part either all have it, or it is left out for all.

    Units are those of `s2st` and `t2st`; source text of speech is there for a teacher that reads it. A batch of no
    items has `tgt_tokens` `(0, 0)`.

    Raises ValueError where a task starts from speech in some items only, or an item lacks what its task needs.
    """
    import torch

    examples = [item.example for item in items]
    spoken = [item.features for item in items if item.features is not None]
    if spoken and len(spoken) < len(items):
        raise ValueError("a batch holds items with features and items without")
    units_wanted = [item.task in ("s2st", "t2st") for item in items]
    if any(units_wanted) and not all(units_wanted):
        raise ValueError("a batch holds tasks with units and tasks without")

    features = feature_mask = None
    if spoken:
        lengths = torch.tensor([len(one) for one in spoken])
        features = torch.zeros(len(spoken), int(lengths.max()), spoken[0].shape[1])
        for row, one in enumerate(spoken):
            features[row, : len(one)] = torch.from_numpy(one)
        feature_mask = (torch.arange(features.shape[1]) < lengths[:, None]).long()

    src_tokens = src_mask = None
    if items and all(example.src_text for example in examples):
        src_tokens, src_mask = _padded([text.source(e.src_text or "", e.src_lang) for e in examples], TEXT_PAD)
    elif items and not spoken:
        raise ValueError(f"{next(e.place for e in examples if not e.src_text)}: has neither speech nor source text")

    unit_tokens = None
    if any(units_wanted):
        if units is None:
            raise ValueError("units are to be learnt, but there is no unit vocabulary")
        unit_tokens, _ = _padded([units.target(_units(e), e.tgt_lang) for e in examples], UNIT_PAD)

    return UnityBatch(
        tgt_tokens=_padded([text.target(_text(e), e.tgt_lang) for e in examples], TEXT_PAD)[0],
        features=features,
        feature_mask=feature_mask,
        src_tokens=src_tokens,
        src_mask=src_mask,
        unit_tokens=unit_tokens,
        tasks=[item.task for item in items],
        keys=[example.key for example in examples],
        places=[example.place for example in examples],
        src_langs=[example.src_lang for example in examples],
        tgt_langs=[example.tgt_lang for example in examples],
        tgt_texts=[_text(example) for example in examples],
        rejects=dict(rejects or {}),
    )


def _text(example: Example) -> str:
    if not example.tgt_text:
        raise ValueError(f"{example.place}: has no target text")
    return example.tgt_text


def _units(example: Example) -> list[int]:
    if example.tgt_units is None:
        raise ValueError(f"{example.place}: has no units")
    return [int(unit) for unit in example.tgt_units]


def _padded(rows: Sequence[Sequence[int]], pad: int) -> "tuple[torch.Tensor, torch.Tensor]":
    """Rows of ids `(rows, longest)`, padded on the right, and a mask that is 1 where they are real."""
    import torch

    tokens = torch.full((len(rows), max(map(len, rows), default=0)), pad, dtype=torch.int64)
    mask = torch.zeros_like(tokens)
    for row, ids in enumerate(rows):
        tokens[row, : len(ids)] = torch.tensor(ids, dtype=torch.int64)
        mask[row, : len(ids)] = 1
    return tokens, mask
