"""HRNet with object-contextual representations against its layers written in torch; HRNet against timm."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.backbones import hrnet
from jaxseg.errors import BadInput
from jaxseg.models.semantic import hrnet_ocr
from jaxseg.registry import create_small
from jaxseg.weights.names import rename
from tests.oracles.torch_side import (
    F,
    Reader,
    assert_agree,
    assert_maps,
    draw,
    random_image,
    random_variables,
    to_torch,
    torch,
)


def step(layers, name, x, *, last=False, **options):
    x = layers[name].norm("norm", layers[name].conv("conv", x, **options))
    return x if last else x.relu()


def residual(layers, x, sizes):
    y = x
    for i, size in enumerate(sizes, 1):
        y = layers.norm(f"norm{i}", layers.conv(f"conv{i}", y, padding=size // 2))
        y = y.relu() if i < len(sizes) else y
    if "conv_shortcut" in layers.variables["params"]:
        x = layers.norm("norm_shortcut", layers.conv("conv_shortcut", x))
    return (y + x).relu()


def enlarged(x, target):
    return F.interpolate(x, target.shape[2:], mode="bilinear", align_corners=True)


def exchanged(layers, maps):
    maps = [residual(layers[f"branch{j}_0"], x, (3, 3)) for j, x in enumerate(maps)]
    results = []
    for i, target in enumerate(maps):
        total = torch.zeros_like(target)
        for j, x in enumerate(maps):
            if j > i:
                x = enlarged(step(layers, f"fuse{i}_{j}", x, last=True), target)
            for k in range(i - j):
                x = step(layers, f"fuse{i}_{j}_{k}", x, last=k == i - j - 1, stride=2, padding=1)
            total = total + x
        results.append(total.relu())
    return results


def features(layers, x):
    for name in ("stem1", "stem2"):
        x = step(layers, name, x, stride=2, padding=1)
    x = residual(layers["layer1_0"], x, (1, 3, 1))
    maps = [step(layers, "transition1_0", x, padding=1), step(layers, "transition1_1", x, stride=2, padding=1)]
    maps = exchanged(layers["stage2_0"], maps)
    maps = exchanged(layers["stage3_0"], [*maps, step(layers, "transition2_2", maps[-1], stride=2, padding=1)])
    maps = exchanged(layers["stage4_0"], [*maps, step(layers, "transition3_3", maps[-1], stride=2, padding=1)])
    return torch.cat([enlarged(x, maps[0]) for x in maps], dim=1)


def test_equals_its_layers():
    """By the equations of the paper: soft regions, their representations, pixels that gather from them."""
    model = create_small("hrnet_ocr_w18")
    variables = random_variables(model, random_image(64, 64))
    layers = Reader(variables)
    call = jax.jit(partial(model.apply, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)}))
    evaluated = jax.jit(lambda v, x: model.apply(v, x)["logits"])
    for size in [(64, 96), (67, 45)]:
        image = random_image(*size)
        x = features(layers["backbone"], to_torch(model.backbone.standardize(image)))
        scores = layers.conv("aux_classifier", step(layers, "aux_head", x))
        pixels = step(layers, "pixels", x, padding=1)
        b, c, h, w = pixels.shape
        soft = scores.reshape(b, -1, h * w).softmax(dim=2)
        regions = (soft @ pixels.reshape(b, c, h * w).transpose(1, 2)).transpose(1, 2)[..., None]
        attention = layers["attention"]
        query = step(attention, "query2", step(attention, "query1", pixels)).reshape(b, -1, h * w)
        key = step(attention, "key2", step(attention, "key1", regions))[..., 0]
        weight = (query.transpose(1, 2) @ key * query.shape[1] ** -0.5).softmax(dim=2)
        context = (weight @ step(attention, "value", regions)[..., 0].transpose(1, 2)).transpose(1, 2)
        context = step(attention, "out", context.reshape(b, -1, h, w))
        logits = layers.conv("classifier", step(layers, "fuse", torch.cat([context, pixels], dim=1)))
        assert_agree(evaluated(variables, image), F.interpolate(logits, size, mode="bilinear", align_corners=True))
    outputs, _ = call(variables, random_image(64, 96, batch=2))
    assert {key: x.shape for key, x in outputs.items()} == dict.fromkeys(("logits", "aux_logits"), (2, 64, 96, 3))


def test_a_region_of_certain_pixels_is_their_mean():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, 3, 4)), jnp.float32)
    belongs = jnp.arange(6).reshape(1, 2, 3, 1) < jnp.array([2, 6]).reshape(1, 1, 1, 2)
    found = hrnet_ocr.regions(x, jnp.where(belongs, 0.0, -1e9))
    flat = x.reshape(6, 4)
    np.testing.assert_allclose(found[0, 0], jnp.stack([flat[:2].mean(0), flat.mean(0)]), rtol=1e-5)


def a_stage(branches, modules):
    names = {"num_modules": modules, "num_branches": branches, "block_type": "BASIC", "fuse_method": "SUM"}
    return {**names, "num_blocks": (1,) * branches, "num_channels": tuple(4 << i for i in range(branches))}


@pytest.mark.parametrize("increase", [False, True])
def test_the_encoder_equals_timm(increase):
    timm = pytest.importorskip("timm", reason="the oracle is timm")
    stem = {**a_stage(1, 1), "block_type": "BOTTLENECK", "num_channels": (64,)}
    stages = {f"stage{i}": a_stage(i, min(i - 1, 2)) for i in (2, 3, 4)}
    where = "incre" if increase else ""
    theirs = timm.create_model(
        "hrnet_w18", stage1=stem, **stages, features_only=True, feature_location=where, pretrained=False
    )
    net = hrnet.HRNet(4, (1, 2, 2), 1, increase=increase)
    rules = hrnet.TIMM_MAPS_NAMES if increase else hrnet.TIMM_NAMES
    keys = ("c1", "c2", "c3", "c4", "c5")
    assert_maps(net, rules, draw(theirs), lambda module, x: module(x), [(64, 96)], keys=keys)


@pytest.mark.parametrize("width", hrnet.WIDTHS)
def test_widths_have_timms_parameters(width):
    timm = pytest.importorskip("timm", reason="the oracle is timm")
    with torch.device("meta"):
        theirs = timm.create_model(f"hrnet_w{width}", features_only=True, feature_location="", pretrained=False)
    net = hrnet.hrnet(width)
    params = jax.eval_shape(lambda: net.init(jax.random.key(0), random_image(64, 64), train=False))["params"]
    count = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
    assert count == sum(p.numel() for p in theirs.parameters())


OFFICIAL = {
    "model.conv1.weight": "backbone/stem1/conv/kernel",
    "layer1.0.downsample.1.running_var": "backbone/layer1_0/norm_shortcut/var",
    "transition1.1.0.1.bias": "backbone/transition1_1/norm/bias",
    "transition1.0.0.weight": "backbone/transition1_0/conv/kernel",
    "stage4.2.branches.3.1.bn2.weight": "backbone/stage4_2/branch3_1/norm2/scale",
    "stage3.0.fuse_layers.0.2.0.weight": "backbone/stage3_0/fuse0_2/conv/kernel",
    "stage3.0.fuse_layers.2.0.1.1.running_mean": "backbone/stage3_0/fuse2_0_1/norm/mean",
    "conv3x3_ocr.1.bias": "pixels/norm/bias",
    "ocr_distri_head.object_context_block.f_pixel.2.weight": "attention/query2/conv/kernel",
    "ocr_distri_head.object_context_block.f_object.1.0.running_var": "attention/key1/norm/var",
    "ocr_distri_head.object_context_block.f_up.1.0.weight": "attention/out/norm/scale",
    "ocr_distri_head.conv_bn_dropout.0.weight": "fuse/conv/kernel",
    "aux_head.0.bias": "aux_head/conv/bias",
    "aux_head.3.weight": "aux_classifier/kernel",
    "cls_head.bias": "classifier/bias",
}


def test_names_of_published_files():
    assert {name: rename(name, hrnet_ocr.OFFICIAL_NAMES) for name in OFFICIAL} == OFFICIAL


def test_mistakes_are_named():
    with pytest.raises(BadInput, match="no HRNet has a width of 20; there are: 18, 32, 48"):
        hrnet.hrnet(20)
