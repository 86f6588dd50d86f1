"""Whether a small UnitY can learn some real pairs by heart: speech into text and units, to the last token.

    make demo
    python -m benchmarks.overfit --corpus runs/demo/run/corpus --pairs 32

French speech beside English text, as the demo mined it; English speech of that text by espeak-ng, whose frames'
k-means clusters are the units. A `tiny` model is trained on these pairs and then translates the same speech, greedily.
Printed:

- BLEU (sacrebleu) of the translations against the English texts;
- the share of units that are right when each is predicted from those before it, as in training;
- the share of pairs whose units come out whole when the model makes text and units by itself, and the edits there were.
"""

import argparse
import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
import soxr
import torch
import yaml

from seamlessalign.embedders.sonar.features import features
from seamlessalign.espeak import speak_afresh
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.training.unity.config import load_unity_config
from seamlessalign.training.unity.generation import Source, load_translator
from seamlessalign.training.unity.search import SearchOptions
from seamlessalign.training.unity.train import train_unity
from seamlessalign.training.vocabulary_config import load_vocabulary_config
from seamlessalign.training.vocabulary_training import train_vocabulary
from seamlessalign.training_folder import TrainingFolder

MAX_SECONDS = 4.0
NUM_UNITS = 50


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and print the figures."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, help="folder `corpus` of the demo's run")
    parser.add_argument("--output", type=Path, default=Path("runs/overfit"), help="where the training is")
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    pairs = read_pairs(options.corpus, options.pairs)
    write_data(pairs, options.output)
    began = time.monotonic()
    result = learn(options.output, options.steps, options.threads)
    minutes = (time.monotonic() - began) / 60
    told = TrainingFolder(str(result)).lines()
    last = [line for line in told if "directions" in line][-1]["directions"]["s2st fra-eng"]
    print(f"{len(pairs)} pairs, {options.steps} steps, {minutes:.1f} minutes")
    for name, value in evaluate(result / "model", pairs).items():
        print(f"{name}: {value:.2f}")
    print(f"units right, each from those before it: {100 * last['t2u_accuracy']:.2f} %")


def read_pairs(corpus: Path, number: int) -> list[dict[str, Any]]:
    """The pairs of French speech and English text with the largest margins, each text once; units are added."""
    rows = []
    for file in sorted(corpus.glob("direction=eng-frA/*.parquet")):
        rows += pq.read_table(file, columns=["pair_id", "margin", "src_text", "tgt_audio"]).to_pylist()
    chosen: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: (-row["margin"], row["pair_id"])):
        samples, rate = soundfile.read(io.BytesIO(row["tgt_audio"]["bytes"]), dtype="float32")
        if rate == SAMPLE_RATE and len(samples) <= MAX_SECONDS * rate and row["src_text"] not in chosen:
            chosen[row["src_text"]] = {
                "id": row["pair_id"],
                "text": row["src_text"],
                "audio": row["tgt_audio"]["bytes"],
            }
            chosen[row["src_text"]]["samples"] = samples
        if len(chosen) == number:
            break
    if len(chosen) < number:
        raise SystemExit(f"{corpus}: has {len(chosen)} usable pairs of English text and French speech, not {number}")
    pairs = list(chosen.values())
    for pair, units in zip(pairs, made_units([pair["text"] for pair in pairs]), strict=True):
        pair["units"] = units
    return pairs


def made_units(texts: Sequence[str]) -> list[list[int]]:
    """Units of spoken texts, without adjacent repeats: clusters of their frames."""
    import faiss

    frames = []
    for text in texts:
        spoken, rate = speak_afresh(text, "en-us")
        frames.append(features(torch.from_numpy(soxr.resample(spoken, rate, SAMPLE_RATE))).numpy())
    everything = np.concatenate(frames)
    clusters = faiss.Kmeans(everything.shape[1], NUM_UNITS, niter=20, seed=1, min_points_per_centroid=1)
    clusters.train(everything)
    found = [clusters.index.search(one, 1)[1][:, 0] for one in frames]
    return [[int(unit) for i, unit in enumerate(row) if i == 0 or unit != row[i - 1]] for row in found]


def write_data(pairs: Sequence[dict[str, Any]], folder: Path) -> None:
    """The pairs as Parquet, and the texts as lines."""
    table = {
        "id": pa.array([pair["id"] for pair in pairs]),
        "audio": pa.array([{"bytes": pair["audio"], "path": None} for pair in pairs]),
        "text": pa.array([pair["text"] for pair in pairs]),
        "units": pa.array([pair["units"] for pair in pairs], pa.list_(pa.int32())),
    }
    pq.write_table(pa.table(table), folder / "pairs.parquet")
    (folder / "texts.txt").write_text("".join(f"{pair['text']}\n" for pair in pairs), encoding="utf-8")


def learn(folder: Path, steps: int, threads: int, pieces: int = 120) -> Path:
    """Learn a vocabulary of so many pieces, and the pairs; the training's folder."""
    vocabulary = {
        "output": "vocabulary",
        "data": [{"kind": "lines", "path": "texts.txt", "lang": "eng"}],
        "languages": ["eng", "fra"],
        "size": pieces,
    }
    (folder / "vocabulary.yaml").write_text(yaml.safe_dump(vocabulary))
    print(train_vocabulary(load_vocabulary_config(str(folder / "vocabulary.yaml"))))
    source = {
        "kind": "parquet",
        "path": "pairs.parquet",
        "id": "id",
        "both_ways": False,
        "src": {"lang": "fra", "audio": "audio"},
        "tgt": {"lang": "eng", "text": "text", "units": "units"},
    }
    training = {
        "output": str(folder / "training"),
        "model": {"size": "tiny", "vocabulary": "vocabulary", "num_units": NUM_UNITS, "dropout": 0.0},
        "data": {"train": [source], "validation": [source], "tasks": ["s2st"], "batches": {"max_frames": 2500}},
        "loss": {"label_smoothing": 0.0},
        "optimiser": {"steps": steps, "lr": 1e-3, "warmup": 50, "schedule": "cosine", "weight_decay": 0.0},
        "validation": {"every": max(1, steps // 4)},
        "checkpoint_every": 100,
        "resources": {"device": "cpu", "threads": threads},
    }
    (folder / "training.yaml").write_text(yaml.safe_dump(training))
    return train_unity(load_unity_config(str(folder / "training.yaml"))).folder


def evaluate(model: Path, pairs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """What the model makes of the pairs' speech by itself."""
    import jiwer
    import sacrebleu

    greedy = SearchOptions(beam=1)
    whole = SearchOptions(beam=1, per_source=25.0, constant=50, most=5000)
    translator = load_translator(model, text_search=greedy, unit_search=whole)
    made = translator.translate_rows([Source("eng", waveform=pair["samples"]) for pair in pairs], units=True)
    texts, wanted = [one.text for one in made], [pair["text"] for pair in pairs]
    units_made = [" ".join(map(str, one.units or ())) for one in made]
    units_wanted = [" ".join(map(str, pair["units"])) for pair in pairs]
    return {
        "BLEU": sacrebleu.corpus_bleu(texts, [wanted]).score,
        "texts that are whole, %": 100 * float(np.mean(np.array(texts) == np.array(wanted))),
        "unit sequences that are whole, %": 100 * float(np.mean(np.array(units_made) == np.array(units_wanted))),
        "edits of units, % of them": 100 * jiwer.wer(units_wanted, units_made),
    }


if __name__ == "__main__":
    main()
