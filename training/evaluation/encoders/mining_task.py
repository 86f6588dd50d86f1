"""Mining against what there is to find, as the BUCC shared tasks count it (Zweigenbaum et al. 2017, section 4).

Precision is the share of pairs that are right, recall that of the items that some right pair finds, F1 their harmonic
mean, all in per cent. A pair of ids that gold does not know is wrong, as any other. Scores are taken at the threshold
that is given for a system, and at the one with the best F1, which is chosen on these very pairs. What is drawn for
intervals is a source sentence, with what there is to find for it and all that was found; where pairs were judged, an
item with the pairs that find it, or a source with its wrong pairs.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign.embedders.measures import mine_best
from seamlessalign.errors import InputError
from seamlessalign.speech_sources import Sound
from seamlessalign.training.evaluation.details import Curve, details
from seamlessalign.training.evaluation.encoders.encoder_sides import Thing, check_encoder, encode, encoder_of, read_side
from seamlessalign.training.evaluation.encoders.mined_pairs import (
    Items,
    Pairs,
    Sweep,
    check_found,
    gold_digest,
    named,
    read_gold,
    read_pairs,
    scored_pairs,
    sweep,
)
from seamlessalign.training.evaluation.encoders.mining_config import MiningTask
from seamlessalign.training.evaluation.measures import Float64, Measured, f1_percentage, percentage
from seamlessalign.training.evaluation.subjects import Tools

Found = dict[str, list[tuple[str, Measured]]]

_NOTHING = Pairs([], [], np.empty(0))


def mining(section: MiningTask, tools: Tools) -> Found:
    """What every system found in every direction of gold.

    Raises InputError for tables that lack columns, scores that are no numbers, pairs of other directions than gold's,
    and things found that gold has not.
    """
    gold = read_gold(section.gold, section.direction)
    tables = {name: read_pairs(name, one, gold, section.direction) for name, one in section.systems.items()}
    if section.encoders:
        tables |= _mined(section, gold, tools)
    for name, table in tables.items():
        for direction in sorted(table.keys() - gold.keys()):
            tools.say(f"{name}: {len(table[direction].names)} pairs of {direction}, which gold has not, do not count")
    found: Found = {name: [] for name in tables}
    told = gold_digest(gold)
    for direction, items in gold.items():
        some = {name: table.get(direction, _NOTHING) for name, table in tables.items()}
        for name, pairs in some.items():
            check_found(pairs, items, f"{name}, {direction}")
        items = named(items, list(some.values()))
        drawn = _Drawn(items, list(some.values()))
        for name, pairs in some.items():
            threshold = section.systems[name].threshold if name in section.systems else None
            if isinstance(threshold, dict):
                threshold = threshold.get(direction)
            measuring = _Measuring(section, pairs, items, drawn, told)
            found[name] += [(direction, one) for one in measuring.all(threshold)]
    return found


class _Drawn:
    """What is drawn when scores are resampled: the same of all systems, in order."""

    def __init__(self, gold: Items, systems: Sequence[Pairs]) -> None:
        units = set(gold.units.values())
        units |= {pairs.unit(place, gold) for pairs in systems for place in range(len(pairs.names))}
        self.ids = sorted(units)
        self.row = {unit: row for row, unit in enumerate(self.ids)}
        self.gold = gold

    def counts(self, pairs: Pairs, taken: npt.NDArray[np.bool_]) -> Float64:
        """Right pairs, pairs, items found, items, of each unit: `(num_units, 4)`."""
        counts, seen = np.zeros((len(self.ids), 4)), set[str]()
        for unit in self.gold.units.values():
            counts[self.row[unit], 3] += 1
        for place in np.flatnonzero(taken).tolist():
            item, row = pairs.items[place], self.row[pairs.unit(place, self.gold)]
            counts[row, 0] += item is not None
            counts[row, 1] += 1
            if item is not None and item not in seen:
                seen.add(item)
                counts[row, 2] += 1
        return counts

    def seconds(self, pairs: Pairs, taken: npt.NDArray[np.bool_]) -> Float64:
        """Seconds of the items that are found, and of all, of each unit: `(num_units, 2)`."""
        seconds, known = np.zeros((len(self.ids), 2)), self.gold.seconds or {}
        for item, unit in self.gold.units.items():
            seconds[self.row[unit], 1] += known[item]
        found = {pairs.items[place] for place in np.flatnonzero(taken).tolist()}
        for item in self.gold.units.keys() & found:
            seconds[self.row[self.gold.units[item]], 0] += known[item]
        return seconds


@dataclass(frozen=True)
class _Measuring:
    """The measures of one system in one direction."""

    section: MiningTask
    pairs: Pairs
    gold: Items
    drawn: _Drawn
    told: str  # of gold

    def all(self, threshold: float | None) -> Iterator[Measured]:
        """At the threshold, where one is given or there are no scores; and at the best."""
        if threshold is not None or self.pairs.scores is None:
            yield from self._at(threshold, "{}", "given")
        if self.pairs.scores is not None:
            found = sweep(self.pairs, self.gold) if len(self.pairs.scores) else None
            best = None if found is None else float(found.thresholds[found.best])
            yield from self._at(best, "{} at best F1", "best on these pairs", found)

    def _at(self, threshold: float | None, name: str, how: str, found: Sweep | None = None) -> Iterator[Measured]:
        taken = self.pairs.above(threshold)
        counts = self.drawn.counts(self.pairs, taken)
        unit = "items and sources of wrong pairs" if self.gold.judged else "sources"
        signature = f"threshold:{how}|gold:{self.told}|drawn:{unit}|version:1"
        sums = {key: int(value) for key, value in zip(_COUNTS, counts.sum(0), strict=True)}
        told = {"threshold": threshold, "counts": sums, **self._hours(taken), **self._odd(taken)}
        curves = [] if found is None else _curves(found, threshold, self.section.points)
        f1 = "F1" if found is None and how == "given" else "best F1"
        ids = self.drawn.ids
        yield Measured(
            "mining_f1",
            f1,
            signature,
            True,
            ids,
            counts,
            f1_percentage,
            details=details(curves, **told),
            behind=list(self._behind(taken)),
        )
        for kind, measure, columns in (("precision", "precision", [0, 1]), ("recall", "recall", [2, 3])):
            part = np.ascontiguousarray(counts[:, columns])
            none = {"undefined": "no pair was found"} if not part[:, 1].any() else {}
            yield Measured(f"mining_{kind}", name.format(measure), signature, True, ids, part, percentage, details=none)
        if self.gold.seconds is not None:
            seconds = self.drawn.seconds(self.pairs, taken)
            hours = dict(zip(("hours found", "hours of gold"), (seconds.sum(0) / 3600).tolist(), strict=True))
            measure = name.format("hours recovered")
            yield Measured(
                "hours_recovered", measure, signature, True, ids, seconds, percentage, details=details(**hours)
            )

    def _hours(self, taken: npt.NDArray[np.bool_]) -> dict[str, Any]:
        """Hours of pairs and of those that are right, where the table of pairs has seconds."""
        if not self.pairs.seconds:
            return {}
        places = np.flatnonzero(taken).tolist()
        seconds = [self.pairs.seconds.get(self.pairs.names[place], 0.0) for place in places]
        right = sum(one for one, place in zip(seconds, places, strict=True) if self.pairs.items[place] is not None)
        return {"hours": {"right pairs": right / 3600, "pairs": sum(seconds) / 3600}}

    def _odd(self, taken: npt.NDArray[np.bool_]) -> dict[str, Any]:
        """Counts of what is out of the ordinary, where there is any."""
        found = {**self.pairs.odd, "doubled lines of gold": self.gold.doubled}
        if not self.gold.judged:
            known = [{item.split("\t")[side] for item in self.gold.units} for side in (0, 1)]
            names = [self.pairs.names[place] for place in np.flatnonzero(taken).tolist()]
            found["pairs of a source that gold has not"] = sum(src not in known[0] for src, _ in names)
            found["pairs of a target that gold has not"] = sum(tgt not in known[1] for _, tgt in names)
        return {key: value for key, value in found.items() if value}

    def _behind(self, taken: npt.NDArray[np.bool_]) -> Iterator[dict[str, Any]]:
        """Wrong pairs, the best scores first, and items that are not found."""
        places = np.flatnonzero(taken).tolist()
        wrong = [place for place in places if self.pairs.items[place] is None]
        for place in wrong[: self.section.examples]:
            src, tgt = self.pairs.names[place]
            score = {} if self.pairs.scores is None else {"score": float(self.pairs.scores[place])}
            texts = dict(zip(("src_text", "tgt_text"), self.pairs.texts.get((src, tgt), ()), strict=False))
            unit = self.pairs.unit(place, self.gold)
            yield {"id": unit, "what": "wrong pair", "src": src, "tgt": tgt, **score, **texts}
        found = {self.pairs.items[place] for place in places}
        missed = [item for item in self.gold.units if item not in found and not item.startswith("\t")]  # has a name
        for item in missed[: self.section.examples]:
            src, _, tgt = item.partition("\t")
            sides = {"src": src, "tgt": tgt} if tgt else {"item": item}
            yield {"id": self.gold.units[item], "what": "not found", **sides}


_COUNTS = ("right pairs", "pairs", "items found", "items")


def _curves(found: Sweep, chosen: float | None, most: int) -> list[Curve]:
    """Precision, recall and F1 over thresholds: of many, some that are spread evenly, the best one, and both ends."""
    number = len(found.thresholds)
    places = np.unique(np.append(np.linspace(0, number - 1, min(most, number)).round().astype(int), found.best))[::-1]
    values = {"precision": found.precision, "recall": found.recall, "F1": found.f1}
    return [
        Curve(
            name,
            "threshold",
            "per cent",
            found.thresholds[places],
            100 * value[places],
            chosen=chosen,
            title="precision, recall and F1 over the threshold",
        )
        for name, value in values.items()
    ]


# Mining with encoders


def _mined(section: MiningTask, gold: Mapping[str, Items], tools: Tools) -> dict[str, dict[str, Pairs]]:
    """System → direction → what an encoder finds in the sides; a system for each way to choose pairs."""
    assert section.src is not None and section.tgt is not None
    if len(gold) != 1:
        raise InputError(f"gold has several directions, {', '.join(gold)}: encoders mine one, src and tgt")
    (direction, items), *_ = gold.items()
    if items.judged:
        raise InputError(f"{section.gold.path}: has no pairs of ids, which encoders are measured with")
    sides = [read_side(side) for side in (section.src, section.tgt)]
    for place, (side, what) in enumerate(zip(sides, ("src", "tgt"), strict=True)):
        unknown = sorted({item.split("\t")[place] for item in items.units} - set(side.ids))
        if unknown:
            raise InputError(f"{section.gold.path}: {len(unknown)} ids of gold are not in {what}, such as {unknown[0]}")
    for name, encoder in section.encoders.items():
        check_encoder(name, encoder, [side.side for side in sides])
    found = {}
    for name, encoder in section.encoders.items():
        tools.say(f"{name}: mining {len(sides[0].ids)} and {len(sides[1].ids)} sentences")
        src, tgt = (encode(encoder_of(encoder, tools), side.side, side.things, encoder.centre) for side in sides)
        for how in section.retrieval:
            system = name if len(section.retrieval) == 1 else f"{name} ({how})"
            rows, others, margins = mine_best(src.rows, tgt.rows, section.k, how)
            names = [(sides[0].ids[i], sides[1].ids[j]) for i, j in zip(rows.tolist(), others.tolist(), strict=True)]
            right = [f"{a}\t{b}" if f"{a}\t{b}" in items.units else None for a, b in names]
            odd = {
                f"{what} without an embedding: {reason}": count
                for side, what in ((src, "src"), (tgt, "tgt"))
                for reason, count in sorted(Counter(side.failed.values()).items())
            }
            said = [dict(zip(side.ids, side.things, strict=True)) for side in sides]
            texts = {(a, b): (_shown(said[0][a]), _shown(said[1][b])) for a, b in names}
            found[system] = {direction: scored_pairs(names, right, margins.astype(np.float64), odd, texts)}
    return found


def _shown(thing: Thing) -> str | None:
    return str(Path(thing.path).name) if isinstance(thing, Sound) else thing
