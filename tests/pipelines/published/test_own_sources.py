"""Sources that are not on the web, and a run that is written as metadata and rebuilt from it."""

import gzip
import io
import lzma
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from seamlessalign.errors import InputError, UnreadableError
from seamlessalign.pipelines.published.own_sources import bring, is_on_the_web, texts_with
from seamlessalign.pipelines.published.rebuild import rebuild
from seamlessalign.pipelines.published.rebuild_config import load_rebuild_config
from seamlessalign.pipelines.published.writing import write_metadata
from seamlessalign.pipelines.run_tables import RunTables
from seamlessalign.rows import recording_id, segment_id, sentence_id, sha256_hex
from tests.pipelines.published.made_metadata import digest
from tests.pipelines.published.test_writing import make_run

SOUND = np.random.default_rng(5).integers(-9000, 9000, (48_000, 2)).astype(np.int16)


def _flac(samples: np.ndarray) -> bytes:  # type: ignore[type-arg]
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 16_000, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


class TestRecordings:
    def test_which_are_on_the_web(self) -> None:
        on_the_web = ["http://a.example/x.mp3", "HTTPS://a.example/x.mp3#channel=1", "https://a.example/a.tar"]
        elsewhere = ["/data/x.mp3", "x.mp3", "s3://b/x.mp3", "file:///etc/passwd", "https://a.example/a.tar::x.mp3"]
        assert all(map(is_on_the_web, on_the_web))
        assert not any(map(is_on_the_web, elsewhere))

    def test_are_taken_from_below_the_root_alone(self, tmp_path: Path) -> None:
        root, target = tmp_path / "root", tmp_path / "here"
        root.mkdir()
        data = _flac(SOUND)
        (root / "a.flac").write_bytes(data)
        (tmp_path / "secret").write_bytes(b"secret")
        (root / "link").symlink_to(tmp_path / "secret")
        with tarfile.open(root / "shard.tar", "w") as tar:
            about = tarfile.TarInfo("in/b.flac")
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
        for url in (f"{root}/a.flac", f"{root}/shard.tar::in/b.flac", f"{root}/a.flac#channel=1"):
            assert bring(url, str(root), target).read_bytes() == data
        refused = {
            f"{tmp_path}/secret": "outside_root", f"{root}/../secret": "outside_root", f"{root}/link": "outside_root",
            f"{root}/none.flac": "missing", f"{root}/shard.tar::none": "missing", "s3://bucket/x": "outside_root",
        }  # fmt: skip
        for url, reason in refused.items():
            with pytest.raises(UnreadableError) as error:
                bring(url, str(root), target)
            assert error.value.reason == reason
        with pytest.raises(UnreadableError, match="address_refused"):
            bring(f"{root}/a.flac", None, target)


class TestTexts:
    def test_of_lines_of_any_packing(self, tmp_path: Path) -> None:
        lines = ["\ufeffOne  line. And more.\r", "  Two\u00a0lines ", "e\u0301tude", "bad \0 line"]
        data = "\n".join(lines).encode()
        wanted = ["One line. And more.", "And more.", "Two lines", "étude", "bad \0 line", "One  line. And more."]
        for name, packed in (("a", data), ("b", gzip.compress(data)), ("c", lzma.compress(data))):
            (tmp_path / name).write_bytes(packed)
            found = texts_with({*map(digest, wanted), 17}, [str(tmp_path / name)])
            assert found == {digest(text): text for text in wanted}

    def test_of_files_that_cannot_be_read(self, tmp_path: Path) -> None:
        (tmp_path / "cut.gz").write_bytes(gzip.compress(b"One line.\n" * 500)[:-9])
        with pytest.raises(InputError, match="cannot be unpacked"):
            texts_with({1}, [str(tmp_path / "cut.gz")])
        with pytest.raises(InputError, match="no such file"):
            texts_with({1}, [str(tmp_path / "none")])


@pytest.mark.slow
def test_a_run_comes_back_from_its_metadata(tmp_path: Path) -> None:
    """Recordings in files, in a tar file, and of one channel; texts in a file: the same ids, and the very samples."""
    root = tmp_path / "data"
    root.mkdir()
    sounds = {"a": SOUND[:, 0], "b": SOUND[::-1, 1], "two": SOUND}
    files = {name: _flac(sound) for name, sound in sounds.items()}
    (root / "a.flac").write_bytes(files["a"])
    (root / "two channels.flac").write_bytes(files["two"])
    with tarfile.open(root / "b.tar", "w") as tar:
        about = tarfile.TarInfo("b.flac")
        about.size = len(files["b"])
        tar.addfile(about, io.BytesIO(files["b"]))
    uris = {"a": f"{root}/a.flac", "b": f"{root}/b.tar::b.flac", "two": f"{root}/two channels.flac#channel=1"}
    waves = {"a": sounds["a"], "b": sounds["b"], "two": SOUND[:, 1]}
    texts = [f"Sentence {number} is here." for number in range(6)]
    (root / "texts").write_text("".join(f"  {text}\n" for text in texts))
    pairs = []
    for number, text in enumerate(texts):
        name = list(uris)[number % 3]
        identity = recording_id(sha256_hex(files[name]), 1 if name == "two" else None)
        start, end = 1000 * number, 1000 * number + 20_000 + number
        ids = sentence_id(text, "eng"), segment_id(identity, start, end)
        pairs.append(
            {
                "src_id": ids[0], "src_text": text, "tgt_id": ids[1], "tgt_uri": uris[name], "tgt_start": start,
                "tgt_end": end, "margin": 1.9 - number / 10,
            }
        )  # fmt: skip
    recordings = {str(pair["tgt_id"]).split(":")[0]: 48_000 for pair in pairs}
    run = make_run(tmp_path / "run", "eng-frA", pairs, recordings, {sentence_id(text, "eng"): 0.5 for text in texts})
    with RunTables(run) as tables:
        (written,) = write_metadata(tables, str(tmp_path / "metadata"), [])
    given = {"metadata": [written.uri], "output": str(tmp_path / "again")}
    sources = {"texts": [f"{root}/texts"], "audio": {"root": str(root)}}
    result = rebuild(load_rebuild_config(given | sources, ["resources.workers=1", "corpus.audio_format=flac"]))
    assert result.exit_status == 0
    corpus = pq.read_table(result.folder.table("corpus", "direction=eng-frA", "part-00000")).to_pylist()
    assert [(row["src_text"], row["src_id"], row["tgt_id"], row["tgt_uri"]) for row in corpus] == [
        (pair["src_text"], pair["src_id"], pair["tgt_id"], pair["tgt_uri"]) for pair in pairs
    ]
    for row, pair in zip(corpus, pairs, strict=True):
        wave, rate = soundfile.read(io.BytesIO(row["tgt_audio"]["bytes"]), dtype="int16")
        name = next(name for name, uri in uris.items() if uri == row["tgt_uri"])
        assert rate == 16_000
        assert np.array_equal(wave, waves[name][pair["tgt_start"] : pair["tgt_end"]])
    again = load_rebuild_config(given | {"output": str(tmp_path / "refused")}, ["resources.workers=1"])
    refused = rebuild(again)
    assert refused.exit_status == 3
    reasons = pa.concat_tables([pq.read_table(refused.folder.root + "/lost.parquet")]).column("reason").to_pylist()
    assert sorted(reasons) == ["address_refused"] * 6 + ["not_common_crawl"] * 6
