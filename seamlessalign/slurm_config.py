"""The part of a configuration that says what the tasks of each stage ask of Slurm."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, PositiveInt

from seamlessalign.typed_config import Section

# options of sbatch that keys here or the run itself give, and the key to use in their place
_OURS = {"partition": "partition", "account": "account", "qos": "qos", "time": "minutes", "mem": "memory_gb"}
_OURS |= {"cpus-per-task": "cpus", "gpus": "gpus", "gpus-per-node": "gpus", "constraint": "constraint"}
_THE_RUNS = {
    "array", "error", "hold", "job-name", "no-requeue", "nodes", "ntasks", "ntasks-per-node", "open-mode", "output",
    "parsable", "requeue", "signal", "test-only", "wait", "wrap",
}  # fmt: skip


def _check_sbatch_option(name: str) -> str:
    if name in _OURS:
        raise ValueError(f"write {_OURS[name]} beside extra")
    if name in _THE_RUNS:
        raise ValueError("is the run's own to give")
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise ValueError("is not a long option of sbatch, such as reservation (without --)")
    return name


SbatchOption = Annotated[str, AfterValidator(_check_sbatch_option)]


class SlurmTaskConfig(Section):
    """What the tasks of one stage ask of Slurm where that is not what all ask."""

    partition: str | None = None  # of the cluster
    account: str | None = None  # that pays
    qos: str | None = None  # quality of service
    minutes: PositiveInt | None = None  # time limit of a task
    memory_gb: float | None = Field(None, gt=0)  # of a node
    cpus: PositiveInt | None = None  # and threads of a task
    gpus: int | None = Field(None, ge=0)  # with any, a task works on CUDA, else on processors
    constraint: str | None = None  # features of nodes
    parallel: PositiveInt | None = None  # tasks that run at a time
    # Of a task that was killed or lost, or whose time was up without anything done
    retries: int | None = Field(None, ge=0)
    setup: list[str] | None = None  # lines of shell before the program
    extra: dict[SbatchOption, str | int | bool] | None = None  # other long options of sbatch


class SlurmDriverConfig(SlurmTaskConfig):
    """What the driver asks where it is a job itself (`--detach`)."""

    cpus: PositiveInt | None = 1
    memory_gb: float | None = Field(4.0, gt=0)
    gpus: int | None = Field(0, ge=0)


class SlurmStages(Section):
    """What stages ask in place of what is asked in general."""

    speech: SlurmTaskConfig = SlurmTaskConfig()
    text: SlurmTaskConfig = SlurmTaskConfig()
    decoys: SlurmTaskConfig = SlurmTaskConfig()
    reduce: SlurmTaskConfig = SlurmTaskConfig()
    gather: SlurmTaskConfig = SlurmTaskConfig()
    index: SlurmTaskConfig = SlurmTaskConfig()
    search: SlurmTaskConfig = SlurmTaskConfig()
    mine: SlurmTaskConfig = SlurmTaskConfig()
    corpus: SlurmTaskConfig = SlurmTaskConfig()
    units: SlurmTaskConfig = SlurmTaskConfig()
    transcripts: SlurmTaskConfig = SlurmTaskConfig()


class SlurmAsks(Section):
    """What any job asks of Slurm."""

    partition: str | None = None  # of the cluster; by default the cluster's own
    account: str | None = None  # that pays; by default the user's own
    qos: str | None = None  # quality of service; by default the cluster's own
    minutes: PositiveInt = 720  # time limit of a job; what it did not get done goes on in another
    memory_gb: float = Field(8.0, gt=0)  # of a node
    cpus: PositiveInt = 2  # and threads of a task
    constraint: str | None = None  # features of nodes
    # Of a task that was killed or lost, or whose time was up without anything done. Preempted, it always starts again.
    retries: int = Field(2, ge=0)
    setup: list[str] = []  # lines of shell before the program, such as module load cuda
    extra: dict[SbatchOption, str | int | bool] = {}  # other long options of sbatch, such as reservation: mining
    # A folder of yours alone that all nodes see, for what submitit keeps; ~/.cache/seamlessalign/slurm by default.
    folder: str | None = None


class SlurmTrainingConfig(SlurmAsks):
    """What a training asks of Slurm, with `--executor slurm`; `cpus` are of each process."""

    nodes: PositiveInt = 1  # of the job
    processes: PositiveInt = 1  # of each node, which train together with those of all others
    gpus: int = Field(0, ge=0, le=1)  # of each process; with one it trains on CUDA, else on processors
    warn_seconds: PositiveInt = 90  # before its time is up that it is told so: a step and a checkpoint must fit in


class SlurmConfig(SlurmAsks):
    """What a task asks of Slurm, with `--executor slurm`."""

    gpus: int = Field(0, ge=0)  # with any, a task works on CUDA, else on processors
    parallel: PositiveInt = 64  # tasks of a stage that run at a time
    stages: SlurmStages = SlurmStages()  # any of the above for one stage, such as speech: {gpus: 1, partition: gpu}
    driver: SlurmDriverConfig = SlurmDriverConfig()

    def of(self, stage: str) -> "SlurmConfig":
        """What the tasks of a stage ask, or with `driver` what the driver does."""
        own = self.driver if stage == "driver" else getattr(self.stages, stage)
        given = {name: getattr(own, name) for name in SlurmTaskConfig.model_fields}
        return self.model_copy(update={name: value for name, value in given.items() if value is not None})
