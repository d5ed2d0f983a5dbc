"""ONNX models, decoded from protocol buffers without a library: the initialisers of their graph.

Names are the tensors' own, which programs that export keep from their modules: ``stage1.conv.weight``. Arrays keep the
layout of the file: kernels OIHW. The graph itself is ignored.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np

from jaxseg.errors import BadInput

GRAPH, INITIALIZER = 7, 5
"""Fields of ModelProto and GraphProto."""

DTYPES = {
    **{code: np.dtype(name) for code, name in ((1, "<f4"), (10, "<f2"), (11, "<f8"), (9, "?"))},
    **{code: np.dtype(name) for code, name in ((3, "i1"), (5, "<i2"), (6, "<i4"), (7, "<i8"))},
    **{code: np.dtype(name) for code, name in ((2, "u1"), (4, "<u2"), (12, "<u4"), (13, "<u8"))},
    16: np.dtype(ml_dtypes.bfloat16),
}
"""By the number in TensorProto.DataType; the others are no real numbers, or are packed."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types."""

LARGEST = 100_000
"""Fields that one message may hold."""


def read_onnx(path: Path) -> dict[str, np.ndarray]:
    """Return the initialisers of an .onnx file.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.onnx"
    >>> tensor = bytes([8, 2, 16, 1, 66, 1]) + b"w" + bytes([74, 8]) + np.float32([1, 2]).tobytes()
    >>> graph = bytes([42, len(tensor)]) + tensor
    >>> _ = path.write_bytes(bytes([8, 7, 58, len(graph)]) + graph)
    >>> {name: array.tolist() for name, array in read_onnx(path).items()}
    {'w': [1.0, 2.0]}

    Raises:
      BadInput: there is no graph, or an initialiser is not an array of real numbers in the file itself.
    """
    data = np.memmap(path, np.uint8, "r").data
    graphs = [value for number, value in _fields(data) if number == GRAPH and isinstance(value, memoryview)]
    if len(graphs) != 1:
        raise BadInput(f"it holds {len(graphs)} graphs; the weights of one network are read")
    found: dict[str, np.ndarray] = {}
    for number, value in _fields(graphs[0]):
        if number == INITIALIZER and isinstance(value, memoryview):
            name, array = _tensor(value)
            if name in found:
                raise BadInput(f"it holds {name[:80]!r} twice")
            if array is not None:
                found[name] = array
    return found


def is_onnx(head: bytes) -> bool:
    """Return True if a file begins as ONNX does: with its version, and who wrote it or what operators it needs.

    >>> is_onnx(bytes([8, 7, 18, 7]) + b"pytorch"), is_onnx(b"PK")
    (True, False)
    """
    return len(head) > 2 and head[0] == 8 and 1 <= head[1] < 32 and head[2] in (18, 26, 34, 58, 66)


def _tensor(data: memoryview) -> tuple[str, np.ndarray | None]:
    """Return name and numbers of a TensorProto; None for text."""
    shape: list[int] = []
    code, name, raw, outside = 0, "", None, False
    numbers: list[memoryview | int] = []
    for number, value in _fields(data):
        if number == 1:
            shape += list(_integers(value))
        elif number == 2 and isinstance(value, int):
            code = value
        elif number == 8 and isinstance(value, memoryview):
            name = bytes(value).decode()
        elif number == 9 and isinstance(value, memoryview):
            raw = value
        elif number in (4, 5, 7, 10, 11):  # floats, int32s, int64s, doubles, uint64s
            numbers.append(value)
        elif number in (13, 14):
            outside = outside or number == 13 or value == 1
    if code == 8:
        return name, None
    if code not in DTYPES:
        raise BadInput(f"its array {name[:80]!r} is of ONNX's type {code}; weights are real numbers")
    if outside:
        raise BadInput(f"its array {name[:80]!r} lies in another file; save the model with its weights inside")
    dtype, size = DTYPES[code], math.prod(shape)
    if raw is None:
        array = _listed(numbers, code, dtype)
    elif len(raw) % dtype.itemsize:
        raise BadInput(f"its array {name[:80]!r} ends within a number")
    else:
        array = np.frombuffer(raw, dtype)
    if len(shape) > 8 or array.size != size or any(n < 0 for n in shape):
        raise BadInput(f"its array {name[:80]!r} of shape {shape[:9]} does not have {array.size} numbers")
    return name, array.reshape(shape)


def _listed(values: list["memoryview | int"], code: int, dtype: np.dtype) -> np.ndarray:
    """Return numbers that are fields of their own: packed or one by one."""
    if code in (1, 11):
        packed = b"".join(bytes(value) for value in values if isinstance(value, memoryview))
        return np.frombuffer(packed, dtype)
    whole = np.asarray([n for value in values for n in _integers(value)], np.int64)
    if code in (10, 16):  # their bits
        return whole.astype(np.uint16).view(dtype)
    return whole.astype(dtype)


def _integers(value: "memoryview | int") -> Iterator[int]:
    """Yield the integers of a repeated field: one, or several packed."""
    if isinstance(value, int):
        yield value
        return
    at = 0
    while at < len(value):
        number, at = _varint(value, at)
        yield number


def _fields(data: memoryview) -> Iterator[tuple[int, "memoryview | int"]]:
    """Yield number and value of every field of a message. Nothing outside of it is read."""
    at = count = 0
    while at < len(data):
        count += 1
        if count > LARGEST:
            raise BadInput("it holds messages without an end")
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == BYTES:
            length, at = _varint(data, at)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        else:
            raise BadInput(f"a field of wire type {kind}")
        if length < 0 or at + length > len(data):
            raise BadInput(f"a field of {length} bytes reaches beyond its end")
        yield number, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return a variable-length integer, signed in 64 bits, and where the next field begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise BadInput("it ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            value &= (1 << 64) - 1
            return (value - (1 << 64) if value >> 63 else value), at
    raise BadInput("a number of more than ten bytes")
