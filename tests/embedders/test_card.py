"""Cards: the arithmetic of centring, and what is written is what is read."""

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from seamlessalign.embedders.card import (
    Card,
    Threshold,
    card_beside,
    card_digest,
    fit_mean,
    load_card,
    save_card,
    unit_rows,
)
from seamlessalign.errors import ModelError

Float32 = NDArray[np.float32]

rows_of_three = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 6), st.just(3)), elements=st.floats(-100, 100, width=32)
).filter(lambda rows: bool((np.linalg.norm(rows, axis=1) > 1e-3).all()))


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of cards in place of the package's own."""
    monkeypatch.setattr(resources, "files", lambda _: tmp_path)
    (tmp_path / "cards").mkdir()
    return tmp_path / "cards"


def _card(**changes: Any) -> Card:
    means = {"eng": np.array([0.1, 0.2, 0.0], np.float32), "fra": np.array([-0.3, 0, 0.5], np.float32)}
    thresholds = {
        "text-text": Threshold(1.25, 0.9, "a sample"),
        "speech-text": Threshold(1.5, 0.8123, "another", "precision 0.8"),
    }
    kept: dict[str, Any] = {"means": means, "thresholds": thresholds}
    return Card("toy", 3, **{**kept, **changes})


@given(rows_of_three, st.sampled_from(["eng", "fra", "ita"]))
@settings(deadline=None)
def test_centring_is_what_it_says(rows: Float32, lang: str) -> None:
    card = _card()
    mean = card.means[lang].astype(float) if lang in card.means else (card.means["eng"] + card.means["fra"]) / 2
    for row, found in zip(rows.astype(float), card.centre(rows, lang), strict=True):
        wanted = row / np.sqrt(sum(x * x for x in row)) - mean
        length = np.sqrt(sum(x * x for x in wanted))
        if length > 1e-3:
            np.testing.assert_allclose(found, wanted / length, atol=1e-3)
            assert abs(np.linalg.norm(found) - 1) < 1e-5


@given(rows_of_three, st.floats(0.01, 100))
@settings(deadline=None)
def test_the_length_of_a_row_means_nothing(rows: Float32, scale: float) -> None:
    np.testing.assert_allclose(unit_rows(rows * np.float32(scale)), unit_rows(rows), atol=1e-5)


def test_rows_of_nothing_stay_finite() -> None:
    assert unit_rows(np.zeros((2, 3), np.float32)).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert unit_rows(np.zeros((0, 3), np.float32)).shape == (0, 3)


def test_without_means_rows_are_only_made_unit() -> None:
    rows = np.array([[3, 4, 0]], np.float32)
    np.testing.assert_allclose(Card("none", 3).centre(rows, "eng"), [[0.6, 0.8, 0]], atol=1e-6)


def test_a_fitted_mean_takes_away_what_is_common() -> None:
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((500, 8)) + np.array([4.0, 0, 0, 0, 0, 0, 0, 0])).astype(np.float32)
    mean = fit_mean(rows)
    np.testing.assert_allclose(
        mean, [np.mean([row[i] / np.linalg.norm(row) for row in rows]) for i in range(8)], atol=1e-5
    )
    centred = Card("toy", 8, {"eng": mean}).centre(rows, "eng")
    before, after = (float((x @ x.T)[np.triu_indices(500, 1)].mean()) for x in (unit_rows(rows), centred))
    assert before > 0.5 and abs(after) < 0.05


def test_a_card_goes_there_and_back(shelf: Path) -> None:
    save_card(_card(), shelf, {"texts": "a sample", "languages": ["eng", "fra"]})
    back = load_card("toy")
    assert (back.name, back.dim, dict(back.thresholds)) == ("toy", 3, dict(_card().thresholds))
    assert list(back.means) == ["eng", "fra"]
    for lang, mean in _card().means.items():
        assert back.means[lang].dtype == np.float32
        np.testing.assert_array_equal(back.means[lang], mean)


def test_a_card_without_means_goes_there_and_back(shelf: Path) -> None:
    save_card(_card(means={}), shelf, {})
    assert not (shelf / "toy.safetensors").exists()
    assert load_card("toy").mean("eng").tolist() == [0, 0, 0]


def test_a_card_beside_weights_keeps_the_name_of_its_embedder(tmp_path: Path) -> None:
    save_card(_card(), tmp_path, {}, stem="card")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["card.safetensors", "card.yaml"]
    assert (tmp_path / "card.yaml").read_text().startswith("name: toy\n")
    back = card_beside(tmp_path, "toy")
    assert back is not None and dict(back.thresholds) == dict(_card().thresholds) and list(back.means) == ["eng", "fra"]


def test_a_digest_sees_means_and_thresholds(shelf: Path) -> None:
    seen = []
    for card in (_card(), _card(), _card(thresholds={}), _card(means={"eng": np.ones(3, np.float32)}), _card(means={})):
        for file in shelf.iterdir():
            file.unlink()
        save_card(card, shelf, {})
        seen.append(card_digest("toy"))
    assert seen[0] == seen[1] and len(set(seen)) == 4


def test_an_unknown_card_names_those_that_there_are(shelf: Path) -> None:
    save_card(_card(), shelf, {})
    with pytest.raises(ModelError, match="'sonor' has no card; there are toy"):
        load_card("sonor")


@pytest.mark.parametrize("name", ["e5-small", "transcribe-e5"])
def test_the_cards_of_the_package_can_be_used(name: str) -> None:
    card = load_card(name)
    assert card.name == name and card.dim == 384
    for lang, mean in card.means.items():
        assert mean.shape == (384,) and 0 < np.linalg.norm(mean) < 1, lang  # the mean of unit rows
    for threshold in card.thresholds.values():
        assert threshold.value > 0 and 0 < threshold.precision <= 1 and threshold.fitted_on


def test_the_speech_card_has_thresholds_for_both_kinds_of_pairs() -> None:
    assert {"speech-text", "speech-speech"} <= set(load_card("transcribe-e5").thresholds)
