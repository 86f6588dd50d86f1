"""Vocabularies learnt from texts: what is drawn, what is set aside, what is told, and the command."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.cli import main
from seamlessalign.errors import InputError
from seamlessalign.training.vocabulary import load_text_vocabulary
from seamlessalign.training.vocabulary_config import TextSource, VocabularyConfig, load_vocabulary_config
from seamlessalign.training.vocabulary_training import draw_texts, read_texts, train_vocabulary
from tests.training.tiny_unity import SENTENCES


def _config(tmp_path: Path, **more: object) -> VocabularyConfig:
    parallel = tmp_path / "texts.jsonl"
    lines = [json.dumps({"eng": SENTENCES[i], "fra": SENTENCES[i + 3]}) for i in range(3)]
    parallel.write_text("\n".join(lines) + "\n")
    data = [{"kind": "parallel", "path": str(parallel)}]
    raw = {"output": str(tmp_path / "vocabulary"), "data": data, "size": 60} | more
    return VocabularyConfig.model_validate(raw)


class TestReading:
    def test_every_text_is_kept_or_counted(self, tmp_path: Path) -> None:
        table = pa.table(
            {
                "src_text": ["one two", None, "…", "one two", "x" * 50],
                "src_lang": ["eng"] * 5,
                "tgt_text": ["un deux", "trois", "quatre", None, "six"],
            }
        )
        pq.write_table(table, tmp_path / "rows.parquet")
        (tmp_path / "lines.txt").write_text("one two\nhow  are you\n\n")
        columns = {"src_text": "src_lang", "tgt_text": "fra"}
        sources = [
            TextSource(kind="parquet", path=str(tmp_path), columns=columns),
            TextSource(kind="lines", path=str(tmp_path / "lines.txt"), lang="eng"),
        ]
        aside = Counter[str]()
        texts = read_texts(sources, 40, aside)
        assert texts == {"eng": ["how are you", "one two"], "fra": ["quatre", "six", "trois", "un deux"]}
        assert aside == {"without_words": 2, "too_long": 1, "repeated": 2}
        given_texts = 10 - 2 + 3  # cells without a text are sides that are speech
        assert sum(map(len, texts.values())) + aside.total() == given_texts

    def test_a_column_that_there_is_not_is_told(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"text": ["a"]}), tmp_path / "rows.parquet")
        source = TextSource(kind="parquet", path=str(tmp_path), columns={"sentence": "eng"})
        with pytest.raises(InputError, match="no column 'sentence' but text"):
            read_texts([source], 40, Counter())


class TestDrawing:
    @given(
        st.lists(st.integers(1, 40), min_size=1, max_size=4),
        st.sampled_from([1.0, 2.0, 5.0]),
        st.integers(1, 200),
    )
    @settings(max_examples=60, deadline=None)
    def test_languages_have_their_shares(self, sizes: list[int], temperature: float, total: int) -> None:
        texts = {f"l{i}": [f"{i} {j}" for j in range(size)] for i, size in enumerate(sizes)}
        config = VocabularyConfig(
            output="x",
            data=[TextSource(kind="lines", path="x", lang="eng")],
            temperature=temperature,
            texts=total,
        )
        drawn = draw_texts(texts, config)
        weights = [size ** (1 / temperature) for size in sizes]
        for lang, weight in zip(texts, weights, strict=True):
            assert abs(len(drawn[lang]) - total * weight / sum(weights)) <= 0.5 + 1e-9
            often = Counter(drawn[lang]).values()
            assert not often or max(often) - min([*often, *[0] * (len(often) < len(texts[lang]))]) <= 1
        assert drawn == draw_texts(texts, config)

    def test_as_in_the_data_is_the_data(self) -> None:
        texts = {"eng": ["a", "b", "c"], "fra": ["d"]}
        config = VocabularyConfig(output="x", data=[TextSource(kind="lines", path="x", lang="eng")], temperature=1.0)
        assert draw_texts(texts, config) == texts


class TestTraining:
    def test_the_folder_is_a_vocabulary_and_the_same_each_time(self, tmp_path: Path) -> None:
        told = train_vocabulary(_config(tmp_path))
        assert "60 pieces and 2 tags, 63 tokens in all" in told
        assert "eng: 3 texts, 3 drawn" in told
        files = {file.name: file.read_bytes() for file in (tmp_path / "vocabulary").iterdir()}
        train_vocabulary(_config(tmp_path))
        assert files == {file.name: file.read_bytes() for file in (tmp_path / "vocabulary").iterdir()}
        text = load_text_vocabulary(tmp_path / "vocabulary")
        assert text.languages == {"eng": 61, "fra": 62}
        assert [text.decode(text.pieces(sentence)) for sentence in SENTENCES] == list(SENTENCES)
        about = json.loads(files["vocabulary_training.json"])
        pieces = [len(text.pieces(sentence)) for sentence in SENTENCES[:3]]
        assert about["languages"]["eng"]["pieces"] == sum(pieces)

    @pytest.mark.parametrize(
        ("more", "told"),
        [
            ({"size": 3000}, r"size: of these texts 3000 pieces cannot be made; set \d+ or less, or give more text"),
            ({"size": 5}, r"size: 5 pieces are too few for the letters of these texts; set \d+ or more"),
            ({"size": 3000, "model": "unigram"}, r"set \d+ or less"),
            ({"languages": ["eng"]}, "languages: lacks fra, of which data has texts"),
            ({"max_bytes": 3}, "no text can be learnt from: 6 too_long"),
        ],
    )
    def test_what_cannot_be_learnt_is_told(self, tmp_path: Path, more: dict[str, object], told: str) -> None:
        with pytest.raises(InputError, match=told):
            train_vocabulary(_config(tmp_path, **more))
        assert not (tmp_path / "vocabulary").exists()

    def test_the_size_that_is_told_is_one_that_can_be(self, tmp_path: Path) -> None:
        with pytest.raises(InputError) as error:
            train_vocabulary(_config(tmp_path, size=3000))
        most = int(str(error.value).split("set ")[1].split()[0])
        assert f"{most} pieces" in train_vocabulary(_config(tmp_path, size=most))

    def test_the_command(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "a.txt").write_text("\n".join(SENTENCES))
        file = tmp_path / "v.yaml"
        file.write_text("output: v\nsize: 50\ndata:\n  - {kind: lines, path: a.txt, lang: eng}\n")
        assert main(["train", "vocabulary", str(file), "languages=[eng, deu]"]) == 0
        assert f"{tmp_path}/v, 50 pieces and 2 tags" in capsys.readouterr().out
        assert load_text_vocabulary(tmp_path / "v").languages == {"eng": 51, "deu": 52}
        assert main(["train", "vocabulary", str(file), "size=9999"]) == 2
        assert main(["train", "vocabulary", str(file), "siz=9"]) == 2
        assert "did you mean 'size'" in capsys.readouterr().err
        assert load_vocabulary_config(str(file)).output == str(tmp_path / "v")


def test_shares_are_those_of_numpy() -> None:
    """p ∝ n^(1/T), by hand: 32 and 1 texts at T = 5 are drawn 2 to 1."""
    texts = {"eng": [f"e{i}" for i in range(32)], "fra": ["f"]}
    config = VocabularyConfig(
        output="x", data=[TextSource(kind="lines", path="x", lang="eng")], temperature=5.0, texts=30
    )
    drawn = draw_texts(texts, config)
    assert np.array_equal([len(drawn["eng"]), len(drawn["fra"])], [20, 10])
