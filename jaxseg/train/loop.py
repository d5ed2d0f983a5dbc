"""``fit``: train a recipe in a work directory, from the start or resumed."""

from pathlib import Path
from typing import Any

from jaxseg.train.evaluate import evaluate
from jaxseg.train.log import Console
from jaxseg.train.placement import Placement, single
from jaxseg.train.stage import StageTrainer, open_stage
from jaxseg.train.workdir import claim, guarded

__all__ = ["evaluate", "fit"]


def fit(
    recipe: Any,
    workdir: str | Path,
    *,
    placement: Placement | None = None,
    data_dir: str | Path | None = None,
    log: Console | None = None,
) -> dict[str, float]:
    """Train a recipe's stages one after the other; the same call goes on with a run that was interrupted.

    The work directory holds ``recipe.json``, ``metrics.jsonl``, ``curves.png``, ``samples/`` (the same validation
    images at each evaluation), ``tensorboard/``, and for each stage ``stages/<number>-<name>/checkpoints`` (the last
    few) and ``.../best``. On a CPU an interrupted run ends with the very numbers of one that was not.

    Args:
      recipe: a :class:`jaxseg.recipe.Recipe`.
      workdir: created if need be.
      placement: where it runs; None stands for one device.
      data_dir: where prepared data sets are, None for the default.
      log: what is shown meanwhile; None shows a bar on a terminal and lines elsewhere, on stderr.

    Returns:
      The validation metrics at the end of the last stage.

    Raises:
      BadInput: the directory holds another recipe's run, the batch does not divide among the devices, a checkpoint is
        of another model, and what models and data refuse.
      FailedRun: the loss is not finite any more, or the disk is full; the last checkpoint stays.
    """
    placement = single() if placement is None else placement
    workdir, log = Path(workdir), Console() if log is None else log
    metrics: dict[str, float] = {}
    with guarded(workdir, log):
        claim(workdir, recipe)
        for index in range(len(recipe.stages)):
            with open_stage(recipe, index, workdir, placement, data_dir, log) as (run, state):
                if isinstance(run, StageTrainer):
                    _train(run, state)
                metrics = run.metrics
    return metrics


def _train(run: StageTrainer, state: Any) -> None:
    stage = run.stage
    while run.step < stage.steps:
        state = run.update(state, run.next_batch())
        if stage.precise_bn and run.due(stage.eval_every):
            state = run.precise_bn(state)
        if run.due(stage.log_every):
            run.log()
        if run.due(stage.save_every):
            run.save(state)
        if run.due(stage.eval_every):
            run.evaluate(state)
