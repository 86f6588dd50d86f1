"""The sections of a report, in the order in which they are read."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from seamlessalign.charts import Bar, horizontal_bars
from seamlessalign.html_page import row_of, table_of
from seamlessalign.markup import Markup, tag
from seamlessalign.pipelines.folder import SIDE_STAGES
from seamlessalign.pipelines.report_cards import sample_section
from seamlessalign.pipelines.report_directions import directions_section, evaluation_section
from seamlessalign.pipelines.report_numbers import LanguageHours, RunNumbers
from seamlessalign.pipelines.report_parts import hours, tidy
from seamlessalign.pipelines.report_samples import Sample
from seamlessalign.pipelines.report_spans import RunSpans, spans_section
from seamlessalign.rows import SAMPLE_RATE, LedgerLine

STAGES = {  # in the order of the run; what one row of each is called
    "recordings": "recordings",
    "segments": "spans",
    "sentences": "sentences",
    "mining_input": "rows mined",
    "pairs": "candidate pairs",
    "corpus": "pairs with audio",
    "units": "sides as units",
    "transcripts": "sides as text",
}
_SHOWN_LANGUAGES = 30  # bars in the chart; the table beside it has all


def title_of(numbers: RunNumbers) -> str:
    """Title of the page."""
    return f"{numbers.name or 'Unnamed run'} · run report"


def sections_of(numbers: RunNumbers, samples: dict[str, list[Sample]], spans: RunSpans | None) -> Iterator[Markup]:
    """The body of the page: a head, then one section after the other, leaving out those with nothing to say."""
    stages = _stages(numbers.ledger or [])
    sections = [
        ("funnel", "From audio to pairs", _funnel(numbers, stages)),
        ("evaluation", "Measured against the truth", evaluation_section(numbers.evaluation)),
        ("directions", "Directions", directions_section(numbers.directions or [])),
        ("languages", "Languages", _languages(numbers)),
        ("spans", "Spans", spans_section(spans)),
        ("drops", "What was dropped, and why", _drops(stages)),
        ("speed", "Speed and memory", _speed(stages)),
        ("quarantine", "Quarantine", _quarantine(numbers)),
        ("models", "Models", _models(numbers.ledger or [])),
        ("samples", "Sample pairs", sample_section(samples)),
    ]
    shown = [(name, heading, content) for name, heading, content in sections if content]
    yield _head(numbers, stages)
    yield tag("nav", *(tag("a", heading, href=f"#{name}") for name, heading, _ in shown), aria_label="Sections")
    for name, heading, content in shown:
        yield tag("section", tag("h2", heading), *content, id=name)


@dataclass
class _Stage:
    """The ledger lines of one stage added up."""

    name: str
    lines: list[LedgerLine]

    def total(self, field: str) -> int:
        return sum(getattr(line, field) for line in self.lines)

    def dropped(self, field: str = "dropped") -> Counter[str]:
        reasons = Counter[str]()
        for line in self.lines:
            reasons.update(getattr(line, field))
        return reasons

    def unbalanced(self) -> list[str]:
        """Shards whose rows or samples in are not those kept and dropped."""
        return [
            line.shard
            for line in self.lines
            if line.rows_in != line.rows_kept + sum(line.dropped.values())
            or line.samples_in != line.samples_kept + sum(line.samples_dropped.values())
        ]


def _stages(ledger: Sequence[LedgerLine]) -> dict[str, _Stage]:
    names = [*STAGES, *sorted({line.stage for line in ledger} - STAGES.keys())]
    stages = {name: _Stage(name, [line for line in ledger if line.stage == name]) for name in names}
    return {name: stage for name, stage in stages.items() if stage.lines}


def _head(numbers: RunNumbers, stages: dict[str, _Stage]) -> Markup:
    about = [f"Written {numbers.date}"] if numbers.date else []
    about += [f"configuration {numbers.digest[:16]}"] if numbers.digest else []
    tiles = tag("dl", *(_tile(*tile) for tile in _headline(numbers, stages)), class_="tiles")
    pieces = [tag("h1", numbers.name or "Unnamed run"), tag("p", " · ".join(about), class_="about"), tiles]
    if numbers.missing:
        listed = ", ".join(numbers.missing)
        text = f"This run is not complete. Missing: {listed}. Numbers that need them are left out."
        pieces.append(tag("p", text, class_="warning"))
    for warning in _disagreements(numbers, stages):
        pieces.append(tag("p", warning, class_="warning"))
    return tag("header", *pieces)


def _tile(name: str, label: str, value: str) -> Markup:
    shown = tag("dd", value, data_number=name)
    return tag("div", tag("dt", label), shown, class_="tile")


def _headline(numbers: RunNumbers, stages: dict[str, _Stage]) -> list[tuple[str, str, str]]:
    """Name, label and value of each headline number; from the tables, or the ledger where a table is missing."""
    tiles: list[tuple[str, str, str]] = []

    def add(name: str, label: str, value: str | None) -> None:
        tiles.append((name, label, "–" if value is None else value))

    languages = numbers.languages
    audio = hours_in(numbers, stages)
    add("hours_in", "audio in", None if audio is None else hours(audio))
    speech = None if languages is None else sum(_speech(item) for item in languages.values())
    add("hours_speech", "speech", None if speech is None else hours(speech))
    for name, label, table in (("spans", "spans", "segments"), ("sentences", "sentences", "sentences")):
        counted = numbers.spans if table == "segments" else numbers.sentences
        rows = sum(counted.values()) if counted is not None else _kept_rows(stages, table)
        add(name, label, None if rows is None else f"{rows:,}")
    directions = numbers.directions
    kept = _kept_rows(stages, "pairs") if directions is None else sum(item.kept for item in directions)
    add("pairs_kept", "pairs kept", None if kept is None else f"{kept:,}")
    if directions is not None:
        add("hours_kept", "in kept pairs", hours(sum(item.samples_kept for item in directions)))
    else:
        add("hours_kept", "in kept pairs", hours(stages["pairs"].total("samples_kept")) if "pairs" in stages else None)
    return tiles


def hours_in(numbers: RunNumbers, stages: dict[str, _Stage]) -> int | None:
    """Samples decoded: of the recordings table, else of the ledger, else None."""
    if numbers.languages is not None:
        return sum(item.samples for item in numbers.languages.values())
    return stages["recordings"].total("samples_in") if "recordings" in stages else None


def _kept_rows(stages: dict[str, _Stage], stage: str) -> int | None:
    return stages[stage].total("rows_kept") if stage in stages else None


def _speech(item: LanguageHours) -> int:
    return item.speech_kept + item.speech_dropped


def _disagreements(numbers: RunNumbers, stages: dict[str, _Stage]) -> Iterator[str]:
    """Tables whose rows are not those that the ledger counts."""
    compared: list[tuple[str, int | None]] = [
        ("segments", None if numbers.spans is None else sum(numbers.spans.values())),
        ("sentences", None if numbers.sentences is None else sum(numbers.sentences.values())),
        ("pairs", None if numbers.directions is None else sum(item.kept for item in numbers.directions)),
    ]
    for stage, rows in compared:
        counted = _kept_rows(stages, stage)
        if rows is not None and counted is not None and rows != counted:
            yield (
                f"The table {stage} has {rows:,} kept rows, the ledger counts {counted:,}: "
                "a shard is unfinished, or the table was changed after the run."
            )


def _funnel(numbers: RunNumbers, stages: dict[str, _Stage]) -> list[Markup]:
    bars = []
    total = hours_in(numbers, stages)
    if total is not None:
        steps = [("decoded", total)]
        if numbers.languages is not None:
            steps.append(("speech", sum(_speech(item) for item in numbers.languages.values())))
            steps.append(("languages asked for", sum(item.speech_kept for item in numbers.languages.values())))
        if numbers.directions is not None:
            steps.append(("in kept pairs", numbers.audio_kept))
        bars = [Bar(name, samples / SAMPLE_RATE / 3600, 0.0, hours(samples), name) for name, samples in steps]
    rows = []
    for name, stage in stages.items():
        what = STAGES.get(name, name)
        entered, kept = stage.total("rows_in"), stage.total("rows_kept")
        share = f"{kept / entered:.1%}" if entered else "–"
        rows.append(row_of(what, f"{entered:,}", f"{kept:,}", share, kind="total"))
        for reason, number in stage.dropped().most_common():
            rows.append(
                row_of(tidy(reason), f"−{number:,}", "", f"{number / entered:.1%}" if entered else "–", kind="sub")
            )
    if not bars and not rows:
        return []
    left: list[Markup] = []
    if bars:
        left.append(horizontal_bars(bars, title="Hours of audio that remain after each step", x_label="hours"))
        note = (
            "The third step leaves out recordings in other languages and those without a usable span. "
            "The last counts distinct audio: a second that several pairs use counts once."
        )
        left.append(tag("p", note, class_="note"))
    right = [table_of(("", "in", "kept", "share"), rows, numeric=(1, 2, 3))] if rows else []
    return [tag("div", tag("div", *left), tag("div", *right), class_="columns")]


def _languages(numbers: RunNumbers) -> list[Markup]:
    languages = numbers.languages or {}
    spans, sentences = numbers.spans or {}, numbers.sentences or {}
    names = sorted(
        languages.keys() | spans.keys() | sentences.keys(),
        key=lambda name: (-_speech(languages.get(name, LanguageHours())), name),
    )
    if not names:
        return []
    spoken = [name for name in names if name in languages][:_SHOWN_LANGUAGES]
    bars = []
    for name in spoken:
        item = languages[name]
        kept, rest = item.speech_kept / SAMPLE_RATE / 3600, item.speech_dropped / SAMPLE_RATE / 3600
        title = f"{name or 'unknown'}: {hours(item.speech_kept)} kept, {hours(item.speech_dropped)} dropped"
        bars.append(Bar(name or "unknown", kept, rest, hours(_speech(item)), title))
    left = []
    if bars:
        legend = tag("p", tag("span", "kept"), tag("span", "dropped", class_="rest"), class_="legend")
        chart = horizontal_bars(bars, title="Hours of speech by language", x_label="hours of speech", label_width=64)
        left = [chart, legend]
    rows = []
    for name in names:
        item = languages.get(name, LanguageHours())
        rows.append(
            row_of(
                name or "unknown",
                f"{item.recordings:,}",
                hours(_speech(item)) if item.recordings else "–",
                f"{spans[name]:,}" if name in spans else "–",
                f"{sentences[name]:,}" if name in sentences else "–",
            )
        )
    table = table_of(("language", "recordings", "speech", "spans", "sentences"), rows, numeric=(1, 2, 3, 4))
    return [tag("div", tag("div", *left), tag("div", table), class_="columns")]


def _drops(stages: dict[str, _Stage]) -> list[Markup]:
    if not stages:
        return []
    rows, notes = [], []
    for name, stage in stages.items():
        unbalanced = stage.unbalanced()
        check = tag("span", "✗" if unbalanced else "✓", class_="bad" if unbalanced else "ok", data_stage=name)
        counts, samples = stage.dropped(), stage.dropped("samples_dropped")
        reasons = sorted(counts.keys() | samples.keys(), key=lambda reason: (-counts[reason], reason))
        entered = stage.total("samples_in")
        lines = [("kept", stage.total("rows_kept"), stage.total("samples_kept"))]
        lines += [(tidy(reason), counts[reason], samples[reason]) for reason in reasons]
        whole = hours(entered) if entered else "–"  # text has no hours
        rows.append(row_of(f"{name}: in", f"{stage.total('rows_in'):,}", whole, check, kind="total"))
        rows += [row_of(what, f"{n:,}", hours(length) if entered else "–", "", kind="sub") for what, n, length in lines]
        if unbalanced:
            listed = ", ".join(unbalanced[:10]) + (" …" if len(unbalanced) > 10 else "")
            notes.append(
                tag("p", f"{name}: rows or hours do not add up in {len(unbalanced)} shard(s): {listed}", class_="bad")
            )
    about = "✓: in every shard, what went in equals what was kept plus what was dropped, in rows and in samples."
    return [
        tag("p", about, class_="about"),
        table_of(("", "rows", "audio", "balance"), rows, numeric=(1, 2, 3)),
        *notes,
    ]


def _speed(stages: dict[str, _Stage]) -> list[Markup]:
    if not stages:
        return []
    audio = stages["recordings"].total("samples_in") if "recordings" in stages else 0
    steps, resources = [], []
    for name, stage in stages.items():
        seconds = Counter[str]()
        for line in stage.lines:
            seconds.update(line.seconds)
        # Spans and candidate pairs overlap; only the audio that goes in, or is cut, is a measure of speed.
        samples = audio if name in ("recordings", "segments") else 0
        samples = stage.total("samples_in") if name in ("corpus", *SIDE_STAGES) else samples
        whole = [("all steps", sum(seconds.values()))] if len(seconds) > 1 else []
        for step, spent in [*seconds.most_common(), *whole]:
            rate = _rate(samples / SAMPLE_RATE / spent) if samples and spent > 0 else "–"
            rows = _rate(stage.total("rows_in") / spent) if spent > 0 else "–"
            kind = "total" if step == "all steps" else None
            steps.append(row_of(name, tidy(step), _duration(spent), rate, rows, kind=kind))
        resources.append(
            row_of(
                name,
                f"{len(stage.lines):,}",
                _bytes(max(line.peak_rss for line in stage.lines)),
                _bytes(stage.total("bytes_read")),
                _bytes(stage.total("bytes_written")),
            )
        )
    head = ("stage", "step", "core time", "audio h / core-h", "rows / core-s")
    pieces = [table_of(head, steps, numeric=(2, 3, 4))] if steps else []
    table = table_of(("stage", "shards", "peak memory", "read", "written"), resources, numeric=(1, 2, 3, 4))
    return [
        *pieces,
        tag("p", "Core time is the work of all processes; peak memory is that of one of them.", class_="note"),
        table,
    ]


def _quarantine(numbers: RunNumbers) -> list[Markup]:
    quarantine = numbers.quarantine
    if not quarantine.total:
        return [tag("p", "Nothing had to be set aside.", class_="about")]
    listed = [f"{tidy(reason)} {number:,}" for reason, number in quarantine.reasons.most_common()]
    listed += [f"lines that cannot be read {quarantine.unparsed:,}"] if quarantine.unparsed else []
    about = [tag("b", f"{quarantine.total:,}", data_number="quarantined"), " set aside: ", ", ".join(listed), "."]
    rows = [
        row_of(tidy(line["reason"]), tag("code", tag("bdi", line["uri"][:500])), tag("bdi", line["detail"][:500]))
        for line in quarantine.lines
    ]
    pieces = [tag("p", *about, class_="about"), table_of(("reason", "input", "detail"), rows, long=(1, 2))]
    if quarantine.reasons.total() > len(rows):
        note = f"The first {len(rows):,} are shown; all are in the folder quarantine of the run."
        pieces.append(tag("p", note, class_="note"))
    return pieces


def _models(ledger: Sequence[LedgerLine]) -> list[Markup]:
    used: dict[tuple[str, str], set[str]] = {}
    for line in ledger:
        for name, fingerprint in line.models.items():
            used.setdefault((name, fingerprint), set()).add(line.stage)
    if not used:
        return []
    rows = [
        row_of(name, ", ".join(sorted(stages)), tag("code", fingerprint))
        for (name, fingerprint), stages in sorted(used.items())
    ]
    return [table_of(("model", "used in", "SHA-256"), rows, long=(2,))]


def _bytes(number: int) -> str:
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return f"{number} B"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
