"""Decoders, names and padding against segmentation-models-pytorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.backbones import resnet
from jaxseg.errors import BadInput
from jaxseg.models.semantic import fpn, linknet, manet, pan, pspnet, unet, unetplusplus, upernet
from jaxseg.registry import find
from jaxseg.weights.names import convert
from tests.oracles.torch_side import assert_agree, random_image, randomise, state, to_torch, torch
from tests.torchvision_cpu import torchvision_or_skip

torchvision_or_skip()
smp = pytest.importorskip("segmentation_models_pytorch", reason="the oracle is segmentation-models-pytorch")
decoders = smp.decoders

CHANNELS = (8, 16, 12, 20, 24)
"""Of the maps c1 to c5."""

WIDTHS = (16, 12, 8, 8, 4)

DECODERS = {
    "unet": (
        unet.UNetDecoder(WIDTHS),
        lambda: decoders.unet.decoder.UnetDecoder((3, *CHANNELS), WIDTHS),
        unet.SMP_NAMES,
    ),
    "unetplusplus": (
        unetplusplus.UNetPlusPlusDecoder(WIDTHS),
        lambda: decoders.unetplusplus.decoder.UnetPlusPlusDecoder((3, *CHANNELS), WIDTHS),
        unetplusplus.SMP_NAMES,
    ),
    "linknet": (
        linknet.LinkNetDecoder(6),
        lambda: decoders.linknet.decoder.LinknetDecoder((3, *CHANNELS), 6),
        linknet.SMP_NAMES,
    ),
    "fpn": (
        fpn.FPNDecoder(16, 32),
        lambda: decoders.fpn.decoder.FPNDecoder((3, *CHANNELS), 5, 16, 32),
        fpn.SMP_NAMES,
    ),
    "pan": (
        pan.PANDecoder(8),
        lambda: decoders.pan.decoder.PANDecoder((3, *CHANNELS), 5, 8),
        pan.SMP_NAMES,
    ),
    "manet": (
        manet.MANetDecoder(WIDTHS, 6, 4),
        lambda: decoders.manet.decoder.MAnetDecoder((3, *CHANNELS), WIDTHS, reduction=4, pab_channels=6),
        manet.SMP_NAMES,
    ),
    "pspnet": (
        pspnet.PSPDecoder(features=8),
        lambda: decoders.pspnet.decoder.PSPDecoder((3, *CHANNELS[:3]), out_channels=8),
        pspnet.SMP_NAMES,
    ),
    "upernet": (
        upernet.UPerNetDecoder(8, map_norm="pixel"),
        lambda: decoders.upernet.decoder.UPerNetDecoder((3, *CHANNELS), 5, 8),
        upernet.SMP_NAMES,
    ),
}


def drawn_maps(name, size):
    """c1 to c5 of an image of that size, half of the values zero as after a ReLU; PAN's c5 is as large as its c4."""
    rng, maps = np.random.default_rng(0), {}
    for k, channels in enumerate(CHANNELS, 1):
        stride = 2 ** min(k, 4 if name == "pan" else 5)
        x = rng.normal(size=(2, size[0] // stride, size[1] // stride, channels))
        maps[f"c{k}"] = jnp.asarray(np.maximum(x, 0), jnp.float32)
    return maps


@pytest.mark.parametrize("name", DECODERS)
def test_decoders_equal(name):
    model, build, rules = DECODERS[name]
    torch.manual_seed(0)
    theirs = randomise(build())
    sizes = [(128, 160), (144, 176)] if name == "pan" else [(64, 96), (96, 32)]
    target = jax.eval_shape(lambda: model.init(jax.random.key(0), drawn_maps(name, sizes[0]), train=False))
    source = {f"decoder.{key}": value for key, value in state(theirs).items()}
    variables = convert(source, {c: {"decoder": tree} for c, tree in target.items()}, rules)
    variables = {c: tree["decoder"] for c, tree in variables.items()}
    call = jax.jit(lambda v, x: model.apply(v, x, train=False))
    for size in sizes:
        maps = drawn_maps(name, size)
        levels = [torch.zeros(2, 3, *size), *(to_torch(x) for x in maps.values())]
        with torch.no_grad():
            reference = theirs(levels[:4] if name == "pspnet" else levels)
        assert_agree(call(variables, maps), reference)


REGISTERED = {
    "fpn_resnet50": ("FPN", "resnet50"),
    "linknet_resnet34": ("Linknet", "resnet34"),
    "manet_resnet34": ("MAnet", "resnet34"),
    "pan_resnet50": ("PAN", "resnet50"),
    "pspnet_resnet34_smp": ("PSPNet", "resnet34"),
    "unet_resnet34": ("Unet", "resnet34"),
    "unet_resnet50": ("Unet", "resnet50"),
    "unetplusplus_resnet34": ("UnetPlusPlus", "resnet34"),
    "upernet_resnet50_smp": ("UPerNet", "resnet50"),
}


@pytest.mark.parametrize("name", REGISTERED)
def test_the_rules_take_every_weight(name):
    """And the network has as many parameters; the numbers are compared by benchmarks/parity.py."""
    kind, encoder = REGISTERED[name]
    with torch.device("meta"):
        theirs = getattr(smp, kind)(encoder, encoder_weights=None, classes=21)
    entry = find(name)
    target = jax.eval_shape(lambda: entry.build().init(jax.random.key(0), random_image(64, 64)))
    empty = {key: np.broadcast_to(np.float32(0), tuple(value.shape)) for key, value in theirs.state_dict().items()}
    convert(empty, target, entry.names["smp"])
    assert entry.params == sum(p.numel() for p in theirs.parameters())


def test_a_whole_network_equals_on_an_odd_image():
    """Encoder, decoder and head; ours pads the image by its last pixels and crops, theirs sees it padded."""
    torch.manual_seed(0)
    theirs = randomise(smp.Unet("resnet18", encoder_weights=None, classes=5))
    model = unet.unet_resnet18(5)
    target = jax.eval_shape(lambda: model.init(jax.random.key(0), random_image(64, 64)))
    variables = convert(state(theirs), target, unet.SMP_NAMES)
    image = random_image(37, 50)
    padded = np.pad(np.asarray(image), ((0, 0), (0, 27), (0, 14), (0, 0)), mode="edge")
    with torch.no_grad():
        reference = theirs(to_torch(model.backbone.standardize(jnp.asarray(padded))))[:, :, :37, :50]
    assert_agree(jax.jit(model.apply)(variables, image)["logits"], reference)


def test_the_dilated_encoder_equals():
    torch.manual_seed(0)
    theirs = randomise(smp.encoders.get_encoder("resnet18", weights=None, output_stride=8))
    model = resnet.resnet(18, output_stride=8, multi_grid=(1, 1))
    target = jax.eval_shape(lambda: model.init(jax.random.key(0), random_image(64, 64), train=False))
    variables = convert(state(theirs), target, resnet.TORCHVISION_NAMES)
    image = random_image(48, 64)
    ours = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, image)
    with torch.no_grad():
        reference = theirs(to_torch(model.standardize(image)))
    for k in range(1, 6):
        assert_agree(ours[f"c{k}"], reference[k])


def test_pan_names_the_least_map():
    maps = drawn_maps("pan", (96, 128))
    with pytest.raises(BadInput, match="6x8 is too small for PAN's three poolings; it needs 8x8"):
        jax.eval_shape(lambda: pan.PANDecoder(8).init(jax.random.key(0), maps, train=False))
