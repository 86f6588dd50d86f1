"""What a model makes of what is held out: losses by task and direction, and translations beside their references."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from seamlessalign.errors import InputError
from seamlessalign.training.data.examples import UnityBatch
from seamlessalign.training.unity.config import UnityLosses
from seamlessalign.training.unity.generation import Translator
from seamlessalign.training.unity.learner import FOUND, UnityLearner
from seamlessalign.training.unity.search import SearchOptions
from seamlessalign.training.vocabulary import TextVocabulary
from seamlessalign.training_steps import Batches

# whose BLEU is over characters, as in the SeamlessM4T paper
_BY_CHARACTER = ("cmn", "jpn", "tha", "lao", "mya")
_GREEDY = SearchOptions(beam=1)

_Direction = tuple[str, str, str]  # task, source and target language


class HeldOut:
    """Batches that are measured whole, always the same; each process has its part of them."""

    def __init__(self, batches: Batches, losses: UnityLosses, text: TextVocabulary, translate: int) -> None:
        """translate: rows of each direction for which a translation is made."""
        self._batches, self._losses, self._text, self._translate = batches, losses, text, translate
        self._chosen: set[str] | None = None  # keys of rows to translate

    def measure(self, learner: UnityLearner, accelerator: Any) -> dict[str, Any]:
        """A line of metrics; all processes call it, and each has the whole line.

        `nll` is the mean over tokens, of text and units, of those losses that are learnt, but for the divergence.
        """
        with torch.no_grad():
            found, keys, rejects = self._losses_here(learner, accelerator)
            parts = _from_all((found, keys, rejects), accelerator)
            if self._translate:
                chosen = self._choose([(way, key) for _, there, _ in parts for way, key in there])
                said = [
                    pair for part in _from_all(self._said(learner, accelerator, chosen), accelerator) for pair in part
                ]
        sums: dict[_Direction, list[float]] = defaultdict(lambda: [0.0] * len(FOUND))
        for one, _, _ in parts:
            for way, row in one.items():
                sums[way] = [a + b for a, b in zip(sums[way], row, strict=True)]
        directions = {" ".join((way[0], "-".join(way[1:]))): _told(sums[way]) for way in sorted(sums)}
        line: dict[str, Any] = self._overall(list(sums.values()))
        aside = sorted({place for _, _, places in parts for place in places})
        if aside:
            line["unreadable"] = len(aside)
        if self._translate:
            line |= self._scores(said, directions)
        return line | {"directions": directions}

    def _losses_here(self, learner: UnityLearner, accelerator: Any) -> tuple[Any, Any, list[str]]:
        """Sums of what is found by direction, the rows that there are, and those that could not be read."""
        sums: dict[_Direction, list[float]] = {}
        keys: list[tuple[_Direction, str]] = []
        rejects: list[str] = []
        for batch in self._here(rejects):
            batch = batch.to(accelerator.device)
            _, rows = learner(batch)
            for way, key, row in zip(_directions(batch), batch.keys, rows.double().tolist(), strict=True):
                sums[way] = [a + b for a, b in zip(sums.get(way, [0.0] * len(FOUND)), row, strict=True)]
                keys.append((way, key))
        return sums, keys, rejects

    def _here(self, rejects: list[str]) -> Iterator[UnityBatch]:
        for place in range(self._batches.num_batches(0) or 0):
            batch = self._batches[0, place]
            if batch is not None:
                rejects += batch.rejects
                if len(batch):
                    yield batch

    def _overall(self, rows: Sequence[Sequence[float]]) -> dict[str, float]:
        losses = self._losses
        learnt = {"s2tt": losses.s2tt or losses.kd, "t2tt": losses.t2tt, "t2u": losses.t2u}
        totals = dict(zip(FOUND, map(sum, zip(*rows, strict=True)), strict=True))
        nll = sum(totals[f"{name}_nll"] for name, weight in learnt.items() if weight)
        tokens = sum(totals[f"{name}_tokens"] for name, weight in learnt.items() if weight)
        if not tokens:
            raise InputError("data: nothing that is held out has a loss that is learnt; give data.validation such rows")
        mean = nll / tokens
        return {"nll": mean, "perplexity": _perplexity(mean)}

    # Translations

    def _choose(self, rows: Sequence[tuple[_Direction, str]]) -> set[str]:
        """The same rows each time, whatever the number of processes."""
        if self._chosen is None:
            by_way = defaultdict(set)
            for way, key in rows:
                by_way[way].add(key)
            self._chosen = {f"{way} {key}" for way, keys in by_way.items() for key in sorted(keys)[: self._translate]}
        return self._chosen

    def _said(self, learner: UnityLearner, accelerator: Any, chosen: set[str]) -> list[tuple[_Direction, str, str]]:
        """Translations of the rows of this process that were chosen: direction, translation, reference as given."""
        unity, found = learner.unity, []
        translator = Translator(unity, self._text, text_search=_GREEDY)
        for batch in self._here([]):
            ways = _directions(batch)
            rows = [i for i, (way, key) in enumerate(zip(ways, batch.keys, strict=True)) if f"{way} {key}" in chosen]
            if not rows:
                continue
            batch = batch.to(accelerator.device)
            with accelerator.autocast():
                if batch.features is not None and batch.feature_mask is not None:
                    states, mask = unity.encode_speech(batch.features[rows], batch.feature_mask[rows])
                else:
                    assert batch.src_tokens is not None and batch.src_mask is not None
                    states, mask = unity.encode_text(batch.src_tokens[rows], batch.src_mask[rows])
                made = translator.find_text(states, mask, [ways[i][2] for i in rows])
            for i, one in zip(rows, made, strict=True):
                found.append((ways[i], self._text.decode(one.tokens), batch.tgt_texts[i]))
        return found

    def _scores(self, said: Sequence[tuple[_Direction, str, str]], directions: dict[str, Any]) -> dict[str, float]:
        """BLEU and chrF of each direction, into `directions`; and their means over directions."""
        import sacrebleu

        by_way = defaultdict(list)
        for way, made, reference in said:
            by_way[way].append((made, reference))
        for way, pairs in sorted(by_way.items()):
            lines = [made for made, _ in pairs]
            references = [reference for _, reference in pairs]
            by = "char" if way[2] in _BY_CHARACTER else "13a"
            directions[f"{way[0]} {way[1]}-{way[2]}"] |= {
                "bleu": sacrebleu.corpus_bleu(lines, [references], tokenize=by).score,
                "chrf": sacrebleu.corpus_chrf(lines, [references]).score,
                "translated": len(pairs),
            }
        scored = [told for told in directions.values() if "bleu" in told]
        return {name: sum(told[name] for told in scored) / len(scored) for name in ("bleu", "chrf") if scored}


def _directions(batch: UnityBatch) -> list[_Direction]:
    return list(zip(batch.tasks, batch.src_langs, batch.tgt_langs, strict=True))


def _told(row: Sequence[float]) -> dict[str, float]:
    """Of one direction: means over tokens of what is decoded from speech (s2tt), from text (t2tt), and of units."""
    at, told = dict(zip(FOUND, row, strict=True)), {}
    for name in ("s2tt", "t2tt", "t2u"):
        tokens = at[f"{name}_tokens"]
        if tokens:
            nll = at[f"{name}_nll"] / tokens
            told[f"{name}_nll"], told[f"{name}_perplexity"] = nll, _perplexity(nll)
            told[f"{name}_accuracy"] = at[f"{name}_right"] / tokens
            told[f"{name}_tokens"] = int(tokens)
    if at["kd_tokens"]:
        told["kd"] = at["kd"] / at["kd_tokens"]
    return told


def _perplexity(nll: float) -> float:
    return math.exp(min(nll, 700.0))  # beyond, a float has no number


def _from_all(value: Any, accelerator: Any) -> list[Any]:
    """What each process has, in the order of processes."""
    if accelerator.num_processes == 1:
        return [value]
    from accelerate.utils import gather_object

    return list(gather_object([value]))
