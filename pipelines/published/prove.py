"""The proof that every line of published metadata is accounted for."""

from collections import Counter

from seamlessalign import storage
from seamlessalign.pipelines.published.rebuild_tasks import LOST
from seamlessalign.pipelines.verify_files import Check, Marked, line_of


def check_lines(check: Check, marked: Marked) -> None:
    """From stage to stage: lines kept are both sides of the pairs shared out, these the clips and texts that were
    sought, and both sides of the pairs that were joined.
    """
    lines = marked.lines()

    def total(stage: str, what: str) -> int:
        return sum(getattr(line, what) for line in lines if line.stage == stage)

    wanted = total("share", "rows_kept")
    check.compare("share", "lines of its pairs", 2 * total("share", "rows_in"), total("lines", "rows_kept"))
    sides = total("clips", "rows_in") + total("texts", "rows_in")
    check.compare("audio and texts", "sides that were sought", sides, 2 * wanted)
    check.compare("assemble", "pairs", total("pairs", "rows_in"), wanted)
    check.summary = f"{total('lines', 'rows_in')} lines; {wanted} pairs wanted, {total('pairs', 'rows_kept')} rebuilt"


def check_rebuilt(check: Check, marked: Marked) -> None:
    """The pairs of each part by id and reason: those kept are in the corpus, and of others it is told which side."""
    kept = dropped = 0
    for mark in marked.shards("assemble"):
        where = f"assemble {mark.shard}"
        told = line_of(mark, "pairs")
        ids, reasons, there = list[str](), Counter[str](), list[str]()
        for name in marked.files(mark, "pairs"):
            columns = storage.read_table(marked.uri(name), ["pair_id", "kept", "drop_reason"]).to_pydict()
            ids += [one for one, is_kept in zip(columns["pair_id"], columns["kept"], strict=True) if is_kept]
            reasons.update(one for one in columns["drop_reason"] if one is not None)
        for name in marked.files(mark, "corpus"):
            there += storage.read_table(marked.uri(name), ["pair_id"]).column("pair_id").to_pylist()
        if ids != there:
            check.tell(where, "the corpus has other pairs than are kept")
        if told is not None and reasons != Counter(told.dropped):
            check.tell(where, f"dropped {dict(reasons)}, the ledger says {told.dropped}")
        lost = sum(storage.num_rows(marked.uri(name)) for name in marked.files(mark, LOST))
        number = sum(reasons.values())
        if not number <= lost <= 2 * number:
            check.tell(where, f"{lost} sides are lost of {number} pairs that were dropped")
        kept, dropped = kept + len(ids), dropped + number
    check.summary = f"{kept} ids of kept pairs, {dropped} dropped"
