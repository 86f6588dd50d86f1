"""Starting from models that there are: what they compute is what they computed, and every row means what it meant."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from seamlessalign.cli import main
from seamlessalign.embedders.sonar.tags import TAGS
from seamlessalign.errors import ConfigError, ModelError
from seamlessalign.training.unity.config import UnityTrainingConfig
from seamlessalign.training.unity.generation import Translator
from seamlessalign.training.unity.model import UnitY, load_unity, save_unity
from seamlessalign.training.unity.start import load_nllb_vocabulary, start_unity
from seamlessalign.training.unity.start_settings import UnityStart
from seamlessalign.training.vocabulary import TextVocabulary, UnitVocabulary
from seamlessalign.training.vocoder.model import save_vocoder
from tests.training.tiny_unity import SENTENCES, padded, pieces, speech, tiny_text, tiny_units, tiny_unity
from tests.training.unity.made_training import MadeTraining, settings, start_of

TEXT, UNITS = tiny_text(), tiny_units()
NLLB_SIZE = 60 + 1 + len(TAGS) + 3


def _near(left: torch.Tensor, right: torch.Tensor, most: float = 1e-5) -> None:
    assert left.shape == right.shape
    assert float((left - right).abs().max()) <= most


def _saved(model: Any, folder: Path) -> Path:
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn_like(value), alpha=0.05)  # so that no bias is zero
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def unity() -> UnitY:
    return tiny_unity(TEXT, UNITS)


@pytest.fixture(scope="module")
def folder(unity: UnitY, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("unity")
    save_unity(made, unity, TEXT, UNITS)
    return made


@pytest.fixture(scope="module")
def w2v_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    config = transformers.Wav2Vec2BertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, conv_depthwise_kernel_size=7
    )
    return _saved(transformers.Wav2Vec2BertModel(config), tmp_path_factory.mktemp("w2v"))


@pytest.fixture(scope="module")
def nllb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(2)
    config = transformers.M2M100Config(
        vocab_size=NLLB_SIZE,
        d_model=16,
        encoder_layers=2,
        decoder_layers=1,
        encoder_ffn_dim=24,
        decoder_ffn_dim=20,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
    )
    made = tmp_path_factory.mktemp("nllb")
    (made / "sentencepiece.bpe.model").write_bytes(pieces())
    return _saved(transformers.M2M100ForConditionalGeneration(config), made)


class TestW2vBert:
    def test_frames_are_what_they_were(self, w2v_bert: Path) -> None:
        start = UnityStart(speech_encoder=str(w2v_bert))
        started = start_unity(start, size="tiny", text=TEXT)
        unity = started.unity.eval()
        assert (unity.config.hidden_size, unity.config.speech_encoder_layers) == (16, 2)
        heard: list[torch.Tensor] = []
        last = unity.speech_encoder.encoder.layers[-1]
        last.register_forward_hook(lambda _layer, _args, output: heard.append(output))
        features, mask = speech((45, 33, 12))
        peer = transformers.Wav2Vec2BertModel.from_pretrained(w2v_bert).eval()
        with torch.no_grad():
            states, states_mask = unity.encode_speech(features, mask)
            theirs = peer(input_features=features, attention_mask=mask).last_hidden_state
        _near(heard[0][mask.bool()], theirs[mask.bool()])
        assert states_mask.sum(1).tolist() == [6, 5, 2]
        assert states.shape == (3, 6, 16)
        assert f"speech encoder: {w2v_bert}; the length adaptor and what is before it are new" in started.told

    def test_a_batch_of_many_is_many_of_one_and_files_keep_it(self, w2v_bert: Path, tmp_path: Path) -> None:
        started = start_unity(UnityStart(speech_encoder=str(w2v_bert)), size="tiny", text=TEXT, units=UNITS)
        save_unity(tmp_path, started.unity, TEXT, UNITS)
        unity = load_unity(tmp_path)[0].eval()
        state = started.unity.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in unity.state_dict().items())
        features, mask = speech((45, 33, 12))
        with torch.no_grad():
            many, many_mask = unity.encode_speech(features, mask)
            for row, length in enumerate((45, 33, 12)):
                one, _ = unity.encode_speech(features[row : row + 1, :length], mask[row : row + 1, :length])
                _near(many[row][many_mask[row].bool()], one[0])

    def test_transformers_does_not_load_it_as_what_it_is_not(self, w2v_bert: Path, tmp_path: Path) -> None:
        started = start_unity(UnityStart(speech_encoder=str(w2v_bert)), size="tiny", text=TEXT)
        save_unity(tmp_path, started.unity, TEXT, None)
        with pytest.raises(OSError, match=r"no file named model\.safetensors"):
            transformers.SeamlessM4TModel.from_pretrained(tmp_path)

    def test_other_positions_are_told(self, tmp_path: Path) -> None:
        config = transformers.Wav2Vec2BertConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=8,
            position_embeddings_type="relative",
        )
        _saved(transformers.Wav2Vec2BertModel(config), tmp_path)
        with pytest.raises(ModelError, match="has positions 'relative'; only Shaw's fit"):
            start_unity(UnityStart(speech_encoder=str(tmp_path)), size="tiny", text=TEXT)


class TestNllb:
    def test_logits_are_what_they_were_but_for_the_order_of_special_tokens(self, nllb: Path) -> None:
        started = start_unity(UnityStart(text=str(nllb)), size="tiny")
        unity, text = started.unity.eval(), started.text
        assert text.tag("eng") == 61 + TAGS.index("eng_Latn")
        assert text.tag("ace_Arab") == 61
        sources, mask = padded([text.source(SENTENCES[i], "eng") for i in (0, 1, 2)])
        targets, targets_mask = padded([text.target(SENTENCES[i], "fra")[:-1] for i in (3, 4, 5)])
        theirs_of = torch.arange(NLLB_SIZE)
        theirs_of[:4] = torch.tensor([1, 3, 0, 2])  # <pad> <unk> <s> </s> → <s> <pad> </s> <unk>
        peer = transformers.M2M100ForConditionalGeneration.from_pretrained(nllb).eval()
        for side in (peer.model.encoder, peer.model.decoder):  # which counts positions from 2, not from 1
            positions = side.embed_positions
            positions.weights = positions.get_embedding(len(positions.weights), 16, None).roll(1, 0)
        with torch.no_grad():
            states, _ = unity.encode_text(sources, mask)
            logits = unity.logits(unity.decode_text(targets, states, mask))
            theirs = peer(
                input_ids=theirs_of[sources], attention_mask=mask, decoder_input_ids=theirs_of[targets]
            ).logits
        real = targets_mask.bool()
        _near(logits[real], theirs[real][:, theirs_of])

    def test_a_vocabulary_of_ones_own_takes_what_means_the_same(self, nllb: Path) -> None:
        text = TextVocabulary(pieces(), ["fra", "tlh"])
        started = start_unity(UnityStart(text=str(nllb)), size="tiny", text=text)
        theirs = transformers.M2M100ForConditionalGeneration.from_pretrained(nllb).model.shared.weight
        table = started.unity.model.shared.weight
        first = started.text.size - 2
        assert torch.equal(table[4:first], theirs[4:first])
        assert torch.equal(table[:4], theirs[[1, 3, 0, 2]])
        assert torch.equal(table[text.tag("fra")], theirs[61 + TAGS.index("fra_Latn")])
        assert not any(torch.equal(table[text.tag("tlh")], row) for row in theirs)
        assert f"tokens of text: 62 of 63 from {nllb}" in started.told

    def test_a_table_too_small_is_told(self, nllb: Path) -> None:
        with pytest.raises(ModelError, match="embeds 100 tokens, fewer than NLLB's pieces and 202 tags"):
            load_nllb_vocabulary(nllb, 100)


class TestSeamless:
    def test_a_whole_model_is_the_model(self, unity: UnitY, folder: Path) -> None:
        started = start_unity(UnityStart(unity=str(folder)))
        assert (started.text.digest, started.units and started.units.digest) == (TEXT.digest, UNITS.digest)
        assert not [line for line in started.told if "new" in line]
        state = unity.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in started.unity.state_dict().items())
        told = {"architectures": None}
        assert started.unity.config.to_dict() | told == unity.config.to_dict() | told
        assert started.unity.vocoder_languages == unity.vocoder_languages

    def test_one_of_transformers_is_loaded_as_it_is(self, unity: UnitY, folder: Path, tmp_path: Path) -> None:
        """As the hub has it: of transformers' making, in parts, in half precision, without files of ours."""
        peer = transformers.SeamlessM4TModel.from_pretrained(folder)
        peer.half().save_pretrained(tmp_path, max_shard_size="100KB")
        assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
        (tmp_path / "sentencepiece.bpe.model").write_bytes(pieces())
        ours, text, units = load_unity(tmp_path)
        assert units is not None
        assert (text.languages, units.languages) == (TEXT.languages, UNITS.languages)
        started = start_unity(UnityStart(unity=str(tmp_path)))
        for name, value in unity.state_dict().items():
            expected = value.half().float() if value.is_floating_point() else value
            assert torch.equal(ours.state_dict()[name], expected), name
            assert torch.equal(started.unity.state_dict()[name], expected), name

    @pytest.mark.parametrize(
        ("kind", "new"),
        [
            ("SeamlessM4TForSpeechToText", {"text encoder", "t2u", "vocoder"}),
            ("SeamlessM4TForTextToText", {"speech encoder", "t2u", "vocoder"}),
            ("SeamlessM4TForSpeechToSpeech", {"text encoder"}),
            ("SeamlessM4TForTextToSpeech", {"speech encoder"}),
        ],
    )
    def test_classes_of_one_task(self, unity: UnitY, folder: Path, tmp_path: Path, kind: str, new: set[str]) -> None:
        getattr(transformers, kind).from_pretrained(folder).save_pretrained(tmp_path)
        (tmp_path / "sentencepiece.bpe.model").write_bytes(pieces())
        started = start_unity(UnityStart(unity=str(tmp_path)), units=UNITS)
        assert {line.removesuffix(": new") for line in started.told if line.endswith(": new")} == new
        parts = {"speech_encoder": "speech encoder", "text_encoder": "text encoder", "t2u_model": "t2u"}
        state = unity.state_dict()
        for name, value in started.unity.state_dict().items():
            part = name.split(".")[1]
            if parts.get(part, part) not in new:
                assert torch.equal(value, state[name]), name

    def test_of_the_second_version_speech_and_text(self, tmp_path: Path) -> None:
        torch.manual_seed(3)
        sizes = {f"{stack}_layers": 1 for stack in ("encoder", "decoder", "speech_encoder", "t2u_encoder")}
        sizes |= {f"{stack}_ffn_dim": 24 for stack in ("encoder", "decoder", "t2u_encoder", "t2u_decoder")}
        sizes |= {f"{stack}_attention_heads": 2 for stack in ("encoder", "decoder", "t2u_encoder", "t2u_decoder")}
        config = transformers.SeamlessM4Tv2Config(
            vocab_size=63,
            hidden_size=16,
            speech_encoder_attention_heads=2,
            speech_encoder_intermediate_size=24,
            t2u_decoder_layers=1,
            char_vocab_size=20,
            unit_embed_dim=8,
            upsample_initial_channel=32,
            **sizes,
        )
        peer = transformers.SeamlessM4Tv2ForSpeechToText(config).eval()
        peer.generation_config.text_decoder_lang_to_code_id = TEXT.languages
        peer.generation_config._from_model_config = False
        _saved(peer, tmp_path)
        (tmp_path / "sentencepiece.bpe.model").write_bytes(pieces())
        unity = start_unity(UnityStart(unity=str(tmp_path)), size="tiny").unity.eval()
        features, mask = speech((45, 28))
        targets, targets_mask = padded([TEXT.target(SENTENCES[i], "fra")[:-1] for i in (3, 4)])
        with torch.no_grad():
            logits = unity.logits(unity.decode_text(targets, *unity.encode_speech(features, mask)))
            theirs = peer(input_features=features, attention_mask=mask, decoder_input_ids=targets).logits
        _near(logits[targets_mask.bool()], theirs[targets_mask.bool()])


class TestPuttingTogether:
    def test_parts_of_three_models(self, w2v_bert: Path, nllb: Path, folder: Path) -> None:
        start = UnityStart(speech_encoder=str(w2v_bert), text=str(nllb), t2u=str(folder))
        started = start_unity(start, size="tiny")
        config = started.unity.config
        assert started.units is not None
        assert started.units.digest == UNITS.digest
        found = [config.speech_encoder_layers, config.encoder_layers, config.decoder_layers, config.t2u_encoder_layers]
        assert found == [2, 2, 1, 1]
        assert [line.split(":")[0] for line in started.told] == [
            "speech encoder",
            "text encoder",
            "text decoder",
            "t2u",
            "tokens of text",
            "tokens of units",
            "vocoder",
        ]

    def test_units_are_added_to_a_model_that_ends_with_text(self, tmp_path: Path) -> None:
        first = tiny_unity(TEXT, None, seed=5)
        save_unity(tmp_path, first, TEXT, None)
        with pytest.raises(ConfigError, match="no folder has a t2u; give the size of a new one"):
            start_unity(UnityStart(unity=str(tmp_path)), units=UNITS)
        started = start_unity(UnityStart(unity=str(tmp_path)), size="tiny", units=UNITS)
        assert started.unity.t2u is not None
        assert started.unity.config.t2u_vocab_size == UNITS.size
        state = started.unity.state_dict()
        for name, value in first.state_dict().items():
            if name.split(".")[1] not in ("t2u_model", "vocoder"):
                assert torch.equal(state[name], value), name

    def test_a_vocoder_by_itself(self, folder: Path, tmp_path: Path) -> None:
        torch.manual_seed(4)
        config = tiny_unity(TEXT, UNITS, vocoder_num_langs=1, upsample_initial_channel=64).config
        voice = transformers.SeamlessM4TCodeHifiGan(config).eval()
        save_vocoder(voice, ["fra"], ["anna"], tmp_path / "vocoder")
        started = start_unity(UnityStart(unity=str(folder), vocoder=str(tmp_path / "vocoder")))
        assert started.unity.vocoder_languages == {"fra": 0}
        assert started.told[-1] == f"vocoder: {tmp_path / 'vocoder'}"
        save_unity(tmp_path / "model", started.unity, started.text, started.units)
        again, _, _ = load_unity(tmp_path / "model")
        units, row = torch.arange(9)[None], torch.zeros(1, 1, dtype=torch.long)
        with torch.no_grad():
            theirs, _ = voice(input_ids=units, lang_id=row, spkr_id=row)
            ours, _ = again.eval().vocoder(input_ids=units, lang_id=row, spkr_id=row)
        assert torch.equal(ours, theirs)
        with pytest.raises(ModelError, match="12 units, but the model writes 13"):
            start_unity(
                UnityStart(text=str(folder), speech_encoder=str(folder), vocoder=str(tmp_path / "vocoder")),
                size="tiny",
                units=UnitVocabulary(13, ["fra"]),
            )

    def test_rows_of_units_go_by_language(self, unity: UnitY, folder: Path) -> None:
        units = UnitVocabulary(12, ["deu", "fra"])
        started = start_unity(UnityStart(unity=str(folder)), units=units)
        ours = started.unity.model.t2u_model.lm_head.weight
        theirs = unity.model.t2u_model.lm_head.weight
        assert torch.equal(ours[:16], theirs[:16])
        assert torch.equal(ours[units.tag("fra")], theirs[UNITS.tag("fra")])
        assert not torch.equal(ours[units.tag("deu")], theirs[UNITS.tag("eng")])

    def test_what_does_not_fit_is_told(self, w2v_bert: Path, nllb: Path, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="no folder has a text encoder; give the size"):
            start_unity(UnityStart(speech_encoder=str(w2v_bert)), text=TEXT)
        with pytest.raises(ConfigError, match="names no folder with text; give a vocabulary"):
            start_unity(UnityStart(speech_encoder=str(w2v_bert)), size="tiny")
        with pytest.raises(ModelError, match="writes 12 units, but 13 are wanted"):
            start_unity(UnityStart(unity=str(folder)), units=UnitVocabulary(13, ["eng"]))
        with pytest.raises(ModelError, match="has no t2u that fits"):
            start_unity(UnityStart(unity=str(folder), t2u=str(nllb)))
        with pytest.raises(ModelError, match="type 'm2m_100', no UnitY"):
            start_unity(UnityStart(unity=str(nllb)))
        with pytest.raises(ModelError, match="holds no model"):
            start_unity(UnityStart(unity=str(tmp_path)))
        other = tiny_unity(TEXT, None, hidden_size=32)
        save_unity(tmp_path, other, TEXT, None)
        with pytest.raises(ModelError, match=r"as many dimensions, but \S+ has 16 dimensions, \S+ has 32"):
            start_unity(UnityStart(unity=str(tmp_path), speech_encoder=str(w2v_bert)))
        with pytest.raises(ValueError, match="names no model to start from"):
            UnityStart()


class TestCommand:
    def test_a_folder_is_put_together(
        self, w2v_bert: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "w2v").symlink_to(w2v_bert)
        file = tmp_path / "start.yaml"
        file.write_text(f"output: made\nstart: {{unity: {folder}, speech_encoder: w2v}}\n")
        assert main(["train", "unity-start", str(file)]) == 0
        told = capsys.readouterr().out
        unity, text, units = load_unity(tmp_path / "made")
        count = sum(value.numel() for value in unity.parameters())
        assert told.startswith(f"model: {tmp_path}/made, {count:,} parameters\n  speech encoder: {tmp_path}/w2v; the")
        assert (text.digest, units and units.digest) == (TEXT.digest, UNITS.digest)
        assert main(["train", "unity-start", str(file), "size=huge"]) == 2
        assert main(["train", "unity-start", str(file), "start.text=nowhere"]) == 2
        assert "nowhere: holds no model" in capsys.readouterr().err

    def test_one_that_starts_from_nothing(self, tmp_path: Path) -> None:
        TEXT.save(tmp_path / "vocabulary")
        file = tmp_path / "start.yaml"
        file.write_text("output: made\nsize: tiny\nvocabulary: vocabulary\nnum_units: 12\nspoken: [eng]\n")
        assert main(["train", "unity-start", str(file), "speech=conformer-shaw"]) == 0
        unity, _, units = load_unity(tmp_path / "made")
        assert units is not None
        assert units.languages == {"eng": 16}
        assert unity.config.speech_encoder_kind == "conformer-shaw"
        first = unity.state_dict()
        assert main(["train", "unity-start", str(file), "speech=conformer-shaw"]) == 0
        again = load_unity(tmp_path / "made")[0].state_dict()
        assert all(torch.equal(value, again[name]) for name, value in first.items())
        assert main(["train", "unity-start", str(file), "size=null"]) == 2

    def test_a_model_with_the_other_speech_encoder_is_trained_and_translates(self, tmp_path: Path) -> None:
        start = start_of(tmp_path / "start", speech="conformer-shaw")
        keys = settings(tmp_path / "out", start, optimiser={"steps": 3})
        trainer = MadeTraining(UnityTrainingConfig.model_validate(keys | {"model": {"layer_drop": 0.2}}))
        assert trainer.run().finished
        unity, text, units = load_unity(tmp_path / "out" / "model")
        before = load_unity(start)[0].speech_encoder.state_dict()
        moved = [
            name for name, value in unity.speech_encoder.state_dict().items() if not torch.equal(value, before[name])
        ]
        assert any("distance_embedding" in name for name in moved)
        assert any(name.startswith("adapter.") for name in moved)
        translator = Translator(unity, text, units)
        speech_of = [np.sin(np.arange(8000 + 1600 * i, dtype=np.float32) / 9) for i in range(2)]
        together = translator.translate_speech(speech_of, "eng")
        alone = [translator.translate_speech([one], "eng")[0] for one in speech_of]
        assert [one.text for one in together] == [one.text for one in alone]
