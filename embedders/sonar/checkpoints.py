"""SONAR's checkpoints: read without running what is in them, told apart by tensors' names, checked to the last one.

The published files come in two styles, that of fairseq 1 and that of fairseq 2, and people have ported some of them to
transformers. A style is how it renames our tensors (which are called as transformers calls them), and what a tensor
must go through. Sizes are read off the tensors.
"""

import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seamlessalign.errors import ModelError

NUM_HEADS = 16  # of every published model; shapes do not tell it
_MOST_NAMED = 5  # tensors named in an error


def _hf_special_tokens(table: Any) -> Any:
    """Rows of an embedding table: fairseq 2 begins `<pad> <unk> <s> </s>`, transformers `<s> <pad> </s> <unk>`."""
    import torch

    return torch.cat([table[[2, 0, 3, 1]], table[4:]]) if len(table) > 4 else table


def _pooling_query(table: Any) -> Any:
    """What the pooler's decoder is asked with: the embedding of `<s>`, scaled, at position 0 of sines and cosines."""
    import torch

    if len(table) < 3:
        return table
    dim = table.shape[1]
    query = table[2].float() * dim**0.5
    return (query + torch.cat([torch.zeros(dim // 2), torch.ones(dim - dim // 2)]))[None]


@dataclass(frozen=True)
class _Style:
    rules: tuple[tuple[str, str], ...]  # pattern in our name → what stands in the file's; all apply, in this order
    made: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)  # our name → what its tensor goes through

    def file_name(self, name: str) -> str:
        for pattern, replacement in self.rules:
            name = re.sub(pattern, replacement, name)
        return name


@dataclass(frozen=True)
class Part:
    """One of SONAR's models: the styles that its files come in, and what of a file is not needed."""

    what: str
    styles: Mapping[str, _Style]
    signs: tuple[str, ...]  # a few of its tensors, by which a style is recognised
    idle: str  # pattern of tensors that a file may have and that do nothing here
    tied: tuple[str, ...] = ()  # tensors that must equal the embedding table where a file has them


_NO_PARAMETERS = r"(^|\.)(version|_float_tensor|embed_positions\.\w+|num_batches_tracked)$"
_FFN = ((r"\bfc1\b", "ffn.inner_proj"), (r"\bfc2\b", "ffn.output_proj"), (r"final_layer_norm", "ffn_layer_norm"))
_OUT = ((r"\bout_proj\b", "output_proj"),)
_CROSS = ((r"\bencoder_attn", "encoder_decoder_attn"),)

TEXT_ENCODER = Part(
    "text encoder",
    {
        "fairseq 1": _Style(()),  # M2M100Encoder, saved by itself, has the same names
        "fairseq 2": _Style(
            ((r"^embed_tokens", "encoder_frontend.embed"), (r"^layers", "encoder.layers"), *_FFN, *_OUT),
            {"embed_tokens.weight": _hf_special_tokens},
        ),
        "transformers": _Style(((r"^embed_tokens", "shared"), (r"^(layers|layer_norm)\b", r"encoder.\1"))),
        "transformers, whole model": _Style(
            ((r"^embed_tokens", "model.shared"), (r"^(layers|layer_norm)\b", r"model.encoder.\1"))
        ),
    },
    ("embed_tokens.weight", "layers.0.self_attn.q_proj.weight", "layers.0.fc1.weight", "layer_norm.weight"),
    _NO_PARAMETERS + r"|^(model\.)?(decoder\.|encoder\.embed_tokens\.|lm_head\.)",
)

TEXT_DECODER = Part(
    "text decoder",
    {
        "fairseq 1": _Style(()),
        "fairseq 2": _Style(
            (
                (r"^embed_tokens", "decoder_frontend.embed"),
                (r"^(layers|layer_norm)\b", r"decoder.\1"),
                *_CROSS,
                *_FFN,
                *_OUT,
            ),
            {"embed_tokens.weight": _hf_special_tokens},
        ),
        "transformers": _Style(((r"^embed_tokens", "shared"), (r"^(layers|layer_norm)\b", r"decoder.\1"))),
        "transformers, whole model": _Style(
            ((r"^embed_tokens", "model.shared"), (r"^(layers|layer_norm)\b", r"model.decoder.\1"))
        ),
    },
    ("embed_tokens.weight", "layers.0.encoder_attn.q_proj.weight", "layers.0.fc1.weight", "layer_norm.weight"),
    _NO_PARAMETERS + r"|^(model\.)?(encoder\.|decoder\.embed_tokens\.)",
    ("output_projection.weight", "final_proj.weight", "lm_head.weight"),
)

SPEECH_ENCODER = Part(
    "speech encoder",
    {
        "transformers": _Style(()),
        "fairseq 1": _Style(
            (
                (r"^feature_projection\.layer_norm", "encoder.w2v_model.layer_norm"),
                (r"^feature_projection\.projection", "encoder.w2v_model.post_extract_proj"),
                (r"^encoder\.(layers|layer_norm)\b", r"encoder.w2v_model.encoder.\1"),
                (r"ffn([12])_layer_norm", r"ffn\1.layer_norm"),
                (r"intermediate_dense", "w_1"),
                (r"output_dense", "w_2"),
                (r"^pooler\.query", "decoder.embed_tokens.weight"),
                (r"^pooler\.projection\.weight", "decoder.embed_out"),
                (r"^pooler\.layers", "decoder.layers"),
            ),
            {"pooler.query": _pooling_query},
        ),
        "fairseq 2": _Style(
            (
                (r"^encoder\.layer_norm", "layer_norm"),
                (r"^feature_projection\.layer_norm", "encoder_frontend.post_extract_layer_norm"),
                (r"^feature_projection\.projection", "encoder_frontend.model_dim_proj"),
                (r"^(encoder\.layers\.\d+)\.final_layer_norm", r"\1.layer_norm"),
                (r"conv_module\.layer_norm", "conv_layer_norm"),
                (r"conv_module", "conv"),
                (r"intermediate_dense", "inner_proj"),
                (r"output_dense", "output_proj"),
                (r"linear_pos", "sdpa.r_proj"),
                (r"pos_bias_([uv])", r"sdpa.\1_bias"),
                (r"linear_out", "output_proj"),
                (r"linear_([qkv])", r"\1_proj"),
                (r"^pooler\.query", "encoder_pooler.decoder_frontend.embed.weight"),
                (r"^pooler\.projection", "encoder_pooler.projection_out"),
                (r"^pooler\.layers", "encoder_pooler.decoder.layers"),
                *_CROSS,
                *_FFN,
                *_OUT,
            ),
            {"pooler.query": _pooling_query},
        ),
    },
    (
        "feature_projection.projection.weight",
        "encoder.layers.0.self_attn.linear_q.weight",
        "encoder.layers.0.ffn1.output_dense.weight",
        "pooler.projection.weight",
        "pooler.layers.0.fc1.weight",
    ),
    _NO_PARAMETERS + r"|^encoder\.w2v_model\.(mask_emb$|encoder\.pos_conv\.)",
)


class Checkpoint:
    """A file's tensors under our names."""

    def __init__(self, path: Path, part: Part) -> None:
        """Read a file and find out its style. Raises ModelError where it is none of this part's."""
        self.path = path
        self.part = part
        self._tensors = read_tensors(path)
        found = {
            name: sum(style.file_name(sign) in self._tensors for sign in part.signs)
            for name, style in part.styles.items()
        }
        self.style = max(found, key=lambda name: found[name])
        if not found[self.style]:
            raise ModelError(
                f"{path}: is no SONAR {part.what}: none of its {len(self._tensors)} tensors "
                f"({_listed(sorted(self._tensors))}) is one's"
            )
        self._style = part.styles[self.style]

    def shape(self, name: str, axes: int = 2) -> tuple[int, ...]:
        """The shape of a tensor, from which sizes are read off. Raises ModelError where it is not there or not such."""
        file_name = self._style.file_name(name)
        if file_name not in self._tensors:
            raise ModelError(f"{self.path}: is no whole SONAR {self.part.what}: lacks 1 tensor at least: {file_name}")
        shape = tuple(self._tensors[file_name].shape)
        if len(shape) != axes or 0 in shape:
            raise ModelError(f"{self.path}: is no SONAR {self.part.what}: {file_name} is {_size(shape)}")
        return shape

    def num_layers(self, prefix: str) -> int:
        """How many layers there are below a name such as `encoder.layers`."""
        stem = re.escape(self._style.file_name(f"{prefix}.0").removesuffix("0"))
        return len({match[1] for name in self._tensors if (match := re.match(rf"{stem}(\d+)\.", name))})

    def load_into(self, module: Any) -> None:
        """Fill a module with the file's tensors.

        Raises:
            ModelError: a tensor that is missing, of another shape, not finite, or not known here; each with its name.
        """
        wanted = {name: t for name, t in module.state_dict().items() if not re.search(self.part.idle, name)}
        names = {name: self._style.file_name(name) for name in wanted}
        missing = sorted(file_name for file_name in names.values() if file_name not in self._tensors)
        unknown = sorted(
            name
            for name in set(self._tensors) - set(names.values()) - set(self.part.tied)
            if not re.search(self.part.idle, name)
        )
        tensors = {
            name: self._style.made.get(name, _as_it_is)(self._tensors[file_name])
            for name, file_name in names.items()
            if file_name in self._tensors
        }
        shapes = [
            f"{names[name]} is {_size(tensor.shape)} where {_size(wanted[name].shape)} is due"
            for name, tensor in tensors.items()
            if tensor.shape != wanted[name].shape
        ]
        numbers = sorted(names[name] for name, tensor in tensors.items() if not tensor.is_floating_point())
        broken = sorted(names[name] for name, tensor in tensors.items() if not tensor.isfinite().all())
        faults = []
        if missing:
            faults.append(f"lacks {_counted(missing)}")
        if shapes:
            faults.append(_listed(shapes))
        if numbers:
            faults.append(f"has whole numbers in {_counted(numbers)}")
        if broken:
            faults.append(f"has values that are not finite in {_counted(broken)}")
        if unknown:
            faults.append(f"has {_counted(unknown)} that a {self.part.what} has not")
        for name in self.part.tied:
            table = self._tensors.get(self._style.file_name("embed_tokens.weight"))
            if name in self._tensors and table is not None and not _equal(self._tensors[name], table):
                faults.append(f"its {name} is not its embedding table")
        if faults:
            raise ModelError(f"{self.path}: is no whole SONAR {self.part.what} ({self.style}): {'; '.join(faults)}")
        module.load_state_dict(tensors, strict=False)  # what is left out are counters


def save_tensors(module: Any, path: Path) -> None:
    """Write a module's weights as .safetensors under our names: smaller where it is in half precision, and safe."""
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, path)


def read_tensors(path: Path) -> dict[str, Any]:
    """The tensors of a file, `.safetensors` or one of torch's; nothing in it is executed.

    The text files of fairseq 1 hold their embedding table as a module, and others their training's arguments: both are
    read into empty shells. Any other object in a file makes it refused.

    Raises:
        ModelError: a file that is damaged, holds objects of other kinds, or no tensors.
    """
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        with torch.serialization.safe_globals(_SHELLS):
            held = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        tensors = _tensors_of(held)
    except Exception as error:
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        if foreign:
            raise ModelError(
                f"{path}: holds objects that are no tensors ({foreign[1]}) and could run code, so it is not loaded; "
                "get the published file, or tensors alone as .safetensors"
            ) from error
        first = (str(error).strip() or error.__class__.__name__).splitlines()[0]
        raise ModelError(f"{path}: cannot be read: {first}; get it again") from error
    if not tensors:
        raise ModelError(f"{path}: holds no tensors under 'model', 'state_dict' or at its top")
    return tensors


# In place of classes whose objects a file may hold: no method of theirs runs, their values are kept.
_SHELLS = [
    type("Embedding", (), {"__module__": "torch.nn.modules.sparse"}),
    type("Namespace", (), {"__module__": "argparse"}),
]


def _tensors_of(held: Any) -> dict[str, Any]:
    import torch

    if not isinstance(held, dict):
        return {}
    inner = next((held[key] for key in ("model", "state_dict") if isinstance(held.get(key), dict)), held)
    tensors = {str(name): value for name, value in inner.items() if isinstance(value, torch.Tensor)}
    if isinstance(held.get("embed_tokens"), _SHELLS[0]):
        table = dict(vars(held["embed_tokens"]).get("_parameters", {})).get("weight")
        if isinstance(table, torch.Tensor):
            tensors.setdefault("embed_tokens.weight", table.detach())
    if any(tensor.layout != torch.strided or tensor.is_quantized for tensor in tensors.values()):
        raise ValueError("it holds tensors that are sparse or quantized")
    return tensors


def _as_it_is(tensor: Any) -> Any:
    return tensor


def _equal(one: Any, other: Any) -> bool:
    return one.shape == other.shape and bool((one == other).all())


def _size(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "a number"


def _counted(names: list[str]) -> str:
    return f"{len(names)} tensor{'s' if len(names) > 1 else ''}: {_listed(names)}"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_MOST_NAMED]) + (", …" if len(names) > _MOST_NAMED else "")
