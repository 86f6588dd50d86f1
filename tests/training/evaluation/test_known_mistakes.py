"""What is wrong in Meta's evaluator of SeamlessM4T, each mistake as a test that it does not pass."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sacrebleu
import soundfile
from whisper_normalizer.english import EnglishTextNormalizer

from seamlessalign.cli import main
from seamlessalign.languages import all_languages
from seamlessalign.training.evaluation.recognisers import Float32, WhisperRecogniser
from seamlessalign.training.evaluation.text import UNSPACED, text_measure
from tests.ground import tiny_whisper

SAID = ["It's 20 dollars, Mr. Smith!", "The colour of the house is red.", "NA", "We aren't going home tomorrow."]
HEARD = {0.1: "it is twenty dollars mister smith", 0.2: "The color of the house is red", 0.3: "na"}


def hear(waveforms: Sequence[Float32], lang: str) -> list[str]:
    """What was heard, by the length of a sound; the fourth fails, and with it every batch that it is in."""
    return [HEARD[round(len(one) / 16000, 1)] for one in waveforms]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    rows, texts, sounds = [], [], []
    for number, text in enumerate(SAID):
        sound = np.random.default_rng(number).uniform(-0.1, 0.1, 1600 * (number + 1))
        soundfile.write(tmp_path / f"{number}.wav", sound, 16000)
        rows.append({"id": str(number), "src_lang": "tgl", "tgt_lang": "eng", "reference": text})
        texts.append({"id": str(number), "text": text})
        sounds.append({"id": str(number), "audio": f"{number}.wav"})
    for name, lines in (("rows", rows), ("texts", texts), ("sounds", sounds)):
        _jsonl(tmp_path / f"{name}.jsonl", lines)
    told = {
        "output": str(tmp_path / "out"),
        "rows": {"path": "rows.jsonl"},
        "systems": {"wrote": {"path": "texts.jsonl"}, "spoke": {"path": "sounds.jsonl"}},
        "measures": {"speech": ["asr_bleu", "asr_error_rate"], "asr": {"function": f"{__name__}:hear"}},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(told))
    return tmp_path / "config.yaml"


def _jsonl(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _scores(config: Path) -> dict[tuple[str, str], dict[str, Any]]:
    assert main(["evaluate", str(config)]) == 3  # the recogniser fails on one sound
    told = json.loads((config.parent / "out/evaluation.json").read_text(encoding="utf-8"))
    return {(line["system"], line["measure"]): line for line in told["scores"]}


def test_what_is_heard_is_normalised_on_both_sides(config: Path) -> None:
    """There the normaliser is loaded and left aside, so that ASR-BLEU compares case and punctuation."""
    found = _scores(config)["spoke", "ASR-BLEU"]
    plain, made = EnglishTextNormalizer(), [*HEARD.values(), ""]
    normalised = sacrebleu.corpus_bleu([plain(text) for text in made], [[plain(text) for text in SAID]]).score
    raw = sacrebleu.corpus_bleu(made, [SAID]).score
    assert found["score"] == pytest.approx(normalised) and raw < normalised / 2
    assert "|norm:whisper-english-" in found["signature"]


@pytest.mark.parametrize("lang", ["cmn", "jpn", "tha", "lao", "mya", "eng", "fra", "kor", "vie", "yue"])
def test_an_error_rate_of_characters_is_called_so(lang: str) -> None:
    """There it is called WER in every language."""
    measure = text_measure("error_rate", lang)
    of_characters = lang in UNSPACED
    assert of_characters == (lang in {"cmn", "jpn", "tha", "lao", "mya"})  # the five of the paper
    assert measure.name == ("CER" if of_characters else "WER")
    assert ("unit:char" in measure.signature()) == of_characters
    edits = measure.statistics(["abd efg"], [["abc efg"]]).tolist()
    assert edits == [[1, 6] if of_characters else [1, 2]]


def test_what_fails_in_a_batch_stays_in_the_score(config: Path) -> None:
    """There the outputs of a batch that fails are left out, and the score is of fewer rows."""
    found = _scores(config)
    for measure in ("ASR-BLEU", "ASR-WER"):
        line = found["spoke", measure]
        assert (line["rows"], line["missing"], line["details"]["failed"]) == (4, 1, {"asr_failed": 1})
    # all is heard as it was said, but for the sentence that was not heard at all
    words = [len(EnglishTextNormalizer()(text).split()) for text in SAID]
    assert found["spoke", "ASR-WER"]["score"] == pytest.approx(100 * words[3] / sum(words))


def test_na_is_a_text(config: Path) -> None:
    """There tables go through pandas, where NA is a number that there is not."""
    for name, text in (("texts", "text"), ("rows", "reference")):
        lines = [json.loads(line) for line in (config.parent / f"{name}.jsonl").read_text().splitlines()]
        head = list(lines[0])
        content = "\n".join("\t".join(line[key] for key in head) for line in lines)
        (config.parent / f"{name}.tsv").write_text("\t".join(head) + "\n" + content + "\n")
        assert text in head
    told = json.loads(config.read_text())
    told["rows"]["path"], told["systems"]["wrote"]["path"] = "rows.tsv", "texts.tsv"
    config.write_text(json.dumps(told))
    found = _scores(config)["wrote", "BLEU"]
    assert (found["rows"], found["missing"], found["score"]) == (4, 0, pytest.approx(100))


def test_tagalog_and_every_other_language_has_its_measures(config: Path) -> None:
    """There `tgl` is missing from a table, and raises KeyError."""
    lines = [json.loads(line) for line in (config.parent / "rows.jsonl").read_text().splitlines()]
    _jsonl(config.parent / "rows.jsonl", [line | {"src_lang": "eng", "tgt_lang": "tgl"} for line in lines])
    assert _scores(config)["spoke", "ASR-BLEU"]["rows"] == 4
    for language in all_languages():
        for name in ("bleu", "chrf++", "error_rate"):
            measure = text_measure(name, language.iso639_3)
            assert measure.statistics(["a b c d"], [["a b c d"]]).shape[0] == 1


def test_another_whisper_of_the_same_name_is_another_signature(tmp_path: Path) -> None:
    """There the default Whisper became another one, and scores before and after have the same name."""
    told = []
    for seed in (0, 1):
        folder = tmp_path / f"{seed}" / "whisper"
        files = tiny_whisper.save_directory(folder, tiny_whisper.tiny_model(seed))
        told.append(WhisperRecogniser("whisper", str(folder)).signature)
        assert f"asr:whisper-{files.sha256[:8]}|" in told[-1]
    assert told[0] != told[1]
    assert re.sub("[0-9a-f]{8}", "", told[0]) == re.sub("[0-9a-f]{8}", "", told[1])
