"""The sections of a report that go direction by direction: its margins, estimated precision, and the truth."""

from collections.abc import Sequence
from typing import Any

from seamlessalign.charts import Bar, Reliability, curve_over_cut, histogram, horizontal_bars, reliability_diagram
from seamlessalign.html_page import row_of, table_of
from seamlessalign.markup import Markup, tag
from seamlessalign.pipelines.report_counts import FineCounts
from seamlessalign.pipelines.report_numbers import DirectionNumbers
from seamlessalign.pipelines.report_parts import figure, hours, tidy
from seamlessalign.rows import SAMPLE_RATE

_CROWDED = 12  # how many times taller the tallest bar may be than the tallest kept part before a second chart is drawn
_CUTS = (0.5, 0.8, 0.9, 0.95)  # estimated precisions at which it is said what would be left
_MOST_CARDS = 24  # directions that have charts, those with most kept pairs; the table has all
_POINT = ("pairs", "low", "high", "mean_estimate", "precision", "precision_low", "precision_high")


def evaluation_section(evaluation: dict[str, Any] | None, directions: Sequence[DirectionNumbers] = ()) -> list[Markup]:
    """Scores of every direction against the known truth, and how reliable its estimated precision is.

    directions: as they are now, which may have been chosen again since.
    """
    if evaluation is None:
        return []
    head = (
        "direction", "speech", "spans", "kept", "estimated", "precision", "recall", "F1", "threshold", "best F1",
        "truth",
    )  # fmt: skip
    rows = []
    for line in evaluation["directions"]:
        f1 = figure(line.get("f1"), "{:.3f}")
        if line.get("f1_low") is not None and line.get("f1_high") is not None:
            f1 += f" ({figure(line['f1_low'], '{:.3f}')}–{figure(line['f1_high'], '{:.3f}')})"
        best = figure(line.get("best_f1"), "{:.3f}")
        if line.get("best_threshold") is not None:
            best += f" at {figure(line['best_threshold'], '{:.4g}')}"
        rows.append(
            row_of(
                str(line.get("direction", "–")),
                figure(line.get("speech_hours"), "{:.2f} h"),
                figure(line.get("spans"), "{:,}"),
                figure(line.get("kept"), "{:,}"),
                figure(line.get("expected_precision"), "{:.3f}"),
                figure(line.get("precision"), "{:.3f}"),
                figure(line.get("recall"), "{:.3f}"),
                f1,
                figure(line.get("threshold"), "{:.4g}"),
                best,
                figure(line.get("truth"), "{:,}"),
            )
        )
    pieces = [table_of(head, rows, numeric=range(1, 11))]
    if evaluation.get("note"):
        pieces.insert(0, tag("p", str(evaluation["note"]), class_="about"))
    now = {item.direction: item.kept for item in directions}
    if any(now.get(line.get("direction"), line.get("kept")) != line.get("kept") for line in evaluation["directions"]):
        told = "Measured before pairs were chosen again: these figures are of the pairs that the run kept then."
        pieces.insert(0, tag("p", told, class_="warning"))
    diagrams = [found for line in evaluation["directions"] if (found := _reliability(line)) is not None]
    if diagrams:
        pieces.append(tag("h3", "Does the estimated precision hold?"))
        if evaluation.get("estimate_rule"):
            pieces.append(tag("p", str(evaluation["estimate_rule"]), class_="about"))
        how = (
            "On the dashed line the estimate holds; above it more is right than estimated, below it less. Bars are "
            "95 % intervals, and larger points stand for more pairs. The tables say what the run had kept if it had "
            "been cut at so much estimated precision."
        )
        pieces += [tag("p", how, class_="note"), tag("div", *diagrams, class_="figures")]
    return pieces


def directions_section(directions: Sequence[DirectionNumbers]) -> list[Markup]:
    """Hours of all directions, and a card for each: how much was kept, by what rule, and how sure that is."""
    if not directions:
        return []
    legend = tag("p", tag("span", "kept"), tag("span", "rejected", class_="rest"), class_="legend")
    margin = (
        "The margin of a pair tells how much nearer its sides are to each other than to the rest of their "
        "neighbourhoods."
    )
    pieces = [_bars(directions), legend, _table(directions), tag("p", margin, class_="note")]
    if any(item.precision.estimated for item in directions):
        note = (
            "Curves and tables of estimated precision count the pairs that are kept and, in grey, those that only the "
            "present cut rejects. Filters have not looked at the grey ones, nor are their overlaps in time resolved, "
            "so that a lower cut would keep fewer; a higher cut may keep a few more."
        )
        pieces.append(tag("p", note, class_="note"))
    first = sorted(directions, key=lambda item: (-item.kept, item.direction))[:_MOST_CARDS]
    cards = [_direction(item) for item in directions if item in first]
    pieces.append(tag("div", *cards, class_="figures one-on-paper"))
    if len(cards) < len(directions):
        told = f"Charts are drawn of the {len(cards)} directions with most kept pairs; the table above has all."
        pieces.append(tag("p", told, class_="note"))
    return pieces


def _bars(directions: Sequence[DirectionNumbers]) -> Markup:
    """Hours of the first side that is audio, kept and rejected."""
    bars = []
    for item in sorted(directions, key=lambda item: (-item.samples_kept, item.direction))[:_MOST_CARDS]:
        spoken = next((side for side in item.sides.values() if side.is_audio), None)
        rejected = spoken.rejected_samples if spoken else 0
        title = f"{item.direction}: {hours(item.samples_kept)} in kept pairs, {hours(rejected)} in rejected ones"
        kept, rest = item.samples_kept / SAMPLE_RATE / 3600, rejected / SAMPLE_RATE / 3600
        bars.append(Bar(item.direction, kept, rest, f"{hours(item.samples_kept)} kept", title))
    title = "Hours of pairs by direction, kept and rejected"
    return horizontal_bars(bars, title=title, x_label="hours of speech", label_width=78, text_width=92)


def _table(directions: Sequence[DirectionNumbers]) -> Markup:
    rows = []
    for item in directions:
        counts = item.precision
        sure = f"{counts.expected_right / counts.num_kept:.2f}" if counts.num_kept else "–"
        spoken = [hours(side.kept_samples) if side.is_audio else "text" for side in item.sides.values()]
        share = f"{item.kept / item.rows:.1%}" if item.rows else "–"
        rows.append(row_of(tag("bdi", item.direction), f"{item.rows:,}", f"{item.kept:,}", share, *spoken, sure))
    head = ("direction", "candidates", "kept", "share", "source", "target", "estimated precision")
    return table_of(head, rows, numeric=range(1, 7))


def _reliability(line: dict[str, Any]) -> Markup | None:
    """Diagram and table of one direction; None where no precision was estimated."""
    points = [
        Reliability(
            point["low"], point["high"], point["pairs"], point["mean_estimate"], point["precision"],
            point["precision_low"], point["precision_high"],
        )
        for point in line.get("reliability") or []
        if all(isinstance(point.get(name), int | float) for name in _POINT) and point["pairs"] > 0
    ]  # fmt: skip
    if not points:
        return None
    direction = str(line.get("direction", "–"))
    whole = sum(point.pairs for point in points)
    mean = sum(point.estimate * point.pairs for point in points) / whole
    right = sum(point.right * point.pairs for point in points) / whole
    facts = [
        tag("b", f"{whole:,}"), " candidates · estimated to be right ", tag("b", f"{mean:.2f}"), " · right ",
        tag("b", f"{right:.2f}"),
    ]  # fmt: skip
    title = (
        f"Reliability of the estimated precision of {direction}: of {whole:,} candidates a share of {mean:.2f} is "
        f"estimated to be right, {right:.2f} is"
    )
    pieces = [
        tag("h3", tag("bdi", direction)),
        tag("p", *facts, class_="facts"),
        reliability_diagram(points, title=title, x_label="estimated precision", y_label="share that is right"),
    ]
    cuts = [cut for cut in line.get("at_precision") or [] if isinstance(cut, dict)]
    if cuts:
        head = ("cut at", "kept", "estimated", "precision", "recall", "F1")
        rows = [
            row_of(
                figure(cut.get("min_precision"), "{:g}"),
                figure(cut.get("kept"), "{:,}"),
                figure(cut.get("expected_precision"), "{:.3f}"),
                _with_interval(cut),
                figure(cut.get("recall"), "{:.3f}"),
                figure(cut.get("f1"), "{:.3f}"),
            )
            for cut in _until_empty(cuts)
        ]
        pieces.append(table_of(head, rows, numeric=range(6)))
    return tag("figure", *pieces)


def _until_empty(cuts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cuts, from the lowest, up to the first that keeps nothing."""
    empty = [place for place, cut in enumerate(cuts) if not cut.get("kept")]
    return cuts[: empty[0] + 1] if empty else cuts


def _with_interval(cut: dict[str, Any]) -> str:
    shown = figure(cut.get("precision"), "{:.3f}")
    if cut.get("precision_low") is None or cut.get("precision_high") is None:
        return shown
    return f"{shown} ({figure(cut['precision_low'], '{:.2f}')}–{figure(cut['precision_high'], '{:.2f}')})"


def _direction(item: DirectionNumbers) -> Markup:
    facts = [tag("b", f"{item.kept:,}", data_number=f"kept {item.direction}"), f" of {item.rows:,} pairs kept · "]
    facts += [tag("b", hours(item.samples_kept), data_number=f"hours {item.direction}")]
    if item.rule.by_precision:
        facts.append(f" · {tidy(item.rule.origin)}")
    elif item.rule.threshold is not None:
        facts.append(f" · threshold {item.rule.threshold:.4g}")
        facts.append(f" ({tidy(item.rule.origin)})" if item.rule.origin else "")
    if item.corpus_rows is None and item.kept:
        facts.append(" · corpus not written")
    elif item.corpus_rows is not None and item.corpus_rows != item.kept:
        facts.append(f" · {item.corpus_rows:,} written with audio")
    charts = tag("div", *_margins(item), *_scores(item), *_precision(item), class_="charts")
    return tag("figure", tag("h3", tag("bdi", item.direction)), tag("p", *facts, class_="facts"), charts)


def _margins(item: DirectionNumbers) -> list[Markup]:
    charts = []
    bins = item.margins.bins()
    label = f"Margins of {item.direction}, kept and rejected"
    if bins:
        charts.append(histogram(bins, threshold=item.rule.threshold, title=label, x_label="margin", y_label="pairs"))
    above = item.margins.bins(from_origin=True) if item.kept or item.rule.threshold is not None else []
    tallest_kept = max((bar.kept for bar in bins), default=0)
    if above and tallest_kept and max(bar.kept + bar.rejected for bar in bins) > _CROWDED * tallest_kept:
        where = "from the threshold up" if item.rule.threshold is not None else "from the lowest kept up"
        charts.append(
            histogram(
                above, threshold=None, title=f"{label}, {where}", x_label="margin", y_label=f"pairs, {where}",
            )
        )  # fmt: skip
    if item.margins.not_finite:
        charts.append(tag("p", f"{item.margins.not_finite:,} pairs have no finite margin.", class_="note"))
    return charts


def _scores(item: DirectionNumbers) -> list[Markup]:
    """Histograms of the cosine and of the estimated precision, where there is one."""
    scores: list[tuple[str, FineCounts]] = [("cosine", item.cosines), ("estimated precision", item.estimates)]
    return [
        histogram(
            bins, threshold=item.rule.min_precision if name != "cosine" else None, x_label=name, y_label="pairs",
            title=f"{name.capitalize()} of {item.direction}, kept and rejected",
        )
        for name, counts in scores
        if (bins := counts.bins())
    ]  # fmt: skip


def _precision(item: DirectionNumbers) -> list[Markup]:
    """What the estimated precision says about the pairs that are kept, and would be at another cut."""
    counts = item.precision
    if not item.rows:
        return []
    if not counts.estimated:
        return [tag("p", "No precision is estimated: there were no decoys.", class_="note")]
    said: list[str] = []
    if counts.num_kept:
        wrong = counts.num_kept - counts.expected_right
        said += [
            "Estimated precision of what is kept: ",
            tag("b", f"{counts.expected_right / counts.num_kept:.2f}", data_number=f"expected {item.direction}"),
            f". About {wrong:,.0f} of the kept pairs are expected to be wrong. ",
        ]
    if item.rule.decoys is not None:
        said.append(f"The estimate comes from decoys ({item.rule.decoys}).")
    pieces = [tag("p", *said, class_="facts")]
    if not (counts.kept[0].any() or counts.cut[0].any()):
        return pieces
    minimum = item.rule.min_precision
    cut = minimum if minimum is not None else counts.lowest_kept
    pieces.append(
        curve_over_cut(
            counts.steps(), cut=cut, cut_label=f"{'cut at' if minimum is not None else 'lowest kept'} {cut or 0:.2f}",
            title=f"Pairs of {item.direction} with at least so much estimated precision",
            x_label="estimated precision, at least", y_label="pairs",
        )
    )  # fmt: skip
    rows = []
    for at in _CUTS:
        left, samples, right = counts.at_least(at)
        rows.append(row_of(f"{at:g}", f"{left:,}", hours(samples), f"{left - right:,.0f}"))
        if not left:
            break
    if len(rows) == 1:
        return [*pieces, tag("p", f"No pair has an estimate of {_CUTS[0]:g} or more.", class_="note")]
    return [*pieces, table_of(("at least", "pairs", "audio", "expected wrong"), rows, numeric=range(4))]
