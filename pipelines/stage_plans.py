"""What each stage of a run is to do: its shards and the digests of what they depend on.

A stage can be planned once the stages it needs are done, from the run's folder alone; so the driver of a run plans it,
or a worker of a pipeline that has no driver.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from seamlessalign import storage
from seamlessalign.config import DecodeConfig, FetchConfig, RunConfig
from seamlessalign.embedders import default_frames, speech_digest, speech_rows_digest
from seamlessalign.embedders.card import means_digest
from seamlessalign.errors import ConfigError, SeamlessAlignError
from seamlessalign.languages import Direction
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
from seamlessalign.pipelines.context import Context
from seamlessalign.pipelines.folder import SIDE_STAGES, STAGES, RunFolder, side_stages
from seamlessalign.pipelines.inputs import InputFile, Shard, cut_into_shards, cut_texts
from seamlessalign.pipelines.known_languages import TOLD_TABLE
from seamlessalign.pipelines.ledger import Mark, done_shards, read_marks, read_plan, write_plan
from seamlessalign.pipelines.mining_stage import MiningTask
from seamlessalign.pipelines.pair_filters import lexicons_digest
from seamlessalign.pipelines.published import rebuild_tasks
from seamlessalign.pipelines.search_plan import audio_seconds
from seamlessalign.pipelines.search_sides import load_sides
from seamlessalign.pipelines.search_sizes import choice_memory, list_width, over_memory
from seamlessalign.pipelines.search_stage import IndexTask
from seamlessalign.pipelines.shard_task import ShardTask
from seamlessalign.pipelines.span_counts import FRAMES_TABLE
from seamlessalign.pipelines.span_filters import sound_models
from seamlessalign.pipelines.span_languages import idle_lid_keys, thresholds_of
from seamlessalign.rows import SCHEMA_VERSION
from seamlessalign.sources import is_http
from seamlessalign.typed_config import digest

# Stages in the order of every run; those of one line do not wait for each other.
LEVELS = (STAGES[:2], *((stage,) for stage in STAGES[2:]))
BEHIND_SEARCH = (mining_stage.STAGE, corpus_stage.STAGE)
_OPENED = 2000  # shards whose recordings are asked for their length
_TABLES = {
    speech_stage.STAGE: ("recordings", "segments", FRAMES_TABLE, TOLD_TABLE),
    text_stage.STAGE: ("sentences",),
    decoys_stage.STAGE: (decoys_stage.TABLE,),
    reduce_stage.STAGE: (reduce_stage.TABLE,),
    gather_stage.STAGE: (gather_stage.TABLE,),
    search_stage.INDEX_STAGE: (search_stage.INDEX_TABLE,),
    search_stage.STAGE: (search_stage.TABLE,),
    mining_stage.STAGE: ("pairs", mining_stage.KEPT_TABLE),
    corpus_stage.STAGE: ("corpus",),
    **{stage: (stage,) for stage in SIDE_STAGES},
    **rebuild_tasks.TABLES,
}
_SIDE_PARTS = {module.STAGE: module.digest_parts for module in (units_stage, transcripts_stage)}


@dataclass(frozen=True)
class StagePlan:
    """The shards of a stage. `kept` are shards that are done and stay, whatever they were made from."""

    stage: str
    tasks: list[ShardTask]
    total: float  # amount of work of all tasks, in the unit of the stage's progress
    kept: list[str] = field(default_factory=list)

    @property
    def digests(self) -> dict[str, str]:
        """The digest that each shard is done under, by name; empty for one that is kept."""
        return {**dict.fromkeys(self.kept, ""), **{task.name: task.digest for task in self.tasks}}


def speech_tasks(config: RunConfig, recordings: list[InputFile], models: dict[str, str]) -> list[ShardTask]:
    """Shards of recordings. `models`: SHA-256 of every model that the run loads."""
    base = _speech_digest(config, models)
    return [
        ShardTask(speech_stage.STAGE, shard.name, digest(base, _files(shard, config)), shard)
        for shard in cut_into_shards(recordings, config.speech.recordings_per_shard)
    ]


def text_tasks(config: RunConfig, texts: list[InputFile], models: dict[str, str]) -> list[ShardTask]:
    """Shards of texts."""
    base = _text_digest(config, models)
    return [
        ShardTask(text_stage.STAGE, shard.name, digest(base, _files(shard, config)), shard)
        for shard in cut_texts(texts, config.text.lines_per_shard)
    ]


class StagePlanner:
    """Plans the stages behind those that read the inputs, each when those before it are done."""

    def __init__(
        self, context: Context, upstream: tuple[Sequence[str], Sequence[str]], workers: int,
        sides: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        """`upstream`: digests of the shards of speech and of text; `workers`: tasks at a time, at most.

        With `sides`, digests of gathered sides by name, they are taken as they are, whatever they were made from.
        """
        self._context = context
        self._speech, self._text = list(upstream[0]), list(upstream[1])
        self._workers = workers
        self._sides = sides

    def plan(self, stage: str) -> StagePlan:
        """The plan of a stage, of which what it needs is done."""
        if stage in SIDE_STAGES:
            return self._plan_sides(stage)
        return getattr(self, f"_plan_{stage}")()  # type: ignore[no-any-return]

    def _plan_decoys(self) -> StagePlan:
        tasks = [
            ShardTask(
                decoys_stage.STAGE,
                f"lang={side.lang}",
                digest("decoys", SCHEMA_VERSION, str(side), decoys_stage.digest_parts(side, self._context), self._text),
                side,
            )
            for side in decoys_stage.sides_to_embed(self._context)
        ]
        return StagePlan(decoys_stage.STAGE, tasks, len(tasks) * self._context.config.mining.decoys.count)

    def _plan_reduce(self) -> StagePlan:
        """The one task that makes the map of all rows; none where they are not reduced."""
        parts, tasks = reduce_stage.digest_parts(self._context), []
        if parts:
            sides = {str(side): side for side in self._context.config.sides()}
            task = reduce_stage.ReduceTask(tuple(sides[name] for name in sorted(sides)))
            whole = digest(SCHEMA_VERSION, parts, sorted(sides), (self._speech, self._text))
            tasks = [ShardTask(reduce_stage.STAGE, reduce_stage.NAME, whole, task)]
        return StagePlan(reduce_stage.STAGE, tasks, len(tasks))

    def _plan_gather(self) -> StagePlan:
        context = self._context
        sides = {str(side): side for side in context.config.sides()}
        reduced = [task.digest for task in self._plan_reduce().tasks]
        tasks = []
        for name in sorted(sides):
            side = sides[name]
            parts = [*gather_stage.digest_parts(context), name, decoys_stage.digest_parts(side, context), *reduced]
            rows: Any = self._speech if side.is_audio else self._text
            if decoys_stage.kind_of(side, context) in ("sides", "lent"):
                rows = (self._speech, self._text)
            tasks.append(ShardTask(gather_stage.STAGE, f"side={name}", digest(parts, rows), side))
        return StagePlan(gather_stage.STAGE, tasks, len(tasks))

    def _plan_index(self) -> StagePlan:
        indexes: dict[str, ShardTask] = {}
        for name in self._due():
            base = self._search_digest(name)
            if any(task.backend == search_stage.COMPRESSED for task in self._search_tasks(name, base)):
                for index in (IndexTask(name, "src"), IndexTask(name, "tgt")):
                    indexes[index.name] = ShardTask(search_stage.INDEX_STAGE, index.name, base, index)
        stage = search_stage.INDEX_STAGE
        return StagePlan(stage, list(indexes.values()), len(indexes), self._of_finished(stage))

    def _plan_search(self) -> StagePlan:
        """How a direction is cut depends on resources; what is done stays as it is, and what a finished direction
        was cut into stays too, so that other resources do nothing again. Raises ConfigError where the pairs could
        not be chosen afterwards.
        """
        tasks, total = [], 0.0
        for name in self._due():
            base = self._search_digest(name)
            told = over_memory(
                f"{name}: choosing its pairs",
                choice_memory(*load_sides(name, self._context).sizes),
                self._context.config.resources,
            )
            if told is not None:  # now, not after the search
                raise ConfigError(told)
            for task in self._search_tasks(name, base):
                tasks.append(ShardTask(search_stage.STAGE, task.name, base, task))
                total += task.products
        return StagePlan(search_stage.STAGE, tasks, total, self._of_finished(search_stage.STAGE))

    def _plan_mine(self) -> StagePlan:
        tasks, sides = [], self._gathered()
        due = self._due()
        for name in self._context.config.directions:
            lists = search_stage.searched(name, self._context, self._search_digest(name)) if name in due else ()
            task = MiningTask(name, tuple(lists))
            tasks.append(ShardTask(mining_stage.STAGE, f"direction={name}", self._mine_digest(name, sides), task))
        return StagePlan(mining_stage.STAGE, tasks, len(tasks))

    def _plan_corpus(self) -> StagePlan:
        context, sides = self._context, self._gathered()
        wanted = {name: self._mine_digest(name, sides) for name in context.config.directions}
        tasks, pairs = [], 0
        for shard in corpus_stage.plan(context):
            parts = ["corpus", SCHEMA_VERSION, context.config.corpus, wanted[shard.direction], shard.first, shard.last]
            tasks.append(ShardTask(corpus_stage.STAGE, shard.name, digest(*parts), shard))
            pairs += shard.last - shard.first
        return StagePlan(corpus_stage.STAGE, tasks, pairs)

    def _plan_sides(self, stage: str) -> StagePlan:
        """A shard for each of the corpus, which is done by then."""
        corpus, made_with = self._plan_corpus(), _SIDE_PARTS[stage](self._context)
        tasks = []
        for before in corpus.tasks:
            whole = digest(stage, SCHEMA_VERSION, made_with, before.digest)
            tasks.append(ShardTask(stage, before.name, whole, before.shard))
        return StagePlan(stage, tasks, corpus.total)

    def is_searched(self, name: str) -> bool:
        """Whether the lists of all rows of a direction are there."""
        done = search_stage.searched(name, self._context, self._search_digest(name))
        return search_stage.is_complete(load_sides(name, self._context), done)

    def _search_tasks(self, name: str, base: str) -> list[search_stage.SearchTask]:
        done = search_stage.searched(name, self._context, base)
        return search_stage.plan(name, load_sides(name, self._context), self._context, self._workers, done)

    def _gathered(self) -> dict[str, str]:
        """Digests of the gathered sides by name."""
        if self._sides is None:
            self._sides = {task.name.removeprefix("side="): task.digest for task in self._plan_gather().tasks}
        return self._sides

    def _due(self) -> list[str]:
        """Directions that are not mined from the present rows and settings."""
        context = self._context
        marks = read_marks(context.folder, mining_stage.STAGE)
        tables = _TABLES[mining_stage.STAGE]
        files = {context.folder.relative(uri) for table in tables for uri in _table_files(context.folder, table)}
        sides = self._gathered()
        return [
            name
            for name in context.config.directions
            if not _is_mined(marks.get(f"direction={name}"), self._mine_digest(name, sides), files)
        ]

    def _of_finished(self, stage: str) -> list[str]:
        """Shards of a stage of the search that belong to directions which are not due."""
        due = self._due()
        others = [f"direction={name}." for name in self._context.config.directions if name not in due]
        return [shard for other in others for shard in read_marks(self._context.folder, stage, other)]

    def _search_digest(self, name: str) -> str:
        direction, mining, sides = Direction.parse(name), self._context.config.mining, self._gathered()
        compressed = mining.backend if mining.backend in ("auto", search_stage.COMPRESSED) else search_stage.EXACT
        rows = [sides[str(direction.src)], sides[str(direction.tgt)]]
        return digest("search in rectangles", SCHEMA_VERSION, name, rows, list_width(mining), compressed)

    def _mine_digest(self, name: str, sides: dict[str, str]) -> str:
        config = self._context.config
        card = speech_digest(config.speech.embedder, config.models)
        chosen = [config.mining, card, lexicons_digest(config.mining.filters)]
        return digest("mine and keep by audio", SCHEMA_VERSION, name, chosen, self._search_digest(name))


def levels_of(config: RunConfig) -> tuple[tuple[str, ...], ...]:
    """The stages of a run in order, those that do not wait for each other together."""
    last = side_stages(config)
    return (*LEVELS, last) if last else LEVELS


def unwanted_stages(config: RunConfig, folder: RunFolder) -> list[str]:
    """Stages that the configuration no longer has, and that have left something."""
    wanted = side_stages(config)
    return [stage for stage in SIDE_STAGES if stage not in wanted and storage.exists(folder.plan(stage))]


def clear_unwanted(config: RunConfig, folder: RunFolder) -> None:
    """Remove what such stages have left. The plan of each goes last: till then it is there."""
    for stage in unwanted_stages(config, folder):
        storage.remove(folder.ledger)  # which tells of it
        for uri in (folder.marks(stage), folder.table(stage), folder.logs(stage), folder.plan(stage)):
            storage.remove(uri)


def begin_stage(plan: StagePlan, folder: RunFolder, at_work: Collection[str] = ()) -> list[ShardTask]:
    """Clear what does not belong to a stage, say what it has, and return the tasks that are not done.

    `at_work`: shards that are being done now, by somebody else. What they have written is left alone.
    """
    done = _done(folder, plan.stage, plan.digests, at_work)
    pending = [task for task in plan.tasks if done.get(task.name) != task.digest]
    write_plan(folder, plan.stage, plan.digests)
    if pending:
        # An old mark would vouch for files that its shard is about to write over, if the run were killed then and
        # started again as it had been before; and the ledger no longer tells what the tables hold.
        storage.remove(folder.ledger)
        old = [task.name for task in pending if task.name in done and task.name not in at_work]
        storage.remove_many([folder.mark(plan.stage, name) for name in old])
    return pending


def end_stage(stage: str, folder: RunFolder) -> None:
    """Clear what tasks that were killed have left. Raises SeamlessAlignError where a planned shard is not done.

    And where there is no plan: another driver has begun in this folder, and without one all would be cleared.
    """
    planned = read_plan(folder, stage)
    if planned is None:
        raise SeamlessAlignError(f"stage {stage}: its plan is gone: another driver has begun in {folder.root}")
    done = _done(folder, stage, planned)
    undone = [name for name, wanted in planned.items() if name not in done or wanted not in ("", done[name])]
    if undone:
        raise SeamlessAlignError(
            f"stage {stage}: {len(undone)} of {len(planned)} shards have no completion mark, the first is "
            f"{undone[0]}; see {folder.log(stage, undone[0])}, and run again to go on"
        )


def amount_of(plan: StagePlan, tasks: Sequence[ShardTask]) -> float:
    """How much of a stage's work some of its tasks are; of many recordings about, from some of them."""
    if plan.stage == speech_stage.STAGE:
        some = tasks[:: max(1, len(tasks) // _OPENED)]
        seconds = audio_seconds([task.shard for task in some if isinstance(task.shard, Shard)])
        return seconds * len(tasks) / max(len(some), 1)
    return plan.total * len(tasks) / max(len(plan.tasks), 1)


def has_text(config: RunConfig) -> bool:
    """Whether a direction has a text side."""
    return any(not side.is_audio for side in config.sides())


def _done(folder: RunFolder, stage: str, planned: Mapping[str, str], at_work: Collection[str] = ()) -> dict[str, str]:
    """Digests of the shards that are done, after clearing what does not belong."""
    # an index is built file by file, and what is there of it is of use although no mark names it yet
    keep = stage == search_stage.INDEX_STAGE
    done = done_shards(folder, stage, planned, _TABLES[stage], keep_unnamed=keep, at_work=at_work)
    if stage == speech_stage.STAGE:
        for uri in storage.list_files(folder.all_stretches):
            if uri.rsplit("/", 2)[-2] not in planned.keys() - done.keys():
                storage.remove(uri)
    return done


def _table_files(folder: RunFolder, table: str) -> list[str]:
    return storage.list_files(folder.table(table))


def _is_mined(mark: Mark | None, wanted: str, files: set[str]) -> bool:
    return mark is not None and mark.digest == wanted and set(mark.outputs) <= files


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


def _files(shard: Shard, config: RunConfig) -> list[Any]:
    """What a shard's output depends on of its files; of those on the web, also what may be fetched."""
    files: list[Any] = [{k: v for k, v in asdict(file).items() if k != "reason"} for file in shard.files]
    if config.fetch != FetchConfig() and any(is_http(file.uri) for file in shard.files):
        files.append(config.fetch.model_dump(mode="json"))
    return files
