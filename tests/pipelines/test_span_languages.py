"""Languages of spans against reading their fragments one by one; what a run makes of decisions; digests."""

from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from seamlessalign.config import parse_config
from seamlessalign.errors import ConfigError
from seamlessalign.lid import UNKNOWN, SpeechLid, Stretch
from seamlessalign.lid.calibration import Decision, fit_calibration, save_calibration
from seamlessalign.model_files import ModelFiles, find_model
from seamlessalign.pipelines import speech_recordings
from seamlessalign.pipelines.context import Context
from seamlessalign.pipelines.span_languages import idle_lid_keys, span_languages, thresholds_of
from seamlessalign.rows import SAMPLE_RATE, Recording
from seamlessalign.segmentation import over_segment
from tests.pipelines.small_corpus import need_models

PARTS = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from(["eng", "fra", "rus", UNKNOWN, None])), min_size=1, max_size=8
)


def _stretches(parts: list[tuple[int, str | None]]) -> list[Stretch]:
    found, at = [], 0
    for number, (count, answer) in enumerate(parts):
        decision = (
            None
            if answer is None
            else Decision("eng" if answer == UNKNOWN else answer, 0.5 + number / 100, answer, False, ())
        )
        found.append(Stretch(at, at + count, decision))
        at += count
    return found


@given(PARTS, st.data())
def test_a_span_has_the_language_of_all_its_fragments(parts: list[tuple[int, str | None]], data: st.DataObject) -> None:
    stretches = _stretches(parts)
    each = [stretch for stretch in stretches for _ in range(stretch.first, stretch.last)]
    first = data.draw(st.integers(0, len(each) - 1))
    last = data.draw(st.integers(first + 1, len(each)))
    (found,) = span_languages(stretches, np.array([[first, last]], np.int64), {"eng", "fra"})
    answers = [UNKNOWN if part.decision is None else part.decision.answer for part in each[first:last]]
    sure = {answer for answer in answers if answer != UNKNOWN}
    if len(sure) > 1:
        assert found.reason == "language_mixed"
    elif UNKNOWN in answers:
        assert found.reason == "language_uncertain"
    elif sure == {"rus"}:
        assert found.reason == "language_not_wanted"
    else:
        assert found.reason is None and {found.lang} == sure
        assert found.score == min(part.decision.score for part in each[first:last] if part.decision)
    assert (found.lang is None) == (found.reason is not None)


def _config(tmp_path: Path, **lid: Any) -> Any:
    raw: dict[str, Any] = {"name": "n", "directions": ["eng-frA"], "output": str(tmp_path / "run")}
    raw |= {"speech": {"inputs": ["x"], "lid": lid}, "text": {"inputs": ["y"]}}
    return parse_config(raw, "c.yaml")


def test_keys_at_their_defaults_leave_digests_as_they_were(tmp_path: Path) -> None:
    assert idle_lid_keys(_config(tmp_path)) >= {"calibration", "drop_mixed"}
    assert "drop_mixed" not in idle_lid_keys(_config(tmp_path, drop_mixed=True))
    assert "per_segment" not in idle_lid_keys(_config(tmp_path, per_segment=True))
    with pytest.raises(ConfigError, match="choose one"):
        _config(tmp_path, per_segment=True, drop_mixed=True)


@pytest.mark.embedded
def test_thresholds_are_part_of_a_run_by_what_they_say(tmp_path: Path) -> None:
    need_models()
    assert thresholds_of(_config(tmp_path)) == []
    truth = ["eng"] * 12
    scores = [{"eng": 0.9, "fra": 0.1}] * 12
    sha256 = find_model("whisper-base").sha256
    found = fit_calibration(truth, scores, model="whisper-base", sha256=sha256, window_seconds=10.0)
    file = tmp_path / "calibration.yaml"
    save_calibration(found, file)
    (told,) = thresholds_of(_config(tmp_path, calibration=str(file)))
    assert told["clips"] == 12
    assert thresholds_of(_config(tmp_path, calibration="none")) == []
    file.write_text(yaml.safe_dump(told | {"sha256": "1" * 64}))
    with pytest.raises(ConfigError, match="not of those in use"):
        thresholds_of(_config(tmp_path, calibration=str(file)))


class TestStage:
    """What the speech stage makes of an identifier that tells languages by how loud a window is."""

    LOUD = MappingProxyType({"fra": 0.4, "spa": 0.2, UNKNOWN: 0.1})

    class Loudness:
        files = ModelFiles("loudness", "directory", "here", (), Path(), "0" * 64)

        def identify(self, waveforms: Sequence[NDArray[np.float32]]) -> list[dict[str, float]]:
            found = []
            for waveform in waveforms:
                lang = min(TestStage.LOUD, key=lambda name: abs(TestStage.LOUD[name] - float(np.abs(waveform).mean())))
                sure = {"fra": 0.5, "spa": 0.5} if lang == UNKNOWN else {"fra": 0.1, "spa": 0.1, lang: 0.9}
                found.append(sure)
            return found

    def _recording(self, *langs: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Fragments of two seconds, one a second apart."""
        parts = [np.full(2 * SAMPLE_RATE, self.LOUD[lang], np.float32) for lang in langs]
        samples = np.concatenate([np.concatenate([part, np.zeros(SAMPLE_RATE, np.float32)]) for part in parts])
        starts = np.arange(len(langs), dtype=np.int64) * 3 * SAMPLE_RATE
        return samples, np.stack([starts, starts + 2 * SAMPLE_RATE], axis=1)

    def _stage(self, tmp_path: Path, langs: tuple[str, ...], **lid: Any) -> tuple[Recording, Any, Any, Any]:
        samples, fragments = self._recording(*langs)
        config = _config(tmp_path, min_prob=0.7, window_seconds=2.0, **lid)
        context = Context(config, str(tmp_path / "run"), "cpu", 1)
        recording = Recording(
            "0" * 16,
            "x",
            "0" * 64,
            len(samples),
            SAMPLE_RATE,
            1,
            None,
            None,
            len(langs) * 2 * SAMPLE_RATE,
            None,
            None,
            None,
        )
        identifier = SpeechLid(self.Loudness())
        spoken = speech_recordings._with_language(recording, samples, fragments, None, context, identifier)
        output = speech_recordings.SpeechOutput()
        spans = over_segment(fragments, min_seconds=1.0, max_seconds=6.0, max_gap_seconds=1.0)
        parts = speech_recordings._spoken_parts(spoken, spans, samples, fragments, context, identifier, output)
        return spoken, parts, spans, output

    def test_a_recording_of_two_languages_may_be_dropped(self, tmp_path: Path) -> None:
        both = ("fra", "fra", "spa")
        assert self._stage(tmp_path, both, drop_mixed=True)[0].drop_reason == "language_mixed"
        plain = self._stage(tmp_path, both)[0]
        assert (plain.lang, plain.drop_reason) == ("fra", "language_uncertain")  # two windows of three, .63 together
        assert self._stage(tmp_path, ("fra", "fra"), drop_mixed=True)[0].drop_reason is None

    def test_each_span_has_its_own_language(self, tmp_path: Path) -> None:
        spoken, parts, spans, output = self._stage(tmp_path, ("fra", "fra", "spa", UNKNOWN), per_segment=True)
        assert spoken.drop_reason is None and spoken.lang == "fra"
        ((part, some),) = parts  # no direction wants Spanish
        assert part.lang == "fra" and part.lang_prob == pytest.approx(0.9)
        assert some.fragments.tolist() == [[0, 1], [0, 2], [1, 2]]
        dropped = dict(output.segments_tally.dropped)
        assert dropped == {"language_mixed": 1, "language_not_wanted": 1, "language_uncertain": 2}
        assert len(some) + sum(dropped.values()) == len(spans)
