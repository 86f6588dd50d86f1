"""Speech → units: the one class for whoever needs them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign.embedders.batches import use_threads
from seamlessalign.errors import InputError, ModelError
from seamlessalign.training.units.config import FeatureChoice
from seamlessalign.training.units.features import FrameFeatures, open_features
from seamlessalign.training.units.files import Codebook, UnitsCard, check_models, load_units, read_codebook
from seamlessalign.training.units.nearest import Centroids

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]


class UnitExtractor:
    """Waveforms → a unit for every 20 ms. `card` says of which model and centroids."""

    def __init__(self, features: FrameFeatures, codebook: Codebook, card: UnitsCard) -> None:
        """Raises ModelError for centroids of other dimensions than the frames have."""
        import torch

        dim = codebook.centroids.shape[1]
        if dim != features.dim:
            raise ModelError(f"the centroids have {dim} dimensions, the frames {features.dim}")
        self.features, self.card = features, card
        self._centroids = Centroids(codebook.centroids, str(features.device))
        scale = codebook.deviations
        self._deviations = None if scale is None else torch.from_numpy(scale).to(features.device)

    @classmethod
    def load(
        cls, directory: str, models: Mapping[str, str] | None = None, device: str = "cpu", threads: int | None = None
    ) -> "UnitExtractor":
        """An extractor from the directory that a training wrote.

        Args:
            directory: with `units.json` and `centroids.safetensors`.
            models: model name → directory of what makes the frames, before `$SEAMLESSALIGN_MODELS`, hub and packages.
            device: torch device name.
            threads: of torch.

        Raises:
            ModelError: a directory that is none or damaged, or a model that is not found or not the one of the card.
        """
        use_threads(threads)
        codebook, card = load_units(directory)
        features = open_features(card.features, models, device)
        check_models(card, features.models, directory)
        return cls(features, codebook, card)

    @classmethod
    def of_centroids(
        cls, place: str, choice: FeatureChoice, models: Mapping[str, str] | None = None, device: str = "cpu"
    ) -> "UnitExtractor":
        """An extractor from published centroids, a `.npy`, of frames that are chosen here. Raises as `load` does."""
        codebook, features = read_codebook(place), open_features(choice, models, device)
        return cls(features, codebook, card_of(choice, features, codebook))

    @property
    def num_units(self) -> int:
        """How many different units there are."""
        return len(self._centroids)

    def extract(self, waveform: Float32) -> Int32:
        """Units `(num_frames,)` of a waveform (float32 `(num_samples,)`, 16 kHz), not reduced; none of a too short one.

        Raises InputError for samples that are not finite.
        """
        return self.extract_batch([waveform])[0]

    def extract_batch(self, waveforms: Sequence[Float32]) -> list[Int32]:
        """As `extract`, of several at a time; long ones window by window, so that their frames are not all held."""
        return self.features.mapped(waveforms, self.nearest)

    def nearest(self, frames: Any) -> Int32:
        """Units `(num_frames,)` of frames `(num_frames, dim)` that were made elsewhere. Raises ModelError."""
        import torch

        if self._deviations is not None:
            frames = torch.as_tensor(frames).to(self._deviations.device, torch.float32) / self._deviations
        return self._centroids.nearest(frames)


def device_of(wanted: str) -> str:
    """The torch device of `auto`, `cpu` or `cuda`. Raises InputError where that is not there."""
    import torch

    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise InputError("device is cuda, but torch sees no CUDA device")
    return "cuda" if there and wanted != "cpu" else "cpu"


def card_of(choice: FeatureChoice, features: FrameFeatures, codebook: Codebook) -> UnitsCard:
    """What is to be said of centroids of frames that are chosen so; what was measured is left out."""
    units, dim = codebook.centroids.shape
    return UnitsCard(features=choice, models=dict(features.models), units=units, dim=dim, sha256=codebook.sha256)
