"""Masks and distractors against their definitions, and against what chance would give."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.training.w2v_bert.config import MaskSettings
from seamlessalign.training.w2v_bert.masking import draw_distractors, draw_mask


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(10, 200),
    span=st.integers(2, 10),
    share=st.floats(0.01, 1),
    least=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_a_mask_is_spans(length: int, span: int, share: float, least: int, seed: int) -> None:
    """Runs of masked inputs are a span or longer, and no more is masked than so many spans can mask."""
    mask = MaskSettings(span=span, share=share, min_spans=least)
    masked = draw_mask(length, mask, np.random.default_rng(seed))
    assert masked.shape == (length,) and masked.dtype == np.bool_
    edges = np.flatnonzero(np.diff(np.r_[0, masked.astype(int), 0]))
    runs = edges[1::2] - edges[::2]
    most = max(least, math.floor(share * length / span) + 1)
    assert len(runs) and runs.min() >= span and masked.sum() <= most * span


def test_about_half_is_masked_at_the_published_settings() -> None:
    """1 - (1 - 10 / (L - 9)) ** (0.065 L) where nothing is near an end: about 0.48, as is published."""
    rng, length = np.random.default_rng(0), 1000
    masks = np.stack([draw_mask(length, MaskSettings(), rng) for _ in range(400)])
    inside = masks[:, 10:-10].mean()
    assert abs(inside - (1 - (1 - 10 / (length - 9)) ** (0.065 * length))) < 0.005
    assert abs(masks.mean() - 0.48) < 0.01


def test_the_number_of_spans_is_rounded_by_chance_and_starts_may_repeat() -> None:
    """Spans of 2 in 3 inputs begin at 0 or 1. One or two of them (1.5 on average) cover all if both starts come up."""
    rng, mask = np.random.default_rng(1), MaskSettings(span=2, share=1.0, min_spans=1)
    whole = np.mean([draw_mask(3, mask, rng).all() for _ in range(8000)])
    assert abs(whole - 0.5 * 0.5) < 0.02  # two spans half the time, of which half begin at one place


@settings(max_examples=40, deadline=None)
@given(targets=st.integers(2, 40), count=st.integers(1, 60), seed=st.integers(0, 99))
def test_distractors_are_others(targets: int, count: int, seed: int) -> None:
    drawn = draw_distractors(targets, count, np.random.default_rng(seed))
    assert drawn.shape == (targets, count) and drawn.min() >= 0 and drawn.max() < targets
    assert not (drawn == np.arange(targets)[:, None]).any()


def test_distractors_are_drawn_evenly() -> None:
    drawn = draw_distractors(5, 40_000, np.random.default_rng(0))
    for own, row in enumerate(drawn):
        shares = np.bincount(row, minlength=5) / len(row)
        assert shares[own] == 0 and np.delete(shares, own) == pytest.approx([0.25] * 4, abs=0.015)


def test_there_are_at_least_so_many_spans() -> None:
    """Of 20 inputs 0.65 are 1.3 spans, of which the published settings make 2 always: both begin at one place in 1 of
    11.
    """
    rng = np.random.default_rng(2)
    masks = np.stack([draw_mask(20, MaskSettings(), rng) for _ in range(4000)])
    assert abs((masks.sum(1) > 10).mean() - 10 / 11) < 0.02
