"""Spans for the price of one pass: SONAR's conformer reads each stretch of speech once, and spans share its outputs.

SONAR was trained on utterances by themselves, so rows differ from those of spans that are encoded one by one: an output
has heard what is around its span, and features are standardised over the window, not over the span.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from seamlessalign.embedders.batches import check_finite
from seamlessalign.embedders.sonar.features import FRAME_LENGTH, FRAME_SHIFT, STACKED, num_inputs
from seamlessalign.embedders.windows import Waiting, cut_windows, parts_of, stitch, stretches
from seamlessalign.rows import SAMPLE_RATE

if TYPE_CHECKING:
    from seamlessalign.embedders.sonar.speech import SonarSpeechEncoder

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
Progress = Callable[[float], None]

WINDOW_SECONDS = 24.0
CONTEXT_SECONDS = 2.0  # on both sides of a window
_STRIDE = STACKED * FRAME_SHIFT
_OFFSET = (FRAME_LENGTH + (STACKED - 1) * FRAME_SHIFT) // 2  # from an input's first sample to its middle
_GROUP = 8  # windows that are read before spans are pooled


def encode_shared(
    encoder: "SonarSpeechEncoder",
    waveform: Float32,
    spans: Int64,
    fragments: Int64 | None = None,
    progress: Progress | None = None,
) -> Float32:
    """Rows of spans from outputs in common, `(num_spans, dim)`, in the order of the spans, not of unit length.

    Memory does not grow with the recording: outputs are held from the first span that waits for more of them to the
    windows that are being read.

    Args:
        encoder: with the language's network.
        waveform: float32 `(num_samples,)` at 16 kHz. What is not finite, and in no span, is read as silence.
        spans: int64 `(num_spans, 2)`, samples, none of them empty, with `MIN_SAMPLES` at least.
        fragments: int64 `(num_fragments, 2)`, sorted: what spans are made of; windows part in the pauses between them.
        progress: called with the seconds read since the last call, of those that the spans cover.

    Raises:
        ModelError: rows that are not finite in the encoder's precision.
    """
    import torch

    covered = stretches(spans)
    parts = covered if fragments is None else parts_of(covered, fragments)
    num_samples = len(waveform)
    windows = cut_windows(
        parts, num_samples, max_seconds=WINDOW_SECONDS, context_seconds=CONTEXT_SECONDS, stride=_STRIDE
    )
    counts = [num_inputs(int(end - start)) for start, end in windows]
    stitched = stitch(windows, parts, counts, num_samples, stride=_STRIDE, offset=_OFFSET)
    edges = np.searchsorted(stitched.window, np.arange(len(windows) + 1))  # of the windows' frames
    seconds = float((covered[:, 1] - covered[:, 0]).sum()) / SAMPLE_RATE

    rows = np.full((len(spans), encoder.dim), np.nan, np.float32)
    waiting, held = Waiting(spans), torch.zeros((0, encoder.dim), dtype=encoder.dtype, device=encoder.device)
    for first in range(0, len(windows), _GROUP):
        last = min(first + _GROUP, len(windows))
        pieces = [_finite(waveform[start:end]) for start, end in windows[first:last]]
        now = slice(edges[first], edges[last])
        places = [stitched.place[edges[i] : edges[i + 1]] for i in range(first, last)]
        reached = stitched.time[edges[last]] if edges[last] < len(stitched.time) else num_samples
        ready, ranges, done = waiting.arrived(stitched.time[now], int(reached))
        with torch.inference_mode():
            held = torch.cat([held, *_chosen(encoder.outputs(pieces), places)])
            rows[ready] = check_finite(encoder.pool_spans(held, ranges), encoder.dtype)
            held = held[done:].clone()
        if progress is not None:
            progress(seconds * float(edges[last] - edges[first]) / len(stitched.time))
    return rows


def _chosen(outputs: list[Any], places: list[Int64]) -> list[Any]:
    """Of each window's outputs those that are taken from it."""
    import torch

    return [values[torch.as_tensor(place, device=values.device)] for values, place in zip(outputs, places, strict=True)]


def _finite(samples: Float32) -> Float32:
    return np.where(np.isfinite(samples), samples, np.float32(0))
