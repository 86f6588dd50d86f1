"""The Beam pipeline of a run's stages: shards in, completion marks out.

Each stage is one transform over independent shards whose results are written by the shard itself, so any Beam runner
gives the same files. What comes out of the pipeline are only the names of the shards that are done.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from seamlessalign.errors import SeamlessAlignError
from seamlessalign.languages import Side
from seamlessalign.pipelines import (
    corpus_stage,
    decoys_stage,
    gather_stage,
    mining_stage,
    reduce_stage,
    search_stage,
    speech_stage,
    text_stage,
)
from seamlessalign.pipelines.context import Context, use_threads
from seamlessalign.pipelines.corpus_stage import CorpusShard
from seamlessalign.pipelines.inputs import Shard
from seamlessalign.pipelines.ledger import Mark, write_mark
from seamlessalign.pipelines.mining_stage import MiningTask
from seamlessalign.pipelines.reduce_stage import ReduceTask
from seamlessalign.pipelines.search_stage import IndexTask, SearchTask

_error: SeamlessAlignError | None = None  # what stopped this process's last shard; Beam itself keeps only its text


@dataclass(frozen=True)
class ShardTask:
    """One shard to be done. `shard` is what its stage takes: input files, a side, a range of rows or of pairs, …"""

    stage: str
    name: str
    digest: str
    shard: Shard | Side | ReduceTask | IndexTask | SearchTask | MiningTask | CorpusShard


class DoShard(beam.DoFn):  # type: ignore[misc]
    """Does a shard, writes its tables, then its completion mark, and passes its name on."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def setup(self) -> None:
        """Called once for each copy of this function on a worker."""
        use_threads(self.context.threads)

    def process(self, element: ShardTask) -> Iterator[str]:
        """Do one shard."""
        global _error
        try:
            write_mark(self.context.folder, do_shard(element, self.context))
        except SeamlessAlignError as error:
            _error = error
            raise
        yield element.name


def do_shard(task: ShardTask, context: Context) -> Mark:
    """Do one shard of any stage and return its mark, which is not yet written."""
    return _PROCESS[task.stage](task.shard, task.digest, context)


_PROCESS: dict[str, Callable[[Any, str, Context], Mark]] = {
    speech_stage.STAGE: speech_stage.process,
    text_stage.STAGE: text_stage.process,
    decoys_stage.STAGE: decoys_stage.process,
    reduce_stage.STAGE: reduce_stage.process,
    gather_stage.STAGE: gather_stage.process,
    search_stage.INDEX_STAGE: search_stage.process_index,
    search_stage.STAGE: search_stage.process,
    mining_stage.STAGE: mining_stage.process,
    corpus_stage.STAGE: corpus_stage.process,
}


def shards_done(pipeline: Any, stage: str, tasks: Iterable[ShardTask], context: Context) -> Any:
    """Append a stage to a pipeline: the names of its shards, as each is done."""
    return (
        pipeline
        | f"{stage}: shards" >> beam.Create(list(tasks))
        | f"{stage}: spread" >> beam.Reshuffle()
        | f"{stage}: do" >> beam.ParDo(DoShard(context))
    )


def run_in_memory(stage: str, tasks: list[ShardTask], context: Context) -> None:
    """Run a stage over a group of shards on Beam's in-memory runner, in this process.

    Raises the SeamlessAlignError that stopped a shard.
    """
    global _error
    _error = None
    try:
        with beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([])) as pipeline:
            shards_done(pipeline, stage, tasks, context)
    except Exception:
        if _error is not None:
            raise _error from None
        raise
