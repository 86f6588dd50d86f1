"""A corpus from published metadata: what becomes of every line, and what spans hold."""

import io
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from benchmarks.faulty_metadata import ROBOTS, SPEECH, TEXT, World, make_files, make_pairs
from benchmarks.faulty_server import Served, faulty_servers
from benchmarks.rebuilding import make_world, rebuilt
from seamlessalign import open_run, storage, web_access
from seamlessalign.cli import main
from seamlessalign.config import load_config
from seamlessalign.errors import ConfigError, InputError
from seamlessalign.pipelines.folder import REBUILD_STAGES, RunFolder, stages_of
from seamlessalign.pipelines.ledger import write_ledger
from seamlessalign.pipelines.published import audio_stage, share_stage
from seamlessalign.pipelines.published.kept_recordings import KeptRecordings
from seamlessalign.pipelines.published.places import RowsOfHome
from seamlessalign.pipelines.published.rebuild import LEVELS, _try_again, _write_config, plan_stage, rebuild
from seamlessalign.pipelines.published.rebuild_config import RebuildConfig, direction_of, load_rebuild_config
from seamlessalign.pipelines.published.rebuild_tasks import CLIPS_SCHEMA, RebuildContext
from seamlessalign.pipelines.shard_task import do_and_mark
from seamlessalign.pipelines.stage_plans import begin_stage, end_stage
from seamlessalign.pipelines.verify import prove
from tests.ground.page import Page
from tests.pipelines.published.processes import begun
from tests.pipelines.real_slurm import slurm
from tests.pipelines.test_beam_run import job_server

QUICK = [
    "fetch.allow_local=true", "fetch.requests_per_second=1000", "fetch.connections=8", "fetch.tries=3",
    "fetch.first_pause_seconds=0.01", "fetch.stall_seconds=3", "resources.device=cpu", "audio.urls_per_shard=6",
    "pairs_per_shard=20",
]  # fmt: skip
FORMATS = ("wav", "flac", "ogg", "opus", "mp3")


@pytest.fixture(autouse=True)
def _no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETRC", "/nowhere/netrc")
    monkeypatch.setattr(web_access, "_access", web_access.present())


@pytest.fixture
def served() -> Served:
    return Served({})


def _config(folder: Path, base: str, *more: str) -> RebuildConfig:
    given = {"metadata": [str(folder / "metadata.tsv.gz")], "output": str(folder / "run"), "common_crawl": base}
    return load_rebuild_config(given, [*QUICK, *more])


def _here(config: RebuildConfig) -> RebuildContext:
    """Do all stages in this process; the counts are proved."""
    context = RebuildContext(config, config.output, "cpu", 1, "here")
    _write_config(context.folder, config)
    for level in LEVELS:
        for plan in [plan_stage(stage, context) for stage in level]:
            for task in begin_stage(plan, context.folder):
                do_and_mark(task, context)
            end_stage(plan.stage, context.folder)
    write_ledger(context.folder, REBUILD_STAGES)
    prove(context.folder)
    return context


def _world(folder: Path, served: Served, bases: Sequence[str], pairs: int = 60, **more: float) -> World:
    world = World()
    make_files(world, FORMATS, [4.0, 5.0, 6.0, 7.0, 8.0])
    shares = {"missing": 0.1, "moved": 0.1, "breaks": 0.1, "html": 0.05, "private": 0.1}
    make_pairs(world, bases, urls=20, pairs=pairs, shares=shares, wet_files=2, **more)  # type: ignore[arg-type]
    world.write(folder / "metadata.tsv.gz")
    served.files = world.files
    served.robots = {f"127.0.0.{number + 1}": ROBOTS for number in range(len(bases))}
    return world


def _pairs(run: Path, direction: str, table: str = "pairs") -> list[dict[str, object]]:
    parts = sorted((run / table / f"direction={direction}").glob("*.parquet"))
    return [row for part in parts for row in pq.read_table(part).to_pylist()]


class TestLines:
    def test_every_line_becomes_what_it_must(self, served: Served, tmp_path: Path) -> None:
        with faulty_servers(served, 2) as bases:
            more = {"wrong_duration": 0.1, "outside": 0.05, "lost_texts": 0.1}
            world = _world(tmp_path, served, bases, 80, **more)
            context = _here(_config(tmp_path, bases[0]))
        assert stages_of(context.folder) == REBUILD_STAGES
        for direction in (SPEECH, TEXT):
            rows = _pairs(tmp_path / "run", direction)
            assert Counter(row["drop_reason"] for row in rows) == world.counts(direction)
            kept = _pairs(tmp_path / "run", direction, "corpus")
            assert [row["pair_id"] for row in kept] == [row["pair_id"] for row in rows if row["kept"]]
        assert len(set(world.expected.values())) >= 6
        # what a span holds: the samples that the file was made of, or what ffmpeg makes of it
        checked = 0
        lines = (
            pq.read_table(tmp_path / "run/state/published/lines" / f"direction={TEXT}").column("line_no").to_pylist()
        )
        for line_no, pair in zip(lines, _pairs(tmp_path / "run", TEXT), strict=True):
            if not pair["kept"]:
                continue
            row = next(one for one in _pairs(tmp_path / "run", TEXT, "corpus") if one["pair_id"] == pair["pair_id"])
            assert row["src_text"] == world.texts[line_no] == pair["src_text"]
            name, start, end = world.spans[TEXT, line_no, "tgt"]
            if name in world.sounds:
                found, rate = soundfile.read(io.BytesIO(row["tgt_audio"]["bytes"]), dtype="int16")  # type: ignore[index]
                assert rate == 16_000 and np.array_equal(found, world.sounds[name][start:end])
                assert (row["tgt_start"], row["tgt_end"]) == (start, end)
                checked += 1
        assert checked > 5

    @pytest.mark.slow
    def test_it_is_the_same_whatever_it_is_cut_into(self, served: Served, tmp_path: Path) -> None:
        with faulty_servers(served, 2) as bases:
            _world(tmp_path, served, bases, 30)
            one = _here(_config(tmp_path, bases[0]))
            rows = {direction: _pairs(tmp_path / "run", direction, "corpus") for direction in (SPEECH, TEXT)}
            assert all(begin_stage(plan_stage(stage, one), one.folder) == [] for level in LEVELS for stage in level)
            (tmp_path / "run").rename(tmp_path / "other")
            _here(_config(tmp_path, bases[0], "audio.urls_per_shard=3", "pairs_per_shard=7", "files_per_shard=1"))
        assert rows == {direction: _pairs(tmp_path / "run", direction, "corpus") for direction in (SPEECH, TEXT)}

    def test_what_is_asked_for(self, served: Served, tmp_path: Path) -> None:
        with faulty_servers(served, 1) as bases:
            world = _world(tmp_path, served, bases)
            context = _here(_config(tmp_path, bases[0], f"directions=[{TEXT}]", "limit=5", "min_score=1.2"))
        lines = {line.stage: line for line in write_ledger(context.folder, REBUILD_STAGES)}
        scores = [float(line.split("\t")[7]) for line in world.lines[::2] if f"\t{TEXT}\t" in line]
        above = sum(np.float32(score) >= np.float32(1.2) for score in scores)
        assert lines["lines"].dropped == {"direction_not_wanted": 60, "below_min_score": 2 * (30 - above)}
        assert lines["share"].dropped == {"beyond_limit": above - 5} and lines["share"].rows_kept == 5
        assert len(_pairs(tmp_path / "run", TEXT)) == 5 and not _pairs(tmp_path / "run", SPEECH)

    @pytest.mark.slow
    def test_what_was_cut_and_found_is_not_asked_for_again_with_other_limits(
        self, served: Served, tmp_path: Path
    ) -> None:
        with faulty_servers(served, 2) as bases:
            _world(tmp_path, served, bases, 24, wrong_duration=0.1, outside=0.05, lost_texts=0.1)
            asked, rows = list[set[str]](), list[list[dict[str, object]]]()
            for limit in ("limit=8", "limit=null", "limit=4"):
                before = Counter(served.asked)
                _here(_config(tmp_path, bases[0], "audio.kept_gb=0", limit))
                asked.append({path for path in served.asked - before if path != "/robots.txt"})
                rows.append([row for one in (SPEECH, TEXT) for row in _pairs(tmp_path / "run", one, "corpus")])
            (tmp_path / "run").rename(tmp_path / "other")
            _here(_config(tmp_path, bases[0]))
        first, all_, fewer = asked
        assert len(first - all_) > 4 and all_ - first and not fewer
        assert rows[1] == [row for one in (SPEECH, TEXT) for row in _pairs(tmp_path / "run", one, "corpus")]

    @pytest.mark.slow
    def test_what_is_allowed_by_now_is_asked_for_and_nothing_else(self, served: Served, tmp_path: Path) -> None:
        with faulty_servers(served, 1) as bases:
            _world(tmp_path, served, bases, 24)
            whole = ["audio.kept_gb=0", f"directions=[{SPEECH}]"]
            _here(_config(tmp_path, bases[0], *whole, "fetch.allow_local=false"))
            assert {row["drop_reason"] for row in _pairs(tmp_path / "run", SPEECH)} == {"address_refused"}
            _here(_config(tmp_path, bases[0], *whole, "fetch.max_redirects=0"))
            reasons = {row["drop_reason"] for row in _pairs(tmp_path / "run", SPEECH)}
            assert {None, "too_many_redirects", "robots_disallowed"} <= reasons
            before = Counter(served.asked)
            _here(_config(tmp_path, bases[0], *whole))
            more = {path.split("/")[1] for path in served.asked - before}
        assert "moved" in more and more <= {"moved", "ok", "robots.txt"}  # where those that moved are
        assert all(
            "/ok/" not in path or path.replace("/ok/", "/moved/") in served.asked for path in served.asked - before
        )
        assert {row["drop_reason"] for row in _pairs(tmp_path / "run", SPEECH)} == reasons - {"too_many_redirects"}

    @pytest.mark.slow
    def test_nor_is_what_was_there_of_a_shard_that_was_not_done(
        self, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = ["audio.urls_per_shard=100", "audio.kept_gb=0", f"directions=[{SPEECH}]"]
        with faulty_servers(served, 1) as bases:
            _world(tmp_path, served, bases, 24)
            with monkeypatch.context() as broken, pytest.raises(RuntimeError, match="killed"):
                broken.setattr(audio_stage, "_keys", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
                _here(_config(tmp_path, bases[0], *whole))
            before = Counter(served.asked)
            _here(_config(tmp_path, bases[0], *whole, "limit=6"))
            assert served.asked == before
        assert len(_pairs(tmp_path / "run", SPEECH)) == 6

    @pytest.mark.slow
    @pytest.mark.thorough
    def test_recordings_that_are_kept_are_not_asked_for_again(self, served: Served, tmp_path: Path) -> None:
        with faulty_servers(served, 1) as bases:
            world = _world(tmp_path, served, bases)
            _here(_config(tmp_path, bases[0], "audio.keep_recordings=true"))
            had = Counter(served.wholes)
            _here(_config(tmp_path, bases[0], "audio.keep_recordings=true", "corpus.audio_format=opus"))
            again = {path.split("/")[1] for path in served.wholes - had}
            assert again <= {"html", "robots.txt"}  # of which nothing could be kept
        row = next(iter(_pairs(tmp_path / "run", SPEECH, "corpus")))
        assert row["src_audio"]["path"].endswith(".ogg")  # type: ignore[index]
        kept = list((tmp_path / "run" / "sources").glob("??/*"))
        assert {path.read_bytes() for path in kept} <= set(world.files.values()) and kept
        assert not list((tmp_path / "run/state/published/downloads").glob("*"))

    def test_a_shard_that_two_do_is_fetched_once(self, served: Served, tmp_path: Path) -> None:
        """As when a task was given up for lost and is not: the other waits, and takes what it has done."""
        with faulty_servers(served, 1) as bases:
            _world(tmp_path, served, bases, 20)
            context = RebuildContext(_config(tmp_path, bases[0]), str(tmp_path / "run"), "cpu", 1, "here")
            for level in LEVELS[:2]:
                for task in begin_stage(plan_stage(level[0], context), context.folder):
                    do_and_mark(task, context)
            shard = begin_stage(plan_stage("audio", context), context.folder)[0]
            both = [begun(do_and_mark, shard, context) for _ in range(2)]
            for one in both:
                one.join()
        assert [one.exitcode for one in both] == [0, 0]
        assert max(served.wholes.values()) == 1 and max(served.asked.values()) <= 3

    @pytest.mark.slow
    def test_it_opens_as_a_run_does(self, served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with faulty_servers(served, 1) as bases:
            world = _world(tmp_path, served, bases, 20)
            _here(_config(tmp_path, bases[0]))
        root = str(tmp_path / "run")
        with open_run(root) as opened:
            assert sorted(opened.directions) == [SPEECH, TEXT]
            kept = sum(count for direction in (SPEECH, TEXT) if (count := world.counts(direction)[None]))
            assert opened.sql("select count(*) as n from pairs where kept").arrow().to_pylist() == [{"n": kept}]
            with pytest.raises(InputError, match="has a cosine"):
                opened.plot_cosines(SPEECH)
        assert main(["export", root, "--to", str(tmp_path / "out")]) == 0
        assert main(["report", root]) == 0
        page = Page((tmp_path / "run" / "report.html").read_text("utf-8"))
        assert page.row("lines of metadata")[1:3] == ["40", "40"] and page.row("audio.urls_per_shard")[1] == "6"
        assert "missing.tsv" in page.text and "cosine nan" not in page.text and "languages asked for" not in page.text
        assert main(["status", root]) == 0 and "missing.tsv" in capsys.readouterr().out

    def test_a_pair_of_text_from_elsewhere_has_a_reason(self, served: Served, tmp_path: Path) -> None:
        with faulty_servers(served, 1) as bases:
            world = _world(tmp_path, served, bases, 4)
            world.lines = [line.replace("crawl-data/", "other-data/") for line in world.lines]
            world.write(tmp_path / "metadata.tsv.gz")
            _here(_config(tmp_path, bases[0]))
        assert {row["drop_reason"] for row in _pairs(tmp_path / "run", TEXT)} == {"not_common_crawl"}


class TestKept:
    def _kept(self, folder: Path, *more: str) -> KeptRecordings:
        return KeptRecordings(RebuildContext(_config(folder, "http://x", *more), str(folder / "run"), "cpu", 1, "here"))

    def test_so_much_as_there_is_room_for(self, tmp_path: Path) -> None:
        names = ("a", "b", "c")
        for number, name in enumerate(names):
            (tmp_path / name).write_bytes(bytes([number]) * 500)
        kept = self._kept(tmp_path, f"audio.kept_gb={1100 / 2**30}")
        for name in names:
            kept.keep(f"http://x/{name}", tmp_path / name, storage.sha256_of(tmp_path / name))
        kept.keep("http://x/other", tmp_path / "a", storage.sha256_of(tmp_path / "a"))  # the same again takes no room
        found = {name: kept.find(f"http://x/{name}", tmp_path / "copy") for name in (*names, "other", "none")}
        assert [name for name, path in found.items() if path is not None] == ["a", "b", "other"]
        assert found["b"] is not None and found["b"].read_bytes() == (tmp_path / "b").read_bytes()
        every = self._kept(tmp_path, "audio.keep_recordings=true")
        every.keep("http://x/c", tmp_path / "c", storage.sha256_of(tmp_path / "c"))
        assert every.find("http://x/c", tmp_path / "copy") is not None

    def test_what_is_damaged_is_not_taken(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"as it came")
        kept = self._kept(tmp_path)
        kept.keep("http://x/a", tmp_path / "a", storage.sha256_of(tmp_path / "a"))
        path = kept.find("http://x/a", tmp_path / "copy")
        assert path is not None
        path.chmod(0o644)
        path.write_bytes(b"as it is now")
        assert kept.find("http://x/a", tmp_path / "copy") is None and not path.exists()

    def test_in_a_store_it_is_found_too(self, s3_bucket: str, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"as it came")
        config = _config(tmp_path, "http://x", "audio.keep_recordings=true")
        kept = KeptRecordings(RebuildContext(config, f"{s3_bucket}/run", "cpu", 1, "here"))
        kept.keep("http://x/a", tmp_path / "a", storage.sha256_of(tmp_path / "a"))
        found = kept.find("http://x/a", tmp_path / "copy")
        assert found == tmp_path / "copy" and found.read_bytes() == b"as it came"
        assert kept.find("http://x/b", tmp_path / "copy") is None


class TestAgain:
    @pytest.mark.slow
    def test_only_what_was_lost_is_asked_for_again(self, served: Served, tmp_path: Path) -> None:
        world = World()
        make_files(world, FORMATS, [4.0, 5.0, 6.0, 7.0, 8.0])
        served.files = world.files
        with faulty_servers(served, 1) as bases:
            shares = {"status500": 0.3, "missing": 0.2, "breaks": 0.2}
            make_pairs(world, bases, urls=20, pairs=40, shares=shares, wet_files=2)
            world.write(tmp_path / "metadata.tsv.gz")
            context = _here(_config(tmp_path, bases[0]))
            assert Counter(row["drop_reason"] for row in _pairs(tmp_path / "run", TEXT)) == world.counts(TEXT)
            before = {row["pair_id"]: row for row in _pairs(tmp_path / "run", TEXT, "corpus")}
            asked = Counter(served.asked)
            served.mended = {"status500"}
            _try_again(context, frozenset({"server_error"}))
            _here(context.config)
        more = served.asked - asked
        assert {path.split("/")[1] for path in more} <= {"status500", "robots.txt"}
        assert sum("status500" in path for path in more) == sum(fault == "status500" for fault in world.urls.values())
        reasons = {reason if reason != "server_error" else None for reason in world.expected.values()}
        rows = _pairs(tmp_path / "run", TEXT)
        assert {row["drop_reason"] for row in rows} == reasons == {None, "missing"}
        after = {row["pair_id"]: row for row in _pairs(tmp_path / "run", TEXT, "corpus")}
        assert before.items() <= after.items() and len(after) > len(before)
        assert not list((tmp_path / "run").glob("state/published/pieces/part-*"))


class TestShares:
    def test_a_host_is_in_as_few_shards_as_may_be(self) -> None:
        urls = {f"https://h{host}.org/{number}": 1 for host in range(30) for number in range(host)}
        urls |= {f"https://big.org/{number}": 1 for number in range(1000)}
        shards = share_stage._shards_of_hosts(urls, 100)
        assert sorted(url for some in shards for url in some) == sorted(urls)
        assert max(map(len, shards)) == 100
        hosts = Counter(host for some in shards for host in {url.split("/")[2] for url in some})
        assert hosts.pop("big.org") == 10 and set(hosts.values()) == {1}

    def test_large_hosts_take_turns(self) -> None:
        urls = {f"https://{host}.org/{number}": 1 for host in "ab" for number in range(30)}
        shards = share_stage._shards_of_hosts(urls, 10)
        assert [some[0].split("/")[2][0] for some in shards] == list("ababab")

    def test_rows_of_a_part_are_found_by_footers(self, tmp_path: Path) -> None:
        rng, uris, rows = np.random.default_rng(0), [], []
        for file in range(3):
            some = sorted({(int(home), int(row), 0) for home, row in rng.integers(0, 9, (40, 2))})
            rows += some
            table = {name: [one[at] for one in some] for at, name in enumerate(("home", "row", "side"))}
            empty = dict.fromkeys(CLIPS_SCHEMA.names[3:], [None] * len(some))
            uri = str(tmp_path / f"{file}.parquet")
            storage.write_table(uri, pa.Table.from_pydict({**table, **empty}, schema=CLIPS_SCHEMA), row_group_size=4)
            uris.append(uri)
        for home in range(10):
            found = RowsOfHome(uris, home).read(2, 6)
            there = (
                sorted(zip(*(found.column(name).to_pylist() for name in ("home", "row", "side")), strict=True))
                if found
                else []
            )
            assert there == sorted(one for one in rows if one[0] == home and 2 <= one[1] < 6)


class TestWords:
    def test_directions_as_published(self) -> None:
        assert direction_of("enA-frA") == "enA-frA" and direction_of("eng-rnA") == "eng-roA"
        with pytest.raises(ConfigError, match="no direction"):
            direction_of("enA")

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["fetch.robot=true"], "unknown key 'fetch.robot'; did you mean 'robots'"),
            (["fetch.requests_per_second=0"], "fetch.requests_per_second"),
            (["fetch.contact=Zoë"], "plain ASCII"),
            (["--direction", "enA-xxA"], "xx"),
            (["--limit", "0"], "limit"),
            ([], "there is no such file"),
        ],
    )
    def test_what_is_wrong_is_one_line(
        self, words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["import-metadata", str(tmp_path / "none.tsv"), "--to", str(tmp_path / "run"), *words]) == 2
        err = capsys.readouterr().err
        assert told in err and err.count("\n") == 1

    @pytest.mark.parametrize(("key", "words"), [("common_crawl", ["--common-crawl"]), ("audio.root", ["--root"])])
    def test_a_folder_that_is_not_there_is_told_before_anything_is_done(
        self, key: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "a.tsv").write_text("x\n")
        told = ["import-metadata", str(tmp_path / "a.tsv"), "--to", str(tmp_path / "run"), *words, str(tmp_path / "no")]
        assert main(told) == 2 and not (tmp_path / "run").exists()
        assert capsys.readouterr().err == f"seamlessalign: {key}: {tmp_path / 'no'}: there is no such folder\n"

    def test_a_folder_of_a_run_is_not_taken(self, tmp_path: Path) -> None:
        (tmp_path / "run.yaml").write_text("directions: [eng-frA]\n")
        config = load_rebuild_config({"metadata": [str(tmp_path / "a.tsv")], "output": str(tmp_path)}, [])
        with pytest.raises(InputError, match="is the folder of a run"):
            rebuild(config)

    def test_and_one_of_a_rebuilding_is_not_run(self, tmp_path: Path) -> None:
        (tmp_path / "run.yaml").write_text("metadata: [a.tsv]\n")
        with pytest.raises(ConfigError, match="rebuilt from metadata"):
            load_config(str(tmp_path / "run.yaml"))

    def test_who_asks(self) -> None:
        given = {"metadata": ["a"], "output": "b"}
        access = load_rebuild_config(given, ["fetch.contact=mailto:me@there.org"]).fetch.access()
        assert access.user_agent == "seamlessalign (mailto:me@there.org)" and access.seconds == 3600
        assert not access.allow_private and not access.allow_local  # lists of others may name what is inside


@pytest.mark.slow
def test_killed_and_started_again(served: Served, tmp_path: Path) -> None:
    """2,000 lines with all faults: each becomes what it must, and what had come is not asked for again."""
    with faulty_servers(served, 3) as bases:
        world = make_world(bases, served, 90, 1000, 4.0)
        outcome = rebuilt(world, served, tmp_path, bases[0], 1)
    assert outcome.wrong == [] and outcome.kills == 1 and outcome.lines == 2000
    assert outcome.asked_again == [] and served.agents == {"seamlessalign"}
    assert len(outcome.reasons) >= 9


@pytest.fixture
def small(served: Served, tmp_path: Path) -> Iterator[tuple[Path, list[str]]]:
    with faulty_servers(served, 2) as bases:
        _world(tmp_path, served, bases, 40)
        yield tmp_path, bases


def _corpus(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.glob("corpus/*/*.parquet"))}


@pytest.mark.slow
def test_on_beam_it_is_the_same(small: tuple[Path, list[str]]) -> None:
    folder, bases = small
    _here(_config(folder, bases[0]))
    result = rebuild(_config(folder, bases[0]).model_copy(update={"output": str(folder / "beam")}), "beam")
    assert result.exit_status == 3 and _corpus(folder / "beam") == _corpus(folder / "run")
    assert main(["status", str(folder / "beam"), "--verify"]) == 0


@pytest.mark.slow
@pytest.mark.thorough
def test_on_a_job_server_it_is_the_same(small: tuple[Path, list[str]]) -> None:
    """As on Flink or Spark: workers get what they need from the pipeline and the folder alone."""
    folder, bases = small
    _here(_config(folder, bases[0]))
    with job_server(folder) as address:
        options = ["--runner=PortableRunner", f"--job_endpoint={address}", "--environment_type=LOOPBACK"]
        config = _config(folder, bases[0]).model_copy(update={"output": str(folder / "beam")})
        assert rebuild(config, "beam", options).exit_status == 3
    assert _corpus(folder / "beam") == _corpus(folder / "run")


@pytest.mark.slow
@pytest.mark.thorough
def test_on_slurm_it_is_the_same(small: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason="needs the extra 'slurm'")
    folder, bases = small
    monkeypatch.setenv("HOME", str(folder / "home"))
    _here(_config(folder, bases[0]))
    asks = ["resources.slurm.memory_gb=1.5", "resources.slurm.cpus=1", "resources.slurm.minutes=5"]
    (folder / "daemons").mkdir()
    with slurm(folder / "daemons"):
        command = [sys.executable, "-m", "seamlessalign", "import-metadata", str(folder / "metadata.tsv.gz"), *QUICK]
        command += [*asks, "--to", str(folder / "slurm"), "--common-crawl", bases[0], "--executor", "slurm"]
        done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=False)
    assert done.returncode == 3, done.stderr
    assert _corpus(folder / "slurm") == _corpus(folder / "run")
    assert RunFolder(str(folder / "slurm")).ledger and "pairs: 20 = " in done.stdout
