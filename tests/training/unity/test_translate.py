"""The command `translate`: one text, one sound, and tables of every kind, which nothing stops for good."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch

from seamlessalign import cli, storage
from seamlessalign.audio import decode
from seamlessalign.errors import ConfigError, SeamlessAlignError, StorageError
from seamlessalign.espeak import speak_afresh
from seamlessalign.training.unity.generation import Source, Translator
from seamlessalign.training.unity.model import save_unity
from seamlessalign.training.unity.search import SearchOptions
from seamlessalign.training.unity.source_tables import Columns, SourceTable
from seamlessalign.training.unity.translate import resolve_language
from seamlessalign.training.vocoder.generator import make_generator
from seamlessalign.training.vocoder.model import load_vocoder, save_vocoder
from seamlessalign.training.vocoder.sizes import VocoderSizes
from tests.training.tiny_unity import tiny_text, tiny_units, tiny_unity
from tests.training.unity.taught import ENGLISH, FRENCH, taught, units_of

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    save_unity(folder, *taught())
    return str(folder)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Sentences read out by espeak-ng, as people would have them: FLAC, WAV and Ogg at its own rate."""
    folder = tmp_path_factory.mktemp("sounds")
    made = []
    for sentence, kind in zip(ENGLISH, ("flac", "wav", "ogg"), strict=True):
        samples, rate = speak_afresh(sentence, "en")
        made.append(folder / f"{sentence[:9].replace(' ', '-')}.{kind}")
        soundfile.write(made[-1], samples, rate)
    return made


def _vocoder(num_units: int, folder: Path, *languages: str) -> None:
    """Write one of random weights."""
    torch.manual_seed(1)
    sizes = VocoderSizes.model_validate(
        {"size": "tiny", "units": num_units, "unit_embedding": 8, "channels": 32, "resblock_kernels": [3]}
        | {"resblock_dilations": [[1]]}
    )
    save_vocoder(make_generator(sizes, len(languages), 1), languages, [""], folder)


def _run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = cli.main(["translate", *map(str, arguments)])
    return status, *capsys.readouterr()


def _rows(folder: Path) -> list[dict[str, Any]]:
    if (folder / "translations.jsonl").is_file():
        return [json.loads(line) for line in (folder / "translations.jsonl").read_text().splitlines()]
    return list(pq.read_table(folder / "translations.parquet").to_pylist())


class TestOne:
    def test_a_text(self, model: str, capsys: pytest.CaptureFixture[str]) -> None:
        # codes of other tables are understood
        assert _run(capsys, model, ENGLISH[0], "--text", "--from", "en", "--to", "fra_Latn") == (
            0,
            f"{FRENCH[0]}\n",
            "",
        )

    def test_a_text_becomes_sound(self, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = tmp_path / "new" / "out.wav"
        status, told, _ = _run(capsys, model, ENGLISH[1], "--text", "--from", "eng", "--to", "fra", "--output", out)
        assert (status, told) == (0, f"{FRENCH[1]}\n")
        samples, rate = soundfile.read(out, dtype="float32")
        unity, text, units = taught()
        (expected,) = Translator(unity, text, units).translate_text([ENGLISH[1]], "eng", "fra", speak=True)
        assert rate == 16_000 and expected.waveform is not None
        np.testing.assert_allclose(samples, expected.waveform, atol=2**-15)

    def test_a_text_in_half_precision(self, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        sounds = []
        for precision in ("no", "bf16"):
            options = ("--text", "--from", "eng", "--to", "fra", "--precision", precision)
            out = tmp_path / f"{precision}.wav"
            assert _run(capsys, model, ENGLISH[0], *options, "--output", out) == (0, f"{FRENCH[0]}\n", "")
            sounds.append(out.read_bytes())
        assert sounds[0] == sounds[1]  # the same units, and a vocoder in float32

    def test_another_vocoder_speaks(self, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        _, _, units = taught()
        _vocoder(units.num_units, tmp_path / "vocoder", "deu", "fra")
        options = ("--text", "--from", "eng", "--vocoder", tmp_path / "vocoder", "--to")
        assert _run(capsys, model, ENGLISH[1], *options, "fra", "--output", tmp_path / "out.wav")[0] == 0
        spoken = load_vocoder(tmp_path / "vocoder").speak(units_of(FRENCH[1], units), "fra")
        samples, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
        np.testing.assert_allclose(samples, spoken, atol=2**-15)
        status, _, err = _run(capsys, model, ENGLISH[1], *options, "eng", "--output", tmp_path / "o.wav")
        assert status == 2 and "the model speaks fra, not eng" in err
        _vocoder(3, tmp_path / "vocoder", "fra")
        status, _, err = _run(capsys, model, ENGLISH[1], *options, "fra", "--output", tmp_path / "o.wav")
        assert status == 2 and "is a vocoder of 3 units, but the model writes 12" in err

    def test_a_sound(self, model: str, sounds: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
        for sound in sounds:
            status, told, _ = _run(capsys, model, sound, "--to", "fra", "--beam", 1)
            assert status == 0 and told.strip()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["no.wav", "--to", "fra"], "no.wav: there is no such file; with --text"),
            (["a cat", "--text", "--to", "fra"], "give --from"),
            (["a cat", "--text", "--from", "eng"], "give --to"),
            (
                ["a cat", "--text", "--from", "eng", "--to", "fre"],
                "'fre': is none of the model's 2; the nearest is 'fra'",
            ),
            (["a cat", "--text", "--from", "eng", "--to", "deu"], "language 'deu' (German): is none of the model's"),
            (["  ", "--text", "--from", "eng", "--to", "fra"], "empty_text"),
            (["a cat", "--text", "--from", "eng", "--to", "fra", "--beam", "0"], "beam is 0"),
            (["a cat", "--text", "--from", "eng", "--to", "fra", "--batch", "0"], "--batch is 0"),
            (["a cat", "--text", "--from", "eng", "--to", "fra", "--output", "o.wav", "--speaker", "9"], "speaker 9"),
            (["rows.jsonl", "--to", "fra"], "rows.jsonl: is a table; give --output"),
            (["rows.jsonl", "--to", "fra", "--subtitles", "a.srt"], "--subtitles is for sound files"),
            (["a cat", "--text", "--from", "eng", "--to", "fra", "--subtitles", "a.srt"], "a text has no times"),
            (["a cat", "--text", "--from", "eng", "--to", "fra", "--output", "a.mp3"], "name a .wav file"),
            (["a.wav", "--to", "fra", "--subtitles", "a.txt"], "name a file in .srt or .vtt"),
            (["a.wav", "--to", "fra", "--stretch-seconds", "0.5"], "stretches of 0.5 s are too short"),
            (["a.wav", "--to", "fra", "--max-seconds", "nan"], "--max-seconds is nan"),
            (["rows.jsonl", "--to", "fra", "--output", "out"], "rows.jsonl"),
        ],
    )
    def test_what_is_wrong_is_told_in_one_line(
        self,
        model: str,
        arguments: list[str],
        message: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        status, out, err = _run(capsys, model, *arguments)
        assert (status, out, err.count("\n")) == (2, "", 1) and message in err
        assert list(tmp_path.iterdir()) == []

    def test_a_model_that_is_none(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        status, _, err = _run(capsys, tmp_path, "a cat", "--text", "--from", "eng", "--to", "fra")
        assert status == 2 and str(tmp_path) in err and err.count("\n") == 1

    def test_speech_that_is_too_short_or_none(
        self, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        sound = tmp_path / "short.flac"
        for samples, told in ((np.zeros(16_000), "no speech is found in it"), (np.ones(500) / 9, "too_short")):
            soundfile.write(sound, samples, 16_000)
            status, out, err = _run(capsys, model, sound, "--to", "fra")
            assert (status, out, err.count("\n")) == (2, "", 1) and told in err
        sound.write_bytes(b"fLaC no sound")
        status, _, err = _run(capsys, model, sound, "--to", "fra", "--subtitles", tmp_path / "out.srt")
        assert status == 2 and "truncated" in err and not (tmp_path / "out.srt").exists()

    def test_a_row_of_a_table_that_is_too_long_is_set_aside(
        self, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        soundfile.write(tmp_path / "a.flac", np.random.default_rng(0).uniform(-0.1, 0.1, 2 * 16_000), 16_000)
        (tmp_path / "in.tsv").write_text("path\na.flac\n")
        options = ("--to", "fra", "--text-only", "--max-seconds", 1.9, "--output", tmp_path / "out")
        status, _, err = _run(capsys, model, tmp_path / "in.tsv", *options)
        assert status == 3 and "is 2.0 s, more than 1.9; cut it, or raise --max-seconds" in err


class TestTables:
    def test_parquet_of_sounds(
        self, model: str, sounds: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        cells = [{"bytes": sounds[0].read_bytes(), "path": None}, {"bytes": None, "path": str(sounds[1])}]
        cells += [{"bytes": b"RIFF no sound", "path": None}, {"bytes": sounds[2].read_bytes(), "path": None}]
        cells += [{"bytes": None, "path": "gone.wav"}, {"bytes": sounds[0].read_bytes(), "path": None}]
        table = pa.table(
            {
                "id": ["a", "b", "c", "d", "e", "f"],
                "audio": cells,
                "tgt_lang": ["fra", "eng", "fra", "fr", "fra", "xxx"],
                "lang": ["eng"] * 6,
            }
        )
        pq.write_table(table, tmp_path / "in.parquet", row_group_size=2)
        out = tmp_path / "out"
        status, told, err = _run(capsys, model, tmp_path / "in.parquet", "--output", out, "--chunk", 3)
        assert status == 3 and "6 rows" in told
        rows = _rows(out)
        assert [row["id"] for row in rows] == ["a", "b", "c", "d", "e", "f"]
        assert [row["reason"] for row in rows] == [None, None, "not_audio", None, "missing", "unknown_language"]
        assert [row["tgt_lang"] for row in rows] == ["fra", "eng", "fra", "fra", "fra", "xxx"]
        for reason in ("not_audio", "missing", "unknown_language"):
            assert f"1 set aside: {reason} (first: {tmp_path}/in.parquet row" in err or "gone.wav" in err
        for row in rows:
            assert bool(row["hypothesis"]) == (row["reason"] is None) == (row["score"] is not None)
            assert row["src_lang"] == "eng"
            if row["reason"] is None:
                samples, rate = soundfile.read(out / row["speech"])
                assert rate == 16_000 and len(samples) >= 320 * len(row["units"]) > 0
        assert sorted(path.name for path in out.iterdir()) == ["speech", "translation.json", "translations.parquet"]
        assert len(list((out / "speech").iterdir())) == 3

    def test_lines_and_tabs_and_parquet_give_the_same(
        self, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        texts = [*ENGLISH, "NA", "null", "the dog", ""]
        (tmp_path / "in.jsonl").write_text(
            "".join(json.dumps({"sentence": text, "n": i}) + "\n" for i, text in enumerate(texts))
        )
        (tmp_path / "in.tsv").write_text("n\tsentence\n" + "".join(f"{i}\t{text}\n" for i, text in enumerate(texts)))
        folder = tmp_path / "parts"
        folder.mkdir()
        for part, chosen in (("a", slice(0, 4)), ("b", slice(4, 7))):
            columns = {"sentence": texts[chosen], "n": list(range(7))[chosen]}
            pq.write_table(pa.table(columns), folder / f"{part}.parquet")
        found: list[list[dict[str, Any]]] = []
        options = ("--text-column", "sentence", "--id-column", "n", "--from", "eng", "--to", "fra", "--text-only")
        for place in ("in.jsonl", "in.tsv", "parts", "parts/*.parquet"):
            out = tmp_path / f"out-{len(found)}"
            status, _, err = _run(
                capsys, model, tmp_path / place, *options, "--output", out, "--format", "jsonl", "--chunk", 2
            )
            assert status == 3 and "1 set aside: empty_text" in err
            rows = _rows(out)
            assert [row["id"] for row in rows] == [str(i) for i in range(7)]
            assert [row["hypothesis"] for row in rows[:3]] == list(FRENCH)
            assert rows[3]["hypothesis"] and rows[4]["hypothesis"]  # "NA" and "null" are text
            assert not (out / "speech").exists()
            found.append([{**row, "detail": None} for row in rows])
        assert found[0] == found[1] == found[2] == found[3]

    def test_a_table_of_sound_files(
        self, model: str, sounds: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        manifest = sounds[0].parent / "manifest.tsv"
        manifest.write_text("path\tlang\n" + "".join(f"{sound.name}\teng\n" for sound in sounds))
        status, _, _ = _run(capsys, model, manifest, "--to", "fra", "--output", tmp_path / "out", "--text-only")
        rows = _rows(tmp_path / "out")
        assert status == 0 and [row["id"] for row in rows] == ["0", "1", "2"]
        unity, text, units = taught()
        alone = Translator(unity, text, units).translate_speech([decode(sound).samples for sound in sounds], "fra")
        assert [row["hypothesis"] for row in rows] == [one.text for one in alone]

    def test_texts_that_cannot_be_translated_are_set_aside(
        self, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        rows = [{"text": "a\ud800b", "id": "\udfff"}, {"text": "the cat " * 400, "id": None}, {"id": "none"}]
        (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        options = ("--from", "eng", "--to", "fra", "--text-only", "--output", tmp_path / "out")
        status, _, err = _run(capsys, model, tmp_path / "in.jsonl", *options)
        assert status == 3 and "more than 1024; cut it" in err
        assert [(row["id"], row["reason"]) for row in _rows(tmp_path / "out")] == [
            ("?", "invalid_utf8"),
            ("1", "too_long"),
            ("none", "empty_text"),
        ]

    @pytest.mark.slow
    @pytest.mark.speech
    def test_peoples_speech(self, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        from seamlessalign.pipelines.demo_sources import fetch_prompts

        try:
            prompts = fetch_prompts(Path(os.environ.get("SEAMLESSALIGN_DEMO_CACHE", tmp_path))).prompts
        except SeamlessAlignError as error:
            pytest.skip(f"the prompts cannot be fetched: {error}")
        chosen = [prompts[lang][key].audio for lang in ("fra", "spa") for key in ("vm-options", "conf-getconfno")]
        (tmp_path / "in.tsv").write_text("path\n" + "".join(f"{audio}\n" for audio in chosen))
        out = tmp_path / "out"
        assert _run(capsys, model, tmp_path / "in.tsv", "--to", "eng", "--output", out)[0] == 0
        unity, text, units = taught()
        alone = Translator(unity, text, units).translate_speech([decode(audio).samples for audio in chosen], "eng")
        assert [row["hypothesis"] for row in _rows(out)] == [one.text for one in alone]
        assert all(len(soundfile.read(out / row["speech"])[0]) > 0 for row in _rows(out))

    def test_a_model_that_ends_with_text_translates_a_table(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        text = tiny_text("eng", "fra")
        save_unity(tmp_path / "model", tiny_unity(text, None), text, None)
        (tmp_path / "rows.jsonl").write_text(json.dumps({"id": "a", "text": ENGLISH[0]}) + "\n")
        options = ("--from", "eng", "--to", "fra", "--text-only", "--output", tmp_path / "out")
        status, told, err = _run(capsys, tmp_path / "model", tmp_path / "rows.jsonl", *options)
        assert status == 0 and "1 rows" in told, err
        (row,) = _rows(tmp_path / "out")
        assert row["hypothesis"] and row["reason"] is None

    @pytest.mark.parametrize(
        ("rows", "options", "message"),
        [
            ([{"a": "x"}], [], "has no column audio, path or text; there are a"),
            ([{"text": "x"}], ["--text-column", "sentence"], "has no column 'sentence'; there are text"),
            ([{"text": "x", "path": "y"}], ["--text-column", "text", "--audio-column", "path"], "not both"),
            ([{"text": "x"}], ["--to", "fra"], "give --from"),
            ([{"text": "x"}], ["--from", "eng"], "give --to"),
            ([{"text": "x"}], ["--from", "eng", "--to", "deu"], "'deu' (German): is none"),
            ([], ["--to", "fra"], "has no rows"),
        ],
    )
    def test_what_is_wrong_with_a_table_is_told_before_anything_is_written(
        self,
        model: str,
        rows: list[dict[str, str]],
        options: list[str],
        message: str,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        status, _, err = _run(capsys, model, tmp_path / "in.jsonl", *options, "--output", tmp_path / "out")
        assert status == 2 and message in err and err.count("\n") == 1
        assert not (tmp_path / "out").exists()

    def test_a_model_without_speech(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        text = tiny_text()
        save_unity(tmp_path / "model", tiny_unity(text, None), text, None)
        (tmp_path / "in.tsv").write_text("text\nthe cat\n")
        command = (
            tmp_path / "model",
            tmp_path / "in.tsv",
            "--from",
            "eng",
            "--to",
            "fra",
            "--output",
            tmp_path / "out",
        )
        status, _, err = _run(capsys, *command)
        assert status == 2 and "makes no speech; ask for text only (--text-only)" in err

    def test_languages_that_the_vocoder_does_not_speak_are_set_aside(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        text, units = tiny_text(), tiny_units("eng")
        save_unity(tmp_path / "model", tiny_unity(text, units, seed=2), text, units)
        (tmp_path / "in.tsv").write_text("text\tsrc_lang\ttgt_lang\nthe cat\teng\tfra\n")
        status, _, err = _run(capsys, tmp_path / "model", tmp_path / "in.tsv", "--output", tmp_path / "out")
        assert status == 3 and "1 set aside: not_spoken" in err and "does not speak fra" in err


def _table_of_texts(folder: Path, rows: int) -> Path:
    words = " ".join(ENGLISH).split()
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(words, int(rng.integers(1, 9)))) for _ in range(rows)]
    (folder / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder / "in.jsonl"


def _written(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestGoingOn:
    def test_the_same_command_again_does_nothing_and_another_is_refused(
        self, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command = (model, _table_of_texts(tmp_path, 3), "--from", "eng", "--to", "fra", "--output", tmp_path / "out")
        assert _run(capsys, *command)[0] == 0
        before = _written(tmp_path / "out")
        assert _run(capsys, *command)[0] == 0
        assert _written(tmp_path / "out") == before
        status, _, err = _run(capsys, *command, "--beam", 2)
        assert status == 2 and "with another job text_search beam: 5, not 2" in err
        (tmp_path / "in.jsonl").write_text('{"text": "a cat"}\n')
        status, _, err = _run(capsys, *command)
        assert status == 2 and "with another input" in err
        assert _written(tmp_path / "out") == before

    def test_after_an_error_it_goes_on_where_it_was(
        self, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        table = _table_of_texts(tmp_path, 7)
        options = ("--from", "eng", "--to", "fra", "--beam", 2, "--chunk", 2)
        assert _run(capsys, model, table, *options, "--output", tmp_path / "whole")[0] == 0
        written: list[str] = []
        room = 2  # of the disk, in parts

        def write(uri: str, *arguments: Any, **keys: Any) -> int:
            if len(written) == room:
                raise StorageError(f"{uri}: cannot be written: No space left on device")
            written.append(uri)
            return write_table(uri, *arguments, **keys)

        write_table = storage.write_table
        with monkeypatch.context() as patch:
            patch.setattr(storage, "write_table", write)
            status, _, err = _run(capsys, model, table, *options, "--output", tmp_path / "out")
        assert status == 2 and "part-00002.parquet: cannot be written" in err and len(written) == 2
        room = 4
        with monkeypatch.context() as patch:
            patch.setattr(storage, "write_table", write)
            assert _run(capsys, model, table, *options, "--output", tmp_path / "out")[0] == 0
        assert [Path(part).name for part in written] == [f"part-{number:05}.parquet" for number in range(4)]
        assert _written(tmp_path / "out") == _written(tmp_path / "whole")

    def test_two_do_not_translate_into_one_folder(
        self, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        table, out = _table_of_texts(tmp_path, 2), tmp_path / "out"
        command = (model, table, "--from", "eng", "--to", "fra", "--text-only", "--output", out)
        told: list[tuple[int, str]] = []

        def write(uri: str, *arguments: Any, **keys: Any) -> int:
            if not told:  # while the first is at work
                told.append((0, ""))
                status, _, err = _run(capsys, *command)
                told.append((status, err))
            return write_table(uri, *arguments, **keys)

        write_table = storage.write_table
        monkeypatch.setattr(storage, "write_table", write)
        assert _run(capsys, *command)[0] == 0
        assert told[1][0] == 2 and "another process is translating into it" in told[1][1]

    def test_a_folder_with_something_else_is_left_alone(
        self, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        table = _table_of_texts(tmp_path, 1)
        status, _, err = _run(capsys, model, table, "--from", "eng", "--to", "fra", "--output", tmp_path)
        assert status == 2 and "holds something, but no translation" in err

    @pytest.mark.slow
    def test_killed_at_any_time_it_goes_on_and_every_byte_is_the_same(self, model: str, tmp_path: Path) -> None:
        table = _table_of_texts(tmp_path, 40)

        def command(out: Path) -> list[str]:
            options = ["--from", "eng", "--to", "fra", "--beam", "2", "--chunk", "4", "--output", str(out)]
            return [sys.executable, "-m", "seamlessalign", "translate", model, str(table), *options]

        def start(out: Path) -> "subprocess.Popen[bytes]":
            return subprocess.Popen(command(out), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        whole, killed = tmp_path / "whole", tmp_path / "killed"
        assert start(whole).wait() == 0
        for wanted in (2, 6):  # parts that are there when it is killed
            process = start(killed)
            while process.poll() is None and len(list(killed.glob("parts/part-*"))) < wanted:
                time.sleep(0.01)
            os.kill(process.pid, signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
            assert not (killed / "translations.parquet").exists()
        kept = {path: path.stat().st_mtime_ns for path in killed.glob("parts/part-*")}
        assert len(kept) >= 6
        assert start(killed).wait() == 0
        assert _written(killed) == _written(whole)


class TestSourceTable:
    def test_chunks_hold_every_row_once_and_none_has_rows_of_two_files(self, tmp_path: Path) -> None:
        for name, count in (("a", 5), ("b", 0), ("c", 7)):
            columns = {"text": [f"{name}{i}" for i in range(count)], "extra": [b"x"] * count}
            schema = pa.schema([("text", pa.string()), ("extra", pa.binary())])
            pq.write_table(pa.table(columns, schema), tmp_path / f"{name}.parquet", row_group_size=2)
        table = SourceTable(str(tmp_path), Columns())
        for rows in (1, 3, 100):
            chunks = table.chunks(rows)
            assert all(chunk.last - chunk.first <= rows for chunk in chunks)
            read = [row for chunk in chunks for row in table.read(chunk)]
            assert [row.text for row in read] == [f"a{i}" for i in range(5)] + [f"c{i}" for i in range(7)]
            assert [row.id for row in read] == [str(i) for i in range(12)]
            assert read[5].place == f"{tmp_path}/c.parquet row 0"

    def test_a_side_of_a_corpus_that_has_no_sound_is_text(self, tmp_path: Path) -> None:
        sound = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        for name, cells in (("text", [None, None]), ("sound", [None, {"bytes": b"x", "path": None}])):
            columns = {"src_audio": pa.array(cells, sound), "src_text": ["a", "b"], "pair_id": ["p", "q"]}
            pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
        texts = SourceTable(str(tmp_path / "text.parquet"), Columns())
        assert [(row.id, row.text, row.sound) for row in texts.read(texts.chunks(9)[0])] == [
            ("p", "a", None),
            ("q", "b", None),
        ]
        sounds = SourceTable(str(tmp_path), Columns())
        rows = [row for chunk in sounds.chunks(9) for row in sounds.read(chunk)]
        assert [row.text for row in rows] == [None] * 4 and all(row.sound is not None for row in rows)


class TestLanguages:
    @pytest.mark.parametrize("code", ["fra", "fr", "fra_Latn", "fr-CA"])
    def test_any_known_code_is_understood(self, code: str) -> None:
        assert resolve_language(code, {"eng", "fra"}) == "fra"

    def test_a_models_own_code_comes_first(self) -> None:
        assert resolve_language("cmn_Hant", {"cmn", "cmn_Hant"}) == "cmn_Hant"

    @pytest.mark.parametrize(("code", "near"), [("spn", "spa"), ("nob", "nno"), ("qqq", "")])
    def test_the_nearest_of_the_model_is_named(self, code: str, near: str) -> None:
        with pytest.raises(ConfigError, match=f"nearest is '{near}"):
            resolve_language(code, {"spa", "nno", "eng"})


def test_rows_for_a_trainers_validation() -> None:
    unity, text, units = taught()
    options = SearchOptions(1, constant=30)
    sources = [Source("fra", sentence, "eng") for sentence in ENGLISH]
    found = Translator(unity, text, units, text_search=options).translate_rows(sources)
    assert [one.text for one in found] == list(FRENCH)
