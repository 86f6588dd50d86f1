"""How the recognisers of an evaluation hear people: both engines of Whisper base, and faster-whisper used by hand.

    python -m benchmarks.recognisers --cache .cache [--prompts 24] [--threads 1]

Of Asterisk's prompts, one speaker in each of five languages, so many of each are drawn. Printed are the error rates of
both engines by language, how many texts are to the letter those of faster-whisper when it is given each sound by
itself, how many are the same in both engines after Whisper's normaliser, and how much faster than by hand each hears:
the median of the ratios of processor seconds by language.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from seamlessalign.audio import decode
from seamlessalign.languages import to_model_code
from seamlessalign.pipelines.context import use_threads
from seamlessalign.pipelines.demo_sources import LANGUAGES, fetch_prompts
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.training.evaluation.recognisers import (
    FasterWhisperRecogniser,
    Float32,
    Recogniser,
    WhisperRecogniser,
)
from seamlessalign.training.evaluation.text import ErrorRate, normaliser

Thing = TypeVar("Thing")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="where fetched packages are kept")
    parser.add_argument("--prompts", type=int, default=24, help="of each language")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    use_threads(options.threads)
    prompts = fetch_prompts(options.cache).prompts
    faster = FasterWhisperRecogniser()
    engines: dict[str, Recogniser] = {"faster-whisper": faster, "transformers": WhisperRecogniser()}
    for engine in engines.values():
        print(engine.signature)
    print("| spoken | speech | WER by faster-whisper | WER by transformers | as by hand | engines agree |")
    print("|---|---|---|---|---|---|")
    ratios: dict[str, list[float]] = {name: [] for name in engines}
    for lang in LANGUAGES:
        keys = sorted(prompts[lang])
        chosen = [prompts[lang][key] for key in random.Random(0).sample(keys, min(options.prompts, len(keys)))]
        sounds = [np.asarray(decode(one.audio).samples, np.float32) for one in chosen]
        by_hand, alone = _timed(partial(_by_hand, faster, sounds, lang))
        heard, rates = {}, {}
        measure = ErrorRate("wer", lang)
        for name, engine in engines.items():
            texts, seconds = _timed(partial(engine.hear, sounds, lang))
            heard[name] = [text or "" for text in texts]
            ratios[name].append(alone / seconds)
            rates[name] = measure.score(measure.statistics(heard[name], [[one.text] for one in chosen]).sum(0))
        plain = normaliser(lang)
        cells = [
            f"{sum(map(len, sounds)) / SAMPLE_RATE:.0f} s",
            *(f"{rates[name]:.1f}" for name in engines),
            f"{sum(a == b for a, b in zip(heard['faster-whisper'], by_hand, strict=True))} of {len(sounds)}",
            f"{sum(plain(a) == plain(b) for a, b in zip(*heard.values(), strict=True))} of {len(sounds)}",
        ]
        print(f"| {lang} | " + " | ".join(cells) + " |", flush=True)
    print("; ".join(f"{name}: {statistics.median(some):.2f} times as fast as by hand" for name, some in ratios.items()))


def _by_hand(engine: FasterWhisperRecogniser, sounds: Sequence[Float32], lang: str) -> list[str]:
    """Each sound by itself, as the package's documentation has it, with the same settings."""
    settings: dict[str, Any] = {
        "beam_size": 1, "temperature": 0.0, "without_timestamps": True, "condition_on_previous_text": False,
        "no_speech_threshold": None,
    }  # fmt: skip
    model, code = engine.model, to_model_code(lang, "whisper")
    return [
        "".join(part.text for part in model.transcribe(one, language=code, **settings)[0]).strip() for one in sounds
    ]


def _timed(work: Callable[[], Thing]) -> tuple[Thing, float]:
    start = time.process_time()
    return work(), time.process_time() - start


if __name__ == "__main__":
    main()
