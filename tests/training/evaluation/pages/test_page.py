"""The page of an evaluation: every number in its place, nothing hostile, the same bytes for the same files."""

import hashlib
import json
import re
from base64 import b64encode
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.cli import main
from seamlessalign.errors import InputError, SeamlessAlignError
from seamlessalign.training.evaluation.details import Bin, Curve, Table, details
from seamlessalign.training.evaluation.pages.averages import MeasureScores, averages, measures_of
from seamlessalign.training.evaluation.pages.page import build_page, page_of, sections_of
from seamlessalign.training.evaluation.pages.page_examples import choose_examples
from seamlessalign.training.evaluation.pages.page_parts import group_of, names_of
from seamlessalign.training.evaluation.written import Written, WrittenScore, read_written
from tests.ground.page import Page
from tests.training.evaluation.pages.made_evaluation import against, large, score, write, write_rows

HOSTILE = '</script><script>window.stolen=1</script><img src=x onerror="window.stolen=1">\'\u202e\u0000\ud83d'
VOID = {"meta", "link", "input", "br"}


class Nesting(HTMLParser):
    """Raises where an element is closed that is not the one last opened, and where an id is there twice."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.feed(source)
        assert self.open == []
        assert self.links <= self.ids

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        assert len(values) == len(attributes), (name, attributes)
        if name not in VOID:
            self.open.append(name)
        if (key := values.get("id")) is not None:
            assert key not in self.ids
            self.ids.add(key)
        if (link := values.get("href")) and link.startswith("#"):
            self.links.add(link[1:])

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name


def _page(folder: str) -> tuple[str, Page]:
    source = Path(build_page(folder)).read_text("utf-8")
    Nesting(source)
    return source, Page(source)


def _three_directions(**others: Any) -> list[dict[str, Any]]:
    """Two systems, of which `b` is better in one direction and worse in another."""
    scores = []
    for direction, first, second, p_value in (
        ("fra-eng", 20.0, 26.0, 0.002),
        ("deu-eng", 30.0, 29.5, 0.6),
        ("eng-cmn", 44.0, 40.0, 0.01),
    ):
        scores.append(score("a", direction, "chrF2++", first, **others))
        compared = against(second - first, p_value)
        scores.append(score("b", direction, "chrF2++", second, against_baseline=compared, **others))
    return scores


def test_every_number_is_in_its_cell(tmp_path: Path) -> None:
    scores = _three_directions()
    scores[1] |= {"missing": 7}
    _, page = _page(write(tmp_path, scores))
    assert page.row("fra-engFrench → English") == [
        "fra-engFrench → English", "100", "20.0018.75 to 21.50",
        "26.00 ★24.75 to 27.50+6.00 better (+5.50 to +6.75), p 0.0027 without output",
    ]  # fmt: skip
    assert page.row("deu-engGerman → English")[2:] == [
        "30.00 ★28.75 to 31.50", "29.5028.25 to 31.00−0.50 (−1.00 to +0.25), p 0.600",
    ]  # fmt: skip
    assert page.row("eng-cmnEnglish → Mandarin Chinese")[2:] == [
        "44.00 ★42.75 to 45.50", "40.0038.75 to 41.50−4.00 worse (−4.50 to −3.25), p 0.010",
    ]  # fmt: skip
    assert page.row("all directions", "3")[2:] == ["31.33", "31.83 ★+0.50better in 1, worse in 1"]
    assert page.row("X → eng", "2")[2:] == ["25.00", "27.75 ★+2.75better in 1, worse in 0"]
    assert page.row("chrF2++mean of 3 directions")[1:] == ["31.33", "31.83 ★+0.50better in 1, worse in 1"]
    assert "of twenty in which there is nothing but chance" in page.text
    assert page.numbers["rows"] == "100" and page.numbers["directions"] == "3"


def test_no_number_is_lost_among_many(tmp_path: Path) -> None:
    folder = large(tmp_path, directions=50, measures=3, systems=4)
    source, page = _page(folder)
    scores = json.loads((tmp_path / "evaluation.json").read_text())["scores"]
    shown = re.findall(r'<data value="([^"]*)">', source.split('id="measure-')[0])
    assert len(shown) == 3 * 4  # means
    tables = [float(value) for value in re.findall(r'<data value="([^"]*)">', source)]
    assert not {round(one["score"], 6) for one in scores} - {round(value, 6) for value in tables}
    for one in scores[:40]:
        row = [cells for cells in page.cells if cells[0].startswith(one["direction"]) and len(cells) == 6]
        told = f"{one['low']:.2f} to {one['high']:.2f}".replace("-", "−")
        assert sum(told in cell for cells in row for cell in cells) >= 1
    assert source.count('class="mark series-0"') == 3 * 2  # one for all columns of a picture, and one in its legend


def test_measures_with_like_names_have_sections_of_their_own(tmp_path: Path) -> None:
    names = ("F1", "F1+", "F1-", "F1 ", "F_1", "f1")
    source, _ = _page(write(tmp_path, [score("a", "fra-eng", name, 1.0) for name in names]))
    assert source.count('id="measure-') == len(names)


def test_nothing_measured_is_a_page_too(tmp_path: Path) -> None:
    _, page = _page(write(tmp_path, [], systems={"a": {"missing": ["r1"], "not_asked": 0}}))
    assert "a has no output for 1 row" in page.text


def test_a_difference_whose_interval_has_nothing_in_it_is_no_difference(tmp_path: Path) -> None:
    """p of the paired bootstrap alone would call it one."""
    scores = _three_directions()
    scores[1]["against_baseline"]["low"] = -0.01
    _, page = _page(write(tmp_path, scores))
    assert page.row("fra-engFrench → English")[3] == "26.00 ★24.75 to 27.50+6.00 (−0.01 to +6.75), p 0.002"
    assert page.row("all directions", "3")[3].endswith("better in 0, worse in 1")


def test_lower_is_better_of_error_rates(tmp_path: Path) -> None:
    _, page = _page(write(tmp_path, _three_directions(higher_is_better=False, kind="wer")))
    cells = page.row("fra-engFrench → English")
    assert cells[2].startswith("20.00 ★") and "+6.00 worse" in cells[3]
    assert page.row("all directions", "3")[2].startswith("31.33 ★")


@pytest.mark.parametrize(
    ("direction", "names", "group"),
    [
        ("fra-eng", "French → English", "X → eng"),
        ("frA-eng", "French speech → English", "X → eng"),
        ("eng-frA", "English → French speech", "eng → X"),
        ("fra-deu", "French → German", "others"),
        ("enA-eng", "English speech → English", "others"),
        ("spa", "Spanish", "others"),
        ("all", "", "others"),
        ("fra-xyz", "", "others"),
        ("", "", "others"),
    ],
)
def test_directions_have_names_and_groups(direction: str, names: str, group: str) -> None:
    assert (names_of(direction), group_of(direction)) == (names, group)


def test_what_leans_to_no_side_is_best(tmp_path: Path) -> None:
    """A system that leans to the other side as much is not better, though its score is lower."""
    scores = _three_directions(higher_is_better=False, kind="asr_gender")
    for number, value in enumerate((-5.0, 1.0, 2.0, -4.0, 3.0, 3.0)):
        scores[number]["score"] = value
    _, page = _page(write(tmp_path, scores))
    assert "0 is best. Others are compared with a." in page.text
    cells = page.row("fra-engFrench → English")
    assert cells[2].startswith("−5.000") and cells[3].startswith("1.000 ★") and "+6.000 differs (" in cells[3]
    assert page.row("deu-engGerman → English")[2].startswith("2.000 ★")
    assert page.row("all directions", "3")[2:] == ["0.000", "0.0000.000differs in 2"]


def test_means_are_of_what_all_systems_have(tmp_path: Path) -> None:
    scores = _three_directions()
    scores[4]["signature"] = scores[5]["signature"] = "a:1|b:3"  # eng-cmn, which has settings of its own
    scores += [score("a", "spa-eng", "chrF2++", 50.0)]  # which b has not
    for direction in ("por-eng", "ron-eng"):
        scores += [score(name, direction, "chrF2++", 60.0, signature=f"by:{name}") for name in "ab"]
    scores += [score("a", "ita-eng", "chrF2++", None), score("b", "ita-eng", "chrF2++", 3.0)]
    (measure,) = measures_of(read_written(write(tmp_path, scores)))
    (whole, into) = averages(measure)
    assert list(whole.directions) == ["deu-eng", "eng-cmn", "fra-eng"] and list(whole.settings) == ["b:2", "b:3"]
    assert whole.means == pytest.approx({"a": 94 / 3, "b": 95.5 / 3})
    assert list(whole.left_out) == ["ita-eng", "por-eng", "ron-eng", "spa-eng"]
    assert whole.verdicts == {"a": {"better": 0, "worse": 0}, "b": {"better": 1, "worse": 1}}
    assert list(into.directions) == ["deu-eng", "fra-eng"] and not into.settings
    assert into.means == {"a": 25.0, "b": 27.75}
    _, page = _page(str(tmp_path))
    assert page.row("X → eng", "2")[2:] == ["25.00", "27.75 ★+2.75better in 1, worse in 0"]
    assert page.row("all directionsby language b:2 or b:3", "3")[2:] == ["31.33", "31.83 ★+0.50better in 1, worse in 1"]
    assert page.row("spa-engSpanish → English")[3] == "not measured"
    assert page.row("ita-engItalian → English")[2] == "–"
    assert (
        "In no mean, for a system without a score or with other settings: ita-eng, por-eng, ron-eng, spa-eng"
        in page.text
    )


def test_what_is_missing_is_told_before_any_score(tmp_path: Path) -> None:
    scores = _three_directions(details={"failed": {"asr_failed": 2}})
    scores += _three_directions(details={"failed": {"asr_failed": 2, "no_sound": 1}})  # of the same sounds
    for one in scores[6:]:
        one["measure"] = "ASR-BLEU"
    scores[0]["score"] = None
    systems = {
        "a": {"missing": [f"row {i}" for i in range(7)], "not_asked": 0},
        "b": {"missing": [], "not_asked": 1},
    }
    source, page = _page(write(tmp_path, scores, systems=systems))
    assert "a has no output for 7 rows, which are scored as empty: row 0, row 1, row 2, row 3, row 4 …" in page.text
    assert "b has 1 output whose id the test set has not." in page.text
    assert "b was not heard for some rows, which are scored as empty: asr failed 6, no sound 3" in page.text
    assert "1 score has no value: chrF2++ of a, fra-eng" in page.text
    assert source.index('class="warning"') < source.index("<table")
    assert page.row("fra-eng", "a", "2", "1")  # counts


def test_what_was_run_is_told_with_its_settings(tmp_path: Path) -> None:
    noisy = {"missing": ["r1"], "not_asked": 0, "set_aside": {"too_long": 3}}
    systems = {"a": {"missing": [], "not_asked": 0, "settings": {"beam": 5}, "noisy": {"noise:10": noisy}}}
    told = {"data set": {"dataset": "fleurs"}, "unreadable noise": {"hum.wav": "truncated"}}
    _, page = _page(write(tmp_path, _three_directions(), systems=systems, **told))
    assert "a, noise:10 has no output for 1 row, which is scored as empty: r1" in page.text
    assert "a, noise:10 could not translate some rows, which are scored as empty: too long 3" in page.text
    assert "1 recording of noise cannot be read, and had no part: hum.wav" in page.text
    assert 'a: {"beam": 5}' in page.text and 'data set: {"dataset": "fleurs"}' in page.text


def test_nothing_hostile_comes_in(tmp_path: Path) -> None:
    scores = [
        score(HOSTILE, HOSTILE, HOSTILE, 12.0, task=HOSTILE, condition=HOSTILE, signature=HOSTILE, kind=HOSTILE),
        score(HOSTILE, "fra-eng", "chrF2++", 12.0, details={HOSTILE: HOSTILE, "failed": {HOSTILE: 1}}),
        score("b", "fra-eng", "chrF2++", 12.0, details=details(
            curves=[Curve(HOSTILE, HOSTILE, HOSTILE, [1, 2], [3, 4], title=HOSTILE)],
            tables=[Table(HOSTILE, [HOSTILE], [[HOSTILE]])],
        )),
    ]  # fmt: skip
    folder = write(tmp_path, scores, systems={HOSTILE: {"missing": [HOSTILE], "not_asked": 2}})
    text = HOSTILE.replace("\ud83d", "") + "w" * 3000
    write_rows(tmp_path, [("b", "chrF2++", text, 1.0, text), ("c", "chrF2++", text, 2.0, None)], src_text=text)
    lines: list[dict[str, Any]] = [
        {"task": "t", "system": HOSTILE, "direction": "fra-eng", "measure": HOSTILE, "id": "1", "what": HOSTILE}
    ]
    lines.append({**lines[0], "more": [HOSTILE], HOSTILE: 1.5})
    (tmp_path / "behind.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    source, page = _page(folder)
    assert page.elements["script"] == 1 and page.elements["img"] == 0
    assert not any(name.startswith("on") for name in page.attributes)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\ud800-\udfff]", source)
    assert f"({len(text):,} characters)" in page.text and "w" * 1000 not in page.text
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', source)
    script = re.search(r"<script>(.*?)</script>", source, re.DOTALL)
    assert policy and script
    hashed = b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{hashed}'" in policy[1] and "default-src 'none'" in policy[1]
    assert "http" not in source.replace("http-equiv", "")


texts = st.text(max_size=20)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(texts, texts, texts, texts, st.none() | st.floats(-1e9, 1e9)), min_size=1, max_size=6))
def test_any_names_and_numbers_are_a_page(rows: list[tuple[str, str, str, str, float | None]]) -> None:
    written = [
        WrittenScore(
            "t", system, direction, condition, "k", measure, value, None, value, 1, 0, True, system + "|" + measure
        )
        for system, direction, condition, measure, value in rows
    ]
    names = [system for system, *_ in rows]
    evaluation = Written("", 1, None, {"t": names[0]}, dict.fromkeys(names, names), dict.fromkeys(names, 1), written)
    source = page_of("title", sections_of(evaluation, "title", [])).decode("utf-8")
    Nesting(source)
    assert Page(source).elements["script"] == 1


@given(st.permutations(range(12)))
def test_means_do_not_depend_on_the_order_of_scores(order: list[int]) -> None:
    written = [
        WrittenScore("t", system, direction, "", "k", "m", value, None, None, 1, 0, True, "s")
        for value, direction in enumerate(("fra-eng", "deu-eng", "eng-fra", "eng-deu", "spa-eng", "eng-spa"))
        for system in "ab"
    ]
    both = [averages(MeasureScores("t", "m", "a", some)) for some in (written, [written[number] for number in order])]
    assert [(one.group, one.means, list(one.directions)) for one in both[0]] == [
        (one.group, one.means, list(one.directions)) for one in both[1]
    ]
    assert both[0][0].means == {"a": 2.5, "b": 2.5}


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    folder = write(tmp_path, _three_directions())
    first = Path(build_page(folder)).read_bytes()
    assert main(["evaluate", "--page", folder]) == 0
    assert Path(folder, "evaluation.html").read_bytes() == first


def test_rows_are_shown_where_systems_differ_and_where_all_fail(tmp_path: Path) -> None:
    kinds = {"BLEU": "bleu", "chrF2++": "chrf++", "WER": "wer"}  # chrF++ tells most of one row
    scores = [score(name, "fra-eng", measure, 30.0, kind=kind) for measure, kind in kinds.items() for name in "ab"]
    folder = write(tmp_path, scores)
    found = {"r1": (90.0, 10.0), "r2": (50.0, 51.0), "r3": (2.0, 1.0), "r4": (60.0, 60.0), "r5": (None, 7.0)}
    rows = [
        (name, "chrF2++", key, values[place], None if key == "r3" else f"reference by {name}")
        for key, values in found.items()
        for place, name in enumerate("ab")
    ]
    write_rows(tmp_path, rows)
    examples = choose_examples(read_written(folder).scores, {folder: {"a": "a", "b": "b"}})
    assert [(one.id, one.why) for one in examples] == [
        ("r1", "systems differ most"), ("r2", "systems differ most"), ("r3", "systems differ most"),
        ("r5", "worst on average"), ("r4", "worst on average"),
    ]  # fmt: skip
    source, page = _page(folder)
    assert page.row("a", "90.00")[2] == "reference by a"
    assert '<bdi lang="en">reference <ins>by a</ins></bdi>' in source
    assert "source of r1" in page.text
    assert page.row("b", "1.00")[2] == "no output"


def test_details_become_pictures_and_tables(tmp_path: Path) -> None:
    told = details(
        curves=[
            Curve("precision", "threshold", "share", [1.0, 1.5, 2.0], [0.5, float("nan"), 1.0], chosen=1.5),
            Curve("recall", "threshold", "share", [1.0, 1.5, 2.0], [1.0, 0.75, 0.5]),
        ],
        bins=[Bin(0.0, 0.5, 40, 0.25, 0.9), Bin(0.5, 1.0, 0, 0.0, 0.0)],
        tables=[Table("By kind", ["kind", "errors"], [["numbers", 3], ["names", None]])],
        hours_recovered=1.25,
        encoder={"fra": "text:e5-1571fc98"},
    )
    scores = [score(name, "fra-eng", "F1", 0.5, details=told) for name in ("x", "y")]
    source, page = _page(write(tmp_path, scores))
    assert source.count('aria-label="share over threshold, fra-eng"') == 1  # both systems in one
    assert "solid: precision; dashed: recall" in page.text
    assert "Chosen threshold (upright lines): x 1.5; y 1.5" in page.text
    assert source.count("Reliability of x, fra-eng") >= 1
    assert "40 rows estimated at 0 to 0.5, 0.250 on average: 0.900 right (0.769 to 0.960)" in page.text  # Wilson
    assert page.row("fra-eng", "y", "numbers") == ["fra-eng", "y", "numbers", "3"]
    assert page.row("fra-eng", "x", "names")[3] == "–"
    assert page.row("fra-eng", "x", "1.25") == ["fra-eng", "x", "1.25"]
    assert page.row("x", "encoder: fra")[2] == "text:e5-1571fc98"


def test_a_condition_that_is_a_number_is_an_axis(tmp_path: Path) -> None:
    scores = [
        score(name, direction, "BLEU", 10.0 + snr, condition=f"noise:{snr}" if snr else "")
        for direction in ("fra-eng", "deu-eng")
        for name in ("x", "y")
        for snr in (0, 10, -5)
    ]
    source, page = _page(write(tmp_path, scores))
    for what in ("mean over directions", "fra-eng", "deu-eng"):
        assert source.count(f'aria-label="BLEU over noise, {what}"') == 1
    assert page.row("fra-engFrench → English", "noise:-5")[3].startswith("5.00")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda told: told.pop("scores"), "is not what"),
        (lambda told: told["scores"][0].pop("signature"), "is not what"),
        (lambda told: told["scores"][0].update(score="many"), "is not what"),
        (lambda told: told["scores"][0].update(details={"curves": [{"x": [1], "y": []}]}), "not in their form"),
        (lambda told: told["scores"][0].update(details={"tables": [{"title": "a"}]}), "not in their form"),
    ],
)
def test_damage_is_one_line(tmp_path: Path, spoil: Any, told: str) -> None:
    folder = write(tmp_path, _three_directions())
    file = tmp_path / "evaluation.json"
    content = json.loads(file.read_text())
    spoil(content)
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=told) as caught:
        build_page(folder)
    assert "\n" not in str(caught.value)


def test_damaged_tables_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path, [score(name, "fra-eng", "chrF2++", 30.0) for name in "ab"])
    write_rows(tmp_path, [("a", "chrF2++", "1", 2.0, "text"), ("b", "chrF2++", "1", 1.0, "text")])
    whole = {name: (tmp_path / name).read_bytes() for name in ("statistics.parquet", "translations.parquet")}
    for name, content in whole.items():
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(SeamlessAlignError, match=name):
            build_page(folder)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "behind.jsonl").write_text('{"task": "t"')
    assert main(["evaluate", "--page", folder]) == 2
    assert "behind.jsonl" in capsys.readouterr().err
