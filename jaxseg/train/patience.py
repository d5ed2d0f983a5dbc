"""Early stopping: end a stage once its best figure has not improved for a number of evaluations."""

from collections.abc import Iterable, Mapping
from typing import Any

from jaxseg.types import Figure


def best_and_waited(
    rows: Iterable[Mapping[str, Any]], stage: str, name: str, figure: Figure
) -> tuple[int, float, int] | None:
    """Return the step and value of a stage's best evaluation and how many have followed it; None before the first.

    >>> rows = [{"kind": "eval", "stage": "0-main", "step": s, "miou": v} for s, v in ((10, 0.5), (20, 0.6), (30, 0.6))]
    >>> best_and_waited(rows, "0-main", "miou", Figure("miou", "mean IoU"))
    (20, 0.6, 1)

    Args:
      rows: of metrics.jsonl, in order.
      stage: its folder.
      name: the figure that counts.
      figure: says whether more or less is better.
    """
    best: tuple[int, float] | None = None
    waited = 0
    for row in rows:
        if row["kind"] != "eval" or row["stage"] != stage:
            continue
        waited += 1
        if name in row and (best is None or figure.is_better(row[name], best[1])):
            best, waited = (row["step"], row[name]), 0
    return None if best is None else (*best, waited)
