"""Tables as people have them: whatever stands in them, each row is learnt, or set aside with a reason."""

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seamlessalign.errors import InputError
from seamlessalign.rows import SAMPLE_RATE
from seamlessalign.speech_sources import load_sound
from seamlessalign.training.data.index import make_index
from seamlessalign.training.data.prepared import PreparedData, prepare_data
from seamlessalign.training.data.sources import open_source
from tests.ground.sounds import noise
from tests.training.data.data_world import data_of, source_of, vocabularies

TASKS = ["asr", "s2tt", "t2tt", "s2st", "t2u"]
SAMPLES = noise(3200)[:, 0].astype(np.float32)


def _wav(samples: Any = SAMPLES) -> bytes:
    made = io.BytesIO()
    soundfile.write(made, samples, SAMPLE_RATE, format="WAV", subtype="FLOAT")
    return made.getvalue()


WAV = _wav()
texts = st.sampled_from(["the cat", "a dog runs", "le chat", "кот", "", "  ", "—", None])
langs = st.sampled_from(["eng", "fr", "fra_Latn", "FRA", "rus", "klingon", "", None])
sounds = st.sampled_from([WAV, WAV, WAV, b"", b"no sound", None])
units = st.none() | st.lists(st.none() | st.integers(0, 13), max_size=4)
rows = st.fixed_dictionaries(
    {
        "clip": sounds,
        "said": texts,
        "lang": langs,
        "units": units,
        "meant": texts,
        "seconds": st.sampled_from([0.2, None]),
        "score": st.sampled_from([1.5, None]),
    }
)
TYPES: dict[str, list[Any]] = {
    "clip": [pa.binary(), pa.large_binary(), pa.struct([("bytes", pa.binary()), ("path", pa.string())])],
    "said": [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())],
    "lang": [pa.string(), pa.dictionary(pa.int32(), pa.string())],
    "units": [pa.list_(pa.int8()), pa.list_(pa.uint16()), pa.large_list(pa.int64())],
    "meant": [pa.string()],
    "seconds": [pa.float64(), pa.float32()],
    "score": [pa.float64()],
}
COLUMNS: dict[str, Any] = {
    "src": {"lang_column": "lang", "audio": "clip", "text": "said", "units": "units"},
    "tgt": {"lang": "en", "text": "meant"},
    "margin": "score",
}


@st.composite
def tables(draw: st.DrawFn) -> list[pa.Table]:
    """Files of one source: their columns of other types, in another order."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        given = draw(st.lists(rows, max_size=6))
        made = {}
        for name in draw(st.permutations(list(TYPES))):
            of = draw(st.sampled_from(TYPES[name]))
            values: list[Any] = [row[name] for row in given]
            if pa.types.is_struct(of):
                values = [None if one is None else {"bytes": one, "path": "x.wav"} for one in values]
            plain = pa.array(values, pa.string() if pa.types.is_dictionary(of) else of)
            made[name] = plain.dictionary_encode() if pa.types.is_dictionary(of) else plain
        found.append(pa.table(made))
    return found


def _offers(row: dict[str, Any]) -> int:
    """How many tasks a row has all parts for; a row that has none is counted once."""
    if row["lang"] not in ("eng", "fr", "fra", "fra_Latn", "FRA", "rus"):
        return 1
    speech = row["clip"] is not None and row["clip"] != {"bytes": None, "path": None}
    said, meant = (any(c.isalnum() for c in row[name] or "") for name in ("said", "meant"))
    units = bool(row["units"])
    found = [
        speech and said,  # asr
        speech and meant,  # s2tt
        *[said and meant] * 2,  # t2tt, both ways
        said and units,  # t2u; s2st is never there, since the other side has no units
    ]
    return max(1, sum(map(bool, found)))


def _prepared(folder: Path, **more: Any) -> PreparedData:
    text, unit_vocabulary = vocabularies()
    source = {"kind": "parquet", "path": str(folder)} | COLUMNS | more
    return prepare_data(data_of(source, tasks=TASKS, validation=[source]), text, unit_vocabulary, 0)


@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(tables(), st.integers(1, 4), st.booleans())
def test_offers_and_rows_without_are_items_and_what_is_set_aside(
    made: list[pa.Table], group: int, tells_seconds: bool
) -> None:
    whole = {"clip": WAV, "said": "the cat", "lang": "fra", "units": [1, 2], "meant": "a cat", "seconds": 0.2}
    with tempfile.TemporaryDirectory() as folder:
        one = [pa.table({name: pa.array([value]) for name, value in (whole | {"score": 1.0}).items()})]
        for number, table in enumerate(one + made):
            pq.write_table(table, Path(folder) / f"{number}.parquet", row_group_size=group)
        more = {"src": COLUMNS["src"] | {"seconds": "seconds"}} if tells_seconds else {}
        data = _prepared(Path(folder), **more)
        kept = Counted(data)
    rows_of_all = [row for table in one + made for row in table.to_pylist()]
    items = len(data.train.mixture.items)
    assert items + sum(data.by_source["train.0 (parquet)"].values()) == sum(map(_offers, rows_of_all))
    assert kept.rows + kept.rejected == items
    # a sound whose length the table tells is not looked at before it is wanted
    assert kept.reasons <= ({"empty", "unreadable", "not_audio"} if tells_seconds else set())


class Counted:
    """What the batches of an epoch hold."""

    def __init__(self, data: PreparedData) -> None:
        self.rows = self.rejected = 0
        self.reasons: set[str] = set()
        for place in range(data.train.num_batches(0)):
            batch = data.train[0, place]
            assert batch is not None
            there = data.train.plan(0).batch(place)
            self.rows += len(batch)
            self.rejected += there.stop - there.start - len(batch)
            self.reasons |= set(batch.rejects.values())
            assert bool(batch.rejects) == (there.stop - there.start > len(batch))


def _index(folder: Path, **columns: Any) -> Any:
    pq.write_table(pa.table(columns), folder / "a.parquet")
    src = {"lang": "fra"} | {
        key: name
        for key, name in (("audio", "clip"), ("text", "said"), ("units", "units"), ("seconds", "seconds"))
        if name in columns
    }
    text, _ = vocabularies()
    return make_index([source_of(kind="parquet", path=str(folder), src=src)], text)[0]


class TestSound:
    def test_a_length_that_is_lacking_is_looked_for(self, tmp_path: Path) -> None:
        index = _index(tmp_path, clip=[WAV, WAV, None], said=["a", "b", "c"], seconds=[0.5, None, 0.5])
        np.testing.assert_allclose(index.rows["seconds"][:, 0], [0.5, 0.2, np.nan])

    def test_it_is_not_read_where_all_is_told(self, tmp_path: Path) -> None:
        """But its paths, of which none is there, would be."""
        index = _index(tmp_path, clip=["gone.wav"] * 2, said=["a", "b"], seconds=[0.5, 0.25])
        assert index.rows["seconds"][:, 0].tolist() == [0.5, 0.25] and not index.rows["sound_problem"].any()

    def test_no_bytes_are_no_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that happens to be called so, where the program runs, is another."""
        monkeypatch.chdir(tmp_path)
        Path("x.wav").write_bytes(WAV)
        index = _index(
            tmp_path, clip=[{"bytes": b"", "path": "x.wav"}, {"bytes": None, "path": "x.wav"}], said=["a"] * 2
        )
        assert [index.reasons[number] for number in index.rows["sound_problem"][:, 0]] == ["empty", ""]

    @pytest.mark.parametrize("samples", [SAMPLES, np.stack([SAMPLES, SAMPLES])], ids=["mono", "stereo"])
    def test_samples_that_were_decoded(self, tmp_path: Path, samples: Any) -> None:
        clip = [{"array": samples.tolist(), "sampling_rate": SAMPLE_RATE, "path": "gone.wav"}]
        pq.write_table(pa.table({"clip": clip, "said": ["a"]}), tmp_path / "a.parquet")
        keys: Any = {"path": str(tmp_path), "src": {"lang": "fra", "audio": "clip", "text": "said"}}
        source = open_source(source_of(kind="parquet", **keys))
        (row,) = source.open(next(source.groups()), sound=True).rows()
        sound = row.sides[0].sound
        assert sound is not None
        np.testing.assert_allclose(load_sound(sound, "", ""), SAMPLES, atol=1e-6)


class TestText:
    def test_what_is_not_unicode_is_one_row(self, tmp_path: Path) -> None:
        raw = pa.array([b"the cat", b"\xff\xfe", b"a dog"])
        index = _index(tmp_path, said=pa.StringArray.from_buffers(3, *raw.buffers()[1:]))
        assert [index.reasons[number] for number in index.rows["problem"]] == ["", "not_unicode", ""]

    def test_units_that_are_none_are_known_to_be(self, tmp_path: Path) -> None:
        index = _index(tmp_path, said=["a", "b"], units=[[1, None, None, 2], [1, 1]])
        assert index.units_of(0, 0).tolist() == [1, 65535, 2] and index.units_of(1, 0).tolist() == [1]


@pytest.mark.parametrize(
    ("column", "values", "told"),
    [
        ("said", [1], "the column said holds int64, but is to hold text"),
        ("said", [b"a"], "the column said holds binary, but is to hold text"),
        ("clip", [1.5], "the column clip holds double, but is to hold bytes, paths, or structs"),
        ("clip", [{"array": [0.5]}], "holds struct<array: list<element: double>>, but is to hold bytes"),
        ("units", ["1 2"], "the column units holds string, but is to hold lists of whole numbers"),
        ("units", [[0.5]], "holds list<element: double>, but is to hold lists of whole numbers"),
        ("seconds", ["1"], "the column seconds holds string, but is to hold numbers"),
    ],
)
def test_a_column_of_another_kind_is_told_before_anything_is_read(
    tmp_path: Path, column: str, values: list[Any], told: str
) -> None:
    there: dict[str, Any] = {"said": ["a"], "clip": [WAV], "units": [[1]], "seconds": [1.0]}
    with pytest.raises(InputError) as caught:
        _index(tmp_path, **(there | {column: values}))
    assert told in str(caught.value) and str(caught.value).startswith(f"{tmp_path}/a.parquet: ")
