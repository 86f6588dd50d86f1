"""Frames of recordings on disk, so that a frozen backbone hears each recording once: float16, one file each.

What comes from the cache and what goes into it are the same numbers, those of float16, so that a training does not
depend on which of its recordings are there already.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from seamlessalign import storage
from seamlessalign.embedders.student.frames import Frames
from seamlessalign.embedders.student.recordings import Plan, Recording

_BEGUN = "begun"  # lists of recordings that are being written


class FrameCache:
    """A folder of frames. Several processes may read and write it at a time."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def load(self, key: str, plan: Plan) -> Recording | None:
        """A recording with its frames in place of its sound; None where it is not there, or its file is damaged."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self._path(key), "pt") as file:
                about = json.loads((file.metadata() or {})["recording"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            token = tensors.get("token")
            frames = Frames(
                tensors["values"].float(), tensors["time"].numpy(), None if token is None else token.numpy()
            )
            return Recording(
                plan,
                about["lang"],
                about["members"],
                tensors["bounds"].numpy(),
                tensors["fragments"].numpy(),
                [(int(place), str(reason)) for place, reason in about["rejects"]],
                frames=frames,
                key=key,
            )
        except (OSError, SafetensorError, KeyError, ValueError):
            return None

    def save(self, recordings: Sequence[Recording], frames: Sequence[Frames]) -> list[Frames]:
        """Keep the frames of recordings that were heard together; returns them as they will be loaded."""
        listed = self.folder / _BEGUN / f"{recordings[0].key}.json"
        storage.write_bytes_atomic(str(listed), json.dumps([recording.key for recording in recordings]).encode())
        made = [self._save(recording, found) for recording, found in zip(recordings, frames, strict=True)]
        listed.unlink(missing_ok=True)
        return made

    def recover(self) -> None:
        """Remove what was being written when a program was killed: what is heard together must be kept together,
        because the last bits of frames depend on what else is in their batch."""
        for listed in sorted((self.folder / _BEGUN).glob("*.json")):
            for key in json.loads(listed.read_text(encoding="utf-8")):
                self._path(key).unlink(missing_ok=True)
            listed.unlink(missing_ok=True)
        storage.remove_unfinished(str(self.folder))

    def _save(self, recording: Recording, frames: Frames) -> Frames:
        from safetensors.torch import save_file

        values = frames.values.half().cpu()
        tensors = {
            "values": values.contiguous(),
            "time": torch.from_numpy(np.ascontiguousarray(frames.time)),
            "bounds": torch.from_numpy(recording.bounds),
            "fragments": torch.from_numpy(recording.fragments.copy()),
        }
        if frames.token is not None:
            tensors["token"] = torch.from_numpy(np.ascontiguousarray(frames.token))
        about = {"lang": recording.lang, "members": recording.members, "rejects": recording.rejects}
        with storage.atomic_local(str(self._path(recording.key))) as temporary:
            save_file(tensors, temporary, {"recording": json.dumps(about)})
        return Frames(values.float().to(frames.values.device), frames.time, frames.token)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"
