"""Decoders read what they need from the maps: every pair with a backbone fits, at any size of image."""

import jax
import jax.numpy as jnp
import pytest

from jaxseg.backbones.mit import MiT
from jaxseg.backbones.resnet import ResNet
from jaxseg.backbones.vgg import VGG, VGG11
from jaxseg.layers.encoder_decoder import EncoderDecoder
from jaxseg.models.semantic.fpn import FPNDecoder
from jaxseg.models.semantic.linknet import LinkNetDecoder
from jaxseg.models.semantic.manet import MANetDecoder
from jaxseg.models.semantic.pan import PANDecoder
from jaxseg.models.semantic.pspnet import PSPDecoder
from jaxseg.models.semantic.unet import UNetDecoder
from jaxseg.models.semantic.unetplusplus import UNetPlusPlusDecoder
from jaxseg.models.semantic.upernet import UPerNetDecoder

BACKBONES = {
    "vgg": VGG(VGG11, width=8),
    "resnet16": ResNet(depths=(1, 1, 1, 1), width=4, output_stride=16),
    "mit": MiT(depths=(1, 1, 1, 1), widths=(8, 8, 10, 16)),
}

FROM_C2 = {"fpn": FPNDecoder(), "pan": PANDecoder(), "psp": PSPDecoder(), "upernet": UPerNetDecoder(32)}
FROM_C1 = {"unet": UNetDecoder(), "unetplusplus": UNetPlusPlusDecoder(), "manet": MANetDecoder()}
DOUBLING = {"linknet": LinkNetDecoder()}
"""What wants every map at half the size of the one before."""

PAIRS = [
    *((b, d) for b in BACKBONES for d in FROM_C2),
    *((b, d) for b in ("vgg", "resnet16") for d in FROM_C1),
    ("vgg", "linknet"),
]


@pytest.mark.parametrize(("backbone", "decoder"), PAIRS)
def test_every_pair_gives_logits_of_the_image(backbone, decoder):
    model = EncoderDecoder(
        backbone=BACKBONES[backbone],
        decoder={**FROM_C2, **FROM_C1, **DOUBLING}[decoder],
        num_classes=5,
        least=256 if decoder == "pan" else 1,
    )
    image = jnp.zeros((1, 75, 130, 3), jnp.uint8)
    out, _ = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), image))
    assert out["logits"].shape == (1, 75, 130, 5)
    assert out["logits"].dtype == jnp.float32
