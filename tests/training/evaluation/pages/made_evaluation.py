"""An evaluation as it lies in a folder, of made-up numbers: as many directions, systems and measures as asked for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from seamlessalign import storage
from seamlessalign.languages import all_languages
from seamlessalign.training.evaluation.files import STATISTICS, TRANSLATIONS


def score(system: str, direction: str, measure: str, value: float | None, **others: Any) -> dict[str, Any]:
    """One score of `evaluation.json`."""
    return {
        "task": "translation",
        "system": system,
        "direction": direction,
        "kind": "chrf++",
        "measure": measure,
        "score": value,
        "low": None if value is None else value - 1.25,
        "high": None if value is None else value + 1.5,
        "rows": 100,
        "missing": 0,
        "higher_is_better": True,
        "signature": "a:1|b:2",
        **others,
    }


def against(difference: float | None, p_value: float | None) -> dict[str, Any]:
    ends = [None if difference is None else difference + more for more in (-0.5, 0.75)]
    test = "paired bootstrap|bs:1000|seed:12345"
    return {"difference": difference, "low": ends[0], "high": ends[1], "p_value": p_value, "test": test}


def write(folder: Path, scores: list[dict[str, Any]], **others: Any) -> str:
    """`evaluation.json` of scores; others: what else is told."""
    folder.mkdir(parents=True, exist_ok=True)
    baselines = {one["task"]: one["system"] for one in reversed(scores)}
    told = {"rows": 100, "digest of rows": "ab" * 8, "systems": {}, "baselines": baselines, "scores": scores, **others}
    (folder / "evaluation.json").write_text(json.dumps(told), encoding="utf-8")
    return str(folder)


def write_rows(folder: Path, rows: list[tuple[str, str, str, float | None, str | None]], **others: Any) -> None:
    """Tables of rows of fra-eng: system, measure, id, score of the row, text. others: columns of the texts."""
    lines, texts = [], []
    for system, measure, key, value, text in rows:
        about = {"system": system, "id": key}
        place = {"task": "translation", "direction": "fra-eng", "condition": "", "measure": measure}
        lines.append({**place, **about, "statistics": [value or 0.0, 1.0], "score": value})
        known = {"src_lang": "fra", "tgt_lang": "eng", "src_text": f"source of {key}", "heard": None}
        texts.append({**known, "references": [f"reference of {key}"], **about, "text": text, **others})
    storage.write_table(str(folder / "statistics.parquet"), pa.Table.from_pylist(lines, schema=STATISTICS))
    storage.write_table(str(folder / "translations.parquet"), pa.Table.from_pylist(texts, schema=TRANSLATIONS))


def large(folder: Path, directions: int = 200, measures: int = 20, systems: int = 10, seed: int = 0) -> str:
    """A large one, with curves for some measures."""
    random = np.random.default_rng(seed)
    langs = [language.iso639_3 for language in all_languages() if language.iso639_3 != "eng"]
    some = [f"{lang}-eng" for lang in langs][: directions // 2]
    some += [f"eng-{lang}" for lang in langs][: directions - len(some)]
    scores = []
    for number in range(measures):
        for direction in some:
            base = random.uniform(10, 45)
            for system in range(systems):
                value = round(base + random.normal(0, 3), 6)
                found = score(f"system-{system}", direction, f"measure {number}", value, signature=f"m:{number}|v:1")
                if system:
                    found["against_baseline"] = against(round(value - base, 6), round(random.uniform(0.001, 0.3), 6))
                scores.append(found)
    return write(folder, scores)
