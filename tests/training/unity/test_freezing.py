"""What is frozen has no gradient, drops nothing out, and stays as it is to the bit, buffers too."""

from typing import Any

import pytest
import torch
from torch import nn

from seamlessalign.errors import ConfigError
from seamlessalign.training.unity.freezing import choose_trained, train_unfrozen


class _Layer(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm, self.dropout = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)

    def forward(self, x: Any) -> Any:
        return self.dropout(self.norm(self.linear(x)))


class _Model(nn.Module):  # type: ignore[misc]
    """Two parts and a weight that both have."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(4, 4, bias=False)
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList([_Layer() for _ in range(11)]), "tied": self.shared})
        self.decoder = nn.ModuleDict({"layer": _Layer(), "tied": self.shared})

    def forward(self, x: Any) -> Any:
        for layer in self.encoder["layers"]:
            x = layer(self.shared(x))
        return self.decoder["layer"](x)


PARTS = {"first": ["encoder"], "second": ["decoder", "shared"]}
SECOND = ["shared.weight", *(f"decoder.layer.{kind}.{name}" for kind in ("linear", "norm") for name in _Layer()
                             .linear.state_dict())]  # fmt: skip


class TestChoice:
    def test_a_part_has_what_is_its_own(self) -> None:
        model = _Model()
        assert choose_trained(model, PARTS, None, ["first"]) == SECOND
        assert [name for name, p in model.named_parameters() if p.requires_grad] == SECOND
        assert choose_trained(model, PARTS, ["second"], []) == SECOND
        assert choose_trained(model, PARTS, ["second"], ["shared"]) == SECOND[1:]

    def test_modules_are_whole_names_not_beginnings(self) -> None:
        """Layer 1 is not layer 10."""
        found = choose_trained(_Model(), PARTS, ["encoder.layers.1"], ["encoder.layers.1.norm"])
        assert found == ["encoder.layers.1.linear.weight", "encoder.layers.1.linear.bias"]

    def test_patterns_are_of_parameters(self) -> None:
        found = choose_trained(_Model(), PARTS, ["encoder.layers.[02].*", "decoder.*"], ["*.norm.*", "*.weight"])
        assert found == ["encoder.layers.0.linear.bias", "encoder.layers.2.linear.bias", "decoder.layer.linear.bias"]

    @pytest.mark.parametrize("name", ["secnd", "layers.0", "encoder.layers.11", "encoder.*.weights", "dropout"])
    def test_a_name_that_matches_nothing_is_told(self, name: str) -> None:
        with pytest.raises(ConfigError, match=r"freeze: .* matches no parameter; .*parts are first, second"):
            choose_trained(_Model(), PARTS, None, [name])

    def test_near_names_are_told(self) -> None:
        with pytest.raises(ConfigError, match=r"trained: 'secnd' matches no parameter; near are second"):
            choose_trained(_Model(), PARTS, ["secnd"], [])
        with pytest.raises(ConfigError, match=r"near are encoder\.layers\.3\.norm"):
            choose_trained(_Model(), PARTS, None, ["encoder.layer.3.norm"])

    def test_something_must_be_left(self) -> None:
        with pytest.raises(ConfigError, match="trained and freeze leave nothing to learn"):
            choose_trained(_Model(), PARTS, ["first"], ["encoder.*"])


class TestTraining:
    def test_what_is_frozen_stays_to_the_bit(self) -> None:
        torch.manual_seed(0)
        model = _Model()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        chosen = choose_trained(model, PARTS, ["second"], [])
        adam = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
        train_unfrozen(model)
        for _ in range(3):
            model(torch.randn(8, 4)).square().sum().backward()
            adam.step()
            adam.zero_grad()
        shared = {"shared.weight", "encoder.tied.weight", "decoder.tied.weight"}
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        buffers = {f"decoder.layer.norm.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
        assert changed == {*chosen, *shared, *buffers}

    def test_modes(self) -> None:
        model = _Model()
        choose_trained(model, PARTS, None, ["first", "decoder.layer.norm.*"])
        train_unfrozen(model)
        assert not any(module.training for layer in model.encoder["layers"] for module in layer.modules())
        layer = model.decoder["layer"]
        assert layer.training and layer.linear.training and layer.dropout.training and not layer.norm.training
        model.eval()
        choose_trained(model, PARTS, None, ["*.bias"])
        train_unfrozen(model)
        assert all(module.training for module in model.modules())
