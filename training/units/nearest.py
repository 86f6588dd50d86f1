"""The nearest centroid of every frame, exactly: what is asked for millions of frames is one matrix product.

‖x − c‖² = ‖x‖² − 2 x·c + ‖c‖², of which ‖x‖² is the same for all centroids (arXiv 2308.11596, 4.3, has units of
XLS-R's frames that way). In float32 the product may be off by a little, so where another centroid is within the bound
of that error the few that are so close are compared in float64. So a unit depends on its frame and the centroids
alone: not on the batch, the device, the number of threads, or what else they compute.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import InputError, ModelError

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]

_MOST_SCORES = 1 << 24  # numbers of a product that are in memory at a time: 64 MiB
_ROUNDING = 2.0**-24  # of a sum or product in float32, relative


class Centroids:
    """Centroids `(num_units, dim)` on a device. A frame has the unit of the nearest, the lowest where several are."""

    def __init__(self, values: Float32, device: str = "cpu") -> None:
        """Raises InputError for what are no centroids: another shape, or numbers that are not finite."""
        import torch

        values = np.ascontiguousarray(values, np.float32)
        if values.ndim != 2 or not values.size:
            raise InputError(f"centroids have shape {values.shape}: (num_units, dim) is needed")
        if not np.isfinite(values).all():
            raise InputError("centroids are not all finite numbers")
        self.values = values
        self._exact = values.astype(np.float64)
        # distances are the same from anywhere; about their middle, numbers are smallest and so is what is rounded
        self._middle = torch.from_numpy(self._exact.mean(0).astype(np.float32)).to(device)
        moved = self._exact - self._middle.cpu().numpy().astype(np.float64)
        self._moved = torch.from_numpy(moved.astype(np.float32)).to(device)
        self._squares = torch.from_numpy(np.square(moved).sum(1).astype(np.float32)).to(device)
        self._longest = float(np.sqrt(np.square(moved).sum(1).max()))

    def __len__(self) -> int:
        return len(self.values)

    @property
    def dim(self) -> int:
        """Dimensions of a frame."""
        return int(self.values.shape[1])

    def nearest(self, frames: Any) -> Int32:
        """Units `(num_frames,)` of frames `(num_frames, dim)`, an array or a tensor on any device.

        Raises ModelError for frames of other dimensions or with numbers that are not finite.
        """
        import torch

        rows = torch.as_tensor(frames).to(self._moved.device, torch.float32)
        if rows.ndim != 2 or rows.shape[1] != self.dim:
            raise ModelError(f"frames have shape {tuple(rows.shape)}, the centroids {self.dim} dimensions")
        found = np.empty(len(rows), np.int32)
        size = max(1, _MOST_SCORES // len(self))
        with torch.no_grad():
            for start in range(0, len(rows), size):
                found[start : start + size] = self._nearest(rows[start : start + size])
        return found

    def _nearest(self, rows: Any) -> Int32:
        import torch

        moved = rows - self._middle
        length = moved.norm(dim=1)
        if not bool(torch.isfinite(length).all()):
            raise ModelError("frames are not all finite numbers; load the model in float32")
        scores = torch.addmm(self._squares, moved, self._moved.T, alpha=-2)
        least, chosen = scores.min(1)
        # Two scores may change places if they are nearer to each other than both errors: each that of a sum of `dim`
        # products (Higham, Accuracy and Stability of Numerical Algorithms, 3.1), and of moving and squaring; twice it.
        product = (self.dim + 8) * _ROUNDING * length * self._longest
        error = 2 * product + 4 * _ROUNDING * (length.square() + self._longest**2)
        highest = least + 4 * error
        scores.scatter_(1, chosen[:, None], torch.inf)
        unsure = torch.nonzero(scores.amin(1) <= highest).flatten()
        found = chosen.to(torch.int32).cpu().numpy()
        for i in unsure.tolist():
            close = torch.nonzero(scores[i] <= highest[i]).flatten().tolist()
            candidates = np.array(sorted([*close, int(chosen[i])]))
            frame = rows[i].cpu().numpy().astype(np.float64)
            distances = np.square(self._exact[candidates] - frame).sum(1)
            found[i] = candidates[distances.argmin()]
        return np.asarray(found, np.int32)
