"""DPT and Depth Anything against transformers, on random weights."""

import jax
import numpy as np
import pytest

from jaxseg.backbones.vit_blocks import ViTBlocks
from jaxseg.backbones.vit_hybrid import HybridViTBlocks
from jaxseg.models.depth import depth_anything, dpt
from jaxseg.registry import create_model
from jaxseg.weights.names import convert, rename, restore
from tests.oracles.torch_side import F, assert_agree, draw, random_image, state, to_torch, torch
from tests.torchvision_cpu import torchvision_or_skip

torchvision_or_skip()
transformers = pytest.importorskip("transformers", reason="the oracle is transformers")

WIDTHS = (6, 8, 10, 12)
BLOCKS = (0, 1, 2, 3)
SIZES = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2}
NECK = {"neck_hidden_sizes": WIDTHS, "fusion_hidden_size": 8}


def the_dpt(**options):
    own = {"intermediate_size": 64, "image_size": 64, "neck_ignore_stages": [], "backbone_out_indices": BLOCKS}
    return transformers.DPTForDepthEstimation(transformers.DPTConfig(**{**SIZES, **own, **NECK, **options}))


def the_hybrid():
    resnet = {"depths": [1, 2, 1], "embedding_size": 32, "hidden_sizes": [128, 256, 512], "layer_type": "bottleneck"}
    resnet |= {"out_features": ["stage1", "stage2", "stage3"], "global_padding": "same"}
    return the_dpt(
        is_hybrid=True,
        backbone_config={**resnet, "model_type": "bit", "embedding_dynamic_padding": True},
        backbone_featmap_shape=[1, 512, 4, 4],
        neck_ignore_stages=[0, 1],
        neck_hidden_sizes=[128, 256, *WIDTHS[2:]],
        reassemble_factors=[1, 1, 1, 0.5],
    )


def the_depth_anything(**options):
    own = {"image_size": 56, "out_indices": [1, 2, 3, 4], "reshape_hidden_states": False, "use_mask_token": True}
    backbone = transformers.Dinov2Config(**{**SIZES, **own}, patch_size=14)
    config = transformers.DepthAnythingConfig(backbone_config=backbone, reassemble_hidden_size=16, **NECK, **options)
    return transformers.DepthAnythingForDepthEstimation(config)


def small(**options):
    sizes = {"width": 16, "depth": 4, "heads": 2, "grid": 4, "out_blocks": BLOCKS}
    return ViTBlocks(**{**sizes, **options})


DPT = dpt.DPT(backbone=small(interpolation="bilinear", epsilon=1e-12, normalize=False), widths=WIDTHS, features=8)
HYBRID = dpt.DPT(
    backbone=HybridViTBlocks(
        width=16,
        depth=4,
        heads=2,
        grid=4,
        out_blocks=BLOCKS[2:],
        resnet_depths=(1, 2, 1),
        resnet_width=32,
        interpolation="bilinear",
        epsilon=1e-12,
        normalize=False,
    ),
    widths=(128, 256, *WIDTHS[2:]),
    features=8,
)
DEPTH_ANYTHING = dpt.DPT(
    backbone=small(patch_size=14, layer_scale=1.0, antialias=False),
    widths=WIDTHS,
    features=8,
    readout=False,
    by_stride=False,
)


def brought_in(model, theirs, rules):
    """Variables of ours; what the rules leave out is what nothing there reads."""
    target = jax.eval_shape(lambda: model.init(jax.random.key(0), random_image(64, 64)))
    return convert(state(theirs), target, rules)


def agree(model, theirs, rules, sizes, key):
    variables, call = brought_in(model, theirs, rules), jax.jit(model.apply)
    for size in sizes:
        image = random_image(*size)
        with torch.no_grad():
            expected = theirs(to_torch(model.backbone.standardize(image))).predicted_depth[:, None]
        assert_agree(call(variables, image)[key][..., None], expected)
    return variables


def raised(theirs):
    """Its last layer with a bias by which ReLU lets everything pass."""
    with torch.no_grad():
        last = [m for m in theirs.head.modules() if isinstance(m, torch.nn.Conv2d)][-1]
        last.bias.fill_(3.0)
    return theirs


def test_dpt_equals_transformers():
    theirs = raised(draw(the_dpt()))
    variables = agree(DPT, theirs, dpt.TRANSFORMERS_NAMES, [(64, 64), (96, 96)], "inverse_depth")
    back = restore(variables, dpt.TRANSFORMERS_NAMES)
    for name, value in back.items():
        np.testing.assert_array_equal(value, theirs.state_dict()[name].numpy(), err_msg=name)


def test_dpt_hybrid_equals_transformers():
    theirs = raised(draw(the_hybrid()))
    variables = agree(HYBRID, theirs, dpt.HYBRID_NAMES, [(64, 64)], "inverse_depth")
    theirs.dpt.embeddings.image_size = (96, 96)  # only held against the image
    agree(HYBRID, theirs, dpt.HYBRID_NAMES, [(96, 96)], "inverse_depth")
    for name, value in restore(variables, dpt.HYBRID_NAMES).items():
        np.testing.assert_array_equal(value, theirs.state_dict()[name].numpy(), err_msg=name)


def test_depth_anything_equals_transformers():
    theirs = raised(draw(the_depth_anything()))
    agree(DEPTH_ANYTHING, theirs, depth_anything.TRANSFORMERS_NAMES, [(56, 56), (42, 70)], "inverse_depth")


def test_depth_in_metres_equals_transformers():
    theirs = draw(the_depth_anything(depth_estimation_type="metric", max_depth=20))
    model = DEPTH_ANYTHING.clone(max_depth=20.0)
    agree(model, theirs, depth_anything.TRANSFORMERS_NAMES, [(42, 70)], "depth")


def test_another_size_is_resized_to_patches_and_back():
    """As the authors' code does it with an image whose sides are no multiples of 14."""
    theirs, size = raised(draw(the_depth_anything())), (45, 60)
    variables, image = brought_in(DEPTH_ANYTHING, theirs, depth_anything.TRANSFORMERS_NAMES), random_image(45, 60)
    with torch.no_grad():
        x = F.interpolate(to_torch(DEPTH_ANYTHING.backbone.standardize(image)), (42, 56), mode="bilinear")
        expected = F.interpolate(theirs(x).predicted_depth[:, None], size, mode="bilinear", align_corners=True)
    assert_agree(jax.jit(DEPTH_ANYTHING.apply)(variables, image)["inverse_depth"][..., None], expected)


COUNTS = {
    "dpt_large": (343_030_465, 2 * 1024 + 2 * (9 * 256**2 + 256)),
    "dpt_hybrid": (122_377_985, 2 * 768 + 2 * (9 * 256**2 + 256)),
    "depth_anything_v1_small": (24_785_089, 384 + 2 * (9 * 64**2 + 64)),
    "depth_anything_v2_base": (97_470_785, 768 + 2 * (9 * 128**2 + 128)),
}
"""transformers' parameters, and how many of them nothing reads: a mask token or a normalisation, a residual unit."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * name.startswith("dpt")) for name in COUNTS]
)
def test_networks_have_the_parameters_that_are_read_in_transformers(name):
    model, (count, unread) = create_model(name), COUNTS[name]
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), random_image(64, 64)))["params"]
    assert sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params)) == count - unread


PUBLISHED = {
    "dpt.encoder.layer.3.attention.attention.query.weight": (dpt, "backbone/block3/query/kernel"),
    "dpt.embeddings.position_embeddings": (dpt, "backbone/positions"),
    "dpt.layernorm.weight": (dpt, None),
    "neck.reassemble_stage.readout_projects.3.0.bias": (dpt, "decoder/readout3/bias"),
    "neck.fusion_stage.layers.0.residual_layer1.convolution2.bias": (dpt, None),
    "backbone.encoder.layer.2.attention.attention.key.bias": (depth_anything, "backbone/block2/key/bias"),
    "backbone.layernorm.bias": (depth_anything, "backbone/norm/bias"),
    "backbone.embeddings.mask_token": (depth_anything, None),
    "head.conv3.bias": (depth_anything, "head3/bias"),
}
HYBRID_PUBLISHED = {
    "dpt.embeddings.backbone.bit.embedder.convolution.weight": "backbone/resnet/conv1/kernel",
    "dpt.embeddings.backbone.bit.embedder.norm.bias": "backbone/resnet/norm1/bias",
    "dpt.embeddings.backbone.bit.encoder.stages.2.layers.8.conv2.weight": "backbone/resnet/layer3_8/conv2/kernel",
    "dpt.embeddings.backbone.bit.encoder.stages.0.layers.0.downsample.norm.weight": (
        "backbone/resnet/layer1_0/norm_shortcut/scale"
    ),
    "dpt.embeddings.projection.weight": "backbone/patches/kernel",
    "dpt.layernorm.weight": None,
    "neck.reassemble_stage.readout_projects.2.0.weight": "decoder/readout2/kernel",
}
AUTHORS = {
    "pretrained.blocks.0.attn.qkv.bias": "backbone/block0/{query,key,value}/bias",
    "pretrained.mask_token": "",
    "depth_head.resize_layers.1.weight": "decoder/resize1/kernel",
    "depth_head.scratch.refinenet1.resConfUnit1.conv2.bias": "decoder/fusion0/unit1_2/bias",
    "depth_head.scratch.refinenet4.resConfUnit1.conv2.bias": None,
    "depth_head.scratch.output_conv2.2.weight": "head3/kernel",
}


def test_names_of_published_files():
    assert {name: rename(name, file.TRANSFORMERS_NAMES) for name, (file, _) in PUBLISHED.items()} == {
        name: path for name, (_, path) in PUBLISHED.items()
    }
    assert {name: rename(name, dpt.HYBRID_NAMES) for name in HYBRID_PUBLISHED} == HYBRID_PUBLISHED
    assert {name: rename(name, depth_anything.AUTHORS_NAMES) for name in AUTHORS} == AUTHORS


def test_the_authors_files_fill_the_network_that_transformers_files_fill():
    """Both lead to the same leaves: names by names, the ones that transformers makes of theirs."""
    theirs = draw(the_depth_anything())
    variables = brought_in(DEPTH_ANYTHING, theirs, depth_anything.TRANSFORMERS_NAMES)
    back = restore(variables, depth_anything.AUTHORS_NAMES)
    again = convert(back, variables, depth_anything.AUTHORS_NAMES)
    for (path, ours), other in zip(jax.tree_util.tree_leaves_with_path(variables), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(ours, other, err_msg=jax.tree_util.keystr(path))
    assert back["depth_head.resize_layers.0.weight"].shape == (WIDTHS[0], WIDTHS[0], 4, 4)
