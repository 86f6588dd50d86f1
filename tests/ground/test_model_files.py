"""Where models come from: the order of places, and what is refused. Models here are a few bytes, the hub a folder."""

import hashlib
import importlib.resources
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from seamlessalign import model_files
from seamlessalign.errors import ModelError
from seamlessalign.model_files import KNOWN_MODELS, KnownModel, describe_models, find_model, read_weights

NAME = "toy"
PARTS = (b"first part, ", b"second part")


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub; the hub itself is not asked."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="the hub's client comes with transformers")
    folder = tmp_path / "hub cache"
    folder.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return folder


@pytest.fixture
def toy(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> KnownModel:
    """A known model of two files, that may lie in a directory, on the hub, or in two packages."""
    model = KnownModel(
        NAME,
        "a toy",
        ("model.safetensors", "model.other"),
        ("config.json",),
        "someone/toy",
        (("toy_part1", "data/w.part1"), ("toy_part2", "w.part2")),
        hashlib.sha256(b"".join(PARTS)).hexdigest(),
    )
    monkeypatch.setitem(KNOWN_MODELS, NAME, model)
    return model


def _directory(folder: Path, weights: bytes = b"weights", name: str = "model.safetensors") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(weights)
    (folder / "config.json").write_text("{}")
    return folder


def _cached(hub_cache: Path, weights: bytes = b"from the hub") -> Path:
    """What the hub's client leaves after a download."""
    repository = hub_cache / "models--someone--toy"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    return _directory(repository / "snapshots" / ("0" * 40), weights)


def _packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, metadata: bool = True) -> Path:
    """Both packages on the path of imports."""
    site = tmp_path / "site"
    for number, (module, file) in enumerate((("toy_part1", "data/w.part1"), ("toy_part2", "w.part2"))):
        path = site / module / file
        path.parent.mkdir(parents=True, exist_ok=True)
        (site / module / "__init__.py").write_text("raise RuntimeError('a package of weights is not imported')")
        path.write_bytes(PARTS[number])
        if metadata:
            info = site / f"{module}-1.2.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module.replace('_', '-')}\nVersion: 1.2\n")
            (info / "top_level.txt").write_text(module)
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    return site


def _refused(directory: str | None = None) -> str:
    with pytest.raises(ModelError) as caught:
        find_model(NAME, directory)
    assert repr(NAME) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def test_places_are_tried_in_order(
    toy: KnownModel, hub_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = _refused()
    assert "models.toy" in message and "seamlessalign[embedded]" in message and "someone/toy" in message

    _packages(tmp_path, monkeypatch)
    packaged = find_model(NAME)
    assert packaged.origin == "package" and packaged.place == "toy-part1 1.2 + toy-part2 1.2"
    assert packaged.sha256 == toy.package_sha256 and read_weights(packaged) == b"".join(PARTS)
    assert packaged.directory == tmp_path / "site" / "toy_part1" / "data"
    assert "toy_part1" not in sys.modules or not hasattr(sys.modules["toy_part1"], "__path__")

    snapshot = _cached(hub_cache)
    cached = find_model(NAME)
    assert (cached.origin, cached.directory) == ("hub", snapshot) and "cached" in cached.place
    assert cached.sha256 == hashlib.sha256(b"from the hub").hexdigest()

    _directory(tmp_path / "shelf" / NAME, b"from the shelf")
    monkeypatch.setenv("SEAMLESSALIGN_MODELS", str(tmp_path / "shelf"))
    shelved = find_model(NAME)
    assert (shelved.origin, shelved.directory) == ("directory", tmp_path / "shelf" / NAME)

    named = find_model(NAME, str(_directory(tmp_path / "named", b"named")))
    assert read_weights(named) == b"named" and named.sha256 == hashlib.sha256(b"named").hexdigest()


def test_a_shelf_without_the_model_is_passed_over(
    toy: KnownModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _packages(tmp_path, monkeypatch)
    (tmp_path / "shelf").mkdir()
    monkeypatch.setenv("SEAMLESSALIGN_MODELS", str(tmp_path / "shelf"))
    assert find_model(NAME).origin == "package"


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json"])
def test_a_cache_that_holds_a_part_is_passed_over(
    toy: KnownModel, hub_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """Other programs fetch a tokenizer alone, and downloads break off."""
    (_cached(hub_cache) / missing).unlink()
    _packages(tmp_path, monkeypatch)
    assert find_model(NAME).origin == "package"


def test_the_hub_comes_last_and_not_when_offline(
    toy: KnownModel, hub_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def recording(model: KnownModel, *, download: bool) -> Path | None:
        asked.append(download)
        return _directory(tmp_path / "downloaded") if download else None

    monkeypatch.setattr(model_files, "_hub_snapshot", recording)
    _refused()
    assert asked == [False]  # HF_HUB_OFFLINE is set for all tests
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with pytest.raises(ModelError):
        find_model(NAME, online=False)
    assert asked == [False, False]
    assert find_model(NAME).directory == tmp_path / "downloaded"
    assert asked == [False, False, False, True]
    _packages(tmp_path, monkeypatch)
    assert find_model(NAME).origin == "package"
    assert asked[4:] == [False]


def test_the_first_kind_of_weights_that_is_there_counts(toy: KnownModel, tmp_path: Path) -> None:
    folder = _directory(tmp_path / "m", b"other", "model.other")
    assert find_model(NAME, str(folder)).weights == (folder / "model.other",)
    _directory(tmp_path / "m", b"first")
    assert find_model(NAME, str(folder)).weights == (folder / "model.safetensors",)


def test_a_directory_that_is_named_is_the_only_one_tried(
    toy: KnownModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _packages(tmp_path, monkeypatch)
    assert "is not a directory" in _refused(str(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    assert "lacks model.safetensors or model.other, config.json" in _refused(str(tmp_path / "empty"))
    (_directory(tmp_path / "half") / "config.json").unlink()
    assert "lacks config.json" in _refused(str(tmp_path / "half"))


def test_packages_with_other_weights_are_refused(
    toy: KnownModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = _packages(tmp_path, monkeypatch)
    (site / "toy_part2" / "w.part2").write_bytes(b"second pXrt")
    message = _refused()
    assert "SHA-256" in message and str(toy.package_sha256)[:12] in message and "toy-part2 1.2" in message


def test_a_package_whose_file_is_gone_is_refused(
    toy: KnownModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = _packages(tmp_path, monkeypatch)
    (site / "toy_part1" / "data" / "w.part1").unlink()
    assert "damaged" in _refused() and "install it again" in _refused()


def test_one_part_alone_is_not_the_model(toy: KnownModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    site = _packages(tmp_path, monkeypatch)
    shutil.rmtree(site / "toy_part2")
    importlib.invalidate_caches()
    assert "was not found" in _refused()


def test_packages_without_metadata(toy: KnownModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as copied into a container, or vendored."""
    _packages(tmp_path, monkeypatch, metadata=False)
    assert find_model(NAME).place == "toy_part1 + toy_part2"


def test_an_unknown_name_lists_those_that_are_known() -> None:
    with pytest.raises(ModelError, match="'whisper-bass'") as caught:
        find_model("whisper-bass")
    assert all(name in str(caught.value) for name, model in KNOWN_MODELS.items() if not model.lang)
    assert "sonar-speech-LANG" in str(caught.value) and "sonar-speech-fra" not in str(caught.value)


def test_known_models_say_where_they_can_come_from() -> None:
    for name, model in KNOWN_MODELS.items():
        assert model.name == name and model.what and model.weights
        assert (
            model.hub
            or model.packages
            or model.url
            or model.bundled
            or name in ("sentence-transformers", "student", "ecapa", "whisper", "whisper-ctranslate2")
        )
        assert bool(model.packages) == (model.package_sha256 is not None and len(model.package_sha256) == 64)


def test_the_description_is_honest(toy: KnownModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "not here; put it into a directory" in describe_models().partition("toy\n")[2]
    _packages(tmp_path, monkeypatch)
    described = describe_models().partition("toy\n")[2]
    assert "package: toy-part1 1.2" in described and str(toy.package_sha256) in described


@pytest.mark.embedded
@pytest.mark.parametrize("name", ["whisper-base", "e5-small", "fasttext-lid176"])
def test_the_packages_that_setup_cfg_pins_carry_what_is_expected(name: str, hub_cache: Path) -> None:
    missing = [module for module, _ in KNOWN_MODELS[name].packages if importlib.util.find_spec(module) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)} of the extra 'embedded'")
    found = find_model(name)
    assert found.origin == "package" and found.sha256 == KNOWN_MODELS[name].package_sha256


def test_what_the_project_carries_itself_comes_before_other_packages(
    toy: KnownModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _packages(tmp_path, monkeypatch)
    monkeypatch.setattr(importlib.resources, "files", lambda package: tmp_path)
    monkeypatch.setitem(KNOWN_MODELS, NAME, replace(toy, bundled="own/toy"))
    assert find_model(NAME).place != "seamlessalign"  # not there yet
    _directory(tmp_path / "own" / "toy", b"own")
    found = find_model(NAME)
    assert (found.origin, found.place, found.directory) == ("package", "seamlessalign", tmp_path / "own" / "toy")
    assert found.sha256 == hashlib.sha256(b"own").hexdigest()


def test_weights_are_read_once_by_a_process_unless_they_are_others(
    toy: KnownModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text("{}")
    file = tmp_path / "model.safetensors"
    read: list[str] = []
    blocks = model_files._blocks

    def counted(paths: tuple[Path, ...]) -> Iterator[bytes]:
        read.append(paths[0].name)
        return blocks(paths)

    def found() -> str:
        return find_model(NAME, str(tmp_path)).sha256

    monkeypatch.setattr(model_files, "_blocks", counted)
    file.write_bytes(b"one")
    assert found() == found() == hashlib.sha256(b"one").hexdigest()
    assert len(read) == 2  # what has just been changed may be changed again without its times telling
    monkeypatch.setattr(model_files, "_SETTLED", -1_000_000_000)
    before = file.stat()
    assert found() == found() and len(read) == 3
    time.sleep(0.05)
    file.write_bytes(b"two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert found() == found() == hashlib.sha256(b"two").hexdigest()
    assert len(read) == 4
