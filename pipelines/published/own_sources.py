"""Sources that are not on the web, for metadata that a run of this program wrote.

These are recordings below a folder that whoever rebuilds names, and texts in files of theirs, known by their digests.
What a list from others names is not thereby read: without that folder nothing but the web is asked.
"""

import shutil
from collections.abc import Iterator, Sequence, Set
from pathlib import Path

from seamlessalign import storage
from seamlessalign.errors import InputError, UnreadableError
from seamlessalign.pipelines.published.packed import DAMAGE, unpacked
from seamlessalign.pipelines.published.record_text import digest
from seamlessalign.pipelines.recordings import open_recording
from seamlessalign.segmentation.text import clean_sentence, split_sentences
from seamlessalign.sources import is_http, place_of

_LONGEST = 1 << 20  # bytes of a line


def is_on_the_web(url: str) -> bool:
    """Whether an address of a recording is that of a file that anybody can fetch."""
    place = place_of(url)
    return is_http(place.file) and place.member is None


def bring(url: str, root: str | None, target: Path) -> Path:
    """A local file with the bytes of a recording that is not on the web, at `target`; where it can be, a link to them.

    Raises UnreadableError with the reasons `address_refused` (there is no root), `outside_root`, `missing`, and those
    of `sources.recording_file`.
    """
    if root is None:
        raise UnreadableError(
            "address_refused", f"{url!r} is not on the web, and audio.root names no folder that has it"
        )
    try:
        with open_recording(url, root=root) as (path, _):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            if storage.is_local(url) and place_of(url).member is None:
                path.open("rb").close()
                target.symlink_to(path.absolute())
            else:
                with storage.atomic_local(str(target)) as copy:
                    shutil.copyfile(path, copy)
    except FileNotFoundError as error:
        raise UnreadableError("missing", f"{url!r} is not there") from error
    except (PermissionError, IsADirectoryError) as error:
        raise UnreadableError("unreadable", f"{url!r} cannot be read: {error.strerror}") from error
    return target


def texts_with(digests: Set[int], uris: Sequence[str]) -> dict[int, str]:
    """Those sentences of text files, plain, gzip or xz, that have one of these digests.

    Tried of each line is what a run would make of it: the line, cleaned, and its sentences. Raises InputError for a
    file that is not there or cannot be unpacked.
    """
    found: dict[int, str] = {}
    for uri in uris:
        for line in _lines(uri):
            for sentence in _sentences(line):
                one = digest(sentence)
                if one in digests and one not in found:
                    found[one] = sentence
            if len(found) == len(digests):
                return found
    return found


def _sentences(line: bytes) -> Iterator[str]:
    text = line.decode("utf-8", "replace").removeprefix("\ufeff").rstrip("\r\n")
    yield text
    try:
        cleaned = clean_sentence(text)
    except UnreadableError:
        return
    yield cleaned
    yield from split_sentences(cleaned, "")


def _lines(uri: str) -> Iterator[bytes]:
    try:
        with storage.open_read(uri) as file, unpacked(file) as stream:
            while line := stream.readline(_LONGEST):
                yield line
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError(f"{uri}: there is no such file") from error
    except (EOFError, *DAMAGE) as error:
        raise InputError(f"{uri}: cannot be unpacked: {error}") from error
