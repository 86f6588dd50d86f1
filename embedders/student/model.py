"""The student: a backbone, frozen or trained, and a pooler; its rows are in the space of a text embedder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from seamlessalign.embedders.batches import batches
from seamlessalign.embedders.student.config import StudentConfig
from seamlessalign.embedders.student.frames import Backbone, Float32, Frames, Int64, frame_ranges
from seamlessalign.embedders.student.pooler import build_pooler
from seamlessalign.errors import ModelError
from seamlessalign.storage import atomic_local, write_bytes_atomic
from seamlessalign.typed_config import checked

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
MOST_FRAMES = 32_768  # padded, that are pooled in one batch


class Student(nn.Module):  # type: ignore[misc]
    """Speech → rows. Its parameters are the pooler's and, when it is trained, the backbone's."""

    def __init__(self, config: StudentConfig, backbone: Backbone, models: Mapping[str, str] | None = None) -> None:
        """A student whose pooler has random weights, on the backbone's device.

        models: model name → directory, for those that its pooler reads with.

        Raises ConfigError for a pooler that does not fit its backbone.
        """
        super().__init__()
        self.config = config
        self.backbone = backbone  # registered, and so part of the parameters, where it is a module
        self.pooler = build_pooler(config.pooler, backbone.dim, config.dim, models)
        if isinstance(backbone, nn.Module):
            for parameter in backbone.parameters():  # some are fixed even where the backbone is trained
                parameter.requires_grad_(parameter.requires_grad and config.train_backbone)
        self.to(getattr(backbone, "device", "cpu"))

    def forward(self, values: Any, mask: Any, token: Any = None) -> Any:
        """Rows `(batch, dim)`, not of unit length, of padded frames, as `Pooler` takes them."""
        return self.pooler(values, mask, token)

    def pool(self, frames: Frames, spans: Int64) -> Any:
        """Unit rows `(num_spans, dim)` of spans of the recording whose frames these are, in the order of the spans.

        spans: int64 `(num_spans, 2)`, samples `[start, end)`, in any order; they may overlap. The frames of a span are
        those with `start <= time < end`; the row of one without frames is NaN.
        """
        return nn.functional.normalize(self.pool_raw(frames, frame_ranges(frames.time, spans)), dim=1)

    def pool_raw(self, frames: Frames, ranges: Int64) -> Any:
        """Rows `(num_ranges, dim)`, not of unit length, of ranges of frames `[first, last)`; NaN for empty ones."""
        lengths = (ranges[:, 1] - ranges[:, 0]).tolist()
        values = frames.values
        token = None if frames.token is None else torch.as_tensor(frames.token, device=values.device)
        filled = [i for i, length in enumerate(lengths) if length > 0]
        rows = torch.full((len(ranges), self.config.dim), torch.nan, device=values.device)
        shared = self.pooler.pool_ranges(values, ranges[filled]) if filled and not self.training else None
        if shared is not None:
            return rows.index_copy(0, torch.as_tensor(filled, device=values.device), shared.float())
        made: list[Any] = []
        order: list[int] = []
        for batch in batches([lengths[i] for i in filled], MOST_FRAMES):
            members = [filled[i] for i in batch]
            first = torch.as_tensor(ranges[members, 0], device=values.device)
            length = torch.as_tensor([lengths[i] for i in members], device=values.device)
            places = torch.arange(lengths[members[0]], device=values.device)
            mask = places < length[:, None]
            index = (first[:, None] + places).clamp(max=len(values) - 1)
            made.append(self(values[index], mask, None if token is None else token[index]))
            order += members
        if not order:
            return rows
        return rows.index_copy(0, torch.as_tensor(order, device=values.device), torch.cat(made).float())

    def own_state(self) -> dict[str, Any]:
        """The tensors that training changes: the pooler's, and the backbone's where it is trained."""
        return {
            name: tensor
            for name, tensor in self.state_dict().items()
            if self.config.train_backbone or not name.startswith("backbone.")
        }

    def save(self, folder: Path, *, half: bool = False) -> None:
        """Write `config.json` and `model.safetensors`; a frozen backbone's weights are not in it.

        half: in float16, of half the size; they are float32 again when loaded.

        Raises StorageError where that cannot be written.
        """
        from safetensors.torch import save_file

        models = {**self.backbone.models, **self.pooler.models}
        described = {"student": self.config.model_dump(mode="json"), "models": models}
        write_bytes_atomic(str(folder / CONFIG_FILE), (json.dumps(described, indent=1) + "\n").encode())
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.own_state().items()}
        if half:
            tensors = {
                name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()
            }
        with atomic_local(str(folder / WEIGHTS_FILE)) as temporary:
            save_file(tensors, temporary)

    @staticmethod
    def load(
        folder: Path,
        device: str = "cpu",
        models: Mapping[str, str] | None = None,
        backbone: Backbone | None = None,
    ) -> "Student":
        """A student that was saved, in evaluation mode.

        Args:
            folder: with `config.json` and `model.safetensors`.
            device: torch device name.
            models: model name → directory, for models that lie in one.
            backbone: where it is loaded already; it must be of the saved kind.

        Raises:
            ModelError: a file that is missing or damaged, a tensor that is missing, superfluous, of another shape or
                not finite, or a backbone that cannot be found.
        """
        from seamlessalign.embedders.student.backbones import build_backbone

        config = load_student_config(folder)
        if backbone is None:
            backbone = build_backbone(config.backbone, device, models or {}, trained=config.train_backbone)
        student = Student(config, backbone, models)
        fill(student, read_weights_of(folder), str(folder / WEIGHTS_FILE))
        student.eval()
        return student


def load_student_config(folder: Path) -> StudentConfig:
    """The configuration of a saved student. Raises ModelError where it cannot be read, ConfigError if it is wrong."""
    try:
        described = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        inner = dict(described["student"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / CONFIG_FILE}: cannot be read as that of a student: {error}") from error
    return checked(StudentConfig, inner, str(folder / CONFIG_FILE))


def read_weights_of(folder: Path) -> dict[str, Any]:
    """The tensors of a saved student. Raises ModelError where they cannot be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(folder / WEIGHTS_FILE))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{folder / WEIGHTS_FILE}: cannot be read: {error}") from error


def fill(student: Student, tensors: Mapping[str, Any], origin: str) -> None:
    """Put saved tensors into a student.

    Raises ModelError that names what is missing, too much, of another shape, or not finite.
    """
    own = student.own_state()
    for what, names in (("lacks", own.keys() - tensors.keys()), ("has too much:", tensors.keys() - own.keys())):
        if names:
            listed = sorted(names)
            more = f" and {len(listed) - 3} more" if listed[3:] else ""
            raise ModelError(f"{origin}: {what} {', '.join(listed[:3])}{more}")
    wrong = [name for name in sorted(own) if own[name].shape != tensors[name].shape]
    if wrong:
        raise ModelError(
            f"{origin}: {wrong[0]} has shape {tuple(tensors[wrong[0]].shape)}, not {tuple(own[wrong[0]].shape)}; "
            "is the backbone the one it was trained with?"
        )
    spoilt = [name for name in sorted(own) if not bool(torch.isfinite(tensors[name]).all())]
    if spoilt:  # its rows would be NaN, as where nothing is heard
        raise ModelError(f"{origin}: {spoilt[0]} has values that are not finite")
    student.load_state_dict(dict(tensors), strict=False)


def unit(rows: Any) -> Float32:
    """Rows of a tensor divided by their length, as float32 numpy rows."""
    return np.asarray(nn.functional.normalize(rows.detach().float(), dim=1).cpu().numpy(), np.float32)
