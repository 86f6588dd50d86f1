"""Changes of language against trying every sequence of languages."""

import math
from itertools import pairwise, product

from hypothesis import given
from hypothesis import strategies as st

from seamlessalign.lid.changes import CHANGE_COST, LEAST_SCORE, language_runs

Scores = dict[str, float]

_fragment = st.one_of(
    st.none(),
    st.tuples(st.sampled_from(["eng", "fra", "rus"]), st.floats(0.34, 1.0), st.floats(0, 1)).map(
        lambda told: _scores(*told)
    ),
)


def _scores(best: str, score: float, share: float) -> Scores:
    """The best language, and the rest of the probability given to the two others."""
    one, other = (lang for lang in ("eng", "fra", "rus") if lang != best)
    return {best: score, one: (1 - score) * share, other: (1 - score) * (1 - share)}


def _worth(path: tuple[str, ...], scores: list[Scores | None]) -> float:
    heard = sum(
        math.log(max(one[lang], LEAST_SCORE)) for lang, one in zip(path, scores, strict=True) if one is not None
    )
    return heard - CHANGE_COST * sum(a != b for a, b in pairwise(path))


@given(st.lists(_fragment, max_size=6))
def test_no_other_sequence_is_likelier(scores: list[Scores | None]) -> None:
    runs = language_runs(scores)
    assert [number for first, last in runs for number in range(first, last)] == list(range(len(scores)))
    langs = sorted({max(sorted(one), key=lambda lang: one[lang]) for one in scores if one})
    if not langs:
        assert runs == ([(0, len(scores))] if scores else [])
        return
    best = max(_worth(path, scores) for path in product(langs, repeat=len(scores)))
    found = max(
        _worth(tuple(lang for lang, (a, b) in zip(chosen, runs, strict=True) for _ in range(a, b)), scores)
        for chosen in product(langs, repeat=len(runs))
        if all(a != b for a, b in pairwise(chosen))
    )
    assert math.isclose(found, best, abs_tol=1e-9)


def _heard(*langs: str, sure: float = 0.99) -> list[Scores | None]:
    return [_scores(lang, sure, 0.5) for lang in langs]


def test_by_hand() -> None:
    sure = _heard("eng", "eng", "fra", "fra", "eng")
    assert language_runs(sure) == [(0, 2), (2, 4), (4, 5)]
    assert language_runs([*sure[:2], None, *sure[2:]]) in ([(0, 3), (3, 5), (5, 6)], [(0, 2), (2, 5), (5, 6)])
    misheard = _heard("eng", "eng") + _heard("rus", sure=0.6) + _heard("eng", "eng")  # three times likelier
    assert language_runs(misheard) == [(0, 5)]
    assert language_runs(_heard("eng", "fra")) == [(0, 1), (1, 2)]  # 4.6 of a change that costs 2
    assert language_runs([None, None]) == [(0, 2)]
