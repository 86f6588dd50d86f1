"""Teaching a unit vocoder: batches of segments, and how near held-out speech is to what is made of its units.

Of several processes each takes some segments of a batch. The losses are means over the whole batch, so that they learn
what one process does.
"""

import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import soundfile
import torch

from seamlessalign import storage
from seamlessalign.errors import InputError, ModelError, UnreadableError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.training.vocoder.config import VocoderTrainingConfig
from seamlessalign.training.vocoder.discriminators import Discriminators
from seamlessalign.training.vocoder.generator import durations_of, log_durations, make_generator, speech_of
from seamlessalign.training.vocoder.learner import VocoderBatch, VocoderLearner
from seamlessalign.training.vocoder.model import VocoderModel, load_vocoder, save_vocoder
from seamlessalign.training.vocoder.pictures import mel_svg
from seamlessalign.training.vocoder.segments import Float32, SegmentBatches, sound_of
from seamlessalign.training.vocoder.sources import (
    Utterance,
    centroids_of,
    read_utterances,
    split_utterances,
    tables_of,
)
from seamlessalign.training_folder import TrainingFolder
from seamlessalign.training_loop import BatchLoss, Counts, Trained, Trainer
from seamlessalign.typed_config import digest

_TERMS = ("mel", "duration", "discriminator", "adversarial", "features")


class VocoderTraining(Trainer):
    """One training in one process, of several where they were launched together."""

    measure = "mel_l1"
    label = "mel L1"
    lower_is_better = True
    counted = ("segments", "units")

    def __init__(self, config: VocoderTrainingConfig) -> None:
        """Read the data and make the networks. Raises ConfigError, InputError, ModelError, MissingPackageError."""
        super().__init__(config, TrainingFolder(config.output), all_used=not config.losses.mel_only_steps)
        self.config = config
        self.model_folder = self.folder.root / "model"
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        if config.optimiser.batch < world:
            raise InputError(f"optimiser.batch is {config.optimiser.batch}, less than the {world} processes")
        learnt = self._read_data()
        self.batches = SegmentBatches(
            learnt,
            {name: row for row, name in enumerate(self.languages)},
            {name: row for row, name in enumerate(self.speakers)},
            segment=config.data.segment,
            batch=config.optimiser.batch,
            seed=config.seed,
            rank=rank,
            world=world,
        )
        torch.manual_seed(config.seed)
        generator = make_generator(config.model, len(self.languages), len(self.speakers))
        self.module = VocoderLearner(generator, Discriminators(config.discriminators))
        optimiser = config.optimiser
        groups = [
            {"params": generator.parameters()},
            {"params": self.module.discriminators.parameters(), "lr": optimiser.discriminator_lr or optimiser.lr},
        ]
        self.prepare(self.module, torch.optim.AdamW(groups, **optimiser.adam()))

    def _read_data(self) -> list[Utterance]:
        """The utterances to learn from; those held out, languages and speakers are kept here."""
        config, aside = self.config, Counter[str]()
        units = config.model.units
        sources = [*config.data.train, *config.data.validation]
        self._centroids = centroids_of([place for one in sources for place in tables_of(one)], units)
        found = read_utterances(config.data.train, config.data, units, aside)
        if config.data.validation:
            learnt, held = found, read_utterances(config.data.validation, config.data, units, aside)
        else:
            learnt, held = split_utterances(found, config.data.validation_share)
        there = sorted({one.lang for one in learnt})
        self.languages = config.languages or there
        self.speakers = sorted({one.speaker for one in learnt})
        unknown = sorted(set(there) - set(self.languages))
        if unknown:
            raise InputError(f"languages: lacks {', '.join(unknown)} of the data")
        for name, rows, names in (
            ("languages", config.model.languages, self.languages),
            ("speakers", config.model.speakers, self.speakers),
        ):
            if rows is not None and len(names) > rows:
                raise InputError(f"model.{name} is {rows}, but there are {len(names)}")
        known = {(one.lang, one.speaker) for one in learnt}
        aside["not_learnt"] += sum((one.lang, one.speaker) not in known for one in held)
        self.held_out = [one for one in held if (one.lang, one.speaker) in known]
        if not self.held_out:
            told = "give data.validation, or more utterances of each speaker"
            raise InputError(f"data: nothing to hold out of a language and speaker that is learnt; {told}")
        self.set_aside = +aside
        self._digest = digest([(one.key, one.num_frames) for one in (*learnt, *self.held_out)])
        hours = sum(one.seconds for one in learnt) / 3600
        of = f"{len(self.languages)} languages and {len(self.speakers)} speakers"
        self._summary = f"{len(learnt)} utterances ({hours:.2f} h) of {of}, {len(self.held_out)} held out"
        return learnt

    def content(self) -> dict[str, str]:
        return {"digest of utterances": self._digest}

    def summary(self) -> str:
        return self._summary

    # Steps

    def count(self, batch: VocoderBatch) -> list[int]:
        return [len(batch.frames), int((batch.durations > 0).sum())]

    def batch_loss(self, batch: VocoderBatch, epoch: int, position: int, counts: Counts) -> BatchLoss:
        """The mean losses over the segments, and durations over the units, of all processes."""
        accelerator, weights = self.accelerator, self.config.losses
        rejects, batch = batch.rejects, batch.to(accelerator.device)
        terms = self.learner(batch, adversarial=self.at.step >= weights.mel_only_steps)
        names = [name for name in _TERMS if name in terms]
        sums = accelerator.reduce(torch.stack([terms[name].detach().float() for name in names]), "sum")
        factors = {"mel": weights.mel, "features": weights.features, "duration": weights.duration}
        loss: Any = 0.0
        measures = {"loss": torch.zeros((), device=accelerator.device)}
        for name, total in zip(names, sums, strict=True):
            factor, of = factors.get(name, 1.0), "units" if name == "duration" else "segments"
            loss = loss + factor * terms[name] / counts.step[of]
            measures["loss"] = measures["loss"] + factor * total / counts.step[of]
            measures[name] = total / counts.batch[of]
        frames = batch.frames.numel()
        return BatchLoss(loss, counts.batch["segments"], measures, rejects=rejects, names=batch.places, frames=frames)

    # Validation and the end

    def validate(self) -> dict[str, Any]:
        """Mel L1 of held-out utterances by the main process; the others are told."""
        line: dict[str, Any] = {}
        found = torch.zeros(1, dtype=torch.float64, device=self.accelerator.device)
        if self.accelerator.is_main_process:
            line = self._measured(self.held_out[: self.config.validation.items])
            found += line["mel_l1"]
        return line | {"mel_l1": float(self.accelerator.reduce(found, "sum"))}

    def _measured(self, utterances: Sequence[Utterance]) -> dict[str, Any]:
        """Means over frames of spectrograms, and of the difference of durations, in 20 ms, over units."""
        self.module.eval()
        mel, frames, wrong, units = 0.0, 0, 0, 0
        for one, speech in self._read(utterances):
            true, made = self._mels(one, speech)
            mel += float((true - made).abs().mean(0).sum())
            frames += true.shape[1]
            wrong += int(np.abs(self._durations(one) - one.durations).sum())
            units += len(one.units)
        if not frames:
            raise InputError("data: nothing that is held out can be read any more")
        return {"mel_l1": mel / frames, "duration_error": wrong / units}

    def _read(self, utterances: Sequence[Utterance]) -> Iterator[tuple[Utterance, Float32]]:
        for one in utterances:
            try:
                yield one, sound_of(one)
            except UnreadableError as error:
                self.at.rejects[one.place] = error.reason

    def _tables(self, one: Utterance) -> tuple[Any, Any]:
        rows = (self.languages.index(one.lang), self.speakers.index(one.speaker))
        return tuple(torch.tensor([[row]], device=self.accelerator.device) for row in rows)

    def _mels(self, one: Utterance, speech: Float32) -> tuple[Any, Any]:
        """Log-mel spectrograms `(num_mels, num_frames)` of what was said, and is made of it at true durations."""
        device = self.accelerator.device
        frames = torch.from_numpy(np.repeat(one.units, one.durations)).long().to(device)[None]
        with torch.no_grad():
            made = speech_of(self.module.generator, frames, *self._tables(one))
            both = [self.module.mel(speech) for speech in (torch.from_numpy(speech).to(device)[None], made)]
        return both[0][0], both[1][0]

    def _durations(self, one: Utterance) -> Any:
        units = torch.from_numpy(one.units).long().to(self.accelerator.device)[None]
        with torch.no_grad():
            found = log_durations(self.module.generator, units, torch.ones_like(units, dtype=torch.bool))
        return durations_of(found)[0].cpu().numpy()

    def keeps(self, value: float) -> bool:
        """As the configuration says; and the first model that has met discriminators, whatever was before."""
        first = self.at.best_step <= self.config.losses.mel_only_steps < self.at.step
        return first or self.config.validation.choose == "last" or super().keeps(value)

    def save_best(self) -> None:
        """Write the generator, and of some utterances what it says and how that looks."""
        generator = self.module.generator
        tables = self.languages, self.speakers
        half = self.config.half_weights
        save_vocoder(generator, *tables, self.model_folder, half=half, centroids=self._centroids)
        model, folder = VocoderModel(generator.eval(), *tables), self.folder.root / "samples"
        for number, (one, speech) in enumerate(self._read(self.held_out[: self.config.validation.samples])):
            said = model.speak(one.units.tolist(), one.lang, one.speaker)
            for name, samples in (("true", speech), ("made", said)):
                storage.write_bytes_atomic(str(folder / f"{number}-{name}.wav"), _wav(samples))
            mels = [mel.cpu().numpy() for mel in self._mels(one, speech)]
            panels = [("true", mels[0]), ("made, at true durations", mels[1])]
            picture = mel_svg(panels, f"Step {self.at.step}: log-mel spectrograms", len(speech) / SAMPLE_RATE)
            storage.write_bytes_atomic(str(folder / f"{number}.svg"), picture.encode())

    def own_state(self) -> dict[str, Any]:
        return dict(self.module.state_dict())

    def fill(self, state: dict[str, Any], origin: str) -> None:
        try:
            self.module.load_state_dict(state)
        except RuntimeError as error:
            raise ModelError(f"{origin}: does not fit: {' '.join(str(error).split())[:300]}") from error

    def finish(self) -> None:
        """Measure the best generator on all that is held out, language by language; the main process."""
        if not self.accelerator.is_main_process:
            return
        best = load_vocoder(self.model_folder, str(self.accelerator.device))
        self.module.generator = best.generator
        measured = {"all": self._measured(self.held_out)}
        for lang in sorted({one.lang for one in self.held_out}):
            measured[lang] = self._measured([one for one in self.held_out if one.lang == lang])
        text = json.dumps(measured, indent=1) + "\n"
        storage.write_bytes_atomic(str(self.folder.root / "evaluation.json"), text.encode())


def _wav(samples: Float32) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(samples, -1, 1), SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def train_vocoder(config: VocoderTrainingConfig) -> Trained:
    """Train a vocoder as a configuration says, or go on with one that was stopped.

    Raises ConfigError where the folder holds a training with another configuration, InputError for data that cannot be
    used, ModelError where the loss is not finite.
    """
    return VocoderTraining(config).run()
