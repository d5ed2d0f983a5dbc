"""Caffe's models, written here byte by byte from the field numbers of caffe.proto."""

import struct

import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.weights.readers import read

RNG = np.random.default_rng(0)


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number, value):
    """One field: an integer, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def blob(array, *, legacy=False, packed=True):
    flat = np.asarray(array, np.float32)
    numbers = field(5, flat.tobytes())
    if not packed:
        numbers = b"".join(varint(5 << 3 | 5) + struct.pack("<f", x) for x in flat.ravel())
    if legacy:
        shape = (1,) * (4 - flat.ndim) + flat.shape
        return b"".join(field(i, n) for i, n in enumerate(shape, 1)) + numbers
    return field(7, field(1, b"".join(varint(n) for n in flat.shape))) + numbers


def layer(name, kind, *blobs):
    return field(100, field(1, name) + field(2, kind) + field(3, "below") + b"".join(field(7, b) for b in blobs))


def layer_v1(name, kind, *blobs):
    return field(2, field(4, name) + field(5, kind) + b"".join(field(6, b) for b in blobs))


def check(path, expected):
    found = read(path)
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6)


def test_layers(tmp_path):
    kernel, bias = RNG.normal(size=(4, 3, 2, 2)), RNG.normal(size=4)
    mean, var = RNG.normal(size=4), RNG.uniform(size=4)
    net = field(1, "a net") + layer("data", "Input") + layer("conv", "Convolution", blob(kernel), blob(bias))
    net += layer("bn", "BatchNorm", blob(mean * 5), blob(var * 5), blob([5.0]))
    net += layer("scale", "Scale", blob(bias), blob(bias, packed=False)) + layer("act", "PReLU", blob(bias))
    net += layer("odd", "Python", blob(mean))
    (tmp_path / "a.caffemodel").write_bytes(net)
    check(
        tmp_path / "a.caffemodel",
        {
            "conv.weight": kernel,
            "conv.bias": bias,
            "bn.mean": mean,
            "bn.var": var,
            "scale.weight": bias,
            "scale.bias": bias,
            "act.weight": bias,
            "odd.0": mean,
        },
    )


def test_layers_of_before_2014(tmp_path):
    kernel, dense, bias = RNG.normal(size=(1, 1, 3, 3)), RNG.normal(size=(5, 7)), RNG.normal(size=5)
    net = layer_v1("conv", 4, blob(kernel, legacy=True), blob(bias[:1], legacy=True))
    net += layer_v1("up", 39, blob(kernel, legacy=True)) + layer_v1("relu", 18)
    net += layer_v1("fc", 14, blob(dense, legacy=True), blob(bias, legacy=True))
    (tmp_path / "a.caffemodel").write_bytes(net)
    parts = {"conv.weight": kernel, "conv.bias": bias[:1], "up.weight": kernel, "fc.weight": dense, "fc.bias": bias}
    check(tmp_path / "a.caffemodel", parts)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (layer("a", "Scale", field(7, field(1, varint(1 << 40))) + field(5, bytes(8))), "has 2 numbers"),
        (layer("a", "Scale", blob([1.0])) * 2, "'a.weight' twice"),
        (field(2, field(1, field(1, "old"))), "first format"),
        (layer("a", "Scale", blob([1.0]))[:-3], "damaged"),
        (field(1, "nothing"), "no layer with blobs"),
        (b"", "no layer with blobs"),
        (layer("a", "Scale", blob([np.nan])), "not finite"),
    ],
)
def test_what_is_refused(tmp_path, net, message):
    (tmp_path / "a.caffemodel").write_bytes(net)
    with pytest.raises(BadInput, match=message) as error:
        read(tmp_path / "a.caffemodel")
    assert "\n" not in str(error.value)
