"""Configuration: what is wrong is told in one line, what is right comes out the same however it was written."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from seamlessalign.config import RunConfig, dump_config, load_config, parse_config
from seamlessalign.errors import ConfigError
from seamlessalign.typed_config import digest
from seamlessalign.web_access import WebAccess

MINIMAL: dict[str, Any] = {"directions": ["eng-frA"], "speech": {"inputs": ["/a"]}, "text": {"inputs": ["/t"]}}


def _with(changes: dict[str, Any]) -> dict[str, Any]:
    """The minimal configuration with `a.b` keys set."""
    raw: dict[str, Any] = {key: dict(value) if isinstance(value, dict) else value for key, value in MINIMAL.items()}
    for key, value in changes.items():
        *parents, last = key.split(".")
        node = raw
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return raw


def _file(folder: Path, text: str) -> str:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def _told(raw: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(raw, "run.yaml")
    message = str(caught.value)
    assert message.startswith("run.yaml: ") and "\n" not in message
    return message


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key of the configuration that holds a value, with dots."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _value(config: RunConfig, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def test_defaults_are_valid_when_written_out(tmp_path: Path) -> None:
    """Defaults are not checked when they are defined; writing them down must be allowed."""
    config = parse_config(MINIMAL, "run.yaml")
    path = _file(tmp_path, yaml.safe_dump(dump_config(config)))
    assert load_config(path) == config


def test_what_run_yaml_keeps_gives_the_same_configuration() -> None:
    raw = _with({"mining.threshold": 1.06, "speech.lang": "fra", "models": {"e5-small": "/m"}, "mining.k": 4})
    config = parse_config(raw, "run.yaml")
    assert parse_config(yaml.safe_load(yaml.safe_dump(dump_config(config))), "run.yaml") == config


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("direction", "directions"),
        ("mining.treshold", "threshold"),
        ("mining.filters.max_second", "max_seconds"),
        ("speech.vad.min_silence", "min_silence_ms"),
        ("speech.lid.modell", "model"),
        ("resources.worker", "workers"),
        ("corpus.format", "audio_format"),
    ],
)
def test_an_unknown_key_names_the_nearest(key: str, nearest: str) -> None:
    message = _told(_with({key: 1}))
    assert f"unknown key {key!r}" in message and f"did you mean {nearest!r}?" in message


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"mining.k": 0}, "mining.k"),
        ({"mining.k": "many"}, "mining.k"),
        ({"mining.k": 1.5}, "mining.k"),
        ({"mining.margin": "cosine"}, "mining.margin"),
        ({"mining.threshold": "high"}, "mining.threshold"),
        ({"mining.threshold": float("nan")}, "mining.threshold"),
        ({"mining.filters.max_seconds": float("inf")}, "mining.filters.max_seconds"),
        ({"mining.filters.min_seconds": 60}, "min_seconds"),
        ({"mining.filters.min_chars_per_second": 50}, "min_chars_per_second"),
        ({"text.min_chars": 2000}, "min_chars"),
        ({"speech.vad.max_fragment_seconds": 29}, "speech.vad.max_fragment_seconds"),
        ({"speech.spans.min_seconds": 30}, "min_seconds"),
        ({"speech.spans": None}, "speech.spans"),
        ({"speech.inputs": "/a"}, "speech.inputs"),
        ({"speech.inputs": []}, "speech.inputs is empty"),
        ({"text.inputs": []}, "text.inputs is empty"),
        ({"speech.lang": False}, "speech.lang"),  # YAML 1.1 reads the code `no` so
        ({"speech.lang": "fr"}, "'fra'"),
        ({"speech.languages": ["fra", "xxx"]}, "speech.languages"),
        ({"directions": []}, "directions"),
        ({"directions": ["eng-fra"]}, "at least one side must be speech"),
        ({"directions": ["eng-frA", "eng-frA"]}, "listed twice"),
        ({"resources.workers": 0}, "resources.workers"),
        ({"resources.workers": -2}, "resources.workers"),
        ({"resources.threads": 0}, "resources.threads"),
        ({"resources.device": "gpu"}, "resources.device"),
        ({"models": {"e5-small": 3}}, "models.e5-small"),
        ({"text.split": "perhaps"}, "text.split"),
        ({"fetch.schemes": ["ftp"]}, "fetch.schemes"),
        ({"fetch.schemes": []}, "fetch.schemes"),
        ({"fetch.max_gb": 0}, "fetch.max_gb"),
    ],
    ids=str,
)
def test_a_wrong_value_is_named(changes: dict[str, Any], told: str) -> None:
    assert told in _told(_with(changes))


@pytest.mark.parametrize(
    "key", ["speech.inputs", "text.inputs", "output", "root", "models", "name", "speech.lid.calibration", "no.such.key"]
)
@pytest.mark.parametrize("uri", ["https://alice:hunter2@data.org/a", "s3://bucket/a?X-Amz-Signature=hunter2"])
def test_a_secret_is_refused_and_not_told(key: str, uri: str) -> None:
    value: Any = [uri] if key.endswith("inputs") else {"whisper-base": uri} if key == "models" else uri
    told = _told(_with({key: value, "mining.k": uri}))  # whatever else is wrong
    assert "hunter2" not in told and "***" in told
    told = _told(_with({key: value}))
    assert key in told and "hunter2" not in told and "~/.netrc" in told


def test_the_root_is_relative_to_the_file(tmp_path: Path) -> None:
    path = _file(tmp_path, yaml.safe_dump({**MINIMAL, "root": "data"}))
    assert load_config(path).root == str(tmp_path / "data")
    assert load_config(path, ["root=s3://bucket/in"]).root == "s3://bucket/in"


def test_bounds_of_fetching_are_those_of_who_fetches() -> None:
    assert parse_config(MINIMAL, "").fetch.access() == WebAccess()
    changed = parse_config(_with({"fetch": {"allow_local": True, "max_gb": 0.5, "schemes": ["https"]}}), "").fetch
    assert changed.access() == WebAccess(schemes=("https",), allow_local=True, max_bytes=2**29)


def test_a_message_is_for_people() -> None:
    assert _told(_with({"mining.k": 0})) == "run.yaml: mining.k: input should be greater than or equal to 1, not 0"
    assert "literal" not in _told(_with({"mining.threshold": "high"}))
    assert "union" not in _told(_with({"resources.workers": "all"}))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "must hold keys"),
        ("- a\n- b\n", "must hold keys"),
        ("a: [1", "is not YAML"),
        ("a: b: c", "is not YAML"),
        ("a: !!python/object:os.system {}", "is not YAML"),
        ("name: 2020-13-45", "is not YAML"),
        ("directions: [eng-frA]\n1: 2\n", "1"),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path: Path, text: str, told: str) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).startswith(path) and told in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(str(tmp_path / "none.yaml"))
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(str(tmp_path))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_config(str(tmp_path / "binary.yaml"))


def test_inputs_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "elsewhere").mkdir()
    raw = _with(
        {
            "speech.inputs": ["audio/*.wav", "/abs", "s3://bucket/a", "../up.jsonl"],
            "text.inputs": ["t.txt"],
            "models": {"e5-small": "models/e5", "whisper-base": "/w"},
        }
    )
    _file(tmp_path / "project", yaml.safe_dump(raw))
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = load_config("../project/run.yaml")
    wanted = [tmp_path / "project/audio/*.wav", Path("/abs"), None, tmp_path / "up.jsonl"]
    for uri, path in zip(config.speech.inputs, wanted, strict=True):
        assert uri == "s3://bucket/a" if path is None else Path(uri).resolve() == path
    assert Path(config.text.inputs[0]).resolve() == tmp_path / "project/t.txt"
    assert Path(config.models["e5-small"]).resolve() == tmp_path / "project/models/e5"
    assert config.models["whisper-base"] == "/w"
    # those of the command line are relative to where it is
    config = load_config("../project/run.yaml", ["speech.inputs=[a.wav, s3://bucket/a]"])
    assert config.speech.inputs == [str(tmp_path / "elsewhere/a.wav"), "s3://bucket/a"]


def test_overrides(tmp_path: Path) -> None:
    path = _file(tmp_path, yaml.safe_dump(MINIMAL))
    config = load_config(
        path,
        ["mining.k=32", "mining.threshold=1.2", "speech.languages=[fra, ita]", "models.e5-small=/m=1", "name=a b"],
        output="out",
    )
    assert (config.mining.k, config.mining.threshold, config.output) == (32, 1.2, "out")
    assert config.speech.languages == ["fra", "ita"]
    assert config.models == {"e5-small": "/m=1"} and config.name == "a b"
    assert config.speech.inputs == ["/a"]  # beside what was set, the file stands


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("mining.k", "key=value"),
        ("=3", "key=value"),
        ("mining.kk=3", "'mining.kk'"),
        ("mining..k=3", "unknown key"),
        ("mining.k=[1", "not YAML"),
        ("name=2020-13-45", "not YAML"),
        ("directions.0=eng-frA", "directions is a value"),
        ("mining.k.x=1", "mining.k"),
    ],
)
def test_an_override_that_is_wrong(tmp_path: Path, override: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(_file(tmp_path, yaml.safe_dump(MINIMAL)), [override])
    assert told in str(caught.value) and "\n" not in str(caught.value)


SETTABLE: dict[str, st.SearchStrategy[Any]] = {
    "mining.k": st.integers(1, 1000),
    "mining.threshold": st.one_of(st.just("auto"), st.floats(0, 10, allow_subnormal=False)),
    "mining.strategy": st.sampled_from(["forward", "backward", "union", "intersect", "max"]),
    "mining.centre": st.booleans(),
    "speech.lid.min_prob": st.floats(0, 1, allow_subnormal=False),
    "speech.lang": st.sampled_from(["fra", "ita", None]),
    "speech.inputs": st.lists(st.text(st.characters(categories=["L", "N", "Zs"]), min_size=1), min_size=1),
    "name": st.text(st.characters(categories=["L", "N", "P"]), min_size=1).map(lambda text: f"n{text}"),
    "resources.workers": st.one_of(st.just("auto"), st.integers(1, 64)),
}


@given(st.fixed_dictionaries({}, optional=SETTABLE))
@settings(max_examples=60, deadline=None)
def test_what_is_overridden_is_what_is_configured(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any]
) -> None:
    """A value set on the command line, in its YAML form, is the value set in the file."""
    path = _file(tmp_path_factory.getbasetemp(), yaml.safe_dump(MINIMAL))
    overrides = [f"{key}={yaml.safe_dump(value, default_flow_style=True)}" for key, value in changes.items()]
    config = load_config(path, overrides)
    if "speech.inputs" in changes:  # relative to where the command runs, not to the file
        changes = {**changes, "speech.inputs": [str(Path.cwd() / uri) for uri in changes["speech.inputs"]]}
    for key, value in changes.items():
        assert _value(config, key) == value
    assert config == parse_config(_with(changes), path)
    untouched = parse_config(MINIMAL, path)
    for key in set(_keys(RunConfig)) - set(changes):
        assert _value(config, key) == _value(untouched, key)


def test_sides_and_languages() -> None:
    raw = _with({"directions": ["eng-frA", "enA-frA", "itA-eng"]})
    config = parse_config(raw, "run.yaml")
    assert config.speech_languages() == ["eng", "fra", "ita"] and config.text_languages() == ["eng"]
    only = parse_config(_with({"speech.languages": ["deu", "deu"], "text.languages": ["spa"]}), "run.yaml")
    assert only.speech_languages() == ["deu"] and only.text_languages() == ["spa"]


def test_a_text_side_is_not_asked_of_speech_alone() -> None:
    assert parse_config({"directions": ["enA-frA"], "speech": {"inputs": ["/a"]}}, "x").text.inputs == []


def test_a_configuration_cannot_be_changed() -> None:
    config = parse_config(MINIMAL, "run.yaml")
    with pytest.raises(ValueError, match="frozen"):
        config.mining.k = 3  # type: ignore[misc]


def test_a_digest_is_the_same_in_every_process() -> None:
    """Completion marks carry digests from one run to the next: this value may only change with the defaults."""
    imports = "from seamlessalign.config import SpansConfig; from seamlessalign.typed_config import digest"
    script = f"{imports}; print(digest(SpansConfig(), {{'b': 1, 'a': [1.5, None]}}))"
    seen = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for seed in ("0", "1")
    }
    assert seen == {"54c7f0d08acade44"}


def test_a_digest_sees_values_and_not_the_order_of_keys() -> None:
    base = parse_config(MINIMAL, "x")
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest([1, 2]) != digest([2, 1])
    assert digest(base.mining) == digest(parse_config(_with({"mining.k": 16}), "x").mining)
    assert digest(base.mining) != digest(parse_config(_with({"mining.k": 17}), "x").mining)
    assert digest("a", "b") != digest("ab")
    with pytest.raises(TypeError, match="Path"):
        digest(Path("/"))
