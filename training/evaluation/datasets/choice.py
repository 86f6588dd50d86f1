"""What of a test set is wanted: a split, directions, a task; and what of it became rows."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from seamlessalign.errors import ConfigError, InputError
from seamlessalign.languages import find_language
from seamlessalign.speech_sources import Sound
from seamlessalign.training.evaluation.datasets.covered import LISTS, covered
from seamlessalign.training.evaluation.rows import TestRow

Task = Literal["asr", "s2tt", "t2tt", "s2st", "t2st"]

_MOST_ROWS = 20_000_000  # of all directions of FLORES-200 there would be 41 million


@dataclass(frozen=True)
class Wanted:
    """What of a test set is wanted."""

    split: str
    task: Task
    directions: str | Sequence[str]  # x-eng, eng-x or all of what is there; or such as fra-eng, fra for asr
    languages: Sequence[str] = ()  # of x and all: codes, or lists of `covered`, in all of which they are
    limit: int | None = None  # rows of each direction

    @property
    def speech_in(self) -> bool:
        return self.task in ("asr", "s2tt", "s2st")

    @property
    def speech_out(self) -> bool:
        return self.task in ("s2st", "t2st")


@dataclass
class Read:
    """Rows of a test set, and why what it lists did not all become one."""

    rows: list[TestRow] = field(default_factory=list)
    entries: int = 0  # what it lists for the wanted directions: rows and what is set aside
    set_aside: Counter[str] = field(default_factory=Counter)  # reason → entries
    without_sound: int = 0  # rows of speech whose source has none
    without_target_sound: int = 0  # rows of speech to be spoken whose reference has none
    notes: list[str] = field(default_factory=list)  # what people must know

    def told(self) -> list[str]:
        """Lines for people."""
        lines = [f"{len(self.rows):,} rows of {self.entries:,} entries"]
        lines += [f"{count:,} set aside: {reason}" for reason, count in sorted(self.set_aside.items())]
        for side, count in (("source", self.without_sound), ("reference", self.without_target_sound)):
            if count:
                lines.append(f"{count:,} rows stay without the sound of their {side}, which is not there")
        return [*lines, *self.notes]

    def to_json(self) -> dict[str, Any]:
        return {
            "entries": self.entries,
            "set_aside": dict(sorted(self.set_aside.items())),
            "without_sound": self.without_sound,
            "without_target_sound": self.without_target_sound,
            "notes": self.notes,
        }


@dataclass(frozen=True)
class Entry:
    """One item of a test set in both languages, as far as it is there."""

    name: str  # unique in a direction
    src_text: str | None = None
    src_sound: Sound | None = None
    tgt_text: str | None = None
    tgt_sound: Sound | None = None
    group: str | None = None  # the same for those that say the same
    reason: str | None = None  # why it can be no row


def take(read: Read, entries: Iterable[Entry], src_lang: str, tgt_lang: str, wanted: Wanted, what: str) -> None:
    """Make rows of the entries of a direction. what: names these in ids, such as `fra-eng`.

    Raises InputError for entries with one name.
    """
    count, names = 0, set[str]()
    for entry in entries:
        read.entries += 1
        if entry.name in names:
            raise InputError(f"{what}: {entry.name} is there more than once")
        names.add(entry.name)
        reference = entry.src_text if wanted.task == "asr" else entry.tgt_text
        reason = entry.reason or ("no_reference" if reference is None else None)
        if reason is None and wanted.limit is not None and count >= wanted.limit:
            reason = "beyond_limit"
        if reason is not None:
            read.set_aside[reason] += 1
            continue
        count += 1
        if wanted.speech_in and entry.src_sound is None:
            read.without_sound += 1
        if wanted.speech_out and entry.tgt_sound is None:
            read.without_target_sound += 1
        read.rows.append(
            TestRow(
                id=f"{what}/{entry.name}",
                src_lang=src_lang,
                tgt_lang=tgt_lang,
                references=(str(reference),),
                src_text=None if wanted.task == "asr" else entry.src_text,
                src_sound=entry.src_sound if wanted.speech_in else None,
                reference_sound=entry.tgt_sound if wanted.speech_out else None,
                group=entry.group,
            )
        )
    if len(read.rows) > _MOST_ROWS:
        raise ConfigError(f"there are more than {_MOST_ROWS:,} rows: name the directions that are wanted, or a limit")


def directions(names: Mapping[str, str], usual: Collection[str], wanted: Wanted, place: str) -> list[tuple[str, str]]:
    """Directions as pairs of the set's own names.

    names: own names that are there → ISO 639-3. usual: those that are meant where a language has several. Raises
    ConfigError for a direction that cannot be meant, InputError for a language that is not there.
    """
    by_lang: dict[str, str] = {}
    for name, lang in names.items():
        if by_lang.setdefault(lang, name) != name and name in usual:
            by_lang[lang] = name
    if isinstance(wanted.directions, str):
        return _all(by_lang, wanted, place)
    pairs = []
    for text in wanted.directions:
        sides = parse(text, wanted.task)
        pairs.append((_own(sides[0], names, by_lang, place), _own(sides[1], names, by_lang, place)))
    return list(dict.fromkeys(pairs))


def parse(text: str, task: Task) -> tuple[str, str]:
    """Both sides of a direction. Raises ConfigError."""
    sides = text.split("-")
    if task == "asr" and len(set(sides)) == 1 and len(sides) <= 2:
        return sides[0], sides[0]
    if task == "asr":
        raise ConfigError(f"rows.directions: {text!r}: asr is of one language, such as fra")
    if len(sides) != 2 or sides[0] == sides[1]:
        raise ConfigError(f"rows.directions: {text!r}: write two languages joined by '-', such as fra-eng")
    return sides[0], sides[1]


def _all(by_lang: Mapping[str, str], wanted: Wanted, place: str) -> list[tuple[str, str]]:
    sources, targets = (_restricted(by_lang, wanted, place, source=source) for source in (True, False))
    if wanted.task == "asr":
        if wanted.directions != "all":
            raise ConfigError(f"rows.directions: {wanted.directions!r}: asr is of all, or of languages such as [fra]")
        return [(by_lang[lang], by_lang[lang]) for lang in sources if lang in targets]
    if "eng" not in by_lang and wanted.directions != "all":
        raise InputError(f"{place}: has no English, without which there is no {wanted.directions}")
    match wanted.directions:
        case "x-eng":
            pairs = [(lang, "eng") for lang in sources]
        case "eng-x":
            pairs = [("eng", lang) for lang in targets]
        case "all":
            pairs = [(one, other) for one in sources for other in targets]
        case _:
            raise ConfigError(
                f"rows.directions: {wanted.directions!r}: should be x-eng, eng-x, all, or a list such as [fra-eng]"
            )
    found = [(by_lang[one], by_lang[other]) for one, other in pairs if one != other]
    if not found:
        raise InputError(f"{place}: has no direction that is wanted: {wanted.directions}")
    return found


def _restricted(by_lang: Mapping[str, str], wanted: Wanted, place: str, *, source: bool) -> list[str]:
    """Languages that are there and wanted. Raises InputError where one of those that are named is not there."""
    if not wanted.languages:
        return sorted(by_lang)
    if set(wanted.languages) <= set(LISTS):
        found = frozenset(by_lang)
        for name in wanted.languages:
            found &= covered(name, speech_in=wanted.speech_in, source=source, speech_out=wanted.speech_out)
        return sorted(found)
    chosen = {find_language(code).iso639_3 for code in wanted.languages}
    absent = sorted(chosen - by_lang.keys())
    if absent:
        raise InputError(f"{place}: lacks {', '.join(absent)} of rows.languages")
    return sorted(chosen)


def _own(code: str, names: Mapping[str, str], by_lang: Mapping[str, str], place: str) -> str:
    """The set's own name of a language in any code."""
    if code in names:
        return code
    lang = find_language(code).iso639_3
    if lang not in by_lang:
        some = ", ".join(sorted(by_lang)[:5])
        raise InputError(f"{place}: has no {code}, but {some}{' …' if len(by_lang) > 5 else ''}")
    return by_lang[lang]
