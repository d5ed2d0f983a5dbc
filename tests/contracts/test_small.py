"""What holds when a model runs, for a small variant of each family."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from jaxseg import registry
from tests.contracts.zoo import MAPPERS, ODD, SMALL, image_of, main_output, one_of_each_file, output_size, sizes

DEEP = {
    "attention_unet",
    "deeplabv3plus_xception65",
    "dpt_hybrid",
    "enet",
    "hed_mobilenet_v2",
    "hrnet_ocr_w18",
    "u2netp",
}
"""Of many convolutions one behind the other: they take long to compile."""

SMALL = [case for case in one_of_each_file(SMALL) if case.id not in DEEP] + [
    pytest.param(name, marks=pytest.mark.slow, id=name) for name in SMALL if name in DEEP
]


def size_of(model):
    return sizes(model)[0] if hasattr(model, "valid_size") else ODD


@functools.cache
def prepared(name):
    """(model, variables with every leaf random, image)."""
    model = registry.create_small(name)
    image = image_of(size_of(model))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), image))
    rng = np.random.default_rng(0)
    draw = {
        "kernel": lambda s: rng.normal(size=s) * (2 / np.prod(s[:-1])) ** 0.5,
        "bias": lambda s: rng.normal(size=s) * 0.1,
        "scale": lambda s: rng.uniform(0.5, 1.5, s),
        "mean": lambda s: rng.normal(size=s) * 0.1,
        "var": lambda s: rng.uniform(0.5, 1.5, s),
        "alpha": lambda s: rng.uniform(0.1, 0.4, s),
    }
    flat = traverse_util.flatten_dict(shapes)
    rest = lambda s: rng.uniform(0.1, 0.5, s)  # noqa: E731  factors per channel, positions
    leaves = {k: jnp.asarray(draw.get(k[-1], rest)(v.shape), v.dtype) for k, v in flat.items()}
    return model, traverse_util.unflatten_dict(leaves), image


@functools.cache
def logits_of(name):
    """Logits in evaluation, and how often the model was traced for them and for another batch of the same shape."""
    model, variables, image = prepared(name)
    traces = []

    def call(variables, image):
        traces.append(None)
        return model.apply(variables, image)[main_output(name)]

    compiled = jax.jit(call)
    logits = np.asarray(compiled(variables, image))
    again = np.asarray(compiled(variables, image[::-1]))
    return logits, again, len(traces)


@pytest.mark.parametrize("name", SMALL)
def test_evaluation(name):
    """Finite, compiled once, image by image: the other images of the batch do not matter."""
    model, _, image = prepared(name)
    logits, reversed_logits, traces = logits_of(name)
    channels = logits.shape[3:] if name in MAPPERS else (model.num_classes,)
    assert logits.shape == (2, *output_size(model, image.shape[1:3]), *channels)
    assert np.isfinite(logits).all()
    assert traces == 1
    np.testing.assert_allclose(reversed_logits[::-1], logits, rtol=1e-4, atol=1e-4 * np.abs(logits).max())
    assert not np.allclose(logits[0], logits[1])


@pytest.mark.parametrize("name", SMALL)
def test_training(name):
    """Every parameter has a finite gradient that is not zero, dropout draws from its stream, statistics move."""
    model, variables, image = prepared(name)

    @jax.jit
    def step(variables, key):
        def loss(params):
            inputs = {**variables, "params": params}
            outputs, state = model.apply(inputs, image, train=True, mutable=["batch_stats"], rngs={"dropout": key})
            ramp = [jnp.linspace(-1.0, 1.0, out.size).reshape(out.shape) * jnp.tanh(out) for out in outputs.values()]
            return sum(jnp.sum(term) for term in ramp), state

        return jax.grad(loss, has_aux=True)(variables["params"])

    gradient, state = step(variables, jax.random.key(1))
    for path, leaf in traverse_util.flatten_dict(gradient, sep="/").items():
        assert np.isfinite(leaf).all(), path
        assert np.any(leaf), path
    moved = jax.tree.map(
        lambda a, b: bool(np.any(a != b)), state.get("batch_stats", {}), variables.get("batch_stats", {})
    )
    assert all(jax.tree.leaves(moved))


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16(name):
    """The compute dtype is a field: parameters stay float32, logits come back as float32 and stay close."""
    _, variables, image = prepared(name)
    model = registry.create_small(name, dtype=jnp.bfloat16)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), image))
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype(jnp.float32)}
    logits = np.asarray(jax.jit(model.apply)(variables, image)[main_output(name)])
    assert logits.dtype == np.float32
    reference = logits_of(name)[0]
    assert not np.array_equal(logits, reference)
    assert np.sqrt(np.mean((logits - reference) ** 2)) <= (0.2 if name in DEEP else 0.1) * reference.std()
