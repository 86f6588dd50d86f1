"""Speech as text: Whisper on real sound, a user's function that fails, and what was heard before."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import sacrebleu
import soundfile

from seamlessalign.cli import main
from seamlessalign.errors import ConfigError
from seamlessalign.espeak import speak_afresh
from seamlessalign.speech_sources import Sound
from seamlessalign.training.evaluation.asr import hear_sounds
from seamlessalign.training.evaluation.recognisers import Float32, FunctionRecogniser, WhisperRecogniser
from seamlessalign.training.evaluation.text import normaliser

SAID = ["The weather is very nice today.", "We are going to the market tomorrow morning.", "Please close the door."]
CALLS: list[int] = []


def by_length(waveforms: Sequence[Float32], lang: str) -> list[str | None]:
    """A recogniser that tells seconds, cannot bear a second of sound, and has no answer for two."""
    CALLS.append(len(waveforms))
    seconds = [len(waveform) / 16000 for waveform in waveforms]
    if 1.0 in seconds:
        raise ValueError("a second")
    return [None if one == 2.0 else f"{lang} {one:g}" for one in seconds]


def _sounds(folder: Path, seconds: Sequence[float]) -> list[Sound | None]:
    random, found = np.random.default_rng(0), []
    for number, one in enumerate(seconds):
        file = folder / f"{number}.wav"
        soundfile.write(file, random.uniform(-0.1, 0.1, int(16000 * one)), 16000)
        found.append(Sound(str(file)))
    return [*found, None, Sound(str(folder / "nowhere.wav"))]


def test_what_fails_is_told_and_the_rest_is_heard(tmp_path: Path) -> None:
    sounds = _sounds(tmp_path, [0.5, 1.0, 1.5, 2.0])
    recogniser = FunctionRecogniser(f"{__name__}:by_length")
    found = hear_sounds(sounds, "fra", recogniser, str(tmp_path / "kept"))
    assert found.texts == ["fra 0.5", None, "fra 1.5", None, None, None]
    assert found.failed == {1: "asr_failed", 3: "asr_failed", 4: "no_sound", 5: "missing"}
    CALLS.clear()
    assert hear_sounds(sounds, "fra", recogniser, str(tmp_path / "kept")) == found
    assert CALLS == [2, 1, 1]  # only what has no text is heard again
    assert hear_sounds(sounds, "deu", recogniser, str(tmp_path / "kept")).texts[0] == "deu 0.5"


def test_what_is_kept_and_cut_off_is_heard_again(tmp_path: Path) -> None:
    sounds, recogniser = _sounds(tmp_path, [0.5])[:1], FunctionRecogniser(f"{__name__}:by_length")
    hear_sounds(sounds, "fra", recogniser, str(tmp_path / "kept"))
    (file,) = (tmp_path / "kept").iterdir()
    file.write_bytes(file.read_bytes()[:9])
    assert hear_sounds(sounds, "fra", recogniser, str(tmp_path / "kept")).texts == ["fra 0.5"]
    assert json.loads(file.read_text())["text"] == "fra 0.5"


@pytest.mark.parametrize("place", ["nowhere.at.all:f", f"{__name__}:nothing", "no module"])
def test_no_function(place: str) -> None:
    with pytest.raises(ConfigError, match="is no function that can be imported"):
        FunctionRecogniser(place)


@pytest.mark.embedded
@pytest.mark.slow
def test_asr_bleu_by_whisper(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, made = [], []
    for number, text in enumerate(SAID):
        samples, rate = speak_afresh(text, "en-us")
        soundfile.write(tmp_path / f"{number}.flac", samples, rate)
        rows.append({"id": str(number), "src_lang": "fra", "tgt_lang": "eng", "reference": text})
        made.append({"id": str(number), "audio": f"{number}.flac"})
    made[2]["audio"] = "nowhere.flac"
    for name, lines in (("rows", rows), ("made", made)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = {
        "output": str(tmp_path / "out"),
        "rows": {"path": "rows.jsonl"},
        "systems": {"a": {"path": "made.jsonl"}},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(settings))
    assert main(["evaluate", str(tmp_path / "config.yaml"), "measures.speech=[asr_bleu, asr_error_rate]"]) == 3
    assert "a, fra-eng: 3 of 3 sounds heard" in capsys.readouterr().err
    bleu, wer = json.loads((tmp_path / "out/evaluation.json").read_text())["scores"]
    heard = WhisperRecogniser().hear([_read(tmp_path / f"{number}.flac") for number in range(2)], "eng")
    plain = normaliser("eng")
    expected = sacrebleu.corpus_bleu([*map(plain, map(str, heard)), ""], [list(map(plain, SAID))], force=True).score
    assert (bleu["measure"], bleu["score"]) == ("ASR-BLEU", pytest.approx(expected))
    assert (bleu["rows"], bleu["missing"], bleu["details"]) == (3, 1, {"failed": {"missing": 1}})
    assert "|norm:whisper-english-" in bleu["signature"] and "|asr:whisper-base-" in bleu["signature"]
    assert (wer["measure"], wer["higher_is_better"]) == ("ASR-WER", False)


def _read(file: Path) -> Float32:
    from seamlessalign.speech_sources import load_sound

    return load_sound(Sound(str(file)), "", file.name)
