"""Batch normalisation whose statistics are those of the batch over all processes, on any device and backend.

torch.nn.SyncBatchNorm has no way over processors and gloo. With it, several processes compute what one does.
"""

from typing import Any

import torch
import torch.distributed.nn
from torch import nn


class SyncedBatchNorm1d(nn.BatchNorm1d):  # type: ignore[misc]
    """As `torch.nn.BatchNorm1d`, over the rows of all processes; these may have different numbers of rows."""

    def forward(self, x: Any) -> Any:
        """x: `(batch, channels)` or `(batch, channels, time)`."""
        if not self.training:
            return super().forward(x)
        dims = [0, *range(2, x.dim())]
        values = x.float()
        channels, shape = values.shape[1], [1, values.shape[1]] + [1] * (x.dim() - 2)
        count = torch.full((1,), values.numel() / channels, device=x.device)
        sums = summed(torch.cat([values.sum(dims), count]))
        count, mean = sums[-1].detach(), sums[:-1] / sums[-1].detach()
        centred = values - mean.view(shape)
        variance = summed(centred.square().sum(dims)) / count
        with torch.no_grad():
            momentum = self.momentum if self.momentum is not None else 0.1
            self.running_mean.lerp_(mean.detach(), momentum)
            self.running_var.lerp_(variance.detach() * count / (count - 1).clamp_min(1), momentum)
            self.num_batches_tracked += 1
        scale = (self.weight / torch.sqrt(variance + self.eps)).view(shape)
        return (centred * scale + self.bias.view(shape)).to(x.dtype)


def summed(values: Any) -> Any:
    """The sum over all processes, through which gradients flow."""
    if not torch.distributed.is_initialized():
        return values
    return torch.distributed.nn.functional.all_reduce(values)


def with_synced_norms(module: Any) -> Any:
    """The module with every BatchNorm1d in it replaced by one over all processes; parameters stay the same objects."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm1d:
            synced = SyncedBatchNorm1d(child.num_features, child.eps, child.momentum, child.affine)
            synced.weight, synced.bias = child.weight, child.bias
            synced.running_mean, synced.running_var = child.running_mean, child.running_var
            synced.num_batches_tracked = child.num_batches_tracked
            setattr(module, name, synced)
        else:
            with_synced_norms(child)
    return module
