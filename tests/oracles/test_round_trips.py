"""Every network that imports weights gives them back as they came: torch's names, layouts and numbers, to the bit."""

import functools
import itertools
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


NUMBERS = np.random.default_rng(0).random(1 << 22, np.float32)


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


@pytest.mark.parametrize(("name", "source"), IMPORTABLE, ids=map("-".join, IMPORTABLE))
def test_ours_theirs_ours(name, source):
    """Random numbers of every leaf go out and come back, and each leaf has a name of its own outside."""
    rules, (shapes, _) = registry.find(name).names[source], traced(name)
    starts = itertools.count(0, 997)

    def drawn(leaf):
        return np.resize(NUMBERS[next(starts) % 100_000 :], leaf.shape)

    ours = jax.tree.map(drawn, shapes)
    theirs = restore(ours, rules)
    again = convert(theirs, shapes, rules)
    assert jax.tree.structure(again) == jax.tree.structure(ours)
    assert all(map(np.array_equal, jax.tree.leaves(again), jax.tree.leaves(ours)))
    assert all(map(np.array_equal, restore(again, rules).values(), theirs.values()))


def test_every_table_of_names_is_walked():
    """Also those of several tables; a registered network without one has no public weights."""
    assert {name for name, _ in IMPORTABLE} == {name for name, entry in registry.entries().items() if entry.names}
    assert len(IMPORTABLE) > 30


@pytest.mark.parametrize(("name", "source"), IMPORTABLE, ids=map("-".join, IMPORTABLE))
def test_rules_say_which_kernels_are_transposed(name, source):
    rules, (_, transposed) = registry.find(name).names[source], traced(name)
    for path in transposed:
        name = source_name(path, rules, lambda n: rename(n, rules))
        layouts = {to.partition("|")[2] for rule, to in rules if to and name and re.fullmatch(rule, name)}
        assert layouts <= {"iohw", "hwoi", "ohwi"}, f"{path}: say |iohw"
        assert layouts
