"""The part of the command line that chooses pairs, hands corpora on, and takes up those that others published."""

import argparse
import re
from pathlib import Path
from typing import Any


def add_exchange_commands(commands: Any) -> None:
    """Add them to the subparsers of the program."""
    _add_export(commands)
    _add_import(commands)


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


# Taking up what others published


def _add_import(commands: Any) -> None:
    take = commands.add_parser(
        "import-metadata",
        help="rebuild a corpus from published metadata (SeamlessAlign, SeamlessAlignExpressive, NLLB)",
        description="Rebuild a corpus from published metadata: fetch what its lines name, check it, cut it, join it. "
        "The same command again goes on where it stopped.",
        epilog="Other keys of the configuration are set by key=value behind the rest, such as fetch.contact=me@there.",
    )
    take.add_argument("metadata", nargs="+", metavar="TSV", help="files, plain, gzip or xz; and key=value")
    take.add_argument("--to", required=True, metavar="DIR", help="folder to rebuild in, with all its state")
    take.add_argument(
        "--executor",
        choices=["local", "slurm", "beam"],
        default="local",
        help="where it is done (default: %(default)s); options behind -- go to the runner of beam as they are",
    )
    take.add_argument("--direction", action="append", metavar="DIRECTION", help="only this one; may be repeated")
    take.add_argument("--min-score", type=float, metavar="S", help="only pairs with this published score or more")
    take.add_argument("--limit", type=int, metavar="N", help="only the first N pairs of each direction")
    take.add_argument("--common-crawl", metavar="BASE", help="where WET files are: an address, or a folder with a copy")
    take.set_defaults(command=_import_metadata, overrides=[])


def _import_metadata(arguments: argparse.Namespace) -> int:
    from seamlessalign.pipelines.published.rebuild_config import load_rebuild_config
    from seamlessalign.uncollected_imports import uncollected

    words = [*arguments.metadata, *arguments.overrides]
    overrides = [word for word in words if is_override(word)]
    given = {
        "metadata": [word for word in words if not is_override(word)],
        "output": arguments.to,
        "directions": arguments.direction,
        "min_score": arguments.min_score,
        "limit": arguments.limit,
        "common_crawl": arguments.common_crawl,
    }
    config = load_rebuild_config(given, overrides)
    with uncollected():
        from seamlessalign.pipelines.published.rebuild import rebuild, summary_text

    result = rebuild(config, arguments.executor, arguments.behind)
    if result.is_built_only:
        print("the job's graph is built; nothing was done")
        return 0
    print(summary_text(result))
    print(f"corpus: {result.folder.table('corpus')}")
    if result.exit_status:
        print(f"what is missing, and why: {result.folder.root}/missing.tsv")
    return result.exit_status


def is_override(word: str) -> bool:
    """Whether a word of the command line is `key=value`, not the name of a file that is there."""
    return bool(re.fullmatch(r"[a-z_]+(\.[a-z_]+)*=.*", word, re.DOTALL)) and not Path(word).exists()
