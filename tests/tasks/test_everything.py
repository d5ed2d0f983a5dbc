"""All tasks on one backbone: every prediction is there, heads see what they should and learn from their own truth."""

import math
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxseg import viz
from jaxseg.cli.predict import write
from jaxseg.data import Facts
from jaxseg.errors import BadInput
from jaxseg.layers.dense_heads import ColorHead, DepthHead, LabelHead, ScoreHead
from jaxseg.models.instance import mask_rcnn
from jaxseg.models.multitask.pyramid_heads import in_grey, things_first, with_heads
from jaxseg.recipe import load_file
from jaxseg.tasks.depth import Depth
from jaxseg.tasks.multitask import MultiTask
from jaxseg.tasks.protocol import task_figures
from jaxseg.tasks.saliency import Saliency
from jaxseg.viz.contact_sheet import overview
from jaxseg.viz.panels import GAP
from tests.laws.tree import ROOT

IMAGE = np.random.default_rng(0).integers(0, 256, (2, 32, 64, 3), dtype=np.uint8)


def tiny(heads, grey_heads=()):
    detector = mask_rcnn.on_resnet(18, 2, width=4, features=4, dense=4)
    small = detector.clone(backbone=detector.backbone.clone(norm="batch", depths=(1, 1, 1, 1)))
    return with_heads(small, heads, grey_heads=grey_heads, finds=False, features=4, own=4)


@pytest.fixture(scope="module")
def maps():
    """A network that finds no objects, and its variables."""
    model = tiny((DepthHead(task="depth"), ScoreHead("saliency_logits", task="saliency")), (ColorHead(task="color"),))
    return model, jax.jit(lambda image: model.init(jax.random.key(0), image))(IMAGE)


def test_the_recipe_predicts_everything_and_measures_each_task():
    stage = load_file(Path(f"{ROOT / 'experiments/everything_scenes.py'}:everything")).stages[0]
    image, size = jax.ShapeDtypeStruct((2, 96, 128, 3), np.uint8), jax.ShapeDtypeStruct((2, 2), np.int32)

    def predict(image, size):
        batch = {"image": image, "size": size}
        outputs, _ = stage.model.init_with_output(jax.random.key(0), **stage.task.inputs(batch, train=False))
        return stage.task.predict(outputs, batch)

    found = jax.eval_shape(predict, image, size)
    of_maps = {"label": (), "panoptic": (2,), "depth": (), "normal": (3,), "boundary": (), "saliency": (), "ab": (2,)}
    assert {key: found[key].shape for key in of_maps} == {k: (2, 96, 128, *more) for k, more in of_maps.items()}
    assert {key: found[key].shape for key in ("boxes", "masks")} == {"boxes": (2, 20, 4), "masks": (2, 20, 28, 28)}
    assert {name.split("/")[0] for name in task_figures(stage.task)} == {name for name, _ in stage.task.pairs}


def test_heads_of_the_lightness_see_no_colour_and_the_others_do(maps):
    model, variables = maps
    apply = jax.jit(model.apply)
    color, grey = (apply(variables, image) for image in (IMAGE, np.asarray(in_grey(jnp.asarray(IMAGE)))))
    apart = {key: float(np.abs(color[key] - grey[key]).mean()) for key in color}
    others = float(np.abs(color["color/ab"] - color["color/ab"][::-1]).mean())
    assert apart["color/ab"] < 0.02 * others  # but for a level of grey, by rounding
    assert apart["saliency/saliency_logits"] > 0.01 * float(np.abs(color["saliency/saliency_logits"]).mean())


def test_each_head_and_the_backbone_learn_from_the_truth_that_is_there(maps):
    model, variables = maps
    task = MultiTask({"depth": Depth(), "saliency": Saliency()})
    image = jnp.asarray(IMAGE)
    truth = {"depth": jnp.asarray(np.random.default_rng(1).uniform(1, 3, IMAGE.shape[:3]), jnp.float32)}
    truth["saliency"] = truth["depth"] > 2

    @jax.jit
    def slope(present):
        def loss(params):
            batch = {"image": image, **truth, "depth/present": present}
            outputs, _ = model.apply(
                {**variables, "params": params}, jnp.asarray(IMAGE), train=True, mutable="batch_stats"
            )
            terms = task.loss(outputs, batch)
            return sum(term.weight * term.sum / jnp.maximum(term.count, 1.0) for term in terms.values())

        return jax.grad(loss)(variables["params"])

    def size(tree):
        return max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(tree))

    both, one = (slope(jnp.asarray([there, there])) for there in (True, False))
    assert size(both["branch"]["depth"]) > 0
    assert size(one["branch"]["depth"]) == 0
    assert size(both["branch"]["color"]) == 0  # no task asks for it
    for found in (both, one):
        assert size(found["branch"]["saliency"]) > 0
        assert size(found["backbone"]["conv1"]) > 0


def test_things_together_are_as_probable_as_all_of_them():
    logits = np.random.default_rng(2).normal(0, 3, (1, 2, 3, 5)).astype(np.float32)
    share = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    wanted = np.stack([share[..., [1, 3]].sum(-1), share[..., 0], share[..., 2], share[..., 4]], -1)
    np.testing.assert_allclose(jax.nn.softmax(things_first(jnp.asarray(logits), (1, 3))), wanted, rtol=1e-4)


@pytest.mark.parametrize("heads", [(DepthHead(),), (DepthHead(task="a"), LabelHead(3, task="a"))])
def test_heads_without_names_of_their_own_are_refused(heads):
    with pytest.raises(BadInput, match="heads have names of their own"):
        jax.eval_shape(tiny(heads).init, jax.random.key(0), IMAGE)


def predictions():
    rng = np.random.default_rng(3)
    share = rng.random((20, 30)).astype(np.float32)
    return {"label": rng.integers(0, 2, (20, 30)), "depth": 1 + share, "saliency": share, "boundary": share}


def test_the_sheet_of_an_image_shows_it_and_every_prediction():
    facts, found = Facts("x", "", ("sky", "road"), ((9, 9, 9), (200, 0, 0)), {}), predictions()
    pixels = IMAGE[0, :20, :30]
    drawn = overview(pixels, found, facts, side=90, columns=2)
    pictures = [pixels, *viz.paint(pixels, found, facts).values()]
    assert len(pictures) == 1 + len(found)
    strip = 60 + 20 + 2 * GAP
    for at, picture in enumerate(pictures):
        top, left = GAP + at // 2 * strip, GAP + at % 2 * (90 + GAP)
        np.testing.assert_array_equal(drawn[top : top + 60, left : left + 90], picture.repeat(3, 0).repeat(3, 1))
    assert drawn.shape[0] > math.ceil(len(pictures) / 2) * strip  # the legend of the label map


def test_predict_writes_the_sheet_for_several_tasks(tmp_path):
    facts = Facts("x", "", ("sky", "road"), ((9, 9, 9), (200, 0, 0)), {})
    for task, there in ((MultiTask({"depth": Depth(), "saliency": Saliency()}), True), (Depth(), False)):
        run = SimpleNamespace(facts=facts, task=task, model=None, name="run", checkpoint="at", step=1, averaged=False)
        target = tmp_path / str(there)
        write(run, Path("photo.jpg"), IMAGE[0, :20, :30], predictions(), target / "photo", {}, threshold=0.5)
        assert (target / "photo_sheet.png").exists() == there
    with Image.open(tmp_path / "True/photo_sheet.png") as sheet:
        assert sheet.width > 3 * 300
