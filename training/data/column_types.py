"""What columns of a table may hold; told of a whole file, before any of its rows is read."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.types as types

from seamlessalign.errors import InputError
from seamlessalign.training.data.settings import SideColumns


def check_columns(
    file: str, sides: Sequence[SideColumns], others: Sequence[tuple[str | None, str]], schema: Any
) -> None:
    """Raises InputError where a table lacks a column, or one holds what it cannot.

    others: columns that are of no side, and what they hold, by the names of `_KINDS`.
    """
    wanted = [pair for side in sides for pair in _of_side(side)] + [(name, kind) for name, kind in others if name]
    lacking = dict.fromkeys(name for name, _ in wanted if name not in schema.names)
    if lacking:
        raise InputError(f"{file}: lacks the columns {', '.join(lacking)}; there are {', '.join(schema.names)}")
    for name, kind in wanted:
        told, fits = _KINDS[kind]
        found = schema.field(name).type
        if not (types.is_null(found) or fits(found.value_type if types.is_dictionary(found) else found)):
            raise InputError(f"{file}: the column {name} holds {found}, but is to hold {told}")


def _of_side(side: SideColumns) -> Iterator[tuple[str, str]]:
    pairs = ("lang_column", "name"), ("audio", "sound"), ("seconds", "number"), ("text", "text"), ("units", "units")
    for key, kind in pairs:
        if (name := getattr(side, key)) is not None:
            yield name, kind


def _is_text(found: Any) -> bool:
    return bool(types.is_string(found) or types.is_large_string(found) or types.is_string_view(found))


def _is_name(found: Any) -> bool:
    return _is_text(found) or bool(types.is_integer(found))


def _is_number(found: Any) -> bool:
    return bool(types.is_integer(found) or types.is_floating(found) or types.is_decimal(found))


def _is_units(found: Any) -> bool:
    return _is_list(found) and bool(types.is_integer(found.value_type) or types.is_null(found.value_type))


def _is_sound(found: Any) -> bool:
    if types.is_struct(found):
        inside = {found.field(i).name for i in range(found.num_fields)}
        return bool(inside & {"bytes", "path"} or {"array", "sampling_rate"} <= inside)
    return bool(types.is_binary(found) or types.is_large_binary(found) or types.is_binary_view(found)) or _is_text(
        found
    )


def _is_list(found: Any) -> bool:
    return bool(types.is_list(found) or types.is_large_list(found) or types.is_fixed_size_list(found))


# what is told of it, and whether a type of Arrow's fits
_KINDS: dict[str, tuple[str, Callable[[pa.DataType], bool]]] = {
    "text": ("text", _is_text),
    "name": ("text or whole numbers", _is_name),
    "number": ("numbers", _is_number),
    "units": ("lists of whole numbers", _is_units),
    "sound": ("bytes, paths, or structs of them as the package datasets has sound", _is_sound),
}
