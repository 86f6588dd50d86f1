"""Languages in a run: the thresholds that an identifier is believed by, and spans that have a language of their own."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign.config import RunConfig, SpeechLidConfig
from seamlessalign.lid import UNKNOWN, Stretch, calibration_of
from seamlessalign.model_files import find_model, place_of
from seamlessalign.rows import Recording
from seamlessalign.segmentation.spans import Spans

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SpanLanguage:
    """The language of a span, or the reason for which it is dropped."""

    lang: str | None  # ISO 639-3; None where it is dropped
    score: float  # the least sure of its stretches
    reason: str | None


def span_languages(stretches: Sequence[Stretch], span_fragments: Int64, wanted: Collection[str]) -> list[SpanLanguage]:
    """Languages of spans by the stretches of speech that they are in.

    Args:
        stretches: those of a recording, in order, which hold each of its fragments once.
        span_fragments: int64 `(num_spans, 2)`, each span's first fragment and the one behind its last.
        wanted: languages that are kept.

    Returns:
        For each span its language where all its stretches are surely in one that is wanted; else `language_mixed`
        (two that are sure differ), `language_uncertain` (none is sure, or one is not) or `language_not_wanted`.
    """
    starts = np.array([stretch.first for stretch in stretches], np.int64)
    found = []
    for first, last in span_fragments.tolist():
        low = int(np.searchsorted(starts, first, "right")) - 1
        high = int(np.searchsorted(starts, last - 1, "right"))
        decisions = [stretch.decision for stretch in stretches[low:high]]
        answers = [UNKNOWN if decision is None else decision.answer for decision in decisions]
        score = min((decision.score if decision else 0.0) for decision in decisions)
        sure = set(answers) - {UNKNOWN}
        reason = None
        if len(sure) > 1:
            reason = "language_mixed"
        elif UNKNOWN in answers:
            reason = "language_uncertain"
        elif not sure & set(wanted):
            reason = "language_not_wanted"
        found.append(SpanLanguage(None if reason else sure.pop(), score, reason))
    return found


def parts_by_language(
    recording: Recording, spans: Spans, languages: Sequence[SpanLanguage]
) -> list[tuple[Recording, Spans]]:
    """The spans of each language, with a recording that says it is in that one, as sure as they are on average."""
    parts = []
    for lang in sorted({one.lang for one in languages if one.lang is not None}):
        chosen = np.array([one.lang == lang for one in languages], np.bool_)
        score = float(np.mean([one.score for one in languages if one.lang == lang]))
        spoken = replace(recording, lang=lang, lang_prob=score)
        parts.append((spoken, Spans(spans.spans[chosen], spans.fragments[chosen])))
    return parts


def idle_lid_keys(config: RunConfig) -> set[str]:
    """Keys of `speech.lid` that a digest leaves out: those at their defaults, and where a calibration lies."""
    added, defaults = ("drop_mixed", "per_segment", "check_stated"), SpeechLidConfig()
    same = {key for key in added if getattr(config.speech.lid, key) == getattr(defaults, key)}
    return same | {"calibration"}


def thresholds_of(config: RunConfig) -> list[dict[str, Any]]:
    """The calibration of the run's speech language identifier as plain values; empty where there is none.

    Raises ConfigError, before any work, where it is damaged or of other weights.
    """
    lid = config.speech.lid
    if not config.speech.hears_languages:
        return []
    found = calibration_of(find_model(lid.model, place_of(lid.model, config.models)), lid.calibration)
    return [found.model_dump(mode="json")] if found else []
