"""Encoders: xsim, xsim++ and precision at one against brute force on toy vectors, and on texts with a real encoder."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.cli import main
from seamlessalign.embedders.measures import retrieval
from seamlessalign.errors import InputError
from seamlessalign.languages import Side
from seamlessalign.speech_sources import Sound
from seamlessalign.training.evaluation.config import EvaluationConfig
from seamlessalign.training.evaluation.encoders import encoder_sides
from seamlessalign.training.evaluation.encoders.encoder_config import EncodersTask
from seamlessalign.training.evaluation.encoders.encoder_sides import encode
from seamlessalign.training.evaluation.encoders.encoders_task import encoders, words_of
from seamlessalign.training.evaluation.encoders.perturbations import KINDS, perturb
from seamlessalign.training.evaluation.learned.embedded import Embedded
from seamlessalign.training.evaluation.measures import Measured
from seamlessalign.training.evaluation.subjects import Tools
from seamlessalign.typed_config import checked
from tests.training.evaluation.datasets.layouts import flores

Told = dict[str, Any]


class ToyEmbedders:
    """Vectors of four numbers, made of a text's letters, so that what is nearest can be found by hand; a fake."""

    vectors: Mapping[str, np.ndarray] = {}

    def __init__(self, *_: Any) -> None:
        pass

    def signature(self, kind: str, lang: str) -> str:
        return f"{kind}:toy"

    def texts(self, texts: Sequence[str | None], lang: str) -> Embedded:
        return self._all([text or "" for text in texts])

    def sounds(self, sounds: Sequence[Sound | None], lang: str) -> Embedded:
        return self._all([Path(sound.path).name if sound else "" for sound in sounds])

    def _all(self, names: Sequence[str]) -> Embedded:
        rows = np.stack([vector_of(name, self.vectors) for name in names]).astype(np.float32)
        return Embedded(rows, {i: "blank" for i, row in enumerate(rows) if not row.any()})


def vector_of(name: str, vectors: Mapping[str, np.ndarray]) -> np.ndarray:
    if name in vectors or not name.strip():
        return vectors.get(name, np.zeros(4))
    drawn = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))
    return drawn.standard_normal(4) + 1.5


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> type[ToyEmbedders]:
    monkeypatch.setattr(encoder_sides, "Embedders", ToyEmbedders)
    monkeypatch.setattr(ToyEmbedders, "vectors", {})
    return ToyEmbedders


def _jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path.name


def _measured(folder: Path, lines: Sequence[Mapping[str, Any]], **section: Any) -> dict[tuple[str, str], Measured]:
    """Direction and measure → what one encoder finds."""
    place = str(folder / _jsonl(folder / "rows.jsonl", lines))
    texts = {"fra": "fra", "eng": "eng"}
    given = {"rows": {"path": place, "texts": texts}, "systems": {"toy": {"text": "e5-small", "speech": "whisper-e5"}}}
    task = EncodersTask.model_validate({**given, "measures": ["xsim", "xsim++", "p_at_1"], **section})
    config = EvaluationConfig.model_validate({"output": str(folder / "out"), "encoders": task})
    found = encoders(task, Tools(config))["toy"]
    return {(direction, one.measure): one for direction, one in found}


def _score(one: Measured) -> float:
    return one.score(one.statistics.sum(0))


# By brute force


def _slow(queries: Sequence[np.ndarray], pool: Sequence[np.ndarray], k: int, among: int | None) -> list[int]:
    """The best of the pool for each query, by margin among the nearest; without `among` by cosine; -1 for zeros."""

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        norm = float(np.linalg.norm(a) * np.linalg.norm(b))
        return float(a @ b) / norm if norm else -9.0

    def around(a: np.ndarray, others: Sequence[np.ndarray]) -> float:
        near = sorted((score for b in others if (score := cosine(a, b)) > -9), reverse=True)[:k]
        return sum(near) / max(1, len(near))

    found = []
    for a in queries:
        order = sorted((j for j, b in enumerate(pool) if b.any()), key=lambda j: -cosine(a, pool[j]))
        if not a.any() or not order:
            found.append(-1)
        elif among is None:
            found.append(order[0])
        else:
            mine = around(a, pool)
            found.append(
                max(order[:among], key=lambda j: cosine(a, pool[j]) / max((mine + around(pool[j], queries)) / 2, 1e-6))
            )
    return found


ENGLISH = [
    "I saw Konrad with two dogs.",
    "She is always late",
    "Today Delfador won 12 games",
    "it is good",
    "Where is it?",
]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([*ENGLISH, "", "No numbers"]), min_size=1, max_size=7), st.integers(1, 5), st.randoms())
def test_everything_is_what_brute_force_finds(
    tmp_path_factory: pytest.TempPathFactory, english: list[str], k: int, turned: Any
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    rows = [{"id": f"r{i}", "fra": f"{text} {i % 4}".strip(), "eng": text} for i, text in enumerate(english)]
    french = [str(row["fra"]) for row in rows]
    hard = perturb(english, "eng", limit=2)
    flat = [one for some in hard for one in some]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(encoder_sides, "Embedders", ToyEmbedders)
        found = _measured(folder, rows, k=k, perturbed={"limit": 2})
        turned.shuffle(rows)
        again = _measured(folder, rows, k=k, perturbed={"limit": 2})
    src, tgt, more = ([vector_of(text, {}) for text in some] for some in (french, english, [one.text for one in flat]))
    same = [[a == b for b in english] for a in english]
    alike = [
        [i == j or (same[i][j] and english[i] != "") or french[i] == french[j] for j in range(len(rows))]
        for i in range(len(rows))
    ]

    def right(best: list[int]) -> list[bool]:
        return [0 <= j < len(rows) and alike[i][j] for i, j in enumerate(best)]

    wanted = {
        "xsim": 100 - 100 * np.mean(right(_slow(src, tgt, k, k))),
        "P@1": 100 * np.mean(right(_slow(src, tgt, k, None))),
        "P@1 margin": 100 * np.mean(right(_slow(src, tgt, k, 99))),
        "P@1 back": 100 * np.mean(right(_slow(tgt, src, k, None))),
        "P@1 back margin": 100 * np.mean(right(_slow(tgt, src, k, 99))),
        "xsim++": 100 - 100 * np.mean(right(best := _slow(src, [*tgt, *more], k, k))),
    }
    assert {measure: _score(one) for (_, measure), one in found.items()} == pytest.approx(wanted)
    assert {measure: _score(one) for (_, measure), one in again.items()} == pytest.approx(wanted)  # in any order
    kinds = dict.fromkeys([*KINDS, "sentence", "perturbation of another sentence", "nothing"], 0)
    for i, j in enumerate(best):
        if j < 0:
            kinds["nothing"] += 1
        elif j < len(rows):
            kinds["sentence"] += not alike[i][j]
        else:
            own = [one.kind for one in hard[i] if one.text == flat[j - len(rows)].text]
            kinds[own[0] if own else "perturbation of another sentence"] += 1
    told = found["fra-eng", "xsim++"].details
    assert told["errors"] == kinds and sum(kinds.values()) == found["fra-eng", "xsim++"].statistics[:, 0].sum()
    assert told["perturbations"] == {kind: sum(one.kind == kind for one in flat) for kind in KINDS}
    for one in found.values():
        assert one.missing == sum(not text for text in english) and len(one.ids) == len(rows)


def test_xsim_plus_by_hand(tmp_path: Path, toy: type[ToyEmbedders]) -> None:
    """One query is nearer to its target with another number than to its target."""
    rows = [{"fra": "un chien", "eng": "one dog"}, {"fra": "bonsoir", "eng": "hello"}]
    hard = perturb(["one dog", "hello"], "eng", limit=1)[0][0]
    assert hard.kind == "number"
    toy.vectors = {
        "un chien": np.array([1.0, 0.1, 0, 0]),
        "one dog": np.array([1.0, 0.3, 0, 0]),
        hard.text: np.array([1.0, 0.15, 0, 0]),
        "bonsoir": np.array([0, 0, 1.0, 0]),
        "hello": np.array([0, 0, 1.0, 0.2]),
    }
    found = _measured(tmp_path, rows, perturbed={"limit": 1}, k=1)
    assert _score(found["fra-eng", "xsim"]) == 0 and _score(found["fra-eng", "xsim++"]) == 50
    assert found["fra-eng", "xsim++"].details["errors"]["number"] == 1
    (row,) = found["fra-eng", "xsim++"].behind
    assert row == {"id": "0", "what": "number", "query": "un chien", "right": "one dog", "found": hard.text}
    signature = found["fra-eng", "xsim++"].signature
    assert (
        "|k:1|margin:ratio|version:1|among:1|perturbed:number+name+causality|most:1|" in signature
        and "|seed:0" in signature
    )


# Rows


def test_texts_that_are_there_twice_are_both_right() -> None:
    labels = words_of(["Off", "off!", None, None, "", " ", "On"])
    assert labels[0] == labels[1] and len(set(labels.tolist())) == 6


def test_what_a_row_lacks_and_what_cannot_be_embedded(tmp_path: Path, toy: type[ToyEmbedders]) -> None:
    """A row without a language is in no measure of it, which is told; a blank text is a query that finds nothing."""
    rows: list[Told] = [
        {"id": "a", "fra": "un", "eng": "one", "spa": None},
        {"id": "b", "fra": " ", "eng": "two", "spa": "dos"},
        {"id": "c", "fra": "trois", "eng": "", "spa": "tres"},
        {"id": "d", "fra": "NA", "eng": "null", "spa": "nada"},
    ]
    toy.vectors = {name: np.eye(4)[i] for i, row in enumerate(rows) for name in row.values() if name and name.strip()}
    place = {"path": str(tmp_path / "rows.jsonl"), "texts": {"fra": "fra", "eng": "eng", "spa": "spa"}}
    found = _measured(tmp_path, rows, rows=place, measures=["xsim", "p_at_1"])
    french, spanish = found["fra-eng", "xsim"], found["spa-eng", "xsim"]
    assert (list(french.ids), french.missing, french.details["failed"]) == (
        ["a", "b", "c", "d"],
        2,
        {"fra: blank": 1, "eng: blank": 1},
    )
    assert french.statistics[:, 0].tolist() == [0, 1, 1, 0] and _score(french) == 50
    assert (list(spanish.ids), spanish.details["rows without spa"]) == (["b", "c", "d"], 1)
    assert {row["id"]: row["what"] for row in french.behind} == {"b": "nothing", "c": "sentence"}
    assert [direction for direction, measure in found if measure == "xsim"] == ["fra-eng", "spa-eng"]


def test_numbers_are_no_texts(tmp_path: Path, toy: type[ToyEmbedders]) -> None:
    with pytest.raises(InputError, match="row 1: fra is '12', int: it must be a text"):
        _measured(tmp_path, [{"fra": "a", "eng": "b"}, {"fra": 12, "eng": "c"}])


def test_any_side_finds_any_other(tmp_path: Path, toy: type[ToyEmbedders]) -> None:
    rows = [{"id": str(i), "fra": f"f{i}", "eng": f"e{i}", "audio": f"{i}.wav", "said": f"{i}.flac"} for i in range(4)]
    toy.vectors = {name: np.eye(4)[i] for i in range(4) for name in (f"f{i}", f"e{i}", f"{i}.wav", f"{i}.flac")}
    toy.vectors["0.wav"] = np.eye(4)[1]
    place = {
        "path": str(tmp_path / "rows.jsonl"),
        "texts": {"fr": "fra", "en": "eng"},
        "sounds": {"fra": "audio", "spa": "said"},
    }
    directions = ["fra-eng", "frA-eng", "eng-frA", "frA-esA", "frA-fra"]
    found = _measured(tmp_path, rows, rows=place, directions=directions, measures=["p_at_1"])
    by_cosine = {direction: _score(one) for (direction, measure), one in found.items() if measure == "P@1"}
    assert by_cosine == {"fra-eng": 100, "frA-eng": 75, "eng-frA": 75, "frA-esA": 75, "frA-fra": 75}
    assert found["frA-eng", "P@1"].behind[0]["query"] == "f0"  # what is said, where a text says it


def test_rows_of_a_test_set_have_directions_of_their_own(tmp_path: Path, toy: type[ToyEmbedders]) -> None:
    rows = [
        {"id": f"{src}{i}", "src_lang": src, "tgt_lang": "eng", "src_text": f"{src} {i}", "reference": f"eng {i}"}
        for src, count in (("fra", 3), ("deu", 2))
        for i in range(count)
    ]
    del rows[0]["src_text"]
    found = _measured(tmp_path, rows, rows={"path": str(tmp_path / "rows.jsonl")}, measures=["xsim"])
    assert {direction: list(one.ids) for (direction, _), one in found.items()} == {
        "fra-eng": ["fra1", "fra2"],
        "deu-eng": ["deu0", "deu1"],
    }
    assert found["fra-eng", "xsim"].details["rows without fra"] == 1
    assert "rows without deu" not in found["deu-eng", "xsim"].details


def test_published_test_sets_are_read_as_they_are(tmp_path: Path, toy: type[ToyEmbedders]) -> None:
    texts = {"eng_Latn": ["Two dogs.", "It is good.", "Good."], "fra_Latn": ["Deux chiens.", "C'est bon.", "Bon."]}
    place = {"dataset": "flores200", "path": str(flores(tmp_path, texts)), "directions": ["fra-eng", "eng-fra"]}
    found = _measured(tmp_path, [], rows=place, measures=["xsim", "xsim++"])
    assert {key: len(one.ids) for key, one in found.items()} == {
        (direction, measure): 3 for direction in ("fra-eng", "eng-fra") for measure in ("xsim", "xsim++")
    }
    assert found["fra-eng", "xsim++"].details["perturbations"]["number"] == 4


def test_rows_can_be_centred() -> None:
    """The mean of the side's own unit rows is taken away, from further texts too; zeros stay."""
    things, more, side = ["a", "", "b", "c"], ["d"], Side("fra", is_audio=False)
    unit = np.stack([vector_of(name, {}) / np.linalg.norm(vector_of(name, {})) for name in ("a", "b", "c", "d")])
    found = encode(ToyEmbedders(), side, things, "rows", more)  # type: ignore[arg-type]
    assert found.rows[[0, 2, 3, 4]] == pytest.approx(unit - unit[:3].mean(0), abs=1e-6)
    assert not found.rows[1].any() and list(found.failed) == [1]
    plain = encode(ToyEmbedders(), side, things, "card", more)  # type: ignore[arg-type]
    assert plain.rows[[0, 2, 3, 4]] / np.linalg.norm(plain.rows[[0, 2, 3, 4]], axis=1)[:, None] == pytest.approx(unit)


# On the command line


TEXTS = [
    ("Le chat dort sur le canapé.", "The cat is asleep on the sofa.", "El gato duerme en el sofá."),
    ("Il a acheté trois livres hier.", "He bought three books yesterday.", "Ayer compró tres libros."),
    ("Appuyez sur la touche étoile.", "Press the star key.", "Pulse la tecla de asterisco."),
    ("La gare est fermée le dimanche.", "The station is closed on Sundays.", "La estación cierra los domingos."),
    ("Je ne sais pas où est ma clé.", "I do not know where my key is.", "No sé dónde está mi llave."),
    ("Son frère habite à Berlin.", "His brother lives in Berlin.", "Su hermano vive en Berlín."),
]


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    rows = [dict(zip(("french", "english", "spanish"), texts, strict=True)) for texts in TEXTS]
    told = {
        "output": str(tmp_path / "out"),
        "encoders": {
            "rows": {
                "path": _jsonl(tmp_path / "rows.jsonl", rows),
                "texts": {"fra": "french", "eng": "english", "spa": "spanish"},
            },
            "systems": {"e5": {"text": "e5-small"}, "centred": {"text": "e5-small", "centre": "rows"}},
            "measures": ["xsim", "xsim++", "p_at_1"],
        },
    }
    (tmp_path / "config.yaml").write_text(json.dumps(told))
    return tmp_path / "config.yaml"


@pytest.mark.embedded
def test_a_real_encoder_is_measured_as_retrieval_measures_it(wide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from seamlessalign.embedders import load_text_embedder

    assert main(["evaluate", str(wide)]) == 0
    out = capsys.readouterr().out
    scores = {
        (line["system"], line["direction"], line["measure"]): line
        for line in json.loads((wide.parent / "out/evaluation.json").read_text())["scores"]
    }
    assert len(scores) == 2 * 2 * 6
    embedder = load_text_embedder("e5-small")
    sides = [embedder.embed([texts[i] for texts in TEXTS], lang) for i, lang in enumerate(("fra", "eng", "spa"))]
    for side, direction in ((sides[0], "fra-eng"), (sides[2], "spa-eng")):
        found = retrieval(side, sides[1])
        for measure, share in (
            ("P@1", found.forward),
            ("P@1 margin", found.forward_margin),
            ("P@1 back", found.backward),
            ("P@1 back margin", found.backward_margin),
        ):
            assert scores["e5", direction, measure]["score"] == pytest.approx(100 * share)
        assert scores["e5", direction, "xsim++"]["score"] >= scores["e5", direction, "xsim"]["score"]
    told = scores["e5", "fra-eng", "xsim++"]
    assert (
        told["details"]["encoder"]["fra"].startswith("text:e5-small-")
        and sum(told["details"]["perturbations"].values()) == 15
    )
    assert "against_baseline" in scores["centred", "fra-eng", "xsim"] and "| e5 | fra-eng | xsim++ |" in out
    assert main(["evaluate", "--compare", f"{wide.parent}/out:e5", f"{wide.parent}/out:centred"]) == 0


@pytest.mark.embedded
def test_texts_that_cannot_be_embedded_stay_and_are_told(wide: Path) -> None:
    """Half a character, nothing, blanks."""
    rows = [{"id": name, "french": texts[0], "english": texts[1]} for name, texts in zip("abcdef", TEXTS, strict=True)]
    for row, text in zip(rows, ("\ud83d", "", " \n"), strict=False):
        row["french"] = text
    _jsonl(wide.parent / "rows.jsonl", rows)
    texts = "encoders.rows.texts={fra: french, eng: english}"
    assert main(["evaluate", str(wide), texts, "encoders.systems={e5: {text: e5-small}}"]) == 3
    told = json.loads((wide.parent / "out/evaluation.json").read_text())["scores"]
    for line in told:
        assert (line["rows"], line["missing"]) == (6, 3)
        assert line["details"]["failed"] == {"fra: blank": 2, "fra: not_unicode": 1}
        assert line["score"] >= 50 if line["measure"].startswith("xsim") else line["score"] <= 50
    behind = [json.loads(line) for line in (wide.parent / "out/behind.jsonl").read_text().splitlines()]
    assert {row["id"] for row in behind if row["measure"] == "xsim" and row["what"] == "nothing"} == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["encoders.systems={}"], "encoders.systems: "),
        (["encoders.rows.texts={xx: french}"], "language 'xx' is not in the table"),
        (["encoders.rows.texts={fra: french, fr: english}"], "a language is there twice: fra, fr"),
        (["encoders.directions=[fra]"], "direction 'fra': write two sides joined by '-', such as frA-eng"),
        (["encoders.directions=[fra-fra]"], "fra-fra: both sides are the same"),
        (["encoders.directions=[eng-frA]"], "xsim++ needs a direction into text in one of deu, eng, fra"),
        (["encoders.directions=[deu-eng]"], "rows have no deu, but fra, eng, spa"),
        (["encoders.rows.texts={fra: french, eng: german}"], "no row has german"),
        (["encoders.rows.texts={eng: english}"], "has one side alone, eng: give another one"),
        (["encoders.rows.id=french", "encoders.rows.texts={fra: french, eng: none}"], "no row has none"),
        (["encoders.rows.path=none.jsonl"], "none.jsonl: cannot be read"),
        (["encoders.systems={a: {}}"], "encoders.systems.a: give text, speech or both: names of embedders"),
        (["encoders.systems={a: {speech: whisper-e5}}"], "a: has no embedder of text, which fra needs: give text"),
        (["encoders.systems={a: {text: e6}}"], "text embedder 'e6' is not known"),
        (["encoders.systems={a: {text: sonar}}", "encoders.rows.texts={grc: french, eng: english}"], "grc"),
        (
            ["encoders.rows.sounds={grc: french}", "encoders.systems={a: {text: e5-small, speech: transcribe-e5}}"],
            "grc",
        ),
        (["encoders.rows.dataset=flores200"], "flores200"),
    ],
)
def test_mistakes_are_one_line(wide: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str) -> None:
    assert main(["evaluate", str(wide), *arguments]) == 2
    assert told in capsys.readouterr().err.splitlines()[-1]
    assert not (wide.parent / "out/evaluation.json").exists()


def test_the_configurations_of_the_documentation() -> None:
    text = (Path(__file__).parents[4] / "docs/evaluation_encoders.md").read_text(encoding="utf-8")
    blocks = [block.partition("```")[0] for block in text.split("```yaml\n")[1:]]
    first, bucc = [checked(EvaluationConfig, yaml.safe_load(block), "docs") for block in blocks]
    assert first.encoders is not None and first.mining is not None and bucc.mining is not None
    assert first.tasks() == ["encoders", "mining"] and bucc.tasks() == ["mining"]
    assert list(first.encoders.systems) == ["whisper-e5", "sonar"] and bucc.mining.retrieval == ["max"]


@pytest.mark.embedded
@pytest.mark.speech
@pytest.mark.slow
def test_human_speech_finds_what_it_says(tmp_path: Path) -> None:
    """Four of Asterisk's prompts in French: each is nearest to its own words, and found from English text."""
    from seamlessalign.pipelines.demo_sources import fetch_prompts

    try:
        collection = fetch_prompts(Path(os.environ.get("SEAMLESSALIGN_DEMO_CACHE", tmp_path)))
    except InputError as error:
        pytest.skip(f"prompts cannot be fetched here: {error}")
    keys = ["conf-getconfno", "vm-goodbye", "invalid", "vm-nobodyavail"]
    rows = [
        {"id": key, "eng": collection.english[key], "fra": collection.prompts["fra"][key].text,
         "audio": str(collection.prompts["fra"][key].audio.absolute())}
        for key in keys
    ]  # fmt: skip
    told = {
        "output": str(tmp_path / "out"),
        "encoders": {
            "rows": {
                "path": _jsonl(tmp_path / "rows.jsonl", rows),
                "texts": {"eng": "eng", "fra": "fra"},
                "sounds": {"fra": "audio"},
            },
            "systems": {"whisper-e5": {"text": "e5-small", "speech": "whisper-e5"}},
            "directions": ["frA-fra", "eng-frA"],
            "measures": ["p_at_1"],
        },
    }
    (tmp_path / "config.yaml").write_text(json.dumps(told))
    assert main(["evaluate", str(tmp_path / "config.yaml")]) == 0
    scores = json.loads((tmp_path / "out/evaluation.json").read_text())["scores"]
    found = {(line["direction"], line["measure"]): line["score"] for line in scores}
    assert found["frA-fra", "P@1"] == found["frA-fra", "P@1 back"] == 100
    assert found["eng-frA", "P@1"] >= 75
    encoder = scores[0]["details"]["encoder"]
    assert encoder["frA"].startswith("speech:whisper-base-") and "whisper-e5-" in encoder["frA"]
