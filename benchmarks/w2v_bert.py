"""What pre-training learns from two hours of speech: its losses, how its codes are used, and what its features tell.

    python -m benchmarks.w2v_bert --cache .cache [--work runs/w2v-bert] [key=value …]

The speech is the prompts of Asterisk in five languages, with one speaker each. A share of the prompts, the same ones
in every language, is held out from pre-training and from both probes, linear ones on frozen features: the language of
a clip, and its characters (CTC). They are compared with the same network before pre-training and with its inputs.

As each language has one speaker, who tells speakers apart tells languages apart: the first probe is measured on second
speakers of three languages too. Intervals are of 95 %, by drawing prompts with replacement 2,000 times.
"""

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from seamlessalign import storage
from seamlessalign.embedders.batches import batches
from seamlessalign.embedders.sonar.features import features
from seamlessalign.embedders.text import spoken_form
from seamlessalign.errors import UnreadableError
from seamlessalign.pipelines.demo_sources import fetch_prompts, say
from seamlessalign.pipelines.lid_speech import is_held_out, test_speech
from seamlessalign.speech_sources import Sound, load_sound
from seamlessalign.training.w2v_bert.config import W2vBertConfig, load_w2v_bert_config
from seamlessalign.training.w2v_bert.model import W2vBertPretraining, fill_from
from seamlessalign.training.w2v_bert.train import train_w2v_bert
from seamlessalign.training_folder import TrainingFolder

RECIPE = Path(__file__).parents[1] / "training" / "w2v_bert" / "recipe.yaml"
_MIN_SECONDS = 0.5
_EPOCHS = 6  # of the probe of characters
_DRAWS = 2000
_BATCH_INPUTS = 2000  # that a network hears at a time


@dataclass(frozen=True)
class Clip:
    """A prompt that somebody says."""

    prompt: str
    lang: str
    path: str
    text: str = ""


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the manifests, train, and print the tables."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="where fetched packages are kept")
    parser.add_argument("--work", type=Path, default=Path("runs/w2v-bert"), help="folder (default: %(default)s)")
    parser.add_argument("--prepare", action="store_true", help="write the manifests and no more")
    parser.add_argument("--others", action="store_true", help="fetch second speakers, for the probe of languages")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of the recipe's configuration")
    options = parser.parse_args(arguments)
    clips = prompts(options.cache)
    for name, held in (("learnt", False), ("held-out", True)):
        write_manifest(options.work / name, [clip for clip in clips if is_held_out(clip.prompt) == held])
    if options.prepare:
        return
    config = load_w2v_bert_config(str(RECIPE), [*_places(options.work), *options.overrides])
    began = time.process_time()
    train_w2v_bert(config)
    say(f"training: {time.process_time() - began:.0f} s of processor time here")
    print_losses(Path(config.output))
    print_codebooks(Path(config.output))
    others = second_speakers(options.cache, options.work) if options.others else []
    probe(config, clips, others)


def prompts(cache: Path) -> list[Clip]:
    """All prompts with a transcript, in the order of their names."""
    found = fetch_prompts(cache).prompts
    clips = [
        Clip(name, lang, str(prompt.audio.absolute()), spoken_form(prompt.text))
        for lang, some in sorted(found.items())
        for name, prompt in sorted(some.items())
    ]
    return [clip for clip in clips if clip.text]


def second_speakers(cache: Path, work: Path) -> list[Clip]:
    """Held-out prompts that other people say than those of `prompts`."""
    spoken = [one for one in test_speech(cache, work / "others") if one.speaker.startswith("asterisk-prompt")]
    return [Clip(one.name, one.lang, str(one.file)) for one in spoken if is_held_out(one.name)]


def write_manifest(folder: Path, clips: Sequence[Clip]) -> None:
    """Write `clips.jsonl` into a folder."""
    lines = [json.dumps(vars(clip), ensure_ascii=False) for clip in clips]
    storage.write_bytes_atomic(str(folder / "clips.jsonl"), ("\n".join(lines) + "\n").encode())
    say(f"{folder}: {len(clips)} clips")


def _places(work: Path) -> list[str]:
    places = {"train": work / "learnt", "validation": work / "held-out"}
    beside = {part: os.path.relpath(place, RECIPE.parent) for part, place in places.items()}  # as the recipe has them
    found = [f"data.{part}=[{{kind: folder, path: '{place}'}}]" for part, place in beside.items()]
    return [*found, f"output={work / 'training'}"]


# What the training tells


def print_losses(folder: Path) -> None:
    """Each term of the loss at the beginning and at the end: of what is learnt, and of what is held out."""
    lines = TrainingFolder(str(folder)).lines()
    steps = [line for line in lines if "loss" in line]
    held = [line for line in lines if "held_out_loss" in line]
    part = max(1, len(steps) // 10)
    print(f"\nlosses: means of the first and the last tenth of {steps[-1]['step']} steps; held out: first and last")
    print("| | learnt, first | last | held out, first | last |\n|---|---|---|---|---|")
    for name in ("loss", "contrastive", "diversity", "gvq", "rpq", "contrastive_accuracy", "gvq_accuracy",
                 "rpq_accuracy"):  # fmt: skip
        learnt = [float(np.mean([line[name] for line in some])) for some in (steps[:part], steps[-part:])]
        cells = [*learnt, held[0][f"held_out_{name}"], held[-1][f"held_out_{name}"]]
        print(f"| {name} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |")
    for kind in ("gvq", "rpq"):  # below 0: more is known than how often each code comes
        cells = [line[f"held_out_{kind}"] - _entropy(line, kind) for line in (held[0], held[-1])]
        print(f"| {kind}, less the entropy of codes | | | " + " | ".join(f"{cell:+.3f}" for cell in cells) + " |")


def _entropy(line: Mapping[str, Any], kind: str) -> float:
    """The mean entropy of the codebooks of a kind, in nats, over all that is held out."""
    found = [value for name, value in line.items() if name.startswith(f"held_out_{kind}_perplexity_")]
    return float(np.log(found).mean())


def print_codebooks(folder: Path) -> None:
    """How evenly the best network's codes are used, over all that is held out."""
    found = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    print(f"\ncodes of {found['targets']} masked inputs that are held out, without noise")
    print("| codebook | entries | used | perplexity | of entries |\n|---|---|---|---|---|")
    for book in found["codebooks"]:
        share = book["perplexity"] / book["entries"]
        cells = [book["codebook"], book["entries"], book["used"], f"{book['perplexity']:.1f}", f"{share:.2f}"]
        print("| " + " | ".join(map(str, cells)) + " |")


# What its features tell


def probe(config: W2vBertConfig, clips: Sequence[Clip], others: Sequence[Clip]) -> None:
    """Print how well languages and characters are told by linear probes on the features of three kinds."""
    torch.manual_seed(config.seed)
    before = W2vBertPretraining(config).eval()
    after = W2vBertPretraining(config).eval()
    fill_from(after, Path(config.output) / "model")
    layers = sorted({config.model.contrastive_layer, config.model.layers})
    heard, inputs = _inputs(clips)
    other_clips, other_inputs = _inputs(others)
    learnt = np.array([not is_held_out(clip.prompt) for clip in heard])
    names = np.array([clip.prompt for clip in heard])[~learnt]
    say(f"probes: {learnt.sum()} clips learnt, {(~learnt).sum()} held out, {len(other_clips)} of other speakers")
    features_of = {"inputs": (inputs, other_inputs)}
    for name, network in (("random", before), ("pre-trained", after)):
        made = [_frames(network, layers, some) for some in (inputs, other_inputs)]
        features_of |= {f"{name}, layer {layer}": (made[0][layer], made[1][layer]) for layer in layers}
    right, wrong, abroad = {}, {}, {}
    for kind, (frames, other_frames) in features_of.items():
        right[kind], told = _languages(heard, frames, learnt)
        if other_clips:
            said = told(other_frames)
            abroad[kind] = np.array([said[i] == clip.lang for i, clip in enumerate(other_clips)], float)
        wrong[kind] = _characters(heard, frames, learnt, config.seed)
        errors = wrong[kind][:, 0].sum() / wrong[kind][:, 1].sum()
        say(f"{kind}: languages {right[kind].mean():.3f} right, characters {errors:.3f} wrong")
    _table("language of held-out prompts, the same speakers: accuracy", _of_one(right), names, layers)
    if abroad:
        by = np.array([clip.prompt for clip in other_clips])
        _table("language of held-out prompts, other speakers: accuracy", _of_one(abroad), by, layers)
    _table("characters of held-out prompts: error rate", {k: v[:, :2] for k, v in wrong.items()}, names, layers)
    losses = {kind: some[:, 2:] for kind, some in wrong.items()}
    _table("characters of held-out prompts: loss of CTC in nats a character", losses, names, layers)


def _of_one(found: Mapping[str, Any]) -> dict[str, Any]:
    """Each clip's result, of one."""
    return {kind: np.stack([some, np.ones_like(some)], 1) for kind, some in found.items()}


def _table(title: str, found: Mapping[str, Any], names: Any, layers: Sequence[int]) -> None:
    """Ratios of sums `(clips, 2)` with intervals, and what pre-training adds, by the same draws of prompts."""
    order = np.unique(names, return_inverse=True)[1]
    count = int(order.max()) + 1
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), _DRAWS)

    def ratios(some: Any) -> Any:
        sums = np.stack([np.bincount(order, column) for column in some.T], 1)
        made = drawn @ sums
        return np.r_[sums[:, 0].sum() / sums[:, 1].sum(), made[:, 0] / made[:, 1]]

    values = {kind: ratios(np.asarray(some, float)) for kind, some in found.items()}
    for layer in layers:
        values[f"gain, layer {layer}"] = values[f"pre-trained, layer {layer}"] - values[f"random, layer {layer}"]
    print(f"\n{title}, {len(names)} clips of {count} prompts\n| | | 95 % |\n|---|---|---|")
    for kind, value in values.items():
        low, high = np.quantile(value[1:], [0.025, 0.975])
        print(f"| {kind} | {value[0]:.3f} | {low:.3f} to {high:.3f} |")


def _inputs(clips: Sequence[Clip]) -> tuple[list[Clip], list[Any]]:
    """Clips that can be heard, and inputs `(inputs, 160)` of each."""
    kept, made = [], []
    for clip in clips:
        try:
            samples = load_sound(Sound(clip.path), "", clip.path)
        except UnreadableError:
            continue
        if len(samples) >= _MIN_SECONDS * 16_000:
            kept.append(clip)
            made.append(features(torch.from_numpy(np.ascontiguousarray(samples))))
    return kept, made


def _frames(network: W2vBertPretraining, layers: Sequence[int], inputs: Sequence[Any]) -> dict[int, list[Any]]:
    """What a network makes of each clip behind some layers, `(inputs, dim)`."""
    made: dict[int, list[Any]] = {layer: [None] * len(inputs) for layer in layers}
    for batch in batches([len(one) for one in inputs], _BATCH_INPUTS):
        padded = nn.utils.rnn.pad_sequence([inputs[i] for i in batch], batch_first=True)
        lengths = torch.tensor([len(inputs[i]) for i in batch])
        mask = (torch.arange(padded.shape[1]) < lengths[:, None]).long()
        with torch.no_grad():
            states = network.encoder(padded, attention_mask=mask, output_hidden_states=True).hidden_states
        for layer in layers:
            for row, i in enumerate(batch):
                made[layer][i] = states[layer][row, : lengths[row]].clone()
    return made


def _languages(clips: Sequence[Clip], frames: Sequence[Any], learnt: Any) -> tuple[Any, Any]:
    """Which held-out clips' languages are told from the mean of their frames, and what tells them."""
    langs = sorted({clip.lang for clip in clips})
    pooled = torch.stack([some.mean(0) for some in frames])
    truth = torch.tensor([langs.index(clip.lang) for clip in clips])
    mean, deviation = pooled[learnt].mean(0), pooled[learnt].std(0) + 1e-6
    linear = nn.Linear(pooled.shape[1], len(langs))
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    search = torch.optim.LBFGS(linear.parameters(), max_iter=200, line_search_fn="strong_wolfe")
    x, y = (pooled[learnt] - mean) / deviation, truth[learnt]

    def loss() -> Any:
        search.zero_grad()
        found = nn.functional.cross_entropy(linear(x), y) + 1e-3 * linear.weight.square().sum()
        found.backward()
        return found

    search.step(loss)

    def told(some: Sequence[Any]) -> list[str]:
        with torch.no_grad():
            rows = (torch.stack([one.mean(0) for one in some]) - mean) / deviation
            return [langs[int(i)] for i in linear(rows).argmax(1)]

    held = [frames[i] for i in np.flatnonzero(~learnt).tolist()]
    said = told(held)
    return np.array([said[i] == clips[j].lang for i, j in enumerate(np.flatnonzero(~learnt).tolist())], float), told


def _characters(clips: Sequence[Clip], frames: Sequence[Any], learnt: Any, seed: int) -> Any:
    """Of each held-out clip: wrong characters, their number, loss of CTC, and their number, `(clips, 4)`."""
    letters = sorted({c for clip in clips for c in clip.text})
    numbers = [torch.tensor([1 + letters.index(c) for c in clip.text]) for clip in clips]
    every = torch.cat([frames[i] for i in np.flatnonzero(learnt).tolist()])
    mean, deviation = every.mean(0), every.std(0) + 1e-6
    torch.manual_seed(seed)
    linear = nn.Linear(every.shape[1], 1 + len(letters))
    adam = torch.optim.Adam(linear.parameters(), lr=0.01)
    fits = [i for i in np.flatnonzero(learnt).tolist() if len(numbers[i]) < len(frames[i])]
    rng = np.random.default_rng(seed)
    steps, taken = _EPOCHS * -(-len(fits) // 32), 0
    for _ in range(_EPOCHS):
        order = sorted(rng.permutation(fits).tolist(), key=lambda i: len(frames[i]) // 25)
        taken_together = [order[i : i + 32] for i in range(0, len(order), 32)]
        for batch in (taken_together[i] for i in rng.permutation(len(taken_together))):
            adam.param_groups[0]["lr"] = 0.01 * (1 - taken / steps)
            taken += 1
            adam.zero_grad()
            _ctc(linear, batch, frames, numbers, mean, deviation).mean().backward()
            adam.step()
    rows = []
    with torch.no_grad():
        for i in np.flatnonzero(~learnt).tolist():
            fitting = len(numbers[i]) < len(frames[i])
            loss = float(_ctc(linear, [i], frames, numbers, mean, deviation)[0]) if fitting else 0.0
            best = linear((frames[i] - mean) / deviation).argmax(1).unique_consecutive()
            said = "".join(letters[int(n) - 1] for n in best if n)
            counted = len(numbers[i]) if fitting else 0
            rows.append([_distance(said, clips[i].text), len(clips[i].text), loss, counted])
    return np.array(rows)


def _ctc(linear: Any, batch: Sequence[int], frames: Sequence[Any], numbers: Sequence[Any], mean: Any, dev: Any) -> Any:
    padded = nn.utils.rnn.pad_sequence([(frames[i] - mean) / dev for i in batch])
    return nn.functional.ctc_loss(
        linear(padded).log_softmax(-1),
        torch.cat([numbers[i] for i in batch]),
        torch.tensor([len(frames[i]) for i in batch]),
        torch.tensor([len(numbers[i]) for i in batch]),
        reduction="none",
    )


def _distance(said: str, text: str) -> int:
    """Levenshtein's, between characters."""
    import jiwer

    if not said:
        return len(text)
    found = jiwer.process_characters(text, said)
    return int(found.substitutions + found.deletions + found.insertions)


if __name__ == "__main__":
    main()
