"""CVSS as it is distributed (C or T): English speech of the translations of CoVoST 2, from 21 languages.

`fr_en/test.tsv`, or `cvss_c_fr_en_v1.0/test.tsv`, has a clip of Common Voice 4 and its translation as it is spoken; the
speech is in `test/common_voice_fr_19176154.mp3.wav` beside it. What the clip itself says comes from Common Voice.
"""

from collections.abc import Iterator
from pathlib import Path

from seamlessalign.errors import ConfigError, InputError
from seamlessalign.languages import find_language
from seamlessalign.speech_sources import Sound, text_lines
from seamlessalign.training.evaluation.datasets.choice import Entry, Read, Wanted, take
from seamlessalign.training.evaluation.datasets.common_voice import read_clips
from seamlessalign.training.evaluation.datasets.covered import CVSS
from seamlessalign.training.evaluation.datasets.pairs import wanted_pairs

SPLITS = ("train", "dev", "test")
_TASKS = ("s2st", "s2tt")


def read_cvss(path: str, wanted: Wanted, common_voice: str | None = None) -> Read:
    """Rows from a folder of CVSS. Raises ConfigError, InputError."""
    if wanted.split not in SPLITS:
        raise ConfigError(f"rows.split is {wanted.split!r}: CVSS has {', '.join(SPLITS)}")
    if wanted.task not in _TASKS:
        raise ConfigError(f"rows.task is {wanted.task}: CVSS serves {', '.join(_TASKS)}")
    root = Path(path)
    folders = {
        (lang, "en"): folder for lang in CVSS if (folder := _folder(root, lang, f"{wanted.split}.tsv")) is not None
    }
    if not folders:
        raise InputError(f"{path}: has no folders of CVSS such as fr_en or cvss_c_fr_en_v1.0, with {wanted.split}.tsv")
    read = Read(notes=[f"{len(folders)} of the {len(CVSS)} languages of CVSS are there"])
    roots = [root] if common_voice is None else [Path(common_voice), root]
    for pair in wanted_pairs(folders, wanted, path):
        src = find_language(pair[0]).iso639_3
        take(read, _entries(folders[pair], pair[0], roots, wanted.split), src, "eng", wanted, f"{src}-eng")
    return read


def _folder(root: Path, lang: str, table: str) -> Path | None:
    found = [
        folder
        for name in (f"{lang}_en", f"cvss_c_{lang}_en_v1.0", f"cvss_t_{lang}_en_v1.0")
        if ((folder := root / name) / table).is_file()
    ]
    if len(found) > 1:
        raise InputError(f"{root}: has {' and '.join(folder.name for folder in found)}: give CVSS-C or CVSS-T its own")
    return found[0] if found else None


def _entries(folder: Path, lang: str, roots: list[Path], split: str) -> Iterator[Entry]:
    clips = read_clips(tuple(roots), CVSS[lang])
    speech = folder / split
    there = {file.name for file in speech.iterdir()} if speech.is_dir() else set[str]()
    table = folder / f"{split}.tsv"
    for number, line in enumerate(text_lines(str(table))):
        values = line.removesuffix("\r").split("\t")
        if number == 0 and values == ["path", "translation"]:
            continue
        if len(values) != 2 or not values[0]:
            raise InputError(
                f"{table} line {number + 1}: is no clip and its translation, but {len(values)} values; fetch it anew"
            )
        name, made = values[0], f"{values[0]}.wav"
        said = None if clips.sentences is None else clips.sentences.get(name)
        yield Entry(
            Path(name).stem,
            src_text=said,
            src_sound=clips.sound(name),
            tgt_text=values[1],
            tgt_sound=Sound(str(speech / made)) if made in there else None,
            group=said,
        )
