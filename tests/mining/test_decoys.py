"""Decoys from text, and the measurement of how much they attract."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.errors import InputError
from seamlessalign.mining.attraction import SAFETY, Attraction, measure_attraction, weight_of_made, wrong_neighbours
from seamlessalign.mining.decoys import choose_decoys, join_halves, make_decoys
from seamlessalign.mining.knn import Neighbours
from seamlessalign.mining.mine import mine_candidates

SENTENCES = [
    "The old ferry crosses the river twice a day.",
    "Bread is best on the morning it is baked.",
    "Nobody had told the children about the dog.",
    "A lamp burned in the window of the last house.",
    "We shall meet again when the snow has gone.",
]


def measured(forward: Neighbours, margin: Any, num_targets: int, made_from: Any) -> Attraction:
    """How decoys attract among the neighbours of some sources."""
    return measure_attraction(wrong_neighbours(forward, margin, num_targets, made_from), num_targets, made_from)


def test_halves_are_joined() -> None:
    made = make_decoys(SENTENCES, 5, seed=3)
    assert made.texts == join_halves(SENTENCES, 5, seed=3) and made.made_from.shape == (5, 2)
    assert sorted(made.made_from[:, 0]) == sorted(made.made_from[:, 1]) == [0, 1, 2, 3, 4]
    for text, (head, tail) in zip(made.texts, made.made_from.tolist(), strict=True):
        first, last = SENTENCES[head].split(), SENTENCES[tail].split()
        assert head != tail
        assert text.split() == first[: round(len(first) / 2)] + last[len(last) // 2 :]


def test_more_decoys_begin_with_the_fewer_and_seeds_differ() -> None:
    many = join_halves(SENTENCES, 20, seed=0)
    assert many[:7] == join_halves(SENTENCES, 7, seed=0) != join_halves(SENTENCES, 7, seed=1)
    assert len(set(many)) == 20 and not set(many) & set(SENTENCES)
    with pytest.raises(InputError, match="5 texts make 20 decoys, not 21"):
        make_decoys(SENTENCES, 21, seed=0)


def test_scripts_without_spaces_are_cut_by_characters() -> None:
    texts = ["我们在河边等了三个小时", "昨天晚上山上下了一场雪", "ฉันกินข้าวที่บ้านกับเพื่อนทุกวัน"]
    made = make_decoys(texts, 2, seed=0)
    assert all(" " not in text for text in made.texts)
    for text, (head, tail) in zip(made.texts, made.made_from.tolist(), strict=True):
        cut = next(n for n in range(len(text)) if not texts[head].startswith(text[: n + 1]))
        assert cut >= len(texts[head]) // 3 and texts[tail].endswith(text[cut:])
    marked = "".join(letter + "ี่" for letter in "กขคงจ")  # each consonant with a vowel and a tone mark
    for text in join_halves([marked, marked[::-1].replace("่ี", "")], 2, seed=0):
        assert all(text[place - 1] in "กขคงจ" for place, mark in enumerate(text) if mark == "ี")
    assert (
        join_halves(["서울에서 부산까지 기차로 갔다", "비가 와서 집에 있었다"], 1, seed=0)[0].count(" ") == 3
    )  # Korean has spaces


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(alphabet="ab C.é́ 中", max_size=12), max_size=8), st.integers(1, 12), st.integers(0, 3))
def test_decoys_are_new(texts: list[str], count: int, seed: int) -> None:
    def sound(text: str) -> str:
        return "".join(c for c in text.casefold() if c not in " .")

    try:
        made = make_decoys(texts, count, seed)
    except InputError as error:
        assert str(error).startswith(f"{len(texts)} texts make")
        return
    heard = [sound(text) for text in made.texts]
    assert len(heard) == len(set(heard)) == count and not set(heard) & ({sound(text) for text in texts} | {""})


def test_real_texts_are_chosen() -> None:
    texts = [*SENTENCES, "  THE OLD FERRY crosses the river twice a day", "...", "One more sentence."]
    rows = choose_decoys(texts, 100, seed=0, avoid=["bread is best on the morning it is baked"])
    assert rows.tolist() in ([0, 2, 3, 4, 7], [2, 3, 4, 5, 7])  # one of the two ferries, no bread, no dots
    assert len(choose_decoys(texts, 3, seed=0)) == 3
    assert choose_decoys(texts, 3, seed=0).tolist() == choose_decoys(texts, 3, seed=0).tolist()
    with pytest.raises(InputError, match="none of 1 texts can be a decoy"):
        choose_decoys(["Ah!"], 1, seed=0, avoid=["ah"])
    for make in (choose_decoys, make_decoys):
        with pytest.raises(InputError, match="count is 0"):
            make(SENTENCES, 0, seed=0)


def drawn(seed: int, slope: float, num_sources: int = 4000) -> tuple[Neighbours, npt.NDArray[np.float32]]:
    """Neighbours among 300 targets and 300 decoys, the latter exp(slope * score) times rarer at each score."""
    rng = np.random.default_rng(seed)
    margin = -np.sort(-rng.normal(0, 1, (num_sources, 6)), axis=1).astype(np.float32)
    is_target = rng.random(margin.shape) < 1 / (1 + np.exp(-slope * margin))
    index = rng.integers(0, 300, margin.shape) + np.where(is_target, 0, 300)
    return Neighbours(margin, index), margin


NO_ORIGINS = np.full((300, 2), -1)


@pytest.mark.parametrize("slope", [0.0, 0.4, 0.8])
def test_attraction_is_measured(slope: float) -> None:
    forward, margin = drawn(0, slope)
    found = measured(forward, margin, 300, NO_ORIGINS)
    score = np.array([-0.4, 0.0, 0.5, 1.0], np.float32)
    assert found.weight(score) == pytest.approx(np.exp(slope * score), rel=0.12)
    far = found.centre + 6 * found.scale
    assert found.weight(np.array([far])) == found.weight(np.array([50.0]))  # not beyond what can be said
    used = weight_of_made(score, wrong_neighbours(forward, margin, 300, NO_ORIGINS), 300, NO_ORIGINS)
    assert used == pytest.approx(SAFETY * np.maximum(1, found.weight(score)))


def test_how_joined_halves_attract_is_known_beforehand() -> None:
    origins = np.stack([np.arange(300), np.roll(np.arange(300), 1)], axis=1)
    score = np.linspace(-1, 2, 7).astype(np.float32)
    few, many = (drawn(0, 0.0, num_sources) for num_sources in (50, 50_000))
    for (forward, margin), low, high in ((few, 0.1, 0.25), (many, -0.05, 0.05)):
        made = measured(forward, margin, 300, origins)
        assert low < made.slope < high  # enough neighbours prevail
        assert weight_of_made(score, wrong_neighbours(forward, margin, 300, origins), 300, origins) == pytest.approx(
            np.maximum(1, made.weight(score))
        )


def test_few_neighbours_move_the_weight_little() -> None:
    forward, margin = drawn(0, 5.0, num_sources=1)
    for origins, slope in ((NO_ORIGINS, 0.4), (np.arange(600).reshape(300, 2) % 300, 0.21)):
        found = measured(forward, margin, 300, origins)
        assert abs(found.level) < 0.2 and 0.2 <= found.slope < slope
    one = Neighbours(margin[:, :1], forward.index[:, :1])
    assert measured(one, margin[:, :1], 300, NO_ORIGINS).weight(margin[0]).tolist() == [1.0] * 6


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_relatives_of_the_first_do_not_count(seed: int) -> None:
    """The fit sees the second to fourth neighbours less the relatives of the first: as if there were none of them."""
    rng = np.random.default_rng(seed)
    num_targets, num_decoys = 5, 4
    made_from = rng.integers(-1, num_targets, (num_decoys, 2))
    index = np.array([rng.permutation(num_targets + num_decoys)[:6] for _ in range(12)])
    margin = rng.normal(size=index.shape).astype(np.float32)
    found = measured(Neighbours(margin, index), margin, num_targets, made_from)
    kept = []
    for row in range(len(index)):
        order = np.argsort(-margin[row], kind="stable")[:4]
        first = index[row, order[0]]
        for place in order[1:]:
            other = index[row, place]
            families = [
                {int(who)} if who < num_targets else {int(a) for a in made_from[who - num_targets] if a >= 0}
                for who in (first, other)
            ]
            if not families[0] & families[1]:
                kept.append((margin[row, place], other))
    # A decoy without origins above each of those that are left gives the same sums
    index = np.array([[num_targets, other] for _, other in kept]).reshape(-1, 2)
    alone = Neighbours(np.zeros((len(kept), 2), np.float32), index)
    scores = np.array([[9.0, score] for score, _ in kept], np.float32).reshape(-1, 2)
    unrelated = np.full((num_decoys, 2), -1)
    unrelated[1:, 0] = made_from.max()  # self-made decoys as well, though none related to the first
    expected = measured(alone, scores, num_targets, unrelated)
    at = np.linspace(-2, 2, 7)
    assert found.weight(at) == pytest.approx(expected.weight(at), rel=1e-6)


def test_origins_that_do_not_fit() -> None:
    forward, margin = drawn(0, 0.0, num_sources=3)
    with pytest.raises(InputError, match="made_from: row 1 names target 300, but there are 300"):
        measured(forward, margin, 300, np.array([[0, 1], [300, -1]]))
    with pytest.raises(InputError, match=r"made_from has shape \(300,\)"):
        measured(forward, margin, 300, np.zeros(300, int))
    rows = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)
    with pytest.raises(InputError, match="made_from has 2 rows and decoys 3"):
        mine_candidates(rows, rows, k=2, decoys=rows[:3], made_from=np.zeros((2, 2), int))


def test_made_decoys_are_believed_less() -> None:
    rng = np.random.default_rng(0)
    meaning = rng.standard_normal((400, 24))
    src, tgt = (meaning[rows] + rng.standard_normal((300, 24)) for rows in (slice(0, 300), slice(100, 400)))
    decoys = rng.standard_normal((300, 24)) * np.sqrt(2)
    plain, made = (
        mine_candidates(src.astype(np.float32), tgt.astype(np.float32), decoys=decoys.astype(np.float32), made_from=of)
        for of in (None, NO_ORIGINS)
    )
    assert made.drop_columns(["precision_estimate"]).equals(plain.drop_columns(["precision_estimate"]))
    less = plain["precision_estimate"].to_numpy() - made["precision_estimate"].to_numpy()
    assert less.mean() > 0.02 and less.min() > -0.02
