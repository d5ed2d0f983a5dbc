"""Means over views are what they say, for any network and in any place where a network stands."""

from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.inference.predict import predict
from jaxseg.inference.tta import TURNS, TestTimeAugmented, View, parse_tta
from jaxseg.models.semantic.unet import unet, unet_original
from jaxseg.ops.resize import resize_bilinear
from jaxseg.train.evaluate import evaluate
from tests.inference.test_predict import picture, run_of

POSITIONS = [(turns, mirrored) for turns in range(4) for mirrored in (False, True)]


def placed(image, turns, mirrored):
    image = np.rot90(image, turns)
    return image[:, ::-1] if mirrored else image


def put_back(image, turns, mirrored):
    image = image[:, ::-1] if mirrored else image
    return np.rot90(image, -turns)


@pytest.mark.parametrize(
    ("model", "shape"),
    [(unet(num_classes=3, depth=1, width=2, norm="none"), (21, 34)), (unet_original(num_classes=3, width=1), (20, 4))],
)
def test_it_is_the_mean_of_predictions_of_the_turned_and_mirrored_image(model, shape):
    run, image = run_of(model, (188, 188)), picture(*shape, 3)
    each = [put_back(predict(run, placed(image, *p))["probability"], *p) for p in POSITIONS]
    assert np.std(each, axis=0).max() > 1e-3
    found = predict(replace(run, model=TestTimeAugmented(model)), image)
    np.testing.assert_allclose(found["probability"], np.mean(each, axis=0), atol=1e-5)
    np.testing.assert_array_equal(found["label"], found["probability"].argmax(-1))
    turned = predict(replace(run, model=TestTimeAugmented(model)), placed(image, 1, True))["probability"]
    np.testing.assert_allclose(put_back(turned, 1, True), found["probability"], atol=1e-5)


def test_it_is_evaluated_like_any_network():
    run = run_of(unet(num_classes=3, depth=1, width=2, norm="none"), (32, 32))
    batch = {"image": picture(2, 16, 16, 3), "label": np.random.default_rng(2).integers(0, 3, (2, 16, 16), np.int32)}
    figures = evaluate(TestTimeAugmented(run.model), run.variables, run.task, [batch])
    label = predict(replace(run, model=TestTimeAugmented(run.model)), batch["image"])["label"]
    assert figures["pixel_accuracy"] == pytest.approx((label == batch["label"]).mean())
    assert figures != evaluate(run.model, run.variables, run.task, [batch])


def test_words_name_views():
    assert parse_tta("flip") == (View(), View(mirrored=(2,)))
    assert parse_tta("turns") == TURNS
    assert len(set(TURNS)) == 8
    assert {(v.scale, v.mirrored) for v in parse_tta("flip,0.75,1.25, 1.5")} == {
        (scale, mirrored) for scale in (0.75, 1, 1.25, 1.5) for mirrored in ((), (2,))
    }
    assert parse_tta("0.5,1") == (View(0.5), View())
    for text, words in (("flop", "'flop'"), ("flip,0.01", "0.01"), ("", "flip,0.75"), ("1", "alone"), ("nan", "nan")):
        with pytest.raises(BadInput, match=words):
            parse_tta(text)


def test_scales_are_means_of_probabilities_at_the_image_size():
    """Written out in NumPy's words: resize, mirror, softmax, mirror back, resize back, mean."""
    model = unet(num_classes=3, depth=1, width=2, norm="none")
    run, image = run_of(model, (32, 32)), picture(20, 31, 3)
    each = []
    for scale in (0.5, 1, 1.5):
        size = (round(20 * scale), round(31 * scale))
        pixels = resize_bilinear(jnp.asarray(image[None], jnp.float32), size)
        for step in (1, -1):
            logits = model.apply(run.variables_on_device, pixels[:, :, ::step], train=False)["logits"][:, :, ::step]
            each.append(resize_bilinear(jax.nn.softmax(logits), (20, 31))[0])
    found = predict(run, image, views=parse_tta("flip,0.5,1.5"))
    np.testing.assert_allclose(found["probability"], np.mean(each, axis=0), atol=2e-5)
    assert np.abs(found["probability"] - predict(run, image)["probability"]).max() > 1e-3


class Depth(nn.Module):
    """Depth is the red channel; the other outputs have no mean over views."""

    also: str = ""

    @nn.compact
    def __call__(self, image, *, train: bool = False):
        red = jnp.asarray(image)[..., 0].astype(jnp.float32)
        other = {"boxes": jnp.zeros((1, 2, 4)), "normal": jnp.zeros((*red.shape, 3)), "aux_logits": red}
        return {"depth": red, **{key: value for key, value in other.items() if key == self.also}}


def test_maps_of_numbers_have_means_and_everything_else_is_refused_by_name():
    image = jnp.asarray(picture(1, 12, 16, 3))
    found = TestTimeAugmented(Depth(), parse_tta("turns")).apply({}, image)
    np.testing.assert_allclose(found["depth"], image[..., 0], rtol=1e-6)
    smooth = jnp.broadcast_to(jnp.arange(16, dtype=jnp.uint8)[None, None, :, None] * 10, image.shape)
    found = TestTimeAugmented(Depth(), parse_tta("2")).apply({}, smooth)
    np.testing.assert_allclose(found["depth"][:, :, 1:-1], smooth[:, :, 1:-1, 0], rtol=1e-5)
    assert TestTimeAugmented(Depth("aux_logits")).apply({}, image).keys() == {"depth"}
    for key in ("boxes", "normal"):
        with pytest.raises(BadInput, match=f"returns {key}"):
            TestTimeAugmented(Depth(key)).apply({}, image)


def test_valid_convolutions_turn_but_do_not_scale():
    assert TestTimeAugmented(unet_original(), parse_tta("flip")).views == parse_tta("flip")
    with pytest.raises(BadInput, match="--tta flip or --tta turns"):
        TestTimeAugmented(unet_original(), parse_tta("0.5"))
