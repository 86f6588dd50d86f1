"""A corpus from published metadata: read lines, fetch what they name, join it, and prove that each is accounted for.

The folder is the state, as of a run, and the same executors do the shards: what was killed goes on where it stopped.
"""

from collections import Counter
from collections.abc import Iterator, Sequence, Set
from typing import Any

import yaml

from seamlessalign import storage, web_access
from seamlessalign.errors import ConfigError, InputError, SeamlessAlignError
from seamlessalign.pipelines.beam_job import refuse_beside_job
from seamlessalign.pipelines.context import new_run_id
from seamlessalign.pipelines.driver import Driver, Executor, JobResult, clear_folder
from seamlessalign.pipelines.driver_lock import only_driver
from seamlessalign.pipelines.folder import REBUILD_STAGES, RunFolder
from seamlessalign.pipelines.heartbeat import driving
from seamlessalign.pipelines.ledger import read_marks, write_ledger
from seamlessalign.pipelines.local import LocalExecutor, share_out
from seamlessalign.pipelines.published import assemble_stage, audio_stage, lines_stage, share_stage, texts_stage
from seamlessalign.pipelines.published.again import rounds_of, try_again
from seamlessalign.pipelines.published.kept_recordings import count_anew, size_of_kept
from seamlessalign.pipelines.published.lost import examples, write_missing
from seamlessalign.pipelines.published.rebuild_config import RebuildConfig
from seamlessalign.pipelines.published.rebuild_tasks import (
    CLIPS,
    TEXTS,
    RebuildContext,
    RebuildTask,
    made_of,
    terms_of,
    versions_of,
)
from seamlessalign.pipelines.shard_task import ShardTask
from seamlessalign.pipelines.slurm import SlurmExecutor
from seamlessalign.pipelines.stage_plans import StagePlan
from seamlessalign.pipelines.verify import prove
from seamlessalign.rows import SCHEMA_VERSION, LedgerLine
from seamlessalign.typed_config import digest, parse_written_yaml

LEVELS = (("lines",), ("share",), ("audio", "texts"), ("assemble",))


def rebuild(
    config: RebuildConfig, executor_name: str = "local", beam_options: Sequence[str] = (), again: Set[str] = frozenset()
) -> JobResult:
    """Rebuild a corpus, or what is left of it, by worker processes (`local`), job arrays (`slurm`) or a Beam runner.

    `again`: reasons; recordings and WET files that could not be had for one of these before are asked for once more.

    Raises ConfigError, InputError, StorageError for what the user can mend, and nothing is lost; SeamlessAlignError
    where a worker died, or the counts do not balance.
    """
    if beam_options and executor_name != "beam":
        raise ConfigError(f"{beam_options[0]}: options of a runner need --executor beam")
    folder = RunFolder(config.output)
    _check_folder(folder)
    web_access.use(config.fetch.access())
    for uri in (*config.metadata, *config.texts):
        if not storage.exists(uri):
            raise InputError(f"{uri}: there is no such file")
    for key, place in (("common_crawl", config.common_crawl), ("audio.root", config.audio.root)):
        if place is not None and storage.is_local(place) and not storage.local_path(place).is_dir():
            raise InputError(f"{key}: {place}: there is no such folder")
    if executor_name == "beam":
        from seamlessalign.pipelines.published.beam_rebuild import BeamRebuild

        beam_rebuild = BeamRebuild(config, list(beam_options))
        storage.check_writable(folder.root)
        with only_driver(folder), driving(folder, beam_rebuild.context.run_id):
            clear_folder(folder)
            _write_config(folder, config)
            count_anew(beam_rebuild.context)
            _try_again(beam_rebuild.context, again)
            counts = beam_rebuild.do()
            return JobResult(folder, [], 0, 0) if counts is None else _finished(beam_rebuild.context, *counts)
    slurm = SlurmExecutor(config.resources, folder.root, "audio") if executor_name == "slurm" else None
    workers = slurm.workers if slurm else share_out(config.resources.model_copy(update={"device": "cpu"}))
    context = RebuildContext(config, folder.root, workers.device, workers.threads, new_run_id())
    storage.check_writable(folder.root)
    with only_driver(folder), driving(folder, context.run_id):
        if slurm is not None:
            refuse_beside_job(folder)
            slurm.clear()
        else:
            clear_folder(folder)
        _write_config(folder, config)
        count_anew(context)
        _try_again(context, again)
        executor: Executor = slurm or LocalExecutor(workers, config.resources.shards_per_group)
        driver = Driver(context, executor)
        try:
            for level in LEVELS:
                driver.do([plan_stage(stage, context) for stage in level])
        finally:
            executor.close()
        result = _finished(context, driver.done, driver.kept)
        if slurm is not None:
            slurm.clear(patience=60.0)  # the last tasks are about to end
        return result


def plan_stage(stage: str, context: RebuildContext) -> StagePlan:
    """The plan of a stage, of which what it needs is done."""
    config = context.config
    tasks: list[RebuildTask]
    digests: list[str]
    amounts: list[float] = []
    if stage == lines_stage.STAGE:
        tasks, digests = [RebuildTask(0)], [_lines_digest(config)]
    elif stage == share_stage.STAGE:
        sizes = [config.audio.urls_per_shard, config.files_per_shard, config.pairs_per_shard]
        tasks, digests = [RebuildTask(0)], [digest(stage, _lines_digest(config), config.limit, sizes, terms_of(config))]
    else:
        shares = share_stage.read_shares(context)
        if stage == audio_stage.STAGE:
            tasks, rounds = _with_earlier(shares.earlier_audio), rounds_of(context)
            digests = [
                _audio_digest(config, content, rounds.get(f"{stage} {task.name}", 0))
                for task, (_, content) in zip(tasks, shares.audio, strict=True)
            ]
            amounts = [float(count) for count, _ in shares.audio]
        elif stage == texts_stage.STAGE:
            tasks, rounds = _with_earlier(shares.earlier_texts), rounds_of(context)
            base = digest(made_of(TEXTS, config), terms_of(config))
            digests = [
                digest(base, content, rounds.get(f"{stage} {task.name}", 0))
                for task, (_, content) in zip(tasks, shares.texts, strict=True)
            ]
            amounts = [float(count) for count, _ in shares.texts]
        else:
            tasks = shares.homes
            base = digest(stage, SCHEMA_VERSION, _lines_digest(config), config.corpus, list(_contents(context)))
            digests = [digest(base, task.source, task.lines, task.first, task.last) for task in tasks]
            amounts = [float(task.last - task.first) for task in tasks]
    found = [ShardTask(stage, task.name, one, task) for task, one in zip(tasks, digests, strict=True)]
    return StagePlan(stage, found, sum(amounts) if amounts else float(len(tasks)))


def _with_earlier(names: Sequence[Sequence[str]]) -> list[RebuildTask]:
    return [RebuildTask(number, earlier=tuple(some)) for number, some in enumerate(names)]


def _audio_digest(config: RebuildConfig, content: str, times: int) -> str:
    """`times`: that the shard was done again."""
    return digest(made_of(CLIPS, config), terms_of(config), content, times)


def _try_again(context: RebuildContext, reasons: Set[str]) -> None:
    if not reasons or not storage.exists(context.folder.ledger):  # of one that is not finished, there is more to do
        return
    shares = share_stage.read_shares(context)

    def digest_of(name: str, times: int) -> str:
        return _audio_digest(context.config, shares.audio[int(name.removeprefix("part-"))][1], times)

    try_again(context, digest_of, reasons)


def _lines_digest(config: RebuildConfig) -> str:
    return digest(
        "lines", SCHEMA_VERSION, versions_of(config.metadata), config.metadata, config.directions, config.min_score
    )


def _contents(context: RebuildContext) -> Iterator[str]:
    """What the parts of clips and texts hold, which is for the web to say, not for the configuration."""
    for table in (CLIPS, TEXTS):
        for uri in storage.list_files(context.folder.table(table), ".parquet"):
            yield storage.footer(uri)[1][audio_stage.CONTENT]


def _check_folder(folder: RunFolder) -> None:
    """Raise InputError where a run is in the folder."""
    if not storage.exists(folder.config):
        return
    try:
        raw = parse_written_yaml(storage.read_bytes(folder.config))
    except (yaml.YAMLError, ValueError):
        return  # written anew
    if isinstance(raw, dict) and "metadata" not in raw:
        raise InputError(f"{folder.root}: is the folder of a run; rebuild into another")


def _write_config(folder: RunFolder, config: RebuildConfig) -> None:
    resolved: dict[str, Any] = config.model_dump(mode="json")
    whole = digest({key: value for key, value in resolved.items() if key not in ("resources", "output", "fetch")})
    text = yaml.safe_dump({**resolved, "digest": whole}, sort_keys=False, allow_unicode=True)
    storage.write_bytes_atomic(folder.config, text.encode())


def _finished(context: RebuildContext, done: int, kept: int) -> JobResult:
    """Gather the ledger, check it, write what is missing, and clear what only those that are not done need."""
    folder = context.folder
    lines = write_ledger(folder, REBUILD_STAGES)
    prove(folder)
    write_missing(context)
    for left in (context.all_pieces, context.all_earlier, context.downloads):
        storage.remove(left)
    return JobResult(folder, lines, done, kept)


def summary_text(result: JobResult) -> str:
    """What came of the lines, for people."""
    of = {
        stage: [line for line in result.lines if line.stage == stage]
        for stage in ("lines", "share", "recordings", "clips", "texts", "pairs")
    }
    text = [f"{result.shards_done} shards done, {result.shards_kept} were done before"]
    for stage, what in (
        ("lines", "lines"), ("share", "pairs wanted"), ("recordings", "recordings"), ("clips", "spans"),
        ("texts", "sentences"),
    ):  # fmt: skip
        if of[stage]:
            text.append(_counted(what, of[stage]))
    marks = read_marks(result.folder, assemble_stage.STAGE)
    directions: dict[str, list[LedgerLine]] = {}
    for mark in marks.values():
        direction = mark.outputs[0].split("/")[1].removeprefix("direction=")
        directions.setdefault(direction, []).extend(line for line in mark.lines if line.stage == "pairs")
    for direction, lines in sorted(directions.items()):
        hours = sum(line.samples_kept for line in lines) / 16_000 / 3600
        length = f"{hours:.2f} h" if hours >= 0.1 else f"{hours * 3600:.0f} s"
        text.append(f"{_counted(f'{direction}: pairs', lines)}; {length} of its first speech side")
    text += [f"{reason}, such as: {detail}" for reason, detail in examples(result.folder)]
    kept = storage.join(result.folder.root, "sources")
    if storage.is_local(kept) and (size := size_of_kept(kept)):
        text.append(f"{kept}: {size / 2**20:,.1f} MiB of recordings, kept for other spans of them (audio.kept_gb)")
    return "\n".join(text)


def _counted(what: str, lines: list[LedgerLine]) -> str:
    dropped: Counter[str] = Counter()
    for line in lines:
        dropped.update(line.dropped)
    why = ", ".join(f"{reason} {count}" for reason, count in dropped.most_common())
    rows_in, kept = sum(line.rows_in for line in lines), sum(line.rows_kept for line in lines)
    if rows_in != kept + sum(dropped.values()):
        raise SeamlessAlignError(f"{what}: {rows_in} are not {kept} kept and {sum(dropped.values())} dropped")
    return f"{what}: {rows_in} = {kept} kept" + (f" + {sum(dropped.values())} dropped ({why})" if dropped else "")
