"""Marks: what a file was made from, and what is no mark at all."""

import json
from pathlib import Path

import pytest

from seamlessalign.errors import StorageError
from seamlessalign.mining import marked


def test_marks_say_what_a_file_was_made_from(tmp_path: Path) -> None:
    path = str(tmp_path / "x.faiss")
    marked.write(path, {"a": 1, "b": 2}, b"data")
    assert marked.check(path, {"b": 2, "a": 1}).size == 4
    with pytest.raises(StorageError, match="was made from other rows"):
        marked.check(path, {"a": 1, "b": 3})
    (tmp_path / "x.json").write_text(json.dumps([1]), encoding="utf-8")
    with pytest.raises(StorageError, match=r"x\.json: is not a readable mark"):
        marked.check(path, {"a": 1, "b": 2})


def test_done_means_there_whole_and_made_from_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x.faiss"
    assert not marked.is_done(str(path), {"a": 1}) and not caplog.text
    marked.write(str(path), {"a": 1}, b"data")
    assert marked.is_done(str(path), {"a": 1}) and not caplog.text
    path.write_bytes(b"date")
    assert not marked.is_done(str(path), {"a": 1})
    assert "x.faiss: is damaged: its bytes are not those that were written; it is made again" in caplog.text
