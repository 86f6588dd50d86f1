"""Looking ahead changes nothing but how long it takes: tables, counts, quarantine and errors are those of doing one
recording after the other."""

import logging
import resource
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from seamlessalign import web_access
from seamlessalign.config import parse_config
from seamlessalign.errors import ModelError
from seamlessalign.pipelines import speech_ahead, speech_stage
from seamlessalign.pipelines.context import Context, use_threads
from seamlessalign.pipelines.inputs import InputFile, Shard
from seamlessalign.pipelines.ledger import Mark
from seamlessalign.pipelines.speech_ahead import Lanes, lanes_of
from seamlessalign.pipelines.task_log import read_log, task_log
from seamlessalign.rows import SAMPLE_RATE
from tests.ground.loopback import web_server
from tests.pipelines.small_corpus import hashes, need_models, spoken

GIB = 1 << 30
LANGS = {"a": "fra", "b": "spa", "c": "ita"}  # by the first letter of a name; others are heard out


def _context(root: Path, device: str = "cpu", threads: int = 1, speech: Any = None, **resources: Any) -> Context:
    raw = {
        "directions": ["eng-frA", "eng-esA"],
        "speech": {"inputs": ["x"], **(speech or {})},
        "text": {"inputs": ["y"]},
        "fetch": {"allow_local": True},
        "resources": resources,
    }
    return Context(parse_config(raw, "c.yaml"), str(root), device, threads)


def _shards(files: Sequence[str], per_shard: int) -> list[Shard]:
    inputs = [
        InputFile(uri, "1", LANGS.get(Path(uri).name[0]), problem="it is not there" if "lost" in uri else None)
        for uri in files
    ]
    cut = [tuple(inputs[i : i + per_shard]) for i in range(0, len(inputs), per_shard)]
    return [Shard(f"part-{number:05d}", files) for number, files in enumerate(cut)]


def _without_cost(mark: Mark) -> Any:
    lines = [{**vars(line), "seconds": None, "peak_rss": None} for line in mark.lines]
    return mark.stage, mark.shard, mark.digest, mark.outputs, lines


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Speech in three languages, one of them unwanted, two channels, silence, and much that cannot be read."""
    need_models()
    folder = tmp_path_factory.mktemp("recordings")
    names = []

    def add(name: str, samples: Any) -> None:
        soundfile.write(folder / name, samples, SAMPLE_RATE)
        names.append(str(folder / name))

    for number in range(3):
        add(f"a{number}.flac", spoken("fra", (number, number + 1)))
        add(f"b{number}.flac", spoken("spa", (number,)))
    add("c.flac", spoken("ita", (0, 1)))
    two = [spoken("fra", (4,)), spoken("spa", (4,))]
    longest = max(map(len, two))
    add("d.wav", np.stack([np.pad(one, (0, longest - len(one))) for one in two], axis=1))
    add("e.flac", np.zeros(3 * SAMPLE_RATE, np.float32))
    (folder / "f.flac").write_bytes(b"")
    (folder / "g.flac").write_bytes(b"no audio at all")
    whole = (folder / "a0.flac").read_bytes()
    (folder / "h.flac").write_bytes(whole[: len(whole) // 2])
    return sorted([*names, *(str(folder / f"{name}.flac") for name in ("f", "g", "h", "lost", "gone"))])


def _done(shards: list[Shard], context: Context, lanes: Lanes | None) -> list[Mark]:
    """Do shards as a worker does them: given in two groups, and asked for in another order."""
    order = [*reversed(shards[:3]), *shards[3:]]
    if lanes is not None:
        for some in (shards[:4], shards[4:]):
            speech_ahead.begin([(shard, "digest") for shard in some], context, lanes)
    try:
        marks = {shard.name: speech_stage.process(shard, "digest", context) for shard in order}
    finally:
        speech_ahead.end()
        web_access.use(web_access.WebAccess())
    return [marks[shard.name] for shard in shards]


EACH = {"decode": {"channels": "each"}, "vad": {"keep_probabilities": True}}


@pytest.fixture(scope="module")
def plain(recordings: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Mark]]:
    """All recordings done one after the other."""
    folder = tmp_path_factory.mktemp("plain")
    return folder, _done(_shards(recordings, 2), _context(folder, speech=EACH), None)


@pytest.mark.embedded
@pytest.mark.parametrize(
    "lanes", [Lanes(1, 3, GIB), Lanes(2, 0, GIB), Lanes(3, 4, 1)], ids=["one ahead", "two at a time", "no memory"]
)
def test_tables_are_those_of_one_after_the_other(
    recordings: list[str], plain: tuple[Path, list[Mark]], tmp_path: Path, lanes: Lanes
) -> None:
    folder, marks = plain
    try:
        ahead = _done(_shards(recordings, 2), _context(tmp_path, threads=2, speech=EACH), lanes)
    finally:
        use_threads(1)
    assert list(map(_without_cost, ahead)) == list(map(_without_cost, marks))
    tables = ("recordings", "segments", "frames", "quarantine")
    assert hashes(tmp_path, tables) == hashes(folder, tables)
    assert sum(mark.lines[0].quarantined for mark in marks) == 5
    assert sum(mark.lines[1].rows_kept for mark in marks) >= 10


@pytest.mark.embedded
def test_steps_cost_what_the_process_took(recordings: list[str], tmp_path: Path) -> None:
    """Core-seconds of all steps of all threads are no more than those of the process, and hardly less."""
    some = [name for name in recordings if Path(name).name[0] in "abc"]
    shards, context = _shards(some, 1), _context(tmp_path, threads=2)
    _done(shards[:1], context, None)  # models are loaded, by whatever loads them
    begun = _processor_seconds()
    try:
        marks = _done(shards, context, Lanes(2, 2, GIB))
    finally:
        use_threads(1)
    took = _processor_seconds() - begun
    told = sum(sum(mark.lines[0].seconds.values()) for mark in marks)
    assert {"read", "decode", "vad", "lid", "embed"} <= marks[0].lines[0].seconds.keys()
    assert 0.8 * took <= told <= took + 0.05


def _processor_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


@pytest.mark.embedded
def test_remote_recordings_are_fetched_while_others_are_embedded(tmp_path: Path) -> None:
    """A server that gives no answer until a fifth request has come: whoever fetches one after the other waits for ever.

    One recording is being embedded or waits for that, and four more are asked for.
    """
    need_models()
    soundfile.write(tmp_path / "one.flac", spoken("fra", (0,)), SAMPLE_RATE)
    gate = threading.Barrier(5)
    with web_server((tmp_path / "one.flac").read_bytes(), before=lambda: gate.wait(60)) as address:
        shards = _shards([f"{address}/a{number}.flac" for number in range(10)], 1)
        context = _context(tmp_path / "run")
        lanes = lanes_of(context, shards, 1)
        assert lanes == Lanes(1, 4, GIB)
        marks = _done(shards, context, lanes)
    assert [mark.lines[0].rows_kept for mark in marks] == [1] * 10


@pytest.mark.embedded
def test_what_is_not_a_recordings_fault_is_raised_where_its_shard_is_done(
    recordings: list[str], tmp_path: Path
) -> None:
    shards = _shards(recordings[:6], 2)
    context = _context(tmp_path, speech={"embedder": "transcribe-labse"})
    context.config.models["labse"] = str(tmp_path / "nothing")
    speech_ahead.begin([(shard, "digest") for shard in shards], context, Lanes(1, 2, GIB))
    try:
        with pytest.raises(ModelError, match="labse"):
            speech_stage.process(shards[0], "digest", context)
    finally:
        speech_ahead.end()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead-")]


def test_what_a_thread_logs_is_in_the_log_of_its_shard(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Once, with what the shard's own thread says, and without what other threads say meanwhile."""
    context, said = _context(tmp_path), list[logging.LogRecord]()
    log = logging.getLogger("seamlessalign.embedders.student")

    def work() -> None:
        with speech_ahead._kept(said):
            log.warning("heard by %s", "a thread")
            other = threading.Thread(target=log.warning, args=("of somebody else",))
            other.start()
            other.join()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    with task_log(context, "speech", "part-00000", "digest"):
        log.warning("own")
        speech_ahead._pass_on(said)
    events = read_log(context.folder, "speech", "part-00000")
    assert [event["message"] for event in events if event["event"] == "log"] == ["own", "heard by a thread"]
    assert [record.getMessage() for record in caplog.records] == ["heard by a thread", "of somebody else", "own"]


def _named(number: int, form: str = "/data/{}.wav") -> list[Shard]:
    return _shards([form.format(i) for i in range(number)], 1)


@pytest.mark.parametrize(
    ("device", "threads", "number", "processes", "form", "resources", "lanes"),
    [
        ("cpu", 1, 100, 2, "/data/{}.wav", {}, None),  # local files on one core: nothing to gain
        ("cpu", 1, 100, 2, "https://somewhere.example/{}.wav", {}, (1, 4)),
        ("cpu", 1, 100, 2, "s3://bucket/{}.wav", {}, (1, 4)),
        ("cpu", 1, 100, 2, "/data/x.tar::{}.wav", {}, None),
        ("cpu", 1, 100, 2, "s3://bucket/x.tar::{}.wav", {}, (1, 4)),
        ("cpu", 4, 100, 2, "/data/{}.wav", {}, (4, 0)),
        ("cpu", 4, 4, 2, "/data/{}.wav", {}, None),  # two each: four threads are of more use to one at a time
        ("cpu", 4, 6, 2, "/data/{}.wav", {}, (3, 0)),
        ("cuda", 16, 1000, 1, "/data/{}.wav", {}, (1, 16)),
        ("cuda", 16, 3, 1, "/data/{}.wav", {}, (1, 2)),
        ("cuda", 16, 1, 1, "/data/{}.wav", {}, None),
        ("cuda", 16, 1000, 1, "/data/{}.wav", {"decode_ahead": 0}, None),
        ("cpu", 1, 100, 1, "/data/{}.wav", {"decode_ahead": 2}, (1, 2)),
        ("cpu", 1, 100, 1, "s3://bucket/{}.wav", {"decode_ahead": 0}, None),
    ],
)
def test_it_is_on_where_it_helps(
    tmp_path: Path,
    device: str,
    threads: int,
    number: int,
    processes: int,
    form: str,
    resources: dict[str, Any],
    lanes: tuple[int, int] | None,
) -> None:
    context = _context(tmp_path, device, threads, **resources)
    found = lanes_of(context, _named(number, form), processes)
    assert found == (None if lanes is None else Lanes(*lanes, GIB))
