"""A small run of made pairs with speech that can be heard, and its rows as dictionaries to count in plain Python."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile
import yaml

from seamlessalign import storage
from seamlessalign.rows import CORPUS, PAIRS, RECORDINGS, Pair, Recording, pair_id, recording_id, segment_id, sha256_hex

THRESHOLD = 1.15
SECONDS = 30
_REASONS = ("overlap", "chars_per_second")
_TEXTS = ("Good morning.", "the 100% answer_is \\ here", "Où est la gare ? ÉCOLE", "<b>bold</b> & $x$", "说中文")


def make_run(root: Path, pairs: int = 240, seed: int = 3) -> dict[str, list[dict[str, Any]]]:
    """Write a run of two directions, `eng-frA` in two parts and `esA-frA`; returns the rows of each."""
    rng = np.random.default_rng(seed)
    recordings = _recordings(root / "audio", rng)
    _write(root / "recordings/part-00000.parquet", pa.Table.from_pylist(recordings, RECORDINGS))
    found = {name: _rows(name, recordings, pairs, rng) for name in ("eng-frA", "esA-frA")}
    for name, rows in found.items():
        metadata = {"seamlessalign.threshold": repr(THRESHOLD)}
        table = pa.Table.from_pylist(rows, PAIRS).replace_schema_metadata(metadata)
        half = len(rows) // 2 if name == "eng-frA" else len(rows)
        for number, part in enumerate(part for part in (table[:half], table[half:]) if len(part)):
            _write(root / f"pairs/direction={name}/part-{number:05d}.parquet", part)
    config = {"directions": list(found), "output": str(root), "speech": {"inputs": [str(root / "audio")]}}
    config |= {"text": {"inputs": ["y"], "lang": "eng"}}
    (root / "run.yaml").write_text(yaml.safe_dump(config))
    return found


def add_to_corpus(root: Path, row: dict[str, Any], audio: bytes) -> None:
    """Write a corpus of one pair, whose target side is this audio."""
    written = {name: row.get(name) for name in CORPUS.names} | {"tgt_audio": {"bytes": audio, "path": "a.flac"}}
    place = root / f"corpus/direction={row['direction']}/part-00000.parquet"
    _write(place, pa.Table.from_pylist([written], CORPUS))


def _write(path: Path, table: pa.Table) -> None:
    storage.write_table(str(path), table, row_group_size=50)


def _recordings(folder: Path, rng: np.random.Generator) -> list[dict[str, Any]]:
    folder.mkdir(parents=True)
    rows = []
    for number, lang in enumerate(("fra", "spa", "fra")):
        path = folder / f"{number} talk.wav"
        samples = rng.integers(-8000, 8000, SECONDS * 16_000).astype(np.int16)
        soundfile.write(path, samples, 16_000, subtype="PCM_16")
        sha = sha256_hex(path.read_bytes())
        prob = float(np.float32(0.5 + number / 5))
        source = ("radio", "talks", None)[number]
        one = Recording(recording_id(sha), str(path), sha, len(samples), 16_000, 1, lang, prob, 1, "CC0", source, None)
        rows.append(asdict(one))
    return rows


def _rows(
    direction: str, recordings: list[dict[str, Any]], number: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    rows = []
    margins = rng.normal(1.15, 0.12, number)
    margins[::2] = np.round(margins[::2], 2)  # many are equal, some at the threshold
    margins = margins.astype(np.float32)
    for place, margin in enumerate(margins.tolist()):
        src, tgt = (_side(side, place, recordings, rng) for side in direction.split("-"))
        estimate = None if place % 9 == 0 else float(np.float32(rng.random()))
        reason = _REASONS[place % 2] if rng.random() < 0.2 else None
        if margin < np.float32(THRESHOLD):
            reason = "below_threshold"
        ranks = int(rng.integers(-1, 6)), int(rng.integers(-1, 6))
        cosine = float(np.float32(margin / 2 + rng.normal(0, 0.1)))
        row = asdict(
            Pair(
                pair_id(src["id"], tgt["id"]), direction, src["id"], tgt["id"], src["lang"], tgt["lang"],
                src["uri"], src["start"], src["end"], src["text"], tgt["uri"], tgt["start"], tgt["end"], tgt["text"],
                margin, cosine, *ranks, estimate, reason is None, reason,
            )
        )  # fmt: skip
        rows.append(row)
    return rows


def _side(side: str, place: int, recordings: list[dict[str, Any]], rng: np.random.Generator) -> dict[str, Any]:
    if not side.endswith("A"):
        text = f"{_TEXTS[place % len(_TEXTS)]} {place}"
        return {"id": f"{place:016x}", "lang": side, "uri": None, "start": None, "end": None, "text": text}
    lang = {"frA": "fra", "esA": "spa"}[side]
    own = [row for row in recordings if row["lang"] == lang]
    chosen = own[int(rng.integers(len(own)))]
    start = int(rng.integers(0, (SECONDS - 6) * 16_000))
    end = start + int(rng.integers(8000, 6 * 16_000))
    name = segment_id(chosen["recording_id"], start, end)
    return {"id": name, "lang": lang, "uri": chosen["uri"], "start": start, "end": end, "text": None}
