"""The tiny run in a warm process, what is the same in every such run, and counts of what was tried."""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.crashes import Tiny
from tests.faults.tiny_run import write_tiny_corpus
from tests.faults.warm_program import WarmProgram


@pytest.fixture(scope="package")
def tiny() -> Iterator[Tiny]:
    """The tiny run, finished once, and the warm process, in memory where the system has a disk there."""
    memory = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="seamlessalign-faults-", dir=memory if memory.is_dir() else None))
    try:
        config = write_tiny_corpus(root / "corpus")
        program = WarmProgram(config, root / "warm")
        yield Tiny(config, root, program)
        program.close()
    finally:
        shutil.rmtree(root)


@pytest.fixture
def counted(request: pytest.FixtureRequest) -> Iterator[Counter[str]]:
    """What a test tried, by name; the sums over all tests are shown at the end."""
    counts: Counter[str] = Counter()
    yield counts
    request.node.user_properties.append(("counted", json.dumps(counts)))
