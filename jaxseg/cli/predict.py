"""``jaxseg predict``: whatever a model predicts of images, drawn and described."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jaxseg.errors import BadInput
from jaxseg.files import atomic

if TYPE_CHECKING:
    import numpy as np

    from jaxseg.inference.load import TrainedModel


@click.command("predict", short_help="Predict images.")
@click.argument("model", metavar="WORKDIR|CHECKPOINT")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where the results go.")
@click.option("--tile", type=click.IntRange(32), default=1024, show_default=True, help="Larger images are cut up.")
@click.option("--crf", is_flag=True, help="Refine by a fully connected CRF (slow on large images).")
@click.option("--tta", is_flag=True, help="Mean of each image in its eight positions (turned, mirrored).")
@click.option("--last", is_flag=True, help="The latest checkpoint, not the best.")
@click.option("--samples", type=click.IntRange(2), help="Passes with dropout, of a Bayesian network; 6 or more.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the samples.")
@click.option("--recipe", help="Recipe file to run first: tasks, models and painters of one's own come from there.")
def command(
    model: str,
    images: tuple[str, ...],
    out: Path,
    tile: int,
    crf: bool,
    tta: bool,
    last: bool,
    samples: int | None,
    seed: int,
    recipe: str | None,
) -> None:
    """Write pictures of what is predicted and NAME.json for each IMAGE: a file, a folder or a pattern.

    Of label maps these are NAME_label.png, whose pixels are the classes, and NAME_overlay.png.

    With --samples the labels are those of the mean of so many passes with dropout, and NAME_variance.png shows where
    they differ: the darker, the less sure.

    Every image is looked at first: if one cannot be read, nothing is written.
    """
    from jaxseg.cli.images import find_images, read_image

    if crf and samples is not None:
        raise BadInput("--crf refines one prediction and --samples draws many: give one of them")
    if tta and samples is not None:
        raise BadInput("--tta and --samples are two ways to a mean of predictions: give one of them")
    paths = find_images(images)
    for path in paths:
        read_image(path)

    from jaxseg import recipe as recipes
    from jaxseg.cli.runtime import prepare_runtime
    from jaxseg.inference.load import load
    from jaxseg.inference.monte_carlo import predict_samples
    from jaxseg.inference.predict import plan, predict
    from jaxseg.inference.tta import TestTimeAugmented
    from jaxseg.ops.crf import DenseCRF
    from jaxseg.train.log import Console

    prepare_runtime()
    if recipe is not None:
        recipes.load_file(recipes.find_file(recipe))
    run = load(model, best=not last)
    seeing = replace(run, model=TestTimeAugmented(run.model)) if tta else run
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise BadInput(f"{out} cannot be a folder for results: {error.strerror}") from error
    keys, unpainted = predicted_keys(run)
    if unpainted:
        click.echo(f"no painter draws {', '.join(unpainted)}: left out (jaxseg.viz.painter)", err=True)
    bar = Console()
    bar.begin("predict", len(paths))
    try:
        for done, path in enumerate(paths, 1):
            image = read_image(path)
            windows = len(plan(run, *image.shape[:2], tile=tile))
            bar.begin(path.name, windows)
            seen = iter(range(1, windows + 1))
            options = {"tile": tile, "on_tile": lambda s=seen: bar.move(next(s))}
            if samples is None:
                found = predict(seeing, image, keys=keys, crf=DenseCRF() if crf else None, **options)
            else:
                found = predict_samples(run, image, samples=samples, seed=seed, keys=("label", "variance"), **options)
            bar.end()
            sampling = {} if samples is None else {"samples": samples, "seed": seed}
            click.echo(write(run, path, image, found, out, sampling))
            bar.move(done)
    finally:
        bar.close()
    click.echo(f"{len(paths)} image{'s' * (len(paths) != 1)} labelled by {run.checkpoint} (step {run.step}): {out}")


def predicted_keys(run: "TrainedModel") -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the predictions that are drawn, and those that no painter knows.

    Values of every class at every pixel are left out: those of a large image do not fit into memory.
    """
    from jaxseg import viz
    from jaxseg.inference.predictor import small_keys

    names = small_keys(run)
    unpainted = viz.unpainted(dict.fromkeys(names))
    return tuple(name for name in names if name not in unpainted), unpainted


def write(
    run: "TrainedModel",
    path: Path,
    image: "np.ndarray",
    found: Mapping[str, "np.ndarray"],
    out: Path,
    sampling: Mapping[str, int],
) -> str:
    """Write the results of an image, each in one go, the JSON last; return a line about it.

    Args:
      run: what predicted it.
      path: the image's file.
      image: its pixels.
      found: the predictions, by name.
      out: the folder.
      sampling: how a Bayesian network's samples were drawn, for the report of their variance.
    """
    from jaxseg import viz

    report = {**header(run, path, image), **viz.describe(found, run.facts)}
    if sampling:
        report["variance"] = {**sampling, **report["variance"]}
    viz.write(viz.draw(image, found, run.facts), out, path.stem)
    _replace(out / f"{path.stem}.json", (json.dumps(report, indent=2) + "\n").encode())
    return f"{path.name} {report['height']}x{report['width']}: {viz.summarize(found, run.facts)}"


def header(run: "TrainedModel", path: Path, image: "np.ndarray") -> dict[str, Any]:
    """Return what a report begins with: the image, and which model made the predictions."""
    return {
        "image": str(path),
        "height": image.shape[0],
        "width": image.shape[1],
        "model": {
            "network": type(run.model).__name__,
            "recipe": run.name,
            "checkpoint": str(run.checkpoint),
            "step": run.step,
            "averaged": run.averaged,
        },
    }


def _replace(path: Path, data: bytes) -> None:
    with atomic(path) as part:
        part.write_bytes(data)
