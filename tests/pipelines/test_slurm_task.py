"""A task of an array by itself: what it does again, when it gives up, and where submitit may keep what it pickles."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seamlessalign.errors import ConfigError, StorageError
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.ledger import Mark, write_mark
from seamlessalign.pipelines.shard_task import ShardTask
from seamlessalign.pipelines.slurm_submit import private_folder
from seamlessalign.pipelines.slurm_task import Group, marked_digest
from seamlessalign.pipelines.task_log import last_failure
from seamlessalign.slurm_config import SlurmConfig
from tests.pipelines.made_sides import config_of, context_of
from tests.pipelines.small_corpus import environment

_CHECKPOINTS = """
import sys
from pathlib import Path
from tests.pipelines.test_slurm_task import group, mark
made = group(Path(sys.argv[1]))
for step in sys.argv[2:]:
    if step != "-":
        mark(made, step)
    made.checkpoint()
    print([task.name for task in made.tasks], flush=True)
"""


def group(root: Path) -> Group:
    """Three shards that may be tried twice."""
    tasks = [ShardTask("search", name, f"digest of {name}", None) for name in "abc"]  # type: ignore[arg-type]
    return Group("search", tasks, context_of(config_of(root, ["eng-frA"])), SlurmConfig(minutes=7, retries=1))


def mark(made: Group, shard: str, digest: str | None = None) -> None:
    """Declare a shard done."""
    write_mark(made.context.folder, Mark("search", shard, digest or f"digest of {shard}", [], []))


def _checkpoints(root: Path, *steps: str) -> "subprocess.CompletedProcess[str]":
    """What a task prints whose time is up again and again; each step is a shard that is done before, or `-`."""
    command = [sys.executable, "-c", _CHECKPOINTS, str(root), *steps]
    with_id = {**environment(), "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"}
    return subprocess.run(command, capture_output=True, text=True, env=with_id, timeout=300)


def test_time_is_up_as_often_as_something_is_done(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="needs the extra 'slurm'")
    done = _checkpoints(tmp_path, "-", "b", "-", "a", "-")
    assert done.returncode == 0, done.stderr
    printed = [line for line in done.stdout.splitlines() if line.startswith("[")]
    assert printed == ["['a', 'b', 'c']", "['a', 'c']", "['a', 'c']", "['c']", "['c']"]
    assert "the task has had its 7 minutes; left: 2 of 3 shards" in done.stdout


def test_it_gives_up_where_nothing_gets_done(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="needs the extra 'slurm'")
    done = _checkpoints(tmp_path, "a", "-", "-", "-")
    assert done.returncode == 1
    assert [line for line in done.stdout.splitlines() if line.startswith("[")] == ["['b', 'c']", "['b', 'c']"]
    failure = last_failure(RunFolder(str(tmp_path)), "search", "b", job="12_3")
    assert failure is not None
    assert failure["error"] == (
        "stage search, b: was not done in 7 minutes, tried 2 times: set resources.slurm.stages.search.minutes higher"
    )


def test_started_again_it_does_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, did = group(tmp_path), []
    monkeypatch.setattr(
        "seamlessalign.pipelines.slurm_task.do_group", lambda stage, tasks, context: did.append([t.name for t in tasks])
    )
    mark(made, "a")
    mark(made, "b", "another digest")
    made()
    assert did == [["b", "c"]]
    mark(made, "b")
    mark(made, "c")
    made()
    assert did == [["b", "c"]]


def test_marks(tmp_path: Path) -> None:
    made = group(tmp_path)
    folder = made.context.folder
    assert marked_digest(folder, "search", "a") is None
    mark(made, "a")
    assert marked_digest(folder, "search", "a") == "digest of a"
    Path(folder.mark("search", "a")).write_text("[")
    with pytest.raises(StorageError, match=r"a\.json: is not a completion mark"):
        marked_digest(folder, "search", "a")


def test_the_folder_of_submitit_is_the_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    made = private_folder(None, Path("/data/run"))
    assert made.parent == tmp_path / ".cache" / "seamlessalign" / "slurm"
    assert made.stat().st_mode & 0o777 == 0o700
    assert made == private_folder(None, Path("/data/run")) != private_folder(None, Path("/data/other"))
    made.chmod(0o770)
    with pytest.raises(ConfigError, match=r"resources\.slurm\.folder: .*: others have rights there; chmod 700 it"):
        private_folder(None, Path("/data/run"))
    made.rmdir()
    made.symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="is not a folder of yours"):
        private_folder(None, Path("/data/run"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made: File exists"):
        private_folder(str(tmp_path / "file"), Path("/data/run"))
    with pytest.raises(ConfigError, match="Slurm reads % and"):
        private_folder(str(tmp_path / "50%"), Path("/data/run"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a folder away")
def test_somebody_elses_folder(tmp_path: Path) -> None:
    made = private_folder(str(tmp_path), Path("/data/run"))
    os.chown(made, 65534, 65534)
    with pytest.raises(ConfigError, match="is not a folder of yours"):
        private_folder(str(tmp_path), Path("/data/run"))
