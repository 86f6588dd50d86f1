"""Noisy versions of a test set as files, for systems that are run elsewhere.

A folder has, for each kind of noise and SNR, a folder such as `babble_-5` with `rows.jsonl` (id, src_lang, tgt_lang,
audio), which `seamlessalign translate` reads too, and the sound in `speech/`, WAV of 32-bit floats: the samples that
systems hear which are run here. `noise.json` says what noise it is; rows that could not be made are in
`set_aside.jsonl`.
"""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign import storage
from seamlessalign.errors import ConfigError, UnreadableError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.speech_sources import load_sound
from seamlessalign.training.evaluation.config import EvaluationConfig
from seamlessalign.training.evaluation.datasets.reading import read_test_set
from seamlessalign.training.evaluation.robustness.noise import Condition, NoiseMaker
from seamlessalign.training.evaluation.rows import TestRow
from seamlessalign.training.evaluation.systems.outputs import noise_maker
from seamlessalign.training.evaluation.systems.run_systems import AskedRows

_TOLD_EACH = 100  # rows


@dataclass(frozen=True)
class NoisySet:
    """What was written."""

    folders: dict[str, Path]  # condition → folder
    rows: int
    set_aside: list[dict[str, str]]  # condition, id, reason, detail


def write_noisy_set(config: EvaluationConfig, output: str, say: Callable[[str], None] = lambda _: None) -> NoisySet:
    """Write the rows of a configuration with each noise into a folder; the same call goes on where another stopped.

    Raises ConfigError where no noise is asked for, or the folder holds something else.
    """
    if config.rows is None or config.noise is None:
        raise ConfigError("a noisy test set needs rows and noise in the configuration")
    rows = read_test_set(config.rows, say).rows
    folder = Path(storage.local_path(output))
    maker = noise_maker(config, rows, str(folder / "unreadable.json"))
    _check_same(folder, rows, maker)
    written, set_aside = {}, []
    for condition in maker.conditions():
        place_of_it = folder / f"{condition.kind}_{condition.snr:g}"
        set_aside += _write(place_of_it, rows, maker, condition, say)
        written[str(condition)] = place_of_it
    lines = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in set_aside)
    storage.write_bytes_atomic(str(folder / "set_aside.jsonl"), lines.encode())
    return NoisySet(written, len(rows), set_aside)


def _write(
    folder: Path, rows: Sequence[TestRow], maker: NoiseMaker, condition: Condition, say: Callable[[str], None]
) -> list[dict[str, str]]:
    """One noisy version; gives what was set aside."""
    lines, set_aside = [], []
    for number, row in enumerate(rows):
        name = f"speech/{number:08}.wav"
        assert row.src_sound is not None
        try:
            if not (folder / name).is_file():
                made = maker.noisy(row, condition, load_sound(row.src_sound, "", f"row {row.id}"))
                storage.write_bytes_atomic(str(folder / name), float_wav(made))
            lines.append({"id": row.id, "src_lang": row.src_lang, "tgt_lang": row.tgt_lang, "audio": name})
        except UnreadableError as error:
            told = {"condition": str(condition), "id": row.id, "reason": error.reason, "detail": error.detail}
            set_aside.append(told)
        if (number + 1) % _TOLD_EACH == 0 or number + 1 == len(rows):
            say(f"{condition}: {number + 1:,} of {len(rows):,} rows")
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    storage.write_bytes_atomic(str(folder / "rows.jsonl"), text.encode("utf-8", "backslashreplace"))
    return set_aside


def float_wav(samples: npt.NDArray[np.float32]) -> bytes:
    """Samples at 16 kHz as a WAV file of 32-bit floats, which holds them as they are."""
    import soundfile

    made = io.BytesIO()
    soundfile.write(made, samples, SAMPLE_RATE, format="WAV", subtype="FLOAT")
    return made.getvalue()


def _check_same(folder: Path, rows: Sequence[TestRow], maker: NoiseMaker) -> None:
    """Begin a folder, or raise ConfigError where it was begun with something else."""
    plan: dict[str, Any] = {
        "rows": AskedRows(rows, "speech").plan(),
        "settings": maker.settings.model_dump(exclude={"folder", "snrs", "kinds"}),
        "signatures": {str(one): maker.signature(one) for one in maker.conditions()},
        "unreadable": dict(sorted(maker.unreadable.items())),
    }
    file = folder / "noise.json"
    if file.is_file():
        kept = json.loads(file.read_text(encoding="utf-8"))
        differ = [key for key in plan if key != "unreadable" and kept.get(key) != plan[key]]
        if differ:
            raise ConfigError(f"{folder}: holds a noisy test set of other {differ[0]}; name another folder")
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: holds something, but no noisy test set; name another folder")
    text = json.dumps(plan, indent=1, ensure_ascii=False) + "\n"
    storage.write_bytes_atomic(str(file), text.encode())
