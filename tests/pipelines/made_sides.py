"""Run folders with made-up segments and sentences: what mining needs, without audio or models."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign import storage
from seamlessalign.config import RunConfig, parse_config
from seamlessalign.languages import Side
from seamlessalign.pipelines import decoys_stage, gather_stage, mining_stage, reduce_stage, search_stage
from seamlessalign.pipelines.context import Context
from seamlessalign.pipelines.ledger import write_mark
from seamlessalign.pipelines.mining_stage import MiningTask
from seamlessalign.pipelines.search_sides import load_sides
from seamlessalign.pipelines.search_stage import SearchTask
from seamlessalign.pipelines.shard_task import ShardTask
from seamlessalign.rows import Segment, Sentence, segment_id, segments_schema, sentence_id, sentences_schema

Rows = npt.NDArray[np.float32]
DIM = 48


def vectors(num_src: int, num_tgt: int, seed: int = 0, dim: int = DIM) -> tuple[Rows, Rows]:
    """Sources, and targets of which each is near the source of its number where there is one."""
    rng = np.random.default_rng(seed)
    src, tgt = rng.standard_normal((num_src, dim)), rng.standard_normal((num_tgt, dim))
    both = min(num_src, num_tgt)
    tgt[:both] = src[:both] + 0.6 * tgt[:both]
    return src.astype(np.float32), tgt.astype(np.float32)


def config_of(root: Path | str, directions: list[str], **mining: Any) -> RunConfig:
    """A configuration whose inputs nobody reads; `resources` may be among `mining`."""
    resources = {"workers": 1, "threads": 1, "device": "cpu", **mining.pop("resources", {})}
    raw = {
        "output": str(root),
        "directions": directions,
        "speech": {"inputs": ["nowhere.wav"]},
        "text": {"inputs": ["nowhere.txt"]},
        "mining": {"threshold": 1.0, "decoys": {"made": False}, **mining},
        "resources": resources,
    }
    return parse_config(raw, "test")


def context_of(config: RunConfig) -> Context:
    return Context(config, str(config.output), "cpu", 1)


def write_segments(root: Path | str, lang: str, rows: Rows, cuts: list[int]) -> list[str]:
    """Segments of one recording each 10 s, 2 s long, in parts that begin at `cuts`; returns the files."""
    context = context_of(config_of(root, [f"eng-{Side(lang, is_audio=True)}"]))
    made = []
    for number in range(len(rows)):
        recording = f"{number:016x}"
        start = (number % 5) * 160_000
        identity = segment_id(recording, start, start + 32_000)
        made.append(Segment(identity, recording, f"{recording}.wav", start, start + 32_000, lang, 0.9, 1.0, 1))
    return _write(context, f"segments/lang={lang}", made, rows, cuts, segments_schema(rows.shape[1]))


def write_sentences(root: Path | str, lang: str, rows: Rows, cuts: list[int]) -> list[str]:
    """Sentences of distinct words, in parts that begin at `cuts`; returns the files."""
    context = context_of(config_of(root, ["eng-frA"]))
    texts = [f"sentence number {number} has a few more words" for number in range(len(rows))]
    made = [Sentence(sentence_id(text, lang), text, lang, 0.9, "a.txt", at) for at, text in enumerate(texts)]
    return _write(context, f"sentences/lang={lang}", made, rows, cuts, sentences_schema(rows.shape[1]))


def mine(context: Context, order: int = 1, done: Sequence[SearchTask] = ()) -> dict[str, bytes]:
    """Gather, search and choose, tasks in order or (-1) from last to first; the tables of pairs by direction.

    done: tasks that another configuration had; they stay, and are done again here.
    """
    config = context.config
    names = {str(side): side for side in config.sides()}
    if config.mining.reduce is not None:
        all_sides = reduce_stage.ReduceTask(tuple(names[name] for name in sorted(names)))
        write_mark(context.folder, reduce_stage.process(all_sides, "reduced", context))
    for name, side in list(names.items())[::order]:
        write_mark(context.folder, gather_stage.process(side, f"gathered {name}", context))
    for direction in config.directions[::order]:
        tasks = search_stage.plan(
            direction, load_sides(direction, context), context, config.resources.workers,  # type: ignore[arg-type]
            [task for task in done if task.direction == direction],
        )  # fmt: skip
        if any(task.backend == search_stage.COMPRESSED for task in tasks):
            for index in (search_stage.IndexTask(direction, "tgt"), search_stage.IndexTask(direction, "src")):
                write_mark(context.folder, search_stage.process_index(index, "indexed", context))
        for task in tasks[::order]:
            write_mark(context.folder, search_stage.process(task, "searched", context))
        mark = mining_stage.process(MiningTask(direction, tuple(tasks)), "mined", context)
        write_mark(context.folder, mark)
    return {
        name: storage.read_bytes(context.folder.table("pairs", f"direction={name}", "part-00000"))
        for name in config.directions
    }


def search_tasks(context: Context, name: str) -> list[ShardTask]:
    """The search of a direction as tasks for an executor."""
    sides = load_sides(name, context)
    tasks = search_stage.plan(name, sides, context, 1, [])
    return [ShardTask(search_stage.STAGE, task.name, "searched", task) for task in tasks]


def side_kinds(context: Context) -> dict[str, str]:
    """Where each side's decoys come from."""
    return {str(side): decoys_stage.kind_of(side, context) for side in context.config.sides()}


def _write(context: Context, table: str, made: list[Any], rows: Rows, cuts: list[int], schema: Any) -> list[str]:
    uris = []
    for part, (begin, end) in enumerate(zip(cuts, [*cuts[1:], len(made)], strict=True)):
        uri = storage.join(context.folder.root, table, f"part-{part:05d}.parquet")
        some = storage.with_embeddings([asdict(row) for row in made[begin:end]], rows[begin:end], schema)
        storage.write_table(uri, some)
        uris.append(uri)
    return uris
