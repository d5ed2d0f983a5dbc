"""Classifiers of other libraries fill the encoder of a network; what only a network has starts afresh."""

import jax
import numpy as np
import pytest
from flax import traverse_util

from jaxseg.backbones import convnext, hrnet, swin, vit
from jaxseg.backbones.classifiers import BEYOND, CLASSIFIERS
from jaxseg.conversion.fill import fill_model
from jaxseg.conversion.rules import backbone_rules
from jaxseg.layers.encoder_decoder import EncoderDecoder
from jaxseg.models.semantic.fpn import FPNDecoder
from jaxseg.weights.names import restore

ENCODERS = {
    "convnext": convnext.ConvNeXt((1, 1, 1, 1), (4, 4, 4, 4), map_norm=True),
    "hrnet": hrnet.HRNet(4, (1, 1, 1), 1),
    "swin": swin.Swin((1, 1, 1, 1), 4, (1, 1, 1, 1), 2),
    "swin v2": swin.Swin((1, 1, 1, 1), 4, (1, 1, 1, 1), 2, version=2),
    "vit": vit.ViT(width=4, depth=1, heads=1, features=4, grid=2),
    "dinov2": vit.ViT(width=4, depth=1, heads=1, features=4, grid=2, layer_scale=1.0),
}


@pytest.fixture
def drawn(monkeypatch):
    """Paths that start afresh, whose numbers are zeros here instead of the initialisers'."""
    paths = []

    def draw(model, keys):
        paths.extend("/".join(key[1:]) for key in keys)
        return dict.fromkeys(keys, np.zeros(1))

    monkeypatch.setattr("jaxseg.conversion.fill._draw", draw)
    return paths


LIBRARIES = {
    "convnext": ("timm", "torchvision", "transformers", "facebookresearch"),
    "hrnet": ("timm",),
    "swin": tuple(f"{name}, version 1" for name in ("timm", "torchvision", "transformers", "microsoft")),
    "swin v2": tuple(f"{name}, version 2" for name in ("timm", "torchvision", "transformers", "microsoft")),
    "vit": ("timm", "torchvision", "transformers"),
    "dinov2": ("timm", "transformers, DINOv2"),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_every_library_fills_the_encoder_by_its_names(name, drawn):
    model = EncoderDecoder(backbone=ENCODERS[name], decoder=FPNDecoder(4, 32), num_classes=2)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 64, 64, 3), np.uint8))
    rng = np.random.default_rng(0)
    classifier = {
        (key[0], *key[2:]): rng.random(leaf.shape, np.float32)
        for key, leaf in traverse_util.flatten_dict(shapes).items()
        if key[1] == "backbone" and key[2] not in BEYOND
    }
    for library in LIBRARIES[name]:
        source = restore(traverse_util.unflatten_dict(classifier), CLASSIFIERS[type(ENCODERS[name])][library])
        drawn.clear()
        made = fill_model(source, model, {}, spare_heads=False, partial=backbone_rules(model), what=library)
        filled = traverse_util.flatten_dict(made.variables)
        for key, value in classifier.items():
            np.testing.assert_array_equal(filled[key[0], "backbone", *key[1:]], value, err_msg=f"{library}: {key}")
        assert {path.split("/")[1] for path in drawn if path.startswith("backbone/")} <= set(BEYOND)
        assert "classifier/bias" in drawn
