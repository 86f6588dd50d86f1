"""The generator against transformers' class as it stands: its size, its durations, its speech, its weights."""

from pathlib import Path
from typing import Any

import pytest
import torch

from seamlessalign.errors import ConfigError
from seamlessalign.training.vocoder.generator import (
    _dropped,
    durations_of,
    log_durations,
    make_generator,
    plain,
    speech_of,
)
from seamlessalign.training.vocoder.sizes import VocoderSizes
from tests.training.vocoder.tone_world import UNITS, parsed, vocoder_config


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.manual_seed(3)
    made = make_generator(parsed(vocoder_config(tmp_path_factory.mktemp("w"))).model, 2, 3).eval()
    with torch.no_grad():
        made.dur_predictor.proj.bias += 1.2  # so that durations are not all 1
        made.dur_predictor.proj.weight *= 4
    return made


def test_the_published_size_is_that_of_transformers() -> None:
    from transformers import SeamlessM4TCodeHifiGan, SeamlessM4TConfig

    with torch.device("meta"):
        theirs = SeamlessM4TCodeHifiGan(SeamlessM4TConfig())
        sizes = VocoderSizes()
        ours = SeamlessM4TCodeHifiGan(SeamlessM4TConfig(**sizes.fields(36, 200)))
    shapes = {name: value.shape for name, value in theirs.state_dict().items()}
    assert shapes == {name: value.shape for name, value in ours.state_dict().items()}
    assert sum(value.numel() for value in ours.parameters()) == sum(value.numel() for value in theirs.parameters())


def test_durations_of_a_batch_are_those_of_each_row(generator: Any) -> None:
    units = torch.tensor([[0, 3, 1, 5, 2], [4, 2, 0, 0, 0], [1, 0, 0, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]], dtype=torch.bool)
    found = log_durations(generator, units, mask)
    for row, length in enumerate(mask.sum(1)):
        alone = generator.dur_predictor(generator.unit_embedding(units[row : row + 1, :length]))
        torch.testing.assert_close(found[row : row + 1, :length], alone, atol=1e-6, rtol=1e-5)


def test_dropout_follows_from_the_seed_of_a_row(tmp_path: Path) -> None:
    torch.manual_seed(3)
    made = make_generator(parsed(vocoder_config(tmp_path, model__duration_dropout=0.4)).model, 2, 3)
    units = torch.tensor([[0, 3, 1, 5, 2], [4, 2, 0, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], dtype=torch.bool)
    state = torch.get_rng_state()
    found = log_durations(made, units, mask, [8, 9])
    assert torch.equal(torch.get_rng_state(), state)  # nothing of torch's own generator is drawn
    for row, (length, seed) in enumerate(zip((5, 2), (8, 9), strict=True)):
        alone = log_durations(made, units[row : row + 1, :length], mask[row : row + 1, :length], [seed])
        torch.testing.assert_close(found[row, :length], alone[0], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(found[mask], log_durations(made, units, mask, [8, 10])[mask])
    assert not torch.allclose(found[mask], log_durations(made, units, mask)[mask])


def test_dropout_is_of_the_share_and_keeps_the_mean() -> None:
    rows = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    factors = _dropped(rows, [300, 200], 50, 0.4)
    assert factors.shape == (2, 300, 50) and not factors[1, 200:].any()
    there = torch.cat([factors[0], factors[1, :200]])
    assert there.unique().tolist() == pytest.approx([0, 1 / 0.6])
    assert float(there.mean()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("logarithm", "frames"), [(-3.0, 1), (0.0, 1), (0.9163, 2), (0.9162, 1), (1.386294, 3)])
def test_durations_are_rounded_and_at_least_one(logarithm: float, frames: int) -> None:
    """max(1, round(e^p − 1)): e^0.91629 = 2.5 is where 1 ends."""
    assert durations_of(torch.tensor([logarithm])).tolist() == [frames]


def test_speech_is_that_of_transformers_at_the_durations_that_it_finds(generator: Any) -> None:
    units, tables = torch.tensor([[0, 3, 1, 5]]), (torch.tensor([[1]]), torch.tensor([[2]]))
    with torch.no_grad():
        theirs, _ = generator(input_ids=units, lang_id=tables[0], spkr_id=tables[1])
        durations = durations_of(log_durations(generator, units, torch.ones(1, 4, dtype=torch.bool)))[0]
        ours = speech_of(generator, units[0].repeat_interleave(durations)[None], *tables)
    assert len(set(durations.tolist())) > 1 and ours.shape == (1, 320 * int(durations.sum()))
    assert torch.equal(ours, theirs)


def test_weight_normalisation_is_worked_in_bit_for_bit(generator: Any) -> None:
    state = torch.get_rng_state()
    made = plain(generator)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any("parametrizations" in name for name in made.state_dict())
    given = (torch.tensor([[1, 2, 3]]), torch.tensor([[0]]), torch.tensor([[1]]))
    with torch.no_grad():
        assert torch.equal(made(*given)[0], generator(*given)[0])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"upsample_rates": [5, 4, 4, 2, 4]}, r"upsample_rates must multiply to 320"),
        ({"upsample_kernels": [11, 8, 8, 4]}, "equally many"),
        ({"upsample_kernels": [11, 8, 8, 4, 3]}, "not 3 of 2"),
        ({"resblock_kernels": [3, 8]}, "resblock_kernels must be odd"),
        ({"channels": 40}, "channels 40 cannot be halved 5 times"),
    ],
)
def test_sizes_that_make_no_speech_are_refused(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    config = vocoder_config(tmp_path)
    config["model"] = {"size": "tiny", "units": UNITS} | change
    with pytest.raises(ConfigError, match=told):
        parsed(config)
