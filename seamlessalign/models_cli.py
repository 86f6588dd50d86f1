"""The part of the command line that uses trained models: units, speech of them, translations, and how good they are."""

import argparse
import sys
from typing import Any

from seamlessalign.errors import ConfigError


def add_model_commands(commands: Any) -> None:
    """Add them to the subparsers of the program."""
    _add_units(commands)
    _add_speak(commands)
    _add_translate(commands)
    _add_evaluate(commands)


def _say(line: str) -> None:
    print(f"seamlessalign: {line}", file=sys.stderr, flush=True)


# Units of speech that no run has


def _add_units(commands: Any) -> None:
    units = commands.add_parser("units", help="speech as discrete units, with what `train units` found")
    units.add_argument(
        "input", metavar="INPUT", help="Parquet: a file, a folder of them or a pattern; or a .tsv or .jsonl manifest"
    )
    units.add_argument("--model", required=True, metavar="DIR", help="directory that `train units` wrote")
    units.add_argument("--to", required=True, metavar="FILE.parquet", help="file to write")
    units.add_argument("--audio-column", metavar="NAME", help="(default: audio; path of a manifest)")
    units.add_argument("--lang", metavar="LANG", help="language of rows that do not say it")
    units.add_argument("--lang-column", default="lang", metavar="NAME", help="(default: %(default)s)")
    units.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="COLUMN",
        help="copy this column too; of a manifest, audio is what its files hold; may be repeated",
    )
    units.add_argument(
        "--models", action="append", default=[], metavar="NAME=DIR", help="where a model lies that makes the frames"
    )
    units.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="(default: %(default)s)")
    units.add_argument("--threads", type=int, metavar="N", help="of torch")
    units.set_defaults(command=_units)


def _units(arguments: argparse.Namespace) -> int:
    from seamlessalign.training.units.files import read_card

    wrong = next((given for given in arguments.models if "=" not in given), None)
    if wrong is not None:
        raise ConfigError(f"--models {wrong}: write NAME=DIR")
    if arguments.threads is not None and arguments.threads < 1:
        raise ConfigError(f"--threads is {arguments.threads}: it must be 1 or more")
    read_card(arguments.model)  # before torch is loaded: what is wrong is told at once
    from seamlessalign.training.units.extractor import UnitExtractor, device_of
    from seamlessalign.training.units.tables import source_of, write_units

    models = dict(given.split("=", 1) for given in arguments.models)
    extractor = UnitExtractor.load(arguments.model, models, device_of(arguments.device), arguments.threads)
    source = source_of(arguments.input, arguments.audio_column, arguments.lang, arguments.lang_column)
    done = write_units(source, extractor, arguments.to, arguments.keep, _say)
    print(f"units: {arguments.to}, {done.rows:,} rows, {done.frames / 50 / 3600:.3f} h")
    for reason, count in sorted(done.set_aside.items()):
        print(f"seamlessalign: {count:,} set aside: {reason}", file=sys.stderr)
    return 3 if done.set_aside else 0


# Speech of units


def _add_speak(commands: Any) -> None:
    speak = commands.add_parser("speak", help="speech of units, with a vocoder that `train vocoder` taught")
    speak.add_argument(
        "input", metavar="UNITS", help="Parquet: a file, a folder of them or a pattern, as `units` and runs write it"
    )
    speak.add_argument("--vocoder", required=True, metavar="DIR", help="directory that `train vocoder` wrote")
    speak.add_argument("--to", required=True, metavar="FOLDER", help="for sound files and their manifest")
    speak.add_argument("--lang", metavar="LANG", help="language of all rows (default: what they say)")
    speak.add_argument("--speaker", metavar="NAME", help="of all rows (default: what they say, else the first)")
    speak.add_argument(
        "--timed", action="store_true", help="units last as long as the table says (default: as the vocoder finds)"
    )
    speak.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="(default: %(default)s)")
    speak.set_defaults(command=_speak)


def _speak(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from seamlessalign.training.units.extractor import device_of
    from seamlessalign.training.vocoder.model import load_vocoder
    from seamlessalign.training.vocoder.speaking import speak_table

    vocoder = load_vocoder(arguments.vocoder, device_of(arguments.device))
    done = speak_table(
        arguments.input,
        vocoder,
        Path(arguments.to),
        lang=arguments.lang,
        speaker=arguments.speaker,
        timed=arguments.timed,
        say=_say,
    )
    print(f"speech: {arguments.to}, {done.rows:,} rows, {done.seconds / 3600:.3f} h")
    for reason, count in sorted(done.set_aside.items()):
        print(f"seamlessalign: {count:,} set aside: {reason}", file=sys.stderr)
    return 3 if done.set_aside else 0


# Translating with what was trained

# what of a table → the columns where it is looked for
_COLUMNS = {
    "id": "id or pair_id, else the number of the row",
    "audio": "audio, path or src_audio",
    "text": "text or src_text, where there is no audio",
    "src-lang": "src_lang or lang",
    "tgt-lang": "tgt_lang",
}


def _add_translate(commands: Any) -> None:
    translate = commands.add_parser("translate", help="translate speech or text, one or a table, with a trained model")
    translate.add_argument("model", metavar="MODEL", help="folder of the model")
    translate.add_argument(
        "input",
        metavar="INPUT",
        help="a sound file; a table: .jsonl, .tsv or .parquet, or a folder of the latter; with --text, a text",
    )
    translate.add_argument("--text", action="store_true", help="INPUT is the text itself")
    translate.add_argument("--to", metavar="LANG", help="language to translate into (rows of a table may say it)")
    translate.add_argument("--from", dest="source", metavar="LANG", help="language of texts (likewise)")
    translate.add_argument(
        "--output", metavar="PATH", help="of a table: folder to write into, to go on in; else: .wav file for the speech"
    )
    translate.add_argument("--text-only", action="store_true", help="make no speech of a table")
    translate.add_argument("--vocoder", metavar="DIR", help="folder of a vocoder (default: the one in the model)")
    translate.add_argument("--speaker", type=int, default=0, metavar="N", help="of the vocoder (default: %(default)s)")
    translate.add_argument(
        "--subtitles", metavar="FILE", help="of a sound file: .srt or .vtt for the text with its times"
    )
    translate.add_argument(
        "--max-seconds",
        type=float,
        default=50.0,
        metavar="S",
        help="a longer sound file is cut at its pauses, a longer row of a table refused (default: %(default)s)",
    )
    translate.add_argument(
        "--stretch-seconds",
        type=float,
        default=20.0,
        metavar="S",
        help="longest stretch of a sound file that is cut (default: %(default)s)",
    )
    translate.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="(default: %(default)s)")
    translate.add_argument(
        "--precision", choices=["no", "fp16", "bf16"], default="no", help="(default: %(default)s, which is float32)"
    )
    search = translate.add_argument_group("search")
    search.add_argument(
        "--beam", type=int, default=5, metavar="N", help="for text and for units; 1 is greedy (default: %(default)s)"
    )
    search.add_argument(
        "--length-penalty", type=float, default=1.0, metavar="P", help="the higher, the longer (default: %(default)s)"
    )
    search.add_argument(
        "--no-repeat-ngram", type=int, default=0, metavar="N", help="no N tokens of a text twice (default: any)"
    )
    table = translate.add_argument_group("tables")
    for what, usual in _COLUMNS.items():
        table.add_argument(f"--{what}-column", metavar="NAME", help=f"(default: {usual})")
    table.add_argument("--format", choices=["parquet", "jsonl"], default="parquet", help="(default: %(default)s)")
    table.add_argument(
        "--chunk", type=int, default=256, metavar="N", help="rows that are written at a time (default: %(default)s)"
    )
    table.add_argument(
        "--batch", type=int, default=32, metavar="N", help="rows that are translated at a time (default: %(default)s)"
    )
    translate.set_defaults(command=_translate)


def _translate(arguments: argparse.Namespace) -> int:
    from seamlessalign.training.unity.source_tables import is_table

    if not arguments.text and is_table(arguments.input):
        return _translate_table(arguments)
    if not arguments.text:
        return _translate_recording(arguments)
    from seamlessalign.pipelines.long_speech import check_files
    from seamlessalign.training.unity.translate import translate_one, write_speech

    if arguments.subtitles is not None:
        raise ConfigError("--subtitles is for sound files: a text has no times")
    check_files(arguments.output, None)
    translation = translate_one(_job(arguments, speak=arguments.output is not None), arguments.input)
    print(translation.text)
    if arguments.output is not None:
        write_speech(arguments.output, translation)
    return 0


def _translate_recording(arguments: argparse.Namespace) -> int:
    from seamlessalign.pipelines.long_speech import translate_recording

    done = translate_recording(
        _job(arguments, speak=arguments.output is not None),
        arguments.input,
        output=arguments.output,
        subtitles=arguments.subtitles,
        stretch_seconds=arguments.stretch_seconds,
        say=lambda text: print(text, flush=True),
        progress=_say,
    )
    for reason, count in done.set_aside.items():
        _say(f"{count:,} of {done.stretches:,} stretches without speech: {reason}")
    return 3 if done.set_aside else 0


def _translate_table(arguments: argparse.Namespace) -> int:
    from seamlessalign.errors import ConfigError
    from seamlessalign.training.unity.source_tables import Columns, SourceTable

    if arguments.subtitles is not None:
        raise ConfigError("--subtitles is for sound files, not for tables")
    if arguments.output is None:
        raise ConfigError(f"{arguments.input}: is a table; give --output, a folder for its translations")
    names = {what.replace("-", "_"): getattr(arguments, f"{what.replace('-', '_')}_column") for what in _COLUMNS}
    table = SourceTable(arguments.input, Columns(**names))
    from seamlessalign.training.unity.translate import translate_table

    done = translate_table(table, arguments.output, _job(arguments, speak=not arguments.text_only), _say)
    print(f"translations: {done.path}, {done.rows:,} rows")
    for reason, count in done.set_aside.items():
        _say(f"{count:,} set aside: {reason} (first: {done.first[reason]})")
    return 3 if done.set_aside else 0


def _job(arguments: argparse.Namespace, *, speak: bool) -> Any:
    from dataclasses import replace

    from seamlessalign.errors import ConfigError
    from seamlessalign.training.unity.generation import TEXT_SEARCH, UNIT_SEARCH, BatchLimits
    from seamlessalign.training.unity.translate import TranslationJob

    if not arguments.max_seconds > 0:
        raise ConfigError(f"--max-seconds is {arguments.max_seconds:g}: it must be above 0")
    for name in ("chunk", "batch"):
        if getattr(arguments, name) < 1:
            raise ConfigError(f"--{name} is {getattr(arguments, name)}: it must be 1 or more")
    shared = {"beam": arguments.beam, "length_penalty": arguments.length_penalty}
    return TranslationJob(
        model=arguments.model,
        tgt_lang=arguments.to,
        src_lang=arguments.source,
        speak=speak,
        speaker=arguments.speaker,
        vocoder=arguments.vocoder,
        text_search=replace(TEXT_SEARCH, **shared, no_repeat_ngram=arguments.no_repeat_ngram),
        unit_search=replace(UNIT_SEARCH, **shared),
        max_seconds=arguments.max_seconds,
        chunk=arguments.chunk,
        format=arguments.format,
        device=arguments.device,
        precision=arguments.precision,
        batches=BatchLimits(rows=arguments.batch),
    )


# What systems made of a test set


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser("evaluate", help="measure what systems made of a test set, with intervals")
    evaluate.add_argument("config", nargs="?", metavar="CONFIG.yaml", help="rows, systems and measures")
    evaluate.add_argument(
        "overrides", nargs="*", metavar="key=value", help="set a key of the configuration, such as resampling.seed=1"
    )
    evaluate.add_argument(
        "--compare",
        nargs=2,
        metavar=("A", "B"),
        help="compare two evaluations instead: their folders, or FOLDER:SYSTEM",
    )
    evaluate.add_argument(
        "--to", metavar="FOLDER", help="of --compare: write comparison.json and comparison.html there"
    )
    evaluate.add_argument("--page", metavar="FOLDER", help="make the page of an evaluation again instead")
    evaluate.add_argument(
        "--rows-to",
        metavar="FILE",
        help="write the rows instead, for systems to translate: .parquet with their sound, or .jsonl with its paths",
    )
    evaluate.add_argument(
        "--noisy-to",
        metavar="DIR",
        help="write the rows with the noise of CONFIG.yaml into a folder instead, for systems that are run elsewhere",
    )
    evaluate.set_defaults(command=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> int:
    if sum(one is not None for one in (arguments.config, arguments.compare, arguments.page)) != 1:
        raise ConfigError("evaluate wants either CONFIG.yaml, or --compare A B, or --page FOLDER")
    if arguments.config is None and (arguments.rows_to or arguments.noisy_to):
        raise ConfigError("--rows-to and --noisy-to are for the rows of a CONFIG.yaml: give it")
    if arguments.to and not arguments.compare:
        raise ConfigError("--to goes with --compare A B: an evaluation is written to the output of its configuration")
    if arguments.page:
        from seamlessalign.training.evaluation.pages.page import build_page

        print(build_page(arguments.page))
        return 0
    if arguments.compare:
        from seamlessalign.training.evaluation import compare

        first, second = arguments.compare
        found = compare.compare(first, second)
        if arguments.to:
            from seamlessalign.training.evaluation.pages.comparison_page import write_comparison

            write_comparison(found, arguments.to)
        print(compare.table(found))
        return 0
    from seamlessalign.training.evaluation.config import load_evaluation_config

    if arguments.rows_to is not None:
        from seamlessalign.training.evaluation.rows_table import write_rows_of

        config = load_evaluation_config(arguments.config, arguments.overrides)
        return write_rows_of(config, arguments.rows_to, _say)
    if arguments.noisy_to:
        from seamlessalign.training.evaluation.robustness.noisy_set import write_noisy_set

        config = load_evaluation_config(arguments.config, arguments.overrides)
        made = write_noisy_set(config, arguments.noisy_to, _say)
        for condition, folder in made.folders.items():
            print(f"{condition}: {folder}")
        for one in made.set_aside:
            _say(f"{one['condition']}, {one['id']} set aside: {one['reason']} ({one['detail']})")
        return 3 if made.set_aside else 0
    from seamlessalign.training.evaluation import evaluate, results

    config = load_evaluation_config(arguments.config, arguments.overrides)
    result = evaluate.evaluate(config, _say)
    print(results.table(result))
    lost = results.set_aside(result)
    for line in lost:
        _say(line)
    _say(f"the page is {config.output.rstrip('/')}/evaluation.html")
    return 3 if lost else 0
