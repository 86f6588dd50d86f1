"""Long and hostile recordings: limits of length, time and memory, and what is spooled to a file."""

import io
import mmap
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from seamlessalign import audio
from seamlessalign.audio import Decoding
from seamlessalign.errors import StorageError, UnreadableError
from tests.ground.sounds import noise, write_sound

RATE = 16_000


def test_a_small_file_of_an_hour_is_told_by_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.flac"
    with soundfile.SoundFile(path, "w", 16_000, 1, format="FLAC", subtype="PCM_16") as file:
        for _ in range(10):
            file.write(np.zeros(RATE * 360, np.int16))
    assert path.stat().st_size < 1 << 20

    def decode(*_: Any, **__: Any) -> Any:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(soundfile.SoundFile, "read", decode)
    with pytest.raises(UnreadableError, match=r"has 1\.00 h or more, and 0\.75 h are allowed") as caught:
        audio.decode(path, Decoding(max_seconds=0.75 * 3600))
    assert caught.value.reason == "too_long"


def test_a_recording_that_does_not_say_how_long_it_is_is_told_on_the_way(tmp_path: Path) -> None:
    path = tmp_path / "a.g722"
    path.write_bytes(bytes(8000 * 200))
    assert len(audio.decode(path, Decoding(max_seconds=200)).samples) == RATE * 200
    with pytest.raises(UnreadableError, match="too_long"):
        audio.decode(path, Decoding(max_seconds=199))


def test_a_decoder_that_takes_too_long_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_sound(tmp_path / "a.wav", noise(RATE * 3), RATE, "WAV")
    whole = soundfile.SoundFile.read

    def slow(*arguments: Any, **named: Any) -> Any:
        time.sleep(0.3)
        return whole(*arguments, **named)

    monkeypatch.setattr(soundfile.SoundFile, "read", slow)
    with pytest.raises(UnreadableError, match=r"was not decoded within 0\.2 s") as caught:
        audio.decode(path, Decoding(timeout_seconds=0.2))
    assert caught.value.reason == "timeout"


def test_a_header_that_claims_many_channels_takes_no_memory_for_them(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", noise(RATE * 16, 1), RATE, "WAV")
    data = bytearray(path.read_bytes())
    struct.pack_into("<HI", data, 22, 1024, 768_000)
    struct.pack_into("<H", data, 32, 2048)
    path.write_bytes(data)
    program = (
        "import resource, sys, pathlib; from seamlessalign import audio;"
        "resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30));"
        "print(len(audio.decode(pathlib.Path(sys.argv[1])).samples))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 250 * RATE // 768_000


# --- long recordings


def test_spooled_equals_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_sound(tmp_path / "long.flac", noise(8_000 * 150, 2), 8_000, "FLAC")
    held = audio.decode(path).samples
    assert not isinstance(held, np.memmap)
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spool))
    spooled = audio.decode(path, spool_seconds=100).samples
    assert isinstance(spooled, np.memmap)
    assert not spooled.flags.writeable
    assert not list(spool.iterdir())
    np.testing.assert_array_equal(spooled, held)
    for view in (spooled, spooled[5:], np.asarray(spooled)[::2]):
        audio.release(view)
        np.testing.assert_array_equal(spooled, held)


def test_release_leaves_other_arrays_alone() -> None:
    ordinary = np.ones(100_000, np.float32)
    audio.release(ordinary)
    assert ordinary.sum() == 100_000
    with mmap.mmap(-1, 1 << 20) as private:
        mapped = np.frombuffer(private, np.uint8)
        mapped[:] = 7
        audio.release(mapped)
        assert (mapped == 7).all()
        del mapped


def test_release_keeps_what_was_written_to_a_private_map(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(1 << 16))
    mapped = np.memmap(tmp_path / "file", np.uint8, mode="c")
    mapped[:] = 7
    audio.release(mapped)
    assert (mapped == 7).all()


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_sound(tmp_path / "long.wav", noise(RATE * 3), RATE, "WAV")
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: io.FileIO("/dev/full", "r+"))
    with pytest.raises(StorageError, match=r"No space left.*TMPDIR"):
        audio.decode(path, spool_seconds=1)
    assert len(audio.decode(path).samples) == RATE * 3


_MEASURE = """
import sys
from pathlib import Path
import numpy as np
from seamlessalign import audio

def peak():  # VmHWM: ru_maxrss would begin at what the process that started this one holds
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024

audio.decode(Path(sys.argv[2]))
before = peak()
samples = audio.decode(Path(sys.argv[1]), spool_seconds=float(sys.argv[3])).samples
energy = 0.0
for start in range(0, len(samples), 960_000):
    energy += float(np.square(samples[start : start + 960_000]).sum())
    audio.release(samples)
print(len(samples), energy > 0, before, peak())
"""


def _measured(long: Path, short: Path, spool_seconds: float) -> tuple[int, int, int]:
    """Samples, resident bytes before and at the peak of decoding and walking over a recording."""
    command = [sys.executable, "-c", _MEASURE, str(long), str(short), str(spool_seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    num_samples, heard, before, peak = done.stdout.split()
    assert heard == "True"
    return int(num_samples), int(before), int(peak)


def _tone(path: Path, minutes: int, rate: int, kind: str) -> None:
    container, _, subtype = kind.partition("/")
    block = (8000 * np.sin(np.arange(rate * 60) * 0.05)).astype(np.int16)
    with soundfile.SoundFile(path, "w", rate, 1, format=container, subtype=subtype) as file:
        for _ in range(minutes):
            file.write(block)


def test_memory_is_bounded(tmp_path: Path) -> None:
    _tone(tmp_path / "short.wav", 3, RATE, "WAV/PCM_16")
    _tone(tmp_path / "long.wav", 60, RATE, "WAV/PCM_16")  # 230 MB as float32
    num_samples, before, peak = _measured(tmp_path / "long.wav", tmp_path / "short.wav", 60)
    assert num_samples == 3600 * RATE
    assert peak - before < 40 << 20


@pytest.mark.slow
def test_ten_hours_stay_under_a_gibibyte(tmp_path: Path) -> None:
    _tone(tmp_path / "short.wav", 1, RATE, "WAV/PCM_16")
    _tone(tmp_path / "long.flac", 600, 8_000, "FLAC/PCM_16")
    num_samples, _, peak = _measured(tmp_path / "long.flac", tmp_path / "short.wav", audio.SPOOL_SECONDS)
    assert num_samples == 36_000 * RATE
    assert peak < 1 << 30
    print(f"peak {peak / 2**20:.0f} MiB")
