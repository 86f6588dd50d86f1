"""The part of the command line that trains models; like all of it, thin over the functions that do the work."""

import argparse
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seamlessalign.training_loop import Trained


@dataclass(frozen=True)
class Training:
    """A kind of training."""

    load: Callable[[str, Sequence[str]], Any]  # its configuration, of a file and overrides; torch is not loaded
    train: "Callable[[Any], Trained]"
    made: str  # what comes of it, and where in its folder: {}
    measure: str  # what validations find, for people


@dataclass(frozen=True)
class Fitting:
    """A kind of training that has no steps: it is done at once, or again."""

    load: Callable[[str, Sequence[str]], Any]
    fit: Callable[[Any], str]  # tells what came of it


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
    training = TRAININGS[arguments.kind]
    config = training.load(arguments.config, arguments.overrides)  # first: what is wrong is told at once
    if isinstance(training, Fitting):
        print(training.fit(config))
        return 0
    return tell(training, training.train(config))


def tell(training: Training, result: "Trained") -> int:
    """Say what came of a training; the exit status."""
    if not result.finished:
        told = f"stopped at step {result.steps}; the same command goes on from there"
        print(f"seamlessalign: {told}", file=sys.stderr)
        return 128 + signal.SIGTERM
    at = f"at step {result.best_step} of {result.steps}"
    print(f"{training.made.format(result.folder)}, {training.measure} {result.best:.3f} {at}")
    return 0


def _load_lid(config: str, overrides: Sequence[str]) -> Any:
    from seamlessalign.lid.training_config import load_lid_config

    return load_lid_config(config, overrides)


def _train_lid(config: Any) -> "Trained":
    from seamlessalign.lid.train import train_lid

    return train_lid(config)


def _load_speech_encoder(config: str, overrides: Sequence[str]) -> Any:
    from seamlessalign.embedders.student.training_config import load_training_config

    return load_training_config(config, overrides)


def _train_speech_encoder(config: Any) -> "Trained":
    from seamlessalign.embedders.student.train import train

    return train(config)


def _load_vocabulary(config: str, overrides: Sequence[str]) -> Any:
    from seamlessalign.training.vocabulary_config import load_vocabulary_config

    return load_vocabulary_config(config, overrides)


def _fit_vocabulary(config: Any) -> str:
    from seamlessalign.training.vocabulary_training import train_vocabulary

    return train_vocabulary(config)


TRAININGS: Mapping[str, Training | Fitting] = {
    "lid": Training(_load_lid, _train_lid, "language identifier: {}/model", "macro F1"),
    "speech-encoder": Training(_load_speech_encoder, _train_speech_encoder, "student: {}/student", "P@1"),
    "vocabulary": Fitting(_load_vocabulary, _fit_vocabulary),
}
