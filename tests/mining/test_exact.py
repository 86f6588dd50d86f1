"""The compiled scan: exact on every instruction set, in any parts, on data made to hurt; and its pieces."""

import dataclasses
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamlessalign.mining import exact, native, neighbours
from seamlessalign.mining.distinct import classes_of
from seamlessalign.mining.vectors import Vectors
from tests.mining import slow

Array = npt.NDArray[Any]
ISAS = range(native.best_isa() + 1)


def unit(rows: Array) -> npt.NDArray[np.float64]:
    wide = rows.astype(np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=1)[:, None], np.float64)


def check(found: Any, scores: npt.NDArray[np.float64], width: int) -> None:
    """Nothing better was left out than `reach` says, scores are right, and a place occurs once."""
    assert found.index.shape == found.score.shape == (len(scores), width)
    given_ = np.take_along_axis(scores, found.index, 1)
    assert np.abs(given_ - found.score).max() <= exact.score_error(64)
    assert (np.diff(found.score, axis=1) <= 0).all()
    left = scores.copy()
    np.put_along_axis(left, found.index, -np.inf, 1)
    assert (left.max(1, initial=-np.inf) <= found.reach).all()
    assert np.isneginf(left).sum() == width * len(scores)


@pytest.mark.parametrize("isa", ISAS)
@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(1, 130),
    st.sampled_from(["f2", "f4"]),
    st.integers(0, 2**32 - 1),
)
def test_candidates_of_any_shape(isa: int, num_src: int, num_tgt: int, dim: int, kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    src, tgt = rng.standard_normal((num_src, dim)), rng.standard_normal((num_tgt, dim)) + rng.integers(0, 3)
    if seed % 4 == 1:  # few dimensions carry most of each row, others of each
        src, tgt = src * (src**4 + 0.01), tgt * (tgt**4 + 0.01)  # not so small that float16 has none of it
    if seed % 4 == 2:  # rows of very different lengths, in a few groups of next to equal ones
        groups = rng.standard_normal((4, dim))
        src, tgt = (groups[rng.integers(0, 4, len(side))] + 0.01 * side for side in (src, tgt))
        src *= np.exp(2 * rng.standard_normal((num_src, 1)))
    src, tgt = src.astype(kind), tgt.astype(rng.choice(["f2", "f4"]))
    widths = int(rng.integers(1, num_tgt + 1)), int(rng.integers(1, num_src + 1))
    found = exact.one_pass(Vectors(src, ""), Vectors(tgt, ""), *widths, isa=isa)
    scores = unit(src) @ unit(tgt).T
    check(found[0], scores, widths[0])
    check(found[1], scores.T, widths[1])


@pytest.mark.parametrize("isa", ISAS)
def test_parts_and_chosen_rows(isa: int) -> None:
    rng = np.random.default_rng(0)
    src, tgt = rng.standard_normal((900, 40)).astype(np.float32), rng.standard_normal((9000, 40)).astype(np.float16)
    rows = np.sort(rng.choice(900, 600, replace=False))
    scores = unit(src[rows]) @ unit(tgt).T
    for memory in (1, 1 << 30):  # with one byte, the smallest parts, and codes made anew for each
        found = exact.one_pass(Vectors(src, ""), Vectors(tgt, ""), 5, 6, src_rows=rows, memory=memory, isa=isa)
        check(found[0], scores, 5)
        check(found[1], scores.T, 6)


def hurtful(name: str, num: int, dim: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(1)
    src, tgt = rng.standard_normal((2, num, dim)).astype(np.float32)
    if name == "sorted":
        return src[np.argsort(src[:, 0])], tgt[np.argsort(tgt[:, 0])]
    if name == "all equal":
        return np.repeat(src[:1], num, 0), np.repeat(tgt[:1], num, 0)
    if name == "nearly equal":
        return (src[:1] + 1e-5 * src).astype(np.float32), (src[:1] + 1e-5 * tgt).astype(np.float32)
    if name == "documents":  # 50 rows in order are alike
        middle = np.repeat(rng.standard_normal((num // 50 + 1, dim)), 50, 0)[:num]
        return (middle + 0.3 * src).astype(np.float32), (middle + 0.3 * tgt).astype(np.float32)
    if name == "hubs":
        tgt[::100] = src.mean(0) + 0.01 * tgt[::100]
        return (src + 1).astype(np.float32), (tgt + 1).astype(np.float32)
    if name == "duplicates":
        copies = rng.random(num) < 0.3
        src[copies], tgt[copies] = src[rng.integers(0, num, copies.sum())], tgt[rng.integers(0, num, copies.sum())]
        return src, tgt
    if name == "one large dimension":
        src[:, 3] *= 1000
        tgt[:, 3] *= 1000
        return src, tgt
    return np.eye(num, dim, dtype=np.float32) + 1e-3, np.eye(num, dim, dtype=np.float32)[::-1] + 1e-3


HURTFUL = ("sorted", "all equal", "nearly equal", "documents", "hubs", "duplicates", "one large dimension", "unit rows")


@pytest.mark.parametrize("name", HURTFUL)
def test_exact_on_data_made_to_hurt(name: str) -> None:
    src, tgt = hurtful(name, 700, 96)
    scores = unit(src) @ unit(tgt).T
    forward, backward = neighbours(src, tgt, 16, "exact")
    plain = neighbours(src, tgt, 16, "faiss-flat")
    for found, same, of_side in ((forward, plain[0], scores), (backward, plain[1], scores.T)):
        assert np.abs(np.take_along_axis(of_side, found.index, 1) - found.cosine).max() < 1.2e-7
        wanted = -np.sort(-of_side, axis=1)[:, :16]
        assert np.abs(wanted - found.cosine).max() < 1.2e-7
        assert found.index.tobytes() == same.index.tobytes() and found.cosine.tobytes() == same.cosine.tobytes()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ["random", "documents", "hubs"])
def test_rows_whose_guess_was_too_high_are_scanned_again(name: str, isa: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best of a sample as a guess is too high for most rows; what is found is exact all the same."""
    monkeypatch.setattr(exact, "guess_rank", lambda expected: 1)
    rng = np.random.default_rng(7)
    src, tgt = hurtful(name, 900, 64) if name != "random" else rng.standard_normal((2, 900, 64)).astype(np.float32)
    scores = unit(src) @ unit(tgt).T
    for memory in (1, 1 << 30):
        one = exact._Pass(Vectors(src, ""), Vectors(tgt, ""), None, None, (7, 9), memory, 2, isa)
        found = one.run()
        check(found[0], scores, 7)
        check(found[1], scores.T, 9)
        assert 90 < one.again < 1800


def test_guesses_save_scores_and_are_hardly_ever_too_high(monkeypatch: pytest.MonkeyPatch) -> None:
    src, tgt = np.random.default_rng(8).standard_normal((2, 6000, 64)).astype(np.float32)
    scored = {}
    for sample in (0, exact._GUESS_FROM):
        monkeypatch.setattr(exact, "_GUESS_FROM", sample)
        one = exact._Pass(Vectors(src, ""), Vectors(tgt, ""), None, None, (20, 20), 1 << 30, 1, None)
        one.run()
        scored[sample] = one.scored
    assert scored[exact._GUESS_FROM] < 0.75 * scored[0], scored
    assert one.again <= 1.5 * exact._WRONG_GUESSES * 12_000


@given(st.floats(0.001, 8))
def test_guess_rank_is_the_quantile_of_a_poisson(expected: float) -> None:
    rank, draws = exact.guess_rank(expected), np.random.default_rng(9).poisson(expected, 200_000)
    share = exact._WRONG_GUESSES
    assert (draws >= rank).mean() < share + 0.002 and (draws >= rank - 1).mean() > share - 0.002


def test_few_pairs_are_scored_whatever_the_order() -> None:
    """Work is counted, not timed: pairs that the 8-bit bound lets through, against rows in random order."""
    counts = {}
    for name in ("random", "sorted", "documents", "hubs"):
        if name == "random":
            src, tgt = np.random.default_rng(3).standard_normal((2, 6000, 64)).astype(np.float32)
        else:
            src, tgt = hurtful(name, 6000, 64)
        widths = (20, 20)
        one = exact._Pass(Vectors(src, ""), Vectors(tgt, ""), None, None, widths, 1 << 30, 1, None)
        one.run()
        counts[name] = one.scored / 6000**2
    assert max(counts.values()) < 1.5 * counts["random"], counts


@pytest.mark.parametrize("isa", ISAS)
def test_exact_cosines_are_the_same_bits_on_every_instruction_set(isa: int) -> None:
    rng = np.random.default_rng(4)
    for kinds in (("f2", "f2"), ("f2", "f4"), ("f4", "f2"), ("f4", "f4")):
        src, tgt = (Vectors((rng.standard_normal((20, 101)) * 3).astype(kind), "") for kind in kinds)
        index = np.tile(np.arange(20), (20, 1))
        ahead, back = np.empty((20, 20), np.float32), np.empty((20, 20), np.float32)
        native.exact_cosines(src.rows, tgt.rows, np.arange(20), index, src.scale, tgt.scale, ahead, isa)
        native.exact_cosines(tgt.rows, src.rows, np.arange(20), index, tgt.scale, src.scale, back, isa)
        assert (ahead == back.T).all()
        base = np.empty((20, 20), np.float32)
        native.exact_cosines(src.rows, tgt.rows, np.arange(20), index, src.scale, tgt.scale, base, native.PORTABLE)
        assert base.tobytes() == ahead.tobytes()
        assert np.abs(ahead - slow.cosine_matrix(src.rows, tgt.rows)).max() < 6e-8


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), min_size=3, max_size=3).filter(any), min_size=1, max_size=40))
def test_classes_are_the_groups_of_equal_rows(rows: list[list[int]]) -> None:
    classes = classes_of(Vectors(np.array(rows, np.float16), ""))
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, row in enumerate(rows):
        groups.setdefault(tuple(row), []).append(number)
    found = [classes.members[classes.begin[c] : classes.begin[c + 1]].tolist() for c in range(len(classes.first))]
    assert found == list(groups.values())
    assert classes.first.tolist() == [members[0] for members in found]
    assert all(number in found[c] for number, c in enumerate(classes.of_row.tolist()))


def test_rows_whose_hashes_meet_by_chance_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "hash_rows", lambda rows: np.zeros(len(rows), np.uint64))
    rows = np.array([[1, 2], [3, 4], [1, 2], [5, 6]], np.float32)
    assert classes_of(Vectors(rows, "")).of_row.tolist() == [0, 1, 0, 2]


def test_a_single_row_may_have_any_stride() -> None:
    rows = np.lib.stride_tricks.as_strided(np.ones(3, np.float32), (1, 3), (10**12, 4))
    forward, _ = neighbours(rows, np.eye(3, dtype=np.float32), 2, "exact")
    assert forward.index.tolist() == [[0, 1]]


def test_walk_takes_what_is_free() -> None:
    src, tgt = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1])
    assert native.walk_one_to_one(src, tgt, 3, 2).tolist() == [0, 3]
    assert native.walk_one_to_one(np.array([], np.int64), np.array([], np.int64), 0, 0).tolist() == []


def test_half_precision_holds_every_value() -> None:
    """Every finite float16 is widened as numpy widens it, subnormal ones too, without the processor's instruction."""
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    every = every[np.isfinite(every) & (every != 0)][:, None]
    one = np.ones((1, 1), np.float32)
    out = np.empty((len(every), 1), np.float32)
    rows, index = np.arange(len(every)), np.zeros((len(every), 1), np.int64)
    scale = np.full(len(every), 2.0**-20)
    for isa in ISAS:
        native.exact_cosines(every, one, rows, index, scale, np.ones(1), out, isa)
        assert (out == every.astype(np.float32) * np.float32(2.0**-20)).all()


@pytest.mark.slow
def test_sides_on_disk_larger_than_the_memory_allowed(tmp_path: Path) -> None:
    """Two memory-mapped sides of 0.4 GB each, in a process whose own memory may not pass 300 MB."""
    rng = np.random.default_rng(5)
    for name in ("src", "tgt"):
        side = np.lib.format.open_memmap(tmp_path / f"{name}.npy", "w+", np.float16, (200_000, 1024))
        for start in range(0, 200_000, 20_000):
            side[start : start + 20_000] = rng.standard_normal((20_000, 1024), dtype=np.float32)
        side.flush()
    script = textwrap.dedent("""
        import sys, threading, time
        import numpy as np
        from seamlessalign.mining.exact import one_pass
        from seamlessalign.mining.vectors import Vectors
        src, tgt = (np.load(f"{sys.argv[1]}/{name}.npy", mmap_mode="r") for name in ("src", "tgt"))
        rows = np.arange(0, 200_000, 20)  # every twentieth: a page or so of every part of the file
        def anonymous():
            return int(open("/proc/self/status").read().partition("RssAnon:")[2].split()[0]) // 1024
        most, done = anonymous(), False
        before = most
        def watch():
            global most
            while not done:
                most = max(most, anonymous())
                time.sleep(0.02)
        watcher = threading.Thread(target=watch)
        watcher.start()
        forward, backward = one_pass(Vectors(src, "src"), Vectors(tgt, "tgt"), 20, 20, src_rows=rows, memory=64 << 20)
        done = True
        watcher.join()
        print(most - before)
    """)
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) < 300


def test_numbers_of_rows_beyond_32_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    far, plain = 2**33 + 5, exact._Side.scan_side
    monkeypatch.setattr(
        exact._Side, "scan_side", lambda self, *rest: dataclasses.replace(plain(self, *rest), first=far)
    )
    src, tgt = (Vectors(rows, "") for rows in np.random.default_rng(6).standard_normal((2, 40, 8)).astype(np.float32))
    one = exact._Pass(src, tgt, None, None, (3, 3), 1 << 20, 1, None)
    with ThreadPoolExecutor(1) as one.pool:
        one._scan(next(one._parts(one.x)), next(one._parts(one.y)), one.x.best, one.y.best)
    for side in (one.x, one.y):
        assert side.best.index.min() >= far and side.best.index.max() < far + 40
