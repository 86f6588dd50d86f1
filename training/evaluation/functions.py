"""Functions of the user's that a configuration names."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seamlessalign.errors import ConfigError


def load_function(place: str, what: str) -> Callable[..., Any]:
    """The function at `package.module:name`, found as Python finds modules, and in the folder where the program runs.

    what: of the configuration, for people. Raises ConfigError where there is none that can be imported.
    """
    module, _, name = place.partition(":")
    here = str(Path.cwd())
    if not {here, ""} & set(sys.path):
        sys.path.append(here)
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # a user's module may raise anything
        told = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ConfigError(
            f"{what} {place!r}: is no function that can be imported, as package.module:name: {told}"
        ) from error
    if not callable(found):
        raise ConfigError(f"{what} {place!r}: is no function, but {type(found).__name__}")
    return found  # type: ignore[no-any-return]
