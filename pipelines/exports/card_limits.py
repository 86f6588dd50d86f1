"""What an exported corpus is not good for, as far as the facts of its run tell."""

from typing import Any

from seamlessalign.pipelines.exports.card_markdown import code
from seamlessalign.pipelines.exports.evaluation_sets import not_compared
from seamlessalign.pipelines.exports.plan import Plan
from seamlessalign.pipelines.exports.run_facts import RunFacts
from seamlessalign.pipelines.exports.tally import SYNTHETIC, Tally, by_value


def limits(tally: Tally, plan: Plan, record: dict[str, Any], facts: RunFacts) -> list[str]:
    """Sentences, each of which is true of this export."""
    directions = {name: one for name, one in tally.directions.items() if one.pairs}
    pairs = sum(one.pairs for one in directions.values())
    lines = ["Nobody wrote these translations for one another: pairs were found by comparing embeddings."]
    wrong = {name: one for name, one in directions.items() if one.precision is not None and one.precision < 1}
    if wrong:
        number = sum(one.pairs * (1 - (one.precision or 0.0)) for one in wrong.values())
        told = f"about {number:,.0f}" if number >= 0.5 else "less than one"
        lines.append(
            f"Some pairs may be wrong: by the estimate {told} of {sum(one.pairs for one in wrong.values()):,} in "
            f"{', '.join(wrong)}."
        )
    if unknown := [name for name, one in directions.items() if one.precision is None]:
        lines.append(f"How many pairs are right is not known of {', '.join(unknown)}: there is no estimate for them.")
    licenses = by_value(one.licenses for one in directions.values())
    if licenses[None]:
        lines.append(
            f"{licenses[None]:,} of {licenses.total():,} sides that are speech are of recordings whose licence nobody "
            "stated: find it out before you use or share them."
        )
    if any(side for name in directions for side in name.split("-") if not side.endswith("A")):
        lines.append("Of texts no licence is known: the run does not keep any for them.")
    sources = by_value(one.sources for one in directions.values())
    if synthetic := sum(count for name, count in sources.items() if name is not None and SYNTHETIC.search(name)):
        lines.append(f"{synthetic:,} sides that are speech come from sources that say they are synthetic.")
    if tally.guessed:
        least = f", the least sure of them {tally.least_lang_prob:.2f}" if tally.least_lang_prob is not None else ""
        lines.append(
            f"The language of {tally.guessed:,} of {tally.recordings:,} recordings was told by a model"
            f"{f' ({code(facts.speech_lid)})' if facts.speech_lid else ''} and may be wrong{least}."
        )
    if plan.evaluation is None:
        lines.append(
            "It was not compared with any evaluation set: what is in one may be in here. `--not-in` leaves it out."
        )
    elif not plan.evaluation["sounds"]:
        lines.append("Only texts of evaluation sets were compared: speech of one may be in here.")
    else:
        lines.append("A sound of an evaluation set that is only a part of a recording here was not looked for.")
    lines += [f"{line}; `export.json` names them." for line in not_compared(plan.evaluation)]
    if plan.splits is None and pairs:
        lines.append("It is not divided: take care that a split of your own puts no recording on two sides.")
    lines += [f"{note}." for note in plan.notes]
    if record["uncut"]:
        lines.append(
            f"The audio of {record['uncut']:,} pairs could not be cut any more; `left_out.tsv` says why of each."
        )
    lower = [name for name, count in plan.to_cut.items() if count]
    if cut := sum(plan.to_cut.values()) - record["uncut"]:
        lines.append(f"{cut:,} pairs of {', '.join(lower)} were not in the run's corpus and were cut for this export.")
    return lines
