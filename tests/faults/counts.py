"""What the tests of faults did and compared, counted, so that it can be seen that they did something."""

from collections import Counter
from collections.abc import Mapping

COUNTS: Counter[str] = Counter()


def count(what: str, number: int = 1) -> None:
    """Add to what the end of the tests tells: `kills`, `bytes compared`, `faults of S3: lost`, …"""
    COUNTS[what] += number


def count_all(counts: Mapping[str, int], form: str = "{}") -> None:
    """Add several, each called as `form` says."""
    for name, number in counts.items():
        count(form.format(name), number)
