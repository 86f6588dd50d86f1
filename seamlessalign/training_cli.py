"""The part of the command line that trains models; like all of it, thin over what does the work."""

import argparse
import importlib
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seamlessalign.errors import ConfigError
from seamlessalign.uncollected_imports import uncollected

if TYPE_CHECKING:
    from seamlessalign.training_loop import Trained


@dataclass(frozen=True)
class Training:
    """A kind of training."""

    load: Callable[[str, Sequence[str]], Any]  # its configuration, of a file and overrides; torch is not loaded
    train: "Callable[[Any], Trained]"
    made: str  # what comes of it, and where in its folder: {}
    measure: str  # what validations find, for people
    on_slurm: bool = True  # whether `--executor slurm` can do it; what one process does alone needs no help for that


@dataclass(frozen=True)
class Fitting:
    """A kind of training that has no steps: it is done at once, or again."""

    load: Callable[[str, Sequence[str]], Any]
    fit: Callable[[Any], str]  # tells what came of it


def add_training_commands(commands: Any) -> None:
    """Add `train` to the subparsers of the program."""
    train = commands.add_parser("train", help="train a model as a configuration says; run again to go on")
    train.add_argument("kind", choices=list(TRAININGS), help="what is trained")
    train.add_argument("config", metavar="CONFIG.yaml", help="of that kind of training")
    train.add_argument(
        "overrides", nargs="*", metavar="key=value", help="set a key of the configuration, such as optimiser.lr=0.0003"
    )
    train.add_argument(
        "--executor", choices=["local", "slurm"], default="local", help="where it is trained (default: %(default)s)"
    )
    train.add_argument("--detach", action="store_true", help="with --executor slurm: submit the job and come back")
    train.set_defaults(command=_train)


def _train(arguments: argparse.Namespace) -> int:
    training, on_slurm = TRAININGS[arguments.kind], arguments.executor == "slurm"
    if arguments.detach and not on_slurm:
        raise ConfigError("--detach goes with --executor slurm")
    if on_slurm and isinstance(training, Fitting):
        raise ConfigError(f"--executor slurm is not for {arguments.kind}, which has no steps to go on from")
    if on_slurm and isinstance(training, Training) and not training.on_slurm:
        raise ConfigError(f"--executor slurm is not for {arguments.kind}, which one process does: give it to sbatch")
    config = training.load(arguments.config, arguments.overrides)  # first: what is wrong is told at once
    if isinstance(training, Fitting):
        print(training.fit(config))
        return 0
    if not on_slurm:
        with suppress(ImportError), uncollected():  # where it is missing, the training tells
            importlib.import_module("torch._dynamo")  # torch, and what its first optimiser would load
        return tell(training, training.train(config))
    from seamlessalign.pipelines.slurm_training import submit_training, train_on_slurm

    if arguments.detach:
        submit_training(arguments.kind, config)
        return 0
    return tell(training, train_on_slurm(arguments.kind, config))


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


def _load_w2v_bert(config: str, overrides: Sequence[str]) -> Any:
    from seamlessalign.training.w2v_bert.config import load_w2v_bert_config

    return load_w2v_bert_config(config, overrides)


def _train_w2v_bert(config: Any) -> "Trained":
    from seamlessalign.training.w2v_bert.train import train_w2v_bert

    return train_w2v_bert(config)


def _load_units(config: str, overrides: Sequence[str]) -> Any:
    from seamlessalign.training.units.config import load_units_config

    return load_units_config(config, overrides)


def _train_units(config: Any) -> "Trained":
    from seamlessalign.training.units.train import train_units

    return train_units(config)


def _load_vocabulary(config: str, overrides: Sequence[str]) -> Any:
    from seamlessalign.training.vocabulary_config import load_vocabulary_config

    return load_vocabulary_config(config, overrides)


def _fit_vocabulary(config: Any) -> str:
    from seamlessalign.training.vocabulary_training import train_vocabulary

    return train_vocabulary(config)


def _load_start(config: str, overrides: Sequence[str]) -> Any:
    from seamlessalign.training.unity.start_settings import load_start_config

    return load_start_config(config, overrides)


def _make_start(config: Any) -> str:
    from seamlessalign.training.unity.start import make_start

    return make_start(config)


def _load_growth(config: str, overrides: Sequence[str]) -> Any:
    from seamlessalign.training.unity.growth_config import load_growth_config

    return load_growth_config(config, overrides)


def _grow(config: Any) -> str:
    from seamlessalign.training.unity.growth import add_languages

    return add_languages(config)


def _load_vocoder(config: str, overrides: Sequence[str]) -> Any:
    from seamlessalign.training.vocoder.config import load_vocoder_config

    return load_vocoder_config(config, overrides)


def _train_vocoder(config: Any) -> "Trained":
    from seamlessalign.training.vocoder.train import train_vocoder

    return train_vocoder(config)


def _load_unity(config: str, overrides: Sequence[str]) -> Any:
    from seamlessalign.training.unity.config import load_unity_config

    return load_unity_config(config, overrides)


def _train_unity(config: Any) -> "Trained":
    from seamlessalign.training.unity.train import train_unity

    return train_unity(config)


TRAININGS: Mapping[str, Training | Fitting] = {
    "lid": Training(_load_lid, _train_lid, "language identifier: {}/model", "macro F1"),
    "speech-encoder": Training(_load_speech_encoder, _train_speech_encoder, "student: {}/student", "P@1"),
    "w2v-bert": Training(_load_w2v_bert, _train_w2v_bert, "w2v-BERT: {}/model", "held-out RPQ loss"),
    "units": Training(_load_units, _train_units, "units: {}/model", "mean squared distance", on_slurm=False),
    "unity": Training(_load_unity, _train_unity, "translation model: {}/model", "best"),
    "vocabulary": Fitting(_load_vocabulary, _fit_vocabulary),
    "unity-start": Fitting(_load_start, _make_start),
    "languages": Fitting(_load_growth, _grow),
    "vocoder": Training(_load_vocoder, _train_vocoder, "vocoder: {}/model", "mel L1"),
}
