"""Row types agree with their schemas, and ids depend on content alone."""

import dataclasses
import types
import typing
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamlessalign import rows
from seamlessalign.errors import UnreadableError
from seamlessalign.rows import LedgerLine, Pair, Recording, Segment, Sentence

TABLES: list[tuple[type, pa.Schema]] = [
    (Recording, rows.RECORDINGS),
    (Segment, rows.segments_schema(4)),
    (Sentence, rows.sentences_schema(4)),
    (Pair, rows.PAIRS),
    (LedgerLine, rows.LEDGER),
]


@pytest.mark.parametrize(("row", "schema"), TABLES, ids=[row.__name__ for row, _ in TABLES])
def test_a_row_type_has_the_columns_of_its_schema(row: type, schema: pa.Schema) -> None:
    hints = typing.get_type_hints(row)
    fields = [field for field in schema if field.name != "embedding"]
    assert list(hints) == [field.name for field in fields]
    for field in fields:
        hint = hints[field.name]
        optional = isinstance(hint, types.UnionType) and type(None) in typing.get_args(hint)
        plain = next(kind for kind in typing.get_args(hint) if kind is not type(None)) if optional else hint
        assert field.nullable == optional, field
        checks = {
            str: pa.types.is_string,
            int: pa.types.is_integer,
            float: pa.types.is_floating,
            bool: pa.types.is_boolean,
        }
        assert checks.get(plain, pa.types.is_map)(field.type), field


def test_times_are_int64() -> None:
    for schema in (rows.RECORDINGS, rows.segments_schema(4), rows.PAIRS, rows.CORPUS):
        for field in schema:
            if field.name.endswith(("start", "end", "samples")):
                assert field.type == pa.int64(), field


def test_rows_are_frozen() -> None:
    sentence = Sentence("id", "text", "eng", 1.0, "document", 0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        sentence.text = "other"  # type: ignore[misc]


def test_ids_stay_what_they_were() -> None:
    """Published corpora refer to these: a change of any is a change of every corpus."""
    sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert rows.sha256_hex(b"hello") == sha256
    assert rows.recording_id(sha256) == "2cf24dba5fb0a30e"
    assert rows.segment_id("2cf24dba5fb0a30e", 16_000, 48_000) == "2cf24dba5fb0a30e:16000-48000"
    assert rows.sentence_id("Où est-ce ?", "fra") == "aec339cc3bc3e37a"
    assert rows.pair_id("2cf24dba5fb0a30e:16000-48000", "0123456789abcdef") == "9b2a21981b3e10c7"


@given(st.text())
def test_a_sentence_id_does_not_see_how_unicode_is_composed(text: str) -> None:
    assert rows.sentence_id(unicodedata.normalize("NFD", text), "fra") == rows.sentence_id(
        unicodedata.normalize("NFC", text), "fra"
    )


@given(st.text(), st.text())
def test_ids_differ_where_content_does(one: str, other: str) -> None:
    if unicodedata.normalize("NFC", one) != unicodedata.normalize("NFC", other):
        assert rows.sentence_id(one, "fra") != rows.sentence_id(other, "fra")
    assert rows.sentence_id(one, "fra") != rows.sentence_id(one, "ita")


@given(*[st.integers(0, 1 << 40)] * 4)
def test_a_pair_id_keeps_sides_apart(a: int, b: int, c: int, d: int) -> None:
    first, second = rows.segment_id("0" * 16, a, b), rows.segment_id("0" * 16, c, d)
    if first != second:
        assert rows.pair_id(first, second) != rows.pair_id(second, first)


def test_what_could_not_be_read_survives_pickling() -> None:
    """Worker processes send it to the driver."""
    import pickle

    copy = pickle.loads(pickle.dumps(UnreadableError("truncated", "ends early")))  # noqa: S301 - our own bytes
    assert (copy.reason, copy.detail, str(copy)) == ("truncated", "ends early", "truncated: ends early")
