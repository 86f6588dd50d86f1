"""Pairs of speech whose words a machine heard: what is learnt of them, in which tasks, and what is set aside."""

import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamlessalign.audio import encode
from seamlessalign.errors import InputError
from seamlessalign.rows import TRANSCRIPTS
from seamlessalign.training.data.index import RowIndex, make_index
from seamlessalign.training.data.joined import MachineTexts, TranscriptTable, UnitTable
from seamlessalign.training.data.prepared import PreparedData, _split, prepare_data
from seamlessalign.training.data.settings import TASK_NAMES
from seamlessalign.training.data.sources import reduced
from tests.ground.sounds import noise
from tests.training.data.data_world import (
    corpus_row,
    data_of,
    sentence,
    source_of,
    units_of,
    vocabularies,
    write_corpus,
    write_units,
)

COUNT = 12
UNSURE = 4  # the row whose target was heard badly
UNHEARD = 7  # that whose target has no transcript
WRITTEN = 9  # that whose target somebody wrote down


def _pair(number: int) -> dict[str, Any]:
    """Russian speech and French speech; nobody wrote down what is said, but once."""
    length = 6000 + 100 * number
    sound = {"bytes": encode(noise(length, seed=100 + number)[:, 0], "flac"), "path": "s.flac"}
    about: dict[str, Any] = {"src_lang": "rus", "src_audio": sound, "src_start": 0, "src_end": length, "src_text": None}
    return corpus_row(number, **about, tgt_text="the green hills" if number == WRITTEN else None)


def _said(number: int, side: str) -> str:
    return f"{sentence(number + (500 if side == 'tgt' else 0))} {side}"


def write_transcripts(folder: Path, rows: list[dict[str, Any]]) -> Path:
    place = folder / "transcripts" / "direction=ruA-frA"
    place.mkdir(parents=True)
    heard = [
        {
            "pair_id": row["pair_id"],
            "side": side,
            "lang": row[f"{side}_lang"],
            "text": f" {_said(i, side)}\n",
            "avg_logprob": -1.25 if (i, side) == (UNSURE, "tgt") else -0.25,
        }
        for i, row in enumerate(rows)
        for side in ("tgt", "src")
        if (i, side) != (UNHEARD, "tgt")
    ]
    pq.write_table(pa.Table.from_pylist(heard[::-1], TRANSCRIPTS), place / "part-00000.parquet")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    rows = [_pair(i) for i in range(COUNT)]
    write_units(folder, rows)
    return write_transcripts(write_corpus(folder, rows), rows)


def _prepared(run: Path, tasks: list[str], folder: Path | None = None, **keys: Any) -> PreparedData:
    source = {"kind": "corpus", "path": str(run)} | keys
    text, units = vocabularies()
    return prepare_data(data_of(source, tasks=tasks, validation=[source]), text, units, 0, folder)


def _learnt(made: PreparedData) -> Counter[tuple[str, str]]:
    """Tasks and directions of the items."""
    batches = [made.train[0, place] for place in range(made.train.num_batches(0))]
    told = [zip(one.tasks, one.src_langs, one.tgt_langs, strict=True) for one in batches if one is not None]
    assert all(one is not None and not one.rejects for one in batches)
    return Counter((task, f"{src}-{tgt}") for rows in told for task, src, tgt in rows)


class TestSpeechIntoSpeech:
    def test_its_text_is_what_was_heard(self, run: Path, tmp_path: Path) -> None:
        made = _prepared(run, ["s2st"], tmp_path)
        text, units = vocabularies()
        numbers = {_pair(i)["pair_id"]: i for i in range(COUNT)}
        seen = set()
        for place in range(made.train.num_batches(0)):
            batch = made.train[0, place]
            assert batch is not None and batch.src_tokens is not None and batch.unit_tokens is not None
            for at, key in enumerate(batch.keys):
                number = numbers[key]
                seen.add(number)
                told = "the green hills" if number == WRITTEN else _said(number, "tgt")
                assert [t for t in batch.tgt_tokens[at].tolist() if t] == [t for t in text.target(told, "fra") if t]
                assert [t for t in batch.src_tokens[at].tolist() if t] == text.source(_said(number, "src"), "rus")
                given = units.target(reduced(units_of(number)).tolist(), "fra")
                assert batch.unit_tokens[at].tolist()[: len(given)] == given
        assert seen == set(range(COUNT)) - {UNSURE, UNHEARD}
        # of the row that was not heard, French into Russian lacks least
        assert made.by_source["train.0 (corpus)"] == Counter({"unsure_transcript": 1, "no_units": 1})
        account = json.loads((tmp_path / "account.json").read_text())
        group = account["items"]["0. corpus: s2st rus-fra"]
        assert group["there"] == group["machine_texts"] == COUNT - 2

    def test_without_them_it_cannot_be_learnt(self, run: Path) -> None:
        """But for the row that somebody wrote down."""
        keys: dict[str, Any]
        for keys in ({"transcripts_for": []}, {"path": str(run / "corpus"), "units": str(run / "units")}):
            made = _prepared(run, ["s2st"], **keys)
            assert _learnt(made) == {("s2st", "rus-fra"): 1}
            assert made.by_source["train.0 (corpus)"] == {"no_target_text": COUNT - 1}

    def test_a_folder_may_be_named(self, run: Path) -> None:
        named: dict[str, Any] = {"units": str(run / "units"), "transcripts": str(run / "transcripts")}
        assert _learnt(_prepared(run / "corpus", ["s2st"], **named)) == {("s2st", "rus-fra"): COUNT - 2}

    def test_an_export_is_learnt_as_the_run_is(self, run: Path, tmp_path: Path) -> None:
        """An export has its directions in the folder itself, and what is beside them in folders of its own."""
        (tmp_path / "ruA-frA").mkdir()
        for file in (run / "corpus").rglob("*.parquet"):
            (tmp_path / "ruA-frA" / file.name).write_bytes(file.read_bytes())
        for table in ("units", "transcripts"):
            (tmp_path / table / "ruA-frA").mkdir(parents=True)
            for file in (run / table).rglob("*.parquet"):
                (tmp_path / table / "ruA-frA" / file.name).write_bytes(file.read_bytes())
        text, _ = vocabularies()
        ours, theirs = (make_index([source_of(kind="corpus", path=str(one))], text)[0] for one in (run, tmp_path))
        assert ours.digest == theirs.digest and len(theirs.rows) == COUNT


class TestRules:
    def test_texts_of_machines_are_learnt_where_it_is_said(self, run: Path) -> None:
        sure, heard = COUNT - 2, COUNT - 1
        made = _prepared(run, ["asr", "s2tt", "s2st"], transcripts_for=["s2tt"])
        # the row that was written down is also learnt as what it is
        assert _learnt(made) == {
            ("s2tt", "rus-fra"): sure,
            ("s2tt", "fra-rus"): COUNT,
            ("asr", "fra-fra"): 1,
            ("s2st", "rus-fra"): 1,
        }
        assert made.by_source["train.0 (corpus)"] == {"unsure_transcript": 1}
        made = _prepared(run, ["asr"], transcripts_for=["asr"], min_avg_logprob=-1.5)
        assert _learnt(made) == {("asr", "fra-fra"): heard, ("asr", "rus-rus"): COUNT}
        assert not made.set_aside

    def test_examples_say_who_wrote(self, run: Path) -> None:
        reader = _prepared(run, ["s2st"], human=True).train.reader
        found = [reader.example(number)[0] for number in range(len(reader._items))]
        written = _pair(WRITTEN)["pair_id"]
        assert {one.machine_texts for one in found if one.key != written} == {(True, True)}
        assert [one.machine_texts for one in found if one.key == written] == [(True, False)]
        assert not any(one.human for one in found)  # whatever the source is
        # where they are not learnt, it is as if there were none
        reader = _prepared(run, ["s2st"], human=True, transcripts_for=["asr"]).train.reader
        ((one, _),) = [reader.example(number) for number in range(len(reader._items))]
        assert (one.src_text, one.tgt_text, one.machine_texts) == (None, "the green hills", (False, False))
        assert one.human
        reader = _prepared(run, ["asr"], human=True).train.reader
        assert [(one.human, one.machine_texts) for one in (reader.example(0)[0],)] == [(True, (False, False))]

    def test_other_rules_list_nothing_anew(self, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        text, _ = vocabularies()

        def index(**keys: Any) -> RowIndex:
            return make_index([source_of(kind="corpus", path=str(run), **keys)], text, tmp_path)[0]

        first = index()
        monkeypatch.setattr("seamlessalign.training.data.index._listed", None)  # cannot be called
        other = pickle.loads(pickle.dumps(index(transcripts_for=["asr"], min_avg_logprob=-2)))  # noqa: S301
        assert other.digest == first.digest
        asr, s2st = TASK_NAMES.index("asr"), TASK_NAMES.index("s2st")
        for made, task, sure in ((first, s2st, COUNT - 2), (first, asr, 1), (other, asr, COUNT - 1), (other, s2st, 1)):
            there, unsure = made.texts_in(task, slice(None), 1)
            assert (int(there.sum()), int(unsure.sum())) == (sure, int(made is first and task == s2st))

    def test_what_is_held_out_follows_from_what_people_wrote_first(self, tmp_path: Path) -> None:
        rows = [corpus_row(i, tgt_text=None) for i in range(COUNT)]
        text, units = vocabularies()
        source = {"kind": "corpus", "path": str(write_corpus(tmp_path, rows)), "transcripts_for": ["s2tt"]}
        data = data_of(source, tasks={"s2tt": {"targets": ["eng"]}}, validation_share=0.5)

        def held() -> set[int]:
            items = prepare_data(data, text, units, 0).validation.mixture.items
            return set(items.index.rows["key"][items.rows].tolist())

        before = held()
        write_transcripts(tmp_path, rows)
        assert held() == before and 0 < len(before) < COUNT

    def test_pairs_of_which_the_same_was_heard_are_held_out_together(self, tmp_path: Path) -> None:
        rows = [_pair(i) for i in range(4)]
        write_corpus(tmp_path, rows)
        write_units(tmp_path, rows)
        heard = [
            {"pair_id": row["pair_id"], "side": "tgt", "lang": "fra", "text": "le chat", "avg_logprob": -0.1}
            for row in rows
        ]
        (tmp_path / "transcripts").mkdir()
        pq.write_table(pa.Table.from_pylist(heard, TRANSCRIPTS), tmp_path / "transcripts" / "a.parquet")
        items = _prepared(tmp_path, ["s2st"]).train.mixture.items
        assert sorted(map(len, _split(items, 0.5))) == [0, 0, 4]


class TestTables:
    @given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["src", "tgt"])), max_size=12, unique=True))
    def test_a_row_is_found_by_id_and_side(self, tmp_path_factory: pytest.TempPathFactory, keys: list[Any]) -> None:
        file = tmp_path_factory.mktemp("tables") / "a.parquet"
        rows = [
            {"pair_id": f"{n:016x}", "side": side, "text": f"{n} {side}", "avg_logprob": -n / 8, "units": [n, n, n + 1]}
            for n, side in keys
        ]
        schema = pa.schema([("pair_id", pa.string()), ("side", pa.string()), ("text", pa.large_string()),
                            ("avg_logprob", pa.float64()), ("units", pa.list_(pa.int16()))])  # fmt: skip
        pq.write_table(pa.Table.from_pylist(rows, schema), file)
        texts, units = TranscriptTable(str(file)), UnitTable(str(file))
        for n in range(6):
            for number, side in enumerate(("src", "tgt")):
                wanted = (f"{n} {side}", -n / 8) if (n, side) in keys else None
                assert texts.of(f"{n:016x}", number) == wanted
                found = units.of(f"{n:016x}", number)
                assert (None if found is None else found.tolist()) == ([n, n + 1] if wanted else None)

    def test_a_table_that_lacks_a_column_is_told(self, run: Path) -> None:
        with pytest.raises(InputError, match="lacks the columns avg_logprob, text, as tables of transcripts have them"):
            TranscriptTable(str(run / "units"))

    @given(st.dictionaries(st.integers(0, 40), st.text(st.characters(exclude_categories=["Cs"]), max_size=9)))
    def test_texts_are_kept(self, texts: dict[int, str]) -> None:
        kept = MachineTexts.of_texts(sorted(texts.items()))
        for place in range(41):
            if place in texts:
                assert kept.of(place // 2, place % 2) == texts[place]
            else:
                with pytest.raises(KeyError):
                    kept.of(place // 2, place % 2)


def test_lengths_are_those_that_are_read(run: Path) -> None:
    """A text that is not learnt in a task takes no room in its batches."""
    items = _prepared(run, ["s2st", "asr"], transcripts_for=["s2st"]).train.mixture.items
    lengths, tasks = items.lengths(), np.array(TASK_NAMES)[items.tasks]
    assert (lengths[tasks == "s2st", 1] > 0).all() and (tasks == "asr").sum() == 1
