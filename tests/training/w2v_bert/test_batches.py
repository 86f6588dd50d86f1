"""Batches: every piece once an epoch, the same draws in whichever process, nothing but its own in the padding."""

from pathlib import Path

import numpy as np
import pytest
import torch

from seamlessalign.embedders.sonar.features import features
from seamlessalign.training.w2v_bert.batches import SpeechBatch, SpeechBatches
from seamlessalign.training.w2v_bert.sources import load_piece, read_pieces
from tests.lid.spoken_world import make_languages
from tests.training.w2v_bert.speech_world import parsed, w2v_bert_keys


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    make_languages(root / "speech", clips=8)
    return root


def _batches(world: Path, rank: int = 0, count: int = 1, held_out: bool = False) -> SpeechBatches:
    config = parsed(w2v_bert_keys(world))
    return SpeechBatches(read_pieces(config.data.train, config.data), config, rank, count, held_out=held_out)


def _epoch(batches: SpeechBatches, epoch: int) -> list[SpeechBatch]:
    return [batches[epoch, place] for place in range(batches.num_batches(epoch))]


def test_every_piece_comes_once_an_epoch_within_the_size_of_a_batch(world: Path) -> None:
    batches = _batches(world)
    seen = [[place for batch in _epoch(batches, epoch) for place in batch.places] for epoch in (0, 1)]
    assert sorted(seen[0]) == sorted(seen[1]) == sorted(piece.place for piece in batches.pieces)
    assert seen[0] != seen[1] and len(_epoch(batches, 0)) > 2
    for batch in _epoch(batches, 0):
        assert batch.rows == 1 or batch.features.shape[0] * batch.features.shape[1] <= 6 * 50
        assert batch.features.shape[:2] == batch.feature_mask.shape == batch.masked.shape
        assert len(batch.distractors) == int(batch.masked.sum())
        assert not (batch.masked & (batch.feature_mask == 0)).any()
        counts = batch.masked.sum(1).tolist()
        for count, others in zip(counts, batch.distractors.split(counts), strict=True):
            assert int(others.max()) < count and not (others == torch.arange(count)[:, None]).any()


def test_features_are_those_of_the_sound(world: Path) -> None:
    batches = _batches(world)
    by_place = {piece.place: piece for piece in batches.pieces}
    batch = batches[0, 0]
    for place, row, real in zip(batch.places, batch.features, batch.feature_mask.sum(1).tolist(), strict=True):
        wanted = features(torch.from_numpy(np.array(load_piece(by_place[place]))))
        assert torch.equal(row[:real], wanted) and not row[real:].any()


def test_processes_share_the_rows_of_a_batch(world: Path) -> None:
    """With the same masks, distractors and seeds; and each says the same number of batches."""
    whole, parts = _batches(world), [_batches(world, rank, 3) for rank in range(3)]
    for place, batch in enumerate(_epoch(whole, 1)):
        counts = batch.masked.sum(1).tolist()
        rows = list(zip(batch.places, batch.seeds, batch.distractors.split(counts), batch.masked, strict=True))
        for rank, part in enumerate(parts):
            mine = part[1, place]
            assert part.num_batches(1) == whole.num_batches(1) and mine.rows == len(rows[rank::3])
            found = zip(mine.places, mine.seeds, mine.distractors.split(mine.masked.sum(1).tolist()), mine.masked)  # noqa: B905
            for ours, wanted in zip(found, rows[rank::3], strict=True):
                assert ours[:2] == wanted[:2] and torch.equal(ours[2], wanted[2])
                assert ours[3].sum() == wanted[3].sum()


def test_draws_are_new_each_epoch_and_what_is_held_out_has_its_own(world: Path) -> None:
    def seeds(batches: SpeechBatches, epoch: int) -> dict[str, int]:
        return {p: s for batch in _epoch(batches, epoch) for p, s in zip(batch.places, batch.seeds, strict=True)}

    first, second = (seeds(_batches(world), epoch) for epoch in (0, 1))
    held, again = (seeds(_batches(world, held_out=True), 0) for _ in range(2))
    assert first.keys() == second.keys() == held.keys() and held == again
    assert len({*first.values(), *second.values(), *held.values()}) == 3 * len(first)


def test_what_cannot_be_heard_is_counted(tmp_path: Path) -> None:
    make_languages(tmp_path / "speech", clips=2)
    batches = _batches(tmp_path, held_out=True)
    for file in (tmp_path / "speech").glob("*.flac"):
        file.unlink()
    batch = batches[0, 0]
    assert batch.rows == 0 and set(batch.rejects.values()) == {"missing"}
    assert batch.features.shape == (0, 0, 160) and batch.distractors.shape == (0, 5)
