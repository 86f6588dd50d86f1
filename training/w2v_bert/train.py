"""Pre-training of w2v-BERT 2.0 on speech alone: steps, what is held out, and a directory that transformers loads.

Of several processes each takes some rows of a batch. Losses are means over the masked inputs of all of them, and the
mean shares of codes, from which diversity is found, are those of all too: they compute what one process does.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from seamlessalign import storage
from seamlessalign.errors import InputError
from seamlessalign.training.w2v_bert.batches import SpeechBatch, SpeechBatches
from seamlessalign.training.w2v_bert.codebooks import gumbel_noise
from seamlessalign.training.w2v_bert.config import W2vBertConfig
from seamlessalign.training.w2v_bert.losses import diversity, perplexity
from seamlessalign.training.w2v_bert.model import W2vBertPretraining, fill_from, save_pretrained
from seamlessalign.training.w2v_bert.sources import read_pieces, split_pieces
from seamlessalign.training_folder import TrainingFolder
from seamlessalign.training_loop import BatchLoss, Counts, Trained, Trainer
from seamlessalign.typed_config import digest

Sums = dict[str, Any]


class W2vBertTraining(Trainer):
    """One pre-training in one process, of several where they were launched together.

    The best network is the one that tells the frozen codes best. The whole loss would not do: it is lowest where all
    inputs have one code, which contrast and the learnt codes cannot see.
    """

    measure = "held_out_rpq"
    label = "held-out RPQ loss"
    lower_is_better = True
    counted = ("targets",)  # masked inputs

    def __init__(self, config: W2vBertConfig) -> None:
        """Read the data and make the network. Raises ConfigError, InputError, ModelError, MissingPackageError."""
        super().__init__(config, TrainingFolder(config.output))
        self.config = config
        self.model_folder = self.folder.root / "model"
        self._read_data()
        torch.manual_seed(config.seed)
        self.network = W2vBertPretraining(config)
        if config.model.start:
            fill_from(self.network, Path(config.model.start))
        if config.model.dropout:  # of its own in each process
            torch.manual_seed(config.seed + 1 + self.accelerator.process_index)
        self.prepare(self.network, torch.optim.AdamW(self.network.parameters(), **config.optimiser.adam()))

    def _read_data(self) -> None:
        config, data, aside = self.config, self.config.data, Counter[str]()
        known: set[str] = set()
        learnt = read_pieces(data.train, data, aside, known)
        if data.validation:
            held = read_pieces(data.validation, data, aside, known)
        else:
            learnt, held = split_pieces(learnt, data.validation_share)
        self.set_aside = aside
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        self.batches = SpeechBatches(learnt, config, rank, world)
        self.held_out = SpeechBatches(held, config, rank, world, held_out=True)
        start = config.model.start
        weights = [storage.sha256_of(file) for file in sorted(Path(start).glob("*.safetensors"))] if start else []
        self._digest = digest([piece.key for piece in learnt], [piece.key for piece in held], weights)
        hours, kept = (sum(piece.seconds for piece in some) / 3600 for some in (learnt, held))
        self._summary = f"{len(learnt)} pieces of speech ({hours:.2f} h), {len(held)} ({kept:.2f} h) held out"

    def content(self) -> dict[str, str]:
        return {"digest of speech": self._digest}

    def summary(self) -> str:
        parameters = sum(parameter.numel() for parameter in self.network.encoder.parameters())
        return f"{self._summary}; encoder of {parameters / 1e6:.1f} M parameters"

    # Steps

    def count(self, batch: SpeechBatch) -> list[int]:
        return [int(batch.masked.sum())]

    def batch_loss(self, batch: SpeechBatch, epoch: int, position: int, counts: Counts) -> BatchLoss:
        """The mean loss over the masked inputs of all processes."""
        temperature = self.config.gvq.temperature(self.at.step)
        own = self._sums(self.learner, batch, temperature)
        whole = self._everyones(own)
        targets, share = counts.batch["targets"], counts.share("targets")
        if not targets:
            nothing = own["contrastive"] + own["gvq"] + own["rpq"] + own["shares"].sum()
            return BatchLoss(nothing, 0, {"loss": nothing}, rejects=batch.rejects)
        # the mean of all, whose gradient goes to this process's part
        shares = (whole["shares"] - own["shares"].detach() + own["shares"]) / targets
        loss = self._weighed(own, shares, targets)
        losses = {name: whole[name] / targets for name in ("contrastive", "gvq", "rpq")}
        measures = {"loss": share * self._weighed(whole, shares.detach(), targets)} | losses
        measures |= {"diversity": diversity(shares.detach())} | self._told(whole) | {"temperature": temperature}
        return BatchLoss(
            share * loss,
            targets,
            measures,
            rejects=batch.rejects,
            names=batch.places,
            frames=int(batch.feature_mask.sum()),
        )

    def _sums(self, network: Any, batch: SpeechBatch, temperature: float | None) -> Sums:
        """What the network makes of this process's rows; no temperature: without noise."""
        device, gvq = self.accelerator.device, self.config.gvq
        noise = None
        if temperature is not None:
            counts = batch.masked.sum(1).tolist()
            noise = gumbel_noise(batch.seeds, counts, gvq.groups, gvq.entries, device)
        batch = batch.to(device)
        found = network(batch.features, batch.feature_mask, batch.masked, batch.distractors, noise, temperature or 1.0)
        return dict(found)

    def _everyones(self, own: Sums) -> Sums:
        """The sums over all processes, without gradients."""
        values = {name: value.detach().double() for name, value in sorted(own.items())}
        summed = self.accelerator.reduce(torch.cat([value.flatten() for value in values.values()]), "sum")
        parts = summed.split([value.numel() for value in values.values()])
        return {name: part.view(values[name].shape) for name, part in zip(values, parts, strict=True)}

    def _weighed(self, sums: Sums, shares: Any, targets: int) -> Any:
        weights = self.config.losses
        told = sums["contrastive"] / targets + self.config.gvq.diversity * diversity(shares)
        return weights.contrastive * told + (weights.gvq * sums["gvq"] + weights.rpq * sums["rpq"]) / targets

    def _told(self, sums: Sums) -> dict[str, Any]:
        """How much is told right, and how evenly the entries of each codebook are used, from 1 to all of them."""
        targets = sums["targets"]
        found = {"contrastive_accuracy": sums["contrastive_right"] / targets}
        for kind in ("gvq", "rpq"):
            found[f"{kind}_accuracy"] = sums[f"{kind}_right"].mean() / targets
            for i, counts in enumerate(sums[f"{kind}_counts"]):
                found[f"{kind}_perplexity_{i + 1}"] = perplexity(counts / targets)
        return found

    # Validation and the end

    def validate(self) -> dict[str, Any]:
        """Losses and use of codes over all that is held out, without noise; each process does its rows."""
        return self._held_out_line(self._held_out_sums())

    def _held_out_sums(self) -> Sums:
        self.network.eval()
        total: Sums = {}
        for place in range(self.held_out.num_batches(0)):
            batch = self.held_out[0, place]
            self.at.rejects |= batch.rejects
            with torch.no_grad():
                found = self._sums(self.network, batch, None)
            total = {name: total.get(name, 0) + value.double() for name, value in found.items()}
        whole = self._everyones(total)
        if not whole["targets"]:
            raise InputError("nothing of what is held out can be read; give other data.validation")
        return whole

    def _held_out_line(self, sums: Sums) -> dict[str, Any]:
        targets = int(sums["targets"])
        losses = {name: sums[name] / targets for name in ("contrastive", "gvq", "rpq")}
        shares = sums["shares"] / targets
        found = {"loss": self._weighed(sums, shares, targets)} | losses | {"diversity": diversity(shares)}
        return {f"held_out_{name}": float(value) for name, value in (found | self._told(sums)).items()}

    def save_best(self) -> None:
        save_pretrained(self.network, self.model_folder, self.config.half_weights)

    def own_state(self) -> dict[str, Any]:
        return {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    def fill(self, state: dict[str, Any], origin: str) -> None:
        self.network.fill(state, origin)

    def finish(self) -> None:
        """Measure the best network once more, with how each codebook is used; the main process writes it down."""
        fill_from(self.network, self.model_folder)
        sums = self._held_out_sums()
        if not self.accelerator.is_main_process:
            return
        codebooks = [
            {
                "codebook": f"{kind} {i + 1}",
                "entries": len(counts),
                "used": int((counts > 0).sum()),
                "perplexity": round(float(perplexity(counts / counts.sum())), 2),
            }
            for kind in ("gvq", "rpq")
            for i, counts in enumerate(sums[f"{kind}_counts"])
        ]
        found = {"targets": int(sums["targets"])} | self._held_out_line(sums) | {"codebooks": codebooks}
        storage.write_bytes_atomic(
            str(self.folder.root / "evaluation.json"), (json.dumps(found, indent=1) + "\n").encode()
        )


def train_w2v_bert(config: W2vBertConfig) -> Trained:
    """Pre-train as a configuration says, or go on with a pre-training that was stopped.

    Raises ConfigError where the folder holds a training with another configuration, InputError for data that cannot be
    used, ModelError where weights do not fit or the loss is not finite.
    """
    return W2vBertTraining(config).run()
