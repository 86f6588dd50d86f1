"""The benchmarks of the evaluator: what they compare is the same, and their tables say what was found."""

import json
from pathlib import Path

import pytest
import yaml

from benchmarks import prompts_robustness
from benchmarks.evaluation import _CHANGED, _evaluation, _ours, _peer, _write, texts
from benchmarks.prompts_evaluation import configuration, summary, write_test_set
from seamlessalign.pipelines.demo_sources import LANGUAGES, Prompt, PromptCollection
from seamlessalign.training.evaluation.config import EvaluationConfig, load_evaluation_config
from seamlessalign.training.evaluation.rows import read_outputs, read_test_rows
from tests.training.evaluation.datasets.layouts import hertz_of, tone


def test_what_is_timed_finds_what_sacrebleu_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.evaluation._SAMPLES", 100)
    made = texts(40)
    ours, peer = _ours(made), _peer(made)
    assert ours.keys() == peer.keys()
    assert ours == pytest.approx(peer, abs=1e-9)
    _write(tmp_path, made)
    whole = _evaluation(str(tmp_path))
    assert {key: whole[key] for key in peer if key in whole} == pytest.approx(
        {key: value for key, value in peer.items() if not key.startswith("p ")}
    )
    assert len(whole) == 5 * len(_CHANGED)


def test_prompts_become_an_evaluation_of_robustness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = dict[str, dict[str, Prompt]]()
    keys = {"a": "one two three four five", "b/c": "one two three four five six", "short": "one two three four"}
    sounds = tmp_path / "package/usr/share/asterisk/sounds/it_IT_f_Menardi"
    for number, lang in enumerate(("fra", "ita")):
        prompts[lang] = {}
        for place, key in enumerate(keys):
            for file in (tmp_path / lang / f"{key}.wav", sounds / f"{key}.wav"):
                tone(file, 1000 * (number + 1) + 100 * place)
            prompts[lang][key] = Prompt(key, f"{lang} {key}", tmp_path / lang / f"{key}.wav")
    found = PromptCollection(prompts, keys, (), {}, {}, "")
    monkeypatch.setattr(prompts_robustness, "fetch_prompts", lambda cache: found)
    monkeypatch.setattr(prompts_robustness, "fetch_package", lambda package, cache: tmp_path / "package")
    made = list(prompts_robustness.rows(tmp_path))
    assert [row["id"] for row in made] == [
        f"{key}/{what}" for key in ("a", "b/c") for what in ("fra", "fra-eng", "Carlo", "Menardi")
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    read = read_test_rows(str(tmp_path / "rows.jsonl"))
    assert [row.speaker for row in read] == ["June", "June", "Carlo", "Menardi"] * 2
    assert read[0].references == ("fra a",) and read[7].references == (keys["b/c"],)
    told = {"output": "", "rows": {"path": ""}, **prompts_robustness.CONFIGURATION}
    assert EvaluationConfig.model_validate(told).measures.speakers is not None


def test_prompts_become_one_evaluation(tmp_path: Path) -> None:
    prompts = dict[str, dict[str, Prompt]]()
    for number, lang in enumerate(LANGUAGES):
        prompts[lang] = {}
        for place, key in enumerate(("a", "digits/b")):
            file = tmp_path / "found" / lang / f"{key}.wav"
            tone(file, 1000 * (number + 1) + 100 * place)
            prompts[lang][key] = Prompt(key, f"{lang} {key}", file)
    write_test_set(prompts, tmp_path)
    rows = read_test_rows(str(tmp_path / "rows.jsonl"))
    assert len(rows) == 2 * len(LANGUAGES)
    outputs = read_outputs("people", str(tmp_path / "people.jsonl"), rows)
    assert not outputs.missing
    for row, output in zip(rows, outputs.outputs, strict=True):
        assert output.sound == row.src_sound
        assert row.references == (row.id.replace("/", " ", 1),)
    assert len({hertz_of(row) for row in rows}) == len(rows)
    wide = [json.loads(line) for line in (tmp_path / "parallel.jsonl").read_text().splitlines()]
    assert [(row["id"], row["fra"], row["rus_audio"]) for row in wide] == [
        ("a", "fra a", "audio/rus/a.wav"),
        ("digits/b", "fra digits/b", "audio/rus/digits/b.wav"),
    ]
    (tmp_path / "evaluation.yaml").write_text(yaml.safe_dump(configuration(tmp_path)))
    config = load_evaluation_config(str(tmp_path / "evaluation.yaml"))
    assert config.measures.asr.kept == str(tmp_path / "asr")
    assert config.tasks() == ["encoders"]
    write_test_set(prompts, tmp_path, every=2)
    assert len((tmp_path / "parallel.jsonl").read_text().splitlines()) == 1
    assert len(read_test_rows(str(tmp_path / "rows.jsonl"))) == 2 * len(LANGUAGES)


def test_the_summary_says_what_was_found() -> None:
    about = {"low": 1.0, "high": 3.0, "score": 2.04}
    scores = [
        {
            "task": "translation",
            "system": "people",
            "direction": f"{lang}-{lang}",
            "kind": kind,
            "measure": kind,
            **about,
        }
        for lang in LANGUAGES
        for kind in ("asr_error_rate", "asr_bleu", "asr_chrf++")
    ]
    found = {"task": "encoders", "system": "e", "direction": "frA-eng", "kind": "xsim", "measure": "xsim"} | about
    text = found | {"direction": "fra-eng"}
    lines = summary({"scores": [*scores, found, text, text | {"system": "f"}]}).splitlines()
    assert "| eng | 2.0 (1.0 to 3.0) | 2.0 (1.0 to 3.0) | 2.0 (1.0 to 3.0) |" in lines
    assert lines[-2:] == ["| e | frA-eng | 2.0 |", "| e5-small | fra-eng | 2.0 |"]
