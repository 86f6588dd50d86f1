"""Which offers are items: one rule after another on each row by itself says the same, and nothing is lost."""

from collections import Counter
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.embedders.sonar.features import num_inputs
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.sound_changes import change_speed
from seamlessalign.training.data.index import GROUP, ROW, RowIndex
from seamlessalign.training.data.joined import MachineTextRules, MachineTexts
from seamlessalign.training.data.limits import (
    ALONE,
    OFFERS,
    SPOKEN,
    WITH_UNITS,
    Vocabularies,
    most_frames,
    usable_items,
)
from seamlessalign.training.data.settings import TASK_NAMES, BatchSettings, LimitSettings, TaskChoice
from tests.training.data.data_world import items_of, made_index, source_of

LANGUAGES = ["eng", "fra", "rus"]
LIMITS = LimitSettings(
    min_seconds=0.5, max_seconds=4, max_subwords=9, max_units=8, max_chars_ratio=3, max_chars_per_second=20
)
BATCHES = BatchSettings(max_frames=150, max_tokens=11, max_units=10)
VOCABULARIES = Vocabularies({"eng", "fra"}, {"eng"}, 7)
FOR = ("s2st", "t2st", "asr")
SOURCES = [
    source_of(kind="manifest", path="m"),
    source_of(kind="corpus", path="c", transcripts_for=list(FOR), min_avg_logprob=-0.8),
]


def _text(row: Any, side: int, by_machine: bool) -> tuple[bool, bool]:
    """Whether there is a text to be learnt, and whether there is one that is too unsure."""
    if not row["chars"][side] or not row["machine"] & (1 << side):
        return bool(row["chars"][side]), False
    sure = row["avg_logprob"][side] >= np.float16(-0.8)
    return by_machine and sure, by_machine and not sure


def _one_by_one(
    row: Any, both_ways: bool, tasks: dict[Any, TaskChoice], units: list[list[int]], by_machine: tuple[str, ...]
) -> Counter[str]:
    """What becomes of the offers of a row: `item` or a reason each. by_machine: tasks that machines' texts are for."""
    if row["problem"]:
        return Counter([["", "bad", "worse"][row["problem"]]])
    langs = [None if number < 0 else LANGUAGES[number] for number in row["lang"]]
    found, most = list[str](), 0
    for task, src in OFFERS:
        if task not in tasks:
            continue
        tgt = src if task in ALONE else 1 - src
        choice = tasks[task]
        if langs[src] is None or langs[tgt] is None:
            continue
        if choice.sources is not None and langs[src] not in choice.sources:
            continue
        if choice.targets is not None and langs[tgt] not in choice.targets:
            continue
        if task in ALONE and not row["owns"] & (1 << src):
            continue
        if src == 1 and not both_ways and task != "t2u":
            continue
        has_sound = not np.isnan(row["seconds"][src]) or row["sound_problem"][src] > 0
        lacking = ""
        read, unsure = zip(*(_text(row, side, task in by_machine) for side in (0, 1)), strict=True)
        if task in SPOKEN and not has_sound:
            lacking = "no_speech"
        elif task not in SPOKEN and not (read[src] or unsure[src]):
            lacking = "no_source_text"
        elif not (read[tgt] or unsure[tgt]):
            lacking = "no_target_text"
        elif task in WITH_UNITS and not row["units"][tgt]:
            lacking = "no_units"
        if lacking:
            most = max(most, ("", "no_speech", "no_source_text", "no_target_text", "no_units").index(lacking))
            continue
        if unsure[tgt] or (task not in SPOKEN and unsure[src]):
            found.append("unsure_transcript")
            continue
        given = row.copy()
        for side in (0, 1):
            if not read[side]:
                given["chars"][side] = given["subwords"][side] = 0
        found.append(_judged(given, task, src, tgt, langs, units))
    return Counter(found or [("not_wanted", "no_speech", "no_source_text", "no_target_text", "no_units")[most]])


def _judged(row: Any, task: str, src: int, tgt: int, langs: list[str | None], units: list[list[int]]) -> str:
    seconds = float(row["seconds"][src])
    reads_source = task not in SPOKEN or row["chars"][src]
    chars = [int(count) for count in row["chars"]]
    if langs[tgt] not in VOCABULARIES.text or (reads_source and langs[src] not in VOCABULARIES.text):
        return "no_tag"
    if max(row["subwords"][[src, tgt]]) > 9:
        return "text_too_long"
    if row["subwords"][src] + 2 > 11 or row["subwords"][tgt] + 3 > 11:
        return "larger_than_a_batch"
    if task in SPOKEN and seconds < 0.5:
        return "too_short"
    if task in SPOKEN and seconds > 4:
        return "too_long"
    if task in SPOKEN and not np.isnan(seconds) and (int(seconds / 0.9 * 100) - 1.5) // 2 + 1 > 150:
        return "larger_than_a_batch"
    if task in SPOKEN and max(chars[src], chars[tgt]) > 20 * seconds:
        return "too_much_text"
    if task in WITH_UNITS and langs[tgt] not in VOCABULARIES.units:
        return "no_unit_tag"
    if task in WITH_UNITS and row["units"][tgt] > 8:
        return "too_many_units"
    if task in WITH_UNITS and max(units[tgt]) >= 7:
        return "unknown_units"
    if task in WITH_UNITS and row["units"][tgt] + 3 > 10:
        return "larger_than_a_batch"
    if src != tgt and min(chars) and max(chars) > 3 * min(chars):
        return "unlike_lengths"
    if task in SPOKEN and row["sound_problem"][src]:
        return ("", "bad", "worse")[int(row["sound_problem"][src])]
    return "item"


@st.composite
def rows(draw: st.DrawFn) -> tuple[RowIndex, list[list[list[int]]]]:
    count = draw(st.integers(0, 12))
    made, units, flat = np.zeros(count, ROW), [], list[int]()
    for row in made:
        row["problem"] = draw(st.sampled_from([0, 0, 0, 0, 1, 2]))
        row["owns"] = draw(st.integers(0, 3))
        row["lang"] = draw(st.sampled_from([(0, 1), (1, 0), (0, 2), (0, -1), (0, 0)]))
        row["sound_problem"] = [draw(st.sampled_from([0, 0, 0, 1, 2])) for _ in range(2)]
        for side in (0, 1):
            seconds = draw(st.sampled_from([np.nan, 0.3, 0.5, 1, 2, 2.5, 3, 3.5, 4, 5]))
            row["seconds"][side] = np.nan if row["sound_problem"][side] else seconds
            row["subwords"][side] = draw(st.integers(0, 12))
            row["chars"][side] = row["subwords"][side] * draw(st.integers(1, 4))
            row["avg_logprob"][side] = draw(st.sampled_from([-1.2, -0.801, -0.8, -0.1, 0.0]))
        row["machine"] = draw(st.sampled_from([0, 0, 1, 2, 3]))
        row["units_start"] = len(flat)
        there = [draw(st.lists(st.integers(0, 7), max_size=10)) for _ in range(2)]
        row["units"] = [len(some) for some in there]
        flat += there[0] + there[1]
        units.append(there)
    made["row"] = np.arange(count)
    made["group"] = np.arange(count) % 2
    groups = np.zeros(2, GROUP)
    groups["source"] = [0, 1]
    texts, rules = MachineTexts.of_texts([(0, "x")]), MachineTextRules.of(SOURCES)
    index = RowIndex(made, groups, np.array(flat, np.uint16), LANGUAGES, ["", "bad", "worse"], texts=texts, rules=rules)
    return index, units


choices = st.builds(
    TaskChoice,
    sources=st.none() | st.just(["eng"]) | st.just(["fra", "rus"]),
    targets=st.none() | st.just(["fra"]) | st.just(["eng"]),
)


@settings(deadline=None, max_examples=60)
@given(rows(), st.dictionaries(st.sampled_from(TASK_NAMES), choices, min_size=1))
def test_offers_are_items_or_have_a_reason(made: tuple[RowIndex, list[list[list[int]]]], tasks: Any) -> None:
    index, units = made
    assert [source.both_ways for source in SOURCES] == [False, True]
    items, aside = usable_items(index, SOURCES, tasks, LIMITS, BATCHES, 0.9, VOCABULARIES)
    wanted: list[Counter[str]] = [Counter(), Counter()]
    for number, row in enumerate(index.rows):
        wanted[number % 2] += _one_by_one(row, number % 2 == 1, tasks, units[number], (FOR if number % 2 else ()))
    found = [Counter(counts) for counts in aside]
    for source, count in enumerate(np.bincount(index.sources[items.rows], minlength=2).tolist()):
        found[source] += Counter({"item": count})
    assert found == wanted
    assert [*zip(items.rows.tolist(), items.offers.tolist(), strict=True)] == sorted(
        zip(items.rows.tolist(), items.offers.tolist(), strict=True)
    )


@settings(deadline=None, max_examples=40)
@given(st.integers(400, 20_000), st.integers(50, 150))
def test_no_speed_makes_more_frames_than_are_counted_on(num_samples: int, hundredths: int) -> None:
    most = int(most_frames(np.array([np.float32(num_samples / SAMPLE_RATE)], np.float64), hundredths / 100)[0])
    made = num_inputs(len(change_speed(np.zeros(num_samples, np.float32), hundredths / 100)))
    assert made <= most <= made + 2


def test_lengths_are_those_of_batches() -> None:
    index = made_index([1.0, 2.0], [(5, 7), (0, 4)], units=[6, 2])
    items = items_of(index, ("s2tt", 0), ("asr", 0), ("t2u", 0))
    frames = most_frames(np.array([1.0, 2.0]), 1.0).tolist()
    assert items.lengths().tolist() == [
        [frames[0], 7, 10, 0],
        [frames[0], 7, 8, 0],
        [0, 7, 8, 9],
        [frames[1], 0, 7, 0],
        [frames[1], 0, 3, 0],
        [0, 0, 3, 5],
    ]
    assert items.seconds.tolist() == [1, 1, 1, 2, 2, 2]
