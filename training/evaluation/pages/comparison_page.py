"""The files of a comparison: its numbers, and a page on which two evaluations made apart look as one."""

import json
from dataclasses import replace

from seamlessalign import storage
from seamlessalign.html_page import row_of, table_of
from seamlessalign.markup import Markup, tag
from seamlessalign.training.evaluation.compare import Compared, names_of_sides, settings_of_score, to_json
from seamlessalign.training.evaluation.pages.page import page_of, sections_of
from seamlessalign.training.evaluation.pages.page_examples import Example, choose_examples
from seamlessalign.training.evaluation.pages.page_parts import label_of
from seamlessalign.training.evaluation.written import Written


def write_comparison(found: Compared, folder: str) -> None:
    """Write `comparison.json` and `comparison.html` to a folder. Raises StorageError where that cannot be written."""
    text = json.dumps(to_json(found), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    storage.write_bytes_atomic(storage.join(folder, "comparison.html"), comparison_page(found))
    storage.write_bytes_atomic(storage.join(folder, "comparison.json"), text.encode("utf-8", "backslashreplace"))


def comparison_page(found: Compared) -> bytes:
    """One HTML file; the same evaluations give the same bytes."""
    first, second = names_of_sides(found)
    order = {one.measure: number for number, one in reversed(list(enumerate(found.first.evaluation.scores)))}
    scores = [
        one
        for pair in sorted(found.pairs, key=lambda pair: (pair.first.task, order[pair.first.measure]))
        for one in (
            replace(pair.first, system=first, comparison=None, signature=settings_of_score(pair.first)),
            replace(pair.second, system=second, comparison=pair.comparison, signature=settings_of_score(pair.first)),
        )
    ]
    sides = (found.first, first), (found.second, second)
    both = Written(
        folder="",
        rows=found.first.evaluation.rows,
        digest=found.first.evaluation.digest,
        baselines={one.task: first for one in scores},
        missing={name: side.evaluation.missing.get(side.system, []) for side, name in sides},
        not_asked={name: side.evaluation.not_asked.get(side.system, 0) for side, name in sides},
        scores=scores,
    )
    return page_of(
        f"Comparison of {first} and {second}", sections_of(both, "Comparison", _examples(found, both), _left_out(found))
    )


def _examples(found: Compared, both: Written) -> list[Example]:
    sources: dict[str, dict[str, str]] = {}
    for side, name in zip((found.first, found.second), names_of_sides(found), strict=True):
        if not storage.exists(storage.join(side.evaluation.folder, "translations.parquet")):
            return []
        sources.setdefault(side.evaluation.folder, {})[side.system] = name
    return choose_examples(both.scores, sources)


def _left_out(found: Compared) -> list[Markup]:
    if not found.left_out:
        return []
    rows = [row_of(one.place[3], label_of(one.place[1], one.place[2]), one.reason) for one in found.left_out]
    return [
        tag("p", "What only one of the two has, or what they have with other settings or rows.", class_="about"),
        table_of(("measure", "direction", "why"), rows, long=(2,)),
    ]
