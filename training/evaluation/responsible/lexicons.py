"""Lexicons of phrases, a file for each language, and where their phrases are in texts.

The layout is Toxicity-200's: `eng_Latn_twl.txt`, a phrase a line; `eng_Latn.txt`, `eng_twl.txt`, `eng.txt` and
`en.txt` do too. Matching is that of ETOX (Costa-jussà et al. 2023, "Toxicity in multilingual machine translation at
scale"): whole words after case and punctuation are gone, or pieces of SentencePiece where words are not
told apart by spaces. Other than ETOX, a phrase that comes twice counts twice, and what lies in a longer one not at all.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from seamlessalign.errors import InputError
from seamlessalign.languages import get_language
from seamlessalign.training.evaluation.text import sentencepiece_model

# of scripts written without spaces: FLORES's codes, and languages of which it has none
UNSPACED_SCRIPTS = ("Hans", "Hant", "Jpan", "Thai", "Laoo", "Khmr", "Mymr", "Tibt")
_UNSPACED = ("cmn", "yue", "wuu", "nan", "jpn", "tha", "lao", "khm", "mya", "shn", "bod", "dzo")
# a letter of these scripts is a token by itself
_ALONE = re.compile(
    "[\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\ua9e0-\ua9ff\uaa60-\uaa7f\uf900-\ufaff\U00020000-\U000323af]"
)
_AROUND = ' \t.,;:!?"()[]«»“”„…。、，！？'  # of a phrase: nothing of it
_BETWEEN = "'’ʼ-‐‑–.,·"  # of words: what parts them

Split = Callable[[str], list[str]]


def is_spaced(lang: str) -> bool:
    """Whether a language (ISO 639-3) is written with spaces between words."""
    language = get_language(lang)
    return lang not in _UNSPACED and language.sonar.partition("_")[2] not in UNSPACED_SCRIPTS


@dataclass(frozen=True)
class Lexicon:
    """The phrases of a language, as tokens, and how texts are split to look for them."""

    lang: str
    file: str
    sha256: str  # of the file
    unit: str  # `words`, `characters`, or `spm-` and the SHA-256 of the file of pieces
    split: Split
    phrases: dict[str, dict[tuple[str, ...], str]]  # first token → tokens → as the file has it
    spellings: dict[str, str] = field(default_factory=dict)  # `a$$`: what is one only with its signs
    counts: dict[str, int] = field(default_factory=dict)  # of lines: phrases, duplicates, comments, without_letters

    @property
    def signature(self) -> str:
        """The file with its SHA-256, and the unit."""
        return f"{Path(self.file).name}-{self.sha256[:8]}/{self.unit}"

    def found(self, text: str) -> list[str]:
        """The phrases in a text, as the file has them: first those with signs, then the others from left to right,
        where at each token the longest counts and nothing that overlaps with one before it.
        """
        found: list[str] = []
        if self.spellings:

            def taken(match: re.Match[str]) -> str:
                found.append(self.spellings[match[0]])
                return "\n"

            text = self._spelled.sub(taken, _folded(text))
        tokens, place = self.split(text), 0
        while place < len(tokens):
            phrases, length = self.phrases.get(tokens[place], {}), 1
            for wanted in self._lengths.get(tokens[place], ()):
                phrase = phrases.get(tuple(tokens[place : place + wanted]))
                if phrase is not None:
                    found.append(phrase)
                    length = wanted
                    break
            place += length
        return found

    @cached_property
    def _lengths(self) -> dict[str, list[int]]:
        return {first: sorted({len(one) for one in some}, reverse=True) for first, some in self.phrases.items()}

    @cached_property
    def _spelled(self) -> re.Pattern[str]:
        longest_first = sorted(self.spellings, key=lambda one: (-len(one), one))
        return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")


def load_lexicon(folder: str, lang: str, sentencepiece: str | None = None) -> Lexicon | None:
    """The lexicon of a language (ISO 639-3) in a folder; None where there is none.

    sentencepiece: a file of pieces, for languages that are written without spaces; without one, and always for others,
    texts are split into words, and letters of scripts without spaces by themselves.

    Raises InputError for a folder that is none, several files for the language, and files that are not UTF-8 or hold
    no phrase.
    """
    file = lexicon_file(folder, lang)
    if file is None:
        return None
    content = _read(file)
    unit = "words" if is_spaced(lang) else "characters"
    split: Split = split_words
    if sentencepiece is not None and not is_spaced(lang):
        pieces, digest = sentencepiece_model(sentencepiece)
        unit, split = f"spm-{digest[:8]}", _pieces_of(pieces)
    found = Lexicon(lang, str(file), hashlib.sha256(content).hexdigest(), unit, split, {})
    _read_lines(found, content.decode("utf-8-sig"))
    if not found.counts["phrases"]:
        raise InputError(f"{file}: holds no phrase: write one a line")
    return found


def lexicon_file(folder: str, lang: str) -> Path | None:
    """The file of a language (ISO 639-3) in a folder. Raises InputError where the folder is none, or has several."""
    root, language = Path(folder), get_language(lang)
    if not root.is_dir():
        raise InputError(f"{folder}: is no folder with lexicons such as eng_Latn_twl.txt")
    names = [name for name in (language.sonar, language.iso639_3, language.iso639_1) if name]
    for name in (f"{stem}{end}" for stem in names for end in ("_twl.txt", ".txt")):
        if (root / name).is_file():
            return root / name
    others = sorted(file for file in root.iterdir() if re.fullmatch(rf"{lang}_[A-Z][a-z]{{3}}(_twl)?\.txt", file.name))
    if len(others) > 1:
        told = ", ".join(file.name for file in others)
        raise InputError(f"{folder}: has several lexicons of {lang}: {told}: name one of them {lang}.txt")
    return others[0] if others else None


def _read(file: Path) -> bytes:
    """The bytes of a file that is text in UTF-8."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    if b"\0" in content or content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InputError(f"{file}: is UTF-16 or no text: save it as UTF-8, a phrase a line")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{file} line {line}: is not UTF-8: save the file as UTF-8, a phrase a line") from error
    return content


def _read_lines(lexicon: Lexicon, text: str) -> None:
    counts = dict.fromkeys(("phrases", "duplicates", "comments", "without_letters"), 0)
    for line in (one.strip() for one in re.split(r"\r\n|\r|\n", text)):
        if not line or line.startswith("#"):
            counts["comments"] += bool(line)
            continue
        spelling = _folded(line).strip(_AROUND)
        if any(unicodedata.category(one) in _SIGNS and one not in _BETWEEN for one in spelling):
            new = spelling not in lexicon.spellings
            lexicon.spellings.setdefault(spelling, line)
        else:
            tokens = tuple(lexicon.split(line))
            if not tokens:
                counts["without_letters"] += 1
                continue
            phrases = lexicon.phrases.setdefault(tokens[0], {})
            new = tokens not in phrases
            phrases.setdefault(tokens, line)
        counts["phrases" if new else "duplicates"] += 1
    lexicon.counts.update(counts)


# Tokens

_SIGNS = ("Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk")


class _Kinds(dict[str, str]):
    """What a character is for words: `grows` them, is a `mark` of one, `alone`, `unseen`, or `parts` them."""

    def __missing__(self, character: str) -> str:
        kind = unicodedata.category(character)
        if kind[0] in "LN":
            found = "alone" if _ALONE.match(character) else "grows"
        else:
            found = {"M": "mark", "So": "alone", "Cf": "unseen"}.get(kind[0] if kind[0] == "M" else kind, "parts")
        self[character] = found
        return found


_KINDS = _Kinds()


def split_words(text: str) -> list[str]:
    """The words of a text without case and punctuation: runs of letters, marks and digits; a letter of a script without
    spaces, with its marks, is one by itself, and so is a symbol such as an emoji.

    Compatibility forms are one (NFKC), case is folded. What is between letters, such as an apostrophe, parts words.
    """
    words: list[str] = []
    grows = False  # whether the last word does
    for character in _folded(text):
        kind = _KINDS[character]
        if (kind == "grows" and not grows) or kind == "alone":
            words.append(character)
            grows = kind == "grows"
        elif kind == "grows" or (kind == "mark" and words):
            words[-1] += character
        elif kind == "parts":
            grows = False
    return words


def _folded(text: str) -> str:
    """Case is folded between two normalisations, as Unicode's compatibility caseless match has it."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _pieces_of(pieces: Any) -> Split:
    def split(text: str) -> list[str]:
        """Pieces without the mark of a space, which begins a phrase in the file but none within a sentence."""
        plain = "".join(" " if _KINDS[one] == "parts" else one for one in _folded(text))
        return [piece for one in pieces.encode(plain, out_type=str) if (piece := one.lstrip("▁"))]

    return split
