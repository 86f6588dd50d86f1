"""Scores of frames, kept small beside a run's tables, so that other thresholds need no second pass over the audio.

A probability is kept as the whole number of 65536ths below it, so that it is at or above 0.5 (or any other such
fraction) exactly where it was; a level as whole decibels. That is 3 bytes for 32 ms before compression.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from seamlessalign.segmentation.vad import FrameScores

FRAMES = pa.schema(
    [
        pa.field("recording_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("num_samples", pa.int64(), nullable=False),
        pa.field("frame_samples", pa.int32(), nullable=False),
        pa.field("probabilities", pa.list_(pa.field("element", pa.uint16(), nullable=False)), nullable=False),
        pa.field("levels", pa.list_(pa.field("element", pa.int8(), nullable=False)), nullable=False),
    ]
)
_STEPS = 1 << 16
_SILENCE = 1e-12  # mean square that stands for digital silence


def to_row(recording_id: str, uri: str, scores: FrameScores) -> dict[str, Any]:
    """A row of `FRAMES`."""
    steps = np.floor(scores.probabilities.astype(np.float64) * _STEPS)
    decibels = np.rint(10 * np.log10(scores.levels.astype(np.float64) + _SILENCE))
    return {
        "recording_id": recording_id,
        "uri": uri,
        "num_samples": scores.num_samples,
        "frame_samples": scores.frame_samples,
        "probabilities": np.clip(steps, 0, _STEPS - 1).astype(np.uint16),
        "levels": np.clip(decibels, -120, 127).astype(np.int8),
    }


def to_scores(row: dict[str, Any]) -> FrameScores:
    """What a row of `FRAMES` says, as `fragments_of` takes it."""
    probabilities = np.asarray(row["probabilities"], np.float32) / np.float32(_STEPS)
    levels = np.maximum(10 ** (np.asarray(row["levels"], np.float64) / 10) - _SILENCE, 0).astype(np.float32)
    return FrameScores(probabilities, levels, int(row["frame_samples"]), int(row["num_samples"]))
