"""The tokens of text and of units: numbers as SeamlessM4T numbers them, so that its tables fit and ours fit it.

Text is cut by SentencePiece. Piece `i` is token `i + 1`, since `<pad>` stands before them; tags of languages follow
behind the pieces. What is added later, tags or pieces, follows behind everything, so that no token ever moves.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign import storage
from seamlessalign.errors import InputError, ModelError

PIECES_FILE = "sentencepiece.bpe.model"  # as transformers calls it, whichever kind of model it is
TEXT_FILE = "text_vocabulary.json"
UNITS_FILE = "unit_vocabulary.json"
UNIT_OFFSET = 4  # from a unit to its token
_OFFSET = 1  # from a piece's number in SentencePiece to its token
_SPECIAL_PIECES = 3  # of SentencePiece, at its beginning: <unk> <s> </s>


@dataclass(frozen=True)
class AddedPieces:
    """What a vocabulary was given later: languages, and a model that cuts finer, for them only.

    All other languages are cut as they were. `model` is the one before, with further pieces, if any, at its end.
    """

    model: bytes
    languages: tuple[str, ...]
    tokens: tuple[int, ...]  # of the further pieces, in their order


class TextVocabulary:
    """Texts → tokens and back. `languages` are what it has tags for: ISO 639-3 → token."""

    pad, unk, bos, eos = 0, 1, 2, 3

    def __init__(
        self,
        model: bytes,
        languages: Sequence[str] | Mapping[str, int],
        *,
        size: int | None = None,
        added: Sequence[AddedPieces] = (),
    ) -> None:
        """Of a SentencePiece model and the languages' codes, whose tags follow behind the pieces in this order.

        Args:
            model: the bytes of the file; its first pieces are `<unk> <s> </s>`.
            languages: codes, or codes with their tokens where these are given.
            size: tokens in all, where there are some that mean nothing here, as published tables have.
            added: what was added later, in its order.

        Raises:
            ModelError: bytes that are no such model, or tags that do not fit.
        """
        self.model, self.added = model, tuple(added)
        self._cutters = [_processor(model), *(_processor(one.model) for one in self.added)]
        self.num_pieces = int(self._cutters[0].GetPieceSize())  # without those that were added
        first = self.num_pieces + _OFFSET
        if not isinstance(languages, Mapping):
            if len(set(languages)) < len(languages):
                raise ModelError(f"vocabulary: a language is there twice among {', '.join(languages)}")
            languages = {lang: first + i for i, lang in enumerate(languages)}
        self.languages: dict[str, int] = dict(languages)
        self._tokens = [np.arange(self.num_pieces) + _OFFSET]  # of the pieces of each cutter
        self._cutter_of: dict[str, int] = {}
        for i, one in enumerate(self.added, 1):
            self._tokens.append(np.concatenate([self._tokens[-1], np.asarray(one.tokens, dtype=np.int64)]))
            self._cutter_of |= dict.fromkeys(one.languages, i)
            if self._cutters[i].GetPieceSize() != len(self._tokens[i]):
                raise ModelError(f"vocabulary: its {i}. addition has not as many pieces as tokens")
        behind = [*self.languages.values(), *self._tokens[-1][self.num_pieces :]]
        self.size = max([first - 1, *behind]) + 1 if size is None else size
        if len(set(behind)) < len(behind) or any(not first <= token < self.size for token in behind):
            raise ModelError(
                f"vocabulary: tags and added pieces must be tokens of their own from {first} to {self.size - 1}"
            )
        self._piece_of = {int(token): piece for piece, token in enumerate(self._tokens[-1])}

    @property
    def digest(self) -> str:
        """16 hex digits that change with anything that changes tokens."""
        parts = [self.model, *(one.model for one in self.added), json.dumps(self._about(), sort_keys=True).encode()]
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:16]

    @property
    def joins(self) -> bool:
        """Whether its SentencePiece model is one of joins (bpe): scores are 0, -1, -2, … in the order of pieces."""
        cutter = self._cutters[0]
        return all(cutter.GetScore(i) == _SPECIAL_PIECES - i for i in range(_SPECIAL_PIECES, self.num_pieces))

    def tag(self, lang: str) -> int:
        """The token of a language. Raises InputError where there is none."""
        return _tag(self.languages, lang, "text")

    def pieces(self, text: str, lang: str | None = None) -> list[int]:
        """Tokens of a text by itself, cut as its language is. Raises InputError where it is not Unicode."""
        cutter = self._cutter_of.get(lang, 0) if lang else 0
        try:
            found = self._cutters[cutter].Encode(text.encode())
        except UnicodeEncodeError as error:
            raise InputError(f"text {text[:20]!r} is not Unicode: {error.reason}") from error
        tokens = self._tokens[cutter]
        return [int(tokens[piece]) for piece in found]

    def source(self, text: str, lang: str) -> list[int]:
        """What the text encoder reads: `[tag] pieces </s>`. Raises InputError."""
        return [self.tag(lang), *self.pieces(text, lang), self.eos]

    def target(self, text: str, lang: str) -> list[int]:
        """What the text decoder is taught: `</s> [tag] pieces </s>`, each token from those before it."""
        return [self.eos, self.tag(lang), *self.pieces(text, lang), self.eos]

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens; tags, special tokens and those that mean nothing are left out."""
        found = (self._piece_of.get(int(token), 0) for token in tokens)
        return str(self._cutters[-1].Decode([piece for piece in found if piece >= _SPECIAL_PIECES]))

    def unwritten(self, lang: str) -> frozenset[int]:
        """Tokens that no text of a language has: what was added later than it, and what means nothing."""
        own = self._cutter_of.get(lang, 0)
        known = {self.pad, *(int(token) for token in self._tokens[own]), *self.languages.values()}
        later = {self.languages[other] for one in self.added[own:] for other in one.languages}
        return frozenset(range(self.size)) - (known - later)

    def piece_tokens(self) -> list[int]:
        """The tokens of all pieces, `<unk> <s> </s>` first."""
        return [int(token) for token in self._tokens[-1]]

    def piece(self, token: int) -> str:
        """A token as SentencePiece writes it, a tag as `__eng__`; for people."""
        if token == self.pad:
            return "<pad>"
        if token in self._piece_of:
            return str(self._cutters[-1].IdToPiece(self._piece_of[token]))
        return next((f"__{lang}__" for lang, tag in self.languages.items() if tag == token), f"<{token}>")

    def save(self, directory: str | Path) -> None:
        """Write the SentencePiece models and `text_vocabulary.json`, each whole or not at all. Raises StorageError."""
        folder = Path(directory)
        storage.write_bytes_atomic(str(folder / PIECES_FILE), self.model)
        for i, one in enumerate(self.added, 1):
            storage.write_bytes_atomic(str(folder / _added_file(i)), one.model)
        _write_json(folder / TEXT_FILE, self._about())

    def is_in(self, directory: str | Path) -> bool:
        """Whether a folder has this very vocabulary."""
        try:
            return load_text_vocabulary(directory).digest == self.digest
        except ModelError:
            return False

    def _about(self) -> dict[str, Any]:
        added = [{"languages": list(one.languages), "tokens": list(one.tokens)} for one in self.added]
        return {"pieces": self.num_pieces, "languages": self.languages, "size": self.size, "added": added}


class UnitVocabulary:
    """Units → tokens and back: `<s> <pad> </s> <unk>`, units, tags. `languages` are those that it has tags for."""

    bos, pad, eos, unk = 0, 1, 2, 3
    offset = UNIT_OFFSET

    def __init__(
        self, num_units: int, languages: Sequence[str] | Mapping[str, int], *, size: int | None = None
    ) -> None:
        """Of the number of units and the languages' codes, or codes with their tokens. Raises ModelError."""
        self.num_units = num_units
        first = num_units + UNIT_OFFSET
        if not isinstance(languages, Mapping):
            if len(set(languages)) < len(languages):
                raise ModelError(f"unit vocabulary: a language is there twice among {', '.join(languages)}")
            languages = {lang: first + i for i, lang in enumerate(languages)}
        self.languages: dict[str, int] = dict(languages)
        tags = list(self.languages.values())
        self.size = max([first - 1, *tags]) + 1 if size is None else size
        if num_units < 1 or len(set(tags)) < len(tags) or any(not first <= tag < self.size for tag in tags):
            raise ModelError(f"unit vocabulary: tags must be tokens of their own from {first} to {self.size - 1}")

    @property
    def digest(self) -> str:
        """16 hex digits that change with anything that changes tokens."""
        return hashlib.sha256(json.dumps(self._about(), sort_keys=True).encode()).hexdigest()[:16]

    def tag(self, lang: str) -> int:
        """The token of a language. Raises InputError where there is none."""
        return _tag(self.languages, lang, "unit")

    def target(self, units: Iterable[int] | npt.NDArray[np.integer[Any]], lang: str) -> list[int]:
        """What the unit decoder is taught: `</s> [tag] units </s>`. Raises InputError for a unit that there is not."""
        values = np.asarray(units if isinstance(units, np.ndarray) else list(units), dtype=np.int64)
        if values.size and not (values.min() >= 0 and values.max() < self.num_units):
            wrong = values[(values < 0) | (values >= self.num_units)][0]
            raise InputError(f"unit {wrong} is none of the model's, which are 0 to {self.num_units - 1}")
        return [self.eos, self.tag(lang), *(values + UNIT_OFFSET).tolist(), self.eos]

    @property
    def idle(self) -> frozenset[int]:
        """Tokens behind the units that mean nothing, as published tables have."""
        return frozenset(range(self.num_units + UNIT_OFFSET, self.size)) - set(self.languages.values())

    def units(self, tokens: Iterable[int]) -> list[int]:
        """The units of tokens; tags and special tokens are left out."""
        last = UNIT_OFFSET + self.num_units
        return [int(token) - UNIT_OFFSET for token in tokens if UNIT_OFFSET <= token < last]

    def save(self, directory: str | Path) -> None:
        """Write `unit_vocabulary.json`. Raises StorageError."""
        _write_json(Path(directory) / UNITS_FILE, self._about())

    def _about(self) -> dict[str, Any]:
        return {"units": self.num_units, "languages": self.languages, "size": self.size}


def load_text_vocabulary(directory: str | Path) -> TextVocabulary:
    """The vocabulary in a folder of ours, or of a SeamlessM4T model as transformers has it.

    Raises:
        ModelError: a file that is missing or cannot be what it should.
    """
    folder = Path(directory)
    model = _read(folder / PIECES_FILE)
    if (folder / TEXT_FILE).is_file():
        about = read_json(folder / TEXT_FILE)
        try:
            added = [
                AddedPieces(_read(folder / _added_file(i)), tuple(one["languages"]), tuple(one["tokens"]))
                for i, one in enumerate(about["added"], 1)
            ]
            return TextVocabulary(model, _tags(about["languages"]), size=int(about["size"]), added=added)
        except (KeyError, TypeError, ValueError, ModelError) as error:
            raise ModelError(f"{folder / TEXT_FILE}: is not a vocabulary of ours: {error}") from error
    generation, config = read_json(folder / "generation_config.json"), read_json(folder / "config.json")
    try:
        languages = _tags(generation["text_decoder_lang_to_code_id"])
        return TextVocabulary(model, languages, size=int(config["vocab_size"]))
    except (KeyError, TypeError, ValueError, ModelError) as error:
        raise ModelError(f"{folder}: has no vocabulary of SeamlessM4T's kind: {error}") from error


def load_unit_vocabulary(directory: str | Path) -> UnitVocabulary | None:
    """The vocabulary of units in a folder, as `load_text_vocabulary`; None where a model of ours has none."""
    folder = Path(directory)
    if (folder / UNITS_FILE).is_file():
        about = read_json(folder / UNITS_FILE)
        try:
            return UnitVocabulary(int(about["units"]), _tags(about["languages"]), size=int(about["size"]))
        except (KeyError, TypeError, ValueError, ModelError) as error:
            raise ModelError(f"{folder / UNITS_FILE}: is not a vocabulary of ours: {error}") from error
    if (folder / TEXT_FILE).is_file():
        return None
    generation, config = read_json(folder / "generation_config.json"), read_json(folder / "config.json")
    try:
        languages = _tags(generation["t2u_lang_code_to_id"])
        return UnitVocabulary(int(config["unit_hifi_gan_vocab_size"]), languages, size=int(config["t2u_vocab_size"]))
    except (KeyError, TypeError, ValueError, ModelError) as error:
        raise ModelError(f"{folder}: has no units of SeamlessM4T's kind: {error}") from error


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object of a model's folder. Raises ModelError."""
    try:
        about = json.loads(_read(file))
    except ValueError as error:
        raise ModelError(f"{file}: is not JSON: {error}") from error
    if not isinstance(about, dict):
        raise ModelError(f"{file}: must hold a JSON object")
    return about


def _processor(model: bytes) -> Any:
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(model)
        special = [processor.IdToPiece(i) for i in range(_SPECIAL_PIECES)]
    except (RuntimeError, IndexError) as error:
        raise ModelError("vocabulary: its pieces are no SentencePiece model") from error
    if special != ["<unk>", "<s>", "</s>"]:
        raise ModelError(f"vocabulary: its SentencePiece model begins {' '.join(special)}, not <unk> <s> </s>")
    return processor


def _tag(languages: Mapping[str, int], lang: str, what: str) -> int:
    try:
        return languages[lang]
    except KeyError:
        raise InputError(f"language {lang!r} has no tag in the {what} vocabulary: {' '.join(languages)}") from None


def _tags(languages: Any) -> dict[str, int]:
    return {str(lang): int(token) for lang, token in dict(languages).items()}


def _added_file(number: int) -> str:
    return f"sentencepiece.added{number}.model"


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}") from error


def _write_json(file: Path, about: Mapping[str, Any]) -> None:
    storage.write_bytes_atomic(str(file), (json.dumps(about, indent=1, ensure_ascii=False) + "\n").encode())
