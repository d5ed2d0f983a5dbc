"""From what was measured to the page: figures, plots and pictures of a network on a split."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxseg import viz
from jaxseg.metrics import Calibration, Confusion
from jaxseg.report import plots
from jaxseg.report.evidence import Evidence
from jaxseg.report.page import Page, Plot, class_rows
from jaxseg.report.pictures import EACH, address, choose, draw
from jaxseg.tasks.protocol import task_figures
from jaxseg.types import Figure


def write_report(
    path: Path,
    *,
    title: str,
    conditions: Mapping[str, str],
    predict: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    task: Any,
    data: Any,
    facts: Any,
    split: str,
    metrics: Mapping[str, float],
    evidence: Evidence,
    data_dir: Any = None,
    log: Path | None = None,
) -> None:
    """Write the report of an evaluation, one HTML file without links to others.

    Args:
      path: of the file.
      title: of the page.
      conditions: what was measured and how, by name.
      predict: from a batch of one row to its predictions, for the pictures.
      task: as it was evaluated, without :func:`jaxseg.report.evidence.watch`.
      data: whose split was evaluated.
      facts: of its data set.
      split: what was evaluated.
      metrics: the figures.
      evidence: what :func:`jaxseg.report.evidence.watch` left.
      data_dir: where prepared data lie.
      log: the training's ``metrics.jsonl``, for its curves.

    >>> import tempfile
    >>> from jaxseg.data import Facts
    >>> from jaxseg.report import watch
    >>> from jaxseg.tasks.semantic import Semantic
    >>> class Data:
    ...     def eval_examples(self, numbers, **options):
    ...         return [{"image": np.zeros((1, 8, 8, 3), np.uint8), "label": np.zeros((1, 8, 8), int)} for _ in numbers]
    >>> facts, predict = Facts("toy", "", ("a", "b"), (), {}), lambda batch: {"label": batch["label"]}
    >>> evidence = watch(Semantic(2))[1]
    >>> evidence.scores[0] = 0.5
    >>> path = Path(tempfile.mkdtemp(), "report.html")
    >>> given = {"predict": predict, "task": Semantic(2), "data": Data(), "facts": facts}
    >>> write_report(
    ...     path, title="unet", conditions={}, **given, split="val", metrics={"miou": 0.5}, evidence=evidence
    ... )
    >>> "<h2>The worst images</h2>" in path.read_text()
    True
    """
    figures = task_figures(task)
    groups = choose(evidence.scores, evidence.ranked_by) or {"image": tuple(_spread(data, split, data_dir))}
    pictures = draw(
        groups,
        lambda numbers: data.eval_examples(numbers, split=split, data_dir=data_dir),
        predict,
        facts,
        evidence.scores,
    )
    added = _added(evidence)
    page = Page(
        title,
        conditions,
        {**metrics, **{figure.name: value for figure, value in added}},
        {**figures, **{figure.name: figure for figure, _ in added}},
        (*_of_classes(metrics, figures, facts), *_of_labels(evidence), *_of_training(log)),
        pictures,
        evidence.ranked_by,
    )
    page.write(path)


def _spread(data: Any, split: str, data_dir: Any) -> list[int]:
    """Return the numbers of a few images spread over a split whose images nothing ranks."""
    few = data.eval_batches(batch_size=1, split=split, data_dir=data_dir, limit=EACH)
    return [int(batch["index"][0]) for batch in few]


def _added(evidence: Evidence) -> list[tuple[Figure, float]]:
    """Return the figures of metrics that the task itself has not."""
    found = []
    for name in sorted(evidence.added & set(evidence.states)):
        metric = evidence.metrics[name]
        values = metric.result(evidence.states[name])
        found += [(figure, values[figure.name]) for figure in metric.figures() if figure.name in values]
    return found


def _of_classes(metrics: Mapping[str, float], figures: Mapping[str, Figure], facts: Any) -> Iterator[Plot]:
    for figure, values in class_rows(metrics, figures, (*facts.classes, *facts.things)).values():
        source = address(plots.bars(values, figure), SVG)
        yield Plot(f"{figure.title} of each class", figure.definition, source)


def _of_labels(evidence: Evidence) -> Iterator[Plot]:
    for task, (metric, matrix) in evidence.of_kind(Confusion).items():
        classes = metric.classes or tuple(str(number) for number in range(metric.num_classes))
        text = "Each row is a true class; its cells are the shares of its pixels in the split by predicted class."
        yield Plot(_title(task, "Confusion matrix"), text, address(plots.confusion(matrix, classes), SVG))
    for task, (metric, state) in evidence.of_kind(Calibration).items():
        result = metric.result(state)
        if result:
            text = "Accuracy of the pixels of each bin of confidence. Bars below the dashed line: surer than right."
            source = address(plots.reliability(metric.bins(state), result["ece"]), SVG)
            yield Plot(_title(task, "Calibration"), text, source)


def _of_training(log: Path | None) -> Iterator[Plot]:
    if log is None or not log.is_file():
        return
    with tempfile.TemporaryDirectory() as folder:
        viz.curves(log, Path(folder) / "curves.png")
        drawn = (Path(folder) / "curves.png").read_bytes()
    yield Plot("Training", "Loss and learning rate, and the figures of each evaluation.", address(drawn, "image/png"))


def _title(task: str, title: str) -> str:
    return f"{title}: {task}" if task else title


SVG = "image/svg+xml"
