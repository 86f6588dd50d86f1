"""How often a driver looks at files, counted: so many times for each shard, however many shards there are."""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import many_shards
from seamlessalign import local_files, storage
from seamlessalign.pipelines import corpus_stage
from seamlessalign.pipelines.folder import RunFolder, shard_name
from seamlessalign.pipelines.ledger import Mark, Tally, done_shards, write_ledger, write_mark
from seamlessalign.pipelines.mining_stage import kept_uri, origins_uri
from seamlessalign.pipelines.stage_plans import StagePlan, begin_stage
from seamlessalign.pipelines.status import read_status
from seamlessalign.pipelines.verify_files import Check, check_files, read_marked
from seamlessalign.rows import RECORDINGS, Recording
from tests.pipelines.made_sides import config_of, context_of, mine, vectors, write_segments


class _Opens:
    """Opened files and listed folders below a root, by the folder that they lie in, while it is on."""

    def __init__(self) -> None:
        self.root, self.count = "", Counter[str]()
        sys.addaudithook(self._hear)  # stays as long as the process

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.root and event in ("open", "os.scandir", "os.listdir", "os.remove"):
            self.note(event, arguments[0])

    def note(self, event: str, path: Any) -> None:
        if isinstance(path, str | Path) and str(path).startswith(self.root):
            inside = str(path).removeprefix(self.root).strip("/")
            folder = inside.rpartition("/")[0] if event in ("open", "footer", "os.remove") else inside
            self.count[f"{event} {folder.partition('/lang=')[0]}"] += 1

    @contextmanager
    def below(self, root: Path) -> Iterator[Counter[str]]:
        self.count = Counter()
        self.root = str(root)
        try:
            yield self.count
        finally:
            self.root = ""


_opens = _Opens()


@pytest.fixture
def opens(monkeypatch: pytest.MonkeyPatch) -> _Opens:
    """The counter; footers, which Arrow reads without Python's knowing, are counted where they are asked for."""
    read = pq.read_metadata

    def counted(where: Any, *more: Any, **options: Any) -> Any:
        _opens.note("footer", getattr(where, "name", where))
        return read(where, *more, **options)

    monkeypatch.setattr(pq, "read_metadata", counted)
    monkeypatch.setattr(local_files, "sync", lambda path: None)  # what is written here need not outlive the machine
    return _opens


def write_shards(folder: RunFolder, first: int, last: int) -> None:
    """Done shards of speech, each with a table of one row and a mark of two lines."""
    for number in range(first, last):
        name = shard_name(number)
        uris = [folder.table("recordings", part=name), folder.table("segments", "lang=fra", name)]
        for uri in uris:
            storage.write_table(uri, pa.table({"x": [number]}), metadata={"seamlessalign.digest": "d"})
        tally = Tally()
        tally.keep(samples=16_000)
        lines = [tally.line(stage, name, digest="d") for stage in ("recordings", "segments")]
        write_mark(folder, Mark("speech", name, "d", [folder.relative(uri) for uri in uris], lines))


def scan_and_finish(folder: RunFolder, count: int) -> None:
    """What a driver does of a stage of which everything is done, and at the end of a run."""
    plan = StagePlan("speech", [], 0.0, [shard_name(number) for number in range(count)])
    assert begin_stage(plan, folder) == []
    lines = write_ledger(folder, ["speech"])
    assert len(lines) == 2 * count
    check = Check("files")
    marked = read_marked(folder, check)
    check_files(check, marked)
    assert [sentence for sentence in check.wrong if "not planned" not in sentence] == []


def test_a_driver_looks_at_each_file_a_fixed_number_of_times(tmp_path: Path, opens: _Opens) -> None:
    folder = RunFolder(str(tmp_path / "run"))
    storage.write_bytes_atomic(folder.config, b"{}")
    seen = []
    for first, last in ((0, 100), (100, 300)):
        write_shards(folder, first, last)
        with opens.below(tmp_path / "run") as scan:
            scan_and_finish(folder, last)
        with opens.below(tmp_path / "run") as status:
            told = read_status(folder.root)["stages"]["speech"]
        assert (told["shards"], told["done"], told["rows_kept"]) == (last, last, 2 * last)
        seen.append((scan, status))
    (few, few_status), (many, many_status) = seen
    assert few["open state/done/speech"] == 3 * 100  # when scanned, for the ledger, and for its proof
    assert {name: many[name] - count for name, count in few.items() if many[name] != count} == {
        "open state/done/speech": 3 * 200,
        **{f"{what} {table}": 200 for what in ("open", "footer") for table in ("recordings", "segments")},
    }
    assert few["footer recordings"] == 100
    assert {name: many_status[name] - few_status[name] for name in many_status if many_status[name] > 1} == {
        "open state/done/speech": 200
    }
    assert all(count < 10 for name, count in (many + many_status).items() if "scandir" in name)


def test_half_of_the_marks_gone_is_half_of_the_shards_to_do(tmp_path: Path, opens: _Opens) -> None:
    folder = RunFolder(str(tmp_path / "run"))
    write_shards(folder, 0, 200)
    for number in range(0, 200, 2):
        Path(folder.mark("speech", shard_name(number))).unlink()
    with opens.below(tmp_path / "run") as count:
        done = done_shards(folder, "speech", map(shard_name, range(200)), ["recordings", "segments"])
    assert list(done) == [shard_name(number) for number in range(1, 200, 2)]
    assert count["open state/done/speech"] == 100
    assert count["os.remove recordings"] == count["os.remove segments"] == 100  # which no mark names any more


def test_requests_to_a_store_are_a_fixed_number_for_each_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Counter[str]()
    kind = fsspec.get_filesystem_class("memory")
    for name in ("cat_file", "_open", "info", "ls", "rm_file", "pipe_file"):
        plain = getattr(kind, name)

        def counted(self: Any, *more: Any, _name: str = name, _plain: Any = plain, **options: Any) -> Any:
            asked[_name] += 1
            return _plain(self, *more, **options)

        monkeypatch.setattr(kind, name, counted)
    folder = RunFolder(f"memory://many-{uuid4().hex}/run")
    seen = []
    for first, last in ((0, 20), (20, 60)):
        write_shards(folder, first, last)
        asked.clear()
        scan_and_finish(folder, last)
        seen.append(asked.copy())
    more = {name: (seen[1][name] - seen[0][name]) / 40 for name in seen[1]}
    # a mark is read three times; of each of its two tables the size is asked and the end is read
    assert 3 <= sum(more.values()) <= 9, more
    assert all(value == round(value) for value in more.values()), more
    assert more.get("rm_file", 0) == 0


def test_a_task_of_the_corpus_opens_no_table_of_recordings(tmp_path: Path, opens: _Opens) -> None:
    """There may be a hundred thousand of them; `mine` has written which recordings its pairs are cut from."""
    src, tgt = vectors(40, 40)
    write_segments(tmp_path, "fra", tgt, [0])
    write_segments(tmp_path, "spa", src, [0, 20])
    names = [f"{number:016x}.wav" for number in range(90)]
    for part in range(3):
        rows = [
            asdict(Recording(name, name, f"sha of {name}", 1, 1, 1, "fra", 1.0, 1, "CC0", "a voice", None))
            for name in names[part * 30 : part * 30 + 30]
        ]
        uri = storage.join(str(tmp_path), "recordings", f"part-{part:05d}.parquet")
        storage.write_table(uri, pa.Table.from_pylist(rows, schema=RECORDINGS))
    context = context_of(config_of(tmp_path, ["frA-esA"]))
    mine(context)
    pairs = storage.read_table(kept_uri("frA-esA", context)).to_pylist()
    cut_from = {pair[f"{side}_uri"] for pair in pairs for side in ("src", "tgt")}
    assert len(cut_from) > 20
    with opens.below(tmp_path) as count:
        found = corpus_stage._recordings("frA-esA", pairs[:10], context)
    assert not any("recordings" in name and "state" not in name for name in count), count
    assert found.keys() == {pair[f"{side}_uri"] for pair in pairs[:10] for side in ("src", "tgt")}
    assert all(row["sha256"] == f"sha of {uri}" and row["license"] == "CC0" for uri, row in found.items())
    assert set(storage.read_table(origins_uri("frA-esA", context)).column("uri").to_pylist()) == cut_from
    storage.remove(origins_uri("frA-esA", context))  # as in a run of before
    assert corpus_stage._recordings("frA-esA", pairs[:10], context) == found


@pytest.mark.embedded
def test_the_benchmark_counts_what_it_drives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It asserts that every shard is planned, done, scanned, counted and, where its mark is gone, to be done again."""
    many_shards.main(["--shards", "30", "--folder", str(tmp_path)])
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith("| 30 |") and row.endswith("| 1.00 |") and list(tmp_path.iterdir()) == []
