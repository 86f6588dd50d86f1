"""The network: which layer is tapped, what is masked, sums of rows, sizes, and what transformers loads."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from seamlessalign.embedders.sonar.features import features
from seamlessalign.embedders.student.backbones import W2vBertBackbone
from seamlessalign.errors import ModelError
from seamlessalign.training.w2v_bert.config import EncoderSizes, load_w2v_bert_config
from seamlessalign.training.w2v_bert.losses import contrastive
from seamlessalign.training.w2v_bert.model import (
    HEADS_FILE,
    W2vBertPretraining,
    encoder_config,
    fill_from,
    save_pretrained,
)
from tests.training.w2v_bert.speech_world import parsed, w2v_bert_keys


@pytest.fixture(scope="module")
def network() -> W2vBertPretraining:
    torch.manual_seed(0)
    return W2vBertPretraining(parsed(w2v_bert_keys(Path("unused"))))


def _batch(lengths: list[int], seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    inputs = [torch.randn(length, 160, generator=generator) for length in lengths]
    masked = [torch.arange(length) % 3 == 1 for length in lengths]
    drawn = [torch.randint(0, int(some.sum()) - 1, (int(some.sum()), 5), generator=generator) for some in masked]
    drawn = [some + (some >= torch.arange(len(some))[:, None]) for some in drawn]
    pad = torch.nn.utils.rnn.pad_sequence
    return {
        "features": pad(inputs, batch_first=True),
        "feature_mask": pad([torch.ones(length, dtype=torch.long) for length in lengths], batch_first=True),
        "masked": pad(masked, batch_first=True),
        "distractors": torch.cat(drawn),
        "noise": torch.randn(sum(len(some) for some in drawn), 2, 6, generator=generator),
    }


def test_it_is_the_encoder_walked_through_by_hand(network: W2vBertPretraining) -> None:
    """Layer by layer, for one row without padding: the contrastive loss has layer 1 of 2, prediction the last."""
    batch = _batch([20])
    found = network(**batch, temperature=1.5)
    encoder, masked = network.encoder, batch["masked"][0]
    hidden, normed = encoder.feature_projection(batch["features"])
    hidden = torch.where(masked[None, :, None], encoder.masked_spec_embed, hidden)
    first = encoder.encoder.layers[0](hidden)
    last = encoder.encoder.layers[1](first)
    codes = network.gumbel(normed[0, masked], batch["noise"], 1.5)
    told, _ = contrastive(
        network.context(first[0, masked]), network.target(codes.vectors), codes.chosen, batch["distractors"],
        [int(masked.sum())], 0.1,
    )  # fmt: skip
    assert float(found["contrastive"]) == pytest.approx(float(told), rel=1e-5)
    for kind, head, wanted in (
        ("gvq", network.gumbel_head, codes.chosen),
        ("rpq", network.frozen_head, network.frozen(batch["features"][0, masked])),
    ):
        logits = head(last[0, masked]).view(len(wanted), 2, -1)
        loss = sum(torch.nn.functional.cross_entropy(logits[:, b], wanted[:, b], reduction="sum") for b in range(2)) / 2
        assert float(found[kind]) == pytest.approx(float(loss), rel=1e-5)
        counts = found[f"{kind}_counts"]
        assert counts.sum(1).tolist() == [len(wanted)] * 2
        assert torch.equal(counts[1], torch.bincount(wanted[:, 1], minlength=counts.shape[1]).float())
    torch.testing.assert_close(found["shares"], codes.shares.sum(0))
    assert int(found["targets"]) == int(masked.sum())


def test_what_is_masked_is_not_seen(network: W2vBertPretraining) -> None:
    """Other features under the mask change codes, not what the encoder says."""
    network.eval()
    batch = _batch([20])
    other = batch["features"].clone()
    other[batch["masked"]] = 9.0
    said = [
        network.encoder(some, mask_time_indices=batch["masked"]).last_hidden_state
        for some in (batch["features"].clone(), other)
    ]
    assert torch.equal(*said)


def test_rows_add_up_whatever_the_padding(network: W2vBertPretraining) -> None:
    network.eval()
    both = _batch([20, 33])
    counts = both["masked"].sum(1).tolist()
    total: dict[str, Any] = {}
    for row, length in enumerate((20, 33)):
        targets = slice(sum(counts[:row]), sum(counts[: row + 1]))
        alone = {name: both[name][row : row + 1, :length] for name in ("features", "feature_mask", "masked")}
        alone |= {name: both[name][targets] for name in ("distractors", "noise")}
        for name, value in network(**alone, temperature=1.0).items():
            total[name] = total.get(name, 0) + value
    for name, value in network(**both, temperature=1.0).items():
        torch.testing.assert_close(value, total[name], rtol=1e-4, atol=1e-4, msg=name)


def test_codes_do_not_depend_on_the_precision(network: W2vBertPretraining) -> None:
    """Losses are near those of float32."""
    network.eval()
    full = network(**_batch([20, 33]), temperature=1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = network(**_batch([20, 33]), temperature=1.0)
    for name in ("rpq_counts", "gvq_counts", "targets", "shares"):
        torch.testing.assert_close(half[name], full[name], msg=name)
    for name in ("contrastive", "gvq", "rpq"):
        assert half[name].dtype == torch.float32 and float(half[name]) != float(full[name])
        assert float(half[name]) == pytest.approx(float(full[name]), rel=0.02)


def test_no_rows_are_zeros_through_every_parameter(network: W2vBertPretraining) -> None:
    some, nothing = (
        network(**batch, temperature=1.0)
        for batch in (
            _batch([20]),
            {
                "features": torch.zeros(0, 0, 160),
                "feature_mask": torch.zeros(0, 0, dtype=torch.long),
                "masked": torch.zeros(0, 0, dtype=torch.bool),
                "distractors": torch.zeros(0, 5, dtype=torch.long),
                "noise": torch.zeros(0, 2, 6),
            },
        )
    )
    assert {name: value.shape for name, value in some.items()} == {name: value.shape for name, value in nothing.items()}
    assert not any(value.any() for value in nothing.values())
    network.zero_grad()
    (nothing["contrastive"] + nothing["shares"].sum()).backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in network.parameters())


def test_every_parameter_learns_and_the_frozen_codebooks_do_not(network: W2vBertPretraining) -> None:
    network.train()
    network.zero_grad()
    found = network(**_batch([20, 33]), temperature=1.0)
    (found["contrastive"] + found["gvq"] + found["rpq"]).backward()
    still = [name for name, parameter in network.named_parameters() if not parameter.grad.any()]
    assert still == []
    assert not [name for name, _ in network.named_parameters() if name.startswith("frozen.")]


@pytest.mark.parametrize(("size", "millions"), [("base", (130, 190)), ("large", (580, 610))])
def test_sizes_have_the_parameters_that_they_should(size: str, millions: tuple[int, int]) -> None:
    """`large` has those of transformers' default configuration, the released encoder of about 600 M."""
    from transformers import Wav2Vec2BertConfig, Wav2Vec2BertModel

    sizes = EncoderSizes.model_validate({"size": size})
    with torch.device("meta"):
        ours = Wav2Vec2BertModel(encoder_config(sizes))
        released = Wav2Vec2BertModel(Wav2Vec2BertConfig())
    count = sum(parameter.numel() for parameter in ours.parameters())
    assert millions[0] < count / 1e6 < millions[1]
    if size == "large":
        shapes = [{name: p.shape for name, p in model.named_parameters()} for model in (ours, released)]
        assert shapes[0] == shapes[1]


class TestSaved:
    def test_transformers_loads_it_and_hears_the_same(self, network: W2vBertPretraining, tmp_path: Path) -> None:
        """From its own features of the sound, too."""
        from transformers import AutoFeatureExtractor, Wav2Vec2BertModel

        save_pretrained(network, tmp_path, half=False)
        loaded, told = Wav2Vec2BertModel.from_pretrained(tmp_path, output_loading_info=True)
        assert not told["missing_keys"] and not told["unexpected_keys"]
        network.eval()
        sound = np.asarray(0.1 * np.random.default_rng(0).standard_normal(16_000), np.float32)
        ours = network.encoder(features(torch.from_numpy(sound))[None]).last_hidden_state
        extractor = AutoFeatureExtractor.from_pretrained(tmp_path)
        theirs = loaded.eval()(**extractor(sound, sampling_rate=16_000, return_tensors="pt")).last_hidden_state
        torch.testing.assert_close(theirs[:, : ours.shape[1]], ours, atol=2e-3, rtol=1e-3)
        assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["Wav2Vec2BertModel"]

    def test_a_students_backbone_is_the_encoder(self, network: W2vBertPretraining, tmp_path: Path) -> None:
        save_pretrained(network, tmp_path, half=True)
        backbone = W2vBertBackbone(str(tmp_path), "cpu")
        sound = np.asarray(0.1 * np.random.default_rng(0).standard_normal(16_000), np.float32)
        (heard,) = backbone.hear([sound], "eng")
        network.eval()
        wanted = network.encoder(features(torch.from_numpy(sound))[None]).last_hidden_state[0]
        torch.testing.assert_close(heard.values, wanted, atol=2e-2, rtol=1e-2)

    def test_it_is_gone_on_from_with_or_without_its_heads(self, network: W2vBertPretraining, tmp_path: Path) -> None:
        save_pretrained(network, tmp_path, half=False)
        config = parsed(w2v_bert_keys(Path("unused"), seed=9))
        torch.manual_seed(1)
        whole, encoder = W2vBertPretraining(config), W2vBertPretraining(config)
        fill_from(whole, tmp_path)
        for name, value in network.state_dict().items():
            assert torch.equal(whole.state_dict()[name], value), name
        (tmp_path / HEADS_FILE).unlink()
        fill_from(encoder, tmp_path)
        same = {name for name, value in network.state_dict().items() if torch.equal(encoder.state_dict()[name], value)}
        assert {name for name in network.state_dict() if name.startswith("encoder.")} <= same
        assert "frozen.projections" not in same and "context.weight" not in same

    def test_a_model_of_transformers_is_gone_on_from(self, tmp_path: Path) -> None:
        """One that differs in what is not a size, and was never to be masked again. It is masked here, and nothing of
        it is lost on the way out.
        """
        from transformers import Wav2Vec2BertConfig, Wav2Vec2BertModel

        torch.manual_seed(5)
        about = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 4, "intermediate_size": 24}
        other = {"hidden_act": "gelu", "layer_norm_eps": 1e-2, "conv_depthwise_kernel_size": 5, "layerdrop": 0.5}
        unmasked = {"apply_spec_augment": False, "mask_time_prob": 0.0, "mask_feature_prob": 0.0}
        theirs = Wav2Vec2BertModel(Wav2Vec2BertConfig(**about, **other, **unmasked)).eval()  # type: ignore[arg-type]
        theirs.save_pretrained(tmp_path / "theirs")
        keys = w2v_bert_keys(tmp_path, model={"start": str(tmp_path / "theirs")})
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(keys))
        made = W2vBertPretraining(load_w2v_bert_config(str(tmp_path / "c.yaml"))).eval()
        fill_from(made, tmp_path / "theirs")
        inputs = torch.randn(1, 20, 160)
        masked = torch.arange(20)[None] % 3 == 0
        with torch.no_grad():
            plain = made.encoder(inputs).last_hidden_state
            assert torch.equal(plain, theirs(inputs).last_hidden_state)
            assert not torch.allclose(plain, made.encoder(inputs, mask_time_indices=masked).last_hidden_state)
            save_pretrained(made, tmp_path / "ours", half=False)
            again = Wav2Vec2BertModel.from_pretrained(tmp_path / "ours").eval()
            assert torch.equal(plain, again(inputs).last_hidden_state)

    def test_what_does_not_fit_is_told(self, network: W2vBertPretraining, tmp_path: Path) -> None:
        save_pretrained(network, tmp_path, half=False)
        wider = W2vBertPretraining(parsed(w2v_bert_keys(Path("unused"), model__hidden=32)))
        with pytest.raises(ModelError, match="size mismatch"):
            fill_from(wider, tmp_path)
        (tmp_path / HEADS_FILE).write_bytes(b"nothing")
        with pytest.raises(ModelError, match=rf"{HEADS_FILE} is not readable"):
            fill_from(network, tmp_path)
        with pytest.raises(ModelError, match="cannot be loaded"):
            fill_from(network, tmp_path / "nowhere")
