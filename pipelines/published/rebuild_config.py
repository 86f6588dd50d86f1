"""The configuration of a rebuilding: which metadata, how sources are asked, what is checked."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PositiveInt

from seamlessalign.config import CorpusConfig, FetchConfig
from seamlessalign.errors import ConfigError, UnreadableError
from seamlessalign.languages import Direction
from seamlessalign.pipelines.published.downloads import Trying
from seamlessalign.pipelines.published.line_forms import side_of, sides_of
from seamlessalign.resources_config import ResourcesConfig
from seamlessalign.slurm_config import SlurmConfig, SlurmTaskConfig
from seamlessalign.typed_config import Once, Section, apply_override, beside, checked
from seamlessalign.web_access import WebAccess

COMMON_CRAWL = "https://data.commoncrawl.org/"


def direction_of(published: str) -> str:
    """The name that a published direction has in a corpus. Raises ConfigError."""
    try:
        src, tgt = sides_of(published)
    except UnreadableError as error:
        raise ConfigError(error.detail) from None
    return str(Direction(side_of(src), side_of(tgt)))


def _check_direction(text: str) -> str:
    try:
        return direction_of(text)
    except ConfigError as error:
        raise ValueError(str(error)) from None


def _check_words(text: str) -> str:
    if not text.isprintable() or not text.isascii():
        raise ValueError("must be plain ASCII in one line: it goes into a header")
    return text


Words = Annotated[str, AfterValidator(_check_words)]


class RebuildAudioConfig(Section):
    """How recordings are taken, checked and cut."""

    duration_tolerance_seconds: float = Field(0.5, ge=0)  # between what the metadata says and what is decoded
    max_recording_hours: float = Field(12.0, gt=0)  # a longer one is too_long
    decode_seconds: float = Field(600.0, gt=0)  # of waiting for a decoder
    ffmpeg: bool = True  # where it is installed, for what soundfile does not read: m4a, mp4, webm, …
    # Below it lie recordings that are not on the web, as only runs of one's own name them; none: they are refused.
    root: str | None = None
    # Of recordings that were cut, so many GB stay in the folder (`sources/`), the first that come, for other spans of
    # them; 0: none.
    kept_gb: float = Field(10.0, ge=0)
    keep_recordings: bool = False  # all stay there, however many
    downloads: PositiveInt = 4  # of one worker at a time, recordings that wait to be cut included
    urls_per_shard: PositiveInt = 200  # the urls of a host are in as few shards as that allows


class RebuildFetchConfig(FetchConfig):
    """How the web is asked, by all workers together."""

    user_agent: Words = "seamlessalign"  # what servers are told of who asks
    contact: Words = ""  # an address or page by which whoever runs a server finds you; goes into the user agent
    robots: bool = True  # what a host's robots.txt does not allow is not taken
    requests_per_second: float = Field(2.0, gt=0)  # of one host
    connections: PositiveInt = 2  # to one host at a time
    tries: PositiveInt = 6  # of a file that does not come, with pauses that grow
    first_pause_seconds: float = Field(1.0, gt=0)  # at most; the next are twice as long each, up to a minute
    stall_seconds: float = Field(60.0, gt=0)  # without a byte
    longest_hold_seconds: float = Field(600.0, ge=0)  # that a server may ask to be left alone (Retry-After)
    seconds: float = Field(3600.0, gt=0)  # of waiting for one file, all tries together

    allow_private: bool = False  # what lists of others name is not thereby asked within your network

    def access(self) -> WebAccess:
        """The bounds within which a worker asks."""
        agent = f"{self.user_agent} ({self.contact})" if self.contact else self.user_agent
        return WebAccess(**{**super().access().__dict__, "user_agent": agent})

    def trying(self) -> Trying:
        """How long a file is tried for."""
        return Trying(self.tries, self.first_pause_seconds, self.stall_seconds, self.seconds, self.longest_hold_seconds)


class RebuildStages(Section):
    """What stages ask of Slurm in place of what is asked in general."""

    lines: SlurmTaskConfig = SlurmTaskConfig()  # one task reads all metadata
    share: SlurmTaskConfig = SlurmTaskConfig()  # one task shares the rest out
    audio: SlurmTaskConfig = SlurmTaskConfig()  # fetches and cuts recordings
    texts: SlurmTaskConfig = SlurmTaskConfig()  # reads WET files
    assemble: SlurmTaskConfig = SlurmTaskConfig()  # joins what these two have


class RebuildSlurmConfig(SlurmConfig):
    """What a task asks of Slurm."""

    stages: RebuildStages = RebuildStages()  # type: ignore[assignment]


class RebuildResourcesConfig(ResourcesConfig):
    """Where and how fast it works."""

    slurm: RebuildSlurmConfig = RebuildSlurmConfig()


class RebuildConfig(Section):
    """A whole rebuilding."""

    metadata: Once[str] = Field(min_length=1)  # files, plain, gzip or xz, in any published form
    output: str  # folder to rebuild in; --to on the command line
    directions: list[Annotated[str, AfterValidator(_check_direction)]] = []  # none: all that there are
    min_score: float | None = None  # pairs below are not rebuilt
    limit: PositiveInt | None = None  # pairs of each direction, from the first
    common_crawl: str = COMMON_CRAWL  # what is put before the paths of WET files: an address or a folder
    texts: Once[str] = []  # files in whose lines texts are looked up that are of no WET file
    audio: RebuildAudioConfig = RebuildAudioConfig()
    files_per_shard: PositiveInt = 4  # WET files
    pairs_per_shard: PositiveInt = 1000  # of the corpus
    corpus: CorpusConfig = CorpusConfig()
    fetch: RebuildFetchConfig = RebuildFetchConfig()
    resources: RebuildResourcesConfig = RebuildResourcesConfig()


def load_rebuild_config(given: dict[str, Any], overrides: list[str]) -> RebuildConfig:
    """What the command line says, with `key.sub=value` overrides. Raises ConfigError."""
    raw = {name: value for name, value in given.items() if value is not None}
    for override in overrides:
        apply_override(raw, override)
    here = Path.cwd() / "of the command line"
    for name in ("metadata", "directions", "texts"):
        if isinstance(raw.get(name), list):
            raw[name] = list(raw[name])
    for name in ("metadata", "texts"):
        if isinstance(raw.get(name), list):
            raw[name] = [beside(here, str(uri)) for uri in raw[name]]
    for name in ("output", "common_crawl"):
        if isinstance(raw.get(name), str):
            raw[name] = beside(here, raw[name])
    audio = raw.get("audio")
    if isinstance(audio, dict) and isinstance(audio.get("root"), str):
        raw["audio"] = {**audio, "root": beside(here, audio["root"])}
    return checked(RebuildConfig, raw, "the command line")
