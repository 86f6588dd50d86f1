"""A run folder of random rows with consistent tables and hostile strings, and a reader of the page made from it."""

import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile
import yaml

from seamlessalign import storage
from seamlessalign.rows import (
    CORPUS,
    LEDGER,
    PAIRS,
    RECORDINGS,
    LedgerLine,
    Pair,
    Recording,
    pair_id,
    recording_id,
    segment_id,
    segments_schema,
    sentence_id,
    sentences_schema,
    sha256_hex,
)
from seamlessalign.segmentation.kept_scores import FRAMES, to_row
from seamlessalign.segmentation.vad import FrameScores

FRAGMENTS = 40
HOSTILE_URI = 's3://bucket/<script>window.stolen=1</script>/it\'s "here"\nand there.mp3'
HOSTILE_TEXT = "</blockquote><img src=x onerror=\"window.stolen=1\"> & 'so on' \u202e\x00 $style"
TEXTS = [
    "The committee will meet again on Thursday to vote on the proposal.",
    HOSTILE_TEXT,
    "She opened the window and listened to the rain.",
    "Nobody had told him that the last train left at nine.",
    "我们明天早上八点在车站见面。",
    "هذا هو الكتاب الذي كنت أبحث عنه.",
]


@cache
def tone(seconds: float, pitch: float, kind: str) -> bytes:
    """A quiet tone that swells and fades, as FLAC or Ogg Opus."""
    time_axis = np.arange(int(seconds * 16_000)) / 16_000
    wave = 0.2 * np.sin(2 * np.pi * pitch * time_axis) * np.sin(np.pi * time_axis / seconds)
    buffer = io.BytesIO()
    options = {"flac": ("FLAC", "PCM_16"), "opus": ("OGG", "OPUS")}[kind]
    soundfile.write(buffer, wave.astype(np.float32), 16_000, format=options[0], subtype=options[1])
    return buffer.getvalue()


def span_samples(number: int) -> int:
    """How long the span of a number is."""
    return 16_000 * (2 + number % 7)


def _frames(recording: str, uri: str) -> dict[str, Any]:
    """Frames of 32 ms: a second of silence, then speech with pauses."""
    speech = [0.0] * 32 + ([1.0] * 50 + [0.0] * 20) * FRAGMENTS
    scores = FrameScores(np.array(speech, np.float32), np.zeros(len(speech), np.float32), 512, 512 * len(speech))
    return to_row(recording, uri, scores)


class FakeRun:
    """A run folder with consistent tables, made of random rows; the rows stay here as plain dictionaries.

    One direction has an estimated precision, 0.5 at the threshold; with `by_precision` it was cut there by that.
    With `frames`, probabilities of speech were kept: `FRAGMENTS` fragments of 1.6 s with pauses of 0.64 s, in each
    recording.
    """

    def __init__(
        self,
        root: str,
        *,
        rejected: int = 900,
        kind: str = "opus",
        by_precision: bool = False,
        frames: bool = False,
        texts: Sequence[str] = TEXTS,
    ) -> None:
        self.root = root
        self.frames, self.texts = frames, texts
        self.by_precision = by_precision
        self.random = np.random.default_rng(7)
        self.recordings = self._recordings()
        self.spans = {"fra": 800, "deu": 640}
        self.sentences = {"eng": 1200}
        self.pairs: dict[str, list[dict[str, Any]]] = {}
        self.corpus: dict[str, list[dict[str, Any]]] = {}
        for direction, lang, threshold, kept in (("eng-frA", "fra", 1.12, 150), ("eng-deA", "deu", 1.15, 60)):
            self._mine(direction, lang, threshold, kept, rejected, kind)
        self._write_tables()
        self._write_ledger()
        self._write_rest()

    def _recordings(self) -> list[dict[str, Any]]:
        rows = []
        for number in range(60):
            lang: str | None
            lang, reason = [("fra", None), ("deu", None), ("ita", "language_not_asked_for"), ("fra", None)][number % 4]
            if number == 9:
                lang, reason = None, "no_speech"
            uri = HOSTILE_URI if number == 0 else f"https://archive.example/talks/{lang}/{number:03}.mp3"
            sha = sha256_hex(uri.encode())
            samples = int(self.random.integers(200, 3000)) * 16_000
            speech = 0 if reason == "no_speech" else int(samples * self.random.uniform(0.5, 0.95))
            row = Recording(recording_id(sha), uri, sha, samples, 44_100, 2, lang, 0.93, speech, "CC-BY", "x", reason)
            rows.append(asdict(row))
        return rows

    def _mine(self, direction: str, lang: str, threshold: float, kept: int, rejected: int, kind: str) -> None:
        sources = [row for row in self.recordings if row["lang"] == lang and row["drop_reason"] is None]
        good = threshold + np.abs(self.random.normal(0.08, 0.06, kept))
        bad = self.random.normal(threshold - 0.14, 0.04, rejected)
        pairs: list[dict[str, Any]] = []
        corpus: list[dict[str, Any]] = []
        for number, margin in enumerate([*good, *bad]):
            is_kept = number < kept and number % 10 != 9
            below = "below_precision" if self.by_precision and direction == "eng-frA" else "below_threshold"
            reason = None if is_kept else "overlap" if number < kept else below
            source = sources[number % len(sources)]
            start = int(self.random.integers(0, source["num_samples"] - 12 * 16_000))
            end = start + int(self.random.integers(2 * 16_000, 10 * 16_000))
            text = self.texts[number % len(self.texts)] + ("" if number < 6 else f" {number}")
            ids = sentence_id(text, "eng"), segment_id(source["recording_id"], start, end)
            estimate = float(np.float32(1 / (1 + np.exp(-30 * (margin - threshold))))) if lang == "fra" else None
            row = asdict(
                Pair(
                    pair_id(*ids), direction, *ids, "eng", lang, None, None, None, text, source["uri"], start, end,
                    None, float(np.float32(margin)), 0.8 + number / 20_000, 0, 1, estimate, is_kept, reason,
                )
            )  # fmt: skip
            pairs.append(row)
            if is_kept:
                audio = {"bytes": tone(1.0 + number % 3, 220 + number % 7, kind), "path": None}
                written = {name: row.get(name) for name in CORPUS.names}
                corpus.append({**written, "tgt_audio": audio, "tgt_license": "CC-BY", "tgt_source": "x"})
        order = self.random.permutation(len(pairs))
        self.pairs[direction] = [pairs[index] for index in order]
        self.corpus[direction] = corpus

    def _write_tables(self) -> None:
        self.write("recordings/part-00000.parquet", pa.Table.from_pylist(self.recordings[:40], RECORDINGS))
        self.write("recordings/part-00001.parquet", pa.Table.from_pylist(self.recordings[40:], RECORDINGS))
        for lang, count in self.spans.items():
            row = {"segment_id": "a:0-1", "recording_id": "a", "uri": "u", "start": 7, "lang": lang}
            row |= {"lang_prob": 1.0, "speech_ratio": 1.0, "num_fragments": 1, "embedding": [np.float16(0)] * 4}
            rows = [{**row, "end": 7 + span_samples(number)} for number in range(count)]
            for part, some in enumerate((rows[:300], rows[300:])):
                table = pa.Table.from_pylist(some, segments_schema(4))
                self.write(f"segments/lang={lang}/part-{part:05}.parquet", table)
        if self.frames:
            for part, recordings in enumerate((self.recordings[:40], self.recordings[40:])):
                rows = [_frames(row["recording_id"], row["uri"]) for row in recordings]
                self.write(f"frames/part-{part:05}.parquet", pa.Table.from_pylist(rows, FRAMES))
        for lang, count in self.sentences.items():
            row = {"sentence_id": "s", "text": "t", "lang": lang, "lang_prob": 1.0, "document_id": "d", "position": 0}
            row |= {"embedding": [np.float16(0)] * 4}
            table = pa.Table.from_pylist([row] * count, sentences_schema(4))
            self.write(f"sentences/lang={lang}/part-00000.parquet", table)
        thresholds = {"eng-frA": "1.12", "eng-deA": "1.15"}
        for direction, pairs in self.pairs.items():
            metadata = {
                "seamlessalign.threshold": thresholds[direction],
                "seamlessalign.threshold_origin": "fitted <b>",
                "seamlessalign.decoys": "700 on the side eng: <i>given</i>" if direction == "eng-frA" else "none",
            }
            if self.by_precision and direction == "eng-frA":
                metadata["seamlessalign.threshold"] = "-inf"
                metadata["seamlessalign.threshold_origin"] = "estimated precision of each pair at least 0.5"
                metadata["seamlessalign.mining"] = '{"fdr": null, "min_precision": 0.5}'
            table = pa.Table.from_pylist(pairs, PAIRS).replace_schema_metadata(metadata)
            half = len(pairs) // 2
            self.write(f"pairs/direction={direction}/part-00000.parquet", table[:half])
            self.write(f"pairs/direction={direction}/part-00001.parquet", table[half:])
            table = pa.Table.from_pylist(self.corpus[direction], CORPUS)
            self.write(f"corpus/direction={direction}/part-00000.parquet", table, row_group_size=20)

    def _write_ledger(self) -> None:
        lines = []
        models = {"silero-vad": "ab" * 32, "whisper-base": "cd" * 32}
        for shard in range(2):
            rows = self.recordings[40 * shard : 40 * shard + 40]
            gone = [row for row in rows if row["drop_reason"]]
            seconds = {"decode": 31.0, "vad": 62.5, "lid": 40.25, "embed": 210.125}
            lines.append(self._line("recordings", f"part-{shard:05}", rows, gone, "num_samples", seconds, models))
        spans = sum(self.spans.values())
        lines.append(LedgerLine("segments", "part-00000", spans + 30, spans, {"too_short": 30}, 9_000, 8_000,
                                {"too_short": 1_000}, {}, 0, 52_000_000, 640_000_000, 0, "d", models))  # fmt: skip
        count = sum(self.sentences.values())
        lines.append(LedgerLine("sentences", "part-00000", count + 7, count, {"duplicate": 5, "empty": 2}, 0, 0, {},
                                {"split": 0.5, "embed": 61.0}, 90_000, 800_000, 900_000_000, 0, "d",
                                {"e5-small": "ef" * 32}))  # fmt: skip
        for direction, pairs in self.pairs.items():
            rows = [{**row, "samples": row["tgt_end"] - row["tgt_start"]} for row in pairs]
            gone = [row for row in rows if not row["kept"]]
            lines.append(self._line("pairs", f"direction={direction}", rows, gone, "samples", {"search": 3.5}, {}))
            rows = [row for row in rows if row["kept"]]
            lines.append(self._line("corpus", f"direction={direction}", rows, [], "samples", {"cut": 12.0}, {}))
        self.ledger = lines
        self.write_ledger(lines)

    @staticmethod
    def _line(
        stage: str, shard: str, rows: list[dict[str, Any]], gone: list[dict[str, Any]], column: str,
        seconds: dict[str, float], models: dict[str, str],
    ) -> LedgerLine:  # fmt: skip
        reasons, samples = Counter[str](), Counter[str]()
        for row in gone:
            reasons[row["drop_reason"]] += 1
            samples[row["drop_reason"]] += row[column]
        whole = sum(row[column] for row in rows)
        return LedgerLine(stage, shard, len(rows), len(rows) - len(gone), dict(reasons), whole,
                          whole - samples.total(), dict(samples), seconds, 10**9, 10**7, 1_234_000_000, 0, "d",
                          models)  # fmt: skip

    def write_ledger(self, lines: list[LedgerLine]) -> None:
        maps = ("dropped", "samples_dropped", "seconds", "models")
        rows = [{**asdict(line), **{name: list(getattr(line, name).items()) for name in maps}} for line in lines]
        self.write("ledger.parquet", pa.Table.from_pylist(rows, LEDGER))

    def _write_rest(self) -> None:
        lines = [
            {"uri": HOSTILE_URI, "reason": "not_audio", "detail": HOSTILE_TEXT},
            {"uri": "https://archive.example/b.mp3", "reason": "truncated", "detail": "frame 7 of 90, \ud800"},
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines) + '{"uri": "cut of'
        self.put("quarantine/part-00000.jsonl", text.encode())
        config: dict[str, Any] = {"name": "talks & <em>speeches</em>", "digest": "0123456789abcdef0123"}
        if self.frames:
            config |= {"directions": list(self.pairs), "output": self.root}
            config |= {"speech": {"inputs": ["x"]}, "text": {"inputs": ["y"], "lang": "eng"}}
        self.put("run.yaml", yaml.safe_dump(config).encode())
        evaluation = {
            "directions": [
                {
                    "direction": "eng-frA", "speech_hours": 8.25, "spans": 800, "kept": 135, "precision": 0.961,
                    "recall": 0.842, "f1": 0.8976, "f1_low": 0.871, "f1_high": 0.921, "threshold": 1.12,
                    "best_threshold": 1.105, "best_f1": 0.904, "truth": "read <speech>", "expected_precision": 0.912,
                    "reliability": [
                        self._bin(0.0, 0.25, 400, 0.031, 0.0425, 0.027, 0.067),
                        self._bin(0.25, 0.5, 0, None, None, None, None),
                        self._bin(0.5, 0.75, 50, 0.61, 0.58, 0.442, 0.706),
                        self._bin(0.75, 1.0, 100, 0.94, 0.97, 0.915, 0.99),
                    ],
                    "at_precision": [
                        {
                            "min_precision": 0.5, "kept": 135, "expected_precision": 0.912, "precision": 0.961,
                            "precision_low": 0.914, "precision_high": 0.983, "recall": 0.842, "f1": 0.898,
                        },
                        {
                            "min_precision": 0.9, "kept": 0, "expected_precision": None, "precision": None,
                            "precision_low": None, "precision_high": None, "recall": 0.0, "f1": 0.0,
                        },
                        {
                            "min_precision": 0.95, "kept": 0, "expected_precision": None, "precision": None,
                            "precision_low": None, "precision_high": None, "recall": 0.0, "f1": 0.0,
                        },
                    ],
                },
                {"direction": "eng-deA", "kept": 54, "threshold": None, "reliability": [], "at_precision": []},
            ],
            "estimate_rule": "Compared over <all> candidates.",
            "note": "The truth is known because the recordings were read from these sentences.",
        }  # fmt: skip
        self.put("evaluation.json", json.dumps(evaluation).encode())

    @staticmethod
    def _bin(low: float, high: float, pairs: int, *shares: float | None) -> dict[str, float | None]:
        names = ("mean_estimate", "precision", "precision_low", "precision_high")
        return {"low": low, "high": high, "pairs": pairs, **dict(zip(names, shares, strict=True))}

    def put(self, name: str, data: bytes) -> None:
        storage.write_bytes_atomic(storage.join(self.root, name), data)

    def write(self, name: str, table: pa.Table, **options: Any) -> None:
        storage.write_table(storage.join(self.root, name), table, **options)
