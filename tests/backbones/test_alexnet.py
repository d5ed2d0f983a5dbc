"""AlexNet: torchvision's layout against torchvision, Caffe's against the layer table."""

import jax
import pytest

from jaxseg.backbones.alexnet import TORCHVISION_NAMES, AlexNet, torchvision_alexnet
from jaxseg.weights.names import convert
from tests.oracles.torch_side import F, Reader, assert_agree, random_image, random_variables, state, to_torch, torch
from tests.torchvision_cpu import torchvision_or_skip


def run(model, variables, image):
    return jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, image)


def test_equals_torchvision():
    theirs = torchvision_or_skip().models.alexnet(weights=None).eval()
    model = torchvision_alexnet()
    target = jax.eval_shape(lambda: model.init(jax.random.key(0), random_image(64, 64), train=False))
    variables = convert(state(theirs), target, TORCHVISION_NAMES)
    image = random_image(67, 80)
    with torch.no_grad():
        reference = theirs.features(to_torch(model.standardize(image)))
    assert_agree(run(model, variables, image)["c5"], reference)


@pytest.mark.parametrize("size", [(72, 97), (51, 64)])
def test_equals_the_layer_table(size):
    """CaffeNet: pool, then normalisation; groups of two in convolutions 2, 4 and 5; pools that round up."""
    model, image = AlexNet(widths=(8, 12, 8, 12, 10)), random_image(*size)
    variables = random_variables(model, image, train=False)
    r, maps = Reader(variables), run(model, variables, image)
    x = to_torch(model.standardize(image))
    x = F.relu(r.conv("conv1", x, stride=4))
    assert_agree(maps["c2"], x)
    x = F.local_response_norm(F.max_pool2d(x, 3, 2, ceil_mode=True), 5, alpha=1e-4, beta=0.75, k=1.0)
    assert_agree(maps["c3"], x)
    x = F.relu(r.conv("conv2", x, padding=2, groups=2))
    x = F.local_response_norm(F.max_pool2d(x, 3, 2, ceil_mode=True), 5, alpha=1e-4, beta=0.75, k=1.0)
    for i, groups in ((3, 1), (4, 2), (5, 2)):
        x = F.relu(r.conv(f"conv{i}", x, padding=1, groups=groups))
    assert_agree(maps["c4"], x)
    assert_agree(maps["c5"], F.max_pool2d(x, 3, 2, ceil_mode=True))
