"""Is precision_estimate right? Mining where the truth is known, estimate beside what came true.

    python -m benchmarks.calibration --cache .cache

Sentences are those of the gettext catalogs in Debian's wesnoth packages, in several languages, embedded once and kept
in the cache. A trial draws pairs, and on both sides sentences without counterpart, centres both sides as a run does,
and mines with decoys: real sentences of the target language, or decoys made from the targets. Printed for each
direction and each of four levels, over all trials: the mean estimate, what share came true, and of how many pairs, for

- `min-precision`: the pairs that `keep_precision` keeps at the level,
- `fdr`: the pairs that `keep_fdr` keeps at 1 - level,
- `each`: the pairs whose own estimate is within 0.05 of the level (0.025 of 0.9 and 0.95),

and then for the first two, by size and by the shares of unpaired rows, and by direction where most rows of both sides
are unpaired. Every direction draws its own sentences. `--demo FOLDER` adds the demo's speech.
"""

import argparse
import gettext
import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from seamlessalign.embedders.card import fit_mean, unit_rows
from seamlessalign.embedders.text import load_text_embedder, spoken_form
from seamlessalign.mining import mine_candidates
from seamlessalign.mining.decoys import make_decoys
from seamlessalign.mining.precision import keep_fdr, keep_precision
from seamlessalign.pipelines.demo_sources import fetch_package, say

Float32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

LOCALES = {"spa": "es", "rus": "ru", "fra": "fr", "ces": "cs", "ita": "it", "zho": "zh_CN"}
CAMPAIGNS = ("did", "dm", "dw", "ei", "httt", "l", "low", "nr", "sof", "sota", "sotbe", "thot", "trow", "tsg", "ttb")
PACKAGES = tuple(f"wesnoth-1.16-{name}" for name in ("data", *CAMPAIGNS, "utbs"))
DIRECTIONS = ("eng-spa", "eng-rus", "fra-ces", "ita-rus", "eng-zho")
LEVELS = (0.5, 0.8, 0.9, 0.95)
HALF_WIDTH = {0.5: 0.05, 0.8: 0.05, 0.9: 0.025, 0.95: 0.025}
SENTENCES = 3000  # of each language
GROUP = 50  # sentences that decoys are made from together, so that their rows can be kept
MADE_GROUPS = 20  # groups that targets come from
REAL_DECOYS = 500
SPARSE = 0.8  # share of both sides without counterpart
SHAPES = (  # paired, unpaired sources, unpaired targets: 300 to 2000 sources, from 10 % to 91 % of each side alone
    (30, 270, 270),
    (90, 210, 60),
    (150, 150, 150),
    (270, 30, 30),
    (100, 200, 900),
    (100, 400, 400),
    (450, 50, 50),
    (90, 900, 110),
    (500, 500, 500),
    (800, 1000, 200),
    (900, 1100, 100),
)


@dataclass(frozen=True)
class Trial:
    """What one mining gave; arrays (num_pairs,)."""

    shape: tuple[int, ...]  # paired, unpaired sources, unpaired targets
    estimate: Float32
    correct: Mask


@dataclass(frozen=True)
class Rows:
    """Embedded sentences by language: the same (num_sentences, dim) everywhere, and decoys made from each group."""

    sentences: dict[str, Float32]
    made: dict[str, Float32]  # (MADE_GROUPS * GROUP, dim)
    made_from: dict[str, npt.NDArray[np.int64]]  # (MADE_GROUPS * GROUP, 2): sentences


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="where packages and embeddings are kept")
    parser.add_argument("--directions", nargs="*", default=list(DIRECTIONS), help="of text; may be none")
    parser.add_argument("--repeats", type=int, default=24, help="trials of the small shapes; larger ones get fewer")
    parser.add_argument("--demo", type=Path, help="folder of a finished demo")
    parser.add_argument("--near-duplicates", type=float, help="as runs have it: the cosine from which rows count once")
    options = parser.parse_args(arguments)
    if options.demo:
        print_demo(options.demo)
    if not options.directions:
        return
    pairs = [tuple(name.split("-")) for name in options.directions]
    rows = load_rows(options.cache, {lang for pair in pairs for lang in pair}, {tgt for _, tgt in pairs})
    for kind in ("real", "made"):
        trials = {
            f"{src}-{tgt}": list(run_trials(rows, src, tgt, kind, options.repeats, options.near_duplicates))
            for src, tgt in pairs
        }
        together = [trial for each in trials.values() for trial in each]
        print(f"\n## {kind} decoys, {len(together)} trials: estimate / came true (pairs)")
        for name, kept in DEFINITIONS.items():
            print_table(name, {**trials, "all": together}, kept)
        for name, kept in (("min-precision", by_precision), ("fdr", by_fdr)):
            print_table(f"{name}, by sources", grouped(together, lambda s: f"{s[0] + s[1]} sources"), kept)
            print_table(f"{name}, by shares", grouped(together, shares), kept)
            sparse = {direction: [trial for trial in each if is_sparse(trial)] for direction, each in trials.items()}
            print_table(f"{name}, {SPARSE:.0%} or more of both sides unpaired", sparse, kept)


def by_precision(trial: Trial, level: float) -> Mask:
    """The pairs that a least precision of `level` keeps."""
    return keep_precision(trial.estimate, level)


def by_fdr(trial: Trial, level: float) -> Mask:
    """The pairs that a false discovery rate of 1 - `level` keeps."""
    return keep_fdr(trial.estimate, 1 - level)


def by_own(trial: Trial, level: float) -> Mask:
    """The pairs whose own estimate is about `level`."""
    about: Mask = np.abs(trial.estimate - level) <= HALF_WIDTH[level]
    return about


DEFINITIONS: dict[str, Callable[[Trial, float], Mask]] = {"min-precision": by_precision, "fdr": by_fdr, "each": by_own}


def shares(shape: tuple[int, ...]) -> str:
    """Which percentages of a shape's sources and targets have no counterpart."""
    paired, src, tgt = shape
    return f"{100 * src / (paired + src):.0f} % of src, {100 * tgt / (paired + tgt):.0f} % of tgt unpaired"


def is_sparse(trial: Trial) -> bool:
    """Whether most rows of both sides have no counterpart."""
    paired, src, tgt = trial.shape
    return min(src / (paired + src), tgt / (paired + tgt)) >= SPARSE


def grouped(trials: Iterable[Trial], key: Callable[[tuple[int, ...]], str]) -> dict[str, list[Trial]]:
    """Trials by a property of their shape."""
    found: dict[str, list[Trial]] = {}
    for trial in trials:
        found.setdefault(key(trial.shape), []).append(trial)
    return found


def print_table(name: str, groups: dict[str, list[Trial]], kept: Callable[[Trial, float], Mask]) -> None:
    """Print one line per group, with mean estimate, share that came true and number of pairs at every level."""
    print(f"\n| {name} | " + " | ".join(f"{level}" for level in LEVELS) + " |")
    print("|---|" + "---|" * len(LEVELS))
    for group, trials in groups.items():
        cells = []
        for level in LEVELS:
            masks = [kept(trial, level) for trial in trials]
            estimate = np.concatenate([trial.estimate[mask] for trial, mask in zip(trials, masks, strict=True)])
            correct = np.concatenate([trial.correct[mask] for trial, mask in zip(trials, masks, strict=True)])
            seen = f"{estimate.mean():.3f} / {correct.mean():.3f}" if len(correct) else "-"
            cells.append(f"{seen} ({len(correct)})")
        print(f"| {group} | " + " | ".join(cells) + " |", flush=True)


def run_trials(
    rows: Rows, src: str, tgt: str, kind: str, repeats: int, near_duplicates: float | None = None
) -> Iterator[Trial]:
    """Mine every shape several times with `real` or `made` decoys."""
    for shape in SHAPES:
        rng = np.random.default_rng([sum(shape), *f"{src}-{tgt}".encode()])
        for _ in range(max(4, min(repeats, 9000 // (shape[0] + shape[1])))):
            yield run_trial(rows, src, tgt, kind, shape, rng, near_duplicates)


def run_trial(
    rows: Rows,
    src: str,
    tgt: str,
    kind: str,
    shape: tuple[int, int, int],
    rng: np.random.Generator,
    near_duplicates: float | None = None,
) -> Trial:
    """Draw sentences, mine them, and look which pairs are right."""
    paired, alone_src, alone_tgt = shape
    num_tgt = paired + alone_tgt
    groups = rng.permutation(MADE_GROUPS)[: -(-num_tgt // GROUP)]
    in_groups = np.concatenate([np.arange(group * GROUP, (group + 1) * GROUP) for group in groups])
    tgt_ids = rng.permutation(in_groups)[:num_tgt]
    others = rng.permutation(np.setdiff1d(np.arange(len(rows.sentences[tgt])), in_groups))
    src_ids = np.concatenate([tgt_ids[:paired], others[:alone_src]])
    made_from = None
    if kind == "real":
        decoys = rows.sentences[tgt][others[alone_src : alone_src + REAL_DECOYS]]
    else:
        decoys = rows.made[tgt][in_groups]
        place = np.full(len(rows.sentences[tgt]), -1)
        place[tgt_ids] = np.arange(num_tgt)
        made_from = place[rows.made_from[tgt][in_groups]]
    src_rows, tgt_rows = rows.sentences[src][src_ids], rows.sentences[tgt][tgt_ids]
    mean = fit_mean(tgt_rows)
    mined = mine_candidates(
        unit_rows(src_rows - fit_mean(src_rows)),
        unit_rows(tgt_rows - mean),
        decoys=unit_rows(decoys - mean),
        made_from=made_from,
        near_duplicates=near_duplicates,
    )
    correct = src_ids[mined["src"].to_numpy()] == tgt_ids[mined["tgt"].to_numpy()]
    return Trial(shape, mined["precision_estimate"].to_numpy(), correct)


def load_rows(cache: Path, langs: set[str], targets: set[str]) -> Rows:
    """Embed what is not in the cache yet."""
    texts = aligned_sentences(cache)
    sentences = {lang: embedded(texts[lang], lang, cache) for lang in sorted(langs)}
    made, made_from = {}, {}
    for lang in sorted(targets):
        groups = [
            make_decoys(texts[lang][group * GROUP : (group + 1) * GROUP], GROUP, seed=group)
            for group in range(MADE_GROUPS)
        ]
        made[lang] = embedded([text for group in groups for text in group.texts], lang, cache)
        made_from[lang] = np.concatenate([number * GROUP + group.made_from for number, group in enumerate(groups)])
    return Rows(sentences, made, made_from)


def embedded(texts: list[str], lang: str, cache: Path) -> Float32:
    """Rows of texts, from the cache where they are there."""
    digest = hashlib.sha256("\n".join([lang, *texts]).encode()).hexdigest()[:16]
    file = cache / "calibration" / f"{lang}-{digest}.npy"
    if not file.exists():
        say(f"embedding {len(texts)} texts in {lang}")
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = load_text_embedder("e5-small").embed(texts, lang)
        partial = file.with_suffix(".partial.npy")
        np.save(partial, rows)
        partial.rename(file)
    loaded: Float32 = np.load(file, allow_pickle=False)
    return loaded


def aligned_sentences(cache: Path, count: int = SENTENCES) -> dict[str, list[str]]:
    """The same `count` random sentences in English and every language of `LOCALES`.

    No two of them sound the same in any language, so that a wrong pair is wrong.
    """
    catalogs: dict[str, dict[str, str]] = {lang: {} for lang in LOCALES}
    for package in PACKAGES:
        root = fetch_package(package, cache) / "usr/share/games/wesnoth/1.16/locale"
        for lang, locale in LOCALES.items():
            for file in sorted(root.glob(f"{locale}/LC_MESSAGES/*.mo")):
                for english, text in messages(file):
                    if english != text and is_sentence(english) and is_sentence(text):
                        catalogs[lang].setdefault(english, text)
    everywhere = sorted(set.intersection(*(set(catalog) for catalog in catalogs.values())))
    catalogs["eng"] = {english: english for english in everywhere}
    alike: set[str] = set()
    for catalog in catalogs.values():
        by_sound: dict[str, list[str]] = {}
        for english in everywhere:
            by_sound.setdefault(spoken_form(catalog[english]), []).append(english)
        alike.update(english for same in by_sound.values() if len(same) > 1 for english in same)
    left = [english for english in everywhere if english not in alike]
    random.Random(0).shuffle(left)
    return {lang: [catalog[english] for english in left[:count]] for lang, catalog in catalogs.items()}


def messages(file: Path) -> Iterator[tuple[str, str]]:
    """English and translated messages of a catalog, without the context before `^`."""
    with file.open("rb") as handle:
        catalog = gettext.GNUTranslations(handle)._catalog  # type: ignore[attr-defined]
    for english, text in catalog.items():
        if isinstance(english, str) and isinstance(text, str):
            yield english.split("^")[-1], text.split("^")[-1]


def is_sentence(text: str) -> bool:
    """Whether a message is a sentence of some length without markup."""
    if any(c in "<>$|\\{}%\n\x04" for c in text):
        return False
    if any(ord(c) > 0x2E80 for c in text[:8]):  # scripts without spaces
        return 8 <= len(text) <= 80
    return 4 <= len(text.split()) <= 40


def print_demo(folder: Path) -> None:
    """Print the same for the demo's speech, by kind of decoys."""
    from benchmarks.calibration_speech import demo_trials

    trials = demo_trials(folder)
    print(f"\n## speech of the demo, {sum(map(len, trials.values()))} trials: estimate / came true (pairs)")
    for name, kept in DEFINITIONS.items():
        print_table(name, trials, kept)


if __name__ == "__main__":
    main()
