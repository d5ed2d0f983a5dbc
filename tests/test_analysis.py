"""Cost, stride and receptive field, read off the program, against what a gradient reaches and XLA counts."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg import analysis
from jaxseg.models.semantic.enet import enet
from jaxseg.models.semantic.fcn import fcn32s_alexnet, fcn32s_vgg16, upsample_bilinear
from jaxseg.models.semantic.unet import unet, unet_original


class Plain(nn.Module):
    """Any few layers, given as functions of a map."""

    layers: tuple
    channels: int = 1

    @nn.compact
    def __call__(self, image, *, train: bool = False):
        x = image.astype(jnp.float32)
        for layer in self.layers:
            x = layer(x)
        return {"logits": x}


def convolution(*args, **kwargs):
    return nn.Conv(*args, use_bias=False, **kwargs)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ((convolution(2, (3, 3)),), (1, 3)),
        ((convolution(2, (3, 3), kernel_dilation=4),), (1, 9)),
        ((convolution(2, (3, 3), strides=2), convolution(2, (3, 3))), (2, 7)),
        ((lambda x: nn.max_pool(x, (2, 2), (2, 2)), convolution(2, (5, 5))), (2, 10)),
        ((lambda x: x[:, ::4, ::4], convolution(2, (3, 3))), (4, 9)),
        ((lambda x: x - x.mean((1, 2), keepdims=True),), (1, None)),
        ((lambda x: jnp.sort(x, axis=1),), (1, None)),
        ((lambda x: x[:, ::-1],), (1, 1)),
        ((lambda x: jnp.zeros_like(x).at[:, x[0, :, 0, 0].astype(jnp.int32)].add(x),), (1, None)),
    ],
)
def test_small_programs_by_hand(layers, expected):
    assert analysis.receptive_field(Plain(layers))[:2] == expected


def test_the_field_is_what_a_gradient_reaches():
    """With positive weights, and an image that grows to one side so that pooling always looks at the farthest cell."""
    model = unet(num_classes=1, depth=2, width=1, norm="none")
    stride, field, _ = analysis.receptive_field(model)
    rows = 96
    ramp = np.broadcast_to(np.linspace(200, 250, rows, dtype=np.float32)[None, :, None, None], (1, rows, 4, 3))
    image = jnp.asarray(np.concatenate([ramp, ramp[:, ::-1]]))
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)

    def positive(path, leaf):
        known = {"kernel": 1 / max(np.prod(leaf.shape[:-1]), 1), "scale": 1, "var": 1}
        return jnp.full(leaf.shape, known.get(path[-1].key, 0), jnp.float32)

    variables = jax.tree_util.tree_map_with_path(positive, shapes)
    logits, pull = jax.vjp(lambda x: model.apply(variables, x, train=False)["logits"], image)
    rows_at_once = (jnp.arange(rows // 2 // stride * stride, rows // 2 // stride * stride + stride),)

    def reached(row):
        chosen = (jnp.arange(rows) == row).astype(jnp.float32)[None, :, None, None]
        return jnp.abs(pull(jnp.broadcast_to(chosen, logits.shape))[0]).sum((0, 2, 3)) > 0

    maps = np.asarray(jax.vmap(reached)(*rows_at_once))
    spans = [np.flatnonzero(row)[-1] - np.flatnonzero(row)[0] + 1 for row in maps]
    assert max(spans) == field


def test_published_fields():
    """VGG16's field of 404 pixels (FCN, Table 1), and 32 more since its upsampling mixes two cells."""
    assert analysis.receptive_field(fcn32s_vgg16(width=1, fc_features=1)) == (32, 404 + 32, 12.5)
    assert analysis.receptive_field(enet())[0] == 8
    assert analysis.receptive_field(unet_original(width=1))[0] == 16


def scores_of(model):
    """Image -> the scores of fc7, before any upsampling."""

    def call(image):
        key = jax.random.key(0)
        c5 = model.backbone.init_with_output(key, image, train=False)[0]["c5"]
        return model.classifier.init_with_output(key, c5, train=False)[0]

    return call


def pool_of(model, k):
    return lambda image: model.backbone.init_with_output(jax.random.key(0), image, train=False)[0][f"c{k}"]


def test_caffes_crops_follow_from_the_offsets():
    """The numbers of the public prototxts: 19 for 32s; 5 and 27 for 16s; 9 and 31 for 8s; 18 on AlexNet."""
    model = fcn32s_vgg16(width=1, fc_features=1)
    scores, pools = scores_of(model), {k: analysis.geometry(pool_of(model, k)) for k in (3, 4)}

    def up(scores, *steps, window=None):
        def call(image):
            x = scores(image)
            for step in steps:
                x = upsample_bilinear(x, step, window=window)
            return x

        return analysis.geometry(call)

    assert analysis.geometry(scores) == (404, 32, 12.5)
    assert up(scores, 32).offset == -19
    fine = up(scores, 2)
    assert fine.stride == pools[4].stride == 16
    assert (fine.offset - pools[4].offset) / 16 == 5
    assert up(scores, 2, 16).offset == -27
    finer = up(scores, 2, 2)
    assert (finer.offset - pools[3].offset) / 8 == 9
    assert up(scores, 2, 2, 8).offset == -31
    assert up(scores_of(fcn32s_alexnet(widths=(2, 2, 2, 2, 2), fc_features=1)), 32, window=63).offset == -18


def test_geometry_by_hand():
    found = analysis.geometry(lambda x: x[:, 3::5], height=640)
    assert found == (1, 5, 3)
    assert analysis.geometry(lambda x: nn.max_pool(x, (4, 4), (2, 2)), height=640) == (4, 2, 1.5)
    assert analysis.geometry(lambda x: x - x.mean((1, 2), keepdims=True)).field is None


@pytest.mark.parametrize(
    ("layers", "offset"),
    [
        ((convolution(2, (3, 3)),), 0),
        ((lambda x: nn.max_pool(x, (2, 2), (2, 2)), lambda x: jnp.repeat(x, 2, 1)), 0.5),
        ((convolution(2, (3, 3), strides=4, padding=(5, 0)), lambda x: jnp.repeat(x, 4, 1)), -4),
        ((lambda x: x[:, 3::8],), 3),
        ((lambda x: x[:, ::8] - x.mean((1, 2), keepdims=True),), 0),
        ((lambda x: x - x.mean((1, 2), keepdims=True),), None),
    ],
)
def test_the_offset_is_where_the_first_cell_of_the_coarsest_map_lies(layers, offset):
    assert analysis.receptive_field(Plain(layers)).offset == offset


def test_operations_in_a_loop_count_each_time():
    def call(x, w):
        return jax.lax.scan(lambda c, _: (c @ w, None), x, length=5)[0]

    assert analysis.operations(call, jnp.zeros((3, 4)), jnp.zeros((4, 4))) == 5 * 2 * 3 * 4 * 4


def test_operations_are_those_that_xla_counts():
    model = Plain((convolution(4, (3, 3), padding="VALID"), convolution(8, (1, 1))))
    by_hand = 2 * (30 * 30 * 4 * 27 + 30 * 30 * 8 * 4)
    assert analysis.gflops(model, 32, 32) * 1e9 == pytest.approx(by_hand)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    counted = jax.jit(model.apply).lower(variables, jnp.zeros((1, 32, 32, 3))).cost_analysis()
    assert counted["flops"] == pytest.approx(by_hand, rel=0.02)


def test_transposed_convolutions_count_no_zeros():
    model = Plain((nn.ConvTranspose(5, (2, 2), strides=(2, 2), use_bias=False),))
    assert analysis.gflops(model, 16, 16) * 1e9 == pytest.approx(2 * 16 * 16 * 4 * 3 * 5)
