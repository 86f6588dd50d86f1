"""What a poor transcriber might have made of a text: similar sounds, words that are torn apart, joined or lost."""

import numpy as np

_MOST = 0.6  # of a text's words that are changed; each text has a rate of its own, from none to this
_ALIKE = (
    "aeiouáéíóúàèìòùâêîôûyäöüãõąęěůăøåæœ", "bpvf", "dt", "gkcqh", "szcxšžçčśż", "mnñń", "lrł", "jgyi",
    "аоуыиеэяюё", "бпвф", "дтц", "гкх", "зсжшщч", "мн", "лр", "йи",
)  # fmt: skip
_NEAR = {
    letter: "".join(other for group in _ALIKE if letter in group for other in group if other != letter)
    for letter in sorted(set("".join(_ALIKE)))
}
# shares of what becomes of a changed word: a letter is replaced, dropped, doubled, or the word is torn apart
_REPLACED, _DROPPED, _DOUBLED = 0.65, 0.8, 0.9
_LONG = 7  # letters from which a word may be changed twice
_JOINED, _LOST = 0.12, 0.08  # of the text's rate: words joined to the one before, and words lost


def noisy(text: str, rng: np.random.Generator) -> str:
    """A text in lower case with the mistakes that `rng` draws; never an empty one."""
    rate = float(rng.uniform(0, _MOST))
    made: list[str] = []
    for word in text.lower().split():
        if rng.random() < rate and len(word) > 1:
            for _ in range(1 if len(word) < _LONG else int(rng.integers(1, 3))):
                word = _changed(word, rng)
        if made and rng.random() < rate * _JOINED:
            made[-1] += word
        elif rng.random() > rate * _LOST:
            made.append(word)
    changed = " ".join(made)
    return changed if any(c.isalnum() for c in changed) else text


def _changed(word: str, rng: np.random.Generator) -> str:
    place, how = int(rng.integers(len(word))), float(rng.random())
    letter = word[place]
    if how < _REPLACED:
        near = _NEAR.get(letter, letter)
        return word[:place] + near[int(rng.integers(len(near)))] + word[place + 1 :]
    if how < _DROPPED:
        return word[:place] + word[place + 1 :] if len(word) > 2 else word
    if how < _DOUBLED:
        return word[:place] + letter + word[place:]
    return f"{word[:place]} {word[place:]}" if len(word) > 4 else word
