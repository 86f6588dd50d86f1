"""Uploads to S3 in parts, which are seen under their name once they are all there and put together.

Each request is tried again by itself, so that a part that fails does not cost those before it. Parts that are never put
together are under no name, but cost room until they are aborted.
"""

import contextlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from seamlessalign.remote_requests import at_once, filesystem, until_all
from seamlessalign.retries import retrying

PART = 32 << 20  # bytes, at least
FROM = 2 * PART  # bytes from which on a file goes in parts
_MOST_PARTS = 10_000
_PARTS_AT_ONCE = 4
_WHAT = "cannot be written"


def upload_in_parts(uri: str, source: Path | bytes) -> None:
    """Write a whole file, from a local one or from memory."""
    fs, path = filesystem(uri)
    bucket, key, _ = fs.split_path(path)
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    step = max(PART, -(-size // _MOST_PARTS))
    starts = range(0, size, step)
    begun: list[None] = []

    def begin() -> str:
        begun.append(None)
        return str(fs.call_s3("create_multipart_upload", Bucket=bucket, Key=key)["UploadId"])

    upload = retrying(uri, _WHAT, begin)
    place = {"Bucket": bucket, "Key": key, "UploadId": upload}

    async def put(number: int) -> dict[str, Any]:
        data = _bytes(source, starts[number], step)
        answer = await fs._call_s3("upload_part", **place, PartNumber=number + 1, Body=data)
        return {"PartNumber": number + 1, "ETag": answer["ETag"]}

    def ask(first: int, numbers: Sequence[int]) -> list[Any]:
        return at_once(fs, put, [first + number for number in numbers])

    def complete(parts: list[dict[str, Any]]) -> None:
        try:
            fs.call_s3("complete_multipart_upload", **place, MultipartUpload={"Parts": parts})
        except FileNotFoundError:  # there is no such upload any more: it may be done, and the answer was lost
            about = fs.info(path)
            if about.get("size") != size or not str(about.get("ETag", "")).strip('"').endswith(f"-{len(parts)}"):
                raise

    try:
        parts: list[dict[str, Any]] = []
        for first in range(0, len(starts), _PARTS_AT_ONCE):
            some = range(first, min(first + _PARTS_AT_ONCE, len(starts)))
            parts += until_all([uri] * len(some), _WHAT, partial(ask, first))
        retrying(uri, _WHAT, lambda: complete(parts))
    except BaseException:
        with contextlib.suppress(Exception):
            abort_uploads(uri)
        raise
    if len(begun) > 1:  # one that was begun, and the answer lost
        abort_uploads(uri)


def abort_uploads(uri: str) -> int:
    """Abort the uploads in parts that were begun below a folder, or of a file, and never ended; how many there were.

    Stores that do not list them, or not to us, have none for all we know.
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
        _abort(uri, fs, bucket, begun)
    except OSError:
        return 0
    return len(begun)


def _abort(uri: str, fs: Any, bucket: str, uploads: Sequence[tuple[str, str]]) -> None:
    async def abort(upload: tuple[str, str]) -> None:
        await fs._call_s3("abort_multipart_upload", Bucket=bucket, Key=upload[0], UploadId=upload[1])

    def ask(numbers: Sequence[int]) -> list[Any]:
        return at_once(fs, abort, [uploads[number] for number in numbers])

    until_all([uri] * len(uploads), "cannot be aborted", ask, keep=(FileNotFoundError,))


def _uploads(fs: Any, bucket: str, key: str, more: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=key, **more)
    return found


def _bytes(source: Path | bytes, start: int, size: int) -> bytes:
    if isinstance(source, bytes):
        return source[start : start + size]
    with source.open("rb") as file:
        file.seek(start)
        return file.read(size)
