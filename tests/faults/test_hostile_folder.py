"""A run's folder in which somebody has put code wherever a reader might take it for data."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from seamlessalign import cli
from tests.ground.test_no_code_in_files import FILES
from tests.pipelines.small_corpus import SmallRun, finished_run, hashes, mine

pytestmark = [pytest.mark.slow, pytest.mark.embedded]

KINDS = {  # suffix → what is put in its place
    ".parquet": ("parquet", "pickle"),
    ".json": ("pickle",),
    ".jsonl": ("pickle",),
    ".yaml": ("yaml", "pickle"),
    ".npy": ("npy", "pickle"),
    ".arrow": ("parquet", "pickle"),
    ".safetensors": ("safetensors", "pickle", "torch"),
}
EXTRA = ("state/slurm/1_0_result.pkl", "state/slurm/1_0_submitted.pkl", "state/cache.pkl", "segments/lang=fra/x.pkl")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    made = finished_run(tmp_path_factory.getbasetemp())
    assert made.status == 0, made.err
    return made


def _poison(folder: Path, suffix: str, made: Callable[[Path], bytes], marker: Path) -> int:
    """Put code in place of every file with a suffix, and where pickles lie in other programs; how many they were."""
    for name in EXTRA:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(FILES["pickle"](marker))
    files = [file for file in folder.rglob(f"*{suffix}") if file.is_file()]
    for file in files:
        file.write_bytes(made(marker))
    return len(files)


@pytest.mark.parametrize(("suffix", "kind"), [(suffix, kind) for suffix, kinds in KINDS.items() for kind in kinds])
def test_no_command_executes_it(
    first: SmallRun, suffix: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, arguments in enumerate(
        (["status"], ["report"], ["filter", "--threshold", "0.9"], ["export", "--to", str(tmp_path / "to")], ["spans"])
    ):
        folder = first.copy(tmp_path / f"run {number}")
        _poison(folder, suffix, FILES[kind], tmp_path / "executed")
        status = cli.main([arguments[0], str(folder), *arguments[1:]])
        said = capsys.readouterr().err
        assert status in (0, 1, 2, 3) and "Traceback" not in said
        assert not (tmp_path / "executed").exists()
        shutil.rmtree(folder)


@pytest.mark.parametrize("suffixes", [(".json",), (".npy", ".arrow", ".safetensors")])
def test_a_run_goes_on_over_it(first: SmallRun, suffixes: tuple[str, ...], tmp_path: Path) -> None:
    folder = first.copy(tmp_path / "run")
    for suffix in suffixes:
        assert _poison(folder, suffix, FILES["npy" if suffix == ".npy" else "pickle"], tmp_path / "executed")
    again = mine(first.config, folder)
    assert not (tmp_path / "executed").exists()
    assert "Traceback" not in again.err
    if again.status == 0:
        assert hashes(folder, ("pairs", "corpus")) == hashes(first.folder, ("pairs", "corpus"))
    else:
        assert again.status in (1, 2) and again.err.strip(), again.err
