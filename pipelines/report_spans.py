"""The section of a report on spans: how many there are for each hour of speech, and a picture of some of them.

What a run costs behind the detection of speech grows with its spans, since each is embedded, searched and stored.
"""

from dataclasses import dataclass, field

import numpy as np
import pyarrow.compute as pc

from seamlessalign import storage
from seamlessalign.errors import ConfigError
from seamlessalign.html_page import row_of, table_of
from seamlessalign.markup import Markup, tag
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.report_counts import FineCounts
from seamlessalign.pipelines.report_lengths import fine_lengths
from seamlessalign.pipelines.report_numbers import batches_of, parts_of
from seamlessalign.pipelines.report_parts import hours
from seamlessalign.pipelines.span_counts import FRAMES_TABLE, configured, fragment_settings, kept_frames, spans_of
from seamlessalign.pipelines.span_picture import span_picture
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.segmentation.kept_scores import to_scores
from seamlessalign.segmentation.vad import fragments_of

PICTURE_SECONDS = 60.0
_TOTAL = "all"


@dataclass
class LanguageSpans:
    """The speech of one language, and what is made of it; samples at 16 kHz."""

    speech: int = 0  # samples inside fragments of recordings that were segmented, also where no span came out
    fragments: int | None = None  # None where nothing was kept to count them by
    spans: int = 0  # rows of `segments`
    span_samples: int = 0  # of all of them, which overlap

    def add(self, other: "LanguageSpans") -> None:
        """Count what another one has as well."""
        self.speech += other.speech
        self.spans += other.spans
        self.span_samples += other.span_samples
        if other.fragments is not None:
            self.fragments = (self.fragments or 0) + other.fragments


@dataclass
class RunSpans:
    """The spans of a run."""

    languages: dict[str, LanguageSpans] = field(default_factory=dict)
    lengths: FineCounts = field(default_factory=fine_lengths)  # of all spans, in seconds
    own_languages: bool = False  # whether spans have languages of their own, of which speech is not counted
    picture: Markup | None = None
    pictured: str = ""  # which recording, and when


def read_spans(run_dir: str) -> RunSpans | None:
    """Count the spans of a run from its tables, and its fragments where it kept the probabilities of frames.

    None where the run has no `segments` yet. Raises StorageError naming a damaged file.
    """
    segments = parts_of(run_dir, "segments")
    if not segments:
        return None
    found = RunSpans()
    for lang, uris in segments.items():
        item = found.languages.setdefault(lang, LanguageSpans())
        for uri in uris:
            for batch in batches_of(uri, ["start", "end"]):
                item.spans += batch.num_rows
                samples = pc.subtract(batch["end"], batch["start"]).to_numpy(zero_copy_only=False)
                item.span_samples += int(samples.sum())
                found.lengths.add(samples / SAMPLE_RATE)
    recordings = [uri for uris in parts_of(run_dir, "recordings").values() for uri in uris]
    for uri in recordings:
        for batch in batches_of(uri, ["lang", "speech_samples", "drop_reason"]):
            for row in batch.to_pylist():
                if row["drop_reason"] in (None, "no_span"):
                    found.languages.setdefault(row["lang"] or "", LanguageSpans()).speech += row["speech_samples"]
    if recordings:
        _read_frames(run_dir, found)
    return found


def _read_frames(run_dir: str, found: RunSpans) -> None:
    """Count fragments, and draw the first recording that has spans."""
    folder = RunFolder(run_dir)
    try:
        speech = configured(run_dir, ()).speech if storage.exists(folder.config) else None
    except ConfigError:  # of a run of another version: what its settings were is not known here
        speech = None
    if speech is None:
        return
    found.own_languages = speech.lid.per_segment
    if not storage.list_files(folder.table(FRAMES_TABLE), ".parquet"):
        return
    for row, lang in kept_frames(run_dir):
        item = found.languages.setdefault(lang or "", LanguageSpans())
        fragments = fragments_of(to_scores(row), **fragment_settings(speech.vad))
        item.fragments = (item.fragments or 0) + len(fragments)
        if found.picture is not None:
            continue
        spans = spans_of(fragments, speech.spans).spans
        if len(spans):
            first = float(np.floor(spans[0, 0] / SAMPLE_RATE))
            last = min(first + PICTURE_SECONDS, float(np.ceil(row["num_samples"] / SAMPLE_RATE)))
            title = "Fragments of speech in a recording, and the spans that are made of them"
            found.picture = span_picture(fragments, spans, first, last, title, in_page=True)
            found.pictured = f"{row['uri']}, {first:g} to {last:g} s"


def spans_section(spans: RunSpans | None) -> list[Markup]:
    """A table by language, and the picture; nothing where there are no spans yet."""
    if spans is None:
        return []
    total = LanguageSpans()
    for item in spans.languages.values():
        total.add(item)
    rows = [_row(_TOTAL, total)]
    for name, item in sorted(spans.languages.items(), key=lambda pair: (-pair[1].span_samples, pair[0])):
        if spans.own_languages:
            item = LanguageSpans(spans=item.spans, span_samples=item.span_samples)
        rows.append(_row(name or "unknown", item))
    head = ("language", "speech", "fragments", "spans", "h of spans", "spans / h of speech", "h of spans / h of speech")
    note = (
        "Each span is embedded, searched and stored; a second of speech is in as many spans as overlap there. "
        "Speech is that of the recordings that were segmented."
    )
    if spans.own_languages:
        note += " Spans have languages of their own here, of which the speech is not known."
    pieces = [tag("p", note, class_="about"), table_of(head, rows, numeric=range(1, 7))]
    if spans.picture is None:
        told = "With speech.vad.keep_probabilities: true, fragments are counted here, and some spans drawn."
        return [*pieces, tag("p", told, class_="note")]
    legend = tag(
        "p", tag("span", "candidate spans", class_="spans"), tag("span", "fragments of speech"), class_="legend"
    )
    caption = tag("figcaption", tag("bdi", spans.pictured))
    return [*pieces, tag("figure", tag("div", spans.picture, class_="scroll", tabindex=0), legend, caption)]


def _row(name: str, item: LanguageSpans) -> tuple[tuple[str, ...], str | None]:
    per_hour = item.spans * 3600 * SAMPLE_RATE / item.speech if item.speech else None
    multiple = item.span_samples / item.speech if item.speech else None
    return row_of(
        name,
        hours(item.speech) if item.speech else "–",
        "–" if item.fragments is None else f"{item.fragments:,}",
        f"{item.spans:,}",
        hours(item.span_samples),
        "–" if per_hour is None else f"{per_hour:,.0f}",
        "–" if multiple is None else f"{multiple:.1f}",
        kind="total" if name == _TOTAL else None,
    )
