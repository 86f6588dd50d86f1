"""Finding centroids: a sample of frames is drawn, k-means is run on it, and a directory written that makes units.

What is on disk after each part of the sample and after each iteration is all that the next depends on, so a training
that was killed goes on and ends with the same bytes, on the same machine. One process does it, with all its threads,
and with GPUs where torch and faiss have them.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign import storage
from seamlessalign.embedders.batches import use_threads
from seamlessalign.errors import ModelError, StorageError
from seamlessalign.training.units.config import UnitsTrainingConfig
from seamlessalign.training.units.extractor import card_of, device_of
from seamlessalign.training.units.features import FrameFeatures, open_features
from seamlessalign.training.units.files import CARD_FILE, Codebook, read_codebook, save_units
from seamlessalign.training.units.kmeans import Assigned, assign, first_centroids, moved
from seamlessalign.training.units.sampling import FrameSample, draw_sample
from seamlessalign.training.units.utterances import Utterance, read_utterances
from seamlessalign.training_folder import TrainingFolder, check_same
from seamlessalign.training_log import TrainingLog
from seamlessalign.training_loop import Trained
from seamlessalign.training_steps import StopSignal
from seamlessalign.typed_config import digest

Float32 = npt.NDArray[np.float32]

_FEW = 39  # frames for a unit below which faiss warns of too few
_CONVERGED = "tolerance"


class UnitsFolder(TrainingFolder):
    """The files of a training of units, and their names."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.sample = self.root / "sample"
        self.centroids = self.root / "checkpoint" / "centroids.safetensors"
        self.model = self.root / "model"

    def open(self, wanted: dict[str, Any]) -> None:
        """As of any training, of which something is there once a part of the sample or a model is."""
        begun = self.centroids.is_file() or (self.model / CARD_FILE).is_file() or any(self.sample.glob("*.safetensors"))
        if not self.plan.is_file() or not begun:
            storage.write_bytes_atomic(str(self.plan), (json.dumps(wanted, indent=1) + "\n").encode())
            return
        try:
            kept = dict(json.loads(self.plan.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise StorageError(f"{self.plan}: is damaged: {error}; name another output") from error
        check_same(kept, wanted, str(self.root))


def train_units(config: UnitsTrainingConfig) -> Trained:
    """Find centroids as a configuration says, or go on with a training that was stopped.

    More `kmeans.iterations` than a finished training had are added to it.

    Raises ConfigError where the folder holds another training or a layer is none, InputError for data that cannot be
    used, ModelError where a model or the centroids to begin with cannot be.
    """
    folder = UnitsFolder(config.output)
    log = TrainingLog(folder, main=True, steps=config.kmeans.iterations, events=False)
    device = device_of(config.resources.device)
    use_threads(config.resources.threads)
    rejects = Counter[str]()
    utterances = read_utterances(config.data, rejects) if config.data is not None else []
    start = read_codebook(config.kmeans.start) if config.kmeans.start is not None else None
    features = open_features(config.features, config.models, device)
    _check_start(start, config, features)
    _open(folder, config, utterances, features, start)
    storage.remove_unfinished(str(folder.root))
    if start is not None and not config.kmeans.iterations:
        card = card_of(config.features, features, start)
        save_units(folder.model, start, card)
        log.say(f"{card.units} centroids are taken as they are")
        return Trained(folder.root, 0, 0, 0.0, "start")
    hours = sum(one.seconds for one in utterances) / 3600
    log.say(f"{len(utterances)} utterances ({hours:.2f} h); set aside: {dict(rejects) or 'none'}")
    with StopSignal(log.say) as stop:
        sample = draw_sample(
            utterances, features, folder.sample, frames=config.kmeans.num_frames,
            per_utterance=config.kmeans.per_utterance, seed=config.seed, told_to_stop=lambda: stop.told, say=log.say,
        )  # fmt: skip
        if sample is None:
            return Trained(folder.root, 0, 0, 0.0, "")
        if config.kmeans.scale:
            sample = sample.scaled()
        return _Fit(config, folder, log, features, sample, rejects).run(start.centroids if start else None, stop)


class _Fit:
    """The iterations over a sample."""

    def __init__(
        self, config: UnitsTrainingConfig, folder: UnitsFolder, log: TrainingLog, features: FrameFeatures,
        sample: FrameSample, rejects: Counter[str],
    ) -> None:  # fmt: skip
        self._config, self._folder, self._log, self._features = config, folder, log, features
        self._sample, self._set_aside = sample, rejects + sample.rejects

    def run(self, start: Float32 | None, stop: StopSignal) -> Trained:
        """Iterate to the end, or until told to stop."""
        kmeans, folder, log, sample = self._config.kmeans, self._folder, self._log, self._sample
        threads, root = self._config.resources.threads, folder.root
        found = _read_checkpoint(folder.centroids)
        if found is None:
            centroids = first_centroids(sample, kmeans.units, self._config.seed) if start is None else start
            step, objective = 0, None
            self._tell_sample()
        else:
            centroids, step, objective = found
            if folder.is_complete and (step >= kmeans.iterations or _has_converged(folder)):
                return Trained(root, step, step, _last_objective(folder), "complete")
            log.say(f"going on from iteration {step}")
        folder.forget_after(step - 1)
        finished = "iterations"
        while step < kmeans.iterations:
            assigned = assign(sample, centroids, threads)
            before, objective = objective, assigned.objective
            _tell(log, step, assigned)
            if before is not None and before - objective <= kmeans.tolerance * before:
                finished = _CONVERGED
                break
            centroids = moved(sample, assigned, centroids)
            step += 1
            _write_checkpoint(folder.centroids, centroids, step, objective)
            if stop.told:
                return Trained(root, step, step, objective, "")
        else:
            assigned = assign(sample, centroids, threads)
            _tell(log, step, assigned)
        codebook = Codebook(centroids, sample.deviations)
        measured = {"objective": assigned.objective, "frames": sample.languages, "unused": assigned.empty}
        card = card_of(self._config.features, self._features, codebook).model_copy(update=measured)
        save_units(folder.model, codebook, card)
        log.draw("objective", "mean squared distance", lower_is_better=True)
        aside = dict(sorted(self._set_aside.items()))
        line = {"step": step, "finished": finished, "best_step": step, "best": assigned.objective, "set_aside": aside}
        log.write(line, "end")
        return Trained(root, step, step, assigned.objective, finished)

    def _tell_sample(self) -> None:
        sample, kmeans = self._sample, self._config.kmeans
        told = ", ".join(f"{lang} {count}" for lang, count in sample.languages.items())
        self._log.say(f"{len(sample)} frames of {kmeans.num_frames} that are asked for: {told}")
        if len(sample) < _FEW * kmeans.units:
            self._log.say(f"that is few for {kmeans.units} units: {_FEW} for each, or more, find better ones")


def _tell(log: TrainingLog, step: int, assigned: Assigned) -> None:
    objective = assigned.objective
    log.write({"step": step, "loss": objective, "objective": objective, "empty": assigned.empty}, "validation")


def _check_start(start: Codebook | None, config: UnitsTrainingConfig, features: FrameFeatures) -> None:
    if start is None:
        return
    place = config.kmeans.start
    units, dim = start.centroids.shape
    if dim != features.dim:
        raise ModelError(f"{place}: its centroids have {dim} dimensions, the frames {features.dim}")
    if units != config.kmeans.units:
        raise ModelError(f"{place}: holds {units} centroids, kmeans.units is {config.kmeans.units}")
    if start.deviations is not None and config.kmeans.iterations:
        raise ModelError(f"{place}: its centroids are of scaled frames, which no training begins with")


def _open(
    folder: UnitsFolder,
    config: UnitsTrainingConfig,
    utterances: list[Utterance],
    features: FrameFeatures,
    start: Codebook | None,
) -> None:
    """Note what is trained, or check that what is there is of the same plan."""
    wanted = config.plan() | {
        "models": dict(features.models),
        "digest of utterances": digest([(one.key, one.lang) for one in utterances]),
        "digest of start": None if start is None else start.sha256,
    }
    folder.open(wanted)


def _has_converged(folder: UnitsFolder) -> bool:
    return any(line.get("finished") == _CONVERGED for line in folder.lines())


def _last_objective(folder: UnitsFolder) -> float:
    return float(next(line["best"] for line in reversed(folder.lines()) if "best" in line))


def _write_checkpoint(path: Path, centroids: Float32, step: int, objective: float) -> None:
    from safetensors.numpy import save

    about = json.dumps({"step": step, "objective": objective})  # of the iteration before: floats come back as they are
    storage.write_bytes_atomic(str(path), save({"centroids": centroids}, {"about": about}))


def _read_checkpoint(path: Path) -> tuple[Float32, int, float | None] | None:
    """Centroids, how many iterations they have seen, and the objective before the last of these; None: none yet."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            about: dict[str, Any] = json.loads(file.metadata()["about"])
            return file.get_tensor("centroids"), int(about["step"]), float(about["objective"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path}: is damaged: {error}; remove it to begin the iterations anew") from error
