"""What the stages of a finished run took for each hour of audio, sentence, row and pair: rates to plan another by."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from seamlessalign import storage
from seamlessalign.errors import InputError
from seamlessalign.languages import Direction, Side
from seamlessalign.pipelines import gather_stage
from seamlessalign.pipelines.folder import SIDE_STAGES, RunFolder, stages_of
from seamlessalign.pipelines.ledger import MAPS, read_marks
from seamlessalign.rows import SAMPLE_RATE, LedgerLine
from seamlessalign.typed_config import parse_written_yaml

_LOADING = "load models"


@dataclass(frozen=True)
class DirectionRates:
    """What mining made of a direction."""

    candidates: float  # for each row of the side that has fewer
    kept: float  # pairs for each hour of recordings of its first audio side
    cut_seconds: float | None  # core-seconds for each kept pair; None where none was cut
    pair_bytes: float  # of a candidate in `pairs`, with its share of what is kept for the corpus
    corpus_bytes: float | None  # of a kept pair


@dataclass(frozen=True)
class SideRates:
    """What an audio side of a kept pair takes in a stage behind the corpus."""

    seconds: float | None  # of a core
    wall: float | None  # on the clock, in one task
    bytes: float | None  # in its table


@dataclass(frozen=True)
class Rates:
    """What stages took, in core-seconds and bytes. None: the run has nothing to tell it by."""

    origin: str  # where all this was measured, for people
    on_gpu: bool
    hours: float  # of audio that was read
    recordings: int
    sentences: int
    load_seconds: float  # for a process, once
    speech_seconds: float  # for an hour of audio
    speech_wall: float | None  # seconds on the clock for an hour of audio in one task
    audio_bytes: float  # of inputs, for an hour
    recording_bytes: float  # of a part of `recordings`
    spans: float  # for an hour of audio
    span_bytes: float  # in `segments`
    shares: dict[str, float]  # language → its share of all spans
    text_seconds: float | None  # for a line
    text_wall: float | None
    line_bytes: float | None
    sentences_kept: float | None  # share of lines
    sentence_bytes: float | None  # in `sentences`
    decoy_seconds: float | None  # for a decoy
    decoy_bytes: float | None
    gather_seconds: float | None  # for a row of a side
    row_bytes: dict[bool, float]  # of the table of a gathered side, by whether it is audio
    choice_seconds: float | None  # of `mine`, for a row of both sides
    directions: dict[str, DirectionRates]
    beside: dict[str, SideRates]  # of stages behind the corpus, those that the run has
    memory: dict[str, int]  # stage → most resident bytes of a process that did a shard of it
    mark_bytes: dict[str, float]  # stage → of a completion mark and a log

    def of_direction(self, name: str) -> tuple[DirectionRates | None, str]:
        """The rates of a direction, or the mean of those of its kind, or of all; and which, for people."""
        if name in self.directions:
            return self.directions[name], ""
        kind = _kind(name)
        alike = [rates for other, rates in self.directions.items() if _kind(other) == kind]
        if alike:
            return _mean(alike), f"the mean of its {len(alike)} directions of {kind}"
        if self.directions:
            return _mean(list(self.directions.values())), f"the mean of its {len(self.directions)} directions"
        return None, ""


def read_rates(root: str, origin: str | None = None) -> Rates:
    """The rates of a finished run, from its ledger, its marks and the sizes of its files.

    Raises InputError where the folder has no ledger, or a ledger without audio; StorageError where one is damaged.
    """
    folder = RunFolder(root)
    if not storage.exists(folder.ledger):
        raise InputError(f"{root}: has no ledger.parquet: rates are those of a finished run")
    lines = [
        LedgerLine(**{**row, **{name: dict(row[name]) for name in MAPS}})
        for batch in storage.read_batches(folder.ledger)
        for row in batch.to_pylist()
    ]
    by = {stage: [line for line in lines if line.stage == stage] for stage in {line.stage for line in lines}}
    recordings, segments = by.get("recordings", []), by.get("segments", [])
    hours = _sum(recordings, lambda line: line.samples_in) / SAMPLE_RATE / 3600
    spans = _sum(segments, lambda line: line.rows_kept)
    if not hours or not spans:
        raise InputError(f"{root}: its ledger has no audio in which spans were found: rates need a run that has")
    speech = recordings + segments
    texts, lines_in = by.get("sentences", []), _sum(by.get("sentences", []), lambda line: line.rows_in)
    sentences = _sum(texts, lambda line: line.rows_kept)
    decoys, sides = by.get("decoys", []), by.get("mining_input", [])
    num_decoys, rows = _sum(decoys, lambda line: line.rows_kept), _rows_of_sides(sides)
    parts = storage.list_files(folder.table("recordings"), ".parquet")
    in_recordings = _mean_size(parts)
    lang_hours = {lang: hours * share for lang, share in _shares(rows).items()}
    pairs = {_direction(line): line for line in by.get("pairs", [])}
    of_both = {name: tuple(rows.get(side, 0) for side in name.split("-")) for name in pairs}
    chosen = sum(map(sum, of_both.values()))
    return Rates(
        origin=origin or f"the {hours:.2g} h of audio and {lines_in:,} lines of text of {root}",
        on_gpu=_on_gpu(folder),
        hours=hours,
        recordings=int(_sum(recordings, lambda line: line.rows_in)),
        sentences=int(lines_in),
        load_seconds=max((line.seconds.get(_LOADING, 0.0) for line in recordings + texts), default=0.0),
        speech_seconds=_work(speech) / hours,
        speech_wall=_wall(folder, "speech", speech, hours),
        audio_bytes=_sum(recordings, lambda line: line.bytes_read) / hours,
        recording_bytes=in_recordings,
        spans=spans / hours,
        span_bytes=max(_sum(segments, lambda line: line.bytes_written) - in_recordings * len(parts), 0.0) / spans,
        shares=_shares(rows),
        text_seconds=_per(_work(texts), lines_in),
        text_wall=_wall(folder, "text", texts, lines_in) if lines_in else None,
        line_bytes=_per(_sum(texts, lambda line: line.bytes_read), lines_in),
        sentences_kept=_per(sentences, lines_in),
        sentence_bytes=_per(_sum(texts, lambda line: line.bytes_written), sentences),
        decoy_seconds=_per(_work(decoys), num_decoys),
        decoy_bytes=_per(_sum(decoys, lambda line: line.bytes_written), num_decoys),
        gather_seconds=_per(_work(sides), sum(rows.values())),
        row_bytes=_row_bytes(folder, rows),
        choice_seconds=_per(_work(list(pairs.values())), chosen),
        directions={
            name: _direction_rates(name, line, by.get("corpus", []), of_both[name], lang_hours)
            for name, line in pairs.items()
            if min(of_both[name], default=0)
        },
        beside={stage: _side_rates(folder, stage, by[stage]) for stage in SIDE_STAGES if stage in by},
        memory=_memory(by),
        mark_bytes={
            stage: _mean_size(storage.list_files(folder.marks(stage)))
            + _mean_size(storage.list_files(folder.logs(stage)))
            for stage in stages_of(folder)
        },
    )


def _on_gpu(folder: RunFolder) -> bool:
    config = parse_written_yaml(storage.read_bytes(folder.config)) if storage.exists(folder.config) else {}
    return bool(config.get("resources", {}).get("device") == "cuda")


def _direction_rates(
    name: str, line: LedgerLine, corpus: list[LedgerLine], rows: tuple[int, ...], hours: dict[str, float]
) -> DirectionRates:
    direction = Direction.parse(name)
    audio = direction.src if direction.src.is_audio else direction.tgt
    cut = [shard for shard in corpus if _direction(shard) == name]
    written = _sum(cut, lambda shard: shard.rows_kept)
    return DirectionRates(
        candidates=line.rows_in / min(rows),
        kept=line.rows_kept / hours[audio.lang],
        cut_seconds=_per(_work(cut), written),
        pair_bytes=line.bytes_written / max(line.rows_in, 1),
        corpus_bytes=_per(_sum(cut, lambda shard: shard.bytes_written), written),
    )


def _side_rates(folder: RunFolder, stage: str, lines: list[LedgerLine]) -> SideRates:
    sides = _sum(lines, lambda line: line.rows_in)
    return SideRates(
        seconds=_per(_work(lines), sides),
        wall=_wall(folder, stage, lines, sides) if sides else None,
        bytes=_per(_sum(lines, lambda line: line.bytes_written), sides),
    )


def _mean(rates: list[DirectionRates]) -> DirectionRates:
    def mean(values: Iterable[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    return DirectionRates(
        mean(one.candidates for one in rates) or 0.0,
        mean(one.kept for one in rates) or 0.0,
        mean(one.cut_seconds for one in rates),
        mean(one.pair_bytes for one in rates) or 0.0,
        mean(one.corpus_bytes for one in rates),
    )


def _kind(name: str) -> str:
    direction = Direction.parse(name)
    return " and ".join(sorted("speech" if side.is_audio else "text" for side in (direction.src, direction.tgt)))


def _direction(line: LedgerLine) -> str:
    return line.shard.removeprefix("direction=").partition(".")[0]


def _rows_of_sides(sides: list[LedgerLine]) -> dict[str, int]:
    return {line.shard.removeprefix("side="): line.rows_kept for line in sides}


def _shares(rows: dict[str, int]) -> dict[str, float]:
    """Each language's share of the spans of all audio sides."""
    spans = Counter[str]()
    for name, count in rows.items():
        side = Side.parse(name)
        if side.is_audio:
            spans[side.lang] += count
    total = spans.total()
    return {lang: count / total for lang, count in spans.items()} if total else {}


def _row_bytes(folder: RunFolder, rows: dict[str, int]) -> dict[bool, float]:
    """Bytes of a row of the table of a gathered side, texts and audio apart."""
    found: dict[bool, tuple[int, int]] = {}
    for uri in storage.list_files(folder.table(gather_stage.TABLE), ".arrow"):
        name = uri.rsplit("/", 1)[-1].removesuffix(".arrow")
        if rows.get(name):
            is_audio = name.endswith("A")
            size, count = found.get(is_audio, (0, 0))
            found[is_audio] = size + storage.size(uri), count + rows[name]
    return {is_audio: size / count for is_audio, (size, count) in found.items()}


def _wall(folder: RunFolder, stage: str, lines: list[LedgerLine], amount: float) -> float | None:
    """Seconds on the clock of all shards of a stage, less what loading models took, for each unit of their input."""
    marks = read_marks(folder, stage).values()
    if not marks or any(not mark.wall_seconds for mark in marks):
        return None
    loading = sum(line.seconds.get(_LOADING, 0.0) for line in lines)
    return max(sum(mark.wall_seconds for mark in marks) - loading, 0.0) / amount


def _memory(by: dict[str, list[LedgerLine]]) -> dict[str, int]:
    stages = {"recordings": "speech", "sentences": "text", "mining_input": "gather", "pairs": "mine"}
    return {stages.get(name, name): max(line.peak_rss for line in lines) for name, lines in by.items()}


def _work(lines: Iterable[LedgerLine]) -> float:
    """Core-seconds of some shards without loading models."""
    return sum(value for line in lines for step, value in line.seconds.items() if step != _LOADING)


def _sum(lines: Iterable[LedgerLine], count: Callable[[LedgerLine], int]) -> int:
    return sum(map(count, lines))


def _per(amount: float, count: float) -> float | None:
    return amount / count if count else None


def _mean_size(uris: list[str], most: int = 1000) -> float:
    """Mean bytes of files, of which so many are looked at, at most."""
    some = uris[:: max(1, len(uris) // most)]
    return sum(map(storage.size, some)) / len(some) if some else 0.0
