"""Encoders: whether the rows of one side find what says the same among all rows of another.

xsim is the share of queries whose best row by ratio margin, among the k nearest by cosine, is wrong (Artetxe and
Schwenk 2019, section 3; as LASER counts it). xsim++ is the same in a pool to which every target's perturbations
were added (Chen et al. 2023, section 3). P@1 is the share whose nearest is right, by cosine and by margin over the
whole pool, and so in both directions. A row is right as well when its words, or those of the side that asks, are the
words of the right one. What is drawn for intervals are queries; the pool stays as it is.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign.embedders.measures import Best, best_of_each, best_targets
from seamlessalign.embedders.text import spoken_form
from seamlessalign.errors import ConfigError
from seamlessalign.languages import Side
from seamlessalign.speech_sources import Sound
from seamlessalign.training.evaluation.details import Table, details
from seamlessalign.training.evaluation.encoders import perturbations
from seamlessalign.training.evaluation.encoders.encoder_config import Encoder, EncodersTask, parse_sides
from seamlessalign.training.evaluation.encoders.encoder_sides import (
    Parallel,
    Thing,
    check_encoder,
    encode,
    encoder_of,
    read_parallel,
)
from seamlessalign.training.evaluation.encoders.perturbations import Perturbation, perturb
from seamlessalign.training.evaluation.learned.embedded import Embedded
from seamlessalign.training.evaluation.measures import Measured, percentage
from seamlessalign.training.evaluation.subjects import Tools

Int64 = npt.NDArray[np.int64]
Found = dict[str, list[tuple[str, Measured]]]


def encoders(section: EncodersTask, tools: Tools) -> Found:
    """What every encoder finds in every direction.

    Raises InputError for rows that lack what is asked for, and encoders that do not know a language; ConfigError where
    xsim++ is asked for and no direction leads to text that there are rules for.
    """
    rows = read_parallel(section.rows, tools.say)
    directions = [parse_sides(direction) for direction in section.directions] or rows.directions
    pairs = [_Pair(section, rows, src, tgt) for src, tgt in directions]
    if "xsim++" in section.measures and not any(pair.has_rules for pair in pairs):
        raise ConfigError(f"xsim++ needs a direction into text in one of {', '.join(perturbations.languages())}")
    for name, encoder in section.systems.items():
        sides = list(dict.fromkeys(side for pair in pairs for side in (pair.src, pair.tgt)))
        check_encoder(name, encoder, sides, ", or directions without it")
    for pair in pairs:
        if "xsim++" in section.measures and not pair.has_rules:
            tools.say(f"xsim++ of {pair.name}: not measured, there are rules for text in other languages alone")
    found: Found = {}
    for name, encoder in section.systems.items():
        found[name] = []
        for pair in pairs:
            tools.say(f"{name}: {pair.name}, {len(pair.places)} rows")
            found[name] += [(pair.name, one) for one in pair.measured(encoder, tools)]
    return found


class _Pair:
    """The rows of one direction, and what is measured with them."""

    def __init__(self, section: EncodersTask, rows: Parallel, src: Side, tgt: Side) -> None:
        self._section, self._rows, self.src, self.tgt = section, rows, src, tgt
        self.name = f"{src}-{tgt}"
        self.places = rows.places(src, tgt)
        self.ids = [rows.ids[i] for i in self.places]
        self.things = {side: [rows.sides[side][i] for i in self.places] for side in (src, tgt)}
        self.labels = {side: words_of(self._texts(side)) for side in (src, tgt)}
        self.has_rules = not tgt.is_audio and tgt.lang in perturbations.languages()
        self._signature = f"rows:{rows.digest()}|same:words|drawn:queries|k:{section.k}|margin:ratio|version:1"

    def measured(self, encoder: Encoder, tools: Tools) -> Iterator[Measured]:
        embedders, section = encoder_of(encoder, tools), self._section
        src = encode(embedders, self.src, self.things[self.src], encoder.centre)
        tgt = encode(embedders, self.tgt, self.things[self.tgt], encoder.centre)
        told = {
            "encoder": {
                str(side): embedders.signature("speech" if side.is_audio else "text", side.lang)
                for side in (self.src, self.tgt)
            }
            | {"centre": encoder.centre},
            **self._rows.without(self.src, self.tgt),
        }
        if "xsim" in section.measures:
            best = best_targets(src.rows, tgt.rows, section.k, among=section.k)
            yield self._xsim(src, tgt, best.margin, told)
        if "xsim++" in section.measures and self.has_rules:
            yield self._xsim_plus(src, encoder, tools, told)
        if "p_at_1" in section.measures:
            both = best_of_each(src.rows, tgt.rows, section.k)
            for best, queries, others, back in (
                (both[0], self.src, self.tgt, ""),
                (both[1], self.tgt, self.src, "back "),
            ):
                yield from self._p_at_1(best, queries, others, back, (src, tgt), told)

    def _xsim(self, src: Embedded, tgt: Embedded, best: Int64, told: dict[str, Any]) -> Measured:
        right = self.right(best)
        return self._of(
            "xsim",
            "xsim",
            f"{self._signature}|among:{self._section.k}",
            ~right,
            higher_is_better=False,
            sides=(src, tgt),
            told=told,
            behind=self._errors(self.src, self.tgt, best, right),
        )

    def _xsim_plus(self, src: Embedded, encoder: Encoder, tools: Tools, told: dict[str, Any]) -> Measured:
        section, made = self._section, self._section.perturbed
        texts = [str(thing) for thing in self.things[self.tgt]]
        hard = tools.once(
            ("perturbed", self.name),
            lambda: perturb(texts, self.tgt.lang, kinds=made.kinds, limit=made.limit, seed=made.seed),
        )
        flat = [one for some in hard for one in some]
        more = [one.text for one in flat]
        pool = encode(encoder_of(encoder, tools), self.tgt, self.things[self.tgt], encoder.centre, more)
        best = best_targets(src.rows, pool.rows, section.k, among=section.k).margin
        right = self.right(best)
        kinds = error_kinds(best, right, hard)
        wrong, there = Counter(kind for kind in kinds if kind), Counter(str(one.kind) for one in flat)
        shares = [
            [kind, wrong[kind], round(100 * wrong[kind] / len(kinds), 2), there.get(kind)]
            for kind in (*made.kinds, *_OTHER_ERRORS)
        ]
        own = Embedded(pool.rows, {place: reason for place, reason in pool.failed.items() if place < len(texts)})
        return self._of(
            "xsim++",
            "xsim++",
            f"{self._signature}|among:{section.k}|{perturbations.signature(made.kinds, made.limit, made.seed)}",
            ~right,
            higher_is_better=False,
            sides=(src, own),
            told={
                **told,
                "perturbations": {kind: there[kind] for kind in made.kinds},
                "sentences with perturbations": sum(map(bool, hard)),
                "errors": {kind: wrong[kind] for kind in (*made.kinds, *_OTHER_ERRORS)},
            },
            tables=[
                Table("xsim++ errors by kind", ["kind", "queries", "per cent", "perturbations in the pool"], shares)
            ],
            behind=self._errors(self.src, self.tgt, best, right, flat, kinds),
        )

    def _p_at_1(
        self, best: Best, queries: Side, others: Side, back: str, sides: Sequence[Embedded], told: dict[str, Any]
    ) -> Iterator[Measured]:
        for how, found in (("", best.cosine), ("margin ", best.margin)):
            right, name = self.right(found), f"P@1 {back}{how}".strip()
            signature = (
                self._signature if how else self._signature.replace(f"|k:{self._section.k}|margin:ratio", "|by:cosine")
            )
            yield self._of(
                f"p_at_1 {back}{how}".strip().replace(" ", "_"),
                name,
                signature,
                right,
                higher_is_better=True,
                sides=sides,
                told=told,
                behind=self._errors(queries, others, found, right),
            )

    def right(self, best: Int64) -> npt.NDArray[np.bool_]:
        """Whether each query found its own row, or one with the same words on either side; perturbations are wrong."""
        own = np.arange(len(best))
        real = (best >= 0) & (best < len(best))
        there = np.where(real, best, 0)
        same = there == own
        for labels in self.labels.values():
            same |= labels[there] == labels
        return np.asarray(real & same)

    def _of(
        self,
        kind: str,
        measure: str,
        signature: str,
        values: npt.NDArray[np.bool_],
        *,
        higher_is_better: bool,
        sides: Sequence[Embedded],
        told: dict[str, Any],
        behind: list[dict[str, Any]],
        tables: Sequence[Table] = (),
    ) -> Measured:
        failed = {
            f"{side}: {reason}": count
            for side, one in zip((self.src, self.tgt), sides, strict=True)
            for reason, count in sorted(Counter(one.failed.values()).items())
        }
        return Measured(
            kind,
            measure,
            signature,
            higher_is_better,
            self.ids,
            np.stack([values.astype(np.float64), np.ones(len(values))], axis=1),
            percentage,
            missing=len({*sides[0].failed, *sides[1].failed}),
            details=details(tables=tables, **told, failed=failed),
            behind=behind,
        )

    def _errors(
        self,
        queries: Side,
        others: Side,
        best: Int64,
        right: npt.NDArray[np.bool_],
        hard: Sequence[Perturbation] = (),
        kinds: Sequence[str] = (),
    ) -> list[dict[str, Any]]:
        found = []
        for i in np.flatnonzero(~right)[: self._section.examples].tolist():
            place = int(best[i])
            what = kinds[i] if kinds else "sentence" if place >= 0 else "nothing"
            row = {"id": self.ids[i], "what": what, "query": self._shown(queries, i), "right": self._shown(others, i)}
            if place >= len(self.ids):
                row |= {"found": hard[place - len(self.ids)].text}
            elif place >= 0:
                row |= {"found": self._shown(others, place), "found_id": self.ids[place]}
            else:
                row |= {"found": None}
            found.append(row)
        return found

    def _shown(self, side: Side, row: int) -> str:
        """What a row has on a side, for people."""
        text = self._texts(side)[row]
        thing = self.things[side][row]
        if text is not None:
            return text
        return f"{thing.path} {'' if thing.row < 0 else thing.row}".strip() if isinstance(thing, Sound) else str(thing)

    def _texts(self, side: Side) -> list[str | None]:
        """What the rows say on a side; of speech what a text in its language says, where there is one."""
        written: Sequence[Thing] = self._rows.sides.get(Side(side.lang, is_audio=False), [None] * len(self._rows.ids))
        return [str(written[i]) if written[i] is not None else None for i in self.places]


_OTHER_ERRORS = ("sentence", "perturbation of another sentence", "nothing")


def words_of(texts: Sequence[str | None]) -> Int64:
    """A number for the words of each text, case and punctuation aside; one of its own where there is none."""
    told = [f"\t{i}" if text is None or not text.strip() else spoken_form(text) for i, text in enumerate(texts)]
    return np.asarray(np.unique(told, return_inverse=True)[1], np.int64)


def error_kinds(best: Int64, right: npt.NDArray[np.bool_], hard: Sequence[Sequence[Perturbation]]) -> list[str]:
    """What each query of `(num_rows,)` found instead of the right row; empty where that was found.

    A kind of perturbation where it is one of its own target, `sentence` for another row, or what it is of another row,
    and `nothing` where nothing was found. hard: the perturbations of each row, which lie in the pool behind all rows.
    """
    flat = [one for some in hard for one in some]
    kinds = []
    for i, (place, found) in enumerate(zip(best.tolist(), right.tolist(), strict=True)):
        if found:
            kinds.append("")
        elif place < 0:
            kinds.append("nothing")
        elif place < len(hard):
            kinds.append("sentence")
        else:
            one = flat[place - len(hard)]
            # the same text may be made of two sentences, of which the first is found
            own = [other.kind for other in hard[i] if other.text == one.text]
            kinds.append(own[0] if own else "perturbation of another sentence")
    return kinds
