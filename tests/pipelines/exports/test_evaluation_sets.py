"""Evaluation sets in the layouts they come in, and pairs that are found to be in one."""

import gzip
import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from seamlessalign.audio import Decoding, decode
from seamlessalign.errors import InputError
from seamlessalign.pipelines.exports.evaluation_sets import not_compared, read_evaluation_sets
from seamlessalign.pipelines.exports.leaks import Recording, TextLeaks, sound_leaks
from seamlessalign.storage import sha256_of

RATE = 16_000


def _texts(*places: Path) -> set[str]:
    return {text for _, text in read_evaluation_sets(list(map(str, places))).texts.values()}


def _put(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def test_flores_as_it_is_distributed(tmp_path: Path) -> None:
    _put(tmp_path / "dev" / "fra_Latn.dev", "Bonjour.\nÀ demain\u2028alors.\n")
    _put(tmp_path / "devtest" / "zho_Hans.devtest", "你好\n")
    assert _texts(tmp_path) == {"Bonjour.", "À demain\u2028alors.", "你好"}


def test_flores_as_it_is_packed_and_shards_of_webdataset(tmp_path: Path) -> None:
    packed = gzip.compress(_tar({"flores/dev/fra_Latn.dev": b"Bonjour.\n" * 200_000, "flores/README": b"x"}))
    assert _texts(_put(tmp_path / "flores.tar.gz", packed)) == {"Bonjour."}
    shard = _tar({"1.json": b'{"src_text": "said"}', "1.txt": b"heard", "1.tgt.flac": b"fLaC", "1.cls": b"7"})
    sets = read_evaluation_sets([str(_put(tmp_path / "shard.tar", shard))])
    assert sets.texts["heard"] == (f"{tmp_path}/shard.tar::1.txt:1", "heard") and "said" in sets.texts
    assert sets.sounds == [f"{tmp_path}/shard.tar::1.tgt.flac"]


def test_tables_have_texts_in_any_column(tmp_path: Path) -> None:
    covost = _put(
        tmp_path / "covost_v2.fr_en.test.tsv", 'path\tsentence\ttranslation\nx_1.mp3\tIl dit "non\tHe said "no\n'
    )
    assert _texts(covost) >= {'Il dit "non', 'He said "no'}
    fleurs = _put(tmp_path / "test.tsv", "17\t1.wav\tAh, bon ?\tah bon\t160000\tFEMALE\r\n")
    found = read_evaluation_sets([str(fleurs)])
    assert found.texts["ah bon"] == (f"{fleurs}:1", "Ah, bon ?")  # the same but for its signs, so it is there once
    assert "160000" not in found.texts and "17" not in found.texts
    quoted = _put(tmp_path / "set.csv", 'a,b\n"one, two\nthree",four\n')
    assert _texts(quoted) == {"a", "b", "one, two\nthree", "four"}


def test_json_and_parquet_and_compressed_text(tmp_path: Path) -> None:
    line = {"source": {"text": "In a line", "units": [1]}, "target": [{"text": "nested"}], "n": 3}
    assert _texts(_put(tmp_path / "a.jsonl", json.dumps(line) + "\n\n")) == {"In a line", "nested"}
    assert _texts(_put(tmp_path / "b.json", json.dumps([line]))) == {"In a line", "nested"}
    assert _texts(_put(tmp_path / "c.txt.gz", gzip.compress(b"packed\n"))) == {"packed"}
    assert _texts(_put(tmp_path / "newstest.de", "Guten Tag\n")) == {"Guten Tag"}
    pq.write_table(pa.table({"text": ["In a row", None], "id": [1, 2]}), tmp_path / "d.parquet")
    assert _texts(tmp_path / "d.parquet") == {"In a row"}


def test_texts_are_found_however_lines_end_and_columns_are_made(tmp_path: Path) -> None:
    assert _texts(_put(tmp_path / "a.txt", "One\rtwo\r\nthree\nfour")) == {"One", "two", "three", "four"}
    assert _texts(_put(tmp_path / "b.tsv", b"\xef\xbb\xbfOne\ttwo\rthree\r\n")) == {"One", "two", "three"}
    assert _texts(_put(tmp_path / "c.json", '{"a": "one"}\r\n\r\n{"a": "two"}\r\n')) == {
        "one",
        "two",
    }  # as manifests are
    columns = {
        "translation": pa.array([{"de": "Guten Tag", "fr": None}]),  # as WMT's are
        "references": pa.array([["a list", "of two"]]),
        "kind": pa.array(["a word"]).dictionary_encode(),
        "view": pa.array(["seen"], pa.string_view()),
        "map": pa.array([[("key", "value")]], pa.map_(pa.string(), pa.string())),
        "number": pa.array([7]),
    }
    pq.write_table(pa.table(columns), tmp_path / "d.parquet")
    found = {"Guten Tag", "a list", "of two", "a word", "seen", "key", "value"}
    assert _texts(tmp_path / "d.parquet") == found


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("none.txt", None, "there is no such file or folder"),
        ("bad.txt", b"\xff\xfe\x00", "cannot be read"),
        ("bad.txt.gz", b"not gzip", "cannot be read"),
        ("bad.jsonl", b'{"a": 1}\n{', "bad.jsonl:2: is not JSON"),
        ("bad.parquet", b"PAR1", "is not a readable Parquet file"),
        ("notes.docx", b"x", "is none of the files that are read"),
        ("bad.json", b'{"a": 1}\n{', "bad.json:2: is not JSON"),
        ("worse.json", b'{\n"a": 1', "worse.json: is not JSON"),
        ("bad.csv", b'a,"never closed\nhidden,by that\n', "bad.csv:2: is not CSV: unexpected end of data; give its"),
        ("numbers.txt", b"1\n2\n", "holds no text and no audio to compare with"),
        ("numbers.csv", b"1,2\n", "holds no text and no audio to compare with"),
        ("texts.tar", _tar({"dev/readme.pdf": b"Hello"}), "holds no text and no audio to compare with"),
        ("json.tar", _tar({"a.json": b"{"}), "json.tar::a.json: is not JSON"),
        ("half.tar", _tar({"a.wav": bytes(4096)})[:2048], "half.tar: cannot be read: it breaks off"),
    ],
)
def test_what_cannot_be_read_is_told(name: str, content: bytes | None, told: str, tmp_path: Path) -> None:
    if content is not None:
        _put(tmp_path / name, content)
    with pytest.raises(InputError, match=told):
        read_evaluation_sets([str(tmp_path / name)])


def test_addresses_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is an address: fetch it"):
        read_evaluation_sets(["https://example.org/set.tsv"])
    _put(tmp_path / "set" / "readme.docx", "x")
    with pytest.raises(InputError, match="holds no text and no audio"):
        read_evaluation_sets([str(tmp_path / "set")])


def test_other_files_of_a_folder_are_told(tmp_path: Path) -> None:
    _put(tmp_path / "a.txt", "text")
    other = _put(tmp_path / "licence.docx", "x")
    numbers = _put(tmp_path / "scores.tsv", "1\t2\n")
    told = read_evaluation_sets([str(tmp_path)]).told()
    assert told["not_compared"] == [str(other), str(numbers)] and told["files"] == {str(tmp_path): 1}
    assert not_compared(told) == ["2 files in folders of evaluation sets gave no text and no sound to compare with"]
    assert not_compared(None) == not_compared({"not_compared": [], "not_decoded": []}) == []


def test_a_text_that_leaks_is_told_with_its_place(tmp_path: Path) -> None:
    file = _put(tmp_path / "test.txt", "Nobody had told him that the last train left at nine.\nYes.\n")
    known = TextLeaks(read_evaluation_sets([str(file)]))
    rows = ["yes!", None, "No.", "Nobody had told him that the first train left at nine", "yes!"]
    found = {row: (leak.reason, leak.place, leak.known) for row, leak in known.find(pa.array(rows, pa.string()))}
    near = ("near_text", f"{file}:1", "Nobody had told him that the last train left at nine.")
    assert found == {0: ("same_text", f"{file}:2", "Yes."), 4: ("same_text", f"{file}:2", "Yes."), 3: near}
    shares = [leak.share for _, leak in known.find(pa.array(rows, pa.string()))]
    assert shares[0] is shares[2] is None and shares[1] == pytest.approx(44 / 49)  # without "he l" to "ast "


class TestSounds:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        random = np.random.default_rng(0)
        for name in ("one", "two", "three"):
            loudness = np.repeat(random.uniform(0.005, 0.3, 12), RATE // 4)
            sound = random.normal(0, 1, len(loudness)).clip(-3, 3) * loudness
            (tmp_path / "set").mkdir(exist_ok=True)
            soundfile.write(tmp_path / "set" / f"{name}.wav", sound * 0.3, RATE)
        return tmp_path

    def _recording(self, path: Path) -> Recording:
        return Recording(
            str(path), sha256_of(path), soundfile.info(path).frames * RATE // soundfile.info(path).samplerate
        )

    def test_the_same_file_and_the_same_sound_are_found(self, folder: Path) -> None:
        same = folder / "same.wav"
        shutil.copy(folder / "set" / "one.wav", same)
        sound, _ = soundfile.read(folder / "set" / "two.wav")
        soundfile.write(folder / "coded.ogg", np.concatenate([np.zeros(300), sound * 2.5]), RATE)
        soundfile.write(folder / "other.flac", sound[::-1].copy(), RATE)  # as long, and another
        soundfile.write(folder / "long.flac", np.concatenate([sound, sound]), RATE)
        files = [same, folder / "coded.ogg", folder / "other.flac", folder / "long.flac"]
        sets = read_evaluation_sets([str(folder / "set")])
        found = sound_leaks(sets, map(self._recording, files))
        assert {uri: (leak.reason, leak.place) for uri, leak in found.items()} == {
            str(same): ("same_file", str(folder / "set" / "one.wav")),
            str(folder / "coded.ogg"): ("same_sound", str(folder / "set" / "two.wav")),
        }

    def test_each_sound_is_decoded_twice_however_many_recordings_are_as_long(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        decoded: list[str] = []

        def counted(path: Path, decoding: Decoding) -> Any:
            decoded.append(path.name)
            return decode(path, decoding)

        monkeypatch.setattr("seamlessalign.pipelines.exports.leaks.decode", counted)
        sound, _ = soundfile.read(folder / "set" / "two.wav")
        for number in range(4):
            soundfile.write(folder / f"{number}.flac", np.roll(sound, 4000 * number), RATE)
        places = [str(folder / "set"), str(folder / "set" / "one.wav")]
        found = sound_leaks(read_evaluation_sets(places), [self._recording(folder / f"{n}.flac") for n in range(4)])
        assert {(Path(uri).name, Path(leak.place).name) for uri, leak in found.items()} == {("0.flac", "two.wav")}
        assert sorted(decoded) == sorted(["one.wav", "two.wav", "three.wav"] * 2 + [f"{n}.flac" for n in range(4)])

    def test_sounds_in_tables_are_compared_too(self, folder: Path) -> None:
        content = (folder / "set" / "one.wav").read_bytes()
        audio: list[dict[str, Any]] = [{"bytes": content, "path": "one.wav"}]
        pq.write_table(pa.table({"audio": audio, "text": ["said"]}), folder / "set.parquet")
        sets = read_evaluation_sets([str(folder / "set.parquet")])
        assert len(sets.texts) == 1 and len(sets.sounds) == 1
        (leak,) = sound_leaks(sets, [self._recording(folder / "set" / "one.wav")]).values()
        assert leak.reason == "same_file"

    def test_what_cannot_be_decoded_is_compared_by_its_bytes(self, folder: Path) -> None:
        bad = _put(folder / "broken" / "bad.wav", b"RIFF nothing")
        sets = read_evaluation_sets([str(folder / "broken")])
        assert list(sound_leaks(sets, [Recording("x", sha256_of(bad), 9)])) == ["x"]
        assert sets.told()["not_decoded"] == [str(bad)]
        told = "1 sounds of evaluation sets cannot be decoded and were compared byte by byte alone"
        assert not_compared(sets.told()) == [told]

    def test_of_two_sounds_the_nearer_is_named(self, folder: Path) -> None:
        sound, _ = soundfile.read(folder / "set" / "two.wav")
        noise = np.random.default_rng(1).normal(0, 0.1, len(sound)) * np.abs(sound)
        for name in ("two-noisy", "two.z"):  # before it and behind it
            soundfile.write(folder / "set" / f"{name}.wav", sound + noise, RATE)
        soundfile.write(folder / "copy.flac", sound * 2, RATE)
        sets = read_evaluation_sets([str(folder / "set")])
        (leak,) = sound_leaks(sets, [self._recording(folder / "copy.flac")]).values()
        assert leak.place == str(folder / "set" / "two.wav") and leak.share is not None and leak.share < 1
        (leak,) = sound_leaks(sets, [self._recording(folder / "set" / "two-noisy.wav")]).values()
        assert (leak.reason, leak.share) == ("same_file", None)

    def test_a_sound_that_went_is_named(self, folder: Path) -> None:
        sets = read_evaluation_sets([str(folder / "set")])
        (folder / "set" / "one.wav").unlink()
        with pytest.raises(InputError, match=r"--not-in: .*one\.wav: cannot be read"):
            sound_leaks(sets, [])

    def test_rows_without_audio_and_odd_words_beside_it_do_not_matter(self, folder: Path) -> None:
        content = (folder / "set" / "one.wav").read_bytes()
        audio: list[Any] = [None, {"bytes": content, "path": "one.wav"}, {"bytes": None, "path": "two.wav"}]
        rows = {"src_audio": audio, "lang": ["no language", "nor this", "x"], "tgt_text": ["a", "b", "c"]}
        pq.write_table(pa.table(rows), folder / "set.parquet")
        sets = read_evaluation_sets([str(folder / "set.parquet")])
        (leak,) = sound_leaks(sets, [self._recording(folder / "set" / "one.wav")]).values()
        assert leak.reason == "same_file" and leak.place.endswith("src_audio/1")
        assert sets.told()["sounds"] == 1 and "two.wav" not in {text for _, text in sets.texts.values()}
