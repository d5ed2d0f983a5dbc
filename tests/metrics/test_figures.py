"""Every figure that a metric gives is described by it: title, unit, and which way is better."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg import metrics
from jaxseg.errors import BadInput
from jaxseg.metrics import Rand, Warping
from jaxseg.tasks.multitask import MultiTask
from jaxseg.tasks.protocol import Metric, task_figures
from jaxseg.tasks.semantic import Semantic
from jaxseg.types import figure_of

KINDS = [value for name, value in vars(metrics).items() if name in metrics.__all__ and isinstance(value, type)]


NEEDED = {"num_classes": 2, "classes": ("cat", "dog"), "things": ("dog",), "joints": ("nose", "tail")}


def made(kind):
    return kind(**{f.name: NEEDED[f.name] for f in dataclasses.fields(kind) if f.name in NEEDED})


def objects(rng):
    """Three objects of two classes in each of two images, and detections beside them."""
    boxes = np.asarray([[[1, 1, 6, 6], [6, 6, 11, 11], [1, 6, 5, 11]]] * 2, np.float32)
    ids = np.zeros((2, 12, 12), np.uint16)
    for n, (x0, y0, x1, y1) in enumerate(boxes[0].astype(int), 1):
        ids[:, y0:y1, x0:x1] = n
    points = np.repeat(boxes[:, :, None, :2], 2, axis=2)
    batch = {
        "boxes": boxes,
        "classes": np.asarray([[0, 1, 1]] * 2, np.int32),
        "valid": np.ones((2, 3), bool),
        "instance_ids": ids,
        "keypoints": np.concatenate([points, np.full((2, 3, 2, 1), 2.0)], -1).astype(np.float32),
    }
    found = {key: batch[key] for key in ("boxes", "classes", "valid", "keypoints")}
    masks = np.ones((2, 3, 7, 7), np.float32)
    return batch, {**found, "scores": rng.random((2, 3)).astype(np.float32), "masks": masks}


@pytest.mark.parametrize("kind", KINDS)
def test_every_result_is_described(kind):
    metric = made(kind)
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, (2, 12, 12)).astype(np.int32)
    probability = rng.dirichlet([1.0, 1.0], (2, 12, 12)).astype(np.float32)
    batch, found = objects(rng)
    predictions = {"label": probability.argmax(-1).astype(np.int32), "probability": probability, **found}
    batch["boundary"] = batch["saliency"] = label > 0
    predictions["boundary"] = predictions["saliency"] = probability[..., 1]
    batch["depth"] = predictions["depth"] = 1 + probability[..., 0]
    batch["image"] = rng.integers(0, 256, (2, 12, 12, 3)).astype(np.uint8)
    predictions["ab"] = rng.normal(size=(2, 12, 12, 2)).astype(np.float32)
    predictions["inverse_depth"] = 1 / predictions["depth"]
    batch["normal"] = predictions["normal"] = np.stack([probability[..., 0] * 0, label * 0.0, label * 0.0 - 1], -1)
    batch["panoptic"] = predictions["panoptic"] = np.stack([label, label], -1)
    seen = jax.jit(metric.observe)(
        jax.tree.map(jnp.asarray, predictions), jax.tree.map(jnp.asarray, {"label": label, **batch})
    )
    result = metric.result(metric.fold(metric.init(), seen))
    known = {figure.name: figure for figure in metric.figures()}
    assert isinstance(metric, Metric)
    assert result
    for name in result:
        assert figure_of(known, name).name in known
    assert all(figure.title for figure in known.values())


def test_errors_are_better_when_they_are_lower():
    known = task_figures(Semantic(2, extra_metrics=(Rand(), Warping())))
    lower = [name for name, figure in known.items() if not figure.higher_is_better]
    assert lower == ["rand_error", "warping_error", "pixel_error"]
    assert next(iter(known)) == "miou"


def test_tasks_side_by_side_describe_their_own_figures():
    known = task_figures(MultiTask({"a": Semantic(2), "b": Semantic(3)}))
    assert known["b/miou"].title == "b: mean IoU, void ignored"
    assert figure_of(known, "b/iou/2").name == "b/iou"


def test_two_figures_of_one_name_are_refused():
    @dataclasses.dataclass(frozen=True)
    class Twice:
        def metrics(self):
            return {"one": Rand(), "two": Rand(cell=0)}

    with pytest.raises(BadInput, match="'rand_error'"):
        task_figures(Twice())
