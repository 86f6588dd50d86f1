"""How the model that tells music and noise from speech is made, and how good it is on what it has not seen.

    python -m seamlessalign.pipelines.fit_music_or_noise --cache DIR [--write] [--detectors silero webrtc]

Fits the weights of `segmentation/music_or_noise.yaml` on the spans of the sources that are not held out, and prints how
well they tell the held-out ones apart: for each source the share of spans that are taken for music or noise, and how
often a span of it has a higher probability than one of held-out human speech (the area under the ROC curve). Without
`--write` the file stays as it is. `--detectors` also looks at what these take for speech in held-out music and noise,
which is what a run meets. All sources of a kind weigh as much together, and human speech twice as much as synthetic.
About 600 MB of Debian packages are fetched into the cache.
"""

import argparse
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt
import yaml

from seamlessalign.pipelines.demo_sources import say
from seamlessalign.pipelines.sound_examples import SOURCES, Example, Source, examples, taken_for_speech
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.segmentation.music_or_noise import FEATURES, LogisticModel, features_of, fragment_sums
from seamlessalign.segmentation.quality import span_totals
from seamlessalign.segmentation.vad import Engine

Float64 = npt.NDArray[np.float64]

# Of the squares of the weights, against a mean loss; features have a deviation of 1. Chosen by how well learnt sources
# are told apart that were left out one by one.
_PENALTY = 1e-4
_LENGTHS = (0.0, 2.0, 5.0, 20.1)  # seconds, between which spans are looked at apart
_SHARES = {"human": 1 / 3, "synthetic": 1 / 6, "music": 1 / 4, "noise": 1 / 4}


@dataclass(frozen=True, eq=False)
class Measured:
    """The spans of a source."""

    source: Source
    features: Float64  # (num_spans, num_features)
    seconds: Float64  # (num_spans,)

    @property
    def group(self) -> str:
        """Which share of the weight it has a part of."""
        if self.source.kind != "speech":
            return self.source.kind
        return "human" if self.source.human else "synthetic"


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, print the figures, and write the model where that is wanted."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="where fetched packages are kept")
    parser.add_argument("--write", action="store_true", help="write the model into the package")
    parser.add_argument("--detectors", nargs="*", choices=get_args(Engine), default=[], help="engines to look at too")
    options = parser.parse_args(arguments)
    measured = []
    for source in SOURCES:
        say(source.name)
        measured.append(measure(source, options.cache))
    model = fit([one for one in measured if not one.source.held_out])
    print("\n".join(figures(model, measured)))
    tricky = [one.source for one in measured if one.source.held_out and one.source.kind != "speech"]
    held = [one for one in measured if one.source.held_out and one.source.kind == "speech"]
    for engine in options.detectors:
        of = partial(taken_for_speech, engine=engine)
        taken = [measure(source, options.cache, of) for source in tricky]
        print("\n".join(("", f"what {engine} takes for speech", *figures(model, [*held, *taken]))))
    if options.write:
        path = Path(str(resources.files("seamlessalign.segmentation").joinpath("music_or_noise.yaml")))
        path.write_text(model_file(model, measured), encoding="utf-8")


def measure(source: Source, cache: Path, of: Callable[[Source, Path], Iterable[Example]] = examples) -> Measured:
    """Features of all spans of a source."""
    features, seconds = [np.zeros((0, len(FEATURES)))], [np.zeros(0)]
    for example in of(source, cache):
        sums = [fragment_sums(example.samples, start, end) for start, end in example.fragments.tolist()]
        if len(example.spans):
            features.append(features_of(span_totals(np.stack(sums), example.spans)))
            seconds.append((example.spans.spans[:, 1] - example.spans.spans[:, 0]) / SAMPLE_RATE)
    return Measured(source, np.concatenate(features), np.concatenate(seconds))


def fit(measured: Sequence[Measured]) -> LogisticModel:
    """The model with the least penalised loss on spans that have their source's share of the weight."""
    features = np.concatenate([one.features for one in measured])
    truth = np.concatenate([np.full(len(one.seconds), one.source.kind != "speech", np.float64) for one in measured])
    groups = [one.group for one in measured]
    shares = [_SHARES[group] / groups.count(group) for group in groups]
    parts = [np.full(len(one.seconds), share / len(one.seconds)) for one, share in zip(measured, shares, strict=True)]
    weights = np.concatenate(parts)
    weights /= weights.sum()
    mean = weights @ features
    scale = np.maximum(np.sqrt(weights @ np.square(features - mean)), 1e-6)
    fitted = LogisticModel(mean, scale, np.zeros(features.shape[1]), 0.0)
    rows = np.concatenate((np.ones((len(truth), 1)), fitted.standard(features)), axis=1)
    return _logistic(rows, truth, weights, fitted)


def _logistic(rows: Float64, truth: Float64, weights: Float64, model: LogisticModel) -> LogisticModel:
    """Newton's method; the bias, which belongs to the column of ones, has no penalty."""
    solution = np.zeros(rows.shape[1])
    penalty = np.diag(np.append(0, np.full(rows.shape[1] - 1, _PENALTY)))
    for _ in range(100):
        probability = 1 / (1 + np.exp(-(rows @ solution)))
        slope = rows.T @ (weights * (probability - truth)) + penalty @ solution
        bend = (rows * (weights * probability * (1 - probability))[:, None]).T @ rows + penalty
        step = np.linalg.solve(bend + 1e-12 * np.eye(len(bend)), slope)
        solution -= step
        if np.abs(step).max() < 1e-9:
            break
    return LogisticModel(model.mean, model.scale, solution[1:], float(solution[0]))


def area_under_roc(positive: npt.NDArray[np.float32], negative: npt.NDArray[np.float32]) -> float:
    """How often one of the positives is above one of the negatives; equals count as half. Neither is empty."""
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left") + np.searchsorted(ordered, positive, "right")
    return float(below.mean() / 2 / len(negative))


def figures(model: LogisticModel, measured: Sequence[Measured]) -> list[str]:
    """Lines of a table for people: every source, then the held-out ones by kind and by length of span."""
    said = {one.source.name: model.probability(one.features) for one in measured}
    held = [one for one in measured if one.source.held_out]
    human = [one for one in held if one.group == "human"]
    voices = np.concatenate([said[one.source.name] for one in human])
    lines = [f"{'source':<34} {'spans':>6} {'taken':>7} {'AUC':>7}"]
    for one in measured:
        if not len(one.seconds):
            lines.append(f"{one.source.name:<34} {0:>6}")
            continue
        area = f"{area_under_roc(said[one.source.name], voices):7.3f}" if one.source.kind != "speech" else " " * 7
        name = f"{one.source.name}{'' if one.source.held_out else ' (learnt)'}"
        taken = float((said[one.source.name] > 0.5).mean())
        lines.append(f"{name:<34} {len(one.seconds):>6} {taken:7.1%} {area}")
    lines += ["", f"{'held out, against human speech':<34} {'AUC':>7} {'right':>7}"]
    for kind in ("music", "noise", "music and noise"):
        chosen = [one for one in held if one.source.kind in kind]
        lines.append(_line(kind, chosen, human, said))
    every = [one for one in held if one.source.kind != "speech"]
    for low, high in itertools.pairwise(_LENGTHS):
        name = f"spans of {low:g} to {high:.0f} s"
        lines.append(_line(name, every, human, said, (low, high)))
    return lines


def _line(
    name: str,
    positives: Sequence[Measured],
    negatives: Sequence[Measured],
    said: dict[str, npt.NDArray[np.float32]],
    lengths: tuple[float, float] = (0.0, np.inf),
) -> str:
    """Area, and share of spans on the right side of 0.5 with both classes weighing as much, all spans alike."""

    def chosen(some: Sequence[Measured]) -> npt.NDArray[np.float32]:
        kept = [said[one.source.name][(one.seconds >= lengths[0]) & (one.seconds < lengths[1])] for one in some]
        return np.concatenate([np.zeros(0, np.float32), *kept])

    positive, negative = chosen(positives), chosen(negatives)
    if not len(positive) or not len(negative):
        return f"{name:<34}    none"
    right = (float((positive > 0.5).mean()) + float((negative <= 0.5).mean())) / 2
    return f"{name:<34} {area_under_roc(positive, negative):7.3f} {right:7.1%}"


def model_file(model: LogisticModel, measured: Sequence[Measured]) -> str:
    """The file of a model: each feature's mean, scale and weight, and what it was fitted on."""
    rows = zip(FEATURES, model.mean, model.scale, model.weights, strict=True)
    content = {
        "fitted_on": [one.source.name for one in measured if not one.source.held_out],
        "bias": round(model.bias, 6),
        "features": {name: [float(f"{value:.6g}") for value in values] for name, *values in rows},
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
    return f"# made by seamlessalign.pipelines.fit_music_or_noise; of each feature: mean, scale, weight\n{text}"


if __name__ == "__main__":
    main()
