"""Whether what a list names lies below the root that a run is confined to."""

import re
from urllib.parse import unquote

from seamlessalign import storage


def outside(uri: str, root: str) -> bool:
    """Whether a file is not below a root; `uri` is that of a file, not of a member in it.

    A local path counts where its links lead. An address lies below another one when it begins with it and no segment
    behind that leads up again, however it is written; what a server makes of it cannot be known here.
    """
    if storage.is_local(root) != storage.is_local(uri):
        return True
    if storage.is_local(root):
        try:
            place, top = storage.local_path(uri).resolve(), storage.local_path(root).resolve()
        except (OSError, RuntimeError, ValueError):  # links in a circle, or no name that a file can have
            return True
        return not place.is_relative_to(top)
    beginning, place_, whole = _begin(root), _begin(uri), _path(uri)
    if beginning != place_ or any(segment in (".", "..") for segment in re.split(r"[/\\]", whole)):
        return True
    top_path = _path(root).strip("/")
    return bool(top_path) and not f"{whole.strip('/')}/".startswith(f"{top_path}/")


def _begin(uri: str) -> str:
    """Kind and host, or bucket, of an address."""
    scheme, _, rest = uri.partition("://")
    host = re.split(r"[/\\?#]", rest, maxsplit=1)[0]
    if scheme.lower() in ("http", "https"):
        host = host.lower().removesuffix(":443" if scheme.lower() == "https" else ":80")
    return f"{scheme.lower()}://{host}"


def _path(uri: str) -> str:
    """The path of an address, unescaped as often as anybody could."""
    scheme, _, rest = uri.partition("://")
    path = rest[len(re.split(r"[/\\?#]", rest, maxsplit=1)[0]) :]
    if scheme.lower() not in ("http", "https"):
        return path
    path = re.split(r"[?#]", path, maxsplit=1)[0]
    while (plain := unquote(path)) != path:
        path = plain
    return path
