"""The columns that pairs are looked at and chosen by: those of the table, and others that follow from them, in SQL.

Derived, of each side that is speech: `src_seconds`, `src_lang_prob`, `src_license`, `src_source` (and `tgt_…`), the
last three of its recording; of each that is text: `src_chars`, code points. Of the pair: `seconds` of its first side of
speech, `chars_per_second` of text against speech, `duration_ratio` of speech against speech (longer over shorter),
`rank_gap`, how many places apart both sides have each other among their neighbours (a side that does not have the other
counts as one behind the last), `disagreement`, and `label`, what curators said of it last.

`disagreement` is how far the two measures of a pair are apart: |share of the direction's pairs with a lower margin −
share with a lower cosine|, from 0 (both put the pair at the same place) to 1. Shares are looked up among `_STEPS` equal
steps of each measure; within a step half of its pairs count as lower.
"""

import math
import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from seamlessalign import storage
from seamlessalign.errors import InputError
from seamlessalign.languages import Direction
from seamlessalign.pipelines.report_numbers import open_parquet
from seamlessalign.pipelines.run_tables import RunTables
from seamlessalign.pipelines.selection import Clause, Cut, Filter
from seamlessalign.rows import PAIRS, RECORDINGS, SAMPLE_RATE

Kind = Literal["number", "category", "flag", "text"]

KEYS = ("filename", "file_row_number")  # by which DuckDB finds a row again
LABELS = "pair_labels"  # the table of labels: pair_id, label
UNPACKED = "unpacked_pairs"  # the table of columns that were unpacked, which stands for `pairs`
FOLDED = "_folded"  # behind the name of a column of texts: these in lower case
_MEASURES = ("margin", "cosine")
_RANKS = ("forward_rank", "backward_rank")
_MOST_RANK = "MOST_RANK"  # stands in SQL for the direction's highest rank
_SHARES = "shares_of_"
_STEPS = 2000
_FROM_RECORDINGS = ("lang_prob", "license", "source")
_CATEGORIES = ("direction", "src_lang", "tgt_lang", "drop_reason")


@dataclass(frozen=True)
class PairColumn:
    """A column of pairs, or one derived from them."""

    name: str
    kind: Kind  # a category has few values; a text any
    meaning: str  # for people
    sql: str = ""  # empty for a column of the table
    reads: tuple[str, ...] = ()  # what it follows from of the columns that may be unpacked
    sides: tuple[str, ...] = ()  # whose recordings it needs
    type: pa.DataType = field(default_factory=pa.string)

    @property
    def is_derived(self) -> bool:
        """Whether the table does not have it."""
        return bool(self.sql)


class PairColumns:
    """The columns of one direction, and relations that have them. Safe to be shared by threads."""

    def __init__(self, tables: RunTables, direction: str) -> None:
        """Raises InputError for a direction without pairs."""
        if direction not in tables.parts.get("pairs", {}):
            raise InputError(f"{tables.root}: direction {direction!r} has no pairs")
        self.tables, self.direction = tables, direction
        self._steps: dict[str, tuple[float, float]] = {}  # of each measure: its lowest value, and how wide a step is
        self._lock = threading.Lock()
        self._most_rank: int | None = None
        self.columns = {column.name: column for column in _columns(Direction.parse(direction), tables)}
        self._unpacked = {
            column.name: column for column in _columns(Direction.parse(direction), tables, "p.{side}_chars")
        }

    def relation(self, needed: Iterable[str] = (), source: str = "pairs", carried: Iterable[str] = ()) -> str:
        """A relation in brackets with the columns of the table and those needed, to be put behind `from`.

        It has `KEYS` too where the run is local. source: what has rows of `pairs`; carried: further columns that it
        has. Where `label` is needed, a table `LABELS` must be beside the query. Raises InputError for a column that
        there is not.
        """
        wanted = [self[name] for name in dict.fromkeys(needed)]
        table = [f"p.{name}" for name in dict.fromkeys([*PAIRS.names, *self.keys, *carried])]
        return f"{self._with_derived(wanted, table, source)} where p.direction = '{self.direction}')"

    def unpacked_relation(self, needed: Iterable[str], there: Collection[str]) -> str:
        """The same from a table `UNPACKED` beside the query, which has these columns of all pairs of the direction.

        Of a side that is text there is no span. Further columns of the table than those there are not to be asked for.
        """
        wanted = [self._unpacked[name] for name in dict.fromkeys(needed) if self._unpacked[name].is_derived]
        spans = [f"{side}_{end}" for side in ("src", "tgt") for end in ("start", "end")]
        absent = [f"null::bigint as {name}" for name in spans if name not in there]
        taken = [f"p.{name}" for name in there if name not in self._unpacked or not self._unpacked[name].is_derived]
        return f"{self._with_derived(wanted, [*taken, *absent], UNPACKED)})"

    def is_unpacked(self, filters: Sequence[Filter], needed: Iterable[str], there: Collection[str]) -> bool:
        """Whether all that filters and these columns follow from is among the columns that were unpacked."""
        self.check(filters)
        names = [one.column for one in filters if not _is_folded(one, there)]
        columns = [self[name] for name in (*names, *needed)]
        read = {name for column in columns for name in column.reads or (column.name,)}
        return read <= {*there}

    def _with_derived(self, wanted: Sequence[PairColumn], table: Sequence[str], source: str) -> str:
        """Columns of a table with those derived, and what these are joined with; the bracket stays open."""
        derived = [f'{self._sql(column)} as "{column.name}"' for column in wanted if column.is_derived]
        joins = []
        for side in dict.fromkeys(side for column in wanted for side in column.sides):
            columns = ", ".join(f"any_value({name}) as {name}" for name in _FROM_RECORDINGS)
            joins.append(
                f"left join (select uri, {columns} from recordings group by uri) {side}_recording "
                f"on p.{side}_uri = {side}_recording.uri"
            )
        if any(column.name == "disagreement" for column in wanted):
            joins += [self._shares_below(measure) for measure in _MEASURES]
        if any(column.name == "label" for column in wanted):
            joins.append(f"left join {LABELS} labelled on p.pair_id = labelled.pair_id")
        return f"(select {', '.join([*table, *derived])} from {source} p {' '.join(joins)}"

    def _sql(self, column: PairColumn) -> str:
        if _MOST_RANK not in column.sql:
            return column.sql
        with self._lock:
            if self._most_rank is None:
                self._most_rank = max(int((self.ends(rank) or (0, 0))[1]) for rank in _RANKS)
        return column.sql.replace(_MOST_RANK, str(self._most_rank))

    @property
    def keys(self) -> tuple[str, ...]:
        """What tells a row from all others of the direction."""
        return KEYS if storage.is_local(self.tables.root) else ("pair_id",)

    def chosen(self, cut: Cut) -> Clause:
        """What stands behind `from` to have the pairs that a cut chooses, with the columns that it needs.

        Raises InputError for a filter on a column that there is not, or that does not fit its kind.
        """
        self.check(cut.filters)
        condition, parameters = cut.clause()
        return f"{self.relation(one.column for one in cut.filters)} where {condition}", parameters

    def passing(
        self, filters: Sequence[Filter], needed: Iterable[str] = (), there: Collection[str] | None = None
    ) -> Clause:
        """The same for all pairs that pass filters, whatever became of them, with further columns.

        there: the columns of a table `UNPACKED` beside the query, which stands for `pairs` (`is_unpacked`).
        """
        self.check(filters)
        if there is None:
            clauses = [one.clause() for one in filters]
            relation = self.relation([*(one.column for one in filters), *needed])
        else:
            clauses = [_folded_clause(one) if _is_folded(one, there) else one.clause() for one in filters]
            names = [one.column for one in filters if not _is_folded(one, there)]
            relation = self.unpacked_relation([*names, *needed], there)
        condition = " and ".join(f"({sql})" for sql, _ in clauses) or "true"
        return f"{relation} where {condition}", [value for _, values in clauses for value in values]

    def check(self, filters: Sequence[Filter]) -> None:
        """Raises InputError for a filter on a column that there is not, or that does not fit its kind."""
        for one in filters:
            kind = self[one.column].kind
            if one.op in ("at_least", "at_most") and kind != "number":
                raise InputError(f"{one.column} is no number, so it cannot be {one.op.replace('_', ' ')} {one.value!r}")

    def ends(self, measure: str) -> tuple[float, float] | None:
        """The lowest and highest number that a column of the table has; None where it has none."""
        found = [one for uri in self.tables.parts["pairs"][self.direction] for one in _told_ends(uri, measure)]
        if all(one is not None and math.isfinite(one) for one in found):  # nothing needs to be read
            return (min(found), max(found)) if found else None
        query = f"select min({measure})::double, max({measure})::double from pairs where direction = ? and isfinite("
        low, high = (end[0].as_py() for end in self.tables.ask(f"{query}{measure})", [self.direction]).columns)
        return None if low is None else (low, high)

    def __getitem__(self, name: str) -> PairColumn:
        """The column of a name. Raises InputError."""
        if name not in self.columns:
            raise InputError(f"{self.direction} has no column {name!r}; there are {', '.join(self.columns)}")
        return self.columns[name]

    def _shares_below(self, measure: str) -> str:
        """A join that has, as `shares_of_MEASURE.below`, the share of the direction's pairs with less of a measure."""
        name = f"{_SHARES}{measure}_{self.direction}"
        with self._lock:
            if measure not in self._steps:
                low, width, shares = self._count_below(measure)
                self.tables.keep(name, shares)
                self._steps[measure] = low, width
        low, width = self._steps[measure]
        return (
            f'left join "{name}" {_SHARES}{measure} on {_SHARES}{measure}.step = '
            f"greatest(least(floor((p.{measure}::double - {low!r}::double) / {width!r}::double), {_STEPS - 1}), 0)::int"
        )

    def _count_below(self, column: str) -> tuple[float, float, pa.Table]:
        own = f"from pairs where direction = '{self.direction}' and isfinite({column})"
        low, high = self.ends(column) or (0.0, 0.0)
        width = (high - low) / _STEPS or 1.0
        step = f"least(floor(({column}::double - {low!r}::double) / {width!r}::double), {_STEPS - 1})::int"
        found = self.tables.ask(f"select {step} as step, count(*) as pairs {own} group by 1")
        counts = np.zeros(_STEPS)
        counts[found["step"].to_numpy()] = found["pairs"].to_numpy()
        below = (np.cumsum(counts) - counts / 2) / max(counts.sum(), 1)
        return low, width, pa.table({"step": pa.array(np.arange(_STEPS), pa.int32()), "below": below})


def _is_folded(one: Filter, there: Collection[str]) -> bool:
    return one.op == "contains" and f"{one.column}{FOLDED}" in there


def _folded_clause(one: Filter) -> Clause:
    """What `Filter.clause` tells, of texts in lower case."""
    return f'contains("{one.column}{FOLDED}", lower(?))', [one.value]


def _told_ends(uri: str, column: str) -> list[Any]:
    """What the footer of a Parquet file tells of a column: the ends in each row group, None where it does not."""
    ends: list[Any] = []
    with open_parquet(uri, [column]) as file:
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            place = next(i for i in range(group.num_columns) if group.column(i).path_in_schema == column)
            told = group.column(place).statistics
            if told is None or not told.has_min_max:
                ends.append(None)
            else:
                ends += [told.min, told.max]
    return ends


def _columns(direction: Direction, tables: RunTables, length: str = "length(p.{side}_text)") -> list[PairColumn]:
    """length: of the text of a `{side}`, in SQL."""
    sides = {"src": direction.src, "tgt": direction.tgt}
    speech = [name for name, side in sides.items() if side.is_audio]
    text = [name for name, side in sides.items() if not side.is_audio]
    columns = [_of_table(name, field) for name, field in zip(PAIRS.names, PAIRS, strict=True)]
    lengths = {side: f"((p.{side}_end - p.{side}_start) / {SAMPLE_RATE}.0)" for side in speech}
    number = pa.float64()
    spans: dict[str, tuple[str, ...]] = {side: (f"{side}_start", f"{side}_end") for side in speech}
    columns += [
        PairColumn(f"{side}_seconds", "number", f"length of the {side} speech", lengths[side], spans[side], type=number)
        for side in speech
    ]
    first, about = speech[0], "length of the first side of speech"
    read: tuple[str, ...]
    columns.append(PairColumn("seconds", "number", about, lengths[first], spans[first], type=number))
    for side in text:
        name, chars = f"{side}_chars", length.format(side=side)
        columns.append(PairColumn(name, "number", "code points of the text", chars, (name,), type=pa.int64()))
    if text:
        rate = f"{length.format(side=text[0])} / nullif({lengths[first]}, 0)"
        about, read = "code points by second of speech", (f"{text[0]}_chars", *spans[first])
        columns.append(PairColumn("chars_per_second", "number", about, rate, read, type=number))
    else:
        longer, shorter = (f"{which}({lengths['src']}, {lengths['tgt']})" for which in ("greatest", "least"))
        ratio = f"{longer} / nullif({shorter}, 0)"
        about, read = "longer side over shorter", (*spans["src"], *spans["tgt"])
        columns.append(PairColumn("duration_ratio", "number", about, ratio, read, type=number))
    behind = f"if(p.{{0}} < 0, 1 + {_MOST_RANK}, p.{{0}})"
    gap = f"abs({' - '.join(behind.format(rank) for rank in _RANKS)})"
    about = "places apart that both sides have each other"
    columns.append(PairColumn("rank_gap", "number", about, gap, _RANKS, type=number))
    apart = "share of pairs with a lower margin against that with a lower cosine"
    distance = f"abs({' - '.join(f'{_SHARES}{measure}.below' for measure in _MEASURES)})"
    columns.append(PairColumn("disagreement", "number", apart, distance, _MEASURES, type=number))
    if "recordings" in tables.parts:
        for side in speech:
            for name in _FROM_RECORDINGS:
                kind: Kind = "number" if name == "lang_prob" else "category"
                of = RECORDINGS.field(name).type
                sql = f"{side}_recording.{name}"
                about = f"{name} of the recording"
                columns.append(PairColumn(f"{side}_{name}", kind, about, sql, (f"{side}_uri",), (side,), of))
    columns.append(PairColumn("label", "category", "what curators said last", "labelled.label", ("pair_id",)))
    return columns


def _of_table(name: str, of: pa.Field) -> PairColumn:
    if name in _CATEGORIES:
        return PairColumn(name, "category", "", type=of.type)
    kind: Kind = "flag" if pa.types.is_boolean(of.type) else "text" if pa.types.is_string(of.type) else "number"
    return PairColumn(name, kind, "", type=of.type)
