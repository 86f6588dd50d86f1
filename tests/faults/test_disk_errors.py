"""A disk that is full, broken or read-only, at any call: one line that names the file, and the next run mends it."""

import errno
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.crashes import Tiny, finished, moments, sampled
from tests.faults.tiny_run import STATUS
from tests.faults.warm_program import COUNT, FAIL_ON, FAIL_ONCE, Fault
from tests.pipelines.small_corpus import complaint, mine, program

FULL, BROKEN, READ_ONLY = errno.ENOSPC, errno.EIO, errno.EROFS
# what only tells how a run goes: no error there ends it
_TOLERATED = re.compile(r"/state/(\.writing-)?progress\.json.*|/state|/logs\b.*")


def _fail(tiny: Tiny, fault: Fault, counted: Counter[str]) -> bool:
    """A run that meets an error, and one after it that does not; whether there was an error."""
    folder = tiny.folder()
    failed = tiny.program.run(tiny.config, folder, fault=fault)
    if not failed.faults:
        shutil.rmtree(folder)
        return False
    call = failed.faults[0]
    try:
        if failed.status == STATUS:
            assert all(_TOLERATED.fullmatch(file) for _, file in failed.faults), failed.faults
        else:
            assert failed.status in (1, 2), failed
            line = failed.complaint
            assert ".writing-" not in line and (fault.reading or os.strerror(fault.error) in line), line
            assert any(f"{folder}{_named(file)}" in line for _, file in failed.faults), line
        tiny.again(folder, counted)
    except AssertionError as error:
        error.add_note(f"{fault.name} at call {fault.at}, {call.kind} of {call.file}: {failed.err[-300:]}")
        raise
    counted[f"errors: {fault.name} at {call.kind}"] += 1
    return True


def _named(file: str) -> str:
    """What a complaint about a file must have: its name, or of one that has a temporary name what it will be."""
    known = re.sub(r"/\.writing-(.*?)(\.scratch)?\.\d+\.\d+$", r"/\1", file)
    return re.sub(r"/\.tmp\w+$", "/", known)  # as safetensors calls a file before it has its name


@pytest.mark.slow
@pytest.mark.parametrize("error", [FULL, BROKEN, READ_ONLY])
@pytest.mark.parametrize("mode", [FAIL_ONCE, FAIL_ON])
def test_an_error_at_any_change(tiny: Tiny, counted: Counter[str], error: int, mode: int) -> None:
    numbers = sampled(moments(tiny.whole()[1]), 20)
    tried = sum(_fail(tiny, Fault(mode, number, error), counted) for number in numbers)
    # a folder that is read-only for one call lets pass what is done to a file that is open
    assert tried == len(numbers) or ((error, mode) == (READ_ONLY, FAIL_ONCE) and tried >= len(numbers) // 4)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [FAIL_ONCE, FAIL_ON])
def test_an_error_at_any_reading(tiny: Tiny, counted: Counter[str], mode: int) -> None:
    folder = tiny.folder()
    calls = tiny.program.run(tiny.config, folder, fault=Fault(COUNT, reading=True)).calls
    shutil.rmtree(folder)
    tried = sampled(moments(calls), 15)
    met = sum(_fail(tiny, Fault(mode, number, BROKEN, reading=True), counted) for number in tried)
    assert met > len(tried) / 2


@contextmanager
def _own_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of so many bytes; skips the test where none can be mounted."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"a disk cannot be mounted: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)


@pytest.mark.slow
def test_a_disk_that_is_full_and_one_that_is_read_only(tiny: Tiny, tmp_path: Path, counted: Counter[str]) -> None:
    """Real disks, and the real program with its worker processes."""
    whole, _ = tiny.whole()
    with _own_disk(tmp_path / "disk", "120k") as disk:
        folder = disk / "run"
        for size in ("120k", "180k"):
            _remount(disk, f"size={size}")
            full = mine(tiny.config, folder)
            assert full.status == 2, full.err
            line = complaint(full.err)
            assert line.startswith(f"seamlessalign: {folder}/") and "No space left on device" in line, line
            told = program("status", folder).stdout  # that it failed is told where there was room to note it
            assert told.startswith((f"{folder}: failed", f"{folder}: stopped")), told
        _remount(disk, "size=16m,ro")
        fixed = mine(tiny.config, folder)
        assert fixed.status == 2, fixed.err
        line = complaint(fixed.err)
        assert line.startswith(f"seamlessalign: {folder}/") and line.endswith("Read-only file system"), line
        assert program("status", folder).returncode == 0
        _remount(disk, "rw")
        assert mine(tiny.config, folder).status == STATUS
        assert finished(folder) == whole
        _remount(disk, "ro")
        assert program("status", folder).stdout.startswith(f"{folder}: done")
        refused = program("report", folder)
        assert refused.returncode == 2 and complaint(refused.stderr).endswith("Read-only file system"), refused.stderr
    counted["errors: real disks full or read-only"] += 4
