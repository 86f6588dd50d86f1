"""A tiny model learns a few pairs by heart, through all that a training does: the benchmark of that name on less."""

import io
from pathlib import Path

import pytest
import soundfile
import soxr

from benchmarks.overfit import evaluate, learn, made_units, write_data
from seamlessalign.espeak import speak_afresh
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.training_folder import TrainingFolder

PAIRS = (
    ("bonjour", "good morning"),
    ("au revoir", "see you later"),
    ("merci beaucoup", "thank you very much"),
    ("un café", "a cup of coffee"),
)


@pytest.mark.slow
def test_speech_becomes_the_texts_and_units_that_were_learnt(tmp_path: Path) -> None:
    pytest.importorskip("sacrebleu", reason="needs sacrebleu of the extra 'train'")
    rows = []
    for number, ((source, text), units) in enumerate(zip(PAIRS, made_units([text for _, text in PAIRS]), strict=True)):
        samples, rate = speak_afresh(source, "fr")
        samples = soxr.resample(samples, rate, SAMPLE_RATE)
        file = io.BytesIO()
        soundfile.write(file, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        heard, _ = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")
        rows.append({"id": str(number), "text": text, "audio": file.getvalue(), "samples": heard, "units": units})
    write_data(rows, tmp_path)
    folder = learn(tmp_path, steps=150, threads=1, pieces=40)
    found = evaluate(folder / "model", rows)
    assert found["BLEU"] == pytest.approx(100) and found["texts that are whole, %"] == 100
    assert found["unit sequences that are whole, %"] == 100 and found["edits of units, % of them"] == 0
    last = [line for line in TrainingFolder(str(folder)).lines() if "directions" in line][-1]
    assert last["directions"]["s2st fra-eng"]["t2u_accuracy"] == 1
