"""How an export is opened, as its card says: a few lines of Python for each format."""


def loading(format: str, direction: str, split: str | None) -> str:
    """Lines that open one direction and split, from inside the folder; empty for a format that has none.

    FOLDER stands for its path, or its name on a hub.
    """
    place = direction if split is None else f"{split}/{direction}"
    table = "corpus.tsv" if split is None else f"{split}.tsv"
    manifest = "manifest.json" if split is None else f"{split}_manifest.json"
    ways = {
        "parquet": "from datasets import load_dataset\n\n"
        f'rows = load_dataset("FOLDER", "{direction}", split="{split or "train"}")',
        "webdataset": "from glob import glob\n\nfrom webdataset import WebDataset\n\n"
        f'rows = WebDataset(sorted(glob("{place}/*.tar")), shardshuffle=False)',
        "lhotse": f'from lhotse import CutSet\n\ncuts = CutSet.from_file("{place}/cuts.jsonl.gz")',
        "lhotse-shar": f'from lhotse import CutSet\n\ncuts = CutSet.from_shar(in_dir="{place}")',
        "folder": f'import csv\n\nfile = open("{table}", encoding="utf-8", newline="")\n'
        'rows = list(csv.DictReader(file, delimiter="\\t"))',
        "meta-jsonl": f'import json\n\nrows = [json.loads(line) for line in open("{manifest}", encoding="utf-8")]',
    }
    return ways.get(format, "")
