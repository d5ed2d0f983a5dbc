"""``fit``: train a recipe in a work directory, from the start or resumed."""

from pathlib import Path
from typing import Any

from jaxseg.train.evaluate import evaluate
from jaxseg.train.log import Console
from jaxseg.train.placement import Placement, single
from jaxseg.train.stage import StageTrainer, open_stage
from jaxseg.train.workdir import claim, guarded, rooted

__all__ = ["evaluate", "fit"]


def fit(
    recipe: Any,
    workdir: str | Path,
    *,
    placement: Placement | None = None,
    data_dir: str | Path | None = None,
    log: Console | None = None,
) -> dict[str, float]:
    """Train the stages of a recipe in order; the same call resumes an interrupted run.

    The work directory holds ``recipe.json``, ``metrics.jsonl``, ``curves.png``, ``samples/`` (predictions for the same
    validation images at each evaluation), ``tensorboard/``, and for each stage ``stages/<number>-<name>/checkpoints``
    (the last few) and ``.../best``. On a CPU, a resumed run gives bit for bit the result of an uninterrupted one.

    A finished run is not trained again:

    >>> import contextlib, tempfile
    >>> from jaxseg.recipe import find_file, load_file
    >>> from jaxseg.train.checkpoint import Checkpoints
    >>> from jaxseg.train.log import MetricsFile
    >>> recipe, workdir = load_file(find_file("unet_scenes")), Path(tempfile.mkdtemp())
    >>> steps = recipe.stages[0].steps
    >>> with contextlib.closing(Checkpoints(workdir / "stages" / "0-main" / "checkpoints", keep=1)) as checkpoints:
    ...     checkpoints.save(steps, {"step": np.int32(steps)}, notes={})
    >>> with contextlib.closing(MetricsFile(workdir, {"0-main": 0}, at=("0-main", steps))) as rows:
    ...     rows.write("eval", "0-main", steps, {"miou": 0.5}, split="val")
    >>> fit(recipe, workdir, log=Console(quiet=True))
    {'miou': 0.5}

    Args:
      recipe: a :class:`jaxseg.recipe.Recipe`.
      workdir: created if it does not exist.
      placement: devices to use; None for one device.
      data_dir: folder of prepared data sets, None for the default.
      log: progress output; None shows a bar on a terminal and lines elsewhere, on stderr.

    Returns:
      The validation metrics at the end of the last stage.

    Raises:
      BadInput: the directory holds the run of another recipe, the batch does not divide among the devices, a checkpoint
        is of another model, or model or data refuse the recipe.
      FailedRun: the loss is not finite, or the disk is full; the last checkpoint is kept.
    """
    placement = single() if placement is None else placement
    workdir, log = Path(workdir), Console() if log is None else log
    metrics: dict[str, float] = {}
    with guarded(workdir, log):
        recipe = rooted(recipe)
        claim(workdir, recipe)
        for index in range(len(recipe.stages)):
            with open_stage(recipe, index, workdir, placement, data_dir, log) as (run, state):
                if isinstance(run, StageTrainer):
                    _train(run, state)
                metrics = run.metrics
    return metrics


def _train(run: StageTrainer, state: Any) -> None:
    stage = run.stage
    while run.step < stage.steps and not run.stopped:
        state = run.update(state, run.next_batch())
        if stage.precise_bn and run.due(stage.eval_every):
            state = run.precise_bn(state)
        if run.due(stage.log_every):
            run.log()
        if run.due(stage.save_every):
            run.save(state)
        if run.due(stage.eval_every):
            run.evaluate(state)
    if run.stopped and not run.due(stage.save_every):
        run.save(state)  # the same call finds the stage finished
