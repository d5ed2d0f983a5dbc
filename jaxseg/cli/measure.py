"""Evaluate a split and leave a page about it: what ``jaxseg evaluate`` and the end of ``jaxseg train`` share."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jaxseg.errors import BadInput

if TYPE_CHECKING:
    from jaxseg.inference.load import TrainedModel
    from jaxseg.report import Evidence


def indexed(data: Any) -> Any:
    """Return the data with the key ``index``, by which a report finds its images again.

    >>> from jaxseg.data import Data, Source
    >>> indexed(Data(train=Source("scenes", "train"), val=Source("scenes", "val"))).keys
    ('image', 'label', 'index')
    """
    return data if "index" in data.keys else dataclasses.replace(data, keys=(*data.keys, "index"))


def predictor(model: Any, variables: Any, task: Any) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    """Return the compiled function from a batch to its predictions, on the host.

    Args:
      model: the network.
      variables: its variables.
      task: gives inputs and predictions.
    """
    import jax

    from jaxseg.forward import forward

    run, placed = jax.jit(forward(model, task)), jax.device_put(variables)
    return lambda batch: jax.device_get(run(placed, batch))


def tiled_predictor(run: "TrainedModel", tile: int) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    """Return the function from a batch of one row to what is predicted of it tile by tile.

    Args:
      run: what was evaluated.
      tile: largest side of a tile.
    """
    from jaxseg.inference.predict import assembled
    from jaxseg.inference.predictor import base

    cut = assembled(base(run), dataclasses.replace(run, geometry=()), tile=tile)
    return lambda batch: cut({"image": batch["image"]})


def report_path(run: "TrainedModel", split: str, named: Path | None) -> Path | None:
    """Return where the report goes: as it was named, or into the work directory; None where there is none.

    >>> report_path(None, "val", Path("page.html")).name
    'page.html'
    """
    if named is not None:
        return named
    parents = run.checkpoint.absolute().parents
    if len(parents) < 4 or not (parents[3] / "recipe.json").is_file():
        return None
    word = "".join(letter if letter.isalnum() else "-" for letter in split)
    return parents[3] / ("report.html" if split == "val" else f"report-{word}.html")


def report_training(workdir: Path, recipe: Any, data_dir: Path | None) -> Path | None:
    """Evaluate what a finished training left, the best checkpoint where one was kept; return the page about it.

    The training is done whether or not there is a page: whatever goes wrong here is said in one line.

    Args:
      workdir: of the training.
      recipe: that was trained.
      data_dir: where prepared data lie.
    """
    try:
        return _report_training(workdir, recipe, data_dir)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        click.echo(f"no report: {type(error).__name__}: {reason}; jaxseg evaluate {workdir} tries again", err=True)
        return None


def _report_training(workdir: Path, recipe: Any, data_dir: Path | None) -> Path | None:
    from jaxseg.inference.load import load
    from jaxseg.report import watch
    from jaxseg.train.evaluate import evaluate
    from jaxseg.train.log import Console

    run = load(workdir, recipe=recipe)
    stage = recipe.stages[run.stage]
    task, evidence = watch(run.task, rank_by=stage.keep_best)
    rows = stage.eval_batch_size or stage.batch_size
    batches, bar = indexed(run.data).eval_batches(batch_size=rows, split="val", data_dir=data_dir), Console()
    bar.begin("report", len(batches))
    try:
        metrics = evaluate(run.model, run.variables, task, batches, on_batch=bar.move)
    finally:
        bar.close()
    return leave_page(run, run.task, "val", metrics, evidence, data_dir=data_dir)


def leave_page(
    run: "TrainedModel",
    task: Any,
    split: str,
    metrics: Mapping[str, float],
    evidence: "Evidence",
    *,
    path: Path | None = None,
    predict: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
    how: Mapping[str, str] | None = None,
    data_dir: Path | None = None,
) -> Path | None:
    """Write the report of an evaluation; return its path, None where there is no place for it.

    Args:
      run: what was evaluated.
      task: as it was evaluated.
      split: what it was evaluated on.
      metrics: the figures.
      evidence: what :func:`jaxseg.report.evidence.watch` left.
      path: as the user named it; the default is in the work directory.
      predict: from a batch to predictions, where the run was evaluated in another way than its own.
      how: what else was done, by name.
      data_dir: where prepared data lie.

    Raises:
      BadInput: the named file cannot be written.
    """
    from jaxseg import __version__
    from jaxseg.report import write_report

    target = report_path(run, split, path)
    if target is None:
        return None
    averaged = ", moving averages" if run.averaged else ""
    conditions = {
        "data set": f"{run.facts.name}, {split}",
        "network": type(run.model).__name__,
        "recipe": run.name,
        "checkpoint": f"{run.checkpoint} (step {run.step:,}{averaged})",
        **(how or {}),
        "jaxseg": __version__,
    }
    log = report_path(run, "val", None)
    try:
        write_report(
            target,
            title=f"{run.name} on {run.facts.name}, {split}",
            conditions=conditions,
            predict=predictor(run.model, run.variables, task) if predict is None else predict,
            task=task,
            data=indexed(run.data),
            facts=run.facts,
            split=split,
            metrics=metrics,
            evidence=evidence,
            data_dir=data_dir,
            log=None if log is None else log.with_name("metrics.jsonl"),
        )
    except Exception as error:
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        if path is None:  # nobody asked for it
            click.echo(f"no report: {target} cannot be written ({reason}); --report FILE.html names another", err=True)
            return None
        if isinstance(error, OSError):
            raise BadInput(f"{path} cannot be written ({reason}); --report takes the name of a file") from error
        raise
    return target
