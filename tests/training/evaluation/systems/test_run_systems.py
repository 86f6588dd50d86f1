"""Systems that are run: a model, a function, Whisper, on clean and noisy speech; what fails, and what was killed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import soundfile

from seamlessalign.cli import main
from seamlessalign.errors import UnreadableError
from seamlessalign.espeak import speak_afresh
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.training.evaluation.config import load_evaluation_config
from seamlessalign.training.evaluation.robustness.robustness_settings import Noise
from seamlessalign.training.evaluation.systems.function_system import Asked, Made
from seamlessalign.training.unity import translate
from seamlessalign.training.unity.model import save_unity
from seamlessalign.training.vocoder.generator import make_generator
from seamlessalign.training.vocoder.model import save_vocoder
from seamlessalign.training.vocoder.sizes import VocoderSizes
from tests.training.unity.taught import ENGLISH, FRENCH, taught

ROOT = Path(__file__).parents[4]
ASKED: list[list[str]] = []
HERTZ = {"a": 400, "b": 700, "c": 1000, "d": 1300, "e": 1600, "f": 1900}


def by_pitch(rows: Sequence[Asked]) -> list[Made]:
    """A system that says which row's tone is the loudest: it hears the right one as long as there is little noise."""
    ASKED.append([row.id for row in rows])
    said: list[Made] = []
    for row in rows:
        assert row.waveform is not None and row.text is None and (row.src_lang, row.tgt_lang) == ("fra", "eng")
        power = np.abs(np.fft.rfft(row.waveform)) ** 2
        hertz = np.fft.rfftfreq(len(row.waveform), 1 / SAMPLE_RATE)
        loud = {name: power[np.abs(hertz - tone) < 20].sum() for name, tone in HERTZ.items()}
        said.append(f"this is the tone of {max(loud, key=lambda name: loud[name])} and no other")
    return said


def fails(rows: Sequence[Asked]) -> list[Made]:
    """A system that fails in every way there is."""
    ASKED.append([row.id for row in rows])
    silence = np.zeros(800, np.float32)
    answers: dict[str, Any] = {
        "a": "fine",
        "b": None,
        "c": 7,
        "d": np.full(800, np.nan, np.float32),
        "e": ("spoken\ud800", silence),
        "f": silence,
    }
    if any(row.text == "raise" for row in rows):
        raise RuntimeError("this\ncannot be done")
    if any(row.text == "refuse" for row in rows):
        raise UnreadableError("refused", "as it should")
    return [answers[row.id] for row in rows]


def one_by_one(rows: Sequence[Asked]) -> Any:
    """A system that gives one output, whatever is asked, and for row c a text where a list is wanted."""
    return "a" if rows[0].id == "c" else [f"for {rows[0].id}"]


def dies_once(rows: Sequence[Asked]) -> list[Made]:
    """As `by_pitch`; while there is a file `deadly` the process is killed at the fifth row that is asked for."""
    deadly = Path(os.environ["DEADLY"])
    if deadly.exists() and any(row.id == "e" for row in rows):
        deadly.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    with (deadly.parent / "asked").open("a") as file:
        file.write("".join(row.id for row in rows))
    return by_pitch(rows)


def hears_nothing(waveforms: Sequence[npt.NDArray[np.float32]], lang: str) -> list[str | None]:
    return ["heard" for _ in waveforms]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    save_unity(folder, *taught())
    return str(folder)


def _lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _config(folder: Path, **others: Any) -> str:
    told = {"output": str(folder / "out"), "rows": {"path": "rows.jsonl"}, **others}
    (folder / "config.yaml").write_text(json.dumps(told))
    return str(folder / "config.yaml")


def _told(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "out/evaluation.json").read_text(), parse_constant=pytest.fail))


def _tones(folder: Path) -> None:
    rows = []
    for name, hertz in HERTZ.items():
        seconds = np.arange(SAMPLE_RATE) / SAMPLE_RATE
        soundfile.write(folder / f"{name}.flac", 0.05 * np.sin(2 * np.pi * hertz * seconds), SAMPLE_RATE)
        said = f"this is the tone of {name} and no other"
        rows.append({"id": name, "src_lang": "fra", "tgt_lang": "eng", "reference": said, "src_audio": f"{name}.flac"})
    _lines(folder / "rows.jsonl", rows)


class TestModel:
    def test_texts_are_translated_and_spoken_once(
        self, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        rows = [
            {"id": str(i), "src_lang": "en", "tgt_lang": "fr", "src_text": source, "reference": wanted}
            for i, (source, wanted) in enumerate(zip(ENGLISH, FRENCH, strict=True))
        ]
        rows.append({"id": "empty", "src_lang": "en", "tgt_lang": "fr", "src_text": " ", "reference": "rien"})
        rows.append({"id": "far", "src_lang": "en", "tgt_lang": "zul", "src_text": "a cat", "reference": "ikati"})
        _lines(tmp_path / "rows.jsonl", rows)
        asr = {"function": f"{__name__}:hears_nothing"}
        config = _config(tmp_path, systems={"ours": {"model": model, "chunk": 2}}, measures={"asr": asr})
        assert main(["evaluate", config]) == 0
        err = capsys.readouterr().err
        assert "ours: 1 of 5 rows are in languages that it has not, and count as empty: eng-zul (1)" in err
        told = _told(tmp_path)
        ours = told["systems"]["ours"]
        assert ours["missing"] == ["empty", "far"]
        assert ours["set_aside"] == {"empty_text": 1, "unknown_language": 1}
        for part, limits in (("text_search", (1.0, 200, 1024)), ("unit_search", (25.0, 50, 2500))):
            search = ours["settings"]["job"][part]
            assert (search["beam"], search["per_source"], search["constant"], search["most"]) == (5, *limits)
        assert len(ours["settings"]["model"]["model.safetensors"]) == 64
        texts = {row["id"]: row["text"] for row in pq.read_table(tmp_path / "out/translations.parquet").to_pylist()}
        assert texts == {**{str(i): text for i, text in enumerate(FRENCH)}, "empty": None, "far": None}
        scores = {(line["direction"], line["measure"]): line for line in told["scores"]}
        assert (scores["eng-fra", "BLEU"]["rows"], scores["eng-fra", "BLEU"]["missing"]) == (4, 1)
        assert scores["eng-fra", "BLEU"]["details"] == {"failed": {"empty_text": 1}}
        assert scores["eng-zul", "BLEU"]["score"] == 0
        assert scores["eng-fra", "ASR-BLEU"]["details"] == {"failed": {"empty_text": 1}}
        folder = tmp_path / "out/translations/ours/clean"
        assert sorted(file.name for file in (folder / "speech").iterdir()) == [f"{i:08}.wav" for i in range(3)]
        before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
        result = (tmp_path / "out/evaluation.json").read_bytes()
        assert main(["evaluate", config]) == 0
        assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before  # nothing was made again
        assert (tmp_path / "out/evaluation.json").read_bytes() == result
        assert main(["evaluate", config, "systems.ours.beam=1"]) == 2
        assert "holds a translation with another job text_search beam: 5, not 1" in capsys.readouterr().err

    def test_what_it_does_not_speak_has_a_text(
        self, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        sizes = VocoderSizes.model_validate(
            {"size": "tiny", "units": taught()[2].num_units, "unit_embedding": 8, "channels": 32}
            | {"resblock_kernels": [3], "resblock_dilations": [[1]]}
        )
        save_vocoder(make_generator(sizes, 1, 1), ["fra"], [""], tmp_path / "vocoder")
        rows = [
            {"id": lang, "src_lang": "eng", "tgt_lang": lang, "src_text": ENGLISH[0], "reference": text}
            for lang, text in (("fra", FRENCH[0]), ("eng", ENGLISH[0]))
        ]
        _lines(tmp_path / "rows.jsonl", rows)
        system = {"model": model, "vocoder": "vocoder"}
        asr = {"function": f"{__name__}:hears_nothing"}
        config = _config(tmp_path, systems={"ours": system}, measures={"asr": asr})
        assert main(["evaluate", config]) == 0
        ours = _told(tmp_path)["systems"]["ours"]
        assert (ours["missing"], ours["set_aside"]) == ([], {"not_spoken": 1})
        kept = {row["id"]: row for row in pq.read_table(tmp_path / "out/translations.parquet").to_pylist()}
        assert kept["fra"]["text"] == FRENCH[0] and kept["fra"]["heard"] == "heard"
        assert kept["eng"]["text"] and kept["eng"]["heard"] is None
        _lines(tmp_path / "rows.jsonl", rows[1:])  # none of it is spoken
        assert main(["evaluate", config, f"output={tmp_path}/other", "measures.text=[bleu]"]) == 0
        told = json.loads((tmp_path / "other/evaluation.json").read_text())
        assert [line["measure"] for line in told["scores"]] == ["BLEU"]

    def test_speech_is_translated_as_by_the_command(self, model: str, tmp_path: Path) -> None:
        samples, rate = speak_afresh(ENGLISH[0], "en")
        soundfile.write(tmp_path / "a.wav", samples, rate)
        row = {"id": "a", "src_lang": "eng", "tgt_lang": "fra", "reference": FRENCH[0], "src_audio": "a.wav"}
        _lines(tmp_path / "rows.jsonl", [{**row, "src_text": ENGLISH[0]}])
        config = _config(tmp_path, systems={"ours": {"model": model, "input": "speech"}})
        assert main(["evaluate", config, "measures.speech=[]"]) == 0
        _lines(tmp_path / "in.jsonl", [{"id": "a", "audio": "a.wav", "tgt_lang": "fra"}])
        assert main(["translate", model, str(tmp_path / "in.jsonl"), "--text-only", "--output", f"{tmp_path}/by"]) == 0
        (made,) = pq.read_table(tmp_path / "by/translations.parquet").to_pylist()
        (ours,) = pq.read_table(tmp_path / "out/translations.parquet").to_pylist()
        assert ours["text"] == made["hypothesis"] != ""
        assert not (tmp_path / "out/translations/ours/clean/speech").exists()


class TestFunction:
    def test_what_fails_is_counted_by_reason(self, tmp_path: Path) -> None:
        texts = {"a": "x", "b": "x", "c": "x", "d": "x", "e": "x", "f": "x", "g": "raise", "h": "refuse", "i": None}
        rows = [
            {"id": key, "src_lang": "fra", "tgt_lang": "eng", "reference": "fine", "src_text": text}
            for key, text in texts.items()
        ]
        _lines(tmp_path / "rows.jsonl", rows)
        system = {"function": f"{__name__}:fails"}
        asr = {"function": f"{__name__}:hears_nothing"}
        ASKED.clear()
        assert main(["evaluate", _config(tmp_path, systems={"ours": system}, measures={"asr": asr})]) == 3
        assert [list("abcdefgh"), *map(list, "abcdefgh")] == ASKED  # all at once; as that fails, one by one
        ours = _told(tmp_path)["systems"]["ours"]
        assert ours["missing"] == list("bcdghi")
        assert ours["set_aside"] == {"function_failed": 3, "function_gave_nothing": 1, "missing": 1, "refused": 1}
        assert len(ours["settings"]["sha256"]) == 64
        made = {
            row["id"]: row
            for row in pq.read_table(tmp_path / "out/translations/ours/clean/translations.parquet").to_pylist()
        }
        assert made["g"]["detail"] == "row g: RuntimeError: this cannot be done"
        assert made["c"]["detail"] == "row c: gave int, neither text nor waveform"
        assert made["d"]["detail"] == "row d: gave samples that are not finite"
        assert made["e"]["hypothesis"] == "spoken?" and made["e"]["speech"] and made["f"]["speech"]
        kept = {row["id"]: row["text"] for row in pq.read_table(tmp_path / "out/translations.parquet").to_pylist()}
        assert kept == dict.fromkeys("bcdfghi") | {"a": "fine", "e": "spoken?"}
        scores = {line["measure"]: line for line in _told(tmp_path)["scores"]}
        assert (scores["BLEU"]["rows"], scores["BLEU"]["missing"]) == (9, 7)
        assert sum(scores["ASR-BLEU"]["details"]["failed"].values()) == 9  # two are silent, seven are not there

    def test_what_does_not_give_one_output_for_each_row_is_asked_row_by_row(self, tmp_path: Path) -> None:
        _tones(tmp_path)
        assert main(["evaluate", _config(tmp_path, systems={"ours": {"function": f"{__name__}:one_by_one"}})]) == 3
        kept = {row["id"]: row["text"] for row in pq.read_table(tmp_path / "out/translations.parquet").to_pylist()}
        assert kept == {name: f"for {name}" for name in "abdef"} | {"c": None}
        assert _told(tmp_path)["systems"]["ours"]["set_aside"] == {"function_failed": 1}

    def test_what_fails_on_everything_is_scored_as_empty(self, tmp_path: Path) -> None:
        row = {"src_lang": "fra", "tgt_lang": "eng", "reference": "fine", "src_text": "raise"}
        _lines(tmp_path / "rows.jsonl", [{**row, "id": key} for key in "ab"])
        assert main(["evaluate", _config(tmp_path, systems={"ours": {"function": f"{__name__}:fails"}})]) == 3
        for line in _told(tmp_path)["scores"]:
            assert (line["score"], line["rows"], line["missing"]) == (0, 2, 2)
            assert line["details"] == {"failed": {"function_failed": 2}}
        assert len(_told(tmp_path)["scores"]) == 2

    @pytest.mark.slow
    def test_a_killed_evaluation_goes_on_to_the_same_bytes(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        results = []
        for name in ("killed", "whole"):
            folder = tmp_path / name
            folder.mkdir()
            _tones(folder)
            (folder / "deadly").touch(exist_ok=name == "killed")
            if name == "whole":
                (folder / "deadly").unlink()
            system = {"function": f"{__name__}:dies_once", "chunk": 2}
            config = _config(folder, systems={"ours": system}, noise={"kinds": ["pink"], "snrs": [0]})
            command = [sys.executable, "-m", "seamlessalign", "evaluate", config, "output=out"]
            environment = os.environ | {"DEADLY": str(folder / "deadly"), "PYTHONPATH": str(ROOT)}
            if name == "killed":
                done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
                assert done.returncode == -signal.SIGKILL, done.stderr
                assert main(["evaluate", config, f"output={folder}/out", "systems.ours.chunk=3"]) == 2
                assert "clean: holds a translation with another chunk: 2, not 3" in capsys.readouterr().err
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            # of clean speech, then of noisy: what was done before it was killed is not asked for again
            assert (folder / "asked").read_text() == "abcdef" * 2
            results.append(
                {
                    str(file.relative_to(folder)): file.read_bytes()
                    for file in (folder / "out").rglob("*")
                    if file.is_file() and file.name != "translation.json"  # has the times of files
                }
            )
        assert results[0].keys() == results[1].keys() and "out/evaluation.json" in results[0]
        assert results[0] == results[1]


class TestNoise:
    SNRS = (10, -10, -40)

    def _noise(self) -> dict[str, Any]:
        return {"kinds": ["white", "babble"], "snrs": list(self.SNRS), "voices": 2}

    def test_scores_fall_as_noise_rises(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        _tones(tmp_path)
        system = {"function": f"{__name__}:by_pitch"}
        config = _config(tmp_path, systems={"ours": system, "twin": system}, noise=self._noise())
        assert main(["evaluate", config, "measures.text=[error_rate]"]) == 0
        out = capsys.readouterr().out
        told = _told(tmp_path)
        lines = {line.get("condition", ""): line for line in told["scores"] if line["system"] == "ours"}
        conditions = [f"{kind}:{snr}" for kind in ("white", "babble") for snr in self.SNRS]
        assert list(lines) == ["", *conditions] == ["", *told["noise"]]
        assert lines[""]["score"] == lines["white:10"]["score"] == 0
        # two voices at -10 dB are each louder than the row's own
        assert lines["babble:-10"]["score"] == lines["babble:-40"]["score"] == pytest.approx(100 / 9)
        assert lines["white:-40"]["score"] > 0
        for condition in conditions:
            assert lines[condition]["signature"] == lines[""]["signature"].replace(
                "|bs:", f"|{told['noise'][condition]}|bs:"
            )
            assert f"| ours | fra-eng | WER, {condition} | " in out
        (white, babble) = lines[""]["details"]["curves"]
        assert (white["name"], white["x"]) == ("white", [-40, -10, 10])
        assert babble["y"] == [lines[f"babble:{snr}"]["score"] for snr in (-40, -10, 10)]
        assert babble["low"] == [lines[f"babble:{snr}"]["low"] for snr in (-40, -10, 10)]
        twins = [line for line in told["scores"] if line["system"] == "twin"]
        assert len(twins) == 7 and all(line["against_baseline"]["difference"] == 0 for line in twins)
        both = str(tmp_path / "out")
        assert main(["evaluate", "--compare", f"{both}:ours", f"{both}:twin"]) == 0
        assert "| fra-eng | WER, babble:-10 |" in capsys.readouterr().out

    def test_a_model_hears_noise_and_is_loaded_once(
        self, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _tones(tmp_path)
        loaded = []

        def load(job: translate.TranslationJob) -> translate.ModelWorker:
            loaded.append(job.model)
            return load_worker(job)

        load_worker = translate.load_worker
        monkeypatch.setattr(translate, "load_worker", load)
        config = _config(tmp_path, systems={"ours": {"model": model}}, noise={"kinds": ["white"], "snrs": [10, -10]})
        assert main(["evaluate", config, "measures.speech=[]"]) == 0
        assert loaded == [model]
        folder = tmp_path / "out/translations/ours"
        assert sorted(place.name for place in folder.iterdir()) == ["clean", "white_-10", "white_10"]
        made = {
            place.name: [row["score"] for row in pq.read_table(place / "translations.parquet").to_pylist()]
            for place in folder.iterdir()
        }
        assert all(None not in scores and len(scores) == 6 for scores in made.values())
        assert made["clean"] != made["white_10"] != made["white_-10"]  # it heard something else each time

    def test_what_is_run_elsewhere_hears_the_same(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        _tones(tmp_path)
        here = {"function": f"{__name__}:by_pitch"}
        config = _config(tmp_path, systems={"here": here}, noise=self._noise())
        noisy = tmp_path / "noisy"
        assert main(["evaluate", config, "--noisy-to", str(noisy)]) == 0
        captured = capsys.readouterr()
        assert f"babble:-40: {noisy}/babble_-40\n" in captured.out and "babble:-40: 6 of 6 rows" in captured.err
        folders = {folder.name.replace("_", ":"): folder for folder in noisy.iterdir() if folder.is_dir()}
        assert len(folders) == 6
        clean = tmp_path / "rows.jsonl"
        for file in [clean, *(folder / "rows.jsonl" for folder in folders.values())]:
            rows, asked = [json.loads(line) for line in file.read_text().splitlines()], []
            for row in rows:
                samples, rate = soundfile.read(file.parent / (row.get("audio") or row["src_audio"]), dtype="float32")
                assert rate == SAMPLE_RATE
                asked.append(Asked(row["id"], row["src_lang"], row["tgt_lang"], waveform=samples))
            made = zip(rows, by_pitch(asked), strict=True)
            _lines(file.parent / "made.jsonl", [{"id": row["id"], "text": text} for row, text in made])
        elsewhere = {
            "path": "made.jsonl",
            "noisy": {condition: f"noisy/{folder.name}/made.jsonl" for condition, folder in folders.items()},
        }
        config = _config(tmp_path, systems={"here": here, "elsewhere": elsewhere}, noise=self._noise())
        assert main(["evaluate", config]) == 0
        scores: dict[str, list[Any]] = {"here": [], "elsewhere": []}
        for line in _told(tmp_path)["scores"]:
            line.pop("against_baseline", None)
            scores[line.pop("system")].append(line)
        assert scores["here"] == scores["elsewhere"] and len(scores["here"]) == 14
        # another time it is done already; another noise is refused
        before = {file: file.stat().st_mtime_ns for file in noisy.rglob("*.wav")}
        assert main(["evaluate", config, "--noisy-to", str(noisy)]) == 0
        assert {file: file.stat().st_mtime_ns for file in noisy.rglob("*.wav")} == before and len(before) == 36
        capsys.readouterr()
        assert main(["evaluate", config, "noise.seed=1", "--noisy-to", str(noisy)]) == 2
        assert "holds a noisy test set of other settings; name another folder" in capsys.readouterr().err
        assert main(["evaluate", config, "--noisy-to", str(tmp_path)]) == 2
        assert "holds something, but no noisy test set" in capsys.readouterr().err

    def test_recordings_that_cannot_be_read_are_told(self, tmp_path: Path) -> None:
        _tones(tmp_path)
        (tmp_path / "musan/noise/free-sound").mkdir(parents=True)
        for name in ("a", "b"):
            soundfile.write(tmp_path / f"musan/noise/free-sound/{name}.wav", np.sin(np.arange(9000) / 3), SAMPLE_RATE)
        (tmp_path / "musan/noise/free-sound/c.wav").write_bytes(b"no sound")
        system = {"function": f"{__name__}:by_pitch"}
        config = _config(tmp_path, systems={"ours": system}, noise={"folder": "musan", "snrs": [0]})
        assert main(["evaluate", config]) == 3
        told = _told(tmp_path)
        assert list(told["noise"]) == ["noise:0"]
        (file,) = told["unreadable noise"]
        assert file == str(tmp_path / "musan/noise/free-sound/c.wav")
        assert told["systems"]["ours"]["noisy"]["noise:0"]["missing"] == []

    def test_silence_has_no_snr_and_is_counted(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        _tones(tmp_path)
        soundfile.write(tmp_path / "b.flac", np.zeros(SAMPLE_RATE), SAMPLE_RATE)
        system = {"function": f"{__name__}:by_pitch"}
        config = _config(tmp_path, systems={"ours": system}, noise={"kinds": ["white"], "snrs": [10]})
        assert main(["evaluate", config]) == 3
        ours = _told(tmp_path)["systems"]["ours"]
        assert ours["set_aside"] == ours["noisy"]["white:10"]["set_aside"] == {"silent": 1}
        assert ours["noisy"]["white:10"]["missing"] == ["b"]
        for line in _told(tmp_path)["scores"]:
            assert (line["rows"], line["missing"], line["details"]["failed"]) == (6, 1, {"silent": 1})
        capsys.readouterr()
        assert main(["evaluate", config, "--noisy-to", str(tmp_path / "noisy")]) == 3
        assert "white:10, b set aside: silent" in capsys.readouterr().err
        assert len((tmp_path / "noisy/white_10/rows.jsonl").read_text().splitlines()) == 5
        (line,) = (tmp_path / "noisy/set_aside.jsonl").read_text().splitlines()
        assert json.loads(line)["reason"] == "silent"


@pytest.mark.parametrize(
    ("system", "others", "told"),
    [
        ({}, {}, "a system has one of path, model, whisper, function, and this one has none of them"),
        ({"path": "a.jsonl", "whisper": "whisper-base"}, {}, "and this one has path and whisper"),
        ({"path": "a.jsonl", "beam": 3}, {}, "beam is for systems with model, and this one has path"),
        ({"model": "nowhere"}, {}, "nowhere: holds no model: there is no config.json"),
        ({"model": "."}, {}, "holds no model: there is no config.json"),
        ({"whisper": "whisper-bass"}, {}, "whisper-bass"),
        ({"whisper": "whisper-base", "task": "transcribe"}, {}, "has none of the languages of the rows: fra-eng (6)"),
        ({"function": "nowhere:at_all"}, {}, "systems.ours.function 'nowhere:at_all': is no function that can be"),
        ({"function": f"{__name__}:ROOT"}, {}, "is no function, but PosixPath"),
        ({"function": f"{__name__}:by_pitch", "input": "text"}, {}, "reads text, but the rows have none: no src_text"),
        (
            {"function": f"{__name__}:by_pitch"},
            {"noise": {"snrs": [400]}},
            "noise.snrs: an SNR of 400 dB is beyond 100 dB",
        ),
        (
            {"function": f"{__name__}:by_pitch"},
            {"noise": {"folder": "nowhere", "kinds": ["noise"]}},
            "nowhere/noise holds no sound files",
        ),
        (
            {"path": "made.jsonl"},
            {"noise": {}},
            "no system hears the rows' speech, nor has outputs under noisy",
        ),
        ({"path": "made.jsonl", "noisy": {"pink:0": "made.jsonl"}}, {}, "give noise too, which says what noise it is"),
        (
            {"path": "made.jsonl", "noisy": {"pink:1": "made.jsonl"}},
            {"noise": {"kinds": ["pink"], "snrs": [0, 5]}},
            "'pink:1' is not asked for; there are pink:0, pink:5",
        ),
        (
            {"path": "made.jsonl", "noisy": {"pink:0": "made.jsonl"}},
            {"noise": {"kinds": ["pink"], "snrs": [0, 5]}},
            "has nothing for pink:5: run the system on them too",
        ),
    ],
)
def test_mistakes_are_one_line(
    system: dict[str, Any],
    others: dict[str, Any],
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _tones(tmp_path)
    _lines(tmp_path / "made.jsonl", [{"id": name, "text": "x"} for name in HERTZ])
    assert main(["evaluate", _config(tmp_path, systems={"ours": system}, **others)]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
    assert not (tmp_path / "out/evaluation.json").exists()


def test_rows_without_speech_cannot_be_noisy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _tones(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    del rows[3]["src_audio"]
    _lines(tmp_path / "rows.jsonl", rows)
    config = _config(tmp_path, systems={"ours": {"function": f"{__name__}:by_pitch"}}, noise={})
    for arguments in ([], ["--noisy-to", str(tmp_path / "noisy")]):
        assert main(["evaluate", config, *arguments]) == 2
        assert "1 of 6 rows have no src_audio, such as d" in capsys.readouterr().err


def test_who_may_babble_is_part_of_what_was_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _tones(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    system, noise = {"function": f"{__name__}:by_pitch"}, {"kinds": ["babble"], "snrs": [0]}
    config = _config(tmp_path, systems={"ours": system}, noise=noise)
    assert main(["evaluate", config]) == 0
    _lines(tmp_path / "rows.jsonl", [{**row, "reference": f"{row['reference']}!"} for row in rows])
    ASKED.clear()
    assert main(["evaluate", config]) == 0 and ASKED == []  # other references, but the same voices
    _lines(tmp_path / "rows.jsonl", [{**row, "speaker": "z" if row["id"] in "ab" else row["id"]} for row in rows])
    capsys.readouterr()
    assert main(["evaluate", config]) == 2
    assert "babble_0: holds a translation with another noise" in capsys.readouterr().err
    assert main(["evaluate", config, "output=s3://bucket/out"]) == 2
    assert (
        "output is s3://bucket/out: systems that are run keep what they make on a local disk" in capsys.readouterr().err
    )


def test_rows_with_both_speech_and_text_need_to_be_told(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _tones(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    _lines(tmp_path / "rows.jsonl", [{**row, "src_text": "a"} for row in rows])
    assert main(["evaluate", _config(tmp_path, systems={"ours": {"model": model}})]) == 2
    assert "systems.ours: the rows have both speech and text: give input: speech, or" in capsys.readouterr().err


def test_languages_that_a_model_has_not_are_told_before_it_is_run(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"id": "a", "src_lang": "eng", "tgt_lang": "zul", "src_text": "a cat", "reference": "ikati"}
    _lines(tmp_path / "rows.jsonl", [row])
    assert main(["evaluate", _config(tmp_path, systems={"ours": {"model": model}})]) == 2
    assert "systems.ours: has none of the languages of the rows: eng-zul (1)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("page", ["evaluation_systems", "evaluation_robustness"])
def test_configurations_of_pages_are_read(page: str, tmp_path: Path) -> None:
    text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
    (tmp_path / "config.yaml").write_text(text.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    config = load_evaluation_config(str(tmp_path / "config.yaml"))
    assert config.systems["ours"].model == str(tmp_path / "runs/unity/model")
    if config.noise is not None:
        assert config.noise.snrs == Noise().snrs  # those of the paper


@pytest.mark.slow
@pytest.mark.embedded
def test_whisper_transcribes_and_translates(tmp_path: Path) -> None:
    from seamlessalign.speech_sources import Sound, load_sound
    from seamlessalign.whisper import load_whisper

    rows, samples = [], []
    for number, (text, voice, lang) in enumerate(
        (("Il fait très beau aujourd'hui.", "fr", "fra"), ("The weather is very nice today.", "en-us", "eng"))
    ):
        made, rate = speak_afresh(text, voice)
        soundfile.write(tmp_path / f"{number}.flac", made, rate)
        samples.append(load_sound(Sound(str(tmp_path / f"{number}.flac")), "", "a"))
        row = {"src_lang": lang, "reference": text, "src_audio": f"{number}.flac"}
        rows.append({**row, "id": f"{lang}-same", "tgt_lang": lang})
        rows.append({**row, "id": f"{lang}-other", "tgt_lang": {"fra": "eng", "eng": "fra"}[lang]})
    long = np.concatenate([samples[1], np.zeros(27 * SAMPLE_RATE, np.float32), samples[1]])
    soundfile.write(tmp_path / "long.flac", long, SAMPLE_RATE)
    rows.append({**rows[2], "id": "long", "src_audio": "long.flac"})
    _lines(tmp_path / "rows.jsonl", rows)
    config = _config(tmp_path, systems={"whisper": {"whisper": "whisper-base"}})
    assert main(["evaluate", config]) == 0
    texts = {row["id"]: row["text"] for row in pq.read_table(tmp_path / "out/translations.parquet").to_pylist()}
    whisper = load_whisper()
    (heard,) = whisper.hear([samples[0]], "fra", ["transcribe", "translate"])
    assert texts["fra-same"] == heard[0].text != ""
    assert texts["fra-other"] == heard[1].text != ""
    assert texts["eng-same"] == whisper.hear([samples[1]], "eng", ["transcribe"])[0][0].text
    assert texts["eng-other"] is None  # Whisper translates into English only
    both = whisper.hear(np.array_split(long, 2), "eng", ["transcribe"])
    assert texts["long"] == " ".join(part.text for (part,) in both)
    told = _told(tmp_path)["systems"]["whisper"]
    assert told["set_aside"] == {"not_translated": 1}
    assert told["settings"]["sha256"] == whisper.files.sha256
