"""The section of a report on what to do next: how much each precision would keep, and commands to be copied."""

import shlex
from collections.abc import Sequence

from seamlessalign.html_page import Row, row_of, table_of
from seamlessalign.markup import Markup, tag
from seamlessalign.pipelines.report_numbers import DirectionNumbers
from seamlessalign.pipelines.report_parts import hours, with_options

_CUTS = (0.95, 0.9, 0.8, 0.7, 0.5)
_FEW_PAIRS = 100  # below which a precision is not proposed where a lower one keeps more
_TARGET = "corpus"  # folder that the commands write to


def steps_section(run_dir: str, directions: Sequence[DirectionNumbers], *, mined: bool = True) -> list[Markup]:
    """What each precision would keep of every direction, and commands; nothing where there are no pairs.

    mined: here, so that pairs can be chosen again.
    """
    if not any(item.rows for item in directions):
        return []
    run = shlex.quote(run_dir.rstrip("/") or "/")
    estimated = [item for item in directions if item.precision.estimated]
    pieces: list[Markup] = []
    if estimated:
        about = (
            "What would be kept if the estimated precision of every pair had to be at least so high: pairs, and below "
            "them hours of speech. A pair that a filter or an overlap in time rejected is in none of these."
        )
        pieces += [tag("p", about, class_="about"), _precisions(directions)]
    proposed = _proposed(estimated)
    rule = f"--min-precision {proposed:g}" if proposed is not None else _by_margin(directions)
    # a direction without estimates cannot be cut by them
    some = estimated if proposed is not None and len(estimated) < len(directions) else []
    only = "".join(f" --direction {shlex.quote(item.direction)}" for item in some)
    what = "the precision that you choose from the table" if proposed is not None else "the margin that you choose"
    steps: list[tuple[str, str, str]] = [
        (
            "Listen, before you trust a number",
            f"seamlessalign curate {run}",
            "A page on this machine: move the threshold, hear both sides, mark pairs right or wrong with a key. What "
            "you mark gives the precision with an interval, here too when the report is made again. Save the choice "
            f"as a selection, and export it with --selection NAME. (It needs the extra: {_EXTRA_CURATE}.)",
        ),
        (
            f"Hand the corpus on, at {what}",
            f"seamlessalign export {run} --to {_TARGET}{only} {rule}",
            "Parquet with the audio in it, and a card that says what is in it and under which licences; pairs that "
            "people marked wrong are left out. --splits train=0.9,dev=0.05,test=0.05 divides it so that no recording "
            "is in two parts, --not-in keeps out what an evaluation set has, and --format has the other forms: "
            "WebDataset, Lhotse, plain files and more.",
        ),
        (
            "Or choose again inside the run",
            f"seamlessalign filter {run} {rule if not only else _by_margin(directions)}",
            "Nothing is mined or embedded again; filters and overlaps are judged anew, and this report is made again. "
            "--fdr and --max-hours choose by other rules.",
        ),
        (
            "Look closer in Python",
            f"import seamlessalign; run = seamlessalign.open_run({run_dir.rstrip('/') or '/'!r})",
            "Tables for pandas, Arrow and SQL, sound and pictures of any pair.",
        ),
    ]
    steps = [step for step in steps if mined or not step[1].startswith("seamlessalign filter")]
    listed = [
        tag(
            "li",
            tag("b", title),
            tag("pre", tag("code", command), tabindex=0),
            tag("p", *with_options(told), class_="note"),
        )
        for title, command, told in steps
    ]
    return [*pieces, tag("ol", *listed, class_="steps")]


_EXTRA_CURATE = "pip install 'seamlessalign[curate]'"


def _precisions(directions: Sequence[DirectionNumbers]) -> Markup:
    rows: list[Row] = []
    whole: dict[float, list[int]] = {cut: [0, 0] for cut in _CUTS}
    for item in directions:
        now = tag("span", f"{item.kept:,}", tag("small", hours(item.samples_kept), class_="below"))
        cells: list[str] = []
        for cut in _CUTS:
            if not item.precision.estimated:
                cells.append("–")
                continue
            pairs, samples, _ = item.precision.at_least(cut)
            whole[cut][0] += pairs
            whole[cut][1] += samples
            cells.append(tag("span", f"{pairs:,}", tag("small", hours(samples), class_="below")))
        rows.append(row_of(tag("bdi", item.direction), now, *cells))
    if len(directions) > 1:
        now = tag(
            "span",
            f"{sum(item.kept for item in directions):,}",
            tag("small", hours(sum(item.samples_kept for item in directions)), class_="below"),
        )
        sums = [tag("span", f"{n:,}", tag("small", hours(samples), class_="below")) for n, samples in whole.values()]
        rows.append(row_of("all directions", now, *sums, kind="total"))
    head = ("direction", "kept now", *(f"at least {cut:g}" for cut in _CUTS))
    return table_of(head, rows, numeric=range(1, len(head)))


def _proposed(directions: Sequence[DirectionNumbers]) -> float | None:
    """The precision that the commands have: 0.9, or a lower one where that keeps next to nothing."""
    if not directions:
        return None
    kept = {cut: sum(item.precision.at_least(cut)[0] for item in directions) for cut in _CUTS if cut <= 0.9}
    enough = min(_FEW_PAIRS, max(kept.values()))
    return next(cut for cut, pairs in kept.items() if pairs >= enough)


def _by_margin(directions: Sequence[DirectionNumbers]) -> str:
    """The option of the commands where nothing is estimated: a margin that the run has, else the paper's."""
    margin = next((item.rule.threshold for item in directions if item.rule.threshold is not None), 1.15)
    return f"--threshold {margin:.4g}"
