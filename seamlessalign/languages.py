"""One table of languages (`languages.tsv`), the codes that every model uses for them, and mining directions."""

import csv
import difflib
import re
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Literal, get_args

from seamlessalign.errors import ConfigError

# ISO 639-3's codes of groups of languages, and the member that corpora mean by them
_USUAL = {
    "ara": "arb", "aym": "ayr", "aze": "azj", "din": "dik", "fas": "pes", "ful": "fuv", "kau": "knc", "kur": "kmr",
    "lav": "lvs", "mon": "khk", "msa": "zlm", "nep": "npi", "nor": "nob", "ori": "ory", "orm": "gaz", "pus": "pbt",
    "que": "quy", "swa": "swh", "uzb": "uzn", "zho": "cmn", "ekk": "est", "fil": "tgl",
}  # fmt: skip

CodeSystem = Literal["iso639_3", "iso639_1", "whisper", "voxlingua", "fasttext", "sonar"]


@dataclass(frozen=True)
class Language:
    """A language and its code in each system; an empty string where a system does not know it."""

    iso639_3: str
    iso639_1: str
    name: str
    whisper: str
    voxlingua: str
    fasttext: str
    sonar: str


@dataclass(frozen=True)
class Side:
    """One side of a direction: a language, as speech or as text."""

    lang: str  # ISO 639-3
    is_audio: bool

    def __str__(self) -> str:
        language = get_language(self.lang)
        return f"{language.iso639_1 or language.iso639_3}A" if self.is_audio else self.lang

    @staticmethod
    def parse(text: str) -> "Side":
        """Read one side of a direction, such as `eng` or `frA`. Raises ConfigError for anything else."""
        return parse_side(text, text)


@dataclass(frozen=True)
class Direction:
    """A mining direction, written as SeamlessAlign writes it: `eng-frA` is English text with French speech."""

    src: Side
    tgt: Side

    def __str__(self) -> str:
        return f"{self.src}-{self.tgt}"

    @staticmethod
    def parse(text: str) -> "Direction":
        """Read `eng-frA`, `enA-frA`, …: speech ends in A on the 2-letter code where there is one, text has 3 letters.

        Raises ConfigError for anything else, for one language with itself and for text with text.
        """
        sides = text.split("-")
        if len(sides) != 2:
            raise ConfigError(f"direction {text!r}: write two sides joined by '-', such as eng-frA")
        direction = Direction(parse_side(sides[0], text), parse_side(sides[1], text))
        if direction.src.lang == direction.tgt.lang:
            raise ConfigError(f"direction {text!r}: both sides are {direction.src.lang}")
        if not (direction.src.is_audio or direction.tgt.is_audio):
            raise ConfigError(f"direction {text!r}: at least one side must be speech (write frA for French speech)")
        return direction


def get_language(code: str) -> Language:
    """The language with this ISO 639-3 code. Raises ConfigError that names the nearest code."""
    table = _table("iso639_3")
    if code in table:
        return table[code]
    other = _table("iso639_1").get(code) or _table("sonar").get(code)
    if other:
        raise ConfigError(f"language {code!r}: use its ISO 639-3 code {other.iso639_3!r}")
    near = difflib.get_close_matches(code, list(table), n=1, cutoff=0.0)
    raise ConfigError(f"language {code!r} is not in the table; the nearest code is {near[0]!r} ({table[near[0]].name})")


@lru_cache(maxsize=1000)
def find_language(code: str) -> Language:
    """The language of a code in any system that the table knows, of a locale (`fr-FR`, `fr_fr`, `cmn_hans_cn`,
    `fra_Latn`), or of a group that has one usual member (`zho`, `ara`).

    Raises ConfigError that names the nearest code.
    """
    plain = code.strip()
    for name in (plain, plain.lower(), re.split("[-_]", plain.lower())[0]):
        for system in get_args(CodeSystem):
            if name in _table(system):
                return _table(system)[name]
        if name in _USUAL or name in _sonar_stems():
            return _table("iso639_3")[_USUAL.get(name) or _sonar_stems()[name]]
    return get_language(plain)  # says what is near


def from_model_code(code: str, system: CodeSystem) -> str | None:
    """ISO 639-3 code of a model's own language code, or None where the table does not have it."""
    language = _table(system).get(code)
    return language.iso639_3 if language else None


def to_model_code(lang: str, system: CodeSystem) -> str | None:
    """A model's own code of the language with ISO 639-3 code `lang`, or None where the model does not know it."""
    return getattr(get_language(lang), system) or None


def all_languages() -> list[Language]:
    """Every language of the table, in the order of ISO 639-3 codes."""
    return list(_table("iso639_3").values())


@cache
def _sonar_stems() -> dict[str, str]:
    """Codes of FLORES without the script → ISO 639-3 codes of the table, where the two are not the same."""
    return {code.partition("_")[0]: language.iso639_3 for code, language in _table("sonar").items()}


@cache
def _table(system: CodeSystem) -> dict[str, Language]:
    text = resources.files("seamlessalign").joinpath("languages.tsv").read_text(encoding="utf-8")
    rows = [Language(**row) for row in csv.DictReader(text.splitlines(), delimiter="\t")]
    return {getattr(row, system): row for row in rows if getattr(row, system)}


def parse_side(code: str, direction: str) -> Side:
    """The side that a code of a direction stands for. Raises ConfigError, which names the direction."""
    if not code.endswith("A"):
        return Side(_known(code, direction), is_audio=False)
    stem = code[:-1]
    short = _table("iso639_1").get(stem)
    if short:
        return Side(short.iso639_3, is_audio=True)
    lang = _known(stem, direction)
    canonical = str(Side(lang, is_audio=True))
    if canonical != code:
        raise ConfigError(f"direction {direction!r}: write {canonical} for {get_language(lang).name} speech")
    return Side(lang, is_audio=True)


def _known(code: str, direction: str) -> str:
    try:
        return get_language(code).iso639_3
    except ConfigError as error:
        raise ConfigError(f"direction {direction!r}: {error}") from None
