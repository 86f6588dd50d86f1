"""Translating: both passes and the vocoder against transformers' own, and rows that do not depend on others."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from seamlessalign.errors import ConfigError, InputError
from seamlessalign.training.unity.generation import (
    TEXT_SEARCH,
    UNIT_SEARCH,
    BatchLimits,
    Source,
    Translation,
    Translator,
    translate_rows,
)
from seamlessalign.training.unity.search import SearchOptions
from tests.ground.sounds import noise
from tests.training.tiny_unity import padded, speech, tiny_text, tiny_units, tiny_unity
from tests.training.unity.taught import ENGLISH, FRENCH, taught, units_of


def _waveform(seconds: float, seed: int) -> Any:
    return noise(int(seconds * 16_000), seed=seed)[:, 0]


def _mixed() -> list[Source]:
    """Speech and texts of many lengths, into both languages."""
    sources = [
        Source("fra", sentence, "eng") for sentence in (*ENGLISH, "the dog", "a cat sat on the lit and a number")
    ]
    sources += [Source("eng", sentence, "fra") for sentence in FRENCH]
    sources += [Source("fra" if i % 2 else "eng", waveform=_waveform(0.2 + 0.37 * i, i)) for i in range(5)]
    return sources[::2] + sources[1::2]


def _same(a: Translation, b: Translation) -> bool:
    return (
        (a.text, a.tokens, a.units, a.at_limit) == (b.text, b.tokens, b.units, b.at_limit)
        and abs(a.score - b.score) < 1e-4
        and abs((a.unit_score or 0) - (b.unit_score or 0)) < 1e-4
    )


class TestTranslator:
    def test_it_says_what_it_was_taught(self) -> None:
        unity, text, units = taught()
        translator = Translator(unity, text, units)
        found = translator.translate_rows([Source("fra", sentence, "eng") for sentence in ENGLISH], units=True)
        for translation, sentence in zip(found, FRENCH, strict=True):
            assert translation.text == sentence
            assert list(translation.units or ()) == units_of(sentence, units)
            assert translation.score > -0.2 and not translation.at_limit

    @pytest.mark.parametrize("beam", [1, 3])
    def test_a_batch_is_its_rows_one_by_one(self, beam: int) -> None:
        unity, text, units = taught()
        searches: dict[str, Any] = {
            "text_search": replace(TEXT_SEARCH, beam=beam, constant=30),
            "unit_search": replace(UNIT_SEARCH, beam=beam, per_source=2.0, constant=5),
        }
        sources = _mixed()
        together = Translator(unity, text, units, **searches).translate_rows(sources, units=True)
        few = Translator(unity, text, units, **searches, batches=BatchLimits(3, 100, 40))
        assert all(map(_same, together, few.translate_rows(sources, units=True)))
        alone = [Translator(unity, text, units, **searches).translate_rows([one], units=True)[0] for one in sources]
        assert all(map(_same, together, alone))
        assert len({translation.text for translation in together}) > 3

    def test_batches_hold_what_they_may_and_every_row_once(self) -> None:
        unity, text, _ = taught()
        sources = [Source("fra", waveform=np.zeros(320 * n, np.float32)) for n in (9, 50, 2, 30, 31, 8, 400)]
        sources += [Source("fra", "a" * n, "eng") for n in (3, 300, 30)]
        batches = list(Translator(unity, text, batches=BatchLimits(3, 100, 50))._batches(sources))
        assert sorted(i for batch in batches for i in batch) == list(range(10))
        for batch in batches:
            assert len({sources[i].waveform is None for i in batch}) == 1
            longest = max(len(w) // 320 for i in batch if (w := sources[i].waveform) is not None) if batch[0] < 7 else 0
            assert len(batch) <= 3 and (len(batch) == 1 or longest * len(batch) <= 100)

    def test_tags_are_forced_and_never_written(self) -> None:
        unity, text, units = taught()
        french, english = (
            Translator(unity, text, units).translate_text([ENGLISH[0]], "eng", lang)[0] for lang in ("fra", "eng")
        )
        assert french.tokens != english.tokens
        never = {text.pad, text.unk, text.bos, text.eos, *text.languages.values()}
        random = tiny_unity(text, units, seed=5)  # one that would write anything
        options: dict[str, Any] = {name: SearchOptions(3, constant=20) for name in ("text_search", "unit_search")}
        for translation in Translator(random, text, units, **options).translate_rows(_mixed(), units=True):
            assert not never & set(translation.tokens)
            assert all(0 <= unit < units.num_units for unit in translation.units or ())

    def test_units_of_a_model_that_runs_on_come_to_an_end(self) -> None:
        """At twice what the source takes, however long its text has become."""
        text, units = tiny_text(), tiny_units()
        unity = tiny_unity(text, units, seed=5)
        with torch.no_grad():  # neither pass would ever end
            for table, end in ((unity.model.shared, text.eos), (unity.model.t2u_model.lm_head, units.eos)):
                table.weight[end] = 0
        greedy: dict[str, Any] = {
            "text_search": SearchOptions(1, constant=20),
            "unit_search": replace(UNIT_SEARCH, beam=1, constant=5),
        }
        sources = [Source("fra", waveform=_waveform(0.5, 1)), Source("fra", "a", "eng")]
        tokens = len(text.source("a", "eng"))
        spoken, written = Translator(unity, text, units, **greedy).translate_rows(sources, units=True)
        for found, most in ((spoken, 16 * (24 // 8 + 1) + 5), (written, 50 * tokens + 5)):
            assert found.at_limit and found.units_at_limit
            assert len(found.units or ()) + 1 == most

    def test_each_part_goes_back_to_the_mode_it_was_in(self) -> None:
        text = tiny_text()
        unity = tiny_unity(text, None, dropout=0.5, max_source_positions=8)
        unity.train()
        unity.text_encoder.eval()  # as a part that is frozen
        modes = [part.training for part in unity.modules()]
        translator = Translator(unity, text, text_search=SearchOptions(1, constant=5))
        first, second = (translator.translate_text(["the cat"], "eng", "fra") for _ in range(2))
        assert first[0].tokens == second[0].tokens  # no dropout
        assert [part.training for part in unity.modules()] == modes
        # tables of positions that grew while speech was translated can be learnt with
        translator.translate_speech([_waveform(1.0, 0)], "fra")
        unity.encode_speech(*speech((40,)))[0].sum().backward()

    def test_progress_counts_every_row(self) -> None:
        unity, text, _ = taught()
        told: list[int] = []
        Translator(unity, text, batches=BatchLimits(2)).translate_rows(_mixed(), progress=told.append)
        assert sum(told) == len(_mixed()) and max(told) == 2

    def test_no_rows_are_no_translations(self) -> None:
        unity, text, _ = taught()
        assert translate_rows(Translator(unity, text), []) == []


class TestSpeech:
    @pytest.mark.parametrize(("kind", "lang"), [("text", "fra"), ("speech", "fra"), ("speech", "eng")])
    def test_both_passes_and_the_sound_are_those_of_transformers(self, kind: str, lang: str) -> None:
        """T2ST and S2ST, and the text of ASR: speech into its own language."""
        unity, text, units = taught()
        options = SearchOptions(3)
        translator = Translator(unity, text, units, text_search=options, unit_search=replace(UNIT_SEARCH, beam=3))
        suppressed = [text.pad, text.unk, text.bos, *text.languages.values()]
        for row, sentence in enumerate(ENGLISH[:2]):
            # the same for a batch of one: theirs hears the last `</s>` of the text too, so ours is given that as well
            given, mask = speech(((24, 40)[row],)) if kind == "speech" else padded([text.source(sentence, "eng")])
            theirs = unity.model.generate(
                **{"input_features" if kind == "speech" else "input_ids": given},
                attention_mask=mask,
                tgt_lang=lang,
                return_intermediate_token_ids=True,
                num_beams=3,
                early_stopping=True,
                text_suppress_tokens=suppressed,
                speech_suppress_tokens=[units.pad, units.unk, units.bos, *units.languages.values()],
                text_max_new_tokens=100,
                speech_max_new_tokens=300,
                do_sample=False,
            )
            with torch.no_grad():
                states = unity.encode_speech(given, mask) if kind == "speech" else unity.encode_text(given, mask)
                (found,) = translator.find_text(*states, [lang])
                written = torch.tensor([[text.eos, text.tag(lang), *found.tokens, text.eos]])
                assert theirs.sequences.tolist() == written.tolist()
                hidden = unity.decode_text(written, *states)
                (spoken,) = translator.find_units(hidden, torch.ones(hidden.shape[:2]), [lang])
            prefix = [units.eos, units.tag(lang)]
            assert theirs.unit_sequences[0].tolist() == [*prefix, *spoken.tokens, units.eos], row
            # theirs passes the `</s>` on to the vocoder, as a unit behind the others: the one with the number of <pad>
            waveform = translator.speak([*units.units(spoken.tokens), units.pad], lang)
            np.testing.assert_allclose(waveform, theirs.waveform[0].numpy(), atol=1e-5)

    def test_a_row_has_units_and_their_sound(self) -> None:
        unity, text, units = taught()
        translator = Translator(unity, text, units, unit_search=replace(UNIT_SEARCH, per_source=2.0))
        rows = translator.translate_rows(_mixed(), speak=True)
        again = translator.translate_rows(_mixed(), speak=True)
        for row, other in zip(rows, again, strict=True):
            assert row.waveform is not None and other.waveform is not None and row.units
            assert row.waveform.dtype == np.float32 and np.abs(row.waveform).max() <= 1
            assert len(row.waveform) % 320 == 0 and len(row.waveform) >= 320 * len(
                row.units
            )  # each lasts a frame or more
            assert np.array_equal(row.waveform, other.waveform)

    def test_units_are_those_of_the_states_of_a_text_without_its_end(self) -> None:
        unity, text, units = taught()
        for one in Translator(unity, text, units).translate_rows(
            [Source("fra", s, "eng") for s in ENGLISH], units=True
        ):
            written = [text.eos, text.tag("fra"), *one.tokens]
            sources, mask = padded([text.source(ENGLISH[FRENCH.index(one.text)], "eng")])
            spoken = torch.tensor([units.target(one.units or (), "fra")])
            with torch.no_grad():
                hidden = unity.decode_text(torch.tensor([written]), *unity.encode_text(sources, mask))
                table = torch.log_softmax(unity.decode_units(hidden, torch.ones(1, len(written)), spoken[:, :-1]), -1)
            total = float(table[0, 1:].gather(1, spoken[0, 2:, None]).sum())
            assert one.unit_score == pytest.approx(total / (len(one.units or ()) + 1), abs=1e-6)

    @given(st.lists(st.integers(0, 12), min_size=1, max_size=4), st.integers(20, 80))
    @settings(max_examples=6, deadline=None, phases=[Phase.generate])
    def test_rows_sound_as_each_does_alone_in_transformers(self, lengths: list[int], frames: int) -> None:
        text, units = tiny_text(), tiny_units()
        unity = tiny_unity(text, units, seed=4, upsample_initial_channel=32)
        for module in unity.vocoder.modules():
            if isinstance(module, torch.nn.Conv1d | torch.nn.ConvTranspose1d):
                torch.nn.init.normal_(module.bias, std=0.1)  # so that what is padded becomes a sound
        torch.nn.init.normal_(unity.vocoder.dur_predictor.proj.weight, std=0.3)
        torch.nn.init.constant_(unity.vocoder.dur_predictor.proj.bias, 1.0)  # units last 1 to 4 frames
        rng = np.random.default_rng(sum(lengths))
        rows = [(rng.integers(0, 12, n).tolist(), ("eng", "fra")[n % 2]) for n in lengths]
        found = Translator(unity, text, units, batches=BatchLimits(frames=frames)).speak_rows(rows)
        for (said, lang), sound in zip(rows, found, strict=True):
            if not said:
                assert sound.shape == (0,)
                continue
            ids, language = torch.tensor([said]), torch.tensor([[unity.vocoder_languages[lang]]])
            with torch.no_grad():
                theirs, _ = unity.vocoder(ids, torch.tensor([[0]]), language)
            assert len(sound) == theirs.shape[-1] >= 320 * len(said)
            np.testing.assert_allclose(sound, theirs.reshape(-1).numpy(), atol=1e-4)  # sums of other order; ±1

    def test_no_units_are_no_sound(self) -> None:
        unity, text, units = taught()
        assert Translator(unity, text, units).speak([], "fra").shape == (0,)

    def test_who_speaks_and_which_language_is_heard(self) -> None:
        text, units = tiny_text(), tiny_units()
        unity = tiny_unity(text, units, vocoder_num_spkrs=2)
        translator = Translator(unity, text, units)
        sounds = [translator.speak([1, 2, 3], lang, speaker) for lang in ("eng", "fra") for speaker in (0, 1)]
        assert all(not np.array_equal(a, b) for i, a in enumerate(sounds) for b in sounds[:i] if len(a) == len(b))


class TestErrors:
    @pytest.mark.parametrize(
        ("source", "message"),
        [
            (Source("fra"), "either text or speech"),
            (Source("fra", "a", "eng", np.zeros(9000, np.float32)), "either text or speech"),
            (Source("fra", "a cat"), "its language"),
            (Source("deu", "a cat", "eng"), "'deu' has no tag"),
            (Source("fra", "a cat", "deu"), "'deu' has no tag"),
            (Source("fra", waveform=np.zeros(500, np.float32)), "560 are needed"),
        ],
    )
    def test_a_source_that_cannot_be_translated_is_named(self, source: Source, message: str) -> None:
        unity, text, units = taught()
        with pytest.raises(InputError, match=message):
            Translator(unity, text, units).translate_rows([source])

    def test_speech_of_a_model_that_makes_none(self) -> None:
        text, units = tiny_text(), tiny_units("eng")
        source = Source("fra", "a cat", "eng")
        silent = Translator(tiny_unity(text, None), text)
        with pytest.raises(ConfigError, match="no speech"):
            silent.translate_rows([source], speak=True)
        with pytest.raises(ConfigError, match="no units"):
            silent.translate_rows([source], units=True)
        english = Translator(tiny_unity(text, units), text, units)
        with pytest.raises(ConfigError, match="speaks eng, not fra"):
            english.translate_rows([source], speak=True)
        with pytest.raises(ConfigError, match="speakers 0 to 0"):
            english.translate_rows([Source("eng", "un chat", "fra")], speak=True, speaker=1)
