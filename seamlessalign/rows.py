"""The rows that flow through a run, each beside its Parquet schema, and the ids that identify them.

Times are int64 samples at 16 kHz, half-open `[start, end)`. Ids come from content, so that running a step twice
gives the same rows. Embeddings are `fixed_size_list<float16>[D]`; D belongs to the embedder, so the schemas of
`segments` and `sentences` are made by functions.
"""

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import xxhash

SAMPLE_RATE = 16_000  # samples per second of everything after decoding
SCHEMA_VERSION = "1"


@dataclass(frozen=True)
class Recording:
    """One audio file. `drop_reason` is null for a recording that was segmented."""

    recording_id: str  # first 16 hex digits of the SHA-256 of the file's bytes; .1 behind them where it is channel 1
    uri: str
    sha256: str
    num_samples: int  # at 16 kHz
    original_sample_rate: int  # Hz
    channels: int
    lang: str | None  # ISO 639-3
    lang_prob: float | None
    speech_samples: int  # samples inside detected speech
    license: str | None
    source: str | None
    drop_reason: str | None


RECORDINGS = pa.schema(
    [
        pa.field("recording_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("num_samples", pa.int64(), nullable=False),
        pa.field("original_sample_rate", pa.int32(), nullable=False),
        pa.field("channels", pa.int16(), nullable=False),
        pa.field("lang", pa.string()),
        pa.field("lang_prob", pa.float32()),
        pa.field("speech_samples", pa.int64(), nullable=False),
        pa.field("license", pa.string()),
        pa.field("source", pa.string()),
        pa.field("drop_reason", pa.string()),
    ]
)


@dataclass(frozen=True)
class Segment:
    """One candidate span of a recording: a run of voice-activity fragments. The embedding is kept beside it."""

    segment_id: str  # recording_id:start-end
    recording_id: str
    uri: str
    start: int
    end: int
    lang: str
    lang_prob: float
    speech_ratio: float  # share of the span that is inside fragments
    num_fragments: int


def segments_schema(dim: int, measures: Sequence[str] = ()) -> pa.Schema:
    """Schema of `segments` for embeddings of `dim` dimensions, with columns for `measures` if any are named."""
    return pa.schema(
        [
            pa.field("segment_id", pa.string(), nullable=False),
            pa.field("recording_id", pa.string(), nullable=False),
            pa.field("uri", pa.string(), nullable=False),
            pa.field("start", pa.int64(), nullable=False),
            pa.field("end", pa.int64(), nullable=False),
            pa.field("lang", pa.string(), nullable=False),
            pa.field("lang_prob", pa.float32(), nullable=False),
            pa.field("speech_ratio", pa.float32(), nullable=False),
            pa.field("num_fragments", pa.int32(), nullable=False),
            *(pa.field(name, pa.float32(), nullable=False) for name in measures),
            pa.field("embedding", pa.list_(pa.float16(), dim), nullable=False),
        ]
    )


@dataclass(frozen=True)
class Sentence:
    """One line of text. The embedding is kept beside it."""

    sentence_id: str  # xxh3-64 hex of the NFC text and language
    text: str
    lang: str
    lang_prob: float
    document_id: str  # the file it came from
    position: int  # line number in that file, from 0


def sentences_schema(dim: int) -> pa.Schema:
    """Schema of `sentences` for embeddings of `dim` dimensions."""
    return pa.schema(
        [
            pa.field("sentence_id", pa.string(), nullable=False),
            pa.field("text", pa.string(), nullable=False),
            pa.field("lang", pa.string(), nullable=False),
            pa.field("lang_prob", pa.float32(), nullable=False),
            pa.field("document_id", pa.string(), nullable=False),
            pa.field("position", pa.int64(), nullable=False),
            pa.field("embedding", pa.list_(pa.float16(), dim), nullable=False),
        ]
    )


@dataclass(frozen=True)
class Pair:
    """Two rows that may mean the same. Audio columns are null on a text side and text is null on an audio side."""

    pair_id: str  # xxh3-64 hex of both ids
    direction: str
    src_id: str
    tgt_id: str
    src_lang: str
    tgt_lang: str
    src_uri: str | None
    src_start: int | None
    src_end: int | None
    src_text: str | None
    tgt_uri: str | None
    tgt_start: int | None
    tgt_end: int | None
    tgt_text: str | None
    margin: float
    cosine: float
    forward_rank: int  # 0-based place of tgt among src's neighbours; -1 when it is not among them
    backward_rank: int  # 0-based place of src among tgt's neighbours; -1 when it is not among them
    precision_estimate: float | None
    kept: bool
    drop_reason: str | None


PAIRS = pa.schema(
    [
        pa.field("pair_id", pa.string(), nullable=False),
        pa.field("direction", pa.string(), nullable=False),
        pa.field("src_id", pa.string(), nullable=False),
        pa.field("tgt_id", pa.string(), nullable=False),
        pa.field("src_lang", pa.string(), nullable=False),
        pa.field("tgt_lang", pa.string(), nullable=False),
        pa.field("src_uri", pa.string()),
        pa.field("src_start", pa.int64()),
        pa.field("src_end", pa.int64()),
        pa.field("src_text", pa.string()),
        pa.field("tgt_uri", pa.string()),
        pa.field("tgt_start", pa.int64()),
        pa.field("tgt_end", pa.int64()),
        pa.field("tgt_text", pa.string()),
        pa.field("margin", pa.float32(), nullable=False),
        pa.field("cosine", pa.float32(), nullable=False),
        pa.field("forward_rank", pa.int16(), nullable=False),
        pa.field("backward_rank", pa.int16(), nullable=False),
        pa.field("precision_estimate", pa.float32()),
        pa.field("kept", pa.bool_(), nullable=False),
        pa.field("drop_reason", pa.string()),
    ]
)


@dataclass(frozen=True)
class PairUnits:
    """The speech of one side of a kept pair as discrete units, 50 a second, each run of equal ones once."""

    pair_id: str
    side: str  # src or tgt
    lang: str
    units: list[int]
    durations: list[int]  # frames of 20 ms that each lasts


UNITS = pa.schema(
    [
        pa.field("pair_id", pa.string(), nullable=False),
        pa.field("side", pa.string(), nullable=False),
        pa.field("lang", pa.string(), nullable=False),
        pa.field("units", pa.list_(pa.int32()), nullable=False),
        pa.field("durations", pa.list_(pa.int32()), nullable=False),
    ]
)


@dataclass(frozen=True)
class PairTranscript:
    """What a recogniser heard in the speech of one side of a kept pair."""

    pair_id: str
    side: str  # src or tgt
    lang: str
    text: str
    avg_logprob: float  # mean log-probability (natural) of its tokens, to three decimals: how sure the recogniser was


TRANSCRIPTS = pa.schema(
    [
        pa.field("pair_id", pa.string(), nullable=False),
        pa.field("side", pa.string(), nullable=False),
        pa.field("lang", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("avg_logprob", pa.float32(), nullable=False),
    ]
)

_AUDIO = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])  # what datasets.Audio stores

CORPUS = pa.schema(
    [
        pa.field("pair_id", pa.string(), nullable=False),
        pa.field("direction", pa.string(), nullable=False),
        pa.field("margin", pa.float32(), nullable=False),
        pa.field("src_lang", pa.string(), nullable=False),
        pa.field("tgt_lang", pa.string(), nullable=False),
        pa.field("src_audio", _AUDIO),
        pa.field("tgt_audio", _AUDIO),
        pa.field("src_text", pa.string()),
        pa.field("tgt_text", pa.string()),
        pa.field("src_id", pa.string(), nullable=False),
        pa.field("tgt_id", pa.string(), nullable=False),
        pa.field("src_uri", pa.string()),
        pa.field("src_start", pa.int64()),
        pa.field("src_end", pa.int64()),
        pa.field("src_license", pa.string()),
        pa.field("src_source", pa.string()),
        pa.field("tgt_uri", pa.string()),
        pa.field("tgt_start", pa.int64()),
        pa.field("tgt_end", pa.int64()),
        pa.field("tgt_license", pa.string()),
        pa.field("tgt_source", pa.string()),
    ]
)


def recording_id(sha256: str, channel: int | None = None) -> str:
    """Id of a recording from the SHA-256 (64 hex digits) of its file's bytes, and its channel where each is one."""
    return sha256[:16] if channel is None else f"{sha256[:16]}.{channel}"


def segment_id(recording: str, start: int, end: int) -> str:
    """Id of the span `[start, end)` (samples at 16 kHz) of a recording."""
    return f"{recording}:{start}-{end}"


def sentence_id(text: str, lang: str) -> str:
    """Id of a sentence: xxh3-64 (16 hex digits) of its NFC text and language."""
    return xxhash.xxh3_64_hexdigest(f"{unicodedata.normalize('NFC', text)}\n{lang}".encode())


def pair_id(src_id: str, tgt_id: str) -> str:
    """Id of a pair: xxh3-64 (16 hex digits) of both ids."""
    return xxhash.xxh3_64_hexdigest(f"{src_id}\n{tgt_id}".encode())


def sha256_hex(data: bytes) -> str:
    """SHA-256 of bytes as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class LedgerLine:
    """What one shard of one stage did: `rows_in = rows_kept + Σ dropped.values()`, and the same in samples.

    Stages and their rows: `recordings` (files; samples are those decoded), `segments` (candidate spans, which overlap),
    `sentences` (lines of text), `pairs` (mined candidates; samples are those of the first audio side), `corpus` (kept
    pairs written with audio), `units` and `transcripts` (audio sides of these).
    """

    stage: str
    shard: str  # name of the output, such as part-00003 or direction=eng-frA
    rows_in: int
    rows_kept: int
    dropped: dict[str, int]  # reason → rows
    samples_in: int
    samples_kept: int
    samples_dropped: dict[str, int]  # reason → samples
    seconds: dict[str, float]  # step, such as decode, vad, lid, embed → core-seconds of work
    bytes_read: int
    bytes_written: int
    peak_rss: int  # bytes, of the process that did the shard
    quarantined: int  # of the dropped, how many are inputs that could not be read
    digest: str  # of the configuration that the stage depends on and of its inputs
    models: dict[str, str]  # name → SHA-256 of every model that touched the rows


LEDGER = pa.schema(
    [
        pa.field("stage", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("rows_in", pa.int64(), nullable=False),
        pa.field("rows_kept", pa.int64(), nullable=False),
        pa.field("dropped", pa.map_(pa.string(), pa.int64()), nullable=False),
        pa.field("samples_in", pa.int64(), nullable=False),
        pa.field("samples_kept", pa.int64(), nullable=False),
        pa.field("samples_dropped", pa.map_(pa.string(), pa.int64()), nullable=False),
        pa.field("seconds", pa.map_(pa.string(), pa.float64()), nullable=False),
        pa.field("bytes_read", pa.int64(), nullable=False),
        pa.field("bytes_written", pa.int64(), nullable=False),
        pa.field("peak_rss", pa.int64(), nullable=False),
        pa.field("quarantined", pa.int64(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("models", pa.map_(pa.string(), pa.string()), nullable=False),
    ]
)
