"""Whether a small vocoder can be understood: sentences as they were said, and made again from their units alone.

    python -m benchmarks.vocoder --cache .cache [--units whisper] [--recipe training/vocoder/recipe.yaml] [key=value …]

English sentences are said by one voice of espeak-ng. Each 20 ms of them becomes one of a few hundred units by k-means,
of the last layer of Whisper-base's encoder or of log-mel filterbanks; a vocoder is taught (or gone on with) as the
recipe says; and sentences that it has not learnt are made from their units. Whisper-base transcribes both. The voice is
made by rules and is the only one, so the figures say that the parts fit, and little of people's speech.
"""

import argparse
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import soxr

from seamlessalign import storage
from seamlessalign.audio import encode
from seamlessalign.errors import InputError
from seamlessalign.espeak import speak_afresh
from seamlessalign.pipelines.demo_sources import fetch_prompts, say
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.training.units.repeats import reduce_units
from seamlessalign.typed_config import checked, digest
from seamlessalign.whisper import load_whisper

Float32 = npt.NDArray[np.float32]

_VOICE = "en-us"
_WORDS = range(5, 13)  # of a sentence


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the data, train, measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="where fetched packages are kept")
    parser.add_argument("--work", type=Path, default=Path("runs/vocoder"), help="folder to work in")
    parser.add_argument("--recipe", type=Path, default=Path("training/vocoder/recipe.yaml"))
    parser.add_argument(
        "--units", choices=["whisper", "fbank"], default="fbank", help="what is clustered (default: %(default)s)"
    )
    parser.add_argument("--clusters", type=int, default=1000, help="kinds of units (default: %(default)s)")
    parser.add_argument("--sentences", type=int, default=1200, help="that are learnt (default: %(default)s)")
    parser.add_argument("--held-out", type=int, default=40, help="that are measured (default: %(default)s)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of the recipe")
    options = parser.parse_args(arguments)
    place = options.work / f"{options.units}-{options.clusters}-{options.sentences}"
    make_speech(options, place)

    from seamlessalign.training.vocoder.config import load_vocoder_config
    from seamlessalign.training.vocoder.train import train_vocoder

    sources = {"train": [_source(place / "learnt.parquet")], "validation": [_source(place / "held-out.parquet")]}
    told = [f"data.{name}={json.dumps(value)}" for name, value in sources.items()]
    told += [f"output={place / 'trained'}", f"model.units={options.clusters}", *options.overrides]
    trained = train_vocoder(load_vocoder_config(str(options.recipe), told))
    if not trained.finished:
        raise SystemExit("stopped; the same command goes on")
    found = measured(place, trained.folder / "model", options.held_out)
    storage.write_bytes_atomic(str(place / "vocoder.json"), (json.dumps(found, indent=1) + "\n").encode())
    print(table(found))


def _source(file: Path) -> dict[str, str]:
    return {"kind": "parquet", "path": str(file.absolute())}


# Speech and its units


def make_speech(options: argparse.Namespace, place: Path) -> None:
    """Write sentences with sound and units as `learnt.parquet` and `held-out.parquet`, once."""
    about = digest([options.units, options.clusters, options.sentences, options.held_out, _VOICE, list(_WORDS)])
    mark = place / "made.txt"
    if mark.is_file() and mark.read_text() == about:
        return
    texts = sentences(options.cache, options.sentences + options.held_out)
    say(f"{len(texts)} sentences are said by {_VOICE} …")
    sounds = []
    for text in texts:
        samples, rate = speak_afresh(text, _VOICE)
        sounds.append(np.asarray(soxr.resample(samples, rate, SAMPLE_RATE), np.float32))
    audio = [{"bytes": encode(sound, "flac"), "path": None} for sound in sounds]
    lines = [
        {"text": text, "audio": one, "lang": "eng", "speaker": _VOICE} for text, one in zip(texts, audio, strict=True)
    ]
    _write(place / "to-cluster.parquet", lines[: options.sentences])
    for line, frames in zip(lines, units_of(sounds, options, place), strict=True):
        line["units"], line["durations"] = (part.tolist() for part in reduce_units(frames))
    _write(place / "learnt.parquet", lines[: options.sentences])
    _write(place / "held-out.parquet", lines[options.sentences :])
    storage.write_bytes_atomic(str(mark), about.encode())


def _write(file: Path, lines: list[dict[str, Any]]) -> None:
    storage.write_table(str(file), pa.Table.from_pylist(lines), row_group_size=50)


def sentences(cache: Path, count: int) -> list[str]:
    """Plain English sentences of a few words, always the same."""
    plain = [
        text
        for text in fetch_prompts(cache).distractors
        if len(text.split()) in _WORDS and re.fullmatch(r"[A-Z][A-Za-z' ,]+[.!?]", text)
    ]
    if len(plain) < count:
        raise InputError(f"there are only {len(plain)} sentences; ask for fewer")
    order = np.random.default_rng(0).permutation(len(plain))
    return [plain[i] for i in order[:count]]


def units_of(sounds: Sequence[Float32], options: argparse.Namespace, place: Path) -> list[npt.NDArray[np.int32]]:
    """Units of each sound, `(num_frames,)`, by centroids of the sentences that are learnt."""
    from seamlessalign.training.units.config import UnitsTrainingConfig
    from seamlessalign.training.units.extractor import UnitExtractor
    from seamlessalign.training.units.train import train_units

    config = {
        "output": str(place / "units"),
        "features": {"kind": options.units},
        "kmeans": {"units": options.clusters},
        "data": {"sources": [_source(place / "to-cluster.parquet")]},
        "resources": {"device": "cpu", "threads": 1},
    }
    train_units(checked(UnitsTrainingConfig, config, "units"))
    say("units …")
    return UnitExtractor.load(str(place / "units" / "model")).extract_batch(sounds)


# Measures


def measured(place: Path, model: Path, count: int) -> dict[str, Any]:
    """Word error rates of held-out sentences as they were said, and as they are made again."""
    from seamlessalign.speech_sources import Sound, load_sound
    from seamlessalign.training.vocoder.model import load_vocoder

    vocoder, file = load_vocoder(model), place / "held-out.parquet"
    lines = storage.read_table(str(file), ["text", "units", "durations"]).to_pylist()[:count]
    said: dict[str, list[Float32]] = {"as said": [], "at true durations": [], "from units alone": []}
    for row, line in enumerate(lines):
        said["as said"].append(load_sound(Sound(str(file), row, "audio"), "", line["text"]))
        said["at true durations"].append(vocoder.speak(line["units"], "eng", durations=line["durations"]))
    began = time.process_time()
    for line in lines:
        said["from units alone"].append(vocoder.speak(line["units"], "eng"))
    cost = (time.process_time() - began) / (sum(map(len, said["from units alone"])) / SAMPLE_RATE)
    truth = [spoken(line["text"]) for line in lines]
    found: dict[str, Any] = {"sentences": len(lines), "seconds_for_a_second": cost}
    whisper = load_whisper()
    for name, sounds in said.items():
        heard = [spoken(one.text) for (one,) in whisper.hear(sounds, "eng", ["transcribe"])]
        found[name] = {"wer": word_error_rate(truth, heard), "heard": heard}
    evaluation = json.loads((model.parent / "evaluation.json").read_text(encoding="utf-8"))
    return {**found, **evaluation["all"], "truth": truth}


def spoken(text: str) -> str:
    """Words in lower case, without what is not heard."""
    return " ".join(re.sub(r"[^a-z0-9' ]+", " ", text.lower()).split())


def word_error_rate(truth: Sequence[str], heard: Sequence[str]) -> float:
    import jiwer

    return float(jiwer.wer(list(truth), list(heard)))


def table(found: dict[str, Any]) -> str:
    lines = [f"{'speech':<20} {'WER':>6}"]
    lines += [f"{name:<20} {line['wer']:6.3f}" for name, line in found.items() if isinstance(line, dict)]
    lines.append(f"{found['sentences']} sentences; mel L1 {found['mel_l1']:.3f}, durations wrong by")
    lines[-1] += f" {found['duration_error']:.2f} frames; {found['seconds_for_a_second']:.3f} processor seconds for one"
    shown = zip(found["truth"], found["from units alone"]["heard"], strict=True)
    return "\n".join([*lines, "", *[f"  {true}\n  → {heard}" for true, heard in list(shown)[:5]]])


if __name__ == "__main__":
    main()
