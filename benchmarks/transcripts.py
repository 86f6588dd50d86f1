"""How well transcripts of a demo's pairs say what was said, by language and by how sure the recogniser was.

The stage `transcripts` is done again for the corpus of a finished demo, in a folder of its own. Of each audio side
whose span is one prompt's (intersection over union of 0.8), each span once, the words are compared with the prompt's
transcript, without case and punctuation: error rates of words and characters, by jiwer.

    python -m benchmarks.transcripts runs/demo --direction esA-frA --model whisper-base
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import jiwer
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seamlessalign.config import load_config
from seamlessalign.embedders.text import spoken_form
from seamlessalign.languages import Direction
from seamlessalign.pipelines import transcripts_stage
from seamlessalign.pipelines.context import Context, use_threads
from seamlessalign.pipelines.corpus_stage import CorpusShard
from seamlessalign.pipelines.demo_data import DemoTruth, load_truth, match_spans
from seamlessalign.rows import SAMPLE_RATE, TRANSCRIPTS

_LIMITS = (-np.inf, -1.0, -0.7, -0.5, -0.3)  # least mean log-probability of a token

Span = tuple[str, int, int]  # uri, start, end
Heard = tuple[str, str, float]  # what was said, what was heard, and how sure the recogniser was


def transcribed(demo: Path, root: Path, direction: str, model: str, overrides: list[str]) -> tuple[pa.Table, str]:
    """The transcripts of a direction's corpus; and how many sides were dropped, speed, for people."""
    wanted = [f"transcripts.model={model}", *overrides]
    context = Context(load_config(str(demo / "run" / "run.yaml"), wanted, str(root)), str(root), "cpu", 1)
    use_threads(1)
    lines, tables = [], []
    for file in sorted((demo / "run" / "corpus" / f"direction={direction}").glob("*.parquet")):
        number = int(file.stem.removeprefix("part-"))
        mark = transcripts_stage.process(CorpusShard(direction, number, 0, 0), "measured", context)
        lines += mark.lines
        tables.append(pq.ParquetFile(root / mark.outputs[0]).read())
    dropped = sum((Counter(line.dropped) for line in lines), Counter[str]())
    hours = sum(line.samples_in for line in lines) / SAMPLE_RATE / 3600
    seconds = sum(value for line in lines for step, value in line.seconds.items() if step != "load models")
    told = f"{sum(line.rows_in for line in lines)} sides, {hours:.3f} h, {hours * 3600 / seconds:.1f} h a core-hour; "
    told += f"dropped: {', '.join(f'{count} {reason}' for reason, count in sorted(dropped.items())) or 'none'}"
    return pa.concat_tables(tables).select(TRANSCRIPTS.names), told


def compared(truth: DemoTruth, corpus: Iterable[Path], direction: str, found: pa.Table) -> dict[str, dict[Span, Heard]]:
    """By language, of each span that is a prompt's what was said and what was heard."""
    heard = {(row["pair_id"], row["side"]): row for row in found.to_pylist()}
    parsed, by_language = Direction.parse(direction), dict[str, dict[Span, Heard]]()
    for file in corpus:
        for side in ("src", "tgt"):
            lang = getattr(parsed, side)
            if not lang.is_audio:
                continue
            names = ["pair_id", *(f"{side}_{name}" for name in ("uri", "start", "end"))]
            rows = pq.ParquetFile(file).read(columns=names)
            placed = truth.placed.filter(pa.compute.equal(truth.placed["lang"], lang.lang))
            matched = match_spans(
                rows[names[1]].to_pylist(), rows[names[2]].to_numpy(), rows[names[3]].to_numpy(),
                placed["uri"].to_pylist(), placed["start"].to_numpy(), placed["end"].to_numpy(),
            )  # fmt: skip
            said = placed["text"].to_pylist()
            for row, place in zip(rows.to_pylist(), matched.tolist(), strict=True):
                told = heard.get((row["pair_id"], side))
                if place >= 0 and told is not None and spoken_form(said[place]):
                    span = row[names[1]], row[names[2]], row[names[3]]
                    pair = spoken_form(said[place]), spoken_form(told["text"]), told["avg_logprob"]
                    by_language.setdefault(lang.lang, {})[span] = pair
    return by_language


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("demo", type=Path, help="folder of a finished demo")
    parser.add_argument("--direction", action="append", help="of the run; may be repeated (default: all)")
    parser.add_argument("--model", default="whisper-base")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of the run's configuration")
    arguments = parser.parse_args()
    truth, corpus = load_truth(arguments.demo / "data"), arguments.demo / "run" / "corpus"
    there = sorted(folder.name.removeprefix("direction=") for folder in corpus.iterdir())
    by_language: dict[str, dict[Span, Heard]] = {}
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "corpus").symlink_to(corpus.resolve())
        for direction in arguments.direction or there:
            found, told = transcribed(arguments.demo, Path(name), direction, arguments.model, arguments.overrides)
            print(f"{direction}: {told}", flush=True)
            files = sorted((corpus / f"direction={direction}").glob("*.parquet"))
            for lang, pairs in compared(truth, files, direction, found).items():
                by_language.setdefault(lang, {}).update(pairs)
    print(f"{'lang':<6} {'at least':>8} {'spans':>6} {'WER':>6} {'CER':>6}")
    for lang, pairs in sorted(by_language.items()):
        for limit in _LIMITS:
            sure = [(said, text) for said, text, logprob in pairs.values() if logprob >= limit]
            if sure:
                said, text = (list(column) for column in zip(*sure, strict=True))
                rates = f"{jiwer.wer(said, text):6.3f} {jiwer.cer(said, text):6.3f}"
                print(f"{lang:<6} {limit:>8.1f} {len(sure):>6} {rates}")


if __name__ == "__main__":
    main()
