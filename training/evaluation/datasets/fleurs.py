"""FLEURS as it is distributed: recordings of FLORES's sentences in 102 languages, each by up to three people.

`data/fr_fr/test.tsv` has, without a header: the number of the sentence, which is the same in all languages; the file;
the sentence as it is written; the same normalised; its characters; samples; MALE, FEMALE or OTHER. Recordings are in
`data/fr_fr/audio/test.tar.gz`, or unpacked in `data/fr_fr/audio/test/`. Sentences as they are written are transcripts
and references.
"""

import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from seamlessalign.errors import ConfigError, InputError
from seamlessalign.speech_sources import Sound, text_lines
from seamlessalign.training.evaluation.datasets.choice import Entry, Read, Wanted, directions, take
from seamlessalign.training.evaluation.datasets.covered import FLEURS, languages_of
from seamlessalign.training.evaluation.datasets.hub import hub_configs, hub_values

SPLITS = ("train", "dev", "test")
_COLUMNS = 7


@dataclass(frozen=True)
class Utterance:
    """A recording of a sentence."""

    sentence: str  # its number
    name: str  # of the file, without its suffix
    text: str
    sound: Sound | None  # None where the set lacks it


def read_fleurs(path: str, wanted: Wanted) -> Read:
    """Rows from a folder of FLEURS. Raises ConfigError, InputError."""
    _check(wanted)
    root = next((folder for folder in (Path(path) / "data", Path(path)) if _locales(folder)), None)
    if root is None:
        raise InputError(f"{path}: has no folders of FLEURS such as fr_fr, each with test.tsv")
    names = languages_of(_locales(root))
    pairs = directions(names, (), wanted, str(root))
    kept: dict[str, list[Utterance]] = {}  # a source is the target of many at most once in a row
    read = Read(notes=[f"{len(names)} of the {len(FLEURS)} languages of FLEURS are there"])
    for src, tgt in pairs:
        for own in (src, tgt):
            if own not in kept:
                kept[own] = _utterances(root / own, wanted.split)
        _take(read, kept[src], kept[tgt], (names[src], names[tgt]), wanted)
    return read


def read_fleurs_hub(name: str, wanted: Wanted) -> Read:
    """The same of a data set that the package datasets loads, with a configuration of each language."""
    _check(wanted)
    split = "validation" if wanted.split == "dev" else wanted.split
    names = languages_of(one for one in hub_configs(name) if one in FLEURS)
    if not names:
        raise InputError(f"{name}: has no configurations of FLEURS, such as fr_fr")
    pairs = directions(names, (), wanted, name)
    kept: dict[str, list[Utterance]] = {}
    read = Read()
    for src, tgt in pairs:
        for own in (src, tgt):
            if own not in kept:
                kept[own] = list(_from_hub(name, own, split))
        _take(read, kept[src], kept[tgt], (names[src], names[tgt]), wanted)
    return read


def _take(
    read: Read, src: Sequence[Utterance], tgt: Sequence[Utterance], langs: tuple[str, str], wanted: Wanted
) -> None:
    take(read, _joined(src, tgt, wanted), *langs, wanted, f"{langs[0]}-{langs[1]}")


def _joined(src: Iterable[Utterance], tgt: Iterable[Utterance], wanted: Wanted) -> Iterator[Entry]:
    """Every recording of the source, or every sentence, with the first of the target that says the same."""
    said: dict[str, Utterance] = {}
    for one in tgt:
        held = said.get(one.sentence)
        if held is None or (held.sound is None and one.sound is not None):
            said[one.sentence] = one
    done = set[str]()
    for one in src:
        if not wanted.speech_in:
            if one.sentence in done:
                continue
            done.add(one.sentence)
        other = said.get(one.sentence)
        yield Entry(
            one.name if wanted.speech_in else one.sentence,
            src_text=one.text,
            src_sound=one.sound,
            tgt_text=None if other is None else other.text,
            tgt_sound=None if other is None else other.sound,
            group=one.sentence if wanted.speech_in else None,
            reason="sentence_not_in_target" if other is None else None,
        )


def _check(wanted: Wanted) -> None:
    if wanted.split not in SPLITS:
        raise ConfigError(f"rows.split is {wanted.split!r}: FLEURS has {', '.join(SPLITS)}")


def _locales(root: Path) -> list[str]:
    return [name for name in FLEURS if (root / name).is_dir()]


def _utterances(folder: Path, split: str) -> list[Utterance]:
    file = folder / f"{split}.tsv"
    if not file.is_file():
        raise InputError(f"{file}: is not there: fetch the split {split} of {folder.name}")
    sounds = _sounds(folder, split)
    found = []
    for number, line in enumerate(text_lines(str(file))):
        values = line.removesuffix("\r").split("\t")
        if len(values) != _COLUMNS or not values[0].isdecimal() or not values[2]:
            raise InputError(
                f"{file} line {number + 1}: is no line of FLEURS, which has {_COLUMNS} columns: a number, a file, a "
                f"sentence …; this has {len(values)}; fetch it anew"
            )
        found.append(Utterance(values[0], values[1].removesuffix(".wav"), values[2], sounds(values[1])))
    if not found:
        raise InputError(f"{file}: has no lines; fetch it anew")
    return found


def _sounds(folder: Path, split: str) -> Callable[[str], Sound | None]:
    """The recording of a file's name, where it is there."""
    unpacked = folder / "audio" / split
    if unpacked.is_dir():
        there = {file.name for file in unpacked.iterdir()}
        return lambda name: Sound(str(unpacked / name)) if name in there else None
    for suffix in (".tar.gz", ".tar"):
        if (file := folder / "audio" / f"{split}{suffix}").is_file():
            begin = f"{file}::{_folder_in(file)}"
            return lambda name: Sound(begin + name)
    return lambda _: None


def _folder_in(archive: Path) -> str:
    """Where recordings lie in a tar file, by the first: it need not be unpacked before one is wanted."""
    try:
        with tarfile.open(archive, "r|*") as tar:
            first = next((member.name for member in tar if member.isreg()), None)
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"{archive}: is no tar file that can be read: {error}; fetch it anew") from error
    if first is None:
        raise InputError(f"{archive}: has no files in it; fetch it anew")
    inside, slash, _ = first.rpartition("/")
    return inside + slash


def _from_hub(name: str, config: str, split: str) -> Iterator[Utterance]:
    for where, values, sound in hub_values(name, config, split, "audio"):
        sentence, text = values.get("id"), values.get("raw_transcription")
        if sentence is None or text is None:
            raise InputError(f"{where}: needs id and raw_transcription, and has {', '.join(values)}")
        file = str(values.get("path") or f"{sentence}-{where.rpartition(' ')[2]}")
        yield Utterance(str(sentence), Path(file).stem, str(text), sound)
