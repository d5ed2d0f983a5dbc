"""ViT and DINOv2 against torchvision, timm and transformers; the simple pyramid against its layers in torch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.backbones import vit
from jaxseg.errors import BadInput
from jaxseg.ops.resize import resize_bicubic
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
from tests.torchvision_cpu import torchvision_or_skip

torchvision = torchvision_or_skip()

ours = partial(vit.ViT, width=16, depth=2, heads=2, features=8)
SIZES = [(64, 64), (96, 160)]


def the_map(tokens, size):
    return tokens[:, 1:].transpose(1, 2).reshape(tokens.shape[0], -1, *size)


def test_equals_torchvision():
    from torchvision.models.vision_transformer import VisionTransformer

    def run(module, x):
        tokens = module._process_input(x)
        tokens = torch.cat([module.class_token.expand(len(x), -1, -1), tokens], dim=1)
        return [the_map(module.encoder(tokens), (4, 4))]

    theirs = draw(VisionTransformer(64, 16, 2, 2, 16, 64, num_classes=3))
    assert_maps(ours(grid=4), vit.TORCHVISION_NAMES, theirs, run, SIZES[:1], keys=["c4_patches"], extra=["pyramid"])


@pytest.mark.parametrize("name", ["vit_small_patch16_224", "vit_small_patch14_dinov2"])
def test_equals_timm_at_other_sizes_than_the_pre_training(name):
    """DINOv2 sees the image reduced by 14/16, as ours does it inside."""
    timm = pytest.importorskip("timm", reason="the oracle is timm")
    size = 14 if "dino" in name else 16
    theirs = timm.create_model(
        name, embed_dim=16, depth=2, num_heads=2, img_size=4 * size, dynamic_img_size=True, pretrained=False
    )
    net = ours(patch_size=size, grid=4, layer_scale=1e-5 * (size == 14))

    def run(module, x):
        grid = x.shape[2] // 16, x.shape[3] // 16
        x = F.interpolate(x, (size * grid[0], size * grid[1]), mode="bilinear")
        return [the_map(module.forward_features(x), grid)]

    assert_maps(net, vit.TIMM_NAMES, draw(theirs), run, SIZES, keys=["c4_patches"], extra=["pyramid"])


def test_bicubic_interpolation_equals_torch():
    x = np.random.default_rng(0).normal(size=(1, 5, 7, 3)).astype(np.float32)
    for size in [(5, 7), (9, 4), (3, 20)]:
        for antialias in (False, True):
            ours = resize_bicubic(jnp.asarray(x), size, antialias=antialias)
            assert_agree(ours, F.interpolate(to_torch(x), size, mode="bicubic", antialias=antialias), 1e-5)


def test_the_pyramid_equals_its_layers():
    pyramid, x = vit.Pyramid(6), np.random.default_rng(0).normal(size=(2, 4, 6, 8)).astype(np.float32)
    variables = random_variables(pyramid, jnp.asarray(x), train=False)
    reader, y = Reader(variables), to_torch(x)

    def norm(layers, name, x):
        scale, bias = layers.tensor(name, "scale"), layers.tensor(name, "bias")
        return F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), scale, bias, 1e-6).permute(0, 3, 1, 2)

    fine = reader.transposed(
        "up2_2", F.gelu(norm(reader, "up2_norm", reader.transposed("up2_1", y, stride=2))), stride=2
    )
    maps = {"c2": fine, "c3": reader.transposed("up3", y, stride=2), "c4": y, "c5": F.max_pool2d(y, 2)}
    found = jax.jit(lambda v, x: pyramid.apply(v, x, train=False))(variables, x)
    for key, level in maps.items():
        level = norm(reader[f"{key}_1"], "norm", reader[f"{key}_1"].conv("conv", level))
        assert_agree(found[key], norm(reader[f"{key}_2"], "norm", reader[f"{key}_2"].conv("conv", level, padding=1)))


COUNTS = {"vit_small": 21_665_664, "vit_base": 85_798_656, "dinov2_small": 22_056_192, "dinov2_base": 86_579_712}
"""timm's, without a classifier."""


@pytest.mark.parametrize("name", COUNTS)
def test_variants_have_timms_parameters(name):
    kind, variant = name.split("_")
    net = getattr(vit, kind)(variant)
    params = jax.eval_shape(lambda: net.init(jax.random.key(0), random_image(64, 64), train=False))["params"]
    assert sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves({**params, "pyramid": {}})) == COUNTS[name]


PUBLISHED = {
    "vit.encoder.layer.3.attention.attention.query.weight": (vit.TRANSFORMERS_NAMES, "block3/query/kernel"),
    "vit.encoder.layer.3.layernorm_after.bias": (vit.TRANSFORMERS_NAMES, "block3/norm2/bias"),
    "embeddings.position_embeddings": (vit.DINOV2_NAMES, "positions"),
    "encoder.layer.11.layer_scale2.lambda1": (vit.DINOV2_NAMES, "block11/scale2"),
    "blocks.0.attn.qkv.bias": (vit.TIMM_NAMES, "block0/{query,key,value}/bias"),
    "mask_token": (vit.TIMM_NAMES, None),
}


def test_names_of_published_files():
    assert {name: rename(name, rules) for name, (rules, _) in PUBLISHED.items()} == {
        name: path for name, (_, path) in PUBLISHED.items()
    }


def test_mistakes_are_named():
    with pytest.raises(BadInput, match="no ViT is called 'huge'"):
        vit.vit("huge")
