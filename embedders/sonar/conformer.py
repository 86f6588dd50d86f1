"""The network of SONAR's speech encoders: w2v-BERT's conformer, whose outputs an attention pooler makes a row of.

The conformer is that of SeamlessM4T's first version in transformers. Only two of its parts are used: what it has behind
them (`intermediate_ffn`, `inner_layer_norm`, the adapter) SONAR has not.
"""

from typing import Any

from torch import nn

from seamlessalign.embedders.sonar.checkpoints import Checkpoint
from seamlessalign.embedders.sonar.features import NUM_BINS, STACKED
from seamlessalign.embedders.sonar.pooler import AttentionPooler
from seamlessalign.errors import ModelError


class SpeechNetwork(nn.Module):  # type: ignore[misc]
    """Inputs `(batch, length, 160)` and a mask of real ones `(batch, length)` → rows `(batch, dim)`."""

    def __init__(self, config: Any, pooler: AttentionPooler) -> None:
        super().__init__()
        try:
            from transformers.models.seamless_m4t.modeling_seamless_m4t import (
                SeamlessM4TConformerEncoder,
                SeamlessM4TConformerFeatureProjection,
            )
        except (ImportError, OSError, RuntimeError) as error:  # where torchaudio was built for another torch
            raise ModelError(
                f"transformers cannot load SeamlessM4T ({error}); install torchaudio of the same build as torch"
            ) from error
        self.feature_projection = SeamlessM4TConformerFeatureProjection(config)
        self.encoder = SeamlessM4TConformerEncoder(config)
        self.pooler = pooler

    def forward(self, inputs: Any, mask: Any) -> Any:
        return self.pooler(self.outputs(inputs, mask), mask)

    def outputs(self, inputs: Any, mask: Any) -> Any:
        """What the conformer makes of inputs, `(batch, length, dim)`."""
        return self.encoder(self.feature_projection(inputs), attention_mask=mask)


def build(checkpoint: Checkpoint) -> SpeechNetwork:
    """A network of the sizes that a checkpoint has, not yet filled. Raises ModelError where one is missing."""
    from transformers import SeamlessM4TConfig

    dim, num_features = checkpoint.shape("feature_projection.projection.weight")
    heads, head_dim = checkpoint.shape("encoder.layers.0.self_attn.pos_bias_u")
    kernel = checkpoint.shape("encoder.layers.0.conv_module.depthwise_conv.weight", axes=3)[2]
    if num_features != STACKED * NUM_BINS or heads * head_dim != dim or kernel % 2 == 0:
        raise ModelError(
            f"{checkpoint.path}: is no SONAR speech encoder: it takes {num_features} features into {dim} dimensions, "
            f"with {heads} heads of {head_dim} and a convolution of {kernel}"
        )
    config = SeamlessM4TConfig(
        hidden_size=dim,
        feature_projection_input_dim=num_features,
        speech_encoder_layers=checkpoint.num_layers("encoder.layers"),
        speech_encoder_attention_heads=heads,
        speech_encoder_intermediate_size=checkpoint.shape("encoder.layers.0.ffn1.intermediate_dense.weight")[0],
        speech_encoder_hidden_act="swish",
        conv_depthwise_kernel_size=kernel,
        position_embeddings_type="relative",
        attn_implementation="sdpa",
    )
    ffn_dim = checkpoint.shape("pooler.layers.0.fc1.weight")[0]
    pooler = AttentionPooler(dim, checkpoint.num_layers("pooler.layers"), heads, ffn_dim)
    return SpeechNetwork(config, pooler)
