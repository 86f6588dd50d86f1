"""Nothing that is read can bring code with it: no source uses a reader that executes, and hostile files do nothing."""

import ast
import io
import json
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from seamlessalign import mapped_tables, sources, storage
from seamlessalign.config import load_config
from seamlessalign.embedders.card import card_beside
from seamlessalign.embedders.reduction import load_reduction
from seamlessalign.errors import SeamlessAlignError
from seamlessalign.pipelines.folder import RunFolder
from seamlessalign.pipelines.ledger import read_marks
from seamlessalign.pipelines.refilter import read_config
from seamlessalign.pipelines.status import read_status
from seamlessalign.training.evaluation.learned.blaser import Perceptron
from seamlessalign.training_checkpoints import Checkpoints
from tests.test_house import HOUSE, MODULES

SOURCES = [path for _, path in MODULES] + sorted((HOUSE / "benchmarks").rglob("*.py"))
UNPICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "shelve"}
# where a reader that can execute is named, and why it does not
ALLOWED = {
    ("seamlessalign/training_checkpoints.py", "import pickle"): "for UnpicklingError, which torch.load raises",
    ("embedders/sentence_encoder.py", "import pickle"): "for UnpicklingError, which torch.load raises",
    ("embedders/sentence_encoder.py", "from_pretrained"): "of pytorch_model.bin transformers unpickles tensors alone",
    ("embedders/e5_model.py", "from_pretrained"): "of pytorch_model.bin transformers unpickles tensors alone",
    ("training/units/features.py", "from_pretrained"): "of pytorch_model.bin transformers unpickles tensors alone",
    ("training/unity/model.py", "import pickle"): "for UnpicklingError, which torch.load raises",
    ("training/unity/model.py", "from_pretrained"): "of pytorch_model.bin transformers unpickles tensors alone",
    ("training/unity/start_sources.py", "from_pretrained"): "a configuration, of a class of transformers' own",
    ("training/w2v_bert/model.py", "from_pretrained"): "a configuration, of a class of transformers' own",
    ("training/evaluation/learned/comet_process.py", "load_from_checkpoint"): "tensors alone, unless it is trusted",
    ("pipelines/demo_espeak.py", "extractall"): "a package that pip fetched; zipfile keeps names in the folder",
}


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def _is(call: ast.Call, keyword: str, value: object) -> bool:
    return any(
        one.arg == keyword and isinstance(one.value, ast.Constant) and one.value.value is value for one in call.keywords
    )


def _found(source: str) -> Iterator[str]:
    """What in a source may execute what it reads."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"import {name}" for name in names if name.partition(".")[0] in UNPICKLERS)
        if not isinstance(node, ast.Call):
            continue
        name = _dotted(node.func)
        last = name.rpartition(".")[2]
        if name in ("np.load", "numpy.load") and not _is(node, "allow_pickle", False):
            yield name
        if name.endswith("torch.load") and not _is(node, "weights_only", True):
            yield name
        if last in (
            "read_pickle",
            "loads_pickle",
            "unpickle",
            "PyExtensionType",
            "unsafe_load",
            "full_load",
            "load_all",
            "load_from_checkpoint",  # of Lightning, which unpickles
            "_get_outcome_and_result",  # of submitit, which unpickles it
        ):
            yield last
        if name == "yaml.load" or (last == "load" and "Yaml" in name):
            yield name
        if name in ("eval", "exec", "compile", "__import__"):
            yield name
        if last in ("extractall", "unpack_archive") or (last == "extract" and "tar" in name.lower()):
            yield last
        if last == "from_pretrained" and not _is(node, "use_safetensors", True):
            yield last
        if last == "from_pretrained" and "Auto" in name and not _is(node, "trust_remote_code", False):
            yield "trust_remote_code"
        if _is(node, "trust_remote_code", True) or _is(node, "shell", True) or name == "os.system":
            yield f"{name}(…)"


class TestSources:
    @pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(HOUSE)))
    def test_none_executes_what_it_reads(self, path: Path) -> None:
        name = str(path.relative_to(HOUSE))
        assert [one for one in _found(path.read_text(encoding="utf-8")) if (name, one) not in ALLOWED] == []

    def test_every_exception_is_still_needed(self) -> None:
        found = {
            (str(path.relative_to(HOUSE)), one) for path in SOURCES for one in _found(path.read_text(encoding="utf-8"))
        }
        assert ALLOWED.keys() - found == set()

    @pytest.mark.parametrize(
        ("source", "told"),
        [
            ("import pickle", "import pickle"),
            ("def f():\n    from joblib import load", "import joblib"),
            ("np.load(x)", "np.load"),
            ("np.load(x, allow_pickle=True)", "np.load"),
            ("torch.load(x)", "torch.load"),
            ("self.torch.load(x, weights_only=flag)", "self.torch.load"),
            ("yaml.load(x, Loader=yaml.SafeLoader)", "yaml.load"),
            ("yaml.unsafe_load(x)", "unsafe_load"),
            ("pd.read_pickle(x)", "read_pickle"),
            ("comet.load_from_checkpoint(x)", "load_from_checkpoint"),
            ("eval(x)", "eval"),
            ("tar.extractall(x)", "extractall"),
            ("subprocess.run(x, shell=True)", "subprocess.run(…)"),
            ("AutoModel.from_pretrained(x, use_safetensors=True)", "trust_remote_code"),
            ("np.load(x, allow_pickle=False)", None),
            ("torch.load(x, map_location='cpu', weights_only=True)", None),
            ("yaml.safe_load(x)", None),
            ("model.eval()", None),
        ],
    )
    def test_the_walk_sees_what_it_should(self, source: str, told: str | None) -> None:
        assert list(_found(source)) == ([told] if told else [])


class _Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.mkdir, (self.marker,)


def _pickled(marker: Path) -> bytes:
    return pickle.dumps(_Hostile(marker))


def _array(marker: Path) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([_Hostile(marker)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def _arrays(marker: Path) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, matrix=np.array([_Hostile(marker)], dtype=object))
    return buffer.getvalue()


def _yaml(marker: Path) -> bytes:
    return f"directions: !!python/object/apply:os.mkdir ['{marker}']\n".encode()


def _checkpoint(marker: Path) -> bytes:
    """As torch writes them, and with a call where a tensor should be."""
    import torch

    buffer = io.BytesIO()
    torch.save({"step": 1, "model": _Hostile(marker)}, buffer)
    return buffer.getvalue()


def _table(marker: Path) -> bytes:
    """Parquet whose schema of Arrow names an extension type that is pickled into its metadata (CVE-2023-47248)."""
    buffer = io.BytesIO()
    about = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": _pickled(marker),
    }
    schema = pa.schema([pa.field("uri", pa.string(), metadata=about)], metadata={b"pandas": _pickled(marker)})
    pq.write_table(pa.table({"uri": ["a"]}, schema=schema), buffer)
    return buffer.getvalue()


def _sealed(marker: Path) -> bytes:
    """The header of safetensors with code in its metadata."""
    head = json.dumps({"__metadata__": {"a": _pickled(marker).decode("latin-1")}}).encode()
    return len(head).to_bytes(8, "little") + head


FILES: dict[str, Callable[[Path], bytes]] = {
    "pickle": _pickled,
    "npy": _array,
    "npz": _arrays,
    "yaml": _yaml,
    "torch": _checkpoint,
    "parquet": _table,
    "safetensors": _sealed,
}


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        ("pickle", lambda path: pickle.loads(path.read_bytes())),  # noqa: S301
        ("npy", lambda path: np.load(path, allow_pickle=True)),
        ("npz", lambda path: np.load(path, allow_pickle=True)["matrix"]),
        ("yaml", lambda path: yaml.unsafe_load(path.read_bytes())),
        ("torch", lambda path: __import__("torch").load(path, weights_only=False)),
    ],
)
def test_the_hostile_files_are_hostile(kind: str, read: Callable[[Path], Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(FILES[kind](tmp_path / "made"))
    read(tmp_path / "file")
    assert (tmp_path / "made").is_dir()


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {  # what it is, its name, who reads it
    "a table": ("a.parquet", lambda path: storage.read_table(str(path))),
    "a table in parts": ("a.parquet", lambda path: list(storage.read_batches(str(path)))),
    "a footer": ("a.parquet", lambda path: storage.footer(str(path))),
    "a container": ("a.parquet", lambda path: sources.parquet_file(str(path)).__enter__().read()),
    "a mapped table": ("a.arrow", lambda path: mapped_tables.open_mapped(path)),
    "a configuration": ("run.yaml", lambda path: load_config(str(path))),
    "an override": ("run.yaml", lambda path: load_config(str(path), ["mining.k=!!python/object/apply:os.getcwd []"])),
    "the configuration of a run": ("run.yaml", lambda path: read_config(str(path.parent))),
    "marks": ("state/done/speech/part-00000.json", lambda path: read_marks(RunFolder(_top(path)), "speech")),
    "a plan": ("state/plan/speech.json", lambda path: read_status(_top(path))),
    "progress": ("state/progress.json", lambda path: read_status(_top(path))),
    "a ledger": ("ledger.parquet", lambda path: read_status(str(path.parent))),
    "a reduction": ("a.safetensors", lambda path: load_reduction(str(path))),
    "what a reduction says of itself": ("a.yaml", lambda path: load_reduction(str(path))),
    "a card": ("card.yaml", lambda path: card_beside(path.parent, "a")),
    "a BLASER": ("model.pt", lambda path: Perceptron(str(path), "ref")),
    "a training": ("step-00000001.pt", lambda path: Checkpoints(path.parent).load(1)),
}


def _top(path: Path) -> str:
    """The folder of a run that a file in it belongs to."""
    return str(next(folder for folder in path.parents if folder.name == "run"))


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("reader", READERS)
def test_a_hostile_file_does_nothing(reader: str, kind: str, tmp_path: Path) -> None:
    name, read = READERS[reader]
    path = tmp_path / "run" / name
    path.parent.mkdir(parents=True)
    if path.name.startswith("a."):  # the other half of a reduction
        (path.parent / "a.yaml").write_text("{}")
        (path.parent / "a.safetensors").write_bytes(_sealed(tmp_path / "other"))
    if name.startswith("state"):
        (tmp_path / "run" / "run.yaml").write_text("directions: [eng-frA]")
    path.write_bytes(FILES[kind](tmp_path / "made"))
    try:
        read(path)
    except (SeamlessAlignError, ValueError, zipfile.BadZipFile) as error:
        assert "\n" not in str(error) or not isinstance(error, SeamlessAlignError)
    assert not (tmp_path / "made").exists() and not (tmp_path / "other").exists()
