"""Inputs: what names lead to, what becomes of names that lead nowhere, and shards."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamlessalign import storage
from seamlessalign.pipelines.inputs import InputFile, cut_into_shards, find_recordings, find_texts

ODD = ["sp ace.wav", "quo'te\".wav", "new\nline.wav", "a::b.wav", "what?.wav", "st*r.wav", "[x].wav", "~.wav", "ü.wav"]


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def _uris(files: list[InputFile]) -> list[str]:
    assert all(file.problem is None for file in files), files
    return [file.uri for file in files]


def _problem(files: list[InputFile]) -> str:
    (file,) = files
    assert file.problem is not None
    return file.problem


class TestNames:
    def test_a_folder_gives_its_audio_however_deep(self, tmp_path: Path) -> None:
        _touch(tmp_path, "b.wav", "a/c.FLAC", "a/d/e.opus", "notes.txt", "f.wav.part", ".writing-x.wav")
        assert _uris(find_recordings([str(tmp_path)])) == [
            f"{tmp_path}/{n}" for n in ("a/c.FLAC", "a/d/e.opus", "b.wav")
        ]

    def test_texts_have_suffixes_of_their_own(self, tmp_path: Path) -> None:
        _touch(tmp_path, "a.txt", "b.txt.gz", "c.wav", "d.gz")
        assert _uris(find_texts([str(tmp_path)])) == [f"{tmp_path}/a.txt", f"{tmp_path}/b.txt.gz"]

    def test_a_file_that_is_named_is_taken_whatever_its_suffix(self, tmp_path: Path) -> None:
        _touch(tmp_path, "speech.data")
        assert _uris(find_recordings([f"{tmp_path}/speech.data"])) == [f"{tmp_path}/speech.data"]

    def test_a_pattern(self, tmp_path: Path) -> None:
        _touch(tmp_path, "a1.wav", "a2.wav", "b1.wav", "deep/er/a3.wav")
        assert _uris(find_recordings([f"{tmp_path}/a?.wav"])) == [f"{tmp_path}/a1.wav", f"{tmp_path}/a2.wav"]
        assert len(_uris(find_recordings([f"{tmp_path}/**/*.wav"]))) == 4

    def test_what_several_names_lead_to_is_taken_once_and_sorted(self, tmp_path: Path) -> None:
        _touch(tmp_path, "c.wav", "a.wav", "b.wav")
        names = [f"{tmp_path}/c.wav", str(tmp_path), f"{tmp_path}/*.wav"]
        assert _uris(find_recordings(names)) == [f"{tmp_path}/{n}.wav" for n in "abc"]

    @pytest.mark.parametrize("name", ODD)
    def test_odd_names(self, tmp_path: Path, name: str) -> None:
        _touch(tmp_path, name)
        assert _uris(find_recordings([str(tmp_path)])) == [f"{tmp_path}/{name}"]
        assert _uris(find_recordings([f"{tmp_path}/{name}"])) == [f"{tmp_path}/{name}"]
        _touch(tmp_path / "folder", name)
        (tmp_path / name).unlink()
        (tmp_path / "folder").rename(tmp_path / name)
        assert _uris(find_recordings([f"{tmp_path}/{name}"])) == [f"{tmp_path}/{name}/{name}"]

    @pytest.mark.parametrize(
        ("name", "told"),
        [
            ("none.wav", "no such file"),
            ("none/*.wav", "no file matches"),
            ("empty", "holds no file"),
            ("n.jsonl", "no such manifest"),
        ],
    )
    def test_a_name_that_leads_nowhere_is_an_input_with_a_problem(self, tmp_path: Path, name: str, told: str) -> None:
        (tmp_path / "empty").mkdir()
        found = find_recordings([f"{tmp_path}/{name}"])
        assert told in _problem(found) and found[0].uri == f"{tmp_path}/{name}"

    def test_object_stores(self, s3_bucket: str) -> None:
        for name in ("a/one.wav", "two.flac", "three.txt"):
            storage.write_bytes_atomic(f"{s3_bucket}/in/{name}", b"x")
        assert _uris(find_recordings([f"{s3_bucket}/in"])) == [f"{s3_bucket}/in/a/one.wav", f"{s3_bucket}/in/two.flac"]
        assert _uris(find_recordings([f"{s3_bucket}/in/*.flac"])) == [f"{s3_bucket}/in/two.flac"]
        assert "no such file" in _problem(find_recordings([f"{s3_bucket}/none"]))


class TestVersions:
    @pytest.mark.parametrize("place", ["local", "memory", "s3"])
    def test_a_changed_file_has_another_version(
        self, place: str, tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        root = {"local": str(tmp_path), "memory": f"memory://{tmp_path.name}"}.get(place) or str(
            request.getfixturevalue("s3_bucket")
        )
        uri = f"{root}/a.wav"
        storage.write_bytes_atomic(uri, b"one")
        (first,), (again,) = find_recordings([uri]), find_recordings([uri])
        assert first == again and first.version
        storage.write_bytes_atomic(uri, b"two")  # as many bytes
        if place == "local":
            os.utime(uri, ns=(0, 1_000_000_000))
        (second,) = find_recordings([uri])
        assert second.version != first.version


class TestManifests:
    def _found(self, folder: Path, *lines: Any) -> list[InputFile]:
        text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
        (folder / "m.jsonl").write_text(text, encoding="utf-8")
        return find_recordings([f"{folder}/m.jsonl"])

    def test_paths_are_relative_to_the_manifest(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        _touch(tmp_path, "m/a.wav", "b.wav")
        lines = [{"path": "a.wav", "lang": "fra"}, {"path": "../b.wav"}, {"uri": f"{tmp_path}/b.wav", "license": "CC0"}]
        found = self._found(tmp_path / "m", *lines)
        assert [(f.uri, f.lang, f.license) for f in found] == [
            (f"{tmp_path}/b.wav", None, "CC0"),
            (f"{tmp_path}/m/../b.wav", None, None),
            (f"{tmp_path}/m/a.wav", "fra", None),
        ]
        monkeypatch.chdir(tmp_path / "m")
        assert len(_uris(find_recordings(["m.jsonl"]))) == 3

    @pytest.mark.parametrize("name", ODD)
    def test_odd_names(self, tmp_path: Path, name: str) -> None:
        _touch(tmp_path, name)
        assert _uris(self._found(tmp_path, {"path": name})) == [f"{tmp_path}/{name}"]

    @pytest.mark.parametrize(
        ("line", "told"),
        [
            ("{", "not JSON"),
            ("\x00", "not JSON"),
            ([1], "not an object"),
            ({}, "with a 'path' or 'uri'"),
            ({"path": ""}, "with a 'path' or 'uri'"),
            ({"path": 3}, "every value must be text"),
            ({"path": "a.wav", "lang": ["fra"]}, "every value must be text"),
            ({"path": "a.wav", "langauge": "fra"}, "unknown key 'langauge'"),
            ({"path": "a.wav", "lang": "fr"}, "'fra'"),
            ({"path": "none.wav"}, "in line 2"),
            ({"uri": "/none/none.wav"}, "in line 2"),
        ],
        ids=str,
    )
    def test_a_bad_line_is_set_aside_and_the_rest_taken(self, tmp_path: Path, line: Any, told: str) -> None:
        _touch(tmp_path, "a.wav", "z.wav")
        found = self._found(tmp_path, {"path": "a.wav"}, line, "", {"path": "z.wav"})
        good = [file.uri for file in found if file.problem is None]
        assert good == [f"{tmp_path}/a.wav", f"{tmp_path}/z.wav"]
        (bad,) = [file for file in found if file.problem is not None]
        assert bad.problem is not None and told in bad.problem
        assert bad.uri.endswith("m.jsonl#line=2") or "none.wav" in bad.uri

    def test_a_line_that_is_not_text_is_set_aside(self, tmp_path: Path) -> None:
        _touch(tmp_path, "a.wav")
        (tmp_path / "m.jsonl").write_bytes(b'{"path": "\xff.wav"}\r\n{"path": "a.wav"}\r\n')
        found = find_recordings([f"{tmp_path}/m.jsonl"])
        assert [file.problem is None for file in found] == [True, False]


@given(st.lists(st.text(min_size=1), max_size=30, unique=True), st.integers(1, 8))
def test_shards_hold_every_file_once_and_in_order(uris: list[str], per_shard: int) -> None:
    files = [InputFile(uri, "1") for uri in sorted(uris)]
    shards = cut_into_shards(files, per_shard)
    assert [file for shard in shards for file in shard.files] == files
    assert [shard.name for shard in shards] == [f"part-{i:05d}" for i in range(len(shards))]
    assert all(len(shard.files) == per_shard for shard in shards[:-1])
    assert all(0 < len(shard.files) <= per_shard for shard in shards)
