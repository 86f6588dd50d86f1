"""The Beam pipeline of one stage: shards in, names of the shards that are done out.

Each stage is one transform over independent shards whose results are written by the shard itself, so any Beam runner
gives the same files.
"""

import threading
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from seamlessalign.errors import SeamlessAlignError
from seamlessalign.pipelines.context import JobContext, use_threads
from seamlessalign.pipelines.shard_task import ShardTask, do_and_mark

_error: SeamlessAlignError | None = None  # what stopped this process's last shard; Beam itself keeps only its text
_one_at_a_time = threading.Lock()  # runners call from many threads, and each shard may fill the memory of a worker


class DoShard(beam.DoFn):  # type: ignore[misc]
    """Does a shard, writes its tables, then its completion mark, and passes its name on."""

    def __init__(self, context: JobContext) -> None:
        self.context = context

    def setup(self) -> None:
        """Called once for each copy of this function on a worker."""
        use_threads(self.context.threads)

    def process(self, element: ShardTask) -> Iterator[str]:
        """Do one shard."""
        global _error
        try:
            with _one_at_a_time:
                do_and_mark(element, self.context)
        except SeamlessAlignError as error:
            _error = error
            raise
        yield element.name


def do_tasks(tasks: Any, stage: str, context: JobContext, hints: dict[str, str] | None = None) -> Any:
    """Do the shards of a stage: a collection of `ShardTask` → one of names. `hints`: resources that a worker needs."""
    do = beam.ParDo(DoShard(context))
    return (
        tasks
        | f"{stage}: spread" >> beam.Reshuffle()
        | f"{stage}: do" >> (do.with_resource_hints(**hints) if hints else do)
    )


def run_in_memory(stage: str, tasks: list[ShardTask], context: JobContext) -> None:
    """Run a stage over a group of shards on Beam's in-memory runner, in this process.

    Raises the SeamlessAlignError that stopped a shard.
    """
    global _error
    _error = None
    try:
        with beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([])) as pipeline:
            # spread over nobody else, which halves what Beam itself takes of a small group
            shards = pipeline | f"{stage}: shards" >> beam.Create(list(tasks), reshuffle=False)
            shards | f"{stage}: do" >> beam.ParDo(DoShard(context))
    except Exception:
        if _error is not None:
            raise _error from None
        raise
