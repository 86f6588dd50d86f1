"""Which inputs of an utterance are hidden from the encoder, and which codes its own is told apart from.

All randomness comes from the generator given.
"""

import numpy as np
import numpy.typing as npt

from seamlessalign.training.w2v_bert.config import MaskSettings

Bool = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]


def draw_mask(length: int, mask: MaskSettings, rng: np.random.Generator) -> Bool:
    """Inputs `(length,)` that are masked: spans whose starts are drawn evenly, with replacement, so that spans overlap.

    As many spans as would cover `share` of the inputs if none met, rounded up or down by chance (wav2vec 2.0, arXiv
    2006.11477, section 4.1; the rounding is fairseq's). `length` must be `span` or more.
    """
    count = max(mask.min_spans, int(mask.share * length / mask.span + rng.random()))
    starts = rng.integers(0, length - mask.span + 1, count)
    masked = np.zeros(length, np.bool_)
    masked[(starts[:, None] + np.arange(mask.span)).ravel()] = True
    return masked


def draw_distractors(targets: int, count: int, rng: np.random.Generator) -> Int64:
    """For each of an utterance's masked inputs the places of others among them, `(targets, count)`, drawn evenly with
    replacement; never its own. `targets` must be 2 or more.
    """
    drawn = rng.integers(0, targets - 1, (targets, count))
    return drawn + (drawn >= np.arange(targets)[:, None])
