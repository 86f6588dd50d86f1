"""Is precision_estimate right on speech? The demo's spans against its English sentences, whose truth is known.

A span is right with a sentence when `judge` says so: the sentence is the prompt's, and the span is the prompt's within
80 % of both. Decoys are sentences that nobody says in the language of the speech, taken from among the targets:

- `foreign`: book sentences, while most wrong targets are other telephone prompts, nearer to what is spoken;
- `foreign, measured`: the same, their attraction measured;
- `same kind`: book sentences and prompts that are not spoken, as they come;
- `same kind, measured`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.calibration import Trial
from seamlessalign import storage
from seamlessalign.embedders.card import fit_mean, unit_rows
from seamlessalign.embedders.text import spoken_form
from seamlessalign.mining import mine_candidates
from seamlessalign.mining.groups import NEAR
from seamlessalign.pipelines.demo_data import judge, load_truth

SPEECH = {"spa": "es", "fra": "fr", "ita": "it", "rus": "ru"}
SHARE = 1 / 3  # of the sentences that may be decoys
REPEATS = 4


def demo_trials(folder: Path) -> dict[str, list[Trial]]:
    """Trials by kind of decoys over all languages, from a finished demo with its `data` and `run`."""
    truth = load_truth(folder / "data")
    texts, text_rows = _load(folder / "run/sentences/lang=eng", ["text"])
    sentences = [spoken_form(text) for text in texts["text"].to_pylist()]
    prompts = {spoken_form(row["text"]) for row in truth.texts.to_pylist() if row["prompt_ids"]}
    trials: dict[str, list[Trial]] = {}
    for lang, code in SPEECH.items():
        spans, span_rows = _load(folder / f"run/segments/lang={lang}", ["uri", "start", "end"])
        said = {spoken_form(row["english"]) for row in truth.placed.to_pylist() if row["lang"] == lang}
        silent = {"foreign": prompts | said, "same kind": said}
        for kind, taken in silent.items():
            usable = np.flatnonzero([text not in taken for text in sentences])
            for seed in range(REPEATS):
                is_decoy = np.zeros(len(sentences), bool)
                is_decoy[np.random.default_rng(seed).permutation(usable)[: int(len(usable) * SHARE)]] = True
                for measured in (False, True):
                    mined = mine_candidates(
                        span_rows,
                        text_rows[~is_decoy],
                        decoys=text_rows[is_decoy],
                        made_from=np.full((int(is_decoy.sum()), 1), -1) if measured else None,
                        near_duplicates=NEAR,
                    )
                    span = spans.take(mined["src"])
                    text = texts.filter(pa.array(~is_decoy)).take(mined["tgt"])
                    pairs = pa.table(
                        {
                            **{f"src_{name}": span[name] for name in ("uri", "start", "end")},
                            "tgt_text": text["text"],
                        }
                    )
                    right = judge(truth, pairs, f"{code}A-eng")["correct"].to_numpy().astype(bool)
                    shape = (int(right.sum()), len(span_rows), len(text_rows))
                    name = f"{kind}, measured" if measured else kind
                    trials.setdefault(name, []).append(Trial(shape, mined["precision_estimate"].to_numpy(), right))
    return trials


def _load(folder: Path, columns: list[str]) -> tuple[pa.Table, npt.NDArray[np.float32]]:
    """A side's table and its rows, centred as a run does, without repeated sentences."""
    files = storage.list_files(str(folder), ".parquet")
    table = pa.concat_tables(
        storage.read_table(file, [*columns, "embedding"]).replace_schema_metadata(None) for file in files
    )
    if columns == ["text"]:
        texts: npt.NDArray[Any] = table["text"].to_numpy().astype(str)
        table = table.take(np.sort(np.unique(texts, return_index=True)[1]))
    rows = unit_rows(storage.embeddings_of(table).astype(np.float32))
    return table.drop_columns(["embedding"]), unit_rows(rows - fit_mean(rows))
