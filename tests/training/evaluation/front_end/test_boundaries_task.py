"""Boundaries from tables and runs to lines: by hand, over-segmented, in stretches, and what does not fit together."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.cli import main
from seamlessalign.training.evaluation.config import load_evaluation_config
from seamlessalign.training.evaluation.front_end.boundaries_task import Recording, measure_boundaries
from seamlessalign.training.evaluation.front_end.front_end_config import Boundaries, Spans
from seamlessalign.training.evaluation.scores import score_of
from tests.test_house import HOUSE

KNOWN: list[dict[str, Any]] = [  # seconds
    *({"uri": "data/a.wav", "start": a, "end": b, "lang": "fra"} for a, b in ((1, 3), (3, 5), (70, 72.5))),
    {"uri": "data/b.wav", "start": 2, "end": 4, "lang": "deu"},
    {"uri": "data/silent.wav", "start": None, "end": None, "lang": "deu"},
]
FOUND = [("a", 1.25, 3.1), ("a", 3.1, 4.7), ("a", 70.1, 72.4), ("a", 30, 31), ("silent", 8, 9), ("other", 1, 2)]
ALL = "boundaries.measures=[f1, precision, recall, r_value, span_recall, speech_f1]"


def _write(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    _write(tmp_path / "known.jsonl", KNOWN)
    found = [{"uri": f"/disk/data/{name}.wav", "start": a, "end": b} for name, a, b in FOUND]
    _write(tmp_path / "found.jsonl", found)
    told = {
        "output": str(tmp_path / "out"),
        "boundaries": {
            "truth": {"path": "known.jsonl", "unit": "seconds"},
            "systems": {"ours": {"path": "found.jsonl", "unit": "seconds"}},
        },
    }
    (tmp_path / "config.yaml").write_text(json.dumps(told))
    return tmp_path / "config.yaml"


def _told(config: Path) -> dict[str, dict[str, Any]]:
    scores = json.loads((config.parent / "out/evaluation.json").read_text())["scores"]
    return {f"{line['system']} {line['measure']}": line for line in scores}


def test_by_hand(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(config), ALL]) == 0
    told = _told(config)
    # known: a 1 3 5 70 72.5, b 2 4; found: a 1.25 3.1 4.7 30 31 70.1 72.4, silent 8 9; hits 1 3 70 72.5
    wanted = {
        "boundary F1": 100 * 2 * 4 / (7 + 9),
        "boundary precision": 100 * 4 / 9,
        "boundary recall": 100 * 4 / 7,
        "span recall": 100 * 2 / 4,  # 1–3 and 70–72.5
        # known 8.5 s; found 1.25–4.7 and 70.1–72.4, which are known, 30–31 and 8–9, which are not
        "speech F1": 100 * 2 * (3.45 + 2.3) / (8.5 + 3.45 + 2.3 + 2),
    }
    for name, value in wanted.items():
        line = told[f"ours {name}"]
        assert line["score"] == pytest.approx(value), name
        assert (line["task"], line["direction"], line["higher_is_better"]) == ("boundaries", "", True)
        assert (line["rows"], line["missing"]) == (4, 1)  # two stretches of a, b, silent; nothing is found in b
        assert "|unit:60s|version:1|" in line["signature"]
        assert ("tolerance:0.25s|merge:0.02s|" in line["signature"]) == (name != "speech F1")
    details = told["ours boundary F1"]["details"]
    assert details["tables"][0]["rows"] == [
        ["deu", 0, 2, 2, 0.0, 0.0, 0.0],
        ["fra", 4, 5, 7, pytest.approx(57.14), 80.0, pytest.approx(66.67)],
    ]
    assert details["mean_offset_ms"] == pytest.approx(1000 * (0.25 + 0.1 + 0.1 - 0.1) / 4, abs=0.1)
    counts = ("recordings", "recordings_without_spans", "recordings_not_asked")
    assert [details[name] for name in counts] == [3, 1, 1]
    speech = told["ours speech F1"]["details"]
    assert (speech["seconds_missed"], speech["seconds_of_false_alarm"]) == pytest.approx((2.75, 2.0))
    behind = [json.loads(line) for line in (config.parent / "out/behind.jsonl").read_text().splitlines()]
    missed = [(row["id"], row["seconds"], row["nearest"]) for row in behind if row["measure"] == "boundary F1"]
    assert missed == [("data/a.wav", 5, 4.7), ("data/b.wav", 2, None), ("data/b.wav", 4, None)]
    assert "ours: found spans in 1 recordings that nothing is known of" in "".join(capsys.readouterr())


def test_a_run_is_a_system_and_its_candidates_may_overlap(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = config.parent / "run/segments/lang=fra"
    folder.mkdir(parents=True)
    spans = [(1, 3), (1, 5), (3, 5), (3.01, 5), (70, 72.5)]
    columns = {"uri": ["/elsewhere/data/a.wav"] * 5, "embedding": [[0.5]] * 5}
    for name, place in (("start", 0), ("end", 1)):
        columns[name] = [int(16000 * span[place]) for span in spans]
    pq.write_table(pa.table(columns), folder / "part-0.parquet")
    more = "boundaries.systems.run={path: run}"
    assert main(["evaluate", str(config), more, "boundaries.systems.segments={path: run/segments}", ALL]) == 0
    told = _told(config)
    for name in ("run", "segments"):
        assert told[f"{name} boundary precision"]["score"] == 100  # 3 s and 3.01 s are one
        assert told[f"{name} boundary recall"]["score"] == pytest.approx(100 * 5 / 7)
        assert told[f"{name} span recall"]["score"] == 75
        assert told[f"{name} boundary recall"]["against_baseline"]["difference"] == pytest.approx(100 / 7)
    capsys.readouterr()
    out = f"{config.parent}/out"
    assert main(["evaluate", "--compare", f"{out}:ours", f"{out}:run"]) == 0
    compared = capsys.readouterr().out
    for name in ("boundary F1", "boundary R-value", "span recall", "speech F1"):
        assert f"| {name} | {told[f'ours {name}']['score']:.2f} | {told[f'run {name}']['score']:.2f} |" in compared


def test_a_run_may_have_found_nothing(config: Path) -> None:
    (config.parent / "run").mkdir()
    (config.parent / "run/run.yaml").write_text("digest: 0\n")
    assert main(["evaluate", str(config), "boundaries.systems.ours.path=run"]) == 0
    line = _told(config)["ours boundary F1"]
    assert (line["score"], line["rows"], line["missing"]) == (0, 4, 4)


@pytest.mark.parametrize(
    "names", [["a.wav", "b.wav"], ["a", "b"], ["data/a.wav", "data/b.wav"], ["/x/y/data/a.wav", "data/b"]]
)
def test_recordings_are_the_same_by_the_ends_of_their_paths(config: Path, names: list[str]) -> None:
    _write(config.parent / "found.jsonl", [{"uri": name, "start": 2, "end": 4} for name in names])
    assert main(["evaluate", str(config)]) == 0
    assert _told(config)["ours boundary recall"]["details"]["recordings_without_spans"] == 1


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"uri": "a.wav", "start": 3, "end": 3}], "row 0: 3 to 3 is no span"),
        ([{"uri": "a.wav", "start": -1, "end": 3}], "-1 to 3 is no span"),
        ([{"uri": "a.wav", "start": "x", "end": 3}], "'x' to 3 is no span"),
        ([{"uri": "a.wav", "start": 1, "end": None}], "1 to None is no span"),
        ([{"uri": "", "start": 1, "end": 2}], "has no uri: every span needs one"),
        ([{"file": "a.wav", "start": 1, "end": 2}], "has no uri, but file, start, end: name it under columns"),
        ([{"uri": "c.wav", "start": 1, "end": 2}], "has none of the recordings that are known: c.wav, and not data/a"),
        ([{"uri": f"{x}/a.wav", "start": 1, "end": 2} for x in ("data", "x/data")], "are both data/a.wav"),
        ([], "has no rows"),
    ],
)
def test_mistakes_are_one_line(
    config: Path, capsys: pytest.CaptureFixture[str], rows: list[dict[str, Any]], told: str
) -> None:
    _write(config.parent / "found.jsonl", rows)
    assert main(["evaluate", str(config)]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


def test_mistakes_in_what_is_known(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = [{"uri": f"{folder}/a.wav", "start": 1, "end": 2} for folder in ("x", "y")]
    _write(config.parent / "known.jsonl", known)
    _write(config.parent / "found.jsonl", [{"uri": "a.wav", "start": 1, "end": 2}])
    assert main(["evaluate", str(config)]) == 2
    assert "a.wav may be x/a.wav, y/a.wav: give more of its path" in capsys.readouterr().err
    _write(config.parent / "known.jsonl", [{**known[0], "lang": "fra"}, {**known[0], "lang": "deu"}])
    assert main(["evaluate", str(config)]) == 2
    assert "x/a.wav is deu here, and fra before" in capsys.readouterr().err
    _write(config.parent / "known.jsonl", [{"uri": "a.wav", "start": 1.5, "end": 2}])
    assert main(["evaluate", str(config), "boundaries.truth.unit=samples"]) == 2
    assert "1.5 to 2 are no whole samples: set unit: seconds" in capsys.readouterr().err


SPANS = st.lists(
    st.tuples(st.floats(0, 150), st.floats(0.5, 20)).map(lambda one: (one[0], one[0] + one[1])), max_size=6
)


@given(st.lists(st.tuples(SPANS, SPANS), min_size=1, max_size=4), st.sampled_from([7.0, 60.0]), st.randoms())
@settings(max_examples=50, deadline=None)
def test_stretches_and_order_change_nothing(
    pairs: list[tuple[list[tuple[float, float]], list[tuple[float, float]]]], stretch: float, random: Any
) -> None:
    recordings = [Recording(f"r{i}", "", known, found) for i, (known, found) in enumerate(pairs)]
    spans = Spans(path="")
    measures = ["f1", "precision", "recall", "r_value", "span_recall", "speech_f1"]
    section = Boundaries.model_validate(
        {"truth": spans, "systems": {"a": spans}, "measures": measures, "stretch_seconds": stretch}
    )
    some = list(measure_boundaries(section, recordings))
    random.shuffle(recordings)
    shuffled = [Recording(one.name, "", random.sample(one.known, len(one.known)), one.found) for one in recordings]
    others = list(measure_boundaries(section.model_copy(update={"stretch_seconds": 1e6}), shuffled))
    for one, other in zip(some, others, strict=True):
        sums = one.statistics.sum(0)
        np.testing.assert_allclose(sums, other.statistics.sum(0), atol=1e-6)
        assert sums[0] <= min(sums[1], sums[2] if one.kind != "boundary_span_recall" else sums[1]) + 1e-6
        assert (one.statistics >= -1e-9).all() and len(set(one.ids)) == len(one.ids) == len(one.statistics)
        assert one.score(sums) == pytest.approx(score_of(one.kind)(sums), nan_ok=True)


def test_a_hit_counts_once_where_it_is_known(config: Path) -> None:
    """At the edge of a stretch, and where a tolerance is met but for rounding."""
    _write(
        config.parent / "known.jsonl", [{"uri": "a", "start": 0.29, "end": 59.9}, {"uri": "a", "start": 70, "end": 80}]
    )
    _write(config.parent / "found.jsonl", [{"uri": "a", "start": 0.54, "end": 60.1}])
    assert main(["evaluate", str(config)]) == 0
    rows = pq.read_table(config.parent / "out/statistics.parquet").to_pylist()
    counts = {row["id"]: row["statistics"] for row in rows if row["measure"] == "boundary F1"}
    assert counts == {"a at 0 s": [2, 2, 2], "a at 60 s": [0, 2, 0]}


def test_many_recordings_are_drawn_whole(config: Path) -> None:
    rows = [{"uri": f"{i}.wav", "start": 10 * i, "end": 10 * i + 5} for i in range(20)]
    _write(config.parent / "known.jsonl", rows)
    _write(config.parent / "found.jsonl", rows[:-1])
    assert main(["evaluate", str(config)]) == 0
    line = _told(config)["ours boundary recall"]
    assert (line["rows"], line["missing"], line["score"]) == (20, 1, 95.0) and "|unit:recording|" in line["signature"]


def test_the_configuration_of_the_page_loads(tmp_path: Path) -> None:
    page = (HOUSE / "docs/front_end_evaluation.md").read_text(encoding="utf-8")
    (tmp_path / "config.yaml").write_text(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0])
    config = load_evaluation_config(str(tmp_path / "config.yaml"))
    assert config.tasks() == ["lid", "boundaries"]
    assert config.lid is not None and config.lid.systems["ecapa"].path == str(tmp_path / "ecapa.jsonl")
    assert config.boundaries is not None and config.boundaries.truth.path == str(tmp_path / "truth.parquet")
