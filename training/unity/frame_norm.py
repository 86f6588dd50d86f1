"""Batch normalisation over the real frames of a batch, of all processes: how it is padded and shared changes nothing.

The conformer of SeamlessM4T has torch's BatchNorm1d, which counts padding as if it were speech.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from seamlessalign.synced_norm import summed


class FrameNorm1d(nn.BatchNorm1d):  # type: ignore[misc]
    """As `torch.nn.BatchNorm1d` on `(rows, channels, frames)`, over the frames that `real` says are there.

    While it trains, all processes must call it equally often; one that has no speech does so with `nothing_counts`.
    """

    real: Any = None  # (rows, frames), 1 or true is real; None: all are
    counts = True  # else nothing is real

    def forward(self, x: Any) -> Any:
        if not self.training:
            return super().forward(x)
        values = x.float()
        real = torch.ones_like(values[:, :1]) if self.real is None else self.real[:, None].to(values.dtype)
        real = real * float(self.counts)
        count = real.sum()[None]
        sums = summed(torch.cat([(values * real).sum((0, 2)), count]))
        count = sums[-1].detach().clamp_min(1)
        mean = sums[:-1] / count
        centred = values - mean[:, None]
        variance = summed((centred.square() * real).sum((0, 2))) / count
        with torch.no_grad():
            momentum = self.momentum if self.momentum is not None else 0.1
            momentum = momentum * (sums[-1] > 0).to(mean.dtype)  # where nothing counts at all, statistics stay
            self.running_mean.lerp_(mean.detach(), momentum)
            self.running_var.lerp_(variance.detach() * count / (count - 1).clamp_min(1), momentum)
            self.num_batches_tracked += 1
        scale = (self.weight / torch.sqrt(variance + self.eps))[:, None]
        return (centred * scale + self.bias[:, None]).to(x.dtype)


def with_frame_norms(module: Any) -> Any:
    """The module with each BatchNorm1d in it replaced; parameters and buffers stay the same objects.

    The mask of the module around a norm, which it is called with by the keyword `attention_mask`, is what is real.
    """
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm1d:
            norm = FrameNorm1d(child.num_features, child.eps, child.momentum, child.affine)
            norm.weight, norm.bias = child.weight, child.bias
            norm.running_mean, norm.running_var = child.running_mean, child.running_var
            norm.num_batches_tracked = child.num_batches_tracked
            norm.train(child.training)
            setattr(module, name, norm)
            module.register_forward_pre_hook(_tell_mask, with_kwargs=True)
        else:
            with_frame_norms(child)
    return module


@contextmanager
def nothing_counts(module: Any) -> Iterator[None]:
    """Speech that goes through the norms of a module takes no part in what they compute."""
    norms = [norm for norm in module.modules() if isinstance(norm, FrameNorm1d)]
    for norm in norms:
        norm.counts = False
    try:
        yield
    finally:
        for norm in norms:
            norm.counts = True


def _tell_mask(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    for child in module.children():
        if isinstance(child, FrameNorm1d):
            child.real = kwargs.get("attention_mask")
