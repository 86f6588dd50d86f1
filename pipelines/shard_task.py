"""One shard of one stage: what is to be done, and the doing of it, wherever that is."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from socket import gethostname
from typing import Any

from seamlessalign import storage, web_access
from seamlessalign.errors import StorageError
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
    transcripts_stage,
    units_stage,
)
from seamlessalign.pipelines.context import JobContext
from seamlessalign.pipelines.corpus_stage import CorpusShard
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.inputs import InputFile, Shard
from seamlessalign.pipelines.ledger import Mark, write_mark
from seamlessalign.pipelines.mining_stage import MiningTask
from seamlessalign.pipelines.published import assemble_stage, audio_stage, lines_stage, share_stage, texts_stage
from seamlessalign.pipelines.published.rebuild_tasks import RebuildTask
from seamlessalign.pipelines.reduce_stage import ReduceTask
from seamlessalign.pipelines.search_stage import IndexTask, SearchTask
from seamlessalign.pipelines.task_log import task_log


@dataclass(frozen=True)
class ShardTask:
    """One shard to be done. `shard` is what its stage takes: input files, a side, a range of rows or of pairs, …"""

    stage: str
    name: str
    digest: str
    shard: Shard | Side | ReduceTask | IndexTask | SearchTask | MiningTask | CorpusShard | RebuildTask


def do_and_mark(task: ShardTask, context: JobContext) -> Mark:
    """Do a shard, write its tables, then its completion mark, and log that."""
    web_access.use(context.config.fetch.access())
    with task_log(context, task.stage, task.name, task.digest) as failures:
        begun, clock = datetime.now(UTC), time.monotonic()
        mark = replace(
            do_shard(task, context), begun=begun.isoformat(timespec="milliseconds"), host=gethostname(),
            wall_seconds=round(time.monotonic() - clock, 3), failures=failures,
        )  # fmt: skip
        write_mark(context.folder, mark)
        if task.stage == speech_stage.STAGE:
            storage.remove(context.folder.stretches(task.name))
    return mark


def do_shard(task: ShardTask, context: JobContext) -> Mark:
    """Do one shard of any stage and return its mark, which is not yet written."""
    return _PROCESS[task.stage](task.shard, task.digest, context)


def task_to_json(task: ShardTask) -> dict[str, Any]:
    """A task over input files as plain values."""
    return asdict(task)


def task_from_json(raw: dict[str, Any]) -> ShardTask:
    """The task that `task_to_json` was given."""
    shard = Shard(raw["shard"]["name"], tuple(InputFile(**file) for file in raw["shard"]["files"]))
    return ShardTask(raw["stage"], raw["name"], raw["digest"], shard)


def write_input_tasks(folder: RunFolder, stage: str, tasks: Iterable[ShardTask]) -> None:
    """Write what the shards of a stage that reads inputs are made of, for whoever plans or verifies without them."""
    lines = "".join(json.dumps(task_to_json(task)) + "\n" for task in tasks)
    storage.write_bytes_atomic(folder.input_tasks(stage), lines.encode("ascii"))


def read_input_tasks(folder: RunFolder, stage: str) -> Iterator[ShardTask]:
    """What `write_input_tasks` wrote, one shard at a time."""
    uri = folder.input_tasks(stage)
    try:
        with storage.open_read(uri) as lines:
            for line in lines:
                yield task_from_json(json.loads(line))
    except OSError as error:
        raise StorageError(f"{uri}: cannot be read: {error.strerror or error}") from error


_PROCESS: dict[str, Callable[[Any, str, Any], Mark]] = {
    speech_stage.STAGE: speech_stage.process,
    text_stage.STAGE: text_stage.process,
    decoys_stage.STAGE: decoys_stage.process,
    reduce_stage.STAGE: reduce_stage.process,
    gather_stage.STAGE: gather_stage.process,
    search_stage.INDEX_STAGE: search_stage.process_index,
    search_stage.STAGE: search_stage.process,
    mining_stage.STAGE: mining_stage.process,
    corpus_stage.STAGE: corpus_stage.process,
    units_stage.STAGE: units_stage.process,
    transcripts_stage.STAGE: transcripts_stage.process,
    lines_stage.STAGE: lines_stage.process,
    share_stage.STAGE: share_stage.process,
    audio_stage.STAGE: audio_stage.process,
    texts_stage.STAGE: texts_stage.process,
    assemble_stage.STAGE: assemble_stage.process,
}
