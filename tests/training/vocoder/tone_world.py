"""A small world whose units are tones, so that what is said follows from them: Parquet files and a training."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from seamlessalign.audio import encode
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.training.vocoder.config import VocoderTrainingConfig
from seamlessalign.typed_config import checked
from tests.embedders.student_world import changed

UNITS = 6
UNIT_SAMPLES = 320


def sing(units: NDArray[np.int32], durations: NDArray[np.int32], pitch: float = 1.0) -> NDArray[np.float32]:
    """A tone for each unit, for so many times 20 ms, without a jump between two."""
    hertz = np.repeat(250.0 * 1.5 ** units.astype(np.float64) * pitch, durations * UNIT_SAMPLES)
    return np.asarray(0.4 * np.sin(2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE), np.float32)


def tune(rng: np.random.Generator, length: int = 12) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Units none of which is the one before, each with a duration of its own kind."""
    steps = rng.integers(1, UNITS, length)
    units = np.cumsum(steps) % UNITS
    return units.astype(np.int32), (3 + units % 3).astype(np.int32)


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of two languages and two speakers."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        units, durations = tune(rng)
        sound = sing(units, durations, pitch=1.0 + 0.2 * (i % 2))
        made.append(
            {
                "audio": {"bytes": encode(sound, "flac"), "path": f"{i}.flac"},
                "units": units.tolist(),
                "durations": durations.tolist(),
                "lang": ("eng", "fra")[i // 2 % 2],
                "speaker": ("low", "high")[i % 2],
            }
        )
    return made


def write(file: Path, content: list[dict[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(content), file, row_group_size=8)
    return file


def vocoder_config(root: Path, output: str = "out", **changes: Any) -> dict[str, Any]:
    """A training on `root/speech` of networks as small as there are; keys of `changes` have dots as `__`."""
    config: dict[str, Any] = {
        "output": str(root / output),
        "model": {
            "size": "tiny",
            "units": UNITS,
            "unit_embedding": 8,
            "channels": 32,
            "upsample_rates": [5, 8, 8],
            "upsample_kernels": [11, 16, 16],
            "resblock_kernels": [3],
            "resblock_dilations": [[1, 3]],
            "duration_dropout": 0.0,
        },
        "discriminators": {"channels": 1, "periods": [2, 3], "scales": 2},
        "data": {
            "train": [{"kind": "parquet", "path": str(root / "speech")}],
            "validation_share": 0.2,
            "segment": 12,
        },
        "optimiser": {"steps": 12, "batch": 4, "lr": 2e-3, "warmup": 0},
        "validation": {"every": 6, "items": 2, "samples": 1},
        "log_every": 1,
        "checkpoint_every": 4,
        "resources": {"device": "cpu", "threads": 1},
    }
    return changed(config, changes)


def parsed(config: dict[str, Any]) -> VocoderTrainingConfig:
    return checked(VocoderTrainingConfig, config, "vocoder.yaml")
