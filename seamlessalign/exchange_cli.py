"""The part of the command line that chooses pairs, hands corpora on, and takes up those that others published."""

import argparse
import re
from pathlib import Path
from typing import Any

FORMATS = ("parquet", "webdataset", "lhotse", "lhotse-shar", "folder", "meta-jsonl")  # of `exports.formats`
METADATA = "seamlessalign-tsv"  # lines by which others rebuild the corpus


def add_exchange_commands(commands: Any) -> None:
    """Add them to the subparsers of the program."""
    _add_curate(commands)
    _add_export(commands)
    _add_import(commands)


# Choosing pairs


def _add_curate(commands: Any) -> None:
    curate = commands.add_parser("curate", help="open a page to hear, read, mark and choose the pairs of a run")
    curate.add_argument("run", metavar="DIR", help="folder of the run")
    curate.add_argument(
        "--port", type=int, default=8501, metavar="N", help="of 127.0.0.1; 0: any that is free (default: %(default)s)"
    )
    curate.add_argument("--no-browser", action="store_true", help="print the address and open no browser")
    curate.add_argument("--read-only", action="store_true", help="keep no labels and no selections, export nothing")
    curate.set_defaults(command=_curate)


def _curate(arguments: argparse.Namespace) -> int:
    from seamlessalign.pipelines.curation.serve import serve

    return serve(
        arguments.run, port=arguments.port, read_only=arguments.read_only, open_browser=not arguments.no_browser
    )


# Handing a corpus on


def _add_export(commands: Any) -> None:
    export = commands.add_parser("export", help="hand the corpus of a run on: choose, divide, write, describe")
    export.add_argument("run", metavar="DIR", help="folder of the run")
    export.add_argument("--to", required=True, metavar="FOLDER", help="to write to; run again to go on")
    export.add_argument("--format", choices=[*FORMATS, METADATA], default="parquet", help="how (default: %(default)s)")
    export.add_argument(
        "--audio", choices=["same", "flac", "opus"], default="same", help="encoding (default: as it is in the corpus)"
    )
    export.add_argument("--direction", action="append", metavar="DIRECTION", help="only this one; may be repeated")
    choice = export.add_argument_group("which pairs (default: those the run kept)")
    choice.add_argument("--threshold", type=float, metavar="MARGIN", help="those with this margin or more")
    choice.add_argument("--min-precision", type=float, metavar="P", help="those with this estimated precision or more")
    choice.add_argument("--fdr", type=float, metavar="P", help="as many as with this estimated share of wrong pairs")
    choice.add_argument("--selection", metavar="NAME", help="those of a selection that `seamlessalign curate` kept")
    choice.add_argument(
        "--labels",
        choices=["ignore", "not-wrong", "only-right"],
        help="what to do about pairs that people labelled (default: as the selection has it, or not-wrong)",
    )
    choice.add_argument("--max-hours", type=float, metavar="H", help="of each direction, the best pairs first")
    choice.add_argument(
        "--not-in",
        action="append",
        metavar="FILE|DIR",
        help="an evaluation set: what is the same or nearly the same is left out; may be repeated",
    )
    divided = export.add_argument_group("into which parts")
    divided.add_argument(
        "--splits", metavar="NAME=SHARE,…", help="such as train=0.9,dev=0.05,test=0.05: no recording is in two"
    )
    divided.add_argument(
        "--straddling",
        choices=["leave-out", "keep-together"],
        default="leave-out",
        help="where so much hangs together that splits would not be as large as asked: leave out pairs that share a "
        "recording or text with two splits, or keep all pairs, whatever comes of the splits (default: %(default)s)",
    )
    divided.add_argument(
        "--apart",
        choices=["texts", "documents"],
        default="texts",
        help="beside recordings, what is in one split only: texts that are the same, or also all of a document, which "
        "is a file of the run's texts (default: %(default)s)",
    )
    divided.add_argument("--seed", type=int, default=0, help="of the splits (default: %(default)s)")
    divided.add_argument("--pairs-per-shard", type=int, default=2000, metavar="N", help="(default: %(default)s)")
    export.add_argument("--workers", type=int, metavar="N", help="processes (default: one for each processor)")
    export.set_defaults(command=_export)


def _export(arguments: argparse.Namespace) -> int:
    from seamlessalign.errors import InputError
    from seamlessalign.pipelines.exports.choice import Rule
    from seamlessalign.pipelines.exports.export import Order, export_corpus, exported_text
    from seamlessalign.pipelines.exports.metadata import export_metadata
    from seamlessalign.pipelines.exports.plan import Asked
    from seamlessalign.pipelines.exports.splits import parse_shares

    if not arguments.to.strip():
        raise InputError("--to is empty: give a folder")
    for name in ("workers", "pairs_per_shard"):
        if (value := getattr(arguments, name)) is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} is {value}: give 1 or more")
    rule = Rule(
        threshold=arguments.threshold,
        min_precision=arguments.min_precision,
        fdr=arguments.fdr,
        selection=arguments.selection,
        labels=arguments.labels.replace("-", "_") if arguments.labels else None,
        max_hours=arguments.max_hours,
    )
    asked = Asked(
        rule,
        directions=tuple(sorted(set(arguments.direction or ()))),
        shares=parse_shares(arguments.splits) if arguments.splits is not None else None,
        seed=arguments.seed,
        straddling=arguments.straddling,
        apart=arguments.apart,
        pairs_per_shard=arguments.pairs_per_shard,
        not_in=tuple(sorted(set(arguments.not_in or ()))),
    )
    audio = None if arguments.audio == "same" else arguments.audio
    order = Order(arguments.run, arguments.to, arguments.format, audio, asked, arguments.workers)
    if arguments.format == METADATA:
        told, status = export_metadata(order)
        print("\n".join(told))
        return status
    exported = export_corpus(order)
    print(exported_text(exported, arguments.to))
    return exported.exit_status


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
    take.add_argument(
        "--root", metavar="FOLDER", help="below it lie recordings that are not on the web, as runs of yours may name"
    )
    take.add_argument(
        "--texts",
        action="append",
        metavar="FILE",
        help="look texts that are of no WET file up in its lines; may be repeated",
    )
    take.add_argument(
        "--again",
        nargs="?",
        const="",
        metavar="REASONS",
        help="of a finished one: ask once more for what was lost for these reasons, separated by commas (default: "
        "those that may pass by themselves, such as timeout and server_error)",
    )
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
        "texts": arguments.texts,
        "audio": {"root": arguments.root} if arguments.root else None,
    }
    config = load_rebuild_config(given, overrides)
    with uncollected():
        from seamlessalign.pipelines.published.earlier import PASSING
        from seamlessalign.pipelines.published.rebuild import rebuild, summary_text

    named = frozenset((arguments.again or "").split(",")) - {""}
    again = frozenset() if arguments.again is None else named or PASSING
    result = rebuild(config, arguments.executor, arguments.behind, again)
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
