"""FCN against layer tables written in torch functional calls, and torchvision's FCN against torchvision."""

import jax
import numpy as np
import pytest

from jaxseg.backbones.resnet import ResNet
from jaxseg.models.semantic import fcn
from jaxseg.weights.names import convert
from tests.oracles.torch_side import (
    F,
    Reader,
    assert_agree,
    initial_params,
    random_image,
    random_variables,
    randomise,
    state,
    to_torch,
    torch,
)
from tests.torchvision_cpu import torchvision_or_skip

BLOCKS = (2, 2, 3, 3, 3)
MEAN_BGR = (104.00699, 116.66877, 122.67892)


def bilinear(classes, size):
    """The fixed deconvolution: one tent for each class, nothing across classes."""
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 else factor - 0.5
    line = torch.tensor([1 - abs(i - centre) / factor for i in range(size)])
    weight = torch.zeros(classes, classes, size, size)
    for k in range(classes):
        weight[k, k] = line[:, None] * line[None, :]
    return weight


def crop(x, offset, size):
    return x[:, :, offset : offset + size[0], offset : offset + size[1]]


def trunk(r, image):
    """Pools 3, 4 and 5 in Caffe's geometry: 100 pixels of padding first, pools that round up."""
    x = to_torch(image).flip(1) - torch.tensor(MEAN_BGR)[:, None, None]
    pools = {}
    for block, convs in enumerate(BLOCKS, 1):
        for i in range(1, convs + 1):
            x = F.relu(r.conv(f"conv{block}_{i}", x, padding=100 if block == i == 1 else 1))
        x = pools[block] = F.max_pool2d(x, 2, ceil_mode=True)
    return pools


def reference(variables, image, net):
    """The layer table: fc6, fc7, scores, deconvolutions, crops at 19, 5 and 27, or 5, 9 and 31."""
    r = Reader(variables)
    pools = trunk(r["backbone"], image)
    x = F.relu(r["classifier"].conv("fc6", pools[5]))
    x = r.conv("score_fr", F.relu(r["classifier"].conv("fc7", x)))
    classes, size = x.shape[1], image.shape[1:3]
    if net == "32s":
        return crop(F.conv_transpose2d(x, bilinear(classes, 64), stride=32), 19, size)
    x = F.conv_transpose2d(x, bilinear(classes, 4), stride=2)
    pool4 = pools[4] * (0.01 if net == "8s_atonce" else 1)
    x = x + crop(r.conv("score_pool4", pool4), 5, x.shape[2:])
    if net == "16s":
        return crop(F.conv_transpose2d(x, bilinear(classes, 32), stride=16), 27, size)
    x = F.conv_transpose2d(x, bilinear(classes, 4), stride=2)
    pool3 = pools[3] * (0.0001 if net == "8s_atonce" else 1)
    x = x + crop(r.conv("score_pool3", pool3), 9, x.shape[2:])
    return crop(F.conv_transpose2d(x, bilinear(classes, 16), stride=8), 31, size)


@pytest.mark.parametrize("net", ["32s", "16s", "8s", "8s_atonce"])
def test_equals_the_layer_table(net):
    build = {
        "32s": fcn.fcn32s_vgg16,
        "16s": fcn.fcn16s_vgg16,
        "8s": fcn.fcn8s_vgg16,
        "8s_atonce": fcn.fcn8s_atonce_vgg16,
    }[net]
    model = build(num_classes=3, width=8, fc_features=16)
    for size in [(48, 64), (37, 51)] if net == "8s" else [(37, 51)]:
        image = random_image(*size)
        variables = random_variables(model, image)
        ours = jax.jit(model.apply)(variables, image)["logits"]
        assert_agree(ours, reference(variables, image, net))


@pytest.mark.parametrize("size", [(48, 64), (37, 51)])
def test_alexnet_equals_the_layer_table(size):
    """Pools before normalisation, two groups, a deconvolution of 63 at stride 32 and a crop at 18."""
    model, image = fcn.fcn32s_alexnet(num_classes=3, widths=(8, 12, 8, 12, 10), fc_features=9), random_image(*size)
    variables = random_variables(model, image)
    r = Reader(variables)
    x, t = to_torch(image).flip(1) - torch.tensor(MEAN_BGR)[:, None, None], r["backbone"]
    x = F.max_pool2d(F.relu(t.conv("conv1", x, stride=4, padding=100)), 3, 2, ceil_mode=True)
    x = F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1.0)
    x = F.max_pool2d(F.relu(t.conv("conv2", x, padding=2, groups=2)), 3, 2, ceil_mode=True)
    x = F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1.0)
    x = F.relu(t.conv("conv3", x, padding=1))
    x = F.relu(t.conv("conv5", F.relu(t.conv("conv4", x, padding=1, groups=2)), padding=1, groups=2))
    x = F.relu(r["classifier"].conv("fc6", F.max_pool2d(x, 3, 2, ceil_mode=True)))
    x = r.conv("score_fr", F.relu(r["classifier"].conv("fc7", x)))
    theirs = crop(F.conv_transpose2d(x, bilinear(3, 63), stride=32), 18, size)
    assert_agree(jax.jit(model.apply)(variables, image)["logits"], theirs)


def test_learned_upsampling_starts_as_the_fixed_one():
    """The other scores start at zero, so that every pixel begins without an opinion."""
    image = random_image(21, 30)
    options = {"num_classes": 3, "width": 2, "fc_features": 4}
    fixed, learned = fcn.fcn8s_vgg16(**options), fcn.fcn8s_vgg16(learn_upsampling=True, **options)
    start = initial_params(learned, image)
    variables = random_variables(fixed, image)
    kernels = {name: start[name] for name in ("upscore_to_pool4", "upscore_to_pool3")}
    assert set(start) - set(kernels) == set(variables["params"])
    both = {"params": {**variables["params"], **kernels}}
    expected = jax.jit(fixed.apply)(variables, image)["logits"]
    np.testing.assert_allclose(jax.jit(learned.apply)(both, image)["logits"], expected, rtol=1e-4, atol=1e-4)
    assert not any(np.any(leaf) for name in start if name.startswith("score") for leaf in start[name].values())


@pytest.mark.parametrize("factor", [2, 8, 32])
def test_upsampling_equals_the_deconvolution(factor):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    theirs = F.conv_transpose2d(to_torch(x), bilinear(5, 2 * factor), stride=factor)
    x = jax.numpy.asarray(x)
    assert_agree(fcn.upsample_bilinear(x, factor), theirs, 1e-6)
    assert_agree(fcn.upsample_bilinear(x, factor, offset=3, size=(factor, 5)), crop(theirs, 3, (factor, 5)), 1e-6)


def test_published_geometry():
    """500 x 375 pixels: pools of 349 .. 22 and 287 .. 18, sixteen by twelve windows of fc6 (the authors' prototxts)."""
    model = fcn.fcn8s_vgg16(width=8, fc_features=8)

    def call():
        return model.init_with_output(jax.random.key(0), random_image(500, 375), capture_intermediates=True)

    maps = jax.eval_shape(call)[1]["intermediates"]
    pools = maps["backbone"]["__call__"][0]
    assert [pools[f"c{k}"].shape[1:3] for k in (1, 2, 3, 4, 5)] == [
        (349, 287),
        (175, 144),
        (88, 72),
        (44, 36),
        (22, 18),
    ]
    assert maps["classifier"]["__call__"][0].shape[1:3] == (16, 12)


def test_resnet_equals_torchvision():
    """Both heads, on a backbone with fewer blocks than the registered ones, whose weights the next test takes."""
    models, depths = torchvision_or_skip().models, (1, 1, 2, 1)
    trunk = models.resnet.ResNet(models.resnet.Bottleneck, depths, replace_stride_with_dilation=(False, True, True))
    theirs = randomise(models.segmentation.fcn._fcn_resnet(trunk, 21, True))
    model = fcn.ResNetFCN(backbone=ResNet(depths=depths, output_stride=8))
    target = jax.eval_shape(lambda: model.init(jax.random.key(0), random_image(33, 33)))
    variables = convert(state(theirs), target, fcn.TORCHVISION_NAMES)

    def both(variables, image):
        def part(name):
            return {collection: tree[name] for collection, tree in variables.items()}

        c4 = model.backbone.apply(part("backbone"), image, train=False)["c4"]
        aux = fcn.FCNHead(21).apply(part("aux_head"), c4, train=False)
        return model.apply(variables, image)["logits"], aux

    call = jax.jit(both)
    for size in [(64, 64), (45, 67)]:
        image = random_image(*size)
        with torch.no_grad():
            reference = theirs(to_torch(model.backbone.standardize(image)))
        logits, aux = call(variables, image)
        assert_agree(logits, reference["out"])
        aux = F.interpolate(to_torch(aux), size=size, mode="bilinear", align_corners=False)
        assert_agree(aux.permute(0, 2, 3, 1).numpy(), reference["aux"])


def test_resnet101_takes_torchvisions_weights():
    models = torchvision_or_skip().models.segmentation
    theirs = models.fcn_resnet101(weights=None, weights_backbone=None, num_classes=21, aux_loss=True)
    target = jax.eval_shape(lambda: fcn.fcn_resnet101().init(jax.random.key(0), random_image(33, 33)))
    ours = convert(state(theirs), target, fcn.TORCHVISION_NAMES)
    count = sum(leaf.size for leaf in jax.tree.leaves(ours["params"]))
    assert count == sum(p.numel() for p in theirs.parameters())
