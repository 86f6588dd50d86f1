"""Several examples as one batch: every number where it belongs, nothing else anywhere."""

from typing import Any

import numpy as np
import pytest
import torch

from seamlessalign.training.data.examples import Example, Item, Task, collate
from tests.training.data.data_world import vocabularies


def _example(src: str | None, tgt: str | None, units: list[int] | None = None, src_lang: str = "fra") -> Example:
    given = None if units is None else np.array(units, np.int32)
    return Example("00", "a.parquet row 3", src_lang, "eng", src, tgt, None, 0.0, None, given, None, True, 0)


def _frames(count: int, seed: int) -> Any:
    return np.random.default_rng(seed).standard_normal((count, 160)).astype(np.float32)


class TestCollate:
    def test_every_row_is_padded_on_the_right(self) -> None:
        text, units = vocabularies()
        texts = [("le chat", "the cat sat"), ("un chien court dans", "a dog"), ("x", "the mat")]
        given = [[1, 2, 3], [4], [5, 6, 7, 8, 9]]
        heard = [_frames(count, count) for count in (4, 7, 2)]
        items = [
            Item(_example(src, tgt, unit), "s2st", one)
            for (src, tgt), unit, one in zip(texts, given, heard, strict=True)
        ]
        batch = collate(items, text, units)
        assert len(batch) == 3
        assert batch.features is not None and batch.feature_mask is not None
        assert batch.src_tokens is not None and batch.src_mask is not None and batch.unit_tokens is not None
        for row, ((src, tgt), unit, one) in enumerate(zip(texts, given, heard, strict=True)):
            assert torch.equal(batch.features[row, : len(one)], torch.from_numpy(one))
            assert not batch.features[row, len(one) :].any()
            assert batch.feature_mask[row].tolist() == [1] * len(one) + [0] * (7 - len(one))
            for tokens, wanted, pad in (
                (batch.src_tokens[row], text.source(src, "fra"), 0),
                (batch.tgt_tokens[row], text.target(tgt, "eng"), 0),
                (batch.unit_tokens[row], units.target(unit, "eng"), 1),
            ):
                assert tokens.dtype == torch.int64
                assert tokens.tolist() == wanted + [pad] * (len(tokens) - len(wanted))
            assert batch.src_mask[row].tolist() == [int(token != 0) for token in batch.src_tokens[row].tolist()]
        assert max(batch.feature_mask.sum(1)) == batch.features.shape[1]
        assert (batch.tasks, batch.places) == (["s2st"] * 3, ["a.parquet row 3"] * 3)
        assert (batch.src_langs, batch.tgt_langs) == (["fra"] * 3, ["eng"] * 3)

    def test_a_part_that_one_row_lacks_is_left_out(self) -> None:
        text, units = vocabularies()
        items = [Item(_example(None, "a"), "s2tt", _frames(3, 0)), Item(_example("x", "a"), "asr", _frames(3, 0))]
        batch = collate(items, text, units)
        assert batch.src_tokens is None and batch.src_mask is None and batch.unit_tokens is None

    def test_units_that_the_task_does_not_learn_are_left_out(self) -> None:
        text, units = vocabularies()
        assert collate([Item(_example("x", "a", [1, 2]), "t2tt")], text, units).unit_tokens is None

    def test_no_rows_are_a_batch_with_its_rejects(self) -> None:
        batch = collate([], *vocabularies(), {"a row 1": "silent"})
        assert len(batch) == 0 and batch.tgt_tokens.shape == (0, 0) and batch.rejects == {"a row 1": "silent"}

    def test_it_moves_as_a_whole(self) -> None:
        batch = collate([Item(_example("x", "a", [1]), "t2st")], *vocabularies()).to("meta")
        parts = (batch.tgt_tokens, batch.src_tokens, batch.src_mask, batch.unit_tokens)
        assert [part is not None and part.device.type for part in parts] == ["meta"] * 4
        assert batch.features is None and batch.keys == ["00"]

    @pytest.mark.parametrize(
        ("items", "message"),
        [
            ([(("x", "a"), "s2tt", True), (("x", "a"), "s2tt", False)], "with features and items without"),
            ([(("x", "a"), "t2tt", False), (("x", "a"), "t2st", False)], "with units and tasks without"),
            ([((None, "a"), "t2tt", False)], "a.parquet row 3: has neither speech nor source text"),
            ([(("x", None), "t2tt", False)], "a.parquet row 3: has no target text"),
            ([(("x", "a"), "t2st", False)], "a.parquet row 3: has no units"),
        ],
    )
    def test_what_does_not_fit_is_told(self, items: list[tuple[Any, Task, bool]], message: str) -> None:
        made = [Item(_example(*texts), task, _frames(2, 0) if heard else None) for texts, task, heard in items]
        with pytest.raises(ValueError, match=message):
            collate(made, *vocabularies())
