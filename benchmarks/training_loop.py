"""The loop of trainings against transformers' own `Trainer`: the same model, batches, steps of AdamW and clipping.

    python -m benchmarks.training_loop

A SeamlessM4T for speech to text of few layers learns batches of random frames and tokens, in float32 on processors.
Each loop runs in a process of its own, the two by turns. Printed are steps and frames in a second, the ratio of both
medians, by the clock and (which other work on the machine blurs less) by processor seconds, the most memory, and how
far losses and weights of the two are apart, which tells whether they did the same work. Both write a line of metrics
every 10 steps; ours writes its checkpoint at the end as well, as it cannot be told not to, and the time of that counts.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
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
    options = parser.parse_args()
    found: dict[Callable[[int, int], Found], list[Found]] = {_ours: [], _theirs: []}
    for _ in range(options.rounds):
        for way, several in found.items():
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                several.append(pool.submit(way, options.steps, options.threads).result())
    print(f"{options.steps} steps of {_ROWS} rows, {_FRAMES} frames each; {options.rounds} rounds by turns, medians")
    rates, processor = {}, []
    for name, several in (("seamlessalign", found[_ours]), ("transformers.Trainer", found[_theirs])):
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
    ours, theirs = found[_ours][0], found[_theirs][0]
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
    began: tuple[float, float], steps: int, losses: list[float], model: Any, share: float | None = None
) -> Found:
    import torch

    wall, processor = (now - before for now, before in zip(_now(), began, strict=True))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    means = torch.stack([value.double().mean() for value in model.parameters()]).detach().numpy()
    return Found(wall, processor, steps * _ROWS * _FRAMES, memory, losses, means, share)


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _ours(steps: int, threads: int) -> Found:
    import torch

    from seamlessalign.training_folder import TrainingFolder
    from seamlessalign.training_loop import BatchLoss, Trainer
    from seamlessalign.training_settings import TrainingSettings

    model, batches = _model(threads), _batches()

    class Fixed:
        def num_batches(self, epoch: int) -> int:
            return _BATCHES

        def __getitem__(self, where: tuple[int, int]) -> dict[str, Any]:
            return batches[where[1]]

    class Speech(Trainer):
        measure, label = "nothing", "nothing"

        def __init__(self, settings: TrainingSettings) -> None:
            super().__init__(settings, TrainingFolder(settings.output))
            self.batches, self.set_aside = Fixed(), {}
            self.prepare(model, torch.optim.AdamW(model.parameters(), **settings.optimiser.adam()))

        def batch_loss(self, batch: dict[str, Any], epoch: int, position: int) -> BatchLoss:
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
        lines = [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        told = [line for line in lines if "loss" in line]
        share = statistics.mean(line["loading_share"] for line in told)
        return _found(began, steps, [line["loss"] for line in told], model, share)


def _theirs(steps: int, threads: int) -> Found:
    from transformers import Trainer, TrainingArguments

    model, batches = _model(threads), _batches()
    model.accepts_loss_kwargs = False  # its loss is a mean over the batch
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, max_steps=steps, per_device_train_batch_size=1, learning_rate=_LR,
            lr_scheduler_type="constant", weight_decay=0.0, max_grad_norm=1.0, optim="adamw_torch",
            logging_steps=_LOG_EVERY, save_strategy="no", report_to=[], disable_tqdm=True, use_cpu=True,
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
        return _found(began, steps, [float(loss) for loss in losses], model)


if __name__ == "__main__":
    main()
