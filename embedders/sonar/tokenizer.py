"""SONAR's tokenizer: sentencepiece, with a language tag before a text and `</s>` behind it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seamlessalign.embedders.sonar.tags import TAGS
from seamlessalign.errors import ConfigError, InputError, ModelError
from seamlessalign.languages import to_model_code
from seamlessalign.model_files import SONAR_TOKENIZERS

PAD, EOS = 1, 2  # in transformers' order: <s> <pad> </s> <unk>
_UNKNOWN = 3
_OFFSET = 1  # from a piece's number in sentencepiece to its token, which has <pad> before it
_SPARE_ROWS = 7  # published tables have 3 more, for tags of training data
_FIRST_PIECE = 3  # of sentencepiece, behind its <unk> <s> </s>


class Tokenizer:
    """Texts → tokens and back."""

    def __init__(self, directory: Path) -> None:
        """Load from a directory. Raises ModelError where it holds no tokenizer, or one that cannot be read."""
        from sentencepiece import SentencePieceProcessor

        path = next((directory / file for file in SONAR_TOKENIZERS if (directory / file).is_file()), None)
        if path is None:
            raise ModelError(f"{directory}: has no tokenizer; put {' or '.join(SONAR_TOKENIZERS)} there")
        self._pieces: Any = SentencePieceProcessor()
        try:
            self._pieces.LoadFromSerializedProto(path.read_bytes())
            self._num_pieces = int(self._pieces.GetPieceSize())
        except (OSError, RuntimeError) as error:
            raise ModelError(f"{path}: is no sentencepiece model; get it again") from error
        self.path = path

    def check_table(self, num_rows: int, path: Path) -> None:
        """Check that an embedding table is of this tokenizer: tokens of languages come behind the pieces.

        Raises:
            ModelError: a table with fewer rows than there are tokens, or with many more.
        """
        tokens = self._num_pieces + _OFFSET + len(TAGS)
        if not tokens <= num_rows <= tokens + _SPARE_ROWS:
            raise ModelError(
                f"{path}: embeds {num_rows} tokens, but the tokenizer {self.path.name} beside it has {tokens}; "
                "they do not belong together"
            )

    def encode(self, texts: Sequence[str], lang: str) -> list[list[int]]:
        """Tokens of each text: its language, its pieces, `</s>`.

        Raises:
            InputError: a language that SONAR does not know, or a text of which nothing is left.
        """
        tag, rows = self.tag(lang), []
        for i, text in enumerate(texts):
            try:
                pieces = self._pieces.Encode(text.encode())
            except UnicodeEncodeError as error:
                raise InputError(f"sentence {i} is not Unicode: {error.reason}") from error
            if not pieces:
                raise InputError(f"sentence {i} has nothing that SONAR's tokenizer reads: {text[:20]!r}")
            rows.append([tag, *(self._token(piece) for piece in pieces), EOS])
        return rows

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without tags and other special ones."""
        pieces = [token - _OFFSET for token in tokens]
        return str(self._pieces.Decode([piece for piece in pieces if _FIRST_PIECE <= piece < self._num_pieces]))

    def tag(self, lang: str) -> int:
        """The token of a language (ISO 639-3). Raises InputError where SONAR does not know it."""
        try:
            code = to_model_code(lang, "sonar")
        except ConfigError as error:
            raise InputError(str(error)) from None
        if code is None:
            raise InputError(f"language {lang!r} is none of the {len(TAGS)} that SONAR reads and writes")
        return self._num_pieces + _OFFSET + TAGS.index(code)

    @staticmethod
    def _token(piece: int) -> int:
        return piece + _OFFSET if piece >= _FIRST_PIECE else _UNKNOWN
