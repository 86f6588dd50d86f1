"""Plans of runs: rates read from a ledger, figures against arithmetic by hand, sizes nobody has files of, refusals."""

import json
from pathlib import Path
from typing import Any

import pytest

from seamlessalign import cli, storage
from seamlessalign.config import RunConfig, parse_config
from seamlessalign.errors import ConfigError, InputError
from seamlessalign.pipelines import gather_stage
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.ledger import Mark, Tally, write_ledger, write_mark
from seamlessalign.pipelines.plan import Asked, dry_run, dry_run_text, plan_json
from seamlessalign.pipelines.run_plan import RunPlan, StageCost
from seamlessalign.pipelines.search_sizes import choice_memory, gather_memory
from seamlessalign.pipelines.stage_rates import read_rates
from tests.pipelines.made_sides import context_of, vectors, write_segments

HOUR = 3600 * 16_000
SIDES = {"eng": 2000, "frA": 600, "esA": 200}
PAIRS = {"eng-frA": (400, 300), "frA-esA": (150, 50)}  # candidates, kept
DIM = 384


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Marks and ledger of a run over 4 h of audio and 2,500 lines, of which every figure is round; no tables."""
    folder = RunFolder(str(tmp_path_factory.mktemp("rates") / "run"))
    for number, loading in enumerate((10.0, 0.0)):
        heard, spans = Tally(), Tally()
        heard.keep(2, samples=2 * HOUR)
        spans.keep(400, samples=400 * 32_000)
        seconds = {"load models": loading, "decode": 36.0, "embed": 324.0}
        _mark(folder, "speech", f"part-{number:05d}", [
            heard.line("recordings", f"part-{number:05d}", digest="d", seconds=seconds, bytes_read=100_000_000),
            spans.line("segments", f"part-{number:05d}", digest="d", bytes_written=400_000),
        ])  # fmt: skip
    lines = Tally()
    lines.keep(2000)
    lines.drop("duplicate", 500)
    _mark(folder, "text", "part-00000", [
        lines.line("sentences", "part-00000", digest="d", seconds={"load models": 1.0, "embed": 50.0},
                   bytes_read=250_000, bytes_written=1_600_000)
    ])  # fmt: skip
    for side, rows in SIDES.items():
        gathered = Tally()
        gathered.keep(rows)
        line = gathered.line("mining_input", f"side={side}", digest="d", seconds={"gather": rows / 1000})
        _mark(folder, "gather", f"side={side}", [line])
        arrow = storage.join(folder.table(gather_stage.TABLE), f"{side}.arrow")
        storage.write_bytes_atomic(arrow, bytes(rows * 50))
    for name, (candidates, kept) in PAIRS.items():
        chosen, cut = Tally(), Tally()
        chosen.keep(kept)
        chosen.drop("below_threshold", candidates - kept)
        line = chosen.line(
            "pairs", f"direction={name}", digest="d", seconds={"choose": 1.0}, bytes_written=candidates * 200
        )
        _mark(folder, "mine", f"direction={name}", [line])
        cut.keep(kept)
        shard = f"direction={name}.part-00000"
        line = cut.line("corpus", shard, digest="d", seconds={"cut": kept / 10}, bytes_written=kept * 90_000)
        _mark(folder, "corpus", shard, [line])
    write_ledger(folder, ["speech", "text", "gather", "mine", "corpus"])
    return folder.root


def _mark(folder: RunFolder, stage: str, shard: str, lines: list[Any]) -> None:
    write_mark(folder, Mark(stage, shard, "d", [], lines))


def config_of(directions: tuple[str, ...] = tuple(PAIRS), **more: Any) -> RunConfig:
    """A configuration whose inputs are nowhere."""
    raw = {
        "directions": list(directions), "speech": {"inputs": ["nowhere.wav"]},
        "text": {"inputs": ["nowhere.txt"], "lines_per_shard": 1000}, "mining": {"decoys": {"made": False}},
        "resources": {"workers": 4, "threads": 1, "device": "cpu"},
    }  # fmt: skip
    return parse_config({**raw, **more}, "test")


def planned(finished: str, hours: float = 40, sentences: int = 25_000, **more: Any) -> RunPlan:
    """The plan of a size by the rates of the fixture."""
    asked = Asked(hours=hours, sentences=sentences, rates_from=finished, executor=more.pop("executor", "local"))
    plan = dry_run(config_of(**more), asked).plan
    assert plan is not None
    return plan


def by_stage(plan: RunPlan) -> dict[str, StageCost]:
    return {stage.stage: stage for stage in plan.stages}


def test_rates_are_those_of_the_ledger(finished: str) -> None:
    rates = read_rates(finished)
    assert (rates.hours, rates.recordings, rates.sentences) == (4.0, 4, 2500)
    assert rates.speech_seconds == 180.0 and rates.load_seconds == 10.0
    assert (rates.spans, rates.span_bytes, rates.audio_bytes) == (200.0, 1000.0, 50_000_000.0)
    assert rates.shares == {"fra": 0.75, "spa": 0.25}
    assert (rates.text_seconds, rates.line_bytes) == (0.02, 100.0)
    assert (rates.sentences_kept, rates.sentence_bytes) == (0.8, 800.0)
    assert rates.gather_seconds == 0.001 and rates.row_bytes == {False: 50.0, True: 50.0}
    assert rates.choice_seconds == 2.0 / (2600 + 800)
    assert rates.directions["eng-frA"].kept == 300 / 3.0  # of French there are three of the four hours
    assert rates.directions["eng-frA"].candidates == 400 / 600
    assert rates.directions["frA-esA"].corpus_bytes == 90_000.0


def test_every_stage_is_told_as_by_hand(finished: str) -> None:
    """Forty hours and 25,000 lines, ten times what the rates' run had."""
    plan = planned(finished)
    assert plan.size.recordings == plan.size.speech_shards == 40 and plan.size.text_shards == 25
    stages = by_stage(plan)
    speech, text, gather, mine, corpus = (stages[name] for name in ("speech", "text", "gather", "mine", "corpus"))
    assert speech.core_hours == pytest.approx((40 * 180 + 4 * 10) / 3600)
    assert speech.read == 40 * 50_000_000 and speech.shuffled == 0 and speech.written == 40 * 200 * 1000
    assert speech.wall_hours == pytest.approx((speech.core_hours or 0) / 4)
    assert text.core_hours == pytest.approx(25_000 * 0.02 / 3600) and text.written == 20_000 * 800
    assert text.read == 2_500_000
    rows = {"eng": 20_000, "frA": 6000, "esA": 2000}
    assert gather.core_hours == pytest.approx(28.0 / 3600) and gather.tasks == 3
    assert gather.shuffled == speech.written + text.written
    assert gather.written == 28_000 * (50 + DIM * 2) and gather.memory == gather_memory(20_000)
    assert [(s.num_src, s.num_tgt) for s in plan.searches] == [(20_000, 6000), (6000, 2000)]
    assert mine.core_hours == pytest.approx((26_000 + 8000) * 2.0 / 3400 / 3600)
    assert mine.memory == choice_memory(rows["eng"], rows["frA"])
    assert mine.written == 6000 * 400 / 600 * 200 + 2000 * 150 / 200 * 200
    assert plan.pairs == {"eng-frA": 3000, "frA-esA": 500}
    assert corpus.tasks == 2 + 1 and corpus.core_hours == pytest.approx(350 / 3600)
    assert corpus.written == plan.storage["corpus"] == 3500 * 90_000
    assert stages["search"].tasks == sum(search.tasks for search in plan.searches)
    assert stages["search"].written == sum(search.shuffled for search in plan.searches)
    assert plan.total("core_hours") == pytest.approx(sum(stage.core_hours or 0 for stage in stages.values()))


def test_a_plan_of_the_rates_own_run_is_that_run(finished: str) -> None:
    stages = by_stage(planned(finished, hours=4, sentences=2500))
    assert stages["speech"].core_hours == pytest.approx((4 * 180 + 4 * 10) / 3600)  # each of four workers loads
    assert stages["text"].core_hours == pytest.approx(50 / 3600)
    assert planned(finished, hours=4, sentences=2500).pairs == {"eng-frA": 300, "frA-esA": 50}


def test_prices_make_costs_and_nothing_else_does(finished: str) -> None:
    without = planned(finished)
    assert {stage.cost for stage in without.stages} == {None} and without.month_cost is None
    assert "no price given" in dry_run_text(dry_run(config_of(), Asked(40, 25_000, rates_from=finished)))
    prices = {"cpu_hour": 0.5, "gb_month": 0.02}
    resources = {"workers": 4, "threads": 1, "device": "cpu", "prices": prices}
    plan = planned(finished, resources=resources)
    speech = by_stage(plan)["speech"]
    assert speech.cost == pytest.approx(0.5 * (speech.core_hours or 0))
    assert plan.month_cost == pytest.approx(0.02 * sum(size or 0 for size in plan.storage.values()) / 1e9)


def test_a_million_hours_are_planned_without_files_and_what_does_not_fit_is_told(finished: str) -> None:
    asked = Asked(1_000_000, 1_000_000_000, 10.0, finished, "slurm")
    done = dry_run(config_of(), asked)
    assert done.inputs is None and done.plan is not None
    assert done.plan.size.recordings == 6_000_000
    rows = {search.direction: (search.num_src, search.num_tgt) for search in done.searches}
    assert rows == {"eng-frA": (800_000_000, 150_000_000), "frA-esA": (150_000_000, 50_000_000)}
    told = "\n".join(done.limits)
    assert "side eng has 800,000,000 rows, and one side can have 134,217,728: split it into 6 runs or more" in told
    needed = choice_memory(800_000_000, 150_000_000) / 2**30
    assert f"eng-frA: choosing its pairs takes about {needed:.1f}"[:-1] in told and "(and 1 more directions)" in told
    assert "stage speech has 6,000,000 shards" in told and "set speech.recordings_per_shard 60 times as high" in told
    assert "a task of stage search takes about" in told and "resources.mining_tasks" in told
    assert "does not fit:" in dry_run_text(done)


def test_what_fits_is_not_complained_of(finished: str, tmp_path: Path) -> None:
    assert dry_run(config_of(output=str(tmp_path / "out")), Asked(40, 25_000, rates_from=finished)).limits == []


def test_tasks_of_slurm_have_what_their_stage_asks_for(finished: str) -> None:
    slurm = {"parallel": 8, "cpus": 4, "stages": {"speech": {"parallel": 2, "minutes": 1}}}
    resources = {"slurm": slurm, "shards_per_group": 20, "device": "cpu"}
    done = dry_run(config_of(resources=resources), Asked(40, 25_000, rates_from=finished, executor="slurm"))
    assert done.plan is not None
    speech, text = by_stage(done.plan)["speech"], by_stage(done.plan)["text"]
    assert (speech.groups, text.groups) == (2, 9)  # of 20 and of 3 shards
    assert speech.wall_hours == pytest.approx((speech.core_hours or 0) / 2 / 4)
    assert [line for line in done.limits if "stage speech" in line] == [
        "a task of stage speech takes about 15:02 and may take 1 min: set resources.slurm.stages.speech.minutes, or "
        "resources.shards_per_group lower"
    ]


def test_hours_of_a_gpu_are_not_made_up_from_those_of_processors(finished: str) -> None:
    resources = {"slurm": {"stages": {"speech": {"gpus": 1}}}, "device": "auto"}
    plan = planned(finished, resources=resources, executor="slurm")
    speech = by_stage(plan)["speech"]
    assert speech.gpu_hours is None and speech.wall_hours is None
    assert by_stage(plan)["text"].wall_hours is not None


def test_a_direction_that_the_rates_lack_is_told_to_be_a_guess(finished: str) -> None:
    asked = Asked(40, 25_000, rates_from=finished)
    done = dry_run(config_of(("eng-frA", "eng-deA")), asked)
    assert done.plan is not None and done.plan.size.shared == "equally"
    assert done.plan.pairs == {"eng-frA": 2000, "eng-deA": 2000}  # of 20 h each
    assert done.plan.assumptions == [
        "eng-deA is not in the rates' run: as the mean of its 1 directions of speech and text"
    ]


def test_more_rows_than_a_side_can_have_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_segments(tmp_path, "fra", vectors(30, 30)[1], [0])
    context = context_of(parse_config({**config_of().model_dump(mode="json"), "output": str(tmp_path)}, "test"))
    monkeypatch.setattr(gather_stage, "MOST_ROWS", 29)
    side = next(side for side in context.config.sides() if str(side) == "frA")
    with pytest.raises(ConfigError, match="frA: has 30 rows, and one side can have 29: mine it in parts"):
        gather_stage.process(side, "d", context)
    assert not storage.list_files(context.folder.table(gather_stage.TABLE))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--hours", "3"], "--hours is for a plan: add --dry-run"),
        (["--json"], "--json is for a plan: add --dry-run"),
        (["--dry-run", "--hours", "-1"], "--hours -1: give a number above 0"),
        (["--dry-run", "--hours", "nan"], "--hours nan: give a number above 0"),
        (["--dry-run", "--rates-from", "none"], "none: has no ledger.parquet: rates are those of a finished run"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_planned_is_one_line_and_status_2(
    options: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(json.dumps(config_of().model_dump(mode="json", exclude={"output"})))
    assert cli.main(["run", str(config), *options]) == 2
    assert capsys.readouterr().err.splitlines() == [f"seamlessalign: {told}"]


def test_a_ledger_without_audio_has_no_rates(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    write_ledger(folder, ["speech"])
    with pytest.raises(InputError, match="no audio in which spans were found"):
        read_rates(folder.root)


def test_json_has_what_the_text_has(finished: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(json.dumps(config_of().model_dump(mode="json", exclude={"output"})))
    sizes = ["--hours", "40", "--sentences", "25000", "--rates-from", finished]
    assert cli.main(["run", str(config), "--dry-run", "--json", *sizes]) == 0
    told = json.loads(capsys.readouterr().out)
    whole = plan_json(dry_run(config_of(), Asked(40, 25_000, rates_from=finished)))
    assert told.keys() == whole.keys() and told["storage_bytes"] == whole["storage_bytes"]
    assert told["pairs_kept"] == {"eng-frA": 3000, "frA-esA": 500}
    assert [stage["tasks"] for stage in told["stages"]] == [stage["tasks"] for stage in whole["stages"]]
