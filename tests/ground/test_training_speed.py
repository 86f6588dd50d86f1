"""How fast a training is said to be: counts against the clock, and operations against their known number."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from seamlessalign import training_speed
from seamlessalign.training_flops import peak, peak_of
from seamlessalign.training_speed import BY_THE_CLOCK, Speed
from tests.ground.line_trainer import train_line

CPU = SimpleNamespace(device=torch.device("cpu"), num_processes=1, mixed_precision="no")


class TestSpeed:
    def test_a_line_has_what_was_counted_over_the_seconds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = [100.0]
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        speed = Speed(CPU)

        def batches() -> Iterator[int]:
            for number in range(4):
                now[0] += 0.25  # what loading one takes
                yield number

        coming = speed.timed(batches())
        for _ in range(4):
            next(coming)
            now[0] += 1.0
            speed.add(6, 50)
            speed.step()
        line = speed.line()
        memory = line.pop("memory_gb")
        assert 0.01 < memory < 100
        assert line == {
            "steps_per_second": 0.8,
            "items_per_second": 4.8,
            "frames_per_second": 40.0,
            "loading_share": 0.2,
        }
        now[0] += 1.0
        assert speed.line()["steps_per_second"] == 0.0  # it begins anew

    def test_a_training_tells_it_in_every_line(self, tmp_path: Path) -> None:
        train_line(output=str(tmp_path), optimiser={"steps": 4}, log_every=2, resources={"device": "cpu"})
        lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
        some = [line for line in lines if "lr" in line]
        assert len(some) == 2
        for line in some:
            assert BY_THE_CLOCK & line.keys() == BY_THE_CLOCK - {"cuda_memory_gb", "flops_share"}
            assert line["frames_per_second"] == pytest.approx(3 * line["items_per_second"], rel=0.01)
            assert 0 <= line["loading_share"] <= 1

    def test_the_share_of_the_peak_is_of_counted_operations(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(training_speed, "peak", lambda device, precision: 1e6)
        now = [100.0]
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        speed = Speed(CPU)
        layer = torch.nn.Linear(64, 32, bias=False)
        for rows in (10, 20):
            with speed.counting():
                layer(torch.zeros(rows, 64, requires_grad=True)).sum().backward()
                speed.add(1, rows)
        now[0] += 2.0
        operations = 3 * 2 * 64 * 32 * 30  # forward, and backward for weights and inputs; of 30 rows
        assert speed.line()["flops_share"] == pytest.approx(operations / 2 / 1e6, abs=1e-4)


class TestPeak:
    def test_it_is_by_name_and_precision(self) -> None:
        assert peak_of("NVIDIA H200", "bf16") == peak_of("NVIDIA H100 80GB HBM3", "bf16") == 989e12
        assert peak_of("NVIDIA H100 PCIe", "fp16") == 756e12
        assert peak_of("NVIDIA A100-SXM4-80GB", "no") == 19.5e12
        assert peak_of("Tesla V100-SXM2-16GB", "bf16") is None  # it has none
        assert peak_of("NVIDIA A10G", "no") is None and peak_of("NVIDIA GeForce RTX 3060", "fp16") is None
        assert peak(CPU.device, "no") is None
