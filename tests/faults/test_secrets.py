"""A run by the command line with secrets all around it: afterwards none is in any byte that it wrote or said."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest

from tests.ground.loopback import web_server
from tests.pipelines.small_corpus import need_models, program, write_corpus

pytestmark = [pytest.mark.slow, pytest.mark.embedded]

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIAQWERTYUIOPASDFGH",
    "AWS_SECRET_ACCESS_KEY": "zq7/Kx+secretFromTheEnvironment",
    "AWS_SESSION_TOKEN": "zq8sessionTokenFromTheEnvironment==",
    "HF_TOKEN": "hf_zq9tokenfromtheenvironmentabcd",
    "DATABASE_PASSWORD": "zq10 pass/word",
}
LISTED = {  # by what is secret in it
    "zq1password": "https://alice:zq1password@data.org/a.wav",
    "zq2signature": "https://bucket.s3.amazonaws.com/b.wav?X-Amz-Expires=60&X-Amz-Signature=zq2signature",
    "zq3token": "https://data.org/c.tar?access_token=zq3token::c.wav",
    "zq4secret": "s3://key:zq4secret@bucket/d.wav",
    "zq5nested": f"https://data.org/?to={quote('https://x.org/?sig=zq5nested', safe='')}",
}
SECRETS = [*LISTED, *ENVIRONMENT.values(), "zq6source", "zq7key", "zq8sent", "alice"]


@dataclass
class Told:
    root: Path
    run: Path
    out: str
    status: dict[str, int]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    need_models()
    root = tmp_path_factory.mktemp("secrets")
    config = write_corpus(root, {"fra-0": ("fra", (0, 1, 2))})
    lines = [{"path": uri} for uri in LISTED.values()]
    lines += [{"path": "audio/fra-0.flac#channel=0", "source": "https://data.org/?token=zq6source"}]
    lines += [{"path": "a.wav", "https://a:zq7key@b.org": "x"}]  # type: ignore[dict-item]
    manifest = root / "recordings.jsonl"
    manifest.write_text(manifest.read_text() + "".join(json.dumps(line) + "\n" for line in lines))
    with web_server(b"no sound at all") as address, pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        (root / "web.txt").write_text(f"{address}/none.wav\n{address}/moved\n")
        run = root / "run"
        said: list[str] = []
        status: dict[str, int] = {}
        asked: dict[str, list[str | Path]] = {
            "run": ["run", config, "--output", run, "speech.inputs=[recordings.jsonl, web.txt]"],
            "again": ["run", config, "--output", run, "mining.threshold=0.9", "fetch.allow_local=true"],
            "status": ["status", run, "--json"],
            "filter": ["filter", run, "--threshold", "0.8"],
            "report": ["report", run],
            "export": ["export", run, "--to", root / "exported"],
            "input": ["--debug", "run", config, "--output", run, f"speech.inputs=['{LISTED['zq1password']}']"],
            "output": ["--debug", "run", config, "--output", "https://alice:zq8sent@data.org/run"],
            "argument": ["run", config, f"--to={LISTED['zq2signature']}"],
            "model": ["--debug", "run", config, "--output", run, "models={e5-small: 'https://a:zq8sent@b.org/'}"],
            "unknown": ["--debug", "run", f"/none/{ENVIRONMENT['HF_TOKEN']}.yaml"],
        }
        asked["run"][4:] = [f"speech.inputs=['{manifest}', '{root / 'web.txt'}']", "directions=[eng-frA]"]
        asked["again"] += asked["run"][4:]
        for name, arguments in asked.items():
            done = program(*arguments, cwd=root)
            said += [done.stdout, done.stderr]
            status[name] = done.returncode
        yield Told(root, run, "\n".join(said), status)


def test_everything_was_done(told: Told) -> None:
    done = {name: told.status[name] for name in ("run", "again", "status", "filter", "report", "export")}
    assert done == {"run": 3, "again": 3, "status": 0, "filter": 3, "report": 0, "export": 0}, told.out
    refused = {name: status for name, status in told.status.items() if name not in done}
    assert refused == dict.fromkeys(("input", "output", "argument", "model", "unknown"), 2), told.out


def test_what_carries_secrets_is_set_aside_with_a_reason(told: Told) -> None:
    entries = [
        json.loads(line)
        for file in (told.run / "quarantine").glob("speech-*.jsonl")
        for line in file.read_text().splitlines()
    ]
    reasons = {entry["uri"].rpartition("/")[2]: entry["reason"] for entry in entries}
    assert reasons == {
        **{f"recordings.jsonl#line={number}": "secret_in_address" for number in range(2, 8)},
        "recordings.jsonl#line=8": "missing",  # a key that there is not
        "none.wav": "not_audio",
        "moved": "not_audio",
    }
    assert all("***" in entry["detail"] for entry in entries if entry["reason"] == "secret_in_address")


def test_no_secret_is_in_what_was_said(told: Told) -> None:
    assert "***" in told.out and "data.org" in told.out
    assert [secret for secret in SECRETS if secret in told.out or quote(secret, safe="") in told.out] == []


def test_no_secret_is_in_what_was_written(told: Told) -> None:
    files = [file for folder in (told.run, told.root / "exported") for file in folder.rglob("*") if file.is_file()]
    kinds = {file.suffix for file in files}
    assert {".parquet", ".json", ".jsonl", ".yaml", ".html"} <= kinds and (told.run / "run.yaml") in files
    for file in files:
        data = file.read_bytes()
        if file.suffix == ".parquet":  # what it says once it is unpacked
            table = pq.read_table(file)
            plain = table.drop_columns([name for name in table.column_names if name == "embedding"])
            data += repr((plain.to_pylist(), table.schema.metadata)).encode()
        found = [secret for secret in SECRETS for said in {secret, quote(secret, safe="")} if said.encode() in data]
        assert found == [], file
