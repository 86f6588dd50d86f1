"""Spans dropped by their sound: each bound by itself, and in a run, where nothing is lost without a reason."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from seamlessalign.config import QualityConfig
from seamlessalign.pipelines.span_filters import quality_reasons
from seamlessalign.segmentation.quality import COLUMNS, Quality
from tests.pipelines.small_corpus import SmallRun, mine, need_models, write_corpus

QUALITY = Quality(
    np.array([5, 20, 30, 30], np.float32),
    np.array([0.1, 0.0, 0.2, 0.0], np.float32),
    np.array([8000, 3500, 8000, 8000], np.float32),
    np.array([0.9, 0.9, 0.9, 0.6], np.float32),
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
        ({"min_snr_db": 25, "min_bandwidth_hz": 4000}, ["low_snr", "low_snr", None, None]),
    ],
)
def test_bounds(bounds: dict[str, Any], reasons: list[str | None]) -> None:
    config = QualityConfig(**bounds)
    assert quality_reasons(QUALITY, config) == reasons
    assert config.wanted == bool(bounds)


def _segments(run: SmallRun) -> list[dict[str, Any]]:
    files = sorted((run.folder / "segments").rglob("*.parquet"))
    return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]


@pytest.mark.slow
@pytest.mark.embedded
def test_a_run_keeps_the_columns_and_drops_what_is_below(tmp_path: Path) -> None:
    need_models()
    config = write_corpus(tmp_path, {"fra": ("fra", (0, 1, 2))})
    one = ("directions=[eng-frA]", "speech.spans.max_gap_seconds=2")
    measured = mine(config, tmp_path / "measured", *one, "speech.quality.measure=true")
    assert measured.status == 0, measured.err
    rows = _segments(measured)
    assert set(COLUMNS) <= rows[0].keys() and len(rows) == 6
    assert all(0 <= row["clipping"] <= 0.01 and row["speech_prob"] > 0.5 for row in rows)
    assert all(7000 <= row["bandwidth_hz"] <= 8000 or row["bandwidth_hz"] > 3000 for row in rows)
    middle = float(np.median([row["snr_db"] for row in rows]))
    bounded = mine(config, tmp_path / "bounded", *one, f"speech.quality.min_snr_db={middle}")
    assert bounded.status == 0, bounded.err
    assert {row["segment_id"] for row in _segments(bounded)} == {
        row["segment_id"] for row in rows if row["snr_db"] >= np.float32(middle)
    }
    lines = pq.ParquetFile(bounded.folder / "ledger.parquet").read().to_pylist()
    (line,) = [line for line in lines if line["stage"] == "segments"]
    assert line["rows_in"] == 6 and dict(line["dropped"]) == {"low_snr": 3}
