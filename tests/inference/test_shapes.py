"""Images of many sizes through few compiled shapes, and variables that go to the device once."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.inference import predictor
from jaxseg.inference.extent import neutral_pixel
from jaxseg.inference.predict import plan, predict
from jaxseg.inference.shapes import plan_shapes
from jaxseg.inference.tta import parse_tta
from jaxseg.models.semantic.unet import unet, unet_original
from tests.inference.test_predict import Valid, picture, run_of


@pytest.fixture(scope="module")
def small():
    return run_of(unet(num_classes=3, depth=1, width=2, norm="none"), (32, 32))


def compilations(run, keys=None):
    return predictor.compiled(run.model, run.task, keys)._cache_size()


def test_every_size_fits_and_there_are_no_more_shapes_than_asked_for():
    rng = np.random.default_rng(0)
    sizes = [tuple(int(n) for n in rng.integers(20, 200, 2)) for _ in range(60)]
    for number in (1, 4, 60):
        shapes = plan_shapes(sizes, number)
        assert 1 <= len(shapes) <= number
        assert all(any(h <= y and w <= x for y, x in shapes) for h, w in sizes)
    assert plan_shapes(sizes, 1) == ((max(h for h, _ in sizes), max(w for _, w in sizes)),)
    assert plan_shapes(sizes, 100) == tuple(sorted(set(sizes)))
    assert len(plan_shapes([(n, 3 * n) for n in range(1, 1200)], 5)) <= 5


def test_shapes_add_little_where_sizes_lie_close():
    """Portraits and landscapes are not padded to squares."""
    sizes = [(60 + i, 80) for i in range(5)] + [(80, 60 + i) for i in range(5)]
    assert plan_shapes(sizes, 2) == ((64, 80), (80, 64))


def test_each_size_is_compiled_once_and_shapes_bound_the_number(small):
    run = replace(small, model=unet(num_classes=3, depth=1, width=2, norm="none", patch=1))
    images = [picture(24 + 3 * i, 40 - 2 * i, 3) for i in range(6)]
    before = compilations(run)
    exact = [predict(run, image)["label"] for image in images]
    assert compilations(run) == before + 6
    assert [predict(run, image)["label"].shape for image in images] == [label.shape for label in exact]
    assert compilations(run) == before + 6

    shapes = plan_shapes([part.size for image in images for part in plan(run, *image.shape[:2])], 2)
    predictor.compiled.cache_clear()
    found = [predict(run, image, shapes=shapes)["label"] for image in images]
    assert compilations(run) == len(shapes) == 2
    for label, expected in zip(found, exact, strict=True):
        assert label.shape == expected.shape
        np.testing.assert_array_equal(label, expected)


def test_tiles_share_the_shapes(small):
    image = picture(150, 100, 3)
    parts = plan(small, 150, 100, tile=96)
    shapes = plan_shapes([part.size for part in parts], 1)
    predictor.compiled.cache_clear()
    found = predict(small, image, tile=96, shapes=shapes)["label"]
    assert compilations(small) == 1
    np.testing.assert_array_equal(found, predict(small, image, tile=96)["label"])


def test_convolutions_see_the_image_alone():
    """Deep enough that the border is felt everywhere; odd sizes, which the network pads by itself."""
    model = unet(num_classes=3, depth=3, width=2, norm="none")
    start = jax.jit(model.init)(jax.random.key(0), picture(1, 32, 32, 3))
    run, image = replace(run_of(model, (32, 32)), variables=start), picture(21, 35, 3)
    exact, found = (predict(run, image, shapes=shapes)["probability"] for shapes in ((), ((50, 47),)))
    mirrored = predict(run, np.pad(image, ((0, 29), (0, 12), (0, 0)), mode="symmetric"))["probability"]
    np.testing.assert_allclose(found, exact, atol=1e-5)
    assert np.abs(mirrored[:21, :35] - exact).max() > 1e-3
    with pytest.raises(BadInput, match="give one of them"):
        predict(run, image, views=parse_tta("flip"), shapes=((50, 47),))


def test_a_network_whose_standardisation_is_unknown_sees_the_reflection():
    run = run_of(Valid(), (8, 8), classes=2)
    assert neutral_pixel(run.model) is None
    image = picture(43, 27, 3)
    found = predict(run, image, shapes=((60, 64),))["probability"]
    np.testing.assert_allclose(found, predict(run, image)["probability"], atol=1e-6)


def test_valid_convolutions_lose_nothing_by_a_larger_shape():
    """Padding below and to the right reaches only what is cropped."""
    run = run_of(unet_original(num_classes=2, width=1), (188, 188), classes=2)
    image = picture(20, 9, 3)
    (part,) = plan(run, 20, 9)
    larger = (part.size[0] + 16, part.size[1] + 32)
    found, exact = (predict(run, image, shapes=shapes)["probability"] for shapes in ((larger,), ()))
    np.testing.assert_allclose(found, exact, atol=1e-6)


def test_variables_go_to_the_device_once(small, monkeypatch):
    run = replace(small)
    put, moved = jax.device_put, []
    monkeypatch.setattr(jax, "device_put", lambda x, *a, **k: moved.append(1) or put(x, *a, **k))
    for size in ((16, 16), (17, 16), (16, 16)):
        predict(run, picture(*size, 3))
    assert len(moved) == 1
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(run.variables_on_device))
