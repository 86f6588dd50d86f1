"""How many candidate spans a run has, and would have with other settings: the counts that settings are chosen by.

Every span is embedded, searched and stored, so spans per hour of speech are what a run costs; how often each second of
speech is in a span says how much of that is repetition.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from seamlessalign import storage
from seamlessalign.config import RunConfig, SpansConfig, VadConfig, parse_config
from seamlessalign.errors import InputError
from seamlessalign.pipelines.folder import RunFolder, run_below
from seamlessalign.pipelines.report_numbers import refuse_rebuilt
from seamlessalign.pipelines.span_picture import span_picture
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.segmentation.kept_scores import to_scores
from seamlessalign.segmentation.spans import Spans, over_segment
from seamlessalign.segmentation.vad import fragments_of
from seamlessalign.typed_config import apply_override, parse_written_yaml

FRAMES_TABLE = "frames"
LENGTHS = (10.0, 15.0, 20.0, 25.0)  # seconds; what is tried for max_seconds
GAPS = (0.5, 1.0, 1.5)  # seconds; what is tried for max_gap_seconds
Int64 = npt.NDArray[np.int64]


@dataclass
class SpanCounts:
    """Recordings that were segmented, or would be; samples at 16 kHz."""

    recordings: int = 0
    samples: int = 0
    speech: int = 0  # samples inside fragments
    fragments: int = 0
    spans: int = 0
    span_samples: int = 0  # of all spans, which overlap
    by_fragments: dict[int, int] = field(default_factory=dict)  # fragments of a span → spans

    def add(self, num_samples: int, fragments: Int64, spans: Spans) -> None:
        """Count one recording."""
        self.recordings += 1
        self.samples += num_samples
        self.speech += int((fragments[:, 1] - fragments[:, 0]).sum())
        self.fragments += len(fragments)
        self.spans += len(spans)
        self.span_samples += int((spans.spans[:, 1] - spans.spans[:, 0]).sum())
        for number, count in zip(*np.unique(spans.num_fragments, return_counts=True), strict=True):
            self.by_fragments[int(number)] = self.by_fragments.get(int(number), 0) + int(count)

    @property
    def per_hour(self) -> float:
        """Spans for each hour of speech; 0 where there is none."""
        return self.spans * 3600 * SAMPLE_RATE / self.speech if self.speech else 0.0

    @property
    def multiple(self) -> float:
        """Hours of all spans together for each hour of speech; 0 where there is none."""
        return self.span_samples / self.speech if self.speech else 0.0


def fragment_settings(vad: VadConfig) -> dict[str, Any]:
    """Settings of `fragments_of` out of a configuration."""
    names = ("threshold", "min_speech_ms", "min_silence_ms", "speech_pad_ms", "max_fragment_seconds")
    return {name: getattr(vad, name) for name in names}


def spans_of(fragments: Int64, spans: SpansConfig) -> Spans:
    """The spans of fragments under a configuration."""
    return over_segment(fragments, **spans.model_dump())


def configured(run_dir: str, overrides: Sequence[str]) -> RunConfig:
    """The configuration of a run with some keys of `speech.vad` and `speech.spans` set anew.

    Raises InputError where there is no run, ConfigError for other keys and values that cannot be.
    """
    uri = RunFolder(run_dir).config
    if not storage.exists(uri):
        raise InputError(f"{run_dir}: is not the folder of a run: it has no run.yaml{run_below(run_dir)}")
    refuse_rebuilt(run_dir)
    raw = parse_written_yaml(storage.read_bytes(uri))
    raw.pop("digest", None)
    for override in overrides:
        if not override.startswith(("speech.vad.", "speech.spans.")) or override.startswith("speech.vad.engine"):
            raise InputError(f"{override}: only thresholds of speech.vad and keys of speech.spans can be tried")
        apply_override(raw, override)
    return parse_config(raw, uri)


def kept_frames(run_dir: str) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Rows of the recordings that were segmented, or had no span, each with the language that its recording has.

    A row is one of `FRAMES`, with arrays in place of lists. Raises InputError where a run did not keep them.
    """
    folder = RunFolder(run_dir)
    files = storage.list_files(folder.table(FRAMES_TABLE), ".parquet")
    if not files:
        raise InputError(f"{run_dir}: kept no probabilities: run it with speech.vad.keep_probabilities=true")
    for file in files:
        part = file.rsplit("/", 1)[-1].removesuffix(".parquet")  # a shard writes both tables under one name
        recordings = storage.read_table(folder.table("recordings", part=part), ["uri", "lang", "drop_reason"])
        segmented = pc.is_in(recordings["drop_reason"], pa.array([None, "no_span"]))
        langs = {row["uri"]: row["lang"] for row in recordings.filter(segmented).to_pylist()}
        table = storage.read_table(file)
        for number, uri in enumerate(table["uri"].to_pylist()):
            if uri in langs:
                row = {name: table[name][number] for name in table.column_names}
                yield {name: _plain(value) for name, value in row.items()}, langs[uri]


def _plain(value: pa.Scalar) -> Any:
    return value.values.to_numpy(zero_copy_only=False) if isinstance(value, pa.ListScalar) else value.as_py()


def count_spans(run_dir: str, settings: Sequence[tuple[VadConfig, SpansConfig]]) -> list[SpanCounts]:
    """The counts of a run under several settings, from the probabilities that it kept; no audio is read."""
    counts = [SpanCounts() for _ in settings]
    for row, _ in kept_frames(run_dir):
        scores = to_scores(row)
        for count, (vad, spans) in zip(counts, settings, strict=True):
            fragments = fragments_of(scores, **fragment_settings(vad))
            count.add(scores.num_samples, fragments, spans_of(fragments, spans))
    return counts


def spans_text(run_dir: str, overrides: Sequence[str] = ()) -> str:
    """A table for people: the settings as given, and what other lengths and gaps would make of them."""
    speech = configured(run_dir, overrides).speech
    tried = [speech.spans]
    for gap in GAPS:
        for length in LENGTHS:
            if length >= speech.spans.min_seconds:
                other = speech.spans.model_copy(update={"max_seconds": length, "max_gap_seconds": gap})
                tried += [other] if other not in tried else []
    counts = count_spans(run_dir, [(speech.vad, spans) for spans in tried])
    first = counts[0]
    hours, spoken = first.samples / SAMPLE_RATE / 3600, first.speech / SAMPLE_RATE / 3600
    lines = [
        f"{first.recordings} recordings, {hours:.2f} h, of them speech {spoken:.2f} h in {first.fragments} fragments",
        "",
        f"{'min s':>6} {'max s':>6} {'gap s':>6} {'spans':>10} {'per h of speech':>16} {'× speech':>9}",
    ]
    for spans, count in zip(tried, counts, strict=True):
        bounds = f"{spans.min_seconds:>6g} {spans.max_seconds:>6g} {spans.max_gap_seconds:>6g}"
        mark = "  as configured" if count is first else ""
        lines.append(f"{bounds} {count.spans:>10} {count.per_hour:>16.0f} {count.multiple:>9.1f}{mark}")
    return "\n".join(lines)


def draw_spans(
    run_dir: str,
    overrides: Sequence[str],
    target: str,
    recording: str | None,
    first_seconds: float,
    last_seconds: float,
) -> str:
    """Draw one recording's fragments and spans between two times into an SVG file; returns its uri.

    recording: a uri or id; None takes the first that has spans there. Raises InputError where there is none.
    """
    if not 0 <= first_seconds < last_seconds:
        raise InputError(
            f"a picture from {first_seconds:g} to {last_seconds:g} s: it must begin at 0 or later, and last"
        )
    speech = configured(run_dir, overrides).speech
    window = (first_seconds, last_seconds)
    for row, _ in kept_frames(run_dir):
        if recording is not None and recording not in (row["uri"], row["recording_id"]):
            continue
        fragments = fragments_of(to_scores(row), **fragment_settings(speech.vad))
        spans = spans_of(fragments, speech.spans).spans
        inside = (spans[:, 0] >= first_seconds * SAMPLE_RATE) & (spans[:, 1] <= last_seconds * SAMPLE_RATE)
        if recording is None and not inside.any():
            continue
        picture = span_picture(fragments, spans, *window, title=f"Fragments and spans of {row['uri']}")
        storage.write_bytes_atomic(target, picture.encode())
        return str(row["uri"])
    which = f"of the uri or id {recording!r}" if recording is not None else "with spans there"
    raise InputError(f"{run_dir}: there is no recording {which}")
