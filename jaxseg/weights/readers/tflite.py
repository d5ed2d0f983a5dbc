"""TFLite models, decoded from flatbuffers without a library: the constants of their graph.

Names are the tensors' own: ``conv2d/Kernel``. Arrays keep the layout of the file: kernels OHWI, depthwise ones 1HWC.
Quantised integers are converted to real numbers. The graph itself is ignored.
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxseg.errors import BadInput

MAGIC = b"TFL3"

LARGEST = 1 << 16
"""Tensors, buffers or graphs that a file may hold."""

DTYPES = {
    **{code: np.dtype(name) for code, name in ((0, "<f4"), (1, "<f2"), (10, "<f8"), (6, "?"))},
    **{code: np.dtype(name) for code, name in ((9, "i1"), (7, "<i2"), (2, "<i4"), (4, "<i8"))},
    **{code: np.dtype(name) for code, name in ((3, "u1"), (16, "<u2"), (15, "<u4"), (12, "<u8"))},
}
"""By the number in the schema's TensorType; the others are no real numbers, or are packed."""


def read_tflite(path: Path) -> dict[str, np.ndarray]:
    """Return the constant tensors of the one graph of a .tflite file.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.tflite"
    >>> _ = path.write_bytes(struct.pack("<I4sHHi", 12, MAGIC, 4, 4, 4))  # a model without fields
    >>> read_tflite(path)
    Traceback (most recent call last):
        ...
    jaxseg.errors.BadInput: it holds 0 graphs; the weights of one network are read

    Raises:
      BadInput: there are several graphs; a constant is not an array of real numbers, or lies outside the file.
    """
    data = np.memmap(path, np.uint8, "r")
    model = _Table(data.data, _Table(data.data, 0).uint_at(0))
    graphs, buffers = list(model.tables(2)), list(model.tables(4))
    if len(graphs) != 1:
        raise BadInput(f"it holds {len(graphs)} graphs; the weights of one network are read")
    found: dict[str, np.ndarray] = {}
    for tensor in graphs[0].tables(0):
        number = tensor.uint(2)
        if number >= len(buffers):
            raise BadInput(f"a tensor lies in buffer {number} of {len(buffers)}")
        begin, size = buffers[number].vector(0, 1)
        if not size or not number:  # buffer 0 is empty by convention: what is computed
            continue
        name = tensor.text(3)
        if name in found:
            raise BadInput(f"it holds {name[:80]!r} twice")
        array = _array(tensor, name, data[begin : begin + size])
        if array is not None:
            found[name] = array
    return found


def _array(tensor: "_Table", name: str, data: np.ndarray) -> np.ndarray | None:
    """Return the numbers of a constant; None for text."""
    code = tensor.byte(1)
    if code == 5:
        return None
    if code not in DTYPES:
        raise BadInput(f"its array {name[:80]!r} is of TFLite's type {code}; weights are real numbers")
    dtype, shape = DTYPES[code], tensor.ints(0)
    if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != data.size:
        raise BadInput(f"its array {name[:80]!r} of shape {shape} does not have {data.size} bytes")
    array = np.frombuffer(data, dtype).reshape(shape)
    quantised = tensor.table(4)
    scales = None if quantised is None else quantised.numbers(2, np.dtype("<f4"))
    if quantised is None or scales is None or not scales.size or dtype.kind == "f":
        return array
    zeros = quantised.numbers(3, np.dtype("<i8"))
    zeros = np.zeros(scales.shape, np.int64) if not zeros.size else zeros
    axis = quantised.uint(6)
    count = scales.size
    if zeros.size != count or (count > 1 and (axis >= array.ndim or array.shape[axis] != count)):
        raise BadInput(f"its array {name[:80]!r} of shape {shape} has {count} scales along axis {axis}")
    along = [-1 if i == axis else 1 for i in range(array.ndim)] if count > 1 else [1] * array.ndim
    real = (array.astype(np.float64) - zeros.reshape(along)) * scales.astype(np.float64).reshape(along)
    return real.astype(np.float32)


class _Table:
    """A table of a flatbuffer: fields at offsets that a vtable before it gives. Nothing outside the file is read."""

    def __init__(self, data: memoryview, at: int) -> None:
        self.data, self.at = data, at

    def uint_at(self, at: int) -> int:
        """Return the unsigned 32-bit integer at a position of the file."""
        return self._unpack("<I", at)

    def _unpack(self, form: str, at: int) -> int:
        if at < 0 or at + struct.calcsize(form) > len(self.data):
            raise BadInput(f"it leads to byte {at} of {len(self.data)}")
        return struct.unpack_from(form, self.data, at)[0]

    def _place(self, field: int) -> int:
        """Return the position of a field, 0 if it is absent."""
        vtable = self.at - self._unpack("<i", self.at)
        slot = 4 + 2 * field
        if slot >= self._unpack("<H", vtable):
            return 0
        offset = self._unpack("<H", vtable + slot)
        return self.at + offset if offset else 0

    def byte(self, field: int) -> int:
        """Return an 8-bit field, 0 if it is absent."""
        at = self._place(field)
        return self._unpack("<B", at) if at else 0

    def uint(self, field: int) -> int:
        """Return a 32-bit field, 0 if it is absent."""
        at = self._place(field)
        return self.uint_at(at) if at else 0

    def table(self, field: int) -> "_Table | None":
        """Return a nested table."""
        at = self._place(field)
        return _Table(self.data, at + self.uint_at(at)) if at else None

    def vector(self, field: int, width: int) -> tuple[int, int]:
        """Return position and length of a vector with elements of ``width`` bytes; zeros if it is absent."""
        at = self._place(field)
        if not at:
            return 0, 0
        at += self.uint_at(at)
        count = self.uint_at(at)
        if at + 4 + count * width > len(self.data):
            raise BadInput(f"a list of {count} elements reaches beyond its end")
        return at + 4, count

    def tables(self, field: int) -> Iterator["_Table"]:
        """Return the tables of a vector."""
        begin, count = self.vector(field, 4)
        if count > LARGEST:
            raise BadInput(f"it holds a list of {count} entries")
        for at in range(begin, begin + 4 * count, 4):
            yield _Table(self.data, at + self.uint_at(at))

    def numbers(self, field: int, dtype: np.dtype) -> np.ndarray:
        """Return a vector of numbers."""
        begin, count = self.vector(field, dtype.itemsize)
        return np.frombuffer(self.data[begin : begin + count * dtype.itemsize], dtype)

    def ints(self, field: int) -> list[int]:
        """Return a vector of at most eight 32-bit integers: a shape."""
        found = self.numbers(field, np.dtype("<i4"))
        if found.size > 8:
            raise BadInput(f"an array of {found.size} axes")
        return [int(n) for n in found]

    def text(self, field: int) -> str:
        """Return a string."""
        begin, count = self.vector(field, 1)
        return bytes(self.data[begin : begin + count]).decode()
