"""Decoys of the text sides: sentences known to have no counterpart, or made out of the side's own, and embedded."""

import gzip
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seamlessalign import storage
from seamlessalign.embedders.card import unit_rows
from seamlessalign.errors import ConfigError, InputError, StorageError, UnreadableError
from seamlessalign.languages import Direction, Side
from seamlessalign.mining.decoys import choose_decoys, make_decoys
from seamlessalign.pipelines.context import Context, Stopwatch, advance
from seamlessalign.pipelines.inputs import find_texts
from seamlessalign.pipelines.ledger import Mark, Tally
from seamlessalign.pipelines.text_stage import load_embedder
from seamlessalign.segmentation.text import clean_sentence, drop_reason

log = logging.getLogger(__name__)

STAGE = "decoys"
TABLE = "state/mining/decoys"
_SEED = 20230822
_NO_ORIGIN = ["", ""]
_BATCH = 512  # sentences embedded between two reports of progress


@dataclass(frozen=True)
class Decoys:
    """Where a side's decoys come from: `sides` (another side), `texts`, `made`, `lent` (by a text side), or `none`."""

    kind: str
    rows: npt.NDArray[np.float32]  # (num_decoys, dim)
    centred: bool  # about a mean of their own
    made_from: list[list[str]]  # ids of two rows that each was made from, empty for none; no line: taken as equal


def kind_of(side: Side, context: Context) -> str:
    """Where a side's decoys are to come from.

    Speech that is mined against speech has no text to make decoys of: a text side of the run lends its own, which lie
    in the same space.
    """
    config = context.config.mining.decoys
    if str(side) in config.sides:
        return "sides"
    if side.is_audio:
        directions = [Direction.parse(name) for name in context.config.directions]
        alone = any(side in (d.src, d.tgt) and d.src.is_audio and d.tgt.is_audio for d in directions)
        return "lent" if alone and sides_to_embed(context) else "none"
    if config.texts:
        return "texts"
    return "made" if config.made else "none"


def check(context: Context) -> None:
    """Raise ConfigError where a side or a file that the configuration names cannot be."""
    config = context.config.mining.decoys
    sides = {str(side) for side in context.config.sides()}
    for name, other in config.sides.items():
        if name not in sides:
            known = ", ".join(sorted(sides))
            raise ConfigError(f"mining.decoys.sides: no direction has a side {name!r}; there are {known}")
        parsed = Side.parse(other)
        languages = context.config.speech_languages() if parsed.is_audio else context.config.text_languages()
        if parsed.lang not in languages:
            section = "speech" if parsed.is_audio else "text"
            raise ConfigError(
                f"mining.decoys.sides: {name}: {other} is not kept: add {parsed.lang} to {section}.languages"
            )
        if parsed == Side.parse(name):
            raise ConfigError(f"mining.decoys.sides: {name} cannot be its own decoys")
    for file in find_texts(config.texts, context.config.root):
        if file.problem is not None:
            raise ConfigError(f"mining.decoys.texts: {file.uri}: {file.problem}")


def sides_to_embed(context: Context) -> list[Side]:
    """Text sides whose decoys have to be embedded, sorted by name."""
    texts = [side for side in context.config.sides() if not side.is_audio]
    sides = {str(side): side for side in texts if kind_of(side, context) in ("texts", "made")}
    return [sides[name] for name in sorted(sides)]


def digest_parts(side: Side, context: Context) -> list[Any]:
    """What a side's decoys depend on besides the rows of the side."""
    config, kind = context.config.mining.decoys, kind_of(side, context)
    parts: list[Any] = [kind, config.count, config.same_kind]
    if kind == "texts":
        parts += [[file.uri, file.version] for file in find_texts(config.texts, context.config.root)]
    if kind == "sides":
        parts.append(config.sides[str(side)])
    if kind == "lent":
        parts += [str(lender := sides_to_embed(context)[0]), digest_parts(lender, context)]
    return parts


def process(side: Side, digest: str, context: Context) -> Mark:
    """Choose or make the decoys of a text side, embed them, write them, and return the completion mark."""
    watch, kind = Stopwatch(), kind_of(side, context)
    with watch.step("choose decoys"):
        texts, made_from = _choose(side, kind, context)
    rows = np.zeros((0, 0), np.float32)
    with watch.step("embed decoys"):
        if texts:
            embedder = load_embedder(context)
            rows = np.concatenate(
                [_embedded(texts[start : start + _BATCH], side, embedder) for start in range(0, len(texts), _BATCH)]
            )
    uri = _uri(side, context)
    origins = pa.array(made_from, pa.list_(pa.string()))
    table = pa.table({"text": pa.array(texts, pa.string()), "made_from": origins})
    if len(rows):
        values = pa.FixedSizeListArray.from_arrays(pa.array(rows.astype(np.float16).ravel()), rows.shape[1])
        table = table.append_column("embedding", values)
    written = storage.write_table(uri, table, metadata={"seamlessalign.digest": digest})
    tally = Tally()
    tally.keep(len(texts))
    line = tally.line(STAGE, f"lang={side.lang}", digest=digest, seconds=watch.seconds, bytes_written=written)
    return Mark(STAGE, f"lang={side.lang}", digest, [context.folder.relative(uri)], [line])


def _choose(side: Side, kind: str, context: Context) -> tuple[list[str], list[list[str]]]:
    """Texts of decoys, and the ids of the sentences that each was made from."""
    count = context.config.mining.decoys.count
    tables = [storage.read_table(uri, ["sentence_id", "text"]) for uri in context.side_files(side)]
    own = {row["sentence_id"]: row["text"] for table in tables for row in table.to_pylist()}
    ids = sorted(own)
    sentences = [own[identity] for identity in ids]
    try:
        if kind == "texts":
            given = _read_texts(context)
            chosen = [given[row] for row in choose_decoys(given, count, _SEED, avoid=sentences)]
            return chosen, [_NO_ORIGIN for _ in chosen]
        made = make_decoys(sentences, min(count, len(sentences)), _SEED)
    except InputError as error:
        log.warning("side %s: no decoys, and so no estimate of precision: %s", side, error)
        return [], []
    return made.texts, [[ids[row] for row in rows] for rows in made.made_from.tolist()]


def of_side(side: Side, context: Context, dim: int) -> Decoys:
    """A side's decoys, at most as many as the configuration says."""
    config, kind = context.config.mining.decoys, kind_of(side, context)
    if kind in ("texts", "made"):
        table = storage.read_table(_uri(side, context))
        rows = storage.embeddings_of(table) if len(table) else np.zeros((0, dim))
        return Decoys(kind, rows.astype(np.float32), centred=False, made_from=_origins(table, kind, context))
    if kind == "lent":
        table = storage.read_table(_uri(sides_to_embed(context)[0], context))
        if not len(table):
            return _none(dim)
        lent = unit_rows(storage.embeddings_of(table).astype(np.float32))
        shift = lent.mean(0, dtype=np.float64) if context.config.mining.centre else np.zeros(lent.shape[1])
        return Decoys(kind, (lent - shift).astype(np.float32), centred=True, made_from=[_NO_ORIGIN] * len(table))
    if kind == "sides":
        return _of_other_side(Side.parse(config.sides[str(side)]), context, dim)
    return _none(dim)


def _none(dim: int) -> Decoys:
    return Decoys("none", np.zeros((0, dim), np.float32), centred=True, made_from=[])


def _of_other_side(other: Side, context: Context, dim: int) -> Decoys:
    """Rows spread evenly over another side's, in the order of ids, less that side's mean."""
    from seamlessalign.pipelines.gather_stage import spread_rows

    config = context.config.mining.decoys
    rows = spread_rows(other, config.count, context)
    if not len(rows):
        return _none(dim)
    if rows.shape[1] != dim:
        raise StorageError(
            f"{other}: has {rows.shape[1]} dimensions, the side that it gives decoys to {dim}: embed it again"
        )
    origins = [] if config.same_kind else [_NO_ORIGIN] * len(rows)
    return Decoys("sides", rows, centred=True, made_from=origins)


def _origins(table: pa.Table, kind: str, context: Context) -> list[list[str]]:
    if kind == "texts" and context.config.mining.decoys.same_kind:
        return []
    return list(table.column("made_from").to_pylist())


def _embedded(texts: list[str], side: Side, embedder: Any) -> npt.NDArray[np.float32]:
    rows: npt.NDArray[np.float32] = embedder.embed(texts, side.lang)
    advance(STAGE, len(texts))
    return rows


def _read_texts(context: Context) -> list[str]:
    text = context.config.text
    sentences: dict[str, None] = {}
    for file in find_texts(context.config.mining.decoys.texts, context.config.root):
        data = storage.read_bytes(file.uri)
        for line in (gzip.decompress(data) if file.uri.endswith(".gz") else data).split(b"\n"):
            try:
                sentence = clean_sentence(line)
            except UnreadableError:
                continue  # one bad line among decoys costs nothing but itself
            if drop_reason(sentence, min_chars=text.min_chars, max_chars=text.max_chars) is None:
                sentences[sentence] = None
    return list(sentences)


def _uri(side: Side, context: Context) -> str:
    return storage.join(context.folder.table(TABLE), f"lang={side.lang}.parquet")
