"""The index: every row of a source is in it once, as it was listed, also when it comes from files."""

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from seamlessalign.errors import StorageError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.training.data.index import ROW, RowIndex, make_index
from seamlessalign.training.data.sources import reduced
from tests.ground.sounds import noise
from tests.training.data.data_world import (
    corpus_row,
    seconds_of,
    source_of,
    units_of,
    vocabularies,
    write_corpus,
    write_lines,
    write_units,
)

COUNT = 13


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    rows = [corpus_row(i) for i in range(COUNT)]
    write_units(folder, rows)
    return write_corpus(folder, rows)


def _index(*sources: dict[str, Any], folder: Path | None = None) -> RowIndex:
    text, _ = vocabularies()
    return make_index([source_of(**keys) for keys in sources], text, folder)[0]


class TestListing:
    def test_a_row_is_what_it_was(self, run: Path) -> None:
        index = _index({"kind": "corpus", "path": str(run)})
        text, _ = vocabularies()
        rows = {f"{int(row['key']):016x}": (number, row) for number, row in enumerate(index.rows)}
        assert len(rows) == len(index.rows) == COUNT
        for i in range(COUNT):
            made = corpus_row(i)
            number, row = rows[made["pair_id"]]
            assert [index.languages[lang] for lang in row["lang"]] == ["eng", "fra"]
            np.testing.assert_allclose(row["seconds"], [np.nan, round(seconds_of(i) * SAMPLE_RATE) / SAMPLE_RATE])
            texts = (made["src_text"], "eng"), (made["tgt_text"], "fra")
            assert row["subwords"].tolist() == [len(text.pieces(*one)) for one in texts]
            assert row["chars"].tolist() == [len(one) for one, _ in texts]
            assert row["margin"] == np.float32(made["margin"])
            assert index.units_of(number, 1).tolist() == reduced(units_of(i)).tolist()
            assert not len(index.units_of(number, 0))

    def test_units_may_be_named_or_none(self, run: Path, tmp_path: Path) -> None:
        alone = {"kind": "corpus", "path": str(run / "corpus")}
        assert not len(_index(alone).units)
        assert len(_index(alone | {"units": str(run / "units")}).units)

    def test_both_sides_may_have_units(self, tmp_path: Path) -> None:
        given = [([1, 2, 2, 3], [4]), (None, [5, 6]), ([7], None), ([8, 8], [9, 9, 8])]
        lines = [
            {
                name: {"lang": lang, "text": "cat", "units": units}
                for name, lang, units in zip(*names, pair, strict=True)
            }
            for pair in given
            for names in [(("source", "target"), ("eng", "fra"))]
        ]
        index = _index({"kind": "manifest", "path": str(write_lines(tmp_path / "m.json", lines))})
        for row, pair in enumerate(given):
            for side, units in enumerate(pair):
                assert index.units_of(row, side).tolist() == reduced(units or []).tolist()

    def test_what_is_remembered_of_a_row_is_small(self, run: Path) -> None:
        assert ROW.itemsize <= 72
        assert pickle.dumps(_index({"kind": "corpus", "path": str(run)})).__sizeof__() < 10_000

    def test_the_first_rows_of_a_source(self, run: Path) -> None:
        index = _index({"kind": "corpus", "path": str(run), "max_rows": 6}, {"kind": "corpus", "path": str(run)})
        assert np.bincount(index.sources).tolist() == [6, COUNT]
        np.testing.assert_array_equal(index.rows["key"][:6], index.rows["key"][6:12])

    def test_what_cannot_be_used_has_a_reason(self, tmp_path: Path) -> None:
        soundfile.write(tmp_path / "good.wav", noise(8000)[:, 0], SAMPLE_RATE)
        (tmp_path / "text.wav").write_text("no sound")
        (tmp_path / "empty.wav").write_bytes(b"")
        lines = []
        for name in ("good.wav", "text.wav", "empty.wav", "gone.wav"):
            side = {"lang": "eng", "text": "the cat"}
            lines.append({"source": side | {"audio_local_path": name}, "target": side})
        lines.append({"source": {"lang": "eng", "text": "cat \ud800"}, "target": {"lang": "fra", "text": "le chat"}})
        lines.append({"source": {"lang": "xx"}, "target": {"lang": "fra"}})
        index = _index({"kind": "manifest", "path": str(write_lines(tmp_path / "m.json", lines))})
        told = [index.reasons[number] for number in index.rows["sound_problem"][:, 0]]
        assert told == ["", "not_audio", "empty", "missing", "", ""]
        problems = [index.reasons[number] for number in index.rows["problem"]]
        assert problems == ["", "", "", "", "not_unicode", "unknown_language"]
        np.testing.assert_allclose(index.rows["seconds"][:, 0], [0.5] + [np.nan] * 5)

    def test_speech_that_is_to_be_made_is_measured(self, tmp_path: Path) -> None:
        from seamlessalign.speech_sources import Sound, load_sound

        (tmp_path / "t.txt").write_text("the cat sat on the mat\n")
        index = _index({"kind": "espeak", "path": str(tmp_path / "t.txt"), "lang": "eng"})
        said = load_sound(Sound("t", 0, "", "en", 155), "the cat sat on the mat", "t")
        assert index.rows["seconds"][0, 0] == np.float32(len(said) / SAMPLE_RATE)

    def test_keys_change_with_the_content_alone(self, tmp_path: Path) -> None:
        def keys(seed: int, text: str, name: str) -> Any:
            soundfile.write(tmp_path / f"{name}.wav", noise(8000, seed=seed)[:, 0], SAMPLE_RATE)
            # the number of a sentence, which others read too
            source = {"id": 7, "lang": "fra", "text": None, "audio_local_path": f"{name}.wav"}
            path = write_lines(tmp_path / f"{name}.json", [{"source": source, "target": {"lang": "eng", "text": text}}])
            return _index({"kind": "manifest", "path": str(path)}).rows["key"][0]

        assert keys(0, "cat", "a") == keys(0, "cat", "b") != keys(1, "cat", "c")
        assert keys(0, "dog", "d") != keys(0, "cat", "a")


class TestFiles:
    def test_the_second_time_it_is_read(self, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source = {"kind": "corpus", "path": str(run)}
        plain, saved = _index(source), _index(source, folder=tmp_path)
        monkeypatch.setattr("seamlessalign.training.data.index._listed", None)  # cannot be called
        again = _index(source | {"weight": 3.0}, folder=tmp_path)
        for one in (saved, again, pickle.loads(pickle.dumps(again))):  # noqa: S301
            for name in ("rows", "groups", "units"):
                assert getattr(one, name).tobytes() == getattr(plain, name).tobytes()
            assert (one.languages, one.reasons, one.digest) == (plain.languages, plain.reasons, plain.digest)
            assert isinstance(one.rows, np.memmap)
        assert len(pickle.dumps(again)) < 1000

    def test_an_empty_part_can_be_saved(self, run: Path, tmp_path: Path) -> None:
        assert not len(_index({"kind": "corpus", "path": str(run / "corpus")}, folder=tmp_path).units)

    def test_other_files_are_listed_anew(self, tmp_path: Path) -> None:
        texts = [{"eng": "cat", "fra": "chat"}]
        path = write_lines(tmp_path / "t.jsonl", texts)
        source = {"kind": "text", "path": str(path), "pairs": [["eng", "fra"]]}
        assert len(_index(source, folder=tmp_path / "index").rows) == 1
        write_lines(path, texts * 2)
        assert len(_index(source, folder=tmp_path / "index").rows) == 2
        time = path.stat().st_mtime_ns
        write_lines(path, [*texts[:1], {"eng": "dog", "fra": "chat"}])  # as long as before
        os.utime(path, ns=(time + 1, time + 1))
        digests = {_index(source, folder=place).digest for place in (tmp_path / "index", tmp_path / "other")}
        assert len(digests) == 1

    def test_what_a_killed_process_left_is_made_again(self, run: Path, tmp_path: Path) -> None:
        source = {"kind": "corpus", "path": str(run)}
        wanted = _index(source, folder=tmp_path).digest
        (tmp_path / "index.json").write_text("{}")
        (tmp_path / "rows.npy").write_bytes(b"half")
        assert _index(source, folder=tmp_path).digest == wanted

    @pytest.mark.slow
    def test_one_that_is_killed_while_it_writes_is_made_again(self, run: Path, tmp_path: Path) -> None:
        source = {"kind": "corpus", "path": str(run)}
        wanted = _index(source).digest
        for moment in ("index.json", "rows.npy"):  # the last thing that is there when it is killed
            folder = tmp_path / moment
            script = (
                "from pathlib import Path; from tests.training.data.test_index import _index\n"
                f"_index({source!r}, folder=Path({str(folder)!r}))"
            )
            program = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[3])
            while program.poll() is None and not (folder / moment).is_file():
                time.sleep(0.0005)
            program.kill()
            program.wait()
            assert _index(source, folder=folder).digest == wanted

    def test_a_damaged_one_is_told(self, run: Path, tmp_path: Path) -> None:
        source = {"kind": "corpus", "path": str(run)}
        _index(source, folder=tmp_path)
        assert json.loads((tmp_path / "index.json").read_text())["languages"] == ["eng", "fra"]
        (tmp_path / "rows.npy").write_bytes(b"half")
        with pytest.raises(StorageError, match="the index of data is damaged"):
            _index(source, folder=tmp_path)
