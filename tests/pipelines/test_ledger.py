"""The ledger: nothing is lost in counting, marks survive writing, and what does not balance is told."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamlessalign import storage
from seamlessalign.errors import StorageError
from seamlessalign.pipelines.folder import RunFolder, shard_name, slug
from seamlessalign.pipelines.ledger import (
    Mark,
    Tally,
    done_shards,
    peak_rss,
    read_marks,
    unbalanced,
    write_ledger,
    write_mark,
)
from seamlessalign.rows import LEDGER, LedgerLine

REASONS = ["not_audio", "wrong_language", "too_short"]


def _line(stage: str = "segments", shard: str = "part-00000", **changes: Any) -> LedgerLine:
    tally = Tally()
    tally.keep(3, 100)
    tally.drop("too_short", 2, 50)
    line = tally.line(
        stage, shard, digest="d", seconds={"vad": 1.23456, "embed": 2.0}, bytes_read=7, models={"b": "2", "a": "1"}
    )
    return LedgerLine(**{**vars(line), **changes})


def _mark(stage: str = "segments", shard: str = "part-00000", outputs: list[str] | None = None) -> Mark:
    return Mark(stage, shard, "digest", outputs or [], [_line(stage, shard)])


@pytest.fixture(params=["local", "relative", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.chdir(tmp_path)
    roots = {"local": f"{tmp_path}/run", "relative": "run", "memory": f"memory://{tmp_path}/run"}
    return RunFolder(roots[request.param])


events = st.lists(
    st.tuples(st.sampled_from(["keep", *REASONS]), st.integers(0, 50), st.integers(0, 10**12), st.booleans()),
    max_size=40,
)


@given(events)
def test_a_tally_loses_nothing(events: list[tuple[str, int, int, bool]]) -> None:
    tally = Tally()
    for what, rows, samples, quarantined in events:
        if what == "keep":
            tally.keep(rows, samples)
        else:
            tally.drop(what, rows, samples if rows else 0, quarantined=quarantined)
    line = tally.line("s", "p", digest="d")
    happened = [(what, rows, samples if rows or what == "keep" else 0, q) for what, rows, samples, q in events]
    assert line.rows_in == sum(rows for _, rows, _, _ in happened)
    assert line.samples_in == sum(samples for _, _, samples, _ in happened)
    assert line.rows_kept == sum(rows for what, rows, _, _ in happened if what == "keep")
    for reason in REASONS:
        assert line.dropped.get(reason, 0) == sum(rows for what, rows, _, _ in happened if what == reason)
        assert line.samples_dropped.get(reason, 0) == sum(s for what, _, s, _ in happened if what == reason)
    assert line.quarantined == sum(rows for what, rows, _, q in happened if what != "keep" and q)
    assert unbalanced([line]) == []
    assert 0 not in line.dropped.values()


def test_a_line_is_in_a_fixed_order() -> None:
    line = _line()
    assert list(line.models) == ["a", "b"] and line.seconds == {"vad": 1.235, "embed": 2.0}
    assert (line.rows_in, line.rows_kept, line.dropped) == (5, 3, {"too_short": 2})
    assert line.peak_rss == pytest.approx(peak_rss(), rel=0.2) and 1 << 20 < line.peak_rss < 1 << 40


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rows_in": 6}, "segments part-00000: 6 rows in, 3 kept and 2 dropped"),
        ({"rows_kept": 2}, "5 rows in, 2 kept and 2 dropped"),
        ({"dropped": {}}, "5 rows in, 3 kept and 0 dropped"),
        ({"samples_in": 151}, "151 samples in, 100 kept and 50 dropped"),
        ({"samples_dropped": {"too_short": 50, "x": 1}}, "150 samples in, 100 kept and 51 dropped"),
    ],
)
def test_what_does_not_balance_is_told(changes: dict[str, Any], told: str) -> None:
    (sentence,) = unbalanced([_line(), _line(**changes), _line()])
    assert told in sentence


def test_marks_go_there_and_back(folder: RunFolder) -> None:
    assert read_marks(folder, "segments") == {}
    marks = [_mark(shard=shard_name(i), outputs=["segments/lang=fra/ü 'x'.parquet"]) for i in (2, 0, 1)]
    for mark in [*marks, _mark("pairs", "direction=eng-frA")]:
        write_mark(folder, mark)
    found = read_marks(folder, "segments")
    assert list(found) == [shard_name(i) for i in range(3)]
    assert found == {mark.shard: mark for mark in marks}
    assert list(read_marks(folder, "pairs")) == ["direction=eng-frA"]


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "{}", '{"lines": [{}]}', '{"lines": 3}'])
def test_a_mark_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    folder = RunFolder(str(tmp_path))
    storage.write_bytes_atomic(folder.mark("segments", "part-00000"), text.encode())
    with pytest.raises(StorageError, match=r"part-00000\.json: is not a completion mark"):
        read_marks(folder, "segments")


def test_a_mark_of_other_fields_is_named(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    write_mark(folder, _mark())
    path = Path(folder.mark("segments", "part-00000"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "later": 1}))
    with pytest.raises(StorageError, match="later"):
        read_marks(folder, "segments")


def _write_rows(folder: RunFolder, name: str, rows: int) -> None:
    storage.write_table(storage.join(folder.root, name), pa.table({"x": list(range(rows))}))


def test_strays_are_removed_and_nothing_else(folder: RunFolder) -> None:
    kept, stray = "segments/lang=fra/part-00000.parquet", "segments/lang=fra/part-00007.parquet"
    unmarked, other = "recordings/part-00001.parquet", "sentences/lang=eng/part-00000.parquet"
    for name in (kept, stray, unmarked, other):
        _write_rows(folder, name, 3)
    listed, unlisted, others = (
        folder.quarantine(*names)
        for names in (("speech", "part-00000"), ("speech", "part-00001"), ("text", "part-00001"))
    )
    for uri in (listed, unlisted, others):
        storage.write_bytes_atomic(uri, b"{}")
    write_mark(folder, _mark("speech", outputs=[kept, folder.relative(listed)]))
    write_mark(folder, _mark("speech", "part-00007", outputs=[stray]))
    done = done_shards(folder, "speech", ["part-00000", "part-00001"], ["segments", "recordings"])
    assert done == {"part-00000": "digest"}
    assert list(read_marks(folder, "speech")) == ["part-00000"]
    assert [folder.relative(uri) for uri in storage.list_files(folder.root, ".parquet")] == [kept, other]
    assert storage.list_files(folder.root, ".jsonl") == [listed, others]


def test_a_shard_whose_files_are_gone_is_not_done(folder: RunFolder) -> None:
    first, second = (f"segments/lang=fra/{shard_name(i)}.parquet" for i in range(2))
    for shard, name in enumerate((first, second)):
        _write_rows(folder, name, 3)
        write_mark(folder, _mark("speech", shard_name(shard), outputs=[name]))
    storage.remove(storage.join(folder.root, first))
    for _ in range(2):
        assert done_shards(folder, "speech", [shard_name(0), shard_name(1)], ["segments"]) == {shard_name(1): "digest"}
    assert list(read_marks(folder, "speech")) == [shard_name(1)]
    assert storage.exists(storage.join(folder.root, second))


def test_what_belongs_to_shards_that_somebody_does_now_is_left_alone(folder: RunFolder) -> None:
    """Its files may come before its mark is looked for, and its mark after its files were."""
    first, second = (f"segments/lang=fra/{shard_name(i)}.parquet" for i in range(2))
    _write_rows(folder, first, 3)
    write_mark(folder, _mark("speech", shard_name(1), outputs=[second]))
    write_mark(folder, _mark("speech", shard_name(2), outputs=["segments/lang=fra/none.parquet"]))
    shards = [shard_name(number) for number in range(3)]
    assert done_shards(folder, "speech", shards, ["segments"], at_work=shards[:2]) == {}
    assert list(read_marks(folder, "speech")) == [shard_name(1)]
    assert storage.exists(storage.join(folder.root, first))


def test_the_ledger_holds_every_line(folder: RunFolder) -> None:
    write_mark(folder, _mark())
    write_mark(folder, Mark("segments", "part-00001", "d", [], [_line(shard="part-00001"), _line("recordings", "r")]))
    write_mark(folder, _mark("pairs", "direction=eng-frA"))
    lines = write_ledger(folder, ["segments", "sentences", "pairs"])
    assert [line.shard for line in lines] == ["part-00000", "part-00001", "r", "direction=eng-frA"]
    table = storage.read_table(folder.ledger)
    assert table.schema.equals(LEDGER)
    rows: list[dict[str, Any]] = [
        {key: dict(value) if isinstance(value, list) else value for key, value in row.items()}
        for row in table.to_pylist()
    ]
    assert [LedgerLine(**row) for row in rows] == lines


def test_names_of_a_run(folder: RunFolder) -> None:
    assert folder.table("segments", "lang=fra", "part-00003") == f"{folder.root}/segments/lang=fra/part-00003.parquet"
    assert folder.table("pairs") == f"{folder.root}/pairs"
    assert folder.relative(folder.mark("segments", "part-00000")) == "state/done/segments/part-00000.json"
    assert slug("a b/c:d'é") == "a_b_c_d_"
