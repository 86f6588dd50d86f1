"""Batch normalisation over real frames: against torch's on frames without padding."""

from typing import Any

import pytest
import torch
from torch import nn

from seamlessalign.training.unity.frame_norm import FrameNorm1d, nothing_counts, with_frame_norms
from tests.training.unity.made_rows import batch_of, item, made_unity


def _norms() -> tuple[Any, FrameNorm1d]:
    torch.manual_seed(0)
    theirs, ours = nn.BatchNorm1d(5), FrameNorm1d(5)
    for value in (theirs.weight, theirs.bias):
        nn.init.normal_(value)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


class TestFrameNorm:
    def test_real_frames_are_all_that_there_is(self) -> None:
        """Rows of 7 and 4 frames, padded with large numbers, against torch's norm on their 11 frames."""
        theirs, ours = _norms()
        frames = torch.randn(11, 5)
        padded = torch.full((2, 5, 7), 1e3)
        padded[0], padded[1, :, :4] = frames[:7].T, frames[7:].T
        frames.requires_grad_()
        padded.requires_grad_()
        ours.real = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
        pull = torch.randn(11, 5)
        wanted, found = theirs(frames), ours(padded)
        found = torch.cat([found[0].T, found[1, :, :4].T])
        torch.testing.assert_close(found, wanted)
        (wanted * pull).sum().backward()
        (found * pull).sum().backward()
        assert padded.grad is not None and frames.grad is not None
        torch.testing.assert_close(torch.cat([padded.grad[0].T, padded.grad[1, :, :4].T]), frames.grad)
        assert not padded.grad[1, :, 4:].any()
        for name, value in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], value)
        torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)

    def test_in_evaluation_it_is_torchs(self) -> None:
        theirs, ours = _norms()
        theirs.running_mean.normal_(), ours.running_mean.copy_(theirs.running_mean)
        x = torch.randn(2, 5, 7)
        assert torch.equal(ours.eval()(x), theirs.eval()(x))


class TestInTheEncoder:
    def test_padding_changes_neither_states_nor_statistics(self) -> None:
        """Two rows with 40 more frames behind them, while training."""
        batch = batch_of([item("asr", 1), item("asr", 5)])
        found = []
        for more in (0, 40):
            unity = with_frame_norms(made_unity())
            unity.train()
            features = torch.nn.functional.pad(batch.features, (0, 0, 0, more))
            states, _ = unity.encode_speech(features, torch.nn.functional.pad(batch.feature_mask, (0, more)))
            norms = [m for m in unity.modules() if isinstance(m, FrameNorm1d)]
            assert norms and all(int(norm.num_batches_tracked) == 1 for norm in norms)
            found.append((states[:, :3], norms[0].running_mean, norms[0].running_var))
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
        assert found[0][1].abs().max() > 0

    def test_parameters_and_buffers_stay_those_that_they_are(self) -> None:
        unity = made_unity()
        before = {name: value.data_ptr() for name, value in unity.state_dict(keep_vars=True).items()}
        with_frame_norms(unity)
        after = unity.state_dict(keep_vars=True)
        assert {name: value.data_ptr() for name, value in after.items()} == before
        assert all(type(module) is not nn.BatchNorm1d for module in unity.modules())

    def test_speech_that_does_not_count_leaves_no_trace(self) -> None:
        unity = with_frame_norms(made_unity())
        unity.train()
        norm = next(m for m in unity.modules() if isinstance(m, FrameNorm1d))
        before = norm.running_mean.clone()
        with pytest.raises(KeyError), nothing_counts(unity):
            states, _ = unity.encode_speech(torch.randn(1, 16, 160), torch.ones(1, 16, dtype=torch.long))
            assert torch.isfinite(states).all()
            raise KeyError
        assert torch.equal(norm.running_mean, before)
        unity.encode_speech(torch.randn(1, 16, 160), torch.ones(1, 16, dtype=torch.long))
        assert float(norm.running_mean.abs().max()) > 0.0
