"""FLEURS: recordings joined with sentences of another language by their numbers."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.errors import ConfigError, InputError
from seamlessalign.languages import find_language
from seamlessalign.training.evaluation.datasets.choice import Read, Wanted
from seamlessalign.training.evaluation.datasets.covered import FLEURS, LISTS, covered, languages_of
from seamlessalign.training.evaluation.datasets.fleurs import Utterance, _joined, read_fleurs
from tests.training.evaluation.datasets.layouts import fleurs, hertz_of

# two speakers of the first sentence, and a sentence (2) that French lacks
SAID = {
    "en_us": [(0, "e0"), (1, "e1"), (0, "e0b"), (2, "e2")],
    "fr_fr": [(1, "f1"), (0, "f0"), (1, "f1b"), (3, "f3")],
    "fil_ph": [(0, "t0"), (2, "t2")],
}


def _wanted(directions: str | list[str], task: str = "s2tt", **more: object) -> Wanted:
    return Wanted("test", task, directions, **more)  # type: ignore[arg-type]


def _balances(read: Read) -> bool:
    return read.entries == len(read.rows) + sum(read.set_aside.values())


@pytest.fixture(params=[False, True], ids=["unpacked", "tar.gz"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return fleurs(tmp_path, SAID, packed=request.param)


def test_speech_of_one_language_with_text_of_another(root: Path) -> None:
    read = read_fleurs(str(root), _wanted(["en-fra", "fil-eng"]))
    assert [(row.id, row.references[0], row.src_text, row.group) for row in read.rows] == [
        ("eng-fra/e0", "Le chat dort.", "The cat sleeps.", "0"),
        ("eng-fra/e1", 'Il a dit "NA".', 'He said "NA".', "1"),
        ("eng-fra/e0b", "Le chat dort.", "The cat sleeps.", "0"),
        ("tgl-eng/t0", "The cat sleeps.", "Natutulog ang pusa.", "0"),
        ("tgl-eng/t2", "It rains.", "Umuulan.", "2"),
    ]
    assert (read.entries, read.set_aside, read.without_sound) == (6, {"sentence_not_in_target": 1}, 0)
    assert [hertz_of(row) for row in read.rows] == [1000, 1100, 1200, 3000, 3100]
    assert all(row.reference_sound is None for row in read.rows)
    assert {(row.src_lang, row.tgt_lang) for row in read.rows} == {("eng", "fra"), ("tgl", "eng")}


def test_every_task(root: Path) -> None:
    (first, *_), aside = (read := read_fleurs(str(root), _wanted(["fra-eng"], "s2st"))).rows, read.set_aside
    assert (hertz_of(first), hertz_of(first, reference=True)) == (2000, 1100)
    assert (len(read.rows), aside) == (3, {"sentence_not_in_target": 1})
    asr = read_fleurs(str(root), _wanted("all", "asr"))
    assert len(asr.rows) == asr.entries == 10
    assert all(row.src_text is None and row.src_lang == row.tgt_lang for row in asr.rows)
    texts = read_fleurs(str(root), _wanted(["eng-tgl"], "t2tt"))  # once a sentence, whoever said it
    assert [(row.id, row.src_sound, row.group) for row in texts.rows] == [
        ("eng-tgl/0", None, None),
        ("eng-tgl/2", None, None),
    ]
    spoken = read_fleurs(str(root), _wanted(["eng-tgl"], "t2st"))
    assert [hertz_of(row, reference=True) for row in spoken.rows] == [3000, 3100]


def test_all_that_is_there(root: Path) -> None:
    into = read_fleurs(str(root), _wanted("x-eng"))
    assert {row.direction for row in into.rows} == {"fra-eng", "tgl-eng"}
    assert "3 of the 102 languages of FLEURS are there" in into.notes
    out = read_fleurs(str(root), _wanted("eng-x", languages=("fil",)))
    assert {row.direction for row in out.rows} == {"eng-tgl"}
    every = read_fleurs(str(root), _wanted("all", limit=1))
    assert len(every.rows) == 6
    assert _balances(every)
    assert every.set_aside["beyond_limit"] > 0
    listed = read_fleurs(str(root), _wanted("eng-x", "s2st", languages=("seamlessm4t",)))
    assert {row.direction for row in listed.rows} == {"eng-fra", "eng-tgl"}


@settings(max_examples=50)
@given(st.lists(st.integers(0, 5), max_size=12), st.lists(st.integers(0, 5), max_size=12), st.booleans())
def test_nothing_is_lost(src: list[int], tgt: list[int], speech: bool) -> None:
    said = [Utterance(str(number), f"{place}", f"s {number}", None) for place, number in enumerate(src)]
    others = [Utterance(str(number), f"{place}", f"t {number}", None) for place, number in enumerate(tgt)]
    entries = list(_joined(said, others, _wanted(["eng-fra"], "s2tt" if speech else "t2tt")))
    assert len(entries) == (len(src) if speech else len(set(src)))
    for entry in entries:
        assert (entry.reason is None) == (str(entry.src_text).split()[1] in {str(s) for s in tgt})
        assert entry.tgt_text in (None, str(entry.src_text).replace("s", "t"))


def test_a_recording_that_is_not_there_leaves_its_row(tmp_path: Path) -> None:
    root = fleurs(tmp_path, SAID)
    (root / "data/en_us/audio/test/e1.wav").unlink()
    read = read_fleurs(str(root), _wanted(["eng-fra"]))
    assert (len(read.rows), read.without_sound) == (3, 1)
    assert read.rows[1].src_sound is None
    assert any("1 rows stay without the sound of their source" in line for line in read.told())
    other = read_fleurs(str(root), _wanted(["fra-eng"], "s2st"))
    assert other.without_target_sound == 2  # e1 is the only one of its sentence, f1 and f1b say it


def test_the_speaker_who_is_there_is_the_reference(tmp_path: Path) -> None:
    root = fleurs(tmp_path, SAID)
    (root / "data/en_us/audio/test/e0.wav").unlink()
    (row,) = [row for row in read_fleurs(str(root), _wanted(["fra-eng"], "s2st")).rows if row.group == "0"]
    assert hertz_of(row, reference=True) == 1200


@pytest.mark.parametrize(
    ("directions", "told"),
    [
        (["eng-deu"], "has no deu, but eng, fra, tgl"),
        (["eng-qqq"], "language 'qqq' is not in the table"),
        (["eng"], "'eng': write two languages joined by '-'"),
        (["eng-eng"], "'eng-eng': write two languages"),
        ("x-fra", "'x-fra': should be x-eng, eng-x, all, or a list"),
    ],
)
def test_directions_that_cannot_be(tmp_path: Path, directions: str | list[str], told: str) -> None:
    root = fleurs(tmp_path, SAID)
    with pytest.raises((ConfigError, InputError), match=told):
        read_fleurs(str(root), _wanted(directions))


def test_files_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no folders of FLEURS such as fr_fr"):
        read_fleurs(str(tmp_path), _wanted("all"))
    root = fleurs(tmp_path, SAID, packed=True)
    with pytest.raises(ConfigError, match="FLEURS has train, dev, test"):
        read_fleurs(str(root), Wanted("validation", "s2tt", "all"))
    with pytest.raises(InputError, match=r"dev.tsv: is not there: fetch the split dev of en_us"):
        read_fleurs(str(root), Wanted("dev", "s2tt", ["eng-fra"]))
    table = root / "data/fr_fr/test.tsv"
    whole = table.read_text(encoding="utf-8")
    table.write_text(whole.replace("\tFEMALE", "", 1), encoding="utf-8")
    with pytest.raises(InputError, match=r"test.tsv line 1: is no line of FLEURS, .* this has 6; fetch it anew"):
        read_fleurs(str(root), _wanted(["eng-fra"]))
    table.write_text(whole + whole.splitlines()[0] + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="fra-eng: f1 is there more than once"):
        read_fleurs(str(root), _wanted(["fra-eng"]))
    archive = root / "data/en_us/audio/test.tar.gz"
    archive.write_bytes(b"<html>")
    with pytest.raises(InputError, match=r"test.tar.gz: is no tar file that can be read"):
        read_fleurs(str(root), _wanted(["eng-fil"]))


def test_languages_of_the_set_and_of_systems() -> None:
    languages = languages_of(FLEURS)
    assert len(languages) == len(set(languages.values())) == 102
    there = set(languages.values())

    def number(name: str, *, source: bool, speech_in: bool = True, speech_out: bool = False) -> int:
        return len(there & covered(name, speech_in=speech_in, source=source, speech_out=speech_out)) - 1

    # directions that SeamlessM4T's paper averages: 81 of Whisper's into English, 35 that it speaks
    assert number("whisper", source=True) == 81
    assert number("seamlessm4t", source=False, speech_out=True) == 35
    assert number("seamlessm4t", source=True) == 95
    assert number("seamlessm4t", source=False) == 89
    m4t, whisper = (covered(name, speech_in=True, source=True, speech_out=False) for name in LISTS)
    text = covered("seamlessm4t", speech_in=False, source=False, speech_out=False)
    assert len(there & m4t & text & whisper) == 77  # of which it averages word error rates
    assert len(text) == 96  # and 95 of FLORES-200 from and into English
    assert all(find_language(lang).iso639_3 == lang for lang in m4t | text | whisper)
