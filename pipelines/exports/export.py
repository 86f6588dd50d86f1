"""An export: plan its shards, write those that are not written, and put together what spans them.

The folder is the state, as it is of a run. The plan says which pairs each shard has, a shard's mark that it is written,
and `export.json`, written last, that all is done; what is below `state` goes then. So whoever kills an export at any
moment and gives the same command again gets the same bytes as if nothing had been. Another command is refused.
"""

import contextlib
import hashlib
import json
import logging
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from typing import Any

import soundfile

from seamlessalign import __version__, storage, web_access
from seamlessalign.errors import InputError, SeamlessAlignError
from seamlessalign.pipelines.context import use_threads
from seamlessalign.pipelines.driver_lock import only_driver
from seamlessalign.pipelines.exports.card import write_card
from seamlessalign.pipelines.exports.choice import Rule
from seamlessalign.pipelines.exports.clips import AudioFormat
from seamlessalign.pipelines.exports.evaluation_sets import not_compared, read_evaluation_sets
from seamlessalign.pipelines.exports.export_folder import ExportFolder, refuse_within_run
from seamlessalign.pipelines.exports.folder import tsv_line
from seamlessalign.pipelines.exports.formats import FORMATS
from seamlessalign.pipelines.exports.plan import (
    Asked,
    Plan,
    PlannedShard,
    check_asked,
    make_plan,
    read_plan,
    write_plan,
)
from seamlessalign.pipelines.exports.run_facts import models_json, read_facts
from seamlessalign.pipelines.exports.shard_work import Done, Work, do_shard, read_done
from seamlessalign.pipelines.exports.shards import PIECES, Target
from seamlessalign.pipelines.exports.tally import Tally, count_written, to_json, told_hours
from seamlessalign.pipelines.folder import SIDE_STAGES, RunFolder, stages_of
from seamlessalign.pipelines.heartbeat import driving
from seamlessalign.pipelines.interrupts import heeded_interrupts
from seamlessalign.pipelines.progress import Progress
from seamlessalign.pipelines.refilter import read_config
from seamlessalign.pipelines.run_tables import RunTables
from seamlessalign.pipelines.selection import read_selection
from seamlessalign.pipelines.worker_process import follow_driver, without_interrupt
from seamlessalign.secrets import log_redacted, redact_uri

STAGE = "export"
_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Order:
    """What to export, where to and how."""

    run: str
    to: str
    format: str = "parquet"
    audio: AudioFormat | None = None  # None: as it is in the corpus
    asked: Asked = field(default_factory=lambda: Asked(Rule()))
    workers: int | None = None  # processes; None: as many as there are processors


@dataclass(frozen=True)
class Exported:
    """What a finished export says of itself, as `export.json` has it."""

    record: dict[str, Any]
    was_done: bool  # before this call

    @property
    def exit_status(self) -> int:
        """0, or 3 where the audio of some pairs could not be had."""
        return 3 if self.record["uncut"] else 0


def export_corpus(order: Order) -> Exported:
    """Export the corpus of a run, or what is left to do of an export.

    Raises InputError where the run does not have what is asked for, or the target holds something else;
    StorageError, ConfigError, MissingPackageError; SeamlessAlignError where a worker was killed.
    """
    format, folder = FORMATS[order.format], ExportFolder(order.to)
    target = Target(order.to, order.audio)
    _bound_web_access(order.run)
    with RunTables(order.run) as tables:
        directions = check_asked(tables, order.asked)
        beside = {name: _beside(tables, name) for name in directions}
        format.check(target, beside)
        _need_encoder(order.audio)
        refuse_within_run(order.run, order.to)
        digest = _digest(order, tables)
        folder.refuse_others()
        if (record := _finished(folder, digest)) is not None:
            storage.remove(folder.state)
            return Exported(record, was_done=True)
        storage.check_writable(order.to)
        with only_driver(folder):
            try:
                with driving(folder, digest):
                    storage.remove_unfinished(order.to)
                    record = _drive(order, tables, folder, digest, tuple(sorted(frozenset().union(*beside.values()))))
            finally:
                if storage.exists(folder.record) or not storage.exists(folder.export_plan):
                    storage.remove(folder.state)  # it is finished, or nothing is there to go on from
    return Exported(record, was_done=False)


def _drive(
    order: Order, tables: RunTables, folder: ExportFolder, digest: str, beside: tuple[str, ...]
) -> dict[str, Any]:
    target = Target(order.to, order.audio)
    plan = read_plan(folder)
    if plan is None:
        plan = _planned(order, tables, folder, digest)
    if plan.digest != digest:
        raise _refused(folder)
    config = read_config(order.run) if any(plan.to_cut.values()) else None
    facts = read_facts(order.run)
    metadata = {"seamlessalign.digest": facts.digest or "", "seamlessalign.models": models_json(facts)}
    work = Work(order.run, target, order.format, digest, tables.parts.get("corpus", {}), config, metadata, beside)
    dones = _all_done(plan, work, folder, order.workers or len(os.sched_getaffinity(0)))
    written = sorted(
        (done.written for done in dones), key=lambda one: (one.shard.split or "", one.shard.direction, one.shard.number)
    )
    files = FORMATS[order.format].finish(target, written)
    tally = count_written(tables, plan, dones, folder)
    _write_lists(plan, dones, folder)
    record = {**_record(order, plan, dones, tally, files), "beside": list(beside)}
    write_card(tables, order.asked.rule, plan, tally, record, facts, folder)
    storage.write_bytes_atomic(folder.record, (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())
    return record


def _need_encoder(audio: AudioFormat | None) -> None:
    """Raise InputError where libsndfile, as some systems have it, cannot write what is asked for."""
    if audio == "opus" and not soundfile.check_format("OGG", "OPUS"):
        raise InputError(
            f"--audio opus: libsndfile {soundfile.__libsndfile_version__} of this machine writes no Opus: pip install "
            "--upgrade soundfile brings one that does, or take --audio flac"
        )


def _bound_web_access(run: str) -> None:
    """Let this process ask of the web what the run's configuration allows, where it can be read."""
    with contextlib.suppress(SeamlessAlignError):
        web_access.use(read_config(run).fetch.access())


def _planned(order: Order, tables: RunTables, folder: ExportFolder, digest: str) -> Plan:
    sets = read_evaluation_sets(order.asked.not_in) if order.asked.not_in else None
    plan = make_plan(tables, order.asked, sets, folder, digest)
    if not plan.shards:
        raise InputError(f"{order.run}: no pair is left to export: {_told(plan.left_out)}")
    write_plan(plan, folder)
    return plan


def _all_done(plan: Plan, work: Work, folder: ExportFolder, workers: int) -> list[Done]:
    """Do the shards that are not done; what became of all, in the order of the plan."""
    dones: dict[tuple[str, str], Done] = {}
    todo: list[PlannedShard] = []
    for planned in plan.shards:
        done = read_done(planned, work, folder)
        if done is None:
            todo.append(planned)
        else:
            dones[_key(planned)] = done
    progress = Progress(folder, STAGE, float(sum(one.last - one.first for one in todo)))

    def note(planned: PlannedShard, done: Done) -> None:
        dones[_key(planned)] = done
        progress.advance(float(planned.last - planned.first))

    try:
        if workers == 1 or len(todo) <= 1:
            for planned in todo:
                note(planned, do_shard(planned, work))
        else:
            _in_processes(todo, work, min(workers, len(todo)), note)
    except KeyboardInterrupt:
        progress.stop()
        raise
    except Exception as error:
        progress.fail(str(error))
        raise
    progress.finish()
    return [dones[_key(planned)] for planned in plan.shards]


def _key(planned: PlannedShard) -> tuple[str, str]:
    return planned.shard.place, planned.shard.name


def _in_processes(
    todo: Sequence[PlannedShard], work: Work, workers: int, note: Callable[[PlannedShard, Done], None]
) -> None:
    start = get_context("spawn")
    with (
        heeded_interrupts() as heed,
        _orderly_end(),
        ProcessPoolExecutor(workers, start, _begin_worker, (work, web_access.present())) as pool,
    ):
        try:
            with without_interrupt():
                waiting = {pool.submit(_do_shard, planned): planned for planned in todo}
            while waiting:
                heed()
                finished, _ = wait(waiting, _LOOK_SECONDS, FIRST_COMPLETED)
                for future in finished:
                    note(waiting.pop(future), future.result())
        except BrokenProcessPool as error:
            raise SeamlessAlignError(
                f"{work.target.root}: a worker of the export was killed, by want of memory perhaps; the same command "
                "goes on from here, with --workers 1 in less memory"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)  # what is being written is finished, and stays


@contextlib.contextmanager
def _orderly_end() -> Iterator[None]:
    """Take SIGTERM for Ctrl-C, so that what is being written is finished; without it the kernel ends all at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


_work: Work | None = None  # of this worker


def _begin_worker(work: Work, access: web_access.WebAccess) -> None:
    global _work
    _work = work
    follow_driver()
    log_redacted(logging.ERROR)
    use_threads(1)
    web_access.use(access)


def _do_shard(planned: PlannedShard) -> Done:
    assert _work is not None
    return do_shard(planned, _work)


def _write_lists(plan: Plan, dones: Sequence[Done], folder: ExportFolder) -> None:
    """Write which pairs were left out after all, and which leak; neither where there is nothing to list."""
    if plan.evaluation is not None:
        storage.write_bytes_atomic(folder.leaks, storage.read_bytes(folder.planned_leaks))
    lines = [tsv_line(("direction", "pair_id", "reason", "uri"))]
    for planned, done in zip(plan.shards, dones, strict=True):
        lines += [tsv_line((planned.shard.direction, name, why, redact_uri(uri))) for name, why, uri in done.left_out]
    if len(lines) > 1:
        storage.write_bytes_atomic(folder.left_out, "".join(lines).encode())


def _record(order: Order, plan: Plan, dones: Sequence[Done], tally: Tally, files: Sequence[str]) -> dict[str, Any]:
    """What was handed on and left out. Raises SeamlessAlignError where the counts do not balance."""
    directions = {}
    for name, counts in tally.directions.items():
        left_out = Counter(plan.left_out[name])
        for planned, done in zip(plan.shards, dones, strict=True):
            if planned.shard.direction == name:
                left_out.update(why for _, why, _ in done.left_out)
        written = sum(done.written.pairs for done in dones if done.written.shard.direction == name)
        if not counts.pairs == written == plan.rows[name] - left_out.total():
            raise SeamlessAlignError(
                f"{order.to}: {name}: of {plan.rows[name]} pairs {left_out.total()} were left out and {written} written"
            )
        directions[name] = {
            "in_run": plan.rows[name],
            **to_json(counts),
            "left_out": dict(sorted(left_out.items())),
            "chosen_by": plan.by[name],
            "cut_anew": plan.to_cut[name],
        }
    listed = {file for done in dones for file in done.written.files} | set(files)
    return {
        "version": __version__,
        "digest": plan.digest,
        "format": order.format,
        "audio": order.audio or "same",
        "asked": {**_asked(order), "not_in": [redact_uri(place) for place in order.asked.not_in]},
        "directions": directions,
        "splits": plan.splits,
        "labels": plan.labels,
        "leaks": plan.leaks,
        "evaluation": plan.evaluation,
        "uncut": sum(done.uncut for done in dones),
        "audio_bytes": sum(done.written.audio_bytes for done in dones),
        "notes": plan.notes,
        "files": sorted(name for name in listed if not name.startswith(f"{PIECES}/")),
    }


def _beside(tables: RunTables, direction: str) -> frozenset[str]:
    """What the run has beside the corpus of a direction. Raises InputError where it is not all made."""
    corpus = {uri.rsplit("/", 1)[-1] for uri in tables.parts.get("corpus", {}).get(direction, [])}
    found = set()
    for stage in SIDE_STAGES:
        if stage not in stages_of(tables.folder) and stage not in tables.parts:
            continue
        made = {uri.rsplit("/", 1)[-1] for uri in tables.parts.get(stage, {}).get(direction, [])}
        if made != corpus:
            raise InputError(f"{tables.root}: the {stage} of {direction} are not all made: finish the run first")
        found.add(stage)
    return frozenset(found)


# What was asked for


def _asked(order: Order) -> dict[str, Any]:
    asked = asdict(order.asked)
    return {**asked, "shares": dict(order.asked.shares) if order.asked.shares else None}


def _digest(order: Order, tables: RunTables) -> str:
    """16 hex digits that change with what was asked for, and with what of the run and the evaluation sets it reads."""
    folder = RunFolder(order.run)
    versions: dict[str, str] = {}
    for name, parts in sorted(tables.parts.items()):
        if name in ("recordings", "pairs", "corpus", *SIDE_STAGES):
            uris = [uri for uris in parts.values() for uri in uris]
            versions |= {folder.relative(uri): str(version) for uri, version in storage.versions(uris).items()}
    if storage.exists(folder.labels):
        versions["labels"] = storage.version(folder.labels)
    selection = order.asked.rule.selection
    described = {
        "version": __version__,
        "format": order.format,
        "audio": order.audio,
        "asked": _asked(order),
        "run": versions,
        "selection": read_selection(order.run, selection).model_dump(mode="json") if selection else None,
        "not_in": {place: _versions_of(place) for place in order.asked.not_in},
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]


def _versions_of(place: str) -> dict[str, str]:
    if storage.kind_of(place) is None:
        raise InputError(f"--not-in: {redact_uri(place)}: there is no such file or folder")
    return {uri: str(version) for uri, version in storage.list_versions(place).items()}


def _finished(folder: ExportFolder, digest: str) -> dict[str, Any] | None:
    """The record of the same export, where it is finished. Raises InputError where it is of another."""
    if not storage.exists(folder.record):
        return None
    try:
        record = json.loads(storage.read_bytes(folder.record))
        found = record["digest"]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{folder.record}: is no record of an export; choose another folder") from error
    if found != digest:
        raise _refused(folder)
    return dict(record)


def _refused(folder: ExportFolder) -> InputError:
    return InputError(
        f"{folder.root}: holds another export, or one of the run as it was before; choose another folder, or remove it"
    )


def _told(left_out: dict[str, dict[str, int]]) -> str:
    counts = sum((Counter(reasons) for reasons in left_out.values()), Counter[str]())
    return ", ".join(f"{reason} {count:,}" for reason, count in counts.most_common()) or "the run has none"


def exported_text(exported: Exported, to: str) -> str:
    """What was exported, for people."""
    record, lines = exported.record, []
    for name, counts in record["directions"].items():
        splits = {split: one for split, one in counts["splits"].items() if split != "all"}
        parts = "".join(f"; {split} {one['pairs']:,} ({told_hours(one['hours'])} h)" for split, one in splits.items())
        lines.append(f"{name}: {counts['pairs']:,} pairs, {told_hours(counts['hours'])} h{parts}")
        reasons = sorted(counts["left_out"].items(), key=lambda item: (-item[1], item[0]))
        told = ", ".join(f"{reason} {count:,}" for reason, count in reasons)
        lines.append(f"  left out of {counts['in_run']:,} in the run: {told or 'none'}")
    lines += record["notes"]
    lines += [f"{line}; export.json names them" for line in not_compared(record["evaluation"])]
    if record["uncut"]:
        lines.append(f"{record['uncut']:,} pairs could not be cut; left_out.tsv names them")
    if record["beside"]:
        lines.append(f"with them: {', '.join(record['beside'])}")
    lines.append(f"{'was exported before' if exported.was_done else 'exported'}: {to}")
    return "\n".join(lines)
