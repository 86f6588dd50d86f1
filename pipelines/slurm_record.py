"""Which tasks a stage has in Slurm, kept in the run's folder, so that a driver takes up those of one that died.

An array is written down before it is submitted, under a name that only it has, and its number afterwards; so a driver
that dies between the two leaves nothing behind that the next one does not know of.
"""

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field

from seamlessalign import storage
from seamlessalign.errors import StorageError
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.slurm_queue import NAME, QueuedTask, read_queue


@dataclass
class ArrayRecord:
    """An array: the name of its job, its number, and the shards of each task with their digests."""

    name: str
    tasks: list[dict[str, str]]  # shard → digest
    asks: str  # digest of what each asks of Slurm
    job: str | None = None  # its number; None until Slurm has told it
    cancelled: bool = False

    def ids(self) -> list[str]:
        """The tasks as Slurm names them; none where the number is not known."""
        if self.job is None:
            return []
        return [self.job] if len(self.tasks) == 1 else [f"{self.job}_{number}" for number in range(len(self.tasks))]


@dataclass
class StageRecord:
    """The arrays of a stage, and how often each shard was lost with its task."""

    stage: str
    arrays: list[ArrayRecord] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=dict)

    def add(self, tasks: list[dict[str, str]], asks: str) -> ArrayRecord:
        """Note an array that is about to be submitted."""
        self.arrays.append(ArrayRecord(f"{NAME}-{self.stage}-{uuid.uuid4().hex[:12]}", tasks, asks))
        return self.arrays[-1]

    def living(self, queue: Mapping[str, QueuedTask]) -> Iterator[tuple[ArrayRecord, str, dict[str, str]]]:
        """Array, id and shards of each task that Slurm has and that has not ended."""
        for array in self.arrays:
            if array.job is None:
                array.job = next((i.split("_")[0] for i, task in queue.items() if task.job_name == array.name), None)
            for identity, shards in zip(array.ids(), array.tasks, strict=False):
                if identity in queue and queue[identity].lives:
                    yield array, identity, shards


def read_record(folder: RunFolder, stage: str) -> StageRecord:
    """What is known of a stage. Raises StorageError where the file is damaged."""
    uri = folder.arrays(stage)
    if not storage.exists(uri):
        return StageRecord(stage)
    try:
        raw = json.loads(storage.read_bytes(uri))
        return StageRecord(stage, [ArrayRecord(**array) for array in raw["arrays"]], dict(raw["lost"]))
    except (ValueError, TypeError, KeyError) as error:
        raise StorageError(
            f"{uri}: is not a record of arrays ({error}); cancel what squeue shows of this run, and remove it"
        ) from error


def write_record(folder: RunFolder, record: StageRecord) -> None:
    """Keep what is known of a stage."""
    storage.write_bytes_atomic(folder.arrays(record.stage), json.dumps(asdict(record), indent=1).encode())


@dataclass(frozen=True)
class DriverJob:
    """The job that drives a run: its number, and its state and the reason of that in Slurm's words."""

    job: str
    state: str
    reason: str


def write_driver_job(folder: RunFolder, job: str) -> None:
    """Keep the number of the job that drives a run."""
    storage.write_bytes_atomic(folder.driver_job, json.dumps({"job": job}).encode())


def living_driver(folder: RunFolder) -> DriverJob | None:
    """The job that drives a run, or waits to; None where there is none, or Slurm does not answer here."""
    if not storage.exists(folder.driver_job):
        return None
    try:
        job = str(json.loads(storage.read_bytes(folder.driver_job))["job"])
    except (ValueError, TypeError, KeyError) as error:
        raise StorageError(f"{folder.driver_job}: is not the record of a job ({error}); remove it") from error
    queued = (read_queue() or {}).get(job)
    return DriverJob(job, queued.state, queued.reason) if queued is not None and queued.lives else None


def read_records(folder: RunFolder) -> list[StageRecord]:
    """What is known of all stages that have been in Slurm."""
    uris = storage.list_files(folder.arrays_folder, ".json")
    return [read_record(folder, uri.rsplit("/", 1)[-1].removesuffix(".json")) for uri in uris]
