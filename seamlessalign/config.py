"""The configuration of a run: one YAML file, checked strictly, with overrides from the command line.

Every key is a field below, or of `resources_config.py`; an unknown key is an error that names the nearest valid one. A
stage's digest covers the keys that its output depends on, and leaves out where and how fast it runs.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from seamlessalign.errors import ConfigError
from seamlessalign.languages import Direction, get_language
from seamlessalign.resources_config import ResourcesConfig
from seamlessalign.slurm_config import SlurmTaskConfig
from seamlessalign.typed_config import Section, apply_override, beside, checked, read_yaml
from seamlessalign.web_access import WebAccess


def _check_language(code: str) -> str:
    try:
        return get_language(code).iso639_3
    except ConfigError as error:
        raise ValueError(str(error)) from None  # pydantic adds the key to these only


def _check_direction(text: str) -> str:
    try:
        return str(Direction.parse(text))
    except ConfigError as error:
        raise ValueError(str(error)) from None


def _check_order(low: str, low_value: float, high: str, high_value: float) -> None:
    if low_value > high_value:
        raise ValueError(f"{low} {low_value:g} is above {high} {high_value:g}")


Lang = Annotated[str, AfterValidator(_check_language)]
DirectionName = Annotated[str, AfterValidator(_check_direction)]


class DecodeConfig(Section):
    """How recordings are read, and what none of them may exceed."""

    # mix: the mean of all channels; each: every channel is a recording; a number: that channel, from 0
    channels: Literal["mix", "each"] | Annotated[int, Field(ge=0, le=9999)] = "mix"
    max_recording_hours: float = Field(12.0, gt=0)  # a longer one is set aside as too_long
    timeout_seconds: float = Field(600.0, gt=0)  # that fetching one, and then waiting for its decoder, may take
    ffmpeg: bool = True  # where it is installed, for what soundfile does not read: m4a, mp4, mkv, webm, …


class VadConfig(Section):
    """Where speech is."""

    engine: Literal["silero", "cascade", "webrtc"] = "silero"  # cascade: the same, 3 × faster; nearly the same frames
    threshold: float = Field(0.5, gt=0, lt=1)  # speech probability above which a frame is speech
    min_speech_ms: int = Field(250, ge=0)  # shorter fragments are dropped
    min_silence_ms: int = Field(200, ge=0)  # shorter silences do not end a fragment
    speech_pad_ms: int = Field(30, ge=0)  # added on both sides of a fragment
    max_fragment_seconds: float = Field(20.0, gt=0, le=28)  # longer ones are split; 28 s is what Whisper can hear
    keep_probabilities: bool = False  # in a table `frames`, so that `seamlessalign spans` can try other thresholds


class SpansConfig(Section):
    """Over-segmentation: which runs of fragments are candidates."""

    min_seconds: float = Field(1.0, gt=0)  # of a span, silences within it included
    max_seconds: float = Field(20.0, gt=0)  # likewise; a longer fragment makes no span
    max_gap_seconds: float = Field(1.0, ge=0)  # a longer silence ends every run
    max_fragments: int | None = Field(None, ge=1)  # of one span; caps what restless speech makes

    @model_validator(mode="after")
    def _ordered(self) -> "SpansConfig":
        _check_order("min_seconds", self.min_seconds, "max_seconds", self.max_seconds)
        return self


class QualityConfig(Section):
    """How good the sound of a span is: columns of `segments`, and which spans are not worth embedding. Off by default.

    A bound switches the measuring on that it needs.
    """

    measure: bool = False  # write the columns, without a bound on any
    dnsmos: bool = False  # what listeners would say of it as well: slow, and needs the extra `quality`
    min_snr_db: float | None = None  # power of speech over that of the noise around it; 10 is noisy, 30 is a studio
    max_clipping: float | None = Field(None, ge=0, le=1)  # share of samples at full scale
    min_bandwidth_hz: float | None = Field(None, ge=0, le=8000)  # 4000 is a telephone
    min_speech_prob: float | None = Field(None, ge=0, le=1)  # mean of what the detector says; low in music and noise
    max_music_noise_prob: float | None = Field(None, ge=0, le=1)  # by features of the sound; 0.5 is the even chance
    min_dnsmos: float | None = Field(None, ge=1, le=5)  # of dnsmos_ovrl; 3 is fair, good recordings have little more

    @property
    def wanted(self) -> bool:
        """Whether anything is measured."""
        return self != QualityConfig()

    @property
    def rated(self) -> bool:
        """Whether DNSMOS is."""
        return self.dnsmos or self.min_dnsmos is not None


class SpeechLidConfig(Section):
    """Which language a recording is in."""

    model: str = "whisper-base"  # or ecapa-voxlingua107; ecapa: one that was trained here, from its directory
    min_prob: float = Field(0.5, ge=0, le=1)  # less certain recordings are dropped, where there is no calibration
    # File with thresholds of each language; by default the one beside the model, if there is one; none: none.
    calibration: str | None = None
    window_seconds: float = Field(10.0, gt=0, le=28)  # speech heard at a time
    max_windows: int = Field(5, ge=1)  # windows averaged, spread over the recording
    drop_mixed: bool = False  # recordings whose windows are sure of different languages are dropped
    # Each span has the language of the speech in it, heard `window_seconds` at a time; not all of a recording has one.
    per_segment: bool = False
    # Recordings whose language is stated are heard too, for the report to compare; what is stated holds.
    check_stated: bool = False

    @model_validator(mode="after")
    def _fitting(self) -> "SpeechLidConfig":
        if self.drop_mixed and self.per_segment:
            raise ValueError("drop_mixed drops whole recordings, per_segment only spans: choose one")
        return self


class SpeechConfig(Section):
    """The audio side: inputs and what is done to them."""

    # files, folders, patterns, addresses, tar and Parquet files, lists of them (.txt, .tsv) and manifests (.jsonl)
    inputs: list[str] = []
    languages: list[Lang] | None = None  # kept languages; by default those that the directions name
    lang: Lang | None = None  # every recording's language, when it is known: no identification
    decode: DecodeConfig = DecodeConfig()
    vad: VadConfig = VadConfig()
    spans: SpansConfig = SpansConfig()
    quality: QualityConfig = QualityConfig()
    lid: SpeechLidConfig = SpeechLidConfig()
    # Or transcribe-e5, transcribe-labse, sonar, student (which `models` says where to find)
    embedder: str = "whisper-e5"
    # Whether each span is heard by itself (each, the default of sonar), or each stretch of speech once for all spans
    # that share it (shared, the default of all others), which is faster, and with sonar makes other rows.
    frames: Literal["each", "shared"] | None = None
    recordings_per_shard: int = Field(1, ge=1)  # what one task does, and what is done again when it is lost

    @property
    def hears_languages(self) -> bool:
        """Whether a language identifier is needed."""
        return self.lang is None or self.lid.check_stated


class TextLidConfig(Section):
    """Which language a sentence is in."""

    model: str = "fasttext-lid176"  # the only one there is
    min_prob: float = Field(0.3, ge=0, le=1)  # less certain sentences are dropped
    min_chars: int = Field(20, ge=0)  # shorter sentences are trusted: identifiers guess on them


class TextConfig(Section):
    """The text side: inputs and what is done to them."""

    inputs: list[str] = []  # text files (also .gz), folders, or patterns
    languages: list[Lang] | None = None  # kept languages; by default those that the directions name
    lang: Lang | None = None  # the language that the texts are meant to be in; others are dropped
    split: bool = False  # cut lines into sentences; otherwise each line is one sentence
    min_chars: int = Field(3, ge=1)  # shorter sentences are dropped
    max_chars: int = Field(1000, ge=1)  # longer ones are
    lid: TextLidConfig = TextLidConfig()
    embedder: str = "e5-small"  # or labse, sonar; into the space of the speech embedder
    lines_per_shard: int = Field(20_000, ge=1)  # of a text file that is not compressed

    @model_validator(mode="after")
    def _ordered(self) -> "TextConfig":
        _check_order("min_chars", self.min_chars, "max_chars", self.max_chars)
        return self


class FiltersConfig(Section):
    """What is dropped after mining although its score is high enough."""

    min_seconds: float = Field(0.1, ge=0)  # of an audio side
    max_seconds: float = Field(50.0, gt=0)  # likewise
    max_duration_ratio: float = Field(3.0, ge=1)  # longer over shorter, speech against speech
    min_chars_per_second: float = Field(2.0, ge=0)  # text against speech
    max_chars_per_second: float = Field(40.0, gt=0)  # likewise
    # Probability that the identifier gave the language; 0: all pass. A sentence whose language was stated, and which
    # the identifier took for another or could not tell, has probability 0; a recording with a stated language has 1.
    min_text_lang_prob: float = Field(0.0, ge=0, le=1)
    min_speech_lang_prob: float = Field(0.0, ge=0, le=1)  # likewise
    max_emoji_share: float = Field(0.2, ge=0, le=1)  # of a text's characters, as a reader sees them
    max_punctuation_share: float = Field(0.5, ge=0, le=1)  # punctuation and symbols
    max_space_share: float = Field(0.5, ge=0, le=1)  # white space
    drop_identical_text: bool = True  # text against text: equal but for case, punctuation and spaces
    # Speech against speech: both sides are one sound that nobody translated. Off by default, because every recording
    # that has a pair with sides of equal length is decoded once more.
    drop_identical_audio: bool = False
    # Language (ISO 639-3) → file of words or phrases, one a line, UTF-8. A pair with such words on one side only is
    # dropped. Both sides need text and a lexicon: a speech side has text only where its rows carry a transcript.
    toxicity_lexicons: dict[Lang, str] = {}
    max_pairs_per_text: int | None = Field(None, ge=1)  # of a text's pairs in a direction, the best so many stay
    max_hours: float | None = Field(None, gt=0)  # of a direction, the best so many hours of its first speech side stay

    @model_validator(mode="after")
    def _ordered(self) -> "FiltersConfig":
        _check_order("min_seconds", self.min_seconds, "max_seconds", self.max_seconds)
        _check_order(
            "min_chars_per_second", self.min_chars_per_second, "max_chars_per_second", self.max_chars_per_second
        )
        return self


class DecoysConfig(Section):
    """Rows known to have no counterpart, which compete when pairs are chosen and tell how many of these are wrong."""

    texts: list[str] = []  # text files, a sentence a line, that no recording says
    sides: dict[str, str] = {}  # side → another that has none of its counterparts, such as frA: deA
    made: bool = True  # where there is neither, make sentences up out of the text side's own
    count: int = Field(2000, ge=1)  # rows of a side at most
    same_kind: bool = False  # texts, sides: a random sample of the collection itself, taken as equal to it


_REDUCE_SAMPLE = 20_000


class ReduceConfig(Section):
    """Fewer dimensions for all rows that are mined, by one map for both sides of all directions."""

    dim: int | None = Field(None, ge=1)  # dimensions to keep, those in which rows vary most
    whiten: float = Field(0.0, ge=0, le=1)  # power of its standard deviation that each is divided by
    sample: int = Field(_REDUCE_SAMPLE, ge=1)  # rows of each side, at most, that the map is fitted on
    file: str | None = None  # in place of a fit: a map that another run left, a .safetensors with its .yaml

    @model_validator(mode="after")
    def _fitted_or_read(self) -> "ReduceConfig":
        if (self.dim is None) == (self.file is None):
            raise ValueError("give dim, to fit a map, or file, to read one")
        if self.file is not None and (self.whiten or self.sample != _REDUCE_SAMPLE):
            raise ValueError("whiten and sample belong to a fit: a file has its own")
        return self


class MiningConfig(Section):
    """How pairs are found and chosen."""

    k: int = Field(16, ge=1, le=2**15)  # neighbours; their ranks are int16
    # Cosine over the mean of both neighbourhoods, minus it, or by itself
    margin: Literal["ratio", "distance", "absolute"] = "ratio"
    # Whose neighbours are candidates, and which of them stay: docs/choosing.md
    strategy: Literal["forward", "backward", "union", "intersect", "max"] = "max"
    threshold: Literal["auto"] | float = "auto"  # auto: the embedder's own
    min_precision: float | None = Field(None, gt=0, lt=1)  # in its place: how sure each pair must be
    fdr: float | None = Field(None, gt=0, lt=1)  # in its place: the share of wrong pairs among all that are kept
    decoys: DecoysConfig = DecoysConfig()
    # How neighbours are searched; auto: exact where it fits into memory
    backend: Literal["auto", "exact", "faiss-flat", "faiss-ivfpq"] = "auto"
    near_duplicates: float | None = Field(0.7, gt=0, le=1)  # cosine of centred rows from which neighbours count once
    centre: bool = True  # subtract the mean of the run's own rows, per language
    reduce: ReduceConfig | None = None  # dimensions are as the embedder has them
    max_overlap: float = Field(0.0, ge=0, lt=1)  # share of the shorter span that two kept pairs may have in common
    filters: FiltersConfig = FiltersConfig()

    @model_validator(mode="after")
    def _one_rule(self) -> "MiningConfig":
        given = [name for name in ("min_precision", "fdr") if getattr(self, name) is not None]
        given += ["threshold"] if self.threshold != "auto" else []
        if len(given) > 1:
            raise ValueError(f"{given[0]} takes the place of {given[1]}: give one of them")
        return self


class CorpusConfig(Section):
    """How kept pairs are written."""

    audio_format: Literal["flac", "opus"] = "flac"  # flac loses nothing, opus a fraction of its size


class UnitsConfig(Section):
    """Speech of kept pairs as discrete units too, for speech-to-speech translation. docs/units.md has more."""

    model: str  # a directory that `seamlessalign train units` wrote; what makes its frames is found by `models`
    sides: list[Literal["src", "tgt"]] = Field(["src", "tgt"], min_length=1, max_length=2)  # those that are audio


class TranscriptsConfig(Section):
    """What is said in the speech of kept pairs too, as a recogniser hears it. docs/transcripts.md has more."""

    model: Literal["whisper-base", "whisper-large-v3", "whisper"] = "whisper-base"  # `models` says where it lies
    sides: list[Literal["src", "tgt"]] = Field(["src", "tgt"], min_length=1, max_length=2)  # those that are audio
    max_compression_ratio: float = Field(2.4, gt=1)  # bytes of a text by those of zlib; above, it goes round in a loop


class FetchConfig(Section):
    """What may be asked of the web, for inputs that are addresses on it. docs/security.md has the reasons."""

    schemes: list[Literal["https", "http"]] = Field(["https", "http"], min_length=1)  # redirects are held to them too
    allow_local: bool = False  # addresses of this machine and its link: 127.0.0.1, ::1, 169.254.169.254, …
    allow_private: bool = (
        True  # other addresses that are not the whole world's: 10.0.0.0/8, 192.168.0.0/16, fc00::/7, …
    )
    max_gb: float = Field(16.0, gt=0)  # GiB that one file may send
    seconds: float = Field(
        600.0, gt=0
    )  # waited for one list, text or container; decode.timeout_seconds for a recording
    max_redirects: int = Field(5, ge=0, le=50)  # of one address

    def access(self) -> WebAccess:
        """The same as bounds for whoever fetches."""
        return WebAccess(
            schemes=tuple(self.schemes),
            allow_local=self.allow_local,
            allow_private=self.allow_private,
            max_bytes=int(self.max_gb * 2**30),
            seconds=self.seconds,
            max_redirects=self.max_redirects,
        )


class RunConfig(Section):
    """A whole run."""

    name: str = "run"  # of the run, as its page calls it
    # Folder of the run, or the beginning of its addresses in a store; `--output` of the command line comes first
    output: str | None = None
    root: str | None = None  # folder, or beginning of addresses, below which all inputs must lie, wherever links lead
    # Source-target: eng is English text, frA French speech; eng-frA, frA-esA
    directions: list[DirectionName] = Field(min_length=1)
    speech: SpeechConfig = SpeechConfig()
    text: TextConfig = TextConfig()
    mining: MiningConfig = MiningConfig()
    corpus: CorpusConfig = CorpusConfig()
    units: UnitsConfig | None = None  # none are made
    transcripts: TranscriptsConfig | None = None  # likewise
    fetch: FetchConfig = FetchConfig()
    models: dict[str, str] = {}  # model name → local directory, before hub and packages
    resources: ResourcesConfig = ResourcesConfig()

    @model_validator(mode="after")
    def _sides_have_inputs(self) -> "RunConfig":
        if not self.speech.inputs:
            raise ValueError("speech.inputs is empty: name the recordings")
        if any(not side.is_audio for side in self.sides()) and not self.text.inputs:
            raise ValueError("text.inputs is empty, but a direction has a text side")
        if len(set(self.directions)) != len(self.directions):
            raise ValueError("directions: one is listed twice")
        return self

    def sides(self) -> list[Any]:
        """Both sides of every direction."""
        return [side for name in self.directions for side in (Direction.parse(name).src, Direction.parse(name).tgt)]

    def speech_languages(self) -> list[str]:
        """Languages of recordings that are kept, sorted."""
        wanted = self.speech.languages or [side.lang for side in self.sides() if side.is_audio]
        return sorted(set(wanted))

    def text_languages(self) -> list[str]:
        """Languages of sentences that are kept, sorted."""
        wanted = self.text.languages or [side.lang for side in self.sides() if not side.is_audio]
        return sorted(set(wanted))


def load_config(path: str, overrides: list[str] | None = None, output: str | None = None) -> RunConfig:
    """Read a YAML file and apply `key.sub=value` overrides. Input paths are relative to the file's folder.

    Raises ConfigError with one line that names the file, the key and what is wrong.
    """
    raw = read_yaml(path, "'directions' and 'speech'")
    raw.pop("digest", None)  # of a run.yaml, which is itself a configuration
    if "metadata" in raw:  # as import-metadata writes it
        raise ConfigError(
            f"{path}: is of a corpus that was rebuilt from metadata, not mined: it cannot be run again so"
        )
    _resolve_paths(raw, Path(path))
    for override in overrides or []:
        apply_override(raw, override)
    _resolve_paths(raw, Path.cwd() / "of the command line")
    if output is not None:
        raw["output"] = output
    return parse_config(raw, path)


def _resolve_paths(raw: dict[str, Any], file: Path) -> None:
    """Make paths absolute that are relative to the folder of a file."""
    for section in ("speech", "text"):
        if isinstance(raw.get(section), dict) and isinstance(raw[section].get("inputs"), list):
            raw[section]["inputs"] = [beside(file, str(uri)) for uri in raw[section]["inputs"]]
    if isinstance(raw.get("root"), str):
        raw["root"] = beside(file, raw["root"])
    lid = _dig(raw, "speech", "lid")
    if lid and isinstance(lid.get("calibration"), str) and lid["calibration"] != "none":
        lid["calibration"] = beside(file, lid["calibration"])
    lexicons = _dig(raw, "mining", "filters", "toxicity_lexicons")
    if lexicons is not None:
        lexicons.update({lang: beside(file, uri) for lang, uri in lexicons.items() if isinstance(uri, str)})
    decoys = _dig(raw, "mining", "decoys")
    if decoys is not None and isinstance(decoys.get("texts"), list):
        decoys["texts"] = [beside(file, str(uri)) for uri in decoys["texts"]]
    reduction = _dig(raw, "mining", "reduce")
    if reduction is not None and isinstance(reduction.get("file"), str):
        reduction["file"] = beside(file, reduction["file"])
    units = _dig(raw, "units")
    if units is not None and isinstance(units.get("model"), str):
        units["model"] = beside(file, units["model"])
    if isinstance(raw.get("models"), dict):
        raw["models"] = {name: beside(file, str(folder)) for name, folder in raw["models"].items()}


def parse_config(raw: dict[str, Any], origin: str) -> RunConfig:
    """Check a nested dictionary; `origin` names it in errors."""
    return checked(RunConfig, raw, origin)


def dump_config(config: RunConfig) -> dict[str, Any]:
    """The resolved configuration as plain values, for `run.yaml`; of units and transcripts where there are some."""
    sections = "units", "transcripts"
    exclude: dict[str, Any] = {name: True for name in sections if getattr(config, name) is None}
    unsaid = {name for name in sections if getattr(config.resources.slurm.stages, name) == SlurmTaskConfig()}
    exclude["resources"] = {"slurm": {"stages": unsaid}}
    return config.model_dump(mode="json", exclude=exclude)


def _dig(raw: dict[str, Any], *keys: str) -> dict[Any, Any] | None:
    """The dictionary at a path of keys, or None where there is none."""
    node: Any = raw
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else None
