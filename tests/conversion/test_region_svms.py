"""R-CNN's stages after fine-tuning: machines beside scikit-learn's on everything, regression beside its equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.conversion.region_svms import PROPOSAL, RegionSVMs, ridge
from jaxseg.errors import BadInput
from jaxseg.models.detection.rcnn import rcnn_alexnet


def files(folder, rng, images=6, proposals=40):
    """Features of made-up images: an object of class 0 in each, whose features lie apart."""
    found = []
    for i in range(images):
        label = np.concatenate([[0], np.full(proposals, PROPOSAL)])
        fc7 = np.abs(rng.normal(size=(proposals + 1, 5))).astype(np.float32)
        fc7[0, 0] += 4
        overlap = np.zeros((proposals + 1, 2), np.float32)
        overlap[1:4, 0] = 0.7  # neither background nor an object
        fc7[1:4, 0] += 4
        codes = np.zeros((proposals + 1, 2, 4), np.float32)
        pool5 = rng.normal(size=(proposals + 1, 7)).astype(np.float32)
        codes[:, 0] = pool5[:, :4] * 0.1
        found.append(folder / f"{i}.npz")
        np.savez(found[-1], pool5=pool5, fc7=fc7, label=label, overlap=overlap, codes=codes)
    return found


def test_mining_finds_the_machine_of_all_negatives(tmp_path):
    """Retrained on what is hard alone, in small portions, it separates as one that saw everything."""
    svm = pytest.importorskip("sklearn.svm")
    images = files(tmp_path, np.random.default_rng(0))
    how = RegionSVMs(cost=1.0, retrain=50)
    w, b = how.machine(images, 0, 1.0)
    rows = [np.load(path) for path in images]
    objects = np.concatenate([found["fc7"][found["label"] == 0] for found in rows])
    background = np.concatenate([found["fc7"][4:] for found in rows])
    whole = svm.LinearSVC(loss="hinge", C=1.0, intercept_scaling=10.0, class_weight={1: 2.0, 0: 1.0}, max_iter=100_000)
    whole.fit(np.concatenate([objects, background]), np.repeat([1, 0], [len(objects), len(background)]))
    wanted = np.concatenate([whole.coef_[0], whole.intercept_])
    np.testing.assert_allclose(np.append(w, b), wanted, atol=0.15 * np.abs(wanted).max())
    assert (objects @ w + b).min() > 0 > (background @ w + b).max()
    scaled, shift = how.machine(images, 0, 0.5)
    assert (objects @ scaled + shift).min() > (background @ scaled + shift).max()
    assert how.machine(images, 1, 1.0)[1] < -5, "a class without objects is never found"


def test_ridge_is_that_of_whitened_codes():
    """As many features as rows and fewer; without a penalty, and without whitening to speak of, least squares."""
    rng = np.random.default_rng(1)
    for features in (3, 30):
        x = rng.normal(size=(20, features))
        targets = rng.normal(size=(20, 4)) @ rng.normal(size=(4, 4)) + 3
        weights, bias = ridge(x, targets, 5.0)
        mean = targets.mean(0)
        values, vectors = np.linalg.eigh(np.cov(targets.T, bias=True))
        half = vectors @ np.diag((values + 0.001) ** 0.5) @ vectors.T
        wide = np.c_[x, np.ones(20)]
        y = (targets - mean) @ np.linalg.inv(half)
        inner = np.linalg.inv(wide.T @ wide + 5.0 * np.eye(features + 1)) @ wide.T @ y @ half
        np.testing.assert_allclose(weights, inner[:-1], atol=1e-6)
        np.testing.assert_allclose(bias, inner[-1] + mean, atol=1e-6)


def test_regressors_learn_what_pool5_tells(tmp_path):
    images = files(tmp_path, np.random.default_rng(2))
    weights, bias = RegionSVMs(ridge=1e-6).regressor(images, 0, 2.0)
    np.testing.assert_allclose(weights[:4], 0.1 * np.eye(4), atol=1e-3)
    np.testing.assert_allclose(bias, 0, atol=1e-3)
    assert not np.any(RegionSVMs().regressor(images, 1, 1.0)[0])


def test_without_a_stage_before_it_is_refused():
    with pytest.raises(BadInput, match="after the one that fine-tuned"):
        RegionSVMs().load({})


@pytest.mark.slow
def test_the_pipeline_knows_four_scenes_by_heart(tmp_path):
    """Fine-tuned by softmax, then machines and regressors in place of fc8: AP50 of 0.8."""
    pytest.importorskip("sklearn.svm")
    from dataclasses import replace

    from jaxseg.data import Data, Source
    from jaxseg.data.sets.scenes import FACTS
    from jaxseg.data.transforms import SelectiveSearch
    from jaxseg.forward import forward
    from jaxseg.recipe import Stage
    from jaxseg.tasks.detection import Detection
    from jaxseg.tasks.regions import FAST_RCNN_REGION_LOSS
    from jaxseg.train.optim import SGD, AdamW, OneCycle
    from jaxseg.train.state import create, variables
    from jaxseg.train.step import make_train_step

    things, search = FACTS.things, SelectiveSearch(scales=(10, 30), min_width=6, most=150)
    source = Source("scenes", "train", (search,), (("size", 128), ("train", 4), ("val", 2)))
    keys = ("image", "index", "boxes", "classes", "valid", "proposals")
    data = Data(train=source, val=source, keys=keys, proposal_slots=150)
    task = Detection(len(things), things, region_loss=FAST_RCNN_REGION_LOSS)
    fields = {"num_classes": len(things), "widths": (16, 32, 32, 32, 32), "dense": 64}
    model, fitted = (rcnn_alexnet(scorer=name, **fields).clone(crop=67, context=5) for name in ("softmax", "svm"))
    (batch,) = data.eval_batches(batch_size=4, split="train", data_dir=tmp_path)
    batch = {key: jnp.asarray(value) for key, value in batch.items()}
    steps = 300
    tx = AdamW(OneCycle(2e-3, warmup=0.1), weight_decay=0.0, clip=5.0).build(steps)
    state = create(jax.random.key(0), model, task, tx, batch, ema=False)
    with jax.numpy_dtype_promotion("standard"):
        step = jax.jit(make_train_step(model, task, tx), donate_argnums=0)
        for _ in range(steps):
            state, told = step(state, batch)
    start = jax.jit(fitted.init)(jax.random.key(0), batch["image"])
    params = {**start["params"], **variables(state)["params"]}
    stage = replace(Stage(model, task, data, SGD(0.0), 1, 4), model=fitted)
    how = RegionSVMs(cost=1.0, ridge=10.0)
    found = how.fit({"params": params}, stage=stage, data_dir=tmp_path, folder=tmp_path / "features", log=print)
    figures = {}
    for name, network, weights in (("softmax", model, params), ("svm", fitted, {**params, **found["params"]})):
        seen = jax.jit(forward(network, task))({"params": weights}, batch)
        metric = task.metrics()["boxes"]
        figures[name] = metric.result(metric.fold(metric.init(), jax.device_get(metric.observe(seen, batch))))
    print({name: found["box_ap50"] for name, found in figures.items()}, told)
    assert figures["svm"]["box_ap50"] >= 0.8
