"""Segments: sound and units of the same place, the same for the same seed, shared out over processes."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from seamlessalign.errors import InputError, UnreadableError
from seamlessalign.speech_sources import Sound
from seamlessalign.training.vocoder.segments import SegmentBatches, sound_of
from seamlessalign.training.vocoder.sources import Utterance

SEGMENT = 10


def _utterance(folder: Path, name: str, units: list[int], durations: list[int], lacking: int = 0) -> Utterance:
    """Its samples are the unit's number over 100, at every place where it is."""
    sound = np.repeat(np.array(units) / 100, np.array(durations) * 320).astype(np.float32)
    file = folder / f"{name}.wav"
    soundfile.write(file, sound[: len(sound) - lacking] if lacking >= 0 else np.pad(sound, (0, -lacking)), 16000)
    parts = (np.array(units, np.int32), np.array(durations, np.int32))
    return Utterance(name, name, "eng", "a", len(sound) / 16000, Sound(str(file)), *parts)


@pytest.fixture
def utterances(tmp_path: Path) -> list[Utterance]:
    return [
        _utterance(tmp_path, "short", [3, 5], [4, 7]),
        _utterance(tmp_path, "long", [7, 2, 9, 4, 11], [9, 30, 1, 12, 60]),
        _utterance(tmp_path, "cut", [6, 8, 1], [9, 9, 9], lacking=400),
        _utterance(tmp_path, "more", [6, 8, 2], [9, 9, 9], lacking=-500),
    ]


def _batches(utterances: list[Utterance], rank: int = 0, world: int = 1, seed: int = 0) -> SegmentBatches:
    return SegmentBatches(
        utterances, {"eng": 0}, {"a": 0}, segment=SEGMENT, batch=7, seed=seed, rank=rank, world=world
    )  # fmt: skip


def test_sound_is_as_long_as_its_units(utterances: list[Utterance]) -> None:
    for one in utterances:
        assert len(sound_of(one)) == 320 * one.num_frames
    assert (sound_of(utterances[2])[-400:] == 0).all()


def test_sound_of_another_length_is_not_used(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match=r"units_do_not_fit: far: 5120 samples for 21 units"):
        sound_of(_utterance(tmp_path, "far", [5, 6], [1, 20], lacking=1600))


def test_sound_and_units_are_of_one_place(utterances: list[Utterance]) -> None:
    batches, seen = _batches(utterances), Counter[str]()
    for number in range(60):
        batch = batches[0, number]
        assert batch.frames.shape == (7, SEGMENT) and batch.speech.shape == (7, SEGMENT * 320)
        told = batch.frames.repeat_interleave(320, 1).float() / 100
        close = (batch.speech - told).abs() < 1e-3
        cut = torch.tensor([place == "cut" for place in batch.places])[:, None]
        assert (close | cut & (batch.speech == 0)).all()  # silence stands for what lacked
        for row, place in enumerate(batch.places):
            one = next(one for one in utterances if one.key == place)
            there = batch.durations[row] > 0
            assert batch.units[row][there].tolist() == one.units.tolist()
            assert batch.durations[row][there].tolist() == one.durations.tolist()
            seen[place] += 1
    assert seen["long"] / seen["short"] > 10  # 103 places of a segment against 2


def test_they_follow_from_the_seed_and_are_shared_out(utterances: list[Utterance]) -> None:
    whole, again = _batches(utterances)[0, 3], _batches(utterances)[0, 3]
    parts = [_batches(utterances, rank, 2)[0, 3] for rank in (0, 1)]
    for name in ("frames", "speech", "languages"):
        value = getattr(whole, name)
        assert torch.equal(value, getattr(again, name))
        assert torch.equal(value[0::2], getattr(parts[0], name)) and torch.equal(value[1::2], getattr(parts[1], name))
    assert whole.places[1::2] == parts[1].places and whole.seeds[1::2] == parts[1].seeds
    assert len(set(whole.seeds)) == 7
    assert not torch.equal(whole.frames, _batches(utterances, seed=1)[0, 3].frames)
    assert not torch.equal(whole.frames, _batches(utterances)[0, 4].frames)


def test_another_takes_the_place_of_one_that_cannot_be_read(tmp_path: Path, utterances: list[Utterance]) -> None:
    (tmp_path / "long.wav").write_bytes(b"")
    batch = _batches(utterances)[0, 0]
    assert "long" not in batch.places and len(batch.places) == 7 and set(batch.rejects) == {"long"}
    with pytest.raises(InputError, match="long: 20 utterances in turn are unusable"):
        _batches([utterances[1]])[0, 0]
