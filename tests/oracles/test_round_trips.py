"""Every network that imports weights gives them back as they came: torch's names, layouts and numbers, to the bit."""

import re

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxseg import registry
from jaxseg.layers.conv import ConvTranspose
from jaxseg.weights.inverse import source_name
from jaxseg.weights.names import convert, rename, restore

IMPORTABLE = [(name, source) for name, entry in registry.entries().items() for source in entry.names]


@pytest.mark.parametrize(("name", "source"), IMPORTABLE, ids=map("-".join, IMPORTABLE))
def test_ours_theirs_ours(name, source):
    """Random numbers of every leaf go out and come back, and each leaf has a name of its own outside."""
    rules = registry.find(name).names[source]
    model = registry.create_model(name)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), np.uint8))
    rng = np.random.default_rng(0)
    ours = jax.tree.map(lambda leaf: rng.random(leaf.shape, np.float32), shapes)
    theirs = restore(ours, rules)
    again = convert(theirs, shapes, rules)
    assert jax.tree.structure(again) == jax.tree.structure(ours)
    assert all(map(np.array_equal, jax.tree.leaves(again), jax.tree.leaves(ours)))


@pytest.mark.parametrize(("name", "source"), IMPORTABLE, ids=map("-".join, IMPORTABLE))
def test_rules_say_which_kernels_are_transposed(name, source):
    rules = registry.find(name).names[source]
    model = registry.create_model(name)
    transposed = set()

    def note(next_call, arguments, options, context):
        if isinstance(context.module, ConvTranspose):
            transposed.add("/".join((*context.module.path, "kernel")))
        return next_call(*arguments, **options)

    with nn.intercept_methods(note):
        jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), np.uint8))
    for path in transposed:
        name = source_name(path, rules, lambda n: rename(n, rules))
        layouts = {to.partition("|")[2] for rule, to in rules if to and name and re.fullmatch(rule, name)}
        assert layouts <= {"iohw", "hwoi"}, f"{path}: say |iohw"
        assert layouts
