"""The benchmark of storage at a small size: every layout and every step has its figures, and nothing stays."""

import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks import storage as benchmark


def test_it_prints_layouts_and_steps_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "calibration").mkdir()
    np.save(tmp_path / "calibration" / "a.npy", np.random.default_rng(0).standard_normal((50, 8), np.float32))
    benchmark.main(["--cache", str(tmp_path), "--rows", "2000"])
    printed = capsys.readouterr().out
    for rows in ("50 × 8", "10,000 × 1024"):
        for name in benchmark.LAYOUTS:
            assert re.search(rf"\| {rows} \| {name} \| \d+\.\d\d \| \d+ \| \d+ \|", printed), (rows, name)
    assert re.search(r"laid out: \d+\.\d\d s, \d+ MiB at the most; 2,000 rows", printed)
    assert re.search(r"10,000 rows \(20 MiB\) \d+\.\d\d s, \d+ MiB", printed)
    assert [path.name for path in tmp_path.iterdir()] == ["calibration"]


def test_bytes_split_is_the_smallest_layout_of_rows_of_unit_length() -> None:
    rows = benchmark.noise(2000, 0)
    share = {
        name: float(benchmark.layout_line(rows, layout, 1).split(" |")[0]) for name, layout in benchmark.LAYOUTS.items()
    }
    assert share["bytes split, zstd"] == min(share.values()) < 0.9 < share["zstd and a dictionary"] < 1
