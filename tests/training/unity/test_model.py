"""UnitY part by part: transformers' own outputs, padding that changes nothing, gradients, files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from seamlessalign.embedders.sonar.features import features as fbank_features
from seamlessalign.errors import ConfigError, ModelError
from seamlessalign.training.unity.growth import grow_unity
from seamlessalign.training.unity.model import UnitY, load_unity, make_unity, save_unity
from seamlessalign.training.unity.processor_files import save_processor
from seamlessalign.training.unity.start import start_unity
from seamlessalign.training.unity.start_settings import UnityStart
from seamlessalign.training.vocabulary import TextVocabulary
from tests.training.tiny_unity import SENTENCES, padded, pieces, speech, tiny_text, tiny_units, tiny_unity

TEXT, UNITS = tiny_text(), tiny_units()


@pytest.fixture(scope="module")
def unity() -> UnitY:
    return tiny_unity(TEXT, UNITS)


@pytest.fixture(scope="module")
def folder(unity: UnitY, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("unity")
    save_unity(made, unity, TEXT, UNITS)
    return made


def _peer(kind: str, folder: Path) -> Any:
    import transformers

    return getattr(transformers, kind).from_pretrained(folder).eval()


def _targets() -> tuple[torch.Tensor, torch.Tensor]:
    return padded([TEXT.target(SENTENCES[i], "fra")[:-1] for i in (3, 4, 5)])


def _sources() -> tuple[torch.Tensor, torch.Tensor]:
    return padded([TEXT.source(SENTENCES[i], "eng") for i in (0, 1, 2)])


def _near(left: torch.Tensor, right: torch.Tensor, most: float = 1e-5) -> None:
    assert left.shape == right.shape
    assert float((left - right).abs().max()) <= most


class TestParity:
    def test_text_to_text(self, unity: UnitY, folder: Path) -> None:
        (sources, mask), (targets, targets_mask) = _sources(), _targets()
        with torch.no_grad():
            states, states_mask = unity.encode_text(sources, mask)
            logits = unity.logits(unity.decode_text(targets, states, states_mask))
            theirs = _peer("SeamlessM4TForTextToText", folder)(
                input_ids=sources, attention_mask=mask, decoder_input_ids=targets
            ).logits
        real = targets_mask.bool()
        _near(logits[real], theirs[real])

    def test_speech_to_text_where_a_last_state_hears_no_padding(self, unity: UnitY, folder: Path) -> None:
        """A state hears frames 8i - 4 to 8i + 3; with 4 to 7 frames behind a multiple of 8 none is padded."""
        features, mask = speech((45, 36, 31))
        targets, targets_mask = _targets()
        with torch.no_grad():
            states, states_mask = unity.encode_speech(features, mask)
            logits = unity.logits(unity.decode_text(targets, states, states_mask))
            theirs = _peer("SeamlessM4TForSpeechToText", folder)(
                input_features=features, attention_mask=mask, decoder_input_ids=targets
            ).logits
        _near(logits[targets_mask.bool()], theirs[targets_mask.bool()])

    @pytest.mark.parametrize("rows", [(45, 33, 24), (45, 40, 9)])
    def test_speech_to_text_one_by_one(self, unity: UnitY, folder: Path, rows: tuple[int, ...]) -> None:
        """A padded batch of ours is what transformers finds row by row, and what it does not find in the batch."""
        features, mask = speech(rows)
        peer = _peer("SeamlessM4TModel", folder)
        with torch.no_grad():
            states, states_mask = unity.encode_speech(features, mask)
            leaking = peer.speech_encoder(input_features=features, attention_mask=mask).last_hidden_state
            for row, length in enumerate(rows):
                alone = peer.speech_encoder(input_features=features[row : row + 1, :length]).last_hidden_state[0]
                assert int(states_mask[row].sum()) == len(alone) == length // 8 + 1
                _near(states[row, : len(alone)], alone)
            assert float((leaking - states)[1:][states_mask[1:].bool()].abs().max()) > 1e-3

    def test_units(self, unity: UnitY, folder: Path) -> None:
        hidden = torch.randn(3, 7, 16, generator=torch.Generator().manual_seed(1))
        hidden_mask = (torch.arange(7) < torch.tensor([7, 5, 3])[:, None]).long()
        units, units_mask = padded([UNITS.target(range(i, 9), "eng")[:-1] for i in range(3)], UNITS.pad)
        with torch.no_grad():
            logits = unity.decode_units(hidden, hidden_mask, units)
            theirs = _peer("SeamlessM4TModel", folder).t2u_model(
                inputs_embeds=hidden, attention_mask=hidden_mask, decoder_input_ids=units
            )
        _near(logits[units_mask.bool()], theirs.logits[units_mask.bool()])
        assert logits.shape[2] == UNITS.size

    def test_tables_are_tied(self, unity: UnitY) -> None:
        model = unity.model
        tables = (model.shared, model.lm_head, model.text_encoder.embed_tokens, model.text_decoder.embed_tokens)
        assert len({id(table.weight) for table in tables}) == 1
        t2u = model.t2u_model
        assert t2u.lm_head.weight is t2u.model.decoder.embed_tokens.weight


class TestPadding:
    def test_a_batch_of_many_is_many_batches_of_one(self, unity: UnitY) -> None:
        rows = (45, 33, 24)
        features, mask = speech(rows)
        (targets, targets_mask), (sources, sources_mask) = _targets(), _sources()
        units, units_mask = padded([UNITS.target(range(i, 9), "eng")[:-1] for i in range(3)], UNITS.pad)

        def all_of(row: slice) -> list[tuple[torch.Tensor, torch.Tensor]]:
            f, t, s, u = (int(part[row].sum(1).max()) for part in (mask, targets_mask, sources_mask, units_mask))
            heard = unity.encode_speech(features[row, :f], mask[row, :f])
            read = unity.encode_text(sources[row, :s], sources_mask[row, :s])
            found = [heard, read]
            for states, states_mask in (heard, read):
                hidden = unity.decode_text(targets[row, :t], states, states_mask)
                found.append((unity.logits(hidden), targets_mask[row, :t]))
                logits = unity.decode_units(hidden, targets_mask[row, :t], units[row, :u])
                found.append((logits, units_mask[row, :u]))
            return found

        with torch.no_grad():
            many = all_of(slice(0, 3))
            for row in range(3):
                for (part, part_mask), (one, one_mask) in zip(many, all_of(slice(row, row + 1)), strict=True):
                    _near(part[row][part_mask[row].bool()], one[0][one_mask[0].bool()])

    @given(st.lists(st.integers(1, 70), min_size=1, max_size=5))
    @settings(max_examples=40, deadline=None)
    def test_the_mask_is_that_of_a_convolution(self, unity: UnitY, lengths: list[int]) -> None:
        """Of frames that are all real: as many states as a convolution of 8 by 8 with 4 zeros on both sides has."""
        mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
        found = unity.adapted_mask(mask, max(lengths) // 8 + 1)
        for row, length in zip(found.tolist(), lengths, strict=True):
            windows = len(np.lib.stride_tricks.sliding_window_view(np.ones(length + 8), 8)[::8])
            assert row == [1] * windows + [0] * (len(row) - windows)

    def test_a_token_sees_none_behind_it(self, unity: UnitY) -> None:
        targets, _ = _targets()
        other = targets.clone()
        other[:, 5:] = 9
        states, mask = torch.randn(3, 4, 16), torch.ones(3, 4).long()
        with torch.no_grad():
            found, changed = (unity.decode_text(tokens, states, mask) for tokens in (targets, other))
        _near(found[:, :5], changed[:, :5], 1e-6)
        assert float((found[:, 5:] - changed[:, 5:]).abs().max()) > 1e-3


class TestGradients:
    def test_those_of_units_reach_the_text_decoder_and_the_speech_encoder(self) -> None:
        unity = tiny_unity(TEXT, UNITS)
        features, mask = speech((30, 21, 12))
        targets, targets_mask = _targets()
        units, _ = padded([UNITS.target(range(i, 9), "eng") for i in range(3)], UNITS.pad)
        hidden = unity.decode_text(targets, *unity.encode_speech(features, mask))
        logits = unity.decode_units(hidden, targets_mask, units[:, :-1])
        torch.nn.functional.cross_entropy(logits.transpose(1, 2), units[:, 1:], ignore_index=UNITS.pad).backward()
        without = {name for name, value in unity.named_parameters() if value.grad is None or not value.grad.any()}
        # biases of keys shift all scores of a row alike, which no softmax sees; their gradients are rounding or zero
        without = {name for name in without if not name.endswith(("k_proj.bias", "linear_k.bias"))}
        assert {name.split(".")[1] for name in without} == {"text_encoder", "vocoder"}


class TestGenerate:
    def test_transformers_translates_with_what_is_written(self, folder: Path) -> None:
        features, mask = speech((40, 20))
        peer = _peer("SeamlessM4TModel", folder)
        idle = [0, 1, 3, *UNITS.languages.values()]  # which an untrained model would choose
        made = peer.generate(
            input_features=features,
            attention_mask=mask,
            tgt_lang="fra",
            max_new_tokens=6,
            speech_suppress_tokens=idle,
            return_intermediate_token_ids=True,
        )
        assert made.sequences[:, :2].tolist() == [[TEXT.eos, TEXT.tag("fra")]] * 2
        assert made.unit_sequences[:, :2].tolist() == [[UNITS.eos, UNITS.tag("fra")]] * 2
        assert made.waveform.shape[1] >= 320
        with pytest.raises(ValueError, match="deu"):
            peer.generate(input_ids=_sources()[0], tgt_lang="deu")

    def test_classes_of_one_task_do_too(self, folder: Path) -> None:
        sources, mask = _sources()
        peer = _peer("SeamlessM4TForTextToText", folder)
        made = peer.generate(input_ids=sources, attention_mask=mask, tgt_lang="eng", max_new_tokens=4)
        assert made[:, :2].tolist() == [[TEXT.eos, TEXT.tag("eng")]] * 3


class TestProcessor:
    def test_transformers_hears_and_reads_as_we_do(self, folder: Path) -> None:
        from transformers import AutoProcessor

        processor = AutoProcessor.from_pretrained(folder)
        for sentence in SENTENCES:
            assert processor.tokenizer(sentence, src_lang="fra")["input_ids"] == TEXT.source(sentence, "fra")
            written = processor.tokenizer(text_target=sentence, tgt_lang="eng")["input_ids"]
            assert written == TEXT.target(sentence, "eng")
            assert processor.tokenizer.decode(written, skip_special_tokens=True) == sentence
        waveform = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
        theirs = processor.feature_extractor(waveform, sampling_rate=16000, return_tensors="pt")
        ours = fbank_features(torch.from_numpy(waveform))
        _near(theirs["input_features"][0][: len(ours)], ours, 1e-3)

    def test_files_of_another_vocabulary_do_not_stay(self, unity: UnitY, tmp_path: Path) -> None:
        save_unity(tmp_path, unity, TEXT, UNITS)
        kept = (tmp_path / "tokenizer.json").stat().st_mtime_ns
        save_unity(tmp_path, unity, TEXT, UNITS)
        assert (tmp_path / "tokenizer.json").stat().st_mtime_ns == kept
        save_processor(tmp_path, tiny_text("fra", "eng"))
        assert (tmp_path / "tokenizer.json").stat().st_mtime_ns != kept
        save_processor(tmp_path, TextVocabulary(pieces("unigram", 45), ["eng"]))
        assert not (tmp_path / "tokenizer.json").exists()

    def test_tags_that_were_added_are_known_to_it(self, tmp_path: Path) -> None:
        from transformers import AutoTokenizer

        grown, text, units = grow_unity(tiny_unity(TEXT, UNITS), TEXT, UNITS, ["pol"])
        grown, text, units = grow_unity(grown, text, units, ["deu", "ces"])
        save_unity(tmp_path, grown, text, units)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path)
        for lang in ("eng", "pol", "deu", "ces"):
            assert tokenizer(SENTENCES[0], src_lang=lang)["input_ids"] == text.source(SENTENCES[0], lang)


class TestFiles:
    def test_what_is_saved_is_loaded_bit_for_bit(self, unity: UnitY, folder: Path) -> None:
        again, text, units = load_unity(folder)
        assert units is not None
        assert (text.digest, units.digest) == (TEXT.digest, UNITS.digest)
        assert again.vocoder_languages == {"eng": 0, "fra": 1}
        state, theirs = unity.state_dict(), again.state_dict()
        assert state.keys() == theirs.keys()
        assert all(torch.equal(state[name], theirs[name]) for name in state)
        assert len(again.config.to_dict()) == len(unity.config.to_dict())

    def test_keys_without_weights_may_be_changed(self, folder: Path) -> None:
        changed, _, _ = load_unity(folder, dropout=0.5, speech_encoder_layerdrop=0.0)
        assert changed.text_decoder.dropout == 0.5
        with pytest.raises(ConfigError, match="'dropuot' is no key"):
            load_unity(folder, dropuot=0.5)

    def test_half_weights(self, unity: UnitY, tmp_path: Path) -> None:
        save_unity(tmp_path, unity, TEXT, UNITS, half=True)
        again, _, _ = load_unity(tmp_path)
        for name, value in unity.state_dict().items():
            expected = value.half().float() if value.is_floating_point() else value
            assert torch.equal(again.state_dict()[name], expected), name

    def test_a_model_that_ends_with_text(self, tmp_path: Path) -> None:
        unity = tiny_unity(TEXT, None)
        assert unity.t2u is None
        save_unity(tmp_path, unity, TEXT, None)
        again, _, units = load_unity(tmp_path)
        assert units is None
        assert again.t2u is None
        assert _peer("SeamlessM4TModel", tmp_path).config.t2u_decoder_layers == 0

    def test_what_does_not_fit_is_told(self, folder: Path, tmp_path: Path, unity: UnitY) -> None:
        with pytest.raises(ModelError, match="holds no model"):
            load_unity(tmp_path)
        with pytest.raises(ConfigError, match="size 'huge' is none of tiny, small, medium, large"):
            make_unity("huge", TEXT, UNITS)
        with pytest.raises(ConfigError, match="these sizes make no model"):
            make_unity("tiny", TEXT, UNITS, hidden_size=30)
        with pytest.raises(ConfigError, match="embeds 63 tokens of text, but its vocabulary has 64"):
            make_unity(unity.config, tiny_text("eng", "fra", "deu"), UNITS)
        for file in folder.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        config = json.loads((folder / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps(config | {"decoder_layers": 2}))
        with pytest.raises(ModelError, match=r"does not fit its config.json: \d+ tensors do not, such as text_decoder"):
            load_unity(tmp_path)
        (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
        with pytest.raises(ModelError, match="of type 'bert'"):
            load_unity(tmp_path)
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "model.safetensors").write_bytes(b"broken")
        with pytest.raises(ModelError, match="cannot be loaded"):
            load_unity(tmp_path)

    def test_a_shared_table_may_have_any_of_its_names(self, unity: UnitY, folder: Path, tmp_path: Path) -> None:
        for file in folder.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        tensors = load_file(tmp_path / "model.safetensors")
        other = {
            "shared.weight": "text_decoder.embed_tokens.weight",
            "t2u_model.model.decoder.embed_tokens.weight": "t2u_model.lm_head.weight",
        }
        assert other.keys() <= tensors.keys()
        save_file({other.get(name, name): value for name, value in tensors.items()}, tmp_path / "model.safetensors")
        state = unity.state_dict()
        for again in (load_unity(tmp_path)[0], start_unity(UnityStart(unity=str(tmp_path))).unity):
            assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())

    @pytest.mark.parametrize("part", ["text_decoder", "speech_encoder", "text_encoder", "t2u_model", "vocoder"])
    def test_a_tensor_that_is_missing_of_any_part_is_told(self, folder: Path, tmp_path: Path, part: str) -> None:
        for file in folder.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        tensors = load_file(tmp_path / "model.safetensors")
        gone = next(name for name in sorted(tensors) if name.startswith(part) and name.endswith("bias"))
        del tensors[gone]
        save_file(tensors, tmp_path / "model.safetensors")
        with pytest.raises(ModelError, match=f"1 tensors do not, such as {gone}"):
            load_unity(tmp_path)

    def test_a_vocabulary_of_another_size_is_told(self, folder: Path, tmp_path: Path) -> None:
        for file in folder.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        TextVocabulary(pieces(), ["eng"]).save(tmp_path)
        with pytest.raises(ConfigError, match="embeds 63 tokens of text, but its vocabulary has 62"):
            load_unity(tmp_path)
