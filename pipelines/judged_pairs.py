"""What a demo's run found, judged: tables that `seamlessalign evaluate` measures mining with.

    python -m seamlessalign.pipelines.judged_pairs --demo runs/demo --to FOLDER

`pairs.parquet` has every pair of the run with what `demo_data.judge` says of it, `truth.parquet` the prompts that there
are to find in each direction, with their seconds.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from seamlessalign import storage
from seamlessalign.errors import InputError
from seamlessalign.pipelines.demo_data import judge, load_truth, placed_truth
from seamlessalign.pipelines.demo_sources import say

# columns that are written
_PAIR = ("direction", "src_id", "tgt_id", "margin", "kept", "correct", "truth_id", "src_text", "tgt_text")
TRUTH = pa.schema(
    [
        pa.field("direction", pa.string(), nullable=False),
        pa.field("truth_id", pa.string(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
    ]
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge the pairs of all directions."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--demo", type=Path, required=True, help="the folder that `seamlessalign demo` wrote")
    parser.add_argument("--run", help="the folder of a run of this data (default: the demo's own)")
    parser.add_argument("--to", type=Path, required=True, help="folder for both tables")
    options = parser.parse_args(arguments)
    write_judged(options.demo / "data", options.run or str(options.demo / "run"), options.to)


def write_judged(data: Path, run: str, to: Path) -> None:
    """Write both tables. Raises InputError where there is no truth, or no pair."""
    truth = load_truth(data)
    files = storage.list_files(storage.join(run, "pairs"), ".parquet")
    found = [storage.read_table(file).replace_schema_metadata(None) for file in files]
    found = [table for table in found if len(table)]
    if not found:
        raise InputError(f"{run}: holds no pairs: give the folder of a finished run of {data}")
    whole = pa.concat_tables(found)
    judged, items = [], list[dict[str, object]]()
    for direction in sorted(set(whole["direction"].to_pylist())):
        pairs = whole.filter(pc.equal(whole["direction"], direction))
        judged.append(judge(truth, pairs, direction).select(_PAIR))
        for name, seconds in placed_truth(truth, direction).items():
            items.append({"direction": direction, "truth_id": name, "seconds": seconds})
    storage.write_table(str(to / "pairs.parquet"), pa.concat_tables(judged))
    storage.write_table(str(to / "truth.parquet"), pa.Table.from_pylist(items, schema=TRUTH))
    say(f"{to}: {sum(map(len, judged))} pairs of {len(judged)} directions, {len(items)} to be found")


if __name__ == "__main__":
    main()
