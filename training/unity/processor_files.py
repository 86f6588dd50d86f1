"""What transformers' `AutoProcessor` reads beside a model: the vocabulary as its tokenizer has it, and features."""

import tempfile
from pathlib import Path
from typing import Any

from seamlessalign import storage
from seamlessalign.training.vocabulary import PIECES_FILE, TEXT_FILE, TextVocabulary

FEATURES_FILE = "preprocessor_config.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def save_processor(folder: Path, text: TextVocabulary) -> None:
    """Write the files, before the vocabulary's own; nothing happens where they are there for the same vocabulary.

    transformers' tokenizer knows joins (bpe), whatever its files say, and one way to cut for all languages. So there is
    none for a vocabulary of likeliest cuts (unigram), or one that was given pieces for some languages only; what sound
    becomes is told in any case. Raises StorageError.
    """
    from transformers import SeamlessM4TFeatureExtractor

    if not (folder / FEATURES_FILE).is_file():
        storage.write_bytes_atomic(str(folder / FEATURES_FILE), SeamlessM4TFeatureExtractor().to_json_string().encode())
    same = [folder / PIECES_FILE, folder / TEXT_FILE, *(folder / name for name in TOKENIZER_FILES)]
    if all(file.is_file() for file in same) and text.is_in(folder):
        return
    for name in TOKENIZER_FILES:
        storage.remove(str(folder / name))
    behind = sorted(text.languages.values())
    cut_otherwise = any(one.tokens for one in text.added)
    if not text.joins or cut_otherwise or behind != list(range(text.num_pieces + 1, text.num_pieces + 1 + len(behind))):
        return
    with tempfile.TemporaryDirectory(prefix="seamlessalign-") as made:
        _tokenizer(text).save_pretrained(made)
        for name in TOKENIZER_FILES:
            storage.write_bytes_atomic(str(folder / name), (Path(made) / name).read_bytes())


def _tokenizer(text: TextVocabulary) -> Any:
    from transformers import SeamlessM4TTokenizer
    from transformers.convert_slow_tokenizer import generate_merges

    tokens = [text.pad, *text.piece_tokens()]
    vocab = {text.piece(token): token for token in tokens}
    pieces = {piece: -float(token) for piece, token in vocab.items()}
    special = [text.piece(token) for token in (text.pad, text.unk, text.bos, text.eos)]
    tags = [text.piece(token) for token in sorted(text.languages.values())]
    first = tags[0] if tags else ""
    return SeamlessM4TTokenizer(
        vocab=vocab,
        merges=generate_merges(vocab, pieces, skip_tokens=set(special)),
        extra_special_tokens=tags,
        src_lang=first,
        tgt_lang=first,
    )
