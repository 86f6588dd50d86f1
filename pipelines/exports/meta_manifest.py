"""What the fine-tuning of seamless_communication reads: a manifest of JSON lines for each split, and clips as files.

Its facts are those of that project at commit 71886b2 (`datasets/datatypes.py`, `cli/m4t/finetune/dataloader.py`). A
line has `source` and `target`, each with id, lang, text, audio_local_path, sampling_rate and units. The source is
always read as audio, at whatever rate its file has; the text of the target is always read; units are one for each
20 ms, repeated as they last. Other keys are passed over, so the rest of a pair is under `pair`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from seamlessalign import storage
from seamlessalign.errors import InputError
from seamlessalign.languages import Direction
from seamlessalign.pipelines.exports.clip_files import ClipFiles
from seamlessalign.pipelines.exports.clips import SIDES
from seamlessalign.pipelines.exports.shards import (
    ExportRow,
    Format,
    Shard,
    Target,
    Written,
    by_split,
    join_pieces,
)
from seamlessalign.rows import SAMPLE_RATE

NO_TARGET_TEXT = "no_target_text"
# the languages of its text (cards/unity_nllb-100.yaml) and of its units (cards/seamlessM4T_v2_large.yaml)
_TEXT_LANGS = {
    "afr", "amh", "arb", "ary", "arz", "asm", "azj", "bel", "ben", "bos", "bul", "cat", "ceb", "ces", "ckb",
    "cmn", "cmn_Hant", "cym", "dan", "deu", "ell", "eng", "est", "eus", "fin", "fra", "fuv", "gaz", "gle",
    "glg", "guj", "heb", "hin", "hrv", "hun", "hye", "ibo", "ind", "isl", "ita", "jav", "jpn", "kan", "kat",
    "kaz", "khk", "khm", "kir", "kor", "lao", "lit", "lug", "luo", "lvs", "mai", "mal", "mar", "mkd", "mlt",
    "mni", "mya", "nld", "nno", "nob", "npi", "nya", "ory", "pan", "pbt", "pes", "pol", "por", "ron", "rus",
    "sat", "slk", "slv", "sna", "snd", "som", "spa", "srp", "swe", "swh", "tam", "tel", "tgk", "tgl", "tha",
    "tur", "ukr", "urd", "uzn", "vie", "yor", "yue", "zsm", "zul",
}  # fmt: skip
_UNIT_LANGS = {
    "arb", "ben", "cat", "ces", "cmn", "cym", "dan", "deu", "eng", "est", "fin", "fra", "hin", "ind", "ita",
    "jpn", "kan", "kor", "mlt", "nld", "pes", "pol", "por", "ron", "rus", "slk", "spa", "swe", "swh", "tam",
    "tel", "tgl", "tha", "tur", "ukr", "urd", "uzn", "vie",
}  # fmt: skip
_OTHER_CODES = {"zlm": "zsm"}  # Malay: it has the code of the standard language


class MetaWriter(ClipFiles):
    """A piece of the split's manifest. A pair with one side of speech goes from that to the text."""

    default_audio = "flac"

    def __init__(self, target: Target, shard: Shard, beside: Mapping[str, pa.Table]) -> None:
        super().__init__(target, shard, beside)
        self._root = storage.local_path(target.root).absolute()
        self._ways = _ways(shard.direction)
        self._lines: list[str] = []

    def _refusal(self, row: ExportRow) -> str | None:
        return None if self._text(row, self._ways[1]) else NO_TARGET_TEXT

    def _describe(self, row: ExportRow, names: dict[str, str]) -> None:
        source, target = (self._sample(row, side, names.get(side)) for side in self._ways)
        pair = {"pair_id": row.values["pair_id"], "direction": row.values["direction"], "margin": row.values["margin"]}
        for side in SIDES:
            pair |= {
                name: row.values[name]
                for name in (f"{side}_{column}" for column in ("id", "uri", "start", "end", "license", "source"))
            }
        self._lines.append(json.dumps({"source": source, "target": target, "pair": pair}))

    def _sample(self, row: ExportRow, side: str, name: str | None) -> dict[str, Any]:
        lang = meta_code(row.values[f"{side}_lang"])
        return {
            "id": row.values["pair_id"],
            "lang": lang,
            "text": self._text(row, side),
            "audio_local_path": None if name is None else str(self._root / self.folder / name),
            "waveform": None,
            "sampling_rate": None if name is None else SAMPLE_RATE,
            "units": self._units_of(row, side) if side == self._ways[1] and lang in _UNIT_LANGS else None,
        }

    @staticmethod
    def _text(row: ExportRow, side: str) -> str:
        """The text of a side, or what was heard in it."""
        return row.values[f"{side}_text"] or row.beside.get(f"{side}_transcript") or ""

    @staticmethod
    def _units_of(row: ExportRow, side: str) -> list[int] | None:
        units = row.units.get(side)
        return None if units is None else np.repeat(units["units"], units["durations"]).tolist()

    def _finish(self) -> None:
        super()._finish()
        if self._lines:
            uri = self._uri(self.shard.piece(".jsonl"), self._pairs)
            storage.write_bytes_atomic(uri, "".join(f"{line}\n" for line in self._lines).encode())


class MetaFormat(Format):
    """See there."""

    name = "meta-jsonl"
    writer = MetaWriter
    local_only = True

    def check(self, target: Target, directions: Mapping[str, frozenset[str]]) -> None:
        """See there."""
        super().check(target, directions)
        if target.audio == "opus":
            raise InputError(f"{self.name}: its loader wants 16 kHz and gets 48 kHz of Opus: export FLAC")
        for direction, tables in directions.items():
            sides = Direction.parse(direction)
            goal = sides.tgt if _ways(direction)[1] == "tgt" else sides.src
            code = meta_code(goal.lang)
            if code not in _TEXT_LANGS:
                raise InputError(f"{direction}: {self.name} has no text in {code}: leave the direction out")
            if goal.is_audio and "transcripts" not in tables:
                raise InputError(
                    f"{direction}: {self.name} needs the text of its target: have the run make transcripts, "
                    "or leave the direction out"
                )

    def finish(self, target: Target, written: Sequence[Written]) -> list[str]:
        """Write the manifest of every split."""
        return [
            join_pieces(target, "manifest.json" if split is None else f"{split}_manifest.json", pieces)
            for split, pieces in by_split(written, ".jsonl").items()
        ]


def meta_code(lang: str) -> str:
    """The code that seamless_communication has for a language of ours (ISO 639-3)."""
    return _OTHER_CODES.get(lang, lang)


def _ways(direction: str) -> tuple[str, str]:
    """Which side is the source and which the target: speech is the source where there is one side of it."""
    return ("src", "tgt") if Direction.parse(direction).src.is_audio else ("tgt", "src")
