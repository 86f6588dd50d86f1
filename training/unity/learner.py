"""What a training computes of a batch: each side is encoded, the target decoded from it, and every token's loss summed.

Nothing here knows of other processes, or of other batches of a step, but for the number of tokens in all of them, by
which sums are divided.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from seamlessalign.training.data.examples import TEXT_PAD, UNIT_PAD, UnityBatch
from seamlessalign.training.unity.config import UnityLosses
from seamlessalign.training.unity.frame_norm import FrameNorm1d, nothing_counts
from seamlessalign.training.unity.freezing import train_unfrozen
from seamlessalign.training.unity.losses import token_divergence, token_losses

if TYPE_CHECKING:
    from seamlessalign.training.unity.model import UnitY

# What is found of each row: sums over its tokens. `s2tt` and `t2tt`: target text, decoded from speech and from text.
FOUND = (
    *("s2tt_nll", "s2tt_right", "s2tt_tokens"),
    *("t2tt_nll", "t2tt_right", "t2tt_tokens"),
    *("kd", "kd_tokens"),
    *("t2u_nll", "t2u_right", "t2u_tokens"),
)
_TOKENS_AT_ONCE = 4096  # whose logits are held; more are computed again for the gradient
_IDLE_FRAMES = 16  # of speech that stands for none


class UnityLearner(nn.Module):  # type: ignore[misc]
    """UnitY as the module that batches go through. Each parameter that learns has a part in every batch, if only of 0,
    so that processes with different rows wait for the same ones.
    """

    def __init__(
        self, unity: "UnitY", losses: UnityLosses, *, layer_drop: float = 0.0, frozen_norms: bool = True
    ) -> None:
        """layer_drop: the chance of each layer of the speech encoder to be left out of a batch (LayerDrop, Fan et al.
        2020, arXiv 1909.11556); frozen_norms: batch normalisation goes by the statistics that it has.
        """
        super().__init__()
        self.unity, self.losses = unity, losses
        self._layer_drop, self._frozen_norms = layer_drop, frozen_norms
        _drop_no_layers(unity)

    def train(self, mode: bool = True) -> "UnityLearner":
        """Training is for what learns; the rest stays in evaluation mode."""
        super().train(mode)
        if mode:
            train_unfrozen(self.unity)
            if self._frozen_norms:
                for module in self.modules():
                    if isinstance(module, nn.BatchNorm1d):
                        module.eval()
        return self

    def forward(
        self, batch: UnityBatch | None, num_text: int = 1, num_units: int = 1, *, speech: bool = False, draw: int = 0
    ) -> tuple[Any, Any]:
        """This process's share of the loss of a batch, a scalar, and what is found, float32 `(rows, len(FOUND))`.

        Args:
            batch: rows of this process; None: it has none.
            num_text: tokens of target text that are learnt in the whole step, by which their losses are divided.
            num_units: units likewise.
            speech: some process has speech.
            draw: which layers are left out follows from this alone; the same in all processes.
        """
        loss = sum(parameter.sum() for parameter in self.parameters() if parameter.requires_grad) * 0.0
        with self._layers_left_out(draw):
            found, heard = torch.zeros(0, len(FOUND)), False
            if batch is not None:
                share, found, heard = self._learn(batch, num_text, num_units)
                loss = loss + share
            if speech and not heard:
                loss = loss + self._silence()
        return loss, found

    def _learn(self, batch: UnityBatch, num_text: int, num_units: int) -> tuple[Any, Any, bool]:
        """The loss, what is found, and whether the speech encoder took part."""
        weights, unity = self.losses, self.unity
        inputs, labels = batch.tgt_tokens[:, :-1], batch.tgt_tokens[:, 1:]
        real = labels != TEXT_PAD
        hears, reads, units = _sides(batch, weights)
        spoken = written = None
        if batch.features is not None and (hears or units):
            states, mask = unity.encode_speech(batch.features, batch.feature_mask)
            spoken = unity.decode_text(inputs, states, mask)
        if batch.src_tokens is not None and (reads or (units and batch.features is None)):
            states, mask = unity.encode_text(batch.src_tokens, batch.src_mask)
            written = unity.decode_text(inputs, states, mask)
        found = torch.zeros(len(labels), len(FOUND), device=labels.device)
        loss = torch.zeros((), device=labels.device)
        heard = spoken if hears else None
        read = written if reads else None
        if heard is not None or read is not None:
            sums, seen = self._texts(heard, read, labels)
            loss = loss + sums / num_text
            found += seen
        if units and batch.unit_tokens is not None:
            states = written if spoken is None else spoken
            sums, seen = self._units(states, real, batch.unit_tokens)
            loss = loss + weights.t2u * sums / num_units
            found += seen
        return loss, found, spoken is not None

    def _texts(self, heard: Any, read: Any, labels: Any) -> tuple[Any, Any]:
        """The weighted sum of losses of target text, decoded from speech, from text, or both."""
        weights, learnt = self.losses, _learnt(labels, TEXT_PAD)

        def head(heard: Any, read: Any, labels: Any) -> tuple[Any, Any]:
            logits = [None if hidden is None else self.unity.logits(hidden) for hidden in (heard, read)]
            total, columns = torch.zeros((), device=labels.device), torch.zeros(len(labels), 8, device=labels.device)
            for side, weight in enumerate((weights.s2tt, weights.t2tt)):
                if logits[side] is not None:
                    of = token_losses(logits[side], labels, weights.label_smoothing, weights.smoothing_over)
                    total = total + weight * of.loss.sum()
                    seen = torch.stack([of.nll, of.right, torch.ones_like(of.nll)], 1)
                    columns[:, 3 * side : 3 * side + 3] = seen
            if logits[0] is not None and logits[1] is not None:
                apart = token_divergence(logits[1], logits[0], teacher_learns=weights.teacher_learns)
                total = total + weights.kd * apart.sum()
                columns[:, 6:] = torch.stack([apart.detach(), torch.ones_like(apart)], 1)
            return total, columns

        heard, read = (None if hidden is None else hidden[learnt] for hidden in (heard, read))
        return _by_rows(*_in_parts(head, heard, read, labels[learnt]), learnt, 0)

    def _units(self, states: Any, real: Any, tokens: Any) -> tuple[Any, Any]:
        weights, labels = self.losses, tokens[:, 1:]
        logits = self.unity.decode_units(states, real.long(), tokens[:, :-1])
        there = _learnt(labels, UNIT_PAD)
        of = token_losses(logits[there], labels[there], weights.label_smoothing, weights.smoothing_over)
        seen = torch.stack([of.nll, of.right, torch.ones_like(of.nll)], 1)
        return _by_rows(of.loss.sum(), seen, there, 8)

    def _silence(self) -> Any:
        """0, through norms that other processes' speech goes through too, which wait for all."""
        norms = [module for module in self.unity.modules() if isinstance(module, FrameNorm1d)]
        if not any(norm.training for norm in norms):
            return 0.0
        device = norms[0].weight.device
        with nothing_counts(self.unity):
            features = torch.zeros(1, _IDLE_FRAMES, 160, device=device)
            states, _ = self.unity.encode_speech(features, torch.ones(1, _IDLE_FRAMES, dtype=torch.long, device=device))
        return states.float().sum() * 0.0

    @contextmanager
    def _layers_left_out(self, draw: int) -> Iterator[None]:
        """Layers of the speech encoder are drawn anew for each batch, the same in all processes."""
        stacks = _stacks(self.unity.speech_encoder) if self.training and self._layer_drop else []
        stacks = [stack for stack in stacks if stack.training]
        chance = torch.Generator().manual_seed(draw)
        whole = []
        for stack in stacks:
            layers = stack.layers
            kept = [layer for layer in layers if float(torch.rand((), generator=chance)) >= self._layer_drop]
            whole.append((stack, layers))
            stack.layers = nn.ModuleList(kept)
        try:
            yield
        finally:
            for stack, layers in whole:
                stack.layers = layers


def amounts(batch: UnityBatch, losses: UnityLosses) -> tuple[int, int, int]:
    """Tokens of target text and units of a batch that have a loss, and its frames of speech."""
    hears, reads, units = _sides(batch, losses)
    text = int(_learnt(batch.tgt_tokens[:, 1:], TEXT_PAD).sum()) if hears or reads else 0
    spoken = 0 if batch.unit_tokens is None or not units else int(_learnt(batch.unit_tokens[:, 1:], UNIT_PAD).sum())
    return text, spoken, 0 if batch.feature_mask is None else int(batch.feature_mask.sum())


def _learnt(labels: Any, pad: int) -> Any:
    """Which labels `(rows, tokens)`, `[tag] pieces </s>`, have a loss: all but padding and the tag.

    Whoever translates says the tag; speech or text alone does not tell it. Meta's fine-tuning leaves it out likewise.
    """
    found = labels != pad
    found[:, 0] = False
    return found


def _sides(batch: UnityBatch, losses: UnityLosses) -> tuple[bool, bool, bool]:
    """Whether target text is learnt that is decoded from speech, from text, and whether units are."""
    heard, read = batch.features is not None, batch.src_tokens is not None
    both = heard and read and losses.kd > 0
    units = losses.t2u > 0 and batch.unit_tokens is not None
    return heard and (losses.s2tt > 0 or both), read and (losses.t2tt > 0 or both), units


def _in_parts(head: Any, heard: Any, read: Any, labels: Any) -> tuple[Any, Any]:
    """A function of tokens on so many at a time that their logits fit; it returns a sum, and columns of each token."""
    if len(labels) <= _TOKENS_AT_ONCE:
        return tuple(head(heard, read, labels))
    total, columns = 0.0, list[Any]()
    for start in range(0, len(labels), _TOKENS_AT_ONCE):
        part = slice(start, start + _TOKENS_AT_ONCE)
        given = [None if value is None else value[part] for value in (heard, read, labels)]
        found = checkpoint(head, *given, use_reentrant=False)
        total = total + found[0]
        columns.append(found[1])
    return total, torch.cat(columns)


def _by_rows(total: Any, columns: Any, real: Any, first: int) -> tuple[Any, Any]:
    """Sums of columns of tokens `(num_real, num_columns)` over the tokens of each row of `real` `(rows, tokens)`."""
    rows = real.nonzero()[:, 0]
    found = torch.zeros(len(real), len(FOUND), device=real.device)
    found[:, first : first + columns.shape[1]].index_add_(0, rows, columns.detach())
    return total, found


def _stacks(encoder: Any) -> list[Any]:
    """Modules that go through their `layers` one by one; the adaptor's, which change the length, are not left out."""
    found = []
    for name, module in encoder.named_modules():
        if isinstance(getattr(module, "layers", None), nn.ModuleList) and "adapt" not in name:
            found.append(module)
    return found


def _drop_no_layers(unity: Any) -> None:
    """Take transformers' own LayerDrop away, which differs between processes."""
    for module in unity.modules():
        if hasattr(module, "layerdrop"):
            module.layerdrop = 0.0
        if hasattr(getattr(module, "config", None), "speech_encoder_layerdrop"):
            module.config.speech_encoder_layerdrop = 0.0
