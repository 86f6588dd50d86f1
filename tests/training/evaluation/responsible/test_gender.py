"""Gender: Δ as sacrebleu's chrF gives it, of both forms of the comparison, in text and in what is heard."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sacrebleu
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.cli import main
from seamlessalign.training.evaluation.measures import Float64
from seamlessalign.training.evaluation.recognisers import Float32
from seamlessalign.training.evaluation.responsible.gender import delta
from seamlessalign.training.evaluation.text import Chrf

# masculine and feminine references, and what the system made: of eng-spa
BOTH = [
    ("Soy un hombre cansado.", "Soy una mujer cansada.", "Soy un hombre cansado."),
    ("Es un buen amigo mío.", "Es una buena amiga mía.", "Es una buena amiga mía."),
    ("Estoy contento.", "Estoy contenta.", "Estoy contento."),
    ("Fuimos abuelos jubilados.", "Fuimos abuelas jubiladas.", None),
]


def heard(waveforms: Sequence[Float32], lang: str) -> list[str | None]:
    """A recogniser that knows outputs by their seconds."""
    return [str(BOTH[round(len(waveform) / 4000) - 1][2]).upper() for waveform in waveforms]


def _chrf(made: Sequence[str], wanted: Sequence[str]) -> float:
    return float(sacrebleu.corpus_chrf(list(made), [list(wanted)], word_order=0).score)


def _write(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _config(folder: Path, rows: Sequence[dict[str, Any]], made: Sequence[dict[str, Any]]) -> str:
    _write(folder / "rows.jsonl", rows)
    _write(folder / "made.jsonl", made)
    told = {
        "output": str(folder / "out"),
        "rows": {"path": "rows.jsonl"},
        "systems": {"ours": {"path": "made.jsonl"}},
        "measures": {"text": [], "speech": [], "gender": {"shown": 2}},
    }
    (folder / "config.yaml").write_text(json.dumps(told))
    return str(folder / "config.yaml")


def _by_reference(folder: Path) -> str:
    rows: list[dict[str, Any]] = [
        {
            **{"id": f"{i}", "src_lang": "eng", "tgt_lang": "spa", "src_text": "I am.", "reference": masculine},
            **{"reference_masculine": masculine, "reference_feminine": feminine},
        }
        for i, (masculine, feminine, _) in enumerate(BOTH)
    ]
    rows.append({"id": "neutral", "src_lang": "eng", "tgt_lang": "spa", "reference": "Hola."})
    made = [{"id": f"{i}", "text": text} for i, (*_, text) in enumerate(BOTH) if text is not None]
    return _config(folder, rows, [*made, {"id": "neutral", "text": "Hola."}])


def _told(folder: Path) -> dict[str, dict[str, Any]]:
    scores = json.loads((folder / "out/evaluation.json").read_text())["scores"]
    return {line["measure"]: line for line in scores}


def test_one_output_against_two_references(tmp_path: Path) -> None:
    assert main(["evaluate", _by_reference(tmp_path)]) == 0
    made = [row[2] or "" for row in BOTH]
    masculine, feminine = (_chrf(made, [(row[0], row[1])[i] for row in BOTH]) for i in (0, 1))
    told = _told(tmp_path)
    assert told["chrF2 masculine"]["score"] == pytest.approx(masculine)
    assert told["chrF2 feminine"]["score"] == pytest.approx(feminine)
    line = told["chrF2 gender Δ"]
    assert line["score"] == pytest.approx(100 * (masculine - feminine) / min(masculine, feminine))
    assert line["score"] > 0  # two of three are masculine
    assert line["low"] < line["score"] < line["high"]
    assert [(one["rows"], one["missing"]) for one in told.values()] == [(4, 1)] * 3  # the neutral row is none of these
    assert line["signature"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")
    assert "|gender:references|" in line["signature"]
    assert line["details"]["rows_left_out"] == {"without both references": 1}
    assert line["details"]["tables"][0]["rows"] == [[4, pytest.approx(masculine), pytest.approx(feminine), 2, 1, 1]]
    behind = [json.loads(text) for text in (tmp_path / "out/behind.jsonl").read_text().splitlines()]
    leans = {i: _chrf([text], [m]) - _chrf([text], [f]) for i, (m, f, text) in enumerate(BOTH) if text}
    order = sorted(leans, key=lambda i: -abs(leans[i]))[:2]
    assert [row["id"] for row in behind] == [f"{i}" for i in order]
    for row, i in zip(behind, order, strict=True):
        assert row["what"] == f"leans to the {'masculine' if leans[i] > 0 else 'feminine'}"
        assert row["output"] == BOTH[i][2] and row["feminine"] == BOTH[i][1]
        assert row["chrF masculine"] - row["chrF feminine"] == pytest.approx(leans[i], abs=0.02)


def test_of_speech_what_is_heard_as_it_is_normalised(tmp_path: Path) -> None:
    config, made = _by_reference(tmp_path), []
    for i in range(3):
        soundfile.write(tmp_path / f"{i}.wav", np.sin(np.arange(4000 * (i + 1)) / 9), 16000)
        made.append({"id": f"{i}", "audio": f"{i}.wav"})
    _write(tmp_path / "made.jsonl", made)
    assert main(["evaluate", config, f"measures.asr.function={__name__}:heard"]) == 0
    told = _told(tmp_path)
    plain = [[text.lower().rstrip(".").replace("í", "i") for text in row[:2]] for row in BOTH]
    texts = [(text or "").lower().rstrip(".").replace("í", "i") for *_, text in BOTH]
    masculine, feminine = (_chrf(texts, [row[i] for row in plain]) for i in (0, 1))
    line = told["ASR-chrF2 gender Δ"]
    assert line["score"] == pytest.approx(100 * (masculine - feminine) / min(masculine, feminine))
    assert line["kind"] == "asr_gender" and line["details"]["failed"] == {"no_sound": 2}
    assert f"asr:{__name__}:heard" in line["signature"]


def _by_source(folder: Path, grouped: bool) -> str:
    rows, made = [], []
    for i, (masculine, feminine, _) in enumerate(BOTH):
        for gender, text in (("Masculine", masculine), ("f", feminine)):
            key = f"{i}{gender}"
            row = {"id": key, "src_lang": "spa", "tgt_lang": "eng", "src_text": text, "gender": gender}
            rows.append({**row, "reference": f"I am number {i}.", **({"group": f"{i}"} if grouped else {})})
            made.append({"id": key, "text": f"I am number {i}." if gender == "f" or i else "He is."})
    rows.append({"id": "x", "src_lang": "spa", "tgt_lang": "eng", "gender": "none", "reference": "Hello."})
    return _config(folder, rows, made)


@pytest.mark.parametrize("grouped", [True, False])
def test_two_sources_against_one_reference(tmp_path: Path, grouped: bool) -> None:
    assert main(["evaluate", _by_source(tmp_path, grouped)]) == 0
    wanted = [f"I am number {i}." for i in range(4)]
    masculine = _chrf(["He is.", *wanted[1:]], wanted)
    told = _told(tmp_path)
    line = told["chrF2 gender Δ"]
    assert line["score"] == pytest.approx(100 * (masculine - 100) / masculine) and line["score"] < 0
    assert told["chrF2 masculine"]["score"] == pytest.approx(masculine)
    assert told["chrF2 feminine"]["score"] == pytest.approx(100)
    assert line["rows"] == (4 if grouped else 8) and told["chrF2 feminine"]["rows"] == 4
    assert line["details"]["rows_left_out"] == {"gender none": 1} and "|gender:sources|" in line["signature"]
    behind = [json.loads(text) for text in (tmp_path / "out/behind.jsonl").read_text().splitlines()]
    if grouped:  # else nobody knows which rows belong together
        (row,) = behind
        assert row["id"] == "group 0" and row["masculine"] == [{"source": BOTH[0][0], "output": "He is."}]
    else:
        assert behind == []


def test_all_rows_of_a_group_count(tmp_path: Path) -> None:
    made = [("m", "He is one."), ("m", "I am one."), ("f", "She is."), ("f", "I am one.")]
    about = {"src_lang": "spa", "tgt_lang": "eng", "group": "1", "reference": "I am one."}
    rows = [{"id": f"{i}", "gender": gender, **about} for i, (gender, _) in enumerate(made)]
    assert main(["evaluate", _config(tmp_path, rows, [{"text": text} for _, text in made])]) == 0
    masculine, feminine = (_chrf([text for one, text in made if one == side], ["I am one."] * 2) for side in "mf")
    told = _told(tmp_path)
    assert (told["chrF2 masculine"]["score"], told["chrF2 feminine"]["score"]) == pytest.approx((masculine, feminine))
    assert told["chrF2 gender Δ"]["rows"] == 1


def test_rows_without_gender(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = _by_reference(tmp_path)
    assert main(["evaluate", config, "rows.columns.feminine=none"]) == 2
    error = capsys.readouterr().err
    assert "measures.gender: no row has both reference_masculine and reference_feminine, nor a gender" in error
    assert error.count("\n") == 1
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    _write(tmp_path / "rows.jsonl", [*rows[:-1], {**rows[-1], "src_lang": "fra"}])
    assert main(["evaluate", config]) == 0
    assert "gender of fra-spa: not measured, no row has one" in "".join(capsys.readouterr())


def test_rows_without_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", _by_reference(tmp_path), "rows.columns.references=none"]) == 0  # needs none
    assert len(_told(tmp_path)) == 3
    assert main(["evaluate", _by_source(tmp_path, False), "rows.columns.references=none"]) == 2
    assert "8 rows with a gender have no reference, such as 0Masculine" in capsys.readouterr().err
    assert main(["evaluate", _by_reference(tmp_path), "rows.columns.references=none", "measures.text=[bleu]"]) == 2
    assert "5 rows have no reference" in capsys.readouterr().err


WORDS = st.text("abc ", max_size=8)


@given(st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_delta_turns_with_the_sides_and_is_none_of_equal_ones(rows: list[tuple[str, str, str]]) -> None:
    chrf = Chrf(word_order=0)
    made, first, second = (list(some) for some in zip(*rows, strict=True))

    def sums(*references: list[str]) -> Float64:
        return np.concatenate([chrf.statistics(made, [[text] for text in some]).sum(0) for some in references])

    found, other = (delta(chrf.score)(sums(*pair)) for pair in ((first, second), (second, first)))
    assert found == pytest.approx(-other, nan_ok=True)
    assert delta(chrf.score)(sums(first, first)) == 0
    a, b = chrf.score(sums(first)), chrf.score(sums(second))
    if min(a, b) > 0:
        assert found == pytest.approx(100 * (a - b) / min(a, b))
