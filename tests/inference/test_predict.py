"""Prediction in windows equals prediction of the whole, and a checkpoint is found wherever one points."""

import tracemalloc
from dataclasses import replace
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.data import Data, Source
from jaxseg.errors import BadInput
from jaxseg.inference.load import TrainedModel, check_variables, find_checkpoint, load
from jaxseg.inference.monte_carlo import predict_samples
from jaxseg.inference.predict import predict
from jaxseg.inference.predictor import base
from jaxseg.inference.tiling import bands, plan_tiles, tiled
from jaxseg.inference.tta import TestTimeAugmented, parse_tta
from jaxseg.models.semantic.bayesian_segnet import bayesian_segnet_basic, monte_carlo
from jaxseg.models.semantic.segnet import segnet_basic
from jaxseg.models.semantic.unet import unet, unet_original
from jaxseg.ops.crf import DenseCRF
from jaxseg.recipe import Recipe, Stage, dump
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.checkpoint import Checkpoints
from jaxseg.train.optim import SGD


def recipe_of(model, classes):
    data = Data(train=Source("scenes", "train"), val=Source("scenes", "val"))
    stage = Stage(model=model, task=Semantic(classes), data=data, optimizer=SGD(0.1), steps=1, batch_size=1)
    return Recipe(stages=(stage, stage), name="small")


def run_of(model, size, classes=3):
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *size, 3), jnp.uint8))
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda x: rng.normal(0, 0.3, x.shape).astype(np.float32), shapes)
    recipe = recipe_of(model, classes)
    return TrainedModel(model, variables, recipe.stages[0].task, recipe, 0, Path("nowhere"), 0, False)


class Valid(nn.Module):
    """Valid convolutions that take even sizes only, and eat three pixels on each side."""

    num_classes: int = 2

    @nn.compact
    def __call__(self, image, *, train: bool = False):
        self.valid_size(*image.shape[1:3])
        x = nn.Conv(2, (7, 7), padding="VALID", name="conv")(jnp.asarray(image).astype(jnp.float32) / 255.0)
        return {"logits": x}

    @staticmethod
    def valid_size(height, width):
        if height % 2 or width % 2 or min(height, width) < 8:
            raise BadInput("odd")
        return height - 6, width - 6

    @staticmethod
    def input_size(height, width):
        return max(height + height % 2 + 6, 8), max(width + width % 2 + 6, 8)


@pytest.fixture(scope="module")
def small():
    return run_of(unet(num_classes=3, depth=2, width=2, norm="none"), (32, 32))


def picture(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("shape", [(150, 97), (96, 131), (64, 64)])
def test_windows_give_what_the_whole_image_gives(small, shape):
    image = picture(*shape, 3)
    whole = predict(small, image, tile=256)
    tiled = predict(small, image, tile=96, margin=32)
    assert len(plan_tiles(small.model, *shape, tile=96, margin=32)) > (shape[0] > 96) + (shape[1] > 96)
    assert whole["label"].shape == shape
    assert whole["probability"].shape == (*shape, 3)
    np.testing.assert_allclose(tiled["probability"], whole["probability"], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(tiled["label"], tiled["probability"].argmax(-1))


def test_the_margin_is_what_makes_windows_exact(small):
    """With none, seams are seen: the test above can fail."""
    image = picture(150, 97, 3)
    whole, torn = (predict(small, image, tile=t, margin=0)["probability"] for t in (256, 32))
    assert np.abs(whole - torn).max() > 1e-3


def test_seams_are_small_where_the_margin_does_not_cover_the_field():
    """The network sees further than the default margin; right at the borders of tiles it differs by little."""
    model, image = unet(num_classes=3, depth=4, width=4, norm="none"), picture(160, 200, 3)
    run = replace(run_of(model, (32, 32)), variables=jax.jit(model.init)(jax.random.key(0), image[None, :32, :32]))
    whole, parts, torn = (predict(run, image, tile=tile, margin=m) for tile, m in ((256, None), (128, None), (128, 0)))
    difference = np.abs(whole["probability"] - parts["probability"])
    borders = [part.columns.start for part in plan_tiles(run.model, 160, 200, tile=128, margin=None)]
    at_seams = difference[:, [c + i for c in borders if c for i in (-1, 0)]]
    assert 0 < difference.max() < 0.1
    assert at_seams.mean() < 0.01
    assert (whole["label"] == parts["label"]).mean() > 0.98
    assert np.abs(whole["probability"] - torn["probability"]).max() > 0.1


def test_a_tall_image_streams_at_constant_memory(small, tmp_path):
    """The image lies in a file, its labels go to another; what is held does not grow with the height."""
    peaks = {}
    for height in (512, 2048):
        image = np.lib.format.open_memmap(tmp_path / f"{height}.npy", "w+", np.uint8, (1, height, 96, 3))
        image[:] = picture(1, 512, 96, 3).repeat(height // 512, 1)
        image.flush()
        image = np.load(tmp_path / f"{height}.npy", mmap_mode="r")
        predictor, seen = base(small, ("label",)), []
        list(bands(predictor, small.model, {"image": image[:, :256]}, tile=128))  # compiled before
        tracemalloc.start()
        for rows, band in bands(predictor, small.model, {"image": image}, tile=128):
            seen.append((rows.start, rows.stop, int(band["label"].sum())))
            del band
        peaks[height] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert [start for start, _, _ in seen[1:]] == [stop for _, stop, _ in seen[:-1]]
        assert (seen[0][0], seen[-1][1]) == (0, height)
        assert sum(total for _, _, total in seen) == predict(small, np.asarray(image[0]), tile=128)["label"].sum()
    assert peaks[2048] < 1.2 * peaks[512]
    assert peaks[2048] < 2048 * 96 * 4


def test_predictions_that_are_no_maps_are_not_put_together_from_tiles():
    def found(batch):
        return {"boxes": np.zeros((1, 3, 4), np.float32)}

    assert tiled(found, None, tile=64)({"image": picture(1, 64, 40, 3)})["boxes"].shape == (1, 3, 4)
    with pytest.raises(BadInput, match=r"boxes of 2 tiles .* --tile 70"):
        tiled(found, None, tile=64, margin=0)({"image": picture(1, 70, 40, 3)})


def test_modifiers_compose_in_one_order(small):
    """A CRF over the whole image, after views, after tiles."""
    image, crf, views = picture(70, 40, 3), DenseCRF(iterations=2), parse_tta("flip")
    found = predict(small, image, tile=64, margin=0, crf=crf, views=views)
    probability = predict(replace(small, model=TestTimeAugmented(small.model, views)), image, tile=64, margin=0)
    expected = np.asarray(crf(jnp.asarray(probability["probability"]), jnp.asarray(image)))
    np.testing.assert_allclose(found["probability"], expected, atol=1e-5)
    assert found.keys() == {"label", "probability"}
    assert predict(small, image, keys=("label",), crf=crf).keys() == {"label"}


def test_several_images_and_chosen_keys(small):
    images = picture(2, 40, 33, 3)
    both = predict(small, images, keys=("label",))
    assert both.keys() == {"label"}
    one = predict(small, images[1], keys=("label",))
    np.testing.assert_array_equal(both["label"][1], one["label"])


@pytest.mark.parametrize(("tile", "windows"), [(64, 1), (16, 15), (8, 14 * 22)])
def test_valid_convolutions_see_the_mirrored_image(tile, windows):
    """U-Net's overlap-tile: one window over the whole, and many, all equal the network on the mirrored image."""
    run = run_of(Valid(), (8, 8), classes=2)
    image = picture(43, 27, 3)
    padded = np.pad(image, ((3, 4), (3, 4), (0, 0)), mode="reflect")
    logits = run.model.apply(run.variables, padded[None], train=False)["logits"]
    expected = np.asarray(jax.nn.softmax(logits, axis=-1))[0, :43, :27]
    found = predict(run, image, tile=tile)["probability"]
    assert found.shape == (43, 27, 2)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert len(plan_tiles(run.model, 43, 27, tile=tile, margin=None)) == windows


def test_an_image_smaller_than_the_border_is_mirrored_again_and_again():
    run = run_of(Valid(), (8, 8), classes=2)
    for size in ((2, 3), (1, 1)):
        image = picture(*size, 3)
        extra = [(3, 3 + n % 2) for n in size]
        padded = np.pad(image, (*extra, (0, 0)), mode="reflect")
        logits = run.model.apply(run.variables, padded[None], train=False)["logits"]
        expected = np.asarray(jax.nn.softmax(logits, axis=-1))[0, : size[0], : size[1]]
        np.testing.assert_allclose(predict(run, image)["probability"], expected, rtol=0, atol=1e-5)


def test_the_published_u_net_has_such_windows():
    window = plan_tiles(unet_original(), 512, 512, tile=1024, margin=None)[0]
    assert (window.vertical.begin, window.vertical.length) == (-92, 700)
    tiles = plan_tiles(unet_original(), 512, 512, tile=572, margin=None)
    assert [(w.vertical.begin, w.vertical.length, w.rows) for w in tiles[::2]] == [
        (-92, 572, slice(0, 384)), (384 - 92, 572, slice(384, 512))
    ]  # fmt: skip


@pytest.mark.parametrize(("shape", "tile"), [((33, 47), 204), ((33, 47), 220), ((5, 3), 204)])
def test_overlap_tiles_of_the_published_u_net_equal_one_pass_over_the_mirrored_image(shape, tile):
    """Pooling is what would tell them apart: every window's pools must lie where those of the whole image lie."""
    run = run_of(unet_original(width=2), (188, 188), classes=2)
    image = picture(*shape, 3)
    border = [(92, size - n - 92) for size, n in zip(run.model.input_size(*shape), shape, strict=True)]
    columns = [np.arange(-a, n + b) % max(2 * n - 2, 1) for (a, b), n in zip(border, shape, strict=True)]
    rows, columns = (np.minimum(i, 2 * n - 2 - i) for i, n in zip(columns, shape, strict=True))
    logits = jax.jit(run.model.apply)(run.variables, image[None, rows[:, None], columns])["logits"]
    expected = np.asarray(jax.nn.softmax(logits, axis=-1))[0, : shape[0], : shape[1]]
    found = predict(run, image, tile=tile, keys=("probability",))["probability"]
    assert expected.std() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("length", "tile", "margin"), [(1000, 256, 64), (257, 256, 32), (96, 96, 32), (4097, 1024, 128)]
)
def test_windows_decide_every_pixel_once(small, length, tile, margin):
    windows = plan_tiles(small.model, length, 40, tile=tile, margin=margin)
    decided = np.zeros(length, int)
    for window in windows:
        span = window.vertical
        decided[span.out] += 1
        assert span.length <= tile
        assert span.begin % 32 == 0
        assert span.begin + span.inner.start == span.out.start
        assert span.inner.start >= margin or span.begin == 0
        assert span.length - span.inner.stop >= margin or span.begin + span.length == length
    assert (decided == 1).all()


def test_what_predict_refuses(small):
    for image in (picture(8, 8), picture(8, 8, 4), np.zeros((8, 8, 3), np.float32), np.zeros((0, 8, 3), np.uint8)):
        with pytest.raises(BadInput, match="uint8 RGB"):
            predict(small, image)
    with pytest.raises(BadInput, match="at least 160"):
        predict(small, picture(200, 8, 3), tile=128, margin=64)
    with pytest.raises(BadInput, match="smallest is 204"):
        plan_tiles(unet_original(), 300, 300, tile=180, margin=None)


def save(folder, step, model, recipe, *, stage=0, ema=False):
    """A checkpoint of random variables; returns those that ``load`` should find in it."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.uint8))
    rng = np.random.default_rng(step)
    own, averages = (jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes) for _ in range(2))
    state = {"params": own["params"], "model_state": {"batch_stats": own["batch_stats"]}}
    checkpoints = Checkpoints(folder, keep=3)
    notes = {"recipe": dump(recipe), "stage": stage}
    checkpoints.save(step, {**state, "ema": averages} if ema else state, notes)
    checkpoints.close()
    return averages if ema else own


def equal(one, other):
    same = jax.tree.map(lambda a, b: np.array_equal(np.asarray(a), np.asarray(b)), dict(one), dict(other))
    return all(jax.tree.leaves(same))


def test_a_checkpoint_is_found_wherever_one_points(tmp_path):
    model = unet(num_classes=3, depth=1, width=1)
    recipe = recipe_of(model, 3)
    with pytest.raises(BadInput, match="no work directory"):
        load(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="holds no checkpoint"):
        load(tmp_path)
    first = save(tmp_path / "stages" / "0-main" / "checkpoints", 4, model, recipe)
    assert find_checkpoint(tmp_path) == (tmp_path / "stages" / "0-main" / "checkpoints", 4)
    last = save(tmp_path / "stages" / "1-main" / "checkpoints", 6, model, recipe, stage=1, ema=True)
    best = save(tmp_path / "stages" / "1-main" / "best", 2, model, recipe, stage=1)

    run = load(tmp_path)
    assert (run.step, run.stage, run.averaged) == (2, 1, False)
    assert equal(run.variables, best)
    assert (run.model, run.task, run.recipe) == (model, recipe.stages[1].task, recipe)
    run = load(tmp_path, best=False)
    assert (run.step, run.averaged) == (6, True)
    assert equal(run.variables, last)
    run = load(tmp_path / "stages" / "0-main" / "checkpoints" / "4")
    assert (run.step, run.stage) == (4, 0)
    assert equal(run.variables, first)
    assert load(tmp_path / "stages" / "1-main" / "checkpoints").step == 6

    other = recipe_of(unet(num_classes=5, depth=1, width=1), 5)
    with pytest.raises(BadInput, match=r"of another model: .*classifier.*is float32"):
        load(tmp_path, recipe=other)


def test_variables_of_another_model_are_refused(small):
    check_variables(small.model, small.variables, what="mine")
    with pytest.raises(BadInput, match="is missing"):
        check_variables(unet(num_classes=3, depth=3, width=2, norm="none"), small.variables, what="mine")
    with pytest.raises(BadInput, match="has no place"):
        check_variables(unet(num_classes=3, depth=1, width=2, norm="none"), small.variables, what="mine")


class Stripes(nn.Module):
    """Needs no variables at all."""

    num_classes: int = 2

    @nn.compact
    def __call__(self, image, *, train: bool = False):
        rows = jnp.broadcast_to((jnp.arange(image.shape[1]) % 2)[None, :, None], image.shape[:3])
        return {"logits": jax.nn.one_hot(rows, 2)}


def test_a_model_without_variables():
    run = run_of(Stripes(), (4, 4), classes=2)
    np.testing.assert_array_equal(predict(run, picture(5, 3, 3))["label"][:, 0], [0, 1, 0, 1, 0])


def test_samples_of_a_bayesian_network():
    """The mean and the variance of the passes; windows draw masks of their own; the seed decides."""
    run = run_of(bayesian_segnet_basic(num_classes=3, width=2), (32, 32))
    variables = jax.jit(run.model.init)(jax.random.key(0), picture(1, 32, 32, 3))  # whose variances are not negative
    run = replace(run, variables=variables)
    image = picture(48, 40, 3)
    found = predict_samples(run, image, samples=4, seed=7)
    key = jax.random.fold_in(jax.random.key(7), 0)
    draw = jax.jit(lambda variables, image: monte_carlo(key, run.model, variables, image, samples=4))
    expected = draw(run.variables, image[None])
    np.testing.assert_allclose(found["probability"], expected["probability"][0], atol=1e-5)
    np.testing.assert_allclose(found["variance"], expected["variance"][0].mean(-1), atol=1e-5)
    np.testing.assert_array_equal(found["label"], found["probability"].argmax(-1))
    assert found["variance"].shape == image.shape[:2]
    again, other = (predict_samples(run, image, samples=4, seed=seed)["variance"] for seed in (7, 8))
    np.testing.assert_array_equal(again, found["variance"])
    assert np.any(other != again)
    twice = np.concatenate([picture(64, 40, 3)] * 2)
    tiled = predict_samples(run, twice, samples=4, seed=7, tile=64, margin=0)["variance"]
    assert np.any(tiled[:64] != tiled[64:])


def test_a_network_without_dropout_has_no_samples():
    for model in (unet(num_classes=3, depth=1, width=2), segnet_basic(num_classes=3, width=2)):
        with pytest.raises(BadInput, match="has no dropout to sample from"):
            predict_samples(run_of(model, (32, 32)), picture(32, 32, 3), samples=2)
