"""The text of a published line inside the record that it was mined from, found by its digests.

A line of a record is known by its number and its digest, a sentence in it by its digest alone: how the record was cut
into sentences, and how these were cleaned, has to be guessed. What is known of both, and from where, is in docs/
published_metadata.md. Whatever is found has the very digest that was published.
"""

import re
import string
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from itertools import islice
from typing import Any

import xxhash

from seamlessalign.errors import UnreadableError
from seamlessalign.pipelines.published.line_forms import MetadataLine
from seamlessalign.segmentation.text import split_sentences

_LINE_ENDS = (re.compile(r"\n"), re.compile(r"\r\n|\r|\n"), re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]"))
_ASCII_BLANKS = string.whitespace + "\0"
_LONGEST = 1 << 17  # characters of a line in which sentences are looked for
_MOST_STRETCHES = 4000  # stretches of a line that are tried
_STOPS = re.compile(r"[.!?…؟।॥۔။።᱾。！？｡]+[\"'”’»›)\]}」』】》）]*\s*|\s{2,}|\s(?=[•·–—|-])|:\s")
_MOSES_LANGUAGES = {
    "cat": "ca", "ces": "cs", "dan": "da", "nld": "nl", "eng": "en", "fin": "fi", "fra": "fr", "deu": "de",
    "ell": "el", "hun": "hu", "isl": "is", "ita": "it", "lvs": "lv", "lit": "lt", "nob": "no", "pol": "pl",
    "por": "pt", "ron": "ro", "rus": "ru", "slk": "sk", "slv": "sl", "spa": "es", "swe": "sv", "tur": "tr",
}  # fmt: skip


def digest(text: str) -> int:
    """xxh3-64 of a text's UTF-8, as published metadata has it."""
    return int(xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass")))


class RecordText:
    """The text of one record, in which published lines are looked up."""

    def __init__(self, text: str) -> None:
        self._cuts = [[one for one in ends.split(text) if one.strip()] for ends in _LINE_ENDS]
        self._by_digest: dict[int, str] | None = None
        self._sentences: dict[tuple[str, str], _Sentences] = {}

    def sentence(self, line: MetadataLine) -> str:
        """The sentence that a published line means.

        Raises UnreadableError with the reasons `paragraph_changed` (no line of the record has the digest of the
        published one) and `text_not_found` (that line is there, and nothing that was tried of it has the digest of the
        sentence).
        """
        if line.sentence_digest is None:
            raise UnreadableError("text_not_found", "the published line has no digest of its sentence")
        paragraphs = self._paragraphs(line)
        if not paragraphs:
            raise UnreadableError("paragraph_changed", f"no line of the record has the digest {line.paragraph_digest}")
        for paragraph in paragraphs:
            key = (paragraph, line.lang)
            sentences = self._sentences[key] = self._sentences.get(key) or _Sentences(*key)
            found = sentences.with_digest(line.sentence_digest)
            if found is not None:
                return found
        lacking = lacking_packages()
        more = f"; with {', '.join(lacking)} more is tried: pip install 'seamlessalign[import]'" if lacking else ""
        raise UnreadableError("text_not_found", f"no sentence of its line has the digest {line.sentence_digest}{more}")

    def _paragraphs(self, line: MetadataLine) -> list[str]:
        """The lines of the record that may be the published one."""
        number = line.cc_lineno
        numbered = [cut[number] for cut in self._cuts if number is not None and number < len(cut)]
        forms = [form for raw in dict.fromkeys(numbered) for form in _forms(raw)]
        if line.paragraph_digest is None:
            return list(dict.fromkeys(forms))
        for form in forms:
            if digest(form) == line.paragraph_digest:
                return [form]
        if self._by_digest is None:
            every = dict.fromkeys(form for cut in self._cuts for raw in cut for form in _forms(raw))
            self._by_digest = {digest(form): form for form in every}
        found = self._by_digest.get(line.paragraph_digest)
        return [] if found is None else [found]


def _forms(raw: str) -> Iterator[str]:
    """A line of a record in the forms that digests were made of."""
    for stripped in (raw.strip(), raw.strip(_ASCII_BLANKS), raw):
        yield stripped
        yield stripped.replace("|", "_").replace("\t", " ").replace("\r", "")


class _Sentences:
    """What may be a sentence of a paragraph, by digest; tried no further than what is asked for takes."""

    def __init__(self, paragraph: str, lang: str) -> None:
        self._found: dict[int, str] = {}
        stretches = islice(_stretches(paragraph, lang), _MOST_STRETCHES) if len(paragraph) <= _LONGEST else iter(())
        self._candidates = (candidate for stretch in stretches for candidate in _cleaned(stretch))

    def with_digest(self, wanted: int) -> str | None:
        """The sentence with this digest, None if none is found."""
        if wanted in self._found:
            return self._found[wanted]
        for candidate in self._candidates:
            found = digest(candidate)
            self._found[found] = candidate
            if found == wanted:
                return candidate
        return None


def _stretches(paragraph: str, lang: str) -> Iterator[str]:
    """Parts of a paragraph that may be the sentence: as splitters cut it, whole, and between any two of its stops."""
    moses = _moses_splitter(lang)
    yield from moses(paragraph) if moses else ()
    yield paragraph
    yield from split_sentences(paragraph, lang)
    ends = sorted({0, len(paragraph), *(match.end() for match in _STOPS.finditer(paragraph))})
    for length in range(1, len(ends)):
        for begin in range(len(ends) - length):
            yield paragraph[ends[begin] : ends[begin + length]].strip()


def _cleaned(stretch: str) -> Iterator[str]:
    """A stretch as the pipelines of different releases may have cleaned it."""
    for normalized in _normalized(stretch):
        without = _without_emoji(normalized)
        yield normalized
        yield normalized.strip()
        yield normalized.rstrip()
        yield normalized.lstrip()
        yield normalized + " "
        yield " " + normalized
        yield " " + normalized + " "
        yield "  " + normalized
        yield " " + normalized.rstrip()
        if without != normalized:
            yield without
            yield without.strip()
            yield " " + without
        symbols = [at for at, char in enumerate(normalized) if unicodedata.category(char) == "So"]
        if symbols:
            yield "".join(char for at, char in enumerate(normalized) if at not in symbols)
            yield "".join(" " if at in symbols else char for at, char in enumerate(normalized))
        if len(symbols) > 1:
            yield "".join(" " if at == symbols[1] else char for at, char in enumerate(normalized))


def _normalized(stretch: str) -> Iterator[str]:
    moses = _moses_normalizer()
    forms = [moses(stretch)] if moses else []
    forms.append(stretch)
    for form in forms:
        printable = "".join(" " if unicodedata.category(char)[0] == "C" else char for char in form)
        yield unicodedata.normalize("NFKC", printable)
    yield stretch


# --- packages that tried more, where they are installed


def lacking_packages() -> list[str]:
    """Packages of the extra `import` that are not installed and would find more texts."""
    lacking = {"sentence-splitter": _moses_splitter("eng"), "sacremoses": _moses_normalizer(), "emoji": _emoji()}
    return [name for name, found in lacking.items() if found is None]


@lru_cache(maxsize=64)
def _moses_splitter(lang: str) -> Callable[[str], list[str]] | None:
    try:
        from sentence_splitter import SentenceSplitter
    except ImportError:
        return None
    split: Callable[[str], list[str]] = SentenceSplitter(language=_MOSES_LANGUAGES.get(lang, "en")).split
    return split


@cache
def _moses_normalizer() -> Callable[[str], str] | None:
    try:
        from sacremoses import MosesPunctNormalizer
    except ImportError:
        return None
    normalize: Callable[[str], str] = MosesPunctNormalizer(lang="en").normalize  # English, whatever the language
    return normalize


@cache
def _emoji() -> Any | None:
    try:
        import emoji
    except ImportError:
        return None
    return emoji


def _without_emoji(text: str) -> str:
    emoji = _emoji()
    return text if emoji is None or text.isascii() else str(emoji.replace_emoji(text, "")).replace("\ufe0f", "")
