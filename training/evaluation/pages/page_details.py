"""What measures tell besides scores, on the page: curves, reliability, tables and counts (see `details.py`)."""

import math
from collections.abc import Iterator, Sequence

from seamlessalign.charts import Reliability, reliability_diagram
from seamlessalign.errors import InputError
from seamlessalign.html_page import Row, row_of, table_of
from seamlessalign.markup import Markup, tag
from seamlessalign.series_charts import Line, legend, line_chart
from seamlessalign.training.evaluation.details import Bin, Cell, Curve, bins_of, counts_of, curves_of, tables_of
from seamlessalign.training.evaluation.pages.averages import MeasureScores
from seamlessalign.training.evaluation.pages.page_parts import label_of
from seamlessalign.training.evaluation.written import WrittenScore

_MOST_PICTURES = 24
_MOST_ROWS = 300
_DASHES = ("solid", "dashed", "dotted", "dash-dotted")


def details_of(measure: MeasureScores, numbers: Sequence[int]) -> list[Markup]:
    """The pictures and tables of a measure. numbers: of its systems among all.

    Raises InputError for details that are not in their form.
    """
    series = dict(zip(measure.systems(), numbers, strict=True))
    try:
        pictures = [*_curves(measure, series), *_reliability(measure)]
        tables = [*_tables(measure), *_counts(measure)]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"evaluation.json: details of {measure.measure} are not in their form: {error}") from error
    pieces = [tag("div", *pictures[:_MOST_PICTURES], class_="figures")] if pictures else []
    if len(pictures) > _MOST_PICTURES:
        told = (
            f"The first {_MOST_PICTURES} of {len(pictures)} pictures are shown; evaluation.json has the numbers of all."
        )
        pieces.append(tag("p", told, class_="note"))
    return [*pieces, *tables]


def _curves(measure: MeasureScores, series: dict[str, int]) -> Iterator[Markup]:
    pictures: dict[tuple[str, ...], list[tuple[str, Curve]]] = {}
    for one in measure.scores:
        for curve in curves_of(one.details):
            title = curve.title or f"{curve.y_label} over {curve.x_label}"
            key = title, curve.x_label, curve.y_label, label_of(one.direction, one.condition)
            pictures.setdefault(key, []).append((one.system, curve))
    for (title, x_label, y_label, place), curves in pictures.items():
        names = list(dict.fromkeys(curve.name for _, curve in curves))
        systems = list(dict.fromkeys(system for system, _ in curves))
        by_name = len(systems) == 1 and len(names) > 1  # colours are for what there are several of
        shown = (
            {name: number for number, name in enumerate(names)} if by_name else {name: series[name] for name in systems}
        )
        lines = [
            Line(
                shown[curve.name if by_name else system],
                tuple(curve.x),
                _gaps(curve.y) or (),
                f"{system} {curve.name}".strip(),
                _gaps(curve.low),
                _gaps(curve.high),
                curve.chosen,
                0 if by_name else names.index(curve.name),
            )
            for system, curve in curves
        ]
        heading = title if place == "all" or place in title else f"{title}, {place}"
        chart = line_chart(lines, title=heading, x_label=x_label, y_label=y_label)
        if chart is None:
            continue
        pieces = [tag("figcaption", heading), chart, legend(shown)]
        if not by_name and len(names) > 1:
            told = [f"{_DASHES[number % len(_DASHES)]}: {name}" for number, name in enumerate(names)]
            pieces.append(tag("p", "; ".join(told), class_="note"))
        marked = {(curve.name if by_name else system, curve.chosen) for system, curve in curves}
        chosen = sorted(f"{name} {value:.4g}".strip() for name, value in marked if value is not None)
        if chosen:
            pieces.append(tag("p", f"Chosen {x_label} (upright lines): {'; '.join(chosen)}", class_="note"))
        yield tag("figure", *pieces)


def _gaps(values: Sequence[float] | object) -> tuple[float | None, ...]:
    if values is None:
        return ()
    assert isinstance(values, list)
    return tuple(value if math.isfinite(value) else None for value in values)


def _reliability(measure: MeasureScores) -> Iterator[Markup]:
    for one in measure.scores:
        bins = bins_of(one.details)
        if bins:
            place = label_of(one.direction, one.condition)
            title = f"Reliability of {one.system}" + ("" if place == "all" else f", {place}")
            points = [_point(bin) for bin in bins]
            chart = reliability_diagram(
                points, title=title, x_label="estimated probability", y_label="share that is right", unit="rows"
            )
            note = tag("p", "Larger points stand for more rows; bars are intervals of 95 %.", class_="note")
            yield tag("figure", tag("figcaption", title), chart, note)


def _point(bin: Bin) -> Reliability:
    """With Wilson's interval of 95 % (Wilson 1927)."""
    z, n, p = 1.959964, bin.count, bin.right
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Reliability(bin.low, bin.high, n, bin.estimate, p, max(middle - half, 0.0), min(middle + half, 1.0))


def _tables(measure: MeasureScores) -> Iterator[Markup]:
    found: dict[tuple[str, tuple[str, ...]], list[tuple[WrittenScore, Sequence[Cell]]]] = {}
    for one in measure.scores:
        for table in tables_of(one.details):
            rows = found.setdefault((table.title, tuple(table.columns)), [])
            rows += [(one, row) for row in table.rows]
    for (title, columns), rows in found.items():
        yield _table(title, columns, rows)


def _counts(measure: MeasureScores) -> Iterator[Markup]:
    found = [(one, counts_of(one.details)) for one in measure.scores]
    columns = list(dict.fromkeys(key for _, counts in found for key in counts))
    if columns:
        rows = [(one, [counts.get(key) for key in columns]) for one, counts in found if counts]
        yield _table("Counts", columns, rows)


def _table(title: str, columns: Sequence[str], rows: Sequence[tuple[WrittenScore, Sequence[Cell]]]) -> Markup:
    about = {
        "direction": [one.direction for one, _ in rows],
        "condition": [one.condition for one, _ in rows],
        "system": [one.system for one, _ in rows],
    }
    kept = [name for name, values in about.items() if any(values)]
    head = [*kept, *(name.replace("_", " ") for name in columns)]
    numeric = [
        len(kept) + place
        for place in range(len(columns))
        if all(row[place] is None or isinstance(row[place], int | float) for _, row in rows)
    ]
    lines: list[Row] = []
    for number, (_, row) in enumerate(rows[:_MOST_ROWS]):
        lines.append(row_of(*(about[name][number] for name in kept), *(_cell(value) for value in row)))
    pieces = [tag("summary", title), table_of(head, lines, numeric=numeric)]
    if len(rows) > _MOST_ROWS:
        told = f"The first {_MOST_ROWS} of {len(rows):,} rows; evaluation.json has all."
        pieces.append(tag("p", told, class_="note"))
    return tag("details", *pieces)


def _cell(value: Cell) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.4f}".rstrip("0").rstrip(".").replace("-", "−") if abs(value) < 1e6 else f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
