"""A small world of languages that are tunes: folders of recordings, and a training that tells them apart in seconds."""

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from seamlessalign.lid.training_config import LidTrainingConfig
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.typed_config import checked
from tests.embedders.student_world import changed

Float32 = NDArray[np.float32]
LANGUAGES = {"eng": (300, 2100), "fra": (520, 1500), "rus": (800, 2900)}


def sing(lang: str, seconds: float, seed: int) -> Float32:
    """A tune of syllables of 0.1 s, of two tones that are the language's, at the pitch of a speaker."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    low, high = LANGUAGES[lang]
    pitch = 1 + 0.05 * rng.standard_normal()
    loud = 0.2 + 0.8 * (np.sin(2 * np.pi * (5 + rng.random()) * time) > 0)
    wave = np.sin(2 * np.pi * low * pitch * time) + 0.7 * np.sin(2 * np.pi * high * pitch * time)
    return np.asarray(0.1 * loud * wave + 0.005 * rng.standard_normal(len(time)), np.float32)


def make_languages(folder: Path, clips: int = 12, seed: int = 0) -> Path:
    """A folder of recordings with a manifest: `clips` of each language, of four speakers."""
    folder.mkdir(parents=True)
    rows = ["path\tlang\tspeaker"]
    rng = np.random.default_rng(seed)
    for lang in LANGUAGES:
        for i in range(clips):
            name = f"{lang}-{i}.flac"
            sound = sing(lang, float(rng.uniform(0.6, 2.5)), seed + 100 * i)
            soundfile.write(folder / name, sound, SAMPLE_RATE)
            rows.append(f"{name}\t{lang}\t{lang}-{i % 4}")
    (folder / "clips.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def lid_config(root: Path, output: str = "out", **changes: Any) -> dict[str, Any]:
    """A training on `root/speech` with every random change on; keys of `changes` have dots as `__`."""
    config: dict[str, Any] = {
        "output": str(root / output),
        "model": {
            "channels": [16, 16, 16, 16, 48],
            "attention_channels": 8,
            "res2net_scale": 4,
            "se_channels": 8,
            "embedding": 16,
            "classifier": 16,
        },
        "data": {
            "train": [{"kind": "folder", "path": str(root / "speech")}],
            "validation_share": 0.3,
            "crop_seconds": 1.0,
            "min_crop_seconds": 0.8,
        },
        "augment": {"speed": 0.1, "reverb": 0.5, "noise": 0.5, "colour": 0.5, "gain_db": 6},
        "optimiser": {"steps": 12, "batch": 8, "lr": 0.005, "last_lr": 0.001, "warmup": 2, "label_smoothing": 0.1},
        "validation": {"every": 6, "crops": 5, "seconds": [1, 2]},
        "log_every": 1,
        "checkpoint_every": 4,
        "resources": {"device": "cpu"},
    }
    return changed(config, changes)


def parsed(config: dict[str, Any]) -> LidTrainingConfig:
    return checked(LidTrainingConfig, config, "test")
