"""``jaxseg predict``: predict images, and draw and describe the results."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jaxseg.cli.images import PICTURES, find_images
from jaxseg.errors import BadInput
from jaxseg.files import atomic

if TYPE_CHECKING:
    import numpy as np

    from jaxseg.inference.load import TrainedModel


@click.command("predict", short_help="Predict images.")
@click.argument("model", metavar="WORKDIR|CHECKPOINT")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where the results go.")
@click.option("--tile", type=click.IntRange(32), help="Larger images are cut up; 1024, or 2048 for detectors.")
@click.option("--crf", is_flag=True, help="Refine by a fully connected CRF (slow on large images).")
@click.option("--tta", metavar="VIEWS", help="Mean over views: flip, turns, scales; as in flip,0.75,1.25,1.5.")
@click.option("--shapes", type=click.IntRange(1), help="Pad images of many sizes to at most so many compiled ones.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Least score of an object that is drawn; the JSON file has all of them.",
)
@click.option("--range", "span", type=float, nargs=2, metavar="LOW HIGH", help="Values that are black and white.")
@click.option("--cutout", is_flag=True, help="Also what is salient, on a transparent background.")
@click.option("--last", is_flag=True, help="The latest checkpoint, not the best.")
@click.option("--samples", type=click.IntRange(2), help="Passes with dropout, of a Bayesian network; 6 or more.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the samples.")
@click.option("--recipe", help="Recipe file to run first: tasks, models and painters of one's own come from there.")
def command(
    model: str,
    images: tuple[str, ...],
    out: Path,
    tile: int | None,
    crf: bool,
    tta: str | None,
    shapes: int | None,
    threshold: float,
    span: tuple[float, float] | None,
    cutout: bool,
    last: bool,
    samples: int | None,
    seed: int,
    recipe: str | None,
) -> None:
    """Predict each IMAGE (a file, folder or glob pattern); write visualisations and NAME.json.

    Label maps are written as NAME_label.png, whose pixels are classes, and NAME_overlay.png; objects as NAME_boxes.png,
    and where there are masks NAME_instances.png and NAME_instance_ids.png, whose pixels are 1 + the object's slot.
    NAME_coco.json holds objects as a COCO data set.

    A network with several tasks also writes NAME_sheet.png: the image and everything that is predicted of it.

    With --cutout, a network that finds salient objects also writes NAME_cutout.png, RGB and opacity.

    With --samples, labels are the mean of that many passes with dropout, and NAME_variance.png shows the variance:
    darker is less certain.

    By default each image size is compiled once. With --shapes, images, or the tiles of large ones, are padded to a few
    common sizes: the same for networks of convolutions, while labels may differ with global pooling or attention.

    All images are checked first: if one cannot be read, nothing is written. Subfolders of a pattern are kept in DIR;
    results of an earlier run are not treated as images.
    """
    if crf and samples is not None:
        raise BadInput("--crf refines one prediction and --samples draws many: give one of them")
    if tta is not None and samples is not None:
        raise BadInput("--tta and --samples are two ways to a mean of predictions: give one of them")
    if tta is not None and shapes is not None:
        raise BadInput("--shapes pads images, and --tta would mirror, turn or scale the padding too: give one of them")
    results: list[Path] = []
    names = find_images(images, results)

    from jaxseg import recipe as recipes
    from jaxseg.cli.runtime import prepare_runtime
    from jaxseg.data.images import read_image
    from jaxseg.inference.load import channels_of, load
    from jaxseg.inference.monte_carlo import predict_samples
    from jaxseg.inference.predict import plan, predict
    from jaxseg.inference.tta import parse_tta
    from jaxseg.ops.crf import DenseCRF
    from jaxseg.train.log import Console

    views = () if tta is None else parse_tta(tta)
    prepare_runtime()
    if recipe is not None:
        recipes.load_file(recipes.find_file(recipe))
    run = load(model, best=not last)
    if run.left_out:
        click.echo(
            f"predicted without {', '.join(run.left_out)}, whose code is not here: --recipe FILE has it", err=True
        )
    how: dict[str, Any] = {"channels": channels_of(run.model), "value_range": span}
    plans = {path: plan(run, *read_image(path, **how).shape[:2], tile=tile) for path in names}
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise BadInput(f"{out} cannot be a folder for results: {error.strerror}") from error
    if results:
        click.echo(f"{len(results)} pictures of an earlier run left out: {results[0]} ...", err=True)
    keys, unpainted = predicted_keys(run)
    if unpainted:
        click.echo(f"no painter draws {', '.join(unpainted)}: left out (jaxseg.viz.painter)", err=True)
    if cutout and "saliency" not in keys:
        raise BadInput(
            f"--cutout needs a network that predicts saliency, u2netp say; this one predicts {', '.join(keys)}"
        )
    padded = choose_shapes([part.size for parts in plans.values() for part in parts], shapes)
    bar = Console()
    bar.begin("predict", len(names))
    try:
        for done, (path, name) in enumerate(names.items(), 1):
            image = read_image(path, **how)
            bar.begin(path.name, len(plans[path]))
            seen = iter(range(1, len(plans[path]) + 1))
            options = {"tile": tile, "shapes": padded, "on_tile": lambda s=seen: bar.move(next(s))}
            if samples is None:
                found = predict(run, image, keys=keys, crf=DenseCRF() if crf else None, views=views, **options)
            else:
                wanted = (*keys, "variance")
                found = predict_samples(run, image, samples=samples, seed=seed, keys=wanted, **options)
            bar.end()
            sampling = {} if samples is None else {"samples": samples, "seed": seed}
            click.echo(write(run, path, image, found, out / name, sampling, threshold=threshold, cutout=cutout))
            bar.move(done)
    finally:
        bar.close()
    click.echo(f"{len(names)} image{'s' * (len(names) != 1)} predicted by {run.checkpoint} (step {run.step}): {out}")


MANY_SIZES = 6
"""Sizes above which --shapes is proposed."""


def choose_shapes(sizes: list[tuple[int, int]], number: int | None) -> tuple[tuple[int, int], ...]:
    """Return the shapes to pad to, none unless so many are asked for, and print what is done or could be.

    Args:
      sizes: of all tiles of all images.
      number: of shapes, at most.
    """
    from jaxseg.inference.shapes import plan_shapes

    distinct = len(set(sizes))
    if number is None:
        if distinct > MANY_SIZES:
            click.echo(
                f"{distinct} sizes of image, each compiled on its own; --shapes {MANY_SIZES} pads them to "
                f"{MANY_SIZES} at most (with global pooling or attention labels may change)",
                err=True,
            )
        return ()
    shapes = plan_shapes(sizes, number)
    listed = ", ".join(f"{height}x{width}" for height, width in shapes)
    click.echo(f"{distinct} sizes of image padded to {len(shapes)}: {listed}")
    return shapes


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
    target: Path,
    sampling: Mapping[str, int],
    *,
    threshold: float,
    cutout: bool = False,
) -> str:
    """Write the results of an image, each in one go, the JSON last; return a line about it.

    Args:
      run: what predicted it.
      path: the image's file.
      image: its pixels.
      found: the predictions, by name.
      target: the results' path without suffix.
      sampling: how a Bayesian network's samples were drawn, for the report of their variance.
      threshold: least score of an object that is drawn and counted.
      cutout: whether to write the salient foreground on a transparent background.
    """
    from jaxseg import viz
    from jaxseg.cli.saved import paste_rule
    from jaxseg.data.coco_results import labelled_image
    from jaxseg.tasks.multitask import MultiTask
    from jaxseg.viz.contact_sheet import overview
    from jaxseg.viz.cutout import cut_out
    from jaxseg.viz.png import encode

    report = {**header(run, path, image), **viz.describe(found, run.facts)}
    if sampling:
        report["variance"] = {**sampling, **report["variance"]}
    target.parent.mkdir(parents=True, exist_ok=True)
    pictures = viz.draw(image, found, run.facts, threshold=threshold)
    if isinstance(run.task, MultiTask):
        pictures["sheet"] = overview(image, found, run.facts, threshold=threshold, title=path.name)
    if cutout:
        pictures["cutout"] = encode(cut_out(image, found["saliency"]))
    written = viz.write(pictures, target.parent, target.name)
    report[PICTURES] = [picture.name for picture in written]
    if "boxes" in found:
        tables = labelled_image(found, image.shape[:2], file_name=path.name, facts=run.facts, rule=paste_rule(run.task))
        _replace(target.with_name(f"{target.name}_coco.json"), (json.dumps(tables) + "\n").encode())
    _replace(target.with_name(f"{target.name}.json"), (json.dumps(report, indent=2) + "\n").encode())
    words = viz.summarize(found, run.facts, threshold=threshold)
    return f"{path.name} {report['height']}x{report['width']}: {words}"


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
