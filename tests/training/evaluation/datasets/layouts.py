"""Small made-up test sets in the layouts of published ones: their sentences and tones are ours."""

import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile

from seamlessalign.speech_sources import load_sound
from seamlessalign.training.evaluation.rows import TestRow

SENTENCES = {
    "en_us": ["The cat sleeps.", 'He said "NA".', "It rains.", "Go home."],
    "fr_fr": ["Le chat dort.", 'Il a dit "NA".', "Il pleut.", "Rentre chez toi."],
    "fil_ph": ["Natutulog ang pusa.", 'Sabi niya "NA".', "Umuulan.", "Umuwi ka."],
}


def tone(file: Path, hertz: int) -> None:
    """A tenth of a second of a tone, by which a file is known again."""
    file.parent.mkdir(parents=True, exist_ok=True)
    seconds = np.arange(1600) / 16000
    # the format by its name, whatever is behind it
    kind = "MP3" if file.suffix == ".mp3" else "WAV"
    soundfile.write(file, 0.3 * np.sin(2 * np.pi * hertz * seconds), 16000, format=kind)


def hertz_of(row: TestRow, *, reference: bool = False) -> int:
    """The tone of a row, to 10 Hz."""
    sound = row.reference_sound if reference else row.src_sound
    assert sound is not None
    samples = load_sound(sound, "", "a row")
    strongest = int(np.argmax(np.abs(np.fft.rfft(samples, 16000))))
    return round(strongest, -1)


def fleurs(root: Path, said: Mapping[str, Sequence[tuple[int, str]]], *, packed: bool = False) -> Path:
    """locale → (number of the sentence, name of the recording) of each line. Tones are 100 Hz apart, locales 1000."""
    for place, (locale, lines) in enumerate(said.items()):
        folder = root / "data" / locale
        rows = []
        for number, (sentence, name) in enumerate(lines):
            tone(folder / "audio/test" / f"{name}.wav", 1000 * (place + 1) + 100 * number)
            text = SENTENCES[locale][sentence]
            plain = text.lower().strip(".")
            rows.append("\t".join([str(sentence), f"{name}.wav", text, plain, "|".join(plain), "1600", "FEMALE"]))
        (folder / "test.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        if packed:
            with tarfile.open(folder / "audio/test.tar.gz", "w:gz") as tar:
                tar.add(folder / "audio/test", "test")
            for file in (folder / "audio/test").iterdir():
                file.unlink()
            (folder / "audio/test").rmdir()
    return root


def flores(root: Path, texts: Mapping[str, Sequence[str]], split: str = "devtest", *, plus: bool = False) -> Path:
    """name → sentences."""
    folder = root / split if plus else root / "flores200_dataset" / split
    folder.mkdir(parents=True)
    for name, some in texts.items():
        if plus:
            rows = [{"id": number + 7, "text": text, "domain": "none"} for number, text in enumerate(some)]
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in reversed(rows))
            (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
        else:
            (folder / f"{name}.{split}").write_text("\n".join(some) + "\n", encoding="utf-8")
    return root


def common_voice(root: Path, lang: str, sentences: Mapping[str, str], hertz: int = 1000) -> Path:
    """clip → what is said; the first clips have the lowest tones."""
    lines = ["client_id\tpath\tsentence\tup_votes"]
    for number, (name, said) in enumerate(sentences.items()):
        lines.append(f"speaker{number}\t{name}\t{said}\t2")
        tone(root / lang / "clips" / name, hertz + 100 * number)
    (root / lang / "validated.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root
