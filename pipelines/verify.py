"""The proof that a run has lost nothing: for every stage in = kept + Σ dropped[reason], by id and by samples.

Ids are read from the tables and followed from the inputs to the corpus; docs/runs.md says at what cost. At the end of a
run all of this is done but for reading every table from end to end; of a very large run, the counts.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from seamlessalign import storage
from seamlessalign.errors import InputError, SeamlessAlignError, StorageError
from seamlessalign.languages import Direction
from seamlessalign.pipelines.folder import REBUILD_STAGES, SIDE_STAGES, RunFolder, stages_of
from seamlessalign.pipelines.published.prove import check_lines, check_rebuilt
from seamlessalign.pipelines.status import run_state
from seamlessalign.pipelines.verify_files import Check, check_data, check_files, check_ledger, read_marked
from seamlessalign.pipelines.verify_pairs import check_gather, check_pairs, check_search
from seamlessalign.pipelines.verify_rows import (
    KeptRecordings,
    SideRows,
    Sides,
    check_recordings,
    check_segments,
    check_sentences,
)
from seamlessalign.pipelines.verify_sides import check_sides
from seamlessalign.typed_config import parse_written_yaml

log = logging.getLogger(__name__)

_MOST_TOLD = 200  # differences of one check that are shown
_MOST_ROWS = 20_000_000  # of a run whose ids are all looked at when it ends: a minute or two
_MOST_SHARDS = 20_000  # of the same: each is some files to open, about a millisecond


def verify_run(root: str, *, data: bool = True) -> Iterator[Check]:
    """Check a run that is not at work; each check comes as it ends.

    data: also read every column of every table, with the checksums of its pages.

    Raises InputError where the folder is not a run, or one at work.
    """
    folder = RunFolder(root)
    if run_state(folder) in ("running", "waiting"):
        raise InputError(f"{root}: the run is at work; it can be verified when it has ended")
    yield from _checks(folder, data=data)


def prove(folder: RunFolder) -> None:
    """Check a run that has just ended. Raises SeamlessAlignError naming the first difference."""
    checks = _checks(folder, data=False, most=(_MOST_ROWS, _MOST_SHARDS))
    wrong = [sentence for check in checks for sentence in check.wrong]
    if wrong:
        more = f" ({len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise SeamlessAlignError(
            f"{folder.root}: the counts do not balance: {wrong[0]}{more}; seamlessalign status --verify tells all"
        )


def _checks(folder: RunFolder, *, data: bool, most: tuple[int, int] | None = None) -> Iterator[Check]:
    """Checks, one by one. `most`: rows and shards of a run beyond which only counts are compared."""
    first = Check("shards")
    marked = read_marked(folder, first)
    yield first
    yield _done("ledger", check_ledger, marked)
    yield _done("files", check_files, marked)
    rows = sum(line.rows_in for line in marked.lines() if line.stage in ("segments", "sentences", "pairs"))
    shards = sum(map(len, marked.marks.values()))
    if most is not None and (rows > most[0] or shards > most[1]):
        told = "%d rows in %d shards: their counts balance; seamlessalign status --verify compares their ids too"
        log.warning(told, rows, shards)
        return
    if stages_of(folder) == REBUILD_STAGES:
        yield _done("lines", check_lines, marked)
        yield _done("pairs", check_rebuilt, marked)
        if data:
            yield _done("data", check_data, marked)
        return
    sides, kept = _sides(folder), dict[str, KeptRecordings]()
    yield _done("recordings", check_recordings, marked, kept)
    yield _done("segments", check_segments, marked, kept, sides)
    yield _done("sentences", check_sentences, marked, sides)
    yield _done("gather", check_gather, marked, sides)
    yield _done("search", check_search, marked)
    corpus = Check("corpus")
    yield _done("pairs", check_pairs, corpus, marked, sides)
    yield corpus
    for stage in SIDE_STAGES:
        if stage in marked.plans:
            yield _done(stage, check_sides, marked, stage)
    if data:
        yield _done("data", check_data, marked)


def _done(name: str, look: Callable[..., None], *about: Any) -> Check:
    """A check that was done, as far as what is damaged lets it."""
    check = Check(name)
    try:
        look(check, *about)
    except StorageError as error:
        check.tell(name, f"cannot be checked to the end: {error}")
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError) as error:
        check.tell(name, f"cannot be checked to the end: {error.__class__.__name__}: {' '.join(str(error).split())}")
    return check


def check_text(check: Check) -> str:
    """What a check found, for people: a line, and one for each difference."""
    wrong = len(check.wrong)
    lines = [f"{check.name:<10} {'ok' if not wrong else f'{wrong} WRONG'}: {check.summary}"]
    lines += [f"  {sentence}" for sentence in check.wrong[:_MOST_TOLD]]
    if wrong > _MOST_TOLD:
        lines.append(f"  and {wrong - _MOST_TOLD} more")
    return "\n".join(lines)


def _sides(folder: RunFolder) -> Sides:
    """The sides that the run mines."""
    raw = parse_written_yaml(storage.read_bytes(folder.config))
    directions = [Direction.parse(name) for name in raw.get("directions", [])]
    sides = [side for direction in directions for side in (direction.src, direction.tgt)]
    return {(side.is_audio, side.lang): SideRows(side) for side in sides}
