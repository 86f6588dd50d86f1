"""Labels are added behind all others and never lost: by threads, processes, those that are killed, and in a store."""

import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seamlessalign.errors import InputError, StorageError
from seamlessalign.pipelines.curation.labels import LABELS, Drawn, Label, Labels, Said

AT = Drawn("random at the threshold", 1.1, 1.2)
LOOKED_UP = Drawn("looked up")

ADD = """
import sys
from seamlessalign.pipelines.curation.labels import Drawn, Label, Labels
labels = Labels(sys.argv[1])
for number in range(int(sys.argv[3])):
    line = Label(f"{sys.argv[2]}-{number}", "eng-frA", "right", 1.5, Drawn("looked up"), sys.argv[2])
    labels.append([line])
    print(number, flush=True)
"""
# The process kills itself when it comes to step N of those by which a file is written.
KILLED = """
import os, signal, sys
from pathlib import Path
steps = int(sys.argv[2])
def counted(function):
    def counting(*arguments, **named):
        global steps
        steps -= 1
        if steps < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)
    return counting
from seamlessalign import local_files
from seamlessalign.pipelines.curation.labels import Drawn, Label, Labels
os.fsync, os.open = counted(os.fsync), counted(os.open)
Path.replace, Path.write_bytes, Path.unlink = counted(Path.replace), counted(Path.write_bytes), counted(Path.unlink)
Labels(sys.argv[1]).append([Label("killed", "eng-frA", "wrong", 1.5, Drawn("looked up"))])
os._exit(0)
"""


def _label(pair: str, label: Said, drawn: Drawn = LOOKED_UP, direction: str = "eng-frA") -> Label:
    return Label(pair, direction, label, 1.25, drawn, "me", 1.15)


def _adding(root: Path, name: str, number: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", ADD, str(root), name, str(number)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


class TestLines:
    def test_they_come_back_as_they_were_given(self, tmp_path: Path) -> None:
        labels = Labels(str(tmp_path))
        assert len(labels.read()) == 0 and labels.labelled() == {}
        before = datetime.now(UTC)
        assert labels.append([_label("a", "right", AT), _label("b", "unsure")]) == 2
        assert labels.append([_label("a", "wrong")]) == 3
        rows = pq.read_table(tmp_path / "labels.parquet").to_pylist()
        assert [(row["pair_id"], row["label"]) for row in rows] == [("a", "right"), ("b", "unsure"), ("a", "wrong")]
        first = {**rows[0]}
        assert before <= first.pop("time") <= datetime.now(UTC)
        assert first == {
            "pair_id": "a", "direction": "eng-frA", "label": "right", "session": "me", "threshold": 1.15,
            "margin": 1.25, "drawn": "random at the threshold", "drawn_from": 1.1, "drawn_to": 1.2, "drawn_among": "",
        }  # fmt: skip
        assert labels.read().schema.equals(LABELS)

    def test_the_last_counts_and_undo_takes_it_back(self, tmp_path: Path) -> None:
        labels = Labels(str(tmp_path))
        said: list[Said] = ["undo", "right", "wrong", "undo", "unsure", "undo", "undo", "undo", "wrong"]
        counting = [None, "right", "wrong", "right", "unsure", "right", None, None, "wrong"]
        for label, wanted in zip(said, counting, strict=True):
            labels.append([_label("a", label), _label("b", "right")])
            assert labels.labelled()["eng-frA a"].label == wanted
        assert len(labels.read()) == 2 * len(said)
        assert labels.labelled()["eng-frA b"].label == "right"

    def test_a_pair_of_two_directions_is_two(self, tmp_path: Path) -> None:
        labels = Labels(str(tmp_path))
        labels.append([_label("a", "right"), _label("a", "wrong", direction="frA-eng")])
        assert {name: pair.label for name, pair in labels.labelled().items()} == {
            "eng-frA a": "right", "frA-eng a": "wrong"
        }  # fmt: skip
        assert list(labels.labelled("frA-eng")) == ["frA-eng a"]

    def test_every_random_draw_of_a_pair_is_known(self, tmp_path: Path) -> None:
        labels = Labels(str(tmp_path))
        above = Drawn("random above the threshold", 1.15, None, '["x"]')
        labels.append([_label("a", "right", drawn) for drawn in (LOOKED_UP, AT, above, AT)])
        assert labels.labelled()["eng-frA a"].draws == [AT, above]

    def test_what_is_no_label_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="'maybe' is no label; there are right, wrong"):
            _label("a", "maybe")  # type: ignore[arg-type]
        with pytest.raises(InputError, match="no way to draw"):
            Drawn("by dice")  # type: ignore[arg-type]
        with pytest.raises(InputError, match="its margin"):
            Label("a", "eng-frA", "right", float("nan"), LOOKED_UP)
        for pair, direction in (("", "eng-frA"), ("a", "")):
            with pytest.raises(InputError, match="needs a pair, its direction"):
                Label(pair, direction, "right", 1.5, LOOKED_UP)

    def test_no_line_is_no_write(self, tmp_path: Path) -> None:
        labels = Labels(str(tmp_path))
        assert labels.append([]) == 0 and list(tmp_path.iterdir()) == []
        assert labels.append([_label("a", "right"), _label("b", "wrong")]) == 2
        before = (tmp_path / "labels.parquet").stat()
        assert labels.append([]) == 2 and (tmp_path / "labels.parquet").stat() == before

    def test_what_is_not_known_is_null_and_nothing_else_can_be(self) -> None:
        assert {field.name for field in LABELS if field.nullable} == {"threshold", "drawn_from", "drawn_to"}


class TestFile:
    @pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "another table", "another word"])
    def test_a_damaged_one_is_named_and_stays(self, tmp_path: Path, damage: str) -> None:
        labels = Labels(str(tmp_path))
        labels.append([_label(str(number), "right") for number in range(50)])
        path = tmp_path / "labels.parquet"
        whole = path.read_bytes()
        if damage == "another table":
            pq.write_table(labels.read().drop_columns(["drawn"]), path)
        elif damage == "another word":
            place = LABELS.get_field_index("label")
            said = pa.array(["maybe", *["right"] * 49], pa.string())
            pq.write_table(labels.read().set_column(place, LABELS.field(place), said), path)
        else:
            middle = whole[:150] + bytes([whole[150] ^ 1]) + whole[151:]
            path.write_bytes({"cut": whole[:-9], "flipped": middle, "empty": b""}[damage])
        damaged = path.read_bytes()
        for act in (labels.read, lambda: labels.append([_label("x", "wrong")])):
            with pytest.raises(StorageError, match=r"labels\.parquet: is .*move it away"):
                act()
        assert path.read_bytes() == damaged

    def test_a_folder_that_cannot_be_written_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "state").write_text("not a folder")
        with pytest.raises(StorageError, match=r"labels\.lock: cannot be written"):
            Labels(str(tmp_path)).append([_label("a", "right")])

    def test_two_pages_of_one_process_lose_nothing(self, tmp_path: Path) -> None:
        def add(name: str) -> None:
            labels = Labels(str(tmp_path))
            for number in range(10):
                labels.append([_label(f"{name}-{number}", "right")])

        threads = [threading.Thread(target=add, args=[name]) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        _check_order(tmp_path, dict.fromkeys("abcd", 10))

    @pytest.mark.slow
    def test_in_a_store_nothing_is_lost_either(self, s3_bucket: str) -> None:
        def add(name: str) -> None:
            for number in range(4):
                Labels(f"{s3_bucket}/run").append([_label(f"{name}-{number}", "right")])

        threads = [threading.Thread(target=add, args=[name]) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        names = Labels(f"{s3_bucket}/run").read()["pair_id"].to_pylist()
        assert sorted(names) == sorted(f"{name}-{number}" for name in "ab" for number in range(4))
        assert [name for name in names if name[0] == "a"] == [f"a-{number}" for number in range(4)]


@pytest.mark.slow
class TestProcesses:
    def test_those_that_are_killed_have_lost_nothing_that_they_were_told(self, tmp_path: Path) -> None:
        told: dict[str, int] = {}
        for attempt in range(4):
            other, process = _adding(tmp_path, f"o{attempt}", 5), _adding(tmp_path, f"k{attempt}", 100_000)
            assert process.stdout and process.stdout.readline() == "0\n"
            time.sleep(0.013 * attempt)
            process.send_signal(signal.SIGKILL)
            told[f"k{attempt}"] = 1 + len(process.stdout.read().split())
            assert process.wait() == -signal.SIGKILL and other.wait(60) == 0
            told[f"o{attempt}"] = 5
        _check_order(tmp_path, told, more=1)
        Labels(str(tmp_path)).append([_label("last", "right")])  # which also sweeps what those who were killed left
        assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["labels.parquet"]

    def test_killed_at_any_step_the_file_is_the_old_or_the_new_one(self, tmp_path: Path) -> None:
        labels = Labels(str(tmp_path))
        labels.append([_label("first", "right")])
        seen, killed = [], 0
        for step in range(30):
            done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(step)])
            names = labels.read()["pair_id"].to_pylist()
            assert names[0] == "first" and set(names[1:]) <= {"killed"}
            seen.append(len(names))
            if done.returncode == 0:
                break
            assert done.returncode == -signal.SIGKILL
            killed += 1
        assert done.returncode == 0 and killed >= 5
        assert seen == sorted(seen) and seen[0] == 1  # a rename that was seen stays
        labels.append([_label("last", "right")])
        assert not list(tmp_path.glob(".writing*"))


def _check_order(root: Path, told: dict[str, int], more: int = 0) -> None:
    """Lines of each writer are all there in the order in which they were added, and up to so many more."""
    names = Labels(str(root)).read()["pair_id"].to_pylist()
    assert len(set(names)) == len(names)
    for writer, number in told.items():
        own = [int(name.partition("-")[2]) for name in names if name.startswith(f"{writer}-")]
        assert own == list(range(len(own))) and number <= len(own) <= number + more
