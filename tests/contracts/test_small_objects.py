"""What holds when a detector runs, for a small variant of each of its files."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from jaxseg import registry
from jaxseg.layers.standardize import IMAGENET
from tests.contracts.zoo import DETECTORS, image_of, objects_of, one_of_each_file

SIZE = (64, 96)
NAMES = one_of_each_file(DETECTORS)
ALIKE = {"faster_rcnn_resnet101_fpn", "keypoint_rcnn_resnet50_fpn"}
"""Of parts that another network here has as well: they run with ``-m slow``."""
RUN = [pytest.param(*case.values, marks=pytest.mark.slow, id=case.id) if case.id in ALIKE else case for case in NAMES]
LEARNING = ("mask_rcnn_resnet50_fpn", "retinanet_resnet50_fpn")
GRADIENTS = [pytest.param(name, marks=[] if name in LEARNING else pytest.mark.slow) for name in DETECTORS]
DRAWN = {
    "kernel": lambda rng, s: rng.normal(size=s) * (2 / np.prod(s[:-1])) ** 0.5,
    "bias": lambda rng, s: rng.normal(size=s) * 0.1,
    "scale": lambda rng, s: rng.uniform(0.5, 1.5, s),
    "mean": lambda rng, s: rng.normal(size=s) * 0.1,
    "var": lambda rng, s: rng.uniform(0.5, 1.5, s),
}


@functools.cache
def prepared(name):
    """(model, variables with every leaf random)."""
    model = registry.create_small(name, standardize=IMAGENET)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), image_of(SIZE)))
    rng = np.random.default_rng(0)
    flat = traverse_util.flatten_dict(shapes)
    leaves = {k: jnp.asarray(DRAWN[k[-1]](rng, v.shape), v.dtype) for k, v in flat.items()}
    return model, traverse_util.unflatten_dict(leaves)


@pytest.mark.parametrize("name", RUN)
def test_detections_are_finite_sorted_in_the_image_and_of_their_own_image(name):
    """Compiled once; what is no image does not matter, nor do the other images of the batch."""
    model, variables = prepared(name)
    image, traces = image_of(SIZE), []

    def call(variables, image, size):
        traces.append(None)
        return model.apply(variables, image, size)

    compiled = jax.jit(call)
    size = jnp.asarray([[64, 96], [40, 70]], jnp.int32)
    found = jax.device_get(compiled(variables, image, size))
    other = jax.device_get(compiled(variables, image.at[1, 40:].set(7).at[1, :, 70:].set(9)[::-1], size[::-1]))
    assert len(traces) == 1
    for key, value in found.items():
        assert np.isfinite(value).all(), key
        np.testing.assert_allclose(other[key][::-1], value, rtol=1e-3, atol=1e-3 * np.abs(value).max(), err_msg=key)
    assert found["valid"].any()
    assert (np.diff(np.where(found["valid"], found["scores"], 0)) <= 0).all()
    assert (found["boxes"] >= 0).all()
    for i, (height, width) in enumerate(size.tolist()):
        assert found["boxes"][i, :, 2].max() <= width
        assert found["boxes"][i, :, 3].max() <= height
    assert found["classes"][found["valid"]].max() < model.num_classes


@pytest.mark.parametrize("name", GRADIENTS)
def test_every_parameter_of_a_detector_has_a_gradient(name):
    """Finite and not zero, by whatever is returned in training; nothing flows through the boxes of regions."""
    model, variables = prepared(name)
    keys = {"sample": jax.random.key(1), "dropout": jax.random.key(2)}
    targets = objects_of(SIZE)

    @jax.jit
    def slope(variables):
        def loss(params):
            inputs, options = {**variables, "params": params}, {"mutable": ["batch_stats"], "rngs": keys}
            outputs, state = model.apply(inputs, image_of(SIZE), None, targets, train=True, **options)
            floats = [out for out in outputs.values() if jnp.issubdtype(out.dtype, jnp.floating)]
            ramp = [jnp.linspace(-1.0, 1.0, out.size).reshape(out.shape) * jnp.tanh(out) for out in floats]
            return sum(jnp.sum(term) for term in ramp), (state, outputs)

        return jax.grad(loss, has_aux=True)(variables["params"])

    gradient, (state, outputs) = slope(variables)
    for path, leaf in traverse_util.flatten_dict(gradient, sep="/").items():
        assert np.isfinite(leaf).all(), path
        assert np.any(leaf), path
    if "rois" in outputs:
        valid = np.asarray(outputs["roi_valid"])
        assert valid[:, 0].all(), "the objects' own boxes are among the candidates"
        assert (np.diff(valid.astype(int)) <= 0).all()
        assert {tuple(b) for b in np.asarray(outputs["rois"][0, :16]).tolist()} & {
            tuple(b) for b in np.asarray(targets["boxes"][0, :2]).tolist()
        }
    before, after = (traverse_util.flatten_dict(v.get("batch_stats", {}), sep="/") for v in (variables, state))
    for path in before:
        frozen = path.rpartition("/")[0] + "/scale" in before
        assert frozen == np.array_equal(before[path], after[path]), path


@pytest.mark.parametrize("name", NAMES)
def test_a_detector_in_bfloat16_keeps_its_parameters_and_returns_float32(name):
    model = registry.create_small(name, dtype=jnp.bfloat16)
    found, variables = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), image_of(SIZE)))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    assert {leaf.dtype.name for leaf in found.values()} <= {"float32", "int32", "bool"}
