"""Modules built to be filled: nothing is drawn for them, and outside of that everything is as before."""

import pytest

from seamlessalign.unfilled_modules import unfilled

torch = pytest.importorskip("torch", reason="needs the extra 'embedded'")


def test_no_random_number_is_drawn() -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    before = torch.get_rng_state()
    with unfilled():
        made = [BertModel(config), torch.nn.Linear(3, 5), torch.nn.Conv1d(2, 2, 3), torch.nn.Embedding(4, 4)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(made[0].encoder.layer[0].output.LayerNorm.weight, torch.ones(16))  # what is not drawn is set
    torch.nn.Linear(3, 5)
    assert not torch.equal(torch.get_rng_state(), before)


def test_filled_it_is_the_one_that_was_stored() -> None:
    stored = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.LayerNorm(5))
    with unfilled():
        made = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.LayerNorm(5))
    made.load_state_dict(stored.state_dict())
    rows = torch.randn(7, 3)
    assert torch.equal(made(rows), stored(rows))
    made(rows).sum().backward()
    assert all(parameter.grad is not None for parameter in made.parameters())
