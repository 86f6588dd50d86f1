"""Files in object stores and other places that fsspec reaches: every request is bounded in time and tried again.

Each function takes a uri. What may pass by itself is tried again (`retries`); then StorageError is raised, which is no
OSError, so that a store that is down is never taken for an input that cannot be read. What is final is raised at once:
FileNotFoundError, PermissionError and other kinds of OSError by reading, StorageError by writing.
"""

import contextlib
import errno
import io
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from seamlessalign import multipart
from seamlessalign.errors import StorageError
from seamlessalign.remote_requests import filesystem, infos, pieces, remove_names
from seamlessalign.retries import ShortBodyError, Tries, reason_of, retrying, status_of

BLOCK = 8 << 20  # bytes of a large file that one request fetches
_TAIL = 1 << 14  # bytes that are read of the end of a file
_BLOCKS_AT_ONCE = 8  # of one file
_FILES_AT_ONCE = 2048  # of which one list of answers is kept
_BUFFER = 1 << 18  # bytes between a file's reader and its driver


def info(uri: str) -> dict[str, Any]:
    """What the store says of a file or folder. Raises FileNotFoundError where there is none."""
    fs, path = filesystem(uri)
    found: dict[str, Any] = retrying(uri, "cannot be looked at", lambda: fs.info(path))
    return found


def list_infos(uri: str) -> dict[str, dict[str, Any]]:
    """What the store says of all files below a folder, or of the file itself, by their paths, which are sorted."""
    fs, path = filesystem(uri)
    fs.invalidate_cache()
    try:
        found = retrying(uri, "cannot be listed", lambda: fs.find(path, detail=True))
    except FileNotFoundError:
        return {}
    return {name: about for name, about in sorted(found.items()) if not name.endswith("/")}  # as consoles mark folders


def list_names(uri: str) -> list[str]:
    """The paths of all files below a folder, or of the file itself, sorted."""
    return list(list_infos(uri))


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
        found.update(zip(some, pieces(some, [(None, None)] * len(some)), strict=True))
    return found


def read_tails(uris: Sequence[str], needed: Callable[[bytes], int]) -> dict[str, bytes]:
    """The ends of files of one place: as much as `needed` says that it takes, given the end that was read so far."""
    found: dict[str, bytes] = {}
    for begin in range(0, len(uris), _FILES_AT_ONCE):
        some = list(uris[begin : begin + _FILES_AT_ONCE])
        sizes = {}
        for uri, about in infos(some).items():
            if isinstance(about, OSError):
                raise OSError(about.errno or errno.ENOENT, reason_of(about), uri) from about
            sizes[uri] = int(about["size"])
        lengths = {uri: min(size, _TAIL) for uri, size in sizes.items()}
        while lengths:
            ranges: list[tuple[int | None, int | None]] = [(sizes[uri] - lengths[uri], sizes[uri]) for uri in lengths]
            read = dict(zip(lengths, pieces(list(lengths), ranges), strict=True))
            found |= read
            wanted = {uri: min(sizes[uri], needed(tail)) for uri, tail in read.items()}
            lengths = {uri: length for uri, length in wanted.items() if length > lengths[uri]}
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
    with _writing(uri):
        if hasattr(fs, "call_s3") and len(data) >= multipart.FROM:
            multipart.upload_in_parts(uri, data)
        else:
            retrying(uri, "cannot be written", lambda: fs.pipe_file(path, data))


def upload(uri: str, source: Path) -> None:
    """Write a whole file from a local one."""
    fs, path = filesystem(uri)
    with _writing(uri):
        if hasattr(fs, "call_s3") and source.stat().st_size >= multipart.FROM:
            multipart.upload_in_parts(uri, source)
        else:
            retrying(uri, "cannot be written", lambda: fs.put_file(str(source), path))


def read_tagged(uri: str) -> tuple[bytes, str] | None:
    """A small file and its tag, which another one under that name will not have; None where there is none.

    Where both are read while it is written anew, the tag is the older one's, with which nothing can be written.
    """
    try:
        about = info(uri)
        tag = f"{about.get('size')} {about['generation']}" if about.get("generation") else version(about)
        return read_bytes(uri), tag
    except FileNotFoundError:
        return None


def write_if(uri: str, data: bytes, tag: str | None) -> bool:
    """Write a small file if the one that is there has this tag, or, with None, if there is none; whether it was so.

    S3 and Google's store decide that by themselves. Else somebody may come between asking and writing.
    """
    fs, path = filesystem(uri)
    put = _conditional(fs, path, data, tag)

    def ask() -> bool | None:
        if put is None:
            return None
        try:
            put()
            return True
        except Exception as error:
            if isinstance(error, FileExistsError) or status_of(error) == 412:
                return False
            if tag is not None and (isinstance(error, FileNotFoundError) or status_of(error) == 404):
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


def _conditional(fs: Any, path: str, data: bytes, tag: str | None) -> Callable[[], Any] | None:
    """What writes a file if the store finds it as it should be; None where the driver cannot have it asked."""
    if tag is None:
        return lambda: fs.pipe_file(path, data, mode="create")
    if hasattr(fs, "call_s3"):
        return lambda: fs.pipe_file(path, data, IfMatch=tag.partition(" ")[2])
    if "gs" in fs.protocol and hasattr(fs, "call"):  # gcsfs knows but that there is none: so its store is asked itself
        bucket, name, _ = fs.split_path(path)
        return lambda: fs.call(
            "POST", f"{fs.base.removesuffix('storage/v1/')}upload/storage/v1/b/{{}}/o", bucket, uploadType="media",
            name=name, ifGenerationMatch=tag.partition(" ")[2], data=data,
            headers={"Content-Type": "application/octet-stream"},
        )  # fmt: skip
    return None


def remove(uri: str) -> None:
    """Remove a file, or a folder with everything below it."""
    fs, path = filesystem(uri)
    names = list_names(uri)
    remove_names(uri, fs, names)
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
        remove_names(folder, fs, [name for name in list_names(folder) if name in paths])


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
            raise IsADirectoryError(errno.EISDIR, "is a folder", uri)
        out.seek(0)
        out.truncate()
        if size is None or size <= BLOCK:
            (data,) = pieces([uri], [(None, None)])
            out.write(data)
            if size is None or len(data) == size:
                return
            tries.failed(ShortBodyError(f"{len(data)} bytes came of {size}"))
            continue
        for begin in range(0, size, BLOCK * _BLOCKS_AT_ONCE):
            starts = range(begin, min(size, begin + BLOCK * _BLOCKS_AT_ONCE), BLOCK)
            ranges: list[tuple[int | None, int | None]] = [(start, min(size, start + BLOCK)) for start in starts]
            for data in pieces([uri] * len(ranges), ranges):
                out.write(data)
        if version(info(uri)) == version(about):
            return
        tries.failed(ShortBodyError("it changed while it was read"))


def version(about: dict[str, Any]) -> str:
    """What is different of what `info` says of a file once it is another."""
    tag = about.get("ETag") or about.get("etag") or about.get("mtime") or about.get("created") or ""
    return f"{about.get('size')} {tag}"


@contextlib.contextmanager
def _writing(uri: str) -> Iterator[None]:
    """Make of an OSError, of whatever the store refuses, a StorageError that names the file."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{uri}: cannot be written: {error.strerror or error}") from error


def _with_scheme(uri: str, path: str) -> str:
    """The uri of a path in the same place as another."""
    return f"{urlsplit(uri).scheme}://{path.lstrip('/')}"
