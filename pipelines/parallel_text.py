"""The parallel text that `whisper-e5` learnt from: sentences of user interfaces, out of Debian's packages.

    python -m seamlessalign.pipelines.parallel_text --cache DIR --out FILE

Messages of gettext catalogs and pages of help, in English and 37 other languages. `FILE` gets a line of JSON for each
English text, an object of texts by language, in random order; `held_out_file` beside it gets those that are to be
measured with: from packages that nothing in `FILE` comes from, with a text in each of `MEASURED`. Texts that are, word
for word, a prompt of Asterisk in any language are in neither: the prompts are what encoders are tested with.
"""

import argparse
import json
import random
import re
import struct
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from seamlessalign.embedders.text import spoken_form
from seamlessalign.errors import InputError
from seamlessalign.pipelines.demo_sources import fetch_package, fetch_prompts, open_cache, say
from seamlessalign.storage import write_bytes_atomic

MEASURED = ("spa", "fra", "ita", "rus")  # languages that a held-out text is in
HELD_OUT = 1500  # texts
_WORDS_MEASURED = (3, 20)  # of a held-out text's English

# Packages with gettext catalogs; those set apart are the ones that held-out texts come from.
_WESNOTH = "data did dm dw ei httt l low nr sof sota sotbe thot trow tsg ttb utbs"
_CATALOGS = (
    *(f"wesnoth-1.16-{part}" for part in _WESNOTH.split()),
    *(f"libreoffice-l10n-{code}" for code in ("es", "fr", "it", "ru", "de", "pt-br", "pl")),
    "evolution-common", "gnucash-common", "gimp-data", "inkscape", "digikam-data", "plasma-workspace-data", "okular",
    "kmymoney-common", "gramps", "apt", "gajim", "vlc-l10n", "pidgin-data", "deja-dup", "kdeconnect",
    "gnome-control-center-data",
)  # fmt: skip
_APART = {
    "wesnoth-1.16-ttb", "wesnoth-1.16-low", "pidgin-data", "deja-dup", "kdeconnect", "gnome-control-center-data",
}  # fmt: skip
_ZIPPED, _ZIP = "calibre", "usr/share/calibre/localization/locales.zip"
_HELP, _PAGES = "gnome-user-docs", "usr/share/help"

_LOCALES = {
    "es": "spa", "fr": "fra", "it": "ita", "ru": "rus", "de": "deu", "pt": "por", "pt_BR": "por", "nl": "nld",
    "pl": "pol", "ca": "cat", "ro": "ron", "cs": "ces", "sv": "swe", "da": "dan", "el": "ell", "bg": "bul",
    "be": "bel", "uk": "ukr", "hu": "hun", "fi": "fin", "tr": "tur", "gl": "glg", "nb": "nob", "nb_NO": "nob",
    "sk": "slk", "hr": "hrv", "zh_CN": "cmn", "ja": "jpn", "ko": "kor", "vi": "vie", "id": "ind", "ar": "arb",
    "hi": "hin", "he": "heb", "lt": "lit", "et": "est", "lv": "lvs", "sl": "slv", "sr": "srp",
}  # fmt: skip

# placeholders, markup, addresses, names of files, options: what nobody says
_UNSPOKEN = re.compile(
    r"[%{}<>|\\=#@$~*\[\]_]|https?:|www\.|\b\w+\.(?:\w{1,4})\b(?!\s)|--|::|&[a-z]+;|\(\)"
)  # fmt: skip
_ACCELERATOR_BEHIND = re.compile(r"\s?\([&_]?[A-Za-zА-Яа-я]\)$")
_ACCELERATOR_AMPERSAND = re.compile(r"&(?=\w)")
_ACCELERATOR_UNDERSCORE = re.compile(r"(?<!\w)_(?=\w)|(?<=\w)_(?=\w)")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-ZА-ЯÁÉÍÓÚÀÈÌÒÙÇŠŽČ¿¡\"«“])")
_WITHOUT_SPACES = re.compile("[\u2e80-\ud7ff]")  # scripts of China, Japan and Korea
_ELEMENTS = ("p", "title", "desc", "td")  # of a page of help

Pair = tuple[str, str]


@dataclass
class _Item:
    texts: dict[str, str]  # language → text
    packages: set[str] = field(default_factory=set)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fetch the packages that the cache lacks, and write both files."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="where fetched packages are kept")
    parser.add_argument("--out", type=Path, required=True, help="the file that is written, .jsonl")
    options = parser.parse_args(arguments)
    cache = open_cache(options.cache)
    prompts = fetch_prompts(cache)
    tested = {spoken_form(text) for text in prompts.english.values()}
    tested |= {spoken_form(prompt.text) for said in prompts.prompts.values() for prompt in said.values()}
    items = gather(package_pairs(cache), tested)
    learnt, held_out = divide(items)
    for file, chosen in ((options.out, learnt), (held_out_file(options.out), held_out)):
        lines = "".join(json.dumps(texts, ensure_ascii=False) + "\n" for texts in chosen)
        write_bytes_atomic(str(file), lines.encode())
        say(f"{file}: {len(chosen)} English texts, {sum(len(texts) - 1 for texts in chosen)} translations")


def held_out_file(out: Path) -> Path:
    """The file of the texts held out: of `text.jsonl` it is `text.held-out.jsonl`."""
    return out.with_name(f"{out.stem}.held-out{out.suffix}")


def package_pairs(cache: Path) -> Iterator[tuple[str, str, Pair]]:
    """Package, language (ISO 639-3), and English and other text, of all messages as they are in the packages."""
    for package in _CATALOGS:
        root = fetch_package(package, cache)
        for file in sorted(root.rglob("*.mo")):
            folders = file.relative_to(root).parts
            locale = folders[folders.index("LC_MESSAGES") - 1] if "LC_MESSAGES" in folders else ""
            if locale in _LOCALES:
                yield from ((package, _LOCALES[locale], pair) for pair in messages(_read(file), str(file)))
    archive = fetch_package(_ZIPPED, cache) / _ZIP
    try:
        with zipfile.ZipFile(archive) as opened:
            for name in sorted(opened.namelist()):
                locale = name.split("/")[0]
                if name.endswith("messages.mo") and locale in _LOCALES:
                    found = messages(opened.read(name), f"{archive}: {name}")
                    yield from ((_ZIPPED, _LOCALES[locale], pair) for pair in found)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{archive}: cannot be read: {error}") from error
    pages = fetch_package(_HELP, cache) / _PAGES
    for folder in sorted(pages.iterdir()):
        if folder.name in _LOCALES:
            for file in sorted(folder.rglob("*.page")):
                texts = aligned(pages / "C" / file.relative_to(folder), file)
                yield from ((_HELP, _LOCALES[folder.name], pair) for pair in texts)


def messages(data: bytes, origin: str) -> Iterator[Pair]:
    """The messages of a compiled gettext catalog and their translations; of plurals the last form.

    Contexts before \\x04 or ^ are left out, and messages that are not in the catalog's encoding. Raises InputError for
    a file that is no catalog.
    """
    order = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}.get(data[:4])
    try:
        if order is None:
            raise ValueError("it does not begin as one")
        count, ours, theirs = struct.unpack_from(f"{order}3I", data, 8)
        places = [struct.unpack_from(f"{order}{2 * count}I", data, start) for start in (ours, theirs)]
    except (struct.error, ValueError) as error:
        raise InputError(f"{origin}: is no gettext catalog: {error}") from error
    strings = [
        [data[start : start + length] for length, start in zip(table[::2], table[1::2], strict=True)]
        for table in places
    ]
    header = next((value for key, value in zip(*strings, strict=True) if not key), b"").decode("latin-1")
    charset = re.search(r"charset=([\w-]+)", header)
    for key, value in zip(*strings, strict=True):
        try:
            message, translation = key.decode("utf-8"), value.decode(charset[1] if charset else "utf-8")
        except (UnicodeDecodeError, LookupError):
            continue
        if "\0" in message:
            message, translation = message.split("\0")[-1], translation.split("\0")[-1]
        message, translation = message.split("\x04")[-1].split("^")[-1], translation.split("^")[-1]
        if message and translation:
            yield message, translation


def aligned(english: Path, other: Path) -> list[Pair]:
    """The texts of two pages of help, element by element; none where they do not have the same elements."""
    try:
        sides = [_elements(file) for file in (english, other)]
    except (OSError, ElementTree.ParseError):
        return []  # a page without an English one, or that is not well formed, pairs with nothing
    if [tag for tag, _ in sides[0]] != [tag for tag, _ in sides[1]]:
        return []
    return [(a, b) for (_, a), (_, b) in zip(*sides, strict=True) if a and b]


def usable_pairs(english: str, other: str) -> Iterator[Pair]:
    """The sentences of a message and its translation that can be spoken and correspond, cleaned.

    Both are split into sentences where both have equally many.
    """
    sides = [_SENTENCE_END.split(text.strip().replace("\n", " ")) for text in (english, other)]
    pairs = zip(*sides, strict=True) if len(sides[0]) == len(sides[1]) else [(english, other)]
    for a, b in pairs:
        ours, theirs = cleaned(a), cleaned(b)
        if _is_usable(ours, theirs):
            yield ours, theirs


def cleaned(text: str) -> str:
    """A text without accelerators, blanks of other kinds, and punctuation around it."""
    text = _ACCELERATOR_BEHIND.sub("", text)
    text = re.sub("[\n\t\u00a0\u202f]", " ", text).replace("…", "...")
    text = _ACCELERATOR_AMPERSAND.sub("", text)
    if text.count("_") == 1:
        text = _ACCELERATOR_UNDERSCORE.sub("", text)
    return " ".join(text.strip(' .:;*-•"«»“”').split())


def gather(pairs: Iterable[tuple[str, str, Pair]], tested: set[str]) -> dict[str, _Item]:
    """Items by the spoken form of their English text, without texts whose spoken form is among those tested with.

    Of several translations into a language the first one stays.
    """
    items: dict[str, _Item] = {}
    spoken: dict[str, str] = {}
    counted: Counter[str] = Counter()
    for package, lang, (english, other) in pairs:
        for ours, theirs in usable_pairs(english, other):
            if ours not in spoken:
                spoken[ours] = spoken_form(ours)  # once for all languages
            key = spoken[ours]
            if key in tested or spoken_form(theirs) in tested:
                counted["tested"] += 1
                continue
            item = items.setdefault(key, _Item({"eng": ours}))
            item.texts.setdefault(lang, theirs)
            item.packages.add(package)
            counted["kept"] += 1
    say(f"{counted['kept']} pairs of sentences, {counted['tested']} left out as texts of Asterisk's prompts")
    return items


def divide(items: Mapping[str, _Item], seed: int = 0) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """What is learnt, in random order, and what is held out: no package is on both sides."""
    rng = random.Random(seed)
    low, high = _WORDS_MEASURED
    held_out = [
        item.texts
        for key, item in items.items()
        if item.packages <= _APART and low <= len(key.split()) <= high and set(MEASURED) <= item.texts.keys()
    ]
    learnt = [item.texts for key, item in items.items() if not item.packages & _APART and len(key.split()) > 1]
    rng.shuffle(held_out)
    rng.shuffle(learnt)
    return learnt, held_out[:HELD_OUT]


def _is_usable(english: str, other: str) -> bool:
    if _UNSPOKEN.search(english) or _UNSPOKEN.search(other) or english.lower() == other.lower():
        return False
    if not any(c.isalnum() for c in other):
        return False
    words = len(english.split())
    if not 2 <= words <= 30 or len(other) > 240 or sum(c.isdigit() for c in english) > 6:
        return False
    if sum(c.isalpha() for c in english) < 0.7 * len(english):
        return False
    theirs = len(other) / 2 if _WITHOUT_SPACES.search(other) else len(other.split())
    return 1 <= theirs <= 3 * words + 2 and words <= 3 * theirs + 3


def _elements(page: Path) -> list[Pair]:
    found = []
    for element in ElementTree.parse(page).iter():
        tag = str(element.tag).split("}")[-1]
        if tag in _ELEMENTS:
            # a cell's own paragraphs come by themselves
            text = "" if tag == "td" and len(element) else " ".join("".join(element.itertext()).split())
            found.append((tag, text))
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; remove the folder it is in to fetch the package again") from error


if __name__ == "__main__":
    main()
