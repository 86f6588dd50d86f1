"""The generator: transformers' SeamlessM4TCodeHifiGan, whose own parts are taught, so that its files need no change.

Its `forward` goes by durations that it predicts. To learn, units come at their true durations, and a predicted
duration is compared by itself.
"""

import copy
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import torch

from seamlessalign.training.vocoder.sizes import VocoderSizes


def make_generator(sizes: VocoderSizes, languages: int, speakers: int) -> Any:
    """A generator to be taught, with weight normalisation; its weights are drawn as HiFi-GAN's are: N(0, 0.01²) in
    what upsamples and in the blocks of residuals.
    """
    from transformers import SeamlessM4TCodeHifiGan, SeamlessM4TConfig

    generator = SeamlessM4TCodeHifiGan(SeamlessM4TConfig(**sizes.fields(languages, speakers)))
    for part in (generator.hifi_gan.upsampler, generator.hifi_gan.resblocks):
        for module in part.modules():
            if isinstance(module, torch.nn.Conv1d | torch.nn.ConvTranspose1d):
                torch.nn.init.normal_(module.weight, 0.0, 0.01)
    generator.apply_weight_norm()
    return generator


def speech_of(generator: Any, frames: Any, languages: Any, speakers: Any) -> Any:
    """Speech of units at their true durations.

    Args:
        generator: SeamlessM4TCodeHifiGan.
        frames: a unit for every 20 ms, int64 `(rows, num_frames)`.
        languages: rows of its table, int64 `(rows, 1)`.
        speakers: likewise.

    Returns:
        `(rows, 320 · num_frames)` in [-1, 1].
    """
    units = generator.unit_embedding(frames).transpose(1, 2)
    length = frames.shape[1]
    language = generator.language_embedding(languages).transpose(1, 2).expand(-1, -1, length)
    speaker = generator.speaker_embedding(speakers).transpose(1, 2).expand(-1, -1, length)
    return generator.hifi_gan(torch.cat([language, units, speaker], 1))


def speech_of_rows(generator: Any, rows: Sequence[Any], languages: Any, speakers: Any) -> list[Any]:
    """Speech of rows of units that are of unlike length, each what it is alone, to 1e-5 of full scale.

    Every convolution is kept from padding: to a row that ends it is the zeros that stand around a row by itself.

    Args:
        generator: SeamlessM4TCodeHifiGan.
        rows: a unit for every 20 ms, int64 `(num_frames,)` of each row.
        languages: rows of its table, int64 `(rows, 1)`.
        speakers: likewise.

    Returns:
        of each row `(320 · num_frames,)` in [-1, 1].
    """
    device = languages.device
    lengths = torch.tensor([len(row) for row in rows], device=device)
    longest = int(lengths.max())

    def without_padding(module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        (state,) = inputs
        steps = state.shape[2] // longest  # to a frame
        there = torch.arange(state.shape[2], device=device) < steps * lengths[:, None]
        return (state.masked_fill(~there[:, None], 0.0),)

    convolutions = (torch.nn.Conv1d, torch.nn.ConvTranspose1d)
    modules = [module for module in generator.hifi_gan.modules() if isinstance(module, convolutions)]
    hooks = [module.register_forward_pre_hook(without_padding) for module in modules if len(rows) > 1]
    try:
        speech = speech_of(
            generator, torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True), languages, speakers
        )
    finally:
        for hook in hooks:
            hook.remove()
    per_frame = speech.shape[1] // longest
    return [row[: per_frame * length] for row, length in zip(speech, lengths.tolist(), strict=True)]


def log_durations(generator: Any, units: Any, mask: Any, seeds: Sequence[int] | None = None) -> Any:
    """log(d + 1) of each unit, as its `dur_predictor` finds it in each row without padding.

    That module has no mask, and what stands behind a shorter row would be heard at its end; so its layers are gone
    through here, with zeros there.

    Args:
        generator: SeamlessM4TCodeHifiGan.
        units: without repetitions, int64 `(rows, num_units)`, padded with any unit.
        mask: whether a unit is there, bool of the same shape; all that are there come first.
        seeds: of each row, by which dropout is drawn, so that a row has the same whichever rows are with it; None:
            there is no dropout.
    """
    predictor, there = generator.dur_predictor, mask[:, :, None]
    state = generator.unit_embedding(units)
    share = 0.0 if seeds is None else generator.config.var_pred_dropout
    rows = [torch.Generator(units.device).manual_seed(seed) for seed in seeds or ()]
    for convolution, norm in ((predictor.conv1, predictor.ln1), (predictor.conv2, predictor.ln2)):
        state = convolution((state * there).transpose(1, 2))
        state = norm(predictor.activation_function(state).transpose(1, 2))
        if share:
            state = state * _dropped(rows, mask.sum(1).tolist(), state.shape[2], share)
    return predictor.proj(state).squeeze(2)


def _dropped(rows: Sequence[Any], lengths: Sequence[int], channels: int, share: float) -> Any:
    """Factors of dropout `(rows, num_units, channels)`: 0, or what keeps the mean; by each row's random numbers."""
    kept = [
        torch.rand((length, channels), generator=row, device=row.device) >= share
        for row, length in zip(rows, lengths, strict=True)
    ]
    return torch.nn.utils.rnn.pad_sequence(kept, batch_first=True) / (1 - share)


def durations_of(logarithms: Any) -> Any:
    """Whole numbers of frames of what `log_durations` finds, at least one: SeamlessM4T's rule."""
    return torch.expm1(logarithms.float()).round().long().clamp(min=1)


def plain(generator: Any) -> Any:
    """The same generator with its weights as they stand, without weight normalisation, on the processor.

    It draws no random numbers.
    """
    from transformers import SeamlessM4TCodeHifiGan

    config = copy.deepcopy(generator.config)
    with torch.device("meta"):
        made = SeamlessM4TCodeHifiGan(config)
    with torch.no_grad():
        state = {name: attrgetter(name)(generator).detach().cpu().clone() for name in made.state_dict()}
    made.load_state_dict(state, assign=True)
    return made.eval()
