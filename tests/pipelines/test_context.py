"""What steps cost: the processor time of this process, and of the children that ended in them."""

import os
import shlex
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from seamlessalign import audio
from seamlessalign.pipelines.context import Stopwatch
from tests.pipelines.small_corpus import environment


def _burn(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_steps_add_up_to_what_the_process_took() -> None:
    watch, begun = Stopwatch(), time.process_time()
    for name in ("one", "two", "one"):
        with watch.step(name):
            _burn(0.03)
    whole = time.process_time() - begun
    assert 0.09 <= sum(watch.seconds.values()) <= whole + 1e-6
    assert watch.seconds["one"] >= 0.06 and watch.seconds["two"] >= 0.03


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg: apt install ffmpeg")
def test_the_time_of_ffmpeg_is_in_the_step_that_decodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against what a shell tells of the ffmpeg that it ran in our place."""
    tone = 0.3 * np.sin(np.arange(44_100 * 40) * 0.05)
    soundfile.write(tmp_path / "tone.wav", np.stack([tone, -0.5 * tone], axis=1), 44_100)
    recording = tmp_path / "tone.m4a"
    made = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(tmp_path / "tone.wav"), "-c:a", "aac", str(recording)]
    subprocess.run(made, check=True)
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    told_in = shlex.quote(str(tmp_path / "told"))  # not through the environment, of which ffmpeg has little
    program.write_text(
        f'#!/bin/bash\nTIMEFORMAT="%U %S"\n{{ time {shutil.which("ffmpeg")} "$@" 2>&3; }} 3>&2 2>{told_in}\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    watch, begun = Stopwatch(), time.process_time()
    with watch.step("decode"):
        samples = audio.decode(recording).samples
    own = time.process_time() - begun
    assert len(samples) == pytest.approx(40 * 16_000, abs=3200)
    told = sum(map(float, (tmp_path / "told").read_text().split()))
    assert told > 0.02
    # the shell rounds to thousandths, and took a little itself
    assert own + told - 0.005 <= watch.seconds["decode"] <= own + told + 0.1


def test_threads_are_set_while_another_thread_loads_torch() -> None:
    """As recordings that are looked ahead to do, each in a thread; in a process that has not loaded it yet."""
    script = """
import threading, time
from seamlessalign.pipelines.context import use_threads
loading = threading.Thread(target=__import__, args=("torch",))
loading.start()
while loading.is_alive():
    use_threads(1)
    time.sleep(0.0005)
use_threads(1)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
