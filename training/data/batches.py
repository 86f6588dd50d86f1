"""Batches of a training, made by epoch and place: rows are read, heard, changed, and padded together."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign.embedders.sonar import features as sonar_features
from seamlessalign.errors import InputError, UnreadableError
from seamlessalign.speech_sources import load_sound
from seamlessalign.training.data.augmentation import Noises, changed, masked, slowest_speed
from seamlessalign.training.data.epochs import EpochPlan, plan_epoch, split
from seamlessalign.training.data.examples import Example, Item, Task, TextTokens, UnitTokens, UnityBatch, collate
from seamlessalign.training.data.limits import ALONE, OFFERS, SPOKEN, WITH_UNITS, Items, most_frames
from seamlessalign.training.data.mixing import Mixture
from seamlessalign.training.data.settings import TASK_NAMES, AugmentSettings, BatchSettings, DataSource
from seamlessalign.training.data.sources import OpenGroups, RowSource

Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]

_CHANGES, _MASKS = 4, 5  # streams of random numbers
_SPARE = 1.25  # what is kept open, beside the window: the next one begins before this one ends


class Reader:
    """Reads items of an index again: their texts, sound and units."""

    def __init__(self, items: Items, settings: Sequence[DataSource], sources: Sequence[RowSource], memory: int) -> None:
        """memory: bytes of row groups that are kept open."""
        self._items, self._settings = items, settings
        self._sources, self._memory = sources, memory
        spoken = items.where(np.flatnonzero(items.has_speech))
        self._heard = set(np.unique(items.index.sources[spoken.rows]).tolist())  # sources whose sound is wanted
        self._opened: OpenGroups | None = None

    @property
    def opened(self) -> OpenGroups:
        """The row groups that this process has open."""
        if self._opened is None:
            self._opened = OpenGroups(self._sources, self._memory)
        return self._opened

    def __getstate__(self) -> dict[str, Any]:
        """Processes that load data open groups of their own."""
        return self.__dict__ | {"_opened": None}

    def place(self, number: int) -> str:
        """File and row of an item, for people."""
        listed = self._items.index.rows[int(self._items.rows[number])]
        source, group = self._items.index.group(int(listed["group"]))
        return self._sources[source].place(group, int(listed["row"]))

    def example(self, number: int) -> tuple[Example, Task]:
        """An item as an example, its sound where it is: not decoded yet.

        Raises UnreadableError where it cannot be read any more, or is not what it was when it was listed.
        """
        items, index = self._items, self._items.index
        row = int(items.rows[number])
        listed = index.rows[row]
        source, group = index.group(int(listed["group"]))
        try:
            opened = self.opened.get(source, group, sound=source in self._heard)
        except InputError as error:
            raise UnreadableError("unreadable", str(error)) from error
        found = opened.row(int(listed["row"]))
        if found.problem is not None:
            raise found.problem
        name, src = OFFERS[int(items.offers[number])]
        tgt = src if name in ALONE else 1 - src
        by_machine = [bool(listed["machine"] >> side & 1) for side in (0, 1)]
        written = [bool(chars) and not machine for chars, machine in zip(listed["chars"], by_machine, strict=True)]
        if any(bool(side.text) < has for side, has in zip(found.sides, written, strict=False)):
            raise UnreadableError("changed", f"{found.place}: has lost its text")
        texts = [
            None if not index.texts_in(TASK_NAMES.index(name), row, side)[0]
            else index.texts.of(row, side) if by_machine[side] else found.sides[side].text
            for side in (src, tgt)
        ]  # fmt: skip
        going, coming = found.sides[src], found.sides[tgt]
        if name in SPOKEN and going.sound is None:
            raise going.problem or UnreadableError("changed", f"{found.place}: has lost its sound")
        margin = float(listed["margin"])
        example = Example(
            key=f"{int(listed['key']):016x}",
            place=found.place,
            src_lang=going.lang,
            tgt_lang=coming.lang,
            src_text=texts[0],
            tgt_text=texts[1],
            src_sound=going.sound if name in SPOKEN else None,
            src_seconds=float(listed["seconds"][src]) if name in SPOKEN else 0.0,
            tgt_sound=coming.sound if tgt != src else None,
            tgt_units=index.units_of(row, tgt).astype(np.int32) if name in WITH_UNITS else None,
            margin=None if np.isnan(margin) else margin,
            human=self._settings[source].human and not bool(items.machine_texts[number]),
            source=source,
            machine_texts=(by_machine[src] and texts[0] is not None, by_machine[tgt]),
        )
        return example, "t2st" if name == "t2u" else name


class UnityBatches:
    """This process's part of the batches of each epoch: `Batches` of the training loop."""

    def __init__(
        self,
        mixture: Mixture,
        reader: Reader,
        text: TextTokens,
        units: UnitTokens | None,
        settings: BatchSettings,
        augment: AugmentSettings | None,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """Of process `rank` of `world`. Without `augment` speech is taken as it is."""
        self.mixture, self.reader = mixture, reader
        self._text, self._units = text, units
        self._settings, self._augment, self._seed = settings, augment, seed
        self._rank, self._world = rank, world
        self._slowest = 1.0 if augment is None else slowest_speed(augment)
        self.noises = Noises(augment.noises) if augment is not None and augment.noises else None
        self._plans: dict[int, EpochPlan] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Processes that load data plan for themselves: it is sooner done than sent."""
        return self.__dict__ | {"_plans": {}}

    def plan(self, epoch: int) -> EpochPlan:
        """The plan of an epoch; the latest two are kept, since loading is in the next one before this one ends."""
        if epoch not in self._plans:
            self._plans[epoch] = plan_epoch(self.mixture, self._settings, self._slowest, self._seed, epoch)
            for old in list(self._plans)[:-2]:
                del self._plans[old]
        return self._plans[epoch]

    def num_batches(self, epoch: int) -> int:
        return self.plan(epoch).num_batches

    def items(self, epoch: int, place: int) -> tuple[Int64, Int64]:
        """The items of this process's part of a batch, as places in the mixture's, and which time they come."""
        plan = self.plan(epoch)
        there = plan.batch(place)
        items, times = plan.items[there], plan.times[there]
        lengths = self.mixture.items.where(items).lengths(self._slowest)
        costs = lengths[:, 0] if lengths[0, 0] else lengths[:, 1] + lengths[:, 2]  # frames, else tokens
        mine = split(costs, self._world) == self._rank
        return items[mine], times[mine]

    def __getitem__(self, where: tuple[int, int]) -> UnityBatch | None:
        """The batch at (epoch, place); None where this process has no row of it.

        Rows that cannot be used after all are left out and told in `rejects`; the batch has no rows where none can.
        Besides the reasons of `load_sound` these are `longer_than_listed`, `too_short`, `unreadable` (a row group) and
        `changed`.
        """
        epoch, place = where
        numbers, times = self.items(epoch, place)
        if not len(numbers):
            return None
        made: list[Item] = []
        rejects: dict[str, str] = {}
        for number, time in zip(numbers.tolist(), times.tolist(), strict=True):
            try:
                made.append(self._item(number, epoch, time))
            except UnreadableError as error:
                rejects[self.reader.place(number)] = error.reason
        return collate(made, self._text, self._units, rejects)

    def _item(self, number: int, epoch: int, time: int) -> Item:
        example, task = self.reader.example(number)
        if example.src_sound is None:
            return Item(example, task)
        waveform = load_sound(example.src_sound, example.src_text or "", example.place)
        augment = self._augment
        key = int(example.key, 16)
        if augment is not None:
            waveform = changed(waveform, augment, self._random(_CHANGES, epoch, key, time), self.noises)
        found = _features(waveform, example.place)
        most = int(most_frames(np.array([example.src_seconds]), self._slowest)[0])
        if len(found) > most:
            listed = f"{example.place}: has {len(found)} frames, at most {most} by the length that is listed"
            raise UnreadableError("longer_than_listed", listed)
        if augment is not None:
            found = masked(found, augment, self._random(_MASKS, epoch, key, time))
        return Item(example, task, found)

    def _random(self, stream: int, epoch: int, key: int, time: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, stream, epoch, key, time])


def _features(waveform: Float32, place: str) -> Float32:
    import torch

    if len(waveform) < sonar_features.MIN_SAMPLES:
        raise UnreadableError("too_short", f"{place}: has {len(waveform)} samples")
    return np.asarray(sonar_features.features(torch.from_numpy(waveform)).numpy(), np.float32)
