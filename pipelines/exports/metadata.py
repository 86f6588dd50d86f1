"""A choice of pairs as lines of metadata, by which others rebuild the corpus: no audio, no splits, no card."""

import tempfile
from pathlib import Path

import pyarrow as pa

from seamlessalign import storage
from seamlessalign.errors import InputError
from seamlessalign.pipelines.exports.choice import Chooser
from seamlessalign.pipelines.exports.export import Order
from seamlessalign.pipelines.exports.export_folder import refuse_within_run
from seamlessalign.pipelines.exports.plan import directions_asked
from seamlessalign.pipelines.published.writing import FORMAT, told, write_metadata
from seamlessalign.pipelines.run_tables import RunTables


def export_metadata(order: Order) -> tuple[list[str], int]:
    """Write the files of every direction; what was written, for people, and 0, or 3 where lines could not hold a pair.

    Raises InputError for what the run does not have, and for what such lines cannot be asked for.
    """
    asked = order.asked
    for name, is_given in (("--splits", asked.shares), ("--not-in", asked.not_in), ("--audio", order.audio)):
        if is_given:
            raise InputError(f"{name} says nothing to --format {FORMAT}: leave it out")
    with RunTables(order.run) as tables, tempfile.TemporaryDirectory(prefix="seamlessalign-") as scratch:
        if "pairs" not in tables.parts:
            raise InputError(f"{order.run}: has no pairs to export; is it a finished run?")
        refuse_within_run(order.run, order.to)
        chooser = Chooser(tables, asked.rule)
        names = directions_asked(chooser, tables, asked)

        def chosen(name: str) -> pa.Array:
            with storage.writing(scratch):
                choice = chooser.choose(name, Path(scratch) / name)
            parts = [some.column(0).combine_chunks().cast(pa.string()) for _, some in choice.batches(["pair_id"])]
            return pa.concat_arrays([pa.array([], pa.string()), *parts])

        written = write_metadata(tables, order.to, names, chosen)
    return [*told(written), f"exported: {order.to}"], 3 if any(done.refused for done in written) else 0
