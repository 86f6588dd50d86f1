"""From recordings to a model that speaks: speech is mined with speech, transcribed, made units, exported and learnt."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from seamlessalign import cli
from seamlessalign.speech_sources import Sound, load_sound
from seamlessalign.training.unity.model import save_unity
from seamlessalign.training.vocabulary import UnitVocabulary
from seamlessalign.whisper import load_whisper
from tests.pipelines.small_corpus import finished_run, program
from tests.pipelines.test_units_stage import write_units
from tests.training.tiny_unity import tiny_text, tiny_unity

pytestmark = [pytest.mark.slow, pytest.mark.embedded]


def _rows(folder: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(folder.rglob("*.parquet")) for row in pq.ParquetFile(file).read().to_pylist()]


def test_pairs_of_speech_and_speech_are_transcribed_exported_and_learnt(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    made = finished_run(tmp_path_factory.getbasetemp())
    assert made.status == 0, made.err
    folder = made.copy(tmp_path / "run")
    write_units(tmp_path / "units")
    asked = "transcripts.model=whisper-base", f"units.model={tmp_path / 'units'}"
    done = program("run", made.config, "--output", folder, *asked)
    assert done.returncode == 0, done.stderr

    # each side is what Whisper hears in it alone
    (file,) = (folder / "corpus" / "direction=frA-esA").iterdir()
    pairs = _rows(file.parent)
    heard = {(row["pair_id"], row["side"]): row["text"] for row in _rows(folder / "transcripts" / file.parent.name)}
    assert len(pairs) > 2 and len(heard) == 2 * len(pairs)
    for number, pair in enumerate(pairs):
        for side in ("src", "tgt"):
            waveform = load_sound(Sound(str(file), number, f"{side}_audio"), "", "")
            ((alone,),) = load_whisper().hear([waveform], pair[f"{side}_lang"], ["transcribe"])
            assert pair[f"{side}_text"] is None and heard[pair["pair_id"], side] == " ".join(alone.text.split())

    # handed on, and learnt from there
    assert cli.main(["export", str(folder), "--to", str(tmp_path / "out")]) == 0
    shutil.rmtree(folder)
    text = tiny_text("eng", "fra", "spa")
    units = UnitVocabulary(20, ("fra", "spa"))
    save_unity(tmp_path / "start", tiny_unity(text, units), text, units)
    config = {
        "output": str(tmp_path / "trained"),
        "start": str(tmp_path / "start"),
        "trained": ["t2u"],
        "data": {
            "train": [{"kind": "corpus", "path": "out", "min_avg_logprob": -3}],
            "validation": [{"kind": "corpus", "path": "out", "min_avg_logprob": -3, "max_rows": 1000}],
            "tasks": ["s2st", "asr"],
        },
        "loss": {"s2tt": 0.1, "t2tt": 0, "kd": 0, "t2u": 1},
        "optimiser": {"steps": 3, "lr": 0.01, "warmup": 0},
        "validation": {"every": 3},
        "tensorboard": False,
        "resources": {"device": "cpu"},
    }
    (tmp_path / "unity.yaml").write_text(yaml.safe_dump(config))
    trained = program("train", "unity", tmp_path / "unity.yaml")
    assert trained.returncode == 0, trained.stderr
    account = json.loads((tmp_path / "trained" / "rows" / "account.json").read_text())
    directions = Counter({name.rpartition(" ")[2]: one["machine_texts"] for name, one in account["items"].items()})
    assert directions == {"fra-spa": len(pairs), "spa-fra": len(pairs)}
    assert all("s2st" in name for name in account["items"])  # no text of people, so nothing for asr
    assert (tmp_path / "trained" / "model").is_dir()
