"""Teaching an ECAPA-TDNN languages: batches of crops, steps, checkpoints, and what comes of it on held-out speech.

Several processes (`torchrun`, or accelerate's launcher) take the crops of each batch in turn. Batch normalisation sees
the whole batch and the loss is its mean, so that they compute what one process does.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from seamlessalign import storage
from seamlessalign.config import digest
from seamlessalign.errors import InputError, MissingPackageError, ModelError
from seamlessalign.lid.calibration import CALIBRATION_FILE, fit_calibration, save_calibration
from seamlessalign.lid.ecapa import EcapaNetwork, read_tensors, save_ecapa
from seamlessalign.lid.evaluate import LengthResult, evaluation_of, write_evaluation
from seamlessalign.lid.measures import measure
from seamlessalign.lid.sources import Crops, read_clips, split_clips
from seamlessalign.lid.training_config import LidTrainingConfig
from seamlessalign.model_files import find_model
from seamlessalign.synced_norm import with_synced_norms
from seamlessalign.training_curve import curve
from seamlessalign.training_folder import TrainingFolder
from seamlessalign.training_steps import StopSignal, rate_factor

_SILENT_SECONDS = 30  # after which the program says where it is
_VALIDATION_BATCH = 32


@dataclass
class Progress:
    """Where a training is; all of it is part of the checkpoint."""

    step: int = 0
    best: float = -1.0
    best_step: int = 0
    worse: int = 0  # validations since the best
    finished: str = ""  # why, once it is
    sums: dict[str, float] = field(default_factory=dict)  # since the last line of metrics


@dataclass(frozen=True)
class LidTrainingResult:
    """What came of a training."""

    folder: Path
    steps: int
    best_step: int
    macro_f1: float  # of the best validation
    finished: str  # why it ended; empty where it was told to stop, and the same command goes on


class _Batches(torch.utils.data.Dataset):  # type: ignore[misc]
    """One process's crops of each step: waveforms `(num, num_samples)`, languages, by the number of the step."""

    def __init__(self, crops: Crops, batch: int, rank: int, world: int) -> None:
        self.crops, self.places = crops, list(range(rank, batch, world))

    def __getitem__(self, step: int) -> tuple[Any, Any]:
        made = [self.crops.crop(step, place) for place in self.places]
        return (
            torch.from_numpy(np.stack([samples for samples, _ in made])),
            torch.tensor([lang for _, lang in made], dtype=torch.long),
        )


class LidTraining:
    """One training in one process, of several where they were launched together."""

    def __init__(self, config: LidTrainingConfig) -> None:
        """Read the data and make the network. Raises ConfigError, InputError, ModelError, MissingPackageError."""
        try:
            from accelerate import Accelerator
        except ImportError as error:
            raise MissingPackageError("accelerate", "train", "training") from error

        self.config = config
        self.folder = TrainingFolder(config.output)
        self.model_folder = self.folder.root / "model"
        resources = config.resources
        if resources.threads:
            torch.set_num_threads(resources.threads)
        if resources.device == "cuda" and not torch.cuda.is_available():
            raise InputError("resources.device is cuda, but torch sees no CUDA device")
        self.accelerator = Accelerator(mixed_precision=resources.precision, cpu=resources.device == "cpu")
        self._said = time.monotonic()
        world = self.accelerator.num_processes
        if config.optimiser.batch < world:
            raise InputError(f"optimiser.batch is {config.optimiser.batch}, less than the {world} processes")
        self.set_aside: Counter[str] = Counter()
        self._read_data()
        torch.manual_seed(config.seed)
        self.network = EcapaNetwork(config.model, len(self.languages))
        if world > 1:
            with_synced_norms(self.network)
        self.at = Progress()
        optimiser = config.optimiser
        adam = torch.optim.Adam(
            self.network.parameters(), lr=optimiser.lr, betas=optimiser.betas, weight_decay=optimiser.weight_decay
        )
        self.learner, self.adam = self.accelerator.prepare(self.network, adam)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.adam.optimizer,
            lambda step: rate_factor(
                step, optimiser.steps, optimiser.warmup, optimiser.schedule, optimiser.last_lr / optimiser.lr
            ),
        )

    def run(self) -> LidTrainingResult:
        """Train from where the folder's checkpoint is, or from the beginning, to the end."""
        if self.accelerator.is_main_process:
            self.folder.open(self.config.plan() | {"digest of clips": self.data_digest})
        self.accelerator.wait_for_everyone()
        self._resume()
        if not self.at.finished:
            with StopSignal(self._say) as stop:
                self._loop(stop)
        if self.at.finished and not self.folder.is_complete and self.accelerator.is_main_process:
            self._finish()
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()  # threads of a group of processes that is left standing abort the program
        at = self.at
        return LidTrainingResult(self.folder.root, at.step, at.best_step, max(at.best, 0.0), at.finished)

    def _read_data(self) -> None:
        data = self.config.data
        clips = read_clips(data.train, data, self.set_aside)
        if data.validation:
            learnt, held = clips, read_clips(data.validation, data, self.set_aside)
            unknown = sorted({clip.lang for clip in held} - {clip.lang for clip in learnt})
            if unknown:
                raise InputError(f"data.validation: no source of data.train has {', '.join(unknown)}")
        else:
            learnt, held = split_clips(clips, data.validation_share)
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
        self.data_digest = digest([(clip.key, clip.lang, clip.group) for clip in (*learnt, *held)])
        seconds = sum(clip.seconds for clip in learnt) / 3600
        self._say(
            f"{len(learnt)} clips ({seconds:.2f} h) in {len(self.languages)} languages, {len(held)} held out; "
            f"set aside: {dict(self.set_aside) or 'none'}"
        )

    # Steps

    def _loop(self, stop: StopSignal) -> None:
        config, at = self.config, self.at
        accelerator, optimiser = self.accelerator, self.config.optimiser
        batches = _Batches(self.crops, optimiser.batch, accelerator.process_index, accelerator.num_processes)
        workers = config.resources.workers
        loading = torch.utils.data.DataLoader(
            batches,
            batch_size=None,
            sampler=range(at.step, optimiser.steps),
            num_workers=workers,
            generator=torch.Generator(),  # it draws a number when it begins, which must not be one of ours
            multiprocessing_context="spawn" if workers else None,
        )
        self.learner.train()
        began, done = time.monotonic(), at.step
        for waveforms, langs in loading:
            self._step(waveforms, langs)
            at.step += 1
            if time.monotonic() - self._said > _SILENT_SECONDS:
                self._say(f"step {at.step}")
            if at.step % config.log_every == 0:
                self._log(began, done)
                began, done = time.monotonic(), at.step
            if at.step % config.validation.every == 0 or at.step == optimiser.steps:
                self._validate()
                began, done = time.monotonic(), at.step
            if at.step == optimiser.steps:
                at.finished = "steps"
            elif config.validation.patience and at.worse >= config.validation.patience:
                at.finished = "patience"
            stopped = self._everyone_stops(stop.told)
            if at.step % config.checkpoint_every == 0 or at.finished or stopped:
                self._checkpoint()
            if at.finished or stopped:
                return

    def _everyone_stops(self, told: bool) -> bool:
        """Whether any process was told to: all of them must save the same step."""
        if self.accelerator.num_processes == 1:
            return told
        flags = self.accelerator.gather(torch.tensor([int(told)], device=self.accelerator.device))
        return bool(flags.any())

    def _step(self, waveforms: Any, langs: Any) -> None:
        """One step by the mean loss over the crops of all processes."""
        accelerator, optimiser, at = self.accelerator, self.config.optimiser, self.at
        features = self.network.features(waveforms.to(accelerator.device))
        langs = langs.to(accelerator.device)
        found = self.learner(features).float()
        total = functional.nll_loss(found, langs, reduction="sum")
        if optimiser.label_smoothing:
            even = -found.mean(1).sum()
            total = (1 - optimiser.label_smoothing) * total + optimiser.label_smoothing * even
        self.adam.zero_grad()
        # gradients are averaged over processes
        accelerator.backward(total * accelerator.num_processes / optimiser.batch)
        norm = float(accelerator.clip_grad_norm_(self.learner.parameters(), optimiser.clip))
        self.adam.step()
        self.schedule.step()
        right = (found.argmax(1) == langs).sum()
        both = accelerator.reduce(torch.stack([total.detach(), right.float()]), "sum")
        loss = float(both[0]) / optimiser.batch
        if not np.isfinite(loss):
            raise ModelError(f"step {at.step + 1}: the loss is {loss}; lower optimiser.lr")
        values = {"loss": loss, "train_accuracy": float(both[1]) / optimiser.batch, "grad_norm": norm, "count": 1.0}
        for name, value in values.items():
            at.sums[name] = at.sums.get(name, 0.0) + value

    def _log(self, began: float, done: int) -> None:
        at = self.at
        count = at.sums.pop("count", 1.0)
        line: dict[str, Any] = {"step": at.step} | {name: value / count for name, value in at.sums.items()}
        line["lr"] = self.schedule.get_last_lr()[0]
        line["steps_per_second"] = round((at.step - done) / max(time.monotonic() - began, 1e-9), 3)
        at.sums = {}
        self._write(line)

    # Validation

    def _validate(self) -> None:
        """Macro F1 of held-out crops by the main process; the others are told."""
        at = self.at
        found = torch.zeros(1, dtype=torch.float64, device=self.accelerator.device)
        if self.accelerator.is_main_process:
            seconds = self.config.data.crop_seconds
            truth, scores = self._scores(seconds)
            answers = [self.languages[int(np.argmax(row))] for row in scores]
            measured = measure(truth, answers)
            line = {"accuracy": measured.accuracy, "macro_f1": measured.macro_f1, "seconds": seconds}
            self._write({"step": at.step, **line})
            found += measured.macro_f1
        macro_f1 = float(self.accelerator.reduce(found, "sum"))
        if macro_f1 > at.best:
            at.best, at.best_step, at.worse = macro_f1, at.step, 0
            if self.accelerator.is_main_process:
                save_ecapa(self.network, self.config.model, self.languages, self.model_folder, self.config.half_weights)
        else:
            at.worse += 1
        self.learner.train()

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

    # Checkpoints and the end

    def _checkpoint(self) -> None:
        accelerator = self.accelerator
        if accelerator.is_main_process:
            self.folder.save(
                {
                    "progress": dict(vars(self.at)),
                    "network": self.network.own_state(),
                    "optimiser": self.adam.state_dict(),
                    "schedule": self.schedule.state_dict(),
                    "scaler": accelerator.scaler.state_dict() if accelerator.scaler is not None else None,
                }
            )
            self._draw()
        accelerator.wait_for_everyone()

    def _resume(self) -> None:
        state = self.folder.load()
        if state is None:
            if self.accelerator.is_main_process:
                self.folder.forget_after(-1)
            return
        self.at = Progress(**state["progress"])
        self.network.fill(state["network"], str(self.folder.state))
        self.adam.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.accelerator.is_main_process:
            self.folder.forget_after(self.at.step)
            storage.remove_unfinished(str(self.folder.root))
        self._say(f"going on from step {self.at.step}" + (f"; finished: {self.at.finished}" * bool(self.at.finished)))

    def _finish(self) -> None:
        """Measure the best network on held-out crops of several lengths, fit its thresholds, and say so."""
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
        evaluation = evaluation_of("ecapa", results, calibration)
        write_evaluation(self.folder.root, evaluation, results, calibration)
        self._write(
            {
                "step": self.at.step,
                "finished": self.at.finished,
                "best_step": self.at.best_step,
                "best": self.at.best,
                "set_aside": dict(sorted(self.set_aside.items())),
            }
        )
        self._draw()

    def _draw(self) -> None:
        picture = curve(self.folder.lines(), f"Training of {self.folder.root.name}", "macro_f1", "macro F1")
        storage.write_bytes_atomic(str(self.folder.curve), picture.encode())

    def _write(self, line: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            self.folder.add(line)
            shown = {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in line.items()}
            self._say(", ".join(f"{key} {json.dumps(value).strip(chr(34))}" for key, value in shown.items()))

    def _say(self, text: str) -> None:
        self._said = time.monotonic()
        if self.accelerator.is_main_process:
            print(text, file=sys.stderr, flush=True)


def train_lid(config: LidTrainingConfig) -> LidTrainingResult:
    """Train a language identifier as a configuration says, or go on with one that was stopped.

    Raises ConfigError where the folder holds a training with another configuration, InputError for data that cannot be
    used, ModelError where the loss is not finite.
    """
    return LidTraining(config).run()
