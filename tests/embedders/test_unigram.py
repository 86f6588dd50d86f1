"""Texts cut by models of the pieces that occur in them, beside the model of all pieces."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamlessalign.embedders import unigram
from seamlessalign.embedders.unigram import Cut, Unigram

# some better alone, some only together; one that nothing else is below, and one twice
PIECES = ["<s>", "<unk>", "a", "b", "ab", "ba", "\u2581", "\u2581a", "aba", "\u2581ab", "é", "你好", "zzzzz", "b"]
SCORES = [0.0, 0.0, -2.0, -9.0, -3.5, -3.0, -4.0, -4.5, -4.0, -8.0, -6.0, -7.5, -20.0, -2.5]


def whole() -> Any:
    """All pieces as the library has them."""
    from tokenizers import Tokenizer, models

    return Tokenizer(models.Unigram(list(zip(PIECES, SCORES, strict=True)), unk_id=1, byte_fallback=False))


@given(st.lists(st.text("ab\u2581é你好z<s>unk🙂", max_size=30), max_size=5))
def test_pieces_and_places_are_those_of_the_whole_model(texts: list[str]) -> None:
    made, theirs = Unigram(PIECES, SCORES, 1), whole()
    for text in texts:
        expected = theirs.encode(text, add_special_tokens=False)
        assert made.encode(text) == Cut(expected.ids, expected.offsets)


def test_the_whole_model_is_built_when_many_texts_have_come(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    model = Unigram._model

    def counted(self: Unigram, numbers: list[int]) -> Any:
        built.append(len(numbers))
        return model(self, numbers)

    monkeypatch.setattr(Unigram, "_model", counted)
    monkeypatch.setattr(unigram, "FEW", 3)
    made = Unigram(PIECES, SCORES, 1)
    cuts = [made.encode("\u2581aba?b") for _ in range(6)]
    assert len({tuple(cut.ids) for cut in cuts}) == 1 == len({tuple(cut.offsets) for cut in cuts})
    assert built == [built[0]] * 3 + [len(PIECES)] and built[0] < len(PIECES)
