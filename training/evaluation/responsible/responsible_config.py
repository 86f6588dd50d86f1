"""What a configuration says of responsible use: added toxicity, and gender."""

from pathlib import Path
from typing import Literal, Self

from pydantic import NonNegativeInt

from seamlessalign.typed_config import Section, beside


class Toxicity(Section):
    """Toxic phrases that outputs have more of than sources."""

    lexicons: str  # folder with a file for each language, such as eng_Latn_twl.txt
    sentencepiece: str | None = None  # file of pieces for languages without spaces; else letters are looked for
    source: Literal["text", "asr"] = "text"  # of the rows, or what is heard in their speech
    skip_missing: bool = False  # directions without a lexicon are told and have no score; else an error

    def beside(self, file: Path) -> Self:
        """Paths relative to the folder of the configuration's file."""
        pieces = self.sentencepiece
        near = {"lexicons": beside(file, self.lexicons), "sentencepiece": beside(file, pieces) if pieces else None}
        return self.model_copy(update=near)


class Gender(Section):
    """How much nearer outputs are to masculine references than to feminine ones, or those of masculine sources to the
    reference than those of feminine sources.
    """

    shown: NonNegativeInt = 20  # rows with the largest lean that are kept for people
