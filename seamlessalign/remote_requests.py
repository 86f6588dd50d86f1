"""Requests to object stores and whatever else fsspec reaches, one or many at a time; what fails is asked for again.

A driver's own retries are few, so that the two do not multiply: they are for the parts of large uploads.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from seamlessalign.errors import AddressError, MissingPackageError, StorageError
from seamlessalign.retries import ShortBodyError, Tries, is_transient
from seamlessalign.secrets import redact_uri
from seamlessalign.web_files import WebFiles

AT_ONCE = 32  # requests under way
_EXTRA_OF_SCHEME = {
    "s3": ("s3fs", "s3"),
    "gs": ("gcsfs", "gcp"),
    "gcs": ("gcsfs", "gcp"),
}
# No other that fsspec knows: some log in elsewhere (ssh), others lead on to any address (reference, simplecache, zip).
_SCHEMES = ("file", "s3", "gs", "gcs", "http", "https", "memory")
# of botocore: seconds without a byte, and attempts at one request
_S3_CLIENT = {
    "connect_timeout": 10,
    "read_timeout": 30,
    "retries": {"mode": "standard", "total_max_attempts": 3},
    "max_pool_connections": AT_ONCE,
}


def filesystem(uri: str) -> tuple[Any, str]:
    """The file system of a uri, as fsspec has them, and the path inside it.

    Raises AddressError for addresses of other kinds, and a named error where a driver is missing.
    """
    scheme = uri.partition("://")[0].lower()
    if scheme not in _SCHEMES:
        kinds = ", ".join(f"{name}://" for name in _SCHEMES)
        raise AddressError(
            f"{redact_uri(uri)!r}: {scheme}:// is no kind of address that is read: {kinds} are, and paths"
        )
    if scheme in ("http", "https"):
        return WebFiles(), uri
    import fsspec

    try:
        kind = fsspec.get_filesystem_class(scheme)
        options: dict[str, Any] = {"use_listings_cache": False}  # other processes write here too
        if _is_s3(kind):
            # what the user says in fsspec's own configuration goes before
            said = {key: value for name in ("s3", "s3a") for key, value in fsspec.config.conf.get(name, {}).items()}
            # one request for a small file, without asking for its size first
            options |= {"max_concurrency": 1, "config_kwargs": {**_S3_CLIENT, **said.get("config_kwargs", {})}}
        fs = kind(**options, **kind._get_kwargs_from_urls(uri))
        if _is_s3(kind):
            fs.retries = 1
        if _is_async(fs):
            fs.batch_size = AT_ONCE
        return fs, str(kind._strip_protocol(uri))
    except ImportError as error:
        package, extra = _EXTRA_OF_SCHEME.get(scheme, (scheme, "s3"))
        raise MissingPackageError(package, extra, f"reading {scheme}:// addresses") from error
    except ValueError as error:
        raise StorageError(f"{uri}: {error}") from error


def infos(uris: Sequence[str]) -> dict[str, dict[str, Any] | OSError]:
    """What the store says of files or folders of one place, asked for many at a time; or why it says nothing."""
    if not uris:
        return {}
    fs, _ = filesystem(uris[0])
    paths = [filesystem(uri)[1] for uri in uris]

    def ask(numbers: Sequence[int]) -> list[Any]:
        return at_once(fs, fs._info if _is_async(fs) else fs.info, [paths[number] for number in numbers])

    found = until_all(uris, "cannot be looked at", ask, keep=(FileNotFoundError, PermissionError))
    return dict(zip(uris, found, strict=True))


def pieces(uris: Sequence[str], ranges: Sequence[tuple[int | None, int | None]]) -> list[bytes]:
    """Ranges of bytes of files of one place, all at once."""
    if not uris:
        return []
    fs, _ = filesystem(uris[0])
    paths = [filesystem(uri)[1] for uri in uris]

    def ask(numbers: Sequence[int]) -> list[Any]:
        starts, ends = ([ranges[number][side] for number in numbers] for side in (0, 1))
        answers = fs.cat_ranges([paths[number] for number in numbers], starts, ends, on_error="return")
        return [_whole(answer, *ranges[number]) for number, answer in zip(numbers, answers, strict=True)]

    return until_all(uris, "cannot be read", ask)


def _whole(answer: Any, start: int | None, end: int | None) -> Any:
    """The bytes of a range, or an error where these are not all."""
    if isinstance(answer, Exception):
        return answer
    if start is not None and end is not None and len(answer) != end - start:
        return ShortBodyError(f"{len(answer)} bytes came of {end - start}")
    return bytes(answer)


def until_all(
    uris: Sequence[str], what: str, ask: Callable[[Sequence[int]], list[Any]], keep: tuple[type[Exception], ...] = ()
) -> list[Any]:
    """What is answered for each of many; those with an error that may pass are asked for again, all at once.

    `ask` is given the places of those that are wanted. Errors of a kind to `keep` are answers.
    """
    found: dict[int, Any] = {}
    waiting = list(range(len(uris)))
    tries: Tries | None = None
    while waiting:
        failed: list[tuple[int, Exception]] = []
        for number, answer in zip(waiting, ask(waiting), strict=True):
            if isinstance(answer, Exception) and not isinstance(answer, keep):
                failed.append((number, answer))
            else:
                found[number] = answer
        waiting = [number for number, _ in failed]
        if failed:
            # what cannot be mended is told first
            number, error = next((one for one in failed if not is_transient(one[1])), failed[0])
            tries = tries or Tries(uris[number], what)
            tries.uri = uris[number]
            tries.failed(error)
    return [found[number] for number in range(len(uris))]


def at_once(fs: Any, do: Callable[[Any], Any], things: Sequence[Any]) -> list[Any]:
    """What comes of doing something to each of many, or its error: many at a time where the driver can."""
    if not _is_async(fs):
        return [_answer(do, one) for one in things]
    from fsspec.asyn import sync

    async def do_all() -> list[Any]:
        gate = asyncio.Semaphore(AT_ONCE)

        async def do_one(one: Any) -> Any:
            async with gate:
                return await do(one)

        return await asyncio.gather(*map(do_one, things), return_exceptions=True)

    answers: list[Any] = sync(fs.loop, do_all)
    return answers


def _answer(do: Callable[[Any], Any], one: Any) -> Any:
    try:
        return do(one)
    except Exception as error:  # noqa: BLE001  every driver has errors of its own
        return error


def remove_names(uri: str, fs: Any, names: Sequence[str]) -> None:
    """Remove files by their paths, none of which is a pattern."""

    def ask(numbers: Sequence[int]) -> list[Any]:
        return at_once(fs, fs._rm_file if _is_async(fs) else fs.rm_file, [names[number] for number in numbers])

    until_all([uri] * len(names), "cannot be removed", ask, keep=(FileNotFoundError,))


def _is_s3(kind: Any) -> bool:
    return "s3" in (kind.protocol if isinstance(kind.protocol, list | tuple) else (kind.protocol,))


def _is_async(fs: Any) -> bool:
    return bool(getattr(fs, "async_impl", False))
