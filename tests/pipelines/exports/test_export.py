"""Exports as a user starts them: rows as in the run, splits, counts that balance, kills, and what is refused."""

import csv
import gzip
import io
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from seamlessalign import cli, storage
from seamlessalign.exchange_cli import FORMATS as NAMES
from seamlessalign.mining.text_filters import fold
from seamlessalign.pipelines.driver_lock import only_driver
from seamlessalign.pipelines.exports import export as driver
from seamlessalign.pipelines.exports.export_folder import ExportFolder
from seamlessalign.pipelines.exports.formats import FORMATS
from seamlessalign.pipelines.exports.shard_work import do_shard
from seamlessalign.rows import TRANSCRIPTS, PairTranscript
from tests.pipelines.exports.made_run import MadeRun, make_run
from tests.pipelines.small_corpus import HOUSE, command, environment

SPLITS = "train=0.7,dev=0.15,test=0.15"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    return make_run(tmp_path_factory.mktemp("export"), recordings=4)


def _export(run: MadeRun | Path, target: Path, *more: str | Path) -> int:
    root = run if isinstance(run, Path) else run.root
    workers = () if "--workers" in more else ("--workers", "1")
    return cli.main(["export", str(root), "--to", str(target), *map(str, more), *workers])


def _rows(folder: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(folder.glob("*.parquet")) for row in pq.ParquetFile(file).read().to_pylist()]


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def _record(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "export.json").read_text())
    return read


def test_what_the_run_kept_is_handed_on_as_it_is(
    run: MadeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _export(run, tmp_path / "to", "--pairs-per-shard", "7") == 0
    told = capsys.readouterr().out
    for direction, rows in run.corpus.items():
        assert _rows(tmp_path / "to" / direction) == rows
        assert f"{direction}: {len(rows)} pairs, " in told
        assert len(list((tmp_path / "to" / direction).iterdir())) == -(-len(rows) // 7)
    assert {file.name for file in (tmp_path / "to").iterdir()} == {*run.corpus, "README.md", "export.json"}
    for direction, counts in _record(tmp_path / "to")["directions"].items():
        assert counts["pairs"] + sum(counts["left_out"].values()) == counts["in_run"] == len(run.pairs[direction])


def test_no_recording_and_no_text_is_in_two_splits(run: MadeRun, tmp_path: Path) -> None:
    assert _export(run, tmp_path / "to", "--splits", SPLITS, "--seed", "2") == 0
    recordings, texts, total = defaultdict(set), defaultdict(set), 0
    for split in ("train", "dev", "test"):
        for folder in (tmp_path / "to" / split).iterdir():
            for row in _rows(folder):
                total += 1
                for side in ("src", "tgt"):
                    if row[f"{side}_uri"] is not None:
                        recordings[row[f"{side}_uri"]].add(split)
                    if row[f"{side}_text"] is not None:
                        texts[fold(pa.array([row[f"{side}_text"]]))[0].as_py()].add(split)
    assert total == sum(map(len, run.corpus.values()))
    assert all(len(splits) == 1 for splits in [*recordings.values(), *texts.values()])
    assert set().union(*recordings.values()) == {"train", "dev", "test"}


def test_texts_that_all_share_make_one_split_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = make_run(tmp_path, recordings=3, shared_texts=True)
    assert _export(shared, tmp_path / "to", "--splits", SPLITS, "--direction", "eng-frA") == 0
    assert "dev has 0.0% and not 15.0%" in capsys.readouterr().out
    assert "dev has 0.0% and not 15.0%" in (tmp_path / "to" / "README.md").read_text()
    assert len(_rows(tmp_path / "to" / "train" / "eng-frA")) == len(shared.corpus["eng-frA"])


def test_what_straddles_is_left_out_counted_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared = make_run(tmp_path, recordings=5, shared_texts=True)
    splits = ("--splits", "train=0.8,test=0.2")
    assert _export(shared, tmp_path / "to", *splits) == 0
    told, record = capsys.readouterr().out, _record(tmp_path / "to")
    straddling = {name: counts["left_out"].get("straddles_splits", 0) for name, counts in record["directions"].items()}
    found, lost = defaultdict(set), 0
    for name, corpus in shared.corpus.items():
        rows = {split: _rows(tmp_path / "to" / split / name) for split in ("train", "test")}
        lost += len(corpus) - sum(map(len, rows.values()))
        assert len(corpus) - sum(map(len, rows.values())) == straddling[name]
        assert (f"straddles_splits {straddling[name]}" in told) == (straddling[name] > 0)
        for split, some in rows.items():
            for row in some:
                for column in ("src_uri", "tgt_uri", "src_text"):
                    found[column, row[column]].add(split)
    assert all(len(splits) == 1 for (_, value), splits in found.items() if value is not None)
    assert {"train", "test"} == set().union(*found.values()) and lost == record["splits"]["left_out"] > 0
    assert f"{lost} of {sum(map(len, shared.corpus.values()))} pairs (" in told
    card = (tmp_path / "to" / "README.md").read_text()
    assert f"{lost} pairs were left out, as `straddles_splits`" in card and "%) are left out, since they share" in card
    assert _export(shared, tmp_path / "whole", *splits, "--straddling", "keep-together") == 0
    assert sum(counts["pairs"] for counts in _record(tmp_path / "whole")["directions"].values()) == sum(
        map(len, shared.corpus.values())
    )


@pytest.mark.parametrize("straddling", ["leave-out", "keep-together"])
def test_no_document_is_in_two_splits(run: MadeRun, tmp_path: Path, straddling: str) -> None:
    root = shutil.copytree(run.root, tmp_path / "run")
    texts = sorted({(row["src_id"], row["src_text"]) for row in run.corpus["eng-frA"]})
    document = {name: f"{int(text.rsplit(maxsplit=1)[-1]) // 2}.txt" for name, text in texts}
    rows = [
        {"sentence_id": name, "text": text, "document_id": document[name], "embedding": None} for name, text in texts
    ]
    storage.write_table(f"{root}/sentences/lang=eng/part-00000.parquet", pa.Table.from_pylist(rows))
    options = ("--splits", "train=0.6,test=0.4", "--apart", "documents", "--straddling", straddling)
    assert _export(root, tmp_path / "to", *options) == 0
    found = defaultdict(set)
    for split in ("train", "test"):
        for direction in run.corpus:
            for row in _rows(tmp_path / "to" / split / direction):
                for what in (document.get(row["src_id"]), row["src_uri"], row["tgt_uri"], row["src_text"]):
                    found[what].add(split)
    found.pop(None)
    assert all(len(splits) == 1 for splits in found.values()) and len(document) > len(set(document.values())) > 1
    assert {"train", "test"} == set().union(*found.values())
    counts = _record(tmp_path / "to")["directions"].values()
    assert all(one["pairs"] + sum(one["left_out"].values()) == one["in_run"] for one in counts)


def test_documents_that_the_run_does_not_know_are_told(
    run: MadeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _export(run, tmp_path / "to", "--splits", SPLITS, "--apart", "documents") == 2
    assert "export with --apart texts" in _told(capsys)


def test_pairs_of_a_lower_cut_are_cut_anew(run: MadeRun, tmp_path: Path) -> None:
    assert _export(run, tmp_path / "to", "--threshold", "1.0", "--pairs-per-shard", "30") == 0
    for direction, corpus in run.corpus.items():
        rows = {row["pair_id"]: row for row in _rows(tmp_path / "to" / direction)}
        kept = {row["pair_id"] for row in corpus}
        assert [rows[row["pair_id"]] for row in corpus] == corpus and rows.keys() > kept
        for name in rows.keys() - kept:
            row = rows[name]
            heard, rate = soundfile.read(io.BytesIO(row["tgt_audio"]["bytes"]), dtype="float32")
            there, _ = soundfile.read(row["tgt_uri"], start=row["tgt_start"], stop=row["tgt_end"], dtype="float32")
            np.testing.assert_allclose(heard, there, atol=1e-4)
            about = run.recording(row["tgt_uri"])
            assert (rate, row["tgt_license"], row["tgt_source"]) == (16_000, about["license"], about["source"])


def test_a_run_that_kept_nothing_is_exported_at_a_lower_cut(
    run: MadeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "run"
    shutil.copytree(run.root, root)
    shutil.rmtree(root / "corpus")  # of a direction that keeps nothing no corpus is written
    for part in (root / "pairs").rglob("*.parquet"):
        table = pq.ParquetFile(part).read()
        changed = {"kept": [False] * table.num_rows, "drop_reason": ["below_threshold"] * table.num_rows}
        for name, values in changed.items():
            place = table.schema.get_field_index(name)
            table = table.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))
        pq.write_table(table, part)
    assert _export(root, tmp_path / "as-kept") == 2
    assert "no pair is left to export: below_threshold" in capsys.readouterr().err
    pair = max(run.pairs["eng-frA"], key=lambda row: row["margin"])
    assert _export(root, tmp_path / "lower", "--threshold", str(pair["margin"]), "--direction", "eng-frA") == 0
    assert [row["pair_id"] for row in _rows(tmp_path / "lower/eng-frA")] == [pair["pair_id"]]


def test_what_cannot_be_cut_is_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make_run(tmp_path, recordings=2)
    gone, changed = (Path(one["uri"]) for one in made.recordings if one["lang"] == "fra")
    gone.unlink()
    changed.write_bytes(changed.read_bytes() + b"\0")
    assert _export(made, tmp_path / "to", "--threshold", "1.0") == 3
    assert "pairs could not be cut; left_out.tsv names them" in capsys.readouterr().out
    counts = _record(tmp_path / "to")["directions"]["eng-frA"]
    assert counts["left_out"]["audio_gone"] > 0 and counts["left_out"]["audio_changed"] > 0
    assert counts["pairs"] == len(made.corpus["eng-frA"])  # whose audio is in the run
    lines = [line.split("\t") for line in (tmp_path / "to" / "left_out.tsv").read_text().splitlines()[1:]]
    assert len(lines) == _record(tmp_path / "to")["uncut"]
    assert {(reason, uri) for _, _, reason, uri in lines} == {
        ("audio_gone", str(gone)),
        ("audio_changed", str(changed)),
    }


def test_what_is_in_an_evaluation_set_is_left_out(
    run: MadeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = run.corpus["eng-frA"][:3]
    other = next(row for row in run.corpus["frA-deA"] if row["src_uri"] != first["tgt_uri"])
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "test.txt").write_text(f'"{first["src_text"].upper()}!\nNothing of it\n')
    (tmp_path / "set" / "test.jsonl").write_text(json.dumps({"text": f"{second['src_text']}, as he said"}) + "\n")
    (tmp_path / "set" / "test.pdf").write_text("what is in it is not looked at")
    shutil.copy(other["src_uri"], tmp_path / "set" / "clip.flac")
    assert _export(run, tmp_path / "to", "--not-in", tmp_path / "set") == 0
    passed_over = "1 files in folders of evaluation sets gave no text and no sound to compare with; "
    assert f"\n{passed_over}export.json names them\n" in capsys.readouterr().out
    assert f"- {passed_over}`export.json` names them." in (tmp_path / "to" / "README.md").read_text()
    with (tmp_path / "to" / "leaks.tsv").open(encoding="utf-8", newline="") as file:
        listed = {line["pair_id"]: line for line in csv.DictReader(file, delimiter="\t")}
    assert listed[first["pair_id"]]["reason"] == "same_text"
    assert listed[first["pair_id"]]["text_there"] == f'"{first["src_text"].upper()}!'
    assert listed[second["pair_id"]]["reason"] == "near_text"
    of_file = {
        row["pair_id"]
        for rows in run.corpus.values()
        for row in rows
        if other["src_uri"] in (row["src_uri"], row["tgt_uri"])
    }
    assert of_file == {name for name, line in listed.items() if line["reason"] == "same_file"}
    exported = {row["pair_id"] for direction in run.corpus for row in _rows(tmp_path / "to" / direction)}
    every = {row["pair_id"] for rows in run.corpus.values() for row in rows}
    assert exported == every - listed.keys() and third["pair_id"] in exported | listed.keys()
    record = _record(tmp_path / "to")
    assert sum(record["leaks"].values()) == len(listed) and record["evaluation"]["texts"] == 3


def test_what_a_recogniser_heard_is_compared_too(tmp_path: Path) -> None:
    made = make_run(tmp_path, recordings=1)
    said = "Nobody had told him that the last train left at nine"
    heard = [
        PairTranscript(row["pair_id"], "tgt", "fra", said if number == 2 else f"sentence {number}", -0.3)
        for number, row in enumerate(made.corpus["eng-frA"])
    ]
    for part, some in enumerate((heard[: len(heard) // 2], heard[len(heard) // 2 :])):
        table = pa.Table.from_pylist(list(map(asdict, some)), TRANSCRIPTS)
        storage.write_table(f"{made.root}/transcripts/direction=eng-frA/part-{part:05}.parquet", table)
    (tmp_path / "test.txt").write_text(f"{said}.\n")
    assert _export(made, tmp_path / "to", "--not-in", tmp_path / "test.txt", "--direction", "eng-frA") == 0
    leaking = made.corpus["eng-frA"][2]["pair_id"]
    line = (tmp_path / "to" / "leaks.tsv").read_text().splitlines()[1]
    assert line == f"eng-frA\t{leaking}\ttgt\tsame_text\t\t{tmp_path / 'test.txt'}:1\t{said}\t{said}."
    assert _rows(tmp_path / "to" / "eng-frA") == [r for r in made.corpus["eng-frA"] if r["pair_id"] != leaking]
    told = _rows(tmp_path / "to" / "transcripts" / "eng-frA")
    assert [row["pair_id"] for row in told] == [r["pair_id"] for r in made.corpus["eng-frA"] if r["pair_id"] != leaking]


@pytest.mark.slow
def test_every_format_takes_a_shard(run: MadeRun, tmp_path: Path) -> None:
    assert tuple(FORMATS) == NAMES
    for name in FORMATS:
        target = tmp_path / name
        assert _export(run, target, "--format", name, "--direction", "eng-frA") == 0
        assert _record(target)["directions"]["eng-frA"]["pairs"] == len(run.corpus["eng-frA"])
        assert all((target / file).exists() for file in _record(target)["files"]) and not (target / "state").exists()


# Going on


def test_who_goes_on_does_nothing_twice_and_ends_with_the_same_bytes(
    run: MadeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--pairs-per-shard", "9", "--splits", SPLITS)
    assert _export(run, tmp_path / "whole", *options) == 0
    done: list[Any] = []
    work = do_shard

    def interrupted(planned: Any, about: Any) -> Any:
        if len(done) in (3, 5):
            done.append(None)
            raise KeyboardInterrupt
        done.append(planned)
        return work(planned, about)

    monkeypatch.setattr(driver, "do_shard", interrupted)
    assert [_export(run, tmp_path / "parts", *options) for _ in range(3)] == [1, 1, 0]
    written = [planned for planned in done if planned is not None]
    assert len(written) == len(set(map(str, written)))
    assert _bytes(tmp_path / "parts") == _bytes(tmp_path / "whole")
    capsys.readouterr()
    assert _export(run, tmp_path / "parts", *options) == 0 and len(done) == len(written) + 2
    assert f"was exported before: {tmp_path / 'parts'}" in capsys.readouterr().out


def _killed_again_and_again(run: MadeRun, folder: Path, format: str, moments: list[Callable[[Path], object]]) -> None:
    """Kill exports by SIGKILL, each when a moment has come, and look at what the last one ends with."""
    options = ("--pairs-per-shard", "4", "--format", format, "--threshold", "1.0", "--splits", SPLITS)
    target = folder / "killed"
    arguments = command("export", run.root, "--to", target, *options, "--workers", "2")
    ends = []
    for moment in moments:
        process = subprocess.Popen(
            arguments, env=environment(), cwd=HOUSE, stderr=subprocess.PIPE, stdout=subprocess.PIPE
        )
        deadline = time.monotonic() + 60
        while process.poll() is None and not moment(target / "state") and time.monotonic() < deadline:
            time.sleep(0.005)
        process.kill()
        process.communicate()
        ends.append(process.returncode)
    assert -signal.SIGKILL in ends, "each had ended before it was killed"
    assert _export(run, folder / "whole", *options) == 0
    assert _export(run, target, *options) == 0
    assert _bytes(target) == _bytes(folder / "whole")


def _done(state: Path) -> int:
    return len(list((state / "done").rglob("*.json")))


@pytest.mark.slow
def test_a_killed_export_goes_on_to_the_same_bytes(run: MadeRun, tmp_path: Path) -> None:
    _killed_again_and_again(run, tmp_path, "parquet", [lambda state: (state / "plan").exists(), lambda s: _done(s) > 3])


@pytest.mark.slow
def test_sigterm_lets_what_is_being_written_be_finished(run: MadeRun, tmp_path: Path) -> None:
    arguments = command("export", run.root, "--to", tmp_path / "to", "--pairs-per-shard", "1", "--workers", "2")
    process = subprocess.Popen(arguments, env=environment(), cwd=HOUSE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while process.poll() is None and _done(tmp_path / "to" / "state") < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.terminate()
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert told.endswith("seamlessalign: stopped; the same command goes on from here\n")
    assert not list((tmp_path / "to").rglob(".writing-*"))
    assert 2 <= _done(tmp_path / "to" / "state") < sum(map(len, run.corpus.values()))


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize("format", ["parquet", "lhotse-shar", "folder"])
def test_it_may_be_killed_at_any_moment(run: MadeRun, tmp_path: Path, format: str) -> None:
    moments: list[Callable[[Path], object]] = [
        lambda state: (state / "lock").exists(),
        lambda state: (state / "plan.json").exists(),
        lambda state: _done(state) > 1,
        lambda state: _done(state) > 11,
        lambda state: (state.parent / "README.md").exists(),
        lambda state: (state.parent / "export.json").exists(),
    ]
    _killed_again_and_again(run, tmp_path, format, moments)


# What is refused


def _told(capsys: pytest.CaptureFixture[str]) -> str:
    shown = capsys.readouterr().err
    assert shown.startswith("seamlessalign: ") and shown.count("\n") == 1
    return shown


def test_another_command_into_the_same_folder_is_refused(
    run: MadeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(driver, "do_shard", stopped)
        assert _export(run, tmp_path / "to") == 1
    capsys.readouterr()
    before = _bytes(tmp_path / "to")
    assert _export(run, tmp_path / "to", "--threshold", "1.5") == 2
    assert "holds another export, or one of the run as it was before" in _told(capsys)
    assert _bytes(tmp_path / "to").keys() == before.keys()
    assert _export(run, tmp_path / "to") == 0
    capsys.readouterr()
    assert _export(run, tmp_path / "to", "--format", "folder") == 2
    assert "holds another export" in _told(capsys)


def test_a_run_that_changed_is_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make_run(tmp_path, recordings=1)
    assert _export(made, tmp_path / "to") == 0
    (file,) = (made.root / "pairs" / "direction=eng-frA").iterdir()
    pq.write_table(pq.read_table(file).slice(1), file)
    assert _export(made, tmp_path / "to") == 2


@pytest.mark.parametrize("there", ["eng-frA/part-00000.parquet", "notes.txt", "state/done/speech/part-00000.json"])
def test_a_target_that_is_not_empty_and_no_export_is_refused(
    run: MadeRun, tmp_path: Path, there: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / there).write_bytes(b"mine")
    assert _export(run, tmp_path) == 2
    assert "is not empty and holds no export; choose another folder" in _told(capsys)
    assert _bytes(tmp_path) == {there: b"mine"}


@pytest.mark.parametrize("place", ["", "corpus/new", "../run/new"])
@pytest.mark.parametrize("format", ["parquet", "seamlessalign-tsv"])
def test_a_target_among_the_tables_of_the_run_is_refused(
    tmp_path: Path, run: MadeRun, place: str, format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(run.root, tmp_path / "run")
    before = _bytes(root)
    assert _export(root, root / place, "--format", format) == 2
    assert "is within the run's folder; export to another, or below" in _told(capsys)
    assert _bytes(root) == before
    assert _export(root, root / "exports" / "mine", "--format", format) == 0


def test_two_exports_into_one_folder_do_not_mix(
    run: MadeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with only_driver(ExportFolder(str(tmp_path / "to"))):
        assert _export(run, tmp_path / "to") == 1
    assert "is at work in this folder" in _told(capsys)
    assert _export(run, tmp_path / "to") == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--direction", "eng-ruA"], "has no direction 'eng-ruA'; there are eng-frA, frA-deA"),
        (["--splits", "train=0.9,dev=0.2"], "add up to 1.1, not to 1"),
        (["--splits", ""], "--splits: '': write a name and its share"),
        (["--to", " "], "--to is empty: give a folder"),
        (["--not-in", "/nowhere/test.txt"], "--not-in: /nowhere/test.txt: there is no such file or folder"),
        (["--selection", "best"], "has no selection 'best'; there are: none"),
        (["--selection", "../best"], "cannot name a selection"),
        (["--min-precision", "2"], "--min-precision is 2: give a share between 0 and 1"),
        (["--threshold", "1", "--fdr", "0.1"], "--threshold and --fdr are two ways to cut: give one"),
        (["--workers", "0"], "--workers is 0: give 1 or more"),
        (["--pairs-per-shard", "-1"], "--pairs-per-shard is -1: give 1 or more"),
        (["--format", "meta-jsonl", "--audio", "opus"], "its loader wants 16 kHz and gets 48 kHz of Opus"),
        (["--threshold", "99"], "no pair is left to export: below_margin"),
    ],
)
def test_what_cannot_be_asked_for_is_told_in_a_line(
    run: MadeRun, tmp_path: Path, options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _export(run, tmp_path / "to", *options) == 2
    assert told in _told(capsys)
    assert not _bytes(tmp_path / "to") if (tmp_path / "to").exists() else True


def test_what_an_export_needs_and_is_not_there_is_named(
    run: MadeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stand-ins for a machine without the package, and with a libsndfile of before 2020."""
    monkeypatch.setitem(sys.modules, "lhotse", None)
    for format in ("lhotse", "lhotse-shar"):
        assert _export(run, tmp_path / "to", "--format", format) == 2
        assert "needs the package lhotse: pip install 'seamlessalign[export]'" in _told(capsys)
    monkeypatch.setattr(soundfile, "check_format", lambda *_: False)
    assert _export(run, tmp_path / "to", "--audio", "opus") == 2
    assert "of this machine writes no Opus" in _told(capsys)
    assert not (tmp_path / "to").exists()


def test_what_is_no_finished_run_is_refused(run: MadeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(run.root / "pairs", tmp_path / "half" / "pairs")
    for root, told in ((tmp_path / "half", "has no corpus to export"), (tmp_path / "none", "is it a run's folder?")):
        assert _export(root, tmp_path / "to") == 2
        assert told in _told(capsys)
    (tmp_path / "file").write_text("mine")
    assert _export(run, tmp_path / "file" / "x") == 2
    assert (tmp_path / "file").read_text() == "mine" and _told(capsys)


def test_a_corpus_that_is_damaged_is_named_and_what_is_done_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_run(tmp_path, recordings=2)
    file = made.root / "corpus" / "direction=eng-frA" / "part-00001.parquet"
    whole = file.read_bytes()
    position = whole.index(b"fLaC")
    stamp = file.stat()
    file.write_bytes(whole[: position + 50] + bytes(50) + whole[position + 100 :])
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert _export(made, tmp_path / "to", "--pairs-per-shard", "3") == 2
    assert "part-00001.parquet: is not a readable Parquet file" in _told(capsys)
    file.write_bytes(whole)
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert _export(made, tmp_path / "to", "--pairs-per-shard", "3") == 0
    assert _rows(tmp_path / "to" / "eng-frA") == made.corpus["eng-frA"]


@pytest.mark.parametrize(
    ("size", "format", "file"),
    [
        (2000, "parquet", "state/plan/eng-frA.00000.parquet"),
        pytest.param(20_000, "folder", "eng-frA/part-00000/[0-9a-f]+.tgt.flac", marks=pytest.mark.slow),
        pytest.param(100_000, "webdataset", "eng-frA/part-00000-000.tar", marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_is_told_and_gone_on_from(
    run: MadeRun, tmp_path: Path, size: int, format: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The size of files is limited, which stops a write as a full disk does."""
    options = ("--format", format, "--direction", "eng-frA")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        assert _export(run, tmp_path / "to", *options) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert re.search(rf"^seamlessalign: {tmp_path}/to/{file}: cannot be written: File too large\n", _told(capsys))
    assert not list((tmp_path / "to").rglob(".writing-*"))
    assert _export(run, tmp_path / "to", *options) == 0
    assert _record(tmp_path / "to")["directions"]["eng-frA"]["pairs"] == len(run.corpus["eng-frA"])


def test_a_choice_is_written_as_published_lines_too(run: MadeRun, tmp_path: Path) -> None:
    assert _export(run, tmp_path / "to", "--format", "seamlessalign-tsv", "--threshold", "1.4") == 0
    for direction in run.pairs:
        (file,) = (tmp_path / "to").glob(f"*.{direction}.tsv.gz")
        lines = gzip.decompress(file.read_bytes()).decode().splitlines()
        assert len(lines) == 2 * sum(pair["margin"] >= 1.4 for pair in run.kept(direction))


def test_what_published_lines_cannot_have_is_refused(
    run: MadeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _export(run, tmp_path / "to", "--format", "seamlessalign-tsv", "--splits", SPLITS) == 2
    assert "--splits says nothing to --format seamlessalign-tsv" in _told(capsys)


@pytest.mark.slow
def test_run_and_export_may_be_in_a_store(run: MadeRun, tmp_path: Path, s3_bucket: str) -> None:
    options = ("--splits", SPLITS, "--threshold", "1.0")
    assert _export(run, tmp_path / "to", *options) == 0
    storage.filesystem(s3_bucket)[0].put(str(run.root), f"{s3_bucket}/run", recursive=True)
    for name, source in (("of-local", str(run.root)), ("of-store", f"{s3_bucket}/run")):
        target = f"{s3_bucket}/{name}"
        assert cli.main(["export", source, "--to", target, *options, "--workers", "1"]) == 0
        found = {uri.removeprefix(f"{target}/"): storage.read_bytes(uri) for uri in storage.list_files(target)}
        local = _bytes(tmp_path / "to")
        assert found.keys() == local.keys()
        differ = {file for file, data in found.items() if data != local[file]}
        assert differ <= {"README.md", "export.json"}  # the digest is of the run as it lies there
