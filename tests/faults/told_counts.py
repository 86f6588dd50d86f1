"""Tells at the end what the tests of faults have counted, also where they ran in several processes."""

from typing import Any

import pytest

from tests.faults.counts import COUNTS, count_all


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what a worker of pytest-xdist has counted to the process that tells it."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["counts of faults"] = dict(COUNTS)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take in what a worker has counted."""
    count_all(getattr(node, "workeroutput", {}).get("counts of faults", {}))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the counts."""
    if COUNTS:
        terminalreporter.section("counted by tests of faults")
        for name, number in sorted(COUNTS.items()):
            terminalreporter.line(f"{number:>14,}  {name}")
