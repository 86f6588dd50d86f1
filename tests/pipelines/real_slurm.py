"""A real Slurm of one node on this machine, in a folder of its own, without accounting."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

_CONF = """
ClusterName=probe
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
SlurmctldPort={first}
SlurmdPort={second}
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=bf_interval=1,sched_min_interval=100000,batch_sched_delay=0
KillWait=2
ReturnToService=2
DefMemPerCPU=500
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=20000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES State=UP
"""


@contextmanager
def slurm(folder: Path) -> Iterator[None]:
    """Slurm at work, found through $SLURM_CONF; the test is skipped where it is not installed or this is not root."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("slurmctld", "slurmd", "munged", "sbatch"))):
        pytest.skip("needs root and the packages slurmctld, slurmd, slurm-client and munge")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    conf = folder / "slurm.conf"
    first, second = _free_ports()
    conf.write_text(_CONF.format(host=socket.gethostname().split(".")[0], folder=folder, first=first, second=second))
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(conf)
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        daemons += _munge()
        for command in (["slurmctld", "-D", "-f", conf, "-c"], ["slurmd", "-D", "-f", conf, "-c"]):
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            daemons.append(subprocess.Popen([str(part) for part in command], **quiet))  # type: ignore[call-overload]
        _wait_until_idle(folder)
        yield
    finally:
        subprocess.run(["scancel", "--state=PENDING", "--state=RUNNING"], capture_output=True)
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            daemon.kill()
        if before is None:
            del os.environ["SLURM_CONF"]
        else:
            os.environ["SLURM_CONF"] = before


def _munge() -> "list[subprocess.Popen[bytes]]":
    """munged in the foreground, unless one is at work already."""
    if subprocess.run(["munge", "-n"], capture_output=True).returncode == 0:
        return []
    run = Path("/run/munge")
    run.mkdir(exist_ok=True)
    shutil.chown(run, "munge", "munge")
    command = ["runuser", "-u", "munge", "--", shutil.which("munged") or "munged", "--foreground"]
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(100):
        if subprocess.run(["munge", "-n"], capture_output=True).returncode == 0:
            return [started]
        time.sleep(0.1)
    pytest.fail("munged does not answer")


def _wait_until_idle(folder: Path) -> None:
    for _ in range(200):
        done = subprocess.run(["sinfo", "--noheader", "--format=%t"], capture_output=True, text=True)
        if "idle" in done.stdout:
            return
        time.sleep(0.1)
    pytest.fail((folder / "slurmctld.log").read_text()[-2000:])


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]
