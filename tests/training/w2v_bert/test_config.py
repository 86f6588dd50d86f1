"""What a configuration of a pre-training may say."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from seamlessalign.errors import ConfigError
from seamlessalign.training.w2v_bert.config import W2vBertConfig, load_w2v_bert_config
from seamlessalign.typed_config import checked
from tests.training.w2v_bert.speech_world import parsed, w2v_bert_keys


def test_what_is_not_given_is_what_was_published(tmp_path: Path) -> None:
    plain: dict[str, Any] = {"output": "o", "data": {"train": [{"kind": "folder", "path": "p"}]}}
    config = checked(W2vBertConfig, plain | {"optimiser": {"steps": 1}}, "test")
    model = config.model
    assert (model.layers, model.hidden, model.heads, model.ffn, model.kernel) == (24, 1024, 16, 4096, 31)
    assert model.contrastive_layer == 8 and (model.left_context, model.right_context) == (64, 8)
    assert (config.mask.span, config.mask.share, config.mask.min_spans) == (10, 0.65, 2)
    assert (config.gvq.groups, config.gvq.entries, config.gvq.dim, config.gvq.diversity) == (2, 320, 768, 0.2)
    assert (config.rpq.codebooks, config.rpq.entries, config.rpq.dim) == (2, 8192, 16)
    assert (config.contrastive.distractors, config.contrastive.temperature, config.contrastive.dim) == (100, 0.1, 768)
    assert (config.losses.contrastive, config.losses.gvq, config.losses.rpq) == (1.0, 0.5, 0.5)


@pytest.mark.parametrize(("size", "layers", "tap"), [("tiny", 6, 2), ("base", 12, 4), ("large", 24, 8)])
def test_a_size_fills_in_what_is_not_given(tmp_path: Path, size: str, layers: int, tap: int) -> None:
    keys = w2v_bert_keys(tmp_path, model={"size": size})
    assert (parsed(keys).model.layers, parsed(keys).model.contrastive_layer) == (layers, tap)
    fewer = parsed(w2v_bert_keys(tmp_path, model={"size": size, "layers": 3})).model
    assert (fewer.layers, fewer.contrastive_layer, fewer.hidden) == (3, 1, parsed(keys).model.hidden)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__hidden": 15}, "hidden 15 must be a multiple of heads 2"),
        ({"model__kernel": 4}, "kernel 4 must be odd"),
        ({"model__contrastive_layer": 3}, "contrastive_layer 3 is above layers 2"),
        ({"model__size": "huge"}, "model.size: input should be 'tiny', 'base' or 'large', not 'huge'"),
        ({"gvq__dim": 7}, "dim 7 must be a multiple of groups 2"),
        ({"gvq__floor": 3}, "floor 3 is above start 2"),
        ({"losses": {"rpq": 0}}, "losses.rpq"),
        ({"data__max_seconds": 0.9}, "must be twice min_seconds 0.5"),
        ({"data__min_seconds": 0.2}, "a span of the mask, 10, must leave some"),
        ({"optimiser__batch_seconds": 1}, "batch_seconds 1 is below data.max_seconds 1.2"),
        ({"data__train": [{"kind": "espeak", "path": "t"}]}, "voices go with kind 'espeak'"),
        ({"data__train": [{"kind": "run", "path": "t", "audio": "a"}]}, "audio is for kinds 'parquet' and 'folder'"),
        ({"mask": {"spans": 10}}, "unknown key 'mask.spans'; did you mean 'span'?"),
    ],
)
def test_what_cannot_be_is_told(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as told:
        parsed(w2v_bert_keys(tmp_path, **changes))
    assert message in str(told.value)


class TestStart:
    def _file(self, folder: Path, about: dict[str, Any] | None, **model: Any) -> str:
        if about is not None:
            (folder / "model").mkdir()
            (folder / "model" / "config.json").write_text(json.dumps(about))
        keys = w2v_bert_keys(folder, model={"start": "model", **model})
        (folder / "c.yaml").write_text(yaml.safe_dump(keys))
        return str(folder / "c.yaml")

    def test_sizes_are_those_of_the_model_that_is_begun_with(self, tmp_path: Path) -> None:
        """What its file leaves out is as transformers has it."""
        about = {"model_type": "wav2vec2-bert", "num_hidden_layers": 9, "hidden_size": 48, "num_attention_heads": 6}
        file = self._file(tmp_path, about, dropout=0.1, hidden=48)
        model = load_w2v_bert_config(file).model
        assert model.start is not None and Path(model.start).resolve() == tmp_path / "model"
        assert (model.layers, model.hidden, model.heads, model.contrastive_layer) == (9, 48, 6, 3)
        assert (model.ffn, model.kernel, model.left_context, model.right_context) == (4096, 31, 64, 8)
        assert load_w2v_bert_config(file, ["model.contrastive_layer=2"]).model.contrastive_layer == 2

    @pytest.mark.parametrize(
        ("about", "model", "told"),
        [
            (None, {}, r"model\.start: .*/model is no directory of a model: there is no config\.json"),
            ({"model_type": "whisper"}, {}, "is of type 'whisper', not 'wav2vec2-bert'"),
            ({"model_type": "wav2vec2-bert", "add_adapter": True}, {}, "has an adapter"),
            ({"model_type": "wav2vec2-bert"}, {"layers": 12}, r"layers is 12: that of model.start is 24; leave it out"),
            ({"model_type": "wav2vec2-bert"}, {"size": "tiny"}, r"sizes are those of model\.start; leave it out"),
        ],
    )
    def test_what_cannot_be_begun_with_is_told(
        self, tmp_path: Path, about: dict[str, Any] | None, model: dict[str, Any], told: str
    ) -> None:
        with pytest.raises(ConfigError, match=told):
            load_w2v_bert_config(self._file(tmp_path, about, **model))


def test_paths_are_those_beside_the_file(tmp_path: Path) -> None:
    file = tmp_path / "there" / "c.yaml"
    file.parent.mkdir()
    keys = w2v_bert_keys(tmp_path, "out", data__train=[{"kind": "run", "path": "../run"}])
    file.write_text(yaml.safe_dump(keys | {"output": "out"}))
    config = load_w2v_bert_config(str(file), ["optimiser.steps=3"])
    assert Path(config.data.train[0].path).resolve() == tmp_path / "run"
    assert config.output == "out" and config.optimiser.steps == 3
