"""What holds for every registered model on images of other than three channels, by shapes alone."""

import functools

import jax
import jax.numpy as jnp
import pytest

from jaxseg import registry
from jaxseg.errors import BadInput
from jaxseg.layers.standardize import IMAGENET, UNIT_RANGE
from tests.contracts.zoo import LABELLERS, one_of_each_file, output_size, shallow, sizes

COLORS_ONLY = {"retina_unet", *registry.list_models(task="colorization")}
NAMES = [name for name in registry.entries() if name not in COLORS_ONLY]


def image_of(size, channels):
    return jax.ShapeDtypeStruct((1, *size, channels), jnp.uint16)


def traced(model, channels):
    size = sizes(model)[0]
    run = functools.partial(model.init_with_output, jax.random.key(0))
    return size, *jax.eval_shape(run, image_of(size, channels))


@pytest.mark.parametrize("name", one_of_each_file(NAMES))
def test_four_bands_are_taken_where_the_model_is_built_for_them(name):
    model = shallow(registry.create_model(name, in_channels=4))
    size, outputs, variables = traced(model, 4)
    assert model.in_channels == 4
    if name in LABELLERS:
        assert outputs["logits"].shape == (1, *output_size(model, size), model.num_classes)
    assert any(leaf.ndim == 4 and 4 in leaf.shape[2:3] for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize("name", one_of_each_file(registry.entries()))
def test_an_image_of_other_channels_is_refused_with_both_numbers(name):
    model = shallow(registry.create_model(name))
    assert model.in_channels == 3
    end = r": colours are of RGB" if registry.find(name).task == "colorization" else "; .*in_channels=5"
    with pytest.raises(BadInput, match=rf"^the image has 5 channels and the network takes 3{end}"):
        traced(model, 5)


@pytest.mark.parametrize("channels", [1, 13])
@pytest.mark.parametrize("name", ["unet", "unet_original", "segformer_b0", "deeplabv2_resnet101", "mediapipe_hair"])
def test_one_channel_and_thirteen(name, channels):
    model = shallow(registry.create_model(name, in_channels=channels))
    assert traced(model, channels)[1]["logits"].dtype == jnp.float32


def test_statistics_of_colors_are_refused_for_bands_unless_none_were_asked_for():
    assert registry.create_model("unet", in_channels=4).standardize == UNIT_RANGE
    with pytest.raises(BadInput, match="in_channels is 4, and the statistics are of 3 channels"):
        traced(registry.create_model("unet", in_channels=4, standardize=IMAGENET), 4)


def test_a_network_of_luma_takes_one_channel_or_three():
    for channels in (1, 3):
        traced(registry.create_model("retina_unet", in_channels=channels), channels)
    with pytest.raises(BadInput, match="in_channels is 4, and the statistics are of 1 channel"):
        traced(registry.create_model("retina_unet", in_channels=4), 4)
