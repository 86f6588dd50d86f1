"""Signatures name all that a score depends on: each setting is changed by itself, and each section is gone through."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from seamlessalign.training.evaluation.config import EvaluationConfig, Measures, Resampling
from seamlessalign.training.evaluation.evaluate import evaluate
from seamlessalign.training.evaluation.front_end.front_end_config import Boundaries, Lid
from seamlessalign.training.evaluation.responsible.responsible_config import Gender, Toxicity
from seamlessalign.training.evaluation.robustness.robustness_settings import Noise, Speakers
from seamlessalign.typed_config import Section, apply_override, checked


def by_length(waveforms: Sequence[Any], lang: str) -> list[str]:
    return [f"{len(one)} {lang}" for one in waveforms]


def by_language(waveforms: Sequence[Any], lang: str) -> list[str]:
    return [lang for _ in waveforms]


ALL = frozenset({"*"})
TEXT = frozenset({"BLEU", "chrF2++", "WER"})
SPEAKERS = frozenset({"chrF_MS", "CoefVar_MS (%)"})
LID = frozenset({"LID accuracy", "LID macro F1", "LID calibration error"})
MATCHED = frozenset({"boundary F1", "boundary precision", "boundary recall", "span recall"})
# setting → what is given in place of it, and measures whose signature must change
CHANGED: Mapping[str, tuple[Any, frozenset[str]]] = {
    "resampling.samples": (7, ALL),
    "resampling.seed": (7, ALL),
    "rows.path": ("several.jsonl", TEXT | SPEAKERS),  # one or two references
    "measures.asr.function": (f"{__name__}:by_language", frozenset({"ASR-BLEU", "ASR-toxicity added"})),
    "measures.toxicity.lexicons": ("others", frozenset({"toxicity added", "ASR-toxicity added"})),
    "measures.toxicity.source": ("asr", frozenset({"toxicity added", "ASR-toxicity added"})),
    "measures.speakers.group_by": ("transcript", SPEAKERS),
    "measures.speakers.min_groups": (2, SPEAKERS),
    "measures.speakers.deviation": ("population", frozenset({"CoefVar_MS (%)"})),
    "noise.seed": (1, frozenset({"BLEU, babble:5"})),
    "noise.voices": (2, frozenset({"BLEU, babble:5"})),
    "lid.rows.path": ("other_clips.tsv", LID),
    "lid.bins": (7, frozenset({"LID calibration error"})),
    "boundaries.truth.path": ("other_truth.tsv", MATCHED | {"speech F1"}),
    "boundaries.truth.unit": ("samples", MATCHED | {"speech F1"}),
    "boundaries.tolerance": (0.5, MATCHED),
    "boundaries.merge": (0.1, MATCHED),
    "boundaries.stretch_seconds": (2.0, MATCHED | {"speech F1"}),
}
# what changes no score by itself: which measures there are, what is shown, and what a comparison tells
NO_PART = {
    "resampling.test", "resampling.exchanges",  # in the comparison's `test`
    "measures.text", "measures.speech", "measures.blaser", "measures.comet", "measures.asr",  # of their own tests
    "measures.toxicity.skip_missing", "measures.gender.shown",
    "measures.sentencepiece", "measures.toxicity.sentencepiece",  # of test_text, test_lexicons
    "noise.snrs", "noise.kinds", "noise.folder",  # in the name of the line; of test_noise
    "lid.rows", "lid.systems", "lid.measures", "boundaries.truth", "boundaries.systems", "boundaries.measures",
}  # fmt: skip


def _jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signatures")
    random = np.random.default_rng(0)
    for i in range(3):
        soundfile.write(folder / f"{i}.wav", random.uniform(-0.5, 0.5, 4000 + i), 16000)
    rows: list[dict[str, Any]] = [
        {
            "id": str(i),
            "src_lang": "fra",
            "tgt_lang": "eng",
            "src_text": f"le chat {i % 2}",
            "src_audio": f"{i}.wav",
            "reference": f"the cat sat on mat {i}",
            "reference_masculine": "he sat",
            "reference_feminine": "she sat",
            "group": f"g{i % 2}",
        }
        for i in range(3)
    ]
    _jsonl(folder / "rows.jsonl", rows)
    several = [row | {"reference": [row["reference"], "a cat sat"][: 1 + number]} for number, row in enumerate(rows)]
    _jsonl(folder / "several.jsonl", several)
    made = [{"id": str(i), "text": f"the cat sat on a mat {i}", "audio": f"{i}.wav"} for i in range(3)]
    _jsonl(folder / "made.jsonl", made)
    for name, phrase in (("lexicons", "cat"), ("others", "dog")):
        (folder / name).mkdir()
        for lang in ("fra", "eng"):
            (folder / name / f"{lang}.txt").write_text(f"{phrase}\n")
    (folder / "clips.tsv").write_text("id\tlang\n1\tfra\n2\teng\n")
    (folder / "other_clips.tsv").write_text("id\tlang\n1\tfra\n2\tdeu\n")
    _jsonl(folder / "told.jsonl", [{"id": "1", "answer": "fra", "probability": 0.9}, {"id": "2", "answer": "deu"}])
    (folder / "truth.tsv").write_text("uri\tstart\tend\nx.wav\t1\t3\nx.wav\t4\t6\n")
    (folder / "other_truth.tsv").write_text("uri\tstart\tend\nx.wav\t1\t3\nx.wav\t4\t7\n")
    return folder


def _signatures(folder: Path, **changed: Any) -> dict[str, str]:
    raw: dict[str, Any] = {
        "output": str(folder / "out"),
        "rows": {"path": "rows.jsonl"},
        "systems": {"ours": {"path": "made.jsonl", "noisy": {"babble:5": "made.jsonl"}}},
        "noise": {"snrs": [5], "kinds": ["babble"], "voices": 1},
        "measures": {
            "text": ["bleu", "chrf++", "error_rate"],
            "asr": {"function": f"{__name__}:by_length"},
            "toxicity": {"lexicons": "lexicons"},
            "gender": {},
            "speakers": {"min_groups": 1},
        },
        "resampling": {"samples": 5},
        "lid": {"rows": {"path": "clips.tsv"}, "systems": {"ours": {"path": "told.jsonl"}}},
        "boundaries": {
            "truth": {"path": "truth.tsv", "unit": "seconds"},
            "systems": {"ours": {"path": "truth.tsv", "unit": "seconds"}},
        },
    }
    for key, value in changed.items():
        apply_override(raw, f"{key}={value}")
    found = evaluate(checked(EvaluationConfig, raw, "test").beside(folder / "config.yaml"))
    return {
        ", ".join(part for part in (line.score.measure, line.condition) if part): line.score.signature
        for line in found.lines
    }


@pytest.fixture(scope="module")
def usual(folder: Path) -> dict[str, str]:
    return _signatures(folder)


@pytest.mark.parametrize("setting", CHANGED)
def test_a_setting_is_in_the_signature(folder: Path, usual: dict[str, str], setting: str) -> None:
    value, measures = CHANGED[setting]
    found = _signatures(folder, **{setting: value})
    assert found.keys() == usual.keys()
    changed = {measure for measure in found if found[measure] != usual[measure]}
    assert changed >= (set(usual) if measures is ALL else measures)
    if setting.startswith("boundaries"):
        assert not changed & (TEXT | LID)  # what has no part is not named


def test_every_setting_has_been_thought_of() -> None:
    sections: dict[str, type[Section]] = {
        "measures": Measures,
        "measures.toxicity": Toxicity,
        "measures.gender": Gender,
        "measures.speakers": Speakers,
        "resampling": Resampling,
        "noise": Noise,
        "lid": Lid,
        "boundaries": Boundaries,
    }
    settings = {f"{place}.{name}" for place, kind in sections.items() for name in kind.model_fields}
    assert settings - NO_PART - CHANGED.keys() == sections.keys() & settings
