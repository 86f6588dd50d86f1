"""Measure a language identifier on labelled speech: accuracy, F1, confusions, cost, and what thresholds change.

    python -m seamlessalign.lid.evaluate --model whisper-base --data DIR_OR_MANIFEST --out DIR

The data is a folder with a manifest (`path`, `lang`, and `speaker` if it is known), or Parquet with `audio`, `lang`.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from seamlessalign import storage
from seamlessalign.errors import InputError, SeamlessAlignError, UnreadableError
from seamlessalign.label_measures import Measures, measure
from seamlessalign.lid.calibration import Calibration, best
from seamlessalign.lid.measures import rejection_curve
from seamlessalign.lid.pictures import confusion_svg, rejection_svg
from seamlessalign.lid.sources import Crops, read_clips
from seamlessalign.lid.speech import SpeechLid, load_speech_lid
from seamlessalign.lid.training_config import LidData, LidSource
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.speech_sources import load_sound

PREDICTIONS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("lang", pa.string(), nullable=False),  # of the truth
        pa.field("answer", pa.string()),
        pa.field("probability", pa.float64()),
        pa.field("scores", pa.map_(pa.string(), pa.float64())),
    ]
)


@dataclass(frozen=True)
class LengthResult:
    """What an identifier said of clips of one length."""

    seconds: float  # 0: clips as they are
    truth: list[str]  # ISO 639-3
    scores: list[dict[str, float]]  # language → probability
    cost: float  # processor seconds for a second of speech
    ids: list[str] = field(default_factory=list)  # of clips and crops, for people and tables
    unheard: list[tuple[str, str]] = field(default_factory=list)  # id and language of clips that cannot be heard


def evaluation_of(model: str, results: Sequence[LengthResult], calibration: Calibration | None) -> dict[str, Any]:
    """Figures of all lengths as plain values, before and after thresholds."""
    lengths = []
    for result in results:
        answers = [best(scores) for scores in result.scores]
        line: dict[str, Any] = {
            "seconds": result.seconds,
            "cost": round(result.cost, 4),
            **({"unheard": len(result.unheard)} if result.unheard else {}),
            "all": asdict(measure(result.truth, [lang for lang, _ in answers])),
        }
        if calibration is not None:
            cut = [calibration.answer(lang, score) for lang, score in answers]
            line["calibrated"] = asdict(measure(result.truth, cut))
            line["calibrated, rejected left out"] = asdict(measure(result.truth, cut, rejected="left out"))
        lengths.append(line)
    return {"model": model, "rule": calibration.rule if calibration else None, "lengths": lengths}


def write_evaluation(
    folder: Path, evaluation: Mapping[str, Any], results: Sequence[LengthResult], calibration: Calibration | None
) -> None:
    """Write `evaluation.json`, a picture of the confusions of each length, and the curve of rejection."""
    storage.write_bytes_atomic(str(folder / "evaluation.json"), (json.dumps(evaluation, indent=1) + "\n").encode())
    curves, chosen = [], []
    for result in results:
        name = f"{result.seconds:g} s" if result.seconds else "clips"
        answers = [best(scores) for scores in result.scores]
        said = [lang for lang, _ in answers]
        picture = confusion_svg(result.truth, said, f"{evaluation['model']}, {name}")
        place = folder / ("confusion.svg" if len(results) == 1 else f"confusion-{name.replace(' ', '')}.svg")
        storage.write_bytes_atomic(str(place), picture.encode())
        if calibration is None:
            continue
        sure = [calibration.sureness(lang, score) for lang, score in answers]
        curves.append((name, rejection_curve(result.truth, said, sure)))
        cut = measure(result.truth, [calibration.answer(lang, score) for lang, score in answers], rejected="left out")
        chosen.append((1 - cut.answered / cut.clips, cut.macro_f1, f"{name}: {calibration.rule}"))
    if curves:
        picture = rejection_svg(curves, chosen, f"{evaluation['model']}: rejecting what is least sure")
        storage.write_bytes_atomic(str(folder / "rejection.svg"), picture.encode())


def predictions(result: LengthResult) -> pa.Table:
    """What was said of each clip, as `seamlessalign evaluate` reads it: id, lang, answer, probability, scores. A clip
    that cannot be heard has no answer.
    """
    rows: list[dict[str, Any]] = []
    for key, lang, scores in zip(result.ids, result.truth, result.scores, strict=True):
        answer, probability = best(scores)
        rows.append(
            {"id": key, "lang": lang, "answer": answer, "probability": probability, "scores": list(scores.items())}
        )
    rows += [{"id": key, "lang": lang} for key, lang in result.unheard]
    return pa.Table.from_pylist(rows, schema=PREDICTIONS)


def heard(
    lid: SpeechLid,
    source: LidSource,
    seconds: Sequence[float],
    crops: int,
    window_seconds: float = 10.0,
    rejects: Counter[str] | None = None,
) -> list[LengthResult]:
    """What an identifier says of labelled speech.

    Args:
        lid: the identifier.
        source: the speech.
        seconds: lengths of crops, for which clips of one speaker are joined or cut; empty: clips as they are.
        crops: of each language and length.
        window_seconds: of longer crops, what is heard at a time.
        rejects: counts what is left out, by reason: what cannot be read, or is too short for any use.

    Raises:
        InputError: as `read_clips`; or a clip that is too short to be heard.
    """
    data = LidData(train=[source])
    clips = read_clips([source], data, rejects)
    if not seconds:
        whole, there = LengthResult(0.0, [], [], 0.0), Path(source.path)
        root = f"{there if there.is_dir() else there.parent}/"
        cost, total = 0.0, 0.0
        for clip in clips[: crops * len({clip.lang for clip in clips})]:
            try:
                samples = load_sound(clip.sound, clip.text, clip.place)
            except UnreadableError:
                samples = np.zeros(0, np.float32)
            if len(samples) < SAMPLE_RATE // 2:
                whole.unheard.append((clip.place.removeprefix(root), clip.lang))
                continue
            began = time.process_time()
            whole.scores.append(dict(lid.identify(samples, window_seconds=window_seconds)))
            cost += time.process_time() - began
            total += len(samples) / SAMPLE_RATE
            whole.truth.append(clip.lang)
            whole.ids.append(clip.place.removeprefix(root))
        if not whole.truth:
            raise InputError(f"{source.path}: no clip has half a second of sound")
        return [replace(whole, cost=cost / total)]
    made = Crops(clips, [source.weight], data, None, 0)
    results = []
    for length in seconds:
        truth, scores, ids, cost = [], [], [], 0.0
        for number, lang in enumerate(made.languages):
            for place in range(crops):
                samples = made.held_out(number, place, length)
                began = time.process_time()
                scores.append(dict(lid.identify(samples, window_seconds=window_seconds)))
                cost += time.process_time() - began
                truth.append(lang)
                ids.append(f"{lang} crop {place} of {length:g} s")
        results.append(LengthResult(length, truth, scores, cost / (len(truth) * length), ids))
    return results


def source_of(place: Path) -> LidSource:
    """A source by what lies at a path: Parquet, or a folder with a manifest, or the manifest."""
    parquet = place.suffix == ".parquet" or (place.is_dir() and any(place.glob("*.parquet")))
    return LidSource(kind="parquet" if parquet else "folder", path=str(place))


def table(evaluation: Mapping[str, Any]) -> str:
    """A Markdown table: a line for each length."""
    lines = [
        "| seconds | clips | accuracy | macro F1 | after thresholds | rejected | of the others | cost |",
        "|" + "---|" * 8,
    ]
    for line in evaluation["lengths"]:
        whole = line["all"]
        cells = [f"{line['seconds']:g}" if line["seconds"] else "clips", str(whole["clips"])]
        cells += [f"{whole['accuracy']:.3f}", f"{whole['macro_f1']:.3f}"]
        if "calibrated" in line:
            cut, rest = line["calibrated"], line["calibrated, rejected left out"]
            cells += [f"{cut['macro_f1']:.3f}", f"{1 - cut['answered'] / cut['clips']:.3f}", f"{rest['macro_f1']:.3f}"]
        else:
            cells += ["-", "-", "-"]
        lines.append("| " + " | ".join([*cells, f"{line['cost']:.4f}"]) + " |")
    return "\n".join(lines)


def by_language(measures: Measures) -> str:
    """F1 of each language on one line."""
    return ", ".join(f"{lang} {value:.3f}" for lang, value in measures.f1.items())


def arguments_of(description: str) -> argparse.ArgumentParser:
    """What evaluating and calibrating are both told."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", default="whisper-base", help="name of the identifier (default: %(default)s)")
    parser.add_argument("--directory", help="where the model is")
    parser.add_argument("--data", type=Path, required=True, help="labelled speech: a manifest, its folder, or Parquet")
    parser.add_argument(
        "--seconds", type=float, nargs="*", default=[], help="lengths of crops; by default clips as they are"
    )
    parser.add_argument("--crops", type=int, default=100, help="of each language and length (default: %(default)s)")
    parser.add_argument("--window-seconds", type=float, default=10.0, help="heard at a time (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="of torch (default: %(default)s)")
    return parser


def told(command: Callable[[], None]) -> None:
    """Run a command; an error of ours is one line and the exit status that goes with it."""
    try:
        command()
    except SeamlessAlignError as error:
        print(f"seamlessalign: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(error.exit_status) from None


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and write figures and pictures."""
    parser = arguments_of(str(__doc__).splitlines()[0])
    parser.add_argument("--calibration", help="file with thresholds; `none`; by default the model's own")
    parser.add_argument("--out", type=Path, required=True, help="folder for evaluation.json and the pictures")
    options = parser.parse_args(arguments)
    lid = load_speech_lid(options.model, options.directory, options.device, options.calibration)
    rejects: Counter[str] = Counter()
    results = heard(lid, source_of(options.data), options.seconds, options.crops, options.window_seconds, rejects)
    evaluation = evaluation_of(lid.name, results, lid.calibration)
    write_evaluation(options.out, evaluation, results, lid.calibration)
    for result in results:
        name = f"predictions-{result.seconds:g}s" if len(results) > 1 else "predictions"
        storage.write_table(str(options.out / f"{name}.parquet"), predictions(result))
    print(table(evaluation))
    for reason, count in sorted(rejects.items()):
        print(f"{count} clips are left out: {reason}")


if __name__ == "__main__":
    told(main)
