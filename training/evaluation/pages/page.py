"""The page of an evaluation: one HTML file that needs nothing beside it, made of the files of its folder."""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files

from seamlessalign import storage
from seamlessalign.html_page import html_page
from seamlessalign.markup import Markup, join, tag
from seamlessalign.training.evaluation.details import failures_of
from seamlessalign.training.evaluation.pages.averages import MeasureScores, measures_of
from seamlessalign.training.evaluation.pages.page_details import details_of
from seamlessalign.training.evaluation.pages.page_examples import (
    Example,
    behind_section,
    choose_examples,
    examples_section,
)
from seamlessalign.training.evaluation.pages.page_parts import SIGNIFICANT, plain_list
from seamlessalign.training.evaluation.pages.page_scores import anchor, measure_section, overview
from seamlessalign.training.evaluation.written import Written, read_written

_NAMED = 5  # ids that a warning names


def build_page(folder: str) -> str:
    """Write `evaluation.html` into the folder of an evaluation (local or any fsspec uri) and return its uri.

    The same files give the same bytes. Raises InputError where there is no evaluation, StorageError naming a damaged
    file.
    """
    evaluation = read_written(folder)
    uri = storage.join(folder, "evaluation.html")
    storage.write_bytes_atomic(
        uri,
        page_of(
            f"Evaluation of {plain_list(evaluation.systems())}",
            sections_of(evaluation, "Evaluation", _examples(evaluation)),
        ),
    )
    return uri


def page_of(title: str, body: Sequence[Markup]) -> bytes:
    """A page in the look of evaluations, whose tables can be sorted and filtered."""
    here = files("seamlessalign.training.evaluation.pages")
    style, script = (here.joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    return html_page(title, join(*body), styles=[style], script=script)


def sections_of(
    evaluation: Written, title: str, examples: Sequence[Example], others: Sequence[Markup] = ()
) -> list[Markup]:
    """The body of the page: head, overview, each measure, rows to read, settings. others: what is not compared."""
    measures = measures_of(evaluation)
    systems = {name: number for number, name in enumerate(evaluation.systems())}
    sections: list[tuple[str, str, Sequence[Markup]]] = [
        ("overview", "Overview", [_how_to_read(evaluation), *overview(measures)]),
        ("left-out", "Not compared", others),
    ]
    for measure in measures:
        numbers = [systems[name] for name in measure.systems()]
        content = measure_section(measure, numbers, details_of(measure, numbers))
        sections.append((anchor(measure), _name(measure, measures), content))
    sections.append(("examples", "Examples", examples_section(examples)))
    sections.append(("behind", "Rows behind counts", behind_section(evaluation.folder) if evaluation.folder else []))
    sections.append(("settings", "Settings", _settings(measures, evaluation)))
    shown = [(name, heading, content) for name, heading, content in sections if content]
    return [
        _head(evaluation, measures, title),
        tag("nav", *(tag("a", heading, href=f"#{name}") for name, heading, _ in shown), aria_label="Sections"),
        _toolbar(),
        *(tag("section", tag("h2", heading), *content, id=name) for name, heading, content in shown),
    ]


def _how_to_read(evaluation: Written) -> Markup:
    told = "★: the best score of a row. Intervals are of 95 %, by bootstrap over rows."
    if any(one.comparison for one in evaluation.scores):
        told += (
            f" A difference from the baseline is called better or worse where p < {SIGNIFICANT:g} and its interval "
            "leaves out 0. Each comparison is by itself: of twenty in which there is nothing but chance about one is "
            "called so."
        )
    return tag("p", f"{told} In means of directions each counts once.", class_="about")


def _toolbar() -> Markup:
    """What the script shows: a filter of directions, and what cells have."""
    return Markup(
        '<form class="toolbar" hidden aria-label="What tables show">'
        '<label>Directions <input type="search" id="find" placeholder="language or code" autocomplete="off"></label>'
        '<output id="found" for="find"></output>'
        '<label><input type="checkbox" data-shows="interval" checked> intervals</label>'
        '<label><input type="checkbox" data-shows="difference" checked> differences</label>'
        "</form>"
    )


def _examples(evaluation: Written) -> list[Example]:
    if not storage.exists(storage.join(evaluation.folder, "translations.parquet")):
        return []
    return choose_examples(evaluation.scores, {evaluation.folder: {name: name for name in evaluation.systems()}})


def _name(measure: MeasureScores, measures: Sequence[MeasureScores]) -> str:
    """A measure's name, with its task where another task has the same."""
    same = sum(one.measure == measure.measure for one in measures) > 1
    return f"{measure.measure} ({measure.task})" if same else measure.measure


# The head


def _head(evaluation: Written, measures: Sequence[MeasureScores], title: str) -> Markup:
    directions = {one.direction for one in evaluation.scores}
    told = [
        ("rows", None if evaluation.rows is None else f"{evaluation.rows:,}"),
        ("directions", f"{len(directions):,}"),
        ("systems", f"{len(evaluation.systems()):,}"),
        ("measures", f"{len(measures):,}"),
    ]
    tiles = [
        tag("div", tag("dt", label), tag("dd", value, data_number=label), class_="tile")
        for label, value in told
        if value
    ]
    warnings = [tag("p", *pieces, class_="warning", role="note") for pieces in _warnings(evaluation)]
    baselines = set(evaluation.baselines.values()) if len(evaluation.systems()) > 1 else set()
    names = [join(tag("bdi", name), " (baseline)" if name in baselines else "") for name in evaluation.systems()]
    systems = tag("p", "Systems: ", Markup(", ".join(names)), class_="about")
    return tag("header", tag("h1", title), systems, *warnings, tag("dl", *tiles, class_="tiles"))


def _warnings(evaluation: Written) -> list[list[str]]:
    """What a reader must know before any score."""
    found: list[list[str]] = []
    for name, ids in evaluation.missing.items():
        if ids:
            rows = "1 row, which is" if len(ids) == 1 else f"{len(ids):,} rows, which are"
            told = f" has no output for {rows} scored as empty: {plain_list(ids, _NAMED)}"
            found.append([tag("b", tag("bdi", name)), told])
    for name, number in evaluation.not_asked.items():
        if number:
            some = "1 output whose id" if number == 1 else f"{number:,} outputs whose ids"
            found.append([tag("b", tag("bdi", name)), f" has {some} the test set has not."])
    for what, counted in (
        (" was not heard for some rows, which are scored as empty: ", _failed(evaluation)),
        (" could not translate some rows, which are scored as empty: ", evaluation.set_aside),
    ):
        for name, reasons in counted.items():
            told = ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in sorted(reasons.items()))
            found.append([tag("b", tag("bdi", name)), what + told])
    if evaluation.unreadable_noise:
        names = list(evaluation.unreadable_noise)
        some = "1 recording of noise" if len(names) == 1 else f"{len(names):,} recordings of noise"
        found.append([f"{some} cannot be read, and had no part: {plain_list(names, _NAMED)}"])
    without = [one for one in evaluation.scores if one.score is None]
    if without:
        some = plain_list([f"{one.measure} of {one.system}, {one.direction}" for one in without], _NAMED)
        found.append([f"{'1 score has' if len(without) == 1 else f'{len(without):,} scores have'} no value: {some}"])
    return found


def _failed(evaluation: Written) -> Mapping[str, Mapping[str, int]]:
    return failures_of((one.system, one.direction, one.condition, one.details) for one in evaluation.scores)


# Settings


def _settings(measures: Sequence[MeasureScores], evaluation: Written) -> list[Markup]:
    lines = [f"{measure.measure}: {signature}" for measure in measures for signature in measure.signatures()]
    tests = sorted({one.comparison.test for one in evaluation.scores if one.comparison})
    lines += [f"comparisons: {test}" for test in tests]
    for name, settings in evaluation.settings.items():
        lines.append(f"{name}: {json.dumps(settings, ensure_ascii=False, sort_keys=True)}")
    lines += [f"rows: digest:{evaluation.digest}"] if evaluation.digest else []
    cite = (
        "A score can be compared with another only if both have the same signature: cite it with the score, "
        "with the interval, and with the version of the test set."
    )
    block = tag("pre", "\n".join(lines), id="signatures", tabindex=0, class_="signatures")
    return [tag("p", cite), block]
