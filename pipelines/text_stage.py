"""Texts → sentences with embeddings: clean, split, deduplicate, identify the language, embed."""

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign import storage
from seamlessalign.embedders import TextEmbedder, load_text_embedder
from seamlessalign.errors import UnreadableError
from seamlessalign.lid import TextLid, load_text_lid
from seamlessalign.pipelines.context import Context, Stopwatch, advance
from seamlessalign.pipelines.inputs import InputFile, Shard
from seamlessalign.pipelines.ledger import Mark, Tally
from seamlessalign.pipelines.speech_stage import write_quarantine
from seamlessalign.roots import outside
from seamlessalign.rows import Sentence, sentence_id, sentences_schema
from seamlessalign.segmentation.text import clean_sentence, drop_reason, split_sentences

STAGE = "text"
MAX_LINE_BYTES = 1 << 20  # what is longer is not a sentence and is not held in memory
_BATCH = 512  # sentences embedded between two reports of progress


@dataclass
class _Output:
    sentences: dict[str, list[Sentence]] = field(default_factory=dict)  # by language
    quarantine: list[dict[str, Any]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    tally: Tally = field(default_factory=Tally)
    bytes_read: int = 0


def process(shard: Shard, digest: str, context: Context) -> Mark:
    """Do one shard of text files, write its tables, and return its completion mark."""
    output, watch = _Output(), Stopwatch()
    with watch.step("load models"):
        lid = load_lid(context)
        embedder = load_embedder(context)
    for file in shard.files:
        try:
            if file.problem is not None:
                raise UnreadableError(file.reason, file.problem)
            _read_file(file, context, lid, output, watch)
        except UnreadableError as error:
            output.tally.drop(error.reason, quarantined=True)
            output.quarantine.append({"uri": file.uri, "reason": error.reason, "detail": error.detail})
    models = fingerprints(lid, embedder)
    metadata = {"seamlessalign.digest": digest, "seamlessalign.models": json.dumps(models, sort_keys=True)}
    outputs, written = [], 0
    for lang, sentences in sorted(output.sentences.items()):
        with watch.step("embed"):
            rows = _embed([sentence.text for sentence in sentences], lang, embedder)
        uri = context.folder.table("sentences", f"lang={lang}", shard.name)
        table = storage.with_embeddings([asdict(row) for row in sentences], rows, sentences_schema(embedder.dim))
        written += storage.write_table(uri, table, metadata=metadata)
        outputs.append(context.folder.relative(uri))
    outputs.extend(write_quarantine(context.folder, STAGE, shard.name, output.quarantine))
    line = output.tally.line(
        "sentences",
        shard.name,
        digest=digest,
        seconds=watch.seconds,
        bytes_read=output.bytes_read,
        bytes_written=written,
        models=models,
    )
    return Mark(STAGE, shard.name, digest, outputs, [line])


def load_lid(context: Context) -> TextLid:
    """The run's text language identifier."""
    name = context.config.text.lid.model
    return load_text_lid(name, context.model_directory(name))


def load_embedder(context: Context) -> TextEmbedder:
    """The run's text embedder."""
    name = context.config.text.embedder
    return load_text_embedder(name, context.model_directory(name), context.device, context.threads)


def fingerprints(lid: TextLid, embedder: TextEmbedder) -> dict[str, str]:
    """Name and SHA-256 of every model that touches a sentence."""
    return {lid.name: lid.sha256, **embedder.models}


def _read_file(file: InputFile, context: Context, lid: TextLid, output: _Output, watch: Stopwatch) -> None:
    text, root = context.config.text, context.config.root
    if root is not None and outside(file.uri, root):  # since it was found
        raise UnreadableError("outside_root", f"{file.uri!r} does not lie below the root {root!r}")
    batch: list[tuple[int, str]] = []
    try:
        with storage.open_read(file.uri) as raw:
            source: Any = gzip.GzipFile(fileobj=raw) if file.uri.endswith(".gz") else raw
            for position, line in _lines(source, file, output):
                try:
                    if len(line) > MAX_LINE_BYTES:
                        output.tally.drop("too_long")
                        continue
                    cleaned = clean_sentence(line)
                except UnreadableError as error:
                    place = {"uri": f"{file.uri}#line={position + 1}", "reason": error.reason, "detail": error.detail}
                    output.tally.drop(error.reason, quarantined=True)
                    output.quarantine.append(place)
                    continue
                pieces = split_sentences(cleaned, file.lang or text.lang or "eng") if text.split else [cleaned]
                for sentence in pieces or [cleaned]:
                    reason = drop_reason(sentence, min_chars=text.min_chars, max_chars=text.max_chars)
                    if reason is not None:
                        output.tally.drop(reason)
                    else:
                        batch.append((position, sentence))
                if len(batch) >= _BATCH:
                    _sort_by_language(batch, file, context, lid, output, watch)
                    batch = []
    except FileNotFoundError as error:
        raise UnreadableError("missing", f"it went away: {error}") from error
    except (OSError, EOFError, zlib.error) as error:
        # lines before the fault stay; the fault is one more row that was dropped
        _sort_by_language(batch, file, context, lid, output, watch)
        raise UnreadableError("unreadable", f"{error.__class__.__name__}: {error}") from error
    _sort_by_language(batch, file, context, lid, output, watch)


def _lines(source: Any, file: InputFile, output: _Output) -> Iterator[tuple[int, bytes]]:
    """Numbered lines of this part of a file; of one that is too long only so much that it is seen to be."""
    if file.offset:
        source.seek(file.offset)
    position = file.first_line
    while file.num_lines is None or position < file.first_line + file.num_lines:
        line = source.readline(MAX_LINE_BYTES + 1)
        if not line:
            return
        output.bytes_read += len(line)
        if len(line) > MAX_LINE_BYTES:
            rest = line
            while rest and not rest.endswith(b"\n"):
                rest = source.readline(MAX_LINE_BYTES)
                output.bytes_read += len(rest)
        yield position, line
        position += 1


def _sort_by_language(
    batch: list[tuple[int, str]],
    file: InputFile,
    context: Context,
    lid: TextLid,
    output: _Output,
    watch: Stopwatch,
) -> None:
    config = context.config.text
    stated, wanted = file.lang or config.lang, context.config.text_languages()
    with watch.step("lid"):
        identified = lid.identify([sentence for _, sentence in batch])
    for (position, sentence), (lang, probability) in zip(batch, identified, strict=True):
        certain = probability >= config.lid.min_prob and len(sentence) >= config.lid.min_chars
        if stated is not None and (lang == stated or not certain):
            lang, probability = stated, probability if lang == stated else 0.0
        elif stated is None and probability < config.lid.min_prob:
            output.tally.drop("language_uncertain")
            continue
        if lang is None or lang not in wanted:
            output.tally.drop("language_not_wanted")
            continue
        identity = sentence_id(sentence, lang)
        if identity in output.seen:
            output.tally.drop("duplicate")
            continue
        output.seen.add(identity)
        output.tally.keep()
        output.sentences.setdefault(lang, []).append(
            Sentence(identity, sentence, lang, float(probability), file.uri, position)
        )


def _embed(texts: list[str], lang: str, embedder: TextEmbedder) -> npt.NDArray[np.float32]:
    # neighbours in length share a batch, so that little of it is padding; the order is put back
    order = sorted(range(len(texts)), key=lambda i: (len(texts[i]), i))
    rows = np.empty((len(texts), embedder.dim), np.float32)
    for start in range(0, len(order), _BATCH):
        batch = order[start : start + _BATCH]
        rows[batch] = embedder.embed([texts[i] for i in batch], lang)
        advance(STAGE, len(batch))
    return rows
