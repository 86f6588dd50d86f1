"""CoVoST 2 as it is distributed: clips of Common Voice 4, from 21 languages into English, from it into 15.

`covost_v2.fr_en.tsv` has `path`, `translation` and `split`; what is said comes from Common Voice's `validated.tsv`. Or
the tables that its own program makes of both, `covost_v2.fr_en.test.tsv` with `path`, `sentence`, `translation` and
`client_id`. Either lies in the folder or in one that is named for the source; Common Voice beside it, or where
`common_voice` says.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from seamlessalign.errors import ConfigError, InputError
from seamlessalign.languages import find_language
from seamlessalign.training.evaluation.datasets.choice import Entry, Read, Wanted, take
from seamlessalign.training.evaluation.datasets.common_voice import escaped_rows, read_clips
from seamlessalign.training.evaluation.datasets.covered import COVOST_FROM_ENGLISH, COVOST_TO_ENGLISH
from seamlessalign.training.evaluation.datasets.hub import hub_configs, hub_values
from seamlessalign.training.evaluation.datasets.pairs import wanted_pairs

SPLITS = ("train", "dev", "test")
PAIRS = tuple((lang, "en") for lang in COVOST_TO_ENGLISH) + tuple(("en", lang) for lang in COVOST_FROM_ENGLISH)
_TASKS = ("asr", "s2tt", "t2tt")


@dataclass(frozen=True)
class _Place:
    """Where the table of a pair lies, and whether it has one split and what is said, or all."""

    file: Path
    split: bool


def read_covost(path: str, wanted: Wanted, common_voice: str | None = None) -> Read:
    """Rows from a folder of CoVoST 2. Raises ConfigError, InputError."""
    _check(wanted)
    root = Path(path)
    places = {pair: place for pair in PAIRS if (place := _place(root, pair, wanted.split)) is not None}
    if not places:
        raise InputError(f"{path}: has no tables such as covost_v2.fr_en.tsv or covost_v2.fr_en.{wanted.split}.tsv")
    read = Read(notes=[f"{len(places)} of the {len(PAIRS)} directions of CoVoST 2 are there"])
    roots = [root] if common_voice is None else [Path(common_voice), root]
    for pair in wanted_pairs(places, wanted, path):
        _take(read, _entries(places[pair], pair, roots, wanted), pair, wanted)
    return read


def read_covost_hub(name: str, wanted: Wanted) -> Read:
    """The same of a data set that the package datasets loads, with configurations such as `fr_en`."""
    _check(wanted)
    there = {pair for pair in PAIRS if "_".join(pair) in set(hub_configs(name))}
    if not there:
        raise InputError(f"{name}: has no configurations of CoVoST 2, such as fr_en")
    read = Read()
    for pair in wanted_pairs(sorted(there), wanted, name):
        _take(read, _from_hub(name, pair, wanted), pair, wanted)
    return read


def _take(read: Read, entries: Iterator[Entry], pair: tuple[str, str], wanted: Wanted) -> None:
    src, tgt = (find_language(code).iso639_3 for code in pair)
    tgt = src if wanted.task == "asr" else tgt
    take(read, entries, src, tgt, wanted, f"{src}-{tgt}")


def _check(wanted: Wanted) -> None:
    if wanted.split not in SPLITS:
        raise ConfigError(f"rows.split is {wanted.split!r}: CoVoST 2 has {', '.join(SPLITS)}")
    if wanted.task not in _TASKS:
        raise ConfigError(
            f"rows.task is {wanted.task}: CoVoST 2 has no speech of translations; it serves asr, s2tt, t2tt"
        )


def _place(root: Path, pair: tuple[str, str], split: str) -> _Place | None:
    name = f"covost_v2.{'_'.join(pair)}"
    for folder in (root, root / pair[0]):
        for file, whole in ((f"{name}.{split}.tsv", True), (f"{name}.tsv", False)):
            if (folder / file).is_file():
                return _Place(folder / file, whole)
    return None


def _entries(place: _Place, pair: tuple[str, str], roots: list[Path], wanted: Wanted) -> Iterator[Entry]:
    clips = read_clips((place.file.parent, *roots), pair[0])
    if not place.split and clips.sentences is None:
        raise InputError(
            f"{place.file}: says only translations, and there is no validated.tsv of Common Voice 4 ({pair[0]}): "
            "give its folder as rows.common_voice"
        )
    sentences: Mapping[str, str] = clips.sentences or {}
    columns = ("path", "translation", "sentence" if place.split else "split")
    for row in escaped_rows(place.file, columns):
        if not place.split and not _of_split(row["split"], wanted.split):
            continue
        said = row["sentence"] if place.split else sentences.get(row["path"])
        yield Entry(
            Path(row["path"]).stem,
            src_text=said,
            src_sound=clips.sound(row["path"]),
            tgt_text=row["translation"],
            group=said,
            reason="not_in_common_voice" if said is None else None,
        )


def _of_split(value: str, split: str) -> bool:
    """Training has more than Common Voice's own split, testing does not."""
    return value == split or (split == "train" and value == "train_covost")


def _from_hub(name: str, pair: tuple[str, str], wanted: Wanted) -> Iterator[Entry]:
    split = "validation" if wanted.split == "dev" else wanted.split
    for where, values, sound in hub_values(name, "_".join(pair), split, "audio"):
        absent = [column for column in ("id", "sentence", "translation") if values.get(column) is None]
        if absent:
            raise InputError(f"{where}: has no {absent[0]}, but {', '.join(values)}")
        said = str(values["sentence"])
        yield Entry(str(values["id"]), src_text=said, src_sound=sound, tgt_text=str(values["translation"]), group=said)
