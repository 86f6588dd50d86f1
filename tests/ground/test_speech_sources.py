"""Lines of lists of speech and text."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamlessalign.errors import InputError
from seamlessalign.speech_sources import manifest_rows, text_lines

TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r")), min_size=1, max_size=5)


@given(TEXTS, st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_only_line_feeds_end_a_line(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], end: str, bom: bool
) -> None:
    file = tmp_path_factory.mktemp("lines") / "texts.txt"
    file.write_bytes((b"\xef\xbb\xbf" if bom else b"") + "".join(text + end for text in texts).encode())
    if not texts[0].startswith("\ufeff") or bom:
        assert text_lines(str(file)) == texts


@given(TEXTS)
def test_json_lines_may_hold_what_unicode_calls_a_separator(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    file = tmp_path_factory.mktemp("lines") / "rows.jsonl"
    file.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), encoding="utf-8")
    assert [row["text"] for row in manifest_rows(file)] == texts


def test_tab_separated_values_may_too(tmp_path: Path) -> None:
    file = tmp_path / "rows.tsv"
    file.write_text("path\ttext\na.wav\tone\u2028line\x1d\nb.wav\tNA\n", encoding="utf-8")
    assert list(manifest_rows(file)) == [
        {"path": "a.wav", "text": "one\u2028line\x1d"},
        {"path": "b.wav", "text": "NA"},
    ]


def test_empty_and_unreadable(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    assert text_lines(str(tmp_path / "empty.txt")) == []
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(InputError, match=r"latin\.txt: cannot be read"):
        text_lines(str(tmp_path / "latin.txt"))
