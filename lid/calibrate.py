"""Fit the thresholds of a language identifier on labelled speech, and show what they change.

    python -m seamlessalign.lid.calibrate --model whisper-base --data DIR_OR_MANIFEST --out calibration.yaml

The file goes beside the model as `calibration.yaml`, or into a run as `speech.lid.calibration`.
"""

from collections.abc import Sequence
from pathlib import Path

from seamlessalign import storage
from seamlessalign.lid.calibration import fit_calibration, save_calibration
from seamlessalign.lid.evaluate import arguments_of, evaluation_of, heard, source_of, table, told, write_evaluation
from seamlessalign.lid.speech import load_speech_lid


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, write the file, and print the table of the same speech before and after."""
    parser = arguments_of(str(__doc__).splitlines()[0])
    parser.add_argument(
        "--rule",
        choices=["f1", "right", "precision"],
        default="f1",
        help="the best F1, likelier right than wrong, or a precision (default: %(default)s)",
    )
    parser.add_argument("--precision", type=float, help="the wished one, with --rule precision")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument("--pictures", type=Path, help="folder for figures and pictures")
    options = parser.parse_args(arguments)
    lid = load_speech_lid(options.model, options.directory, options.device, "none")
    results = heard(lid, source_of(options.data), options.seconds[:1], options.crops, options.window_seconds)
    calibration = fit_calibration(
        results[0].truth,
        results[0].scores,
        model=lid.name,
        sha256=lid.sha256,
        window_seconds=min(results[0].seconds or options.window_seconds, options.window_seconds),
        rule=options.rule,
        precision=options.precision,
    )
    save_calibration(calibration, options.out)
    evaluation = evaluation_of(lid.name, results, calibration)
    if options.pictures:
        write_evaluation(options.pictures, evaluation, results, calibration)
    print(table(evaluation))
    print(f"thresholds: {storage.local_path(str(options.out))}")


if __name__ == "__main__":
    told(main)
