"""A whole run on runners of Beam: the bytes of a local run, and the graph that Dataflow would get."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO
from unittest import mock

import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.portability.common_urns import resource_hints

from seamlessalign.config import load_config
from seamlessalign.errors import ConfigError, SeamlessAlignError
from seamlessalign.pipelines.beam_run import GPU_STAGES, BeamRun, _plan
from seamlessalign.pipelines.driver import JobResult
from seamlessalign.pipelines.folder import STAGES, RunFolder
from seamlessalign.pipelines.inputs import Shard
from seamlessalign.pipelines.ledger import read_marks, read_plan
from seamlessalign.pipelines.run import RunInputs, run
from seamlessalign.pipelines.shard_task import ShardTask
from seamlessalign.pipelines.status import read_status
from seamlessalign.pipelines.task_log import read_log
from seamlessalign.typed_config import digest
from tests.faults.tiny_run import STATUS, write_tiny_corpus
from tests.pipelines.made_sides import config_of, context_of
from tests.pipelines.small_corpus import (
    SmallRun,
    command,
    complaint,
    environment,
    finished_run,
    hashes,
    mine,
    program,
)

ACCELERATOR = "type:nvidia-l4;count:1;install-nvidia-driver"
IMAGE = "region-docker.pkg.dev/our-project/speech/seamlessalign:1"


def _on_beam(whole: SmallRun, folder: Path, *options: str, overrides: tuple[str, ...] = ()) -> SmallRun:
    behind = ["--", *options] if options else []
    done = program("run", whole.config, "--output", folder, *overrides, "--executor", "beam", *behind)
    return SmallRun(whole.config, folder, done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A finished local run."""
    made = finished_run(tmp_path_factory.getbasetemp())
    assert made.status == 0, made.err
    return made


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A finished local run with models of a few numbers, for what does not depend on how long a shard takes."""
    root = tmp_path_factory.mktemp("tiny")
    made = mine(write_tiny_corpus(root / "in"), root / "run")
    assert made.status == STATUS, made.err
    return made


@contextmanager
def job_server(folder: Path) -> Iterator[str]:
    """Beam's own job server, which speaks to programs as that of Flink or Spark does; yields its address."""
    command = [sys.executable, "-m", "apache_beam.runners.portability.local_job_service_main"]
    files = ["--port_file", str(folder / "port"), "--staging_dir", str(folder / "staged")]
    server = subprocess.Popen([*command, *files], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while not (folder / "port").exists() or not (folder / "port").read_text():
            assert server.poll() is None and time.monotonic() < until, "the job server did not start"
            time.sleep(0.1)
        yield f"localhost:{(folder / 'port').read_text()}"
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.slow
@pytest.mark.embedded
class TestSameBytesAsLocally:
    def test_in_memory_and_again(self, whole: SmallRun, tmp_path: Path) -> None:
        done = _on_beam(whole, tmp_path / "run")
        assert done.status == 0, done.err
        assert hashes(done.folder) == hashes(whole.folder)
        status = read_status(str(done.folder))
        assert status["state"] == "done"
        assert {stage: numbers["done"] for stage, numbers in status["stages"].items()} == {
            stage: len(read_plan(RunFolder(str(whole.folder)), stage) or {}) for stage in STAGES
        }
        marked = {stage: read_marks(RunFolder(str(done.folder)), stage) for stage in STAGES}
        again = _on_beam(whole, tmp_path / "run")
        assert again.status == 0, again.err
        assert {stage: read_marks(RunFolder(str(done.folder)), stage) for stage in STAGES} == marked
        # what Beam left half done a local run takes up, and the other way round
        for mark in (done.folder / "state" / "done" / "mine").iterdir():
            mark.unlink()
        assert mine(whole.config, done.folder).status == 0
        assert hashes(done.folder) == hashes(whole.folder)

    def test_two_worker_processes(self, whole: SmallRun, tmp_path: Path) -> None:
        done = _on_beam(whole, tmp_path / "run", "--direct_running_mode=multi_processing", "--direct_num_workers=2")
        assert done.status == 0, done.err
        assert hashes(done.folder) == hashes(whole.folder)
        assert len(_processes(done.folder)) == 2

    def test_a_job_server(self, tiny: SmallRun, tmp_path: Path) -> None:
        with job_server(tmp_path) as address:
            options = ["--runner=PortableRunner", f"--job_endpoint={address}", "--environment_type=LOOPBACK"]
            done = _on_beam(tiny, tmp_path / "run", *options)
        assert done.status == STATUS, done.err
        assert hashes(done.folder) == hashes(tiny.folder)

    def test_an_error_of_a_shard_is_one_line_and_the_run_goes_on(self, tiny: SmallRun, tmp_path: Path) -> None:
        folder = tmp_path / "run"
        (folder / "state" / "done").mkdir(parents=True)
        (folder / "state" / "done" / "mine").write_text("in the way of a folder")
        broken = _on_beam(tiny, folder)
        assert broken.status == 2, broken.err
        mark = rf"{re.escape(str(folder))}/state/done/mine/direction=\S+\.json"
        why = "File exists|Not a directory"  # as to whether it is looked at before
        assert re.fullmatch(f"seamlessalign: {mark}: cannot be written: ({why})", complaint(broken.err))
        assert read_status(str(folder))["state"] == "failed"
        heard = read_marks(RunFolder(str(folder)), "speech")
        (folder / "state" / "done" / "mine").unlink()
        assert _on_beam(tiny, folder).status == STATUS
        assert hashes(folder) == hashes(tiny.folder)
        assert len(heard) == 3 and read_marks(RunFolder(str(folder)), "speech") == heard

    def test_ctrl_c(self, whole: SmallRun, tmp_path: Path) -> None:
        """In the middle of a shard, where it reaches Beam as an error of that shard."""
        folder = tmp_path / "run"
        started = subprocess.Popen(
            command("run", whole.config, "--output", folder, "--executor", "beam"),
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment(), start_new_session=True,
        )  # fmt: skip
        try:
            until = time.monotonic() + 120
            while not list((folder / "logs" / "speech").glob("part-*.jsonl")):
                assert started.poll() is None and time.monotonic() < until
                time.sleep(0.05)
            os.killpg(started.pid, signal.SIGINT)
            _, err = started.communicate(timeout=60)
        finally:
            if started.poll() is None:
                os.killpg(started.pid, signal.SIGKILL)
        assert complaint(err) == "seamlessalign: stopped; the same command goes on from here"
        assert started.returncode == 1 and read_status(str(folder))["state"] == "stopped"
        assert _on_beam(whole, folder).status == 0
        assert hashes(folder) == hashes(whole.folder)


def _processes(folder: Path) -> set[int]:
    """Which processes did shards of speech."""
    names = (file.stem for file in (folder / "logs" / "speech").iterdir())
    events = [event for name in names for event in read_log(RunFolder(str(folder)), "speech", name)]
    return {event["process"] for event in events if event["event"] == "begun" and event["digest"]}


class TestGraph:
    def test_stages_wait_for_those_before_and_have_hints(self, tmp_path: Path) -> None:
        resources = {"device": "cuda", "beam": {"accelerator": ACCELERATOR, "memory_gb": 24}}
        config = config_of(tmp_path, ["eng-frA"], resources=resources)
        pipeline = BeamRun(config, ["--runner=SparkRunner"]).build()
        proto, _ = pipeline.to_runner_api(return_context=True)
        transforms = {transform.unique_name: transform for transform in proto.components.transforms.values()}
        for stage in STAGES:
            hints = _hints(proto, transforms[f"{stage}: do"])
            assert hints[resource_hints.MIN_RAM_BYTES.urn] == str(24 * 10**9)
            assert hints.get(resource_hints.ACCELERATOR.urn) == (ACCELERATOR if stage in GPU_STAGES else None)
            assert f"{stage}: spread" in transforms
        for before, stage in (("speech", "decoys"), ("text", "decoys"), *pairwise(STAGES[2:])):
            (ended,) = transforms[f"{before}: end"].outputs.values()
            assert ended in transforms[f"{stage}: plan"].inputs.values() or _leads(transforms, ended, stage)

    def test_options_come_from_configuration_and_command_line(self, tmp_path: Path) -> None:
        options = {"runner": "SparkRunner", "experiments": ["one", "two"], "streaming": False, "update": True}
        config = config_of(tmp_path, ["eng-frA"], resources={"beam": {"options": options}})
        flags = config.resources.beam.flags()
        assert flags == ["--runner=SparkRunner", "--experiments=one", "--experiments=two", "--update"]
        made = BeamRun(config, ["--runner=FlinkRunner"])
        assert made._runner == "FlinkRunner"  # the command line has the last word

    def test_an_option_that_no_runner_knows_is_told_and_passed_on(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        made = BeamRun(config_of(tmp_path, ["eng-frA"]), ["--runner=FlinkRunner", "--flink_msater=a:8081"])
        assert "--flink_msater is none that Beam knows" in caplog.text
        kept = made._options.get_all_options(retain_unknown_options=True)
        assert kept["flink_msater"] == "a:8081"

    def test_a_value_that_an_option_may_not_have_is_one_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(ConfigError, match=r"^options of the runner: .*--direct_num_workers.*'many'$"):
            BeamRun(config_of(tmp_path, ["eng-frA"]), ["--direct_num_workers=many"])
        assert capsys.readouterr().err == ""

    def test_a_job_plans_nothing_from_the_inputs_of_another_driver(self, tmp_path: Path) -> None:
        """Which wrote down its own while a job went on whose driver had died."""
        context = context_of(config_of(tmp_path, ["eng-frA"]))
        tasks = [ShardTask("speech", f"part-{number}", f"d{number}", Shard(f"part-{number}", ())) for number in (0, 1)]
        old, new = RunInputs({}, tasks[:1], []), RunInputs({}, tasks, [])
        old.write(context.folder)
        assert _plan("speech", context, 1, digest(*old.digests)).tasks == tasks[:1]
        new.write(context.folder)
        for stage in ("speech", "text", "gather"):
            with pytest.raises(SeamlessAlignError, match="another driver has begun here, with other inputs"):
                _plan(stage, context, 1, digest(*old.digests))
        assert _plan("speech", context, 1, digest(*new.digests)).tasks == tasks

    def test_options_without_the_executor_are_refused(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(ConfigError, match=r"--runner=x: options of a runner need --executor beam"):
            run(config_of(tmp_path, ["eng-frA"]), "local", ["--runner=x"])


@pytest.mark.embedded
class TestDataflow:
    """Built to the job that the service would get, which cannot be had here: uploads are caught."""

    @pytest.fixture
    def uploads(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
        pytest.importorskip("apitools", reason="needs the extra 'gcp'")
        from apache_beam.options.pipeline_options import GoogleCloudOptions
        from apache_beam.runners.dataflow.internal.apiclient import DataflowApplicationClient
        from google.auth.credentials import AnonymousCredentials

        monkeypatch.setenv("NO_GCE_CHECK", "true")
        caught: dict[str, bytes] = {}
        locally = DataflowApplicationClient.stage_file

        def stage_file(self: Any, folder: str, name: str, stream: BinaryIO, *about: Any, **more: Any) -> None:
            if not folder.startswith("gs://"):
                locally(self, folder, name, stream, *about, **more)
            else:
                caught[name] = stream.read()

        with (
            mock.patch.object(DataflowApplicationClient, "stage_file", stage_file),
            mock.patch.object(DataflowApplicationClient, "_gcs_file_copy", lambda *_: None),
            mock.patch.object(GoogleCloudOptions, "_handle_temp_and_staging_locations", lambda *_: []),
            mock.patch("google.auth.default", return_value=(AnonymousCredentials(), "our-project")),  # type: ignore[no-untyped-call]
        ):
            yield caught

    def _build(self, whole: SmallRun, output: Path, *flags: str) -> JobResult:
        overrides = [f"resources.beam.accelerator={ACCELERATOR}", "resources.beam.memory_gb=24"]
        return run(
            load_config(str(whole.config), overrides, output=str(output)),
            "beam",
            [
                "--runner=DataflowRunner",
                "--project=our-project",
                "--region=us-central1",
                "--temp_location=gs://bucket/tmp",
                f"--sdk_container_image={IMAGE}",
                *flags,
            ],
        )

    def test_the_job_has_all_stages_with_their_hints(
        self, whole: SmallRun, tmp_path: Path, uploads: dict[str, bytes]
    ) -> None:
        result = self._build(whole, tmp_path / "run", f"--template_location={tmp_path / 'job.json'}")
        assert result.is_built_only
        job = json.loads((tmp_path / "job.json").read_text())
        (pool,) = job["environment"]["workerPools"]
        assert job["type"] == "JOB_TYPE_BATCH" and pool["numThreadsPerWorker"] == 1
        assert {image["containerImage"] for image in pool["sdkHarnessContainerImages"]} == {IMAGE}
        proto = beam_runner_api_pb2.Pipeline.FromString(uploads["pipeline.pb"])
        transforms = {transform.unique_name: transform for transform in proto.components.transforms.values()}
        for stage in STAGES:
            hints = _hints(proto, transforms[f"{stage}: do"])
            assert hints.get(resource_hints.ACCELERATOR.urn) == (ACCELERATOR if stage in GPU_STAGES else None)
        # what the workers read are the shards, which are not in the graph
        assert len((tmp_path / "run/state/inputs/speech.jsonl").read_text().splitlines()) == 5
        assert not (tmp_path / "run/ledger.parquet").exists()

    def test_a_job_that_asks_for_nonsense_is_one_line(
        self, whole: SmallRun, tmp_path: Path, uploads: dict[str, bytes]
    ) -> None:
        with pytest.raises(ConfigError, match=r"DataflowRunner: .*Invalid Project ID"):
            self._build(whole, tmp_path / "run", "--project=p", f"--template_location={tmp_path / 'job.json'}")

    def test_workers_cannot_reach_a_local_folder(self, whole: SmallRun, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="workers of Dataflow cannot reach this folder: give one on gs://"):
            self._build(whole, tmp_path / "run")


def _hints(proto: Any, transform: Any) -> dict[str, str]:
    environment = proto.components.environments[transform.environment_id]
    return {urn: value.decode() for urn, value in environment.resource_hints.items()}


def _leads(transforms: dict[str, Any], collection: str, stage: str) -> bool:
    """Whether a collection reaches the plan of a stage through views of side inputs."""
    reached = {collection}
    for _ in range(6):
        for transform in transforms.values():
            if reached.intersection(transform.inputs.values()):
                reached.update(transform.outputs.values())
                if transform.unique_name == f"{stage}: plan":
                    return True
    return False
