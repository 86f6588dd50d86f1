"""Directions of test sets that were made pair by pair."""

from collections.abc import Iterable

from seamlessalign.errors import ConfigError, InputError
from seamlessalign.languages import find_language
from seamlessalign.training.evaluation.datasets.choice import Wanted, parse
from seamlessalign.training.evaluation.datasets.covered import LISTS, covered

Pair = tuple[str, str]  # a set's own names


def wanted_pairs(there: Iterable[Pair], wanted: Wanted, place: str) -> list[Pair]:
    """Which of the pairs that are there are wanted, for asr one of each source.

    Raises ConfigError for a direction that cannot be meant, InputError for one that is not there.
    """
    pairs = {_languages(pair): pair for pair in there}
    if isinstance(wanted.directions, str):
        keys = _all(list(pairs), wanted)
    else:
        keys = []
        for text in wanted.directions:
            src, tgt = (find_language(code).iso639_3 for code in parse(text, wanted.task))
            same = [key for key in pairs if key[0] == src and tgt in (src, key[1])]
            if not same:
                some = ", ".join("-".join(key) for key in list(pairs)[:5])
                raise InputError(f"{place}: has no {text}, but {some}{' …' if len(pairs) > 5 else ''}")
            keys.append(same[0])
    if wanted.task == "asr":
        keys = list({key[0]: key for key in reversed(keys)}.values())[::-1]
    if not keys:
        raise InputError(f"{place}: has no direction that is wanted: {wanted.directions}")
    return [pairs[key] for key in dict.fromkeys(keys)]


def _all(keys: list[Pair], wanted: Wanted) -> list[Pair]:
    match wanted.directions:
        case "x-eng":
            found = [key for key in keys if key[1] == "eng"]
        case "eng-x":
            found = [key for key in keys if key[0] == "eng"]
        case "all":
            found = keys
        case _:
            raise ConfigError(
                f"rows.directions: {wanted.directions!r}: should be x-eng, eng-x, all, or a list such as [fra-eng]"
            )
    if wanted.languages and set(wanted.languages) <= set(LISTS):
        for name in wanted.languages:
            out = {"speech_in": wanted.speech_in, "speech_out": wanted.speech_out}
            sources, targets = (covered(name, source=source, **out) for source in (True, False))
            found = [key for key in found if key[0] in sources and (wanted.task == "asr" or key[1] in targets)]
    elif wanted.languages:
        chosen = {find_language(code).iso639_3 for code in wanted.languages} | {"eng"}
        found = [key for key in found if set(key) <= chosen]
    return found


def _languages(pair: Pair) -> Pair:
    return find_language(pair[0]).iso639_3, find_language(pair[1]).iso639_3
