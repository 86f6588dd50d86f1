"""A finished run is broken in every way that loses or doubles something, and `status --verify` must find it."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from seamlessalign import cli, storage
from seamlessalign.errors import InputError, SeamlessAlignError
from seamlessalign.pipelines.folder import STAGES, RunFolder
from seamlessalign.pipelines.ledger import read_marks, write_ledger
from seamlessalign.pipelines.progress import Progress
from seamlessalign.pipelines.verify import prove, verify_run
from seamlessalign.pipelines.verify_files import Check
from seamlessalign.pipelines.verify_rows import _check_inputs
from tests.pipelines.small_corpus import SmallRun, complaint, finished_run, mine, program

pytestmark = pytest.mark.embedded

TABLES = ("recordings", "segments", "sentences", "pairs", "state/mining/kept", "corpus")
CHECKS = (
    "shards", "ledger", "files", "recordings", "segments", "sentences", "gather", "search", "pairs", "corpus", "data",
)  # fmt: skip
_some = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a recording that could not be read, one that was not wanted, and pairs that were dropped."""
    made: SmallRun = finished_run(tmp_path_factory.getbasetemp())
    root = tmp_path_factory.mktemp("verified")
    bad = root / "zz-bad.wav"
    bad.write_bytes(b"no audio at all")
    lines = (made.config.parent / "recordings.jsonl").read_text().splitlines()
    entries = [{**json.loads(line), "path": str(made.config.parent / json.loads(line)["path"])} for line in lines]
    entries.append({"path": str(bad), "lang": "fra"})
    manifest = root / "recordings.jsonl"
    manifest.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    folder = made.copy(root / "run")
    again = mine(made.config, folder, f"speech.inputs=[{manifest}]", "mining.threshold=1.6")
    assert again.status == 3, again.err
    return folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def _found(run: Path, *, data: bool = False) -> list[str]:
    return [sentence for check in verify_run(str(run), data=data) for sentence in check.wrong]


def _files(run: Path, table: str) -> list[Path]:
    """Files of a table that have rows."""
    return [file for file in sorted((run / table).rglob("*.parquet")) if pq.read_metadata(file).num_rows]


def _rewrite(file: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Write a table changed, so that nothing but its rows tells of it."""
    table = pq.ParquetFile(file).read()
    storage.write_table(str(file), change(table).replace_schema_metadata(table.schema.metadata))


def _set(name: str, row: int, value: Any) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = table.column(name).to_pylist()
        values[row] = value
        at = table.schema.get_field_index(name)
        return table.set_column(at, table.schema.field(name), pa.array(values, table.schema.field(name).type))

    return change


def _edit_mark(run: Path, stage: str, shard: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a mark, and the ledger with it."""
    file = run / "state" / "done" / stage / f"{shard}.json"
    mark = json.loads(file.read_text())
    change(mark)
    file.write_text(json.dumps(mark))
    write_ledger(RunFolder(str(run)), STAGES)


def test_a_whole_run(whole: Path) -> None:
    done = program("status", whole, "--verify")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == list(CHECKS)
    assert all(" ok: " in line for line in lines[:-1]) and lines[-1] == f"{whole}: nothing is lost"
    rows = {
        table: sum(pq.read_metadata(file).num_rows for file in _files(whole, table) if "part-" in file.name)
        for table in TABLES
    }
    said = dict(zip(CHECKS, lines, strict=False))
    assert f"ok: 6 inputs: {rows['recordings']} recordings, 1 set aside" in said["recordings"]
    assert f"ok: {rows['segments']} ids" in said["segments"] and f"ok: {rows['sentences']} ids" in said["sentences"]
    assert f"ok: {rows['pairs']} ids" in said["pairs"] and rows["pairs"] > rows["state/mining/kept"] > 0
    assert f"ok: {rows['corpus']} ids of {rows['state/mining/kept']} kept pairs" in said["corpus"]
    seconds = sum(
        (row["end"] - row["start"]) / 16_000 for file in _files(whole, "segments") for row in pq.read_table(
            file, columns=["start", "end"], partitioning=None).to_pylist()
    )  # fmt: skip
    assert f"{seconds / 3600:.3f} h" in said["segments"]


def test_as_json(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", str(whole), "--verify", "--json"]) == 0
    assert [(check["name"], check["wrong"]) for check in json.loads(capsys.readouterr().out)] == [
        (name, []) for name in CHECKS
    ]


def test_differences_are_told_and_the_status_is_1(run: Path) -> None:
    file = _files(run, "segments")[0]
    _rewrite(file, lambda table: table.slice(1))
    done = program("status", run, "--verify")
    assert done.returncode == 1 and done.stderr == ""
    shard = file.stem
    assert re.search(rf"^files      \d+ WRONG: .*\n  speech {shard}: \d+ rows in segments, the ledger says \d+$",
                     done.stdout, re.MULTILINE)  # fmt: skip
    assert re.search(r"run: \d+ differences$", done.stdout)


@pytest.mark.parametrize("table", TABLES)
def test_a_row_that_is_gone(run: Path, table: str) -> None:
    _rewrite(_files(run, table)[0], lambda rows: rows.slice(1))
    assert any(re.search(r"\d+ .*, the ledger says \d+$", sentence) for sentence in _found(run))
    with pytest.raises(SeamlessAlignError, match=r"do not balance: .*; seamlessalign status --verify tells all$"):
        prove(RunFolder(str(run)))


@pytest.mark.parametrize("table", TABLES)
def test_a_row_that_is_there_twice(run: Path, table: str) -> None:
    _rewrite(_files(run, table)[0], lambda rows: pa.concat_tables([rows, rows.slice(0, 1)]))
    assert any(re.search(r"\d+ .*, the ledger says \d+$", sentence) for sentence in _found(run))


@pytest.mark.parametrize("table", TABLES)
def test_a_row_in_the_place_of_another(run: Path, table: str) -> None:
    """All counts are right, and only ids tell."""
    if table == "recordings":  # of which each shard has one
        file, other = _files(run, table)[:2]
        rows, row = pq.ParquetFile(file).read(), pq.ParquetFile(other).read()
        lengths = pa.array(rows.column("num_samples").to_pylist(), pa.int64())
        metadata = rows.schema.metadata
        row = row.set_column(row.schema.get_field_index("num_samples"), row.schema.field("num_samples"), lengths)
        storage.write_table(str(file), row.replace_schema_metadata(metadata))
    else:
        file = next(file for file in _files(run, table) if pq.read_metadata(file).num_rows > 1)
        _rewrite(file, lambda rows: rows.take([0, *range(rows.num_rows - 1)]))
    told = {
        "recordings": "is a recording of no input", "segments": "is there more than once",
        "sentences": "is there more than once", "pairs": "is there more than once",
        "state/mining/kept": "pairs to be cut are not the", "corpus": "is there more than once",
    }  # fmt: skip
    assert any(told[table] in sentence for sentence in _found(run))


IDS = {
    "recordings": ("recording_id", "0123456789abcdef", "0123456789abcdef of .* is not the id of its SHA-256"),
    "recordings ": ("uri", "/elsewhere.wav", "/elsewhere.wav is a recording of no input of the shard"),
    "segments": ("segment_id", "0123456789abcdef:0-9", "0123456789abcdef:0-9 is not recording_id:start-end"),
    "segments ": ("uri", "/elsewhere.wav", "is of no recording of the shard that was kept"),
    "segments  ": ("end", 1 << 40, "is not inside its recording"),
    "segments   ": ("lang", "deu", "is of another language"),
    "sentences": ("text", "Not what was said.", "is not the id of its text"),
    "sentences ": ("document_id", "/elsewhere.txt", "comes from no line of its shard"),
    "sentences  ": ("position", -1, "comes from no line of its shard"),
    "pairs": ("pair_id", "0123456789abcdef", "0123456789abcdef is not the id of its two rows"),
    "pairs ": ("src_id", "0123456789abcdef", "has a src_id that sentences have not"),
    "pairs  ": ("drop_reason", "whim", "is kept and has a drop_reason"),
    "pairs   ": ("tgt_end", 1 << 40, "has times on its side tgt that tgt_id has not"),
    "pairs    ": ("tgt_id", "fedcba9876543210:0-16000", "has a tgt_id that segments have not"),
    "state/mining/kept": ("pair_id", "0123456789abcdef", r"the \d+ pairs to be cut are not the \d+ that are kept"),
    "corpus": ("pair_id", "0123456789abcdef", "0123456789abcdef is no kept pair of this shard"),
}


@pytest.mark.parametrize(("table", "change"), IDS.items(), ids=lambda case: str(case).strip())
def test_a_value_that_is_another(run: Path, table: str, change: tuple[str, Any, str]) -> None:
    name, value, told = change
    file = next(file for file in _files(run, table.strip()) if table.strip() != "pairs" or "eng-frA" in str(file))
    row = 0
    if name == "drop_reason":
        row = pq.ParquetFile(file).read(["kept"]).column("kept").to_pylist().index(True)
    _rewrite(file, _set(name, row, value))
    found = _found(run)
    assert any(re.search(told, sentence) for sentence in found), found


def test_a_dropped_pair_without_a_reason(run: Path) -> None:
    file = next(
        file for file in _files(run, "pairs") if False in pq.ParquetFile(file).read(["kept"]).column("kept").to_pylist()
    )
    row = pq.ParquetFile(file).read(["kept"]).column("kept").to_pylist().index(False)
    _rewrite(file, _set("drop_reason", row, None))
    assert any("is not kept and has no drop_reason" in sentence for sentence in _found(run))


@pytest.mark.parametrize(
    ("uris", "aside", "each", "told"),
    [
        (["a.wav#channel=0", "a.wav#channel=1", "b.wav"], [], True, []),
        (["a.wav#channel=0", "b.wav"], ["a.wav#channel=1"], True, []),
        (["a.wav#channel=1", "b.wav#channel=1"], [], False, []),
        (["a.wav#channel=0", "b.wav"], [], True, ["w: of input a.wav there are channels [0] of 2"]),
        (["a.wav#channel=0"] * 2, ["b.wav"], True, ["w: input a.wav is there more than once"]),
        (["a.wav"], [], False, ["w: input b.wav is neither a recording nor a line in quarantine"]),
    ],
)
def test_channels_that_are_recordings(uris: list[str], aside: list[str], each: bool, told: list[str]) -> None:
    check = Check("recordings")
    table = pa.table({"uri": uris, "channels": [2] * len(uris)})
    _check_inputs(check, "w", ["a.wav", "b.wav"], table, aside, each=each)
    assert check.wrong == told


def test_recordings_that_the_kept_pairs_are_not_of(run: Path) -> None:
    file = next(file for file in _files(run, "state/mining/kept") if file.name == "recordings.parquet")
    _rewrite(file, _set("uri", 0, "/elsewhere.wav"))
    (told,) = _found(run)
    assert str(file.relative_to(run)) in told and "recordings, not the" in told


@pytest.mark.parametrize("limit", ["_MOST_ROWS", "_MOST_SHARDS"])
def test_of_a_very_large_run_the_counts_are_compared(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, limit: str
) -> None:
    monkeypatch.setattr(f"seamlessalign.pipelines.verify.{limit}", 10)
    prove(RunFolder(str(run)))
    assert "seamlessalign status --verify compares their ids too" in caplog.text
    _rewrite(_files(run, "pairs")[0], lambda rows: rows.slice(1))
    with pytest.raises(SeamlessAlignError, match="rows in pairs, the ledger says"):
        prove(RunFolder(str(run)))


def test_a_kept_pair_that_is_not_in_the_corpus_is_named(run: Path) -> None:
    file = _files(run, "corpus")[0]
    gone = pq.ParquetFile(file).read(["pair_id"]).column("pair_id")[0].as_py()
    shard = f"{file.parent.name}.{file.stem}"
    _rewrite(file, lambda rows: rows.slice(1))
    _edit_mark(run, "corpus", shard, lambda mark: mark["lines"][0].update(rows_kept=pq.read_metadata(file).num_rows))
    _edit_mark(run, "corpus", shard, lambda mark: mark["lines"][0].update(rows_in=pq.read_metadata(file).num_rows))
    assert f"corpus {shard}: 1 kept pairs are not in it, 0 were dropped: {gone}" in _found(run)


def test_every_file_that_is_gone(whole: Path, run: Path) -> None:
    names = [name for stage in STAGES for mark in read_marks(RunFolder(str(run)), stage).values()
             for name in mark.outputs]  # fmt: skip
    assert len(names) > 30
    for name in names:
        (run / name).unlink()
        assert any(name in sentence and "is not there" in sentence for sentence in _found(run)), name
        shutil.copy(whole / name, run / name)
    assert _found(run) == []


def test_files_that_no_mark_names(run: Path) -> None:
    strays = ["segments/lang=fra/part-00099.parquet", "state/mining/sides/xxA.npy", "quarantine/text-part-00009.jsonl"]
    for name in strays:
        shutil.copy(_files(run, "segments")[0], run / name)
        assert [sentence.split(": ")[0] for sentence in _found(run)] == [name]
        (run / name).unlink()


def test_a_table_of_another_run(run: Path) -> None:
    file = _files(run, "sentences")[0]
    table = pq.ParquetFile(file).read()
    storage.write_table(str(file), table, metadata={"seamlessalign.digest": "other"})
    assert [sentence.split(" was written")[0] for sentence in _found(run)] == [
        f"text {file.stem}: {file.relative_to(run)}"
    ]


@pytest.mark.parametrize("shown", ["marks", "plans", "ledger"])
def test_shards_that_are_not_done(run: Path, shown: str) -> None:
    if shown == "marks":
        (run / "state/done/speech/part-00001.json").unlink()
        assert "speech part-00001: not done: run again to go on" in _found(run)
    elif shown == "plans":
        plan = json.loads((run / "state/plan/text.json").read_text())
        (run / "state/plan/text.json").write_text(json.dumps({**plan, "part-00000": "other"}))
        assert _found(run) == ["text part-00000: was done for other inputs or settings than are planned"]
        plan.pop("part-00001")
        (run / "state/plan/text.json").write_text(json.dumps(plan))
        told = "text part-00001: state/done/text/part-00001.json marks no shard of the plan"
        assert told in _found(run)
    else:
        (run / "ledger.parquet").unlink()
        assert _found(run) == ["ledger.parquet: is not there: the run is not finished"]


def test_a_damaged_mark_and_a_damaged_plan(run: Path) -> None:
    (run / "state/done/speech/part-00001.json").write_text("{half")
    (run / "state/plan/text.json").write_text("{half")
    found = _found(run)
    assert any("part-00001.json: is not a completion mark" in sentence for sentence in found)
    assert any("text.json: is not JSON" in sentence for sentence in found)


def test_a_line_of_the_quarantine(run: Path) -> None:
    (file,) = (run / "quarantine").glob("speech-*.jsonl")
    text, shard = file.read_text(), file.stem.removeprefix("speech-")
    file.write_text("")
    found = _found(run)
    assert f"speech {shard}: 0 lines in quarantine, the ledger says 1" in found
    assert any(f"speech {shard}: input" in sentence and "neither a recording nor" in sentence for sentence in found)
    file.write_text(text.replace("zz-bad", "other"))
    assert any("other.wav is a line in quarantine of no input" in sentence for sentence in _found(run))
    file.write_text(text.replace("not_audio", "whim"))
    assert any("1 lines in quarantine are whim, the ledger says 0" in sentence for sentence in _found(run))
    file.write_text(text + "half\n")
    assert any("has a line that is no entry" in sentence for sentence in _found(run))


def test_a_ledger_that_is_not_of_its_marks(run: Path) -> None:
    file = run / "ledger.parquet"
    table = pq.ParquetFile(file).read()
    storage.write_table(str(file), table.slice(1))
    assert _found(run) == [f"{table.column('stage')[0]} {table.column('shard')[0]}: ledger.parquet has other lines "
                           "than the marks"]  # fmt: skip


def _lines(run: Path) -> Iterator[tuple[str, str, int, dict[str, Any]]]:
    for stage in STAGES:
        for shard in read_marks(RunFolder(str(run)), stage):
            mark = json.loads((run / "state" / "done" / stage / f"{shard}.json").read_text())
            for number, line in enumerate(mark["lines"]):
                yield stage, shard, number, line


def _with_audio(line: dict[str, Any]) -> bool:
    return bool(line["samples_in"]) or line["stage"] in ("recordings", "segments", "pairs", "corpus")


@_some
@given(st.data())
def test_any_count_of_any_mark_that_is_another(whole: Path, run: Path, data: st.DataObject) -> None:
    """Also where the line itself balances, and the ledger has it; but rows that were dropped before any table had them
    are known by their number alone.
    """
    stage, shard, number, line = data.draw(st.sampled_from(list(_lines(whole))))
    kind = data.draw(st.sampled_from(["rows", "samples"] if _with_audio(line) else ["rows"]))
    reason = data.draw(st.sampled_from([None, "whim", *line["dropped"]]))
    dropped = {"rows": "dropped", "samples": "samples_dropped"}[kind]
    by = data.draw(st.sampled_from([-1, 1, 16_000]))
    where = data.draw(st.sampled_from(["in", "kept or dropped", "both"]))

    assume(where != "both" or reason is None or line["stage"] not in ("segments", "sentences", "decoys"))

    def change(mark: dict[str, Any]) -> None:
        changed = mark["lines"][number]
        if where != "kept or dropped":
            changed[f"{kind}_in"] += by
        if where != "in" and reason is None:
            changed[f"{kind}_kept"] += by
        elif where != "in":
            changed[dropped][str(reason)] = changed[dropped].get(str(reason), 0) + by

    _edit_mark(run, stage, shard, change)
    found = _found(run)
    shutil.copy(whole / "state" / "done" / stage / f"{shard}.json", run / "state" / "done" / stage / f"{shard}.json")
    shutil.copy(whole / "ledger.parquet", run / "ledger.parquet")
    assert any(shard in sentence for sentence in found), (stage, shard, line["stage"], kind, where, reason)


@_some
@given(st.data())
def test_a_flipped_bit_in_any_column_of_any_table(whole: Path, run: Path, data: st.DataObject) -> None:
    """It is found, or it is one that no reader looks at: some of a page's header."""
    tables = (*TABLES, "state/mining/decoys")
    file = data.draw(st.sampled_from([file for table in tables for file in _files(run, table)]))
    group = pq.read_metadata(file).row_group(0)
    column = group.column(data.draw(st.integers(0, group.num_columns - 1)))
    first = column.data_page_offset if column.dictionary_page_offset is None else column.dictionary_page_offset
    at = data.draw(st.integers(first, first + column.total_compressed_size - 1))
    good = file.read_bytes()
    bad = bytearray(good)
    bad[at] ^= 1 << data.draw(st.integers(0, 7))
    before = pq.ParquetFile(file).read()
    file.write_bytes(bad)
    try:
        found = _found(run, data=True)
        if not found:
            after = pq.ParquetFile(file).read()
            assert str(after.to_pydict()) == str(before.to_pydict())
        else:
            # some bits of a page's header make it a page of no rows: then its shard is named
            assert any(file.stem in sentence or str(file) in sentence for sentence in found)
    finally:
        file.write_bytes(good)


def test_pages_have_checksums(run: Path) -> None:
    """Every byte of the compressed numbers of an embedding counts; without checksums most flips would go unseen."""
    file = _files(run, "segments")[0]
    group = pq.read_metadata(file).row_group(0)
    column = next(group.column(i) for i in range(group.num_columns) if "embedding" in group.column(i).path_in_schema)
    good, end = file.read_bytes(), column.data_page_offset + column.total_compressed_size
    for at in range(end - 15, end):
        bad = bytearray(good)
        bad[at] ^= 1
        file.write_bytes(bad)
        assert any(str(file) in sentence for sentence in _found(run, data=True)), at


def test_a_run_at_work_is_not_verified(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Progress(RunFolder(str(run)), "speech", 1.0)
    with pytest.raises(InputError, match="is at work"):
        list(verify_run(str(run)))
    assert cli.main(["status", str(run), "--verify"]) == 2
    assert "it can be verified when it has ended" in complaint(capsys.readouterr().err)


def test_a_run_that_has_lost_a_row_does_not_end_well(whole: Path, run: Path) -> None:
    """The end of the run itself finds it."""
    prove(RunFolder(str(run)))
    _rewrite(_files(run, "pairs")[0], lambda rows: rows.take([0, *range(rows.num_rows - 1)]))
    with pytest.raises(SeamlessAlignError, match=r"do not balance: mine direction=.*is there more than once"):
        prove(RunFolder(str(run)))
