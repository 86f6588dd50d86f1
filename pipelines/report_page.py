"""The sections of a report, in the order in which they are read."""

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from seamlessalign.charts import Bar, horizontal_bars
from seamlessalign.html_page import Row, row_of, table_of
from seamlessalign.markup import Markup, tag
from seamlessalign.pipelines.known_languages import Confusion
from seamlessalign.pipelines.report_cards import sample_section
from seamlessalign.pipelines.report_config import config_section, models_section
from seamlessalign.pipelines.report_cost import RunCosts, costs_section
from seamlessalign.pipelines.report_directions import directions_section, evaluation_section
from seamlessalign.pipelines.report_labels import LabelledDirection, labels_section
from seamlessalign.pipelines.report_languages import confusion_section, languages_section
from seamlessalign.pipelines.report_lengths import lengths_section
from seamlessalign.pipelines.report_numbers import RunNumbers, is_rebuilt
from seamlessalign.pipelines.report_parts import hours, tidy
from seamlessalign.pipelines.report_samples import Sample
from seamlessalign.pipelines.report_spans import RunSpans, spans_section
from seamlessalign.pipelines.report_steps import steps_section
from seamlessalign.rows import SAMPLE_RATE, LedgerLine

STAGES = {  # in the order of the run; what one row of each is called
    "lines": "lines of metadata",
    "share": "published pairs",
    "recordings": "recordings",
    "clips": "spans wanted",
    "texts": "texts wanted",
    "segments": "spans",
    "sentences": "sentences",
    "decoys": "decoys",
    "mining_input": "rows mined",
    "reduce": "rows with fewer dimensions",
    "index": "rows indexed",
    "search": "rows searched, by task",
    "pairs": "candidate pairs",
    "corpus": "pairs with audio",
    "units": "sides as units",
    "transcripts": "sides as text",
}


def title_of(numbers: RunNumbers) -> str:
    """Title of the page."""
    return f"{numbers.name or 'Unnamed run'} · run report"


@dataclass(frozen=True)
class RunDetails:
    """What a page says of a run besides its numbers."""

    samples: dict[str, list[Sample]]
    spans: RunSpans | None
    confusion: Confusion | None
    costs: RunCosts
    labels: Sequence[LabelledDirection]


def sections_of(run_dir: str, numbers: RunNumbers, details: RunDetails) -> Iterator[Markup]:
    """The body of the page: a head, then one section after the other, leaving out those with nothing to say."""
    stages = _stages(numbers.ledger or [])
    directions, spans = numbers.directions or [], details.spans
    languages = [] if _is_rebuilt(numbers) else languages_section(numbers)
    told = [tag("h3", "Told against known"), *confusion_section(details.confusion)] if languages else []
    lengths = lengths_section(numbers.recording_minutes, spans.lengths if spans else None, directions)
    sections = [
        ("funnel", "From audio to pairs", _funnel(numbers, stages)),
        ("next", "What to do next", steps_section(run_dir, directions, mined=not _is_rebuilt(numbers))),
        ("labels", "What listeners said", labels_section(details.labels)),
        ("evaluation", "Measured against the truth", evaluation_section(numbers.evaluation, directions)),
        ("directions", "Directions and scores", directions_section(directions)),
        ("languages", "Languages", [*languages, *told]),
        ("lengths", "Lengths", lengths),
        ("spans", "Spans", spans_section(spans)),
        ("speed", "Speed and cost", costs_section(numbers.ledger or [], details.costs)),
        ("quarantine", "Quarantine", _quarantine(numbers)),
        ("configuration", "Configuration", config_section(numbers.config)),
        ("models", "Models", models_section(numbers.ledger or [])),
        ("samples", "Sample pairs", sample_section(details.samples)),
    ]
    shown = [(name, heading, content) for name, heading, content in sections if content]
    yield _head(run_dir, numbers, stages)
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


def _head(run_dir: str, numbers: RunNumbers, stages: dict[str, _Stage]) -> Markup:
    about = [f"Written {numbers.date}"] if numbers.date else []
    about += [f"configuration {numbers.digest[:16]}"] if numbers.digest else []
    tiles = tag("dl", *(_tile(*tile) for tile in _headline(numbers, stages)), class_="tiles")
    pieces = [tag("h1", numbers.name or "Unnamed run"), tag("p", " · ".join(about), class_="about"), tiles]
    if numbers.missing:
        listed = ", ".join(numbers.missing)
        text = f"This run is not complete. Missing: {listed}. Numbers that need them are left out. Where it stands: "
        command = tag("code", f"seamlessalign status {shlex.quote(run_dir.rstrip('/') or '/')}")
        pieces.append(tag("p", text, command, class_="warning"))
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
    speech = None if languages is None else sum(item.speech for item in languages.values())
    mined = not _is_rebuilt(numbers)  # else speech was not looked for, nor cut into spans
    if mined:
        add("hours_speech", "speech", None if speech is None else hours(speech))
    of_mining = (("spans", "spans", "segments"), ("sentences", "sentences", "sentences"))
    for name, label, table in of_mining if mined else ():
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
    """Hours that remain after each step as bars, and a table of all steps with what each dropped, and why."""
    bars = []
    total = hours_in(numbers, stages)
    if total is not None:
        steps = [("decoded", total)]
        if numbers.languages is not None and not _is_rebuilt(numbers):
            steps.append(("speech", sum(item.speech for item in numbers.languages.values())))
            steps.append(("languages asked for", sum(item.speech_kept for item in numbers.languages.values())))
        if numbers.directions is not None:
            steps.append(("in kept pairs", numbers.audio_kept))
        bars = [Bar(name, samples / SAMPLE_RATE / 3600, 0.0, hours(samples), name) for name, samples in steps]
    pieces = []
    if bars:
        note = "The last step counts distinct audio: a second that several pairs use counts once."
        if not _is_rebuilt(numbers):
            note = f"The third step leaves out recordings in other languages and those without a usable span. {note}"
        chart = horizontal_bars(bars, title="Hours of audio that remain after each step", x_label="hours")
        pieces.append(tag("div", tag("div", chart), tag("p", note, class_="note"), class_="columns"))
    if not stages:
        return pieces
    rows, notes = [], []
    for name, stage in stages.items():
        unbalanced = stage.unbalanced()
        rows += _funnel_rows(name, stage, bool(unbalanced))
        if unbalanced:
            listed = ", ".join(unbalanced[:10]) + (" …" if len(unbalanced) > 10 else "")
            notes.append(
                tag("p", f"{name}: rows or hours do not add up in {len(unbalanced)} shard(s): {listed}", class_="bad")
            )
    about = (
        "✓: in every shard, what went in equals what was kept plus what was dropped, in rows and in samples. A pair "
        "has the hours of its first side that is audio."
    )
    if "segments" in stages:
        about += (
            " A span is a stretch of speech that may be a sentence; spans overlap, so that they have more hours than "
            "the speech they are made of."
        )
    if "decoys" in stages:
        about += " Decoys are sentences that no recording says, by which precision is estimated."
    head = ("", "in", "kept", "share", "hours in", "hours kept", "balance")
    return [*pieces, table_of(head, rows, numeric=range(1, 7)), *notes, tag("p", about, class_="note")]


def _funnel_rows(name: str, stage: _Stage, unbalanced: bool) -> list[Row]:
    """A stage, and what it dropped, by reason."""
    check = tag("span", "✗" if unbalanced else "✓", class_="bad" if unbalanced else "ok", data_stage=name)
    entered, samples_in = stage.total("rows_in"), stage.total("samples_in")

    def share(number: int) -> str:
        return f"{number / entered:.1%}" if entered else "–"

    def length(samples: int, sign: str = "") -> str:
        return f"{sign}{hours(samples)}" if samples_in else "–"  # text has no hours

    kept, samples_kept = stage.total("rows_kept"), stage.total("samples_kept")
    rows = [
        row_of(
            STAGES.get(name, name), f"{entered:,}", f"{kept:,}", share(kept), length(samples_in), length(samples_kept),
            check, kind="total",
        )
    ]  # fmt: skip
    counts, samples = stage.dropped(), stage.dropped("samples_dropped")
    for reason in sorted(counts.keys() | samples.keys(), key=lambda reason: (-counts[reason], reason)):
        number = counts[reason]
        rows.append(
            row_of(tidy(reason), f"−{number:,}", "", share(number), length(samples[reason], "−"), "", "", kind="sub")
        )
    return rows


def _is_rebuilt(numbers: RunNumbers) -> bool:
    return is_rebuilt(numbers.config or {})


def _quarantine(numbers: RunNumbers) -> list[Markup]:
    quarantine = numbers.quarantine
    if _is_rebuilt(numbers):
        told = "What could not be had is in missing.tsv, in the folder, and in lost.parquet: a line each, and why."
        return [tag("p", told, class_="about")]
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
