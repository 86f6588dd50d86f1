"""The part of configurations that says what a translation model learns from."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from seamlessalign.config import Lang
from seamlessalign.errors import ConfigError
from seamlessalign.languages import find_language
from seamlessalign.sound_changes import Codec
from seamlessalign.training_settings import SoundChangeSettings
from seamlessalign.typed_config import Section, beside

# as `examples.Task`, and t2u: text → units of the same language, what a T2U is pre-trained on
TaskName = Literal["asr", "s2tt", "t2tt", "s2st", "t2st", "t2u"]

TASK_NAMES: tuple[TaskName, ...] = get_args(TaskName)

_PATTERN = r"^([a-z]{3}|\*)-([a-z]{3}|\*)$"
DirectionPattern = Annotated[str, Field(pattern=_PATTERN)]  # such as fra-eng, *-eng


_PATHS = ("path", "units", "transcripts")  # of sources


class SourceSection(Section):
    """What all sources have in common."""

    path: str  # file, folder, pattern or name: what `kind` says
    weight: float = Field(1.0, gt=0)  # of a source beside the others, in the mixture
    human: bool = True  # people made or checked it; else it was mined, or made by machines
    both_ways: bool = True  # either side of a row may be the one that goes in
    max_rows: PositiveInt | None = None  # the first so many

    def beside(self, file: Path) -> Self:
        """The source with its paths taken from where a configuration file is."""
        update = {name: beside(file, value) for name in _PATHS if (value := getattr(self, name, None))}
        return self.model_copy(update=update)


class CorpusSource(SourceSection):
    """What a run mined: its folder, the folder `corpus` in it, or Parquet files of that kind."""

    kind: Literal["corpus"]
    human: bool = False
    units: str | None = None  # folder of units by pair_id and side; by default the run's own, where it has them
    # What a recogniser heard where nobody wrote what is said: a folder by pair_id and side; by default the run's own
    transcripts: str | None = None
    transcripts_for: list[TaskName] = ["s2st"]  # tasks that are taught such texts; in others there is none
    # Of such a text, the mean log-probability of a token; one that is less sure is none. As Whisper's own default.
    min_avg_logprob: float = Field(-1.0, le=0)


class SideColumns(Section):
    """The columns of one side of a row."""

    lang: str | None = None  # of all rows, in any usual code
    lang_column: str | None = None  # column of the language, where rows differ
    audio: str | None = None  # bytes and path as the package datasets has them, bytes, or a path
    seconds: str | None = None  # length of the audio; without it, every header is read once
    text: str | None = None  # column
    units: str | None = None  # a list of numbers

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if (self.lang is None) == (self.lang_column is None):
            raise ValueError("give lang or lang_column")
        if self.lang is not None:
            _language(self.lang)
        if self.audio is None and self.text is None:
            raise ValueError("give audio, text or both")
        if self.seconds and not self.audio:
            raise ValueError("seconds is the length of audio, and there is none")
        return self

    def columns(self) -> list[str]:
        """All columns that are named."""
        return [
            name for name in (self.lang_column, self.audio, self.seconds, self.text, self.units) if name is not None
        ]


class ColumnSource(SourceSection):
    """Rows of named columns."""

    src: SideColumns
    tgt: SideColumns | None = None  # none: speech and its transcription
    margin: str | None = None  # column
    id: str | None = None  # column that names a row, and changes with its content
    units: str | None = None  # folder of units by pair_id (the `id` here) and side

    @model_validator(mode="after")
    def _joined(self) -> Self:
        if self.units and not self.id:
            raise ValueError("units are joined by id: name that column")
        return self


class ParquetSource(ColumnSource):
    """A Parquet file, those in a folder, or those of a pattern."""

    kind: Literal["parquet"]


class HubSource(ColumnSource):
    """A folder that the package datasets has saved, one of files that it loads, or a name that it loads from a hub."""

    kind: Literal["hf"]
    config: str | None = None  # of a name
    split: str | None = None  # of a name; such as train

    def beside(self, file: Path) -> Self:
        """A path that is no folder beside the configuration file stays the name that it may be."""
        moved = super().beside(file)
        return moved if Path(moved.path).is_dir() else moved.model_copy(update={"path": self.path})


class ManifestSource(SourceSection):
    """JSON lines with `source` and `target`, as SeamlessM4T's own fine-tuning takes them."""

    kind: Literal["manifest"]
    both_ways: bool = False


class LinesSource(SourceSection):
    """Parallel texts: JSON lines, each an object of texts by language."""

    pairs: list[tuple[str, str]] = Field(default_factory=list)  # of languages, such as [fra, eng]

    @model_validator(mode="after")
    def _known(self) -> Self:
        for lang in {lang for pair in self.pairs for lang in pair}:
            _language(lang)
        return self


class TextSource(LinesSource):
    """Parallel texts as they are."""

    kind: Literal["text"]
    pairs: list[tuple[str, str]] = Field(min_length=1)


class EspeakSource(LinesSource):
    """Texts that espeak-ng reads out, parallel or not; or a text file, a sentence a line, all of `lang`."""

    kind: Literal["espeak"]
    human: bool = False
    lang: str | None = None  # of all lines of a text file
    voices: dict[Lang, list[str]] = Field(default_factory=dict)  # of a language; by default its code
    variants: list[str] = Field(default_factory=list)  # added to a voice in turn, such as f2, m3, klatt
    words_per_minute: list[PositiveInt] = Field(default=[155], min_length=1)  # taken in turn

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if bool(self.pairs) == bool(self.lang):
            raise ValueError("give pairs of languages, or lang where all lines are of one")
        if self.lang is not None:
            _language(self.lang)
        return self


DataSource = Annotated[
    CorpusSource | ParquetSource | HubSource | ManifestSource | TextSource | EspeakSource, Field(discriminator="kind")
]


class TaskChoice(Section):
    """One task, and for which languages it is learnt."""

    weight: float = Field(1.0, gt=0)  # beside other tasks, in the mixture
    sources: list[Lang] | None = None  # languages that go in; by default all
    targets: list[Lang] | None = None  # languages that come out; by default all


class LimitSettings(Section):
    """What is too short, too long or too unlike to be learnt."""

    min_seconds: float = Field(0.1, gt=0)  # of speech, on either side
    max_seconds: float = Field(50.0, gt=0)  # likewise
    max_subwords: PositiveInt = 250  # of a text, without tags
    max_units: PositiveInt = 2500  # of speech as units, without repeats
    max_chars_ratio: float | None = Field(None, gt=1)  # of the longer text of a pair to the shorter one
    max_chars_per_second: float | None = Field(None, gt=0)  # of a text beside the speech that it is of

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_seconds > self.max_seconds:
            raise ValueError(f"min_seconds {self.min_seconds:g} is above max_seconds {self.max_seconds:g}")
        return self


class ChoiceSettings(Section):
    """Which of the mined rows are learnt, by task and direction: the best by margin.

    Hours are those of the speech that goes in or, where text does, of the longer speech of the row; rows without any
    speech are not limited.
    """

    min_margin: float | None = None  # of mined rows; below, a row is not learnt
    max_hours: dict[DirectionPattern, PositiveFloat] = Field(default_factory=dict)  # mined; the first that fits counts
    total_hours: dict[DirectionPattern, PositiveFloat] = Field(default_factory=dict)  # what people made comes first

    def hours(self, src: str, tgt: str) -> tuple[float | None, float | None]:
        """The limits of a direction: of mined rows, and of all."""
        name = f"{src}-{tgt}"
        mined, total = (
            next((hours for pattern, hours in limits.items() if fnmatchcase(name, pattern)), None)
            for limits in (self.max_hours, self.total_hours)
        )
        return mined, total


class MixingSettings(Section):
    """How much of an epoch each source, task and direction has."""

    # p ∝ weight · n^(1/T), n rows: 1 as there are, and each once where all weights are equal; large: all alike
    temperature: float = Field(1.0, ge=1)
    epoch_items: PositiveInt | None = None  # by default as many as there are


class BatchSettings(Section):
    """How large batches are, over all processes, and in what order they come."""

    max_frames: PositiveInt = 30_000  # of speech, 50 a second: rows × the longest
    max_tokens: PositiveInt = 8_000  # of text, on either side: rows × the longest
    max_units: PositiveInt = 30_000  # rows × the longest
    max_rows: PositiveInt = 256  # of a batch
    by_length: bool = True  # rows of like length together
    window_mb: PositiveInt = 256  # of row groups among which rows are shuffled; each loading process keeps them


class AugmentSettings(SoundChangeSettings):
    """What is done to speech and its features; the same for the same seed, epoch and row."""

    reverb: float = Field(0.0, ge=0, le=1)  # share that is heard in a room
    max_reverb_seconds: float = Field(0.8, gt=0)  # time in which its sound falls by 60 dB, at most
    noises: str | None = None  # folder of recordings that are the noise, such as MUSAN; without, it is made
    codec: float = Field(0.0, ge=0, le=1)  # share that is heard behind a codec
    codecs: list[Codec] = Field(["phone", "gsm", "mp3", "opus"], min_length=1)  # one of them, each alike
    # SpecAugment (Park et al. 2019): stretches that are hidden
    frequency_masks: NonNegativeInt = 0
    frequency_width: PositiveInt = 27  # of 80 mel bins, at most
    time_masks: NonNegativeInt = 0  # stretches of time
    time_width: PositiveInt = 100  # frames of 10 ms, at most
    time_share: float = Field(1.0, gt=0, le=1)  # of the utterance, that one stretch may hide

    @model_validator(mode="after")
    def _heard(self) -> Self:
        if self.noises and not self.noise:
            raise ValueError("noises are heard in the share `noise` of speech, which is 0")
        return self


def _tasks(value: object) -> object:
    """A list of names is as good as a dictionary without keys below."""
    return {name: {} for name in value} if isinstance(value, list) and all(isinstance(n, str) for n in value) else value


class TranslationData(Section):
    """What is learnt, and what of it is set aside."""

    train: list[DataSource] = Field(min_length=1)
    validation: list[DataSource] = Field(default_factory=list)  # by default a share of `train`, by text
    validation_share: float = Field(0.01, gt=0, lt=1)  # of texts; a row is held out where one of its texts is
    validation_items: PositiveInt = 500  # of each task and direction, at most
    tasks: Annotated[dict[TaskName, TaskChoice], BeforeValidator(_tasks)] = Field(min_length=1)
    limits: LimitSettings = LimitSettings()
    choice: ChoiceSettings = ChoiceSettings()
    mixing: MixingSettings = MixingSettings()
    batches: BatchSettings = BatchSettings()
    augment: AugmentSettings = AugmentSettings()

    def beside(self, file: Path) -> Self:
        """The data with all paths taken from where a configuration file is."""
        update: dict[str, Any] = {
            part: [source.beside(file) for source in getattr(self, part)] for part in ("train", "validation")
        }
        if self.augment.noises:
            update["augment"] = self.augment.model_copy(update={"noises": beside(file, self.augment.noises)})
        return self.model_copy(update=update)


def _language(code: str) -> None:
    try:
        find_language(code)
    except ConfigError as error:
        raise ValueError(str(error)) from None
