"""Poolers against slow sums over one span at a time; rows of spans that share frames; files of students."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from seamlessalign.embedders.student import POOLERS, BackboneConfig, Frames, PoolerConfig, Student, StudentConfig
from seamlessalign.embedders.student import model as module
from seamlessalign.embedders.student.backbones import build_backbone
from seamlessalign.embedders.student.pooler import build_pooler
from seamlessalign.errors import ConfigError, ModelError

SCRATCH = BackboneConfig(kind="scratch", width=16, layers=1, heads=2, ffn=32)
PLAIN = ["attention", "mean", "max"]


def _student(kind: str = "attention", seed: int = 0) -> Student:
    torch.manual_seed(seed)
    sizes = {"width": 12, "layers": 2, "heads": 3, "ffn": 20, "queries": 2} if kind == "attention" else {}
    config = StudentConfig(
        backbone=SCRATCH, train_backbone=True, pooler=PoolerConfig.model_validate({"kind": kind} | sizes), dim=7
    )
    student = Student(config, build_backbone(SCRATCH))
    student.eval()
    return student


def _frames(count: int, seed: int = 0) -> Frames:
    rng = np.random.default_rng(seed)
    time = np.sort(rng.integers(0, 1000, count))
    return Frames(torch.from_numpy(rng.standard_normal((count, 16)).astype(np.float32)), time)


def _slow(student: Student, values: Any) -> Any:
    """The row of one span's frames `(count, 16)`, query by query and head by head, in double precision."""
    w = {name.removeprefix("pooler."): p.detach().double() for name, p in student.named_parameters()}
    x = values.double()
    if student.config.pooler.kind != "attention":
        pooled = x.sum(0) / len(x) if student.config.pooler.kind == "mean" else x.max(0).values
        return w["projection.weight"] @ pooled + w["projection.bias"]

    def norm(name: str, rows: Any) -> Any:
        centred = rows - rows.mean(-1, keepdim=True)
        return (
            centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]
        )

    def linear(name: str, rows: Any) -> Any:
        return rows @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)

    def attend(name: str, rows: Any, source: Any) -> Any:
        q, k, v = (
            linear(f"{name}.{part}", y) for part, y in (("q_proj", rows), ("k_proj", source), ("v_proj", source))
        )
        heads = []
        for h in range(3):
            part = slice(4 * h, 4 * h + 4)
            weights = torch.exp(q[:, part] @ k[:, part].T / math.sqrt(4))
            heads.append(weights / weights.sum(1, keepdim=True) @ v[:, part])
        return linear(f"{name}.out_proj", torch.cat(heads, 1))

    source = linear("enter.1", norm("enter.0", x))
    rows = w["attention.query"]
    for i in range(2):
        layer = f"attention.layers.{i}"
        rows = norm(f"{layer}.self_attn_layer_norm", rows + attend(f"{layer}.self_attn", rows, rows))
        rows = norm(f"{layer}.encoder_attn_layer_norm", rows + attend(f"{layer}.encoder_attn", rows, source))
        rows = norm(f"{layer}.final_layer_norm", rows + linear(f"{layer}.fc2", linear(f"{layer}.fc1", rows).relu()))
    return linear("leave", linear("attention.projection", rows).mean(0))


@pytest.mark.parametrize("kind", PLAIN)
@given(seed=st.integers(0, 2**31), count=st.integers(1, 40), num_spans=st.integers(0, 12))
@settings(max_examples=15, deadline=None)
def test_rows_are_the_slow_ones(kind: str, seed: int, count: int, num_spans: int) -> None:
    student, frames = _student(kind), _frames(count, seed)
    rng = np.random.default_rng(seed)
    spans = np.sort(rng.integers(-5, 1005, (num_spans, 2)), axis=1)
    with torch.no_grad():
        rows = student.pool(frames, spans)
    assert rows.shape == (num_spans, 7)
    for (start, end), row in zip(spans.tolist(), rows, strict=True):
        inside = [i for i, time in enumerate(frames.time.tolist()) if start <= time < end]
        if not inside:
            assert bool(row.isnan().all())
            continue
        wanted = _slow(student, frames.values[inside])
        assert torch.allclose(row.double(), wanted / wanted.norm(), atol=2e-5)


@pytest.mark.parametrize("kind", PLAIN)
def test_batches_make_no_difference(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    student, frames = _student(kind), _frames(50)
    spans = np.sort(np.random.default_rng(1).integers(0, 1000, (30, 2)), axis=1)
    with torch.no_grad():
        whole = student.pool(frames, spans)
        monkeypatch.setattr(module, "MOST_FRAMES", 60)
        parts = student.pool(frames, spans)
    assert torch.allclose(whole, parts, atol=1e-6, equal_nan=True)


def test_spans_share_gradients_of_frames() -> None:
    student, frames = _student(), _frames(20)
    values = frames.values.requires_grad_()
    spans = np.array([[0, 1000], [int(frames.time[3]), int(frames.time[8])], [5000, 6000]])
    student.pool(frames, spans)[:2].sum().backward()
    assert bool((values.grad.abs().sum(1) > 0).all()) and bool(values.grad.isfinite().all())


def test_every_kind_can_be_chosen_and_no_other() -> None:
    assert set(PLAIN) <= set(POOLERS)
    with pytest.raises(ConfigError, match="pooler kind 'sum' is not known; there are attention, mean, max"):
        build_pooler(PoolerConfig.model_construct(kind="sum"), 4, 4)


class TestFiles:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        _student().save(tmp_path)
        return tmp_path

    def test_a_round_trip_keeps_the_rows(self, folder: Path) -> None:
        loaded = Student.load(folder)
        frames, spans = _frames(20), np.array([[0, 1000], [200, 700]])
        with torch.no_grad():
            assert torch.equal(loaded.pool(frames, spans), _student().pool(frames, spans))
        assert not loaded.training and loaded.config == _student().config

    def test_half_of_the_bytes_and_nearly_the_rows(self, folder: Path, tmp_path: Path) -> None:
        half = tmp_path / "half"
        half.mkdir()
        _student().save(half, half=True)
        sizes = [(place / "model.safetensors").stat().st_size for place in (folder, half)]
        loaded = Student.load(half)
        frames, spans = _frames(20), np.array([[0, 1000]])
        with torch.no_grad():
            cosine = float((loaded.pool(frames, spans) * _student().pool(frames, spans)).sum())
        assert sizes[1] < 0.75 * sizes[0] and cosine > 0.9999
        assert next(loaded.parameters()).dtype == torch.float32

    def test_a_tensor_that_is_missing_is_named(self, folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        del tensors["pooler.leave.weight"]
        save_file(tensors, folder / "model.safetensors")
        with pytest.raises(ModelError, match=r"lacks pooler\.leave\.weight"):
            Student.load(folder)

    def test_a_tensor_too_much_and_one_of_another_shape(self, folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        save_file(tensors | {"more": torch.zeros(1)}, folder / "model.safetensors")
        with pytest.raises(ModelError, match="has too much: more"):
            Student.load(folder)
        save_file(tensors | {"pooler.leave.bias": torch.zeros(9)}, folder / "model.safetensors")
        with pytest.raises(ModelError, match=r"pooler\.leave\.bias has shape \(9,\), not \(7,\)"):
            Student.load(folder)

    @pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
    def test_a_file_that_is_damaged_or_missing(self, folder: Path, name: str) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:40])
        with pytest.raises(ModelError, match=f"{name}: cannot be read"):
            Student.load(folder)
        (folder / name).unlink()
        with pytest.raises(ModelError, match=f"{name}: cannot be read"):
            Student.load(folder)

    def test_a_key_that_is_unknown_is_named(self, folder: Path) -> None:
        described = json.loads((folder / "config.json").read_text())
        described["student"]["pooler"]["widht"] = 3
        (folder / "config.json").write_text(json.dumps(described))
        with pytest.raises(ConfigError, match=r"unknown key 'pooler\.widht'; did you mean 'width'\?"):
            Student.load(folder)
