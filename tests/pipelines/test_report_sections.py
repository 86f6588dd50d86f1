"""What a report says of lengths, languages, cost, configuration and what to do next, against plain sums."""

import json
import re
import shlex
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from seamlessalign import storage
from seamlessalign.cli import main, parsed_arguments
from seamlessalign.errors import InputError
from seamlessalign.pipelines import report_languages
from seamlessalign.pipelines.curation.labels import Drawn, Label, Labels
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.known_languages import (
    TOLD,
    TOLD_TABLE,
    Confusion,
    read_confusion,
    read_language_list,
    write_known_languages,
)
from seamlessalign.pipelines.ledger import Mark, write_mark
from seamlessalign.pipelines.report import build_report
from seamlessalign.pipelines.report_config import config_section
from seamlessalign.pipelines.report_counts import FineCounts
from seamlessalign.pipelines.report_languages import confusion_section
from seamlessalign.pipelines.report_parts import hours
from seamlessalign.rows import SAMPLE_RATE
from tests.ground.page import Page
from tests.pipelines.fake_run import FakeRun

CUTS = (0.95, 0.9, 0.8, 0.7, 0.5)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FakeRun:
    return FakeRun(str(tmp_path_factory.mktemp("sections") / "a run"), rejected=300)


@pytest.fixture(scope="module")
def source(run: FakeRun) -> str:
    return Path(build_report(run.root)).read_text("utf-8")


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def samples_of(row: dict[str, Any]) -> int:
    return int(row["tgt_end"] - row["tgt_start"])


# What to do next


def test_each_precision_keeps_what_a_plain_count_keeps(run: FakeRun, page: Page) -> None:
    pairs = run.pairs["eng-frA"]
    kept = [row for row in pairs if row["kept"]]
    expected: list[str] = ["eng-frA", f"{len(kept)}{hours(sum(map(samples_of, kept)))}"]
    for cut in CUTS:
        left = [row for row in pairs if row["precision_estimate"] >= cut and row["drop_reason"] != "overlap"]
        expected.append(f"{len(left)}{hours(sum(map(samples_of, left)))}")
    assert expected in page.cells
    without = [row for row in run.pairs["eng-deA"] if row["kept"]]
    assert ["eng-deA", f"{len(without)}{hours(sum(map(samples_of, without)))}", *["–"] * len(CUTS)] in page.cells


def test_commands_are_understood_by_the_program(run: FakeRun, source: str) -> None:
    commands = [command.replace("&#x27;", "'") for command in re.findall(r"<code>(seamlessalign [^<]+)</code>", source)]
    named = {words[1]: words for words in map(shlex.split, commands)}
    assert {"curate", "export", "filter"} <= named.keys()
    for words in named.values():
        arguments = parsed_arguments(words[1:])
        assert arguments.run == run.root  # whatever signs are in it
    rows = [row for row in run.pairs["eng-frA"] if row["drop_reason"] != "overlap"]
    kept_at = {cut: sum(row["precision_estimate"] >= cut for row in rows) for cut in CUTS}
    proposed = next(cut for cut in CUTS if cut <= 0.9 and kept_at[cut] >= 100)
    rule = ["--min-precision", f"{proposed:g}"]
    assert named["export"][5:] == ["--direction", "eng-frA", *rule]  # the other has no estimates
    assert named["filter"][3:] == ["--threshold", "1.15"]  # which takes all directions


def test_without_estimates_the_commands_choose_by_margin(tmp_path: Path) -> None:
    folder = FakeRun(str(tmp_path / "run"), rejected=20).root
    (tmp_path / "run/pairs/direction=eng-frA/part-00000.parquet").unlink()
    (tmp_path / "run/pairs/direction=eng-frA/part-00001.parquet").unlink()
    text = Page(Path(build_report(folder)).read_text("utf-8")).text
    assert "--threshold 1.15" in text and "--min-precision" not in text


# Scores and lengths


@pytest.mark.parametrize("name", ["margin", "cosine", "estimated precision"])
def test_histograms_of_scores_have_every_pair(run: FakeRun, source: str, name: str) -> None:
    title = f"{'Margins' if name == 'margin' else name.capitalize()} of eng-frA, kept and rejected"
    (chart,) = re.findall(rf'<svg [^>]*aria-label="{title}"[^>]*>.*?</svg>', source)
    bars = re.findall(r"<title>\S+ to \S+: ([\d,]+) kept, ([\d,]+) rejected</title>", chart)
    kept, rejected = (sum(int(bar[place].replace(",", "")) for bar in bars) for place in (0, 1))
    pairs = run.pairs["eng-frA"]
    assert kept == sum(row["kept"] for row in pairs)
    assert kept + rejected == len(pairs)


def test_lengths_have_the_quantiles_of_the_rows(run: FakeRun, page: Page) -> None:
    for direction, side in (("eng-frA", "frA"), ("eng-deA", "deA")):
        kept = [row for row in run.pairs[direction] if row["kept"]]
        cells = page.row(f"{direction}, target {side}")
        seconds = np.array(list(map(samples_of, kept))) / SAMPLE_RATE
        for cell, share in zip(cells[2:5], (0.05, 0.5, 0.95), strict=True):
            exact = np.quantile(seconds, share, method="inverted_cdf")
            assert float(cell.removesuffix(" s")) == pytest.approx(exact, abs=0.06)  # shown to a tenth
        assert cells[5] == hours(sum(map(samples_of, kept)))
        characters = [len(row["src_text"]) for row in kept]
        exact = np.quantile(characters, 0.5, method="inverted_cdf")
        assert page.row(f"{direction}, source eng")[3] == f"{exact:.0f} characters"
    good = [row["num_samples"] / SAMPLE_RATE / 60 for row in run.recordings if row["drop_reason"] is None]
    median = page.row("recordings that were segmented", str(len(good)))[3]
    assert float(median.removesuffix(" min")) == pytest.approx(np.quantile(good, 0.5, method="inverted_cdf"), abs=0.06)


def test_quantiles_against_numpy() -> None:
    values = np.random.default_rng(3).gamma(2.0, 3.0, 999)
    counts = FineCounts(fine=0.01)
    for part in np.array_split(values, 7):
        counts.add(part)
    shares = (0.01, 0.05, 0.5, 0.95, 1.0)
    assert counts.quantiles(shares) == pytest.approx(np.quantile(values, shares, method="inverted_cdf"), abs=0.0051)
    assert FineCounts().quantiles(shares) == []


# Languages


def test_known_languages_are_compared_with_those_told(tmp_path: Path) -> None:
    run = FakeRun(str(tmp_path / "run"), rejected=10)
    known = {row["uri"]: "oci" if number % 8 == 0 else "fra" for number, row in enumerate(run.recordings)}
    manifest = tmp_path / "known.jsonl"
    lines = [{"uri": uri, "lang": lang} for uri, lang in known.items() if uri.startswith("https:")]
    lines.append({"uri": "https://x/y.wav", "lang": "fra"})
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["report", run.root, "--languages", str(manifest)]) == 0
    expected, speech, unknown = Counter[tuple[str, str]](), Counter[tuple[str, str]](), 0
    for row in run.recordings:
        if not row["uri"].startswith("https:"):
            unknown += 1
            continue
        both = known[row["uri"]], row["lang"] or "no speech"
        expected[both] += 1
        speech[both] += row["speech_samples"]
    found = read_confusion(run.root)
    assert found == Confusion(expected, speech, unknown=unknown, stated=0, absent=1)
    page = Page((tmp_path / "run/report.html").read_text("utf-8"))
    assert page.numbers["languages right"] == str(expected["fra", "fra"])
    cells = page.row("fra", f"{expected['fra', 'fra']}{hours(speech['fra', 'fra'])}")
    assert cells[-1] == f"{expected['fra', 'fra'] / sum(n for (lang, _), n in expected.items() if lang == 'fra'):.1%}"
    assert f"{unknown} of which no language is known" in page.text and "1 that are known and are not in" in page.text
    main(["report", run.root])  # the run keeps it
    assert page.numbers == Page((tmp_path / "run/report.html").read_text("utf-8")).numbers


def test_who_was_told_and_who_was_not_sure(tmp_path: Path) -> None:
    run = FakeRun(str(tmp_path), rejected=10)
    rows = [dict(row) for row in run.recordings[:6]]
    found_in: list[tuple[str | None, float | None, str | None]] = [
        ("fra", 1.0, None), ("fra", 0.4, "language_uncertain"), ("deu", 0.9, "language_mixed"),
        (None, None, "no_speech"), ("fra", 0.99, None), ("deu", 1.0, None),
    ]  # fmt: skip
    for number, (lang, prob, reason) in enumerate(found_in):
        rows[number] |= {"lang": lang, "lang_prob": prob, "drop_reason": reason, "uri": f"/moved/{number}.wav"}
    for name in ("part-00000", "part-00001"):
        some = rows if name == "part-00000" else []
        schema = storage.read_table(f"{run.root}/recordings/{name}.parquet").schema
        storage.write_table(f"{run.root}/recordings/{name}.parquet", pa.Table.from_pylist(some, schema))
    assert read_confusion(run.root) is None
    # known by their old places: the name of a file is enough where there is one of it
    write_known_languages(run.root, {f"/before/{number}.wav": "fra" for number in range(5)} | {"/a/5.wav": "deu"})
    told = {"recording_id": "x", "uri": "/moved/5.wav", "stated": "deu", "told": "nld", "prob": 0.8, "sure": True}
    storage.write_table(
        f"{run.root}/{TOLD_TABLE}/part-00000.parquet", pa.Table.from_pylist([{**told, "speech_samples": 77}], TOLD)
    )
    found = read_confusion(run.root)
    assert found is not None
    assert found.recordings == {
        ("deu", "nld"): 1, ("fra", "uncertain"): 1, ("fra", "mixed"): 1, ("fra", "no speech"): 1, ("fra", "fra"): 1,
    }  # fmt: skip
    assert (found.speech["deu", "nld"], found.stated, found.unknown, found.absent) == (77, 1, 0, 0)


def test_two_files_of_one_name_are_not_taken_for_each_other(tmp_path: Path) -> None:
    run = FakeRun(str(tmp_path), rejected=10)
    write_known_languages(run.root, {"/a/003.mp3": "fra", "/b/003.mp3": "deu"})
    found = read_confusion(run.root)
    assert found is not None
    assert (found.recordings.total(), found.unknown, found.absent) == (0, 60, 2)


def test_many_languages_have_a_list_of_confusions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_languages, "_MOST_COLUMNS", 3)
    confusion = Confusion()
    langs = ["fra", "spa", "ita", "cat", "por"]
    for number, lang in enumerate(langs):
        for _ in range(10 - number):
            confusion.add(lang, lang, 3600 * SAMPLE_RATE)
    confusion.add("fra", "por", 5 * 3600 * SAMPLE_RATE)
    page = Page("".join(confusion_section(confusion)))
    assert page.cells[0] == ["known", "fra", "spa", "ita", "others", "speech", "right"]
    assert page.row("fra", "1010.00 h")[4] == "15.00 h"
    assert page.row("por", "·")[4] == "66.00 h"  # right, though its column is not shown
    assert page.row("fra", "por") == ["fra", "por", "1", "5.00 h"]
    assert "40 of 41 recordings" in page.text


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.txt", "a.wav\n", r"a\.txt: is no list of recordings"),
        ("a.jsonl", '{"path": "a.wav"}\n', "no line with a lang"),
        ("a.jsonl", '{"path": "a.wav", "lang": "French"}\n', "#line=1: .*nearest code"),
        ("a.tsv", "path\tlanguage\na.wav\tfra\n", "#line=2: .*unknown key 'language'"),
    ],
)
def test_a_list_without_languages_is_refused(tmp_path: Path, name: str, text: str, told: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=told):
        read_language_list(str(tmp_path / name))
    with pytest.raises(InputError, match="there is no such"):
        read_language_list(str(tmp_path / f"other-{name}").replace(".txt", ".tsv"))


def test_languages_are_not_written_where_there_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "known.tsv").write_text("uri\tlang\nhttps://x/a.wav\tfra\n")
    assert main(["report", str(tmp_path / "none"), "--languages", str(tmp_path / "known.tsv")]) == 2
    assert "is not the folder of a run" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


# What listeners said


def test_labels_give_a_precision_with_an_interval(tmp_path: Path) -> None:
    run = FakeRun(str(tmp_path), rejected=200)
    pairs = [row for row in run.pairs["eng-frA"] if row["drop_reason"] != "overlap" and row["margin"] >= 1.12]
    drawn = Drawn("random above the threshold", 1.12, None)
    said = ["right"] * 30 + ["wrong"] * 10 + ["unsure"] * 2
    lines = [
        Label(row["pair_id"], "eng-frA", what, row["margin"], drawn)  # type: ignore[arg-type]
        for row, what in zip(pairs[::3], said, strict=False)
    ]
    lines.append(Label(lines[-1].pair_id, "eng-frA", "undo", lines[-1].margin, drawn))
    lines.append(Label("gone", "eng-itA", "right", 1.0, Drawn("in order")))
    again = next(row for row in pairs[1::3])  # who changes their mind is counted by what they said last
    lines += [Label(again["pair_id"], "eng-frA", what, again["margin"], drawn) for what in ("unsure", "wrong")]
    Labels(run.root).append(lines)
    counts = Counter(line.label for line in lines[:-4])
    counts[lines[-5].label] -= 1
    counts["wrong"] += 1
    page = Page(Path(build_report(run.root)).read_text("utf-8"))
    cells = page.row("eng-frA", str(counts["right"]), str(counts["wrong"]))
    assert cells[3:5] == [str(counts["unsure"]), str(counts["right"] + counts["wrong"])]
    shares = counts["right"] / (counts["right"] + counts["wrong"])
    assert float(page.numbers["labelled eng-frA"]) == pytest.approx(shares, abs=0.08)  # bands weigh it by their pairs
    low, high = map(float, cells[6].split("–"))
    assert low < shares < high and high - low > 0.1
    assert page.row("eng-itA", "1", "0", "0")[4:] == ["–"] * 5  # the run has no such direction
    assert "What listeners said" not in Page(Path(build_report(_without_labels(tmp_path))).read_text("utf-8")).text


def _without_labels(folder: Path) -> str:
    (folder / "labels.parquet").unlink()
    return str(folder)


# Cost and configuration


def test_cost_of_hours_and_prices(tmp_path: Path) -> None:
    run = FakeRun(str(tmp_path), rejected=10)
    config = yaml.safe_load((tmp_path / "run.yaml").read_text())
    config["resources"] = {"device": "cuda", "prices": {"cpu_hour": 0.05, "gpu_hour": 2.0, "gb_month": 0.1}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    line = run.ledger[0]
    for number, (begun, wall) in enumerate((("10:00:00", 1800.0), ("10:15:00", 1800.0), ("12:00:00", 900.0))):
        mark = Mark("speech", f"part-{number:05}", "d", [], [replace(line, shard=f"part-{number:05}")])
        write_mark(RunFolder(run.root), replace(mark, begun=f"2026-01-01T{begun}+00:00", wall_seconds=wall))
    page = Page(Path(build_report(run.root)).read_text("utf-8"))
    cells = page.row("speech", "2")
    core = sum(sum(one.seconds.values()) for one in run.ledger if one.stage in ("recordings", "segments")) / 3600
    assert cells[3:5] == ["75.0 min", "60.0 min"]  # two shards overlap by a quarter of an hour
    cost = core * 0.05 + 1.25 * 2.0
    assert cells[-1] == f"{cost:.2f}"
    others = sum(sum(one.seconds.values()) for one in run.ledger) / 3600 - core
    assert page.row("all stages")[-1] == f"{cost + others * 0.05:.2f}"
    audio = sum(row["num_samples"] for row in run.recordings) / SAMPLE_RATE / 3600
    assert f"{(cost + others * 0.05) / audio:.4g} for an hour of audio that came in" in page.text
    written = sum(one.bytes_written for one in run.ledger) / 1e9
    assert f"{written:.2f} GB, costs {written * 0.1:.2f} a month" in page.text
    del config["resources"]["prices"]["gpu_hour"]
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    page = Page(Path(build_report(run.root)).read_text("utf-8"))
    assert page.row("speech", "2")[-1] == "–"  # no price, no cost, rather than one that is too low
    assert page.row("all stages")[-1] == "–"


def test_configuration_is_told_without_secrets() -> None:
    secret = "hf_" + "a1B2" * 8
    config = {
        "name": "</code><script>x</script>", "directions": ["eng-frA"], "speech": {"inputs": ["a.jsonl"]},
        "text": {"inputs": ["t"], "lang": "eng"}, "mining": {"k": 32}, "models": {"sonar": f"/m?token={secret}"},
        "digest": "d",
    }  # fmt: skip
    source = "".join(config_section(config))
    page = Page(source)
    assert page.row("mining.k") == ["mining.k", "32"]
    assert [cells[0] for cells in page.cells[1:]] == [
        "name", "directions", "speech.inputs", "text.inputs", "text.lang", "mining.k", "models.sonar",
    ]  # fmt: skip
    assert secret not in source and page.elements["script"] == 0
    whole = page.text.partition("as run.yaml has it")[2]
    assert yaml.safe_load(whole)["mining"] == {"k": 32}
    strange = Page("".join(config_section({**config, "mining": {"gone": 1}})))
    assert "not the keys of a run of this version" in strange.text and strange.cells == []


# On paper


def _luminance(colour: str) -> float:
    """Relative luminance of WCAG 2: what is left of a colour to whoever sees no hues, and on a grey printer."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_colours_differ_in_lightness() -> None:
    """So that who tells no red from green, or has a grey printer, sees what is kept and what is rejected."""
    style = (Path(__file__).parents[2] / "seamlessalign/html_page.css").read_text("utf-8")
    themes = [dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", part)) for part in style.split("prefers-color-scheme")]
    assert len(themes) == 2
    for theme in themes:
        for one, other, least in (("kept", "rejected", 2.5), ("kept", "card", 3.0), ("ink", "page", 7.0)):
            light, dark = sorted((_luminance(theme[one]), _luminance(theme[other])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= least, (one, other)


@pytest.mark.slow
def test_a_page_of_many_directions_stays_small(tmp_path: Path) -> None:
    """Charts are drawn of so many directions; the table has all."""
    run = FakeRun(str(tmp_path), rejected=40)
    part = tmp_path / "pairs/direction=eng-frA/part-00000.parquet"
    for number in range(40):
        other = tmp_path / f"pairs/direction=eng-x{number}A/part-00000.parquet"
        other.parent.mkdir()
        other.write_bytes(part.read_bytes())
    source = Path(build_report(run.root, samples_per_direction=0)).read_text("utf-8")
    page = Page(source)
    assert source.count("Margins of ") == 2 * 24  # title and label
    assert "of the 24 directions with most kept pairs" in page.text
    rows = [cells for cells in page.cells if len(cells) == 7 and cells[5].endswith(("min", "h", " s"))]
    assert len({cells[0] for cells in rows}) >= 42
    assert len(source) < 1_500_000
