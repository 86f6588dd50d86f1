"""Reduced rows in a run: one map for all sides, fitted on what they have or read from a file, and what guards it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from seamlessalign import storage
from seamlessalign.config import load_config, parse_config
from seamlessalign.embedders.card import fit_mean, unit_rows
from seamlessalign.embedders.reduction import fit_reduction, load_reduction, save_reduction
from seamlessalign.errors import ConfigError, InputError, ModelError, StorageError
from seamlessalign.languages import Direction, Side
from seamlessalign.pipelines import gather_stage, mining_stage, reduce_stage
from seamlessalign.pipelines.context import Context
from seamlessalign.typed_config import digest
from tests.pipelines.made_sides import DIM, config_of, context_of, mine, vectors, write_segments, write_sentences

DIRECTIONS = ["eng-frA", "eng-deA"]


def _folder(root: Path, cuts: list[int], dim: int = DIM) -> None:
    """Sentences and segments that are near each other, the latter less so."""
    src, tgt = vectors(300, 240, dim=dim)
    write_sentences(root, "eng", src + 1, cuts)
    write_segments(root, "fra", tgt - 1, cuts)
    write_segments(root, "deu", tgt[:100] + 2, [0])


def _context(root: Path, **reduce: Any) -> Context:
    return context_of(config_of(root, DIRECTIONS, reduce=reduce or None))


def _map(root: Path) -> Any:
    return load_reduction(str(root / reduce_stage.TABLE / "all-sides.safetensors"))


def _embedded(root: Path, table: str) -> Any:
    files = sorted((root / table).rglob("*.parquet"))
    return np.concatenate([storage.embeddings_of(pq.read_table(file)) for file in files]).astype(np.float32)


def test_both_sides_go_through_the_map_of_all_rows_together(tmp_path: Path) -> None:
    _folder(tmp_path, [0, 100])
    context = _context(tmp_path, dim=20, whiten=0.5)
    mine(context)
    centred = {}
    for table in ("sentences/lang=eng", "segments/lang=fra", "segments/lang=deu"):
        rows = _embedded(tmp_path, table)
        centred[table] = unit_rows(unit_rows(rows) - fit_mean(rows))
    wanted = fit_reduction([rows for _, rows in sorted(centred.items())], 20, 0.5)
    found = _map(tmp_path)
    assert found.dims == (DIM, 20) and found.recipe["sides"] == ["deA", "eng", "frA"] and found.recipe["rows"] == 640
    np.testing.assert_allclose(found.explained, wanted.explained, atol=1e-4)
    for side, table in (
        (Side("eng", is_audio=False), "sentences/lang=eng"),
        (Side("fra", is_audio=True), "segments/lang=fra"),
    ):
        gathered = gather_stage.load(side, context)
        assert gathered.rows.dtype == np.float16 and gathered.rows.shape == (len(centred[table]), 20)
        ours = found.apply(centred[table])
        key = "segment_id" if side.is_audio else "sentence_id"
        files = sorted((tmp_path / table).rglob("*.parquet"))
        ids = np.concatenate([pq.read_table(file)[key].to_numpy(zero_copy_only=False) for file in files]).astype(str)
        np.testing.assert_allclose(gathered.rows, ours[np.argsort(ids)], atol=2e-3)


def test_pairs_are_the_same_however_inputs_are_cut(tmp_path: Path) -> None:
    tables = []
    for name, cuts in (("whole", [0]), ("cut", [0, 7, 8, 200])):
        _folder(tmp_path / name, cuts)
        tables.append(mine(_context(tmp_path / name, dim=16, whiten=0.7, sample=50)))
        assert _map(tmp_path / name).recipe["rows"] == 150
    assert tables[0] == tables[1]
    assert _map(tmp_path / "whole").digest == _map(tmp_path / "cut").digest


def test_all_dimensions_find_what_is_found_without_a_map(tmp_path: Path) -> None:
    _folder(tmp_path, [0])
    found = []
    for context in (_context(tmp_path), _context(tmp_path, dim=DIM)):
        mine(context)
        pairs = pq.read_table(tmp_path / "pairs/direction=eng-frA/part-00000.parquet")
        found.append(set(pairs.filter(pairs["kept"])["pair_id"].to_pylist()))
    assert len(found[0] & found[1]) > 0.98 * max(map(len, found)) > 100


def test_a_map_may_be_that_of_another_run(tmp_path: Path) -> None:
    _folder(tmp_path / "one", [0])
    _folder(tmp_path / "two", [0, 50])
    mine(_context(tmp_path / "one", dim=16))
    file = str(tmp_path / "one" / reduce_stage.TABLE / "all-sides.safetensors")
    mine(_context(tmp_path / "two", file=file))
    one, two = (
        pq.read_table(tmp_path / name / "pairs/direction=eng-frA/part-00000.parquet") for name in ("one", "two")
    )
    assert one.equals(two) and len(one) > 100
    assert _map(tmp_path / "two").digest == _map(tmp_path / "one").digest


def test_decoys_go_through_it_too(tmp_path: Path) -> None:
    _folder(tmp_path, [0])
    config = config_of(
        tmp_path, ["eng-frA"], reduce={"dim": 16}, decoys={"sides": {"frA": "deA"}, "made": False, "count": 40}
    )
    context = context_of(config)
    mine(context)
    gathered = gather_stage.load(Side("fra", is_audio=True), context)
    assert (gathered.num_decoys, gathered.rows.shape) == (40, (280, 16))
    np.testing.assert_allclose(np.linalg.norm(gathered.rows.astype(np.float32), axis=1), 1, atol=2e-3)
    rows = reduce_stage.load(context).apply(gather_stage.spread_rows(Side("deu", is_audio=True), 40, context))  # type: ignore[union-attr]
    np.testing.assert_allclose(gathered.rows[240:], rows, atol=2e-3)


def test_the_digest_knows_what_the_map_depends_on(tmp_path: Path) -> None:
    assert reduce_stage.digest_parts(_context(tmp_path)) == []
    save_reduction(fit_reduction([vectors(99, 9)[0]], 8), str(tmp_path), "a")
    save_reduction(fit_reduction([vectors(99, 9, seed=1)[0]], 8), str(tmp_path), "b")
    kinds: list[dict[str, Any]] = [
        {"dim": 8},
        {"dim": 9},
        {"dim": 8, "whiten": 0.5},
        {"dim": 8, "sample": 10},
        {"file": str(tmp_path / "a.yaml")},
        {"file": str(tmp_path / "b.yaml")},
    ]
    contexts = [_context(tmp_path, **kind) for kind in kinds]
    plain = contexts[0].config
    away = plain.model_copy(update={"mining": plain.mining.model_copy(update={"centre": False})})
    contexts.append(replace(contexts[0], config=away))
    assert len({digest(reduce_stage.digest_parts(context)) for context in contexts}) == len(contexts)
    before = digest(reduce_stage.digest_parts(contexts[4]))
    for kind in ("safetensors", "yaml"):
        (tmp_path / f"b.{kind}").replace(tmp_path / f"a.{kind}")
    assert digest(reduce_stage.digest_parts(contexts[4])) != before


@pytest.mark.parametrize(
    ("reduce", "told"),
    [
        ({}, "give dim, to fit a map, or file, to read one"),
        ({"dim": 8, "file": "x.yaml"}, "give dim, to fit a map, or file"),
        ({"file": "x.yaml", "whiten": 0.5}, "whiten and sample belong to a fit"),
        ({"dim": 0}, r"mining\.reduce\.dim: .*greater than or equal to 1"),
        ({"dim": 8, "whiten": 2}, r"mining\.reduce\.whiten"),
        ({"dims": 8}, "unknown key 'mining.reduce.dims'; did you mean 'dim'"),
    ],
)
def test_what_the_configuration_cannot_say(tmp_path: Path, reduce: dict[str, Any], told: str) -> None:
    raw = config_of(tmp_path, ["eng-frA"]).model_dump(mode="json")
    raw["mining"]["reduce"] = reduce
    with pytest.raises(ConfigError, match=told):
        parse_config(raw, "run.yaml")


def test_a_file_is_looked_for_beside_the_configuration(tmp_path: Path) -> None:
    text = (
        "directions: [eng-frA]\nspeech: {inputs: [a.wav]}\ntext: {inputs: [a.txt]}\nmining: {reduce: {file: a.yaml}}\n"
    )
    (tmp_path / "run.yaml").write_text(text)
    reduce = load_config(str(tmp_path / "run.yaml")).mining.reduce
    assert reduce is not None and reduce.file == str(tmp_path / "a.yaml")


def test_what_can_be_known_is_told_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mining\.reduce\.dim: 385 is more than the 384 dimensions of whisper-e5"):
        reduce_stage.check(_context(tmp_path, dim=385))
    with pytest.raises(ModelError, match="gone: is no reduction that can be read"):
        reduce_stage.check(_context(tmp_path, file=str(tmp_path / "gone.yaml")))
    save_reduction(fit_reduction([vectors(99, 9)[0]], 8), str(tmp_path), "a")
    with pytest.raises(ConfigError, match=r"a\.yaml reduces 48 dimensions, whisper-e5 has 384"):
        reduce_stage.check(_context(tmp_path, file=str(tmp_path / "a.yaml")))
    reduce_stage.check(_context(tmp_path, dim=384))
    reduce_stage.check(_context(tmp_path))


def test_too_few_rows_and_rows_of_which_nothing_is_left(tmp_path: Path) -> None:
    _folder(tmp_path / "few", [0])
    with pytest.raises(InputError, match=r"mining\.reduce: 49 dimensions cannot be fitted on 640 rows of 48"):
        mine(_context(tmp_path / "few", dim=49))
    rows = np.eye(DIM, dtype=np.float32)
    write_sentences(tmp_path / "odd", "eng", rows, [0])
    write_segments(tmp_path / "odd", "fra", rows, [0])
    only = fit_reduction([rows[:4]], 4)
    save_reduction(only, str(tmp_path), "four")
    config = config_of(tmp_path / "odd", ["eng-frA"], centre=False, reduce={"file": str(tmp_path / "four.yaml")})
    with pytest.raises(StorageError, match="of a row nothing is left in 4 dimensions"):
        mine(context_of(config))


def test_a_default_threshold_says_what_it_was_fitted_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for reduce, said in ((None, False), ({"dim": 64}, True)):
        caplog.clear()
        context = context_of(config_of(tmp_path, ["eng-frA"], threshold="auto", reduce=reduce))
        origin = mining_stage.choose_threshold(Direction.parse("eng-frA"), context).origin
        assert origin.endswith("for rows that were not reduced") == said
        mining_stage.check(Direction.parse("eng-frA"), context)
        assert ("fitted for rows that were not reduced" in caplog.text) == said
