"""Pieces of speech: every second is used once or counted, wherever it lies."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.audio import Decoding, cut, decode
from seamlessalign.errors import InputError, UnreadableError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.training.w2v_bert.config import W2vBertData
from seamlessalign.training.w2v_bert.sources import Piece, _covered, _sought, load_piece, read_pieces, split_pieces
from tests.lid.spoken_world import sing


def _data(*sources: dict[str, Any]) -> W2vBertData:
    return W2vBertData.model_validate({"train": list(sources), "min_seconds": 0.5, "max_seconds": 2})


def _read(*sources: dict[str, Any]) -> tuple[list[Piece], Counter[str]]:
    data, aside = _data(*sources), Counter[str]()
    return read_pieces(data.train, data, aside), aside


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five files: of 5 s, 1 s, 0.3 s, no sound, and the second once more."""
    place = tmp_path / "speech"
    place.mkdir()
    for name, seconds in (("long", 5.0), ("short", 1.0), ("shorter", 0.3)):
        soundfile.write(place / f"{name}.flac", sing("eng", seconds, 1), SAMPLE_RATE)
    (place / "broken.flac").write_bytes(b"nothing")
    (place / "again.flac").write_bytes((place / "short.flac").read_bytes())
    names = ["long", "short", "shorter", "broken", "again"]
    (place / "list.jsonl").write_text("".join(json.dumps({"path": f"{name}.flac"}) + "\n" for name in names))
    return place


class TestFolder:
    def test_long_sound_is_cut_and_all_else_counted(self, folder: Path) -> None:
        pieces, aside = _read({"kind": "folder", "path": str(folder)})
        assert aside == {"too_short": 1, "not_audio": 1, "duplicate": 1}
        assert [piece.seconds for piece in pieces] == pytest.approx([5 / 3, 5 / 3, 5 / 3, 1], abs=1e-4)
        assert len({piece.key for piece in pieces}) == 4 and len({piece.recording for piece in pieces}) == 2
        whole = soundfile.read(folder / "long.flac", dtype="float32")[0]
        np.testing.assert_array_equal(np.concatenate([load_piece(piece) for piece in pieces[:3]]), whole)
        assert pieces[1].place.endswith("list.jsonl row 0, piece 2 of 3")

    def test_what_another_source_has_already_is_a_duplicate(self, folder: Path) -> None:
        source = {"kind": "folder", "path": str(folder)}
        data, aside, known = _data(source), Counter[str](), set[str]()
        assert len(read_pieces(data.train, data, aside, known)) == 4
        with pytest.raises(InputError, match=r"nothing to learn from: 5 duplicate"):
            read_pieces(data.train, data, aside, known)

    def test_a_header_that_promised_more(self, folder: Path) -> None:
        (piece, *_), _ = _read({"kind": "folder", "path": str(folder)})
        soundfile.write(folder / "long.flac", sing("eng", 1.0, 1), SAMPLE_RATE)
        with pytest.raises(UnreadableError, match="truncated"):
            load_piece(piece)

    @pytest.mark.parametrize(("rate", "format"), [(16_000, "WAV"), (16_000, "FLAC"), (8_000, "FLAC"), (16_000, "OGG")])
    def test_pieces_are_cut_from_what_is_decoded(self, tmp_path: Path, rate: int, format: str) -> None:
        """Of files that can be entered in the middle, and of others; of two channels, of which the mean is heard."""
        sound = sing("fra", 5 * rate / SAMPLE_RATE, 2)
        file = tmp_path / f"long.{format.lower()}"
        soundfile.write(file, np.stack([sound, 0.5 * sound[::-1]], 1), rate, format=format)
        (tmp_path / "list.jsonl").write_text(json.dumps({"path": file.name}) + "\n")
        pieces, _ = _read({"kind": "folder", "path": str(tmp_path)})
        assert len(pieces) == 3
        heard = np.concatenate([load_piece(piece) for piece in pieces])
        np.testing.assert_array_equal(heard, decode(file).samples[: len(heard)])
        entered = _sought(file, pieces[1], Decoding(channel=1))
        assert (entered is None) == (rate != SAMPLE_RATE or format == "OGG")
        if entered is not None:
            (wanted,) = cut(file, [(pieces[1].start, pieces[2].start)], Decoding(channel=1))
            np.testing.assert_array_equal(entered, wanted)

    def test_max_items(self, folder: Path) -> None:
        pieces, _ = _read({"kind": "folder", "path": str(folder), "max_items": 1})
        assert len(pieces) == 3


def test_rows_of_parquet_need_no_language(tmp_path: Path, folder: Path) -> None:
    """As in a run's corpus: structs of bytes, in a column of another name."""
    sounds = [{"bytes": (folder / f"{name}.flac").read_bytes(), "path": None} for name in ("long", "short")]
    pq.write_table(pa.table({"src_audio": sounds}), tmp_path / "part.parquet")
    pieces, aside = _read({"kind": "parquet", "path": str(tmp_path / "part.parquet"), "audio": "src_audio"})
    assert len(pieces) == 4 and not aside
    whole = soundfile.read(folder / "long.flac", dtype="float32")[0]
    np.testing.assert_array_equal(np.concatenate([load_piece(piece) for piece in pieces[:3]]), whole)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12)), max_size=8))
def test_what_spans_cover(lengths: list[tuple[int, int]]) -> None:
    spans = [(start, start + length) for start, length in lengths]
    covered = {i for start, end in spans for i in range(start, end)}
    found = list(_covered(spans))
    assert sorted(i for start, end in found for i in range(start, end)) == sorted(covered)
    assert all(end < start for (_, end), (start, _) in pairwise(found))


def test_a_runs_segments_are_heard_once(tmp_path: Path, folder: Path) -> None:
    """Segments overlap: 1.0 to 4.0 s are covered by three; 4.5 to 4.7 s is too short."""
    seconds = [(1.0, 2.0), (1.0, 3.5), (2.5, 4.0), (4.5, 4.7)]
    rows: dict[str, Any] = {
        "recording_id": ["0123456789abcdef.1"] * 4,
        "uri": [str(folder / "long.flac")] * 4,
        "start": [int(start * SAMPLE_RATE) for start, _ in seconds],
        "end": [int(end * SAMPLE_RATE) for _, end in seconds],
    }
    place = tmp_path / "run" / "segments" / "lang=eng"
    place.mkdir(parents=True)
    pq.write_table(pa.table(rows), place / "part-00000.parquet")
    pieces, aside = _read({"kind": "run", "path": str(tmp_path / "run")})
    assert [piece.seconds for piece in pieces] == [1.5, 1.5] and aside == {"too_short": 1}
    whole = soundfile.read(folder / "long.flac", dtype="float32")[0]
    heard = np.concatenate([load_piece(piece) for piece in pieces])
    np.testing.assert_array_equal(heard, whole[SAMPLE_RATE : 4 * SAMPLE_RATE])
    int(pieces[0].key, 16)  # keys are numbers, which seed what is drawn
    pq.write_table(pa.table({"uri": ["x"]}), place / "part-00000.parquet")
    with pytest.raises(InputError, match="lacks the columns recording_id, start, end: these are no segments"):
        _read({"kind": "run", "path": str(tmp_path / "run")})
    with pytest.raises(InputError, match="there are no Parquet files"):
        _read({"kind": "run", "path": str(tmp_path / "nowhere")})


def test_texts_are_spoken(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("a line that is spoken\n...\nanother line, by another voice\n")
    pieces, aside = _read({"kind": "espeak", "path": str(tmp_path / "lines.txt"), "voices": ["en", "en+f2"]})
    assert [piece.sound and piece.sound.voice for piece in pieces] == ["en", "en"] and aside == {"empty_text": 1}
    assert len(load_piece(pieces[0])) > SAMPLE_RATE // 2


class TestSplit:
    def _pieces(self, count: int) -> list[Piece]:
        keys = [f"{i * 37 % 256:02x}0000000000" for i in range(count)]
        return [Piece(f"{key}{part}", key, "", 1.0, None) for key in keys for part in range(2)]

    @pytest.mark.parametrize("share", [0.01, 0.3, 0.99])
    def test_pieces_of_a_recording_are_together_and_more_data_moves_nothing(self, share: float) -> None:
        pieces = self._pieces(60)
        learnt, held = split_pieces(pieces, share)
        assert sorted(p.key for p in (*learnt, *held)) == sorted(p.key for p in pieces) and learnt and held
        assert not {p.recording for p in learnt} & {p.recording for p in held}
        if 0.1 < share < 0.9:
            assert 0.1 < len(held) / len(pieces) < 0.5
            fewer = split_pieces(pieces[:50], share)[1]
            assert {p.key for p in fewer} == {p.key for p in held} & {p.key for p in pieces[:50]}

    def test_one_recording_cannot_be_split(self) -> None:
        with pytest.raises(InputError, match="only one recording"):
            split_pieces(self._pieces(1), 0.5)
