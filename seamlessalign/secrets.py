"""Secrets: what of a uri is one, and text without any, for everything that is printed or written.

`redact` is the last net under messages and logs. It knows secrets by the place they stand in (before the `@` of an
address, in a query parameter with such a name, behind `Authorization:`), by their look (keys of AWS and other services,
private keys), and, in any text at all, the values that the environment has under names such as `HF_TOKEN`. A secret
that has none of these cannot be known. Uris are not left to it: `secret_in` finds what they carry, and those that
carry something are refused where they are named, before they reach a table.
"""

import json
import logging
import os
import re
from collections.abc import Callable
from urllib.parse import quote, quote_plus, unquote

REDACTED = "***"
WHERE_TO_PUT_IT = "leave it out of the address: give it in the environment, ~/.aws/credentials or ~/.netrc"

_SHORTEST = 4  # characters of a value of the environment; shorter ones are no secrets, and everywhere
_SHORTEST_ANYWHERE = 8  # from which it is looked for inside of words too
_ENVIRONMENT = re.compile(
    r"(?:.*_)?(?:PASSWORD|PASSWD|PASS|PASSPHRASE|TOKEN|SECRET|SECRET_KEY|API_?KEY|ACCESS_KEY|ACCESS_KEY_ID|PRIVATE_KEY"
    r"|ENCRYPTION_KEY|SIGNING_KEY|ACCOUNT_KEY|SAS|PAT|COOKIE|CONNECTION_STRING)"
    r"|.*PASSWORD|.+_(?:KEY|PWD)",  # PGPASSWORD, OPENAI_KEY, MYSQL_PWD; not PWD
    re.IGNORECASE,
)
_PLAIN_VALUES = {"true", "false", "none", "null", "auto"}

_PARAMETERS = {  # names without - and _, in lower case
    "signature", "sig", "token", "auth", "authorization", "credential", "credentials", "password", "passwd", "pwd",
    "secret", "secretkey", "apikey", "accesskey", "accesskeyid", "awsaccesskeyid", "jwt", "bearer", "sastoken", "hmac",
    "hdnts", "hdnea", "sessionid", "authkey", "privatekey",
}  # fmt: skip
_PARAMETER_ENDS = (
    "signature", "accesstoken", "authtoken", "securitytoken", "sessiontoken", "refreshtoken", "idtoken", "usertoken",
    "apitoken", "credential", "password", "secret", "apikey", "accesskey", "secretkey",
)  # fmt: skip
_PARAMETER = re.compile(r"(?P<before>[?&;#])(?P<name>[^=&;#?\s'\"<>]{1,80})=(?P<value>[^&;#\s'\"<>\\]+)")
_USER = re.compile(r"://[^/?#\s]*@")
_BROKEN_USER = re.compile(r"://[^/?#\s@:]*:(?!\d*(?:[/?#\s'\"]|$))\S{0,300}@")  # a password with / ? or # in it
_LOOKS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"  # AWS
    r"|\bAIza[0-9A-Za-z_-]{35}|\bya29\.[0-9A-Za-z_.*-]{10,}"  # Google
    r"|\bgh[a-z]_[0-9A-Za-z]{20,}|\bgithub_pat_[0-9A-Za-z_]{20,}|\bglpat-[0-9A-Za-z_-]{16,}"  # code hosts
    r"|\bhf_[0-9A-Za-z]{20,}|\bxox[a-z]-[0-9A-Za-z-]{10,}|\bsk-[0-9A-Za-z_-]{20,}"
    r"|\beyJ[0-9A-Za-z_-]{8,}\.eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]*",  # JSON web tokens
    re.DOTALL,
)
_HEADER = re.compile(r"(?P<before>\b(?:proxy-)?authorization['\"]?\s*[:=]\s*['\"]?)[^\r\n'\"]+", re.IGNORECASE)
_BEARER = re.compile(r"(?P<before>\bbearer\s+)[0-9A-Za-z._~+/*-]{8,}=*", re.IGNORECASE)
_SETTING = re.compile(  # secret_access_key = …, "password": "…", and so on
    r"(?P<before>(?:password|passwd|passphrase|secret|secret_?(?:access_?)?key|api_?key|access_?key(?:_?id)?"
    r"|(?:access|auth|refresh|session|security|api|hf)_?token)(?:['\"]\s*:|\s*=)\s*['\"]?)(?P<value>[^\s'\",;&}]+)",
    re.IGNORECASE,
)


def secret_in(uri: str) -> str | None:
    """What of an address is a secret, in words that do not tell it; None where nothing is, as in every local path."""
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme.lower() == "file":
        return None
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in host and (":" in host.rpartition("@")[0] or scheme.lower() in ("http", "https")):
        return "a user's name or password"
    if _BROKEN_USER.search(uri):
        return "a user's name or password"
    for name, value in _parameters(uri):
        if _is_secret_parameter(name) and value:
            return f"the parameter {unquote(name)!r}, which is a secret"
        inner = unquote(value)
        if inner != value and secret_in(inner) is not None:
            return f"an address with a secret in it as the parameter {unquote(name)!r}"
    if _LOOKS.search(uri) or _LOOKS.search(unquote(uri)):
        return "an access key"
    return None


def redact_uri(uri: str) -> str:
    """An address without what is secret in it; one that has nothing comes back as it is."""
    if secret_in(uri) is None:
        return uri
    scheme, _, rest = uri.partition("://")
    user = ""
    if _BROKEN_USER.search(uri):
        rest, user = rest.rpartition("@")[2], f"{REDACTED}@"
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in host:
        rest, user = rest[host.rindex("@") + 1 :], f"{REDACTED}@"
    place, *query = re.split(r"[?#]", rest, maxsplit=1)  # which of its parameters are harmless is not worth a guess
    return redact(f"{scheme}://{user}{place}{f'?{REDACTED}' if query else ''}")


def redact(text: str) -> str:
    """The text with `***` in place of every secret that can be known as one. What is redacted stays as it is."""
    values = _environment_values()
    for _ in range(4):  # what one step leaves may be joined to what another knows; almost always the first is the last
        once = _redact_once(text, values)
        if once == text:
            break
        text = once
    return text


class RedactingFormatter(logging.Formatter):
    """Messages and traces of logs without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one text, redacted."""
        return redact(super().format(record))


def log_redacted(level: int) -> None:
    """Have this process log to stderr in our form, without secrets."""
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter("seamlessalign: %(message)s"))
    logging.basicConfig(handlers=[handler], level=level)


def _redact_once(text: str, values: re.Pattern[str] | None) -> str:
    if values is not None:
        text = values.sub(REDACTED, text)
    text = _LOOKS.sub(REDACTED, text)
    if "://" in text:
        text = _BROKEN_USER.sub(f"://{REDACTED}@", _USER.sub(f"://{REDACTED}@", text))
    text = _PARAMETER.sub(_redact_parameter, text)
    text = _HEADER.sub(_keep_before, text)
    text = _BEARER.sub(_keep_before, text)
    return _SETTING.sub(_keep_before, text)


def _keep_before(found: re.Match[str]) -> str:
    return found["before"] + REDACTED


def _redact_parameter(found: re.Match[str]) -> str:
    name, value = found["name"], found["value"]
    inner = unquote(value)
    nested = inner != value and secret_in(inner) is not None
    if not nested and not _is_secret_parameter(name):
        return found[0]
    return f"{found['before']}{name}={REDACTED}"


def _parameters(uri: str) -> list[tuple[str, str]]:
    """Names and values of a uri's query and fragment."""
    parts = re.split(r"[?&;#]", uri)[1:]
    return [(name, value) for name, equals, value in (part.partition("=") for part in parts) if equals]


def _is_secret_parameter(name: str) -> bool:
    plain = re.sub(r"[^a-z0-9]", "", unquote(name).lower())
    return plain in _PARAMETERS or plain.endswith(_PARAMETER_ENDS)


def _environment_values() -> re.Pattern[str] | None:
    """Whatever the environment keeps secret, in all the ways in which it may be written; None where there is nothing.

    Values of four to seven characters are found as whole words only: inside of others they would be chance.
    """
    writings: tuple[Callable[[str], str], ...] = (
        str,
        quote,
        quote_plus,
        lambda value: quote(value, safe=""),
        lambda value: json.dumps(value)[1:-1],
        lambda value: json.dumps(value, ensure_ascii=False)[1:-1],
        lambda value: repr(value)[1:-1],
    )
    found: set[str] = set()
    for name, value in os.environ.items():
        value = value.strip()
        if len(value) < _SHORTEST or value.lower() in _PLAIN_VALUES or not value.strip("*"):
            continue
        if _ENVIRONMENT.fullmatch(name):
            try:
                found.update(write(value) for write in writings)
            except UnicodeEncodeError:  # bytes that are no text
                found.add(value)
    if not found:
        return None
    longest_first = sorted(found, key=len, reverse=True)
    return re.compile(
        "|".join(
            re.escape(value) if len(value) >= _SHORTEST_ANYWHERE else rf"(?<!\w){re.escape(value)}(?!\w)"
            for value in longest_first
        )
    )
