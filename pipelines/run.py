"""A run: plan the shards of each stage, do those that are not done, and prove that nothing was lost.

The folder is the state. A shard is done when its completion mark is there and carries the digest of the inputs and of
the configuration it depends on; so a run that was killed goes on where it stopped, a changed threshold mines again but
embeds nothing again, and changed resources do nothing again.
"""

import contextlib
import fcntl
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import yaml

from seamlessalign import storage
from seamlessalign.config import DecodeConfig, RunConfig, digest, dump_config
from seamlessalign.embedders import default_frames, speech_digest, speech_models, speech_rows_digest
from seamlessalign.embedders.card import means_digest
from seamlessalign.errors import ConfigError, InputError, SeamlessAlignError, StorageError
from seamlessalign.languages import Direction
from seamlessalign.model_files import find_model, place_of
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
from seamlessalign.pipelines.beam_stage import ShardTask
from seamlessalign.pipelines.check_models import check_models
from seamlessalign.pipelines.context import Context
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.inputs import Shard, cut_into_shards, cut_texts, find_recordings, find_texts
from seamlessalign.pipelines.ledger import Mark, done_shards, read_marks, verify, write_ledger
from seamlessalign.pipelines.local import LocalExecutor, share_out
from seamlessalign.pipelines.mining_stage import MiningTask
from seamlessalign.pipelines.pair_filters import lexicons_digest
from seamlessalign.pipelines.progress import Progress
from seamlessalign.pipelines.search_plan import audio_seconds
from seamlessalign.pipelines.search_sides import load_sides
from seamlessalign.pipelines.search_sizes import choice_memory, list_width, over_memory
from seamlessalign.pipelines.search_stage import IndexTask, SearchTask
from seamlessalign.pipelines.slurm import SlurmExecutor
from seamlessalign.pipelines.span_counts import FRAMES_TABLE
from seamlessalign.pipelines.span_filters import sound_models
from seamlessalign.pipelines.span_languages import idle_lid_keys, thresholds_of
from seamlessalign.rows import SCHEMA_VERSION, LedgerLine

log = logging.getLogger(__name__)

STAGES = (
    speech_stage.STAGE,
    text_stage.STAGE,
    decoys_stage.STAGE,
    reduce_stage.STAGE,
    gather_stage.STAGE,
    search_stage.INDEX_STAGE,
    search_stage.STAGE,
    mining_stage.STAGE,
    corpus_stage.STAGE,
)
_TABLES = {
    speech_stage.STAGE: ("recordings", "segments", FRAMES_TABLE),
    text_stage.STAGE: ("sentences",),
    decoys_stage.STAGE: (decoys_stage.TABLE,),
    reduce_stage.STAGE: (reduce_stage.TABLE,),
    gather_stage.STAGE: (gather_stage.TABLE,),
    search_stage.INDEX_STAGE: (search_stage.INDEX_TABLE,),
    search_stage.STAGE: (search_stage.TABLE,),
    mining_stage.STAGE: ("pairs", mining_stage.KEPT_TABLE),
    corpus_stage.STAGE: ("corpus",),
}


@dataclass(frozen=True)
class RunResult:
    """What a finished run did."""

    folder: RunFolder
    lines: list[LedgerLine]
    shards_done: int  # by this call
    shards_kept: int  # done before

    @property
    def quarantined(self) -> int:
        """Inputs that could not be read."""
        return sum(line.quarantined for line in self.lines)

    @property
    def exit_status(self) -> int:
        """0, or 3 where part of the input was set aside."""
        return 3 if self.quarantined else 0


Executor = LocalExecutor | SlurmExecutor


def run(config: RunConfig, executor_name: str = "local") -> RunResult:
    """Do a run, or what is left of it, by worker processes (`local`) or job arrays (`slurm`).

    Raises:
        ConfigError, InputError, StorageError, ModelError: something the user can mend; nothing is lost.
        SeamlessAlignError: a worker died, or the counts do not balance.
    """
    if config.output is None:
        raise ConfigError("no output folder: give --output DIR, or 'output:' in the configuration")
    folder = RunFolder(config.output)
    check_models(config)
    recordings = find_recordings(config.speech.inputs)
    texts = find_texts(config.text.inputs) if _has_text(config) else []
    _check_inputs("speech", recordings)
    if _has_text(config):
        _check_inputs("text", texts)
    models = _model_digests(config)
    slurm = SlurmExecutor(config.resources, folder.root) if executor_name == "slurm" else None
    if slurm is not None:
        config = config.model_copy(update={"resources": config.resources.within(config.resources.slurm.memory_gb)})
    workers = slurm.workers if slurm is not None else share_out(config.resources)
    context = Context(config, folder.root, workers.device, workers.threads)
    for name in config.directions:
        mining_stage.check(Direction.parse(name), context)  # raises now, not after hours of embedding
    decoys_stage.check(context)
    reduce_stage.check(context)
    storage.check_writable(folder.root)
    with _only_driver(folder):
        storage.remove_unfinished(folder.root)
        _write_config(folder, config, models)
        executor: Executor = slurm or LocalExecutor(workers, config.resources.shards_per_group)
        try:
            count = _Count()
            speech = _speech_tasks(config, recordings, models)
            text = _text_tasks(config, texts, models)
            count.add(_do_stage(speech_stage.STAGE, speech, _audio_seconds(speech), context, executor))
            count.add(_do_stage(text_stage.STAGE, text, 0.0, context, executor))
            upstream = [task.digest for task in speech], [task.digest for task in text]
            _mine_and_cut(context, executor, upstream, count)
        finally:
            executor.close()
        lines = write_ledger(folder, STAGES)
        verify(folder, lines)
    return RunResult(folder, lines, count.done, count.kept)


def choose_again(config: RunConfig) -> RunResult:
    """Do the stages behind the neighbour search of a finished run over, with whatever its inputs were.

    Raises InputError where the run is not finished as far as that, and what `run` raises.
    """
    if config.output is None:
        raise ConfigError("no output folder: give the folder of a run")
    folder = RunFolder(config.output)
    workers = share_out(config.resources.model_copy(update={"device": "cpu"}))  # nothing here needs another
    context = Context(config, folder.root, workers.device, workers.threads)
    for name in config.directions:
        mining_stage.check(Direction.parse(name), context)
    storage.check_writable(folder.root)
    with _only_driver(folder):
        sides = {
            shard.removeprefix("side="): mark.digest for shard, mark in read_marks(folder, gather_stage.STAGE).items()
        }
        for name in config.directions:
            direction = Direction.parse(name)
            if not {str(direction.src), str(direction.tgt)} <= sides.keys() or not _is_searched(name, context, sides):
                raise InputError(f"{folder.root}: the neighbours of {name} are not all found yet: finish the run first")
        storage.remove_unfinished(folder.root)
        raw = yaml.safe_load(storage.read_bytes(folder.config))
        storage.write_bytes_atomic(folder.config, _config_text(config, raw.get("digest", "")).encode())
        executor, count = LocalExecutor(workers, config.resources.shards_per_group), _Count()
        try:
            searched = {name: search_stage.searched(name, context) for name in config.directions}
            _choose_and_cut(context, executor, sides, searched, count)
        finally:
            executor.close()
        lines = write_ledger(folder, STAGES)
        verify(folder, lines)
    return RunResult(folder, lines, count.done, count.kept)


def _is_searched(name: str, context: Context, sides: dict[str, str]) -> bool:
    """Whether the lists of all rows of a direction are there."""
    done = search_stage.searched(name, context, _search_digest(name, context, sides))
    return search_stage.is_complete(load_sides(name, context), done)


def plan_inputs(config: RunConfig) -> tuple[list[Shard], list[Shard]]:
    """The shards of recordings and of texts that a run over the present inputs has."""
    recordings = cut_into_shards(find_recordings(config.speech.inputs), config.speech.recordings_per_shard)
    texts = cut_texts(find_texts(config.text.inputs), config.text.lines_per_shard) if _has_text(config) else []
    return recordings, texts


@dataclass
class _Count:
    """Shards done by this call and before."""

    done: int = 0
    kept: int = 0

    def add(self, counts: tuple[int, int]) -> None:
        self.done += counts[0]
        self.kept += counts[1]


def _speech_tasks(config: RunConfig, recordings: list[Any], models: dict[str, str]) -> list[ShardTask]:
    base = _speech_digest(config, models)  # once for all shards: it reads the weights of the embedder
    shards = cut_into_shards(recordings, config.speech.recordings_per_shard)
    return [ShardTask(speech_stage.STAGE, shard.name, digest(base, _files(shard)), shard) for shard in shards]


def _text_tasks(config: RunConfig, texts: list[Any], models: dict[str, str]) -> list[ShardTask]:
    base = _text_digest(config, models)
    shards = cut_texts(texts, config.text.lines_per_shard)
    return [ShardTask(text_stage.STAGE, shard.name, digest(base, _files(shard)), shard) for shard in shards]


def _mine_and_cut(context: Context, executor: Executor, upstream: tuple[list[str], list[str]], count: _Count) -> None:
    """Everything behind the embeddings. `upstream`: digests of the shards of speech and of text."""
    config, folder = context.config, context.folder
    decoys = _decoys_tasks(context, upstream[1])
    count.add(_do_stage(decoys_stage.STAGE, decoys, len(decoys) * config.mining.decoys.count, context, executor))
    reduced = _reduce_tasks(context, upstream)
    count.add(_do_stage(reduce_stage.STAGE, reduced, len(reduced), context, executor))
    gathered = _gather_tasks(context, upstream, [task.digest for task in reduced])
    count.add(_do_stage(gather_stage.STAGE, gathered, len(gathered), context, executor))
    sides = {task.name.removeprefix("side="): task.digest for task in gathered}
    wanted = {name: _mine_digest(name, context, sides) for name in config.directions}
    marks = read_marks(folder, mining_stage.STAGE)
    tables = _TABLES[mining_stage.STAGE]
    files = {folder.relative(uri) for table in tables for uri in storage.list_files(folder.table(table))}
    due = [name for name in config.directions if not _is_mined(name, wanted, marks, files)]
    _choose_and_cut(context, executor, sides, _search(context, executor, sides, due, count), count)


def _choose_and_cut(
    context: Context,
    executor: Executor,
    sides: dict[str, str],
    searched: dict[str, list[SearchTask]],
    count: _Count,
) -> None:
    """Pairs from neighbour lists, and the corpus from pairs. `sides`: digests of the gathered sides by name."""
    config = context.config
    wanted = {name: _mine_digest(name, context, sides) for name in config.directions}
    mined = [
        ShardTask(
            mining_stage.STAGE, f"direction={name}", wanted[name], MiningTask(name, tuple(searched.get(name, ()))),
        )
        for name in config.directions
    ]  # fmt: skip
    count.add(_do_stage(mining_stage.STAGE, mined, len(mined), context, executor))
    cut = corpus_stage.plan(context)
    corpus = [
        ShardTask(
            corpus_stage.STAGE,
            shard.name,
            digest("corpus", SCHEMA_VERSION, config.corpus, wanted[shard.direction], shard.first, shard.last),
            shard,
        )
        for shard in cut
    ]
    pairs = sum(shard.last - shard.first for shard in cut)
    count.add(_do_stage(corpus_stage.STAGE, corpus, pairs, context, executor))


def _decoys_tasks(context: Context, text: list[str]) -> list[ShardTask]:
    return [
        ShardTask(
            decoys_stage.STAGE,
            f"lang={side.lang}",
            digest("decoys", SCHEMA_VERSION, str(side), decoys_stage.digest_parts(side, context), text),
            side,
        )
        for side in decoys_stage.sides_to_embed(context)
    ]


def _reduce_tasks(context: Context, upstream: tuple[list[str], list[str]]) -> list[ShardTask]:
    """The one task that makes the map of all rows; none where they are not reduced."""
    parts = reduce_stage.digest_parts(context)
    if not parts:
        return []
    sides = {str(side): side for side in context.config.sides()}
    task = reduce_stage.ReduceTask(tuple(sides[name] for name in sorted(sides)))
    whole = digest(SCHEMA_VERSION, parts, sorted(sides), upstream)
    return [ShardTask(reduce_stage.STAGE, reduce_stage.NAME, whole, task)]


def _gather_tasks(context: Context, upstream: tuple[list[str], list[str]], reduced: list[str]) -> list[ShardTask]:
    """A task for each side. `reduced`: the digest of the map that its rows go through, where there is one."""
    sides = {str(side): side for side in context.config.sides()}
    tasks = []
    for name in sorted(sides):
        side = sides[name]
        parts = [*gather_stage.digest_parts(context), name, decoys_stage.digest_parts(side, context), *reduced]
        rows: Any = upstream[0 if side.is_audio else 1]
        if decoys_stage.kind_of(side, context) in ("sides", "lent"):
            rows = upstream
        tasks.append(ShardTask(gather_stage.STAGE, f"side={name}", digest(parts, rows), side))
    return tasks


def _search_digest(name: str, context: Context, sides: dict[str, str]) -> str:
    direction, mining = Direction.parse(name), context.config.mining
    compressed = mining.backend if mining.backend in ("auto", search_stage.COMPRESSED) else search_stage.EXACT
    rows = [sides[str(direction.src)], sides[str(direction.tgt)]]
    return digest("search in rectangles", SCHEMA_VERSION, name, rows, list_width(mining), compressed)


def _mine_digest(name: str, context: Context, sides: dict[str, str]) -> str:
    config = context.config
    card = speech_digest(config.speech.embedder, config.models)
    chosen = [config.mining, card, lexicons_digest(config.mining.filters)]
    return digest("mine and keep by audio", SCHEMA_VERSION, name, chosen, _search_digest(name, context, sides))


def _is_mined(name: str, wanted: dict[str, str], marks: dict[str, Mark], files: set[str]) -> bool:
    mark = marks.get(f"direction={name}")
    return mark is not None and mark.digest == wanted[name] and set(mark.outputs) <= files


def _search(
    context: Context, executor: Executor, sides: dict[str, str], due: list[str], count: _Count
) -> dict[str, list[SearchTask]]:
    """Find the neighbours of the directions that are due; returns the tasks whose lists hold them.

    How a direction is cut depends on resources; what is done stays as it is, and what a finished direction
    was cut into stays too, so that other resources do nothing again.
    """
    folder = context.folder
    indexes: dict[str, ShardTask] = {}
    searched: dict[str, list[SearchTask]] = {}
    tasks: list[ShardTask] = []
    total = 0.0
    for name in due:
        base = _search_digest(name, context, sides)
        done = search_stage.searched(name, context, base)
        both = load_sides(name, context)
        told = over_memory(f"{name}: choosing its pairs", choice_memory(*both.sizes), context.config.resources)
        if told is not None:  # now, not after the search
            raise ConfigError(told)
        searched[name] = search_stage.plan(name, both, context, executor.workers.processes, done)
        tasks += [ShardTask(search_stage.STAGE, task.name, base, task) for task in searched[name]]
        total += sum(task.products for task in searched[name])
        if any(task.backend == search_stage.COMPRESSED for task in searched[name]):
            for index in (IndexTask(name, "src"), IndexTask(name, "tgt")):
                indexes[index.name] = ShardTask(search_stage.INDEX_STAGE, index.name, base, index)
    others = [name for name in context.config.directions if name not in due]
    kept_index, kept_search = (
        [shard for shard in read_marks(folder, stage) if any(shard.startswith(f"direction={n}.") for n in others)]
        for stage in (search_stage.INDEX_STAGE, search_stage.STAGE)
    )
    count.add(_do_stage(search_stage.INDEX_STAGE, list(indexes.values()), len(indexes), context, executor, kept_index))
    count.add(_do_stage(search_stage.STAGE, tasks, total, context, executor, kept_search))
    return searched


def _do_stage(
    stage: str,
    tasks: list[ShardTask],
    total: float,
    context: Context,
    executor: Executor,
    kept: Sequence[str] = (),
) -> tuple[int, int]:
    """Do the shards of a stage that are not done; returns how many were and how many had been before.

    `kept`: shards that are done and stay, whatever they were made from.
    """
    folder = context.folder
    names = [*kept, *(task.name for task in tasks)]
    # an index is built file by file, and what is there of it is of use although no mark names it yet
    unnamed = stage == search_stage.INDEX_STAGE
    done = done_shards(folder, stage, names, _TABLES[stage], keep_unnamed=unnamed)
    pending = [task for task in tasks if done.get(task.name) != task.digest]
    _write_plan(folder, stage, names)
    if pending:
        # An old mark would vouch for files that its shard is about to write over, if the run were killed then and
        # started again as it had been before; and the ledger no longer tells what the tables hold.
        storage.remove(folder.ledger)
        for task in pending:
            storage.remove(folder.mark(stage, task.name))
        share = len(pending) / len(tasks)
        if stage == speech_stage.STAGE:
            total = _audio_seconds(pending)
        total = total if stage == speech_stage.STAGE else total * share
        in_shards = isinstance(executor, SlurmExecutor)  # its tasks tell only when they are done
        progress = Progress(folder, stage, len(pending) if in_shards else total, in_shards=in_shards)
        try:
            executor.execute(stage, pending, context, progress.advance)
        except KeyboardInterrupt:
            progress.stop()
            raise
        except BaseException as error:
            progress.fail(str(error) or error.__class__.__name__)
            raise
        progress.finish()
        done_shards(folder, stage, names, _TABLES[stage], keep_unnamed=unnamed)
    return len(pending), len(names) - len(pending)


def _speech_digest(config: RunConfig, models: dict[str, str]) -> str:
    exclude: dict[str, Any] = dict.fromkeys(("inputs", "languages", "recordings_per_shard"), True)
    if not config.speech.vad.keep_probabilities:
        exclude["vad"] = {"keep_probabilities"}
    if config.speech.frames in (None, default_frames(config.speech.embedder)):  # as if nothing were said of them
        exclude["frames"] = True
    exclude["lid"] = idle_lid_keys(config)
    if config.speech.decode == DecodeConfig():
        exclude["decode"] = True
    if config.speech.spans.max_fragments is None:
        exclude["spans"] = {"max_fragments"}
    sound = sound_models(config)
    exclude |= {} if sound else {"quality": True}
    speech = config.speech.model_dump(mode="json", exclude=exclude)
    card = speech_rows_digest(config.speech.embedder, config.models)
    parts = speech, config.speech_languages(), models, card, *([sound] if sound else [])
    return digest("speech", SCHEMA_VERSION, *parts, *thresholds_of(config))


def _text_digest(config: RunConfig, models: dict[str, str]) -> str:
    text = config.text.model_dump(mode="json", exclude={"inputs", "languages", "lines_per_shard"})
    return digest("text", SCHEMA_VERSION, text, config.text_languages(), models, means_digest(config.text.embedder))


def _model_digests(config: RunConfig) -> dict[str, str]:
    """SHA-256 of every model that the run will load; raises before any work where one is missing."""
    names = set(speech_models(config.speech.embedder, config.speech_languages(), config.models))
    if config.speech.lang is None:
        names.add(config.speech.lid.model)
    if _has_text(config):
        names |= {config.text.lid.model, config.text.embedder}
    return {name: find_model(name, place_of(name, config.models)).sha256 for name in sorted(names)}


def _files(shard: Shard) -> list[dict[str, Any]]:
    return [asdict(file) for file in shard.files]


def _has_text(config: RunConfig) -> bool:
    return any(not side.is_audio for side in config.sides())


def _check_inputs(section: str, files: list[Any]) -> None:
    if not any(file.problem is None for file in files):
        first = f": {files[0].uri}: {files[0].problem}" if files else ""
        raise InputError(f"{section}.inputs: nothing to read{first}")


def _audio_seconds(tasks: list[ShardTask]) -> float:
    return audio_seconds([task.shard for task in tasks if isinstance(task.shard, Shard)])


def _write_config(folder: RunFolder, config: RunConfig, models: dict[str, str]) -> None:
    resolved = dump_config(config)
    whole = digest({k: v for k, v in resolved.items() if k not in ("resources", "output")}, models)
    storage.write_bytes_atomic(folder.config, _config_text(config, whole).encode())


def _config_text(config: RunConfig, whole: str) -> str:
    return yaml.safe_dump({**dump_config(config), "digest": whole}, sort_keys=False, allow_unicode=True)


def _write_plan(folder: RunFolder, stage: str, shards: list[str]) -> None:
    plan: dict[str, list[str]] = {}
    if storage.exists(folder.plan):
        with contextlib.suppress(ValueError):
            plan = json.loads(storage.read_bytes(folder.plan))
    plan[stage] = shards
    storage.write_bytes_atomic(folder.plan, json.dumps(plan).encode())


@contextlib.contextmanager
def _only_driver(folder: RunFolder) -> Iterator[None]:
    """Hold the folder's lock, which goes with the process however it ends."""
    if not storage.is_local(folder.root):
        yield
        return
    path = storage.local_path(folder.lock)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SeamlessAlignError(f"{folder.root}: another run is at work in this folder; wait for it") from None
        yield
    finally:
        os.close(handle)
