"""Utterances from files: what they are, and why some are set aside. Recordings, spans and batches made of them."""

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.embedders.student import augment
from seamlessalign.embedders.student.data import Utterance, load_speech, read_sources
from seamlessalign.embedders.student.frames import Float32
from seamlessalign.embedders.student.recordings import (
    Plan,
    Recording,
    draw_spans,
    epoch_batches,
    hidden_frames,
    joined_meaning,
    make_recording,
    plan_recordings,
)
from seamlessalign.embedders.student.targets import label
from seamlessalign.embedders.student.training_config import AugmentConfig, DataConfig, SourceConfig, SpansConfig
from seamlessalign.embedders.student.validation import hold_out
from seamlessalign.errors import InputError, UnreadableError
from seamlessalign.rows import SAMPLE_RATE
from tests.embedders.student_world import make_speech, say, sentences


def _source(kind: str, path: Path, **more: Any) -> SourceConfig:
    return SourceConfig.model_validate({"kind": kind, "path": str(path)} | more)


def _read(*sources: SourceConfig, **more: Any) -> tuple[list[Utterance], Counter[str]]:
    rejects: Counter[str] = Counter()
    data = DataConfig.model_validate({"train": list(sources)} | more)
    return read_sources(sources, data, rejects), rejects


def _flac(samples: Float32, rate: int = SAMPLE_RATE) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="FLAC")
    return buffer.getvalue()


class TestFolder:
    def test_rows_of_a_manifest(self, tmp_path: Path) -> None:
        folder = make_speech(tmp_path / "speech", 5)
        found, rejects = _read(_source("folder", folder, translations={"deu": "back"}))
        assert [u.text for u in found] == sentences(5) and not rejects
        for i, utterance in enumerate(found):
            assert utterance.lang == "eng" and utterance.seconds == len(utterance.text.split()) / 5
            assert utterance.translations == (("deu", " ".join(reversed(utterance.text.split()))),)
            assert np.abs(load_speech(utterance) - say(utterance.text, i)).max() < 1e-4
        assert len({u.key for u in found}) == 5

    def test_json_lines_are_the_same(self, tmp_path: Path) -> None:
        folder = make_speech(tmp_path / "speech", 5)
        lines = [json.dumps({"path": f"{i}.flac", "text": text}) for i, text in enumerate(sentences(5))]
        (folder / "more.jsonl").write_text("\n".join(lines))
        with pytest.raises(InputError, match=r"holds 2 \.tsv and \.jsonl files"):
            _read(_source("folder", folder))
        ours, _ = _read(_source("folder", folder / "more.jsonl", lang="eng"))
        theirs, _ = _read(_source("folder", folder / "speech.tsv"))
        assert [(u.key, u.text, u.lang) for u in ours] == [(u.key, u.text, u.lang) for u in theirs]

    def test_what_is_set_aside_has_a_reason(self, tmp_path: Path) -> None:
        folder = make_speech(tmp_path / "speech", 2)
        soundfile.write(folder / "short.wav", np.ones(1000) * 0.1, SAMPLE_RATE)
        soundfile.write(folder / "long.wav", np.ones(SAMPLE_RATE * 25) * 0.1, SAMPLE_RATE)
        (folder / "text.wav").write_text("no sound")
        (folder / "empty.wav").write_bytes(b"")
        rows = [
            ("short.wav", "red", "eng"), ("long.wav", "red", "eng"), ("text.wav", "red", "eng"),
            ("empty.wav", "red", "eng"), ("none.wav", "red", "eng"), ("0.flac", " ?! ", "eng"), ("0.flac", "", "eng"),
            ("0.flac", "a" * 100_000, "eng"), ("0.flac", "red", "klingon"), ("0.flac", "red", "en"),
        ]  # fmt: skip
        with (folder / "speech.tsv").open("a") as file:
            file.writelines(f"{path}\t{text}\t{lang}\t\n" for path, text, lang in rows)
        found, rejects = _read(_source("folder", folder))
        assert len(found) == 2
        assert rejects == {
            "too_short": 1, "too_long": 1, "not_audio": 1, "empty": 1, "missing": 1, "empty_text": 2,
            "text_too_long": 1, "unknown_language": 2,
        }  # fmt: skip
        assert sum(rejects.values()) + len(found) == 12

    def test_a_manifest_that_lacks_a_column(self, tmp_path: Path) -> None:
        folder = make_speech(tmp_path / "speech", 2)
        with pytest.raises(InputError, match="lacks the columns sound, words; there are path, text, lang, back"):
            _read(_source("folder", folder, audio="sound", text="words"))
        with pytest.raises(InputError, match=r"lacks the columns language \(or give the source's lang\)"):
            _read(_source("folder", folder, lang_column="language"))

    def test_nothing_usable_is_an_error_that_says_why(self, tmp_path: Path) -> None:
        folder = make_speech(tmp_path / "speech", 3)
        with pytest.raises(InputError, match=r"nothing to learn from: 3 too_short \(first: .*row 0\)"):
            _read(_source("folder", folder), min_seconds=5)

    def test_a_line_that_is_no_json(self, tmp_path: Path) -> None:
        (tmp_path / "m.jsonl").write_text('{"path": "a", "text": "b", "lang": "eng"}\n[1]\n')
        with pytest.raises(InputError, match=r"m\.jsonl line 2: is no JSON object"):
            _read(_source("folder", tmp_path / "m.jsonl"))


class TestParquet:
    @pytest.mark.parametrize("form", ["struct", "bytes", "path"])
    def test_sound_in_every_form(self, tmp_path: Path, form: str) -> None:
        texts = sentences(7)
        sounds = [_flac(say(text, i)) for i, text in enumerate(texts)]
        for i, sound in enumerate(sounds):
            (tmp_path / f"{i}.flac").write_bytes(sound)
        forms: dict[str, list[Any]] = {
            "struct": [{"bytes": sound, "path": "x.flac"} for sound in sounds],
            "bytes": sounds,
            "path": [f"{i}.flac" for i in range(7)],
        }
        table = pa.table({"audio": forms[form], "sentence": texts, "lang": ["eng"] * 7, "german": [None, *texts[1:]]})
        pq.write_table(table, tmp_path / "part-0.parquet", row_group_size=3)
        found, rejects = _read(_source("parquet", tmp_path, text="sentence", translations={"deu": "german"}))
        assert [u.text for u in found] == texts and not rejects
        assert found[0].translations == () and found[3].translations == (("deu", texts[3]),)
        for i in (6, 0, 3, 2):
            assert np.abs(load_speech(found[i]) - say(texts[i], i)).max() < 1e-4

    def test_rows_without_sound_are_counted(self, tmp_path: Path) -> None:
        sound = _flac(say("red cat"))
        rows = [
            {"bytes": sound, "path": None},
            None,
            {"bytes": b"junk", "path": None},
            {"bytes": None, "path": "no.wav"},
        ]
        pq.write_table(pa.table({"audio": rows, "text": ["red"] * 4}), tmp_path / "a.parquet")
        found, rejects = _read(_source("parquet", tmp_path / "a.parquet", lang="eng"))
        assert len(found) == 1 and rejects == {"missing": 2, "not_audio": 1}

    def test_what_is_no_parquet(self, tmp_path: Path) -> None:
        (tmp_path / "a.parquet").write_text("no")
        with pytest.raises(InputError, match="is not a readable Parquet file"):
            _read(_source("parquet", tmp_path / "a.parquet", lang="eng"))
        with pytest.raises(InputError, match="there are no Parquet files"):
            _read(_source("parquet", tmp_path / "none", lang="eng"))


class TestEspeak:
    def test_voices_and_speeds_take_turns(self, tmp_path: Path) -> None:
        pytest.importorskip("espeakng_loader", reason="needs espeakng-loader of the extra 'train'")
        (tmp_path / "fr.txt").write_text("Bonjour.\n\nLe chat dort.\nBonsoir.\nMerci.\n")
        (tmp_path / "en.txt").write_text("Hello.\n\nThe cat sleeps.\n\nThanks.\n")
        source = _source(
            "espeak", tmp_path / "fr.txt", lang="fra", voices=["fr", "fr+f2"], words_per_minute=[150, 200],
            translations={"eng": str(tmp_path / "en.txt")},
        )  # fmt: skip
        found, rejects = _read(source)
        assert rejects == {"empty_text": 1}
        assert [(u.sound.voice, u.sound.words_per_minute) for u in found] == [
            ("fr", 150), ("fr", 200), ("fr+f2", 200), ("fr", 150),
        ]  # fmt: skip
        assert [u.translations for u in found] == [
            (("eng", "Hello."),), (("eng", "The cat sleeps."),), (), (("eng", "Thanks."),),
        ]  # fmt: skip
        first = load_speech(found[1])
        load_speech(found[0])
        assert np.array_equal(first, load_speech(found[1])) and 0.4 < len(first) / SAMPLE_RATE < 3

    def test_what_cannot_be_read_out(self, tmp_path: Path) -> None:
        pytest.importorskip("espeakng_loader", reason="needs espeakng-loader of the extra 'train'")
        (tmp_path / "a.txt").write_text("a\nb\n")
        (tmp_path / "b.txt").write_text("a\n")
        translations = {"eng": str(tmp_path / "b.txt")}
        with pytest.raises(InputError, match="has no voice 'frx'"):
            _read(_source("espeak", tmp_path / "a.txt", lang="fra", voices=["fr", "frx"]))
        with pytest.raises(InputError, match=r"b\.txt: has 1 lines, .*a\.txt 2"):
            _read(_source("espeak", tmp_path / "a.txt", lang="fra", voices=["fr"], translations=translations))


def _utterances(tmp_path: Path, count: int = 12) -> list[Utterance]:
    return _read(_source("folder", make_speech(tmp_path / "speech", count), translations={"deu": "back"}))[0]


class TestRecordings:
    def test_plans_take_every_utterance_once(self, tmp_path: Path) -> None:
        utterances = _utterances(tmp_path, 11)
        plans = plan_recordings(utterances, SpansConfig(utterances=4), 7)
        assert sorted(i for plan in plans for i in plan.members) == list(range(11))
        assert [len(plan.members) for plan in plans] == [4, 4, 3]
        assert plans == plan_recordings(utterances, SpansConfig(utterances=4), 7)
        assert plans != plan_recordings(utterances, SpansConfig(utterances=4), 8)

    def test_a_recording_is_its_utterances_with_silence_between(self, tmp_path: Path) -> None:
        utterances = _utterances(tmp_path)
        plan = Plan(0, (3, 5, 1), (800, 1600), False, 2.0)
        made = make_recording(plan, utterances, AugmentConfig(), 0, 0)
        assert made.waveform is not None
        for (start, end), number in zip(made.bounds.tolist(), plan.members, strict=True):
            assert np.array_equal(made.waveform[start:end], load_speech(utterances[number]))
        assert (made.bounds[1:, 0] - made.bounds[:-1, 1]).tolist() == [800, 1600]
        assert np.array_equal(made.fragments, made.bounds)
        whole = make_recording(Plan(0, (3, 5, 1), (800, 1600), True, 2.0), utterances, AugmentConfig(), 0, 0)
        assert whole.fragments.tolist() == [[0, made.bounds[-1, 1]]]

    def test_an_utterance_that_cannot_be_heard_is_left_out(self, tmp_path: Path) -> None:
        utterances = _utterances(tmp_path)
        Path(utterances[5].sound.path).write_text("gone")
        made = make_recording(Plan(0, (3, 5, 1), (800, 1600), False, 2.0), utterances, AugmentConfig(), 0, 0)
        assert made.members == [0, 2] and made.rejects == [(1, "not_audio")] and len(made.bounds) == 2
        only = make_recording(Plan(0, (5,), (), False, 2.0), utterances, AugmentConfig(), 0, 0)
        assert only.members == [] and only.waveform is None
        with pytest.raises(UnreadableError, match="not_audio"):
            load_speech(utterances[5])

    @given(st.integers(1, 6), st.integers(0, 4), st.integers(2, 4), st.integers(0, 1000))
    @settings(max_examples=40, deadline=None)
    def test_spans_are_runs_of_utterances(self, count: int, runs: int, most: int, epoch: int) -> None:
        edges = np.sort(np.random.default_rng(epoch).choice(100_000, 2 * count, replace=False)).reshape(-1, 2)
        recording = Recording(Plan(4, tuple(range(count)), (), False, 1), "eng", list(range(count)), edges, edges, [])
        config = SpansConfig(utterances=6, runs=runs, max_run=most, cut_off=0.5)
        spans = draw_spans(recording, config, 0, epoch)
        assert spans.members[:count] == tuple((i, i + 1) for i in range(count))
        assert len(set(spans.members)) == len(spans.members) <= count + runs
        for (start, end), (first, last) in zip(spans.ranges.tolist(), spans.members, strict=True):
            assert 1 <= last - first <= max(1, min(most, count))
            assert (start, end) == (edges[first, 0], edges[last - 1, 1])
        for start, end in spans.cut_off.tolist():
            (whole,) = [edge for edge in edges.tolist() if edge[0] <= start and end <= edge[1]]
            assert (start == whole[0]) != (end == whole[1]) or whole[1] - whole[0] < 4
            assert end - start <= 0.7 * (whole[1] - whole[0])
        assert draw_spans(recording, config, 0, epoch).members == spans.members

    @given(st.lists(st.integers(1, 3), min_size=1, max_size=60), st.integers(1, 20), st.integers(0, 100))
    @settings(max_examples=40, deadline=None)
    def test_batches_take_every_recording_once(self, sizes: list[int], batch: int, epoch: int) -> None:
        seconds = np.random.default_rng(epoch).uniform(1, 20, len(sizes))
        plans = [
            Plan(i, tuple(range(n)), (), False, float(s)) for i, (n, s) in enumerate(zip(sizes, seconds, strict=True))
        ]
        batches = epoch_batches(plans, batch, 3, epoch)
        assert sorted(i for members in batches for i in members) == list(range(len(sizes)))
        assert all(sum(sizes[i] for i in members) <= max(batch, 3) for members in batches)
        assert batches == epoch_batches(plans, batch, 3, epoch)

    def test_batches_hold_recordings_of_like_length(self) -> None:
        rng = np.random.default_rng(0)
        plans = [Plan(i, (0,), (), False, float(s)) for i, s in enumerate(rng.uniform(1, 20, 1000))]
        batches = epoch_batches(plans, 10, 0, 0)
        spread = np.mean([np.ptp([plans[i].seconds for i in members]) for members in batches])
        assert spread < 0.6 and batches != epoch_batches(plans, 10, 0, 1)

    def test_a_joined_text_has_the_translations_that_all_have(self, tmp_path: Path) -> None:
        a, b = _utterances(tmp_path, 2)
        lang, text, translations = joined_meaning([a, b])
        assert (lang, text) == ("eng", f"{a.text} {b.text}")
        assert translations == {"deu": f"{dict(a.translations)['deu']} {dict(b.translations)['deu']}"}
        lacking = Utterance(b.key, b.place, b.lang, b.text, (), b.seconds, b.sound)
        assert joined_meaning([a, lacking])[2] == {}


class TestHoldOut:
    def test_no_text_and_no_translation_is_on_both_sides(self, tmp_path: Path) -> None:
        one = _utterances(tmp_path, 60)[0]
        rng = np.random.default_rng(0)
        utterances = []
        for i in range(300):
            number = int(rng.integers(0, 90))
            lang, text = [("eng", f"text {number}"), ("fra", f"texte {number}")][i % 2]
            translations = (("eng", f"text {number}"),) if lang == "fra" else ()
            utterances.append(Utterance(str(i), "", lang, text, translations, 1.0, one.sound))
        learnt, held_out = hold_out(utterances, 0.2)
        assert len(learnt) + len(held_out) == 300 and 20 < len(held_out) < 110

        def said(side: list[Utterance]) -> set[int]:
            return {label(text) for u in side for text in (u.text, *dict(u.translations).values())}

        assert not said(learnt) & said(held_out)

    def test_too_little_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"2 utterances are too few to hold out a share of 0\.05"):
            hold_out(_utterances(tmp_path, 2), 0.05)


class TestAugment:
    everything = AugmentConfig(noise=1.0, speed=0.2, gain_db=6, mask=0.3, mask_frames=5)

    def test_the_same_numbers_give_the_same_sound(self, tmp_path: Path) -> None:
        utterances = _utterances(tmp_path)
        plan = Plan(2, (0, 1), (500,), False, 1.0)
        first, second, other = (
            make_recording(plan, utterances, self.everything, 0, variant).waveform for variant in (4, 4, 5)
        )
        assert first is not None and second is not None and other is not None
        assert np.array_equal(first, second) and not np.array_equal(first, other)

    @pytest.mark.parametrize("colour", [0.0, 1.0, 2.0])
    def test_noise_is_as_loud_as_asked(self, colour: float) -> None:
        waveform = say("red cat runs far")
        noisy = augment.add_noise(waveform, 12.0, colour, np.random.default_rng(0))
        noise = noisy.astype(np.float64) - waveform
        snr = 10 * np.log10(np.mean(waveform.astype(np.float64) ** 2) / np.mean(noise**2))
        assert snr == pytest.approx(12.0, abs=0.01)
        power = np.abs(np.fft.rfft(noise)) ** 2
        octaves = [power[2**i : 2 ** (i + 1)].mean() for i in range(8, 13)]
        assert np.polyfit(range(5), np.log2(octaves), 1)[0] == pytest.approx(-colour, abs=0.25)

    def test_speed_changes_length_and_pitch(self) -> None:
        tone = np.sin(2 * np.pi * 1000 * np.arange(SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32)
        fast = augment.change_speed(tone, 1.25)
        assert len(fast) == pytest.approx(SAMPLE_RATE / 1.25, abs=2)
        assert np.abs(np.fft.rfft(fast)).argmax() * SAMPLE_RATE / len(fast) == pytest.approx(1250, abs=2)
        assert augment.change_speed(tone, 1.001) is tone

    def test_gain_is_in_decibels(self) -> None:
        assert np.allclose(augment.change_gain(np.ones(3, np.float32), -20.0), 0.1)

    def test_frames_are_hidden_in_stretches(self) -> None:
        seen = [hidden_frames(self.everything, 0, epoch, 3, 400) for epoch in range(40)]
        assert all(mask is not None and set(np.unique(mask)) <= {0.0, 1.0} for mask in seen)
        share = float(np.mean([1 - mask for mask in seen if mask is not None]))
        assert 0.2 < share < 0.31  # stretches overlap
        again = hidden_frames(self.everything, 0, 5, 3, 400)
        assert again is not None and seen[5] is not None and np.array_equal(again, seen[5])
        assert hidden_frames(AugmentConfig(), 0, 0, 0, 400) is None
