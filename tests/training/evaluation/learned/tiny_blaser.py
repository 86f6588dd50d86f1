"""BLASER 2.0 with random weights, as its files are laid out, and said again in numpy; and a small speech encoder with
random weights whose rows are in the space of the embedded E5.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from seamlessalign.embedders import Card, load_speech_embedder
from seamlessalign.embedders.card import fit_mean, save_card
from seamlessalign.embedders.student import BackboneConfig, PoolerConfig, Student, StudentConfig
from seamlessalign.embedders.student import embedder as student_embedder
from seamlessalign.embedders.student.backbones import build_backbone

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
PARTS = {"ref": 6, "qe": 4}


def random_weights(form: str, dim: int, hidden: tuple[int, int] = (7, 5), seed: int = 0) -> dict[str, Any]:
    """Tensors under the names of the published file."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [PARTS[form] * dim, *hidden, 1]
    made = {}
    for place, into, out in zip((1, 4, 7), sizes, sizes[1:], strict=False):
        made[f"mlp.{place}.weight"] = torch.randn(out, into, generator=generator) / into**0.5
        made[f"mlp.{place}.bias"] = torch.randn(out, generator=generator)
    return made


def save(path: Path, tensors: dict[str, Any], *, wrapped: bool = True) -> Path:
    torch.save({"model": tensors} if wrapped else tensors, path)
    return path


def grades_by_hand(tensors: dict[str, Any], src: Any, mt: Any, ref: Any = None) -> Float64:
    """In double precision, of rows of any length."""
    weights = {name: tensor.double().numpy() for name, tensor in tensors.items()}
    grades = []
    for number in range(len(src)):
        s, t = _unit(src[number]), _unit(mt[number])
        parts = [s, t, s * t, abs(t - s)]
        if ref is not None:
            r = _unit(ref[number])
            parts = [r, t, s * t, r * t, abs(t - s), abs(t - r)]
        hidden = np.array([value for part in parts for value in part])
        for place in (1, 4):
            hidden = np.tanh(weights[f"mlp.{place}.weight"] @ hidden + weights[f"mlp.{place}.bias"])
        grades.append((weights["mlp.7.weight"] @ hidden + weights["mlp.7.bias"])[0])
    return np.array(grades)


def _unit(row: Any) -> Float64:
    values = np.asarray(row, np.float64)
    return np.asarray(values / np.linalg.norm(values))


def make_student(folder: Path, sounds: list[Float32]) -> Path:
    """Its directory, with a card: less the mean row of sounds, rows do not all look alike."""
    torch.manual_seed(0)
    config = StudentConfig(
        backbone=BackboneConfig(kind="scratch", width=16, layers=1, heads=2, ffn=32),
        train_backbone=True,
        pooler=PoolerConfig(width=16, layers=1, heads=2, ffn=32),
        dim=384,
    )
    Student(config, build_backbone(config.backbone)).eval().save(folder)
    student = load_speech_embedder("student", {"student": str(folder)})
    rows = [student.embed(sound, np.array([[0, len(sound)]]), "eng") for sound in sounds]
    save_card(Card("student", 384, {"eng": fit_mean(np.concatenate(rows))}), folder, {}, "card")
    student_embedder._load.cache_clear()
    return folder
