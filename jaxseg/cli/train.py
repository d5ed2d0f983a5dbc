"""``jaxseg train``: run a recipe's stages in a work directory, resuming what is already there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from jaxseg.cli.new import command_line, takes_decisions, written

DEFAULT_RECIPE = "unet_scenes"

OF_NEW_RECIPES = ("model", "layer_decay", "steps", "batch_size", "crop", "group", "given")
"""Decisions that a recipe file has made; the others may be given with one."""


@click.command("train", short_help="Train a recipe, or on a folder of images.")
@click.argument("recipe", required=False, metavar="[RECIPE.py]")
@click.option("--data", metavar="PATH", help="Folder of images, or data set: a recipe is written for it and --model.")
@takes_decisions
@click.option("--set", "changes", multiple=True, metavar="PATH=VALUE", help="Override a field; may be repeated.")
@click.option("--workdir", type=click.Path(path_type=Path), help="Where the run lives.  [default: runs/RECIPE]")
@click.option(
    "--fork",
    "origin",
    type=click.Path(path_type=Path),
    metavar="OLD",
    help="Go on from the last checkpoint of another work directory, under this recipe.",
)
@click.option(
    "--placement",
    type=click.Choice(["single", "sharded", "replicated"]),
    default="single",
    show_default=True,
    help="One device, all devices by sharding, all devices by replication.",
)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where prepared data sets are.")
def command(
    recipe: str | None,
    data: str | None,
    changes: tuple[str, ...],
    workdir: Path | None,
    origin: Path | None,
    placement: str,
    data_dir: Path | None,
    **decisions: Any,
) -> None:
    """Train RECIPE.py, a shipped recipe by name (default: unet_scenes), or --model on the images of --data.

    The same command resumes an interrupted run from its last checkpoint. Override fields by path:
    --set stages.0.steps=100 --set "stages.0.optimizer.learning_rate=Poly(0.1)"
    """
    from jaxseg.errors import BadInput

    if data is not None and recipe is not None:
        raise BadInput(f"{recipe} has data of its own: give a recipe or --data, not both")
    from jaxseg import recipe as recipes
    from jaxseg.train.placement import by_name, join_cluster

    if data is None:
        value, place = _given(recipe or DEFAULT_RECIPE, decisions)
    else:
        value, place = _written(data, data_dir, workdir, decisions)
    for change in changes:
        value = recipes.override_text(value, change)
    folder = Path("runs") / value.name if workdir is None else workdir

    from jaxseg.cli.runtime import prepare_runtime

    join_cluster()
    prepare_runtime()
    import jax

    from jaxseg.cli import report
    from jaxseg.cli.measure import report_training
    from jaxseg.tasks.protocol import task_figures
    from jaxseg.train.fork import fork
    from jaxseg.train.log import Console
    from jaxseg.train.loop import fit

    report.say(f"recipe {value.name}: {place}")
    report.say(f"work directory: {folder}")
    if origin is not None:
        fork(origin, folder, value, Console())
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


def _given(name: str, decisions: Mapping[str, Any]) -> tuple[Any, Path]:
    """Return a recipe by its file or name, with what flags change in it, and its file."""
    from jaxseg import recipe as recipes
    from jaxseg.errors import BadInput

    wrong = [option for option in OF_NEW_RECIPES if decisions[option]]
    if wrong:
        flag = "option" if wrong[0] == "given" else wrong[0].replace("_", "-")
        raise BadInput(f"--{flag} is for --data: a recipe has decided it; --set changes its fields")
    path = recipes.find_file(name)
    value = recipes.load_file(path)
    flags = {key: decisions[key] for key in ("precision", "freeze", "patience")}
    if any(flags.values()) or decisions["weights"]:
        from jaxseg.configure.adjust import adjust

        value = adjust(value, weights=decisions["weights"] or "", **flags)
    return value, path


def _written(data: str, data_dir: Path | None, workdir: Path | None, decisions: Mapping[str, Any]) -> tuple[Any, Path]:
    """Return the recipe that is written for a folder, and its file in the work directory.

    The recipe of an earlier start of the same command is taken as it is, with what was changed in it since.

    Raises:
      BadInput: another command wrote the recipe in the work directory.
    """
    from jaxseg import recipe as recipes
    from jaxseg.configure.make import dataset_of, name_of
    from jaxseg.errors import BadInput

    if not decisions["model"]:
        raise BadInput("--model is missing: name a network, such as unet_resnet34 (jaxseg list)")
    folder = Path("runs") / name_of(dataset_of(data), decisions["model"]) if workdir is None else workdir
    path = folder / "recipe.py"
    if not path.exists():
        text = written(data, data_dir, "train", decisions)
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    elif _words(f"Written by: {command_line(data, 'train', decisions)}") not in _words(path.read_text("utf-8")):
        raise BadInput(
            f"{path} was written by another command: choose another --workdir, or train the file itself, "
            f"jaxseg train {path} --workdir {folder}"
        )
    return recipes.load_file(path), path


def _words(text: str) -> str:
    """Return a text on one line, so that it does not matter where it is wrapped."""
    return f"{' '.join(text.split())} "
