"""A vocoder's directory: what transformers makes of it, what it says, and inside a UnitY."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seamlessalign.errors import InputError, ModelError
from seamlessalign.training.vocabulary import UnitVocabulary
from seamlessalign.training.vocoder.generator import make_generator
from seamlessalign.training.vocoder.model import attach_vocoder, load_vocoder, save_vocoder
from tests.training.tiny_unity import tiny_text, tiny_units, tiny_unity
from tests.training.vocoder.tone_world import UNITS, parsed, vocoder_config

SPEAKERS = ["Anna", "Jürgen", ""]


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.manual_seed(4)
    made = make_generator(parsed(vocoder_config(tmp_path_factory.mktemp("w"))).model, 2, 3).eval()
    with torch.no_grad():
        made.dur_predictor.proj.bias += 1.2
        made.dur_predictor.proj.weight *= 4
    return made


@pytest.fixture(scope="module")
def folder(generator: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("vocoder")
    save_vocoder(generator, ["eng", "fra"], SPEAKERS, place)
    return place


def test_transformers_loads_it_and_says_the_same_bit_for_bit(generator: Any, folder: Path) -> None:
    from transformers import SeamlessM4TCodeHifiGan

    theirs, told = SeamlessM4TCodeHifiGan.from_pretrained(folder, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    given = {"input_ids": torch.tensor([[1, 4, 0, 5]]), "lang_id": torch.tensor([[1]]), "spkr_id": torch.tensor([[2]])}
    with torch.no_grad():
        expected, found = generator(**given)[0], theirs.eval()(**given)[0]
    assert torch.equal(found, expected)
    said = load_vocoder(folder).speak([1, 4, 0, 5], "fra", "")
    assert np.array_equal(said, expected[0].numpy()) and said.dtype == np.float32


def test_durations_may_be_given(folder: Path) -> None:
    model = load_vocoder(folder)
    found = model.speak([1, 2], "eng", durations=[3, 5])
    assert len(found) == 8 * 320 and np.abs(found).max() <= 1
    assert not np.array_equal(found, model.speak([1, 2], "eng", "Jürgen", durations=[3, 5]))
    assert np.array_equal(found, model.speak([1, 2], "eng", "Anna", durations=[3, 5]))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (([1], "deu"), "this vocoder speaks eng, fra, not deu"),
        (([1], "eng", "Eve"), "this vocoder has the speakers Anna, Jürgen, , not Eve"),
        (([], "eng"), r"says a list of units from 0 to 5, not \[\]"),
        (([1, UNITS], "eng"), r"units from 0 to 5, not \[1, 6\]"),
        (([-1] * 9, "eng"), r"not \[-1, -1, -1, -1, -1, …\]"),
        (([1, 2], "eng", None, [3]), r"2 units with durations \[3\]"),
        (([1, 2], "eng", None, [3, 0]), r"2 units with durations \[3, 0\]"),
    ],
)
def test_what_it_cannot_say_is_refused(folder: Path, given: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        load_vocoder(folder).speak(*given)


def test_half_weights_are_near(generator: Any, folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    save_vocoder(generator, ["eng", "fra"], SPEAKERS, tmp_path, half=True)
    assert {value.dtype for value in load_file(tmp_path / "model.safetensors").values()} == {torch.float16}
    model = load_vocoder(tmp_path)
    assert model.generator.dtype == torch.float32
    said, full = (one.speak([1, 4, 0], "eng", durations=[3, 3, 3]) for one in (model, load_vocoder(folder)))
    np.testing.assert_allclose(said, full, atol=1e-3)


class TestDamage:
    def _copy(self, folder: Path, target: Path) -> Path:
        target.mkdir()
        for file in folder.iterdir():
            (target / file.name).write_bytes(file.read_bytes())
        return target

    def test_another_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"vocoder\.json: cannot be read, so this is no vocoder's folder"):
            load_vocoder(tmp_path)

    def test_more_names_than_rows(self, folder: Path, tmp_path: Path) -> None:
        copy = self._copy(folder, tmp_path / "c")
        (copy / "vocoder.json").write_text(json.dumps({"languages": ["eng", "fra", "deu"], "speakers": [""]}))
        with pytest.raises(ModelError, match="names 3 languages and 1 speakers for tables of 2 and 3"):
            load_vocoder(copy)

    def test_weights_that_lack_or_are_cut(self, folder: Path, tmp_path: Path) -> None:
        from safetensors.torch import load_file, save_file

        copy = self._copy(folder, tmp_path / "c")
        weights = load_file(copy / "model.safetensors")
        del weights["hifi_gan.conv_post.weight"]
        save_file(weights, copy / "model.safetensors", {"format": "pt"})
        with pytest.raises(ModelError, match=r"hifi_gan\.conv_post\.weight"):
            load_vocoder(copy)
        (copy / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:500])
        with pytest.raises(ModelError, match="cannot be loaded"):
            load_vocoder(copy)


def test_a_vocoder_of_other_units_is_not_attached(folder: Path) -> None:
    from types import SimpleNamespace

    writes = SimpleNamespace(config=SimpleNamespace(unit_hifi_gan_vocab_size=100))
    with pytest.raises(ModelError, match="is a vocoder of 6 units, but the model writes 100"):
        attach_vocoder(writes, folder)  # type: ignore[arg-type]


def test_a_unity_speaks_with_a_vocoder_that_is_attached(tmp_path: Path) -> None:
    """By transformers' own `generate` too, and still when both are saved and loaded again."""
    from seamlessalign.training.unity.model import load_unity, save_unity

    text, units = tiny_text(), tiny_units()
    torch.manual_seed(5)
    sizes = parsed(vocoder_config(tmp_path, model__units=12)).model
    save_vocoder(make_generator(sizes, 3, 2), ["deu", "eng", "fra"], ["a", "b"], tmp_path / "vocoder")
    unity = tiny_unity(text, units)
    model = attach_vocoder(unity, tmp_path / "vocoder", units)
    assert unity.vocoder is model.generator and unity.vocoder_languages == {"deu": 0, "eng": 1, "fra": 2}
    said = model.speak([3, 1, 4], "fra", "b")
    save_unity(tmp_path / "both", unity, text, units)
    both, _, _ = load_unity(tmp_path / "both")
    assert both.vocoder_languages == unity.vocoder_languages
    given = {"input_ids": torch.tensor([[3, 1, 4]]), "lang_id": torch.tensor([[2]]), "spkr_id": torch.tensor([[1]])}
    with torch.no_grad():
        assert np.array_equal(both.vocoder.eval()(**given)[0][0].numpy(), said)
        tokens = torch.tensor([text.source("the cat sat", "eng")])
        no_units = [units.bos, units.pad, units.unk, *units.languages.values()]  # which nobody taught it not to write
        options = {"max_new_tokens": 9, "speech_suppress_tokens": no_units}
        speech, _ = both.model.generate(input_ids=tokens, tgt_lang="fra", spkr_id=1, **options)
    assert speech.shape[0] == 1 and speech.shape[1] % 320 == 0 and speech.shape[1] > 0
    with pytest.raises(ModelError, match="is a vocoder of 12 units, but the model writes 10"):
        attach_vocoder(unity, tmp_path / "vocoder", UnitVocabulary(10, ["eng"]))
