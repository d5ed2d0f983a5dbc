"""``jaxseg train``: run a recipe's stages in a work directory, resuming what is already there."""

from pathlib import Path

import click

DEFAULT_RECIPE = "unet_scenes"


@click.command("train", short_help="Train a recipe.")
@click.argument("recipe", default=DEFAULT_RECIPE, metavar="[RECIPE.py]")
@click.option("--set", "changes", multiple=True, metavar="PATH=VALUE", help="Override a field; may be repeated.")
@click.option("--workdir", type=click.Path(path_type=Path), help="Where the run lives.  [default: runs/RECIPE]")
@click.option(
    "--placement",
    type=click.Choice(["single", "sharded", "replicated"]),
    default="single",
    show_default=True,
    help="One device, all devices by sharding, all devices by replication.",
)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where prepared data sets are.")
def command(recipe: str, changes: tuple[str, ...], workdir: Path | None, placement: str, data_dir: Path | None) -> None:
    """Train RECIPE.py, or a shipped recipe by name (default: unet_scenes).

    The same command resumes an interrupted run from its last checkpoint. Override fields by path:
    --set stages.0.steps=100 --set "stages.0.optimizer.learning_rate=Poly(0.1)"
    """
    from jaxseg import recipe as recipes

    value = recipes.load_file(recipes.find_file(recipe))
    for change in changes:
        value = recipes.override_text(value, change)
    folder = Path("runs") / value.name if workdir is None else workdir

    from jaxseg.cli.runtime import prepare_runtime
    from jaxseg.train.placement import by_name, join_cluster

    join_cluster()
    prepare_runtime()
    import jax

    from jaxseg.cli import report
    from jaxseg.cli.measure import report_training
    from jaxseg.tasks.protocol import task_figures
    from jaxseg.train.loop import fit

    report.say(f"recipe {value.name}: {recipes.find_file(recipe)}")
    report.say(f"work directory: {folder}")
    metrics = fit(value, folder, placement=by_name(placement), data_dir=data_dir)
    facts = value.stages[-1].data.facts(data_dir)
    figures = task_figures(value.stages[-1].task)
    report.metrics_table(metrics, figures, classes=facts.classes, title=f"{facts.name}, validation")
    report.say(f"samples: {folder / 'samples'}")
    report.say(f"curves: {folder / 'curves.png'}")
    if jax.process_count() == 1:
        left = report_training(folder, value, data_dir)
        if left is not None:
            report.say(f"report: {left}")
