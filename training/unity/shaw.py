"""UnitY with the speech encoder of w2v-BERT 2.0, which SeamlessM4T's first version has not.

That version's conformer has Transformer-XL's relative positions, batch normalisation and convolutions that see both
sides. w2v-BERT 2.0, as released and as `train w2v-bert` makes it, has Shaw's relative positions (arXiv 1803.02155),
layer normalisation and causal convolutions: no weight of the one means the same in the other. transformers has the
second one, with a length adaptor behind, as the speech encoder of SeamlessM4T's second version; the rest of the model
is the first version's.
"""

from typing import Any

from transformers import SeamlessM4TModel, SeamlessM4Tv2Config
from transformers.models.seamless_m4t_v2.modeling_seamless_m4t_v2 import SeamlessM4Tv2SpeechEncoder

from seamlessalign.training.unity.sizes import SHAW, SHAW_KEYS

_ENDLESS = 1_000_000_000  # frames of a chunk


class ShawUnityModel(SeamlessM4TModel):  # type: ignore[misc]
    """A `SeamlessM4TModel` with that speech encoder. Its weights have a name of their own, so that nobody loads them
    into the other structure, where transformers would fill the gaps with random numbers and say nothing.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.speech_encoder = SeamlessM4Tv2SpeechEncoder(speech_config(config))


def speech_config(config: Any) -> Any:
    """The configuration of the speech encoder, by that of the model. All frames see each other: there are no chunks."""
    keys = [key for key in config.to_dict() if key.startswith(("speech_encoder_", "adaptor_"))]
    keys += ["hidden_size", "feature_projection_input_dim", "conv_depthwise_kernel_size", "num_adapter_layers"]
    keys += ["initializer_range", "layer_norm_eps", *SHAW_KEYS]
    values = {key: getattr(config, key) for key in keys if key != "speech_encoder_kind"}
    made = SeamlessM4Tv2Config(**(values | {"speech_encoder_chunk_size": _ENDLESS, "position_embeddings_type": SHAW}))
    made._attn_implementation = config._attn_implementation
    return made
