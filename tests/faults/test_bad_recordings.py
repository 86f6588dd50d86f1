"""Recordings that are hostile rather than damaged: each is set aside in time, the run goes on, and says so."""

import gzip
import io
import json
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from seamlessalign.rows import SAMPLE_RATE, recording_id, sha256_hex
from tests.ground.loopback import web_server
from tests.ground.test_sources import write_tar
from tests.pipelines.small_corpus import Samples, SmallRun, mine, need_models, spoken, write_config

pytestmark = [pytest.mark.slow, pytest.mark.embedded]

TIMEOUT = 8.0  # seconds that fetching and decoding may take


def _encoded(samples: Samples, format: str = "FLAC", subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE, format=format, subtype=subtype)
    return buffer.getvalue()


def _many_hours(path: Path, hours: int, kind: str, minute: Samples) -> None:
    """The same minute, at 8 kHz, over and over."""
    format, subtype = kind.split("/")
    with soundfile.SoundFile(path, "w", 8000, 1, format=format, subtype=subtype) as file:
        for _ in range(60 * hours):
            file.write(minute)


@dataclass(frozen=True)
class Hostile:
    root: Path
    address: str
    run: SmallRun
    seconds: float

    def name(self, uri: str) -> str:
        return uri.removeprefix(f"{self.root}/").removeprefix(f"{self.address}/")

    def rows(self, table: str) -> list[dict[str, Any]]:
        files = sorted((self.run.folder / table).rglob("*.parquet"))
        return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    need_models()
    root = tmp_path_factory.mktemp("hostile")
    audio = root / "in"
    audio.mkdir()
    rng = np.random.default_rng(0)
    _many_hours(audio / "noise.wav", 10, "WAV/PCM_U8", (0.1 * rng.standard_normal(8000 * 60)).astype(np.float32))
    _many_hours(audio / "bomb.flac", 12, "FLAC/PCM_16", np.zeros(8000 * 60, np.float32))
    good = spoken("fra", (0, 1))
    broken = good.copy()
    broken[len(broken) // 2] = np.nan
    (audio / "nan.wav").write_bytes(_encoded(broken, "WAV", "FLOAT"))
    wav, flac = bytearray(_encoded(good, "WAV")), bytearray(_encoded(good))
    struct.pack_into("<I", wav, 24, 4_000_000_000)
    (audio / "rate.wav").write_bytes(wav)
    struct.pack_into("<I", wav, 24, SAMPLE_RATE)
    struct.pack_into("<I", wav, wav.index(b"data") + 4, 2 * len(wav))
    (audio / "length.wav").write_bytes(wav)
    struct.pack_into(">I", flac, 22, 2 * len(good))  # the lower half of STREAMINFO's number of samples
    (audio / "length.flac").write_bytes(flac)
    (audio / "film.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(1000))
    write_tar(audio / "shard.tar", {"a.flac": _encoded(spoken("fra", (2, 4))), "a.json": b'{"license": "CC0-1.0"}'})
    packed = Path(write_tar(root / "packed.tar", {"c.flac": _encoded(spoken("fra", (4, 5)))})).read_bytes()
    (audio / "packed.tgz").write_bytes(gzip.compress(packed))
    (audio / "torn.tar.gz").write_bytes(gzip.compress(packed)[:2000])
    both = np.stack([spoken("fra", (3, 5)), np.zeros(len(spoken("fra", (3, 5))), np.float32)], axis=1)
    struct_ = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = pa.array([{"bytes": _encoded(both), "path": "b.flac"}, None], struct_)
    pq.write_table(pa.table({"audio": rows}), audio / "table.parquet")
    hanging = root / "bin" / "ffmpeg"
    hanging.parent.mkdir()
    hanging.write_text("#!/bin/sh\ntrap '' TERM\nsleep 1000\n")
    hanging.chmod(0o755)
    (root / "texts").mkdir()
    english = ["The train to the city leaves at nine.", "My sister works in a big hospital."]
    english += ["The children are playing in the garden.", "It will rain tomorrow in the mountains."]
    english += ["Yesterday we ate fish and bread.", "The museum is closed on Monday."]
    (root / "texts" / "a.txt").write_text("\n".join([*english, "Nobody says this at all."]))
    with web_server(_encoded(good)) as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{hanging.parent}:{os.environ['PATH']}")
        names = ("stall.flac", "drip.flac", "halt.flac", "html.flac", "missing.flac", "short.flac", "good.flac")
        (root / "web.txt").write_text("\n".join(f"{address}/{name}" for name in names))
        decode = {"max_recording_hours": 11, "timeout_seconds": TIMEOUT, "channels": "each"}
        config = write_config(
            root / "run.yaml",
            speech={"inputs": ["in", "web.txt"], "lang": "fra", "decode": decode, "vad": {"engine": "cascade"}},
            text={"inputs": ["texts"]},
        )
        begun = time.monotonic()
        run = mine(config, root / "run", "directions=[eng-frA]", "mining.threshold=0.8", "fetch.allow_local=true")
        yield Hostile(root, address, run, time.monotonic() - begun)


def test_the_run_is_done_and_says_so(hostile: Hostile) -> None:
    assert hostile.run.status == 3, hostile.run.err
    assert "Traceback" not in hostile.run.err


def test_each_has_its_reason(hostile: Hostile) -> None:
    entries = []
    for file in sorted((hostile.run.folder / "quarantine").glob("speech-*.jsonl")):
        entries += [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert all(entry["detail"] and "\n" not in entry["detail"] for entry in entries)
    assert {hostile.name(entry["uri"]): entry["reason"] for entry in entries} == {
        "in/bomb.flac": "too_long",
        "in/nan.wav": "bad_samples",
        "in/rate.wav": "not_audio",
        "in/length.wav": "truncated",
        "in/length.flac": "truncated",
        "in/film.mp4": "timeout",
        "in/table.parquet::audio/1": "empty",
        "in/torn.tar.gz": "missing",
        "stall.flac": "timeout",
        "drip.flac": "timeout",
        "halt.flac": "timeout",
        "html.flac": "not_audio",
        "missing.flac": "missing",
        "short.flac": "truncated",
    }


def test_the_rest_is_read(hostile: Hostile) -> None:
    rows = {hostile.name(row["uri"]): row for row in hostile.rows("recordings")}
    assert {name: row["drop_reason"] for name, row in rows.items()} == {
        "in/noise.wav": "no_speech",
        "in/packed.tgz::c.flac": None,
        "in/shard.tar::a.flac": None,
        "in/table.parquet::audio/0#channel=0": None,
        "in/table.parquet::audio/0#channel=1": "no_speech",
        "good.flac": None,
    }
    assert rows["in/noise.wav"]["num_samples"] == 10 * 3600 * SAMPLE_RATE
    assert rows["in/shard.tar::a.flac"]["license"] == "CC0-1.0"
    one, two = (rows[f"in/table.parquet::audio/0#channel={channel}"] for channel in (0, 1))
    assert one["sha256"] == two["sha256"] and one["channels"] == 2
    assert [row["recording_id"] for row in (one, two)] == [recording_id(one["sha256"], n) for n in (0, 1)]
    good = _encoded(spoken("fra", (0, 1)))
    assert rows["good.flac"]["recording_id"] == sha256_hex(good)[:16]


def test_memory_stays_small_and_no_wait_is_longer_than_allowed(hostile: Hostile) -> None:
    lines = pq.ParquetFile(hostile.run.folder / "ledger.parquet").read().to_pylist()
    speech = [line for line in lines if line["stage"] == "recordings"]
    assert max(line["peak_rss"] for line in speech) < 4 << 30  # Whisper and E5 are in it
    busy = sum(seconds for line in lines for _, seconds in line["seconds"])
    assert hostile.seconds < 4 * TIMEOUT + 3 * busy + 120


def test_audio_is_cut_from_where_it_lies(hostile: Hostile) -> None:
    kept = [row for row in hostile.rows("pairs") if row["kept"]]
    places = {hostile.name(row["tgt_uri"]).partition(".")[0] for row in kept}
    assert places >= {"in/packed", "in/shard", "in/table"}
    corpus = hostile.rows("corpus")
    assert len(corpus) == len(kept)
    expected = {
        "good.flac": spoken("fra", (0, 1)),
        "in/packed.tgz::c.flac": spoken("fra", (4, 5)),
        "in/shard.tar::a.flac": spoken("fra", (2, 4)),
        "in/table.parquet::audio/0#channel=0": spoken("fra", (3, 5)),
    }
    for row in corpus:
        samples, rate = soundfile.read(io.BytesIO(row["tgt_audio"]["bytes"]), dtype="float32")
        whole = expected[hostile.name(row["tgt_uri"])]
        assert rate == SAMPLE_RATE
        np.testing.assert_allclose(samples, whole[row["tgt_start"] : row["tgt_end"]], rtol=0, atol=1 / 32000)
