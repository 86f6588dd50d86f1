"""Texts cut into pieces by a unigram model, which is built as far as its texts need it.

To build the model of a quarter of a million pieces takes a second and a hundred megabytes. What it does with a text
depends on the pieces that occur in that text, and, for what no piece covers, on the lowest score of all: a model of
these cuts the text alike. Only where many texts come is the whole one worth its time.
"""

from dataclasses import dataclass
from typing import Any

FEW = 200  # texts that are cut by models of their own; finding the pieces of one takes a millisecond


@dataclass(frozen=True)
class Cut:
    """Ids of the pieces of a text, and where each begins and ends in it, in characters."""

    ids: list[int]
    offsets: list[tuple[int, int]]


class Unigram:
    """Pieces with their scores (natural logarithms of probabilities); of pieces that are equal the last counts."""

    def __init__(self, pieces: list[str], scores: list[float], unknown: int) -> None:
        """unknown: the id, which is the place among the pieces, of what no piece covers."""
        self._pieces, self._scores, self._unknown = pieces, scores, unknown
        self._ids = {piece: number for number, piece in enumerate(pieces)}
        self._longest = max(map(len, pieces))
        self._lowest = min(range(len(scores)), key=scores.__getitem__)
        self._texts = 0
        self._whole: Any = None

    def encode(self, text: str, *, add_special_tokens: bool = False) -> Cut:
        """Cut a text; nothing is added around it, whatever is asked."""
        self._texts += 1
        if self._whole is None and self._texts > FEW:
            self._whole = self._model(list(range(len(self._pieces))))
        if self._whole is not None:
            cut = self._whole.encode(text, add_special_tokens=False)
            return Cut(cut.ids, cut.offsets)
        needed = [self._unknown, self._lowest, *self._inside(text)]
        numbers = list(dict.fromkeys(needed))
        cut = self._model(numbers).encode(text, add_special_tokens=False)
        return Cut([numbers[place] for place in cut.ids], cut.offsets)

    def _inside(self, text: str) -> list[int]:
        """Ids of all pieces that occur in a text."""
        found = (
            self._ids.get(text[start:end])
            for start in range(len(text))
            for end in range(start + 1, min(start + self._longest, len(text)) + 1)
        )
        return [number for number in found if number is not None]

    def _model(self, numbers: list[int]) -> Any:
        from tokenizers import Tokenizer, models

        vocabulary = [(self._pieces[number], self._scores[number]) for number in numbers]
        return Tokenizer(models.Unigram(vocabulary, unk_id=numbers.index(self._unknown), byte_fallback=False))
