"""Near texts against comparing all with all, as sets of n-grams in plain Python."""

import re
import unicodedata
from math import ceil

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.mining.text_filters import fold
from seamlessalign.pipelines.exports import near_texts
from seamlessalign.pipelines.exports.near_texts import KnownTexts

SAID = "the committee will meet again on thursday to vote on a proposal ha ha 明天早上 八点在车站 見に行き 역에서 😀"
WORDS = tuple(re.findall(r"\S+", SAID))


def _parts(text: str) -> set[str]:
    parts = {text[i : i + 4] for i in range(len(text) - 3)}
    dense = sum(
        unicodedata.name(sign, "").startswith(("CJK UNIFIED", "HIRAGANA", "KATAKANA", "HANGUL")) for sign in text
    )
    return parts if len(parts) >= (7 if dense >= len(text) / 2 else 17) else set()


def _brute_force(known: list[str], text: str) -> tuple[int, float, bool]:
    if text in known:
        return known.index(text), 1.0, True
    best = (-1, 0.0, False)
    for number, other in enumerate(known):
        a, b = _parts(text), _parts(other)
        smaller = min(len(a), len(b))
        if smaller and len(a & b) >= ceil(smaller * 0.75) and len(a & b) / smaller > best[1]:
            best = (number, len(a & b) / smaller, False)
    return best


sentences = st.lists(st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join), max_size=12)


@given(sentences, sentences, st.sampled_from([1, 3, 1 << 22]))
@settings(max_examples=120, deadline=None)
def test_what_is_found_is_what_comparing_all_with_all_finds(known: list[str], texts: list[str], together: int) -> None:
    near_texts._TOGETHER, usual = together << 8, near_texts._TOGETHER
    try:
        found = KnownTexts(known).search(texts)
    finally:
        near_texts._TOGETHER = usual
    expected = [_brute_force(known, text) for text in texts]
    assert list(zip(found.known.tolist(), found.share.tolist(), found.is_same.tolist(), strict=True)) == expected


def _near(text: str, known: str) -> bool:
    folded, other = fold(pa.array([text, known])).to_pylist()
    return bool(KnownTexts([other]).search([folded]).known[0] == 0)


KNOWN = "The committee will meet again on Thursday to vote on the proposal."


@pytest.mark.parametrize(
    ("text", "near"),
    [
        (KNOWN, True),
        ("the committee will meet again on thursday; to vote, on the PROPOSAL", True),
        ("The committee will meet again on Friday to vote on the proposal.", True),  # one word of twelve
        (f"He said: {KNOWN} Nobody believed it, and the next morning all of them had left for the mountains.", True),
        ("The committee will meet again on Thursday", True),  # a part of it
        ("The council has met once more on Monday to vote on that plan.", False),
        ("Nobody had told him that the last train left at nine.", False),
        ("on the proposal", False),  # too short to say
    ],
)
def test_one_other_word_and_more_around_it_are_near(text: str, near: bool) -> None:
    assert _near(text, KNOWN) is near


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("我们明天早上八点在车站见面然后一起去学校上课吧", "我们明天早上九点在车站见面然后一起去学校上课吧"),
        ("我们明天早上八点在车站见面。", "他说：“我们明天早上八点在车站见面。”"),
        ("朝八時に駅で会いましょう", "「明日の朝八時に駅で会いましょう!」と彼は言った。"),
        ("ﾃﾚﾋﾞでﾆｭｰｽを見ました", "彼はテレビでニュースを見ましたと言った"),  # half as wide
        ("여덟 시에 역에서 만나요", "그는 내일 아침 여덟 시에 역에서 만나요 라고 말했다"),
        ("พรุ่งนี้เช้าแปดโมงเราจะพบกันที่สถานีรถไฟ", "พรุ่งนี้เช้าเก้าโมงเราจะพบกันที่สถานีรถไฟ"),  # eight, nine
    ],
)
def test_other_scripts_are_found_with_a_word_changed_or_in_a_longer_line(text: str, known: str) -> None:
    assert _near(text, known) and _near(known, text) and not _near(text, known[: len(known) // 3])


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("Ten thousand: 10000 people came to the city", "0" * 40),
        ("And so on, blah blah blah.", "blah " * 20),
        ("Ha ha ha, that was really funny, my friend", "Ha ha ha ha ha ha ha ha ha!"),
        ("哈哈哈哈，我们明天早上八点在车站见面。", "哈" * 30),
    ],
)
def test_what_only_repeats_itself_is_near_to_nothing(text: str, known: str) -> None:
    assert not _near(text, known) and not _near(known, text) and _near(known, known.upper())


def test_seventeen_parts_are_enough_and_sixteen_are_not() -> None:
    half = "八点在车站abcde"
    assert _near(half, f"明天{half}吧") and not _near(f"{half[1:]}f", f"明天{half}f吧")
    text = "the committee will meet"
    assert _near(text[:20], f"{text} again") and not _near(text[:19], f"{text} again")
    assert _near("八点在车站见面然后一", "明天早上八点在车站见面然后一起") and not _near(
        "八点在车站见面然后", "明天早上八点在车站见面然后一起"
    )


def test_short_texts_are_the_same_or_not() -> None:
    found = KnownTexts(["yes", "no"]).search(["no", "nope", ""])
    assert found.known.tolist() == [1, -1, -1] and found.is_same.tolist() == [True, False, False]


def test_of_equally_near_texts_the_first_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "the committee will meet again"
    for together in (1 << 8, 1 << 22):  # one pair at a time, and all at once
        monkeypatch.setattr(near_texts, "_TOGETHER", together)
        found = KnownTexts(["another", f"{said} now", f"or {said}", said[4:]]).search([said])
        assert (found.known.tolist(), found.share.tolist(), found.is_same.tolist()) == ([1], [1.0], [False])


def test_nothing_is_near_to_nothing() -> None:
    assert KnownTexts([]).search(["a text that is long enough to have parts"]).known.tolist() == [-1]
    assert KnownTexts(["a text that is long enough to have parts"]).search([]).known.tolist() == []


def test_many_texts_are_found_among_many() -> None:
    random = np.random.default_rng(0)
    known = [" ".join(random.choice(WORDS, 12)) for _ in range(120)]
    texts = [f"{text[:-3]}xyz" if i % 3 else " ".join(random.choice(WORDS, 12)) for i, text in enumerate(known)]
    found = KnownTexts(known).search(texts)
    expected = [_brute_force(known, text) for text in texts]
    assert found.known.tolist() == [one for one, _, _ in expected]
