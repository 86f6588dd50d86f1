"""The dataset card: what `datasets` reads from it, its numbers, and texts from data that are no markup."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from seamlessalign import cli
from seamlessalign.pipelines.curation.labels import Drawn, Label, Labels
from seamlessalign.pipelines.exports.card import hub_license, size_category
from seamlessalign.pipelines.exports.card_limits import limits
from seamlessalign.pipelines.exports.card_loading import loading
from seamlessalign.pipelines.exports.plan import Plan
from seamlessalign.pipelines.exports.run_facts import RunFacts
from seamlessalign.pipelines.exports.tally import DirectionTally, SplitTally, Tally
from tests.pipelines.exports import made_run
from tests.pipelines.exports.made_run import MadeRun, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    made = make_run(tmp_path_factory.mktemp("card"), recordings=6)
    drawn = [
        Label(pair["pair_id"], "eng-frA", "wrong" if number == 1 else "right", pair["margin"], Drawn("random"))
        for number, pair in enumerate(made.kept("eng-frA")[:12])
    ]
    Labels(str(made.root)).append(drawn)
    return made


@pytest.fixture(scope="module")
def exported(run: MadeRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("exported") / "to"
    options = ["--splits", "train=0.6,dev=0.2,test=0.2", "--seed", "1", "--workers", "1"]
    assert cli.main(["export", str(run.root), "--to", str(target), *options]) == 0
    return target


def _front(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(re.split(r"^---$", (folder / "README.md").read_text(), flags=re.MULTILINE)[1])
    return read


def _table(folder: Path, head: str) -> list[list[str]]:
    """Rows of the table whose header begins so."""
    lines = (folder / "README.md").read_text().split("\n")
    begin = next(number for number, line in enumerate(lines) if line.startswith(f"| {head} |"))
    rows = []
    for line in lines[begin + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


def test_the_front_matter_is_what_the_hub_knows(run: MadeRun, exported: Path) -> None:
    front = _front(exported)
    assert front["language"] == ["de", "en", "fr"] and front["pretty_name"] == "made"
    assert front["license"] == ["cc-by-4.0", "other", "unknown"] and front["size_categories"] == ["n<1K"]
    assert front["task_categories"] == ["audio-to-audio", "translation"]
    hub = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
    card = hub.DatasetCard((exported / "README.md").read_text())
    assert card.data.to_dict()["configs"] == front["configs"]


def test_datasets_opens_every_direction_and_split_by_the_card(run: MadeRun, exported: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the package datasets")
    datasets.disable_progress_bars()
    for direction, corpus in run.corpus.items():
        opened = datasets.load_dataset(str(exported), direction, cache_dir=str(tmp_path))
        assert set(opened) == {"train", "dev", "test"}
        ids = [name for split in opened.values() for name in split["pair_id"]]
        left_out = {run.kept("eng-frA")[1]["pair_id"]}  # somebody says that it is wrong
        assert sorted(ids) == sorted(row["pair_id"] for row in corpus if row["pair_id"] not in left_out)
        assert opened["train"].features["tgt_audio"] == datasets.Audio(sampling_rate=16_000)


def test_its_numbers_are_those_of_the_rows(run: MadeRun, exported: Path) -> None:
    rows = _table(exported, "direction | split")
    for direction, corpus in run.corpus.items():
        mine = [row for row in rows if row[0] == direction]
        wrong = run.kept("eng-frA")[1]["pair_id"]
        kept = [row for row in corpus if row["pair_id"] != wrong]
        assert sum(int(row[2]) for row in mine) == len(kept)
        hours = sum(row["tgt_end"] - row["tgt_start"] for row in kept) / 16_000 / 3600
        assert sum(float(row[4]) for row in mine) == pytest.approx(hours, abs=0.016)
    sure = {row[0]: row for row in _table(exported, "direction | chosen by")}
    margins = [pair["margin"] for pair in run.kept("frA-deA")]
    told = ", ".join(f"{value:.3f}" for value in (min(margins), np.median(margins), max(margins)))
    estimate = np.mean([pair["precision_estimate"] for pair in run.kept("frA-deA")])
    assert sure["frA-deA"][3] == told and sure["frA-deA"][4].startswith(f"{estimate:.3f}, from decoys: 70 on")


def test_licences_are_counted_and_those_nobody_stated_too(run: MadeRun, exported: Path) -> None:
    counts: dict[str, int] = {}
    for pair in [*run.kept("eng-frA")[:1], *run.kept("eng-frA")[2:], *run.kept("frA-deA")]:
        for side in ("src", "tgt"):
            if pair[f"{side}_uri"] is not None:
                name = run.recording(pair[f"{side}_uri"])["license"] or "not stated"
                counts[name] = counts.get(name, 0) + 1
    rows = {row[0].strip("`").replace("¦", "|"): int(row[1]) for row in _table(exported, "licence")}
    assert rows == counts
    text = (exported / "README.md").read_text()
    assert f"{counts['not stated']:,} of {sum(counts.values()):,} sides that are speech are of recordings whose" in text


def test_what_people_said_is_told_with_an_interval(exported: Path) -> None:
    (row,) = _table(exported, "direction | margin at least")
    low, high = map(float, row[3].split(" to "))
    assert row[0] == "eng-frA" and row[4] == "11, 1, 0" and 0 <= low < float(row[2]) < high <= 1


def test_what_people_said_above_a_margin_says_nothing_of_another_cut(run: MadeRun, tmp_path: Path) -> None:
    options = ["--direction", "eng-frA", "--min-precision", "0.9", "--workers", "1"]
    assert cli.main(["export", str(run.root), "--to", str(tmp_path / "to"), *options]) == 0
    text = (tmp_path / "to" / "README.md").read_text()
    assert "estimated precision of each pair at least 0.9" in text and "People listened" not in text


def test_limits_are_facts_of_the_run(exported: Path) -> None:
    text = (exported / "README.md").read_text()
    known = text[text.index("## Known limits") : text.index("## How it was made")]
    for told in (
        "Some pairs may be wrong: by the estimate about",
        "come from sources that say they are synthetic",
        "The language of 4 of 12 recordings was told by a model (`whisper-base`) and may be wrong, the least sure of",
        "It was not compared with any evaluation set",
    ):
        assert told in known, told
    assert "`0123456789abcdef`" in text


def test_a_direction_of_which_nothing_is_left_is_not_counted(run: MadeRun, tmp_path: Path) -> None:
    (tmp_path / "set.txt").write_text("\n".join(pair["src_text"] for pair in run.kept("eng-frA")))
    best = max(pair["margin"] for pair in run.kept("frA-deA"))
    options = ["--not-in", str(tmp_path / "set.txt"), "--threshold", f"{best}", "--labels", "ignore", "--workers", "1"]
    assert cli.main(["export", str(run.root), "--to", str(tmp_path / "to"), *options]) == 0
    text = (tmp_path / "to" / "README.md").read_text()
    assert ": 1 pairs, " in text and " in 1 direction. " in text and "Of texts no licence is known" not in text
    assert "by the estimate less than one of 1 in frA-deA." in text and _front(tmp_path / "to")["language"] == [
        "de",
        "fr",
    ]
    assert [config["config_name"] for config in _front(tmp_path / "to")["configs"]] == ["frA-deA"]
    assert [row[:2] for row in _table(tmp_path / "to", "direction | split")] == [["frA-deA", "all"]]
    left = {row[0]: row[1:3] for row in _table(tmp_path / "to", "direction | pairs in the run")}
    assert left == {name: [str(len(pairs)), str(len(pairs) - (name == "frA-deA"))] for name, pairs in run.pairs.items()}


def _limits(plan: dict[str, Any], uncut: int = 0, **speech: Any) -> str:
    """Limits of three pairs of one direction, of which a plan and the tally say so."""
    half = np.full(3, 0.5, np.float32)
    given: dict[str, Any] = {"splits": {None: SplitTally(3, Counter(tgt=48_000))}, "estimates": half, **speech}
    one = DirectionTally(**given)
    none = DirectionTally()
    begun = Plan("", [], {}, {}, {}, {}, "", {}, None, None, [])
    tally, facts = (
        Tally({"eng-frA": one, "deA-rus": none}, 1, 0, None),
        RunFacts(None, None, {}, None, None, None, None),
    )
    return "\n".join(limits(tally, replace(begun, **plan), {"uncut": uncut}, facts))


def test_each_limit_is_told_where_it_holds() -> None:
    assert "by the estimate about 2 of 3 in eng-frA." in _limits({}) and "is not known" not in _limits({})
    unknown = _limits({}, estimates=np.array([1, np.nan, 1], np.float32))
    assert "How many pairs are right is not known of eng-frA:" in unknown and "may be wrong" not in unknown
    assert "may be wrong" not in _limits({}, estimates=np.ones(3, np.float32))
    told = _limits({"to_cut": {"eng-frA": 5, "deA-rus": 0}}, uncut=2)
    assert "The audio of 2 pairs could not be cut any more; `left_out.tsv` says why of each." in told
    assert "3 pairs of eng-frA were not in the run's corpus and were cut for this export." in told
    assert "cut" not in _limits({}) and "were cut" not in _limits({"to_cut": {"eng-frA": 2}}, uncut=2)
    assert "It is not divided" in _limits({}) and "It is not divided" not in _limits({"splits": {}})
    named = Counter({("tgt", None): 1, ("tgt", "TTS of mine"): 2, ("tgt", "radio"): 4})
    assert "2 sides that are speech come from sources that say they are synthetic" in _limits({}, sources=named)
    assert "1 of 7 sides that are speech are of recordings whose licence nobody" in _limits({}, licenses=named)
    assert "synthetic" not in _limits({}) and "licence nobody" not in _limits({})
    sets = {"texts": 1, "sounds": 0, "not_compared": [], "not_decoded": ["a.wav"]}
    assert "Only texts of evaluation sets were compared" in _limits({"evaluation": sets})
    compared = _limits({"evaluation": {**sets, "sounds": 2}})
    assert "only a part of a recording here was not looked for" in compared and "not compared with any" not in compared
    assert "1 sounds of evaluation sets cannot be decoded and were compared byte by byte alone; `export" in compared


def test_text_from_data_is_no_markup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    licences = ("---\n- x: [y\n--- <!-- \u202e -->", "<img src=x onerror=alert(1)>\n```\n# big | `[a](b)`") * 2
    monkeypatch.setattr(made_run, "LICENSES", licences)
    made = make_run(tmp_path / "hostile", recordings=2)
    title = "<script>x</script> | [a](b) `c` ---\n---\nlicense: mit\n---\n" + "word --- " * 30
    config = yaml.safe_load((made.root / "run.yaml").read_text()) | {"name": title}
    config["speech"]["lid"] = {"model": "`<b>`| _x_"}
    (made.root / "run.yaml").write_text(yaml.safe_dump(config))
    assert cli.main(["export", str(made.root), "--to", str(tmp_path / "to"), "--workers", "1"]) == 0
    front = _front(tmp_path / "to")
    assert front["pretty_name"] == title and front["license"] == ["other"]
    reader = pytest.importorskip("markdown_it", reason="needs markdown-it-py").MarkdownIt("commonmark").enable("table")
    body = re.split(r"^---$", (tmp_path / "to" / "README.md").read_text(), flags=re.MULTILINE)[2]
    blocks = reader.parse(body)
    inside = [token for block in blocks for token in block.children or ()]
    assert {token.type for token in inside} <= {"text", "code_inline", "softbreak"}
    assert not {block.type for block in blocks} & {"html_block", "hr", "code_block"}
    assert sum(block.tag == "h1" for block in blocks if block.type == "heading_open") == 1
    said = {token.content for token in inside}
    img = "<img src=x onerror=alert(1)> ''' # big ¦ '[a](b)'"
    assert {"--- - x: [y --- <!--   -->", img, "'<b>'¦ _x_"} <= said


@pytest.mark.parametrize(
    ("pairs", "known"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (10**7 - 1, "1M<n<10M"), (10**7, "10M<n<100M"), (10**12, "n>1T")],
)
def test_sizes_have_the_hubs_names(pairs: int, known: str) -> None:
    assert size_category(pairs) == known


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("CC-BY-SA-4.0", "cc-by-sa-4.0"),
        ("CC0-1.0", "cc0-1.0"),
        ("CC BY 4.0", "cc-by-4.0"),
        (None, "unknown"),
        ("x", "other"),
    ],
)
def test_licences_have_the_hubs_names(name: str | None, known: str) -> None:
    assert hub_license(name) == known


@pytest.mark.slow
@pytest.mark.parametrize("format", ["parquet", "webdataset", "lhotse", "lhotse-shar", "folder", "meta-jsonl"])
@pytest.mark.parametrize("splits", [None, "train=0.5,dev=0.5"])
def test_the_lines_that_load_it_load_it(
    run: MadeRun, tmp_path: Path, format: str, splits: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [
        "--format",
        format,
        "--direction",
        "eng-frA",
        "--workers",
        "1",
        *(["--splits", splits] if splits else []),
    ]
    assert cli.main(["export", str(run.root), "--to", str(tmp_path / "to"), *options]) == 0
    text = (tmp_path / "to" / "README.md").read_text()
    code = text[text.index("```python\n") + 10 :].split("```")[0]
    found: dict[str, Any] = {}
    monkeypatch.chdir(tmp_path / "to")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    exec(code.replace("FOLDER", str(tmp_path / "to")), found)  # what the card tells people to run
    number = sum(1 for _ in found["rows" if "rows" in found else "cuts"])
    split = None if splits is None else re.search(r"(train|dev)", code)
    expected = [row for row in _table(tmp_path / "to", "direction | split") if split is None or row[1] == split[0]]
    assert number == sum(int(row[2]) for row in expected) > 0
    assert loading(format, "eng-frA", split[0] if split else None) in text
