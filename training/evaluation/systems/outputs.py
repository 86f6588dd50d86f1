"""What systems made of rows: read where they made it elsewhere, or by running them, on clean and on noisy speech."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from seamlessalign import storage
from seamlessalign.errors import ConfigError, InputError
from seamlessalign.training.evaluation.config import EvaluationConfig
from seamlessalign.training.evaluation.robustness.noise import Condition, NoiseMaker
from seamlessalign.training.evaluation.rows import SystemOutputs, TestRow, named, read_outputs
from seamlessalign.training.evaluation.systems.run_systems import Runner, folder_of, prepare


@dataclass(frozen=True)
class Outputs:
    """Of every system, and the noise of which some are."""

    systems: dict[str, SystemOutputs]
    noise: dict[str, str] = field(default_factory=dict)  # condition → signature
    unreadable: dict[str, str] = field(default_factory=dict)  # recording of noise → what is wrong with it


def read_or_run(config: EvaluationConfig, rows: Sequence[TestRow], say: Callable[[str], None]) -> Outputs:
    """The outputs of all systems of a configuration.

    Everything that can be is looked at before anything is run. Raises ConfigError, InputError or ModelError for what
    does not fit together.
    """
    for name, system in config.systems.items():
        if system.path is None:
            folder_of(config.output, name)
    kept = storage.join(config.output, "translations", "unreadable_noise.json")
    maker = None if config.noise is None else noise_maker(config, rows, kept)
    conditions = [] if maker is None else maker.conditions()
    _check_noisy(config, conditions)
    systems: dict[str, SystemOutputs | Runner] = {}
    for name, system in config.systems.items():
        if system.path is None:
            systems[name] = prepare(name, system, rows, say, speak=bool(config.measures.speech))
            continue
        noisy = {
            told: read_outputs(f"{name}, {told}", system.noisy[told], rows, system.columns)
            for told in map(str, conditions)
            if told in system.noisy
        }
        systems[name] = replace(read_outputs(name, system.path, rows, system.columns), noisy=noisy)
    if maker is not None and not any(_hears_noise(one) for one in systems.values()):
        raise ConfigError("noise is asked for, but no system hears the rows' speech, nor has outputs under noisy")
    made = {}
    for name, one in systems.items():
        if isinstance(one, Runner):
            one = _run(one, config.output, rows, maker, conditions, say)
        made[name] = one
    if maker is None:
        return Outputs(made)
    return Outputs(made, {str(one): maker.signature(one) for one in conditions}, maker.unreadable)


def noise_maker(config: EvaluationConfig, rows: Sequence[TestRow], kept: str) -> NoiseMaker:
    """The noise of a configuration; kept: see `NoiseMaker`. Raises InputError where a row has no speech to mix with."""
    assert config.noise is not None
    silent = [row.id for row in rows if row.src_sound is None]
    if silent:
        told = f"{len(silent)} of {len(rows)} rows have no src_audio, such as {named(silent)}"
        raise InputError(f"noise is asked for, but {told}")
    return NoiseMaker(config.noise, rows, kept)


def _run(
    runner: Runner,
    output: str,
    rows: Sequence[TestRow],
    maker: NoiseMaker | None,
    conditions: Sequence[Condition],
    say: Callable[[str], None],
) -> SystemOutputs:
    clean = runner.run(rows, folder_of(output, runner.name), say)
    if maker is None or runner.input != "speech":
        return clean
    noisy = {str(one): runner.run(rows, folder_of(output, runner.name, one), say, (maker, one)) for one in conditions}
    return replace(clean, noisy=noisy)


def _hears_noise(system: SystemOutputs | Runner) -> bool:
    return system.input == "speech" if isinstance(system, Runner) else bool(system.noisy)


def _check_noisy(config: EvaluationConfig, conditions: Sequence[Condition]) -> None:
    """Outputs of noisy speech are those of the noise that is asked for, all of it."""
    asked = [str(one) for one in conditions]
    for name, system in config.systems.items():
        if not system.noisy:
            continue
        if not asked:
            raise ConfigError(f"systems.{name}.noisy: give noise too, which says what noise it is")
        for told in system.noisy:
            if told not in asked:
                raise ConfigError(f"systems.{name}.noisy: {told!r} is not asked for; there are {', '.join(asked)}")
        lacking = [told for told in asked if told not in system.noisy]
        if lacking:
            raise ConfigError(f"systems.{name}.noisy: has nothing for {', '.join(lacking)}: run the system on them too")
