"""The folder of a run: the one place that knows the name of every file in it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from seamlessalign import storage
from seamlessalign.config import RunConfig

STAGES = ("speech", "text", "decoys", "reduce", "gather", "index", "search", "mine", "corpus")  # of every run
UNITS_STAGE, TRANSCRIPTS_STAGE = "units", "transcripts"
SIDE_STAGES = (UNITS_STAGE, TRANSCRIPTS_STAGE)  # behind them, each where the configuration has a section of its name
REBUILD_STAGES = ("lines", "share", "audio", "texts", "assemble")  # of a corpus that is rebuilt from metadata
TABLES = ("recordings", "segments", "sentences", "pairs", "corpus")


def run_below(root: str) -> str:
    """What to say to whoever gave the folder around a run, such as the demo's; nothing where there is none in it."""
    below = storage.join(root, "run")
    return f"; there is one in {below}" if storage.exists(storage.join(below, "run.yaml")) else ""


@dataclass(frozen=True)
class RunFolder:
    """Names inside a run's folder, which may be a local path or any uri that storage can write."""

    root: str

    @property
    def config(self) -> str:
        """The resolved configuration with its digest."""
        return storage.join(self.root, "run.yaml")

    @property
    def ledger(self) -> str:
        """One line per shard and stage."""
        return storage.join(self.root, "ledger.parquet")

    @property
    def plans(self) -> str:
        """Folder of the plans of stages."""
        return storage.join(self.root, "state", "plan")

    def plan(self, stage: str) -> str:
        """Names of the shards of a stage, once it is planned."""
        return storage.join(self.plans, f"{stage}.json")

    def input_tasks(self, stage: str) -> str:
        """The shards of a stage that reads inputs, for runners whose workers plan: a JSON object a line."""
        return storage.join(self.root, "state", "inputs", f"{stage}.jsonl")

    @property
    def heartbeat(self) -> str:
        """What the driver was doing when it last looked, for `status`."""
        return storage.join(self.root, "state", "progress.json")

    @property
    def all_stretches(self) -> str:
        """Folder of what shards of speech that are not done have embedded so far."""
        return storage.join(self.root, "state", "stretches")

    def stretches(self, shard: str) -> str:
        """Folder of what one of these shards has embedded so far."""
        return storage.join(self.all_stretches, shard)

    @property
    def lock(self) -> str:
        """Held by the driver, where the folder is local."""
        return storage.join(self.root, "state", "lock")

    @property
    def lease(self) -> str:
        """Renewed by the driver, where the folder is in a store: it says who that is."""
        return storage.join(self.root, "state", "lock.json")

    @property
    def beam_job(self) -> str:
        """The job of a Beam runner that works in this folder, which may outlive its driver."""
        return storage.join(self.root, "state", "beam.json")

    @property
    def arrays_folder(self) -> str:
        """Folder of what the driver has in Slurm, a file for each stage."""
        return storage.join(self.root, "state", "slurm")

    def arrays(self, stage: str) -> str:
        """The job arrays of a stage: their numbers and the shards of each task."""
        return storage.join(self.arrays_folder, f"{stage}.json")

    @property
    def driver_job(self) -> str:
        """The job of Slurm that drives the run, where one does."""
        return storage.join(self.root, "state", "driver.json")

    @property
    def slurm_logs(self) -> str:
        """Folder of what tasks of Slurm printed."""
        return storage.join(self.root, "logs", "slurm")

    @property
    def report(self) -> str:
        """The page for people."""
        return storage.join(self.root, "report.html")

    @property
    def labels(self) -> str:
        """What curators said of pairs, a line each time."""
        return storage.join(self.root, "labels.parquet")

    @property
    def labels_lock(self) -> str:
        """Held by whoever adds lines there, where the folder is local."""
        return storage.join(self.root, "state", "labels.lock")

    @property
    def unpacked(self) -> str:
        """Folder of what the curation page keeps unpacked, so that it answers sooner; it may be removed."""
        return storage.join(self.root, "state", "unpacked")

    @property
    def selections(self) -> str:
        """Folder of what curators chose."""
        return storage.join(self.root, "selections")

    def selection(self, name: str) -> str:
        """One choice of pairs."""
        return storage.join(self.selections, f"{name}.yaml")

    @property
    def known_languages(self) -> str:
        """Which languages recordings are known to be in, for the report to compare with those told."""
        return storage.join(self.root, "known_languages.parquet")

    @property
    def exports(self) -> str:
        """Folder of the exports that the curation page makes."""
        return storage.join(self.root, "exports")

    def marks(self, stage: str) -> str:
        """Folder of a stage's completion marks."""
        return storage.join(self.root, "state", "done", stage)

    def mark(self, stage: str, shard: str) -> str:
        """The completion mark of a shard: its ledger lines, its digest and what it wrote."""
        return storage.join(self.marks(stage), f"{shard}.json")

    def logs(self, stage: str) -> str:
        """Folder of the logs of a stage."""
        return storage.join(self.root, "logs", stage)

    def log(self, stage: str, shard: str) -> str:
        """The log of a shard: a JSON object a line, whether it succeeds or not."""
        return storage.join(self.logs(stage), f"{shard}.jsonl")

    def table(self, name: str, partition: str = "", part: str = "") -> str:
        """A table's folder, a partition of it (`lang=fra`), or one part (`part-00003`) of that."""
        names = [name, partition, f"{part}.parquet" if part else ""]
        return storage.join(self.root, *(item for item in names if item))

    def quarantine(self, stage: str, shard: str) -> str:
        """What a shard could not read, and why: one JSON object a line."""
        return storage.join(self.root, "quarantine", f"{stage}-{shard}.jsonl")

    def relative(self, uri: str) -> str:
        """The name of a file below the run's folder."""
        return uri.removeprefix(self.root.rstrip("/") + "/")


def stages_of(folder: RunFolder) -> tuple[str, ...]:
    """The stages of the run in a folder, or of what is rebuilt in it, in order, as its configuration has them."""
    import yaml

    from seamlessalign.typed_config import parse_written_yaml

    try:
        raw = parse_written_yaml(storage.read_bytes(folder.config))
    except (FileNotFoundError, yaml.YAMLError, ValueError):  # not begun, or damaged, which others tell
        raw = None
    sections = raw if isinstance(raw, Mapping) else {}
    if "metadata" in sections:
        return REBUILD_STAGES
    return (*STAGES, *(stage for stage in SIDE_STAGES if sections.get(stage) is not None))


def side_stages(config: RunConfig) -> tuple[str, ...]:
    """The stages behind the corpus that a configuration has."""
    return tuple(stage for stage in SIDE_STAGES if getattr(config, stage) is not None)


def shard_name(number: int) -> str:
    """Name of a numbered shard and of the parts that it writes."""
    return f"part-{number:05d}"


def slug(text: str) -> str:
    """A text as a file name."""
    return re.sub(r"[^A-Za-z0-9._=-]+", "_", text)
