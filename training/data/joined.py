"""What is joined to rows by their id and side: units, and texts that a machine heard where nobody wrote any."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seamlessalign.errors import InputError
from seamlessalign.speech_sources import open_parquet, parquet_files
from seamlessalign.training.data.settings import TASK_NAMES, DataSource
from seamlessalign.training.data.sources import number_of, reduced, words_of

Int64 = npt.NDArray[np.int64]
_ARRAYS = ("sides", "ends", "data")


class _ById:
    """Places of rows by id and side; of two with the same ones the first counts."""

    def __init__(self, keys: Sequence[int]) -> None:
        """keys: of each row, as `_key` makes them."""
        given = np.array(keys, np.uint64)
        self._order = np.argsort(given, kind="stable")
        self._keys = given[self._order]

    def place(self, name: str, side: int) -> int | None:
        """The number of the row; None where there is none."""
        key = np.uint64(_key(name, bool(side)))
        place = int(np.searchsorted(self._keys, key))
        return int(self._order[place]) if place < len(self._keys) and self._keys[place] == key else None


class UnitTable:
    """Units by id and side, of Parquet files with `pair_id`, `side` (`src` or `tgt`) and `units`."""

    def __init__(self, place: str) -> None:
        """Read a folder or file. Raises InputError where there is none, or one that lacks a column."""
        keys, counts, values = list[int](), list[int](), list[Any]()
        for batch in _batches(place, ["units"], "units"):
            for key, units in zip(_keys(batch), batch.column("units").cast(pa.list_(pa.int64())), strict=True):
                if units.is_valid:
                    values.append(reduced(units.values.fill_null(-1).to_numpy()))
                    keys.append(key)
                    counts.append(len(values[-1]))
        self._rows = _ById(keys)
        self._starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        self._values = np.concatenate(values) if values else np.zeros(0, np.uint16)

    def of(self, name: str, side: int) -> npt.NDArray[np.uint16] | None:
        """Units of one side of the row with an id; None where there are none."""
        number = self._rows.place(name, side)
        return None if number is None else np.asarray(self._values[self._starts[number] : self._starts[number + 1]])


class TranscriptTable:
    """Texts by id and side, of Parquet files with `pair_id`, `side`, `text` and `avg_logprob`."""

    def __init__(self, place: str) -> None:
        """Read a folder or file. Raises InputError where there is none, or one that lacks a column."""
        keys = list[int]()
        self._texts: list[tuple[bytes, float]] = []
        for batch in _batches(place, ["text", "avg_logprob"], "transcripts"):
            texts, sure = batch.column("text").to_pylist(), batch.column("avg_logprob").to_pylist()
            for key, text, logprob in zip(_keys(batch), texts, sure, strict=True):
                if text is not None and logprob is not None:
                    self._texts.append((words_of(text).encode(), float(logprob)))
                    keys.append(key)
        self._rows = _ById(keys)

    def of(self, name: str, side: int) -> tuple[str, float] | None:
        """The text of one side of the row with an id, and its mean log-probability of a token; None without one."""
        number = self._rows.place(name, side)
        return None if number is None else (self._texts[number][0].decode(), self._texts[number][1])


@dataclass(frozen=True, eq=False)
class MachineTexts:
    """Texts that a machine wrote for sides of rows, one behind the other."""

    sides: Int64  # (num_texts,), growing: twice the number of the row, and one more for its second side
    ends: Int64  # (num_texts,): of each in `data`
    data: npt.NDArray[np.uint8]  # UTF-8

    def of(self, row: int, side: int) -> str:
        """The text of a side. Raises KeyError where a machine wrote none."""
        place = int(np.searchsorted(self.sides, 2 * row + side))
        if place == len(self.sides) or self.sides[place] != 2 * row + side:
            raise KeyError((row, side))
        return self.data[int(self.ends[place - 1]) if place else 0 : int(self.ends[place])].tobytes().decode()

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All of it, by names of files."""
        return {f"texts_{name}": getattr(self, name) for name in _ARRAYS}

    @classmethod
    def read(cls, folder: Path) -> "MachineTexts":
        """What `arrays` was saved as. Raises OSError or ValueError where it is not there, or damaged."""
        return cls(*(np.load(folder / f"texts_{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS))

    @classmethod
    def of_texts(cls, texts: Sequence[tuple[int, str]]) -> "MachineTexts":
        """Of sides, growing, and their texts."""
        encoded = [text.encode() for _, text in texts]
        return cls(
            np.array([side for side, _ in texts], np.int64),
            np.cumsum([len(one) for one in encoded], dtype=np.int64),
            np.frombuffer(b"".join(encoded), np.uint8),
        )


@dataclass(frozen=True, eq=False)
class MachineTextRules:
    """In which tasks texts that a machine wrote are learnt, by source; in others it is as if there were none."""

    tasks: npt.NDArray[np.bool_]  # (num_sources, num_tasks)
    least: npt.NDArray[np.float16]  # (num_sources,): mean log-probability of a token; below, a text is none to learn

    @classmethod
    def of(cls, sources: Sequence[DataSource]) -> "MachineTextRules":
        """As their settings say."""
        wanted = [getattr(one, "transcripts_for", ()) for one in sources]
        return cls(
            np.array([[task in tasks for task in TASK_NAMES] for tasks in wanted], bool).reshape(-1, len(TASK_NAMES)),
            np.array([getattr(one, "min_avg_logprob", 0.0) for one in sources], np.float16),
        )


def units_folder(settings: DataSource) -> str | None:
    """Where the units of a source are that are joined to it; of a run's folder, its own."""
    return _folder(settings, "units")


def transcripts_folder(settings: DataSource) -> str | None:
    """Where the transcripts of a source are; of a run's folder, its own. None where no task is to be taught them."""
    return _folder(settings, "transcripts") if getattr(settings, "transcripts_for", ()) else None


def _folder(settings: DataSource, name: str) -> str | None:
    named = getattr(settings, name, None)
    if named is None and settings.kind == "corpus" and (inside := Path(settings.path) / name).is_dir():
        return str(inside)
    return None if named is None else str(named)


def _batches(place: str, columns: Sequence[str], called: str) -> Iterator[pa.RecordBatch]:
    for file in parquet_files(place):
        opened, wanted = open_parquet(file), ["pair_id", "side", *columns]
        lacking = set(wanted) - set(opened.schema_arrow.names)
        if lacking:
            raise InputError(f"{file}: lacks the columns {', '.join(sorted(lacking))}, as tables of {called} have them")
        yield from opened.iter_batches(columns=wanted)


def _keys(batch: pa.RecordBatch) -> list[int]:
    names, sides = batch.column("pair_id").to_pylist(), batch.column("side").to_pylist()
    return [_key(str(name), side == "tgt") for name, side in zip(names, sides, strict=True)]


def _key(name: str, second: bool) -> int:
    return number_of(name) ^ (0x9E3779B97F4A7C15 if second else 0)  # any odd constant keeps the two apart
