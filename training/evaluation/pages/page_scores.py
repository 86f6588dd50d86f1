"""The sections of an evaluation's page that have scores: an overview, and tables and pictures of each measure."""

import re
from collections.abc import Sequence

from seamlessalign.html_page import row_of, table_of
from seamlessalign.markup import Markup, join, tag
from seamlessalign.series_charts import Dot, DotRow, Line, dots_by_column, dots_by_row, legend, line_chart
from seamlessalign.training.evaluation.details import texts_of
from seamlessalign.training.evaluation.measures import decimals
from seamlessalign.training.evaluation.pages.averages import ALL, Average, MeasureScores, averages
from seamlessalign.training.evaluation.pages.page_parts import (
    best_of,
    best_value,
    difference_cell,
    exact,
    interval,
    label_of,
    names_of,
    plain_list,
    written,
)
from seamlessalign.training.evaluation.written import WrittenScore

_MOST_ROWS = 40  # of a picture with a row for each direction; more are columns
_MOST_SETTINGS = 3  # by language, that are named with a mean
_MOST_TOLD = 100  # settings that are no part of a signature
_MOST_CURVES = 24  # pictures of directions


def overview(measures: Sequence[MeasureScores]) -> list[Markup]:
    """Every measure in a table of its task: its means over directions, or its scores where there is no mean."""
    tasks: dict[str, list[MeasureScores]] = {}
    for measure in measures:
        tasks.setdefault(measure.task, []).append(measure)
    pieces = []
    for task, some in tasks.items():
        if len(tasks) > 1:
            pieces.append(tag("h3", task.replace("_", " ")))
        pieces.append(_overview(some))
    return pieces


def _overview(measures: Sequence[MeasureScores]) -> Markup:
    systems = list(dict.fromkeys(name for one in measures for name in one.systems()))
    rows: list[Markup] = []
    for measure in measures:
        places, condition = decimals(one.score for one in measure.scores), measure.conditions()[0]
        means = [one for one in averages(measure) if one.group == ALL and one.condition == condition]
        heading = tag("a", measure.measure, href=f"#{anchor(measure)}")
        for mean in means:
            told = [condition, f"mean of {len(mean.directions)} directions", _by_language(mean)]
            about = ", ".join(part for part in told if part)
            cells = [_mean_cell(mean, measure, name, places) for name in systems]
            rows.append(_row(join(heading, tag("small", about)), cells))
        if not means:
            alone = [place for place in measure.by_place() if place[1] == condition]
            for direction, _ in alone[:_MOST_ROWS]:
                one_row = measure.by_place()[direction, condition]
                best = best_of(list(one_row.values()))
                cells = [_score_cell(one_row.get(name), name in best, places) for name in systems]
                rows.append(_row(join(heading, tag("small", label_of(direction, condition))), cells))
            if len(alone) > _MOST_ROWS:
                more = f"{len(alone) - _MOST_ROWS:,} more directions are below"
                rows.append(_row(join(heading, tag("small", more)), [tag("td", "") for _ in systems]))
    head = tag("tr", tag("th", "measure", scope="col"), *(_system_heading(name) for name in systems))
    return _scrolling(tag("table", tag("thead", head), tag("tbody", *rows), class_="scores"), "Overview")


def anchor(measure: MeasureScores) -> str:
    """The name of a measure's section in addresses; no two measures have the same."""
    name = f"{measure.task} {measure.measure}"
    return "measure-" + re.sub("[^A-Za-z0-9]", lambda found: "-" if found[0] == " " else f"_{ord(found[0]):x}", name)


def measure_section(measure: MeasureScores, numbers: Sequence[int], details: Sequence[Markup]) -> list[Markup]:
    """What is told of a measure. numbers: of its systems among all, which have one mark throughout the page."""
    systems = measure.systems()
    places = decimals(one.score for one in measure.scores)
    series = dict(zip(systems, numbers, strict=True))
    better = {"high": "Higher is better", "low": "Lower is better", "zero": "0 is best"}[measure.aim]
    compared = f" Others are compared with {measure.baseline}." if len(systems) > 1 else ""
    means = averages(measure)
    pieces = [tag("p", f"{better}.{compared}", class_="about")]
    pictures = _pictures(measure, series, places)
    if means:
        pictures.append(tag("div", tag("h3", "Means over directions"), *_means(means, measure, places)))
    pieces.append(tag("div", *pictures, class_="pictures" if len(pictures) > 1 else None))
    pieces.append(_by_direction(measure, systems, places))
    pieces += _condition_curves(measure, series)
    pieces += details
    pieces.append(_settings(measure))
    return pieces


# Tables


def _by_direction(measure: MeasureScores, systems: Sequence[str], places: int) -> Markup:
    by_place = measure.by_place()
    with_conditions = measure.conditions() != [""]
    plain = "clean" if any(_numbered(condition)[0] for condition in measure.conditions()) else ""
    rows = []
    for (direction, condition), some in by_place.items():
        best = best_of(list(some.values()))
        counts = {one.rows for one in some.values()}
        cells = [tag("td", condition or plain)] if with_conditions else []
        cells.append(tag("td", " / ".join(f"{count:,}" for count in sorted(counts)), class_="number"))
        for name in systems:
            cells.append(_score_cell(some.get(name), name in best, places))
        rows.append(_row(_direction(direction), cells))
    head = [tag("th", "direction", scope="col")]
    head += [tag("th", "condition", scope="col")] if with_conditions else []
    head.append(tag("th", "rows", scope="col", class_="number"))
    head += [_system_heading(name) for name in systems]
    caption = tag("caption", f"{measure.measure} by direction", class_="unseen")
    table = tag("table", caption, tag("thead", tag("tr", *head)), tag("tbody", *rows), class_="scores by-direction")
    return _scrolling(table, f"{measure.measure} by direction")


def _direction(direction: str) -> Markup:
    names = names_of(direction)
    return join(tag("bdi", direction or "all"), *([tag("small", names)] if names else []))


def _score_cell(one: WrittenScore | None, best: bool, places: int) -> Markup:
    if one is None:
        return tag("td", "not measured", class_="none")
    pieces = [tag("b", exact(one.score, places), " ★") if best else exact(one.score, places)]
    if one.low is not None or one.high is not None:
        pieces.append(tag("small", interval(one.low, one.high, places), class_="interval"))
    if one.comparison is not None:
        pieces += difference_cell(one.comparison, one.aim, places)
    if one.missing:
        pieces.append(tag("small", f"{one.missing:,} without output", class_="missing"))
    return tag("td", *pieces)


def _mean_cell(mean: Average, measure: MeasureScores, system: str, places: int) -> Markup:
    if system not in mean.means:
        return tag("td", "not measured", class_="none")
    value = mean.means[system]
    best = best_value(mean.means.values(), measure.aim)
    shown = exact(value, places)
    pieces = [tag("b", shown, " ★") if value == best and len(set(mean.means.values())) > 1 else shown]
    if system != measure.baseline and measure.baseline in mean.means:
        for told in (
            written(value - mean.means[measure.baseline], places, sign=True),
            ", ".join(f"{told} in {number}" for told, number in mean.verdicts[system].items()),
        ):
            pieces.append(tag("small", told, class_="difference"))
    return tag("td", *pieces)


def _means(means: Sequence[Average], measure: MeasureScores, places: int) -> list[Markup]:
    systems = measure.systems()
    rows = []
    grouped = [mean.directions for mean in means if mean.group != ALL]
    for mean in means:
        if mean.group == ALL and mean.directions in grouped:
            continue  # what is alike is of one group, which says more
        group = {ALL: "all directions"}.get(mean.group, mean.group)
        about = [mean.condition, _by_language(mean)]
        shown = [tag("small", part) for part in about if part]
        number = tag("td", f"{len(mean.directions):,}", class_="number")
        rows.append(_row(join(group, *shown), [number, *(_mean_cell(mean, measure, name, places) for name in systems)]))
    head = [tag("th", "mean of", scope="col"), tag("th", "directions", scope="col", class_="number")]
    head += [_system_heading(name) for name in systems]
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *rows), class_="scores")
    pieces = [_scrolling(table, f"{measure.measure}, means over directions")]
    left_out = list(dict.fromkeys(name for mean in means if mean.group == ALL for name in mean.left_out))
    if left_out:
        told = f"In no mean, for a system without a score or with other settings: {plain_list(left_out, 12)}"
        pieces.append(tag("p", told, class_="note"))
    return pieces


def _by_language(mean: Average) -> str:
    """In what settings of the directions of a mean differ."""
    if len(mean.settings) > _MOST_SETTINGS:
        return f"{len(mean.settings)} settings by language"
    return f"by language {' or '.join(mean.settings)}" if mean.settings else ""


def _settings(measure: MeasureScores) -> Markup:
    directions: dict[str, list[str]] = {}
    for one in measure.scores:
        there = directions.setdefault(one.signature, [])
        if one.direction not in there:
            there.append(one.direction)
    rows = [
        row_of(tag("code", signature), plain_list(sorted(names), 12) if names != [""] else "all")
        for signature, names in directions.items()
    ]
    pieces = [table_of(("signature", "directions"), rows, long=(0,))]
    told = dict.fromkeys((one.system, *text) for one in measure.scores for text in texts_of(one.details).items())
    if told:
        shown = [
            row_of(system, key.replace("_", " "), tag("code", value)) for system, key, value in list(told)[:_MOST_TOLD]
        ]
        pieces.append(table_of(("system", "", ""), shown, long=(2,)))
    if len(told) > _MOST_TOLD:
        pieces.append(tag("p", f"The first {_MOST_TOLD} of {len(told):,}; evaluation.json has all.", class_="note"))
    return tag("details", tag("summary", "Settings"), *pieces)


def _system_heading(name: str) -> Markup:
    return tag("th", tag("bdi", name), scope="col", class_="system")


def _row(heading: str, cells: Sequence[Markup]) -> Markup:
    return tag("tr", tag("th", heading, scope="row"), *cells)


def _scrolling(inside: Markup, label: str) -> Markup:
    """A box that scrolls, with a name for those who come to it by keyboard and hear it."""
    return tag("div", inside, class_="scroll", tabindex=0, role="group", aria_label=label)


# Pictures


def _pictures(measure: MeasureScores, series: dict[str, int], places: int) -> list[Markup]:
    condition = measure.conditions()[0]
    rows = []
    for (direction, other), some in measure.by_place().items():
        if other == condition:
            dots = [
                Dot(series[one.system], one.score, one.low, one.high) for one in some.values() if one.score is not None
            ]
            told = [f"{one.system} {written(one.score, places)}" for one in some.values()]
            title = f"{direction} {names_of(direction)}: {', '.join(told)}"
            rows.append(DotRow(direction or "all", title, tuple(sorted(dots, key=lambda dot: dot.series))))
    rows = [row for row in rows if row.dots]
    if not rows:
        return []
    shown = f"{measure.measure}, {condition}" if condition else measure.measure
    title = f"{shown} by direction, with intervals of 95 %"
    baseline = series.get(measure.baseline, 0)
    if len(rows) > _MOST_ROWS:
        rows.sort(key=lambda row: -next((dot.value for dot in row.dots if dot.series == baseline), float("-inf")))
        chart = dots_by_column(rows, title=title, y_label=shown)
        note = f"Directions are in order of the scores of {measure.baseline}; point at one to read them."
        chart = join(_scrolling(chart, title), tag("p", note, class_="note"))
        return [tag("figure", chart, _legend(series), class_="whole")]
    chart = dots_by_row(rows, title=title, x_label=shown)
    return [tag("figure", chart, _legend(series))]


def _legend(series: dict[str, int]) -> Markup:
    return legend(series) if len(series) > 1 else Markup("")


def _condition_curves(measure: MeasureScores, series: dict[str, int]) -> list[Markup]:
    """Scores over a condition that is a number, such as `noise:10`: of each direction, and their means."""
    found: dict[tuple[str, str], dict[str, dict[float, WrittenScore]]] = {}
    for one in measure.scores:
        name, number = _numbered(one.condition)
        if name:
            found.setdefault((name, one.direction), {}).setdefault(one.system, {})[number] = one
    figures, more = [], 0
    means: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for mean in averages(measure):
        name, number = _numbered(mean.condition)
        if name and mean.group == ALL:
            for system, value in mean.means.items():
                means.setdefault(name, {}).setdefault(system, []).append((number, value))
    for name, systems in means.items():
        lines = []
        for system, points in systems.items():
            x, y = zip(*sorted(points), strict=True)
            lines.append(Line(series[system], x, y, system))
        title = f"{measure.measure} over {name}, mean over directions"
        figures.append(_figure(title, lines, name, measure.measure, series))
    if any("curves" in one.details for one in measure.scores):
        found = {}  # they come with the details
    for (name, direction), by_system in found.items():
        if len(figures) >= _MOST_CURVES:
            more += 1
            continue
        lines = []
        for system, by_number in by_system.items():
            some = [by_number[x] for x in sorted(by_number)]
            values, low, high = (tuple(getattr(one, key) for one in some) for key in ("score", "low", "high"))
            lines.append(Line(series[system], tuple(sorted(by_number)), values, system, low, high))
        title = f"{measure.measure} over {name}, {direction}"
        figures.append(_figure(title, lines, name, measure.measure, series))
    figures = [one for one in figures if one]
    pieces = [tag("div", *figures, class_="figures")] if figures else []
    if more:
        pieces.append(tag("p", f"{more} more directions are in the table only.", class_="note"))
    return pieces


def _figure(title: str, lines: Sequence[Line], x_label: str, y_label: str, series: dict[str, int]) -> Markup:
    chart = line_chart(lines, title=title, x_label=x_label, y_label=y_label)
    if chart is None:
        return Markup("")
    return tag("figure", tag("figcaption", title), chart, _legend(series))


def _numbered(condition: str) -> tuple[str, float]:
    found = re.fullmatch(r"(.+?)[:= ](-?\d+(?:\.\d+)?)(?: ?dB)?", condition)
    return (found[1], float(found[2])) if found else ("", 0.0)
