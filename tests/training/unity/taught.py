"""A tiny model that was taught a few sentences and their units, so that what it writes comes to an end."""

from functools import cache

import torch

from seamlessalign.training.unity.model import UnitY
from seamlessalign.training.vocabulary import TextVocabulary, UnitVocabulary
from tests.training.tiny_unity import SENTENCES, padded, speech, tiny_text, tiny_units, tiny_unity

ENGLISH, FRENCH = SENTENCES[:3], SENTENCES[3:]
STEPS = 80


def units_of(sentence: str, units: UnitVocabulary) -> list[int]:
    """Units that a sentence is taught to sound like: of its letters, without adjacent repeats."""
    found = [ord(c) % units.num_units for c in sentence.replace(" ", "")][::2]
    return [unit for i, unit in enumerate(found) if i == 0 or unit != found[i - 1]]


@cache
def taught() -> tuple[UnitY, TextVocabulary, UnitVocabulary]:
    """English to French and to itself, from text and from random features, with units; the same weights each time."""
    text, units = tiny_text(), tiny_units()
    unity = tiny_unity(text, units, hidden_size=32, initializer_range=0.1)
    twice = torch.arange(6) % 3
    features, mask = (part[twice] for part in speech((24, 40, 33)))
    tokens, tokens_mask = (part[twice] for part in padded([text.source(sentence, "eng") for sentence in ENGLISH]))
    said = [(sentence, "fra") for sentence in FRENCH] + [(sentence, "eng") for sentence in ENGLISH]
    targets, _ = padded([text.target(sentence, lang) for sentence, lang in said])
    unit_targets, _ = padded([units.target(units_of(sentence, units), lang) for sentence, lang in said], units.pad)
    optimiser = torch.optim.Adam(unity.parameters(), lr=5e-3)
    for step in range(STEPS):  # dropout is off: it is to be learnt by heart
        encoded = unity.encode_speech(features, mask) if step % 2 else unity.encode_text(tokens, tokens_mask)
        hidden = unity.decode_text(targets[:, :-1], *encoded)
        loss = torch.nn.functional.cross_entropy(
            unity.logits(hidden).flatten(0, 1), targets[:, 1:].flatten(), ignore_index=text.pad
        )
        logits = unity.decode_units(hidden, _without_end(targets[:, :-1], text), unit_targets[:, :-1])
        loss = loss + torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), unit_targets[:, 1:].flatten(), ignore_index=units.pad
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return unity.eval(), text, units


def _without_end(tokens: torch.Tensor, text: TextVocabulary) -> torch.Tensor:
    """A mask of `</s> [tag] pieces`, without padding and without the `</s>` behind shorter rows."""
    mask = (tokens != text.pad) & (tokens != text.eos)
    mask[:, 0] = True
    return mask.long()
