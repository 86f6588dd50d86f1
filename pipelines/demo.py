"""The demo: build a small real corpus whose truth is known, mine it, and say how good the result is."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from seamlessalign import storage
from seamlessalign.config import MiningConfig, RunConfig, load_config
from seamlessalign.languages import Direction
from seamlessalign.mining.truth import bootstrap_f1, reliability, score_pairs
from seamlessalign.pipelines import mining_stage
from seamlessalign.pipelines.context import Context
from seamlessalign.pipelines.demo_data import DemoTruth, Source, build_demo, judge, load_truth, num_truth
from seamlessalign.pipelines.known_languages import write_known_languages
from seamlessalign.pipelines.pair_tables import Candidates, pairs_table
from seamlessalign.pipelines.report import build_report
from seamlessalign.pipelines.run import run
from seamlessalign.pipelines.summary import summary_text
from seamlessalign.rows import RECORDINGS, SAMPLE_RATE

DIRECTIONS = ("eng-esA", "eng-frA", "eng-itA", "eng-ruA", "esA-frA")
_RULE = (
    "A pair is right when its span overlaps the true prompt by at least 80 % (intersection over union) and the other "
    "side is the same prompt. Recall counts the prompts that were found."
)
_ESTIMATE_RULE = (
    "Estimates are compared with what is right among all candidates, whatever became of them: an estimate is made for "
    "each candidate before filters and overlaps. A span that holds too little or too much of its prompt counts as "
    "wrong even beside the right sentence; decoys know nothing of that."
)
_GRID = 41  # thresholds tried around the one used
_CUTS = (0.5, 0.8, 0.9, 0.95)  # estimated precisions that the run might have been cut at


def demo(root: Path, cache: Path, *, minutes: float, distractors: int, seed: int, source: Source) -> int:
    """Build the data under `root/data` unless it is there, mine it into `root/run`, print what was found.

    Returns the exit status of the run. The same command again goes on where it stopped.
    """
    truth = _data(root / "data", cache, minutes=minutes, distractors=distractors, seed=seed, source=source)
    config = load_config(str(_write_config(root)), output=str(root / "run"))
    result = run(config)
    evaluation = evaluate(truth, config, str(root / "run"))
    storage.write_bytes_atomic(str(root / "run" / "evaluation.json"), json.dumps(evaluation, indent=1).encode())
    spoken = {(row["uri"], row["lang"]) for row in truth.placed.select(["uri", "lang"]).to_pylist()}
    write_known_languages(str(root / "run"), {str((root / "data" / uri).absolute()): lang for uri, lang in spoken})
    report = build_report(str(root / "run"))
    print(summary_text(result))
    print(evaluation_text(evaluation))
    print(f"report: {Path(report).absolute()}")
    return result.exit_status


def evaluate(truth: DemoTruth, config: RunConfig, root: str) -> dict[str, Any]:
    """Precision, recall and F1 of a run's kept pairs by direction, and the threshold that would have been best.

    The best threshold is found by choosing pairs again at each one of a grid, since what overlaps depends on it. Where
    precision was estimated, `reliability` compares it with the truth over all candidates, in ten bins of the estimate,
    and `at_precision` is what the run had kept if it had been cut there. A direction without a margin threshold, where
    precision decides, has None for it.
    """
    context = Context(config, root, "cpu", 1)
    return {
        "directions": [_direction(truth, name, context) for name in config.directions],
        "note": truth.note,
        "rule": _RULE,
        "estimate_rule": _ESTIMATE_RULE,
    }


def evaluation_text(evaluation: dict[str, Any]) -> str:
    """The evaluation as tables for the terminal."""
    lines = [
        "",
        f"{'direction':<10} {'hours in':>8} {'spans':>6} {'kept':>5} {'expected':>8} {'precision':>9} {'recall':>6} "
        f"{'F1':>5} {'(95 %)':>11} {'threshold':>9} {'best F1':>7} {'at':>5}",
    ]
    for row in evaluation["directions"]:
        lines.append(
            f"{row['direction']:<10} {row['speech_hours']:>8.2f} {row['spans']:>6} {row['kept']:>5} "
            f"{_two_digits(row['expected_precision']):>8} {row['precision']:>9.2f} {row['recall']:>6.2f} "
            f"{row['f1']:>5.2f} {row['f1_low']:>5.2f}-{row['f1_high']:.2f}  {_two_digits(row['threshold']):>8} "
            f"{row['best_f1']:>7.2f} {row['best_threshold']:>5.2f}"
        )
    cuts = [(row["direction"], cut) for row in evaluation["directions"] for cut in row["at_precision"]]
    if cuts:
        lines += [
            "",
            f"{'direction':<10} {'cut at':>6} {'kept':>5} {'expected':>8} {'precision':>9} {'recall':>6} {'F1':>5}",
        ]
    for direction, cut in cuts:
        expected, precision = _two_digits(cut["expected_precision"]), _two_digits(cut["precision"])
        lines.append(
            f"{direction:<10} {cut['min_precision']:>6.2f} {cut['kept']:>5} {expected:>8} {precision:>9} "
            f"{cut['recall']:>6.2f} {cut['f1']:>5.2f}"
        )
    rules = [evaluation["rule"], "Expected: the mean estimated precision of what is kept." if cuts else ""]
    return "\n".join([*lines, " ".join(filter(None, rules)), evaluation["note"], ""])


def _two_digits(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _data(data: Path, cache: Path, **arguments: Any) -> DemoTruth:
    wanted = json.dumps({key: arguments[key] for key in sorted(arguments)})
    made = data / "arguments.json"
    if made.exists() and made.read_text(encoding="utf-8") == wanted:
        return load_truth(data)
    print("building recordings and texts", file=sys.stderr)
    made.unlink(missing_ok=True)
    truth = build_demo(data, cache, **arguments)
    made.write_text(wanted, encoding="utf-8")
    return truth


def _write_config(root: Path) -> Path:
    config = {
        "name": "demo",
        "directions": list(DIRECTIONS),
        "speech": {"inputs": ["data/recordings.jsonl"]},
        "text": {"inputs": ["data/texts"], "lang": "eng", "lines_per_shard": 500},
        "mining": {"decoys": {"texts": ["data/decoys"], "same_kind": True}},
    }
    path = root / "config.yaml"
    storage.write_bytes_atomic(str(path), yaml.safe_dump(config, sort_keys=False).encode())
    return path


def _direction(truth: DemoTruth, name: str, context: Context) -> dict[str, Any]:
    direction = Direction.parse(name)
    mined = storage.read_table(context.folder.table("pairs", f"direction={name}", "part-00000"))
    metadata = mined.schema.metadata
    threshold = float(metadata[b"seamlessalign.threshold"])
    judged = judge(truth, mined.replace_schema_metadata(None), name)
    kept = judged.filter(judged.column("kept"))
    total = num_truth(truth, name)
    scores = score_pairs(_correct(kept), _truth_ids(kept), total)
    low, high = bootstrap_f1(_correct(kept), _truth_ids(kept), total)
    candidates = mining_stage.candidates_of(mining_stage.task_of(name, context), context)
    best_threshold, best_f1 = _best(truth, name, candidates, context.config.mining, threshold, total)
    estimated = judged.column("precision_estimate").null_count == 0 and len(judged) > 0
    audio = [side.lang for side in (direction.src, direction.tgt) if side.is_audio]
    return {
        "direction": name,
        "speech_hours": _hours(context, audio),
        "spans": sum(_rows(context, lang) for lang in audio),
        "kept": scores.pairs,
        "truth": total,
        "precision": scores.precision,
        "expected_precision": _expected(kept) if estimated else None,
        "recall": scores.recall,
        "f1": scores.f1,
        "f1_low": low,
        "f1_high": high,
        "threshold": threshold if np.isfinite(threshold) else None,
        "best_threshold": best_threshold,
        "best_f1": best_f1,
        "decoys": metadata.get(b"seamlessalign.decoys", b"none").decode(),
        "reliability": reliability(_estimates(judged), _correct(judged)).to_pylist() if estimated else [],
        "at_precision": _at_precision(truth, name, candidates, context.config.mining, total) if estimated else [],
    }


def _best(
    truth: DemoTruth, name: str, candidates: Candidates, mining: MiningConfig, threshold: float, total: int
) -> tuple[float, float]:
    """The margin threshold with the best F1, whatever rule the run itself was cut by, and that F1."""
    if np.isfinite(threshold):
        grid = sorted({threshold, *(threshold * np.linspace(0.5, 2.0, _GRID)).tolist()})
    else:
        margins = candidates.pairs.column("margin").to_numpy()
        grid = np.unique(np.quantile(margins, np.linspace(0, 1, _GRID))).tolist() if len(margins) else [0.0]
    by_margin = mining.model_copy(update={"min_precision": None, "fdr": None})
    found = []
    for value in grid:
        judged = _chosen(truth, name, candidates, by_margin, value)
        found.append((score_pairs(_correct(judged), _truth_ids(judged), total).f1, value))
    best_f1, best_threshold = max(found)
    return best_threshold, best_f1


def _at_precision(
    truth: DemoTruth, name: str, candidates: Candidates, mining: MiningConfig, total: int
) -> list[dict[str, Any]]:
    """What would be kept if every pair had to be right with so much estimated precision, and how good it is."""
    cuts = []
    for minimum in _CUTS:
        by_precision = mining.model_copy(update={"threshold": "auto", "min_precision": minimum, "fdr": None})
        judged = _chosen(truth, name, candidates, by_precision, -np.inf)
        scores = score_pairs(_correct(judged), _truth_ids(judged), total)
        whole = reliability(_estimates(judged), _correct(judged), bins=1).to_pylist()[0]
        cuts.append(
            {
                "min_precision": minimum,
                "kept": scores.pairs,
                "expected_precision": whole["mean_estimate"],
                "precision": whole["precision"],
                "precision_low": whole["precision_low"],
                "precision_high": whole["precision_high"],
                "recall": scores.recall,
                "f1": scores.f1,
            }
        )
    return cuts


def _chosen(truth: DemoTruth, name: str, candidates: Candidates, mining: MiningConfig, threshold: float) -> pa.Table:
    """The candidates that would be kept by another rule, judged."""
    reasons = mining_stage.choose(candidates, mining, threshold)
    pairs = pairs_table(name, candidates, reasons)
    return judge(truth, pairs.filter(pairs.column("kept")), name)


def _expected(kept: pa.Table) -> float | None:
    return float(_estimates(kept).mean()) if len(kept) else None


def _estimates(judged: pa.Table) -> Any:
    return judged.column("precision_estimate").to_numpy(zero_copy_only=False).astype(np.float32)


def _correct(judged: pa.Table) -> Any:
    return judged.column("correct").to_numpy(zero_copy_only=False).astype(bool)


def _truth_ids(judged: pa.Table) -> Any:
    return judged.column("truth_id").to_numpy(zero_copy_only=False).astype(str)


def _hours(context: Context, langs: list[str]) -> float:
    columns = ["num_samples", "lang", "drop_reason"]
    recordings = storage.read_tables(context.folder.table("recordings"), RECORDINGS, columns).to_pylist()
    samples = sum(row["num_samples"] for row in recordings if row["drop_reason"] is None and row["lang"] in langs)
    return float(samples / SAMPLE_RATE / 3600)


def _rows(context: Context, lang: str) -> int:
    folder = context.folder.table("segments", f"lang={lang}")
    return sum(map(storage.num_rows, storage.list_files(folder, ".parquet")))
