"""Which spans are not worth embedding by the sound of them, under a configuration."""

import numpy as np
import numpy.typing as npt

from seamlessalign.config import QualityConfig
from seamlessalign.segmentation.quality import Quality

REASONS = ("low_snr", "clipped", "narrow_band", "unlike_speech")


def quality_reasons(quality: Quality, config: QualityConfig) -> list[str | None]:
    """The first of `REASONS` for which each span is dropped, or None; a bound itself is allowed."""

    def beyond(low: npt.NDArray[np.float32], high: float | None) -> npt.NDArray[np.bool_]:
        none = np.zeros(len(quality.snr_db), np.bool_)
        return none if high is None else np.asarray(low < np.float32(high), np.bool_)

    clipped = None if config.max_clipping is None else -config.max_clipping
    failed = (
        beyond(quality.snr_db, config.min_snr_db),
        beyond(-quality.clipping, clipped),
        beyond(quality.bandwidth_hz, config.min_bandwidth_hz),
        beyond(quality.speech_prob, config.min_speech_prob),
    )
    table = np.stack(failed, axis=1)
    first = np.where(table.any(axis=1), table.argmax(axis=1), len(REASONS))
    return [(*REASONS, None)[number] for number in first.tolist()]
