"""Filters on the candidates of one direction: the columns of pairs and the configuration → reasons to drop them.

Mining calls `before_overlaps` and `sounds_alike`, lets overlaps in time be resolved among the rows without a reason,
and then calls `after_overlaps`. What a pair itself is judged by comes before, so that a pair that will be dropped
pushes no other out; what only limits how many pairs are taken comes after, so that the number or the hours asked for
are those kept. The first two look at each row by itself, so rows may come in any order and in parts.

Columns, for each side `src` and `tgt`: of text `<side>_text`, of speech `<side>_uri`, `<side>_start`, `<side>_end`; of
both `<side>_lang_prob` where a least probability is set. A speech side may have `<side>_transcript`.
"""

import hashlib
from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from seamlessalign import storage
from seamlessalign.audio import cut
from seamlessalign.config import FiltersConfig
from seamlessalign.errors import ConfigError, InputError, UnreadableError
from seamlessalign.languages import Direction, Side
from seamlessalign.mining.audio_filters import Fetch, Samples, identical_audio
from seamlessalign.mining.filters import (
    chars_per_second,
    duration,
    duration_ratio,
    first_reason,
    repeated_text,
    speech_language_probability,
    text_language_probability,
    top_hours,
)
from seamlessalign.mining.text_filters import Lexicon, identical_text, text_shares, toxicity_imbalance
from seamlessalign.pipelines.recordings import open_recording

Columns = dict[str, Any]
Rows = npt.NDArray[np.int64]


def before_overlaps(src: Side, tgt: Side, columns: Columns, filters: FiltersConfig, reasons: Any) -> Any:
    """Add the reasons of every filter that looks at a pair by itself; a string column, null where a pair stays.

    reasons: those found so far, such as `below_threshold`; they stay. Identical audio is not looked for. Raises
    ConfigError for a lexicon that cannot be read, InputError for a column that a filter needs and is not there.
    """
    sides = (("src", src), ("tgt", tgt))
    texts = {name: columns[f"{name}_text"] for name, side in sides if not side.is_audio}
    spans = {name: (columns[f"{name}_start"], columns[f"{name}_end"]) for name, side in sides if side.is_audio}
    found = [reasons]
    lengths = {"min_seconds": filters.min_seconds, "max_seconds": filters.max_seconds}
    found += [duration(*span, **lengths) for span in spans.values()]
    if len(spans) == 2:
        found.append(duration_ratio(*spans["src"], *spans["tgt"], max_ratio=filters.max_duration_ratio))
    rates = {"min_rate": filters.min_chars_per_second, "max_rate": filters.max_chars_per_second}
    if len(spans) == len(texts) == 1:
        found += [chars_per_second(text, *span, **rates) for text in texts.values() for span in spans.values()]
    found += _language_reasons(columns, sides, filters)
    shares = {
        "max_emoji": filters.max_emoji_share,
        "max_punctuation": filters.max_punctuation_share,
        "max_spaces": filters.max_space_share,
    }
    found += [text_shares(text, **shares) for text in texts.values()]
    if len(texts) == 2 and filters.drop_identical_text:
        found.append(identical_text(texts["src"], texts["tgt"]))
    found += _toxicity_reasons(src, tgt, columns, filters)
    return first_reason(*found)


def sounds_alike(columns: Columns, reasons: Any, fetch: Fetch | None = None) -> Any:
    """Add `identical_audio` among the rows without a reason, of which both sides are speech.

    Recordings are opened one after the other. fetch: where samples come from; by default the recordings of the uri
    columns.
    """
    (a, b), (c, d) = ((columns[f"{side}_start"], columns[f"{side}_end"]) for side in ("src", "tgt"))
    rows = _by_recordings(columns, np.flatnonzero(_left(reasons)))
    return first_reason(reasons, identical_audio(a, b, c, d, rows, fetch or partial(_samples, columns)))


def after_overlaps(
    src: Side, tgt: Side, columns: Columns, scores: npt.NDArray[Any], filters: FiltersConfig, reasons: Any
) -> Any:
    """Add `repeated_text` and `beyond_max_hours` among the rows without a reason, the best by score staying.

    scores: `(num_pairs,)`, higher is better. The columns `<side>_text` have what counts as one text, such as what
    `fold` makes of it, or a number of that. The pairs of each text are limited first, on the source side and then on
    the target side, the hours last.
    """
    sides = (("src", src), ("tgt", tgt))
    for name, side in sides:
        if filters.max_pairs_per_text is not None and not side.is_audio:
            more = repeated_text(columns[f"{name}_text"], scores, _left(reasons), max_pairs=filters.max_pairs_per_text)
            reasons = first_reason(reasons, more)
    audio = next((name for name, side in sides if side.is_audio), None)
    if filters.max_hours is not None and audio is not None:
        span = columns[f"{audio}_start"], columns[f"{audio}_end"]
        reasons = first_reason(reasons, top_hours(*span, scores, _left(reasons), max_hours=filters.max_hours))
    return reasons


def idle_filters(src: Side, tgt: Side, filters: FiltersConfig, transcripts: bool = False) -> list[str]:
    """A line for every filter that the configuration asks for and that cannot do anything for this direction.

    transcripts: whether the speech sides' rows carry transcripts.
    """
    lines, name = [], str(Direction(src, tgt))
    wanted = [side for side in (src, tgt) if side.lang in filters.toxicity_lexicons]
    if wanted:
        deaf = [str(side) for side in (src, tgt) if side.is_audio and not transcripts]
        bare = [side.lang for side in (src, tgt) if side not in wanted]
        why = f"{' and '.join(deaf)} has no text" if deaf else f"there is none for {' and '.join(bare)}"
        if deaf or bare:
            lines.append(f"mining.filters.toxicity_lexicons: nothing is dropped from {name}, since {why}")
    if filters.drop_identical_audio and not (src.is_audio and tgt.is_audio):
        lines.append(f"mining.filters.drop_identical_audio: nothing is dropped from {name}, which is not all speech")
    if filters.max_pairs_per_text is not None and src.is_audio and tgt.is_audio:
        lines.append(f"mining.filters.max_pairs_per_text: nothing is dropped from {name}, which has no text")
    return lines


def lexicons_digest(filters: FiltersConfig) -> str:
    """16 hex digits that change with the languages and contents of the lexicons; empty where there are none.

    Raises ConfigError for a lexicon that cannot be read.
    """
    if not filters.toxicity_lexicons:
        return ""
    total = hashlib.sha256()
    for lang, uri in sorted(filters.toxicity_lexicons.items()):
        total.update("\n".join([lang, *_terms(lang, uri), "", ""]).encode())
    return total.hexdigest()[:16]


def read_lexicon(lang: str, uri: str) -> Lexicon:
    """The lexicon of a language from a file with a word or phrase on each line. Raises ConfigError."""
    try:
        return Lexicon.of(_terms(lang, uri))
    except InputError as error:
        raise ConfigError(f"{_place(lang, uri)}: {error}") from error


def _terms(lang: str, uri: str) -> list[str]:
    try:
        lines = storage.read_bytes(uri).removeprefix(b"\xef\xbb\xbf").splitlines()
    except OSError as error:
        raise ConfigError(f"{_place(lang, uri)}: cannot be read: {error.strerror or error}") from error
    terms = []
    for number, line in enumerate(lines, 1):
        try:
            terms.append(line.decode("utf-8").strip())
        except UnicodeDecodeError as error:
            raise ConfigError(f"{_place(lang, uri)}: line {number} is not UTF-8") from error
    terms = [term for term in terms if term]
    if not terms:
        raise ConfigError(f"{_place(lang, uri)}: holds no word; write one word or phrase a line")
    return terms


def _place(lang: str, uri: str) -> str:
    return f"mining.filters.toxicity_lexicons.{lang}: {uri}"


def _language_reasons(columns: Columns, sides: tuple[tuple[str, Side], ...], filters: FiltersConfig) -> list[Any]:
    found = []
    for name, side in sides:
        least = filters.min_speech_lang_prob if side.is_audio else filters.min_text_lang_prob
        if not least:
            continue
        column = columns.get(f"{name}_lang_prob")
        if column is None:
            raise InputError(f"a least language probability is set, but there is no column {name}_lang_prob")
        probability = speech_language_probability if side.is_audio else text_language_probability
        found.append(probability(column, min_prob=least))
    return found


def _toxicity_reasons(src: Side, tgt: Side, columns: Columns, filters: FiltersConfig) -> list[Any]:
    said = [columns.get(f"{name}_text", columns.get(f"{name}_transcript")) for name in ("src", "tgt")]
    uris = [filters.toxicity_lexicons.get(side.lang) for side in (src, tgt)]
    if uris[0] is None or uris[1] is None or said[0] is None or said[1] is None:
        return []
    lexicons = read_lexicon(src.lang, uris[0]), read_lexicon(tgt.lang, uris[1])
    return [toxicity_imbalance(said[0], said[1], *lexicons)]


def _left(reasons: Any) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.is_null(reasons).to_numpy(zero_copy_only=False), bool)


def _by_recordings(columns: Columns, rows: Rows) -> Rows:
    """Rows in the order of their recordings, so that a batch of them opens few."""
    uris = pa.table({name: pc.take(columns[name], pa.array(rows)) for name in ("src_uri", "tgt_uri")})
    order = pc.sort_indices(uris, sort_keys=[("src_uri", "ascending"), ("tgt_uri", "ascending")])  # stable
    return np.asarray(rows[order.to_numpy()], np.int64)


def _samples(columns: Columns, side: Literal["src", "tgt"], rows: Rows) -> Iterator[tuple[int, Samples]]:
    """The samples of spans, each recording opened once; one that cannot be read, or became too short, is left out.

    This is not the place to complain about it: whoever cuts the kept pairs opens it again, and counts it.
    """
    picked = [pc.take(columns[f"{side}_{name}"], pa.array(rows)).to_pylist() for name in ("uri", "start", "end")]
    wanted: dict[str, dict[tuple[int, int], list[int]]] = {}
    for row, uri, start, end in zip(rows.tolist(), *picked, strict=True):
        wanted.setdefault(uri, {}).setdefault((start, end), []).append(row)
    for uri, spans in wanted.items():
        ordered = sorted(spans)
        try:
            with open_recording(uri) as (path, decoding):
                pieces = cut(path, ordered, decoding)
        except (OSError, UnreadableError, InputError):
            continue
        for span, samples in zip(ordered, pieces, strict=True):
            for row in spans[span]:
                yield row, samples
