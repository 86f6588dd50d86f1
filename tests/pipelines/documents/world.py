"""The folder in which blocks of documents are run: recordings, texts, tables and models that they speak of."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from seamlessalign.rows import SAMPLE_RATE
from tests.pipelines.documents.blocks import HOUSE
from tests.pipelines.small_corpus import ENGLISH, RECORDINGS, TRANSLATIONS, UNSPOKEN, spoken

# of ten sentences the mean says nothing, and neither does a threshold that was fitted on many
SMALL_RUN = [
    "mining.centre=false", "mining.threshold=1.0", "mining.k=4", "mining.near_duplicates=null",
    "speech.vad.keep_probabilities=true", "resources={device: cpu, workers: 1, threads: 1}",
]  # fmt: skip


def environment() -> dict[str, str]:
    """Of programs that blocks start: this checkout, with the program's own directory first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PYTHONPATH": str(HOUSE), "PATH": path, "HF_HUB_OFFLINE": "1"}


def make_inputs(root: Path) -> None:
    """Recordings of translations in French and Spanish, some in a folder, one in another format, one by a list."""
    for name in ("recordings", "more", "texts"):
        (root / name).mkdir(parents=True)
    places = {"fra-0": "recordings/a.flac", "fra-1": "recordings/b.wav", "spa-0": "more/c.ogg", "spa-1": "listed.flac"}
    for name, (lang, sentences) in RECORDINGS.items():
        soundfile.write(root / places[name], spoken(lang, sentences), SAMPLE_RATE)
    (root / "list.jsonl").write_text(json.dumps({"path": "listed.flac", "license": "CC0-1.0"}) + "\n")
    (root / "texts" / "english.txt").write_text("\n".join([*ENGLISH, *UNSPOKEN]) + "\n")


def _run_there(root: Path) -> None:
    """The finished run of README.md under the other names that pages have for one."""
    for name in ("DIR", "runs/demo/run"):
        if not (root / name).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(root / "runs" / "news", root / name)
    shutil.copy(root / "config.yaml", root / "runs" / "demo" / "config.yaml")


def _readme(root: Path) -> dict[str, Any]:
    from seamlessalign.audio import decode

    draws = np.random.default_rng(0)
    tgt = draws.normal(size=(300, 32)).astype(np.float32)
    src = tgt[:200] + draws.normal(size=(200, 32)).astype(np.float32) / 2
    return {"src": src, "tgt": tgt, "waveform": decode(root / "recordings" / "a.flac").samples}


def _evaluation(root: Path) -> None:
    """A test set, and what two systems made of it."""
    rows = [
        {"id": str(number), "src_lang": "fra", "tgt_lang": "eng", "reference": said[0], "src_text": said[1]}
        for number, said in enumerate(TRANSLATIONS)
    ]
    pq.write_table(pa.Table.from_pylist(rows), root / "test.parquet")
    lines = [json.dumps({"id": row["id"], "text": row["reference"].lower()}) for row in rows]
    (root / "cascade.jsonl").write_text("\n".join(lines) + "\n")
    made = [{"id": row["id"], "translation": row["reference"]} for row in rows]
    pq.write_table(pa.Table.from_pylist(made), root / "predictions.parquet")


def _scale(root: Path) -> None:
    _run_there(root)


# page → what is made for it before it is run; it returns names that its blocks of Python know
PREPARED: Mapping[str, Callable[[Path], dict[str, Any] | None]] = {
    "README.md": _readme,
    "evaluation.md": _evaluation,
    "runs.md": _run_there,
    "scale.md": _scale,
}
