"""A small corpus whose truth is known, to show mining on and to judge what it finds.

The same prompts are laid into one long recording per language, each in its own random order, and their English
transcripts are shuffled among sentences that nobody says. Where every prompt lies is written down, so that `judge` can
say of every mined pair whether it is right.
"""

import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from seamlessalign.audio import Samples, decode
from seamlessalign.embedders.text import spoken_form
from seamlessalign.errors import InputError, StorageError, UnreadableError
from seamlessalign.languages import Direction, Side
from seamlessalign.pipelines.demo_audio import FORMATS, mix, noise_and_silence, trim, write_recording
from seamlessalign.pipelines.demo_espeak import synthesise_prompts
from seamlessalign.pipelines.demo_sources import PromptCollection, fetch_prompts, num_words, say
from seamlessalign.rows import SAMPLE_RATE

__all__ = ["DemoTruth", "build_demo", "fetch_prompts", "judge", "load_truth", "num_truth", "placed_truth"]

Source = Literal["auto", "asterisk", "espeak"]

SPEECH_LANGUAGES = ("spa", "fra", "ita", "rus")
TEXT_LANGUAGE = "eng"
MIN_OVERLAP = 0.8  # intersection over union from which a mined span counts as a prompt's
MIN_WORDS = 3  # English words of a prompt that is placed

_PROMPT_SECONDS = (0.5, 20.0)  # of a prompt that is placed; no span is longer
_GAP_SECONDS = (0.6, 3.0)
_PLANNED_GAP_SECONDS = 1.5  # below the mean of the gaps, so that a recording hardly ever falls short of its minutes
_DECOY_SHARE = 0.2  # of the texts that nobody says, held out as decoys
_ENGLISH_MINUTES = 2.0
_NOISE_MINUTES = 1.0

TRUTH = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),  # relative to the demo's folder
        pa.field("lang", pa.string(), nullable=False),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),  # samples at 16 kHz, of the prompt without silence around it
        pa.field("end", pa.int64(), nullable=False),
        pa.field("text", pa.string(), nullable=False),  # transcript in `lang`
        pa.field("english", pa.string(), nullable=False),
    ]
)

TRUTH_TEXTS = pa.schema(
    [
        pa.field("text", pa.string(), nullable=False),  # in the order of texts/english.txt
        pa.field("prompt_ids", pa.list_(pa.string()), nullable=False),  # empty for a distractor
    ]
)


@dataclass(frozen=True)
class DemoTruth:
    """What a demo holds: schemas `TRUTH` (sorted by uri, start) and `TRUTH_TEXTS`."""

    root: Path
    placed: pa.Table
    texts: pa.Table
    note: str  # where the speech comes from; says so when it is synthetic


def build_demo(
    root: Path,
    cache: Path,
    *,
    minutes: float = 12.0,
    distractors: int = 4000,
    seed: int = 0,
    source: Source = "auto",
) -> DemoTruth:
    """Write a demo under `root`; the same arguments and prompts give the same bytes.

    `minutes` is the least length of the recording of each language, as far as the prompts reach; `distractors` the
    number of English sentences without speech, as far as there are so many. `source` "auto" takes the Asterisk prompts
    and, where they cannot be fetched, synthetic speech.

    - `recordings/*`: one in each of Spanish, French, Italian and Russian, all of the same prompts; two minutes of
      English; one without speech. Formats differ, names say nothing about the language.
    - `texts/english.txt`: one sentence per line, the English transcripts of all prompts among the distractors, but for
      a fifth of what nobody says, which is held out in `decoys/english.txt`.
    - `recordings.jsonl`: the manifest of the recordings, with license and source.
    - `truth.parquet`, `truth_texts.parquet`: read by `load_truth`. `truth.parquet` is written last.

    A prompt is trimmed to its speech first (`demo_audio.trim`), so the truth is the speech itself. Raises InputError
    where the prompts cannot be had, an argument makes no sense, or `root` holds something that is not a demo, and
    StorageError where `root` cannot be written.
    """
    if not 0 < minutes < 600 or distractors < 0:
        raise InputError(
            f"demo of {minutes} minutes with {distractors} distractors: minutes in (0, 600), distractors ≥ 0"
        )
    _check_replaceable(root)
    return build_corpus(root, _prompts(cache, source), minutes=minutes, distractors=distractors, seed=seed)


def build_corpus(root: Path, prompts: PromptCollection, *, minutes: float, distractors: int, seed: int) -> DemoTruth:
    """As `build_demo`, of any prompts: one recording of each of their languages; English, if spoken, is short."""
    _check_replaceable(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".building-") as name:
            _write_demo(Path(name), prompts, minutes, distractors, np.random.default_rng(seed))
            _replace(Path(name), root)
    except OSError as error:
        raise StorageError(f"{root}: the demo cannot be written ({error.strerror or error}); choose another") from error
    return load_truth(root)


def load_truth(root: Path) -> DemoTruth:
    """The truth of a demo that `build_demo` wrote. Raises InputError where there is none."""
    try:
        placed = pq.read_table(root / "truth.parquet")
        texts = pq.read_table(root / "truth_texts.parquet")
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{root}: no readable truth of a demo ({error}); build the demo first") from error
    if not (placed.schema.equals(TRUTH) and texts.schema.equals(TRUTH_TEXTS)):
        raise InputError(f"{root}/truth.parquet has other columns than this version writes; build the demo again")
    note = (placed.schema.metadata or {}).get(b"note", b"").decode()
    return DemoTruth(root=root, placed=placed, texts=texts, note=note)


def judge(truth: DemoTruth, pairs: pa.Table, direction: str) -> pa.Table:
    """The pairs of one direction with two more columns: `correct` (bool) and `truth_id` (string).

    A speech side is a prompt when it lies in that prompt's recording, found by file name, the recording is in the
    direction's language, and the spans' intersection over union is at least `MIN_OVERLAP`. A text is a prompt when it
    has the words of its English transcript. A pair is right when both sides are the same prompt; prompts whose English
    transcripts have the same words count as the same, since nobody hears dots. `truth_id` is the prompt of the source
    side, of the target side where the source is text, and "" for a wrong pair. Raises InputError where the pairs do not
    fit the direction or the texts.
    """
    parsed = _direction(direction)
    if "direction" in pairs.column_names and set(pairs["direction"].unique().to_pylist()) - {direction}:
        raise InputError(f"pairs of other directions than {direction}: give judge the pairs of one direction")
    groups = _text_groups(truth)
    src_group, src_row = _side(truth, pairs, "src", parsed.src, groups)
    tgt_group, tgt_row = _side(truth, pairs, "tgt", parsed.tgt, groups)
    correct = (src_group >= 0) & (src_group == tgt_group)
    row = src_row if parsed.src.is_audio else tgt_row
    ids = np.asarray([*truth.placed["prompt_id"].to_pylist(), ""], dtype=object)
    truth_ids = ids[np.where(correct, row, len(ids) - 1)]
    return pairs.append_column("correct", pa.array(correct)).append_column("truth_id", pa.array(truth_ids, pa.string()))


def num_truth(truth: DemoTruth, direction: str) -> int:
    """Number of prompts that mining in this direction can find: as many distinct `truth_id`s as `judge` can give."""
    return len(placed_truth(truth, direction))


def placed_truth(truth: DemoTruth, direction: str) -> dict[str, float]:
    """The prompts that mining in this direction can find, by their ids, with their seconds.

    They are the prompts placed in the source language's recordings (the target's where the source is text) whose
    English transcript is on the other side.
    """
    parsed = _direction(direction)
    own, other = (parsed.src, parsed.tgt) if parsed.src.is_audio else (parsed.tgt, parsed.src)
    rows = truth.placed.to_pylist()
    if other.is_audio:
        there = {spoken_form(row["english"]) for row in rows if row["lang"] == other.lang}
    else:
        there = {spoken_form(row["text"]) for row in truth.texts.to_pylist() if row["prompt_ids"]}
    return {
        row["prompt_id"]: (row["end"] - row["start"]) / SAMPLE_RATE
        for row in rows
        if row["lang"] == own.lang and spoken_form(row["english"]) in there
    }


# Building


def _prompts(cache: Path, source: Source) -> PromptCollection:
    if source == "espeak":
        return synthesise_prompts(cache)
    if source == "asterisk":
        return fetch_prompts(cache)
    if source != "auto":
        raise InputError(f"source {source!r}: choose auto, asterisk or espeak")
    try:
        return fetch_prompts(cache)
    except InputError as error:
        say(f"human speech cannot be had ({error})")
        return synthesise_prompts(cache)


def _check_replaceable(root: Path) -> None:
    """Refuse a folder whose `recordings` or `texts` are not those of an earlier demo."""
    for name in ("recordings", "texts"):
        if (root / name).exists() and not (root / "recordings.jsonl").exists():
            raise InputError(f"{root} holds {name}, which are not a demo's; choose another folder")


def _replace(made: Path, root: Path) -> None:
    """Move a finished demo to its place. The manifest comes first, for it marks the folder as a demo's."""
    (root / "truth.parquet").unlink(missing_ok=True)
    (made / "recordings.jsonl").replace(root / "recordings.jsonl")
    for name in ("recordings", "texts", "decoys"):
        if (root / name).exists():
            shutil.rmtree(root / name)
        (made / name).replace(root / name)
    for name in ("truth_texts.parquet", "truth.parquet"):
        (made / name).replace(root / name)


def _write_demo(
    folder: Path, prompts: PromptCollection, minutes: float, distractors: int, rng: np.random.Generator
) -> None:
    (folder / "recordings").mkdir()
    (folder / "texts").mkdir()
    speech = _choose(prompts, minutes, rng)
    chosen = list(next(iter(speech.values())))
    contents: list[str | None] = [*sorted(speech, key=lambda lang: lang == TEXT_LANGUAGE), None]
    numbers = rng.permutation(len(contents)) + 1  # so that not even the order of names tells the language
    truth: list[dict[str, Any]] = []
    manifest: list[dict[str, str]] = []
    with ThreadPoolExecutor(os.cpu_count()) as writers:  # libsndfile encodes without Python's lock
        written = []
        for lang, number, audio_format in zip(contents, numbers.tolist(), itertools.cycle(FORMATS), strict=False):
            uri = f"recordings/recording-{number:02d}.{audio_format.suffix}"
            if lang is None:
                samples = noise_and_silence(min(_NOISE_MINUTES, minutes / 4), rng)
                manifest.append({"path": uri, "license": "CC0-1.0", "source": "computed noise"})
            else:
                order = [chosen[i] for i in rng.permutation(len(chosen))]
                if lang == TEXT_LANGUAGE:
                    order = _first_minutes(order, speech[lang], min(_ENGLISH_MINUTES, minutes / 4))
                samples, spans = mix([speech[lang][key] for key in order], _GAP_SECONDS, rng)
                truth += _truth_rows(prompts, lang, uri, order, spans)
                manifest.append({"path": uri, "license": prompts.licenses[lang], "source": prompts.sources[lang]})
            written.append(writers.submit(write_recording, folder / uri, samples, audio_format))
        for future in written:
            future.result()
    texts, decoys = _without_decoys(_shuffled_texts(prompts, distractors, rng), [row["english"] for row in truth], rng)
    (folder / "decoys").mkdir()
    (folder / "decoys/english.txt").write_text("".join(f"{text}\n" for text in decoys), encoding="utf-8")
    (folder / "texts/english.txt").write_text("".join(f"{row['text']}\n" for row in texts), encoding="utf-8")
    manifest.sort(key=lambda line: line["path"])
    lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in manifest)
    (folder / "recordings.jsonl").write_text(lines, encoding="utf-8")
    truth.sort(key=lambda row: (row["uri"], row["start"]))
    schema = TRUTH.with_metadata({"note": prompts.note})
    pq.write_table(pa.Table.from_pylist(truth, schema=schema), folder / "truth.parquet")
    pq.write_table(pa.Table.from_pylist(texts, schema=TRUTH_TEXTS), folder / "truth_texts.parquet")


def _truth_rows(
    prompts: PromptCollection, lang: str, uri: str, order: list[str], spans: list[tuple[int, int]]
) -> list[dict[str, Any]]:
    say(f"{uri}: {lang}, {len(order)} prompts in {spans[-1][1] / SAMPLE_RATE / 60:.1f} minutes")
    rows = []
    for key, (start, end) in zip(order, spans, strict=True):
        row = {"uri": uri, "lang": lang, "prompt_id": key, "start": start, "end": end}
        rows.append(row | {"text": prompts.prompts[lang][key].text, "english": prompts.english[key]})
    return rows


def _choose(prompts: PromptCollection, minutes: float, rng: np.random.Generator) -> dict[str, dict[str, Samples]]:
    """Language → prompt id → speech without silence around it; the same prompts, in the same order, in every language.

    Drawn at random from those that every language has, until they fill `minutes` in the language that they fill least.
    """
    languages = list(prompts.prompts)
    shared = set.intersection(*(set(prompts.prompts[lang]) for lang in languages))
    keys = sorted(key for key in shared if num_words(prompts.english.get(key, "")) >= MIN_WORDS)
    speech: dict[str, dict[str, Samples]] = {lang: {} for lang in languages}
    seconds = dict.fromkeys((lang for lang in languages if lang != TEXT_LANGUAGE), 0.0)
    for i in rng.permutation(len(keys)):
        spoken = {lang: _trimmed(prompts.prompts[lang][keys[i]].audio) for lang in languages}
        lengths = [len(samples) / SAMPLE_RATE for samples in spoken.values()]
        if min(lengths) < _PROMPT_SECONDS[0] or max(lengths) > _PROMPT_SECONDS[1]:
            continue
        for lang in languages:
            speech[lang][keys[i]] = spoken[lang]
        for lang in seconds:
            seconds[lang] += len(spoken[lang]) / SAMPLE_RATE + _PLANNED_GAP_SECONDS
        if min(seconds.values()) >= minutes * 60:
            return speech
    if not speech[languages[0]]:
        raise InputError("no prompt has speech in all languages; empty the cache folder to fetch them again")
    least = min(seconds.values()) / 60
    say(f"all {len(speech[languages[0]])} prompts fill about {least:.1f} of {minutes:g} minutes per language")
    return speech


def _trimmed(path: Path) -> Samples:
    try:
        samples = decode(path).samples
    except UnreadableError as error:
        raise InputError(f"{path}: {error}; empty the cache folder to fetch the prompts again") from error
    start, end = trim(samples)
    return samples[start:end]


def _first_minutes(order: list[str], speech: dict[str, Samples], minutes: float) -> list[str]:
    lengths = np.array([len(speech[key]) for key in order]) / SAMPLE_RATE + _PLANNED_GAP_SECONDS
    return order[: int(np.searchsorted(lengths.cumsum(), minutes * 60)) + 1]


def _shuffled_texts(prompts: PromptCollection, distractors: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    ids: dict[str, list[str]] = {}
    for key in sorted(prompts.english):
        ids.setdefault(prompts.english[key], []).append(key)
    available = list(prompts.distractors)
    if len(available) < distractors:
        say(f"only {len(available)} of {distractors} distractor sentences are available")
    picked = rng.permutation(len(available))[:distractors]
    rows = [{"text": text, "prompt_ids": keys} for text, keys in ids.items()]
    rows += [{"text": available[i], "prompt_ids": []} for i in sorted(picked.tolist())]
    return [rows[i] for i in rng.permutation(len(rows))]


def _without_decoys(
    rows: list[dict[str, Any]], spoken: list[str], rng: np.random.Generator
) -> tuple[list[dict[str, Any]], list[str]]:
    """The texts that stay, and a random share of those that nobody says, as decoys of the same kind as the rest."""
    said = {spoken_form(text) for text in spoken}
    unsaid = [number for number, row in enumerate(rows) if spoken_form(row["text"]) not in said]
    held = set(rng.permutation(unsaid)[: round(len(unsaid) * _DECOY_SHARE)].tolist())
    stay = [row for number, row in enumerate(rows) if number not in held]
    return stay, [rows[number]["text"] for number in sorted(held)]


# Judging


def _direction(direction: str) -> Direction:
    parsed = Direction.parse(direction)
    for side in (parsed.src, parsed.tgt):
        if not side.is_audio and side.lang != TEXT_LANGUAGE:
            raise InputError(f"direction {direction!r}: the demo has texts in {TEXT_LANGUAGE} only")
    return parsed


def _text_groups(truth: DemoTruth) -> dict[str, int]:
    """English transcript as it is heard → number; prompts with one number count as the same."""
    texts = [row["text"] for row in truth.texts.to_pylist() if row["prompt_ids"]]
    unique = dict.fromkeys(spoken_form(text) for text in [*texts, *truth.placed["english"].to_pylist()])
    return {text: number for number, text in enumerate(unique)}


def _side(
    truth: DemoTruth, pairs: pa.Table, prefix: Literal["src", "tgt"], side: Side, groups: dict[str, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of every pair's side the text group and, for speech, the row of the truth; -1 where it is no prompt."""
    needed = ("uri", "start", "end") if side.is_audio else ("text",)
    columns = [pairs[f"{prefix}_{name}"] for name in needed]
    for name, column in zip(needed, columns, strict=True):
        if column.null_count:
            row = column.is_null().to_pylist().index(True)
            raise InputError(f"pair {row}: {prefix}_{name} is null, but {side} has it; check the direction")
    if not side.is_audio:
        found = [groups.get(spoken_form(text), -1) for text in columns[0].to_pylist()]
        return np.array(found, dtype=np.int64), np.full(len(pairs), -1, dtype=np.int64)
    placed = truth.placed.filter(pa.compute.equal(truth.placed["lang"], side.lang))
    rows = np.flatnonzero(np.asarray(truth.placed["lang"].to_pylist(), dtype=object) == side.lang)
    uris, starts, ends = columns
    found_row = match_spans(
        uris.to_pylist(), starts.to_numpy(), ends.to_numpy(),
        placed["uri"].to_pylist(), placed["start"].to_numpy(), placed["end"].to_numpy(),
    )  # fmt: skip
    row_groups = np.array([groups[spoken_form(text)] for text in placed["english"].to_pylist()] + [-1], dtype=np.int64)
    return row_groups[found_row], np.append(rows, -1).astype(np.int64)[found_row]


def match_spans(
    uris: Sequence[str],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    true_uris: Sequence[str],
    true_starts: NDArray[np.int64],
    true_ends: NDArray[np.int64],
) -> NDArray[np.int64]:
    """For every span the true span of the same file name with IoU ≥ `MIN_OVERLAP`, else -1; shape (num_spans,).

    True spans of one file must not overlap. Where the IoU is above one half, the middle of a span lies in the true
    span, so one binary search for the middles finds the only candidate.
    """
    if not len(true_uris):
        return np.full(len(uris), -1, dtype=np.int64)
    files = {name: number for number, name in enumerate(dict.fromkeys(Path(uri).name for uri in true_uris))}
    file = np.array([files.get(Path(uri).name, -1) for uri in uris], dtype=np.int64)
    true_file = np.array([files[Path(uri).name] for uri in true_uris], dtype=np.int64)
    stride = np.int64(max(int(true_ends.max()), int(ends.max(initial=0))) + 1)  # one file behind the other
    order = np.argsort(true_file * stride + true_starts, kind="stable")
    keys = (true_file * stride + true_starts)[order]
    candidate = order[np.maximum(np.searchsorted(keys, file * stride + (starts + ends) // 2, side="right") - 1, 0)]
    shared = np.minimum(ends, true_ends[candidate]) - np.maximum(starts, true_starts[candidate])
    union = np.maximum(ends, true_ends[candidate]) - np.minimum(starts, true_starts[candidate])
    good = (true_file[candidate] == file) & (shared > 0) & (shared >= MIN_OVERLAP * union)
    return np.where(good, candidate, -1).astype(np.int64)
