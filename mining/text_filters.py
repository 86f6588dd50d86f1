"""Reasons to drop a mined pair that lie in its texts: what they are made of, copies, words of a lexicon on one side.

As in `filters`, a function returns a string column with the reason where a row is to be dropped and null elsewhere; a
row without a text passes.
"""

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from seamlessalign.errors import InputError
from seamlessalign.mining.filters import reason_of

EMOJI_SHARE = "emoji_share"
PUNCTUATION_SHARE = "punctuation_share"
SPACE_SHARE = "space_share"
IDENTICAL_TEXT = "identical_text"
TOXICITY_IMBALANCE = "toxicity_imbalance"

# Characters shown as emoji by themselves (Emoji_Presentation of Unicode 17); above U+1F000 some blocks are taken whole,
# since what is not yet assigned there will be emoji.
_PICTURES = (
    r"\x{231A}\x{231B}\x{23E9}-\x{23EC}\x{23F0}\x{23F3}\x{25FD}\x{25FE}\x{2614}\x{2615}\x{2648}-\x{2653}\x{267F}"
    r"\x{2693}\x{26A1}\x{26AA}\x{26AB}\x{26BD}\x{26BE}\x{26C4}\x{26C5}\x{26CE}\x{26D4}\x{26EA}\x{26F2}\x{26F3}\x{26F5}"
    r"\x{26FA}\x{26FD}\x{2705}\x{270A}\x{270B}\x{2728}\x{274C}\x{274E}\x{2753}-\x{2755}\x{2757}\x{2795}-\x{2797}"
    r"\x{27B0}\x{27BF}\x{2B1B}\x{2B1C}\x{2B50}\x{2B55}\x{1F004}\x{1F0CF}\x{1F18E}\x{1F191}-\x{1F19A}\x{1F201}\x{1F21A}"
    r"\x{1F22F}\x{1F232}-\x{1F236}\x{1F238}-\x{1F23A}\x{1F250}\x{1F251}\x{1F300}-\x{1F64F}\x{1F680}-\x{1F6FF}"
    r"\x{1F7E0}-\x{1F7EB}\x{1F7F0}\x{1F90C}-\x{1F93A}\x{1F93C}-\x{1F945}\x{1F947}-\x{1F9FF}\x{1FA70}-\x{1FAFF}"
)
_PICTURE = f"[{_PICTURES}]"
# Any symbol or sign outside ASCII may be asked to look like an emoji by what follows it; digits, # and * may not.
_SIGN = r"(?:[^\x00-\x7F\p{L}\p{M}\p{N}\p{Z}\p{C}]|\x{2139})"
_TONE = r"[\x{1F3FB}-\x{1F3FF}]"
_TAGS = r"[\x{E0020}-\x{E007F}]*"
_JOINED = rf"\x{{200D}}(?:{_PICTURE}|{_SIGN})(?:\x{{FE0F}}|{_TONE})?{_TAGS}"
_EMOJI = "|".join(
    (
        r"[0-9#*]\x{FE0F}?\x{20E3}",  # keycaps
        r"[\x{1F1E6}-\x{1F1FF}]{2}",  # flags of countries
        rf"{_SIGN}(?:{_JOINED})+",
        rf"(?:{_PICTURE}{_TONE}?\x{{FE0F}}?|{_SIGN}(?:\x{{FE0F}}|{_TONE})){_TAGS}(?:{_JOINED})*",
    )
)
_PICTURE_AS_TEXT = rf"{_PICTURE}\x{{FE0E}}"
_INVISIBLE = r"[\p{M}\p{Cf}]"  # marks belong to the character before them, format characters are not seen
_PUNCTUATION = r"[\p{P}\p{S}]"
_SPACE = r"[\s\v\x{85}\p{Z}]"

_ONLY_LOOKS = r"[\p{Cf}\p{Me}\x{FE00}-\x{FE0F}\x{E0100}-\x{E01EF}]"
_NOT_IN_WORDS = r"[^\p{L}\p{M}\p{N}]+"
_WITHOUT_SPACES = (
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\p{Tai_Le}\p{Javanese}]"
)


def text_shares(text: Any, *, max_emoji: float, max_punctuation: float, max_spaces: float) -> Any:
    """`emoji_share`, `punctuation_share` or `space_share` where more than that share of the characters is of the kind.

    The characters are those of `count_characters`.
    """
    for name, share in (("emoji", max_emoji), ("punctuation", max_punctuation), ("spaces", max_spaces)):
        if not 0 <= share <= 1:
            raise InputError(f"max_{name} is {share}: a share is between 0 and 1")
    counts = count_characters(text)

    def more_than(share: float, number: Any) -> Any:
        return pc.greater(pc.cast(number, pa.float64()), pc.multiply(pc.cast(counts.all, pa.float64()), share))

    return reason_of(
        (EMOJI_SHARE, more_than(max_emoji, counts.emoji)),
        (PUNCTUATION_SHARE, more_than(max_punctuation, counts.punctuation)),
        (SPACE_SHARE, more_than(max_spaces, counts.spaces)),
    )


@dataclass(frozen=True, eq=False)
class CharacterCounts:
    """Characters of each text as a reader sees them: int32 columns, null where there is no text."""

    all: Any
    emoji: Any
    punctuation: Any
    spaces: Any


def count_characters(text: Any) -> CharacterCounts:
    """Count what a reader sees: combining marks and format characters do not count, an emoji counts as one.

    An emoji is a whole sequence of Unicode Technical Standard 51: with its skin tone, joined people, a flag, a keycap.
    What is shown as text unless asked otherwise (©, ☎, digits) is an emoji only where it is asked. Punctuation is
    Unicode's punctuation and all other symbols, in which `$`, `+` and `~` are.
    """
    plain = pc.replace_substring_regex(text, _PICTURE_AS_TEXT, "*")
    others = pc.replace_substring_regex(plain, _EMOJI, "x")
    return CharacterCounts(
        all=pc.utf8_length(pc.replace_substring_regex(others, _INVISIBLE, "")),
        emoji=pc.count_substring_regex(plain, _EMOJI),
        punctuation=pc.count_substring_regex(others, _PUNCTUATION),
        spaces=pc.count_substring_regex(others, _SPACE),
    )


def fold(text: Any) -> Any:
    """Texts without what does not change the words: NFKC, case folded, one space for all that is not in words.

    What only changes how a character looks is taken out first: format characters such as soft hyphens, variation
    selectors, enclosing marks. A text without any word stays as it is.
    """
    return _once_each(text, _folded)


def identical_text(src_text: Any, tgt_text: Any) -> Any:
    """`identical_text` where both sides say the same but for case, punctuation and spaces: nothing was translated."""
    return reason_of((IDENTICAL_TEXT, pc.equal(fold(src_text), fold(tgt_text))))


@dataclass(frozen=True)
class Lexicon:
    """Words and phrases of one language, folded."""

    phrases: frozenset[str]  # found where whole words stand: words joined by one space
    parts: frozenset[str]  # of scripts without spaces between words: found anywhere

    @staticmethod
    def of(terms: Iterable[str]) -> "Lexicon":
        """A lexicon of terms as people write them. Raises InputError for a term without a letter or digit."""
        given = sorted(set(terms))
        folded = _folded(given)
        for term, words in zip(given, folded, strict=True):
            if not any(unicodedata.category(character)[0] in "LN" for character in words):
                raise InputError(f"lexicon: {term!r} has no letter or digit to be found by")
        inside = pc.match_substring_regex(pa.array(folded, pa.string()), _WITHOUT_SPACES).to_pylist()
        pairs = list(zip(folded, inside, strict=True))
        return Lexicon(frozenset(term for term, part in pairs if not part), frozenset(t for t, part in pairs if part))


def count_hits(text: Any, lexicon: Lexicon) -> Any:
    """How often terms of a lexicon occur in each text, int64; null where there is no text.

    Case, punctuation and compatibility forms do not matter. A term in a script that writes no spaces between words
    (Han, kana, Thai, Lao, Khmer, Burmese, …) is found anywhere, also where it is part of another word; all others only
    as whole words. Terms within one another count each.
    """
    word_counts = sorted({term.count(" ") + 1 for term in lexicon.phrases})
    lengths = sorted({len(term) for term in lexicon.parts})

    def hits(folded: str) -> int:
        words = folded.split(" ")
        found = sum(
            " ".join(words[i : i + n]) in lexicon.phrases for n in word_counts for i in range(len(words) - n + 1)
        )
        return found + sum(folded[i : i + n] in lexicon.parts for n in lengths for i in range(len(folded) - n + 1))

    return _once_each(text, lambda texts: [hits(folded) for folded in _folded(texts)], pa.int64())


def toxicity_imbalance(src_text: Any, tgt_text: Any, src_lexicon: Lexicon, tgt_lexicon: Lexicon) -> Any:
    """`toxicity_imbalance` where one side has terms of its lexicon and the other has none: one of them was not said."""
    src = pc.greater(count_hits(src_text, src_lexicon), 0)
    tgt = pc.greater(count_hits(tgt_text, tgt_lexicon), 0)
    return reason_of((TOXICITY_IMBALANCE, pc.xor(src, tgt)))


def _once_each(text: Any, function: Callable[[list[str]], list[Any]], kind: Any = None) -> Any:
    """The function's value for every row, worked out once for each distinct text; null for null."""
    distinct = pc.drop_null(pc.unique(text))
    values = pa.array(function(distinct.to_pylist()), kind or pa.string())
    return pc.take(values, pc.index_in(text, value_set=distinct))


def _folded(texts: list[str]) -> list[str]:
    """Texts folded; those of ASCII, where all that is to be done is in Arrow, in a fifth of the time of others."""
    given = pa.array(texts, pa.string())
    plain = pc.string_is_ascii(given)
    words = pc.replace_substring_regex(pc.ascii_lower(given.filter(plain)), "[^a-z0-9]+", " ")
    others = _folded_any(given.filter(pc.invert(plain)))
    folded = pc.replace_with_mask(pc.replace_with_mask(given, plain, words), pc.invert(plain), others)
    folded = pc.utf8_trim(folded, " ")
    return pc.if_else(pc.equal(pc.binary_length(folded), 0), given, folded).to_pylist()  # type: ignore[no-any-return]


def _folded_any(texts: Any) -> Any:
    def case(text: str) -> str:
        return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())

    seen = pc.replace_substring_regex(texts, _ONLY_LOOKS, "")
    cased = pa.array([case(text) for text in seen.to_pylist()], pa.string())
    return pc.replace_substring_regex(cased, _NOT_IN_WORDS, " ")
