"""ResNet against torchvision, at every depth, output stride and both stride placements."""

import jax
import numpy as np
import pytest

from jaxseg.backbones.resnet import TORCHVISION_NAMES, ResNet, resnet
from jaxseg.errors import BadInput
from jaxseg.weights.names import convert
from tests.oracles.torch_side import (
    assert_agree,
    random_image,
    random_variables,
    randomise,
    state,
    to_torch,
    torch,
)
from tests.torchvision_cpu import torchvision_or_skip


def compare(reference, model, sizes):
    """Every map of the model against the torch network's, the network's weights in both."""
    randomise(reference)
    target = jax.eval_shape(lambda: model.init(jax.random.key(0), random_image(33, 33), train=False))
    variables = convert(state(reference), target, TORCHVISION_NAMES)
    call = jax.jit(lambda v, x: model.apply(v, x, train=False))
    for size in sizes:
        image = random_image(*size)
        ours = call(variables, image)
        with torch.no_grad():
            x = reference.relu(reference.bn1(reference.conv1(to_torch(model.standardize(image)))))
            assert_agree(ours["c1"], x)
            x = reference.maxpool(x)
            for k in (1, 2, 3, 4):
                x = getattr(reference, f"layer{k}")(x)
                assert_agree(ours[f"c{k + 1}"], x)


@pytest.mark.parametrize("layers", [18, 34, 50])
def test_equals_torchvision(layers):
    models = torchvision_or_skip().models
    reference = models.get_model(f"resnet{layers}", weights=None)
    compare(reference, resnet(layers), [(64, 64), (37, 51)] if layers == 50 else [(37, 51)])


@pytest.mark.parametrize("layers", [101, 152])
def test_deep_has_a_place_for_each_of_torchvisions_weights(layers):
    """Nothing runs: beside ResNet-50, which equals torchvision's, the deep ones have more of the same blocks."""
    model = resnet(layers)
    target = jax.eval_shape(lambda: model.init(jax.random.key(0), random_image(33, 33), train=False))
    reference = torchvision_or_skip().models.get_model(f"resnet{layers}", weights=None)
    assert jax.tree.map(np.shape, convert(state(reference), target, TORCHVISION_NAMES)) == jax.tree.map(
        np.shape, target
    )


@pytest.mark.slow
@pytest.mark.parametrize("layers", [101, 152])
def test_deep_equals_torchvision(layers):
    models = torchvision_or_skip().models
    compare(models.get_model(f"resnet{layers}", weights=None), resnet(layers), [(37, 51)])


@pytest.mark.parametrize(("stride", "dilate"), [(16, (False, False, True)), (8, (False, True, True))])
def test_output_stride_equals_torchvision(stride, dilate):
    models = torchvision_or_skip().models
    reference = models.resnet50(weights=None, replace_stride_with_dilation=dilate)
    compare(reference, resnet(50, output_stride=stride), [(51, 37)])


def test_multi_grid_dilates_every_block():
    """All of stage 3 by 2, stage 4 by 4 times (1, 2, 4): section 3.2.1 of DeepLab v3."""
    models = torchvision_or_skip().models
    depths, width = (1, 1, 2, 3), 8
    reference = models.resnet.ResNet(models.resnet.Bottleneck, depths, width_per_group=width)
    for stage, rates in ((reference.layer3, (2, 2)), (reference.layer4, (4, 8, 16))):
        for block, rate in zip(stage, rates, strict=True):
            block.conv2.stride, block.conv2.dilation, block.conv2.padding = (1, 1), (rate, rate), (rate, rate)
        stage[0].downsample[0].stride = (1, 1)
    model = ResNet(depths=depths, width_per_group=width, output_stride=8, multi_grid=(1, 2, 4))
    compare(reference, model, [(51, 37)])


def test_resnext_equals_torchvision():
    """Four groups at every output stride's price: one with dilation."""
    models = torchvision_or_skip().models
    options = {"groups": 4, "width_per_group": 16}
    block, depths = models.resnet.Bottleneck, (1, 1, 1, 2)
    reference = models.resnet.ResNet(block, depths, replace_stride_with_dilation=(False, False, True), **options)
    compare(reference, ResNet(depths=depths, output_stride=16, **options), [(51, 37)])


@pytest.mark.parametrize(
    ("layers", "groups", "width", "count"),
    [(50, 32, 4, 25_028_904), (101, 32, 8, 88_791_336), (101, 64, 4, 83_455_272)],
)
def test_resnext_counts_are_torchvisions(layers, groups, width, count):
    """Their counts hold the classifier, 2048 x 1000 + 1000."""
    model = resnet(layers, groups=groups, width_per_group=width)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), random_image(33, 33), train=False))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == count - 2_049_000


def test_msra_puts_the_stride_on_the_first_convolution():
    reference = torchvision_or_skip().models.resnet50(weights=None)
    for stage in (reference.layer2, reference.layer3, reference.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    compare(reference, resnet(50, stride_on="1x1"), [(51, 37)])


@pytest.mark.parametrize(("bottleneck", "stride_on"), [(True, "3x3"), (True, "1x1"), (False, "3x3")])
def test_dilation_is_the_strided_network_at_every_place(bottleneck, stride_on):
    """A-trous: where the strided network has a value, the dilated one has the same, also at ragged borders."""
    options = {"depths": (1, 1, 2, 2), "width": 4, "bottleneck": bottleneck, "stride_on": stride_on}
    image = random_image(75, 94)
    strided = ResNet(**options)
    variables = random_variables(strided, image, train=False)
    coarse = jax.jit(lambda v, x: strided.apply(v, x, train=False))(variables, image)
    model = ResNet(output_stride=8, **options)
    dense = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, image)
    for k in (4, 5):
        step = 2 ** (k - 3)
        expected = np.asarray(coarse[f"c{k}"])
        found = np.asarray(dense[f"c{k}"])[:, ::step, ::step]
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda: resnet(51), "no ResNet of 51 layers; there are: 18, 34, 50, 101, 152"),
        (lambda: resnet(18, output_stride=64), "there are 8, 16 and 32"),
        (lambda: resnet(18, stride_on="2x2"), "there are '3x3'"),
        (lambda: resnet(18, multi_grid=(1, 2, 4)), "one number for each of 2 blocks"),
        (lambda: resnet(18, stem="5x5"), "there are '7x7' and '3x3x3'"),
        (lambda: ResNet(padding="VALID"), "there are 'torch' and 'SAME'"),
    ],
)
def test_mistakes_are_named(fault, message):
    with pytest.raises(BadInput, match=message):
        jax.eval_shape(lambda: fault().init(jax.random.key(0), random_image(32, 32), train=False))
