"""Whole evaluations of written files against sacrebleu's command line, its paired tests and jiwer on the same files;
and what must not change a score."""

import json
import subprocess
import sys
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import PairedTest
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

from seamlessalign.cli import main
from seamlessalign.training.evaluation.config import EvaluationConfig
from seamlessalign.training.evaluation.evaluate import evaluate
from seamlessalign.training.evaluation.text import UNSPACED

SENTENCES = {
    "eng": "The committee said on Tuesday that 25 people hadn't been there; it's \"not clear\" why (see page 3).",
    "fra": "Le comité a déclaré mardi que l'été 2019 n'avait pas été l'un des plus chauds — « loin de là ».",
    "cmn": "委员会星期二表示，目前有25人不在现场；原因“尚不清楚”（见第3页）。我们将在明天继续讨论这个问题。",
    "jpn": "委員会は火曜日に、25人がまだ現場にいないと述べた。「原因は不明」である（3ページ参照）。",
    "tha": "คณะกรรมการกล่าวเมื่อวันอังคารว่ามี 25 คนที่ไม่ได้อยู่ที่นั่น และยังไม่ทราบสาเหตุ",
    "hin": "समिति ने मंगलवार को कहा कि वहाँ 25 लोग नहीं थे, और कारण अभी तक स्पष्ट नहीं है।",
}
ROWS = 30


def _changed(text: str, random: np.random.Generator, share: float) -> str:
    """Some of the words, or characters where there are no spaces, left out or in another place."""
    spaced = " " if text.count(" ") > 3 else ""
    parts: list[str] = text.split(" ") if spaced else list(text)
    kept = [part for part in parts if random.random() > share]
    for _ in range(int(share * len(kept))):
        kept.insert(int(random.integers(len(kept) + 1)), kept.pop(int(random.integers(len(kept)))))
    return spaced.join(kept)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of two systems in six languages, and each side of each language as a text file."""
    folder = tmp_path_factory.mktemp("agreement")
    random = np.random.default_rng(0)
    rows: list[dict[str, str]] = []
    made: dict[str, list[dict[str, str]]] = {"first": [], "second": []}
    for lang, sentence in SENTENCES.items():
        wanted = [_changed(sentence, random, 0.1) for _ in range(ROWS)]
        texts = {
            name: [_changed(text, random, share) for text in wanted]
            for name, share in (("first", 0.20), ("second", 0.18))
        }
        texts["first"][3], texts["second"][4] = "", "NA"
        for name, lines in {"wanted": wanted, **texts}.items():
            (folder / f"{name}.{lang}").write_text("\n".join(lines) + "\n", encoding="utf-8")
        for number, text in enumerate(wanted):
            rows.append({"id": f"{lang}{number}", "src_lang": "spa", "tgt_lang": lang, "reference": text})
            for name, lines in texts.items():
                made[name].append({"id": f"{lang}{number}", "text": lines[number]})
    for name, written in {"rows": rows, **made}.items():
        if name != "rows":  # draws go by the order of the test set
            random.shuffle(written)
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in written)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    told = {
        "output": str(folder / "bootstrap"),
        "rows": {"path": "rows.jsonl"},
        "systems": {name: {"path": f"{name}.jsonl"} for name in made},
        "measures": {"text": ["bleu", "chrf", "chrf++", "error_rate"]},
        "resampling": {"samples": 200, "exchanges": 200},
    }
    (folder / "config.yaml").write_text(json.dumps(told))
    assert main(["evaluate", str(folder / "config.yaml")]) == 0
    more = ["resampling.test=randomisation", f"output={folder / 'randomisation'}"]
    assert main(["evaluate", str(folder / "config.yaml"), *more]) == 0
    return folder


def _scores(folder: Path, test: str = "bootstrap") -> dict[tuple[str, str, str], dict[str, Any]]:
    told = json.loads((folder / test / "evaluation.json").read_text(encoding="utf-8"))
    return {(line["system"], line["direction"][4:], line["kind"]): line for line in told["scores"]}


def _lines(folder: Path, name: str, lang: str) -> list[str]:
    return (folder / f"{name}.{lang}").read_text(encoding="utf-8").split("\n")[:-1]


@pytest.mark.slow
@pytest.mark.parametrize("lang", SENTENCES)
def test_scores_and_intervals_are_those_of_sacrebleus_command_line(folder: Path, lang: str) -> None:
    scores = _scores(folder)
    for kind, options in (
        ("bleu", ["-m", "bleu", "-tok", "char" if lang in UNSPACED else "13a"]),
        ("chrf", ["-m", "chrf"]),
        ("chrf++", ["-m", "chrf", "--chrf-word-order", "2"]),
    ):
        command = [sys.executable, "-m", "sacrebleu", f"wanted.{lang}", "-i", f"second.{lang}", *options, "--force"]
        more = ["--confidence", "--confidence-n", "200", "-f", "json", "-w", "10"]
        done = subprocess.run([*command, *more], cwd=folder, capture_output=True, text=True, check=True)
        theirs, ours = json.loads(done.stdout), scores["second", lang, kind]
        assert round(ours["score"], 10) == theirs["score"]
        assert (ours["high"] - ours["low"]) / 2 == pytest.approx(theirs["confidence_var"], abs=1e-4)  # float32
        assert set(ours["signature"].split("|")) == set(theirs["signature"].split("|"))


@pytest.mark.parametrize("lang", SENTENCES)
def test_p_and_error_rates_are_those_of_sacrebleu_and_jiwer(folder: Path, lang: str) -> None:
    wanted, first, second = (_lines(folder, name, lang) for name in ("wanted", "first", "second"))
    tokenize = "char" if lang in UNSPACED else "13a"
    metrics = {"bleu": BLEU(tokenize=tokenize, force=True), "chrf++": CHRF(word_order=2)}
    for test, name in (("bootstrap", "bs"), ("randomisation", "ar")):
        scores = _scores(folder, test)
        _, found = PairedTest([("first", first), ("second", second)], metrics, [wanted], name, 200)()
        for kind, results in zip(metrics, list(found.values())[-len(metrics) :], strict=True):
            theirs: Any = results[1]
            line = scores["second", lang, kind]
            assert line["score"] == theirs.score
            assert line["against_baseline"]["p_value"] == theirs.p_value
    plain = EnglishTextNormalizer() if lang == "eng" else BasicTextNormalizer()
    line = scores["second", lang, "error_rate"]
    reference, heard = ([plain(text) for text in side] for side in (wanted, second))
    if lang in UNSPACED:
        expected = jiwer.cer([text.replace(" ", "") for text in reference], [text.replace(" ", "") for text in heard])
    else:
        expected = jiwer.wer(reference, heard)
    assert line["measure"] == ("CER" if lang in UNSPACED else "WER")
    assert line["score"] == pytest.approx(100 * expected, abs=1e-9)


def test_rows_may_have_different_numbers_of_references(tmp_path: Path) -> None:
    wanted = [["the cat sat on the mat"], ["a dog ran home", "the dog ran to its home", "NA"], ["NA", ""]]
    texts = ["the cat sat on a mat", "a dog ran to its home", "NA"]
    rows = [
        {"id": str(i), "src_lang": "fra", "tgt_lang": "eng", "reference": some[0] if len(some) == 1 else some}
        for i, some in enumerate(wanted)
    ]
    made = [{"id": str(i), "text": text} for i, text in enumerate(texts)]
    for name, lines in (("rows", rows), ("made", made)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = {
        "output": str(tmp_path / "out"),
        "rows": {"path": str(tmp_path / "rows.jsonl")},
        "systems": {"a": {"path": str(tmp_path / "made.jsonl")}},
        "measures": {"text": ["bleu", "chrf++", "wer"]},
        "resampling": {"samples": 10},
    }
    found = {line.kind: line.score for line in evaluate(EvaluationConfig.model_validate(told)).lines}
    streams: Any = [list(stream) for stream in zip_longest(*wanted)]
    bleu, chrf = BLEU(), CHRF(word_order=2)
    assert found["bleu"].value == bleu.corpus_score(texts, streams).score
    assert found["chrf++"].value == chrf.corpus_score(texts, streams).score
    assert found["bleu"].signature == f"{bleu.get_signature()}|bs:10|seed:12345"
    assert found["bleu"].row_signature == found["bleu"].signature.replace("eff:no", "eff:yes").partition("|bs:")[0]
    assert found["wer"].signature.startswith("nrefs:var|unit:word|")
    assert found["wer"].value == pytest.approx(100 * (1 + 1 + 0) / (6 + 6 + 1))


# What must not change a score

WORDS = st.lists(st.sampled_from(["the", "cat", "sat", "a", "dog", ".", "NA", ""]), max_size=6).map(" ".join)
TABLE = st.lists(st.tuples(WORDS, WORDS.map("cat {}".format), st.sampled_from(["eng", "cmn"])), min_size=1, max_size=6)


def _evaluated(
    folder: Path, rows: Sequence[tuple[str, str, str, str]], systems: Sequence[str] = ("a",), order: Sequence[int] = ()
) -> dict[tuple[str, str, str], tuple[float, float | None, float | None]]:
    """(system, direction, measure) → score, difference and p; rows: id, what was made, wanted, and the language."""
    made = [{"id": key, "text": text} for key, text, _, _ in rows]
    there = [{"id": key, "src_lang": "fra", "tgt_lang": lang, "reference": text} for key, _, text, lang in rows]
    if order:
        there = [there[i] for i in order]
    for name, lines in (("rows", there), ("made", made)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = {
        "output": str(folder / "out"),
        "rows": {"path": str(folder / "rows.jsonl")},
        "systems": {name: {"path": str(folder / "made.jsonl")} for name in systems},
        "measures": {"text": ["bleu", "chrf++", "error_rate"]},
        "resampling": {"samples": 20},
    }
    found = {}
    for line in evaluate(EvaluationConfig.model_validate(told)).lines:
        other = line.comparison
        against = (None, None) if other is None else (other.difference, other.p_value)
        found[line.system, line.direction, line.score.measure] = (line.score.value, *against)
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("invariances")


@given(TABLE, st.randoms(use_true_random=False))
@settings(max_examples=4, deadline=None)
def test_neither_order_nor_doubled_rows_nor_other_directions_change_a_score(
    place: Path, table: list[tuple[str, str, str]], random: Any
) -> None:
    rows = [(str(number), *row) for number, row in enumerate(table)]
    whole = _evaluated(place, rows)
    order = list(range(len(rows)))
    random.shuffle(order)
    assert _evaluated(place, rows, order=order) == whole
    doubled = _evaluated(place, [*rows, *((f"{row[0]} again", *row[1:]) for row in rows)])
    for key, (score, *_) in whole.items():
        if key[2] != "BLEU":  # whose smoothing depends on how many n-grams there are
            assert doubled[key][0] == pytest.approx(score)
    apart: dict[Any, Any] = {}
    for lang in ("eng", "cmn"):
        some = [row for row in rows if row[3] == lang]
        apart |= _evaluated(place, some) if some else {}
    assert apart == whole


@given(TABLE)
@settings(max_examples=4, deadline=None)
def test_a_system_and_its_double_do_not_differ(place: Path, table: list[tuple[str, str, str]]) -> None:
    rows = [(str(number), *row) for number, row in enumerate(table)]
    found = _evaluated(place, rows, systems=("a", "b"))
    for (system, direction, measure), (score, difference, p_value) in found.items():
        assert score == found["a", direction, measure][0]
        assert (difference, p_value) == ((None, None) if system == "a" else (0, 1))
