"""Plain files with a table, read back by csv, by pandas and as an audiofolder of `datasets`."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.errors import StorageError
from seamlessalign.pipelines.exports.folder import _table
from seamlessalign.pipelines.exports.formats import FORMATS
from seamlessalign.pipelines.exports.shards import Shard, Target
from tests.pipelines.exports.export_rows import DIRECTIONS, beside, corpus, export, pairs_of, plain, rows_of, samples_of


def _read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened, delimiter="\t"))


def _told(row: dict[str, Any]) -> dict[str, str]:
    """The columns of a row of `corpus` as a table has them."""
    return {name: "" if value is None else str(value) for name, value in plain(row).items()}


def test_the_tables_have_every_pair_once(tmp_path: Path) -> None:
    shards = corpus()
    export("folder", Target(str(tmp_path)), shards, {shard: beside(pairs) for shard, pairs in shards.items()})
    for split in ("train", "test"):
        expected = rows_of(shards, split)
        for found in _read(tmp_path / f"{split}.tsv"):
            row = expected.pop(found["pair_id"])
            assert {name: found[name] for name in _told(row)} == _told(row)
            for side in ("src", "tgt"):
                audio, name = row[f"{side}_audio"], found[f"{side}_file_name"]
                assert (name == "") == (audio is None)
                if audio is not None:
                    assert (tmp_path / name).read_bytes() == audio["bytes"]
                    units, durations = (found[f"{side}_{what}"].split() for what in ("units", "unit_durations"))
                    assert units[1:] == ["7", "9"] and durations == ["2", "1", "3"]
        assert not expected
    heard = [row["text"] for table in map(beside, shards.values()) for row in table["transcripts"].to_pylist()]
    names = [f"{side}_transcript" for side in ("src", "tgt")]
    rows = [*_read(tmp_path / "train.tsv"), *_read(tmp_path / "test.tsv")]
    assert sorted(row[name] for row in rows for name in names if row[name]) == sorted(heard)


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=20), min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_any_text_comes_back_from_the_table(texts: list[str]) -> None:
    table = _table(["pair_id", "text"], [{"pair_id": str(n), "text": text} for n, text in enumerate(texts)], "x")
    rows = list(csv.reader(_lines(table), delimiter="\t"))
    assert rows == [["pair_id", "text"], *([str(n), text] for n, text in enumerate(texts))]


def _lines(table: str) -> list[str]:
    """As a file that is opened with newline='' gives them: cut at line feeds and returns alone."""
    return list(io.TextIOWrapper(io.BytesIO(table.encode()), encoding="utf-8", newline=""))


def test_without_splits_there_is_one_table(tmp_path: Path) -> None:
    export("folder", Target(str(tmp_path)), {Shard("eng-frA", 0): pairs_of("eng-frA", 4)})
    assert len(_read(tmp_path / "corpus.tsv")) == 4
    assert sorted(file.name for file in tmp_path.iterdir()) == ["corpus.tsv", "eng-frA", "state"]


def test_parts_with_other_columns_are_not_joined(tmp_path: Path) -> None:
    shards = {Shard("esA-frA", number): pairs_of("esA-frA", 2, first=number * 9) for number in (0, 1)}
    tables = {Shard("esA-frA", 1): beside(shards[Shard("esA-frA", 1)])}
    with pytest.raises(StorageError, match=r"part-00001\.tsv has other columns than .*part-00000\.tsv; export anew"):
        export("folder", Target(str(tmp_path)), shards, tables)
    assert not (tmp_path / "corpus.tsv").exists()


@pytest.mark.slow
def test_pandas_reads_the_table(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="needs the extra curate")
    shards = corpus()
    export("folder", Target(str(tmp_path)), shards)
    read = pandas.read_csv(tmp_path / "train.tsv", sep="\t", keep_default_na=False, dtype=str, lineterminator="\n")
    expected = rows_of(shards, "train")
    for found in read.to_dict("records"):
        row = expected.pop(found["pair_id"])
        assert {name: found[name] for name in _told(row)} == _told(row)
    assert not expected


@pytest.mark.slow
def test_datasets_takes_it_for_an_audiofolder(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra export")
    pytest.importorskip("torchcodec.decoders", reason="needs torchcodec and FFmpeg", exc_type=ImportError)
    datasets.disable_progress_bars()
    shards = corpus()
    export("folder", Target(str(tmp_path / "out")), shards)
    files = FORMATS["folder"].files("train/*")
    assert files is not None
    builder, pattern = files
    read = datasets.load_dataset(
        builder, data_files={"train": f"{tmp_path}/out/{pattern}"}, cache_dir=str(tmp_path / "cache"), split="train"
    )
    expected = rows_of(shards, "train")
    assert {row["direction"] for row in expected.values()} == set(DIRECTIONS)
    for found in read:
        row = expected.pop(found["pair_id"])
        assert {name: found[name] for name in plain(row)} == plain(row)
        for side in ("src", "tgt"):
            if row[f"{side}_audio"] is None:
                assert found[side] is None
            else:
                heard = found[side].get_all_samples()
                np.testing.assert_array_equal(heard.data.numpy()[0], samples_of(row, side))
    assert not expected


def test_columns_of_what_the_run_has_are_there_though_empty(tmp_path: Path) -> None:
    pairs = pairs_of("eng-frA", 2)
    empty = {name: table.slice(0, 0) for name, table in beside(pairs).items()}
    export("folder", Target(str(tmp_path)), {Shard("eng-frA", 0): pairs}, {Shard("eng-frA", 0): empty})
    metadata = pq.read_table(tmp_path / "eng-frA/part-00000/metadata.parquet")
    assert metadata.schema.field("tgt_units").type == pa.list_(pa.int32())
    assert metadata.column("tgt_units").null_count == metadata.column("tgt_transcript").null_count == 2
