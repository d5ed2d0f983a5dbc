"""Evaluation: what a metric's faults lead to; its figures are tested with the runs and the processes."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxseg.tasks.semantic import Semantic
from jaxseg.train import evaluate as evaluation
from jaxseg.train.loop import evaluate
from tests.train.toys import CLASSES, FoldedRows, Net, Toy


@dataclasses.dataclass(frozen=True)
class Broken(FoldedRows):
    def fold(self, state, observation):
        raise RuntimeError("out of numbers")


@dataclasses.dataclass(frozen=True)
class Undescribed(FoldedRows):
    def figures(self):
        return ()


@pytest.fixture(scope="module")
def variables():
    return jax.jit(Net().init)(jax.random.key(0), np.zeros((1, 8, 8, 3), np.uint8))


def judged(variables, metric, **options):
    task = Semantic(CLASSES, extra_metrics=(metric,))
    return evaluate(Net(), variables, task, Toy().eval_batches(batch_size=3), **options)


def test_rows_that_only_fill_up_are_not_counted(variables):
    assert judged(variables, FoldedRows())["rows"] == 7


def test_a_figure_that_nobody_describes_is_refused(variables):
    with pytest.raises(ValueError, match="no metric describes rows: add a Figure"):
        judged(variables, Undescribed())


def test_a_metric_that_fails_ends_the_evaluation_with_its_own_error(variables):
    with pytest.raises(RuntimeError, match="out of numbers"):
        judged(variables, Broken())


def test_of_several_processes_none_is_left_waiting_when_a_metric_fails(variables, monkeypatch):
    """Process 0 goes on to the last batch, as the others do, and all of them hear of it."""
    told, seen = [], []
    monkeypatch.setattr(evaluation.jax, "process_count", lambda: 2)
    monkeypatch.setattr(evaluation, "from_all_processes", lambda form: told.append(form) or [form, None])
    monkeypatch.setattr("jaxseg.train.placement.Single.__post_init__", lambda self: None)
    with pytest.raises(RuntimeError, match="out of numbers"):
        judged(variables, Broken(), on_batch=seen.append)
    assert seen == [1, 2, 3]
    assert told == [{"failed": "RuntimeError: out of numbers"}]
