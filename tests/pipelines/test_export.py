"""A corpus that is handed on: the shards as they are, in folders that `datasets` opens as audio."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from seamlessalign import cli
from seamlessalign.errors import InputError
from seamlessalign.pipelines.export import export_parquet
from seamlessalign.rows import CORPUS
from tests.pipelines.small_corpus import SmallRun, finished_run

pytestmark = pytest.mark.embedded

DIRECTIONS = ("eng-esA", "eng-frA", "frA-esA")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    made = finished_run(tmp_path_factory.getbasetemp())
    assert made.status == 0, made.err
    return made


@pytest.fixture(scope="module")
def exported(run: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("export") / "corpus"
    export_parquet(str(run.folder), str(target))
    return target


def _rows(folder: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(folder.glob("*.parquet")) for row in pq.ParquetFile(file).read().to_pylist()]


def test_every_shard_is_there_as_it_was(run: SmallRun, exported: Path) -> None:
    corpus = run.folder / "corpus"
    written = {str(file.relative_to(exported)): file.read_bytes() for file in exported.rglob("*") if file.is_file()}
    shards = {
        str(file.relative_to(corpus)).removeprefix("direction="): file.read_bytes()
        for file in corpus.rglob("*.parquet")
    }
    assert written == shards and {name.split("/")[0] for name in written} == set(DIRECTIONS)


def test_the_command_tells_how_much(run: SmallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "only"
    assert cli.main(["export", str(run.folder), "--to", str(target), "--direction", "frA-esA"]) == 0
    assert [folder.name for folder in target.iterdir()] == ["frA-esA"]
    assert capsys.readouterr().out == f"frA-esA: {len(_rows(target / 'frA-esA'))} pairs\ncorpus: {target}\n"


@pytest.mark.parametrize("direction", ["eng-frA", "frA-esA"])
def test_datasets_opens_it_as_audio(exported: Path, direction: str, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the package datasets")
    datasets.disable_progress_bars()
    files = str(exported / direction / "*.parquet")
    opened = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path))
    rows = _rows(exported / direction)
    assert opened.column_names == CORPUS.names and opened.num_rows == len(rows) > 0
    for side in ("src", "tgt"):
        assert opened.features[f"{side}_audio"] == datasets.Audio(sampling_rate=16_000)
        assert opened.features[f"{side}_text"] == datasets.Value("string")
        # decoding by datasets itself takes torchcodec and FFmpeg; what it would decode is looked at here
        opened = opened.cast_column(f"{side}_audio", datasets.Audio(decode=False))
    for found, row in zip(opened, rows, strict=True):
        assert found == row
        samples, rate = soundfile.read(io.BytesIO(found["tgt_audio"]["bytes"]))
        assert (len(samples), rate) == (row["tgt_end"] - row["tgt_start"], 16_000)


def test_datasets_decodes_it(exported: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the package datasets")
    decoders = pytest.importorskip("torchcodec.decoders", reason="needs torchcodec", exc_type=ImportError)
    try:
        decoders.AudioDecoder(_rows(exported / "eng-frA")[0]["tgt_audio"]["bytes"])
    except (OSError, RuntimeError, ImportError):
        pytest.skip("torchcodec needs the libraries of FFmpeg")
    files = str(exported / "eng-frA" / "*.parquet")
    opened = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path))
    for found, row in zip(opened, _rows(exported / "eng-frA"), strict=True):
        assert found["src_audio"] is None and found["src_text"] == row["src_text"]
        heard = found["tgt_audio"].get_all_samples()
        samples, _ = soundfile.read(io.BytesIO(row["tgt_audio"]["bytes"]), dtype="float32")
        assert heard.sample_rate == 16_000
        np.testing.assert_allclose(heard.data.numpy()[0], samples, atol=1e-4)


@pytest.mark.parametrize("there", ["eng-frA/part-00000.parquet", "notes.txt"])
def test_a_target_that_is_not_empty_is_refused(run: SmallRun, tmp_path: Path, there: str) -> None:
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).write_bytes(b"mine")
    with pytest.raises(InputError, match="is not empty; choose another folder"):
        export_parquet(str(run.folder), str(tmp_path))
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [tmp_path / there]


def test_an_unknown_direction_is_refused(run: SmallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--to", str(tmp_path / "new"), "--direction", "eng-frA", "--direction", "eng-ruA"]
    assert cli.main(["export", str(run.folder), *arguments]) == 2
    told = f"{run.folder}: has no direction 'eng-ruA'; there are eng-esA, eng-frA, frA-esA"
    assert capsys.readouterr().err == f"seamlessalign: {told}\n"
    assert not (tmp_path / "new").exists()


def test_a_run_without_a_corpus_is_refused(run: SmallRun, tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "none", run.config.parent / "audio"):
        with pytest.raises(InputError, match="has no corpus to export"):
            export_parquet(str(root), str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_a_target_below_a_file_is_refused(run: SmallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    assert cli.main(["export", str(run.folder), "--to", str(tmp_path / "file" / "x")]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("seamlessalign: ") and shown.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine"
