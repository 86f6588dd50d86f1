"""Whole runs in a store that fails: the tables of a run in a local folder, and at no moment a part of one.

Recordings, texts and the run's folder are all in the store, which the program reaches through a proxy that breaks what
stores break (`faulty_s3`). What lies there is looked at behind the proxy's back.
"""

import hashlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.faults.counts import count, count_all
from tests.faults.faulty_s3 import Faults, FaultyS3, faulty_s3
from tests.pipelines.small_corpus import (
    RECORDINGS,
    TABLES,
    SmallRun,
    command,
    complaint,
    environment,
    hashes,
    mine,
    need_models,
    program,
    write_corpus,
)

pytestmark = [pytest.mark.slow, pytest.mark.embedded]

BUCKET = "runs"
PATIENCE = 600.0  # seconds until what does not come fails the test
FEW = "mining.decoys.count=40"
EVERYTHING = Faults(
    {
        "GET": {"error": 0.03, "slow_down": 0.03, "unavailable": 0.01, "reset": 0.03, "lost": 0.01, "cut": 0.04,
                "broken": 0.03, "stall": 0.01, "drip": 0.02},
        "*": {"error": 0.04, "slow_down": 0.04, "unavailable": 0.02, "reset": 0.04, "lost": 0.04},
    },
    stall_seconds=2.0,
)  # fmt: skip


@dataclass
class Store:
    """The store as it is, without the proxy."""

    client: Any
    endpoint: str

    def keys(self, prefix: str = "") -> list[str]:
        """Keys of all objects, looked up where moto keeps them, in this process.

        Listings that are asked for again and again would take more of its time than the program that is tested.
        """
        from moto.s3.models import s3_backends

        buckets = [backend.buckets for account in s3_backends.values() for backend in account.values()]
        (bucket,) = [some[BUCKET] for some in buckets if BUCKET in some]
        return sorted(key for key in list(bucket.keys) if key.startswith(prefix))

    def read(self, key: str) -> bytes:
        """All bytes of an object."""
        data: bytes = self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return data

    def hashes(self, run: str) -> dict[str, str]:
        """SHA-256 of every object of a run's tables, as `small_corpus.hashes` has those of files."""
        keys = [key for table in (*TABLES, "quarantine") for key in self.keys(f"{run}/{table}/")]
        found = {key.removeprefix(f"{run}/"): self.read(key) for key in keys}
        count("objects compared with those of a local run", len(found))
        count("bytes compared with those of a local run", sum(map(len, found.values())))
        return {name: hashlib.sha256(data).hexdigest() for name, data in found.items()}

    def leftovers(self, run: str) -> list[str]:
        """What nobody should find after a run: uploads in parts, temporary files, leases."""
        uploads = self.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        return [one["Key"] for one in uploads] + [
            key for key in self.keys(f"{run}/") if ".writing-" in key or key.endswith("lock.json")
        ]


@dataclass
class Watcher:
    """Fetches every object of a run's tables as soon as it is there."""

    store: Store
    run: str
    seen: dict[str, bytes] = field(default_factory=dict)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch in a thread, until the end of the block."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(0.05):
                for key in self.store.keys(f"{self.run}/"):
                    if key not in self.seen and _is_whole_for_ever(key):
                        try:
                            self.seen[key] = self.store.read(key)
                        except self.store.client.exceptions.NoSuchKey:  # it has been cleared away meanwhile
                            continue

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def check(self) -> None:
        """Each object was at first sight what it is at last."""
        tables = [key for key in self.seen if key.split("/")[1] in TABLES]
        assert {key.split("/")[1] for key in tables} == set(TABLES)
        for key, data in self.seen.items():
            assert self.store.read(key) == data, key
        count("objects whole at first sight", len(self.seen))
        count("bytes whole at first sight", sum(map(len, self.seen.values())))


def _is_whole_for_ever(key: str) -> bool:
    """Whether an object is written once, or always alike: a table, or what it is made from."""
    return bool(re.search(r"\.(parquet|arrow|npy|safetensors)$", key)) and "ledger" not in key


@pytest.fixture(scope="module")
def store(s3_endpoint: str) -> Iterator[Store]:
    """A store with an empty bucket, which the program finds through the environment."""
    boto3 = pytest.importorskip("boto3", reason="needs moto[server] of the extra 'dev'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
        patch.setenv("FSSPEC_S3", '{"config_kwargs": {"read_timeout": 20}}')
        client = boto3.client("s3", endpoint_url=s3_endpoint)
        client.create_bucket(Bucket=BUCKET)
        yield Store(client, s3_endpoint)


@pytest.fixture(scope="module")
def whole(store: Store, tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A run over inputs in the store, in a local folder, with nothing in between."""
    need_models()
    root = tmp_path_factory.mktemp("s3")
    short = {name: (RECORDINGS[name][0], RECORDINGS[name][1][:1]) for name in ("fra-0", "spa-0")}
    config = write_corpus(root / "in", short)
    for path in sorted(config.parent.rglob("*")):
        if path.is_file() and path != config:
            key = f"in/{path.relative_to(config.parent)}"
            store.client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
    text = config.read_text().replace("- recordings.jsonl", f"- s3://{BUCKET}/in/recordings.jsonl")
    config.write_text(text.replace("- texts", f"- s3://{BUCKET}/in/texts"))
    for name in ("audio", "texts"):  # so that nothing is read from here by mistake
        (config.parent / name).rename(root / name)
    made = mine(config, root / "run", FEW)
    assert made.status == 0, made.err
    assert {name.split("/")[0] for name in hashes(made.folder)} == set(TABLES)
    return made


@contextmanager
def _faults(store: Store, faults: Faults, seed: int = 0) -> Iterator[FaultyS3]:
    """The program reaches the store through faults."""
    with pytest.MonkeyPatch.context() as patch, faulty_s3(store.endpoint, faults, seed) as proxy:
        patch.setenv("AWS_ENDPOINT_URL", proxy.address)
        try:
            yield proxy
        finally:
            count_all(proxy.requests, "requests to S3: {}")
            count_all(proxy.injected, "faults of S3: {}")


@contextmanager
def _started(config: Path, run: str) -> "Iterator[subprocess.Popen[str]]":
    process = subprocess.Popen(
        command("run", config, "--output", run, FEW), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env=environment(), start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def _wait_for(process: "subprocess.Popen[str]", what: str, moment: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not moment():
        if process.poll() is not None:
            pytest.fail(f"ended before {what}: {process.communicate()[1]}")
        assert time.monotonic() < until, f"{what} did not come"
        time.sleep(0.02)


@pytest.mark.thorough
def test_a_run_under_faults(whole: SmallRun, store: Store) -> None:
    watcher = Watcher(store, "under-faults")
    with _faults(store, EVERYTHING, seed=1) as proxy, watcher.watching():
        done = program("run", whole.config, "--output", f"s3://{BUCKET}/under-faults", FEW)
    assert done.returncode == 0, done.stderr
    assert store.hashes("under-faults") == hashes(whole.folder)
    watcher.check()
    assert store.leftovers("under-faults") == []
    assert f"report: s3://{BUCKET}/under-faults/report.html" in done.stdout
    assert store.read("under-faults/report.html").startswith(b"<!")
    met = {kind for kind, number in proxy.injected.items() if number}
    assert {"error", "slow_down", "reset", "lost", "cut", "broken"} <= met, proxy.injected


def _looked_at_chosen_again_and_exported(whole: SmallRun, store: Store, run: str) -> None:
    url, local = f"s3://{BUCKET}/{run}", whole.copy(whole.folder.parent / run)
    status = program("status", url)
    assert (status.returncode, status.stdout.splitlines()[0]) == (0, f"{url}: done"), status.stderr
    for folder in (url, local):
        chosen = program("filter", folder, "--threshold", "1.1")
        assert chosen.returncode == 0, chosen.stderr
    assert store.hashes(run) == hashes(local) != hashes(whole.folder)
    exported = program("export", url, "--to", f"s3://{BUCKET}/exported")
    assert exported.returncode == 0, exported.stderr
    copies = {store.read(key) for key in store.keys("exported/") if key.endswith(".parquet")}
    assert copies == {store.read(key) for key in store.keys(f"{run}/corpus/")}
    count("commands on runs in S3", 3)


def test_killed_throttled_and_down(whole: SmallRun, store: Store) -> None:
    """One run, whose driver is killed twice; then the store goes down; then it only throttles, for some seconds."""
    run, url = "killed", f"s3://{BUCKET}/killed"
    watcher = Watcher(store, run)
    with _faults(store, EVERYTHING, seed=2) as proxy, watcher.watching():
        for what, place in (
            ("a recording is done", "state/done/speech/"),
            ("a side is gathered", "state/done/gather/"),
        ):
            with _started(whole.config, url) as process:
                _wait_for(process, what, lambda place=place: bool(store.keys(f"{run}/{place}")))  # type: ignore[misc]
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
            count("drivers in S3 killed")
            assert f"{run}/state/lock.json" in store.keys(run)
        with _started(whole.config, url) as process:
            _wait_for(process, "the search begins", lambda: bool(store.keys(f"{run}/state/plan/search.json")))
            proxy.faults = Faults({"*": {"reset": 1.0}})
            _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 2, err
        told = [line for line in err.splitlines() if line.startswith("seamlessalign:")]
        assert re.search(rf"{url}\S*: cannot be .*; gave up after \d+ tries in \d+ s$", told[-1]), err
        assert "Traceback" not in err
        proxy.faults = EVERYTHING
        with _started(whole.config, url) as process:
            _wait_for(process, "it goes on", lambda: bool(store.keys(f"{run}/state/done/search/")))
            proxy.throttled_until = time.monotonic() + 8.0
            _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
        assert proxy.injected["throttled"] > 0
    assert store.hashes(run) == hashes(whole.folder)
    watcher.check()
    assert store.leftovers(run) == []
    with _faults(store, EVERYTHING, seed=3):
        _looked_at_chosen_again_and_exported(whole, store, run)


def test_a_store_that_is_down_from_the_beginning(whole: SmallRun, store: Store) -> None:
    with _faults(store, Faults({"*": {"reset": 1.0}})):
        down = program("run", whole.config, "--output", f"s3://{BUCKET}/down", FEW)
    assert (down.returncode, down.stdout) == (2, "")
    told = [line for line in down.stderr.splitlines() if line.startswith("seamlessalign:")]
    assert re.search(r": s3://runs/in/\S+: cannot be .*; gave up after \d+ tries in \d+ s$", told[-1]), down.stderr
    assert down.stderr.endswith(told[-1] + "\n") and "Traceback" not in down.stderr
    assert store.keys("down/") == []


def test_a_bucket_that_is_not_there_is_one_line(whole: SmallRun, store: Store) -> None:
    failed = program("run", whole.config, "--output", "s3://nobody-made-this/run", FEW)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert "s3://nobody-made-this/run/" in complaint(failed.stderr)
    assert "404 NoSuchBucket" in complaint(failed.stderr)


def test_a_second_driver_is_refused(whole: SmallRun, store: Store) -> None:
    run = f"s3://{BUCKET}/refused"
    with _started(whole.config, run) as process:
        _wait_for(process, "it holds the folder", lambda: "refused/state/lock.json" in store.keys("refused/"))
        second = program("run", whole.config, "--output", run, FEW)
        assert (second.returncode, second.stdout) == (1, "")
        told = complaint(second.stderr)
        assert told.startswith(f"seamlessalign: {run}: another run is at work in this folder (on ")
        assert f"process {process.pid}, since " in told
        assert process.poll() is None
