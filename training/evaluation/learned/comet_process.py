"""COMET in a process of its own: what is asked and answered are lines of JSON on its standard input and output.

It is run as a script, by whichever Python has the package unbabel-comet, and so imports nothing of this project.

The first line says which model: `model`, `device`, `batch`; the answer what was loaded, or `error`. Each further line
has `samples`, a list of `src`, `mt` and maybe `ref`; the answer has `scores`, or `error`.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what packages print is no answer
    questions = os.fdopen(0, encoding="utf-8")
    model, asked = None, {}
    for line in questions:
        question = json.loads(line)
        try:
            if model is None:
                model, asked = _loaded(question), question
                answer = _described(model, question)
            else:
                answer = {"scores": _scores(model, question["samples"], asked)}
        except Exception as error:  # noqa: BLE001 - the package raises anything, and is asked again
            kind = type(error).__name__
            missing = getattr(error, "name", "") if isinstance(error, ModuleNotFoundError) else ""
            answer = {"error": f"{kind}: {error}", "missing": missing}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _loaded(question: dict[str, Any]) -> Any:
    import torch
    from comet import load_from_checkpoint

    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (1, 13):
        raise RuntimeError(f"torch {torch.__version__} cannot load tensors alone: it needs 1.13")
    question["checkpoint"] = _checkpoint(question["model"])
    torch.manual_seed(0)
    model = load_from_checkpoint(question["checkpoint"], local_files_only=bool(os.environ.get("HF_HUB_OFFLINE")))
    return model.eval()


def _checkpoint(model: str) -> str:
    """The file of a model: itself, in its folder, or in the hub's cache, or fetched from the hub."""
    place = Path(model)
    if place.is_file():
        return str(place)
    if not place.is_dir():
        place = Path(_snapshot(model))
    file = place / "checkpoints" / "model.ckpt"
    if not file.is_file():
        raise FileNotFoundError(f"{place} has no checkpoints/model.ckpt")
    return str(file)


def _snapshot(name: str) -> str:
    from huggingface_hub import snapshot_download

    try:
        return str(snapshot_download(name, local_files_only=True))
    except Exception:  # noqa: BLE001 - it is not in the cache, for whatever reason
        if os.environ.get("HF_HUB_OFFLINE"):
            raise FileNotFoundError("it is neither here nor in the hub's cache, and HF_HUB_OFFLINE is set") from None
        return str(snapshot_download(name))


def _described(model: Any, question: dict[str, Any]) -> dict[str, Any]:
    from importlib.metadata import version

    segments = model.hparams.get("input_segments") or []
    return {
        "checkpoint": question["checkpoint"],
        "class": type(model).__name__,
        "encoder": Path(str(model.hparams.get("pretrained_model"))).name,
        "references": bool(model.requires_references()) or "ref" in segments,
        "version": version("unbabel-comet"),
    }


def _scores(model: Any, samples: list[dict[str, str]], asked: dict[str, Any]) -> list[float]:
    import torch

    torch.manual_seed(0)
    gpus = 1 if asked["device"] == "cuda" else 0
    found = model.predict(samples, batch_size=asked["batch"], gpus=gpus, num_workers=0, progress_bar=False)
    return [float(score) for score in found["scores"]]


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this script, whose modules have names that packages have too
    main()
