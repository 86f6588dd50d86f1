"""Lines of published mining metadata: SeamlessAlign's, SeamlessAlignExpressive's and NLLB's, one type for all three.

Each line is one side of a pair. docs/published_metadata.md has the forms column by column.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from seamlessalign.errors import ConfigError, UnreadableError
from seamlessalign.languages import Side, find_language

Form = Literal["seamlessalign", "expressive", "nllb"]

COLUMNS = (
    "cc_warc", "cc_sha", "audio_speech_segment_url", "cc_lineno", "paragraph_digest", "sentence_digest",
    "text_lid_score", "laser_score", "direction", "side", "line_no",
)  # fmt: skip
EXPRESSIVE_COLUMNS = (
    "direction", "side", "line_no", "cc_warc", "duration", "audio_speech_segment_url", "audio_speech_start_frame",
    "audio_speech_end_frame", "laser_score",
)  # fmt: skip

MAX_FRAME = 1 << 53  # numbers beyond are damage, and not exact as doubles
_ABSENT = frozenset({"", "-", "NULL", "null", "None", "none", "\\N"})
_INTEGER = re.compile(r"[+-]?\d{1,20}(?:\.0+)?")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?")
_AUDIO_SIDE = re.compile(r"[a-z]{2,3}A")

# In the published file names these stand for Romanian and Tagalog, of which the release has speech, while ISO 639-1
# gives them to Rundi and Tajik, of which it has none.
_PUBLISHED_SIDES = {"rnA": "ron", "tgA": "tgl"}


@dataclass(frozen=True)
class MetadataLine:
    """One side of a published pair.

    A column that holds nothing is None where it is a number; texts are as they are written, so that an empty one and
    `-` can be told apart.
    """

    cc_warc: str  # text: path of a WET file, or name of another corpus; speech: crawl and number of a WARC file
    cc_sha: str  # text: sha1:… of the record's block in that file, in base 32
    url: str  # of the recording, or of the document that the text is of
    start_frame: int | None  # samples at 16 kHz, of speech alone
    end_frame: int | None
    cc_lineno: int | None  # of text: which of the record's lines that are not blank, from 0
    paragraph_digest: int | None  # of text: xxh3-64 of that line
    duration: float | None  # of speech: seconds of the whole recording
    sentence_digest: int | None  # of text: xxh3-64 of the sentence
    text_lid_score: float | None
    laser_score: float | None  # the margin
    direction: str  # as written, such as enA-frA
    side: str  # as written, such as frA
    line_no: int  # of the pair, within its direction

    @property
    def is_audio(self) -> bool:
        """Whether this side is speech."""
        return self.start_frame is not None

    @property
    def lang(self) -> str:
        """ISO 639-3 code of its language."""
        return side_of(self.side).lang

    @property
    def is_from_common_crawl(self) -> bool:
        """Whether it is text of a WET file."""
        return not self.is_audio and self.cc_warc.lower().endswith((".wet.gz", ".warc.gz", ".wet", ".warc"))


@lru_cache(maxsize=4096)
def side_of(code: str) -> Side:
    """The side that a published code stands for: `frA`, `fra`, `fra_Latn`. Raises ConfigError for an unknown language.

    `rnA` and `tgA` are Romanian and Tagalog, as in the names of the published files; Rundi and Tajik are written `runA`
    and `tgkA` (`published_code`).
    """
    if code in _PUBLISHED_SIDES:
        return Side(_PUBLISHED_SIDES[code], is_audio=True)
    if _AUDIO_SIDE.fullmatch(code):
        return Side(find_language(code[:-1]).iso639_3, is_audio=True)
    return Side(find_language(code).iso639_3, is_audio=False)


def published_code(side: Side) -> str:
    """The code under which a side is written into metadata, which `side_of` reads back."""
    code = str(side)
    return f"{side.lang}A" if code in _PUBLISHED_SIDES else code


@lru_cache(maxsize=4096)
def sides_of(direction: str) -> tuple[str, str]:
    """The codes of a direction's two sides, as they are written. Raises UnreadableError `direction`."""
    codes = direction.split("-")
    if len(codes) != 2 or not all(codes):
        raise UnreadableError("direction", f"{direction!r} is no direction: two sides joined by '-', such as enA-frA")
    for code in codes:
        try:
            side_of(code)
        except ConfigError as error:
            raise UnreadableError("unknown_language", f"direction {direction!r}: {error}") from None
    return codes[0], codes[1]


def form_of(lines: Sequence[str]) -> Form | None:
    """In which form some lines are, by the first that can be read in one; None where none can."""
    for text in lines:
        for form in _FORMS:
            try:
                parse_line(text, form)
                return form
            except UnreadableError:
                continue
    return None


def parse_line(text: str, form: Form) -> MetadataLine:
    """One line, without its end, as what it says.

    Raises UnreadableError with the reasons `header`, `columns`, `not_a_number`, `direction`, `unknown_language`,
    `side_not_in_direction`, `no_address`, `no_frames` and `frames_reversed` (negative ones too).
    """
    if _is_header(text):
        raise UnreadableError("header", "names of columns")
    return _FORMS[form](text)


def tsv_line(line: MetadataLine) -> str:
    """A line in SeamlessAlign's form of 11 columns, with its end. Raises ValueError where a text cannot be in one."""
    place = f"{line.url} {line.start_frame} {line.end_frame}" if line.is_audio else line.url
    paragraph = _shown(line.duration if line.is_audio else line.paragraph_digest, "0" if line.is_audio else "")
    values = (
        line.cc_warc,
        line.cc_sha,
        place,
        _shown(line.cc_lineno),
        paragraph,
        _shown(line.sentence_digest, "0" if line.is_audio else ""),
        _shown(line.text_lid_score),
        _shown(line.laser_score),
        line.direction,
        line.side,
        str(line.line_no),
    )
    for name, value in zip(COLUMNS, values, strict=True):
        if any(sign in value for sign in "\t\n\r"):
            raise ValueError(f"{name} has a tab or an end of line in it: {value!r}")
    return "\t".join(values) + "\n"


def _shown(value: float | None, absent: str = "") -> str:
    return absent if value is None else repr(value)


# --- the forms


def _is_header(text: str) -> bool:
    first = text.replace("\t", " ").split(" ", 2)[:2]
    return first in (["cc_warc", "cc_sha"], ["direction", "side"], ["wet_file_url", "document_sha1"])


def _seamlessalign(text: str) -> MetadataLine:
    values = text.split("\t")
    if len(values) != len(COLUMNS):
        raise UnreadableError("columns", f"{len(values)} columns; {len(COLUMNS)} separated by tabs were expected")
    return _line(values)


def _nllb(text: str) -> MetadataLine:
    """Separated by single spaces; what is too much belongs to the address, as in SeamlessAlign's with its tabs gone."""
    values = text.split(" ")
    if len(values) < len(COLUMNS):
        raise UnreadableError("columns", f"{len(values)} columns; {len(COLUMNS)} separated by spaces were expected")
    return _line([*values[:2], " ".join(values[2:-8]), *values[-8:]])


def _expressive(text: str) -> MetadataLine:
    values = text.split(" ")
    expected = len(EXPRESSIVE_COLUMNS)
    if len(values) < expected:
        raise UnreadableError("columns", f"{len(values)} columns; {expected} separated by spaces were expected")
    direction, side, line_no, cc_warc, duration = values[:5]
    place = " ".join(values[5:-1])
    return _line([cc_warc, "", place, "", duration, "", "", values[-1], direction, side, line_no])


_FORMS: dict[Form, Callable[[str], MetadataLine]] = {
    "seamlessalign": _seamlessalign,
    "expressive": _expressive,
    "nllb": _nllb,
}


def _line(values: Sequence[str]) -> MetadataLine:
    """A line of the 11 columns' values."""
    cc_warc, cc_sha, place, cc_lineno, paragraph, sentence, lid_score, score, direction, side, number = values
    if side not in sides_of(direction):
        raise UnreadableError("side_not_in_direction", f"side {side!r} is none of {direction!r}")
    line_no = _integer("line_no", number, MAX_FRAME)
    if line_no is None:
        raise UnreadableError("not_a_number", "line_no is empty")
    speech = side_of(side).is_audio
    url, start, end = _audio_place(place) if speech else (place.strip(), None, None)
    duration = _number("paragraph_digest", paragraph) if speech else None
    return MetadataLine(
        cc_warc=cc_warc,
        cc_sha=cc_sha,
        url=url,
        start_frame=start,
        end_frame=end,
        cc_lineno=_integer("cc_lineno", cc_lineno, MAX_FRAME),
        paragraph_digest=None if speech else _integer("paragraph_digest", paragraph, 1 << 64),
        duration=duration if duration is not None and duration > 0 else None,  # 0: the first releases had none
        sentence_digest=None if speech else _integer("sentence_digest", sentence, 1 << 64),
        text_lid_score=_number("text_lid_score", lid_score),
        laser_score=_number("laser_score", score),
        direction=direction,
        side=side,
        line_no=line_no,
    )


def _audio_place(place: str) -> tuple[str, int, int]:
    """Address, first frame and the one behind the last; an address may have spaces in it."""
    parts = place.strip().rsplit(" ", 2)
    if len(parts) < 3 or not _INTEGER.fullmatch(parts[1]) or not _INTEGER.fullmatch(parts[2]):
        raise UnreadableError("no_frames", f"{place!r} is no address with two frames behind it")
    if not parts[0].strip():
        raise UnreadableError("no_address", f"{place!r} has frames and no address")
    start, end = int(float(parts[1])), int(float(parts[2]))
    if not 0 <= start < end < MAX_FRAME:
        raise UnreadableError("frames_reversed", f"frames {parts[1]} to {parts[2]} are no span of a recording")
    return parts[0].strip(), start, end


def _integer(name: str, text: str, limit: int) -> int | None:
    if text in _ABSENT:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 20 or int(text) >= limit:
        raise UnreadableError("not_a_number", f"{name} {text!r} is no whole number from 0 to {limit - 1}")
    return int(text)


def _number(name: str, text: str) -> float | None:
    if text in _ABSENT:
        return None
    plain = text.replace(",", ".") if text.count(",") == 1 and "." not in text else text  # as spreadsheets may write it
    if not text.isascii() or not _NUMBER.fullmatch(plain) or not math.isfinite(float(plain)):
        raise UnreadableError("not_a_number", f"{name} {text!r} is no number")
    return float(plain)
