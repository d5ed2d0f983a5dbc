"""Caffe's .caffemodel: blobs of each layer, decoded from the protobuf wire format without a protobuf library.

Field numbers are those of BVLC's caffe.proto: ``NetParameter.layer`` = 100 (``layers`` = 2 before 2014),
``LayerParameter`` name 1, type 2, blobs 7 (``V1LayerParameter``: name 4, type 5, blobs 6), ``BlobProto`` num, channels,
height, width 1 to 4, data 5, shape 7, double_data 8.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.errors import BadInput

KINDS_V1 = {4: "Convolution", 39: "Deconvolution", 14: "InnerProduct"}

NAMES = {
    "Convolution": ("weight", "bias"),
    "Deconvolution": ("weight", "bias"),
    "InnerProduct": ("weight", "bias"),
    "Scale": ("weight", "bias"),
    "PReLU": ("weight",),
    "BatchNorm": ("mean", "var", "factor"),
    "BN": ("weight", "bias", "mean", "var"),
}
"""Names of a layer's blobs by its type; those of other types are numbered."""

RANKS = {"Convolution": 4, "Deconvolution": 4, "InnerProduct": 2}
"""Axes of the first blob; all others are vectors."""


def read_caffemodel(path: Path) -> dict[str, np.ndarray]:
    """Return the blobs as ``layer.weight``, ``layer.bias``, ...; kernels OIHW, of deconvolutions IOHW.

    The running mean and variance of a BatchNorm layer are divided by its third blob, the factor, as in Caffe.

    >>> import tempfile
    >>> def message(field, value):
    ...     return bytes([field << 3 | 2, len(value)]) + value
    >>> kernel = message(5, np.ones(2, "<f4").tobytes()) + message(7, message(1, bytes([1, 2])))
    >>> layer = message(4, b"fc") + bytes([5 << 3, 14]) + message(6, kernel)  # 14: InnerProduct
    >>> path = Path(tempfile.mkdtemp()) / "a.caffemodel"
    >>> _ = path.write_bytes(message(2, layer))
    >>> {name: array.tolist() for name, array in read_caffemodel(path).items()}
    {'fc.weight': [[1.0, 1.0]]}

    Raises:
      BadInput: shape and size of a blob differ. Other damage raises Python's own errors.
    """
    whole: Any = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
    found: dict[str, np.ndarray] = {}
    for field, value in _fields(memoryview(whole)):
        if field in (2, 100) and isinstance(value, memoryview):
            for name, blob in _layer(value, old=field == 2):
                if name in found:
                    raise BadInput(f"it holds {name[:80]!r} twice")
                found[name] = blob
    if not found:
        raise BadInput("it holds no layer with blobs")
    return found


def _layer(data: memoryview, *, old: bool) -> Iterator[tuple[str, np.ndarray]]:
    fields = list(_fields(data))
    name_field, kind_field, blob_field = (4, 5, 6) if old else (1, 2, 7)
    if old and any(field == 1 for field, _ in fields):
        raise BadInput("it is of Caffe's first format; upgrade it with Caffe's upgrade_net_proto_binary")
    name = next((str(bytes(value), "utf-8") for field, value in fields if field == name_field), "")
    kind: Any = next((value for field, value in fields if field == kind_field), b"")
    kind = KINDS_V1.get(kind, "") if old else str(bytes(kind), "utf-8")
    blobs = [_blob(value, RANKS.get(kind, 1) if i == 0 else 1) for i, value in enumerate(_all(fields, blob_field))]
    labels = NAMES.get(kind, ())
    if kind == "BatchNorm" and len(blobs) == 3:
        factor = float(blobs[2].reshape(-1)[0])
        blobs = [blob * np.float32(1 / factor if factor else 0) for blob in blobs[:2]]
    for i, blob in enumerate(blobs):
        yield f"{name}.{labels[i] if i < len(labels) else i}", blob


def _all(fields: list[tuple[int, Any]], wanted: int) -> Iterator[memoryview]:
    return (value for field, value in fields if field == wanted)


def _blob(data: memoryview, rank: int) -> np.ndarray:
    """Return the blob's numbers; one without a shape has four axes, of which the first may be padding."""
    shape: list[int] | None = None
    legacy = {}
    parts = []
    for field, value in _fields(data):
        if field in (5, 8):
            kind = np.dtype("<f4" if field == 5 else "<f8")
            parts.append(np.frombuffer(value, kind))
        elif field == 7:
            shape = [n for inner, dims in _fields(value) if inner == 1 for n in _integers(dims)]
        elif field <= 4 and isinstance(value, int):
            legacy[field] = value
    flat = parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if shape is None:
        four = [legacy.get(axis, 1) for axis in (1, 2, 3, 4)]
        shape = four[4 - rank :] if rank > 1 else [flat.size]
        if math.prod(four) != flat.size:
            raise BadInput(f"a blob of shape {four} has {flat.size} numbers")
    if len(shape) > 32 or math.prod(shape) != flat.size:
        raise BadInput(f"a blob of shape {shape[:8]} has {flat.size} numbers")
    if rank == 1 and sum(n != 1 for n in shape) <= 1:
        shape = [flat.size]
    return flat.reshape(shape)


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """Yield field numbers and values of a message: integers, or bytes for fixed-width and length-delimited values."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        field, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield field, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > end:
            raise EOFError("the file ends within a field")
        yield field, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("an integer without an end")


def _integers(value: Any) -> list[int]:
    if isinstance(value, int):
        return [value]
    found, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        found.append(number)
    return found
