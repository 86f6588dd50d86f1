"""Parallel texts to learn from: lines of JSON, each an object of texts that mean the same, by language.

    {"eng": "Enter the number", "spa": "Introduzca el número", "fra": "Entrez le numéro"}

Each epoch takes one text of each item. Which one, and what noise does to it, follows from the seed, the epoch and the
item's number.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from seamlessalign.embedders.student.recordings import Plan, epoch_batches, random
from seamlessalign.embedders.student.text_noise import noisy
from seamlessalign.embedders.student.training_config import DataConfig, SourceConfig, TextConfig, TrainingConfig
from seamlessalign.errors import ConfigError, InputError
from seamlessalign.languages import get_language
from seamlessalign.speech_rows import has_words, parallel_lines

_CHOICE, _NOISE, _BANK = range(100, 103)  # streams of random numbers, apart from those of recordings


@dataclass(frozen=True)
class ParallelText:
    """Texts that mean the same, in the order of their languages."""

    place: str  # file and line, for people
    texts: tuple[tuple[str, str], ...]  # (language, text), more than one of them or only that in the translation
    text: str  # the one that the others are learnt to mean
    lang: str
    translations: tuple[tuple[str, str], ...] = ()  # none that matter where texts are held out


@dataclass(frozen=True)
class Written:
    """A text in one language, and its translation."""

    lang: str
    text: str
    translations: tuple[tuple[str, str], ...]
    heard: str  # the text with noise, where there is any


def read_texts(
    sources: Sequence[SourceConfig], data: DataConfig, config: TextConfig, counted: Counter[str]
) -> list[ParallelText]:
    """All usable items of some sources, in order; those that are too long are counted in `counted` by reason.

    Raises InputError that names file and line for one that is no JSON object, lacks the translation, or has an empty
    text or an unknown language; and where nothing is usable.
    """
    found: list[ParallelText] = []
    for source in sources:
        for number, (place, values) in enumerate(parallel_lines(source.path)):
            if source.max_items is not None and number >= source.max_items:
                break
            item = _item(place, values, config.translation)
            if max(len(text) for _, text in item.texts) > data.max_chars:
                counted["text_too_long"] += 1
            elif config.max_words is not None and len(item.text.split()) > config.max_words:
                counted["too_many_words"] += 1
            elif not any(_weights(item, config)):
                counted["language_of_weight_0"] += 1
            else:
                found.append(item)
    if not found:
        reasons = ", ".join(f"{count} {reason}" for reason, count in counted.most_common()) or "it is empty"
        raise InputError(f"{', '.join(source.path for source in sources)}: nothing to learn from: {reasons}")
    return found


def written_in(items: Sequence[ParallelText], languages: Sequence[str], translation: str) -> list[Written]:
    """The texts of items in some languages, by language, each with its translation."""
    found: dict[str, list[Written]] = {lang: [] for lang in languages}
    for item in items:
        for lang, text in item.texts:
            if lang in found:
                found[lang].append(Written(lang, text, ((translation, item.text),), text))
    return [written for some in found.values() for written in some]


class TextLoader(torch.utils.data.Dataset):  # type: ignore[misc]
    """The texts of a batch that one process takes, by epoch and place of the batch in it."""

    def __init__(self, items: Sequence[ParallelText], config: TrainingConfig, rank: int = 0, world: int = 1) -> None:
        self._items, self._config, self._share = items, config, (rank, world)
        self._epoch: tuple[int, list[int], list[list[int]]] = (-1, [], [])

    def batches(self, epoch: int) -> list[list[int]]:
        """Numbers of the items of each batch of an epoch, over all processes: texts of like length."""
        if self._epoch[0] != epoch:
            seed = self._config.seed
            chosen = choose_texts(self._items, self._config.text, seed, epoch)
            # a plan's seconds are only compared: letters do as well
            plans = [
                Plan(number, (number,), (), False, float(len(item.texts[place][1])))
                for number, (item, place) in enumerate(zip(self._items, chosen, strict=True))
            ]
            self._epoch = (epoch, chosen, epoch_batches(plans, self._config.optimiser.batch, seed, epoch))
        return self._epoch[2]

    def num_batches(self, epoch: int) -> int:
        return len(self.batches(epoch))

    def __getitem__(self, where: tuple[int, int]) -> list[Written]:
        epoch, position = where
        rank, world = self._share
        numbers = self.batches(epoch)[position][rank::world]
        return [self._written(number, self._epoch[1][number], epoch) for number in numbers]

    def bank(self, epoch: int, position: int) -> list[int]:
        """Numbers of the items whose translations a batch must not find; the same in every process."""
        rng = random(self._config.seed, _BANK, epoch, position)
        return [int(i) for i in rng.integers(len(self._items), size=self._config.losses.bank)]

    def _written(self, number: int, place: int, epoch: int) -> Written:
        config, item = self._config.text, self._items[number]
        lang, text = item.texts[place]
        rng = random(self._config.seed, _NOISE, epoch, number)
        heard = noisy(text, rng) if rng.random() < config.noise else text
        return Written(lang, text, ((config.translation, item.text),), heard)


def choose_texts(items: Sequence[ParallelText], config: TextConfig, seed: int, epoch: int) -> list[int]:
    """For each item the place of the text that an epoch takes, drawn by the weights of the languages it has."""
    drawn = random(seed, _CHOICE, epoch).random(len(items))
    chosen = []
    for item, share in zip(items, drawn, strict=True):
        ends = np.cumsum(_weights(item, config))
        chosen.append(min(int(np.searchsorted(ends, share * ends[-1], side="right")), len(ends) - 1))
    return chosen


def _weights(item: ParallelText, config: TextConfig) -> list[float]:
    others = sum(lang not in config.languages for lang, _ in item.texts)
    return [config.languages.get(lang, config.other_languages / max(1, others)) for lang, _ in item.texts]


def _item(place: str, values: Mapping[str, str], translation: str) -> ParallelText:
    texts: dict[str, str] = {}
    for code, written in values.items():
        text = " ".join(written.split())
        if not has_words(text):
            raise InputError(f"{place}: the text in {code} is empty")
        try:
            texts[get_language(code).iso639_3] = text
        except ConfigError as error:
            raise InputError(f"{place}: {error}") from error
    if translation not in texts:
        raise InputError(f"{place}: has no text in {translation}; there are {', '.join(sorted(texts)) or 'none'}")
    return ParallelText(place, tuple(sorted(texts.items())), texts[translation], translation)
