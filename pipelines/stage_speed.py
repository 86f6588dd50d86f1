"""How fast the shards of a stage are done, from their completion marks: when each was begun, and how long it took.

Times are those of many machines' clocks, so that nothing here may count on their order: intervals are joined, and what
would be negative is nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from seamlessalign.pipelines.heartbeat import parse_time
from seamlessalign.pipelines.ledger import Mark
from seamlessalign.rows import SAMPLE_RATE

RECENT_MINUTES = 10.0


@dataclass(frozen=True)
class Speed:
    """Over which time, and how fast then; None where nothing was done."""

    minutes: float
    shards_per_hour: float | None
    audio_hours_per_hour: float | None


@dataclass(frozen=True)
class _Work:
    begun: float  # seconds since 1970
    ended: float
    audio: float  # seconds


def overall_speed(marks: Iterable[Mark]) -> Speed:
    """Over all time in which a shard of the stage was at work, whatever pauses lay between."""
    works = _works(marks)
    return _speed(works, _busy([(work.begun, work.ended) for work in works]))


def recent_speed(marks: Iterable[Mark], now: float, since: float | None, minutes: float = RECENT_MINUTES) -> Speed:
    """Over the last minutes before `now`, of a driver at work `since` then (seconds since 1970)."""
    works = _works(marks)
    begun = max([now - minutes * 60, *([since] if since is not None else [])])
    if works:
        begun = max(begun, min(work.begun for work in works))
    ended = [work for work in works if begun < work.ended]
    return _speed(ended, max(now - begun, 0.0))


def audio_seconds(mark: Mark) -> float:
    """Seconds of audio that came into a shard: of recordings, of spans of a side, or of pairs."""
    return mark.lines[0].samples_in / SAMPLE_RATE if mark.lines else 0.0


def slowest(marks: Iterable[Mark], number: int) -> list[Mark]:
    """The marks of the shards that took longest, the slowest first."""
    return sorted((mark for mark in marks if mark.wall_seconds > 0), key=lambda mark: -mark.wall_seconds)[:number]


def _works(marks: Iterable[Mark]) -> list[_Work]:
    works = []
    for mark in marks:
        begun = parse_time(mark.begun)
        if begun is not None:
            works.append(_Work(begun, begun + max(mark.wall_seconds, 0.0), audio_seconds(mark)))
    return works


def _speed(works: Sequence[_Work], seconds: float) -> Speed:
    if not works or seconds <= 0:
        return Speed(round(seconds / 60, 3), None, None)
    audio = sum(work.audio for work in works)
    return Speed(round(seconds / 60, 3), len(works) * 3600 / seconds, audio / seconds if audio else None)


def _busy(intervals: list[tuple[float, float]]) -> float:
    """Seconds that are in at least one interval."""
    total, reach = 0.0, float("-inf")
    for begun, ended in sorted(intervals):
        total += max(0.0, ended - max(begun, reach))
        reach = max(reach, ended)
    return total
