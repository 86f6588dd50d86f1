"""Makes a small COMET with random weights, as its package saves one, and scores by that package alone.

Run by a Python that has unbabel-comet: `tiny_comet.py make FOLDER [referenceless]`; `tiny_comet.py score CHECKPOINT`
with samples as JSON on standard input; `tiny_comet.py spoil CHECKPOINT PLACE` puts code into one, which makes a folder.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any


def make(folder: Path, *, referenceless: bool) -> None:
    import pytorch_lightning
    import torch
    import yaml
    from comet.models import ReferencelessRegression, RegressionMetric
    from transformers import BertConfig, BertModel

    encoder = folder / "encoder"
    encoder.mkdir(parents=True)
    letters = [letter for number in range(ord("a"), ord("z") + 1) for letter in (chr(number), f"##{chr(number)}")]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, ".", ","]
    (encoder / "vocab.txt").write_text("\n".join(words) + "\n")
    (encoder / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64,
    )  # fmt: skip
    torch.manual_seed(1)
    BertModel(config).save_pretrained(encoder)
    kind = ReferencelessRegression if referenceless else RegressionMetric
    options: dict[str, Any] = {"encoder_model": "BERT", "pretrained_model": str(encoder), "hidden_sizes": [8, 4]}
    model = kind(**options)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    name = "referenceless_regression_metric" if referenceless else "regression_metric"
    (folder / "hparams.yaml").write_text(yaml.safe_dump({**options, "class_identifier": name}))
    (folder / "checkpoints").mkdir()
    trainer = pytorch_lightning.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.strategy.connect(model)
    trainer.save_checkpoint(folder / "checkpoints" / "model.ckpt")


def score(checkpoint: str, samples: list[dict[str, str]]) -> list[float]:
    """By the package's own `predict`, a sample at a time, without this project."""
    from comet import load_from_checkpoint

    model = load_from_checkpoint(checkpoint)
    return [model.predict([one], batch_size=1, gpus=0, progress_bar=False)["scores"][0] for one in samples]


class _Hostile:
    def __init__(self, place: str) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return os.mkdir, (self.place,)


def spoil(checkpoint: str, place: str) -> None:
    import torch

    held = torch.load(checkpoint, weights_only=True)
    torch.save({**held, "callbacks": {"one": _Hostile(place)}}, checkpoint)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]), referenceless="referenceless" in sys.argv)
    elif sys.argv[1] == "spoil":
        spoil(sys.argv[2], sys.argv[3])
    else:
        print("\n" + json.dumps(score(sys.argv[2], json.load(sys.stdin))))
