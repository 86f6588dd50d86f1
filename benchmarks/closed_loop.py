"""Whether what was mined helps a translation model: the way from recordings to BLEU, closed on real speech.

    make demo
    python -m benchmarks.closed_loop --demo runs/demo --cache .cache [--steps 600] [--json FILE]

A `tiny` UnitY learns to translate Spanish, French, Italian and Russian speech into English, always for as many steps
of batches as large, from

- human pairs alone: Asterisk's prompts that the demo does not say, with their English texts;
- these and what the demo mined down to a margin of 1.15;
- these and what it mined with an estimated precision of 0.9 or more.

Held out are the prompts of a third of the English texts that the demo does not say; what was mined beside one of those
texts is left out. Printed are the loss of a token, BLEU and chrF++ of greedy translations of what is held out, with
95 % intervals by bootstrap over prompts, and how likely so large a difference from the first line is by chance. One
speaker of each language says all, in training and test.
"""

import argparse
import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks.prompts import samples_of
from seamlessalign.audio import encode
from seamlessalign.embedders.text import spoken_form
from seamlessalign.pipelines.demo_data import DemoTruth, judge, load_truth
from seamlessalign.pipelines.demo_sources import LANGUAGES, fetch_prompts, num_words, say
from seamlessalign.pipelines.refilter import refilter
from seamlessalign.training.unity.config import load_unity_config
from seamlessalign.training.vocabulary_config import load_vocabulary_config

CONDITIONS: Mapping[str, dict[str, float] | None] = {
    "human alone": None,
    "and mined, margin ≥ 1.15": {"threshold": 1.15},
    "and mined, precision ≥ 0.9": {"min_precision": 0.9},
}
_HELD_OUT = 3  # one English text in so many
_MIN_WORDS = 2  # of an English text that is held out
_SAMPLES = 1000  # of a bootstrap

Float64 = npt.NDArray[np.float64]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure, print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--demo", type=Path, required=True, help="folder of the demo")
    parser.add_argument("--cache", type=Path, required=True, help="where fetched packages are kept")
    parser.add_argument("--output", type=Path, default=Path("runs/closed-loop"))
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    truth = load_truth(options.demo / "data")
    held = write_human(truth, options.cache, options.output)
    write_vocabulary(truth, options.output)
    measured: dict[str, dict[str, Any]] = {}
    for number, (name, rule) in enumerate(CONDITIONS.items()):
        say(f"{name} …")
        folder = options.output / f"condition-{number}"
        mined = {} if rule is None else write_mined(options.demo / "run", rule, truth, held, folder)
        begun = time.monotonic()
        model = learn(options.output, folder, rule is not None, options.steps, options.threads)
        measured[name] = {**mined, "minutes": (time.monotonic() - begun) / 60}
        measured[name] |= evaluate(model, options.output)
    print(table(measured))
    if options.json:
        options.json.write_text(json.dumps(measured, indent=1, ensure_ascii=False), encoding="utf-8")


# Data


def write_human(truth: DemoTruth, cache: Path, folder: Path) -> set[str]:
    """`human.parquet` and `held_out.parquet`: speech, what it says, and in English. Returns the texts held out."""
    collection = fetch_prompts(cache)
    said = {spoken_form(text) for text in truth.placed["english"].to_pylist()}
    parts: dict[str, list[dict[str, Any]]] = {"human": [], "held_out": []}
    texts = set()
    for lang in LANGUAGES:
        for key, prompt in sorted(collection.prompts[lang].items()):
            english = collection.english.get(key)
            if lang == "eng" or english is None or (form := spoken_form(english)) in said or not form:
                continue
            held = int(hashlib.sha256(form.encode()).hexdigest()[:8], 16) % _HELD_OUT == 0
            if held and num_words(english) < _MIN_WORDS:
                continue
            if held:
                texts.add(form)
            row = {"id": f"{lang} {key}", "lang": lang, "text": prompt.text, "english": english}
            parts["held_out" if held else "human"].append(
                row | {"audio": {"bytes": encode(samples_of(prompt), "flac"), "path": None}}
            )
    for name, rows in parts.items():
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet", row_group_size=100)
        say(f"{name}: {len(rows)} prompts")
    return texts


def write_mined(run: Path, rule: Mapping[str, float], truth: DemoTruth, held: set[str], folder: Path) -> dict[str, int]:
    """`corpus/` of a condition: the demo's pairs chosen by a rule. How many there are, and the share that is right."""
    copy = folder / "run"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run, copy)
    refilter(str(copy), **rule)
    counts = {"pairs": 0, "right": 0, "left_out": 0}
    for file in sorted((copy / "corpus").rglob("*.parquet")):
        direction = file.parent.name.removeprefix("direction=")
        if not direction.startswith("eng-"):
            continue
        pairs = pq.read_table(file)
        known = np.array([spoken_form(text) in held for text in pairs["src_text"].to_pylist()], bool)
        counts["left_out"] += int(known.sum())
        pairs = pairs.filter(pa.array(~known))
        place = folder / "corpus" / file.parent.name / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pairs, place, row_group_size=100)
        judged = judge(truth, pairs.replace_schema_metadata(None), direction)
        counts["pairs"] += len(judged)
        counts["right"] += int(np.sum(judged["correct"].to_numpy()))
    shutil.rmtree(copy)
    return counts


def write_vocabulary(truth: DemoTruth, folder: Path) -> None:
    """A vocabulary of the English texts of the demo, and of what human pairs say in all languages."""
    from seamlessalign.training.vocabulary_training import train_vocabulary

    (folder / "english.txt").write_text("".join(f"{text}\n" for text in truth.texts["text"].to_pylist()))
    settings = {
        "output": "vocabulary",
        "data": [
            {"kind": "lines", "path": "english.txt", "lang": "eng"},
            {"kind": "parquet", "path": "human.parquet", "columns": {"text": "lang", "english": "eng"}},
        ],
        "size": 1000,
    }
    say(train_vocabulary(load_vocabulary_config(str(_yaml(folder / "vocabulary.yaml", settings)))))


def _yaml(path: Path, settings: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(dict(settings), sort_keys=False), encoding="utf-8")
    return path


# Training and measuring


def learn(output: Path, folder: Path, mined: bool, steps: int, threads: int) -> Path:
    """Train on human pairs, and what was mined where there is some; the model's folder."""
    from seamlessalign.training.unity.train import train_unity

    folder.mkdir(parents=True, exist_ok=True)
    columns = {"src": {"lang_column": "lang", "audio": "audio", "text": "text"}, "id": "id", "both_ways": False}
    english = {"tgt": {"lang": "eng", "text": "english"}}
    human = {"kind": "parquet", "path": str((output / "human.parquet").absolute()), **columns, **english}
    held = human | {"path": str((output / "held_out.parquet").absolute())}
    settings = {
        "output": str(folder / "training"),
        "model": {"size": "tiny", "vocabulary": str((output / "vocabulary").absolute()), "dropout": 0.1},
        "data": {
            "train": [human, *([{"kind": "corpus", "path": "corpus"}] if mined else [])],
            "validation": [held],
            "tasks": {"s2tt": {"targets": ["eng"]}},
            "batches": {"max_frames": 4000},
            "augment": {"speed": 0.1, "frequency_masks": 1, "time_masks": 1, "time_width": 30},
        },
        "loss": {"label_smoothing": 0.1},
        "optimiser": {
            "steps": steps, "lr": 1e-3, "warmup": 100, "schedule": "inverse_sqrt", "betas": [0.9, 0.98]
        },
        "validation": {"every": max(1, steps // 6)},
        "resources": {"device": "cpu", "threads": threads},
    }  # fmt: skip
    trained = train_unity(load_unity_config(str(_yaml(folder / "training.yaml", settings))))
    if not trained.finished:
        raise SystemExit("stopped; the same command goes on")
    return trained.folder / "model"


def evaluate(model: Path, output: Path) -> dict[str, Any]:
    """The loss of each prompt that is held out, and its translation."""
    import torch

    from seamlessalign.training.data.prepared import prepare_data
    from seamlessalign.training.unity.generation import Source, load_translator
    from seamlessalign.training.unity.learner import FOUND, UnityLearner
    from seamlessalign.training.unity.search import SearchOptions

    config = load_unity_config(str(model.parents[1] / "training.yaml"))
    translator = load_translator(model, device="cpu", text_search=SearchOptions(beam=1))
    data = prepare_data(config.data, translator.text, None, config.seed)
    learner = UnityLearner(translator.unity, config.loss).eval()
    sums = []
    with torch.no_grad():
        for place in range(data.validation.num_batches(0)):
            sums.append(learner(data.validation[0, place])[1].double().numpy())
    found = np.concatenate(sums)
    rows = pq.read_table(output / "held_out.parquet").to_pylist()
    sources = [Source("eng", waveform=_waveform(row["audio"]["bytes"])) for row in rows]
    made = translator.translate_rows(sources)
    return {
        "losses": found[:, [FOUND.index("s2tt_nll"), FOUND.index("s2tt_tokens")]].tolist(),
        "made": [one.text for one in made],
        "wanted": [row["english"] for row in rows],
    }


def _waveform(content: bytes) -> npt.NDArray[np.float32]:
    import io

    import soundfile

    return np.asarray(soundfile.read(io.BytesIO(content), dtype="float32")[0], np.float32)


# What is told


def table(measured: Mapping[str, Mapping[str, Any]]) -> str:
    """A Markdown table: a line for each condition."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.significance import PairedTest

    names = list(measured)
    systems = [(name, measured[name]["made"]) for name in names]
    metrics = {"BLEU": BLEU(), "chrF2++": CHRF(word_order=2)}
    references = [measured[names[0]]["wanted"]]
    signatures, found = PairedTest(systems, metrics, references, test_type="bs", n_samples=_SAMPLES)()
    lines = ["| learnt from | mined pairs (right) | minutes | loss of a token | BLEU | chrF++ |", "|---" * 6 + "|"]
    draws = np.random.default_rng(0).integers(len(references[0]), size=(_SAMPLES, len(references[0])))
    first = _means(np.array(measured[names[0]]["losses"]), draws)
    for place, name in enumerate(names):
        row = measured[name]
        losses = np.array(row["losses"])
        means = _means(losses, draws)
        low, high = np.quantile(means, [0.025, 0.975])
        told = f"{losses[:, 0].sum() / losses[:, 1].sum():.3f} ({low:.3f} to {high:.3f})"
        if place:
            told += f", p = {max(np.mean(means >= first), 1 / _SAMPLES):.3f}"
        mined = f"{row['pairs']} ({row['right'] / max(row['pairs'], 1):.2f})" if "pairs" in row else "-"
        cells = [name, mined, f"{row['minutes']:.1f}", told, *(_cell(found[key][place]) for key in metrics)]
        lines.append("| " + " | ".join(cells) + " |")
    told = "; ".join(str(one) for one in signatures.values())
    return "\n".join([*lines, "", f"{len(references[0])} prompts held out; {told}"])


def _means(losses: Float64, draws: npt.NDArray[np.int64]) -> Float64:
    """The loss of a token in each draw of prompts, `(num_draws,)`."""
    return np.asarray(losses[draws, 0].sum(1) / losses[draws, 1].sum(1))


def _cell(result: Any) -> str:
    told = f"{result.score:.2f} ({result.mean - result.ci:.2f} to {result.mean + result.ci:.2f})"
    return told if result.p_value is None else f"{told}, p = {result.p_value:.3f}"


if __name__ == "__main__":
    main()
