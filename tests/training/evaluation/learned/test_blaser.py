"""BLASER 2.0 against a restatement in numpy and numbers worked out by hand, of text and speech, and what is refused."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from safetensors.torch import save_file

from seamlessalign.cli import main
from seamlessalign.embedders import load_speech_embedder, load_text_embedder
from seamlessalign.embedders.card import unit_rows
from seamlessalign.errors import ModelError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.training.evaluation.compare import compare
from seamlessalign.training.evaluation.config import load_evaluation_config
from seamlessalign.training.evaluation.learned.blaser import Form, Perceptron, features
from seamlessalign.training.evaluation.learned.learned_config import Blaser
from tests.training.evaluation.learned.tiny_blaser import grades_by_hand, make_student, random_weights, save

SAID = {"a": "Le chat dort.", "b": "Il pleut depuis hier.", "c": "NA", "d": "Bonjour à tous."}
WANTED = {"a": "The cat is asleep.", "b": "It has been raining since yesterday.", "c": "NA", "d": "Hello everyone."}
MADE = {"a": "The cat sleeps.", "b": "It rains.", "d": "  "}  # c is missing, d is blank


def test_features_are_in_the_published_order() -> None:
    src, mt, ref = (np.array([row], np.float32) for row in ([0.6, 0.8], [1.0, 0.0], [0.0, -1.0]))
    of_ref = [0, -1, 1, 0, 0.6, 0, 0, 0, 0.4, 0.8, 1, 1]
    np.testing.assert_allclose(features(src, mt, ref)[0], of_ref, atol=1e-7)
    np.testing.assert_allclose(features(src, mt)[0], [0.6, 0.8, 1, 0, 0.6, 0, 0.4, 0.8], atol=1e-7)


def test_a_grade_by_hand(tmp_path: Path) -> None:
    """One dimension, one unit in each layer."""
    weights = {
        "mlp.1.weight": torch.tensor([[1.0, 2.0, 3.0, 4.0]]),
        "mlp.1.bias": torch.tensor([0.5]),
        "mlp.4.weight": torch.tensor([[2.0]]),
        "mlp.4.bias": torch.tensor([-1.0]),
        "mlp.7.weight": torch.tensor([[3.0]]),
        "mlp.7.bias": torch.tensor([1.0]),
    }
    head = Perceptron(str(save(tmp_path / "model.pt", weights)), "qe")
    src, mt = np.array([[1.0]], np.float32), np.array([[-1.0]], np.float32)
    first = np.tanh(1 * 1 - 2 * 1 - 3 * 1 + 4 * 2 + 0.5)  # src, mt, src * mt, |mt - src|
    assert head.grades(src, mt)[0] == pytest.approx(3 * np.tanh(2 * first - 1) + 1, abs=1e-6)


@pytest.mark.parametrize("layout", ["wrapped", "bare", "safetensors", "half"])
@pytest.mark.parametrize("form", ["ref", "qe"])
def test_grades_are_those_of_numpy(form: Form, layout: str, tmp_path: Path) -> None:
    weights = random_weights(form, dim=12)
    file = tmp_path / "model.pt"
    if layout == "safetensors":
        file = tmp_path / "model.safetensors"
        save_file(weights, file)
    elif layout == "half":
        weights = {name: tensor.half() for name, tensor in weights.items()}
        save(file, weights)
    else:
        save(file, weights, wrapped=layout == "wrapped")
    head = Perceptron(str(file), form)
    assert head.dim == 12
    random = np.random.default_rng(3)
    src, mt, ref = (random.standard_normal((1500, 12)).astype(np.float32) for _ in range(3))
    given = (src, mt, ref) if form == "ref" else (src, mt)
    found = head.grades(*(unit_rows(rows) for rows in given))
    np.testing.assert_allclose(found, grades_by_hand(weights, *given), atol=2e-6)
    assert head.grades(*(unit_rows(rows[:0]) for rows in given)).shape == (0,)
    order = random.permutation(1500)
    np.testing.assert_allclose(head.grades(*(unit_rows(rows[order]) for rows in given)), found[order], atol=1e-6)


class _Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.mkdir, (self.marker,)


def _changed(change: str, folder: Path) -> dict[str, Any]:
    weights: dict[str, Any] = random_weights("ref", dim=4)
    if change == "lacks":
        del weights["mlp.4.bias"]
    elif change == "has more":
        weights["mlp.10.weight"] = torch.zeros(1)
    elif change == "no dropout":
        weights = {name.replace("mlp.1.", "mlp.0."): tensor for name, tensor in weights.items()}
    elif change == "shape":
        weights["mlp.4.weight"] = torch.zeros(5, 6)
    elif change == "axes":
        weights["mlp.7.weight"] = torch.zeros(5)
    elif change == "two grades":
        weights |= {"mlp.7.weight": torch.zeros(2, 5), "mlp.7.bias": torch.zeros(2)}
    elif change == "not a number":
        weights["mlp.1.bias"][2] = torch.nan
    elif change == "hostile":
        weights["mlp.1.bias"] = _Hostile(folder / "made")
    return weights


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("lacks", "is no BLASER 2.0, which has mlp.1.weight"),
        ("has more", "is no BLASER 2.0"),
        ("no dropout", "it has mlp.0.bias"),
        ("shape", "shapes of its layers do not fit each other.*mlp.4.weight 5×6"),
        ("axes", "shapes of its layers do not fit"),
        ("two grades", "shapes of its layers do not fit"),
        ("not a number", "not finite"),
        ("hostile", "could run code"),
    ],
)
def test_files_that_are_no_blaser(change: str, told: str, tmp_path: Path) -> None:
    file = save(tmp_path / "model.pt", _changed(change, tmp_path))
    with pytest.raises(ModelError, match=told):
        Perceptron(str(file), "ref")
    assert not (tmp_path / "made").exists()


def test_a_file_of_another_form(tmp_path: Path) -> None:
    file = save(tmp_path / "model.pt", random_weights("ref", dim=4))
    head = Perceptron(str(file), "qe")  # 24 features could be four of 6 dimensions
    with pytest.raises(ModelError, match="as qe, takes 24 features of 6 dimensions; tiny has 4: it is that of ref"):
        head.check_dim(4, "tiny")
    with pytest.raises(ModelError, match=r"tiny has 5$"):
        head.check_dim(5, "tiny")
    with pytest.raises(ModelError, match="takes 18 features, which is no multiple of 4"):
        Perceptron(str(save(file, random_weights("ref", dim=3))), "qe")
    with pytest.raises(ModelError, match=r"is no file: give the model\.pt of facebook/blaser-2\.0-qe"):
        Perceptron(str(tmp_path / "nowhere.pt"), "qe")


# Whole evaluations, with the embedded E5 and a small speech encoder with random weights


def _write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Texts and sounds of four rows, of which one system wrote two and a blank one, and said two and a silence."""
    for form in ("ref", "qe"):
        save(tmp_path / f"{form}.pt", random_weights(form, 384, seed=len(form)))
    random, sounds = np.random.default_rng(1), []
    for name in ("src", "wanted", "made"):
        for key in SAID:
            sounds.append(random.uniform(-0.3, 0.3, 9000).astype(np.float32))
            silent = (name, key) == ("made", "d")
            soundfile.write(tmp_path / f"{name}-{key}.wav", 0 * sounds[-1] if silent else sounds[-1], SAMPLE_RATE)
    make_student(tmp_path / "student", sounds)
    rows = [
        {
            "id": key,
            "src_lang": "fra",
            "tgt_lang": "eng",
            "src_text": SAID[key],
            "reference": WANTED[key],
            "src_audio": f"src-{key}.wav",
            "reference_audio": f"wanted-{key}.wav",
        }
        for key in SAID
    ]
    _write(tmp_path, "rows.jsonl", rows)
    _write(tmp_path, "wrote.jsonl", [{"id": key, "text": text} for key, text in MADE.items()])
    _write(tmp_path, "said.jsonl", [{"id": key, "audio": f"made-{key}.wav"} for key in MADE])
    told = {
        "output": str(tmp_path / "out"),
        "resampling": {"samples": 20},
        "rows": {"path": "rows.jsonl"},
        "systems": {"wrote": {"path": "wrote.jsonl"}},
        "measures": {
            "text": [],
            "speech": [],
            "blaser": {
                "measures": ["blaser_ref", "blaser_qe", "blaser_unsupervised", "blaser_unsupervised_qe"],
                "ref": "ref.pt",
                "qe": "qe.pt",
                "directories": {"student": "student"},
            },
        },
    }
    (tmp_path / "config.yaml").write_text(json.dumps(told))
    return tmp_path / "config.yaml"


def _scores(folder: Path, system: str) -> dict[str, dict[str, Any]]:
    told = json.loads((folder / "out/evaluation.json").read_text(encoding="utf-8"))
    return {line["kind"]: line for line in told["scores"] if line["system"] == system}


def _by_hand(folder: Path, src: Any, mt: Any, ref: Any) -> dict[str, list[float]]:
    """Scores of the two rows that have an output."""
    held = {form: torch.load(folder / f"{form}.pt", weights_only=True)["model"] for form in ("ref", "qe")}
    with_source = [float(s @ t) for s, t in zip(src, mt, strict=True)]
    with_reference = [float(r @ t) for r, t in zip(ref, mt, strict=True)]
    return {
        "blaser_ref": grades_by_hand(held["ref"], src, mt, ref).tolist(),
        "blaser_qe": grades_by_hand(held["qe"], src, mt).tolist(),
        "blaser_unsupervised": [(a + b) / 2 for a, b in zip(with_source, with_reference, strict=True)],
        "blaser_unsupervised_qe": with_source,
    }


def _check(found: dict[str, dict[str, Any]], by_hand: dict[str, list[float]], missing: int = 1) -> None:
    for kind, values in by_hand.items():
        lowest = 1.0 if kind in ("blaser_ref", "blaser_qe") else 0.0
        assert found[kind]["score"] == pytest.approx(np.mean([*values, lowest, lowest]), abs=1e-5)
        assert (found[kind]["rows"], found[kind]["missing"]) == (4, missing)


@pytest.mark.embedded
def test_text_as_by_hand(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = config.parent
    assert main(["evaluate", str(config)]) == 0
    e5 = load_text_embedder("e5-small")
    src, mt, ref = (
        e5.embed([texts[key] for key in "ab"], lang) for texts, lang in ((SAID, "fra"), (MADE, "eng"), (WANTED, "eng"))
    )
    found = _scores(folder, "wrote")
    by_hand = _by_hand(folder, src, mt, ref)
    _check(found, by_hand)
    one = found["blaser_ref"]
    assert one["details"]["outputs without an embedding"] == {"no_output": 1, "blank": 1}
    assert one["details"]["rows"]["lowest"] == pytest.approx(min(1.0, *by_hand["blaser_ref"]), abs=1e-5)
    for part in ("form:ref|weights:", "|nrefs:1|src:text:e5-small-1571fc98+means-", "|mt:text:e5", "|empty:1|bs:20"):
        assert part in one["signature"]
    assert "ref:" not in found["blaser_qe"]["signature"] and "|empty:0|" in found["blaser_unsupervised"]["signature"]
    rows = pq.read_table(folder / "out/statistics.parquet").to_pylist()
    told = {row["id"]: row["score"] for row in rows if row["measure"] == "BLASER 2.0 qe"}
    np.testing.assert_allclose([told["a"], told["b"]], by_hand["blaser_qe"], atol=1e-5)
    assert (told["c"], told["d"]) == (1.0, 1.0)
    assert f"| BLASER unsupervised qe | {found['blaser_unsupervised_qe']['score']:.4f} (" in capsys.readouterr().out
    again = str(folder / "again")
    assert main(["evaluate", str(config), f"output={again}"]) == 0
    assert len(compare(str(folder / "out"), again).pairs) == 4
    behind = [json.loads(line) for line in (folder / "out/behind.jsonl").read_text().splitlines()]
    assert [(row["id"], row["what"]) for row in behind] == [("c", "no_output"), ("d", "blank")]


@pytest.mark.embedded
def test_speech_as_by_hand(config: Path) -> None:
    folder = config.parent
    speech = ["measures.blaser.speech=student", "systems.said.path=said.jsonl", "measures.blaser.reference=speech"]
    assert main(["evaluate", str(config), *speech]) == 3
    student = load_speech_embedder("student", {"student": str(folder / "student")})
    rows = {}
    for name, lang in (("src", "fra"), ("made", "eng"), ("wanted", "eng")):
        sounds = [soundfile.read(folder / f"{name}-{key}.wav", dtype="float32")[0] for key in "ab"]
        rows[name] = np.concatenate([student.embed(one, np.array([[0, len(one)]]), lang) for one in sounds])
    found = _scores(folder, "said")
    _check(found, _by_hand(folder, rows["src"], rows["made"], rows["wanted"]), missing=2)
    assert found["blaser_qe"]["measure"] == "BLASER 2.0 qe, speech"
    assert found["blaser_qe"]["details"]["outputs without an embedding"] == {"no_output": 1, "silent": 1}
    assert "|src:speech:student-" in found["blaser_qe"]["signature"]
    e5 = load_text_embedder("e5-small")  # and what another system wrote, against the same speech
    mt = e5.embed([MADE[key] for key in "ab"], "eng")
    _check(_scores(folder, "wrote"), _by_hand(folder, rows["src"], mt, rows["wanted"]))


@pytest.mark.embedded
def test_several_references_are_averaged_and_the_order_of_rows_is_nothing(config: Path) -> None:
    folder = config.parent
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    found = []
    for references in (["x", "y"], ["x"], ["y"]):
        texts = {"x": WANTED, "y": {key: f"{text} Or so." for key, text in WANTED.items()}}
        for row in rows:
            names = references[:1] if row["id"] == "a" else references  # which has one of them
            row["reference"] = [texts[name][row["id"]] for name in names]
        _write(folder, "rows.jsonl", rows[::-1] if references == ["y"] else rows)
        assert main(["evaluate", str(config)]) == 0
        told = pq.read_table(folder / "out/statistics.parquet").to_pylist()
        found.append({(row["measure"], row["id"]): row["score"] for row in told})
        assert ("|nrefs:var|" if references == ["x", "y"] else "|nrefs:1|") in _scores(folder, "wrote")["blaser_ref"][
            "signature"
        ]
    both, first, second = found
    assert len(both) == 16
    for (measure, key), score in both.items():
        others = [first[measure, key]] if key == "a" else [first[measure, key], second[measure, key]]
        assert score == pytest.approx(np.mean(others), abs=1e-6)
    assert first["BLASER 2.0 ref", "b"] != pytest.approx(second["BLASER 2.0 ref", "b"], abs=1e-4)


@pytest.mark.embedded
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["ref=null"], "blaser_ref needs the file of its weights: give ref"),
        (["source=speech"], "source is speech, which needs the key speech: an embedder of speech"),
        (["text=null", "speech=student"], "reference is text, which needs the key text"),
        (["text=null"], "give text, speech or both"),
        (["ref=qe.pt", "measures=[blaser_ref]"], "as ref, takes 1536 features of 256 dimensions; e5-small has 384"),
        (["ref=nowhere.pt"], "nowhere.pt: is no file"),
        (["text=labse", "speech=student"], "student embeds into the space of e5-small, not of labse"),
        (["text=null", "speech=student", "measures=[blaser_qe]"], "wrote made text: name an embedder of text"),
    ],
)
def test_mistakes_are_one_line(
    config: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert main(["evaluate", str(config), *(f"measures.blaser.{one}" for one in arguments)]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not (config.parent / "out").exists()


@pytest.mark.embedded
def test_rows_without_a_source(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(config), "rows.columns.src_text=none"]) == 2
    told = "measures.blaser: 4 of 4 rows of fra-eng have no src_text, such as a"
    assert told in capsys.readouterr().err


def test_the_page_has_a_configuration(tmp_path: Path) -> None:
    page = (Path(__file__).parents[4] / "docs/evaluation_learned.md").read_text(encoding="utf-8")
    (tmp_path / "config.yaml").write_text(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0])
    measures = load_evaluation_config(str(tmp_path / "config.yaml")).measures
    assert measures.blaser is not None and measures.comet is not None
    assert measures.blaser.ref == str(tmp_path / "blaser-2.0-ref/model.pt")
    assert measures.blaser.directories == {"sonar": str(tmp_path / "models/sonar")}
    assert measures.comet.model == "Unbabel/wmt22-comet-da"
    assert f"`lowest`: {Blaser().lowest:g}" in page
