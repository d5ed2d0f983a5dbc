"""SENet: each kind of block against torch, layer by layer."""

import jax
import pytest

from jaxseg.backbones.senet import SENet
from jaxseg.errors import BadInput
from tests.oracles.torch_side import F, Reader, assert_agree, random_image, random_variables, to_torch


def conv_norm(part, name, x, **options):
    return part[name].norm("norm", part[name].conv("conv", x, **options))


def block(part, x, kind, groups, stride, dilation, window):
    """SEResNetBottleneck, SEResNeXtBottleneck and SEBottleneck of segmentation-models-pytorch."""
    early, late = (stride, 1) if kind == "resnet" else (1, stride)
    y = F.relu(conv_norm(part, "conv1", x, stride=early))
    y = conv_norm(part, "conv2", y, stride=late, padding=dilation, dilation=dilation, groups=groups)
    y = conv_norm(part, "conv3", F.relu(y))
    gain = F.relu(part["squeeze"].conv("reduce", y.mean((2, 3), keepdim=True)))
    y = y * part["squeeze"].conv("expand", gain).sigmoid()
    if window:
        around = dilation * (window // 2)
        x = conv_norm(part, "shortcut", x, stride=stride, padding=around, dilation=dilation)
    return F.relu(y + x)


@pytest.mark.parametrize(("kind", "groups", "output_stride"), [("resnet", 1, 32), ("resnext", 4, 16), ("senet", 4, 16)])
def test_equals_torch_layer_by_layer(kind, groups, output_stride):
    model = SENet((1, 2, 1, 1), kind, groups, width=32, output_stride=output_stride)
    image = random_image(37, 50)
    variables = random_variables(model, image, train=False)
    ours = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, image)
    reader, x = Reader(variables), to_torch(model.standardize(image))
    for i in (1, 2, 3) if kind == "senet" else (1,):
        x = F.relu(conv_norm(reader, f"stem{i}", x, stride=2 if i == 1 else 1, padding=1 if kind == "senet" else 3))
    assert_agree(ours["c1"], x)
    x = F.max_pool2d(x, 3, 2, ceil_mode=True)
    for stage, blocks in enumerate(model.depths, 1):
        dilation = 2 if stage == 4 and output_stride == 16 else 1
        for i in range(blocks):
            stride = 2 if stage > 1 and i == 0 and dilation == 1 else 1
            window = 0 if i else 3 if kind == "senet" and stage > 1 else 1
            x = block(reader[f"layer{stage}_{i}"], x, kind, groups, stride, dilation, window)
        assert_agree(ours[f"c{stage + 1}"], x)


def test_other_kinds_are_refused():
    image = random_image(64, 64)
    with pytest.raises(BadInput, match="kind 'resnest' of SENet; there are 'resnet', 'resnext' and 'senet'"):
        jax.eval_shape(lambda: SENet(kind="resnest").init(jax.random.key(0), image, train=False))
