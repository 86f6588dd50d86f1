"""A finished run of many pairs, made of random numbers and words: what the pages and exports are measured with."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from seamlessalign import storage
from seamlessalign.pipelines.folder import RunFolder, shard_name
from seamlessalign.rows import PAIRS, RECORDINGS, SAMPLE_RATE

ROWS_PER_PART = 1_000_000
RECORDINGS_MADE = 20_000
SENTENCES_MADE = 1_000_000
THRESHOLD = 1.15
_REASONS = ("overlap", "chars_per_second", "duration_ratio", "repeated_text")
_LANGS = ("fra", "spa", "deu", "ita", "rus")
_SIDES = {"fra": "frA", "spa": "esA", "deu": "deA", "ita": "itA", "rus": "ruA"}
_HOURS = 0.5  # of each recording
_Rng = np.random.Generator


def make_run(
    root: str,
    pairs: int,
    directions: int = 1,
    seed: int = 0,
    threshold: float = THRESHOLD,
    samples: int | None = None,
    sentences: int = SENTENCES_MADE,
) -> list[str]:
    """Write a run with so many pairs in all and return the names of its directions.

    As mining writes them, the pairs of a direction come best margin first; here they fill several parts. A tenth is
    above the threshold that they are made for, a fifth of which have another reason to be dropped; below 0.99 all are.
    Precision rises with the margin.

    samples: of every span; several lengths where there is none.
    """
    rng = np.random.default_rng(seed)
    langs = _LANGS[:directions]
    folder = RunFolder(root)
    recordings = _recordings(langs, rng)
    storage.write_table(folder.table("recordings", part=shard_name(0)), recordings)
    texts = _sentences(rng, sentences)
    names = [f"eng-{_SIDES[lang]}" for lang in langs]
    for number, (name, lang) in enumerate(zip(names, langs, strict=True)):
        rows = pairs // len(langs) + (number < pairs % len(langs))
        own = recordings.filter(pc.equal(recordings["lang"], lang))
        _direction(folder, name, lang, rows, own, texts, rng, threshold, samples)
    config = {"name": "many pairs", "directions": names, "digest": f"{seed:016x}"}
    storage.write_bytes_atomic(folder.config, yaml.safe_dump(config).encode())
    return names


def _recordings(langs: tuple[str, ...], rng: _Rng) -> pa.Table:
    ids = _hex(rng, RECORDINGS_MADE)
    numbers = np.arange(RECORDINGS_MADE)
    lang = pa.array(np.array(langs)[numbers % len(langs)])
    uris = pc.binary_join_element_wise("https://archive.example/talks/", lang, "/", ids, ".mp3", "")
    samples = np.full(RECORDINGS_MADE, int(_HOURS * 3600 * SAMPLE_RATE))
    columns = {
        "recording_id": ids,
        "uri": uris,
        "sha256": pc.binary_repeat(ids, 4),
        "num_samples": samples,
        "original_sample_rate": np.full(RECORDINGS_MADE, 44_100, np.int32),
        "channels": np.ones(RECORDINGS_MADE, np.int16),
        "lang": lang,
        "lang_prob": rng.uniform(0.5, 1, RECORDINGS_MADE).astype(np.float32),
        "speech_samples": samples * 8 // 10,
        "license": pa.array(np.array(["CC-BY-4.0", "CC-BY-SA-4.0", "CC0-1.0"])[rng.integers(0, 3, RECORDINGS_MADE)]),
        "source": pa.array(np.array(["radio", "talks", "parliament", "books"])[rng.integers(0, 4, RECORDINGS_MADE)]),
        "drop_reason": pa.nulls(RECORDINGS_MADE, pa.string()),
    }
    return pa.table([columns[name] for name in RECORDINGS.names], RECORDINGS)


def _sentences(rng: _Rng, number: int) -> pa.ChunkedArray:
    """Lines of three to twenty made-up words."""
    syllables = np.array(["ka", "to", "ri", "ne", "su", "mo", "la", "ve", "di", "or", "en", "ti"])
    words = pa.array(["".join(syllables[rng.integers(0, 12, rng.integers(1, 5))]) for _ in range(20_000)])
    chunks = []
    for begin in range(0, number, 100_000):
        lengths = rng.integers(3, 21, min(100_000, number - begin))
        picked = words.take(pa.array((20_000 * rng.random(int(lengths.sum())) ** 2).astype(np.int32)))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        chunks.append(pc.binary_join(pa.ListArray.from_arrays(offsets, picked), " "))
    return pa.chunked_array(chunks).combine_chunks()


def _direction(
    folder: RunFolder,
    name: str,
    lang: str,
    rows: int,
    recordings: pa.Table,
    texts: pa.Array,
    rng: _Rng,
    threshold: float,
    samples: int | None,
) -> None:
    margins = -np.sort(-(THRESHOLD - 0.1 + rng.gamma(2.0, 0.04, rows) - 0.055).astype(np.float32))
    metadata = {
        "seamlessalign.threshold": repr(threshold),
        "seamlessalign.threshold_origin": "set in the configuration",
    }
    metadata["seamlessalign.decoys"] = "1000 on the side eng: sentences made up"
    for part, begin in enumerate(range(0, max(rows, 1), ROWS_PER_PART)):
        some = margins[begin : begin + ROWS_PER_PART]
        table = _pairs(name, lang, some, recordings, texts, rng, threshold, samples)
        storage.write_table(folder.table("pairs", f"direction={name}", shard_name(part)), table, metadata=metadata)


def _pairs(
    name: str,
    lang: str,
    margins: npt.NDArray[np.float32],
    recordings: pa.Table,
    texts: pa.Array,
    rng: _Rng,
    threshold: float,
    samples: int | None,
) -> pa.Table:
    rows = len(margins)
    which = rng.integers(0, len(recordings), rows)
    seconds = rng.gamma(3.0, 1.8, rows) + 0.5
    end_of_all = int(_HOURS * 3600 * SAMPLE_RATE)
    start = (rng.random(rows) * (end_of_all - 60 * SAMPLE_RATE)).astype(np.int64) // 512 * 512
    end = start + np.minimum((seconds * SAMPLE_RATE).astype(np.int64) // 512 * 512 + 512, 60 * SAMPLE_RATE)
    if samples is not None:
        end = start + samples
    edges = (pa.array(edge).cast(pa.string()) for edge in (start, end))
    span_ids = pc.binary_join_element_wise(recordings["recording_id"].take(pa.array(which)), next(edges), ":")
    span_ids = pc.binary_join_element_wise(span_ids, next(edges), "-")
    dropped = rng.random(rows) < 0.2
    good = (margins >= np.float32(threshold)) & ~dropped
    reasons = np.array(_REASONS, object)[np.minimum(rng.geometric(0.6, rows) - 1, len(_REASONS) - 1)]
    reasons[margins < np.float32(threshold)] = "below_threshold"
    nothing = {kind: pa.nulls(rows, kind) for kind in (pa.string(), pa.int64())}
    columns = {
        "pair_id": _hex(rng, rows),
        "direction": _same(name, rows),
        "src_id": _hex(rng, rows),
        "tgt_id": span_ids,
        "src_lang": _same("eng", rows),
        "tgt_lang": _same(lang, rows),
        "src_uri": nothing[pa.string()],
        "src_start": nothing[pa.int64()],
        "src_end": nothing[pa.int64()],
        "src_text": texts.take(pa.array(rng.integers(0, len(texts), rows))),
        "tgt_uri": recordings["uri"].take(pa.array(which)),
        "tgt_start": start,
        "tgt_end": end,
        "tgt_text": nothing[pa.string()],
        "margin": margins,
        "cosine": np.clip(0.5 * margins + rng.normal(0, 0.05, rows), -1, 1).astype(np.float32),
        "forward_rank": np.minimum(rng.geometric(0.7, rows) - 1, 15).astype(np.int16),
        "backward_rank": np.minimum(rng.geometric(0.7, rows) - 2, 15).astype(np.int16),
        "precision_estimate": true_precision(margins).astype(np.float32),
        "kept": good,
        "drop_reason": pa.array(reasons, pa.string(), mask=good),
    }
    return pa.table([_one(columns[field.name], field.type) for field in PAIRS], PAIRS)


def true_precision(margins: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:  # type: ignore[type-arg]
    """How likely a pair of a margin is right here."""
    found: npt.NDArray[np.float64] = 0.02 + 0.96 / (1 + np.exp(-40 * (margins.astype(np.float64) - THRESHOLD + 0.02)))
    return found


def _one(column: object, kind: pa.DataType) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return column if isinstance(column, pa.Array) else pa.array(column, kind)


def _same(text: str, rows: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), [text]).cast(pa.string())


def _hex(rng: _Rng, rows: int) -> pa.Array:
    """So many different ids of 16 hex digits."""
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    drawn = rng.integers(0, 256, (rows, 8), np.uint8)
    letters = np.stack([digits[drawn >> 4], digits[drawn & 15]], axis=-1).reshape(rows, 16)
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * 16).buffers()[1]
    return pa.StringArray.from_buffers(rows, offsets, pa.py_buffer(np.ascontiguousarray(letters)))
