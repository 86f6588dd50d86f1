"""How far translations of the same words depend on who says them: SeamlessM4T's chrF_MS and CoefVar_MS.

Rows that say the same are a group. With chrF(g) the scores of the rows of a group by themselves (SeamlessM4T, section
on robustness against speaker variations):

    chrF_MS    = mean over all groups g of mean(chrF(g))
    CoefVar_MS = mean over groups g of several rows and mean(chrF(g)) > 0 of sd(chrF(g)) / mean(chrF(g))

Groups are what intervals and comparisons draw.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from seamlessalign.errors import InputError
from seamlessalign.training.evaluation.config import EvaluationConfig
from seamlessalign.training.evaluation.heard import heard_measure
from seamlessalign.training.evaluation.measures import Float64, Measure, Measured, RowMean, num_references
from seamlessalign.training.evaluation.robustness.robustness_settings import Speakers
from seamlessalign.training.evaluation.rows import TestRow
from seamlessalign.training.evaluation.subjects import Subject, Tools
from seamlessalign.training.evaluation.text import text_measure


def measured(subject: Subject, tools: Tools) -> Iterator[Measured]:
    """`measures.speakers` of what a system wrote, and of what was heard where it spoke."""
    settings = tools.config.measures.speakers
    if settings is None:
        return
    if subject.wrote:
        measure = text_measure("chrf++", subject.tgt_lang)
        yield from _measured(subject, settings, measure, subject.texts(), "")
    if subject.spoke:
        measure = heard_measure("asr_chrf++", subject.tgt_lang, tools.recogniser.signature)
        yield from _measured(subject, settings, measure, subject.heard().texts, "asr_")


def check(rows: Sequence[TestRow], config: EvaluationConfig) -> None:
    """Raise InputError where no row says what it says the same as."""
    settings = config.measures.speakers
    if settings is not None and not any(_group(row, settings) is not None for row in rows):
        column = "group" if settings.group_by == "column" else "src_text"
        raise InputError(f"measures.speakers groups rows by {column}, which none of the {len(rows)} rows has")


def _measured(
    subject: Subject, settings: Speakers, measure: Measure, texts: Sequence[str | None], before: str
) -> Iterator[Measured]:
    """chrF_MS and CoefVar_MS of texts. A direction of too few groups has no score, but is told."""
    groups: dict[str, list[int]] = {}
    alone = 0
    for i, row in enumerate(subject.rows):
        group = _group(row, settings)
        if group is None:
            alone += 1
        else:
            groups.setdefault(group, []).append(i)
    if not groups:
        subject.tools.say(f"{subject.direction}: no row has a group, so that there is no chrF_MS")
        return
    references = [row.references for row in subject.rows]
    statistics = measure.statistics([text or "" for text in texts], references)
    scores = np.array([measure.row_score(numbers) for numbers in statistics])
    of_group = [scores[places] for places in groups.values()]
    enough = len(groups) >= settings.min_groups
    means = np.array([values.mean() if enough else np.nan for values in of_group])
    variation = np.array([_variation(values, settings) if enough else np.nan for values in of_group])
    told = {
        "groups": len(groups),
        "groups of one row": sum(len(values) == 1 for values in of_group),
        "groups whose mean is 0": sum(not values.any() for values in of_group),
        "rows without a group": alone,
    }
    if not enough:
        told["groups that are wanted"] = settings.min_groups
    # sacrebleu's signature tells of whole corpora; chrF of a sentence has the same settings
    shared = (
        f"{measure.signature(num_references(references))}|groups:{settings.group_by}|min_groups:{settings.min_groups}"
    )
    named = "ASR-" if before else ""
    for kind, name, values, signature, higher in (
        ("chrf_ms", "chrF_MS", means, shared, True),
        ("coefvar_ms", "CoefVar_MS (%)", variation, f"{shared}|sd:{settings.deviation}", False),
    ):
        mean = RowMean(f"{named}{name}", signature, higher, factor=100.0 if kind == "coefvar_ms" else 1.0)
        yield Measured(
            f"{before}{kind}",
            mean.name,
            mean.signature,
            mean.higher_is_better,
            list(groups),
            mean.of(values),
            mean.score,
            condition=subject.condition,
            missing=sum(text is None for i, text in enumerate(texts) if _group(subject.rows[i], settings) is not None),
            details=dict(told),
        )


def _variation(scores: Float64, settings: Speakers) -> float:
    """The coefficient of variation of the scores of a group; nan where it has none."""
    if len(scores) < 2 or scores.mean() <= 0:
        return float("nan")
    return float(scores.std(ddof=1 if settings.deviation == "sample" else 0) / scores.mean())


def _group(row: TestRow, settings: Speakers) -> str | None:
    return row.group if settings.group_by == "column" else row.src_text
