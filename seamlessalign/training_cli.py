"""The part of the command line that trains models; like all of it, thin over the functions that do the work."""

import argparse
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seamlessalign.training_loop import Trained


def add_training_commands(commands: Any) -> None:
    """Add them to the subparsers of the program."""
    train = commands.add_parser("train", help="train a model as a configuration says; run again to go on")
    train.add_argument("kind", choices=list(TRAININGS), help="what is trained")
    train.add_argument("config", metavar="CONFIG.yaml")
    train.add_argument(
        "overrides", nargs="*", metavar="key=value", help="set a key of the configuration, such as optimiser.lr=0.0003"
    )
    train.set_defaults(command=_train)


def _train(arguments: argparse.Namespace) -> int:
    result, made, measure = TRAININGS[arguments.kind](arguments.config, arguments.overrides)
    if not result.finished:
        told = f"stopped at step {result.steps}; the same command goes on from there"
        print(f"seamlessalign: {told}", file=sys.stderr)
        return 128 + signal.SIGTERM
    at = f"at step {result.best_step} of {result.steps}"
    print(f"{made.format(result.folder)}, {measure} {result.best:.3f} {at}")
    return 0


def _train_lid(config: str, overrides: Sequence[str]) -> "tuple[Trained, str, str]":
    from seamlessalign.lid.training_config import load_lid_config

    checked = load_lid_config(config, overrides)  # before torch is loaded: what is wrong is told at once
    from seamlessalign.lid.train import train_lid

    return train_lid(checked), "language identifier: {}/model", "macro F1"


def _train_speech_encoder(config: str, overrides: Sequence[str]) -> "tuple[Trained, str, str]":
    from seamlessalign.embedders.student.training_config import load_training_config

    checked = load_training_config(config, overrides)
    from seamlessalign.embedders.student.train import train

    return train(checked), "student: {}/student", "P@1"


# name → what trains it by a configuration and overrides, and tells where the model is and how it was measured
TRAININGS: Mapping[str, "Callable[[str, Sequence[str]], tuple[Trained, str, str]]"] = {
    "lid": _train_lid,
    "speech-encoder": _train_speech_encoder,
}
