"""The proof that every line of published metadata is accounted for."""

from collections.abc import Iterator

from seamlessalign.errors import SeamlessAlignError
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.published import rebuild_tasks
from seamlessalign.pipelines.verify_files import Check, Marked, check_files, check_ledger, read_marked


def prove_rebuilt(folder: RunFolder) -> None:
    """Check a rebuilding that has just ended. Raises SeamlessAlignError naming the first difference."""
    wrong = [sentence for check in rebuilt_checks(folder) for sentence in check.wrong]
    if wrong:
        more = f" ({len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise SeamlessAlignError(f"{folder.root}: the counts do not balance: {wrong[0]}{more}")


def rebuilt_checks(folder: RunFolder, first: Check | None = None, marked: Marked | None = None) -> Iterator[Check]:
    """Shards, ledger, files, and what goes from stage to stage."""
    if first is None or marked is None:
        first = Check("shards")
        marked = read_marked(folder, first)
        yield first
        for name, look in (("ledger", check_ledger), ("files", check_files)):
            check = Check(name)
            look(check, marked)
            yield check
    yield _lines(marked)


def _lines(marked: Marked) -> Check:
    """Lines kept are both sides of the pairs shared out, these the clips and texts that were sought, and those in."""
    check = Check("lines")
    lines = marked.lines()

    def total(stage: str, what: str) -> int:
        return sum(getattr(line, what) for line in lines if line.stage == stage)

    wanted = total("share", "rows_kept")
    check.compare("share", "lines of its pairs", 2 * total("share", "rows_in"), total("lines", "rows_kept"))
    check.compare("audio and texts", "sides", total("clips", "rows_in") + total("texts", "rows_in"), 2 * wanted)
    check.compare("assemble", "pairs", total("pairs", "rows_in"), wanted)
    check.compare("assemble", "pairs in the corpus", total("corpus", "rows_kept"), total("pairs", "rows_kept"))
    check.summary = (
        f"{total('lines', 'rows_in')} lines, {wanted} pairs wanted, {total('pairs', 'rows_kept')} rebuilt; tables of "
        f"{len(rebuild_tasks.TABLES)} stages"
    )
    return check
