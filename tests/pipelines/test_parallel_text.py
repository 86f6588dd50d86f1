"""The parallel text of whisper-e5: what of catalogs and pages becomes a line, and what is left out."""

import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from seamlessalign.errors import InputError
from seamlessalign.pipelines import parallel_text
from seamlessalign.pipelines.demo_sources import Prompt, PromptCollection
from seamlessalign.pipelines.parallel_text import (
    aligned,
    cleaned,
    divide,
    gather,
    held_out_file,
    messages,
    usable_pairs,
)

PAGE = '<page xmlns="http://x"><title>{}</title><p>{}</p><table><td><p>{}</p></td></table></page>'


def _catalog(pairs: Mapping[str, str], charset: str = "utf-8", order: str = "<") -> bytes:
    """A compiled catalog, as msgfmt writes it."""
    header = f"Content-Type: text/plain; charset={charset}\n"
    rows = [(b"", header.encode()), *((key.encode(), value.encode(charset)) for key, value in pairs.items())]
    tables, body = [], b""
    start = 28 + 16 * len(rows)
    for side in (0, 1):
        table = []
        for row in rows:
            table += [len(row[side]), start + len(body)]
            body += row[side] + b"\0"
        tables.append(table)
    head = struct.pack(f"{order}7I", 0x950412DE, 0, len(rows), 28, 28 + 8 * len(rows), 0, 0)
    return head + b"".join(struct.pack(f"{order}{len(table)}I", *table) for table in tables) + body


@pytest.mark.parametrize(("charset", "order"), [("utf-8", "<"), ("koi8-r", ">")])
def test_a_catalog_is_read(charset: str, order: str) -> None:
    made = _catalog(
        {"Open it": "Открыть", "menu\x04Close it": "Закрыть", "unit^Elf": "Эльф", "one\0%d things": "раз\0много"},
        charset,
        order,
    )
    expected = [("Open it", "Открыть"), ("Close it", "Закрыть"), ("Elf", "Эльф"), ("%d things", "много")]
    assert list(messages(made, "x")) == expected


@pytest.mark.parametrize("data", [b"", b"no catalog at all", _catalog({"a": "b"})[:20]])
def test_what_is_no_catalog_is_named(data: bytes) -> None:
    with pytest.raises(InputError, match=r"x\.mo: is no gettext catalog"):
        list(messages(data, "x.mo"))


def test_pages_that_correspond_are_paired(tmp_path: Path) -> None:
    pages = {"c": ("A title", "Some  text", "A cell"), "fr": ("Un titre", "Du texte", "Une case")}
    for name, texts in pages.items():
        (tmp_path / name).write_text(PAGE.format(*texts), encoding="utf-8")
    (tmp_path / "short").write_text("<page><title>Un titre</title></page>")
    (tmp_path / "broken").write_text("<page>")
    expected = [("A title", "Un titre"), ("Some text", "Du texte"), ("A cell", "Une case")]
    assert aligned(tmp_path / "c", tmp_path / "fr") == expected
    for other in ("short", "broken", "missing"):
        assert aligned(tmp_path / "c", tmp_path / other) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("_Open the file…", "Open the file"),
        ("&Datei öffnen (&D)", "Datei öffnen"),
        ("Открыть файл (Ф)", "Открыть файл"),
        ("« Ouvrir\u00a0le\nfichier »", "Ouvrir le fichier"),
        ("a_b and c_d", "a_b and c_d"),
    ],
)
def test_texts_are_cleaned(text: str, expected: str) -> None:
    assert cleaned(text) == expected


@pytest.mark.parametrize(
    ("english", "other", "expected"),
    [
        (
            "Open it. Close it now.",
            "Ouvrez. Fermez-le vite.",
            [("Open it", "Ouvrez"), ("Close it now", "Fermez-le vite")],
        ),
        ("Open the file now.", "Ouvrez. Fichier", [("Open the file now", "Ouvrez. Fichier")]),
        ("Open %s now", "Ouvrez %s", []),
        ("Open <b>it</b>", "Ouvrez-le", []),
        ("Go to www.site.org", "Allez", []),
        ("Open", "Ouvrez", []),
        ("Same thing", "same Thing", []),
        ("Call 1234567 now please", "Appelez", []),
        ("Two words", "beaucoup trop de mots pour que cela soit la même chose", []),
        ("Open the file", "打开文件", [("Open the file", "打开文件")]),
        ("Wait for it", "!!!", []),
    ],
)
def test_only_what_can_be_said_and_corresponds_is_taken(
    english: str, other: str, expected: list[tuple[str, str]]
) -> None:
    assert list(usable_pairs(english, other)) == expected


def test_texts_that_are_tested_with_are_left_out_in_any_language(capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [
        ("apt", "fra", ("Please enter it", "Entrez le")),
        ("apt", "spa", ("please, enter it!", "Introduzca eso")),
        ("gimp-data", "spa", ("Please enter it", "Otro texto")),  # the first translation stays
        ("apt", "fra", ("Good bye", "Au revoir")),  # of the English
        ("apt", "ita", ("See you soon", "A presto!")),  # of the Italian
        ("apt", "fra", ("See you soon", "À bientôt")),
    ]
    items = gather(pairs, {"good bye", "a presto"})
    assert {key: item.texts for key, item in items.items()} == {
        "please enter it": {"eng": "Please enter it", "fra": "Entrez le", "spa": "Introduzca eso"},
        "see you soon": {"eng": "See you soon", "fra": "À bientôt"},
    }
    assert items["please enter it"].packages == {"apt", "gimp-data"}
    assert "4 pairs of sentences, 2 left out" in capsys.readouterr().err


def test_no_package_is_on_both_sides() -> None:
    four = dict.fromkeys(("spa", "fra", "ita", "rus"), "x")
    pairs = [("pidgin-data", lang, (f"this is held out {i}", f"x {i} x")) for i in range(5) for lang in four]
    pairs += [("apt", "fra", (f"something learnt {i}", f"appris {i}")) for i in range(50)]
    pairs += [("apt", "fra", ("this is held out 0", "x 0 x")), ("pidgin-data", "spa", ("alone in one", "y y"))]
    learnt, held_out = divide(gather(pairs, set()))
    assert sorted(item["eng"] for item in held_out) == [f"this is held out {i}" for i in range(1, 5)]
    assert sorted(item["eng"] for item in learnt) == sorted(f"something learnt {i}" for i in range(50))
    assert [item["eng"] for item in learnt] != [f"something learnt {i}" for i in range(50)]
    assert (learnt, held_out) == divide(gather(pairs, set()))


def test_the_command_writes_both_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With packages that are in the cache already; only some of them have anything in them."""
    debian = tmp_path / "cache" / "debian"
    for package in (*parallel_text._CATALOGS, "calibre", "gnome-user-docs"):
        (debian / package).mkdir(parents=True)
    for package, text in (("apt", "Install the package"), ("deja-dup", "Back up the files")):
        for locale in ("es", "fr", "it", "ru", "xx"):
            folder = debian / package / "usr/share/locale" / locale / "LC_MESSAGES"
            folder.mkdir(parents=True)
            (folder / "a.mo").write_bytes(_catalog({text: f"texto en {locale}", "Good bye": "Adiós a todos"}))
    archive = debian / "calibre/usr/share/calibre/localization/locales.zip"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("de/messages.mo", _catalog({"Read the book": "Das Buch lesen"}))
    for locale, texts in (("C", ("The help page", "a", "b")), ("fr", ("La page d’aide", "c", "d"))):
        folder = debian / "gnome-user-docs/usr/share/help" / locale / "gnome-help"
        folder.mkdir(parents=True)
        (folder / "a.page").write_text(PAGE.format(*texts), encoding="utf-8")
    spoken = {"spa": {"bye": Prompt("bye", "¡Adiós a todos!", tmp_path)}}
    prompts = PromptCollection(spoken, {"bye": "Bye!"}, [], {}, {}, "")
    monkeypatch.setattr(parallel_text, "fetch_prompts", lambda cache: prompts)
    out = tmp_path / "text.jsonl"
    parallel_text.main(["--cache", str(tmp_path / "cache"), "--out", str(out)])
    learnt, held_out = (
        [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        for file in (out, held_out_file(out))
    )
    assert {item["eng"] for item in learnt} == {"Install the package", "Read the book", "The help page"}
    four = {"spa": "es", "fra": "fr", "ita": "it", "rus": "ru"}
    assert held_out == [{"eng": "Back up the files"} | {lang: f"texto en {code}" for lang, code in four.items()}]
    assert held_out_file(out).name == "text.held-out.jsonl"
    assert f"{out}: 3 English texts, 6 translations" in capsys.readouterr().err
