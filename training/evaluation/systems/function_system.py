"""A function of the user's as a system: rows in, and of each a text, a waveform, both, or nothing out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign.errors import SeamlessAlignError, UnreadableError
from seamlessalign.training.unity.source_tables import TableRow, waveform_of
from seamlessalign.training.unity.translation_folder import told_of, write_sound

Float32 = npt.NDArray[np.float32]
Made = str | Float32 | tuple[str, Float32] | None  # a text, a waveform at 16 kHz, both, or nothing
_Function = Callable[[Sequence["Asked"]], Sequence[Made]]


@dataclass(frozen=True, eq=False)
class Asked:
    """A row that a function is to translate: it has a text, or a waveform."""

    id: str
    src_lang: str  # ISO 639-3
    tgt_lang: str
    text: str | None = None
    waveform: Float32 | None = None  # float32 (num_samples,) at 16 kHz


class FunctionWorker:
    """Asks a function for rows, all of a chunk at once; where that fails one by one, so that only what must fails."""

    def __init__(self, function: _Function) -> None:
        self._function = function

    def translate(self, rows: Sequence[TableRow], before: int, folder: Path) -> list[dict[str, Any]]:
        lines, asked = [told_of(row) for row in rows], {}
        for i, row in enumerate(rows):
            try:
                asked[i] = _asked(row)
            except UnreadableError as error:
                lines[i] |= {"reason": error.reason, "detail": error.detail}
        for i, made in zip(asked, self._made(list(asked.values())), strict=True):
            try:
                lines[i] |= self._told(made, before + i, folder)
            except UnreadableError as error:
                lines[i] |= {"reason": error.reason, "detail": f"{rows[i].place}: {error.detail}"}
        return lines

    def _made(self, asked: Sequence[Asked]) -> Iterator[Made | UnreadableError]:
        if not asked:
            return
        made: list[Made | UnreadableError]
        try:
            made = self._given(asked)
        except Exception as error:
            if isinstance(error, SeamlessAlignError) and not isinstance(error, UnreadableError):
                raise
            made = [_failure(error)]
            if len(asked) > 1:
                made = [one for each in asked for one in self._made([each])]
        yield from made

    def _given(self, asked: Sequence[Asked]) -> list[Made | UnreadableError]:
        """Raises what the function does, and ValueError where it does not give something for each row."""
        found = self._function(asked)
        if isinstance(found, str | bytes):
            raise ValueError(f"gave {type(found).__name__} for {len(asked)} rows, not a list")
        made: list[Made | UnreadableError] = list(found)
        if len(made) != len(asked):
            raise ValueError(f"gave {len(made)} outputs for {len(asked)} rows")
        return made

    def _told(self, made: Made | UnreadableError, number: int, folder: Path) -> dict[str, Any]:
        """What is told of an output. Raises UnreadableError where it is none."""
        if isinstance(made, UnreadableError):
            raise made
        if made is None:
            raise UnreadableError("function_gave_nothing", "None")
        text, sound = made if isinstance(made, tuple) and len(made) == 2 else (made, made)
        told: dict[str, Any] = {}
        if isinstance(text, str):
            told["hypothesis"] = text.encode(errors="replace").decode()  # what is not Unicode cannot be written
        if isinstance(sound, np.ndarray):
            if sound.ndim != 1 or not len(sound) or not np.issubdtype(sound.dtype, np.floating):
                raise UnreadableError("function_failed", f"gave an array {sound.shape} of {sound.dtype}, no waveform")
            if not np.all(np.isfinite(sound)):
                raise UnreadableError("function_failed", "gave samples that are not finite")
            told["speech"] = write_sound(folder, number, np.asarray(sound, np.float32))
        wanted = 2 if isinstance(made, tuple) else 1
        if len(told) != wanted:
            raise UnreadableError("function_failed", f"gave {type(made).__name__}, neither text nor waveform")
        return told


def _failure(error: Exception) -> UnreadableError:
    if isinstance(error, UnreadableError):
        return error
    return UnreadableError("function_failed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


def _asked(row: TableRow) -> Asked:
    languages = row.src_lang or "", row.tgt_lang or ""
    if row.sound is None and row.samples is None and row.text is not None:
        return Asked(row.id, *languages, text=row.text)
    return Asked(row.id, *languages, waveform=waveform_of(row))
