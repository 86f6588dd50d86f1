"""The door: from the settings of a training to its batches, those that are learnt and those that are held out."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from seamlessalign import storage
from seamlessalign.errors import InputError
from seamlessalign.training.data.augmentation import slowest_speed
from seamlessalign.training.data.batches import Reader, UnityBatches
from seamlessalign.training.data.examples import TextTokens, UnitTokens
from seamlessalign.training.data.index import RowIndex, SubwordCutter, make_index
from seamlessalign.training.data.limits import Items, Vocabularies, usable_items
from seamlessalign.training.data.mixing import Mixture, choose, each_once, first_of_each, mix
from seamlessalign.training.data.settings import AugmentSettings, DataSource, TranslationData
from seamlessalign.training.data.sources import RowSource
from seamlessalign.typed_config import digest

ACCOUNT_FILE = "account.json"
_FOLDS = 1 << 16
_OPEN = 1_250_000  # bytes that are kept open for each MB of a window: the next one begins before this one ends


class TextVocabularyLike(TextTokens, SubwordCutter, Protocol):
    """What data need of a text vocabulary."""

    languages: dict[str, int]


class UnitVocabularyLike(UnitTokens, Protocol):
    """What data need of a unit vocabulary."""

    languages: dict[str, int]
    num_units: int


@dataclass(frozen=True, eq=False)
class PreparedData:
    """Batches of this process, and what was set aside."""

    train: UnityBatches
    validation: UnityBatches  # its only epoch is 0, without changes
    set_aside: Counter[str]  # reason → how many, of all sources
    by_source: dict[str, Counter[str]] = field(default_factory=dict)  # the same of each source
    digest: str = ""  # changes with the rows

    @property
    def summary(self) -> str:
        """How much there is, in a few words."""
        mixture = self.train.mixture
        told = f"{_amount(mixture.items)}, {len(self.validation.mixture.items)} held out"
        if mixture.repeated or mixture.left_over:
            told += f"; of an epoch's {int(mixture.counts.sum())} are {mixture.repeated} repeats"
            told += f", {mixture.left_over} wait for the next ones"
        return told


def prepare_data(
    data: TranslationData,
    text: TextVocabularyLike,
    units: UnitVocabularyLike | None,
    seed: int,
    folder: Path | None = None,
    rank: int = 0,
    world: int = 1,
) -> PreparedData:
    """List the sources, choose what is learnt, and plan its batches.

    folder: where the index of rows is kept, and `account.json` with what is learnt and set aside of each source; what
    another process has written there is used, so let one go first.

    Raises InputError for a source that is not there, cannot be read, lacks a column or has nothing that is usable.
    """

    def batches(part: _Part, mixture: Mixture, augment: AugmentSettings | None) -> UnityBatches:
        reader = Reader(mixture.items, part.settings, part.sources, data.batches.window_mb * _OPEN)
        return UnityBatches(mixture, reader, text, units, data.batches, augment, seed, rank, world)

    vocabularies = Vocabularies(text.languages)
    if units is not None:
        vocabularies = Vocabularies(text.languages, units.languages, units.num_units)
    augment = data.augment if _any(data.augment) else None
    part = _listed(data.train, data, slowest_speed(data.augment), text, vocabularies, _inside(folder, "train"))
    learnt, left_out = choose(part.items, data.train, data.choice)
    part.set_aside(left_out)
    told = {f"train.{number} ({one.kind})": part.aside[number] for number, one in enumerate(data.train)}
    if data.validation:
        other = _listed(data.validation, data, 1.0, text, vocabularies, _inside(folder, "validation"))
        held = other.items
        told |= {f"validation.{number} ({one.kind})": other.aside[number] for number, one in enumerate(data.validation)}
    else:
        other, (learnt, held, both) = part, _split(learnt, data.validation_share)
        part.set_aside(_counted(both, len(part.settings), "text_also_learnt"))
    for found, lacking in ((learnt, "nothing is left to learn from"), (held, "nothing is held out")):
        if not len(found):
            raise InputError(f"data: {lacking}; change validation_share or choice, or give validation sources")
    kept = first_of_each(held, data.validation_items)
    other.set_aside(_counted(held.where(np.flatnonzero(~kept)), len(other.settings), "beyond_validation_items"))

    mixture = mix(learnt, data.train, data.tasks, data.mixing)
    if folder is not None:
        _write(folder / ACCOUNT_FILE, mixture, told)
    train = batches(part, mixture, augment)
    return PreparedData(
        train,
        batches(other, each_once(held.where(np.flatnonzero(kept))), None),
        sum(told.values(), Counter[str]()),
        told,
        digest(part.index.digest, other.index.digest, *([train.noises.digest] if train.noises else [])),
    )


@dataclass(frozen=True, eq=False)
class _Part:
    """Sources of one part of the data, and what they offer."""

    settings: Sequence[DataSource]
    index: RowIndex
    sources: Sequence[RowSource]
    items: Items
    aside: list[Counter[str]]  # of each source

    def set_aside(self, more: Sequence[Counter[str]]) -> None:
        for counter, other in zip(self.aside, more, strict=True):
            counter.update(other)


def _listed(
    settings: Sequence[DataSource],
    data: TranslationData,
    slowest: float,
    text: TextVocabularyLike,
    vocabularies: Vocabularies,
    folder: Path | None,
) -> _Part:
    """List some sources. Raises InputError for one that has nothing within the limits."""
    index, sources = make_index(settings, text, folder)
    items, aside = usable_items(index, settings, data.tasks, data.limits, data.batches, slowest, vocabularies)
    there = np.bincount(index.sources[items.rows], minlength=len(sources))
    for number, source in enumerate(settings):
        if not there[number]:
            told = ", ".join(f"{count} {reason}" for reason, count in aside[number].most_common()) or "it is empty"
            raise InputError(f"{source.path}: nothing to learn from for {', '.join(data.tasks)}: {told}")
    return _Part(settings, index, sources, items, aside)


def _split(items: Items, share: float) -> tuple[Items, Items, Items]:
    """Items to learn, those that are held out, and those of which some text would be held out and another is learnt.

    A row would be where one of its texts is, which follows from that text alone: more data moves nothing, and rows of
    many languages that share a text stay together. What a machine heard is asked only where nobody wrote any.
    """
    of_row, machine = items.index.rows["said"][items.rows], items.index.rows["machine"][items.rows]
    written = np.where(machine[:, None] >> np.arange(2) & 1 == 1, 0, of_row)
    asked = np.where((written > 0).any(axis=1, keepdims=True), written, of_row)
    behind = ((asked > 0) & (asked % _FOLDS < max(1, round(share * _FOLDS)))).any(axis=1)
    said = np.stack([items.of_side("said", sides) for sides in (items.src_sides, items.tgt_sides)], axis=1)
    said[~items.reads_source, 0] = 0
    known = (np.isin(said, said[~behind]) & (said > 0)).any(axis=1)
    learnt, held, both = (np.flatnonzero(chosen) for chosen in (~behind, behind & ~known, behind & known))
    return items.where(learnt), items.where(held), items.where(both)


def _write(file: Path, mixture: Mixture, aside: Mapping[str, Counter[str]]) -> None:
    """How many items there are of each source, task and direction, how many an epoch has, of how many there are a
    machine wrote a text, and what is set aside.
    """
    by_machine = np.bincount(mixture.group[mixture.items.machine_texts], minlength=len(mixture.names)).tolist()
    shares = zip(mixture.names, mixture.sizes.tolist(), mixture.counts.tolist(), by_machine, strict=True)
    account = {
        "items": {
            name: {"there": there, "in_an_epoch": count} | ({"machine_texts": machine} if machine else {})
            for name, there, count, machine in shares
        },
        "set_aside": {name: dict(sorted(counts.items())) for name, counts in aside.items()},
    }
    storage.write_bytes_atomic(str(file), (json.dumps(account, indent=1) + "\n").encode())


def _counted(items: Items, num_sources: int, reason: str) -> list[Counter[str]]:
    counts = np.bincount(items.index.sources[items.rows], minlength=num_sources).tolist()
    return [Counter({reason: count} if count else {}) for count in counts]


def _inside(folder: Path | None, name: str) -> Path | None:
    return None if folder is None else folder / name


def _any(augment: AugmentSettings) -> bool:
    """Whether anything is done to speech at all."""
    return bool(
        augment.speed
        or augment.noise
        or augment.gain_db
        or augment.reverb
        or augment.codec
        or augment.frequency_masks
        or augment.time_masks
    )


def _amount(items: Items) -> str:
    hours = float(items.seconds[items.has_speech].sum()) / 3600
    return f"{len(items)} items ({hours:.2f} h of speech)"
