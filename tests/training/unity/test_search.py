"""Search: against every sequence there is, against a slow search without a cache, and against transformers'."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.errors import ConfigError, ModelError
from seamlessalign.training.unity.generation import Translator
from seamlessalign.training.unity.model import UnitY, save_unity
from seamlessalign.training.unity.search import CachedSteps, Hypothesis, SearchOptions, search
from seamlessalign.training.vocabulary import TextVocabulary, UnitVocabulary
from tests.training.tiny_unity import padded, speech, tiny_text, tiny_unity
from tests.training.unity.taught import ENGLISH, taught

Few = tuple[UnitY, UnitVocabulary, Any, Any]


@pytest.fixture(scope="module")
def few() -> Few:
    """A model of three units, and hidden states of two texts."""
    units = UnitVocabulary(3, ("eng",))
    unity = tiny_unity(tiny_text(), units, seed=3)
    hidden = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    return unity, units, hidden, mask


def _log_probabilities(unity: UnitY, hidden: Any, mask: Any, tokens: Sequence[int]) -> Any:
    """Of what follows each of the tokens, without a cache, `(len(tokens), vocabulary)` in float64."""
    with torch.no_grad():
        logits = unity.decode_units(hidden, mask, torch.tensor([list(tokens)]))[0]
    return torch.log_softmax(logits.double(), -1).numpy()


def _find(unity: UnitY, units: UnitVocabulary, hidden: Any, mask: Any, options: SearchOptions) -> list[Hypothesis]:
    with torch.no_grad():
        return Translator(unity, tiny_text(), units, unit_search=options).find_units(
            hidden, mask, ["eng"] * len(hidden)
        )


@pytest.fixture(scope="module")
def every(few: Few) -> list[dict[tuple[int, ...], float]]:
    """For each text, every sequence of at most four units → its log-probability with the `</s>` behind it."""
    unity, units, hidden, mask = few
    found: list[dict[tuple[int, ...], float]] = [{} for _ in hidden]
    allowed = range(units.offset, units.offset + units.num_units)
    for length in range(5):
        sequences = list(itertools.product(allowed, repeat=length))
        given = torch.tensor([[units.eos, units.tag("eng"), *tokens] for tokens in sequences])
        for row, told in enumerate(found):
            real = int(mask[row].sum())
            states = hidden[row : row + 1, :real].expand(len(given), -1, -1)
            with torch.no_grad():
                logits = unity.decode_units(states, torch.ones(states.shape[:2]), given)
            tables = torch.log_softmax(logits.double(), -1).numpy()
            for tokens, table in zip(sequences, tables, strict=True):
                told[tokens] = float(sum(table[i + 1, token] for i, token in enumerate([*tokens, units.eos])))
    return found


class TestExhaustive:
    @pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, 2.0])
    def test_a_beam_as_wide_as_all_there_is_finds_the_best_of_all(
        self, few: Few, every: list[dict[tuple[int, ...], float]], penalty: float
    ) -> None:
        unity, units, hidden, mask = few
        options = SearchOptions(300, penalty, per_source=0, constant=5, early_stopping=False)
        found = _find(unity, units, hidden, mask, options)
        for hypothesis, all_there_is in zip(found, every, strict=True):
            assert len(all_there_is) == 1 + 3 + 9 + 27 + 81
            score = {tokens: value / (len(tokens) + 1) ** penalty for tokens, value in all_there_is.items()}
            best = max(score, key=lambda tokens: score[tokens])
            assert hypothesis.tokens == best
            assert hypothesis.score == pytest.approx(score[best], abs=1e-5)
            assert hypothesis.log_probability == pytest.approx(all_there_is[best], abs=1e-5)
            assert hypothesis.at_limit == (len(best) == 4)

    def test_the_penalty_decides_how_long(self, few: Few) -> None:
        unity, units, hidden, mask = few
        short, long = (
            _find(unity, units, hidden, mask, SearchOptions(50, penalty, 0, 8, early_stopping=False))[0]
            for penalty in (0.0, 3.0)
        )
        assert len(short.tokens) < len(long.tokens)


def _slow_beam(
    unity: UnitY, units: UnitVocabulary, hidden: Any, mask: Any, options: SearchOptions
) -> tuple[tuple[int, ...], float]:
    """Beam search of one row, written down plainly: no cache, no batch, sorted lists."""
    limit = options.limit(int(mask.sum()))
    banned = {units.pad, units.unk, units.bos, units.tag("eng")}
    alive: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    ended: list[tuple[float, tuple[int, ...]]] = []
    for length in range(1, limit + 1):
        candidates = []
        for total, tokens in alive:
            table = _log_probabilities(unity, hidden, mask, [units.eos, units.tag("eng"), *tokens])[-1]
            for token in range(units.size):
                if token not in banned and (token == units.eos or length < limit):
                    candidates.append((total + float(table[token]), tokens, token))
        candidates.sort(key=lambda candidate: -candidate[0])
        alive = []
        for rank, (total, tokens, token) in enumerate(candidates[: 2 * options.beam]):
            if token == units.eos and rank < options.beam:
                ended.append((total / length**options.length_penalty, tokens))
            elif token != units.eos and len(alive) < options.beam:
                alive.append((total, (*tokens, token)))
        ended = sorted(ended, key=lambda one: -one[0])[: options.beam]
        if len(ended) == options.beam and (options.early_stopping or options.beam == 1):
            break
    score, tokens = ended[0]
    return tokens, score


class TestSlowSearch:
    @pytest.mark.parametrize("beam", [1, 2, 3, 5])
    @pytest.mark.parametrize("early_stopping", [True, False])
    def test_it_finds_what_a_plain_search_without_a_cache_finds(
        self, few: Few, beam: int, early_stopping: bool
    ) -> None:
        unity, units, hidden, mask = few
        options = SearchOptions(beam, per_source=1, constant=6, early_stopping=early_stopping)
        for row, hypothesis in enumerate(_find(unity, units, hidden, mask, options)):
            real = int(mask[row].sum())
            one = hidden[row : row + 1, :real], mask[row : row + 1, :real]
            tokens, score = _slow_beam(unity, units, *one, options)
            assert hypothesis.tokens == tokens
            assert hypothesis.score == pytest.approx(score, abs=1e-5)

    def test_a_beam_of_one_takes_the_likeliest_token_each_time(self) -> None:
        unity, text, units = taught()
        tokens, mask = padded([text.source(sentence, "eng") for sentence in ENGLISH])
        with torch.no_grad():
            states = unity.encode_text(tokens, mask)
            found = Translator(unity, text, units, text_search=SearchOptions(1)).find_text(*states, ["fra"] * 3)
        for row, hypothesis in enumerate(found):
            written = [text.eos, text.tag("fra")]
            while written[-1] != text.eos or len(written) == 1:
                with torch.no_grad():
                    hidden = unity.decode_text(torch.tensor([written]), states[0][row : row + 1], mask[row : row + 1])
                written.append(int(unity.logits(hidden)[0, -1].argmax()))
            assert list(hypothesis.tokens) == written[2:-1]


class TestCache:
    def test_each_step_with_a_cache_is_what_it_is_without(self) -> None:
        unity, _, _ = taught()
        features, mask = speech((24, 40))
        written = torch.randint(4, 60, (3, 8), generator=torch.Generator().manual_seed(0))
        twice = torch.tensor([0, 0, 1])  # two beams of the first, one of the second
        with torch.no_grad():
            states, states_mask = (part[twice] for part in unity.encode_speech(features, mask))
            steps = CachedSteps(unity.text_decoder, unity.logits, states, states_mask)
            for length in range(2, 9):
                found = steps.next(written[:, :2] if length == 2 else written[:, length - 1 : length])
                hidden = unity.decode_text(written[:, :length], states, states_mask)
                whole = torch.log_softmax(unity.logits(hidden[:, -1]), -1)
                torch.testing.assert_close(found, whole, atol=1e-5, rtol=0)
                if length == 4:  # beams change places
                    order = torch.tensor([1, 0, 2])
                    steps.exchange(order)
                    written = written[order]
                if length == 6:  # rows leave, and come twice
                    order = torch.tensor([2, 1, 2, 2])
                    steps.choose(order)
                    written, states, states_mask = written[order], states[order], states_mask[order]

    @given(
        st.lists(st.integers(1, 9), min_size=1, max_size=4),
        st.lists(st.integers(0, 9), min_size=1, max_size=3),
        st.data(),
    )
    @settings(max_examples=12, deadline=None)
    def test_both_passes_with_a_cache_are_what_they_are_without(
        self, few: Few, sources: list[int], choices: list[int], data: st.DataObject
    ) -> None:
        """Over padded states of any lengths, rows leaving and coming twice between the steps."""
        unity, units, _, _ = few
        states = torch.randn(len(sources), max(sources), 16, generator=torch.Generator().manual_seed(len(sources)))
        mask = (torch.arange(max(sources)) < torch.tensor(sources)[:, None]).long()
        t2u = unity.model.t2u_model
        for decoder, head in ((unity.text_decoder, unity.logits), (t2u.model.decoder, t2u.lm_head)):
            rows_states, rows_mask = states, mask
            steps = CachedSteps(decoder, head, states, mask)
            written = torch.full((len(sources), 2), units.eos)
            new = written
            for choice in choices:
                with torch.no_grad():
                    found = steps.next(new)
                    hidden = decoder(
                        input_ids=written,
                        encoder_hidden_states=rows_states,
                        encoder_attention_mask=rows_mask,
                        use_cache=False,
                    ).last_hidden_state
                    whole = torch.log_softmax(head(hidden[:, -1]), -1)
                torch.testing.assert_close(found, whole, atol=1e-5, rtol=0)
                rows = st.lists(st.integers(0, len(written) - 1), min_size=1, max_size=4)
                order = torch.tensor(data.draw(rows))
                steps.choose(order)
                rows_states, rows_mask = rows_states[order], rows_mask[order]
                new = (torch.arange(len(order)) + choice)[:, None] % 3 + units.offset
                written = torch.cat([written[order], new], 1)

    def test_scores_are_those_of_the_whole_text_read_at_once(self) -> None:
        unity, text, units = taught()
        tokens, mask = padded([text.source(sentence, "eng") for sentence in ENGLISH])
        with torch.no_grad():
            states = unity.encode_text(tokens, mask)
            for hypothesis, row in zip(
                Translator(unity, text, units).find_text(*states, ["fra"] * 3), range(3), strict=True
            ):
                written = torch.tensor([[text.eos, text.tag("fra"), *hypothesis.tokens, text.eos]])
                hidden = unity.decode_text(written[:, :-1], states[0][row : row + 1], mask[row : row + 1])
                table = torch.log_softmax(unity.logits(hidden).double(), -1)
                total = float(table[0, 1:].gather(1, written[0, 2:, None]).sum())
                assert hypothesis.log_probability == pytest.approx(total, abs=1e-4)
                assert hypothesis.score == pytest.approx(total / (len(hypothesis.tokens) + 1), abs=1e-5)


def _suppressed(text: TextVocabulary) -> list[int]:
    return [text.pad, text.unk, text.bos, *text.languages.values()]


class TestTransformers:
    """The models that transformers has for this, loaded from a folder, with its own search."""

    @pytest.fixture(scope="class", params=["text", "speech"])
    def theirs(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
        from transformers import SeamlessM4TForSpeechToText, SeamlessM4TForTextToText

        folder = tmp_path_factory.mktemp("taught")
        save_unity(folder, *taught())
        kind = SeamlessM4TForTextToText if request.param == "text" else SeamlessM4TForSpeechToText
        return kind.from_pretrained(folder).eval()

    @pytest.mark.parametrize(
        "options",
        [
            SearchOptions(1),
            SearchOptions(5),
            SearchOptions(3, 0.5),
            SearchOptions(5, 0.0, early_stopping=False),
            SearchOptions(4, constant=30, early_stopping=False),
            SearchOptions(5, no_repeat_ngram=2),
        ],
        ids=["greedy", "beam", "short", "unnormalised", "patient", "no-repeat"],
    )
    def test_their_texts_are_the_same(self, theirs: Any, options: SearchOptions) -> None:
        unity, text, units = taught()
        source = "text" if hasattr(theirs, "text_encoder") else "speech"
        # sentences that were taught, and others, whose texts are of other lengths
        for row, sentence in enumerate([*ENGLISH, "the dog"]):
            if source == "text":
                tokens, mask = padded([text.source(sentence, "eng")])
                inputs = {"input_ids": tokens}
            else:
                features, mask = speech((24 + 7 * row,), seed=row)
                inputs = {"input_features": features}
            with torch.no_grad():
                encoded = unity.encode_text(tokens, mask) if source == "text" else unity.encode_speech(features, mask)
                (found,) = Translator(unity, text, units, text_search=options).find_text(*encoded, ["fra"])
            limit = options.limit(int(encoded[1].sum()))
            made = theirs.generate(
                **inputs,
                attention_mask=mask,
                tgt_lang="fra",
                num_beams=options.beam,
                length_penalty=options.length_penalty,
                early_stopping=True if options.early_stopping else "never",
                no_repeat_ngram_size=options.no_repeat_ngram,
                max_new_tokens=limit,
                do_sample=False,
                suppress_tokens=_suppressed(text),
                return_dict_in_generate=True,
                output_scores=True,
            )
            assert not found.at_limit  # there, theirs end without `</s>`
            assert made.sequences[0].tolist() == [text.eos, text.tag("fra"), *found.tokens, text.eos]
            if options.beam > 1:
                assert found.score == pytest.approx(float(made.sequences_scores[0]), abs=1e-5)


class TestLimits:
    def test_the_last_token_is_the_end_at_its_own_probability(self, few: Few) -> None:
        unity, units, hidden, mask = few
        hidden, mask = hidden[:1], mask[:1]
        for limit in (1, 2, 5):
            found = _find(unity, units, hidden, mask, SearchOptions(1, 0.0, 0, limit))[0]
            assert len(found.tokens) <= limit - 1
            table = _log_probabilities(unity, hidden, mask, [units.eos, units.tag("eng"), *found.tokens])
            wanted = [*found.tokens, units.eos]
            assert found.log_probability == pytest.approx(sum(table[i + 1, t] for i, t in enumerate(wanted)), abs=1e-5)

    def test_each_row_has_a_limit_of_its_own(self, few: Few) -> None:
        unity, units, hidden, mask = few
        # a penalty that only the longest can win, so that both go to their limits: 6 and 4 states, twice as many tokens
        options = SearchOptions(3, 50.0, per_source=2, constant=1, early_stopping=False)
        found = _find(unity, units, hidden, mask, options)
        assert [len(one.tokens) + 1 for one in found] == [13, 9]
        assert all(one.at_limit for one in found)

    @pytest.mark.parametrize(
        ("options", "length", "limit"),
        [
            (SearchOptions(), 30, 230),
            (SearchOptions(), 2000, 1024),
            (SearchOptions(per_source=25, constant=50, most=5000), 10, 300),
            (SearchOptions(per_source=0.3, constant=2), 5, 3),
        ],
    )
    def test_limits_by_source(self, options: SearchOptions, length: int, limit: int) -> None:
        assert options.limit(length) == limit


class TestOptions:
    def test_no_sequence_comes_twice_that_may_not(self, few: Few) -> None:
        unity, units, hidden, mask = few
        free = SearchOptions(2, 50.0, 0, 9, early_stopping=False)
        pairs = [
            list(itertools.pairwise(one.tokens))
            for options in (free, SearchOptions(2, 50.0, 0, 9, early_stopping=False, no_repeat_ngram=2))
            for one in _find(unity, units, hidden, mask, options)
        ]
        assert len(set(pairs[0])) < len(pairs[0])  # of 3 units there are 9 pairs; left free, some repeat
        assert all(len(set(some)) == len(some) for some in pairs[2:])

    def test_no_token_twice_still_comes_to_an_end(self, few: Few) -> None:
        unity, units, hidden, mask = few
        for one in _find(unity, units, hidden, mask, SearchOptions(4, no_repeat_ngram=1)):
            assert len(set(one.tokens)) == len(one.tokens) <= 3

    @pytest.mark.parametrize(
        "wrong", [{"beam": 0}, {"length_penalty": -1.0}, {"length_penalty": math.nan}, {"constant": 0}, {"most": 0}]
    )
    def test_what_makes_no_sense_is_an_error(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            SearchOptions(**wrong)

    def test_logits_that_are_not_numbers_are_an_error(self, few: Few) -> None:
        unity, units, hidden, mask = few
        with pytest.raises(ModelError, match="not numbers"):
            _find(unity, units, hidden * math.nan, mask, SearchOptions())

    def test_nothing_to_search_is_nothing(self) -> None:
        unity, text, _ = taught()
        steps = CachedSteps(unity.text_decoder, unity.logits, torch.zeros(0, 3, 32), torch.ones(0, 3))
        assert search(steps, torch.zeros((0, 2), dtype=torch.long), [], SearchOptions(), end=text.eos) == []


def test_what_is_found_is_the_same_every_time(few: Few) -> None:
    unity, units, hidden, mask = few
    first, second = (_find(unity, units, hidden, mask, SearchOptions()) for _ in range(2))
    assert first == second and np.isfinite([one.score for one in first]).all()
