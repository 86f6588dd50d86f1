"""Measures of labels against counting by hand and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.label_measures import (
    UNKNOWN,
    confusion,
    f1_of,
    label_counts,
    macro_f1,
    measure,
    precision_of,
    recall_of,
)

LANGS = ["eng", "fra", "rus"]


def test_a_case_counted_by_hand() -> None:
    truth = ["eng", "eng", "eng", "fra", "fra", "rus"]
    answers = ["eng", "eng", "fra", "fra", UNKNOWN, "ita"]
    found = measure(truth, answers)
    assert (found.clips, found.answered) == (6, 5) and found.accuracy == pytest.approx(3 / 5)
    assert found.f1 == pytest.approx({"eng": 4 / 5, "fra": 2 / 4, "rus": 0.0})
    assert found.recall == pytest.approx({"eng": 2 / 3, "fra": 1 / 2, "rus": 0.0})
    assert found.macro_f1 == pytest.approx((0.8 + 0.5 + 0) / 3)
    left_out = measure(truth, answers, rejected="left out")
    assert left_out.f1 == pytest.approx({"eng": 4 / 5, "fra": 2 / 3, "rus": 0.0}) and left_out.clips == 6


def test_a_language_that_is_all_rejected_is_no_part_of_the_mean() -> None:
    truth, answers = ["eng", "eng", "fra"], ["eng", "eng", UNKNOWN]
    assert measure(truth, answers).macro_f1 == pytest.approx(0.5)
    assert measure(truth, answers, rejected="left out").f1 == {"eng": 1.0}


@given(st.lists(st.tuples(st.sampled_from(LANGS), st.sampled_from([*LANGS, "ita", UNKNOWN])), min_size=1, max_size=40))
def test_f1_is_that_of_precision_and_recall(pairs: list[tuple[str, str]]) -> None:
    truth, answers = [a for a, _ in pairs], [b for _, b in pairs]
    found = measure(truth, answers)
    for lang in set(truth):
        said, there = answers.count(lang), truth.count(lang)
        hits = sum(a == b == lang for a, b in pairs)
        precision, recall = hits / said if said else 0.0, hits / there
        wanted = 2 * precision * recall / (precision + recall) if hits else 0.0
        assert found.f1[lang] == pytest.approx(wanted)
    rows, columns, counts = confusion(truth, answers)
    assert counts.sum() == len(pairs)
    for a, b in pairs:
        assert counts[rows.index(a), columns.index(b)] >= 1
    assert [int(n) for n in counts.sum(1)] == [truth.count(lang) for lang in rows]


PAIRS = st.lists(st.tuples(st.sampled_from(LANGS), st.sampled_from([*LANGS, "ita"])), min_size=1, max_size=30)


@given(PAIRS)
@settings(deadline=None)  # the first loads it
def test_it_is_what_scikit_learn_says(pairs: list[tuple[str, str]]) -> None:
    peer = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn, which sentence-transformers brings")
    truth, answers = [a for a, _ in pairs], [b for _, b in pairs]
    langs = sorted(set(truth))
    counts = label_counts(truth, answers, langs).sum(0)
    wanted = peer.precision_recall_fscore_support(truth, answers, labels=langs, zero_division=0.0)
    for ours, theirs in zip((precision_of(counts), recall_of(counts), f1_of(counts)), wanted, strict=False):
        np.testing.assert_allclose(ours, theirs)
    wanted = peer.f1_score(truth, answers, labels=langs, average="macro", zero_division=0.0)
    assert macro_f1(counts) == pytest.approx(wanted)


@given(PAIRS, st.data())
def test_counts_of_rows_add_up_whichever_are_drawn(pairs: list[tuple[str, str]], data: st.DataObject) -> None:
    """Languages that a draw has not are no part of its mean."""
    truth, answers = [a for a, _ in pairs], [b for _, b in pairs]
    counts = label_counts(truth, answers, LANGS)
    drawn = data.draw(st.lists(st.sampled_from(range(len(pairs))), min_size=1, max_size=40))
    found = measure([truth[i] for i in drawn], [answers[i] for i in drawn])
    assert macro_f1(counts[drawn].sum(0)) == pytest.approx(found.macro_f1)
    assert np.isnan(macro_f1(np.zeros((3, 3))))
