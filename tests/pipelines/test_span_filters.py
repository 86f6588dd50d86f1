"""Spans dropped by their sound: each bound by itself, and in a run, where nothing is lost without a reason."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from seamlessalign.config import QualityConfig, RunConfig, parse_config
from seamlessalign.errors import ModelError
from seamlessalign.pipelines.span_filters import quality_reasons, sound_models
from seamlessalign.segmentation.music_or_noise import model_sha256
from seamlessalign.segmentation.quality import COLUMNS, DNSMOS_COLUMNS, Quality
from tests.pipelines.small_corpus import SmallRun, mine, need_models, write_corpus

QUALITY = Quality(
    np.array([5, 20, 30, 30], np.float32),
    np.array([0.1, 0.0, 0.2, 0.0], np.float32),
    np.array([8000, 3500, 8000, 8000], np.float32),
    np.array([0.9, 0.9, 0.9, 0.6], np.float32),
    np.array([0.0, 0.5, 0.2, 0.9], np.float32),
    *np.array([[3, 4, 3, 4], [4, 4, 4, 4], [3, 2, 3, 3.5]], np.float32),
)


@pytest.mark.parametrize(
    ("bounds", "reasons"),
    [
        ({}, [None, None, None, None]),
        ({"measure": True}, [None, None, None, None]),
        ({"min_snr_db": 20}, ["low_snr", None, None, None]),
        ({"max_clipping": 0.1}, [None, None, "clipped", None]),
        ({"max_clipping": 0.0}, ["clipped", None, "clipped", None]),
        ({"min_bandwidth_hz": 4000}, [None, "narrow_band", None, None]),
        ({"min_speech_prob": 0.7}, [None, None, None, "unlike_speech"]),
        ({"max_music_noise_prob": 0.5}, [None, None, None, "music_or_noise"]),
        ({"dnsmos": True}, [None, None, None, None]),
        ({"min_dnsmos": 3}, [None, "low_dnsmos", None, None]),
        ({"max_music_noise_prob": 0.3, "min_dnsmos": 2.5}, [None, "music_or_noise", None, "music_or_noise"]),
        ({"min_snr_db": 25, "min_bandwidth_hz": 4000}, ["low_snr", "low_snr", None, None]),
    ],
)
def test_bounds(bounds: dict[str, Any], reasons: list[str | None]) -> None:
    config = QualityConfig(**bounds)
    assert quality_reasons(QUALITY, config) == reasons
    assert config.wanted == bool(bounds) and config.rated == ("dnsmos" in str(bounds))


def _config(**quality: Any) -> RunConfig:
    speech = {"inputs": ["a.wav"], "quality": quality}
    raw = {"directions": ["enA-frA"], "speech": speech, "models": {"dnsmos": quality.pop("place", "nowhere")}}
    return parse_config(raw, "test")


def test_models_that_measure_are_named_where_something_is_measured(tmp_path: Path) -> None:
    assert sound_models(_config()) == {}
    assert sound_models(_config(max_music_noise_prob=0.5)) == {"music-or-noise": model_sha256()}
    with pytest.raises(ModelError, match="nowhere is not a directory"):
        sound_models(_config(min_dnsmos=3))
    (tmp_path / "sig_bak_ovr.onnx").write_bytes(b"network")
    sha256 = hashlib.sha256(b"network").hexdigest()
    assert sound_models(_config(dnsmos=True, place=str(tmp_path)))["dnsmos"] == sha256


def _segments(run: SmallRun) -> list[dict[str, Any]]:
    files = sorted((run.folder / "segments").rglob("*.parquet"))
    return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]


@pytest.mark.slow
@pytest.mark.embedded
def test_a_run_keeps_the_columns_and_drops_what_is_below(tmp_path: Path) -> None:
    need_models()
    pytest.importorskip("speechmos", reason="needs speechmos of the extra 'quality'")
    config = write_corpus(tmp_path, {"fra": ("fra", (0, 1, 2))})
    one = ("directions=[eng-frA]", "speech.spans.max_gap_seconds=2")
    measured = mine(config, tmp_path / "measured", *one, "speech.quality.dnsmos=true")
    assert measured.status == 0, measured.err
    rows = _segments(measured)
    assert {*COLUMNS, *DNSMOS_COLUMNS} <= rows[0].keys() and len(rows) == 6
    assert all(0 <= row["music_noise_prob"] <= 1 for row in rows)
    assert all(1 < row[name] < 5 for row in rows for name in DNSMOS_COLUMNS)
    file = next((measured.folder / "segments").rglob("*.parquet"))
    models = json.loads(pq.ParquetFile(file).schema_arrow.metadata[b"seamlessalign.models"])
    assert {"dnsmos", "music-or-noise"} <= models.keys()
    assert all(0 <= row["clipping"] <= 0.01 and row["speech_prob"] > 0.5 for row in rows)
    assert all(7000 <= row["bandwidth_hz"] <= 8000 or row["bandwidth_hz"] > 3000 for row in rows)
    middle = float(np.median([row["snr_db"] for row in rows]))
    bounded = mine(config, tmp_path / "bounded", *one, f"speech.quality.min_snr_db={middle}")
    assert bounded.status == 0, bounded.err
    kept = _segments(bounded)
    assert {row["segment_id"] for row in kept} == {
        row["segment_id"] for row in rows if row["snr_db"] >= np.float32(middle)
    }
    assert set(COLUMNS) <= kept[0].keys() and not set(DNSMOS_COLUMNS) & kept[0].keys()
    lines = pq.ParquetFile(bounded.folder / "ledger.parquet").read().to_pylist()
    (line,) = [line for line in lines if line["stage"] == "segments"]
    assert line["rows_in"] == 6 and dict(line["dropped"]) == {"low_snr": 3}
