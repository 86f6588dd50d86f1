"""Scores of a measure put together: by place, and as means over directions, as papers report them.

A mean is taken of directions that all systems have a score for, all with the settings of that direction; others are
not in it, and named. Where a measure has settings of its own for some languages (a tokenizer, a normaliser), the mean
says which there are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seamlessalign.training.evaluation.pages.page_parts import group_of, verdict, verdicts_of
from seamlessalign.training.evaluation.written import Aim, Written, WrittenScore

GROUPS = ("X → eng", "eng → X", "others")
ALL = "all"


@dataclass(frozen=True)
class MeasureScores:
    """All scores of one measure of one task."""

    task: str
    measure: str
    baseline: str
    scores: Sequence[WrittenScore]

    @property
    def aim(self) -> Aim:
        return self.scores[0].aim

    def systems(self) -> list[str]:
        return list(dict.fromkeys(one.system for one in self.scores))

    def conditions(self) -> list[str]:
        return list(dict.fromkeys(one.condition for one in self.scores))

    def signatures(self) -> list[str]:
        return list(dict.fromkeys(one.signature for one in self.scores))

    def by_place(self) -> dict[tuple[str, str], dict[str, WrittenScore]]:
        """(direction, condition) → system → score, in order of directions."""
        found: dict[tuple[str, str], dict[str, WrittenScore]] = {}
        for one in self.scores:
            found.setdefault((one.direction, one.condition), {})[one.system] = one
        order = {condition: number for number, condition in enumerate(self.conditions())}
        return dict(sorted(found.items(), key=lambda item: (item[0][0], order[item[0][1]])))


@dataclass(frozen=True)
class Average:
    """The mean of a measure over directions."""

    group: str  # one of GROUPS, or ALL
    condition: str
    settings: Sequence[str]  # in which directions differ, if they do: the parts of signatures that others lack
    directions: Sequence[str]
    means: Mapping[str, float]  # by system
    verdicts: Mapping[str, Mapping[str, int]]  # system → better, worse or differs → directions
    left_out: Sequence[
        str
    ]  # directions of the group that are not in it: of a system without a score, or with other settings


def measures_of(written: Written) -> list[MeasureScores]:
    """Scores by task and measure, in order."""
    found: dict[tuple[str, str], list[WrittenScore]] = {}
    for one in written.scores:
        found.setdefault((one.task, one.measure), []).append(one)
    return [
        MeasureScores(task, measure, written.baselines.get(task, scores[0].system), scores)
        for (task, measure), scores in found.items()
    ]


def averages(measure: MeasureScores) -> list[Average]:
    """Means of all directions and, of what was measured first, of the groups in which papers average, if several."""
    found = []
    for number, condition in enumerate(measure.conditions()):
        places = {place[0]: some for place, some in measure.by_place().items() if place[1] == condition}
        groups: dict[str, list[str]] = {}
        for direction in places:
            groups.setdefault(group_of(direction), []).append(direction)
        names = [name for name in GROUPS if name in groups]
        for name in [ALL, *names] if len(names) > 1 and not number else [ALL]:
            mean = _average(measure, condition, name, places, list(places) if name == ALL else groups[name])
            found += [mean] if mean else []
    return found


def _average(
    measure: MeasureScores,
    condition: str,
    group: str,
    places: Mapping[str, Mapping[str, WrittenScore]],
    directions: Sequence[str],
) -> Average | None:
    """The mean of some directions; None of fewer than two."""
    systems = measure.systems()
    meant: dict[str, str] = {}  # direction → signature
    for direction in directions:
        some = places[direction]
        signatures = {one.signature for one in some.values()}
        if all(name in some and some[name].score is not None for name in systems) and len(signatures) == 1:
            meant[direction] = signatures.pop()
    if len(meant) < 2:
        return None
    verdicts = {name: dict.fromkeys(verdicts_of(measure.aim), 0) for name in systems}
    for direction in meant:
        for name, one in places[direction].items():
            if one.comparison and (told := verdict(one.comparison, one.aim)):
                verdicts[name][told] += 1
    means = {name: _mean([places[direction][name].score for direction in meant]) for name in systems}
    settings = sorted({_telling_part(signature, list(meant.values())) for signature in meant.values()})
    left_out = [direction for direction in directions if direction not in meant]
    return Average(group, condition, [one for one in settings if one], list(meant), means, verdicts, left_out)


def _mean(values: Sequence[float | None]) -> float:
    there = [value for value in values if value is not None]
    return sum(there) / len(there)


def _telling_part(signature: str, all_signatures: Sequence[str]) -> str:
    """What of a signature others of the same measure do not have."""
    common = set.intersection(*(set(one.split("|")) for one in all_signatures))
    return "|".join(part for part in signature.split("|") if part not in common)
