"""What more than one room needs: one thread, no models from outside, and an S3 server on this machine."""

import gc
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from uuid import uuid4

import pytest
from hypothesis import settings

pytest_plugins = ["tests.faults.told_counts"]  # here, since with pytest-xdist no other conftest.py is read by who tells

# Before anything loads OpenMP: on a busy machine, threads that wait for each other slow small models a hundredfold.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell lets what it starts in the background ignore Ctrl-C, and so would every program that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes depends on what else the machine does.
settings.register_profile("untimed", settings.default, deadline=None)
settings.load_profile("untimed")

gc.disable()  # until all tests are collected: of what modules set up when they are imported, nothing is garbage


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`make test-slow` collects only files with the words mark.slow: no other has slow tests."""
    for file in {item.path for item in items if item.get_closest_marker("slow")}:
        if "mark.slow" not in file.read_text(encoding="utf-8"):
            raise pytest.UsageError(f"{file}: has slow tests, and the words mark.slow nowhere")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Let the collector work from then on, without what was imported."""
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests counted of what they tried (`tests/faults/conftest.py`), whichever process ran them."""
    counts: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "teardown":
                counts.update(json.loads(dict(report.user_properties).get("counted", "{}")))
    if counts:
        terminalreporter.section("faults tried")
        for what, number in sorted(counts.items()):
            terminalreporter.write_line(f"{number:>12,} {what}")


@pytest.fixture(autouse=True)
def _only_what_a_test_puts_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests neither reach a model hub nor see the models of whoever runs them."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("SEAMLESSALIGN_MODELS", raising=False)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Address of moto's S3 server on the loopback interface."""
    server_module = pytest.importorskip("moto.server", reason="needs moto[server] of the extra 'dev'")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Uri of an empty bucket that lasts for one test."""
    boto3 = pytest.importorskip("boto3", reason="needs moto[server] of the extra 'dev'")
    s3fs = pytest.importorskip("s3fs", reason="needs the extra 's3'")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"bucket-{uuid4().hex}"
    boto3.client("s3").create_bucket(Bucket=name)
    yield f"s3://{name}"
    s3fs.S3FileSystem.clear_instance_cache()
