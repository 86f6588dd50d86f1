"""How the cards of the shipped embedders are made: language means, then default thresholds.

    python -m seamlessalign.pipelines.fit_cards --cache DIR --work DIR
        [--speech whisper-e5 --only-thresholds] [--precision 0.8]

Means are fitted on the sentences of the gettext catalogs in Debian's wesnoth-1.16-data. Thresholds are fitted on
speech that the demo does not contain: the spoken stamp names of Debian's tuxpaint-stamps-default, laid into long
recordings as the demo's are, mined against their English texts among other English sentences. The threshold around
which F1 is best over all directions of a kind becomes its default, or with `--precision` the one that finds most among
those with such a precision; it is written down with what it was fitted for and its precision there.
"""

import argparse
import gettext
import re
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from seamlessalign.config import RunConfig, parse_config
from seamlessalign.embedders.card import Card, Threshold, fit_mean, load_card, save_card
from seamlessalign.embedders.students import STUDENTS, student_card
from seamlessalign.embedders.text import load_text_embedder
from seamlessalign.errors import InputError
from seamlessalign.languages import Direction, from_model_code
from seamlessalign.mining.truth import score_pairs
from seamlessalign.pipelines import mining_stage
from seamlessalign.pipelines.context import Context
from seamlessalign.pipelines.demo_data import DemoTruth, build_corpus, judge, num_truth
from seamlessalign.pipelines.demo_sources import Prompt, PromptCollection, fetch_package, say
from seamlessalign.pipelines.pair_tables import pairs_table
from seamlessalign.pipelines.run import run

TEXT, SPEECH = "e5-small", ("transcribe-e5", "whisper-e5")
SENTENCES = 300  # of each language for its mean
STAMP_MINUTES = 8.0  # of speech in each language
DISTRACTORS = 2000
STAMP_LANGUAGES = {"spa": "es", "fra": "fr", "rus": "ru", "ron": "ro"}
DIRECTIONS = ("eng-esA", "eng-frA", "eng-ruA", "eng-roA", "esA-frA", "frA-ruA")
_WORDS = (4, 40)  # of a sentence that is taken
_MARKUP = re.compile(r"[<>$|\\{}%\n\x04]")
_GRID = np.arange(1.0, 3.0, 0.02)
_AROUND = 5  # steps of the grid on either side

Counts = tuple[int, int, int, int]  # at a threshold: right pairs, pairs, distinct prompts found, prompts there are


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit the means of the text embedder and the thresholds of a speech embedder, and write their cards."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="where fetched packages are kept")
    parser.add_argument("--work", type=Path, required=True, help="where the recordings are built and mined")
    parser.add_argument("--speech", choices=SPEECH, default=SPEECH[0], help="the speech embedder")
    parser.add_argument("--only-thresholds", action="store_true", help="keep the means as they are")
    parser.add_argument("--precision", type=_share, help="fit thresholds for this precision, in place of the best F1")
    options = parser.parse_args(arguments)
    cards = Path(str(resources.files("seamlessalign.embedders").joinpath("cards")))
    catalogs = fetch_package("wesnoth-1.16-data", options.cache) / "usr/share/games/wesnoth/1.16/locale"
    sentences = catalog_sentences(catalogs)
    if not options.only_thresholds:
        means = fit_means(sentences)
        recipe = {
            "means": f"{SENTENCES} sentences of each language from the catalogs of Debian's wesnoth-1.16-data",
            "thresholds": "none; a run takes those of its speech embedder",
        }
        save_card(Card(TEXT, len(next(iter(means.values()))), means), cards, recipe)
    stamps = stamp_prompts(fetch_package("tuxpaint-stamps-default", options.cache), sentences["eng"])
    truth = build_corpus(options.work / "data", stamps, minutes=STAMP_MINUTES, distractors=DISTRACTORS, seed=0)
    config = _config(options.work, options.speech)
    run(config)
    context = Context(config, str(config.output), "cpu", 1)
    thresholds, measured = fit_thresholds(truth, context, options.precision)
    how: dict[str, Any] = {
        "thresholds": f"{fitted_for(options.precision)} over all directions of a kind on spoken Tux Paint stamps",
        "measured": measured,
    }
    if options.speech not in STUDENTS:
        save_card(Card(options.speech, load_card(TEXT).dim, {}, thresholds), cards, how)
        return
    card = student_card(options.speech, {})
    folder = cards.parent / "weights" / options.speech
    kept = yaml.safe_load((folder / "card.yaml").read_text(encoding="utf-8"))["recipe"]
    save_card(Card(options.speech, card.dim, card.means, thresholds), folder, kept | how, stem="card")


def catalog_sentences(catalogs: Path) -> dict[str, list[str]]:
    """Distinct sentences without markup by language (ISO 639-3), sorted, from gettext catalogs `<lang>/LC_MESSAGES`."""
    found: dict[str, set[str]] = {}
    for file in sorted(catalogs.glob("*/LC_MESSAGES/*.mo")):
        locale = file.parent.parent.name
        lang = from_model_code({"nb_NO": "nb", "zh_CN": "zh"}.get(locale, locale), "iso639_1")
        if lang is None or locale == "grc":
            continue  # regional and invented variants, and one catalog that is damaged
        for english, translated in _messages(file):
            if translated != english and _is_sentence(translated) and _is_sentence(english):
                found.setdefault(lang, set()).add(translated)
                found.setdefault("eng", set()).add(english)
    return {lang: sorted(sentences) for lang, sentences in sorted(found.items()) if len(sentences) >= SENTENCES}


def fit_means(sentences: dict[str, list[str]]) -> dict[str, Any]:
    """Language → mean of the unit rows of a random sample, shape `(dim,)`."""
    embedder = load_text_embedder(TEXT)
    means = {}
    for lang, available in sentences.items():
        chosen = np.random.default_rng(0).permutation(len(available))[:SENTENCES]
        means[lang] = fit_mean(embedder.encode_uncentred([available[i] for i in sorted(chosen.tolist())]))
        say(f"mean of {lang}")
    return means


def stamp_prompts(root: Path, distractors: list[str]) -> PromptCollection:
    """Spoken stamps of Tux Paint in `STAMP_LANGUAGES` with their English texts."""
    english: dict[str, str] = {}
    prompts: dict[str, dict[str, Prompt]] = {lang: {} for lang in STAMP_LANGUAGES}
    stamps = root / "usr/share/tuxpaint/stamps"
    for file in sorted(stamps.rglob("*.txt")):
        key = file.relative_to(stamps).with_suffix("").as_posix()
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        texts = dict(line.split(".utf8=", 1) for line in lines[1:] if ".utf8=" in line)
        if lines and lines[0].strip():
            english[key] = " ".join(lines[0].split())
        for lang, code in STAMP_LANGUAGES.items():
            audio = file.with_name(f"{file.stem}_desc_{code}.ogg")
            if code in texts and audio.is_file() and key in english:
                prompts[lang][key] = Prompt(key, " ".join(texts[code].split()), audio)
    known = set(english.values())
    return PromptCollection(
        prompts=prompts,
        english=english,
        distractors=[text for text in distractors if text not in known],
        licenses=dict.fromkeys(prompts, "GPL-2.0-or-later"),
        sources=dict.fromkeys(prompts, "Debian package tuxpaint-stamps-default"),
        note="Human speech: names of Tux Paint stamps.",
    )


def fit_thresholds(
    truth: DemoTruth, context: Context, precision: float | None = None
) -> tuple[dict[str, Threshold], dict[str, Any]]:
    """The threshold of each kind of pair, and precision, recall and F1 of each direction at it.

    It is the one with the best F1 or, where a precision is asked for, as `best_place` says. Raises InputError where no
    threshold reaches that precision.
    """
    thresholds, measured = {}, {}
    for kind in ("speech-text", "speech-speech"):
        names = [name for name in DIRECTIONS if _kind(name) == kind]
        curves = {name: _curve(truth, name, context) for name in names}
        pooled: list[Counts] = [
            tuple(sum(counts) for counts in zip(*at, strict=True))  # type: ignore[misc]
            for at in zip(*curves.values(), strict=True)
        ]
        try:
            best = best_place(pooled, precision)
        except InputError as error:
            raise InputError(f"{kind}: {error}") from error
        right, pairs, *_ = pooled[best]
        fitted_on = f"spoken Tux Paint stamps ({', '.join(names)})"
        thresholds[kind] = Threshold(float(_GRID[best]), right / max(pairs, 1), fitted_on, fitted_for(precision))
        for name, curve in curves.items():
            right, pairs, found, total = curve[best]
            measured[name] = {"precision": round(right / max(pairs, 1), 3), "recall": round(found / total, 3)}
    return thresholds, measured


def best_place(pooled: Sequence[Counts], precision: float | None) -> int:
    """Which place of a curve has the best F1 or, of those with at least so high a precision, finds most.

    F1 hardly changes over a wide range of thresholds, so that which one is best by itself is luck, and in another
    corpus margins are others. So what counts is the mean of F1 over the places within `_AROUND` steps, and of those
    that are within one prompt of the best the highest, which is the most precise. Of places that find as much at a
    wanted precision the most precise counts, and then the highest. Raises InputError where none has that precision.
    """
    reached = np.array([right / max(pairs, 1) for right, pairs, _, _ in pooled])
    recall = np.array([found / total for _, _, found, total in pooled])
    if precision is None:
        f1 = 2 * reached * recall / np.maximum(reached + recall, 1e-9)
        around = [f1[max(0, at - _AROUND) : at + _AROUND + 1].mean() for at in range(len(f1))]
        return int(np.flatnonzero(np.array(around) >= max(around) - 1 / pooled[0][3])[-1])
    if not (reached >= precision).any():
        most = f"no threshold reaches a precision of {precision:g}; the highest is {reached.max():.3f}"
        raise InputError(f"{most}: ask for less")
    return max((recall[at], reached[at], at) for at in np.flatnonzero(reached >= precision).tolist())[2]


def fitted_for(precision: float | None) -> str:
    """What a card says that its thresholds were fitted for."""
    return "best F1" if precision is None else f"precision {precision:g}"


def _curve(truth: DemoTruth, name: str, context: Context) -> list[Counts]:
    """For each threshold of the grid: right pairs, pairs, distinct prompts found, prompts there are."""
    mining = context.config.mining
    candidates = mining_stage.candidates_of(mining_stage.task_of(name, context), context)
    total, curve = num_truth(truth, name), []
    for threshold in _GRID.tolist():
        reasons = mining_stage.choose(candidates, mining, threshold)
        pairs = pairs_table(name, candidates, reasons)
        judged = judge(truth, pairs.filter(pairs.column("kept")), name)
        correct = judged.column("correct").to_numpy(zero_copy_only=False).astype(bool)
        ids = judged.column("truth_id").to_numpy(zero_copy_only=False).astype(str)
        scores = score_pairs(correct, ids, total)
        curve.append((scores.correct, scores.pairs, round(scores.recall * total), total))
    return curve


def _share(text: str) -> float:
    share = float(text)
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 1")
    return share


def _kind(name: str) -> str:
    direction = Direction.parse(name)
    return "speech-speech" if direction.src.is_audio and direction.tgt.is_audio else "speech-text"


def _config(work: Path, speech: str) -> RunConfig:
    raw = {
        "name": "fit-cards",
        "output": str(work / f"run-{speech}"),
        "directions": list(DIRECTIONS),
        "speech": {"inputs": [str(work / "data/recordings.jsonl")], "embedder": speech},
        "text": {"inputs": [str(work / "data/texts")], "lang": "eng"},
        "mining": {"threshold": 1.0},
    }
    return parse_config(raw, "fit_cards")


def _messages(file: Path) -> Iterator[tuple[str, str]]:
    with file.open("rb") as handle:
        catalog = gettext.GNUTranslations(handle)._catalog  # type: ignore[attr-defined]
    for key, text in catalog.items():
        if isinstance(key, str) and isinstance(text, str):
            yield key.split("^")[-1], text.split("^")[-1]


def _is_sentence(text: str) -> bool:
    if _MARKUP.search(text):
        return False
    if any(ord(c) > 0x2E80 for c in text[:8]):  # scripts without spaces
        return 8 <= len(text) <= 80
    return _WORDS[0] <= len(text.split()) <= _WORDS[1]


if __name__ == "__main__":
    main()
