"""Load a trained model: a work directory, a checkpoint, or the folder of an exported model."""

import contextlib
import functools
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxseg.data import Facts, sets
from jaxseg.data.transforms.frame import Geometric
from jaxseg.errors import BadInput, several
from jaxseg.export import folder as folder_form
from jaxseg.export.folder import Card
from jaxseg.recipe import Recipe, UnknownCode, load_task
from jaxseg.recipe import dump as dump_form
from jaxseg.recipe import load as load_form
from jaxseg.train import checkpoint
from jaxseg.train.optim import path_of
from jaxseg.viz import distinct_palette


@dataclass(frozen=True)
class TrainedModel:
    """A model with its variables and what it was trained for.

    Attributes:
      model: the linen module.
      variables: its collections; the moving averages where the run kept them.
      task: what its outputs mean.
      recipe: what was run; None for imported weights, and where the recipe's own code is not at hand.
      stage: the number of the recipe's stage that model, task and data are of.
      checkpoint: the folder that the variables come from.
      step: how many updates they have seen.
      averaged: whether they are moving averages.
      card: what a model's folder says of it; None for checkpoints of a training.
      geometry: what evaluation does to an image before the network sees it (resizing, padding), and predict with it.
      left_out: transforms of the evaluation whose code is not here, so that predicting does without them.

    Example:
      >>> from jaxseg.models.semantic.unet import unet
      >>> from jaxseg.tasks.semantic import Semantic
      >>> model = unet(num_classes=3, depth=1, width=2)
      >>> variables = jax.eval_shape(model.init, jax.random.key(0), example_image(model))
      >>> TrainedModel(model, variables, Semantic(3), None, 0, Path("weights.npz"), 0, False).geometry
      ()
    """

    model: Any
    variables: Any
    task: Any
    recipe: Recipe | None
    stage: int
    checkpoint: Path
    step: int
    averaged: bool
    card: Card | None = None
    geometry: tuple[Geometric, ...] = ()
    left_out: tuple[str, ...] = ()

    @functools.cached_property
    def variables_on_device(self) -> Any:
        """The variables as arrays of the device, put there once."""
        return jax.device_put(self.variables)

    @property
    def name(self) -> str:
        """The recipe's name, or that of the registered model whose weights were imported."""
        return self.card.name if self.recipe is None and self.card is not None else self._trained.name

    @property
    def data(self) -> Any:
        """What the stage was trained and evaluated on."""
        return self._trained.stages[self.stage].data

    @property
    def facts(self) -> Facts:
        """Class names and palette, and what else is known of the data set; where it is gone, what the task says."""
        if self.card is None:
            try:
                return self.data.facts()
            except BadInput as error:
                warnings.warn(f"classes and colours are the task's, since {error}", stacklevel=2)
                return _facts_of(self.data.val.dataset, self.task)
        card = self.card
        return Facts(
            card.name,
            "",
            card.classes,
            card.palette,
            {},
            licence=card.licence,
            things=card.things,
            joints=card.joints,
            skeleton=card.skeleton,
            tables=card.tables,
        )

    @property
    def _trained(self) -> Recipe:
        if self.recipe is None:
            raise BadInput(
                f"{self.checkpoint} has no recipe here: name one, jaxseg evaluate RECIPE.py --weights ..., or run the "
                "file that has its code, --recipe FILE"
            )
        return self.recipe


def load(
    source: str | os.PathLike[str],
    name: str | None = None,
    *,
    best: bool = True,
    recipe: Recipe | None = None,
    **fields: Any,
) -> TrainedModel:
    """Load a trained model from any source: ``load("run")``, ``load("hf:ORG/REPO", "fcn_resnet50", num_classes=5)``.

    Of a work directory the last stage that has a checkpoint counts, and of it the best checkpoint where one was kept.
    With a model's name, or from third-party weights, the model is built and filled as by
    :func:`jaxseg.conversion.importer.import_weights`; ``run.card.origin["report"]`` lists what was reinitialised.

    Args:
      source: a work directory, a folder of checkpoints, one checkpoint, what ``jaxseg import`` and ``jaxseg export
        --format safetensors`` write, a file of third-party weights, or ``hf:ORG/REPO[@REVISION]``, ``torchvision:TAG``,
        ``timm:NAME``, ``smp:NAME``, ``detectron2:FILE``, ``https://...``
      name: of the registered model to fill; None takes the one that the source states.
      best: False takes the latest checkpoint of a work directory.
      recipe: takes model, task and data from the last stage of this recipe instead of from the checkpoint's own.
      **fields: of the model's builder, such as ``num_classes``; heads for another number are reinitialised.

    Raises:
      BadInput: there is no checkpoint, or it is damaged, or of another model.
      FailedRun: a download failed.

    Example:
      >>> import tempfile
      >>> from jaxseg.models.semantic.unet import unet
      >>> from jaxseg.tasks.semantic import Semantic
      >>> model = unet(num_classes=2, depth=1, width=2)
      >>> shapes = jax.eval_shape(model.init, jax.random.key(0), example_image(model))
      >>> variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
      >>> card = Card(model, Semantic(2), "tiny", ("sky", "ground"), ((0, 0, 255), (0, 255, 0)))
      >>> with tempfile.TemporaryDirectory() as there:
      ...     folder_form.write(Path(there, "tiny"), card, variables)
      ...     run = load(Path(there, "tiny"))
      >>> run.name, run.facts.classes
      ('tiny', ('sky', 'ground'))
    """
    from jaxseg.conversion import importer
    from jaxseg.conversion.sources import locate

    found = locate(source, name or "")
    if recipe is not None and (name is not None or fields):
        raise BadInput("a recipe gives the model with its fields: load(source, recipe=...) takes no others")
    if recipe is not None and found.kind == "weights":
        return importer.into_recipe(found, recipe)
    if name is not None or fields or found.kind == "weights":
        return importer.import_weights(source, name, fields=fields)
    path = found.path
    if found.kind == "model":
        return _handed_on(path, recipe)
    folder, step = find_checkpoint(path, best=best)
    saved = checkpoint.read(folder, step)
    if recipe is None:
        try:
            run = load_form(saved.notes["recipe"])
        except UnknownCode:
            return _without_code(saved, folder / str(saved.step))
    else:
        run = recipe
    index = saved.notes["stage"] if recipe is None else len(run.stages) - 1
    stage, place = run.stages[index], folder / str(saved.step)
    check_variables(stage.model, saved.variables, what=str(place))
    return TrainedModel(
        model=stage.model,
        variables=saved.variables,
        task=stage.task,
        recipe=run,
        stage=index,
        checkpoint=place,
        step=saved.step,
        averaged=bool(saved.state.get("ema")),
        geometry=geometry_of(stage.data.val.transforms),
    )


def save(
    run: TrainedModel, path: str | os.PathLike[str], *, licence: str = "", metrics: Mapping[str, float] | None = None
) -> None:
    """Export a model to a folder that :func:`load` reads without the recipe's code, or to one .safetensors file.

    Args:
      run: what is saved.
      path: the folder, or a file whose name ends in .safetensors.
      licence: of the weights.
      metrics: measured figures to be noted.

    Raises:
      BadInput: there is something else under that name.

    Example:
      >>> import tempfile
      >>> from jaxseg.models.semantic.unet import unet
      >>> from jaxseg.tasks.semantic import Semantic
      >>> model = unet(num_classes=2, depth=1, width=2)
      >>> shapes = jax.eval_shape(model.init, jax.random.key(0), example_image(model))
      >>> variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
      >>> card = Card(model, Semantic(2), "tiny", ("sky", "ground"), ((0, 0, 255), (0, 255, 0)))
      >>> run = TrainedModel(model, variables, card.task, None, 0, Path(), 0, False, card)
      >>> with tempfile.TemporaryDirectory() as there:
      ...     save(run, Path(there, "tiny"), licence="CC0-1.0", metrics={"val/miou": 0.5})
      ...     load(Path(there, "tiny")).card.metrics
      {'val/miou': 0.5}
    """
    folder_form.write(Path(path), card_of(run, licence=licence, metrics=metrics), jax.device_get(run.variables))


def card_of(run: TrainedModel, *, licence: str = "", metrics: Mapping[str, float] | None = None) -> Card:
    """Return what is written beside a model's weights: the model, its task, test-time geometry, origin.

    Example:
      >>> from jaxseg.models.semantic.unet import unet
      >>> from jaxseg.tasks.semantic import Semantic
      >>> model = unet(num_classes=2, depth=1, width=2)
      >>> card = Card(model, Semantic(2), "tiny", ("sky", "ground"), (), metrics={"val/miou": 0.5})
      >>> run = TrainedModel(model, {}, card.task, None, 0, Path(), 0, False, card)
      >>> noted = card_of(run, licence="CC0-1.0", metrics={"val/accuracy": 0.75})
      >>> noted.licence, noted.metrics
      ('CC0-1.0', {'val/miou': 0.5, 'val/accuracy': 0.75})
    """
    from jaxseg import __version__

    if run.card is not None:
        noted = {**run.card.metrics, **(metrics or {})}
        return replace(run.card, licence=licence or run.card.licence, metrics=noted, version=__version__)
    return Card(
        model=run.model,
        task=run.task,
        name=run.name,
        classes=run.facts.classes,
        palette=run.facts.palette,
        things=run.facts.things,
        joints=run.facts.joints,
        skeleton=run.facts.skeleton,
        tables=dict(run.facts.tables),
        licence=licence,
        step=run.step,
        averaged=run.averaged,
        geometry=run.geometry,
        recipe=dump_form(run.recipe),
        stage=run.stage,
        metrics=dict(metrics or {}),
        version=__version__,
    )


def _without_code(saved: Any, place: Path) -> TrainedModel:
    """Return what predicting and exporting need of a recipe that names code of one's own: model, task, facts, geometry.

    Raises:
      UnknownCode: the model or the task is of one's own.
    """
    form = saved.notes["recipe"]
    stage = form["fields"]["stages"][saved.notes["stage"]]["fields"]
    model, task = load_form(stage["model"]), load_task(stage["task"])
    source = stage["data"]["fields"]["val"]["fields"]
    geometry, left_out = [], []
    for transform in source["transforms"]:
        try:
            geometry += geometry_of((load_form(transform),))
        except UnknownCode:
            left_out.append(transform["type"].split(":")[-1])
    try:
        facts = sets.facts(source["dataset"], options=load_form(source["options"]))
    except (BadInput, ImportError):  # a data set of one's own
        facts = _facts_of(source["dataset"], task)
    check_variables(model, saved.variables, what=str(place))
    averaged, index = bool(saved.state.get("ema")), saved.notes["stage"]
    card = Card(
        model=model,
        task=task,
        name=form["fields"]["name"],
        classes=facts.classes,
        palette=facts.palette,
        things=facts.things,
        joints=facts.joints,
        skeleton=facts.skeleton,
        tables=dict(facts.tables),
        step=saved.step,
        averaged=averaged,
        geometry=tuple(geometry),
        recipe=form,
        stage=index,
    )
    return TrainedModel(
        model=model,
        variables=saved.variables,
        task=task,
        recipe=None,
        stage=index,
        checkpoint=place,
        step=saved.step,
        averaged=averaged,
        card=card,
        geometry=tuple(geometry),
        left_out=tuple(left_out),
    )


def _facts_of(dataset: str, task: Any) -> Facts:
    """Return what a task says of a data set that is not here: names of classes, or numbers."""
    names = tuple(getattr(task, "classes", ())) or tuple(f"class_{i}" for i in range(getattr(task, "num_classes", 0)))
    return Facts(dataset, "", names, distinct_palette(len(names)), {}, things=names)


def _handed_on(path: Path, recipe: Recipe | None) -> TrainedModel:
    card, variables = folder_form.read(path)
    model, task, stage, geometry = card.model, card.task, card.stage, card.geometry
    if recipe is not None:
        stage = len(recipe.stages) - 1
        model, task = recipe.stages[stage].model, recipe.stages[stage].task
        geometry = geometry_of(recipe.stages[stage].data.val.transforms)
    elif card.recipe is not None:
        with contextlib.suppress(BadInput):  # the model loads without the code of its recipe
            recipe = load_form(card.recipe)
    check_variables(model, variables, what=str(path))
    return TrainedModel(model, variables, task, recipe, stage, path, card.step, card.averaged, card, geometry)


def find_checkpoint(path: Path, *, best: bool = True) -> tuple[Path, int]:
    """Return the folder of checkpoints and the step that ``path`` stands for; see :func:`load`.

    Raises:
      BadInput: there is none.

    Example:
      >>> import tempfile
      >>> work = Path(tempfile.mkdtemp())
      >>> checkpoints = checkpoint.Checkpoints(work / "stages" / "0-main" / "checkpoints", keep=1)
      >>> checkpoints.save(3, {"step": np.int32(3)}, notes={})
      >>> checkpoints.close()
      >>> folder, step = find_checkpoint(work)
      >>> folder.relative_to(work).as_posix(), step
      ('stages/0-main/checkpoints', 3)
    """
    if not path.exists():
        raise BadInput(f"there is no work directory or checkpoint {str(path)!r}")
    if path.name.isdigit() and checkpoint.latest_step(path.parent) is not None and path.is_dir():
        return path.parent, int(path.name)
    stages = sorted((path / "stages").glob("*-*"), key=lambda stage: int(stage.name.split("-")[0]), reverse=True)
    kinds = ("best", "checkpoints") if best else ("checkpoints",)
    for folder in (path, *(stage / kind for stage in stages for kind in kinds)):
        step = checkpoint.latest_step(folder)
        if step is not None:
            return folder, step
    raise BadInput(
        f"{str(path)!r} holds no checkpoint: it is neither a work directory of jaxseg train nor a checkpoint"
    )


def check_variables(model: Any, variables: Any, *, what: str) -> None:
    """Raise if variables are not the model's.

    Raises:
      BadInput: paths or shapes differ; the first that do are named.

    Example:
      >>> from jaxseg.models.semantic.unet import unet
      >>> model = unet(num_classes=3, depth=1, width=2)
      >>> variables = jax.eval_shape(model.init, jax.random.key(0), example_image(model))
      >>> check_variables(model, variables, what="run")
      >>> check_variables(model.clone(num_classes=2), variables, what="run")
      Traceback (most recent call last):
          ...
      jaxseg.errors.BadInput: run is a checkpoint of another model: params/classifier/bias is float32[3]...
    """
    wanted = _shapes(jax.eval_shape(model.init, jax.random.key(0), example_image(model)))
    found = _shapes(variables)
    faults = [f"{path} {wanted[path]} is missing" for path in wanted if path not in found]
    faults += [f"{path} {found[path]} has no place" for path in found if path not in wanted]
    faults += [f"{p} is {found[p]}, not {wanted[p]}" for p in wanted if p in found and found[p] != wanted[p]]
    if faults:
        raise BadInput(f"{what} is a checkpoint of another model: {several(faults, between='; ')}")


def geometry_of(transforms: Iterable[Any]) -> tuple[Geometric, ...]:
    """Return the transforms that are deterministic geometry, in their order.

    Example:
      >>> from jaxseg.data.transforms import RandomFlip, Resize
      >>> geometry_of((Resize(90, 120), RandomFlip()))
      (Resize(height=90, width=120),)
    """
    return tuple(transform for transform in transforms if isinstance(transform, Geometric))


def example_image(model: Any) -> jax.ShapeDtypeStruct:
    """Return shape and dtype of one small image that the model takes.

    Example:
      >>> from jaxseg.models.semantic.unet import unet
      >>> example_image(unet()).shape
      (1, 64, 64, 3)
    """
    return jax.ShapeDtypeStruct((1, *smallest_size(model), channels_of(model)), np.uint8)


def channels_of(model: Any) -> int:
    """Return the number of bands of the images that the model takes.

    Example:
      >>> from jaxseg.models.semantic.unet import unet
      >>> channels_of(unet())
      3
    """
    return model.in_channels if hasattr(model, "in_channels") else 3


def smallest_size(model: Any) -> tuple[int, int]:
    """Return height and width of a small image that the model takes.

    Example:
      >>> from jaxseg.models.semantic.unet import unet
      >>> smallest_size(unet())
      (64, 64)
    """
    return model.input_size(4, 4) if hasattr(model, "input_size") else (64, 64)


def _shapes(tree: Any) -> dict[str, str]:
    """Dtype and shape of each leaf by its path, parameters first."""
    leaves = sorted(jax.tree_util.tree_leaves_with_path(tree), key=lambda item: path_of(item[0]) < "params")
    return {path_of(path): f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}" for path, leaf in leaves}
