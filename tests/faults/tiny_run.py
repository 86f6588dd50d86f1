"""The smallest run that has every stage: two spoken recordings and one that is none, a few sentences, one direction.

Its models are real ones of random weights, a student and the encoder of sentences whose space it is in, a few numbers
wide: what they find means nothing, but takes milliseconds and is the same every time.
"""

import json
from pathlib import Path

import soundfile
import torch
import yaml

from seamlessalign.embedders.student import BackboneConfig, PoolerConfig, Student, StudentConfig
from seamlessalign.embedders.student.backbones import build_backbone
from seamlessalign.rows import SAMPLE_RATE
from tests.embedders.student_world import make_teacher
from tests.pipelines.small_corpus import ENGLISH, spoken

DIM = 16
STATUS = 3  # of the program: one recording is set aside


def write_tiny_corpus(root: Path) -> Path:
    """Write inputs, models and a configuration below `root`; returns the configuration."""
    (root / "audio").mkdir(parents=True)
    lines = []
    for lang in ("fra", "spa"):
        soundfile.write(root / "audio" / f"{lang}.flac", spoken(lang, (0, 1), 0.6), SAMPLE_RATE)
        lines.append(json.dumps({"path": f"audio/{lang}.flac", "lang": lang, "license": "CC0-1.0", "source": "espeak"}))
    (root / "audio" / "broken.flac").write_bytes(b"fLaC, but no more than that")
    lines.append(json.dumps({"path": "audio/broken.flac", "lang": "fra"}))
    (root / "recordings.jsonl").write_text("\n".join(lines) + "\n")
    (root / "texts.txt").write_text("\n".join(ENGLISH) + "\n")
    make_teacher(root / "teacher", DIM, words=sorted({word for line in ENGLISH for word in _words(line)}))
    _student().save(root / "student")
    config = {
        "name": "tiny",
        "directions": ["eng-frA"],
        "models": {"student": str(root / "student"), "sentence-transformers": str(root / "teacher")},
        "speech": {"inputs": ["recordings.jsonl"], "embedder": "student", "lang": "fra"},
        "text": {"inputs": ["texts.txt"], "lang": "eng", "embedder": "sentence-transformers"},
        # random rows have no neighbours worth the name: whatever is best is taken
        "mining": {"k": 4, "threshold": -1000.0, "margin": "distance", "decoys": {"count": 4}},
        "resources": {"device": "cpu", "workers": 1, "threads": 1},
    }
    path = root / "run.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def _words(line: str) -> list[str]:
    return "".join(letter if letter.isalpha() else " " for letter in line.lower()).split()


def _student() -> Student:
    torch.manual_seed(0)
    config = StudentConfig(
        backbone=BackboneConfig(kind="scratch", width=16, layers=1, heads=2, ffn=32),
        train_backbone=True,
        pooler=PoolerConfig(width=16, layers=1, heads=2, ffn=32),
        dim=DIM,
        teacher="sentence-transformers",
    )
    student: Student = Student(config, build_backbone(config.backbone)).eval()
    return student
