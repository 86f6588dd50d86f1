"""Whisper as a system: it transcribes speech, and translates it into English."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from seamlessalign.errors import UnreadableError
from seamlessalign.languages import to_model_code
from seamlessalign.training.evaluation.recognisers import pieces_of
from seamlessalign.training.unity.source_tables import TableRow, waveform_of
from seamlessalign.training.unity.translation_folder import told_of
from seamlessalign.whisper import MAX_SPEECH_SECONDS, Float32, Task, Whisper


def task_of(src_lang: str | None, tgt_lang: str | None, only: str | None) -> Task | None:
    """What Whisper does to speech of a language to have it in another; None where it can't.

    only: what the configuration has it do.
    """
    if src_lang is None or to_model_code(src_lang, "whisper") is None:
        return None
    can = "transcribe" if tgt_lang == src_lang else "translate" if tgt_lang == "eng" else None
    return cast("Task | None", can if only in (None, can) else None)


class WhisperWorker:
    """Hears rows: greedy, 28 s at a time, what is longer in equal pieces."""

    def __init__(self, whisper: Whisper, only: str | None = None) -> None:
        self._whisper, self._only = whisper, only

    def translate(self, rows: Sequence[TableRow], before: int, folder: Path) -> list[dict[str, Any]]:
        lines = [told_of(row) for row in rows]
        same: dict[tuple[str, Task], list[tuple[int, Float32]]] = {}
        for i, row in enumerate(rows):
            task = task_of(row.src_lang, row.tgt_lang, self._only)
            if row.src_lang not in self._whisper.languages:  # there are Whispers that know fewer
                task = None
            try:
                if task is None:
                    told = f"{row.place}: Whisper does not make {row.tgt_lang} of speech in {row.src_lang}"
                    raise UnreadableError("not_translated", told)
                same.setdefault((row.src_lang or "", task), []).append((i, waveform_of(row)))
            except UnreadableError as error:
                lines[i] |= {"reason": error.reason, "detail": error.detail}
        for (lang, task), some in same.items():
            pieces = [pieces_of(waveform, MAX_SPEECH_SECONDS) for _, waveform in some]
            heard = iter(self._whisper.hear([piece for those in pieces for piece in those], lang, [task]))
            for (i, _), those in zip(some, pieces, strict=True):
                parts = [next(heard)[0] for _ in those]
                lines[i] |= {
                    "hypothesis": " ".join(text for part in parts if (text := part.text.strip())),
                    "score": float(np.mean([part.avg_logprob for part in parts])),
                    "at_limit": not all(part.finished for part in parts),
                }
        return lines
