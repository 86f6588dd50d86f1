"""The dataset card of an export: a README.md that the Hugging Face hub takes, of which every number is counted here."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import yaml

from seamlessalign import __version__, storage
from seamlessalign.languages import Direction, get_language
from seamlessalign.pipelines.curation.direction_view import DirectionView
from seamlessalign.pipelines.curation.labelled_precision import CONFIDENCE, Precision, precision_above, random_labels
from seamlessalign.pipelines.curation.labels import Labels
from seamlessalign.pipelines.exports.card_limits import limits
from seamlessalign.pipelines.exports.card_loading import loading
from seamlessalign.pipelines.exports.card_markdown import Rows, code, plain, table
from seamlessalign.pipelines.exports.choice import Chooser, Rule
from seamlessalign.pipelines.exports.dividing import STRADDLING
from seamlessalign.pipelines.exports.export_folder import ExportFolder
from seamlessalign.pipelines.exports.formats import FORMATS
from seamlessalign.pipelines.exports.near_texts import MIN_DENSE_GRAMS, MIN_GRAMS, MIN_SHARED
from seamlessalign.pipelines.exports.plan import Plan
from seamlessalign.pipelines.exports.run_facts import RunFacts
from seamlessalign.pipelines.exports.tally import DirectionTally, Tally, by_value, told_hours
from seamlessalign.pipelines.report_numbers import rule_of
from seamlessalign.pipelines.run_tables import RunTables
from seamlessalign.pipelines.selection import Cut
from seamlessalign.rows import SAMPLE_RATE

# pairs below which a corpus is of the hub's size
_SIZES = (
    (10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**10, "1B<n<10B"), (10**11, "10B<n<100B"), (10**12, "100B<n<1T"),
)  # fmt: skip
_SHOWN_SOURCES = 20
# identifiers of licences that the hub knows and recordings are likely to have; others are `other` there
_HUB_LICENSES = {
    "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0",
    "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0",
    "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0", "gfdl",
    "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "mit", "odbl", "odc-by", "pddl", "unlicense",
}  # fmt: skip


def card_text(tables: RunTables, rule: Rule, plan: Plan, tally: Tally, record: dict[str, Any], facts: RunFacts) -> str:
    """The card: front matter in YAML, and pages of Markdown in which what comes from data is marked as such."""
    title = facts.name or "corpus"
    pairs, hours = (sum(getattr(one, name) for one in tally.directions.values()) for name in ("pairs", "hours"))
    number = sum(one.pairs > 0 for one in tally.directions.values())
    pieces = [
        f"---\n{_front_matter(title, tally, record)}---",
        f"# {plain(title)}",
        f"Pairs of speech and its translation, mined with SeamlessAlign {__version__}: {pairs:,} pairs, "
        f"{told_hours(hours)} hours of speech on their first side that is speech, in {number} "
        f"direction{'' if number == 1 else 's'}. In the name of a direction, a side that ends in A is "
        "speech. Audio has one channel at 16 kHz.",
        "## What is in it",
        table(("direction", "split", "pairs", "hours, source", "hours, target"), _counts(tally)),
        "## How to load it",
        _loading(tally, record),
        "## How sure the pairs are",
        table(
            ("direction", "chosen by", "the run's own cut", "margin: least, median, most", "estimated precision, mean"),
            [_sureness(name, one, plan, tables) for name, one in tally.directions.items()],
        ),
        *_labelled(tables, rule, tally),
        "## Licences and sources",
        "The licence and the source of each recording are in every row, as whoever gave the recordings stated them.",
        table(("licence", "sides that are speech"), _values(one.licenses for one in tally.directions.values())),
        table(("source", "sides that are speech"), _values(one.sources for one in tally.directions.values())),
        "## Known limits",
        "\n".join(f"- {line}" for line in limits(tally, plan, record, facts)),
        "## How it was made",
        *_making(plan, record, facts),
        "## What was left out",
        table(("direction", "pairs in the run", "left out", "why"), _left_out(record)),
    ]  # fmt: skip
    return "\n\n".join(piece for piece in pieces if piece) + "\n"


def write_card(
    tables: RunTables,
    rule: Rule,
    plan: Plan,
    tally: Tally,
    record: dict[str, Any],
    facts: RunFacts,
    folder: ExportFolder,
) -> None:
    """Write the card into the folder of the export."""
    text = card_text(tables, rule, plan, tally, record, facts)
    storage.write_bytes_atomic(folder.card, text.encode())


# The front matter


def _front_matter(title: str, tally: Tally, record: dict[str, Any]) -> str:
    directions = [Direction.parse(name) for name, one in tally.directions.items() if one.pairs]
    langs = sorted({side.lang for direction in directions for side in (direction.src, direction.tgt)})
    licenses = by_value(one.licenses for one in tally.directions.values())
    pairs = sum(one.pairs for one in tally.directions.values())
    tasks = {"translation"}
    tasks |= {"audio-to-audio" for one in directions if one.src.is_audio and one.tgt.is_audio}
    about: dict[str, Any] = {
        "pretty_name": title,
        "language": [get_language(lang).iso639_1 or lang for lang in langs],
        "license": sorted({hub_license(name) for name in licenses}),
        "task_categories": sorted(tasks),
        "multilinguality": ["translation"],
        "language_creators": ["found"],
        "annotations_creators": ["machine-generated"],
        "size_categories": [size_category(pairs)],
        "tags": ["speech-translation", "speech", "mined"],
    }
    if configs := _configs(tally, record["format"]):
        about["configs"] = configs
    return str(yaml.safe_dump(about, sort_keys=False, allow_unicode=True, width=110))


def _configs(tally: Tally, format: str) -> list[dict[str, Any]]:
    """What `load_dataset(folder, direction)` reads, for each direction; empty where `datasets` cannot."""
    configs = []
    for name, one in tally.directions.items():
        files = []
        for split, counts in one.splits.items():
            found = FORMATS[format].files(name if split is None else f"{split}/{name}")
            if found is not None and counts.pairs:
                files.append({"split": split or "train", "path": found[1]})
        if files:
            configs.append({"config_name": name, "data_files": files})
    return configs


def hub_license(name: str | None) -> str:
    """The hub's identifier of a licence: `unknown` for none, `other` for one that it does not list."""
    if name is None:
        return "unknown"
    plain = re.sub(r"[\s_]+", "-", name.strip().lower())
    return plain if plain in _HUB_LICENSES else "other"


def size_category(pairs: int) -> str:
    """What the hub calls a corpus of so many pairs."""
    return next((name for most, name in _SIZES if pairs < most), "n>1T")


# Sections


def _counts(tally: Tally) -> Rows:
    rows = []
    for name, one in tally.directions.items():
        for split, counts in one.splits.items():
            sides = Direction.parse(name)
            hours = [
                told_hours(counts.samples[side] / SAMPLE_RATE / 3600) if is_audio else "text"
                for side, is_audio in (("src", sides.src.is_audio), ("tgt", sides.tgt.is_audio))
            ]
            rows.append((name, split or "all", f"{counts.pairs:,}", *hours))
    return rows


def _sureness(name: str, one: DirectionTally, plan: Plan, tables: RunTables) -> Sequence[str]:
    own = rule_of(tables.parts["pairs"][name])
    margins = one.margins
    told = "no pairs"
    if len(margins):
        told = ", ".join(f"{value:.3f}" for value in (margins.min(), np.median(margins), margins.max()))
    cut = f"margin {own.threshold:g}: {own.origin}" if own.threshold is not None else own.origin
    precision = "unknown" if one.precision is None else f"{one.precision:.3f}"
    if own.decoys is not None and one.precision is not None:
        precision += f", from decoys: {own.decoys}"
    return name, plain(plan.by[name]), plain(cut), told, plain(precision)


def _labelled(tables: RunTables, rule: Rule, tally: Tally) -> list[str]:
    """What people who listened said, with an interval, where some did."""
    rows = []
    chooser = Chooser(tables, rule)
    for name in tally.directions:
        labelled = Labels(tables.root).labelled(name)
        cut = chooser.cut(name) if labelled else Cut()
        if not labelled or cut.min_precision is not None or any(one.column == "label" for one in cut.filters):
            continue
        view = DirectionView(tables, name)
        threshold = view.own_threshold if cut.min_margin is None else cut.min_margin
        found = precision_above(random_labels(view, labelled, cut.filters), view.curve(cut.filters), threshold)
        rows.append((name, "all" if threshold is None else f"{threshold:g}", *_precision(found)))
    if not rows:
        return []
    return [
        f"People listened to pairs that were drawn at random. Of all pairs with so great a margin, before overlaps and "
        f"labels left some out, this share is right, with an interval of {CONFIDENCE:.0%}:",
        table(("direction", "margin at least", "right", "interval", "labels: right, wrong, unsure"), rows),
    ]


def _precision(found: Precision) -> Sequence[str]:
    share = "unknown" if found.estimate is None else f"{found.estimate:.3f}"
    return share, f"{found.low:.3f} to {found.high:.3f}", f"{found.right}, {found.wrong}, {found.unsure}"


def _values(counters: Iterable[Counter[tuple[str, str | None]]]) -> Rows:
    counts = by_value(counters)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0] or ""))
    rows = [("not stated" if name is None else code(name), f"{pairs:,}") for name, pairs in ordered[:_SHOWN_SOURCES]]
    if rest := ordered[_SHOWN_SOURCES:]:
        rows.append((f"{len(rest):,} others", f"{sum(pairs for _, pairs in rest):,}"))
    return rows


def _making(plan: Plan, record: dict[str, Any], facts: RunFacts) -> list[str]:
    pieces = [
        "The run's configuration has the digest "
        f"{code(facts.digest) if facts.digest else 'unknown'}, this export {code(record['digest'])}; `export.json` "
        "has what was asked for. "
        + (
            f"Pairs were scored with the margin {code(facts.margin)} over {facts.k} neighbours and chosen by the "
            f"strategy {code(facts.strategy)}."
            if facts.margin and facts.k and facts.strategy
            else ""
        )
    ]
    if facts.models:
        rows = [(code(name), code(sha)) for name, sha in facts.models.items()]
        pieces.append(table(("model", "SHA-256"), rows))
    if plan.splits is not None:
        told, groups = plan.splits, plan.splits["groups"]
        also = "nor a document, " if told["apart"] == "documents" else ""
        shares = ", ".join(f"{name} {share:g}" for name, share in told["asked"].items())
        pieces.append(
            f"Splits were asked for as {shares} of the hours, with the seed {told['seed']}. No recording and no text, "
            f"whatever its case and punctuation, {also}is in two splits. Pairs that share one, also through others, "
            f"are a group: there {'is' if groups == 1 else 'are'} {groups:,}, the largest with "
            f"{told['largest_group_seconds']:,.0f} seconds of speech. {_straddling(told)}"
        )
    if plan.evaluation is not None:
        counts = ", ".join(f"{reason} {count:,}" for reason, count in plan.leaks.items()) or "none"
        pieces.append(
            f"Pairs were compared with {plan.evaluation['texts']:,} texts and {plan.evaluation['sounds']:,} sounds of "
            f"evaluation sets. Left out, and listed in `leaks.tsv`: {counts}. Texts are the same whatever their case, "
            f"punctuation and spaces, and near from {MIN_SHARED:g} of shared character 4-grams on, where both have "
            f"{MIN_GRAMS} different ones ({MIN_DENSE_GRAMS} in Chinese, Japanese and Korean)."
        )
    return [piece.strip() for piece in pieces]


def _straddling(splits: dict[str, Any]) -> str:
    """What was done about pairs that share something with two splits."""
    if splits["left_out"]:
        return (
            f"Of groups too large for splits of these sizes, {splits['left_out']:,} pairs were left out, as "
            f"`{STRADDLING}`: they share something with two splits."
        )
    if splits["straddling"] == "keep-together":
        return "Groups were kept together, whatever the sizes that splits get by that."
    return "No group was broken up."


def _left_out(record: dict[str, Any]) -> Rows:
    rows = []
    for name, counts in record["directions"].items():
        reasons = sorted(counts["left_out"].items(), key=lambda item: (-item[1], item[0]))
        told = ", ".join(f"{code(reason)} {count:,}" for reason, count in reasons)
        rows.append((name, f"{counts['in_run']:,}", f"{sum(counts['left_out'].values()):,}", told or "none"))
    return rows


def _loading(tally: Tally, record: dict[str, Any]) -> str:
    """How the format is opened, with names of this export."""
    name, one = max(tally.directions.items(), key=lambda item: item[1].pairs)
    split, _ = max(one.splits.items(), key=lambda item: item[1].pairs)
    return f"```python\n{loading(record['format'], name, split)}\n```"
