"""What the benchmark of span settings does beside running the demo: hearing each piece once, and counting."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from benchmarks.span_settings import SETTINGS, quality, remember_what_is_heard, spans_made
from seamlessalign import storage
from seamlessalign.config import parse_config
from seamlessalign.embedders.student import BackboneConfig
from seamlessalign.embedders.student.backbones import SpeechBackbone, build_backbone
from seamlessalign.embedders.student.frames import Frames
from seamlessalign.rows import RECORDINGS, SAMPLE_RATE, Recording, Segment, segments_schema
from seamlessalign.typed_config import apply_override


def test_what_is_remembered_is_what_would_be_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(kind="scratch", width=16, layers=1, heads=2, ffn=32)).eval()
    waveform = np.random.default_rng(0).normal(0, 0.1, 5 * SAMPLE_RATE).astype(np.float32)
    fragments = np.array([[0, 8000], [9000, 30000], [40000, 80000]])
    wanted = [backbone.frames(waveform, fragments[part], "fra") for part in (slice(0, 2), slice(1, 3))]

    monkeypatch.setattr(SpeechBackbone, "frames", SpeechBackbone.frames)  # put back when the test ends
    remember_what_is_heard()
    heard: list[int] = []
    hear: Callable[[Sequence[Any], str], list[Frames]] = backbone.hear

    def counted(pieces: Sequence[Any], lang: str) -> list[Frames]:
        heard.append(len(pieces))
        return hear(pieces, lang)

    monkeypatch.setattr(backbone, "hear", counted)
    found = [backbone.frames(waveform, fragments[part], "fra") for part in (slice(0, 2), slice(1, 3))]
    assert heard == [2, 1]
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours.values, theirs.values, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(ours.time, theirs.time)
    backbone.frames(waveform, fragments[:1], "spa")
    assert heard == [2, 1, 1]  # the same sound in another language


def test_spans_are_counted_by_hours_of_speech_in_recordings_that_count(tmp_path: Path) -> None:
    hour = 3600 * SAMPLE_RATE
    kept = Recording("0", "a", "", hour, 16_000, 1, "fra", 1.0, hour // 2, None, None, None)
    dropped = replace(kept, recording_id="1", speech_samples=hour, drop_reason="language_not_wanted")
    recordings = pa.Table.from_pylist([asdict(kept), asdict(dropped)], RECORDINGS)
    storage.write_table(str(tmp_path / "recordings" / "part-00000.parquet"), recordings)
    spans = [Segment("", "0", "a", 0, end, "fra", 1.0, 1.0, 1) for end in (hour // 4, hour)]
    rows = [{**asdict(span), "embedding": [np.float16(0)]} for span in spans]
    table = pa.Table.from_pylist(rows, segments_schema(1))
    storage.write_table(str(tmp_path / "segments" / "lang=fra" / "part-00000.parquet"), table)
    assert spans_made(tmp_path) == ["2", "4", "2.50"]


def test_means_are_over_directions() -> None:
    found = [{"f1": 0.5, "best_f1": 0.75}, {"f1": 0.25, "best_f1": 0.25}]
    assert quality({"directions": found}) == ["0.500", "0.250", "0.375", "0.500"]


def test_every_setting_is_one_that_runs_take() -> None:
    made = set()
    for overrides in SETTINGS.values():
        raw = {
            "name": "x",
            "directions": ["eng-frA"],
            "speech": {"inputs": ["a"]},
            "text": {"inputs": ["b"], "lang": "eng"},
        }
        for override in overrides:
            apply_override(raw, override)
        made.add(parse_config(raw, "x").model_dump_json())
    assert len(made) == len(SETTINGS)
