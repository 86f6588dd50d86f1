"""Speech to speech, from end to end: French prompts that people speak become English speech, which is transcribed.

    python -m benchmarks.vocoder --cache .cache          units and a vocoder of English speech by espeak-ng
    python -m benchmarks.speech_to_speech --cache .cache --vocoder runs/vocoder/fbank-1000-1200 [--pairs 32]

The English texts of some of Asterisk's French prompts are said by the voice that the vocoder has learnt, and become
units. A `tiny` UnitY learns French speech into English text and units; then it translates the prompts that it learnt,
and as many others, into sound, which Whisper-base transcribes. Printed is BLEU of these transcripts (ASR-BLEU) against
the English texts, both in lower case without punctuation, beside that of the voice itself and of speech that is made
again from the voice's own units: no translation can be expected to sound better. So few pairs teach no language: what
was learnt shows that all parts fit together, what was not what so little data gives.
"""

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
import soxr
import yaml

from benchmarks.prompts import samples_of
from benchmarks.vocoder import spoken
from seamlessalign.audio import encode
from seamlessalign.espeak import speak_afresh
from seamlessalign.pipelines.demo_sources import fetch_prompts, num_words, say
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.training.unity.config import load_unity_config
from seamlessalign.training.vocabulary_config import load_vocabulary_config

Float32 = npt.NDArray[np.float32]

_VOICE = "en-us"  # that benchmarks.vocoder teaches
_WORDS = range(4, 13)  # of an English text
_PARTS = ("learnt", "others")


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the pairs, train, translate, transcribe, print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="where fetched packages are kept")
    parser.add_argument("--vocoder", type=Path, required=True, help="folder that benchmarks.vocoder has worked in")
    parser.add_argument("--output", type=Path, default=Path("runs/speech-to-speech"))
    parser.add_argument("--pairs", type=int, default=32, help="that are learnt; as many others are translated too")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    pairs = make_pairs(options.cache, options.vocoder / "units" / "model", options.pairs)
    write_pairs(pairs, options.output)
    model = learn(options.output, options.vocoder, options.steps, options.threads)
    found = {part: measure(model, options.vocoder / "trained" / "model", pairs[part], options.output / part)
             for part in _PARTS}  # fmt: skip
    (options.output / "figures.json").write_text(json.dumps(found, indent=1, ensure_ascii=False), encoding="utf-8")
    print(table(found))


def make_pairs(cache: Path, units: Path, number: int) -> dict[str, list[dict[str, Any]]]:
    """French speech, English text, and that text as speech and units, of prompts that are learnt and of others."""
    from seamlessalign.training.units.extractor import UnitExtractor
    from seamlessalign.training.units.repeats import reduce_units

    collection = fetch_prompts(cache)
    texts: dict[str, str] = {}  # English words → prompt
    for key in sorted(collection.prompts["fra"]):
        english = collection.english.get(key, "")
        if num_words(english) in _WORDS:
            texts.setdefault(spoken(english), key)
    keys = sorted(texts.values(), key=lambda key: hashlib.sha256(key.encode()).hexdigest())
    if len(keys) < 2 * number:
        raise SystemExit(f"there are {len(keys)} French prompts of that length; ask for at most {len(keys) // 2} pairs")
    rows = [_pair(key, collection.english[key], samples_of(collection.prompts["fra"][key])) for key in keys]
    rows = rows[: 2 * number]
    say(f"units of {len(rows)} English texts …")
    for row, frames in zip(rows, UnitExtractor.load(str(units)).extract_batch([row["said"] for row in rows]),
                           strict=True):  # fmt: skip
        row["units"], row["durations"] = (part.tolist() for part in reduce_units(frames))
    return {"learnt": rows[:number], "others": rows[number:]}


def _pair(key: str, english: str, waveform: Float32) -> dict[str, Any]:
    made, rate = speak_afresh(english, _VOICE)
    said = np.asarray(soxr.resample(made, rate, SAMPLE_RATE), np.float32)
    return {"id": key, "text": english, "waveform": waveform, "said": said}


def write_pairs(pairs: Mapping[str, Sequence[dict[str, Any]]], folder: Path) -> None:
    """Both parts as Parquet, and the English texts that are learnt as lines."""
    for part, rows in pairs.items():
        table = {
            "id": [row["id"] for row in rows],
            "audio": [{"bytes": encode(row["waveform"], "flac"), "path": None} for row in rows],
            "text": [row["text"] for row in rows],
            "units": pa.array([row["units"] for row in rows], pa.list_(pa.int32())),
        }
        pq.write_table(pa.table(table), folder / f"{part}.parquet")
    (folder / "texts.txt").write_text("".join(f"{row['text']}\n" for row in pairs["learnt"]), encoding="utf-8")


def learn(folder: Path, vocoder: Path, steps: int, threads: int) -> Path:
    """Learn a vocabulary, then the pairs; the model's folder."""
    from seamlessalign.training.unity.train import train_unity
    from seamlessalign.training.vocabulary_training import train_vocabulary

    vocabulary = {
        "output": "vocabulary",
        "data": [{"kind": "lines", "path": "texts.txt", "lang": "eng"}],
        "languages": ["eng", "fra"],
        "size": 150,
    }
    say(train_vocabulary(load_vocabulary_config(str(_yaml(folder / "vocabulary.yaml", vocabulary)))))
    learnt = {
        "kind": "parquet",
        "path": "learnt.parquet",
        "id": "id",
        "both_ways": False,
        "src": {"lang": "fra", "audio": "audio"},
        "tgt": {"lang": "eng", "text": "text", "units": "units"},
    }
    about = json.loads((vocoder / "units" / "model" / "units.json").read_text(encoding="utf-8"))
    training = {
        "output": str(folder / "training"),
        "model": {
            "size": "tiny",
            "vocabulary": "vocabulary",
            "num_units": about["units"],
            "unit_languages": ["eng"],
            "dropout": 0.0,
        },
        "data": {"train": [learnt], "validation": [learnt], "tasks": ["s2st"], "batches": {"max_frames": 6000}},
        "loss": {"label_smoothing": 0.0},
        "optimiser": {"steps": steps, "lr": 1e-3, "warmup": 50, "weight_decay": 0.0},
        "validation": {"every": max(1, steps // 4)},
        "checkpoint_every": 100,
        "resources": {"device": "cpu", "threads": threads},
    }
    config = load_unity_config(str(_yaml(folder / "training.yaml", training)))
    trained = train_unity(config)
    if not trained.finished:
        raise SystemExit("stopped; the same command goes on")
    return trained.folder / "model"


def measure(model: Path, vocoder: Path, rows: Sequence[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """What Whisper hears in translations, in the voice itself, and in the voice made again of its units; with BLEU."""
    import sacrebleu

    from seamlessalign.training.unity.generation import Source, load_translator
    from seamlessalign.training.vocoder.model import load_vocoder
    from seamlessalign.whisper import load_whisper

    translator = load_translator(model, device="cpu", vocoder=vocoder)
    sources = [Source("eng", waveform=row["waveform"]) for row in rows]
    made = translator.translate_rows(sources, speak=True)
    voice = load_vocoder(vocoder)
    sounds = {
        "the voice itself": [row["said"] for row in rows],
        "made of its units": [voice.speak(row["units"], "eng") for row in rows],
        "translated": [one.waveform if one.waveform is not None else np.zeros(1600, np.float32) for one in made],
    }
    folder.mkdir(exist_ok=True)
    for row, sound in zip(rows[:5], sounds["translated"], strict=False):
        soundfile.write(folder / f"{row['id'].replace('/', '-')}.wav", sound, SAMPLE_RATE)
    whisper = load_whisper()
    wanted = [spoken(row["text"]) for row in rows]
    text = [spoken(one.text) for one in made]
    found: dict[str, Any] = {
        "wanted": wanted,
        "text": {"bleu": sacrebleu.corpus_bleu(text, [wanted]).score, "said": text},
    }
    for name, some in sounds.items():
        heard = [spoken(one.text) for (one,) in whisper.hear(some, "eng", ["transcribe"])]
        found[name] = {"bleu": sacrebleu.corpus_bleu(heard, [wanted]).score, "said": heard}
    return found


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """BLEU of each kind of output, and some sentences."""
    names = ("text", "translated", "made of its units", "the voice itself")
    head = {"text": "BLEU of text", **{name: f"ASR-BLEU, {name}" for name in names[1:]}}
    lines = ["| prompts | " + " | ".join(head[name] for name in names) + " |", "|---" * 5 + "|"]
    for part, row in found.items():
        lines.append(f"| {part} | " + " | ".join(f"{row[name]['bleu']:.1f}" for name in names) + " |")
    lines.append("")
    for wanted, text, heard in list(
        zip(found["learnt"]["wanted"], found["learnt"]["text"]["said"], found["learnt"]["translated"]["said"],
            strict=True)
    )[:5]:  # fmt: skip
        lines += [f"  wanted     {wanted}", f"  text       {text}", f"  heard      {heard}"]
    return "\n".join(lines)


def _yaml(path: Path, settings: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(dict(settings), sort_keys=False), encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
