"""What rejecting the languages that are least sure gives."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seamlessalign.label_measures import UNKNOWN, measure


@dataclass(frozen=True)
class CurvePoint:
    """What is left when all clips below some sureness are rejected."""

    rejected: float  # share of all clips
    macro_f1: float  # of the others, the rejected ones left out
    missed_f1: float  # with the rejected ones as misses


def rejection_curve(
    truth: Sequence[str], answers: Sequence[str], sureness: Sequence[float], points: int = 51, most: float = 0.5
) -> list[CurvePoint]:
    """Macro F1 over the share of clips that are rejected, the least sure ones first; ties in the order given."""
    order = np.argsort(np.asarray(sureness, np.float64), kind="stable")
    found = []
    for share in np.linspace(0.0, most, points):
        count = round(share * len(order))
        cut = list(answers)
        for i in order[:count].tolist():
            cut[i] = UNKNOWN
        found.append(
            CurvePoint(
                count / max(1, len(order)),
                measure(truth, cut, rejected="left out").macro_f1,
                measure(truth, cut).macro_f1,
            )
        )
    return found
