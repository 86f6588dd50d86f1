"""How fast a model writes: tokens a second of the search here, and of transformers' own on the same model and rows.

    python -m benchmarks.translate --size small --rows 16 --beams 1 5

The model has random weights, so each row is made to end after a number of tokens that is drawn for it, in both searches
alike: here by its limit, there by a processor of logits. `equal` rows all end at the longest. Text is searched over
states of the text encoder, units over hidden states of the text decoder. Both searches take turns; medians of rounds
are printed, in seconds of the processor that were really used, so that a busy machine counts less than by the clock
(on a GPU it is the clock). `same` is the share of rows for which both found the same tokens.
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.generation import GenerationMixin
from transformers.generation.logits_process import LogitsProcessor, LogitsProcessorList
from transformers.modeling_outputs import BaseModelOutput

from seamlessalign.training.unity.model import UnitY, make_unity
from seamlessalign.training.unity.search import CachedSteps, SearchOptions, search
from seamlessalign.training.vocabulary import TextVocabulary, UnitVocabulary

SOURCE = 30  # tokens of a source, and of the text whose units are searched


@dataclass(frozen=True)
class Pass:
    """One pass of the model over given states."""

    decoder: Any
    head: Any
    whole: Any  # the model of transformers that generates
    states: Any  # (rows, SOURCE, dim)
    prefix: list[int]
    end: int
    banned: list[int]


class EndsAt(LogitsProcessor):  # type: ignore[misc]
    """Has each row end after a number of tokens of its own, for transformers."""

    def __init__(self, lengths: Sequence[int], prefix: int, beams: int, end: int) -> None:
        self._lengths = torch.tensor(lengths).repeat_interleave(beams)
        self._prefix, self._end = prefix, end

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        ends = (self._lengths == input_ids.shape[1] - self._prefix + 1).to(scores.device)
        if ends.any():
            kept = scores[ends, self._end]
            scores[ends] = -torch.inf
            scores[ends, self._end] = kept
        return scores


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each pass, kind of lengths and beam."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--size", default="tiny", help="of the model (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--tokens", type=int, default=40, help="of the longest text; units are four times as many")
    parser.add_argument("--pieces", type=int, default=8000, help="of the text's vocabulary")
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    text, units = _vocabularies(options.pieces, options.units)
    unity = make_unity(options.size, text, units).to(options.device).eval()
    parameters = sum(parameter.numel() for parameter in unity.parameters())
    print(
        f"{options.size}: {parameters:,} parameters; {options.rows} rows, {options.threads} threads, {options.device}"
    )
    print(
        "| pass | lengths | beam | here, tokens/s | transformers, tokens/s | times | same |\n"
        "|---|---|---|---|---|---|---|"
    )
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for name, one in _passes(unity, text, units, options.rows).items():
            longest = options.tokens * (4 if name == "units" else 1)
            drawn = rng.integers(longest // 4, longest + 1, options.rows).tolist()
            for kind, lengths in (("drawn", drawn), ("equal", [longest] * options.rows)):
                for beam in options.beams:
                    told = compare(one, lengths, beam, options.rounds, options.device)
                    print(f"| {name} | {kind} | {beam} | {told} |", flush=True)


def compare(one: Pass, lengths: Sequence[int], beam: int, rounds: int, device: str) -> str:
    """Tokens a second of both searches, how many times as fast ours is, and how often both found the same."""
    ways = {"here": lambda: _here(one, lengths, beam), "transformers": lambda: _transformers(one, lengths, beam)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, list[list[int]]] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            taken, found[name] = _timed(way, device)
            seconds[name].append(taken)
    ours, theirs = (sum(lengths) / statistics.median(seconds[name]) for name in ways)
    same = sum(a == b for a, b in zip(found["here"], found["transformers"], strict=True)) / len(lengths)
    return f"{ours:,.0f} | {theirs:,.0f} | {ours / theirs:.2f} | {same:.2f}"


def _here(one: Pass, lengths: Sequence[int], beam: int) -> list[list[int]]:
    mask = torch.ones(one.states.shape[:2], dtype=torch.long, device=one.states.device)
    prefixes = torch.tensor([one.prefix] * len(lengths), device=one.states.device)
    steps = CachedSteps(one.decoder, one.head, one.states, mask)
    found = search(steps, prefixes, lengths, SearchOptions(beam), end=one.end, banned=one.banned)
    return [list(hypothesis.tokens) for hypothesis in found]


def _transformers(one: Pass, lengths: Sequence[int], beam: int) -> list[list[int]]:
    mask = torch.ones(one.states.shape[:2], dtype=torch.long, device=one.states.device)
    processors = LogitsProcessorList([EndsAt(lengths, len(one.prefix), beam, one.end)])
    made = GenerationMixin.generate(  # its own `generate` is one for speech
        one.whole,
        encoder_outputs=BaseModelOutput(one.states),
        attention_mask=mask,
        decoder_input_ids=torch.tensor([one.prefix] * len(lengths), device=one.states.device),
        num_beams=beam,
        early_stopping=beam > 1,
        do_sample=False,
        max_new_tokens=max(lengths),
        suppress_tokens=one.banned,
        logits_processor=processors,
    )
    found = []
    for row in made.tolist():
        behind = row[len(one.prefix) :]
        found.append(behind[: behind.index(one.end)] if one.end in behind else behind)
    return found


def _passes(unity: UnitY, text: TextVocabulary, units: UnitVocabulary, rows: int) -> dict[str, Pass]:
    device = unity.device
    tokens = torch.randint(4, text.num_pieces, (rows, SOURCE), device=device)
    ones = torch.ones_like(tokens)
    states, _ = unity.encode_text(tokens, ones)
    t2u = unity.model.t2u_model
    hidden = unity.decode_text(tokens, states, ones)
    unity.model.set_modality("text")
    text_banned = [text.pad, text.unk, text.bos, *text.languages.values()]
    unit_banned = [units.pad, units.unk, units.bos, *units.languages.values()]
    return {
        "text": Pass(
            unity.text_decoder, unity.logits, unity.model, states, [text.eos, text.tag("fra")], text.eos, text_banned
        ),
        "units": Pass(
            t2u.model.decoder,
            t2u.lm_head,
            t2u,
            t2u.model.encoder(inputs_embeds=hidden, attention_mask=ones).last_hidden_state,
            [units.eos, units.tag("fra")],
            units.eos,
            unit_banned,
        ),
    }


def _vocabularies(pieces: int, units: int) -> tuple[TextVocabulary, UnitVocabulary]:
    """Vocabularies of these sizes; the pieces are those of words that are made up."""
    from sentencepiece import SentencePieceTrainer

    rng = np.random.default_rng(0)
    syllables = [a + b for a in "bcdfghjklmnprstvwz" for b in ("a", "e", "i", "o", "u", "ai", "on", "er")]
    words = ["".join(rng.choice(syllables, rng.integers(1, 4))) for _ in range(4 * pieces)]
    lines = [" ".join(words[i : i + 8]) for i in range(0, len(words), 8)]
    made = io.BytesIO()
    SentencePieceTrainer.Train(
        sentence_iterator=iter(lines), model_writer=made, model_type="bpe", vocab_size=pieces, minloglevel=2
    )
    return TextVocabulary(made.getvalue(), ("eng", "fra")), UnitVocabulary(units, ("eng", "fra"))


def _timed(way: Callable[[], list[list[int]]], device: str) -> tuple[float, list[list[int]]]:
    on_gpu = device != "cpu"
    clock = time.perf_counter if on_gpu else time.process_time
    if on_gpu:
        torch.cuda.synchronize()
    begun = clock()
    found = way()
    if on_gpu:
        torch.cuda.synchronize()
    return clock() - begun, found


if __name__ == "__main__":
    main()
