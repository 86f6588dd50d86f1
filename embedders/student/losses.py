"""How far a student's rows are from the teacher's.

Rows `(num_items, dim)` are the student's, not of unit length; targets `(num_items, dim)` the teacher's, of unit length.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from seamlessalign.embedders.student.training_config import LossesConfig


@dataclass(frozen=True)
class Term:
    """One view of what items mean: the teacher's rows, which of them are there, and how much they count."""

    targets: Any  # (num_items, dim)
    there: Any  # bool (num_items,)
    weight: float


def mse(rows: Any, targets: Any) -> Any:
    """The mean squared distance, summed over dimensions: SONAR's loss (Duquenne et al. 2023, section 4.2)."""
    return (rows - targets).square().sum(1).mean()


def cosine(rows: Any, targets: Any) -> Any:
    """The mean of one less the cosine."""
    return (1 - functional.cosine_similarity(rows, targets)).mean()


def contrastive(rows: Any, targets: Any, same: Any, temperature: float, wrong: Any = None) -> Any:
    """InfoNCE both ways (van den Oord et al. 2018, equation 4), the mean of them.

    Args:
        rows, targets: `(num_items, dim)`.
        same: bool `(num_items, num_items)`, items that mean the same; they do not count as wrong for each other.
        temperature: that cosines are divided by.
        wrong: rows `(num_wrong, dim)` of speech that no target is of; targets must not find them.
    """
    x, y = functional.normalize(rows, dim=1), functional.normalize(targets, dim=1)
    own = torch.eye(len(x), dtype=torch.bool, device=x.device)
    logits = (x @ y.T / temperature).masked_fill(same & ~own, float("-inf"))
    backward = logits.T
    if wrong is not None and len(wrong):
        backward = torch.cat([backward, y @ functional.normalize(wrong, dim=1).T / temperature], 1)
    right = torch.arange(len(x), device=x.device)
    return (functional.cross_entropy(logits, right) + functional.cross_entropy(backward, right)) / 2


def contrastive_bank(rows: Any, targets: Any, same: Any, temperature: float, bank: Any, duplicate: float) -> Any:
    """InfoNCE from rows to targets, with more of the teacher's rows among which each must find its own.

    Args:
        rows, targets, same, temperature: as `contrastive` has them.
        bank: unit rows `(num_bank, dim)` of the teacher.
        duplicate: cosine to an item's target above which other targets and rows of the bank are left out for it.
    """
    x, y = functional.normalize(rows, dim=1), functional.normalize(targets, dim=1)
    every = torch.cat([y, bank.to(y)])
    with torch.no_grad():
        left_out = y @ every.T > duplicate
        left_out[:, : len(x)] |= same
        left_out[:, : len(x)].fill_diagonal_(False)
    logits = (x @ every.T / temperature).masked_fill(left_out, float("-inf"))
    return functional.cross_entropy(logits, torch.arange(len(x), device=x.device))


def total_loss(
    config: LossesConfig, rows: Any, terms: Sequence[Term], same: Any, wrong: Any = None, bank: Any = None
) -> tuple[Any, dict[str, Any]]:
    """The weighted sum over losses and terms, divided by the terms' weights; and each loss by itself.

    A term counts by the share of items that have it. With a bank, the contrastive loss is `contrastive_bank`.
    """
    parts: dict[str, Any] = {}
    weights = sum(term.weight * float(term.there.float().mean()) for term in terms)
    for term in terms:
        if not bool(term.there.any()):
            continue
        ours, theirs = rows[term.there], term.targets[term.there]
        share = term.weight * float(term.there.float().mean()) / weights
        alike = same[term.there][:, term.there]
        for name in ("mse", "cosine", "contrastive"):
            if not getattr(config, name):
                continue
            if name == "contrastive" and bank is not None:
                loss = contrastive_bank(ours, theirs, alike, config.temperature, bank, config.duplicate)
            elif name == "contrastive":
                loss = contrastive(ours, theirs, alike, config.temperature, wrong)
            else:
                loss = {"mse": mse, "cosine": cosine}[name](ours, theirs)
            parts[name] = parts.get(name, 0.0) + share * loss
    total = sum(getattr(config, name) * value for name, value in parts.items())
    return total, parts
