"""How scores fall with the signal-to-noise ratio: curves of the lines that an evaluation has of noisy speech."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from seamlessalign.training.evaluation.details import Curve, details
from seamlessalign.training.evaluation.results import Line

_Key = tuple[str, str, str, str]


def with_noise_curves(lines: Sequence[Line]) -> list[Line]:
    """Lines, of which those of clean speech have among their details a curve for each kind of noise."""
    noisy: dict[_Key, list[Line]] = {}
    for line in lines:
        if line.condition:
            noisy.setdefault(_key(line), []).append(line)
    return [line if line.condition else _with_curves(line, noisy.get(_key(line), [])) for line in lines]


def _with_curves(clean: Line, noisy: Sequence[Line]) -> Line:
    curves = list(_curves(clean, noisy))
    if not curves:
        return clean
    told = dict(clean.score.details)
    told["curves"] = [*told.get("curves", []), *details(curves=curves)["curves"]]
    return replace(clean, score=replace(clean.score, details=told))


def _curves(clean: Line, noisy: Sequence[Line]) -> Iterator[Curve]:
    kinds: dict[str, list[tuple[float, Line]]] = {}
    for line in noisy:
        kind, _, snr = line.condition.partition(":")
        kinds.setdefault(kind, []).append((float(snr), line))
    nan = float("nan")
    for kind, some in kinds.items():
        points = [(snr, line.score) for snr, line in sorted(some, key=lambda one: one[0])]
        scores = [score for _, score in points]
        yield Curve(
            kind,
            "SNR (dB)",
            clean.score.measure,
            [snr for snr, _ in points],
            [score.value for score in scores],
            [nan if score.low is None else score.low for score in scores],
            [nan if score.high is None else score.high for score in scores],
            title=f"{clean.score.measure} over SNR, {clean.direction}, {kind}",
        )


def _key(line: Line) -> _Key:
    return line.task, line.system, line.direction, line.score.measure
