"""The network of the pre-training: an encoder, the codebooks, and what tells codes from contexts.

The encoder is transformers' `Wav2Vec2BertModel`: LayerNorm and a linear layer take inputs of 160 to its width, and
masked ones become one learnt vector behind them.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from seamlessalign import storage
from seamlessalign.embedders.sonar.features import NUM_BINS, STACKED
from seamlessalign.errors import ModelError
from seamlessalign.training.w2v_bert.codebooks import GumbelQuantiser, ProjectionQuantiser
from seamlessalign.training.w2v_bert.config import EncoderSizes, W2vBertConfig
from seamlessalign.training.w2v_bert.losses import contrastive, masked_prediction

WEIGHTS_FILE = "model.safetensors"
HEADS_FILE = "pretraining.safetensors"  # the rest of the network; behind the other one in the order of names
_MASKED = "masked_spec_embed"  # transformers' name of the vector that masked inputs become
_INPUTS = STACKED * NUM_BINS


class W2vBertPretraining(nn.Module):  # type: ignore[misc]
    """An encoder with all that its pre-training needs."""

    def __init__(self, config: W2vBertConfig) -> None:
        """Random weights, by torch's generator; the frozen codebooks by the configuration's seed."""
        super().__init__()
        from transformers import Wav2Vec2BertModel

        sizes, gvq, rpq = config.model, config.gvq, config.rpq
        self.contrastive_layer, self.temperature = sizes.contrastive_layer, config.contrastive.temperature
        self.encoder = Wav2Vec2BertModel(encoder_config(sizes))
        self.gumbel = GumbelQuantiser(_INPUTS, gvq)
        self.frozen = ProjectionQuantiser(_INPUTS, rpq, config.seed)
        self.context = nn.Linear(sizes.hidden, config.contrastive.dim)
        self.target = nn.Linear(gvq.dim, config.contrastive.dim)
        self.gumbel_head = nn.Linear(sizes.hidden, gvq.groups * gvq.entries)
        self.frozen_head = nn.Linear(sizes.hidden, rpq.codebooks * rpq.entries)

    def forward(
        self, features: Any, feature_mask: Any, masked: Any, distractors: Any, noise: Any | None, temperature: float
    ) -> dict[str, Any]:
        """Sums over this process's targets, the masked inputs. There may be no rows: then zeros, through every
        parameter.

        Args:
            features: float32 `(rows, inputs, 160)`.
            feature_mask: int64 `(rows, inputs)`, 1 is real.
            masked: bool `(rows, inputs)`.
            distractors: int64 `(targets, distractors)`, places among the targets of the same row.
            noise: Gumbel noise `(targets, groups, entries)`; None: the highest logits are chosen.
            temperature: of the Gumbel softmax.

        Returns:
            Of losses `contrastive`, `gvq`, `rpq`; `targets`; of what is told right `contrastive_right`,
            `gvq_right (groups,)`, `rpq_right (codebooks,)`; `shares (groups, entries)`, sums of the softmax of the GVQ;
            and of codes that were chosen `gvq_counts (groups, entries)`, `rpq_counts (codebooks, entries)`.
        """
        gumbel, frozen = self.gumbel, self.frozen
        if not len(features):
            nothing = sum(p.sum() for p in self.parameters() if p.requires_grad) * 0.0
            made = dict.fromkeys(("contrastive", "gvq", "rpq"), nothing)
            zeros = {"targets": (), "contrastive_right": (), "gvq_right": (gumbel.groups,)}
            zeros |= {"rpq_right": (frozen.codebooks,), "gvq_counts": (gumbel.groups, gumbel.entries)}
            zeros |= {"rpq_counts": (frozen.codebooks, frozen.entries)}
            made |= {name: features.new_zeros(shape) for name, shape in zeros.items()}
            return made | {"shares": nothing + features.new_zeros((gumbel.groups, gumbel.entries))}
        heard = self.encoder(features, attention_mask=feature_mask, mask_time_indices=masked, output_hidden_states=True)
        lower = heard.hidden_states[self.contrastive_layer][masked]
        upper = heard.last_hidden_state[masked]
        with torch.autocast(features.device.type, enabled=False):  # codes do not depend on the precision
            codes = gumbel(heard.extract_features[masked].float(), noise, temperature)
            frozen_codes = frozen(features[masked].float())
        counts = masked.sum(1).tolist()
        told, told_right = contrastive(
            self.context(lower), self.target(codes.vectors), codes.chosen, distractors, counts, self.temperature
        )
        gvq, gvq_right = masked_prediction(_split(self.gumbel_head(upper), gumbel), codes.chosen)
        rpq, rpq_right = masked_prediction(_split(self.frozen_head(upper), frozen), frozen_codes)
        return {
            "contrastive": told,
            "gvq": gvq,
            "rpq": rpq,
            "targets": features.new_tensor(float(len(frozen_codes))),
            "contrastive_right": told_right,
            "gvq_right": gvq_right,
            "rpq_right": rpq_right,
            "shares": codes.shares.sum(0),
            "gvq_counts": _counts(codes.chosen, gumbel.entries),
            "rpq_counts": _counts(frozen_codes, frozen.entries),
        }

    def fill(self, state: dict[str, Any], origin: str) -> None:
        """Take all tensors from a state. Raises ModelError where they do not fit."""
        try:
            self.load_state_dict(state)
        except RuntimeError as error:
            raise ModelError(f"{origin}: {' '.join(str(error).split())[:300]}") from error


def encoder_config(sizes: EncoderSizes) -> Any:
    """transformers' configuration of an encoder; all that is not said here is that of the model that is begun with.

    No layer is left out at random, which needs luck in common; and nothing is masked but the spans that are to be told.
    """
    from transformers import Wav2Vec2BertConfig

    drops = ("hidden", "activation", "attention", "feat_proj", "conformer_conv")
    wanted: dict[str, Any] = {
        "num_hidden_layers": sizes.layers,
        "hidden_size": sizes.hidden,
        "num_attention_heads": sizes.heads,
        "intermediate_size": sizes.ffn,
        "conv_depthwise_kernel_size": sizes.kernel,
        "left_max_position_embeddings": sizes.left_context,
        "right_max_position_embeddings": sizes.right_context,
        "feature_projection_input_dim": _INPUTS,
        "layerdrop": 0.0,
        "apply_spec_augment": True,  # else transformers would mask nothing at all
        "mask_time_prob": 0.05,  # more than 0, so that there is a vector for what is masked
        "mask_feature_prob": 0.0,
        **{f"{name}_dropout": sizes.dropout for name in drops},
    }
    if sizes.start is None:
        return Wav2Vec2BertConfig(**wanted)
    try:
        return Wav2Vec2BertConfig.from_pretrained(sizes.start, local_files_only=True, **wanted)
    except (OSError, ValueError, TypeError) as error:
        told = " ".join(str(error).split())[:300]
        raise ModelError(f"{sizes.start}: its configuration cannot be read: {told}") from error


def save_pretrained(network: W2vBertPretraining, folder: Path, half: bool) -> None:
    """Write a directory that `Wav2Vec2BertModel.from_pretrained` loads, with the features' configuration and, in a
    file of its own, what only pre-training needs. Each file is whole or not there; `half`: in float16.
    """
    from safetensors.torch import save_file
    from transformers import SeamlessM4TFeatureExtractor

    config = network.encoder.config
    config.architectures = [type(network.encoder).__name__]
    heads = {name: value for name, value in network.state_dict().items() if not name.startswith("encoder.")}
    for file, state in ((WEIGHTS_FILE, network.encoder.state_dict()), (HEADS_FILE, heads)):
        tensors = {name: (value.half() if half else value).detach().cpu().contiguous() for name, value in state.items()}
        with storage.atomic_local(str(folder / file)) as temporary:
            save_file(tensors, temporary, metadata={"format": "pt"})
    features = SeamlessM4TFeatureExtractor(feature_size=NUM_BINS, num_mel_bins=NUM_BINS, stride=STACKED)
    storage.write_bytes_atomic(str(folder / "config.json"), config.to_json_string(use_diff=True).encode())
    storage.write_bytes_atomic(str(folder / "preprocessor_config.json"), features.to_json_string().encode())


def fill_from(network: W2vBertPretraining, folder: Path) -> None:
    """Take the weights of an encoder of the same sizes, and all else where its pre-training is there too.

    A vector for what is masked may be lacking, as of a model that was never to be masked again; ours then stays.

    Raises ModelError where there is none, it is damaged, or does not fit.
    """
    from transformers import Wav2Vec2BertModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        encoder, loaded = Wav2Vec2BertModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:
        raise ModelError(f"{folder}: cannot be loaded: {str(error).strip().splitlines()[0]}") from error
    lacking = set(loaded["missing_keys"])
    if lacking - {_MASKED}:
        raise ModelError(f"{folder}: its weights lack {', '.join(sorted(lacking - {_MASKED})[:3])}")
    own = network.state_dict()
    found = {f"encoder.{name}": value for name, value in encoder.state_dict().items() if name not in lacking}
    if (folder / HEADS_FILE).is_file():
        found |= _tensors(folder / HEADS_FILE)
    else:
        found |= {name: value for name, value in own.items() if not name.startswith("encoder.")}
    network.fill({f"encoder.{_MASKED}": own[f"encoder.{_MASKED}"]} | found, str(folder))


def _tensors(file: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return {name: value.float() for name, value in load_file(file).items()}
    except (OSError, SafetensorError, ValueError) as error:
        raise ModelError(f"{file} is not readable: {str(error).splitlines()[0]}") from error


def _split(logits: Any, codebooks: Any) -> Any:
    return logits.view(len(logits), -1, codebooks.entries)


def _counts(codes: Any, entries: int) -> Any:
    """How often each entry was chosen, `(codebooks, entries)`, by codes `(targets, codebooks)`."""
    return torch.stack([torch.bincount(some, minlength=entries) for some in codes.T]).float()
