"""The mean over eight positions is what it says, for any network and in any place where a network stands."""

from dataclasses import replace

import numpy as np
import pytest

from jaxseg.inference.predict import predict
from jaxseg.inference.tta import TestTimeAugmented
from jaxseg.models.semantic.unet import unet, unet_original
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
