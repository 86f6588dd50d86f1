"""What an evaluation costs, against sacrebleu's own paired bootstrap on the same texts.

    python -m benchmarks.evaluation [--rows 10000] [--rounds 3]

Made sentences, two systems that change one word in seven and one in five of them; intervals and comparisons by 1,000
draws. Each method has a process of its own, in turn; printed are medians of processor seconds and of the memory at its
highest beside what was there before, imports and texts among it.

- `evaluation`: `seamlessalign evaluate` from files, five measures, all its files and the page;
- `measures`: BLEU, chrF and chrF++ as it computes them, in memory, with intervals and comparison;
- `sacrebleu`: the same three by sacrebleu.significance.PairedTest.

Scores and p of the last two are compared.
"""

import argparse
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measured import Clock, Measured, by_turns, cores, measure, peak_of

_MEASURES = ("bleu", "chrf", "chrf++")
_CHANGED = {"baseline": 1 / 5, "system": 1 / 7}
_SAMPLES = 1000
_WORDS = 30_000


def texts(rows: int) -> dict[str, list[str]]:
    """References, and what both systems made of them; the same ones every time."""
    random = np.random.default_rng(20)
    lengths = 1 + random.poisson(5, _WORDS)
    letters = random.choice(list("etaoinshrdlucmfwypvbgkq"), lengths.sum())
    ends = np.cumsum(lengths)
    words = ["".join(letters[end - length : end]) for end, length in zip(ends, lengths, strict=True)]
    found: dict[str, list[str]] = {"reference": [], **{name: [] for name in _CHANGED}}
    for _ in range(rows):
        # as often as in language: the n-th word comes about 1/n as often as the first
        drawn = np.minimum(random.zipf(1.3, random.integers(5, 40)) - 1, _WORDS - 1)
        found["reference"].append(" ".join(words[place] for place in drawn) + ".")
        for name, share in _CHANGED.items():
            others = random.integers(0, _WORDS, len(drawn))
            made = np.where(random.random(len(drawn)) < share, others, drawn)
            found[name].append(" ".join(words[place] for place in made) + ".")
    return found


def run(name: str, rows: int) -> Measured:
    """One method in this process; its result has processor seconds and what it found."""
    made = texts(rows)
    with tempfile.TemporaryDirectory() as folder:
        if name == "evaluation":
            _write(Path(folder), made)
        work = {
            "evaluation": lambda: _evaluation(folder),
            "measures": lambda: _ours(made),
            "sacrebleu": lambda: _peer(made),
        }
        begun = time.process_time()
        done = measure(work[name], Clock())
        return Measured(done.seconds, done.peak_mib, {"processor": time.process_time() - begun}, done.result)


def _write(folder: Path, made: dict[str, list[str]]) -> None:
    for name, some in made.items():
        key = "reference" if name == "reference" else "text"
        rows = [{"id": str(i), "src_lang": "deu", "tgt_lang": "eng", key: text} for i, text in enumerate(some)]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    config = {
        "output": str(folder / "out"),
        "rows": {"path": "reference.jsonl"},
        "systems": {name: {"path": f"{name}.jsonl"} for name in _CHANGED},
        "measures": {"text": [*_MEASURES, "wer", "cer"]},
        "resampling": {"samples": _SAMPLES},
    }
    (folder / "evaluation.yaml").write_text(json.dumps(config), encoding="utf-8")


def _evaluation(folder: str) -> dict[str, Any]:
    from seamlessalign.training.evaluation.config import load_evaluation_config
    from seamlessalign.training.evaluation.evaluate import evaluate

    result = evaluate(load_evaluation_config(f"{folder}/evaluation.yaml"))
    return {f"{line.system} {line.kind}": line.score.value for line in result.lines}


def _ours(made: dict[str, list[str]]) -> dict[str, Any]:
    from seamlessalign.training.evaluation import resampling
    from seamlessalign.training.evaluation.text import text_measure

    references = [[text] for text in made["reference"]]
    found: dict[str, Any] = {}
    for kind in _MEASURES:
        one = text_measure(kind, "eng")
        rows = {name: one.statistics(made[name], references) for name in _CHANGED}
        for name, some in rows.items():
            resampling.interval(resampling.bootstrap(some, one.score, _SAMPLES))
            found[f"{name} {kind}"] = one.score(some.sum(0))
        found[f"p {kind}"] = resampling.paired_bootstrap(rows["baseline"], rows["system"], one.score, _SAMPLES).p_value
    return found


def _peer(made: dict[str, list[str]]) -> dict[str, Any]:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.significance import PairedTest

    logging.getLogger("sacrebleu").setLevel(logging.ERROR)
    peer = [BLEU(), CHRF(), CHRF(word_order=2)]
    named: Any = [(name, made[name]) for name in _CHANGED]
    metrics: Any = dict(zip(_MEASURES, peer, strict=True))
    scores: Any = PairedTest(named, metrics, [made["reference"]], test_type="bs", n_samples=_SAMPLES)()[1]
    found: dict[str, Any] = {}
    for kind, results in zip(_MEASURES, list(scores.values())[1:], strict=True):
        found |= {f"{name} {kind}": one.score for name, one in zip(_CHANGED, results, strict=True)}
        found[f"p {kind}"] = results[1].p_value
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure by turns and print a table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    runs = by_turns(("evaluation", "measures", "sacrebleu"), options.rounds, run, options.rows)
    ours, peer = runs["measures"][0].result, runs["sacrebleu"][0].result
    differ = [key for key in peer if abs(ours[key] - peer[key]) > 1e-9]
    told = f"{options.rows:,} sentences, 2 systems, {_SAMPLES:,} draws, medians of {options.rounds}, {cores()} cores"
    print(f"{told}\n")
    print("| | measures | processor s | s | MiB |\n|---|---|---|---|---|")
    for name, some in runs.items():
        processor = statistics.median(one.parts["processor"] for one in some)
        wall = statistics.median(one.seconds for one in some)
        number = 5 if name == "evaluation" else len(_MEASURES)
        print(f"| {name} | {number} | {processor:.1f} | {wall:.1f} | {peak_of(some):.0f} |")
    print(f"\nscores and p of measures and sacrebleu: {'the same' if not differ else f'differ in {differ}'}")


if __name__ == "__main__":
    main()
