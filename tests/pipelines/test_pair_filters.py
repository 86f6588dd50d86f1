"""Columns of candidates and a configuration → reasons: which filters fit which sides, in what order, and lexicons."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from pydantic import ValidationError

from seamlessalign.audio import encode
from seamlessalign.config import FiltersConfig, dump_config, load_config
from seamlessalign.errors import ConfigError, InputError
from seamlessalign.languages import Side
from seamlessalign.mining.text_filters import fold
from seamlessalign.pipelines.pair_filters import (
    after_overlaps,
    before_overlaps,
    idle_filters,
    lexicons_digest,
    read_lexicon,
    sounds_alike,
)
from tests.segmentation.voice import voice

TEXT, SPEECH, OTHER_TEXT, OTHER_SPEECH = Side("eng", False), Side("fra", True), Side("fra", False), Side("spa", True)
RATE = 16_000


def of_text(side: str, texts: list[str], lang_prob: list[float] | None = None) -> dict[str, Any]:
    """The columns of a text side."""
    columns = {f"{side}_text": pa.chunked_array([texts], pa.string())}
    if lang_prob is not None:
        columns[f"{side}_lang_prob"] = pa.chunked_array([lang_prob], pa.float32())
    return columns


def of_speech(
    side: str, seconds: list[float], uri: str = "a.wav", lang_prob: list[float] | None = None
) -> dict[str, Any]:
    """The columns of a speech side with spans of so many seconds."""
    columns = {
        f"{side}_uri": pa.chunked_array([[uri] * len(seconds)], pa.string()),
        f"{side}_start": pa.chunked_array([[0] * len(seconds)], pa.int64()),
        f"{side}_end": pa.chunked_array([[round(s * RATE) for s in seconds]], pa.int64()),
    }
    if lang_prob is not None:
        columns[f"{side}_lang_prob"] = pa.chunked_array([lang_prob], pa.float32())
    return columns


def none_yet(number: int) -> Any:
    return pa.nulls(number, pa.string())


def lexicon(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_text_against_speech() -> None:
    texts = [
        "a good sentence",
        "x",
        "y" * 100,
        "😀😀😀😀 ok",
        "... ...!!! a",
        "a        b",
        "a good sentence",
        "a good one",
    ]
    columns = of_text("src", texts) | of_speech("tgt", [1, 1, 1, 1, 1, 1, 60, 1])
    low = pa.chunked_array([[None] * 7 + ["below_threshold"]], pa.string())
    wanted = [
        None,
        "too_slow",
        "too_fast",
        "emoji_share",
        "punctuation_share",
        "space_share",
        "too_long",
        "below_threshold",
    ]
    assert before_overlaps(TEXT, SPEECH, columns, FiltersConfig(), low).to_pylist() == wanted
    turned = {name.replace("src", "x").replace("tgt", "src").replace("x_", "tgt_"): c for name, c in columns.items()}
    assert before_overlaps(SPEECH, TEXT, turned, FiltersConfig(), low).to_pylist() == wanted


def test_speech_against_speech() -> None:
    columns = of_speech("src", [2, 2, 0.05, 2]) | of_speech("tgt", [2, 7, 2, 60])
    found = before_overlaps(SPEECH, OTHER_SPEECH, columns, FiltersConfig(), none_yet(4))
    assert found.to_pylist() == [None, "duration_ratio", "too_short", "too_long"]


def test_text_against_text() -> None:
    columns = of_text("src", ["New York", "hello", "?!", "x" * 500]) | of_text(
        "tgt", ["NEW YORK.", "salut", "...", "y"]
    )
    wanted = ["identical_text", None, "punctuation_share", None]
    assert before_overlaps(TEXT, OTHER_TEXT, columns, FiltersConfig(), none_yet(4)).to_pylist() == wanted
    kept = before_overlaps(TEXT, OTHER_TEXT, columns, FiltersConfig(drop_identical_text=False), none_yet(4))
    assert kept.to_pylist() == [None, *wanted[1:]]


def test_no_candidates() -> None:
    filters = FiltersConfig(drop_identical_audio=True, max_hours=1, max_pairs_per_text=1)
    for src, tgt, columns in (
        (TEXT, SPEECH, of_text("src", []) | of_speech("tgt", [])),
        (SPEECH, OTHER_SPEECH, of_speech("src", []) | of_speech("tgt", [])),
    ):
        reasons = before_overlaps(src, tgt, columns, filters, none_yet(0))
        assert after_overlaps(src, tgt, columns, np.zeros(0), filters, reasons).to_pylist() == []


def test_language_probabilities() -> None:
    columns = of_text("src", ["a good sentence"] * 3, [0.2, 0.9, 0.9]) | of_speech("tgt", [1] * 3, "a", [0.9, 0.9, 0.2])
    for filters, wanted in (
        (FiltersConfig(), [None, None, None]),
        (FiltersConfig(min_text_lang_prob=0.5), ["uncertain_text_language", None, None]),
        (FiltersConfig(min_speech_lang_prob=0.9), [None, None, "uncertain_speech_language"]),
    ):
        assert before_overlaps(TEXT, SPEECH, columns, filters, none_yet(3)).to_pylist() == wanted
    bare = of_text("src", ["a good sentence"]) | of_speech("tgt", [1])
    assert before_overlaps(TEXT, SPEECH, bare, FiltersConfig(), none_yet(1)).to_pylist() == [None]
    with pytest.raises(InputError, match="no column tgt_lang_prob"):
        before_overlaps(TEXT, SPEECH, bare, FiltersConfig(min_speech_lang_prob=0.5), none_yet(1))


def test_toxicity(tmp_path: Path) -> None:
    filters = FiltersConfig(
        toxicity_lexicons={
            "eng": lexicon(tmp_path, "eng.txt", "\ufefffool\r\n\r\n  bad word \r\n"),
            "fra": lexicon(tmp_path, "fra.txt", "idiot\n"),
        }
    )
    src, said = ["you fool", "a bad word", "nothing"], ["pauvre idiot", "un mot", "rien"]
    wanted = [None, "toxicity_imbalance", None]
    columns = of_text("src", src) | of_text("tgt", said)
    assert before_overlaps(TEXT, OTHER_TEXT, columns, filters, none_yet(3)).to_pylist() == wanted
    speech = of_text("src", src) | of_speech("tgt", [1, 1, 1])
    assert before_overlaps(TEXT, SPEECH, speech, filters, none_yet(3)).to_pylist() == [None] * 3  # nothing to look at
    heard = speech | {"tgt_transcript": pa.array(said)}
    assert before_overlaps(TEXT, SPEECH, heard, filters, none_yet(3)).to_pylist() == wanted
    one = FiltersConfig(toxicity_lexicons={"eng": filters.toxicity_lexicons["eng"]})
    assert before_overlaps(TEXT, OTHER_TEXT, columns, one, none_yet(3)).to_pylist() == [None] * 3


@pytest.fixture
def recordings(tmp_path: Path) -> tuple[str, str, str, str]:
    """Uris of a recording with a sound of 2 s at 1 s, of one with it at 3 s as Opus, of one cut short, and of none."""
    sound, pause = voice(4.0)[RATE : 3 * RATE], np.zeros(RATE, np.float32)
    one, two = tmp_path / "one.flac", tmp_path / "two.opus"
    one.write_bytes(encode(np.concatenate([pause, sound, pause, sound[::-1].copy()]), "flac"))
    two.write_bytes(encode(np.concatenate([pause, pause, pause, sound * np.float32(0.1), pause]), "opus"))
    short = tmp_path / "short.flac"
    short.write_bytes(encode(sound, "flac"))
    return str(one), str(two), str(short), str(tmp_path / "gone.flac")


def test_identical_audio_is_read_from_the_recordings(recordings: tuple[str, str, str, str]) -> None:
    one, two, short, gone = recordings
    src = [(one, 1, 3), (one, 4, 6), (one, 1, 3), (gone, 1, 3), (one, 1, 3), (two, 3, 5)]
    tgt = [(two, 3.05, 5), (two, 3, 5), (two, 3, 4), (two, 3, 5), (short, 1, 3), (one, 1, 3)]
    columns = {}
    for side, spans in (("src", src), ("tgt", tgt)):
        columns[f"{side}_uri"] = pa.array([uri for uri, _, _ in spans])
        columns[f"{side}_start"] = pa.array([round(start * RATE) for _, start, _ in spans], pa.int64())
        columns[f"{side}_end"] = pa.array([round(end * RATE) for _, _, end in spans], pa.int64())
    same = "identical_audio"
    assert sounds_alike(columns, none_yet(6)).to_pylist() == [same, None, None, None, None, same]
    on = FiltersConfig(drop_identical_audio=True)
    assert before_overlaps(SPEECH, OTHER_SPEECH, columns, on, none_yet(6)).to_pylist() == [None] * 6


def test_audio_is_asked_for_only_where_it_decides_and_recording_by_recording() -> None:
    uris = [("b", "x"), ("a", "y"), ("b", "x"), ("a", "x"), ("a", "y")]
    columns = of_speech("src", [2.0] * 5) | of_speech("tgt", [2.0] * 5)
    columns |= {"src_uri": pa.array([a for a, _ in uris]), "tgt_uri": pa.array([b for _, b in uris])}
    asked = []

    def fetch(side: str, rows: Any) -> list[tuple[int, Any]]:
        asked.append((side, rows.tolist()))
        return [(row, voice(2.0)) for row in rows.tolist()]

    low = pa.array([None, None, "below_threshold", None, None])
    found = sounds_alike(columns, low, fetch)
    assert asked == [("src", [3, 1, 4, 0]), ("tgt", [3, 1, 4, 0])]
    same = "identical_audio"
    assert found.to_pylist() == [same, same, "below_threshold", same, same]


def test_limits_come_last_and_the_best_stay() -> None:
    texts = ["Hello.", "hello", "Hello!", "good bye", "good bye", "thanks"]
    columns = of_text("src", texts) | of_speech("tgt", [1800, 1800, 1800, 1800, 1800, 1800])
    scores = np.array([1.2, 1.4, 1.3, 1.25, 1.1, 1.15], np.float32)
    reasons = pa.array([None, "overlap", None, None, None, None], pa.string())
    filters = FiltersConfig(max_pairs_per_text=1, max_hours=1.0)
    columns["src_text"] = fold(columns["src_text"])
    found = after_overlaps(TEXT, SPEECH, columns, scores, filters, reasons)
    # of the three greetings the best that is left stays; the hour goes to it and to the next best
    wanted = ["repeated_text", "overlap", None, None, "repeated_text", "beyond_max_hours"]
    assert found.to_pylist() == wanted
    assert after_overlaps(TEXT, SPEECH, columns, scores, FiltersConfig(), reasons).to_pylist() == reasons.to_pylist()


def test_hours_are_those_of_the_first_speech_side() -> None:
    columns = of_speech("src", [3600, 3600]) | of_speech("tgt", [1800, 1800])
    filters = FiltersConfig(max_hours=1.0, max_pairs_per_text=1)
    found = after_overlaps(SPEECH, OTHER_SPEECH, columns, np.array([1.0, 2.0]), filters, none_yet(2))
    assert found.to_pylist() == ["beyond_max_hours", None]


def test_filters_that_can_do_nothing_are_named() -> None:
    both = FiltersConfig(toxicity_lexicons={"eng": "a", "fra": "b"})
    assert idle_filters(TEXT, OTHER_TEXT, both) == []
    assert idle_filters(TEXT, SPEECH, both, transcripts=True) == []
    assert idle_filters(Side("spa", False), Side("ita", True), both) == []
    assert idle_filters(TEXT, SPEECH, both) == [
        "mining.filters.toxicity_lexicons: nothing is dropped from eng-frA, since frA has no text"
    ]
    one = FiltersConfig(toxicity_lexicons={"eng": "a"})
    told = idle_filters(TEXT, OTHER_TEXT, one)
    assert told == ["mining.filters.toxicity_lexicons: nothing is dropped from eng-fra, since there is none for fra"]
    audio = FiltersConfig(drop_identical_audio=True)
    assert idle_filters(SPEECH, OTHER_SPEECH, audio) == [] and len(idle_filters(TEXT, SPEECH, audio)) == 1
    texts = FiltersConfig(max_pairs_per_text=3)
    assert idle_filters(TEXT, SPEECH, texts) == [] and len(idle_filters(SPEECH, OTHER_SPEECH, texts)) == 1
    assert idle_filters(TEXT, SPEECH, FiltersConfig()) == idle_filters(SPEECH, OTHER_SPEECH, FiltersConfig()) == []


def test_the_digest_follows_what_lexicons_hold(tmp_path: Path) -> None:
    a, same = lexicon(tmp_path, "a", "fool\nbad\n"), lexicon(tmp_path, "same", "fool\r\n\nbad")
    other, joined = lexicon(tmp_path, "other", "fool\nbat\n"), lexicon(tmp_path, "joined", "fool bad\n")

    def digest(**files: str) -> str:
        return lexicons_digest(FiltersConfig(toxicity_lexicons=files))

    assert digest() == ""
    assert digest(eng=a) == digest(eng=same) and len(digest(eng=a)) == 16
    some = [digest(eng=a), digest(eng=other), digest(eng=joined), digest(fra=a), digest(eng=a, fra=a)]
    assert len(set(some)) == len(some)
    assert digest(eng=a, fra=other) == digest(fra=other, eng=a) != digest(eng=other, fra=a)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "holds no word; write one word or phrase a line"),
        (b"\n  \n", "holds no word"),
        (b"good\nb\xe9\n", "line 2 is not UTF-8"),
        (b"good\n!!\n", "lexicon: '!!' has no letter or digit"),
    ],
)
def test_a_lexicon_that_cannot_be_used(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "words.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_lexicon("eng", str(path))
    message = str(caught.value)
    assert message.startswith(f"mining.filters.toxicity_lexicons.eng: {path}: ") and told in message
    assert "\n" not in message


def test_a_folder_is_no_lexicon(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        lexicons_digest(FiltersConfig(toxicity_lexicons={"eng": str(tmp_path)}))


def test_lexicons_lie_beside_the_configuration(tmp_path: Path) -> None:
    raw: dict[str, Any] = {"directions": ["eng-frA"], "speech": {"inputs": ["a"]}, "text": {"inputs": ["t"]}}
    raw["mining"] = {"filters": {"toxicity_lexicons": {"eng": "words/eng.txt", "fra": "/f", "spa": "s3://b/spa"}}}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(raw))
    config = load_config(str(path))
    wanted = {"eng": str(tmp_path / "words/eng.txt"), "fra": "/f", "spa": "s3://b/spa"}
    assert config.mining.filters.toxicity_lexicons == wanted
    path.write_text(yaml.safe_dump(dump_config(config)))
    assert load_config(str(path)) == config


@pytest.mark.parametrize(
    ("lexicons", "told"),
    [
        ({"fr": "a"}, "run.yaml: mining.filters.toxicity_lexicons.fr: language 'fr': use its ISO 639-3 code 'fra'"),
        ({"fra": 3}, "mining.filters.toxicity_lexicons.fra: input should be a valid string"),
        (["a"], "mining.filters.toxicity_lexicons: input should be a valid dictionary"),
    ],
)
def test_wrong_lexicons_in_the_configuration(tmp_path: Path, lexicons: Any, told: str) -> None:
    raw: dict[str, Any] = {"directions": ["eng-frA"], "speech": {"inputs": ["a"]}, "text": {"inputs": ["t"]}}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(raw | {"mining": {"filters": {"toxicity_lexicons": lexicons}}}))
    with pytest.raises(ConfigError) as caught:
        load_config(str(path))
    assert told in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [{"max_emoji_share": 1.1}, {"max_hours": 0}, {"max_pairs_per_text": 0}, {"min_text_lang_prob": 2}, {"max_hour": 3}],
    ids=str,
)
def test_wrong_options(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FiltersConfig(**wrong)
