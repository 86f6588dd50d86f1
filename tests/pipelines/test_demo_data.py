"""The demo's corpus: truth that agrees with the audio, judging, and synthetic speech.

What needs Debian's or Python's package index is skipped with a message where that cannot be reached. The cache folder
may be given in SEAMLESSALIGN_DEMO_CACHE, so that packages are fetched once.
"""

import hashlib
import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from seamlessalign.audio import decode
from seamlessalign.errors import InputError, StorageError
from seamlessalign.pipelines import demo_data, demo_sources
from seamlessalign.pipelines.demo_audio import FORMATS, AudioFormat, noise, trim, write_recording
from seamlessalign.pipelines.demo_data import (
    SPEECH_LANGUAGES,
    TRUTH,
    TRUTH_TEXTS,
    DemoTruth,
    build_demo,
    fetch_prompts,
    judge,
    load_truth,
    match_spans,
    num_truth,
)
from seamlessalign.pipelines.demo_espeak import SYNTHETIC_NOTE, synthesise_prompts
from seamlessalign.pipelines.demo_sources import (
    LANGUAGES,
    Prompt,
    PromptCollection,
    num_words,
)
from seamlessalign.rows import PAIRS, SAMPLE_RATE

WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given_folder = os.environ.get("SEAMLESSALIGN_DEMO_CACHE")
    return Path(given_folder) if given_folder else tmp_path_factory.mktemp("demo-cache")


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> PromptCollection:
    """Eight prompts in five languages: harmonic tones with a pause inside, between stretches of near silence."""
    folder = tmp_path_factory.mktemp("prompts")
    rng = np.random.default_rng(3)
    collection: dict[str, dict[str, Prompt]] = {}
    for lang in LANGUAGES:
        collection[lang] = {}
        for number, word in enumerate(WORDS):
            time = np.arange(int(rng.integers(8, 20)) * 1600) / SAMPLE_RATE
            tone = 0.2 * np.sin(2 * np.pi * rng.integers(120, 900) * time)
            tone[len(tone) // 2 : len(tone) // 2 + 2400] = 0
            quiet = [1e-5 * rng.standard_normal(int(rng.integers(1, 5)) * 1600) for _ in range(2)]
            path = folder / f"{lang}-{number}.wav"
            soundfile.write(path, np.concatenate([quiet[0], tone, quiet[1]]), SAMPLE_RATE, subtype="FLOAT")
            # prompts p0 and p1 say the same in English
            collection[lang][f"p{number}"] = Prompt(f"p{number}", f"{lang} text of {word}", path)
    english = {f"p{number}": f"This is {word} again" for number, word in enumerate(WORDS)}
    english["p1"] = english["p0"]
    return PromptCollection(
        prompts=collection,
        english=english | {"unspoken": "Nobody recorded this."},
        distractors=[f"Sentence number {number} says nothing of it." for number in range(50)],
        licenses=dict.fromkeys(LANGUAGES, "CC0-1.0"),
        sources=dict.fromkeys(LANGUAGES, "tones"),
        note="Tones, not speech.",
    )


def _build(prompts: PromptCollection, root: Path, seed: int = 5) -> DemoTruth:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_data, "fetch_prompts", lambda cache: prompts)
        return build_demo(root, Path("unused"), minutes=0.2, distractors=30, seed=seed)


@pytest.fixture(scope="module")
def demo(prompts: PromptCollection, tmp_path_factory: pytest.TempPathFactory) -> DemoTruth:
    return _build(prompts, tmp_path_factory.mktemp("demo"))


# The built demo


@pytest.mark.parametrize("lead,tail", [(0, 0), (1600, 3200), (80, 4000)])
def test_trim_finds_the_speech_within_a_frame(lead: int, tail: int) -> None:
    rng = np.random.default_rng(0)
    tone = 0.3 * np.sin(np.arange(8000) / 9)
    tone[3000:5000] = 0  # a pause inside stays
    samples = np.concatenate([np.zeros(lead), tone, np.zeros(tail)]) + 1e-4 * rng.standard_normal(8000 + lead + tail)
    start, end = trim(samples.astype(np.float32))
    assert lead - 160 < start <= lead and lead + 8000 <= end < lead + 8000 + 160


def test_trim_of_silence_and_of_nothing_is_empty() -> None:
    assert trim(np.zeros(1600, np.float32)) == (0, 0)
    assert trim(np.zeros(0, np.float32)) == (0, 0)


def test_truth_lies_where_the_audio_is_loud(demo: DemoTruth) -> None:
    for uri in demo.placed["uri"].unique().to_pylist():
        samples = np.asarray(decode(demo.root / uri).samples, dtype=np.float64)
        inside = np.zeros(len(samples), dtype=bool)
        rows = [row for row in demo.placed.to_pylist() if row["uri"] == uri]
        for row in rows:
            assert 0 <= row["start"] < row["end"] <= len(samples)
            assert not inside[row["start"] : row["end"]].any()
            inside[row["start"] : row["end"]] = True
            edges = samples[row["start"] : row["start"] + 480], samples[row["end"] - 480 : row["end"]]
            outside = samples[row["start"] - 800 : row["start"] - 80], samples[row["end"] + 80 : row["end"] + 800]
            for edge, beyond in zip(edges, outside, strict=True):
                assert _rms(edge) > 5 * _rms(beyond)
        assert 20 < 20 * np.log10(_rms(samples[inside]) / _rms(samples[~inside])) < 50
        gaps = np.diff([0, *(edge for row in rows for edge in (row["start"], row["end"]))])[::2]
        assert gaps.min() >= 0.6 * SAMPLE_RATE - 1 and gaps.max() <= 3 * SAMPLE_RATE + 1


def test_truth_is_the_trimmed_prompt_itself(demo: DemoTruth, prompts: PromptCollection) -> None:
    for row in demo.placed.to_pylist():
        prompt = prompts.prompts[row["lang"]][row["prompt_id"]]
        assert row["text"] == prompt.text and row["english"] == prompts.english[row["prompt_id"]]
        source = decode(prompt.audio).samples
        start, end = trim(source)
        assert row["end"] - row["start"] == end - start
        heard = decode(demo.root / row["uri"]).samples[row["start"] : row["end"]]
        cosine = heard @ source[start:end] / np.sqrt((heard @ heard) * (source[start:end] @ source[start:end]))
        assert cosine > 0.98


def test_layout_of_a_demo(demo: DemoTruth, prompts: PromptCollection) -> None:
    files = sorted(path.relative_to(demo.root).as_posix() for path in (demo.root / "recordings").iterdir())
    manifest = [json.loads(line) for line in (demo.root / "recordings.jsonl").read_text().splitlines()]
    assert [line["path"] for line in manifest] == files and len(files) == 6
    assert all(set(line) == {"path", "license", "source"} for line in manifest)
    assert len({Path(file).suffix for file in files}) == 4
    placed = demo.placed.to_pylist()
    ids = {lang: [row["prompt_id"] for row in placed if row["lang"] == lang] for lang in LANGUAGES}
    assert len({frozenset(ids[lang]) for lang in SPEECH_LANGUAGES}) == 1
    assert len({tuple(ids[lang]) for lang in SPEECH_LANGUAGES}) > 1
    assert set(ids["eng"]) <= set(ids["spa"])
    lines = (demo.root / "texts/english.txt").read_text().split("\n")
    assert lines.pop() == ""
    assert lines == demo.texts["text"].to_pylist()
    decoys = (demo.root / "decoys/english.txt").read_text().split("\n")
    assert decoys.pop() == ""
    every = [*lines, *decoys]
    assert len(every) == len(set(every)) == 30 + len(set(prompts.english.values()))
    unsaid = [text for text in every if text not in placed_texts(demo)]
    assert len(decoys) == round(0.2 * len(unsaid)) and set(decoys) <= set(unsaid)
    by_text = {row["text"]: row["prompt_ids"] for row in demo.texts.to_pylist()}
    assert by_text["This is one again"] == ["p0", "p1"] and by_text.get("Nobody recorded this.") in (None, ["unspoken"])
    assert sum(not keys for keys in by_text.values()) + sum("Sentence number" in text for text in decoys) == 30
    assert demo.note == "Tones, not speech." and load_truth(demo.root).placed.equals(demo.placed)
    assert {path.name for path in demo.root.iterdir()} == {
        "recordings", "texts", "decoys", "recordings.jsonl", "truth.parquet", "truth_texts.parquet",
    }  # fmt: skip


def placed_texts(demo: DemoTruth) -> set[str]:
    return set(demo.placed["english"].to_pylist())


def test_same_seed_same_bytes_other_seed_other_order(
    prompts: PromptCollection, demo: DemoTruth, tmp_path: Path
) -> None:
    _build(prompts, tmp_path, seed=6)
    other = _digests(tmp_path)
    _build(prompts, tmp_path)  # replaces the other
    assert _digests(tmp_path) == _digests(demo.root)
    assert other["truth.parquet"] != _digests(demo.root)["truth.parquet"]
    assert other["texts/english.txt"] != _digests(demo.root)["texts/english.txt"]


def test_a_place_that_cannot_be_written_is_named(prompts: PromptCollection, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="file/demo: the demo cannot be written"):
        _build(prompts, tmp_path / "file/demo")


def test_a_folder_that_is_no_demo_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "recordings").mkdir()
    (tmp_path / "recordings/mine.wav").write_bytes(b"precious")
    with pytest.raises(InputError, match="not a demo's"):
        build_demo(tmp_path, Path("unused"), minutes=0.1)
    assert (tmp_path / "recordings/mine.wav").read_bytes() == b"precious"
    with pytest.raises(InputError, match="build the demo first"):
        load_truth(tmp_path)


@pytest.mark.parametrize("minutes,distractors", [(0.0, 1), (-1.0, 1), (float("nan"), 1), (1.0, -1)])
def test_arguments_without_sense_are_refused(tmp_path: Path, minutes: float, distractors: int) -> None:
    with pytest.raises(InputError, match="minutes in"):
        build_demo(tmp_path / "demo", tmp_path, minutes=minutes, distractors=distractors)


@pytest.mark.parametrize("audio_format", FORMATS, ids=lambda f: f"{f.suffix}-{f.sample_rate}")
def test_formats_keep_the_time(audio_format: AudioFormat, tmp_path: Path) -> None:
    samples = noise(16_000, 0.1, pink=True, rng=np.random.default_rng(1))
    path = tmp_path / "recording"
    write_recording(path, samples, audio_format)
    heard = np.asarray(decode(path).samples)
    lags = np.fft.irfft(np.fft.rfft(heard, 65_536) * np.conj(np.fft.rfft(samples, 65_536)))
    assert int(lags.argmax()) == 0
    first = path.read_bytes()
    write_recording(path, samples, audio_format)
    assert path.read_bytes() == first


# Judging


def _truth() -> DemoTruth:
    """Two recordings of Spanish, one of French, one of English."""
    rows = [
        ("r/a.wav", "spa", "p0", 1000, 2000, "Hola", "Hello to you"),
        ("r/a.wav", "spa", "p1", 3000, 3100, "Adios", "Good bye now"),
        ("r/a.wav", "spa", "p2", 3110, 4110, "Hola a ti", "Hello to you"),
        ("r/b.wav", "spa", "p3", 1000, 2000, "Gracias", "Thank you all"),
        ("r/c.wav", "fra", "p0", 500, 1500, "Bonjour", "Hello to you"),
        ("r/c.wav", "fra", "p3", 5000, 6000, "Merci", "Thank you all"),
        ("r/d.wav", "eng", "p1", 700, 900, "Good bye now", "Good bye now"),
    ]
    texts = [("Hello to you", ["p0", "p2"]), ("Noise.", []), ("Good bye now", ["p1"]), ("Thank you all", ["p3"])]
    return DemoTruth(
        root=Path(),
        placed=pa.Table.from_pylist([dict(zip(TRUTH.names, row, strict=True)) for row in rows], schema=TRUTH),
        texts=pa.Table.from_pylist([dict(zip(TRUTH_TEXTS.names, t, strict=True)) for t in texts], schema=TRUTH_TEXTS),
        note="",
    )


Side = str | tuple[str, int, int]


def _pairs(direction: str, sides: list[tuple[Side, Side]]) -> pa.Table:
    rows = []
    for number, pair in enumerate(sides):
        row: dict[str, object] = dict.fromkeys(PAIRS.names)
        row |= {
            "pair_id": str(number),
            "direction": direction,
            "src_id": "",
            "tgt_id": "",
            "src_lang": "",
            "tgt_lang": "",
        }
        row |= {"margin": 1.0, "cosine": 1.0, "forward_rank": 0, "backward_rank": 0, "kept": True}
        for prefix, side in zip(("src", "tgt"), pair, strict=True):
            if isinstance(side, str):
                row[f"{prefix}_text"] = side
            else:
                row |= dict(zip((f"{prefix}_uri", f"{prefix}_start", f"{prefix}_end"), side, strict=True))
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=PAIRS)


def test_judge_text_and_speech() -> None:
    cases: list[tuple[str, tuple[str, int, int], str]] = [
        ("Hello to you", ("r/a.wav", 1000, 2000), "p0"),
        ("Hello to you", ("gs://bucket/elsewhere/a.wav", 1000, 2000), "p0"),  # found by file name
        ("Hello  to you ", ("r/a.wav", 1000, 2000), "p0"),
        ("Hello to you", ("r/a.wav", 1000, 1800), "p0"),  # IoU exactly 0.8
        ("Hello to you", ("r/a.wav", 1000, 1799), ""),
        ("Hello to you", ("r/a.wav", 900, 2150), "p0"),
        ("Hello to you", ("r/a.wav", 900, 2151), ""),
        ("Hello to you", ("r/a.wav", 3000, 4110), "p2"),  # over the short p1 before it; same English as p0
        ("Good bye now", ("r/a.wav", 3000, 4110), ""),
        ("Good bye now", ("r/a.wav", 3000, 3100), "p1"),
        ("Thank you all", ("r/b.wav", 1000, 2000), "p3"),
        ("Thank you all", ("r/a.wav", 1000, 2000), ""),  # same times, other recording
        ("Noise.", ("r/a.wav", 1000, 2000), ""),
        ("never seen", ("r/a.wav", 1000, 2000), ""),
        ("Hello to you", ("r/c.wav", 500, 1500), ""),  # the right words, but French
        ("Hello to you", ("r/none.wav", 1000, 2000), ""),
        ("Hello to you", ("r/a.wav", 1500, 1500), ""),
    ]
    pairs = _pairs("eng-esA", [(text, span) for text, span, _ in cases])
    judged = judge(_truth(), pairs, "eng-esA")
    assert judged["truth_id"].to_pylist() == [expected for _, _, expected in cases]
    assert judged["correct"].to_pylist() == [bool(expected) for _, _, expected in cases]
    assert judged.select(PAIRS.names).equals(pairs)
    turned = _pairs("esA-eng", [(span, text) for text, span, _ in cases])
    assert judge(_truth(), turned, "esA-eng")["truth_id"].to_pylist() == [expected for _, _, expected in cases]


def test_judge_speech_and_speech() -> None:
    french = ("x/c.wav", 500, 1500)
    cases: list[tuple[tuple[str, int, int], tuple[str, int, int], str]] = [
        (("x/a.wav", 1000, 2000), french, "p0"),
        (("x/a.wav", 3110, 4110), french, "p2"),  # another prompt with the same English
        (("x/b.wav", 1000, 2000), french, ""),
        (("x/b.wav", 1000, 2000), ("c.wav", 5000, 6000), "p3"),
        (("x/b.wav", 1000, 2000), ("c.wav", 5000, 5700), ""),
        (french, ("x/a.wav", 1000, 2000), ""),  # languages exchanged
    ]
    judged = judge(_truth(), _pairs("esA-frA", [(src, tgt) for src, tgt, _ in cases]), "esA-frA")
    assert judged["truth_id"].to_pylist() == [expected for _, _, expected in cases]


def test_num_truth_counts_what_judge_can_find() -> None:
    truth = _truth()
    assert num_truth(truth, "eng-esA") == num_truth(truth, "esA-eng") == 4
    assert num_truth(truth, "eng-frA") == 2
    assert num_truth(truth, "esA-frA") == 3  # p2 has a counterpart in p0's French
    assert num_truth(truth, "frA-esA") == 2
    assert num_truth(truth, "enA-frA") == 0
    assert num_truth(truth, "enA-esA") == 1
    assert num_truth(truth, "eng-itA") == 0


def test_judge_without_pairs_and_without_truth_of_a_language() -> None:
    empty = judge(_truth(), PAIRS.empty_table(), "eng-esA")
    assert empty.num_rows == 0 and empty.schema.field("correct").type == pa.bool_()
    judged = judge(_truth(), _pairs("eng-itA", [("Hello to you", ("r/a.wav", 1000, 2000))]), "eng-itA")
    assert judged["correct"].to_pylist() == [False]


def test_judge_refuses_what_does_not_fit() -> None:
    pairs = _pairs("eng-esA", [("Hello to you", ("r/a.wav", 1000, 2000))])
    with pytest.raises(InputError, match="other directions"):
        judge(_truth(), pairs, "eng-frA")
    with pytest.raises(InputError, match="texts in eng only"):
        judge(_truth(), pairs, "fra-esA")
    with pytest.raises(InputError, match="pair 0: src_uri is null"):
        judge(_truth(), pairs.drop_columns(["direction"]), "enA-esA")


_LENGTHS = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 30)), max_size=12)  # (gap, length)


@settings(max_examples=300, deadline=None)
@given(
    files=st.lists(_LENGTHS, min_size=1, max_size=3),
    spans=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 200), st.integers(0, 60)), max_size=20),
    near=st.lists(st.tuples(st.integers(0, 35), st.integers(-4, 4), st.integers(-4, 4)), max_size=20),
)
def test_matching_agrees_with_looking_at_every_span(
    files: list[list[tuple[int, int]]], spans: list[tuple[int, int, int]], near: list[tuple[int, int, int]]
) -> None:
    true: list[tuple[str, int, int]] = []
    for number, parts in enumerate(files):
        position = 0
        for gap, length in parts:
            true.append((f"truth/{number}", position + gap, position + gap + length))
            position += gap + length
    true = true[::-1]  # in no particular order
    mined = [(f"mined/{file}", start, start + length) for file, start, length in spans]
    for index, left, right in near:  # spans close to true ones, where the decision lies
        if true:
            uri, start, end = true[index % len(true)]
            mined.append((uri, max(start + left, 0), max(end + right, start + left, 0)))
    expected = []
    for uri, start, end in mined:
        found = -1
        for number, (other, true_start, true_end) in enumerate(true):
            shared = len(set(range(start, end)) & set(range(true_start, true_end)))
            union = len(set(range(start, end)) | set(range(true_start, true_end)))
            if Path(uri).name == Path(other).name and shared * 5 >= union * 4:
                found = number
        expected.append(found)
    got = match_spans(*_columns(mined), *_columns(true))
    assert got.tolist() == expected


def _columns(spans: list[tuple[str, int, int]]) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    starts, ends = (np.array([span[i] for span in spans], dtype=np.int64) for i in (1, 2))
    return [span[0] for span in spans], starts, ends


# Fetching


def test_without_debian_auto_speaks_with_espeak(
    prompts: PromptCollection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_debian(command: list[str], cwd: Path, purpose: str, hint: str) -> None:
        raise InputError(f"{purpose}: the program {command[0]} is not installed; {hint}")

    monkeypatch.setattr(demo_sources, "run_command", no_debian)
    monkeypatch.setattr(demo_data, "synthesise_prompts", lambda cache: prompts)
    truth = build_demo(tmp_path / "demo", tmp_path / "cache", minutes=0.1, distractors=5)
    assert truth.placed.num_rows
    said = capsys.readouterr().err
    assert "apt-get is not installed" in said
    assert not list((tmp_path / "cache").glob(".fetching-*"))
    with pytest.raises(InputError, match="apt-get is not installed"):
        build_demo(tmp_path / "demo", tmp_path / "cache", minutes=0.1, source="asterisk")


@pytest.mark.speech
def test_asterisk_prompts_for_real(cache: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    try:
        collection = fetch_prompts(cache)
    except InputError as error:
        pytest.skip(f"Debian packages cannot be fetched here: {error}")
    capsys.readouterr()
    assert fetch_prompts(cache) == collection  # from the cache
    assert capsys.readouterr().err == ""
    assert "conf-adminmenu" in collection.prompts["eng"] and "conf-adminmenu" not in collection.prompts["rus"]
    assert collection.prompts["ita"]["conf-full"].text == "La conferenza ? piena."
    assert collection.prompts["spa"]["digits/0"].text == "cero"
    assert collection.english["conf-getconfno"] == "Please enter your conference number followed by the pound key."
    assert all(len(collection.prompts[lang]) > 450 for lang in LANGUAGES) and len(collection.distractors) > 4000
    truth = build_demo(tmp_path, cache, minutes=0.5, distractors=100, source="asterisk")
    assert truth.note.startswith("Human speech")
    assert min(row["end"] - row["start"] for row in truth.placed.to_pylist()) >= SAMPLE_RATE // 2
    for lang in SPEECH_LANGUAGES:
        rows = [row for row in truth.placed.to_pylist() if row["lang"] == lang]
        samples = np.asarray(decode(truth.root / rows[0]["uri"]).samples, dtype=np.float64)
        speech = np.concatenate([samples[row["start"] : row["end"]] for row in rows])
        silence = np.concatenate(
            [samples[a["end"] : b["start"]] for a, b in pairwise(rows)] + [samples[: rows[0]["start"]]]
        )
        assert _rms(speech) > 10 * _rms(silence)


def test_espeak_for_real(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        collection = synthesise_prompts(cache)
    except InputError as error:
        pytest.skip(f"packages cannot be downloaded here: {error}")
    assert SYNTHETIC_NOTE in capsys.readouterr().err
    assert len(collection.english) > 100 and len(collection.distractors) > 800
    key = next(key for key, text in collection.english.items() if text == "This field is required.")
    assert collection.prompts["fra"][key].text == "Ce champ est obligatoire."
    truth = build_demo(tmp_path, cache, minutes=0.4, distractors=100, source="espeak")
    assert truth.note == SYNTHETIC_NOTE and num_truth(truth, "eng-esA") >= 4
    for row in truth.placed.to_pylist():
        samples = decode(truth.root / row["uri"]).samples[row["start"] : row["end"]]
        assert 0.5 < len(samples) / SAMPLE_RATE < 40
        words_per_second = num_words(row["text"]) / (len(samples) / SAMPLE_RATE)
        assert 0.5 < words_per_second < 6  # the whole sentence is spoken


def _rms(samples: NDArray[Any]) -> float:
    return float(np.sqrt((np.asarray(samples, dtype=np.float64) ** 2).mean()))


def _digests(root: Path) -> dict[str, str]:
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
