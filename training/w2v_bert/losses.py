"""The three losses of w2v-BERT 2.0, and how evenly codes are used.

L = 1.0 · L_c + 0.5 · L_mGVQ + 0.5 · L_mRPQ (SeamlessM4T, arXiv 2308.11596, section 4.1). Functions give sums over
targets, so that those of several processes can be added; all are divided by the number of targets in the end.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional


def contrastive(
    contexts: Any, codes: Any, chosen: Any, distractors: Any, counts: Sequence[int], temperature: float
) -> tuple[Any, Any]:
    """The contrastive loss (wav2vec 2.0, arXiv 2006.11477, equation 3), and how many targets are told right.

    Of a target's own code and those of its distractors the context shall be nearest to its own, by cosine over
    temperature. A distractor with the very codes of the target is left out. A target that has no other distractors
    has no loss, but is not told right either: where all inputs have one code, nothing is told apart.

    Args:
        contexts: `(targets, dim)` of the encoder.
        codes: `(targets, dim)` of the quantiser.
        chosen: int64 `(targets, groups)`, the numbers of the codes.
        distractors: int64 `(targets, distractors)`, places among the targets of the same row.
        counts: targets of each row.
        temperature: that divides the cosine.
    """
    total, right = contexts.new_zeros((), dtype=torch.float32), contexts.new_zeros((), dtype=torch.float32)
    # in float32 whatever the precision around it: a cosine in bfloat16, over 0.1, is only known to ± 0.04
    with torch.autocast(contexts.device.type, enabled=False):
        contexts, codes = functional.normalize(contexts.float(), dim=-1), functional.normalize(codes.float(), dim=-1)
        rows = (part.split(list(counts)) for part in (contexts, codes, chosen, distractors))
        for context, code, numbers, others in zip(*rows, strict=True):
            cosines = context @ code.T / temperature  # (targets of the row, targets of the row)
            same = (numbers[:, None] == numbers[others]).all(-1)
            own = cosines.diagonal()
            against = cosines.gather(1, others).masked_fill(same, -torch.inf)
            total = total + (torch.cat([own[:, None], against], 1).logsumexp(1) - own).sum()
            best = against.detach().amax(1)
            right = right + ((own.detach() > best) & (best > -torch.inf)).sum()
    return total, right


def masked_prediction(logits: Any, codes: Any) -> tuple[Any, Any]:
    """Cross-entropy of codes int64 `(targets, codebooks)` under logits `(targets, codebooks, entries)`, the mean over
    codebooks, summed over targets; and how many targets of each codebook are told right, `(codebooks,)`.
    """
    logits = logits.float()
    losses = functional.cross_entropy(logits.flatten(0, 1), codes.flatten(), reduction="sum")
    return losses / codes.shape[1], (logits.detach().argmax(-1) == codes).sum(0).float()


def perplexity(shares: Any) -> Any:
    """exp of the entropy of shares `(…, entries)` that sum to 1: how many entries, evenly used, they are worth.

    The logarithm is that of a share plus 1e-7, as in wav2vec 2.0's public code, so that it has a slope at 0.
    """
    return (-(shares * (shares + 1e-7).log()).sum(-1)).exp()


def diversity(shares: Any) -> Any:
    """(G·V − Σ perplexity) / (G·V) of mean shares `(groups, entries)` over all targets: 0 where entries are used
    evenly (wav2vec 2.0, equation 4, as its public code has it).
    """
    return (shares.numel() - perplexity(shares).sum()) / shares.numel()
