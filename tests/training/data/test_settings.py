"""The settings of data: every kind of source with its own keys, and mistakes told in one line."""

from pathlib import Path
from typing import Any

import pytest

from seamlessalign.errors import ConfigError
from seamlessalign.training.data.settings import ChoiceSettings, TranslationData
from seamlessalign.typed_config import checked
from tests.training.data.data_world import data_of

CORPUS = {"kind": "corpus", "path": "run"}
COLUMNS = {"kind": "parquet", "path": "a.parquet", "src": {"lang": "fra", "audio": "clip"}}


def _told(**keys: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        checked(TranslationData, {"train": [CORPUS], "tasks": ["asr"]} | keys, "a.yaml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"train": [CORPUS | {"wieght": 1}]}, "unknown key 'train.0.wieght'; did you mean 'weight'?"),
        ({"train": [{"kind": "corpus"}]}, "train.0.path: field required"),
        ({"train": [{"path": "run"}]}, "train.0: needs the key kind"),
        ({"train": [CORPUS | {"kind": "corpsu"}]}, "train.0.kind: should be 'corpus', 'parquet',"),
        ({"train": [CORPUS | {"split": "x"}]}, "unknown key 'train.0.split'"),
        ({"train": [COLUMNS | {"src": {"lang": "fra"}}]}, "train.0.src: give audio, text or both"),
        ({"train": [COLUMNS | {"src": {"audio": "clip"}}]}, "train.0.src: give lang or lang_column"),
        ({"train": [COLUMNS | {"src": {"lang": "fr1", "text": "a"}}]}, "train.0.src: language 'fr1' is not in the"),
        (
            {"train": [COLUMNS | {"src": {"lang": "fra", "txt": "a"}}]},
            "unknown key 'train.0.src.txt'; did you mean 'text'",
        ),
        ({"train": [COLUMNS | {"units": "units"}]}, "train.0: units are joined by id: name that column"),
        ({"train": [{"kind": "espeak", "path": "a"}]}, "train.0: give pairs of languages, or lang"),
        ({"train": [{"kind": "text", "path": "a", "pairs": [["eng", "frx"]]}]}, "train.0: language 'frx'"),
        ({"tasks": ["asrr"]}, "tasks.asrr: input should be 'asr'"),
        ({"tasks": {"asr": {"langs": ["eng"]}}}, "unknown key 'tasks.asr.langs'"),
        ({"tasks": []}, "tasks: dictionary should have at least 1 item"),
        ({"choice": {"max_hours": {"eng": 3}}}, "choice.max_hours.eng"),
        ({"augment": {"noises": "musan"}}, "augment: noises are heard in the share `noise` of speech, which is 0"),
        ({"augment": {"codecs": ["mp4"]}}, "augment.codecs.0: input should be 'phone', 'gsm'"),
        ({"limits": {"min_seconds": 60}}, "limits: min_seconds 60 is above max_seconds 50"),
    ],
)
def test_a_mistake_is_told(keys: dict[str, Any], message: str) -> None:
    assert message in _told(**keys)


def test_tasks_may_be_a_list() -> None:
    assert data_of(CORPUS, tasks=["asr", "s2tt"]) == data_of(CORPUS, tasks={"asr": {}, "s2tt": {}})


def test_paths_are_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    hub: dict[str, Any] = {"kind": "hf", "src": {"lang": "fra", "audio": "clip"}}
    sources: list[dict[str, Any]] = [
        CORPUS | {"units": "units"},
        hub | {"path": "set"},
        hub | {"path": "google/fleurs"},
    ]
    augment = {"noise": 0.5, "noises": "musan"}
    data = data_of(*sources, validation=[CORPUS], augment=augment).beside(tmp_path / "a.yaml")
    assert data.augment.noises == f"{tmp_path}/musan"
    assert [source.path for source in data.train] == [f"{tmp_path}/run", f"{tmp_path}/set", "google/fleurs"]
    assert [getattr(source, "units", None) for source in data.train] == [f"{tmp_path}/units", None, None]
    assert data.validation[0].path == f"{tmp_path}/run"


def test_the_first_pattern_that_fits_counts() -> None:
    limits = ChoiceSettings(max_hours={"rus-eng": 1, "*-eng": 2, "*-*": 3}, total_hours={"eng-*": 4})
    found = [limits.hours(*pair) for pair in (("rus", "eng"), ("fra", "eng"), ("eng", "fra"))]
    assert found == [(1, None), (2, None), (3, 4)]
