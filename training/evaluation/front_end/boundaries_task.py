"""Boundaries of speech that systems found in recordings, against known ones, from tables and folders of runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from seamlessalign import storage
from seamlessalign.errors import InputError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.training.evaluation.details import Table, details
from seamlessalign.training.evaluation.front_end import boundaries
from seamlessalign.training.evaluation.front_end.boundaries import Span
from seamlessalign.training.evaluation.front_end.front_end_config import Boundaries, BoundaryColumns, Spans
from seamlessalign.training.evaluation.measures import Float64, Measured, ScoreOf
from seamlessalign.training.evaluation.rows import named, table_lines
from seamlessalign.training.evaluation.subjects import Tools
from seamlessalign.typed_config import digest

VERSION = 1  # of what counts how
FEW = 20  # recordings, fewer than which say nothing of how scores vary: stretches of them are drawn then
_ROUNDING = 1e-9  # of a second: 0.54 s is 0.25 s after 0.29 s
_LISTED = 50  # recordings that a table has lines for

# measure → how it is called, and its score of sums of hits, known ones and found ones
SCORES: dict[str, tuple[str, ScoreOf]] = {
    "f1": ("boundary F1", boundaries.f1),
    "precision": ("boundary precision", boundaries.precision),
    "recall": ("boundary recall", boundaries.recall),
    "r_value": ("boundary R-value", boundaries.r_value),
    "span_recall": ("span recall", boundaries.recall),
    "speech_f1": ("speech F1", boundaries.f1),
}


@dataclass(frozen=True)
class Recording:
    """A recording whose boundaries are known, and what a system found in it."""

    name: str  # as the table of what is known has it
    lang: str
    known: list[Span]  # seconds
    found: list[Span] = field(default_factory=list)


def measured(section: Boundaries, tools: Tools) -> dict[str, list[tuple[str, Measured]]]:
    """`boundaries` of a configuration: what is found of each system. There is one direction, which has no name.

    Raises InputError for spans that are none, and recordings that do not fit together.
    """
    known, langs = read_spans(section.truth, of_runs=False)
    found: dict[str, list[tuple[str, Measured]]] = {}
    for name, system in section.systems.items():
        spans, _ = read_spans(system, of_runs=True)
        joined, others = _joined(list(known), spans, system.path)
        if others:
            tools.say(f"{name}: found spans in {others} recordings that nothing is known of")
        recordings = [Recording(one, langs.get(one, ""), known[one], joined.get(one, [])) for one in known]
        found[name] = [("", one) for one in measure_boundaries(section, recordings, others)]
    return found


def measure_boundaries(section: Boundaries, recordings: Sequence[Recording], not_asked: int = 0) -> Iterator[Measured]:
    """What is asked for, of recordings in any order."""
    ordered = sorted(recordings, key=lambda one: one.name)
    counted = [_Counted(one, section) for one in ordered]
    whole = len(ordered) >= FEW
    ids = [key for one in counted for key in one.ids(whole)]
    truth = digest([(one.name, one.known) for one in ordered])[:8]
    unit = "recording" if whole else f"{section.stretch_seconds:g}s"
    missing = sum(len(one.ids(whole)) for one in counted if not one.recording.found)
    for name in section.measures:
        title, score = SCORES[name]
        told = f"truth:{truth}|unit:{unit}|version:{VERSION}"
        if name != "speech_f1":
            told = f"tolerance:{section.tolerance:g}s|merge:{section.merge:g}s|{told}"
        rows = np.concatenate([one.rows(name, whole) for one in counted])
        yield Measured(
            f"boundary_{name}",
            title,
            told,
            True,
            ids,
            rows,
            score,
            missing=missing,
            details=_details(name, counted, not_asked),
            behind=[row for one in counted for row in one.missed()] if name in ("f1", "recall") else (),
        )


class _Counted:
    """Hits, known ones and found ones in a recording, by stretches of it; what is after the last is in the last."""

    def __init__(self, recording: Recording, section: Boundaries) -> None:
        self.recording, self._tolerance = recording, section.tolerance + _ROUNDING
        self.known = boundaries.boundaries_of(recording.known, section.merge + _ROUNDING)
        self.found = boundaries.boundaries_of(recording.found, section.merge + _ROUNDING)
        self.pairs = boundaries.matched(self.known, self.found, self._tolerance)
        last = max((end for _, end in recording.known), default=0.0)
        self._length, self._stretches = section.stretch_seconds, max(1, int(np.ceil(last / section.stretch_seconds)))

    def ids(self, whole: bool) -> list[str]:
        if whole:
            return [self.recording.name]
        return [f"{self.recording.name} at {self._length * i:g} s" for i in range(self._stretches)]

    def rows(self, measure: str, whole: bool) -> Float64:
        """Statistics of a measure, `(1 or num_stretches, 3)`."""
        rows = self._of_spans() if measure == "span_recall" else self._of_boundaries()
        if measure == "speech_f1":
            rows = self._of_speech()
        return rows.sum(0, keepdims=True) if whole else rows

    def missed(self) -> Iterator[dict[str, Any]]:
        """Boundaries that were not found, for people."""
        hits = {i for i, _ in self.pairs}
        for i, point in enumerate(self.known):
            if i not in hits:
                nearest = min(self.found, key=lambda other: (abs(other - point), other), default=None)
                yield {
                    "id": self.recording.name,
                    "what": "boundary not found",
                    "seconds": round(point, 3),
                    "nearest": None if nearest is None else round(nearest, 3),
                }

    def _place(self, time: float) -> int:
        return min(int(time // self._length), self._stretches - 1)

    def _of_boundaries(self) -> Float64:
        rows = np.zeros((self._stretches, 3))
        home = {j: self._place(self.known[i]) for i, j in self.pairs}  # a hit counts where it is known
        for place in home.values():
            rows[place, 0] += 1
        for point in self.known:
            rows[self._place(point), 1] += 1
        for j, point in enumerate(self.found):
            rows[home.get(j, self._place(point)), 2] += 1
        return rows

    def _of_spans(self) -> Float64:
        """Found ones are not counted: of candidates that overlap many are meant to be wrong."""
        rows = np.zeros((self._stretches, 3))
        known = self.recording.known
        hits = boundaries.spans_found(known, self.recording.found, self._tolerance)
        for (start, _), hit in zip(known, hits, strict=True):
            rows[self._place(start)] += (hit, 1, 0)
        return rows

    def _of_speech(self) -> Float64:
        """Seconds."""
        known, found = (boundaries.united(some) for some in (self.recording.known, self.recording.found))
        end = max((span[1] for span in [*known, *found]), default=0.0)
        edges = [self._length * i for i in range(self._stretches)]
        edges.append(max(end, self._length * self._stretches))
        parts = (boundaries.shared(known, found), known, found)
        return np.stack([boundaries.covered(part, edges) for part in parts], axis=1)


# What is told


def _details(measure: str, counted: Sequence[_Counted], not_asked: int) -> dict[str, Any]:
    without = [one.recording.name for one in counted if not one.recording.found]
    told: dict[str, Any] = {
        "recordings": len(counted),
        "recordings_without_spans": len(without) or None,
        "recordings_not_asked": not_asked or None,
    }
    sums = {one.recording.name: one.rows(measure, whole=True)[0] for one in counted}
    if measure == "speech_f1":
        hits, known, found = sum(sums.values(), np.zeros(3)).round(2).tolist()
        told |= {"seconds_missed": round(known - hits, 2), "seconds_of_false_alarm": round(found - hits, 2)}
    elif measure == "f1":
        offsets = np.array([one.found[j] - one.known[i] for one in counted for i, j in one.pairs])
        if len(offsets):
            told["mean_offset_ms"] = round(1000 * float(offsets.mean()), 1)  # more than 0: found too late
            told["mean_absolute_offset_ms"] = round(1000 * float(np.abs(offsets).mean()), 1)
    if measure not in ("f1", "span_recall", "speech_f1"):
        return details(**told)  # the same counts as f1's
    langs = {one.recording.lang for one in counted}
    tables = []
    if langs != {""}:
        by_lang = {
            lang: sum((sums[one.recording.name] for one in counted if one.recording.lang == lang), np.zeros(3))
            for lang in sorted(langs)
        }
        tables.append(_table(measure, "language", by_lang))
    if len(sums) <= _LISTED:
        tables.append(_table(measure, "recording", sums))
    return details(tables=tables, **told)


def _table(measure: str, by: str, sums: Mapping[str, Float64]) -> Table:
    shares = {"precision": boundaries.precision, "recall": boundaries.recall, "F1": boundaries.f1}
    counts = ["hits", "known", "found"]
    if measure == "span_recall":  # found ones are not counted
        shares, counts = {"recall": boundaries.recall}, counts[:2]
    rows = [
        (
            name,
            *(int(one) if one.is_integer() else round(one, 2) for one in some.tolist()[: len(counts)]),
            *(round(score(some), 2) for score in shares.values()),
        )
        for name, some in sums.items()
    ]
    return Table(f"{SCORES[measure][0]} by {by}", (by, *counts, *shares), rows)


# Reading


def read_spans(spans: Spans, *, of_runs: bool) -> tuple[dict[str, list[Span]], dict[str, str]]:
    """Recording → spans in seconds, and recording → language where the table says it.

    A row without start and end tells of a recording without speech. of_runs: whether a folder may be that of a run,
    whose segments are the spans. Raises InputError for what is no span, and a recording of several languages.
    """
    if of_runs and (segments := _segments(spans.path)) is not None:
        return _of_run(segments), {}
    found: dict[str, list[Span]] = {}
    langs: dict[str, str] = {}
    columns = spans.columns
    for where, values, _ in table_lines(spans.path, columns):
        lacks = [name for name in (columns.recording, columns.start, columns.end) if name not in values]
        if lacks:
            raise InputError(f"{where}: has no {lacks[0]}, but {', '.join(values)}: name it under columns")
        name, lang = str(values[columns.recording] or ""), str(values.get(columns.lang) or "")
        if not name:
            raise InputError(f"{where}: has no {columns.recording}: every span needs one")
        if langs.setdefault(name, lang) != lang:
            raise InputError(f"{where}: {name} is {lang} here, and {langs[name]} before: a recording has one language")
        some = found.setdefault(name, [])
        if (span := _span(values, columns, spans.unit, where)) is not None:
            some.append(span)
    if not found:
        raise InputError(f"{spans.path}: has no rows")
    return found, langs


def _segments(path: str) -> list[str] | None:
    """Tables of segments where a folder is a run's, which may have none, or its `segments`."""
    inside = storage.list_files(storage.join(path, "segments"), ".parquet")
    if inside or storage.exists(storage.join(path, "run.yaml")):
        return inside
    files = storage.list_files(path, ".parquet")
    return files if any("/lang=" in file.removeprefix(path) for file in files) else None


def _of_run(files: Sequence[str]) -> dict[str, list[Span]]:
    found: dict[str, list[Span]] = {}
    for file in files:
        table = storage.read_table(file, ["uri", "start", "end"])
        for uri, start, end in zip(*(column.to_pylist() for column in table.columns), strict=True):
            found.setdefault(uri, []).append((start / SAMPLE_RATE, end / SAMPLE_RATE))
    return found


def _span(values: Mapping[str, Any], columns: BoundaryColumns, unit: str, where: str) -> Span | None:
    given = [values[columns.start], values[columns.end]]
    if all(value is None or value == "" for value in given):
        return None
    try:
        start, end = (float(value) for value in given)
    except (TypeError, ValueError):
        start = end = float("nan")
    told = f"{where}: {given[0]!r} to {given[1]!r}"
    if not 0 <= start < end < float("inf"):
        raise InputError(f"{told} is no span: it ends after it starts, which is at 0 or later")
    if unit == "samples" and not (start.is_integer() and end.is_integer()):
        raise InputError(f"{told} are no whole samples: set unit: seconds")
    return (start / SAMPLE_RATE, end / SAMPLE_RATE) if unit == "samples" else (start, end)


def _joined(known: Sequence[str], found: Mapping[str, list[Span]], place: str) -> tuple[dict[str, list[Span]], int]:
    """Spans of recordings by the names that are known, and how many recordings have none: names are the same where the
    shorter path is the end of the longer, with or without the ending of the file's name.
    """
    by_name: dict[str, dict[str, None]] = {}
    for name in known:
        for end in _last(name):
            by_name.setdefault(end, {})[name] = None
    exact, others = set(known), 0
    joined: dict[str, list[Span]] = {}
    origin: dict[str, str] = {}
    for name, spans in found.items():
        near = dict.fromkeys(one for end in _last(name) for one in by_name.get(end, ()))
        same = [name] if name in exact else [one for one in near if _same_end(one, name)]
        if len(same) > 1:
            raise InputError(f"{place}: {name} may be {named(same)}: give more of its path")
        if not same:
            others += 1
        elif same[0] in origin:
            raise InputError(f"{place}: {origin[same[0]]} and {name} are both {same[0]}: give more of their paths")
        else:
            origin[same[0]], joined[same[0]] = name, spans
    if found and not joined:
        told = f"{next(iter(found))}, and not {named(list(known))}"
        raise InputError(f"{place}: has none of the recordings that are known: {told}")
    return joined, others


def _last(name: str) -> tuple[str, str]:
    """The last part of a path, and the same without its ending."""
    path = PurePosixPath(name)
    return path.name, path.stem


def _same_end(one: str, other: str) -> bool:
    (name, stem), (other_name, other_stem) = _last(one), _last(other)
    folders, others = PurePosixPath(one).parts[:-1], PurePosixPath(other).parts[:-1]
    length = min(len(folders), len(others))
    same = folders[len(folders) - length :] == others[len(others) - length :]
    return same and (name in (other_name, other_stem) or stem == other_name)
