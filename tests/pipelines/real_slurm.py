"""A real Slurm on this machine, in a folder of its own: two nodes, three partitions, with or without accounting.

`main` has both nodes; its jobs make room for those of `high`, which has `second` only: they are warned with the signal
they asked for, and requeued ten seconds later. Those of `cheap`, also on `second`, are cancelled at once. There
are more processors configured than the machine has.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

NODES = ("first", "second")
_REVOKED_SECONDS = 8.0  # after a job was put off a node until its last process has gone
_PATIENCE = 120.0  # seconds until daemons that do not answer fail the test
_CONF = """
ClusterName=probe
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={sockets}/munge
CryptoType=crypto/munge
SlurmctldPort={ports[0]}
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType={gather}
AccountingStorageType={storage}
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=bf_interval=1,sched_min_interval=100000,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=5
OverTimeLimit=0
MaxArraySize=3
MinJobAge=3600
ReturnToService=2
DefMemPerCPU=500
StateSaveLocation={folder}/state
SlurmdSpoolDir={spool}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
NodeName=first NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=8 RealMemory=20000 State=UNKNOWN
NodeName=second NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=8 RealMemory=20000 State=UNKNOWN
PartitionName=main Nodes=first,second Default=YES State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=10
PartitionName=cheap Nodes=second State=UP PriorityTier=1 PreemptMode=CANCEL GraceTime=0
PartitionName=high Nodes=second State=UP PriorityTier=10 PreemptMode=OFF
"""
_WITH_DATABASE = """
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={sockets}/munge
"""
_DATABASE_CONF = """
AuthType=auth/munge
AuthInfo=socket={sockets}/munge
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={storage_port}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_accounting
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
"""


@dataclass(frozen=True)
class Slurm:
    """A Slurm at work, found through $SLURM_CONF. `folder` has its configuration and logs."""

    folder: Path
    requeued: dict[str, float] = field(default_factory=dict)  # since when jobs wait to begin again

    def queue(self, form: str = "%i %T") -> list[list[str]]:
        """A line of squeue for each task, those that ended lately too, as words."""
        command = ["squeue", "--noheader", "--array", "--states=all", f"--format={form}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return [line.split() for line in done.stdout.splitlines()]

    def update(self, *words: str) -> None:
        """`scontrol update`."""
        subprocess.run(["scontrol", "update", *words], check=True, capture_output=True)

    def hurry(self) -> None:
        """Let requeued jobs begin some seconds later rather than in two minutes; to be called again and again."""
        for job, state, *reason in self.queue("%i %T %r"):
            if state != "PENDING" or reason != ["BeginTime"]:
                self.requeued.pop(job, None)
            elif time.monotonic() - self.requeued.setdefault(job, time.monotonic()) >= _REVOKED_SECONDS:
                self.update(f"jobid={job}", "StartTime=now")


@contextmanager
def slurm(folder: Path, *, accounting: bool = False, starts_jobs: bool = True) -> Iterator[Slurm]:
    """Slurm at work in a folder; the test is skipped where it is not installed or this is not root.

    accounting: with slurmdbd and a database, so that `sacct` answers. starts_jobs: or else its nodes fail to, since
    names of their sockets are too long.
    """
    needed = ["slurmctld", "slurmd", "munged", "sbatch", *(["slurmdbd", "mariadbd"] if accounting else [])]
    if os.geteuid() != 0 or not all(map(shutil.which, needed)):
        pytest.skip(f"needs root and the programs {', '.join(needed)}")
    (folder / "state").mkdir(parents=True)
    conf, host = folder / "slurm.conf", socket.gethostname().split(".")[0]
    ports = _free_ports(5)
    kinds = ("jobacct_gather/linux", "accounting_storage/slurmdbd") if accounting else (
        "jobacct_gather/none", "accounting_storage/none")  # fmt: skip
    # names of sockets have to be short, and slurmd puts some where its jobs' files are
    sockets = Path(tempfile.mkdtemp(prefix="slurm-"))
    spool = sockets if starts_jobs else folder / ("long" * 25)
    for node in NODES:
        (spool / node).mkdir(parents=True)
    text = _CONF.format(
        host=host, folder=folder, sockets=sockets, spool=spool, ports=ports, gather=kinds[0], storage=kinds[1]
    )
    conf.write_text(text + (_WITH_DATABASE.format(port=ports[3], sockets=sockets) if accounting else ""))
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(conf)
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        _start_munge(daemons, sockets)
        if accounting:
            _start_database(daemons, folder, sockets, host, ports[3], ports[4])
        daemons.append(_start("slurmctld", "-D", "-f", conf, "-c"))
        daemons += [_start("slurmd", "-D", "-f", conf, "-c", "-N", node) for node in NODES]
        _wait_until(_all_idle, folder / "slurmctld.log")
        yield Slurm(folder)
    finally:
        subprocess.run(["scancel", "--signal=KILL", "--full", "--user=root"], capture_output=True)
        subprocess.run(["scancel", "--user=root"], capture_output=True)
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            daemon.kill()
            daemon.wait()
        shutil.rmtree(sockets, ignore_errors=True)
        if before is None:
            del os.environ["SLURM_CONF"]
        else:
            os.environ["SLURM_CONF"] = before


def _start(*command: str | Path) -> "subprocess.Popen[bytes]":
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([str(part) for part in command], **quiet)  # type: ignore[call-overload,no-any-return]


def _start_munge(daemons: "list[subprocess.Popen[bytes]]", sockets: Path) -> None:
    """A munged of this Slurm's own: others may end theirs at any time."""
    key = sockets / "munge.key"
    key.touch(0o600)
    key.write_bytes(os.urandom(1024))
    files = {"key-file": key, "pid-file": sockets / "pid", "log-file": sockets / "log", "seed-file": sockets / "seed"}
    socket_file = sockets / "munge"
    options = [f"--{name}={file}" for name, file in {**files, "socket": socket_file}.items()]
    daemons.append(_start(shutil.which("munged") or "munged", "--foreground", "--force", *options))
    _wait_until(lambda: _succeeds("munge", "-n", f"--socket={socket_file}"), None)


def _start_database(
    daemons: "list[subprocess.Popen[bytes]]", folder: Path, sockets: Path, host: str, port: int, storage_port: int
) -> None:
    """MariaDB on the loopback in the folder, and slurmdbd over it, with the cluster and root as its user."""
    data, log = folder / "mariadb", folder / "slurmdbd.log"
    make = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--user=root", "--skip-test-db",
            "--auth-root-authentication-method=normal"]  # fmt: skip
    subprocess.run(make, check=True, capture_output=True)
    socket_file = sockets / "mariadb"
    daemons.append(
        _start(
            "mariadbd", "--no-defaults", f"--datadir={data}", "--user=root", "--bind-address=127.0.0.1",
            f"--port={storage_port}", f"--socket={socket_file}", f"--pid-file={folder}/mariadb.pid",
            "--innodb-buffer-pool-size=64M", f"--log-error={folder}/mariadb.log",
        )
    )  # fmt: skip
    client = ["mariadb", "--no-defaults", f"--socket={socket_file}", "--user=root"]
    _wait_until(lambda: _succeeds(*client, "--execute=select 1"), folder / "mariadb.log")
    rights = "create user slurm@'127.0.0.1' identified by 'slurm'; grant all on slurm_accounting.* to slurm@'127.0.0.1'"
    subprocess.run([*client, f"--execute={rights}"], check=True, capture_output=True)
    conf = folder / "slurmdbd.conf"
    conf.write_text(
        _DATABASE_CONF.format(host=host, port=port, storage_port=storage_port, folder=folder, sockets=sockets)
    )
    conf.chmod(0o600)
    daemons.append(_start("slurmdbd", "-D"))  # which looks for its file beside $SLURM_CONF
    _wait_until(lambda: _succeeds("sacctmgr", "--immediate", "add", "cluster", "probe"), log)
    for what in (["account", "main"], ["user", "root", "account=main"]):
        subprocess.run(["sacctmgr", "--immediate", "add", *what], check=True, capture_output=True)


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True).returncode == 0


def _all_idle() -> bool:
    done = subprocess.run(["sinfo", "--noheader", "--Node", "--format=%N %t"], capture_output=True, text=True)
    return {tuple(line.split()) for line in done.stdout.splitlines()} == {(node, "idle") for node in NODES}


def _wait_until(moment: Callable[[], bool], log: Path | None) -> None:
    until = time.monotonic() + _PATIENCE
    while not moment():
        if time.monotonic() > until:
            pytest.fail(log.read_text()[-2000:] if log is not None and log.exists() else "a daemon does not answer")
        time.sleep(0.1)


def _free_ports(number: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
