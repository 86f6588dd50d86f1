"""What the neighbour search of each direction would take: tasks, memory, operations, bytes passed on, and time.

Row counts are those of the tables where they are there, else guessed from the inputs. Time comes from a short
measurement on this machine, made when the plan is asked for.
"""

import contextlib
import time
from dataclasses import dataclass, replace

import numpy as np

from seamlessalign import storage
from seamlessalign.embedders import speech_card
from seamlessalign.languages import Direction, Side
from seamlessalign.mining.exact import one_pass
from seamlessalign.mining.knn import choose_backend
from seamlessalign.mining.vectors import Vectors
from seamlessalign.pipelines import decoys_stage, search_stage
from seamlessalign.pipelines.context import Context
from seamlessalign.pipelines.inputs import Shard
from seamlessalign.pipelines.local import Workers
from seamlessalign.pipelines.search_lists import place_bytes
from seamlessalign.pipelines.search_sides import side_of_decoys
from seamlessalign.pipelines.search_sizes import (
    choice_memory,
    gather_memory,
    list_width,
    query_memory,
    query_step,
    scan_memory,
    scan_step,
)

SPANS_PER_SECOND = 0.36  # candidate spans of a second of recording: 1,264 in 59 minutes of voice prompts
_MEASURED_ROWS = 6144  # of each side in the measurement, about a third of a second
_TASK_SECONDS = 0.5  # to map the sides, check their rows and write the lists, besides what grows with them
_CHECKED_PER_SECOND = 4e8  # elements of both sides whose norms one core takes


@dataclass(frozen=True)
class SearchPlan:
    """The search of one direction."""

    direction: str
    num_src: int
    num_tgt: int
    guessed: bool  # whether rows are guessed from the inputs
    backend: str
    why: str
    tasks: int
    shape: tuple[int, int]  # rows of sources and of targets in a task
    memory: int  # bytes of one task
    gather_memory: int  # bytes of the task that gathers the larger side
    choice_memory: int  # bytes of the task that chooses the pairs
    operations: float  # multiplications and additions of one pass over all pairs
    shuffled: int  # bytes of neighbour lists that tasks write and the next stage reads
    seconds: float


def plan_search(
    direction: str, num_src: int, num_tgt: int, dim: int, context: Context, workers: Workers, rate: float
) -> SearchPlan:
    """Plan a direction of so many rows, decoys counted in. `rate`: products per second of one worker, measured."""
    mining, resources = context.config.mining, context.config.resources
    k, wanted = list_width(mining), mining.backend
    device = context.device if context.device != "cpu" else None
    choice = choose_backend(num_src, num_tgt, dim, device)
    backend, why = (choice.backend, choice.why) if wanted == "auto" else (wanted, "the configuration says so")
    if not (num_src and num_tgt):
        tasks, shape, memory, shuffled, read = 0, (0, 0), 0, 0, 0
    elif backend == search_stage.COMPRESSED:
        steps = [query_step(rows, k, resources, workers.processes) for rows in (num_src, num_tgt)]
        cuts = -(-num_src // steps[0]), -(-num_tgt // steps[1])
        tasks, shape, memory = sum(cuts), (steps[0], num_tgt), query_memory(max(steps), k)
        shuffled = num_src * min(k, num_tgt) * place_bytes(num_tgt) + num_tgt * min(k, num_src) * place_bytes(num_src)
        read = tasks * (num_src + num_tgt)
    else:
        shape = scan_step(num_src, num_tgt, k, resources, workers.processes)
        cuts = -(-num_src // shape[0]), -(-num_tgt // shape[1])
        tasks, memory = cuts[0] * cuts[1], scan_memory(*shape, k)
        shuffled = num_src * _width(num_tgt, shape[1], k) * place_bytes(shape[1])
        shuffled += num_tgt * _width(num_src, shape[0], k) * place_bytes(shape[0])
        read = num_src * cuts[1] + num_tgt * cuts[0]
    products = float(num_src) * num_tgt
    seconds = products * (-(-dim // 64) * 64) / rate / workers.processes
    seconds += (tasks * _TASK_SECONDS + read * dim / _CHECKED_PER_SECOND) / workers.processes
    return SearchPlan(
        direction, num_src, num_tgt, False, backend, why, tasks, shape, memory, gather_memory(max(num_src, num_tgt)),
        choice_memory(num_src, num_tgt), 2 * products * dim, shuffled, seconds,
    )  # fmt: skip


def _width(others: int, step: int, k: int) -> int:
    """Neighbours that all lists of a row have together where the other side is cut into steps."""
    return others // step * min(k, step) + min(k, others % step)


def measure_rate(dim: int, k: int, threads: int) -> float:
    """Products per second (pairs × dimensions of a code) of the exact scan with so many threads, here and now."""
    rng = np.random.default_rng(0)
    src, tgt = (
        Vectors(rng.standard_normal((_MEASURED_ROWS, dim), dtype=np.float32).astype(np.float16), side)
        for side in ("src", "tgt")
    )
    width = min(k + 4, _MEASURED_ROWS)
    begun = time.perf_counter()
    one_pass(src, tgt, width, width, threads=threads)
    return _MEASURED_ROWS**2 * (-(-dim // 64) * 64) / (time.perf_counter() - begun)


def count_rows(side: Side, context: Context, recordings: list[Shard], texts: list[Shard]) -> tuple[int, bool]:
    """Rows of a side without decoys, and whether they are guessed from the inputs."""
    config = context.config
    guessed = False
    files = context.side_files(side)
    if files:
        rows = sum(storage.num_rows(uri) for uri in files)
    elif side.is_audio:
        languages = len(config.speech_languages())
        rows, guessed = round(audio_seconds(recordings) * SPANS_PER_SECOND / max(languages, 1)), True
    else:
        rows, guessed = _lines(texts) // max(len(config.text_languages()), 1), True
    return rows, guessed


def plans(context: Context, workers: Workers, recordings: list[Shard], texts: list[Shard]) -> list[SearchPlan]:
    """The plan of every direction of a run."""
    config = context.config
    reduce = config.mining.reduce
    dim = (reduce and reduce.dim) or speech_card(config.speech.embedder, config.models).dim
    rate = measure_rate(dim, list_width(config.mining), workers.threads)
    found = []
    for name in config.directions:
        direction = Direction.parse(name)
        (src, one), (tgt, two) = (
            count_rows(side, context, recordings, texts) for side in (direction.src, direction.tgt)
        )
        kinds = {
            "src": decoys_stage.kind_of(direction.src, context),
            "tgt": decoys_stage.kind_of(direction.tgt, context),
        }
        beside, most = side_of_decoys(kinds), config.mining.decoys.count
        src += (min(most, src) if kinds["src"] == "made" else most) if beside == "src" else 0
        tgt += (min(most, tgt) if kinds["tgt"] == "made" else most) if beside == "tgt" else 0
        plan = plan_search(name, src, tgt, dim, context, workers, rate)
        found.append(replace(plan, guessed=one or two))
    return found


def audio_seconds(shards: list[Shard]) -> float:
    """How long the recordings of shards say they are: a guess, for a header may lie and a remote file is not opened."""
    import soundfile

    total = 0.0
    for file in (file for shard in shards for file in shard.files):
        if file.problem is not None or not storage.is_local(file.uri):
            continue
        if file.uri.lower().endswith(".g722"):
            total += storage.size(file.uri) / 8000
            continue
        with contextlib.suppress(soundfile.LibsndfileError, OSError):
            info = soundfile.info(str(storage.local_path(file.uri)))
            total += info.frames / info.samplerate
    return total


def _lines(shards: list[Shard]) -> int:
    """Lines of text files; of compressed ones about as many as their size tells."""
    lines = 0
    for file in {file.uri: file for shard in shards for file in shard.files}.values():
        if file.problem is not None:
            continue
        if file.uri.endswith(".gz"):
            lines += storage.size(file.uri) // 25
            continue
        with storage.open_read(file.uri) as text:
            while block := text.read(1 << 20):
                lines += block.count(b"\n")
    return lines
