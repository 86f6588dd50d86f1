"""Teaching a UnitY: batches of speech, text and units, losses of their tokens, and the measure of what is held out.

Of several processes each takes some rows of a batch. Sums of losses are divided by the tokens of all of them and of all
batches of a step, so that they compute what one process does of one batch; one that has no row waits for the others.
"""

import hashlib
from pathlib import Path
from typing import Any

import torch

from seamlessalign.errors import ConfigError, ModelError
from seamlessalign.training.data.examples import Task, UnityBatch
from seamlessalign.training.data.prepared import prepare_data
from seamlessalign.training.unity.config import UnityTrainingConfig
from seamlessalign.training.unity.frame_norm import with_frame_norms
from seamlessalign.training.unity.freezing import choose_trained
from seamlessalign.training.unity.learner import FOUND, UnityLearner, amounts
from seamlessalign.training.unity.lora import Adapters, load_adapters
from seamlessalign.training.unity.model import UnitY, load_unity, make_unity, save_unity
from seamlessalign.training.unity.validation import HeldOut
from seamlessalign.training.vocabulary import TextVocabulary, UnitVocabulary, load_text_vocabulary
from seamlessalign.training_folder import TrainingFolder
from seamlessalign.training_loop import BatchLoss, Counts, Trained, Trainer
from seamlessalign.typed_config import digest

_LABELS = {"bleu": "BLEU", "chrf": "chrF"}
MODEL_FOLDER, ADAPTERS_FOLDER = "model", "adapters"  # within a training's folder
TASKS: tuple[Task, ...] = ("asr", "s2tt", "t2tt", "s2st", "t2st")
# What a configuration calls parts, by transformers' names. The table of text is the text decoder's.
PARTS = {
    "speech_encoder": ["speech_encoder"],
    "adaptor": [f"speech_encoder.{name}" for name in ("intermediate_ffn", "adapter", "inner_layer_norm")],
    "text_encoder": ["text_encoder"],
    "text_decoder": ["shared", "text_decoder", "lm_head"],
    "embeddings": ["shared"],
    "t2u": ["t2u_model"],
    "vocoder": ["vocoder"],
}


class UnityTraining(Trainer):
    """One training in one process, of several where they were launched together."""

    measure = "nll"
    label = "NLL"
    lower_is_better = True
    counted = ("text", "units", "frames")  # tokens that are learnt, and frames of speech
    learner: Any

    def __init__(self, config: UnityTrainingConfig) -> None:
        """Read the data and make the model. Raises ConfigError, InputError, ModelError, MissingPackageError."""
        super().__init__(config, TrainingFolder(config.output))
        self.config = config
        self.model_folder = self.folder.root / MODEL_FOLDER
        self.unity, self.text, self.units, origin = make_model(config)
        self._read_data()
        torch.manual_seed(config.seed)  # adapters begin with random numbers
        self.adapters = Adapters(self.unity, config.lora) if config.lora else None
        if self.adapters is not None:
            self.trained = list(self.adapters.parameters())
        else:
            frozen = [*config.freeze, "vocoder", *unreached(config)]
            self.trained = choose_trained(self.unity.model, PARTS, config.trained, frozen)
        if config.model.recompute:
            _recompute(self.unity.model)
        if config.model.batch_norm == "batch":
            with_frame_norms(self.unity)
        self._bare = UnityLearner(
            self.unity,
            config.loss,
            layer_drop=config.model.layer_drop,
            frozen_norms=config.model.batch_norm == "frozen",
        )
        self._content = {
            "digest of rows": self.rows,
            "digest of vocabularies": digest(self.text.digest, self.units.digest if self.units else None),
        } | ({"weights of start": origin} if origin else {})
        learning = [parameter for parameter in self.unity.model.parameters() if parameter.requires_grad]
        torch.manual_seed(config.seed + self.accelerator.process_index)  # processes drop out other places
        self.prepare(self._bare, torch.optim.AdamW(learning, **config.optimiser.adam()))
        if config.validation.choose != "nll":
            self.measure, self.lower_is_better = config.validation.choose, False
            self.label = _LABELS[self.measure]

    def content(self) -> dict[str, str]:
        return self._content

    def summary(self) -> str:
        learning = sum(p.numel() for p in self.unity.model.parameters() if p.requires_grad)
        whole = sum(p.numel() for p in self.unity.model.parameters())
        return f"{self.told}; {learning:,} of {whole:,} parameters learn"

    # Steps

    def count(self, batch: UnityBatch | None) -> list[int]:
        return [0, 0, 0] if batch is None or not len(batch) else list(amounts(batch, self.config.loss))

    def batch_loss(self, batch: UnityBatch | None, epoch: int, position: int, counts: Counts) -> BatchLoss:
        """Sums over this process's tokens, divided by those of the whole step."""
        accelerator, device = self.accelerator, self.accelerator.device
        here = batch.to(device) if batch is not None and len(batch) else None
        loss, found = self.learner(
            here,
            max(1, counts.step["text"]),
            max(1, counts.step["units"]),
            speech=counts.batch["frames"] > 0,
            draw=_draw(self.config.seed, epoch, position),
        )
        sums = torch.zeros(len(TASKS), len(FOUND), dtype=torch.float64, device=device)
        if here is not None:
            of = torch.tensor([TASKS.index(task) for task in here.tasks], device=device)
            sums.index_add_(0, of, found.detach().double())
        told = accelerator.reduce(torch.cat([loss.detach().double()[None], sums.flatten()]), "sum")
        by_task = told[1:].reshape(sums.shape).tolist()
        return BatchLoss(
            loss,
            counts.batch["text"] or counts.batch["units"],
            {"loss": told[0]},
            sums={name: of for task, row in zip(TASKS, by_task, strict=True) for name, of in means(task, row).items()},
            rejects=batch.rejects if batch is not None else {},
            names=lambda: _names(here),
            frames=int(here.feature_mask.sum()) if here is not None and here.feature_mask is not None else 0,
        )

    # Validation and the end

    def validate(self) -> dict[str, Any]:
        self._bare.eval()
        return self.held_out.measure(self._bare, self.accelerator)

    def save_best(self) -> None:
        if self.adapters is not None:
            self.adapters.save(self.folder.root / ADAPTERS_FOLDER)
        else:
            save_unity(self.model_folder, self.unity, self.text, self.units, half=self.config.half_weights)

    def finish(self) -> None:
        """Work the best adapters, where they are what was learnt, into the model that they began with."""
        if self.adapters is not None and self.accelerator.is_main_process:
            unity, text, units = load_unity(start_folder(str(self.config.start)))
            merged = load_adapters(unity, self.folder.root / ADAPTERS_FOLDER).merge()
            save_unity(self.model_folder, merged, text, units, half=self.config.half_weights)

    def own_state(self) -> dict[str, Any]:
        """Without what is frozen where it is that of `start`, which does not change."""
        state = self.unity.state_dict()
        if not self.config.start:
            return dict(state)
        kept = set(self._learning_names())
        return {name: value for name, value in state.items() if name in kept}

    def fill(self, state: dict[str, Any], origin: str) -> None:
        wanted = self.own_state()
        if state.keys() != wanted.keys() or any(state[name].shape != value.shape for name, value in wanted.items()):
            raise ModelError(f"{origin}: is not of this model")
        self.unity.load_state_dict(state, strict=False)

    def _learning_names(self) -> list[str]:
        """Of the state: parameters that learn, and buffers of modules in training mode."""
        self._bare.train()
        names = [f"model.{name}" for name in self.trained]
        for place, module in self.unity.named_modules():
            if module.training:
                own = [name for name, _ in module.named_buffers(recurse=False)]
                names += [f"{place}.{name}" if place else name for name in own]
        return names

    # Before the first step

    def _read_data(self) -> None:
        config, accelerator = self.config, self.accelerator
        with accelerator.main_process_first():  # which lists the rows for all
            data = prepare_data(
                config.data,
                self.text,
                self.units,
                config.seed,
                self.folder.root / "rows",
                accelerator.process_index,
                accelerator.num_processes,
            )
        for source, reasons in data.by_source.items():
            if reasons:
                self.log.say(f"{source}: set aside {dict(reasons)}")
        self.batches, self.set_aside = data.train, data.set_aside
        self.held_out = HeldOut(data.validation, config.loss, self.text, config.validation.translate)
        self.rows, self.told = data.digest, data.summary


def make_model(config: UnityTrainingConfig) -> tuple[UnitY, TextVocabulary, UnitVocabulary | None, str]:
    """The model that a training begins with, its vocabularies, and the SHA-256 of the weights of `start`, if any."""
    choice = config.model
    changes = {} if choice.dropout is None else _dropouts(choice.dropout)
    if config.start is not None:
        folder = start_folder(config.start)
        unity, text, units = load_unity(folder, **changes)
        return unity, text, units, _sha256(folder)
    text = load_text_vocabulary(str(choice.vocabulary))
    spoken = choice.unit_languages or list(text.languages)
    units = UnitVocabulary(choice.num_units, spoken) if choice.num_units else None
    torch.manual_seed(config.seed)
    return make_unity(str(choice.size), text, units, **changes), text, units, ""


def unreached(config: UnityTrainingConfig) -> list[str]:
    """Parts that no loss of the tasks reaches; they stay as they are, where weight decay alone would wear them down."""
    tasks, loss = set(config.data.tasks), config.loss
    speech, units = tasks & {"asr", "s2tt", "s2st"}, tasks & {"s2st", "t2st", "t2u"}
    found = []
    if not speech:
        found.append("speech_encoder")
    if speech == tasks and not (loss.t2tt or (loss.kd and loss.teacher_learns)):
        found.append("text_encoder")  # it may teach, but does not learn
    if not (units and loss.t2u):
        found.append("t2u")
    return found


def _recompute(model: Any) -> None:
    enable = getattr(model, "activation_checkpointing_enable", None)  # its name from transformers 5.24 on
    (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})


def start_folder(start: str) -> Path:
    """The folder of a model, of a training's folder or of itself. Raises ConfigError where there is neither."""
    for folder in (Path(start) / MODEL_FOLDER, Path(start)):
        if (folder / "config.json").is_file():
            return folder
    raise ConfigError(f"start: {start} is neither a training that has a model yet nor the folder of a model")


def _dropouts(share: float) -> dict[str, float]:
    keys = ("dropout", "attention_dropout", "speech_encoder_dropout", "adaptor_dropout")
    return dict.fromkeys(keys, share)


def _sha256(folder: Path) -> str:
    whole = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as content:
            whole.update(hashlib.file_digest(content, "sha256").digest())
    return whole.hexdigest()


def means(task: str, row: list[float]) -> dict[str, tuple[float, float]]:
    """What was found of a task's rows: name → (sum, of how many tokens); names end in what is decoded from which."""
    at = dict(zip(FOUND, row, strict=True))
    found = {}
    for side in ("s2tt", "t2tt", "t2u"):
        for name, key in (("nll", "nll"), ("accuracy", "right")):
            found[f"{task}_{side}_{name}"] = (at[f"{side}_{key}"], at[f"{side}_tokens"])
    found[f"{task}_kd"] = (at["kd"], at["kd_tokens"])
    return {name: pair for name, pair in found.items() if pair[1]}


def _names(batch: UnityBatch | None) -> list[str]:
    if batch is None:
        return []
    rows = zip(batch.tasks, batch.src_langs, batch.tgt_langs, batch.places, batch.keys, strict=True)
    return [f"{task} {src}-{tgt} {place} ({key})" for task, src, tgt, place, key in rows]


def _draw(seed: int, epoch: int, position: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {epoch} {position}".encode()).digest()[:6], "big")


def train_unity(config: UnityTrainingConfig) -> Trained:
    """Train a model as a configuration says, or go on with a training that was stopped.

    Raises ConfigError where the folder holds a training with another configuration, InputError for data that cannot be
    used, ModelError where a model cannot be loaded or the loss is not finite.
    """
    return UnityTraining(config).run()
