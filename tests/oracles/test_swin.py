"""Swin and Swin v2 against torchvision, timm and transformers."""

from functools import partial

import jax
import numpy as np
import pytest

from jaxseg.backbones import swin, swin_names
from jaxseg.errors import BadInput
from jaxseg.weights.names import rename
from tests.oracles.torch_side import assert_maps, draw, random_image, torch
from tests.torchvision_cpu import torchvision_or_skip

torchvision = torchvision_or_skip()

DEPTHS, HEADS, WIDTH = (2, 1, 1, 2), (1, 2, 2, 4), 8
WINDOW = 4
"""Of 64x96 pixels the first maps are whole windows, and the last is covered by one along the rows."""

ours = partial(swin.Swin, DEPTHS, WIDTH, HEADS, WINDOW)


def maps_of_torchvision(module, x):
    maps = []
    for i, layer in enumerate(module.features):
        x = layer(x)
        maps += [x.permute(0, 3, 1, 2)] if i % 2 else []
    return maps


@pytest.mark.parametrize("version", [1, 2])
def test_equals_torchvision_at_whole_and_at_broken_windows(version):
    from torchvision.models.swin_transformer import (
        PatchMerging,
        PatchMergingV2,
        SwinTransformer,
        SwinTransformerBlockV2,
    )

    kind = {"downsample_layer": PatchMerging}
    if version == 2:
        kind = {"downsample_layer": PatchMergingV2, "block": SwinTransformerBlockV2}
    theirs = draw(SwinTransformer([4, 4], WIDTH, list(DEPTHS), list(HEADS), [WINDOW] * 2, num_classes=3, **kind))
    rules = swin_names.torchvision(version)
    assert_maps(ours(version=version), rules, theirs, maps_of_torchvision, [(64, 96), (92, 36)])


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("size", [(128, 128), (144, 176)])
def test_equals_timm_at_whole_and_at_broken_windows(version, size):
    timm = pytest.importorskip("timm", reason="the oracle is timm")
    name = "swin_tiny_patch4_window7_224" if version == 1 else "swinv2_tiny_window8_256"
    theirs = timm.create_model(
        name,
        features_only=True,
        pretrained=False,
        img_size=size,
        window_size=WINDOW,
        embed_dim=WIDTH,
        depths=DEPTHS,
        num_heads=HEADS,
    )
    net, rules = ours(version=version, shift_first=True), swin_names.timm(version, of_maps=True)
    assert_maps(net, rules, draw(theirs), lambda module, x: [m.permute(0, 3, 1, 2) for m in module(x)], [size])


NAMES = [name for name in swin.ENCODERS if "small" not in name and ("tiny" in name or "384" in name)]


@pytest.mark.parametrize("name", NAMES)
def test_windows_of_each_stage_are_those_of_the_pre_training(name):
    timm = pytest.importorskip("timm", reason="the oracle is timm")
    with torch.device("meta"):
        theirs = timm.create_model(name.removeprefix("tu-"), features_only=True, pretrained=False)
    window = swin.ENCODERS[name].build().window
    windows = window if isinstance(window, tuple) else (window,) * 4
    assert [theirs[f"layers_{s}"].blocks[0].window_size for s in range(4)] == [(w, w) for w in windows]


def test_a_stage_whose_map_was_smaller_than_the_windows_has_smaller_ones():
    timm = pytest.importorskip("timm", reason="the oracle is timm")
    sizes = {"embed_dim": WIDTH, "depths": DEPTHS, "num_heads": HEADS, "window_size": WINDOW, "img_size": 64}
    theirs = timm.create_model("swinv2_tiny_window8_256", features_only=True, pretrained=False, **sizes)
    net = swin.Swin(DEPTHS, WIDTH, HEADS, (4, 4, 4, 2), version=2, shift_first=True)
    rules = swin_names.timm(2, of_maps=True)
    assert_maps(net, rules, draw(theirs), lambda module, x: [m.permute(0, 3, 1, 2) for m in module(x)], [(64, 64)])


def test_equals_transformers():
    transformers = pytest.importorskip("transformers", reason="the oracle is transformers")
    stages = [f"stage{i}" for i in (1, 2, 3, 4)]
    config = transformers.SwinConfig(
        embed_dim=WIDTH, depths=list(DEPTHS), num_heads=list(HEADS), window_size=WINDOW, out_features=stages
    )
    theirs, net = draw(transformers.SwinBackbone(config)), ours(map_norm=True)
    published = ("self", "output", "intermediate")  # which differ in memory
    rules = tuple(
        (name.replace(r"(?:swin\.|swinv2\.)?", r"swin\."), path)
        for name, path in swin_names.transformers(1)
        if not any(word in name for word in published)
    )
    assert_maps(net, rules, theirs, lambda module, x: module(x).feature_maps, [(160, 192), (147, 170)])


LARGER = [("small", 1), ("base", 1), ("small", 2), ("base", 2)]


@pytest.mark.parametrize(
    ("variant", "version"),
    [("tiny", 1), ("tiny", 2), *(pytest.param(*pair, marks=pytest.mark.slow) for pair in LARGER)],
)
def test_variants_have_torchvisions_parameters(variant, version):
    with torch.device("meta"):
        theirs = getattr(torchvision.models, f"swin_{'v2_' * (version == 2)}{variant[0]}")().features
    net = swin.swin(variant, version=version)
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), random_image(64, 64), train=False))
    count = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))
    keys = sum(p.numel() // 3 for name, p in theirs.named_parameters() if version == 2 and name.endswith("qkv.bias"))
    assert count == sum(p.numel() for p in theirs.parameters()) - keys  # its biases of keys, which are zeros


PUBLISHED = {
    "swin.encoder.layers.0.downsample.reduction.weight": (swin_names.transformers(1), "merge2/kernel"),
    "swin.encoder.layers.2.blocks.5.attention.self.key.bias": (
        swin_names.transformers(1),
        "stage3_5/attention/key/bias",
    ),
    "swinv2.encoder.layers.0.blocks.1.output.dense.weight": (swin_names.transformers(2), "stage1_1/reduce/kernel"),
    "layers.0.downsample.norm.weight": (swin_names.timm(1, official=True), "merge2_norm/scale"),
    "layers.1.downsample.norm.weight": (swin_names.timm(1), "merge2_norm/scale"),
    "layers.1.blocks.0.attn.q_bias": (swin_names.timm(2), "stage2_0/attention/query/bias"),
    "layers.1.blocks.0.attn_mask": (swin_names.timm(1), None),
}


def test_names_of_published_files():
    assert {name: rename(name, rules) for name, (rules, _) in PUBLISHED.items()} == {
        name: path for name, (_, path) in PUBLISHED.items()
    }


def test_mistakes_are_named():
    with pytest.raises(BadInput, match="no Swin is called 'huge'"):
        swin.swin("huge")
    with pytest.raises(BadInput, match="version is 3"):
        jax.eval_shape(lambda: ours(version=3).init(jax.random.key(0), random_image(32, 32), train=False))
