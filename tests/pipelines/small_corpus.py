"""A small corpus of real translations spoken by espeak-ng, and the program run on it as a user would.

The tests that only look at a finished run share one: `finished_run` and `short_run` make it once for each session.
"""

import ctypes.util
import fcntl
import hashlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from numpy.typing import NDArray

from seamlessalign.errors import InputError, ModelError
from seamlessalign.espeak import Espeak
from seamlessalign.model_files import find_model
from seamlessalign.rows import SAMPLE_RATE

Samples = NDArray[np.float32]

HOUSE = Path(__file__).parents[2]
TABLES = ("recordings", "segments", "sentences", "pairs", "corpus")
LANGS = ("eng", "fra", "spa", "ita")
_VOICES = {"fra": "fr", "spa": "es", "ita": "it"}
_MODELS = ("whisper-base", "e5-small", "fasttext-lid176")

TRANSLATIONS = [  # in the order of LANGS
    (
        "The train to the city leaves at nine.",
        "Le train pour la ville part à neuf heures.",
        "El tren a la ciudad sale a las nueve.",
        "Il treno per la città parte alle nove.",
    ),
    (
        "My sister works in a big hospital.",
        "Ma sœur travaille dans un grand hôpital.",
        "Mi hermana trabaja en un gran hospital.",
        "Mia sorella lavora in un grande ospedale.",
    ),
    (
        "The children are playing in the garden.",
        "Les enfants jouent dans le jardin.",
        "Los niños juegan en el jardín.",
        "I bambini giocano nel giardino.",
    ),
    (
        "It will rain tomorrow in the mountains.",
        "Il va pleuvoir demain à la montagne.",
        "Mañana va a llover en la montaña.",
        "Domani pioverà in montagna.",
    ),
    (
        "Yesterday we ate fish and bread.",
        "Hier nous avons mangé du poisson et du pain.",
        "Ayer comimos pescado y pan.",
        "Ieri abbiamo mangiato pesce e pane.",
    ),
    (
        "The museum is closed on Monday.",
        "Le musée est fermé le lundi.",
        "El museo está cerrado los lunes.",
        "Il museo è chiuso il lunedì.",
    ),
]
ENGLISH = [sentences[0] for sentences in TRANSLATIONS]
UNSPOKEN = [
    "The price of oil fell sharply this year.",
    "She has never learned to swim.",
    "The king signed the new law in silence.",
    "Nobody knows who painted this portrait.",
]
# which sentences each recording says
RECORDINGS = {
    "fra-0": ("fra", (0, 1, 2)),
    "fra-1": ("fra", (3, 4, 5)),
    "spa-0": ("spa", (0, 1, 2)),
    "spa-1": ("spa", (3, 4, 5)),
}


@dataclass(frozen=True)
class SmallRun:
    """A configuration, the folder that a run of it was written to, and what the program said."""

    config: Path
    folder: Path
    status: int
    out: str
    err: str

    def copy(self, target: Path) -> Path:
        """The run's folder, copied with the times of its files."""
        shutil.copytree(self.folder, target)
        return target


def need_models() -> None:
    """Skip the test where the models that a run takes are not installed."""
    for name in _MODELS:
        try:
            find_model(name)
        except ModelError as error:
            pytest.skip(f"needs the extra 'embedded': {error}")


def spoken(lang: str, sentences: tuple[int, ...], pause: float = 1.2) -> Samples:
    """Sentences of `TRANSLATIONS` spoken by espeak-ng with pauses (seconds) between them, float32 at 16 kHz."""
    silence = np.zeros(int(pause * SAMPLE_RATE), np.float32)
    return np.concatenate([silence, *(part for n in sentences for part in (_all_spoken()[lang, n], silence))])


def write_corpus(root: Path, recordings: Mapping[str, tuple[str, tuple[int, ...]]]) -> Path:
    """Write recordings with a manifest, two text files and a configuration below `root`; returns the configuration."""
    (root / "audio").mkdir(parents=True)
    (root / "texts").mkdir()
    lines = []
    for name, (lang, sentences) in recordings.items():
        soundfile.write(root / "audio" / f"{name}.flac", spoken(lang, sentences), SAMPLE_RATE)
        entry = {"path": f"audio/{name}.flac", "lang": lang, "license": "CC0-1.0", "source": f"voice {lang}"}
        lines.append(json.dumps(entry))
    (root / "recordings.jsonl").write_text("\n".join(lines) + "\n")
    half = len(ENGLISH) // 2
    (root / "texts" / "a.txt").write_text("\n".join([*ENGLISH[:half], *UNSPOKEN]) + "\n")
    (root / "texts" / "b.txt").write_text("\n".join([*ENGLISH[half:], UNSPOKEN[0]]) + "\n")
    return write_config(root / "run.yaml", speech={"inputs": ["recordings.jsonl"]}, text={"inputs": ["texts"]})


def write_config(path: Path, *, speech: dict[str, Any], text: dict[str, Any]) -> Path:
    """Write the configuration that all tests start from, with other inputs."""
    config = {
        "name": "small",
        "directions": ["eng-frA", "eng-esA", "frA-esA"],
        "speech": speech,
        "text": {"lang": "eng", **text},
        # of so few rows the mean says nothing, and neither does a threshold that was fitted on many
        "mining": {"k": 4, "centre": False, "threshold": 1.0},
        "resources": {"device": "cpu", "workers": 1, "threads": 1},
    }
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def environment() -> dict[str, str]:
    """Environment of the program: this checkout, no hub, no models of whoever runs the tests."""
    kept = {key: value for key, value in os.environ.items() if key != "SEAMLESSALIGN_MODELS"}
    return {**kept, "PYTHONPATH": str(HOUSE), "HF_HUB_OFFLINE": "1"}


def command(*arguments: str | Path) -> list[str]:
    """The program with arguments, as a command."""
    return [sys.executable, "-m", "seamlessalign", *map(str, arguments)]


def program(*arguments: str | Path, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Run the program as a user would."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=cwd, env=environment(), timeout=900)


def mine(config: Path, folder: Path, *overrides: str) -> SmallRun:
    """Run `seamlessalign run`."""
    done = program("run", config, "--output", folder, *overrides)
    return SmallRun(config, folder, done.returncode, done.stdout, done.stderr)


@cache
def finished_run(session_folder: Path) -> SmallRun:
    """A finished run over French, Spanish and one unwanted Italian recording; skips where it cannot be made."""
    return _shared_run(session_folder, "small corpus", {**RECORDINGS, "ita-0": ("ita", (0, 1))})


@cache
def short_run(session_folder: Path) -> SmallRun:
    """A finished run over four recordings of one sentence each; skips where it cannot be made."""
    return _shared_run(
        session_folder, "short corpus", {name: (lang, said[:1]) for name, (lang, said) in RECORDINGS.items()}
    )


def _shared_run(session_folder: Path, name: str, recordings: Mapping[str, tuple[str, tuple[int, ...]]]) -> SmallRun:
    """A finished run that all processes of pytest-xdist, with folders beside each other, share and do not change."""
    need_models()
    root = (session_folder.parent if "PYTEST_XDIST_WORKER" in os.environ else session_folder) / name
    root.mkdir(exist_ok=True)
    said = root / "said.json"
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            shutil.rmtree(root / "in", ignore_errors=True)  # of a process that was killed
            made = mine(write_corpus(root / "in", recordings), root / "run")
            said.write_text(json.dumps([str(made.config), str(made.folder), made.status, made.out, made.err]))
    config, folder, status, out, err = json.loads(said.read_text())
    return SmallRun(Path(config), Path(folder), status, out, err)


def hashes(folder: Path, tables: Sequence[str] = (*TABLES, "quarantine")) -> dict[str, str]:
    """SHA-256 of every file of a run's tables."""
    files = sorted(file for table in tables for file in (folder / table).rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def marks(folder: Path, stage: str) -> dict[str, int]:
    """Time of change, in nanoseconds, of every completion mark of a stage."""
    return {path.stem: path.stat().st_mtime_ns for path in sorted((folder / "state" / "done" / stage).glob("*.json"))}


def complaint(err: str) -> str:
    """The last line of stderr; fails unless it is the only one that the program says about an error."""
    ours = [line for line in err.splitlines() if line.startswith("seamlessalign:")]
    assert len(ours) == 1 and err.endswith(ours[0] + "\n"), err
    assert "Traceback" not in err, err
    return ours[0]


@cache
def _all_spoken() -> dict[tuple[str, int], Samples]:
    """Every sentence in every voice; skips the test where there is no espeak-ng."""
    # in a process of its own: the engine hangs when it is started a second time
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(_speak_all).result(timeout=60)
        except InputError as error:
            pytest.skip(f"needs espeak-ng of the system or the package espeakng-loader: {error}")


def _speak_all() -> dict[tuple[str, int], Samples]:
    import soxr

    system = ctypes.util.find_library("espeak-ng")
    if system is not None:
        espeak = Espeak(system, None)
    else:
        try:
            import espeakng_loader
        except ImportError:
            raise InputError("neither is installed") from None
        espeak = Espeak(espeakng_loader.get_library_path(), str(Path(espeakng_loader.get_data_path()).parent))
    speech = {}
    for lang, voice in _VOICES.items():
        for number, sentences in enumerate(TRANSLATIONS):
            samples = espeak.speak(sentences[LANGS.index(lang)], voice)
            speech[lang, number] = np.asarray(soxr.resample(samples, espeak.sample_rate, SAMPLE_RATE), np.float32)
    return speech
