"""A taught vocoder: its directory, which transformers' SeamlessM4TCodeHifiGan loads too, and what it says.

`config.json` and `model.safetensors` are of that class, weight normalisation worked in. `vocoder.json` says what the
rows of its tables are, languages and speakers, and of which centroids its units are.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from seamlessalign import storage
from seamlessalign.errors import ConfigError, InputError, ModelError
from seamlessalign.languages import get_language
from seamlessalign.training.unity.model import UnitY, load_config, load_pretrained, save_weights
from seamlessalign.training.vocabulary import UnitVocabulary
from seamlessalign.training.vocoder.generator import plain, speech_of

ABOUT_FILE = "vocoder.json"

Float32 = npt.NDArray[np.float32]

# what a model that has a vocoder in it says of that
_FIELDS = (
    "unit_hifi_gan_vocab_size",
    "unit_embed_dim",
    "lang_embed_dim",
    "spkr_embed_dim",
    "vocoder_num_langs",
    "vocoder_num_spkrs",
    "upsample_initial_channel",
    "upsample_rates",
    "upsample_kernel_sizes",
    "resblock_kernel_sizes",
    "resblock_dilation_sizes",
    "leaky_relu_slope",
    "variance_predictor_kernel_size",
    "var_pred_dropout",
    "sampling_rate",
)


@dataclass(frozen=True)
class VocoderModel:
    """A generator, and which languages and speakers the rows of its tables are."""

    generator: Any  # SeamlessM4TCodeHifiGan, in evaluation
    languages: Sequence[str]  # ISO 639-3
    speakers: Sequence[str]  # an empty name where nobody was named
    centroids: str | None = None  # fingerprint of what its units are the numbers of, where that is known

    def speak(
        self, units: Sequence[int], lang: str, speaker: str | None = None, durations: Sequence[int] | None = None
    ) -> Float32:
        """Speech of units.

        Args:
            units: numbers from 0, without repetitions.
            lang: ISO 639-3.
            speaker: its name; by default the first.
            durations: of each unit, in 20 ms; by default they are predicted.

        Returns:
            Samples `(num_samples,)` at 16 kHz, 320 to 20 ms.

        Raises:
            InputError: no units, or a unit, language or speaker that this vocoder has not.
        """
        language = _row(lang, self.languages, "speaks")
        voice = 0 if speaker is None else _row(speaker, self.speakers, "has the speakers")
        ids = np.asarray(units, np.int64)
        most = self.generator.config.unit_hifi_gan_vocab_size
        if ids.ndim != 1 or not len(ids) or ids.min() < 0 or ids.max() >= most:
            raise InputError(f"a vocoder of {most} units says a list of units from 0 to {most - 1}, not {_some(units)}")
        device = self.generator.device
        tables = [torch.tensor([[row]], device=device) for row in (language, voice)]
        with torch.inference_mode():
            if durations is None:
                row = torch.from_numpy(ids).to(device)[None]
                speech, _ = self.generator(input_ids=row, lang_id=tables[0], spkr_id=tables[1])
            else:
                times = np.asarray(durations, np.int64)
                if times.shape != ids.shape or times.min() < 1:
                    raise InputError(f"{len(ids)} units with durations {_some(durations)}; each needs one, 1 or more")
                frames = torch.from_numpy(np.repeat(ids, times)).to(device)[None]
                speech = speech_of(self.generator, frames, *tables)
        return np.asarray(speech[0].float().cpu().numpy(), np.float32)


def load_vocoder(directory: str | Path, device: str = "cpu") -> VocoderModel:
    """A vocoder that was taught here. Raises ModelError where the directory is not one, or is damaged."""
    from transformers import SeamlessM4TCodeHifiGan

    folder = Path(directory)
    try:
        about = json.loads((folder / ABOUT_FILE).read_text(encoding="utf-8"))
        languages = [get_language(str(lang)).iso639_3 for lang in about["languages"]]
        speakers = [str(name) for name in about["speakers"]]
        centroids = about.get("centroids")
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        told = " ".join(str(error).split())[:300]
        raise ModelError(f"{folder / ABOUT_FILE}: cannot be read, so this is no vocoder's folder: {told}") from error
    config = load_config(folder)
    rows = (config.vocoder_num_langs, config.vocoder_num_spkrs)
    if not languages or not speakers or len(languages) > rows[0] or len(speakers) > rows[1]:
        told = f"{len(languages)} languages and {len(speakers)} speakers for tables of {rows[0]} and {rows[1]}"
        raise ModelError(f"{folder / ABOUT_FILE}: names {told}")
    generator = load_pretrained(SeamlessM4TCodeHifiGan, folder, config)
    return VocoderModel(generator.to(device).eval(), languages, speakers, centroids)


def save_vocoder(
    generator: Any,
    languages: Sequence[str],
    speakers: Sequence[str],
    folder: Path,
    *,
    half: bool = False,
    centroids: str | None = None,
) -> None:
    """Write a generator, with weight normalisation or without, each file whole or not at all; float16 where `half`.

    centroids: fingerprint of those that its units are the numbers of.
    """
    save_weights(folder, plain(generator), half=half)
    about = {"languages": list(languages), "speakers": list(speakers), "centroids": centroids}
    text = json.dumps(about, indent=1, ensure_ascii=False)
    storage.write_bytes_atomic(str(folder / ABOUT_FILE), f"{text}\n".encode())


def attach_vocoder(unity: UnitY, directory: str | Path, units: UnitVocabulary | None = None) -> VocoderModel:
    """Put a vocoder into a UnitY, in the place of the one that it has.

    What the model says of itself follows, so that it can be saved with it, and transformers' `generate` finds its
    languages.

    Args:
        unity: the model.
        directory: the vocoder's.
        units: the model's vocabulary, where it is at hand; else its configuration says how many units it writes.

    Raises:
        ModelError: the directory is no vocoder, or one of other units than the model writes.
    """
    found = load_vocoder(directory)
    config = found.generator.config
    written = unity.config.unit_hifi_gan_vocab_size if units is None else units.num_units
    if written != config.unit_hifi_gan_vocab_size:
        said = f"is a vocoder of {config.unit_hifi_gan_vocab_size} units"
        raise ModelError(f"{directory}: {said}, but the model writes {written}; both must come from the same centroids")
    for name in _FIELDS:
        setattr(unity.config, name, getattr(config, name))
    unity.model.vocoder = found.generator.to(unity.device)
    unity.vocoder_languages = {lang: row for row, lang in enumerate(found.languages)}
    unity.model.generation_config.vocoder_lang_code_to_id = dict(unity.vocoder_languages)
    return found


def _row(name: str, names: Sequence[str], what: str) -> int:
    if name not in names:
        raise InputError(f"this vocoder {what} {', '.join(names)}, not {name}")
    return list(names).index(name)


def _some(values: Any) -> str:
    text = str(list(values)[:5])
    return text if len(values) <= 5 else f"{text[:-1]}, …]"
