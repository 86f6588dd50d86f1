"""Secrets: what is known as one, what is not taken for one, and that nothing of it is left."""

import json
import logging
import os
from unittest.mock import patch
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamlessalign import secrets
from seamlessalign.secrets import REDACTED, redact, redact_uri, secret_in

QUOTES = "'\""
KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
SIGNATURE = "0f3a9b61c27d"
CARRYING = {  # address → what of it may be seen nowhere
    "https://alice:hunter2@data.org/a.wav": ("hunter2", "alice"),
    "https://ghp_0123456789abcdef0123456789abcdef0123@data.org/a.wav": ("0123456789abcdef",),
    "http://token@data.org": ("token",),
    "https://alice:p/a?s#s@data.org/a.wav": ("p/a", "s#s", "alice"),
    "https://alice:p@ss@data.org:80/a.wav": ("p@ss", "ss@", "alice"),
    "s3://AKIAIOSFODNN7EXAMPLE:secret@bucket/a.wav": ("AKIAIOSFODNN7EXAMPLE", "secret"),
    f"https://b.s3.amazonaws.com/a.wav?X-Amz-Expires=60&X-Amz-Signature={SIGNATURE}": (SIGNATURE,),
    f"https://b.s3.amazonaws.com/a.wav?x-amz-signatur%65={SIGNATURE}": (SIGNATURE,),
    f"https://storage.googleapis.com/b/a.wav?X-Goog-Signature={SIGNATURE}": (SIGNATURE,),
    f"https://x.blob.core.windows.net/c/a.wav?sv=2024&sig={SIGNATURE}%3D": (SIGNATURE,),
    f"https://data.org/a.tar?access_token={SIGNATURE}::a.wav": (SIGNATURE,),
    f"https://data.org/a.wav?a=1;token={SIGNATURE}": (SIGNATURE,),
    f"https://data.org/a.wav#token={SIGNATURE}": (SIGNATURE,),
    f"https://data.org/a.wav?AWSAccessKeyId=AKIA0000&Signature={SIGNATURE}": (SIGNATURE, "AKIA0000"),
    f"https://data.org/?u={quote(f'https://x.org/?sig={SIGNATURE}', safe='')}": (SIGNATURE,),
    f"https://data.org/?u={quote('https://alice:hunter2@x.org/', safe='')}": ("hunter2",),
    "https://data.org/AKIAIOSFODNN7EXAMPLE/a.wav": ("AKIAIOSFODNN7EXAMPLE",),
}
HARMLESS = [
    "/data/alice:hunter2@home/a.wav?sig=1",
    "file:///data/a.wav?token=1",
    "https://data.org/a.wav?key=1&x=::#channel=1",
    "https://data.org/@alice/a.wav",
    "https://data.org:8443/a@b.wav?page=3&tokens=4",
    "s3://bucket/a@b:c.wav",
    "s3://bucket/a.tar::token=1.wav",
    "http://[::1]:80/a.wav",
    "http://data.org:80",
    "gs://bucket/a.parquet::audio/12#channel=0",
]


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})


class TestAddresses:
    @pytest.mark.parametrize("uri", CARRYING)
    def test_what_they_carry_is_known_and_not_told(self, uri: str) -> None:
        told = secret_in(uri)
        assert told is not None
        shown = redact_uri(uri)
        assert REDACTED in shown and secret_in(redact_uri(shown)) == secret_in(shown)
        for text in (told, shown, redact(f"cannot read {uri!r}: no"), redact(uri), redact(json.dumps({"uri": uri}))):
            for secret in CARRYING[uri]:
                assert secret not in text.replace("access_token", "").replace("'token'", "").replace("token=", "")

    @pytest.mark.parametrize("uri", HARMLESS)
    def test_what_carries_nothing_stays(self, uri: str) -> None:
        assert secret_in(uri) is None
        assert redact_uri(uri) == uri
        if "token=1" not in uri and "sig=1" not in uri:  # of a text nobody knows which part is a local path
            assert redact(f"cannot read {uri!r}: no") == f"cannot read {uri!r}: no"

    def test_the_place_is_still_told(self) -> None:
        assert redact_uri("https://alice:hunter2@data.org/a/b.wav") == "https://***@data.org/a/b.wav"
        assert redact_uri(f"https://data.org/a/b.wav?sig={SIGNATURE}&x=1") == "https://data.org/a/b.wav?***"


class TestText:
    @pytest.mark.parametrize(
        "text",
        [
            "AKIAIOSFODNN7EXAMPLE is denied",
            "ASIAIOSFODNN7EXAMPLE",
            "Authorization: Basic YWxpY2U6aHVudGVyMg==",
            "{'Authorization': 'Bearer abcdefgh'}",
            "sent bearer abcdefgh.ijkl-_~+/= to it",
            f"aws_secret_access_key = {KEY}",
            f'{{"SecretAccessKey": "{KEY}"}}',
            "password=hunter2, user=alice",
            'the "hf_token": "hf_abcdefghijklmnopqrstuvwxyz"',
            "hf_abcdefghijklmnopqrstuvwxyz",
            "AIzaSyA-0123456789abcdefghijklmnopqrstu",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
            "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\\nMIIEpAIBAAKCAQEA",
        ],
    )
    def test_secrets_are_known_by_their_look_and_place(self, text: str) -> None:
        for part in ("IOSFODNN7", "YWxp", "abcdefgh", "wJalr", "hunter2", "0123456", "eyJz", "dozj", "MIIE"):
            assert part not in redact(text)
        assert REDACTED in redact(text)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "/data/a.wav has 3 channels and no channel 4, counted from 0",
            "a.json: Unexpected token: x at line 3",
            "pad_token=<pad> max_tokens=448",
            "override 'mining.k': the value is not YAML",
            "AKIDO is no key, nor is ASIATIC",
            "https://data.org/a.wav answers 404 Not Found; mail alice@data.org",
        ],
    )
    def test_other_text_stays(self, text: str) -> None:
        assert redact(text) == text


class TestEnvironment:
    @pytest.mark.parametrize(
        "name",
        [
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "HF_TOKEN",
            "DB_PASSWORD",
            "MY_SECRET",
            "TOKEN",
            "x_api_key",
            "PGPASSWORD",
            "OPENAI_KEY",
            "MYSQL_PWD",
        ],
    )
    def test_values_are_known_however_they_are_written(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        value = "pä ss/w+o'r\"d\\1"
        monkeypatch.setattr(os, "environ", {name: value})
        for written in (value, quote(value), quote(value, safe=""), json.dumps(value), repr(value)):
            assert redact(f"see{written}here") == f"see{written.replace(written.strip(QUOTES), REDACTED)}here"

    def test_short_ones_are_known_as_words(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "environ", {"A_TOKEN": "wave", "B_TOKEN": "on", "C_TOKEN": "true"})
        assert redact("wave, waves on wave-s: true") == f"{REDACTED}, waves on {REDACTED}-s: true"

    def test_others_stay(self, monkeypatch: pytest.MonkeyPatch) -> None:
        kept = {
            "HOME": "/home/alice",
            "GOOGLE_APPLICATION_CREDENTIALS": "/home/alice/key.json",
            "TOKENIZERS": "slow-ones",
        }
        monkeypatch.setattr(os, "environ", kept)
        text = "/home/alice/key.json slow-ones"
        assert redact(text) == text


def test_logs_are_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"HF_TOKEN": "gibberish-it-is"})
    try:
        raise ValueError("no gibberish-it-is")
    except ValueError as error:
        trace = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("a", logging.ERROR, __file__, 1, "sent %s", ("gibberish-it-is",), trace)
    text = secrets.RedactingFormatter("%(message)s").format(record)
    assert text.startswith(f"sent {REDACTED}\n") and text.endswith(f"ValueError: no {REDACTED}")
    assert "gibberish" not in text


_PIECES = st.sampled_from(
    [
        "://",
        "@",
        ":",
        "/",
        "?",
        "#",
        "&",
        "sig",
        "token",
        "=",
        "***",
        "*",
        " ",
        "'",
        "bearer ",
        "AKIA",
        "A" * 16,
        "s3cr3tval",
        "authorization:",
        "password=",
        "%40",
        "%3D",
        "http",
        "\n",
        "eyJaaaaaaaa.",
        "-----BEGIN PRIVATE KEY-----",
    ]
)


@given(st.one_of(st.text(), st.lists(_PIECES).map("".join)))
def test_what_is_redacted_stays_as_it_is(text: str) -> None:
    with patch.dict(os.environ, {"MY_TOKEN": "s3cr3tval", "B_TOKEN": "*A**A***"}):
        once = redact(text)
        assert redact(once) == once
    assert "s3cr3tval" not in once


_WORD = st.text("abcdefgh0123456789", min_size=1, max_size=9)
_SECRET = st.text("QRSTUVWXYZ-._~!$&'()*+,;=:", min_size=5, max_size=30).map(lambda text: f"X{text}")


@given(_WORD, _SECRET, _WORD)
def test_no_user_is_left_in_an_address(user: str, password: str, path: str) -> None:
    uri = f"https://{user}:{password}@data.org/{path}"
    assert secret_in(uri) is not None
    assert redact_uri(uri) == redact(uri) == f"https://***@data.org/{path}"


@given(st.sampled_from(["sig", "X-Amz-Signature", "access_token", "API_KEY"]), _SECRET)
def test_no_secret_parameter_is_left_in_an_address(name: str, value: str) -> None:
    uri = f"https://data.org/a.wav?x=1&{name}={quote(value, safe='')}&y=2"
    assert quote(value, safe="") not in redact(uri) and "&y=2" in redact(uri)
    assert redact_uri(uri) == "https://data.org/a.wav?***"
