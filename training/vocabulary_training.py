"""Learning a vocabulary: texts of several languages, drawn by temperature, and SentencePiece over them."""

import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from seamlessalign import storage
from seamlessalign.errors import ConfigError, InputError
from seamlessalign.languages import get_language
from seamlessalign.speech_rows import has_words, parallel_lines
from seamlessalign.speech_sources import parquet_rows, text_lines
from seamlessalign.training.vocabulary import TextVocabulary
from seamlessalign.training.vocabulary_config import TextSource, VocabularyConfig

ABOUT_FILE = "vocabulary_training.json"


def train_vocabulary(config: VocabularyConfig) -> str:
    """Learn a vocabulary and write its folder; tells what came of it.

    Raises:
        InputError: texts that cannot be read, of which none is usable, or too few for the size.
        StorageError: a folder that cannot be written.
    """
    aside = Counter[str]()
    texts = read_texts(config.data, config.max_bytes, aside)
    if not texts:
        reasons = ", ".join(f"{count} {reason}" for reason, count in aside.most_common()) or "there are none"
        raise InputError(f"data: no text can be learnt from: {reasons}")
    languages = config.languages if config.languages is not None else sorted(texts)
    untagged = sorted(set(texts) - set(languages))
    if untagged:
        raise InputError(f"languages: lacks {', '.join(untagged)}, of which data has texts")
    drawn = draw_texts(texts, config)
    model = fit_pieces([text for lang in sorted(drawn) for text in drawn[lang]], config)
    vocabulary = TextVocabulary(model, languages)
    vocabulary.save(config.output)
    lines, measured = [], {}
    for lang in languages:
        measured[lang] = counts = _measured(vocabulary, texts.get(lang, []), lang)
        lines.append(
            f"  {lang}: {counts['texts']} texts, {len(drawn.get(lang, []))} drawn, "
            f"{counts['characters_per_piece']:.2f} characters a piece, "
            f"{counts['unknown']} of {counts['pieces']} pieces unknown"
        )
    about = {
        "digest": vocabulary.digest,
        "config": config.model_dump(mode="json", exclude={"output"}),
        "set_aside": dict(aside),
        "drawn": {lang: len(some) for lang, some in drawn.items()},
        "languages": measured,
    }
    written = json.dumps(about, indent=1, ensure_ascii=False) + "\n"
    storage.write_bytes_atomic(str(Path(config.output) / ABOUT_FILE), written.encode())
    told = ", ".join(f"{count} {reason}" for reason, count in sorted(aside.items()))
    return "\n".join(
        [
            f"vocabulary: {config.output}, {vocabulary.num_pieces} pieces and {len(languages)} tags, "
            f"{vocabulary.size} tokens in all",
            *lines,
            *([f"  set aside: {told}"] if told else []),
        ]
    )


def read_texts(sources: Sequence[TextSource], max_bytes: int, aside: Counter[str]) -> dict[str, list[str]]:
    """Distinct texts by language, sorted; what is not usable is counted in `aside` by reason. Raises InputError."""
    found: dict[str, set[str]] = {}
    for source in sources:
        for number, (lang, written) in enumerate(_texts_of(source)):
            if source.max_items is not None and number >= source.max_items:
                break
            text = " ".join((written or "").split())
            if not has_words(text):
                aside["without_words"] += 1
            elif len(text.encode(errors="replace")) > max_bytes:
                aside["too_long"] += 1
            elif text in found.setdefault(lang, set()):
                aside["repeated"] += 1
            else:
                found[lang].add(text)
    return {lang: sorted(some) for lang, some in sorted(found.items()) if some}


def draw_texts(texts: Mapping[str, Sequence[str]], config: VocabularyConfig) -> dict[str, list[str]]:
    """Texts of each language, p ∝ n^(1/T) of all that are drawn (arXiv 1907.05019; NLLB, 2207.04672, has T = 5).

    Those of a language with too few are there more often than once; each as often as any other, or once more.
    """
    total = config.texts if config.texts is not None else sum(map(len, texts.values()))
    shares = np.array([len(some) for some in texts.values()], dtype=np.float64) ** (1 / config.temperature)
    counts = np.rint(total * shares / shares.sum()).astype(int)
    drawn = {}
    for number, ((lang, some), count) in enumerate(zip(texts.items(), counts, strict=True)):
        often, rest = divmod(int(count), len(some))
        chosen = np.random.default_rng((config.seed, number)).permutation(len(some))[:rest]
        drawn[lang] = [*some] * often + [some[i] for i in sorted(chosen)]
    return drawn


def fit_pieces(texts: Sequence[str], config: VocabularyConfig, key: str = "size") -> bytes:
    """A SentencePiece model of texts: the bytes of its file.

    Raises InputError, with the `key` of a configuration that says it, where the size does not fit the texts.
    """
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    try:
        SentencePieceTrainer.Train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type=config.model,
            vocab_size=config.size,
            character_coverage=config.character_coverage,
            normalization_rule_name=config.normalisation,
            max_sentence_length=config.max_bytes,
            num_threads=config.threads,
            minloglevel=2,  # its errors are raised
        )
    except (RuntimeError, OSError) as error:
        raise InputError(f"{key}: {_explained(str(error), config.size)}") from error
    return model.getvalue()


def _explained(error: str, size: int) -> str:
    """What SentencePiece says of a size that does not fit, in our words."""
    most = re.search(r"value <= (\d+)", error)
    if most:
        return f"of these texts {size} pieces cannot be made; set {most[1]} or less, or give more text"
    least = re.search(r"required_chars\. \d+ vs (\d+)", error)
    if least:
        return f"{size} pieces are too few for the letters of these texts; set {least[1]} or more, or cover fewer"
    return f"SentencePiece cannot learn {size} pieces of these texts: {' '.join(error.split())[:200]}"


def _texts_of(source: TextSource) -> Iterator[tuple[str, str | None]]:
    """Languages and texts of a source, in its order."""
    if source.kind == "lines":
        for line in text_lines(source.path):
            yield str(source.lang), line
        return
    if source.kind == "parallel":
        for place, values in parallel_lines(source.path):
            for code, text in values.items():
                yield _language(code, place), text
        return

    def wanted(file: str, there: Sequence[str]) -> list[str]:
        lacking = [column for column in source.columns if column not in there]
        if lacking:
            raise InputError(f"{file}: has no column {lacking[0]!r} but {', '.join(there)}; name texts under columns")
        return list(dict.fromkeys([*source.columns, *(lang for lang in source.columns.values() if lang in there)]))

    for path, row, values in parquet_rows(source.path, wanted):
        for column, lang in source.columns.items():
            if values[column] is not None:  # of a side that is speech
                yield _language(str(values.get(lang, lang)), f"{path} row {row}"), values[column]


def _language(code: str, place: str) -> str:
    try:
        return get_language(code).iso639_3
    except ConfigError as error:
        raise InputError(f"{place}: {error}") from error


def _measured(vocabulary: TextVocabulary, texts: Sequence[str], lang: str) -> dict[str, int | float]:
    """How a language's texts are cut, each once."""
    pieces = [piece for text in texts for piece in vocabulary.pieces(text, lang)]
    characters = sum(map(len, texts))
    return {
        "texts": len(texts),
        "pieces": len(pieces),
        "unknown": sum(piece == vocabulary.unk for piece in pieces),
        "characters_per_piece": characters / max(1, len(pieces)),
    }
