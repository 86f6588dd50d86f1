"""Teaching an ECAPA-TDNN languages: batches of crops, and what comes of it on held-out speech.

Of several processes each takes some crops of a batch. Batch normalisation sees the whole batch and the loss is its
mean, so that they compute what one process does.
"""

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from seamlessalign.errors import InputError
from seamlessalign.label_measures import measure
from seamlessalign.lid.calibration import CALIBRATION_FILE, fit_calibration, save_calibration
from seamlessalign.lid.ecapa import EcapaNetwork, read_tensors, save_ecapa
from seamlessalign.lid.evaluate import LengthResult, evaluation_of, write_evaluation
from seamlessalign.lid.sources import Crops, read_clips, split_clips
from seamlessalign.lid.training_config import LidTrainingConfig
from seamlessalign.model_files import find_model
from seamlessalign.synced_norm import with_synced_norms
from seamlessalign.training_folder import TrainingFolder
from seamlessalign.training_loop import BatchLoss, Counts, Trained, Trainer
from seamlessalign.typed_config import digest

_VALIDATION_BATCH = 32


class CropBatches:
    """One process's crops of each batch: waveforms `(num, num_samples)` and languages `(num,)`."""

    def __init__(self, crops: Crops, batch: int, rank: int, world: int) -> None:
        self.crops, self.places = crops, list(range(rank, batch, world))

    def num_batches(self, epoch: int) -> None:
        """There are no epochs: crops are drawn."""

    def __getitem__(self, where: tuple[int, int]) -> tuple[Any, Any]:
        made = [self.crops.crop(where[1], place) for place in self.places]
        return (
            torch.from_numpy(np.stack([samples for samples, _ in made])),
            torch.tensor([lang for _, lang in made], dtype=torch.long),
        )


class LidTraining(Trainer):
    """One training in one process, of several where they were launched together."""

    measure = "macro_f1"
    label = "macro F1"
    counted = ("crops",)

    def __init__(self, config: LidTrainingConfig) -> None:
        """Read the data and make the network. Raises ConfigError, InputError, ModelError, MissingPackageError."""
        super().__init__(config, TrainingFolder(config.output))
        self.config = config
        self.model_folder = self.folder.root / "model"
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        if config.optimiser.batch < world:
            raise InputError(f"optimiser.batch is {config.optimiser.batch}, less than the {world} processes")
        self._read_data()
        self.batches = CropBatches(self.crops, config.optimiser.batch, rank, world)
        torch.manual_seed(config.seed)
        self.network = EcapaNetwork(config.model, len(self.languages))
        if world > 1:
            with_synced_norms(self.network)
        self.prepare(self.network, torch.optim.Adam(self.network.parameters(), **config.optimiser.adam()))

    def _read_data(self) -> None:
        data, aside = self.config.data, Counter[str]()
        clips = read_clips(data.train, data, aside)
        if data.validation:
            learnt, held = clips, read_clips(data.validation, data, aside)
            unknown = sorted({clip.lang for clip in held} - {clip.lang for clip in learnt})
            if unknown:
                raise InputError(f"data.validation: no source of data.train has {', '.join(unknown)}")
        else:
            learnt, held = split_clips(clips, data.validation_share)
        self.set_aside = aside
        self.languages = sorted({clip.lang for clip in learnt})
        if len(self.languages) < 2:
            raise InputError(f"data.train: there is only {self.languages[0]}; give two languages or more")
        if not held:
            raise InputError("data: no language has clips to hold out; give data.validation, or more clips")
        self.crops = Crops(
            learnt, [source.weight for source in data.train], data, self.config.augment, self.config.seed
        )
        weights = [source.weight for source in (data.validation or data.train)]
        self.held_out = Crops(held, weights, data, None, self.config.seed)
        self._digest = digest([(clip.key, clip.lang, clip.group) for clip in (*learnt, *held)])
        hours = sum(clip.seconds for clip in learnt) / 3600
        self._summary = f"{len(learnt)} clips ({hours:.2f} h) in {len(self.languages)} languages, {len(held)} held out"

    def content(self) -> dict[str, str]:
        return {"digest of clips": self._digest}

    def summary(self) -> str:
        return self._summary

    # Steps

    def count(self, batch: tuple[Any, Any]) -> list[int]:
        return [len(batch[1])]

    def batch_loss(self, batch: tuple[Any, Any], epoch: int, position: int, counts: Counts) -> BatchLoss:
        """The mean loss over the crops of all processes."""
        accelerator, optimiser = self.accelerator, self.config.optimiser
        waveforms, langs = (part.to(accelerator.device) for part in batch)
        found = self.learner(self.network.features(waveforms)).float()
        total = functional.nll_loss(found, langs, reduction="sum")
        if optimiser.label_smoothing:
            even = -found.mean(1).sum()
            total = (1 - optimiser.label_smoothing) * total + optimiser.label_smoothing * even
        right = (found.argmax(1) == langs).sum()
        crops = counts.batch["crops"]
        loss, right = accelerator.reduce(torch.stack([total.detach(), right.float()]), "sum")
        measures = {"loss": loss / counts.step["crops"], "train_accuracy": right / crops}
        return BatchLoss(total / counts.step["crops"], crops, measures)

    # Validation and the end

    def validate(self) -> dict[str, Any]:
        """Macro F1 of held-out crops by the main process; the others are told."""
        line: dict[str, Any] = {}
        found = torch.zeros(1, dtype=torch.float64, device=self.accelerator.device)
        if self.accelerator.is_main_process:
            seconds = self.config.data.crop_seconds
            truth, scores = self._scores(seconds)
            measured = measure(truth, [self.languages[int(np.argmax(row))] for row in scores])
            line = {"accuracy": measured.accuracy, "macro_f1": measured.macro_f1, "seconds": seconds}
            found += measured.macro_f1
        return line | {"macro_f1": float(self.accelerator.reduce(found, "sum"))}

    def _scores(self, seconds: float) -> tuple[list[str], Any]:
        """Languages of the held-out crops of a length, and probabilities `(num_crops, num_languages)`."""
        self.network.eval()
        truth, rows, waiting = [], [], []
        for lang, waveform in self._held_out(seconds):
            truth.append(lang)
            waiting.append(waveform)
            if len(waiting) == _VALIDATION_BATCH:
                rows.append(self._probabilities(waiting))
                waiting = []
        if waiting:
            rows.append(self._probabilities(waiting))
        return truth, np.concatenate(rows)

    def _held_out(self, seconds: float) -> Iterator[tuple[str, Any]]:
        for number, lang in enumerate(self.held_out.languages):
            for place in range(self.config.validation.crops):
                yield lang, self.held_out.held_out(number, place, seconds)

    def _probabilities(self, waveforms: list[Any]) -> Any:
        batch = torch.from_numpy(np.stack(waveforms)).to(self.accelerator.device)
        with torch.no_grad():
            return self.network(self.network.features(batch)).float().exp().cpu().numpy()

    def save_best(self) -> None:
        save_ecapa(self.network, self.config.model, self.languages, self.model_folder, self.config.half_weights)

    def own_state(self) -> dict[str, Any]:
        return self.network.own_state()

    def fill(self, state: dict[str, Any], origin: str) -> None:
        self.network.fill(state, origin)

    def finish(self) -> None:
        """Measure the best network on held-out crops of several lengths, and fit its thresholds; the main process."""
        if not self.accelerator.is_main_process:
            return
        weights = self.model_folder / "model.safetensors"
        self.network.fill(read_tensors(weights, "ecapa"), str(weights))
        results = []
        for seconds in self.config.validation.seconds:
            began = time.process_time()
            truth, rows = self._scores(seconds)
            cost = (time.process_time() - began) / (len(truth) * seconds)
            scores = [dict(zip(self.languages, map(float, row), strict=True)) for row in rows]
            results.append(LengthResult(seconds, truth, scores, cost))
        middle = min(results, key=lambda result: abs(result.seconds - self.config.data.crop_seconds))
        calibration = fit_calibration(
            middle.truth,
            middle.scores,
            model="ecapa",
            sha256=find_model("ecapa", str(self.model_folder)).sha256,
            window_seconds=middle.seconds,
            rule=self.config.calibration.rule,
            precision=self.config.calibration.precision,
        )
        save_calibration(calibration, self.model_folder / CALIBRATION_FILE)
        write_evaluation(self.folder.root, evaluation_of("ecapa", results, calibration), results, calibration)


def train_lid(config: LidTrainingConfig) -> Trained:
    """Train a language identifier as a configuration says, or go on with one that was stopped.

    Raises ConfigError where the folder holds a training with another configuration, InputError for data that cannot be
    used, ModelError where the loss is not finite.
    """
    return LidTraining(config).run()
