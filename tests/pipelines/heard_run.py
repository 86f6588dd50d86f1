"""A fake run with sound, for tests of what opens recordings long after they were mined."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from seamlessalign import storage
from seamlessalign.audio import encode
from seamlessalign.rows import SAMPLE_RATE
from tests.pipelines.fake_run import FakeRun

SECONDS = 200


class HeardRun:
    """A fake run of whose French pairs all are of one recording that is really there, so that they can be heard."""

    def __init__(self, folder: Path) -> None:
        self.fake = FakeRun(str(folder / "run"), rejected=80, kind="flac", frames=True)
        self.root = self.fake.root
        self.recording = str(folder / "recording.flac")
        noise = np.random.default_rng(5).integers(-9000, 9000, SECONDS * SAMPLE_RATE).astype(np.int16)
        soundfile.write(self.recording, noise, SAMPLE_RATE, subtype="PCM_16")
        self.samples = noise.astype(np.float32) / 32768
        self._replace("recordings")
        self._replace("pairs/direction=eng-frA")
        self.pairs = self.rows("pairs/direction=eng-frA")
        self._cut({row["pair_id"]: row for row in self.pairs})

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The rows of a table, or of one direction of it."""
        return list(pa.concat_tables(pq.read_table(path) for path in self.parts(table)).to_pylist())

    def parts(self, table: str) -> list[Path]:
        """Its files."""
        return sorted((Path(self.root) / table).glob("*.parquet"))

    def _cut(self, pairs: dict[str, dict[str, Any]]) -> None:
        """Let the corpus have what the recording has."""
        for path in self.parts("corpus/direction=eng-frA"):
            there = pq.read_table(path)
            rows = there.to_pylist()
            for row in rows:
                pair = pairs[row["pair_id"]]
                row |= {name: pair[name] for name in ("tgt_uri", "tgt_start", "tgt_end")}
                row["tgt_audio"]["bytes"] = encode(self.samples[row["tgt_start"] : row["tgt_end"]], "flac")
            storage.write_table(str(path), pa.Table.from_pylist(rows, there.schema), row_group_size=20)

    def _replace(self, table: str) -> None:
        """Let the first French recording, or all pairs, be of the one that is there."""
        found = False
        for path in self.parts(table):
            there = pq.read_table(path)
            rows = there.to_pylist()
            for row in rows:
                if "sha256" not in row:
                    length = row["tgt_end"] - row["tgt_start"]
                    start = row["tgt_start"] % ((SECONDS - 12) * SAMPLE_RATE)
                    row |= {"tgt_uri": self.recording, "tgt_start": start, "tgt_end": start + length}
                elif not found and row["lang"] == "fra" and row["drop_reason"] is None:
                    found = True
                    row |= {"uri": self.recording, "sha256": storage.sha256_of(Path(self.recording))}
                    row |= {"num_samples": SECONDS * SAMPLE_RATE, "license": "CC0"}
            storage.write_table(str(path), pa.Table.from_pylist(rows, there.schema))
