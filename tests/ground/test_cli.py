"""The command line: exit statuses, one line for each error, and nothing heavy loaded before it is needed."""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from seamlessalign import __version__, cli
from seamlessalign.errors import (
    ConfigError,
    InputError,
    MissingPackageError,
    ModelError,
    SeamlessAlignError,
    StorageError,
    UnreadableError,
)

COMMANDS = ["demo", "run", "status", "report", "export", "models", "translate"]


def _program(*arguments: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "seamlessalign", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


def _raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let the command `models` raise."""

    def command(_: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(cli, "_models", command)


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    shown = capsys.readouterr().out
    assert caught.value.code == 0
    assert set(COMMANDS) <= set(re.findall(r"^    ([a-z]+)", shown, re.MULTILINE)) and "Exit status" in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--help"])
    assert caught.value.code == 0 and f"seamlessalign {command}" in capsys.readouterr().out


def test_the_program_tells_its_version() -> None:
    done = _program("--version")
    assert (done.returncode, done.stdout) == (0, f"seamlessalign {__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["walk"],
        ["run"],
        ["run", "x.yaml", "--executor", "magic"],
        ["run", "x.yaml", "--fast"],
        ["status", "a", "b"],
        ["models", "mining.k=3"],
    ],
)
def test_a_wrong_use_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2 and "usage: seamlessalign" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("a\nb  c"), 2),
        (InputError("a b c"), 2),
        (StorageError("a b c"), 2),
        (ModelError("a b c"), 2),
        (MissingPackageError("p", "gpu", "a"), 2),
        (UnreadableError("empty", "a"), 1),
        (SeamlessAlignError("a b c"), 1),
        (ValueError("a b c\nmore"), 1),
        (RuntimeError(), 1),
        (KeyboardInterrupt(), 1),
        (BrokenPipeError(), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_error_is_one_line_and_a_status(
    error: BaseException, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _raising(monkeypatch, error)
    assert cli.main(["models"]) == status
    shown = capsys.readouterr()
    assert shown.out == "" and "Traceback" not in shown.err
    if not isinstance(error, BrokenPipeError):
        assert shown.err.startswith("seamlessalign: ") and shown.err.count("\n") == 1 and shown.err.endswith("\n")


def test_debug_shows_the_trace(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _raising(monkeypatch, ConfigError("wrong"))
    assert cli.main(["--debug", "models"]) == 2
    shown = capsys.readouterr().err
    assert "Traceback" in shown and shown.endswith("seamlessalign: wrong\n")


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_no_error_tells_a_secret(
    debug: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "gibberish-it-is")
    uri = "https://alice:hunter2@data.org/a.wav?sig=0f3a9b61"
    for error in (ConfigError(f"{uri}: wrong"), ValueError(f"gibberish-it-is {uri!r}")):
        _raising(monkeypatch, error)
        cli.main([*debug, "models"])
    with pytest.raises(SystemExit):
        cli.main(["run", "a.yaml", f"--input={uri}"])
    shown = capsys.readouterr().err
    assert shown.count("https://***@data.org/a.wav?sig=***") == (5 if debug else 3)
    assert not any(secret in shown for secret in ("gibberish", "alice", "hunter2", "0f3a9b61"))


def test_the_status_of_a_command_is_that_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_models", lambda _: 3)
    assert cli.main(["models"]) == 3


def test_a_configuration_that_is_not_there_is_status_2(tmp_path: Path) -> None:
    done = _program("run", "none.yaml", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "seamlessalign: none.yaml: cannot be read: No such file or directory\n"


def test_a_dry_run_plans_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "a.wav").write_bytes(b"")
    (tmp_path / "t.txt").write_text("A sentence.\n")
    (tmp_path / "run.yaml").write_text(
        "directions: [eng-frA]\nspeech: {inputs: [audio]}\ntext: {inputs: [t.txt]}\noutput: out\n"
    )
    before = sorted(tmp_path.rglob("*"))
    done = _program("run", "run.yaml", "--dry-run", "mining.k=4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "eng-frA" in done.stdout
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["c.yaml", "mining.k=4", "name=x", "--output", "out"],
        ["c.yaml", "--output", "out", "mining.k=4", "name=x"],
        ["--output", "out", "c.yaml", "mining.k=4", "name=x"],
        ["c.yaml", "mining.k=4", "--output", "out", "name=x"],
    ],
    ids=" ".join,
)
def test_overrides_may_stand_before_and_behind_options(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def command(parsed: argparse.Namespace) -> int:
        seen.append((parsed.config, parsed.output, parsed.overrides))
        return 0

    monkeypatch.setattr(cli, "_run", command)
    assert cli.main(["run", *arguments]) == 0
    assert seen == [("c.yaml", "out", ["mining.k=4", "name=x"])]


def test_a_reader_that_has_left_is_no_error() -> None:
    """Such as `seamlessalign models | head -1`."""
    command = f"{sys.executable} -m seamlessalign models | true"
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["status", "DIR", "--watch", "--json"], "--json tells the status once"),
        (["run", "x.yaml", "--executor", "beam", "--", "bogus"], "'bogus' behind -- is no option of a runner"),
        (["run", "x.yaml", "--executor", "slurm", "--detach", "--dry-run"], "--detach starts a run and --dry-run does"),
    ],
)
def test_options_that_contradict_each_other(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"seamlessalign: {told}")


def test_one_way_to_tell_a_status_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["status", "DIR", "--watch", "--verify"])
    assert caught.value.code == 2 and "not allowed with argument" in capsys.readouterr().err
