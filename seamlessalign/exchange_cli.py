"""The part of the command line that chooses pairs, hands corpora on, and takes up those that others published."""

import argparse
from typing import Any


def add_exchange_commands(commands: Any) -> None:
    """Add them to the subparsers of the program."""
    _add_export(commands)


# Handing a corpus on


def _add_export(commands: Any) -> None:
    export = commands.add_parser("export", help="copy the corpus of a run to hand it on")
    export.add_argument("run", metavar="DIR", help="folder of the run")
    export.add_argument("--to", required=True, metavar="DIR", help="folder to write to")
    export.add_argument("--format", choices=["parquet"], default="parquet", help="how (default: %(default)s)")
    export.add_argument("--direction", action="append", metavar="DIRECTION", help="only this one; may be repeated")
    export.set_defaults(command=_export)


def _export(arguments: argparse.Namespace) -> int:
    from seamlessalign.pipelines.export import export_parquet

    exported = export_parquet(arguments.run, arguments.to, arguments.direction or ())
    for direction, rows in exported.rows.items():
        print(f"{direction}: {rows} pairs")
    print(f"corpus: {arguments.to}")
    if exported.beside:
        print(f"beside it: {', '.join(exported.beside)}")
    return 0
