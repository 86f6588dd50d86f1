"""FLORES-200 and FLORES+: sentences that belong together by line or by id."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seamlessalign.errors import ConfigError, InputError
from seamlessalign.languages import find_language
from seamlessalign.training.evaluation.datasets.choice import Wanted
from seamlessalign.training.evaluation.datasets.flores import read_flores
from tests.training.evaluation.datasets.layouts import flores

TEXTS = {
    "eng_Latn": ["One.", "NA", "A line\u2028in two."],
    "fra_Latn": ["Un.", "nul", "Deux\x85lignes."],
    "zho_Hans": ["一。", "零", "汉"],
    "zho_Hant": ["一。", "零", "漢"],
    "als_Latn": ["Një.", "zero", "tre"],
}


def _wanted(directions: str | list[str], **more: object) -> Wanted:
    return Wanted("devtest", "t2tt", directions, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("plus", [False, True], ids=["flores200", "flores+"])
def test_sentences_belong_together(tmp_path: Path, plus: bool) -> None:
    texts = {name.replace("zho", "cmn") if plus else name: some for name, some in TEXTS.items()}
    root = flores(tmp_path, texts, plus=plus)
    read = read_flores(str(root), _wanted(["eng-fra", "zho-eng", "sq-eng"]))
    assert len(read.rows) == read.entries == 9
    by_direction = dict[str, set[tuple[str | None, str]]]()
    for row in read.rows:
        by_direction.setdefault(row.direction, set()).add((row.src_text, row.references[0]))
    assert by_direction == {
        "eng-fra": set(zip(TEXTS["eng_Latn"], TEXTS["fra_Latn"], strict=True)),
        "cmn-eng": set(zip(TEXTS["zho_Hans"], TEXTS["eng_Latn"], strict=True)),
        "sqi-eng": set(zip(TEXTS["als_Latn"], TEXTS["eng_Latn"], strict=True)),
    }
    assert read.notes == ["devtest has 3 sentences here; as published it has 1,012"]


def test_a_language_in_two_scripts(tmp_path: Path) -> None:
    root = flores(tmp_path, TEXTS)
    read = read_flores(str(root), _wanted(["zho_Hant-eng_Latn", "cmn-eng"]))
    assert [row.id for row in read.rows[::3]] == ["zho_Hant-eng_Latn/0", "zho_Hans-eng_Latn/0"]
    assert (read.rows[2].src_text, read.rows[5].src_text) == ("漢", "汉")
    assert {row.direction for row in read.rows} == {"cmn-eng"}
    every = read_flores(str(root), _wanted("all"))
    assert len(every.rows) == 3 * 4 * 3  # the usual script of each
    assert not any("Hant" in row.id for row in every.rows)


def test_parquet_of_flores_plus(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    for name in ("eng_Latn", "fra_Latn"):
        table = pa.table({"id": [0, 1, 2], "iso_639_3": [name[:3]] * 3, "text": TEXTS[name]})
        pq.write_table(table, tmp_path / "dev" / f"{name}.parquet")
    read = read_flores(str(tmp_path), Wanted("dev", "t2tt", ["fra-eng"]))
    assert [(row.src_text, row.references[0]) for row in read.rows] == list(
        zip(TEXTS["fra_Latn"], TEXTS["eng_Latn"], strict=True)
    )


def test_sentences_that_one_language_lacks_are_counted(tmp_path: Path) -> None:
    root = flores(tmp_path, {"eng_Latn": ["One.", "Two."], "fra_Latn": ["Un.", "Deux."]}, plus=True)
    file = root / "devtest/fra_Latn.jsonl"
    file.write_text(file.read_text(encoding="utf-8").replace('"id": 8', '"id": 9'), encoding="utf-8")
    read = read_flores(str(root), _wanted(["fra-eng"]))
    assert (len(read.rows), read.entries) == (1, 3)
    assert dict(read.set_aside) == {"no_source": 1, "no_target": 1}


def test_what_cannot_be(tmp_path: Path) -> None:
    root = flores(tmp_path, TEXTS | {"deu_Latn": TEXTS["eng_Latn"][:2]})
    with pytest.raises(InputError, match=r"deu_Latn has 2 sentences and eng_Latn 3: they belong together one by one"):
        read_flores(str(root), _wanted(["eng-deu"]))
    with pytest.raises(ConfigError, match="FLORES has texts alone, which serve t2tt"):
        read_flores(str(root), Wanted("devtest", "s2tt", "all"))
    with pytest.raises(ConfigError, match="FLORES has dev, devtest"):
        read_flores(str(root), Wanted("test", "t2tt", "all"))
    with pytest.raises(InputError, match="has no folder dev of FLORES"):
        read_flores(str(root), Wanted("dev", "t2tt", "all"))
    with pytest.raises(InputError, match=r"lacks ita of rows.languages"):
        read_flores(str(root), _wanted("x-eng", languages=("fr", "it")))
    file = root / "flores200_dataset/devtest/fra_Latn.devtest"
    file.write_text("Un.\n\nTrois.\n")
    with pytest.raises(InputError, match=r"fra_Latn.devtest line 2: is empty"):
        read_flores(str(root), _wanted(["fra-eng"]))
    file.write_bytes("Un.\nété\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"fra_Latn.devtest: cannot be read"):
        read_flores(str(root), _wanted(["fra-eng"]))
    plus = flores(tmp_path / "plus", {"eng_Latn": ["a"], "fra_Latn": ["b"]}, plus=True)
    (plus / "devtest/fra_Latn.jsonl").write_text('{"id": 0, "sentence": "b"}\n')
    with pytest.raises(InputError, match="row 0: needs id and text, and has id, sentence"):
        read_flores(str(plus), _wanted(["fra-eng"]))


# names of FLORES-200 whose language has another code here, or two scripts
@pytest.mark.parametrize(
    ("name", "lang"),
    [
        ("zho_Hant", "cmn"), ("cmn_Hans", "cmn"), ("arb_Latn", "arb"), ("als_Latn", "sqi"), ("ydd_Hebr", "yid"),
        ("zsm_Latn", "zlm"), ("plt_Latn", "mlg"), ("kor_Hang", "kor"), ("min_Arab", "min"), ("taq_Tfng", "taq"),
    ],
)  # fmt: skip
def test_names(name: str, lang: str) -> None:
    assert find_language(name).iso639_3 == lang
