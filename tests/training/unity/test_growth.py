"""Further languages: what there was stays bit for bit, what is new is there, in text, units, vocoder and files."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.cli import main
from seamlessalign.errors import ConfigError, InputError
from seamlessalign.training.unity.generation import TEXT_SEARCH, Source, Translator
from seamlessalign.training.unity.growth import _encoded, _scores, grow_text, grow_unity, learn_pieces
from seamlessalign.training.unity.growth_config import GrowthConfig
from seamlessalign.training.unity.model import UnitY, load_unity, save_unity
from seamlessalign.training.vocabulary import TextVocabulary, load_text_vocabulary
from seamlessalign.training.vocabulary_config import TextSource
from tests.training.tiny_unity import SENTENCES, padded, pieces, speech, tiny_text, tiny_units, tiny_unity

TEXT, UNITS = tiny_text(), tiny_units()
POLISH = ("proszę wybrać numer", "kot śpi na łóżku", "pies biega w ogrodzie", "proszę czekać na sygnał")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    file = tmp_path / "pol.txt"
    file.write_text("\n".join(POLISH) + "\n")
    return file


def _config(file: Path, **more: Any) -> GrowthConfig:
    data = [TextSource(kind="lines", path=str(file), lang="pol")]
    raw: dict[str, Any] = {"model": "m", "output": "o", "languages": ["pol"], "pieces": 60, "data": data} | more
    return GrowthConfig(**raw)


def _computed(unity: UnitY) -> list[torch.Tensor]:
    """Hidden states and logits of text and units, in an old language."""
    targets, mask = padded([TEXT.target(SENTENCES[i], "fra")[:-1] for i in (3, 4)])
    sources, sources_mask = padded([TEXT.source(SENTENCES[i], "eng") for i in (0, 1)])
    units, _ = padded([UNITS.target(range(i, 9), "fra")[:-1] for i in (0, 2)], UNITS.pad)
    found = []
    with torch.no_grad():
        for states in (unity.encode_speech(*speech((45, 28))), unity.encode_text(sources, sources_mask)):
            hidden = unity.decode_text(targets, *states)
            found += [states[0], hidden, unity.logits(hidden), unity.decode_units(hidden, mask, units)]
    return found


def _grown(texts: Path) -> tuple[UnitY, TextVocabulary, Any, UnitY]:
    unity = tiny_unity(TEXT, UNITS)
    grown, text, units = grow_unity(
        unity, TEXT, UNITS, ["pol"], spoken=["pol"], like={"pol": "fra"}, pieces=learn_pieces(TEXT, _config(texts))
    )
    return grown, text, units, unity


class TestModel:
    def test_what_was_computed_is_computed_bit_for_bit(self, texts: Path) -> None:
        grown, text, units, unity = _grown(texts)
        for old, new in zip(_computed(unity), _computed(grown), strict=True):
            assert torch.equal(new[..., : old.shape[-1]], old)
        assert grown.logits(torch.zeros(1, 16)).shape[1] == text.size > TEXT.size
        assert grown.config.t2u_vocab_size == units.size == UNITS.size + 1

    @given(
        st.lists(st.lists(st.sampled_from(["pol", "deu", "ces", "slk"]), unique=True, min_size=1), max_size=3),
        st.data(),
    )
    @settings(max_examples=10, deadline=None)
    def test_whatever_is_added_the_old_is_computed_bit_for_bit(
        self, additions: list[list[str]], data: st.DataObject
    ) -> None:
        """Languages of text and of units, by one step or several, like others or not."""
        unity = tiny_unity(TEXT, UNITS)
        grown, text, units = unity, TEXT, UNITS
        for languages in additions:
            new = [lang for lang in languages if lang not in text.languages]
            spoken = [lang for lang in languages if lang not in units.languages and data.draw(st.booleans())]
            known = sorted(set(text.languages) & set(units.languages))
            like = {lang: data.draw(st.sampled_from(known)) for lang in new if data.draw(st.booleans())}
            grown, text, grown_units = grow_unity(grown, text, units, new, spoken=spoken, like=like)
            assert grown_units is not None
            units = grown_units
        for old, now in zip(_computed(unity), _computed(grown), strict=True):
            assert torch.equal(now[..., : old.shape[-1]], old)
        assert set(text.languages) == {"eng", "fra", *(lang for languages in additions for lang in languages)}
        for lang in TEXT.languages:
            assert text.source(SENTENCES[0], lang) == TEXT.source(SENTENCES[0], lang)
        for lang in set(text.languages) - set(TEXT.languages):
            assert text.tag(lang) in text.unwritten("eng") - TEXT.unwritten("eng")

    def test_weights_are_as_they_were_and_tables_are_tied(self, texts: Path) -> None:
        grown, _, _, unity = _grown(texts)
        new = grown.state_dict()
        for name, value in unity.state_dict().items():
            assert torch.equal(new[name][: len(value)] if value.dim() else new[name], value), name
        assert grown.model.shared.weight is grown.model.lm_head.weight
        assert grown.model.shared.weight is grown.model.text_encoder.embed_tokens.weight
        t2u = grown.model.t2u_model
        assert t2u.lm_head.weight is t2u.model.decoder.embed_tokens.weight

    def test_new_rows_begin_as_told(self, texts: Path) -> None:
        grown, text, units, unity = _grown(texts)
        table, old = grown.model.shared.weight, unity.model.shared.weight
        assert torch.equal(table[text.tag("pol")], old[TEXT.tag("fra")])
        token = text.added[0].tokens[-1]
        before = [piece for piece in TEXT.pieces(text.piece(token).replace("▁", " ")) if piece != TEXT.unk]
        assert before == [] or torch.allclose(table[token], old[before].mean(0))
        rows = grown.model.t2u_model.lm_head.weight
        assert torch.equal(rows[units.tag("pol")], unity.model.t2u_model.lm_head.weight[UNITS.tag("fra")])
        voices = grown.model.vocoder.language_embedding.weight
        assert grown.vocoder_languages == {"eng": 0, "fra": 1, "pol": 2}
        assert torch.equal(voices[2], unity.model.vocoder.language_embedding.weight[1])
        plain, plain_text, _ = grow_unity(unity, TEXT, UNITS, ["pol"])
        tags = old[list(TEXT.languages.values())]
        assert torch.allclose(plain.model.shared.weight[plain_text.tag("pol")], tags.mean(0))

    def test_it_is_saved_and_loaded_and_grows_again(self, texts: Path, tmp_path: Path) -> None:
        grown, text, units, _ = _grown(texts)
        save_unity(tmp_path / "grown", grown, text, units)
        again, again_text, again_units = load_unity(tmp_path / "grown")
        assert (again_text.digest, again_units and again_units.digest) == (text.digest, units.digest)
        assert all(torch.equal(value, again.state_dict()[name]) for name, value in grown.state_dict().items())
        third, third_text, _ = grow_unity(again, again_text, again_units, ["deu"])
        assert third_text.pieces(POLISH[0], "pol") == text.pieces(POLISH[0], "pol")
        assert third_text.tag("deu") == text.size
        assert third_text.unwritten("pol") == {text.size}
        assert third_text.unwritten("eng") == set(range(TEXT.size, text.size + 1))
        assert third_text.unwritten("deu") == set()
        assert third.config.vocab_size == text.size + 1
        made = third.model.generate(
            input_ids=torch.tensor([third_text.source("the cat", "eng")]),
            tgt_lang="pol",
            generate_speech=False,
            max_new_tokens=3,
        )
        assert made.sequences[0, 1] == text.tag("pol")

    @pytest.mark.parametrize("beam", [1, 4])
    def test_old_languages_are_translated_into_as_before(self, texts: Path, beam: int) -> None:
        """Whatever the new rows have become: here they would be written all the time."""
        grown, text, units, unity = _grown(texts)
        with torch.no_grad():
            likely = unity.decode_text(torch.tensor([[3, TEXT.tag("fra")]]), *unity.encode_speech(*speech((20,))))
            grown.model.shared.weight[TEXT.size :] += 20 * likely[0, -1]
        options = replace(TEXT_SEARCH, beam=beam)
        before, now = Translator(unity, TEXT, UNITS), Translator(grown, text, units)
        before.text_search = now.text_search = options
        mixed = [("fra", "the cat sat"), ("pol", "a dog runs"), ("eng", "le chat dort"), ("pol", "the mat")]
        found = [
            now.translate_rows([Source(lang, written, "eng") for lang, written in mixed]),
            [now.translate_rows([Source(lang, written, "eng")])[0] for lang, written in mixed],
        ]
        for row, (lang, written) in enumerate(mixed):
            assert found[0][row].tokens == found[1][row].tokens
            if lang == "pol":
                assert set(found[0][row].tokens) & set(text.added[0].tokens)
            else:
                old = before.translate_rows([Source(lang, written, "eng")])[0]
                assert found[0][row].tokens == old.tokens
                assert abs(found[0][row].score - old.score) < 1e-5

    def test_one_that_ends_with_text_has_no_units_to_speak(self) -> None:
        unity = tiny_unity(TEXT, None)
        with pytest.raises(ConfigError, match="spoken: pol: this model ends with text"):
            grow_unity(unity, TEXT, None, ["pol"], spoken=["pol"])
        same, same_text, _ = grow_unity(unity, TEXT, None, [])
        assert same_text is TEXT and same.config.vocab_size == TEXT.size
        grown, text, _ = grow_unity(unity, TEXT, None, ["pol"])
        assert grown.config.vocab_size == text.size


class TestVocabulary:
    @pytest.mark.parametrize(("model", "size"), [("bpe", 60), ("unigram", 45)])
    def test_new_pieces_are_for_the_new_language_only(self, texts: Path, model: str, size: int) -> None:
        old = TextVocabulary(pieces(model, size), ["eng", "fra"])
        wanted = 36 if model == "unigram" else 60
        text = grow_text(old, ["pol"], learn_pieces(old, _config(texts, pieces=wanted)))
        for sentence in (*SENTENCES, *POLISH):
            assert text.pieces(sentence, "fra") == old.pieces(sentence, "fra") == text.pieces(sentence)
        for sentence in POLISH:
            ours = text.pieces(sentence, "pol")
            assert text.decode(ours) == sentence
            assert old.unk in old.pieces(sentence, "fra")
            assert old.unk not in ours
            assert max(ours) >= old.size + 1
        assert text.tag("pol") == old.size
        assert text.languages["eng"] == old.languages["eng"]

    def test_new_joins_come_after_old_ones(self, texts: Path) -> None:
        """In the order in which they were learnt, and of the old ones none has another place or score."""
        old, grown = _scores(TEXT.model), _scores(learn_pieces(TEXT, _config(texts)))
        assert grown[: len(old)] == old
        new = [score for _, score in grown[len(old) :]]
        assert new == sorted(set(new), reverse=True)
        assert new[0] < min(score for _, score in old)

    def test_a_long_piece_is_written_right(self, tmp_path: Path) -> None:
        """More than 127 bytes need a length of two in the file."""
        word = "ą" * 16  # the longest piece that SentencePiece learns, of 32 bytes
        file = tmp_path / "pol.txt"
        file.write_text("\n".join([word, f"{word} {word}"]))
        text = grow_text(TEXT, ["pol"], learn_pieces(TEXT, _config(file, pieces=10)))
        assert text.decode(text.pieces(word, "pol")) == word
        long = "x" * 300
        grown = grow_text(TEXT, ["pol"], TEXT.model + _encoded(long, -100.0))
        assert grown.piece(grown.size - 1) == long

    def test_what_cannot_be_learnt_is_told(self, texts: Path) -> None:
        with pytest.raises(ConfigError, match="fra: the vocabulary of text has this language already"):
            grow_text(TEXT, ["fra"])
        with pytest.raises(ConfigError, match="pol is to be like deu, which the model has not: eng fra"):
            grow_unity(tiny_unity(TEXT, None), TEXT, None, ["pol"], like={"pol": "deu"})
        with pytest.raises(InputError, match="data: has texts in pol; they must be in `languages`"):
            learn_pieces(TEXT, _config(texts, languages=["ces"]))
        with pytest.raises(InputError, match=r"pieces: of these texts 5000 pieces cannot be made"):
            learn_pieces(TEXT, _config(texts, pieces=5000))


def test_the_command(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_unity(tmp_path / "model", tiny_unity(TEXT, UNITS), TEXT, UNITS)
    file = tmp_path / "grow.yaml"
    data = json.dumps([{"kind": "lines", "path": texts.name, "lang": "pol"}])
    file.write_text(
        f"model: model\noutput: grown\nlanguages: [pol]\nspoken: [pol]\nlike: {{pol: fra}}\npieces: 60\ndata: {data}\n"
    )
    assert main(["train", "languages", str(file)]) == 0
    told = capsys.readouterr().out
    text = load_text_vocabulary(tmp_path / "grown")
    new = len(text.added[0].tokens)
    assert told == f"model: {tmp_path}/grown, {text.size} tokens of text, {UNITS.size + 1} of units; {new} new pieces\n"
    assert main(["train", "languages", str(file), "languages=[fra]", "pieces=null", "data=[]"]) == 2
    assert "has this language already" in capsys.readouterr().err
    assert main(["train", "languages", str(file), "data=[]"]) == 2
    assert "pieces and data go together" in capsys.readouterr().err
