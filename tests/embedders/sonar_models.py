"""SONAR's three networks said again in plain torch, one utterance at a time, with random weights, and how fairseq 1,
fairseq 2 and transformers write them down. Nothing here knows the code that is tested.

Weights are dicts with names of their own. Tokens and embedding tables are in fairseq 2's order: `<pad> <unk> <s> </s>`,
then pieces, then languages.
"""

import math
import re
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

Weights = dict[str, Any]
DIM, FFN, HEADS = 64, 96, 16
TO_HF_ORDER = [2, 0, 3, 1]  # rows of a table in transformers' and fairseq 1's order: <s> <pad> </s> <unk>


def _random(generator: Any, *shape: int) -> Any:
    fan_in = math.prod(shape[1:]) if len(shape) > 1 else 0
    values = torch.randn(shape, generator=generator)
    return values / fan_in**0.5 if fan_in else 0.1 * values


class _Maker:
    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.made: Weights = {}

    def linear(self, name: str, out: int, into: int, *, bias: bool = True) -> None:
        self.made[f"{name}.weight"] = _random(self.generator, out, into)
        if bias:
            self.made[f"{name}.bias"] = _random(self.generator, out)

    def norm(self, name: str, dim: int) -> None:
        self.made[f"{name}.weight"] = 1 + _random(self.generator, dim)
        self.made[f"{name}.bias"] = _random(self.generator, dim)

    def attention(self, name: str) -> None:
        for part in "qkvo":
            self.linear(f"{name}.{part}", DIM, DIM)


def random_text(vocab: int, *, decoder: bool, layers: int = 2, seed: int = 0) -> Weights:
    """A text encoder, or a text decoder, which also attends to the row that it writes out."""
    make = _Maker(seed)
    make.made["table"] = _random(make.generator, vocab, DIM)
    for i in range(layers):
        for part in ("own", "cross") if decoder else ("own",):
            make.attention(f"{i}.{part}")
            make.norm(f"{i}.{part}_norm", DIM)
        make.linear(f"{i}.in", FFN, DIM)
        make.linear(f"{i}.out", DIM, FFN)
        make.norm(f"{i}.ffn_norm", DIM)
    make.norm("norm", DIM)
    return make.made


def random_speech(*, layers: int = 2, pooler_layers: int = 3, kernel: int = 31, seed: int = 0) -> Weights:
    """A conformer and its attention pooler."""
    make = _Maker(seed)
    make.norm("frontend_norm", 160)
    make.linear("frontend", DIM, 160)
    for i in range(layers):
        for part in ("first", "second"):
            make.norm(f"{i}.{part}_norm", DIM)
            make.linear(f"{i}.{part}_in", FFN, DIM)
            make.linear(f"{i}.{part}_out", DIM, FFN)
        make.norm(f"{i}.own_norm", DIM)
        make.attention(f"{i}.own")
        make.linear(f"{i}.relative", DIM, DIM, bias=False)
        make.made[f"{i}.u"] = _random(make.generator, HEADS, DIM // HEADS)
        make.made[f"{i}.v"] = _random(make.generator, HEADS, DIM // HEADS)
        make.norm(f"{i}.conv_norm", DIM)
        make.made[f"{i}.widen"] = _random(make.generator, 2 * DIM, DIM, 1)
        make.made[f"{i}.depth"] = _random(make.generator, DIM, 1, kernel)
        make.norm(f"{i}.batch", DIM)
        make.made[f"{i}.batch.mean"] = _random(make.generator, DIM)
        make.made[f"{i}.batch.var"] = 1 + _random(make.generator, DIM).abs()
        make.made[f"{i}.narrow"] = _random(make.generator, DIM, DIM, 1)
        make.norm(f"{i}.norm", DIM)
    make.norm("norm", DIM)
    make.made["pool.table"] = _random(make.generator, DIM, DIM)
    for i in range(pooler_layers):
        for part in ("own", "cross"):
            make.attention(f"pool.{i}.{part}")
            make.norm(f"pool.{i}.{part}_norm", DIM)
        make.linear(f"pool.{i}.in", FFN, DIM)
        make.linear(f"pool.{i}.out", DIM, FFN)
        make.norm(f"pool.{i}.ffn_norm", DIM)
    make.linear("pool.project", DIM, DIM, bias=False)
    return make.made


# The networks


def _doubles(weights: Weights) -> Weights:
    return {name: value.double() for name, value in weights.items()}


def _linear(w: Weights, name: str, x: Any) -> Any:
    return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))


def _norm(w: Weights, name: str, x: Any) -> Any:
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])


def _heads(x: Any) -> Any:
    return x.reshape(len(x), HEADS, -1).transpose(0, 1)


def _attend(w: Weights, name: str, x: Any, source: Any, *, causal: bool = False) -> Any:
    q, k, v = (_heads(_linear(w, f"{name}.{part}", y)) for part, y in (("q", x), ("k", source), ("v", source)))
    scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
    if causal:
        scores = scores.masked_fill(torch.ones(len(x), len(x), dtype=torch.bool).triu(1), -math.inf)
    return _linear(w, f"{name}.o", (scores.softmax(-1) @ v).transpose(0, 1).reshape(len(x), -1))


def _embedded(w: Weights, tokens: list[int]) -> Any:
    """Scaled embeddings, with sines and then cosines of positions that begin at 2."""
    half = DIM // 2
    rates = torch.exp(-math.log(10000) / (half - 1) * torch.arange(half).double())
    angles = (2 + torch.arange(len(tokens)).double())[:, None] * rates
    return w["table"][tokens] * math.sqrt(DIM) + torch.cat([angles.sin(), angles.cos()], 1)


def text_row(weights: Weights, tokens: list[int]) -> Any:
    """The row of a sentence, float64 `(DIM,)`."""
    w = _doubles(weights)
    x = _embedded(w, tokens)
    for i in range(_count(w)):
        y = _norm(w, f"{i}.own_norm", x)
        x = x + _attend(w, f"{i}.own", y, y)
        x = x + _linear(w, f"{i}.out", _linear(w, f"{i}.in", _norm(w, f"{i}.ffn_norm", x)).relu())
    return _norm(w, "norm", x).mean(0)


def decoder_logits(weights: Weights, row: Any, tokens: list[int]) -> Any:
    """What comes after each of the tokens, given a row: `(len(tokens), vocab)`."""
    w = _doubles(weights)
    x = _embedded(w, tokens)
    for i in range(_count(w)):
        y = _norm(w, f"{i}.own_norm", x)
        x = x + _attend(w, f"{i}.own", y, y, causal=True)
        x = x + _attend(w, f"{i}.cross", _norm(w, f"{i}.cross_norm", x), row.double()[None])
        x = x + _linear(w, f"{i}.out", _linear(w, f"{i}.in", _norm(w, f"{i}.ffn_norm", x)).relu())
    return _norm(w, "norm", x) @ w["table"].T


def speech_row(weights: Weights, inputs: Any) -> Any:
    """The row of an utterance's inputs `(length, 160)`, float64 `(DIM,)`."""
    w = _doubles(weights)
    x = _linear(w, "frontend", _norm(w, "frontend_norm", inputs.double()))
    for i in range(_count(w)):
        x = x + _linear(w, f"{i}.first_out", F.silu(_linear(w, f"{i}.first_in", _norm(w, f"{i}.first_norm", x)))) / 2
        x = x + _attend_relative(w, str(i), _norm(w, f"{i}.own_norm", x))
        x = x + _convolve(w, str(i), _norm(w, f"{i}.conv_norm", x))
        x = x + _linear(w, f"{i}.second_out", F.silu(_linear(w, f"{i}.second_in", _norm(w, f"{i}.second_norm", x)))) / 2
        x = _norm(w, f"{i}.norm", x)
    return _pool(w, _norm(w, "norm", x))


def _attend_relative(w: Weights, i: str, x: Any) -> Any:
    """Transformer-XL (Dai et al. 2019, section 3.3): terms a and c with bias u, b and d with bias v, for each i - j."""
    q, k, v = (_heads(_linear(w, f"{i}.own.{part}", x)) for part in "qkv")
    distance = torch.arange(len(x))[:, None] - torch.arange(len(x))[None]
    rates = 10000 ** (-torch.arange(0, DIM, 2).double() / DIM)
    angles = distance[..., None] * rates
    relative = torch.stack([angles.sin(), angles.cos()], -1).flatten(2)  # sine and cosine by turns
    r = _linear(w, f"{i}.relative", relative).reshape(len(x), len(x), HEADS, -1)
    content = torch.einsum("hid,hjd->hij", q + w[f"{i}.u"][:, None], k)
    place = torch.einsum("hid,ijhd->hij", q + w[f"{i}.v"][:, None], r)
    mixed = ((content + place) / math.sqrt(q.shape[-1])).softmax(-1) @ v
    return _linear(w, f"{i}.own.o", mixed.transpose(0, 1).reshape(len(x), -1))


def _convolve(w: Weights, i: str, x: Any) -> Any:
    value, gate = (x @ w[f"{i}.widen"][:, :, 0].T).chunk(2, -1)
    kernel = w[f"{i}.depth"]
    y = F.conv1d((value * gate.sigmoid()).T[None], kernel, padding=kernel.shape[2] // 2, groups=DIM)[0].T
    y = (y - w[f"{i}.batch.mean"]) / (w[f"{i}.batch.var"] + 1e-5).sqrt()
    return F.silu(y * w[f"{i}.batch.weight"] + w[f"{i}.batch.bias"]) @ w[f"{i}.narrow"][:, :, 0].T


def _pool(w: Weights, hidden: Any) -> Any:
    """torch's own decoder layers, asked with the embedding of `<s>` at position 0."""
    query = w["pool.table"][2] * math.sqrt(DIM) + torch.cat([torch.zeros(DIM // 2), torch.ones(DIM // 2)]).double()
    x = query[None, None]
    for i in range(sum(name.startswith("pool.") and name.endswith(".own.q.bias") for name in w)):
        layer = torch.nn.TransformerDecoderLayer(DIM, HEADS, FFN, activation="relu", batch_first=True).double().eval()
        state = {}
        for theirs, ours in (("self_attn", "own"), ("multihead_attn", "cross")):
            for kind in ("weight", "bias"):
                state[f"{theirs}.in_proj_{kind}"] = torch.cat([w[f"pool.{i}.{ours}.{part}.{kind}"] for part in "qkv"])
                state[f"{theirs}.out_proj.{kind}"] = w[f"pool.{i}.{ours}.o.{kind}"]
        names = {"linear1": "in", "linear2": "out", "norm1": "own_norm", "norm2": "cross_norm", "norm3": "ffn_norm"}
        for theirs, ours in names.items():
            for kind in ("weight", "bias"):
                state[f"{theirs}.{kind}"] = w[f"pool.{i}.{ours}.{kind}"]
        layer.load_state_dict(state)
        x = layer(x, hidden[None])
    return (x[0, 0] @ w["pool.project.weight"].T).detach()


def _count(w: Weights) -> int:
    return len({name.partition(".")[0] for name in w if name[0].isdigit()})


# How they are written down: (pattern of our name, name in the file), the first that fits

_FAIRSEQ1_TEXT = (
    (r"(\d+)\.own\.([qkv])\.", r"layers.\1.self_attn.\2_proj."),
    (r"(\d+)\.own\.o\.", r"layers.\1.self_attn.out_proj."),
    (r"(\d+)\.own_norm\.", r"layers.\1.self_attn_layer_norm."),
    (r"(\d+)\.cross\.([qkv])\.", r"layers.\1.encoder_attn.\2_proj."),
    (r"(\d+)\.cross\.o\.", r"layers.\1.encoder_attn.out_proj."),
    (r"(\d+)\.cross_norm\.", r"layers.\1.encoder_attn_layer_norm."),
    (r"(\d+)\.in\.", r"layers.\1.fc1."),
    (r"(\d+)\.out\.", r"layers.\1.fc2."),
    (r"(\d+)\.ffn_norm\.", r"layers.\1.final_layer_norm."),
    (r"norm\.", "layer_norm."),
)
_FAIRSEQ2_LAYER = (
    (r"(\d+)\.own\.([qkv])\.", r"layers.\1.self_attn.\2_proj."),
    (r"(\d+)\.own\.o\.", r"layers.\1.self_attn.output_proj."),
    (r"(\d+)\.own_norm\.", r"layers.\1.self_attn_layer_norm."),
    (r"(\d+)\.cross\.([qkv])\.", r"layers.\1.encoder_decoder_attn.\2_proj."),
    (r"(\d+)\.cross\.o\.", r"layers.\1.encoder_decoder_attn.output_proj."),
    (r"(\d+)\.cross_norm\.", r"layers.\1.encoder_decoder_attn_layer_norm."),
    (r"(\d+)\.in\.", r"layers.\1.ffn.inner_proj."),
    (r"(\d+)\.out\.", r"layers.\1.ffn.output_proj."),
    (r"(\d+)\.ffn_norm\.", r"layers.\1.ffn_layer_norm."),
)
_FAIRSEQ1_SPEECH = (
    (r"frontend_norm\.", "encoder.w2v_model.layer_norm."),
    (r"frontend\.", "encoder.w2v_model.post_extract_proj."),
    (r"(\d+)\.(first|second)_norm\.", r"encoder.w2v_model.encoder.layers.\1.ffn\2.layer_norm."),
    (r"(\d+)\.(first|second)_in\.", r"encoder.w2v_model.encoder.layers.\1.ffn\2.w_1."),
    (r"(\d+)\.(first|second)_out\.", r"encoder.w2v_model.encoder.layers.\1.ffn\2.w_2."),
    (r"(\d+)\.own_norm\.", r"encoder.w2v_model.encoder.layers.\1.self_attn_layer_norm."),
    (r"(\d+)\.own\.([qkv])\.", r"encoder.w2v_model.encoder.layers.\1.self_attn.linear_\2."),
    (r"(\d+)\.own\.o\.", r"encoder.w2v_model.encoder.layers.\1.self_attn.linear_out."),
    (r"(\d+)\.relative\.", r"encoder.w2v_model.encoder.layers.\1.self_attn.linear_pos."),
    (r"(\d+)\.([uv])$", r"encoder.w2v_model.encoder.layers.\1.self_attn.pos_bias_\2"),
    (r"(\d+)\.conv_norm\.", r"encoder.w2v_model.encoder.layers.\1.conv_module.layer_norm."),
    (r"(\d+)\.widen$", r"encoder.w2v_model.encoder.layers.\1.conv_module.pointwise_conv1.weight"),
    (r"(\d+)\.narrow$", r"encoder.w2v_model.encoder.layers.\1.conv_module.pointwise_conv2.weight"),
    (r"(\d+)\.depth$", r"encoder.w2v_model.encoder.layers.\1.conv_module.depthwise_conv.weight"),
    (r"(\d+)\.batch\.(mean|var)$", r"encoder.w2v_model.encoder.layers.\1.conv_module.batch_norm.running_\2"),
    (r"(\d+)\.batch\.", r"encoder.w2v_model.encoder.layers.\1.conv_module.batch_norm."),
    (r"(\d+)\.norm\.", r"encoder.w2v_model.encoder.layers.\1.final_layer_norm."),
    (r"norm\.", "encoder.w2v_model.encoder.layer_norm."),
    (r"pool\.table$", "decoder.embed_tokens.weight"),
    (r"pool\.project\.weight$", "decoder.embed_out"),
    *((rf"pool\.{pattern}", f"decoder.{name}") for pattern, name in _FAIRSEQ1_TEXT),
)
_FAIRSEQ2_SPEECH = (
    (r"frontend_norm\.", "encoder_frontend.post_extract_layer_norm."),
    (r"frontend\.", "encoder_frontend.model_dim_proj."),
    (r"(\d+)\.(first|second)_norm\.", r"encoder.layers.\1.ffn\2_layer_norm."),
    (r"(\d+)\.(first|second)_in\.", r"encoder.layers.\1.ffn\2.inner_proj."),
    (r"(\d+)\.(first|second)_out\.", r"encoder.layers.\1.ffn\2.output_proj."),
    (r"(\d+)\.relative\.", r"encoder.layers.\1.self_attn.sdpa.r_proj."),
    (r"(\d+)\.([uv])$", r"encoder.layers.\1.self_attn.sdpa.\2_bias"),
    (r"(\d+)\.conv_norm\.", r"encoder.layers.\1.conv_layer_norm."),
    (r"(\d+)\.widen$", r"encoder.layers.\1.conv.pointwise_conv1.weight"),
    (r"(\d+)\.narrow$", r"encoder.layers.\1.conv.pointwise_conv2.weight"),
    (r"(\d+)\.depth$", r"encoder.layers.\1.conv.depthwise_conv.weight"),
    (r"(\d+)\.batch\.(mean|var)$", r"encoder.layers.\1.conv.batch_norm.running_\2"),
    (r"(\d+)\.batch\.", r"encoder.layers.\1.conv.batch_norm."),
    (r"(\d+)\.norm\.", r"encoder.layers.\1.layer_norm."),
    *((pattern, f"encoder.{name}") for pattern, name in _FAIRSEQ2_LAYER),
    (r"norm\.", "layer_norm."),
    (r"pool\.table$", "encoder_pooler.decoder_frontend.embed.weight"),
    (r"pool\.project\.", "encoder_pooler.projection_out."),
    *((rf"pool\.{pattern}", f"encoder_pooler.decoder.{name}") for pattern, name in _FAIRSEQ2_LAYER),
)


def _renamed(weights: Weights, names: tuple[tuple[str, str], ...]) -> Weights:
    renamed = {}
    for name, value in weights.items():
        if name == "table":
            continue
        found = next(re.sub(f"^{pattern}", new, name) for pattern, new in names if re.match(pattern, name))
        renamed[found.replace("ffnfirst", "ffn1").replace("ffnsecond", "ffn2")] = value.clone()
    return renamed


def fairseq1_text(weights: Weights, *, decoder: bool) -> Weights:
    """What a file of fairseq 1 holds; an encoder's table is a module beside the rest."""
    table = weights["table"].clone()
    table[:4] = table[TO_HF_ORDER]
    state = {"version": torch.ones(1), "embed_positions._float_tensor": torch.ones(1)}
    state |= _renamed(weights, _FAIRSEQ1_TEXT)
    if decoder:
        state |= {"embed_tokens.weight": table, "output_projection.weight": table}
        return {"state_dict": state}
    module = torch.nn.Embedding(*table.shape, padding_idx=1)
    module.load_state_dict({"weight": table})
    return {"state_dict": state, "embed_tokens": module}


def fairseq2_text(weights: Weights, *, decoder: bool) -> Weights:
    """What a file of fairseq 2 holds."""
    side = "decoder" if decoder else "encoder"
    names = tuple((pattern, f"{side}.{name}") for pattern, name in _FAIRSEQ2_LAYER)
    state = _renamed(weights, (*names, (r"norm\.", "decoder.layer_norm." if decoder else "layer_norm.")))
    state[f"{side}_frontend.embed.weight"] = weights["table"].clone()
    if decoder:
        state["final_proj.weight"] = state[f"{side}_frontend.embed.weight"]
    return {"model": state}


def fairseq1_speech(weights: Weights) -> Weights:
    """What a file of fairseq 1 holds, with what its pre-training left behind."""
    import argparse

    state = _renamed(weights, _FAIRSEQ1_SPEECH)
    state |= {
        "encoder.w2v_model.mask_emb": torch.zeros(DIM),
        "encoder.w2v_model.encoder.pos_conv.0.bias": torch.zeros(DIM),
        "encoder.w2v_model.encoder.pos_conv.0.weight_g": torch.zeros(1, 1, 16),
        "encoder.w2v_model.encoder.pos_conv.0.weight_v": torch.zeros(DIM, 4, 16),
        "decoder.version": torch.ones(1),
        "decoder.embed_positions._float_tensor": torch.ones(1),
    }
    for i in range(_count(weights)):
        state[f"encoder.w2v_model.encoder.layers.{i}.conv_module.batch_norm.num_batches_tracked"] = torch.tensor(7)
    return {"args": argparse.Namespace(arch="x", lr=[1.0]), "cfg": None, "model": state, "extra_state": {"epoch": 3}}


def fairseq2_speech(weights: Weights) -> Weights:
    """What a file of fairseq 2 holds."""
    return {"model": _renamed(weights, _FAIRSEQ2_SPEECH)}


def train_tokenizer(file: Path, size: int = 60) -> Any:
    """A sentencepiece model of a few words; returns its processor."""
    from io import BytesIO

    from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

    written = BytesIO()
    words = ["the cat sat on the mat", "a dog ran to the sea", "one two three four five", "le chat dort sur le lit"]
    SentencePieceTrainer.train(
        sentence_iterator=iter(words * 20),
        model_writer=written,
        vocab_size=size,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
    )
    file.write_bytes(written.getvalue())
    processor = SentencePieceProcessor()
    processor.LoadFromSerializedProto(written.getvalue())
    return processor
