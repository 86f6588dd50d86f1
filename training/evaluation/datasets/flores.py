"""FLORES-200 as it is distributed, a sentence a line; and FLORES+, a JSON object a line or Parquet.

`dev/fra_Latn.dev`, `devtest/zho_Hans.devtest`, and so on; or `dev/fra_Latn.jsonl`, `devtest/cmn_Hans.parquet`, with
`id` and `text`. Sentences belong together by line, or by id. A language may have two files: `zho_Hans` and `zho_Hant`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from seamlessalign.errors import ConfigError, InputError
from seamlessalign.languages import all_languages, find_language
from seamlessalign.speech_sources import manifest_rows, parquet_rows, text_lines
from seamlessalign.training.evaluation.datasets.choice import Entry, Read, Wanted, directions, take
from seamlessalign.training.evaluation.datasets.hub import hub_configs, hub_values

SENTENCES = {"dev": 997, "devtest": 1012}
_SUFFIXES = (".jsonl", ".parquet")  # of FLORES+
_USUAL = frozenset(language.sonar for language in all_languages()) | {"cmn_Hans"}  # of languages with several files


def read_flores(path: str, wanted: Wanted) -> Read:
    """Rows of text from a folder of FLORES-200 or FLORES+. Raises ConfigError, InputError."""
    folder = _split_folder(Path(path), wanted.split)
    files = {file.stem: file for file in sorted(folder.iterdir()) if file.suffix in (f".{wanted.split}", *_SUFFIXES)}
    names = {name: lang for name in files if (lang := _language(name)) is not None}
    if not names:
        raise InputError(f"{folder}: has no files such as fra_Latn.{wanted.split}")

    def texts(name: str) -> dict[str, str]:
        return _texts(files[name])

    return _read(names, texts, wanted, str(folder))


def read_flores_hub(name: str, wanted: Wanted) -> Read:
    """The same of a data set that the package datasets loads, with a configuration of each language."""
    names = {own: lang for own in hub_configs(name) if (lang := _language(own)) is not None}
    if not names:
        raise InputError(f"{name}: has no configurations of FLORES+, such as fra_Latn")

    def texts(own: str) -> dict[str, str]:
        values = hub_values(name, own, wanted.split)
        return _by_id(((f"{name} {own} {where}", row) for where, row, _ in values), f"{name} {own}")

    return _read(names, texts, wanted, name)


def _read(names: Mapping[str, str], texts: Any, wanted: Wanted, place: str) -> Read:
    if wanted.task != "t2tt":
        raise ConfigError(f"rows.task is {wanted.task}: FLORES has texts alone, which serve t2tt")
    _check(wanted.split)
    pairs = directions(names, _USUAL, wanted, place)
    read, held = Read(), dict[str, dict[str, str]]()
    for own in dict.fromkeys(name for pair in pairs for name in pair):
        held[own] = texts(own)
    sizes = {name: len(some) for name, some in held.items()}
    if len(set(sizes.values())) > 1:
        fewest, most = min(sizes, key=lambda name: sizes[name]), max(sizes, key=lambda name: sizes[name])
        raise InputError(
            f"{place}: {fewest} has {sizes[fewest]} sentences and {most} {sizes[most]}: they belong "
            "together one by one; fetch them anew"
        )
    size = next(iter(sizes.values()))
    if size != SENTENCES[wanted.split]:
        read.notes.append(
            f"{wanted.split} has {size:,} sentences here; as published it has {SENTENCES[wanted.split]:,}"
        )
    for src, tgt in pairs:
        entries = _joined(held[src], held[tgt])
        take(read, entries, names[src], names[tgt], wanted, f"{src}-{tgt}")
    return read


def _joined(src: Mapping[str, str], tgt: Mapping[str, str]) -> Iterator[Entry]:
    for key in dict.fromkeys([*src, *tgt]):
        reason = "no_source" if key not in src else "no_target" if key not in tgt else None
        yield Entry(key, src_text=src.get(key), tgt_text=tgt.get(key), reason=reason)


def _split_folder(path: Path, split: str) -> Path:
    _check(split)
    for folder in (path / split, path / "flores200_dataset" / split):
        if folder.is_dir():
            return folder
    raise InputError(f"{path}: has no folder {split} of FLORES, as flores200_dataset has it")


def _check(split: str) -> None:
    if split not in SENTENCES:
        raise ConfigError(f"rows.split is {split!r}: FLORES has {', '.join(SENTENCES)}")


def _language(name: str) -> str | None:
    """ISO 639-3 of `zho_Hant`; None for a language, or something else, that the table does not have."""
    try:
        return find_language(name).iso639_3
    except ConfigError:
        return None


def _texts(file: Path) -> dict[str, str]:
    if file.suffix == ".jsonl":
        return _by_id(((f"{file} row {i}", row) for i, row in enumerate(manifest_rows(file))), str(file))
    if file.suffix == ".parquet":
        rows = parquet_rows(str(file), lambda _, names: [name for name in names if name in ("id", "text")])
        return _by_id(((f"{file} row {i}", values) for _, i, values in rows), str(file))
    lines = text_lines(str(file))
    empty = [number + 1 for number, line in enumerate(lines) if not line.strip()]
    if empty:
        raise InputError(f"{file} line {empty[0]}: is empty, and every line is a sentence; fetch it anew")
    return {str(number): line.removesuffix("\r") for number, line in enumerate(lines)}


def _by_id(rows: Iterator[tuple[str, Mapping[str, Any]]], place: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for where, values in rows:
        key, text = values.get("id"), values.get("text")
        if key is None or text is None:
            raise InputError(f"{where}: needs id and text, and has {', '.join(map(str, values))}")
        if str(key) in found:
            raise InputError(f"{place}: the id {key} is there twice")
        found[str(key)] = str(text)
    if not found:
        raise InputError(f"{place}: has no rows")
    return found
