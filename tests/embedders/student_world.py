"""A small world for students: words that are tones, a teacher that is the mean of its words' random vectors, and
configurations that learn one from the other in seconds.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from seamlessalign.embedders.student.training_config import TrainingConfig
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.typed_config import checked

Float32 = NDArray[np.float32]

WORDS = ["red", "blue", "cat", "dog", "runs", "sits", "far", "near", "one", "two"]
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def say(text: str, seed: int = 0) -> Float32:
    """Each word as a chord of two tones of its own, 0.2 s long, with a little noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(SAMPLE_RATE // 5) / SAMPLE_RATE
    fade = np.minimum(1, np.minimum(np.arange(len(time)), np.arange(len(time))[::-1]) / 320)
    parts = []
    for word in text.split():
        i = WORDS.index(word)
        tone = np.sin(2 * np.pi * (300 + 130 * i) * time) + np.sin(2 * np.pi * (2100 + 260 * ((i * 7) % 10)) * time)
        parts.append(0.2 * tone * fade)
    wave = np.concatenate(parts)
    return np.asarray(wave + 0.003 * rng.standard_normal(len(wave)), np.float32)


def sentences(count: int, seed: int = 0) -> list[str]:
    """Different sentences of two to four words."""
    rng = np.random.default_rng(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(WORDS[i] for i in rng.choice(len(WORDS), rng.integers(2, 5), replace=False))] = None
    return list(found)


def make_speech(folder: Path, count: int = 40, seed: int = 0) -> Path:
    """A folder of recordings with a manifest that has a translation: the words in reverse order."""
    folder.mkdir(parents=True)
    rows = ["path\ttext\tlang\tback"]
    for i, text in enumerate(sentences(count, seed)):
        soundfile.write(folder / f"{i}.flac", say(text, i), SAMPLE_RATE)
        rows.append(f"{i}.flac\t{text}\teng\t{' '.join(reversed(text.split()))}")
    (folder / "speech.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def make_teacher(folder: Path, dim: int = 16, layers: int = 0, words: Sequence[str] = WORDS) -> Path:
    """A directory of sentence-transformers whose rows are means of the words' vectors, by random layers if wanted."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    vocabulary = [*_SPECIAL, *words]
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=dim, num_hidden_layers=layers, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64, pad_token_id=0,
    )  # fmt: skip
    model = BertModel(config)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.normal_()
        model.embeddings.position_embeddings.weight.zero_()
        model.embeddings.token_type_embeddings.weight.zero_()
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(folder)
    modules = [("Transformer", ""), ("Pooling", "1_Pooling")]
    listed = [
        {"idx": i, "type": f"sentence_transformers.models.{kind}", "path": path}
        for i, (kind, path) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    return folder


def plain_config(root: Path, output: str = "out", **changes: Any) -> dict[str, Any]:
    """A training from scratch on `root/speech` by `root/teacher`; keys of `changes` have dots as `__`."""
    config: dict[str, Any] = {
        "output": str(root / output),
        "student": {
            "backbone": {"kind": "scratch", "width": 32, "layers": 1, "heads": 2, "ffn": 64},
            "train_backbone": True,
            "pooler": {"kind": "attention", "width": 32, "layers": 1, "heads": 2, "ffn": 64},
            "teacher": "sentence-transformers",
        },
        "data": {"train": [{"kind": "folder", "path": str(root / "speech")}], "validation_share": 0.2},
        "optimiser": {"steps": 12, "batch": 8, "lr": 0.002, "warmup": 2},
        "validation": {"every": 6},
        "log_every": 1,
        "checkpoint_every": 4,
        "models": {"sentence-transformers": str(root / "teacher")},
        "resources": {"device": "cpu"},
    }
    return changed(config, changes)


def parsed(config: dict[str, Any]) -> TrainingConfig:
    return checked(TrainingConfig, config, "test")


def changed(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The configuration with keys set, such as `optimiser__steps`, in place."""
    for key, value in changes.items():
        node, *rest = config, *key.split("__")
        for name in rest[:-1]:
            node = node.setdefault(name, {})
        node[rest[-1]] = value
    return config
