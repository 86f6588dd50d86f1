"""The few messages of ONNX that are needed to read weights out of one network's file and to write another's.

An ONNX file is a protocol buffer. Numbers of fields and types are those of `onnx.proto` (https://github.com/onnx/onnx),
version 1.16, so that no package beside onnxruntime is needed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FLOAT, _INT64 = 1, 7  # TensorProto.DataType
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types


@dataclass(frozen=True)
class Node:
    """One operation of a network, by the names of what goes in and comes out."""

    op: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    attributes: Mapping[str, int]


def read_network(data: bytes) -> tuple[list[str], dict[str, NDArray[np.float32]]]:
    """The operations of a network in their order, constants left out, and its float32 weights by name.

    Raises ValueError where the bytes are no such file, or one that ends too early.
    """
    graphs = [value for number, value in _fields(data) if number == 7 and isinstance(value, bytes)]
    if len(graphs) != 1:
        raise ValueError(f"there are {len(graphs)} graphs in the file, not one")
    ops: list[str] = []
    weights: dict[str, NDArray[np.float32]] = {}
    for number, value in _fields(graphs[0]):
        if number == 1 and isinstance(value, bytes):
            op = _text(value, 4)
            ops += [op] if op != "Constant" else []
        elif number == 5 and isinstance(value, bytes):
            found = list(_fields(value))
            raw = next((part for key, part in found if key == 9 and isinstance(part, bytes)), None)
            shape = [part for key, part in found if key == 1 and isinstance(part, int)]
            if (2, _FLOAT) in found and raw is not None:
                weights[_text(value, 8)] = np.frombuffer(raw, np.dtype("<f4")).reshape(shape)
    return ops, weights


def write_network(
    nodes: Sequence[Node],
    weights: Mapping[str, NDArray[np.float32] | NDArray[np.int64]],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Mapping[str, Sequence[int | str]],
) -> bytes:
    """A network as an ONNX file of operator set 16. Inputs and outputs: shapes by name, a text is a free dimension."""
    graph = b"".join(_field(1, _node(node)) for node in nodes) + _field(2, b"network")
    graph += b"".join(_field(5, _tensor(name, array)) for name, array in weights.items())
    graph += b"".join(_field(11, _value(name, shape)) for name, shape in inputs.items())
    graph += b"".join(_field(12, _value(name, shape)) for name, shape in outputs.items())
    return _field(1, 8) + _field(7, graph) + _field(8, _field(1, b"") + _field(2, 16))


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a message; values of fixed width as their bytes."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        if key & 7 == _VARINT:
            value, at = _read_varint(data, at)
            yield key >> 3, value
            continue
        if key & 7 == _BYTES:
            length, at = _read_varint(data, at)
        elif key & 7 in (_FIXED32, _FIXED64):
            length = 4 if key & 7 == _FIXED32 else 8
        else:
            raise ValueError(f"byte {at} has wire type {key & 7}")
        if at + length > len(data):
            raise ValueError(f"the file ends inside a field of {length} bytes")
        yield key >> 3, data[at : at + length]
        at += length


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("the file ends inside a number")


def _text(message: bytes, number: int) -> str:
    return next((value.decode() for key, value in _fields(message) if key == number and isinstance(value, bytes)), "")


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers as two's complement
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def _field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | _BYTES) + _varint(len(data)) + data


def _tensor(name: str, array: NDArray[np.float32] | NDArray[np.int64]) -> bytes:
    little = np.ascontiguousarray(array, np.dtype("<f4") if array.dtype == np.float32 else np.dtype("<i8"))
    kind = _FLOAT if array.dtype == np.float32 else _INT64
    dims = b"".join(_field(1, size) for size in array.shape)
    return dims + _field(2, kind) + _field(8, name) + _field(9, little.tobytes())


def _node(node: Node) -> bytes:
    names = b"".join(_field(1, name) for name in node.inputs) + b"".join(_field(2, name) for name in node.outputs)
    attributes = (_field(1, name) + _field(3, value) + _field(20, 2) for name, value in node.attributes.items())
    return names + _field(4, node.op) + b"".join(_field(5, attribute) for attribute in attributes)


def _value(name: str, shape: Sequence[int | str]) -> bytes:
    dims = b"".join(_field(1, _field(2 if isinstance(size, str) else 1, size)) for size in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, _FLOAT) + _field(2, dims)))
