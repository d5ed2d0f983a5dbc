"""Every figure that a metric gives is described by it: title, unit, and which way is better."""

import dataclasses

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


def made(kind):
    needs_classes = any(f.name == "num_classes" for f in dataclasses.fields(kind))
    return kind(num_classes=2) if needs_classes else kind()


@pytest.mark.parametrize("kind", KINDS)
def test_every_result_is_described(kind):
    metric = made(kind)
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, (1, 12, 12)).astype(np.int32)
    probability = rng.dirichlet([1.0, 1.0], (1, 12, 12)).astype(np.float32)
    predictions = {"label": jnp.asarray(probability.argmax(-1), jnp.int32), "probability": jnp.asarray(probability)}
    seen = metric.observe(predictions, {"label": jnp.asarray(label)})
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
