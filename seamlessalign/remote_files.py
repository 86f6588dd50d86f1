"""Files in object stores and other places that fsspec reaches: every request is bounded in time and tried again.

Each function takes a uri. What may pass by itself is tried again (`retries`); then StorageError is raised, which is no
OSError, so that a store that is down is never taken for an input that cannot be read. What is final is raised at once:
FileNotFoundError, PermissionError and other kinds of OSError by reading, StorageError by writing.

A driver's own retries are few, so that the two do not multiply: they are for the parts of large files.
"""

import asyncio
import contextlib
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from seamlessalign.errors import AddressError, MissingPackageError, StorageError
from seamlessalign.retries import ShortBodyError, Tries, is_transient, retrying, status_of
from seamlessalign.secrets import redact_uri
from seamlessalign.web_files import WebFiles

BLOCK = 8 << 20  # bytes of a large file that one request fetches
AT_ONCE = 32  # requests under way
_BLOCKS_AT_ONCE = 8  # of one file
_FILES_AT_ONCE = 2048  # of which one list of answers is kept
_BUFFER = 1 << 18  # bytes between a file's reader and its driver
_MULTIPART = 100 << 20  # bytes from which on s3fs uploads in parts
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
        if getattr(fs, "async_impl", False):
            fs.batch_size = AT_ONCE
        return fs, str(kind._strip_protocol(uri))
    except ImportError as error:
        package, extra = _EXTRA_OF_SCHEME.get(scheme, (scheme, "s3"))
        raise MissingPackageError(package, extra, f"reading {scheme}:// addresses") from error
    except ValueError as error:
        raise StorageError(f"{uri}: {error}") from error


def info(uri: str) -> dict[str, Any]:
    """What the store says of a file or folder. Raises FileNotFoundError where there is none."""
    fs, path = filesystem(uri)
    found: dict[str, Any] = retrying(uri, "cannot be looked at", lambda: fs.info(path))
    return found


def list_names(uri: str) -> list[str]:
    """The paths of all files below a folder, or of the file itself, sorted."""
    fs, path = filesystem(uri)
    fs.invalidate_cache()
    try:
        found = retrying(uri, "cannot be listed", lambda: fs.find(path))
    except FileNotFoundError:
        return []
    return sorted(name for name in found if not name.endswith("/"))  # which is how consoles mark folders


def glob_names(uri: str) -> list[str]:
    """The paths of the files that match a pattern, sorted.

    fsspec's own passes over folders whose listing fails.
    """
    from fsspec.utils import glob_translate

    fs, path = filesystem(uri)
    fs.invalidate_cache()
    parts = path.split("/")
    first = next((number for number, part in enumerate(parts) if any(sign in part for sign in "*?[")), len(parts))
    root = "/".join(parts[:first])
    if first == len(parts):
        return list_names(uri)
    if not root:
        raise StorageError(f"{uri}: the pattern begins with the bucket: name it")

    def listing(folder: str) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = retrying(uri, "cannot be listed", lambda: fs.ls(folder, detail=True))
            return found
        except (FileNotFoundError, NotADirectoryError):
            return []

    matches = re.compile(glob_translate(path)).match
    folders = [root]
    for number in range(first, len(parts)):
        if "**" in parts[number]:
            below = (name for folder in folders for name in list_names(_with_scheme(uri, folder)))
            return sorted({name for name in below if matches(name)})
        among = re.compile(glob_translate(parts[number])).match
        found = [one for folder in folders for one in listing(folder)]
        found = [one for one in found if among(one["name"].rstrip("/").rsplit("/", 1)[-1])]
        wanted = "file" if number == len(parts) - 1 else "directory"
        folders = sorted({one["name"].rstrip("/") for one in found if one["type"] == wanted})
    return [name for name in folders if matches(name)]


def read_bytes(uri: str) -> bytes:
    """All bytes of a file, of a large one in blocks."""
    out = io.BytesIO()
    _fetch(uri, out)
    return out.getvalue()


def read_many(uris: Sequence[str]) -> dict[str, bytes]:
    """All bytes of small files, many at a time."""
    found: dict[str, bytes] = {}
    for begin in range(0, len(uris), _FILES_AT_ONCE):
        some = uris[begin : begin + _FILES_AT_ONCE]
        found.update(zip(some, _pieces(some, [(None, None)] * len(some)), strict=True))
    return found


def download(uri: str, target: Path) -> None:
    """Write the bytes of a file to a local one."""
    with target.open("wb") as out:
        _fetch(uri, out)


def open_read(uri: str) -> BinaryIO:
    """A binary file object, whose reads are tried again."""
    fs, path = filesystem(uri)
    opened = retrying(uri, "cannot be read", lambda: fs.open(path, "rb", block_size=BLOCK))
    return io.BufferedReader(_Reads(uri, opened), _BUFFER)


def write(uri: str, data: bytes) -> None:
    """Write a whole file."""
    fs, path = filesystem(uri)
    _put(uri, fs, path, len(data), lambda options: fs.pipe_file(path, data, **options))


def upload(uri: str, source: Path) -> None:
    """Write a whole file from a local one."""
    fs, path = filesystem(uri)
    size = source.stat().st_size
    _put(uri, fs, path, size, lambda options: fs.put_file(str(source), path, **options))


def read_tagged(uri: str) -> tuple[bytes, str] | None:
    """A small file and its tag, which another one under that name will not have; None where there is none.

    Where both are read while it is written anew, the tag is the older one's, with which nothing can be written.
    """
    try:
        tag = version(info(uri))
        return read_bytes(uri), tag
    except FileNotFoundError:
        return None


def write_if(uri: str, data: bytes, tag: str | None) -> bool:
    """Write a small file if the one that is there has this tag, or, with None, if there is none; whether it was so.

    S3 and Google's store decide that by themselves. Elsewhere somebody may come between asking and writing.
    """
    fs, path = filesystem(uri)
    conditions: dict[str, Any] = {"mode": "create"}
    if tag is not None:
        conditions = {"IfMatch": tag.partition(" ")[2]} if hasattr(fs, "call_s3") else {}

    def ask() -> bool | None:
        if not conditions:
            return None
        try:
            fs.pipe_file(path, data, **conditions)
            return True
        except Exception as error:
            if isinstance(error, FileExistsError | FileNotFoundError) or status_of(error) in (404, 412):
                return False
            if isinstance(error, TypeError | NotImplementedError) or status_of(error) == 501:
                return None  # it knows no conditions
            raise

    written = retrying(uri, "cannot be written", ask)
    if written is None:
        there = read_tagged(uri)
        if (there[1] if there else None) != tag:
            return False
        write(uri, data)
        return True
    if not written:  # it may be ours, of an attempt whose answer was lost
        there = read_tagged(uri)
        return there is not None and there[0] == data
    return True


def remove(uri: str) -> None:
    """Remove a file, or a folder with everything below it."""
    fs, path = filesystem(uri)
    names = list_names(uri)
    _remove_names(uri, fs, names)
    plain = not any(sign in path for sign in "*?[")  # fsspec would take it for a pattern
    if names and plain and not hasattr(fs, "call_s3"):  # elsewhere folders are something by themselves
        with contextlib.suppress(FileNotFoundError):
            retrying(uri, "cannot be removed", lambda: fs.rm(path, recursive=True))


def remove_many(uris: Sequence[str]) -> None:
    """Remove files, those of one folder at a time, and of those only what is there."""
    folders: dict[str, set[str]] = {}
    for uri in uris:
        folders.setdefault(uri.rpartition("/")[0], set()).add(uri)
    for folder, wanted in folders.items():
        fs, _ = filesystem(folder)
        paths = {filesystem(uri)[1] for uri in wanted}
        _remove_names(folder, fs, [name for name in list_names(folder) if name in paths])


def abort_uploads(uri: str) -> int:
    """Abort the uploads in parts that were begun below a folder, or of a file, and never ended; how many there were.

    Their parts are under no name, but cost room. Stores that do not list them, or not to us, have none for all we know.
    """
    fs, path = filesystem(uri)
    if not hasattr(fs, "call_s3"):
        return 0
    bucket, key, _ = fs.split_path(path)
    begun: list[tuple[str, str]] = []
    more: dict[str, str] = {}
    try:
        while True:
            page = retrying(uri, "cannot be listed", lambda: _uploads(fs, bucket, key, more))
            begun += [(one["Key"], one["UploadId"]) for one in page.get("Uploads") or []]
            if not page.get("IsTruncated"):
                break
            more.update(KeyMarker=page.get("NextKeyMarker", ""), UploadIdMarker=page.get("NextUploadIdMarker", ""))
        begun = [(name, number) for name, number in begun if name == key or name.startswith(f"{key.rstrip('/')}/")]
        for name, number in begun:
            retrying(uri, "cannot be aborted", lambda one=name, id=number: fs.abort_mpu(bucket, one, id))  # type: ignore[misc]
    except OSError:
        return 0
    return len(begun)


def _uploads(fs: Any, bucket: str, key: str, more: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=key, **more)
    return found


# --- how


class _Reads(io.RawIOBase):
    """A file that fsspec has opened, read from wherever one stands until what was asked for is there."""

    def __init__(self, uri: str, opened: Any) -> None:
        self._uri, self._opened = uri, opened
        self._size: int | None = getattr(opened, "size", None)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._size is not None

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if self._size is None:
            raise io.UnsupportedOperation("seek")
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(start + offset, 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        if self._size is None:  # a stream that knows no way back
            data = self._opened.read(len(view))
        else:
            wanted = max(0, min(len(view), self._size - self._at))
            data = retrying(self._uri, "cannot be read", lambda: self._read(wanted)) if wanted else b""
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._opened.close()
        super().close()

    def _read(self, wanted: int) -> bytes:
        self._opened.seek(self._at)
        try:
            data: bytes = self._opened.read(wanted)
        except IndexError as error:  # of s3fs, which looks for what a timeout does not tell
            raise error.__context__ or error from None
        if len(data) != wanted:
            raise ShortBodyError(f"{len(data)} bytes came of {wanted}")
        return data


def _fetch(uri: str, out: Any) -> None:
    """Write all bytes of a file to a new local one, from the beginning again where it changed meanwhile."""
    tries = Tries(uri, "cannot be read")
    while True:
        about = info(uri)
        size = about.get("size")
        if about.get("type") == "directory":
            raise IsADirectoryError(21, "is a folder", uri)
        out.seek(0)
        out.truncate()
        if size is None or size <= BLOCK:
            (data,) = _pieces([uri], [(None, None)])
            out.write(data)
            if size is None or len(data) == size:
                return
            tries.failed(ShortBodyError(f"{len(data)} bytes came of {size}"))
            continue
        for begin in range(0, size, BLOCK * _BLOCKS_AT_ONCE):
            starts = range(begin, min(size, begin + BLOCK * _BLOCKS_AT_ONCE), BLOCK)
            ranges: list[tuple[int | None, int | None]] = [(start, min(size, start + BLOCK)) for start in starts]
            for data in _pieces([uri] * len(ranges), ranges):
                out.write(data)
        if version(info(uri)) == version(about):
            return
        tries.failed(ShortBodyError("it changed while it was read"))


def version(about: dict[str, Any]) -> str:
    """What is different of what `info` says of a file once it is another."""
    tag = about.get("ETag") or about.get("etag") or about.get("mtime") or about.get("created") or ""
    return f"{about.get('size')} {tag}"


def _pieces(uris: Sequence[str], ranges: Sequence[tuple[int | None, int | None]]) -> list[bytes]:
    """Ranges of bytes of files of one place, all at once; those that failed are asked for again."""
    if not uris:
        return []
    fs, _ = filesystem(uris[0])
    paths = [filesystem(uri)[1] for uri in uris]
    found: dict[int, bytes] = {}
    waiting = list(range(len(uris)))
    tries: Tries | None = None
    while waiting:
        starts, ends = ([ranges[number][side] for number in waiting] for side in (0, 1))
        answers = fs.cat_ranges([paths[number] for number in waiting], starts, ends, on_error="return")
        failed: list[tuple[int, Exception]] = []
        for number, answer in zip(waiting, answers, strict=True):
            start, end = ranges[number]
            if isinstance(answer, Exception):
                failed.append((number, answer))
            elif start is not None and end is not None and len(answer) != end - start:
                failed.append((number, ShortBodyError(f"{len(answer)} bytes came of {end - start}")))
            else:
                found[number] = bytes(answer)
        waiting = [number for number, _ in failed]
        if failed:
            # what cannot be mended is told first
            number, error = next((one for one in failed if not is_transient(one[1])), failed[0])
            tries = tries or Tries(uris[number], "cannot be read")
            tries.uri = uris[number]
            tries.failed(error)
    return [found[number] for number in range(len(uris))]


def _put(uri: str, fs: Any, path: str, size: int, put: Callable[[dict[str, Any]], object]) -> None:
    """Write a file in one piece or in parts that appear as one; what was begun in vain is aborted."""
    in_parts = hasattr(fs, "call_s3") and size >= _MULTIPART
    tries = Tries(uri, "cannot be written")
    while True:
        try:
            put({"max_concurrency": 4} if in_parts else {})
            return
        except Exception as error:  # noqa: BLE001  every driver has errors of its own
            if in_parts:  # s3fs aborts too, but while parts are still under way, and once only
                with contextlib.suppress(Exception):
                    abort_uploads(uri)
            try:
                tries.failed(error)
            except OSError as final:
                raise StorageError(f"{uri}: cannot be written: {final.strerror}") from error


def _remove_names(uri: str, fs: Any, names: Sequence[str]) -> None:
    """Remove files by their paths, none of which is a pattern."""
    if not names:
        return
    if not getattr(fs, "async_impl", False):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                retrying(uri, "cannot be removed", lambda name=name: fs.rm_file(name))  # type: ignore[misc]
        return
    waiting, tries = list(names), Tries(uri, "cannot be removed")
    while waiting:
        failed = _remove_at_once(fs, waiting)
        waiting = list(failed)
        if failed:
            tries.failed(next((error for error in failed.values() if not is_transient(error)), failed[waiting[0]]))


def _remove_at_once(fs: Any, names: Sequence[str]) -> dict[str, Exception]:
    """Remove files, many at a time; the errors of those that are still there."""
    from fsspec.asyn import sync

    async def remove_all() -> list[Any]:
        gate = asyncio.Semaphore(AT_ONCE)

        async def remove_one(name: str) -> None:
            async with gate:
                await fs._rm_file(name)

        return await asyncio.gather(*map(remove_one, names), return_exceptions=True)

    answers = sync(fs.loop, remove_all)
    return {
        name: answer
        for name, answer in zip(names, answers, strict=True)
        if isinstance(answer, Exception) and not isinstance(answer, FileNotFoundError)
    }


def _is_s3(kind: Any) -> bool:
    return "s3" in (kind.protocol if isinstance(kind.protocol, list | tuple) else (kind.protocol,))


def _with_scheme(uri: str, path: str) -> str:
    """The uri of a path in the same place as another."""
    return f"{urlsplit(uri).scheme}://{path.lstrip('/')}"
