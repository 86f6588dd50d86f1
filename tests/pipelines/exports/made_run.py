"""A small finished run with real recordings, made in a second: every pair's audio in the corpus is cut from them.

Which pair is right and how it scores is made up. Recordings are noise whose loudness changes, no two alike.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile
import yaml

from seamlessalign import storage
from seamlessalign.audio import cut, encode
from seamlessalign.config import MiningConfig, dump_config, parse_config
from seamlessalign.pipelines.corpus_stage import FEATURES, audio_name
from seamlessalign.rows import (
    CORPUS,
    PAIRS,
    RECORDINGS,
    SAMPLE_RATE,
    Pair,
    Recording,
    pair_id,
    recording_id,
    segment_id,
    sentence_id,
)

THRESHOLD = 1.2
SECONDS = 24
SPANS = 10  # of each recording, 2.4 s apart
LICENSES = ("CC-BY-4.0", "CC-BY-4.0", None, "Our own | terms")


@dataclass
class MadeRun:
    """The folder of a run, and its rows."""

    root: Path
    recordings: list[dict[str, Any]] = field(default_factory=list)
    pairs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    corpus: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def kept(self, direction: str) -> list[dict[str, Any]]:
        return [pair for pair in self.pairs[direction] if pair["kept"]]

    def recording(self, uri: str) -> dict[str, Any]:
        return next(one for one in self.recordings if one["uri"] == uri)


def make_run(
    root: Path, *, recordings: int = 8, shared_texts: bool = False, mining: dict[str, Any] | None = None
) -> MadeRun:
    """A run of `recordings` in each of French and German: `eng-frA` and `frA-deA`.

    A recording's spans are of sentences of its own, or, with `shared_texts`, of those of all. Of each direction about a
    third of the pairs are below the threshold: half of these lie where no kept pair does, half overlap one.
    """
    made, random = MadeRun(root / "run"), np.random.default_rng(3)
    (root / "audio").mkdir(parents=True)
    for number in range(recordings):
        for lang in ("fra", "deu"):
            made.recordings.append(_recording(root / "audio" / f"{lang}-{number:02}.flac", lang, number, random))
    french, german = (made.recordings[side::2] for side in (0, 1))
    for direction, sources in (("eng-frA", [french]), ("frA-deA", [french, german])):
        made.pairs[direction] = _pairs(direction, sources, random, shared_texts=shared_texts)
    _write(made, mining or {})
    return made


def _recording(path: Path, lang: str, number: int, random: Any) -> dict[str, Any]:
    loudness = np.repeat(random.uniform(0.01, 0.3, SECONDS * 4), SAMPLE_RATE // 4)
    soundfile.write(path, random.normal(0, 1, len(loudness)).clip(-3, 3) * loudness, SAMPLE_RATE, format="FLAC")
    sha = storage.sha256_of(path)
    row = Recording(
        recording_id(sha), str(path), sha, SECONDS * SAMPLE_RATE, SAMPLE_RATE, 1, lang, 1.0 if number % 4 else 0.75,
        SECONDS * SAMPLE_RATE, LICENSES[number % 4], f"archive {number % 3}" if number % 5 else "espeak-ng voices",
        None,
    )  # fmt: skip
    return asdict(row)


def _pairs(
    direction: str, sources: Sequence[list[dict[str, Any]]], random: Any, *, shared_texts: bool
) -> list[dict[str, Any]]:
    pairs = []
    for number, recordings in enumerate(zip(*sources, strict=True)):
        for span in range(SPANS):
            low = span % 3 == 2
            overlapping = low and span % 2 == 1
            place = span - 1 if overlapping else span
            start = int(place * 2.4 * SAMPLE_RATE) + int(random.integers(0, 800))
            end = start + int(random.integers(12, 22)) * SAMPLE_RATE // 10
            margin = float(np.float32(random.uniform(1.0, THRESHOLD) if low else random.uniform(THRESHOLD, 1.6)))
            told = f"Sentence {span} of the talk" + (
                "" if shared_texts else f" number {number} about {number * 37 % 11}"
            )
            pairs.append(_pair(direction, recordings, start, end, told, margin, low=low))
    return sorted(pairs, key=lambda pair: -pair["margin"])


def _pair(
    direction: str, recordings: Sequence[dict[str, Any]], start: int, end: int, text: str, margin: float, *, low: bool
) -> dict[str, Any]:
    spans: list[tuple[Any, Any, Any, Any]] = [(one["uri"], start, end, None) for one in recordings]
    ids = [segment_id(one["recording_id"], start, end) for one in recordings]
    langs = [one["lang"] for one in recordings]
    if len(recordings) == 1:
        spans, ids, langs = [(None, None, None, text), *spans], [sentence_id(text, "eng"), *ids], ["eng", *langs]
    estimate = float(np.float32(1 / (1 + np.exp(-12 * (margin - 1.15)))))
    (src_uri, src_start, src_end, src_text), (tgt_uri, tgt_start, tgt_end, tgt_text) = spans
    row = Pair(
        pair_id(*ids), direction, ids[0], ids[1], langs[0], langs[1], src_uri, src_start, src_end, src_text, tgt_uri,
        tgt_start, tgt_end, tgt_text, margin, margin / 2, 0, 1, estimate, not low, "below_threshold" if low else None,
    )  # fmt: skip
    return asdict(row)


def _write(made: MadeRun, mining: dict[str, Any]) -> None:
    root = str(made.root)
    half = len(made.recordings) // 2
    for part, some in enumerate((made.recordings[:half], made.recordings[half:])):
        _table(made, f"recordings/part-{part:05}.parquet", pa.Table.from_pylist(some, RECORDINGS))
    settings = MiningConfig.model_validate({"threshold": THRESHOLD, **mining})
    metadata = {
        "seamlessalign.threshold": str(THRESHOLD),
        "seamlessalign.threshold_origin": "set in the configuration",
        "seamlessalign.decoys": "70 on the side eng: sentences given as such",
        "seamlessalign.mining": json.dumps(settings.model_dump(mode="json")),
    }
    for direction, pairs in made.pairs.items():
        _table(made, f"pairs/direction={direction}/part-00000.parquet", pa.Table.from_pylist(pairs, PAIRS), metadata)
        rows = made.corpus[direction] = _corpus(made, [pair for pair in pairs if pair["kept"]])
        for part, some in enumerate((rows[: len(rows) // 2], rows[len(rows) // 2 :])):
            table = pa.Table.from_pylist(some, CORPUS)
            _table(made, f"corpus/direction={direction}/part-{part:05}.parquet", table, {"huggingface": FEATURES}, 5)
    raw = {
        "name": "made", "output": root, "directions": list(made.pairs),
        "speech": {"inputs": [str(made.root.parent / "audio")]}, "text": {"inputs": ["none"], "lang": "eng"},
        "mining": {"threshold": THRESHOLD, **mining},
    }  # fmt: skip
    config = {**dump_config(parse_config(raw, "made")), "digest": "0123456789abcdef"}
    storage.write_bytes_atomic(f"{root}/run.yaml", yaml.safe_dump(config, sort_keys=False).encode())


def _table(made: MadeRun, name: str, table: pa.Table, metadata: dict[str, str] | None = None, group: int = 100) -> None:
    storage.write_table(f"{made.root}/{name}", table, metadata=metadata, row_group_size=group)


def _corpus(made: MadeRun, pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the corpus in the order of their audio, as the stage has them."""
    spans: dict[str, list[tuple[int, int]]] = {}
    for pair in pairs:
        for side in ("src", "tgt"):
            if pair[f"{side}_uri"] is not None:
                spans.setdefault(pair[f"{side}_uri"], []).append((pair[f"{side}_start"], pair[f"{side}_end"]))
    audio = {
        (uri, *span): encode(samples, "flac")
        for uri, some in spans.items()
        for span, samples in zip(sorted(some), cut(Path(uri), np.array(sorted(some), np.int64)), strict=True)
    }
    rows = []
    for pair in sorted(pairs, key=lambda pair: (pair["src_uri"] or pair["tgt_uri"], pair["tgt_start"])):
        row = {name: pair.get(name) for name in CORPUS.names}
        for side in ("src", "tgt"):
            uri, start, end = (pair[f"{side}_{name}"] for name in ("uri", "start", "end"))
            if uri is None:
                continue
            content = {"bytes": audio[uri, start, end], "path": audio_name(pair[f"{side}_id"], "flac")}
            about = made.recording(uri)
            row |= {f"{side}_audio": content, f"{side}_license": about["license"], f"{side}_source": about["source"]}
        rows.append(row)
    return rows
