"""The folder in which blocks of documents are run: recordings, texts, tables and models that they speak of."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from numpy.typing import NDArray

from seamlessalign.rows import SAMPLE_RATE
from tests.pipelines.documents.blocks import HOUSE
from tests.pipelines.small_corpus import ENGLISH, TRANSLATIONS, spoken

if TYPE_CHECKING:
    from seamlessalign.pipelines.demo_sources import PromptCollection

Samples = NDArray[np.float32]

KEYS = ("agent-pass", "conf-leaderhasleft", "vm-delete", "vm-sorry", "tt-monkeysintro", "vm-passchanged")
RECORDINGS = {
    "recordings/a.flac": ("spa", KEYS[:3]),
    "more/b.ogg": ("spa", KEYS[3:]),
    "listed.wav": ("fra", KEYS),
}

# of ten sentences the mean says nothing, and neither does a threshold that was fitted on many
SMALL_RUN = [
    "mining.centre=false", "mining.threshold=1.0", "mining.k=4", "mining.near_duplicates=null",
    "speech.vad.keep_probabilities=true", "resources={device: cpu, workers: 1, threads: 1}",
]  # fmt: skip
# and nothing is sure of so few
SMALL_FILTER = ["--min-precision", "0.001"]


def environment() -> dict[str, str]:
    """Of programs that blocks start: this checkout, with the program's own directory first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PYTHONPATH": str(HOUSE), "PATH": path, "HF_HUB_OFFLINE": "1"}


def make_inputs(root: Path) -> None:
    """Recordings in French and Spanish of people who say the same, in several formats, some in folders, one in a list;
    what that means in English, among other sentences; and sentences that nobody says.
    """
    from seamlessalign.pipelines.demo_sources import fetch_prompts

    for name in ("recordings", "more", "texts", "decoys"):
        (root / name).mkdir(parents=True)
    collection = fetch_prompts(Path(os.environ.get("SEAMLESSALIGN_DEMO_CACHE", root / "cache")))
    said = _said(collection)
    for place, (lang, keys) in RECORDINGS.items():
        soundfile.write(root / place, _joined([said[lang, key] for key in keys]), SAMPLE_RATE)
    (root / "list.jsonl").write_text(json.dumps({"path": "listed.wav", "license": "CC-BY-SA-3.0"}) + "\n")
    (root / "known.jsonl").write_text(json.dumps({"path": "recordings/a.flac", "lang": "spa"}) + "\n")
    english = [collection.english[key] for key in KEYS]
    (root / "texts" / "english.txt").write_text("\n".join([*english, *collection.distractors[:8]]) + "\n")
    (root / "decoys" / "english.txt").write_text("\n".join(collection.distractors[8:16]) + "\n")


def _said(collection: "PromptCollection") -> dict[tuple[str, str], Samples]:
    """The prompts that are joined, by language and key."""
    from seamlessalign.audio import decode

    return {(lang, key): decode(collection.prompts[lang][key].audio).samples for lang in ("spa", "fra") for key in KEYS}


def _joined(sounds: list[Samples]) -> Samples:
    silence = np.zeros(int(1.2 * SAMPLE_RATE), np.float32)
    return np.concatenate([silence, *(part for sound in sounds for part in (sound, silence))])


def _run_there(root: Path) -> None:
    """The finished run of README.md under the other names that pages have for one."""
    for name in ("DIR", "runs/demo/run"):
        if not (root / name).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(root / "runs" / "news", root / name)
    shutil.copy(root / "config.yaml", root / "runs" / "demo" / "config.yaml")
    shutil.copytree(root / "texts", root / "runs" / "demo" / "data" / "texts", dirs_exist_ok=True)


def _readme(root: Path) -> dict[str, Any]:
    from seamlessalign.audio import decode

    draws = np.random.default_rng(0)
    tgt = draws.normal(size=(300, 32)).astype(np.float32)
    src = tgt[:200] + draws.normal(size=(200, 32)).astype(np.float32) / 2
    return {"src": src, "tgt": tgt, "waveform": decode(root / "recordings" / "a.flac").samples}


def _tutorial(root: Path) -> None:
    """All recordings in one folder, one of them under the name that it has there; nothing is exported yet."""
    shutil.rmtree(root / "exported", ignore_errors=True)
    shutil.copy(root / "more" / "b.ogg", root / "recordings" / "b.ogg")
    samples, rate = soundfile.read(root / "listed.wav", dtype="float32")
    soundfile.write(root / "recordings" / "recording-04.mp3", samples, rate)


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


def _curated(root: Path) -> None:
    """A finished run, and a choice that somebody kept on its page."""
    from seamlessalign.pipelines.selection import Cut, Selection, write_selection

    _run_there(root)
    chosen = Selection(directions={"eng-frA": Cut(min_margin=1.0)})
    write_selection(str(root / "runs" / "demo" / "run"), "first-choice", chosen)


def _exporting(root: Path) -> None:
    """A finished run, and a test set that has one of its sentences."""
    _run_there(root)
    shutil.rmtree(root / "exported", ignore_errors=True)
    (root / "flores200_dataset" / "devtest").mkdir(parents=True)
    sentence = (root / "texts" / "english.txt").read_text(encoding="utf-8").splitlines()[0]
    (root / "flores200_dataset" / "devtest" / "eng_Latn.devtest").write_text(sentence + "\n")


def _models(root: Path) -> None:
    """A translation model and a vocoder of random weights, under the names that pages have for one."""
    from seamlessalign.training.unity.model import save_unity
    from seamlessalign.training.vocoder.generator import make_generator
    from seamlessalign.training.vocoder.model import save_vocoder
    from seamlessalign.training.vocoder.sizes import VocoderSizes
    from tests.training.tiny_unity import tiny_text, tiny_units, tiny_unity

    if (root / "MODEL").exists():
        return
    text, units = tiny_text("eng", "fra"), tiny_units("eng", "fra")
    unity = tiny_unity(text, units)
    for place in ("MODEL", "runs/stage3/model", "runs/unity/model"):
        save_unity(root / place, unity, text, units)
    sizes = VocoderSizes.model_validate(
        {"size": "tiny", "units": units.num_units, "unit_embedding": 8, "channels": 32, "resblock_kernels": [3]}
        | {"resblock_dilations": [[1]]}
    )
    save_vocoder(make_generator(sizes, 2, 1), ("eng", "fra"), [""], root / "VOCODER")


def _translating(root: Path) -> dict[str, Any]:
    _models(root)
    soundfile.write(root / "recording.flac", soundfile.read(root / "listed.wav")[0], SAMPLE_RATE)
    (root / "rows.tsv").write_text("id\tpath\n1\trecording.flac\n")
    shutil.copytree(root / "runs/news/corpus/direction=eng-frA", root / "corpus", dirs_exist_ok=True)
    samples = spoken("fra", (0, 1), pause=0.3)
    soundfile.write(root / "lecture.mp3", samples, SAMPLE_RATE)
    return {"waveforms": [samples[: 2 * SAMPLE_RATE]], "speech": samples[: 2 * SAMPLE_RATE]}


def _robustness(root: Path) -> None:
    """Rows with sound, some of them said by others, so that somebody can babble."""
    _models(root)
    rows = []
    for number in range(8):
        path = root / f"said-{number}.flac"
        soundfile.write(path, spoken("fra", (number % 6,), pause=0.2), SAMPLE_RATE)
        told = {"id": str(number), "src_lang": "fra", "tgt_lang": "eng", "src_audio": path.name}
        rows.append({**told, "reference": ENGLISH[number % 6], "speaker": str(number), "group": str(number % 6)})
    (root / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def _unity(root: Path) -> dict[str, Any]:
    import torch

    from tests.training.tiny_unity import padded, speech, tiny_text, tiny_units, tiny_unity

    _models(root)
    features, mask = speech((33, 45))
    tokens, tokens_mask = padded([[3, 5, 6], [3, 5]])
    unit_tokens, _ = padded([[2, 5, 6], [2, 5]])
    return {"features": features, "feature_mask": mask, "tokens": tokens, "tokens_mask": tokens_mask,
            "unit_tokens": unit_tokens, "torch": torch, "unity": tiny_unity(tiny_text(), tiny_units())}  # fmt: skip


def _data(root: Path) -> dict[str, Any]:
    from seamlessalign.training.unity.config import load_unity_config
    from tests.training.tiny_unity import tiny_text, tiny_units

    return {"config": load_unity_config("tiny.yaml", ["data.validation_share=0.7"]), "output": root / "prepared",
            "text_vocabulary": tiny_text("eng", "fra", "spa"), "unit_vocabulary": tiny_units("eng")}  # fmt: skip


def _units(root: Path) -> dict[str, Any]:
    from seamlessalign.cli import main

    (root / "units.yaml").write_text(
        "output: runs/units\nfeatures: {kind: fbank}\nkmeans: {units: 20, iterations: 2}\n"
        "data: {sources: [{kind: folder, path: spoken.tsv, lang: fra}]}\n"
    )
    (root / "spoken.tsv").write_text("path\nrecording.flac\n")
    soundfile.write(root / "recording.flac", spoken("fra", (0, 1)), SAMPLE_RATE)
    assert main(["train", "units", "units.yaml"]) == 0
    return {"waveform": spoken("fra", (2,))}


# page → what is made for it before it is run; it returns names that its blocks of Python know
PREPARED: Mapping[str, Callable[[Path], dict[str, Any] | None]] = {
    "README.md": _readme,
    "evaluation.md": _evaluation,
    "evaluation_robustness.md": _robustness,
    "published_metadata.md": _run_there,
    "curation.md": _curated,
    "exporting.md": _exporting,
    "runs.md": _run_there,
    "scale.md": _run_there,
    "training_data.md": _data,
    "tutorial.md": _tutorial,
    "translate.md": _translating,
    "unity_model.md": _unity,
    "units.md": _units,
}
