"""Which spans are not worth embedding by the sound of them, and what measures that, under a configuration."""

import numpy as np
import numpy.typing as npt

from seamlessalign.config import QualityConfig, RunConfig
from seamlessalign.model_files import find_model
from seamlessalign.segmentation.dnsmos import MODEL as DNSMOS
from seamlessalign.segmentation.music_or_noise import model_sha256
from seamlessalign.segmentation.quality import Quality

REASONS = ("low_snr", "clipped", "narrow_band", "unlike_speech", "music_or_noise", "low_dnsmos")


def quality_reasons(quality: Quality, config: QualityConfig) -> list[str | None]:
    """The first of `REASONS` for which each span is dropped, or None; a bound itself is allowed."""

    def below(values: npt.NDArray[np.float32] | None, bound: float | None) -> npt.NDArray[np.bool_]:
        if values is None or bound is None:
            return np.zeros(len(quality), np.bool_)
        return np.asarray(values < np.float32(bound), np.bool_)

    def above(values: npt.NDArray[np.float32], bound: float | None) -> npt.NDArray[np.bool_]:
        return below(-values, None if bound is None else -bound)

    failed = (
        below(quality.snr_db, config.min_snr_db),
        above(quality.clipping, config.max_clipping),
        below(quality.bandwidth_hz, config.min_bandwidth_hz),
        below(quality.speech_prob, config.min_speech_prob),
        above(quality.music_noise_prob, config.max_music_noise_prob),
        below(quality.dnsmos_ovrl, config.min_dnsmos),
    )
    table = np.stack(failed, axis=1)
    first = np.where(table.any(axis=1), table.argmax(axis=1), len(REASONS))
    return [(*REASONS, None)[number] for number in first.tolist()]


def sound_models(config: RunConfig) -> dict[str, str]:
    """Name and SHA-256 of the models that measure spans; none where nothing is measured.

    Raises ModelError where DNSMOS is asked for and not found.
    """
    quality = config.speech.quality
    if not quality.wanted:
        return {}
    models = {"music-or-noise": model_sha256()}
    if quality.rated:
        models[DNSMOS] = find_model(DNSMOS, config.models.get(DNSMOS)).sha256
    return models
