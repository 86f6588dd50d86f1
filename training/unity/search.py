"""Greedy and beam search over a decoder whose keys and values are kept from step to step.

Both passes of UnitY search alike: for text, and for units. transformers' own search has one limit of length for a whole
batch and goes on with sentences that have ended; here a row has a limit of its own, so that what is found does not
depend on its neighbours, and it leaves the batch as soon as it is done.
"""

import inspect
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.generation.logits_process import NoRepeatNGramLogitsProcessor

from seamlessalign.errors import ConfigError, ModelError


@dataclass(frozen=True)
class SearchOptions:
    """How one pass is searched.

    For a source of x positions, a hypothesis has at most min(`most`, ⌊`per_source` · x⌋ + `constant`) tokens, counted
    with the `</s>` at its end. The last that is allowed is always `</s>`, at its own probability.
    """

    beam: int = 5  # hypotheses side by side; 1 is greedy search
    length_penalty: float = 1.0  # a hypothesis of n tokens scores (sum of log-probabilities) / n ** this
    per_source: float = 1.0
    constant: int = 200
    most: int = 1024
    early_stopping: bool = True  # end once `beam` hypotheses have ended; else once none can become better than the best
    no_repeat_ngram: int = 0  # no sequence of so many tokens may come twice; 0: whatever comes

    def __post_init__(self) -> None:
        """Raise ConfigError for values that make no sense."""
        for name, least in (("beam", 1), ("length_penalty", 0), ("per_source", 0), ("no_repeat_ngram", 0)):
            if not getattr(self, name) >= least:
                raise ConfigError(f"{name} is {getattr(self, name)}: it must be {least} or more")
        if self.most < 1 or self.constant < 1:
            raise ConfigError(f"constant is {self.constant} and most is {self.most}: both must be 1 or more")

    def limit(self, source_length: int) -> int:
        """The most tokens of a hypothesis, `</s>` included, for a source of so many positions."""
        return min(self.most, math.floor(self.per_source * source_length) + self.constant)


@dataclass(frozen=True)
class Hypothesis:
    """What was found for a row."""

    tokens: tuple[int, ...]  # behind the prefix, without the `</s>` at the end
    log_probability: float  # of the tokens and the `</s>`, natural logarithm
    score: float  # log_probability / (len(tokens) + 1) ** length_penalty
    at_limit: bool  # whether it ended because it had to


class CachedSteps:
    """A decoder of SeamlessM4T over given encoder states, some tokens at a time."""

    def __init__(self, decoder: Any, head: Any, states: Any, mask: Any) -> None:
        """Begin with no tokens.

        Args:
            decoder: text decoder, or decoder of units (transformers' `SeamlessM4TDecoder`).
            head: hidden states `(…, dim)` → logits `(…, vocabulary)`.
            states: `(rows, source, dim)` of the encoder.
            mask: `(rows, source)`, 1 where a state is real.
        """
        self._decoder = decoder
        self._head = head
        self._states = states
        self._mask = mask
        self._cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        # the name changed in transformers 5.24
        named = "cache" if "cache" in inspect.signature(decoder.forward).parameters else "past_key_values"
        self._cached = {named: self._cache, "use_cache": True}

    def next(self, tokens: Any) -> Any:
        """Log-probabilities float32 `(rows, vocabulary)` of what follows when `tokens` `(rows, new)` are added."""
        hidden = self._decoder(
            input_ids=tokens, encoder_hidden_states=self._states, encoder_attention_mask=self._mask, **self._cached
        ).last_hidden_state
        return torch.log_softmax(self._head(hidden[:, -1]).float(), -1)

    def choose(self, rows: Any) -> None:
        """Go on with these rows, int64 `(new rows,)`, any of which may be left out or come several times."""
        self._cache.batch_select_indices(rows)
        self._states, self._mask = self._states[rows], self._mask[rows]

    def exchange(self, rows: Any) -> None:
        """As `choose`, for rows that have the states of the row in whose place they come: those stay where they are."""
        self._cache.self_attention_cache.reorder_cache(rows)


@dataclass
class _Row:
    """A row of the batch while it is searched."""

    place: int  # in what was asked for
    limit: int
    ended: list[Hypothesis] = field(default_factory=list)  # best first


def search(
    steps: CachedSteps,
    prefixes: Any,
    limits: Sequence[int],
    options: SearchOptions,
    *,
    end: int,
    banned: Collection[int] = (),
) -> list[Hypothesis]:
    """The best hypothesis for each row.

    Args:
        steps: the decoder, which has seen no tokens.
        prefixes: int64 `(rows, prefix)`, what every hypothesis of a row begins with.
        limits: the most tokens behind the prefix for each row, `</s>` included.
        options: how to search.
        end: id of `</s>`.
        banned: ids that are never written.

    Raises:
        ModelError: the model's logits are not numbers.
    """
    device = prefixes.device
    rows = [_Row(place, limit) for place, limit in enumerate(limits)]
    done: list[Hypothesis | None] = [None] * len(rows)
    never = torch.tensor(sorted(banned), dtype=torch.long, device=device)
    no_repeat = NoRepeatNGramLogitsProcessor(options.no_repeat_ngram) if options.no_repeat_ngram else None
    written = torch.zeros((len(rows), 0), dtype=torch.long, device=device)  # (rows · beams, steps)
    totals = torch.zeros((len(rows), 1), device=device)  # log-probabilities of them, (rows, beams)
    log_probabilities: Any = steps.next(prefixes) if rows else None
    while rows:
        length = written.shape[1] + 1  # of what ends now
        log_probabilities.index_fill_(1, never, -torch.inf)
        if no_repeat is not None:
            log_probabilities = no_repeat(written, log_probabilities)
        beams, vocabulary = totals.shape[1], log_probabilities.shape[1]
        _end_at_limit(log_probabilities, [row.limit == length for row in rows], beams, end)
        candidates = (totals[:, :, None] + log_probabilities.view(len(rows), beams, vocabulary)).flatten(1)
        # of twice as many as go on, half may end here
        best, places = candidates.topk(min(2 * options.beam, candidates.shape[1]))
        origins: list[int] = []  # of what goes on, in rows · beams
        tokens: list[int] = []
        kept: list[float] = []
        stay: list[_Row] = []
        for i, (row, values, indices) in enumerate(zip(rows, best.tolist(), places.tolist(), strict=True)):
            going: list[tuple[int, int, float]] = []
            for rank, (total, index) in enumerate(zip(values, indices, strict=True)):
                if math.isnan(total):
                    raise ModelError("the model's logits are not numbers: its weights are damaged, or overflow")
                if total == -math.inf:
                    break
                origin, token = i * beams + index // vocabulary, index % vocabulary
                if token == end and rank < options.beam:
                    score = total / length**options.length_penalty
                    told = tuple(written[origin].tolist())
                    row.ended.append(Hypothesis(told, total, score, length == row.limit))
                elif token != end and len(going) < options.beam:
                    going.append((origin, token, total))
            row.ended = sorted(row.ended, key=lambda hypothesis: -hypothesis.score)[: options.beam]
            if _is_done(row, going, options):
                done[row.place] = row.ended[0]
                continue
            stay.append(row)
            # where there are fewer than beams, the rest is nothing that could be chosen
            going += [(going[0][0], end, -math.inf)] * (options.beam - len(going))
            for origin, token, total in going:
                origins.append(origin)
                tokens.append(token)
                kept.append(total)
        if stay:
            chosen = torch.tensor(origins, device=device)
            if len(stay) < len(rows) or beams < options.beam:
                steps.choose(chosen)
            elif origins != list(range(len(origins))):
                steps.exchange(chosen)
            step = torch.tensor(tokens, device=device)[:, None]
            written = torch.cat([written[chosen], step], 1)
            totals = torch.tensor(kept, device=device).view(len(stay), options.beam)
            log_probabilities = steps.next(step)
        rows = stay
    return [hypothesis for hypothesis in done if hypothesis is not None]


def _end_at_limit(log_probabilities: Any, at_limit: Sequence[bool], beams: int, end: int) -> None:
    """Leave `</s>` alone to those rows that may not go on."""
    if not any(at_limit):
        return
    must = torch.tensor(at_limit, device=log_probabilities.device).repeat_interleave(beams)
    kept = log_probabilities[must, end]
    log_probabilities[must] = -torch.inf
    log_probabilities[must, end] = kept


def _is_done(row: _Row, going: Sequence[tuple[int, int, float]], options: SearchOptions) -> bool:
    """Whether nothing that goes on may still be taken.

    Log-probabilities only fall, so that what has `total` now scores at most total / limit ** length_penalty in the end.
    """
    if not going:
        return True
    if not row.ended:
        return False
    if len(row.ended) >= options.beam and (options.early_stopping or options.beam == 1):
        return True
    return bool(going[0][2] / row.limit**options.length_penalty <= row.ended[0].score)
