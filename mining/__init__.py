"""Finding the pairs that mean the same: nearest neighbours, margin scores, choice, overlaps, filters, measurement."""

from seamlessalign.mining.choose import STRATEGIES
from seamlessalign.mining.knn import BACKENDS, Neighbours, neighbours
from seamlessalign.mining.margin import MARGINS
from seamlessalign.mining.mine import mine_candidates, mine_pairs
from seamlessalign.mining.overlap import resolve_overlaps, resolve_overlaps_two_sides
from seamlessalign.mining.truth import Scores, Sweep, bootstrap_f1, score_pairs, sweep_thresholds

__all__ = [
    "BACKENDS",
    "MARGINS",
    "STRATEGIES",
    "Neighbours",
    "Scores",
    "Sweep",
    "bootstrap_f1",
    "mine_candidates",
    "mine_pairs",
    "neighbours",
    "resolve_overlaps",
    "resolve_overlaps_two_sides",
    "score_pairs",
    "sweep_thresholds",
]
