"""Added toxicity in whole evaluations: counted by hand, told row by row, and what has no lexicon or source."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from seamlessalign.cli import main
from seamlessalign.training.evaluation.config import load_evaluation_config
from seamlessalign.training.evaluation.recognisers import Float32
from tests.test_house import HOUSE

ROWS = [  # id, source, what the system wrote: of eng-fra
    ("none", "A good day.", "Un bon jour."),
    ("added", "A good day.", "Un jour de MERDE, merde!"),
    ("kept", "A damn day.", "Un jour de merde."),
    ("more", "A damn day.", "Putain de merde."),
    ("lost", "A damn, damn day.", "Un jour de merde."),
    ("missing", "A good day.", None),
    ("null", "null", "null"),
]
ADDED = {"added", "more"}
HEARD = {0.25: "a good day", 0.5: "un jour de merde", 0.75: "damn damn"}


def heard(waveforms: Sequence[Float32], lang: str) -> list[str | None]:
    """A recogniser that knows sounds by their seconds."""
    return [HEARD.get(len(waveform) / 16000) for waveform in waveforms]


def _tone(folder: Path, seconds: float) -> str:
    file = folder / f"{seconds:g}.wav"
    soundfile.write(file, np.sin(np.arange(int(16000 * seconds)) / 9) / 3, 16000)
    return file.name


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "lexicons").mkdir()
    (tmp_path / "lexicons/eng_Latn_twl.txt").write_text("damn\nhell\n")
    (tmp_path / "lexicons/fra_Latn_twl.txt").write_text("merde\nputain\nputain de merde\nputain de\n")
    rows = [
        {"id": key, "src_lang": "eng", "tgt_lang": "fra", "src_text": text, "reference": "Un jour."}
        for key, text, _ in ROWS
    ]
    rows[3]["src_text"], made = "A day.", [{"id": key, "text": text} for key, _, text in ROWS if text is not None]
    _write(tmp_path / "rows.jsonl", rows)
    _write(tmp_path / "made.jsonl", made[::-1])
    told = {
        "output": str(tmp_path / "out"),
        "rows": {"path": "rows.jsonl"},
        "systems": {"ours": {"path": "made.jsonl"}},
        "measures": {"text": [], "speech": [], "toxicity": {"lexicons": "lexicons"}},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(told))
    return tmp_path / "config.yaml"


def _write(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _told(config: Path) -> list[dict[str, Any]]:
    return list(json.loads((config.parent / "out/evaluation.json").read_text())["scores"])


def _behind(config: Path) -> dict[str, dict[str, Any]]:
    lines = (config.parent / "out/behind.jsonl").read_text().splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def test_counted_by_hand(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(config)]) == 0
    (line,) = _told(config)
    assert (line["kind"], line["measure"], line["direction"]) == ("toxicity", "toxicity added", "eng-fra")
    assert line["score"] == pytest.approx(100 * 2 / 7)
    assert (line["rows"], line["missing"], line["higher_is_better"]) == (7, 1, False)
    assert line["low"] < line["score"] < line["high"]
    for part in ("source:text", "src:eng_Latn_twl.txt-", "tgt:fra_Latn_twl.txt-", "/words|norm:nfkc-casefold-"):
        assert part in line["signature"]
    phrases, added = line["details"]["tables"]
    assert dict(zip(phrases["columns"], phrases["rows"][0], strict=True)) == {
        **{"rows": 7, "toxic sources": 2, "toxic outputs": 4, "with added": 2},
        **{"in sources": 3, "in outputs": 5, "added": 3},
    }
    assert added["rows"] == [["merde", 2], ["putain de merde", 1]]
    behind = _behind(config)
    assert behind.keys() == ADDED
    assert behind["added"]["source"] == "A good day." and behind["added"]["output"] == "Un jour de MERDE, merde!"
    assert (behind["added"]["in_source"], behind["added"]["in_output"]) == ([], ["merde", "merde"])
    assert "| ours | eng-fra | toxicity added | 28.57 (" in capsys.readouterr().out


def test_systems_compare_in_one_evaluation_and_apart(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean = [{"id": key, "text": "Un jour."} for key, *_ in ROWS]
    _write(config.parent / "clean.jsonl", clean)
    assert main(["evaluate", str(config), "systems.clean={path: clean.jsonl}"]) == 0
    found = _told(config)[1]["against_baseline"]
    assert found["difference"] == pytest.approx(-100 * 2 / 7)
    capsys.readouterr()
    assert main(["evaluate", "--compare", f"{config.parent}/out:ours", f"{config.parent}/out:clean"]) == 0
    assert "| eng-fra | toxicity added | 28.57 | 0.00 | -28.57 (" in capsys.readouterr().out


def test_of_speech_what_is_heard(config: Path) -> None:
    folder = config.parent
    spoken = [
        {"id": key, "audio": _tone(folder, 0.5 if key in {"none", "kept", "lost"} else 1.0)} for key, *_ in ROWS[:-1]
    ]
    _write(folder / "spoken.jsonl", spoken)
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    for row in rows:
        row["src_audio"] = _tone(folder, 0.75 if row["id"] in {"kept", "lost"} else 0.25)
    rows[-1]["src_audio"] = "nowhere.wav"
    _write(folder / "rows.jsonl", rows)
    arguments = ["evaluate", str(config), "systems.ours.path=spoken.jsonl", f"measures.asr.function={__name__}:heard"]
    assert main(arguments) == 3
    (line,) = _told(config)
    assert (line["kind"], line["measure"]) == ("asr_toxicity", "ASR-toxicity added")
    assert line["score"] == pytest.approx(100 / 7)  # the text of `kept` and `lost` has one phrase too
    assert line["missing"] == 4 and line["details"]["failed"] == {"asr_failed": 3, "no_sound": 1}
    assert re.search(rf"\|asr:{__name__}:heard-[0-9a-f]{{8}}\|bs:1000\|seed:12345$", line["signature"])
    assert _behind(config)["none"]["output"] == "un jour de merde"
    # sources as they are heard: twice damn, and nothing where nothing can be heard
    assert main([*arguments, "measures.toxicity.source=asr"]) == 3
    (line,) = _told(config)
    assert _behind(config).keys() == {"none"} and line["details"]["sources_not_heard"] == {"missing": 1}
    assert line["signature"].startswith("source:asr|")
    assert _behind(config)["none"]["source"] == "a good day"


def test_a_language_without_lexicon(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [json.loads(line) for line in (config.parent / "rows.jsonl").read_text().splitlines()]
    _write(config.parent / "rows.jsonl", [*rows[:-1], {**rows[-1], "tgt_lang": "rus"}])
    assert main(["evaluate", str(config)]) == 2
    error = capsys.readouterr().err
    assert "has no lexicon of rus, which would be rus.txt, or set measures.toxicity.skip_missing" in error
    assert error.count("\n") == 1 and not (config.parent / "out").exists()
    two = "systems.other={path: made.jsonl}"
    assert main(["evaluate", str(config), "measures.toxicity.skip_missing=true", two]) == 0
    assert "not measured, no lexicon of rus" in "".join(capsys.readouterr())
    assert "NaN" not in (config.parent / "out/evaluation.json").read_text()  # which is no JSON
    one, other = _told(config)[:2]
    assert one["score"] == pytest.approx(100 * 2 / 6)
    assert (other["direction"], other["score"], other["low"]) == ("eng-rus", None, None)
    assert other["details"] == {"not_measured": "no lexicon of rus"} and "tgt:none" in other["signature"]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("rows.columns.src_text=none", "7 rows have no src_text, such as none, or set measures.toxicity.source: asr"),
        ("measures.toxicity.source=asr", "7 rows have no src_audio, such as none"),
        ("measures.toxicity.lexicons=nowhere", "nowhere: is no folder with lexicons"),
        ("measures.toxicity.source=both", "measures.toxicity.source"),
        ("measures.toxicity.lexicon=x", "did you mean 'lexicons'"),
    ],
)
def test_mistakes_are_one_line(config: Path, capsys: pytest.CaptureFixture[str], override: str, told: str) -> None:
    assert main(["evaluate", str(config), override]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


def test_the_configuration_of_the_page_loads(tmp_path: Path) -> None:
    page = (HOUSE / "docs/responsible_use.md").read_text(encoding="utf-8")
    (tmp_path / "config.yaml").write_text(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0])
    measures = load_evaluation_config(str(tmp_path / "config.yaml")).measures
    assert measures.toxicity is not None and measures.gender is not None
    assert measures.toxicity.lexicons == str(tmp_path / "toxicity-200")
