"""Lines of text: cleaned, judged, and split into sentences."""

import re
import unicodedata
from collections.abc import Iterator

from seamlessalign.errors import UnreadableError

MIN_CHARS = 1
MAX_CHARS = 1000

_BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")  # white space and control characters


def clean_sentence(raw: bytes | str) -> str:
    """One line of text in NFC, without byte order marks, every run of white space and control characters one space.

    Raises UnreadableError with the reason `invalid_utf8` (bytes that are not UTF-8, lone surrogates) or `nul` (a zero
    character: the line is binary, or in UTF-16).
    """
    try:
        text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
        if isinstance(raw, str):
            raw.encode("utf-8")
    except UnicodeError as error:
        raise UnreadableError("invalid_utf8", str(error)) from error
    if "\0" in text:
        raise UnreadableError("nul", f"a zero character at position {text.index(chr(0))}")
    return _BLANK.sub(" ", unicodedata.normalize("NFC", text.replace("\ufeff", ""))).strip()


def drop_reason(text: str, *, min_chars: int = MIN_CHARS, max_chars: int = MAX_CHARS) -> str | None:
    """Why a cleaned sentence is not worth embedding: `empty_line`, `too_short`, `too_long`, `no_letters`, or None."""
    if not text:
        return "empty_line"
    if len(text) < min_chars:
        return "too_short"
    if len(text) > max_chars:
        return "too_long"
    if not any(char.isalpha() for char in text):
        return "no_letters"
    return None


def split_sentences(document: str, lang: str) -> list[str]:
    """Sentences of a document by rules; `lang` is ISO 639-3 (a 639-1 code does as well).

    A sentence ends at a blank line, after a full-width stop, and after any other stop that white space follows, unless
    the text goes on in lower case or the full stop belongs to an abbreviation, an initial or (German) an ordinal.
    Abbreviations are known for deu, eng, fra, ita, por, rus and spa. All characters but white space at the
    ends of sentences are kept, in order.
    """
    language = _TWO_LETTERS.get(lang, lang)
    sentences: list[str] = []
    for paragraph in _PARAGRAPH.split(document):
        begin = 0
        for end in _ends(paragraph, language):
            sentences.append(paragraph[begin:end].strip())
            begin = end
        sentences.append(paragraph[begin:].strip())
    return [sentence for sentence in sentences if sentence]


_PARAGRAPH = re.compile(r"\n[^\S\n]*\n")
_WIDE_STOPS = "。！？｡"  # written without a space after them
_SPACED_STOPS = ".!?…؟।॥۔።։။។"
_CLOSERS = "\"'”’»›)\\]}」』】》）"
_OPENERS = "\"'“„‘«‹([{「『【《（¿¡–—-"
_STOP = re.compile(
    rf"(?P<stop>[{_SPACED_STOPS}{_WIDE_STOPS}]+)"
    rf"(?:[{_CLOSERS}]|[ \u00a0\u202f](?=»))*"  # French sets a space before its closing quotation mark
)
_NEXT = re.compile(rf"\s*(?:[{re.escape(_OPENERS)}]\s*)*")
_WORD_LENGTH = 24  # characters looked at before a full stop; no abbreviation is longer
_WORD = re.compile(r"[^\s()\[\]{}\"'’“”„«»‹›/—–]*\Z")
_INITIALS = re.compile(r"[^\W\d_](?:\.-?[^\W\d_])*")  # A, J.R, U.S, J.-P


def _ends(paragraph: str, language: str) -> Iterator[int]:
    """Where sentences end inside a paragraph."""
    begin = 0
    for match in _STOP.finditer(paragraph):
        stop, end = match["stop"], match.end()
        if stop[-1] not in _WIDE_STOPS:
            if end < len(paragraph) and not paragraph[end].isspace():
                continue
            following = _NEXT.match(paragraph, end)
            after = paragraph[following.end() : following.end() + 1] if following else ""
            if after.islower():
                continue
            if stop == "." and not _is_full_stop(paragraph, begin, match.start(), after, language):
                continue
        yield end
        begin = end


def _is_full_stop(paragraph: str, begin: int, dot: int, after: str, language: str) -> bool:
    """Whether the single dot at `dot`, in the sentence that begins at `begin`, ends it before the character `after`."""
    found = _WORD.search(paragraph, max(begin, dot - _WORD_LENGTH), dot)
    word = found.group() if found else ""
    if _INITIALS.fullmatch(word) or word.casefold() in _ABBREVIATIONS.get(language, _NO_ABBREVIATIONS):
        return False
    if word.casefold() in _BEFORE_NUMBERS and after.isdigit():
        return False
    if word.isdigit():
        is_list_number = not paragraph[begin : dot - len(word)].strip()
        is_ordinal = language == "deu" and len(word) <= 2
        return not (is_list_number or is_ordinal)
    return True


_TWO_LETTERS = {"de": "deu", "en": "eng", "es": "spa", "fr": "fra", "it": "ita", "pt": "por", "ru": "rus"}

_NO_ABBREVIATIONS: frozenset[str] = frozenset()

# Words of their own, unless a number follows.
_BEFORE_NUMBERS = frozenset({"art", "arts", "fig", "no", "nos", "sept", "рис"})

# Only those that do not end a sentence: "etc." before a capital letter does.
_ABBREVIATIONS = {
    language: frozenset(words.split())
    for language, words in {
        "deu": """abs abt allg bd bzgl bzw ca d.h dr dipl ing evtl geb gegr ggf hr hrsg inkl jh kap max min mio mrd
            nr prof s.o s.u sog st str tel u.a u.ä usf vgl z.b z.t zzgl jan feb apr aug okt nov dez fr""",
        "eng": """adm al approx apt ave blvd brig ca capt cf col comdr cpl dept dr e.g ed eds eq figs ft gen gov hon
            i.e inst lt maj messrs mlle mme mr mrs ms mt mx op ph.d pp prof rep rev sen sgt sr st supt vol vols
            vs viz jan feb mar apr jun jul aug sep oct nov dec""",
        "fra": """adr apr av bd cf chap col dr env ex gal hab lt m me mgr mlle mlles mm mme mmes n° p pp prof
            réf st ste suiv sq sqq tél vol vs janv févr avr juill oct nov déc""",
        "ita": """avv ca cap cfr dott dott.ssa dr ecc.mo es gen geom ing mons nr pag pagg par prof
            prof.ssa proff rag rev s.p.a sig sig.na sig.ra sigg spett ss tel vol vs""",
        "por": """av cap cel cf dr dra drs eng exmo exma gen lda ltda nº núm pág págs prof profa p.ex r sr sra
            srs srta sta sto tel vol vs""",
        "rus": """акад ак в.в гг гл гос гр деп доц др ж.д им илл кв корп м.б напр обл оз пер пл пос пр проф ред руб
            св см ср ст стр табл тел т.е т.к т.н т.о тов тыс ул ч янв февр апр авг сент окт нояб дек""",
        "spa": """admón afmo apdo av avda cap cf cía col d.ª depto dpto dr dra dres ed exc excmo excma gral
            ing lic ltda núm nº p.ej pág págs prof profa rte sr sra sras sres srta sta sto tel ud uds vd vds vol vs""",
    }.items()
}
