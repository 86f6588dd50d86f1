"""Log-mel spectrograms by which speech and what is made of its units are compared: HiFi-GAN's, at 16 kHz.

Frames of 1024 samples (64 ms), one every 256 (16 ms), a periodic Hann window, magnitudes, 80 of Slaney's mel filters
between 0 and 8000 Hz, each of area 1 (as librosa makes them), natural logarithm of at least 1e-5.
"""

from typing import Any

import torch
from torch import nn

from seamlessalign.rows import SAMPLE_RATE

N_FFT = 1024
HOP = 256
N_MELS = 80
FLOOR = 1e-5
_EPSILON = 1e-9  # under the root, whose slope at zero has no end


class LogMel(nn.Module):  # type: ignore[misc]
    """Speech `(rows, num_samples)` → `(rows, 80, num_samples // 256)`, in float32 whatever the precision around it.

    Of speech that is not longer than 384 samples there is none, as the ends are mirrored by so many.
    """

    def __init__(self) -> None:
        from transformers.audio_utils import mel_filter_bank

        super().__init__()
        filters = mel_filter_bank(
            N_FFT // 2 + 1, N_MELS, 0.0, SAMPLE_RATE / 2, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
        )
        self.register_buffer("filters", torch.tensor(filters.T, dtype=torch.float32), persistent=False)
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)

    def forward(self, speech: Any) -> Any:
        with torch.autocast(speech.device.type, enabled=False):
            edge = (N_FFT - HOP) // 2
            mirrored = nn.functional.pad(speech.float()[:, None], (edge, edge), mode="reflect")[:, 0]
            spectrum = torch.stft(mirrored, N_FFT, HOP, window=self.window, center=False, return_complex=True)
            magnitude = torch.view_as_real(spectrum).square().sum(-1).add(_EPSILON).sqrt()
            return (self.filters @ magnitude).clamp(min=FLOOR).log()
