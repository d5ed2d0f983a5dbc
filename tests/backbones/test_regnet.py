"""RegNet against torchvision, whose names are brought to timm's."""

import re

import jax
import numpy as np
import pytest

from jaxseg.backbones.regnet import TIMM_NAMES, RegNet
from jaxseg.weights.names import convert
from tests.oracles.torch_side import assert_agree, random_image, randomise, state, to_torch, torch
from tests.torchvision_cpu import torchvision_or_skip


def timm_name(name):
    parts = {"f.a": "conv1", "f.b": "conv2", "f.c": "conv3", "proj": "downsample"}
    pair = {"0": "conv", "1": "bn"}
    if found := re.fullmatch(r"stem\.([01])\.(\w+)", name):
        return f"stem.{pair[found[1]]}.{found[2]}"
    found = re.fullmatch(r"trunk_output\.block(\d)\.block\d-(\d+)\.(f\.[abc]|proj)\.([01])\.(\w+)", name)
    if found:
        return f"s{found[1]}.b{int(found[2]) + 1}.{parts[found[3]]}.{pair[found[4]]}.{found[5]}"
    found = re.fullmatch(r"trunk_output\.block(\d)\.block\d-(\d+)\.f\.se\.(fc\d\.\w+)", name)
    return f"s{found[1]}.b{int(found[2]) + 1}.se.{found[3]}" if found else f"head.{name}"


@pytest.mark.parametrize("squeeze", [False, True])
def test_equals_torchvision(squeeze):
    """Stages that differ in depth, the first without a change of channels in its second block."""
    regnet = pytest.importorskip("torchvision.models.regnet") if torchvision_or_skip() else None
    sizes = {"depths": [2, 1, 1, 2], "widths": [8, 16, 24, 32], "group_widths": [8] * 4}
    parameters = regnet.BlockParams(
        **sizes, bottleneck_multipliers=[1.0] * 4, strides=[2] * 4, se_ratio=0.25 if squeeze else None
    )
    torch.manual_seed(0)
    reference = randomise(regnet.RegNet(parameters))
    model = RegNet((2, 1, 1, 2), (8, 16, 24, 32), group=8, squeeze=squeeze)
    target = jax.eval_shape(lambda: model.init(jax.random.key(0), random_image(64, 64), train=False))
    source = {timm_name(name): value for name, value in state(reference).items()}
    variables = convert(source, target, TIMM_NAMES)
    image = random_image(37, 50)
    ours = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, image)
    with torch.no_grad():
        x = reference.stem(to_torch(model.standardize(image)))
        assert_agree(ours["c1"], x)
        for k, stage in enumerate(reference.trunk_output, 2):
            x = stage(x)
            assert_agree(ours[f"c{k}"], x)


def test_a_dilated_stage_sees_what_the_strided_one_does():
    """Trading stride for dilation leaves the strided network's values at every other place."""
    image = random_image(64, 64)
    model = RegNet((1, 1, 2, 1), (8, 8, 8, 8))
    variables = model.init(jax.random.key(0), image, train=False)
    call = jax.jit(lambda net, v, x: net.apply(v, x, train=False), static_argnums=0)
    strided, dilated = call(model, variables, image), call(model.clone(output_stride=8), variables, image)
    assert dilated["c5"].shape[1:3] == (8, 8)
    np.testing.assert_allclose(strided["c4"], dilated["c4"][:, ::2, ::2], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(strided["c5"], dilated["c5"][:, ::4, ::4], rtol=1e-4, atol=1e-4)
