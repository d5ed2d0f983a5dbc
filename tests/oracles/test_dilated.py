"""Dilated networks against the layer table in torch functional calls, the context module's fields and its start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg import analysis
from jaxseg.errors import BadInput
from jaxseg.models.semantic import dilated
from jaxseg.models.semantic.unet import unet
from tests.oracles.torch_side import F, Reader, assert_agree, random_image, random_variables, to_torch, torch

MEANS = {"dilation10": (72.39, 82.91, 73.16)}
VOC = (102.93, 111.36, 116.52)


def mirrored(image, mean):
    """186 pixels of mirror image before, and as many behind as give the last pixel a cell beyond it."""
    x = np.array(image, np.float32)[0]
    border = [(186, 8 * ((n - 1) // 8 + 2) - n + 186) for n in x.shape[:2]]
    x = np.pad(x, (*border, (0, 0)), mode="reflect")[None]
    return to_torch(x).flip(1) - torch.tensor(mean)[:, None, None]


def frontend(r, x):
    """VGG-16 without padding: three pools, holes of two in block 5, of four in fc6."""
    for block, convs in enumerate((2, 2, 3, 3, 3), 1):
        for i in range(1, convs + 1):
            x = F.relu(r["backbone"].conv(f"conv{block}_{i}", x, dilation=2 if block == 5 else 1))
        x = F.max_pool2d(x, 2) if block < 4 else x
    x = F.relu(r["classifier"].conv("fc6", x, dilation=4))
    return r.conv("final", F.relu(r["classifier"].conv("fc7", x)))


def module(r, x, dilations):
    for i, hole in enumerate(dilations, 1):
        x = F.relu(r.conv(f"conv{i}", x, padding=hole, dilation=hole))
    return r.conv("final", x)


def zoom(x, size):
    """Cell i on pixel 8 i, linear between."""
    whole = [8 * (n - 1) + 1 for n in x.shape[2:]]
    return F.interpolate(x, size=whole, mode="bilinear", align_corners=True)[:, :, : size[0], : size[1]]


def deconvolution(x, size):
    line = torch.tensor([1 - abs(i - 7.5) / 8 for i in range(16)])
    kernel = (line[:, None] * line).expand(x.shape[1], 1, 16, 16)
    return F.conv_transpose2d(x, kernel, stride=8, padding=4, groups=x.shape[1])[:, :, : size[0], : size[1]]


@pytest.mark.parametrize(
    ("name", "dilations"),
    [
        ("dilated_frontend_vgg16", None),
        ("dilated_large_vgg16", (1, 1, 2, 4, 8, 16, 1)),
        ("dilation10", (1, 1, 2, 4, 8, 16, 32, 64, 1)),
    ],
)
def test_equals_the_layer_table(name, dilations):
    model = getattr(dilated, name)(num_classes=3, width=2, fc_features=5)
    size = (24, 17) if dilations is None else (9, 30)
    image = random_image(*size)
    variables = random_variables(model, image)
    r = Reader(variables)
    x = frontend(r["frontend"], mirrored(image, MEANS.get(name, VOC)))
    x = x if dilations is None else module(r["context"], x, dilations)
    theirs = (deconvolution if name == "dilation10" else zoom)(x, size)
    assert_agree(jax.jit(model.apply)(variables, image)["logits"], theirs)


def test_published_geometry():
    """900 pixels shrink by 372 to 66 cells (the authors' VOC network)."""
    model = dilated.dilated_frontend_vgg16(width=2, fc_features=2)
    trunk = jax.eval_shape(
        lambda: model.frontend.backbone.init_with_output(jax.random.key(0), random_image(900, 380), train=False)[0]
    )
    assert trunk["c5"].shape[1:3] == (90, 25)
    scores = jax.eval_shape(
        lambda: model.frontend.init_with_output(jax.random.key(0), random_image(500, 10), train=False)[0]
    )
    assert scores.shape[1:3] == (64, 3)


def test_cells_are_eight_pixels_apart():
    """Each sees around pixel 8 i + 3.5, where the deconvolution puts it; the authors' labels are those of pixel 8 i."""
    model = dilated.dilated_frontend_vgg16(width=1, fc_features=1).frontend
    found = analysis.geometry(lambda x: model.init_with_output(jax.random.key(0), x, train=False)[0], height=1200)
    assert (found.stride, found.offset) == (8, 3.5)


@pytest.mark.parametrize(
    ("kind", "classes", "count"), [("basic", 21, 28_392), ("large", 21, 6_803_139), ("basic10", 19, 29_792)]
)
def test_published_counts(kind, classes, count):
    module = dilated.context(kind, classes)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros((1, 8, 8, classes))))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


def test_published_fields():
    """Table 1: each layer of the context module sees 3, 5, 9, 17, 33, 65, 67 and 67 pixels, without losing any."""
    dilations = dilated.KINDS["basic"][0]
    fields = []
    for depth in range(1, 8):
        module = dilated.Context(1, dilations=dilations[:depth], widths=(1,) * depth)
        found = analysis.geometry(lambda x, m=module: m.init_with_output(jax.random.key(0), x[..., :1])[0], height=512)
        assert (found.stride, found.offset) == (1, 0)
        fields.append(found.field)
    assert [*fields, fields[-1]] == [3, 5, 9, 17, 33, 65, 67, 67]


@pytest.mark.parametrize("kind", ["basic", "large"])
def test_the_module_starts_as_the_identity(kind):
    """Of positive scores; the large one up to its small noise."""
    module, x = dilated.context(kind, 3), jnp.abs(to_scores(1, 9, 11, 3))
    key = jax.random.key(0, impl="rbg")
    y = jax.jit(module.init_with_output)(key, x)[0]
    np.testing.assert_allclose(y, x, atol=1e-5 if kind == "basic" else 0.35)
    still = dilated.Context(3, *dilated.KINDS[kind])
    np.testing.assert_allclose(jax.jit(still.init_with_output)(key, x)[0], x, rtol=1e-4)


def test_the_formula():
    """Channels 0, 1 of four belong to class 0 of two, 2 and 3 to class 1; twelve outputs share a class by six."""
    kernel = np.asarray(dilated.identity(2, noise=0.01)(jax.random.key(0, impl="rbg"), (3, 3, 4, 12), jnp.float32))
    for a, b in np.ndindex(4, 12):
        if a * 2 // 4 == b * 2 // 12:
            assert kernel[1, 1, a, b] == np.float32(2 / 12)
        else:
            assert abs(kernel[1, 1, a, b]) < 0.01
    noise = np.delete(kernel.reshape(9, -1), 4, axis=0)
    assert noise.std() == pytest.approx(0.01 * 2 / 12, rel=0.2)


def to_scores(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape).astype(np.float32))


def test_any_network_takes_a_context_module():
    """Its start changes nothing but to clip scores below zero, on the grid that the module sees."""
    network = unet(num_classes=3, depth=1, width=2, norm="none")
    image = random_image(19, 26)
    model = dilated.with_context(network, "basic", stride=4)
    variables = jax.jit(model.init)(jax.random.key(0, impl="rbg"), image)
    assert set(variables["params"]) == {"network", "context"}
    before = network.apply({"params": variables["params"]["network"]}, image)["logits"]
    after = jax.jit(model.apply)(variables, image)["logits"]
    assert after.shape == before.shape
    np.testing.assert_allclose(after[:, ::4, ::4], jnp.maximum(before[:, ::4, ::4], 0), atol=1e-5)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda: dilated.context("bassic", 3), "did you mean 'basic'"),
        (
            lambda: dilated.Dilated(dilated.dilation8(width=1).frontend, upsampling="cubic").init(
                jax.random.key(0), random_image(9, 9)
            ),
            "no upsampling is called 'cubic'",
        ),
    ],
)
def test_mistakes_are_named(fault, message):
    with pytest.raises(BadInput, match=message):
        fault()
