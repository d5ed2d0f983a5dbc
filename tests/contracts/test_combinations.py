"""Decoders on encoders by name: what is there, what a name means, and the options of segmentation-models-pytorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg import registry
from jaxseg.backbones.encoders import ENCODERS, VARIANTS
from jaxseg.conversion.smp_encoders import check_geometry
from jaxseg.errors import BadInput
from jaxseg.layers.encoder_decoder import EncoderDecoder, ImageHead
from jaxseg.layers.scse import SCSE
from jaxseg.models.on_encoder import unet_on
from jaxseg.models.smp import ARCHITECTURES


def outputs(model, size=(64, 96)):
    """Shapes of what a model returns; nothing is computed."""
    image = jax.ShapeDtypeStruct((2, *size, model.in_channels), np.uint8)
    return jax.eval_shape(lambda x: model.init_with_output({"params": jax.random.key(0)}, x)[0], image)


def test_every_decoder_has_every_encoder_that_it_can_have():
    """Those that cannot be dilated are under decoders that need it not."""
    names = registry.list_models("*", combined=True)
    for prefix, architecture in ARCHITECTURES.items():
        for variant, encoder in VARIANTS.items():
            if encoder.startswith(architecture.apart) or (architecture.dilated and not ENCODERS[encoder].dilates):
                continue
            assert {f"{prefix}_{variant}", f"{prefix}_{variant}_smp"} & set(names), (prefix, variant)
    assert {"unet_efficientnet_b7", "fpn_se_resnext50_32x4d", "deeplabv3plus_regnety_040", "manet_densenet161"} <= set(
        names
    )
    assert "deeplabv3_densenet121" not in names


def test_a_name_of_its_own_keeps_its_meaning():
    assert registry.find("pspnet_resnet50").module == "jaxseg.models.semantic.pspnet"
    assert isinstance(registry.create_model("pspnet_resnet50_smp"), EncoderDecoder)
    assert not set(registry.entries()) & set(registry.combinations())
    assert registry.list_models("unet_eff*") == []
    with pytest.raises(BadInput, match="did you mean 'unet_efficientnet_b0'"):
        registry.create_model("unet_efficientnetb0")


@pytest.mark.parametrize("prefix", ARCHITECTURES)
def test_the_options_are_fields(prefix):
    """All that every architecture has, on four channels and with one map less; three where that is the default."""
    depth = 3 if prefix == "pspnet" else 4
    more = {"decoder_channels": (64, 32, 16, 16)} if prefix in ("unet", "unetplusplus", "manet") else {}
    fields = {"encoder_depth": depth, "aux_params": {"classes": 7, "pooling": "max"}, "in_channels": 4, **more}
    model = registry.create_model(f"{prefix}_regnety_002", num_classes=3, **fields)
    found = outputs(model, (128, 96))
    assert found["logits"].shape == (2, 128, 96, 3)
    assert found["image_logits"].shape == (2, 7)
    assert len(model.backbone.depths) == depth - 1  # timm's encoders end there


def test_attention_weighs_channels_and_places():
    """By hand: half of the channels' gains and half of the places', where all parameters are zero."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 4, 16)), jnp.float32)
    variables = jax.tree.map(jnp.zeros_like, SCSE().init(jax.random.key(0), x))
    np.testing.assert_allclose(SCSE().apply(variables, x), x, rtol=1e-6)
    paths = {
        "/".join(k.key for k in path)
        for path, _ in jax.tree_util.tree_leaves_with_path(
            jax.eval_shape(
                unet_on("resnet18", decoder_attention_type="scse").init,
                jax.random.key(0),
                jax.ShapeDtypeStruct((1, 64, 64, 3), np.uint8),
            )["params"]
        )
    }
    assert "decoder/block0_attention1/reduce/kernel" in paths
    assert "decoder/block4_attention2/places/kernel" in paths
    assert "decoder/block4_attention1/reduce/kernel" not in paths  # no skip arrives there


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("unet_resnet34", {"decoder_channels": (64, 32)}, "with encoder_depth=5 there are 5 of them"),
        ("fpn_densenet121", {"encoder_depth": 3}, "encoder_depth is 3; there are 4 and 5"),
        ("unet_resnet34", {"aux_params": {"class": 3}}, "aux_params is {'class': 3}, but must be like"),
        (
            "unet_resnet34",
            {"aux_params": {"classes": 3, "pool": 1}},
            "aux_params has no 'pool'; did you mean 'pooling'",
        ),
        ("pan_resnet18", {"encoder_output_stride": 4}, "output stride 4 of an encoder; there are 8, 16 and 32"),
    ],
)
def test_a_wrong_option_is_refused(name, fields, message):
    with pytest.raises(BadInput, match=message):
        registry.create_model(name, **fields)


def test_another_attention_is_refused():
    model = registry.create_model("unet_resnet18", decoder_attention_type="cbam")
    with pytest.raises(BadInput, match="decoder_attention_type is 'cbam'; there are 'scse' and None"):
        outputs(model)


def test_an_image_head_is_a_value():
    assert ImageHead.parse({"classes": 2, "dropout": None}) == ImageHead(2, dropout=0.0)
    assert ImageHead.parse(None) is None
    assert registry.create_model("unet_resnet18", aux_params={"classes": 2}) == registry.create_model(
        "unet_resnet18", aux_params=ImageHead(2)
    )


def test_weights_of_another_padding_are_refused():
    """timm's two EfficientNets have the same names and shapes, and other numbers."""
    model = unet_on("efficientnet-b0")
    check_geometry("timm:tf_efficientnet_b0.ns_jft_in1k", model)
    with pytest.raises(BadInput, match="it is for timm_efficientnet_b0, as in unet_timm_efficientnet_b0"):
        check_geometry("timm:efficientnet_b0.ra_in1k", model)
    check_geometry("timm:efficientnet_b0.ra_in1k", unet_on("timm-efficientnet-b0"))
