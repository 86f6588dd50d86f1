"""A run: plan the shards of each stage, do those that are not done, and prove that nothing was lost.

The folder is the state. A shard is done when its completion mark is there and carries the digest of the inputs and of
the configuration it depends on; so a run that was killed goes on where it stopped, a changed threshold mines again but
embeds nothing again, and changed resources do nothing again.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from seamlessalign import storage, web_access
from seamlessalign.config import RunConfig, dump_config
from seamlessalign.embedders import speech_models
from seamlessalign.errors import ConfigError, InputError
from seamlessalign.languages import Direction
from seamlessalign.model_files import find_model, place_of
from seamlessalign.pipelines import decoys_stage, gather_stage, mining_stage, reduce_stage
from seamlessalign.pipelines.beam_job import refuse_beside_job
from seamlessalign.pipelines.check_models import check_models
from seamlessalign.pipelines.context import Context, new_run_id
from seamlessalign.pipelines.driver import Driver, Executor, JobResult, clear_folder
from seamlessalign.pipelines.driver_lock import only_driver
from seamlessalign.pipelines.folder import RunFolder, side_stages, stages_of
from seamlessalign.pipelines.heartbeat import driving
from seamlessalign.pipelines.inputs import InputFile, Shard, cut_into_shards, cut_texts, find_recordings, find_texts
from seamlessalign.pipelines.ledger import read_marks, write_ledger
from seamlessalign.pipelines.local import LocalExecutor, share_out
from seamlessalign.pipelines.shard_task import ShardTask, write_input_tasks
from seamlessalign.pipelines.slurm import SlurmExecutor
from seamlessalign.pipelines.stage_plans import (
    BEHIND_SEARCH,
    LEVELS,
    StagePlan,
    StagePlanner,
    clear_unwanted,
    has_text,
    levels_of,
    speech_tasks,
    text_tasks,
    unwanted_stages,
)
from seamlessalign.pipelines.verify import prove
from seamlessalign.typed_config import digest, parse_written_yaml


@dataclass(frozen=True)
class RunInputs:
    """What a run starts from: the shards of its inputs with their digests."""

    models: dict[str, str]  # SHA-256 by name
    speech: list[ShardTask]
    text: list[ShardTask]

    @property
    def digests(self) -> tuple[list[str], list[str]]:
        """Of the shards of speech and of text."""
        return [task.digest for task in self.speech], [task.digest for task in self.text]

    def write(self, folder: RunFolder) -> None:
        """Say in the run's folder which inputs each shard has."""
        for stage, tasks in zip(LEVELS[0], (self.speech, self.text), strict=True):
            write_input_tasks(folder, stage, tasks)

    def first_plans(self) -> list[StagePlan]:
        """Plans of the stages that read the inputs."""
        return [StagePlan(stage, tasks, 0.0) for stage, tasks in zip(LEVELS[0], (self.speech, self.text), strict=True)]


def run(config: RunConfig, executor_name: str = "local", beam_options: list[str] | None = None) -> JobResult:
    """Do a run, or what is left of it, by worker processes (`local`), job arrays (`slurm`) or a Beam runner (`beam`).

    `beam_options`: pipeline options for that runner, as on a command line.

    Raises:
        ConfigError, InputError, StorageError, ModelError: something the user can mend; nothing is lost.
        SeamlessAlignError: a worker died, or the counts do not balance.
    """
    if config.output is None:
        raise ConfigError("no output folder: give --output DIR, or 'output:' in the configuration")
    if beam_options and executor_name != "beam":
        raise ConfigError(f"{beam_options[0]}: options of a runner need --executor beam")
    folder = RunFolder(config.output)
    check_models(config)
    inputs = read_inputs(config)
    if executor_name == "beam":
        from seamlessalign.pipelines.beam_run import BeamRun

        beam_run = BeamRun(config, beam_options or [])
        _check_context(beam_run.context)
        storage.check_writable(folder.root)
        with only_driver(folder), driving(folder, beam_run.context.run_id):
            clear_folder(folder)
            clear_unwanted(config, folder)
            _write_config(folder, config, inputs.models)
            counts = beam_run.run(inputs)
            return JobResult(folder, [], 0, 0) if counts is None else _finished(folder, *counts)
    slurm = SlurmExecutor(config.resources, folder.root) if executor_name == "slurm" else None
    if slurm is not None:
        config = config.model_copy(update={"resources": config.resources.within(slurm.mining_memory_gb)})
    workers = slurm.workers if slurm is not None else share_out(config.resources)
    context = Context(config, folder.root, workers.device, workers.threads, new_run_id())
    _check_context(context)
    storage.check_writable(folder.root)
    with only_driver(folder), driving(folder, context.run_id):
        if slurm is not None:
            refuse_beside_job(folder)
            slurm.clear()
        else:
            clear_folder(folder)
        executor: Executor = slurm or LocalExecutor(workers, config.resources.shards_per_group)
        for stage in unwanted_stages(config, folder):
            executor.take_up(stage, [])  # tasks of Slurm that nobody wants any more
        clear_unwanted(config, folder)
        _write_config(folder, config, inputs.models)
        inputs.write(folder)
        driver = Driver(context, executor)
        try:
            driver.do(inputs.first_plans())
            planner = StagePlanner(context, inputs.digests, workers.processes)
            for level in levels_of(config)[1:]:
                driver.do([planner.plan(stage) for stage in level])
        finally:
            executor.close()
        result = _finished(folder, driver.done, driver.kept)
        if slurm is not None:
            slurm.clear(patience=60.0)  # the last tasks are about to end
        return result


def choose_again(config: RunConfig) -> JobResult:
    """Do the stages behind the neighbour search of a finished run over, with whatever its inputs were.

    Raises InputError where the run is not finished as far as that, and what `run` raises.
    """
    if config.output is None:
        raise ConfigError("no output folder: give the folder of a run")
    folder = RunFolder(config.output)
    workers = share_out(config.resources.model_copy(update={"device": "cpu"}))  # nothing here needs another
    context = Context(config, folder.root, workers.device, workers.threads, new_run_id())
    for name in config.directions:
        mining_stage.check(Direction.parse(name), context)
    storage.check_writable(folder.root)
    with only_driver(folder):
        marks = read_marks(folder, gather_stage.STAGE)
        sides = {shard.removeprefix("side="): mark.digest for shard, mark in marks.items()}
        planner = StagePlanner(context, ([], []), workers.processes, sides)
        for name in config.directions:
            direction = Direction.parse(name)
            if not {str(direction.src), str(direction.tgt)} <= sides.keys() or not planner.is_searched(name):
                raise InputError(f"{folder.root}: the neighbours of {name} are not all found yet: finish the run first")
        with driving(folder, context.run_id):
            clear_folder(folder)
            raw = parse_written_yaml(storage.read_bytes(folder.config))
            storage.write_bytes_atomic(folder.config, _config_text(config, raw.get("digest", "")).encode())
            executor = LocalExecutor(workers, config.resources.shards_per_group)
            driver = Driver(context, executor)
            try:
                for stage in (*BEHIND_SEARCH, *side_stages(config)):
                    driver.do([planner.plan(stage)])
            finally:
                executor.close()
            return _finished(folder, driver.done, driver.kept)


def read_inputs(config: RunConfig) -> RunInputs:
    """Find the inputs of a run and cut them. Raises InputError where there is nothing to read, ModelError."""
    web_access.use(config.fetch.access())
    recordings = find_recordings(config.speech.inputs, config.root)
    texts = find_texts(config.text.inputs, config.root) if has_text(config) else []
    _check_inputs("speech", recordings)
    if has_text(config):
        _check_inputs("text", texts)
    models = _model_digests(config)
    return RunInputs(models, speech_tasks(config, recordings, models), text_tasks(config, texts, models))


def plan_inputs(config: RunConfig) -> tuple[list[Shard], list[Shard]]:
    """The shards of recordings and of texts that a run over the present inputs has."""
    web_access.use(config.fetch.access())
    recordings = cut_into_shards(find_recordings(config.speech.inputs, config.root), config.speech.recordings_per_shard)
    found = find_texts(config.text.inputs, config.root) if has_text(config) else []
    texts = cut_texts(found, config.text.lines_per_shard)
    return recordings, texts


def _finished(folder: RunFolder, done: int, kept: int) -> JobResult:
    """Gather the ledger and check it."""
    lines = write_ledger(folder, stages_of(folder))
    prove(folder)
    return JobResult(folder, lines, done, kept)


def _check_context(context: Context) -> None:
    """Raise now what would be raised after hours of embedding."""
    for name in context.config.directions:
        mining_stage.check(Direction.parse(name), context)
    decoys_stage.check(context)
    reduce_stage.check(context)


def _model_digests(config: RunConfig) -> dict[str, str]:
    """SHA-256 of every model that the run will load; raises before any work where one is missing."""
    names = set(speech_models(config.speech.embedder, config.speech_languages(), config.models))
    if config.speech.hears_languages:
        names.add(config.speech.lid.model)
    if has_text(config):
        names |= {config.text.lid.model, config.text.embedder}
    return {name: find_model(name, place_of(name, config.models)).sha256 for name in sorted(names)}


def _check_inputs(section: str, files: list[InputFile]) -> None:
    if not any(file.problem is None for file in files):
        first = f": {files[0].uri}: {files[0].problem}" if files else ""
        raise InputError(f"{section}.inputs: nothing to read{first}")


def _write_config(folder: RunFolder, config: RunConfig, models: dict[str, str]) -> None:
    resolved = dump_config(config)
    whole = digest({k: v for k, v in resolved.items() if k not in ("resources", "output", "fetch", "root")}, models)
    storage.write_bytes_atomic(folder.config, _config_text(config, whole).encode())


def _config_text(config: RunConfig, whole: str) -> str:
    output = str(config.output) if "://" in str(config.output) else str(Path(str(config.output)).absolute())
    resolved: dict[str, Any] = {**dump_config(config), "output": output, "digest": whole}
    return yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True)
