"""The corpus → transcripts: what is said in the audio of every kept pair, as far as Whisper hears it.

Pairs of speech and speech have no text, and UnitY is taught to write one before it speaks.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from seamlessalign.config import TranscriptsConfig
from seamlessalign.embedders.speech import hear_any_length
from seamlessalign.errors import ConfigError
from seamlessalign.model_files import find_model, place_of
from seamlessalign.pipelines.context import Context
from seamlessalign.pipelines.corpus_stage import CorpusShard
from seamlessalign.pipelines.folder import TRANSCRIPTS_STAGE
from seamlessalign.pipelines.ledger import Mark
from seamlessalign.pipelines.side_tables import AudioSide, SideMaker, process_sides
from seamlessalign.rows import TRANSCRIPTS
from seamlessalign.speech_rows import has_words
from seamlessalign.whisper import Transcript, load_whisper

STAGE = TRANSCRIPTS_STAGE
MODEL = "seamlessalign.transcripts"  # in the schema's metadata: the name and SHA-256 of who heard this
_AT_ONCE = 64  # pairs; windows that are equally long are heard together


def digest_parts(context: Context) -> list[Any]:
    """What transcripts depend on besides the audio."""
    chosen = settings(context)
    model = find_model(chosen.model, place_of(chosen.model, context.config.models))
    return [model.sha256, sorted(chosen.sides), chosen.max_compression_ratio]


def settings(context: Context) -> TranscriptsConfig:
    """The section of the configuration. Raises ConfigError where there is none."""
    if context.config.transcripts is None:
        raise ConfigError("transcripts: the configuration has no such section")
    return context.config.transcripts


def process(shard: CorpusShard, digest: str, context: Context) -> Mark:
    """Transcribe one shard of the corpus, write what was heard, and return the completion mark."""
    chosen = settings(context)

    def load() -> SideMaker:
        whisper = load_whisper(chosen.model, place_of(chosen.model, context.config.models), context.device)
        models: dict[str, str] = {chosen.model: whisper.files.sha256}
        about = {MODEL: f"{chosen.model} {whisper.files.sha256}"}
        return _Transcripts(
            TRANSCRIPTS, models, about, "transcribe", _AT_ONCE,
            whisper=whisper, max_compression_ratio=chosen.max_compression_ratio,
        )  # fmt: skip

    return process_sides(STAGE, shard, digest, context, chosen.sides, load)


def compression_ratio(text: str) -> float:
    """Bytes of a text by those that zlib makes of it: what goes round and round is made small.

    As Whisper's own program measures it (Radford et al. 2022, section 4.5).
    """
    data = text.encode()
    return len(data) / len(zlib.compress(data))


@dataclass(frozen=True)
class _Transcripts(SideMaker):
    whisper: Any = None
    max_compression_ratio: float = 0.0

    def make(self, sides: Sequence[AudioSide]) -> list[dict[str, Any] | str]:
        made: list[dict[str, Any] | str] = ["unknown_language" for _ in sides]
        for lang in sorted({side.lang for side in sides} & self.whisper.languages):
            numbers = [i for i, side in enumerate(sides) if side.lang == lang]
            heard = hear_any_length(self.whisper, [sides[i].waveform for i in numbers], lang, ["transcribe"])
            for i, (transcript,) in zip(numbers, heard, strict=True):
                made[i] = self._judged(transcript)
        return made

    def _judged(self, heard: Transcript) -> dict[str, Any] | str:
        text = " ".join(heard.text.split())
        if not has_words(text):
            return "no_words"
        if heard.looped or compression_ratio(text) > self.max_compression_ratio:
            return "loop"
        if not heard.finished:
            return "unfinished"
        return {"text": text, "avg_logprob": round(heard.avg_logprob, 3)}  # not to depend on the order of sums
