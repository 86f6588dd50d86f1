"""Joining lines into pairs: against a slow join in Python, with every line of every file accounted for."""

import gzip
import random
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seamlessalign.errors import InputError
from seamlessalign.pipelines.published.line_forms import MetadataLine, parse_line
from seamlessalign.pipelines.published.lines import PublishedPair
from seamlessalign.pipelines.published.pairing import Paired, pair_up, read_pairs
from tests.pipelines.published.made_metadata import make_metadata


def _line(number: int, side: str, address: str, score: str = "1.25") -> str:
    return f"CC-MAIN-2022-21:1\t\t{address} 100 20000\t\t12.5\t0\t0.0\t{score}\tenA-frA\t{side}\t{number}"


def _paired(files: list[list[str]], folder: Path) -> tuple[Paired, list[PublishedPair], list[tuple[str, int, str]]]:
    names = []
    for number, lines in enumerate(files):
        names.append(folder / f"{number}.tsv")
        names[-1].write_text("".join(f"{line}\n" for line in lines))
    done = pair_up([str(name) for name in names], str(folder / "pairs.parquet"), str(folder / "aside.parquet"))
    aside = pq.read_table(folder / "aside.parquet").to_pylist()
    listed = [(Path(row["file"]).stem, row["row"], row["reason"]) for row in aside]
    assert done.lines == 2 * done.pairs + sum(done.set_aside.values()) == sum(map(len, files))
    assert Counter(reason for *_, reason in listed) == done.set_aside
    return done, list(read_pairs(str(folder / "pairs.parquet"))), listed


def _content(line: MetadataLine) -> tuple[object, ...]:
    return (line.cc_warc, line.url, line.start_frame, line.end_frame, line.side)


def _slowly(files: list[list[str]]) -> tuple[list[PublishedPair], list[tuple[str, int, str]]]:
    """What pair_up should find, with dictionaries."""
    pairs, aside, seen = [], [], set()
    for number, lines in enumerate(files):
        sides: dict[int, dict[str, tuple[int, MetadataLine]]] = {}
        for row, text in enumerate(lines, 1):
            if text.count("\t") != 10:
                aside.append((str(number), row, "columns"))
                continue
            line = parse_line(text, "seamlessalign")
            if line.side in sides.setdefault(line.line_no, {}):
                aside.append((str(number), row, "doubled_line"))
            else:
                sides[line.line_no][line.side] = (row, line)
        for line_no, both in sorted(sides.items(), key=lambda item: min(row for row, _ in item[1].values())):
            rows = [row for row, _ in both.values()]
            if len(both) < 2:
                aside += [(str(number), row, "no_partner") for row in rows]
                continue
            src, tgt = both["enA"][1], both["frA"][1]
            if (_content(src), _content(tgt)) in seen:
                aside += [(str(number), row, "doubled_pair") for row in rows]
                continue
            seen.add((_content(src), _content(tgt)))
            pairs.append(PublishedPair("enA-frA", line_no, src, tgt))
    return pairs, sorted(aside)


class TestPairUp:
    def test_lines_anywhere_make_their_pairs(self, tmp_path: Path) -> None:
        lines = [_line(number, side, f"http://a/{side}{number}") for number in range(40) for side in ("enA", "frA")]
        random.Random(1).shuffle(lines)
        done, pairs, aside = _paired([lines], tmp_path)
        assert (done.pairs, aside) == (40, [])
        assert pairs == _slowly([lines])[0]
        assert all(pair.src.url == f"http://a/enA{pair.line_no}" for pair in pairs)
        assert all(pair.tgt.url == f"http://a/frA{pair.line_no}" for pair in pairs)

    def test_what_makes_no_pair_is_kept_with_its_reason(self, tmp_path: Path) -> None:
        first = [
            _line(1, "enA", "http://a/1"),
            "two\tcolumns",
            _line(1, "frA", "http://a/2"),
            _line(1, "enA", "http://a/3", "1.5"),
            _line(2, "enA", "http://a/4"),
        ]
        again = [_line(9, "frA", "http://a/2", "1.1"), _line(9, "enA", "http://a/1"), _line(1, "frA", "http://a/2")]
        done, pairs, aside = _paired([first, again], tmp_path)
        assert done == Paired(8, 1, {"columns": 1, "doubled_line": 1, "doubled_pair": 2, "no_partner": 2})
        assert [(pair.line_no, pair.src.url, pair.tgt.url) for pair in pairs] == [(1, "http://a/1", "http://a/2")]
        assert aside == [
            ("0", 2, "columns"), ("0", 4, "doubled_line"), ("0", 5, "no_partner"),
            ("1", 1, "doubled_pair"), ("1", 2, "doubled_pair"), ("1", 3, "no_partner"),
        ]  # fmt: skip

    def test_of_equal_pairs_the_earlier_in_the_file_counts(self, tmp_path: Path) -> None:
        lines = [_line(number, side, f"http://a/{side}") for number in (5, 2, 9) for side in ("enA", "frA")]
        _, pairs, aside = _paired([lines], tmp_path)
        assert [pair.line_no for pair in pairs] == [5]
        assert aside == [("0", row, "doubled_pair") for row in (3, 4, 5, 6)]

    @settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        drawn=st.lists(
            st.lists(
                st.tuples(st.integers(0, 4), st.sampled_from(["enA", "frA", "bad"]), st.integers(0, 2)), max_size=20
            ),
            min_size=1,
            max_size=3,
        )
    )
    def test_as_a_slow_join_finds_them(self, drawn: list[list[tuple[int, str, int]]], tmp_path: Path) -> None:
        files = [
            [
                _line(number, side, f"http://a/{which}") if side != "bad" else "bad\tline"
                for number, side, which in lines
            ]
            for lines in drawn
        ]
        files = [[_line(77, "enA", "http://a/first"), *lines] for lines in files]  # so that the form can be told
        done, pairs, aside = _paired(files, tmp_path)
        slow_pairs, slow_aside = _slowly(files)
        assert (pairs, aside) == (slow_pairs, slow_aside)
        assert done.pairs == len(slow_pairs)

    def test_the_same_bytes_again(self, tmp_path: Path) -> None:
        lines = [_line(number, side, f"http://a/{side}{number}") for number in range(400) for side in ("frA", "enA")]
        written = []
        for _ in range(2):
            _paired([lines], tmp_path)
            written.append([(tmp_path / name).read_bytes() for name in ("pairs.parquet", "aside.parquet")])
        assert written[0] == written[1]
        assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]  # nothing left behind

    def test_a_published_file(self, tmp_path: Path) -> None:
        made = make_metadata(tmp_path / "served", "http://127.0.0.1:9", pairs=300, recordings=2, seconds=4)
        done = pair_up([str(made.tsv)], str(tmp_path / "p"), str(tmp_path / "a"))
        assert (done.lines, done.pairs, done.set_aside) == (600, 300, {})
        with gzip.open(made.tsv, "rt") as file:
            first = [line.split("\t")[-1].strip() for line in file][::2]
        pairs = list(read_pairs(str(tmp_path / "p")))
        assert [str(pair.line_no) for pair in pairs] == first
        assert all(
            (pair.tgt.url, pair.tgt.start_frame, pair.tgt.end_frame) == made.spans[pair.line_no] for pair in pairs
        )
        assert {pair.tgt.duration for pair in pairs} == {4.0}

    def test_a_file_that_is_named_twice(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_text(_line(1, "enA", "http://a/1"))
        with pytest.raises(InputError, match="named twice"):
            pair_up([str(tmp_path / "x")] * 2, str(tmp_path / "p"), str(tmp_path / "a"))
