"""The most operations that a device does in a second, as its maker says, by which a training's are told as a share.

Data sheets of NVIDIA: dense products, without sparsity; of float32 without tensor cores, as torch computes by default.
"""

import re
from typing import Any

import torch

# in the device's name → precision → floating-point operations in a second; the first that fits counts
_PEAKS = (
    (r"\bB200\b", {"fp16": 2250e12, "bf16": 2250e12, "no": 75e12}),
    (r"\bH100 PCIe\b", {"fp16": 756e12, "bf16": 756e12, "no": 51e12}),
    (r"\bH[12]00\b", {"fp16": 989e12, "bf16": 989e12, "no": 67e12}),
    (r"\bA100\b", {"fp16": 312e12, "bf16": 312e12, "no": 19.5e12}),
    (r"\bL40S\b", {"fp16": 362e12, "bf16": 362e12, "no": 91.6e12}),
    (r"\bA10\b", {"fp16": 125e12, "bf16": 125e12, "no": 31.2e12}),
    (r"\bV100\b", {"fp16": 125e12, "no": 15.7e12}),
    (r"\bT4\b", {"fp16": 65e12, "no": 8.1e12}),
)


def peak(device: Any, precision: str) -> float | None:
    """Floating-point operations in a second that a device does at the most; None where that is not known."""
    if device.type != "cuda" or (precision == "no" and torch.backends.cuda.matmul.allow_tf32):
        return None
    return peak_of(torch.cuda.get_device_name(device), precision)


def peak_of(name: str, precision: str) -> float | None:
    """The same by the name that the driver gives a device; precision: of mixed precision, `no` for float32."""
    for pattern, peaks in _PEAKS:
        if re.search(pattern, name.replace("-", " ")):
            return peaks.get(precision)
    return None
