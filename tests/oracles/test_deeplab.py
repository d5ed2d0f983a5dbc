"""DeepLab v1 and v2 against the layer tables in torch functional calls, written from the authors' Caffe networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.backbones.resnet import ResNet
from jaxseg.models.semantic import deeplab
from jaxseg.registry import create_model
from jaxseg.tasks.semantic import Semantic
from tests.oracles.torch_side import F, Reader, assert_agree, random_image, random_variables, to_torch, torch

BLOCKS = (2, 2, 3, 3, 3)
MEAN_BGR = (104.00699, 116.66877, 122.67892)


def bgr(image):
    return to_torch(image).flip(1) - torch.tensor(MEAN_BGR)[:, None, None]


def trunk(r, image):
    """The five pools: 3x3 with a padding of one; the fourth and fifth at stride 1, block 5 with holes of two."""
    x, pools = bgr(image), [bgr(image)]
    for block, convs in enumerate(BLOCKS, 1):
        for i in range(1, convs + 1):
            hole = 2 if block == 5 else 1
            x = F.relu(r.conv(f"conv{block}_{i}", x, padding=hole, dilation=hole))
        x = F.max_pool2d(x, 3, stride=2 if block < 4 else 1, padding=1, ceil_mode=True)
        pools.append(x)
    return pools


def interp(x, image):
    """Cell i on pixel 8 i; beyond the last cell its value."""
    x = F.pad(x, (0, 1, 0, 1), mode="replicate")
    size = [8 * (n - 1) + 1 for n in x.shape[2:]]
    x = F.interpolate(x, size=size, mode="bilinear", align_corners=True)
    return x[:, :, : image.shape[1], : image.shape[2]]


def fov(r, x, kernel=3, hole=12):
    x = F.relu(r.conv("fc6", x, padding=hole * (kernel - 1) // 2, dilation=hole))
    return F.relu(r.conv("fc7", x))


@pytest.mark.parametrize(("kernel", "hole"), [(3, 12), (4, 8)])
def test_v1_equals_the_layer_table(kernel, hole):
    model = deeplab.deeplab_largefov_vgg16(num_classes=4, width=4, kernel_size=kernel, rate=hole, fc_features=6)
    for size in [(49, 64), (37, 50)] if kernel == 3 else [(33, 41)]:
        image = random_image(*size)
        variables = random_variables(model, image)
        r = Reader(variables)
        x = F.avg_pool2d(trunk(r["backbone"], image)[5], 3, stride=1, padding=1)
        theirs = interp(r.conv("fc8", fov(r["fov"], x, kernel, hole)), image)
        assert_agree(jax.jit(model.apply)(variables, image)["logits"], theirs)


def test_msc_equals_the_sum_over_branches():
    """The authors score each branch and add; a classifier on the concatenation is the same."""
    model = deeplab.deeplab_msc_largefov_vgg16(num_classes=4, width=4, fc_features=6, mlp_features=5)
    image = random_image(36, 51)
    variables = random_variables(model, image)
    r = Reader(variables)
    pools = trunk(r["backbone"], image)
    features = fov(r["fov"], F.avg_pool2d(pools[5], 3, stride=1, padding=1))
    weight, bias = r.tensor("fc8", "kernel").permute(3, 2, 0, 1), r.tensor("fc8", "bias")
    total = F.conv2d(features, weight[:, :6], bias)
    for k, stride in enumerate((8, 4, 2, 1, 1)):
        name = f"pool{k}" if k else "image"
        rows, columns = ((n - 1) * stride + 2 - m for n, m in zip(total.shape[2:], pools[k].shape[2:], strict=True))
        x = F.pad(pools[k], (1, columns, 1, rows))
        x = F.relu(r.conv(f"{name}_fc", F.relu(r.conv(f"{name}_conv", x, stride=stride))))
        assert x.shape[2:] == total.shape[2:]
        total = total + F.conv2d(x, weight[:, 6 + 5 * k : 11 + 5 * k])
    assert_agree(jax.jit(model.apply)(variables, image)["logits"], interp(total, image))


def test_v2_on_vgg_equals_the_layer_table():
    model = deeplab.deeplabv2_vgg16(num_classes=4, width=4, fc_features=6)
    image = random_image(37, 50)
    variables = random_variables(model, image)
    r = Reader(variables)
    x = trunk(r["backbone"], image)[5]
    scores = [r.conv(f"fc8_{i}", fov(r[f"branch{i}"], x, 3, 6 * i)) for i in (1, 2, 3, 4)]
    assert_agree(jax.jit(model.apply)(variables, image)["logits"], interp(sum(scores), image))


def residual(r, x, stage, block, stride, hole):
    """The authors' bottleneck: the stride in the first 1x1, the hole in the 3x3 of every block of the stage."""
    b = r[f"layer{stage}_{block}"]
    y = F.relu(b.norm("norm1", b.conv("conv1", x, stride=stride)))
    y = F.relu(b.norm("norm2", b.conv("conv2", y, padding=hole, dilation=hole)))
    y = b.norm("norm3", b.conv("conv3", y))
    if block == 0:
        x = b.norm("norm_shortcut", b.conv("conv_shortcut", x, stride=stride))
    return F.relu(x + y)


def resnet_scores(r, x, depths, rates):
    t = r["backbone"]
    x = F.relu(t.norm("norm1", t.conv("conv1", x, stride=2, padding=3)))
    x = F.max_pool2d(x, 3, stride=2, padding=1, ceil_mode=True)
    for stage, (blocks, stride, hole) in enumerate(zip(depths, (1, 2, 1, 1), (1, 1, 2, 4), strict=True), 1):
        for i in range(blocks):
            x = residual(t, x, stage, i, stride if i == 0 else 1, hole)
    head = r["head"]
    return sum(head.conv(f"classifier{i}", x, padding=rate, dilation=rate) for i, rate in enumerate(rates, 1))


def small_resnet(scales, rates=(1, 2)):
    backbone = deeplab.deeplabv2_resnet101(width=4).backbone
    backbone = ResNet(**{**{f: getattr(backbone, f) for f in FIELDS}, "depths": (1, 2, 1, 2)})
    return deeplab.DeepLabV2ResNet(backbone=backbone, num_classes=4, rates=rates, scales=scales)


FIELDS = ("depths", "width", "output_stride", "stride_on", "ceil_mode", "standardize")


@pytest.mark.parametrize("size", [(65, 49), (50, 37)])
def test_v2_on_resnet_equals_the_layer_table(size):
    """Three scales, each fused score the largest of the three; in training every scale's own."""
    model, image = small_resnet((1.0, 0.75, 0.5)), random_image(*size)
    variables = random_variables(model, image)
    r, whole, scores = Reader(variables), bgr(image), []
    for scale in (1.0, 0.75, 0.5):
        shape = [int((n - 1) * scale) + 1 for n in size]
        x = F.interpolate(whole, size=shape, mode="bilinear", align_corners=True)
        x = resnet_scores(r, x, (1, 2, 1, 2), (1, 2))
        grid = scores[0].shape[2:] if scores else x.shape[2:]
        scores.append(F.interpolate(x, size=grid, mode="bilinear", align_corners=True))
    fused = torch.maximum(torch.maximum(scores[0], scores[1]), scores[2])
    outputs = jax.jit(lambda v, x: model.apply(v, x, train=True))(variables, image)
    assert_agree(outputs["logits"], interp(fused, image))
    for name, theirs in zip(("x1", "x0.75", "x0.5"), scores, strict=True):
        assert_agree(outputs[f"aux_logits_{name}"], interp(theirs, image))


def test_every_scale_has_its_own_loss():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 4, 3)).astype(np.float32))
    label = jnp.zeros((1, 4, 4), jnp.int32)
    outputs = {"logits": logits, "aux_logits_x1": 2 * logits, "aux_logits_x0.5": -logits}
    terms = Semantic(3, aux_weight=1.0).loss(outputs, {"label": label})
    assert set(terms) == {"cross_entropy", "aux_x1_cross_entropy", "aux_x0.5_cross_entropy"}
    assert {term.weight for term in terms.values()} == {1.0}
    alone = Semantic(3).loss({"logits": -logits}, {"label": label})["cross_entropy"]
    assert terms["aux_x0.5_cross_entropy"].sum == alone.sum


@pytest.mark.parametrize(
    ("name", "fields", "millions"),
    [
        ("deeplab_largefov_vgg16", {"kernel_size": 7, "rate": 4, "fc_features": 4096}, 134.3),
        ("deeplab_largefov_vgg16", {"kernel_size": 4, "rate": 8, "fc_features": 4096}, 65.1),
        ("deeplabv2_vgg16", {}, 37.9),
        ("deeplabv2_resnet101", {}, 44.0),
    ],
)
def test_published_counts(name, fields, millions):
    model = create_model(name, **fields)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), random_image(64, 64)))
    assert round(sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) / 1e6, 1) == millions


def test_published_sizes():
    """321 pixels give 41 cells at every network's stride of 8, and 31 and 21 at the smaller scales (v2)."""
    image = random_image(321, 321)
    model = small_resnet((1.0,))
    for side, cells in ((321, 41), (241, 31), (161, 21)):

        def call(side=side):
            part = image[:, :side, :side]
            return model.backbone.init_with_output(jax.random.key(0), part, train=False)[0]["c5"]

        assert jax.eval_shape(call).shape[1:3] == (cells, cells)
    trunk = deeplab.deeplab_largefov_vgg16(width=4).backbone
    maps = jax.eval_shape(lambda: trunk.init_with_output(jax.random.key(0), image, train=False)[0])
    assert [maps[f"c{k}"].shape[1] for k in (1, 2, 3, 4, 5)] == [161, 81, 41, 41, 41]
