"""A whole run as one Beam pipeline, mining included, for any runner: Dataflow, Flink, Spark, or Beam's own.

A stage is planned by a step of the pipeline itself when all shards of the stages before it are done (their names are a
side input of it), since how many tasks a search has is known only then. What flows between the steps are tasks and
names; rows go through the run's folder, so that a worker that is lost, or a step that a runner does twice, does no
harm, and the same command goes on after a job that failed.
"""

import io
import logging
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from seamlessalign import storage
from seamlessalign.config import RunConfig
from seamlessalign.errors import ConfigError, SeamlessAlignError
from seamlessalign.pipelines import decoys_stage, search_stage, speech_stage, text_stage
from seamlessalign.pipelines.beam_job import END, forget_job, record_job
from seamlessalign.pipelines.beam_stage import do_tasks
from seamlessalign.pipelines.context import Context, JobConfig, JobContext, new_run_id
from seamlessalign.pipelines.folder import SIDE_STAGES, RunFolder, stages_of
from seamlessalign.pipelines.interrupts import heeded_interrupts
from seamlessalign.pipelines.ledger import read_marks, read_plan
from seamlessalign.pipelines.local import share_out
from seamlessalign.pipelines.progress import Progress
from seamlessalign.pipelines.shard_task import ShardTask, read_input_tasks
from seamlessalign.pipelines.stage_plans import LEVELS, StagePlan, StagePlanner, begin_stage, end_stage, levels_of
from seamlessalign.pipelines.task_log import error_of, last_failure, task_log
from seamlessalign.typed_config import digest

if TYPE_CHECKING:
    from seamlessalign.pipelines.run import RunInputs

log = logging.getLogger(__name__)

Planner = Callable[[str, Any], StagePlan]  # of a stage, with the context that its shards get

GPU_STAGES = (speech_stage.STAGE, text_stage.STAGE, decoys_stage.STAGE, search_stage.STAGE, *SIDE_STAGES)
_LOCAL_RUNNERS = (None, "DirectRunner", "FnApiRunner", "SwitchingDirectRunner", "BundleBasedDirectRunner")
_BEGIN = "begin"  # the log of what a worker does before the shards of a stage
_LOOK_SECONDS = (1.0, 10.0)  # between looks at the marks of a local folder, and of a remote one


class BeamJob(ABC):
    """Stages on the runner that the options name; on Beam's in-memory runner where they name none.

    `context_of` makes what shards get of a device and the threads of a worker.
    """

    def __init__(
        self, config: JobConfig, output: str, flags: list[str], context_of: Callable[[str, int], JobContext]
    ) -> None:
        """`flags` go to the runner as they are, behind those of `resources.beam.options`. Raises ConfigError."""
        resources, beam_config = config.resources, config.resources.beam
        self._flags = [*beam_config.flags(), *flags]
        given = {flag.lstrip("-").partition("=")[0] for flag in self._flags if flag.startswith("--")}
        if "job_name" not in given:  # Dataflow refuses a second job of a name, so no two are at work in one folder
            self._flags.append(f"--job_name=seamlessalign-{digest(output)}")
        if "number_of_worker_harness_threads" not in given:  # each has a shard, and with it the memory of one
            self._flags.append("--number_of_worker_harness_threads=1")
        if "default_sdk_harness_log_level" not in given and "runner" not in given:
            self._flags.append("--default_sdk_harness_log_level=ERROR")
        self._options = PipelineOptions(self._flags)
        for name in sorted(given - _known(self._options)):
            log.warning("option --%s is none that Beam knows: it goes to the runner as it is", name)
        self._runner: str | None = self._options.view_as(StandardOptions).runner if "runner" in given else None
        self._only_built = bool(given & {"template_location", "dry_run"})
        local = self._runner in _LOCAL_RUNNERS
        if storage.is_local(output):
            self._check_reachable(output)
        if local:
            workers = share_out(resources)
            device = workers.device
            cores = workers.processes * workers.threads
            processes = int(self._options.view_as(DirectOptions).direct_num_workers) or cores  # to Beam 0 means all
            threads = resources.threads if resources.threads != "auto" else max(1, cores // processes)
        else:
            device = "cuda" if beam_config.accelerator or resources.device == "cuda" else "cpu"
            processes = beam_config.parallel
            threads = resources.threads if resources.threads != "auto" else 1
        self._processes = processes
        self._accelerator, self._min_ram = beam_config.accelerator, beam_config.memory_gb
        self.context = context_of(device, threads)

    def do(self) -> tuple[int, int] | None:
        """Do what is not done; returns how many shards were, and how many had been before.

        None where the options ask for the job's graph only. Raises the error that stopped a shard, or ConfigError and
        SeamlessAlignError of the runner.
        """
        folder = self.context.folder
        if self._only_built:
            self._run_pipeline(folder)
            return None
        stages = stages_of(folder)
        before = {(stage, name): mark for stage in stages for name, mark in read_marks(folder, stage).items()}
        with _watched(folder):
            self._run_pipeline(folder)
        done = kept = 0
        for stage in stages:
            for name, mark in read_marks(folder, stage).items():
                is_old = before.get((stage, name)) == mark
                done, kept = done + (not is_old), kept + is_old
        return done, kept

    def build(self) -> Any:
        """The pipeline of the whole run, not started."""
        runner = FnApiRunner() if self._runner is None else None
        pipeline = beam.Pipeline(runner=runner, options=self._options)
        before: list[Any] = []
        for level in self.levels():
            before = [self._append(pipeline, stage, before) for stage in level]
        return pipeline

    @abstractmethod
    def levels(self) -> Sequence[Sequence[str]]:
        """The stages in order, those that do not wait for each other together."""

    @abstractmethod
    def planner(self) -> Planner:
        """What plans a stage from the folder alone, on a worker."""

    def _append(self, pipeline: Any, stage: str, before: list[Any]) -> Any:
        """Append a stage behind others; what comes out is one element when all of its shards are done."""
        has_gpu = stage in GPU_STAGES and self.context.device == "cuda"
        context = self.context if has_gpu else self.context.on("cpu")
        waits = [beam.pvalue.AsList(ended) for ended in before]
        plan = _PlanStage(self.context, self.planner())
        tasks = pipeline | f"{stage}: begin" >> beam.Create([stage]) | f"{stage}: plan" >> beam.ParDo(plan, *waits)
        done = do_tasks(tasks, stage, context, self._hints(has_gpu))
        count = done | f"{stage}: count" >> beam.combiners.Count.Globally()
        return count | f"{stage}: end" >> beam.ParDo(_EndStage(stage, self.context))

    def _hints(self, has_gpu: bool) -> dict[str, str]:
        hints = {"min_ram": f"{self._min_ram:g}GB"} if self._min_ram is not None else {}
        return {**hints, "accelerator": self._accelerator} if has_gpu and self._accelerator else hints

    def _run_pipeline(self, folder: RunFolder) -> None:
        try:
            pipeline = self.build()
        except ValueError as error:  # what the runner says of options that it cannot do with
            raise ConfigError(f"{self._runner}: {' '.join(str(error).split())[:500]}") from error
        # the log of the shard has what Beam would print of an error
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
        result = None
        with heeded_interrupts() as heed, _silent_threads():
            try:
                result = pipeline.run()
                state = None if self._only_built else self._outcome(folder, result)
            except KeyboardInterrupt:
                if result is not None:
                    result.cancel()
                raise
            except Exception as error:
                heed()  # Ctrl-C in the middle of a shard is to Beam an error like any other
                raise self._told(folder, error) from error
        if state is not None and str(state) not in ("DONE", "UPDATED"):
            raise self._told(folder, RuntimeError(f"the job ended as {state}"))

    def _outcome(self, folder: RunFolder, result: Any) -> Any:
        """Wait for a job, which is recorded in the meantime: it goes on if this process dies."""
        job = getattr(result, "job_id", None) or getattr(result, "_job_id", "without a name")
        record_job(folder, self._runner or "Beam", str(job() if callable(job) else job), self.context.run_id)
        try:
            return result.wait_until_finish()
        finally:
            forget_job(folder)

    def _told(self, folder: RunFolder, error: Exception) -> SeamlessAlignError:
        """What stopped the run, out of the log of the shard that failed where there is one."""
        for stage in stages_of(folder):
            marks, names = read_marks(folder, stage), read_plan(folder, stage) or {}
            for name in (_BEGIN, *(name for name in names if name not in marks), END):
                failure = last_failure(folder, stage, name, run=self.context.run_id)
                if failure is not None:
                    return error_of(failure, folder, stage, name)
        lines = re.sub(r" \[while running [^]]*\]", "", str(error)).strip().splitlines() or [error.__class__.__name__]
        errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]  # the last line of a trace
        return SeamlessAlignError(f"{self._runner or 'Beam'}: {(errors[-1] if errors else lines[0])[:300]}")

    def _check_reachable(self, output: str) -> None:
        if str(self._runner).startswith("Dataflow") and not self._only_built:
            raise ConfigError(f"{output}: workers of Dataflow cannot reach this folder: give one on gs://")


class BeamRun(BeamJob):
    """A run."""

    context: Context

    def __init__(self, config: RunConfig, flags: list[str]) -> None:
        """As a job has it."""
        output = config.output or ""
        super().__init__(
            config, output, flags, lambda device, threads: Context(config, output, device, threads, new_run_id())
        )
        self._config = config
        self._inputs: str | None = None  # digest of the shards that read inputs

    def run(self, inputs: "RunInputs") -> tuple[int, int] | None:
        """Do what is not done of a run over these inputs; returns what `do` does."""
        inputs.write(self.context.folder)  # where the pipeline's first steps read them: too many for a job's graph
        self._inputs = digest(*inputs.digests)
        return self.do()

    def levels(self) -> Sequence[Sequence[str]]:
        """Those of the configuration."""
        return levels_of(self._config)

    def planner(self) -> Planner:
        """Plans from the inputs that this run was given."""
        return _RunPlanner(self._processes, self._inputs)


def _known(options: PipelineOptions) -> set[str]:
    """Names of the options that Beam knows. Raises ConfigError where one has a value that it may not have."""
    said = io.StringIO()  # how Beam is used, and in the last line what is wrong
    try:
        with redirect_stderr(said):
            return set(options.get_all_options(retain_unknown_options=False))
    except SystemExit as error:
        told = (said.getvalue().strip().splitlines() or [""])[-1].rpartition("error: ")[2]
        raise ConfigError(f"options of the runner: {told}") from error


class _PlanStage(beam.DoFn):  # type: ignore[misc]
    """Plans a stage, clears what does not belong to it, and passes on the tasks that are not done."""

    def __init__(self, context: JobContext, planner: Planner) -> None:
        self._context = context
        self._planner = planner

    def process(self, element: str, *waits: Any) -> Iterator[ShardTask]:
        """Plan one stage, of which `waits` are those before it, which have ended."""
        with task_log(self._context, element, _BEGIN, ""):
            plan = self._planner(element, self._context)
            pending = begin_stage(plan, self._context.folder)
        yield from pending


class _EndStage(beam.DoFn):  # type: ignore[misc]
    """Checks that all shards of a stage are done, and clears what killed tasks have left."""

    def __init__(self, stage: str, context: JobContext) -> None:
        self._stage = stage
        self._context = context

    def process(self, element: int) -> Iterator[str]:
        """End the stage, of which `element` shards were done."""
        with task_log(self._context, self._stage, END, ""):
            end_stage(self._stage, self._context.folder)
        yield self._stage


@dataclass(frozen=True)
class _RunPlanner:
    """Plans the stages of a run. `workers`: tasks at a time, at most; `inputs`: digest of the shards of inputs."""

    workers: int
    inputs: str | None

    def __call__(self, stage: str, context: Any) -> StagePlan:
        """The plan of a stage."""
        return _plan(stage, context, self.workers, self.inputs)


def _plan(stage: str, context: Context, workers: int, inputs: str | None) -> StagePlan:
    """The plan of a stage from the run's folder alone.

    Raises SeamlessAlignError where its shards are not those whose digest is `inputs`: a job whose driver died would
    declare that what it makes from the old ones is made from the new.
    """
    tasks = {first: list(read_input_tasks(context.folder, first)) for first in LEVELS[0]}
    speech, text = ([task.digest for task in tasks[first]] for first in LEVELS[0])
    if inputs not in (None, digest(speech, text)):
        raise SeamlessAlignError(f"{context.folder.root}: another driver has begun here, with other inputs")
    if stage in tasks:
        return StagePlan(stage, tasks[stage], 0.0)
    return StagePlanner(context, (speech, text), workers).plan(stage)


@contextmanager
def _silent_threads() -> Iterator[None]:
    """Let no thread print the trace of what ends it: Beam's do when a worker ends, which the driver is told of too."""
    before = threading.excepthook
    threading.excepthook = lambda _: None
    try:
        yield
    finally:
        threading.excepthook = before


@contextmanager
def _watched(folder: RunFolder) -> Iterator[None]:
    """Show how far the run is while a runner is at it, from the plans and marks that appear in its folder."""
    storage.remove(folder.plans)
    ended, shown = threading.Event(), []  # type: tuple[threading.Event, list[Progress]]
    watcher = threading.Thread(target=_watch, args=(folder, ended, shown), daemon=True)
    watcher.start()
    try:
        yield
    except BaseException as error:
        ended.set()
        watcher.join()
        progress = shown[-1] if shown else Progress(folder, stages_of(folder)[0], 0.0, in_shards=True)
        if isinstance(error, KeyboardInterrupt):
            progress.stop()
        else:
            progress.fail(str(error) or error.__class__.__name__)
        raise
    ended.set()
    watcher.join()


def _watch(folder: RunFolder, ended: threading.Event, shown: list[Progress]) -> None:
    pause = _LOOK_SECONDS[0 if storage.is_local(folder.root) else 1]
    for stage in stages_of(folder):
        progress, is_last = None, False
        while not is_last:
            is_last = ended.is_set()  # before the look, so that nothing done before the end is missed
            names = read_plan(folder, stage)
            if names is not None:
                uris = storage.list_files(folder.marks(stage), ".json")
                there = {folder.mark(stage, name) for name in names}.intersection(uris)
                if progress is None:
                    progress = Progress(folder, stage, float(len(names)), in_shards=True)
                    shown.append(progress)
                progress.advance(len(there) - progress.done)
                if len(there) == len(names):
                    progress.finish()
                    break
            if not is_last:
                ended.wait(pause)
