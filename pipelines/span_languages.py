"""Languages in a run: the thresholds that a language identifier is believed by, and what of them a digest covers."""

from typing import Any

from seamlessalign.config import RunConfig, SpeechLidConfig
from seamlessalign.lid import calibration_of
from seamlessalign.model_files import find_model, place_of


def idle_lid_keys(config: RunConfig) -> set[str]:
    """Keys of `speech.lid` that a digest leaves out: those at their defaults, and where a calibration lies."""
    added, defaults = ("drop_mixed",), SpeechLidConfig()
    same = {key for key in added if getattr(config.speech.lid, key) == getattr(defaults, key)}
    return same | {"calibration"}


def thresholds_of(config: RunConfig) -> list[dict[str, Any]]:
    """The calibration of the run's speech language identifier as plain values; empty where there is none.

    Raises ConfigError, before any work, where it is damaged or of other weights.
    """
    lid = config.speech.lid
    if config.speech.lang is not None:
        return []
    found = calibration_of(find_model(lid.model, place_of(lid.model, config.models)), lid.calibration)
    return [found.model_dump(mode="json")] if found else []
