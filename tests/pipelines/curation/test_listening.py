"""What is heard of a pair are the samples of its span in its recording, or of the corpus, or a reason in words."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.audio import Decoding, cut, encode
from seamlessalign.pipelines.curation.listening import Heard, Listening, NotHeard, _jumped_to, peaks
from seamlessalign.pipelines.run_tables import RunTables
from tests.pipelines.curation.made_pairs import add_to_corpus, make_run

pytest.importorskip("duckdb", reason="needs duckdb of the extra 'curate'")


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    return make_run(tmp_path / "run", 20)["eng-frA"]


def _heard(tmp_path: Path, row: dict[str, Any], context: float = 2.0) -> Heard | NotHeard | None:
    with RunTables(str(tmp_path / "run"), threads=1) as tables:
        return Listening(tables).heard(row, "tgt", context)


class TestSpan:
    def test_it_lies_in_its_context(self, tmp_path: Path, rows: list[dict[str, Any]]) -> None:
        with RunTables(str(tmp_path / "run"), threads=1) as tables:
            listening = Listening(tables)
            for row in rows[:8]:
                whole, _ = soundfile.read(row["tgt_uri"], dtype="float32")
                for context in (0.0, 2.0, 60.0):
                    heard = listening.heard(row, "tgt", context)
                    assert isinstance(heard, Heard) and (heard.origin, heard.note) == ("recording", "")
                    assert np.array_equal(heard.span, whole[row["tgt_start"] : row["tgt_end"]])
                    first = max(row["tgt_start"] - int(context * 16_000), 0)
                    assert np.array_equal(heard.samples, whole[first : row["tgt_end"] + int(context * 16_000)])
                    assert listening.heard(row, "tgt", context) is heard
                assert listening.heard(row, "src") is None  # text

    def test_it_can_be_played(self, tmp_path: Path, rows: list[dict[str, Any]]) -> None:
        heard = _heard(tmp_path, rows[0])
        assert isinstance(heard, Heard)
        for with_context, wanted in ((False, heard.span), (True, heard.samples)):
            path = tmp_path / "played.flac"
            path.write_bytes(heard.flac(with_context))
            samples, rate = soundfile.read(path, dtype="float32")
            assert rate == 16_000 and np.array_equal(samples, wanted)

    @pytest.mark.parametrize(
        ("damage", "told"),
        [
            ("changed", "the recording is another one than was mined"),
            ("gone", "the recording cannot be read: No such file"),
            ("no audio", "the recording is another one"),
            ("not named", "the run's recordings do not name it"),
            ("beyond", "its span does not lie in the recording"),
        ],
    )
    def test_what_cannot_be_had_is_told_and_the_corpus_heard(
        self, tmp_path: Path, rows: list[dict[str, Any]], damage: str, told: str
    ) -> None:
        row = dict(rows[0])
        path = Path(row["tgt_uri"])
        samples, _ = soundfile.read(path, dtype="float32")
        span = samples[row["tgt_start"] : row["tgt_end"]]
        if damage == "changed":
            soundfile.write(path, samples[::-1], 16_000)
        elif damage == "gone":
            path.unlink()
        elif damage == "no audio":
            path.write_text("no audio")
        elif damage == "not named":  # a file that is there, and no business of the run
            other = tmp_path / "other.wav"
            other.write_bytes(path.read_bytes())
            row["tgt_uri"] = str(other)
        else:
            row["tgt_end"] = 31 * 16_000
        heard = _heard(tmp_path, row)
        assert isinstance(heard, NotHeard)
        assert re.match(told, heard.reason), heard.reason
        assert damage != "gone" or f"No such file or directory: {path}" in heard.reason
        assert heard.reason.endswith("the corpus does not have this pair")
        add_to_corpus(tmp_path / "run", rows[0], encode(span, "flac"))
        heard = _heard(tmp_path, row)
        assert isinstance(heard, Heard) and heard.origin == "corpus"
        assert heard.note.endswith("this is what was cut for the corpus")
        assert np.array_equal(heard.samples, span) and (heard.first, heard.last) == (0, len(span))

    def test_damaged_audio_of_the_corpus_is_told(self, tmp_path: Path, rows: list[dict[str, Any]]) -> None:
        Path(rows[0]["tgt_uri"]).unlink()
        add_to_corpus(tmp_path / "run", rows[0], b"fLaC nothing")
        heard = _heard(tmp_path, rows[0])
        assert isinstance(heard, NotHeard) and "its audio in the corpus is damaged" in heard.reason

    def test_a_recording_that_changes_while_one_listens_is_seen(
        self, tmp_path: Path, rows: list[dict[str, Any]]
    ) -> None:
        same = [row for row in rows if row["tgt_uri"] == rows[0]["tgt_uri"]]
        with RunTables(str(tmp_path / "run"), threads=1) as tables:
            listening = Listening(tables)
            assert isinstance(listening.heard(same[0], "tgt"), Heard)
            soundfile.write(same[0]["tgt_uri"], np.zeros(31 * 16_000), 16_000)
            assert isinstance(listening.heard(same[1], "tgt"), NotHeard)

    def test_without_a_configuration_recordings_stay_closed(self, tmp_path: Path, rows: list[dict[str, Any]]) -> None:
        (tmp_path / "run/run.yaml").unlink()
        heard = _heard(tmp_path, rows[0])
        assert isinstance(heard, NotHeard) and "no run.yaml" in heard.reason


@pytest.mark.slow
class TestFarInside:
    """Of a long recording, what is before is not decoded."""

    @pytest.mark.parametrize(
        ("kind", "subtype", "rate", "channels"),
        [
            ("WAV", "PCM_16", 44_100, 2), ("FLAC", "PCM_16", 16_000, 1), ("MP3", "MPEG_LAYER_III", 44_100, 1),
            ("OGG", "VORBIS", 48_000, 1), pytest.param("OGG", "OPUS", 48_000, 2, marks=pytest.mark.thorough),
            ("WAV", "PCM_16", 11_025, 1),
        ],
    )  # fmt: skip
    def test_it_is_what_cut_gives(self, tmp_path: Path, kind: str, subtype: str, rate: int, channels: int) -> None:
        path, second = tmp_path / "recording", np.arange(rate) / rate
        noise = np.random.default_rng(1)
        with soundfile.SoundFile(path, "w", rate, channels, format=kind, subtype=subtype) as file:
            for number in range(66):
                tone = 0.3 * np.sin(2 * np.pi * (150 + 7 * number) * second) + 0.02 * noise.standard_normal(rate)
                file.write(np.stack([tone, -0.4 * tone], 1)[:, :channels])
        for first, last, channel in ((961_234, 1_000_001, None), (1_030_000, 1_055_900, channels - 1)):
            decoding = Decoding(channel)
            found = _jumped_to(path, first, last, decoding)
            assert found is not None and np.abs(found - cut(path, [(first, last)], decoding)[0]).max() < 1e-6

    def test_what_cannot_be_jumped_into_is_decoded(self, tmp_path: Path) -> None:
        path = tmp_path / "no sound"
        path.write_bytes(b"nothing" * 99)
        assert _jumped_to(path, 961_000, 962_000, Decoding()) is None
        soundfile.write(path, np.zeros(62 * 16_000), 16_000, format="WAV")
        assert _jumped_to(path, 961_000, 62 * 16_000 + 1, Decoding()) is None
        assert _jumped_to(path, 961_000, 962_000, Decoding(channel=1)) is None


class TestPeaks:
    @given(st.integers(1, 400), st.integers(1, 50), st.integers(0, 9))
    @settings(max_examples=60, deadline=None)
    def test_they_are_the_extremes_of_each_part(self, number: int, columns: int, seed: int) -> None:
        samples = np.random.default_rng(seed).uniform(-1, 1, number).astype(np.float32)
        found = peaks(samples, columns)
        assert found.shape == (columns, 2) and (found[:, 0] <= found[:, 1]).all()
        for column in range(columns):
            first, last = column * number // columns, (column + 1) * number // columns
            part = samples[first : max(last, first + 1)]
            assert found[column].tolist() == [part.min(), part.max()]
        assert found.min() == samples.min() and found.max() == samples.max()

    def test_of_nothing(self) -> None:
        assert peaks(np.zeros(0, np.float32), 3).tolist() == [[0, 0]] * 3
