"""A checkpoint of the structure of speechbrain/lang-id-voxlingua107-ecapa, random, written by SpeechBrain itself."""

from pathlib import Path

LABELS = """
ab af am ar as az ba be bg bn bo br bs ca ceb cs cy da de el en eo es et eu fa fi fo fr gl gn gu gv ha haw hi hr ht hu
hy ia id is it iw ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl ps pt ro ru sa
sco sd si sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi war yi yo zh
"""

_HYPERPARAMETERS = """
n_mels: 60
out_n_neurons: 107
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: !ref <n_mels>
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: !ref <n_mels>
    channels: [1024, 1024, 1024, 1024, 3072]
    kernel_sizes: [5, 3, 3, 3, 1]
    dilations: [1, 2, 3, 4, 1]
    attention_channels: 128
    lin_neurons: 256
classifier: !new:speechbrain.lobes.models.Xvector.Classifier
    input_shape: [null, null, 256]
    activation: !name:torch.nn.LeakyReLU
    lin_blocks: 1
    lin_neurons: 512
    out_neurons: !ref <out_n_neurons>
modules:
    compute_features: !ref <compute_features>
    mean_var_norm: !ref <mean_var_norm>
    embedding_model: !ref <embedding_model>
    classifier: !ref <classifier>
label_encoder: !new:speechbrain.dataio.encoder.CategoricalEncoder
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        embedding_model: !ref <embedding_model>
        classifier: !ref <classifier>
        label_encoder: !ref <label_encoder>
    paths:
        embedding_model: FOLDER/embedding_model.ckpt
        classifier: FOLDER/classifier.ckpt
        label_encoder: FOLDER/label_encoder.txt
"""


def save_checkpoint(folder: Path, seed: int = 0) -> Path:
    """Write embedding_model.ckpt, classifier.ckpt, label_encoder.txt and hyperparams.yaml; returns the folder."""
    import torch
    from hyperpyyaml import load_hyperpyyaml  # type: ignore[import-untyped]
    from speechbrain.dataio.encoder import CategoricalEncoder

    text = _HYPERPARAMETERS.replace("FOLDER", str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hyperparams.yaml").write_text(text)
    torch.manual_seed(seed)
    modules = load_hyperpyyaml(text)
    for name in ("embedding_model", "classifier"):
        for key, value in modules[name].state_dict().items():
            if key.endswith("running_mean"):  # fresh statistics would hide a wrong order of layers
                value.normal_(std=0.3)
            elif key.endswith("running_var"):
                value.uniform_(0.5, 2.0)
        torch.save(modules[name].state_dict(), folder / f"{name}.ckpt")
    encoder = CategoricalEncoder()
    encoder.update_from_iterable([f"{code}: Name of {code}" for code in LABELS.split()])
    encoder.save(str(folder / "label_encoder.txt"))
    return folder
