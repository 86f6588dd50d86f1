"""A finished run, opened for notebooks: its tables, pairs to hear, pictures, and choices of pairs."""

import difflib
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from os import PathLike, fspath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seamlessalign import storage
from seamlessalign.config import RunConfig
from seamlessalign.errors import ConfigError, InputError
from seamlessalign.html_page import row_of, table_of
from seamlessalign.markup import tag
from seamlessalign.pictures import Picture
from seamlessalign.pipelines import opened_pictures
from seamlessalign.pipelines.curation.direction_view import DirectionView
from seamlessalign.pipelines.curation.labelled_precision import Precision, precision_above, random_labels
from seamlessalign.pipelines.curation.labels import Labels
from seamlessalign.pipelines.curation.listening import Listening
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.opened_pairs import OpenedPair
from seamlessalign.pipelines.opened_rows import Rows, telling
from seamlessalign.pipelines.pair_columns import LABELS, PairColumns
from seamlessalign.pipelines.refilter import read_config
from seamlessalign.pipelines.report_counts import PrecisionCounts
from seamlessalign.pipelines.report_numbers import CutRule, is_rebuilt, rule_of, written_config
from seamlessalign.pipelines.report_parts import hours
from seamlessalign.pipelines.run_tables import RunTables
from seamlessalign.pipelines.selection import (
    MOST_MARGIN,
    Cut,
    Selection,
    list_selections,
    read_selection,
    write_selection,
)
from seamlessalign.pipelines.status import read_status, unfinished
from seamlessalign.rows import PAIRS, SAMPLE_RATE
from seamlessalign.typed_config import checked

_CUTS = (0.5, 0.7, 0.8, 0.9, 0.95)
_FURTHEST = 1e6  # margin that a picture has
_LISTED = 12  # names that are all told beside the one that may be meant
_IDS = {"segments": "segment_id", "sentences": "sentence_id"}
_ADDED = "(filename, file_row_number)"  # columns that DuckDB adds where files are local
_AT_PRECISION = pa.schema(
    [
        pa.field("direction", pa.string()),
        pa.field("min_precision", pa.float64()),
        pa.field("pairs", pa.int64()),
        pa.field("hours", pa.float64()),
        pa.field("expected_right", pa.float64()),
    ]
)
Labelling = Literal["ignore", "not_wrong", "only_right"]


class Run:
    """A run's folder, local or any uri, whose tables are read when they are asked for.

    Raises InputError where the folder is no run's, or the run is not finished, which `unfinished` allows;
    MissingPackageError without DuckDB.
    """

    def __init__(self, root: str | PathLike[str], *, unfinished: bool = False) -> None:
        given = fspath(root)
        self.root = given.rstrip("/") or given[:1]
        self._folder = RunFolder(self.root)
        if not given or (storage.is_local(self.root) and not storage.local_path(self.root).exists()):
            raise InputError(f"{given or repr(given)}: there is no run here; give the folder that a run wrote")
        has_config = storage.exists(self._folder.config)
        if has_config and not unfinished:
            self._check_finished()
        self._tables = RunTables(self.root)
        self.config = self._read_config() if has_config else None
        self._columns: dict[str, PairColumns] = {}
        self._counts: dict[str, PrecisionCounts] = {}

    # What there is

    @property
    def name(self) -> str:
        """The run's name, or its folder's where it has no configuration."""
        return self.config.name if self.config else self.root.rsplit("/", 1)[-1]

    @property
    def directions(self) -> list[str]:
        """The directions that the run has, sorted."""
        return self._tables.directions

    @property
    def tables(self) -> dict[str, Rows]:
        """Every table that the run has, by name."""
        return {name: self.table(name) for name in self._tables.names}

    def table(self, name: str) -> Rows:
        """A table: `recordings`, `segments`, `sentences`, `pairs`, `corpus`, `units` or `transcripts`.

        Raises InputError for one that the run does not have.
        """
        if name not in self._tables.names:
            raise InputError(f"{self.root}: has no table {name!r}{_near(name, self._tables.names)}")
        added = f" exclude {_ADDED}" if storage.is_local(self.root) else ""
        return Rows(self._tables, f"select *{added} from {name}")

    def embeddings(self, table: str, lang: str) -> tuple[list[str], npt.NDArray[np.float16]]:
        """Ids of a language's `segments` or `sentences`, and their rows, (num_rows, dim), all in memory.

        The rows are as the embedder gave them, centred by its card. Raises InputError where the run has none.
        """
        if table not in _IDS:
            raise InputError(f"{table!r} has no embeddings; there are those of {' and '.join(_IDS)}")
        parts = self._tables.parts.get(table, {})
        if lang not in parts:
            raise InputError(f"{self.root}: has no {table} of {lang!r}{_near(lang, sorted(parts))}")
        found = [storage.read_table(uri, [_IDS[table], "embedding"]) for uri in parts[lang]]
        rows = [storage.embeddings_of(one) for one in found]
        return [name for one in found for name in one[_IDS[table]].to_pylist()], np.concatenate(rows)

    def sql(self, query: str, parameters: Sequence[Any] = ()) -> Rows:
        """What one `select` over the run's tables gives; `?` stands for parameters. Nothing else can be read by it.

        Raises InputError where it is no such query.
        """
        import duckdb

        with telling(self.root):
            statements = duckdb.extract_statements(query)
        if [one.type for one in statements] != [duckdb.StatementType.SELECT]:
            raise InputError(f"{self.root}: is asked one select at a time, not: {' '.join(query.split())[:80]}")
        return self._asked(query.strip().rstrip(";"), list(parameters), {})

    def _asked(self, query: str, parameters: list[Any], beside: Mapping[str, pa.Table]) -> Rows:
        found = Rows(self._tables, query, parameters, beside)
        _ = found.schema  # tells what is wrong now, not when it is read
        return found

    def pairs(
        self,
        direction: str | None = None,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        parameters: Sequence[Any] = (),
        *,
        kept: bool | None = None,
        min_margin: float | None = None,
        min_precision: float | None = None,
        order: str | None = None,
        limit: int | None = None,
    ) -> Rows:
        """Pairs of a direction, or of all: those kept (`kept=True`), rejected (`False`) or all candidates.

        columns: of the table, and of one direction also `seconds`, `disagreement`, … (`pair_columns`); by default the
        table's. where: a condition in SQL, in which `?` stands for `parameters`. min_margin, min_precision: what would
        be kept if the cut were there: kept pairs, and those that only the run's cut rejected. order: such as
        `margin desc`. Raises InputError for a direction or column that there is not.
        """
        if direction is not None:
            self._check_direction(direction)
        named = self._columns_of(direction).columns.keys() if direction else PAIRS.names
        if isinstance(columns, str):
            raise InputError(f"{self.root}: columns are given as a list: [{columns!r}]")
        wanted = list(columns) if columns is not None else list(PAIRS.names)
        for name in wanted:
            if name not in named:
                alone = "" if direction else "; further ones are of one direction: name it"
                raise InputError(f"{self.root}: pairs have no column {name!r}{_near(name, list(named))}{alone}")
        needed = [*wanted, *(name for name in named if re.search(rf"\b{name}\b", f"{where or ''} {order or ''}"))]
        source = self._columns_of(direction).relation(needed) if direction else "pairs"
        conditions, values = [], []
        if min_margin is not None or min_precision is not None:
            if kept is not None:
                raise InputError("kept asks for what the run kept, min_margin and min_precision for another cut")
            sql, given = checked(Cut, {"min_margin": min_margin, "min_precision": min_precision}, self.root).clause()
            conditions.append(f"({sql})")
            values += given
        if kept is not None:
            conditions.append("kept" if kept else "not kept")
        if where is not None:
            conditions.append(f"({where})")
            values += parameters
        query = f"select {_quoted(wanted)} from {source} as p"
        query += f" where {' and '.join(conditions)}" if conditions else ""
        query += f" order by {order}" if order is not None else ""
        query += f" limit {int(limit)}" if limit is not None else ""
        beside = {LABELS: self._labelled(direction)} if direction is not None and "label" in needed else {}
        return self._asked(query, values, beside)

    def pair_columns(self, direction: str) -> dict[str, str]:
        """Every column that pairs of a direction can be asked for, with what it means where that is not plain."""
        return {name: column.meaning for name, column in self._columns_of(direction).columns.items()}

    def pair(self, pair_id: str, direction: str | None = None) -> OpenedPair:
        """A pair with its texts and its sound, kept or not. Raises InputError where there is none of this id."""
        condition, values = ("where pair_id = ?", [pair_id])
        if direction is not None:
            self._check_direction(direction)
            condition, values = f"{condition} and direction = ?", [pair_id, direction]
        query = f"select {_quoted(PAIRS.names)} from pairs {condition} order by direction limit 1"
        with telling(self.root):
            found = self._tables.ask(query, values).to_pylist()
        if not found:
            raise InputError(f"{self.root}: has no pair {pair_id!r}{f' of {direction}' if direction else ''}")
        return OpenedPair(found[0], self._listening)

    # Choosing

    def threshold(self, direction: str) -> float | None:
        """The margin that the run cut a direction at; None where estimated precision decided."""
        return self._rule(direction).threshold

    def summary(self) -> Rows:
        """All directions: candidates, kept pairs, their hours and estimated precision, lowest margin that was kept."""
        seconds = f"sum({{0}}_end - {{0}}_start) filter (kept) / {SAMPLE_RATE}.0 / 3600"
        return self.sql(
            "select direction, count(*) as candidates, count(*) filter (kept) as kept, "
            f"{seconds.format('src')} as src_hours, {seconds.format('tgt')} as tgt_hours, "
            "avg(precision_estimate) filter (kept) as estimated_precision, min(margin) filter (kept) as lowest_margin "
            "from pairs group by direction order by direction"
        )

    def at_precision(self, *cuts: float) -> pa.Table:
        """How many pairs and hours each least estimated precision would keep, by direction: as the report has it.

        Columns: `direction`, `min_precision`, `pairs`, `hours` (of the first side that is speech), `expected_right`.
        """
        rows = []
        for direction in self.directions:
            counts = self._precision_counts(direction)
            for cut in cuts or _CUTS:
                if not 0 <= cut <= 1:
                    raise InputError(f"a precision of {cut}: it is between 0 and 1")
                pairs, samples, right = counts.at_least(cut)
                rows.append((direction, float(cut), pairs, samples / SAMPLE_RATE / 3600, right))
        return pa.Table.from_pylist([dict(zip(_AT_PRECISION.names, row, strict=True)) for row in rows], _AT_PRECISION)

    @property
    def labels(self) -> pa.Table:
        """What curators said of pairs, line by line."""
        return Labels(self.root).read()

    def labelled_precision(self, direction: str, min_margin: float | None = None) -> Precision:
        """The share of a direction's pairs that is right, from labels, with an interval: of those at this margin or
        above, by default at the run's own cut.
        """
        self._check_direction(direction)
        self._check_margin(min_margin)
        view = DirectionView(self._tables, direction)
        low = min_margin if min_margin is not None else view.own_threshold
        labelled = Labels(self.root).labelled(direction)
        return precision_above(random_labels(view, labelled), view.curve(), low if low is not None else float("inf"))

    @property
    def selections(self) -> list[str]:
        """Names of the choices of pairs that are kept in the run's folder."""
        return list_selections(self.root)

    def selection(self, name: str) -> Selection:
        """A choice of pairs. Raises InputError where there is none of this name."""
        return read_selection(self.root, name)

    def save_selection(
        self,
        name: str,
        cuts: Mapping[str, Cut | Mapping[str, Any] | None],
        labels: Labelling = "not_wrong",
        note: str = "",
    ) -> Selection:
        """Keep a choice of pairs in the run's folder, for `seamlessalign export DIR --selection NAME`.

        cuts: a direction → its cut, such as `{"min_precision": 0.9}`, `{"min_margin": 1.4}` or None for the run's own;
        directions that are not named are left out. Raises InputError for a direction that there is not, ConfigError
        for a cut that cannot be.
        """
        raw: dict[str, Any] = {}
        if not isinstance(cuts, Mapping):
            raise ConfigError(f"selection {name!r}: cuts are given by direction: {{DIRECTION: CUT, …}}")
        for direction, cut in cuts.items():
            self._check_direction(direction)
            raw[direction] = cut.model_dump() if isinstance(cut, Cut) else {} if cut is None else cut
        selection = checked(Selection, {"directions": raw, "labels": labels, "note": note}, f"selection {name!r}")
        for direction, chosen in selection.directions.items():
            self._columns_of(direction).check(chosen.filters)
        write_selection(self.root, name, selection)
        return selection

    # Pictures

    def plot_funnel(self) -> Picture:
        """Hours of audio that remain after each step."""
        return opened_pictures.funnel_picture(self._tables)

    def plot_directions(self) -> Picture:
        """Hours of kept and rejected pairs by direction."""
        return opened_pictures.directions_picture(self._tables)

    def plot_margins(self, direction: str, threshold: float | None = None) -> Picture:
        """Margins of a direction's pairs, with the run's threshold or another one."""
        self._check_margin(threshold, _FURTHEST)
        at = threshold if threshold is not None else self._rule(direction).threshold
        return opened_pictures.score_picture(self._tables, direction, "margin", at)

    def plot_cosines(self, direction: str) -> Picture:
        """Cosines of a direction's pairs."""
        self._check_direction(direction)
        return opened_pictures.score_picture(self._tables, direction, "cosine", None)

    def plot_precision(self, direction: str) -> Picture:
        """How many pairs are left as the least estimated precision rises. Raises InputError without estimates."""
        picture = opened_pictures.precision_picture(self._precision_counts(direction), direction, self._rule(direction))
        if picture is None:
            raise InputError(f"{self.root}: no precision of {direction} was estimated: the run had no decoys")
        return picture

    def plot_durations(self, direction: str | None = None) -> Picture:
        """Lengths of recordings, candidate spans and the speech of pairs, or only of a direction's pairs."""
        if direction is not None:
            self._check_direction(direction)
        return opened_pictures.lengths_picture(self._tables, direction)

    def close(self) -> None:
        """Let go of the files."""
        self._tables.close()

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        lines = [f"<run {self.name!r} in {self.root}: {', '.join(self._tables.names)}>"]
        lines += [
            f"  {row['direction']}: {row['kept']:,} of {row['candidates']:,} pairs kept, {_hours_of(row)}"
            for row in self._summed()
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = [
            row_of(row["direction"], f"{row['candidates']:,}", f"{row['kept']:,}", _hours_of(row))
            for row in self._summed()
        ]
        head = tag("p", tag("b", self.name), f" · {', '.join(self._tables.names)}")
        table = table_of(("direction", "candidates", "kept", "hours"), rows, numeric=(1, 2, 3))
        return tag("div", head, table)

    def _summed(self) -> list[dict[str, Any]]:
        return self.summary().arrow().to_pylist() if "pairs" in self._tables.names else []

    @cached_property
    def _listening(self) -> Listening:
        return Listening(self._tables)

    def _columns_of(self, direction: str) -> PairColumns:
        self._check_direction(direction)
        if direction not in self._columns:
            self._columns[direction] = PairColumns(self._tables, direction)
        return self._columns[direction]

    def _precision_counts(self, direction: str) -> PrecisionCounts:
        self._check_direction(direction)
        if direction not in self._counts:
            self._counts[direction] = opened_pictures.precision_counts(self._tables, direction)
        return self._counts[direction]

    def _labelled(self, direction: str) -> pa.Table:
        """What curators said last of each pair, as `PairColumns` joins it."""
        said = Labels(self.root).labelled(direction).values()
        there = [(pair.pair_id, pair.label) for pair in said if pair.label is not None]
        schema = pa.schema([pa.field("pair_id", pa.string()), pa.field("label", pa.string())])
        return pa.Table.from_pylist([{"pair_id": name, "label": label} for name, label in there], schema)

    def _rule(self, direction: str) -> CutRule:
        self._check_direction(direction)
        return rule_of(self._tables.parts["pairs"][direction])

    def _check_direction(self, direction: str) -> None:
        if direction not in self.directions:
            raise InputError(f"{self.root}: has no direction {direction!r}{_near(direction, self.directions)}")
        if direction not in self._tables.parts.get("pairs", {}):
            raise InputError(f"{self.root}: has no pairs of {direction}, only a corpus")

    def _check_margin(self, margin: float | None, most: float = MOST_MARGIN) -> None:
        if margin is not None and not (isinstance(margin, int | float) and abs(margin) <= most):
            raise InputError(f"{self.root}: {margin!r} is no margin to cut at")

    def _read_config(self) -> RunConfig | None:
        """None of a corpus that was rebuilt from published metadata, whose configuration is of another kind."""
        try:
            return read_config(self.root)
        except ConfigError:
            if is_rebuilt(written_config(self.root) or {}):
                return None
            raise

    def _check_finished(self) -> None:
        state = unfinished(self._folder)
        if not state:
            return
        stages = read_status(self.root)["stages"]
        at = next((name for name, one in stages.items() if one["done"] < one["shards"]), None)
        done = f"{stages[at]['done']} of {stages[at]['shards']} shards done" if at else ""
        where = f"at the stage {at}, {done}" if at else "between stages"
        raise InputError(
            f"{self.root}: this run is not finished: it is {state} {where}; go on with `seamlessalign run "
            f"{self._folder.config}`, or open what is there with open_run(…, unfinished=True)"
        )


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _hours_of(row: Mapping[str, Any]) -> str:
    known = [row[name] for name in ("src_hours", "tgt_hours") if row[name] is not None]
    return " and ".join(hours(round(one * 3600 * SAMPLE_RATE)) for one in known) or hours(0)


def _near(name: str, there: Sequence[str]) -> str:
    """What may be meant, and what there is."""
    near = difflib.get_close_matches(str(name), there, n=1, cutoff=0.4)
    if near and len(there) > _LISTED:
        return f"; is {near[0]!r} meant?"
    return f"; is {near[0]!r} meant? There are {', '.join(there)}" if near else f"; there are {', '.join(there)}"
