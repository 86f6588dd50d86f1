"""The pairs of one direction as a curator looks at them: counts at any threshold, columns, and rows in any order.

Nothing is read twice for the same filters: `curve` is kept for the last of them. Rows are found in two steps, first
where they lie, of which only the columns that decide are read, and then the rows themselves.
"""

import json
import math
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from seamlessalign.errors import InputError
from seamlessalign.pipelines.curation.labels import RANDOM, Drawn, How, Labelled
from seamlessalign.pipelines.curation.margin_curve import KEPT, SUMS, Grid, Kept, MarginCurve
from seamlessalign.pipelines.curation.row_places import UNPACKED_KEYS, UnpackedPairs, read_rows
from seamlessalign.pipelines.curation.unpacked import part_paths
from seamlessalign.pipelines.pair_columns import KEYS, LABELS, UNPACKED, PairColumn, PairColumns
from seamlessalign.pipelines.report_counts import ONLY_THE_CUT
from seamlessalign.pipelines.report_numbers import lowest_kept_margin, rule_of
from seamlessalign.pipelines.run_tables import RunTables
from seamlessalign.pipelines.selection import Clause, Cut, Filter
from seamlessalign.rows import PAIRS

Which = Literal["chosen", "not chosen", "all"]

_CURVES = 16  # that are kept
_BAND = 200  # pairs on each side of the threshold that a sample at it is drawn among, at least
_BAND_SHARE = 0.01  # of the pairs above it, if that is more
_FEW = 1000  # labels whose pairs are looked for where their margins were
_MASK = 4294967295
_ALWAYS = ("kept", "drop_reason", "margin")  # columns that are asked for whatever is
_OUTCOME = f"if(kept, '{KEPT}', coalesce(drop_reason, 'no reason given'))"
_ELIGIBLE = f"(kept or drop_reason in ({', '.join(repr(reason) for reason in sorted(ONLY_THE_CUT))}))"


@dataclass(frozen=True)
class ColumnRange:
    """What a column has."""

    low: float | None  # of numbers; None where there are none
    high: float | None
    nulls: int


class DirectionView:
    """One direction of a run. Safe to be shared by threads; `label` is what `show_labels` was given last."""

    def __init__(self, tables: RunTables, direction: str) -> None:
        """Raises InputError for a direction without pairs, StorageError where a table is damaged."""
        self.tables, self.direction = tables, direction
        self._columns = PairColumns(tables, direction)
        self._lock, self._building = threading.Lock(), threading.Lock()
        self._curves: OrderedDict[str, MarginCurve] = OrderedDict()
        self._labels = pa.table({"pair_id": pa.array([], pa.string()), "label": pa.array([], pa.string())})
        self._said = 0  # how often labels have changed
        self._grid: Grid | None = None
        self._margins: dict[str, float | None] = {}  # of labelled pairs; None of those that no cut chooses
        self._margins_key: tuple[str, int] = ("", 0)
        self._unpacked: UnpackedPairs | None = None
        self._lying: dict[str, int | None] = {}  # the rows there of labelled pairs

    def use_unpacked(self, columns: pa.Table) -> None:
        """From now on read these columns in the place of Parquet files: `numbers`, and then `texts`, of `unpacked`."""
        if self._unpacked is not None:
            self._unpacked = self._unpacked.joined(columns)
        elif "drop_reason" in columns.column_names:
            self._unpacked = UnpackedPairs(part_paths(self.tables, self.direction), columns)

    # What there is

    def columns(self) -> list[PairColumn]:
        """Every column that can be shown, sorted and filtered by, with its kind; those of the table first."""
        return list(self._columns.columns.values())

    def range(self, name: str) -> ColumnRange:
        """Range of a column's values, NaN left out, over all pairs of the direction."""
        column = f'"{name}"'
        number = f"if(isnan({column}::double), null, {column}::double)"
        wanted = f"min({number}), max({number})" if self._columns[name].kind == "number" else "null, null"
        source, parameters = self._passing([], [name])
        found = self._ask(f"select {wanted}, count(*) - count({column}) from {source}", parameters)
        low, high, nulls = (column[0].as_py() for column in found.columns)
        return ColumnRange(low, high, nulls or 0)

    def values(self, name: str, filters: Sequence[Filter] = (), limit: int = 200) -> pa.Table:
        """Values of a column as text, most pairs first: `value` (may be null), `pairs`, `kept` by the run."""
        self._columns[name]
        source, parameters = self._passing(filters, [name])
        query = (
            f'select "{name}"::varchar as value, count(*) as pairs, count(*) filter (kept) as kept from {source} '
            f"group by 1 order by pairs desc, value limit {int(limit)}"
        )
        return self._ask(query, parameters)

    def histogram(self, name: str, filters: Sequence[Filter] = (), bins: int = 60) -> pa.Table:
        """Pairs by a column of numbers and what the run did with them: `low`, `high`, `outcome`, `pairs`.

        Raises InputError for a column without numbers.
        """
        if self._columns[name].kind != "number":
            raise InputError(f"{name} is no number: ask for its values")
        if name == "margin":
            return self.curve(filters).histogram(bins)
        known = self.range(name)
        low, high = known.low, known.high
        if low is None or high is None or not math.isfinite(high - low):
            low = high = 0.0
        width = (high - low) / bins or 1.0
        source, parameters = self._passing(filters, [name])
        begin, step = f"{low!r}::double", f"{width!r}::double"
        place = f'least(floor(("{name}"::double - {begin}) / {step})::int, {bins - 1})'
        query = (
            f"select {begin} + {step} * bin as low, {begin} + {step} * (bin + 1) as high, outcome, pairs from ("
            f'select {place} as bin, {_OUTCOME} as outcome, count(*) as pairs from {source} and isfinite("{name}"::'
            f"double) group by all) order by low, outcome"
        )
        return self._ask(query, parameters)

    # What is kept

    @property
    def own_threshold(self) -> float | None:
        """The margin that the run cut at; where precision decided, the lowest that it kept; None if it kept nothing."""
        uris = self.tables.parts["pairs"][self.direction]
        threshold = rule_of(uris).threshold
        return lowest_kept_margin(uris) if threshold is None else threshold

    def filters_and_threshold(self, cut: Cut) -> tuple[list[Filter], float | None]:
        """A cut as filters and a margin, which is what `curve`, draws and labels are asked by.

        A least precision of each pair is one filter more; the margin of the run's own cut is `own_threshold`. None: all
        that could be chosen, or, of the run's own cut, nothing.
        """
        if cut.is_own:
            return cut.filters, self.own_threshold
        if cut.min_precision is None:
            return cut.filters, cut.min_margin
        least = float(np.float32(cut.min_precision))  # as the column has it
        return [*cut.filters, Filter(column="precision_estimate", op="at_least", value=least)], cut.min_margin

    def curve(self, filters: Sequence[Filter] = ()) -> MarginCurve:
        """What is kept at any threshold among pairs that pass filters. Raises as `PairColumns.check` does."""
        key = self._curve_key(filters)
        if (known := self._known(key)) is not None:
            return known
        with self._building:  # two pages that ask for the same wait for one scan
            if (known := self._known(key)) is not None:
                return known
            made = self._scan(filters)
            with self._lock:
                self._curves[key] = made
                while len(self._curves) > _CURVES:
                    self._curves.popitem(last=False)
            return made

    def at(self, cut: Cut) -> Kept:
        """What a cut chooses."""
        if cut.min_precision is None:
            curve = self.curve(cut.filters)
            return curve.own if cut.min_margin is None else curve.at(cut.min_margin)
        source, parameters = self._of(cut, "chosen")
        return _kept(self._ask(f"select {SUMS} from {source}", parameters))

    def distinct_hours(self, cut: Cut) -> float:
        """Hours of audio in the pairs that a cut chooses, both sides, what lies in several counted once.

        This sorts the spans, which takes seconds where millions are chosen.
        """
        source, parameters = self._columns.chosen(cut)
        spans = " union all ".join(
            f"select {side}_uri as uri, {side}_start as first, {side}_end as last from chosen "
            f"where {side}_uri is not null"
            for side in ("src", "tgt")
        )
        query = (
            "with chosen as materialized (select src_uri, src_start, src_end, tgt_uri, tgt_start, tgt_end "
            f"from {source}), "
            f"spans as ({spans}), laid as (select first, last, max(last) over (partition by uri order by first, last "
            "rows between unbounded preceding and 1 preceding) as reached from spans) "
            "select coalesce(sum(greatest(last - greatest(first, coalesce(reached, first)), 0)), 0)::bigint from laid"
        )
        return int(self._ask(query, parameters)[0][0].as_py()) / 16_000 / 3600

    # Rows

    def rows(
        self,
        cut: Cut,
        which: Which = "chosen",
        by: str = "margin",
        descending: bool = True,
        limit: int = 25,
        offset: int = 0,
    ) -> pa.Table:
        """Rows that a cut chooses, or of those that pass its filters the others, or all, in the order of a column.

        Nulls come last, equal ones as they lie in the table. The table has every column of `columns`.
        """
        return self.at_places(self.places(cut, which, by, descending, limit, offset))

    def places(
        self,
        cut: Cut,
        which: Which = "chosen",
        by: str = "margin",
        descending: bool = True,
        limit: int = 25,
        offset: int = 0,
    ) -> pa.Table:
        """Where the same rows lie, for `at_places`."""
        where, parameters = self._of(cut, which, [by])
        order = f'"{by}" {"desc" if descending else "asc"} nulls last'
        if by == "margin" and descending and (bound := self._bound(cut, which, offset + limit)) is not None:
            where, parameters = f"{where} and margin >= ?::float", [*parameters, bound]
        return self._places(where, parameters, order, limit, offset)

    def _bound(self, cut: Cut, which: Which, number: int) -> float | None:
        """A margin that so many of the best pairs have, where counts that are there already tell one.

        It spares a second look at all texts, or at whatever else filters need.
        """
        curve = self._known(self._curve_key(cut.filters))
        if curve is None or which == "not chosen" or (which == "chosen" and cut.min_precision is not None):
            return None
        if which == "all":
            return curve.best(number, lambda _: True)
        return curve.best(number, lambda name: name == KEPT or (name in ONLY_THE_CUT and not cut.is_own))

    def at_places(self, places: pa.Table) -> pa.Table:
        """Rows that lie at places, in the order of these, with every column of `columns`."""
        wanted = [column.name for column in self.columns()]
        listed = ", ".join(f'"{name}"' for name in wanted)
        if self._columns.keys == KEYS:
            picked, source = read_rows(places, self._known_at(places)), "picked_pairs"
        else:
            picked = places.append_column("place", pa.array(np.arange(len(places))))
            source = "(select q.*, k.place from pairs q join picked_pairs k on q.pair_id = k.pair_id)"
        relation = self._columns.relation(wanted, source, ("place",))
        return self._ask(f"select {listed} from {relation} order by place", [], {"picked_pairs": picked})

    def draw(self, cut: Cut, how: How, seed: int = 0, limit: int = 25, offset: int = 0) -> tuple[pa.Table, Drawn]:
        """Rows drawn at random, and what is to be written beside their labels; the same ones for the same seed.

        `random above the threshold`: of those that the cut chooses. `random at the threshold`: of a band of margins
        around it, chosen or not, with about as many pairs on either side. `random`: of all that could be chosen. Rows
        with labels are drawn as well: they are to be labelled again, or what is measured would leave them out.
        Raises InputError for another way, and where the cut has no margin to be at and the run kept nothing.
        """
        places, drawn = self.draw_places(cut, how, seed, limit, offset)
        return self.at_places(places), drawn

    def draw_places(
        self, cut: Cut, how: How, seed: int = 0, limit: int = 25, offset: int = 0
    ) -> tuple[pa.Table, Drawn]:
        """Where the same rows lie, for `at_places`."""
        filters, threshold = self.filters_and_threshold(cut)
        low, high = self._frame(filters, threshold, how, cut.is_own)
        drawn = Drawn(how, low, high, filters_key(filters))
        bounds = [("margin >= ?::float", low), ("margin < ?::float", high)]
        conditions = [_ELIGIBLE, "isfinite(margin)"] + [sql for sql, bound in bounds if bound is not None]
        where, parameters = self._passing(filters)
        parameters += [bound for _, bound in bounds if bound is not None]
        where = f"{where} and {' and '.join(conditions)}"
        return self._places(where, parameters, self._shuffled(seed, where), limit, offset), drawn

    def margins_of(self, margins: Mapping[str, float], filters: Sequence[Filter] = ()) -> dict[str, float]:
        """The margins of those of some pairs that there are, that pass filters and that a cut could choose, by id.

        margins: those that they had, by id, which only narrow the search: of a run mined again all are looked at.
        """
        key = (filters_key(filters), self._said if any(one.column == "label" for one in filters) else 0)
        known = self._margins if self._margins_key == key else {}
        unknown = {pair: margin for pair, margin in margins.items() if pair not in known}
        if unknown:
            told = f"margin::double, {_ELIGIBLE} and isfinite(margin)"
            some = self._unpacked_of(unknown) if filters else None
            if some is not None and self._columns.is_unpacked(filters, _ALWAYS, some.column_names):
                source, parameters = self._columns.passing(filters, [], some.column_names)
                found = self._ask(f"select pair_id, {told} from {source}", parameters, {UNPACKED: some})
            else:
                found = self._of_pairs(unknown, told, *self._passing(filters, ["pair_id"]))
            known = known | dict.fromkeys(unknown, None)
            for pair, margin, may_be_chosen in zip(*(column.to_pylist() for column in found.columns), strict=True):
                known[pair] = margin if may_be_chosen else None
            self._margins, self._margins_key = known, key
        return {pair: margin for pair in margins if (margin := known[pair]) is not None}

    def _of_pairs(self, margins: Mapping[str, float], told: str, source: str, parameters: Sequence[Any]) -> pa.Table:
        """What is told of pairs by their ids, looked for where their margins were, then everywhere."""
        wanted = {"wanted_pairs": pa.table({"pair_id": pa.array(list(margins), pa.string())})}
        query = f"select pair_id, {told} from {source} and pair_id in (select pair_id from wanted_pairs)"
        near = [float(np.float32(edge(margins.values()))) for edge in (min, max)]
        bounds = " and margin >= ?::float and margin <= ?::float"
        found = self._ask(query + bounds, [*parameters, *near], wanted) if len(margins) < _FEW else None
        if found is None or len(found) < len(margins):
            found = self._ask(query, parameters, wanted)
        return found

    def _unpacked_of(self, margins: Mapping[str, float]) -> pa.Table | None:
        """What was unpacked of pairs, with their `pair_id`; of those that there are. None where nothing was."""
        whole = self._unpacked
        if whole is None:
            return None
        unknown = {pair: margin for pair, margin in margins.items() if pair not in self._lying}
        if unknown:
            found = self._of_pairs(unknown, ", ".join(KEYS), *self._columns.passing([]))
            rows = zip(found["pair_id"].to_pylist(), whole.rows_at(found), strict=True)
            self._lying |= dict.fromkeys(unknown, None) | dict(rows)
        there = {pair: row for pair in margins if (row := self._lying[pair]) is not None}
        return whole.at(list(there.values()), whole.names).append_column("pair_id", pa.array(list(there), pa.string()))

    def pair(self, pair_id: str) -> dict[str, Any] | None:
        """One pair with every column of `columns`; None where there is none of this id."""
        keys = ", ".join(self._columns.keys)
        where = f"{self._columns.relation()} where pair_id = ?"
        found = self.at_places(self._ask(f"select {keys} from {where} limit 1", [pair_id])).to_pylist()
        return found[0] if found else None

    def show_labels(self, labelled: Mapping[str, Labelled]) -> None:
        """Have the column `label` of what was labelled, as `Labels.labelled` gives it."""
        own = [pair for pair in labelled.values() if pair.direction == self.direction and pair.label]
        columns = {"pair_id": [pair.pair_id for pair in own], "label": [pair.label for pair in own]}
        table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
        if not table.equals(self._labels):
            self._labels = table
            self._said += 1

    def _curve_key(self, filters: Sequence[Filter]) -> str:
        return filters_key(filters) + (str(self._said) if any(one.column == "label" for one in filters) else "")

    def _known(self, key: str) -> MarginCurve | None:
        with self._lock:
            if key in self._curves:
                self._curves.move_to_end(key)
            return self._curves.get(key)

    def _scan(self, filters: Sequence[Filter]) -> MarginCurve:
        if self._grid is None:
            self._grid = Grid.of(*(self._columns.ends("margin") or (0.0, 1.0)))
        grid = self._grid
        source, parameters = self._passing(filters)
        finite = "isfinite(margin)"
        query = (
            f"select case when {finite} then {grid.sql} end as bin, {_OUTCOME} as outcome, {SUMS} from {source} "
            "group by all order by all"
        )
        groups = self._ask(query, parameters)
        strange = groups["bin"].is_null()
        not_finite = int(np.sum(groups.filter(strange)["pairs"].to_numpy()))

        def between(low: float, high: float) -> Kept:
            conditions = f"and {_ELIGIBLE} and margin >= ?::float and margin < ?::float"
            return _kept(self._ask(f"select {SUMS} from {source} {conditions}", [*parameters, low, high]))

        return MarginCurve(grid, groups.filter(groups["bin"].is_valid()), between, not_finite)

    def _passing(self, filters: Sequence[Filter], needed: Sequence[str] = ()) -> Clause:
        """As `PairColumns.passing`, of what was unpacked where that is enough."""
        there = self._unpacked.names if self._unpacked is not None else []
        if not self._columns.is_unpacked(filters, [*_ALWAYS, *needed], there):
            return self._columns.passing(filters, needed)
        return self._columns.passing(filters, needed, there)

    def _of(self, cut: Cut, which: Which, needed: Sequence[str] = ()) -> Clause:
        source, parameters = self._passing(cut.filters, needed)
        if which == "all":
            return source, parameters
        chosen, values = cut.model_copy(update={"filters": []}).clause()
        condition = f"({chosen})" if which == "chosen" else f"not coalesce(({chosen}), false)"
        return f"{source} and {condition}", [*parameters, *values]

    def _frame(
        self, filters: Sequence[Filter], threshold: float | None, how: How, is_own: bool
    ) -> tuple[float | None, float | None]:
        """Margins that a random sample is drawn among, [low, high)."""
        if how == "random" or (how == "random above the threshold" and threshold is None and not is_own):
            return None, None
        if how not in RANDOM:
            raise InputError(f"{how!r} draws nothing at random")
        if threshold is None:
            raise InputError(f"{self.direction}: there is no margin to draw pairs by: give a threshold")
        if how == "random above the threshold":
            return float(np.float32(threshold)), None
        return self._band(self.curve(filters), threshold)

    @staticmethod
    def _band(curve: MarginCurve, threshold: float) -> tuple[float, float]:
        """Edges around a threshold with enough pairs on either side, as far as there are any."""
        edges = [float(edge) for edge in curve.edges]
        wanted = max(_BAND, round(_BAND_SHARE * curve.at(threshold).pairs))
        above = [curve.at(edge).pairs for edge in edges]
        here = curve.at(threshold).pairs
        low = next((edge for edge, n in zip(edges[::-1], above[::-1], strict=True) if n - here >= wanted), edges[0])
        high = next((edge for edge, n in zip(edges, above, strict=True) if here - n >= wanted), edges[-1])
        cut = float(np.float32(threshold))
        return min(low, cut), max(high, cut)

    def _places(self, where: str, parameters: Sequence[Any], order: str, limit: int, offset: int) -> pa.Table:
        """The keys of rows in an order, equal ones as they lie."""
        whole = self._unpacked if UNPACKED in where else None
        keys = ", ".join(UNPACKED_KEYS if whole is not None else self._columns.keys)
        query = f"select {keys} from {where} order by {order}, {keys} limit {int(limit)} offset {int(offset)}"
        found = self._ask(query, parameters)
        return found if whole is None else whole.keys(found)

    def _known_at(self, places: pa.Table) -> pa.Table:
        """What was unpacked of rows at places, which needs no file to be read; as the table has it."""
        whole = self._unpacked
        if whole is None:
            return places.select([])
        fields = [field for field in PAIRS if field.name in whole.names]
        known = whole.at(whole.rows_at(places), [field.name for field in fields]).cast(pa.schema(fields))
        return known.append_column("direction", pa.array([self.direction] * len(known), pa.string()))

    def _shuffled(self, seed: int, where: str) -> str:
        """A number of each row as if thrown by dice, from where it lies; in a store from its id."""
        if "file_row_number" not in self._columns.keys:
            return f"md5_number_lower(pair_id || '{int(seed)}')"
        # reading no column, so that ten millions take a tenth of a second; the steps are those of a 32-bit finaliser
        start = f"md5_number_lower(parse_filename(filename) || '{int(seed)}') & {_MASK}"
        if UNPACKED in where:
            names = pa.table({"filename": pa.array(part_paths(self.tables, self.direction), pa.string())})
            found = self._ask(f"select {start} as start from names_of_parts", [], {"names_of_parts": names})
            start = f"{found['start'].to_pylist()}[part + 1]"
        number = f"xor(file_row_number::ubigint & {_MASK}, {start})"
        for shift, factor in ((16, 2146121005), (15, 2221713035)):
            number = f"((xor({number}, ({number}) >> {shift}) * {factor}) & {_MASK})"
        return number

    def _ask(
        self, query: str, parameters: Sequence[Any] = (), beside: Mapping[str, pa.Table] | None = None
    ) -> pa.Table:
        tables = {LABELS: self._labels} | dict(beside or {})
        if self._unpacked is not None and UNPACKED in query:
            tables.setdefault(UNPACKED, self._unpacked.columns)
        return self.tables.ask(query, list(parameters), tables)


def filters_key(filters: Sequence[Filter]) -> str:
    """Filters as JSON, the same for the same conditions in any order; empty for none."""
    if not filters:
        return ""
    plain = {json.dumps(one.model_dump(mode="json"), sort_keys=True, ensure_ascii=False) for one in filters}
    return f"[{', '.join(sorted(plain))}]"


def _kept(table: pa.Table) -> Kept:
    return Kept(*(column[0].as_py() for column in table.columns))
