"""Cuts as Lhotse has them, with clips as files (`lhotse`) or in tar files (`lhotse-shar`).

A cut is the first side of a pair that is speech. Where both are, the other is the custom field `target_recording`. The
supervision has the pair's text and that text's language; where both sides are speech, what was heard in the first, if
the run has transcripts. Everything else that is known of the pair is a custom field of the cut.
"""

import gzip
import io
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import pyarrow as pa

from seamlessalign import storage
from seamlessalign.errors import MissingPackageError
from seamlessalign.pipelines.exports.clip_files import ClipFiles
from seamlessalign.pipelines.exports.clips import Clip
from seamlessalign.pipelines.exports.shards import (
    ExportRow,
    Format,
    RowWriter,
    Shard,
    Target,
    Written,
    join_pieces,
)
from seamlessalign.pipelines.exports.tars import TarWriter, tar_writer
from seamlessalign.rows import SAMPLE_RATE

_RECORDING, _TARGET = "recording", "target_recording"


class LhotseWriter(ClipFiles):
    """A piece of the manifest of a place, whose cuts name their clips by absolute paths."""

    def __init__(self, target: Target, shard: Shard, beside: Mapping[str, pa.Table]) -> None:
        super().__init__(target, shard, beside)
        self._root = storage.local_path(target.root).absolute()
        self._cuts: list[dict[str, Any]] = []

    def _describe(self, row: ExportRow, names: dict[str, str]) -> None:
        paths = {side: str(self._root / self.folder / name) for side, name in names.items()}
        self._cuts.append(_cut(row, {side: ("file", path) for side, path in paths.items()}))

    def _finish(self) -> None:
        super()._finish()
        if self._cuts:
            storage.write_bytes_atomic(self._uri(self.shard.piece(".jsonl.gz"), self._pairs), _packed(self._cuts))


class LhotseFormat(Format):
    """See there."""

    name = "lhotse"
    writer = LhotseWriter
    local_only = True

    def check(self, target: Target, directions: Mapping[str, frozenset[str]]) -> None:
        """See there."""
        super().check(target, directions)
        _need_lhotse()

    def finish(self, target: Target, written: Sequence[Written]) -> list[str]:
        """Write the manifest of every direction and split, `<place>/cuts.jsonl.gz`."""
        places: dict[str, list[str]] = {}
        for shard in written:
            places.setdefault(shard.shard.place, []).extend(name for name in shard.files if name.endswith(".jsonl.gz"))
        # gzip files one behind the other are one (RFC 1952, section 2.2)
        return [join_pieces(target, f"{place}/cuts.jsonl.gz", pieces) for place, pieces in places.items() if pieces]


class SharWriter(RowWriter):
    """`<place>/cuts.00003-000.jsonl.gz`, `recording.00003-000.tar` and, of speech with speech, `target_recording.…`.

    There are -001 and so on where tar files would grow beyond the target's `max_bytes`.
    """

    def __init__(self, target: Target, shard: Shard, beside: Mapping[str, pa.Table]) -> None:
        super().__init__(target, shard, beside)
        self._open = self._stack.enter_context(ExitStack())  # the tar files that are being written
        self._tars: dict[str, TarWriter] = {}  # by field
        self._cuts: list[dict[str, Any]] = []
        self._parts = 0

    def _write(self, row: ExportRow) -> None:
        fields = dict(zip((_RECORDING, _TARGET), row.audio.items(), strict=False))
        files = {
            field: (clip.data, json.dumps(_recording(row, side, clip, "shar", "").to_dict()).encode())
            for field, (side, clip) in fields.items()
        }
        if self._cuts and any(
            self._tars[field].size_with(*pair) > self.target.max_bytes for field, pair in files.items()
        ):
            self._finish()
        for field, (data, told) in files.items():
            if field not in self._tars:
                self._tars[field] = self._open.enter_context(tar_writer(self._uri(self._name(field, "tar"))))
            self._tars[field].add(f"{row.key}.{fields[field][1].suffix}", data)
            self._tars[field].add(f"{row.key}.json", told)
        self._cuts.append(_cut(row, dict.fromkeys(row.audio, ("shar", ""))))

    def _name(self, field: str, suffix: str) -> str:
        return f"{self.shard.place}/{field}.{self.shard.number:05}-{self._parts:03}.{suffix}"

    def _finish(self) -> None:
        if not self._cuts:
            return
        self._open.close()
        name = self._name("cuts", "jsonl.gz")
        storage.write_bytes_atomic(self._uri(name), _packed(self._cuts))  # behind what it speaks of
        for field in ("cuts", *self._tars):
            self._files[self._name(field, "jsonl.gz" if field == "cuts" else "tar")] = len(self._cuts)
        self._tars, self._cuts, self._parts = {}, [], self._parts + 1


class SharFormat(Format):
    """See there."""

    name = "lhotse-shar"
    writer = SharWriter

    def check(self, target: Target, directions: Mapping[str, frozenset[str]]) -> None:
        """See there."""
        _need_lhotse()


def _need_lhotse() -> None:
    try:
        import lhotse  # noqa: F401
    except ImportError as error:
        raise MissingPackageError("lhotse", "export", "an export for Lhotse") from error


def _cut(row: ExportRow, sources: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """The cut of a pair as Lhotse writes it down; sources: where the audio of each side is, its kind and its path."""
    from lhotse import MonoCut, SupervisionSegment

    side, clip = next(iter(row.audio.items()))
    other = "tgt" if side == "src" else "src"
    recording = _recording(row, side, clip, *sources[side])
    values = row.values
    custom = {
        name: value for name, value in {**values, **row.beside, "recording_side": side}.items() if value is not None
    }
    if other in row.audio:
        text, lang = row.beside.get(f"{side}_transcript"), values[f"{side}_lang"]
        custom[_TARGET] = _recording(row, other, row.audio[other], *sources[other])
        custom[f"{_TARGET}_unaligned"] = True  # it is loaded whole, and not as long as the cut is
    else:
        text, lang = values[f"{other}_text"], values[f"{other}_lang"]
    supervision = SupervisionSegment(
        id=row.key, recording_id=recording.id, start=0.0, duration=recording.duration, text=text, language=lang
    )
    cut = MonoCut(
        id=row.key, start=0.0, duration=recording.duration, channel=0, supervisions=[supervision],
        recording=recording, custom=custom,
    )  # fmt: skip
    return dict(cut.to_dict())


def _recording(row: ExportRow, side: str, clip: Clip, kind: str, path: str) -> Any:
    from lhotse import AudioSource, Recording

    return Recording(
        id=row.values[f"{side}_id"],
        sources=[AudioSource(type=kind, channels=[0], source=path)],
        sampling_rate=SAMPLE_RATE,
        num_samples=clip.num_samples,
        duration=clip.num_samples / SAMPLE_RATE,
        channel_ids=[0],
    )


def _packed(cuts: Sequence[dict[str, Any]]) -> bytes:
    """Cuts as gzipped JSON lines, the same bytes for the same cuts."""
    out = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=0, compresslevel=6) as packed:
        for cut in cuts:
            packed.write(f"{json.dumps(cut, ensure_ascii=False)}\n".encode())
    return out.getvalue()
