"""ConvNeXt against torchvision, timm and transformers."""

from functools import partial

import jax
import numpy as np
import pytest

from jaxseg.backbones import convnext
from jaxseg.errors import BadInput
from jaxseg.weights.names import rename
from tests.oracles.torch_side import assert_maps, draw, random_image, torch
from tests.torchvision_cpu import torchvision_or_skip

torchvision = torchvision_or_skip()

DEPTHS, WIDTHS, SIZES = (1, 2, 1, 1), (8, 16, 24, 32), [(64, 96), (67, 45)]
ours = partial(convnext.ConvNeXt, DEPTHS, WIDTHS)


def of_torchvision():
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    stages = [CNBlockConfig(w, v, d) for w, v, d in zip(WIDTHS, (*WIDTHS[1:], None), DEPTHS, strict=True)]
    return ConvNeXt(stages, num_classes=3)


def maps_of_torchvision(module, x):
    maps = []
    for i, layer in enumerate(module.features):
        x = layer(x)
        maps += [x] if i % 2 else []
    return maps


def test_equals_torchvision():
    theirs = draw(of_torchvision())
    assert_maps(ours(), convnext.TORCHVISION_NAMES, theirs, maps_of_torchvision, SIZES)


@pytest.mark.parametrize("stride", [32, 16, 8])
def test_equals_timm_at_every_output_stride(stride):
    timm = pytest.importorskip("timm", reason="the oracle is timm")
    theirs = timm.create_model(
        "convnext_tiny", depths=DEPTHS, dims=WIDTHS, features_only=True, output_stride=stride, pretrained=False
    )
    net = ours(output_stride=stride)
    assert_maps(net, convnext.TIMM_MAPS_NAMES, draw(theirs), lambda module, x: module(x), [(64, 96)])


def test_equals_transformers():
    transformers = pytest.importorskip("transformers", reason="the oracle is transformers")
    stages = [f"stage{i}" for i in (1, 2, 3, 4)]
    config = transformers.ConvNextConfig(depths=list(DEPTHS), hidden_sizes=list(WIDTHS), out_features=stages)
    theirs = draw(transformers.ConvNextBackbone(config))
    net = ours(map_norm=True)
    assert_maps(net, convnext.TRANSFORMERS_NAMES, theirs, lambda module, x: module(x).feature_maps, SIZES)


@pytest.mark.parametrize(
    "variant", ["tiny", *(pytest.param(name, marks=pytest.mark.slow) for name in ("small", "base", "large"))]
)
def test_variants_have_torchvisions_parameters(variant):
    with torch.device("meta"):
        theirs = getattr(torchvision.models, f"convnext_{variant}")().features
    net = convnext.convnext(variant)
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), random_image(64, 64), train=False))
    count = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))
    assert count == sum(p.numel() for p in theirs.parameters())


PUBLISHED = {
    "convnext.encoder.stages.1.downsampling_layer.1.weight": (convnext.TRANSFORMERS_NAMES, "down2/kernel"),
    "convnext.encoder.stages.2.layers.5.pwconv1.bias": (convnext.TRANSFORMERS_NAMES, "stage3_5/expand/bias"),
    "downsample_layers.3.0.weight": (convnext.OFFICIAL_NAMES, "down4_norm/scale"),
    "stages.0.2.gamma": (convnext.OFFICIAL_NAMES, "stage1_2/scale"),
    "stages.0.blocks.2.mlp.fc2.bias": (convnext.TIMM_NAMES, "stage1_2/reduce/bias"),
    "head.fc.weight": (convnext.TIMM_NAMES, None),
}


def test_names_of_published_files():
    assert {name: rename(name, rules) for name, (rules, _) in PUBLISHED.items()} == {
        name: path for name, (_, path) in PUBLISHED.items()
    }


def test_mistakes_are_named():
    with pytest.raises(BadInput, match="no ConvNeXt is called 'huge'"):
        convnext.convnext("huge")
    with pytest.raises(BadInput, match="31x64 is too small"):
        jax.eval_shape(lambda: ours().init(jax.random.key(0), random_image(31, 64), train=False))
