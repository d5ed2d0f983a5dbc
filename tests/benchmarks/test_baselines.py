"""Predictions that nothing was learnt for are what they are called, and are judged by the task's own figures."""

import importlib
import sys

import numpy as np
import pytest

from jaxseg.data import Data, Source
from jaxseg.ops.color_priors import PHOTOGRAPHS
from jaxseg.recipe import Stage
from jaxseg.tasks.boundary import Boundary
from jaxseg.tasks.colorization import Colorization
from jaxseg.tasks.depth import Depth
from jaxseg.tasks.normals import Normals
from jaxseg.train.optim import Adam
from tests.laws.tree import ROOT

TINY = (("size", 16), ("train", 3), ("val", 2))


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module("baselines")
    for name in ("measure", "baselines"):
        sys.modules.pop(name, None)


def stage(task, *keys):
    data = Data(train=Source("scenes", "train", (), TINY), val=Source("scenes", "val", (), TINY), keys=("image", *keys))
    return Stage(model=None, task=task, data=data, optimizer=Adam(1e-3), steps=1, batch_size=1)


def test_canny_finds_a_step_and_nothing_else(benchmark):
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[:, :, 16:] = 200
    image += np.random.default_rng(0).integers(0, 3, image.shape, np.uint8)
    found = np.asarray(benchmark.canny({"image": image}, 1.0)["boundary"])[0, 4:-4]
    assert (found.max(1) >= 0.9).all()
    assert set(found.argmax(1)) <= {15, 16}


def test_depth_that_is_the_same_everywhere_is_right_as_often_as_it_is_near(benchmark, tmp_path):
    one = stage(Depth(), "depth")
    made = dict(benchmark.baselines(one, str(tmp_path)))
    depth, known = (
        np.concatenate([batch[key] for batch in one.data.eval_batches(batch_size=1, data_dir=tmp_path)])
        for key in ("depth", "depth_valid")
    )
    near = np.maximum(depth / 2, 2 / depth) < 1.25
    found = benchmark.judged(one, made["two metres"], str(tmp_path))["delta1"]
    assert found == pytest.approx((near & known).sum() / known.sum(), abs=1e-6)
    first = list(one.data.eval_batches(batch_size=1, split="train", data_dir=tmp_path))
    mean = np.concatenate([batch["depth"] for batch in first]).mean(0)
    np.testing.assert_allclose(made["mean of the training images"](first[0])["depth"][0], mean, rtol=1e-5)


def test_medians_are_those_of_the_pixels_whose_depth_is_known(benchmark, tmp_path):
    one = stage(Depth(), "depth")
    made = dict(benchmark.baselines(one, str(tmp_path)))
    train = list(one.data.eval_batches(batch_size=1, split="train", data_dir=tmp_path))
    pixels = np.concatenate([batch["depth"][np.asarray(batch["depth_valid"], bool)] for batch in train])
    everywhere = made["median of the training pixels"](train[0])["depth"]
    np.testing.assert_allclose(everywhere, np.full(everywhere.shape, np.median(pixels)), rtol=0.01)
    batch = {"depth": np.asarray([[[1.0, 2.0, 9.0, 50.0]]]), "depth_valid": np.asarray([[[True, True, True, False]]])}
    np.testing.assert_array_equal(benchmark.its_own_median(batch)["depth"], np.full((1, 1, 4), 2.0))


def test_mean_normals_are_of_unit_length(benchmark, tmp_path):
    one = stage(Normals(), "normal")
    predict = dict(benchmark.baselines(one, str(tmp_path)))["mean of the training images"]
    normal = predict({"image": np.zeros((2, 16, 16, 3))})["normal"]
    assert normal.shape == (2, 16, 16, 3)
    np.testing.assert_allclose(np.linalg.norm(normal, axis=-1), 1, rtol=1e-5)


def test_grey_is_no_colour_and_every_task_has_something_beside_it(benchmark, tmp_path):
    named = {
        "Colorization": dict(benchmark.baselines(stage(Colorization(PHOTOGRAPHS)), str(tmp_path))),
        "Boundary": dict(benchmark.baselines(stage(Boundary(), "boundary"), str(tmp_path))),
    }
    assert set(named["Colorization"]) == {"grey", "mean of the prior"}
    assert set(named["Boundary"]) == {"Canny, sigma 1", "Canny, sigma 2", "the same everywhere"}
    batch = {"image": np.zeros((1, 2, 3, 3))}
    assert not named["Colorization"]["grey"](batch)["ab"].any()
    mean = named["Colorization"]["mean of the prior"](batch)["ab"]
    assert mean.shape == (1, 2, 3, 2)
    assert 0 < np.abs(mean).max() < 20
