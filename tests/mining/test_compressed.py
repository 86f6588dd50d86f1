"""The compressed index: the same bytes however cut, interrupted or remembered, and files that are never trusted."""

import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign import storage
from seamlessalign.errors import InputError, StorageError
from seamlessalign.mining import compressed as engine
from seamlessalign.mining import faiss_search, marked
from seamlessalign.mining.compressed import (
    CompressedIndex,
    compressed,
    fingerprint_of,
    merge,
    rank_exactly,
    read_found,
    rows_of,
    shard_ranges,
)
from seamlessalign.mining.faiss_search import MIN_ROWS_FOR_CODES
from seamlessalign.mining.vectors import Vectors
from tests.mining import slow

ROWS, DIM, PER_SHARD = MIN_ROWS_FOR_CODES + 16, 8, 3000
KIND = "OPQ4,IVF32,PQ4np"
QUERIES = 2500
Array = npt.NDArray[Any]


def sides() -> tuple[Vectors, Vectors]:
    """Sources that are disturbed targets; some targets are the same, so that scores of codes tie."""
    rng = np.random.default_rng(5)
    tgt = rng.standard_normal((ROWS, DIM)).astype(np.float32)
    tgt[2900:3100] = tgt[7]  # on both sides of the first shard's end
    src = (tgt[:QUERIES] + 0.3 * rng.standard_normal((QUERIES, DIM))).astype(np.float32)
    src[40] = tgt[7]
    return Vectors(src, "src"), Vectors(tgt, "tgt")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A built index, not to be written to. One thread, since threads of faiss that wait for each other spin."""
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    folder = tmp_path_factory.mktemp("index")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_ROTATION_ROUNDS", "_ROTATION_FIRST_ROUND"):
            patch.setattr(faiss_search, name, 1)  # good codes are not what is tested
        index_in(folder).build()
        yield folder
    faiss.omp_set_num_threads(threads)


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """A built index of the test's own."""
    return Path(shutil.copytree(made, tmp_path / "index"))


def index_in(folder: Path, fingerprint: str = "tgt, first", **options: Any) -> CompressedIndex:
    options = {"rows_per_shard": PER_SHARD, "description": KIND, **options}
    return CompressedIndex(sides()[1], str(folder), fingerprint, **options)


def raw(found: tuple[Array, Array]) -> tuple[bytes, bytes]:
    return found[0].tobytes(), found[1].tobytes()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_finds_nearly_all_neighbours_with_exact_cosines(made: Path) -> None:
    src, tgt = sides()
    cosine, index = index_in(made).search(src, 0, 60, 10)
    assert cosine.dtype == np.float32 and index.dtype == np.int64 and cosine.shape == index.shape == (60, 10)
    scores = src.unit(0, 60, np.float64) @ tgt.unit(0, ROWS, np.float64).T
    for row in range(60):
        assert np.abs(cosine[row] - scores[row, index[row]]).max() < 1.2e-7
        assert len(set(index[row])) == 10
        order = list(zip(-cosine[row], index[row], strict=True))
        assert order == sorted(order)
    best = slow.nearest(scores, 10)
    assert np.mean([len(set(a) & set(b)) for a, b in zip(best, index.tolist(), strict=True)]) > 9.9
    assert index[40].tolist() == best[40]  # 201 rows that are the same: the first of them


@pytest.mark.parametrize("pieces", [2, 8])
def test_query_shards_and_memory_change_nothing(made: Path, pieces: int) -> None:
    src, _ = sides()
    whole = index_in(made).search(src, 0, QUERIES, 10, probes=6)
    ends = [QUERIES * piece // pieces for piece in range(pieces + 1)]
    index = index_in(made)
    parts = [
        index.search(src, start, stop, 10, probes=6, memory=memory)
        for start, stop, memory in zip(ends, ends[1:], [1, 1 << 30] * pieces, strict=False)
    ]
    for place in (0, 1):
        assert np.concatenate([part[place] for part in parts]).tobytes() == whole[place].tobytes()


def test_rows_go_through_products_in_whole_blocks_of_one_grid(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In other company a product may round otherwise, so a task does all of a block of which it has a part."""
    src, _ = sides()
    index, blocks = index_in(made), []
    real = CompressedIndex._assign_block

    def noted(self: CompressedIndex, side: Vectors, probes: int, start: int, stop: int) -> Any:
        blocks.append((start, stop))
        return real(self, side, probes, start, stop)

    monkeypatch.setattr(CompressedIndex, "_assign_block", noted)
    index.search(src, 1000, 2200, 4)
    assert sorted(blocks) == [(0, 1024), (1024, 2048), (2048, QUERIES)]
    blocks.clear()
    index.search(src, 1030, 1031, 4, memory=1)
    assert blocks == [(1024, 2048)]


def test_memory_keeps_one_shard_or_all(made: Path) -> None:
    src, _ = sides()
    index = index_in(made)
    index.search(src, 0, 10, 3, memory=1)
    assert len(index._resident) == 1
    index.search(src, 0, 10, 3)
    assert len(index._resident) == len(index.shards) == 4


def test_the_order_of_adding_changes_no_byte(made: Path, tmp_path: Path) -> None:
    for path in made.glob("trained.*"):
        shutil.copy(path, tmp_path)
    for shard in (2, 0, 3, 1):
        index_in(tmp_path).add(shard)
    assert contents(tmp_path) == contents(made)


def test_shards_merge_to_what_one_faiss_index_finds(made: Path) -> None:
    """Scores bit for bit; and rows too, once all that faiss finds is put in the order that it leaves open."""
    import faiss

    src, tgt = sides()
    single: Any = faiss.read_index(str(made / "trained.faiss"))
    single.add(tgt.all_unit())
    ivf: Any = faiss.downcast_index(single.index)
    ivf.nprobe = 5
    index = index_in(made)
    index._load()
    asked = index._assign(src, 0, 100, 5)
    score, row = index._walk(asked, 20, True)
    every, every_row = ivf.search_preassigned(asked.rotated, ROWS, asked.lists, asked.near)
    every_row[every_row < 0] = ROWS
    best = np.lexsort((every_row, -every), axis=1)[:, :20]
    assert (score == np.take_along_axis(every, best, 1)).all()
    assert (row == np.take_along_axis(every_row, best, 1)).all()
    assert (np.diff(score, axis=1) == 0).any()  # there were ties


def test_short_rows_search_more_lists_until_they_have_enough(made: Path, caplog: pytest.LogCaptureFixture) -> None:
    src, _ = sides()
    k = 3000  # of 10,000 rows in 32 lists
    with caplog.at_level(logging.INFO, logger="seamlessalign"):
        cosine, index = index_in(made).search(src, 20, 40, k, probes=1, width=k)
    assert " rows with fewer than 3000 near; 16 lists" in caplog.text
    assert (index >= 0).all() and all(len(set(row)) == k for row in index)
    again = index_in(made).search(src, 33, 40, k, probes=1, width=k, memory=1)
    assert (again[1] == index[13:]).all() and (again[0] == cosine[13:]).all()
    assert (np.sort(index_in(made).search(src, 0, 4, ROWS, probes=1)[1]) == np.arange(ROWS)).all()


BUILD = """
import sys, time, faiss
from pathlib import Path
from seamlessalign import storage
from seamlessalign.mining import faiss_search
from tests.mining.test_compressed import index_in
faiss.omp_set_num_threads(1)
faiss_search._ROTATION_ROUNDS = faiss_search._ROTATION_FIRST_ROUND = 1
write, left = storage.write_bytes_atomic, int(sys.argv[2])
def write_and_wait(uri, data):
    global left
    write(uri, data)
    left -= 1
    if left == 0:
        print("there", flush=True)
        time.sleep(600)
storage.write_bytes_atomic = write_and_wait
index_in(Path(sys.argv[1])).build()
"""


@pytest.mark.parametrize("files", [1, 3, 4])
def test_killed_builds_go_on_to_the_same_bytes(made: Path, tmp_path: Path, files: int) -> None:
    """Killed when so many files are there: trained.faiss without its mark, a shard without, a shard with its mark."""
    start = 0 if files == 1 else 2  # training takes a second
    for path in list(made.glob("trained.*"))[:start]:
        shutil.copy(path, tmp_path)
    command = [sys.executable, "-c", BUILD, str(tmp_path), str(files - start)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None and process.stdout.readline() == b"there\n"
        process.kill()
    assert len(contents(tmp_path)) == files
    left = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.faiss")}
    index_in(tmp_path).build()
    assert contents(tmp_path) == contents(made)
    kept = {name for name, stamp in left.items() if (tmp_path / name).stat().st_mtime_ns == stamp}
    assert kept == {1: set(), 3: {"trained.faiss"}, 4: {"trained.faiss", "shard-00000.faiss"}}[files]


def test_a_restart_writes_only_what_is_missing(copy: Path) -> None:
    (copy / "shard-00001.json").unlink()
    before = {path.name: path.stat().st_mtime_ns for path in copy.iterdir()}
    index_in(copy).build()
    changed = {path.name for path in copy.iterdir() if before.get(path.name) != path.stat().st_mtime_ns}
    assert changed == {"shard-00001.json", "shard-00001.faiss"}


def damage_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def damage_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def damage_remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [damage_cut, damage_bit, damage_remove])
@pytest.mark.parametrize("name", ["shard-00002.faiss", "shard-00002.json", "trained.faiss"])
def test_damage_is_named_by_a_search_and_mended_by_a_build(made: Path, copy: Path, name: str, damage: Any) -> None:
    src, _ = sides()
    if name.endswith("json") and damage is damage_bit:
        (copy / name).write_text('{"size": 1}', encoding="utf-8")
    else:
        damage(copy / name)
    with pytest.raises(StorageError, match=rf"{name.split('.')[0]}\.(faiss|json): is ") as error:
        index_in(copy).search(src, 0, 5, 3)
    assert "\n" not in str(error.value)
    if damage is damage_cut and name.endswith("faiss"):
        size = (copy / name).stat().st_size
        assert str(error.value).endswith(f"is damaged: it has {size} bytes, and {size + 5} were written")
    if name.startswith("shard"):  # to train again takes seconds, and is the same
        index_in(copy).build()
        assert contents(copy) == contents(made)


def test_an_index_of_other_rows_is_refused_and_built_again(made: Path, copy: Path) -> None:
    src, _ = sides()
    other = index_in(copy, "tgt, second")
    with pytest.raises(StorageError, match=r"trained\.faiss: was made from other rows"):
        other.search(src, 0, 5, 3)
    index = index_in(copy, rows_per_shard=4000)  # the same training serves, the shards do not
    with pytest.raises(StorageError, match=r"shard-00000\.faiss: was made from other rows"):
        index.search(src, 0, 5, 3)
    index.build()
    assert contents(copy)["trained.faiss"] == contents(made)["trained.faiss"]
    found, wanted = index.search(src, 0, 99, 3), index_in(made).search(src, 0, 99, 3)
    assert (found[1] == wanted[1]).all()
    with pytest.raises(StorageError, match=r"shard-00000\.faiss: was made from other rows"):
        index_in(copy).search(src, 0, 5, 3)


def test_shards_of_another_training_are_refused(copy: Path) -> None:
    index = index_in(copy)
    trained = copy / "trained.faiss"
    marked.write(str(trained), index._about_training(), trained.read_bytes() + b"x")
    with pytest.raises(StorageError, match=r"shard-00000\.faiss: was made from other rows, or in another way"):
        index_in(copy).search(sides()[0], 0, 5, 3)


def test_faiss_keeps_to_one_thread_in_each_of_ours(made: Path) -> None:
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(3)
    try:
        found = engine._in_threads(lambda place: (place, faiss.omp_get_max_threads()), range(4))
        assert found == [(place, 1) for place in range(4)]
        assert faiss.omp_get_max_threads() == 3
    finally:
        faiss.omp_set_num_threads(before)


def test_a_full_disk_leaves_nothing_taken_as_done(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in copy.glob("shard-*"):
        path.unlink()
    real, written = Path.write_bytes, 0

    def until_full(path: Path, data: bytes) -> int:
        nonlocal written
        written += 1
        if written == 4:  # the mark of the second shard is the fourth
            real(path, data[:10])
            raise OSError(28, "No space left on device")
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", until_full)
    with pytest.raises(StorageError, match=r"shard-00001\.json: cannot be written: No space left on device"):
        index_in(copy).build()
    monkeypatch.undo()
    assert not [path for path in copy.iterdir() if path.name.startswith(storage.TEMPORARY_PREFIX)]
    with pytest.raises(StorageError, match=r"shard-00001\.json: is missing"):
        index_in(copy).search(sides()[0], 0, 5, 3)


def test_results_are_kept_and_made_again_when_they_do_not_fit(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    src, _ = sides()
    path = tmp_path / "found.npz"
    first = index_in(made).search_to_file(src, 100, 200, 4, str(path), "src")
    data, stamp = path.read_bytes(), path.stat().st_mtime_ns
    again = index_in(made).search_to_file(src, 100, 200, 4, str(path), "src")
    assert path.stat().st_mtime_ns == stamp
    assert raw(first) == raw(again) == raw(read_found(str(path)))
    for other in ({"fingerprint": "other"}, {"start": 99}, {"stop": 201}, {"k": 3}, {"probes": 3}, {"width": 9}):
        asked: dict[str, Any] = {"start": 100, "stop": 200, "k": 4, "fingerprint": "src", **other}
        caplog.clear()
        path.write_bytes(data)
        index_in(made).search_to_file(src, path=str(path), **asked)
        assert "is the result of another search: searched again" in caplog.text
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(StorageError, match=r"found\.npz: is not a readable search result"):
        read_found(str(path))
    index_in(made).search_to_file(src, 100, 200, 4, str(path), "src")
    assert path.read_bytes() == data


def test_entry_keeps_index_and_parts_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Path) -> None:
    src, tgt = sides()
    monkeypatch.setattr(engine, "ROWS_PER_PART", 1000)
    monkeypatch.setattr(engine, "index_description", lambda *_: (KIND, 32))
    monkeypatch.setattr(engine, "train", lambda *_: _trained(made))
    found = compressed(src, tgt, 5, str(tmp_path / "a"), rows_per_shard=PER_SHARD)
    names = {path.name for path in (tmp_path / "a").glob("*.npz")}
    assert names == {f"found-{at:012d}-{min(at + 1000, QUERIES):012d}.npz" for at in (0, 1000, 2000)}
    monkeypatch.setattr(CompressedIndex, "search", None)  # from here on results are read
    again = compressed(src, tgt, 5, str(tmp_path / "a"), rows_per_shard=PER_SHARD)
    monkeypatch.undo()
    monkeypatch.setattr(engine, "index_description", lambda *_: (KIND, 32))
    monkeypatch.setattr(engine, "train", lambda *_: _trained(made))
    nowhere = compressed(src, tgt, 5)
    assert raw(found) == raw(again) == raw(nowhere)  # the last from a single shard


def _trained(folder: Path) -> Any:
    import faiss

    return faiss.read_index(str(folder / "trained.faiss"))


def test_small_sides_are_compared_in_full_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(3)
    src, tgt = (Vectors(rng.integers(1, 4, (n, 3)).astype(np.float32), side) for n, side in ((30, "src"), (70, "tgt")))
    with caplog.at_level(logging.INFO, logger="seamlessalign"):
        cosine, index = compressed(src, tgt, 9)
    assert "tgt: 70 rows are too few to train codes on" in caplog.text
    scores = slow.cosine_matrix(src.rows, tgt.rows)
    for row, places in enumerate(index):
        assert np.abs(cosine[row] - np.sort(scores[row])[::-1][:9]).max() < 1.2e-7
        assert list(zip(-cosine[row], places, strict=True)) == sorted(zip(-cosine[row], places, strict=True))
    assert compressed(src, tgt, 99)[1].shape == (30, 70)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_merging_is_sorting_whatever_comes_first(data: st.DataObject) -> None:
    width = data.draw(st.integers(1, 5))
    total = data.draw(st.integers(0, 14))
    scores = data.draw(st.lists(st.sampled_from([-0.5, 0.5, 1.0]), min_size=total, max_size=total))
    order = data.draw(st.permutations(range(4)))
    cuts = sorted(data.draw(st.lists(st.integers(0, total), min_size=3, max_size=3)))
    bounds = list(zip([0, *cuts], [*cuts, total], strict=True))
    score, row = np.full((1, width), -np.inf, np.float32), np.full((1, width), -1)
    for piece in order:
        start, stop = bounds[piece]
        best = sorted(range(start, stop), key=lambda at: (-scores[at], at))[:width]
        more = np.full((1, width), -np.inf, np.float32), np.full((1, width), -1)
        more[0][0, : len(best)], more[1][0, : len(best)] = [scores[at] for at in best], best
        score, row = merge(score, row, *more, width)
    wanted = sorted(range(total), key=lambda at: (-scores[at], at))[:width]
    assert row[0].tolist() == wanted + [-1] * (width - len(wanted))
    assert score[0, : len(wanted)].tolist() == [scores[at] for at in wanted]


def test_row_numbers_go_past_two_to_the_31() -> None:
    rows, per_shard = 5 * 10**9, 1 << 20
    shards = shard_ranges(rows, per_shard)
    assert len(shards) == -(-rows // per_shard) and shards[-1] == (4768 * per_shard, rows)
    start, stop = shards[-1]
    row = rows_of(np.array([[stop - start - 1, stop - start - 6, -1]], np.int64), stop)
    assert row.dtype == np.int64 and row.tolist() == [[start, start + 5, -1]]
    low = np.array([[7, 3, -1]]), np.array([[0.5, 0.4, 0]], np.float32)
    score, merged = merge(low[1], low[0], np.array([[0.5, 0.1, 0]], np.float32), row, 4)
    assert merged.tolist() == [[7, start, 3, start + 5]] and merged.dtype == np.int64
    assert score.tolist() == [[np.float32(v) for v in (0.5, 0.5, 0.4, 0.1)]]


def test_shard_ranges_end_on_the_grid() -> None:
    assert shard_ranges(10, 4) == [(0, 4), (4, 8), (8, 10)]
    assert shard_ranges(8, 4) == [(0, 4), (4, 8)] and shard_ranges(3, 4) == [(0, 3)]
    with pytest.raises(InputError, match="rows_per_shard is 0"):
        shard_ranges(3, 0)


def test_exact_ranking_orders_ties_by_row_and_leaves_out_what_is_none() -> None:
    src = Vectors(np.array([[1, 0], [1, 1]], np.float32), "src")
    tgt = Vectors(np.array([[0, 1], [2, 0], [1, 1], [1, 0], [-1, 0]], np.float32), "tgt")
    cosine, index = rank_exactly(src, tgt, np.array([0, 1]), np.array([[4, 3, 2, 1], [-1, 3, -1, 1]]), 2)
    assert index.tolist() == [[1, 3], [1, 3]]
    assert np.allclose(cosine, np.array([[1.0], [0.5**0.5]]))


def test_fingerprints_know_content_type_and_shape() -> None:
    rows = np.arange(1, 13, dtype=np.float32).reshape(4, 3)
    other = rows.copy()
    other[2, 1] += 1
    kinds: list[Array] = [rows, other, rows.astype(np.float16), rows.reshape(3, 4), rows[:3]]
    assert len({fingerprint_of(Vectors(kind, "")) for kind in kinds}) == 5
    assert fingerprint_of(Vectors(rows, "src")) == fingerprint_of(Vectors(rows.copy(), "tgt"))


class FakeGpu:
    """What a GPU build of faiss adds, on the processor."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import faiss

        self.copies = 0
        monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
        monkeypatch.setattr(faiss, "GpuClonerOptions", FakeOptions, raising=False)
        monkeypatch.setattr(faiss, "get_num_gpus", lambda: 2)
        monkeypatch.setattr(faiss, "index_cpu_to_gpu", self.copy, raising=False)
        faiss_search.gpus.cache_clear()
        faiss_search._gpu_memory.cache_clear()

    def copy(self, resources: Any, device: int, index: Any, options: Any) -> Any:
        assert device == 0 and options.useFloat16
        self.copies += 1
        return index


class FakeOptions:
    useFloat16 = False


def test_gpus_are_used_where_there_are_any(
    made: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    src, _ = sides()
    wanted = index_in(made).search(src, 0, 50, 4)
    with monkeypatch.context() as patch, caplog.at_level(logging.INFO, logger="seamlessalign"):
        gpu = FakeGpu(patch)
        found = index_in(made).search(src, 0, 50, 4)
        assert gpu.copies == 4 and caplog.text.count("2 GPUs") == 1
    faiss_search.gpus.cache_clear()
    assert faiss_search.gpus() == 0 and (found[1] == wanted[1]).all()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"k": 0}, "k is 0: tgt has"),
        ({"k": ROWS + 1}, "k is 10001"),
        ({"stop": QUERIES + 1}, "src: there are no rows 0 to 2501 among 2500"),
        ({"start": 9}, "there are no rows 9 to 9"),
        ({"probes": 0}, "probes is 0"),
        ({"width": 2}, "width 2: search 1 list or more, and k = 3 rows"),
    ],
)
def test_searches_that_make_no_sense(made: Path, asked: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        index_in(made).search(sides()[0], **{"start": 0, "stop": 9, "k": 3, **asked})


def test_indexes_that_make_no_sense(tmp_path: Path) -> None:
    few = Vectors(np.ones((5, 2), np.float32), "tgt")
    with pytest.raises(InputError, match="tgt: 5 rows, and codes are trained on 9984 or more"):
        CompressedIndex(few, str(tmp_path), "")
    with pytest.raises(InputError, match=r"s3://bucket/x: a compressed index needs a local folder"):
        CompressedIndex(sides()[1], "s3://bucket/x", "")
    assert index_in(tmp_path).folder == CompressedIndex(sides()[1], f"file://{tmp_path}", "").folder
    with pytest.raises(InputError, match="src has 2 dimensions and tgt 8"):
        index_in(tmp_path).search(Vectors(few.rows, "src"), 0, 1, 1)
