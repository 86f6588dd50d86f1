"""Where and how fast a run works: keys that change no result."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from seamlessalign.slurm_config import SlurmConfig
from seamlessalign.typed_config import Section


class BeamConfig(Section):
    """What a runner is told, with `--executor beam`; options behind `--` on the command line come after these."""

    options: dict[str, str | int | float | bool | list[str]] = {}  # pipeline options, such as runner: DataflowRunner
    parallel: PositiveInt = 64  # tasks of a search that run at a time
    memory_gb: float | None = Field(None, gt=0)  # that a worker needs at least: a resource hint of every stage
    # GPU of the stages that embed and search, as Dataflow names it: type:nvidia-l4;count:1;install-nvidia-driver
    accelerator: str | None = None

    def flags(self) -> list[str]:
        """The options as on a command line: a key without a value for true, a key for each of several values."""
        flags = []
        for key, value in self.options.items():
            for one in value if isinstance(value, list) else [value]:
                if one is not False:
                    flags.append(f"--{key}" if one is True else f"--{key}={one}")
        return flags


class PricesConfig(Section):
    """What things cost, in whatever currency, for the plan of a dry run. Nothing is known by default."""

    cpu_hour: float | None = Field(None, ge=0)  # of one core
    gpu_hour: float | None = Field(None, ge=0)  # of one GPU
    gb_month: float | None = Field(None, ge=0)  # of storage, 10^9 bytes


class ResourcesConfig(Section):
    """Where and how fast a run works; nothing here changes its results."""

    workers: PositiveInt | Literal["auto"] = "auto"  # worker processes
    threads: PositiveInt | Literal["auto"] = "auto"  # threads of each worker
    device: Literal["auto", "cpu", "cuda"] = "auto"  # of models and of the search; auto: CUDA where there is a GPU
    # GiB that a worker may hold between groups: one that has grown beyond is replaced. auto: its share of the machine
    worker_memory_gb: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    retries: int = Field(2, ge=0)  # of a shard whose worker was killed, with the local executor
    shards_per_group: int = Field(8, ge=1)  # shards that one Beam pipeline takes at a time
    # Recordings of a worker that are fetched, decoded and searched for speech while others are embedded. auto: as many
    # as it has threads where a GPU embeds, 4 where recordings are remote, else none.
    decode_ahead: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    decoded_memory_gb: float = Field(1.0, gt=0)  # GiB of decoded audio that a worker has in hand, or one recording
    mining_memory_gb: float = Field(4.0, ge=1)  # GiB of one task of mining; with Slurm what its stages have
    slurm: SlurmConfig = SlurmConfig()
    beam: BeamConfig = BeamConfig()
    mining_tasks: PositiveInt | Literal["auto"] = "auto"  # of a direction, whatever memory that takes
    prices: PricesConfig = PricesConfig()

    def within(self, memory_gb: float) -> "ResourcesConfig":
        """The same with tasks of mining that take so much memory at most."""
        return self.model_copy(update={"mining_memory_gb": min(self.mining_memory_gb, memory_gb)})
