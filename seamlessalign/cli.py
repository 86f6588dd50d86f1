"""The command line: one program, thin over the functions that do the work."""

import argparse
import logging
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from seamlessalign import __version__
from seamlessalign.errors import ConfigError, SeamlessAlignError
from seamlessalign.exchange_cli import add_exchange_commands
from seamlessalign.models_cli import add_model_commands
from seamlessalign.secrets import log_redacted, redact
from seamlessalign.training_cli import add_training_commands
from seamlessalign.uncollected_imports import uncollected

if TYPE_CHECKING:
    from seamlessalign.config import RunConfig

_DESCRIPTION = "Build speech-translation corpora from raw audio and raw text, the way SeamlessAlign was built."
_STATUS = (
    "Exit status: 0 done; 2 the input or configuration is wrong; 3 done, but part of the input was set aside; "
    "143 a training that SIGTERM stopped; 1 else."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    arguments = parsed_arguments(sys.argv[1:] if argv is None else argv)
    _quieten()
    try:
        return int(arguments.command(arguments))
    except SeamlessAlignError as error:
        _complain(str(error), arguments.debug, getattr(error, "trace", None))
        return error.exit_status
    except KeyboardInterrupt:
        _complain("stopped; the same command goes on from here", arguments.debug)
        return 1
    except BrokenPipeError:
        return 1
    except Exception as error:  # noqa: BLE001 - the last place that can turn an error into one line
        if isinstance(error, OSError) and error.filename is not None and error.strerror:
            _complain(f"{error.filename}: {error.strerror}", arguments.debug)
            return 1
        kind = error.__class__.__name__
        _complain(f"{kind}: {_first_line(error)} (--debug shows where)", arguments.debug)
        return 1


def parsed_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """What is asked for; ends the program with status 2 where that is nothing that it does."""
    parser = command_parser()
    given = list(argv)
    front, behind = given, []
    if {"run", "import-metadata"} & set(given) and "--" in given:  # what is behind is for a runner of Beam alone
        front, behind = given[: given.index("--")], given[given.index("--") + 1 :]
    arguments, rest = parser.parse_known_args(front)
    if rest and ("overrides" not in arguments or any(item.startswith("-") for item in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides += rest  # argparse stops taking them at the first option
    arguments.behind = behind
    return arguments


class _Parser(argparse.ArgumentParser):
    """Parsers that repeat no secrets."""

    def error(self, message: str) -> NoReturn:
        """Tell what is wrong with the arguments, and end with status 2."""
        super().error(redact(message))


def command_parser() -> argparse.ArgumentParser:
    """The parser of the whole program."""
    parser = _Parser("seamlessalign", description=_DESCRIPTION, epilog=_STATUS)
    parser.add_argument("--version", action="version", version=f"seamlessalign {__version__}")
    parser.add_argument("--debug", action="store_true", help="show a trace with every error")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    demo = commands.add_parser("demo", help="build a small real corpus end to end, and its report")
    demo.add_argument("--output", default="runs/demo", metavar="DIR", help="folder to work in (default: %(default)s)")
    demo.add_argument(
        "--cache", metavar="DIR", help="where fetched packages are kept (default: ~/.cache/seamlessalign)"
    )
    demo.add_argument("--minutes", type=float, default=12.0, help="audio of each language (default: %(default)s)")
    demo.add_argument(
        "--distractors", type=int, default=4000, help="English sentences that nobody says (default: %(default)s)"
    )
    demo.add_argument("--seed", type=int, default=0, help="of all random choices (default: %(default)s)")
    demo.add_argument(
        "--source",
        choices=["auto", "asterisk", "espeak"],
        default="auto",
        help="whose speech (default: %(default)s: people's if it can be had)",
    )
    demo.set_defaults(command=_demo)

    run = commands.add_parser("run", help="mine the recordings and texts that a configuration names")
    run.add_argument("config", metavar="CONFIG.yaml", help="what is mined, and how")
    run.add_argument(
        "overrides", nargs="*", metavar="key=value", help="set a key of the configuration, such as mining.k=32"
    )
    run.add_argument("--output", metavar="DIR", help="folder of the run; run again to go on")
    run.add_argument(
        "--executor",
        choices=["local", "slurm", "beam"],
        default="local",
        help="where shards are done (default: %(default)s); options behind -- go to the runner of beam as they are",
    )
    run.add_argument(
        "--detach", action="store_true", help="with --executor slurm: what waits for the jobs is a job too; come back"
    )
    run.add_argument("--dry-run", action="store_true", help="show what would be done and what it takes; do nothing")
    plan = run.add_argument_group("of a dry run")
    plan.add_argument("--hours", type=float, metavar="H", help="hours of audio (default: what the inputs have)")
    plan.add_argument("--sentences", type=int, metavar="N", help="lines of text (default: what the inputs have)")
    plan.add_argument(
        "--recording-minutes", type=float, metavar="M", help="of a recording (default: as the inputs have)"
    )
    plan.add_argument(
        "--rates-from", metavar="DIR", help="a finished run (default: measure a minute of the inputs now)"
    )
    plan.add_argument("--json", action="store_true", help="for programs")
    run.set_defaults(command=_run)

    status = commands.add_parser("status", help="what of a run is done, running, failed and dropped")
    status.add_argument("run", metavar="DIR", help="folder of the run")
    status.add_argument("--json", action="store_true", help="for programs")
    one = status.add_mutually_exclusive_group()
    one.add_argument("--watch", action="store_true", help="show it anew every two seconds until the run ends")
    one.add_argument(
        "--serve",
        metavar="[HOST:]PORT",
        help="answer /metrics for Prometheus and /status.json over HTTP until Ctrl-C (default host: 127.0.0.1)",
    )
    one.add_argument(
        "--verify", action="store_true", help="prove that nothing is lost: every id, count and checksum of its tables"
    )
    status.set_defaults(command=_status)

    spans = commands.add_parser("spans", help="how many spans a run has, and would have with other settings")
    spans.add_argument("run", metavar="DIR", help="folder of a run that kept its probabilities")
    spans.add_argument(
        "overrides", nargs="*", metavar="key=value", help="to try, such as speech.vad.threshold=0.7; no audio is read"
    )
    spans.add_argument("--picture", metavar="FILE.svg", help="also draw the fragments and spans of one recording")
    spans.add_argument("--recording", metavar="URI", help="which, by uri or id (default: the first with spans)")
    spans.add_argument(
        "--start", type=float, default=0.0, metavar="S", help="of what is drawn, in seconds (default: %(default)s)"
    )
    spans.add_argument("--seconds", type=float, default=60.0, metavar="S", help="so many of it (default: %(default)s)")
    spans.set_defaults(command=_spans)

    report = commands.add_parser("report", help="write one HTML file about a run")
    report.add_argument("run", metavar="DIR", help="folder of the run")
    report.add_argument(
        "--samples", type=int, default=6, help="pairs to listen to, for each direction (default: %(default)s)"
    )
    report.add_argument(
        "--languages",
        metavar="LIST",
        help="a .jsonl or .tsv with path and lang of recordings, to compare with",
    )
    report.set_defaults(command=_report)

    choose = commands.add_parser("filter", help="choose the pairs of a run again, without mining again")
    choose.add_argument("run", metavar="DIR", help="folder of the run")
    rule = choose.add_mutually_exclusive_group()
    rule.add_argument("--threshold", type=float, metavar="MARGIN", help="keep pairs with this margin or more")
    rule.add_argument(
        "--min-precision", type=float, metavar="P", help="keep pairs whose estimated precision is this or more"
    )
    rule.add_argument(
        "--fdr", type=float, metavar="P", help="keep as many as with this estimated share of wrong pairs at most"
    )
    choose.add_argument("--max-hours", type=float, metavar="H", help="of each direction, the best pairs first")
    choose.set_defaults(command=_filter)

    add_exchange_commands(commands)
    add_training_commands(commands)
    add_model_commands(commands)

    models = commands.add_parser("models", help="names of models, where each would come from, fingerprints")
    models.set_defaults(command=_models)
    return parser


def _demo(arguments: argparse.Namespace) -> int:
    from seamlessalign.pipelines.demo import demo

    cache = Path(arguments.cache) if arguments.cache else Path.home() / ".cache" / "seamlessalign"
    return demo(
        Path(arguments.output),
        cache,
        minutes=arguments.minutes,
        distractors=arguments.distractors,
        seed=arguments.seed,
        source=arguments.source,
    )


def _run(arguments: argparse.Namespace) -> int:
    from seamlessalign.config import load_config

    if arguments.behind and not arguments.behind[0].startswith("-"):
        raise ConfigError(f"{arguments.behind[0]!r} behind -- is no option of a runner: write --option=value")
    if arguments.detach and arguments.dry_run:
        raise ConfigError("--detach starts a run and --dry-run does not: give one of both")
    config = load_config(arguments.config, arguments.overrides, arguments.output)
    sizes = {name: getattr(arguments, name) for name in ("hours", "sentences", "recording_minutes", "rates_from")}
    if arguments.dry_run:
        import json

        from seamlessalign.pipelines.plan import Asked, dry_run, dry_run_text, plan_json

        plan = dry_run(config, Asked(**sizes, executor=arguments.executor))
        print(json.dumps(plan_json(plan), indent=1) if arguments.json else dry_run_text(plan))
        return 0
    if given := next((name for name, value in {**sizes, "json": arguments.json or None}.items() if value), None):
        raise ConfigError(f"--{given.replace('_', '-')} is for a plan: add --dry-run")
    if arguments.detach:
        return _detach(arguments, config)
    with uncollected():
        from seamlessalign.pipelines.report import build_report
        from seamlessalign.pipelines.run import run
        from seamlessalign.pipelines.summary import summary_text

    result = run(config, arguments.executor, arguments.behind)
    if result.is_built_only:
        print("the job's graph is built; nothing was done")
        return 0
    print(summary_text(result))
    print(f"report: {build_report(result.folder.root)}")
    return result.exit_status


def _detach(arguments: argparse.Namespace, config: "RunConfig") -> int:
    if arguments.executor != "slurm":
        raise ConfigError("--detach needs --executor slurm")
    if arguments.behind:
        raise ConfigError(f"{arguments.behind[0]}: options of a runner need --executor beam")
    from seamlessalign.pipelines.slurm_driver import detach

    words = ["run", str(Path(arguments.config).absolute()), *arguments.overrides, "--executor", "slurm"]
    words += ["--output", arguments.output] if arguments.output else []
    job = detach(config, ["--debug", *words] if arguments.debug else words)
    print(f"driven by job {job}; how far it is: seamlessalign status {config.output}")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    import json

    if arguments.json and (arguments.watch or arguments.serve is not None):
        raise ConfigError("--json tells the status once: leave --watch and --serve out")
    if arguments.verify:
        return _verify(arguments)
    if arguments.serve is not None:
        from seamlessalign.pipelines.metrics import serve

        return serve(arguments.run, arguments.serve)
    from seamlessalign.pipelines.status import read_status
    from seamlessalign.pipelines.status_screen import has_colours, status_text, watch

    if arguments.watch:
        watch(arguments.run)
        return 0
    status = read_status(arguments.run)
    colours = sys.stdout.isatty() and has_colours()
    print(json.dumps(status, indent=1) if arguments.json else status_text(status, colours=colours))
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    import dataclasses
    import json

    from seamlessalign.pipelines.verify import check_text, verify_run

    checks = []
    for check in verify_run(arguments.run):
        checks.append(check)
        if not arguments.json:
            print(check_text(check), flush=True)
    wrong = sum(len(check.wrong) for check in checks)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(check) for check in checks], indent=1))
    else:
        print(f"{arguments.run}: {f'{wrong} differences' if wrong else 'nothing is lost'}")
    return 1 if wrong else 0


def _spans(arguments: argparse.Namespace) -> int:
    from seamlessalign.pipelines.span_counts import draw_spans, spans_text

    print(spans_text(arguments.run, arguments.overrides))
    if arguments.picture:
        window = arguments.start, arguments.start + arguments.seconds
        drawn = draw_spans(arguments.run, arguments.overrides, arguments.picture, arguments.recording, *window)
        print(f"\npicture of {drawn}: {arguments.picture}")
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from seamlessalign.pipelines.known_languages import read_language_list, write_known_languages
    from seamlessalign.pipelines.report import build_report, check_run

    if arguments.languages is not None:
        known = read_language_list(arguments.languages)
        check_run(arguments.run)
        write_known_languages(arguments.run, known)
    print(build_report(arguments.run, samples_per_direction=arguments.samples))
    return 0


def _filter(arguments: argparse.Namespace) -> int:
    from seamlessalign.pipelines.refilter import refilter
    from seamlessalign.pipelines.report import build_report
    from seamlessalign.pipelines.summary import summary_text

    result = refilter(
        arguments.run,
        threshold=arguments.threshold,
        min_precision=arguments.min_precision,
        fdr=arguments.fdr,
        max_hours=arguments.max_hours,
    )
    print(summary_text(result))
    print(f"report: {build_report(result.folder.root)}")
    return result.exit_status


def _models(arguments: argparse.Namespace) -> int:
    from seamlessalign.model_files import describe_models

    print(describe_models())
    return 0


def _quieten() -> None:
    """Let through only errors of libraries, and our own warnings in our own form."""
    log_redacted(logging.ERROR)
    logging.getLogger("seamlessalign").setLevel(logging.WARNING)


def _complain(message: str, debug: bool, trace: str | None = None) -> None:
    if debug:
        print(redact(trace or traceback.format_exc()), file=sys.stderr)
    print(f"seamlessalign: {' '.join(redact(message).split())}", file=sys.stderr)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "no message")


if __name__ == "__main__":
    sys.exit(main())
