"""Measures of the quality of sound: what they say of disturbances, their speed, and DNSMOS by fragments.

    python -m benchmarks.sound_quality --cache .cache [--prompts 2]

Recordings are Asterisk prompts of five speakers with pauses, as they are and with noise, hum, tones and chords, and
without any speech. Spans are made as a run makes them. Printed are, for each recording, the means over its spans, and
the share of spans that `music_noise_prob` puts above 0.5. Then how fast each measure is on the undisturbed recording,
in seconds of speech for each second of processor time on one core, and the memory it takes.

Whoever has the package speechmos only would rate every span by itself. That is done with some spans of each recording,
by the package's rule, and the figures that a run has, which are means over fragments, are held against it.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.measured import Clock, Measured, by_turns, measure
from benchmarks.noisy_speech import conditions_of, prompt_waveforms, with_pauses
from seamlessalign.pipelines import made_sounds
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.segmentation import over_segment
from seamlessalign.segmentation.dnsmos import RATINGS, WINDOW, Dnsmos
from seamlessalign.segmentation.music_or_noise import fragment_sums
from seamlessalign.segmentation.quality import DNSMOS_COLUMNS, Quality, measure_fragments
from seamlessalign.segmentation.spans import Spans
from seamlessalign.segmentation.vad import FrameScores, cascade_scores, fragments_of

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

_COMPARED = 4  # spans of a recording that are rated by themselves


def main() -> None:
    """Measure, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder that Debian packages are fetched into")
    parser.add_argument("--prompts", type=int, default=2, help="prompts of each of the five speakers")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    dnsmos = Dnsmos()
    speech = prompts_in_a_row(options.cache, options.prompts)
    print(f"{len(speech) / SAMPLE_RATE:.0f} s of {5 * options.prompts} prompts, load {os.getloadavg()[0]:.1f}\n")
    print(f"{'recording':<26} {'spans':>5} {'snr_db':>7} {'speech':>7} {'music':>6} {'> 0.5':>6}", end="")
    print("".join(f" {name:>6}" for name in RATINGS))
    own, by_fragments = [], []
    for name, samples in recordings(speech):
        scores, fragments, spans = segmented(samples)
        if not len(spans):
            print(f"{name:<26} {0:>5}")
            continue
        quality = measure_fragments(samples, fragments, spans, scores, dnsmos).of(spans)
        print(line(name, quality))
        for number in np.random.default_rng(0).permutation(len(spans))[:_COMPARED].tolist():
            start, end = spans.spans[number].tolist()
            own.append(as_package(dnsmos, samples[start:end]))
            by_fragments.append([float(values[number]) for values in ratings(quality)])
    print()
    print("\n".join(speeds(options.cache, options.prompts)))
    print(f"\n{len(own)} spans by themselves and by their fragments")
    print("\n".join(agreement(np.array(own), np.array(by_fragments))))


def prompts_in_a_row(cache: Path, per_language: int) -> Float32:
    """Prompts with pauses of 0.3 to 2 s."""
    return with_pauses(prompt_waveforms(cache, per_language), pause_seconds=(0.3, 2.0))


def recordings(speech: Float32) -> Iterator[tuple[str, Float32]]:
    """The speech as it is and disturbed, and sounds without speech, by name."""
    yield "as it is", speech
    for name, samples in conditions_of(speech):
        if name != "digital silence in pauses":  # which is what it is
            yield name, samples
    rng = np.random.default_rng(0)
    for name in ("chords", "melody", "white", "gusts", "clicks"):
        sound: made_sounds.Sound = getattr(made_sounds, name)
        yield f"only {name}", 0.3 * sound(60 * SAMPLE_RATE, rng)


def segmented(samples: Float32) -> tuple[FrameScores, Int64, Spans]:
    """Scores, fragments and spans of a recording as a run has them."""
    scores = cascade_scores(samples)
    fragments = fragments_of(scores)
    return scores, fragments, over_segment(fragments)


def ratings(quality: Quality) -> list[Float32]:
    """The columns of DNSMOS."""
    columns = quality.columns()
    return [columns[name] for name in DNSMOS_COLUMNS]


def line(name: str, quality: Quality) -> str:
    """Means over spans."""
    above = float((quality.music_noise_prob > 0.5).mean())
    parts = [
        f"{name:<26} {len(quality):>5} {quality.snr_db.mean():>7.1f} {quality.speech_prob.mean():>7.2f}",
        f"{quality.music_noise_prob.mean():>6.2f} {above:>6.0%}",
        *(f"{values.mean():>6.2f}" for values in ratings(quality)),
    ]
    return " ".join(parts)


def as_package(dnsmos: Dnsmos, samples: Float32) -> npt.NDArray[np.float64]:
    """Ratings by the package's rule: what is shorter than a window is put behind itself until it is not."""
    while len(samples) < WINDOW:
        samples = np.concatenate((samples, samples))
    return dnsmos.rate(samples)


def speeds(cache: Path, prompts: int) -> list[str]:
    """A line for each measure, in a process of its own: how fast, and the memory it took beside what was loaded."""
    runs = by_turns(
        ("all but DNSMOS", "music_noise_prob", "DNSMOS, fragments", "DNSMOS, spans"), 1, one_measure, cache, prompts
    )
    lines = [f"{'measure':<26} {'× real time':>12} {'MiB':>6}"]
    return [*lines, *(f"{name:<26} {done[0].result:>12.1f} {done[0].peak_mib:>6.0f}" for name, done in runs.items())]


def one_measure(name: str, cache: Path, prompts: int) -> Measured:
    """One measure of the undisturbed recording; the result is seconds of speech for each second of processor time."""
    speech = prompts_in_a_row(cache, prompts)
    scores, fragments, spans = segmented(speech)
    dnsmos = Dnsmos()
    seconds = float((fragments[:, 1] - fragments[:, 0]).sum()) / SAMPLE_RATE
    both = [(int(start), int(end)) for start, end in fragments]
    work: dict[str, Callable[[], object]] = {
        "all but DNSMOS": lambda: measure_fragments(speech, fragments, spans, scores),
        "music_noise_prob": lambda: [fragment_sums(speech, start, end) for start, end in both],
        "DNSMOS, fragments": lambda: [dnsmos.rate(speech[start:end]) for start, end in both],
        "DNSMOS, spans": lambda: [as_package(dnsmos, speech[start:end]) for start, end in spans.spans.tolist()],
    }

    def timed() -> float:
        begun = time.process_time()
        work[name]()
        return seconds / (time.process_time() - begun)

    return measure(timed, Clock())


def agreement(own: npt.NDArray[np.float64], by_fragments: npt.NDArray[np.float64]) -> list[str]:
    """Of each rating: mean difference, mean of its size, and correlation; both arguments (num_spans, 3)."""
    lines = [f"{'rating':<8} {'difference':>11} {'its size':>9} {'correlation':>12}"]
    for number, name in enumerate(RATINGS):
        one, two = own[:, number], by_fragments[:, number]
        apart = two - one
        together = float(np.corrcoef(one, two)[0, 1])
        lines.append(f"{name:<8} {apart.mean():>11.2f} {np.abs(apart).mean():>9.2f} {together:>12.3f}")
    return lines


if __name__ == "__main__":
    main()
