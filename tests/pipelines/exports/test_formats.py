"""What holds of every format: all rows counted, the same bytes always, nothing half, nothing wrong passed on."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from seamlessalign import storage
from seamlessalign.errors import InputError, StorageError
from seamlessalign.pipelines.exports.formats import FORMATS
from seamlessalign.pipelines.exports.shards import Shard, Target, key_of
from tests.pipelines.exports.export_rows import HOUSE, beside, corpus, export, pairs_of, tree

NAMES = sorted(FORMATS)
WITHOUT_LHOTSE = ["folder", "meta-jsonl", "parquet", "webdataset"]
# lhotse takes seconds to import
EVERY = [pytest.param(name, marks=[] if name in WITHOUT_LHOTSE else pytest.mark.slow) for name in NAMES]


def test_they_go_by_their_names() -> None:
    assert list(FORMATS) == ["parquet", "webdataset", "lhotse", "lhotse-shar", "folder", "meta-jsonl"]
    assert [format.name for format in FORMATS.values()] == list(FORMATS)


@pytest.mark.parametrize("name", EVERY)
def test_every_row_and_sample_is_counted(name: str, tmp_path: Path) -> None:
    shards = corpus()
    tables = {shard: beside(pairs) for shard, pairs in shards.items()}
    for written in export(name, Target(str(tmp_path)), shards, tables):
        pairs = shards[written.shard].to_pylist()
        assert written.pairs + sum(written.refused.values()) == len(pairs)
        if not written.refused:
            lengths = [row[f"{side}_end"] - row[f"{side}_start"] for row in pairs for side in _sides(row)]
            sizes = [len(row[f"{side}_audio"]["bytes"]) for row in pairs for side in _sides(row)]
            assert (written.samples, written.audio_bytes) == (sum(lengths), sum(sizes))
        assert set(written.files) <= set(tree(tmp_path)) and all(rows >= 0 for rows in written.files.values())
    refused = {written.shard.direction for written in export(name, Target(str(tmp_path)), shards) if written.refused}
    assert refused == ({"esA-frA"} if name == "meta-jsonl" else set())


@pytest.mark.parametrize("name", EVERY)
def test_the_same_rows_give_the_same_bytes(name: str, tmp_path: Path) -> None:
    shards = {
        Shard("eng-frA", 2, "train"): pairs_of("eng-frA", 205),
        Shard("esA-frA", 0, "test"): pairs_of("esA-frA", 9),
    }
    tables = {shard: beside(pairs) for shard, pairs in shards.items()}
    target = Target(str(tmp_path / "out"), max_bytes=400_000)
    found = []
    for rows in (1, 64, 1000):
        export(name, target, shards, tables, rows)
        found.append(tree(tmp_path / "out"))
        (tmp_path / "out").rename(tmp_path / str(rows))
    assert found[0] == found[1] == found[2] and len(found[0]) > 1


@pytest.mark.parametrize("name", EVERY)
def test_what_breaks_off_leaves_nothing_and_can_be_done_again(name: str, tmp_path: Path) -> None:
    shard, pairs = Shard("esA-frA", 4, "train"), pairs_of("esA-frA", 30)
    target = Target(str(tmp_path / "out"))
    with pytest.raises(ZeroDivisionError), FORMATS[name].writer(target, shard, beside(pairs)) as writer:
        writer.add(pairs)
        raise ZeroDivisionError
    assert tree(tmp_path / "out") == {}
    export(name, target, {shard: pairs}, {shard: beside(pairs)})
    once = tree(tmp_path / "out")
    export(name, target, {shard: pairs}, {shard: beside(pairs)})
    assert tree(tmp_path / "out") == once != {}


_KILLED = """
import os, signal, sys
import lhotse
from seamlessalign.pipelines.exports.formats import FORMATS
from seamlessalign.pipelines.exports.shards import Shard, Target
from tests.pipelines.exports.export_rows import beside, pairs_of
pairs = pairs_of("esA-frA", 40)
for name, format in FORMATS.items():
    child = os.fork()
    if not child:
        with format.writer(Target(f"{sys.argv[1]}/{name}"), Shard("esA-frA", 0), beside(pairs)) as writer:
            writer.add(pairs)
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
"""


@pytest.mark.slow
def test_a_killed_process_leaves_nothing_that_is_taken_for_done(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path / "killed")], check=True, cwd=HOUSE)
    shard, pairs = Shard("esA-frA", 0), pairs_of("esA-frA", 40)
    for name in NAMES:
        root = tmp_path / "killed" / name
        assert storage.list_files(str(root)) == [] or name in ("folder", "lhotse", "meta-jsonl")
        storage.remove_unfinished(str(root))
        assert tree(root) == {}
        export(name, Target(str(root)), {shard: pairs}, {shard: beside(pairs)})
        root.rename(tmp_path / "again")
        root.mkdir()
        export(name, Target(str(root)), {shard: pairs}, {shard: beside(pairs)})
        assert tree(tmp_path / "again") == tree(root) != {}
        (tmp_path / "again").rename(tmp_path / f"again-{name}")


@pytest.mark.parametrize("name", ["parquet", "webdataset"])
def test_audio_that_is_not_what_its_row_says_is_not_passed_on(name: str, tmp_path: Path) -> None:
    shard, pairs = Shard("eng-frA", 0), pairs_of("eng-frA", 5)
    ends = pairs.column("tgt_end").to_pylist()
    wrong = pairs.set_column(
        pairs.schema.names.index("tgt_end"), "tgt_end", pa.array([*ends[:3], ends[3] + 1, ends[4]])
    )
    named = pairs.column("pair_id")[3].as_py()
    with pytest.raises(StorageError, match=f"pair {named}: its tgt_audio has 3049 samples, and its times say 3050"):
        export(name, Target(str(tmp_path)), {shard: wrong})
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("name", WITHOUT_LHOTSE)
def test_nothing_is_written_of_no_rows(name: str, tmp_path: Path) -> None:
    (written,) = export(name, Target(str(tmp_path)), {Shard("eng-frA", 0): pairs_of("eng-frA", 0)})
    assert (written.pairs, written.files) == (0, {})
    assert tree(tmp_path) == {}


def test_paths_do_not_go_into_stores() -> None:
    for name in ("lhotse", "meta-jsonl"):
        with pytest.raises(
            InputError, match=f"s3://b/c: {name} names files by paths; export to a folder of this machine"
        ):
            FORMATS[name].check(Target("s3://b/c"), {})
    for name in ("parquet", "webdataset", "folder", "lhotse-shar"):
        FORMATS[name].check(Target("s3://b/c"), {"eng-frA": frozenset()})


@pytest.mark.parametrize("name", ["folder", "parquet", "webdataset"])
def test_a_store_has_the_same_files(name: str, tmp_path: Path) -> None:
    shards = {Shard("esA-frA", 0): pairs_of("esA-frA", 40)}
    export(name, Target(str(tmp_path)), shards)
    root = f"memory://{tmp_path.name}-{name}"
    export(name, Target(root), shards)
    there = {uri.removeprefix(f"{root}/"): storage.read_bytes(uri) for uri in storage.list_files(root)}
    assert there == tree(tmp_path)


def test_keys_hold_no_character_that_means_something() -> None:
    assert key_of("351ef62686efc78b") == "351ef62686efc78b"
    assert key_of("a.b/c d~é") == "a%2Eb%2Fc%20d%7E%C3%A9" and key_of("__meta__") == "%5F_meta__"


def _sides(row: dict[str, object]) -> list[str]:
    return [side for side in ("src", "tgt") if row[f"{side}_audio"] is not None]


def test_sounds_of_the_tests_differ() -> None:
    lengths = [row["tgt_end"] - row["tgt_start"] for row in pairs_of("eng-frA", 20).to_pylist()]
    assert len(set(lengths)) == 20 and np.min(lengths) >= 3000


@pytest.mark.slow
def test_what_the_documentation_shows_reads_what_was_exported(tmp_path: Path) -> None:
    for package in ("datasets", "webdataset", "lhotse", "pandas"):
        pytest.importorskip(package, reason="needs the extras export and curate")
    pytest.importorskip("torchcodec.decoders", reason="needs torchcodec and FFmpeg", exc_type=ImportError)
    page = (HOUSE / "docs" / "exports.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^## ([a-z-]+)|^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    shards, section, run = corpus(), "", []
    for heading, code in blocks:
        section = heading or section
        if heading:
            export(
                section, Target(str(tmp_path / section)), shards, {one: beside(rows) for one, rows in shards.items()}
            )
            continue
        folder = tmp_path / ("lhotse-shar" if "from_shar" in code else section)
        if not folder.exists():
            export("lhotse-shar", Target(str(folder)), shards)
        code = code.replace("FOLDER", str(folder))
        # the card, which is made behind all shards, would tell
        pattern = f"data_files='{folder}/train/eng-frA/*.parquet'"
        code = code.replace(f'load_dataset("{folder}", "eng-frA"', f'load_dataset("parquet", {pattern}')
        names: dict[str, Any] = {}
        exec(code, names)
        run.append(section)
        found = names.get("samples", names.get("target", names.get("rows")))
        assert found is not None and len(found) > 0
    assert run == ["parquet", "webdataset", "lhotse", "lhotse", "folder", "folder", "folder"]
