"""Embeddings of stretches: what was embedded before a kill is not embedded again, and gives the same bytes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seamlessalign.config import load_config
from seamlessalign.pipelines import speech_recordings
from seamlessalign.pipelines.context import Context
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.run import read_inputs
from seamlessalign.pipelines.shard_task import do_and_mark
from seamlessalign.pipelines.speech_recordings import SpeechModels
from seamlessalign.pipelines.stretch_rows import StretchRows
from tests.pipelines.small_corpus import hashes, need_models, write_corpus

SPANS = np.array([[0, 16_000], [8_000, 32_000]], np.int64)
ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize("root", ["local", "memory"])
def test_rows_come_back_as_they_were(tmp_path: Path, root: str) -> None:
    folder = RunFolder(str(tmp_path) if root == "local" else f"memory://{tmp_path.name}")
    kept = StretchRows(folder, "part-00000", "d1")
    assert kept.get("r1", "fra", SPANS) is None
    kept.put("r1", "fra", SPANS, ROWS)
    found = kept.get("r1", "fra", SPANS)
    assert found is not None and found.dtype == np.float32 and np.array_equal(found, ROWS)
    assert kept.get("r2", "fra", SPANS) is None and kept.get("r1", "spa", SPANS) is None
    assert kept.get("r1", "fra", SPANS[:1]) is None  # other settings found other spans there
    assert StretchRows(folder, "part-00000", "d2").get("r1", "fra", SPANS) is None
    assert StretchRows(folder, "part-00001", "d1").get("r1", "fra", SPANS) is None


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False", b"no rows"])
def test_damaged_rows_are_no_rows(tmp_path: Path, damage: bytes) -> None:
    kept = StretchRows(RunFolder(str(tmp_path)), "part-00000", "d1")
    kept.put("r1", "fra", SPANS, ROWS)
    (file,) = (tmp_path / "state" / "stretches" / "part-00000").iterdir()
    file.write_bytes(damage or file.read_bytes()[:-3])
    assert kept.get("r1", "fra", SPANS) is None


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    kept = StretchRows(RunFolder(str(tmp_path)), "part-00000", "d1")
    kept.put("r1", "fra", SPANS, ROWS)
    (file,) = (tmp_path / "state" / "stretches" / "part-00000").iterdir()
    np.save(file, np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    assert kept.get("r1", "fra", SPANS) is None


@pytest.mark.embedded
def test_a_recording_goes_on_where_it_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_models()
    config = load_config(str(write_corpus(tmp_path, {"fra-0": ("fra", (0, 1, 2))})), output=str(tmp_path / "whole"))
    monkeypatch.setattr(speech_recordings, "STRETCH_SECONDS", 1.5)
    embedded: list[int] = []
    load = SpeechModels.load

    class Counting:
        """The embedder, which is killed before its third stretch where it is told so."""

        def __init__(self, embedder: Any, last: int | None) -> None:
            self._embedder, self._last = embedder, last

        def __getattr__(self, name: str) -> Any:
            return getattr(self._embedder, name)

        def embed(self, samples: Any, spans: Any, *rest: Any) -> Any:
            if self._last is not None and len(embedded) == self._last:
                raise KeyboardInterrupt
            embedded.append(int(spans[0, 0]))
            return self._embedder.embed(samples, spans, *rest)

    def do(root: Path, last: int | None = None) -> list[int]:
        def counting(self: SpeechModels) -> Any:
            lid, embedder = load(self)
            return lid, Counting(embedder, last)

        embedded.clear()
        monkeypatch.setattr(SpeechModels, "load", counting)
        (task,) = read_inputs(config).speech
        do_and_mark(task, Context(config, str(root), "cpu", 1))
        return list(embedded)

    whole = do(tmp_path / "whole")
    assert len(whole) >= 3  # stretches
    with pytest.raises(KeyboardInterrupt):
        do(tmp_path / "run", last=2)
    assert embedded == whole[:2]
    assert do(tmp_path / "run") == whole[2:]
    assert hashes(tmp_path / "run") == hashes(tmp_path / "whole")
    assert not list((tmp_path / "run" / "state" / "stretches").rglob("*.npy"))
