"""Every network that imports weights gives them back as they came: torch's names, layouts and numbers, to the bit."""

import functools
import re

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxseg import registry
from jaxseg.layers.conv import ConvTranspose
from jaxseg.weights.inverse import source_name
from jaxseg.weights.names import convert, rename, restore

ONE_WAY = {("rcnn_alexnet", "caffe"), ("u2netp", "xuebinqin-onnx")}
"""Files that lack a part of the network: a classifier of other classes, statistics that are folded into kernels."""

CODED = {"fast_rcnn_vgg16", "faster_rcnn_vgg16", "mnc_vgg16"}
"""Networks whose box codes are multiplied on their way, which rounds."""

EVERY = [(name, source) for name, entry in registry.entries().items() for source in entry.names]
IMPORTABLE = [pair for pair in EVERY if pair not in ONE_WAY]
OF_FILE = {(registry.find(name).module, source): (name, source) for name, source in reversed(IMPORTABLE)}
CASES = [
    pytest.param(*pair, marks=[] if pair in OF_FILE.values() else pytest.mark.slow, id="-".join(pair))
    for pair in IMPORTABLE
]
"""Every table of names; always for one network of every file, and with ``-m slow`` for its siblings."""


def small(leaf):
    """The leaf with its long sides cut down to a few: what rules do to it depends on no size."""
    return jax.ShapeDtypeStruct(tuple(n if n < 8 else 5 + n % 3 for n in leaf.shape), leaf.dtype)


def whole_codes(leaf):
    """The leaf with its long sides cut down to two boxes' codes."""
    return jax.ShapeDtypeStruct(tuple(min(n, 8) for n in leaf.shape), leaf.dtype)


@functools.cache
def traced(name):
    """The shapes of a network's variables, and the paths of its transposed kernels; nothing is computed."""
    model, transposed = registry.create_model(name), set()

    def note(next_call, arguments, options, context):
        if isinstance(context.module, ConvTranspose):
            transposed.add("/".join((*context.module.path, "kernel")))
        return next_call(*arguments, **options)

    size = model.input_size(4, 4) if hasattr(model, "input_size") else (64, 64)
    with nn.intercept_methods(note):
        shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *size, 3), np.uint8))
    return shapes, transposed


@pytest.mark.parametrize(("name", "source"), CASES)
def test_ours_theirs_ours(name, source):
    """Random numbers of every leaf go out and come back, and each leaf has a name of its own outside."""
    rules, shapes = registry.find(name).names[source], traced(name)[0]
    shapes = jax.tree.map(whole_codes if name == "ssd300_mobilenet_v1_075" else small, shapes)
    rng = np.random.default_rng(0)
    ours = jax.tree.map(lambda leaf: rng.random(leaf.shape, leaf.dtype), shapes)
    theirs = restore(ours, rules)
    again = convert(theirs, shapes, rules)
    assert jax.tree.structure(again) == jax.tree.structure(ours)
    same = functools.partial(np.allclose, rtol=1e-6, atol=0) if name in CODED else np.array_equal
    assert all(map(same, jax.tree.leaves(again), jax.tree.leaves(ours)))


def test_every_table_of_names_is_walked():
    """Also those of several tables; a registered network without one has no public weights."""
    assert {name for name, _ in EVERY} == {name for name, entry in registry.entries().items() if entry.names}
    assert len(IMPORTABLE) > 30


@pytest.mark.parametrize(("name", "source"), CASES)
def test_rules_say_which_kernels_are_transposed(name, source):
    rules, (_, transposed) = registry.find(name).names[source], traced(name)
    for path in transposed:
        name = source_name(path, rules, lambda n: rename(n, rules))
        layouts = {to.partition("|")[2] for rule, to in rules if to and name and re.fullmatch(rule, name)}
        assert layouts <= {"iohw", "hwoi", "ohwi"}, f"{path}: say |iohw"
        assert layouts
