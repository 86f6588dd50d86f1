"""A small pre-training: tunes in a folder, and a network of a few thousand parameters."""

from pathlib import Path
from typing import Any

from seamlessalign.training.w2v_bert.config import W2vBertConfig
from seamlessalign.typed_config import checked
from tests.embedders.student_world import changed


def w2v_bert_keys(root: Path, output: str = "out", **changes: Any) -> dict[str, Any]:
    """A pre-training on `root/speech`; keys of `changes` have dots as `__`."""
    config: dict[str, Any] = {
        "output": str(root / output),
        "seed": 3,
        "model": {"layers": 2, "hidden": 16, "heads": 2, "ffn": 24, "kernel": 3},
        "data": {
            "train": [{"kind": "folder", "path": str(root / "speech")}],
            "validation_share": 0.2,
            "min_seconds": 0.5,
            "max_seconds": 1.2,
        },
        "gvq": {"groups": 2, "entries": 6, "dim": 8, "decay": 0.9},
        "rpq": {"codebooks": 2, "entries": 12, "dim": 4},
        "contrastive": {"distractors": 5, "dim": 8},
        "optimiser": {"steps": 12, "batch_seconds": 6, "lr": 0.002, "warmup": 2},
        "validation": {"every": 6},
        "log_every": 1,
        "checkpoint_every": 4,
        "tensorboard": False,
        "resources": {"device": "cpu", "threads": 1},
    }
    return changed(config, changes)


def parsed(keys: dict[str, Any]) -> W2vBertConfig:
    return checked(W2vBertConfig, keys, "test")
