"""A text file cut into parts of some lines: together they are the file, and lines keep their numbers."""

import tempfile
from pathlib import Path
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from seamlessalign.pipelines.inputs import cut_texts, find_texts
from seamlessalign.pipelines.text_stage import _lines


@given(st.binary(max_size=200).map(lambda data: data.replace(b"a", b"\n")), st.integers(1, 7))
def test_parts_make_up_the_file(data: bytes, lines_per_shard: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        path.write_bytes(data)
        shards = cut_texts(find_texts([str(path)]), lines_per_shard)
        found = []
        for shard in shards:
            (part,) = shard.files
            with path.open("rb") as source:
                found.append(list(_lines(source, part, SimpleNamespace(bytes_read=0))))  # type: ignore[arg-type]
    assert [line for lines in found for line in lines] == list(enumerate(_split(data)))
    assert all(len(lines) == lines_per_shard for lines in found[:-1])
    assert len({shard.name for shard in shards}) == len(shards)


def _split(data: bytes) -> list[bytes]:
    pieces = data.split(b"\n")
    return [piece + b"\n" for piece in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])
