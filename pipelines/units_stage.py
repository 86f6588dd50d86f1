"""The corpus → discrete units: the audio of every kept pair as what a text-to-unit model is taught."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from seamlessalign.config import UnitsConfig
from seamlessalign.errors import ConfigError
from seamlessalign.pipelines.context import Context
from seamlessalign.pipelines.corpus_stage import CorpusShard
from seamlessalign.pipelines.folder import UNITS_STAGE
from seamlessalign.pipelines.ledger import Mark
from seamlessalign.pipelines.side_tables import AudioSide, SideMaker, process_sides
from seamlessalign.rows import UNITS
from seamlessalign.training.units.files import read_card
from seamlessalign.training.units.repeats import reduce_units

STAGE = UNITS_STAGE
FINGERPRINT = "seamlessalign.units"  # in the schema's metadata: whose units these are
NUM_UNITS = "seamlessalign.num_units"


def digest_parts(context: Context) -> list[Any]:
    """What units depend on besides the audio."""
    units = settings(context)
    return [read_card(units.model).fingerprint, sorted(units.sides)]


def settings(context: Context) -> UnitsConfig:
    """The section of the configuration. Raises ConfigError where there is none."""
    if context.config.units is None:
        raise ConfigError("units: the configuration has no such section")
    return context.config.units


def process(shard: CorpusShard, digest: str, context: Context) -> Mark:
    """Make the units of one shard of the corpus, write them, and return the completion mark."""
    units = settings(context)

    def load() -> SideMaker:
        models = tuple(sorted(context.config.models.items()))
        extractor = _load(units.model, read_card(units.model).fingerprint, models, context.device)
        card = extractor.card
        about = {FINGERPRINT: card.fingerprint, NUM_UNITS: str(card.units)}
        return _Units(UNITS, {**card.models, "units": card.sha256}, about, "extract", extractor=extractor)

    return process_sides(STAGE, shard, digest, context, units.sides, load)


@dataclass(frozen=True)
class _Units(SideMaker):
    extractor: Any = None

    def make(self, sides: Sequence[AudioSide]) -> list[dict[str, Any] | str]:
        found = self.extractor.extract_batch([side.waveform for side in sides])
        return [_reduced(frames) if len(frames) else "too_short" for frames in found]


def _reduced(frames: Any) -> dict[str, Any]:
    units, durations = reduce_units(frames)
    return {"units": units, "durations": durations}


@lru_cache(maxsize=1)
def _load(directory: str, fingerprint: str, models: tuple[tuple[str, str], ...], device: str) -> Any:
    """The extractor; a process keeps one. Another fingerprint means that the directory was written anew."""
    from seamlessalign.training.units.extractor import UnitExtractor

    return UnitExtractor.load(directory, dict(models), device)
