"""COMET: what is asked of its process and what becomes of the answers, with a stand-in for the package; and the package
itself, where some Python has it, with a small model.

The package cannot be installed beside this project's releases of numpy and transformers, so the slow tests want
`SEAMLESSALIGN_COMET_PYTHON`, a Python of an environment that has unbabel-comet.
"""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from seamlessalign.cli import main
from seamlessalign.errors import ModelError
from seamlessalign.training.evaluation.compare import compare
from seamlessalign.training.evaluation.learned.comet import CometProcess
from seamlessalign.training.evaluation.learned.learned_config import Comet
from tests.training.evaluation.learned import tiny_comet

STAND_IN = """
import json, os, sys
from pathlib import Path

HERE = Path(__file__).parent

class Model:
    hparams = {"pretrained_model": "some/encoder"}

    def eval(self):
        return self

    def requires_references(self):
        return "qe" not in HERE.parent.name

    def predict(self, samples, batch_size, gpus, num_workers, progress_bar):
        print("what packages print")
        with (HERE / "asked.jsonl").open("a") as log:
            log.write(json.dumps([samples, batch_size, gpus]) + "\\n")
        if any(one["mt"] == "raise" for one in samples):
            raise ValueError("two\\nlines")
        if any(one["mt"] == "die" for one in samples):
            sys.stderr.write("first\\nno memory left\\n")
            sys.stderr.flush()
            os._exit(9)
        return {"scores": [len(one["mt"]) + len(one["src"]) / 100 + len(one.get("ref", "")) / 10000 for one in samples]}

def load_from_checkpoint(path, local_files_only):
    guards = sorted(name for name in os.environ if "WEIGHTS_ONLY" in name)
    (HERE / "loaded.json").write_text(json.dumps([path, local_files_only, guards, sys.path]))
    return Model()
"""


def _score(src: str, mt: str, ref: str = "") -> float:
    return len(mt) + len(src) / 100 + len(ref) / 10000


def shouting(waveforms: Sequence[Any], lang: str) -> list[str | None]:
    """A recogniser that hears how long sounds are."""
    return ["A" * (len(waveform) // 1600) for waveform in waveforms]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rows, a system, and packages that stand in for COMET's and torch, which a Python finds there first."""
    packages = tmp_path / "packages"
    (packages / "comet").mkdir(parents=True)
    (packages / "comet/__init__.py").write_text(STAND_IN)
    (packages / "torch.py").write_text("__version__ = '2.13.0'\ndef manual_seed(seed): pass\n")
    (packages / "unbabel_comet-9.8.dist-info").mkdir()
    (packages / "unbabel_comet-9.8.dist-info/METADATA").write_text("Name: unbabel-comet\nVersion: 9.8\n")
    monkeypatch.setenv("PYTHONPATH", str(packages))
    (tmp_path / "model/checkpoints").mkdir(parents=True)
    (tmp_path / "model/checkpoints/model.ckpt").write_bytes(b"weights")
    rows = [
        {"id": "a", "src_text": "un", "reference": ["one", "ones"], "src_lang": "fra", "tgt_lang": "eng"},
        {"id": "b", "src_text": "NA", "reference": ["NA"], "src_lang": "fra", "tgt_lang": "eng"},
        {"id": "c", "src_text": "trois", "reference": ["three", "3"], "src_lang": "fra", "tgt_lang": "eng"},
    ]
    _write(tmp_path / "rows.jsonl", rows)
    _write(tmp_path / "made.jsonl", [{"id": "a", "text": "one"}, {"id": "b", "text": None}, {"id": "c", "text": ""}])
    told = {
        "output": str(tmp_path / "out"),
        "rows": {"path": "rows.jsonl"},
        "systems": {"a": {"path": "made.jsonl"}},
        "resampling": {"samples": 20},
        "measures": {"text": [], "speech": [], "comet": {"model": "model", "python": sys.executable, "batch": 7}},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(told))
    return tmp_path


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _told(folder: Path, output: str = "out") -> list[dict[str, Any]]:
    return list(json.loads((folder / output / "evaluation.json").read_text())["scores"])


def _evaluate(folder: Path, *arguments: str) -> int:
    return main(["evaluate", str(folder / "config.yaml"), *arguments])


def test_the_mean_of_sentences_with_missing_ones_as_empty(folder: Path) -> None:
    assert _evaluate(folder) == 0
    (line,) = _told(folder)
    by_hand = [
        (_score("un", "one", "one") + _score("un", "one", "ones")) / 2,
        _score("NA", "", "NA"),
        (_score("trois", "", "three") + _score("trois", "", "3")) / 2,
    ]
    assert line["score"] == pytest.approx(np.mean(by_hand))
    assert (line["kind"], line["measure"], line["rows"], line["missing"]) == ("comet", "COMET", 3, 1)
    rows = pq.read_table(folder / "out/statistics.parquet").to_pylist()
    np.testing.assert_allclose([row["score"] for row in rows], by_hand)
    model = "comet:model|weights:9a129038|class:Model|encoder:encoder"  # printf weights | sha256sum
    told = "precision:float32|version:unbabel-comet-9.8|nrefs:var"
    assert line["signature"] == f"{model}|{told}|bs:20|seed:12345"
    path, offline, guards, places = json.loads((folder / "packages/comet/loaded.json").read_text())
    assert (path, offline) == (str(folder / "model/checkpoints/model.ckpt"), True)
    assert guards == ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"]
    assert not [place for place in places if place.endswith("evaluation")]
    asked = [json.loads(line) for line in (folder / "packages/comet/asked.jsonl").read_text().splitlines()]
    assert [len(samples) for samples, batch, gpus in asked if (batch, gpus) == (7, 0)] == [5]


def test_each_sentence_is_scored_once_and_what_is_trusted_is_loaded(folder: Path) -> None:
    _write(folder / "made.jsonl", [{"id": key, "text": "one"} for key in "abc"])
    more = [f"systems.b.path={folder / 'made.jsonl'}", "measures.comet.trusted=true"]
    assert _evaluate(folder, *more) == 0
    first, second = _told(folder)
    assert first["score"] == second["score"] and second["against_baseline"]["difference"] == 0
    assert len((folder / "packages/comet/asked.jsonl").read_text().splitlines()) == 1  # of one system
    guards = json.loads((folder / "packages/comet/loaded.json").read_text())[2]
    assert guards == ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"]
    assert _evaluate(folder, *more, f"output={folder / 'again'}") == 0
    (pair,) = compare(f"{folder / 'out'}:a", f"{folder / 'again'}:b").pairs
    assert pair.comparison.difference == 0


def test_of_what_is_heard(folder: Path) -> None:
    soundfile.write(folder / "a.wav", np.random.default_rng(0).uniform(-0.1, 0.1, 3200), 16000)
    _write(folder / "made.jsonl", [{"id": "a", "audio": "a.wav"}, {"id": "b", "audio": "nowhere.wav"}])
    measures = ["measures.comet.measures=[comet, asr_comet]", f"measures.asr.function={__name__}:shouting"]
    assert _evaluate(folder, *measures) == 3
    (line,) = _told(folder)
    by_hand = [
        np.mean([_score(src, mt, ref) for ref in refs])
        for src, mt, refs in (("un", "AA", ("one", "ones")), ("NA", "", ("NA",)), ("trois", "", ("three", "3")))
    ]
    assert line["score"] == pytest.approx(np.mean(by_hand))
    assert (line["measure"], line["missing"]) == ("ASR-COMET", 2)
    assert line["details"] == {"failed": {"missing": 1, "no_sound": 1}}
    assert f"|asr:{__name__}:shouting-" in line["signature"]


def test_half_a_letter_is_a_question_mark(folder: Path) -> None:
    comet = CometProcess(Comet(model=str(folder / "model"), python=sys.executable))
    assert comet.scores([("un", "on\ud800", "one"), ("un", "o", "one")]).tolist() == [
        _score("un", "on?", "one"),
        _score("un", "o", "one"),
    ]
    assert '"mt": "on?"' in (folder / "packages/comet/asked.jsonl").read_text()


@pytest.mark.parametrize(
    ("text", "told"),
    [("raise", "model: ValueError: two lines"), ("die", "model: its process ended: no memory left")],
)
def test_a_process_that_fails(folder: Path, text: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    _write(folder / "made.jsonl", [{"id": "a", "text": text}])
    assert _evaluate(folder) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["measures.comet.model=made.jsonl/nowhere"], "neither here nor in the hub's cache, and HF_HUB_OFFLINE is set"),
        (["measures.comet.model=packages"], "packages has no checkpoints/model.ckpt"),
        (["measures.comet.python=./nowhere"], "nowhere cannot be run: No such file or directory"),
        (["rows.columns.src_text=none"], "3 of 3 rows have no src_text, such as a: COMET compares"),
        (["rows.columns.references=none"], "each row needs references"),
        (["measures.comet.model=null"], "measures.comet.model"),
    ],
)
def test_mistakes_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert _evaluate(folder, *arguments) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


def test_no_package(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "packages/comet/__init__.py").write_text("import comet_that_is_not_there as comet")
    assert _evaluate(folder) == 2
    assert "comet_that_is_not_there" in capsys.readouterr().err
    (folder / "packages/comet/__init__.py").write_text(
        "raise ModuleNotFoundError(name='comet')  # another length: bytecode is stale"
    )
    assert _evaluate(folder) == 2
    assert f"{sys.executable} has no package unbabel-comet: install it there" in capsys.readouterr().err
    if importlib.util.find_spec("comet") is None:
        assert _evaluate(folder, "measures.comet.python=null") == 2
        assert "pip install 'seamlessalign[comet]'" in capsys.readouterr().err


# The package itself


@pytest.fixture(scope="module")
def python() -> str:
    found = os.environ.get("SEAMLESSALIGN_COMET_PYTHON")
    if found is None and importlib.util.find_spec("comet") is None:
        pytest.skip("needs unbabel-comet: SEAMLESSALIGN_COMET_PYTHON names no Python that has it")
    return found or sys.executable


def _run(python: str, *arguments: str, given: str = "") -> str:
    done = subprocess.run([python, str(tiny_comet.__file__), *arguments], input=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


SAMPLES = [
    ("il dort", "he sleeps", "he is asleep"),
    ("il dort", "", "he is asleep"),
    ("il pleut depuis hier", "it rains, it rains", "it has been raining since yesterday"),
    ("NA", "NA", "NA"),
]


@pytest.mark.slow
@pytest.mark.parametrize("referenceless", [False, True])
def test_scores_are_those_of_the_package(referenceless: bool, python: str, tmp_path: Path) -> None:
    _run(python, "make", str(tmp_path / "tiny"), *(["referenceless"] if referenceless else []))
    samples = [{"src": src, "mt": mt, **({} if referenceless else {"ref": ref})} for src, mt, ref in SAMPLES]
    file = tmp_path / "tiny/checkpoints/model.ckpt"
    theirs = json.loads(_run(python, "score", str(file), given=json.dumps(samples)).splitlines()[-1])
    comet = CometProcess(Comet(model=str(tmp_path / "tiny"), python=python, batch=3))
    assert comet.needs_references is not referenceless
    asked = [(src, mt, None if referenceless else ref) for src, mt, ref in SAMPLES]
    found = comet.scores(asked)
    np.testing.assert_allclose(found, theirs, atol=1e-5)
    assert len(set(np.round(found, 3))) == 4
    again = CometProcess(Comet(model=str(file), python=python, batch=3))
    np.testing.assert_array_equal(again.scores(asked), found)
    np.testing.assert_array_equal(again.scores(asked[::-1]), found[::-1])
    kind = "ReferencelessRegression" if referenceless else "RegressionMetric"
    assert f"|class:{kind}|encoder:encoder|precision:float32|version:unbabel-comet-2." in again.signature


@pytest.mark.slow
def test_a_hostile_checkpoint_does_nothing_unless_it_is_trusted(python: str, tmp_path: Path) -> None:
    _run(python, "make", str(tmp_path / "tiny"))
    file = tmp_path / "tiny/checkpoints/model.ckpt"
    _run(python, "spoil", str(file), str(tmp_path / "made"))
    with pytest.raises(ModelError, match="could run code when it is loaded; where you trust whoever made it, say"):
        CometProcess(Comet(model=str(file), python=python))
    assert not (tmp_path / "made").exists()
    CometProcess(Comet(model=str(file), python=python, trusted=True))
    assert (tmp_path / "made").exists()  # so it was the guard that kept it
