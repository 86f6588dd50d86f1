"""Rows as a table that is read again: nothing of a row is lost on the way."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import soundfile

from seamlessalign.speech_sources import Sound, load_sound
from seamlessalign.training.evaluation.rows import TestRow, read_test_rows
from seamlessalign.training.evaluation.rows_table import write_rows

SOUNDS = ("src_sound", "reference_sound")


def _rows(folder: Path) -> list[TestRow]:
    """One with all that a row may have, one with what it must."""
    for i in range(2):
        soundfile.write(folder / f"{i}.wav", np.sin(np.arange(4000 + i)) / 2, 16000)
    full = TestRow(
        "a",
        "fra",
        "eng",
        ("one", "NA"),
        "un",
        Sound(str(folder / "0.wav")),
        Sound(str(folder / "1.wav")),
        group="g",
        speaker="s",
        gender="feminine",
        references_by_gender={"masculine": "he", "feminine": "she"},
    )
    assert all(getattr(full, field.name) for field in fields(full))
    return [full, TestRow("b", "deu", "fra", ("null",))]


@pytest.mark.parametrize("name", ["rows.parquet", "rows.jsonl"])
def test_rows_are_read_again_as_they_were(tmp_path: Path, name: str) -> None:
    rows = _rows(tmp_path)
    assert not write_rows(rows, str(tmp_path / name))
    again = read_test_rows(str(tmp_path / name))
    for one, other in zip(rows, again, strict=True):
        for field in fields(TestRow):
            mine, found = getattr(one, field.name), getattr(other, field.name)
            if field.name in SOUNDS and mine is not None:
                assert np.array_equal(load_sound(mine, "", ""), load_sound(found, "", ""))
            else:
                assert mine == found
