"""Finding what of an evaluation set is in a corpus, against rapidfuzz comparing all with all.

Texts are those of the demo, folded: every fourth is the evaluation set, the rest the corpus. Both look for the set's
text that each text of the corpus is nearest to: here by shared n-grams (`exports.near_texts`), there by
`fuzz.partial_ratio`, which knows a text inside another too. Printed are processor seconds of one thread for a million
texts, their ratio, and how many of the texts that rapidfuzz scores 95 or more were found. Run it as

    python -m benchmarks.leak_search --demo runs/demo
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.measured import cores
from seamlessalign.mining.text_filters import fold
from seamlessalign.pipelines.exports.near_texts import KnownTexts

_ROUNDS = 3
_SURE = 95.0
_LEAST_CHARACTERS = 20  # of which both know enough


def main() -> None:
    """Measure both."""
    from rapidfuzz import fuzz, process

    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--demo", type=Path, required=True, help="the folder that `seamlessalign demo` wrote")
    files = sorted((parser.parse_args().demo / "data" / "texts").iterdir())
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    folded = [text for text in fold(pa.array(lines)).to_pylist() if len(text) >= _LEAST_CHARACTERS]
    known, texts = folded[::4], [text for number, text in enumerate(folded) if number % 4]
    print(f"{cores()} cores; {len(texts):,} texts, {len(known):,} in the set")

    ours = []
    for _ in range(_ROUNDS):
        begun = time.process_time()
        found = KnownTexts(known).search(texts)
        ours.append(time.process_time() - begun)
    begun = time.process_time()
    scores = process.cdist(texts, known, scorer=fuzz.partial_ratio, dtype=np.float32, workers=1)
    theirs = time.process_time() - begun

    best = min(ours)
    print(f"exports.near_texts   {best / len(texts) * 1e6:8.1f} s for a million texts")
    print(f"rapidfuzz            {theirs / len(texts) * 1e6:8.1f} s for a million texts")
    print(f"ratio                {theirs / best:8.0f}")
    alike = scores.max(axis=1) >= _SURE
    print(f"found of those that rapidfuzz scores {_SURE:g} or more: {(found.known[alike] >= 0).sum()} of {alike.sum()}")


if __name__ == "__main__":
    main()
