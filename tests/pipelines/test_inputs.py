"""Inputs: what names lead to, what becomes of names that lead nowhere, and shards."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamlessalign import compressed_tar, storage, web_access
from seamlessalign.errors import StorageError
from seamlessalign.pipelines.inputs import InputFile, cut_into_shards, cut_texts, find_recordings, find_texts
from seamlessalign.web_access import WebAccess
from tests.ground.loopback import web_server
from tests.ground.test_sources import write_tar

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


class TestContainers:
    """Tar and Parquet files, and lists of addresses."""

    def test_members_with_what_lies_beside_them(self, tmp_path: Path) -> None:
        members = {
            "a/1.flac": b"x",
            "a/1.json": b'{"lang": "fra", "license": "CC0-1.0", "speaker": 7, "source": ""}',
            "a/1.txt": b"Bonjour.",
            "a/2.wav": b"x",
            "a/2.lang": b"spa\n",
            "a/3.mp4": b"x",
            "a/4.wav": b"x",
            "a/4.lang": b"klingonese",
            "a/5.wav": b"x",
            "a/5.json": b"{half",
            "readme.md": b"x",
        }
        uri = write_tar(tmp_path / "in" / "shard-0.tar", members)
        for item in (uri, str(tmp_path / "in"), f"{tmp_path}/in/*.tar"):
            found = find_recordings([item])
            assert [file.uri.removeprefix(f"{uri}::") for file in found] == [
                "a/1.flac", "a/2.wav", "a/3.mp4", "a/4.wav", "a/5.wav",
            ]  # fmt: skip
            assert [file.lang for file in found] == ["fra", "spa", None, None, None]
            assert (found[0].license, found[0].source) == ("CC0-1.0", None)
            assert [bool(file.problem) for file in found] == [False, False, False, True, True]
            assert len({file.version for file in found}) == 1 and found[0].version

    @pytest.mark.parametrize("suffix", [".tar.gz", ".TGZ"])
    def test_members_of_compressed_ones(self, tmp_path: Path, suffix: str) -> None:
        members = {"a/1.flac": b"x", "a/1.json": b'{"lang": "fra"}', "a/2.wav": b"x", "a/2.lang": b"spa", "b.txt": b"x"}
        plain = Path(write_tar(tmp_path / "shard.tar", members))
        packed = tmp_path / "in" / f"shard{suffix}"
        packed.parent.mkdir()
        packed.write_bytes(gzip.compress(plain.read_bytes()))
        for item in (str(packed), str(tmp_path / "in")):
            found = find_recordings([item])
            assert [(file.uri, file.lang) for file in found] == [
                (f"{packed}::a/1.flac", "fra"), (f"{packed}::a/2.wav", "spa"),
            ]  # fmt: skip
            assert all(file.problem is None for file in found)

    def test_one_that_unpacks_to_too_much_is_an_input_with_a_problem(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(compressed_tar, "ALWAYS_ALLOWED", 1 << 20)
        plain = Path(write_tar(tmp_path / "a.tar", {"1.wav": bytes(5 << 20)}))
        (tmp_path / "b.tar.gz").write_bytes(gzip.compress(plain.read_bytes()))
        problem = _problem(find_recordings([f"{tmp_path}/b.tar.gz"]))
        assert "gunzip b.tar.gz" in problem and "\n" not in problem

    def test_rows_of_columns_with_audio(self, tmp_path: Path) -> None:
        audio = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        rows = [{"bytes": b"x", "path": None}] * 3
        table = pa.table(
            {"src_audio": pa.array(rows, audio), "tgt_audio": pa.array(rows, audio), "lang": ["fra", None, "xx?"]}
        )
        pq.write_table(table, tmp_path / "a.parquet")
        pq.write_table(pa.table({"text": ["no sound"]}), tmp_path / "b.parquet")
        found = find_recordings([str(tmp_path)])
        names = [file.uri.removeprefix(f"{tmp_path}/a.parquet::") for file in found]
        assert names == [f"{column}/{row}" for column in ("src_audio", "tgt_audio") for row in range(3)]
        assert [file.lang for file in found] == ["fra", None, None] * 2
        assert [bool(file.problem) for file in found] == [False, False, True] * 2
        (named,) = find_recordings([str(tmp_path / "b.parquet")])
        assert named.problem == "it holds no audio"

    def test_damaged_ones_are_inputs_with_a_problem(self, tmp_path: Path) -> None:
        (tmp_path / "a.parquet").write_bytes(b"PAR1")
        (tmp_path / "b.tar").write_bytes(b"a letter" * 100)
        uri = write_tar(tmp_path / "c.tar", {"1.wav": bytes(5000), "2.wav": bytes(5000)})
        whole = Path(uri).read_bytes()
        Path(uri).write_bytes(whole[:6000])
        found = {file.uri.removeprefix(f"{tmp_path}/"): file.problem for file in find_recordings([str(tmp_path)])}
        assert found.keys() == {"a.parquet", "b.tar", "c.tar", "c.tar::1.wav"}
        assert found["c.tar::1.wav"] is None
        assert all(found[name] for name in ("a.parquet", "b.tar", "c.tar"))

    def test_addresses_on_the_web_are_taken_at_their_word(self, tmp_path: Path) -> None:
        url = "http://127.0.0.1:1/a.wav?x=[1]*"
        (tmp_path / "list.txt").write_text(f"# ours\n\n{url}\nb.wav\nnone.wav\n")
        (tmp_path / "b.wav").write_bytes(b"x")
        found = {file.uri: file.problem for file in find_recordings([url, str(tmp_path / "list.txt")])}
        assert found.pop(f"{tmp_path}/none.wav") is not None
        assert found == {url: None, f"{tmp_path}/b.wav": None}

    def test_lists_name_members_and_containers(self, tmp_path: Path) -> None:
        write_tar(tmp_path / "a.tar", {"1.wav": b"x", "2.wav": b"x"})
        write_tar(tmp_path / "b.tar", {"3.wav": b"x"})
        lines = ["path\tlang\tlicense", "a.tar::2.wav\tfra\t", "b.tar\tspa\tCC0-1.0", "a.tar::1.wav#channel=1\t\t"]
        (tmp_path / "list.tsv").write_text(
            "\n".join([*lines, "b.wav", "b.tar\tklingonese\t", "", "gone.tar::1.wav\t\t"])
        )
        found = find_recordings([str(tmp_path / "list.tsv")])
        assert {
            file.uri.removeprefix(f"{tmp_path}/"): (file.lang, file.license) for file in found if not file.problem
        } == {
            "a.tar::2.wav": ("fra", None),
            "b.tar::3.wav": ("spa", "CC0-1.0"),
            "a.tar::1.wav#channel=1": (None, None),
        }
        problems = {file.uri.removeprefix(f"{tmp_path}/"): str(file.problem) for file in found if file.problem}
        assert problems.keys() == {"list.tsv#line=5", "list.tsv#line=6", "gone.tar::1.wav"}
        assert "1 columns" in problems["list.tsv#line=5"] and "line 8" in problems["gone.tar::1.wav"]

    def test_a_list_that_is_not_text(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00\n")
        (tmp_path / "b.tsv").write_bytes(b"path\n\xff.wav\n")
        (tmp_path / "c.tsv").write_bytes(b"where\nx.wav\n")
        found = find_recordings([str(tmp_path / name) for name in ("a.txt", "b.tsv", "c.tsv", "d.tsv")])
        assert [file.uri.rsplit("/")[-1] for file in found] == [
            "a.txt#line=1", "b.tsv#line=2", "c.tsv#line=2", "d.tsv",
        ]  # fmt: skip
        assert all(file.problem for file in found)


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


class TestRoot:
    """What a list names, and what lies in folders, leaves a configured root in no way."""

    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        _touch(tmp_path, "within/in/a.wav", "within/list/b.wav", "out/c.wav", "out/text.txt", "within/text.txt")
        (tmp_path / "within/in/link.wav").symlink_to(tmp_path / "out/c.wav")
        (tmp_path / "within/in/folder").symlink_to(tmp_path / "out")
        write_tar(tmp_path / "within/in/s.tar", {"../x.wav": b"x"})
        write_tar(tmp_path / "out/t.tar", {"x.wav": b"x"})
        return tmp_path

    def _reasons(self, found: list[InputFile], tree: Path) -> dict[str, str | None]:
        return {
            file.uri.replace(str(tree), "").replace("file://", "file:"): file.reason if file.problem else None
            for file in found
        }

    def test_lists(self, tree: Path) -> None:
        lines = ["b.wav", "../in/a.wav", "../../out/c.wav", f"{tree}/out/c.wav", f"file://{tree}/out/c.wav"]
        lines += ["../in/link.wav", "../in/folder/c.wav", "../in/s.tar::../x.wav", "../../out/t.tar::x.wav"]
        lines += ["../../out/t.tar", "../in/link.wav#channel=0", "../../out/none.wav", "http://127.0.0.1:1/a.wav"]
        lines += ["s3://bucket/a.wav", "memory://a.wav", "/etc/passwd", "reference://a.wav"]
        entries = "".join(json.dumps({"path": line}) + "\n" for line in lines)
        (tree / "within/list/all.jsonl").write_text(entries)
        (tree / "within/list/all.txt").write_text("\n".join(lines))
        (tree / "within/list/all.tsv").write_text("\n".join(["path", *lines]))
        for name in ("all.jsonl", "all.txt", "all.tsv"):
            found = find_recordings([f"{tree}/within/list/{name}"], f"{tree}/within")
            reasons = self._reasons(found, tree)
            assert {uri for uri, reason in reasons.items() if reason is None} == {
                "/within/list/b.wav",
                "/within/list/../in/a.wav",
                "/within/list/../in/s.tar::../x.wav",
            }
            assert set(reasons.values()) == {None, "outside_root"} and len(reasons) == len(lines)
            heading = name == "all.tsv"
            (one,) = [file for file in found if file.uri == f"{tree}/out/c.wav"]
            assert f"{name} names it in line {4 + heading}" in str(one.problem)

    def test_folders_patterns_and_lists_themselves(self, tree: Path) -> None:
        root = f"{tree}/within"
        (tree / "out/list.tsv").write_text(f"path\n{tree}/within/in/a.wav")
        found = find_recordings([f"{root}/in", f"{root}/../out/*.wav", f"{tree}/out/list.tsv", f"{tree}/out"], root)
        reasons = self._reasons(found, tree)
        fine = {uri for uri, reason in reasons.items() if reason is None}
        assert fine == {"/within/in/a.wav", "/within/in/s.tar::../x.wav"}
        assert {"/within/in/link.wav", "/within/../out/c.wav", "/out/list.tsv", "/out"} <= reasons.keys() - fine
        assert set(reasons.values()) == {None, "outside_root"}
        texts = self._reasons(find_texts([f"{root}/text.txt", f"{tree}/out", f"{root}/../out/*.txt"], root), tree)
        assert texts == {"/within/text.txt": None, "/out": "outside_root", "/within/../out/text.txt": "outside_root"}

    def test_nothing_outside_is_looked_at(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tree / "within/list/all.txt").write_text(f"{tree}/out/c.wav\n{tree}/out/t.tar\nb.wav")
        asked: list[str] = []
        real = storage.filesystem

        def filesystem(uri: str) -> Any:
            asked.append(uri)
            return real(uri)

        monkeypatch.setattr(storage, "filesystem", filesystem)
        find_recordings([f"{tree}/within/list/all.txt", f"{tree}/out"], f"{tree}/within")
        assert asked and not any("/out" in uri for uri in asked)

    def test_without_a_root_all_is_taken(self, tree: Path) -> None:
        (tree / "within/list/all.txt").write_text(f"{tree}/out/c.wav\n../in/link.wav")
        assert len(_uris(find_recordings([f"{tree}/within/list/all.txt"]))) == 2


class TestAddresses:
    def test_kinds_that_are_not_read_are_set_aside(self, tmp_path: Path) -> None:
        lines = ["ssh://host/a.wav", "reference://a.wav", "simplecache::http://127.0.0.1:1/a.wav", "zip://a::file:///b"]
        (tmp_path / "list.txt").write_text("\n".join([*lines, "a.wav"]))
        (tmp_path / "a.wav").write_bytes(b"x")
        found = {file.uri: file for file in find_recordings([str(tmp_path / "list.txt")])}
        assert found.pop(f"{tmp_path}/a.wav").problem is None
        assert found.keys() == set(lines)
        assert {file.reason for file in found.values()} == {"address_refused"}
        with pytest.raises(StorageError, match="no kind of address"):
            find_recordings(["ssh://host/a.wav"])

    def test_a_list_on_the_web_names_no_files_of_this_machine(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "a.wav").write_bytes(b"x")
        text = f"{tmp_path}/a.wav\nfile://{tmp_path}/a.wav\nhttp://data.org/b.wav\nc.wav\n../d.wav\n"
        with web_server(text.encode()) as address:
            (refused,) = find_recordings([f"{address}/list.txt"])
            assert refused.reason == "address_refused" and "fetch.allow_local" in str(refused.problem)
            monkeypatch.setattr(web_access, "_access", WebAccess(allow_local=True))
            found = {
                file.uri: file.reason if file.problem else None for file in find_recordings([f"{address}/list.txt"])
            }
        assert found == {
            f"{tmp_path}/a.wav": "address_refused",
            f"file://{tmp_path}/a.wav": "address_refused",
            "http://data.org/b.wav": None,
            f"{address}/c.wav": None,
            f"{address}/../d.wav": None,
        }

    def test_a_text_that_breaks_off_on_the_web_is_one_part(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(web_access, "_access", WebAccess(allow_local=True))
        with web_server(b"a line\n" * 1000) as address:
            (whole,) = find_texts([f"{address}/good.txt"])
            assert len(cut_texts([whole], 100)) == 10
            (broken,) = find_texts([f"{address}/short.txt"])
            assert [shard.files for shard in cut_texts([broken], 100)] == [(broken,)]

    def test_secrets_are_not_repeated(self, tmp_path: Path) -> None:
        secret = "hunter2"
        lines = [f"https://alice:{secret}@data.org/a.wav", f"https://data.org/b.wav?X-Amz-Signature={secret}"]
        lines += [f"https://data.org/c.tar?token={secret}::a.wav", f"s3://key:{secret}@bucket/d.wav"]
        (tmp_path / "list.txt").write_text("\n".join([*lines, f"{secret}.wav"]))
        entries = [{"path": line} for line in lines]
        entries += [{"path": "a.wav", "source": f"https://data.org/?sig={secret}"}, {f"https://a:{secret}@b/": "x"}]
        entries += [
            {"path": "a.wav", "license": f"password={secret}"},
            {"path": "a.wav", "source": "https://data.org/?x=1"},
        ]
        (tmp_path / "list.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        (tmp_path / "a.wav").write_bytes(b"x")
        listed = find_recordings([str(tmp_path / "list.txt")])
        found = [file for file in listed if file.uri.startswith(f"{tmp_path}/list.txt#line=")]
        assert len(found) == 4 and {file.reason for file in found} == {"secret_in_address"}
        assert all("~/.netrc" in str(file.problem) for file in found)
        manifest = find_recordings([str(tmp_path / "list.jsonl")])
        assert [file.reason for file in manifest if file.problem] == [
            "secret_in_address",  # by uri: #line=1, …, #line=7
            "secret_in_address",
            "secret_in_address",
            "secret_in_address",
            "secret_in_address",
            "missing",  # an unknown key
            "secret_in_address",
        ]
        assert secret not in repr([*found, *manifest])

    def test_nor_are_those_in_containers(self, tmp_path: Path) -> None:
        about = json.dumps({"lang": "fra", "source": "https://data.org/?sig=hunter2"}).encode()
        write_tar(tmp_path / "a.tar", {"1.wav": b"x", "1.json": about})
        column = pa.array([{"bytes": b"x", "path": "a"}], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
        table = pa.table({"audio": column, "source": ["https://a:hunter2@data.org"]})
        pq.write_table(table, tmp_path / "a.parquet")
        found = find_recordings([str(tmp_path)])
        assert [file.reason for file in found] == ["secret_in_address"] * 2 and "hunter2" not in repr(found)
