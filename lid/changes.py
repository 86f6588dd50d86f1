"""Where the language of a recording changes: the likeliest sequence of languages of its fragments of speech."""

from collections.abc import Mapping, Sequence

import numpy as np

CHANGE_COST = 2.0  # natural logarithm of how much likelier it is, before anything is heard, that the language stays
LEAST_SCORE = 1e-3  # no score is evidence beyond this: what an identifier is sure of may be wrong


def language_runs(scores: Sequence[Mapping[str, float] | None]) -> list[tuple[int, int]]:
    """Ranges `[first, last)` of neighbouring fragments in one language, which hold each fragment once.

    Args:
        scores: of each fragment alone, language → probability; None where too little is heard to tell.

    Returns:
        The runs of the sequence of languages that has the highest sum of log-probabilities, less `CHANGE_COST` for each
        change (Viterbi 1967, over the languages that are the best of a fragment). A single fragment that another
        language is e⁴ times likelier for than that of both its neighbours is a run by itself.
    """
    if not scores:
        return []
    languages = sorted({max(sorted(one), key=lambda lang: one[lang]) for one in scores if one})
    if not languages:
        return [(0, len(scores))]
    evidence = np.zeros((len(scores), len(languages)))
    for number, one in enumerate(scores):
        if one:
            evidence[number] = [np.log(max(one.get(lang, 0.0), LEAST_SCORE)) for lang in languages]
    total = evidence[0]
    came = np.zeros(evidence.shape, np.int64)
    for number in range(1, len(scores)):
        before = int(np.argmax(total))
        stays = total >= total[before] - CHANGE_COST  # where both are as good, nothing changes
        came[number] = np.where(stays, np.arange(len(languages)), before)
        total = np.where(stays, total, total[before] - CHANGE_COST) + evidence[number]
    path = [int(np.argmax(total))]
    for number in range(len(scores) - 1, 0, -1):
        path.append(int(came[number, path[-1]]))
    path.reverse()
    starts = [0, *(number for number in range(1, len(path)) if path[number] != path[number - 1])]
    return list(zip(starts, [*starts[1:], len(path)], strict=True))
