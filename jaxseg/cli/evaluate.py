"""``jaxseg evaluate``: evaluate a checkpoint on a split with the metrics of its task."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

DRAWN = 8
"""Images on a sheet of ``--draw``, spread over the split."""


@click.command("evaluate", short_help="Measure a trained model on a split.")
@click.argument("target", metavar="WORKDIR|RECIPE.py")
@click.option("--split", default="val", show_default=True, help="train, val, test or any split of the data set.")
@click.option("--weights", help="What to measure: a run, a model, a file, hf:ORG/REPO, torchvision:TAG, ...")
@click.option("--last", is_flag=True, help="The latest checkpoint, not the best.")
@click.option("--crf", is_flag=True, help="Refine each prediction by a fully connected CRF.")
@click.option("--tta", metavar="VIEWS", help="Mean over views: flip, turns, scales; as in flip,0.75,1.25,1.5.")
@click.option("--tile", type=click.IntRange(32), help="Cut images into tiles, as predict does; objects are stitched.")
@click.option("--precise-bn", is_flag=True, help="First estimate BatchNorm's statistics anew on the training images.")
@click.option("--batch-size", type=click.IntRange(1), help="Images at a time; the figures do not depend on it.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where prepared data sets are.")
@click.option("--draw", type=click.Path(path_type=Path), help="Folder for sheets of images, truth and predictions.")
@click.option("--save-predictions", "saving", type=click.Path(path_type=Path), help="Folder for the predictions.")
@click.option("--report", "page", type=click.Path(path_type=Path), help="HTML file.  [default: WORKDIR/report.html]")
@click.option("--recipe", "code", help="Recipe file to run first: tasks, losses and transforms of one's own are there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    target: str,
    split: str,
    weights: str | None,
    last: bool,
    crf: bool,
    tta: str | None,
    tile: int | None,
    precise_bn: bool,
    batch_size: int | None,
    data_dir: Path | None,
    draw: Path | None,
    saving: Path | None,
    page: Path | None,
    code: str | None,
    as_json: bool,
) -> None:
    """Evaluate WORKDIR's best checkpoint and print the figures per class and overall.

    RECIPE.py selects its default work directory, or the model for --weights.

    With --precise-bn the running averages of batch normalisation are replaced by plain averages over one pass of the
    training images at the stage's batch size; the checkpoint is not changed.

    With --save-predictions, objects are written as boxes.json, masks.json and keypoints.json in COCO's format of
    results, panoptic maps as panoptic.json with PNGs, and label maps as PNGs: each in the pixels of its image as it was
    read, under COCO's image id or else the number in the split.

    A page with the figures, the confusion matrix, the calibration and the best and the worst images is left as
    report.html in the work directory, report-SPLIT.html for other splits than val, or as what --report names.
    """
    from jaxseg import recipe as recipes
    from jaxseg import recipe_files
    from jaxseg.errors import BadInput
    from jaxseg.inference.load import load

    if tile is not None and crf:
        raise BadInput("--crf refines whole images and --tile cuts them: give one of them")

    if code is not None:
        recipes.load_file(recipes.find_file(code))
    recipe = None
    if recipe_files.is_recipe(target):
        recipe = recipes.load_file(recipes.find_file(target))
        weights = str(Path("runs") / recipe.name) if weights is None else weights
    elif weights is not None:
        recipe = recipes.load_file(Path(target) / "recipe.json")

    from jaxseg.cli import report
    from jaxseg.cli.measure import indexed, leave_page, predictor, tiled_predictor
    from jaxseg.cli.runtime import prepare_runtime
    from jaxseg.cli.saved import Saving, saved_predictions
    from jaxseg.forward import forward
    from jaxseg.inference.tiled_evaluation import evaluate_tiled
    from jaxseg.inference.tta import TestTimeAugmented, parse_tta
    from jaxseg.ops.crf import DenseCRF
    from jaxseg.report import watch
    from jaxseg.tasks.protocol import task_figures
    from jaxseg.tasks.refined import Refined
    from jaxseg.train.evaluate import evaluate
    from jaxseg.train.log import Console
    from jaxseg.train.precise_bn import precise_bn as anew

    views = () if tta is None else parse_tta(tta)
    prepare_runtime()
    run = load(target if weights is None else weights, best=not last, recipe=recipe)
    data = indexed(run.data)
    assert run.recipe is not None
    stage = run.recipe.stages[run.stage]
    rows = batch_size or stage.eval_batch_size or stage.batch_size
    task = Refined(run.task, DenseCRF()) if crf else run.task
    seeing, evidence = watch(task, rank_by=stage.keep_best)
    saved = None
    if saving is not None:
        data, saved = saved_predictions(data, run.facts, task, saving, split, data_dir)
        seeing = Saving(seeing, saved)
    batches = data.eval_batches(batch_size=rows, split=split, data_dir=data_dir)
    variables, bar = run.variables, Console()
    try:
        if precise_bn:
            seen = data.eval_batches(batch_size=stage.batch_size // stage.accumulate, split="train", data_dir=data_dir)
            bar.begin("statistics", len(seen))
            variables = anew(run.model, variables, run.task, seen, on_batch=bar.move)
            bar.end()
        bar.begin(f"evaluate {split}", len(batches))
        model = TestTimeAugmented(run.model, views) if views else run.model
        if tile is None:
            metrics = evaluate(model, variables, seeing, batches, on_batch=bar.move)
        else:
            tiled = replace(run, model=model, variables=variables, task=seeing)
            metrics = evaluate_tiled(tiled, batches, tile=tile, on_batch=bar.move)
    finally:
        bar.close()
    if saved is not None:
        saved.files.close()
        if saved.files.left_out:
            click.echo(f"{', '.join(saved.files.left_out)} not saved: there is no file for them", err=True)
    if draw is not None:
        few = next(iter(data.eval_batches(batch_size=DRAWN, split=split, data_dir=data_dir, limit=DRAWN)))
        unpainted = write_sheets(forward(model, task), variables, few, run.facts, draw, split)
        if unpainted:
            click.echo(f"no painter draws {', '.join(unpainted)} (jaxseg.viz.painter)", err=True)
    if as_json:
        report.say_json(
            {
                "data_set": run.facts.name,
                "split": split,
                "recipe": run.name,
                "checkpoint": str(run.checkpoint),
                "step": run.step,
                "averaged": run.averaged,
                "crf": crf,
                "tta": bool(views),
                "views": tta,
                "tile": tile,
                "precise_bn": precise_bn,
                "metrics": metrics,
            }
        )
    else:
        views_too = f", mean of {len(views)} views" * bool(views) + ", after a CRF" * crf
        views_too += f", tiles of {tile}" * bool(tile)
        report.metrics_table(
            metrics, task_figures(task), classes=run.facts.classes, title=f"{run.facts.name}, {split}{views_too}"
        )
        averaged = ", moving averages" if run.averaged else ""
        anew_too = ", statistics of BatchNorm estimated anew" if precise_bn else ""
        report.say(f"checkpoint: {run.checkpoint} (step {run.step}{averaged}{anew_too})")
    how = {
        "views": tta or "",
        "tiles": f"{tile} pixels" * bool(tile),
        "CRF": "fully connected" * crf,
        "BatchNorm": "statistics estimated anew" * precise_bn,
    }
    seen = replace(run, model=model, variables=variables, task=task)
    left = leave_page(
        run,
        task,
        split,
        metrics,
        evidence,
        path=page,
        predict=predictor(model, variables, task) if tile is None else tiled_predictor(seen, tile),
        how={name: value for name, value in how.items() if value},
        data_dir=data_dir,
    )
    if left is not None and not as_json:
        report.say(f"report: {left}")


def write_sheets(
    forward: Callable[[Any, Mapping[str, Any]], Any],
    variables: Any,
    batch: Mapping[str, Any],
    facts: Any,
    folder: Path,
    split: str,
) -> tuple[str, ...]:
    """Write ``SPLIT_NAME.png`` for each kind of prediction; return the predicted keys that no painter draws."""
    import jax

    from jaxseg import viz

    found = jax.device_get(jax.jit(forward)(variables, batch))
    viz.write(viz.compare(batch, found, facts), folder, "".join(c if c.isalnum() else "-" for c in split))
    return viz.unpainted(found)
