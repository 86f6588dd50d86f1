"""Pictures of an opened run, counted in SQL so that they come at once however many pairs there are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from seamlessalign.charts import Bar, curve_over_cut, histogram, horizontal_bars
from seamlessalign.errors import InputError
from seamlessalign.markup import Markup
from seamlessalign.pictures import Picture
from seamlessalign.pipelines.report_counts import ONLY_THE_CUT, FineCounts, PrecisionCounts
from seamlessalign.pipelines.report_numbers import CutRule, covered_samples
from seamlessalign.pipelines.report_parts import hours
from seamlessalign.pipelines.run_tables import RunTables
from seamlessalign.rows import SAMPLE_RATE

_HOUR = SAMPLE_RATE * 3600


def funnel_picture(tables: RunTables) -> Picture:
    """Hours that remain after each step, as the report has them."""
    steps: list[tuple[str, int]] = []
    if "recordings" in tables.names:
        query = (
            "select coalesce(sum(num_samples), 0), coalesce(sum(speech_samples), 0), "
            "coalesce(sum(speech_samples) filter (drop_reason is null), 0) from recordings"
        )
        decoded, speech, wanted = (int(column[0].as_py()) for column in tables.ask(query).columns)
        steps = [("decoded", decoded), ("speech", speech), ("languages asked for", wanted)]
    if "pairs" in tables.names:
        steps.append(("in kept pairs", _kept_audio(tables)))
    bars = [Bar(name, samples / _HOUR, 0.0, hours(samples), name) for name, samples in steps]
    name = "hours of audio that remain after each step"
    return Picture([horizontal_bars(bars, title=name.capitalize(), x_label="hours")], name)


def directions_picture(tables: RunTables) -> Picture:
    """Hours of the kept and rejected pairs of every direction: of their first side that is speech."""
    length = "coalesce(src_end - src_start, tgt_end - tgt_start, 0)"
    query = (
        f"select direction, coalesce(sum({length}) filter (kept), 0) as kept, "
        f"coalesce(sum({length}) filter (not kept), 0) as rejected from pairs group by 1 order by kept desc, direction"
    )
    bars = [
        Bar(
            row["direction"], int(row["kept"]) / _HOUR, int(row["rejected"]) / _HOUR, f"{hours(int(row['kept']))} kept",
            f"{row['direction']}: {hours(int(row['kept']))} kept, {hours(int(row['rejected']))} rejected",
        )
        for row in tables.ask(query).to_pylist()
    ]  # fmt: skip
    name = "hours of pairs by direction, kept and rejected"
    chart = horizontal_bars(bars, title=name.capitalize(), x_label="hours of speech", label_width=78, text_width=92)
    return Picture([chart], name)


def score_picture(tables: RunTables, direction: str, column: str, threshold: float | None) -> Picture:
    """The kept and rejected pairs of a direction by a score: `margin`, `cosine` or `precision_estimate`.

    Raises InputError where none has it, as no cosine is published with metadata that a corpus was rebuilt from.
    """
    counts = _counted(tables, "pairs", column, 0.001, direction=direction, origin=threshold or 0.0)
    if not counts.kept and not counts.rejected:
        raise InputError(f"{tables.root}: no pair of {direction} has a {column.replace('_', ' ')}")
    x_label = column.replace("_", " ")
    name = f"{x_label} of {direction}, kept and rejected"
    chart = _histogram(counts, name, x_label, "pairs", threshold)
    return Picture([chart], name)


def precision_picture(counts: PrecisionCounts, direction: str, rule: CutRule) -> Picture | None:
    """Pairs that are left as a cut of the estimated precision rises; None where nothing was estimated."""
    if not counts.estimated:
        return None
    cut = rule.min_precision if rule.min_precision is not None else counts.lowest_kept
    told = "cut at" if rule.min_precision is not None else "lowest kept"
    name = f"pairs of {direction} with at least so much estimated precision"
    chart = curve_over_cut(
        counts.steps(), cut=cut, cut_label=f"{told} {cut or 0:.2f}", title=name.capitalize(),
        x_label="estimated precision, at least", y_label="pairs",
    )  # fmt: skip
    return Picture([chart], name)


def lengths_picture(tables: RunTables, direction: str | None) -> Picture:
    """Lengths of recordings, of spans, and of the speech of pairs, of a direction or of all."""
    asked: list[tuple[str, FineCounts, str, str]] = []
    if direction is None and "recordings" in tables.names:
        counts = _counted(tables, "recordings", f"num_samples / {SAMPLE_RATE * 60}.0", 0.01, kept="drop_reason is null")
        asked.append(("Recordings", counts, "minutes", "recordings"))
    if direction is None and "segments" in tables.names:
        counts = _counted(tables, "segments", f'("end" - start) / {SAMPLE_RATE}.0', 0.01, kept="true")
        asked.append(("Candidate spans", counts, "seconds", "spans"))
    if "pairs" in tables.names:
        for side, heading in (("src", "Source speech of pairs"), ("tgt", "Target speech of pairs")):
            length = f"({side}_end - {side}_start) / {SAMPLE_RATE}.0"
            asked.append((heading, _counted(tables, "pairs", length, 0.01, direction=direction), "seconds", "pairs"))
    shown = [one for one in asked if one[1].kept or one[1].rejected]
    charts = [_histogram(counts, f"{name} by length", x, y, None) for name, counts, x, y in shown]
    whose = f"the pairs of {direction}" if direction else "recordings, spans and pairs"
    return Picture(charts, f"lengths of {whose}", [name for name, *_ in shown])


def precision_counts(tables: RunTables, direction: str) -> PrecisionCounts:
    """Pairs of a direction by estimated precision: kept ones, and those that only the cut rejects."""
    only_cut = ", ".join(f"'{reason}'" for reason in sorted(ONLY_THE_CUT))
    query = (
        "select precision_estimate::float as estimate, coalesce(src_end - src_start, tgt_end - tgt_start, 0)::bigint "
        f"as samples, kept, not kept and coalesce(drop_reason in ({only_cut}), false) as cut from pairs "
        "where direction = ?"
    )
    counts = PrecisionCounts()
    for batch in tables.ask(query, [direction]).to_batches():
        columns: list[Any] = [batch[name].to_numpy(zero_copy_only=False) for name in batch.schema.names]
        counts.add(columns[0].astype(np.float32), *columns[1:])
    return counts


def _kept_audio(tables: RunTables) -> int:
    """Samples of distinct audio in kept pairs."""
    sides = " union all ".join(
        f'select {side}_uri as uri, {side}_start as start, {side}_end as "end" from pairs where kept and {side}_uri is '
        "not null"
        for side in ("src", "tgt")
    )
    found = tables.ask(f'select hash(uri) as place, start, "end" from ({sides})')
    hashes, starts, ends = (column.to_numpy() for column in found.columns)
    places = np.unique(hashes, return_inverse=True)[1]
    return covered_samples(places.astype(np.int64), starts.astype(np.int64), ends.astype(np.int64))


def _counted(
    tables: RunTables, table: str, value: str, fine: float, *, direction: str | None = None, kept: str = "kept",
    origin: float = 0.0,
) -> FineCounts:  # fmt: skip
    """Rows of a table by a value in SQL, in bins of width `fine` from `origin`."""
    where, parameters = ("where direction = ?", [direction]) if direction is not None else ("", [])
    inside = f"least(greatest(({value})::double, -1e6), 1e6)"
    query = (
        f"select floor(({inside} - {origin!r}::double) / {fine!r}::double)::bigint as place, "
        f"count(*) filter ({kept}) as kept, count(*) filter (not ({kept})) as rejected "
        f"from {table} {where} {'and' if where else 'where'} isfinite(({value})::double) group by 1"
    )
    counts = FineCounts(origin, fine)
    for place, good, bad in _rows(tables.ask(query, list(parameters) or None)):
        if good:
            counts.kept[place] = good
        if bad:
            counts.rejected[place] = bad
    return counts


def _rows(table: pa.Table) -> Sequence[tuple[Any, ...]]:
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _histogram(counts: FineCounts, name: str, x_label: str, y_label: str, threshold: float | None) -> Markup:
    return histogram(counts.bins(), threshold=threshold, title=name.capitalize(), x_label=x_label, y_label=y_label)
