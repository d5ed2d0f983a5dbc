"""ONNX files against messages that are put together here by the format's own rules."""

import struct

import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.weights.readers import read


def varint(n):
    n, out = n % (1 << 64), b""
    while True:
        n, low = n >> 7, n & 127
        out += bytes([low | (128 if n else 0)])
        if not n:
            return out


def field(number, value):
    """An integer, or bytes that may be another message."""
    if isinstance(value, int):
        return varint(8 * number) + varint(value)
    return varint(8 * number + 2) + varint(len(value)) + value


def tensor(name, code, shape, raw=None, extra=b""):
    sizes = b"".join(field(1, n) for n in shape)
    return sizes + field(2, code) + field(8, name.encode()) + (field(9, raw) if raw is not None else b"") + extra


def model(*tensors, graphs=1):
    node = field(1, field(1, b"x") + field(2, b"y") + field(4, b"Relu"))
    graph = node + field(2, b"main") + b"".join(field(5, t) for t in tensors)
    return field(1, 8) + field(2, b"pytorch") + field(7, graph) * graphs


def found(tmp_path, data, name="a.onnx"):
    path = tmp_path / name
    path.write_bytes(data)
    return read(path)


def test_initialisers_of_every_kind_are_read_by_name(tmp_path):
    kernel = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    packed = field(1, b"".join(varint(n) for n in (2, 2)))
    arrays = found(
        tmp_path,
        model(
            tensor("conv.weight", 1, kernel.shape, kernel.tobytes()),
            tensor("half", 10, (2,), np.float16([1.5, -2]).tobytes()),
            tensor("steps", 7, (2,), extra=field(7, varint(-1) + varint(300))),
            tensor("floats", 1, (2,), extra=field(4, struct.pack("<2f", 0.5, 3))),
            tensor("bits", 10, (1,), extra=field(5, int(np.float16(0.25).view(np.uint16)))),
            packed + field(2, 1) + field(8, b"square") + field(9, np.arange(4, dtype=np.float32).tobytes()),
            tensor("names", 8, (1,), extra=field(6, b"text")),
        ),
    )
    np.testing.assert_array_equal(arrays.pop("conv.weight"), kernel)
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "half": [1.5, -2.0],
        "steps": [-1, 300],
        "floats": [0.5, 3.0],
        "bits": [0.25],
        "square": [[0.0, 1.0], [2.0, 3.0]],
    }


def test_it_is_known_by_its_first_bytes(tmp_path):
    assert list(found(tmp_path, model(tensor("w", 1, (1,), bytes(4))), "weights.bin")) == ["w"]


FLOAT = bytes(4)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (model(tensor("w", 1, (2,), FLOAT)), r"'w' of shape \[2\] does not have 1 numbers"),
        (model(tensor("w", 1, (1,), bytes(3))), "'w' ends within a number"),
        (model(tensor("w", 17, (1,), FLOAT)), "'w' is of ONNX's type 17"),
        (model(tensor("w", 1, (1,), extra=field(14, 1))), "'w' lies in another file"),
        (model(tensor("w", 1, (1,), FLOAT), tensor("w", 1, (1,), FLOAT)), "it holds 'w' twice"),
        (model(graphs=2), "it holds 2 graphs"),
        (model(tensor("w", 1, (1,), FLOAT))[:-3], "reaches beyond its end"),
        (field(1, 8) + field(2, b"x") + b"\x3b", "wire type 3"),
        (model(tensor("w", 1, (-1,), b"")), "does not have 0 numbers"),
    ],
)
def test_what_is_damaged_or_no_array_of_numbers_is_refused_by_name(tmp_path, data, words):
    with pytest.raises(BadInput, match=words):
        found(tmp_path, data)
