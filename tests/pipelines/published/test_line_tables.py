"""Lines as tables: the same as one by one, whatever is in them."""

import gzip
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seamlessalign.pipelines.published.line_forms import Form, MetadataLine, sides_of
from seamlessalign.pipelines.published.line_tables import line_tables
from seamlessalign.pipelines.published.lines import BadLine, read_lines
from tests.pipelines.published.made_metadata import make_metadata

Read = tuple[dict[int, tuple[bool, MetadataLine]], list[tuple[int, BadLine]]]
_NUMBERS = ["", "0", "1.25", "0.99567", "7", "-", "NULL", "1,5", "1e3", "1.", "-2", "+3", " 4", "nan", "1" * 40, "0.0"]
_INTEGERS = ["", "0", "17", "007", "-", "18446744073709551615", "18446744073709551616", "99999999999999999999", "4.0"]
_ADDRESSES = ["http://a/b.mp3", " http://a/b ", "http://a/b c.mp3", "x\u00a0", "é.mp3", "", "-", "a|b", "1 2"]
_FRAMES = ["1 20", "20 1", "0 9007199254740991", "0 9007199254740993", "1 1", " 3 4", "5", "1.0 2.0", "٣ 4", "1  2"]
_SIDES = ["eng", "frA", "fra", "rnA", "qqq", ""]
_DIRECTIONS = ["eng-frA", "frA-eng", "enA-frA", "eng-fra", "eng-qqqA", "eng", "a-b-c"]


def _one_by_one(uri: str, form: Form) -> Read:
    good, bad = {}, []
    for row, line in read_lines(uri, form):
        if isinstance(line, BadLine):
            bad.append((row, line))
        else:
            good[row] = (line.side == sides_of(line.direction)[0], line)
    return good, bad


def _as_tables(uri: str, form: Form) -> Read:
    good: dict[int, tuple[bool, MetadataLine]] = {}
    bad = []
    for table, wrong in line_tables(uri, form):
        bad += wrong
        for row in table.to_pylist():
            line = MetadataLine(**{field.name: row[field.name] for field in fields(MetadataLine)})
            assert row["row"] not in good
            good[row["row"]] = (row["is_src"], line)
    return good, bad


def _plain_or(strange: list[str], plain: str) -> st.SearchStrategy[str]:
    return st.one_of(st.just(plain), st.just(plain), st.just(plain), st.sampled_from(strange))


@st.composite
def _text_lines(draw: Any) -> list[str]:
    speech = draw(st.booleans())
    place = draw(_plain_or(_ADDRESSES, "https://a.example/x"))
    if speech:
        place += " " + draw(_plain_or(_FRAMES, "160 32000"))
    return [
        draw(_plain_or(["", "\ufeffx", "a b"], "CC-MAIN-2022-21:7")),
        draw(_plain_or(["-", "sha1:A"], "")),
        place,
        draw(_plain_or(_INTEGERS, "12")),
        draw(_plain_or([*_NUMBERS, *_INTEGERS], "10825353432255915926")),
        draw(_plain_or(_INTEGERS, "10105196188100455272")),
        draw(_plain_or(_NUMBERS, "0.5")),
        draw(_plain_or(_NUMBERS, "1.1922385")),
        draw(_plain_or(_DIRECTIONS, "eng-frA")),
        draw(_plain_or(_SIDES, "frA" if speech else "eng")),
        draw(_plain_or(_INTEGERS, "5")),
    ]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(_text_lines(), min_size=1, max_size=12), end=st.sampled_from(["", "\n", "\r\n"]), broken=st.booleans()
)
@pytest.mark.parametrize("form", ["seamlessalign", "nllb"])
def test_as_one_by_one(rows: list[list[str]], end: str, broken: bool, form: Form, tmp_path: Path) -> None:
    by = "\t" if form == "seamlessalign" else " "
    data = "".join(by.join(row) + (end or "\n") for row in rows).encode()
    if broken:
        data += b"\xff\tnot UTF-8\n" + data
    (tmp_path / "lines").write_bytes(data if end else data.rstrip())
    assert _as_tables(str(tmp_path / "lines"), form) == _one_by_one(str(tmp_path / "lines"), form)


def test_of_a_published_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_metadata(tmp_path / "served", "http://a.example", pairs=200, recordings=1, seconds=4, formats=["wav"])
    with gzip.open(made.tsv, "at") as file:
        file.write("\nno\tline\n")
    monkeypatch.setattr("seamlessalign.pipelines.published.line_tables._AT_ONCE", 57)  # several tables
    good, bad = _as_tables(str(made.tsv), "seamlessalign")
    assert (good, bad) == _one_by_one(str(made.tsv), "seamlessalign")
    assert (len(good), [line.reason for _, line in bad]) == (400, ["blank_line", "columns"])


def test_of_the_expressive_form(tmp_path: Path) -> None:
    rest = "CC-MAIN-2022-05:77 1800.25 https://c/x y.mp3 16 20 1.31"
    lines = [f"deA-enA {side} {number} {rest}" for number in range(3) for side in ("deA", "enA")]
    (tmp_path / "lines").write_text("\n".join(lines))
    good, bad = _as_tables(str(tmp_path / "lines"), "expressive")
    assert (good, bad) == _one_by_one(str(tmp_path / "lines"), "expressive")
    assert [is_src for _, (is_src, _) in sorted(good.items())] == [True, False] * 3
