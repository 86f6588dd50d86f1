"""The program, run in forks of one process that has loaded everything, with faults at calls that change its files.

A run of a few milliseconds can so be tried hundreds of times: `WarmProgram` starts this module under the shim of
`shim.c`, and asks it on a pipe for one fork after the other. In a fork the command line runs whole and unchanged but
for one thing: shards are done in this process, one after the other, not in worker processes.
"""

import ctypes
import errno
import gc
import json
import logging
import os
import random
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from seamlessalign.pipelines.local import LocalExecutor
from tests.pipelines.small_corpus import HOUSE, complaint, environment

COUNT, KILL, TORN, LOSE_DATA, LOSE_NAMES, FAIL_ONCE, FAIL_ON = range(7)  # as in shim.c
_PR_SET_CHILD_SUBREAPER = 36
_PATIENCE = 60  # seconds of processor time that one fork may take
_KEPT_ENDS = 4000  # characters of what it says


@dataclass(frozen=True)
class Fault:
    """What happens at the n-th call, from 1, that changes (or, with `reading`, reads) a file of the run's folder."""

    mode: int
    at: int = 0
    error: int = 0  # errno
    reading: bool = False

    @property
    def name(self) -> str:
        """For people."""
        names = {KILL: "killed", TORN: "killed half way", LOSE_DATA: "power lost", LOSE_NAMES: "power and names lost"}
        lasting = " from then on" if self.mode == FAIL_ON else ""
        return names.get(self.mode) or errno.errorcode[self.error] + lasting


@dataclass(frozen=True)
class Clock:
    """From the n-th call on, the clock is so many seconds ahead."""

    seconds: int
    at: int


@dataclass
class Twins:
    """Every shard is done by two processes at once, which begin `apart` seconds from each other at most.

    `late`: the driver does not wait for the other one, which may be at it when the driver is at later stages, or gone.
    """

    seed: int
    apart: float = 0.02
    late: bool = False

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)


class Call(NamedTuple):
    """A call that changes a file: its kind, and the file below the run's folder."""

    kind: str
    file: str


@dataclass(frozen=True)
class Outcome:
    """How a fork ended: exit status, negative for a signal; what it said; its calls; and those that met a fault."""

    status: int
    out: str
    err: str
    calls: list[Call]
    faults: list[Call]

    @property
    def kept(self) -> int:
        """Shards that were done before, as the program says."""
        said = re.search(r"^(\d+) shards had been done before", self.out, re.MULTILINE)
        return int(said[1]) if said else 0

    @property
    def complaint(self) -> str:
        """The one line about an error; fails where there is another."""
        return complaint(self.err)


class WarmProgram:
    """A process that has everything loaded. `config`: of the run that it is warmed with."""

    def __init__(self, config: Path, scratch: Path) -> None:
        self._scratch, self._asked = scratch, 0
        scratch.mkdir(parents=True)
        shim = build_shim(scratch)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.warm_program", str(config), str(scratch / "warm")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**environment(), "LD_PRELOAD": str(shim), "OMP_NUM_THREADS": "1"},
            cwd=HOUSE,
        )
        self._answer()

    def run(self, config: Path, folder: Path, *overrides: str, **options: Any) -> Outcome:
        """`seamlessalign run` in a fork, with options of `call`."""
        return self.call("run", config, "--output", folder, *overrides, folder=folder, **options)

    def call(
        self,
        *arguments: str | Path,
        folder: Path,
        fault: Fault | None = None,
        clock: Clock | None = None,
        twins: Twins | None = None,
        report: bool = True,
    ) -> Outcome:
        """The program with arguments in a fork; faults are in `folder`. Without `report` a run writes none."""
        self._asked += 1
        place = self._scratch / f"call-{self._asked}"
        (place / "graves").mkdir(parents=True)
        request = {
            "arguments": list(map(str, arguments)),
            "folder": str(folder),
            "place": str(place),
            "fault": asdict(fault or Fault(COUNT)),
            "clock": None if clock is None else asdict(clock),
            "twins": None if twins is None else asdict(twins),
            "report": report,
        }
        status = int(self._asked_for(request))
        lines = [line.split("\t") for line in (place / "met").read_text().splitlines()]
        out, err = ((place / name).read_text(errors="replace")[-_KEPT_ENDS:] for name in ("out", "err"))
        calls, faults = ([Call(*line[:2]) for line in lines if line[2] or not only] for only in (False, True))
        outcome = Outcome(status, out, err, calls, faults)
        subprocess.run(["rm", "-rf", str(place)], check=True)
        return outcome

    def wait_for_twins(self) -> None:
        """Come back when all that forks left behind has ended."""
        self._asked_for(None)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _asked_for(self, request: dict[str, Any] | None) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            pytest.fail(f"the warm process ended with status {self._process.wait()}")
        return line


def build_shim(scratch: Path) -> Path:
    """Compile the shim; returns the library."""
    shim = scratch / "shim.so"
    source = Path(__file__).with_name("shim.c")
    flags = ["-shared", "-fPIC", "-O1", "-U_FORTIFY_SOURCE", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["cc", *flags, "-o", shim, source, "-ldl", "-pthread"], check=True)
    return shim


class InThisProcess(LocalExecutor):
    """An executor that does shards in the driver's own process, one after the other."""

    twins: Twins | None = None

    def execute(self, stage: str, tasks: list[Any], context: Any, progress: Callable[[float], None]) -> None:
        """Do the shards of a stage."""
        from seamlessalign.pipelines.beam_stage import DoShard
        from seamlessalign.pipelines.context import set_progress

        set_progress(lambda stage, amount: progress(amount))
        do = DoShard(context)
        do.setup()
        for task in tasks:
            if self.twins is None:
                list(do.process(task))
            else:
                self._twice(lambda task=task: list(do.process(task)), self.twins)  # type: ignore[misc]

    @staticmethod
    def _twice(work: Callable[[], object], twins: Twins) -> None:
        from seamlessalign.pipelines.context import set_progress

        later = twins.random.uniform(-twins.apart, twins.apart)  # either may be the first to begin and to end
        twin = os.fork()
        if not twin:
            ctypes.CDLL(None).faults_disarm()
            set_progress(None)  # a worker writes no heartbeat
            _let_go_of_locks()  # nor does it hold its driver's lock
            time.sleep(max(later, 0))
            work()
            os._exit(0)
        time.sleep(max(-later, 0))
        work()
        if not twins.late and os.waitpid(twin, 0)[1]:
            sys.exit("a twin failed")


def _let_go_of_locks() -> None:
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - of numbers
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").endswith("/state/lock"):  # noqa: PTH115
                os.close(int(name))


def _serve(config: str, warm: str) -> None:
    from seamlessalign import cli
    from seamlessalign.pipelines import run

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    setattr(run, "LocalExecutor", InThisProcess)  # noqa: B010 - mypy knows the name as a class
    status = cli.main(["run", config, "--output", warm])
    if status not in (0, 3):
        sys.exit(f"the run that warms up ended with status {status}")
    answers.write("ready\n")
    answers.flush()
    gc.freeze()  # what is loaded stays shared by all forks
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    for line in sys.stdin:
        request = json.loads(line)
        if request is None:
            with suppress(ChildProcessError):
                while True:
                    os.wait()
            answers.write("alone\n")
            answers.flush()
            continue
        child = os.fork()
        if child == 0:
            _end(_in_fork(request, cli.main))
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        answers.write(f"{ended}\n")
        answers.flush()


def _in_fork(request: dict[str, Any], main: Callable[[list[str]], int]) -> int:
    place = Path(request["place"])
    for number, name in ((1, "out"), (2, "err")):
        handle = os.open(place / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, number)
    resource.setrlimit(resource.RLIMIT_CPU, (_PATIENCE, _PATIENCE))
    logging.getLogger().handlers.clear()
    logging.getLogger("seamlessalign").setLevel(logging.ERROR)
    if not request["report"]:
        from seamlessalign.pipelines import report

        setattr(report, "build_report", lambda root: "none")  # noqa: B010 - it is half of the time
    if request["twins"] is not None:
        InThisProcess.twins = Twins(**request["twins"])
    shim, fault, clock = ctypes.CDLL(None), request["fault"], request["clock"]
    if clock is not None:
        shim.faults_shift_clock(ctypes.c_long(clock["seconds"]), ctypes.c_long(clock["at"]))
    names = [os.fsencode(name) for name in (request["folder"], place / "graves", place / "met")]
    shim.faults_arm(*names, fault["mode"], fault["error"], ctypes.c_long(fault["at"]), int(fault["reading"]))
    return main(request["arguments"])


def _end(status: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
