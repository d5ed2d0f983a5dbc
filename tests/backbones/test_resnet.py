"""ResNet against torchvision, at every depth, output stride and both stride placements."""

import jax
import pytest

from jaxseg.backbones.resnet import TORCHVISION_NAMES, resnet
from jaxseg.types import BadInput
from jaxseg.weights.names import convert
from tests.oracles.torch_side import assert_agree, random_image, randomise, state, to_torch, torch
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


def test_msra_puts_the_stride_on_the_first_convolution():
    reference = torchvision_or_skip().models.resnet50(weights=None)
    for stage in (reference.layer2, reference.layer3, reference.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    compare(reference, resnet(50, stride_on="1x1"), [(51, 37)])


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda: resnet(51), "no ResNet of 51 layers; there are: 18, 34, 50, 101, 152"),
        (lambda: resnet(18, output_stride=64), "there are 8, 16 and 32"),
        (lambda: resnet(18, stride_on="2x2"), "there are '3x3'"),
        (lambda: resnet(18, stem="5x5"), "there are '7x7' and '3x3x3'"),
    ],
)
def test_mistakes_are_named(fault, message):
    with pytest.raises(BadInput, match=message):
        jax.eval_shape(lambda: fault().init(jax.random.key(0), random_image(32, 32), train=False))
