"""Sentence encoders in the layout of the package sentence-transformers: multilingual E5, LaBSE, and any other.

Such a directory lists its parts in `modules.json`: a transformer, how its tokens are pooled, and mostly a dense layer
or a normalisation. A transformers directory without that file is pooled by the mean. Read here are the files, not their
code: what a directory names that is not known here is an error.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seamlessalign.embedders.batches import batches, check_finite, torch_dtype
from seamlessalign.errors import ModelError

Float32 = npt.NDArray[np.float32]

_MOST_TOKENS = 512
_BATCH_TOKENS = 8192  # padded tokens of a batch
_PLAIN = {"pooling_mode": "mean"}


class SentenceEncoder:
    """Texts → rows, as a directory's parts make them.

    `truncated` counts the texts so far whose end was cut off because they have more tokens than the model takes.
    """

    def __init__(
        self,
        directory: Path,
        *,
        prefix: str = "",
        device: str = "cpu",
        dtype: str = "auto",
        max_tokens: int = _MOST_TOKENS,
    ) -> None:
        """Load a directory.

        Args:
            directory: with `config.json`, weights and `tokenizer.json`, or parts of its own for each as `modules.json`
                says.
            prefix: put before every text.
            device: torch device name.
            dtype: float32, float16, bfloat16, or auto: float16 on a GPU, else float32. Pooling is in float32.
            max_tokens: of a text, at most; fewer where the model takes fewer.

        Raises:
            ModelError: a part that is missing, damaged, or not known.
        """
        import torch

        self.directory = directory
        self.prefix = prefix
        self.truncated = 0
        self.device = torch.device(device)
        self.dtype = torch_dtype(dtype, self.device)
        parts = _parts(directory)
        self._load_transformer(directory / parts[0][1], self.dtype, max_tokens)
        pooling = _read_json(directory / parts[1][1] / "config.json") if parts[1:] else _PLAIN
        self._pool = _pooling(pooling, directory)
        self.dim = int(self.model.config.hidden_size) * len(_modes(pooling))
        self._after: list[Callable[[Any], Any]] = []
        for kind, path in parts[2:]:
            self._after.append(self._dense(directory / path) if kind == "Dense" else _normalized)

    def encode(self, texts: Sequence[str]) -> Float32:
        """Rows of texts, `(len(texts), dim)`, in their order; batches are made of texts of like length."""
        import torch

        encodings = self.tokenizer.encode_batch([self.prefix + self._cased(text) for text in texts])
        self.truncated += sum(bool(encoding.overflowing) for encoding in encodings)
        tokens = [encoding.ids for encoding in encodings]
        rows = np.empty((len(texts), self.dim), np.float32)
        for batch in batches([len(ids) for ids in tokens], _BATCH_TOKENS):
            longest = len(tokens[batch[0]])
            ids = torch.zeros((len(batch), longest), dtype=torch.long)
            mask = torch.zeros((len(batch), longest), dtype=torch.long)
            for place, i in enumerate(batch):
                ids[place, : len(tokens[i])] = torch.tensor(tokens[i])
                mask[place, : len(tokens[i])] = 1
            with torch.inference_mode():
                mask = mask.to(self.device)
                hidden = self.model(input_ids=ids.to(self.device), attention_mask=mask).last_hidden_state.float()
                row = self._pool(hidden, mask)
                for step in self._after:
                    row = step(row)
            rows[batch] = row.cpu().numpy()
        return check_finite(rows, self.dtype)

    def _load_transformer(self, directory: Path, dtype: Any, max_tokens: int) -> None:
        from tokenizers import Tokenizer
        from transformers import AutoModel
        from transformers.utils import logging

        options: dict[str, Any] = {}
        for name in ("tokenizer_config.json", "sentence_bert_config.json"):
            options |= _read_json(directory / name) if (directory / name).is_file() else {}
        if not (directory / "tokenizer.json").is_file():
            raise ModelError(f"{directory}: has no tokenizer.json; save its fast tokenizer there")
        logging.disable_progress_bar()
        try:
            self.model: Any
            self.model, loaded = AutoModel.from_pretrained(
                str(directory), local_files_only=True, trust_remote_code=False, dtype=dtype, output_loading_info=True
            )
            self.tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        except Exception as error:
            raise ModelError(f"{directory}: cannot be loaded: {str(error).strip().splitlines()[0]}") from error
        # what pools in the model itself is not used here, and mostly not in the file
        lacking = sorted(name for name in loaded["missing_keys"] if not name.startswith("pooler."))
        if lacking:
            more = f" and {len(lacking) - 3} more" if lacking[3:] else ""
            raise ModelError(f"{directory}: its weights lack {', '.join(lacking[:3])}{more}")
        self.model.to(self.device).eval()
        said = (options.get(name) for name in ("model_max_length", "max_seq_length"))
        limits = (max_tokens, _positions(self.model.config), *said)
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(int(min(limit for limit in limits if limit)))
        self._lower = bool(options.get("do_lower_case", False))

    def _cased(self, text: str) -> str:
        return text.lower() if self._lower else text

    def _dense(self, directory: Path) -> Callable[[Any], Any]:
        import torch

        config = _read_json(directory / "config.json")
        activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
        if activation not in ("Tanh", "Identity", "ReLU", "GELU"):
            raise ModelError(f"{directory}: activation {activation} is not known")
        layer = torch.nn.Linear(config["in_features"], config["out_features"], bool(config.get("bias", True)))
        tensors = {key.removeprefix("linear."): tensor for key, tensor in _read_tensors(directory).items()}
        try:
            layer.load_state_dict(tensors)
        except RuntimeError as error:
            raise ModelError(f"{directory}: its tensors do not fit its config: {error}") from error
        layer.to(self.device).eval()
        act = getattr(torch.nn, activation)()
        self.dim = int(config["out_features"])
        return lambda rows: act(layer(rows))


def _parts(directory: Path) -> list[tuple[str, str]]:
    """Kind and path of each part. Raises ModelError for what is not a transformer, a pooling, and what may follow."""
    listed = directory / "modules.json"
    if not listed.is_file():
        return [("Transformer", "")]
    modules = [(str(module["type"]).rpartition(".")[2], str(module["path"])) for module in _read_json(listed)]
    kinds = [kind for kind, _ in modules]
    unknown = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Dense", "Normalize")]
    if unknown or kinds[:2] != ["Transformer", "Pooling"]:
        what = (
            f"{', '.join(unknown)} is not known"
            if unknown
            else f"{', '.join(kinds)} is not the order of a sentence encoder"
        )
        raise ModelError(f"{listed}: {what}; there are Transformer, Pooling, Dense, Normalize")
    return modules


def _modes(pooling: dict[str, Any]) -> list[str]:
    """Names of the ways of pooling whose rows are put side by side, in the package's order."""
    given = pooling.get("pooling_mode")
    if given is None:  # older files have a switch for each
        switched = [
            key.removeprefix("pooling_mode_") for key, on in pooling.items() if key.startswith("pooling_mode_") and on
        ]
        given = [_OLDER_NAMES.get(mode, mode) for mode in switched]
        return sorted(given, key=lambda mode: list(_POOLING).index(mode) if mode in _POOLING else -1)
    return [given] if isinstance(given, str) else [str(mode) for mode in given]


def _pooling(config: dict[str, Any], directory: Path) -> Callable[[Any, Any], Any]:
    import torch

    modes = _modes(config)
    unknown = [mode for mode in modes if mode not in _POOLING]
    if unknown or not modes:
        raise ModelError(f"{directory}: pooling {', '.join(unknown) or 'without a mode'} is not known")
    if not config.get("include_prompt", True):
        raise ModelError(f"{directory}: leaves its prompt out when pooling, which is not done here")
    return lambda hidden, mask: torch.cat([_POOLING[mode](hidden, mask) for mode in modes], 1)


# hidden (batch, tokens, width) float32, mask (batch, tokens) of 0 and 1, real tokens first → (batch, width)


def _first(hidden: Any, mask: Any) -> Any:
    return hidden[:, 0]


def _largest(hidden: Any, mask: Any) -> Any:
    return hidden.masked_fill(mask[..., None] == 0, float("-inf")).amax(1)


def _mean(hidden: Any, mask: Any) -> Any:
    return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def _mean_sqrt(hidden: Any, mask: Any) -> Any:
    return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).sqrt()


def _weighted(hidden: Any, mask: Any) -> Any:
    weights = mask * mask.cumsum(1)  # a token counts as often as its place
    return (hidden * weights[..., None]).sum(1) / weights.sum(1, keepdim=True)


def _last(hidden: Any, mask: Any) -> Any:
    return hidden.gather(1, (mask.sum(1) - 1)[:, None, None].expand(-1, 1, hidden.shape[2]))[:, 0]


_POOLING: dict[str, Callable[[Any, Any], Any]] = {
    "cls": _first,
    "max": _largest,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt,
    "weightedmean": _weighted,
    "lasttoken": _last,
}
_OLDER_NAMES = {"cls_token": "cls", "max_tokens": "max", "mean_tokens": "mean", "weightedmean_tokens": "weightedmean"}


def _positions(config: Any) -> int | None:
    """Tokens that a model has positions for; models of RoBERTa's family number theirs from behind the padding token."""
    most = getattr(config, "max_position_embeddings", None)
    if most is None:
        return None
    offset = (config.pad_token_id or 0) + 1 if "roberta" in str(config.model_type) else 0
    return int(most) - offset


def _normalized(rows: Any) -> Any:
    import torch

    return torch.nn.functional.normalize(rows, dim=1)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read as JSON: {error}") from error


def _read_tensors(directory: Path) -> dict[str, Any]:
    """Tensors of `model.safetensors`, or of `pytorch_model.bin` with nothing but tensors unpickled."""
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if (directory / "model.safetensors").is_file():
            return dict(load_file(directory / "model.safetensors"))
        return dict(torch.load(directory / "pytorch_model.bin", map_location="cpu", weights_only=True))
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError) as error:
        raise ModelError(f"{directory}: its weights cannot be read: {str(error).strip().splitlines()[0]}") from error
