"""What speech is told in: codes that are learnt (GVQ), and codes of frozen random projections (RPQ)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from seamlessalign.training.w2v_bert.config import GumbelSettings, ProjectionSettings


@dataclass(frozen=True)
class Codes:
    """What a GVQ makes of inputs."""

    vectors: Any  # (num, dim): the entries that were chosen, those of the groups side by side
    chosen: Any  # int64 (num, groups)
    shares: Any  # (num, groups, entries): softmax without noise or temperature


class GumbelQuantiser(nn.Module):  # type: ignore[misc]
    """Product quantisation by a hard Gumbel softmax (wav2vec 2.0, arXiv 2006.11477, section 2).

    The entry whose logit with its noise is highest is taken; its gradient is that of the soft choice.
    """

    def __init__(self, inputs: int, settings: GumbelSettings) -> None:
        super().__init__()
        self.groups, self.entries = settings.groups, settings.entries
        self.logits = nn.Linear(inputs, self.groups * self.entries)
        nn.init.normal_(self.logits.weight)
        nn.init.zeros_(self.logits.bias)
        self.codebook = nn.Parameter(torch.rand(self.groups, self.entries, settings.dim // self.groups))

    def forward(self, inputs: Any, noise: Any | None, temperature: float) -> Codes:
        """Codes of inputs `(num, inputs)`; noise `(num, groups, entries)`, or None for the highest logit."""
        logits = self.logits(inputs).view(-1, self.groups, self.entries)
        shares = logits.softmax(-1)
        noisy = logits if noise is None else logits + noise
        chosen = noisy.argmax(-1)
        choice = nn.functional.one_hot(chosen, self.entries).to(logits.dtype)
        if noise is not None:
            soft = (noisy / temperature).softmax(-1)
            choice = choice + (soft - soft.detach())  # the very zeros and ones, with a gradient
        vectors = torch.einsum("nge,ged->ngd", choice, self.codebook)
        return Codes(vectors.flatten(1), chosen, shares)


def gumbel_noise(seeds: Sequence[int], counts: Sequence[int], groups: int, entries: int, device: Any) -> Any:
    """Noise `(sum of counts, groups, entries)` of rows with so many inputs each, by the seed of each row.

    It is the same whichever rows are with it; not on different kinds of devices.
    """
    made = []
    for seed, count in zip(seeds, counts, strict=True):
        generator = torch.Generator(device).manual_seed(seed)
        empty = torch.empty((count, groups, entries), device=device)
        made.append(-empty.exponential_(generator=generator).log())
    return torch.cat(made) if made else torch.zeros((0, groups, entries), device=device)


class ProjectionQuantiser(nn.Module):  # type: ignore[misc]
    """Codes of random projections, never trained (BEST-RQ, arXiv 2202.01855, section 3.1).

    The projection is drawn by Xavier's rule and the entries from a normal distribution; the code is the entry that is
    nearest to the projected input, both of length 1. Ours is that each input is standardised first: over an utterance,
    features differ most in loudness, which is one direction, so that most inputs would share few codes.
    """

    def __init__(self, inputs: int, settings: ProjectionSettings, seed: int) -> None:
        super().__init__()
        self.codebooks, self.entries = settings.codebooks, settings.entries
        generator = torch.Generator().manual_seed(seed)
        reach = (6 / (inputs + settings.dim)) ** 0.5
        projections = (2 * torch.rand(self.codebooks, inputs, settings.dim, generator=generator) - 1) * reach
        entries = torch.randn(self.codebooks, self.entries, settings.dim, generator=generator)
        self.register_buffer("projections", projections)
        self.register_buffer("entry_vectors", nn.functional.normalize(entries, dim=-1))

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def forward(self, inputs: Any) -> Any:
        """Codes int64 `(num, codebooks)` of inputs `(num, inputs)`.

        Between vectors of length 1 the nearest is the one with the highest product; the projected input's own length
        changes nothing.
        """
        inputs = nn.functional.layer_norm(inputs, inputs.shape[-1:])
        projected = torch.einsum("ni,bid->bnd", inputs, self.projections)
        return (projected @ self.entry_vectors.transpose(1, 2)).argmax(-1).T
