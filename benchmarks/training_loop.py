"""The loop of trainings against transformers' own `Trainer`: the same model, batches, steps of AdamW and clipping.

    python -m benchmarks.training_loop
    python -m benchmarks.training_loop --unity training/unity/stages/tiny.yaml

A SeamlessM4T for speech to text of few layers learns batches of random frames and tokens, in float32 on processors.
Each loop runs in a process of its own, the two by turns. Printed are steps and frames in a second, the ratio of both
medians, by the clock and (which other work on the machine blurs less) by processor seconds, the most memory, and how
far losses and weights of the two are apart, which tells whether they did the same work. Both write a line of metrics
every 10 steps; ours writes its checkpoint at the end as well, as it cannot be told not to, and the time of that counts.
With `--unity` both go through the training of a translation model, by its configuration but without dropout:
its data, as it is read from disk, its model, losses and optimiser.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_FRAMES, _ROWS, _TOKENS, _VOCABULARY, _BATCHES = 240, 6, 30, 500, 8
_LR, _LOG_EVERY = 1e-3, 10


@dataclass(frozen=True)
class Found:
    """What came of one training."""

    seconds: float
    processor: float  # seconds
    frames: int
    memory_gb: float
    losses: list[float]  # means between lines of metrics
    weights: Any  # float64, the mean of each parameter
    loading_share: float | None = None


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description="our loop of trainings against transformers' Trainer")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--unity", metavar="CONFIG.yaml", help="the training of a translation model")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of that configuration")
    options = parser.parse_args()
    ways: tuple[Callable[..., Found], Callable[..., Found]] = (_ours, _theirs)
    more: tuple[Any, ...] = ()
    if options.unity:
        ways, more = (_our_unity, _their_unity), (options.unity, options.overrides)
    found: list[list[Found]] = [[], []]
    for _ in range(options.rounds):
        for way, several in zip(ways, found, strict=True):
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                several.append(pool.submit(way, options.steps, options.threads, *more).result())
    frames = found[0][0].frames / options.steps
    print(f"{options.steps} steps of {frames:.0f} frames; {options.rounds} rounds by turns, medians")
    rates, processor = {}, []
    for name, several in zip(("seamlessalign", "transformers.Trainer"), found, strict=True):
        seconds = statistics.median(one.seconds for one in several)
        rates[name] = options.steps / seconds
        processor.append(statistics.median(one.processor for one in several))
        memory = statistics.median(one.memory_gb for one in several)
        share = "" if several[0].loading_share is None else f", waits for data {several[0].loading_share:.1%} of it"
        each = ", ".join(f"{one.seconds:.2f} ({one.processor:.2f})" for one in several)
        print(
            f"{name:21} {rates[name]:6.2f} steps/s, {several[0].frames / seconds:8.0f} frames/s, {memory:.2f} GB"
            f"{share}; seconds (of processor): {each}"
        )
    ours, theirs = found[0][0], found[1][0]
    losses = max(abs(a - b) / b for a, b in zip(ours.losses, theirs.losses, strict=True))
    weights = float(np.abs(ours.weights - theirs.weights).max())
    by_clock = rates["seamlessalign"] / rates["transformers.Trainer"]
    print(
        f"steps/s, ours / theirs: {by_clock:.3f} by the clock, {processor[1] / processor[0]:.3f} by processor seconds"
    )
    print(f"losses are at most {losses:.1e} of theirs apart, means of parameters {weights:.1e}")


def _model(threads: int) -> Any:
    import torch
    from transformers import SeamlessM4TConfig, SeamlessM4TForSpeechToText

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    width = {"hidden_size": 96, "vocab_size": _VOCABULARY, "max_position_embeddings": 128}
    stacks = {f"{side}_{what}": value for side in ("encoder", "decoder") for what, value in
              (("layers", 2), ("ffn_dim", 192), ("attention_heads", 4), ("layerdrop", 0.0))}  # fmt: skip
    speech = {"speech_encoder_layers": 2, "speech_encoder_intermediate_size": 192, "speech_encoder_attention_heads": 4}
    still = dict.fromkeys(
        ("dropout", "attention_dropout", "activation_dropout", "speech_encoder_dropout", "speech_encoder_layerdrop",
         "adaptor_dropout"), 0.0,
    )  # fmt: skip
    return SeamlessM4TForSpeechToText(SeamlessM4TConfig(**width, **stacks, **speech, **still))


def _batches() -> list[dict[str, Any]]:
    import torch

    made = torch.Generator().manual_seed(1)
    return [
        {
            "input_features": torch.randn(_ROWS, _FRAMES, 160, generator=made),
            "attention_mask": torch.ones(_ROWS, _FRAMES, dtype=torch.long),
            "labels": torch.randint(5, _VOCABULARY, (_ROWS, _TOKENS), generator=made),
        }
        for _ in range(_BATCHES)
    ]


def _found(
    began: tuple[float, float], frames: int, losses: list[float], model: Any, share: float | None = None
) -> Found:
    import torch

    wall, processor = (now - before for now, before in zip(_now(), began, strict=True))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    means = torch.stack([value.double().mean() for value in model.parameters()]).detach().numpy()
    return Found(wall, processor, frames, memory, losses, means, share)


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _ours(steps: int, threads: int) -> Found:
    import torch

    from seamlessalign.training_folder import TrainingFolder
    from seamlessalign.training_loop import BatchLoss, Counts, Trainer
    from seamlessalign.training_settings import TrainingSettings

    model, batches = _model(threads), _batches()

    class Fixed:
        def num_batches(self, epoch: int) -> int:
            return _BATCHES

        def __getitem__(self, where: tuple[int, int]) -> dict[str, Any]:
            return batches[where[1]]

    class Speech(Trainer):
        measure, label, counted = "nothing", "nothing", ("tokens",)

        def __init__(self, settings: TrainingSettings) -> None:
            super().__init__(settings, TrainingFolder(settings.output))
            self.batches, self.set_aside = Fixed(), {}
            self.prepare(model, torch.optim.AdamW(model.parameters(), **settings.optimiser.adam()))

        def count(self, batch: dict[str, Any]) -> list[int]:
            return [_ROWS * _TOKENS]

        def batch_loss(self, batch: dict[str, Any], epoch: int, position: int, counts: Counts) -> BatchLoss:
            loss = self.learner(**batch).loss
            return BatchLoss(loss, _ROWS * _TOKENS, {"loss": loss}, frames=_ROWS * _FRAMES)

        def validate(self) -> dict[str, Any]:
            return {"nothing": 0.0}

        def save_best(self) -> None: ...

        def finish(self) -> None: ...

        def own_state(self) -> dict[str, Any]:
            return dict(model.state_dict())

        def fill(self, state: dict[str, Any], origin: str) -> None:
            model.load_state_dict(state)

        def content(self) -> dict[str, str]:
            return {}

        def summary(self) -> str:
            return "random batches"

    with tempfile.TemporaryDirectory() as folder:
        optimiser = {"steps": steps, "lr": _LR, "warmup": 0, "schedule": "constant", "weight_decay": 0.0}
        keys = {"output": folder, "optimiser": optimiser, "log_every": _LOG_EVERY, "checkpoint_every": steps}
        more = {"validation": {"every": steps}, "resources": {"device": "cpu", "threads": threads}}
        trainer = Speech(TrainingSettings.model_validate(keys | more))
        began = _now()
        trainer.run()
        losses, share = _told(folder)
        return _found(began, steps * _ROWS * _FRAMES, losses, model, share)


def _told(folder: str) -> tuple[list[float], float]:
    """Losses of the lines of metrics, and the mean share of time in which ours waited for data."""
    lines = [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    told = [line for line in lines if "loss" in line]
    return [line["loss"] for line in told], statistics.mean(line["loading_share"] for line in told)


def _theirs(steps: int, threads: int) -> Found:
    from transformers import Trainer, TrainingArguments

    model, batches = _model(threads), _batches()
    model.accepts_loss_kwargs = False  # its loss is a mean over the batch
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            max_steps=steps, learning_rate=_LR, lr_scheduler_type="constant", weight_decay=0.0, max_grad_norm=1.0,
            **_quiet(folder),
        )  # fmt: skip
        in_turn = [batches[number % _BATCHES] for number in range(steps)]

        class Ordered(Trainer):  # type: ignore[misc]
            def _get_train_sampler(self, *_: Any) -> Any:
                from torch.utils.data import SequentialSampler

                return SequentialSampler(in_turn)

        trainer = Ordered(model=model, args=arguments, train_dataset=in_turn, data_collator=lambda some: some[0])
        began = _now()
        trainer.train()
        losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
        return _found(began, steps * _ROWS * _FRAMES, [float(loss) for loss in losses], model)


def _quiet(folder: str) -> dict[str, Any]:
    """Arguments of transformers' Trainer that both comparisons share."""
    return {
        "output_dir": folder, "per_device_train_batch_size": 1, "logging_steps": _LOG_EVERY, "save_strategy": "no",
        "optim": "adamw_torch", "report_to": [], "disable_tqdm": True, "use_cpu": True, "remove_unused_columns": False,
    }  # fmt: skip


def _unity(config: str, overrides: Sequence[str], folder: str, steps: int, threads: int) -> Any:
    """The training that a configuration tells of, without dropout, validations or workers."""
    from seamlessalign.training.unity.config import load_unity_config
    from seamlessalign.training.unity.train import UnityTraining

    keys = {"output": folder, "optimiser.steps": steps, "optimiser.accumulate": 1, "validation.every": steps,
            "validation.translate": 0, "log_every": _LOG_EVERY, "checkpoint_every": steps, "model.dropout": 0.0,
            "model.layer_drop": 0.0, "resources.device": "cpu", "resources.threads": threads}  # fmt: skip
    return UnityTraining(load_unity_config(config, [*overrides, *(f"{key}={value}" for key, value in keys.items())]))


def _our_unity(steps: int, threads: int, config: str, overrides: Sequence[str]) -> Found:
    with tempfile.TemporaryDirectory() as folder:
        training = _unity(config, overrides, folder, steps, threads)
        training.validate = lambda: {"nll": 0.0}  # theirs has none
        training.save_best = lambda: None
        frames = _frames(training, steps)
        began = _now()
        training.run()
        losses, share = _told(folder)
        return _found(began, frames, losses, training.unity, share)


def _their_unity(steps: int, threads: int, config: str, overrides: Sequence[str]) -> Found:
    import torch
    from transformers import Trainer, TrainingArguments

    with tempfile.TemporaryDirectory() as folder:
        training = _unity(config, overrides, folder, steps, threads)
        settings, places = training.config.optimiser, _places(training, steps)

        class Lost(torch.nn.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.learner = training.learner

            def forward(self, batch: Any) -> dict[str, Any]:
                (counts,) = training.counts([batch])
                return {"loss": training.batch_loss(batch, 0, 0, counts).loss}

        class Read:
            def __len__(self) -> int:
                return steps

            def __getitem__(self, number: int) -> dict[str, Any]:
                return {"batch": training.batches[places[number]]}

        class Ordered(Trainer):  # type: ignore[misc]
            def _get_train_sampler(self, *_: Any) -> Any:
                return torch.utils.data.SequentialSampler(self.train_dataset)

        frames = _frames(training, steps)
        learning = [parameter for parameter in training.unity.parameters() if parameter.requires_grad]
        adam = torch.optim.AdamW(learning, **settings.adam())
        arguments = TrainingArguments(max_steps=steps, max_grad_norm=settings.clip, **_quiet(folder))
        trainer = Ordered(
            model=Lost(), args=arguments, train_dataset=Read(), data_collator=lambda some: some[0],
            optimizers=(adam, torch.optim.lr_scheduler.LambdaLR(adam, settings.rate)),
        )  # fmt: skip
        began = _now()
        trainer.train()
        losses = [float(line["loss"]) for line in trainer.state.log_history if "loss" in line]
        return _found(began, frames, losses, training.unity)


def _places(training: Any, steps: int) -> list[tuple[int, int]]:
    from itertools import islice

    from seamlessalign.training_steps import Places

    return list(islice(Places(training.batches, 0, 0), steps))


def _frames(training: Any, steps: int) -> int:
    """Frames of speech in the batches of so many steps. It reads them, so that both find their files in memory."""
    batches = [training.batches[place] for place in _places(training, steps)]
    return sum(int(batch.feature_mask.sum()) for batch in batches if batch.feature_mask is not None)


if __name__ == "__main__":
    main()
